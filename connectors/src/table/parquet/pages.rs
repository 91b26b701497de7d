//! Which pages does a column of a row group hold, unpacked?
//!
//! The library finds pages and decodes values. Between the two stands [`Pages`]: it unpacks a
//! page itself, no further than [`PAGE_LIMIT`], and compares how many values a page claims with
//! what the library would make room for.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom, Take};
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

/// The largest page, packed or unpacked, in bytes.
const PAGE_LIMIT: usize = 128 << 20;
/// The largest header of a page, in bytes: one may hold the least and the greatest value.
const HEADER_LIMIT: u64 = 4 << 20;
/// The most values of a dictionary.
const DICTIONARY_LIMIT: u32 = 4 << 20;
/// The most values of a page whose lengths are decoded all at once.
const LENGTHS_LIMIT: u64 = 16 << 20;

/// A file that gives no more at a time than a page may have.
pub(super) struct Chunks {
    file: File,
    len: u64,
}

impl Chunks {
    /// A file of `len` bytes.
    pub(super) fn new(file: File, len: u64) -> Self {
        Self { file, len }
    }

    fn at(&self, start: u64) -> Result<File> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(start))?;
        Ok(file)
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Chunks {
    type T = Take<BufReader<File>>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::new(self.at(start)?).take(HEADER_LIMIT))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let end = start.checked_add(length as u64);
        if length > PAGE_LIMIT || end.is_none_or(|end| end > self.len) {
            return Err(invalid(format!("a page claims {length} bytes")));
        }
        let mut bytes = vec![0; length];
        self.at(start)?.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// The pages of a column of a row group, in order.
pub(super) struct Pages {
    packed: SerializedPageReader<Chunks>,
    packing: Compression,
    /// Whether values may be absent: then levels stand before them.
    has_levels: bool,
}

impl Pages {
    /// The pages of `column`, whose values do not repeat within a row.
    pub(super) fn of(chunks: &Arc<Chunks>, column: &ColumnChunkMetaData) -> Result<Self> {
        if column.file_path().is_some() {
            return Err(invalid("columns stand in other files".to_owned()));
        }
        let start = column.dictionary_page_offset();
        let start = start.unwrap_or_else(|| column.data_page_offset());
        let [start, len] = [start, column.compressed_size()].map(u64::try_from);
        let end = start.ok().zip(len.ok());
        let end = end.and_then(|(start, len)| start.checked_add(len));
        if end.is_none_or(|end| end > chunks.len) {
            return Err(invalid("a column ends behind the file".to_owned()));
        }
        let packing = column.compression();
        match packing {
            Compression::UNCOMPRESSED
            | Compression::SNAPPY
            | Compression::GZIP(_)
            | Compression::ZSTD(_) => {}
            other => {
                return Err(invalid(format!(
                    "columns are packed by {other}, which is not supported; use snappy, gzip or \
                     zstd"
                )));
            }
        }
        let as_is = column.clone().into_builder();
        let as_is = as_is.set_compression(Compression::UNCOMPRESSED).build()?;
        Ok(Self {
            // The number of rows is used with an index of pages only.
            packed: SerializedPageReader::new(chunks.clone(), &as_is, 0, None)?,
            packing,
            has_levels: column.column_descr().max_def_level() > 0,
        })
    }

    fn sound(&self, page: Page) -> Result<Page> {
        match page {
            Page::DictionaryPage {
                buf,
                num_values,
                encoding,
                is_sorted,
            } => {
                let buf = self.unpacked(&buf)?;
                if num_values > DICTIONARY_LIMIT || num_values as usize > buf.len() {
                    return Err(invalid(format!("a dictionary claims {num_values} values")));
                }
                Ok(Page::DictionaryPage {
                    buf: buf.into(),
                    num_values,
                    encoding,
                    is_sorted,
                })
            }
            Page::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding,
                rep_level_encoding,
                statistics,
            } => {
                let buf = self.unpacked(&buf)?;
                let values = match self.has_levels {
                    true => behind_levels(&buf),
                    false => Some(&buf[..]),
                };
                lengths_are_few(encoding, values)?;
                Ok(Page::DataPage {
                    buf: buf.into(),
                    num_values,
                    encoding,
                    def_level_encoding,
                    rep_level_encoding,
                    statistics,
                })
            }
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                num_nulls,
                num_rows,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                statistics,
            } => {
                let n_levels = u64::from(def_levels_byte_len) + u64::from(rep_levels_byte_len);
                let n_levels = usize::try_from(n_levels).unwrap_or(usize::MAX);
                let Some((levels, values)) = buf.split_at_checked(n_levels) else {
                    return Err(invalid("a page claims more levels than bytes".to_owned()));
                };
                let buf = match is_compressed && self.packing != Compression::UNCOMPRESSED {
                    true => [levels, &self.unpacked(values)?].concat().into(),
                    false => buf,
                };
                lengths_are_few(encoding, buf.get(n_levels..))?;
                Ok(Page::DataPageV2 {
                    buf,
                    num_values,
                    encoding,
                    num_nulls,
                    num_rows,
                    def_levels_byte_len,
                    rep_levels_byte_len,
                    is_compressed: false,
                    statistics,
                })
            }
        }
    }

    fn unpacked(&self, packed: &[u8]) -> Result<Vec<u8>> {
        if packed.is_empty() {
            return Ok(Vec::new());
        }
        let too_large = || invalid(format!("a page unpacks to more than {PAGE_LIMIT} bytes"));
        let mut reader: Box<dyn Read> = match self.packing {
            Compression::SNAPPY => {
                let snap = |error: snap::Error| invalid(error.to_string());
                if snap::raw::decompress_len(packed).map_err(snap)? > PAGE_LIMIT {
                    return Err(too_large());
                }
                return snap::raw::Decoder::new()
                    .decompress_vec(packed)
                    .map_err(snap);
            }
            Compression::GZIP(_) => Box::new(MultiGzDecoder::new(packed)),
            Compression::ZSTD(_) => Box::new(zstd::Decoder::new(packed)?),
            _ => return Ok(packed.to_vec()),
        };
        let mut unpacked = Vec::new();
        let limit = PAGE_LIMIT as u64;
        (&mut reader).take(limit + 1).read_to_end(&mut unpacked)?;
        match unpacked.len() > PAGE_LIMIT {
            true => Err(too_large()),
            false => Ok(unpacked),
        }
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.packed.get_next_page()?;
        page.map(|page| self.sound(page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.packed.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.packed.skip_next_page()
    }
}

fn invalid(reason: String) -> ParquetError {
    ParquetError::General(reason)
}

/// What stands behind the levels of a page of the first version.
fn behind_levels(page: &[u8]) -> Option<&[u8]> {
    let (len, rest) = page.split_first_chunk::<4>()?;
    rest.get(usize::try_from(u32::from_le_bytes(*len)).ok()?..)
}

/// Refuses values whose lengths are more than there is room for: the library makes it for as many
/// as are claimed.
fn lengths_are_few(encoding: Encoding, values: Option<&[u8]>) -> Result<()> {
    let n_blocks = match encoding {
        Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
        // Lengths of beginnings that are shared with the value before, then of endings.
        Encoding::DELTA_BYTE_ARRAY => 2,
        _ => return Ok(()),
    };
    let behind = (0..n_blocks).try_fold(values, |values, _| Some(behind_integers(values?)));
    match behind.flatten() {
        Some(_) => Ok(()),
        None => Err(invalid("the lengths of values are damaged".to_owned())),
    }
}

/// What stands behind integers that are encoded as `DELTA_BINARY_PACKED`, if there are no more
/// than there may be.
fn behind_integers(mut bytes: &[u8]) -> Option<&[u8]> {
    let block = varint(&mut bytes)?;
    let n_miniblocks = varint(&mut bytes)?;
    let n_values = varint(&mut bytes)?;
    varint(&mut bytes)?;
    if n_values > LENGTHS_LIMIT {
        return None;
    }
    let per_miniblock = block.checked_div(n_miniblocks).filter(|n| *n > 0)?;
    let mut n_left = n_values.saturating_sub(1);
    while n_left > 0 {
        varint(&mut bytes)?;
        let (widths, rest) = bytes.split_at_checked(usize::try_from(n_miniblocks).ok()?)?;
        bytes = rest;
        for width in widths {
            if n_left == 0 {
                break;
            }
            let n_bits = u64::from(*width).checked_mul(per_miniblock)?;
            bytes = bytes.get(usize::try_from(n_bits / 8).ok()?..)?;
            n_left = n_left.saturating_sub(per_miniblock);
        }
    }
    Some(bytes)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
