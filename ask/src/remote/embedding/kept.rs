//! What did calls get that failed before they had all?
//!
//! It is lost with the process, and bounded: it spares requests, and is no cache.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Outcome, key};

/// Texts that are remembered; with more all are forgotten.
const MAX_TEXTS: usize = 4096;

#[derive(Default)]
pub(super) struct Kept(Mutex<HashMap<[u8; 32], Outcome>>);

impl Kept {
    /// What is known of each of some texts; it is known no more.
    pub(super) fn take(&self, texts: &[&str]) -> Vec<Option<Outcome>> {
        let mut kept = self.kept();
        if kept.is_empty() {
            return vec![None; texts.len()];
        }
        texts.iter().map(|text| kept.remove(&key(text))).collect()
    }

    /// Keeps what is known of each.
    pub(super) fn put(&self, texts: &[&str], outcomes: Vec<Option<Outcome>>) {
        let mut kept = self.kept();
        if kept.len() + texts.len() > MAX_TEXTS {
            kept.clear();
        }
        let known = texts.iter().zip(outcomes).take(MAX_TEXTS);
        kept.extend(known.filter_map(|(text, outcome)| Some((key(text), outcome?))));
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<[u8; 32], Outcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_taken_once() {
        let kept = Kept::default();
        let vector = |x: f32| Some(Ok(vec![x]));
        kept.put(
            &["a", "b", "c"],
            vec![vector(1.0), None, Some(Err("no".to_owned()))],
        );
        let taken = kept.take(&["c", "b", "a", "a"]);
        assert_eq!(taken, [Some(Err("no".to_owned())), None, vector(1.0), None]);
        assert_eq!(kept.take(&["a", "c"]), [None, None]);
    }

    #[test]
    fn it_is_bounded() {
        let kept = Kept::default();
        let texts: Vec<String> = (0..3000).map(|i| i.to_string()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        kept.put(&texts[..1500], vec![Some(Ok(vec![1.0])); 1500]);
        kept.put(&texts, vec![Some(Ok(vec![2.0])); 3000]);
        assert!(kept.kept().len() <= MAX_TEXTS);
        assert_eq!(kept.take(&texts[..1]), [Some(Ok(vec![2.0]))]);
    }
}
