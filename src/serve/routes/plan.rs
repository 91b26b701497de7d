//! `GET /v1/views/{view}/plan`: how a view is computed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::admission::Caller;
use super::super::refusal::{Json, Refusal, RefusalBody};
use super::super::served::Served;
use super::super::tokens::Role;
use super::relations::kind;
use super::request::Named;
use crate::engine::RelationInfo;

/// How a view is computed, from the streams on that it rests on.
#[derive(Serialize, ToSchema)]
pub(crate) struct Plan {
    view: String,
    /// `answers` or `query`.
    kind: &'static str,
    /// The plan of the view itself, in words; empty for who does not reach all that it rests on.
    text: String,
    /// Streams and views, of those that the token reaches.
    nodes: Vec<Node>,
    /// Which is read by which.
    edges: Vec<Edge>,
}

/// A stream or a view.
#[derive(Serialize, ToSchema)]
pub(crate) struct Node {
    /// Its name.
    id: String,
    kind: &'static str,
    label: String,
    n_rows: usize,
    epoch: Option<u64>,
    /// What it asks models, where it does.
    asks: Option<Asks>,
}

/// What a view asks models.
#[derive(Serialize, ToSchema)]
pub(crate) struct Asks {
    /// Their names; null is the one that is asked where none is named.
    models: Vec<Option<String>>,
    /// Calls since the server began.
    n_calls: usize,
    /// Those of them that gave an error.
    n_failed: usize,
}

/// That one relation is read by another.
#[derive(Serialize, ToSchema)]
pub(crate) struct Edge {
    from: String,
    to: String,
}

/// Tells how a view is computed, as a graph.
#[utoipa::path(
    get,
    path = "/v1/views/{view}/plan",
    tag = "views",
    params(("view" = String, Path, description = "A view")),
    responses(
        (status = 200, description = "Its plan", body = Plan),
        (status = 404, description = "There is no such view", body = RefusalBody),
    ),
)]
pub(crate) async fn plan(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(name): Named<String>,
) -> Result<Json<Plan>, Refusal> {
    caller.may_of(Role::Read, &name)?;
    // That it is there, and how it is called, is said in the same words everywhere.
    served.feed_for(&caller, &name)?;
    let view = name.clone();
    let (relations, explained) = served
        .ask(move |engine| {
            let relations = engine.relations()?;
            let below = below(&relations, &view);
            let explained = below.iter().filter_map(|name| {
                let explained = engine.explain(name).ok()?;
                Some((name.clone(), explained))
            });
            let explained: BTreeMap<_, _> = explained.collect();
            let relations: Vec<RelationInfo> = relations
                .into_iter()
                .filter(|of| below.contains(&of.name))
                .collect();
            Ok((relations, explained))
        })
        .await?;
    // What it rests on is told as far as it may be looked at itself.
    let (relations, others): (Vec<_>, Vec<_>) = relations
        .into_iter()
        .partition(|of| caller.reaches(&of.name));
    let node = |of: &RelationInfo| {
        let asked = explained.get(&of.name).map(|(_, models)| models);
        let asked = asked.filter(|models| !models.is_empty());
        let totals = served
            .feed(&of.name)
            .map(|feed| feed.totals())
            .unwrap_or_default();
        let counts = totals.rungs;
        Node {
            id: of.name.to_string(),
            kind: kind(of.kind),
            label: of.name.to_string(),
            n_rows: of.n_rows,
            epoch: of.epoch,
            asks: asked.map(|models| Asks {
                models: models
                    .iter()
                    .map(|name| name.as_deref().map(str::to_owned))
                    .collect(),
                n_calls: counts.n_read() + counts.failed,
                n_failed: counts.failed,
            }),
        }
    };
    let edge = |of: &RelationInfo| -> Vec<Edge> {
        let reads = of.reads.iter().filter(|read| caller.reaches(read));
        let edges = reads.map(|read| Edge {
            from: read.to_string(),
            to: of.name.to_string(),
        });
        edges.collect()
    };
    let this = relations.iter().find(|of| *of.name == *name);
    // It names what is read.
    let text = explained.get(&*name).filter(|_| others.is_empty());
    let text = text.map(|(text, _)| text.clone());
    Ok(Json(Plan {
        kind: this.map_or("query", |of| kind(of.kind)),
        text: text.unwrap_or_default(),
        nodes: relations.iter().map(node).collect(),
        edges: relations.iter().flat_map(edge).collect(),
        view: name,
    }))
}

/// A view and all that it rests on.
fn below(relations: &[RelationInfo], view: &str) -> BTreeSet<Arc<str>> {
    let mut below: BTreeSet<Arc<str>> = BTreeSet::from([view.into()]);
    let mut open: Vec<Arc<str>> = vec![view.into()];
    while let Some(name) = open.pop() {
        let of = relations.iter().find(|of| of.name == name);
        for read in of.into_iter().flat_map(|of| &of.reads) {
            if below.insert(read.clone()) {
                open.push(read.clone());
            }
        }
    }
    below
}
