use std::io::Cursor;

use candle_core::{
    Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{self, Value},
    },
};
use proptest::prelude::*;

use super::{
    super::{demands, rope_factors},
    *,
};
use crate::{
    config::{OtherRotation, RopeScaling, Scales, SlidingWindow, SoftCaps},
    template::{ChatTemplate, Message, Role, SLOT},
    tokenizer::{Tokenizer, continuing_tests::sentence_piece_json},
    weights::Checkpoint,
};

/// A whole small checkpoint, written by candle's writer.
fn small(architecture: &str, extra: &[(&str, Value)]) -> Vec<u8> {
    small_with(architecture, extra, &[])
}

/// The same with further tensors, all of them vectors.
fn small_with(architecture: &str, extra: &[(&str, Value)], vectors: &[(&str, &[f32])]) -> Vec<u8> {
    let key = |k: &str| format!("{architecture}.{k}");
    let mut metadata = vec![
        (
            "general.architecture".to_owned(),
            Value::String(architecture.into()),
        ),
        (key("block_count"), Value::U32(1)),
        (key("embedding_length"), Value::U32(32)),
        (key("feed_forward_length"), Value::U32(64)),
        (key("attention.head_count"), Value::U32(2)),
        (key("attention.head_count_kv"), Value::U32(1)),
        (key("attention.layer_norm_rms_epsilon"), Value::F32(1e-5)),
        (key("context_length"), Value::U32(128)),
        (
            "tokenizer.ggml.model".to_owned(),
            Value::String("gpt2".into()),
        ),
        (
            "tokenizer.ggml.tokens".to_owned(),
            Value::Array(
                ["a", "b", "ab", "<|im_start|>", "<|im_end|>"]
                    .map(|token| Value::String(token.into()))
                    .into(),
            ),
        ),
        (
            "tokenizer.ggml.token_type".to_owned(),
            Value::Array([1, 1, 1, 3, 3].map(Value::I32).into()),
        ),
        (
            "tokenizer.ggml.merges".to_owned(),
            Value::Array(vec![Value::String("a b".into())]),
        ),
        (
            "tokenizer.ggml.pre".to_owned(),
            Value::String("qwen2".into()),
        ),
        ("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(4)),
        ("tokenizer.ggml.add_bos_token".to_owned(), Value::Bool(true)),
        ("tokenizer.ggml.bos_token_id".to_owned(), Value::U32(3)),
        (
            "tokenizer.chat_template".to_owned(),
            Value::String("{% for m in messages %}{{ m.content }}{% endfor %}".into()),
        ),
    ];
    for (k, value) in extra {
        metadata.retain(|(present, _)| present != k);
        // An empty list takes a key away.
        if !matches!(value, Value::Array(elements) if elements.is_empty()) {
            metadata.push(((*k).to_owned(), value.clone()));
        }
    }
    let quantized = |rows: usize, columns: usize| {
        let values = Tensor::zeros((rows, columns), candle_core::DType::F32, &Device::Cpu).unwrap();
        QTensor::quantize(&values, GgmlDType::Q4_1).unwrap()
    };
    let plain = |n: usize| {
        let ones = Tensor::ones(n, candle_core::DType::F32, &Device::Cpu).unwrap();
        QTensor::quantize(&ones, GgmlDType::F32).unwrap()
    };
    let mut tensors = vec![
        ("token_embd.weight", quantized(10, 32)),
        ("output_norm.weight", plain(32)),
        ("blk.0.attn_norm.weight", plain(32)),
        ("blk.0.attn_q.weight", quantized(32, 32)),
        ("blk.0.attn_k.weight", quantized(16, 32)),
        ("blk.0.attn_v.weight", quantized(16, 32)),
        ("blk.0.attn_output.weight", quantized(32, 32)),
        ("blk.0.ffn_norm.weight", plain(32)),
        ("blk.0.ffn_gate.weight", quantized(64, 32)),
        ("blk.0.ffn_up.weight", quantized(64, 32)),
        ("blk.0.ffn_down.weight", quantized(32, 64)),
    ];
    for (name, numbers) in vectors {
        let tensor = Tensor::from_slice(numbers, numbers.len(), &Device::Cpu).unwrap();
        let tensor = QTensor::quantize(&tensor, GgmlDType::F32).unwrap();
        tensors.push((*name, tensor));
    }
    let metadata: Vec<_> = metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(k, t)| (*k, t)).collect();
    let mut file = Cursor::new(Vec::new());
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    file.into_inner()
}

fn open(bytes: &[u8]) -> Result<Gguf, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    Gguf::open(file.path())
}

#[test]
fn a_whole_file_opens() {
    let gguf = open(&small("llama", &[])).unwrap();
    let config = gguf.config();
    assert_eq!(
        (config.n_heads, config.n_kv_heads, config.head_dim),
        (2, 1, 16)
    );
    assert_eq!((config.n_vocab, config.d_ff), (10, 64));
    assert!(config.tied_embeddings && config.interleaved_rope_rows && !config.qkv_bias);
    let down = gguf.tensor("blk.0.ffn_down.weight").unwrap();
    assert_eq!((down.shape, down.encoding), ([32, 64], Encoding::Q4_1));
    assert_eq!(down.bytes.len(), 32 * 2 * 20);
    let norm = gguf.tensor("output_norm.weight").unwrap();
    assert_eq!(
        (norm.shape, norm.bytes),
        ([1, 32], [0, 0, 128, 63].repeat(32).as_slice())
    );
    assert!(gguf.tensor("output.weight").is_none());
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    assert_eq!(
        tokenizer.encode_template("aab<|im_end|>").unwrap(),
        [0, 2, 4]
    );
    assert_eq!(
        (tokenizer.bos(), tokenizer.stop_tokens()),
        (Some(3), &[4][..])
    );
    let template = ChatTemplate::from_gguf(&gguf, &tokenizer).unwrap();
    let parts = template.cut(&[Message::new(Role::User, SLOT)]).unwrap();
    assert_eq!(parts, ["<|im_start|>", ""]);
}

#[test]
fn what_the_decoder_lacks_is_named_with_what_it_has() {
    let says = |bytes: &[u8]| open(bytes).unwrap_err().to_string();
    let mamba = says(&small("mamba", &[]));
    assert!(
        mamba.contains("`mamba`") && mamba.contains("qwen3"),
        "{mamba}"
    );
    let yarn = says(&small(
        "qwen2",
        &[("qwen2.rope.scaling.type", Value::String("yarn".into()))],
    ));
    assert!(yarn.contains("yarn") && yarn.contains("llama3"), "{yarn}");
    let experts = says(&small("llama", &[("llama.expert_count", Value::U32(8))]));
    assert!(experts.contains("mixture"), "{experts}");
    let wide = says(&small(
        "llama",
        &[("llama.feed_forward_length", Value::U32(65))],
    ));
    assert!(wide.contains("ffn_gate") && wide.contains("65"), "{wide}");
    let layers = says(&small("llama", &[("llama.block_count", Value::U32(2))]));
    assert!(layers.contains("blk.1.attn_norm.weight"), "{layers}");
}

#[test]
fn a_factor_without_a_type_is_linear_as_llama_cpp_reads_it() {
    let reads = |entries: &[(&str, Value)]| {
        let opened = open(&small("llama", entries));
        opened
            .map(|gguf| gguf.config().rope_scaling.clone())
            .map_err(|error| error.to_string())
    };
    let factor = |x: f32| ("llama.rope.scaling.factor", Value::F32(x));
    let older = |x: f32| ("llama.rope.scale_linear", Value::F32(x));
    let kind = |of: &str| ("llama.rope.scaling.type", Value::String(of.into()));
    let linear = |factor| Ok(RopeScaling::Linear { factor });
    assert_eq!(reads(&[]), Ok(RopeScaling::None));
    assert_eq!(reads(&[factor(4.0)]), linear(4.0));
    assert_eq!(reads(&[older(8.0)]), linear(8.0));
    assert_eq!(reads(&[factor(4.0), older(8.0)]), linear(4.0));
    assert_eq!(reads(&[factor(4.0), kind("linear")]), linear(4.0));
    assert_eq!(reads(&[factor(4.0), kind("none")]), Ok(RopeScaling::None));
    assert_eq!(reads(&[factor(0.0)]), Ok(RopeScaling::None));
    for (entries, why) in [
        (vec![kind("linear")], "linear rope scaling by None"),
        (vec![factor(-1.0)], "-1"),
        (vec![factor(f32::NAN)], "NaN"),
        (vec![kind("yarn"), factor(4.0)], "yarn"),
        (vec![kind("longrope")], "longrope"),
        (vec![kind("")], "rope scaling ``"),
        (
            vec![("llama.rope.scaling.type", Value::U32(1))],
            "not a text",
        ),
        (
            vec![("llama.rope.scaling.factor", Value::U32(4))],
            "not a real",
        ),
        (
            vec![("llama.rope.scaling.attn_factor", Value::F32(1.5))],
            "attn_factor",
        ),
        (
            vec![("llama.rope.scaling.yarn_beta_fast", Value::F32(32.0))],
            "yarn_beta_fast",
        ),
    ] {
        let says = reads(&entries).unwrap_err();
        assert!(says.contains(why), "{says}");
    }
}

#[test]
fn multipliers_are_read_of_granite_and_of_no_other() {
    let scales = |entries: &[(&str, Value)]| {
        let opened = open(&small("granite", entries));
        opened.map(|gguf| gguf.config().scales)
    };
    let all = [
        ("granite.embedding_scale", Value::F32(12.0)),
        ("granite.residual_scale", Value::F32(0.22)),
        ("granite.attention.scale", Value::F32(0.015_625)),
        ("granite.logit_scale", Value::F32(8.0)),
    ];
    let granite = Scales {
        embedding: 12.0,
        attention: Some(0.015_625),
        residual: 0.22,
        logits: 0.125,
    };
    assert_eq!(scales(&all).unwrap(), granite);
    assert_eq!(scales(&[]).unwrap(), Scales::PLAIN);
    let none = [("granite.attention.scale", Value::F32(0.0))];
    assert_eq!(scales(&none).unwrap(), Scales::PLAIN);
    for (setting, named) in [
        (
            ("granite.residual_scale", Value::F32(-1.0)),
            "residual scale",
        ),
        (("granite.logit_scale", Value::F32(f32::NAN)), "logit scale"),
        (
            ("granite.rope.scaling.finetuned", Value::Bool(false)),
            "finetuned",
        ),
        (
            ("granite.attention.output_scale", Value::F32(2.0)),
            "output_scale",
        ),
    ] {
        let says = scales(&[setting]).unwrap_err().to_string();
        assert!(says.contains(named), "{says}");
    }
}

#[test]
fn gemmas_say_little_and_mean_what_llama_cpp_takes_them_to_mean() {
    let names = [
        "blk.0.post_attention_norm.weight",
        "blk.0.post_ffw_norm.weight",
    ];
    let heads = ["blk.0.attn_q_norm.weight", "blk.0.attn_k_norm.weight"];
    let (wide, narrow) = ([1.0f32; 32], [1.0f32; 16]);
    let of = |family: &str, entries: &[(&str, Value)]| {
        let mut vectors: Vec<(&str, &[f32])> = names.iter().map(|n| (*n, &wide[..])).collect();
        if family == "gemma3" {
            vectors.extend(heads.iter().map(|n| (*n, &narrow[..])));
        }
        let opened = open(&small_with(family, entries, &vectors));
        opened
            .map(|gguf| gguf.config().clone())
            .map_err(|error| error.to_string())
    };
    let second = of("gemma2", &[]).unwrap();
    let caps = SoftCaps {
        scores: Some(50.0),
        logits: Some(30.0),
    };
    assert_eq!((second.soft_caps, second.window), (caps, None));
    assert_eq!(second.scales, Scales::gemma(32, 16.0));
    assert!(!second.norms_less_one);
    let window = ("gemma3.attention.sliding_window", Value::U32(64));
    let third = of("gemma3", std::slice::from_ref(&window)).unwrap();
    assert_eq!(third.soft_caps, SoftCaps::default());
    let local = OtherRotation {
        layers: vec![0],
        theta: Some(10_000.0),
    };
    assert_eq!(
        (third.other_rotation, third.window.unwrap().layers),
        (Some(local), vec![0])
    );
    // A list says of each layer whether it has a window.
    let marks = |marks: &[bool]| {
        let marks = marks.iter().map(|has| Value::Bool(*has)).collect();
        let pattern = (
            "gemma3.attention.sliding_window_pattern",
            Value::Array(marks),
        );
        of("gemma3", &[window.clone(), pattern])
    };
    assert_eq!(marks(&[true]).unwrap().window.unwrap().layers, vec![0]);
    assert!(
        marks(&[true, false])
            .unwrap_err()
            .contains("sliding_window_pattern")
    );
    let cap = ("gemma3.final_logit_softcapping", Value::F32(30.0));
    assert!(
        of("gemma3", &[cap])
            .unwrap_err()
            .contains("final_logit_softcapping")
    );
    let key = ("gemma3.attention.key_length_swa", Value::U32(16));
    assert!(of("gemma3", &[key]).unwrap_err().contains("key_length_swa"));
}

#[test]
fn what_phi3_stores_as_one_is_cut_or_refused() {
    let count = |key: &'static str, n: u32| (key, Value::U32(n));
    // Parts of its matrices are read as such, too.
    let parts = open(&small("phi3", &[count("phi3.rope.dimension_count", 12)])).unwrap();
    assert_eq!(parts.config().rotated_dims, 12);
    let factors = ("rope_factors_short.weight", &[1.0f32, 2.0][..]);
    let original = count("phi3.rope.scaling.original_context_length", 64);
    let rotated = count("phi3.rope.dimension_count", 4);
    let entries = [original.clone(), rotated.clone()];
    let config = open(&small_with("phi3", &entries, &[factors])).unwrap();
    assert_eq!(config.config().max_positions, 64);
    let says = |entries: &[(&str, Value)], vectors: &[(&str, &[f32])]| {
        let opened = open(&small_with("phi3", entries, vectors));
        opened.unwrap_err().to_string()
    };
    assert!(says(std::slice::from_ref(&rotated), &[factors]).contains("orig_ctx_len"));
    assert!(says(&[original], &[factors]).contains("2 rope factors, expected 8"));
    let long = ("rope_factors_long.weight", &[1.0f32, 2.0][..]);
    assert!(says(&[rotated], &[long]).contains("rope_factors_long"));
    let whole = says(&[], &[("blk.0.attn_qkv.weight", &[0.0; 32])]);
    assert!(whole.contains("attn_qkv"), "{whole}");
    // Of others nothing is cut.
    let of_llama = small_with("llama", &[], &[("blk.0.attn_qkv.weight", &[0.0; 32])]);
    assert!(
        open(&of_llama)
            .unwrap_err()
            .to_string()
            .contains("attn_qkv")
    );
}

#[test]
fn a_tensor_of_divisors_beside_a_factor_is_refused() {
    let factor = [("llama.rope.scaling.factor", Value::F32(4.0))];
    let theta = [("llama.rope.freq_base", Value::F32(500_000.0))];
    let both = [factor[0].clone(), theta[0].clone()];
    let divisors = rope_factors::llama3_divisors(16, 500_000.0, 8.0, (1.0, 4.0), 8192);
    let open_with = |entries: &[(&str, Value)], divisors: &[f32]| {
        open(&small_with(
            "llama",
            entries,
            &[("rope_freqs.weight", divisors)],
        ))
        .map(|gguf| gguf.config().rope_scaling.clone())
        .map_err(|error| error.to_string())
    };
    let alone = open_with(&theta, &divisors).unwrap();
    assert!(matches!(alone, RopeScaling::Llama3 { factor: 8.0, .. }));
    let says = open_with(&both, &divisors).unwrap_err();
    assert!(
        says.contains("a factor beside `rope_freqs.weight`"),
        "{says}"
    );
    // Divisors that divide by nothing leave the factor.
    let linear = RopeScaling::Linear { factor: 4.0 };
    assert_eq!(open_with(&both, &[1.0; 8]), Ok(linear));
    assert!(open_with(&both, &[1.0; 4]).is_err());
}

#[test]
fn tensors_and_metadata_that_nobody_reads_are_refused() {
    let says = |bytes: &[u8]| open(bytes).unwrap_err().to_string();
    for (architecture, name) in [
        ("llama", "blk.0.attn_output.bias"),
        ("qwen2", "blk.0.ffn_down.bias"),
        ("llama", "blk.0.attn_q_norm.weight"),
        ("qwen2", "blk.0.attn_q_norm.weight"),
        ("llama", "blk.1.attn_q.weight"),
        ("llama", "rope_factors_short.weight"),
    ] {
        let refused = says(&small_with(architecture, &[], &[(name, &[1.0; 16])]));
        assert!(refused.contains(&format!("tensor `{name}`")), "{refused}");
    }
    let scaled = says(&small("llama", &[("llama.logit_scale", Value::F32(16.0))]));
    assert!(scaled.contains("`llama.logit_scale`"), "{scaled}");
    let window = ("qwen2.attention.sliding_window", Value::U32(127));
    assert!(says(&small("qwen2", &[window])).contains("window of 127"));
    let window = ("qwen2.attention.sliding_window", Value::U32(128));
    assert!(open(&small("qwen2", &[window])).is_ok());
    // Mistral's files are Llama's.
    let window = ("llama.attention.sliding_window", Value::U32(100));
    let mistral = open(&small("llama", &[window])).unwrap();
    let expected = SlidingWindow {
        n_tokens: 100,
        layers: vec![0],
    };
    assert_eq!(mistral.config().window, Some(expected));
    for all in [0, 128] {
        let window = ("llama.attention.sliding_window", Value::U32(all));
        assert_eq!(
            open(&small("llama", &[window])).unwrap().config().window,
            None
        );
    }
    // Qwen3 without its norms is no Qwen3.
    assert!(says(&small("qwen3", &[])).contains("attn_q_norm"));
    let harmless = [("blk.0.attn_rot_embd.weight", &[1.0; 8][..])];
    assert!(open(&small_with("llama", &[], &harmless)).is_ok());
}

/// A file of a vocabulary that only a `tokenizer.json` beside it can read, opened with these files
/// beside it.
fn beside(
    entries: &[(&str, Value)],
    files: &[(&str, &str)],
) -> Result<(tempfile::TempDir, Checkpoint, Tokenizer), Error> {
    let tokens = ["<unk>", "<s>", "</s>", "<|user|>", "<tag>", "▁", "a"];
    let tokens = tokens.map(|token| Value::String(token.into()));
    let mut metadata = vec![
        ("tokenizer.ggml.model", Value::String("llama".into())),
        ("tokenizer.ggml.pre", Value::String("default".into())),
        ("tokenizer.ggml.tokens", Value::Array(tokens.into())),
    ];
    let unsaid = ["bos_token_id", "eos_token_id", "add_bos_token"];
    let unsaid = unsaid.map(|key| format!("tokenizer.ggml.{key}"));
    metadata.extend(
        unsaid
            .iter()
            .map(|key| (key.as_str(), Value::Array(Vec::new()))),
    );
    metadata.extend(entries.iter().cloned());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, small("llama", &metadata)).unwrap();
    for (name, contents) in files {
        std::fs::write(folder.path().join(name), contents).unwrap();
    }
    let checkpoint = Checkpoint::open(&path)?;
    let tokenizer = checkpoint.tokenizer()?;
    Ok((folder, checkpoint, tokenizer))
}

#[test]
fn a_tokenizer_beside_a_file_leaves_what_the_file_says_of_beginnings_and_ends() {
    let json = sentence_piece_json("prepend", &[]);
    let json = ("tokenizer.json", json.as_str());
    let said = [
        ("tokenizer.ggml.bos_token_id", Value::U32(3)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
        ("tokenizer.ggml.eot_token_id", Value::U32(4)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
    ];
    let (_folder, checkpoint, tokenizer) = beside(&said, &[json]).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(3), Some(2)));
    assert_eq!(tokenizer.stop_tokens(), [2, 4]);
    assert!(tokenizer.wants_bos());
    let template = checkpoint.template(&tokenizer).unwrap();
    let prompt = template
        .render(&[Message::new(Role::User, "a")], true)
        .unwrap();
    assert_eq!(prompt, "<|user|>a");

    // Files beside it change what they name, and no more.
    let config = (
        "tokenizer_config.json",
        r#"{"add_bos_token": false, "eos_token": "<tag>"}"#,
    );
    let generation = ("generation_config.json", r#"{"eos_token_id": 1}"#);
    let (.., changed) = beside(&said, &[json, config, generation]).unwrap();
    assert_eq!((changed.bos(), changed.eos()), (Some(3), Some(4)));
    assert_eq!(changed.stop_tokens(), [1, 2, 4]);
    assert!(!changed.wants_bos());
    assert_ne!(changed.digest(), tokenizer.digest());

    // What neither says is as llama.cpp takes it for such a vocabulary.
    let (.., silent) = beside(&[], &[json]).unwrap();
    assert_eq!((silent.bos(), silent.eos()), (Some(1), Some(2)));
    assert!(silent.wants_bos());

    let unknown = ("tokenizer_config.json", r#"{"bos_token": "<none>"}"#);
    let says = beside(&[], &[json, unknown]).unwrap_err().to_string();
    assert!(says.contains("`<none>`"), "{says}");
}

#[test]
fn a_tokenizer_of_another_vocabulary_beside_a_file_is_refused() {
    let json = sentence_piece_json("prepend", &[]);
    let other = json.replace("</s>", "</x>");
    let says = beside(&[], &[("tokenizer.json", &other)])
        .unwrap_err()
        .to_string();
    assert!(
        says.contains("token 2 is `</x>` here, `</s>` there"),
        "{says}"
    );
}

#[test]
fn an_unknown_encoding_is_named_with_its_tensor() {
    let mut bytes = small("llama", &[]);
    let name = b"blk.0.attn_k.weight";
    let at = bytes.windows(name.len()).position(|w| w == name).unwrap() + name.len();
    // After the name: the number of dimensions, two sizes, the encoding.
    bytes[at + 4 + 16..at + 4 + 16 + 4].copy_from_slice(&39u32.to_le_bytes());
    let says = open(&bytes).unwrap_err().to_string();
    assert!(
        says.contains("blk.0.attn_k.weight") && says.contains("MXFP4"),
        "{says}"
    );
}

#[test]
fn a_file_cut_short_says_so() {
    let bytes = small("qwen2", &[]);
    let says = open(&bytes[..bytes.len() - 100]).unwrap_err().to_string();
    assert!(says.contains("fetched whole"), "{says}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// Whatever happens to a file, opening it ends in an answer, and what opens can be
    /// read to its last byte.
    #[test]
    fn damaged_files_never_panic(
        cut in proptest::option::of(0.0..1.0f64),
        flips in proptest::collection::vec((0.0..1.0f64, any::<u8>()), 0..12),
        in_head in any::<bool>(),
    ) {
        let mut bytes = small("llama", &[]);
        // Three quarters of the file are tensor data, where no flip can be noticed.
        let reach = if in_head { bytes.len() / 4 } else { bytes.len() };
        for (place, value) in flips {
            bytes[(place * reach as f64) as usize] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate((cut * bytes.len() as f64) as usize);
        }
        if let Ok(gguf) = open(&bytes) {
            for (name, shape) in demands(gguf.config()) {
                let tensor = gguf.tensor(&name).unwrap();
                prop_assert_eq!(tensor.shape, shape);
                prop_assert_eq!(tensor.encoding.bytes_of(shape), Some(tensor.bytes.len()));
            }
            let _ = Tokenizer::from_gguf(&gguf).and_then(|tokenizer| {
                tokenizer.encode_template("ab<|im_end|>")?;
                let template = ChatTemplate::from_gguf(&gguf, &tokenizer)?;
                template.cut(&[Message::new(Role::User, SLOT)])
            });
        }
    }
}
