//! Which text does the next token complete?
//!
//! A character may span tokens, and some decoders look at neighbours (a leading space is
//! dropped at the start only). So a token's text is what decoding grows by when the token
//! is appended to those since the last whole character; while that ends inside a
//! character, nothing is given out. The pieces joined are the whole text decoded at once.

use super::Tokenizer;
use crate::error::Error;

/// A decoder of one answer, fed token by token.
#[derive(Clone, Debug)]
pub struct TextStream {
    tokenizer: Tokenizer,
    /// Context and unfinished tokens; everything before gave its text out.
    window: Vec<u32>,
    /// Of `window`, how many gave their text out and stand as context.
    n_context: usize,
}

impl TextStream {
    pub(super) fn new(tokenizer: Tokenizer) -> Self {
        Self {
            tokenizer,
            window: Vec::new(),
            n_context: 0,
        }
    }

    /// The text that this token completes; empty while a character is not whole.
    pub fn push(&mut self, token: u32) -> Result<String, Error> {
        self.window.push(token);
        let (context, text) = self.decode()?;
        if text.len() <= context || text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        self.window.drain(..self.n_context);
        self.n_context = self.window.len();
        Ok(text[context..].to_owned())
    }

    /// What is left of characters that were never completed, as U+FFFD.
    pub fn finish(self) -> Result<String, Error> {
        let (context, text) = self.decode()?;
        Ok(text.get(context..).unwrap_or_default().to_owned())
    }

    /// Length in bytes of the context's text, and the text of the whole window.
    fn decode(&self) -> Result<(usize, String), Error> {
        let context = self.tokenizer.decode(&self.window[..self.n_context])?;
        Ok((context.len(), self.tokenizer.decode(&self.window)?))
    }
}
