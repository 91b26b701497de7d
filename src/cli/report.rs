//! What did one epoch bring? Updates gathered until their epoch is complete, with what runs of every
//! context by itself would have cost.

use std::collections::BTreeMap;

use perennial::ask::Cost;
use perennial::bank::ContextKey;
use perennial::engine::{AnswerUpdate, ChangeKind, EpochStart, EpochSummary, MAX_NAMED_CHANGES};

/// One complete epoch.
#[derive(Debug)]
pub(crate) struct EpochReport {
    /// What it began with; none if that was missed.
    pub(crate) start: Option<EpochStart>,
    /// How it ended.
    pub(crate) summary: EpochSummary,
    /// The answers that were refreshed, in order of their contexts, without those that were told
    /// before.
    pub(crate) answers: Vec<AnswerUpdate>,
    /// Number of answers that were told before the epoch was complete.
    pub(crate) n_early: usize,
    /// Tokens that runs of every context by itself would have forwarded, kept ones included.
    pub(crate) n_unshared: usize,
}

impl EpochReport {
    /// Number of contexts that have an answer or an error.
    pub(crate) fn n_contexts(&self) -> usize {
        let rungs = &self.summary.rungs;
        rungs.keep + rungs.failed + rungs.skip + rungs.n_read()
    }

    /// Number of those whose question was read.
    pub(crate) fn n_read(&self) -> usize {
        self.summary.rungs.n_read()
    }
}

/// Updates on their way to a report.
#[derive(Default)]
pub(crate) struct Gathering {
    start: Option<EpochStart>,
    answers: Vec<AnswerUpdate>,
    n_early: usize,
    /// Tokens of a run from scratch of each context with an answer.
    from_scratch: BTreeMap<ContextKey, usize>,
}

impl Gathering {
    /// An epoch begins; perhaps beside others, which become complete with it.
    pub(crate) fn start(&mut self, mut start: EpochStart) {
        if let Some(mut earlier) = self.start.take() {
            start.n_changes += earlier.n_changes;
            start.n_healed += earlier.n_healed;
            start.n_compacted += earlier.n_compacted;
            earlier.changes.append(&mut start.changes);
            earlier.changes.truncate(MAX_NAMED_CHANGES);
            start.changes = earlier.changes;
        }
        self.start = Some(start);
    }

    /// Whether an epoch has begun that is not complete.
    pub(crate) fn is_under_way(&self) -> bool {
        self.start.is_some()
    }

    /// An answer of the present epoch, to be shown when that is complete.
    pub(crate) fn answer(&mut self, update: AnswerUpdate) {
        let news = self.news(update);
        self.answers.extend(news);
    }

    /// An answer that is told before the present epoch is complete. What is to be shown of it.
    pub(crate) fn early(&mut self, update: AnswerUpdate) -> Option<AnswerUpdate> {
        self.n_early += 1;
        self.news(update)
    }

    /// What is new about an answer, with what waits to be shown of its context.
    fn news(&mut self, mut update: AnswerUpdate) -> Option<AnswerUpdate> {
        match (&update.new, update.work.n_from_scratch) {
            (None, _) => {
                self.from_scratch.remove(&update.context);
            }
            // A call that failed costs a rerun as little as it cost this one.
            (Some(_), n_tokens) => {
                self.from_scratch.insert(update.context.clone(), n_tokens);
            }
        }
        // A first look at an answer, and that it stands, are one piece of news.
        let same = |a: &AnswerUpdate| a.view == update.view && a.context == update.context;
        if let Some(at) = self.answers.iter().position(same) {
            let seen = self.answers.remove(at);
            match update.kind() {
                // Asked before a restart, and no more: nobody has seen it.
                ChangeKind::Gone if seen.old.is_none() => return None,
                ChangeKind::Stands => update.old = seen.old,
                // An answer to another question is not its past.
                ChangeKind::Changed if update.question != seen.question => update.old = seen.old,
                _ => {}
            }
        }
        Some(update)
    }

    /// The epoch is complete.
    pub(crate) fn complete(&mut self, summary: EpochSummary) -> EpochReport {
        EpochReport {
            start: self.start.take(),
            summary,
            answers: std::mem::take(&mut self.answers),
            n_early: std::mem::take(&mut self.n_early),
            n_unshared: self.from_scratch.values().sum(),
        }
    }
}

/// The sum of all refreshes after the first answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Number of epochs.
    pub(crate) n_epochs: usize,
    /// Tokens forwarded.
    pub(crate) n_forwarded: usize,
    /// Tokens that reruns would have forwarded.
    pub(crate) n_rerun: usize,
    /// What was paid.
    pub(crate) cost: Cost,
}

impl Totals {
    /// Adds an epoch.
    pub(crate) fn add(&mut self, report: &EpochReport) {
        self.n_epochs += 1;
        self.n_forwarded += report.summary.work.n_forwarded();
        self.n_rerun += report.summary.n_rerun;
        self.cost += report.summary.work.cost;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use perennial::ask::{AnswerText, Finish, Rung, Work};
    use perennial::engine::RungCounts;

    use super::*;

    /// An answer to `context` that cost 10 tokens where a rerun costs `n_from_scratch`.
    pub(crate) fn answer(
        context: &str,
        old: Option<&str>,
        new: Option<&str>,
        n_from_scratch: usize,
    ) -> AnswerUpdate {
        let text = |text: &str| {
            Ok(AnswerText {
                text: text.into(),
                finish: Finish::Stop,
            })
        };
        AnswerUpdate {
            view: "answers".into(),
            context: ContextKey::new(context),
            question: "Why?".into(),
            epoch: 1,
            old: old.map(text),
            new: new.map(text),
            rung: Rung::Rewrite,
            sub_paragraphs: Vec::new(),
            evidence: perennial::ask::Evidence::default(),
            work: Work {
                n_decoded: 10,
                n_from_scratch,
                ..Work::default()
            },
            elapsed: Duration::from_millis(20),
            is_exact: true,
            is_memoised: false,
            drift: 0.0,
            regret: 0.0,
            passages: None,
            is_early: false,
        }
    }

    /// The end of epoch 1.
    pub(crate) fn summary() -> EpochSummary {
        EpochSummary {
            view: "answers".into(),
            epoch: 1,
            rungs: RungCounts::default(),
            work: Work::default(),
            n_rerun: 0,
            elapsed: Duration::from_millis(30),
            audits: Default::default(),
        }
    }

    #[test]
    fn a_first_look_and_what_became_of_it_are_one_piece_of_news() {
        let told = |next: AnswerUpdate| {
            let mut gathering = Gathering::default();
            gathering.answer(answer("a", None, Some("A."), 100));
            gathering.answer(next);
            gathering.complete(summary()).answers
        };
        let kinds = |answers: &[AnswerUpdate]| answers.iter().map(|a| a.kind()).collect::<Vec<_>>();
        let stands = answer("a", Some("A."), Some("A."), 100);
        assert_eq!(kinds(&told(stands)), [ChangeKind::New]);
        let changed = answer("a", Some("A."), Some("B."), 100);
        assert_eq!(kinds(&told(changed.clone())), [ChangeKind::Changed]);
        let question = "Who?".into();
        let of_another = AnswerUpdate {
            question,
            ..changed
        };
        assert_eq!(kinds(&told(of_another)), [ChangeKind::New]);
        assert!(told(answer("a", Some("A."), None, 0)).is_empty());
    }

    #[test]
    fn what_is_told_early_is_not_shown_again_and_overtaken_epochs_are_one() {
        let mut gathering = Gathering::default();
        let begin = |n_changes| EpochStart {
            view: "answers".into(),
            epoch: 1,
            changes: Vec::new(),
            n_changes,
            n_healed: 0,
            n_compacted: 0,
            n_documents: 3,
        };
        gathering.answer(answer("a", None, Some("A."), 100));
        gathering.start(begin(2));
        gathering.start(begin(1));
        let early = gathering.early(answer("a", Some("A."), Some("B."), 100));
        assert_eq!(early.map(|a| a.kind()), Some(ChangeKind::Changed));
        let report = gathering.complete(summary());
        assert_eq!((report.answers.len(), report.n_early), (0, 1));
        assert_eq!(report.start.map(|start| start.n_changes), Some(3));
        assert_eq!(report.n_unshared, 100);
    }

    #[test]
    fn runs_by_themselves_count_what_was_kept_and_forgets_what_is_gone() {
        let mut gathering = Gathering::default();
        gathering.answer(answer("a", None, Some("A."), 100));
        gathering.answer(answer("b", None, Some("B."), 200));
        assert_eq!(gathering.complete(summary()).n_unshared, 300);
        gathering.answer(answer("b", Some("B."), Some("C."), 210));
        let report = gathering.complete(summary());
        assert_eq!((report.answers.len(), report.n_unshared), (1, 310));
        gathering.answer(answer("a", Some("A."), None, 0));
        assert_eq!(gathering.complete(summary()).n_unshared, 210);
    }
}
