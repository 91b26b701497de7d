//! Which path is which key? The roots, and places below them.
//!
//! With one root a key is the path below it; with several it begins with the root's name. Roots
//! have different names and none lies in another, so a file has one key and a key one file.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::filter::Filter;
use crate::identity::{Identity, identity};
use crate::{Error, Key};

/// The watched folders.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    roots: Vec<Root>,
}

#[derive(Clone, Debug)]
struct Root {
    /// Absolute, without links: as notifications name it.
    path: PathBuf,
    /// As the user named it, for messages.
    given: PathBuf,
    /// What its keys begin with; none for a single root.
    name: Option<String>,
    /// Where files of it were named rather than the folder: these, and no others.
    only: Option<BTreeSet<OsString>>,
}

/// A path below a root. In order, a folder stands right before all that is in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The root's number.
    pub root: usize,
    /// Relative to the root; empty for the root itself.
    pub path: PathBuf,
}

impl Place {
    /// Whether `other` is this place or lies below it.
    pub(super) fn holds(&self, other: &Self) -> bool {
        self.root == other.root && other.path.starts_with(&self.path)
    }
}

impl Roots {
    pub(super) fn open(given: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Self, Error> {
        let mut roots: Vec<Root> = Vec::new();
        for given in given {
            let given = given.as_ref();
            let (path, only) = resolve(given)?;
            let same = roots.iter_mut().find(|root| root.path == path);
            // Files of one folder are one root.
            if let Some(only) = &only
                && let Some(Root {
                    only: Some(others), ..
                }) = same
            {
                others.extend(only.iter().cloned());
                continue;
            }
            roots.push(Root {
                path,
                given: given.to_path_buf(),
                name: None,
                only,
            });
        }
        match roots.len() {
            0 => return Err(Error::NoRoots),
            1 => return Ok(Self { roots }),
            _ => {}
        }
        for root in &mut roots {
            let name = root.path.file_name().and_then(OsStr::to_str);
            let name = name.ok_or_else(|| Error::RootUnnamed {
                path: root.given.clone(),
            })?;
            root.name = Some(name.to_owned());
        }
        for (i, a) in roots.iter().enumerate() {
            for b in &roots[i + 1..] {
                if let (Some(name), true) = (&a.name, a.name == b.name)
                    && (a.only.is_none() == b.only.is_none() || a.path != b.path)
                {
                    let (first, second) = (a.given.clone(), b.given.clone());
                    return Err(Error::RootsCollide {
                        first,
                        second,
                        name: name.clone(),
                    });
                }
                for (inner, outer) in [(a, b), (b, a)] {
                    if outer.only.is_none() && inner.path.starts_with(&outer.path) {
                        let (inner, outer) = (inner.given.clone(), outer.given.clone());
                        return Err(Error::RootsNested { inner, outer });
                    }
                }
            }
        }
        Ok(Self { roots })
    }

    pub(super) fn len(&self) -> usize {
        self.roots.len()
    }

    /// The files of a root that are read, where not all below it are.
    pub(super) fn only(&self, root: usize) -> Option<&BTreeSet<OsString>> {
        self.roots[root].only.as_ref()
    }

    /// Whether something at a place can bear on any document, or is to be told.
    pub(super) fn cover(&self, filter: &Filter, place: &Place) -> bool {
        let name = place.path.as_os_str();
        match self.only(place.root) {
            Some(only) => name.is_empty() || only.contains(name),
            None => filter.covers(&place.path),
        }
    }

    /// The roots' absolute paths.
    #[cfg(test)]
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().map(|root| root.path.as_path())
    }

    /// The root as the user named it.
    pub(super) fn given(&self, root: usize) -> &Path {
        &self.roots[root].given
    }

    /// Which folder a root is now: another one may have its name.
    pub(super) fn identity(&self, root: usize) -> Option<Identity> {
        let found = fs::metadata(&self.roots[root].path).ok()?;
        Some(identity(&found))
    }

    /// Where a place is on the disk.
    pub(super) fn absolute(&self, place: &Place) -> PathBuf {
        if place.path.as_os_str().is_empty() {
            // `join("")` would end the path with a slash.
            self.roots[place.root].path.clone()
        } else {
            self.roots[place.root].path.join(&place.path)
        }
    }

    /// Which place an absolute path is, if it is below a root.
    pub(super) fn place(&self, path: &Path) -> Option<Place> {
        self.roots.iter().enumerate().find_map(|(root, r)| {
            let below = path.strip_prefix(&r.path).ok()?;
            Some(Place {
                root,
                path: below.to_path_buf(),
            })
        })
    }

    /// The path that offsets show, below the root or after the root's name.
    pub(super) fn shown(&self, place: &Place) -> PathBuf {
        let path = match place.path.to_str() {
            Some(_) => place.path.clone(),
            None => escaped(&place.path),
        };
        match &self.roots[place.root].name {
            None if path.as_os_str().is_empty() => PathBuf::from("."),
            None => path,
            Some(name) => Path::new(name).join(path),
        }
    }

    /// The key of the file at a place; none if its name is not UTF-8.
    pub(super) fn key(&self, place: &Place) -> Option<Key> {
        let names = place.path.iter().map(OsStr::to_str);
        let root = self.roots[place.root].name.as_deref().map(Some);
        let names: Option<Vec<&str>> = root.into_iter().chain(names).collect();
        names.map(|names| Key::new(names.join("/")))
    }

    /// The place of a key that an earlier run made; none if no root of this run holds it.
    pub(super) fn place_of_key(&self, key: &Key) -> Option<Place> {
        let (root, below) = match &self.roots[..] {
            [_] => (0, key.as_str()),
            roots => {
                let (name, below) = key.as_str().split_once('/')?;
                (
                    roots
                        .iter()
                        .position(|root| root.name.as_deref() == Some(name))?,
                    below,
                )
            }
        };
        let path: PathBuf = below.split('/').collect();
        let place = Place { root, path };
        (self.key(&place).as_ref() == Some(key)).then_some(place)
    }

    /// Fails unless every root is still a folder.
    pub(super) fn check(&self) -> Result<(), Error> {
        for root in &self.roots {
            match fs::metadata(&root.path) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => {
                    return Err(Error::RootGone {
                        path: root.given.clone(),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(Error::RootGone {
                        path: root.given.clone(),
                    });
                }
                Err(source) => {
                    let path = root.given.clone();
                    return Err(Error::Io {
                        path,
                        action: "cannot be looked at",
                        source,
                    });
                }
            }
        }
        Ok(())
    }
}

/// A path whose bytes are not UTF-8, as text: each stays another.
fn escaped(path: &Path) -> PathBuf {
    let chunks = path.as_os_str().as_encoded_bytes().utf8_chunks();
    let mut text = String::new();
    for chunk in chunks {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text.into()
}

/// The folder that is meant, without links, and the file in it if that is.
fn resolve(given: &Path) -> Result<(PathBuf, Option<BTreeSet<OsString>>), Error> {
    let path = fs::canonicalize(given).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing {
            path: given.to_path_buf(),
        },
        io::ErrorKind::NotADirectory => Error::NotAFolder {
            path: given.to_path_buf(),
        },
        _ => Error::Io {
            path: given.to_path_buf(),
            action: "cannot be opened",
            source,
        },
    })?;
    if path.is_file() {
        return Ok(file(given, path));
    }
    // Listing shows now, rather than on the source's thread, whether it may be read at all.
    match fs::read_dir(&path) {
        Ok(_) => Ok((path, None)),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(Error::NotAFolder {
            path: given.to_path_buf(),
        }),
        Err(source) => Err(Error::Io {
            path: given.to_path_buf(),
            action: "cannot be listed",
            source,
        }),
    }
}

/// The folder and name of a file. A link into its own folder stays one: it may come to lead
/// elsewhere.
fn file(given: &Path, path: PathBuf) -> (PathBuf, Option<BTreeSet<OsString>>) {
    let parent = match given.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let named = fs::canonicalize(parent).ok().zip(given.file_name());
    let named = named.filter(|(parent, _)| path.starts_with(parent));
    let (folder, name) = match named {
        Some((folder, name)) => (folder, name.to_owned()),
        None => {
            let name = path.file_name().unwrap_or_default().to_owned();
            (path.parent().unwrap_or(&path).to_owned(), name)
        }
    };
    (folder, Some(BTreeSet::from([name])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_root_has_bare_keys_and_several_have_names() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir_all(a.join("sub")).unwrap();
        fs::create_dir(&b).unwrap();
        let one = Roots::open([&a]).unwrap();
        let place = one
            .place(&fs::canonicalize(&a).unwrap().join("sub/x.md"))
            .unwrap();
        assert_eq!(one.key(&place).unwrap().as_str(), "sub/x.md");
        assert_eq!(one.place_of_key(&Key::new("sub/x.md")), Some(place));
        let two = Roots::open([&a, &b]).unwrap();
        let place = Place {
            root: 1,
            path: "y.md".into(),
        };
        assert_eq!(two.key(&place).unwrap().as_str(), "b/y.md");
        assert_eq!(two.place_of_key(&Key::new("b/y.md")), Some(place));
        assert_eq!(two.place_of_key(&Key::new("c/y.md")), None);
        assert_eq!(
            two.shown(&Place {
                root: 0,
                path: "z.md".into()
            }),
            Path::new("a/z.md")
        );
    }

    #[test]
    fn roots_that_cannot_be_kept_apart_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("x/docs");
        let other = dir.path().join("y/docs");
        fs::create_dir_all(&sub).unwrap();
        fs::create_dir_all(&other).unwrap();
        fs::write(dir.path().join("file.md"), "").unwrap();
        let none: [&Path; 0] = [];
        assert!(matches!(Roots::open(none), Err(Error::NoRoots)));
        assert!(matches!(
            Roots::open([&sub, &other]),
            Err(Error::RootsCollide { .. })
        ));
        assert!(matches!(
            Roots::open([&sub, &sub]),
            Err(Error::RootsCollide { .. })
        ));
        let nested = Roots::open([&sub, &dir.path().join("x")]);
        match nested {
            Err(Error::RootsNested { inner, .. }) => assert_eq!(inner, sub),
            other => panic!("{other:?}"),
        }
        let missing = Roots::open([dir.path().join("none")]);
        assert!(matches!(missing, Err(Error::Missing { .. })));
        let device = Roots::open(["/dev/null"]);
        assert!(cfg!(not(unix)) || matches!(device, Err(Error::NotAFolder { .. })));
        let file = dir.path().join("x/docs/a.md");
        fs::write(&file, "").unwrap();
        match Roots::open([&dir.path().join("x"), &file]) {
            Err(Error::RootsNested { inner, .. }) => assert_eq!(inner, file),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_of_one_folder_are_one_root_of_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.md", "b.md", "c.md"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let files = Roots::open(["a.md", "c.md"].map(|name| dir.path().join(name))).unwrap();
        assert_eq!(files.len(), 1);
        let named: Vec<_> = files.only(0).unwrap().iter().collect();
        assert_eq!(named, ["a.md", "c.md"]);
        assert_eq!(
            files.place_of_key(&Key::new("a.md")).unwrap().path,
            Path::new("a.md")
        );
        assert_eq!(Roots::open([dir.path()]).unwrap().only(0), None);
    }
}
