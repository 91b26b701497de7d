//! Which spans wait to be sent, and how many are lost?
//!
//! The batches, the thread that sends them and their times are those of the SDK. It says to nobody how
//! many spans found no room, so room is given here: a span waits from its end until its batch was taken
//! or given up, and there are at most so many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};

use crate::engine::SpanCounts;

/// What became of spans.
#[derive(Debug, Default)]
pub(super) struct Counts {
    n_waiting: AtomicUsize,
    n_sent: AtomicU64,
    n_dropped: AtomicU64,
}

impl Counts {
    /// As of now.
    pub(super) fn now(&self) -> SpanCounts {
        SpanCounts {
            n_sent: self.n_sent.load(Relaxed),
            n_dropped: self.n_dropped.load(Relaxed),
            n_waiting: self.n_waiting.load(Relaxed),
        }
    }

    /// Whether another may wait; if not it is lost.
    fn admit(&self, capacity: usize) -> bool {
        let is_admitted = self.n_waiting.fetch_add(1, Relaxed) < capacity;
        if !is_admitted {
            self.n_waiting.fetch_sub(1, Relaxed);
            self.n_dropped.fetch_add(1, Relaxed);
        }
        is_admitted
    }

    /// So many that waited were taken, or are lost.
    fn settle(&self, n_spans: usize, is_taken: bool) {
        self.n_waiting.fetch_sub(n_spans, Relaxed);
        let to = if is_taken {
            &self.n_sent
        } else {
            &self.n_dropped
        };
        to.fetch_add(n_spans as u64, Relaxed);
    }
}

/// Lets a span wait where there is room.
#[derive(Debug)]
pub(super) struct BoundedQueue {
    /// Its queue has as much room, so that nothing is lost there.
    sending: BatchSpanProcessor,
    capacity: usize,
    counts: Arc<Counts>,
}

impl BoundedQueue {
    pub(super) fn new(sending: BatchSpanProcessor, capacity: usize, counts: Arc<Counts>) -> Self {
        Self {
            sending,
            capacity,
            counts,
        }
    }
}

impl SpanProcessor for BoundedQueue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.sending.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.counts.admit(self.capacity) {
            self.sending.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.sending.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.sending.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.sending.set_resource(resource);
    }
}

/// Counts what a collector takes.
#[derive(Debug)]
pub(super) struct CountingExporter {
    otlp: Otlp,
    counts: Arc<Counts>,
}

impl CountingExporter {
    pub(super) fn new(otlp: Otlp, counts: Arc<Counts>) -> Self {
        Self { otlp, counts }
    }
}

impl SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let n_spans = batch.len();
        let exported = self.otlp.export(batch).await;
        self.counts.settle(n_spans, exported.is_ok());
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.otlp.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_room_is_counted_and_room_is_given_back() {
        let counts = Counts::default();
        let admitted: Vec<bool> = (0..4).map(|_| counts.admit(2)).collect();
        assert_eq!(admitted, [true, true, false, false]);
        counts.settle(2, true);
        assert!(counts.admit(2));
        counts.settle(1, false);
        let expected = SpanCounts {
            n_sent: 2,
            n_dropped: 3,
            n_waiting: 0,
        };
        assert_eq!(counts.now(), expected);
    }
}
