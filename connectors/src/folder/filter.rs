//! Which files are documents, and which folders are not looked into?
//!
//! Decided by paths alone, so that a notification can be dropped without asking the disk. (What
//! ignore files say is `ignore_files`' to tell, for they are on the disk.)

use std::ffi::OsStr;
use std::path::Path;

use super::globs::Globs;
use super::left_out::LeftOut;

const EXTENSIONS: [&str; 12] = [
    "md", "markdown", "txt", "text", "rst", "org", "adoc", "html", "htm", "xhtml", "docx", "pdf",
];
const SKIPPED: [&str; 4] = ["node_modules", "target", "__pycache__", "venv"];
/// What programs that sync call the copy of a file that was changed in two places: Syncthing,
/// Dropbox and Nextcloud, ownCloud.
const CONFLICT_COPIES: [&str; 3] = [".sync-conflict-", "conflicted copy", "_conflict-"];

/// The rules by which files are chosen.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// Lower case, without the dot.
    extensions: Vec<String>,
    /// Names of folders.
    skipped: Vec<String>,
    /// What is a document, whatever its extension; none for those of the extensions.
    included: Option<Globs>,
    excluded: Option<Globs>,
    /// Whether `.gitignore` and `.ignore` files count.
    pub(super) obeys_ignore_files: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
            skipped: SKIPPED.map(str::to_owned).to_vec(),
            included: None,
            excluded: None,
            obeys_ignore_files: true,
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

    pub(super) fn set_included(&mut self, globs: Option<Globs>) {
        self.included = globs;
    }

    pub(super) fn set_excluded(&mut self, globs: Option<Globs>) {
        self.excluded = globs;
    }

    /// Why a file at this path below a root is no document; none if it is one.
    pub(super) fn leaves_file_out(&self, path: &Path) -> Option<LeftOut> {
        let name = path.file_name().unwrap_or_default();
        if is_hidden(name) {
            return Some(LeftOut::Hidden);
        }
        let is_named = |path: &Path| {
            let extension = path.extension().and_then(OsStr::to_str);
            extension.is_some_and(|found| self.extensions.contains(&found.to_lowercase()))
        };
        match &self.included {
            Some(included) if !included.mean(path, false) => return Some(LeftOut::NotIncluded),
            None if !is_named(path) => return Some(LeftOut::NotNamedLikeOne),
            _ => {}
        }
        if is_conflict_copy(name) {
            return Some(LeftOut::ConflictCopy);
        }
        self.excludes(path, false).then_some(LeftOut::Excluded)
    }

    /// Why a folder at this path below a root is not looked into; none if it is.
    pub(super) fn leaves_folder_out(&self, path: &Path) -> Option<LeftOut> {
        let name = path.file_name().unwrap_or_default();
        if is_hidden(name) {
            Some(LeftOut::Hidden)
        } else if self.skipped.iter().any(|skipped| name == skipped.as_str()) {
            Some(LeftOut::MadeByPrograms)
        } else {
            self.excludes(path, true).then_some(LeftOut::Excluded)
        }
    }

    fn excludes(&self, path: &Path, is_folder: bool) -> bool {
        let excluded = self.excluded.as_ref();
        excluded.is_some_and(|excluded| excluded.mean(path, is_folder))
    }

    /// Whether a file at this path below a root is a document.
    pub(super) fn is_document(&self, path: &Path) -> bool {
        self.leaves_file_out(path).is_none()
    }

    /// Whether a folder above this path below a root is not looked into.
    pub(super) fn leaves_out_above(&self, path: &Path) -> bool {
        let above = path.ancestors().skip(1);
        let mut above = above.filter(|folder| !folder.as_os_str().is_empty());
        above.any(|folder| self.leaves_folder_out(folder).is_some())
    }

    /// Whether something at this path below a root can bear on any document, or is to be told.
    pub(super) fn covers(&self, path: &Path) -> bool {
        if path.as_os_str().is_empty() {
            return true;
        }
        let is_told = || self.leaves_file_out(path) == Some(LeftOut::ConflictCopy);
        let may_matter =
            self.is_document(path) || self.leaves_folder_out(path).is_none() || is_told();
        may_matter && !self.leaves_out_above(path)
    }
}

pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn is_conflict_copy(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    CONFLICT_COPIES.iter().any(|mark| name.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::super::globs::glob_list;
    use super::*;

    fn globs(list: &str) -> Option<Globs> {
        Some(Globs::new(&glob_list(list)).unwrap())
    }

    #[test]
    fn documents_are_known_by_extension() {
        let filter = Filter::default();
        for name in [
            "a.md",
            "A.MD",
            "read me.txt",
            "x.y.rst",
            "ümlaut.org",
            "r.PDF",
            "w.docx",
            "i.html",
        ] {
            assert!(filter.is_document(Path::new(name)), "{name}");
        }
        for name in [
            "a",
            "md",
            ".md",
            ".hidden.md",
            "a.md~",
            "#a.md#",
            "a.png",
            ".a.md.swp",
        ] {
            assert!(!filter.is_document(Path::new(name)), "{name}");
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
        let is_document = |filter: &Filter, path| filter.is_document(Path::new(path));
        assert!(is_document(&filter, "a.log") && !is_document(&filter, "a.md"));
        assert!(filter.covers(Path::new("target/a.log")));
        assert!(!filter.covers(Path::new("drafts/a.log")));
    }

    #[test]
    fn what_is_included_takes_the_place_of_extensions_and_what_is_excluded_goes() {
        let mut filter = Filter::default();
        filter.set_included(globs("*.rs, docs"));
        filter.set_excluded(globs("gen, *_test.rs"));
        let why = |path| filter.leaves_file_out(Path::new(path));
        assert_eq!(why("src/a.rs"), None);
        assert_eq!(why("docs/a.png"), None);
        assert_eq!(why("a.md"), Some(LeftOut::NotIncluded));
        assert_eq!(why("src/a_test.rs"), Some(LeftOut::Excluded));
        assert_eq!(why("src/.a.rs"), Some(LeftOut::Hidden));
        let folder = filter.leaves_folder_out(Path::new("src/gen"));
        assert_eq!(folder, Some(LeftOut::Excluded));
        assert!(!filter.covers(Path::new("src/gen/a.rs")));
    }

    #[test]
    fn conflict_copies_are_no_documents_and_are_looked_at_to_be_told() {
        let filter = Filter::default();
        for name in [
            "a.sync-conflict-20240501-120000-ABCDEFG.md",
            "a (Ada's conflicted copy 2024-05-01).md",
            "a (conflicted copy 2024-05-01 120000).md",
            "a_conflict-20240501-120000.md",
        ] {
            let why = filter.leaves_file_out(Path::new(name));
            assert_eq!(why, Some(LeftOut::ConflictCopy), "{name}");
            assert!(filter.covers(Path::new(name)));
        }
    }
}
