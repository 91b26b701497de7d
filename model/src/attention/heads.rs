//! The query heads of one key/value head, for a stretch of rows, over spans of their sources.
//!
//! Flash attention with the loops turned for a processor's caches: a block of keys and values
//! becomes f32 once, and all lines (query head by row) pass over it. Lanes run over keys where
//! rows are few ([`ByKeys`]) and over rows where they are many ([`ByRows`]); a line has the same
//! bits in both. The running maximum starts at a finite value, so that a line which sees nothing
//! of a block leaves it as it came.

use std::ops::Range;

use super::by_keys::ByKeys;
use super::by_rows::ByRows;
use super::extent::{Extent, Vectors};
use super::spans::Span;
use super::state::State;
use super::{Shape, Source};
use crate::activations::Activations;
use crate::lanes::{Kernel, Lane, Lanes, WIDTH};

/// Tiles of sixteen keys in a block.
pub(super) const BLOCK_TILES: usize = 8;
/// Keys in a block.
pub(super) const BLOCK: usize = BLOCK_TILES * WIDTH;
/// Rows from which on lanes run over rows: more than half of them are in use.
const MANY_ROWS: usize = WIDTH / 2 + 1;

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

/// Keys of a source.
pub(super) struct Keys<'a> {
    pub source: &'a Source<'a>,
    pub range: Range<usize>,
    /// Whether a row sees only what stands up to itself.
    pub is_tail: bool,
}

/// All lines of a task, and room to compute in.
pub(super) trait Lines {
    /// Lines that are not rotated yet.
    fn new(heads: &Heads<'_>) -> Self;
    /// Rotates queries for a source, given what is added to positions.
    fn turn<L: Lanes>(&mut self, l: L, heads: &Heads<'_>, shift: i64);
    /// Takes `keys` into what lines have come to.
    fn pass<L: Lanes>(&mut self, l: L, heads: &Heads<'_>, keys: &Keys<'_>, state: &mut State);
}

impl<'a> Heads<'a> {
    /// These heads over some of their spans.
    pub fn over<'h>(&'h self, spans: &'h [Span]) -> OverSpans<'h, 'a> {
        OverSpans { heads: self, spans }
    }
}

impl Heads<'_> {
    /// The lines.
    pub fn extent(&self) -> Extent {
        Extent {
            group: self.shape.group,
            n_rows: self.n_rows,
            head_dim: self.shape.head_dim,
            vectors: match self.n_rows {
                MANY_ROWS.. => Vectors::OfRows,
                _ => Vectors::OfKeys,
            },
        }
    }

    /// What the dimensions of queries are multiplied with.
    pub fn scales(&self) -> Vec<f32> {
        let dimensions = 0..self.shape.head_dim;
        dimensions
            .map(|d| self.shape.scale * self.shape.rope.gain(d))
            .collect()
    }

    /// The first token of a source that a row's window reaches back to.
    pub fn reaches(&self, keys: &Keys<'_>, row: usize) -> usize {
        let Some(window) = self.shape.window else {
            return 0;
        };
        // The row's place, counted from the source's first token.
        let source = keys.source;
        let place = self.first_position + row as i64 + source.shift - i64::from(source.kv.base());
        usize::try_from(place + 1 - window as i64).unwrap_or(0)
    }

    /// Keys that the last row sees end here.
    pub fn seen_by_last(&self, keys: &Keys<'_>) -> usize {
        match keys.is_tail {
            true => keys.range.end.min(self.first_visible + self.n_rows - 1),
            false => keys.range.end,
        }
    }
}

/// [`Heads`] over some spans.
pub(super) struct OverSpans<'h, 'a> {
    heads: &'h Heads<'a>,
    spans: &'h [Span],
}

impl Kernel for OverSpans<'_, '_> {
    type Output = State;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> State {
        match self.heads.extent().vectors {
            Vectors::OfKeys => l.call(OverSpansWith::<ByKeys>::new(self)),
            Vectors::OfRows => l.call(OverSpansWith::<ByRows>::new(self)),
        }
    }
}

/// The same with lines of one kind.
struct OverSpansWith<'h, 'a, T> {
    over: OverSpans<'h, 'a>,
    lines: T,
}

impl<'h, 'a, T: Lines> OverSpansWith<'h, 'a, T> {
    fn new(over: OverSpans<'h, 'a>) -> Self {
        let lines = T::new(over.heads);
        Self { over, lines }
    }
}

impl<T: Lines> Kernel for OverSpansWith<'_, '_, T> {
    type Output = State;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> State {
        let OverSpans { heads, spans } = self.over;
        let mut lines = self.lines;
        let extent = heads.extent();
        let (mut total, mut state) = (State::nothing(extent), State::nothing(extent));
        let mut shift = None;
        for span in spans {
            for (i, part) in span.iter().enumerate() {
                let source = heads.sources.get(part.source).copied();
                let keys = Keys {
                    source: source.unwrap_or(&heads.tail),
                    range: part.keys.clone(),
                    is_tail: source.is_none(),
                };
                if shift.replace(keys.source.shift) != Some(keys.source.shift) {
                    lines.turn(l, heads, keys.source.shift);
                }
                lines.pass(l, heads, &keys, &mut state);
                if heads.want_mass {
                    state.mark(l, extent, part.source, i == 0);
                }
            }
            total.merge(l, extent, &mut state);
            state.forget();
        }
        total
    }
}

/// Biases that hide the first `n` lanes, or all but these, for each `n`.
pub(super) const fn hiding(first: bool) -> [Lane; WIDTH + 1] {
    let mut table = [Lane::ZERO; WIDTH + 1];
    let mut n = 0;
    while n <= WIDTH {
        let mut lane = 0;
        while lane < WIDTH {
            if (lane < n) == first {
                table[n].0[lane] = f32::NEG_INFINITY;
            }
            lane += 1;
        }
        n += 1;
    }
    table
}
