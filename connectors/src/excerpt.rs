//! How much of a long text is shown? A prefix that ends between characters.

/// The longest prefix of at most `limit` bytes.
pub(crate) fn prefix(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_never_cuts_a_character() {
        assert_eq!(prefix("aü€", 9), "aü€");
        assert_eq!(prefix("aü€", 5), "aü");
        assert_eq!(prefix("aü€", 3), "aü");
        assert_eq!(prefix("aü€", 2), "a");
        assert_eq!(prefix("ü", 1), "");
    }
}
