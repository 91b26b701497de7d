//! Are a model's files here, whole, and how do new ones get in?
//!
//! A model's folder holds its files, a lock, and a folder of what is being fetched. A
//! file enters by rename, after its digest was found right: whoever reads the folder sees
//! whole files only. A file that is there is read and compared with its digest each time
//! it is asked for; one that is damaged is fetched again and replaced.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{
    progress::Progress,
    registry::{KnownFile, KnownModel},
};
use crate::{digest, error::Error};

/// A model's folder in the cache.
pub(super) struct Shelf<'a> {
    /// The model whose files stand here.
    pub model: &'a KnownModel,
    /// The folder.
    pub folder: PathBuf,
}

/// What is on a shelf.
pub(super) enum State {
    /// All files, as they should be.
    Whole,
    /// Not all files, or not as they should be, and why.
    Wanting(String),
}

impl<'a> Shelf<'a> {
    pub(super) fn new(models: &Path, model: &'a KnownModel) -> Self {
        Self {
            model,
            folder: models.join(model.name),
        }
    }

    /// Compares every file with its size and digest.
    pub(super) fn check(&self) -> State {
        for file in self.model.files {
            let path = self.folder.join(file.name);
            let size = match fs::metadata(&path) {
                Ok(metadata) => metadata.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return State::Wanting(format!("{} is not there", path.display()));
                }
                Err(error) => return State::Wanting(format!("{}: {error}", path.display())),
            };
            if size != file.n_bytes {
                return State::Wanting(format!(
                    "{} is damaged: {size} bytes, expected {}",
                    path.display(),
                    file.n_bytes
                ));
            }
            match digest::of_file(&path) {
                Ok(digest) if digest.to_string() == file.sha256 => {}
                Ok(digest) => {
                    return State::Wanting(format!(
                        "{} is damaged: SHA-256 {digest}, expected {}",
                        path.display(),
                        file.sha256
                    ));
                }
                Err(error) => return State::Wanting(error.to_string()),
            }
        }
        State::Whole
    }

    /// Waits until no other process fetches this model. The lock ends with the file.
    pub(super) fn lock(&self, progress: &mut dyn Progress) -> Result<File, Error> {
        fs::create_dir_all(self.incoming()).map_err(Error::io(self.incoming()))?;
        let path = self.folder.join(".lock");
        let file = File::create(&path).map_err(Error::io(&path))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                progress.note(&format!("another process is fetching {}", self.model.name));
            }
            Err(TryLockError::Error(error)) => return Err(Error::io(&path)(error)),
        }
        file.lock().map_err(Error::io(&path))?;
        Ok(file)
    }

    /// Folder of what is being fetched.
    pub(super) fn incoming(&self) -> PathBuf {
        self.folder.join(".incoming")
    }

    /// A new file to be filled and then taken in.
    pub(super) fn receive(&self, file: &'a KnownFile) -> Result<Incoming<'a>, Error> {
        let path = self.incoming().join(file.name);
        let out = File::create(&path).map_err(Error::io(&path))?;
        Ok(Incoming {
            file,
            path,
            out,
            hasher: Sha256::new(),
            n_bytes: 0,
        })
    }

    /// Puts files that were received whole on the shelf, and clears what is left over.
    pub(super) fn take_in(&self, received: Vec<Received>) -> Result<(), Error> {
        for Received { path, name } in received {
            let place = self.folder.join(name);
            fs::rename(&path, &place).map_err(Error::io(&place))?;
        }
        // What cannot be removed now costs space only, and is overwritten by the next fetch.
        let _ = fs::remove_dir_all(self.incoming());
        Ok(())
    }
}

/// A file that is being filled.
pub(super) struct Incoming<'a> {
    file: &'a KnownFile,
    path: PathBuf,
    out: File,
    hasher: Sha256,
    n_bytes: u64,
}

/// A file whose digest was found right.
pub(super) struct Received {
    path: PathBuf,
    name: &'static str,
}

impl Incoming<'_> {
    /// Appends all that `from` gives. More than the file should have is an error, before
    /// it fills the disk.
    pub(super) fn append(
        &mut self,
        from: &mut dyn Read,
        mut on_bytes: impl FnMut(u64),
    ) -> Result<(), String> {
        let mut buffer = vec![0; 1 << 18];
        loop {
            let n = match from.read(&mut buffer).map_err(|error| error.to_string())? {
                0 => return Ok(()),
                n => n,
            };
            self.n_bytes += n as u64;
            if self.n_bytes > self.file.n_bytes {
                return Err(format!(
                    "{} is longer than {} bytes",
                    self.file.name, self.file.n_bytes
                ));
            }
            self.hasher.update(&buffer[..n]);
            self.out
                .write_all(&buffer[..n])
                .map_err(|error| format!("{}: {error}", self.path.display()))?;
            on_bytes(self.n_bytes);
        }
    }

    /// Compares the digest. Synchronises, so that a rename after it cannot outlive the
    /// bytes.
    pub(super) fn finish(self) -> Result<Received, String> {
        let got: String = self
            .hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if got != self.file.sha256 {
            return Err(format!(
                "{} has {} bytes and SHA-256 {got}, expected {} and {}",
                self.file.name, self.n_bytes, self.file.n_bytes, self.file.sha256
            ));
        }
        self.out
            .sync_all()
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        Ok(Received {
            path: self.path,
            name: self.file.name,
        })
    }
}
