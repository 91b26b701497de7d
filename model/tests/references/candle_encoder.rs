//! Vectors as candle-transformers' BERT computes them from the same files.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use perennial_model::embedding::Embedder;

use crate::checkpoints::path;

/// Of each number of a vector of length 1.
const TOLERANCE: f32 = 2e-6;

const TEXTS: [&str; 6] = [
    "What is the capital of France?",
    "Paris is the capital of France.",
    "Bananas are yellow; [SEP] is text here, naïve café, 音苏盖提.",
    "",
    "one",
    "The archivist responsible for this entry is Kenji Mori. The London Review of Books is a \
     British journal of literary essays, published twice a month; it was founded when the \
     publication of another review was suspended by a strike.",
];

#[test]
fn vectors_are_candles_whatever_the_batch_and_the_threads() {
    let folder = path("all-minilm-l6-v2");
    let two = Embedder::open(&folder, 2).unwrap();
    let vectors = two.embed(&TEXTS).unwrap();
    assert_eq!(two.n_dimensions(), 384);

    let config: Config =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let weights = std::fs::read(folder.join("model.safetensors")).unwrap();
    let builder = VarBuilder::from_slice_safetensors(&weights, DType::F32, &Device::Cpu).unwrap();
    let bert = BertModel::load(builder, &config).unwrap();
    let mut tokenizer = tokenizers::Tokenizer::from_file(folder.join("tokenizer.json")).unwrap();
    tokenizer.with_padding(None).set_encode_special_tokens(true);
    for (text, ours) in TEXTS.iter().zip(&vectors) {
        let encoding = tokenizer.encode(*text, true).unwrap();
        let ids = Tensor::new(encoding.get_ids(), &Device::Cpu)
            .unwrap()
            .unsqueeze(0)
            .unwrap();
        let hidden = bert
            .forward(&ids, &ids.zeros_like().unwrap(), None)
            .unwrap();
        let mean: Vec<f32> = hidden
            .mean(1)
            .unwrap()
            .squeeze(0)
            .unwrap()
            .to_vec1()
            .unwrap();
        let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
        for (ours, theirs) in ours.iter().zip(mean) {
            assert!((ours - theirs / length).abs() < TOLERANCE, "{text:?}");
        }
    }

    let one = Embedder::open(&folder, 1).unwrap();
    for (text, vector) in TEXTS.iter().zip(&vectors) {
        assert_eq!(
            one.embed(&[text]).unwrap()[0],
            *vector,
            "alone, one thread: {text:?}"
        );
    }
    let many: Vec<&str> = TEXTS.iter().copied().cycle().take(100).collect();
    for (vector, again) in vectors.iter().cycle().zip(two.embed(&many).unwrap()) {
        assert_eq!(*vector, again, "among a hundred");
    }
    assert_eq!(one.digest(), two.digest());
}

#[test]
fn long_texts_are_seen_up_to_the_limit() {
    let embedder = Embedder::open(&path("all-minilm-l6-v2"), 2).unwrap();
    let long = "word ".repeat(1000);
    let longer = format!("{long} and a different end");
    let vectors = embedder.embed(&[&long, &longer]).unwrap();
    assert_eq!(vectors[0], vectors[1]);
}
