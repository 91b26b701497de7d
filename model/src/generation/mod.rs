//! How does an answer come about, and how much of an old one can be kept?
//!
//! Each pass feeds the last token together with a proposal of what may follow, and yields
//! the choice after every one of them; the longest prefix of the proposal that agrees with
//! the choices stands. The first proposal is the whole draft (an old answer), in one pass
//! with the prompt. After a disagreement, `Draft` proposes what follows in the draft
//! where it seems to go on, and backs off when it is wrong.
//!
//! Contract: without a tolerance, tokens do not depend on the draft. A row's logits are the same
//! bits in any batch, and a token is emitted only if it was chosen from logits that follow the
//! tokens emitted before it.
//!
//! With a tolerance, a sub-paragraph of the draft stands as it is while its *regret* is at most that: the
//! mean over its tokens, and over its end, of how far below the likeliest they are, each behind those
//! before it. What falls is written again, and what follows is judged behind that (`judged`).

mod constrained;
mod draft;
mod judged;

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::cancel::Cancel;
use crate::decoder::{Choice, Logits};
use crate::error::Error;
use crate::kv::Tail;
use crate::layout::Layout;
use crate::passes::{Expected, Pass, Passed, Passes, Priority};
use crate::sampling::Sampling;
use draft::Draft;
use judged::Judged;

pub use constrained::{Constrained, ConstrainedRequest, write};
pub use judged::SubParagraphs;

/// What is to be generated.
#[derive(Clone, Copy, Debug)]
pub struct GenerationRequest<'a> {
    /// What the prompt follows and attends to.
    pub layout: &'a Arc<Layout>,
    /// Tokens after the layout, at least one; computed afresh.
    pub prompt: &'a [u32],
    /// A guess at the answer, such as the old one; empty for none.
    pub draft: &'a [u32],
    /// The most regret, in nats a token, with which a sub-paragraph of the draft stands though other
    /// tokens are likelier; 0 for none.
    pub tolerance: f32,
    /// What the sub-paragraphs are; all is one without.
    pub sub_paragraphs: Option<SubParagraphs<'a>>,
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

/// How well a draft stood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DraftCheck {
    /// Mean over its tokens, and over its end, of the likeliest log-probability less theirs, in nats;
    /// 0 where greedy decoding gives the draft.
    pub regret: f32,
    /// Share of them that are the likeliest, 0 to 1.
    pub agreement: f32,
}

impl DraftCheck {
    /// From how far each token is below the likeliest; nothing if there are none.
    fn of(gaps: &[f32]) -> Option<Self> {
        let n = gaps.len() as f32;
        let n_agreed = gaps.iter().filter(|gap| **gap == 0.0).count();
        (!gaps.is_empty()).then(|| Self {
            regret: gaps.iter().sum::<f32>() / n,
            agreement: n_agreed as f32 / n,
        })
    }
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
    /// that ended the answer included; where another is likelier, what it is ahead by, negative.
    pub margins: Vec<f32>,
    /// How well the draft stood, where all of it was read.
    pub draft: Option<DraftCheck>,
    /// Whether something of the draft stands though decoding gives another answer.
    pub is_tolerated: bool,
    /// Regret of the answer, in nats a token: mean over its tokens, and over its end; 0 where all of it
    /// was decoded.
    pub regret: f32,
    /// The rows of prompt and answer, where the answer ended: what is said next may stand behind them. Of
    /// an answer that the model did not end itself, the last token has none.
    pub tail: Option<Tail>,
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
        draft: None,
        is_tolerated: false,
        regret: 0.0,
        tail: None,
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
    let mut is_begun = false;
    let judged = Judged::of(request);
    // The sub-paragraph from which on the proposal is judged.
    let mut judges = judged.is_some().then_some(0);
    // That in whose place the answer is written, and where it began to be.
    let mut fallen: Option<(usize, usize)> = None;
    let mut lost = 0.0;
    while answer.tokens.len() < request.max_tokens {
        let fits = room.saturating_sub(tail.n_tokens() + next.len());
        let useful = request.max_tokens - answer.tokens.len() - 1;
        proposal.truncate(useful.min(fits));
        if tail.n_tokens() > 0 && tail.n_tokens() + next.len() > room {
            break;
        }
        let first = next.len() - 1;
        let (n_next, n_before) = (next.len(), tail.n_tokens());
        let asked = next.clone();
        next.extend(&proposal);
        let n_emitted = answer.tokens.len();
        let expected = match (&judged, judges) {
            (Some(judged), Some(part)) if is_begun => Some(judged.expected(part)),
            _ => expected(request, proposal.len()).filter(|_| !is_begun),
        };
        let pass = Pass {
            layout: request.layout.clone(),
            pending: Vec::new(),
            tail,
            tokens: next,
            logits: Logits::From(first),
            sampling: request.sampling,
            among: None,
            expected: expected.clone(),
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
        let Passed {
            choices,
            scores: _,
            gaps,
            mass: mut masses,
            tail: grown,
        } = passed;
        tail = grown;
        answer.work.n_draft_rows += proposal.len();
        answer.work.n_passes += 1;
        if !is_begun {
            answer.work.n_prompt_rows += n_next;
            answer.prompt_mass = mean(&masses[..n_next.min(masses.len())]);
        } else {
            answer.work.n_decode_rows += n_next;
        }
        let is_whole = |expected: &Expected| gaps.len() == expected.n_rows();
        let is_read = expected.as_ref().is_some_and(is_whole);
        if is_read && !is_begun {
            answer.draft = DraftCheck::of(&gaps);
        }
        let read = Read {
            choices: &choices,
            gaps: &gaps,
            proposal: &proposal,
        };
        let mut ended = None;
        let mut n_stand = 0;
        if let (Some(judged), Some(part)) = (&judged, judges.take())
            && is_read
        {
            let first_fallen = judged.first_fallen(part, &gaps);
            let is_all = first_fallen == judged.n_parts();
            n_stand = judged.start(first_fallen) - judged.start(part);
            lost += gaps[..if is_all { gaps.len() } else { n_stand }]
                .iter()
                .sum::<f32>();
            let tokens = &judged.rest_of(part)[..n_stand];
            let is_broken = stand(&mut answer, request.stop, (tokens, is_all), &read, on_token);
            if is_broken || is_all {
                let is_cut = answer.tokens.len() == request.max_tokens;
                ended = Some(match (is_broken, is_cut) {
                    (true, _) => Finish::Cancelled,
                    (false, true) => Finish::Length,
                    (false, false) => Finish::Stop,
                });
            }
            fallen = Some((first_fallen, answer.tokens.len()));
        }
        if ended.is_none() {
            let since = fallen.map(|(_, since)| since);
            let read = read.behind(n_stand);
            ended = match take(&mut answer, request, &read, (n_stand, since), on_token) {
                Err(Error::NotFinite) if !proposal.is_empty() => {
                    // What overflows may be of the proposal: it is as if there had been none.
                    tail.truncate(n_before);
                    next = asked;
                    proposal.clear();
                    continue;
                }
                ended => ended?,
            };
        }
        is_begun = true;
        if request.mass {
            let taken = answer.tokens.len() - n_emitted;
            answer.mass.extend(masses.drain(first..first + taken));
        }
        if let Some(finish) = ended {
            answer.finish = finish;
            // Of an answer that was cut, the last row may be that of a proposal.
            let n_unread = usize::from(finish != Finish::Stop);
            tail.truncate(request.prompt.len() + answer.tokens.len() - n_unread);
            answer.tail = Some(tail);
            break;
        }
        // All but the last emitted token stand in the tail.
        tail.truncate(request.prompt.len() + answer.tokens.len() - 1);
        let last = answer.tokens[answer.tokens.len() - 1];
        draft.judge(last, proposal.len(), answer.tokens.len() - 1 - n_emitted);
        next = vec![last];
        let ends =
            |(_, since): &mut (usize, usize)| request.ends_sub_paragraph(&answer.tokens, *since);
        let written = fallen.take_if(ends);
        let rest = written
            .zip(judged.as_ref())
            .and_then(|((part, since), judged)| {
                let part = judged.behind(part, &answer.tokens[since..]);
                let rest = judged.rest(part, answer.tokens.len())?;
                Some((part, judged.start(part), rest))
            });
        proposal = match rest {
            Some((part, start, rest)) => {
                judges = Some(part);
                draft.move_to(start);
                rest.to_vec()
            }
            None => draft.propose(&answer.tokens),
        };
    }
    if answer.is_tolerated {
        let n = answer.tokens.len() + usize::from(answer.finish == Finish::Stop);
        answer.regret = lost / n as f32;
    }
    let same = answer
        .tokens
        .iter()
        .zip(request.draft)
        .take_while(|(a, b)| a == b);
    answer.n_draft_accepted = same.count();
    Ok(answer)
}

/// What the draft says of the rows of the first pass, which reads so many of its tokens; nothing
/// where that is not all of it, or where tokens are not to be the likeliest.
fn expected(request: &GenerationRequest<'_>, n_proposed: usize) -> Option<Expected> {
    let draft = request.draft;
    let is_read = n_proposed == draft.len().min(request.max_tokens.saturating_sub(1));
    let is_answer = !draft.is_empty() && draft.len() <= request.max_tokens;
    let is_greedy = request.sampling == Sampling::Greedy;
    // One of full length was cut, and has no end.
    let is_cut = draft.len() == request.max_tokens;
    let has_end = is_cut || !request.stop.is_empty();
    (is_read && is_answer && has_end && is_greedy).then(|| Expected {
        tokens: draft.to_vec(),
        ends: match is_cut {
            true => Arc::default(),
            false => request.stop.into(),
        },
    })
}

/// What a pass gave for a proposal: a choice for each of its tokens and one behind it, and how far what
/// was expected there is below it.
#[derive(Clone, Copy)]
struct Read<'a> {
    choices: &'a [Choice],
    gaps: &'a [f32],
    proposal: &'a [u32],
}

impl Read<'_> {
    /// What is left behind so many tokens of the proposal.
    fn behind(self, n: usize) -> Self {
        Self {
            choices: &self.choices[n..],
            gaps: self.gaps.get(n..).unwrap_or_default(),
            proposal: &self.proposal[n..],
        }
    }
}

impl GenerationRequest<'_> {
    /// Whether a sub-paragraph that was begun behind `since` tokens ends with these.
    fn ends_sub_paragraph(&self, tokens: &[u32], since: usize) -> bool {
        let ends = |parts: SubParagraphs<'_>| (parts.end_with)(tokens);
        tokens.len() > since && self.sub_paragraphs.is_some_and(ends)
    }
}

/// Emits tokens of the draft as they are, and its end where these are all, and says whether the listener
/// broke off.
fn stand(
    answer: &mut Generation,
    stop: &[u32],
    (tokens, is_all): (&[u32], bool),
    read: &Read<'_>,
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> bool {
    let n_choices = if is_all {
        read.choices.len()
    } else {
        tokens.len()
    };
    let choices = &read.choices[..n_choices];
    let is_chosen = |(i, choice): (usize, &Choice)| match tokens.get(i) {
        Some(token) => *token == choice.token,
        None => stop.contains(&choice.token),
    };
    answer.is_tolerated |= !choices.iter().enumerate().all(is_chosen);
    let margin = |(choice, gap): (&Choice, &f32)| match *gap > 0.0 {
        true => -gap,
        false => choice.margin,
    };
    answer
        .margins
        .extend(choices.iter().zip(read.gaps).map(margin));
    for token in tokens {
        answer.tokens.push(*token);
        if on_token(*token).is_break() {
            return true;
        }
    }
    false
}

/// Emits the choices up to the first that disagrees with the proposal, or with which a sub-paragraph
/// ends that was begun behind `since` tokens, and says whether the answer ended with them. What stands
/// behind that is not looked at. Before them, so many tokens of the same pass stand.
///
/// # Errors
/// [`Error::NotFinite`] where not even the first of a pass is a choice.
fn take(
    answer: &mut Generation,
    request: &GenerationRequest<'_>,
    read: &Read<'_>,
    (n_stand, since): (usize, Option<usize>),
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> Result<Option<Finish>, Error> {
    for (i, choice) in read.choices.iter().enumerate() {
        let token = match choice.finite() {
            Err(error) if n_stand + i == 0 => return Err(error),
            Err(_) => break,
            Ok(token) => token,
        };
        answer.margins.push(choice.margin);
        if request.stop.contains(&token) {
            return Ok(Some(Finish::Stop));
        }
        answer.tokens.push(token);
        if on_token(token).is_break() {
            return Ok(Some(Finish::Cancelled));
        }
        let is_end = since.is_some_and(|since| request.ends_sub_paragraph(&answer.tokens, since));
        if is_end || read.proposal.get(i) != Some(&token) {
            break;
        }
    }
    Ok((answer.tokens.len() >= request.max_tokens).then_some(Finish::Length))
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
