//! What a softmax over some keys has come to, how two of them become one, and how it ends.

use super::extent::{Extent, Vectors};
use crate::lanes::{Kernel, Lane, Lanes, WIDTH, exp, sum, sum_of_lanes};

/// Below every score, yet finite: the highest score of who has seen nothing.
const LOWEST: f32 = -1e30;

/// The state of lines over keys that follow each other.
pub(super) struct State {
    /// `[n_units]` highest scores: of one line in all lanes, or of sixteen lines.
    pub highest: Vec<Lane>,
    /// Sums of weights, of every sixteenth key each: `[n_units]` where lanes are keys,
    /// `[n_units][16]` where they are rows.
    pub sums: Vec<Lane>,
    /// Sums of weighted values: `[head_dim / 16][n_units]` where lanes are dimensions,
    /// `[n_units][head_dim]` where they are rows.
    pub out: Vec<Lane>,
    /// What lines had come to after each part of a span.
    pub marks: Vec<Mark>,
}

/// What lines had come to within a span after one of its parts.
pub(super) struct Mark {
    /// Number of the source.
    pub source: usize,
    /// Whether nothing of the span came before.
    pub starts_span: bool,
    /// `[n_lines]` highest score, and sum of weights relative to it.
    pub of_lines: Vec<(f32, f32)>,
}

impl State {
    /// The state of lines that have seen nothing.
    pub fn nothing(extent: Extent) -> Self {
        let n = extent.n_units();
        Self {
            highest: vec![Lane([LOWEST; WIDTH]); n],
            sums: vec![Lane::ZERO; n * extent.sums(0).len()],
            out: vec![Lane::ZERO; n * extent.out(0).1],
            marks: Vec::new(),
        }
    }

    /// Back to having seen nothing.
    pub fn forget(&mut self) {
        self.highest.fill(Lane([LOWEST; WIDTH]));
        self.sums.fill(Lane::ZERO);
        self.out.fill(Lane::ZERO);
        self.marks.clear();
    }

    /// Multiplies what a unit has come to.
    #[inline(always)]
    pub fn fade<L: Lanes>(&mut self, l: L, extent: Extent, unit: usize, by: L::F) {
        for lane in &mut self.sums[extent.sums(unit)] {
            l.store(l.mul(l.load(lane), by), lane);
        }
        let (first, n, apart) = extent.out(unit);
        for lane in self.out[first..].iter_mut().step_by(apart).take(n) {
            l.store(l.mul(l.load(lane), by), lane);
        }
    }

    /// Takes in the state over keys that follow, and its marks away from it.
    #[inline(always)]
    pub fn merge<L: Lanes>(&mut self, l: L, extent: Extent, next: &mut Self) {
        self.marks.append(&mut next.marks);
        for unit in 0..extent.n_units() {
            let (before, after) = (l.load(&self.highest[unit]), l.load(&next.highest[unit]));
            if !l.any_above(after, l.splat(LOWEST)) {
                continue;
            }
            let highest = l.max(after, before);
            l.store(highest, &mut self.highest[unit]);
            let fade = exp(l, l.sub(before, highest));
            let grow = exp(l, l.sub(after, highest));
            let (first, n, apart) = extent.out(unit);
            let sums = extent.sums(unit);
            let out = self.out[first..].iter_mut().step_by(apart).take(n);
            let to = self.sums[sums.clone()].iter_mut().chain(out);
            let out = next.out[first..].iter().step_by(apart);
            for (to, from) in to.zip(next.sums[sums].iter().chain(out)) {
                l.store(l.fma(l.load(from), grow, l.mul(l.load(to), fade)), to);
            }
        }
    }

    /// Sum of all weights of a unit's lines.
    #[inline(always)]
    fn total<L: Lanes>(&self, l: L, extent: Extent, unit: usize) -> L::F {
        let sums = &self.sums[extent.sums(unit)];
        match sums.as_chunks::<WIDTH>().0 {
            [sums, ..] => sum_of_lanes(l, sums),
            [] => l.splat(sum(l, l.load(&sums[0]))),
        }
    }

    /// `[n_lines]` highest score, and sum of weights relative to it.
    #[inline(always)]
    fn of_lines<L: Lanes>(&self, l: L, extent: Extent) -> Vec<(f32, f32)> {
        let mut of_lines = Vec::with_capacity(extent.group * extent.n_rows);
        for unit in 0..extent.n_units() {
            let mut totals = Lane::ZERO;
            l.store(self.total(l, extent, unit), &mut totals);
            let of_unit = self.highest[unit].0.into_iter().zip(totals.0);
            of_lines.extend(of_unit.take(extent.n_lines(unit)));
        }
        of_lines
    }

    /// Remembers what lines have come to after a part of the present span.
    #[inline(always)]
    pub fn mark<L: Lanes>(&mut self, l: L, extent: Extent, source: usize, starts_span: bool) {
        let of_lines = self.of_lines(l, extent);
        self.marks.push(Mark {
            source,
            starts_span,
            of_lines,
        });
    }
}

/// What attention of a task yields.
pub(super) struct HeadsOutput {
    /// `[head_dim / 16][group][n_rows]`.
    pub lanes: Vec<Lane>,
    pub n_rows: usize,
    /// `[n_rows][n_sources]`, summed over the group; empty unless wanted.
    pub mass: Vec<f32>,
}

/// Merges states over keys that follow each other, and ends the softmax.
pub(super) struct Finish {
    pub states: Vec<State>,
    pub extent: Extent,
    /// The tail among them.
    pub n_sources: usize,
    pub want_mass: bool,
}

impl Kernel for Finish {
    type Output = HeadsOutput;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> HeadsOutput {
        let extent = self.extent;
        let mut states = self.states.into_iter();
        let mut state = states.next().expect("a row sees itself");
        for mut next in states {
            state.merge(l, extent, &mut next);
        }
        for unit in 0..extent.n_units() {
            let total = state.total(l, extent, unit);
            let (first, n, apart) = extent.out(unit);
            for lane in state.out[first..].iter_mut().step_by(apart).take(n) {
                l.store(l.div(l.load(lane), total), lane);
            }
        }
        let mass = match self.want_mass {
            true => {
                let in_the_end = state.of_lines(l, extent);
                shares(&state.marks, &in_the_end, extent.n_rows, self.n_sources)
            }
            false => Vec::new(),
        };
        HeadsOutput {
            lanes: match extent.vectors {
                Vectors::OfKeys => state.out,
                Vectors::OfRows => by_lines(&state.out, extent),
            },
            n_rows: extent.n_rows,
            mass,
        }
    }
}

/// `[n_units][head_dim]`, a lane a row, as `[head_dim / 16][group][n_rows]`, a lane a dimension.
fn by_lines(out: &[Lane], extent: Extent) -> Vec<Lane> {
    let n_lines = extent.group * extent.n_rows;
    let mut lanes = vec![Lane::ZERO; extent.head_dim / WIDTH * n_lines];
    let mut first = 0;
    for (unit, out) in out.chunks_exact(extent.head_dim).enumerate() {
        let n = extent.n_lines(unit);
        for (out, lanes) in out
            .as_chunks::<WIDTH>()
            .0
            .iter()
            .zip(lanes.chunks_exact_mut(n_lines))
        {
            for (row, lane) in lanes[first..first + n].iter_mut().enumerate() {
                lane.0 = std::array::from_fn(|dimension| out[dimension].0[row]);
            }
        }
        first += n;
    }
    lanes
}

/// The share of each source in the softmax, `[n_rows][n_sources]`, from the marks and what
/// lines (highest score and sum of weights) came to in the end.
fn shares(marks: &[Mark], in_the_end: &[(f32, f32)], n_rows: usize, n_sources: usize) -> Vec<f32> {
    let mut mass = vec![0.0; n_rows * n_sources];
    for (line, (highest_of_all, total)) in in_the_end.iter().enumerate() {
        let mut before = 0.0;
        for mark in marks {
            if mark.starts_span {
                before = 0.0;
            }
            let (highest, sum) = mark.of_lines[line];
            let so_far = sum * (highest - highest_of_all).exp() / total;
            mass[line % n_rows * n_sources + mark.source] += (so_far - before).max(0.0);
            before = so_far;
        }
    }
    mass
}
