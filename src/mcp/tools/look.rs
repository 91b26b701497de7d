//! `views`, `snapshot`, `changes_since` and `sql_query`: what is there, and what changed?

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::{bounded, is_too_large};
use crate::serve::{Caller, EventId, Refusal, Role, Served, SubscribeOptions, Which};

pub(super) const VIEWS: &str = "\
Lists sources, tables and views: what each reads, how many rows it has, how fresh it is, and which views can be \
asked a question.";

pub(super) const SNAPSHOT: &str = "\
Tells what a view, source or table holds now: of a view of answers each question, its answer, and the documents \
that each sentence leans on; and the id from which `changes_since` goes on.";

pub(super) const CHANGES: &str = "\
Tells what changed in a view since an id, and the id to ask with the next time. Without an id it tells all that \
stands. Where that, or what changed, is too much, it tells none of it, and `look_at` says what to look at before \
going on from the id. With `wait_s` it waits for a change. To be notified instead, subscribe to the resource \
perennial://views/NAME.";

pub(super) const SQL: &str = "\
Answers one SELECT (or SHOW, or EXPLAIN) over sources, tables and views, as of all that was said before. It \
changes nothing and asks no model.";

/// Rows, unless said.
const ROWS: usize = 50;
/// The most that can be asked for.
const MAX_ROWS: usize = 1_000;
/// The most changes that are told at once.
const MAX_CHANGES: usize = 1_000;
/// How long is waited for what stands to be known.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Views {}

pub(super) async fn views(
    served: &Arc<Served>,
    caller: &Caller,
    Views {}: Views,
) -> Result<Value, Refusal> {
    // Who may only ask is told of what can be asked.
    let askable = served.askable(caller).await?;
    let mut views = match caller.may(Role::Read) {
        Ok(()) => {
            let relations = served.relations(caller).await?;
            serde_json::to_value(&relations).unwrap_or_default()["relations"].take()
        }
        Err(_) => askable
            .iter()
            .map(|of| json!({ "name": of.view, "kind": "answers" }))
            .collect(),
    };
    for view in views.as_array_mut().into_iter().flatten() {
        let of = askable.iter().find(|of| view["name"] == *of.view);
        view["can_be_asked"] = of.is_some().into();
        // Who may only ask need not know what is behind it.
        if let Some(of) = of
            && caller.has(Role::Read)
        {
            view["documents"] = json!(of.plan.data_source);
            view["matching"] = json!(of.plan.matching);
        }
    }
    let mut given = json!({ "views": views });
    bounded(&mut given, "views");
    Ok(given)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Snapshot {
    /// A view, source or table.
    view: String,
    /// Only what stands under this key.
    #[serde(default)]
    key: Option<String>,
    /// At most so many rows: 50 unless said, up to 1,000.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// Leave so many out, in the order of keys.
    #[serde(default)]
    offset: Option<usize>,
}

pub(super) async fn snapshot(
    served: &Arc<Served>,
    caller: &Caller,
    arguments: Snapshot,
) -> Result<Value, Refusal> {
    let which = Which {
        key: arguments.key,
        as_of: None,
        limit: Some(arguments.limit.unwrap_or(ROWS).clamp(1, MAX_ROWS)),
        offset: arguments.offset,
    };
    let held = served.held(caller, arguments.view, which).await?;
    let mut held = serde_json::to_value(&held).unwrap_or_default();
    bounded(&mut held, "rows");
    Ok(held)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    /// A view.
    view: String,
    /// The id that was told the last time.
    #[serde(default)]
    since: Option<String>,
    /// Only what becomes of this key.
    #[serde(default)]
    key: Option<String>,
    /// How long to wait for a change, in seconds: 0 unless said, at most 60.
    #[serde(default)]
    #[schemars(range(min = 0, max = 60))]
    wait_s: Option<u64>,
}

pub(super) async fn changes(
    served: &Arc<Served>,
    caller: &Caller,
    arguments: Changes,
) -> Result<Value, Refusal> {
    caller.may_of(Role::Read, &arguments.view)?;
    let since = match &arguments.since {
        None => None,
        Some(id) => Some(EventId::parse(id).ok_or_else(|| {
            let error = "`since` is no id";
            Refusal::of_arguments(error, "give one as it was told, or none")
        })?),
    };
    let options = SubscribeOptions {
        snapshot: since.is_none(),
        early: false,
        as_of: since,
        key: arguments.key,
        caller: Some(caller.clone()),
        ..SubscribeOptions::default()
    };
    let mut reader = served.subscribe(&arguments.view, options)?;
    let wait = Duration::from_secs(arguments.wait_s.unwrap_or(0).min(60));
    let (began, mut id) = (Instant::now(), None);
    let (mut changes, mut n_changes, mut has_reset) = (Vec::new(), 0, since.is_none());
    loop {
        // What stands is told in any case; further changes only in time.
        let until = match id {
            None => began + PATIENCE.max(wait),
            Some(_) => began + wait,
        };
        let event = match timeout_at(until, reader.next()).await {
            Ok(event) => event,
            Err(_) if id.is_some() => break,
            Err(_) => {
                let error = format!("`{}` has no complete epoch yet", arguments.view);
                return Err(Refusal::late(error, "ask again in a while"));
            }
        };
        let Some(event) = event else { break };
        match event.name {
            "answer" | "row" => {
                n_changes += 1;
                if n_changes <= MAX_CHANGES {
                    changes.push(serde_json::from_str(&event.data).unwrap_or(Value::Null));
                }
            }
            "reset" => {
                (changes, n_changes, has_reset) = (Vec::new(), 0, true);
            }
            "end" if !caller.still_may(Role::Read, &arguments.view) => {
                return Err(Refusal::unauthorized());
            }
            "end" => {
                let error = format!("`{}` was dropped, or has failed", arguments.view);
                return Err(Refusal::nothing_there(error, "`views` tells what there is"));
            }
            _ => {}
        }
        if let Some(at) = event.id {
            id = Some(at);
            if n_changes > 0 || has_reset {
                break;
            }
        }
    }
    let mut told = json!({
        "view": arguments.view,
        "id": id.map(|id| id.to_string()),
        // What was known before is to be forgotten.
        "is_all": has_reset,
        "changes": [],
    });
    if n_changes > MAX_CHANGES || is_too_large(&changes) {
        // A part of them would never be followed by the rest: the id is behind all.
        told["is_all"] = true.into();
        told["n_changes"] = n_changes.into();
        told["look_at"] = "what stands, with `snapshot`, page by page, or at one `key`".into();
    } else {
        told["changes"] = changes.into();
    }
    Ok(told)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sql {
    /// The statement.
    sql: String,
    /// At most so many rows are given: 100 unless said, up to 1,000.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
}

pub(super) async fn sql(
    served: &Arc<Served>,
    caller: &Caller,
    arguments: Sql,
) -> Result<Value, Refusal> {
    caller.may_of_all(Role::Read)?;
    let instead = "`remember` and `forget` change what is stored, and `ask` asks a view";
    let outcomes = served.sql(caller, arguments.sql, Some(instead)).await?;
    let mut outcomes = serde_json::to_value(&outcomes).unwrap_or_default();
    let outcome = match outcomes.as_array_mut() {
        Some(outcomes) if outcomes.len() == 1 => outcomes.remove(0),
        _ => {
            let error = "there is more than one statement";
            return Err(Refusal::of_arguments(error, "send one at a time"));
        }
    };
    let mut given = outcome;
    let limit = arguments.limit.unwrap_or(100).clamp(1, MAX_ROWS);
    if let Some(rows) = given.get_mut("rows").and_then(Value::as_array_mut) {
        let n_rows = rows.len();
        rows.truncate(limit);
        given["n_rows"] = n_rows.into();
    }
    bounded(&mut given, "rows");
    Ok(given)
}
