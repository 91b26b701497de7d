//! Where does a row stand in its group, and which rows are read together?
//!
//! A group's rows have places in a tree ([`place`](crate::render::place)). A node's slots are halved until a half is small
//! enough for one call: that is a leaf, between one slot and all 16. So a leaf that overflows becomes
//! two, at whatever size of its group. A slot that alone is too large is a node of the next level.

use perennial_rows::{Tuple, Value};
use serde::{Deserialize, Serialize};

use crate::render::place::{N_SLOTS, beginning, n_behind, place};

/// Levels of a tree. Its slots then have 32 bits: of a million rows a hundred pairs still share one.
pub(super) const LEVELS: u32 = 8;
/// What a place is the digest of, and its version: another when a tree stands otherwise.
const PLACE_OF: &str = "perennial 1 place in a group";
/// Bytes of a value that is no text, and of what stands around each value.
const N_AROUND: usize = 24;

/// How many members, and how many bytes of them.
pub(super) type Size = (isize, isize);

/// What one call may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::render) struct Limits {
    /// Rows.
    pub(in crate::render) members: usize,
    /// Bytes of all of them; a row alone may have more.
    pub(in crate::render) bytes: usize,
}

/// A row of a group, as it is asked about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) place: u64,
    n_bytes: u32,
    pub(super) values: Tuple,
}

/// Where the members of a slot are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Home {
    /// In the leaf that begins with this place.
    Leaf(u64),
    /// Each in a leaf of its own: there is no further level.
    Alone,
    /// In leaves of further levels.
    Below,
}

impl Member {
    pub(super) fn new(values: Tuple) -> Self {
        let n_bytes = values.iter().map(|value| match value {
            // A long text is several passages, each with a heading.
            Value::Text(text) | Value::Json(text) => text.len() + text.len() / 16 + N_AROUND,
            _ => 2 * N_AROUND,
        });
        Self {
            place: place(&values, PLACE_OF),
            n_bytes: u32::try_from(n_bytes.sum::<usize>()).unwrap_or(u32::MAX),
            values,
        }
    }

    pub(super) fn size(&self) -> Size {
        (1, self.n_bytes as isize)
    }
}

impl Limits {
    fn fits(self, (n_members, n_bytes): Size) -> bool {
        let is_within = |n: isize, most: usize| usize::try_from(n).is_ok_and(|n| n <= most);
        n_members == 1 || (is_within(n_members, self.members) && is_within(n_bytes, self.bytes))
    }
}

/// Where the members of a node's slots are asked about, given the slots that have any.
pub(super) fn homes(slots: &[(u64, Size)], level: u32, limits: Limits) -> Vec<(u64, Home)> {
    let mut homes = Vec::with_capacity(slots.len());
    halve(slots, 0..N_SLOTS, level, limits, &mut homes);
    homes
}

fn halve(
    slots: &[(u64, Size)],
    range: std::ops::Range<u64>,
    level: u32,
    limits: Limits,
    homes: &mut Vec<(u64, Home)>,
) {
    let number = |slot: u64| (slot >> n_behind(level)) % N_SLOTS;
    let sum = slots.iter().fold((0, 0), |sum: Size, (_, size)| {
        (sum.0 + size.0, sum.1.saturating_add(size.1))
    });
    let Some((first, _)) = slots.first() else {
        return;
    };
    if limits.fits(sum) {
        // By where the range begins, not by which of its slots have members.
        let begin = beginning(*first, level) | (range.start << n_behind(level));
        homes.extend(slots.iter().map(|(slot, _)| (*slot, Home::Leaf(begin))));
    } else if range.end - range.start == 1 {
        let home = match level + 1 == LEVELS {
            true => Home::Alone,
            false => Home::Below,
        };
        homes.extend(slots.iter().map(|(slot, _)| (*slot, home)));
    } else {
        let middle = range.start.midpoint(range.end);
        let at = slots.partition_point(|(slot, _)| number(*slot) < middle);
        halve(&slots[..at], range.start..middle, level, limits, homes);
        halve(&slots[at..], middle..range.end, level, limits, homes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        members: 4,
        bytes: 100,
    };

    fn slots(level: u32, sizes: &[(u64, Size)]) -> Vec<(u64, Size)> {
        let shift = n_behind(level);
        sizes
            .iter()
            .map(|(at, size)| (at << shift, *size))
            .collect()
    }

    #[test]
    fn slots_are_read_together_while_they_are_small() {
        let whole = slots(0, &[(3, (2, 50)), (9, (2, 50))]);
        let all = homes(&whole, 0, LIMITS);
        assert_eq!(
            all,
            [(whole[0].0, Home::Leaf(0)), (whole[1].0, Home::Leaf(0))]
        );
        // One more, in members or in bytes, and there are two leaves.
        for more in [(3, 50), (2, 51)] {
            let split = slots(0, &[(3, (2, 50)), (9, more)]);
            let two = homes(&split, 0, LIMITS);
            assert_eq!(two[0].1, Home::Leaf(0));
            assert_eq!(two[1].1, Home::Leaf(8 << 60));
        }
    }

    #[test]
    fn a_slot_that_is_too_large_goes_below_and_at_the_last_level_each_row_stands_alone() {
        for (level, home) in [(0, Home::Below), (LEVELS - 1, Home::Alone)] {
            let large = slots(level, &[(5, (5, 10)), (6, (1, 10))]);
            let found = homes(&large, level, LIMITS);
            let leaf = Home::Leaf(large[1].0);
            assert_eq!(found, [(large[0].0, home), (large[1].0, leaf)]);
        }
    }

    #[test]
    fn a_row_that_is_too_large_is_a_leaf_all_the_same() {
        let large = slots(2, &[(5, (1, 1000)), (6, (1, 10))]);
        let found = homes(&large, 2, LIMITS);
        assert!(found.iter().all(|(_, home)| matches!(home, Home::Leaf(_))));
        assert_ne!(found[0].1, found[1].1);
    }

    /// Places decide what is asked: where they change, all that was said of groups is asked anew.
    #[test]
    fn a_place_is_the_same_in_every_release() {
        let member = Member::new(["x".into(), 1i64.into()].into());
        assert_eq!(format!("{:016x}", member.place), "ffdc00b823555de3");
        assert_eq!(beginning(member.place, 0), 0);
        assert_eq!(
            format!("{:016x}", beginning(member.place, 2)),
            "ff00000000000000"
        );
    }
}
