//! Which path is which key? The roots, and places below them.
//!
//! With one root a key is the path below it; with several it begins with the root's name. Roots
//! have different names and none lies in another, so a file has one key and a key one file.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
            roots.push(Root {
                path: resolve(given)?,
                given: given.to_path_buf(),
                name: None,
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
                if let (Some(name), true) = (&a.name, a.name == b.name) {
                    let (first, second) = (a.given.clone(), b.given.clone());
                    return Err(Error::RootsCollide {
                        first,
                        second,
                        name: name.clone(),
                    });
                }
                for (inner, outer) in [(a, b), (b, a)] {
                    if inner.path.starts_with(&outer.path) {
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

    /// The roots' absolute paths.
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
        match &self.roots[place.root].name {
            None if place.path.as_os_str().is_empty() => PathBuf::from("."),
            None => place.path.clone(),
            Some(name) => Path::new(name).join(&place.path),
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

fn resolve(given: &Path) -> Result<PathBuf, Error> {
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
    // Listing shows now, rather than on the source's thread, whether it may be read at all.
    match fs::read_dir(&path) {
        Ok(_) => Ok(path),
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
        let file = Roots::open([dir.path().join("file.md")]);
        assert!(matches!(file, Err(Error::NotAFolder { .. })));
    }
}
