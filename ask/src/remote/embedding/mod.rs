//! How are texts embedded behind HTTP?
//!
//! Texts go to `/embeddings` of OpenAI's interface, several with one request. A reply is believed if it
//! has a vector for each text, in the order that it says, all of the number of elements that the first
//! had, and is of the same model. Vectors are scaled to length 1 here.
//!
//! # Design
//! Texts that are refused together are sent again with half as many others, so that one text's refusal
//! is its own; where none is refused by itself, fewer texts go with one request from then on. A text that
//! is too long is cut in halves until its beginning fits: what counts of it depends on the text and the
//! server alone, as its vector must. What a call got and learnt before it failed is kept for the next:
//! under limits that allow less than one call needs, each try would begin anew for ever.
//!
//! # Invariants
//! - Vectors of different models or sizes never meet: a server that changes either fails until it is as
//!   it was, and the digest covers both. It does not cover the address.
//! - What the server, not a text, is at fault for is never a text's failure.

mod batches;
mod kept;
mod refusals;
mod vectors;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use perennial_model::cancel::Cancel;
use serde_json::{Value as Json, json};

use super::address::Address;
use super::error::RemoteError;
use super::fault::Fault;
use super::gate::{Gate, RemoteLimits};
use super::identity::Identity;
use super::server::{ApiKey, MAX_REPLY, Server};
use super::{PATIENCE, estimate, probe};
use crate::answer::CallError;
use crate::embed::Embed;
use crate::provider::Failure;
use kept::Kept;
use refusals::Refusals;
use vectors::Vectors;

/// The endpoint that is asked.
const EMBEDDINGS: &str = "embeddings";
/// Most texts of one request.
const MAX_TEXTS: usize = 64;
/// Most bytes of the texts of one request, unless it is one text.
const MAX_BYTES: usize = 256 << 10;
/// A vector with more elements is refused.
const MAX_ELEMENTS: usize = 1 << 16;
/// Bytes of a reply for each element: the digits of a number as servers write it, and a comma.
const BYTES_AN_ELEMENT: usize = 32;
/// What is embedded to learn what the server gives.
const TEXT: &str = "The library opens at nine in the morning.";
/// How alike packed and plain vectors of one text are at least, as a cosine.
const ALIKE: f32 = 0.999;

/// What becomes of one text: its vector, or why it never has one.
type Outcome = Result<Vec<f32>, String>;

/// How a remote embedder is used.
#[derive(Clone, Debug)]
pub struct EmbedderOptions {
    /// The key that the server wants.
    pub key: Option<ApiKey>,
    /// A PEM file of authorities to believe instead of the usual ones.
    pub authorities: Option<PathBuf>,
    /// How long the server may be silent.
    pub patience: Duration,
    /// What it may be asked.
    pub limits: RemoteLimits,
    /// Most texts of one request.
    pub max_texts: usize,
    /// Most bytes of the texts of one request, unless it is one text.
    pub max_bytes: usize,
}

impl Default for EmbedderOptions {
    /// No key, eight requests at once, five minutes of patience; 64 texts or 256 KiB of one request.
    fn default() -> Self {
        Self {
            key: None,
            authorities: None,
            patience: PATIENCE,
            limits: RemoteLimits::default(),
            max_texts: MAX_TEXTS,
            max_bytes: MAX_BYTES,
        }
    }
}

/// A model behind HTTP that embeds texts.
pub struct RemoteEmbedder {
    server: Server,
    /// What it is asked by.
    model: String,
    /// By which name the server answers, once it has.
    answers_as: Identity,
    n_dimensions: usize,
    /// Whether it packs vectors.
    packs: bool,
    at_once: usize,
    gate: Gate,
    digest: [u8; 32],
    /// Most texts of one request, as far as it is known what the server takes.
    n_texts: AtomicUsize,
    max_bytes: usize,
    refusals: Refusals,
    kept: Kept,
}

impl RemoteEmbedder {
    /// Finds the model at `spec`, an [`Address`], and embeds a text by it.
    ///
    /// # Errors
    /// What is wrong with the address, the server or the model, and what to do about it.
    pub fn open(spec: &str, options: &EmbedderOptions) -> Result<Self, RemoteError> {
        let (address, named) = Address::parse(spec)?;
        let server = Server::new(
            address,
            options.key.clone(),
            options.patience,
            options.authorities.as_ref(),
        )?;
        let model = probe::model(&server, named)?;
        let asked = |packs| {
            probe::patiently(|| {
                let reply =
                    server.post(EMBEDDINGS, &body(&model, &[TEXT], packs), &Cancel::new())?;
                let mut of = vectors::read(&reply, 1)?;
                let vector = of.vectors.pop().unwrap_or(Err(String::new()));
                Ok((vector.map_err(Fault::Never)?, of.model))
            })
        };
        let failed = |fault: Fault| probe::unusable(&server, fault.to_string());
        let (plain, answers) = asked(false).map_err(failed)?;
        let n_dimensions = plain.len();
        if !(1..=MAX_ELEMENTS).contains(&n_dimensions) {
            let reason = format!("a vector of {n_dimensions} elements; at most {MAX_ELEMENTS}");
            return Err(probe::unusable(&server, reason));
        }
        // Not every server knows of it, and what is told otherwise must be the same.
        let is_alike = |packed: Vec<f32>| {
            let cosine: f32 = packed.iter().zip(&plain).map(|(x, y)| x * y).sum();
            packed.len() == n_dimensions && cosine >= ALIKE
        };
        let packs = asked(true).is_ok_and(|(packed, _)| is_alike(packed));
        let names = [&model, answers.as_deref().unwrap_or_default()];
        let digest = digest(names, n_dimensions);
        let fit = MAX_REPLY as usize / (n_dimensions * BYTES_AN_ELEMENT);
        Ok(Self {
            server,
            model,
            answers_as: Identity::of(answers),
            n_dimensions,
            packs,
            at_once: options.limits.at_once.max(1),
            gate: Gate::new(options.limits),
            digest,
            n_texts: AtomicUsize::new(options.max_texts.clamp(1, fit.max(1))),
            max_bytes: options.max_bytes,
            refusals: Refusals::default(),
            kept: Kept::default(),
        })
    }

    /// What the server calls the model.
    pub fn name(&self) -> &str {
        &self.model
    }

    /// Where the server is.
    pub fn address(&self) -> &Address {
        self.server.address()
    }

    /// Numbers in a vector.
    pub fn n_dimensions(&self) -> usize {
        self.n_dimensions
    }

    /// Most requests that run at the same time.
    pub fn at_once(&self) -> usize {
        self.at_once
    }

    /// Asks once.
    fn ask(&self, texts: &[&str]) -> Result<Vectors, Fault> {
        let n_tokens: usize = texts.iter().map(|text| estimate::n_tokens(text)).sum();
        let n_tokens = n_tokens as u64;
        let permit = self.gate.enter(n_tokens, Instant::now());
        let permit = permit.map_err(Fault::Wait)?;
        let replied = self.server.post(
            EMBEDDINGS,
            &body(&self.model, texts, self.packs),
            &Cancel::new(),
        );
        let replied = replied
            .and_then(|reply| vectors::read(&reply, texts.len()))
            .and_then(|of| self.believed(of))
            .map_err(refused_for_length);
        match &replied {
            Ok(of) => permit.replied(of.n_tokens.unwrap_or(n_tokens)),
            Err(fault) => permit.failed(fault, Instant::now()),
        }
        replied
    }

    /// Asks until it is known what becomes of each text.
    fn fill(&self, texts: &[&str], outcomes: &mut [Option<Outcome>]) -> Result<(), Fault> {
        let places: Vec<usize> = (0..texts.len())
            .filter(|at| outcomes[*at].is_none())
            .collect();
        let mut places = places.as_slice();
        // The smallest number of texts that was refused though none of them was at fault.
        let mut smallest_refused: Option<usize> = None;
        let mut is_any_at_fault = false;
        while !places.is_empty() {
            let n_texts = self.n_texts.load(Ordering::Relaxed);
            let next = places.iter().take(n_texts);
            let next: Vec<(&str, usize)> = next.map(|at| self.refusals.sent(texts[*at])).collect();
            let n = batches::n_first(next.iter().copied(), self.max_bytes);
            let sent: Vec<&str> = next[..n].iter().map(|(text, _)| *text).collect();
            let whole: Vec<&str> = places[..n].iter().map(|at| texts[*at]).collect();
            match self.ask(&sent) {
                Ok(of) => {
                    for (outcome, at) in of.vectors.into_iter().zip(places) {
                        outcomes[*at] = Some(outcome);
                    }
                    self.refusals.taken(&whole);
                    places = &places[n..];
                }
                Err(fault) if fault.is_refusal() && n > 1 => {
                    self.refusals.split(&whole);
                    smallest_refused = Some(smallest_refused.map_or(n, |least| least.min(n)));
                }
                Err(fault) if fault.is_refusal() => {
                    is_any_at_fault = true;
                    if !(fault.is_about_length() && self.refusals.cut(whole[0])) {
                        outcomes[places[0]] = Some(Err(fault.to_string()));
                        self.refusals.taken(&whole);
                        places = &places[1..];
                    }
                }
                Err(fault) => return Err(fault),
            }
        }
        if let Some(n) = smallest_refused.filter(|_| !is_any_at_fault) {
            self.n_texts.fetch_min(n.div_ceil(2), Ordering::Relaxed);
        }
        Ok(())
    }

    /// The vectors, if the same model gave them.
    fn believed(&self, of: Vectors) -> Result<Vectors, Fault> {
        self.answers_as.check(of.model.as_ref())?;
        let mut sizes = of.vectors.iter().flatten().map(Vec::len);
        match sizes.find(|size| *size != self.n_dimensions) {
            Some(is) => Err(Fault::Reshaped {
                was: self.n_dimensions,
                is,
            }),
            None => Ok(of),
        }
    }
}

impl Embed for RemoteEmbedder {
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Failure> {
        let mut outcomes: Vec<Option<Outcome>> = self.kept.take(texts);
        let failure = self.fill(texts, &mut outcomes).err().map(into_failure);
        let refused = outcomes.iter().flatten().find_map(|of| of.as_ref().err());
        let refused = refused.map(|reason| CallError::Model {
            reason: reason.clone(),
        });
        match failure.or(refused.map(Failure::Final)) {
            None => Ok(outcomes.into_iter().flatten().flatten().collect()),
            Some(failure) => {
                // What a text comes to by itself is heard, and asked anew the next time.
                if texts.len() > 1 {
                    self.kept.put(texts, outcomes);
                }
                Err(failure)
            }
        }
    }

    fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

fn body(model: &str, texts: &[&str], packs: bool) -> Json {
    let mut body = json!({"model": model, "input": texts});
    if packs {
        body["encoding_format"] = json!("base64");
    }
    body
}

/// What comes of a call.
fn into_failure(fault: Fault) -> Failure {
    match fault {
        Fault::Exchanged { asked, answers } => Failure::Retry {
            reason: format!(
                "the server embeds as `{answers}`, and was `{asked}` when it was asked first; start \
                 again if that is meant"
            ),
            after: None,
        },
        other => other.into_failure(0, usize::MAX),
    }
}

/// A fault as a refusal where it is one for length, under whatever status.
fn refused_for_length(mut fault: Fault) -> Fault {
    let is_about_length = fault.is_about_length();
    if let Fault::Refused { status, .. } = &mut fault
        && is_about_length
    {
        *status = 413;
    }
    fault
}

/// What a text is remembered by.
fn key(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

fn digest(names: [&str; 2], n_dimensions: usize) -> [u8; 32] {
    let mut hash = blake3::Hasher::new_derive_key("perennial 1 remote embedding model");
    for name in names {
        hash.update(&(name.len() as u64).to_le_bytes())
            .update(name.as_bytes());
    }
    hash.update(&(n_dimensions as u64).to_le_bytes());
    *hash.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_for_length_is_one_under_any_status() {
        let fault = |status, said: &str| Fault::Refused {
            status,
            said: said.to_owned(),
            retry_after: None,
        };
        let said = "input (600 tokens) is too large to process. increase the physical batch size";
        assert!(refused_for_length(fault(500, said)).is_refusal());
        assert!(!refused_for_length(fault(500, "the engine died")).is_refusal());
        assert!(!refused_for_length(fault(429, "too many tokens")).is_refusal());
    }

    #[test]
    fn a_digest_is_of_model_and_dimension() {
        let of = |names, n| digest(names, n);
        assert_eq!(of(["a", "b"], 4), of(["a", "b"], 4));
        let others = [
            of(["a", "b"], 5),
            of(["a", "c"], 4),
            of(["ab", ""], 4),
            of(["", "ab"], 4),
        ];
        assert!(!others.contains(&of(["a", "b"], 4)));
        assert_ne!(others[2], others[3]);
    }
}
