//! What would a run from nothing cost?
//!
//! A rerun answers the same contexts over the same documents by a fresh engine. What contexts have in
//! common it encodes once, as any run does: so its cost is that of every fragment that the view's
//! layouts need, once (of a model without fragments, of every layout), and of each context its question and
//! its answer. That is what a refresh is compared with; a run that shares nothing is one that nobody would make.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use perennial_bank::ContextKey;

/// The tokens that a rerun of one view forwards.
#[derive(Default)]
pub struct Rerun {
    /// Tokens of the view's instruction, which is read once for each layout.
    n_instruction: usize,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    /// Tokens of all fragments; below zero only while workers have heard of different changes.
    n_of_fragments: i64,
    /// Tokens of question and answer, by context, and their sum.
    own: HashMap<ContextKey, usize>,
    n_own: usize,
}

impl Rerun {
    /// Of a view whose instruction has so many tokens that its questions share.
    pub fn of(n_instruction: usize) -> Self {
        Self {
            n_instruction,
            ..Self::default()
        }
    }

    /// Tokens of the instruction that its questions share.
    pub fn n_instruction(&self) -> usize {
        self.n_instruction
    }

    /// Notes that a layout came, or went: the instruction stands behind it. Of a model that has no fragments,
    /// all of it, `n_plain` tokens, is read for each layout.
    pub(crate) fn add_layout(&self, n_plain: usize, diff: isize) {
        self.add(n_plain + self.n_instruction, diff);
    }

    /// Notes that a fragment of so many tokens came, or went.
    pub(crate) fn add(&self, n_tokens: usize, diff: isize) {
        self.lock().n_of_fragments += n_tokens as i64 * diff as i64;
    }

    /// Notes how many tokens a context has to itself: its question and its answer.
    pub fn note(&self, context: &ContextKey, n_own: usize) {
        let mut counted = self.lock();
        let before = counted.own.insert(context.clone(), n_own);
        counted.n_own = counted.n_own + n_own - before.unwrap_or_default();
    }

    /// Notes that a context is gone.
    pub fn forget(&self, context: &ContextKey) {
        let mut counted = self.lock();
        let before = counted.own.remove(context);
        counted.n_own -= before.unwrap_or_default();
    }

    /// Tokens that a rerun forwards.
    pub fn n_tokens(&self) -> usize {
        let counted = self.lock();
        usize::try_from(counted.n_of_fragments).unwrap_or_default() + counted.n_own
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_counts_once_and_what_is_gone_not_at_all() {
        let rerun = Rerun::default();
        let [a, b] = ["a", "b"].map(ContextKey::new);
        rerun.add(100, 1);
        rerun.note(&a, 10);
        rerun.note(&b, 20);
        rerun.note(&b, 25);
        assert_eq!(rerun.n_tokens(), 135);
        rerun.forget(&a);
        rerun.forget(&a);
        rerun.add(100, -1);
        rerun.add(40, 1);
        assert_eq!(rerun.n_tokens(), 65);
        let with_instruction = Rerun::of(7);
        with_instruction.add_layout(0, 1);
        with_instruction.note(&a, 10);
        with_instruction.note(&b, 20);
        assert_eq!(with_instruction.n_tokens(), 37);
        with_instruction.add_layout(50, 1);
        with_instruction.add_layout(0, -1);
        assert_eq!(with_instruction.n_tokens(), 87);
    }
}
