use safetensors::tensor::TensorView;

use super::*;
use crate::config::{Architecture, RopeScaling};

const WIDTH: usize = 8;

/// A whole folder: one layer, two heads sharing one key/value head, BF16.
fn folder(config: &str, split: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let shapes = [
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
        (layer("self_attn.rotary_emb.inv_freq"), vec![2]),
    ];
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
    let untied = says(&CONFIG.replace("\"tie_word_embeddings\": true", "\"a\": 1"));
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
