//! What does a view of answers say, and what of it changed since an epoch?
//!
//! # Design
//! Of each context the last word is kept, with the epoch in which it was said; so is the end of those that
//! are gone. What changed since an epoch is what was said after it: each context once, whoever asks, and
//! however far behind. A log of all changes was rejected: it grows with time, and a slow reader would be
//! told what does not stand any more.
//!
//! # Invariants
//! - `by_epoch` has each context of `present` and `gone` once.
//! - All that changed after `floor` is there; the ends of contexts before it may be forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use perennial_bank::ContextKey;
use perennial_views::Epoch;

use super::super::json::AnswerEventJson;
use crate::engine::{AnswerUpdate, ChangeKind};

/// Ends of contexts that are remembered.
const MAX_GONE: usize = 65_536;

/// The last word of one context.
#[derive(Debug)]
pub(crate) struct Said {
    /// What became of it, and from what.
    pub(crate) update: AnswerUpdate,
    /// The epoch in which it was said.
    pub(crate) at: Epoch,
    /// The epoch of the word before it, which `update` is a change of.
    since: Option<Epoch>,
    /// As it is told; made once, for all readers.
    json: OnceLock<Arc<str>>,
}

impl Said {
    fn new(update: AnswerUpdate, at: Epoch, since: Option<Epoch>) -> Arc<Self> {
        Arc::new(Self {
            update,
            at,
            since,
            json: OnceLock::new(),
        })
    }

    /// As it is told.
    pub(crate) fn json(&self) -> Arc<str> {
        let made = || {
            let event = AnswerEventJson::of(&self.update, self.at, self.since);
            serde_json::to_string(&event).unwrap_or_default().into()
        };
        self.json.get_or_init(made).clone()
    }

    /// As it stands for who knows nothing of it.
    pub(super) fn fresh_json(&self) -> Arc<str> {
        let update = AnswerUpdate {
            old: None,
            is_early: false,
            ..self.update.clone()
        };
        let event = AnswerEventJson::of(&update, self.at, None);
        serde_json::to_string(&event).unwrap_or_default().into()
    }

    fn is_gone(&self) -> bool {
        self.update.new.is_none()
    }
}

/// What a view of answers says.
#[derive(Debug, Default)]
pub(super) struct Answers {
    present: BTreeMap<ContextKey, Arc<Said>>,
    gone: BTreeMap<ContextKey, Arc<Said>>,
    by_epoch: BTreeSet<(Epoch, ContextKey)>,
    /// What was said of the epoch in flight.
    pending: BTreeMap<ContextKey, AnswerUpdate>,
}

impl Answers {
    /// What stands, with the epoch of each.
    pub(super) fn standing(answers: Vec<AnswerUpdate>, early: Vec<AnswerUpdate>) -> Self {
        let mut this = Self::default();
        for update in answers {
            let at = update.epoch;
            this.say(Said::new(update, at, None));
        }
        for update in early {
            this.note(update);
        }
        this
    }

    /// Something is said of the epoch in flight.
    pub(super) fn note(&mut self, update: AnswerUpdate) {
        self.pending.insert(update.context.clone(), update);
    }

    /// The epoch in flight is complete. Returns how many answers differ, and the epoch up to which ends
    /// of contexts were forgotten, if any were.
    pub(super) fn complete(&mut self, epoch: Epoch) -> (usize, Option<Epoch>) {
        let mut n_changes = 0;
        for (context, mut update) in std::mem::take(&mut self.pending) {
            let before = self.present.get(&context);
            if !is_news(before.map(|before| &before.update), &update) {
                self.keep(&context, update);
                continue;
            }
            // What was told early came from another early one: here it comes from what stood.
            update.old = before.and_then(|before| before.update.new.clone());
            update.is_early = false;
            n_changes += usize::from(update.kind() != ChangeKind::Stands);
            let since = before.map(|before| before.at);
            if before.is_some() || update.new.is_some() {
                self.say(Said::new(update, epoch, since));
            }
        }
        let mut forgotten = None;
        while self.gone.len() > MAX_GONE {
            let oldest = self
                .by_epoch
                .iter()
                .find(|(_, context)| self.gone.contains_key(context));
            let Some(oldest) = oldest.cloned() else { break };
            self.by_epoch.remove(&oldest);
            self.gone.remove(&oldest.1);
            forgotten = Some(oldest.0);
        }
        (n_changes, forgotten)
    }

    /// The answer stands; how it was last reached is news to nobody who was told of it.
    fn keep(&mut self, context: &ContextKey, update: AnswerUpdate) {
        let Some(before) = self.present.get_mut(context) else {
            return;
        };
        // After a restart nothing may be known of how it was reached: what was known stands.
        if update.sub_paragraphs.is_empty() {
            return;
        }
        let update = AnswerUpdate {
            old: before.update.old.clone(),
            is_early: false,
            ..update
        };
        *before = Said::new(update, before.at, before.since);
    }

    fn say(&mut self, said: Arc<Said>) {
        let context = said.update.context.clone();
        let before = [self.present.remove(&context), self.gone.remove(&context)];
        for before in before.into_iter().flatten() {
            self.by_epoch.remove(&(before.at, context.clone()));
        }
        self.by_epoch.insert((said.at, context.clone()));
        match said.is_gone() {
            true => self.gone.insert(context, said),
            false => self.present.insert(context, said),
        };
    }

    /// Drops what answers were before, and which are gone. Returns how many texts that were.
    pub(super) fn forget(&mut self) -> usize {
        let mut n_dropped = self.gone.len() + self.pending.len();
        for (context, said) in std::mem::take(&mut self.gone) {
            self.by_epoch.remove(&(said.at, context));
        }
        self.pending.clear();
        for said in self.present.values_mut() {
            if said.update.old.is_some() {
                n_dropped += 1;
                let update = AnswerUpdate {
                    old: None,
                    ..said.update.clone()
                };
                *said = Said::new(update, said.at, None);
            }
        }
        n_dropped
    }

    /// All that stands, by key.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Said>> {
        self.present.values()
    }

    /// What stands of one context.
    pub(super) fn get(&self, key: &str) -> Option<&Arc<Said>> {
        self.present.get(&ContextKey::new(key))
    }

    pub(super) fn len(&self) -> usize {
        self.present.len()
    }

    /// What was said after an epoch, in order.
    pub(super) fn since(&self, epoch: Epoch) -> Vec<Arc<Said>> {
        let Some(next) = epoch.checked_add(1) else {
            return Vec::new();
        };
        let from = Bound::Included((next, ContextKey::new("")));
        let said = self.by_epoch.range((from, Bound::Unbounded));
        let said = said.filter_map(|(_, context)| {
            let present = self.present.get(context);
            present.or_else(|| self.gone.get(context)).cloned()
        });
        said.collect()
    }

    /// That a context is gone, of which only this is known.
    pub(super) fn end_of(view: &Arc<str>, context: ContextKey, epoch: Epoch) -> Arc<Said> {
        let update = AnswerUpdate::gone(view.clone(), context, epoch);
        Said::new(update, epoch, None)
    }
}

/// Whether an answer says something else than before: in its words, in how sure it is, or in what it leans
/// on.
fn is_news(before: Option<&AnswerUpdate>, now: &AnswerUpdate) -> bool {
    let Some(before) = before else {
        return true;
    };
    let leans_on = |update: &AnswerUpdate| -> Vec<Vec<(String, u32)>> {
        let parts = update.sub_paragraphs.iter().map(|part| {
            let sources = part.sources.iter();
            let mut of_part: Vec<(String, u32)> = sources
                .map(|source| (source.document.to_string(), source.ordinal))
                .collect();
            of_part.sort_unstable();
            of_part
        });
        parts.collect()
    };
    before.new != now.new
        || before.question != now.question && now.new.is_some()
        || before.is_exact != now.is_exact
        || before.is_memoised != now.is_memoised
        || !now.sub_paragraphs.is_empty() && leans_on(before) != leans_on(now)
}
