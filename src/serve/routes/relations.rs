//! `GET /v1/relations`: what there is.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::admission::Caller;
use super::super::json::{self, ColumnJson};
use super::super::refusal::{Json, Refusal};
use super::super::served::Served;
use super::super::tokens::Role;
use crate::engine::{RelationInfo, RelationKind};

/// All streams and views.
#[derive(Serialize, ToSchema)]
pub(crate) struct Relations {
    /// Streams first, in the order in which they were made.
    relations: Vec<Relation>,
}

/// A stream or a view.
#[derive(Serialize, ToSchema)]
pub(crate) struct Relation {
    name: String,
    /// `source`, `table`, `answers` (a view that asks a model) or `query`.
    kind: &'static str,
    columns: Vec<ColumnJson>,
    /// Whether its rows may have other columns, too.
    is_open: bool,
    /// Whether records may be posted to it.
    is_posted_to: bool,
    /// What it reads, of what the token reaches.
    reads: Vec<String>,
    n_rows: usize,
    /// Of a view that asks a model: answers that have an error in place of a text. They are no rows.
    n_failed: Option<usize>,
    /// The newest epoch that it reflects.
    epoch: Option<u64>,
    /// Of a view: fresh, starting, refreshing, target lag, budget or upstream.
    status: Option<String>,
    /// Closed epochs with changes for it that it has not taken.
    n_behind: Option<usize>,
    /// How long the oldest of these changes has waited.
    lag_ms: Option<u64>,
    /// When it takes its epochs, where that is set.
    options: Option<String>,
    /// Why its source has failed.
    failure: Option<String>,
}

/// What a relation is called by its kind.
pub(crate) fn kind(of: RelationKind) -> &'static str {
    match of {
        RelationKind::Source => "source",
        RelationKind::Table => "table",
        RelationKind::Answers => "answers",
        RelationKind::Query => "query",
    }
}

impl Relation {
    fn of(of: &RelationInfo, served: &Served, caller: &Caller) -> Self {
        let reads = of.reads.iter().filter(|name| caller.reaches(name));
        let lag = of.staleness.and_then(|staleness| staleness.lag);
        Self {
            name: of.name.to_string(),
            kind: kind(of.kind),
            columns: json::columns(&of.schema),
            is_open: of.is_open,
            is_posted_to: served.is_posted_to(&of.name),
            reads: reads.map(ToString::to_string).collect(),
            n_rows: of.n_rows,
            n_failed: served.feed_of(&of.name).and_then(|feed| feed.n_failed()),
            epoch: of.epoch,
            status: of.staleness.map(|staleness| staleness.status.to_string()),
            n_behind: of.staleness.map(|staleness| staleness.n_behind),
            lag_ms: lag.map(json::milliseconds),
            options: (!of.pace.is_unlimited()).then(|| of.pace.to_string()),
            failure: of.failure.as_deref().map(str::to_owned),
        }
    }
}

/// Lists streams and views.
#[utoipa::path(
    get,
    path = "/v1/relations",
    tag = "relations",
    responses((status = 200, description = "What there is", body = Relations)),
)]
pub(crate) async fn relations(
    State(served): State<Arc<Served>>,
    caller: Caller,
) -> Result<Json<Relations>, Refusal> {
    Ok(Json(served.relations(&caller).await?))
}

impl Served {
    /// Streams and views, for somebody.
    ///
    /// # Errors
    /// Where they may not look.
    pub(crate) async fn relations(self: &Arc<Self>, caller: &Caller) -> Result<Relations, Refusal> {
        caller.may(Role::Read)?;
        let relations = self.ask(|engine| engine.relations()).await?;
        let reached = relations.iter().filter(|of| caller.reaches(&of.name));
        Ok(Relations {
            relations: reached.map(|of| Relation::of(of, self, caller)).collect(),
        })
    }
}
