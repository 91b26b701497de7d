//! Perennial's side: the decoder alone, without template, fragments or dataflow.

use std::path::Path;
use std::sync::Arc;

use perennial::model::arithmetic::KernelOptions;
use perennial::model::cancel::Cancel;
use perennial::model::decoder::{Decoder, Logits, Rows};
use perennial::model::kv::Tail;
use perennial::model::layout::Layout;
use perennial::model::weights::Checkpoint;

use crate::clock::timed;
use crate::limit::Least;
use crate::measurement::{Measurement, Task};

type Error = Box<dyn std::error::Error>;

/// Tokens of a fragment that stands before what is verified.
const PASSAGE_TOKENS: usize = 66;

/// One loaded decoder.
pub struct Ours {
    decoder: Decoder,
}

impl Ours {
    /// Packs the weights of `path` for `n_threads` threads and warms the kernels up.
    pub fn load(path: &Path, kernels: KernelOptions, n_threads: usize) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open(path)?;
        let config = checkpoint.config().clone();
        let decoder = Decoder::load_with(kernels, config, &checkpoint, n_threads, &mut |_, _| {})?;
        let ours = Self { decoder };
        let mut tail = ours.decoder.new_tail(0);
        let nothing = Layout::new();
        ours.feed(&nothing, &mut tail, &[1; 32], Logits::Last)?;
        ours.feed(&nothing, &mut tail, &[1], Logits::Last)?;
        Ok(ours)
    }

    /// Number of token ids the model knows.
    pub fn n_vocab(&self) -> usize {
        self.decoder.config().n_vocab
    }

    /// Number of positions the model has.
    pub fn n_positions(&self) -> usize {
        self.decoder.config().max_positions
    }

    /// The least work of the task.
    pub fn least(&self, task: &Task) -> Least {
        let of_pass =
            |n_before, n_rows, n_wanted| Least::of_pass(&self.decoder, n_before, n_rows, n_wanted);
        match task {
            Task::Prefill { tokens } => of_pass(0, tokens.len(), 1),
            Task::Decode { context, tokens } => (0..tokens.len())
                .map(|i| of_pass(context.len() + i, 1, 1))
                .fold(Least::default(), Least::and),
            Task::Verify { context, tokens } => of_pass(context.len(), tokens.len(), tokens.len()),
        }
    }

    /// Computes what the task wants to be there before the clock starts.
    pub fn prepare(&self, task: &Task) -> Result<Prepared, Error> {
        let mut layout = Layout::new();
        let mut tail = self.decoder.new_tail(0);
        match task {
            Task::Prefill { .. } => {}
            Task::Decode { context, .. } => {
                self.feed(&layout, &mut tail, context, Logits::None)?;
            }
            // As a view holds its documents: in fragments of about a passage.
            Task::Verify { context, .. } => {
                for passage in context.chunks(PASSAGE_TOKENS) {
                    let mut fragment = self.decoder.new_tail(layout.end());
                    self.feed(&Layout::new(), &mut fragment, passage, Logits::None)?;
                    layout.push(Arc::new(fragment.freeze()));
                }
                tail = self.decoder.new_tail(layout.end());
            }
        }
        Ok(Prepared { layout, tail })
    }

    /// Runs the task once and leaves `state` as it was prepared.
    pub fn run(&self, task: &Task, state: &mut Prepared) -> Result<Measurement, Error> {
        let Prepared { layout, tail } = state;
        let n_prepared = tail.n_tokens();
        let (measurement, result) = match task {
            Task::Prefill { tokens } => timed(tokens.len(), || {
                self.feed(layout, tail, tokens, Logits::Last)
            }),
            Task::Decode { tokens, .. } => timed(tokens.len(), || {
                tokens
                    .iter()
                    .try_for_each(|&token| self.feed(layout, tail, &[token], Logits::Last))
            }),
            Task::Verify { tokens, .. } => timed(tokens.len(), || {
                self.feed(layout, tail, tokens, Logits::From(0))
            }),
        };
        result?;
        tail.truncate(n_prepared);
        Ok(measurement)
    }

    fn feed(
        &self,
        layout: &Layout,
        tail: &mut Tail,
        tokens: &[u32],
        logits: Logits,
    ) -> Result<(), Error> {
        let rows = Rows {
            layout,
            pending: &[],
            tail,
            tokens,
            logits,
            mass: false,
        };
        self.decoder.forward_greedy(&mut [rows], &Cancel::new())?;
        Ok(())
    }
}

/// What stands before the tokens of a task.
pub struct Prepared {
    layout: Layout,
    tail: Tail,
}
