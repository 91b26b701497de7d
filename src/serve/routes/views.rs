//! `GET /v1/views/{view}`: what a view, or a stream, holds or held.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use perennial_rows::{Schema, Tuple};
use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;
use utoipa::{IntoParams, ToSchema};

use super::super::admission::Caller;
use super::super::feed::{Content, Feed, Moment, Said, is_of_key};
use super::super::json::{self, AnswerJson};
use super::super::refusal::{Json, Refusal, RefusalBody};
use super::super::served::{Served, there_are};
use super::super::tokens::Role;
use super::health::awaited_by;
use super::relations::kind;
use super::request::{self, Named, Params};
use crate::engine::{CurrentAnswer, Engine, RelationKind};
use crate::state::{AsOf, StateAsOf};

/// Rows of a page, unless said.
const PAGE: usize = 1_000;
/// How often it is looked whether a view is still to say something.
const LOOK: Duration = Duration::from_millis(100);

/// Which rows.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Only those of this key.
    #[serde(default)]
    pub(crate) key: Option<String>,
    /// Those that stood at this epoch.
    #[serde(default)]
    pub(crate) as_of: Option<u64>,
    /// At most so many: 1,000 unless said, up to 10,000.
    #[serde(default)]
    #[param(minimum = 1, maximum = 10000)]
    pub(crate) limit: Option<usize>,
    /// Leave so many out, in the order of keys.
    #[serde(default)]
    #[param(minimum = 0)]
    pub(crate) offset: Option<usize>,
}

/// What a relation holds.
#[derive(Serialize, ToSchema)]
pub(crate) struct Held {
    /// Its name.
    view: String,
    /// `source`, `table`, `answers` or `query`.
    kind: &'static str,
    /// The epoch of which this is; null before the first.
    epoch: Option<u64>,
    /// Where who knows this may go on from, told of what changes; null but of what a view holds now.
    id: Option<String>,
    /// How many rows there are.
    n_rows: usize,
    /// The answers, or the rows.
    rows: Vec<HeldRow>,
}

/// A row of a relation.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum HeldRow {
    /// An answer.
    Answer(Box<AnswerJson>),
    /// A row of anything else.
    Row {
        /// Its values by column.
        #[schema(value_type = Object)]
        row: serde_json::Value,
        /// How often it stands.
        count: isize,
    },
}

/// Tells what a view, source or table holds.
#[utoipa::path(
    get,
    path = "/v1/views/{view}",
    tag = "views",
    params(("view" = String, Path, description = "A view, source or table"), Which),
    responses(
        (status = 200, description = "What it holds", body = Held),
        (status = 400, description = "A parameter is not understood", body = RefusalBody),
        (status = 404, description = "There is no such relation, or key", body = RefusalBody),
        (status = 410, description = "The history does not go back so far", body = RefusalBody),
        (status = 503, description = "It has no complete epoch yet", body = RefusalBody),
    ),
)]
pub(crate) async fn view(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(name): Named<String>,
    Params(which): Params<Which>,
) -> Result<Json<Held>, Refusal> {
    Ok(Json(served.held(&caller, name, which).await?))
}

impl Served {
    /// What a view, source or table holds, for somebody.
    ///
    /// # Errors
    /// Where they may not look, there is no such thing, or it is a view that has not said anything yet and
    /// does not in time.
    pub(crate) async fn held(
        self: &Arc<Self>,
        caller: &Caller,
        name: String,
        which: Which,
    ) -> Result<Held, Refusal> {
        caller.may_of(Role::Read, &name)?;
        let hint = "ask for further rows with `offset`";
        let page = Page {
            limit: request::limit(which.limit, PAGE, self.limits.rows, hint)?,
            offset: which.offset.unwrap_or(0),
        };
        let (name, key) = (Arc::<str>::from(name), which.key);
        let held = match which.as_of {
            Some(epoch) => {
                let (name, key) = (name.clone(), key.clone());
                self.ask(move |engine| Ok(held_at(engine, &name, key.as_deref(), epoch, page)))
                    .await??
            }
            None => match self.feed(&name) {
                Ok(feed) => match first_moment(self, caller, &feed, key.as_deref()).await? {
                    Some(moment) => of_moment(&name, moment, page),
                    None => nothing_yet(self, &name).await?,
                },
                Err(_) => {
                    let (name, key, caller) = (name.clone(), key.clone(), caller.clone());
                    let ask = move |engine: &Engine| {
                        Ok(of_stream(engine, &caller, &name, key.as_deref(), page))
                    };
                    self.ask(ask).await??
                }
            },
        };
        if let (Some(key), true) = (key, held.rows.is_empty()) {
            let error = format!("`{name}` has no row under the key `{key}`");
            let hint = format!("GET /v1/views/{name} tells what it holds");
            return Err(Refusal::not_found(error, hint));
        }
        Ok(held)
    }
}

/// A part of all rows.
#[derive(Clone, Copy)]
struct Page {
    limit: usize,
    offset: usize,
}

impl Page {
    fn of<T, R>(self, rows: impl Iterator<Item = T>, make: impl FnMut(T) -> R) -> Vec<R> {
        rows.skip(self.offset).take(self.limit).map(make).collect()
    }
}

fn of_moment(name: &str, moment: Moment, page: Page) -> Held {
    let Moment {
        id,
        kind: of,
        columns,
        n_rows,
        stood,
    } = moment;
    let rows = match stood {
        Content::Answers(answers) => {
            let answer =
                |said: &Arc<Said>| HeldRow::Answer(Box::new(AnswerJson::of(&said.update, said.at)));
            page.of(answers.iter(), answer)
        }
        Content::Rows(rows) => rows_of(&columns, rows, None, page),
    };
    Held {
        view: name.to_owned(),
        kind: kind(of),
        epoch: Some(id.epoch),
        id: Some(id.to_string()),
        n_rows,
        rows,
    }
}

fn rows_of(
    columns: &Schema,
    rows: Vec<(Tuple, isize)>,
    key: Option<&str>,
    page: Page,
) -> Vec<HeldRow> {
    let is_asked =
        |(tuple, _): &&(Tuple, isize)| key.is_none_or(|key| is_of_key(columns, tuple, key));
    let row = |(tuple, count): &(Tuple, isize)| HeldRow::Row {
        row: json::row(columns, tuple),
        count: *count,
    };
    page.of(rows.iter().filter(is_asked), row)
}

/// What a view says, which may take it a while after a start: until its first epoch is complete it has said
/// nothing, and that is not as if it held nothing. None where there is nothing that it could say something of.
///
/// # Errors
/// Where that takes too long, with what is awaited.
async fn first_moment(
    served: &Arc<Served>,
    caller: &Caller,
    feed: &Feed,
    key: Option<&str>,
) -> Result<Option<Moment>, Refusal> {
    let until = Instant::now() + served.limits.patience;
    let mut news = feed.news();
    loop {
        // Before it is looked, so that what comes meanwhile is seen.
        news.borrow_and_update();
        if let Some(moment) = feed.moment(key) {
            return Ok(Some(moment));
        }
        // It may have been dropped meanwhile.
        served.feed(feed.name())?;
        let relations = served.ask(|engine| engine.relations()).await?;
        let mut awaited = awaited_by(&relations, feed.name());
        if awaited.is_empty() {
            return Ok(None);
        }
        let now = Instant::now();
        let look_again = until.min(now + LOOK);
        // That a source has nothing to give is no news of the view.
        if timeout_at(look_again.into(), news.changed()).await.is_err() && now >= until {
            awaited.retain(|name| caller.reaches(name));
            let error = format!("`{}` has no complete epoch yet", feed.name());
            let hint = "ask again in a while, or subscribe: what it says then comes at once";
            return Err(Refusal::unavailable(error, hint).with("waiting", awaited));
        }
    }
}

/// A view that has nothing to say anything of.
async fn nothing_yet(served: &Arc<Served>, name: &str) -> Result<Held, Refusal> {
    let relations = served.ask(|engine| engine.relations()).await?;
    let of = relations.iter().find(|of| *of.name == *name);
    Ok(Held {
        view: name.to_owned(),
        kind: kind(of.map_or(RelationKind::Query, |of| of.kind)),
        epoch: None,
        id: None,
        n_rows: 0,
        rows: Vec::new(),
    })
}

fn of_stream(
    engine: &Engine,
    caller: &Caller,
    name: &str,
    key: Option<&str>,
    page: Page,
) -> Result<Held, Refusal> {
    let relations = engine.relations()?;
    let Some(of) = relations.iter().find(|of| *of.name == *name) else {
        let names = relations.iter().map(|of| &*of.name);
        let names: Vec<&str> = names.filter(|name| caller.reaches(name)).collect();
        let error = format!("there is no view, source or table `{name}`");
        return Err(Refusal::not_found(error, there_are(&names)));
    };
    let snapshot = engine.snapshot(name)?;
    Ok(Held {
        view: name.to_owned(),
        kind: kind(of.kind),
        epoch: snapshot.epoch,
        id: None,
        n_rows: snapshot.rows.len(),
        rows: rows_of(&snapshot.schema, snapshot.rows, key, page),
    })
}

/// What answers, or rows of a stream, stood at an epoch.
fn held_at(
    engine: &Engine,
    name: &str,
    key: Option<&str>,
    epoch: u64,
    page: Page,
) -> Result<Held, Refusal> {
    let relations = engine.relations()?;
    let known = relations.iter().find(|of| *of.name == *name);
    if known.is_some_and(|of| of.kind == RelationKind::Query) {
        let error = format!("the rows of `{name}` follow from what it reads: no history is kept");
        return Err(Refusal::bad(
            error,
            "ask for what it reads as of that epoch",
        ));
    }
    let StateAsOf {
        answers, documents, ..
    } = engine.as_of(AsOf::Epoch(epoch))?;
    // Questions are rows of the view's contexts. A document may have the key of one.
    let contexts = known
        .and_then(|of| of.plan.as_ref())
        .and_then(|plan| documents.get(&*plan.context));
    let questions: HashMap<&str, &Arc<str>> = contexts
        .into_iter()
        .flatten()
        .map(|row| (row.key.as_str(), &row.text))
        .collect();
    let is_asked = |of: &str| key.is_none_or(|key| key == of);
    let (of, n_rows, rows) = if let Some(answers) = answers.get(name) {
        let asked = answers
            .iter()
            .filter(|(context, _)| is_asked(context.as_str()));
        let rows = page.of(asked, |(context, answer): (_, &CurrentAnswer)| {
            let question = questions.get(context.as_str());
            let question = question.map(|text| text.to_string()).unwrap_or_default();
            HeldRow::Answer(Box::new(AnswerJson::held(
                context.as_str(),
                question,
                answer,
            )))
        });
        (RelationKind::Answers, answers.len(), rows)
    } else if let Some(rows) = documents.get(name) {
        let asked = rows.iter().filter(|row| is_asked(row.key.as_str()));
        let made = page.of(asked, |row| HeldRow::Row {
            row: serde_json::json!({
                "key": row.key, "title": row.title, "text": row.text,
                "updated_at": row.updated_at_ms,
            }),
            count: 1,
        });
        (
            known.map_or(RelationKind::Source, |of| of.kind),
            rows.len(),
            made,
        )
    } else if known.is_some() {
        // It held nothing then.
        (
            known.map_or(RelationKind::Source, |of| of.kind),
            0,
            Vec::new(),
        )
    } else {
        let error = format!("there was no view, source or table `{name}`");
        return Err(Refusal::not_found(
            error,
            "GET /v1/relations tells what there is",
        ));
    };
    Ok(Held {
        view: name.to_owned(),
        kind: kind(of),
        epoch: Some(epoch),
        id: None,
        n_rows,
        rows,
    })
}
