//! Was this asked before? What calls find in a state directory, and leave for its next commit.

use std::hash::Hash;

use perennial_ask::{Outcome, TaskDigest};
use perennial_bank::ContextKey;
use perennial_rows::Value;
use perennial_views::Memo;
use perennial_views::memo::{RequestDigest, VectorDigest};
use redb::TableDefinition;

use super::format::{self, ANSWERS, OUTPUTS, StoredValue, VECTORS};
use super::kept::Kept;
use super::{Staged, State};

/// A lookup that fails finds nothing: the call is made again.
impl Memo for State {
    fn answer(&self, view: &str, context: &ContextKey, request: &RequestDigest) -> Option<Outcome> {
        let found = self.read(|txn| {
            let answers = txn.open_table(ANSWERS)?;
            let bytes = answers.get((view, context.as_str()))?;
            bytes
                .map(|bytes| format::decode_answer(bytes.value()))
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

    fn output(&self, task: &TaskDigest) -> Option<Value> {
        let decode = |bytes: &[u8]| {
            let output: Option<StoredValue> = format::decode("an output", bytes)?;
            Ok(output.map(Value::from).unwrap_or_default())
        };
        self.used(
            |staged| &mut staged.outputs,
            task,
            (OUTPUTS, task.0),
            decode,
        )
    }

    fn performed(&self, task: &TaskDigest, output: &Value) {
        self.staged().outputs.stage(task, output.clone());
    }

    fn output_released(&self, task: &TaskDigest) {
        self.staged().outputs.released(task);
    }

    fn vector(&self, text: &VectorDigest) -> Option<Vec<f32>> {
        self.used(
            |staged| &mut staged.vectors,
            text,
            (VECTORS, text.0),
            format::vector,
        )
    }

    fn embedded(&self, text: &VectorDigest, vector: &[f32]) {
        self.staged().vectors.stage(text, vector.to_vec());
    }

    fn vector_released(&self, text: &VectorDigest) {
        self.staged().vectors.released(text);
    }
}

impl State {
    /// Counts a use of a result, and finds it: staged, or at this place of a table.
    fn used<D: Copy + Eq + Ord + Hash, V: Clone>(
        &self,
        kept: impl FnOnce(&mut Staged) -> &mut Kept<D, V>,
        digest: &D,
        (table, key): (TableDefinition<'_, [u8; 32], &[u8]>, [u8; 32]),
        decode: impl FnOnce(&[u8]) -> Result<V, redb::Error>,
    ) -> Option<V> {
        let mut staged = self.staged();
        let kept = kept(&mut staged);
        if let Some(result) = kept.used(digest) {
            return Some(result);
        }
        if !kept.may_be_stored() {
            return None;
        }
        drop(staged);
        let found = self.read(|txn| {
            let table = txn.open_table(table)?;
            let bytes = table.get(key)?;
            bytes.map(|bytes| decode(bytes.value())).transpose()
        });
        found.ok().flatten()
    }
}
