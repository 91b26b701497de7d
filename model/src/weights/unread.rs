//! What does a checkpoint ask for that the decoder does not do?
//!
//! A tensor that nobody reads, or a switch that nobody obeys, would give answers that are wrong and
//! do not say so. So everything in a checkpoint that concerns the decoder is on one of the lists of
//! this file (read, known not to matter, or of one value that changes nothing), or it is refused by
//! name.
//!
//! What is not looked at: metadata of a GGUF outside its architecture's prefix (`general.*`,
//! `tokenizer.*`), which say nothing of the decoder, and names in a `config.json` that are switched
//! off (`false` or `null`).

use std::{collections::HashSet, path::Path};

use serde_json::Value as Json;

use super::{demands, family::Family, gguf_value::Value};
use crate::{
    config::{ModelConfig, RopeScaling},
    error::Error,
};

/// What an error says could have been there.
const SUPPORTED: &str = "what plain decoders of this kind have";

/// Keys of a GGUF under its architecture's prefix that are read where the configuration is.
const GGUF_READ: [&str; 16] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.factor",
    "rope.scaling.type",
];
/// Keys that change no arithmetic. There are no experts, no norm but RMS, and no scaling that knows
/// of an original context.
const GGUF_HARMLESS: [&str; 7] = [
    "attention.layer_norm_epsilon",
    "expert_used_count",
    "rope.scaling.finetuned",
    "rope.scaling.orig_ctx_len",
    "rope.scaling.original_context_length",
    // Names the order of rows that all files of the architecture have.
    "tensor_data_layout",
    "vocab_size",
];
/// Scales and caps that llama.cpp's files may have, each with the value that changes nothing.
const GGUF_NEUTRAL: [(&str, f64); 8] = [
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("attn_logit_softcapping", 0.0),
    ("embedding_scale", 1.0),
    ("final_logit_softcapping", 0.0),
    ("logit_scale", 1.0),
    ("residual_scale", 1.0),
    ("rope.scaling.attn_factor", 1.0),
];
/// Switches, each with the position that the decoder has.
const GGUF_SWITCHES: [(&str, bool); 2] =
    [("attention.causal", true), ("use_parallel_residual", false)];

/// Names of a `config.json` that are read where the configuration is.
const HUB_READ: [&str; 26] = [
    "attention_bias",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_types",
    "max_position_embeddings",
    // Which layers a window would concern.
    "max_window_layers",
    "mlp_bias",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "quantization_config",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "tie_word_embeddings",
    "use_sliding_window",
    "vocab_size",
    // Read with the tokenizer.
    "bos_token_id",
    "eos_token_id",
];
/// Names that change no arithmetic: of training, of sampling, of heads that are no decoder's, and what
/// programs write of themselves.
const HUB_HARMLESS: [&str; 58] = [
    "architectures",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "bad_words_ids",
    "begin_suppress_tokens",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "hidden_dropout",
    "hidden_dropout_prob",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "is_llama_config",
    "label2id",
    "length_penalty",
    "max_length",
    "max_sequence_length",
    "min_length",
    "model_max_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "prefix",
    // Splits products for the sake of training; their sums are the same.
    "pretraining_tp",
    "problem_type",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "use_bfloat16",
    "use_cache",
];
/// Numbers, each with the value that changes nothing.
const HUB_NEUTRAL: [(&str, f64); 2] = [("full_attn_mod", 1.0), ("interpolate_factor", 1.0)];
/// Beginnings of names that programs write of themselves.
const HUB_HARMLESS_BEGINNINGS: [&str; 2] = ["_", "unsloth_"];

/// Refuses metadata under the prefix of a family that the decoder does not obey.
pub(super) fn check_metadata<'a>(
    path: &Path,
    family: &Family,
    metadata: impl Iterator<Item = (&'a String, &'a Value)>,
) -> Result<(), Error> {
    let mut refused: Vec<(&str, String, String)> = Vec::new();
    for (full, value) in metadata {
        let key = full.strip_prefix(family.gguf);
        let Some(key) = key.and_then(|rest| rest.strip_prefix('.')) else {
            continue;
        };
        if family.gguf_settings.contains(&key) {
            continue;
        }
        let supported = match allowed_metadata(key, value) {
            Ok(()) => continue,
            Err(supported) => supported,
        };
        refused.push((full, shown(value), supported));
    }
    // The first by name: whoever reads the same file twice hears the same.
    refused.sort_unstable();
    match refused.into_iter().next() {
        None => Ok(()),
        Some((key, got, supported)) => Err(Error::Unsupported {
            path: path.into(),
            what: format!("setting `{key}` of"),
            got,
            supported,
        }),
    }
}

/// Whether a key may have this value; else what it may have.
fn allowed_metadata(key: &str, value: &Value) -> Result<(), String> {
    if GGUF_READ.contains(&key) || GGUF_HARMLESS.contains(&key) {
        return Ok(());
    }
    if let Some((_, neutral)) = GGUF_NEUTRAL.iter().find(|(known, _)| *known == key) {
        return match value.real() == Some(*neutral) {
            true => Ok(()),
            false => Err(neutral.to_string()),
        };
    }
    match GGUF_SWITCHES.iter().find(|(known, _)| *known == key) {
        Some((_, only)) if value.truth() == Some(*only) => Ok(()),
        Some((_, only)) => Err(only.to_string()),
        None => Err(SUPPORTED.to_owned()),
    }
}

/// A value for an error: a list by its length.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(elements) => format!("a list of {}", elements.len()),
        Value::String(text) => text.chars().take(80).collect(),
        Value::Bool(truth) => truth.to_string(),
        number => number.real().map_or_else(String::new, |x| x.to_string()),
    }
}

/// Refuses names of a `config.json` that the decoder does not obey.
pub(super) fn check_settings(path: &Path, family: &Family, json: &Json) -> Result<(), Error> {
    let entries = json.as_object().into_iter().flatten();
    for (name, value) in entries {
        let is_off = value.is_null() || *value == Json::Bool(false);
        let lists = [&HUB_READ[..], &HUB_HARMLESS, family.hub_settings];
        let is_known = lists.iter().any(|list| list.contains(&name.as_str()));
        let mut beginnings = HUB_HARMLESS_BEGINNINGS.iter();
        let mut neutral = HUB_NEUTRAL.iter();
        let is_neutral =
            neutral.any(|(known, only)| known == name && value.as_f64() == Some(*only));
        if is_off
            || is_known
            || is_neutral
            || beginnings.any(|beginning| name.starts_with(beginning))
        {
            continue;
        }
        return Err(Error::Unsupported {
            path: path.into(),
            what: format!("setting `{name}` of"),
            got: value.to_string().chars().take(80).collect(),
            supported: SUPPORTED.to_owned(),
        });
    }
    Ok(())
}

/// Refuses a tensor that the decoder does not read. `names` are GGUF's, where it has one.
pub(super) fn check_tensors<'a>(
    path: &Path,
    config: &ModelConfig,
    names: impl Iterator<Item = &'a String>,
) -> Result<(), Error> {
    let read: HashSet<String> = demands(config).into_iter().map(|(name, _)| name).collect();
    let has_factors = matches!(config.rope_scaling, RopeScaling::Divisors { .. });
    let is_factor = |name: &str| has_factors && ROPE_FACTORS.contains(&name);
    let is_known = |name: &str| read.contains(name) || is_harmless(name) || is_factor(name);
    let unread = names.filter(|name| !is_known(name));
    match unread.min() {
        None => Ok(()),
        Some(name) => Err(Error::Unsupported {
            path: path.into(),
            what: "tensor".to_owned(),
            got: name.clone(),
            supported: SUPPORTED.to_owned(),
        }),
    }
}

/// Divisors of frequencies; those of long contexts are not read, and the context is capped.
const ROPE_FACTORS: [&str; 2] = ["rope_factors_long.weight", "rope_factors_short.weight"];

/// Tables of rotary frequencies, which are computed from the configuration. `rope_freqs.weight` is
/// read, with the configuration.
fn is_harmless(name: &str) -> bool {
    name == "rope_freqs.weight"
        || name.ends_with(".rotary_emb.inv_freq")
        || (name.starts_with("blk.") && name.ends_with(".attn_rot_embd.weight"))
}

#[cfg(test)]
mod tests {
    use super::super::family;
    use super::*;
    use crate::seeded::tiny_config;

    #[test]
    fn lists_name_each_setting_once() {
        let gguf = GGUF_READ.iter().chain(&GGUF_HARMLESS).copied();
        let gguf = gguf.chain(GGUF_NEUTRAL.iter().map(|(key, _)| *key));
        let gguf: Vec<&str> = gguf
            .chain(GGUF_SWITCHES.iter().map(|(key, _)| *key))
            .collect();
        let hub = HUB_READ.iter().chain(&HUB_HARMLESS).copied();
        let hub: Vec<&str> = hub.chain(HUB_NEUTRAL.iter().map(|(key, _)| *key)).collect();
        for all in [gguf, hub] {
            let distinct: HashSet<&str> = all.iter().copied().collect();
            assert_eq!(distinct.len(), all.len());
        }
    }

    #[test]
    fn a_tensor_that_nobody_reads_is_refused_by_name() {
        let config = tiny_config();
        let check = |extra: &[&str]| {
            let demanded = demands(&config).into_iter().map(|(name, _)| name);
            let names: Vec<String> = demanded.chain(extra.iter().map(|n| (*n).into())).collect();
            check_tensors(Path::new("m"), &config, names.iter()).map_err(|e| e.to_string())
        };
        let harmless = ["rope_freqs.weight", "blk.0.attn_rot_embd.weight"];
        assert_eq!(check(&harmless), Ok(()));
        for unread in [
            "blk.0.attn_output.bias",
            "blk.1.ffn_up.bias",
            "blk.0.attn_q.bias",
            "blk.1.attn_k_norm.weight",
            "blk.0.post_attention_norm.weight",
            "blk.2.attn_q.weight",
            "blk.0.attn_sinks.weight",
            "output.bias",
            "rope_factors_long.weight",
            "model.layers.0.self_attn.q_proj.lora_A.weight",
        ] {
            let says = check(&[unread]).unwrap_err();
            assert!(says.contains(&format!("tensor `{unread}`")), "{says}");
        }
    }

    #[test]
    fn metadata_that_nobody_obeys_is_refused_by_name() {
        let check = |key: &str, value: Value| {
            let metadata = [(format!("llama.{key}"), value)];
            let entries = metadata.iter().map(|(key, value)| (key, value));
            let llama = family::of_gguf("llama").unwrap();
            check_metadata(Path::new("m"), llama, entries).map_err(|e| e.to_string())
        };
        for (key, neutral, other) in [
            ("attention.causal", Value::Bool(true), Value::Bool(false)),
            (
                "use_parallel_residual",
                Value::Bool(false),
                Value::Bool(true),
            ),
            ("logit_scale", Value::F32(1.0), Value::F32(0.5)),
            ("residual_scale", Value::F32(1.0), Value::F32(0.22)),
            ("embedding_scale", Value::F64(1.0), Value::F64(12.0)),
            ("final_logit_softcapping", Value::F32(0.0), Value::F32(30.0)),
            ("attn_logit_softcapping", Value::F32(0.0), Value::F32(50.0)),
            ("rope.scaling.attn_factor", Value::F32(1.0), Value::F32(1.2)),
        ] {
            assert_eq!(check(key, neutral), Ok(()), "{key}");
            let says = check(key, other).unwrap_err();
            assert!(says.contains(&format!("`llama.{key}`")), "{says}");
        }
        for unknown in [
            "attention.scale",
            "rope.scaling.yarn_ext_factor",
            "anything",
        ] {
            let says = check(unknown, Value::F32(1.0)).unwrap_err();
            assert!(says.contains(&format!("`llama.{unknown}`")), "{says}");
        }
        assert_eq!(check("vocab_size", Value::U32(7)), Ok(()));
        let metadata = [("llama2.anything".to_owned(), Value::U32(7))];
        let entries = metadata.iter().map(|(key, value)| (key, value));
        let llama = family::of_gguf("llama").unwrap();
        assert!(check_metadata(Path::new("m"), llama, entries).is_ok());
    }
}
