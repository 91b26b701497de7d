//! How many tokens has a text, where nobody says?
//!
//! A remote model's tokenizer is not here. Budgets are held by an estimate that is near what tokenizers
//! give on prose: a token for each six bytes begun of a word, and one for each mark, where marks and
//! blanks of one kind in a row are few. It is a function of the text alone, so that layouts are the same
//! in every run. A lower bound says whether a server can have read all of a text.

use unicode_segmentation::UnicodeSegmentation;

/// Bytes of a word for each of its tokens.
const BYTES_A_TOKEN: usize = 6;
/// Bytes of a run of the same mark, or of white space, for each of its tokens.
const RUN_BYTES_A_TOKEN: usize = 16;

/// The tokens of a text, by estimate.
pub(super) fn n_tokens(text: &str) -> usize {
    let (mut n, mut run, mut n_run) = (0, None, 0);
    for segment in text.split_word_bounds() {
        let kind = kind(segment);
        if kind != run {
            n += of_run(run, n_run);
            (run, n_run) = (kind, 0);
        }
        match kind {
            None => n += segment.len().div_ceil(BYTES_A_TOKEN),
            Some(_) => n_run += segment.len(),
        }
    }
    n + of_run(run, n_run)
}

/// What a run is made of: white space, or a mark; nothing for a word.
fn kind(segment: &str) -> Option<char> {
    let first = segment.chars().next()?;
    match (first.is_whitespace(), first.is_alphanumeric()) {
        (true, _) => Some(' '),
        (false, true) => None,
        (false, false) => Some(first),
    }
}

fn of_run(kind: Option<char>, n_bytes: usize) -> usize {
    match (kind, n_bytes) {
        // A blank belongs to the word behind it.
        (None, _) | (_, 0) | (Some(' '), 1) => 0,
        (_, n_bytes) => n_bytes.div_ceil(RUN_BYTES_A_TOKEN),
    }
}

/// A number that no tokenizer of such texts stays far below: its words, each once. A word in letters
/// beyond ASCII counts half: of some scripts each letter is one.
pub(super) fn n_least(text: &str) -> f32 {
    let words = text.unicode_words();
    words
        .map(|word| if word.is_ascii() { 1.0 } else { 0.5 })
        .sum()
}

/// The same as tokens, which stand for nothing but their number.
pub(super) fn tokens(text: &str) -> Vec<u32> {
    vec![0; n_tokens(text)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_near_what_tokenizers_give() {
        // Qwen2.5 has 26 and 10 tokens here.
        let prose = "The museum in Bergen opens at nine in the morning and closes at five, \
                     except on Mondays, when it is closed all day.";
        for (text, n) in [(prose, 26), ("fn main() { println!(\"{x}\"); }", 10)] {
            let estimate = n_tokens(text);
            assert!((n..=2 * n).contains(&estimate), "{text}: {estimate}");
        }
        assert_eq!(n_tokens(""), 0);
        assert_eq!(tokens("ab cd").len(), 2);
    }

    #[test]
    fn rules_tables_and_blank_lines_are_few_tokens() {
        for (text, most) in [
            ("=".repeat(80), 5),
            ("\n".repeat(64), 4),
            (format!("Chapter one {} 7", ".".repeat(60)), 8),
            (format!("+{}+{}+", "-".repeat(40), "-".repeat(40)), 9),
        ] {
            let estimate = n_tokens(&text);
            assert!(estimate <= most, "{text}: {estimate}");
            assert!(n_least(&text) <= 3.0, "{text}");
        }
        assert_eq!(n_least("eins zwei drei"), 3.0);
        assert_eq!(n_least("図書館"), 1.5);
    }
}
