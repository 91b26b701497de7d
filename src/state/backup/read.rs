//! Is a file a whole backup, and what does it hold?

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::field::Field;
use super::{
    BackupError, BackupSummary, DIGEST, END, End, FRAME, FRAME_HEAD, HEAD, Head, MAGIC, TABLE,
    VERSION, frame_check,
};
use crate::state::format;

/// Reads a backup through, and compares its digest. Nothing is restored.
///
/// # Errors
/// [`BackupError`]: not there, something else, of a newer version, cut off or damaged.
pub fn verify_backup(file: &Path) -> Result<BackupSummary, BackupError> {
    let (mut reader, head) = Reader::open(file)?;
    while reader.next_records()?.is_some() {}
    Ok(reader.summary(head))
}

/// Reads a backup from its first byte to its last.
pub(super) struct Reader<R> {
    input: R,
    path: PathBuf,
    hasher: blake3::Hasher,
    /// How many bytes were read.
    at: u64,
    /// What the last frame held.
    frame: Vec<u8>,
    /// The last frame, once it is read and the digest is compared.
    end: Option<End>,
}

/// Records of a table.
pub(super) struct Records<'a> {
    pub(super) table: &'a str,
    pub(super) bytes: &'a [u8],
}

impl Reader<BufReader<File>> {
    /// Reads the head.
    pub(super) fn open(path: &Path) -> Result<(Self, Head), BackupError> {
        let unreadable = |source| BackupError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.is_dir() {
            return Err(unreadable(io::ErrorKind::IsADirectory.into()));
        }
        Reader::over(BufReader::with_capacity(FRAME, file), path)
    }
}

impl<R: Read> Reader<R> {
    pub(super) fn over(input: R, path: &Path) -> Result<(Self, Head), BackupError> {
        let mut reader = Self {
            input,
            path: path.to_owned(),
            hasher: blake3::Hasher::new(),
            at: 0,
            frame: Vec::new(),
            end: None,
        };
        let mut magic = [0; MAGIC.len()];
        match reader.take(&mut magic) {
            Ok(()) if magic == *MAGIC => {}
            // What begins as a backup does is one.
            Err(BackupError::Cut { n_bytes, path }) if is_begun(&magic, n_bytes) => {
                return Err(BackupError::Cut { n_bytes, path });
            }
            Ok(()) | Err(BackupError::Cut { .. }) => {
                let path = reader.path;
                return Err(BackupError::NotABackup { path });
            }
            Err(error) => return Err(error),
        }
        let mut version = [0; 4];
        reader.take(&mut version)?;
        reader.check_version(u32::from_le_bytes(version).into(), VERSION.into())?;
        let head: Head = match reader.read_frame()? {
            HEAD => reader.decode("its head")?,
            _ => return Err(reader.damaged("it does not begin with a head")),
        };
        reader.check_version(head.state_version, format::VERSION)?;
        Ok((reader, head))
    }

    fn check_version(&self, found: u64, supported: u64) -> Result<(), BackupError> {
        match found {
            0 => Err(self.damaged("a format of the number 0")),
            found if found > supported => Err(BackupError::Newer {
                path: self.path.clone(),
                found,
                supported,
            }),
            _ => Ok(()),
        }
    }

    /// The next records; none at the end, once all of the file is what was written.
    pub(super) fn next_records(&mut self) -> Result<Option<Records<'_>>, BackupError> {
        if self.end.is_some() {
            return Ok(None);
        }
        match self.read_frame()? {
            TABLE => {}
            END => {
                let end = self.decode("its end")?;
                self.check_digest()?;
                self.end = Some(end);
                return Ok(None);
            }
            kind => return Err(self.damaged(format!("a part of the unknown kind {kind}"))),
        }
        let mut bytes = &self.frame[..];
        match <&str>::take(&mut bytes) {
            Some(table) => Ok(Some(Records { table, bytes })),
            None => Err(self.damaged("records of no table")),
        }
    }

    /// How many records of a table the end says that there are; none before the end.
    pub(super) fn n_records(&self, table: &str) -> Option<u64> {
        self.end.as_ref()?.n_records.get(table).copied()
    }

    /// What it is of, and holds, once it is read through.
    pub(super) fn summary(&self, head: Head) -> BackupSummary {
        let end = self.end.clone().unwrap_or_default();
        BackupSummary::of(head, &end, self.at)
    }

    /// How many bytes were read.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Bytes that are not those that were written.
    pub(super) fn damaged(&self, reason: impl Into<String>) -> BackupError {
        BackupError::Damaged {
            path: self.path.clone(),
            at: self.at,
            reason: reason.into(),
        }
    }

    fn decode<T: DeserializeOwned>(&self, what: &str) -> Result<T, BackupError> {
        let decoded = format::decode(what, &self.frame);
        decoded.map_err(|_| self.damaged(format!("{what} cannot be read")))
    }

    /// Compares the digest, which must be the last of the file.
    fn check_digest(&mut self) -> Result<(), BackupError> {
        let digest = self.hasher.finalize();
        let mut found = [0; DIGEST];
        self.take(&mut found)?;
        if digest != blake3::Hash::from(found) {
            return Err(self.damaged("its digest is another"));
        }
        match self.take(&mut [0]) {
            Err(BackupError::Cut { .. }) => Ok(()),
            Ok(()) => Err(self.damaged("something follows its end")),
            Err(error) => Err(error),
        }
    }

    /// Reads a frame. Returns its kind.
    fn read_frame(&mut self) -> Result<u8, BackupError> {
        let at = self.at;
        let mut head = [0; FRAME_HEAD];
        self.take(&mut head)?;
        let [kind, l0, l1, l2, l3, check @ ..] = head;
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        if check != frame_check(at, kind, len) {
            return Err(self.damaged("a part has another length"));
        }
        self.frame.clear();
        self.frame.shrink_to(2 * FRAME);
        // No more is held than the file has.
        let mut input = (&mut self.input).take(len.into());
        let read = input.read_to_end(&mut self.frame);
        self.hasher.update(&self.frame);
        self.at += self.frame.len() as u64;
        read.map_err(|source| self.unreadable(source))?;
        match self.frame.len() as u64 == u64::from(len) {
            true => Ok(kind),
            false => Err(self.cut()),
        }
    }

    fn take(&mut self, out: &mut [u8]) -> Result<(), BackupError> {
        let mut n_read = 0;
        while n_read < out.len() {
            match self.input.read(&mut out[n_read..]) {
                Ok(0) => break,
                Ok(n) => n_read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(error)),
            }
        }
        self.hasher.update(&out[..n_read]);
        self.at += n_read as u64;
        match n_read == out.len() {
            true => Ok(()),
            false => Err(self.cut()),
        }
    }

    fn cut(&self) -> BackupError {
        BackupError::Cut {
            path: self.path.clone(),
            n_bytes: self.at,
        }
    }

    fn unreadable(&self, source: io::Error) -> BackupError {
        BackupError::Unreadable {
            path: self.path.clone(),
            source,
        }
    }
}

/// Whether the first bytes of a file that is cut off there are those of a backup.
fn is_begun(magic: &[u8], n_bytes: u64) -> bool {
    let n_bytes = usize::try_from(n_bytes).unwrap_or(usize::MAX);
    n_bytes > 0 && magic.get(..n_bytes) == MAGIC.get(..n_bytes)
}
