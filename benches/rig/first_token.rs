//! How soon is the first token of an answer there, and what was forwarded for it?

use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial::ask::{AnswerModel as _, AnswerRequest, CallProgress, Outcome, TensorModel};

use super::Error;

/// An answer, and how it began.
#[derive(Clone)]
pub struct FirstToken {
    /// Tokens forwarded before its first token: of passages, instruction and question.
    pub n_forwarded: usize,
    /// From the request to the first token.
    pub time: Duration,
    /// Its tokens.
    pub tokens: Arc<[u32]>,
    /// Its text.
    pub text: String,
    /// All that is known of it.
    pub outcome: Outcome,
}

/// Notes when something is written first.
struct Watch {
    begin: Instant,
    first: Option<Duration>,
}

impl CallProgress for Watch {
    fn encoding(&mut self, _done: usize, _total: usize) {}

    fn writing(&mut self, _text: &str) {
        self.first.get_or_insert_with(|| self.begin.elapsed());
    }
}

/// Answers a request. The first token of an empty answer is the one that ends it.
pub fn answer(model: &TensorModel, request: &AnswerRequest<'_>) -> Result<FirstToken, Error> {
    let mut watch = Watch {
        begin: Instant::now(),
        first: None,
    };
    let outcome = model.answer(request, &mut watch)?;
    let whole = watch.begin.elapsed();
    Ok(FirstToken {
        n_forwarded: outcome.work.n_encoded + outcome.work.n_prompt,
        time: watch.first.unwrap_or(whole),
        tokens: outcome.tokens.clone(),
        text: outcome.answer.text.trim().to_owned(),
        outcome,
    })
}

/// The time that a share of these is no longer than; zero of none.
pub fn quantile(times: &[Duration], share: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = (share * times.len().saturating_sub(1) as f64).round() as usize;
    times.get(at).copied().unwrap_or_default()
}
