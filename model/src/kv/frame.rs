//! Keys as a model means them: without the rotation of their position, and without the bias of
//! their projection.
//!
//! In some heads the bias is tens of times longer than what differs between tokens (in Qwen2.5 0.5B
//! 277 against 8), and rotation spreads it over all tokens differently. Without both, keys of the
//! same meaning are alike wherever they stand: which is what latent recall and codings need.

use std::sync::Arc;

use super::coding::Basis;
use super::{KvFragment, KvShape, Strip, are_finite};
use crate::config::ModelConfig;
use crate::lanes::{Halves, Isa, Kernel, Lane, Lanes, WIDTH, numbers};
use crate::rope::{Rope, Ropes, Turn};

/// What is taken out of the keys of one model.
#[derive(Clone, Debug)]
pub struct KeyFrame {
    shape: KvShape,
    ropes: Arc<Ropes>,
    /// `[n_layers][n_kv_heads][head_dim]`; empty where the model has none.
    biases: Vec<f32>,
    digest: [u8; 32],
    basis: Option<Arc<Basis>>,
    isa: Isa,
}

/// Keys and values of one head of one layer, in a frame.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlainStrip {
    /// `[n_tiles][head_dim]`, each the sixteen keys of a tile in one dimension, un-rotated, without
    /// bias; zero behind the last token.
    pub keys: Vec<Lane>,
    /// `[n_tokens][head_dim / 16]`.
    pub values: Vec<Lane>,
}

/// Keys and values of one layer, in a frame: what a coding is compared with may be made of them.
#[derive(Clone, Debug, PartialEq)]
pub struct PlainLayer {
    /// `[n_tokens][n_kv_heads * head_dim]`, un-rotated, without bias.
    pub keys: Vec<f32>,
    /// `[n_tokens][n_kv_heads * head_dim]`.
    pub values: Vec<f32>,
}

impl PlainStrip {
    /// `[n_tokens][head_dim]`.
    pub fn values(&self) -> &[f32] {
        numbers(&self.values)
    }
}

impl KeyFrame {
    /// The frame of a model whose key projections have these biases, `[n_layers][n_kv_heads]
    /// [head_dim]`, or none.
    pub(crate) fn new(config: &ModelConfig, biases: Vec<f32>) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 key frame");
        hash.update(&config.encode());
        for bias in &biases {
            hash.update(&bias.to_bits().to_le_bytes());
        }
        Self {
            shape: KvShape::of(config),
            ropes: Arc::new(Ropes::new(config)),
            biases,
            digest: *hash.finalize().as_bytes(),
            basis: None,
            isa: Isa::best(),
        }
    }

    /// The same frame, with what codings across layers need. Other codings take no notice of it.
    #[must_use]
    pub fn with_basis(self, basis: Arc<Basis>) -> Self {
        Self {
            basis: Some(basis),
            ..self
        }
    }

    /// What the model's keys and values vary along, if that was learnt.
    pub fn basis(&self) -> Option<&Basis> {
        self.basis.as_deref()
    }

    /// The sizes of the model it belongs to.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Names rotations, biases and sizes.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The same frame, computed under another instruction set.
    #[cfg(test)]
    pub(crate) fn under(self, isa: Isa) -> Self {
        Self { isa, ..self }
    }

    pub(crate) fn bias(&self, layer: usize, kv_head: usize) -> &[f32] {
        let KvShape {
            n_kv_heads,
            head_dim,
            ..
        } = self.shape;
        let first = (layer * n_kv_heads + kv_head) * head_dim;
        self.biases.get(first..first + head_dim).unwrap_or(&[])
    }

    /// One head of a fragment of this shape, in the frame.
    pub(crate) fn plain(&self, kv: &KvFragment, layer: usize, kv_head: usize) -> PlainStrip {
        let strip = kv.strip(layer, kv_head);
        let mut plain = PlainStrip {
            keys: self.plain_keys(kv, layer, kv_head),
            values: vec![Lane::ZERO; strip.values.len()],
        };
        self.isa.run(Widen {
            from: &strip.values,
            to: &mut plain.values,
        });
        plain
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

    /// All layers of a fragment of this shape, in the frame.
    pub fn plain_layers(&self, kv: &KvFragment) -> Vec<PlainLayer> {
        let KvShape {
            n_layers,
            n_kv_heads,
            head_dim,
        } = self.shape;
        let of_layer = |layer: usize| {
            let heads = (0..n_kv_heads).map(|kv_head| self.plain(kv, layer, kv_head));
            let heads: Vec<PlainStrip> = heads.collect();
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for token in 0..kv.n_tokens {
                for head in &heads {
                    let tile = &head.keys[token / WIDTH * head_dim..][..head_dim];
                    keys.extend(tile.iter().map(|dimension| dimension.0[token % WIDTH]));
                    values.extend(&head.values()[token * head_dim..][..head_dim]);
                }
            }
            PlainLayer { keys, values }
        };
        (0..n_layers).map(of_layer).collect()
    }

    /// The fragment that these layers are, the first token rotated at `base`. `None` if they are not as long as
    /// this model's of so many tokens, or a number is not finite in f16.
    pub fn fragment(
        &self,
        layers: &[PlainLayer],
        base: u32,
        n_tokens: usize,
    ) -> Option<KvFragment> {
        let KvShape {
            n_layers,
            n_kv_heads,
            head_dim,
        } = self.shape;
        let width = n_kv_heads * head_dim;
        let has_its_length = |numbers: &[f32]| numbers.len() == n_tokens * width;
        let are_whole =
            |layer: &PlainLayer| has_its_length(&layer.keys) && has_its_length(&layer.values);
        if layers.len() != n_layers || !layers.iter().all(are_whole) {
            return None;
        }
        let mut strips = Vec::with_capacity(n_layers * n_kv_heads);
        for (number, layer) in layers.iter().enumerate() {
            for kv_head in 0..n_kv_heads {
                let mut plain = PlainStrip {
                    keys: vec![Lane::ZERO; n_tokens.div_ceil(WIDTH) * head_dim],
                    values: Vec::with_capacity(n_tokens * head_dim / WIDTH),
                };
                for token in 0..n_tokens {
                    let first = token * width + kv_head * head_dim;
                    let tile = &mut plain.keys[token / WIDTH * head_dim..][..head_dim];
                    for (dimension, x) in tile.iter_mut().zip(&layer.keys[first..]) {
                        dimension.0[token % WIDTH] = *x;
                    }
                    let value = layer.values[first..first + head_dim].as_chunks().0;
                    plain.values.extend(value.iter().map(|lane| Lane(*lane)));
                }
                strips.push(self.strip(&plain, base, n_tokens, number, kv_head)?);
            }
        }
        Some(KvFragment {
            shape: self.shape,
            base,
            n_tokens,
            strips,
        })
    }

    /// What stands in the frame as it is stored, the first token rotated at `base`. `None` if a
    /// number is not finite in f16.
    pub(crate) fn strip(
        &self,
        plain: &PlainStrip,
        base: u32,
        n_tokens: usize,
        layer: usize,
        kv_head: usize,
    ) -> Option<Strip> {
        let mut strip = Strip {
            keys: vec![Halves::ZERO; plain.keys.len()],
            values: vec![Halves::ZERO; plain.values.len()],
        };
        self.isa.run(Place {
            rope: self.ropes.of_layer(layer),
            base,
            bias: self.bias(layer, kv_head),
            head_dim: self.shape.head_dim,
            from: &plain.keys,
            to: &mut strip.keys,
        });
        self.isa.run(Narrow {
            from: &plain.values,
            to: &mut strip.values,
        });
        let n_in_last = n_tokens % WIDTH;
        if n_in_last > 0 {
            let last = strip.keys.len() - self.shape.head_dim;
            for dimension in &mut strip.keys[last..] {
                dimension.0[n_in_last..].fill(0);
            }
        }
        let mut halves = strip.keys.iter().chain(&strip.values);
        halves.all(are_finite).then_some(strip)
    }
}

/// A bias that is added or taken off, where there is one.
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

/// Adds the bias to keys, and turns them to their positions.
struct Place<'a> {
    rope: &'a Rope,
    base: u32,
    bias: &'a [f32],
    head_dim: usize,
    from: &'a [Lane],
    to: &'a mut [Halves],
}

impl Kernel for Place<'_> {
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
                let low = l.add(l.load(&from[i]), l.splat(bias_at(self.bias, i)));
                let high = l.splat(bias_at(self.bias, half + i));
                let high = l.add(l.load(&from[half + i]), high);
                let (cos, sin) = (l.load(&cos[i]), l.load(&sin[i]));
                let turned = l.sub(l.mul(low, cos), l.mul(high, sin));
                l.store_f16(turned, &mut to[i]);
                let turned = l.fma(high, cos, l.mul(low, sin));
                l.store_f16(turned, &mut to[half + i]);
            }
        }
    }
}

/// f16 to f32.
struct Widen<'a> {
    from: &'a [Halves],
    to: &'a mut [Lane],
}

impl Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for (from, to) in self.from.iter().zip(self.to) {
            l.store(l.load_f16(from), to);
        }
    }
}

/// f32 to f16, ties to even.
struct Narrow<'a> {
    from: &'a [Lane],
    to: &'a mut [Halves],
}

impl Kernel for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for (from, to) in self.from.iter().zip(self.to) {
            l.store_f16(l.load(from), to);
        }
    }
}
