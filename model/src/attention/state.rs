//! What a softmax over some keys has come to, how two of them become one, and how it ends.

use crate::lanes::{Kernel, Lane, Lanes, exp, sum};

/// Below every score, yet finite: the highest score of who has seen nothing.
const LOWEST: f32 = -1e30;

/// The state of lines (a query head of a row each) over keys that follow each other.
#[derive(Default)]
pub(super) struct State {
    /// `[n]` highest score.
    pub highest: Vec<f32>,
    /// `[n]` sums of weights, a lane each.
    pub sums: Vec<Lane>,
    /// `[head_dim / 16][n]` sums of weighted values.
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
    /// `[n]` highest score, and sum of weights relative to it.
    pub of_lines: Vec<(f32, f32)>,
}

impl State {
    /// The state of `n` lines that have seen nothing.
    pub fn nothing(n: usize, n_panels: usize) -> Self {
        Self {
            highest: vec![LOWEST; n],
            sums: vec![Lane::ZERO; n],
            out: vec![Lane::ZERO; n * n_panels],
            marks: Vec::new(),
        }
    }

    /// Takes in the state over keys that follow. A line that has seen nothing of either is left
    /// with the bits of the other.
    #[inline(always)]
    pub fn merge<L: Lanes>(&mut self, l: L, mut next: Self) {
        self.marks.append(&mut next.marks);
        let n = self.highest.len();
        for line in 0..n {
            let (before, after) = (self.highest[line], next.highest[line]);
            if after == LOWEST {
                continue;
            }
            let to = self.out[line..].iter_mut().step_by(n);
            let from = next.out[line..].iter().step_by(n);
            if before == LOWEST {
                self.highest[line] = after;
                self.sums[line] = next.sums[line];
                to.zip(from).for_each(|(to, from)| *to = *from);
                continue;
            }
            let highest = if after > before { after } else { before };
            let fade = exp(l, l.splat(before - highest));
            let grow = exp(l, l.splat(after - highest));
            for (to, from) in to.zip(from) {
                l.store(l.fma(l.load(from), grow, l.mul(l.load(to), fade)), to);
            }
            let to = &mut self.sums[line];
            let sums = l.fma(l.load(&next.sums[line]), grow, l.mul(l.load(to), fade));
            l.store(sums, to);
            self.highest[line] = highest;
        }
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
    pub n_rows: usize,
    /// The tail among them.
    pub n_sources: usize,
    pub want_mass: bool,
}

impl Kernel for Finish {
    type Output = HeadsOutput;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> HeadsOutput {
        let mut states = self.states.into_iter();
        let mut state = states.next().expect("a row sees itself");
        for next in states {
            state.merge(l, next);
        }
        let n = state.highest.len();
        let mut totals = Vec::with_capacity(n);
        for line in 0..n {
            let total = sum(l, l.load(&state.sums[line]));
            for lane in state.out[line..].iter_mut().step_by(n) {
                l.store(l.div(l.load(lane), l.splat(total)), lane);
            }
            totals.push(total);
        }
        let mass = match self.want_mass {
            true => shares(&state, &totals, self.n_rows, self.n_sources),
            false => Vec::new(),
        };
        HeadsOutput {
            lanes: state.out,
            n_rows: self.n_rows,
            mass,
        }
    }
}

/// The share of each source in the softmax, `[n_rows][n_sources]`, from the marks.
fn shares(state: &State, totals: &[f32], n_rows: usize, n_sources: usize) -> Vec<f32> {
    let mut mass = vec![0.0; n_rows * n_sources];
    for (line, total) in totals.iter().enumerate() {
        let mut before = 0.0;
        for mark in &state.marks {
            if mark.starts_span {
                before = 0.0;
            }
            let (highest, sum) = mark.of_lines[line];
            let so_far = sum * (highest - state.highest[line]).exp() / total;
            mass[line % n_rows * n_sources + mark.source] += (so_far - before).max(0.0);
            before = so_far;
        }
    }
    mass
}
