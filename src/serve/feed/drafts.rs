//! How far are answers, and what is new of the words of those in the making?

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::engine::Progress;

/// Answers in the making whose words are remembered for a reader, to tell what is new of them.
const MAX_DRAFTS: usize = 256;

/// What one subscriber was told of answers in the making, by context.
#[derive(Default)]
pub(super) struct Drafts(HashMap<String, Arc<str>>);

impl Drafts {
    /// What is told of a word of progress; none where it says nothing new.
    pub(super) fn told(&mut self, progress: &Progress) -> Option<Value> {
        Some(match progress {
            Progress::Writing { context, text, .. } => {
                if self.0.len() >= MAX_DRAFTS {
                    self.0.clear();
                }
                let told = self.0.insert(context.to_string(), text.as_str().into());
                if told.as_ref().is_some_and(|told| **told == **text) {
                    return None;
                }
                let at = n_shared(told.as_deref().unwrap_or_default(), text);
                json!({ "stage": "writing", "key": context, "at": at, "text": text[at..] })
            }
            Progress::Encoding {
                context,
                done,
                total,
                ..
            } => json!({ "stage": "encoding", "key": context, "done": done, "total": total }),
            Progress::Embedding { done, total, .. } => {
                json!({ "stage": "embedding", "done": done, "total": total })
            }
            Progress::Asking { done, total, .. } => {
                json!({ "stage": "asking", "done": done, "total": total })
            }
        })
    }

    /// What was in the making is made, or counts no more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// The bytes with which both texts begin, in whole characters.
fn n_shared(old: &str, new: &str) -> usize {
    let same = old.bytes().zip(new.bytes()).take_while(|(a, b)| a == b);
    let mut n = same.count();
    while !new.is_char_boundary(n) {
        n -= 1;
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_texts_share_ends_between_characters() {
        assert_eq!(n_shared("", "ab"), 0);
        assert_eq!(n_shared("ab", "abc"), 2);
        assert_eq!(n_shared("aé", "aè"), 1);
        assert_eq!(n_shared("abc", "ab"), 2);
    }
}
