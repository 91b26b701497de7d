//! From placed letters to lines.
//!
//! Each piece of text has a place on its page and a size. Against the piece before it, it goes on
//! in the same word, after a blank, in the next line, or in another paragraph; by distances in
//! units of the size, since nothing else is told.

/// A gap along the line that is a blank: a third less than the narrowest blank of common fonts.
const BLANK: f32 = 0.17;
/// A step across the line that is another line; less is a raised or lowered letter.
const LINE: f32 = 0.55;
/// A step across the line that is another paragraph.
const PARAGRAPH: f32 = 1.75;
/// How much larger than the middle of a page's lines a title is set.
const TITLE: f32 = 1.15;
/// Lines of one title.
const TITLE_LINES: usize = 3;

/// A place on a page.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    pub x: f32,
    pub y: f32,
}

/// Where a piece of text stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub begin: Point,
    pub end: Point,
    /// Height of its letters on the page.
    pub size: f32,
}

/// The text of a file, put together.
#[derive(Debug)]
pub(super) struct Layout {
    text: String,
    /// In bytes.
    limit: usize,
    last: Option<Span>,
    /// Of the page: where each line begins in the text, and the size of its letters.
    lines: Vec<(usize, f32)>,
    n_known: u64,
    n_unknown: u64,
}

impl Layout {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            text: String::new(),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            last: None,
            lines: Vec::new(),
            n_known: 0,
            n_unknown: 0,
        }
    }

    /// Puts a piece behind what is there.
    pub(super) fn put(&mut self, words: &str, span: Span) {
        if words.is_empty() || self.is_full() {
            return;
        }
        match self.last.map(|last| step(&last, &span)) {
            None => self.begin_line(span.size),
            Some(Step::Paragraph) => {
                self.end_line();
                self.end_line();
                self.begin_line(span.size);
            }
            Some(Step::Line) => {
                self.end_line();
                self.begin_line(span.size);
            }
            Some(Step::Blank) => self.blank(),
            Some(Step::None) => {}
        }
        for c in words.chars() {
            match c {
                char::REPLACEMENT_CHARACTER => {
                    self.n_unknown += 1;
                    self.text.push(c);
                }
                '\u{ad}' => {}
                // Letters that are set as one.
                '\u{fb00}'..='\u{fb06}' => {
                    self.n_known += 1;
                    self.text.push_str(ligature(c));
                }
                c if c.is_whitespace() || c.is_control() => self.blank(),
                c => {
                    self.n_known += 1;
                    self.text.push(c);
                }
            }
        }
        self.last = Some(span);
    }

    fn begin_line(&mut self, size: f32) {
        self.lines.push((self.text.len(), size));
    }

    fn end_line(&mut self) {
        while self.text.ends_with(' ') {
            self.text.pop();
        }
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    fn blank(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with([' ', '\n']) {
            self.text.push(' ');
        }
    }

    /// What follows stands on another page.
    pub(super) fn end_page(&mut self) {
        if self.last.take().is_some() {
            self.end_line();
            self.end_line();
        }
    }

    /// The first line of the page that is set larger than most, with those of its size that follow;
    /// none where all are alike.
    pub(super) fn largest_line(&self) -> Option<String> {
        let mut sizes: Vec<f32> = self.lines.iter().map(|(_, size)| *size).collect();
        sizes.sort_by(f32::total_cmp);
        let largest = *sizes.last()?;
        if largest < sizes[sizes.len() / 2] * TITLE {
            return None;
        }
        let is_large = |(_, size): &(usize, f32)| *size > largest * 0.99;
        let first = self.lines.iter().position(is_large)?;
        let lines = self.lines[first..].iter();
        let n_lines = lines
            .take(TITLE_LINES)
            .take_while(|line| is_large(line))
            .count();
        let (begin, _) = self.lines[first];
        let end = self.lines.get(first + n_lines).map(|(at, _)| *at);
        let title = self.text.get(begin..end.unwrap_or(self.text.len()))?;
        let words: Vec<&str> = title.split_whitespace().collect();
        Some(words.join(" "))
    }

    /// How many letters were known, and how many were not.
    pub(super) fn letters(&self) -> (u64, u64) {
        (self.n_known, self.n_unknown)
    }

    /// Whether the limit is passed.
    pub(super) fn is_full(&self) -> bool {
        self.text.len() > self.limit
    }

    pub(super) fn end(mut self) -> String {
        self.text.truncate(self.text.trim_end().len());
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text
    }
}

/// How a piece goes on from the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    None,
    Blank,
    Line,
    Paragraph,
}

fn step(last: &Span, next: &Span) -> Step {
    let size = last.size.max(next.size).max(f32::MIN_POSITIVE);
    // The direction of writing: text may stand upright.
    let (x, y) = (last.end.x - last.begin.x, last.end.y - last.begin.y);
    let length = x.hypot(y);
    let (x, y) = match length > 0.0 && length.is_finite() {
        true => (x / length, y / length),
        false => (1.0, 0.0),
    };
    let (dx, dy) = (next.begin.x - last.end.x, next.begin.y - last.end.y);
    let along = (dx * x + dy * y) / size;
    let across = (dy * x - dx * y).abs() / size;
    if !along.is_finite() || !across.is_finite() || across > PARAGRAPH {
        Step::Paragraph
    } else if across > LINE || along < -1.0 {
        Step::Line
    } else if along > BLANK {
        Step::Blank
    } else {
        Step::None
    }
}

fn ligature(c: char) -> &'static str {
    match c {
        '\u{fb00}' => "ff",
        '\u{fb01}' => "fi",
        '\u{fb02}' => "fl",
        '\u{fb03}' => "ffi",
        '\u{fb04}' => "ffl",
        _ => "st",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(x: f32, y: f32, width: f32, size: f32) -> Span {
        let begin = Point { x, y };
        let end = Point { x: x + width, y };
        Span { begin, end, size }
    }

    #[test]
    fn distances_are_blanks_lines_and_paragraphs() {
        let mut layout = Layout::new(1000);
        layout.put("Fer", span(0.0, 100.0, 15.0, 10.0));
        layout.put("ries", span(15.5, 100.0, 15.0, 10.0));
        layout.put("go", span(33.5, 100.0, 10.0, 10.0));
        layout.put("2", span(43.5, 104.0, 3.0, 6.0));
        layout.put("of\u{fb01}ce", span(0.0, 88.0, 20.0, 10.0));
        layout.put("next", span(0.0, 60.0, 20.0, 10.0));
        layout.end_page();
        layout.put("page ", span(0.0, 60.0, 20.0, 10.0));
        assert_eq!(layout.end(), "Ferries go2\noffice\n\nnext\n\npage\n");
    }

    #[test]
    fn text_that_stands_upright_is_a_line_too() {
        let up = |y, words: &str, layout: &mut Layout| {
            let (begin, end) = (
                Point { x: 50.0, y },
                Point {
                    x: 50.0,
                    y: y + 20.0,
                },
            );
            layout.put(
                words,
                Span {
                    begin,
                    end,
                    size: 10.0,
                },
            );
        };
        let mut layout = Layout::new(1000);
        up(0.0, "up", &mut layout);
        up(23.0, "right", &mut layout);
        assert_eq!(layout.end(), "up right\n");
    }

    #[test]
    fn a_title_is_set_larger_than_the_rest() {
        let mut layout = Layout::new(1000);
        layout.put("a running head", span(0.0, 200.0, 50.0, 9.0));
        layout.put("The Ferries", span(0.0, 150.0, 50.0, 18.0));
        layout.put("of Öland", span(0.0, 130.0, 50.0, 18.0));
        layout.put("text", span(0.0, 100.0, 20.0, 10.0));
        layout.put("text", span(0.0, 88.0, 20.0, 10.0));
        assert_eq!(
            layout.largest_line().as_deref(),
            Some("The Ferries of Öland")
        );
        let mut plain = Layout::new(1000);
        plain.put("text", span(0.0, 100.0, 20.0, 10.0));
        plain.put("text", span(0.0, 88.0, 20.0, 10.0));
        assert_eq!(plain.largest_line(), None);
    }
}
