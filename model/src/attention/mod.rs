//! Attention of rows over the segments of a layout and the tail they are appended to.
//!
//! A segment's keys are rotated at the fragment's own positions. Its query is rotated by
//! the row's position minus the segment's offset, so that scores depend on absolute
//! positions only and the keys are never touched. A tail is a segment of which
//! each row sees what stands up to itself.
//!
//! Contract: a row's bits do not depend on the other rows of the batch, on later tokens of
//! the tail, on threads or on the instruction set, as long as all are finite. Blocks of keys are counted from the
//! start of each segment, spans of blocks from the first segment's; a key that is out of sight
//! scores minus infinity and weighs exactly zero, and a span of which a row sees nothing leaves
//! it as it came.

mod by_keys;
mod by_rows;
mod extent;
mod heads;
mod spans;
mod state;

use std::ops::Range;

use rayon::prelude::*;

use crate::activations::Activations;
use crate::kv::{KvFragment, Tail};
use crate::lanes::{Isa, Lane, WIDTH};
use crate::layout::{Overlay, Segment};
use crate::rope::Rope;
use heads::{BLOCK, Heads};
use spans::spans;
use state::{Finish, HeadsOutput};

pub(crate) use spans::Span;

/// Lines (a query head of a row) that one task works on, at most, unless a vector of rows has more:
/// what fits the second cache.
const MOST_LINES: usize = 192;
/// Tasks for each thread, where there are rows for it, so that threads end together.
const TASKS_PER_THREAD: usize = 8;

/// A segment as the kernel sees it.
#[derive(Clone, Debug)]
pub(crate) struct Source<'a> {
    kv: &'a KvFragment,
    /// Added to a row's absolute position to get the rotation of its query.
    shift: i64,
    /// Per tile of sixteen keys: added to the scores (0 or minus infinity).
    hidden: Option<Vec<Lane>>,
    /// Whose values count as zero.
    without_values: Vec<Band>,
    /// Whose keys count as zero.
    without_keys: Vec<Band>,
}

/// Layers, and tokens of a fragment.
type Band = (Range<usize>, Range<usize>);

impl<'a> Source<'a> {
    /// A segment of a layout.
    pub fn of(segment: &'a Segment) -> Self {
        let kv = &*segment.kv;
        let n = kv.n_tokens();
        let tokens = |span: &Range<u32>| (span.start as usize).min(n)..(span.end as usize).min(n);
        let mut source = Self {
            kv,
            shift: i64::from(kv.base()) - i64::from(segment.offset),
            hidden: None,
            without_values: Vec::new(),
            without_keys: Vec::new(),
        };
        for overlay in &segment.overlays {
            match overlay {
                Overlay::Hide { span } => {
                    let bias = source
                        .hidden
                        .get_or_insert_with(|| vec![Lane::ZERO; n.div_ceil(WIDTH)]);
                    for token in tokens(span) {
                        bias[token / WIDTH].0[token % WIDTH] = f32::NEG_INFINITY;
                    }
                }
                Overlay::ZeroValues { span, layers } => {
                    let layers = layers.start as usize..layers.end as usize;
                    source.without_values.push((layers, tokens(span)));
                }
                Overlay::ZeroKeys { span, layers } => {
                    let layers = layers.start as usize..layers.end as usize;
                    source.without_keys.push((layers, tokens(span)));
                }
            }
        }
        source
    }

    /// The tokens of a block whose values count as zero in a layer, counted from its start.
    fn zeroed(&self, layer: usize, block: Range<usize>) -> impl Iterator<Item = usize> {
        within(&self.without_values, layer, block)
    }

    /// The tokens of a block whose keys count as zero in a layer, counted from its start.
    fn keyless(&self, layer: usize, block: Range<usize>) -> impl Iterator<Item = usize> {
        within(&self.without_keys, layer, block)
    }

    /// All of a tail.
    pub fn of_tail(tail: &'a Tail) -> Self {
        let shift = -i64::from(tail.start());
        Self {
            kv: tail.as_fragment(),
            shift,
            hidden: None,
            without_values: Vec::new(),
            without_keys: Vec::new(),
        }
    }
}

/// The tokens of a block that bands cover in a layer, counted from its start.
fn within(bands: &[Band], layer: usize, block: Range<usize>) -> impl Iterator<Item = usize> {
    let here = bands
        .iter()
        .filter(move |(layers, _)| layers.contains(&layer));
    here.flat_map(move |(_, span)| {
        let tokens = span.start.max(block.start)..span.end.min(block.end);
        tokens.map(move |token| token - block.start)
    })
}

/// Consecutive rows of a batch that belong to one run.
pub(crate) struct Run<'a> {
    /// What comes before the tail.
    pub sources: Vec<&'a Source<'a>>,
    /// What [`spans_of`] says of them and the tail.
    pub spans: &'a [Span],
    /// The tail, which holds the rows' own keys and values already.
    pub tail: &'a Tail,
    /// Number of the first row in the batch.
    pub first_row: usize,
    /// Number of rows.
    pub n_rows: usize,
    /// The first row's place in the tail.
    pub first_token: usize,
}

/// The spans that sources and a tail of `n_in_tail` tokens fall into: in all layers the same.
pub(crate) fn spans_of(sources: &[&Source<'_>], n_in_tail: usize) -> Vec<Span> {
    let of_sources = sources.iter().map(|source| source.kv.n_tokens());
    spans(of_sources.chain([n_in_tail]), BLOCK)
}

/// What attention needs to know of a layer.
pub(crate) struct Shape<'a> {
    /// Query heads that share a key/value head.
    pub group: usize,
    /// Number of key/value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rotations.
    pub rope: &'a Rope,
    /// What scores are multiplied with.
    pub scale: f32,
    /// Soft bound of scores.
    pub cap: Option<f32>,
    /// How many tokens a row sees, itself among them, by positions; `None` for all before it.
    pub window: Option<usize>,
}

/// Rows of a task, at most, where `n_rows` shall make so many tasks: whole vectors of rows.
fn rows_of_a_task(shape: &Shape<'_>, n_rows: usize, n_tasks: usize) -> usize {
    let most = (MOST_LINES / shape.group / WIDTH).max(1) * WIDTH;
    let wanted = (n_rows * shape.n_kv_heads).div_ceil(n_tasks);
    wanted.next_multiple_of(WIDTH).min(most)
}

/// Attends in one layer. `queries` (not rotated) and `out` are `[n_rows, n_heads *
/// head_dim]`. If `mass` is given, each row's attention mass on every segment and on the
/// tail, summed over heads, is added to its entry.
pub(crate) fn attend(
    isa: Isa,
    shape: &Shape<'_>,
    layer: usize,
    runs: &[Run<'_>],
    queries: &Activations,
    out: &mut Activations,
    mass: Option<&mut [Vec<f32>]>,
) {
    let n_tasks = TASKS_PER_THREAD * rayon::current_num_threads();
    let n_rows: usize = runs.iter().map(|run| run.n_rows).sum();
    let most_rows = rows_of_a_task(shape, n_rows, n_tasks);
    let want_mass = mass.is_some();
    let mut tasks = Vec::new();
    for run in runs {
        let n_stretches = run.n_rows.div_ceil(most_rows);
        let task_rows = run.n_rows.div_ceil(n_stretches).next_multiple_of(WIDTH);
        for first in (0..run.n_rows).step_by(task_rows) {
            let n_rows = task_rows.min(run.n_rows - first);
            tasks.extend((0..shape.n_kv_heads).map(|kv_head| (run, first, n_rows, kv_head)));
        }
    }
    // Fewer tasks than keep the threads busy: spans are tasks of their own.
    let apart = tasks.len() < 4 * rayon::current_num_threads();
    let done: Vec<_> = tasks
        .into_par_iter()
        .with_max_len(1)
        .map(|(run, first, n_rows, kv_head)| {
            let heads = Heads {
                shape,
                layer,
                kv_head,
                sources: &run.sources,
                tail: Source::of_tail(run.tail),
                queries,
                first_row: run.first_row + first,
                n_rows,
                first_position: i64::from(run.tail.start()) + (run.first_token + first) as i64,
                first_visible: run.first_token + first + 1,
                want_mass,
            };
            let states = if apart {
                let spans = run.spans.par_iter().with_max_len(1);
                spans
                    .map(|span| isa.run(heads.over(std::slice::from_ref(span))))
                    .collect()
            } else {
                vec![isa.run(heads.over(run.spans))]
            };
            let output = isa.run(Finish {
                states,
                extent: heads.extent(),
                n_sources: run.sources.len() + 1,
                want_mass,
            });
            (run.first_row + first, kv_head, output)
        })
        .collect();
    let panels_of_head = shape.head_dim / WIDTH;
    let n_rows_out = out.n_rows();
    let mut mass = mass;
    for (
        first_row,
        kv_head,
        HeadsOutput {
            lanes,
            n_rows,
            mass: shares,
        },
    ) in done
    {
        for (i, lanes) in lanes.chunks_exact(n_rows).enumerate() {
            // Lanes come as [panels of a head][heads of the group][rows].
            let (panel, head) = (i / shape.group, kv_head * shape.group + i % shape.group);
            let to = (head * panels_of_head + panel) * n_rows_out + first_row;
            out.lanes_mut()[to..to + n_rows].copy_from_slice(lanes);
        }
        if let Some(mass) = mass.as_deref_mut() {
            let n_sources = shares.len() / n_rows;
            for (shares, sums) in shares.chunks_exact(n_sources).zip(&mut mass[first_row..]) {
                sums.resize(n_sources, 0.0);
                sums.iter_mut()
                    .zip(shares)
                    .for_each(|(sum, share)| *sum += share);
            }
        }
    }
}
