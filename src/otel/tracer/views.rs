//! What is remembered of a view: the epochs that it works on, and where spans of each belong.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Span as _, SpanContext};
use opentelemetry_sdk::trace::Span;
use perennial_ask::RemoteCall;
use perennial_bank::ContextKey;
use perennial_views::Epoch;

use super::{before, remember};

/// Requests of a view that are kept until their answers are there.
const MAX_CALLS: usize = 4_096;

/// What is remembered of a view.
#[derive(Default)]
pub(super) struct ViewSpans {
    /// Epochs that are not complete.
    open: BTreeMap<Epoch, Span>,
    /// Where spans of an epoch belong: of the newest, complete or not.
    places: BTreeMap<Epoch, SpanContext>,
    /// Requests whose answers are still to come.
    calls: BTreeMap<(Epoch, ContextKey), Vec<EndedCall>>,
    n_calls: usize,
}

/// A request to the server of a model.
pub(super) struct EndedCall {
    /// Where it went.
    pub(super) url: String,
    pub(super) status: Option<u16>,
    pub(super) is_ok: bool,
    pub(super) ended: SystemTime,
    elapsed: Duration,
}

impl EndedCall {
    pub(super) fn of(call: &RemoteCall<'_>, ended: SystemTime) -> Self {
        Self {
            url: format!("{}/{}", call.server, call.endpoint),
            status: call.status,
            is_ok: call.is_ok,
            ended,
            elapsed: call.elapsed,
        }
    }

    /// When it began.
    pub(super) fn began(&self) -> SystemTime {
        before(self.ended, self.elapsed)
    }
}

impl ViewSpans {
    /// It works on an epoch.
    pub(super) fn begin(&mut self, epoch: Epoch, span: Span) {
        remember(&mut self.places, epoch, span.span_context().clone());
        self.open.insert(epoch, span);
    }

    /// Where spans of an epoch belong.
    pub(super) fn at(&self, epoch: Epoch) -> Option<&SpanContext> {
        self.places.get(&epoch)
    }

    /// The same of the newest epoch.
    pub(super) fn newest(&self) -> Option<&SpanContext> {
        self.places.values().next_back()
    }

    /// The same of the newest epoch that is none after this one.
    pub(super) fn newest_upto(&self, epoch: Epoch) -> Option<&SpanContext> {
        let mut upto = self.places.range(..=epoch);
        upto.next_back().map(|(_, place)| place)
    }

    /// Keeps a request until its answer is there. Of very many the last are left out.
    pub(super) fn keep(&mut self, context: &ContextKey, epoch: Epoch, call: EndedCall) {
        if self.n_calls < MAX_CALLS {
            self.n_calls += 1;
            let of_answer = self.calls.entry((epoch, context.clone()));
            of_answer.or_default().push(call);
        }
    }

    /// The requests of an answer.
    pub(super) fn take_calls(&mut self, context: &ContextKey, epoch: Epoch) -> Vec<EndedCall> {
        // Nothing is copied for the answers of a model that has no server.
        if self.calls.is_empty() {
            return Vec::new();
        }
        let calls = self.calls.remove(&(epoch, context.clone()));
        let calls = calls.unwrap_or_default();
        self.n_calls -= calls.len();
        calls
    }

    /// An epoch is complete: returns what was open up to it. No answer comes of requests that were left.
    pub(super) fn complete(&mut self, epoch: Epoch) -> BTreeMap<Epoch, Span> {
        self.calls.retain(|(of, _), _| *of > epoch);
        self.n_calls = self.calls.values().map(Vec::len).sum();
        let later = self.open.split_off(&(epoch + 1));
        std::mem::replace(&mut self.open, later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> EndedCall {
        EndedCall {
            url: "http://localhost:8000/v1/chat/completions".to_owned(),
            status: Some(200),
            is_ok: true,
            ended: SystemTime::now(),
            elapsed: Duration::from_millis(5),
        }
    }

    #[test]
    fn requests_go_with_the_answer_of_their_epoch_and_are_bounded() {
        let (mut view, a) = (ViewSpans::default(), ContextKey::new("a"));
        view.keep(&a, 1, call());
        view.keep(&a, 2, call());
        view.keep(&a, 2, call());
        assert_eq!(view.take_calls(&a, 2).len(), 2);
        assert_eq!(view.take_calls(&a, 2).len(), 0);
        // The call of the first epoch was given up.
        assert!(view.complete(2).is_empty());
        assert_eq!((view.take_calls(&a, 1).len(), view.n_calls), (0, 0));
        for _ in 0..2 * MAX_CALLS {
            view.keep(&a, 3, call());
        }
        assert_eq!(view.take_calls(&a, 3).len(), MAX_CALLS);
        assert_eq!(view.n_calls, 0);
    }
}
