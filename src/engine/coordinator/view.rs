//! A view as the coordinator knows it: what it reads, which epoch it stands at, what it says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use perennial_ask::{Answer, Work};
use perennial_bank::ContextKey;
use perennial_connectors::OutputRow;
use perennial_rows::{Schema, Tuple};
use perennial_views::query::Query;
use perennial_views::{Delivery, Epoch, Measures, Pace, Plan, Services};

use super::backlog::Backlog;
use crate::engine::analysis::Answering;
use crate::engine::budget::{Ledger, Spending};
use crate::engine::cause::LastRequest;
use crate::engine::change_log::{BagChange, ChangeLog};
use crate::engine::coverage::Coverage;
use crate::engine::current::CurrentAnswer;
use crate::engine::healing::Healing;
use crate::engine::measuring::Measuring;
use crate::engine::reading::Origin;
use crate::engine::recent::{Recent, TupleChange};
use crate::engine::upserts::{UpsertDigests, Upserts};
use crate::state::StoredAnswer;

/// What an epoch retracts and emits for one context.
pub(super) type AnswerDeltas = Vec<(Answer, isize)>;

/// A view at its own pace.
pub(super) struct View {
    pub(super) name: Arc<str>,
    /// The newest epoch that all it says reflects; none before its first.
    pub(super) stands_at: Option<Epoch>,
    /// The epoch that it works on, with all before it that are not complete.
    pub(super) in_flight: Option<InFlight>,
    /// What each of its epochs changed, for those who read it.
    pub(super) log: ChangeLog<BagChange>,
    /// The columns of what it says.
    pub(super) schema: Schema,
    /// When it takes its epochs. It may be changed, which the plan of its dataflow is not.
    pub(super) pace: Pace,
    /// Whether any of its calls costs money.
    pub(super) is_priced: bool,
    /// What it has not taken.
    pub(super) backlog: Backlog,
    /// What it spent.
    pub(super) ledger: Ledger,
    /// Whether it was said that its budget is used up, since it took an epoch.
    pub(super) is_told_stale: bool,
    /// What sinks were given of it by an earlier process, until its first epoch is complete.
    pub(super) given: UpsertDigests,
    /// What it did, in the newest epoch that it had work with and in all.
    pub(super) done: Done,
    pub(super) body: Body,
}

/// What a view did.
#[derive(Default)]
pub(super) struct Done {
    /// The newest epoch that it had work with, and what that came to.
    pub(super) newest: Option<(Epoch, Answering)>,
    pub(super) all: Answering,
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
    /// What its operators did.
    pub(super) measures: Arc<Measures>,
    /// How its rows are told apart for sinks.
    pub(super) upserts: Upserts,
    /// What is read, in the order of the query's inputs.
    pub(super) origins: Vec<Origin>,
    /// How often each tuple stands in the result.
    pub(super) tuples: BTreeMap<Tuple, isize>,
    /// What the epoch in flight changes of it.
    pub(super) deltas: BagChange,
    /// What changed of it lately.
    pub(super) recent: Recent<TupleChange>,
}

/// An epoch that a view works on. Where newer ones overtake it, they are one: of all that is in
/// flight, only the newest becomes complete.
pub(super) struct InFlight {
    pub(super) epoch: Epoch,
    /// When the first of them was closed.
    pub(super) closed_at: Instant,
    /// How many were overtaken.
    n_overtaken: usize,
    /// How many since a call has ended that counts.
    n_unanswered: usize,
    /// What of its cost is in the ledger already.
    pub(super) charged: Spending,
}

/// After so many epochs that overtook one another a view finishes what it has: so it is complete
/// some time, whatever comes.
const MAX_OVERTAKEN: usize = 1_024;

/// After so many without a single answer between them, and so many calls given up, a view waits for
/// an answer: edits that come faster than it can answer must not cancel every call.
const MAX_UNANSWERED: usize = 8;

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
    /// How many passages each context may see.
    pub(super) coverage: Coverage,
    /// Answer deltas of the epochs in flight: retracted and emitted.
    pub(super) deltas: BTreeMap<ContextKey, AnswerDeltas>,
    pub(super) healing: Healing,
    /// Answers whose dependencies are still to be measured.
    pub(super) measuring: Measuring,
    /// What each answer was last given to.
    pub(super) requests: BTreeMap<ContextKey, LastRequest>,
    /// What subscribers were told of the epoch in flight already.
    pub(super) early: BTreeMap<ContextKey, EarlyAnswer>,
    /// Work that no epoch has told of: of answers that were told, and overtaken before their epoch was
    /// complete, and what was measured in the background.
    pub(super) untold_work: Work,
    /// Answers of an earlier process, until its first epoch has said what stands.
    pub(super) restored: Option<BTreeMap<ContextKey, StoredAnswer>>,
    /// Whether its model promises no same words.
    pub(super) is_memoised: bool,
}

/// An answer that was told before its epoch was complete.
pub(super) struct EarlyAnswer {
    /// The epoch that it reflects.
    pub(super) epoch: Epoch,
    /// The text of its context then.
    pub(super) question: Arc<str>,
    /// None where the context is gone.
    pub(super) answer: Option<CurrentAnswer>,
}

impl InFlight {
    /// Whether another epoch may come beside, given how many calls were given up since the last
    /// answer.
    fn may_be_overtaken(&self, n_given_up: usize) -> bool {
        let is_answering = self.n_unanswered.min(n_given_up) < MAX_UNANSWERED;
        self.n_overtaken < MAX_OVERTAKEN && is_answering
    }

    /// A call has ended that counts.
    pub(super) fn note_answer(&mut self) {
        self.n_unanswered = 0;
    }
}

impl View {
    /// Lets an epoch begin, beside what is in flight.
    pub(super) fn begin(&mut self, epoch: Epoch) {
        let Some(in_flight) = &mut self.in_flight else {
            self.in_flight = Some(InFlight {
                epoch,
                closed_at: Instant::now(),
                n_overtaken: 0,
                n_unanswered: 0,
                charged: Spending::default(),
            });
            return;
        };
        in_flight.epoch = epoch;
        in_flight.n_overtaken += 1;
        in_flight.n_unanswered += 1;
    }

    /// The newest epoch that it has taken, complete or not.
    pub(super) fn taken(&self) -> Option<Epoch> {
        let in_flight = self.in_flight.as_ref().map(|in_flight| in_flight.epoch);
        in_flight.or(self.stands_at)
    }

    /// Whether it may take another epoch now.
    pub(super) fn takes_more(&self) -> bool {
        let Some(in_flight) = &self.in_flight else {
            return true;
        };
        let each = self.generating();
        let mut each = each
            .filter(|view| view.plan.delivery == Delivery::Each)
            .into_iter();
        each.any(|view| in_flight.may_be_overtaken(view.services.agenda.n_given_up()))
    }

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

    /// Whether it asks a model by this name.
    pub(super) fn asks_by(&self, model: &str) -> bool {
        match &self.body {
            Body::Generate(view) => view.plan.model.as_deref() == Some(model),
            Body::Query(view) => view.query.asked().contains(&Some(model.into())),
        }
    }

    /// Whether it may have a row where nothing stands that it reads.
    pub(super) fn may_say_of_nothing(&self) -> bool {
        match &self.body {
            Body::Generate(_) => false,
            Body::Query(view) => view.query.may_say_of_nothing(),
        }
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

    /// All that it says, as sinks get it.
    pub(super) fn outputs(&self) -> Vec<OutputRow> {
        match &self.body {
            Body::Generate(view) => {
                let output = |(context, current): (&ContextKey, &CurrentAnswer)| OutputRow {
                    key: context.as_str().to_owned(),
                    output: Some(current.output(&view.question(context))),
                };
                view.answers.iter().map(output).collect()
            }
            Body::Query(view) => view.upserts.all(&view.tuples),
        }
    }

    /// Forgets why what it says is as it is.
    pub(super) fn forget_causes(&mut self) {
        match &mut self.body {
            Body::Generate(view) => view.requests.clear(),
            Body::Query(view) => view.recent = Recent::default(),
        }
    }

    /// How many different rows it says.
    pub(super) fn n_rows(&self) -> usize {
        match &self.body {
            Body::Generate(view) => view.said.len(),
            Body::Query(view) => view.tuples.len(),
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

    /// An answer, with what follows from which model said it.
    pub(super) fn of_its_model(&self, answer: CurrentAnswer) -> CurrentAnswer {
        answer
            .memoised(self.is_memoised)
            .by(self.services.model.evidence())
    }

    /// The text of a context; empty if it is gone.
    pub(super) fn question(&self, context: &ContextKey) -> Arc<str> {
        self.questions.get(context).cloned().unwrap_or_default()
    }
}
