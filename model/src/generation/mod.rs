//! How does an answer come about, and how much of an old one can be kept?
//!
//! Each pass feeds the last token together with a proposal of what may follow, and yields
//! the choice after every one of them; the longest prefix of the proposal that agrees with
//! the choices stands. The first proposal is the whole draft (an old answer), in one pass
//! with the prompt. After a disagreement, `Draft` proposes what follows in the draft
//! where it seems to go on, and backs off when it is wrong.
//!
//! Contract: tokens do not depend on the draft. A row's logits are the same bits in any
//! batch, and a token is emitted only if it was chosen from logits that follow the tokens
//! emitted before it.

mod draft;

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::cancel::Cancel;
use crate::decoder::{Choice, Logits};
use crate::error::Error;
use crate::layout::Layout;
use crate::passes::{Pass, Passes, Priority};
use crate::sampling::Sampling;
use draft::Draft;

/// What is to be generated.
#[derive(Clone, Copy, Debug)]
pub struct GenerationRequest<'a> {
    /// What the prompt follows and attends to.
    pub layout: &'a Arc<Layout>,
    /// Tokens after the layout, at least one; computed afresh.
    pub prompt: &'a [u32],
    /// A guess at the answer, such as the old one; empty for none.
    pub draft: &'a [u32],
    /// Longest answer.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens that end the answer.
    pub stop: &'a [u32],
    /// Whether attention masses are wanted.
    pub mass: bool,
    /// Which passes its own go before.
    pub priority: Priority,
    /// Stops the generation from elsewhere.
    pub cancel: &'a Cancel,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finish {
    /// The model ended it.
    Stop,
    /// The longest length, or the model's last position, was reached.
    Length,
    /// It was cancelled; the tokens are a prefix of the answer.
    Cancelled,
}

/// Rows computed, by what they were for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Rows of the prompt.
    pub n_prompt_rows: usize,
    /// Rows of proposed tokens, whether they stood or not.
    pub n_draft_rows: usize,
    /// Rows of tokens that were decoded.
    pub n_decode_rows: usize,
    /// Forward passes.
    pub n_passes: usize,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The answer, without the token that ended it.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Leading tokens of the draft that are the answer's.
    pub n_draft_accepted: usize,
    /// What it cost.
    pub work: Work,
    /// `[n_tokens][n_segments + 1]`: attention, in the row that chose the token, on each
    /// segment and on the tail (prompt and answer). Empty unless asked for.
    pub mass: Vec<Vec<f32>>,
    /// `[n_segments + 1]`: the same, mean over the rows of the prompt.
    pub prompt_mass: Vec<f32>,
    /// Difference between the two highest logits where each token was chosen, the token
    /// that ended the answer included.
    pub margins: Vec<f32>,
}

/// Generates an answer, calling `on_token` as soon as a token stands.
///
/// # Errors
/// [`Error::EmptyPrompt`], and the errors of [`Passes::run`] but for a cancellation,
/// which finishes the answer as [`Finish::Cancelled`].
pub fn generate(
    passes: &Passes,
    request: &GenerationRequest<'_>,
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> Result<Generation, Error> {
    if request.prompt.is_empty() {
        return Err(Error::EmptyPrompt);
    }
    let mut answer = Generation {
        tokens: Vec::new(),
        finish: Finish::Length,
        n_draft_accepted: 0,
        work: Work::default(),
        mass: Vec::new(),
        prompt_mass: Vec::new(),
        margins: Vec::new(),
    };
    let decoder = passes.decoder();
    let _caller = passes.enter(request.priority);
    let mut tail = decoder.new_tail(request.layout.end());
    let mut draft = Draft::new(request.draft);
    let room = decoder
        .config()
        .max_positions
        .saturating_sub(tail.start() as usize);
    let mut next = request.prompt.to_vec();
    let mut proposal = draft.whole();
    while answer.tokens.len() < request.max_tokens {
        let fits = room.saturating_sub(tail.n_tokens() + next.len());
        let useful = request.max_tokens - answer.tokens.len() - 1;
        proposal.truncate(useful.min(fits));
        if tail.n_tokens() > 0 && tail.n_tokens() + next.len() > room {
            break;
        }
        let first = next.len() - 1;
        let n_next = next.len();
        next.extend(&proposal);
        let n_emitted = answer.tokens.len();
        let pass = Pass {
            layout: request.layout.clone(),
            pending: Vec::new(),
            tail,
            tokens: next,
            logits: Logits::From(first),
            sampling: request.sampling,
            among: None,
            n_emitted,
            mass: request.mass,
        };
        let passed = match passes.run(request.priority, vec![pass], request.cancel) {
            Ok(mut passed) => passed.swap_remove(0),
            Err(Error::Cancelled) => {
                answer.finish = Finish::Cancelled;
                break;
            }
            Err(error) => return Err(error),
        };
        let (choices, mut masses) = (passed.choices, passed.mass);
        tail = passed.tail;
        answer.work.n_draft_rows += proposal.len();
        answer.work.n_passes += 1;
        if answer.work.n_passes == 1 {
            answer.work.n_prompt_rows += n_next;
            answer.prompt_mass = mean(&masses[..n_next.min(masses.len())]);
        } else {
            answer.work.n_decode_rows += n_next;
        }
        let ended = take(&mut answer, request, &choices, &proposal, on_token);
        if request.mass {
            let taken = answer.tokens.len() - n_emitted;
            answer.mass.extend(masses.drain(first..first + taken));
        }
        if let Some(finish) = ended {
            answer.finish = finish;
            break;
        }
        // All but the last emitted token stand in the tail.
        tail.truncate(request.prompt.len() + answer.tokens.len() - 1);
        let last = answer.tokens[answer.tokens.len() - 1];
        draft.judge(last, proposal.len(), answer.tokens.len() - 1 - n_emitted);
        next = vec![last];
        proposal = draft.propose(&answer.tokens);
    }
    let same = answer
        .tokens
        .iter()
        .zip(request.draft)
        .take_while(|(a, b)| a == b);
    answer.n_draft_accepted = same.count();
    Ok(answer)
}

/// Emits the choices up to the first that disagrees with the proposal, and says whether
/// the answer ended with them.
fn take(
    answer: &mut Generation,
    request: &GenerationRequest<'_>,
    choices: &[Choice],
    proposal: &[u32],
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> Option<Finish> {
    for (i, choice) in choices.iter().enumerate() {
        answer.margins.push(choice.margin);
        if request.stop.contains(&choice.token) {
            return Some(Finish::Stop);
        }
        answer.tokens.push(choice.token);
        if on_token(choice.token).is_break() {
            return Some(Finish::Cancelled);
        }
        if proposal.get(i) != Some(&choice.token) {
            break;
        }
    }
    (answer.tokens.len() >= request.max_tokens).then_some(Finish::Length)
}

fn mean(rows: &[Vec<f32>]) -> Vec<f32> {
    let Some(first) = rows.first() else {
        return Vec::new();
    };
    let mut mean = vec![0.0; first.len()];
    for row in rows {
        mean.iter_mut()
            .zip(row)
            .for_each(|(m, x)| *m += x / rows.len() as f32);
    }
    mean
}

#[cfg(test)]
mod tests;
