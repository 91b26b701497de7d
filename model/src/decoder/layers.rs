//! The weights of a decoder, checked against its configuration and packed.

use crate::activations::panels_of;
use crate::arithmetic::Arithmetic;
use crate::config::{ModelConfig, QkNorm, RopeScaling};
use crate::error::Error;
use crate::lanes::{Lane, WIDTH, numbers};
use crate::matmul::PackedMatrix;
use crate::quant::dequantize;
use crate::weights::{RawTensor, TensorSource, demands};

/// Weights of one layer. Vectors over activations are one lane a panel.
pub(super) struct Layer {
    /// Norm of what attention reads.
    pub attn_norm: Option<Vec<Lane>>,
    /// Norm of what attention adds.
    pub attn_post_norm: Option<Vec<Lane>>,
    pub query: PackedMatrix,
    pub key: PackedMatrix,
    pub value: PackedMatrix,
    /// Biases of query, key and value.
    pub biases: Option<[Vec<Lane>; 3]>,
    pub qk_norms: QkNorms,
    pub attn_output: PackedMatrix,
    /// Norm of what the feed-forward reads.
    pub ffn_norm: Option<Vec<Lane>>,
    /// Norm of what the feed-forward adds.
    pub ffn_post_norm: Option<Vec<Lane>>,
    pub gate: PackedMatrix,
    pub up: PackedMatrix,
    pub down: PackedMatrix,
}

/// Norms of queries and keys, in this order.
pub(super) enum QkNorms {
    None,
    /// The weights of one head.
    EachHead([Vec<f32>; 2]),
    /// Those of all heads.
    AllHeads([Vec<Lane>; 2]),
}

/// All weights.
pub(super) struct Layers {
    pub embedding: PackedMatrix,
    pub layers: Vec<Layer>,
    pub output_norm: Vec<Lane>,
    /// `None` where the embedding serves.
    pub output: Option<PackedMatrix>,
}

/// Reads tensors, counting the bytes that are done.
struct Reader<'a> {
    source: &'a dyn TensorSource,
    arithmetic: Arithmetic,
    /// What is added to the weights of norms.
    norm_offset: f32,
    done: u64,
    total: u64,
    progress: &'a mut (dyn FnMut(u64, u64) + Send),
}

impl Layers {
    /// Packs all weights on the current thread pool.
    pub fn load(
        config: &ModelConfig,
        source: &dyn TensorSource,
        arithmetic: Arithmetic,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Self, Error> {
        check(config)?;
        let total = demands(config)
            .iter()
            .filter_map(|(name, _)| source.tensor(name))
            .map(|t| t.bytes.len() as u64)
            .sum();
        let mut reader = Reader {
            source,
            arithmetic,
            norm_offset: if config.norms_less_one { 1.0 } else { 0.0 },
            done: 0,
            total,
            progress,
        };
        let c = config;
        let (q, kv) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
        let layers = (0..c.n_layers)
            .map(|i| {
                let name = |part: &str| format!("blk.{i}.{part}");
                let rotated = |n: usize| rotation_row(c, n);
                let (before, after) = (c.norms.are_before(), c.norms.are_after());
                Ok(Layer {
                    attn_norm: reader.block_norm(before, &name("attn_norm.weight"), c.d_model)?,
                    attn_post_norm: reader.block_norm(
                        after,
                        &name("post_attention_norm.weight"),
                        c.d_model,
                    )?,
                    query: reader.matrix(&name("attn_q.weight"), [q, c.d_model], rotated)?,
                    key: reader.matrix(&name("attn_k.weight"), [kv, c.d_model], rotated)?,
                    value: reader.matrix(&name("attn_v.weight"), [kv, c.d_model], |n| n)?,
                    biases: match c.qkv_bias {
                        true => Some([
                            reader.lanes(&name("attn_q.bias"), q, rotated)?,
                            reader.lanes(&name("attn_k.bias"), kv, rotated)?,
                            reader.lanes(&name("attn_v.bias"), kv, |n| n)?,
                        ]),
                        false => None,
                    },
                    qk_norms: reader.qk_norms(c, name)?,
                    attn_output: reader.matrix(
                        &name("attn_output.weight"),
                        [c.d_model, q],
                        |n| n,
                    )?,
                    ffn_norm: reader.block_norm(before, &name("ffn_norm.weight"), c.d_model)?,
                    ffn_post_norm: reader.block_norm(
                        after,
                        &name("post_ffw_norm.weight"),
                        c.d_model,
                    )?,
                    gate: reader.matrix(&name("ffn_gate.weight"), [c.d_ff, c.d_model], |n| n)?,
                    up: reader.matrix(&name("ffn_up.weight"), [c.d_ff, c.d_model], |n| n)?,
                    down: reader.matrix(&name("ffn_down.weight"), [c.d_model, c.d_ff], |n| n)?,
                })
            })
            .collect::<Result<_, Error>>()?;
        let table = [c.n_vocab, c.d_model];
        Ok(Self {
            embedding: reader.matrix("token_embd.weight", table, |n| n)?,
            layers,
            output_norm: reader.norm("output_norm.weight", c.d_model, |n| n)?,
            output: match c.tied_embeddings {
                true => None,
                false => Some(reader.matrix("output.weight", table, |n| n)?),
            },
        })
    }

    /// The output projection.
    pub fn head(&self) -> &PackedMatrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    /// The biases of all key projections, `[n_layers][n_kv_heads][head_dim]`; empty where there
    /// are none.
    pub fn key_biases(&self, config: &ModelConfig) -> Vec<f32> {
        let n = config.n_kv_heads * config.head_dim;
        let biases = self.layers.iter().filter_map(|l| l.biases.as_ref());
        let of_keys = biases.flat_map(|[_, key, _]| numbers(key).iter().take(n));
        of_keys.copied().collect()
    }

    /// Bytes of all matrices.
    pub fn n_bytes(&self) -> usize {
        let of_layer = |l: &Layer| {
            [
                &l.query,
                &l.key,
                &l.value,
                &l.attn_output,
                &l.gate,
                &l.up,
                &l.down,
            ]
            .map(PackedMatrix::n_bytes)
            .iter()
            .sum::<usize>()
        };
        let output = self.output.as_ref().map_or(0, PackedMatrix::n_bytes);
        self.layers.iter().map(of_layer).sum::<usize>() + self.embedding.n_bytes() + output
    }
}

/// Refuses shapes that the kernels do not have.
fn check(c: &ModelConfig) -> Result<(), Error> {
    let refuse = |what, got: usize, expected| {
        Err(Error::UnsupportedShape {
            what,
            got,
            expected,
        })
    };
    if c.head_dim == 0 || !c.head_dim.is_multiple_of(WIDTH) {
        return refuse("head_dim", c.head_dim, "a multiple of 16");
    }
    if c.n_kv_heads == 0 || !c.n_heads.is_multiple_of(c.n_kv_heads) || c.n_heads == 0 {
        return refuse("n_heads", c.n_heads, "a multiple of n_kv_heads");
    }
    let rotated = c.rotated_dims;
    if rotated == 0 || rotated > c.head_dim || !rotated.is_multiple_of(2) {
        return refuse("rotated_dims", rotated, "an even part of head_dim");
    }
    if let RopeScaling::Divisors { divisors, .. } = &c.rope_scaling
        && divisors.len() != rotated / 2
    {
        return refuse("rope divisors", divisors.len(), "one a rotated pair");
    }
    if c.n_vocab == 0 || c.d_model == 0 || c.d_ff == 0 || c.n_layers == 0 {
        return refuse("a size", 0, "at least 1");
    }
    Ok(())
}

/// The dimension of a head that stands at `n` here, in the order in which models mean them. Halves
/// rotate here (`i, i + head_dim / 2`); where only the first dimensions are rotated, the first of each
/// half are these, and the others follow them.
pub(super) fn natural_dimension(c: &ModelConfig, n: usize) -> usize {
    let (half, rotated) = (c.head_dim / 2, c.rotated_dims / 2);
    let (i, is_upper) = (n % half, n / half);
    match i < rotated {
        true => i + is_upper * rotated,
        false => i + rotated + is_upper * (half - rotated),
    }
}

/// The same of all heads side by side.
fn natural_row(c: &ModelConfig, n: usize) -> usize {
    n / c.head_dim * c.head_dim + natural_dimension(c, n % c.head_dim)
}

/// The stored row that belongs at output `n` of the query or key projection. GGUF stores
/// Llama's rows so that pairs `2i, 2i + 1` rotate together.
fn rotation_row(c: &ModelConfig, n: usize) -> usize {
    let natural = natural_row(c, n);
    let (head, i, rotated) = (
        natural / c.head_dim,
        natural % c.head_dim,
        c.rotated_dims / 2,
    );
    if !c.interleaved_rope_rows || i >= c.rotated_dims {
        return natural;
    }
    head * c.head_dim + 2 * (i % rotated) + i / rotated
}

impl Reader<'_> {
    fn raw(&mut self, name: &str, expected: [usize; 2]) -> Result<RawTensor<'_>, Error> {
        let raw = self
            .source
            .tensor(name)
            .ok_or_else(|| Error::AbsentTensor {
                name: name.to_owned(),
            })?;
        if raw.shape != expected || raw.encoding.bytes_of(raw.shape) != Some(raw.bytes.len()) {
            return Err(Error::UnfitTensor {
                name: name.to_owned(),
                expected,
                got: raw.shape,
                n_bytes: raw.bytes.len(),
            });
        }
        self.done += raw.bytes.len() as u64;
        (self.progress)(self.done.min(self.total), self.total);
        Ok(raw)
    }

    fn matrix(
        &mut self,
        name: &str,
        shape: [usize; 2],
        row_of: impl Fn(usize) -> usize + Sync,
    ) -> Result<PackedMatrix, Error> {
        let packed = PackedMatrix::pack(self.raw(name, shape)?, &row_of);
        if let Some(output) = packed.unfit_scale() {
            return Err(Error::UnfitScale {
                name: name.to_owned(),
                row: row_of(output),
            });
        }
        Ok(packed.in_arithmetic(self.arithmetic))
    }

    fn vector(&mut self, name: &str, n: usize) -> Result<Vec<f32>, Error> {
        let raw = self.raw(name, [1, n])?;
        Ok(dequantize(raw.encoding, raw.bytes))
    }

    /// The norm of a block, if the model has it.
    fn block_norm(
        &mut self,
        is_there: bool,
        name: &str,
        n: usize,
    ) -> Result<Option<Vec<Lane>>, Error> {
        is_there.then(|| self.norm(name, n, |n| n)).transpose()
    }

    fn qk_norms(
        &mut self,
        c: &ModelConfig,
        name: impl Fn(&str) -> String,
    ) -> Result<QkNorms, Error> {
        let names = ["attn_q_norm.weight", "attn_k_norm.weight"].map(name);
        let [query, key] = &names;
        let mut of_head = |name: &str| -> Result<Vec<f32>, Error> {
            let weights = self.norm_weights(name, c.head_dim)?;
            let dimensions = 0..c.head_dim;
            Ok(dimensions
                .map(|n| weights[natural_dimension(c, n)])
                .collect())
        };
        Ok(match c.qk_norm {
            QkNorm::None => QkNorms::None,
            QkNorm::EachHead => QkNorms::EachHead([of_head(query)?, of_head(key)?]),
            QkNorm::AllHeads => {
                let row = |n| natural_row(c, n);
                QkNorms::AllHeads([
                    self.norm(query, c.n_heads * c.head_dim, row)?,
                    self.norm(key, c.n_kv_heads * c.head_dim, row)?,
                ])
            }
        })
    }

    /// The weights of a norm, in lanes.
    fn norm(
        &mut self,
        name: &str,
        n: usize,
        element_of: impl Fn(usize) -> usize,
    ) -> Result<Vec<Lane>, Error> {
        let weights = self.norm_weights(name, n)?;
        Ok(in_lanes(&weights, element_of))
    }

    fn norm_weights(&mut self, name: &str, n: usize) -> Result<Vec<f32>, Error> {
        let mut weights = self.vector(name, n)?;
        weights.iter_mut().for_each(|x| *x += self.norm_offset);
        Ok(weights)
    }

    fn lanes(
        &mut self,
        name: &str,
        n: usize,
        element_of: impl Fn(usize) -> usize,
    ) -> Result<Vec<Lane>, Error> {
        let vector = self.vector(name, n)?;
        Ok(in_lanes(&vector, element_of))
    }
}

/// A vector in lanes: at place `n` its element `element_of(n)`.
fn in_lanes(vector: &[f32], element_of: impl Fn(usize) -> usize) -> Vec<Lane> {
    let mut lanes = vec![Lane::ZERO; panels_of(vector.len())];
    for n in 0..vector.len() {
        lanes[n / WIDTH].0[n % WIDTH] = vector[element_of(n)];
    }
    lanes
}
