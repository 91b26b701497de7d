//! Encodes what the store does not hold.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use perennial_model::cancel::Cancel;
use perennial_model::decoder::{Logits, Pending};
use perennial_model::error::Error as ModelError;
use perennial_model::kv::KvFragment;
use perennial_model::layout::Layout;
use perennial_model::passes::{Pass, Priority, max_rows};
use perennial_model::sampling::Sampling;

use super::TensorModel;
use crate::answer::{CallProgress, Work};
use perennial_bank::id::FragmentId;
use perennial_bank::scope::{EncodeRun, Piece};

/// Rows that are left to others who are to be joined with a forward.
const ROWS_OF_OTHERS: usize = 64;

/// Missing fragments are encoded together, up to this many rows a forward.
const fn rows_a_forward(priority: Priority) -> usize {
    match priority {
        Priority::Fresh => max_rows(priority) - ROWS_OF_OTHERS,
        Priority::Background => max_rows(priority),
    }
}

type Fragment = Arc<KvFragment>;

/// Encodes what the store does not hold.
pub(super) struct Encoder<'a> {
    model: &'a TensorModel,
    priority: Priority,
    cancel: &'a Cancel,
    progress: &'a mut dyn CallProgress,
    work: &'a mut Work,
    /// Tokens of fragments that were found missing, for the progress report.
    n_missing: usize,
    /// The fragment that is no passage's: what it costs is the prompt's.
    instruction: Option<FragmentId>,
}

/// Fragments one behind the other, of which some are still to be had.
#[derive(Default)]
pub(super) struct Chain {
    slots: Vec<Slot>,
    /// Tokens that are encoded for the sake of others.
    n_conditioning: usize,
}

/// A place in a chain.
enum Slot {
    Here(Arc<KvFragment>),
    /// What of it comes behind its first tokens, so many; the slot before has these.
    Rest(Arc<KvFragment>, usize),
    /// To be taken from the store, or encoded behind what stands before it.
    Wanted(Piece),
}

/// What one forward encodes.
#[derive(Default)]
struct Batch {
    passes: Vec<Pass>,
    /// Of each pass: its chain and slot.
    places: Vec<(usize, usize)>,
    ids: HashSet<FragmentId>,
    n_rows: usize,
    /// Something did not fit.
    is_full: bool,
}

impl Chain {
    /// Of what is here already.
    pub(super) fn of(kv: Arc<KvFragment>) -> Self {
        let mut chain = Self::default();
        chain.push(kv);
        chain
    }

    /// Appends what is here.
    pub(super) fn push(&mut self, kv: Arc<KvFragment>) {
        self.slots.push(Slot::Here(kv));
    }

    /// Appends what of a fragment comes behind its first `n` tokens, which the slot before has.
    pub(super) fn push_rest(&mut self, kv: Arc<KvFragment>, n: usize) {
        self.slots.push(Slot::Rest(kv, n));
    }

    /// Appends what is wanted.
    pub(super) fn want(&mut self, piece: Piece) {
        self.slots.push(Slot::Wanted(piece));
    }

    /// The fragments in order, of a complete chain.
    pub(super) fn into_fragments(self) -> impl DoubleEndedIterator<Item = Arc<KvFragment>> {
        self.slots.into_iter().map(|slot| match slot {
            Slot::Here(kv) | Slot::Rest(kv, _) => kv,
            Slot::Wanted(_) => unreachable!("the chain was completed"),
        })
    }

    fn is_complete(&self) -> bool {
        self.wanted().next().is_none()
    }

    fn wanted(&self) -> impl Iterator<Item = &Piece> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Here(_) | Slot::Rest(..) => None,
            Slot::Wanted(piece) => Some(piece),
        })
    }
}

impl<'a> Encoder<'a> {
    pub(super) fn new(
        model: &'a TensorModel,
        priority: Priority,
        cancel: &'a Cancel,
        progress: &'a mut dyn CallProgress,
        work: &'a mut Work,
    ) -> Self {
        Self {
            model,
            priority,
            cancel,
            progress,
            work,
            n_missing: 0,
            instruction: None,
        }
    }

    /// Says which fragment is the instruction's.
    pub(super) fn instructed_by(&mut self, instruction: Option<&Piece>) {
        self.instruction = instruction.map(|piece| piece.id);
    }

    /// The shared prefix.
    pub(super) fn prefix(&mut self, piece: &Piece) -> Result<Arc<KvFragment>, ModelError> {
        let mut chain = Chain::default();
        chain.want(piece.clone());
        self.last_of(chain)
    }

    /// The last fragment of a chain.
    pub(super) fn last_of(&mut self, mut chain: Chain) -> Result<Arc<KvFragment>, ModelError> {
        self.complete(std::slice::from_mut(&mut chain))?;
        let last = chain.into_fragments().next_back();
        Ok(last.expect("a chain that is asked for its last has one"))
    }

    /// The fragments of every run's pieces, in order, and that of a piece which stands behind them all.
    pub(super) fn runs(
        &mut self,
        prefix: &Arc<KvFragment>,
        runs: &[EncodeRun],
        mut behind: Option<Piece>,
    ) -> Result<(Vec<Fragment>, Option<Fragment>), ModelError> {
        let chain = |run: &EncodeRun| {
            let mut chain = Chain::of(prefix.clone());
            let store = &self.model.store;
            let ids = run.pieces.iter().map(|piece| &piece.id);
            // Looked at first: what is wanted below is looked up there, and is to count once.
            let present = match ids.clone().all(|id| store.contains(id)) {
                true => ids.map(|id| store.get(id)).collect::<Option<Vec<_>>>(),
                false => None,
            };
            if let Some(present) = present {
                present.into_iter().for_each(|kv| chain.push(kv));
                return chain;
            }
            chain.n_conditioning = run.conditioning.iter().map(|p| p.tokens.len()).sum();
            let pieces = run.conditioning.iter().chain(&run.pieces);
            pieces.for_each(|piece| chain.want(piece.clone()));
            chain
        };
        let mut chains: Vec<Chain> = runs.iter().map(chain).collect();
        // Where there is one chain it ends it, and is encoded together with what is missing there.
        let mut ends_chain = false;
        if let ([run], [chain]) = (runs, &mut chains[..])
            && run.conditioning.is_empty()
            && let Some(piece) = behind.take()
        {
            chain.want(piece);
            ends_chain = true;
        }
        self.complete(&mut chains)?;
        let mut found = Vec::new();
        for (run, chain) in runs.iter().zip(chains) {
            let first = chain.slots.len() - run.pieces.len() - usize::from(ends_chain);
            found.extend(chain.into_fragments().skip(first));
        }
        let mut behind_all = found.pop_if(|_| ends_chain);
        if let Some(piece) = behind {
            let mut chain = Chain::of(prefix.clone());
            found.iter().for_each(|kv| chain.push(kv.clone()));
            chain.want(piece);
            behind_all = Some(self.last_of(chain)?);
        }
        Ok((found, behind_all))
    }

    /// The fragments of pieces that are encoded apart, each behind the prefix, in order.
    pub(super) fn apart<'p>(
        &mut self,
        prefix: &Arc<KvFragment>,
        pieces: impl Iterator<Item = &'p Piece>,
    ) -> Result<Vec<Fragment>, ModelError> {
        let chain = |piece: &Piece| {
            let mut chain = Chain::of(prefix.clone());
            chain.want(piece.clone());
            chain
        };
        let mut chains: Vec<Chain> = pieces.map(chain).collect();
        self.complete(&mut chains)?;
        let last = |chain: Chain| chain.into_fragments().next_back();
        Ok(chains.into_iter().filter_map(last).collect())
    }

    /// Fills every slot of the chains.
    pub(super) fn complete(&mut self, chains: &mut [Chain]) -> Result<(), ModelError> {
        let store = &self.model.store;
        let wanted = chains.iter().flat_map(Chain::wanted);
        let missing =
            wanted.filter(|piece| Some(piece.id) != self.instruction && !store.contains(&piece.id));
        self.n_missing += missing.map(|piece| piece.tokens.len()).sum::<usize>();
        if chains.iter().all(Chain::is_complete) {
            return Ok(());
        }
        let passes = &self.model.passes;
        let _caller = passes.enter(self.priority);
        let mut first = 0;
        loop {
            let mut batch = Batch::default();
            first += chains[first..]
                .iter()
                .take_while(|c| c.is_complete())
                .count();
            for (number, chain) in chains.iter_mut().enumerate().skip(first) {
                if batch.is_full {
                    break;
                }
                if !chain.is_complete() {
                    self.take_from(chain, number, &mut batch);
                }
            }
            if batch.passes.is_empty() {
                return Ok(());
            }
            self.encode(batch, chains)?;
        }
    }

    /// Goes along a chain: fills what the store holds, and puts what it lacks into the batch,
    /// behind what was put there before it, until something does not fit.
    fn take_from(&self, chain: &mut Chain, number: usize, batch: &mut Batch) {
        let limit = rows_a_forward(self.priority);
        let decoder = self.model.passes.decoder();
        let mut layout = Arc::new(Layout::new());
        let mut end = 0;
        // Which passes the next one stands behind, and before which segments.
        let mut pending: Vec<(usize, usize)> = Vec::new();
        for (place, slot) in chain.slots.iter_mut().enumerate() {
            if let Slot::Wanted(piece) = slot {
                let n_rows = batch.n_rows + piece.tokens.len();
                batch.is_full = batch.n_rows > 0 && n_rows > limit;
                if batch.is_full {
                    return;
                }
            }
            if let Slot::Wanted(piece) = slot
                && let Some(kv) = self.model.store.get(&piece.id)
            {
                *slot = Slot::Here(kv);
            }
            match slot {
                Slot::Here(kv) => {
                    Arc::make_mut(&mut layout).push_at(kv.clone(), end, Vec::new());
                    end += kv.n_tokens() as u32;
                }
                Slot::Rest(kv, n_before) => {
                    let layout = Arc::make_mut(&mut layout);
                    layout.push_rest(kv.clone(), *n_before as u32, end);
                    end += (kv.n_tokens() - *n_before) as u32;
                }
                Slot::Wanted(piece) => {
                    let n = piece.tokens.len();
                    let pass = batch.passes.len();
                    // What another chain is getting is in the store the next time.
                    if !batch.ids.insert(piece.id) {
                        return;
                    }
                    let behind = |&(earlier, segment): &(usize, usize)| Pending {
                        n_back: pass - earlier,
                        segment,
                    };
                    batch.passes.push(Pass {
                        layout: layout.clone(),
                        pending: pending.iter().map(behind).collect(),
                        tail: decoder.new_tail(end),
                        tokens: piece.tokens.to_vec(),
                        logits: Logits::None,
                        sampling: Sampling::Greedy,
                        among: None,
                        expected: None,
                        n_emitted: 0,
                        mass: false,
                    });
                    batch.places.push((number, place));
                    batch.n_rows += n;
                    pending.push((pass, layout.segments().len()));
                    end += n as u32;
                }
            }
        }
    }

    /// One forward; what it gives goes to its slots, and into the store.
    fn encode(&mut self, batch: Batch, chains: &mut [Chain]) -> Result<(), ModelError> {
        let begin = Instant::now();
        let TensorModel { passes, store, .. } = self.model;
        let passed = passes.run(self.priority, batch.passes, self.cancel)?;
        store.note_encoded(batch.n_rows, begin.elapsed());
        self.work.n_passes += 1;
        for ((number, place), passed) in batch.places.into_iter().zip(passed) {
            let chain = &mut chains[number];
            let slot = &mut chain.slots[place];
            let Slot::Wanted(piece) = slot else {
                unreachable!("what is here is not encoded");
            };
            let kv = Arc::new(passed.tail.freeze());
            let n_rows = piece.tokens.len();
            match Some(piece.id) == self.instruction {
                true => self.work.n_prompt += n_rows,
                false => self.work.n_encoded += n_rows,
            }
            let cost_tokens = n_rows + chain.n_conditioning;
            *slot = Slot::Here(store.insert(piece.id, kv, cost_tokens));
        }
        let total = self.n_missing.max(self.work.n_encoded);
        self.progress.encoding(self.work.n_encoded, total);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use perennial_bank::fragment_store::FragmentStore;
    use perennial_bank::scope::{self, Scope};
    use perennial_model::arithmetic::Arithmetic;
    use perennial_model::seeded::tiny_config;

    use super::super::tests::{Characters, model_in};
    use super::*;

    #[test]
    fn a_fragment_that_is_looked_up_counts_once_found_or_not() -> Result<(), ModelError> {
        let passages: Vec<Arc<[u32]>> = (0..3).map(|i| (i..i + 20).collect()).collect();
        for scope in [Scope::Causal, Scope::Independent] {
            let codec = Characters {
                prefix: vec![1, 2],
                stop: vec![95],
                digest: 0,
            };
            let model = model_in(Arithmetic::default(), tiny_config(), codec)?;
            let model = model.with_store(Arc::new(FragmentStore::new(1 << 24)));
            let plan = scope::plan(scope, &model.identity, &model.prefix, &passages);
            // The shared prefix and three passages: missing at first, then there.
            for expected in [(0, 4), (4, 4), (8, 4)] {
                model.lay_out(&plan, Priority::Fresh, &Cancel::new())?;
                let stats = model.store.stats();
                assert_eq!((stats.n_hits, stats.n_misses), expected, "{scope}");
            }
        }
        Ok(())
    }
}
