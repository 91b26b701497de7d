//! `/healthz` and `/readyz`: is it alive, and can it answer?

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::admission::Caller;
use super::super::refusal::{Json, Refusal, RefusalBody, json_response};
use super::super::served::Served;
use super::super::tokens::Role;
use crate::engine::RelationInfo;

/// That the engine runs.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    status: &'static str,
}

/// Whether it can answer.
#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// Whether it can.
    ready: bool,
    /// Sources that have not given what they had, and views without a complete epoch, of those that the
    /// token may read.
    waiting: Vec<String>,
}

/// Says whether the engine runs.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operations",
    responses(
        (status = 200, description = "It runs", body = Health),
        (status = 500, description = "It has ended", body = RefusalBody),
    ),
    security(()),
)]
pub(crate) async fn health(State(served): State<Arc<Served>>) -> Result<Json<Health>, Refusal> {
    match served.engine().failure() {
        None => Ok(Json(Health { status: "ok" })),
        Some(reason) => {
            let error = format!("the engine has ended: {reason}");
            Err(Refusal::broken(error))
        }
    }
}

/// Says whether it can answer.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    responses(
        (status = 200, description = "It can", body = Readiness),
        (status = 503, description = "What is missing", body = Readiness),
        (status = 500, description = "The engine has ended", body = RefusalBody),
    ),
    security(()),
)]
pub(crate) async fn ready(State(served): State<Arc<Served>>, caller: Caller) -> Response {
    match served.probe(|engine| engine.relations()).await {
        Ok(relations) => {
            let mut waiting = waiting(&relations);
            let ready = waiting.is_empty() && !served.is_closing();
            // Everybody is told whether it is, and who may look, for what it waits.
            waiting.retain(|name| caller.has(Role::Read) && caller.reaches(name));
            let status = match ready {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            json_response(status, &Readiness { ready, waiting })
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// What is waited for before it can answer: sources that have not given what they had at the start, and
/// views without a complete epoch, unless there was nothing that one could be of.
pub(crate) fn waiting(relations: &[RelationInfo]) -> Vec<String> {
    let mut streams = relations.iter().filter(|of| !of.kind.is_view());
    let has_rows = streams.any(|of| of.epoch.is_some() || of.n_pending > 0);
    let is_awaited = |of: &&RelationInfo| match of.kind.is_view() {
        false => !of.is_caught_up,
        true => has_rows && of.epoch.is_none(),
    };
    let awaited = relations.iter().filter(is_awaited);
    awaited.map(|of| of.name.to_string()).collect()
}

/// What of that a relation waits for: itself, and what stands behind it.
pub(super) fn awaited_by(relations: &[RelationInfo], name: &str) -> Vec<String> {
    let mut behind = vec![name];
    let mut at = 0;
    while let Some(name) = behind.get(at).copied() {
        let reads = relations.iter().filter(|of| *of.name == *name);
        for read in reads.flat_map(|of| &of.reads) {
            if !behind.contains(&&**read) {
                behind.push(read);
            }
        }
        at += 1;
    }
    let mut awaited = waiting(relations);
    awaited.retain(|name| behind.contains(&name.as_str()));
    awaited
}
