//! Which files of dead letters have sinks of this state written to?
//!
//! Their letters hold rows as they are, so what is forgotten is to leave them, too, whether or not the sink is
//! declared then. A file is known by its path from when a sink is declared that has it, until it is not there any
//! more when something is forgotten. One that was moved away is not followed.

use std::path::{Path, PathBuf};

use perennial_connectors::DeadLetters;

use super::format::{LETTERS_PREFIX, MANIFEST};
use super::{State, StateError};

/// A file of dead letters, opened, or why it is not.
type Opened = (PathBuf, Result<DeadLetters, String>);

impl State {
    /// Remembers files of dead letters. A path that is no text is known only while its sink is declared.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub(crate) fn note_letters<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a Path>,
    ) -> Result<(), StateError> {
        let keys = paths.into_iter().filter_map(key_of);
        let mut keys = keys.peekable();
        if keys.peek().is_none() {
            return Ok(());
        }
        self.write(|txn| {
            let mut manifest = txn.open_table(MANIFEST)?;
            for key in keys {
                manifest.insert(&*key, 1)?;
            }
            Ok(())
        })
    }

    /// Opens the files that are known and there, but for those that are open; of each that cannot be opened, why.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn open_letters(
        &self,
        is_open: impl Fn(&Path) -> bool,
    ) -> Result<Vec<Opened>, StateError> {
        let known: Vec<PathBuf> = self.read(|txn| {
            let manifest = txn.open_table(MANIFEST)?;
            let mut known = Vec::new();
            for entry in manifest.range(LETTERS_PREFIX..)? {
                let (key, _) = entry?;
                match key.value().strip_prefix(LETTERS_PREFIX) {
                    Some(path) => known.push(PathBuf::from(path)),
                    None => break,
                }
            }
            Ok(known)
        })?;
        let (there, gone): (Vec<PathBuf>, Vec<PathBuf>) =
            known.into_iter().partition(|path| path.exists());
        if !gone.is_empty() {
            self.write(|txn| {
                let mut manifest = txn.open_table(MANIFEST)?;
                for key in gone.iter().filter_map(|path| key_of(path)) {
                    manifest.remove(&*key)?;
                }
                Ok(())
            })?;
        }
        let closed = there.into_iter().filter(|path| !is_open(path));
        let opened = closed.map(|path| {
            let opened = DeadLetters::open(&path).map_err(|error| error.to_string());
            (path, opened)
        });
        Ok(opened.collect())
    }
}

fn key_of(path: &Path) -> Option<String> {
    Some(format!("{LETTERS_PREFIX}{}", path.to_str()?))
}
