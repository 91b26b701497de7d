//! What is not read though it stands in a watched folder, and by which rule?

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Names that nobody asks for: no word is said of them.
const UNREMARKABLE: [&str; 6] = [".git", ".hg", ".svn", ".gitignore", ".ignore", ".DS_Store"];

/// A rule by which files, or folders and all in them, are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LeftOut {
    /// Their extension is not one of documents.
    NotNamedLikeOne,
    /// Patterns say what is included, and these are not.
    NotIncluded,
    /// Patterns exclude them.
    Excluded,
    /// An ignore file names them.
    Ignored,
    /// Their names begin with a dot.
    Hidden,
    /// Folders that hold what programs make.
    MadeByPrograms,
    /// Copies of a file that was changed in two places.
    ConflictCopy,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotNamedLikeOne => "not named like documents",
            Self::NotIncluded => "not among what is included",
            Self::Excluded => "excluded",
            Self::Ignored => "named by a .gitignore or .ignore file",
            Self::Hidden => "named with a dot at the beginning",
            Self::MadeByPrograms => "folders of what programs make",
            Self::ConflictCopy => {
                "conflict copies of a program that syncs; put together what they say"
            }
        })
    }
}

/// By rule: how many were left out, and one of them.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<LeftOut, (u64, PathBuf)>);

impl Tally {
    pub(super) fn add(&mut self, rule: LeftOut, path: &Path) {
        let name = path.file_name().unwrap_or_default();
        let is_unremarkable = UNREMARKABLE.iter().any(|known| name == *known)
            || name.as_encoded_bytes().starts_with(b"..");
        if rule == LeftOut::Hidden && is_unremarkable {
            return;
        }
        let (count, _) = self.0.entry(rule).or_insert_with(|| (0, path.to_owned()));
        *count += 1;
    }

    /// Adds what a look met. One that was not at everything tells of conflict copies alone: they
    /// are left out though they say what documents say.
    pub(super) fn absorb(&mut self, other: Self, is_of_everything: bool) {
        let is_told = |rule| is_of_everything || rule == LeftOut::ConflictCopy;
        let told = other.0.into_iter().filter(|(rule, _)| is_told(*rule));
        for (rule, (more, example)) in told {
            let (count, _) = self.0.entry(rule).or_insert((0, example));
            *count += more;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (LeftOut, u64, &Path)> {
        let all = self.0.iter();
        all.map(|(rule, (count, example))| (*rule, *count, example.as_path()))
    }
}
