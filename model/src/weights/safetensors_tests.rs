use safetensors::tensor::TensorView;

use super::*;
use crate::config::{Architecture, RopeScaling, Scales, SlidingWindow};

const WIDTH: usize = 8;

/// A whole folder: one layer, two heads sharing one key/value head, BF16.
fn folder(config: &str, split: bool) -> tempfile::TempDir {
    folder_with(config, split, &[])
}

/// The same with further vectors.
fn folder_with(config: &str, split: bool, extra: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![10, WIDTH]),
        ("model.norm.weight".to_owned(), vec![WIDTH]),
        (layer("input_layernorm"), vec![WIDTH]),
        (layer("self_attn.q_proj"), vec![WIDTH, WIDTH]),
        (layer("self_attn.k_proj"), vec![4, WIDTH]),
        (layer("self_attn.v_proj"), vec![4, WIDTH]),
        (layer("self_attn.o_proj"), vec![WIDTH, WIDTH]),
        (layer("post_attention_layernorm"), vec![WIDTH]),
        (layer("mlp.gate_proj"), vec![16, WIDTH]),
        (layer("mlp.up_proj"), vec![16, WIDTH]),
        (layer("mlp.down_proj"), vec![WIDTH, 16]),
        (
            "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(),
            vec![2],
        ),
    ];
    shapes.extend(extra.iter().map(|name| ((*name).to_owned(), vec![WIDTH])));
    let zeros = vec![0u8; 2 * 16 * WIDTH];
    let views: Vec<(String, TensorView<'_>)> = shapes
        .iter()
        .map(|(name, shape)| {
            let n_bytes = 2 * shape.iter().product::<usize>();
            let view = TensorView::new(Dtype::BF16, shape.clone(), &zeros[..n_bytes]).unwrap();
            (name.clone(), view)
        })
        .collect();
    let write = |name: &str, views: &[(String, TensorView<'_>)]| {
        let views = views
            .iter()
            .map(|(name, view)| (name.as_str(), view.clone()));
        let bytes = safetensors::serialize(views, None).unwrap();
        std::fs::write(folder.path().join(name), bytes).unwrap();
    };
    if split {
        write("a.safetensors", &views[..5]);
        write("b.safetensors", &views[5..]);
        let map: HashMap<&str, &str> = views
            .iter()
            .enumerate()
            .map(|(i, (name, _))| {
                (
                    name.as_str(),
                    if i < 5 {
                        "a.safetensors"
                    } else {
                        "b.safetensors"
                    },
                )
            })
            .collect();
        let index = serde_json::json!({ "weight_map": map });
        std::fs::write(folder.path().join(INDEX), index.to_string()).unwrap();
    } else {
        write(SINGLE, &views);
    }
    folder
}

const CONFIG: &str = r#"{
    "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16,
    "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 10, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64, "rope_theta": 500000.0, "tie_word_embeddings": true,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
}"#;

#[test]
fn whole_and_split_folders_open_under_gguf_names() {
    for split in [false, true] {
        let folder = folder(CONFIG, split);
        let opened = SafetensorsFolder::open(folder.path()).unwrap();
        let config = opened.config();
        assert_eq!(config.architecture, Architecture::Llama);
        assert_eq!((config.head_dim, config.n_kv_heads), (4, 1));
        assert!(!config.interleaved_rope_rows && config.tied_embeddings);
        assert!(matches!(
            config.rope_scaling,
            RopeScaling::Llama3 { factor: 8.0, .. }
        ));
        let up = opened.tensor("blk.0.ffn_up.weight").unwrap();
        assert_eq!(
            (up.shape, up.encoding, up.bytes.len()),
            ([16, 8], Encoding::BF16, 256)
        );
        assert_eq!(opened.files().count(), if split { 2 } else { 1 });
    }
}

#[test]
fn what_is_missing_or_foreign_is_named() {
    let says = |config: &str| {
        let folder = folder(config, false);
        SafetensorsFolder::open(folder.path())
            .unwrap_err()
            .to_string()
    };
    let untied = says(&CONFIG.replace("\"tie_word_embeddings\": true", "\"a\": null"));
    assert!(untied.contains("`output.weight` is missing"), "{untied}");
    let layers = says(&CONFIG.replace("\"num_hidden_layers\": 1", "\"num_hidden_layers\": 2"));
    assert!(layers.contains("blk.1"), "{layers}");
    let other = says(&CONFIG.replace("\"llama\"", "\"gpt_neox\""));
    assert!(
        other.contains("gpt_neox") && other.contains("qwen3"),
        "{other}"
    );
    let cut = says(&CONFIG[..40]);
    assert!(cut.contains("config.json"), "{cut}");
}

/// What opening says of a configuration where this was put for that.
fn said(replace: &str, with: &str) -> Result<ModelConfig, String> {
    assert!(CONFIG.contains(replace), "{replace}");
    let folder = folder(&CONFIG.replace(replace, with), false);
    let opened = SafetensorsFolder::open(folder.path());
    opened
        .map(|opened| opened.config().clone())
        .map_err(|error| error.to_string())
}

#[test]
fn rotations_are_read_by_all_their_names_or_refused() {
    const OLDER: &str = r#""rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}"#;
    let reads = |with: &str| said(OLDER, with).map(|config| config.rope_scaling);
    let linear = Ok(RopeScaling::Linear { factor: 2.0 });
    for named in [
        r#""rope_scaling": {"type": "linear", "factor": 2.0}"#,
        r#""rope_scaling": {"rope_type": "linear", "type": "linear", "factor": 2}"#,
        r#""rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500000.0}"#,
        r#""rope_scaling": null, "rope_parameters": {"rope_type": "linear", "factor": 2.0}"#,
    ] {
        assert_eq!(reads(named), linear, "{named}");
    }
    assert_eq!(reads(r#""rope_scaling": null"#), Ok(RopeScaling::None));
    assert_eq!(
        reads(r#""rope_parameters": {"rope_type": "default", "partial_rotary_factor": 1.0}"#),
        Ok(RopeScaling::None)
    );
    for (named, why) in [
        (r#""rope_scaling": {"factor": 2.0}"#, "`factor`"),
        (r#""rope_scaling": {"type": "linear"}"#, "without `factor`"),
        (r#""rope_scaling": {"type": 3, "factor": 2.0}"#, "type 3"),
        (
            r#""rope_scaling": {"rope_type": "default", "type": "linear"}"#,
            "both types",
        ),
        (r#""rope_scaling": {"type": "yarn", "factor": 2.0}"#, "yarn"),
        (
            r#""rope_scaling": {"type": "dynamic", "factor": 2.0}"#,
            "dynamic",
        ),
        (r#""rope_scaling": {"rope_type": "longrope"}"#, "longrope"),
        (
            r#""rope_scaling": {"type": "linear", "factor": 2.0, "attention_factor": 1.1}"#,
            "attention_factor",
        ),
        (r#""rope_scaling": "linear""#, "rope scaling is"),
        (
            r#""rope_scaling": {"type": "linear", "factor": 2.0},
               "rope_parameters": {"rope_type": "default"}"#,
            "different things",
        ),
        (
            r#""rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}"#,
            "rope_theta",
        ),
        (
            r#""rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}"#,
            "0.5",
        ),
        (
            r#""rope_parameters": {"full_attention": {"rope_type": "default"}}"#,
            "full_attention",
        ),
        (r#""partial_rotary_factor": 0.25"#, "0.25"),
    ] {
        let says = reads(named).unwrap_err();
        assert!(says.contains(why), "{named}: {says}");
    }
    let newer =
        r#""rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 70000.0}"#;
    let config = CONFIG
        .replace("\"rope_theta\": 500000.0, ", "")
        .replace(OLDER, newer);
    let folder = folder(&config, false);
    let opened = SafetensorsFolder::open(folder.path()).unwrap();
    assert_eq!(opened.config().rope_theta, 70_000.0);
    assert!(
        said("500000.0", "\"high\"")
            .unwrap_err()
            .contains("rope_theta")
    );
    assert!(said("\"low_freq_factor\": 1.0", "\"low_freq_factor\": 4.0").is_err());
}

#[test]
fn settings_that_nobody_obeys_are_refused_by_name() {
    const TIED: &str = "\"tie_word_embeddings\": true";
    let with = |setting: &str| said(TIED, &format!("{TIED}, {setting}")).map(|_| ());
    for setting in [
        r#""hidden_act": "silu""#,
        r#""attention_bias": false, "mlp_bias": false"#,
        r#""partial_rotary_factor": 1.0"#,
        r#""final_logit_softcapping": null"#,
        r#""use_cache": true, "torch_dtype": "bfloat16", "_name_or_path": "x""#,
        r#""sliding_window": null, "layer_types": ["full_attention"]"#,
        r#""sliding_window": 64"#,
    ] {
        assert_eq!(with(setting), Ok(()), "{setting}");
    }
    for (setting, named) in [
        (r#""hidden_act": "gelu""#, "gelu"),
        (r#""attention_bias": true"#, "attention_bias"),
        (r#""mlp_bias": true"#, "biases"),
        (
            r#""final_logit_softcapping": 30.0"#,
            "`final_logit_softcapping`",
        ),
        (r#""logits_scaling": 8.0"#, "`logits_scaling`"),
        (r#""attention_multiplier": 0.1"#, "`attention_multiplier`"),
        (r#""residual_multiplier": 0.2"#, "`residual_multiplier`"),
        (r#""embedding_multiplier": 12.0"#, "`embedding_multiplier`"),
        (
            r#""auto_map": {"AutoModelForCausalLM": "m.M"}"#,
            "`auto_map`",
        ),
        (r#""quantization": {"bits": 4}"#, "`quantization`"),
        (r#""sliding_window": 63"#, "sliding window"),
        (
            r#""layer_types": ["sliding_attention"], "sliding_window": 32"#,
            "sliding window",
        ),
        (r#""layer_types": ["linear_attention"]"#, "sliding window"),
    ] {
        let says = with(setting).unwrap_err();
        assert!(says.contains(named), "{setting}: {says}");
    }
    assert!(
        said("true", "1")
            .unwrap_err()
            .contains("tie_word_embeddings")
    );
    let qwen = |setting: &str| said("\"llama\"", &format!("\"qwen2\", {setting}")).map(|_| ());
    assert_eq!(
        qwen(r#""use_sliding_window": false, "sliding_window": 32"#),
        Ok(())
    );
    assert!(qwen(r#""use_sliding_window": true, "sliding_window": 32"#).is_err());
    assert!(qwen(r#""use_sliding_window": true"#).is_err());
}

#[test]
fn multipliers_are_read_of_granite_alone() {
    let granite = |setting: &str| said("\"llama\"", &format!("\"granite\"{setting}"));
    let scales = Scales {
        embedding: 12.0,
        attention: Some(0.0625),
        residual: 0.22,
        logits: 0.125,
    };
    let all = r#", "embedding_multiplier": 12.0, "attention_multiplier": 0.0625,
        "residual_multiplier": 0.22, "logits_scaling": 8.0"#;
    assert_eq!(granite(all).unwrap().scales, scales);
    // What the library takes where nothing is said: scores as they are.
    let unsaid = Scales {
        attention: Some(1.0),
        ..Scales::PLAIN
    };
    assert_eq!(granite("").unwrap().scales, unsaid);
    for (setting, named) in [
        (r#", "residual_multiplier": 0"#, "residual scale"),
        (r#", "logits_scaling": -2.0"#, "logit scale"),
        (
            r#", "attention_multiplier": "high""#,
            "attention_multiplier",
        ),
        (
            r#", "final_logit_softcapping": 30.0"#,
            "final_logit_softcapping",
        ),
    ] {
        let says = granite(setting).unwrap_err();
        assert!(says.contains(named), "{says}");
    }
}

#[test]
fn rotations_in_part_and_factors_are_read_of_phi3_alone() {
    const OLDER: &str = r#""rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}"#;
    let phi3 = |setting: &str| {
        let config = CONFIG
            .replace("\"llama\"", "\"phi3\"")
            .replace(OLDER, setting);
        let folder = folder(&config, false);
        let opened = SafetensorsFolder::open(folder.path());
        opened
            .map(|opened| opened.config().clone())
            .map_err(|error| error.to_string())
    };
    let half = phi3(r#""partial_rotary_factor": 0.5"#).unwrap();
    assert_eq!((half.head_dim, half.rotated_dims), (4, 2));
    const SHORT: &str = r#""rope_scaling": {"type": "longrope", "short_factor": [1.0, 2.0],
        "long_factor": [3.0, 4.0]}"#;
    let long = phi3(&format!(
        r#"{SHORT}, "original_max_position_embeddings": 16"#
    ))
    .unwrap();
    assert_eq!((long.max_positions, long.trained_positions), (16, 64));
    let scaling = RopeScaling::Divisors {
        divisors: vec![1.0, 2.0],
        attention_factor: 1.5f32.sqrt(),
    };
    assert_eq!(long.rope_scaling, scaling);
    let short = phi3(&format!(
        r#"{SHORT}, "original_max_position_embeddings": 64"#
    ))
    .unwrap();
    assert_eq!(short.notice("m"), None);
    for (setting, named) in [
        (SHORT.to_owned(), "original_max_position_embeddings"),
        (
            SHORT.replace("[1.0, 2.0]", "[1.0]") + r#", "original_max_position_embeddings": 16"#,
            "1 rope factors, expected 2",
        ),
        (
            SHORT.replace("[1.0, 2.0]", "[0.0, 2.0]")
                + r#", "original_max_position_embeddings": 16"#,
            "rope factor: 0",
        ),
        (
            SHORT.replace("[1.0, 2.0]", "\"short\"")
                + r#", "original_max_position_embeddings": 16"#,
            "short_factor",
        ),
        (
            SHORT.replace("\"type\"", "\"short_mscale\": 1.1, \"type\"")
                + r#", "original_max_position_embeddings": 16"#,
            "short_mscale",
        ),
        (r#""partial_rotary_factor": 1.5"#.to_owned(), "1.5"),
        (r#""partial_rotary_factor": 0.25"#.to_owned(), "1 of 4"),
        (r#""full_attn_mod": 2"#.to_owned(), "`full_attn_mod`"),
    ] {
        let says = phi3(&setting).unwrap_err();
        assert!(says.contains(named), "{setting}: {says}");
    }
}

#[test]
fn windows_are_read_of_mistral_and_refused_of_llama() {
    let mistral = |setting: &str| {
        let config = said("\"llama\"", &format!("\"mistral\"{setting}"));
        config.map(|config| config.window)
    };
    let window = SlidingWindow {
        n_tokens: 32,
        layers: vec![0],
    };
    assert_eq!(mistral(r#", "sliding_window": 32"#), Ok(Some(window)));
    for all in [
        "",
        r#", "sliding_window": null"#,
        r#", "sliding_window": 64"#,
        r#", "sliding_window": 32, "layer_types": ["full_attention"]"#,
    ] {
        assert_eq!(mistral(all), Ok(None), "{all}");
    }
    for (setting, named) in [
        (r#", "sliding_window": 0"#, "sliding window: 0"),
        (r#", "sliding_window": "far""#, "sliding_window"),
        (
            r#", "layer_types": ["sliding_attention"]"#,
            "sliding window",
        ),
        (r#", "layer_types": []"#, "layer_types"),
    ] {
        let says = mistral(setting).unwrap_err();
        assert!(says.contains(named), "{says}");
    }
}

#[test]
fn gemma_is_tied_and_has_its_own_names() {
    const OLDER: &str = r#""rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}"#;
    let of = |family: &str, setting: &str| {
        let config = CONFIG
            .replace("\"llama\"", &format!("\"{family}\""))
            .replace("\"tie_word_embeddings\": true,", "\"sliding_window\": 16,")
            .replace(OLDER, setting);
        let folder = folder_with(
            &config,
            false,
            &[
                "model.layers.0.pre_feedforward_layernorm.weight",
                "model.layers.0.post_feedforward_layernorm.weight",
            ],
        );
        let opened = SafetensorsFolder::open(folder.path());
        opened
            .map(|opened| opened.config().clone())
            .map_err(|error| error.to_string())
    };
    let gemma = of("gemma2", r#""attn_logit_softcapping": 50.0"#).unwrap();
    assert!(gemma.tied_embeddings && gemma.norms_less_one);
    assert_eq!(gemma.scales, Scales::gemma(8, 256.0));
    assert_eq!(
        (gemma.soft_caps.scores, gemma.soft_caps.logits),
        (Some(50.0), None)
    );
    assert_eq!(gemma.window.map(|window| window.layers), Some(vec![0]));
    for (setting, named) in [
        (r#""hidden_activation": "gelu""#, "`gelu`"),
        (r#""hidden_act": "silu""#, "`silu`"),
        (r#""attn_logit_softcapping": 0.0"#, "soft cap of scores"),
        (r#""sliding_window_pattern": 0"#, "sliding_window_pattern"),
        (r#""query_pre_attn_scalar": -1"#, "attention scale"),
        (
            r#""use_bidirectional_attention": true"#,
            "use_bidirectional_attention",
        ),
        (r#""per_layer_inputs": 2"#, "`per_layer_inputs`"),
    ] {
        let says = of("gemma2", setting).unwrap_err();
        assert!(says.contains(named), "{says}");
    }
    // Of one that sees pictures, the text alone is another file.
    assert!(
        of("gemma3", "\"a\": null")
            .unwrap_err()
            .contains("gemma3_text")
    );
    assert!(
        of("gemma3_text", "\"a\": null")
            .unwrap_err()
            .contains("attn_q_norm")
    );
}

#[test]
fn layers_without_rotation_are_read_of_smollm3_alone() {
    let smollm3 = |setting: &str| {
        let config = said("\"llama\"", &format!("\"smollm3\"{setting}"));
        config.map(|config| config.other_rotation.map(|other| other.layers))
    };
    assert_eq!(smollm3(r#", "no_rope_layers": [0]"#), Ok(Some(vec![0])));
    assert_eq!(smollm3(r#", "no_rope_layers": [1]"#), Ok(None));
    assert_eq!(
        smollm3(r#", "no_rope_layer_interval": 1"#),
        Ok(Some(vec![0]))
    );
    // Every fourth, of one.
    assert_eq!(smollm3(""), Ok(None));
    for (setting, named) in [
        (r#", "no_rope_layers": [1, 0]"#, "no_rope_layers"),
        (r#", "no_rope_layers": [2]"#, "no_rope_layers"),
        (r#", "no_rope_layers": 4"#, "no_rope_layers"),
        (r#", "no_rope_layer_interval": 0"#, "no_rope_layer_interval"),
        (
            r#", "use_sliding_window": true, "sliding_window": 8"#,
            "sliding window",
        ),
    ] {
        let says = smollm3(setting).unwrap_err();
        assert!(says.contains(named), "{says}");
    }
    let of_llama = said("\"llama\"", r#""llama", "no_rope_layers": [0]"#);
    assert!(of_llama.unwrap_err().contains("`no_rope_layers`"));
}

#[test]
fn tensors_that_nobody_reads_are_refused_by_name() {
    let says = |name: &str| {
        let folder = folder_with(CONFIG, false, &[name]);
        let opened = SafetensorsFolder::open(folder.path());
        opened.unwrap_err().to_string()
    };
    for (published, named) in [
        (
            "model.layers.0.self_attn.o_proj.bias",
            "blk.0.attn_output.bias",
        ),
        ("model.layers.0.mlp.up_proj.bias", "blk.0.ffn_up.bias"),
        (
            "model.layers.0.self_attn.q_norm.weight",
            "blk.0.attn_q_norm.weight",
        ),
        (
            "model.layers.1.input_layernorm.weight",
            "blk.1.attn_norm.weight",
        ),
        (
            "model.layers.0.self_attn.sinks",
            "model.layers.0.self_attn.sinks",
        ),
        ("score.weight", "score.weight"),
    ] {
        let says = says(published);
        assert!(says.contains(&format!("tensor `{named}`")), "{says}");
    }
    // A bias that the switch denies.
    assert!(says("model.layers.0.self_attn.q_proj.bias").contains("attention_bias"));
    // Other numbers than those that are said to serve.
    assert!(says("lm_head.weight").contains("tie_word_embeddings"));
}

#[test]
fn an_index_cannot_reach_out_of_its_folder() {
    let folder = folder(CONFIG, false);
    let index = r#"{"weight_map": {"model.norm.weight": "../model.safetensors"}}"#;
    std::fs::write(folder.path().join(INDEX), index).unwrap();
    let says = SafetensorsFolder::open(folder.path())
        .unwrap_err()
        .to_string();
    assert!(says.contains("plain file name"), "{says}");
}

#[test]
fn a_file_cut_short_is_refused() {
    let folder = folder(CONFIG, false);
    let path = folder.path().join(SINGLE);
    let bytes = std::fs::read(&path).unwrap();
    for n in [0, 4, 40, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..n]).unwrap();
        assert!(SafetensorsFolder::open(folder.path()).is_err(), "{n} bytes");
    }
}
