//! What went wrong with one text already?
//!
//! Some failures come again whenever the same is asked: a model that says nothing, a draft that the
//! server cannot check. They are counted by the text, so that the second or third is not tried for
//! ever. The counts are a hint that is lost with the process, and bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Texts that are remembered; with one more all are forgotten.
const MAX_TEXTS: usize = 4096;

#[derive(Default)]
pub(super) struct Strikes(Mutex<HashMap<[u8; 32], u32>>);

impl Strikes {
    /// How often it went wrong.
    pub(super) fn of(&self, text: &str) -> u32 {
        let strikes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        strikes.get(&key(text)).copied().unwrap_or(0)
    }

    /// Counts once more; how often it has been now.
    pub(super) fn add(&self, text: &str) -> u32 {
        let mut strikes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if strikes.len() >= MAX_TEXTS {
            strikes.clear();
        }
        let count = strikes.entry(key(text)).or_default();
        *count += 1;
        *count
    }

    /// Forgets a text with which all went well.
    pub(super) fn clear(&self, text: &str) {
        let mut strikes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        strikes.remove(&key(text));
    }
}

fn key(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strikes_are_counted_by_text_and_forgotten_where_all_goes_well() {
        let strikes = Strikes::default();
        assert_eq!(
            (strikes.add("a"), strikes.add("a"), strikes.add("b")),
            (1, 2, 1)
        );
        strikes.clear("a");
        assert_eq!((strikes.of("a"), strikes.of("b")), (0, 1));
    }
}
