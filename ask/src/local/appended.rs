//! How is a conversation gone on with, over fragments?
//!
//! The passages that it began over, and all that was said behind them, are fragments of the store: those
//! of the passages under the names that any layout gives them, those of what was said under names of what they
//! stand behind. A [log](crate::append::AppendLog) keeps them from one answer to the next; one that was lost
//! all the same is encoded again. What a turn tells is encoded behind them, a fragment a passage, so that an
//! answer's attention tells which of them it leans on.
//!
//! Where laying out the documents anew reads no more tokens than the turn does, that is what is done: then the
//! answer is exact at no higher price.

use std::sync::Arc;

use perennial_bank::KeptFragments;
use perennial_bank::id::FragmentId;
use perennial_bank::live_layout::LiveLayout;
use perennial_bank::scope::{self, FragmentPlan, Piece};
use perennial_model::error::Error as ModelError;
use perennial_model::generation::Generation;
use perennial_model::kv::Tail;
use perennial_model::layout::Layout;

use super::encoder::{Chain, Encoder};
use super::skip::skipped;
use super::written::Reading;
use super::{TensorModel, failed};
use crate::answer::{AnswerModel, AnswerRequest, CallProgress, Outcome, Rung, Work};
use crate::append::{self, AppendLog, LogPiece, Place, Turn, is_full, may_begin};
use crate::provider::Failure;

/// A conversation up to the question that is asked again.
struct Conversation {
    plan: FragmentPlan,
    /// What is read behind the plan's passages and the instruction.
    pieces: Vec<Piece>,
    /// Of all its fragments, in order.
    ids: Vec<FragmentId>,
}

impl TensorModel {
    /// The answer of a conversation that goes on, where it does. `suffix` is what the request asks, of which
    /// the first part is the `instruction`; from scratch its prompt has `n_prompt` tokens.
    pub(super) fn append(
        &self,
        request: &AnswerRequest<'_>,
        anew: &FragmentPlan,
        (suffix, instruction): (&[u32], &[u32]),
        n_prompt: usize,
        progress: &mut dyn CallProgress,
    ) -> Result<Option<Outcome>, Failure> {
        let Some((turn, opening)) = Turn::of(request).zip(self.codec.turn()) else {
            return Ok(None);
        };
        let mut work = Work {
            n_from_scratch: n_prompt + request.before.tokens.len(),
            ..Work::default()
        };
        if turn.is_empty() {
            return Ok(Some(Outcome {
                rung: Rung::Append,
                work,
                log: request.before.log.clone(),
                ..skipped(request, turn.written, &turn.delta)
            }));
        }
        let told = turn.told(opening, |text| self.codec.continued(text));
        let told = told.map_err(failed)?;
        let conversation = self.conversation(request, &turn, &told, instruction);
        let n_more = append::n_tokens(&told) + suffix.len() + request.max_tokens;
        let n_said = turn.log.n_said() + n_more;
        let n_base = self.prefix.len() + append::n_tokens(turn.log.base());
        let limit = self.n_positions();
        let does_not_fit = n_base + instruction.len() + n_said > limit;
        if does_not_fit || is_full(n_said, limit) || !self.is_cheaper(&conversation, anew) {
            return Ok(None);
        }
        let layout = self.lay_out_conversation(
            request,
            &conversation,
            instruction,
            (&mut *progress, &mut work),
        );
        let layout = layout.map_err(failed)?;
        let (draft, _) = self.draft(request);
        let generation = self.generate(request, &layout, suffix, &draft, progress);
        let mut generation = generation.map_err(failed)?;
        work.n_from_scratch = n_prompt + generation.tokens.len();
        let (tail, answer) = (generation.tail.take(), generation.tokens.clone());
        let said = turn.log.said().iter().chain(&told);
        let reading = reading(request, &turn, !instruction.is_empty(), said, &generation);
        let mut outcome = self.written(request, reading, generation, Rung::Append, work)?;
        outcome.log = tail.map(|tail| {
            let said = [suffix, &answer].concat();
            let (said, unread, kept) = self.kept(conversation.ids, said, tail);
            Arc::new(turn.log.gone_on(told, said, unread, Some(kept)))
        });
        Ok(Some(outcome))
    }

    /// What an exact answer leaves to be gone on from, where its request wants that: over these fragments,
    /// what was `asked` behind them, and what was said to that.
    pub(super) fn log_begun(
        &self,
        request: &AnswerRequest<'_>,
        plan: &FragmentPlan,
        (instruction, asked): (&[u32], &[u32]),
        answer: &[u32],
        tail: Option<Tail>,
    ) -> Option<Arc<AppendLog>> {
        if !may_begin(request) || self.codec.turn().is_none() {
            return None;
        }
        let tail = tail?;
        let mut ids: Vec<FragmentId> = plan.fragments().map(|piece| piece.id).collect();
        let instruction = self.instruction_piece(&ids, instruction);
        ids.extend(instruction.iter().map(|piece| piece.id));
        let (said, unread, kept) = self.kept(ids, [asked, answer].concat(), tail);
        Some(Arc::new(AppendLog::begun(
            request,
            said,
            unread,
            Some(kept),
        )))
    }

    /// Keeps the rows of what was said behind these fragments, and the fragments; says what it was, and which
    /// tokens of it have no row.
    fn kept(
        &self,
        mut ids: Vec<FragmentId>,
        mut said: Vec<u32>,
        tail: Tail,
    ) -> (LogPiece, Vec<u32>, KeptFragments) {
        let unread = said.split_off(tail.n_tokens().min(said.len()));
        let id = FragmentId::spliced(&self.identity, &ids, &said);
        ids.push(id);
        let kept = KeptFragments::of(self.store.clone(), ids);
        self.store.insert(id, Arc::new(tail.freeze()), said.len());
        let piece = LogPiece {
            tokens: said.into(),
            tells: None,
        };
        (piece, unread, kept)
    }

    /// The fragments of a conversation with what the next turn tells.
    fn conversation(
        &self,
        request: &AnswerRequest<'_>,
        turn: &Turn<'_>,
        told: &[LogPiece],
        instruction: &[u32],
    ) -> Conversation {
        let base = turn.log.base().iter();
        let base: Vec<Arc<[u32]>> = base.map(|piece| piece.tokens.clone()).collect();
        let plan = scope::plan(request.scope, &self.identity, &self.prefix, &base);
        let mut ids: Vec<FragmentId> = plan.fragments().map(|piece| piece.id).collect();
        let instruction = self.instruction_piece(&ids, instruction);
        ids.extend(instruction.iter().map(|piece| piece.id));
        let mut pieces = Vec::new();
        for piece in turn.log.said().iter().chain(told) {
            let id = FragmentId::spliced(&self.identity, &ids, &piece.tokens);
            ids.push(id);
            pieces.push(Piece {
                id,
                tokens: piece.tokens.clone(),
            });
        }
        Conversation { plan, pieces, ids }
    }

    /// Whether going on reads fewer tokens than the documents laid out anew, by what the store lacks of each.
    fn is_cheaper(&self, conversation: &Conversation, anew: &FragmentPlan) -> bool {
        let n_read = self.n_missing(conversation.plan.pieces().chain(&conversation.pieces));
        n_read < self.n_missing(anew.pieces())
    }

    /// Tokens of those of these fragments that the store lacks.
    fn n_missing<'a>(&self, pieces: impl Iterator<Item = &'a Piece>) -> usize {
        let missing = pieces.filter(|piece| !self.store.contains(&piece.id));
        missing.map(|piece| piece.tokens.len()).sum()
    }

    /// The fragments of a conversation one after another; what the store lacks is encoded.
    fn lay_out_conversation(
        &self,
        request: &AnswerRequest<'_>,
        conversation: &Conversation,
        instruction: &[u32],
        (progress, work): (&mut dyn CallProgress, &mut Work),
    ) -> Result<Arc<Layout>, ModelError> {
        let mut encoder = Encoder::new(self, request.priority, &request.cancel, progress, work);
        let base = self.exact(&conversation.plan, instruction, &mut encoder)?;
        let mut chain = Chain::default();
        for segment in base.layout.segments() {
            chain.push(segment.kv.clone());
        }
        base.instruction.into_iter().for_each(|kv| chain.push(kv));
        let pieces = conversation.pieces.iter();
        pieces.for_each(|piece| chain.want(piece.clone()));
        let _claim = self.claim(&conversation.ids);
        encoder.complete(std::slice::from_mut(&mut chain))?;
        let mut layout = Layout::new();
        chain.into_fragments().for_each(|kv| layout.push(kv));
        Ok(Arc::new(layout))
    }
}

/// How the answer of a conversation was read. Its drift is the share of its attention to passages that went to
/// words which no longer stand.
fn reading<'a>(
    request: &AnswerRequest<'_>,
    turn: &Turn<'_>,
    has_instruction: bool,
    said: impl Iterator<Item = &'a LogPiece>,
    generation: &Generation,
) -> Reading {
    // Before the passages stands the prefix.
    let mut places = vec![Place::Nowhere];
    places.extend(append::places(turn.log.base(), request.layout));
    places.extend(has_instruction.then_some(Place::Nowhere));
    places.extend(append::places(said, request.layout));
    let n_passages = request.layout.passages().len();
    let of_passages = |row: &Vec<f32>| {
        let mut mass = vec![0.0; n_passages];
        for (place, share) in places.iter().zip(row) {
            if let Place::Passage(at) = place {
                mass[*at] += share;
            }
        }
        mass
    };
    let mass: Vec<Vec<f32>> = generation.mass.iter().map(of_passages).collect();
    let standing: f32 = mass.iter().flatten().sum();
    let shares = generation
        .mass
        .iter()
        .flat_map(|row| places.iter().zip(row));
    let gone = shares.filter(|(place, _)| **place == Place::Gone);
    let gone: f32 = gone.map(|(_, share)| share).sum();
    let drift = match gone > 0.0 {
        true => gone / (gone + standing),
        false => 0.0,
    };
    Reading {
        mass,
        question: of_passages(&generation.prompt_mass),
        drift,
        is_exact: false,
        live: LiveLayout::default(),
    }
}
