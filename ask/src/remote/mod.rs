//! How does a model behind HTTP answer, and when must it be asked again?
//!
//! A server is found at an address and probed when the model is created: what it can do is asked, not
//! assumed. It gets requests as its habits want them, and its reply is told from what it thought. What
//! it says of an answer before decides what is written again. A gate keeps its limits; what goes wrong
//! is a fault, and only what never can succeed becomes data. Each of these is a module. What embeds texts
//! behind HTTP ([`RemoteEmbedder`]) is spoken to in the same way.
//!
//! # Invariants
//! - A reply that is empty, cut off, of another model or of a shortened prompt is no answer.
//! - The digest covers address, model and everything a prompt or its parameters depend on.
//! - Such a model promises no same words: what it said stands until what it was asked changes.

mod address;
mod answering;
mod embedding;
mod error;
mod estimate;
mod exchange;
mod fault;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod habits;
mod identity;
mod lead;
mod likelihoods;
mod measuring;
mod native;
mod pace;
mod performing;
mod probe;
mod reply;
mod request;
mod server;
mod strikes;
mod thinking;
mod unclaimed;
mod verify;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use perennial_model::cancel::Cancel;

pub use address::Address;
pub use embedding::{EmbedderOptions, RemoteEmbedder};
pub use error::RemoteError;
pub use gate::RemoteLimits;
pub use probe::{Repeats, ServerReport};
pub use server::ApiKey;

use crate::answer::{CallProgress, RemoteCall, Work, n_tokens_of};
use crate::cost::{Cost, Prices};
use fault::Fault;
use gate::Gate;
use habits::{Habits, Scoring};
use identity::Identity;
use lead::Leads;
use likelihoods::Likeliest;
use pace::Pace;
use reply::{Reply, Usage};
use request::ChatRequest;
use server::Server;
use strikes::Strikes;
use unclaimed::Unclaimed;

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(300);
/// Tokens that a model attends to, where neither it nor anybody says.
const N_POSITIONS: usize = 4096;
/// Tokens for thinking beside an answer's, of a model that thinks: at most, and as a part of what it
/// attends to.
const THINKING_TOKENS: usize = 2048;
/// See [`THINKING_TOKENS`].
const THINKING_PART: usize = 4;
/// How long a call that waits for the gate sleeps before it looks whether it is still wanted.
const LONGEST_NAP: Duration = Duration::from_millis(200);
/// Replies without a word to the same prompt after which it is believed that there is none.
const MANY_SILENCES: u32 = 3;
/// A prompt that has less than this part of the tokens that it should have was shortened.
const LEAST_OF_EXPECTED: f32 = 0.6;

/// The endpoint that is asked.
const CHAT: &str = "chat/completions";

/// How a remote model is used.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// The key that the server wants.
    pub key: Option<ApiKey>,
    /// A PEM file of authorities to believe instead of the usual ones.
    pub authorities: Option<PathBuf>,
    /// How long the server may be silent: before its reply begins, and between any two parts of it.
    pub patience: Duration,
    /// What it may be asked.
    pub limits: RemoteLimits,
    /// Tokens that it attends to, where that is known better than by the server.
    pub n_positions: Option<usize>,
    /// Tokens that it may spend on thinking, beside those of an answer.
    pub thinking_tokens: Option<usize>,
    /// Whether an answer that a server can check is checked, also where writing it was measured to be
    /// sooner.
    pub always_checks: bool,
    /// What its tokens cost. What calls cost is counted by them.
    pub prices: Option<Prices>,
    /// Passages of an answer that are left out, one at a time, to measure how much it depends on them
    /// ([`leave_one_out`](crate::leave_one_out)); 0 measures nothing.
    pub leave_one_out: usize,
}

impl Default for RemoteOptions {
    /// No key, eight requests at once, and five minutes of patience.
    fn default() -> Self {
        Self {
            key: None,
            authorities: None,
            patience: PATIENCE,
            limits: RemoteLimits::default(),
            n_positions: None,
            thinking_tokens: None,
            always_checks: false,
            prices: None,
            leave_one_out: 0,
        }
    }
}

/// A model behind HTTP.
pub struct RemoteModel {
    server: Server,
    /// Its address, as it may be shown.
    shown: String,
    /// What it is asked by.
    model: String,
    habits: Habits,
    report: ServerReport,
    n_positions: usize,
    at_once: usize,
    gate: Gate,
    digest: [u8; 32],
    /// By which name the server answers, once it has.
    answers_as: Identity,
    /// Tokens of a prompt for each of the lower bound.
    tokens_a_word: f32,
    /// Whether its thinking has no opening tag.
    thinks_unopened: bool,
    /// What it would say of no row, by the instruction that it is given; nothing where that is not told.
    inclinations: Mutex<HashMap<String, Option<Likeliest>>>,
    /// Prompts to which it said nothing.
    silences: Strikes,
    /// Answers that its server could not check.
    uncheckable: Strikes,
    /// How long its calls take.
    pace: Pace,
    /// Which of its calls have it read what others share.
    leads: Leads,
    always_checks: bool,
    /// Passages of an answer that are left out to measure what it depends on.
    leaves_out: usize,
    prices: Option<Prices>,
    /// What calls cost that gave nothing.
    unclaimed: Unclaimed,
}

impl RemoteModel {
    /// Finds the model at `spec`, an [`Address`], and what its server can do.
    ///
    /// # Errors
    /// What is wrong with the address, the server or the model, and what to do about it.
    pub fn open(spec: &str, options: &RemoteOptions) -> Result<Self, RemoteError> {
        let (address, named) = Address::parse(spec)?;
        let server = Server::new(
            address,
            options.key.clone(),
            options.patience,
            options.authorities.as_ref(),
        )?;
        let probed = probe::probe(&server, named, options.limits.at_once)?;
        let n_positions = options.n_positions.or(probed.report.n_positions);
        let n_positions = n_positions.unwrap_or(N_POSITIONS);
        let mut habits = probed.habits;
        if probed.report.thinks {
            let usual = THINKING_TOKENS.min(n_positions / THINKING_PART);
            habits.thinking_tokens = options.thinking_tokens.unwrap_or(usual);
        }
        if habits.thinking_tokens >= n_positions {
            return Err(RemoteError::Setting(format!(
                "{} tokens for thinking leave nothing of the {n_positions} that the model attends to",
                habits.thinking_tokens
            )));
        }
        let answers = probed.answers_as.as_deref().unwrap_or_default();
        let digest = digest(server.address(), [&probed.model, answers], &habits);
        let mut limits = options.limits;
        if probed.report.repeats.failed_together > 0 {
            limits.at_once = 1;
        }
        Ok(Self {
            shown: server.address().to_string(),
            server,
            model: probed.model,
            habits,
            report: probed.report,
            n_positions,
            at_once: limits.at_once.max(1),
            gate: Gate::new(limits),
            digest,
            answers_as: Identity::of(probed.answers_as),
            tokens_a_word: probed.tokens_a_word,
            thinks_unopened: probed.thinks_unopened,
            silences: Strikes::default(),
            uncheckable: Strikes::default(),
            inclinations: Mutex::default(),
            pace: Pace::default(),
            leads: Leads::default(),
            always_checks: options.always_checks,
            leaves_out: options.leave_one_out,
            prices: options.prices,
            unclaimed: Unclaimed::default(),
        })
    }

    /// The same, which has every answer written from nothing: what a benchmark compares with.
    #[must_use]
    pub fn without_drafts(mut self) -> Self {
        self.report.scores_prompts = false;
        self
    }

    /// What the server calls the model.
    pub fn name(&self) -> &str {
        &self.model
    }

    /// Where the server is.
    pub fn address(&self) -> &Address {
        self.server.address()
    }

    /// What was found out about the server.
    pub fn report(&self) -> &ServerReport {
        &self.report
    }

    /// Tokens that it is taken to attend to.
    pub fn context_window(&self) -> usize {
        self.n_positions
    }

    /// Most requests that run at the same time.
    pub fn at_once(&self) -> usize {
        self.at_once
    }

    /// Asks once. `progress` hears what was written so far, and of the request.
    fn ask(
        &self,
        request: &ChatRequest<'_>,
        cancel: &Cancel,
        progress: &mut dyn CallProgress,
    ) -> Result<Reply, Fault> {
        if cancel.is_cancelled() {
            return Err(Fault::Cancelled);
        }
        let required = self.required(request);
        let permit = self.gate.enter(required as u64, Instant::now());
        let permit = permit.map_err(Fault::Wait)?;
        let begin = Instant::now();
        let mut first = None;
        let asked = (&self.server, cancel);
        let replied = ask(asked, &self.model, &self.habits, request, |reply| {
            if cancel.is_cancelled() {
                return Err(Fault::Cancelled);
            }
            if first.is_none() && !reply.text.is_empty() {
                first = Some(begin.elapsed());
            }
            let visible = reply.visible().into_iter();
            visible.for_each(|text| progress.writing(text));
            Ok(())
        });
        // What breaks off because nobody waits any more is no failure of the server.
        let replied = replied.map_err(|fault| match cancel.is_cancelled() {
            true => Fault::Cancelled,
            false => fault,
        });
        progress.called(&RemoteCall {
            server: &self.shown,
            endpoint: CHAT,
            status: match &replied {
                Ok(_) => Some(200),
                Err(Fault::Refused { status, .. }) => Some(*status),
                Err(_) => None,
            },
            is_ok: replied.is_ok(),
            elapsed: begin.elapsed(),
        });
        let replied = replied.and_then(|reply| self.believed(reply, request));
        match &replied {
            Ok(reply) => {
                let usage = reply.usage;
                let (prompt, written) =
                    (usage.prompt.unwrap_or(required), usage.written.unwrap_or(0));
                permit.replied((prompt + written) as u64);
                if request.scores_prompt {
                    // Else more is to be asked before it is checked.
                    if self.habits.scoring == Scoring::InChat {
                        self.pace.note_check(prompt, begin.elapsed());
                    }
                } else if let Some(first) = first.filter(|_| request.streams) {
                    self.pace
                        .note_answer(prompt, first, written, begin.elapsed());
                }
            }
            Err(fault) => permit.failed(fault, Instant::now()),
        }
        replied
    }

    /// The reply, if the same model read all of the prompt.
    fn believed(&self, mut reply: Reply, request: &ChatRequest<'_>) -> Result<Reply, Fault> {
        let doubt = self.doubt(&reply, request);
        reply.count(self.estimated(request));
        match doubt {
            None => Ok(reply),
            Some(fault) => {
                self.unclaimed.add(self.cost(&reply.usage));
                Err(fault)
            }
        }
    }

    /// Why a reply is not believed.
    fn doubt(&self, reply: &Reply, request: &ChatRequest<'_>) -> Option<Fault> {
        if let Err(exchanged) = self.answers_as.check(reply.model.as_ref()) {
            return Some(exchanged);
        }
        let least = self.least(request);
        match reply.usage.prompt {
            Some(read) if read < least => Some(Fault::TooLong {
                required: n_tokens_of([least, request.max_tokens]),
                limit: read,
            }),
            _ if self.has_only_thought(reply) => Some(Fault::OnlyThought {
                max_tokens: self.n_allowed(request),
            }),
            _ => None,
        }
    }

    /// What a request cost.
    fn cost(&self, usage: &Usage) -> Cost {
        let (prompt, cached) = (usage.prompt.unwrap_or(0), usage.cached.unwrap_or(0));
        let written = usage.written.unwrap_or(0);
        let cost = |prices: Prices| prices.cost(prompt, cached, written);
        self.prices.map(cost).unwrap_or_default()
    }

    /// Notes what a request cost, by the server's count.
    fn note(&self, work: &mut Work, usage: &Usage) {
        let prompt = usage.prompt.unwrap_or(0);
        let written = usage.written.unwrap_or(0);
        let cached = usage.cached.unwrap_or(0).min(prompt);
        work.n_prompt += prompt - cached;
        work.n_cached += cached;
        work.n_decoded += written;
        work.n_passes += 1;
        work.n_from_scratch = work.n_from_scratch.max(prompt + written);
        work.cost += self.cost(usage);
    }

    /// Whether a request cannot fit what the model attends to; then the tokens that it has at least.
    fn overflow(&self, request: &ChatRequest<'_>) -> Option<usize> {
        let least = n_tokens_of([self.least(request), self.n_allowed(request)]);
        (least > self.n_positions).then_some(least)
    }

    /// The same as [`ask`](Self::ask), waiting for the gate: for the second request of a call, which
    /// would have to begin with the first again.
    fn ask_next(
        &self,
        request: &ChatRequest<'_>,
        cancel: &Cancel,
        progress: &mut dyn CallProgress,
    ) -> Result<Reply, Fault> {
        loop {
            match self.ask(request, cancel, progress) {
                Err(Fault::Wait(pause)) => std::thread::sleep(pause.min(LONGEST_NAP)),
                other => return other,
            }
        }
    }

    /// Whether a reply ends within what the model thinks, though no tag says so.
    fn has_only_thought(&self, reply: &Reply) -> bool {
        self.thinks_unopened && reply.ended == Some(reply::Ended::Length) && !reply.has_thought()
    }

    /// Tokens that a request's prompt has at least, as the server would count them.
    fn least(&self, request: &ChatRequest<'_>) -> usize {
        let texts = request.prompt.texts().into_iter().chain(request.begin);
        let words: f32 = texts.map(estimate::n_least).sum();
        (LEAST_OF_EXPECTED * self.tokens_a_word * words) as usize
    }

    /// Tokens of a request's prompt, by estimate.
    fn estimated(&self, request: &ChatRequest<'_>) -> usize {
        let texts = request.prompt.texts().into_iter().chain(request.begin);
        texts.map(estimate::n_tokens).sum()
    }

    /// Tokens of a request's prompt and answer, by estimate.
    fn required(&self, request: &ChatRequest<'_>) -> usize {
        n_tokens_of([self.estimated(request), self.n_allowed(request)])
    }

    /// Most tokens that a reply to a request may have, what is thought included.
    fn n_allowed(&self, request: &ChatRequest<'_>) -> usize {
        n_tokens_of([request.max_tokens, self.habits.thinking_tokens])
    }
}

/// Asks a server once; `tell` hears of the reply so far.
fn ask(
    (server, cancel): (&Server, &Cancel),
    model: &str,
    habits: &Habits,
    request: &ChatRequest<'_>,
    mut tell: impl FnMut(&Reply) -> Result<(), Fault>,
) -> Result<Reply, Fault> {
    let streams = request.streams && !habits.refuses_stream;
    let request = ChatRequest {
        streams,
        ..request.clone()
    };
    let body = request.body(model, habits);
    let mut reply = Reply::default();
    if streams {
        server.stream(CHAT, &body, cancel, |event| {
            reply.take(&event)?;
            tell(&reply)
        })?;
    } else {
        reply.take(&server.post(CHAT, &body, cancel)?)?;
        tell(&reply)?;
    }
    Ok(reply)
}

fn digest(address: &Address, names: [&str; 2], habits: &Habits) -> [u8; 32] {
    let mut hash = blake3::Hasher::new_derive_key("perennial 1 remote model");
    let form = request::Prompt::over([("title", "text")], "prompt", "question");
    // With its query, which may name a deployment.
    let (endpoint, habits) = (address.endpoint(""), habits.digested());
    let parts = [&endpoint, names[0], names[1], &habits];
    for text in parts.into_iter().chain(form.texts()) {
        hash.update(&(text.len() as u64).to_le_bytes())
            .update(text.as_bytes());
    }
    *hash.finalize().as_bytes()
}
