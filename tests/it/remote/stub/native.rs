//! The endpoint of SGLang's own: how likely the tokens of a prompt were that its chat named.

use std::collections::{HashMap, VecDeque};
use std::net::TcpStream;

use serde_json::{Value as Json, json};

use super::{Shared, Trouble, reply, says, tokens};

/// What its chat named.
#[derive(Default)]
pub(super) struct Named {
    /// By its number.
    words: Vec<String>,
    /// By the numbers of a whole prompt: how many of them stand before what the model says, and the
    /// user's part.
    prompts: HashMap<Vec<u64>, (usize, String)>,
    /// One for each request to come at this endpoint.
    pub(super) troubles: VecDeque<Trouble>,
}

impl Named {
    fn id(&mut self, word: &str) -> u64 {
        let known = self.words.iter().position(|known| known == word);
        let at = known.unwrap_or_else(|| {
            self.words.push(word.to_owned());
            self.words.len() - 1
        });
        at as u64
    }

    /// The numbers of a prompt with how the answer begins, which are known from now on.
    pub(super) fn name(&mut self, prompt: &[String], begin: &[String], user: &str) -> Vec<u64> {
        let words = prompt.iter().chain(begin);
        let ids: Vec<u64> = words.map(|word| self.id(word)).collect();
        let of = (prompt.len(), user.to_owned());
        self.prompts.insert(ids.clone(), of);
        ids
    }
}

impl Shared {
    pub(super) fn generate(&self, stream: &TcpStream, body: &[u8]) -> std::io::Result<()> {
        let asked: Json = serde_json::from_slice(body).unwrap_or_default();
        self.asked.lock().expect("lock").push(asked.clone());
        let trouble = self.named.lock().expect("lock").troubles.pop_front();
        if let Some(failed) = self.failed(stream, trouble) {
            return failed;
        }
        let told = match trouble {
            Some(Trouble::Empty) => json!({"text": "", "meta_info": {"id": "r"}}).to_string(),
            Some(Trouble::ErrorInside) => {
                json!({"error": {"message": "out of memory", "code": 500}}).to_string()
            }
            Some(Trouble::CutOff | Trouble::NoJson) => "{\"text\": \"\", \"meta_in".to_owned(),
            _ => match self.scored(&asked) {
                Some(told) => told.to_string(),
                None => {
                    let error = json!({"error": {"message": "The input_ids are not known."}});
                    return reply(stream, 400, "application/json", &error.to_string());
                }
            },
        };
        reply(stream, 200, "application/json", &told)
    }

    fn scored(&self, asked: &Json) -> Option<Json> {
        let ids = asked["input_ids"].as_array()?;
        let ids: Vec<u64> = ids.iter().filter_map(Json::as_u64).collect();
        let mut named = self.named.lock().expect("lock");
        let (n_prompt, user) = named.prompts.get(&ids)?.clone();
        let start = asked["logprob_start_len"].as_u64()? as usize;
        let said = tokens(&says(&user, None));
        let (mut of_tokens, mut likeliest, mut is_said) = (Vec::new(), Vec::new(), true);
        for (at, id) in ids.iter().enumerate() {
            let word = named.words[*id as usize].clone();
            let next = at.checked_sub(n_prompt).map(|at| said.get(at));
            is_said &= next.is_none_or(|next| next == Some(&word));
            let best = match (is_said, next.flatten()) {
                (true, _) => word.clone(),
                (false, next) => next.map_or("<end>", String::as_str).to_owned(),
            };
            if at < start {
                continue;
            }
            // Of the first that is told nothing stands before.
            if at == start {
                of_tokens.push(json!([null, id, word]));
                likeliest.push(Json::Null);
                continue;
            }
            let logprob = if is_said { -0.125 } else { -2.125 };
            of_tokens.push(json!([logprob, id, word]));
            likeliest.push(json!([[-0.125, named.id(&best), best]]));
        }
        Some(json!({"text": "", "meta_info": {
            "id": "r",
            "finish_reason": {"type": "length", "length": 0},
            "prompt_tokens": ids.len(),
            "completion_tokens": 0,
            "cached_tokens": start.min(n_prompt),
            "input_token_logprobs": of_tokens,
            "input_top_logprobs": likeliest,
            "output_token_logprobs": [],
            "output_top_logprobs": [],
        }}))
    }
}
