//! The demo's folder on disk: made, edited, and removed at the end.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::script::{Act, DOCUMENTS, Edit};
use crate::cli::failure::Failure;

/// Between the times of two documents, so that their order is that of the script.
const APART: Duration = Duration::from_secs(60);

/// A temporary folder with the demo's documents.
pub(super) struct DemoFolder(TempDir);

impl DemoFolder {
    /// The documents as the script begins.
    pub(super) fn new() -> Result<Self, Failure> {
        let dir = tempfile::Builder::new()
            .prefix("tern-island-")
            .tempdir()
            .map_err(Failure::io("make a temporary folder"))?;
        let folder = Self(dir);
        let n_documents = u32::try_from(DOCUMENTS.len()).unwrap_or(u32::MAX);
        let mut time = SystemTime::now() - APART * n_documents;
        for (name, text) in DOCUMENTS {
            folder.write(name, text)?;
            let path = folder.path().join(name);
            File::options()
                .append(true)
                .open(&path)
                .and_then(|file| file.set_modified(time))
                .map_err(Failure::io(format!("set the time of {name}")))?;
            time += APART;
        }
        Ok(folder)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Makes an edit.
    pub(super) fn make(&self, edit: &Edit) -> Result<(), Failure> {
        let path = self.path().join(edit.file);
        match edit.act {
            Act::Insert(text) => self.write(edit.file, text),
            Act::Replace(from, to) => {
                let text = fs::read_to_string(&path)
                    .map_err(Failure::io(format!("read {}", edit.file)))?;
                self.write(edit.file, &text.replace(from, to))
            }
            Act::Delete => {
                fs::remove_file(&path).map_err(Failure::io(format!("delete {}", edit.file)))
            }
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        fs::write(self.path().join(name), text).map_err(Failure::io(format!("write {name}")))
    }
}
