//! What changed since a moment that a reader knows?
//!
//! All of it is found under the feed's lock, so that what is told with an id is what the view said at that
//! epoch. The same holds for answers that a reader was told early: where the epoch came to something else
//! than that, and to nothing that is news, they are told again as they stand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use perennial_bank::ContextKey;
use perennial_rows::{Schema, Tuple};
use perennial_views::Epoch;

use super::super::json::SummaryJson;
use super::answers::{Answers, Said};
use super::lookup::Past;
use super::{Body, EventId, Feed, State};

/// Why who knew an epoch cannot go on from it.
const NOT_KNOWN: &str = "what has changed since then is not known any more";

/// By context: the epoch of an answer that a reader was told before that was complete.
pub(super) type Previewed = BTreeMap<ContextKey, Epoch>;

/// What changed since a cursor.
pub(super) struct News {
    pub(super) id: EventId,
    pub(super) columns: Schema,
    pub(super) changes: Changes,
    /// The newest epoch's, with those of the ones before it that the reader was not told of.
    pub(super) summary: Option<Arc<SummaryJson>>,
    pub(super) overtaken: Vec<Arc<SummaryJson>>,
}

pub(super) enum Changes {
    Answers(Vec<Arc<Said>>),
    Rows(Vec<(Tuple, isize)>),
}

/// What may be told to who knows a view as of a moment.
pub(super) enum Since {
    /// This.
    News(News),
    /// Nothing: it is the present one.
    Nothing,
    /// The view has no complete epoch yet.
    NotYet,
    /// What changed since then must be looked up in the history.
    Before,
    /// It cannot be gone on from.
    Unknown(&'static str),
}

impl Feed {
    /// What changed since a moment.
    pub(super) fn since(&self, id: EventId, previewed: &Previewed) -> Since {
        let state = self.state();
        let Some(now) = state.id() else {
            return Since::NotYet;
        };
        if id.origin != now.origin {
            return Since::Unknown("this id is of another run, whose epochs are not known here");
        }
        if id.epoch > now.epoch {
            return Since::Unknown("this id is of a later time than is known here");
        }
        if id.epoch == now.epoch {
            return Since::Nothing;
        }
        let is_before = id.epoch < state.floor;
        let changes = match &state.body {
            Body::Answers(_) if is_before => return Since::Before,
            // The history has no rows.
            Body::Rows(_) if is_before => return Since::Unknown(NOT_KNOWN),
            Body::Answers(answers) => {
                let said = answers.since(id.epoch);
                self.with_previewed(answers, said, previewed, now.epoch)
            }
            Body::Rows(rows) => Changes::Rows(rows.since(id.epoch)),
        };
        Since::News(state.news(now, id.epoch, changes))
    }

    /// What changed since there was no epoch.
    pub(super) fn since_none(&self) -> Since {
        let state = self.state();
        let Some(now) = state.id() else {
            return Since::NotYet;
        };
        let Some(first) = state.first else {
            return Since::Unknown(NOT_KNOWN);
        };
        let changes = match &state.body {
            Body::Answers(answers) => Changes::Answers(answers.beginning_with(first)),
            Body::Rows(rows) => Changes::Rows(rows.beginning_with(first)),
        };
        Since::News(state.news(now, first, changes))
    }

    /// What changed since an epoch before the floor, of which it was looked up what stood then.
    pub(super) fn since_past(
        &self,
        epoch: Epoch,
        past: Option<Past>,
        previewed: &Previewed,
    ) -> Since {
        let state = self.state();
        let Some(now) = state.id() else {
            return Since::NotYet;
        };
        let Some(Past { stood, read_at }) = past else {
            return Since::Unknown(NOT_KNOWN);
        };
        let answers = match &state.body {
            Body::Answers(answers) if read_at >= state.floor => answers,
            _ => return Since::Unknown(NOT_KNOWN),
        };
        // While it was looked, further epochs may have been complete.
        let later = answers.since(read_at).into_iter();
        let later: Vec<Arc<Said>> = later
            .filter(|said| !stood.contains_key(&said.update.context))
            .collect();
        let looked_up = stood.into_iter().filter_map(|(context, stood)| {
            let said = answers.get(context.as_str());
            match (stood, said) {
                (Some(None), None) => None,
                (Some(Some(stood)), Some(said)) if said.says(&stood) => None,
                (_, Some(said)) => Some(said.clone()),
                (_, None) => Some(Answers::end_of(&self.name, context, now.epoch)),
            }
        });
        let said = looked_up.chain(later).collect();
        let changes = self.with_previewed(answers, said, previewed, now.epoch);
        Since::News(state.news(now, epoch, changes))
    }

    /// What was said, and what was told early and came to no change.
    fn with_previewed(
        &self,
        answers: &Answers,
        mut said: Vec<Arc<Said>>,
        previewed: &Previewed,
        now: Epoch,
    ) -> Changes {
        let mut due: BTreeSet<&ContextKey> = previewed
            .iter()
            .filter(|(_, epoch)| **epoch <= now)
            .map(|(context, _)| context)
            .collect();
        if !due.is_empty() {
            for said in &said {
                due.remove(&said.update.context);
            }
            let again = due.into_iter();
            said.extend(again.map(|context| answers.restated(&self.name, context, now)));
        }
        Changes::Answers(said)
    }
}

impl State {
    fn news(&self, id: EventId, since: Epoch, changes: Changes) -> News {
        let later = self
            .summaries
            .iter()
            .filter(|summary| summary.epoch > since);
        let mut summaries: Vec<Arc<SummaryJson>> = later.cloned().collect();
        let summary = summaries.pop();
        News {
            id,
            columns: self.columns.clone(),
            changes,
            summary,
            overtaken: summaries,
        }
    }
}
