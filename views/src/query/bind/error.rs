//! What is wrong with a query, where, and what to do about it?

use std::fmt;

pub use sqlparser::tokenizer::Span;

/// One thing that is wrong with a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindError {
    /// What is wrong, and what to do about it.
    pub message: String,
    /// The place in the query's text, counted from line 1 and column 1, its end excluded; `None`
    /// where the query was not read from a text, or the place is not known.
    pub span: Option<Span>,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(span) = self.span {
            write!(
                f,
                "line {}, column {}: ",
                span.start.line, span.start.column
            )?;
        }
        f.write_str(&self.message)
    }
}

/// All that is wrong with a query, by place; at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BindErrors(pub Vec<BindError>);

impl fmt::Display for BindErrors {
    /// One a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            let newline = if at == 0 { "" } else { "\n" };
            write!(f, "{newline}{error}")?;
        }
        Ok(())
    }
}

/// "; did you mean `price`?" for the name nearest to one that there is not, if one is near.
pub(super) fn did_you_mean<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    // What is farther away is another word.
    let tolerance = (name.chars().count() / 3).max(1);
    let lower = name.to_lowercase();
    let distances = known.into_iter().map(|known| {
        let distance = strsim::damerau_levenshtein(&lower, &known.to_lowercase());
        (distance, known)
    });
    match distances.min() {
        Some((distance, nearest)) if distance <= tolerance => {
            format!("; did you mean `{nearest}`?")
        }
        _ => String::new(),
    }
}
