//! Text to tokens and back, as the checkpoint itself was trained.
//!
//! Two encodings, because text has two origins. *Template* text is written by the
//! checkpoint's own chat template, and `<|im_end|>` in it is the token that ends a turn.
//! *Text* comes from documents and users, and `<|im_end|>` in it is ten characters: no
//! document can close the turn that it is quoted in.
//!
//! Neither adds a token that was not written: a template that wants a BOS writes it.

mod gguf;
mod load;
mod stop;
mod stream;

use std::sync::Arc;

use tokenizers::{AddedVocabulary, Model as _, OffsetType, PreTokenizer as _};

pub use self::stream::TextStream;
use crate::error::Error;

/// A checkpoint's tokenizer. Cloning shares the vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    shared: Arc<Shared>,
}

struct Shared {
    /// Parses the spellings of special tokens.
    tokenizer: tokenizers::Tokenizer,
    /// The added tokens of `tokenizer`, of which it parses only those that are not
    /// special (as reference tokenizers do in plain text).
    plain_added: AddedVocabulary,
    stop: Vec<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    /// The checkpoint was trained with a BOS before every sequence.
    wants_bos: bool,
}

impl Tokenizer {
    /// Tokens of a document or of a user's words. Spellings of special tokens are text.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encode(text, &self.shared.plain_added)
    }

    /// Tokens of a template's words. Spellings of special tokens are those tokens.
    pub fn encode_template(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encode(text, self.shared.tokenizer.get_added_vocabulary())
    }

    /// The steps of [`tokenizers::Tokenizer::encode`] over a choice of added tokens, and
    /// without the step that adds more.
    fn encode(&self, text: &str, added: &AddedVocabulary) -> Result<Vec<u32>, Error> {
        let tokenizer = &self.shared.tokenizer;
        let mut split = added.extract_and_normalize(tokenizer.get_normalizer(), text);
        if let Some(pre) = tokenizer.get_pre_tokenizer() {
            pre.pre_tokenize(&mut split).map_err(Error::tokenizer)?;
        }
        split
            .tokenize(|piece| tokenizer.get_model().tokenize(piece.get()))
            .and_then(|()| split.into_encoding(None, 0, OffsetType::None))
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(Error::tokenizer)
    }

    /// Text of tokens, special tokens left out. Bytes that are not UTF-8 (a character cut
    /// in half, say) become U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, Error> {
        self.shared
            .tokenizer
            .decode(tokens, true)
            .map_err(Error::tokenizer)
    }

    /// Decodes token by token, holding back characters that are not yet whole.
    pub fn stream(&self) -> TextStream {
        TextStream::new(self.clone())
    }

    /// Number of tokens, added ones included. The embedding table may have more rows.
    pub fn n_tokens(&self) -> usize {
        self.shared.tokenizer.get_vocab_size(true)
    }

    /// Tokens that end an answer.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.shared.stop
    }

    /// Id of a token by its exact spelling in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.shared.tokenizer.token_to_id(token)
    }

    /// Spelling of a token in the vocabulary (byte-level spellings as they are).
    pub fn token(&self, id: u32) -> Option<String> {
        self.shared.tokenizer.id_to_token(id)
    }

    /// Token that begins a sequence, if the checkpoint names one.
    pub fn bos(&self) -> Option<u32> {
        self.shared.bos
    }

    /// Token that ends a sequence, if the checkpoint names one.
    pub fn eos(&self) -> Option<u32> {
        self.shared.eos
    }

    /// Was the checkpoint trained with a BOS before every sequence?
    pub fn wants_bos(&self) -> bool {
        self.shared.wants_bos
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("n_tokens", &self.n_tokens())
            .field("stop", &self.shared.stop)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
