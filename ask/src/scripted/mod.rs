//! A model without tensors, for tests of the dataflow: it answers with the sentences that
//! share a word with the question, counts its calls, and can be slow or fail on demand.
//!
//! Its answer is a function of the request without the draft, as the contract of
//! [`AnswerModel`] demands, so incremental runs can be held against runs from scratch.

mod perform;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::answer::{
    AnswerModel, AnswerRequest, AnswerText, CallError, CallProgress, Finish, Outcome, Rung, Work,
    n_tokens_of,
};
use crate::append::{AppendLog, LogPiece, Turn, is_full, may_begin};
use crate::dependency::{Dependencies, Read};
use crate::embed::Embed;
use crate::provenance;
use crate::provider::Failure;
use perennial_bank::document::LayoutPassage;
use perennial_bank::id::{FragmentId, ModelIdentity};
use perennial_bank::scope::{self, Scope};
use perennial_model::cancel::Cancel;
use perennial_model::generation::DraftCheck;

pub use perform::output;

/// A question with this word makes the scripted model panic.
pub const PANIC_WORD: &str = "!panic";
/// A passage with this word makes its tokenizer panic.
pub const UNREADABLE_WORD: &str = "!unreadable";
/// A question with this word makes the scripted model report an error.
pub const ERROR_WORD: &str = "!error";

/// A question with this word is refused twice before it is answered.
pub const REFUSED_WORD: &str = "!refused";
/// How often.
const N_REFUSED: usize = 2;

/// A word for questions whose calls are held; see [`Scripted::held_while`].
pub const SLOW_WORD: &str = "!slow";

/// How a provisional answer of [`Scripted::borrowing`] ends.
pub const BORROWED: &str = " (borrowed)";
/// How an answer ends that went on from the one before.
pub const APPENDED: &str = " (appended)";

const PREFIX: &str = "documents: ";
/// What stands between an answer and the next turn.
const TURN: &str = "\n\n";
const N_POSITIONS: usize = 4096;

/// The scripted answer model. One token is one byte.
#[derive(Default)]
pub struct Scripted {
    delay: Duration,
    /// While this is set, questions with [`SLOW_WORD`] are not answered.
    is_held: Option<Arc<AtomicBool>>,
    n_calls: AtomicUsize,
    n_running: AtomicUsize,
    n_running_peak: AtomicUsize,
    /// How often a question with [`REFUSED_WORD`] was refused.
    n_refused: Mutex<HashMap<String, usize>>,
    borrows: bool,
    skips: bool,
    cannot_heal: bool,
}

impl Scripted {
    /// A model that answers at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// A model whose refreshes, where they may be provisional, are, and say so.
    pub fn borrowing() -> Self {
        Self {
            borrows: true,
            ..Self::default()
        }
    }

    /// The same, leaving every answer as it is where it may, whatever changed.
    #[must_use]
    pub fn skipping(mut self) -> Self {
        self.skips = true;
        self
    }

    /// The same, panicking when a provisional answer is to be replaced by an exact one.
    #[must_use]
    pub fn panicking_when_healing(mut self) -> Self {
        self.cannot_heal = true;
        self
    }

    /// The same, taking this long for every answer.
    #[must_use]
    pub fn taking(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same, answering questions with [`SLOW_WORD`] only once the flag is not set any more.
    /// Whoever sets it clears it before the engine is dropped.
    #[must_use]
    pub fn held_while(mut self, is_held: Arc<AtomicBool>) -> Self {
        self.is_held = Some(is_held);
        self
    }

    /// Calls so far.
    pub fn n_calls(&self) -> usize {
        self.n_calls.load(Ordering::SeqCst)
    }

    /// Most calls that ran at the same time.
    pub fn n_running_peak(&self) -> usize {
        self.n_running_peak.load(Ordering::SeqCst)
    }

    /// Takes its time, unless nobody wants the answer any more.
    fn wait(&self, asked: &str, cancel: &Cancel) {
        let moment = Duration::from_millis(1);
        let end = Instant::now() + self.delay;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || cancel.is_cancelled() {
                break;
            }
            std::thread::sleep(left.min(moment));
        }
        let is_slow = asked.contains(SLOW_WORD);
        while let Some(is_held) = self.is_held.as_ref().filter(|_| is_slow) {
            if !is_held.load(Ordering::SeqCst) || cancel.is_cancelled() {
                break;
            }
            std::thread::sleep(moment);
        }
    }

    /// What a request adds to its conversation, if that goes on, and what it tells.
    fn turn<'a>(request: &AnswerRequest<'a>) -> Option<(Turn<'a>, Vec<LogPiece>)> {
        let turn = Turn::of(request)?;
        let continued = |text: &str| Ok::<_, std::convert::Infallible>(bytes(text));
        let Ok(told) = turn.told(&bytes(TURN), continued);
        let n_told: usize = told.iter().map(|piece| piece.tokens.len()).sum();
        let n_asked = request.prompt.len() + request.question.len();
        let n_said = turn.log.n_said() + n_told + n_asked + request.max_tokens;
        (!is_full(n_said, N_POSITIONS)).then_some((turn, told))
    }

    fn text(request: &AnswerRequest<'_>) -> String {
        let words: Vec<&str> = request.question.split_whitespace().collect();
        let sentences = request
            .layout
            .passages()
            .iter()
            .flat_map(|p| p.text.split_inclusive(". "));
        let relevant = sentences
            .map(str::trim)
            .filter(|s| words.iter().any(|w| s.split(' ').any(|x| x == *w)));
        let mut text = relevant.collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            text = format!("Nothing is known of {}.", request.question);
        }
        text
    }
}

impl Scripted {
    /// Counts a call, and does what a word of what is asked tells it to.
    fn begin(&self, asked: &str, cancel: &Cancel) -> Result<Running<'_>, Failure> {
        self.n_calls.fetch_add(1, Ordering::SeqCst);
        let n_running = self.n_running.fetch_add(1, Ordering::SeqCst) + 1;
        self.n_running_peak.fetch_max(n_running, Ordering::SeqCst);
        let running = Running(&self.n_running);
        self.wait(asked, cancel);
        if cancel.is_cancelled() {
            return Err(CallError::Lost.into());
        }
        if asked.contains(PANIC_WORD) {
            panic!("the scripted model was asked to panic");
        }
        if asked.contains(ERROR_WORD) {
            let reason = "asked to fail".to_owned();
            return Err(CallError::Model { reason }.into());
        }
        if asked.contains(REFUSED_WORD) {
            let refused = self.n_refused.lock();
            let mut refused = refused.unwrap_or_else(PoisonError::into_inner);
            let n = refused.entry(asked.to_owned()).or_default();
            if *n < N_REFUSED {
                *n += 1;
                return Err(Failure::Retry {
                    reason: "asked to refuse".to_owned(),
                    after: Some(Duration::from_millis(1)),
                });
            }
        }
        Ok(running)
    }
}

impl AnswerModel for Scripted {
    fn digest(&self) -> [u8; 32] {
        *blake3::hash(b"scripted").as_bytes()
    }

    fn n_positions(&self) -> usize {
        N_POSITIONS
    }

    fn n_prefix_tokens(&self) -> usize {
        PREFIX.len()
    }

    fn passage_tokens(&self, title: &str, text: &str) -> Result<Vec<u32>, String> {
        assert!(!text.contains(UNREADABLE_WORD), "as it was told to");
        Ok(bytes(&format!("## {title}\n{text}\n\n")))
    }

    fn fragments(&self, scope: Scope, passages: &[LayoutPassage]) -> Vec<(FragmentId, usize)> {
        let identity = ModelIdentity::new(&self.digest(), "scripted", "none");
        let prefix: Arc<[u32]> = PREFIX.bytes().map(u32::from).collect();
        let tokens: Vec<_> = passages.iter().map(|p| p.tokens.clone()).collect();
        scope::plan(scope, &identity, &prefix, &tokens)
            .fragments()
            .map(|piece| (piece.id, piece.tokens.len()))
            .collect()
    }

    fn answer(
        &self,
        request: &AnswerRequest<'_>,
        progress: &mut dyn CallProgress,
    ) -> Result<Outcome, Failure> {
        let _running = self.begin(request.question, &request.cancel)?;
        if self.cannot_heal && request.tolerance.is_exact() {
            panic!("the scripted model was asked not to heal");
        }
        let passages: usize = request
            .layout
            .passages()
            .iter()
            .map(|p| p.tokens.len())
            .sum();
        let n_prompt = request.prompt.len() + request.question.len();
        let required = n_tokens_of([PREFIX.len(), passages, n_prompt, request.max_tokens]);
        if required > N_POSITIONS {
            let limit = N_POSITIONS;
            return Err(CallError::DoesNotFit { required, limit }.into());
        }
        let draft = &request.before.tokens[..];
        let written = request.before.written.as_deref();
        if let (true, Some(_), Some(written)) = (self.skips, request.tolerance.skips, written) {
            return Ok(Outcome {
                answer: written.answer.clone(),
                tokens: draft.into(),
                rung: Rung::Skip,
                work: Work::default(),
                sub_paragraphs: written.sub_paragraphs.clone(),
                min_margin: 1.0,
                is_exact: false,
                regret: 0.0,
                draft: None,
                drift: 0.25,
                dependencies: written.dependencies.clone(),
                live: Arc::default(),
                log: None,
            });
        }
        let mut text = Self::text(request);
        let turn = Self::turn(request);
        if turn.is_some() {
            text.push_str(APPENDED);
        }
        let is_borrowed = self.borrows && request.tolerance.borrows && !draft.is_empty();
        if is_borrowed {
            text.push_str(BORROWED);
        }
        let mut finish = Finish::Stop;
        if text.len() > request.max_tokens {
            let cut = (0..=request.max_tokens)
                .rev()
                .find(|i| text.is_char_boundary(*i));
            text.truncate(cut.unwrap_or(0));
            finish = Finish::Length;
        }
        progress.writing(&text);
        let tokens = bytes(&text);
        let check = (!draft.is_empty()).then(|| checked(draft, &tokens));
        let standing = written.filter(|_| {
            let regret = check.map_or(f32::INFINITY, |check| check.regret);
            (0.0..=request.tolerance.regret).contains(&regret) && regret > 0.0
        });
        let tokens = match standing {
            Some(written) => {
                (text, finish) = (written.answer.text.to_string(), written.answer.finish);
                draft.to_vec()
            }
            None => tokens,
        };
        let n_accepted = tokens.iter().zip(draft).take_while(|(a, b)| a == b).count();
        let rung = if turn.is_some() {
            Rung::Append
        } else if n_accepted == 0 {
            Rung::Regenerate
        } else if tokens == draft {
            Rung::Verify
        } else {
            Rung::Rewrite
        };
        let n_decoded = tokens.len() - n_accepted;
        let is_exact = !is_borrowed && standing.is_none() && turn.is_none();
        let asked = [request.prompt, request.question, &text].concat();
        let said = LogPiece {
            tokens: bytes(&asked).into(),
            tells: None,
        };
        let (mut n_encoded, mut log) = (0, None);
        if let Some((turn, told)) = turn {
            n_encoded = told.iter().map(|piece| piece.tokens.len()).sum();
            log = Some(turn.log.gone_on(told, said, Vec::new(), None));
        } else if is_exact && may_begin(request) {
            log = Some(AppendLog::begun(request, said, Vec::new(), None));
        }
        let work = Work {
            n_encoded,
            n_prompt,
            n_draft: draft.len(),
            n_decoded,
            n_passes: 1 + n_decoded,
            n_from_scratch: PREFIX.len() + passages + n_prompt + tokens.len(),
            ..Work::default()
        };
        let ends: Vec<usize> = (1..=tokens.len()).collect();
        let share = |p: &LayoutPassage| f32::from(u8::from(text.contains(p.text.trim())));
        let parts = provenance::parts(&text, &ends);
        let mass = vec![request.layout.passages().iter().map(share).collect(); tokens.len()];
        let n_passages = request.layout.passages().len();
        let read: Vec<Read> = parts
            .iter()
            .map(|part| Read {
                mass: provenance::total(
                    &mass,
                    &(part.tokens.start..part.tokens.start + 1),
                    n_passages,
                ),
                least_margin: 1.0,
                n_tokens: part.tokens.len(),
            })
            .collect();
        Ok(Outcome {
            sub_paragraphs: provenance::attribute(&text, &parts, &mass, request.layout.passages()),
            answer: AnswerText {
                text: text.into(),
                finish,
            },
            tokens: tokens.into(),
            rung,
            work,
            min_margin: 1.0,
            is_exact,
            regret: standing.and(check).map_or(0.0, |check| check.regret),
            draft: check,
            drift: f32::from(u8::from(is_borrowed)) / 2.0,
            dependencies: Dependencies::of(&vec![0.0; n_passages], &read),
            live: Arc::default(),
            log: log.map(Arc::new),
        })
    }
}

/// How well a draft stands beside the true answer: a regret of one nat where they differ.
fn checked(draft: &[u32], tokens: &[u32]) -> DraftCheck {
    let regret = f32::from(u8::from(draft != tokens));
    DraftCheck {
        regret,
        agreement: 1.0 - regret,
    }
}

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Embeds a text as its hashed words, and counts the texts.
#[derive(Default)]
pub struct ScriptedEmbedder {
    n_texts: AtomicUsize,
}

impl ScriptedEmbedder {
    /// Texts embedded so far.
    pub fn n_texts(&self) -> usize {
        self.n_texts.load(Ordering::SeqCst)
    }
}

impl Embed for ScriptedEmbedder {
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Failure> {
        self.n_texts.fetch_add(texts.len(), Ordering::SeqCst);
        Ok(texts.iter().map(|text| hashed_words(text)).collect())
    }

    fn digest(&self) -> [u8; 32] {
        [0; 32]
    }
}

fn hashed_words(text: &str) -> Vec<f32> {
    let mut vector = vec![0f32; 64];
    for word in text.split_whitespace() {
        vector[usize::from(blake3::hash(word.as_bytes()).as_bytes()[0] % 64)] += 1.0;
    }
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1.0);
    vector.iter_mut().for_each(|x| *x /= norm);
    vector
}
