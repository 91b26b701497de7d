//! Lines of many rows: lanes run over sixteen rows of one head, and what is the same for all
//! rows, a key's or a value's number in one dimension, is read once for all of them.

use super::extent::Extent;
use super::heads::{BLOCK, BLOCK_TILES, Heads, Keys, Lines, hiding};
use super::state::State;
use crate::kv::Strip;
use crate::lanes::{Kernel, Lane, Lanes, WIDTH, exp, numbers, soft_cap};
use crate::rope::Turn;
use crate::tiles::{Tiled, all_tiles};

/// Lanes between two dimensions of a block's keys: one more than its tiles, so that not all
/// dimensions of a key fall into the same few sets of a cache.
const PITCH: usize = BLOCK_TILES + 1;

/// See the module; unit `head * n_sixteens + sixteen`.
pub(super) struct ByRows {
    head_dim: usize,
    /// Stretches of sixteen rows.
    n_sixteens: usize,
    /// `[n_units][head_dim]`, scaled, not rotated.
    plain: Vec<Lane>,
    /// The same, rotated for the present source.
    turned: Vec<Lane>,
    /// `[head_dim / 2]` cosines and sines of one stretch of rows.
    cos: Vec<Lane>,
    sin: Vec<Lane>,
    /// `[BLOCK]` scores of one unit, then weights.
    scores: Vec<Lane>,
    /// `[head_dim][PITCH]` keys of the present block.
    keys: Vec<Lane>,
    /// `[BLOCK][head_dim / 16]` values of the present block.
    values: Vec<Lane>,
    turn: Turn,
}

impl Lines for ByRows {
    fn new(heads: &Heads<'_>) -> Self {
        let head_dim = heads.shape.head_dim;
        let n_sixteens = heads.n_rows.div_ceil(WIDTH);
        let n_units = heads.shape.group * n_sixteens;
        let mut plain = vec![Lane::ZERO; n_units * head_dim];
        let mut of_row = vec![0.0; head_dim];
        let scales = heads.scales();
        for (unit, plain) in plain.chunks_exact_mut(head_dim).enumerate() {
            let head = heads.kv_head * heads.shape.group + unit / n_sixteens;
            let first = unit % n_sixteens * WIDTH;
            for row in first..heads.n_rows.min(first + WIDTH) {
                let queries = heads.queries;
                queries.read_row(heads.first_row + row, head * head_dim, &mut of_row);
                for ((lane, x), scale) in plain.iter_mut().zip(&of_row).zip(&scales) {
                    lane.0[row - first] = x * scale;
                }
            }
        }
        Self {
            head_dim,
            n_sixteens,
            turned: vec![Lane::ZERO; plain.len()],
            plain,
            cos: vec![Lane::ZERO; head_dim / 2],
            sin: vec![Lane::ZERO; head_dim / 2],
            scores: vec![Lane::ZERO; BLOCK],
            keys: vec![Lane::ZERO; head_dim * PITCH],
            values: vec![Lane::ZERO; BLOCK * head_dim / WIDTH],
            turn: Turn::default(),
        }
    }

    #[inline(always)]
    fn turn<L: Lanes>(&mut self, l: L, heads: &Heads<'_>, shift: i64) {
        for sixteen in 0..self.n_sixteens {
            let position = heads.first_position + (sixteen * WIDTH) as i64 + shift;
            let rope = heads.shape.rope;
            rope.sixteen_turns(position, &mut self.cos, &mut self.sin, &mut self.turn);
            for head in 0..heads.shape.group {
                let of_unit = (head * self.n_sixteens + sixteen) * self.head_dim;
                let plain = &self.plain[of_unit..][..self.head_dim];
                let turned = &mut self.turned[of_unit..][..self.head_dim];
                let (low, high) = plain.split_at(self.head_dim / 2);
                let (to_low, to_high) = turned.split_at_mut(self.head_dim / 2);
                for (i, (cos, sin)) in self.cos.iter().zip(&self.sin).enumerate() {
                    let (a, b) = (l.load(&low[i]), l.load(&high[i]));
                    let (cos, sin) = (l.load(cos), l.load(sin));
                    let minus = l.sub(l.splat(0.0), l.mul(b, sin));
                    l.store(l.fma(a, cos, minus), &mut to_low[i]);
                    l.store(l.fma(b, cos, l.mul(a, sin)), &mut to_high[i]);
                }
            }
        }
    }

    #[inline(always)]
    fn pass<L: Lanes>(&mut self, l: L, heads: &Heads<'_>, keys: &Keys<'_>, state: &mut State) {
        let source = keys.source;
        let strip = source.kv.strip(heads.layer, heads.kv_head);
        let end = heads.seen_by_last(keys);
        let n_panels = self.head_dim / WIDTH;
        for first in (keys.range.start..end).step_by(BLOCK) {
            let n_keys = BLOCK.min(end - first);
            if heads.reaches(keys, 0) >= first + n_keys {
                continue;
            }
            self.load(l, strip, first, n_keys);
            for token in source.zeroed(heads.layer, first..first + n_keys) {
                self.values[token * n_panels..][..n_panels].fill(Lane::ZERO);
            }
            for token in source.keyless(heads.layer, first..first + n_keys) {
                for dimension in self.keys[token / WIDTH..].iter_mut().step_by(PITCH) {
                    dimension.0[token % WIDTH] = 0.0;
                }
            }
            for unit in 0..self.n_sixteens * heads.shape.group {
                l.call(MultiplyColumns {
                    weights: &self.turned[unit * self.head_dim..][..self.head_dim],
                    x: numbers(&self.keys),
                    pitch: PITCH * WIDTH,
                    out: &mut self.scores[..n_keys],
                    resume: false,
                });
                if let Some(cap) = heads.shape.cap {
                    for score in &mut self.scores[..n_keys] {
                        l.store(soft_cap(l, l.load(score), cap), score);
                    }
                }
                if let Some(hidden) = &source.hidden {
                    let bias = &numbers(hidden)[first..first + n_keys];
                    for (score, bias) in self.scores.iter_mut().zip(bias) {
                        l.store(l.add(l.load(score), l.splat(*bias)), score);
                    }
                }
                if keys.is_tail {
                    let first_row = unit % self.n_sixteens * WIDTH;
                    let seen_by_first = heads.first_visible + first_row;
                    for key in seen_by_first.max(first)..first + n_keys {
                        let n_blind = (key + 1 - seen_by_first).min(WIDTH);
                        let score = &mut self.scores[key - first];
                        l.store(l.add(l.load(score), l.load(&BLIND[n_blind])), score);
                    }
                }
                let first_row = unit % self.n_sixteens * WIDTH;
                let reached = heads.reaches(keys, first_row + WIDTH - 1);
                for key in first..reached.min(first + n_keys) {
                    // Each row reaches back one token less than the row before it.
                    let n_sighted = WIDTH.saturating_sub(reached - key);
                    let score = &mut self.scores[key - first];
                    l.store(
                        l.add(l.load(score), l.load(&OUT_OF_REACH[n_sighted])),
                        score,
                    );
                }
                self.soften(l, heads.extent(), unit, n_keys, state);
                l.call(MultiplyColumns {
                    weights: &self.scores[..n_keys],
                    x: numbers(&self.values),
                    pitch: self.head_dim,
                    out: &mut state.out[unit * self.head_dim..][..self.head_dim],
                    resume: true,
                });
            }
        }
    }
}

impl ByRows {
    /// Makes f32 of a block's keys and values.
    #[inline(always)]
    fn load<L: Lanes>(&mut self, l: L, strip: &Strip, first: usize, n_keys: usize) {
        let tiles = strip.keys[first / WIDTH * self.head_dim..].chunks_exact(self.head_dim);
        for (tile, keys) in tiles.take(n_keys.div_ceil(WIDTH)).enumerate() {
            for (key, stored) in self.keys[tile..].iter_mut().step_by(PITCH).zip(keys) {
                l.store(l.load_f16(stored), key);
            }
        }
        let n_panels = self.head_dim / WIDTH;
        let values = &strip.values[first * n_panels..][..n_keys * n_panels];
        for (value, stored) in self.values.iter_mut().zip(values) {
            l.store(l.load_f16(stored), value);
        }
    }

    /// Turns a unit's scores into weights, keeping the highest score and the sums of its lines.
    #[inline(always)]
    fn soften<L: Lanes>(
        &mut self,
        l: L,
        extent: Extent,
        unit: usize,
        n_keys: usize,
        state: &mut State,
    ) {
        let scores = &mut self.scores[..n_keys];
        let before = l.load(&state.highest[unit]);
        let mut highest = before;
        for score in &*scores {
            highest = l.max(l.load(score), highest);
        }
        if l.any_above(highest, before) {
            l.store(highest, &mut state.highest[unit]);
            let fade = exp(l, l.sub(before, highest));
            state.fade(l, extent, unit, fade);
        }
        let sums = &mut state.sums[extent.sums(unit)];
        for sixteen in scores.chunks_mut(WIDTH) {
            for (score, sum) in sixteen.iter_mut().zip(&mut *sums) {
                let weight = exp(l, l.sub(l.load(score), highest));
                l.store(weight, score);
                l.store(l.add(l.load(sum), weight), sum);
            }
        }
    }
}

/// Sixteen rows, a lane each, times a matrix of f32.
struct MultiplyColumns<'a> {
    /// `[n_k]`, a row a lane.
    weights: &'a [Lane],
    /// `[n_k][pitch]`, of which the first `n_out` columns count.
    x: &'a [f32],
    pitch: usize,
    /// `[n_out]`, a row a lane.
    out: &'a mut [Lane],
    /// Whether `out` holds partial sums to go on from.
    resume: bool,
}

impl Kernel for MultiplyColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        all_tiles(l, self.out.len(), &mut self);
    }
}

impl Tiled for MultiplyColumns<'_> {
    #[inline(always)]
    fn tile<L: Lanes, const R: usize>(&mut self, l: L, first: usize) {
        let out: &mut [Lane; R] = &mut self.out[first..first + R].as_chunks_mut().0[0];
        let mut acc = [l.splat(0.0); R];
        if self.resume {
            for r in 0..R {
                acc[r] = l.load(&out[r]);
            }
        }
        let steps = self.weights.iter().zip(self.x.chunks_exact(self.pitch));
        for (w, x) in steps {
            let x = &x[first..first + R];
            let w = l.load(w);
            for r in 0..R {
                acc[r] = l.fma(l.splat(x[r]), w, acc[r]);
            }
        }
        for r in 0..R {
            l.store(acc[r], &mut out[r]);
        }
    }
}

/// Biases that leave all but the first `n` lanes in sight.
static BLIND: [Lane; WIDTH + 1] = hiding(true);
/// Biases that leave the first `n` lanes in sight.
static OUT_OF_REACH: [Lane; WIDTH + 1] = hiding(false);
