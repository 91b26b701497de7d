//! The query heads of one key/value head, for a stretch of rows, over spans of their sources.
//!
//! Flash attention with the loops turned for a processor's caches: a block of 64 keys and
//! values becomes f32 once, and all lines (query head by row) pass over it through the
//! same microkernel that multiplies weights. The running maximum starts at a finite value,
//! so that a line which sees nothing of a block leaves it as it came.

use std::ops::Range;

use super::spans::Span;
use super::state::{Mark, State};
use super::{Band, Shape, Source};
use crate::activations::Activations;
use crate::lanes::{Halves, Kernel, Lane, Lanes, WIDTH, exp, sum};
use crate::matmul::MultiplyRows;
use crate::rope::Turn;

/// Tiles of sixteen keys in a block.
const BLOCK_TILES: usize = 4;
/// Keys in a block.
pub(super) const BLOCK: usize = BLOCK_TILES * WIDTH;

/// Rows and what they attend to; see the module.
pub(super) struct Heads<'a> {
    pub shape: &'a Shape<'a>,
    pub layer: usize,
    pub kv_head: usize,
    pub sources: &'a [&'a Source<'a>],
    pub tail: Source<'a>,
    pub queries: &'a Activations,
    /// Number of the first row in `queries`.
    pub first_row: usize,
    pub n_rows: usize,
    /// Absolute position of the first row.
    pub first_position: i64,
    /// Tokens of the tail that the first row sees; each further row sees one more.
    pub first_visible: usize,
    pub want_mass: bool,
}

/// The same over some of the spans.
pub(super) struct OverSpans<'h, 'a> {
    heads: &'h Heads<'a>,
    spans: &'h [Span],
}

/// All lines of a task, and room to compute in; line `head * n_rows + row`.
struct Lines {
    n: usize,
    n_rows: usize,
    head_dim: usize,
    /// `[n][head_dim]`, scaled, not rotated.
    plain: Vec<f32>,
    /// `[head_dim / 16][n]`, rotated for the present source.
    turned: Vec<Lane>,
    /// `[BLOCK_TILES][n]` scores, then weights.
    scores: Vec<Lane>,
    /// What has been taken in of the present span.
    state: State,
    /// `[BLOCK_TILES][head_dim]` keys of the present block.
    keys: Vec<Lane>,
    /// `[head_dim / 16][BLOCK]` values of the present block.
    values: Vec<Lane>,
    turn: Turn,
    /// What was added to positions when queries were rotated last.
    shift: Option<i64>,
    buffer: Vec<f32>,
}

impl Kernel for OverSpans<'_, '_> {
    type Output = State;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> State {
        let heads = self.heads;
        let mut lines = heads.lines();
        let mut total = heads.nothing();
        for span in self.spans {
            lines.state = heads.nothing();
            for (i, part) in span.iter().enumerate() {
                let source = heads.sources.get(part.source).copied();
                let is_tail = source.is_none();
                let source = source.unwrap_or(&heads.tail);
                heads.turn_queries(&mut lines, source.shift);
                heads.pass(l, &mut lines, source, part.keys.clone(), is_tail);
                if heads.want_mass {
                    let state = &mut lines.state;
                    let mut of_lines = Vec::with_capacity(lines.n);
                    for (highest, sums) in state.highest.iter().zip(&state.sums) {
                        of_lines.push((*highest, sum(l, l.load(sums))));
                    }
                    state.marks.push(Mark {
                        source: part.source,
                        starts_span: i == 0,
                        of_lines,
                    });
                }
            }
            total.merge(l, std::mem::take(&mut lines.state));
        }
        total
    }
}

impl<'a> Heads<'a> {
    /// These heads over some of their spans.
    pub fn over<'h>(&'h self, spans: &'h [Span]) -> OverSpans<'h, 'a> {
        OverSpans { heads: self, spans }
    }
}

impl Heads<'_> {
    /// The state of lines that have seen nothing.
    fn nothing(&self) -> State {
        State::nothing(self.shape.group * self.n_rows, self.shape.head_dim / WIDTH)
    }

    fn lines(&self) -> Lines {
        let head_dim = self.shape.head_dim;
        let n = self.shape.group * self.n_rows;
        let mut plain = vec![0.0; n * head_dim];
        let scale = 1.0 / (head_dim as f32).sqrt();
        for (line, plain) in plain.chunks_exact_mut(head_dim).enumerate() {
            let head = self.kv_head * self.shape.group + line / self.n_rows;
            let row = self.first_row + line % self.n_rows;
            self.queries.read_row(row, head * head_dim, plain);
            plain.iter_mut().for_each(|x| *x *= scale);
        }
        Lines {
            n,
            n_rows: self.n_rows,
            head_dim,
            plain,
            turned: vec![Lane::ZERO; n * head_dim / WIDTH],
            scores: vec![Lane::ZERO; BLOCK_TILES * n],
            state: State::default(),
            keys: vec![Lane::ZERO; BLOCK_TILES * head_dim],
            values: vec![Lane::ZERO; BLOCK * head_dim / WIDTH],
            turn: Turn::default(),
            shift: None,
            buffer: vec![0.0; head_dim],
        }
    }

    #[inline(always)]
    fn turn_queries(&self, lines: &mut Lines, shift: i64) {
        if lines.shift.replace(shift) == Some(shift) {
            return;
        }
        for row in 0..self.n_rows {
            self.shape
                .rope
                .turn(self.first_position + row as i64 + shift, &mut lines.turn);
            for line in (row..lines.n).step_by(self.n_rows) {
                lines
                    .buffer
                    .copy_from_slice(&lines.plain[line * lines.head_dim..][..lines.head_dim]);
                lines.turn.apply(&mut lines.buffer);
                let turned = lines.turned[line..].iter_mut().step_by(lines.n);
                for (lane, x) in turned.zip(lines.buffer.as_chunks().0) {
                    lane.0 = *x;
                }
            }
        }
    }

    /// Takes keys of one source into the lines' state.
    #[inline(always)]
    fn pass<L: Lanes>(
        &self,
        l: L,
        lines: &mut Lines,
        source: &Source<'_>,
        keys: Range<usize>,
        is_tail: bool,
    ) {
        let strip = source.kv.strip(self.layer, self.kv_head);
        let seen_by_last = match is_tail {
            true => keys.end.min(self.first_visible + self.n_rows - 1),
            false => keys.end,
        };
        let here = |(layers, _): &&Band| layers.contains(&self.layer);
        let zeroed = source.zeroed.iter().filter(here);
        let keyless = source.keyless.iter().filter(here);
        let mut first = keys.start;
        while first < seen_by_last {
            let n_keys = BLOCK.min(seen_by_last - first);
            let n_tiles = n_keys.div_ceil(WIDTH);
            load_block(l, lines, &strip.keys, &strip.values, first, n_keys);
            for (_, span) in zeroed.clone() {
                for token in span.start.max(first)..span.end.min(first + n_keys) {
                    lines.values[token - first..]
                        .iter_mut()
                        .step_by(BLOCK)
                        .for_each(|v| {
                            *v = Lane::ZERO;
                        });
                }
            }
            for (_, span) in keyless.clone() {
                for token in span.start.max(first)..span.end.min(first + n_keys) {
                    let (tile, lane) = ((token - first) / WIDTH, (token - first) % WIDTH);
                    let keys = &mut lines.keys[tile * lines.head_dim..][..lines.head_dim];
                    keys.iter_mut()
                        .for_each(|dimension| dimension.0[lane] = 0.0);
                }
            }
            for tile in 0..n_tiles {
                let keys = &lines.keys[tile * lines.head_dim..][..lines.head_dim];
                let scores = &mut lines.scores[tile * lines.n..][..lines.n];
                let x = &lines.turned;
                l.call(MultiplyRows {
                    weights: keys,
                    x,
                    out: &mut *scores,
                    resume: false,
                });
                let start = first + tile * WIDTH;
                if let Some(hidden) = &source.hidden {
                    let bias = l.load(&hidden[start / WIDTH]);
                    for score in &mut *scores {
                        l.store(l.add(l.load(score), bias), score);
                    }
                }
                let first_visible = if is_tail {
                    self.first_visible
                } else {
                    seen_by_last
                };
                if start + WIDTH > first_visible {
                    for (line, score) in scores.iter_mut().enumerate() {
                        let seen = match is_tail {
                            true => self.first_visible + line % lines.n_rows,
                            false => seen_by_last,
                        };
                        if start + WIDTH > seen {
                            let bias = &OUT_OF_SIGHT[seen.saturating_sub(start)];
                            l.store(l.add(l.load(score), l.load(bias)), score);
                        }
                    }
                }
            }
            soften(l, lines, n_tiles);
            for panel in 0..lines.head_dim / WIDTH {
                let values = &lines.values[panel * BLOCK..][..n_tiles * WIDTH];
                let weights = &lines.scores[..n_tiles * lines.n];
                let out = &mut lines.state.out[panel * lines.n..][..lines.n];
                l.call(MultiplyRows {
                    weights: values,
                    x: weights,
                    out,
                    resume: true,
                });
            }
            first += BLOCK;
        }
    }
}

/// Biases that leave the first `n` keys of a tile in sight.
static OUT_OF_SIGHT: [Lane; WIDTH + 1] = {
    let mut table = [Lane::ZERO; WIDTH + 1];
    let mut n = 0;
    while n <= WIDTH {
        let mut key = n;
        while key < WIDTH {
            table[n].0[key] = f32::NEG_INFINITY;
            key += 1;
        }
        n += 1;
    }
    table
};

/// Makes f32 of a block's keys and values; what pads the last tile is zero.
#[inline(always)]
fn load_block<L: Lanes>(
    l: L,
    lines: &mut Lines,
    keys: &[Halves],
    values: &[Halves],
    first: usize,
    n_keys: usize,
) {
    let n_tiles = n_keys.div_ceil(WIDTH);
    let keys = &keys[first / WIDTH * lines.head_dim..][..n_tiles * lines.head_dim];
    for (key, stored) in lines.keys.iter_mut().zip(keys) {
        l.store(l.load_f16(stored), key);
    }
    let n_panels = lines.head_dim / WIDTH;
    let values = &values[first * n_panels..][..n_keys * n_panels];
    for (token, stored) in values.chunks_exact(n_panels).enumerate() {
        for (panel, stored) in stored.iter().enumerate() {
            l.store(l.load_f16(stored), &mut lines.values[panel * BLOCK + token]);
        }
    }
    for panel in lines.values.chunks_exact_mut(BLOCK) {
        panel[n_keys..n_tiles * WIDTH].fill(Lane::ZERO);
    }
}

/// Turns scores into weights, keeping the running maximum, sum and output of each line.
#[inline(always)]
fn soften<L: Lanes>(l: L, lines: &mut Lines, n_tiles: usize) {
    for line in 0..lines.n {
        let mut high = l.load(&lines.scores[line]);
        for tile in 1..n_tiles {
            high = l.max(high, l.load(&lines.scores[tile * lines.n + line]));
        }
        let mut top = Lane::ZERO;
        l.store(high, &mut top);
        let before = lines.state.highest[line];
        let highest = top
            .0
            .iter()
            .fold(before, |a, b| if *b > a { *b } else { a });
        let mut total = l.load(&lines.state.sums[line]);
        if highest > before {
            let fade = exp(l, l.splat(before - highest));
            total = l.mul(total, fade);
            for lane in lines.state.out[line..].iter_mut().step_by(lines.n) {
                l.store(l.mul(l.load(lane), fade), lane);
            }
            lines.state.highest[line] = highest;
        }
        let highest = l.splat(highest);
        for tile in 0..n_tiles {
            let score = &mut lines.scores[tile * lines.n + line];
            let weight = exp(l, l.sub(l.load(score), highest));
            l.store(weight, score);
            total = l.add(total, weight);
        }
        l.store(total, &mut lines.state.sums[line]);
    }
}
