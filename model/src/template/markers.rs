//! By which marks does a template tell turns apart, and can a document forge them?
//!
//! Marks that are tokens of the vocabulary are withheld from documents. Marks that are words
//! (`[INST]` of Llama 2) cannot be: nothing tells a template's from a document's, which is said
//! once, where the model is opened.

use super::{ChatTemplate, Message, Role, SLOT};
use crate::tokenizer::Tokenizer;

impl ChatTemplate {
    /// Spellings of the added tokens by which this template marks turns, ascending: those that its
    /// source spells out, and those that come of it.
    pub fn markers(&self, tokenizer: &Tokenizer) -> Vec<String> {
        let mut texts = self.around_slots();
        texts.push(self.source.clone());
        let is_used = |token: &&str| texts.iter().any(|text| text.contains(token));
        let tokens = tokenizer.added_tokens().filter(|token| may_mark(token));
        let mut markers: Vec<String> = tokens.filter(is_used).map(str::to_owned).collect();
        markers.sort_unstable();
        markers
    }

    /// Marks of turns that are words, in their order: a document that holds them cannot be told from
    /// the template.
    pub fn plain_markers(&self, tokenizer: &Tokenizer) -> Vec<String> {
        let mut tokens: Vec<&str> = tokenizer.added_tokens().filter(|t| may_mark(t)).collect();
        // Of tokens within one another the longer are found first.
        tokens.sort_unstable_by_key(|token| std::cmp::Reverse(token.len()));
        let mut found: Vec<String> = Vec::new();
        let around = self.around_slots();
        for text in &around {
            let mut words = text.clone();
            for token in &tokens {
                words = words.replace(token, " ");
            }
            let bracketed = words.split_whitespace().filter(|word| is_bracketed(word));
            for word in bracketed {
                if !found.iter().any(|known| known == word) {
                    found.push(word.to_owned());
                }
            }
            // What ends a turn without any token.
            let is_inner = !std::ptr::eq(text, &around[0]);
            if is_inner && found.is_empty() && words == *text && !words.trim().is_empty() {
                found.push(words.trim().to_owned());
            }
        }
        found
    }

    /// What the template writes before, between and behind what is said in turn.
    fn around_slots(&self) -> Vec<String> {
        let [system, user, assistant] =
            [Role::System, Role::User, Role::Assistant].map(|role| Message::new(role, SLOT));
        let talk = [system, user.clone(), assistant, user.clone()];
        // Some know no system, some only a user.
        let tries = [&talk[..], &talk[1..], &talk[1..2]];
        let mut cut = tries.into_iter().filter_map(|talk| self.cut(talk).ok());
        cut.next().unwrap_or_default()
    }
}

/// Whether an added token may mark a turn: white space and single signs are words wherever they
/// stand.
fn may_mark(token: &str) -> bool {
    let mut signs = token.chars().filter(|c| !c.is_whitespace());
    let has_sign = signs.clone().any(|c| !c.is_alphanumeric());
    has_sign && signs.by_ref().nth(1).is_some()
}

/// Whether a word looks as marks do: `[INST]`, `<|user|>`, `<<SYS>>`.
fn is_bracketed(word: &str) -> bool {
    let pairs = [('<', '>'), ('[', ']'), ('{', '}')];
    let is_within = |(open, close): (char, char)| word.starts_with(open) && word.ends_with(close);
    word.chars().count() > 2 && pairs.into_iter().any(is_within)
}
