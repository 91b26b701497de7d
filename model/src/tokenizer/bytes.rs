//! Which bytes does a token add to a text?
//!
//! Vocabularies spell tokens in one of two ways. Byte-level ones spell each byte as a printable
//! character (a blank is `Ġ`); those of the SentencePiece family spell text with `▁` for a blank, and
//! a byte that has no token of its own as `<0x0A>`.

use std::collections::HashMap;

use tokenizers::DecoderWrapper;

use super::Tokenizer;

/// How tokens are spelled.
enum Spelling {
    /// A character a byte.
    Bytes(HashMap<char, u8>),
    /// Text, in which this stands for a blank.
    Text { blank: char },
}

impl Tokenizer {
    /// The bytes that each token adds to a text behind others, by its id up to `n_vocab`; none for
    /// one that no text has: a special one, one that ends answers or [marks turns](Self::withholding).
    /// `None` where tokens are spelled in a way that is not known.
    pub fn token_bytes(&self, n_vocab: usize) -> Option<Vec<Vec<u8>>> {
        let spelling = Spelling::of(self.shared.tokenizer.get_decoder()?)?;
        let withheld = self.plain.ids();
        let added = self.shared.tokenizer.get_added_vocabulary();
        let added = added.get_added_tokens_decoder();
        let bytes = |id: u32| {
            if withheld.contains(&id) || self.shared.stop.contains(&id) {
                return Vec::new();
            }
            match added.get(&id) {
                Some(token) if token.special => Vec::new(),
                Some(token) => token.content.clone().into_bytes(),
                None => match self.token(id) {
                    Some(token) => spelling.bytes(&token),
                    None => Vec::new(),
                },
            }
        };
        let n_vocab = u32::try_from(n_vocab).ok()?;
        Some((0..n_vocab).map(bytes).collect())
    }
}

impl Spelling {
    fn of(decoder: &DecoderWrapper) -> Option<Self> {
        match decoder {
            DecoderWrapper::ByteLevel(_) => Some(Self::Bytes(byte_characters())),
            DecoderWrapper::Metaspace(step) => Some(Self::Text {
                blank: step.get_replacement(),
            }),
            DecoderWrapper::Replace(_) => Some(Self::Text { blank: '▁' }),
            DecoderWrapper::Sequence(steps) => steps.get_decoders().iter().find_map(Self::of),
            _ => None,
        }
    }

    fn bytes(&self, token: &str) -> Vec<u8> {
        match self {
            // What no byte is spelled by is no token of a text.
            Self::Bytes(bytes) => {
                let bytes = token.chars().map(|c| bytes.get(&c).copied());
                bytes.collect::<Option<_>>().unwrap_or_default()
            }
            Self::Text { blank } => match byte_of(token) {
                Some(byte) => vec![byte],
                None => token.replace(*blank, " ").into_bytes(),
            },
        }
    }
}

/// The byte that a token such as `<0x0A>` stands for.
fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// The characters by which byte-level vocabularies spell bytes: printable ones for themselves, the
/// others by those from U+0100 on.
fn byte_characters() -> HashMap<char, u8> {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = '\u{100}'..;
    let characters = (0..=255u8).map(|byte| match is_printable(byte) {
        true => (char::from(byte), byte),
        false => (others.next().unwrap_or_default(), byte),
    });
    characters.collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::bytes_tokenizer;
    use super::*;

    #[test]
    fn the_bytes_of_a_text_s_tokens_are_the_text() {
        let tokenizer = bytes_tokenizer("gpt-2");
        let bytes = tokenizer.token_bytes(tokenizer.n_tokens() + 3);
        let bytes = bytes.expect("a byte-level vocabulary");
        assert_eq!(bytes.len(), tokenizer.n_tokens() + 3);
        for text in ["ab 123\n\n.\n", "it's 你好 \u{0}é<tool>", "  a  "] {
            let tokens = tokenizer.encode_text(text).expect("tokens");
            let all: Vec<u8> = tokens
                .iter()
                .flat_map(|token| bytes[*token as usize].clone())
                .collect();
            assert_eq!(String::from_utf8(all).as_deref(), Ok(text));
        }
        let end = tokenizer.token_id("<|im_end|>").expect("a token");
        assert!(bytes[end as usize].is_empty());
    }

    #[test]
    fn all_bytes_have_characters_of_their_own() {
        let characters = byte_characters();
        assert_eq!(characters.len(), 256);
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        assert!(characters.keys().all(|c| alphabet.contains(c)));
        assert_eq!((characters[&'Ġ'], characters[&'Ċ']), (b' ', b'\n'));
    }

    #[test]
    fn a_vocabulary_of_texts_spells_bytes_by_number() {
        let spelling = Spelling::Text { blank: '▁' };
        assert_eq!(spelling.bytes("▁a▁b"), b" a b");
        assert_eq!(spelling.bytes("<0x0A>"), b"\n");
        assert_eq!(spelling.bytes("<0xZZ>"), b"<0xZZ>");
    }
}
