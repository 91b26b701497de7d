//! Does a text match a LIKE pattern?

/// Whether `text` matches `pattern`, in which `%` stands for any characters and `_` for one, and
/// what follows `escape` stands for itself. Case-blind matching compares lower-case forms,
/// character by character. Takes time of at most `text` times `pattern`, and no recursion.
pub(crate) fn is_like(
    text: &str,
    pattern: &str,
    escape: Option<char>,
    is_case_blind: bool,
) -> bool {
    let text: Vec<char> = folded(text, is_case_blind).collect();
    let pattern = parse(pattern, escape, is_case_blind);
    let (mut at, mut part) = (0, 0);
    // Where the last `%` stands, and up to where it reaches so far.
    let mut last_any: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(part) {
            Some(Part::Any) => {
                last_any = Some((part, at));
                part += 1;
            }
            Some(Part::One) => (at, part) = (at + 1, part + 1),
            Some(Part::Literal(c)) if *c == text[at] => (at, part) = (at + 1, part + 1),
            // A mismatch: the last `%` takes one character more.
            _ => match &mut last_any {
                None => return false,
                Some((any, reach)) => {
                    *reach += 1;
                    (at, part) = (*reach, *any + 1);
                }
            },
        }
    }
    pattern[part..].iter().all(|part| matches!(part, Part::Any))
}

enum Part {
    Any,
    One,
    Literal(char),
}

fn folded(text: &str, is_case_blind: bool) -> impl Iterator<Item = char> + '_ {
    text.chars().map(move |c| match is_case_blind {
        // A character whose lower case is several stays what it is.
        true => Some(c.to_lowercase())
            .filter(|lower| lower.len() == 1)
            .and_then(|mut l| l.next())
            .unwrap_or(c),
        false => c,
    })
}

fn parse(pattern: &str, escape: Option<char>, is_case_blind: bool) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut plain = pattern.chars();
    let mut fold = folded(pattern, is_case_blind);
    while let (Some(c), Some(lower)) = (plain.next(), fold.next()) {
        parts.push(match c {
            c if Some(c) == escape => match (plain.next(), fold.next()) {
                (Some(_), Some(escaped)) => Part::Literal(escaped),
                // An escape at the end escapes nothing.
                _ => Part::Literal(lower),
            },
            '%' => Part::Any,
            '_' => Part::One,
            _ => Part::Literal(lower),
        });
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By definition.
    fn oracle(text: &[char], pattern: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['%', rest @ ..] => (0..=text.len()).any(|n| oracle(&text[n..], rest)),
            ['_', rest @ ..] => !text.is_empty() && oracle(&text[1..], rest),
            [c, rest @ ..] => text.first() == Some(c) && oracle(&text[1..], rest),
        }
    }

    proptest! {
        #[test]
        fn matches_as_defined(text in "[ab]{0,8}", pattern in "[ab%_]{0,6}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = oracle(&chars(&text), &chars(&pattern));
            prop_assert_eq!(is_like(&text, &pattern, None, false), expected);
        }
    }

    #[test]
    fn escapes_and_case() {
        assert!(is_like("50%", r"50\%", Some('\\'), false));
        assert!(!is_like("505", r"50\%", Some('\\'), false));
        assert!(is_like("Ärger", "ä%", None, true));
        assert!(!is_like("Ärger", "ä%", None, false));
    }
}
