//! What stands at and below a place that bears on documents?
//!
//! Looks at names and kinds, reads nothing but ignore files. Links to folders are not followed, so
//! the walk is finite and meets each file once. What goes away meanwhile is taken as not there:
//! whoever took it away causes another look.
//!
//! A link to a file is read where the file lies in the same root and is not read there under its own
//! name: so Kubernetes mounts what it may exchange (`a.md` is a link into a folder `..data`). Any
//! other link is refused.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::filter::{Filter, is_hidden};
use super::ignore_files::IgnoreRules;
use super::left_out::{LeftOut, Tally};
use super::place::{Place, Roots};
use crate::{Error, Halt, Outlet, Rejection};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub found: BTreeMap<Place, Found>,
    /// What is no document.
    pub left_out: Tally,
}

/// What stands at a place.
#[derive(Debug)]
pub(super) enum Found {
    /// A regular file that is a document, and where it is on the disk.
    File(Metadata, PathBuf),
    /// Something that should be a document or a folder of them, and cannot be.
    Refused(Rejection, Option<Metadata>),
}

/// Looks at a place and all below it.
///
/// # Errors
/// If a root is gone or cannot be listed, or when asked to stop.
pub(super) fn list(
    roots: &Roots,
    filter: &Filter,
    scope: &Place,
    out: &Outlet,
) -> Result<Listing, Halt> {
    let mut walk = Walk {
        roots,
        filter,
        listing: Listing::default(),
        folders: Vec::new(),
    };
    // Within what is left out there is nothing.
    let Some(rules) = rules_at(roots, filter, scope) else {
        return Ok(walk.listing);
    };
    if let Some(only) = roots.only(scope.root) {
        for name in only {
            let path = PathBuf::from(name);
            if path.starts_with(&scope.path) {
                let root = scope.root;
                walk.sort_out(Place { root, path }, &rules);
            }
        }
    } else if scope.path.as_os_str().is_empty() {
        walk.folders.push((scope.clone(), rules));
    } else {
        walk.sort_out(scope.clone(), &rules);
    }
    while let Some((folder, rules)) = walk.folders.pop() {
        out.check()?;
        if let Err(error) = walk.enter(&folder, &rules) {
            walk.unlisted(folder, error)?;
        }
    }
    Ok(walk.listing)
}

/// The rules of ignore files that hold for what stands at a place; none if a folder above it is left
/// out.
pub(super) fn rules_at(roots: &Roots, filter: &Filter, place: &Place) -> Option<IgnoreRules> {
    let mut rules = IgnoreRules::default();
    if roots.only(place.root).is_some() {
        return Some(rules);
    }
    if filter.leaves_out_above(&place.path) {
        return None;
    }
    if !filter.obeys_ignore_files {
        return Some(rules);
    }
    let mut above = Place {
        root: place.root,
        path: PathBuf::new(),
    };
    let names = place.path.parent().unwrap_or(Path::new(""));
    for name in names {
        rules = rules.within(&roots.absolute(&above), &above.path);
        above.path.push(name);
        if rules.leave_out(&above.path, true) {
            return None;
        }
    }
    match place.path.as_os_str().is_empty() {
        true => Some(rules),
        false => Some(rules.within(&roots.absolute(&above), &above.path)),
    }
}

/// A walk under way.
struct Walk<'a> {
    roots: &'a Roots,
    filter: &'a Filter,
    listing: Listing,
    /// Still to be entered, with the rules that hold for them.
    folders: Vec<(Place, IgnoreRules)>,
}

impl Walk<'_> {
    fn enter(&mut self, folder: &Place, rules: &IgnoreRules) -> io::Result<()> {
        let at = self.roots.absolute(folder);
        let rules = match self.filter.obeys_ignore_files {
            true => rules.within(&at, &folder.path),
            false => rules.clone(),
        };
        for entry in fs::read_dir(at)? {
            let path = folder.path.join(entry?.file_name());
            let root = folder.root;
            self.sort_out(Place { root, path }, &rules);
        }
        Ok(())
    }

    /// Puts what stands at a place where it belongs.
    fn sort_out(&mut self, place: Place, rules: &IgnoreRules) {
        // A file that was named as a source is one, whatever its name.
        let is_named = self.roots.only(place.root).is_some();
        let name = place.path.file_name().unwrap_or_default();
        if is_hidden(name) && !is_named {
            self.listing.left_out.add(LeftOut::Hidden, &place.path);
            return;
        }
        let path = self.roots.absolute(&place);
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(error) => {
                // A folder, perhaps, and all that is in it.
                if !vanished(&error) {
                    self.refuse(place, Rejection::unreadable(&error), None);
                }
                return;
            }
        };
        let kind = meta.file_type();
        let is_folder = kind.is_dir();
        let by_name = match (is_named, is_folder) {
            (true, false) => None,
            (true, true) => return,
            (false, true) => self.filter.leaves_folder_out(&place.path),
            (false, false) => self.filter.leaves_file_out(&place.path),
        };
        let is_ignored = || rules.leave_out(&place.path, is_folder);
        let left_out = by_name.or_else(|| is_ignored().then_some(LeftOut::Ignored));
        if let Some(rule) = left_out {
            let leads_to_folder = || fs::metadata(&path).is_ok_and(|target| target.is_dir());
            if kind.is_symlink() && rule == LeftOut::NotNamedLikeOne && leads_to_folder() {
                self.refuse(place, Rejection::Link, Some(meta));
            } else {
                self.listing.left_out.add(rule, &place.path);
            }
        } else if is_folder {
            self.folders.push((place, rules.clone()));
        } else if self.roots.key(&place).is_none() {
            self.refuse(place, Rejection::NameNotUtf8, Some(meta));
        } else if kind.is_symlink() {
            match self.target(&place, &path) {
                Some((meta, target)) => {
                    let found = Found::File(meta, target);
                    self.listing.found.insert(place, found);
                }
                None => self.refuse(place, Rejection::Link, Some(meta)),
            }
        } else if kind.is_file() {
            self.listing.found.insert(place, Found::File(meta, path));
        } else {
            self.refuse(place, Rejection::NotAFile, Some(meta));
        }
    }

    /// The file that a link leads to, if it is one to be read under the link's name.
    fn target(&self, link: &Place, path: &Path) -> Option<(Metadata, PathBuf)> {
        let target = fs::canonicalize(path).ok()?;
        let place = self.roots.place(&target)?;
        let has_own_name = match self.roots.only(place.root) {
            Some(only) => only.contains(place.path.as_os_str()),
            None => {
                self.filter.is_document(&place.path) && !self.filter.leaves_out_above(&place.path)
            }
        };
        if place.root != link.root || has_own_name {
            return None;
        }
        let meta = fs::symlink_metadata(&target).ok()?;
        meta.is_file().then_some((meta, target))
    }

    fn refuse(&mut self, place: Place, reason: Rejection, meta: Option<Metadata>) {
        self.listing
            .found
            .insert(place, Found::Refused(reason, meta));
    }

    /// A folder that cannot be listed: an error for a root, gone if it is gone, else refused.
    fn unlisted(&mut self, folder: Place, source: io::Error) -> Result<(), Error> {
        if folder.path.as_os_str().is_empty() {
            self.roots.check()?;
            let path = self.roots.given(folder.root).to_path_buf();
            return Err(Error::Io {
                path,
                action: "cannot be listed",
                source,
            });
        }
        if !vanished(&source) {
            // What was found in it before the listing failed is not trusted either.
            self.listing.found.retain(|place, _| !folder.holds(place));
            self.folders.retain(|(place, _)| !folder.holds(place));
            self.refuse(folder, Rejection::unreadable(&source), None);
        }
        Ok(())
    }
}

/// Whether a failed look only says that nothing is there any more.
pub(super) fn vanished(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
