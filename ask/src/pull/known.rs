//! What was made of texts before, so that it is made once.

use std::collections::HashMap;
use std::hash::Hash;

/// Values by key, of which those that nobody asked for lately go. When the younger half is full, the
/// older one goes.
pub(super) struct Known<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// Most keys of a half.
    capacity: usize,
}

impl<K: Hash + Eq + Copy, V: Clone> Known<K, V> {
    /// Of so many keys at least, and twice as many at most.
    pub fn new(capacity: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            capacity,
        }
    }

    /// What is known under a key, which stays young.
    pub fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.put(*key, value.clone());
        Some(value)
    }

    /// Keeps a value.
    pub fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_what_is_not_goes() {
        let mut known = Known::new(2);
        for key in 0..7 {
            known.put(key, key * 10);
            assert_eq!(known.get(&0), Some(0));
        }
        assert_eq!(known.get(&6), Some(60));
        assert_eq!(known.get(&1), None);
    }
}
