//! Which changes does a file of JSON lines ask for, now and as it grows?
//!
//! One line, one change: `{"upsert": {"key": …, "text": …}}`, `{"delete": {"key": …}}` or a
//! bare record (`json::record` has the format). The same lines carry documents and questions: a
//! question's text is its `text`.
//!
//! - `feed`: where do bytes come from? A file, a growing file, a pipe.
//! - `lines`: where does each line begin and end, with bounded memory?
//! - `again`: is a file read in the place of another one, and when is that done?
//!
//! Invariants: every line that is not blank gives exactly one change or one rejection, with the
//! line's true number and first byte. What a file says is emitted as it stands: keys are not
//! remembered, so an upsert may repeat what is held. What the file under the name says is all there is:
//! once it was cut or replaced, what only the file before said is gone, whether the source was running
//! meanwhile or not.
//!
//! A last line without its line feed waits for its rest while the file is followed. Otherwise
//! it is read as it is, and refused as [`Truncated`](crate::Rejection::Truncated) if it ends in
//! the middle of a value; the offset to resume from stays at its beginning.

mod again;
mod feed;
pub(crate) mod lines;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use perennial_rows::{Key, Schema};

use crate::declared::is_textless;
use crate::{
    Batch, ColumnNames, Error, Event, Halt, Notice, Offset, Outlet, Rejected, Rejection, Resume,
    Resumption, Source, SourceName,
};

use crate::json::record::{self, Carrier};
use crate::rejection;
use crate::unpacked::unpacked;
use again::Again;
use feed::{Feed, FileFeed, Look, PackedFeed, PipeFeed};
use lines::{Content, Line, Lines};

/// Lines over this many bytes are refused, unless said otherwise: 1 MiB.
pub(crate) const LINE_LIMIT: usize = 1 << 20;
/// How much is read at once, in bytes.
const CHUNK: usize = 64 << 10;
/// A batch is closed when its lines come to this many bytes.
const BATCH_BYTES: u64 = 16 << 20;
/// What a line counts at least, so that many short ones close a batch too.
const LINE_COST: u64 = 256;
/// A batch of lines that keep coming is closed after this time.
const MAX_DELAY: Duration = Duration::from_secs(1);
/// A line may stand without its line feed for this long before it is worth a word.
const UNFINISHED_TIME: Duration = Duration::from_secs(1);

/// A file or pipe of JSON lines as a source.
///
/// ```
/// use perennial_connectors::{Change, Event, JsonLines, start};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("docs.jsonl");
/// std::fs::write(&path, "{\"key\": \"k1\", \"text\": \"One.\"}\n{\"delete\": {}}\n")?;
/// let running = start(JsonLines::open("docs", &path)?, 16)?;
/// for event in running.events() {
///     if let Event::Batch(batch) = event {
///         assert!(matches!(&batch.changes[0], Change::Upsert(record) if &*record.row.text == "One."));
///         assert!(batch.rejected[0].to_string().ends_with(":2 (byte 30): the field \"key\" is missing"));
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct JsonLines {
    name: SourceName,
    /// As the user named it; `-` for a pipe.
    path: PathBuf,
    feed: Feed,
    /// In bytes.
    line_limit: usize,
    believes_empty: bool,
    /// Whether the records of an earlier run were read elsewhere than in this file as it stands.
    starts_over: bool,
    /// The line to begin with, and its first byte.
    resume: (u64, u64),
    /// Has taken the bytes before it.
    before: blake3::Hasher,
    is_textless: bool,
    /// What records call their fields, where that is something else.
    names: Option<ColumnNames>,
}

impl JsonLines {
    /// Reads a regular file, to its end. It may be packed (gzip or zstd, told by its first
    /// bytes); then it is not followed.
    ///
    /// # Errors
    /// If the file is missing, cannot be opened, or is not a regular file.
    pub fn open(name: impl Into<String>, path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let feed = match PackedFeed::open(path)? {
            Some(packed) => Feed::Packed(packed),
            None => Feed::File(FileFeed::open(path)?),
        };
        Ok(Self::new(name, path.to_path_buf(), feed))
    }

    /// Reads standard input, until it is closed. Only one source can.
    ///
    /// # Errors
    /// If there is no standard input.
    pub fn stdin(name: impl Into<String>) -> Result<Self, Error> {
        let path = PathBuf::from("-");
        match PipeFeed::stdin() {
            Ok(feed) => Ok(Self::new(name, path, Feed::Pipe(feed))),
            Err(source) => Err(Error::Io {
                path,
                action: "cannot be opened",
                source,
            }),
        }
    }

    /// Reads a pipe or socket, until its other end is closed.
    #[cfg(unix)]
    pub fn pipe(name: impl Into<String>, pipe: impl Into<std::os::fd::OwnedFd>) -> Self {
        Self::new(
            name,
            PathBuf::from("-"),
            Feed::Pipe(PipeFeed::new(pipe.into())),
        )
    }

    fn new(name: impl Into<String>, path: PathBuf, feed: Feed) -> Self {
        let name = SourceName::new(name);
        Self {
            name,
            path,
            feed,
            line_limit: LINE_LIMIT,
            believes_empty: false,
            starts_over: false,
            resume: (1, 0),
            before: hasher(None),
            is_textless: false,
            names: None,
        }
    }

    /// Which fields of a line are key, text, title and time of its record; by default those of these names.
    /// Records of operations (`{"upsert": …}`) are meant, too. A file of which an earlier run read the
    /// fields otherwise is read from its beginning.
    #[must_use]
    pub fn columns(mut self, names: ColumnNames) -> Self {
        self.names = (names != ColumnNames::default()).then_some(names);
        self.before = hasher(self.names.as_ref());
        self
    }

    /// Whether to go on at the file's end with what is appended later. By default not. A pipe
    /// is always read until it is closed.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        if let Feed::File(feed) = &mut self.feed {
            feed.follow(follow);
        }
        self
    }

    /// The longest line, in bytes. By default 1 MiB.
    #[must_use]
    pub fn line_limit(mut self, bytes: usize) -> Self {
        self.line_limit = bytes;
        self
    }

    /// Whether a file that was cut to nothing, or replaced by an empty one, has lost what it said. By
    /// default that is kept until the file holds a record ([`Notice::EmptiedFile`]).
    #[must_use]
    pub fn believe_empty(mut self, is_believed: bool) -> Self {
        self.believes_empty = is_believed;
        self
    }

    /// Begins with a line that an earlier run's [`Batch::resume`] named. If no line begins
    /// there any more, the file is read from its beginning, with a notice. Pipes only count
    /// their lines from there.
    #[must_use]
    pub fn resume(mut self, line: u64, byte: u64) -> Self {
        self.resume = (line, byte);
        self
    }
}

impl Source for JsonLines {
    fn name(&self) -> &SourceName {
        &self.name
    }

    /// From the offset where the file begins as it did; else it starts over. The bytes of a pipe do not
    /// come again.
    fn resume_from(&mut self, from: Resume) -> Resumption {
        if let Feed::Pipe(_) = &self.feed {
            return Resumption::Anew;
        }
        if let Some(Offset::Lines {
            path,
            line,
            byte,
            digest,
        }) = from.offset
            && path == self.path
            && let Some(hasher) = hashed(&path, byte, self.names.as_ref())
            && *hasher.finalize().as_bytes() == digest
        {
            self.resume = (line, byte);
            self.before = hasher;
            return Resumption::FromOffset;
        }
        self.starts_over = !from.held.is_empty();
        match self.starts_over {
            true => Resumption::FromHeld,
            false => Resumption::Anew,
        }
    }

    fn declare(&mut self, schema: &Schema) {
        self.is_textless = is_textless(schema);
    }

    fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
        let Self {
            name,
            path,
            mut feed,
            line_limit,
            believes_empty,
            starts_over,
            resume: (line, byte),
            before,
            is_textless,
            names,
        } = *self;
        let mut reader = Reader::new(name, path, line_limit, names);
        reader.is_textless = is_textless;
        let resumed = match &mut feed {
            Feed::File(file) => file.go_to(byte)?,
            Feed::Packed(packed) => packed.go_to(byte, out)?,
            Feed::Pipe(_) => true,
        };
        if resumed {
            reader.lines = Lines::new(line_limit, line, byte);
            reader.taken = before.clone();
            reader.whole_lines = before;
        } else {
            out.notice(Notice::StartedOver {
                path: reader.path.clone(),
            })?;
        }
        let mut again = Again::new(starts_over || !resumed, believes_empty);
        let mut caught_up = false;
        let mut quiet_since = Instant::now();
        let mut buffer = vec![0; CHUNK];
        loop {
            match feed.next(&mut buffer, out)? {
                Look::Bytes(n_bytes) => {
                    quiet_since = Instant::now();
                    reader.take(&buffer[..n_bytes]);
                    again.look(reader.has_said, out)?;
                    let late = reader.age() >= MAX_DELAY;
                    // A file is caught up at its end; then, and for a pipe, which has none, one
                    // batch must not wait for a pause that never comes.
                    let live = caught_up || matches!(feed, Feed::Pipe(_));
                    if reader.is_full() || (late && live) {
                        reader.flush(&again, out)?;
                        if late && live && !caught_up {
                            caught_up = true;
                            out.send(Event::CaughtUp)?;
                        }
                    }
                }
                Look::Quiet => {
                    again.look(reader.has_said, out)?;
                    reader.flush(&again, out)?;
                    again.rest(quiet_since.elapsed(), out)?;
                    if !caught_up || quiet_since.elapsed() >= UNFINISHED_TIME {
                        again.tell_empty(&reader.path, out)?;
                    }
                    if !caught_up && !again.is_begun() {
                        caught_up = true;
                        out.send(Event::CaughtUp)?;
                    }
                    if quiet_since.elapsed() >= UNFINISHED_TIME
                        && let Some(offset) = reader.newly_unfinished()
                    {
                        out.notice(Notice::Unfinished { offset })?;
                    }
                }
                Look::StartedOver => {
                    reader.abandon_line();
                    reader.flush(&again, out)?;
                    out.notice(Notice::StartedOver {
                        path: reader.path.clone(),
                    })?;
                    again.start_over(out)?;
                    quiet_since = Instant::now();
                    reader.lines = Lines::new(line_limit, 1, 0);
                    reader.taken.reset();
                    reader.whole_lines.reset();
                    reader.announced = None;
                    reader.has_said = false;
                }
                Look::Awaiting => out.notice(Notice::Awaiting {
                    path: reader.path.clone(),
                })?,
                Look::End => {
                    reader.end_line();
                    again.look(reader.has_said, out)?;
                    reader.flush(&again, out)?;
                    again.tell_empty(&reader.path, out)?;
                    again.finish(out)?;
                    if !caught_up {
                        out.send(Event::CaughtUp)?;
                    }
                    return Ok(());
                }
            }
        }
    }
}

/// Has taken no bytes. What is read of the same bytes under other names has another digest.
fn hasher(names: Option<&ColumnNames>) -> blake3::Hasher {
    let Some(names) = names else {
        return blake3::Hasher::new();
    };
    let mut of_names = blake3::Hasher::new_derive_key("perennial 1 names of fields");
    for (_, name) in names.of_line() {
        of_names.update(&(name.len() as u64).to_le_bytes());
        of_names.update(name.as_bytes());
    }
    blake3::Hasher::new_keyed(of_names.finalize().as_bytes())
}

/// Has taken the first `n_bytes` bytes of a file, unpacked; none if it has not so many.
fn hashed(path: &Path, n_bytes: u64, names: Option<&ColumnNames>) -> Option<blake3::Hasher> {
    let file = unpacked(std::fs::File::open(path).ok()?).ok()?;
    let mut hasher = hasher(names);
    let n_read = std::io::copy(&mut file.take(n_bytes), &mut hasher).ok()?;
    (n_read == n_bytes).then_some(hasher)
}

/// Turns bytes into batches.
#[derive(Debug)]
struct Reader {
    name: SourceName,
    path: PathBuf,
    lines: Lines,
    /// Has taken all bytes.
    taken: blake3::Hasher,
    /// Has taken those of whole lines.
    whole_lines: blake3::Hasher,
    batch: Batch,
    /// What the batch's lines come to.
    batch_bytes: u64,
    /// When the batch's first line came.
    begun: Option<Instant>,
    /// The unfinished line that was announced last.
    announced: Option<u64>,
    /// Whether a record may have no text.
    is_textless: bool,
    /// What records call their fields, where that is something else.
    names: Option<ColumnNames>,
    /// Whether a line of the file said something of a record, and was not refused.
    has_said: bool,
}

impl Reader {
    fn new(name: SourceName, path: PathBuf, line_limit: usize, names: Option<ColumnNames>) -> Self {
        Self {
            name,
            path,
            lines: Lines::new(line_limit, 1, 0),
            taken: hasher(names.as_ref()),
            whole_lines: hasher(names.as_ref()),
            batch: Batch::default(),
            batch_bytes: 0,
            begun: None,
            announced: None,
            is_textless: false,
            names,
            has_said: false,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let n_whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map(|at| at + 1);
        if let Some(n_whole) = n_whole {
            self.taken.update(&bytes[..n_whole]);
            self.whole_lines = self.taken.clone();
        }
        self.taken.update(&bytes[n_whole.unwrap_or(0)..]);
        let Self {
            name,
            path,
            lines,
            batch,
            batch_bytes,
            begun,
            is_textless,
            names,
            has_said,
            ..
        } = self;
        let limit = lines.limit();
        lines.push(bytes, |line| {
            begun.get_or_insert_with(Instant::now);
            *batch_bytes += LINE_COST + line.len();
            let offset = offset(path, line);
            let place = Place {
                source: name,
                carrier: Carrier {
                    is_textless: *is_textless,
                    names: names.as_ref(),
                    ..carrier(&offset, line)
                },
                limit,
            };
            read_line(place, line, batch);
            *has_said |= !batch.changes.is_empty();
        });
    }

    /// Reads the last line, which no line feed ends.
    fn end_line(&mut self) {
        if let Some(line) = self.lines.unfinished() {
            let offset = offset(&self.path, line);
            let place = Place {
                source: &self.name,
                carrier: Carrier {
                    is_textless: self.is_textless,
                    names: self.names.as_ref(),
                    ..carrier(&offset, line)
                },
                limit: self.lines.limit(),
            };
            read_line(place, line, &mut self.batch);
            self.has_said |= !self.batch.changes.is_empty();
        }
    }

    /// Refuses a line whose rest will never come.
    fn abandon_line(&mut self) {
        if let Some(line) = self.lines.unfinished() {
            let reason = Rejection::Truncated { len: line.len() };
            let offset = offset(&self.path, line);
            refuse(&self.name, offset, line, None, reason, &mut self.batch);
        }
    }

    /// How long the batch has been waiting.
    fn age(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    fn is_full(&self) -> bool {
        self.batch_bytes >= BATCH_BYTES
    }

    fn flush(&mut self, again: &Again, out: &Outlet) -> Result<(), Halt> {
        let mut batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        self.begun = None;
        let (line, byte) = self.lines.position();
        // While the file is not believed, what is held is that of another: who goes on begins anew.
        batch.resume = (!again.is_awaited()).then(|| Offset::Lines {
            path: self.path.clone(),
            line,
            byte,
            digest: *self.whole_lines.finalize().as_bytes(),
        });
        out.batch(batch)
    }

    /// The unfinished line, the first time it is asked for.
    fn newly_unfinished(&mut self) -> Option<Offset> {
        let line = self.lines.unfinished()?;
        if self.announced == Some(line.number) {
            return None;
        }
        let offset = offset(&self.path, line);
        self.announced = Some(line.number);
        Some(offset)
    }
}

/// Where a line stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) source: &'a SourceName,
    pub(crate) carrier: Carrier<'a>,
    /// The longest line, in bytes.
    pub(crate) limit: usize,
}

/// Reads one line into a batch.
pub(crate) fn read_line(place: Place<'_>, line: Line<'_>, batch: &mut Batch) {
    let Place {
        source,
        carrier,
        limit,
    } = place;
    let refuse = |key, reason, batch: &mut Batch| {
        refuse(source, carrier.offset.clone(), line, key, reason, batch);
    };
    let content = match line.content {
        Content::Bytes(bytes) if line.byte == 0 => {
            bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
        }
        Content::Bytes(bytes) => bytes,
        Content::TooLong(len) => {
            let reason = Rejection::LineTooLong {
                len,
                limit: limit as u64,
            };
            return refuse(None, reason, batch);
        }
    };
    match record::read(content, carrier) {
        Ok(None) => {}
        Ok(Some(change)) => batch.changes.push(change),
        Err((key, reason)) => refuse(key, reason, batch),
    }
}

fn refuse(
    name: &SourceName,
    offset: Offset,
    line: Line<'_>,
    key: Option<Key>,
    reason: Rejection,
    batch: &mut Batch,
) {
    let source = name.clone();
    let content = match line.content {
        Content::Bytes(bytes) => rejection::content(bytes),
        Content::TooLong(_) => None,
    };
    batch.rejected.push(Rejected {
        source,
        offset,
        key,
        reason,
        content,
    });
}

/// A line of a file: its number is the time of a record that names none.
fn carrier<'a>(offset: &'a Offset, line: Line<'_>) -> Carrier<'a> {
    Carrier {
        at_ms: i64::try_from(line.number).unwrap_or(i64::MAX),
        offset,
        key: None,
        columns: &[],
        is_textless: false,
        names: None,
    }
}

fn offset(path: &Path, line: Line<'_>) -> Offset {
    Offset::Line {
        path: path.to_path_buf(),
        line: line.number,
        byte: line.byte,
    }
}
