//! Which names are documents, and which folders are not looked into?
//!
//! Decided by names alone, so that a notification can be dropped without asking the disk.

use std::ffi::OsStr;
use std::path::Path;

const EXTENSIONS: [&str; 7] = ["md", "markdown", "txt", "text", "rst", "org", "adoc"];
const SKIPPED: [&str; 4] = ["node_modules", "target", "__pycache__", "venv"];

/// The rules by which names are chosen.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// Lower case, without the dot.
    extensions: Vec<String>,
    /// Names of folders.
    skipped: Vec<String>,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
            skipped: SKIPPED.map(str::to_owned).to_vec(),
        }
    }
}

impl Filter {
    pub(super) fn set_extensions(
        &mut self,
        extensions: impl IntoIterator<Item = impl Into<String>>,
    ) {
        self.extensions = extensions
            .into_iter()
            .map(|extension| extension.into().trim_start_matches('.').to_lowercase())
            .collect();
    }

    pub(super) fn set_skipped(&mut self, names: impl IntoIterator<Item = impl Into<String>>) {
        self.skipped = names.into_iter().map(Into::into).collect();
    }

    /// Whether a file of this name is a document.
    pub(super) fn is_document(&self, name: &OsStr) -> bool {
        !is_hidden(name)
            && Path::new(name)
                .extension()
                .and_then(OsStr::to_str)
                .is_some_and(|found| self.extensions.contains(&found.to_lowercase()))
    }

    /// Whether a folder of this name is not looked into.
    pub(super) fn skips_folder(&self, name: &OsStr) -> bool {
        is_hidden(name) || self.skipped.iter().any(|skipped| name == skipped.as_str())
    }

    /// Whether something at this path below a root can bear on any document.
    pub(super) fn covers(&self, path: &Path) -> bool {
        let mut names = path.iter();
        let Some(last) = names.next_back() else {
            return true;
        };
        (self.is_document(last) || !self.skips_folder(last))
            && !names.any(|name| self.skips_folder(name))
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_known_by_extension() {
        let filter = Filter::default();
        for name in ["a.md", "A.MD", "read me.txt", "x.y.rst", "ümlaut.org"] {
            assert!(filter.is_document(OsStr::new(name)), "{name}");
        }
        for name in [
            "a",
            "md",
            ".md",
            ".hidden.md",
            "a.md~",
            "#a.md#",
            "a.pdf",
            ".a.md.swp",
        ] {
            assert!(!filter.is_document(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn junk_is_not_covered_at_any_depth() {
        let filter = Filter::default();
        for path in ["", "a.md", "notes", "notes/deep/a.md", "target.md"] {
            assert!(filter.covers(Path::new(path)), "{path}");
        }
        for path in [
            ".git",
            ".git/a.md",
            "notes/node_modules/a/b.md",
            "target/a.md",
            ".a.swp",
        ] {
            assert!(!filter.covers(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn the_lists_can_be_chosen() {
        let mut filter = Filter::default();
        filter.set_extensions([".LOG"]);
        filter.set_skipped(["drafts"]);
        assert!(filter.is_document(OsStr::new("a.log")) && !filter.is_document(OsStr::new("a.md")));
        assert!(filter.covers(Path::new("target/a.log")));
        assert!(!filter.covers(Path::new("drafts/a.log")));
    }
}
