//! What does a view of answers say, and what of it changed since an epoch?
//!
//! # Design
//! Of each context the last word is kept, with the epoch in which it was said; so is the end of those that
//! are gone. What changed since an epoch is what was said after it: each context once, whoever asks, and
//! however far behind. A log of all changes was rejected: it grows with time, and a slow reader would be
//! told what does not stand any more.
//!
//! # Invariants
//! - `by_epoch` has each context of `present` and `gone` once, `gone_by_epoch` those of `gone`.
//! - `n_failed` counts those of `present` that have an error in place of a text.
//! - All that changed after `floor` is there; the ends of contexts before it may be forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use perennial_ask::SubParagraph;
use perennial_bank::ContextKey;
use perennial_views::Epoch;

use super::super::json::AnswerEventJson;
use crate::engine::{AnswerUpdate, ChangeKind, CurrentAnswer};

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
    /// The same, as it is told to who knows nothing of it.
    fresh_json: OnceLock<Arc<str>>,
}

impl Said {
    fn new(update: AnswerUpdate, at: Epoch, since: Option<Epoch>) -> Arc<Self> {
        Arc::new(Self {
            update,
            at,
            since,
            json: OnceLock::new(),
            fresh_json: OnceLock::new(),
        })
    }

    /// That it stands as it was told already.
    fn restated(&self) -> Arc<Self> {
        let update = AnswerUpdate {
            old: self.update.new.clone(),
            ..self.update.clone()
        };
        Self::new(update, self.at, Some(self.at))
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
        let made = || {
            let update = AnswerUpdate {
                old: None,
                is_early: false,
                ..self.update.clone()
            };
            let event = AnswerEventJson::of(&update, self.at, None);
            serde_json::to_string(&event).unwrap_or_default().into()
        };
        self.fresh_json.get_or_init(made).clone()
    }

    /// Whether this is what an answer of an earlier epoch says.
    pub(super) fn says(&self, before: &CurrentAnswer) -> bool {
        let update = &self.update;
        let is_exact = before.drift.is_none() && !before.is_memoised;
        update.new.as_ref() == Some(&before.answer)
            && update.is_exact == is_exact
            && leans_on(&update.sub_paragraphs) == leans_on(&before.sub_paragraphs)
    }

    fn is_gone(&self) -> bool {
        self.update.new.is_none()
    }

    /// Whether it is an error in place of an answer.
    fn is_failed(&self) -> bool {
        matches!(self.update.new, Some(Err(_)))
    }
}

/// What a view of answers says.
#[derive(Debug, Default)]
pub(super) struct Answers {
    present: BTreeMap<ContextKey, Arc<Said>>,
    n_failed: usize,
    gone: BTreeMap<ContextKey, Arc<Said>>,
    by_epoch: BTreeSet<(Epoch, ContextKey)>,
    /// The oldest of them are forgotten first.
    gone_by_epoch: BTreeSet<(Epoch, ContextKey)>,
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
            let since = before.map(|before| before.at);
            // One that came and went within the epoch is told of to nobody.
            if before.is_some() || update.new.is_some() {
                n_changes += usize::from(update.kind() != ChangeKind::Stands);
                self.say(Said::new(update, epoch, since));
            }
        }
        let mut forgotten = None;
        while self.gone.len() > MAX_GONE
            && let Some(oldest) = self.gone_by_epoch.pop_first()
        {
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
            self.n_failed -= usize::from(before.is_failed());
            let place = (before.at, context.clone());
            self.by_epoch.remove(&place);
            self.gone_by_epoch.remove(&place);
        }
        let place = (said.at, context.clone());
        self.by_epoch.insert(place.clone());
        if said.is_gone() {
            self.gone_by_epoch.insert(place);
            self.gone.insert(context, said);
        } else {
            self.n_failed += usize::from(said.is_failed());
            self.present.insert(context, said);
        }
    }

    /// Drops what answers were before, and which are gone. Returns how many texts that were.
    pub(super) fn forget(&mut self) -> usize {
        let mut n_dropped = self.gone.len() + self.pending.len();
        self.gone.clear();
        for place in std::mem::take(&mut self.gone_by_epoch) {
            self.by_epoch.remove(&place);
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

    /// How many have an error in place of a text.
    pub(super) fn n_failed(&self) -> usize {
        self.n_failed
    }

    /// What was said after an epoch, in order.
    pub(super) fn since(&self, epoch: Epoch) -> Vec<Arc<Said>> {
        let next = epoch.checked_add(1);
        next.map(|next| self.beginning_with(next))
            .unwrap_or_default()
    }

    /// What was said in an epoch and after it, in order.
    pub(super) fn beginning_with(&self, epoch: Epoch) -> Vec<Arc<Said>> {
        let from = Bound::Included((epoch, ContextKey::new("")));
        let said = self.by_epoch.range((from, Bound::Unbounded));
        let said = said.filter_map(|(_, context)| {
            let present = self.present.get(context);
            present.or_else(|| self.gone.get(context)).cloned()
        });
        said.collect()
    }

    /// What stands of a context, for who was told something else meanwhile that does not; that it is gone
    /// where nothing does.
    pub(super) fn restated(&self, view: &Arc<str>, context: &ContextKey, now: Epoch) -> Arc<Said> {
        match self.present.get(context) {
            Some(said) => said.restated(),
            None => Self::end_of(view, context.clone(), now),
        }
    }

    /// That a context is gone, of which only this is known.
    pub(super) fn end_of(view: &Arc<str>, context: ContextKey, epoch: Epoch) -> Arc<Said> {
        let update = AnswerUpdate::gone(view.clone(), context, epoch);
        Said::new(update, epoch, None)
    }
}

/// The passages that each sentence leans on.
fn leans_on(parts: &[SubParagraph]) -> Vec<Vec<(&str, u32)>> {
    let parts = parts.iter().map(|part| {
        let sources = part.sources.iter();
        let mut passages: Vec<(&str, u32)> = sources
            .map(|source| (source.document.as_str(), source.ordinal))
            .collect();
        passages.sort_unstable();
        passages
    });
    parts.collect()
}

/// Whether an answer says something else than before: in its words, in how sure it is, or in what it leans
/// on.
fn is_news(before: Option<&AnswerUpdate>, now: &AnswerUpdate) -> bool {
    let Some(before) = before else {
        return true;
    };
    before.new != now.new
        || before.question != now.question && now.new.is_some()
        || before.is_exact != now.is_exact
        || before.is_memoised != now.is_memoised
        || !now.sub_paragraphs.is_empty()
            && leans_on(&before.sub_paragraphs) != leans_on(&now.sub_paragraphs)
}

#[cfg(test)]
mod tests {
    use perennial_ask::{AnswerText, CallError, Finish, Rung, Work};
    use proptest::prelude::*;

    use super::*;

    /// What is said of a context: a text, or its end.
    fn update(context: u8, text: Option<u8>, epoch: Epoch, is_early: bool) -> AnswerUpdate {
        let answer = |text: u8| {
            Ok(AnswerText {
                text: format!("Text {text}.").into(),
                finish: Finish::Stop,
            })
        };
        AnswerUpdate {
            view: "v".into(),
            context: ContextKey::new(format!("c{context}")),
            question: "?".into(),
            epoch,
            old: None,
            new: text.map(answer),
            rung: Rung::Regenerate,
            sub_paragraphs: Vec::new(),
            evidence: perennial_ask::Evidence::default(),
            work: Work::default(),
            elapsed: std::time::Duration::ZERO,
            is_exact: true,
            is_memoised: false,
            drift: 0.0,
            regret: 0.0,
            passages: None,
            is_early,
        }
    }

    type State = BTreeMap<String, String>;

    fn state(answers: &Answers) -> State {
        let said = answers.all();
        said.map(|said| {
            let text = said.update.new_text().expect("a text");
            (said.update.context.to_string(), text.to_owned())
        })
        .collect()
    }

    fn apply(state: &mut State, said: &[Arc<Said>]) {
        for said in said {
            let key = said.update.context.to_string();
            match said.update.new_text() {
                Some(text) => state.insert(key, text.to_owned()),
                None => state.remove(&key),
            };
        }
    }

    proptest! {
        /// What changed since any epoch makes the present of what stood then, each context once, and what
        /// is told of no epoch is no change.
        #[test]
        fn what_changed_since_an_epoch_makes_the_present_of_it(
            epochs in prop::collection::vec(
                prop::collection::vec((0..5u8, prop::option::of(0..3u8), any::<bool>()), 0..6),
                1..8,
            ),
        ) {
            let mut answers = Answers::standing(Vec::new(), Vec::new());
            let mut states = vec![(0, State::new())];
            for (epoch, changes) in (1..).zip(epochs) {
                let mut expected = states.last().expect("one").1.clone();
                for (context, text, is_early) in changes {
                    answers.note(update(context, text, epoch, is_early));
                    let key = format!("c{context}");
                    match text {
                        Some(text) => expected.insert(key, format!("Text {text}.")),
                        None => expected.remove(&key),
                    };
                }
                answers.complete(epoch);
                prop_assert_eq!(&state(&answers), &expected);
                states.push((epoch, expected));
                for (then, before) in &states {
                    let since = answers.since(*then);
                    let mut made = before.clone();
                    apply(&mut made, &since);
                    prop_assert_eq!(&made, &state(&answers), "since {}", then);
                    let mut contexts: Vec<_> =
                        since.iter().map(|said| said.update.context.clone()).collect();
                    let n_said = contexts.len();
                    contexts.sort();
                    contexts.dedup();
                    prop_assert_eq!(contexts.len(), n_said);
                    // A patch is of what stood when it says.
                    for said in &since {
                        let known = said.since.and_then(|at| states.get(usize::try_from(at).ok()?));
                        if let (Some((_, known)), Some(old)) = (known, said.update.old_text()) {
                            let key = said.update.context.to_string();
                            prop_assert_eq!(known.get(&key).map(String::as_str), Some(old));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_stands_again_is_told_only_where_it_is_surer() {
        let mut answers = Answers::standing(vec![update(1, Some(1), 4, false)], Vec::new());
        answers.note(update(1, Some(1), 5, false));
        assert_eq!(answers.complete(5), (0, None));
        assert!(answers.since(4).is_empty());
        let provisional = AnswerUpdate {
            is_exact: false,
            ..update(1, Some(1), 6, false)
        };
        answers.note(provisional);
        assert_eq!(answers.complete(6).0, 0, "the words are the same");
        assert_eq!(answers.since(5).len(), 1);
        assert_eq!(answers.since(5)[0].update.kind(), ChangeKind::Stands);
    }

    #[test]
    fn the_oldest_ends_are_forgotten_first_and_what_stands_is_not() {
        let key = |n: usize| ContextKey::new(format!("c{n}"));
        let said = |n: usize, text: Option<u8>, epoch| AnswerUpdate {
            context: key(n),
            ..update(0, text, epoch, false)
        };
        let n_contexts = MAX_GONE + 4;
        let standing = (0..n_contexts).map(|n| said(n, Some(1), 1)).collect();
        let mut answers = Answers::standing(standing, Vec::new());
        // The first two go in two epochs, and the second of them comes again; then all others but one go.
        for (epoch, n, text) in [(2, 0, None), (3, 1, None), (4, 1, Some(1))] {
            answers.note(said(n, text, epoch));
            assert_eq!(answers.complete(epoch).1, None);
        }
        for n in 2..n_contexts - 1 {
            answers.note(said(n, None, 5));
        }
        assert_eq!(answers.complete(5), (n_contexts - 3, Some(5)));
        assert_eq!(answers.gone.len(), MAX_GONE);
        assert!(!answers.gone.contains_key(&key(0)));
        let gone = answers.gone.iter();
        let places: BTreeSet<_> = gone.map(|(key, said)| (said.at, key.clone())).collect();
        assert_eq!(answers.gone_by_epoch, places);
        assert_eq!(answers.by_epoch.len(), MAX_GONE + 2);
        assert_eq!(answers.since(4).len(), MAX_GONE);
        assert_eq!(answers.len(), 2);
    }

    #[test]
    fn failures_are_counted_as_they_stand() {
        let failed = |context, epoch| AnswerUpdate {
            new: Some(Err(CallError::NoDocuments)),
            ..update(context, None, epoch, false)
        };
        let standing = vec![failed(1, 1), update(2, Some(1), 1, false)];
        let mut answers = Answers::standing(standing, vec![failed(3, 2)]);
        assert_eq!(answers.n_failed(), 1, "the epoch in flight is not complete");
        answers.complete(2);
        assert_eq!(answers.n_failed(), 2);
        // One fails again, one is answered; later one goes, and one fails that was answered.
        answers.note(failed(1, 3));
        answers.note(update(3, Some(1), 3, false));
        answers.complete(3);
        assert_eq!(answers.n_failed(), 1);
        answers.note(update(1, None, 4, false));
        answers.note(failed(2, 4));
        answers.complete(4);
        assert_eq!(answers.n_failed(), 1);
        answers.forget();
        assert_eq!((answers.len(), answers.n_failed()), (2, 1));
    }

    #[test]
    fn what_is_told_to_all_is_made_once() {
        let answers = Answers::standing(vec![update(1, Some(1), 4, false)], Vec::new());
        let said = answers.get("c1").expect("it stands");
        assert!(Arc::ptr_eq(&said.fresh_json(), &said.fresh_json()));
        assert!(Arc::ptr_eq(&said.json(), &said.json()));
    }

    #[test]
    fn what_is_forgotten_leaves_no_old_text() {
        let mut answers = Answers::standing(vec![update(1, Some(1), 1, false)], Vec::new());
        answers.note(update(1, Some(2), 2, false));
        answers.note(update(2, Some(1), 2, false));
        answers.complete(2);
        answers.note(update(2, None, 3, false));
        answers.complete(3);
        assert!(
            answers
                .since(1)
                .iter()
                .any(|said| said.json().contains("Text 1."))
        );
        assert_eq!(answers.forget(), 2);
        assert!(
            answers
                .since(1)
                .iter()
                .all(|said| !said.json().contains("Text 1."))
        );
        assert_eq!(answers.since(2).len(), 0);
    }
}
