//! One decoder for every supported architecture.
//!
//! A forward pass takes any number of runs. Each has its own layout, tail and tokens; all
//! their rows share the matrix products. Arithmetic is f32, but for products with quantized
//! weights, which are sums of integers; KV state is f16. A run may stand
//! behind an earlier run of the same batch: layer by layer, what that one has just computed
//! is a segment to it, as if it were a fragment already.
//!
//! Contract: a row's results (its logits, its keys and values) are a function, to the
//! bit, of the weights, what it attends to and the tokens of its tail up to itself: not of the
//! other rows of the batch, of how the rows were cut into passes, of the number of
//! threads or of the processor. A verifying pass thus agrees with decoding one by one.

mod choice;
mod forward;
mod layers;
mod logits;
mod queries;

pub use choice::Choice;
pub(crate) use choice::gap;
pub use queries::{QueryHead, TokenQueries};

use std::sync::Mutex;

use crate::arithmetic::{Arithmetic, KernelOptions};
use crate::cancel::Cancel;
use crate::config::{ModelConfig, QkNorm};
use crate::error::Error;
use crate::kv::frame::KeyFrame;
use crate::kv::{KvShape, Tail};
use crate::lanes::Isa;
use crate::layout::Layout;
use crate::rope::Ropes;
use crate::weights::TensorSource;
use layers::Layers;

/// A loaded decoder, with the threads it computes on.
pub struct Decoder {
    config: ModelConfig,
    layers: Layers,
    ropes: Ropes,
    pool: rayon::ThreadPool,
    /// Held by the pass that is in the pool.
    turn: Mutex<()>,
    arithmetic: Arithmetic,
    isa: Isa,
}

/// Which rows of a run want logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// None: only the KV state is wanted.
    None,
    /// The last row.
    Last,
    /// Row number n and all that follow.
    From(usize),
}

/// An earlier run of the same batch, to which a run attends as to a segment of its layout:
/// to its whole tail, where that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// How many runs earlier it comes, at least one.
    pub n_back: usize,
    /// Which segment of the layout it is attended to before; the number of segments for
    /// after all.
    pub segment: usize,
}

/// One run of a forward pass: tokens that follow a layout and a tail.
#[derive(Debug)]
pub struct Rows<'a> {
    /// What the rows attend to before the tail.
    pub layout: &'a Layout,
    /// Runs that the rows attend to, too, in the order of segments.
    pub pending: &'a [Pending],
    /// Grows by the rows.
    pub tail: &'a mut Tail,
    /// One a row.
    pub tokens: &'a [u32],
    /// Which rows want logits.
    pub logits: Logits,
    /// Whether each row's attention mass is wanted.
    pub mass: bool,
}

/// Results of one run.
#[derive(Clone, Debug, Default)]
pub struct RowsOutput {
    /// `[n_wanted, n_vocab]`, row-major.
    pub logits: Vec<f32>,
    /// `[n_rows][n_segments + n_pending + 1]`: share of attention on each segment and pending
    /// run as they stand, then on the tail, averaged over the heads of the upper half of the
    /// layers (which tells best what an answer depends on: `cargo bench --bench dependencies`);
    /// each sums to 1. Empty unless asked for.
    pub mass: Vec<Vec<f32>>,
}

/// Results of one run whose rows were asked for their greedy choice only.
#[derive(Clone, Debug, Default)]
pub struct GreedyOutput {
    /// One a wanted row.
    pub choices: Vec<Choice>,
    /// As in [`RowsOutput::mass`].
    pub mass: Vec<Vec<f32>>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// Packs the weights of a checkpoint, on `n_threads` threads (0: one a core), which the
    /// decoder keeps. `progress` is told bytes done and bytes in all.
    ///
    /// # Errors
    /// If a tensor is missing, does not fit the configuration, or the configuration asks
    /// for what the kernels do not have.
    pub fn load(
        config: ModelConfig,
        source: &dyn TensorSource,
        n_threads: usize,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Self, Error> {
        Self::load_with(
            KernelOptions::default(),
            config,
            source,
            n_threads,
            progress,
        )
    }

    /// The same in other arithmetic, or with other instructions than the quickest there are.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with(
        kernels: KernelOptions,
        config: ModelConfig,
        source: &dyn TensorSource,
        n_threads: usize,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Self, Error> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .thread_name(|i| format!("decoder-{i}"))
            .build()
            .map_err(|error| Error::Threads {
                n_threads,
                reason: error.to_string(),
            })?;
        let arithmetic = kernels.arithmetic;
        let layers = pool.install(|| Layers::load(&config, source, arithmetic, progress))?;
        let ropes = Ropes::new(&config);
        Ok(Self {
            config,
            layers,
            ropes,
            pool,
            turn: Mutex::default(),
            arithmetic,
            isa: kernels.instructions.0,
        })
    }

    /// What it multiplies in: its name belongs to the id of whatever it computes.
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// Sizes and switches of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The shape that KV state must have to be used with this decoder.
    pub fn kv_shape(&self) -> KvShape {
        KvShape::of(&self.config)
    }

    /// Number of threads that compute.
    pub fn n_threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Bytes of the packed weights.
    pub fn n_weight_bytes(&self) -> usize {
        self.layers.n_bytes()
    }

    /// Bytes of one token's KV state.
    pub fn kv_bytes_per_token(&self) -> usize {
        self.kv_shape().bytes_per_token()
    }

    /// What its keys are without rotation and bias: what [codings](crate::kv::coding) need.
    pub fn key_frame(&self) -> KeyFrame {
        // A bias before a norm is no longer one behind it.
        let biases = match self.config.qk_norm {
            QkNorm::None => self.layers.key_biases(&self.config),
            QkNorm::EachHead | QkNorm::AllHeads => Vec::new(),
        };
        KeyFrame::new(&self.config, biases)
    }

    /// An empty tail at an absolute position.
    pub fn new_tail(&self, start: u32) -> Tail {
        Tail::new(self.kv_shape(), start)
    }

    /// Computes the rows of all runs; each tail grows by its run's tokens.
    ///
    /// # Errors
    /// A token or position out of range, KV state of another model, or
    /// [`Error::Cancelled`]. After an error the tails are as before.
    pub fn forward(
        &self,
        batch: &mut [Rows<'_>],
        cancel: &Cancel,
    ) -> Result<Vec<RowsOutput>, Error> {
        let forwarded = self.forward_with(batch, cancel, |_, _, row| row.to_vec())?;
        let outputs = forwarded.into_iter().map(|run| RowsOutput {
            logits: run.chosen.concat(),
            mass: run.mass,
        });
        Ok(outputs.collect())
    }

    /// As [`Self::forward`], but yields only the likeliest token of each wanted row.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_greedy(
        &self,
        batch: &mut [Rows<'_>],
        cancel: &Cancel,
    ) -> Result<Vec<GreedyOutput>, Error> {
        let forwarded = self.forward_with(batch, cancel, |_, _, row| Choice::of(row))?;
        let outputs = forwarded.into_iter().map(|run| GreedyOutput {
            choices: run.chosen,
            mass: run.mass,
        });
        Ok(outputs.collect())
    }
}

#[cfg(test)]
mod naive;
#[cfg(test)]
pub(crate) mod tests;
