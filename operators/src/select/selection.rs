//! What do the deltas of one time change in the selections of one worker?
//!
//! Candidates and contexts meet within their group only. Deltas are taken in one order:
//! what is gone, what has come, then one scan for all contexts that no longer know enough.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use perennial_model::dot::{Rows, Vectors, products};
use rayon::prelude::*;

use super::ranking::{Entry, Limits, Ranking};
use super::slab::{CandidateSlab, Slot, next_slot};
use super::{Candidate, Selected, Vector};

/// Contexts of one block: their vectors fit the second cache, 144 KiB of 384 elements.
const BLOCK_CONTEXTS: usize = 96;
/// Candidates of one block.
const BLOCK_CANDIDATES: usize = 64;

/// What selecting has cost, of all workers that share it.
#[derive(Debug, Default)]
pub struct SelectWork {
    /// Inner products.
    pub n_products: AtomicU64,
    /// Rankings that a delta of candidates changed, in the reserve or above it.
    pub n_touched: AtomicU64,
    /// Rankings that were made from all candidates of their group.
    pub n_scanned: AtomicU64,
    /// Selections that became others.
    pub n_changed: AtomicU64,
}

/// A candidate or a context with its group.
pub(super) type Update<G, D> = ((G, D, Vector), isize);

/// A context and what was told of it.
struct Asked<C, L> {
    context: C,
    /// Where its group's list names it.
    place: usize,
    ranking: Ranking,
    told: Option<L>,
}

/// The candidates and contexts that meet.
struct Group<P, C> {
    candidates: HashMap<Arc<P>, Slot>,
    candidate_slots: Vec<Slot>,
    contexts: HashMap<C, Slot>,
    context_slots: Vec<Slot>,
}

/// The deltas of one group.
struct Deltas<P, C> {
    candidates_gone: Vec<P>,
    candidates_come: Vec<(P, Vector)>,
    contexts_gone: Vec<C>,
    contexts_come: Vec<(C, Vector)>,
}

/// What is known on one worker.
pub(super) struct Selection<G, P, C, L, F> {
    limits: Limits,
    lay_out: F,
    work: Arc<SelectWork>,
    groups: HashMap<G, Group<P, C>>,
    candidates: CandidateSlab<P>,
    asked: Vec<Option<Asked<C, L>>>,
    free: Vec<Slot>,
    queries: Vectors,
}

impl<G, P, C, L, F> Selection<G, P, C, L, F>
where
    G: Clone + Hash + Ord,
    P: Candidate,
    C: Clone + Hash + Ord,
    L: Clone + PartialEq,
    F: Fn(&[Selected<'_, P>]) -> L,
{
    pub(super) fn new(limits: Limits, lay_out: F, work: Arc<SelectWork>) -> Self {
        Self {
            limits,
            lay_out,
            work,
            groups: HashMap::new(),
            candidates: CandidateSlab::default(),
            asked: Vec::new(),
            free: Vec::new(),
            queries: Vectors::default(),
        }
    }

    /// Applies the deltas of one time and returns the deltas of the selections.
    pub(super) fn apply(
        &mut self,
        candidates: Vec<Update<G, P>>,
        contexts: Vec<Update<G, C>>,
    ) -> Vec<((C, L), isize)> {
        let mut output = Vec::new();
        for (key, deltas) in by_group(candidates, contexts) {
            // Taken out while it is worked on, so that the rest can be changed beside it.
            let mut group = self.groups.remove(&key).unwrap_or_default();
            self.apply_to(&mut group, deltas, &mut output);
            if !(group.candidate_slots.is_empty() && group.context_slots.is_empty()) {
                self.groups.insert(key, group);
            }
        }
        output
    }

    fn apply_to(
        &mut self,
        group: &mut Group<P, C>,
        deltas: Deltas<P, C>,
        output: &mut Vec<((C, L), isize)>,
    ) {
        for context in deltas.contexts_gone {
            if let Some(Asked {
                told: Some(told), ..
            }) = self.remove_context(group, &context)
            {
                output.push(((context, told), -1));
            }
        }
        self.remove_candidates(group, &deltas.candidates_gone);
        let first_new = group.candidate_slots.len();
        for (candidate, vector) in deltas.candidates_come {
            let candidate = Arc::new(candidate);
            let place = group.candidate_slots.len();
            let slot = self.candidates.insert(candidate.clone(), &vector, place);
            group.candidate_slots.push(slot);
            group.candidates.insert(candidate, slot);
        }
        self.scan(&group.context_slots, &group.candidate_slots[first_new..]);
        for (context, vector) in deltas.contexts_come {
            self.insert_context(group, context, &vector);
        }
        self.settle(group, output);
    }

    /// Settles what was touched, scans for contexts that know too little, and tells what
    /// became another.
    fn settle(&mut self, group: &Group<P, C>, output: &mut Vec<((C, L), isize)>) {
        let (mut touched, mut exhausted, mut n_touched) = (Vec::new(), Vec::new(), 0);
        for slot in &group.context_slots {
            let asked = of(&mut self.asked, *slot);
            let is_new = asked.told.is_none();
            if !(is_new || asked.ranking.is_touched()) {
                continue;
            }
            n_touched += u64::from(!is_new);
            asked.ranking.settle(&self.candidates, self.limits);
            touched.push(*slot);
            if asked.ranking.is_exhausted() {
                asked.ranking.restart();
                exhausted.push(*slot);
            }
        }
        self.scan(&exhausted, &group.candidate_slots);
        for slot in &exhausted {
            let ranking = &mut of(&mut self.asked, *slot).ranking;
            ranking.settle(&self.candidates, self.limits);
        }
        let mut n_changed = 0;
        for slot in touched {
            let asked = of(&mut self.asked, slot);
            if !asked.ranking.take_change() && asked.told.is_some() {
                continue;
            }
            let candidate = |slot| self.candidates.candidate(slot);
            let selected = asked.ranking.selected().into_iter();
            let selected = selected.map(|(slot, copies)| Selected {
                candidate: candidate(slot),
                copies: copies.into_iter().map(candidate).collect(),
            });
            let selected: Vec<Selected<'_, P>> = selected.collect();
            let layout = Some((self.lay_out)(&selected));
            if asked.told == layout {
                continue;
            }
            n_changed += 1;
            let row = |layout: L| (asked.context.clone(), layout);
            output.extend(asked.told.take().map(|old| (row(old), -1)));
            output.extend(layout.clone().map(|new| (row(new), 1)));
            asked.told = layout;
        }
        self.work.n_touched.fetch_add(n_touched, Ordering::Relaxed);
        let n_scanned = exhausted.len() as u64;
        self.work.n_scanned.fetch_add(n_scanned, Ordering::Relaxed);
        self.work.n_changed.fetch_add(n_changed, Ordering::Relaxed);
    }

    fn insert_context(&mut self, group: &mut Group<P, C>, context: C, vector: &Vector) {
        // Its ranking knows nothing yet: it is exhausted, and scanned for with the others.
        let asked = Some(Asked {
            context: context.clone(),
            place: group.context_slots.len(),
            ranking: Ranking::default(),
            told: None,
        });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.asked[slot as usize] = asked;
                slot
            }
            None => {
                self.asked.push(asked);
                next_slot(self.asked.len() - 1)
            }
        };
        self.queries.set(slot, vector.elements());
        group.context_slots.push(slot);
        group.contexts.insert(context, slot);
    }

    fn remove_context(&mut self, group: &mut Group<P, C>, context: &C) -> Option<Asked<C, L>> {
        let slot = group.contexts.remove(context)?;
        let asked = self.asked[slot as usize].take()?;
        group.context_slots.swap_remove(asked.place);
        if let Some(moved) = group.context_slots.get(asked.place) {
            of(&mut self.asked, *moved).place = asked.place;
        }
        self.free.push(slot);
        Some(asked)
    }

    fn remove_candidates(&mut self, group: &mut Group<P, C>, gone: &[P]) {
        let mut slots = Vec::new();
        for candidate in gone {
            let Some(slot) = group.candidates.remove(candidate) else {
                continue;
            };
            let place = self.candidates.remove(slot);
            group.candidate_slots.swap_remove(place);
            if let Some(moved) = group.candidate_slots.get(place) {
                self.candidates.moved(*moved, place);
            }
            slots.push(slot);
        }
        if slots.is_empty() {
            return;
        }
        for context in &group.context_slots {
            let asked = of(&mut self.asked, *context);
            asked.ranking.retain_live(&self.candidates);
        }
        slots
            .into_iter()
            .for_each(|slot| self.candidates.reuse(slot));
    }

    /// Offers candidates to contexts, as far as they pass the cuts.
    fn scan(&mut self, contexts: &[Slot], candidates: &[Slot]) {
        if contexts.is_empty() || candidates.is_empty() {
            return;
        }
        let width = self.candidates.widen(self.queries.width());
        self.queries.widen(width);
        let n_products = contexts.len() as u64 * candidates.len() as u64;
        self.work
            .n_products
            .fetch_add(n_products, Ordering::Relaxed);
        let take = |slot: &Slot| std::mem::take(&mut of(&mut self.asked, *slot).ranking);
        let mut rankings: Vec<Ranking> = contexts.iter().map(take).collect();
        let scan = Scan {
            limits: self.limits,
            queries: &self.queries,
            candidates: &self.candidates,
            offered: candidates,
        };
        if contexts.len() <= BLOCK_CONTEXTS {
            scan.block(contexts, &mut rankings);
        } else {
            // Rankings do not depend on one another: blocks may run anywhere.
            contexts
                .par_chunks(BLOCK_CONTEXTS)
                .zip(rankings.par_chunks_mut(BLOCK_CONTEXTS))
                .for_each(|(contexts, rankings)| scan.block(contexts, rankings));
        }
        for (slot, ranking) in contexts.iter().zip(rankings) {
            of(&mut self.asked, *slot).ranking = ranking;
        }
    }
}

/// Candidates that are offered to contexts.
struct Scan<'a, P> {
    limits: Limits,
    queries: &'a Vectors,
    candidates: &'a CandidateSlab<P>,
    offered: &'a [Slot],
}

impl<P: Candidate> Scan<'_, P> {
    fn block(&self, contexts: &[Slot], rankings: &mut [Ranking]) {
        let mut scores = vec![0f32; contexts.len() * BLOCK_CANDIDATES.min(self.offered.len())];
        let queries = Rows {
            vectors: self.queries,
            slots: contexts,
        };
        for slots in self.offered.chunks(BLOCK_CANDIDATES) {
            let scores = &mut scores[..contexts.len() * slots.len()];
            products(queries, self.candidates.rows(slots), scores);
            for (ranking, scores) in rankings.iter_mut().zip(scores.chunks_exact(slots.len())) {
                self.offer(ranking, scores, slots);
            }
        }
    }

    fn offer(&self, ranking: &mut Ranking, scores: &[f32], slots: &[Slot]) {
        let mut cut = ranking.cut();
        for (&score, &slot) in scores.iter().zip(slots) {
            // A score that is no number passes no cut.
            if score >= cut {
                ranking.offer(Entry::new(score, slot), self.candidates, self.limits);
                cut = ranking.cut();
            }
        }
    }
}

impl<P, C> Default for Group<P, C> {
    fn default() -> Self {
        Self {
            candidates: HashMap::new(),
            candidate_slots: Vec::new(),
            contexts: HashMap::new(),
            context_slots: Vec::new(),
        }
    }
}

impl<P, C> Default for Deltas<P, C> {
    fn default() -> Self {
        Self {
            candidates_gone: Vec::new(),
            candidates_come: Vec::new(),
            contexts_gone: Vec::new(),
            contexts_come: Vec::new(),
        }
    }
}

/// The context in a slot.
fn of<C, L>(asked: &mut [Option<Asked<C, L>>], slot: Slot) -> &mut Asked<C, L> {
    let asked = asked[slot as usize].as_mut();
    asked.expect("a group names live slots only")
}

/// Takes out what comes and goes in one. Rows are sets, so nothing that only comes is taken out.
fn cancel<G: Ord, D: Ord>(updates: &mut Vec<Update<G, D>>) {
    if updates.iter().any(|(_, diff)| *diff < 0) {
        differential_dataflow::consolidation::consolidate(updates);
    }
}

/// The net deltas of each group.
fn by_group<G: Hash + Ord, P: Ord, C: Ord>(
    mut candidates: Vec<Update<G, P>>,
    mut contexts: Vec<Update<G, C>>,
) -> HashMap<G, Deltas<P, C>> {
    cancel(&mut candidates);
    cancel(&mut contexts);
    let mut groups: HashMap<G, Deltas<P, C>> = HashMap::new();
    for ((group, candidate, vector), diff) in candidates {
        let deltas = groups.entry(group).or_default();
        if diff > 0 {
            deltas.candidates_come.push((candidate, vector));
        } else {
            deltas.candidates_gone.push(candidate);
        }
    }
    for ((group, context, vector), diff) in contexts {
        let deltas = groups.entry(group).or_default();
        if diff > 0 {
            deltas.contexts_come.push((context, vector));
        } else {
            deltas.contexts_gone.push(context);
        }
    }
    groups
}
