//! `GET /v1/status`: the engine in numbers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::admission::Caller;
use super::super::json::{self, RungsJson, WorkJson};
use super::super::refusal::{Json, Refusal};
use super::super::served::Served;
use super::super::tokens::Role;
use super::models::FragmentsJson;
use super::relations::kind;
use crate::engine::RelationInfo;

/// The engine in numbers. What is counted is counted since the server began.
#[derive(Serialize, ToSchema)]
pub(crate) struct Status {
    version: &'static str,
    uptime_ms: u64,
    /// Whether every view has a complete epoch, and every source has given what it had.
    ready: bool,
    /// Why the engine has ended.
    failure: Option<String>,
    n_subscribers: usize,
    n_connections: usize,
    n_quarantined: usize,
    /// Sinks that have not taken everything.
    undelivered: Vec<Owed>,
    /// Sinks that have a file for what they refuse for good, and what stands there.
    dead_letters: Vec<DeadLettersJson>,
    views: Vec<ViewStatusJson>,
    sources: Vec<StreamStatusJson>,
    fragments: Option<FragmentsJson>,
}

/// What a sink is owed.
#[derive(Serialize, ToSchema)]
pub(crate) struct Owed {
    sink: String,
    n_epochs: usize,
}

/// What a sink has refused for good.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeadLettersJson {
    sink: String,
    /// Where it stands.
    file: String,
    /// How many rows stood there when the file was opened, or were put there since.
    n_rows: u64,
}

/// A view in numbers.
#[derive(Serialize, ToSchema)]
pub(crate) struct ViewStatusJson {
    name: String,
    kind: &'static str,
    epoch: Option<u64>,
    status: Option<String>,
    n_behind: Option<usize>,
    lag_ms: Option<u64>,
    n_rows: usize,
    /// Of a view that asks a model: answers that have an error in place of a text, now.
    n_failed: Option<usize>,
    n_subscribers: usize,
    n_epochs: usize,
    rungs: RungsJson,
    work: WorkJson,
    /// Tokens that runs from nothing would have forwarded.
    rerun: usize,
    /// Time of all epochs.
    elapsed_ms: u64,
}

/// A source or a table in numbers.
#[derive(Serialize, ToSchema)]
pub(crate) struct StreamStatusJson {
    name: String,
    kind: &'static str,
    n_rows: usize,
    epoch: Option<u64>,
    failure: Option<String>,
}

/// Tells how the engine is.
#[utoipa::path(
    get,
    path = "/v1/status",
    tag = "engine",
    responses((status = 200, description = "The engine in numbers", body = Status)),
)]
pub(crate) async fn status(
    State(served): State<Arc<Served>>,
    caller: Caller,
) -> Result<Json<Status>, Refusal> {
    caller.may_of_all(Role::Read)?;
    let overview = served.overview().await?;
    let feeds = served.feeds();
    let owed = overview.undelivered.iter().map(|(sink, n_epochs)| Owed {
        sink: sink.clone(),
        n_epochs: *n_epochs,
    });
    let dead_letters = overview.dead_letters.iter().map(|of| DeadLettersJson {
        sink: of.sink.clone(),
        file: of.file.display().to_string(),
        n_rows: of.n_rows,
    });
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        uptime_ms: json::milliseconds(served.began.elapsed()),
        ready: overview.is_ready(),
        failure: served.engine().failure(),
        n_subscribers: feeds.iter().map(|feed| feed.n_readers()).sum(),
        n_connections: served.n_connections.load(Ordering::Relaxed),
        n_quarantined: overview.n_quarantined,
        undelivered: owed.collect(),
        dead_letters: dead_letters.collect(),
        views: overview.views().map(|of| view(&served, of)).collect(),
        sources: overview.streams().map(stream).collect(),
        fragments: overview.fragments,
    }))
}

fn view(served: &Served, of: &RelationInfo) -> ViewStatusJson {
    let feed = served.feed(&of.name).ok();
    let totals = feed.as_ref().map(|feed| feed.totals()).unwrap_or_default();
    let lag = of.staleness.and_then(|staleness| staleness.lag);
    ViewStatusJson {
        name: of.name.to_string(),
        kind: kind(of.kind),
        epoch: of.epoch,
        status: of.staleness.map(|staleness| staleness.status.to_string()),
        n_behind: of.staleness.map(|staleness| staleness.n_behind),
        lag_ms: lag.map(json::milliseconds),
        n_rows: of.n_rows,
        n_failed: feed.as_ref().and_then(|feed| feed.n_failed()),
        n_subscribers: feed.map_or(0, |feed| feed.n_readers()),
        n_epochs: totals.n_epochs,
        rungs: RungsJson::from(&totals.rungs),
        work: WorkJson::from(&totals.work),
        rerun: totals.n_rerun,
        elapsed_ms: json::milliseconds(totals.elapsed),
    }
}

fn stream(of: &RelationInfo) -> StreamStatusJson {
    StreamStatusJson {
        name: of.name.to_string(),
        kind: kind(of.kind),
        n_rows: of.n_rows,
        epoch: of.epoch,
        failure: of.failure.as_deref().map(str::to_owned),
    }
}
