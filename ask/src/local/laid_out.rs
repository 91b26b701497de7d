//! Which fragments does an answer stand on, and which of them are borrowed?

use std::sync::Arc;

use perennial_model::cancel::Cancel;
use perennial_model::error::Error as ModelError;
use perennial_model::kv::KvFragment;
use perennial_model::layout::Layout;
use perennial_model::passes::Priority;

use super::TensorModel;
use super::encoder::{Chain, Encoder};
use super::encodings::Claim;
use super::handed_over::StandIns;
use crate::answer::{AnswerRequest, CallProgress, Work};
use perennial_bank::id::FragmentId;
use perennial_bank::live_layout::{Lent, LiveLayout};
use perennial_bank::repair::Stale;
use perennial_bank::scope::{FragmentPlan, Piece, Scope};
use perennial_bank::turnover::{Attended, Row, Standing, Worn, too_worn};

/// A layout, its passages' fragments, and which of these are stale.
pub(super) struct LaidOut {
    /// Segment 0 is the prefix.
    pub(super) layout: Arc<Layout>,
    /// By passage.
    pub(super) members: Vec<Lent>,
    /// By passage: whether its fragment is not that of a run from scratch.
    pub(super) is_stale: Vec<bool>,
    /// What all questions are read behind, where they share that.
    pub(super) instruction: Option<Arc<KvFragment>>,
    /// By passage: of how many segments it consists.
    n_segments: Vec<usize>,
    /// By passage: what its fragment attended to, where that is not what stands before it.
    attended: Vec<Option<Attended>>,
    /// By passage.
    tokens: Vec<Arc<[u32]>>,
}

/// Where the fragment of a passage comes from, as a layout is spliced.
enum Source {
    /// The store has that of a run from scratch.
    Exact(Arc<KvFragment>),
    /// Another stands in for it.
    StandIn(Lent),
    /// The layout before has it, as it was read there, behind these.
    Borrowed(Lent, Attended),
    /// It is encoded behind what now stands before it.
    Missing,
}

impl LaidOut {
    pub(super) fn new(plan: &FragmentPlan, prefix: Lent) -> (Self, FragmentId) {
        let mut layout = Layout::new();
        layout.push(prefix.kv);
        let laid_out = Self {
            layout: Arc::new(layout),
            members: Vec::new(),
            is_stale: Vec::new(),
            n_segments: Vec::new(),
            attended: Vec::new(),
            instruction: None,
            tokens: plan.pieces().map(|piece| piece.tokens.clone()).collect(),
        };
        (laid_out, prefix.id)
    }

    /// Adds the fragment of the next passage; `attended` where it was borrowed from another layout.
    pub(super) fn push(&mut self, lent: Lent, is_stale: bool, attended: Option<Attended>) {
        Arc::make_mut(&mut self.layout).push(lent.kv.clone());
        self.members.push(lent);
        self.is_stale.push(is_stale);
        self.n_segments.push(1);
        self.attended.push(attended);
    }

    /// Adds the next passage by its first tokens, which `boundary` has, and the rest of `alone`.
    pub(super) fn push_joined(&mut self, boundary: Arc<KvFragment>, alone: Lent, is_stale: bool) {
        let n = boundary.n_tokens() as u32;
        let layout = Arc::make_mut(&mut self.layout);
        layout.push(boundary);
        layout.push_rest(alone.kv.clone(), n, layout.end());
        self.members.push(alone);
        self.is_stale.push(is_stale);
        self.n_segments.push(2);
        self.attended.push(None);
    }

    /// Of what each segment has, beginning with the prefix, what each passage has.
    pub(super) fn by_passage(&self, by_segment: &[f32]) -> Vec<f32> {
        let mut left = by_segment.iter().skip(1);
        let of_passage = |n: &usize| left.by_ref().take(*n).sum();
        self.n_segments.iter().map(of_passage).collect()
    }

    /// What the next layout may borrow. Nothing of passages that stand by several fragments: layouts of
    /// their scope borrow nothing.
    pub(super) fn live(&self) -> LiveLayout {
        let mut live = LiveLayout::default();
        if self.n_segments.iter().any(|n| *n > 1) {
            return live;
        }
        let row = Row::of(self.tokens.iter().map(|tokens| &**tokens));
        for (place, lent) in self.members.iter().enumerate() {
            let attended = self.attended[place].clone();
            let attended = attended.unwrap_or_else(|| row.first(place));
            let (tokens, is_stale) = (self.tokens[place].clone(), self.is_stale[place]);
            live.push(tokens, lent, is_stale, attended);
        }
        live
    }
}

impl TensorModel {
    /// The layout that a request may be answered over, and `instruction` behind it.
    pub(super) fn lay_out_for<'a>(
        &'a self,
        request: &'a AnswerRequest<'_>,
        plan: &'a FragmentPlan,
        instruction: &[u32],
        progress: &'a mut dyn CallProgress,
        work: &'a mut Work,
    ) -> Result<LaidOut, ModelError> {
        let mut encoder = Encoder::new(self, request.priority, &request.cancel, progress, work);
        let borrows = request.tolerance.borrows;
        if borrows && request.scope == Scope::Causal && !request.before.live.is_empty() {
            return self.splice(plan, instruction, request, &mut encoder);
        }
        if borrows && let Some(stand_ins) = self.stand_ins(plan) {
            return match plan.boundaries.is_empty() {
                true => self.over_stand_ins(plan, &stand_ins, instruction, &mut encoder),
                false => self.joined(plan, &stand_ins, instruction, &mut encoder),
            };
        }
        self.exact(plan, instruction, &mut encoder)
    }

    /// The layout of a request's passages, with the view's repair laid on those that are superseded.
    pub(super) fn repaired(
        &self,
        request: &AnswerRequest<'_>,
        laid_out: &LaidOut,
    ) -> Result<Arc<Layout>, ModelError> {
        let layout = laid_out.layout.clone();
        let mut stale = Vec::new();
        // The prefix comes first.
        let mut first = 1;
        for (passage, n_segments) in request.layout.passages().iter().zip(&laid_out.n_segments) {
            let segments = first..first + n_segments;
            first = segments.end;
            if passage.is_superseded {
                let header = self.codec.passage(&passage.title, "")?;
                let same = header
                    .iter()
                    .zip(&*passage.tokens)
                    .take_while(|(a, b)| a == b);
                let n_header = same.count();
                stale.extend(segments.map(|segment| Stale {
                    segment,
                    n_tokens: passage.tokens.len(),
                    n_header,
                }));
            }
        }
        // What is taken out was never in the layout.
        if stale.is_empty() || request.repair.takes_out() {
            return Ok(layout);
        }
        let n_layers = self.decoder().config().n_layers;
        Ok(Arc::new(request.repair.apply(&layout, &stale, n_layers)))
    }

    /// The layout of a plan, every missing fragment encoded and kept.
    ///
    /// # Errors
    /// What the decoder reports, cancellation included.
    pub fn lay_out(
        &self,
        plan: &FragmentPlan,
        priority: Priority,
        cancel: &Cancel,
    ) -> Result<Arc<Layout>, ModelError> {
        let (mut work, mut progress) = (Work::default(), ());
        let mut encoder = Encoder::new(self, priority, cancel, &mut progress, &mut work);
        Ok(self.exact(plan, &[], &mut encoder)?.layout)
    }

    pub(super) fn exact<'a>(
        &self,
        plan: &'a FragmentPlan,
        instruction: &[u32],
        encoder: &mut Encoder<'a>,
    ) -> Result<LaidOut, ModelError> {
        if !plan.boundaries.is_empty() {
            return self.joined(plan, &StandIns::new(), instruction, encoder);
        }
        let mut ids: Vec<FragmentId> = plan.fragments().map(|piece| piece.id).collect();
        let instruction = self.instruction_piece(&ids, instruction);
        ids.extend(instruction.iter().map(|piece| piece.id));
        encoder.instructed_by(instruction.as_ref());
        let _claim = self.claim(&ids);
        let prefix = encoder.prefix(&plan.prefix)?;
        let (mut laid_out, _) = LaidOut::new(plan, lent(&plan.prefix, prefix.clone()));
        let (fragments, instruction) = encoder.runs(&prefix, &plan.runs, instruction)?;
        laid_out.instruction = instruction;
        for (piece, kv) in plan.pieces().zip(fragments) {
            laid_out.push(lent(piece, kv), false, None);
        }
        Ok(laid_out)
    }

    /// A layout of the plan's passages at the cost of those that are new: what the store
    /// does not hold is borrowed from what stands in for it, or from the layout before, and only what
    /// these lack is encoded, after what now stands before it. So the old is evicted before the new is
    /// read. The first passages behind each place where something changed are encoded again,
    /// as many as the request says, and those whose context has turned over the most, where that is too much
    /// ([`too_worn`]).
    fn splice(
        &self,
        plan: &FragmentPlan,
        instruction: &[u32],
        request: &AnswerRequest<'_>,
        encoder: &mut Encoder<'_>,
    ) -> Result<LaidOut, ModelError> {
        let mut sources = self.sources(plan, request);
        let claim = self.claim(&[plan.prefix.id]);
        let prefix = encoder.prefix(&plan.prefix)?;
        drop(claim);
        let mut chain = Chain::of(prefix.clone());
        let (mut laid_out, prefix) = LaidOut::new(plan, lent(&plan.prefix, prefix));
        // What stands before the next piece, under its true names.
        let mut ids = vec![prefix];
        let mut members = Vec::new();
        let mut wanted = Vec::new();
        let mut any_stale = false;
        for (piece, source) in plan.pieces().zip(sources.drain(..)) {
            let mut codes_of = None;
            let (id, is_stale, attended) = match source {
                Source::Exact(kv) => {
                    chain.push(kv);
                    (piece.id, false, None)
                }
                Source::StandIn(lent) => {
                    codes_of = lent.codes_of;
                    chain.push(lent.kv);
                    (lent.id, true, None)
                }
                Source::Borrowed(lent, attended) => {
                    codes_of = lent.codes_of;
                    chain.push(lent.kv);
                    (lent.id, true, Some(attended))
                }
                Source::Missing => {
                    // Behind borrowed fragments it is not what the plan calls it.
                    let id = match any_stale {
                        true => FragmentId::spliced(&self.identity, &ids, &piece.tokens),
                        false => piece.id,
                    };
                    let tokens = piece.tokens.clone();
                    wanted.push(id);
                    chain.want(Piece { id, tokens });
                    (id, any_stale, None)
                }
            };
            any_stale |= is_stale;
            ids.push(id);
            members.push((codes_of, is_stale, attended));
        }
        let instruction = self.instruction_piece(&ids, instruction);
        let is_instructed = instruction.is_some();
        wanted.extend(instruction.iter().map(|piece| piece.id));
        encoder.instructed_by(instruction.as_ref());
        instruction.into_iter().for_each(|piece| chain.want(piece));
        let _claim = self.claim(&wanted);
        encoder.complete(std::slice::from_mut(&mut chain))?;
        let mut fragments: Vec<_> = chain.into_fragments().skip(1).collect();
        laid_out.instruction = fragments.pop_if(|_| is_instructed);
        let named = ids.into_iter().skip(1).zip(fragments);
        for ((id, kv), (codes_of, is_stale, attended)) in named.zip(members) {
            laid_out.push(Lent { id, kv, codes_of }, is_stale, attended);
        }
        Ok(laid_out)
    }

    /// Where the fragment of each passage comes from.
    fn sources(&self, plan: &FragmentPlan, request: &AnswerRequest<'_>) -> Vec<Source> {
        let mut lender = request.before.live.lender(&self.store);
        let mut sources = Vec::new();
        let mut worn = Vec::new();
        let (mut standing, mut n_tokens) = (Standing::default(), 0);
        let (mut n_again, mut after) = (0, None);
        for (place, piece) in plan.pieces().enumerate() {
            let loan = lender.borrow(&piece.tokens);
            if let Some(loan) = &loan {
                let is_behind_a_change = loan.after.as_ref() != after;
                n_again = match is_behind_a_change {
                    true => request.reencode,
                    false => n_again,
                };
            }
            after = Some(&piece.tokens);
            let loan = loan.filter(|_| n_again == 0);
            n_again = n_again.saturating_sub(1);
            sources.push(if let Some(kv) = self.store.get(&piece.id) {
                Source::Exact(kv)
            } else if let Some(lent) = self.store.stand_in_for(&piece.id) {
                Source::StandIn(lent)
            } else if let Some(loan) = loan
                && let Some(lent) = loan.lent(&self.store)
            {
                worn.push(Worn {
                    place,
                    n_tokens: piece.tokens.len(),
                    turnover: standing.turnover(&loan.attended),
                });
                Source::Borrowed(lent, loan.attended)
            } else {
                Source::Missing
            });
            standing.push(&piece.tokens);
            n_tokens += piece.tokens.len();
        }
        for place in too_worn(worn, n_tokens, f64::from(request.turnover)) {
            sources[place] = Source::Missing;
        }
        sources
    }

    /// Keeps other calls from encoding those of these fragments meanwhile that are missing.
    pub(super) fn claim(&self, needed: &[FragmentId]) -> Claim<'_> {
        let is_missing = |id: &FragmentId| !self.store.contains(id);
        let needed = needed.iter().copied();
        self.encodings
            .claim(|| needed.clone().filter(is_missing).collect())
    }
}

pub(super) fn lent(piece: &Piece, kv: Arc<KvFragment>) -> Lent {
    Lent::new(piece.id, kv)
}
