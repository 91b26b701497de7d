//! How far is a provisional answer from exact?

use std::sync::Arc;

use perennial_model::decoder::{Choice, Logits, Rows};
use perennial_model::divergence::{kl, log_softmax};
use perennial_model::error::Error as ModelError;
use perennial_model::layout::Layout;

use super::TensorModel;
use crate::answer::{AnswerRequest, Divergence};

/// Tokens of an answer that are compared, which bounds the logits held.
const MAX_TOKENS: usize = 64;

impl TensorModel {
    /// The tokens of the answer before are fed over what it was written over, and over the
    /// exact layout.
    pub(super) fn divergence(
        &self,
        request: &AnswerRequest<'_>,
    ) -> Result<Option<Divergence>, ModelError> {
        let plan = self.plan(request.scope, request.layout.passages());
        let mut lender = request.before.live.lender();
        let mut borrowed = Layout::new();
        let Some(prefix) = self.store.get(&plan.prefix.id) else {
            return Ok(None);
        };
        borrowed.push(prefix);
        for piece in plan.pieces() {
            let Some(loan) = lender.borrow(&piece.tokens) else {
                return Ok(None);
            };
            borrowed.push(loan.lent.kv);
        }
        let exact = self.lay_out(&plan, request.priority, &request.cancel)?;
        let suffix = self.codec.suffix(request.prompt, request.question)?;
        let answer = &request.before.tokens;
        let answer = &answer[..answer.len().min(MAX_TOKENS)];
        let places = || 0..request.layout.passages().len();
        let exact = self.repaired(request, exact, places())?;
        let borrowed = self.repaired(request, Arc::new(borrowed), places())?;
        let of_exact = self.logits(request, &exact, &suffix, answer)?;
        let of_borrowed = self.logits(request, &borrowed, &suffix, answer)?;
        let n_vocab = self.decoder().config().n_vocab;
        let rows = of_exact.chunks(n_vocab).zip(of_borrowed.chunks(n_vocab));
        let (mut sum, mut n_agreed, mut n) = (0.0, 0, 0);
        for (i, (exact, borrowed)) in rows.enumerate() {
            sum += kl(&log_softmax(exact), &log_softmax(borrowed));
            let expected = answer.get(i).copied();
            let chosen = Choice::of(exact).token;
            // After its last token an answer that stopped agrees if it stops.
            n_agreed += usize::from(match expected {
                Some(token) => token == chosen,
                None => self.stop.contains(&chosen),
            });
            n += 1;
        }
        Ok((n > 0).then(|| Divergence {
            kl: (sum / n as f64) as f32,
            agreement: n_agreed as f32 / n as f32,
        }))
    }

    /// `[n_answer + 1, n_vocab]`; without the last row where the answer was cut off.
    fn logits(
        &self,
        request: &AnswerRequest<'_>,
        layout: &Arc<Layout>,
        suffix: &[u32],
        answer: &[u32],
    ) -> Result<Vec<f32>, ModelError> {
        let mut tail = self.decoder().new_tail(layout.end());
        let is_cut = request.before.tokens.len() >= request.max_tokens.min(MAX_TOKENS);
        let fed = &answer[..answer.len() - usize::from(is_cut && !answer.is_empty())];
        let tokens: Vec<u32> = suffix.iter().chain(fed).copied().collect();
        let rows = Rows {
            layout,
            pending: &[],
            tail: &mut tail,
            tokens: &tokens,
            logits: Logits::From(suffix.len() - 1),
            mass: false,
        };
        let mut outputs = self.decoder().forward(&mut [rows], &request.cancel)?;
        Ok(outputs.swap_remove(0).logits)
    }
}
