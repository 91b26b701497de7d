//! How does a remote model perform a task?
//!
//! A choice is made under a JSON schema where the server obeys one; else it is read from what the
//! model says, which must be one of the choices.

use perennial_rows::Value;
use serde_json::Value as Json;

use super::RemoteModel;
use super::answering::note;
use super::fault::Fault;
use super::probe::schema;
use super::request::{ChatRequest, Prompt};
use crate::answer::{CallError, Work};
use crate::provider::{Capabilities, Failure, Performed, Provider, TaskCall};
use crate::task::{Output, Rendered, Task};
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

    fn check(&self, task: &Task) -> Result<(), String> {
        let bare = vec![Value::Null; task.columns().len()];
        let prompt = prompt(&task.rendered(&bare));
        let required = self.required(&request(&prompt, n_output(task), None));
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
        let prompt = prompt(&call.task.rendered(call.values));
        let choices = call.task.choices();
        let obeys = !choices.is_empty() && self.report.obeys_schemas;
        let schema = obeys.then(|| schema(&choices));
        let request = request(&prompt, n_output(call.task), schema.as_ref());
        let (required, limit) = (self.expected(&request), self.n_positions);
        if required > limit {
            return Err(CallError::DoesNotFit { required, limit }.into());
        }
        let failed = |fault: Fault| fault.into_failure(required, limit);
        let reply = self.ask(&request, &call.cancel, &mut |_| {});
        let reply = reply.map_err(failed)?;
        let mut work = Work::default();
        note(&mut work, &reply.usage);
        let max_tokens = request.max_tokens + self.habits.thinking_tokens;
        let (text, _) = reply.answer(max_tokens).map_err(failed)?;
        let value = match choices.is_empty() {
            true => Value::text(text),
            false => {
                let said = match obeys {
                    true => under_schema(text).unwrap_or_else(|| text.to_owned()),
                    false => text.to_owned(),
                };
                let at = choice(&said, &choices).ok_or_else(|| none_of(&said, &choices))?;
                call.task.chosen(at)
            }
        };
        Ok(Performed { value, work })
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
        streams: false,
    }
}

fn n_output(task: &Task) -> usize {
    match task.output() {
        Output::Text { max_tokens } => *max_tokens,
        _ => CHOICE_TOKENS,
    }
}

/// What stands in the place of the answer.
fn under_schema(text: &str) -> Option<String> {
    let json: Json = serde_json::from_str(text).ok()?;
    json.get("answer")?.as_str().map(str::to_owned)
}

fn none_of(said: &str, choices: &[std::sync::Arc<str>]) -> Failure {
    let said = super::fault::shown(said);
    CallError::Model {
        reason: format!(
            "the model says `{said}`, which is none of: {}",
            choices.join(", ")
        ),
    }
    .into()
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
