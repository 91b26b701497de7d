//! What goes to another process of this model, and what is made of fragments that came from one?
//!
//! A text is handed over as the fragments of its passages, one chain behind the shared prefix: so an
//! answer over that text alone, in any scope whose first run it is, finds all of it. Where fragments that
//! came are not known to be those of their ids, a request that may borrow is answered over them, and what
//! is encoded behind them is no more exact than they are.

use std::collections::HashMap;
use std::sync::Arc;

use perennial_bank::id::FragmentId;
use perennial_bank::live_layout::Lent;
use perennial_bank::parcel::ModelParts;
use perennial_bank::passage::{self, PassageSizes};
use perennial_bank::scope::{self, EncodeRun, FragmentPlan, Piece, Scope};
use perennial_model::cancel::Cancel;
use perennial_model::error::Error as ModelError;
use perennial_model::kv::{KvFragment, KvShape};
use perennial_model::passes::Priority;

use super::TensorModel;
use super::encoder::{Chain, Encoder};
use super::laid_out::{LaidOut, lent};

/// What stands in for fragments that the store lacks, by their ids.
pub(super) type StandIns = HashMap<FragmentId, Lent>;

impl TensorModel {
    /// What its fragments depend on.
    pub fn parts(&self) -> ModelParts {
        let decoder = self.decoder();
        ModelParts {
            weights: self.weights,
            codec: self.codec.digest(),
            kernel_class: decoder.arithmetic().kernel_class().to_owned(),
            identity: self.identity,
            shape: KvShape::of(decoder.config()),
        }
    }

    /// The fragments of a text that stands alone, cut as a view cuts it unless told otherwise.
    ///
    /// # Errors
    /// A text that the tokenizer refuses.
    pub fn plan_of_text(&self, title: &str, text: &str) -> Result<FragmentPlan, ModelError> {
        let passages = passage::split(text, PassageSizes::default()).into_iter();
        let passages = passages.map(|text| Ok(self.codec.passage(title, text)?.into()));
        let passages: Vec<Arc<[u32]>> = passages.collect::<Result<_, ModelError>>()?;
        Ok(scope::plan(
            Scope::Causal,
            &self.identity,
            &self.prefix,
            &passages,
        ))
    }

    /// The fragments of a plan's passages, in order; those that the store lacks are encoded.
    ///
    /// # Errors
    /// What the decoder reports, cancellation included.
    pub fn fragments_of(
        &self,
        plan: &FragmentPlan,
        cancel: &Cancel,
    ) -> Result<Vec<Arc<KvFragment>>, ModelError> {
        let layout = self.lay_out(plan, Priority::Background, cancel)?;
        // The first is the prefix.
        let segments = layout.segments().iter().skip(1);
        Ok(segments.map(|segment| segment.kv.clone()).collect())
    }

    /// What stands in for fragments of a plan; none where nothing does.
    pub(super) fn stand_ins(&self, plan: &FragmentPlan) -> Option<StandIns> {
        let missing = plan
            .pieces()
            .filter(|piece| !self.store.contains(&piece.id));
        let found =
            missing.filter_map(|piece| Some((piece.id, self.store.stand_in_for(&piece.id)?)));
        let found: StandIns = found.collect();
        (!found.is_empty()).then_some(found)
    }

    /// The layout of a plan with what stands in for its fragments where it does, and the rest encoded
    /// behind it.
    pub(super) fn over_stand_ins(
        &self,
        plan: &FragmentPlan,
        stand_ins: &StandIns,
        instruction: &[u32],
        encoder: &mut Encoder<'_>,
    ) -> Result<LaidOut, ModelError> {
        let claim = self.claim(&[plan.prefix.id]);
        let prefix = encoder.prefix(&plan.prefix)?;
        drop(claim);
        let runs = plan.runs.iter();
        let mut runs: Vec<Run> = runs
            .map(|run| self.run(&prefix, plan.prefix.id, run, stand_ins))
            .collect();
        let wanted: Vec<FragmentId> = runs.iter().flat_map(|run| run.wanted.clone()).collect();
        let claim = self.claim(&wanted);
        let mut chains: Vec<Chain> = runs
            .iter_mut()
            .map(|run| std::mem::take(&mut run.chain))
            .collect();
        encoder.complete(&mut chains)?;
        drop(claim);
        let (mut laid_out, _) = LaidOut::new(plan, lent(&plan.prefix, prefix.clone()));
        let mut behind = Chain::of(prefix);
        let mut ids = vec![plan.prefix.id];
        for (run, chain) in runs.into_iter().zip(chains) {
            let kvs = chain.into_fragments().skip(run.n_before);
            for (member, kv) in run.members.into_iter().zip(kvs) {
                let (id, codes_of) = (member.id, member.codes_of);
                behind.push(kv.clone());
                ids.push(id);
                laid_out.push(Lent { id, kv, codes_of }, member.is_stale, None);
            }
        }
        if let Some(piece) = self.instruction_piece(&ids, instruction) {
            encoder.instructed_by(Some(&piece));
            let _claim = self.claim(&[piece.id]);
            behind.want(piece);
            laid_out.instruction = Some(encoder.last_of(behind)?);
        }
        Ok(laid_out)
    }

    /// A run's chain, with what stands in for its pieces.
    fn run(
        &self,
        prefix: &Arc<KvFragment>,
        prefix_id: FragmentId,
        run: &EncodeRun,
        stand_ins: &StandIns,
    ) -> Run {
        let mut chain = Chain::of(prefix.clone());
        let mut before = vec![prefix_id];
        let mut wanted = Vec::new();
        let is_here =
            |piece: &Piece| stand_ins.contains_key(&piece.id) || self.store.contains(&piece.id);
        // What is only attended to is encoded for the sake of what is missing.
        if !run.pieces.iter().all(is_here) {
            for piece in &run.conditioning {
                before.push(piece.id);
                wanted.push(piece.id);
                chain.want(piece.clone());
            }
        }
        let n_before = before.len();
        let mut members: Vec<Member> = Vec::new();
        let mut any_stale = false;
        for piece in &run.pieces {
            let mut codes_of = None;
            let (id, is_stale) = if let Some(kv) = self.store.get(&piece.id) {
                chain.push(kv);
                (piece.id, false)
            } else if let Some(lent) = stand_ins.get(&piece.id) {
                codes_of = lent.codes_of;
                chain.push(lent.kv.clone());
                (lent.id, true)
            } else {
                // Behind what stands in it is not what the plan calls it.
                let id = match any_stale {
                    true => FragmentId::spliced(&self.identity, &before, &piece.tokens),
                    false => piece.id,
                };
                let tokens = piece.tokens.clone();
                wanted.push(id);
                chain.want(Piece { id, tokens });
                (id, any_stale)
            };
            any_stale |= is_stale;
            before.push(id);
            members.push(Member {
                id,
                codes_of,
                is_stale,
            });
        }
        Run {
            chain,
            n_before,
            members,
            wanted,
        }
    }
}

/// A run of a plan, as it is laid out.
struct Run {
    chain: Chain,
    /// Fragments of the chain that are not of the layout.
    n_before: usize,
    /// By piece.
    members: Vec<Member>,
    /// What is to be encoded.
    wanted: Vec<FragmentId>,
}

/// A fragment of a run.
struct Member {
    id: FragmentId,
    /// The fragment whose codes it came back of, if it did.
    codes_of: Option<FragmentId>,
    /// Whether it is not that of a run from scratch.
    is_stale: bool,
}
