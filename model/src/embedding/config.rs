//! What does an encoder's `config.json` say? Sizes, checked before anything is multiplied.

use std::path::Path;

use serde::Deserialize;

use super::corrupt;
use crate::{bounded, error::Error};

/// A configuration larger than this is not one.
const MAX_BYTES: u64 = 1 << 20;

/// Sizes of a BERT encoder.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    pub(super) hidden_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) intermediate_size: usize,
    pub(super) vocab_size: usize,
    pub(super) max_position_embeddings: usize,
    pub(super) type_vocab_size: usize,
    pub(super) layer_norm_eps: f64,
    model_type: String,
    hidden_act: String,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

impl Config {
    /// Reads and checks a configuration.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let bytes = bounded::read(path, MAX_BYTES)?;
        let config: Self = serde_json::from_slice(&bytes).map_err(|error| corrupt(path, error))?;
        let positions = config
            .position_embedding_type
            .as_deref()
            .unwrap_or("absolute");
        for (what, got, supported) in [
            ("encoder", config.model_type.as_str(), "bert"),
            ("activation", config.hidden_act.as_str(), "gelu"),
            ("position embedding", positions, "absolute"),
        ] {
            if got != supported {
                return Err(Error::Unsupported {
                    path: path.into(),
                    what: what.into(),
                    got: got.into(),
                    supported: supported.into(),
                });
            }
        }
        for (name, got, most) in [
            ("num_attention_heads", config.num_attention_heads, 1024),
            ("num_hidden_layers", config.num_hidden_layers, 1024),
            ("hidden_size", config.hidden_size, 1 << 16),
            ("intermediate_size", config.intermediate_size, 1 << 18),
            ("vocab_size", config.vocab_size, 1 << 22),
            (
                "max_position_embeddings",
                config.max_position_embeddings,
                1 << 20,
            ),
            ("type_vocab_size", config.type_vocab_size, 1 << 10),
        ] {
            if got == 0 || got > most {
                return Err(corrupt(
                    path,
                    format!("`{name}` is {got}, expected 1 to {most}"),
                ));
            }
        }
        if !config
            .hidden_size
            .is_multiple_of(config.num_attention_heads)
        {
            return Err(corrupt(path, "the width does not split into heads"));
        }
        Ok(config)
    }
}
