//! What do the `.gitignore` and `.ignore` files of a folder leave out?
//!
//! The rules are git's: a line is a pattern, later lines count before earlier ones, `!` takes back,
//! and the files of a folder count before those of the folders above it. `.ignore` counts before
//! `.gitignore`. They are looked for from the watched folder downwards, whether it is a repository
//! or not; what git is told elsewhere (above that folder, in `.git/info/exclude`, in its settings) is
//! not known here.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::document::open;

/// The files, the later before the earlier.
const NAMES: [&str; 2] = [".gitignore", ".ignore"];
/// Of longer files the rest is not read, in bytes.
const SIZE_LIMIT: u64 = 1 << 20;

/// The rules that hold in a folder.
#[derive(Clone, Debug, Default)]
pub(super) struct IgnoreRules(Option<Arc<Layer>>);

#[derive(Debug)]
struct Layer {
    of_folder: Gitignore,
    above: IgnoreRules,
}

impl IgnoreRules {
    /// The rules within a folder, at this place on the disk and below the root, where these hold
    /// for the folder itself.
    pub(super) fn within(&self, at: &Path, below: &Path) -> Self {
        let mut rules = GitignoreBuilder::new(below);
        for name in NAMES {
            for line in lines(&at.join(name)) {
                // A line that is no pattern leaves nothing out, as for git.
                let _is_no_pattern = rules.add_line(None, &line);
            }
        }
        match rules.build() {
            Ok(of_folder) if !of_folder.is_empty() => Self(Some(Arc::new(Layer {
                of_folder,
                above: self.clone(),
            }))),
            _ => self.clone(),
        }
    }

    /// Whether they leave out what stands at a path below the root.
    pub(super) fn leave_out(&self, path: &Path, is_folder: bool) -> bool {
        let mut layer = self.0.as_deref();
        while let Some(Layer { of_folder, above }) = layer {
            match of_folder.matched(path, is_folder) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => layer = above.0.as_deref(),
            }
        }
        false
    }
}

/// Whether a file of this name holds rules.
pub(super) fn holds_rules(name: &std::ffi::OsStr) -> bool {
    NAMES.iter().any(|rules| name == *rules)
}

/// The lines of a file of rules; none if there is none, or it is none.
fn lines(path: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    let Ok(file) = open(path) else {
        return Vec::new();
    };
    let is_file = file.metadata().is_ok_and(|meta| meta.is_file());
    if !is_file || file.take(SIZE_LIMIT).read_to_end(&mut bytes).is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn deeper_files_count_before_those_above_and_ignore_before_gitignore() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write(
            ".gitignore",
            "# drafts\n*.tmp.md\n/build/\nsub/lost.md\nodd.md\n[\n",
        );
        write(".ignore", "!odd.md\n");
        write("sub/.gitignore", "!kept.tmp.md\n");
        let top = IgnoreRules::default().within(dir.path(), Path::new(""));
        let sub = top.within(&dir.path().join("sub"), Path::new("sub"));
        let leaves_out = |rules: &IgnoreRules, path| rules.leave_out(Path::new(path), false);
        assert!(leaves_out(&top, "a.tmp.md") && leaves_out(&sub, "sub/a.tmp.md"));
        assert!(!leaves_out(&sub, "sub/kept.tmp.md") && leaves_out(&sub, "sub/lost.md"));
        assert!(!leaves_out(&top, "odd.md") && !leaves_out(&top, "build"));
        assert!(top.leave_out(Path::new("build"), true));
        assert!(!top.leave_out(Path::new("sub/build"), true));
    }
}
