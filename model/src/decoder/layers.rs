//! The weights of a decoder, checked against its configuration and packed.

use crate::activations::panels_of;
use crate::arithmetic::Arithmetic;
use crate::config::ModelConfig;
use crate::error::Error;
use crate::lanes::{Lane, WIDTH, numbers};
use crate::matmul::PackedMatrix;
use crate::quant::dequantize;
use crate::weights::{RawTensor, TensorSource};

/// Weights of one layer. Vectors over activations are one lane a panel.
pub(super) struct Layer {
    pub attn_norm: Vec<Lane>,
    pub query: PackedMatrix,
    pub key: PackedMatrix,
    pub value: PackedMatrix,
    /// Biases of query, key and value.
    pub biases: Option<[Vec<Lane>; 3]>,
    /// Norms of each head's query and key.
    pub head_norms: Option<[Vec<f32>; 2]>,
    pub attn_output: PackedMatrix,
    pub ffn_norm: Vec<Lane>,
    pub gate: PackedMatrix,
    pub up: PackedMatrix,
    pub down: PackedMatrix,
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
        let total = names(config)
            .iter()
            .filter_map(|name| source.tensor(name))
            .map(|t| t.bytes.len() as u64)
            .sum();
        let mut reader = Reader {
            source,
            arithmetic,
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
                Ok(Layer {
                    attn_norm: reader.lanes(&name("attn_norm.weight"), c.d_model, |n| n)?,
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
                    head_norms: match c.qk_norm {
                        true => Some([
                            reader.vector(&name("attn_q_norm.weight"), c.head_dim)?,
                            reader.vector(&name("attn_k_norm.weight"), c.head_dim)?,
                        ]),
                        false => None,
                    },
                    attn_output: reader.matrix(
                        &name("attn_output.weight"),
                        [c.d_model, q],
                        |n| n,
                    )?,
                    ffn_norm: reader.lanes(&name("ffn_norm.weight"), c.d_model, |n| n)?,
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
            output_norm: reader.lanes("output_norm.weight", c.d_model, |n| n)?,
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
    if c.n_vocab == 0 || c.d_model == 0 || c.d_ff == 0 || c.n_layers == 0 {
        return refuse("a size", 0, "at least 1");
    }
    Ok(())
}

/// The stored row that belongs at output `n` of the query or key projection. GGUF stores
/// Llama's rows so that pairs `2i, 2i + 1` rotate together; here `i, i + head_dim / 2` do.
fn rotation_row(c: &ModelConfig, n: usize) -> usize {
    if !c.interleaved_rope_rows {
        return n;
    }
    let (head, i, half) = (n / c.head_dim, n % c.head_dim, c.head_dim / 2);
    head * c.head_dim + 2 * (i % half) + i / half
}

fn names(c: &ModelConfig) -> Vec<String> {
    let mut names: Vec<String> = ["token_embd.weight", "output_norm.weight"]
        .map(str::to_owned)
        .to_vec();
    if !c.tied_embeddings {
        names.push("output.weight".to_owned());
    }
    for i in 0..c.n_layers {
        let parts = [
            "attn_norm",
            "ffn_norm",
            "attn_q",
            "attn_k",
            "attn_v",
            "attn_output",
        ];
        let parts = parts.iter().chain(&["ffn_gate", "ffn_up", "ffn_down"]);
        names.extend(parts.map(|part| format!("blk.{i}.{part}.weight")));
    }
    names
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
        let packed = PackedMatrix::pack(self.raw(name, shape)?, row_of);
        Ok(packed.in_arithmetic(self.arithmetic))
    }

    fn vector(&mut self, name: &str, n: usize) -> Result<Vec<f32>, Error> {
        let raw = self.raw(name, [1, n])?;
        Ok(dequantize(raw.encoding, raw.bytes))
    }

    fn lanes(
        &mut self,
        name: &str,
        n: usize,
        element_of: impl Fn(usize) -> usize,
    ) -> Result<Vec<Lane>, Error> {
        let vector = self.vector(name, n)?;
        let mut lanes = vec![Lane::ZERO; panels_of(n)];
        for i in 0..n {
            lanes[i / WIDTH].0[i % WIDTH] = vector[element_of(i)];
        }
        Ok(lanes)
    }
}
