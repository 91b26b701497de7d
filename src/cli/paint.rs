//! How does text with meaning become lines of a terminal, or plain lines?
//!
//! Without colour, what was removed stands in `[-…-]` and what was added in `{+…+}`.

use clap::ColorChoice;

use super::wording;

/// What a stretch of text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Just text.
    Plain,
    /// What it is about: a question, a heading.
    Strong,
    /// Said beside the matter: sources, times, costs.
    Faint,
    /// New in an answer.
    Added,
    /// No longer in an answer.
    Removed,
    /// To be looked at.
    Warning,
}

/// Text with its meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    style: Style,
    text: String,
}

impl Span {
    /// This text in this style. Nothing in it is a command to a terminal.
    pub(crate) fn new(style: Style, text: impl AsRef<str>) -> Self {
        let text = wording::plain(text.as_ref()).into_owned();
        Self { style, text }
    }

    /// Columns that it takes.
    #[cfg(feature = "serve")]
    pub(crate) fn width(&self) -> usize {
        measure(&self.text)
    }

    /// The same in at most so many columns, its end marked where it is cut.
    #[cfg(feature = "serve")]
    pub(crate) fn cut(mut self, width: usize) -> Self {
        if width == 0 {
            self.text.clear();
        } else if self.width() > width {
            self.text = console::truncate_str(&self.text, width, "…").into_owned();
        }
        self
    }
}

/// How lines are drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    has_color: bool,
    /// Columns to wrap at; not at all without.
    width: Option<usize>,
}

impl Paint {
    /// How lines are drawn on `terminal`, which may be something else than one.
    pub(crate) fn of(terminal: &console::Term, choice: ColorChoice) -> Self {
        let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let is_able = std::env::var_os("TERM").is_none_or(|value| value != "dumb");
        Self {
            has_color: match choice {
                ColorChoice::Always => true,
                ColorChoice::Never => false,
                ColorChoice::Auto => terminal.is_term() && is_wanted && is_able,
            },
            width: terminal.is_term().then(|| columns(terminal)),
        }
    }

    /// Plain lines.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self {
            has_color: false,
            width: None,
        }
    }

    /// The spans as lines, `indent` columns from the left. White space between words
    /// becomes one blank.
    pub(crate) fn lines(self, spans: &[Span], indent: usize) -> Vec<String> {
        let width = self.width.map(|width| width.saturating_sub(indent).max(20));
        let mut lines = vec![Vec::new()];
        let mut column = 0;
        for word in self.words(spans) {
            let length: usize = word.parts.iter().map(|span| measure(&span.text)).sum();
            let is_first = column == 0;
            if !is_first && width.is_some_and(|width| column + 1 + length > width) {
                lines.push(Vec::new());
                column = 0;
            } else if !is_first {
                let style = word.blank_style;
                lines
                    .last_mut()
                    .expect("never empty")
                    .push(Span::new(style, " "));
                column += 1;
            }
            column += length;
            lines.last_mut().expect("never empty").extend(word.parts);
        }
        let margin = " ".repeat(indent);
        let line = |spans: Vec<Span>| format!("{margin}{}", self.draw(spans));
        lines.into_iter().map(line).collect()
    }

    /// One line as it is: neither wrapped nor marked.
    pub(crate) fn line(self, style: Style, text: &str) -> String {
        self.draw(vec![Span::new(style, text)])
    }

    fn words(self, spans: &[Span]) -> Vec<Word> {
        let mut words: Vec<Word> = Vec::new();
        let mut is_open = false;
        for span in spans.iter().flat_map(|span| self.marked(span)) {
            let mut has_begun = false;
            for (index, part) in span.text.split(char::is_whitespace).enumerate() {
                // Before every part but the first stands white space.
                is_open &= index == 0;
                if part.is_empty() {
                    continue;
                }
                let part = Span::new(span.style, part);
                match words.last_mut() {
                    Some(word) if is_open && !self.runs_together(word, &part) => {
                        word.parts.push(part);
                    }
                    _ => words.push(Word {
                        blank_style: if has_begun { span.style } else { Style::Plain },
                        parts: vec![part],
                    }),
                }
                (is_open, has_begun) = (true, true);
            }
        }
        words
    }

    /// Colours alone keep old and new words apart badly, and not at all once copied.
    fn runs_together(self, word: &Word, part: &Span) -> bool {
        let before = word.parts.last().map(|part| part.style);
        self.has_color && before == Some(Style::Removed) && part.style == Style::Added
    }

    /// The span with its marks, white space at its ends outside of them.
    fn marked(self, span: &Span) -> [Span; 3] {
        let (open, close) = self.marks(span.style);
        let text = span.text.trim_start();
        let (before, text) = (&span.text[..span.text.len() - text.len()], text.trim_end());
        let after = &span.text[before.len() + text.len()..];
        let text = match text {
            "" => String::new(),
            text => format!("{open}{text}{close}"),
        };
        [
            Span::new(Style::Plain, before),
            Span::new(span.style, text),
            Span::new(Style::Plain, after),
        ]
    }

    /// What stands around text of a style where colours cannot tell.
    fn marks(self, style: Style) -> (&'static str, &'static str) {
        match style {
            _ if self.has_color => ("", ""),
            Style::Added => ("{+", "+}"),
            Style::Removed => ("[-", "-]"),
            _ => ("", ""),
        }
    }

    /// Spans as one line: neither wrapped nor marked.
    pub(crate) fn draw(self, spans: Vec<Span>) -> String {
        let mut line = String::new();
        for Span { style, text } in spans {
            let code = match style {
                _ if !self.has_color => "",
                Style::Plain => "",
                Style::Strong => "1",
                Style::Faint => "2",
                Style::Added => "32",
                Style::Removed => "31;9",
                Style::Warning => "33",
            };
            if code.is_empty() {
                line.push_str(&text);
            } else {
                line.push_str(&format!("\x1b[{code}m{text}\x1b[0m"));
            }
        }
        line
    }
}

/// A word, of parts in several styles.
struct Word {
    /// Style of the blank before it.
    blank_style: Style,
    parts: Vec<Span>,
}

/// Columns of a terminal that lines fill, at most 100: longer ones are hard to read.
pub(crate) fn columns(terminal: &console::Term) -> usize {
    usize::from(terminal.size().1).clamp(40, 100)
}

/// Columns that text takes.
pub(crate) fn measure(text: &str) -> usize {
    console::measure_text_width(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans() -> Vec<Span> {
        vec![
            Span::new(Style::Plain, "A ticket costs "),
            Span::new(Style::Removed, "12 old"),
            Span::new(Style::Added, "14 new"),
            Span::new(Style::Plain, " crowns.\n"),
            Span::new(Style::Faint, " [prices.md]"),
        ]
    }

    #[test]
    fn plain_lines_mark_changes() {
        let lines = Paint::plain().lines(&spans(), 2);
        assert_eq!(
            lines,
            ["  A ticket costs [-12 old-]{+14 new+} crowns. [prices.md]"]
        );
    }

    #[test]
    fn colours_take_no_columns() {
        let paint = Paint {
            has_color: true,
            width: Some(24),
        };
        let lines = paint.lines(&spans(), 4);
        assert!(
            lines.iter().all(|line| measure(&without_codes(line)) <= 24),
            "{lines:?}"
        );
        assert!(lines.concat().contains("\x1b[31;9m12\x1b[0m"));
        let text: Vec<String> = lines.iter().map(|line| without_codes(line)).collect();
        let words = text
            .join(" ")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(words.contains("12 old 14 new crowns."), "{words}");
    }

    #[cfg(feature = "serve")]
    #[test]
    fn what_is_cut_says_so_and_takes_no_more_than_it_may() {
        let cut = |width| Paint::plain().draw(vec![Span::new(Style::Strong, "twelve").cut(width)]);
        assert_eq!([6, 5, 2, 1, 0].map(cut), ["twelve", "twel…", "t…", "…", ""]);
    }

    fn without_codes(line: &str) -> String {
        let mut plain = String::new();
        let mut is_code = false;
        for c in line.chars() {
            match c {
                '\x1b' => is_code = true,
                'm' if is_code => is_code = false,
                _ if is_code => {}
                c => plain.push(c),
            }
        }
        plain
    }
}
