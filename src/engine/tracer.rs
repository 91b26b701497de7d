//! Who hears what becomes of a change, from where it comes in to where it goes?
//!
//! ```text
//! taken -> closed -> begun -> refreshed* -> stored -> told -> completed
//!          (epoch)   (view)     called*               delivered, when a sink has it
//! ```
//! A [`Tracer`] is told at each of these places, on the engine's own threads. What it is told are names,
//! keys, counts and times: no text of a document, a question or an answer. An engine without one looks
//! whether there is one, and gathers nothing.

use std::time::{Duration, Instant};

use perennial_ask::{CallError, RemoteCall, Rung, Work};
use perennial_bank::ContextKey;
use perennial_connectors::{Offset, TraceParent};
use perennial_rows::Key;
use perennial_views::{Epoch, Refresh};

use super::update::EpochSummary;

/// Keys of a batch that are named.
pub const MAX_NAMED_KEYS: usize = 16;

/// Hears what becomes of changes.
///
/// # Contract
/// All return at once, and ask nothing of the engine: they are called by the thread that keeps every
/// view, those that call models and those of sinks. What breaks this holds the engine up.
pub trait Tracer: Send + Sync + 'static {
    /// Changes of one stream were taken in; they wait for the next epoch.
    fn taken(&self, taken: &Taken<'_>);

    /// What was taken in since the last time is an epoch with so many changed rows. None where it changes
    /// nothing, or nothing was taken in.
    fn closed(&self, epoch: Option<Epoch>, n_changes: usize);

    /// A view begins to work on an epoch.
    fn begun(&self, begun: &Begun<'_>);

    /// The server of a model was asked for an answer. What comes of that is told by `refreshed`.
    fn called(&self, view: &str, context: &ContextKey, epoch: Epoch, call: &RemoteCall<'_>);

    /// An answer was refreshed.
    fn refreshed(&self, refreshed: &Refreshed<'_>);

    /// A model was asked about a row of a query; nothing came of it where there is no work.
    fn performed(&self, view: &str, work: Option<Work>, elapsed: Duration);

    /// Something was committed to the state directory.
    fn stored(&self, stored: &Stored<'_>);

    /// The subscribers of a view were told of an epoch.
    fn told(&self, view: &str, epoch: Epoch, n_updates: usize, began: Instant);

    /// An epoch of a view is complete, and those before it that are not told of.
    fn completed(&self, summary: &EpochSummary);

    /// A sink was given an epoch of its view.
    fn delivered(&self, delivered: &Delivered<'_>);

    /// A view is gone, whatever it was at work on.
    fn dropped(&self, view: &str);

    /// What became of the spans so far.
    fn spans(&self) -> SpanCounts;
}

/// Changes that were taken in together.
#[derive(Clone, Copy, Debug)]
pub struct Taken<'a> {
    /// Of which stream.
    pub stream: &'a str,
    /// Of which trace they are, where whoever sent them says so.
    pub parent: Option<TraceParent>,
    /// Rows that are new or replaced.
    pub n_upserts: usize,
    /// Rows that are gone.
    pub n_deletes: usize,
    /// Records that were refused.
    pub n_rejected: usize,
    /// The keys of the first [`MAX_NAMED_KEYS`] changes.
    pub keys: &'a [Key],
    /// Where the source would go on behind them.
    pub offset: Option<&'a Offset>,
    /// When taking them in began.
    pub began: Instant,
}

/// An epoch of a view at its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Begun<'a> {
    /// The view.
    pub view: &'a str,
    /// The epoch.
    pub epoch: Epoch,
    /// The epochs up to this one that changed something for the view, ascending. Of very many, the
    /// first.
    pub causes: &'a [Epoch],
    /// The views that it reads.
    pub reads: &'a [&'a str],
}

/// An answer that was refreshed.
#[derive(Clone, Copy, Debug)]
pub struct Refreshed<'a> {
    /// The view.
    pub view: &'a str,
    /// The context that was answered.
    pub context: &'a ContextKey,
    /// The epoch that it was answered for.
    pub epoch: Epoch,
    /// How it was reached, or the kind of what went wrong.
    pub reached: Result<Reached, &'static str>,
    /// From the start of the call to its end, which is now.
    pub elapsed: Duration,
}

/// How an answer was reached.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    /// The rung that served it.
    pub rung: Rung,
    /// What it cost.
    pub work: Work,
    /// Whether a run from scratch gives the same.
    pub is_exact: bool,
}

impl<'a> Refreshed<'a> {
    /// A refresh without its texts.
    pub(super) fn of(refresh: &'a Refresh) -> Self {
        let outcome = refresh.outcome.as_ref();
        let reached = outcome.map(|outcome| Reached {
            rung: outcome.rung,
            work: outcome.work,
            is_exact: outcome.is_exact,
        });
        Self {
            view: &refresh.view,
            context: &refresh.request.context,
            epoch: refresh.epoch,
            reached: reached.map_err(kind),
            elapsed: refresh.elapsed,
        }
    }
}

/// Of which kind an error is: what it says may repeat what a model was asked.
fn kind(error: &CallError) -> &'static str {
    match error {
        CallError::DoesNotFit { .. } => "does_not_fit",
        CallError::Model { .. } => "model",
        CallError::Lost => "lost",
        CallError::NoDocuments => "no_documents",
        CallError::NothingFits { .. } => "nothing_fits",
        _ => "other",
    }
}

/// One transaction of the state directory.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The epoch that it is stored as.
    pub epoch: Epoch,
    /// The view whose answers are stored with it, and the epoch that these reflect.
    pub view: Option<(&'a str, Epoch)>,
    /// Changed rows.
    pub n_rows: usize,
    /// Answers that are new, changed or gone.
    pub n_answers: usize,
    /// Deliveries that are owed to sinks.
    pub n_deliveries: usize,
    /// Whether it succeeded.
    pub is_ok: bool,
    /// When it began.
    pub began: Instant,
}

/// One attempt to deliver an epoch.
#[derive(Clone, Copy, Debug)]
pub struct Delivered<'a> {
    /// The sink.
    pub sink: &'a str,
    /// Its view.
    pub view: &'a str,
    /// The epoch.
    pub epoch: Epoch,
    /// Rows of it.
    pub n_rows: usize,
    /// Whether it was taken; else it is tried again.
    pub is_ok: bool,
    /// When the attempt began.
    pub began: Instant,
}

/// What became of spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// Spans that a collector has taken.
    pub n_sent: u64,
    /// Spans that are lost: there was no room for them, or no collector took them.
    pub n_dropped: u64,
    /// Spans that wait to be sent.
    pub n_waiting: usize,
}

/// The keys that are named of a batch.
pub(super) fn named<'a>(keys: impl Iterator<Item = &'a Key>) -> Vec<Key> {
    keys.take(MAX_NAMED_KEYS).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_error_only_its_kind_is_told() {
        let error = CallError::Model {
            reason: "the prompt `a secret` is too long".to_owned(),
        };
        assert_eq!(kind(&error), "model");
    }
}
