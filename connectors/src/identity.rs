//! Is what has a name now what had it before, and as it was?

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

/// When the content, the name or the rights of a file changed last, in nanoseconds since 1970: nobody can
/// set it back, as the time of a modification can be. 0 where the system has no such time.
#[cfg(unix)]
pub(crate) fn change_time_ns(meta: &Metadata) -> i64 {
    use std::os::unix::fs::MetadataExt as _;
    let seconds = meta.ctime().saturating_mul(1_000_000_000);
    seconds.saturating_add(meta.ctime_nsec())
}

#[cfg(not(unix))]
pub(crate) fn change_time_ns(_: &Metadata) -> i64 {
    0
}
