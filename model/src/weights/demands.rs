//! Which tensors does a configuration demand, and are they all there?
//!
//! Checked once when a checkpoint is opened, so that the decoder meets neither a missing
//! matrix nor one of another size halfway through packing gigabytes.

use std::path::Path;

use super::TensorSource;
use crate::{
    config::{ModelConfig, QkNorm, RopeScaling},
    error::Error,
};

/// Every tensor the decoder reads, with its `[rows, columns]`.
pub fn demands(config: &ModelConfig) -> Vec<(String, [usize; 2])> {
    let ModelConfig {
        d_model,
        d_ff,
        head_dim,
        n_vocab,
        ..
    } = *config;
    let q_width = config.n_heads * head_dim;
    let kv_width = config.n_kv_heads * head_dim;
    let mut out = vec![
        ("token_embd.weight".to_owned(), [n_vocab, d_model]),
        ("output_norm.weight".to_owned(), [1, d_model]),
    ];
    if !config.tied_embeddings {
        out.push(("output.weight".to_owned(), [n_vocab, d_model]));
    }
    for layer in 0..config.n_layers {
        let mut push = |name: &str, shape| out.push((format!("blk.{layer}.{name}"), shape));
        if config.norms.are_before() {
            push("attn_norm.weight", [1, d_model]);
            push("ffn_norm.weight", [1, d_model]);
        }
        if config.norms.are_after() {
            push("post_attention_norm.weight", [1, d_model]);
            push("post_ffw_norm.weight", [1, d_model]);
        }
        push("attn_q.weight", [q_width, d_model]);
        push("attn_k.weight", [kv_width, d_model]);
        push("attn_v.weight", [kv_width, d_model]);
        push("attn_output.weight", [d_model, q_width]);
        if config.qkv_bias {
            push("attn_q.bias", [1, q_width]);
            push("attn_k.bias", [1, kv_width]);
            push("attn_v.bias", [1, kv_width]);
        }
        let of_heads = match config.qk_norm {
            QkNorm::None => None,
            QkNorm::EachHead => Some((head_dim, head_dim)),
            QkNorm::AllHeads => Some((q_width, kv_width)),
        };
        if let Some((of_query, of_key)) = of_heads {
            push("attn_q_norm.weight", [1, of_query]);
            push("attn_k_norm.weight", [1, of_key]);
        }
        push("ffn_gate.weight", [d_ff, d_model]);
        push("ffn_up.weight", [d_ff, d_model]);
        push("ffn_down.weight", [d_model, d_ff]);
    }
    out
}

/// Compares what a configuration demands with what a checkpoint has.
pub(super) fn check(
    path: &Path,
    config: &ModelConfig,
    source: &dyn TensorSource,
) -> Result<(), Error> {
    for (name, expected) in demands(config) {
        match source.tensor(&name) {
            None => {
                return Err(Error::MissingTensor {
                    path: path.into(),
                    name,
                });
            }
            Some(tensor) if tensor.shape != expected => {
                let got = tensor.shape;
                return Err(Error::TensorShape {
                    path: path.into(),
                    name,
                    expected,
                    got,
                });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Refuses sizes that no checkpoint has, before anything is multiplied or allocated.
pub(super) fn check_sizes(path: &Path, config: &ModelConfig) -> Result<(), Error> {
    let bounds = [
        ("layers", config.n_layers, 1024),
        ("query heads", config.n_heads, 1024),
        ("key/value heads", config.n_kv_heads, 1024),
        ("head width", config.head_dim, 1024),
        ("model width", config.d_model, 1 << 17),
        ("feed-forward width", config.d_ff, 1 << 20),
        ("vocabulary", config.n_vocab, 1 << 22),
        ("positions", config.max_positions, 1 << 27),
    ];
    let corrupt = |reason: String| {
        Err(Error::Corrupt {
            path: path.into(),
            reason,
        })
    };
    for (what, got, most) in bounds {
        if got == 0 || got > most {
            return corrupt(format!("{what}: {got}, expected 1 to {most}"));
        }
    }
    if !config.n_heads.is_multiple_of(config.n_kv_heads) {
        return corrupt(format!(
            "{} query heads cannot share {} key/value heads evenly",
            config.n_heads, config.n_kv_heads
        ));
    }
    if !config.head_dim.is_multiple_of(2) {
        return corrupt(format!("head width {} is odd", config.head_dim));
    }
    let rotated = config.rotated_dims;
    if rotated == 0 || rotated > config.head_dim || !rotated.is_multiple_of(2) {
        return corrupt(format!(
            "{rotated} of {} dimensions of a head are rotated",
            config.head_dim
        ));
    }
    if let RopeScaling::Divisors { divisors, .. } = &config.rope_scaling {
        let expected = rotated / 2;
        if divisors.len() != expected {
            let n = divisors.len();
            return corrupt(format!("{n} rope factors, expected {expected}"));
        }
        if let Some(divisor) = divisors.iter().find(|x| !is_above_zero(**x)) {
            return corrupt(format!("rope factor: {divisor}"));
        }
    }
    let other_theta = config.other_rotation.as_ref().and_then(|other| other.theta);
    let window = config.window.as_ref().map(|window| window.n_tokens as f32);
    let attention_factor = match &config.rope_scaling {
        RopeScaling::Divisors {
            attention_factor, ..
        } => Some(*attention_factor),
        _ => None,
    };
    for (what, value) in [
        ("rope theta", Some(config.rope_theta)),
        ("rope theta of some layers", other_theta),
        ("attention factor of the rotation", attention_factor),
        ("norm epsilon", Some(config.norm_eps)),
        ("embedding scale", Some(config.scales.embedding)),
        ("attention scale", config.scales.attention),
        ("residual scale", Some(config.scales.residual)),
        ("logit scale", Some(config.scales.logits)),
        ("soft cap of scores", config.soft_caps.scores),
        ("soft cap of logits", config.soft_caps.logits),
        ("sliding window", window),
    ] {
        if let Some(value) = value.filter(|x| !is_above_zero(*x)) {
            return corrupt(format!("{what}: {value}"));
        }
    }
    Ok(())
}

fn is_above_zero(x: f32) -> bool {
    x.is_finite() && x > 0.0
}
