//! What does a cache of the prompt before spare the next?
//!
//! A simulation over token ids: the longest common beginning of both stays, the rest is forwarded. At least the
//! last token is, since its row chooses the first of the answer. A cache of several prompts spares no more
//! here: each prompt has most in common with the one before.

/// Keeps the last prompt.
pub struct PrefixCache {
    last: Vec<u32>,
}

impl PrefixCache {
    /// Of a prompt that was answered.
    pub fn after(prompt: Vec<u32>) -> Self {
        Self { last: prompt }
    }

    /// The tokens that a prompt forwards. It is kept in the place of the last.
    pub fn forward(&mut self, prompt: Vec<u32>) -> usize {
        let same = self.last.iter().zip(&prompt).take_while(|(a, b)| a == b);
        let n_same = same.count().min(prompt.len().saturating_sub(1));
        let n_forwarded = prompt.len() - n_same;
        self.last = prompt;
        n_forwarded
    }
}
