//! Logits as a plain float64 forward pass over the dequantized weights computes them.
//!
//! What may differ is rounding: f32 sums, and keys and values kept in f16. llama.cpp, which
//! also rounds activations to 8 bits, is 10 to 100 times as far from that reference.

use crate::checkpoints::{LARGE, SMALL, golden, ids, model};
use crate::divergence::{log_sum_exp, ours, top};

/// Of log-probabilities of the twenty likeliest tokens, in nats.
const TOLERANCE: f64 = 0.02;

fn compare(name: &str) {
    let model = model(name);
    let golden = golden(&format!("{name}.json"));
    assert_eq!(
        golden["sha256"],
        model.digest().to_string(),
        "golden of other weights"
    );
    let mut worst: f64 = 0.0;
    for prompt in golden["prompts"].as_array().expect("prompts") {
        let tokens = ids(&prompt["tokens"]);
        let text = prompt["text"].as_str().expect("text");
        assert_eq!(model.tokenizer().encode_text(text).unwrap(), tokens);
        let logits = ours(model, &tokens);
        for row in prompt["rows"].as_array().expect("rows") {
            let at = row["row"].as_u64().expect("row") as usize;
            let total = log_sum_exp(&logits[at]);
            let reference_total = row["log_sum_exp"].as_f64().expect("a number");
            let likeliest: Vec<(usize, f64)> =
                serde_json::from_value(row["top"].clone()).expect("pairs");
            for &(id, logit) in &likeliest {
                let reference = logit - reference_total;
                let distance = (f64::from(logits[at][id]) - total - reference).abs();
                worst = worst.max(distance);
                assert!(
                    distance < TOLERANCE,
                    "{name}, row {at}, token {id}: off by {distance}"
                );
            }
            let margin = likeliest[0].1 - likeliest[1].1;
            assert!(
                top(&logits[at]) == likeliest[0].0 || margin < TOLERANCE,
                "{name}, row {at}"
            );
        }
    }
    println!("{name}: log-probabilities within {worst:.2e} of the reference");
}

#[test]
fn the_small_model_computes_what_the_reference_computes() {
    compare(SMALL);
}

#[test]
fn the_large_model_computes_what_the_reference_computes() {
    compare(LARGE);
}
