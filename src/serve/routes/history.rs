//! `GET /v1/history`: the epochs that can still be told of.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::admission::Caller;
use super::super::refusal::{Json, Refusal, RefusalBody};
use super::super::served::Served;
use super::super::tokens::Role;
use super::request::{self, Params};
use crate::state::HistoryEntry;

/// The most epochs of a reply.
const MAX_PAGE: usize = 1_000;

/// Which epochs.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// The newest of them: 1,000 unless said.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// The epochs that can be told of.
#[derive(Serialize, ToSchema)]
pub(crate) struct HistoryJson {
    /// Oldest first.
    #[schema(value_type = Vec<Object>)]
    epochs: Vec<HistoryEntry>,
}

/// Lists the epochs that can be told of, and what each changed.
#[utoipa::path(
    get,
    path = "/v1/history",
    tag = "history",
    params(Which),
    responses(
        (status = 200, description = "The epochs", body = HistoryJson),
        (status = 400, description = "There is no state folder", body = RefusalBody),
    ),
)]
pub(crate) async fn history(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Params(which): Params<Which>,
) -> Result<Json<HistoryJson>, Refusal> {
    caller.may_of_all(Role::Read)?;
    let limit = request::limit(which.limit, MAX_PAGE, MAX_PAGE, "ask for fewer")?;
    let mut epochs = served.ask(|engine| engine.history()).await?;
    let n_more = epochs.len().saturating_sub(limit);
    let epochs = epochs.split_off(n_more);
    Ok(Json(HistoryJson { epochs }))
}
