//! How many tokens has a text, where nobody says?
//!
//! A remote model's tokenizer is not here. Budgets are held by an estimate that no model's tokenizer
//! exceeds much on prose: a token for each six bytes begun of a word, and one for each mark. It is a
//! function of the text alone, so that layouts are the same in every run.

use unicode_segmentation::UnicodeSegmentation;

/// Bytes of a word for each of its tokens.
const BYTES_A_TOKEN: usize = 6;

/// The tokens of a text, by estimate.
pub(super) fn n_tokens(text: &str) -> usize {
    let words = text.split_word_bounds();
    let of_word = |word: &str| match word {
        // A blank belongs to the word behind it.
        " " => 0,
        _ => word.len().div_ceil(BYTES_A_TOKEN),
    };
    words.map(of_word).sum()
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
}
