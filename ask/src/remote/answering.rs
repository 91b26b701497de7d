//! How does a remote model answer over documents, and what of its answer before stands?
//!
//! Where the server tells how likely a prompt's tokens were, the answer before (with words exchanged
//! that its documents exchanged) is sent along and read in one pass: while each token is the likeliest,
//! it is what the model would write, and nothing is written anew. Else what stands of it is kept, and
//! the model goes on from there. A server that tells no such thing writes the whole answer again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::estimate;
use super::fault::Fault;
use super::habits::Scoring;
use super::lead::Lead;
use super::native::{self, GENERATE, Scored};
use super::reply::Ended;
use super::request::{ChatRequest, Prompt};
use super::verify::{self, Checked};
use super::{LONGEST_NAP, MANY_SILENCES, RemoteModel};
use crate::answer::{
    AnswerModel, AnswerRequest, AnswerText, CallError, CallProgress, Finish, Measured, Outcome,
    RemoteCall, Rung, Work,
};
use crate::before::Before;
use crate::chat::{BEFORE_PASSAGES, SYSTEM, passage_text};
use crate::dependency::Evidence;
use crate::lexical;
use crate::local::patched;
use crate::provider::Failure;
use perennial_bank::document::LayoutPassage;
use perennial_bank::id::FragmentId;
use perennial_bank::scope::Scope;
use perennial_model::cancel::Cancel;
use perennial_model::generation::DraftCheck;
use perennial_model::sampling::Sampling;
use serde_json::Value as Json;

/// How long a call waits before it looks whether the prompt is read that it shares.
const UNTIL_READ: Duration = Duration::from_millis(50);
/// Tokens of passages from which on a call waits for another that reads them: fewer are sooner read twice.
const LEAST_SHARED: usize = 128;

impl AnswerModel for RemoteModel {
    fn digest(&self) -> [u8; 32] {
        self.digest
    }

    fn n_positions(&self) -> usize {
        self.n_positions - self.habits.thinking_tokens
    }

    fn n_prefix_tokens(&self) -> usize {
        estimate::n_tokens(SYSTEM) + estimate::n_tokens(BEFORE_PASSAGES)
    }

    fn passage_tokens(&self, title: &str, text: &str) -> Result<Vec<u32>, String> {
        Ok(estimate::tokens(&passage_text(title, text)))
    }

    fn fragments(&self, _scope: Scope, _passages: &[LayoutPassage]) -> Vec<(FragmentId, usize)> {
        Vec::new()
    }

    fn answer(
        &self,
        request: &AnswerRequest<'_>,
        progress: &mut dyn CallProgress,
    ) -> Result<Outcome, Failure> {
        if let Some(pause) = self.gate.is_closed_for(Instant::now()) {
            return Err(Failure::Wait(pause));
        }
        let Some(lead) = self.lead(request) else {
            return Err(Failure::Wait(UNTIL_READ));
        };
        let prompt = prompt_without(request, None);
        let plain = plain(request, &prompt);
        let limit = self.n_positions;
        if let Some(required) = self.overflow(&plain) {
            return Err(CallError::DoesNotFit { required, limit }.into());
        }
        if request.tolerance.skips.is_some() {
            progress.cannot_judge("a remote model shows no attention");
        }
        let mut work = Work::default();
        let mut progress = Leading { lead, progress };
        let refreshed = self.refreshed(request, &plain, &mut work, &mut progress);
        let written = refreshed.map_err(|fault| {
            self.unclaimed.add(work.cost);
            match fault {
                // Asked again, it would say nothing again.
                Fault::Empty if self.silences.add(&prompt.user) >= MANY_SILENCES => {
                    let reason = "the model says nothing".to_owned();
                    CallError::Model { reason }.into()
                }
                fault => fault.into_failure(self.required(&plain), limit),
            }
        })?;
        self.silences.clear(&prompt.user);
        work.cost += self.unclaimed.take();
        Ok(written.outcome(request, work))
    }

    fn evidence(&self) -> Evidence {
        Evidence::Lexical
    }

    fn measures(&self) -> bool {
        self.leaves_out > 0 && self.report.scores_prompts
    }

    fn measure(
        &self,
        request: &AnswerRequest<'_>,
        answer: &str,
        progress: &mut dyn CallProgress,
    ) -> Result<Option<Measured>, Failure> {
        self.measured(request, answer, progress)
    }
}

/// The progress of a call that others may wait for: once it is written to, its prompt is read.
struct Leading<'a> {
    lead: Option<Lead<'a>>,
    progress: &'a mut dyn CallProgress,
}

impl CallProgress for Leading<'_> {
    fn encoding(&mut self, _done: usize, _total: usize) {}

    fn writing(&mut self, text: &str) {
        self.lead.iter().for_each(Lead::is_read);
        self.progress.writing(text);
    }

    fn called(&mut self, call: &RemoteCall<'_>) {
        if call.is_ok {
            self.lead.iter().for_each(Lead::is_read);
        }
        self.progress.called(call);
    }
}

/// The prompt of a request, without the passage at one place.
pub(super) fn prompt_without(request: &AnswerRequest<'_>, place: Option<usize>) -> Prompt {
    let passages = request.layout.passages().iter().enumerate();
    // What is superseded is taken out: there is no other repair of a plain prompt.
    let read = passages.filter(|(at, passage)| !passage.is_superseded && Some(*at) != place);
    let documents = read.map(|(_, passage)| (&*passage.title, &*passage.text));
    Prompt::over(documents, request.prompt, request.question)
}

/// The request for an answer from nothing.
pub(super) fn plain<'a>(request: &AnswerRequest<'_>, prompt: &'a Prompt) -> ChatRequest<'a> {
    ChatRequest {
        prompt,
        begin: None,
        max_tokens: request.max_tokens,
        sampling: request.sampling,
        schema: None,
        scores_prompt: false,
        scores_answer: false,
        streams: true,
    }
}

/// An answer, and how it came to be.
struct WrittenAnswer {
    text: String,
    finish: Finish,
    rung: Rung,
    check: Option<DraftCheck>,
    /// By how much another is likelier where this one was let stand.
    regret: f32,
}

/// The progress of an answer whose beginning stands: what is written comes behind it.
struct Behind<'a> {
    begin: &'a str,
    progress: &'a mut dyn CallProgress,
}

impl CallProgress for Behind<'_> {
    fn encoding(&mut self, _done: usize, _total: usize) {}

    fn writing(&mut self, text: &str) {
        let begin = self.begin;
        self.progress.writing(&format!("{begin}{text}"));
    }

    fn called(&mut self, call: &RemoteCall<'_>) {
        self.progress.called(call);
    }
}

/// The progress of a check: what its reply says is no part of an answer.
struct Unwritten<'a> {
    progress: &'a mut dyn CallProgress,
}

impl CallProgress for Unwritten<'_> {
    fn encoding(&mut self, _done: usize, _total: usize) {}

    fn writing(&mut self, _text: &str) {}

    fn called(&mut self, call: &RemoteCall<'_>) {
        self.progress.called(call);
    }
}

/// The answer before, as what the next may be.
struct Draft {
    text: String,
    finish: Finish,
    is_patched: bool,
}

impl Draft {
    fn of(request: &AnswerRequest<'_>) -> Option<Self> {
        let Before {
            written, tokens, ..
        } = request.before;
        let written = written.as_deref();
        if let Some(text) = written.and_then(|written| patched(written, request)) {
            return Some(Self {
                text,
                finish: Finish::Stop,
                is_patched: true,
            });
        }
        let draft = match written {
            Some(written) => Self {
                text: written.answer.text.to_string(),
                finish: written.answer.finish,
                is_patched: false,
            },
            // What a restart knows: the tokens, which are characters here.
            None => Self {
                text: tokens.iter().filter_map(|c| char::from_u32(*c)).collect(),
                finish: Finish::Stop,
                is_patched: false,
            },
        };
        Some(draft).filter(|draft| !draft.text.trim().is_empty())
    }
}

impl RemoteModel {
    /// The right to have a request's prompt read, where others may wait for it; nothing where it had better
    /// wait for another that shares its beginning.
    fn lead(&self, request: &AnswerRequest<'_>) -> Option<Option<Lead<'_>>> {
        let keeps_what_it_read = self.report.n_cached.is_some_and(|n| n > 0);
        // What is checked along with an answer is read past the server's cache.
        let is_checked = self.report.scores_prompts
            && self.habits.scoring == Scoring::InChat
            && !request.before.tokens.is_empty();
        let is_short = request.layout.n_tokens() < LEAST_SHARED;
        if !keeps_what_it_read || self.at_once == 1 || is_checked || is_short {
            return Some(None);
        }
        let mut hash = blake3::Hasher::new();
        let passages = request.layout.passages().iter();
        let read = passages.filter(|passage| !passage.is_superseded);
        let boundaries = read.map(|passage| {
            for text in [&passage.title, &passage.text] {
                hash.update(&(text.len() as u64).to_le_bytes())
                    .update(text.as_bytes());
            }
            *hash.finalize().as_bytes()
        });
        let boundaries = boundaries.collect();
        self.leads.enter(boundaries, Instant::now()).map(Some)
    }

    fn refreshed(
        &self,
        request: &AnswerRequest<'_>,
        plain: &ChatRequest<'_>,
        work: &mut Work,
        progress: &mut dyn CallProgress,
    ) -> Result<WrittenAnswer, Fault> {
        let is_greedy = request.sampling == Sampling::Greedy;
        let draft = Draft::of(request).filter(|_| self.report.scores_prompts && is_greedy);
        // Whether it may stand though another is likelier, only a check tells.
        let is_promised = self.always_checks || request.tolerance.regret > 0.0;
        let draft = draft.filter(|draft| {
            let n_answer = estimate::n_tokens(&draft.text);
            let is_checkable = self.uncheckable.of(&draft.text) == 0;
            let is_sooner = || self.pace.prefers_check(self.estimated(plain), n_answer);
            is_checkable && (is_promised || is_sooner())
        });
        let mut check = None;
        if let Some(draft) = draft
            && let Some(checked) =
                self.check(request, plain, &draft, (&mut *work, &mut *progress))?
        {
            check = Some(checked.of.check);
            if let Some(written) = checked.standing(request, &draft) {
                progress.writing(&written.text);
                return Ok(written);
            }
            let begin = draft.text[..checked.of.n_standing].trim_end();
            let n_left = request
                .max_tokens
                .saturating_sub(checked.of.n_standing_tokens);
            if !begin.is_empty() && n_left > 0 {
                let rest = ChatRequest {
                    begin: Some(begin),
                    max_tokens: n_left,
                    ..plain.clone()
                };
                let mut behind = Behind {
                    begin,
                    progress: &mut *progress,
                };
                let reply = self.ask_next(&rest, &request.cancel, &mut behind)?;
                self.note(work, &reply.usage);
                let finish = reply.finish()?;
                return Ok(WrittenAnswer {
                    text: format!("{begin}{}", reply.text.trim_end()),
                    finish,
                    rung: Rung::Rewrite,
                    check,
                    regret: 0.0,
                });
            }
        }
        let reply = match check {
            None => self.ask(plain, &request.cancel, progress),
            Some(_) => self.ask_next(plain, &request.cancel, progress),
        };
        let reply = reply?;
        self.note(work, &reply.usage);
        let (text, finish) = reply.answer(self.n_allowed(plain))?;
        Ok(WrittenAnswer {
            text: text.to_owned(),
            finish,
            rung: Rung::Regenerate,
            check,
            regret: 0.0,
        })
    }

    /// Has the server read a draft; nothing where that tells nothing.
    fn check(
        &self,
        request: &AnswerRequest<'_>,
        plain: &ChatRequest<'_>,
        draft: &Draft,
        (work, progress): (&mut Work, &mut dyn CallProgress),
    ) -> Result<Option<Read>, Fault> {
        let read = self.scored(plain, &draft.text, &request.cancel, (&mut *work, progress));
        let read = match read {
            Err(fault) => return self.unchecked(&draft.text, fault),
            Ok(read) => read,
        };
        let checked = verify::check(&draft.text, &read.scores);
        if checked.is_none() {
            self.uncheckable.add(&draft.text);
        }
        let n_draft = checked.as_ref().map_or(0, |checked| checked.n_tokens);
        work.n_draft += n_draft;
        work.n_prompt = work.n_prompt.saturating_sub(n_draft);
        Ok(checked.map(|of| Read {
            of,
            has_ended: read.has_ended || draft.finish == Finish::Length,
        }))
    }

    /// Has the server tell how likely the tokens of a text are behind a prompt, and whether the answer
    /// would end there.
    pub(super) fn scored(
        &self,
        plain: &ChatRequest<'_>,
        text: &str,
        cancel: &Cancel,
        (work, progress): (&mut Work, &mut dyn CallProgress),
    ) -> Result<ScoredText, Fault> {
        let begun = Instant::now();
        let reading = ChatRequest {
            begin: Some(text),
            max_tokens: 1,
            scores_prompt: true,
            streams: false,
            ..plain.clone()
        };
        let mut unwritten = Unwritten { progress };
        let reply = self.ask(&reading, cancel, &mut unwritten)?;
        self.note(work, &reply.usage);
        let has_ended = reply.ended == Some(Ended::Stop) && reply.text.trim().is_empty();
        let mut scores = reply.prompt_scores.unwrap_or_default();
        if let (Scoring::Native, Some(ids)) = (self.habits.scoring, &reply.prompt_ids) {
            let scored = self.score(ids, text, cancel, &mut unwritten)?;
            self.note(work, &scored.usage);
            scores = scored.scores;
            let n_prompt = reply.usage.prompt.unwrap_or(0);
            self.pace.note_check(n_prompt, begun.elapsed());
        }
        Ok(ScoredText { scores, has_ended })
    }

    /// What comes of a check that its server did not make.
    fn unchecked(&self, draft: &str, fault: Fault) -> Result<Option<Read>, Fault> {
        match fault {
            // Of this prompt it tells nothing.
            Fault::Refused {
                status: 400 | 404 | 405 | 422,
                ..
            } => {
                self.uncheckable.add(draft);
                Ok(None)
            }
            // A check may be more than a server can do that writes the same answer with ease.
            fault if fault.is_of_server() => {
                self.uncheckable.add(draft);
                Err(fault)
            }
            fault => Err(fault),
        }
    }

    /// Has the server tell how likely the tokens of a prompt were that ends with a draft, waiting for the
    /// gate.
    fn score(
        &self,
        ids: &[u64],
        draft: &str,
        cancel: &Cancel,
        progress: &mut dyn CallProgress,
    ) -> Result<Scored, Fault> {
        let permit = loop {
            if cancel.is_cancelled() {
                return Err(Fault::Cancelled);
            }
            match self.gate.enter(ids.len() as u64, Instant::now()) {
                Ok(permit) => break permit,
                Err(pause) => std::thread::sleep(pause.min(LONGEST_NAP)),
            }
        };
        let begun = Instant::now();
        let replied = self
            .server
            .post_beside(GENERATE, &native::body(ids, draft), cancel);
        progress.called(&RemoteCall {
            server: self.server.address().root(),
            endpoint: GENERATE,
            status: match &replied {
                Ok(_) => Some(200),
                Err(Fault::Refused { status, .. }) => Some(*status),
                Err(_) => None,
            },
            is_ok: replied.is_ok(),
            elapsed: begun.elapsed(),
        });
        let scored = replied.and_then(|reply| native::scored(&reply));
        match &scored {
            Ok(_) => permit.replied(ids.len() as u64),
            Err(fault) => permit.failed(fault, Instant::now()),
        }
        scored
    }
}

/// A text behind a prompt, as the server read it.
pub(super) struct ScoredText {
    /// How likely the tokens of the prompt were, the text's last.
    pub(super) scores: Vec<Json>,
    /// Whether the model would end where the text does.
    pub(super) has_ended: bool,
}

/// A draft as the server read it.
struct Read {
    of: Checked,
    /// Whether the model would end where the draft does.
    has_ended: bool,
}

impl Read {
    /// The draft as the answer, if it stands.
    fn standing(&self, request: &AnswerRequest<'_>, draft: &Draft) -> Option<WrittenAnswer> {
        let is_likeliest = self.of.n_standing == draft.text.len();
        let regret = self.of.check.regret;
        let is_tolerated = !draft.is_patched && regret <= request.tolerance.regret;
        (self.has_ended && (is_likeliest || is_tolerated)).then(|| WrittenAnswer {
            text: draft.text.clone(),
            finish: draft.finish,
            rung: match draft.is_patched {
                true => Rung::Patch,
                false => Rung::Verify,
            },
            check: Some(self.of.check),
            regret: if is_likeliest { 0.0 } else { regret },
        })
    }
}

impl WrittenAnswer {
    fn outcome(self, request: &AnswerRequest<'_>, work: Work) -> Outcome {
        let passages = request.layout.passages();
        let (sub_paragraphs, dependencies) =
            lexical::attributed(&self.text, request.question, passages);
        Outcome {
            tokens: self.text.chars().map(u32::from).collect(),
            answer: AnswerText {
                text: Arc::from(self.text),
                finish: self.finish,
            },
            rung: self.rung,
            work,
            sub_paragraphs,
            min_margin: f32::INFINITY,
            is_exact: self.regret == 0.0,
            regret: self.regret,
            draft: self.check,
            drift: 0.0,
            dependencies,
            live: Arc::default(),
            log: None,
        }
    }
}
