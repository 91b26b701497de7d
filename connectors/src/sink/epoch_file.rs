//! A file of JSON lines that holds whole epochs, each once, whatever crashes.
//!
//! The first line says whose file it is. An epoch counts once its last line is there:
//!
//! ```json
//! {"end_of":{"origin":"00f1…","view":"answers","epoch":7,"rows":2}}
//! ```
//! What stands behind the last of these lines is the beginning of an epoch that a crash cut off: it is removed
//! before anything is written. What others wrote there goes to a file beside it first (`rest.rs`).
//!
//! Others may move the file away, remove or empty it while it is written, as those do who rotate logs:
//! the next epoch begins a new one.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Delivery, rest};
use crate::identity::identity;
use crate::{Error, FaultPoint};

/// The fault points of files that sinks write.
pub const FAULT_POINTS: &[FaultPoint] = points::ALL;

mod points {
    crate::fault_points! {
        /// What a failed write may have left is cut off, and nothing is written.
        CUT = "sink-file.cut";
        /// The lines are written, and not synced.
        WRITTEN = "sink-file.written";
        /// The lines are there for good.
        SYNCED = "sink-file.synced";
    }
}

/// The ending of a file that is to take the place of another, until it does.
const ANEW: &str = ".perennial-anew";
/// A longer line is none of ours.
const LINE_LIMIT: u64 = 64 << 20;

/// A file of whole epochs.
#[derive(Debug)]
pub(super) struct EpochFile {
    path: PathBuf,
    /// The first line: a file that begins otherwise is left alone.
    head: &'static [u8],
    /// Held open and locked.
    file: File,
    /// Behind the last whole epoch, in bytes.
    end: u64,
    /// The last whole epoch.
    last: Option<Last>,
    /// What a person should know of it, and was not told.
    notices: Vec<String>,
}

/// Which epoch a file ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Last {
    origin: String,
    view: String,
    epoch: u64,
}

/// What becomes of a line of a file that is written anew.
pub(super) enum Line {
    Stays,
    Becomes(Value),
    Goes,
}

impl Last {
    /// The epoch of a delivery.
    pub(super) fn of(delivery: &Delivery) -> Self {
        Self {
            origin: delivery.origin_text(),
            view: delivery.view.clone(),
            epoch: delivery.epoch,
        }
    }

    /// As the last line of an epoch says it, if it does.
    pub(super) fn read(line: &Value) -> Option<Self> {
        let end = line.get("end_of")?;
        Some(Self {
            origin: end.get("origin")?.as_str()?.to_owned(),
            view: end.get("view")?.as_str()?.to_owned(),
            epoch: end.get("epoch")?.as_u64()?,
        })
    }

    /// Whether an epoch is there, if this one is.
    pub(super) fn covers(&self, other: &Self) -> bool {
        (&self.origin, &self.view) == (&other.origin, &other.view) && other.epoch <= self.epoch
    }
}

impl EpochFile {
    /// Opens a file to append to it, and makes it if it is not there.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::ForeignOutput`] for a file that holds anything but such epochs;
    /// [`Error::OutputInUse`] if it is written already; [`Error::UnknownScheme`] for an address.
    pub(super) fn open(path: &Path, head: &'static [u8]) -> Result<Self, Error> {
        let address = path.to_str().and_then(|path| path.split_once("://"));
        if let Some((scheme, _)) = address {
            let scheme = scheme.to_owned();
            return Err(Error::UnknownScheme { scheme });
        }
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let io = |action| {
            let path = path.clone();
            move |source| Error::Io {
                path,
                action,
                source,
            }
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(io("cannot be opened"))?;
        if file.try_lock().is_err() {
            return Err(Error::OutputInUse { path });
        }
        // Whoever held it died while it was written anew.
        if let Ok(target) = std::fs::canonicalize(&path) {
            let _ = std::fs::remove_file(rest::beside(&target, ANEW));
        }
        let (end, last) = scan(&path, &file, head)?;
        let mut opened = Self {
            path: path.clone(),
            head,
            file,
            end,
            last,
            notices: Vec::new(),
        };
        let first = if end == 0 { head } else { b"" };
        opened.write(first).map_err(io("cannot be written"))?;
        sync_folder(&path).map_err(io("cannot be written"))?;
        Ok(opened)
    }

    /// Its absolute path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The last whole epoch.
    pub(super) fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// What a person should know of it: each is told once.
    pub(super) fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Goes on with what stands under the file's name now; whether that is not what was written there.
    ///
    /// # Errors
    /// As [`EpochFile::open`].
    pub(super) fn settle(&mut self) -> Result<bool, Error> {
        let held = self
            .file
            .metadata()
            .map_err(|e| self.failed("cannot be read", e))?;
        if !is_there(&held, &self.path) {
            let notices = self.take_notices();
            *self = Self::open(&self.path, self.head)?;
            self.notices.splice(0..0, notices);
            return Ok(true);
        }
        if held.len() < self.end {
            let begin = self.file.seek(SeekFrom::Start(0));
            begin.map_err(|e| self.failed("cannot be read", e))?;
            // Until it is known where its epochs end, nothing of it is cut off.
            self.end = u64::MAX;
            (self.end, self.last) = scan(&self.path, &self.file, self.head)?;
            if self.end == 0 {
                let written = self.write(self.head);
                written.map_err(|e| self.failed("cannot be written", e))?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Adds an epoch, whose last line is among these.
    ///
    /// # Errors
    /// [`Error::Io`]: nothing of it counts.
    pub(super) fn append(&mut self, lines: &[u8], epoch: Last) -> Result<(), Error> {
        let written = self.write(lines);
        written.map_err(|e| self.failed("cannot be written", e))?;
        self.last = Some(epoch);
        Ok(())
    }

    /// Reads the lines of the whole epochs that are there, in order.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn read(&mut self, mut hear: impl FnMut(&Value)) -> Result<(), Error> {
        let read = self.each_line(|_, _, value| {
            hear(value);
            Ok(())
        });
        read.map_err(|e| self.failed("cannot be read", e))
    }

    /// The same, each with its number and as it stands there. The first line of the file is number 0.
    ///
    /// # Errors
    /// Of reading, and what `hear` says.
    pub(super) fn each_line(
        &self,
        mut hear: impl FnMut(usize, &[u8], &Value) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        (&self.file).seek(SeekFrom::Start(0))?;
        let whole = std::io::Read::take(&self.file, self.end);
        let (mut reader, mut line) = (BufReader::new(whole), Vec::new());
        for number in 0.. {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            // It was looked through when it was opened.
            let value: Value = serde_json::from_slice(&line)?;
            hear(number, &line, &value)?;
        }
        Ok(())
    }

    /// Writes the file anew, each line as `become_of` says by its number, and goes on with that: it is there
    /// whole under the file's name, or the file is as it was.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn rewrite(
        &mut self,
        become_of: impl FnMut(usize, &Value) -> Line,
    ) -> Result<(), Error> {
        let rewritten = self
            .put_rest_aside()
            .and_then(|()| self.written_anew(become_of));
        (self.file, self.end) = rewritten.map_err(|e| self.failed("cannot be written anew", e))?;
        Ok(())
    }

    fn written_anew(
        &self,
        mut become_of: impl FnMut(usize, &Value) -> Line,
    ) -> std::io::Result<(File, u64)> {
        // Where the name is a link, what it leads to is what holds the lines.
        let target = std::fs::canonicalize(&self.path)?;
        let beside = rest::beside(&target, ANEW);
        let mut options = OpenOptions::new();
        // One that a crash has left is no use.
        options.read(true).write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut anew = options.open(&beside)?;
        anew.set_permissions(self.file.metadata()?.permissions())?;
        anew.try_lock().map_err(std::io::Error::from)?;
        let mut out = BufWriter::new(&anew);
        self.each_line(|number, line, value| match become_of(number, value) {
            Line::Stays => out.write_all(line),
            Line::Becomes(other) => writeln!(out, "{other}"),
            Line::Goes => Ok(()),
        })?;
        out.flush()?;
        drop(out);
        anew.sync_all()?;
        std::fs::rename(&beside, &target)?;
        sync_folder(&target)?;
        let end = anew.seek(SeekFrom::End(0))?;
        Ok((anew, end))
    }

    fn failed(&self, action: &'static str, source: std::io::Error) -> Error {
        Error::Io {
            path: self.path.clone(),
            action,
            source,
        }
    }

    /// Puts aside what others wrote behind the last whole epoch.
    fn put_rest_aside(&mut self) -> std::io::Result<()> {
        let n_bytes = self.file.metadata()?.len().saturating_sub(self.end);
        if n_bytes > 0 {
            self.file.seek(SeekFrom::Start(self.end))?;
            let behind = std::io::Read::take(&self.file, n_bytes);
            let told = rest::put_aside(&self.path, &self.file, behind)?;
            self.notices.extend(told);
        }
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        self.put_rest_aside()?;
        // A write that failed may have left a part.
        self.file.set_len(self.end)?;
        self.file.seek(SeekFrom::Start(self.end))?;
        points::CUT.reach();
        self.file.write_all(lines)?;
        points::WRITTEN.reach();
        self.file.sync_data()?;
        points::SYNCED.reach();
        self.end += lines.len() as u64;
        Ok(())
    }
}

/// Whether this file is what stands under the name.
fn is_there(held: &Metadata, path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| identity(&found) == identity(held))
}

/// Makes the file's name outlive a crash of the machine.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent().filter(|_| cfg!(unix)) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Adds a line to others.
pub(super) fn line(lines: &mut Vec<u8>, value: &Value) {
    lines.extend_from_slice(value.to_string().as_bytes());
    lines.push(b'\n');
}

/// Where the last whole epoch ends, and which it is.
fn scan(path: &Path, file: &File, own: &[u8]) -> Result<(u64, Option<Last>), Error> {
    let io = |source| Error::Io {
        path: path.to_path_buf(),
        action: "cannot be read",
        source,
    };
    let foreign = |at: u64| Error::ForeignOutput {
        path: path.to_path_buf(),
        byte: at,
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let head = std::io::Read::take(&mut reader, own.len() as u64);
    { head }.read_until(b'\n', &mut line).map_err(io)?;
    if line != own {
        // The crash may have come before the first line was whole.
        return match own.starts_with(&line) {
            true => Ok((0, None)),
            false => Err(foreign(0)),
        };
    }
    let (mut at, mut end, mut last) = (line.len() as u64, line.len() as u64, None);
    // Where a line stands that is none of ours: allowed behind the last whole epoch only, where a
    // crash may have left anything.
    let mut odd = None;
    loop {
        line.clear();
        let n_read = std::io::Read::take(&mut reader, LINE_LIMIT)
            .read_until(b'\n', &mut line)
            .map_err(io)?;
        if n_read == 0 {
            return Ok((end, last));
        }
        let begin = at;
        at += n_read as u64;
        let value: Option<Value> = line
            .strip_suffix(b"\n")
            .and_then(|whole| serde_json::from_slice(whole).ok());
        let whole = value.as_ref().and_then(Last::read);
        let is_row = value
            .as_ref()
            .is_some_and(|v| v.get("view").is_some() && v.get("epoch").is_some());
        match whole {
            Some(whole) => {
                if let Some(odd) = odd {
                    return Err(foreign(odd));
                }
                end = at;
                last = Some(whole);
            }
            _ if is_row => {}
            _ => odd = odd.or(Some(begin)),
        }
    }
}
