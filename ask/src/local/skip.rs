//! May an answer be left as it is, unread?
//!
//! Where that is allowed ([`Tolerance::skips`]), an answer stays if what changed is unlikely to matter
//! to it: if its expected regret (by the decoder's [`Profile`](crate::pull::Profile)), with that of earlier
//! changes for which it was not read, is below the bound. That costs the model no token: neither the question is
//! read, nor what is new encoded. What of the layout is new has no fragment then; who reads the answer
//! next encodes it.
//!
//! Skipping is a guess, so it is never exact; audits compare it with the truth.
//!
//! [`Tolerance::skips`]: crate::answer::Tolerance::skips

use std::sync::Arc;

use super::TensorModel;
use crate::answer::{AnswerRequest, CallProgress, Outcome, Rung, Work};
use crate::before::{LayoutDelta, Written};
use crate::provenance::moved;
use perennial_bank::live_layout::{Lent, LiveLayout};
use perennial_bank::scope::FragmentPlan;
use perennial_bank::turnover::Row;

impl TensorModel {
    /// The answer before, if the request may be answered with it.
    pub(super) fn skip(
        &self,
        request: &AnswerRequest<'_>,
        plan: &FragmentPlan,
        n_prompt: usize,
        progress: &mut dyn CallProgress,
    ) -> Option<Outcome> {
        let bound = request.tolerance.skips?.below;
        let pull = self.pull.as_ref()?;
        let written = request.before.written.clone()?;
        if *written.question != *request.question {
            return None;
        }
        let passages = request.layout.passages();
        let delta = LayoutDelta::between(written.layout.passages(), passages);
        let pulled = match pull.of(&written, passages, &delta) {
            Ok(pulled) => pulled?,
            Err(reason) => {
                progress.cannot_judge(&reason);
                return None;
            }
        };
        let regret = written.regret + pull.profile().expected_regret(&pulled);
        (regret < bound).then(|| Outcome {
            regret,
            work: Work {
                n_from_scratch: n_prompt + request.before.tokens.len(),
                ..Work::default()
            },
            live: Arc::new(self.left(request, plan)),
            ..skipped(request, &written, &delta)
        })
    }

    /// What the next layout may borrow, though this one was not read: the fragments of its passages
    /// that are there. As in [`LaidOut::live`](super::laid_out::LaidOut::live), nothing where passages stand by
    /// several.
    fn left(&self, request: &AnswerRequest<'_>, plan: &FragmentPlan) -> LiveLayout {
        let mut lender = request.before.live.lender(&self.store);
        let mut live = LiveLayout::default();
        if !plan.boundaries.is_empty() {
            return live;
        }
        let row = Row::of(plan.pieces().map(|piece| &*piece.tokens));
        for (place, piece) in plan.pieces().enumerate() {
            let tokens = piece.tokens.clone();
            if let Some(kv) = self.store.get(&piece.id) {
                live.push(tokens, &Lent::new(piece.id, kv), false, row.first(place));
            } else if let Some(loan) = lender.borrow(&piece.tokens)
                && let Some(lent) = loan.lent(&self.store)
            {
                live.push(tokens, &lent, true, loan.attended);
            }
        }
        live
    }
}

/// The answer before, over the layout of the request.
pub(super) fn skipped(
    request: &AnswerRequest<'_>,
    written: &Written,
    delta: &LayoutDelta,
) -> Outcome {
    let passages = request.layout.passages();
    let lost: f32 = delta
        .removed
        .iter()
        .map(|place| written.dependencies.on(*place))
        .sum();
    // Of a passage that took another's place, what is known of that is the best guess.
    let place_before = |place: usize| {
        let replaced = delta.replaced.iter().find(|(_, new)| *new == place);
        delta.kept[place].or(replaced.map(|(old, _)| *old))
    };
    let places: Vec<Option<usize>> = (0..passages.len()).map(place_before).collect();
    let mut dependencies = written.dependencies.clone();
    dependencies.carry(&places);
    let before = written.layout.passages();
    Outcome {
        answer: written.answer.clone(),
        tokens: request.before.tokens.clone(),
        rung: Rung::Skip,
        work: Work::default(),
        sub_paragraphs: moved(&written.sub_paragraphs, before, passages, &places),
        min_margin: written.min_margin,
        is_exact: false,
        regret: 0.0,
        draft: None,
        drift: (written.drift + lost).min(1.0),
        dependencies,
        live: Arc::default(),
        log: None,
    }
}
