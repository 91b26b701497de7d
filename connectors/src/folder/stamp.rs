//! Need a file be read again? Not if its times vouch for it.
//!
//! A stamp is modification and change time, length and inode. Equal stamps mean equal content
//! only if the first was taken when its times were so long past that a later write must have
//! changed them (the rule of git's index, "racy git"). Until then the file is read again.

use std::fs::Metadata;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Revision;
use crate::identity::change_time_ns;

/// A write within this time of an earlier one may leave a file's times as they were: the
/// coarsest clock of a common file system (FAT's two seconds), and a little more.
const COARSEST_CLOCK_NS: i64 = 2_500_000_000;

/// How a file looked when it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// Content changed, nanoseconds since 1970.
    mtime_ns: i64,
    /// Content or rights changed, nanoseconds since 1970; 0 where the system has no such time.
    ctime_ns: i64,
    /// In bytes.
    len: u64,
    /// The file's number on its device; 0 where the system has none.
    inode: u64,
    /// Whether the times were so long past that another write would have changed them.
    settled: bool,
}

impl Stamp {
    /// How a file looks at `now_ns`, nanoseconds since 1970.
    pub(super) fn of(meta: &Metadata, now_ns: i64) -> Self {
        let mtime_ns = meta.modified().map_or(0, nanoseconds);
        let ctime_ns = change_time_ns(meta);
        let settled = now_ns.saturating_sub(mtime_ns.max(ctime_ns)) > COARSEST_CLOCK_NS;
        Self {
            mtime_ns,
            ctime_ns,
            len: meta.len(),
            inode: inode(meta),
            settled,
        }
    }

    /// Whether a file that looked so must still be what it was, if it now looks like `now`.
    pub(super) fn vouches_for(&self, now: &Self) -> bool {
        let state = |stamp: &Self| (stamp.mtime_ns, stamp.ctime_ns, stamp.len, stamp.inode);
        self.settled && state(self) == state(now)
    }

    pub(super) fn revision(self) -> Revision {
        Revision {
            mtime_ns: self.mtime_ns,
            len: self.len,
        }
    }
}

#[cfg(unix)]
fn inode(meta: &Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    meta.ino()
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

/// Nanoseconds since 1970, negative before it.
pub(super) fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_a_stamp_older_than_the_clock_vouches() {
        let written = Stamp {
            mtime_ns: 10,
            ctime_ns: 10,
            len: 3,
            inode: 7,
            settled: false,
        };
        let settled = Stamp {
            settled: true,
            ..written
        };
        assert!(!written.vouches_for(&written));
        assert!(settled.vouches_for(&written));
        for other in [
            Stamp {
                mtime_ns: 11,
                ..settled
            },
            Stamp {
                ctime_ns: 11,
                ..settled
            },
            Stamp { len: 4, ..settled },
            Stamp {
                inode: 8,
                ..settled
            },
        ] {
            assert!(!settled.vouches_for(&other));
        }
    }

    #[test]
    fn times_before_1970_are_negative() {
        assert_eq!(nanoseconds(UNIX_EPOCH - Duration::from_nanos(3)), -3);
        assert_eq!(
            nanoseconds(UNIX_EPOCH + Duration::from_secs(1)),
            1_000_000_000
        );
    }
}
