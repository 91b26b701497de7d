//! Which letters does a font say its codes are? Read out of its `ToUnicode` program.
//!
//! Such a program is PostScript. What matters of it are two kinds of lists, and producers differ in
//! all that stands around them, so nothing else is looked at:
//!
//! ```text
//! 1 beginbfchar <0010> <00660069> endbfchar                   code, letters in UTF-16
//! 2 beginbfrange <24> <26> <0041> <30> <31> [<0061> <0078>] endbfrange    first, last, letters
//! ```

use std::collections::BTreeMap;

/// Letters by code.
#[derive(Debug, Default)]
pub(super) struct CharMap {
    /// By the code's bytes, and the first code: the last, and the letters of the first in UTF-16,
    /// of which the last unit counts up.
    ranges: BTreeMap<(usize, u32), (u32, Vec<u16>)>,
}

/// A code's number, and of how many bytes it is.
type Code = (usize, u32);

impl CharMap {
    pub(super) fn of(program: &[u8]) -> Self {
        let mut map = Self::default();
        let mut tokens = Tokens(program);
        while let Some(token) = tokens.next() {
            match token {
                Token::Word(b"beginbfchar") => map.chars(&mut tokens),
                Token::Word(b"beginbfrange") => map.ranges(&mut tokens),
                _ => {}
            }
        }
        map
    }

    fn chars(&mut self, tokens: &mut Tokens<'_>) {
        while let (Some(Token::Hex(code)), Some(Token::Hex(letters))) =
            (tokens.next(), tokens.next())
        {
            self.insert(number(&code), number(&code), units(&letters));
        }
    }

    fn ranges(&mut self, tokens: &mut Tokens<'_>) {
        while let (Some(Token::Hex(first)), Some(Token::Hex(last))) = (tokens.next(), tokens.next())
        {
            let (first, last) = (number(&first), number(&last));
            match tokens.next() {
                Some(Token::Hex(letters)) => self.insert(first, last, units(&letters)),
                Some(Token::Open) => {
                    let mut code = first;
                    while let Some(Token::Hex(letters)) = tokens.next() {
                        self.insert(code, code, units(&letters));
                        code = code.map(|(len, code)| (len, code.saturating_add(1)));
                    }
                }
                _ => return,
            }
        }
    }

    fn insert(&mut self, first: Option<Code>, last: Option<Code>, letters: Vec<u16>) {
        if let (Some(first), Some((_, last))) = (first, last)
            && !letters.is_empty()
        {
            self.ranges.insert(first, (last, letters));
        }
    }

    /// The letters of a code; none if nothing is said of it.
    pub(super) fn letters(&self, code: &[u8]) -> Option<String> {
        let (len, code) = number(code)?;
        let below = self.ranges.range((len, 0)..=(len, code)).next_back();
        let ((_, first), (last, letters)) = below?;
        if code > *last {
            return None;
        }
        let mut letters = letters.clone();
        let unit = letters.last_mut()?;
        *unit = unit.checked_add(u16::try_from(code - first).ok()?)?;
        let letters = String::from_utf16(&letters).ok()?;
        // Some fonts say this of what they know nothing of.
        let is_said = !letters.contains(['\0', char::REPLACEMENT_CHARACTER]);
        is_said.then_some(letters)
    }
}

fn number(bytes: &[u8]) -> Option<Code> {
    let is_code = (1..=4).contains(&bytes.len());
    let number = bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u32::from(*byte));
    is_code.then_some((bytes.len(), number))
}

/// UTF-16; one byte alone is one unit.
fn units(bytes: &[u8]) -> Vec<u16> {
    match bytes {
        [byte] => vec![u16::from(*byte)],
        _ => {
            let pairs = bytes.as_chunks::<2>().0.iter();
            pairs.map(|pair| u16::from_be_bytes(*pair)).collect()
        }
    }
}

enum Token<'a> {
    Hex(Vec<u8>),
    Open,
    Word(&'a [u8]),
}

/// What is left of a program.
struct Tokens<'a>(&'a [u8]);

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            self.0 = self.0.trim_ascii_start();
            match self.0 {
                [] => return None,
                [b'%', ..] => {
                    let end = self.0.iter().position(|byte| b"\r\n".contains(byte));
                    self.0 = &self.0[end.unwrap_or(self.0.len())..];
                }
                [b'<', b'<', rest @ ..] | [b'>', rest @ ..] => self.0 = rest,
                [b'<', rest @ ..] => {
                    let end = rest.iter().position(|byte| *byte == b'>')?;
                    self.0 = &rest[end + 1..];
                    return Some(Token::Hex(hex(&rest[..end])));
                }
                [b'[', rest @ ..] => {
                    self.0 = rest;
                    return Some(Token::Open);
                }
                whole => {
                    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"<>[]%".contains(byte);
                    let end = whole[1..].iter().position(ends);
                    let (word, rest) = whole.split_at(end.map_or(whole.len(), |end| end + 1));
                    self.0 = rest;
                    return Some(Token::Word(word));
                }
            }
        }
    }
}

/// The bytes of digits; an odd one at the end is followed by 0.
fn hex(digits: &[u8]) -> Vec<u8> {
    let digits = digits
        .iter()
        .filter_map(|digit| char::from(*digit).to_digit(16));
    let digits: Vec<u8> = digits
        .filter_map(|digit| u8::try_from(digit).ok())
        .collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or_default())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_of_codes_and_of_ranges_are_read_whatever_stands_around_them() {
        let map = CharMap::of(
            b"%!PS <00> <00>\n/CIDInit /ProcSet findresource begin << /Registry (x) >> def\n\
            1 begincodespacerange<0000><ffff>endcodespacerange 2 beginbfchar<0003><0020>\n\
            <0010> <0066 0069>endbfchar 2 beginbfrange <24><26><0041> <0030> <0031> [<0061><D83DDE00>]\n\
            <0040> <0041> <FFFD> endbfrange",
        );
        let cases: [(&[u8], Option<&str>); 8] = [
            (b"\0\x03", Some(" ")),
            (b"\0\x10", Some("fi")),
            (b"\x26", Some("C")),
            (b"\x27", None),
            (b"\0\x26", None),
            (b"\0\x31", Some("\u{1f600}")),
            (b"\0\x40", None),
            (b"", None),
        ];
        for (code, letters) in cases {
            assert_eq!(map.letters(code).as_deref(), letters, "{code:?}");
        }
    }

    proptest! {
        #[test]
        fn any_program_is_read(
            program in "(<[0-9a-fA-F]{0,6}>|\\[|\\]|beginbf(char|range)|endbf|%|\n|>|.){0,40}",
            code in prop::collection::vec(any::<u8>(), 0..5),
        ) {
            let _may_be_none = CharMap::of(program.as_bytes()).letters(&code);
        }
    }
}
