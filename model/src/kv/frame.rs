//! Keys as a model means them: without the rotation of their position, and without the bias of
//! their projection.
//!
//! In some heads the bias is tens of times longer than what differs between tokens (in Qwen2.5 0.5B
//! 277 against 8), and rotation spreads it over all tokens differently. Without both, keys of the
//! same meaning are alike wherever they stand.

use std::sync::Arc;

use super::{KvFragment, KvShape};
use crate::config::ModelConfig;
use crate::lanes::{Halves, Isa, Kernel, Lane, Lanes, WIDTH};
use crate::rope::{Rope, Ropes, Turn};

/// What is taken out of the keys of one model.
#[derive(Clone, Debug)]
pub(crate) struct KeyFrame {
    shape: KvShape,
    ropes: Arc<Ropes>,
    /// `[n_layers][n_kv_heads][head_dim]`; empty where the model has none.
    biases: Vec<f32>,
    isa: Isa,
}

impl KeyFrame {
    /// The frame of a model whose key projections have these biases, `[n_layers][n_kv_heads]
    /// [head_dim]`, or none.
    pub(crate) fn new(config: &ModelConfig, biases: Vec<f32>) -> Self {
        Self {
            shape: KvShape::of(config),
            ropes: Arc::new(Ropes::new(config)),
            biases,
            isa: Isa::best(),
        }
    }

    /// The sizes of the model it belongs to.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    fn bias(&self, layer: usize, kv_head: usize) -> &[f32] {
        let KvShape {
            n_kv_heads,
            head_dim,
            ..
        } = self.shape;
        let first = (layer * n_kv_heads + kv_head) * head_dim;
        self.biases.get(first..first + head_dim).unwrap_or(&[])
    }

    /// The keys of one head of a fragment of this shape, f32, `[n_tiles][head_dim]`, each the sixteen
    /// keys of a tile in one dimension; zero behind the last token. Dimensions are in the order in
    /// which the decoder has them, as in queries.
    pub(crate) fn plain_keys(&self, kv: &KvFragment, layer: usize, kv_head: usize) -> Vec<Lane> {
        let strip = kv.strip(layer, kv_head);
        let mut keys = vec![Lane::ZERO; strip.keys.len()];
        self.isa.run(TurnBack {
            rope: self.ropes.of_layer(layer),
            base: kv.base,
            bias: self.bias(layer, kv_head),
            head_dim: self.shape.head_dim,
            from: &strip.keys,
            to: &mut keys,
        });
        let n_in_last = kv.n_tokens % WIDTH;
        if n_in_last > 0 {
            let last = keys.len() - self.shape.head_dim;
            for dimension in &mut keys[last..] {
                dimension.0[n_in_last..].fill(0.0);
            }
        }
        keys
    }
}

/// A bias that is taken off, where there is one.
#[inline(always)]
fn bias_at(bias: &[f32], dimension: usize) -> f32 {
    bias.get(dimension).copied().unwrap_or(0.0)
}

/// Turns keys back by their positions, and takes the bias off.
struct TurnBack<'a> {
    rope: &'a Rope,
    base: u32,
    bias: &'a [f32],
    head_dim: usize,
    from: &'a [Halves],
    to: &'a mut [Lane],
}

impl Kernel for TurnBack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let half = self.head_dim / 2;
        let (mut cos, mut sin) = (vec![Lane::ZERO; half], vec![Lane::ZERO; half]);
        let mut turn = Turn::default();
        let tiles = self.from.chunks_exact(self.head_dim);
        let to = self.to.chunks_exact_mut(self.head_dim);
        for (tile, (from, to)) in tiles.zip(to).enumerate() {
            let position = i64::from(self.base) + (tile * WIDTH) as i64;
            self.rope
                .sixteen_turns(position, &mut cos, &mut sin, &mut turn);
            for i in 0..half {
                let (low, high) = (l.load_f16(&from[i]), l.load_f16(&from[half + i]));
                let (cos, sin) = (l.load(&cos[i]), l.load(&sin[i]));
                let back_low = l.fma(low, cos, l.mul(high, sin));
                let back_high = l.sub(l.mul(high, cos), l.mul(low, sin));
                let bias = l.splat(bias_at(self.bias, i));
                l.store(l.sub(back_low, bias), &mut to[i]);
                let bias = l.splat(bias_at(self.bias, half + i));
                l.store(l.sub(back_high, bias), &mut to[half + i]);
            }
        }
    }
}
