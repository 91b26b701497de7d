//! Which texts are about the same thing? Sentence embeddings by a BERT encoder
//! (all-MiniLM-L6-v2), mean-pooled and of length 1: the dot product of two is their
//! cosine.
//!
//! A text's vector is a function of the text and the weights alone, to the last bit: not
//! of the texts that it is encoded with, nor of the number of threads. An edit moves the
//! vectors of what it touched and no others.

mod attention;
mod config;
mod encoder;
mod pointwise;

use std::path::Path;

use rayon::prelude::*;
use tokenizers::{TruncationParams, utils::truncation::TruncationDirection};

use self::{config::Config, encoder::Encoder};
use crate::{
    bounded,
    digest::{self, ModelDigest},
    error::Error,
    weights::mapped,
};

/// Longest text in tokens that the encoder was trained for; the rest is not seen.
pub const MAX_TOKENS: usize = 256;

/// A `tokenizer.json` larger than this is not an encoder's.
const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

const WEIGHTS: &str = "model.safetensors";

/// An opened encoder.
pub struct Embedder {
    encoder: Encoder,
    tokenizer: tokenizers::Tokenizer,
    threads: rayon::ThreadPool,
    n_dimensions: usize,
    digest: ModelDigest,
}

impl Embedder {
    /// Opens a folder with `config.json`, `tokenizer.json` and `model.safetensors`.
    pub fn open(folder: &Path, n_threads: usize) -> Result<Self, Error> {
        let config_path = folder.join("config.json");
        let config = Config::read(&config_path)?;
        let weights_path = folder.join(WEIGHTS);
        let weights = mapped::map(&weights_path)?;
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(n_threads.max(1))
            .thread_name(|i| format!("embed-{i}"))
            .build()
            .map_err(|error| Error::Embedding(error.to_string()))?;
        let encoder = threads
            .install(|| Encoder::load(&weights, &config))
            .map_err(|reason| corrupt(&weights_path, reason))?;

        let tokenizer_path = folder.join("tokenizer.json");
        let tokenizer = read_tokenizer(&tokenizer_path, &config)?;
        let digest = digest::of_parts(&[
            (weights_path, digest::of_bytes(&weights)),
            (config_path.clone(), digest::of_file(&config_path)?),
            (tokenizer_path.clone(), digest::of_file(&tokenizer_path)?),
        ]);
        Ok(Self {
            encoder,
            tokenizer,
            threads,
            n_dimensions: config.hidden_size,
            digest,
        })
    }

    /// A vector for each text, in their order. Of a text only the first [`MAX_TOKENS`]
    /// tokens are seen.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        self.threads.install(|| {
            let tokens: Vec<Vec<u32>> = texts
                .par_iter()
                .map(|text| {
                    let encoding = self.tokenizer.encode_fast(*text, true);
                    Ok(encoding.map_err(Error::tokenizer)?.get_ids().to_vec())
                })
                .collect::<Result<_, Error>>()?;
            let mut vectors = self.encoder.means(&tokens);
            vectors
                .iter_mut()
                .for_each(|vector| scale_to_length_1(vector));
            Ok(vectors)
        })
    }

    /// Numbers in a vector.
    pub fn n_dimensions(&self) -> usize {
        self.n_dimensions
    }

    /// Digest of weights, tokenizer and configuration.
    pub fn digest(&self) -> ModelDigest {
        self.digest
    }
}

fn scale_to_length_1(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}

fn corrupt(path: &Path, reason: impl ToString) -> Error {
    Error::Corrupt {
        path: path.into(),
        reason: reason.to_string(),
    }
}

fn read_tokenizer(path: &Path, config: &Config) -> Result<tokenizers::Tokenizer, Error> {
    let bytes = bounded::read(path, MAX_TOKENIZER_BYTES)?;
    let mut tokenizer =
        tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| corrupt(path, error))?;
    tokenizer.with_padding(None);
    let truncation = TruncationParams {
        max_length: MAX_TOKENS.min(config.max_position_embeddings),
        direction: TruncationDirection::Right,
        ..TruncationParams::default()
    };
    tokenizer
        .with_truncation(Some(truncation))
        .map_err(|error| corrupt(path, error))?;
    // A text's spelling of a special token is text.
    tokenizer.set_encode_special_tokens(true);
    let highest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
    if highest as usize >= config.vocab_size {
        return Err(corrupt(path, "a token without an embedding"));
    }
    Ok(tokenizer)
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder")
            .field("n_dimensions", &self.n_dimensions)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}
