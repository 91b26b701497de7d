//! A decoder in plain loops and f64: what the real one is held against.
//!
//! It keeps every key as it was rotated and rounded in its fragment, and turns it on to
//! its absolute position by one more rotation, which is what rotating the query by the
//! difference must amount to.

use half::f16;

use crate::config::{Activation, ModelConfig, QkNorm, RopeScaling};
use crate::quant::dequantize;
use crate::weights::TensorSource;

/// One token that is attended to.
#[derive(Clone)]
pub struct Seen {
    /// Absolute position.
    pub position: i64,
    /// Position at which the keys are rotated already.
    pub rotated_at: i64,
    /// `[n_layers][n_kv_heads * head_dim]`, rounded to f16.
    pub keys: Vec<Vec<f64>>,
    pub values: Vec<Vec<f64>>,
    /// Which segment it belongs to.
    pub segment: usize,
    pub hidden: bool,
    /// Layers whose values count as zero.
    pub zeroed: std::ops::Range<usize>,
    /// Layers in which its key counts as zero.
    pub keyless: std::ops::Range<usize>,
}

pub struct Naive<'a> {
    pub config: &'a ModelConfig,
    pub source: &'a dyn TensorSource,
}

/// What one row gives.
pub struct Row {
    pub logits: Vec<f64>,
    /// Attention on each segment, averaged over the heads of the upper half of the layers.
    pub mass: Vec<f64>,
    /// `[n_layers][n_heads * head_dim]`, not rotated.
    pub queries: Vec<Vec<f64>>,
    /// `[n_layers][n_kv_heads * head_dim]`, not rotated, without bias.
    pub plain_keys: Vec<Vec<f64>>,
}

impl Naive<'_> {
    fn vector(&self, name: &str) -> Vec<f64> {
        let raw = self.source.tensor(name).expect(name);
        dequantize(raw.encoding, raw.bytes)
            .into_iter()
            .map(f64::from)
            .collect()
    }

    fn times(&self, name: &str, x: &[f64]) -> Vec<f64> {
        self.vector(name)
            .chunks(x.len())
            .map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum())
            .collect()
    }

    /// By the weights of this name, if the model has any.
    fn norm(&self, x: &[f64], name: &str, is_there: bool) -> Vec<f64> {
        if !is_there {
            return x.to_vec();
        }
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (mean + f64::from(self.config.norm_eps)).sqrt();
        let less = if self.config.norms_less_one { 1.0 } else { 0.0 };
        let weights = self.vector(name);
        let of = |(x, w): (&f64, f64)| x * scale * (w + less);
        x.iter().zip(weights).map(of).collect()
    }

    /// Turns a head and gives it the length that the model gives to what is turned, by `stretched` times.
    fn rotate(&self, layer: usize, head: &mut [f64], position: i64, stretched: i32) {
        let c = self.config;
        let other = c.other_rotation.as_ref();
        let other = other.filter(|other| other.layers.contains(&layer));
        let theta = match other {
            None => f64::from(c.rope_theta),
            Some(other) => match other.theta {
                None => return,
                Some(theta) => f64::from(theta),
            },
        };
        let n = c.rotated_dims;
        for i in 0..n / 2 {
            let frequency = theta.powf(-2.0 * i as f64 / n as f64);
            let (frequency, length) = match other {
                None => self.stretch(i, frequency),
                Some(_) => (frequency, 1.0),
            };
            let (angle, length) = (position as f64 * frequency, length.powi(stretched));
            let (a, b) = (head[i] * length, head[i + n / 2] * length);
            head[i] = a * angle.cos() - b * angle.sin();
            head[i + n / 2] = b * angle.cos() + a * angle.sin();
        }
    }

    /// A rotary frequency as the publications of each scaling write it: positions are interpolated
    /// (Chen et al., 2023), or those waves that are long in the original context (Llama 3.1), or each by
    /// a number of its own (Ding et al., 2024); with what is rotated then multiplied with.
    fn stretch(&self, i: usize, frequency: f64) -> (f64, f64) {
        let frequency = match self.config.rope_scaling {
            RopeScaling::None => frequency,
            RopeScaling::Linear { factor } => 1.0 / f64::from(factor) * frequency,
            RopeScaling::Divisors {
                ref divisors,
                attention_factor,
            } => {
                let stretched = frequency / f64::from(divisors[i]);
                return (stretched, f64::from(attention_factor));
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            } => {
                let waves = f64::from(original_context) * frequency / std::f64::consts::TAU;
                let (low, high) = (f64::from(low_freq_factor), f64::from(high_freq_factor));
                let kept = ((waves - low) / (high - low)).clamp(0.0, 1.0);
                frequency * (kept + (1.0 - kept) / f64::from(factor))
            }
        };
        (frequency, 1.0)
    }

    /// Projects, adds the bias, undoes interleaving, norms.
    fn heads(&self, layer: usize, part: &str, x: &[f64]) -> Vec<f64> {
        let c = self.config;
        let mut y = self.times(&format!("blk.{layer}.attn_{part}.weight"), x);
        if c.qkv_bias {
            let bias = self.vector(&format!("blk.{layer}.attn_{part}.bias"));
            y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
        if part == "v" {
            return y;
        }
        let norm = format!("blk.{layer}.attn_{part}_norm.weight");
        for head in y.chunks_mut(c.head_dim) {
            if c.interleaved_rope_rows {
                let stored = head.to_vec();
                for i in 0..c.rotated_dims / 2 {
                    head[i] = stored[2 * i];
                    head[i + c.rotated_dims / 2] = stored[2 * i + 1];
                }
            }
            let normed = self.norm(head, &norm, c.qk_norm == QkNorm::EachHead);
            head.copy_from_slice(&normed);
        }
        self.norm(&y, &norm, c.qk_norm == QkNorm::AllHeads)
    }

    /// Softly bounded.
    fn capped(x: f64, cap: Option<f32>) -> f64 {
        let cap = cap.map(f64::from);
        cap.map_or(x, |cap| cap * (x / cap).tanh())
    }

    /// The gate of the feed-forward.
    fn activated(&self, x: f64) -> f64 {
        match self.config.activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                0.5 * x * (1.0 + u.tanh())
            }
        }
    }

    /// Keys less what a key of nothing is.
    fn without_bias(&self, layer: usize, keys: &[f64]) -> Vec<f64> {
        match self.config.qkv_bias && self.config.qk_norm == QkNorm::None {
            true => {
                let nothing = vec![0.0; self.config.d_model];
                let bias = self.heads(layer, "k", &nothing);
                keys.iter().zip(bias).map(|(k, b)| k - b).collect()
            }
            false => keys.to_vec(),
        }
    }

    /// One token after what was `seen`, to which it is appended. `local` is its place in
    /// the tail that starts at absolute position `start`.
    pub fn step(
        &self,
        seen: &mut Vec<Seen>,
        token: u32,
        start: i64,
        local: i64,
        segment: usize,
    ) -> Row {
        let c = self.config;
        let round = |x: &f64| f64::from(f16::from_f32(*x as f32).to_f32());
        seen.push(Seen {
            position: start + local,
            rotated_at: local,
            keys: Vec::new(),
            values: Vec::new(),
            segment,
            hidden: false,
            zeroed: 0..0,
            keyless: 0..0,
        });
        let table = self.vector("token_embd.weight");
        let mut x = table[token as usize * c.d_model..][..c.d_model].to_vec();
        let scale_of_embedding = f64::from(c.scales.embedding);
        x.iter_mut().for_each(|x| *x *= scale_of_embedding);
        let scale = match c.scales.attention {
            Some(scale) => f64::from(scale),
            None => 1.0 / (c.head_dim as f64).sqrt(),
        };
        let (before, after) = (c.norms.are_before(), c.norms.are_after());
        let add = |x: &mut [f64], y: Vec<f64>| {
            let of_block = f64::from(c.scales.residual);
            x.iter_mut().zip(y).for_each(|(x, y)| *x += of_block * y);
        };
        let mut mass = vec![0.0; segment + 1];
        let (mut queries, mut plain_keys) = (Vec::new(), Vec::new());
        let upper = c.n_layers / 2..c.n_layers;
        for layer in 0..c.n_layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let h = self.norm(&x, &name("attn_norm"), before);
            let q = self.heads(layer, "q", &h);
            let mut k = self.heads(layer, "k", &h);
            queries.push(q.clone());
            plain_keys.push(self.without_bias(layer, &k));
            k.chunks_mut(c.head_dim)
                .for_each(|head| self.rotate(layer, head, local, 1));
            let v = self.heads(layer, "v", &h);
            let own = seen.last_mut().expect("just pushed");
            own.keys.push(k.iter().map(round).collect());
            own.values.push(v.iter().map(round).collect());
            let mut attended = Vec::new();
            for (head, q) in q.chunks(c.head_dim).enumerate() {
                let mut q = q.to_vec();
                self.rotate(layer, &mut q, start + local, 1);
                let at = head / (c.n_heads / c.n_kv_heads) * c.head_dim;
                let weights: Vec<f64> = seen
                    .iter()
                    .map(|s| {
                        let mut key = s.keys[layer][at..at + c.head_dim].to_vec();
                        self.rotate(layer, &mut key, s.position - s.rotated_at, 0);
                        let dot: f64 = key.iter().zip(&q).map(|(k, q)| k * q).sum();
                        let score = Self::capped(dot * scale, c.soft_caps.scores);
                        let n_tokens = c.window.as_ref().filter(|w| w.layers.contains(&layer));
                        let is_far = n_tokens
                            .is_some_and(|w| start + local - s.position >= w.n_tokens as i64);
                        match s {
                            s if s.hidden || is_far => 0.0,
                            s if s.keyless.contains(&layer) => 1.0,
                            _ => score.exp(),
                        }
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                let mut out = vec![0.0; c.head_dim];
                for (s, weight) in seen.iter().zip(&weights) {
                    if upper.contains(&layer) {
                        mass[s.segment] += weight / total / (upper.len() * c.n_heads) as f64;
                    }
                    if !s.zeroed.contains(&layer) {
                        let value = &s.values[layer][at..at + c.head_dim];
                        out.iter_mut()
                            .zip(value)
                            .for_each(|(o, v)| *o += weight / total * v);
                    }
                }
                attended.extend(out);
            }
            let y = self.times(&name("attn_output"), &attended);
            add(&mut x, self.norm(&y, &name("post_attention_norm"), after));
            let h = self.norm(&x, &name("ffn_norm"), before);
            let gate = self.times(&name("ffn_gate"), &h);
            let up = self.times(&name("ffn_up"), &h);
            let inner: Vec<f64> = gate
                .iter()
                .zip(up)
                .map(|(g, u)| self.activated(*g) * u)
                .collect();
            let y = self.times(&name("ffn_down"), &inner);
            add(&mut x, self.norm(&y, &name("post_ffw_norm"), after));
        }
        let h = self.norm(&x, "output_norm.weight", true);
        let head = if c.tied_embeddings {
            "token_embd.weight"
        } else {
            "output.weight"
        };
        let logits = self.times(head, &h).into_iter().map(|x| {
            let scaled = x * f64::from(c.scales.logits);
            Self::capped(scaled, c.soft_caps.logits)
        });
        Row {
            logits: logits.collect(),
            mass,
            queries,
            plain_keys,
        }
    }
}
