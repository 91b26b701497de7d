//! `/v1/quarantine`: what was refused, and what becomes of it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::admission::Caller;
use super::super::refusal::{Json, Refusal, RefusalBody};
use super::super::served::Served;
use super::super::tokens::Role;
use super::request::{self, Named, Params};
use crate::json::QuarantinedJson;

/// Records of a reply, unless said.
const PAGE: usize = 100;
/// The most records of a reply.
const MAX_PAGE: usize = 1_000;

/// Which records.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Only those of this stream.
    #[serde(default)]
    stream: Option<String>,
    /// At most so many: 100 unless said, up to 1,000.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Those behind this number.
    #[serde(default)]
    after: Option<u64>,
}

/// What is in quarantine.
#[derive(Serialize, ToSchema)]
pub(crate) struct QuarantineJson {
    /// Oldest first.
    records: Vec<QuarantinedJson>,
    /// How many there are, on this page and others.
    n_records: usize,
}

/// A record that was taken in.
#[derive(Serialize, ToSchema)]
pub(crate) struct Resubmitted {
    number: u64,
    stream: String,
    key: String,
}

/// A record that is forgotten.
#[derive(Serialize, ToSchema)]
pub(crate) struct Discarded {
    number: u64,
}

/// Lists what was refused.
#[utoipa::path(
    get,
    path = "/v1/quarantine",
    tag = "quarantine",
    params(Which),
    responses((status = 200, description = "What was refused", body = QuarantineJson)),
)]
pub(crate) async fn list(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Params(which): Params<Which>,
) -> Result<Json<QuarantineJson>, Refusal> {
    caller.may_of_all(Role::Read)?;
    let hint = "ask for further ones with `after`";
    let limit = request::limit(which.limit, PAGE, MAX_PAGE, hint)?;
    let Which { stream, after, .. } = which;
    let page = served
        .ask(move |engine| engine.quarantine_page(stream.as_deref(), after, limit))
        .await?;
    let records = page.records.into_iter();
    Ok(Json(QuarantineJson {
        records: records.map(QuarantinedJson::from).collect(),
        n_records: page.n_records,
    }))
}

/// Takes a refused record in: as it was, or as it was meant.
#[utoipa::path(
    post,
    path = "/v1/quarantine/{number}",
    tag = "quarantine",
    params(("number" = u64, Path, description = "Its number")),
    request_body(content = Option<String>, content_type = "application/json",
        description = "The record that was meant; nothing for the record as it was"),
    responses(
        (status = 200, description = "It was taken in", body = Resubmitted),
        (status = 400, description = "It is no record still", body = RefusalBody),
        (status = 404, description = "Nothing has this number", body = RefusalBody),
    ),
)]
pub(crate) async fn resubmit(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(number): Named<u64>,
    body: Body,
) -> Result<Json<Resubmitted>, Refusal> {
    caller.may(Role::Admin)?;
    let limits = &served.limits;
    let meant = request::body(body, limits.posted.line, limits.body_time).await?;
    let meant = (!meant.iter().all(u8::is_ascii_whitespace)).then(|| meant.to_vec());
    let taken = served
        .ask(move |engine| engine.resubmit(number, meant))
        .await?;
    let (stream, key) = taken;
    Ok(Json(Resubmitted {
        number,
        stream: stream.to_string(),
        key: key.as_str().to_owned(),
    }))
}

/// Forgets a refused record.
#[utoipa::path(
    delete,
    path = "/v1/quarantine/{number}",
    tag = "quarantine",
    params(("number" = u64, Path, description = "Its number")),
    responses(
        (status = 200, description = "It is forgotten", body = Discarded),
        (status = 404, description = "Nothing has this number", body = RefusalBody),
    ),
)]
pub(crate) async fn discard(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(number): Named<u64>,
) -> Result<Json<Discarded>, Refusal> {
    caller.may(Role::Admin)?;
    match served.ask(move |engine| engine.discard(number)).await? {
        true => Ok(Json(Discarded { number })),
        false => {
            let error = format!("nothing in quarantine has the number {number}");
            Err(Refusal::not_found(
                error,
                "GET /v1/quarantine lists what there is",
            ))
        }
    }
}
