//! Was this asked before? What calls find in a state directory, and leave for its next commit.

use perennial_ask::{Outcome, TaskDigest};
use perennial_bank::ContextKey;
use perennial_rows::Value;
use perennial_views::Memo;
use perennial_views::memo::{RequestDigest, VectorDigest};

use super::State;
use super::format::{self, ANSWERS, OUTPUTS, StoredAnswer, StoredValue, VECTORS};

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

    fn output(&self, task: &TaskDigest) -> Option<Value> {
        let mut staged = self.staged();
        if let Some(output) = staged.outputs.used(task) {
            return Some(output);
        }
        if !staged.outputs.may_be_stored() {
            return None;
        }
        drop(staged);
        let found = self.read(|txn| {
            let outputs = txn.open_table(OUTPUTS)?;
            let bytes = outputs.get(task.0)?;
            let decode = |bytes: &[u8]| format::decode::<Option<StoredValue>>("an output", bytes);
            bytes.map(|bytes| decode(bytes.value())).transpose()
        });
        let found: Option<Option<StoredValue>> = found.ok().flatten();
        found.map(|stored| stored.map(Value::from).unwrap_or_default())
    }

    fn performed(&self, task: &TaskDigest, output: &Value) {
        self.staged().outputs.stage(task, output.clone());
    }

    fn output_released(&self, task: &TaskDigest) {
        self.staged().outputs.released(task);
    }

    fn vector(&self, text: &VectorDigest) -> Option<Vec<f32>> {
        let mut staged = self.staged();
        if let Some(vector) = staged.vectors.used(text) {
            return Some(vector);
        }
        if !staged.vectors.may_be_stored() {
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
        self.staged().vectors.stage(text, vector.to_vec());
    }

    fn vector_released(&self, text: &VectorDigest) {
        self.staged().vectors.released(text);
    }
}
