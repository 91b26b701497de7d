//! Which answers are told before their epoch is complete?
//!
//! A view that tells each answer when it is there tells it when its call ends, before it has gone
//! through the dataflow. What was told so is kept until the epoch is complete. Then all of it is
//! held against what stands: what was told is not told again, and what has changed since is.
//!
//! # Invariants
//! - Of one context, the epochs that are told only grow.
//! - Only subscribers hear early answers. Sinks, views over the view, the state directory and the
//!   history have what is complete, so nothing that outlives the process rests on them.

use std::time::Instant;

use perennial_ask::{Answer, Work};
use perennial_bank::ContextKey;
use perennial_rows::Row;
use perennial_views::{Epoch, Refresh};

use super::Coordinator;
use super::view::{EarlyAnswer, Generating};
use crate::engine::budget::Spending;
use crate::engine::change_log::KeyedChange;
use crate::engine::current::{CurrentAnswer, answer_of};
use crate::engine::names::ViewId;
use crate::engine::reading;
use crate::engine::update::{AnswerUpdate, Update};

impl Coordinator {
    /// Tells the answer of a call that has ended.
    pub(super) fn tell_early(&mut self, id: ViewId, context: &ContextKey) {
        let Some(view) = self.views.get_mut(&id) else {
            return;
        };
        let (name, stands_at) = (view.name.clone(), view.stands_at);
        // After its epoch is complete, nothing is left to tell.
        let Some(refresh) = self.hub.refresh(&name, context) else {
            return;
        };
        if Some(refresh.epoch) <= stands_at {
            return;
        }
        let Some(in_flight) = &mut view.in_flight else {
            return;
        };
        in_flight.note_answer();
        let is_healed = |view: &Generating| view.healing.has_healed(&refresh);
        if !view.generating().is_some_and(is_healed) {
            // What is in flight may take epochs for long: it is counted as it is spent.
            let (spent, now) = (Spending::of_answer(&refresh.outcome), Instant::now());
            view.ledger.add(spent, now);
            self.ledger.add(spent, now);
            view.in_flight.iter_mut().for_each(|f| f.charged += spent);
        }
        let update = view.generating_mut().and_then(|view| view.early(refresh));
        if let Some(update) = update {
            self.hub.tell(Some(&name), &Update::Answer(update));
        }
    }
}

impl Generating {
    /// What subscribers are to be told of a refresh at once; nothing if they know better.
    fn early(&mut self, refresh: Refresh) -> Option<AnswerUpdate> {
        let context = refresh.request.context.clone();
        let before = self.early.get(&context);
        if before.is_some_and(|before| before.epoch >= refresh.epoch) {
            return None;
        }
        // It was answered, and is gone.
        if !self.questions.contains_key(&context) {
            return None;
        }
        let old = self.last_told(&context).map(|old| old.answer.clone());
        let (epoch, question) = (refresh.epoch, refresh.request.question.clone());
        let mut current =
            self.of_its_model(CurrentAnswer::of(answer_of(&refresh), epoch, Some(refresh)));
        current.choose_from(self.coverage.of(&context));
        let update = self.update(&context, epoch, (old, Some(&current)));
        let update = AnswerUpdate {
            question: question.clone(),
            is_early: true,
            ..update
        };
        let early = EarlyAnswer {
            epoch,
            question,
            answer: Some(current),
        };
        let overtaken = self.early.insert(context, early);
        self.untold_work += overtaken
            .and_then(|early| Some(early.answer?.work))
            .unwrap_or_default();
        Some(update)
    }

    /// What subscribers are to be told at once of contexts that an epoch takes away.
    pub(super) fn note_gone(&mut self, epoch: Epoch, contexts: &KeyedChange) -> Vec<AnswerUpdate> {
        let mut updates = Vec::new();
        if self.plan.delivery.is_epoch() {
            return updates;
        }
        for (key, _, new) in contexts.iter() {
            if new.is_some() {
                continue;
            }
            let (context, _) = reading::context(key, &Row::default());
            let old = self.last_told(&context).map(|old| old.answer.clone());
            let early = EarlyAnswer {
                epoch,
                question: "".into(),
                answer: None,
            };
            if old.is_some() {
                let update = self.update(&context, epoch, (old, None));
                updates.push(AnswerUpdate {
                    is_early: true,
                    ..update
                });
            }
            self.early.insert(context, early);
        }
        updates
    }

    /// What is left to tell of a context when its epoch is complete, given what there was to tell
    /// without what was told early.
    pub(super) fn untold(
        &mut self,
        context: &ContextKey,
        epoch: Epoch,
        update: Option<AnswerUpdate>,
    ) -> Option<AnswerUpdate> {
        let Some(early) = self.early.remove(context) else {
            return update;
        };
        let now = self.answers.get(context);
        let told = early.answer;
        let is_same = match (&told, now) {
            (None, None) => true,
            (Some(told), Some(now)) => {
                told.answer == now.answer
                    && told.drift.is_none() == now.drift.is_none()
                    // How many there are may have been counted after the answer was written.
                    && told.passages == now.passages
            }
            _ => false,
        };
        let old = told.map(|told| told.answer);
        (!is_same).then(|| self.update(context, epoch, (old, now)))
    }

    /// Takes what is left of what was told early: contexts of which the complete epoch says
    /// nothing.
    pub(super) fn left_untold(&mut self, epoch: Epoch) -> (Vec<AnswerUpdate>, Work) {
        let left: Vec<ContextKey> = self.early.keys().cloned().collect();
        let left = left.iter();
        let updates = left.filter_map(|context| self.untold(context, epoch, None));
        let updates = updates.collect();
        (updates, std::mem::take(&mut self.untold_work))
    }

    /// All that subscribers were told, for one who comes now.
    pub(super) fn told(&self) -> Vec<AnswerUpdate> {
        let answers = self.answers.iter();
        let complete = answers.filter(|(context, _)| !self.early.contains_key(*context));
        let complete =
            complete.map(|(context, now)| self.update(context, now.epoch, (None, Some(now))));
        let early = self.early.iter().filter_map(|(context, early)| {
            let now = early.answer.as_ref()?;
            let update = self.update(context, early.epoch, (None, Some(now)));
            Some(AnswerUpdate {
                question: early.question.clone(),
                is_early: true,
                ..update
            })
        });
        complete.chain(early).collect()
    }

    /// What subscribers were told last of a context.
    fn last_told(&self, context: &ContextKey) -> Option<&CurrentAnswer> {
        match self.early.get(context) {
            Some(early) => early.answer.as_ref(),
            None => self.answers.get(context),
        }
    }

    /// An update of this view.
    pub(super) fn update(
        &self,
        context: &ContextKey,
        epoch: Epoch,
        change: (Option<Answer>, Option<&CurrentAnswer>),
    ) -> AnswerUpdate {
        let (view, question) = (self.plan.name.clone(), self.question(context));
        AnswerUpdate::of(view, context.clone(), question, epoch, change)
    }
}
