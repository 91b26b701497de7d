//! Lines of few rows: lanes run over keys while scores are computed, over dimensions while
//! values are added up.

use super::extent::Extent;
use super::heads::{BLOCK, BLOCK_TILES, Heads, Keys, Lines, hiding};
use super::state::State;
use crate::kv::Strip;
use crate::lanes::{Lane, Lanes, WIDTH, exp, soft_cap};
use crate::matmul::MultiplyRows;
use crate::rope::Turn;

/// See the module; line `head * n_rows + row`.
pub(super) struct ByKeys {
    n: usize,
    head_dim: usize,
    /// `[n][head_dim]`, scaled, not rotated.
    plain: Vec<f32>,
    /// `[head_dim / 16][n]`, rotated for the present source.
    turned: Vec<Lane>,
    /// `[BLOCK_TILES][n]` scores, then weights.
    scores: Vec<Lane>,
    /// `[BLOCK_TILES][head_dim]` keys of the present block.
    keys: Vec<Lane>,
    /// `[head_dim / 16][BLOCK]` values of the present block.
    values: Vec<Lane>,
    turn: Turn,
}

impl Lines for ByKeys {
    fn new(heads: &Heads<'_>) -> Self {
        let head_dim = heads.shape.head_dim;
        let n = heads.shape.group * heads.n_rows;
        let mut plain = vec![0.0; n * head_dim];
        let scales = heads.scales();
        for (line, plain) in plain.chunks_exact_mut(head_dim).enumerate() {
            let head = heads.kv_head * heads.shape.group + line / heads.n_rows;
            let row = heads.first_row + line % heads.n_rows;
            heads.queries.read_row(row, head * head_dim, plain);
            let scaled = plain.iter_mut().zip(&scales);
            scaled.for_each(|(x, scale)| *x *= scale);
        }
        Self {
            n,
            head_dim,
            plain,
            turned: vec![Lane::ZERO; n * head_dim / WIDTH],
            scores: vec![Lane::ZERO; BLOCK_TILES * n],
            keys: vec![Lane::ZERO; BLOCK_TILES * head_dim],
            values: vec![Lane::ZERO; BLOCK * head_dim / WIDTH],
            turn: Turn::default(),
        }
    }

    #[inline(always)]
    fn turn<L: Lanes>(&mut self, _: L, heads: &Heads<'_>, shift: i64) {
        for row in 0..heads.n_rows {
            let position = heads.first_position + row as i64 + shift;
            heads.shape.rope.turn(position, &mut self.turn);
            for line in (row..self.n).step_by(heads.n_rows) {
                let plain = &self.plain[line * self.head_dim..][..self.head_dim];
                let n_eights = self.head_dim / 16;
                for i in 0..n_eights {
                    let rotated = self.turn.rotated(plain, i);
                    for (eight, x) in [i, i + n_eights].into_iter().zip(rotated) {
                        let lane = &mut self.turned[eight / 2 * self.n + line];
                        lane.0.as_chunks_mut().0[eight % 2] = x;
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn pass<L: Lanes>(&mut self, l: L, heads: &Heads<'_>, keys: &Keys<'_>, state: &mut State) {
        let source = keys.source;
        let strip = source.kv.strip(heads.layer, heads.kv_head);
        let end = heads.seen_by_last(keys);
        for first in (keys.range.start..end).step_by(BLOCK) {
            let n_keys = BLOCK.min(end - first);
            let n_tiles = n_keys.div_ceil(WIDTH);
            if heads.reaches(keys, 0) >= first + n_keys {
                continue;
            }
            self.load(l, strip, first, n_keys);
            for token in source.zeroed(heads.layer, first..first + n_keys) {
                let values = self.values[token..].iter_mut().step_by(BLOCK);
                values.for_each(|v| *v = Lane::ZERO);
            }
            for token in source.keyless(heads.layer, first..first + n_keys) {
                let keys = &mut self.keys[token / WIDTH * self.head_dim..][..self.head_dim];
                keys.iter_mut()
                    .for_each(|dimension| dimension.0[token % WIDTH] = 0.0);
            }
            for tile in 0..n_tiles {
                let scores = &mut self.scores[tile * self.n..][..self.n];
                l.call(MultiplyRows {
                    weights: &self.keys[tile * self.head_dim..][..self.head_dim],
                    x: &self.turned,
                    out: &mut *scores,
                    resume: false,
                });
                if let Some(cap) = heads.shape.cap {
                    for score in &mut *scores {
                        l.store(soft_cap(l, l.load(score), cap), score);
                    }
                }
                let start = first + tile * WIDTH;
                if let Some(hidden) = &source.hidden {
                    let bias = l.load(&hidden[start / WIDTH]);
                    for score in &mut *scores {
                        l.store(l.add(l.load(score), bias), score);
                    }
                }
                let seen_by_first = match keys.is_tail {
                    true => heads.first_visible,
                    false => end,
                };
                if start + WIDTH > seen_by_first {
                    for (line, score) in scores.iter_mut().enumerate() {
                        let seen = match keys.is_tail {
                            true => heads.first_visible + line % heads.n_rows,
                            false => end,
                        };
                        if start + WIDTH > seen {
                            let bias = &OUT_OF_SIGHT[seen.saturating_sub(start)];
                            l.store(l.add(l.load(score), l.load(bias)), score);
                        }
                    }
                }
                if heads.reaches(keys, heads.n_rows - 1) > start {
                    for (line, score) in scores.iter_mut().enumerate() {
                        let reaches = heads.reaches(keys, line % heads.n_rows);
                        let bias = &OUT_OF_REACH[reaches.saturating_sub(start).min(WIDTH)];
                        l.store(l.add(l.load(score), l.load(bias)), score);
                    }
                }
            }
            self.soften(l, heads.extent(), n_tiles, state);
            for panel in 0..self.head_dim / WIDTH {
                l.call(MultiplyRows {
                    weights: &self.values[panel * BLOCK..][..n_keys],
                    x: &self.scores[..n_tiles * self.n],
                    out: &mut state.out[panel * self.n..][..self.n],
                    resume: true,
                });
            }
        }
    }
}

impl ByKeys {
    /// Makes f32 of a block's keys and values.
    #[inline(always)]
    fn load<L: Lanes>(&mut self, l: L, strip: &Strip, first: usize, n_keys: usize) {
        let n_tiles = n_keys.div_ceil(WIDTH);
        let keys = &strip.keys[first / WIDTH * self.head_dim..][..n_tiles * self.head_dim];
        for (key, stored) in self.keys.iter_mut().zip(keys) {
            l.store(l.load_f16(stored), key);
        }
        let n_panels = self.head_dim / WIDTH;
        let values = &strip.values[first * n_panels..][..n_keys * n_panels];
        for (token, stored) in values.chunks_exact(n_panels).enumerate() {
            for (panel, stored) in stored.iter().enumerate() {
                l.store(l.load_f16(stored), &mut self.values[panel * BLOCK + token]);
            }
        }
    }

    /// Turns scores into weights, keeping the highest score and the sums of each line.
    #[inline(always)]
    fn soften<L: Lanes>(&mut self, l: L, extent: Extent, n_tiles: usize, state: &mut State) {
        for line in 0..self.n {
            let before = l.load(&state.highest[line]);
            let mut highest = before;
            for tile in 0..n_tiles {
                highest = l.max(l.load(&self.scores[tile * self.n + line]), highest);
            }
            if l.any_above(highest, before) {
                let mut top = Lane::ZERO;
                l.store(highest, &mut top);
                let one = top
                    .0
                    .iter()
                    .fold(top.0[0], |a, b| if *b > a { *b } else { a });
                highest = l.splat(one);
                l.store(highest, &mut state.highest[line]);
                let fade = exp(l, l.sub(before, highest));
                state.fade(l, extent, line, fade);
            }
            let mut total = l.load(&state.sums[line]);
            for tile in 0..n_tiles {
                let score = &mut self.scores[tile * self.n + line];
                let weight = exp(l, l.sub(l.load(score), highest));
                l.store(weight, score);
                total = l.add(total, weight);
            }
            l.store(total, &mut state.sums[line]);
        }
    }
}

/// Biases that leave the first `n` keys of a tile in sight.
static OUT_OF_SIGHT: [Lane; WIDTH + 1] = hiding(false);
/// Biases that leave all but the first `n` keys of a tile in sight.
static OUT_OF_REACH: [Lane; WIDTH + 1] = hiding(true);
