//! Everything that one checkpoint needs to answer: decoder, tokenizer, template, and the
//! digest that names them.

use crate::{
    arithmetic::{Arithmetic, KernelOptions},
    config::ModelConfig,
    decoder::Decoder,
    digest::ModelDigest,
    error::Error,
    locator::{Located, Progress},
    memory,
    template::ChatTemplate,
    tokenizer::Tokenizer,
    weights::{Checkpoint, TensorSource, demands},
};

/// Memory that a decoder takes beyond its weights, in bytes: scratch of a forward pass,
/// the vocabulary, and a first layout's keys and values.
const BESIDE_WEIGHTS: u64 = 256 << 20;

/// How to open a model.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Threads of the decoder.
    pub n_threads: usize,
    /// What it multiplies in.
    pub arithmetic: Arithmetic,
    /// Refuse a model that does not fit into the memory that is available.
    pub check_memory: bool,
}

impl Default for OpenOptions {
    /// A thread for each core, memory checked.
    fn default() -> Self {
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            n_threads,
            arithmetic: Arithmetic::default(),
            check_memory: true,
        }
    }
}

/// A model that can answer.
pub struct Model {
    name: String,
    config: ModelConfig,
    decoder: Decoder,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    digest: ModelDigest,
}

impl Model {
    /// Opens a model that was located.
    pub fn open(
        located: &Located,
        options: &OpenOptions,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open(&located.path)?;
        let config = checkpoint.config().clone();
        if options.check_memory {
            check_memory(&located.name, &checkpoint)?;
        }
        let tokenizer = checkpoint.tokenizer()?;
        if tokenizer.n_tokens() > config.n_vocab {
            return Err(Error::Corrupt {
                path: checkpoint.path().into(),
                reason: format!(
                    "the tokenizer has {} tokens, the embedding table {} rows",
                    tokenizer.n_tokens(),
                    config.n_vocab
                ),
            });
        }
        let template = checkpoint.template(&tokenizer)?;

        let mut has_begun = false;
        let mut heard = |done: u64, total: u64| {
            if !std::mem::replace(&mut has_begun, true) {
                progress.begin(&format!("loading {}", located.name), total);
            }
            progress.at(done);
        };
        // Hashing waits for the disk as loading does: each finds what the other has read.
        let (decoder, digest) = std::thread::scope(|scope| {
            let digest = scope.spawn(|| located.digest.map_or_else(|| checkpoint.digest(), Ok));
            let kernels = KernelOptions {
                arithmetic: options.arithmetic,
                ..KernelOptions::default()
            };
            let (config, n_threads) = (config.clone(), options.n_threads);
            let decoder = Decoder::load_with(kernels, config, &checkpoint, n_threads, &mut heard);
            (decoder, digest.join().expect("hashing does not panic"))
        });
        progress.end();
        Ok(Self {
            name: located.name.clone(),
            config,
            decoder: decoder?,
            tokenizer,
            template,
            digest: digest?,
        })
    }

    /// What to call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sizes and switches of the decoder.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Runs tokens.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The decoder alone.
    pub fn into_decoder(self) -> Decoder {
        self.decoder
    }

    /// Makes tokens.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Frames messages.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// Names weights, tokenizer and template.
    pub fn digest(&self) -> ModelDigest {
        self.digest
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// Compares what loading takes with what can be had.
fn check_memory(name: &str, checkpoint: &Checkpoint) -> Result<(), Error> {
    let weights = demands(checkpoint.config())
        .iter()
        .filter_map(|(name, _)| checkpoint.tensor(name))
        .map(|tensor| tensor.encoding.packed_bytes(tensor.bytes.len()) as u64)
        .sum();
    match memory::available() {
        Some(available) => refuse_if_larger(name, weights, available),
        None => Ok(()),
    }
}

/// Packing keeps the size of weights, but for padding.
fn refuse_if_larger(name: &str, weights: u64, available: u64) -> Result<(), Error> {
    let needed = weights + weights / 10 + BESIDE_WEIGHTS;
    if needed <= available {
        return Ok(());
    }
    let model = name.into();
    Err(Error::TooLittleMemory {
        model,
        needed,
        available,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_larger_than_memory_is_refused_with_both_sizes() {
        const GIB: u64 = 1 << 30;
        assert!(refuse_if_larger("m", GIB, 2 * GIB).is_ok());
        let says = refuse_if_larger("m", 4 * GIB, 2 * GIB)
            .unwrap_err()
            .to_string();
        assert!(
            says.contains("4761 MiB") && says.contains("2048 MiB"),
            "{says}"
        );
    }
}
