//! Which texts are about the same thing? Sentence embeddings by a BERT encoder
//! (all-MiniLM-L6-v2), mean-pooled and of length 1: the dot product of two is their
//! cosine.
//!
//! A text's vector is a function of the text and the weights alone. Texts are encoded one
//! by one, never in one batch with others: padding and batch shape would change last bits,
//! and an edit must move the vectors of what it touched and no others. Threads work on
//! different texts.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use rayon::prelude::*;
use tokenizers::{TruncationParams, utils::truncation::TruncationDirection};

use crate::{
    digest::{self, ModelDigest},
    error::Error,
    weights::mapped,
};

/// Longest text in tokens that the encoder was trained for; the rest is not seen.
pub const MAX_TOKENS: usize = 256;

/// A configuration larger than this is not one.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
const WEIGHTS: &str = "model.safetensors";

/// An opened encoder.
pub struct Embedder {
    bert: BertModel,
    tokenizer: tokenizers::Tokenizer,
    threads: rayon::ThreadPool,
    n_dimensions: usize,
    digest: ModelDigest,
}

impl Embedder {
    /// Opens a folder with `config.json`, `tokenizer.json` and `model.safetensors`.
    pub fn open(folder: &Path, n_threads: usize) -> Result<Self, Error> {
        let config_path = folder.join("config.json");
        let config = read_config(&config_path)?;
        let weights_path = folder.join(WEIGHTS);
        let weights = mapped::map(&weights_path)?;
        let bert = VarBuilder::from_slice_safetensors(&weights, DType::F32, &Device::Cpu)
            .and_then(|tensors| BertModel::load(tensors, &config))
            .map_err(|error| corrupt(&weights_path, error))?;

        let tokenizer_path = folder.join("tokenizer.json");
        let tokenizer = read_tokenizer(&tokenizer_path, &config)?;
        let digest = digest::of_parts(&[
            (weights_path, digest::of_bytes(&weights)),
            (config_path.clone(), digest::of_file(&config_path)?),
            (tokenizer_path.clone(), digest::of_file(&tokenizer_path)?),
        ]);
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(n_threads.max(1))
            .thread_name(|i| format!("embed-{i}"))
            .build()
            .map_err(|error| Error::Io {
                path: folder.into(),
                source: std::io::Error::other(error),
            })?;
        Ok(Self { bert, tokenizer, threads, n_dimensions: config.hidden_size, digest })
    }

    /// A vector for each text, in their order.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        self.threads.install(|| texts.par_iter().map(|text| self.embed_one(text)).collect())
    }

    /// Numbers in a vector.
    pub fn n_dimensions(&self) -> usize {
        self.n_dimensions
    }

    /// Digest of weights, tokenizer and configuration.
    pub fn digest(&self) -> ModelDigest {
        self.digest
    }

    fn embed_one(&self, text: &str) -> Result<Vec<f32>, Error> {
        let encoding = self.tokenizer.encode_fast(text, true).map_err(Error::tokenizer)?;
        let failed = |error: candle_core::Error| Error::Embedding(error.to_string());
        let ids = Tensor::new(encoding.get_ids(), &Device::Cpu)
            .and_then(|ids| ids.unsqueeze(0))
            .map_err(failed)?;
        let hidden = ids
            .zeros_like()
            .and_then(|kinds| self.bert.forward(&ids, &kinds, None))
            .and_then(|hidden| hidden.squeeze(0)?.to_vec2::<f32>())
            .map_err(failed)?;
        Ok(pool(&hidden))
    }
}

/// The mean over tokens (rows), scaled to length 1.
fn pool(hidden: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0f32; hidden.first().map_or(0, Vec::len)];
    for row in hidden {
        for (sum, x) in sum.iter_mut().zip(row) {
            *sum += x;
        }
    }
    // The division by the number of tokens cancels in the scaling.
    let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        sum.iter_mut().for_each(|x| *x /= length);
    }
    sum
}

fn corrupt(path: &Path, reason: impl ToString) -> Error {
    Error::Corrupt { path: path.into(), reason: reason.to_string() }
}

fn read_config(path: &Path) -> Result<Config, Error> {
    let size = std::fs::metadata(path).map_err(Error::io(path))?.len();
    if size > MAX_CONFIG_BYTES {
        return Err(corrupt(path, format!("{size} bytes, the limit is {MAX_CONFIG_BYTES}")));
    }
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let config: Config = serde_json::from_slice(&bytes).map_err(|error| corrupt(path, error))?;
    let heads = config.num_attention_heads;
    if heads == 0 || !config.hidden_size.is_multiple_of(heads) || config.num_hidden_layers > 1024 {
        return Err(corrupt(path, "sizes that no encoder has"));
    }
    Ok(config)
}

fn read_tokenizer(path: &Path, config: &Config) -> Result<tokenizers::Tokenizer, Error> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let mut tokenizer =
        tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| corrupt(path, error))?;
    tokenizer.with_padding(None);
    let truncation = TruncationParams {
        max_length: MAX_TOKENS.min(config.max_position_embeddings),
        direction: TruncationDirection::Right,
        ..TruncationParams::default()
    };
    tokenizer.with_truncation(Some(truncation)).map_err(|error| corrupt(path, error))?;
    tokenizer.set_encode_special_tokens(true);
    if tokenizer.get_vocab_size(true) > config.vocab_size {
        return Err(corrupt(path, "more tokens than the encoder has embeddings"));
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
