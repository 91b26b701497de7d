//! How does a model on this machine perform a task?
//!
//! The row's texts are passages, encoded like those of any layout: a text that another task asked
//! about is not encoded again. What is written freely is an answer over them; a choice is read from
//! the logits, token by token where choices begin alike, so that it is always one of them. A score is
//! read from the logits of all digits, and a record is written under a grammar, so that it is one.
//!
//! A model is inclined to some answers whatever it reads; small ones so much that they give no other.
//! So what it would say of no row is taken off first: a choice is what the row makes likelier
//! (contextual calibration: Zhao et al., "Calibrate Before Use", 2021). That is one pass more for a
//! task, not for a row.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use perennial_bank::document::{DocumentKey, LayoutPassage, PassageLayout};
use perennial_bank::id::PassageId;
use perennial_bank::passage::{PassageSizes, split};
use perennial_bank::repair::Repair;
use perennial_bank::scope::Scope;
use perennial_model::decoder::{Logits, Rows};
use perennial_model::error::Error as ModelError;
use perennial_model::generation::{ConstrainedRequest, write as write_within};
use perennial_model::grammar::{Grammar, Vocabulary};
use perennial_model::layout::Layout;
use perennial_model::passes::{Candidates, Pass};
use perennial_model::sampling::Sampling;
use perennial_rows as rows;
use perennial_rows::Value;

use super::encoder::Encoder;
use super::{TensorModel, failed};
use crate::answer::{AnswerModel, AnswerRequest, CallError, Tolerance, Work, n_tokens_of};
use crate::before::Before;
use crate::provider::{Capabilities, Failure, Performed, Provider, TaskCall};
use crate::task::{MAX_INCLINATIONS, Output, Rendered, Task, score};

/// The logits of candidates where there is no row, by the digest of a task and the beginning of an
/// answer.
pub(super) type Inclinations = Mutex<HashMap<([u8; 32], Vec<u32>), Inclination>>;

/// Of one of these, held while it is computed: who needs the same waits for it, and nobody else does.
type Inclination = Arc<Mutex<Option<Arc<[f32]>>>>;

impl Provider for TensorModel {
    fn digest(&self) -> [u8; 32] {
        AnswerModel::digest(self)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            n_positions: self.n_positions(),
            is_exact: true,
            edits_kv: true,
        }
    }

    fn check(&self, task: &Task) -> Result<(), String> {
        let bare = vec![Value::Null; task.columns().len()];
        let instruction = task.rendered(&bare).instruction;
        let said = |error: ModelError| error.to_string();
        let suffix = self.codec.suffix("", &instruction).map_err(said)?;
        let n_output = self.n_output(task).map_err(said)?;
        match task.output() {
            Output::Record { .. } | Output::Records { .. } => {
                self.grammar(task).map_err(said)?;
            }
            Output::Score => {
                self.digits(task).map_err(said)?;
            }
            Output::Text { .. } | Output::Truth | Output::Label(_) => {}
        }
        let (n_answers, limit) = (task.n_answer_tokens(), self.n_positions());
        let required = n_tokens_of([self.prefix.len(), suffix.len(), n_output, n_answers]);
        match (required < limit, n_answers) {
            (true, _) => Ok(()),
            (false, 0) => Err(format!(
                "the prompt does not fit: with its output it has {required} tokens before any \
                 row is read, and the model attends to {limit}"
            )),
            (false, _) => Err(format!(
                "the partial answers do not fit: with the prompt and its output they may have \
                 {required} tokens, and the model attends to {limit}; give it fewer `max_tokens`"
            )),
        }
    }

    fn perform(&self, call: &TaskCall<'_>) -> Result<Performed, Failure> {
        let rendered = call.task.rendered(call.values);
        let layout = self.documents(&rendered).map_err(failed)?;
        match call.task.output() {
            Output::Text { max_tokens } => self.write(call, &rendered, &layout, *max_tokens),
            Output::Record { max_tokens, .. } | Output::Records { max_tokens, .. } => {
                self.extract(call, &rendered, &layout, *max_tokens)
            }
            Output::Truth | Output::Label(_) | Output::Score => {
                self.decide(call, &rendered, &layout)
            }
        }
    }
}

/// Tokens that one character may take.
const MAX_CHARACTER_TOKENS: usize = 4;

/// The text of tokens, up to its last whole character.
fn text_of(vocabulary: &Vocabulary, tokens: &[u32]) -> String {
    let least = tokens.len().saturating_sub(MAX_CHARACTER_TOKENS);
    let mut ends = (least..=tokens.len()).rev();
    let whole = ends.find_map(|end| vocabulary.text(&tokens[..end]).ok());
    whole.unwrap_or_default()
}

impl TensorModel {
    /// The texts of a task as passages.
    fn documents(&self, rendered: &Rendered) -> Result<PassageLayout, ModelError> {
        let mut passages = Vec::new();
        // A column of several rows is a document of as many texts.
        let mut ordinals: HashMap<&str, u32> = HashMap::new();
        for (name, text) in &rendered.documents {
            for part in split(text, PassageSizes::default()) {
                let next = ordinals.entry(name).or_default();
                let ordinal = std::mem::replace(next, *next + 1);
                passages.push(LayoutPassage {
                    document: DocumentKey::new(name.clone()),
                    ordinal,
                    id: PassageId::of(name, part),
                    title: name.clone(),
                    text: part.into(),
                    tokens: self.codec.passage(name, part)?.into(),
                    is_superseded: false,
                    copies: Arc::default(),
                });
            }
        }
        Ok(PassageLayout::new(passages))
    }

    /// Most tokens of a task's output.
    fn n_output(&self, task: &Task) -> Result<usize, ModelError> {
        if let Some(max_tokens) = task.output().max_tokens() {
            return Ok(max_tokens);
        }
        let choices = self.choices(task)?;
        Ok(choices.iter().map(Vec::len).max().unwrap_or(0))
    }

    fn choices(&self, task: &Task) -> Result<Vec<Vec<u32>>, ModelError> {
        let choices = task.choices();
        choices.iter().map(|text| self.codec.answer(text)).collect()
    }

    fn write(
        &self,
        call: &TaskCall<'_>,
        rendered: &Rendered,
        layout: &PassageLayout,
        max_tokens: usize,
    ) -> Result<Performed, Failure> {
        let request = AnswerRequest {
            scope: Scope::Causal,
            prompt: "",
            question: &rendered.instruction,
            layout,
            repair: Repair::default(),
            before: &Before::default(),
            tolerance: Tolerance::EXACT,
            keeps_log: false,
            reencode: 0,
            turnover: 1.0,
            max_tokens,
            sampling: Sampling::Greedy,
            priority: call.priority,
            cancel: call.cancel.clone(),
        };
        let outcome = self.answer(&request, &mut ())?;
        Ok(Performed {
            value: Value::text(outcome.answer.text.trim()),
            work: outcome.work,
        })
    }

    /// What each token of the model adds to a text.
    fn vocabulary(&self) -> Result<&Vocabulary, ModelError> {
        let made = self.vocabulary.get_or_init(|| {
            let n_vocab = self.decoder().config().n_vocab;
            let unknown =
                || ModelError::Grammar("the tokenizer spells tokens in no known way".into());
            let bytes = self.codec.token_bytes(n_vocab).ok_or_else(unknown);
            bytes
                .and_then(|bytes| Vocabulary::new(bytes, self.stop.first().copied()))
                .map_err(|error| error.to_string())
        });
        made.as_ref()
            .map_err(|reason| ModelError::Grammar(reason.clone()))
    }

    /// What a record, or several, is written under.
    fn grammar(&self, task: &Task) -> Result<Grammar, ModelError> {
        let expression = task.output().expression();
        let expression = expression
            .ok_or_else(|| ModelError::Grammar("what it writes obeys no expression".to_owned()))?;
        self.vocabulary()?.grammar(&expression)
    }

    fn extract(
        &self,
        call: &TaskCall<'_>,
        rendered: &Rendered,
        documents: &PassageLayout,
        max_tokens: usize,
    ) -> Result<Performed, Failure> {
        let vocabulary = self.vocabulary().map_err(failed)?;
        let (layout, prompt, mut work) = self.begin(call, rendered, documents, max_tokens)?;
        let grammar = self.grammar(call.task).map_err(failed)?;
        let request = ConstrainedRequest {
            layout: &layout,
            prompt: &prompt,
            grammar,
            max_tokens,
            priority: call.priority,
            cancel: &call.cancel,
        };
        let written = write_within(&self.passes, request).map_err(failed)?;
        work.n_prompt += prompt.len();
        work.n_passes += written.work.n_passes;
        work.n_decoded += written.tokens.len();
        work.n_from_scratch += written.tokens.len();
        let output = call.task.output();
        // Of rows those are said that were written before the end; a record is one, or none.
        let is_said = written.is_complete || matches!(output, Output::Records { .. });
        let said = match is_said {
            true => output.read(&text_of(vocabulary, &written.tokens)),
            false => None,
        };
        match said {
            Some(value) => Ok(Performed { value, work }),
            None => {
                let reason = format!(
                    "its values were not written within {max_tokens} tokens; give it more \
                     `max_tokens`, or fewer columns"
                );
                Err(CallError::Model { reason }.into())
            }
        }
    }

    fn decide(
        &self,
        call: &TaskCall<'_>,
        rendered: &Rendered,
        layout: &PassageLayout,
    ) -> Result<Performed, Failure> {
        let n_output = self.n_output(call.task).map_err(failed)?;
        let (layout, prompt, mut work) = self.begin(call, rendered, layout, n_output)?;
        let value = match call.task.output() {
            Output::Score => self.score(call, &layout, prompt, &mut work),
            _ => self
                .choose(call, &layout, prompt, &mut work)
                .map(|chosen| call.task.chosen(chosen)),
        };
        Ok(Performed {
            value: value.map_err(failed)?,
            work,
        })
    }

    /// The layout of a call's documents, the prompt behind them, and what that cost; where there is
    /// room for so many tokens behind it.
    fn begin(
        &self,
        call: &TaskCall<'_>,
        rendered: &Rendered,
        documents: &PassageLayout,
        n_output: usize,
    ) -> Result<(Arc<Layout>, Vec<u32>, Work), Failure> {
        let suffix = self
            .codec
            .suffix("", &rendered.instruction)
            .map_err(failed)?;
        let n_prompt = self.prefix.len() + documents.n_tokens() + suffix.len();
        let (required, limit) = (n_tokens_of([n_prompt, n_output]), self.n_positions());
        if required > limit {
            return Err(CallError::DoesNotFit { required, limit }.into());
        }
        let mut work = Work {
            n_from_scratch: n_prompt,
            ..Work::default()
        };
        let layout = self
            .lay_out_documents(call, documents, &mut work)
            .map_err(failed)?;
        Ok((layout, suffix, work))
    }

    /// The tokens that all digits begin with, and that of each, in their order.
    fn digits(&self, task: &Task) -> Result<(Vec<u32>, Vec<u32>), ModelError> {
        let choices = self.choices(task)?;
        let first = choices.first().map_or(&[][..], Vec::as_slice);
        let begin = first.len().saturating_sub(1);
        let digits = choices
            .iter()
            .map(|choice| match choice.split_at_checked(begin) {
                Some((before, [digit])) if *before == first[..begin] => Some(*digit),
                _ => None,
            });
        let digits: Option<Vec<u32>> = digits.collect();
        let apart = |digits: &Vec<u32>| {
            let mut sorted = digits.clone();
            sorted.sort_unstable();
            sorted.dedup();
            sorted.len() == digits.len()
        };
        match digits.filter(apart) {
            Some(digits) => Ok((first[..begin].to_vec(), digits)),
            None => Err(ModelError::Tokenizer(
                "digits are no tokens of their own, so that no score can be read from them".into(),
            )),
        }
    }

    /// The score that the likelihoods of all digits make.
    fn score(
        &self,
        call: &TaskCall<'_>,
        layout: &Arc<Layout>,
        mut prompt: Vec<u32>,
        work: &mut Work,
    ) -> Result<Value, ModelError> {
        let (begin, digits) = self.digits(call.task)?;
        let inclined = self.inclination(call, &begin, &digits, work)?;
        prompt.extend(&begin);
        work.n_prompt += prompt.len();
        let weighed = digits.iter().copied().zip(inclined.iter().copied());
        let pass = Pass {
            layout: layout.clone(),
            pending: Vec::new(),
            tail: self.decoder().new_tail(layout.end()),
            tokens: prompt,
            logits: Logits::Last,
            sampling: Sampling::Greedy,
            among: Some(Candidates::Weighed(weighed.collect())),
            expected: None,
            n_emitted: begin.len(),
            mass: false,
        };
        let passed = self.passes.run(call.priority, vec![pass], &call.cancel)?;
        work.n_passes += 1;
        let scores = &passed[0].scores[0];
        match scores.iter().all(|score| score.is_finite()) {
            true => Ok(Value::float(score(scores))),
            false => Err(ModelError::NotFinite),
        }
    }

    fn lay_out_documents(
        &self,
        call: &TaskCall<'_>,
        documents: &PassageLayout,
        work: &mut Work,
    ) -> Result<Arc<Layout>, ModelError> {
        let plan = self.plan(Scope::Causal, documents.passages());
        let mut progress = ();
        let mut encoder = Encoder::new(self, call.priority, &call.cancel, &mut progress, work);
        Ok(self.exact(&plan, &[], &mut encoder)?.layout)
    }

    /// Which of a task's choices is chosen behind a prompt: greedily, token by token, among what the
    /// choices that are left have there.
    fn choose(
        &self,
        call: &TaskCall<'_>,
        layout: &Arc<Layout>,
        prompt: Vec<u32>,
        work: &mut Work,
    ) -> Result<usize, ModelError> {
        let choices = self.choices(call.task)?;
        let _caller = self.passes.enter(call.priority);
        let mut left: Vec<usize> = (0..choices.len()).collect();
        let mut tail = self.decoder().new_tail(layout.end());
        work.n_prompt += prompt.len();
        let (mut next, mut path) = (prompt, Vec::new());
        while left.len() > 1 {
            let at = path.len();
            // An answer that ends here is followed by what ends answers.
            let ended = left.iter().position(|i| choices[*i].len() == at);
            let mut among: Vec<u32> = left
                .iter()
                .filter_map(|i| choices[*i].get(at).copied())
                .collect();
            if ended.is_some() {
                among.extend(&self.stop);
            }
            among.sort_unstable();
            among.dedup();
            let token = match among[..] {
                // Nothing tells them apart.
                [] => break,
                [only] => only,
                _ => {
                    let inclined = self.inclination(call, &path, &among, work)?;
                    let pass = Pass {
                        layout: layout.clone(),
                        pending: Vec::new(),
                        tail,
                        tokens: std::mem::take(&mut next),
                        logits: Logits::Last,
                        sampling: Sampling::Greedy,
                        among: Some(Candidates::Weighed(
                            among.into_iter().zip(inclined.iter().copied()).collect(),
                        )),
                        expected: None,
                        n_emitted: at,
                        mass: false,
                    };
                    let passed = self.passes.run(call.priority, vec![pass], &call.cancel);
                    let passed = passed?.swap_remove(0);
                    work.n_passes += 1;
                    tail = passed.tail;
                    passed.choices[0].finite()?
                }
            };
            if let Some(ended) = ended
                && self.stop.contains(&token)
            {
                return Ok(left[ended]);
            }
            left.retain(|i| choices[*i].get(at) == Some(&token));
            next.push(token);
            path.push(token);
            work.n_decoded += usize::from(left.len() > 1);
        }
        Ok(left[0])
    }

    /// The logits of these tokens behind the same beginning of an answer, where there is no row.
    fn inclination(
        &self,
        call: &TaskCall<'_>,
        path: &[u32],
        among: &[u32],
        work: &mut Work,
    ) -> Result<Arc<[f32]>, ModelError> {
        let mut encoder = rows::encoding::Encoder::new();
        call.task.encode(&mut encoder);
        let key = (encoder.digest("perennial task inclination"), path.to_vec());
        let of_key = self.inclination_of(key);
        let mut known = of_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let neutral = call.task.neutral();
        let layout = self.lay_out_documents(call, &self.documents(&neutral)?, work)?;
        let mut tokens = self.codec.suffix("", &neutral.instruction)?;
        tokens.extend(path);
        let mut tail = self.decoder().new_tail(layout.end());
        let rows = Rows {
            layout: &layout,
            pending: &[],
            tail: &mut tail,
            tokens: &tokens,
            logits: Logits::Last,
            mass: false,
        };
        work.n_prompt += tokens.len();
        work.n_passes += 1;
        let mut outputs = self.decoder().forward(&mut [rows], &call.cancel)?;
        let logits = outputs.swap_remove(0).logits;
        let inclined: Arc<[f32]> = among.iter().map(|token| logits[*token as usize]).collect();
        *known = Some(inclined.clone());
        Ok(inclined)
    }

    /// What is known of a place in the answers of a task.
    pub(super) fn inclination_of(&self, key: ([u8; 32], Vec<u32>)) -> Inclination {
        let all = self.inclinations.lock();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_INCLINATIONS && !all.contains_key(&key) {
            all.clear();
        }
        all.entry(key).or_default().clone()
    }
}
