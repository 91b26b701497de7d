//! May an answer be left as it is, unread?
//!
//! Under [`Latitude::Skip`] an answer stays if nothing in it depends on what changed. A
//! passage that is gone has a dependency score from when the answer was written. One that
//! is new has none yet: it is *probed*. It is encoded behind the shared prefix and the
//! passages right before it, and question and answer are read over the prefix, the passages that
//! the answer depends on most, and the new one. The rows are as many as those of a verifying
//! pass, but what they attend to does not grow with the layout; and among fewer passages the
//! new one gets more attention, not less, than it would among all.
//!
//! Skipping is a guess, so it is never exact; audits compare it with the truth.

use std::sync::Arc;

use perennial_model::decoder::Logits;
use perennial_model::error::Error as ModelError;
use perennial_model::layout::Layout;
use perennial_model::passes::Pass;
use perennial_model::sampling::Sampling;

use super::TensorModel;
use super::encoder::{Chain, Encoder};
use crate::answer::{
    AnswerRequest, CallProgress, Latitude, Outcome, Rung, Source, SubParagraph, Work,
};
use crate::before::{LayoutDelta, Written};
use crate::dependency::{Dependencies, Read};
use perennial_bank::document::LayoutPassage;
use perennial_bank::id::FragmentId;
use perennial_bank::live_layout::{Lent, LiveLayout};
use perennial_bank::scope::{FragmentPlan, Piece, Scope};

/// Passages right before a new one that it is encoded behind.
const NEIGHBOURS: usize = 2;
/// Passages that an answer depends on most, which a probe holds beside the new one.
const STRONGEST: usize = 3;
/// A change of more passages than this is read, not probed.
const MAX_PROBES: usize = 4;

/// The fragments of a layout that is not wholly there: those of probed passages, and those
/// that the layout before had.
type Patchwork = Vec<Option<(Lent, bool)>>;

impl TensorModel {
    /// The answer before, if the request may be answered with it.
    pub(super) fn skip(
        &self,
        request: &AnswerRequest<'_>,
        plan: &FragmentPlan,
        suffix: &[u32],
        progress: &mut dyn CallProgress,
        work: &mut Work,
    ) -> Result<Option<Outcome>, ModelError> {
        let (Latitude::Skip { below }, Scope::Causal) = (request.latitude, request.scope) else {
            return Ok(None);
        };
        let Some(written) = request.before.written.clone() else {
            return Ok(None);
        };
        let passages = request.layout.passages();
        let delta = LayoutDelta::between(written.layout.passages(), passages);
        let is_untouched = |place: &usize| written.dependencies.on(*place) < below;
        if *written.question != *request.question
            || delta.added.len() > MAX_PROBES
            || !delta.removed.iter().all(is_untouched)
        {
            return Ok(None);
        }
        let Some(mut fragments) = self.present(request, plan, &delta) else {
            return Ok(None);
        };
        let mut encoder = Encoder::new(self, request.priority, &request.cancel, progress, work);
        let prefix = Lent {
            id: plan.prefix.id,
            kv: encoder.prefix(&plan.prefix)?,
        };
        for place in &delta.added {
            let tokens = passages[*place].tokens.clone();
            let lent = self.encode_local(&mut encoder, &prefix, &fragments, *place, tokens)?;
            fragments[*place] = Some((lent, true));
        }
        let mut dependencies = written.dependencies.clone();
        dependencies.carry(&delta.kept);
        if !delta.added.is_empty() {
            let layout = Probed::layout(request, &written, &delta, &fragments, &prefix);
            let probed = self.probe(request, &written, layout, suffix, work)?;
            for (i, place) in probed.places.iter().enumerate() {
                if delta.added.contains(place) {
                    let scores = probed.dependencies.scores().iter();
                    dependencies.set(*place, scores.map(|row| row[i]));
                }
            }
        }
        if delta
            .added
            .iter()
            .any(|place| dependencies.on(*place) >= below)
        {
            return Ok(None);
        }
        work.n_from_scratch = self.prefix.len()
            + passages.iter().map(|p| p.tokens.len()).sum::<usize>()
            + suffix.len()
            + request.before.tokens.len();
        Ok(Some(skipped(
            request,
            &written,
            &delta,
            &fragments,
            dependencies,
            *work,
        )))
    }

    /// The fragments of all passages that are not new; `None` if one is gone, or if the layout
    /// is exact without any work (then there is nothing to save).
    fn present(
        &self,
        request: &AnswerRequest<'_>,
        plan: &FragmentPlan,
        delta: &LayoutDelta,
    ) -> Option<Patchwork> {
        let mut lender = request.before.live.lender();
        let mut fragments = Vec::new();
        for (place, piece) in plan.pieces().enumerate() {
            fragments.push(if delta.added.contains(&place) {
                None
            } else if let Some(kv) = self.store.get(&piece.id) {
                Some((Lent { id: piece.id, kv }, false))
            } else {
                Some((lender.borrow(&piece.tokens)?.lent, true))
            });
        }
        let is_exact = |f: &Option<(Lent, bool)>| matches!(f, Some((_, false)));
        (!fragments.iter().all(is_exact)).then_some(fragments)
    }

    /// A passage behind the prefix and its neighbours.
    fn encode_local(
        &self,
        encoder: &mut Encoder<'_>,
        prefix: &Lent,
        fragments: &Patchwork,
        place: usize,
        tokens: Arc<[u32]>,
    ) -> Result<Lent, ModelError> {
        let mut chain = Chain::of(prefix.kv.clone());
        let mut ids = vec![prefix.id];
        let neighbours = &fragments[place.saturating_sub(NEIGHBOURS)..place];
        for (lent, _) in neighbours.iter().flatten() {
            chain.push(lent.kv.clone());
            ids.push(lent.id);
        }
        let id = FragmentId::spliced(&self.identity, &ids, &tokens);
        chain.want(Piece { id, tokens });
        let kv = encoder.last_of(chain)?;
        Ok(Lent { id, kv })
    }

    /// How much the old answer depends on the passages of a probe.
    fn probe(
        &self,
        request: &AnswerRequest<'_>,
        written: &Written,
        (layout, places): (Layout, Vec<usize>),
        suffix: &[u32],
        work: &mut Work,
    ) -> Result<Probed, ModelError> {
        let answer = &request.before.tokens;
        let layout = self.repaired(request, Arc::new(layout), places.iter().copied())?;
        let pass = Pass {
            tail: self.decoder().new_tail(layout.end()),
            layout,
            pending: Vec::new(),
            logits: Logits::None,
            sampling: Sampling::Greedy,
            among: None,
            n_emitted: 0,
            mass: true,
            tokens: suffix.iter().chain(answer.iter()).copied().collect(),
        };
        work.n_prompt += suffix.len();
        work.n_draft += answer.len();
        work.n_passes += 1;
        let mut passed = self
            .passes
            .run(request.priority, vec![pass], &request.cancel)?;
        let mass = passed.swap_remove(0).mass;
        // The row that chose a token is the one before it.
        let (question, answer) = mass.split_at(suffix.len() - 1);
        let parts = written.dependencies.parts();
        let read = parts.map(|(tokens, least_margin)| {
            let rows = tokens.start.min(answer.len())..tokens.end.min(answer.len());
            Read {
                mass: mean(&answer[rows], places.len()),
                least_margin,
                n_tokens: tokens.len(),
            }
        });
        let read: Vec<Read> = read.collect();
        Ok(Probed {
            dependencies: Dependencies::of(&mean(question, places.len()), &read),
            places,
        })
    }
}

/// What a probe found.
struct Probed {
    /// Of the answer before, on the passages of the probe.
    dependencies: Dependencies,
    /// Where these stand in the request's layout.
    places: Vec<usize>,
}

impl Probed {
    /// The prefix, the new passages and those that the answer depends on most, with their
    /// places in the request's layout.
    fn layout(
        request: &AnswerRequest<'_>,
        written: &Written,
        delta: &LayoutDelta,
        fragments: &Patchwork,
        prefix: &Lent,
    ) -> (Layout, Vec<usize>) {
        let n_before = written.layout.passages().len();
        let strongest = written.dependencies.strongest(n_before);
        let strongest = &strongest[..strongest.len().min(STRONGEST)];
        let is_probed = |place: &usize| match delta.kept[*place] {
            None => true,
            Some(before) => strongest.contains(&before),
        };
        let n_passages = request.layout.passages().len();
        let places: Vec<usize> = (0..n_passages).filter(is_probed).collect();
        let mut layout = Layout::new();
        layout.push(prefix.kv.clone());
        for (lent, _) in places.iter().filter_map(|place| fragments[*place].as_ref()) {
            layout.push(lent.kv.clone());
        }
        (layout, places)
    }
}

/// Attention to each of `n` passages, mean over rows. Segment 0 is the prefix.
fn mean(rows: &[Vec<f32>], n: usize) -> Vec<f32> {
    let mut mean = vec![0.0; n];
    for row in rows {
        let masses = row.iter().skip(1).zip(&mut mean);
        masses.for_each(|(m, mean)| *mean += m / rows.len() as f32);
    }
    mean
}

/// The sub-paragraphs with their sources where these stand now.
fn moved(
    sub_paragraphs: &[SubParagraph],
    before: &[LayoutPassage],
    after: &[LayoutPassage],
    delta: &LayoutDelta,
) -> Vec<SubParagraph> {
    let moved = |source: &Source| {
        let is_it =
            |p: &LayoutPassage| (&p.document, p.ordinal) == (&source.document, source.ordinal);
        let old = before.iter().position(is_it)?;
        let new = delta.kept.iter().position(|kept| *kept == Some(old))?;
        Some(Source {
            document: after[new].document.clone(),
            ordinal: after[new].ordinal,
            share: source.share,
        })
    };
    let of_part = |part: &SubParagraph| SubParagraph {
        text: part.text.clone(),
        sources: part.sources.iter().filter_map(moved).collect(),
    };
    sub_paragraphs.iter().map(of_part).collect()
}

/// The answer before, over the layout of the request.
fn skipped(
    request: &AnswerRequest<'_>,
    written: &Written,
    delta: &LayoutDelta,
    fragments: &Patchwork,
    dependencies: Dependencies,
    work: Work,
) -> Outcome {
    let passages = request.layout.passages();
    let mut live = LiveLayout::default();
    for (passage, (lent, is_stale)) in passages.iter().zip(fragments.iter().flatten()) {
        live.push(passage.tokens.clone(), lent, *is_stale);
    }
    let lost: f32 = delta
        .removed
        .iter()
        .map(|place| written.dependencies.on(*place))
        .sum();
    let before = written.layout.passages();
    Outcome {
        answer: written.answer.clone(),
        tokens: request.before.tokens.clone(),
        rung: Rung::Skip,
        work,
        sub_paragraphs: moved(&written.sub_paragraphs, before, passages, delta),
        min_margin: written.min_margin,
        is_exact: false,
        drift: (written.drift + lost).min(1.0),
        dependencies,
        live: Arc::new(live),
    }
}
