//! Which tensors are stored as one, and where in it are they?
//!
//! Phi-3 stores query, key and value as one matrix, and gate and up as another. Rows of a matrix follow each
//! other in a file, so each part is a stretch of its bytes: nothing is copied.

use std::{ops::Range, path::Path};

use super::Encoding;
use crate::{
    config::{Architecture, ModelConfig},
    error::Error,
};

/// Matrices stored as one.
pub(super) struct Fused {
    /// Name of what is stored.
    pub whole: String,
    /// Names and numbers of rows of what it holds, in order.
    pub parts: Vec<(String, usize)>,
}

/// Name, shape and bytes of a part.
pub(super) type Part = (String, [usize; 2], Range<usize>);

/// What checkpoints of this configuration store as one.
pub(super) fn of(config: &ModelConfig) -> Vec<Fused> {
    if config.architecture != Architecture::Phi3 {
        return Vec::new();
    }
    let (q, kv) = (
        config.n_heads * config.head_dim,
        config.n_kv_heads * config.head_dim,
    );
    let of_layer = |layer: usize| {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let fused = |whole: &str, parts: &[(&str, usize)]| Fused {
            whole: name(whole),
            parts: parts.iter().map(|(part, n)| (name(part), *n)).collect(),
        };
        [
            fused("attn_qkv", &[("attn_q", q), ("attn_k", kv), ("attn_v", kv)]),
            fused(
                "ffn_up",
                &[("ffn_gate", config.d_ff), ("ffn_up", config.d_ff)],
            ),
        ]
    };
    (0..config.n_layers).flat_map(of_layer).collect()
}

impl Fused {
    /// The parts of a tensor that lies at these bytes: name, shape and bytes.
    ///
    /// # Errors
    /// If it has another number of rows than its parts.
    pub fn cut(
        self,
        path: &Path,
        encoding: Encoding,
        shape: [usize; 2],
        bytes: &Range<usize>,
    ) -> Result<Vec<Part>, Error> {
        let [n_rows, n_columns] = shape;
        let expected: usize = self.parts.iter().map(|(_, n)| n).sum();
        let of_row = encoding.bytes_of([1, n_columns]);
        let Some(of_row) = of_row.filter(|_| n_rows == expected) else {
            return Err(Error::TensorShape {
                path: path.into(),
                name: self.whole,
                expected: [expected, n_columns],
                got: shape,
            });
        };
        let mut start = bytes.start;
        let parts = self.parts.into_iter().map(|(name, n)| {
            let end = start + n * of_row;
            (
                name,
                [n, n_columns],
                std::mem::replace(&mut start, end)..end,
            )
        });
        Ok(parts.collect())
    }
}
