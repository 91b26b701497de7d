//! Encodes what the store does not hold.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use perennial_model::cancel::Cancel;
use perennial_model::decoder::Logits;
use perennial_model::error::Error as ModelError;
use perennial_model::kv::{KvFragment, Tail};
use perennial_model::layout::Layout;
use perennial_model::passes::{Pass, Priority};
use perennial_model::sampling::Sampling;

use super::TensorModel;
use crate::answer::{CallProgress, Work};
use crate::id::FragmentId;
use crate::scope::{EncodeRun, Piece};

/// Missing fragments are encoded together up to this many rows a forward.
const ROWS_A_FORWARD: usize = 512;

/// A piece, what it attends to, and the tokens that encoding the latter takes.
pub(super) type Wanted<'a> = (&'a Piece, &'a Arc<Layout>, usize);

/// Encodes what the store does not hold.
pub(super) struct Encoder<'a> {
    model: &'a TensorModel,
    priority: Priority,
    cancel: &'a Cancel,
    progress: &'a mut dyn CallProgress,
    work: &'a mut Work,
    /// Tokens of fragments known to be missing, for the progress report.
    n_missing: usize,
}

/// One run under way: what it attends to so far and which pieces are still to come.
struct OpenRun<'a> {
    run: usize,
    layout: Arc<Layout>,
    todo: VecDeque<(&'a Piece, bool)>,
    cost_tokens: usize,
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
        }
    }

    /// The shared prefix.
    pub(super) fn prefix(&mut self, piece: &Piece) -> Result<Arc<KvFragment>, ModelError> {
        if let Some(kv) = self.model.store.get(&piece.id) {
            return Ok(kv);
        }
        let mut encoded = self.encode(&[(piece, &Arc::default(), 0)])?;
        Ok(encoded.swap_remove(0))
    }

    /// The fragments of every run's pieces, in order.
    pub(super) fn runs(
        &mut self,
        prefix: &Arc<KvFragment>,
        runs: &'a [EncodeRun],
    ) -> Result<Vec<Vec<Arc<KvFragment>>>, ModelError> {
        let mut found: Vec<Vec<Arc<KvFragment>>> = Vec::with_capacity(runs.len());
        let mut open = Vec::new();
        for (index, run) in runs.iter().enumerate() {
            let present: Option<Vec<_>> = run
                .pieces
                .iter()
                .map(|piece| self.model.store.get(&piece.id))
                .collect();
            if present.is_none() {
                let mut layout = Layout::new();
                layout.push(prefix.clone());
                let layout = Arc::new(layout);
                let conditioning = run.conditioning.iter().map(|piece| (piece, false));
                let todo = conditioning.chain(run.pieces.iter().map(|piece| (piece, true)));
                let cost_tokens = run.conditioning.iter().map(|p| p.tokens.len()).sum();
                open.push(OpenRun {
                    run: index,
                    layout,
                    todo: todo.collect(),
                    cost_tokens,
                });
                let pieces = run.conditioning.iter().chain(&run.pieces);
                self.n_missing += pieces
                    .filter(|piece| !self.model.store.contains(&piece.id))
                    .map(|piece| piece.tokens.len())
                    .sum::<usize>();
            }
            found.push(present.unwrap_or_default());
        }
        while !open.is_empty() {
            self.advance(&mut open, &mut found)?;
            open.retain(|run| !run.todo.is_empty());
        }
        Ok(found)
    }

    /// Takes each open run over what is present, and encodes the next missing piece of as
    /// many runs as one forward takes.
    fn advance(
        &mut self,
        open: &mut [OpenRun<'a>],
        found: &mut [Vec<Arc<KvFragment>>],
    ) -> Result<(), ModelError> {
        let mut batch: Vec<usize> = Vec::new();
        let mut in_batch: HashSet<FragmentId> = HashSet::new();
        let mut n_rows = 0;
        for (index, run) in open.iter_mut().enumerate() {
            while let Some((piece, is_member)) = run.todo.front().copied() {
                let Some(kv) = self.model.store.get(&piece.id) else {
                    break;
                };
                run.accept(kv, is_member, found);
            }
            let Some((piece, _)) = run.todo.front() else {
                continue;
            };
            let fits = batch.is_empty() || n_rows + piece.tokens.len() <= ROWS_A_FORWARD;
            if fits && in_batch.insert(piece.id) {
                n_rows += piece.tokens.len();
                batch.push(index);
            }
        }
        let requests: Vec<Wanted<'_>> = batch
            .iter()
            .map(|index| {
                let run = &open[*index];
                (run.todo[0].0, &run.layout, run.cost_tokens)
            })
            .collect();
        if requests.is_empty() {
            return Ok(());
        }
        let encoded = self.encode(&requests)?;
        for (index, kv) in batch.into_iter().zip(encoded) {
            let is_member = open[index].todo[0].1;
            open[index].accept(kv, is_member, found);
        }
        Ok(())
    }

    /// One forward over pieces, each after its layout; the results are kept in the store.
    pub(super) fn encode(
        &mut self,
        requests: &[Wanted<'_>],
    ) -> Result<Vec<Arc<KvFragment>>, ModelError> {
        let tails = self.forward(requests)?;
        let mut encoded = Vec::with_capacity(requests.len());
        for ((piece, _, conditioning_tokens), tail) in requests.iter().zip(tails) {
            let kv = Arc::new(tail.freeze());
            let cost_tokens = piece.tokens.len() + conditioning_tokens;
            encoded.push(self.model.store.insert(piece.id, kv, cost_tokens));
        }
        Ok(encoded)
    }

    fn forward(&mut self, requests: &[Wanted<'_>]) -> Result<Vec<Tail>, ModelError> {
        let passes = &self.model.passes;
        let pass = |(piece, layout, _): &Wanted<'_>| Pass {
            layout: (*layout).clone(),
            tail: passes.decoder().new_tail(layout.end()),
            tokens: piece.tokens.to_vec(),
            logits: Logits::None,
            sampling: Sampling::Greedy,
            n_emitted: 0,
            mass: false,
        };
        let batch = requests.iter().map(pass).collect();
        let begin = Instant::now();
        let passed = passes.run(self.priority, batch, self.cancel)?;
        let n_tokens = requests.iter().map(|(piece, ..)| piece.tokens.len()).sum();
        self.model.store.note_encoded(n_tokens, begin.elapsed());
        self.work.n_passes += 1;
        self.work.n_encoded += n_tokens;
        let total = self.n_missing.max(self.work.n_encoded);
        self.progress.encoding(self.work.n_encoded, total);
        Ok(passed.into_iter().map(|passed| passed.tail).collect())
    }
}

impl OpenRun<'_> {
    fn accept(&mut self, kv: Arc<KvFragment>, is_member: bool, found: &mut [Vec<Arc<KvFragment>>]) {
        Arc::make_mut(&mut self.layout).push(kv.clone());
        if is_member {
            found[self.run].push(kv);
        }
        self.todo.pop_front();
    }
}
