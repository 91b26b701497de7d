//! A collector of OpenTelemetry that remembers the spans that it was sent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use perennial::otel::{TraceSettings, Traces};
use prost::Message as _;

use crate::receiver::Receiver;

/// Longer than anything takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Collector {
    receiver: Receiver,
}

/// A trace and a span of it, in hexadecimal digits.
pub(crate) type Place = (String, String);

/// A span, as far as tests look.
#[derive(Clone, Debug)]
pub(crate) struct SeenSpan {
    pub(crate) name: String,
    pub(crate) place: Place,
    /// Empty for the first of a trace.
    pub(crate) parent: String,
    pub(crate) links: Vec<Place>,
    pub(crate) said: BTreeMap<String, String>,
    pub(crate) is_error: bool,
}

impl SeenSpan {
    fn of(span: Span) -> Self {
        let links = span.links.iter();
        Self {
            name: span.name,
            place: (hex(&span.trace_id), hex(&span.span_id)),
            parent: hex(&span.parent_span_id),
            links: links
                .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
                .collect(),
            said: said(&span.attributes),
            is_error: span
                .status
                .is_some_and(|status| status.code == StatusCode::Error as i32),
        }
    }

    /// What it says of something; empty where it says nothing.
    pub(crate) fn says(&self, name: &str) -> &str {
        self.said.get(name).map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn trace(&self) -> &str {
        &self.place.0
    }

    /// Whether this is a child of another.
    pub(crate) fn is_below(&self, parent: &Self) -> bool {
        self.trace() == parent.trace() && self.parent == parent.place.1
    }
}

impl Collector {
    pub(crate) fn start() -> Self {
        Self {
            receiver: Receiver::start([]),
        }
    }

    /// Where it takes traces.
    pub(crate) fn url(&self) -> String {
        self.receiver.url()
    }

    /// Traces that it gets soon.
    pub(crate) fn traces(&self) -> Traces {
        let mut settings = TraceSettings::to(self.url());
        settings.delay = Some(Duration::from_millis(20));
        Traces::start(&settings).expect("traces")
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let got = self.receiver.got().into_iter();
        got.map(|got| {
            assert_eq!(got.headers["content-type"], "application/x-protobuf");
            ExportTraceServiceRequest::decode(&got.bytes[..]).expect("spans")
        })
        .collect()
    }

    /// All that it got so far.
    pub(crate) fn spans(&self) -> Vec<SeenSpan> {
        let of_resources = self.requests().into_iter().flat_map(|of| of.resource_spans);
        let of_scopes = of_resources.flat_map(|of| of.scope_spans);
        let spans = of_scopes.flat_map(|of| of.spans);
        spans.map(SeenSpan::of).collect()
    }

    /// What the spans are said to be of.
    pub(crate) fn resource(&self) -> BTreeMap<String, String> {
        let of_resources = self.requests().into_iter().flat_map(|of| of.resource_spans);
        let resource = of_resources.filter_map(|of| of.resource).next();
        said(&resource.expect("spans").attributes)
    }

    /// Waits until what it got is so.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&[SeenSpan]) -> bool) -> Vec<SeenSpan> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let spans = self.spans();
            if is_so(&spans) {
                return spans;
            }
            assert!(Instant::now() < deadline, "{what}: {spans:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether any of these words was sent to it.
    pub(crate) fn was_told(&self, words: &[&str]) -> bool {
        let is_in = |bytes: &[u8], word: &str| {
            let mut windows = bytes.windows(word.len());
            windows.any(|window| window == word.as_bytes())
        };
        let got = self.receiver.got();
        let mut all = got.iter();
        all.any(|got| words.iter().any(|word| is_in(&got.bytes, word)))
    }
}

/// The spans of a name.
pub(crate) fn named<'a>(
    spans: &'a [SeenSpan],
    name: &'a str,
) -> impl Iterator<Item = &'a SeenSpan> {
    spans.iter().filter(move |span| span.name == name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn said(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let said = attributes.iter();
    said.map(|one| (one.key.clone(), shown(one.value.as_ref())))
        .collect()
}

fn shown(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::ArrayValue(of)) => {
            let values = of.values.iter().map(|value| shown(Some(value)));
            values.collect::<Vec<_>>().join(" ")
        }
        other => format!("{other:?}"),
    }
}
