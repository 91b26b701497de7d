//! How is a choice that takes an argument written? `window:64` by who types it, `WINDOW(64)` by who explains it:
//! both are read.

/// The word of a choice and its argument, if it has one.
///
/// ```
/// use perennial_bank::choice::parts;
///
/// assert_eq!(parts("window:64"), ("window", Some("64")));
/// assert_eq!(parts("WINDOW(64)"), ("WINDOW", Some("64")));
/// assert_eq!(parts("causal"), ("causal", None));
/// ```
pub fn parts(text: &str) -> (&str, Option<&str>) {
    let in_brackets = text.strip_suffix(')').and_then(|open| open.split_once('('));
    match in_brackets.or_else(|| text.split_once(':')) {
        Some((word, argument)) => (word, Some(argument.trim())),
        None => (text, None),
    }
}
