//! The rows of a Parquet file, whose footer names the columns.
//!
//! Row groups are read one after the other, a page of each column that is read at a time: that is
//! what is held in memory. Columns are named as in the file; a field of a structure by its path
//! (`doc.body`). One that is named for a field, and repeats within a row or holds what nothing of a
//! record can be, is an error that names it ([`value`] has the table); others of this kind are left
//! alone. Nulls are fields that are not there.
//!
//! Files come from anywhere, and the library trusts them more than that: claims of sizes are
//! compared with what is there before it sees them ([`footer`], [`pages`]), its panics are
//! errors here, and rows are counted against what the file says. What is damaged and still
//! decodes cannot be told, unless pages carry checksums, which are compared.
//!
//! Not read: encrypted files, and columns packed by Brotli, LZ4 or LZO.

mod footer;
mod pages;
mod thrift;
mod value;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use perennial_rows::{Type, has_meaning};

use super::{Found, Rows, field, no_column};
use crate::attributes::Attribute;
use crate::json::record::{Fields, shown};
use crate::json::value::Json;
use crate::{Error, Rejection};

use pages::{Chunks, Pages};
use value::{Cell, Meaning};

/// Rows of a Parquet file.
pub(super) struct ParquetRows {
    path: PathBuf,
    chunks: Arc<Chunks>,
    metadata: ParquetMetaData,
    columns: Vec<Column>,
    /// The row group that is read after this one.
    next_group: usize,
    /// Rows of this row group that were not read.
    n_left: u64,
    n_read: u64,
    /// The row that was read last: a value of each column.
    row: Vec<Cell>,
}

/// A column that is read.
struct Column {
    /// The field of records that it is; none of one that they have besides.
    field: Option<&'static str>,
    name: Arc<str>,
    /// Which of the file's columns it is.
    at: usize,
    meaning: Meaning,
    /// Its values in this row group.
    values: Option<ColumnReader>,
}

impl ParquetRows {
    /// Reads the footer.
    pub(super) fn open<'a>(
        path: &Path,
        of_record: impl Iterator<Item = (&'static str, &'a str, bool)>,
    ) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.to_path_buf(),
            action: "cannot be read",
            source,
        };
        let mut file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let metadata = guarded(path, || footer::read(&mut file, len))?;
        let schema = metadata.file_metadata().schema_descr();
        let names: Vec<String> = schema
            .columns()
            .iter()
            .map(|column| column.path().string())
            .collect();
        let mut found: Vec<Column> = Vec::new();
        for (field, name, is_needed) in of_record {
            let unfit = |found: String| Error::UnfitColumn {
                path: path.to_path_buf(),
                column: name.to_owned(),
                field,
                found,
            };
            let Some(at) = names.iter().position(|found| found == name) else {
                let within = format!("{name}.");
                match names.iter().find(|found| found.starts_with(&within)) {
                    Some(inner) => {
                        return Err(unfit(format!("structures or lists, as {inner:?}")));
                    }
                    None if is_needed => {
                        return Err(no_column(path, name, names.iter().map(String::as_str)));
                    }
                    None => continue,
                }
            };
            let meaning = Meaning::of(&schema.columns()[at]).map_err(unfit)?;
            if !meaning.suits(field) {
                return Err(unfit(meaning.values().to_owned()));
            }
            found.push(Column {
                field: Some(field),
                name: name.into(),
                at,
                meaning,
                values: None,
            });
        }
        for (at, name) in names.iter().enumerate() {
            let is_field = found.iter().any(|column| column.at == at);
            if is_field || name.is_empty() || has_meaning(name) || names[..at].contains(name) {
                continue;
            }
            if let Some(meaning) = Meaning::said(&schema.columns()[at]) {
                found.push(Column {
                    field: None,
                    name: name.as_str().into(),
                    at,
                    meaning,
                    values: None,
                });
            }
        }
        Ok(Self {
            path: path.to_path_buf(),
            chunks: Arc::new(Chunks::new(file, len)),
            metadata,
            columns: found,
            next_group: 0,
            n_left: 0,
            n_read: 0,
            row: Vec::new(),
        })
    }

    /// Reads the next row's values. False behind the last row.
    fn read(&mut self) -> Result<bool, String> {
        let said = |error: ParquetError| error.to_string();
        while self.n_left == 0 {
            for column in &mut self.columns {
                if column.read().map_err(said)?.is_some() {
                    return Err("a row group holds more rows than the file says".to_owned());
                }
            }
            let Some(group) = self.metadata.row_groups().get(self.next_group) else {
                let n_rows = self.metadata.file_metadata().num_rows();
                return match u64::try_from(n_rows) {
                    Ok(n_rows) if n_rows == self.n_read => Ok(false),
                    _ => Err("it holds another number of rows than it says".to_owned()),
                };
            };
            self.next_group += 1;
            self.n_left = u64::try_from(group.num_rows())
                .map_err(|_| "a row group of a negative length".to_owned())?;
            for column in &mut self.columns {
                let chunk = group.column(column.at);
                let pages = Pages::of(&self.chunks, chunk).map_err(said)?;
                let values = get_column_reader(chunk.column_descr_ptr(), Box::new(pages));
                column.values = Some(values);
            }
        }
        self.row.clear();
        for column in &mut self.columns {
            let cell = column.read().map_err(said)?;
            let cell =
                cell.ok_or_else(|| "a row group holds fewer rows than it says".to_owned())?;
            self.row.push(cell);
        }
        self.n_left -= 1;
        self.n_read += 1;
        Ok(true)
    }

    fn fields(&self) -> Result<(Fields, Vec<Attribute>), Rejection> {
        let (mut fields, mut columns) = (Fields::new(), Vec::new());
        for (column, cell) in self.columns.iter().zip(&self.row) {
            let Some(of_record) = column.field else {
                let value = column.meaning.value(cell);
                let value = value.ok_or_else(|| Rejection::Column {
                    column: shown(&column.name),
                    expected: Type::Text,
                    got: "bytes that are not UTF-8".to_owned(),
                })?;
                columns.push((column.name.clone(), value));
                continue;
            };
            let is_time = of_record == "updated_at";
            let value = match cell {
                Cell::Null => None,
                Cell::Integer(ms) | Cell::Instant(ms, _) if is_time => Some(Json::Integer(*ms)),
                Cell::Integer(integer) => Some(Json::String(integer.to_string())),
                Cell::Text(text) | Cell::Instant(_, text) => field(of_record, text),
                Cell::Bytes(bytes) => {
                    let text = std::str::from_utf8(bytes);
                    let at = text.map_or_else(|error| error.valid_up_to(), str::len);
                    return Err(Rejection::NotUtf8 { at: at as u64 });
                }
            };
            fields.extend(value.map(|value| (of_record.to_owned(), value)));
        }
        Ok((fields, columns))
    }

    /// Bytes of the cells of columns that are so.
    fn n_bytes(&self, is_counted: impl Fn(&Column) -> bool) -> usize {
        let cells = self.columns.iter().zip(&self.row);
        let counted = cells.filter(|(column, _)| is_counted(column));
        counted.map(|(_, cell)| cell.n_bytes()).sum()
    }
}

impl Rows for ParquetRows {
    fn next(&mut self) -> Result<Option<Found>, Error> {
        let path = self.path.clone();
        if !guarded(&path, || self.read())? {
            return Ok(None);
        }
        Ok(Some(Found {
            place: self.n_read,
            n_bytes: self.n_bytes(|_| true),
            n_field_bytes: self.n_bytes(|column| column.field.is_some()),
            fields: self.fields(),
        }))
    }

    fn shown(&self) -> Option<Vec<u8>> {
        let mut shown = serde_json::Map::new();
        for (column, cell) in self.columns.iter().zip(&self.row) {
            let value = match cell {
                Cell::Null => serde_json::Value::Null,
                Cell::Integer(integer) => (*integer).into(),
                Cell::Text(text) | Cell::Instant(_, text) => text.as_str().into(),
                Cell::Bytes(bytes) => String::from_utf8_lossy(bytes).into(),
            };
            shown.insert(column.name.to_string(), value);
        }
        serde_json::to_vec(&shown).ok()
    }
}

impl Column {
    /// The next row's value; none behind the last one.
    fn read(&mut self) -> Result<Option<Cell>, ParquetError> {
        let meaning = self.meaning;
        let Some(values) = &mut self.values else {
            return Ok(None);
        };
        match values {
            ColumnReader::BoolColumnReader(values) => {
                one(values, |value| Cell::Text(value.to_string()))
            }
            ColumnReader::Int32ColumnReader(values) => {
                one(values, |value| meaning.integer(i64::from(*value)))
            }
            ColumnReader::Int64ColumnReader(values) => one(values, |value| meaning.integer(*value)),
            ColumnReader::Int96ColumnReader(values) => {
                one(values, |value| Cell::of_int96(value.data()))
            }
            ColumnReader::FloatColumnReader(values) => {
                one(values, |value| Cell::Text(value.to_string()))
            }
            ColumnReader::DoubleColumnReader(values) => {
                one(values, |value| Cell::Text(value.to_string()))
            }
            ColumnReader::ByteArrayColumnReader(values) => {
                one(values, |value| meaning.bytes(value.data()))
            }
            ColumnReader::FixedLenByteArrayColumnReader(values) => {
                one(values, |value| meaning.bytes(value.data()))
            }
        }
    }
}

/// The next value. One at a time, for a value may be a copy of most of the one before.
fn one<T: DataType>(
    values: &mut ColumnReaderImpl<T>,
    cell: impl FnOnce(&T::T) -> Cell,
) -> Result<Option<Cell>, ParquetError> {
    let (mut levels, mut found) = (Vec::new(), Vec::new());
    let (n_rows, ..) = values.read_records(1, Some(&mut levels), None, &mut found)?;
    Ok((n_rows > 0).then(|| found.first().map_or(Cell::Null, cell)))
}

/// What the library does with a file that may be damaged: it asserts some of what it expects.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, String>) -> Result<T, Error> {
    let read = catch_unwind(AssertUnwindSafe(read));
    let read = read.unwrap_or_else(|_| Err("its structure is damaged".to_owned()));
    read.map_err(|reason| Error::NoTable {
        path: path.to_path_buf(),
        reason,
    })
}
