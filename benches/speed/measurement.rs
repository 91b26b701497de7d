//! What is measured, and in which units?

use std::fmt;

use serde::Deserialize;

/// One thing that an engine is asked to do with given token ids.
pub enum Task {
    /// All ids at once into an empty context.
    Prefill {
        /// Token ids.
        tokens: Vec<u32>,
    },
    /// Ids one at a time, after a context that is computed before the clock starts.
    Decode {
        /// Token ids that stand before.
        context: Vec<u32>,
        /// Token ids fed one by one.
        tokens: Vec<u32>,
    },
    /// Ids at once after such a context, each with its logits: what checking a draft is.
    Verify {
        /// Token ids that stand before.
        context: Vec<u32>,
        /// Token ids fed together.
        tokens: Vec<u32>,
    },
}

impl Task {
    /// Tokens that stand in the context at the end.
    pub fn n_positions(&self) -> usize {
        match self {
            Self::Prefill { tokens } => tokens.len(),
            Self::Decode { context, tokens } | Self::Verify { context, tokens } => {
                context.len() + tokens.len()
            }
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefill { tokens } => write!(f, "prefill {}", tokens.len()),
            Self::Decode { context, tokens } => {
                write!(f, "decode {} after {}", tokens.len(), context.len())
            }
            Self::Verify { context, tokens } => {
                write!(f, "verify {} after {}", tokens.len(), context.len())
            }
        }
    }
}

/// The cost of one task.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Measurement {
    /// Tokens computed while the clock ran.
    pub tokens: usize,
    /// Elapsed seconds.
    pub wall_s: f64,
    /// User and system seconds of all threads.
    pub cpu_s: f64,
}

impl Measurement {
    /// Tokens a second of wall-clock time.
    pub fn rate(&self) -> f64 {
        self.tokens as f64 / self.wall_s
    }

    /// Tokens a second of processor time.
    pub fn cpu_rate(&self) -> f64 {
        self.tokens as f64 / self.cpu_s
    }

    /// The medians of both clocks, each taken for itself. Expects at least one run.
    pub fn median(runs: &[Self]) -> Self {
        Self {
            tokens: runs[0].tokens,
            wall_s: median(runs.iter().map(|run| run.wall_s).collect()),
            cpu_s: median(runs.iter().map(|run| run.cpu_s).collect()),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}
