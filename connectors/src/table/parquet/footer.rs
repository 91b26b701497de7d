//! What does the end of a Parquet file say of its columns and row groups?
//!
//! ```text
//! "PAR1"  pages…  FileMetaData (Thrift, compact)  its length: u32, little-endian  "PAR1"
//! ```
//! The library decodes the metadata. It makes room for as many row groups and children as are
//! claimed, and descends as deep as they nest, so claims are compared with what is there first
//! ([`thrift`]).

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use parquet::file::metadata::{
    ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
};

use super::thrift;

/// The most bytes of metadata.
const METADATA_LIMIT: u64 = 16 << 20;
/// What a Parquet file begins and ends with.
const MAGIC: &[u8] = b"PAR1";
/// What one ends with whose metadata is encrypted.
const ENCRYPTED_MAGIC: &[u8] = b"PARE";
/// Bytes behind the metadata.
const TAIL: u64 = 8;

/// Reads the metadata of a file of `len` bytes, or says why not.
pub(super) fn read(file: &mut File, len: u64) -> Result<ParquetMetaData, String> {
    let io = |error: std::io::Error| error.to_string();
    let mut head = Vec::new();
    file.rewind().map_err(io)?;
    (&mut *file).take(4).read_to_end(&mut head).map_err(io)?;
    if head == ENCRYPTED_MAGIC {
        return Err(encrypted());
    }
    if head != MAGIC {
        return Err("it does not begin as a Parquet file does".to_owned());
    }
    let cut_off = || "it has no end: it is cut off, or still being written".to_owned();
    let tail_at = len.checked_sub(TAIL).filter(|at| *at >= 4);
    let tail_at = tail_at.ok_or_else(cut_off)?;
    let mut tail = [0; TAIL as usize];
    file.seek(SeekFrom::Start(tail_at)).map_err(io)?;
    file.read_exact(&mut tail).map_err(io)?;
    let (n_metadata, magic) = tail.split_at(4);
    if magic == ENCRYPTED_MAGIC {
        return Err(encrypted());
    }
    if magic != MAGIC {
        return Err(cut_off());
    }
    let n_metadata = n_metadata.iter().rev();
    let n_metadata = n_metadata.fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    if n_metadata > METADATA_LIMIT {
        let limit = METADATA_LIMIT;
        return Err(format!(
            "{n_metadata} bytes of metadata, the limit is {limit}"
        ));
    }
    let at = tail_at.checked_sub(n_metadata).filter(|at| *at >= 4);
    let at = at.ok_or("its metadata is longer than the file")?;
    let mut metadata = vec![0; usize::try_from(n_metadata).map_err(|_| cut_off())?];
    file.seek(SeekFrom::Start(at)).map_err(io)?;
    file.read_exact(&mut metadata).map_err(io)?;
    match thrift::check(&metadata) {
        Ok(thrift::Found { is_encrypted: true }) => return Err(encrypted()),
        Ok(_) => {}
        Err(thrift::Malformed) => return Err("its metadata is damaged".to_owned()),
    }
    // What is not asked for is skipped, not made room for.
    let skip = ParquetStatisticsPolicy::SkipAll;
    let options = ParquetMetaDataOptions::default()
        .with_column_stats_policy(skip.clone())
        .with_size_stats_policy(skip.clone())
        .with_encoding_stats_policy(skip);
    ParquetMetaDataReader::decode_metadata_with_options(&metadata, Some(&options))
        .map_err(|error| error.to_string())
}

fn encrypted() -> String {
    "it is encrypted, which is not supported; write it without encryption".to_owned()
}
