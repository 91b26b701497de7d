//! Which paths does somebody mean who writes `*.md, docs/**`?
//!
//! Patterns are those of `.gitignore`: one without a slash is of names, at any depth; one with a
//! slash is of paths below the watched folder; one that a folder answers to is of all below it.

use std::fmt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::Error;

/// The most patterns of one list.
const LIMIT: usize = 1000;

/// A list of patterns.
#[derive(Clone)]
pub(super) struct Globs(Gitignore);

impl fmt::Debug for Globs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Globs({})", self.0.len())
    }
}

impl Globs {
    pub(super) fn new(patterns: &[String]) -> Result<Self, Error> {
        let refused = |pattern: &str, reason: String| Error::Glob {
            pattern: pattern.to_owned(),
            reason,
        };
        let mut globs = GitignoreBuilder::new("");
        globs.allow_unclosed_class(false);
        if patterns.len() > LIMIT {
            let reason = format!("more than {LIMIT} patterns");
            return Err(refused(&patterns[LIMIT], reason));
        }
        for pattern in patterns {
            let pattern = pattern.trim();
            if pattern.trim_matches('/').is_empty() || pattern.starts_with(['!', '#']) {
                let reason = "write a name or a path, in which * and ** stand for anything";
                return Err(refused(pattern, reason.to_owned()));
            }
            // Whoever types `./docs` means `docs`.
            let plain = pattern
                .strip_prefix('.')
                .filter(|rest| rest.starts_with('/'));
            let added = globs.add_line(None, plain.unwrap_or(pattern));
            added.map_err(|error| refused(pattern, error.to_string()))?;
        }
        let globs = globs.build();
        globs
            .map(Self)
            .map_err(|error| refused(&patterns.join(", "), error.to_string()))
    }

    /// Whether a path below a root, or a folder above it, is meant.
    pub(super) fn mean(&self, path: &Path, is_folder: bool) -> bool {
        self.0
            .matched_path_or_any_parents(path, is_folder)
            .is_ignore()
    }
}

/// The patterns of a list with commas between; those within braces or brackets are part of a
/// pattern.
///
/// ```
/// let globs = perennial_connectors::glob_list("*.md, docs/**/*.{html,pdf}");
/// assert_eq!(globs, ["*.md", "docs/**/*.{html,pdf}"]);
/// ```
pub fn glob_list(text: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let is_comma = |c: char| {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    let patterns = text.split(is_comma).map(str::trim);
    let patterns = patterns.filter(|pattern| !pattern.is_empty());
    patterns.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(list: &str) -> Globs {
        Globs::new(&glob_list(list)).unwrap()
    }

    #[test]
    fn names_are_meant_at_any_depth_and_paths_from_the_root() {
        let meant = globs("*.md, /docs, ./a/b.txt, img/**/*.{png,svg}");
        for path in [
            "x.md",
            "a/x.md",
            "docs/x.rs",
            "docs/a/b",
            "a/b.txt",
            "img/a/b/c.svg",
        ] {
            assert!(meant.mean(Path::new(path), false), "{path}");
        }
        for path in ["x.rs", "a/docs/x.rs", "b.txt", "c/a/b.txt", "img/c.gif"] {
            assert!(!meant.mean(Path::new(path), false), "{path}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in ["a[", "!a.md", "#a", "/", "a{b"] {
            let refused = Globs::new(&[pattern.to_owned()]);
            match refused {
                Err(Error::Glob { pattern: found, .. }) => assert_eq!(found, pattern),
                other => panic!("{pattern}: {other:?}"),
            }
        }
    }
}
