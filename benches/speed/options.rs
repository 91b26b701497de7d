//! What does the caller want measured?

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use perennial::model::arithmetic::{Instructions, KernelOptions};

use crate::measurement::Task;

/// Prefill and decoding speed beside llama.cpp.
#[derive(Parser)]
#[command(name = "speed")]
pub struct Options {
    /// Models to measure: names, files or folders (default: the known decoders).
    #[arg(long = "model", value_name = "MODEL", default_values = ["smollm2-135m", "qwen2.5-coder-0.5b"])]
    pub models: Vec<String>,
    /// Thread counts of both sides.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    pub threads: Vec<usize>,
    /// Prompt lengths in tokens.
    #[arg(long, value_delimiter = ',', default_values_t = [128, 512, 2048])]
    prefill: Vec<usize>,
    /// Context lengths in tokens after which decoding is measured.
    #[arg(long, value_delimiter = ',', default_values_t = [2048])]
    decode_after: Vec<usize>,
    /// Tokens decoded in one run.
    #[arg(long, default_value_t = 32)]
    decode: usize,
    /// Context lengths in tokens after which verifying is measured.
    #[arg(long, value_delimiter = ',', default_values_t = [2048])]
    verify_after: Vec<usize>,
    /// Tokens verified in one pass.
    #[arg(long, default_value_t = 160)]
    verify: usize,
    /// Runs of each task and side.
    #[arg(long, default_value = "3")]
    pub repeats: NonZeroUsize,
    /// Kernels of ours, each measured in turn within every repeat: instructions (best, portable,
    /// avx2, avx512 or amx) and arithmetic (int16 or int8).
    #[arg(long, value_name = "INSTRUCTIONS:ARITHMETIC", value_delimiter = ',', default_values = ["best:int16"])]
    pub kernels: Vec<Kernels>,
    /// A Python interpreter that can import `llama_cpp`.
    #[arg(long, default_value = "python3")]
    pub peer_python: PathBuf,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

/// Instructions and arithmetic of one decoder.
#[derive(Clone, Copy)]
pub struct Kernels(pub KernelOptions);

impl FromStr for Kernels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (instructions, arithmetic) = text
            .split_once(':')
            .ok_or("expected INSTRUCTIONS:ARITHMETIC, as in avx512:int8")?;
        let instructions = match instructions {
            "best" => Instructions::default(),
            word => word.parse()?,
        };
        let arithmetic = arithmetic.parse()?;
        Ok(Self(KernelOptions {
            arithmetic,
            instructions,
        }))
    }
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.instructions.word(), self.0.arithmetic)
    }
}

impl Options {
    /// Everything to be measured with one model: what it has positions for.
    pub fn tasks(&self, n_vocab: usize, n_positions: usize) -> Vec<Task> {
        let ids = arbitrary_ids(self.capacity(), n_vocab);
        let prefills = self.prefill.iter().map(|&n| Task::Prefill {
            tokens: ids[..n].to_vec(),
        });
        let decodes = self.decode_after.iter().map(|&n| Task::Decode {
            context: ids[..n].to_vec(),
            tokens: ids[n..n + self.decode].to_vec(),
        });
        let verifies = self.verify_after.iter().map(|&n| Task::Verify {
            context: ids[..n].to_vec(),
            tokens: ids[n..n + self.verify].to_vec(),
        });
        let tasks = prefills.chain(decodes).chain(verifies);
        tasks
            .filter(|task| task.n_positions() <= n_positions)
            .collect()
    }

    /// Tokens that the longest task holds in its context.
    pub fn capacity(&self) -> usize {
        let decodes = self.decode_after.iter().map(|&n| n + self.decode);
        let verifies = self.verify_after.iter().map(|&n| n + self.verify);
        self.prefill
            .iter()
            .copied()
            .chain(decodes)
            .chain(verifies)
            .max()
            .unwrap_or(0)
    }
}

/// Ids of no meaning, the same each time: speed does not depend on which they are.
fn arbitrary_ids(n: usize, n_vocab: usize) -> Vec<u32> {
    let mut state = 1_u64;
    (0..n)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            u32::try_from((state >> 33) % n_vocab as u64).expect("below the vocabulary's size")
        })
        .collect()
}
