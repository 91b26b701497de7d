//! What is said of a span: names, keys and numbers.

use opentelemetry::{Array, KeyValue, StringValue, Value};
use perennial_ask::Work;
use perennial_views::Epoch;

use super::views::EndedCall;
use crate::engine::{Delivered, EpochSummary, Refreshed, Stored, Taken};

const STREAM: &str = "perennial.stream";
const VIEW: &str = "perennial.view";
const SINK: &str = "perennial.sink";
const EPOCH: &str = "perennial.epoch";
const KEY: &str = "perennial.key";
const KEYS: &str = "perennial.keys";
const OFFSET: &str = "perennial.offset";
const ROWS: &str = "perennial.rows";
const FORWARDED: &str = "perennial.tokens.forwarded";
const REUSED: &str = "perennial.tokens.reused";
const FROM_SCRATCH: &str = "perennial.tokens.from_scratch";

fn count(name: &'static str, n: usize) -> KeyValue {
    KeyValue::new(name, i64::try_from(n).unwrap_or(i64::MAX))
}

fn number(name: &'static str, n: u64) -> KeyValue {
    KeyValue::new(name, i64::try_from(n).unwrap_or(i64::MAX))
}

fn text(name: &'static str, text: &str) -> KeyValue {
    KeyValue::new(name, text.to_owned())
}

/// A batch that was taken in.
pub(super) fn taken(taken: &Taken<'_>) -> Vec<KeyValue> {
    let keys = taken.keys.iter().map(|key| key.as_str().to_owned().into());
    let keys: Vec<StringValue> = keys.collect();
    let mut said = vec![
        text(STREAM, taken.stream),
        count("perennial.upserts", taken.n_upserts),
        count("perennial.deletes", taken.n_deletes),
        count("perennial.rejected", taken.n_rejected),
        KeyValue::new(KEYS, Value::Array(Array::String(keys))),
    ];
    said.extend(taken.offset.map(|at| KeyValue::new(OFFSET, at.to_string())));
    said
}

/// An epoch that is closed; without a number it changed nothing.
pub(super) fn closed(epoch: Option<Epoch>, n_batches: usize, n_changes: usize) -> Vec<KeyValue> {
    let mut said = vec![
        count("perennial.batches", n_batches),
        count(ROWS, n_changes),
    ];
    said.extend(epoch.map(|epoch| number(EPOCH, epoch)));
    said
}

/// An epoch of a view.
pub(super) fn epoch_of(view: &str, epoch: Epoch) -> Vec<KeyValue> {
    vec![text(VIEW, view), number(EPOCH, epoch)]
}

/// The same of one that was overtaken before it was complete.
pub(super) fn overtaken() -> KeyValue {
    KeyValue::new("perennial.overtaken", true)
}

/// The same when it is complete.
pub(super) fn completed(summary: &EpochSummary) -> Vec<KeyValue> {
    let rungs = &summary.rungs;
    let mut said = vec![
        count("perennial.answers.keep", rungs.keep),
        count("perennial.answers.skip", rungs.skip),
        count("perennial.answers.patch", rungs.patch),
        count("perennial.answers.verify", rungs.verify),
        count("perennial.answers.append", rungs.append),
        count("perennial.answers.rewrite", rungs.rewrite),
        count("perennial.answers.regenerate", rungs.regenerate),
        count("perennial.answers.failed", rungs.failed),
        count(FORWARDED, summary.work.n_forwarded()),
    ];
    if summary.n_rerun > 0 {
        said.push(count(FROM_SCRATCH, summary.n_rerun));
    }
    said
}

/// An answer.
pub(super) fn refreshed(refreshed: &Refreshed<'_>) -> Vec<KeyValue> {
    let mut said = epoch_of(refreshed.view, refreshed.epoch);
    said.push(text(KEY, refreshed.context.as_str()));
    match &refreshed.reached {
        Ok(reached) => {
            said.push(KeyValue::new("perennial.rung", reached.rung.to_string()));
            said.push(KeyValue::new("perennial.exact", reached.is_exact));
            said.extend(tokens(&reached.work));
        }
        Err(kind) => said.push(KeyValue::new("error.type", *kind)),
    }
    said
}

/// A row of a query that a model was asked about.
pub(super) fn performed(view: &str, work: Option<Work>) -> Vec<KeyValue> {
    let mut said = vec![text(VIEW, view)];
    said.extend(work.iter().flat_map(tokens));
    said
}

/// Tokens that were forwarded, what a run from nothing would have forwarded, and what was paid.
fn tokens(work: &Work) -> Vec<KeyValue> {
    let forwarded = work.n_forwarded();
    let mut said = vec![
        count(FORWARDED, forwarded),
        count(REUSED, work.n_from_scratch.saturating_sub(forwarded)),
        count(FROM_SCRATCH, work.n_from_scratch),
        count("perennial.tokens.encoded", work.n_encoded),
        count("perennial.tokens.prompt", work.n_prompt),
        count("perennial.tokens.draft", work.n_draft),
        count("perennial.tokens.decoded", work.n_decoded),
    ];
    if work.n_cached > 0 {
        said.push(count("perennial.tokens.cached", work.n_cached));
    }
    if let Some((amount, currency)) = work.cost.told() {
        said.push(KeyValue::new("perennial.cost", amount.shown()));
        said.push(KeyValue::new("perennial.currency", currency.to_string()));
    }
    said
}

/// A request to the server of a model, as HTTP is told by convention.
pub(super) fn called(call: &EndedCall) -> Vec<KeyValue> {
    let mut said = vec![
        KeyValue::new("http.request.method", "POST"),
        text("url.full", &call.url),
    ];
    let status = call.status.map(i64::from);
    said.extend(status.map(|status| KeyValue::new("http.response.status_code", status)));
    said
}

/// A transaction.
pub(super) fn stored(stored: &Stored<'_>) -> Vec<KeyValue> {
    let mut said = vec![
        number(EPOCH, stored.epoch),
        count(ROWS, stored.n_rows),
        count("perennial.answers", stored.n_answers),
        count("perennial.deliveries", stored.n_deliveries),
    ];
    said.extend(stored.view.map(|(view, _)| text(VIEW, view)));
    said
}

/// That subscribers are told.
pub(super) fn told(view: &str, epoch: Epoch, n_updates: usize) -> Vec<KeyValue> {
    let mut said = epoch_of(view, epoch);
    said.push(count("perennial.updates", n_updates));
    said
}

/// An attempt to deliver.
pub(super) fn delivered(delivered: &Delivered<'_>) -> Vec<KeyValue> {
    let mut said = epoch_of(delivered.view, delivered.epoch);
    said.push(text(SINK, delivered.sink));
    said.push(count(ROWS, delivered.n_rows));
    said
}
