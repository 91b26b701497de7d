//! What is a server sent?
//!
//! The prompt is the one of every model (see [`chat`](crate::chat)): the documents stand before the
//! instruction, and what changes stands last, so that a server which keeps what it has read of a
//! prompt reads little again.

use serde_json::{Value as Json, json};

use super::habits::{Habits, Scoring};
use super::likelihoods::N_LIKELIEST;
use crate::answer::n_tokens_of;
use crate::chat::{BEFORE_PASSAGES, SYSTEM, passage_text, suffix_text};
use perennial_model::sampling::Sampling;

/// A prompt, before a server's habits are heeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    pub(super) user: String,
}

impl Prompt {
    /// Over texts under their titles.
    pub(super) fn over<'a>(
        documents: impl IntoIterator<Item = (&'a str, &'a str)>,
        prompt: &str,
        question: &str,
    ) -> Self {
        let mut user = BEFORE_PASSAGES.to_owned();
        for (title, text) in documents {
            user.push_str(&passage_text(title, text));
        }
        user.push_str(&suffix_text(prompt, question));
        Self { user }
    }

    /// The texts that a model reads.
    pub(super) fn texts(&self) -> [&str; 2] {
        [SYSTEM, &self.user]
    }
}

/// A request for an answer.
#[derive(Clone, Debug)]
pub(super) struct ChatRequest<'a> {
    pub(super) prompt: &'a Prompt,
    /// How the answer begins, where that is known.
    pub(super) begin: Option<&'a str>,
    /// Most tokens of the answer.
    pub(super) max_tokens: usize,
    pub(super) sampling: Sampling,
    /// A JSON schema that the answer obeys.
    pub(super) schema: Option<&'a Json>,
    /// Whether how likely the tokens of the prompt are is to be told, with the likeliest.
    pub(super) scores_prompt: bool,
    /// Whether the likeliest first tokens of the answer are to be told.
    pub(super) scores_answer: bool,
    pub(super) streams: bool,
}

impl ChatRequest<'_> {
    /// The body of the request, as this server wants it.
    pub(super) fn body(&self, model: &str, habits: &Habits) -> Json {
        let user = match habits.refuses_system {
            true => format!("{SYSTEM}\n\n{}", self.prompt.user),
            false => self.prompt.user.clone(),
        };
        let mut messages = Vec::new();
        if !habits.refuses_system {
            messages.push(json!({"role": "system", "content": SYSTEM}));
        }
        messages.push(json!({"role": "user", "content": user}));
        let mut body = json!({"model": model, "stream": self.streams});
        if let Some(begin) = self.begin {
            messages.push(json!({"role": "assistant", "content": begin}));
            body["continue_final_message"] = true.into();
            body["add_generation_prompt"] = false.into();
        }
        body["messages"] = messages.into();
        let limit = match habits.wants_completion_tokens {
            true => "max_completion_tokens",
            false => "max_tokens",
        };
        // Behind a beginning there is nothing left to think.
        let thinking = match self.begin {
            Some(_) => 0,
            None => habits.thinking_tokens,
        };
        body[limit] = n_tokens_of([self.max_tokens, thinking]).into();
        if !habits.refuses_sampling {
            self.sample(&mut body, habits);
        }
        if self.streams && !habits.refuses_stream_options {
            body["stream_options"] = json!({"include_usage": true});
        }
        if let Some(schema) = self.schema {
            body["response_format"] = json!({
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": true, "schema": schema},
            });
        }
        if self.scores_answer {
            body["logprobs"] = true.into();
            body["top_logprobs"] = N_LIKELIEST.into();
        }
        if self.scores_prompt {
            match habits.scoring {
                Scoring::InChat => body["prompt_logprobs"] = 1.into(),
                Scoring::Native => body["return_prompt_token_ids"] = true.into(),
            }
        }
        body
    }

    fn sample(&self, body: &mut Json, habits: &Habits) {
        let (temperature, seed) = match self.sampling {
            Sampling::Greedy => (0.0, 0),
            Sampling::Seeded {
                seed,
                temperature,
                top_k,
                top_p,
            } => {
                if top_p < 1.0 {
                    body["top_p"] = top_p.into();
                }
                if top_k > 0 {
                    body["top_k"] = top_k.into();
                }
                (temperature, seed)
            }
        };
        if habits.has_penalties {
            body["repetition_penalty"] = 1.0.into();
        }
        body["temperature"] = temperature.into();
        if !habits.refuses_seed {
            // Servers read it as a signed number of 64 bits, some of 32.
            body["seed"] = (seed & 0x7fff_ffff).into();
        }
    }
}
