//! Where do the next bytes come from? A file, perhaps growing, or a pipe.
//!
//! A followed file is a log: bytes are appended. Where it was cut, or another file stands under
//! its name (which is how logs are rotated and how editors save), it is read again from its
//! beginning, after what was left in the old one. The last bytes read are compared whenever it
//! grows or is touched, so that a file written anew in place is noticed even where it became longer, or is as
//! long as before.
//! An edit further back is not: what a log once said stands.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::identity::identity;
use crate::unpacked::{Packing, packing, unpacked};
use crate::{Error, Halt, Outlet};

/// How long nothing must come for a burst to be over, and how often a file is looked at.
const TICK: Duration = Duration::from_millis(50);
/// A followed file may be gone for this long before it is worth a word.
const ROTATION_TIME: Duration = Duration::from_secs(2);
/// How many of the last bytes read are compared when a file grows.
const TAIL: usize = 256;

/// What the next look gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// So many bytes are in the buffer.
    Bytes(usize),
    /// Nothing came for a while; or, once, the end of a followed file was reached.
    Quiet,
    /// What comes next is a file's beginning.
    StartedOver,
    /// A followed file has been gone for a while. Said once each time.
    Awaiting,
    /// Nothing more will come.
    End,
}

/// Gives bytes in order.
#[derive(Debug)]
pub(super) enum Feed {
    File(FileFeed),
    Packed(PackedFeed),
    Pipe(PipeFeed),
}

impl Feed {
    /// Waits for bytes, a tick at most.
    ///
    /// # Errors
    /// If reading fails, or when asked to stop.
    pub(super) fn next(&mut self, buffer: &mut [u8], out: &Outlet) -> Result<Look, Halt> {
        out.check()?;
        match self {
            Self::File(feed) => feed.next(buffer, out),
            Self::Packed(feed) => feed.next(buffer),
            Self::Pipe(feed) => feed.next(buffer),
        }
    }
}

/// Unpacks a regular file, to its end.
pub(super) struct PackedFeed {
    path: PathBuf,
    unpacked: Box<dyn io::Read + Send>,
}

impl std::fmt::Debug for PackedFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackedFeed")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl PackedFeed {
    /// The file's contents, if it is packed.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, Error> {
        let io = |source| Error::Io {
            path: path.to_path_buf(),
            action: "cannot be read",
            source,
        };
        let mut file = open_regular(path)?;
        match packing(&mut file).map_err(io)? {
            Packing::None => Ok(None),
            Packing::Gzip | Packing::Zstd => Ok(Some(Self {
                path: path.to_path_buf(),
                unpacked: unpacked(file).map_err(io)?,
            })),
        }
    }

    /// Goes past so many bytes. False if there are not so many.
    pub(super) fn go_to(&mut self, byte: u64, out: &Outlet) -> Result<bool, Halt> {
        const STEP: u64 = 1 << 20;
        let mut left = byte;
        while left > 0 {
            out.check()?;
            let part = &mut (&mut self.unpacked).take(left.min(STEP));
            match io::copy(part, &mut io::sink()).map_err(|source| self.damaged(source))? {
                0 => return Ok(false),
                n_skipped => left -= n_skipped,
            }
        }
        Ok(true)
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<Look, Halt> {
        let n_bytes = self.unpacked.read(buffer);
        match n_bytes.map_err(|source| self.damaged(source))? {
            0 => Ok(Look::End),
            n_bytes => Ok(Look::Bytes(n_bytes)),
        }
    }

    fn damaged(&self, source: io::Error) -> Error {
        Error::Io {
            path: self.path.clone(),
            action: "cannot be unpacked",
            source,
        }
    }
}

/// Reads a regular file, and what is appended to it.
#[derive(Debug)]
pub(super) struct FileFeed {
    path: PathBuf,
    file: File,
    /// How far it was read, in bytes. The file's cursor stands here between calls.
    position: u64,
    /// The last bytes before the position.
    tail: Vec<u8>,
    /// When the file was modified last, as of the last look.
    modified: Option<SystemTime>,
    /// Whether to wait for more at the end.
    follow: bool,
    /// Whether the end was reached before.
    reached_end: bool,
    gone: Gone,
}

#[derive(Clone, Copy, Debug)]
enum Gone {
    No,
    Since(Instant),
    Said,
}

impl FileFeed {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = open_regular(path)?;
        let path = path.to_path_buf();
        Ok(Self {
            path,
            file,
            position: 0,
            tail: Vec::new(),
            modified: None,
            follow: false,
            reached_end: false,
            gone: Gone::No,
        })
    }

    pub(super) fn follow(&mut self, follow: bool) {
        self.follow = follow;
    }

    /// Goes to a line's first byte. False, and at the beginning, if no line begins there.
    pub(super) fn go_to(&mut self, byte: u64) -> Result<bool, Error> {
        self.tail.clear();
        self.position = byte;
        if byte > 0 {
            self.tail.push(b'\n');
            if self.len()? < byte || !self.tail_stands()? {
                self.start_over()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn next(&mut self, buffer: &mut [u8], out: &Outlet) -> Result<Look, Halt> {
        let n_bytes = self.read(buffer)?;
        if n_bytes > 0 {
            return Ok(Look::Bytes(n_bytes));
        }
        if !self.follow {
            return Ok(Look::End);
        }
        if !self.reached_end {
            self.reached_end = true;
            return Ok(Look::Quiet);
        }
        out.wait(TICK)?;
        match fs::metadata(&self.path) {
            Ok(named) => {
                self.gone = Gone::No;
                let open = self.file.metadata().map_err(|error| self.failed(error))?;
                if identity(&named) != identity(&open) {
                    // The old file may have been written to until it lost its name.
                    let n_bytes = self.read(buffer)?;
                    if n_bytes > 0 {
                        return Ok(Look::Bytes(n_bytes));
                    }
                    return match open_regular(&self.path) {
                        Ok(file) => {
                            self.file = file;
                            self.start_over()?;
                            Ok(Look::StartedOver)
                        }
                        Err(Error::Missing { .. }) => Ok(Look::Quiet),
                        Err(error) => Err(error.into()),
                    };
                }
                let modified = open.modified().ok();
                let is_touched = std::mem::replace(&mut self.modified, modified) != modified;
                let len = open.len();
                let is_doubted = len > self.position || is_touched;
                if len < self.position || is_doubted && !self.tail_stands()? {
                    self.start_over()?;
                    return Ok(Look::StartedOver);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.gone {
                Gone::No => self.gone = Gone::Since(Instant::now()),
                Gone::Since(since) if since.elapsed() >= ROTATION_TIME => {
                    self.gone = Gone::Said;
                    return Ok(Look::Awaiting);
                }
                Gone::Since(_) | Gone::Said => {}
            },
            Err(error) => return Err(self.failed(error).into()),
        }
        Ok(match self.read(buffer)? {
            0 => Look::Quiet,
            n_bytes => Look::Bytes(n_bytes),
        })
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let n_bytes = loop {
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|error| self.failed(error))?,
            }
        };
        self.position += n_bytes as u64;
        let read = &buffer[..n_bytes];
        self.tail
            .extend_from_slice(&read[n_bytes.saturating_sub(TAIL)..]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        Ok(n_bytes)
    }

    fn len(&self) -> Result<u64, Error> {
        Ok(self
            .file
            .metadata()
            .map_err(|error| self.failed(error))?
            .len())
    }

    /// Whether the file still holds, before the position, what was read there.
    fn tail_stands(&mut self) -> Result<bool, Error> {
        let mut there = vec![0; self.tail.len()];
        let from = SeekFrom::Start(self.position - self.tail.len() as u64);
        let read = self
            .file
            .seek(from)
            .and_then(|_| self.file.read_exact(&mut there));
        match read {
            Ok(()) => Ok(there == self.tail),
            // It was cut at this very moment.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn start_over(&mut self) -> Result<(), Error> {
        self.tail.clear();
        self.position = 0;
        self.file.rewind().map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Io {
            path: self.path.clone(),
            action: "cannot be read",
            source,
        }
    }
}

fn open_regular(path: &Path) -> Result<File, Error> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing {
            path: path.to_path_buf(),
        },
        _ => Error::Io {
            path: path.to_path_buf(),
            action: "cannot be opened",
            source,
        },
    };
    // Asked before opening, since opening a pipe waits for its other end.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::NotAFile {
            path: path.to_path_buf(),
        });
    }
    File::open(path).map_err(failed)
}

/// Reads standard input, or another pipe.
#[derive(Debug)]
pub(super) struct PipeFeed {
    #[cfg(unix)]
    input: File,
    #[cfg(not(unix))]
    input: io::Stdin,
}

impl PipeFeed {
    #[cfg(unix)]
    pub(super) fn stdin() -> io::Result<Self> {
        use std::os::fd::AsFd;
        // A descriptor of its own reads past the standard library's buffer, in which bytes
        // could lie that waiting for the descriptor does not see.
        Ok(Self::new(io::stdin().as_fd().try_clone_to_owned()?))
    }

    #[cfg(unix)]
    pub(super) fn new(input: std::os::fd::OwnedFd) -> Self {
        Self {
            input: File::from(input),
        }
    }

    #[cfg(not(unix))]
    pub(super) fn stdin() -> io::Result<Self> {
        Ok(Self { input: io::stdin() })
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<Look, Halt> {
        let read = if self.wait()? {
            self.input.read(buffer)
        } else {
            return Ok(Look::Quiet);
        };
        match read {
            Ok(0) => Ok(Look::End),
            Ok(n_bytes) => Ok(Look::Bytes(n_bytes)),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => Ok(Look::Quiet),
                _ => Err(failed_pipe(error).into()),
            },
        }
    }

    /// Whether a read will not block.
    #[cfg(unix)]
    fn wait(&self) -> Result<bool, Error> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(TICK.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(&self.input, PollFlags::IN)], Some(&tick)) {
            Ok(n_ready) => Ok(n_ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(failed_pipe(error.into())),
        }
    }

    /// There is no waiting with a limit here: a read blocks until something comes, and only
    /// then can the source stop.
    #[cfg(not(unix))]
    fn wait(&self) -> Result<bool, Error> {
        Ok(true)
    }
}

fn failed_pipe(source: io::Error) -> Error {
    Error::Io {
        path: PathBuf::from("-"),
        action: "cannot be read",
        source,
    }
}
