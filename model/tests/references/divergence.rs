//! How far are two rows of logits apart?

use perennial_model::{
    cancel::Cancel,
    decoder::{Logits, Rows},
    layout::Layout,
    model::Model,
};

/// Logits of every token of a prompt, by one forward pass over an empty layout.
pub fn ours(model: &Model, tokens: &[u32]) -> Vec<Vec<f32>> {
    let decoder = model.decoder();
    let layout = Layout::default();
    let mut tail = decoder.new_tail(0);
    let mut rows = [Rows {
        layout: &layout,
        pending: &[],
        tail: &mut tail,
        tokens,
        logits: Logits::From(0),
        mass: false,
    }];
    let output = decoder.forward(&mut rows, &Cancel::default()).unwrap();
    output[0]
        .logits
        .chunks(model.config().n_vocab)
        .map(<[f32]>::to_vec)
        .collect()
}

/// `log(sum(exp(logits)))`.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let highest = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - highest).exp()).sum();
    f64::from(highest) + sum.ln()
}

/// KL(p || q) in nats of the distributions that two rows of logits stand for.
pub fn kl(p: &[f32], q: &[f32]) -> f64 {
    let (p_total, q_total) = (log_sum_exp(p), log_sum_exp(q));
    p.iter()
        .zip(q)
        .map(|(&p, &q)| {
            let (p, q) = (f64::from(p) - p_total, f64::from(q) - q_total);
            p.exp() * (p - q)
        })
        .sum()
}

/// The id of the highest logit.
pub fn top(logits: &[f32]) -> usize {
    let highest = logits.iter().copied().enumerate();
    highest
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .expect("logits")
        .0
}
