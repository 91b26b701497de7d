//! Which records does a table of comma-separated values hold, now and when it is written anew?
//!
//! The file is a table: a row that is no longer in it is deleted. Its first row names the
//! columns; [`Columns`] says which of them make a record. It is read whole, and again when it
//! was written; what is emitted is the difference. It may be packed (gzip or zstd).
//!
//! A row's time orders it and nothing else: the table says what stands, so no row is late. Rows
//! without a time have time 0, since their line tells nothing that would outlive an insertion.
//!
//! Invariants: a row with another number of fields than the first, or a key that an earlier row
//! has, is refused where it stands. What cannot be read at all (a table cut off in packing, a
//! column that is not there) ends the source, or, once it was read, leaves what is held.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use ::csv::{ByteRecord, ReaderBuilder};

use crate::columns::Columns;
use crate::json::record::{self, Carrier, Fields, Operation, Refusal};
use crate::json::value::Json;
use crate::rejection;
use crate::unpacked::unpacked;
use crate::{
    Batch, Change, Digest, Error, Event, Halt, Key, Notice, Offset, Outlet, Rejected, Rejection,
    Resume, Resumption, Source, SourceName,
};

/// How often a followed file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A longer row is refused, in bytes of its fields.
const ROW_LIMIT: usize = 1 << 20;
/// A much longer one, in bytes of the file, ends the reading: a quote is not closed.
const RUNAWAY_LIMIT: u64 = 8 << 20;
/// Refused rows that are remembered.
const MAX_REFUSED: usize = 1_000;
/// A batch is closed when its rows come to this many bytes.
const BATCH_BYTES: usize = 16 << 20;
/// What a row counts at least, so that many short ones close a batch too.
const ROW_COST: usize = 256;

/// A table in a file as a source.
///
/// ```
/// use perennial_connectors::{Change, Columns, Csv, Event, start};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("faq.csv");
/// std::fs::write(&path, "id,body\n7,\"One, two.\"\n")?;
/// let columns = Columns { key: "id".into(), text: "body".into(), ..Columns::default() };
/// for event in start(Csv::open("docs", &path)?.columns(columns), 16)?.events() {
///     if let Event::Batch(batch) = event {
///         assert!(matches!(&batch.changes[0], Change::Upsert(record) if record.text == "One, two."));
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Csv {
    name: SourceName,
    path: PathBuf,
    columns: Columns,
    delimiter: u8,
    follow: bool,
    known: BTreeMap<Key, Version>,
    /// Rows that the last reading refused: each is told once.
    refused: BTreeSet<(Vec<u8>, String)>,
}

/// A row as it was emitted: digest and time; the time is not known of what an earlier run emitted.
type Version = (Digest, Option<i64>);

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
}

impl Csv {
    /// Reads a table; of a file whose name holds `.tsv`, fields stand between tabs.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotAFile`].
    pub fn open(name: impl Into<String>, path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_path_buf();
        match fs::metadata(&path) {
            Err(_) => return Err(Error::Missing { path }),
            Ok(metadata) if !metadata.is_file() => return Err(Error::NotAFile { path }),
            Ok(_) => {}
        }
        let file_name = path.file_name().map(|name| name.to_string_lossy());
        let has_tabs = file_name.is_some_and(|name| name.to_lowercase().contains(".tsv"));
        Ok(Self {
            name: SourceName::new(name),
            path,
            columns: Columns::default(),
            delimiter: if has_tabs { b'\t' } else { b',' },
            follow: false,
            known: BTreeMap::new(),
            refused: BTreeSet::new(),
        })
    }

    /// Which columns make a record. By default `key` and `text`.
    #[must_use]
    pub fn columns(mut self, columns: Columns) -> Self {
        self.columns = columns;
        self
    }

    /// What stands between fields.
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
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
            len: metadata.len(),
        })
    }

    /// Reads the whole table and emits how it differs from what is known.
    fn read(&mut self, out: &Outlet) -> Result<(), Halt> {
        let io = |source| Error::Io {
            path: self.path.clone(),
            action: "cannot be read",
            source,
        };
        let file = File::open(&self.path).map_err(io)?;
        let n_since_row = Arc::new(AtomicU64::new(0));
        let mut reader = ReaderBuilder::new()
            .delimiter(self.delimiter)
            .flexible(true)
            .has_headers(false)
            .from_reader(Capped {
                inner: unpacked(file).map_err(io)?,
                n_since_row: n_since_row.clone(),
            });
        let csv = |error: ::csv::Error| Error::Io {
            path: self.path.clone(),
            action: "cannot be read",
            source: error.into(),
        };
        let mut row = ByteRecord::new();
        let mut head = Head::default();
        if reader.read_byte_record(&mut row).map_err(csv)? {
            head = Head::of(&row, &self.columns, &self.path)?;
        }
        let (mut seen, mut batch, mut n_bytes) = (BTreeSet::new(), Batch::default(), 0);
        // What the batch says, known once it is sent.
        let mut said: Vec<(Key, Version)> = Vec::new();
        let mut refused = BTreeSet::new();
        while reader.read_byte_record(&mut row).map_err(csv)? {
            out.check()?;
            n_since_row.store(0, Ordering::Relaxed);
            let offset = Offset::Row {
                path: self.path.clone(),
                line: row.position().map_or(0, ::csv::Position::line),
            };
            n_bytes += ROW_COST + row.as_slice().len();
            match head.read(&row, &offset) {
                Ok(Change::Upsert(found)) if seen.contains(&found.key) => {
                    let reason = Rejection::DuplicateKey;
                    let rejected = self.rejected(offset, Some(found.key), reason, &row);
                    batch.rejected.extend(self.news(rejected, &mut refused));
                }
                Ok(Change::Upsert(found)) => {
                    seen.insert(found.key.clone());
                    let version = (found.digest, Some(found.updated_at_ms));
                    if self.known.get(&found.key) != Some(&version) {
                        said.push((found.key.clone(), version));
                        batch.changes.push(Change::Upsert(found));
                    }
                }
                Ok(Change::Delete { .. }) => unreachable!("rows are upserts"),
                Err((key, reason)) => {
                    let rejected = self.rejected(offset, key, reason, &row);
                    batch.rejected.extend(self.news(rejected, &mut refused));
                }
            }
            if n_bytes >= BATCH_BYTES {
                n_bytes = 0;
                out.batch(std::mem::take(&mut batch))?;
                self.known.extend(said.drain(..));
            }
        }
        let at_ms = self.stamp().and_then(|stamp| stamp.modified);
        let at_ms = at_ms.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let at_ms = at_ms.map_or(0, |at| i64::try_from(at.as_millis()).unwrap_or(i64::MAX));
        let gone: BTreeSet<Key> = self
            .known
            .keys()
            .filter(|key| !seen.contains(key))
            .cloned()
            .collect();
        for key in &gone {
            batch.changes.push(Change::Delete {
                key: key.clone(),
                at_ms,
                offset: Offset::file(&self.path, None),
            });
        }
        out.batch(batch)?;
        self.known.extend(said);
        self.refused = refused;
        self.known.retain(|key, _| !gone.contains(key));
        Ok(())
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

    fn rejected(
        &self,
        offset: Offset,
        key: Option<Key>,
        reason: Rejection,
        row: &ByteRecord,
    ) -> Rejected {
        Rejected {
            source: self.name.clone(),
            offset,
            key,
            reason,
            content: self.line(row).as_deref().and_then(rejection::content),
        }
    }

    /// A row as it could stand in the file.
    fn line(&self, row: &ByteRecord) -> Option<Vec<u8>> {
        let mut builder = ::csv::WriterBuilder::new();
        let mut writer = builder
            .delimiter(self.delimiter)
            .flexible(true)
            .from_writer(Vec::new());
        writer.write_byte_record(row).ok()?;
        writer.into_inner().ok()
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

impl Source for Csv {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn resume_from(&mut self, from: Resume) -> Resumption {
        let held = from.held.into_iter();
        self.known = held.map(|(key, digest)| (key, (digest, None))).collect();
        Resumption::FromHeld
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

/// Where the fields of a record stand in a row.
#[derive(Debug, Default)]
struct Head {
    n_columns: usize,
    fields: Vec<(&'static str, usize)>,
}

impl Head {
    fn of(row: &ByteRecord, columns: &Columns, path: &Path) -> Result<Self, Error> {
        let names: Vec<String> = row.iter().map(|name| trimmed(name).into_owned()).collect();
        let mut fields = Vec::new();
        for (field, column) in columns.fields() {
            let at = names.iter().position(|name| name == column);
            let at = at.ok_or_else(|| Error::NoColumn {
                path: path.to_path_buf(),
                column: column.to_owned(),
                found: record::shown(&names.join(", ")),
            })?;
            fields.push((field, at));
        }
        Ok(Self {
            n_columns: names.len(),
            fields,
        })
    }

    fn read(&self, row: &ByteRecord, offset: &Offset) -> Result<Change, Refusal> {
        let refuse = |reason| (None, reason);
        let (len, limit) = (row.as_slice().len(), ROW_LIMIT);
        if len > limit {
            let (len, limit) = (len as u64, limit as u64);
            return Err(refuse(Rejection::LineTooLong { len, limit }));
        }
        if row.len() != self.n_columns {
            return Err(refuse(Rejection::WrongColumns {
                got: row.len(),
                expected: self.n_columns,
            }));
        }
        let mut fields = Fields::new();
        for (field, at) in &self.fields {
            let value = record::utf8(&row[*at]).map_err(refuse)?;
            let value = match (*field, value.parse()) {
                // A field that is empty is not there; a text may be empty.
                ("title" | "updated_at", _) if value.is_empty() => continue,
                ("updated_at", Ok(milliseconds)) => Json::Integer(milliseconds),
                _ => Json::String(value.to_owned()),
            };
            fields.push(((*field).to_owned(), value));
        }
        let carrier = Carrier {
            at_ms: 0,
            offset,
            key: None,
        };
        let mut change = record::change(Operation::Upsert, fields, carrier)?;
        if let Change::Upsert(record) = &mut change {
            record.is_timed = false;
        }
        Ok(change)
    }
}

/// A column's name without the mark that some programs begin files with.
fn trimmed(name: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name))
}

/// Gives up on a row that has no end.
struct Capped<R> {
    inner: R,
    /// Bytes read since the last row ended.
    n_since_row: Arc<AtomicU64>,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n_read = self.inner.read(buffer)?;
        let n_before = self.n_since_row.fetch_add(n_read as u64, Ordering::Relaxed);
        if n_before > RUNAWAY_LIMIT {
            let said = format!("a row of more than {RUNAWAY_LIMIT} bytes: is a quote not closed?");
            return Err(std::io::Error::other(said));
        }
        Ok(n_read)
    }
}
