//! Traces: who posts a record can follow it to the answers that it changed, and no collector holds
//! anybody up or gets a text.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use perennial::connectors::JsonLinesSink;
use perennial::otel::{TraceSettings, Traces};

use super::*;
use crate::collector::{Collector, SeenSpan, named};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SENDER: &str = "00f067aa0ba902b7";
const OTHER_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn post_of(serving: &Serving, path: &str, parent: &str, lines: &str) -> u16 {
    let path = format!("/v1/streams/{path}");
    let headers = [("traceparent", parent)];
    let request = request("POST", &path, &headers, lines.as_bytes());
    serving.client().ask(&request).status
}

/// The only span of a name that is so.
fn only<'a>(
    spans: &'a [SeenSpan],
    name: &'a str,
    is_so: impl Fn(&SeenSpan) -> bool,
) -> &'a SeenSpan {
    let found: Vec<&SeenSpan> = named(spans, name).filter(|span| is_so(span)).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?} of {spans:#?}");
    found[0]
}

#[test]
fn a_posted_record_is_followed_to_the_answers_that_it_changed() {
    let (collector, dir) = (Collector::start(), tempfile::tempdir().expect("a folder"));
    let traces = collector.traces();
    let state = dir.path().join("state");
    let setup = Setup {
        state: Some(&state),
        tracer: Some(traces.tracer()),
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    let sink = JsonLinesSink::open(dir.path().join("answers.jsonl")).expect("writable");
    let engine = serving.served.engine();
    engine.create_sink("answers", sink).expect("a sink");
    serving.post("questions", &line("q", "alpha inquisitive"));
    serving.post("questions", &line("e", "alpha !error"));
    let parent = format!("00-{TRACE}-{SENDER}-01");
    let record = line("a", "alpha is documentary.");
    let status = post_of(&serving, "docs?wait=60", &parent, &record);
    assert_eq!(status, 200);

    let is_delivered = |span: &SeenSpan| span.name.starts_with("deliver ") && span.trace() == TRACE;
    let is_complete = |span: &SeenSpan| span.name == "refresh answers" && span.trace() == TRACE;
    let spans = collector.until("a delivery and the end of the refresh", |spans| {
        spans.iter().any(is_delivered) && spans.iter().any(is_complete)
    });
    let spans: Vec<SeenSpan> = spans.into_iter().filter(|s| s.trace() == TRACE).collect();
    let taken = only(&spans, "take docs", |_| true);
    assert_eq!(taken.parent, SENDER);
    assert_eq!(
        (
            taken.says("perennial.keys"),
            taken.says("perennial.upserts")
        ),
        ("a", "1")
    );
    let place = taken.says("perennial.offset");
    assert!(place.starts_with("requests to 1 of run"), "{place}");
    let epoch = only(&spans, "epoch", |_| true);
    assert!(epoch.is_below(taken), "{spans:#?}");
    let refresh = only(&spans, "refresh answers", |_| true);
    assert!(refresh.is_below(epoch), "{spans:#?}");
    assert_eq!(
        refresh.says("perennial.epoch"),
        epoch.says("perennial.epoch")
    );
    let answer = only(&spans, "answer answers", |span| {
        span.says("perennial.key") == "q"
    });
    assert!(answer.is_below(refresh), "{spans:#?}");
    assert_eq!(answer.says("perennial.rung"), "regenerate");
    let tokens = |of: &str| -> usize {
        let said = answer.says(&format!("perennial.tokens.{of}"));
        said.parse().expect("a number")
    };
    assert!(tokens("forwarded") > 0 && tokens("from_scratch") > 0);
    let failed = only(&spans, "answer answers", |span| {
        span.says("perennial.key") == "e"
    });
    assert!(failed.is_error && failed.says("error.type") == "model");
    let commit = only(&spans, "commit", |span| {
        !span.says("perennial.view").is_empty()
    });
    let told = only(&spans, "tell answers", |_| true);
    assert!(
        commit.is_below(refresh) && told.is_below(refresh),
        "{spans:#?}"
    );
    let delivered = spans.iter().find(|span| is_delivered(span));
    assert!(delivered.is_some_and(|span| span.is_below(refresh) && !span.is_error));

    // Names and keys only.
    assert_eq!(serving.answers("answers")["q"], "alpha is documentary.");
    drop(serving);
    drop(traces);
    let texts = ["inquisitive", "documentary", "!error", "is doc"];
    assert!(!collector.was_told(&texts));
    assert_eq!(collector.resource()["service.name"], "perennial");
}

#[test]
fn senders_whose_records_come_to_one_epoch_find_it_from_their_own_traces() {
    let (collector, is_held) = (Collector::start(), Arc::new(AtomicBool::new(true)));
    let traces = collector.traces();
    let setup = Setup {
        tracer: Some(traces.tracer()),
        model: Scripted::new().held_while(is_held.clone()),
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    serving.post("questions", &line("q", "alpha !slow"));
    // The view is at work on this one, so what comes now is of the next epoch.
    serving.client().post("docs", line("a", "alpha is one."));
    let of_first = |spans: &[SeenSpan]| {
        let mut taken = named(spans, "take docs");
        let taken = taken
            .find(|span| span.says("perennial.keys") == "a")
            .cloned();
        taken.is_some_and(|taken| named(spans, "epoch").any(|epoch| taken.is_below(epoch)))
    };
    collector.until("the first epoch is closed", of_first);
    let (first, second) = (
        format!("00-{TRACE}-{SENDER}-01"),
        format!("00-{OTHER_TRACE}-{SENDER}-01"),
    );
    assert_eq!(
        post_of(&serving, "docs", &first, &line("b", "alpha is two.")),
        202
    );
    collector.until("the record is taken in", |spans| {
        named(spans, "take docs").any(|span| span.says("perennial.keys") == "b")
    });
    assert_eq!(
        post_of(&serving, "docs", &second, &line("c", "alpha is three.")),
        202
    );
    collector.until("the next is taken in", |spans| {
        named(spans, "take docs").any(|span| span.says("perennial.keys") == "c")
    });
    is_held.store(false, Ordering::SeqCst);
    let spans = collector.until("both are answered", |spans| {
        named(spans, "refresh answers").any(|span| span.trace() == TRACE)
    });
    let of_key = |key: &'static str| move |span: &SeenSpan| span.says("perennial.keys") == key;
    let (b, c) = (
        only(&spans, "take docs", of_key("b")),
        only(&spans, "take docs", of_key("c")),
    );
    assert_eq!((c.trace(), &*c.parent), (OTHER_TRACE, SENDER));
    let epoch = only(&spans, "epoch", |span| span.trace() == TRACE);
    assert!(epoch.is_below(b), "{spans:#?}");
    assert_eq!(epoch.links, std::slice::from_ref(&c.place));
    assert_eq!(c.links, std::slice::from_ref(&epoch.place));
    assert_eq!(epoch.says("perennial.batches"), "2");
    assert!(only(&spans, "refresh answers", |span| span.trace() == TRACE).is_below(epoch));
}

#[test]
fn a_sender_that_does_not_record_is_not_recorded() {
    let collector = Collector::start();
    let traces = collector.traces();
    let setup = Setup {
        tracer: Some(traces.tracer()),
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    serving.post("questions", &line("q", "alpha"));
    let silent = format!("00-{TRACE}-{SENDER}-00");
    let record = line("a", "alpha is one.");
    assert_eq!(post_of(&serving, "docs?wait=60", &silent, &record), 200);
    serving.post("docs", &line("b", "alpha is two."));
    let spans = collector.until("what came behind is", |spans| {
        let mut taken = named(spans, "take docs");
        taken.any(|span| span.says("perennial.keys") == "b")
    });
    assert!(spans.iter().all(|span| span.trace() != TRACE), "{spans:#?}");
}

/// What a server says of the spans.
fn spans_said(serving: &Serving, of: &str) -> f64 {
    let body = serving.get("/metrics").body;
    let name = format!("perennial_trace_spans_{of} ");
    let mut lines = body.lines();
    let line = lines.find_map(|line| line.strip_prefix(&*name));
    let line = line.unwrap_or_else(|| panic!("{name} in {body}"));
    line.parse().expect("a number")
}

#[test]
fn a_collector_that_is_away_or_says_nothing_holds_nobody_up_and_what_is_lost_is_counted() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = listener.local_addr().expect("an address");
    // A port that the system gives to nobody who asks for any.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    for address in [nobody, silent] {
        let mut settings = TraceSettings::to(format!("http://{address}/v1/traces"));
        settings.delay = Some(Duration::from_millis(10));
        settings.timeout = Duration::from_millis(300);
        settings.n_waiting = 4;
        let traces = Traces::start(&settings).expect("traces");
        let setup = Setup {
            tracer: Some(traces.tracer()),
            ..Setup::default()
        };
        let serving = Serving::with(SUPPORT, setup);
        serving.post("questions", &line("q", "alpha"));
        for n in 0..20 {
            serving.post("docs", &line("a", &format!("alpha is {n}.")));
        }
        assert_eq!(serving.answers("answers")["q"], "alpha is 19.");
        eventually("spans are lost", || {
            spans_said(&serving, "dropped_total") > 0.0
        });
        assert!(spans_said(&serving, "waiting") <= 4.0);
        assert_eq!(spans_said(&serving, "sent_total"), 0.0);
        drop(serving);
        drop(traces);
    }
}

#[test]
fn what_was_sent_is_counted_and_who_sends_nothing_counts_nothing() {
    let collector = Collector::start();
    let traces = collector.traces();
    let setup = Setup {
        tracer: Some(traces.tracer()),
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    serving.post("questions", &line("q", "alpha"));
    assert!(traces.flush());
    eventually("spans are sent", || {
        spans_said(&serving, "sent_total") > 0.0
    });
    assert_eq!(spans_said(&serving, "dropped_total"), 0.0);
    let untraced = Serving::start(SUPPORT);
    assert!(!untraced.get("/metrics").body.contains("trace_spans"));
}

/// Carries a script out, with these variables.
fn run(variables: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().expect("a folder");
    let script = dir.path().join("towns.sql");
    let text = "CREATE TABLE towns (key TEXT, people INTEGER);
        INSERT INTO towns VALUES ('oslo', 710000), ('alta', 21000);
        CREATE VIEW large AS SELECT key FROM towns WHERE people > 250000;
        SELECT * FROM large;";
    std::fs::write(&script, text).expect("writable");
    let script = script.display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_perennial"));
    command
        .args(["run", "--once", &script])
        .env("NO_COLOR", "1");
    let inherited = std::env::vars().map(|(name, _)| name);
    inherited
        .filter(|name| name.starts_with("OTEL_"))
        .for_each(|name| {
            command.env_remove(name);
        });
    let output = command.envs(variables.iter().copied()).output();
    output.expect("runs")
}

#[test]
fn the_program_sends_what_the_environment_asks_for_before_it_ends() {
    let collector = Collector::start();
    let url = collector.url();
    let endpoint = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*url);
    let output = run(&[endpoint, ("OTEL_SERVICE_NAME", "towns of the north")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let spans = collector.spans();
    for name in ["take towns", "epoch", "refresh large"] {
        assert!(named(&spans, name).next().is_some(), "{name}: {spans:#?}");
    }
    assert_eq!(collector.resource()["service.name"], "towns of the north");
    // What cannot be had is said, and the work is done.
    let output = run(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("no traces are sent") && said.contains("http/protobuf"),
        "{said}"
    );
    let n_before = collector.spans().len();
    let output = run(&[endpoint, ("OTEL_SDK_DISABLED", "true")]);
    assert!(output.status.success());
    assert_eq!(collector.spans().len(), n_before);
}
