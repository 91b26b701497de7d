//! Which records does a table in a file hold, now and when it is written anew?
//!
//! The file is a table: a row that is no longer in it is deleted. [`ColumnNames`] says which of its
//! columns make a record. It is read from its beginning to its end, and again when it was
//! written; what is emitted is the difference.
//!
//! - [`csv`]: comma-separated values, perhaps packed.
//! - [`encoding`]: in which encoding these are.
//! - [`parquet`]: Parquet files.
//!
//! Its other columns are those of the record, by their names in the file: texts of comma-separated
//! values, typed ones of Parquet. Left alone are columns without a name, the second of a name, those
//! that are called as a field of records and are not named for it, and, of Parquet, what is neither
//! text nor one value a row: lists, and bytes of which the file does not say that they are text.
//!
//! A row's time orders it and nothing else: the table says what stands, so no row is late. Rows
//! without a time have time 0, since their place tells nothing that would outlive an insertion.
//!
//! Invariants: a row that is no record, or whose key an earlier row has, is refused where it
//! stands. What cannot be read to its end (a table cut off, a column that is not there) ends the
//! source, or, once it was read, deletes nothing that is held.

mod csv;
mod encoding;
#[cfg_attr(not(feature = "parquet"), path = "../absent/parquet.rs")]
mod parquet;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use perennial_rows::{Key, Schema};

use crate::attributes::Attribute;
use crate::column_names::ColumnNames;
use crate::declared::is_textless;
use crate::identity::{Identity, change_time_ns, identity};
use crate::json::record::{self, Carrier, Fields, Operation, Refusal};
use crate::json::value::Json;
use crate::rejection;
use crate::{
    Batch, Change, Digest, Error, Event, Feature, Halt, Notice, Offset, Outlet, Rejected,
    Rejection, Resume, Resumption, Source, SourceName,
};

/// How often a followed file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A longer row is refused, in bytes of its fields.
const ROW_LIMIT: usize = 1 << 20;
/// Refused rows that are remembered.
const MAX_REFUSED: usize = 1_000;
/// A batch is closed when its rows come to this many bytes.
const BATCH_BYTES: usize = 16 << 20;
/// What a row counts at least, so that many short ones close a batch too.
const ROW_COST: usize = 256;
/// Endings of the names of Parquet files.
const PARQUET: [&str; 3] = [".parquet", ".parq", ".pq"];

/// A table in a file as a source.
///
/// ```
/// use perennial_connectors::{Change, ColumnNames, Event, Table, start};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("faq.csv");
/// std::fs::write(&path, "id,body\n7,\"One, two.\"\n")?;
/// let columns = ColumnNames { key: "id".into(), text: "body".into(), ..ColumnNames::default() };
/// for event in start(Table::open("docs", &path)?.columns(columns), 16)?.events() {
///     if let Event::Batch(batch) = event {
///         assert!(matches!(&batch.changes[0], Change::Upsert(record) if &*record.row.text == "One, two."));
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Table {
    name: SourceName,
    path: PathBuf,
    columns: ColumnNames,
    format: Format,
    follow: bool,
    known: BTreeMap<Key, Version>,
    /// Rows that the last reading refused: each is told once.
    refused: BTreeSet<(Vec<u8>, String)>,
    /// Whether a record may have no text.
    is_textless: bool,
}

/// How the file is written.
#[derive(Clone, Copy, Debug)]
enum Format {
    Csv(Writing),
    Parquet,
}

/// How values stand between line ends.
#[derive(Clone, Copy, Debug)]
struct Writing {
    /// Between two of them.
    delimiter: u8,
    /// Where neither a mark nor UTF-8 says it.
    encoding: Option<&'static encoding_rs::Encoding>,
}

/// A row as it was emitted: digest and time; the time is not known of what an earlier run emitted.
type Version = (Digest, Option<i64>);

/// The rows of a table, in order, as one reading finds them.
trait Rows {
    /// Reads on. None behind the last row.
    fn next(&mut self) -> Result<Option<Found>, Error>;

    /// The row that was read last, as a person may read it.
    fn shown(&self) -> Option<Vec<u8>>;
}

/// A row of a table, as it was found.
struct Found {
    /// Its line, or its number where a file has no lines; from 1.
    place: u64,
    /// Bytes of all that was read of it.
    n_bytes: usize,
    /// Of them those that a row may not have many of: columns have a limit of their own.
    n_field_bytes: usize,
    /// The fields of its record, and the record's columns.
    fields: Result<(Fields, Vec<Attribute>), Rejection>,
}

/// What tells one state of a file from another: programs set the time of a modification back, and put
/// another file of the same length in the place of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    changed_ns: i64,
    len: u64,
    identity: Identity,
}

impl Table {
    /// Reads a table. A file named `.parquet`, `.parq` or `.pq` is a Parquet file; others hold
    /// comma-separated values, or, where the name holds `.tsv`, values between tabs.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotAFile`]; [`Error::NotBuilt`] for a Parquet file where the
    /// program was built without.
    pub fn open(name: impl Into<String>, path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_path_buf();
        match fs::metadata(&path) {
            Err(_) => return Err(Error::Missing { path }),
            Ok(metadata) if !metadata.is_file() => return Err(Error::NotAFile { path }),
            Ok(_) => {}
        }
        let format = Format::of(&path);
        if let Format::Parquet = format {
            Feature::Parquet.require()?;
        }
        Ok(Self {
            name: SourceName::new(name),
            path,
            columns: ColumnNames::default(),
            format,
            follow: false,
            known: BTreeMap::new(),
            refused: BTreeSet::new(),
            is_textless: false,
        })
    }

    /// Which columns make a record. By default `key` and `text`.
    #[must_use]
    pub fn columns(mut self, columns: ColumnNames) -> Self {
        self.columns = columns;
        self
    }

    /// The file holds values with this byte between them, whatever its name.
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        let encoding = match self.format {
            Format::Csv(writing) => writing.encoding,
            Format::Parquet => None,
        };
        self.format = Format::Csv(Writing {
            delimiter,
            encoding,
        });
        self
    }

    /// As [`Table::delimiter`], by a character of ASCII or the word `tab`.
    ///
    /// # Errors
    /// [`Error::TableOption`] for another text, and for a quote or a line end; for a Parquet file.
    pub fn delimited_by(self, delimiter: &str) -> Result<Self, Error> {
        let byte = match delimiter.as_bytes() {
            _ if delimiter.eq_ignore_ascii_case("tab") => Some(b'\t'),
            [byte] if byte.is_ascii() && !b"\"\r\n".contains(byte) => Some(*byte),
            _ => None,
        };
        match (byte, self.format) {
            (Some(byte), Format::Csv(_)) => Ok(self.delimiter(byte)),
            (Some(_), Format::Parquet) => Err(no_text("delimiter", delimiter)),
            (None, _) => Err(Error::TableOption {
                option: "delimiter",
                value: delimiter.to_owned(),
                reason: "one character of ASCII, no quote or line end, or `tab`",
            }),
        }
    }

    /// The encoding of a file that has no byte-order mark, by its name on the web: `windows-1252`,
    /// `utf-16le`, `shift_jis`, …. By default UTF-8.
    ///
    /// # Errors
    /// [`Error::TableOption`] for a name of none, and for a Parquet file.
    pub fn encoding(mut self, label: &str) -> Result<Self, Error> {
        let Some(named) = encoding::named(label) else {
            return Err(Error::TableOption {
                option: "encoding",
                value: label.to_owned(),
                reason: "a name as `utf-8`, `utf-16le`, `windows-1252`, `latin1` or `shift_jis`",
            });
        };
        let Format::Csv(writing) = &mut self.format else {
            return Err(no_text("encoding", label));
        };
        writing.encoding = Some(named);
        Ok(self)
    }

    /// Whether to read the file again when it was written. By default not.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }

    fn stamp(&self) -> Option<Stamp> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some(Stamp {
            modified: metadata.modified().ok(),
            changed_ns: change_time_ns(&metadata),
            len: metadata.len(),
            identity: identity(&metadata),
        })
    }

    /// Reads the whole table and emits how it differs from what is known.
    fn read(&mut self, out: &Outlet) -> Result<(), Halt> {
        let mut rows = self.rows()?;
        let (mut seen, mut batch, mut n_bytes) = (BTreeSet::new(), Batch::default(), 0);
        // What the batch says, known once it is sent.
        let mut said: Vec<(Key, Version)> = Vec::new();
        let mut refused = BTreeSet::new();
        while let Some(row) = rows.next()? {
            out.check()?;
            let offset = Offset::Row {
                path: self.path.clone(),
                line: row.place,
            };
            n_bytes += ROW_COST + row.n_bytes;
            let (key, reason) = match self.record(row, &offset) {
                Ok(Change::Upsert(found)) if seen.contains(&found.key) => {
                    (Some(found.key), Rejection::DuplicateKey)
                }
                Ok(Change::Upsert(found)) => {
                    seen.insert(found.key.clone());
                    let version = (found.digest, Some(found.row.updated_at_ms));
                    if self.known.get(&found.key) != Some(&version) {
                        said.push((found.key.clone(), version));
                        batch.changes.push(Change::Upsert(found));
                    }
                    if n_bytes >= BATCH_BYTES {
                        n_bytes = 0;
                        out.batch(std::mem::take(&mut batch))?;
                        self.known.extend(said.drain(..));
                    }
                    continue;
                }
                Ok(Change::Delete { .. }) => unreachable!("rows are upserts"),
                Err(refusal) => refusal,
            };
            let rejected = Rejected {
                source: self.name.clone(),
                offset,
                key,
                reason,
                content: rows.shown().as_deref().and_then(rejection::content),
            };
            batch.rejected.extend(self.news(rejected, &mut refused));
        }
        let at_ms = self.stamp().and_then(|stamp| stamp.modified);
        let at_ms = at_ms.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let at_ms = at_ms.map_or(0, |at| i64::try_from(at.as_millis()).unwrap_or(i64::MAX));
        let gone: BTreeSet<Key> = self
            .known
            .keys()
            .filter(|key| !seen.contains(*key))
            .cloned()
            .collect();
        for key in &gone {
            batch.changes.push(Change::Delete {
                key: key.clone(),
                at_ms,
                is_timed: false,
                offset: Offset::file(&self.path, None),
            });
        }
        out.batch(batch)?;
        self.known.extend(said);
        self.refused = refused;
        self.known.retain(|key, _| !gone.contains(key));
        Ok(())
    }

    /// The record that a row holds.
    fn record(&self, row: Found, offset: &Offset) -> Result<Change, Refusal> {
        let (len, limit) = (row.n_field_bytes, ROW_LIMIT);
        if len > limit {
            let (len, limit) = (len as u64, limit as u64);
            return Err((None, Rejection::LineTooLong { len, limit }));
        }
        let (fields, columns) = row.fields.map_err(|reason| (None, reason))?;
        let carrier = Carrier {
            at_ms: 0,
            offset,
            key: None,
            columns: &columns,
            is_textless: self.is_textless,
            names: None,
        };
        let mut change = record::change(Operation::Upsert, fields, carrier)?;
        if let Change::Upsert(record) = &mut change {
            record.row.is_timed = false;
        }
        Ok(change)
    }

    /// Fields of a record with the columns that hold them, and whether each must be there.
    fn fields(&self) -> impl Iterator<Item = (&'static str, &str, bool)> {
        let fields = self.columns.fields();
        fields.map(|(field, column)| (field, column, !(self.is_textless && field == "text")))
    }

    fn rows(&self) -> Result<Box<dyn Rows>, Error> {
        Ok(match self.format {
            Format::Csv(writing) => {
                Box::new(csv::CsvRows::open(&self.path, self.fields(), writing)?)
            }
            Format::Parquet => Box::new(parquet::ParquetRows::open(&self.path, self.fields())?),
        })
    }

    /// A refusal that the reading before had not.
    fn news(
        &self,
        rejected: Rejected,
        refused: &mut BTreeSet<(Vec<u8>, String)>,
    ) -> Option<Rejected> {
        let content = rejected.content.clone().unwrap_or_default();
        let id = (content, rejected.reason.to_string());
        let is_news = !self.refused.contains(&id);
        if refused.len() < MAX_REFUSED {
            refused.insert(id);
        }
        is_news.then_some(rejected)
    }

    /// Waits until the file was written and is at rest.
    fn wait(&self, read: Option<Stamp>, out: &Outlet) -> Result<Option<Stamp>, Halt> {
        let mut last = read;
        let mut is_awaited = false;
        loop {
            out.wait(LOOK_EVERY)?;
            let now = self.stamp();
            match now {
                None if !is_awaited => {
                    is_awaited = true;
                    out.notice(Notice::Awaiting {
                        path: self.path.clone(),
                    })?;
                }
                Some(_) if now == last && now != read => return Ok(now),
                _ => {}
            }
            last = now;
        }
    }
}

impl Format {
    /// The format that a file's name tells.
    fn of(path: &Path) -> Self {
        let name = path.file_name();
        let name = name.map_or_else(String::new, |name| name.to_string_lossy().to_lowercase());
        if PARQUET.iter().any(|ending| name.ends_with(ending)) {
            return Self::Parquet;
        }
        let has_tabs = name.contains(".tsv");
        Self::Csv(Writing {
            delimiter: if has_tabs { b'\t' } else { b',' },
            encoding: None,
        })
    }
}

impl Source for Table {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn resume_from(&mut self, from: Resume) -> Resumption {
        let held = from.held.into_iter();
        let version = |row| (Digest::of(&row), None);
        self.known = held.map(|(key, row)| (key, version(row))).collect();
        Resumption::FromHeld
    }

    fn declare(&mut self, schema: &Schema) {
        self.is_textless = is_textless(schema);
    }

    fn run(mut self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
        let mut stamp = self.stamp();
        self.read(out)?;
        out.send(Event::CaughtUp)?;
        while self.follow {
            stamp = self.wait(stamp, out)?;
            match self.read(out) {
                Ok(()) => {}
                // It may be half written: what is held stands until it can be read.
                Err(Halt::Failed(error)) => out.notice(Notice::Unreachable {
                    what: self.path.display().to_string(),
                    reason: error.to_string(),
                })?,
                Err(Halt::Stopped) => return Err(Halt::Stopped),
            }
        }
        Ok(())
    }
}

/// What a text says as a field; none if the field is not there.
fn field(field: &str, text: &str) -> Option<Json> {
    match (field, text.parse()) {
        // A field that is empty is not there; a text may be empty.
        ("title" | "updated_at", _) if text.is_empty() => None,
        ("updated_at", Ok(milliseconds)) => Some(Json::Integer(milliseconds)),
        _ => Some(Json::String(text.to_owned())),
    }
}

/// What is said of text, of a file that holds none.
fn no_text(option: &'static str, value: &str) -> Error {
    Error::TableOption {
        option,
        value: value.to_owned(),
        reason: "a file of text: Parquet says itself how it is written",
    }
}

/// No column of a table has this name.
fn no_column<'a>(path: &Path, column: &str, found: impl Iterator<Item = &'a str>) -> Error {
    let found: Vec<&str> = found.collect();
    Error::NoColumn {
        path: path.to_path_buf(),
        column: column.to_owned(),
        found: match found[..] {
            [] => "none".to_owned(),
            _ if found.iter().any(|name| name.contains('\0')) => {
                "bytes of another encoding, which --encoding names".to_owned()
            }
            [one] if one.contains([';', '\t', '|']) => {
                let shown = record::shown(one);
                format!(
                    "{shown} (as one: if another character stands between them, --delimiter names it)"
                )
            }
            _ => record::shown(&found.join(", ")),
        },
    }
}
