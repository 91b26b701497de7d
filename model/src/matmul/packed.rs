//! One matrix of weights, repacked for the kernels; nothing of its precision is dropped.
//!
//! A row of the stored matrix is an output column here. Sixteen of them make a panel
//! (`codes` says how a panel of codes lies); panels are padded to whole pairs and k to whole
//! units with weights that are zero.

use half::f16;
use rayon::prelude::*;

use super::UNIT;
use super::codes::{Codes, read_codes, write_codes};
use crate::activations::panels_of;
use crate::arithmetic::Arithmetic;
use crate::lanes::{Bytes, Halves, Lane, WIDTH, Words};
use crate::quant::{Block, BlockFormat, ScaleRule, dequantize};
use crate::weights::{Encoding, RawTensor};

/// A matrix packed into panels of sixteen output columns.
pub(crate) struct PackedMatrix {
    pub(super) n_in: usize,
    pub(super) n_out: usize,
    pub(super) n_units: usize,
    /// What rows are rounded to where weights are codes.
    pub(super) arithmetic: Arithmetic,
    pub(super) store: Store,
}

/// The panels, one after the other.
pub(super) enum Store {
    F32(Vec<Lane>),
    F16(Vec<Halves>),
    BF16(Vec<Halves>),
    Codes(CodeStore),
}

/// Panels of codes; see [`Codes`].
pub(super) struct CodeStore {
    pub encoding: Encoding,
    pub format: BlockFormat,
    words: Vec<Words>,
    halves: Vec<Halves>,
    bytes: Vec<Bytes>,
}

/// Halves and bytes of one panel under a rule.
fn scale_counts(rule: ScaleRule, n_units: usize) -> (usize, usize) {
    match rule {
        ScaleRule::Offset { .. } => (n_units, 0),
        ScaleRule::Affine => (2 * n_units, 0),
        ScaleRule::Affine32 => (n_units / 4, 2 * n_units),
        ScaleRule::Affine16 => (n_units / 4, 4 * n_units),
        ScaleRule::Offset16 { .. } => (n_units / 8, 2 * n_units),
    }
}

impl CodeStore {
    /// Panel number `panel`.
    #[inline(always)]
    pub fn panel(&self, panel: usize, n_units: usize) -> Codes<'_> {
        let n_words = n_units * self.format.n_bits;
        let (n_halves, n_bytes) = scale_counts(self.format.rule, n_units);
        Codes {
            words: &self.words[panel * n_words..][..n_words],
            halves: &self.halves[panel * n_halves..][..n_halves],
            bytes: &self.bytes[panel * n_bytes..][..n_bytes],
        }
    }
}

impl PackedMatrix {
    /// Packs a stored matrix; output column `n` is its row `row_of(n)`. Runs on the
    /// current thread pool.
    pub fn pack(raw: RawTensor<'_>, row_of: impl Fn(usize) -> usize + Sync) -> Self {
        let [n_out, n_in] = raw.shape;
        let n_units = n_in.div_ceil(UNIT);
        let n_panels = panels_of(n_out);
        let row_bytes = raw.bytes.len() / n_out.max(1);
        let row = |n: usize| (n < n_out).then(|| &raw.bytes[row_of(n) * row_bytes..][..row_bytes]);
        let store = match raw.encoding.block_format() {
            Some(format) => Store::Codes(pack_codes(raw.encoding, format, n_units, n_panels, row)),
            None => match raw.encoding {
                Encoding::F16 => Store::F16(pack_halves(n_units, n_panels, row)),
                Encoding::BF16 => Store::BF16(pack_halves(n_units, n_panels, row)),
                _ => Store::F32(pack_floats(n_units, n_panels, row)),
            },
        };
        Self {
            n_in,
            n_out,
            n_units,
            arithmetic: Arithmetic::default(),
            store,
        }
    }

    /// The same, multiplied in this arithmetic.
    pub fn in_arithmetic(self, arithmetic: Arithmetic) -> Self {
        Self { arithmetic, ..self }
    }

    /// The first output of which a scale or an offset, as stored in f16, is infinite or no number.
    pub fn unfit_scale(&self) -> Option<usize> {
        const EXPONENT: u16 = 0x7c00;
        let Store::Codes(store) = &self.store else {
            return None;
        };
        let (n_halves, _) = scale_counts(store.format.rule, self.n_units);
        let is_unfit = |half: &Halves, column: usize| half.0[column] & EXPONENT == EXPONENT;
        let panels = store.halves.par_chunks(n_halves.max(1)).enumerate();
        panels.find_map_first(|(panel, halves)| {
            let mut columns = 0..WIDTH;
            let column = columns.find(|c| halves.iter().any(|half| is_unfit(half, *c)))?;
            Some(panel * WIDTH + column)
        })
    }

    /// Number of outputs.
    pub fn n_out(&self) -> usize {
        self.n_out
    }

    /// Panels of sixteen outputs, an even number.
    pub fn n_panels(&self) -> usize {
        panels_of(self.n_out)
    }

    /// Bytes held.
    pub fn n_bytes(&self) -> usize {
        match &self.store {
            Store::F32(lanes) => size_of_val(&lanes[..]),
            Store::F16(halves) | Store::BF16(halves) => size_of_val(&halves[..]),
            Store::Codes(c) => {
                size_of_val(&c.words[..]) + size_of_val(&c.halves[..]) + size_of_val(&c.bytes[..])
            }
        }
    }

    /// The weights of output `n`, in the order of k: a row of the stored matrix.
    pub fn row(&self, n: usize) -> Vec<f32> {
        let (panel, column) = (n / WIDTH, n % WIDTH);
        let steps = panel * self.n_units * UNIT..(panel + 1) * self.n_units * UNIT;
        let mut row: Vec<f32> = match &self.store {
            Store::F32(lanes) => lanes[steps].iter().map(|lane| lane.0[column]).collect(),
            Store::F16(halves) => halves[steps]
                .iter()
                .map(|h| f16::from_bits(h.0[column]).to_f32())
                .collect(),
            Store::BF16(halves) => halves[steps]
                .iter()
                .map(|h| half::bf16::from_bits(h.0[column]).to_f32())
                .collect(),
            Store::Codes(store) => {
                let codes = store.panel(panel, self.n_units);
                (0..self.n_units)
                    .flat_map(|u| {
                        let (block, first) = read_unit(&codes, store.format, u, column);
                        (first..first + UNIT).map(move |i| block.weight(store.format.rule, i))
                    })
                    .collect()
            }
        };
        row.truncate(self.n_in);
        row
    }
}

fn pack_floats<'a>(
    n_units: usize,
    n_panels: usize,
    row: impl Fn(usize) -> Option<&'a [u8]> + Sync,
) -> Vec<Lane> {
    let mut lanes = vec![Lane::ZERO; n_panels * n_units * UNIT];
    lanes
        .par_chunks_mut((n_units * UNIT).max(1))
        .enumerate()
        .for_each(|(panel, lanes)| {
            for column in 0..WIDTH {
                let Some(bytes) = row(panel * WIDTH + column) else {
                    break;
                };
                for (lane, x) in lanes.iter_mut().zip(dequantize(Encoding::F32, bytes)) {
                    lane.0[column] = x;
                }
            }
        });
    lanes
}

fn pack_halves<'a>(
    n_units: usize,
    n_panels: usize,
    row: impl Fn(usize) -> Option<&'a [u8]> + Sync,
) -> Vec<Halves> {
    let mut halves = vec![Halves::ZERO; n_panels * n_units * UNIT];
    halves
        .par_chunks_mut((n_units * UNIT).max(1))
        .enumerate()
        .for_each(|(panel, halves)| {
            for column in 0..WIDTH {
                let Some(bytes) = row(panel * WIDTH + column) else {
                    break;
                };
                for (half, x) in halves.iter_mut().zip(bytes.as_chunks().0) {
                    half.0[column] = u16::from_le_bytes(*x);
                }
            }
        });
    halves
}

fn pack_codes<'a>(
    encoding: Encoding,
    format: BlockFormat,
    n_units: usize,
    n_panels: usize,
    row: impl Fn(usize) -> Option<&'a [u8]> + Sync,
) -> CodeStore {
    let n_words = n_units * format.n_bits;
    let (n_halves, n_bytes) = scale_counts(format.rule, n_units);
    let mut words = vec![Words([0; WIDTH]); n_panels * n_words];
    let mut halves = vec![Halves::ZERO; n_panels * n_halves];
    // A column of padding has zero scales, so its weights are zero whatever its codes.
    let mut bytes = vec![Bytes([0; WIDTH]); n_panels * n_bytes];
    words
        .par_chunks_mut(n_words.max(1))
        .zip(halves.par_chunks_mut(n_halves.max(1)))
        .zip(chunks_or_empty(&mut bytes, n_bytes, n_panels))
        .enumerate()
        .for_each(|(panel, ((words, halves), bytes))| {
            let mut block = Block::new();
            for column in 0..WIDTH {
                let Some(source) = row(panel * WIDTH + column) else {
                    break;
                };
                for (b, source) in source.chunks_exact(encoding.block_bytes()).enumerate() {
                    block.read(encoding, source);
                    let mut out = PanelMut {
                        format,
                        words,
                        halves,
                        bytes,
                        column,
                    };
                    out.write_block(&block, b, encoding.block_len() / UNIT);
                }
            }
        });
    CodeStore {
        encoding,
        format,
        words,
        halves,
        bytes,
    }
}

/// One chunk a panel, also where panels have no bytes at all.
fn chunks_or_empty(bytes: &mut [Bytes], n: usize, n_panels: usize) -> Vec<&mut [Bytes]> {
    if n == 0 {
        return (0..n_panels).map(|_| &mut [][..]).collect();
    }
    bytes.chunks_mut(n).collect()
}

/// One column of a panel that is being written.
struct PanelMut<'a> {
    format: BlockFormat,
    words: &'a mut [Words],
    halves: &'a mut [Halves],
    bytes: &'a mut [Bytes],
    column: usize,
}

impl PanelMut<'_> {
    /// Writes block number `b`, of `n` units.
    fn write_block(&mut self, block: &Block, b: usize, n: usize) {
        let n_bits = self.format.n_bits;
        for (i, codes) in block.codes.as_chunks().0[..n].iter().enumerate() {
            write_codes(
                &mut self.words[(b * n + i) * n_bits..][..n_bits],
                self.column,
                codes,
            );
        }
        let c = self.column;
        match self.format.rule {
            ScaleRule::Offset { .. } => self.halves[b].0[c] = block.d,
            ScaleRule::Affine | ScaleRule::Affine32 | ScaleRule::Affine16 => {
                self.halves[2 * b].0[c] = block.d;
                self.halves[2 * b + 1].0[c] = block.m;
            }
            ScaleRule::Offset16 { .. } => self.halves[b].0[c] = block.d,
        }
        match self.format.rule {
            ScaleRule::Offset { .. } | ScaleRule::Affine => {}
            ScaleRule::Offset16 { .. } => {
                for group in 0..16 {
                    self.bytes[16 * b + group].0[c] = block.scales[group];
                }
            }
            ScaleRule::Affine32 | ScaleRule::Affine16 => {
                let n_groups = if self.format.rule == ScaleRule::Affine32 {
                    8
                } else {
                    16
                };
                for group in 0..n_groups {
                    self.bytes[2 * (n_groups * b + group)].0[c] = block.scales[group];
                    self.bytes[2 * (n_groups * b + group) + 1].0[c] = block.mins[group];
                }
            }
        }
    }
}

/// Unit `u` of one column as a block, and the place of its first element in that block.
fn read_unit(codes: &Codes<'_>, format: BlockFormat, u: usize, c: usize) -> (Block, usize) {
    let mut block = Block::new();
    let words = &codes.words[u * format.n_bits..][..format.n_bits];
    let first = match format.rule {
        ScaleRule::Offset { .. } | ScaleRule::Affine => 0,
        _ => u % 8 * UNIT,
    };
    block.codes[first..first + UNIT].copy_from_slice(&read_codes(words, c));
    match format.rule {
        ScaleRule::Offset { .. } => block.d = codes.halves[u].0[c],
        ScaleRule::Affine => {
            (block.d, block.m) = (codes.halves[2 * u].0[c], codes.halves[2 * u + 1].0[c]);
        }
        ScaleRule::Affine32 | ScaleRule::Affine16 => {
            let b = u / 8;
            (block.d, block.m) = (codes.halves[2 * b].0[c], codes.halves[2 * b + 1].0[c]);
            let n_groups = if format.rule == ScaleRule::Affine32 {
                8
            } else {
                16
            };
            for group in 0..n_groups {
                block.scales[group] = codes.bytes[2 * (n_groups * b + group)].0[c];
                block.mins[group] = codes.bytes[2 * (n_groups * b + group) + 1].0[c];
            }
        }
        ScaleRule::Offset16 { .. } => {
            block.d = codes.halves[u / 8].0[c];
            for group in 0..16 {
                block.scales[group] = codes.bytes[16 * (u / 8) + group].0[c];
            }
        }
    }
    (block, first)
}
