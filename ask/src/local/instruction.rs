//! What do all questions of a view share behind the documents?
//!
//! The instruction stands between the passages and the question, so over the same passages its keys
//! and values are the same for every question. They are a fragment of their own, encoded once, that
//! stands last in the layout; what each call has to itself is its question and its answer.
//!
//! # Invariants
//! - Which tokens of a request are the instruction's is a function of the request, whether another
//!   question asked before or not: the fragment's bits, and so the answer's, are the same either way.
//! - No view refers to such a fragment: the store holds it until the end of the epoch, as long as the
//!   budget has room, and nothing of it goes to disk.

use std::sync::Arc;

use perennial_bank::id::FragmentId;
use perennial_bank::scope::Piece;
use perennial_model::error::Error as ModelError;
use perennial_model::layout::Layout;

use super::TensorModel;
use super::laid_out::LaidOut;
use crate::answer::AnswerRequest;

impl TensorModel {
    /// The tokens of a suffix that the view's questions share; none where a repair edits what the
    /// question sees of the passages, so that it is no longer what their fragments say.
    pub(super) fn instruction<'a>(
        &self,
        request: &AnswerRequest<'_>,
        suffix: &'a [u32],
    ) -> Result<&'a [u32], ModelError> {
        let passages = request.layout.passages();
        let is_repaired = passages.iter().any(|passage| passage.is_superseded);
        if is_repaired && !request.repair.takes_out() {
            return Ok(&[]);
        }
        let instruction = self.codec.instruction(request.prompt)?;
        // Something is to be asked behind it.
        let is_shared = suffix.len() > instruction.len() && suffix.starts_with(&instruction);
        Ok(match is_shared {
            true => &suffix[..instruction.len()],
            false => &[],
        })
    }

    /// The fragment of these tokens behind those of a layout, if there are any.
    pub(super) fn instruction_piece(
        &self,
        behind: &[FragmentId],
        instruction: &[u32],
    ) -> Option<Piece> {
        (!instruction.is_empty()).then(|| Piece {
            id: FragmentId::spliced(&self.identity, behind, instruction),
            tokens: instruction.into(),
        })
    }
}

impl LaidOut {
    /// The layout with the instruction behind it.
    pub(super) fn instructed(&self, mut layout: Arc<Layout>) -> Arc<Layout> {
        if let Some(kv) = &self.instruction {
            Arc::make_mut(&mut layout).push(kv.clone());
        }
        layout
    }
}
