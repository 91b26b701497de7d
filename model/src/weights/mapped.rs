//! Bytes of a file without reading them: the one place that maps memory.

use std::{fs::File, path::Path};

use memmap2::Mmap;

use crate::error::Error;

/// Maps a whole file for reading. Folders and empty files are errors.
pub(crate) fn map(path: &Path) -> Result<Mmap, Error> {
    let file = File::open(path).map_err(Error::io(path))?;
    let metadata = file.metadata().map_err(Error::io(path))?;
    if !metadata.is_file() {
        return Err(Error::NotACheckpoint {
            path: path.into(),
            reason: "not a file".into(),
        });
    }
    if metadata.len() == 0 {
        return Err(Error::NotACheckpoint {
            path: path.into(),
            reason: "an empty file".into(),
        });
    }
    // SAFETY: the map is read-only and outlives no borrow of its bytes. Weights are
    // files that nobody writes while a model is open: the locator replaces a cached
    // file by rename, which leaves this map's inode as it was. Should another program
    // write into the file nevertheless, values of weights change under our feet; no
    // length, offset or text is read from the map after it was checked.
    unsafe { Mmap::map(&file) }.map_err(Error::io(path))
}
