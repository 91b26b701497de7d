//! How likely is an answer to a request, by the model of this machine?

use perennial::ask::{AnswerRequest, TensorModel};
use perennial::model::cancel::Cancel;
use perennial::model::decoder::{Logits, Rows};
use perennial::model::divergence::log_softmax;
use perennial::model::layout::Layout;

use crate::rig::Error;

/// Of each token of an answer behind the plain prompt: the byte of `text` at which it ends, and its
/// log-probability. This is what a server tells that scores prompts.
pub fn likelihoods(
    model: &TensorModel,
    request: &AnswerRequest<'_>,
    text: &str,
    answer: &[u32],
) -> Result<Vec<(usize, f32)>, Error> {
    let mut tokens = model.prompt_tokens(request)?;
    let n_prompt = tokens.len();
    tokens.extend(answer);
    let (decoder, layout) = (model.decoder(), Layout::default());
    let mut tail = decoder.new_tail(0);
    let rows = Rows {
        layout: &layout,
        pending: &[],
        tail: &mut tail,
        tokens: &tokens,
        logits: Logits::From(n_prompt - 1),
        mass: false,
    };
    let output = decoder.forward(&mut [rows], &Cancel::new())?.swap_remove(0);
    let n_vocab = decoder.config().n_vocab;
    let rows = output.logits.chunks(n_vocab);
    let ends = model.ends(answer, text.len())?;
    let likelihood = |(row, token): (&[f32], &u32)| log_softmax(row)[*token as usize] as f32;
    let likelihoods = rows.zip(answer).map(likelihood);
    Ok(ends.into_iter().zip(likelihoods).collect())
}
