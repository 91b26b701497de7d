//! What time is it? Only for what people read: nothing is computed from it.

use std::time::{SystemTime, UNIX_EPOCH};

/// This machine's clock, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}
