//! Logits as a plain float64 forward pass over the dequantized weights computes them.
//!
//! What may differ is rounding: f32 sums, and keys and values kept in f16. The latter shows
//! in Qwen2, whose key biases reach hundreds.

use crate::checkpoints::{LARGE, SMALL, golden, ids, model};
use crate::divergence::{log_sum_exp, ours, top};

/// `tolerance` is of log-probabilities, in nats, of a row's twenty likeliest tokens; `most_kl`
/// of the divergence KL(reference || ours) of a row as far as these tell it.
fn compare(name: &str, tolerance: f64, most_kl: f64) {
    let model = model(name);
    let golden = golden(&format!("{name}.json"));
    assert_eq!(
        golden["sha256"],
        model.digest().to_string(),
        "golden of other weights"
    );
    let (mut worst, mut worst_kl) = (0.0f64, 0.0f64);
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
            let mut kl = 0.0;
            for &(id, logit) in &likeliest {
                let reference = logit - reference_total;
                let distance = f64::from(logits[at][id]) - total - reference;
                // p log(p/q) - p + q is never negative: no term hides another.
                kl += reference.exp() * (distance.exp() - 1.0 - distance);
                worst = worst.max(distance.abs());
            }
            worst_kl = worst_kl.max(kl);
            let margin = likeliest[0].1 - likeliest[1].1;
            assert!(
                top(&logits[at]) == likeliest[0].0 || margin < tolerance,
                "{name}, row {at}"
            );
        }
    }
    println!("{name}: log-probabilities within {worst:.2e}, KL within {worst_kl:.2e}");
    assert!(
        worst < tolerance,
        "{name}: log-probabilities off by {worst}"
    );
    assert!(worst_kl < most_kl, "{name}: KL {worst_kl}");
}

#[test]
fn the_small_model_computes_what_the_reference_computes() {
    compare(SMALL, 0.02, 1e-4);
}

#[test]
fn the_large_model_computes_what_the_reference_computes() {
    compare(LARGE, 0.2, 1e-3);
}
