//! How does a remote model perform a task?
//!
//! A choice is read from the likeliest first tokens where the server tells them; else it is made under
//! a JSON schema where the server obeys one; else it is read from what the model says, which must be
//! one of the choices. A score is the digit that is to be expected by their likelihoods, else the one
//! that is said.

use std::sync::PoisonError;
use std::time::Instant;

use perennial_model::cancel::Cancel;
use perennial_rows::Value;
use serde_json::Value as Json;

use super::fault::{Fault, shown};
use super::likelihoods::{self, Likeliest};
use super::probe::schema;
use super::request::{ChatRequest, Prompt};
use super::{MANY_SILENCES, RemoteModel};
use crate::answer::{CallError, Work, n_tokens_of};
use crate::cost::Prices;
use crate::provider::{Capabilities, Failure, Performed, Provider, TaskCall};
use crate::task::{MAX_INCLINATIONS, Output, Rendered, Task, score};
use perennial_model::sampling::Sampling;

/// Most tokens in which a choice is said.
const CHOICE_TOKENS: usize = 64;

impl Provider for RemoteModel {
    fn digest(&self) -> [u8; 32] {
        self.digest
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            n_positions: self.n_positions,
            is_exact: false,
            edits_kv: false,
        }
    }

    fn prices(&self) -> Option<Prices> {
        self.prices
    }

    fn check(&self, task: &Task) -> Result<(), String> {
        let bare = vec![Value::Null; task.columns().len()];
        let prompt = prompt(&task.rendered(&bare));
        let required = self.required(&request(&prompt, n_output(task), None));
        let required = n_tokens_of([required, task.n_answer_tokens()]);
        match required < self.n_positions {
            true => Ok(()),
            false => Err(format!(
                "the prompt does not fit: with its output it has about {required} tokens before any \
                 row is read, and the model attends to {}",
                self.n_positions
            )),
        }
    }

    fn perform(&self, call: &TaskCall<'_>) -> Result<Performed, Failure> {
        if let Some(pause) = self.gate.is_closed_for(Instant::now()) {
            return Err(Failure::Wait(pause));
        }
        let prompt = prompt(&call.task.rendered(call.values));
        let request = request(&prompt, n_output(call.task), None);
        let limit = self.n_positions;
        if let Some(required) = self.overflow(&request) {
            return Err(CallError::DoesNotFit { required, limit }.into());
        }
        let mut work = Work::default();
        let value = match call.task.output() {
            Output::Text { .. } => self.write(call, &request, &mut work),
            Output::Record { .. } | Output::Records { .. } => {
                self.extract(call, &request, &mut work)
            }
            Output::Truth | Output::Label(_) | Output::Score => {
                self.choose(call, &request, &mut work)
            }
        };
        match value {
            Ok(value) => Ok(self.performed(value, work)),
            // Asked again, it would say nothing again: that is what it says.
            Err(Fault::Empty) if self.silences.add(&prompt.user) >= MANY_SILENCES => {
                match call.task.output() {
                    Output::Text { .. } => Ok(self.performed(Value::text(""), work)),
                    _ => {
                        self.unclaimed.add(work.cost);
                        let reason = "the model says nothing".to_owned();
                        Err(CallError::Model { reason }.into())
                    }
                }
            }
            Err(fault) => {
                self.unclaimed.add(work.cost);
                Err(fault.into_failure(self.required(&request), limit))
            }
        }
    }
}

impl RemoteModel {
    /// What a task gave, with what calls cost that gave nothing.
    fn performed(&self, value: Value, mut work: Work) -> Performed {
        work.cost += self.unclaimed.take();
        Performed { value, work }
    }

    fn write(
        &self,
        call: &TaskCall<'_>,
        request: &ChatRequest<'_>,
        work: &mut Work,
    ) -> Result<Value, Fault> {
        let reply = self.ask(request, &call.cancel, &mut ())?;
        self.note(work, &reply.usage);
        let (text, _) = reply.answer(self.n_allowed(request))?;
        Ok(Value::text(text))
    }

    /// Under a schema where the server obeys one; else what it says is to be JSON all the same.
    fn extract(
        &self,
        call: &TaskCall<'_>,
        request: &ChatRequest<'_>,
        work: &mut Work,
    ) -> Result<Value, Fault> {
        let output = call.task.output();
        let schema = match self.report.obeys_schemas {
            true => output.schema(),
            false => None,
        };
        let request = ChatRequest {
            schema: schema.as_ref(),
            ..request.clone()
        };
        let reply = self.ask(&request, &call.cancel, &mut ())?;
        self.note(work, &reply.usage);
        let (text, _) = reply.answer(self.n_allowed(&request))?;
        output.read(text).ok_or_else(|| {
            Fault::Never(format!(
                "the model says `{}`, which is no JSON object of these columns; more `max_tokens` help where it was cut",
                shown(text)
            ))
        })
    }

    fn choose(
        &self,
        call: &TaskCall<'_>,
        request: &ChatRequest<'_>,
        work: &mut Work,
    ) -> Result<Value, Fault> {
        let choices = call.task.choices();
        // What it would say of no row first: it is kept, where a call has to begin again.
        let neutral = match self.report.scores_answers {
            true => self.inclination(call, work)?,
            false => None,
        };
        let neutral = neutral.filter(|neutral| neutral.tells_apart(&choices));
        let mut is_first = true;
        if let Some(neutral) = neutral {
            is_first = false;
            let row = self.likeliest(&call.cancel, request.prompt, work)?;
            let gains = row.and_then(|row| likelihoods::gains(&row, &neutral, &choices));
            match (gains, call.task.output()) {
                (Some(gains), Output::Score) => return Ok(Value::float(score(&gains))),
                (Some(gains), _) => return Ok(call.task.chosen(likelihoods::highest(&gains))),
                (None, _) => {}
            }
        }
        let schema = self.report.obeys_schemas.then(|| schema(&choices));
        let request = ChatRequest {
            schema: schema.as_ref(),
            ..request.clone()
        };
        let reply = match is_first {
            true => self.ask(&request, &call.cancel, &mut ()),
            false => self.ask_next(&request, &call.cancel, &mut ()),
        };
        let reply = reply?;
        self.note(work, &reply.usage);
        let (text, _) = reply.answer(self.n_allowed(&request))?;
        let said = schema.and_then(|_| under_schema(text));
        let said = said.as_deref().unwrap_or(text);
        match choice(said, &choices) {
            Some(at) => Ok(call.task.chosen(at)),
            None => {
                let (said, choices) = (shown(said), choices.join(", "));
                let reason = format!("the model says `{said}`, which is none of: {choices}");
                Err(Fault::Never(reason))
            }
        }
    }

    /// The likeliest first tokens behind a prompt.
    fn likeliest(
        &self,
        cancel: &Cancel,
        prompt: &Prompt,
        work: &mut Work,
    ) -> Result<Option<Likeliest>, Fault> {
        let request = ChatRequest {
            max_tokens: 1,
            scores_answer: true,
            ..request(prompt, 1, None)
        };
        let reply = self.ask(&request, cancel, &mut ())?;
        self.note(work, &reply.usage);
        Ok(reply.likeliest)
    }

    /// The same where there is no row: once a task.
    fn inclination(
        &self,
        call: &TaskCall<'_>,
        work: &mut Work,
    ) -> Result<Option<Likeliest>, Fault> {
        let neutral = prompt(&call.task.neutral());
        let known = || {
            let known = self.inclinations.lock();
            known.unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(known) = known().get(&neutral.user) {
            return Ok(known.clone());
        }
        let likeliest = self.likeliest(&call.cancel, &neutral, work)?;
        let mut known = known();
        if known.len() >= MAX_INCLINATIONS {
            known.clear();
        }
        known.insert(neutral.user, likeliest.clone());
        drop(known);
        Ok(likeliest)
    }
}

fn prompt(rendered: &Rendered) -> Prompt {
    let documents = rendered.documents.iter();
    let documents = documents.map(|(name, text)| (&**name, &**text));
    Prompt::over(documents, "", &rendered.instruction)
}

fn request<'a>(prompt: &'a Prompt, max_tokens: usize, schema: Option<&'a Json>) -> ChatRequest<'a> {
    ChatRequest {
        prompt,
        begin: None,
        max_tokens,
        sampling: Sampling::Greedy,
        schema,
        scores_prompt: false,
        scores_answer: false,
        streams: false,
    }
}

fn n_output(task: &Task) -> usize {
    task.output().max_tokens().unwrap_or(CHOICE_TOKENS)
}

/// What stands in the place of the answer.
fn under_schema(text: &str) -> Option<String> {
    let json: Json = serde_json::from_str(text).ok()?;
    json.get("answer")?.as_str().map(str::to_owned)
}

/// Which choice was said: the whole text, or its first words.
fn choice(said: &str, choices: &[std::sync::Arc<str>]) -> Option<usize> {
    let is_around = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '*' | '.' | ':');
    let said = said.trim_matches(is_around).to_lowercase();
    let choices: Vec<String> = choices
        .iter()
        .map(|choice| choice.trim_matches(is_around).to_lowercase())
        .collect();
    if let Some(at) = choices.iter().position(|choice| *choice == said) {
        return Some(at);
    }
    // The longest, where one begins another.
    let begins = |choice: &String| {
        let rest = said.strip_prefix(choice.as_str());
        rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    };
    let begun = choices
        .iter()
        .enumerate()
        .filter(|(_, choice)| begins(choice));
    begun
        .max_by_key(|(_, choice)| choice.len())
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_from_what_was_said() {
        let choices = ["Yes", "No", "No idea"].map(std::sync::Arc::from);
        for (said, at) in [
            ("Yes", Some(0)),
            ("**yes.**", Some(0)),
            ("\"No\"", Some(1)),
            ("No, it is not.", Some(1)),
            ("No idea, sorry", Some(2)),
            ("Nowhere", None),
            ("I would say yes", None),
            ("", None),
        ] {
            assert_eq!(choice(said, &choices), at, "{said}");
        }
        assert_eq!(under_schema(r#"{"answer": "No"}"#).as_deref(), Some("No"));
        assert_eq!(under_schema("No"), None);
    }
}
