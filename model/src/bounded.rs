//! Small files beside the weights, read whole and never larger than they may be.

use std::path::Path;

use crate::error::Error;

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// [`Error::NotACheckpoint`] for a larger one; what the file system says.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let size = std::fs::metadata(path).map_err(Error::io(path))?.len();
    if size > limit {
        return Err(Error::NotACheckpoint {
            path: path.into(),
            reason: format!("{size} bytes, the limit is {limit}"),
        });
    }
    std::fs::read(path).map_err(Error::io(path))
}

/// The same, and none where there is no such file.
pub(crate) fn read_if_there(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    match path.exists() {
        true => read(path, limit).map(Some),
        false => Ok(None),
    }
}
