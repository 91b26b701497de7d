//! `/v1/streams` and `/v1/tokens`: records that are posted, and what became of them.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::super::admission::Caller;
use super::super::refusal::{Refusal, RefusalBody};
use super::super::served::Served;
use super::super::tokens::Role;
use super::request::Named;

/// How long to wait. Read by who takes the records in.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "it describes what another reads")]
pub(crate) struct Waiting {
    /// Seconds to wait for it to be visible, up to 60.
    #[param(minimum = 0, value_type = Option<u64>)]
    wait: Option<u64>,
}

/// What came of a request.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "it describes what another writes")]
pub(crate) struct Taken {
    /// Good lines.
    accepted: usize,
    /// Lines that are no records; the first 100.
    rejected: Vec<RejectedLine>,
    /// How many there are of them.
    n_rejected: usize,
    /// Columns that a source does not declare, and that were left out.
    left_out: Vec<LeftOut>,
    /// Names the request.
    #[schema(example = "docs.5f3a9c0e11d2b467.12")]
    token: String,
    /// Whether it is in a complete epoch, and stored where anything is.
    visible: bool,
    /// The last complete epoch then.
    epoch: Option<u64>,
}

/// A line that is no record.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "it describes what another writes")]
pub(crate) struct RejectedLine {
    /// From 1.
    line: Option<u64>,
    /// Its key, where that can be told.
    key: Option<String>,
    /// Why.
    reason: String,
}

/// A column that was left out of records.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "it describes what another writes")]
pub(crate) struct LeftOut {
    /// Its name.
    column: String,
    /// How many records have it.
    n_records: usize,
}

/// Why nothing of a request was accepted. Where each line was refused, they are told.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "it describes what another writes")]
pub(crate) struct Untaken {
    /// What is wrong, with the first line that was refused.
    #[schema(example = "nothing was accepted: line 1: the field \"key\" is missing")]
    error: String,
    /// What to do.
    hint: String,
    /// 0.
    accepted: Option<usize>,
    /// Lines that are no records; the first 100.
    rejected: Option<Vec<RejectedLine>>,
    /// How many there are of them.
    n_rejected: Option<usize>,
    /// Names the request: what a source was sent is in quarantine once that is visible.
    token: Option<String>,
    /// Whether it is.
    visible: Option<bool>,
    /// The last complete epoch then.
    epoch: Option<u64>,
}

/// What became of a request.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "it describes what another writes")]
pub(crate) struct Fate {
    /// Whether it is in a complete epoch, and stored where anything is.
    visible: bool,
    /// The last complete epoch then.
    epoch: Option<u64>,
}

/// Takes lines of JSON into a source or a table.
#[utoipa::path(
    post,
    path = "/v1/streams/{stream}",
    tag = "streams",
    params(
        ("stream" = String, Path, description = "A source FROM HTTP, or a table"),
        ("traceparent" = Option<String>, Header,
            description = "Of which trace the records are, by W3C Trace Context"),
        Waiting,
    ),
    request_body(content = String, content_type = "application/x-ndjson",
        description = "One object a line: a record, or {\"delete\": {\"key\": …}}"),
    responses(
        (status = 200, description = "It is visible", body = Taken),
        (status = 202, description = "It is on its way", body = Taken),
        (status = 400, description = "Nothing of it is a record", body = Untaken),
        (status = 404, description = "There is no such stream", body = RefusalBody),
        (status = 409, description = "It is not posted to", body = RefusalBody),
        (status = 413, description = "It is too large", body = RefusalBody),
        (status = 415, description = "It is packed in an unknown way", body = RefusalBody),
        (status = 503, description = "The engine is behind", body = RefusalBody),
    ),
)]
pub(crate) async fn post(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(stream): Named<String>,
    request: Request,
) -> Result<Response, Refusal> {
    caller.may_of(Role::Write, &stream)?;
    served.check_fed(&stream)?;
    if !served.is_posted_to(&stream) {
        let relations = served.ask(|engine| engine.relations()).await?;
        let kind = relations
            .iter()
            .find(|of| *of.name == *stream)
            .map(|of| of.kind);
        return Err(match kind {
            None => {
                let error = format!("there is no stream `{stream}` to post to");
                let hint = "CREATE SOURCE name FROM HTTP, or CREATE TABLE name (…)";
                Refusal::not_found(error, hint)
            }
            Some(kind) if kind.is_view() => {
                let error = format!("`{stream}` is a view: it follows from what it reads");
                Refusal::conflict(error, "post to what it reads")
            }
            Some(_) => {
                let error = format!("`{stream}` is not posted to here");
                let hint = "it is fed by its own source, or has a name that cannot stand in a path";
                Refusal::conflict(error, hint)
            }
        });
    }
    let (parts, body) = request.into_parts();
    Ok(served.post(&stream, &parts, body).await)
}

/// Says whether what was posted is visible.
#[utoipa::path(
    get,
    path = "/v1/tokens/{token}",
    tag = "streams",
    params(("token" = String, Path, description = "As the reply to a POST had it"), Waiting),
    responses(
        (status = 200, description = "Whether it is visible", body = Fate),
        (status = 404, description = "No request has this token", body = RefusalBody),
        (status = 410, description = "It was lost with its process", body = RefusalBody),
    ),
)]
pub(crate) async fn look(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(token): Named<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let stream = token.split('.').next().unwrap_or_default();
    caller.may_of(Role::Write, stream)?;
    let (parts, _) = request.into_parts();
    Ok(served.look(&token, &parts).await)
}
