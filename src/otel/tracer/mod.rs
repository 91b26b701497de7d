//! Which spans does a change leave, and which is whose parent?
//!
//! # Invariants
//! - What is remembered is bounded: of epochs, and of each view, the newest; of requests to a model's
//!   server those whose answer is still to come.
//! - Under the lock nothing waits: a span that ends finds room, or is dropped.

mod attributes;
mod views;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags,
    TraceId, TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use perennial_ask::{RemoteCall, Work};
use perennial_bank::ContextKey;
use perennial_connectors::TraceParent;
use perennial_views::Epoch;

use super::queue::Counts;
use crate::engine::{Begun, Delivered, EpochSummary, Refreshed, SpanCounts, Stored, Taken, Tracer};
use attributes as of;
use views::{EndedCall, ViewSpans};

/// Epochs that are remembered, of the engine and of each view: as many as a sink may be owed, and more.
const MAX_REMEMBERED: usize = 1_024;

/// Makes spans of what one engine tells.
pub(super) struct EngineTracer {
    tracer: SdkTracer,
    counts: Arc<Counts>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The epoch that is not closed, once something was taken in for it.
    filling: Option<Filling>,
    /// Closed epochs.
    epochs: BTreeMap<Epoch, SpanContext>,
    views: HashMap<String, ViewSpans>,
}

/// An epoch that is not closed.
struct Filling {
    span: Span,
    n_batches: usize,
}

/// A span that is to be.
struct Draft {
    name: String,
    kind: SpanKind,
    began: SystemTime,
    attributes: Vec<KeyValue>,
    links: Vec<SpanContext>,
}

impl Draft {
    fn of(name: impl Into<String>, began: SystemTime) -> Self {
        Self {
            name: name.into(),
            kind: SpanKind::Internal,
            began,
            attributes: Vec::new(),
            links: Vec::new(),
        }
    }
}

impl EngineTracer {
    pub(super) fn new(tracer: SdkTracer, counts: Arc<Counts>) -> Self {
        Self {
            tracer,
            counts,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a span; one without a parent begins a trace.
    fn begin(&self, draft: Draft, parent: Option<&SpanContext>) -> Span {
        let context = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent.clone()),
            None => Context::new(),
        };
        let links = draft.links.into_iter().map(Link::with_context).collect();
        let builder = self
            .tracer
            .span_builder(draft.name)
            .with_kind(draft.kind)
            .with_start_time(draft.began)
            .with_attributes(draft.attributes)
            .with_links(links);
        self.tracer.build_with_context(builder, &context)
    }

    /// A span of something that ends now.
    fn end(&self, draft: Draft, parent: Option<&SpanContext>, is_ok: bool) {
        let mut span = self.begin(draft, parent);
        if !is_ok {
            // Without a word: reasons may repeat what was sent.
            span.set_status(Status::error(""));
        }
        span.end();
    }

    /// Where an epoch of a view is traced.
    fn place(&self, view: &str, epoch: Epoch) -> Option<SpanContext> {
        let state = self.state();
        state.views.get(view)?.at(epoch).cloned()
    }
}

impl Tracer for EngineTracer {
    fn taken(&self, taken: &Taken<'_>) {
        let began = at(taken.began);
        let draft = Draft {
            kind: SpanKind::Consumer,
            attributes: of::taken(taken),
            ..Draft::of(format!("take {}", taken.stream), began)
        };
        let mut state = self.state();
        // One that is not recorded says nothing: who comes next may begin one that is.
        let filling = state.filling.take();
        let filling = filling.filter(|filling| filling.span.span_context().is_sampled());
        let epoch = |parent| self.begin(Draft::of("epoch", began), parent);
        let mut filling = match (taken.parent.map(remote), filling) {
            (None, filling) => {
                let filling = filling.unwrap_or_else(|| Filling {
                    span: epoch(None),
                    n_batches: 0,
                });
                self.end(draft, Some(filling.span.span_context()), true);
                filling
            }
            (Some(sender), None) => {
                let mut span = self.begin(draft, Some(&sender));
                span.end();
                Filling {
                    span: epoch(Some(span.span_context())),
                    n_batches: 0,
                }
            }
            (Some(sender), Some(mut filling)) => {
                let links = vec![filling.span.span_context().clone()];
                let mut span = self.begin(Draft { links, ..draft }, Some(&sender));
                span.end();
                let taken = span.span_context();
                if taken.is_sampled() {
                    filling.span.add_link(taken.clone(), Vec::new());
                }
                filling
            }
        };
        filling.n_batches += 1;
        state.filling = Some(filling);
    }

    fn closed(&self, epoch: Option<Epoch>, n_changes: usize) {
        let mut state = self.state();
        let filling = match (state.filling.take(), epoch) {
            (None, None) => return,
            (Some(filling), _) => filling,
            // Nothing was taken in: a view begins, or says what is exact now.
            (None, Some(_)) => Filling {
                span: self.begin(Draft::of("epoch", SystemTime::now()), None),
                n_batches: 0,
            },
        };
        let Filling {
            mut span,
            n_batches,
        } = filling;
        span.set_attributes(of::closed(epoch, n_batches, n_changes));
        span.end();
        if let Some(epoch) = epoch {
            remember(&mut state.epochs, epoch, span.span_context().clone());
        }
    }

    fn begun(&self, begun: &Begun<'_>) {
        let now = SystemTime::now();
        let mut state = self.state();
        let causes = begun.causes.iter();
        let causes = causes.filter_map(|epoch| state.epochs.get(epoch).cloned());
        let mut causes: Vec<SpanContext> = causes.collect();
        // The newest that is recorded; of a view that begins with what stands, the epoch itself.
        let at = causes.iter().rposition(SpanContext::is_sampled);
        let parent = match at {
            Some(at) => Some(causes.remove(at)),
            None => causes
                .pop()
                .or_else(|| state.epochs.get(&begun.epoch).cloned()),
        };
        let reads = begun.reads.iter();
        let reads =
            reads.filter_map(|read| state.views.get(*read)?.newest_upto(begun.epoch).cloned());
        let draft = || Draft {
            attributes: of::epoch_of(begun.view, begun.epoch),
            ..Draft::of(format!("refresh {}", begun.view), now)
        };
        let links = causes.iter().cloned().chain(reads).collect();
        let span = self.begin(Draft { links, ..draft() }, parent.as_ref());
        // Who follows the trace of another cause finds the way from there.
        for cause in causes.iter().filter(|cause| cause.is_sampled()) {
            let links = vec![span.span_context().clone()];
            self.end(Draft { links, ..draft() }, Some(cause), true);
        }
        let views = &mut state.views;
        let view = views.entry(begun.view.to_owned()).or_default();
        view.begin(begun.epoch, span);
    }

    fn called(&self, view: &str, context: &ContextKey, epoch: Epoch, call: &RemoteCall<'_>) {
        let mut state = self.state();
        let Some(view) = state.views.get_mut(view) else {
            return;
        };
        // Of what is not recorded nothing is kept.
        if view.at(epoch).is_some_and(SpanContext::is_sampled) {
            view.keep(context, epoch, EndedCall::of(call, SystemTime::now()));
        }
    }

    fn refreshed(&self, refreshed: &Refreshed<'_>) {
        let mut state = self.state();
        let Some(view) = state.views.get_mut(refreshed.view) else {
            return;
        };
        let calls = view.take_calls(refreshed.context, refreshed.epoch);
        let place = view.at(refreshed.epoch).cloned();
        drop(state);
        let Some(place) = place.filter(SpanContext::is_sampled) else {
            return;
        };
        let now = SystemTime::now();
        // What was asked again began before the last time that it was asked.
        let began = calls.iter().map(|call| call.began());
        let began = began.fold(before(now, refreshed.elapsed), SystemTime::min);
        let draft = Draft {
            attributes: of::refreshed(refreshed),
            ..Draft::of(format!("answer {}", refreshed.view), began)
        };
        let mut span = self.begin(draft, Some(&place));
        for call in calls {
            let draft = Draft {
                kind: SpanKind::Client,
                attributes: of::called(&call),
                ..Draft::of("POST", call.began())
            };
            let mut request = self.begin(draft, Some(span.span_context()));
            if !call.is_ok {
                request.set_status(Status::error(""));
            }
            request.end_with_timestamp(call.ended);
        }
        if refreshed.reached.is_err() {
            span.set_status(Status::error(""));
        }
        span.end_with_timestamp(now);
    }

    fn performed(&self, view: &str, work: Option<Work>, elapsed: Duration) {
        let state = self.state();
        let place = state.views.get(view).and_then(ViewSpans::newest).cloned();
        drop(state);
        let Some(place) = place.filter(SpanContext::is_sampled) else {
            return;
        };
        let draft = Draft {
            attributes: of::performed(view, work),
            ..Draft::of(format!("task {view}"), before(SystemTime::now(), elapsed))
        };
        self.end(draft, Some(&place), work.is_some());
    }

    fn stored(&self, stored: &Stored<'_>) {
        let place = match stored.view {
            Some((view, epoch)) => self.place(view, epoch),
            None => self.state().epochs.get(&stored.epoch).cloned(),
        };
        let draft = Draft {
            attributes: of::stored(stored),
            ..Draft::of("commit", at(stored.began))
        };
        self.end(draft, place.as_ref(), stored.is_ok);
    }

    fn told(&self, view: &str, epoch: Epoch, n_updates: usize, began: Instant) {
        let place = self.place(view, epoch);
        let draft = Draft {
            kind: SpanKind::Producer,
            attributes: of::told(view, epoch, n_updates),
            ..Draft::of(format!("tell {view}"), at(began))
        };
        self.end(draft, place.as_ref(), true);
    }

    fn completed(&self, summary: &EpochSummary) {
        let mut state = self.state();
        let Some(view) = state.views.get_mut(&*summary.view) else {
            return;
        };
        for (epoch, mut span) in view.complete(summary.epoch) {
            if epoch == summary.epoch {
                span.set_attributes(of::completed(summary));
            } else {
                span.set_attribute(of::overtaken());
            }
            span.end();
        }
    }

    fn delivered(&self, delivered: &Delivered<'_>) {
        let place = self.place(delivered.view, delivered.epoch);
        let draft = Draft {
            kind: SpanKind::Producer,
            attributes: of::delivered(delivered),
            ..Draft::of(format!("deliver {}", delivered.sink), at(delivered.began))
        };
        self.end(draft, place.as_ref(), delivered.is_ok);
    }

    fn dropped(&self, view: &str) {
        // What it was at work on ends with it.
        let dropped = self.state().views.remove(view);
        drop(dropped);
    }

    fn spans(&self) -> SpanCounts {
        self.counts.now()
    }
}

/// Keeps one more, and the newest.
fn remember(places: &mut BTreeMap<Epoch, SpanContext>, epoch: Epoch, place: SpanContext) {
    places.insert(epoch, place);
    if places.len() > MAX_REMEMBERED {
        places.pop_first();
    }
}

/// What somebody outside was doing.
fn remote(parent: TraceParent) -> SpanContext {
    let flags = TraceFlags::default().with_sampled(parent.is_sampled);
    SpanContext::new(
        TraceId::from_bytes(parent.trace_id),
        SpanId::from_bytes(parent.span_id),
        flags,
        true,
        TraceState::NONE,
    )
}

/// When something was, by the clock that spans have.
fn at(instant: Instant) -> SystemTime {
    before(SystemTime::now(), instant.elapsed())
}

/// So long before.
fn before(time: SystemTime, by: Duration) -> SystemTime {
    time.checked_sub(by).unwrap_or(time)
}
