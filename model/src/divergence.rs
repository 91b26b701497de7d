//! How far is one next-token distribution from another?

/// Natural logarithms of the probabilities that logits stand for, in f64.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let highest = f64::from(highest);
    let sum: f64 = logits.iter().map(|x| (f64::from(*x) - highest).exp()).sum();
    let log_sum = sum.ln();
    logits
        .iter()
        .map(|x| f64::from(*x) - highest - log_sum)
        .collect()
}

/// KL(p || q) in nats, of distributions given by their logarithms.
pub fn kl(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_is_no_way_from_itself_and_some_way_from_others() {
        let p = log_softmax(&[1000.0, 1001.0, -5.0]);
        let q = log_softmax(&[1001.0, 1000.0, -5.0]);
        assert!((p.iter().map(|x| x.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(kl(&p, &p).abs() < 1e-12);
        // p = (1, e) / (1 + e), q the other way round: KL = (e - 1) / (e + 1).
        let e = 1f64.exp();
        assert!((kl(&p, &q) - (e - 1.0) / (e + 1.0)).abs() < 1e-9);
    }
}
