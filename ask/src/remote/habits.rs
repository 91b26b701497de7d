//! In which of several ways does a server want its requests?
//!
//! Servers that speak the same interface differ in small things: the name of a limit, a role that a
//! template does not know, a setting that a model has fixed. What one refuses is left out from then
//! on; it is found when the model is created, by asking.

use super::fault::Fault;

/// How a server is asked how likely the tokens of a prompt were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Scoring {
    /// Along with an answer: `prompt_logprobs`.
    #[default]
    InChat,
    /// In a request of its own, for tokens that the chat names ([`native`](super::native)).
    Native,
}

/// What a server wants otherwise. By default, nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Habits {
    /// The limit is called `max_completion_tokens`.
    pub(super) wants_completion_tokens: bool,
    /// There is no system role: its text stands before the user's.
    pub(super) refuses_system: bool,
    /// Temperature and its like are fixed.
    pub(super) refuses_sampling: bool,
    /// There is no `seed`.
    pub(super) refuses_seed: bool,
    /// There are no `stream_options`.
    pub(super) refuses_stream_options: bool,
    /// There are no streams.
    pub(super) refuses_stream: bool,
    /// Its checkpoints bring a penalty of repetition that would make what it writes another text than
    /// the one whose tokens are the likeliest.
    pub(super) has_penalties: bool,
    /// How it is asked how likely the tokens of a prompt were.
    pub(super) scoring: Scoring,
    /// Tokens that are allowed for thinking, beside those of the answer.
    pub(super) thinking_tokens: usize,
}

impl Habits {
    /// Leaves out what a refusal names; whether that was something new.
    pub(super) fn learn(&mut self, fault: &Fault) -> bool {
        let Fault::Refused { status, said, .. } = fault else {
            return false;
        };
        // Of a server that failed nothing is learnt: its words are about itself.
        if !matches!(status, 400 | 422 | 501) {
            return false;
        }
        let said = said.to_ascii_lowercase();
        // The most telling word first: messages often list others.
        let lessons: [(&[&str], &mut bool); 6] = [
            (
                &["max_completion_tokens"],
                &mut self.wants_completion_tokens,
            ),
            (&["stream_options"], &mut self.refuses_stream_options),
            (&["temperature", "top_p"], &mut self.refuses_sampling),
            (&["seed"], &mut self.refuses_seed),
            (
                &["system role", "system message", "roles must alternate"],
                &mut self.refuses_system,
            ),
            (
                &["stream ", "streaming", "'stream'", "`stream`"],
                &mut self.refuses_stream,
            ),
        ];
        for (words, habit) in lessons {
            if !*habit && words.iter().any(|word| said.contains(word)) {
                *habit = true;
                return true;
            }
        }
        false
    }

    /// What outputs depend on.
    pub(super) fn digested(&self) -> String {
        format!(
            "system {} sampling {} seed {} thinking {}",
            !self.refuses_system, !self.refuses_sampling, !self.refuses_seed, self.thinking_tokens
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_refuses_is_left_out_once() {
        let refused = |said: &str| Fault::Refused {
            status: 400,
            said: said.to_owned(),
            retry_after: None,
        };
        let mut habits = Habits::default();
        let limit = refused(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use \
             'max_completion_tokens' instead.",
        );
        assert!(habits.learn(&limit) && habits.wants_completion_tokens);
        assert!(!habits.learn(&limit), "it was heeded already");
        assert!(habits.learn(&refused(
            "'temperature' does not support 0.0 with this model."
        )));
        assert!(habits.learn(&refused("System role not supported")));
        assert!(!habits.learn(&refused("the moon is full")));
        assert!(!habits.learn(&Fault::Away("system role".to_owned())));
        let expected = Habits {
            wants_completion_tokens: true,
            refuses_sampling: true,
            refuses_system: true,
            ..Habits::default()
        };
        assert_eq!(habits, expected);
    }
}
