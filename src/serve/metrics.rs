//! `GET /metrics`: the engine in numbers, for Prometheus.
//!
//! Everything is looked up when it is asked for, so nothing is counted twice, and a number is never older
//! than its reply.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::admission::Caller;
use super::feed::Totals;
use super::refusal::{Refusal, RefusalBody};
use super::routes::models::FragmentsJson;
use super::served::Served;
use super::tokens::Role;
use crate::engine::{PutAside, RelationInfo, SpanCounts};

const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Tells the engine in numbers, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses(
        (status = 200, description = "Numbers in the text format of OpenMetrics",
            content((String = "application/openmetrics-text"))),
        (status = 500, description = "The engine has ended", body = RefusalBody),
    ),
)]
pub(super) async fn metrics(
    State(served): State<Arc<Served>>,
    caller: Caller,
) -> Result<Response, Refusal> {
    caller.may_of_all(Role::Read)?;
    let overview = served.overview().await?;
    let feeds = served.feeds();
    let views = overview.views().map(|of| {
        let feed = feeds.iter().find(|feed| **feed.name() == *of.name);
        let totals = feed.map(|feed| feed.totals()).unwrap_or_default();
        (of.clone(), totals, feed.map_or(0, |feed| feed.n_readers()))
    });
    let mut registry = Registry::with_prefix("perennial");
    registry.register_collector(Box::new(Numbers {
        views: views.collect(),
        streams: overview.streams().cloned().collect(),
        is_ready: overview.is_ready(),
        n_quarantined: overview.n_quarantined,
        undelivered: overview.undelivered,
        dead_letters: overview.dead_letters,
        fragments: overview.fragments,
        spans: served.engine().spans(),
        n_connections: served.n_connections.load(Ordering::Relaxed),
        uptime: served.began.elapsed().as_secs_f64(),
    }));
    let mut text = String::new();
    encode(&mut text, &registry)
        .map_err(|_| Refusal::broken("the numbers could not be written"))?;
    let mut response = Response::new(Body::from(text));
    let content_type = HeaderValue::from_static(TEXT);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    Ok(response)
}

/// What is told.
#[derive(Debug)]
struct Numbers {
    views: Vec<(RelationInfo, Totals, usize)>,
    streams: Vec<RelationInfo>,
    undelivered: Vec<(String, usize)>,
    dead_letters: Vec<PutAside>,
    n_quarantined: usize,
    fragments: Option<FragmentsJson>,
    spans: Option<SpanCounts>,
    n_connections: usize,
    uptime: f64,
    is_ready: bool,
}

/// A number that may fall, or that is counted since the server began.
#[derive(Clone, Copy)]
enum Of {
    Gauge,
    Counter,
}

struct Writing<'a>(DescriptorEncoder<'a>);

impl Writing<'_> {
    /// One metric, by labels.
    fn family<const N: usize>(
        &mut self,
        of: Of,
        (name, help, unit): (&str, &str, Option<Unit>),
        numbers: impl IntoIterator<Item = ([(&'static str, String); N], f64)>,
    ) -> Result<(), std::fmt::Error> {
        let metric_type = match of {
            Of::Gauge => MetricType::Gauge,
            Of::Counter => MetricType::Counter,
        };
        let unit = unit.as_ref();
        let mut metric = self.0.encode_descriptor(name, help, unit, metric_type)?;
        for (labels, number) in numbers {
            match (of, N) {
                (Of::Gauge, 0) => metric.encode_gauge(&number)?,
                (Of::Counter, 0) => metric.encode_counter::<NoLabelSet, _, u64>(&number, None)?,
                (Of::Gauge, _) => metric.encode_family(&labels)?.encode_gauge(&number)?,
                (Of::Counter, _) => {
                    let mut family = metric.encode_family(&labels)?;
                    family.encode_counter::<NoLabelSet, _, u64>(&number, None)?;
                }
            }
        }
        Ok(())
    }
}

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut to = Writing(encoder);
        let gauge = |name, help| (name, help, None);
        let of_view = |of: &RelationInfo| [("view", of.name.to_string())];
        let none: [(&'static str, String); 0] = [];

        to.family(
            Of::Gauge,
            gauge(
                "ready",
                "Whether every view has an epoch, and every source gave what it had",
            ),
            [(none.clone(), f64::from(u8::from(self.is_ready)))],
        )?;
        to.family(
            Of::Gauge,
            ("uptime", "Since the server began", Some(Unit::Seconds)),
            [(none.clone(), self.uptime)],
        )?;
        to.family(
            Of::Gauge,
            gauge("connections", "Connections that are open"),
            [(none.clone(), number(self.n_connections))],
        )?;

        let views = || self.views.iter();
        let epochs = views().filter_map(|(of, _, _)| Some((of_view(of), number_64(of.epoch?))));
        to.family(
            Of::Gauge,
            gauge("view_epoch", "The newest epoch that a view reflects"),
            epochs,
        )?;
        let lag = |of: &RelationInfo| of.staleness.and_then(|staleness| staleness.lag);
        to.family(
            Of::Gauge,
            (
                "view_lag",
                "How long the oldest change has waited for a view",
                Some(Unit::Seconds),
            ),
            views().map(|(of, _, _)| (of_view(of), lag(of).map_or(0.0, |lag| lag.as_secs_f64()))),
        )?;
        to.family(
            Of::Gauge,
            gauge(
                "view_epochs_behind",
                "Closed epochs with changes that a view has not taken",
            ),
            views().map(|(of, _, _)| {
                (
                    of_view(of),
                    number(of.staleness.map_or(0, |staleness| staleness.n_behind)),
                )
            }),
        )?;
        let rows = self.views.iter().map(|(of, _, _)| of).chain(&self.streams);
        to.family(
            Of::Gauge,
            gauge("rows", "Rows of a relation"),
            rows.map(|of| ([("relation", of.name.to_string())], number(of.n_rows))),
        )?;
        to.family(
            Of::Gauge,
            gauge("view_subscribers", "Who is told of a view over HTTP"),
            views().map(|(of, _, n)| (of_view(of), number(*n))),
        )?;
        to.family(
            Of::Counter,
            gauge("view_epochs", "Epochs that a view has completed"),
            views().map(|(of, totals, _)| (of_view(of), number(totals.n_epochs))),
        )?;
        to.family(
            Of::Counter,
            (
                "view_epoch_time",
                "Time from the closing of epochs to their completion",
                Some(Unit::Seconds),
            ),
            views().map(|(of, totals, _)| (of_view(of), totals.elapsed.as_secs_f64())),
        )?;
        to.family(
            Of::Gauge,
            (
                "view_last_epoch_time",
                "The same of the last epoch",
                Some(Unit::Seconds),
            ),
            views().map(|(of, totals, _)| (of_view(of), totals.last_elapsed.as_secs_f64())),
        )?;
        to.family(
            Of::Counter,
            gauge(
                "view_refreshes",
                "Contexts of epochs, by how they were served",
            ),
            views().flat_map(|(of, totals, _)| {
                let rungs = &totals.rungs;
                let counts = [
                    ("keep", rungs.keep),
                    ("skip", rungs.skip),
                    ("patch", rungs.patch),
                    ("verify", rungs.verify),
                    ("append", rungs.append),
                    ("rewrite", rungs.rewrite),
                    ("regenerate", rungs.regenerate),
                ];
                counts.map(|(rung, n)| {
                    let labels = [("view", of.name.to_string()), ("rung", rung.to_owned())];
                    (labels, number(n))
                })
            }),
        )?;
        to.family(
            Of::Counter,
            gauge("view_failures", "Calls of a model that gave an error"),
            views().map(|(of, totals, _)| (of_view(of), number(totals.rungs.failed))),
        )?;
        to.family(
            Of::Counter,
            gauge("view_calls", "Calls of a model"),
            views().map(|(of, totals, _)| {
                let rungs = &totals.rungs;
                (of_view(of), number(rungs.n_read() + rungs.failed))
            }),
        )?;
        to.family(
            Of::Counter,
            gauge(
                "view_tokens",
                "Tokens that went through a model, by what they were of",
            ),
            views().flat_map(|(of, totals, _)| {
                let work = &totals.work;
                let counts = [
                    ("encoded", work.n_encoded),
                    ("prompt", work.n_prompt),
                    ("draft", work.n_draft),
                    ("decoded", work.n_decoded),
                ];
                counts.map(|(of_what, n)| {
                    let labels = [("view", of.name.to_string()), ("of", of_what.to_owned())];
                    (labels, number(n))
                })
            }),
        )?;
        to.family(
            Of::Counter,
            gauge(
                "view_tokens_cached",
                "Tokens of prompts that a model's server still knew, and did not read again",
            ),
            views().map(|(of, totals, _)| (of_view(of), number(totals.work.n_cached))),
        )?;
        to.family(
            Of::Counter,
            gauge(
                "view_tokens_rerun",
                "Tokens that runs from nothing would have forwarded",
            ),
            views().map(|(of, totals, _)| (of_view(of), number(totals.n_rerun))),
        )?;
        to.family(
            Of::Counter,
            gauge(
                "model_cost",
                "What calls of a model cost, in units of their currency",
            ),
            views().filter_map(|(of, totals, _)| {
                let (amount, currency) = totals.work.cost.told()?;
                let labels = [
                    ("view", of.name.to_string()),
                    ("currency", currency.to_string()),
                ];
                Some((labels, amount.shown()))
            }),
        )?;
        to.family(
            Of::Counter,
            gauge("view_audits", "Provisional answers that were audited"),
            views().map(|(of, totals, _)| (of_view(of), number(totals.audits.n_audited))),
        )?;
        to.family(
            Of::Gauge,
            gauge(
                "view_regret",
                "Mean regret of audited answers, in nats a token",
            ),
            views().map(|(of, totals, _)| (of_view(of), f64::from(totals.audits.mean_regret))),
        )?;

        to.family(
            Of::Gauge,
            gauge("source_failed", "Whether a source has failed"),
            self.streams.iter().map(|of| {
                let labels = [("source", of.name.to_string())];
                (labels, f64::from(u8::from(of.failure.is_some())))
            }),
        )?;
        to.family(
            Of::Gauge,
            gauge("quarantine", "Refused records that nobody has dealt with"),
            [(none.clone(), number(self.n_quarantined))],
        )?;
        to.family(
            Of::Gauge,
            gauge("sink_owed_epochs", "Epochs that a sink has not taken"),
            self.undelivered
                .iter()
                .map(|(sink, n)| ([("sink", sink.clone())], number(*n))),
        )?;
        to.family(
            Of::Gauge,
            gauge(
                "sink_dead_letters",
                "Rows that a sink refused for good, in its file",
            ),
            self.dead_letters
                .iter()
                .map(|of| ([("sink", of.sink.clone())], number_64(of.n_rows))),
        )?;
        if let Some(held) = &self.fragments {
            let warm = held.warm.as_ref();
            let (n_warm, warm_bytes, n_warm_hits) =
                warm.map_or((0, 0, 0), |of| (of.n, of.bytes, of.n_hits));
            let tiers = [
                ("memory", number(held.bytes)),
                ("warm", number(warm_bytes)),
                ("disk", number_64(held.disk_bytes)),
            ];
            to.family(
                Of::Gauge,
                (
                    "fragments",
                    "What is held of documents that were read, by tier",
                    Some(Unit::Bytes),
                ),
                tiers.map(|(tier, n)| ([("tier", tier.to_owned())], n)),
            )?;
            let counts = [
                ("memory", held.n),
                ("warm", n_warm),
                ("disk", held.n_on_disk),
            ];
            to.family(
                Of::Gauge,
                gauge(
                    "fragments_held",
                    "How many parts of documents that were read are held, by tier",
                ),
                counts.map(|(tier, n)| ([("tier", tier.to_owned())], number(n))),
            )?;
            to.family(
                Of::Gauge,
                (
                    "fragments_budget",
                    "What may be held in memory",
                    Some(Unit::Bytes),
                ),
                [(none.clone(), number(held.budget_bytes))],
            )?;
            let lookups = [("hit", held.n_hits), ("miss", held.n_misses)];
            to.family(
                Of::Counter,
                gauge(
                    "fragment_lookups",
                    "Fragments that were looked for, by whether they were there",
                ),
                lookups.map(|(of, n)| ([("outcome", of.to_owned())], number_64(n))),
            )?;
            let hits = [
                ("memory", held.n_hits - held.n_disk_hits),
                ("warm", n_warm_hits),
                ("disk", held.n_disk_hits),
            ];
            to.family(
                Of::Counter,
                gauge(
                    "fragment_hits",
                    "Fragments that were looked for and found, by tier; lookups count those of warm as misses",
                ),
                hits.map(|(tier, n)| ([("tier", tier.to_owned())], number_64(n))),
            )?;
            to.family(
                Of::Counter,
                gauge(
                    "fragments_evicted",
                    "Fragments that left the memory for others",
                ),
                [(none.clone(), number_64(held.n_evicted))],
            )?;
        }
        if let Some(spans) = &self.spans {
            to.family(
                Of::Counter,
                gauge("trace_spans_sent", "Spans that a collector has taken"),
                [(none.clone(), number_64(spans.n_sent))],
            )?;
            to.family(
                Of::Counter,
                gauge(
                    "trace_spans_dropped",
                    "Spans that found no room, or that no collector took",
                ),
                [(none.clone(), number_64(spans.n_dropped))],
            )?;
            to.family(
                Of::Gauge,
                gauge("trace_spans_waiting", "Spans that wait to be sent"),
                [(none, number(spans.n_waiting))],
            )?;
        }
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "what is scraped is a float")]
fn number(n: usize) -> f64 {
    n as f64
}

#[allow(clippy::cast_precision_loss, reason = "what is scraped is a float")]
fn number_64(n: u64) -> f64 {
    n as f64
}
