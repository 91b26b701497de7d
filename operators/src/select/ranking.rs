//! How far does one context know the order of its candidates?
//!
//! A ranking holds the best candidates of a context, best first: the run of which is selected, the
//! candidate at which the run stops, and a reserve below it. The last of them is the *cut*:
//! below it nothing is known. So an inserted candidate that does not pass the cut is not this
//! context's business, and a removed one is replaced out of the reserve.
//!
//! # Invariants
//! - What is settled are the best candidates of the group, none left out.
//! - What is cut off is no part of the run, however many better candidates come: what stands
//!   before it exceeds the window already, and that only grows.
//! - Of the run those are selected, best first, that fit what the better ones have left of the budget.
//! - Ties of score are broken by the candidate itself.
//! - Of candidates that say the same (*copies*), which have one score and one weight, the newest in the run is
//!   selected; the others are *repeats*, which take no room. They are entries, so a ranking is as long as its
//!   run has copies.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::Candidate;
use super::slab::{CandidateSlab, Slot};

/// Unsettled entries that are waited for, so that a scan sorts seldom.
const MAX_UNSETTLED: usize = 64;

/// How much of the order a context keeps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What the selected candidates may weigh together: tokens of passages, a number of rows.
    pub budget: usize,
    /// What the candidates weigh together, at most, that are looked at to fill the budget: no less than
    /// that.
    pub window: usize,
    /// Candidates that are kept below the run.
    pub reserve: usize,
}

/// A candidate with its score, which is a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) score: f32,
    pub(super) slot: Slot,
    /// The place of the first of its copies, of those in the run: its own, where it is that.
    first_copy: usize,
    /// Whether it is a repeat, of those in the run.
    is_repeat: bool,
    /// Whether there is no room for it, of those in the run.
    is_unfit: bool,
}

impl Entry {
    pub(super) fn new(score: f32, slot: Slot) -> Self {
        Self {
            score,
            slot,
            first_copy: 0,
            is_repeat: false,
            is_unfit: false,
        }
    }
}

/// The best candidates of one context.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    /// Best first as far as they are settled; later ones as they came.
    entries: Vec<Entry>,
    n_settled: usize,
    /// Length of the run, as of the last settling.
    n_run: usize,
    /// Length of the run that was told last.
    n_told: usize,
    /// The first settled place that changed since then.
    first_change: Option<usize>,
    /// Whether every candidate of the group is an entry.
    is_complete: bool,
}

impl Ranking {
    /// Forgets all entries, and is complete over no candidates: all are to be offered.
    pub(super) fn restart(&mut self) {
        self.entries.clear();
        self.n_settled = 0;
        self.is_complete = true;
        self.changed_at(0);
    }

    /// Scores below this need not be offered.
    pub(super) fn cut(&self) -> f32 {
        match self.settled().last() {
            Some(last) if !self.is_complete => last.score,
            None if !self.is_complete => f32::INFINITY,
            _ => f32::NEG_INFINITY,
        }
    }

    /// Takes in a candidate that was not there, if it passes the cut.
    pub(super) fn offer<P: Candidate>(
        &mut self,
        entry: Entry,
        candidates: &CandidateSlab<P>,
        limits: Limits,
    ) {
        if !self.is_complete {
            let last = self.settled().last();
            if last.is_none_or(|last| order(candidates, last, &entry).is_lt()) {
                return;
            }
        }
        self.entries.push(entry);
        if self.entries.len() - self.n_settled >= MAX_UNSETTLED {
            self.settle(candidates, limits);
        }
    }

    /// Lets go of candidates that are gone.
    pub(super) fn retain_live<P: Candidate>(&mut self, candidates: &CandidateSlab<P>) {
        let first_gone = self
            .settled()
            .iter()
            .position(|e| !candidates.is_live(e.slot));
        let Some(first_gone) = first_gone else {
            return;
        };
        self.entries.retain(|entry| candidates.is_live(entry.slot));
        self.n_settled = self.entries.len();
        self.changed_at(first_gone);
    }

    /// Puts what was offered into its place, and cuts off what is below the reserve.
    pub(super) fn settle<P: Candidate>(&mut self, candidates: &CandidateSlab<P>, limits: Limits) {
        let (settled, offered) = self.entries.split_at_mut(self.n_settled);
        offered.sort_unstable_by(|a, b| order(candidates, a, b));
        if let Some(best) = offered.first() {
            let place = settled.partition_point(|e| order(candidates, e, best).is_lt());
            self.changed_at(place);
            // Two sorted runs, which this sort merges.
            self.entries.sort_by(|a, b| order(candidates, a, b));
        }
        self.n_run = self.run(candidates, limits);
        // The run, what stops it, and the reserve.
        let n_kept = self.n_run.saturating_add(1).saturating_add(limits.reserve);
        if self.entries.len() > n_kept {
            self.entries.truncate(n_kept);
            self.is_complete = false;
        }
        self.n_settled = self.entries.len();
    }

    /// How long the run is; its repeats are marked, and what has no room.
    fn run<P: Candidate>(&mut self, candidates: &CandidateSlab<P>, limits: Limits) -> usize {
        let (mut left, mut window) = (limits.budget, limits.window);
        // Those of the present score that are no repeats: copies have one score.
        let mut alike: Vec<usize> = Vec::new();
        for at in 0..self.entries.len() {
            let entry = self.entries[at];
            let score = |at: &usize| self.entries[*at].score.to_bits();
            if alike.first().map(score) != Some(entry.score.to_bits()) {
                alike.clear();
            }
            let candidate = candidates.candidate(entry.slot);
            let standing = |at: usize| candidates.candidate(self.entries[at].slot);
            let copied = alike
                .iter()
                .position(|at| candidate.is_copy_of(standing(*at)));
            let is_newer = |at: usize| candidate.is_newer_than(standing(at));
            let first_copy = copied.map_or(at, |of| self.entries[alike[of]].first_copy);
            let repeat = match copied {
                None => None,
                Some(copied) if is_newer(alike[copied]) => {
                    Some(std::mem::replace(&mut alike[copied], at))
                }
                Some(_) => Some(at),
            };
            self.entries[at].is_repeat = false;
            self.entries[at].first_copy = first_copy;
            if let Some(repeat) = repeat {
                // Copies have one weight, so there is room for this one if there was for that.
                self.entries[at].is_unfit = self.entries[repeat].is_unfit;
                self.entries[repeat].is_repeat = true;
                continue;
            }
            let weight = candidate.weight();
            let Some(rest) = window.checked_sub(weight) else {
                return at;
            };
            window = rest;
            let room = left.checked_sub(weight);
            self.entries[at].is_unfit = room.is_none();
            left = room.unwrap_or(left);
            alike.push(at);
        }
        self.entries.len()
    }

    /// Whether it was touched since [`Ranking::take_change`].
    pub(super) fn is_touched(&self) -> bool {
        self.first_change.is_some() || self.entries.len() > self.n_settled
    }

    /// Whether the run cannot be known: it may go on below the cut.
    pub(super) fn is_exhausted(&self) -> bool {
        !self.is_complete && self.n_run >= self.entries.len()
    }

    /// Whether the run may be another than when this was asked last.
    pub(super) fn take_change(&mut self) -> bool {
        let is_other = self.first_change.take().is_some_and(|at| at < self.n_run);
        let n_told = std::mem::replace(&mut self.n_told, self.n_run);
        is_other || n_told != self.n_run
    }

    /// What is selected of the run, best first, each with its repeats.
    pub(super) fn selected(&self) -> Vec<(Slot, Vec<Slot>)> {
        let (mut selected, mut places) = (Vec::new(), HashMap::new());
        let run = || self.entries[..self.n_run].iter();
        for entry in run().filter(|entry| !entry.is_repeat && !entry.is_unfit) {
            places.insert(entry.first_copy, selected.len());
            selected.push((entry.slot, Vec::new()));
        }
        for entry in run().filter(|entry| entry.is_repeat) {
            if let Some(place) = places.get(&entry.first_copy) {
                selected[*place].1.push(entry.slot);
            }
        }
        selected
    }

    fn settled(&self) -> &[Entry] {
        &self.entries[..self.n_settled]
    }

    fn changed_at(&mut self, place: usize) {
        let first = self.first_change.map_or(place, |first| first.min(place));
        self.first_change = Some(first);
    }
}

/// Best first; equal scores by candidate.
fn order<P: Candidate>(candidates: &CandidateSlab<P>, a: &Entry, b: &Entry) -> Ordering {
    let by_candidate = || {
        candidates
            .candidate(a.slot)
            .cmp(candidates.candidate(b.slot))
    };
    b.score.total_cmp(&a.score).then_with(by_candidate)
}
