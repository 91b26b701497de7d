//! The rows of a table of comma-separated values, whose first row names the columns.
//!
//! The file may be packed (gzip or zstd), and in any encoding (`encoding`). A row with another number of fields than the first is
//! refused; a file without a first row is no table, nor is one with two columns of one name. A value of another column that is empty is none.
//! A file that ends within quotes is not read: what stands behind them would be gone without a word.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ::csv::{ByteRecord, Position, Reader, ReaderBuilder, WriterBuilder};

use perennial_rows::{Type, Value, has_meaning};

use super::{Found, Rows, Writing, encoding, field, no_column};
use crate::attributes::Attribute;
use crate::json::record::{self, Fields, shown};
use crate::unpacked::unpacked;
use crate::{Error, Rejection};

/// A row of many more bytes of the file than a table may have ends the reading: a quote is not
/// closed.
const RUNAWAY_LIMIT: u64 = 8 << 20;

/// Rows between line ends.
pub(super) struct CsvRows {
    path: PathBuf,
    reader: Reader<Capped<Box<dyn Read + Send>>>,
    /// Bytes read since the last row ended.
    n_since_row: Arc<AtomicU64>,
    /// Whether what was read so far ends within quotes.
    is_quoted: Arc<AtomicBool>,
    delimiter: u8,
    n_columns: usize,
    /// Which column is which field.
    fields: Vec<(&'static str, usize)>,
    /// The columns besides.
    others: Vec<(Arc<str>, usize)>,
    row: ByteRecord,
}

impl CsvRows {
    /// Reads the first row.
    pub(super) fn open<'a>(
        path: &Path,
        of_record: impl Iterator<Item = (&'static str, &'a str, bool)>,
        writing: Writing,
    ) -> Result<Self, Error> {
        let delimiter = writing.delimiter;
        let io = |source| unreadable(path, source);
        let file = File::open(path).map_err(io)?;
        let n_since_row = Arc::new(AtomicU64::new(0));
        let is_quoted = Arc::new(AtomicBool::new(false));
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .flexible(true)
            .has_headers(false)
            .from_reader(Capped {
                inner: unpacked(file)
                    .and_then(|unpacked| encoding::decoded(unpacked, writing.encoding))
                    .map_err(io)?,
                n_since_row: n_since_row.clone(),
                quotes: Quotes::new(delimiter),
                is_quoted: is_quoted.clone(),
            });
        let mut row = ByteRecord::new();
        reader
            .read_byte_record(&mut row)
            .map_err(|error| io(error.into()))?;
        let names: Vec<Cow<'_, str>> = row.iter().map(String::from_utf8_lossy).collect();
        let mut sorted: Vec<&str> = names.iter().map(|name| &**name).collect();
        sorted.sort_unstable();
        let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]);
        if let Some([name, _]) = twice.filter(|pair| !pair[0].is_empty()) {
            return Err(Error::NoTable {
                path: path.to_path_buf(),
                reason: format!("two columns are called {:?}", shown(name)),
            });
        }
        let mut fields = Vec::new();
        for (field, column, is_needed) in of_record {
            match names.iter().position(|name| name == column) {
                Some(at) => fields.push((field, at)),
                None if is_needed => {
                    return Err(no_column(path, column, names.iter().map(|n| &**n)));
                }
                None => {}
            }
        }
        let others = names.iter().enumerate().filter(|(at, name)| {
            let is_field = fields.iter().any(|(_, of_field)| of_field == at);
            !is_field && !name.is_empty() && !has_meaning(name)
        });
        let others = others.map(|(at, name)| (Arc::from(&**name), at)).collect();
        Ok(Self {
            path: path.to_path_buf(),
            reader,
            n_since_row,
            is_quoted,
            delimiter,
            n_columns: names.len(),
            fields,
            others,
            row,
        })
    }

    fn fields(&self) -> Result<(Fields, Vec<Attribute>), Rejection> {
        if self.row.len() != self.n_columns {
            return Err(Rejection::WrongColumns {
                got: self.row.len(),
                expected: self.n_columns,
            });
        }
        let mut fields = Fields::new();
        for (name, at) in &self.fields {
            let value = field(name, record::utf8(&self.row[*at])?);
            fields.extend(value.map(|value| ((*name).to_owned(), value)));
        }
        let others = self.others.iter();
        let held = others.filter(|(_, at)| !self.row[*at].is_empty());
        let columns = held.map(|(name, at)| match std::str::from_utf8(&self.row[*at]) {
            Ok(text) => Ok((name.clone(), Value::text(text))),
            Err(_) => Err(Rejection::Column {
                column: shown(name),
                expected: Type::Text,
                got: "bytes that are not UTF-8".to_owned(),
            }),
        });
        Ok((fields, columns.collect::<Result<_, _>>()?))
    }
}

impl Rows for CsvRows {
    fn next(&mut self) -> Result<Option<Found>, Error> {
        let read = self.reader.read_byte_record(&mut self.row);
        let is_row = read.map_err(|error| unreadable(&self.path, error.into()))?;
        // The reader is ahead of the rows, so this is known of a file's last one, too.
        let is_open = self.reader.is_done() && self.is_quoted.load(Ordering::Relaxed);
        if is_open {
            let said = std::io::Error::other("a quote is opened and not closed");
            return Err(unreadable(&self.path, said));
        }
        if !is_row {
            return Ok(None);
        }
        self.n_since_row.store(0, Ordering::Relaxed);
        let n_bytes = self.row.as_slice().len();
        Ok(Some(Found {
            place: self.row.position().map_or(0, Position::line),
            n_bytes,
            n_field_bytes: n_bytes,
            fields: self.fields(),
        }))
    }

    fn shown(&self) -> Option<Vec<u8>> {
        let mut builder = WriterBuilder::new();
        let mut writer = builder
            .delimiter(self.delimiter)
            .flexible(true)
            .from_writer(Vec::new());
        writer.write_byte_record(&self.row).ok()?;
        writer.into_inner().ok()
    }
}

fn unreadable(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        path: path.to_path_buf(),
        action: "cannot be read",
        source,
    }
}

/// Gives up on a row that has no end.
struct Capped<R> {
    inner: R,
    /// Bytes read since the last row ended.
    n_since_row: Arc<AtomicU64>,
    quotes: Quotes,
    is_quoted: Arc<AtomicBool>,
}

/// Whether a text between line ends and delimiters is within quotes, byte by byte as the library reads
/// it: a quote opens where a field begins, and two within are one of the text.
struct Quotes {
    delimiter: u8,
    at: At,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    FieldBegin,
    Plain,
    Quoted,
    /// Behind a quote within quotes: the end of them, or the first of two.
    QuoteInQuotes,
}

impl Quotes {
    fn new(delimiter: u8) -> Self {
        Self {
            delimiter,
            at: At::FieldBegin,
        }
    }

    fn take(&mut self, byte: u8) {
        let is_end = byte == self.delimiter || matches!(byte, b'\n' | b'\r');
        self.at = match (self.at, byte) {
            (At::FieldBegin, b'"') | (At::QuoteInQuotes, b'"') => At::Quoted,
            (At::Quoted, b'"') => At::QuoteInQuotes,
            (At::Quoted, _) => At::Quoted,
            _ if is_end => At::FieldBegin,
            _ => At::Plain,
        };
    }
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n_read = self.inner.read(buffer)?;
        let n_before = self.n_since_row.fetch_add(n_read as u64, Ordering::Relaxed);
        if n_before > RUNAWAY_LIMIT {
            let said = format!("a row of more than {RUNAWAY_LIMIT} bytes: is a quote not closed?");
            return Err(std::io::Error::other(said));
        }
        buffer[..n_read]
            .iter()
            .for_each(|byte| self.quotes.take(*byte));
        let is_quoted = self.quotes.at == At::Quoted;
        self.is_quoted.store(is_quoted, Ordering::Relaxed);
        Ok(n_read)
    }
}
