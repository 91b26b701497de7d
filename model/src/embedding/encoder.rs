//! A BERT encoder over the decoder's own kernels.
//!
//! The kernels' contract (a row's bits depend on that row and the weights only) is what
//! makes batches possible here: the rows of several texts are multiplied together, and
//! each text's vector is still that of the text alone. All else is computed per row or
//! per text, in an order fixed by the text.

use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};

use super::attention::attend;
use super::config::Config;
use super::pointwise::{Gelu, LayerNorm};
use crate::activations::{Activations, panels_of};
use crate::lanes::{Isa, Lane, WIDTH};
use crate::matmul::{PackedMatrix, Product, multiply};
use crate::quant::dequantize;
use crate::weights::{Encoding, RawTensor};

/// Rows of one batch, as far as whole texts allow: enough to use every weight that was
/// brought into cache many times.
const BATCH_ROWS: usize = 256;

/// A loaded encoder.
pub(super) struct Encoder {
    isa: Isa,
    width: usize,
    n_heads: usize,
    /// `[n_vocab][width]`.
    words: Vec<f32>,
    /// `[n_positions][width]`.
    positions: Vec<f32>,
    /// Of the one kind of text that is encoded here: `[width]`.
    kind: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    out_norm: Norm,
    up: Linear,
    down: Linear,
    down_norm: Norm,
}

struct Linear {
    weights: PackedMatrix,
    bias: Vec<Lane>,
}

struct Norm {
    scale: Vec<Lane>,
    shift: Vec<Lane>,
    eps: f32,
}

impl Encoder {
    /// Takes the weights out of a safetensors file.
    pub(super) fn load(file: &[u8], config: &Config) -> Result<Self, String> {
        let head_dim = config.hidden_size / config.num_attention_heads;
        if !head_dim.is_multiple_of(WIDTH) {
            return Err(format!(
                "heads of {head_dim}; multiples of {WIDTH} are supported"
            ));
        }
        let tensors = SafeTensors::deserialize(file).map_err(|error| error.to_string())?;
        let names = Names {
            tensors: &tensors,
            prefix: prefix(&tensors),
            config,
        };
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let table = |name: &str, n_rows: usize| {
            names.floats(
                &format!("embeddings.{name}_embeddings.weight"),
                [n_rows, width],
            )
        };
        let layers = (0..config.num_hidden_layers)
            .map(|i| {
                let name = |part: &str| format!("encoder.layer.{i}.{part}");
                let own = |part: &str| {
                    names.linear(&name(&format!("attention.self.{part}")), width, width)
                };
                Ok(Layer {
                    query: own("query")?,
                    key: own("key")?,
                    value: own("value")?,
                    out: names.linear(&name("attention.output.dense"), width, width)?,
                    out_norm: names.norm(&name("attention.output.LayerNorm"))?,
                    up: names.linear(&name("intermediate.dense"), inner, width)?,
                    down: names.linear(&name("output.dense"), width, inner)?,
                    down_norm: names.norm(&name("output.LayerNorm"))?,
                })
            })
            .collect::<Result<_, String>>()?;
        let mut kind = table("token_type", config.type_vocab_size)?;
        kind.truncate(width);
        Ok(Self {
            isa: Isa::best(),
            width,
            n_heads: config.num_attention_heads,
            words: table("word", config.vocab_size)?,
            positions: table("position", config.max_position_embeddings)?,
            kind,
            norm: names.norm("embeddings.LayerNorm")?,
            layers,
        })
    }

    /// The mean over the tokens of each text's last hidden states, on the current pool.
    /// Tokens are below the vocabulary's size, texts no longer than the positions.
    pub(super) fn means(&self, texts: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let mut batches = Vec::new();
        let mut rest = texts;
        while !rest.is_empty() {
            let mut n_rows = 0;
            let n_texts = rest
                .iter()
                .take_while(|text| {
                    let is_open = n_rows < BATCH_ROWS;
                    n_rows += text.len();
                    is_open
                })
                .count();
            let (batch, later) = rest.split_at(n_texts);
            batches.push(batch);
            rest = later;
        }
        batches
            .into_par_iter()
            .flat_map_iter(|batch| self.batch_means(batch))
            .collect()
    }

    fn batch_means(&self, texts: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let n_rows = texts.iter().map(Vec::len).sum();
        let mut x = Activations::zeros(n_rows, self.width);
        let mut row = 0;
        for text in texts {
            for (position, &token) in text.iter().enumerate() {
                x.set_row(row, &self.embed(token, position));
                row += 1;
            }
        }
        self.norm.apply(self.isa, &mut x, self.width);
        for layer in &self.layers {
            layer.run(self, texts, &mut x);
        }
        let mut row = 0;
        texts
            .iter()
            .map(|text| {
                let rows = row..row + text.len();
                row = rows.end;
                let mut sum = vec![0.0; self.width];
                let mut one = vec![0.0; self.width];
                for row in rows {
                    x.read_row(row, 0, &mut one);
                    sum.iter_mut().zip(&one).for_each(|(sum, x)| *sum += x);
                }
                sum.iter_mut().for_each(|x| *x /= text.len().max(1) as f32);
                sum
            })
            .collect()
    }

    fn embed(&self, token: u32, position: usize) -> Vec<f32> {
        let row = |table: &[f32], i: usize| table[i * self.width..][..self.width].to_vec();
        let mut out = row(&self.words, token as usize);
        let position = row(&self.positions, position);
        for ((x, kind), position) in out.iter_mut().zip(&self.kind).zip(position) {
            *x = (*x + kind) + position;
        }
        out
    }
}

impl Layer {
    fn run(&self, encoder: &Encoder, texts: &[Vec<u32>], x: &mut Activations) {
        let (isa, width) = (encoder.isa, encoder.width);
        let zeros = |n_columns| Activations::zeros(x.n_rows(), n_columns);
        let (mut q, mut k, mut v) = (zeros(width), zeros(width), zeros(width));
        let mut mixed = zeros(width);
        let mut inner = zeros(self.up.weights.n_out());

        multiply(
            isa,
            x,
            vec![
                self.query.product(&mut q, false),
                self.key.product(&mut k, false),
                self.value.product(&mut v, false),
            ],
        );
        let mut row = 0;
        for text in texts {
            let rows = row..row + text.len();
            row = rows.end;
            attend(isa, (&q, &k, &v), rows, encoder.n_heads, &mut mixed);
        }
        multiply(isa, &mixed, vec![self.out.product(x, true)]);
        self.out_norm.apply(isa, x, width);

        multiply(isa, x, vec![self.up.product(&mut inner, false)]);
        isa.run(Gelu {
            x: inner.lanes_mut(),
        });
        multiply(isa, &inner, vec![self.down.product(x, true)]);
        self.down_norm.apply(isa, x, width);
    }
}

impl Linear {
    fn product<'a>(&'a self, out: &'a mut Activations, add: bool) -> Product<'a> {
        Product {
            weights: &self.weights,
            bias: Some(&self.bias),
            out,
            add: add.then_some(1.0),
        }
    }
}

impl Norm {
    fn apply(&self, isa: Isa, x: &mut Activations, n_columns: usize) {
        let Self { scale, shift, eps } = self;
        isa.run(LayerNorm {
            x,
            scale,
            shift,
            n_columns,
            eps: *eps,
        });
    }
}

/// Some files keep the encoder under a name of its own.
fn prefix(tensors: &SafeTensors<'_>) -> &'static str {
    match tensors.tensor("bert.embeddings.word_embeddings.weight") {
        Ok(_) => "bert.",
        Err(_) => "",
    }
}

/// The file's tensors, each checked for its shape.
struct Names<'a> {
    tensors: &'a SafeTensors<'a>,
    prefix: &'static str,
    config: &'a Config,
}

impl Names<'_> {
    fn raw(&self, name: &str, expected: [usize; 2]) -> Result<RawTensor<'_>, String> {
        let name = format!("{}{name}", self.prefix);
        let view = self
            .tensors
            .tensor(&name)
            .map_err(|error| error.to_string())?;
        let encoding = match view.dtype() {
            Dtype::F32 => Encoding::F32,
            Dtype::F16 => Encoding::F16,
            Dtype::BF16 => Encoding::BF16,
            other => return Err(format!("tensor `{name}` is {other:?}; F32, F16, BF16 open")),
        };
        let is_as_expected = match *view.shape() {
            [n] => [1, n] == expected,
            [n_rows, n_columns] => [n_rows, n_columns] == expected,
            _ => false,
        };
        if !is_as_expected {
            return Err(format!(
                "tensor `{name}` is {:?}, expected {expected:?}",
                view.shape()
            ));
        }
        Ok(RawTensor {
            encoding,
            shape: expected,
            bytes: view.data(),
        })
    }

    fn floats(&self, name: &str, shape: [usize; 2]) -> Result<Vec<f32>, String> {
        let raw = self.raw(name, shape)?;
        Ok(dequantize(raw.encoding, raw.bytes))
    }

    fn lanes(&self, name: &str, n: usize) -> Result<Vec<Lane>, String> {
        let values = self.floats(name, [1, n])?;
        let mut lanes = vec![Lane::ZERO; panels_of(n)];
        for (lane, values) in lanes.iter_mut().zip(values.chunks(WIDTH)) {
            lane.0[..values.len()].copy_from_slice(values);
        }
        Ok(lanes)
    }

    fn linear(&self, name: &str, n_out: usize, n_in: usize) -> Result<Linear, String> {
        let weights =
            PackedMatrix::pack(self.raw(&format!("{name}.weight"), [n_out, n_in])?, |n| n);
        Ok(Linear {
            weights,
            bias: self.lanes(&format!("{name}.bias"), n_out)?,
        })
    }

    fn norm(&self, name: &str) -> Result<Norm, String> {
        let width = self.config.hidden_size;
        Ok(Norm {
            scale: self.lanes(&format!("{name}.weight"), width)?,
            shift: self.lanes(&format!("{name}.bias"), width)?,
            eps: self.config.layer_norm_eps as f32,
        })
    }
}
