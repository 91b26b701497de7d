//! Which traces of a change does a collector of OpenTelemetry get?
//!
//! ```text
//! take docs                 records that a source gave, or that were posted
//! epoch                     all that was taken in since the one before
//!   refresh answers         what of it a view works on
//!     answer answers        one answer, by key
//!       POST                a request to the model's server
//!     task answers          one row of a query that asks a model
//!     commit                the transaction that makes it durable
//!     tell answers          its subscribers are told
//!     deliver SINK          one attempt to give it to a sink
//! ```
//! A batch that says of which trace it is, by the header `traceparent`, has its `take` there. The epoch
//! that it begins is a child of it; one that it comes to is linked with it, both ways. A view that takes
//! several epochs at once does so in the trace of the newest; in the traces of the others a `refresh`
//! without a duration is linked with it.
//!
//! - `settings`: does the environment ask for traces, and which ones are had here?
//! - `tracer`: which spans does a change leave, and which is whose parent?
//! - `queue`: what waits to be sent, and what is lost?
//! - `client`: how are they sent?
//!
//! # Invariants
//! - No text of a document, a question or an answer is in a span: the engine tells none
//!   ([`Tracer`]).
//! - The engine waits for no collector: what waits is bounded, and what finds no room is counted and
//!   dropped.
//!
//! The crates of OpenTelemetry are used as they are, and no more of them than there must be: spans are
//! made of what the engine tells, so no macros are needed, and nothing is done while nobody listens.

mod client;
mod queue;
mod settings;
mod tracer;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, Key, KeyValue};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider,
};

pub use settings::{TraceSettings, UnusableSetting};

use crate::engine::Tracer;
use client::Client;
use queue::{BoundedQueue, CountingExporter, Counts};
use tracer::EngineTracer;

/// How long what waits may take to be sent at the end.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// What traces are of, where nobody says otherwise.
const SERVICE: &str = "perennial";

/// Sends traces. Dropping it sends what waits, for at most five seconds; spans that end later are lost.
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    counts: Arc<Counts>,
}

impl Traces {
    /// Begins to send as the settings say, and as the variables of OpenTelemetry say where these do not.
    ///
    /// # Errors
    /// What cannot be used.
    pub fn start(settings: &TraceSettings) -> Result<Self, UnusableSetting> {
        let unusable = |error: ExporterBuildError| UnusableSetting(error.to_string());
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(settings.timeout)
            .with_http_client(Client::new(settings.timeout));
        if let Some(endpoint) = &settings.endpoint {
            exporter = exporter.with_endpoint(endpoint);
        }
        let counts = Arc::new(Counts::default());
        let exporter = CountingExporter::new(exporter.build().map_err(unusable)?, counts.clone());
        let mut config = BatchConfigBuilder::default().with_max_queue_size(settings.n_waiting);
        if let Some(delay) = settings.delay {
            config = config.with_scheduled_delay(delay);
        }
        let sending = BatchSpanProcessor::new(exporter, config.build());
        let queue = BoundedQueue::new(sending, settings.n_waiting, counts.clone());
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue)
            .with_resource(resource())
            .build();
        let scope = InstrumentationScope::builder("perennial")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok(Self {
            tracer: provider.tracer_with_scope(scope),
            provider,
            counts,
        })
    }

    /// Hears what becomes of the changes of one engine.
    pub fn tracer(&self) -> Arc<dyn Tracer> {
        Arc::new(EngineTracer::new(self.tracer.clone(), self.counts.clone()))
    }

    /// Sends what waits. Returns whether all of it was taken, within five seconds.
    pub fn flush(&self) -> bool {
        self.provider.force_flush().is_ok()
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // What was not taken by then is lost, as it is while the collector is away.
        let _ = self.provider.shutdown_with_timeout(LAST_WAIT);
    }
}

/// What the traces are of: by the environment, else this program.
fn resource() -> Resource {
    let said = Resource::builder().build();
    let says = |name: &'static str| said.get(&Key::from_static_str(name));
    let mut resource = Resource::builder();
    let name = says("service.name");
    if name.is_none_or(|name| name.as_str().starts_with("unknown_service")) {
        resource = resource.with_service_name(SERVICE);
    }
    if says("service.version").is_none() {
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        resource = resource.with_attribute(version);
    }
    resource.build()
}
