//! What is known of texts that a server refused to embed?
//!
//! It is remembered by the text, so that each request brings a text nearer to its vector, also where
//! limits let one request in at a time. It is a hint that is lost with the process, and bounded.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::key;

/// Texts that are remembered; with more all are forgotten.
const MAX_TEXTS: usize = 4096;
/// A text of so few bytes is not cut any more.
const LEAST_BYTES: usize = 64;

#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<[u8; 32], Refused>>);

/// What is known of one text.
#[derive(Clone, Copy)]
struct Refused {
    /// Most texts of a request with it.
    together: usize,
    /// How often it is cut in halves.
    n_cuts: u32,
}

impl Default for Refused {
    fn default() -> Self {
        Self {
            together: usize::MAX,
            n_cuts: 0,
        }
    }
}

impl Refusals {
    /// What of a text is sent, and with how many texts at most.
    pub(super) fn sent<'t>(&self, text: &'t str) -> (&'t str, usize) {
        let refused = self.refused().get(&key(text)).copied();
        let Refused { together, n_cuts } = refused.unwrap_or_default();
        let cut = (0..n_cuts).try_fold(text, |text, _| beginning(text));
        (cut.unwrap_or(text), together)
    }

    /// Has some texts that were refused together go with fewer others.
    pub(super) fn split(&self, texts: &[&str]) {
        let together = texts.len().div_ceil(2);
        for text in texts {
            self.change(text, |refused| refused.together = together);
        }
    }

    /// Cuts a text that is too long; whether there is something left to cut.
    pub(super) fn cut(&self, text: &str) -> bool {
        let can_be_cut = beginning(self.sent(text).0).is_some();
        if can_be_cut {
            self.change(text, |refused| refused.n_cuts += 1);
        }
        can_be_cut
    }

    /// Notes that texts were taken: they may go with others again. How a text is cut stays.
    pub(super) fn taken(&self, texts: &[&str]) {
        let mut all = self.refused();
        if all.is_empty() {
            return;
        }
        for text in texts {
            let key = key(text);
            match all.get_mut(&key) {
                Some(refused) if refused.n_cuts > 0 => refused.together = usize::MAX,
                _ => drop(all.remove(&key)),
            }
        }
    }

    fn change(&self, text: &str, change: impl FnOnce(&mut Refused)) {
        let mut all = self.refused();
        if all.len() >= MAX_TEXTS {
            all.clear();
        }
        change(all.entry(key(text)).or_default());
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<[u8; 32], Refused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first half of a text, if it is not too short for that.
fn beginning(text: &str) -> Option<&str> {
    if text.len() < LEAST_BYTES {
        return None;
    }
    let mut end = text.len() / 2;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Some(&text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_not_for_ever() {
        let refusals = Refusals::default();
        let text = "é".repeat(101);
        assert_eq!(refusals.sent(&text), (text.as_str(), usize::MAX));
        assert!(refusals.cut(&text));
        assert_eq!(refusals.sent(&text).0, "é".repeat(50));
        assert!(refusals.cut(&text));
        assert_eq!(refusals.sent(&text).0, "é".repeat(25));
        assert!(!refusals.cut(&text));
        refusals.taken(&[&text]);
        assert_eq!(refusals.sent(&text), (&*"é".repeat(25), usize::MAX));
    }

    #[test]
    fn what_was_refused_together_goes_with_fewer_until_it_is_taken() {
        let refusals = Refusals::default();
        let together = |text| refusals.sent(text).1;
        refusals.split(&["a", "b", "c"]);
        refusals.split(&["a", "b"]);
        assert_eq!((together("a"), together("c")), (1, 2));
        refusals.taken(&["a", "x"]);
        assert_eq!((together("a"), together("b")), (usize::MAX, 1));
    }

    #[test]
    fn it_is_bounded() {
        let refusals = Refusals::default();
        for i in 0..5000 {
            let text = i.to_string();
            refusals.split(&[&text, "other"]);
        }
        assert!(refusals.refused().len() <= MAX_TEXTS);
    }
}
