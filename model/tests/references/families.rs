//! Small checkpoints of each family, with weights drawn from a seed, as hubs publish them and as a GGUF:
//! logits of every token of a prompt against those of candle's decoder of the family, and of one
//! container against the other to the bit.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::quantized::{
    GgmlDType, QTensor,
    gguf_file::{self, Value},
};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{
    gemma2, gemma3, granitemoehybrid as granite, mistral, olmo2, phi3, smol::smollm3,
};
use perennial_model::cancel::Cancel;
use perennial_model::config::{Activation, ModelConfig, RopeScaling};
use perennial_model::decoder::{Decoder, Logits, Rows};
use perennial_model::layout::Layout;
use perennial_model::weights::Checkpoint;
use serde_json::{Value as Json, json};

const D_MODEL: usize = N_HEADS * HEAD_DIM;
const D_FF: usize = 48;
const N_LAYERS: usize = 4;
const N_HEADS: usize = 4;
const N_KV_HEADS: usize = 2;
const HEAD_DIM: usize = 16;
const N_VOCAB: usize = 96;
const N_POSITIONS: usize = 256;
const PROMPT: [u32; 40] = {
    let mut prompt = [0; 40];
    let mut i = 0;
    while i < 40 {
        prompt[i] = (i as u32 * 37 + 11) % 96;
        i += 1;
    }
    prompt
};

/// Of each logit, as a share of the largest: what differs is that keys and values are rounded to f16 here,
/// and the order of sums.
const TOLERANCE: f32 = 3e-3;

/// Tensors by their published names.
#[derive(Clone)]
struct Weights(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Weights {
    /// What all families have: embeddings, attention and feed-forward. Norms are added by family.
    fn drawn() -> Self {
        let mut weights = Self(BTreeMap::new());
        let (q, kv) = (N_HEADS * HEAD_DIM, N_KV_HEADS * HEAD_DIM);
        weights.matrix("model.embed_tokens", [N_VOCAB, D_MODEL], 3.0);
        weights.norm("model.norm", D_MODEL, 1.0);
        for layer in 0..N_LAYERS {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            weights.matrix(&name("self_attn.q_proj"), [q, D_MODEL], 2.2);
            weights.matrix(&name("self_attn.k_proj"), [kv, D_MODEL], 2.2);
            weights.matrix(&name("self_attn.v_proj"), [kv, D_MODEL], 2.0);
            weights.matrix(&name("self_attn.o_proj"), [D_MODEL, q], 2.0);
            weights.matrix(&name("mlp.gate_proj"), [D_FF, D_MODEL], 2.0);
            weights.matrix(&name("mlp.up_proj"), [D_FF, D_MODEL], 2.0);
            weights.matrix(&name("mlp.down_proj"), [D_MODEL, D_FF], 2.0);
        }
        weights
    }

    /// The same with norms of each layer by these names, of so many weights about `mean`.
    fn with_norms(mut self, norms: &[(&str, usize)], mean: f32) -> Self {
        for layer in 0..N_LAYERS {
            for (norm, n) in norms {
                self.norm(&format!("model.layers.{layer}.{norm}"), *n, mean);
            }
        }
        self
    }

    fn matrix(&mut self, name: &str, [rows, columns]: [usize; 2], gain: f32) {
        let scale = gain / (columns as f32).sqrt();
        let numbers = noise(name, rows * columns).map(|x| x * scale).collect();
        let name = format!("{name}.weight");
        self.0.insert(name, (vec![rows, columns], numbers));
    }

    fn norm(&mut self, name: &str, n: usize, mean: f32) {
        let numbers = noise(name, n).map(|x| mean + 0.5 * x).collect();
        self.0.insert(format!("{name}.weight"), (vec![n], numbers));
    }

    /// The same under other names and with other numbers.
    fn map(&self, mut change: impl FnMut(&str, &[f32]) -> Option<(String, Vec<f32>)>) -> Self {
        let changed = self.0.iter().filter_map(|(name, (shape, numbers))| {
            let (name, numbers) = change(name, numbers)?;
            Some((name, (shape.clone(), numbers)))
        });
        Self(changed.collect())
    }

    /// Rows of some tensors of each layer, in this order, become one tensor.
    fn fused(mut self, parts: &[&str], whole: &str) -> Self {
        for layer in 0..N_LAYERS {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            let (mut n_rows, mut n_columns, mut numbers) = (0, 0, Vec::new());
            for part in parts {
                let (shape, of_part) = self.0.remove(&name(part)).unwrap();
                (n_rows, n_columns) = (n_rows + shape[0], shape[1]);
                numbers.extend(of_part);
            }
            self.0
                .insert(name(whole), (vec![n_rows, n_columns], numbers));
        }
        self
    }

    fn tensors(&self) -> impl Iterator<Item = (&String, Tensor)> {
        self.0.iter().map(|(name, (shape, numbers))| {
            let tensor = Tensor::from_slice(numbers, shape.clone(), &Device::Cpu);
            (name, tensor.unwrap())
        })
    }

    fn builder(&self) -> VarBuilder<'static> {
        let tensors = self.tensors().map(|(name, tensor)| (name.clone(), tensor));
        let tensors: HashMap<String, Tensor> = tensors.collect();
        VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
    }

    /// Writes them beside a `config.json`.
    fn write(&self, config: &Json) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let tensors: HashMap<String, Tensor> = self
            .tensors()
            .map(|(name, tensor)| (name.clone(), tensor))
            .collect();
        candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        folder
    }

    /// Writes them as a GGUF, under names that `named` gives them.
    fn write_gguf(
        &self,
        family: &str,
        metadata: &[(&str, Value)],
        named: impl Fn(&str) -> String,
    ) -> tempfile::NamedTempFile {
        let key = |key: &str| format!("{family}.{key}");
        let count = |n: usize| Value::U32(n as u32);
        let mut all = vec![
            (
                "general.architecture".to_owned(),
                Value::String(family.into()),
            ),
            (key("block_count"), count(N_LAYERS)),
            (key("embedding_length"), count(D_MODEL)),
            (key("feed_forward_length"), count(D_FF)),
            (key("attention.head_count"), count(N_HEADS)),
            (key("attention.head_count_kv"), count(N_KV_HEADS)),
            (key("attention.key_length"), count(HEAD_DIM)),
            (key("attention.value_length"), count(HEAD_DIM)),
            (key("attention.layer_norm_rms_epsilon"), Value::F32(1e-5)),
            (key("context_length"), count(N_POSITIONS)),
        ];
        all.extend(
            metadata
                .iter()
                .map(|(name, value)| (key(name), value.clone())),
        );
        let tensors: Vec<(String, QTensor)> = self
            .tensors()
            .map(|(name, tensor)| {
                let plain = QTensor::quantize(&tensor, GgmlDType::F32).unwrap();
                (named(name), plain)
            })
            .collect();
        let all: Vec<_> = all.iter().map(|(k, v)| (k.as_str(), v)).collect();
        let tensors: Vec<_> = tensors.iter().map(|(k, t)| (k.as_str(), t)).collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        gguf_file::write(file.as_file_mut(), &all, &tensors).unwrap();
        file
    }
}

/// Numbers between -1 and 1, by SplitMix64 from a name.
fn noise(name: &str, n: usize) -> impl Iterator<Item = f32> {
    let mut state = name.bytes().fold(7u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    (0..n).map(move |_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
}

/// What all families say in a `config.json`, and what one says besides.
fn hub_config(family: &str, more: Json) -> Json {
    let mut config = json!({
        "model_type": family, "hidden_size": D_MODEL, "num_hidden_layers": N_LAYERS,
        "intermediate_size": D_FF, "num_attention_heads": N_HEADS,
        "num_key_value_heads": N_KV_HEADS, "head_dim": HEAD_DIM, "vocab_size": N_VOCAB,
        "rms_norm_eps": 1e-5, "max_position_embeddings": N_POSITIONS, "rope_theta": 10000.0,
        "tie_word_embeddings": true,
    });
    let more = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    config
}

/// GGUF's name of a tensor of a family that has norms behind blocks.
fn gguf_name_with_post_norms(published: &str) -> String {
    let name = published
        .replace("post_attention_layernorm", "post_attention_norm")
        .replace("post_feedforward_layernorm", "post_ffw_norm")
        .replace("pre_feedforward_layernorm", "ffn_norm");
    gguf_name(&name)
}

/// GGUF's name of a tensor that stands for itself there.
fn gguf_name(published: &str) -> String {
    let name = published
        .replace("model.embed_tokens", "token_embd")
        .replace("model.norm", "output_norm")
        .replace("model.layers", "blk");
    [
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.qkv_proj", "attn_qkv"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate_up_proj", "ffn_up"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ]
    .iter()
    .fold(name, |name, (from, to)| name.replace(from, to))
}

/// Rows of queries and keys as converters of Llama order them: pairs that rotate together side by side.
fn interleaved(weights: &Weights) -> Weights {
    weights.map(|name, numbers| {
        let is_turned = name.contains("q_proj") || name.contains("k_proj");
        let n_columns = D_MODEL;
        let row = |n: usize| {
            let (head, i) = (n / HEAD_DIM, n % HEAD_DIM);
            let from = head * HEAD_DIM + i / 2 + i % 2 * (HEAD_DIM / 2);
            &numbers[from * n_columns..][..n_columns]
        };
        let numbers = match is_turned {
            true => (0..numbers.len() / n_columns)
                .flat_map(row)
                .copied()
                .collect(),
            false => numbers.to_vec(),
        };
        Some((name.to_owned(), numbers))
    })
}

/// The configuration of a checkpoint.
fn config_at(path: &Path) -> ModelConfig {
    let checkpoint = Checkpoint::open(path).unwrap_or_else(|error| panic!("{error}"));
    checkpoint.config().clone()
}

/// Our logits of every token of the prompt.
fn ours(path: &Path) -> Vec<f32> {
    ours_as(path, |_| {})
}

/// The same of a decoder with another configuration than the checkpoint's.
fn ours_as(path: &Path, change: impl FnOnce(&mut ModelConfig)) -> Vec<f32> {
    let checkpoint = Checkpoint::open(path).unwrap_or_else(|error| panic!("{error}"));
    let mut config = checkpoint.config().clone();
    change(&mut config);
    let decoder = Decoder::load(config, &checkpoint, 2, &mut |_, _| {}).unwrap();
    let layout = Layout::default();
    let mut tail = decoder.new_tail(0);
    let rows = Rows {
        layout: &layout,
        pending: &[],
        tail: &mut tail,
        tokens: &PROMPT,
        logits: Logits::From(0),
        mass: false,
    };
    let mut output = decoder.forward(&mut [rows], &Cancel::default()).unwrap();
    output.remove(0).logits
}

/// Logits of a forward pass over the first `n` tokens of the prompt, for each `n`.
fn theirs(mut forward: impl FnMut(&Tensor) -> candle_core::Result<Tensor>) -> Vec<f32> {
    let mut all = Vec::new();
    for n in 1..=PROMPT.len() {
        let tokens = Tensor::from_slice(&PROMPT[..n], (1, n), &Device::Cpu).unwrap();
        let logits = forward(&tokens).and_then(|logits| logits.flatten_all()?.to_vec1::<f32>());
        all.extend(logits.unwrap());
    }
    all
}

/// The largest difference of logits, as a share of the largest logit.
fn apart(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let both = ours.iter().zip(theirs);
    let apart = both.fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    apart / theirs.iter().fold(0f32, |most, x| most.max(x.abs()))
}

/// What a switch is called, and how it is turned off.
type Switch = (&'static str, fn(&mut ModelConfig));

/// Holds a checkpoint against logits that another implementation has of it, and shows that each switch
/// counts: without it they are far from these. Yields our logits.
fn assert_same(path: &Path, theirs: &[f32], without: &[Switch]) -> Vec<f32> {
    let logits = ours(path);
    let distance = apart(&logits, theirs);
    println!("off by {distance:.1e}");
    assert!(distance < TOLERANCE, "off by {distance}");
    for (switch, turn_off) in without {
        let distance = apart(&ours_as(path, turn_off), theirs);
        println!("without {switch}: off by {distance:.1e}");
        assert!(
            distance > 10.0 * TOLERANCE,
            "{switch} counts for {distance}"
        );
    }
    logits
}

/// Bits, for what must be the same.
fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

const BEFORE: [(&str, usize); 2] = [
    ("input_layernorm", D_MODEL),
    ("post_attention_layernorm", D_MODEL),
];

#[test]
fn granite_computes_what_candles_granite_computes() {
    let weights = Weights::drawn().with_norms(&BEFORE, 1.0);
    let settings = json!({
        "embedding_multiplier": 6.0, "attention_multiplier": 0.5, "residual_multiplier": 0.35,
        "logits_scaling": 4.0, "attention_bias": false, "mlp_bias": false,
    });
    let config = hub_config("granite", settings);
    let folder = weights.write(&config);

    // candle's plain Granite multiplies with nothing; its hybrid one does, and may do without experts.
    let fused = weights
        .clone()
        .fused(&["mlp.gate_proj", "mlp.up_proj"], "shared_mlp.input_linear");
    let renamed = fused.map(|name, numbers| {
        let name = name.replace("mlp.down_proj", "shared_mlp.output_linear");
        Some((name, numbers.to_vec()))
    });
    let of_candle: granite::GraniteMoeHybridConfig = serde_json::from_value(config).unwrap();
    let of_candle = of_candle.into_config(false);
    let model = granite::GraniteMoeHybrid::load(renamed.builder(), &of_candle).unwrap();
    let theirs = theirs(|tokens| {
        let cache =
            granite::GraniteMoeHybridCache::new(false, DType::F32, &of_candle, &Device::Cpu);
        model.forward(tokens, 0, &mut cache?)
    });
    let logits = assert_same(
        folder.path(),
        &theirs,
        &[
            ("scale of embeddings", |c| c.scales.embedding = 1.0),
            ("scale of scores", |c| c.scales.attention = None),
            ("scale of layers", |c| c.scales.residual = 1.0),
            ("scale of logits", |c| c.scales.logits = 1.0),
        ],
    );

    let file = interleaved(&weights).write_gguf(
        "granite",
        &[
            ("embedding_scale", Value::F32(6.0)),
            ("attention.scale", Value::F32(0.5)),
            ("residual_scale", Value::F32(0.35)),
            ("logit_scale", Value::F32(4.0)),
        ],
        gguf_name,
    );
    assert_eq!(bits(&ours(file.path())), bits(&logits));
}

#[test]
fn smollm3_computes_what_candles_smollm3_computes() {
    let weights = Weights::drawn().with_norms(&BEFORE, 1.0);
    let config = hub_config(
        "smollm3",
        json!({
            "no_rope_layers": [1, 1, 1, 0], "no_rope_layer_interval": 4, "hidden_act": "silu",
            "use_sliding_window": false, "sliding_window": null, "rope_scaling": null,
        }),
    );
    let folder = weights.write(&config);
    let ours_config = config_at(folder.path());
    let other = ours_config
        .other_rotation
        .expect("a layer that does not rotate");
    assert_eq!((other.layers, other.theta), (vec![3], None));

    let of_candle: smollm3::Config = serde_json::from_value(config).unwrap();
    let mut model = smollm3::ModelForCausalLM::new(&of_candle, weights.builder()).unwrap();
    let theirs = theirs(|tokens| {
        model.clear_kv_cache();
        model.forward(tokens, 0)
    });
    let logits = assert_same(
        folder.path(),
        &theirs,
        &[("layers without rotation", |c| c.other_rotation = None)],
    );

    let file = interleaved(&weights).write_gguf("smollm3", &[], gguf_name);
    assert_eq!(bits(&ours(file.path())), bits(&logits));
}

#[test]
fn mistral_sees_through_the_window_that_candles_mistral_sees_through() {
    const WINDOW: usize = 9;
    let weights = Weights::drawn().with_norms(&BEFORE, 1.0);
    let config = |window: usize| hub_config("mistral", json!({"sliding_window": window}));
    let folder = weights.write(&config(WINDOW));

    // candle counts those before a token, the library that trained the model counts the token, too.
    let of_candle: mistral::Config = serde_json::from_value(config(WINDOW - 1)).unwrap();
    let mut untied = weights.clone();
    let embeddings = weights.0["model.embed_tokens.weight"].clone();
    untied.0.insert("lm_head.weight".into(), embeddings);
    let mut model = mistral::Model::new(&of_candle, untied.builder()).unwrap();
    let theirs = theirs(|tokens| {
        model.clear_kv_cache();
        model.forward(tokens, 0)
    });
    let logits = assert_same(folder.path(), &theirs, &[("window", |c| c.window = None)]);

    let window = ("attention.sliding_window", Value::U32(WINDOW as u32));
    let file = interleaved(&weights).write_gguf("llama", &[window], gguf_name);
    assert_eq!(bits(&ours(file.path())), bits(&logits));
}

#[test]
fn phi3_computes_what_candles_phi3_computes() {
    const QKV: [&str; 3] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
    const ORIGINAL: usize = 64;
    const ROTATED: usize = 12;
    const LONG: [f32; ROTATED / 2] = [9.0; ROTATED / 2];
    let fused = |weights: Weights| {
        let weights = weights.fused(&QKV, "self_attn.qkv_proj");
        weights.fused(&["mlp.gate_proj", "mlp.up_proj"], "mlp.gate_up_proj")
    };
    let drawn = Weights::drawn().with_norms(&BEFORE, 1.0);
    let weights = fused(drawn.clone());
    let divisors = [1.0f32, 1.1, 1.3, 1.7, 2.5, 4.0];
    let config = |short: &[f32]| {
        hub_config(
            "phi3",
            json!({
                "partial_rotary_factor": 0.75, "original_max_position_embeddings": ORIGINAL,
                "rope_scaling": {
                    "type": "longrope", "short_factor": short, "long_factor": LONG,
                },
                "sliding_window": null, "hidden_act": "silu", "embd_pdrop": 0.0,
                "auto_map": {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
                "full_attn_mod": 1, "interpolate_factor": 1,
            }),
        )
    };
    let folder = weights.write(&config(&divisors));
    let ours_config = config_at(folder.path());
    assert_eq!(ours_config.max_positions, ORIGINAL);
    let notice = ours_config.notice("phi").expect("a notice");
    assert!(
        notice.contains("more than 64") && notice.contains("256"),
        "{notice}"
    );

    // candle multiplies with factors where the library divides by them, and has no attention factor: both
    // are given to it as it takes them, the factor of queries and keys with the rows of queries.
    let inverse = divisors.map(|divisor| 1.0 / divisor);
    let of_candle: phi3::Config = serde_json::from_value(config(&inverse)).unwrap();
    let factor = (N_POSITIONS / ORIGINAL) as f64;
    let attention_factor = (1.0 + factor.ln() / (ORIGINAL as f64).ln()).sqrt() as f32;
    let scaled = drawn.map(|name, numbers| {
        let mut numbers = numbers.to_vec();
        if name.contains("q_proj") {
            for (row, numbers) in numbers.chunks_mut(D_MODEL).enumerate() {
                if row % HEAD_DIM < ROTATED {
                    numbers
                        .iter_mut()
                        .for_each(|x| *x *= attention_factor.powi(2));
                }
            }
        }
        Some((name.to_owned(), numbers))
    });
    let mut model = phi3::Model::new(&of_candle, fused(scaled).builder()).unwrap();
    let theirs = theirs(|tokens| {
        model.clear_kv_cache();
        model.forward(tokens, 0)
    });
    let logits = assert_same(
        folder.path(),
        &theirs,
        &[
            ("factors", |c| c.rope_scaling = RopeScaling::None),
            ("rotation in part", |c| {
                (c.rotated_dims, c.rope_scaling) = (HEAD_DIM, RopeScaling::None)
            }),
            ("factor of attention", |c| {
                if let RopeScaling::Divisors {
                    attention_factor, ..
                } = &mut c.rope_scaling
                {
                    *attention_factor = 1.0;
                }
            }),
        ],
    );

    let mut with_factors = weights;
    for (name, factors) in [("short", divisors), ("long", LONG)] {
        let name = format!("rope_factors_{name}.weight");
        let factors = (vec![factors.len()], factors.to_vec());
        with_factors.0.insert(name, factors);
    }
    let file = with_factors.write_gguf(
        "phi3",
        &[
            ("rope.dimension_count", Value::U32(ROTATED as u32)),
            ("rope.scaling.attn_factor", Value::F32(attention_factor)),
            (
                "rope.scaling.original_context_length",
                Value::U32(ORIGINAL as u32),
            ),
            ("attention.sliding_window", Value::U32(0)),
        ],
        gguf_name,
    );
    let config = config_at(file.path());
    assert_eq!(bits(&ours(file.path())), bits(&logits));
    assert_eq!(
        (config.max_positions, config.trained_positions),
        (ORIGINAL, N_POSITIONS)
    );
}

#[test]
fn olmo2_computes_what_candles_olmo2_computes() {
    let norms = [
        ("post_attention_layernorm", D_MODEL),
        ("post_feedforward_layernorm", D_MODEL),
        ("self_attn.q_norm", N_HEADS * HEAD_DIM),
        ("self_attn.k_norm", N_KV_HEADS * HEAD_DIM),
    ];
    let weights = Weights::drawn().with_norms(&norms, 1.0);
    let config = hub_config(
        "olmo2",
        json!({"attention_bias": false, "hidden_act": "silu"}),
    );
    let folder = weights.write(&config);

    let of_candle: olmo2::Config = serde_json::from_value(config).unwrap();
    let mut model = olmo2::Model::new(&of_candle, weights.builder()).unwrap();
    let theirs = theirs(|tokens| {
        model.clear_kv_cache();
        model.forward(tokens, 0)
    });
    let logits = assert_same(folder.path(), &theirs, &[]);

    let file = weights.write_gguf("olmo2", &[], gguf_name_with_post_norms);
    assert_eq!(bits(&ours(file.path())), bits(&logits));
}

const GEMMA: [(&str, usize); 4] = [
    ("input_layernorm", D_MODEL),
    ("post_attention_layernorm", D_MODEL),
    ("pre_feedforward_layernorm", D_MODEL),
    ("post_feedforward_layernorm", D_MODEL),
];

/// As converters write Gemma: weights of norms with the one that hubs leave out.
fn with_whole_norms(weights: &Weights) -> Weights {
    weights.map(|name, numbers| {
        let less = if name.contains("norm") { 1.0 } else { 0.0 };
        let numbers = numbers.iter().map(|x| x + less).collect();
        Some((name.to_owned(), numbers))
    })
}

#[test]
fn gemma2_computes_what_candles_gemma2_computes() {
    const QUERY_WIDTH: f32 = 9.0;
    let mut weights = Weights::drawn().with_norms(&GEMMA, 0.0);
    weights.norm("model.norm", D_MODEL, 0.0);
    // Caps that are felt, and a window that is not: candle hides it from all layers.
    let config = |query_width: f32| {
        hub_config(
            "gemma2",
            json!({
                "query_pre_attn_scalar": query_width as u32, "attn_logit_softcapping": 3.0,
                "final_logit_softcapping": 5.0, "hidden_activation": "gelu_pytorch_tanh",
                "hidden_act": "gelu_pytorch_tanh", "cache_implementation": "hybrid",
                "sliding_window": 128, "attention_bias": false, "tie_word_embeddings": null,
            }),
        )
    };
    let folder = weights.write(&config(QUERY_WIDTH));
    let ours_config = config_at(folder.path());
    assert!(ours_config.tied_embeddings);
    let window = ours_config.window.expect("a window");
    assert_eq!((window.n_tokens, window.layers), (128, vec![0, 2]));

    // candle divides scores by the root of the width of a head.
    let factor = (HEAD_DIM as f32 / QUERY_WIDTH).sqrt();
    let scaled = weights.map(|name, numbers| {
        let factor = if name.contains("q_proj") { factor } else { 1.0 };
        let numbers = numbers.iter().map(|x| x * factor).collect();
        Some((name.to_owned(), numbers))
    });
    let of_candle: gemma2::Config = serde_json::from_value(config(HEAD_DIM as f32)).unwrap();
    let mut model = gemma2::Model::new(false, &of_candle, scaled.builder()).unwrap();
    let theirs = theirs(|tokens| {
        model.clear_kv_cache();
        model.forward(tokens, 0)
    });
    assert_same(
        folder.path(),
        &theirs,
        &[
            ("scale of embeddings", |c| c.scales.embedding = 1.0),
            ("scale of scores", |c| c.scales.attention = None),
            ("activation", |c| c.activation = Activation::Silu),
            ("one in norms", |c| c.norms_less_one = false),
            ("cap of scores", |c| c.soft_caps.scores = None),
            ("cap of logits", |c| c.soft_caps.logits = None),
        ],
    );

    // A GGUF says nothing of the width.
    let by_head = weights.write(&config(HEAD_DIM as f32));
    let file = with_whole_norms(&weights).write_gguf(
        "gemma2",
        &[
            ("attn_logit_softcapping", Value::F32(3.0)),
            ("final_logit_softcapping", Value::F32(5.0)),
            ("attention.sliding_window", Value::U32(128)),
        ],
        gguf_name_with_post_norms,
    );
    assert_eq!(bits(&ours(file.path())), bits(&ours(by_head.path())));
}

#[test]
fn gemma3_computes_what_candles_gemma3_computes() {
    const WINDOW: usize = 9;
    const QUERY_WIDTH: f32 = 9.0;
    let mut norms = GEMMA.to_vec();
    norms.extend([
        ("self_attn.q_norm", HEAD_DIM),
        ("self_attn.k_norm", HEAD_DIM),
    ]);
    let mut weights = Weights::drawn().with_norms(&norms, 0.0);
    weights.norm("model.norm", D_MODEL, 0.0);
    let config = |window: usize, query_width: f32| {
        hub_config(
            "gemma3_text",
            json!({
                "query_pre_attn_scalar": query_width as u32, "attn_logit_softcapping": null,
                "final_logit_softcapping": null, "hidden_activation": "gelu_pytorch_tanh",
                "sliding_window": window, "sliding_window_pattern": 3, "attention_bias": false,
                "rope_theta": 50000.0, "rope_local_base_freq": 500.0,
            }),
        )
    };
    let folder = weights.write(&config(WINDOW, QUERY_WIDTH));
    let ours_config = config_at(folder.path());
    let window = ours_config.window.expect("a window");
    assert_eq!((window.n_tokens, window.layers), (WINDOW, vec![0, 1, 3]));

    // candle divides scores by the root of the width of a head. One token at a time its window is as wide as
    // that of the library which trained the model.
    let factor = (HEAD_DIM as f32 / QUERY_WIDTH).sqrt();
    let scaled = weights.map(|name, numbers| {
        let mut numbers = numbers.to_vec();
        if name.contains("q_norm") {
            numbers
                .iter_mut()
                .for_each(|x| *x = (1.0 + *x) * factor - 1.0);
        }
        Some((name.to_owned(), numbers))
    });
    let of_candle = config(WINDOW, HEAD_DIM as f32);
    let of_candle: gemma3::Config = serde_json::from_value(of_candle).unwrap();
    let mut model = gemma3::Model::new(false, &of_candle, scaled.builder()).unwrap();
    let theirs = theirs(|tokens| {
        let before = tokens.dim(1)? - 1;
        model.forward(&tokens.narrow(1, before, 1)?, before)
    });
    assert_same(
        folder.path(),
        &theirs,
        &[
            ("scale of embeddings", |c| c.scales.embedding = 1.0),
            ("scale of scores", |c| c.scales.attention = None),
            ("activation", |c| c.activation = Activation::Silu),
            ("one in norms", |c| c.norms_less_one = false),
            ("window", |c| c.window = None),
            ("rotation of local layers", |c| c.other_rotation = None),
        ],
    );

    let by_head = weights.write(&config(WINDOW, HEAD_DIM as f32));
    let file = with_whole_norms(&weights).write_gguf(
        "gemma3",
        &[
            ("rope.freq_base", Value::F32(50_000.0)),
            ("rope.freq_base_swa", Value::F32(500.0)),
            ("attention.sliding_window", Value::U32(WINDOW as u32)),
            ("attention.sliding_window_pattern", Value::U32(3)),
        ],
        gguf_name_with_post_norms,
    );
    assert_eq!(bits(&ours(file.path())), bits(&ours(by_head.path())));
}
