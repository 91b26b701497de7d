//! Logits as candle-transformers' quantized Llama and Qwen2 compute them from the same
//! file. candle rounds activations to 8 bits before it multiplies, so distributions are
//! compared, not numbers.

use std::fs::File;

use candle_core::{Device, Tensor, quantized::gguf_file::Content};
use candle_transformers::models::{quantized_llama, quantized_qwen2};

use crate::checkpoints::{LARGE, SMALL, model, path};
use crate::divergence::{kl, ours, top};

/// Mean of KL(candle || ours) over the tokens of the prompt, in nats.
const TOLERANCE: f64 = 0.01;

const PROMPT: &str = "The archive opens at nine in the morning and closes at";

/// Feeds a prompt token by token to a forward pass that yields logits of its last token.
fn compare(name: &str, mut forward: impl FnMut(&Tensor, usize) -> candle_core::Result<Tensor>) {
    let model = model(name);
    let tokens = model.tokenizer().encode_text(PROMPT).unwrap();
    let mut total = 0.0;
    let mut n_same = 0;
    for (position, (&token, ours)) in tokens.iter().zip(ours(model, &tokens)).enumerate() {
        let input = Tensor::new(&[[token]], &Device::Cpu).unwrap();
        let theirs: Vec<f32> = forward(&input, position)
            .and_then(|logits| logits.flatten_all()?.to_vec1())
            .unwrap();
        assert_eq!(theirs.len(), ours.len());
        total += kl(&theirs, &ours);
        n_same += usize::from(top(&theirs) == top(&ours));
    }
    let mean = total / tokens.len() as f64;
    println!(
        "{name}: KL {mean:.2e}, same choice {n_same} of {}",
        tokens.len()
    );
    assert!(mean < TOLERANCE, "{name}: KL {mean}");
    assert!(
        n_same * 10 >= tokens.len() * 8,
        "{name}: {n_same} of {}",
        tokens.len()
    );
}

fn content(name: &str) -> (File, Content) {
    let mut file = File::open(path(name)).unwrap();
    let content = Content::read(&mut file).unwrap();
    (file, content)
}

#[test]
fn the_small_model_agrees_with_candles_llama() {
    let (mut file, content) = content(SMALL);
    let mut theirs =
        quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
    compare(SMALL, |input, position| theirs.forward(input, position));
}

#[test]
fn the_large_model_agrees_with_candles_qwen2() {
    let (mut file, content) = content(LARGE);
    let mut theirs =
        quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
    compare(LARGE, |input, position| theirs.forward(input, position));
}
