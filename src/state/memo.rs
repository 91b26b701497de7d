//! Was this asked before? What calls find in a state directory, and leave for its next commit.

use perennial_ask::Outcome;
use perennial_bank::ContextKey;
use perennial_views::Memo;
use perennial_views::memo::{RequestDigest, VectorDigest};

use super::State;
use super::format::{self, ANSWERS, StoredAnswer, VECTORS};

/// A lookup that fails finds nothing: the call is made again.
impl Memo for State {
    fn answer(&self, view: &str, context: &ContextKey, request: &RequestDigest) -> Option<Outcome> {
        let found = self.read(|txn| {
            let answers = txn.open_table(ANSWERS)?;
            let bytes = answers.get((view, context.as_str()))?;
            bytes
                .map(|bytes| format::decode::<StoredAnswer>("an answer", bytes.value()))
                .transpose()
        });
        let stored = found.ok()??;
        if stored.request != Some(request.0) {
            return None;
        }
        self.staged()
            .requests
            .insert((view.to_owned(), context.clone()), *request);
        stored.kept()
    }

    fn answered(&self, view: &str, context: &ContextKey, request: &RequestDigest, _: &Outcome) {
        self.staged()
            .requests
            .insert((view.to_owned(), context.clone()), *request);
    }

    fn vector(&self, text: &VectorDigest) -> Option<Vec<f32>> {
        let mut staged = self.staged();
        *staged.uses.entry(*text).or_default() += 1;
        staged.unused.remove(text);
        if let Some(vector) = staged.vectors.get(text) {
            return Some(vector.clone());
        }
        if staged.is_without_vectors {
            return None;
        }
        drop(staged);
        let found = self.read(|txn| {
            let vectors = txn.open_table(VECTORS)?;
            let bytes = vectors.get(text.0)?;
            bytes.map(|bytes| format::vector(bytes.value())).transpose()
        });
        found.ok().flatten()
    }

    fn embedded(&self, text: &VectorDigest, vector: &[f32]) {
        self.staged().vectors.insert(*text, vector.to_vec());
    }

    fn released(&self, text: &VectorDigest) {
        let mut staged = self.staged();
        if let Some(uses) = staged.uses.get_mut(text) {
            *uses -= 1;
            if *uses == 0 {
                staged.uses.remove(text);
                staged.vectors.remove(text);
                staged.unused.insert(*text);
            }
        }
    }
}
