//! What stands at and below a place that bears on documents?
//!
//! Looks at names and kinds, reads nothing. Links are not followed, so the walk is finite and
//! meets each file once. What goes away meanwhile is taken as not there: whoever took it away
//! causes another look.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;

use super::filter::Filter;
use super::place::{Place, Roots};
use crate::{Error, Halt, Outlet, Rejection};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub found: BTreeMap<Place, Found>,
    /// Files that are not named like documents.
    pub ignored: u64,
}

/// What stands at a place.
#[derive(Debug)]
pub(super) enum Found {
    /// A regular file, named like a document.
    File(Metadata),
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
    if scope.path.as_os_str().is_empty() {
        walk.folders.push(scope.clone());
    } else {
        walk.sort_out(scope.clone());
    }
    while let Some(folder) = walk.folders.pop() {
        out.check()?;
        if let Err(error) = walk.enter(&folder) {
            walk.unlisted(folder, error)?;
        }
    }
    Ok(walk.listing)
}

/// A walk under way.
struct Walk<'a> {
    roots: &'a Roots,
    filter: &'a Filter,
    listing: Listing,
    /// Still to be entered.
    folders: Vec<Place>,
}

impl Walk<'_> {
    fn enter(&mut self, folder: &Place) -> io::Result<()> {
        for entry in fs::read_dir(self.roots.absolute(folder))? {
            let path = folder.path.join(entry?.file_name());
            self.sort_out(Place {
                root: folder.root,
                path,
            });
        }
        Ok(())
    }

    /// Puts what stands at a place where it belongs.
    fn sort_out(&mut self, place: Place) {
        let name = place
            .path
            .file_name()
            .expect("a place below a root has a name");
        let (document, skipped) = (
            self.filter.is_document(name),
            self.filter.skips_folder(name),
        );
        if skipped && !document {
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
        if kind.is_dir() {
            if !skipped {
                self.folders.push(place);
            }
        } else if kind.is_symlink() {
            if document || fs::metadata(&path).is_ok_and(|target| target.is_dir()) {
                self.refuse(place, Rejection::Link, Some(meta));
            }
        } else if !document {
            self.listing.ignored += 1;
        } else if self.roots.key(&place).is_none() {
            self.refuse(place, Rejection::NameNotUtf8, Some(meta));
        } else if kind.is_file() {
            self.listing.found.insert(place, Found::File(meta));
        } else {
            self.refuse(place, Rejection::NotAFile, Some(meta));
        }
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
            self.folders.retain(|place| !folder.holds(place));
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
