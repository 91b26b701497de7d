//! What is wrong with a script, where, and what can be done about it?
//!
//! ```text
//! support.sql:3:25: expected FOLDER, FILE, TABLE, KAFKA or HTTP, found `FODLER`
//!   3 | CREATE SOURCE docs FROM FODLER './docs';
//!     |                         ^^^^^^
//!   try: did you mean FOLDER?
//! ```
//! Places are those of the script: lines and columns from 1, columns in characters.

use std::fmt;
use std::sync::Arc;

use sqlparser::tokenizer::{Location, Span};
use unicode_width::UnicodeWidthChar as _;

/// Characters of a line that are shown around a place; a prompt on one line may have thousands.
const SHOWN: usize = 96;
/// Characters before the place that are shown where a line is longer.
const BEFORE: usize = 40;
/// Errors of one script that are told; more are counted.
const MOST_TOLD: usize = 20;

/// Text to be read as SQL, and what to call it.
#[derive(Clone, Debug)]
pub struct Script {
    name: Arc<str>,
    text: Arc<str>,
}

impl Script {
    /// A script; `name` is the path of its file, or what stands for one in messages.
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// These faults of this script, as an error that shows their places.
    pub fn errors(&self, mut faults: Vec<Diagnostic>) -> Errors {
        faults.sort_by_key(|fault| fault.span.start);
        Errors {
            script: self.clone(),
            faults,
        }
    }

    /// The text between two places.
    pub fn slice(&self, span: Span) -> &str {
        let (start, end) = (self.offset(span.start), self.offset(span.end));
        &self.text[start..end.max(start)]
    }

    /// The byte at a place; the end of the text for one behind it.
    fn offset(&self, at: Location) -> usize {
        let mut begin = 0;
        for _ in 1..at.line {
            match self.text[begin..].find('\n') {
                Some(length) => begin += length + 1,
                None => return self.text.len(),
            }
        }
        let column = usize::try_from(at.column.saturating_sub(1)).unwrap_or(usize::MAX);
        let mut characters = self.text[begin..].char_indices();
        characters
            .nth(column)
            .map_or(self.text.len(), |(offset, _)| begin + offset)
    }
}

/// One fault, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong.
    pub what: String,
    /// What to do about it, where that is known.
    pub help: Option<String>,
    /// Where: lines and columns from 1, the end behind the last character.
    pub span: Span,
}

impl Diagnostic {
    /// A fault at a place.
    pub fn new(what: impl Into<String>, span: Span) -> Self {
        Self {
            what: what.into(),
            help: None,
            span,
        }
    }

    /// The same, with advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// All faults of a script, in order of their places. Never none.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Errors {
    script: Script,
    faults: Vec<Diagnostic>,
}

impl Errors {
    /// The faults.
    pub fn faults(&self) -> &[Diagnostic] {
        &self.faults
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().take(MOST_TOLD).enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            show(&self.script, fault, f)?;
        }
        let n_more = self.faults.len().saturating_sub(MOST_TOLD);
        if n_more > 0 {
            write!(f, "\nand {n_more} more")?;
        }
        Ok(())
    }
}

fn show(script: &Script, fault: &Diagnostic, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Span { start, end } = fault.span;
    let Location { line, column } = start;
    write!(f, "{}:{line}:{column}: {}", script.name, fault.what)?;
    let text = line
        .checked_sub(1)
        .and_then(|index| script.text.lines().nth(usize::try_from(index).ok()?));
    if let Some(text) = text {
        let first = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
        let n_marked = match end.line == line {
            true => usize::try_from(end.column.saturating_sub(column)).unwrap_or(1),
            // It goes on below: mark all of this line.
            false => usize::MAX,
        };
        let excerpt = Excerpt::of(text, first, n_marked.max(1));
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        write!(f, "\n  {number} | {}", excerpt.text)?;
        write!(f, "\n  {margin} | {}{}", excerpt.blanks, excerpt.carets)?;
    }
    match &fault.help {
        Some(help) => write!(f, "\n  try: {help}"),
        None => Ok(()),
    }
}

/// A part of a line with marks under a part of it.
struct Excerpt {
    text: String,
    blanks: String,
    carets: String,
}

impl Excerpt {
    fn of(line: &str, first: usize, n_marked: usize) -> Self {
        // A tab or a control character would move the carets.
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let line: Vec<char> = line.trim_end().chars().map(plain).collect();
        let begin = match line.len() > SHOWN {
            true => first
                .saturating_sub(BEFORE)
                .min(line.len().saturating_sub(SHOWN)),
            false => 0,
        };
        let end = line.len().min(begin + SHOWN);
        let first = first.clamp(begin, end);
        let last = first.saturating_add(n_marked).min(end);
        let (cut_before, cut_after) = (begin > 0, end < line.len());
        let width = |characters: &[char]| -> usize {
            let columns = characters.iter().map(|c| c.width().unwrap_or(0));
            columns.sum()
        };
        let shown: String = line[begin..end].iter().collect();
        let mark = |is_cut| if is_cut { "…" } else { "" };
        Self {
            text: format!("{}{shown}{}", mark(cut_before), mark(cut_after)),
            blanks: " ".repeat(width(&line[begin..first]) + usize::from(cut_before)),
            carets: "^".repeat(width(&line[first..last]).max(1)),
        }
    }
}

/// What was probably meant by a name that is not among those there are.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    let distance = |name: &str| strsim::osa_distance(&given, &name.to_lowercase());
    let all = known.into_iter().map(|name| (distance(name), name));
    let (distance, name) = all.min_by_key(|(distance, _)| *distance)?;
    // A third of its letters: `FODLER` is a folder, `FROM` is no `FORMAT`.
    (distance <= name.chars().count() / 3).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(line: u64, from: u64, to: u64) -> Span {
        Span::new(Location::new(line, from), Location::new(line, to))
    }

    #[test]
    fn carets_stand_under_the_place_in_wide_and_tabbed_lines() {
        let script = Script::new("a.sql", "first\n\tnaïve 日本 x;\n");
        let said = script.errors(vec![Diagnostic::new("wrong", span(2, 11, 12))]);
        assert_eq!(
            said.to_string(),
            "a.sql:2:11: wrong\n  2 |  naïve 日本 x;\n    |             ^"
        );
        assert_eq!(script.slice(span(2, 8, 10)), "日本");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));
        let script = Script::new("a.sql", text);
        let said = script.errors(vec![Diagnostic::new("wrong", span(1, 501, 505))]);
        let said = said.to_string();
        let lines: Vec<&str> = said.lines().collect();
        let at = lines[1].chars().position(|c| c == 'H');
        assert_eq!(lines[2].chars().position(|c| c == '^'), at);
        assert!(lines[1].chars().count() < 120, "{said}");
        assert!(lines[2].ends_with("^^^^") && !lines[2].ends_with("^^^^^"));
    }

    #[test]
    fn places_beyond_the_text_are_no_panic() {
        let script = Script::new("a.sql", "x");
        for fault in [span(0, 0, 0), span(9, 9, 9), span(1, 50, 60)] {
            let said = script.errors(vec![Diagnostic::new("wrong", fault)]);
            assert!(said.to_string().contains("wrong"));
            assert!(script.slice(fault).len() <= 1);
        }
    }

    #[test]
    fn a_near_name_is_found_and_a_far_one_not() {
        let known = ["FOLDER", "FILE", "TABLE"];
        assert_eq!(nearest("fodler", known), Some("FOLDER"));
        assert_eq!(nearest("quux", known), None);
    }
}
