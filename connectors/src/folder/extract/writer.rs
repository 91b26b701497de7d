//! Lines, paragraphs and blanks: text that is put together from pieces.
//!
//! Whoever writes says what a piece is; blanks and line ends are written when words follow them.
//! So no text begins or ends with them, and none stand doubled.

/// Quotations and lists within one another that are shown; deeper ones look like these.
const MAX_DEPTH: usize = 8;

/// Text that grows, up to a limit.
#[derive(Debug)]
pub(super) struct Writer {
    text: String,
    /// In bytes.
    limit: usize,
    /// Line ends before the next words: none, one, or two for a paragraph.
    breaks: usize,
    /// Whether a blank stands before the next words.
    is_spaced: bool,
    /// What stands at the beginning of the next words' line: `## `, `- `.
    lead: String,
    /// Quotations around the next words.
    quotes: usize,
    /// A cell has begun and has no words: no line ends before them.
    is_in_row: bool,
    /// Words are written as they stand: blanks, line ends and all.
    pub(super) is_verbatim: bool,
}

impl Writer {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            text: String::new(),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            breaks: 0,
            is_spaced: false,
            lead: String::new(),
            quotes: 0,
            is_in_row: false,
            is_verbatim: false,
        }
    }

    /// Words go on in the next line.
    pub(super) fn line(&mut self) {
        if !self.is_in_row {
            self.breaks = self.breaks.max(1);
        }
    }

    /// Words go on in the next paragraph.
    pub(super) fn paragraph(&mut self) {
        if !self.is_in_row {
            self.breaks = 2;
        }
    }

    /// Words go on in the next line, though a paragraph was asked for.
    pub(super) fn adjoin(&mut self) {
        self.breaks = self.breaks.min(1);
    }

    /// A blank before the next words of this line.
    pub(super) fn space(&mut self) {
        self.is_spaced = true;
    }

    /// The next words are a heading.
    pub(super) fn heading(&mut self, level: usize) {
        self.paragraph();
        self.lead = format!("{} ", "#".repeat(level.clamp(1, 6)));
    }

    /// The next words are an item of a list that stands within `depth` others.
    pub(super) fn item(&mut self, depth: usize, mark: &str) {
        self.line();
        self.lead = format!("{}{mark} ", "  ".repeat(depth.min(MAX_DEPTH)));
    }

    /// A heading or item is over; it may have had no words.
    pub(super) fn end_lead(&mut self) {
        self.lead.clear();
    }

    pub(super) fn open_quote(&mut self) {
        self.paragraph();
        self.quotes += 1;
    }

    pub(super) fn close_quote(&mut self) {
        self.paragraph();
        self.quotes = self.quotes.saturating_sub(1);
    }

    /// A row begins.
    pub(super) fn row(&mut self) {
        self.is_in_row = false;
        self.line();
    }

    /// The next words are another cell of a row, whatever paragraphs it has.
    pub(super) fn cell(&mut self, is_first: bool) {
        if !is_first {
            self.words(" | ");
        }
        self.is_in_row = true;
    }

    /// A cell is over: the end of its last paragraph is no end of the row.
    pub(super) fn end_cell(&mut self) {
        if !self.is_in_row {
            self.breaks = 0;
        }
        self.is_in_row = false;
    }

    /// A fence around what stands as it is.
    pub(super) fn fence(&mut self) {
        self.line();
        self.words("```");
        self.line();
    }

    /// Words, with any blanks between.
    pub(super) fn words(&mut self, words: &str) {
        for c in words.chars() {
            if self.is_full() {
                return;
            }
            match c {
                // Soft hyphens and zero-width blanks show nothing.
                '\u{ad}' | '\u{200b}' | '\u{feff}' => {}
                '\n' if self.is_verbatim => {
                    self.settle();
                    self.text.push('\n');
                }
                c if self.is_verbatim && (c == '\t' || !c.is_control()) => {
                    self.settle();
                    self.text.push(c);
                }
                c if c.is_whitespace() || c.is_control() => self.is_spaced = true,
                c => {
                    self.settle();
                    self.text.push(c);
                }
            }
        }
    }

    /// Writes what was asked for before the next words.
    fn settle(&mut self) {
        let begins = self.text.is_empty();
        if self.breaks > 0 && !begins {
            let there = self.text.len() - self.text.trim_end_matches('\n').len();
            for _ in there..self.breaks {
                self.text.push('\n');
            }
        }
        if begins || self.breaks > 0 {
            for _ in 0..self.quotes.min(MAX_DEPTH) {
                self.text.push_str("> ");
            }
            self.text.push_str(&std::mem::take(&mut self.lead));
        } else if self.is_spaced {
            self.text.push(' ');
        }
        self.breaks = 0;
        self.is_spaced = false;
        self.is_in_row = false;
    }

    /// Whether the limit is passed.
    pub(super) fn is_full(&self) -> bool {
        self.text.len() > self.limit
    }

    /// The text, its last line ended.
    pub(super) fn end(mut self) -> String {
        self.text.truncate(self.text.trim_end().len());
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text
    }
}
