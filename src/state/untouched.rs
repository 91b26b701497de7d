//! How is a state directory read without changing a byte of it?
//!
//! The database is opened as ever, its checksums are compared, and what a process left behind
//! that was killed is mended; but whatever is written goes to memory, beside the file, and is
//! dropped with it. So a directory can be checked that must not be written, as one that is
//! evidence, or cannot be. What goes to memory is no more than the file has bytes.
//!
//! The file is locked as readers lock it: together, but not beside an engine.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// Bytes of a block that is written in memory.
const BLOCK: u64 = 4096;

/// A file, and beside it what would have been written to it.
#[derive(Debug)]
pub(super) struct Untouched {
    file: FileBackend,
    beside: Mutex<Beside>,
}

#[derive(Debug)]
struct Beside {
    /// The length that it would have.
    len: u64,
    /// Bytes of the file that still count: it may have been cut.
    n_kept: u64,
    /// By number: blocks that were written to.
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Untouched {
    /// Over a file that is open for reading.
    pub(super) fn over(file: File) -> Result<Self, redb::DatabaseError> {
        let len = file.metadata()?.len();
        Ok(Self {
            file: FileBackend::new(file)?,
            beside: Mutex::new(Beside {
                len,
                n_kept: len,
                blocks: BTreeMap::new(),
            }),
        })
    }

    fn beside(&self) -> MutexGuard<'_, Beside> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beside {
    /// Reads from the file, zeros where it ends.
    fn read_file(&self, file: &FileBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let n_there = self.n_kept.saturating_sub(offset);
        let n_there = usize::try_from(n_there).unwrap_or(usize::MAX);
        let (there, behind) = out.split_at_mut(out.len().min(n_there));
        behind.fill(0);
        match there.is_empty() {
            true => Ok(()),
            false => file.read(offset, there),
        }
    }
}

/// The blocks of a range: each with the range's part in it, and that part's place in the range.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == len {
            return None;
        }
        let place = offset + at as u64;
        let within = usize::try_from(place % BLOCK).unwrap_or_default();
        let n_bytes = (len - at).min(BLOCK as usize - within);
        let part = (place / BLOCK, within, at, n_bytes);
        at += n_bytes;
        Some(part)
    })
}

impl StorageBackend for Untouched {
    fn len(&self) -> io::Result<u64> {
        Ok(self.beside().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let beside = self.beside();
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > beside.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        beside.read_file(&self.file, offset, out)?;
        for (number, within, at, n_bytes) in parts(offset, out.len()) {
            if let Some(block) = beside.blocks.get(&number) {
                out[at..at + n_bytes].copy_from_slice(&block[within..within + n_bytes]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut beside = self.beside();
        if len < beside.len {
            beside.n_kept = beside.n_kept.min(len);
            beside.blocks.split_off(&len.div_ceil(BLOCK));
            let within = usize::try_from(len % BLOCK).unwrap_or_default();
            if let Some(last) = beside.blocks.get_mut(&(len / BLOCK)) {
                last[within..].fill(0);
            }
        }
        beside.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut beside = self.beside();
        for (number, within, at, n_bytes) in parts(offset, data.len()) {
            if !beside.blocks.contains_key(&number) {
                let mut block = vec![0; BLOCK as usize];
                beside.read_file(&self.file, number * BLOCK, &mut block)?;
                beside.blocks.insert(number, block);
            }
            if let Some(block) = beside.blocks.get_mut(&number) {
                block[within..within + n_bytes].copy_from_slice(&data[at..at + n_bytes]);
            }
        }
        beside.len = beside.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Len(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let bytes = prop::collection::vec(any::<u8>(), 1..6_000);
        prop_oneof![
            3 => (0u64..12_000, bytes).prop_map(|(at, bytes)| Step::Write(at, bytes)),
            1 => (0u64..16_000).prop_map(Step::Len),
        ]
    }

    proptest! {
        /// It reads as a file that was written, and the file does not change.
        #[test]
        fn it_is_as_if_written(
            before in prop::collection::vec(any::<u8>(), 0..10_000),
            steps in prop::collection::vec(step(), 0..12),
        ) {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), &before).expect("writable");
            let open = File::open(file.path()).expect("there");
            let untouched = Untouched::over(open).expect("readable");
            let mut expected = before.clone();
            for step in steps {
                match step {
                    Step::Write(at, bytes) => {
                        untouched.write(at, &bytes).expect("memory");
                        let at = usize::try_from(at).expect("small");
                        let end = at + bytes.len();
                        expected.resize(expected.len().max(end), 0);
                        expected[at..end].copy_from_slice(&bytes);
                    }
                    Step::Len(len) => {
                        untouched.set_len(len).expect("memory");
                        expected.resize(usize::try_from(len).expect("small"), 0);
                    }
                }
                let len = untouched.len().expect("known");
                prop_assert_eq!(len, expected.len() as u64);
                let mut found = vec![0; expected.len()];
                untouched.read(0, &mut found).expect("readable");
                prop_assert_eq!(&found, &expected);
                prop_assert!(untouched.read(len, &mut [0]).is_err());
            }
            prop_assert_eq!(std::fs::read(file.path()).expect("there"), before);
        }
    }
}
