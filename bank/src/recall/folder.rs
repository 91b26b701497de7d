//! Keys on disk: a file a text, named by its id.
//!
//! ```text
//! magic "perennial keys" (14)  version u16
//! id (32)
//! BLAKE3 of all else (32)
//! keys, as `perennial_model::latent::TextKeys` writes them
//! ```
//! The digest catches every tear and every bit that flipped; the id, a file under another's name. What
//! fails a check is not there: keys can be made again. A file is written beside its place and renamed,
//! so that nobody reads half of one.
//!
//! Keys tell much of their text. Files are their owner's alone to read, where the system knows owners.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::TextId;

const MAGIC: &[u8; 14] = b"perennial keys";
/// Version of the form; others are not read.
const VERSION: u16 = 1;
/// Bytes before the keys.
const HEAD_BYTES: usize = 14 + 2 + 32 + 32;
/// A larger file is none of ours.
const MAX_BYTES: u64 = 64 << 20;
/// How names of files end.
const ENDING: &str = ".keys";

/// A folder of keys.
#[derive(Debug)]
pub(super) struct KeyFolder {
    path: PathBuf,
}

/// The name of a text's file.
pub(super) fn name(id: &TextId) -> String {
    let mut name: String = id
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    name.push_str(ENDING);
    name
}

fn digest(id: &TextId, keys: &[u8]) -> [u8; 32] {
    let mut hash = blake3::Hasher::new_derive_key("perennial 1 file of latent keys");
    hash.update(&VERSION.to_le_bytes());
    hash.update(id.as_bytes()).update(keys);
    *hash.finalize().as_bytes()
}

impl KeyFolder {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    fn file(&self, id: &TextId) -> PathBuf {
        self.path.join(name(id))
    }

    pub(super) fn has(&self, id: &TextId) -> bool {
        self.file(id).is_file()
    }

    /// The bytes of a text's keys; none that are not whole.
    pub(super) fn read(&self, id: &TextId) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = fs::File::open(self.file(id)).ok()?;
        file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        let mut rest = &bytes[..];
        let magic = rest.split_off(..MAGIC.len())?;
        let version = rest.split_off(..2)?;
        let (of, sum) = (rest.split_off(..32)?, rest.split_off(..32)?);
        let is_whole = magic == MAGIC
            && version == VERSION.to_le_bytes()
            && of == id.as_bytes()
            && sum == digest(id, rest);
        is_whole.then(|| rest.to_vec())
    }

    pub(super) fn write(&self, id: &TextId, keys: &[u8]) -> io::Result<()> {
        make(&self.path)?;
        let mut bytes = Vec::with_capacity(HEAD_BYTES + keys.len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(id.as_bytes());
        bytes.extend(digest(id, keys));
        bytes.extend(keys);
        let beside = self.path.join(format!("{}.part", name(id)));
        let written = create(&beside).and_then(|mut file| file.write_all(&bytes));
        let placed = written.and_then(|()| fs::rename(&beside, self.file(id)));
        if placed.is_err() {
            // What cannot be removed is swept with the next look at the folder.
            let _ = fs::remove_file(&beside);
        }
        placed
    }

    pub(super) fn remove(&self, id: &TextId) {
        // What is not there need not be removed.
        let _ = fs::remove_file(self.file(id));
    }

    /// Removes every file but those of these texts.
    pub(super) fn keep_only(&self, ids: &HashSet<TextId>) {
        let kept: HashSet<String> = ids.iter().map(name).collect();
        let Ok(files) = fs::read_dir(&self.path) else {
            return;
        };
        for file in files.flatten() {
            let is_kept = file.file_name().to_str().is_some_and(|n| kept.contains(n));
            if !is_kept {
                let _ = fs::remove_file(file.path());
            }
        }
    }
}

#[cfg(unix)]
fn make(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn make(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(unix)]
fn create(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    options.mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create(path: &Path) -> io::Result<fs::File> {
    fs::File::create(path)
}
