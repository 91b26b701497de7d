//! Which tokens may follow, so that what is written obeys a regular expression?
//!
//! A [`Vocabulary`] is made once for a tokenizer: what each token adds to a text, as a trie. A
//! [`Grammar`] of it is an expression at one place of a text: it tells the tokens that lead on, and
//! the text that is the only one to lead on, which nobody has to decode.
//!
//! Bytes, not characters, are matched: a token may hold half of a character, and what is whole is
//! valid UTF-8 all the same. An expression is an automaton of its derivatives, made as far as it is
//! walked (`derivre`); which tokens lead on is found by walking the trie along it (`toktrie`).

use std::sync::Arc;

use derivre::{NextByte, Regex, StateID};
use toktrie::{Recognizer, TokRxInfo, TokTrie};

use crate::error::Error;

/// A token that adds more bytes to a text is never written.
const MAX_TOKEN_BYTES: usize = 128;

/// What each token of a model adds to a text.
#[derive(Clone)]
pub struct Vocabulary {
    trie: Arc<TokTrie>,
}

/// An expression, and how much of it has been written.
pub struct Grammar {
    expression: Regex,
    state: StateID,
    vocabulary: Vocabulary,
}

/// A set of tokens: 32 a word, the lowest in the lowest bit.
pub type TokenSet = Arc<[u32]>;

impl Vocabulary {
    /// The vocabulary whose token number `i` adds `tokens[i]` to a text; one that adds nothing is never
    /// written. `end` is a token that ends texts.
    ///
    /// # Errors
    /// [`Error::Grammar`].
    pub fn new(mut tokens: Vec<Vec<u8>>, end: u32) -> Result<Self, Error> {
        for token in &mut tokens {
            if token.len() > MAX_TOKEN_BYTES {
                token.clear();
            }
        }
        let n_tokens = u32::try_from(tokens.len()).map_err(refused)?;
        match tokens.get_mut(end as usize) {
            Some(token) => token.clear(),
            None => {
                return Err(Error::Grammar(format!(
                    "the token {end} that ends texts is none of {n_tokens}"
                )));
            }
        }
        if tokens.iter().all(Vec::is_empty) {
            return Err(Error::Grammar("no token adds to a text".to_owned()));
        }
        let trie = TokTrie::from(&TokRxInfo::new(n_tokens, end), &tokens);
        Ok(Self {
            trie: Arc::new(trie),
        })
    }

    /// An expression of which nothing has been written. Where it is complete, nothing may follow: it has
    /// an end.
    ///
    /// # Errors
    /// [`Error::Grammar`]: an expression that cannot be read, or that nothing obeys.
    pub fn grammar(&self, expression: &str) -> Result<Grammar, Error> {
        let mut expression = Regex::new(expression).map_err(refused)?;
        if expression.always_empty() {
            return Err(Error::Grammar("nothing obeys it".to_owned()));
        }
        Ok(Grammar {
            state: expression.initial_state(),
            expression,
            vocabulary: self.clone(),
        })
    }

    /// The text of tokens.
    ///
    /// # Errors
    /// [`Error::Grammar`] where they end within a character.
    pub fn text(&self, tokens: &[u32]) -> Result<String, Error> {
        let bytes = tokens.iter().flat_map(|token| self.trie.token(*token));
        String::from_utf8(bytes.copied().collect()).map_err(refused)
    }
}

impl Grammar {
    /// Writes the tokens of the text that is the only one to lead on, and returns them; none where
    /// there is a choice.
    ///
    /// # Errors
    /// [`Error::Grammar`] where the vocabulary lacks what it needs.
    pub fn forced(&mut self) -> Result<Vec<u32>, Error> {
        let (mut state, mut bytes) = (self.state, Vec::new());
        while let NextByte::ForcedByte(byte) = self.expression.next_byte(state) {
            state = self.expression.transition(state, byte);
            bytes.push(byte);
        }
        let (mut tokens, mut rest) = (Vec::new(), &bytes[..]);
        while !rest.is_empty() {
            // The longest that is there.
            let (token, n_bytes) = self.vocabulary.trie.prefix_token_id(rest);
            if n_bytes == 0 {
                let reason = format!("no token has the byte {:#04x}", rest[0]);
                return Err(Error::Grammar(reason));
            }
            tokens.push(token);
            rest = &rest[n_bytes..];
        }
        self.state = state;
        Ok(tokens)
    }

    /// The tokens that lead on.
    ///
    /// # Errors
    /// [`Error::Grammar`] where none does: the expression is complete, or the vocabulary lacks what
    /// it needs.
    pub fn allowed(&mut self) -> Result<TokenSet, Error> {
        let trie = self.vocabulary.trie.clone();
        let mut allowed = trie.alloc_token_set();
        let mut walk = Walk {
            expression: &mut self.expression,
            states: vec![self.state],
        };
        trie.add_bias(&mut walk, &mut allowed, &[]);
        match allowed.is_zero() {
            true => Err(Error::Grammar("no token leads on".to_owned())),
            false => Ok(allowed.as_slice().into()),
        }
    }

    /// Writes a token that leads on.
    ///
    /// # Errors
    /// [`Error::Grammar`] of one that does not.
    pub fn write(&mut self, token: u32) -> Result<(), Error> {
        let bytes = self.vocabulary.trie.token(token);
        let state = self.expression.transition_bytes(self.state, bytes);
        if bytes.is_empty() || state.is_dead() {
            return Err(Error::Grammar(format!(
                "the token {token} does not lead on"
            )));
        }
        self.state = state;
        Ok(())
    }

    /// Whether all has been written.
    pub fn is_complete(&mut self) -> bool {
        self.expression.is_accepting(self.state)
    }
}

/// A walk along the trie: the states of the expression behind each byte of where it is.
struct Walk<'a> {
    expression: &'a mut Regex,
    /// Not empty.
    states: Vec<StateID>,
}

impl Recognizer for Walk<'_> {
    fn pop_bytes(&mut self, num: usize) {
        self.states.truncate(self.states.len() - num);
    }

    fn collapse(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }

    fn trie_finished(&mut self) {
        self.states.truncate(1);
    }

    fn try_push_byte(&mut self, byte: u8) -> bool {
        let last = self.states[self.states.len() - 1];
        let next = self.expression.transition(last, byte);
        if next.is_dead() {
            return false;
        }
        self.states.push(next);
        true
    }
}

fn refused(reason: impl std::fmt::Display) -> Error {
    Error::Grammar(reason.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Single bytes, and some words; the last ends texts.
    fn vocabulary() -> Vocabulary {
        let words = [
            "null", " null", "{\"", "\":", ", \"", " \"", "ab", "tru", "12",
        ];
        let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
        tokens.extend(words.iter().map(|word| word.as_bytes().to_vec()));
        tokens.push(Vec::new());
        let end = tokens.len() as u32 - 1;
        Vocabulary::new(tokens, end).expect("a vocabulary")
    }

    fn tokens_of(set: &TokenSet) -> Vec<u32> {
        let bits = |(word, bits): (usize, &u32)| {
            let bits = *bits;
            (0..32u32)
                .filter(move |bit| bits >> bit & 1 == 1)
                .map(move |bit| word as u32 * 32 + bit)
        };
        set.iter().enumerate().flat_map(bits).collect()
    }

    /// What comes of writing by these choices, if it is complete in time.
    fn written(expression: &str, choices: &[u16]) -> Option<String> {
        let vocabulary = vocabulary();
        let mut grammar = vocabulary.grammar(expression).expect(expression);
        let mut text = Vec::new();
        for choice in choices.iter().cycle().take(600) {
            text.extend(grammar.forced().expect("forced"));
            if grammar.is_complete() {
                return Some(vocabulary.text(&text).expect("UTF-8"));
            }
            let allowed = tokens_of(&grammar.allowed().expect("something leads on"));
            let token = allowed[usize::from(*choice) % allowed.len()];
            grammar.write(token).expect("it leads on");
            text.push(token);
        }
        None
    }

    #[test]
    fn what_has_no_alternative_is_forced() {
        let vocabulary = vocabulary();
        let mut grammar = vocabulary
            .grammar(r#"\{"name": ?(null|"ab")\}"#)
            .expect("a grammar");
        let forced = grammar.forced().expect("forced");
        assert_eq!(vocabulary.text(&forced).ok().as_deref(), Some("{\"name\":"));
        let allowed = tokens_of(&grammar.allowed().expect("allowed"));
        let texts = allowed.iter().map(|token| vocabulary.text(&[*token]));
        let mut texts: Vec<String> = texts.collect::<Result<_, _>>().expect("texts");
        texts.sort();
        assert_eq!(texts, [" ", " \"", " null", "\"", "n", "null"]);
        grammar.write(allowed[0]).expect("it leads on");
    }

    #[test]
    fn what_does_not_lead_on_is_refused() {
        let vocabulary = vocabulary();
        let mut grammar = vocabulary.grammar("[0-9]{2}").expect("a grammar");
        assert!(grammar.write(u32::from(b'x')).is_err());
        assert!(vocabulary.grammar("[0-9").is_err());
        assert!(Vocabulary::new(vec![Vec::new(); 3], 2).is_err());
        assert!(Vocabulary::new(vec![vec![b'x']; 3], 3).is_err());
    }

    proptest! {
        #[test]
        fn what_is_complete_obeys_the_expression(
            choices in prop::collection::vec(any::<u16>(), 1..40),
        ) {
            let expression = r#"\{"a": ?(null|-?(0|[1-9][0-9]{0,4})), "b": ?(null|"([^"\\\x00-\x1f\x7f]|\\["\\/bfnrt]){1,30}")\}"#;
            if let Some(text) = written(expression, &choices) {
                let json: serde_json::Value = serde_json::from_str(&text).expect(&text);
                let is_number = json["a"].is_null() || json["a"].is_number();
                let length = json["b"].as_str().map_or(1, |text| text.chars().count());
                prop_assert!(is_number && (1..=30).contains(&length), "{}", text);
            }
        }
    }
}
