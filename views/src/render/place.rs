//! Where do values stand in a tree that hangs on nothing but them?
//!
//! A place is the beginning of a digest: its first 4 bits say in which of the root's 16 slots it is,
//! the next 4 in which of that slot's, and so on.

use perennial_rows::Value;
use perennial_rows::encoding::Encoder;

/// Bits of a place that a level goes by.
const BITS: u32 = 4;
/// Slots of a node.
pub(super) const N_SLOTS: u64 = 1 << BITS;

/// The place of values; `what` says in which trees, and the version of these.
pub(super) fn place(values: &[Value], what: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = Encoder::new().values(values).digest(what);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The first place of the slot or node that a place is in, where these have so many digits.
pub(super) fn beginning(place: u64, n_digits: u32) -> u64 {
    match n_digits {
        0 => 0,
        n => place & (u64::MAX << (u64::BITS - BITS * n)),
    }
}

/// How many bits of a place are behind its slot in a node whose places begin with so many digits alike.
pub(super) fn n_behind(n_digits: u32) -> u32 {
    u64::BITS - BITS * (n_digits + 1)
}
