//! Attention of rows over the segments of a layout and the tail they are appended to.
//!
//! A segment's keys are rotated at the fragment's own positions. Its query is rotated by
//! the row's position minus the segment's offset, so that scores depend on absolute
//! positions only and the keys are never touched. A tail is a segment of which
//! each row sees what stands up to itself.
//!
//! Contract: a row's bits do not depend on the other rows of the batch, on later tokens of
//! the tail, on threads or on the instruction set. Blocks of keys are counted from the
//! start of each segment, spans of blocks from the first segment's; a key that is out of sight
//! scores minus infinity and weighs exactly zero, and a span of which a row sees nothing leaves
//! it as it came.

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
use spans::{Span, spans};
use state::{Finish, HeadsOutput};

/// Lines (a query head of a row) that one task works on: what fits the second cache.
const TASK_LINES: usize = 192;

/// A segment as the kernel sees it.
#[derive(Clone, Debug)]
pub(crate) struct Source<'a> {
    kv: &'a KvFragment,
    /// Added to a row's absolute position to get the rotation of its query.
    shift: i64,
    /// Per tile of sixteen keys: added to the scores (0 or minus infinity).
    hidden: Option<Vec<Lane>>,
    /// Layers and tokens whose values count as zero.
    zeroed: Vec<Band>,
    /// Layers and tokens whose keys count as zero.
    keyless: Vec<Band>,
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
            zeroed: Vec::new(),
            keyless: Vec::new(),
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
                    source.zeroed.push((layers, tokens(span)));
                }
                Overlay::ZeroKeys { span, layers } => {
                    let layers = layers.start as usize..layers.end as usize;
                    source.keyless.push((layers, tokens(span)));
                }
            }
        }
        source
    }

    /// All of a tail.
    pub fn of_tail(tail: &'a Tail) -> Self {
        let shift = -i64::from(tail.start());
        Self {
            kv: tail.as_fragment(),
            shift,
            hidden: None,
            zeroed: Vec::new(),
            keyless: Vec::new(),
        }
    }
}

/// Consecutive rows of a batch that belong to one run.
pub(crate) struct Run<'a> {
    /// What comes before the tail.
    pub sources: Vec<&'a Source<'a>>,
    /// The tail, which holds the rows' own keys and values already.
    pub tail: &'a Tail,
    /// Number of the first row in the batch.
    pub first_row: usize,
    /// Number of rows.
    pub n_rows: usize,
    /// The first row's place in the tail.
    pub first_token: usize,
}

impl Run<'_> {
    /// The spans that all sources and the tail fall into.
    fn spans(&self) -> Vec<Span> {
        let sources = self.sources.iter().map(|source| source.kv.n_tokens());
        spans(sources.chain([self.first_token + self.n_rows]), BLOCK)
    }
}

/// What attention needs to know of the model.
pub(crate) struct Shape<'a> {
    /// Query heads that share a key/value head.
    pub group: usize,
    /// Number of key/value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rotations.
    pub rope: &'a Rope,
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
    let task_rows = (TASK_LINES / shape.group).max(1);
    let want_mass = mass.is_some();
    let spans: Vec<Vec<Span>> = runs.iter().map(Run::spans).collect();
    let mut tasks = Vec::new();
    for (run, spans) in runs.iter().zip(&spans) {
        for first in (0..run.n_rows).step_by(task_rows) {
            let n_rows = task_rows.min(run.n_rows - first);
            tasks.extend((0..shape.n_kv_heads).map(|kv_head| (run, spans, first, n_rows, kv_head)));
        }
    }
    // Fewer tasks than keep the threads busy: spans are tasks of their own.
    let apart = tasks.len() < 2 * rayon::current_num_threads();
    let done: Vec<_> = tasks
        .into_par_iter()
        .with_max_len(1)
        .map(|(run, spans, first, n_rows, kv_head)| {
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
                let spans = spans.par_iter().with_max_len(1);
                spans
                    .map(|span| isa.run(heads.over(std::slice::from_ref(span))))
                    .collect()
            } else {
                vec![isa.run(heads.over(spans))]
            };
            let output = isa.run(Finish {
                states,
                n_rows,
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
