//! Perennial's side: the decoder alone, without template, fragments or dataflow.

use std::path::Path;

use perennial::model::cancel::Cancel;
use perennial::model::decoder::{Decoder, Logits, Rows};
use perennial::model::kv::Tail;
use perennial::model::layout::Layout;
use perennial::model::weights::Checkpoint;

use crate::clock::timed;
use crate::measurement::{Measurement, Task};

type Error = Box<dyn std::error::Error>;

/// One loaded decoder.
pub struct Ours {
    decoder: Decoder,
}

impl Ours {
    /// Packs the weights of `path` for `n_threads` threads and warms the kernels up.
    pub fn load(path: &Path, n_threads: usize) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open(path)?;
        let config = checkpoint.config().clone();
        let decoder = Decoder::load(config, &checkpoint, n_threads, &mut |_, _| {})?;
        let ours = Self { decoder };
        let mut tail = ours.decoder.new_tail(0);
        ours.feed(&mut tail, &[1; 32])?;
        ours.feed(&mut tail, &[1])?;
        Ok(ours)
    }

    /// Number of token ids the model knows.
    pub fn n_vocab(&self) -> usize {
        self.decoder.config().n_vocab
    }

    /// Computes what the task wants to be there before the clock starts.
    pub fn prepare(&self, task: &Task) -> Result<Tail, Error> {
        let mut tail = self.decoder.new_tail(0);
        if let Task::Decode { context, .. } = task {
            self.feed(&mut tail, context)?;
        }
        Ok(tail)
    }

    /// Runs the task once and leaves `tail` as it was prepared.
    pub fn run(&self, task: &Task, tail: &mut Tail) -> Result<Measurement, Error> {
        let n_prepared = tail.n_tokens();
        let (measurement, result) = match task {
            Task::Prefill { tokens } => timed(tokens.len(), || self.feed(tail, tokens)),
            Task::Decode { tokens, .. } => timed(tokens.len(), || {
                tokens
                    .iter()
                    .try_for_each(|&token| self.feed(tail, &[token]))
            }),
        };
        result?;
        tail.truncate(n_prepared);
        Ok(measurement)
    }

    fn feed(&self, tail: &mut Tail, tokens: &[u32]) -> Result<(), Error> {
        let rows = Rows {
            layout: &Layout::new(),
            tail,
            tokens,
            logits: Logits::Last,
            mass: false,
        };
        self.decoder.forward_greedy(&mut [rows], &Cancel::new())?;
        Ok(())
    }
}
