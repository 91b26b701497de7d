//! Which tokens are none of a text, however it is spelled?
//!
//! Those that are special, and those by which the chat template marks turns: some checkpoints have
//! them as ordinary added tokens (`<｜User｜>`, say), which plain text would be parsed for. Other added
//! tokens are words.

use std::collections::{BTreeSet, HashMap};

use tokenizers::{AddedToken, AddedVocabulary, ModelWrapper};

/// How text of documents and users is parsed.
pub(super) struct Plain {
    /// The added tokens of the tokenizer, of which none that are withheld is parsed.
    pub(super) added: AddedVocabulary,
    /// Spellings of the tokens that are none of a text, by id. A single character is left out: it
    /// cannot be spelled otherwise.
    withheld: HashMap<u32, String>,
}

impl Plain {
    /// `markers` are spellings of added tokens that mark turns.
    pub(super) fn of(
        tokenizer: &tokenizers::Tokenizer,
        markers: &[String],
    ) -> tokenizers::Result<Self> {
        let mut added = tokenizer.get_added_vocabulary().clone();
        let known = added.get_added_tokens_decoder().values();
        let marks: Vec<AddedToken> = known
            .filter(|token| !token.special && markers.contains(&token.content))
            .map(|token| AddedToken {
                special: true,
                ..token.clone()
            })
            .collect();
        // They keep their ids.
        added.add_tokens(marks, tokenizer.get_model(), tokenizer.get_normalizer())?;
        added.set_encode_special_tokens(true);
        let unknown = unknown_token(tokenizer);
        let tokens = added.get_added_tokens_decoder().iter();
        let withheld = tokens
            .filter(|(_, token)| token.special && token.content.chars().count() > 1)
            .filter(|(_, token)| Some(token.content.as_str()) != unknown)
            .map(|(id, token)| (*id, token.content.clone()))
            .collect();
        Ok(Self { added, withheld })
    }

    /// Spellings of the withheld tokens that are among these: merges of some vocabularies lead to
    /// them.
    pub(super) fn among<'a>(&'a self, tokens: &[u32]) -> BTreeSet<&'a str> {
        let found = tokens.iter().filter_map(|id| self.withheld.get(id));
        found.map(String::as_str).collect()
    }

    /// Ids of the withheld tokens, ascending.
    pub(super) fn ids(&self) -> BTreeSet<u32> {
        self.withheld.keys().copied().collect()
    }
}

/// What stands for characters that the vocabulary lacks: a text may have it.
fn unknown_token(tokenizer: &tokenizers::Tokenizer) -> Option<&str> {
    match tokenizer.get_model() {
        ModelWrapper::BPE(model) => model.get_unk_token().as_deref(),
        ModelWrapper::WordPiece(model) => Some(&model.unk_token),
        ModelWrapper::WordLevel(model) => Some(&model.unk_token),
        // It does not say, and all that are known name it so.
        ModelWrapper::Unigram(_) => Some("<unk>"),
    }
}

/// The parts of a text, cut within each of these spellings, behind its first character.
pub(super) fn cut_within<'a>(text: &'a str, spellings: &BTreeSet<&str>) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for (at, first) in text.char_indices() {
        if spellings
            .iter()
            .any(|spelling| text[at..].starts_with(spelling))
        {
            let cut = at + first.len_utf8();
            parts.push(&text[begin..cut]);
            begin = cut;
        }
    }
    parts.push(&text[begin..]);
    parts
}
