//! Text to tokens and back, as the checkpoint itself was trained.
//!
//! Two encodings, because text has two origins. *Template* text is written by the
//! checkpoint's own chat template, and `<|im_end|>` in it is the token that ends a turn.
//! *Text* comes from documents and users, and `<|im_end|>` in it is ten characters: no
//! document can close the turn that it is quoted in. A checkpoint's template may mark turns with
//! tokens that its vocabulary does not call special; they are [withheld](Tokenizer::withholding) from
//! text, too.
//!
//! A prompt is encoded in pieces. Those behind the first *continue*: no blank is put before them.
//!
//! Neither adds a token that was not written: a template that wants a BOS writes it.

mod bytes;
mod continuing;
mod gguf;
mod load;
mod plain;
mod stop;
mod stream;

use std::sync::Arc;

use tokenizers::{
    AddedVocabulary, Model as _, OffsetType, PreTokenizedString, PreTokenizer as _,
    PreTokenizerWrapper,
};

use self::continuing::Continuing;
use self::plain::Plain;
pub use self::stream::TextStream;
use crate::error::Error;

/// A checkpoint's tokenizer. Cloning shares the vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    shared: Arc<Shared>,
    /// How plain text is parsed.
    plain: Arc<Plain>,
}

struct Shared {
    /// Parses the spellings of special tokens.
    tokenizer: tokenizers::Tokenizer,
    continuing: Continuing,
    /// What the vocabulary was read from, and how.
    source: [u8; 32],
    stop: Vec<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    /// The checkpoint was trained with a BOS before every sequence.
    wants_bos: bool,
}

/// Where a piece of a prompt stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing before it.
    First,
    /// Text before it.
    BehindText,
}

impl Tokenizer {
    /// Tokens of a document or of a user's words that nothing stands before. Spellings of special
    /// tokens, and of [markers](Self::withholding), are text.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encode_plain(text, Place::First)
    }

    /// The same behind other text: without the blank that some tokenizers put before a text.
    pub fn continue_text(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encode_plain(text, Place::BehindText)
    }

    /// Tokens of a template's words. Spellings of special tokens are those tokens.
    pub fn encode_template(&self, text: &str) -> Result<Vec<u32>, Error> {
        let added = self.shared.tokenizer.get_added_vocabulary();
        self.encode(text, added, Place::First)
    }

    /// The same behind other text.
    pub fn continue_template(&self, text: &str) -> Result<Vec<u32>, Error> {
        let added = self.shared.tokenizer.get_added_vocabulary();
        self.encode(text, added, Place::BehindText)
    }

    /// The same tokenizer, to which these spellings are text wherever they are not a template's:
    /// added tokens by which a chat template marks turns, whether the vocabulary calls them special
    /// or not.
    pub fn withholding(&self, markers: &[String]) -> Result<Self, Error> {
        let plain = Plain::of(&self.shared.tokenizer, markers).map_err(Error::tokenizer)?;
        Ok(Self {
            shared: self.shared.clone(),
            plain: Arc::new(plain),
        })
    }

    fn encode_plain(&self, text: &str, place: Place) -> Result<Vec<u32>, Error> {
        let added = &self.plain.added;
        let tokens = self.encode(text, added, place)?;
        let withheld = self.plain.among(&tokens);
        if withheld.is_empty() {
            return Ok(tokens);
        }
        // Merges have led to a token that is none of a text: what is cut apart is not merged.
        let mut tokens = Vec::new();
        for (i, part) in plain::cut_within(text, &withheld).into_iter().enumerate() {
            let place = if i == 0 { place } else { Place::BehindText };
            tokens.extend(self.encode(part, added, place)?);
        }
        match self.plain.among(&tokens).first() {
            None => Ok(tokens),
            Some(spelling) => Err(Error::Tokenizer(format!(
                "a text spells the token `{spelling}` so that it cannot be told from it"
            ))),
        }
    }

    /// The steps of [`tokenizers::Tokenizer::encode`] over a choice of added tokens, and
    /// without the step that adds more.
    fn encode(&self, text: &str, added: &AddedVocabulary, place: Place) -> Result<Vec<u32>, Error> {
        let tokenizer = &self.shared.tokenizer;
        let own_splitting = tokenizer.get_pre_tokenizer();
        if place == Place::First {
            let split = added.extract_and_normalize(tokenizer.get_normalizer(), text);
            return self.tokens_of(split, own_splitting);
        }
        let continuing = &self.shared.continuing;
        let extracted = continuing.extract(tokenizer, added, text);
        let Some(splitting) = &continuing.splitting else {
            return self.tokens_of(extracted, own_splitting);
        };
        let Some(at) = continuing::first_token(&extracted) else {
            return self.tokens_of(extracted, Some(splitting));
        };
        let (before, from_token) = text.split_at(at);
        let before = continuing.extract(tokenizer, added, before);
        let mut tokens = self.tokens_of(before, Some(splitting))?;
        tokens.extend(self.encode(from_token, added, Place::First)?);
        Ok(tokens)
    }

    fn tokens_of(
        &self,
        mut split: PreTokenizedString,
        splitting: Option<&PreTokenizerWrapper>,
    ) -> Result<Vec<u32>, Error> {
        if let Some(splitting) = splitting {
            splitting
                .pre_tokenize(&mut split)
                .map_err(Error::tokenizer)?;
        }
        let model = self.shared.tokenizer.get_model();
        split
            .tokenize(|piece| model.tokenize(piece.get()))
            .and_then(|()| split.into_encoding(None, 0, OffsetType::None))
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(Error::tokenizer)
    }

    /// Names all that tokens depend on here: the vocabulary by what it was read from, ends and
    /// beginnings as they were resolved, and what is withheld from text. Its first word changes with
    /// the code that makes tokens.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 tokenizer");
        let shared = &*self.shared;
        hash.update(&shared.source);
        for id in [shared.bos, shared.eos] {
            let is_there = u8::from(id.is_some());
            hash.update(&[is_there])
                .update(&id.unwrap_or_default().to_le_bytes());
        }
        hash.update(&[u8::from(shared.wants_bos)]);
        let withheld: Vec<u32> = self.plain.ids().into_iter().collect();
        for ids in [&shared.stop, &withheld] {
            hash.update(&(ids.len() as u64).to_le_bytes());
            ids.iter().for_each(|id| {
                hash.update(&id.to_le_bytes());
            });
        }
        *hash.finalize().as_bytes()
    }

    /// Spellings of the added tokens, special or not, in no particular order.
    pub fn added_tokens(&self) -> impl Iterator<Item = &str> {
        let added = self.shared.tokenizer.get_added_vocabulary();
        added.get_vocab().keys().map(String::as_str)
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
pub(crate) mod continuing_tests;
#[cfg(test)]
mod tests;
