//! A recording that is written: opened behind its last whole epoch, and appended to.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::error::RecordingError;
use super::format::{LINE_LIMIT, Line, RecordedEpoch, Run};
use super::reader::Reader;
use crate::fault;

/// Bytes that wait to be written.
const BUFFER: usize = 1 << 20;

/// A recording, open and locked.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: BufWriter<File>,
    /// The line that is being written.
    line: Vec<u8>,
}

impl Log {
    /// Opens a recording to go on behind its last whole epoch; one that is not there is made.
    ///
    /// # Errors
    /// [`RecordingError`]: no recording, newer, in use, malformed, or not to be written.
    pub(crate) fn open(path: &Path) -> Result<Self, RecordingError> {
        let io = |action| {
            move |source| RecordingError::Io {
                path: path.to_owned(),
                action,
                source,
            }
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        // It holds the texts themselves.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(io("cannot be opened"))?;
        if file.try_lock().is_err() {
            let path = path.to_owned();
            return Err(RecordingError::InUse { path });
        }
        let mut reader = Reader::over(path, &file);
        for group in &mut reader {
            group?;
        }
        let end = reader.end();
        file.set_len(end).map_err(io("cannot be written"))?;
        let at_end = file.seek(SeekFrom::Start(end));
        at_end.map_err(io("cannot be written"))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(BUFFER, file),
            line: Vec::new(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Says which engine records from here on.
    ///
    /// # Errors
    /// [`RecordingError::Io`].
    pub(super) fn begin(&mut self, run: Run) -> Result<(), RecordingError> {
        self.write(|log| {
            log.line(&Line::Run(run))?;
            log.file.flush()
        })
    }

    /// Appends an epoch. The system has it when this returns; the disk may not.
    ///
    /// # Errors
    /// [`RecordingError::Io`].
    pub(super) fn append(&mut self, epoch: &RecordedEpoch) -> Result<(), RecordingError> {
        fault::RECORD_BEGIN.reach();
        self.write(|log| {
            let (lines, last) = epoch.lines();
            for line in lines {
                log.line(&line)?;
            }
            log.file.flush()?;
            fault::RECORD_HALF.reach();
            log.line(&last)?;
            log.file.flush()
        })?;
        fault::RECORD_DONE.reach();
        Ok(())
    }

    /// Makes everything appended outlive a crash of the machine.
    ///
    /// # Errors
    /// [`RecordingError::Io`].
    pub(super) fn sync(&mut self) -> Result<(), RecordingError> {
        self.write(|log| log.file.get_ref().sync_data())
    }

    fn write(
        &mut self,
        write: impl FnOnce(&mut Self) -> std::io::Result<()>,
    ) -> Result<(), RecordingError> {
        write(self).map_err(|source| RecordingError::Io {
            path: self.path.clone(),
            action: "cannot be written",
            source,
        })
    }

    fn line(&mut self, line: &Line) -> std::io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        if self.line.len() as u64 > LINE_LIMIT {
            let reason = format!("a text makes a line of more than {LINE_LIMIT} bytes");
            return Err(std::io::Error::other(reason));
        }
        self.file.write_all(&self.line)
    }
}
