//! How is a text written that obeys a grammar?
//!
//! Greedily: of the tokens that lead on, the likeliest. What the grammar leaves no choice of is not
//! decoded: it goes into the next pass as it is. So a text is a function of the model, the prompt and
//! the grammar, and complete unless it is longer than it may be.

use std::sync::Arc;

use super::Work;
use crate::cancel::Cancel;
use crate::decoder::Logits;
use crate::error::Error;
use crate::grammar::Grammar;
use crate::layout::Layout;
use crate::passes::{Candidates, Pass, Passes, Priority};
use crate::sampling::Sampling;

/// What is to be written.
pub struct ConstrainedRequest<'a> {
    /// What the prompt follows and attends to.
    pub layout: &'a Arc<Layout>,
    /// Tokens after the layout, at least one; computed afresh.
    pub prompt: &'a [u32],
    /// What the text obeys.
    pub grammar: Grammar,
    /// Most tokens of the text.
    pub max_tokens: usize,
    /// Which passes its own go before.
    pub priority: Priority,
    /// Stops the writing from elsewhere.
    pub cancel: &'a Cancel,
}

/// A text that obeys a grammar, or the beginning of one.
#[derive(Clone, Debug)]
pub struct Constrained {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Whether it is all of it: else it was cut at the most tokens, or at the model's last position.
    pub is_complete: bool,
    /// What it cost.
    pub work: Work,
}

/// Writes a text that obeys a grammar.
///
/// # Errors
/// [`Error::EmptyPrompt`], [`Error::Grammar`] where no token leads on, and the errors of
/// [`Passes::run`].
pub fn write(passes: &Passes, mut request: ConstrainedRequest<'_>) -> Result<Constrained, Error> {
    if request.prompt.is_empty() {
        return Err(Error::EmptyPrompt);
    }
    let decoder = passes.decoder();
    let _caller = passes.enter(request.priority);
    let mut tail = decoder.new_tail(request.layout.end());
    let max_positions = decoder.config().max_positions;
    let room = max_positions.saturating_sub(tail.start() as usize);
    let mut next = request.prompt.to_vec();
    let mut written = Constrained {
        tokens: Vec::new(),
        is_complete: false,
        work: Work::default(),
    };
    loop {
        let forced = request.grammar.forced()?;
        written.tokens.extend(&forced);
        next.extend(forced);
        written.is_complete = request.grammar.is_complete();
        let is_full = written.tokens.len() >= request.max_tokens;
        if written.is_complete || is_full || tail.n_tokens() + next.len() > room {
            break;
        }
        match tail.n_tokens() {
            0 => written.work.n_prompt_rows += next.len(),
            _ => written.work.n_decode_rows += next.len(),
        }
        let pass = Pass {
            layout: request.layout.clone(),
            pending: Vec::new(),
            tail,
            tokens: std::mem::take(&mut next),
            logits: Logits::Last,
            sampling: Sampling::Greedy,
            among: Some(Candidates::Within(request.grammar.allowed()?)),
            expected: None,
            n_emitted: written.tokens.len(),
            mass: false,
        };
        let mut passed = passes.run(request.priority, vec![pass], request.cancel)?;
        let passed = passed.swap_remove(0);
        written.work.n_passes += 1;
        tail = passed.tail;
        let token = passed.choices[0].finite()?;
        request.grammar.write(token)?;
        written.tokens.push(token);
        next.push(token);
    }
    Ok(written)
}
