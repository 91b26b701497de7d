//! Along what do keys and values of one model vary?
//!
//! # Design
//! The heads of all layers, layer by layer, are cut into groups: two layers of three heads, say, or a part of one
//! wide layer. All keys and values of a token in a group are one vector: both are projections of one hidden state, and
//! so are nearly those of the next layer. A basis has the mean of these vectors and the eigenvectors of their
//! covariance, over texts that the model has read.
//!
//! It is as large as some thousand tokens of KV, and fitted to one text it would have to travel with it. So it is
//! not a part of what is coded. It follows from the model and the texts, to the bit, and whoever has both learns
//! it: that takes the time of reading the texts, and some seconds.
//!
//! What an error costs differs between dimensions. A score changes with a key as far as queries go that way: so keys
//! are weighed by the mean square of the queries that meet them, of both dimensions of a pair that rotation turns
//! into each other. Of what a head gives, the part counts: so values are weighed by the inverse of how far they go
//! in their head. Weighed so, an error is worth the same wherever it is.

use std::ops::Range;

use rayon::prelude::*;

use super::axes::axes;
use crate::cancel::Cancel;
use crate::decoder::{Decoder, QueryHead};
use crate::dot::{Rows, Vectors, products};
use crate::error::Error;
use crate::kv::frame::{KeyFrame, PlainStrip};
use crate::kv::{KvFragment, KvShape};
use crate::lanes::{Lane, WIDTH};
use crate::layout::Layout;

/// Dimensions of a vector, at most, but for heads that are wider: eigenvectors take the cube of them.
const GROUP_WIDTH: usize = 768;
/// Tokens for each of them, at least, for axes to be more than chance.
const TOKENS_EACH: usize = 2;
/// No weight is nearer to nothing, since numbers are divided by it again.
const LEAST_WEIGHT: f64 = 1e-3;

/// Why there is no basis.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BasisError {
    /// The model refuses a text, or fails.
    #[error(transparent)]
    Model(#[from] Error),
    /// Too little to learn from.
    #[error(
        "codings across layers of this model are learnt from {needed} tokens; the texts have {got}"
    )]
    TooFew {
        /// Tokens that came.
        got: usize,
        /// Tokens that are needed.
        needed: usize,
    },
    /// Numbers that are not finite.
    #[error("keys or values of this model are not finite: it has no coding across layers")]
    NotFinite,
}

/// What the keys and values of one model vary along.
pub struct Basis {
    groups: Vec<Group>,
    /// Of all axes, in the order of coding.
    deviations: Vec<f32>,
    digest: [u8; 32],
}

/// The keys and values of some heads.
struct Group {
    /// Their numbers, layer by layer.
    heads: Range<usize>,
    mean: Vec<f32>,
    weights: Vec<f32>,
    /// One axis a slot, the one that vectors go furthest along first.
    axes: Vectors,
    /// The same turned: one dimension of vectors a slot.
    dimensions: Vectors,
    slots: Vec<u32>,
}

impl std::fmt::Debug for Basis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digest = blake3::Hash::from_bytes(self.digest).to_hex();
        f.debug_tuple("Basis").field(&digest.as_str()).finish()
    }
}

/// The groups of a shape's heads.
fn groups_of(shape: KvShape) -> impl Iterator<Item = Range<usize>> {
    let n_heads = shape.n_layers * shape.n_kv_heads;
    let together = (GROUP_WIDTH / (2 * shape.head_dim.max(1))).max(1);
    let firsts = (0..n_heads).step_by(together);
    firsts.map(move |first| first..(first + together).min(n_heads))
}

impl Basis {
    /// Learns the basis of a model by having it read texts behind `layout`, each by itself. What comes of it follows
    /// from the model, the layout and the texts, to the bit.
    ///
    /// # Errors
    /// [`BasisError`].
    pub fn learn(
        decoder: &Decoder,
        layout: &Layout,
        texts: &[&[u32]],
        cancel: &Cancel,
    ) -> Result<Self, BasisError> {
        let frame = decoder.key_frame();
        let shape = frame.shape();
        let needed = TOKENS_EACH * GROUP_WIDTH.max(2 * shape.head_dim);
        let got: usize = texts.iter().map(|text| text.len()).sum();
        if got < needed {
            return Err(BasisError::TooFew { got, needed });
        }
        let n_heads = decoder.config().n_heads;
        let heads = (0..shape.n_layers)
            .flat_map(|layer| (0..n_heads).map(move |head| QueryHead { layer, head }));
        let heads: Vec<QueryHead> = heads.collect();
        // Sums of squares of queries, of each dimension of each key head.
        let mut asked = vec![0f64; shape.n_layers * shape.n_kv_heads * shape.head_dim];
        let mut read_texts = Vec::new();
        for text in texts {
            // One by one: queries of all heads take far more than what is kept.
            let read = decoder.read(layout, &[text], &heads, shape.n_layers, cancel)?;
            for read in read {
                for (number, head) in heads.iter().enumerate() {
                    let kv_head = head.head / (n_heads / shape.n_kv_heads);
                    let first = (head.layer * shape.n_kv_heads + kv_head) * shape.head_dim;
                    let sums = &mut asked[first..][..shape.head_dim];
                    for query in read.queries.of_head(number).chunks_exact(shape.head_dim) {
                        let squares = query.iter().map(|x| f64::from(*x) * f64::from(*x));
                        sums.iter_mut().zip(squares).for_each(|(sum, x)| *sum += x);
                    }
                }
                read_texts.push(read.kv);
            }
        }
        let n_queries = (got * n_heads / shape.n_kv_heads) as f64;
        asked.iter_mut().for_each(|sum| *sum /= n_queries);
        Self::of_fragments(&read_texts, &asked, &frame)
    }

    /// Of what a model made of texts, and how far its queries go in each dimension of each key head.
    pub(in crate::kv::coding) fn of_fragments(
        texts: &[KvFragment],
        asked: &[f64],
        frame: &KeyFrame,
    ) -> Result<Self, BasisError> {
        let shape = frame.shape();
        let groups: Vec<Range<usize>> = groups_of(shape).collect();
        let learnt = groups.into_par_iter().map(|heads| {
            let rows = texts.iter().flat_map(|kv| rows(kv, frame, &heads));
            let rows: Vec<Vec<f32>> = rows.collect();
            let asked = &asked[heads.start * shape.head_dim..heads.end * shape.head_dim];
            let mut weights = key_weights(asked, shape);
            weights.extend(value_weights(&rows, heads.len(), shape));
            Group::learn(heads, &rows, &weights)
        });
        let learnt: Option<Vec<(Group, Vec<f32>)>> = learnt.collect();
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 transform basis");
        let (mut groups, mut deviations) = (Vec::new(), Vec::new());
        for (group, of_group) in learnt.ok_or(BasisError::NotFinite)? {
            group.hash(&of_group, &mut hash);
            deviations.extend(of_group);
            groups.push(group);
        }
        Ok(Self {
            groups,
            deviations,
            digest: *hash.finalize().as_bytes(),
        })
    }

    /// Names it: others have another one.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// How far texts went along each axis.
    pub(super) fn deviations(&self) -> &[f32] {
        &self.deviations
    }

    /// A fragment along the axes, `[n_tokens][n_axes]`.
    pub(super) fn along_axes(&self, kv: &KvFragment, frame: &KeyFrame) -> Vec<f32> {
        let n_axes = self.deviations.len();
        let mut numbers = vec![0f32; kv.n_tokens() * n_axes];
        let of_group = |group: &Group| group.along_axes(&rows(kv, frame, &group.heads));
        let along: Vec<Vec<f32>> = self.groups.par_iter().map(of_group).collect();
        let mut first = 0;
        for (group, along) in self.groups.iter().zip(&along) {
            let width = group.mean.len();
            for (to, from) in numbers
                .chunks_exact_mut(n_axes)
                .zip(along.chunks_exact(width))
            {
                to[first..first + width].copy_from_slice(from);
            }
            first += width;
        }
        numbers
    }

    /// All heads of a fragment that goes so far along the axes.
    pub(super) fn heads(
        &self,
        numbers: &[f32],
        n_tokens: usize,
        shape: KvShape,
    ) -> Vec<PlainStrip> {
        let firsts = self.groups.iter().scan(0, |first, group| {
            let next = *first + group.mean.len();
            Some(std::mem::replace(first, next))
        });
        let groups: Vec<(&Group, usize)> = self.groups.iter().zip(firsts).collect();
        let strips = groups.par_iter().flat_map_iter(|(group, first)| {
            let of_tokens = numbers.chunks_exact(self.deviations.len());
            let along = of_tokens.map(|token| &token[*first..][..group.mean.len()]);
            let vectors = group.vectors(along, n_tokens);
            let n_heads = group.heads.len();
            (0..n_heads).map(move |head| strip(&vectors, (head, n_heads), n_tokens, shape))
        });
        strips.collect()
    }
}

/// One of the heads that vectors hold, first the keys of all, then the values.
fn strip(
    vectors: &[f32],
    (head, n_heads): (usize, usize),
    n_tokens: usize,
    KvShape { head_dim, .. }: KvShape,
) -> PlainStrip {
    let mut strip = PlainStrip {
        keys: vec![Lane::ZERO; n_tokens.div_ceil(WIDTH) * head_dim],
        values: Vec::with_capacity(n_tokens * head_dim / WIDTH),
    };
    for (token, vector) in vectors.chunks_exact(2 * n_heads * head_dim).enumerate() {
        let (keys, values) = vector.split_at(n_heads * head_dim);
        let tile = &mut strip.keys[token / WIDTH * head_dim..][..head_dim];
        for (dimension, x) in tile.iter_mut().zip(&keys[head * head_dim..]) {
            dimension.0[token % WIDTH] = *x;
        }
        let value = values[head * head_dim..][..head_dim].as_chunks().0;
        strip.values.extend(value.iter().map(|lane| Lane(*lane)));
    }
    strip
}

/// Keys, then values, of some heads: one vector a token.
fn rows(kv: &KvFragment, frame: &KeyFrame, heads: &Range<usize>) -> Vec<Vec<f32>> {
    let KvShape {
        n_kv_heads,
        head_dim,
        ..
    } = kv.shape();
    let strips = heads.clone();
    let strips = strips.map(|head| frame.plain(kv, head / n_kv_heads, head % n_kv_heads));
    let strips: Vec<PlainStrip> = strips.collect();
    let of_token = |token: usize| {
        let mut row = Vec::with_capacity(2 * heads.len() * head_dim);
        for strip in &strips {
            let tile = &strip.keys[token / WIDTH * head_dim..][..head_dim];
            row.extend(tile.iter().map(|dimension| dimension.0[token % WIDTH]));
        }
        for strip in &strips {
            row.extend(&strip.values()[token * head_dim..][..head_dim]);
        }
        row
    };
    (0..kv.n_tokens()).map(of_token).collect()
}

/// How much an error of each dimension of keys counts, by the mean squares of queries.
fn key_weights(asked: &[f64], KvShape { head_dim, .. }: KvShape) -> Vec<f64> {
    let half = head_dim / 2;
    let of_head = |asked: &[f64]| -> Vec<f64> {
        (0..head_dim)
            .map(|i| f64::midpoint(asked[i % half], asked[half + i % half]).sqrt())
            .collect()
    };
    asked.chunks_exact(head_dim).flat_map(of_head).collect()
}

/// How much an error of each dimension of values counts, by how far they go in their head.
fn value_weights(rows: &[Vec<f32>], n_heads: usize, KvShape { head_dim, .. }: KvShape) -> Vec<f64> {
    let n = (rows.len() * head_dim) as f64;
    let of_head = |head: usize| {
        let first = (n_heads + head) * head_dim;
        let squares = rows.iter().flat_map(|row| &row[first..first + head_dim]);
        let squares: f64 = squares.map(|x| f64::from(*x) * f64::from(*x)).sum();
        vec![1.0 / (squares / n).sqrt().max(LEAST_WEIGHT); head_dim]
    };
    (0..n_heads).flat_map(of_head).collect()
}

impl Group {
    /// Of vectors, one a token, and what an error of their dimensions counts; and how far they go along its axes.
    /// `None` if a number is not finite.
    fn learn(heads: Range<usize>, rows: &[Vec<f32>], weights: &[f64]) -> Option<(Self, Vec<f32>)> {
        let (n, width) = (rows.len() as f64, rows.first()?.len());
        if !rows.iter().flatten().all(|x| x.is_finite()) {
            return None;
        }
        let mut mean = vec![0f64; width];
        for row in rows {
            mean.iter_mut()
                .zip(row)
                .for_each(|(sum, x)| *sum += f64::from(*x));
        }
        mean.iter_mut().for_each(|sum| *sum /= n);
        let weights: Vec<f64> = weights
            .iter()
            .map(|weight| weight.max(LEAST_WEIGHT))
            .collect();
        let mut covariance = vec![vec![0f64; width]; width];
        let mut weighed = vec![0f64; width];
        for row in rows {
            for (i, to) in weighed.iter_mut().enumerate() {
                *to = (f64::from(row[i]) - mean[i]) * weights[i];
            }
            for (i, sums) in covariance.iter_mut().enumerate() {
                let x = weighed[i];
                let of_row = sums[..=i].iter_mut().zip(&weighed);
                of_row.for_each(|(sum, y)| *sum += x * y);
            }
        }
        // The half that was summed up is the other half, turned.
        let half = covariance;
        let of = |i: usize, j: usize| half[i.max(j)][i.min(j)] / n;
        let covariance = (0..width).map(|i| (0..width).map(|j| of(i, j)).collect());
        let found = axes(covariance.collect())?;
        let narrowed = |numbers: &[f64]| numbers.iter().map(|x| *x as f32).collect();
        let mut group = Self {
            heads,
            mean: narrowed(&mean),
            weights: narrowed(&weights),
            axes: Vectors::default(),
            dimensions: Vectors::default(),
            slots: (0..width as u32).collect(),
        };
        for (slot, (_, axis)) in (0..).zip(&found) {
            group.axes.set(slot, axis.iter().map(|x| *x as f32));
        }
        for (dimension, slot) in (0..width as u32).enumerate() {
            let turned = found.iter().map(|(_, axis)| axis[dimension] as f32);
            group.dimensions.set(slot, turned);
        }
        let deviation = |(variance, _): &(f64, Vec<f64>)| variance.max(0.0).sqrt() as f32;
        Some((group, found.iter().map(deviation).collect()))
    }

    fn hash(&self, deviations: &[f32], hash: &mut blake3::Hasher) {
        let mut put = |numbers: &[f32]| {
            for x in numbers {
                hash.update(&x.to_bits().to_le_bytes());
            }
        };
        put(&self.mean);
        put(&self.weights);
        put(deviations);
        for slot in &self.slots {
            put(&self.axes.get(*slot).collect::<Vec<f32>>());
        }
    }

    /// Vectors along the axes, `[n_tokens][width]`.
    fn along_axes(&self, rows: &[Vec<f32>]) -> Vec<f32> {
        let weighed = rows.iter().map(|row| {
            let from_mean = row.iter().zip(&self.mean).zip(&self.weights);
            from_mean
                .map(|((x, mean), weight)| (x - mean) * weight)
                .collect::<Vec<f32>>()
        });
        turned(weighed, rows.len(), &self.axes, &self.slots)
    }

    /// The vectors that go so far along the axes, `[n_tokens][width]`.
    fn vectors<'a>(&self, along: impl Iterator<Item = &'a [f32]>, n_tokens: usize) -> Vec<f32> {
        let along = along.map(<[f32]>::to_vec);
        let mut vectors = turned(along, n_tokens, &self.dimensions, &self.slots);
        for vector in vectors.chunks_exact_mut(self.mean.len()) {
            for ((x, mean), weight) in vector.iter_mut().zip(&self.mean).zip(&self.weights) {
                *x = *x / weight + mean;
            }
        }
        vectors
    }
}

/// Inner products of `n` vectors with all of these.
fn turned(
    vectors: impl Iterator<Item = Vec<f32>>,
    n: usize,
    by: &Vectors,
    slots: &[u32],
) -> Vec<f32> {
    let mut of_tokens = Vectors::default();
    of_tokens.widen(by.width());
    for (slot, vector) in (0..).zip(vectors) {
        of_tokens.set(slot, vector.into_iter());
    }
    let tokens: Vec<u32> = (0..n as u32).collect();
    let mut out = vec![0f32; n * slots.len()];
    let rows = Rows {
        vectors: &of_tokens,
        slots: &tokens,
    };
    products(rows, Rows { vectors: by, slots }, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::{tiny, tiny_config};

    fn learnt(n_threads: usize, texts: &[&[u32]]) -> Result<Basis, BasisError> {
        let config = tiny_config();
        let weights = tiny(&config, 7);
        let decoder = Decoder::load(config, &weights, n_threads, &mut |_, _| {}).unwrap();
        Basis::learn(&decoder, &Layout::new(), texts, &Cancel::new())
    }

    #[test]
    fn the_same_texts_are_the_same_basis_and_others_another() {
        let text = |by: u32| -> Vec<u32> { (0..800).map(|t| t * by * (t / 7 + 1) % 96).collect() };
        let [a, b, c] = [3, 5, 11].map(text);
        let basis = learnt(1, &[&a, &b]).unwrap();
        assert_eq!(learnt(2, &[&a, &b]).unwrap().digest(), basis.digest());
        assert_ne!(learnt(1, &[&a, &c]).unwrap().digest(), basis.digest());
        // Of each group the axes that go furthest come first.
        let width = basis.groups[0].mean.len();
        assert!(basis.deviations[..width].is_sorted_by(|a, b| a >= b));
        assert!(basis.deviations[0] > 0.0);
    }

    #[test]
    fn too_little_to_learn_from_is_refused() {
        let text = vec![1; 100];
        let refused = learnt(1, &[&text]);
        assert!(
            matches!(
                refused,
                Err(BasisError::TooFew {
                    got: 100,
                    needed: 1536
                })
            ),
            "{refused:?}"
        );
    }

    #[test]
    fn heads_are_cut_into_groups_that_are_not_too_wide() {
        for (n_layers, n_kv_heads, head_dim) in [(30, 3, 64), (24, 2, 64), (3, 8, 128), (2, 1, 512)]
        {
            let shape = KvShape {
                n_layers,
                n_kv_heads,
                head_dim,
            };
            let groups: Vec<Range<usize>> = groups_of(shape).collect();
            assert!(
                groups
                    .iter()
                    .flat_map(Clone::clone)
                    .eq(0..n_layers * n_kv_heads)
            );
            let widest = groups.iter().map(|heads| 2 * heads.len() * head_dim).max();
            assert!(widest <= Some(GROUP_WIDTH.max(2 * head_dim)), "{shape:?}");
        }
    }
}
