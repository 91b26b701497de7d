//! How does a name, or a text, stand in a statement?

/// A name as it is, in quotes.
pub(crate) fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text, in quotes.
pub(crate) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_within_is_doubled() {
        assert_eq!(name("my \"docs\""), "\"my \"\"docs\"\"\"");
        assert_eq!(text("it's"), "'it''s'");
    }
}
