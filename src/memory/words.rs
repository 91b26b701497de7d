//! Which words does a text hold?
//!
//! A word is a run of letters and digits, in lower case; an apostrophe within it and what follows
//! go. Where a language writes without blanks (Chinese, Japanese, Thai), Unicode's rules of
//! segmentation cut.

use unicode_segmentation::UnicodeSegmentation as _;

/// The longest word, in bytes; of a longer one the beginning counts.
const MAX_WORD: usize = 64;

/// The words of a text, in order.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> {
    text.unicode_words().flat_map(|word| {
        // `2024-05` and `a.b` are several words, `library's` is one.
        let parts = word.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’');
        parts.filter_map(|part| {
            let bare = part.split(['\'', '’']).next().unwrap_or_default();
            let mut word = bare.to_lowercase();
            let mut end = MAX_WORD.min(word.len());
            while !word.is_char_boundary(end) {
                end -= 1;
            }
            word.truncate(end);
            (!word.is_empty()).then_some(word)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_people_type() {
        let cases = [
            ("The library's open!", vec!["the", "library", "open"]),
            ("a.b 2024-05 x_1", vec!["a", "b", "2024", "05", "x", "1"]),
            ("Ärger über ÉTÉ", vec!["ärger", "über", "été"]),
            ("  …  ", vec![]),
        ];
        for (text, expected) in cases {
            assert_eq!(words(text).collect::<Vec<_>>(), expected, "{text}");
        }
        let long = "ä".repeat(100);
        assert_eq!(words(&long).collect::<Vec<_>>(), ["ä".repeat(32)]);
    }
}
