//! Is what has a name now what had it before?

use std::fs::Metadata;

/// What tells files and folders apart whatever their names; an open one keeps its own from being given
/// to another.
#[cfg(unix)]
pub(crate) type Identity = (u64, u64);

/// The time of creation is all there is.
#[cfg(not(unix))]
pub(crate) type Identity = Option<std::time::SystemTime>;

#[cfg(unix)]
pub(crate) fn identity(meta: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (meta.dev(), meta.ino())
}

#[cfg(not(unix))]
pub(crate) fn identity(meta: &Metadata) -> Identity {
    meta.created().ok()
}
