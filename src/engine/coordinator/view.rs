//! A view as the coordinator knows it: what it reads, which epoch it stands at, what it says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use perennial_ask::Answer;
use perennial_bank::ContextKey;
use perennial_rows::{Schema, Tuple};
use perennial_views::query::Query;
use perennial_views::{Epoch, Plan, Services};

use crate::engine::change_log::{BagChange, ChangeLog};
use crate::engine::current::CurrentAnswer;
use crate::engine::healing::Healing;
use crate::engine::reading::Origin;
use crate::state::StoredAnswer;

/// What an epoch retracts and emits for one context.
pub(super) type AnswerDeltas = Vec<(Answer, isize)>;

/// A view at its own pace.
pub(super) struct View {
    pub(super) name: Arc<str>,
    /// The newest epoch that all it says reflects; none before its first.
    pub(super) stands_at: Option<Epoch>,
    /// The epoch that it works on.
    pub(super) in_flight: Option<InFlight>,
    /// What each of its epochs changed, for those who read it.
    pub(super) log: ChangeLog<BagChange>,
    /// The columns of what it says.
    pub(super) schema: Schema,
    pub(super) body: Body,
}

/// What a view does.
pub(super) enum Body {
    /// It asks a model.
    Generate(Box<Generating>),
    /// It keeps the result of a query.
    Query(Querying),
}

/// A view of a query.
pub(super) struct Querying {
    pub(super) query: Arc<Query>,
    /// What is read, in the order of the query's inputs.
    pub(super) origins: Vec<Origin>,
    /// How often each tuple stands in the result.
    pub(super) tuples: BTreeMap<Tuple, isize>,
    /// What the epoch in flight changes of it.
    pub(super) deltas: BagChange,
}

/// An epoch that a view works on.
pub(super) struct InFlight {
    pub(super) epoch: Epoch,
    pub(super) closed_at: Instant,
}

/// A view that asks a model.
pub(super) struct Generating {
    pub(super) plan: Arc<Plan>,
    pub(super) services: Services,
    pub(super) documents: Origin,
    pub(super) contexts: Origin,
    /// Digest of what its answers depend on besides rows.
    pub(super) definition: [u8; 32],
    pub(super) answers: BTreeMap<ContextKey, CurrentAnswer>,
    /// What readers of the view were told of each context.
    pub(super) said: BTreeMap<ContextKey, Tuple>,
    /// The texts of contexts as of the epoch it stands at or works on.
    pub(super) questions: BTreeMap<ContextKey, Arc<str>>,
    /// Number of documents then.
    pub(super) n_documents: usize,
    /// Answer deltas of the epoch in flight: retracted and emitted.
    pub(super) deltas: BTreeMap<ContextKey, AnswerDeltas>,
    pub(super) healing: Healing,
    /// Answers of an earlier process, until its first epoch has said what stands.
    pub(super) restored: Option<BTreeMap<ContextKey, StoredAnswer>>,
}

impl View {
    /// What it reads.
    pub(super) fn origins(&self) -> Vec<Origin> {
        match &self.body {
            Body::Generate(view) => vec![view.documents, view.contexts],
            Body::Query(view) => view.origins.clone(),
        }
    }

    /// The epoch after which changes are of interest to it, or to who reads it; none before its
    /// first.
    pub(super) fn least_epoch(&self) -> Option<Epoch> {
        let in_flight = self.in_flight.as_ref().map(|in_flight| in_flight.epoch);
        self.stands_at.or(in_flight)
    }

    /// Whether it reads this.
    pub(super) fn reads(&self, origin: Origin) -> bool {
        self.origins().contains(&origin)
    }

    /// The part that asks a model, if it has one.
    pub(super) fn generating(&self) -> Option<&Generating> {
        match &self.body {
            Body::Generate(view) => Some(view),
            Body::Query(_) => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn generating_mut(&mut self) -> Option<&mut Generating> {
        match &mut self.body {
            Body::Generate(view) => Some(view),
            Body::Query(_) => None,
        }
    }

    /// All that it says, as tuples of its schema.
    pub(super) fn tuples(&self) -> Vec<(Tuple, isize)> {
        match &self.body {
            Body::Generate(view) => view.said.values().map(|t| (t.clone(), 1)).collect(),
            Body::Query(view) => view.tuples.iter().map(|(t, n)| (t.clone(), *n)).collect(),
        }
    }
}

impl Generating {
    /// What the view says of a context from now on, as a tuple; none where there is no answer, or
    /// an error. Notes in `change` by how much that differs.
    pub(super) fn say(&mut self, context: &ContextKey, change: &mut BagChange) {
        let current = self.answers.get(context);
        let answer = current.and_then(|current| current.answer.as_ref().ok());
        let new: Option<Tuple> = answer.map(|answer| {
            let question = self.question(context);
            let key: Arc<str> = context.as_str().into();
            [key.into(), question.into(), answer.text.clone().into()].into()
        });
        let old = match &new {
            Some(tuple) => self.said.insert(context.clone(), tuple.clone()),
            None => self.said.remove(context),
        };
        // What is retracted is what was said.
        old.into_iter().for_each(|tuple| change.add(tuple, -1));
        new.into_iter().for_each(|tuple| change.add(tuple, 1));
    }

    /// The text of a context; empty if it is gone.
    pub(super) fn question(&self, context: &ContextKey) -> Arc<str> {
        self.questions.get(context).cloned().unwrap_or_default()
    }
}
