//! `POST /v1/sql`: statements.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::admission::Caller;
use super::super::refusal::{Json, Refusal, RefusalBody};
use super::super::served::Served;
use super::super::statements::{Executed, WITH_ADMIN};
use super::super::tokens::Role;
use super::request;

/// Statements to be carried out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Statements {
    /// One statement, or several with `;` between.
    #[schema(example = "SELECT key, text FROM answers")]
    sql: String,
}

/// What came of them.
#[derive(Serialize, ToSchema)]
pub(crate) struct Outcomes {
    /// One for each statement.
    outcomes: Vec<Executed>,
}

/// Carries statements out.
#[utoipa::path(
    post,
    path = "/v1/sql",
    tag = "statements",
    request_body = Statements,
    responses(
        (status = 200, description = "What came of each", body = Outcomes),
        (status = 400, description = "What is wrong, and what came of those before", body = RefusalBody),
        (status = 413, description = "The body, or what comes of it, is too large", body = RefusalBody),
        (status = 503, description = "Too many are under way", body = RefusalBody),
    ),
)]
pub(crate) async fn sql(
    State(served): State<Arc<Served>>,
    caller: Caller,
    body: Body,
) -> Result<Json<Outcomes>, Refusal> {
    let only_looks = !caller.has(Role::Admin);
    if only_looks {
        caller.may_of_all(Role::Read)?;
    }
    let limits = &served.limits;
    let bytes = request::body(body, limits.sql_body, limits.body_time).await?;
    let Statements { sql } = serde_json::from_slice(&bytes).map_err(|error| {
        let error = format!("the body is not understood: {error}");
        Refusal::bad(error, "send {\"sql\": \"SELECT …\"}")
    })?;
    let instead = only_looks.then_some(WITH_ADMIN);
    let outcomes = served.sql(&caller, sql, instead).await?;
    Ok(Json(Outcomes { outcomes }))
}
