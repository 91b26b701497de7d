//! Where may a test let the process die?
//!
//! A *fault point* is a named place between two steps that a crash must not come between
//! unnoticed. At most one is armed, once, by whoever starts the process; the process then aborts
//! when it gets there for the nth time: no destructor runs, no buffer is flushed. Which point is
//! armed is a fact of the process, as its end is, so it is kept in one cell and not passed down.
//! Nothing in the environment arms one. Unarmed, a point costs one load and a branch.
//!
//! Crates name their points with [`fault_points!`](crate::fault_points), so that none can be
//! reached which is not listed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A named place where the process may be made to abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FaultPoint(&'static str);

/// The point that is armed, and how often it may still be passed.
struct Armed {
    point: FaultPoint,
    left: AtomicU64,
}

static ARMED: OnceLock<Armed> = OnceLock::new();

impl FaultPoint {
    /// A point of this name; [`fault_points!`](crate::fault_points) lists it as well.
    pub const fn named(name: &'static str) -> Self {
        Self(name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// From here on the process aborts when it is here for the `nth` time, counted from 1.
    /// Returns false, and does nothing, if a point is armed already.
    pub fn arm(self, nth: u64) -> bool {
        let left = AtomicU64::new(nth.max(1));
        ARMED.set(Armed { point: self, left }).is_ok()
    }

    /// Aborts the process if this point is armed and its time has come.
    #[inline]
    pub fn reach(self) {
        if let Some(armed) = ARMED.get() {
            armed.count(self);
        }
    }
}

impl Armed {
    #[cold]
    fn count(&self, reached: FaultPoint) {
        if self.point == reached && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
    }
}

/// Declares fault points and a slice of all of them, `ALL`.
#[macro_export]
macro_rules! fault_points {
    ($($(#[$doc:meta])* $point:ident = $name:literal;)*) => {
        $($(#[$doc])* pub(crate) const $point: $crate::FaultPoint = $crate::FaultPoint::named($name);)*
        /// Every point that is declared here.
        pub(crate) const ALL: &[$crate::FaultPoint] = &[$($point),*];
    };
}
