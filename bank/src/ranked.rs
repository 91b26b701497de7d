//! Which of the fragments that are kept gives way first?
//!
//! That of the lowest priority: a clock that rises with all that gave way, plus uses times cost a byte
//! (greedy-dual size frequency, Cherkasova 1998). So what is used often stays longer, and what was used often
//! once and never since goes in the end.

use std::collections::{BTreeSet, HashMap};

use crate::id::FragmentId;

/// One that is kept.
pub(crate) struct Ranked<T> {
    /// What is kept of the fragment.
    pub value: T,
    /// Its bytes.
    pub n_bytes: usize,
    /// Tokens forwarded to encode the fragment again, conditioning included.
    pub cost_tokens: usize,
    /// How often it was used, here and where it was before.
    pub n_uses: u32,
    priority: f64,
}

/// Fragments by id, and in the order in which they give way.
pub(crate) struct Ranking<T> {
    entries: HashMap<FragmentId, Ranked<T>>,
    /// Ids by ascending priority (as ordered bits), the next to give way first.
    by_priority: BTreeSet<(u64, FragmentId)>,
    clock: f64,
    n_bytes: usize,
}

impl<T> Default for Ranking<T> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            by_priority: BTreeSet::new(),
            clock: 0.0,
            n_bytes: 0,
        }
    }
}

impl<T> Ranking<T> {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    pub fn contains(&self, id: &FragmentId) -> bool {
        self.entries.contains_key(id)
    }

    /// One that is kept; not a use.
    pub fn get(&self, id: &FragmentId) -> Option<&T> {
        self.entries.get(id).map(|entry| &entry.value)
    }

    /// One that is kept, used once more.
    pub fn take_up(&mut self, id: &FragmentId) -> Option<&T> {
        let entry = self.entries.get_mut(id)?;
        self.by_priority.remove(&(entry.priority.to_bits(), *id));
        entry.n_uses = entry.n_uses.saturating_add(1);
        entry.priority = priority(self.clock, entry);
        self.by_priority.insert((entry.priority.to_bits(), *id));
        Some(&entry.value)
    }

    /// Keeps one more, which was used so often. Under an id that is kept already nothing changes.
    pub fn insert(
        &mut self,
        id: FragmentId,
        value: T,
        n_bytes: usize,
        cost_tokens: usize,
        n_uses: u32,
    ) {
        if self.contains(&id) {
            return;
        }
        let mut entry = Ranked {
            value,
            n_bytes,
            cost_tokens,
            n_uses,
            priority: 0.0,
        };
        entry.priority = priority(self.clock, &entry);
        self.by_priority.insert((entry.priority.to_bits(), id));
        self.n_bytes += n_bytes;
        self.entries.insert(id, entry);
    }

    pub fn remove(&mut self, id: &FragmentId) -> Option<Ranked<T>> {
        let entry = self.entries.remove(id)?;
        self.by_priority.remove(&(entry.priority.to_bits(), *id));
        self.n_bytes -= entry.n_bytes;
        Some(entry)
    }

    /// Takes out the one that gives way first.
    pub fn pop(&mut self) -> Option<(FragmentId, Ranked<T>)> {
        let (bits, id) = *self.by_priority.first()?;
        self.clock = f64::from_bits(bits);
        Some((id, self.remove(&id)?))
    }

    /// Keeps those only of which this holds.
    pub fn retain(&mut self, is_kept: impl Fn(&FragmentId) -> bool) {
        let ids = self.entries.keys().filter(|id| !is_kept(id));
        for id in ids.copied().collect::<Vec<_>>() {
            self.remove(&id);
        }
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&FragmentId, &Ranked<T>)> {
        self.entries.iter()
    }
}

/// Non-negative and finite, so that the order of the bits is the order of the numbers.
fn priority<T>(clock: f64, entry: &Ranked<T>) -> f64 {
    let n_bytes = entry.n_bytes.max(1) as f64;
    clock + f64::from(entry.n_uses) * entry.cost_tokens as f64 / n_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> FragmentId {
        FragmentId::from_bytes([n; 32])
    }

    #[test]
    fn what_is_used_often_stays_longer_but_not_for_ever() {
        let mut ranking = Ranking::default();
        for n in 0..3 {
            ranking.insert(id(n), n, 10, 10, 1);
        }
        for _ in 0..3 {
            assert_eq!(ranking.take_up(&id(0)), Some(&0));
        }
        assert_eq!(ranking.pop().map(|(_, entry)| entry.value), Some(1));
        assert_eq!(ranking.pop().map(|(_, entry)| entry.value), Some(2));
        assert_eq!((ranking.len(), ranking.n_bytes()), (1, 10));
        // Each that gives way raises what others begin with.
        let mut n_later = 0;
        for n in 3.. {
            ranking.insert(id(n), n, 10, 10, 1);
            ranking.insert(id(n + 100), n, 10, 10, 1);
            let gone = ranking.pop().map(|(_, entry)| entry.value);
            n_later += 1;
            if gone == Some(0) || n_later > 20 {
                break;
            }
        }
        assert!((2..=20).contains(&n_later), "{n_later}");
    }

    #[test]
    fn what_costs_more_a_byte_stays_longer_and_uses_before_count() {
        let mut ranking = Ranking::default();
        ranking.insert(id(1), "dear", 10, 30, 1);
        ranking.insert(id(2), "used", 10, 10, 5);
        ranking.insert(id(3), "large", 100, 30, 1);
        // What is there already stays as it is.
        ranking.insert(id(3), "other", 1, 30, 100);
        let gone = std::iter::from_fn(|| ranking.pop()).map(|(_, entry)| entry.value);
        assert_eq!(gone.collect::<Vec<_>>(), ["large", "dear", "used"]);
        assert_eq!(ranking.n_bytes(), 0);
    }
}
