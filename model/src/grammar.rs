//! Which tokens may follow, so that what is written obeys a regular expression?
//!
//! A [`Vocabulary`] is made once for a tokenizer: what each token adds to a text, as a trie. A
//! [`Grammar`] of it is an expression at one place of a text: it tells the tokens that lead on, and
//! the text that is the only one to lead on, which nobody has to decode.
//!
//! Bytes, not characters, are matched: a token may hold half of a character, and what is whole is
//! valid UTF-8 all the same. An expression is an automaton of its derivatives, made as far as it is
//! walked (`derivre`); which tokens lead on is found by walking the trie along it (`toktrie`). An
//! automaton outlives its grammar for a while: the next of the same expression goes on from it, for
//! most of its states are the same.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use derivre::{NextByte, Regex, StateID};
use toktrie::{INVALID_TOKEN, Recognizer, TokRxInfo, TokTrie};

use crate::error::Error;

/// A token that adds more bytes to a text is never written.
const MAX_TOKEN_BYTES: usize = 128;

/// Automata that are kept for the next grammar of their expression.
const MAX_KEPT: usize = 32;
/// A larger automaton is not kept.
const MAX_KEPT_BYTES: usize = 8 << 20;

/// What each token of a model adds to a text.
#[derive(Clone)]
pub struct Vocabulary {
    trie: Arc<TokTrie>,
    kept: Arc<Kept>,
}

/// An expression, and how much of it has been written.
pub struct Grammar {
    automaton: Automaton,
    state: StateID,
    vocabulary: Vocabulary,
}

/// A set of tokens: 32 a word, the lowest in the lowest bit.
pub type TokenSet = Arc<[u32]>;

impl Vocabulary {
    /// The vocabulary whose token number `i` adds `tokens[i]` to a text; one that adds nothing is never
    /// written. `end` is a token that ends texts, where there is one.
    ///
    /// # Errors
    /// [`Error::Grammar`].
    pub fn new(mut tokens: Vec<Vec<u8>>, end: Option<u32>) -> Result<Self, Error> {
        for token in &mut tokens {
            if token.len() > MAX_TOKEN_BYTES {
                token.clear();
            }
        }
        let n_tokens = u32::try_from(tokens.len()).map_err(refused)?;
        if let Some(end) = end {
            let none = || format!("the token {end} that ends texts is none of {n_tokens}");
            let token = tokens.get_mut(end as usize);
            token.ok_or_else(|| Error::Grammar(none()))?.clear();
        }
        if tokens.iter().all(Vec::is_empty) {
            return Err(Error::Grammar("no token adds to a text".to_owned()));
        }
        let info = TokRxInfo::new(n_tokens, end.unwrap_or(INVALID_TOKEN));
        Ok(Self {
            trie: Arc::new(TokTrie::from(&info, &tokens)),
            kept: Arc::default(),
        })
    }

    /// An expression of which nothing has been written. Where it is complete, nothing may follow: it has
    /// an end.
    ///
    /// # Errors
    /// [`Error::Grammar`]: an expression that cannot be read, or that nothing obeys.
    pub fn grammar(&self, expression: &str) -> Result<Grammar, Error> {
        let kept = self.kept.take(expression);
        let mut regex = match kept {
            Some(regex) => regex,
            None => Regex::new(expression).map_err(refused)?,
        };
        if regex.always_empty() {
            return Err(Error::Grammar("nothing obeys it".to_owned()));
        }
        Ok(Grammar {
            state: regex.initial_state(),
            automaton: Automaton {
                expression: expression.into(),
                regex: Some(regex),
                kept: self.kept.clone(),
            },
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
        while let NextByte::ForcedByte(byte) = self.automaton.next_byte(state) {
            state = self.automaton.transition(state, byte);
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
            states: vec![self.state],
            expression: &mut self.automaton,
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
        let state = self.automaton.transition_bytes(self.state, bytes);
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
        self.automaton.is_accepting(self.state)
    }
}

/// Automata of grammars that are gone, the oldest first.
#[derive(Default)]
struct Kept(Mutex<VecDeque<(Arc<str>, Regex)>>);

impl Kept {
    fn all(&self) -> MutexGuard<'_, VecDeque<(Arc<str>, Regex)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of this expression, which nobody else has.
    fn take(&self, expression: &str) -> Option<Regex> {
        let mut all = self.all();
        let newest = all.iter().rposition(|(of, _)| **of == *expression)?;
        all.remove(newest).map(|(_, regex)| regex)
    }

    fn put(&self, expression: Arc<str>, regex: Regex) {
        if regex.num_bytes() > MAX_KEPT_BYTES {
            return;
        }
        let mut all = self.all();
        if all.len() >= MAX_KEPT {
            all.pop_front();
        }
        all.push_back((expression, regex));
    }
}

/// The automaton of an expression, which is kept when its grammar is gone.
struct Automaton {
    expression: Arc<str>,
    /// There until it is dropped.
    regex: Option<Regex>,
    kept: Arc<Kept>,
}

impl Deref for Automaton {
    type Target = Regex;

    fn deref(&self) -> &Regex {
        self.regex
            .as_ref()
            .expect("it is there until it is dropped")
    }
}

impl DerefMut for Automaton {
    fn deref_mut(&mut self) -> &mut Regex {
        self.regex
            .as_mut()
            .expect("it is there until it is dropped")
    }
}

impl Drop for Automaton {
    fn drop(&mut self) {
        // Of a walk that panicked nobody knows where it stood.
        if let Some(regex) = self.regex.take().filter(|_| !std::thread::panicking()) {
            self.kept.put(self.expression.clone(), regex);
        }
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
        Vocabulary::new(tokens, Some(end)).expect("a vocabulary")
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
        assert!(Vocabulary::new(vec![Vec::new(); 3], Some(2)).is_err());
        assert!(Vocabulary::new(vec![vec![b'x']; 3], Some(3)).is_err());
    }

    #[test]
    fn where_no_token_ends_texts_each_may_be_written() {
        let tokens = [b"a".to_vec(), b"b".to_vec()];
        let allowed = |end| {
            let vocabulary = Vocabulary::new(tokens.to_vec(), end).expect("a vocabulary");
            let mut grammar = vocabulary.grammar("[ab]{2}").expect("a grammar");
            tokens_of(&grammar.allowed().expect("allowed"))
        };
        assert_eq!(allowed(None), [0, 1]);
        assert_eq!(allowed(Some(0)), [1]);
    }

    #[test]
    fn a_grammar_goes_on_from_the_automaton_of_the_one_before() {
        let vocabulary = vocabulary();
        let walked = |expression: &str| {
            let mut grammar = vocabulary.grammar(expression).expect("a grammar");
            let n_bytes = grammar.automaton.num_bytes();
            let allowed = tokens_of(&grammar.allowed().expect("allowed"));
            (n_bytes, grammar.automaton.num_bytes(), allowed)
        };
        let first = walked("[0-9]{2}|null");
        let second = walked("[0-9]{2}|null");
        assert!(first.0 < first.1 && second.0 >= first.1);
        assert_eq!(first.2, second.2);
        // Two at a time are two.
        let both = ["[a-z]+"; 2].map(|of| vocabulary.grammar(of).expect("a grammar"));
        drop(both);
        assert_eq!(vocabulary.kept.all().len(), 3);
        for n in 0..2 * MAX_KEPT {
            drop(vocabulary.grammar(&format!("x{n}")));
        }
        assert_eq!(vocabulary.kept.all().len(), MAX_KEPT);
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
