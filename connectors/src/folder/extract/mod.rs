//! Which text does a PDF, Word or HTML file show?
//!
//! What comes out is close to Markdown, so that it is cut into passages as Markdown is: headings,
//! list items, quotations and paragraphs are told, looks and links are not.
//!
//! # Invariants
//! - The same bytes give the same text.
//! - A file gives its text or a reason, never an empty text: one without any is refused.
//! - What a file unpacks to is bounded before it is unpacked, and so is the text that is taken
//!   from it. No reader recurses deeper than a bound.
//! - A parser that panics has met an unsound file. It runs on a thread of its own, which has room
//!   for the deepest nesting that parsers allow.
//! - Between two pages, and within long ones, a raised flag ends the work. Only opening a file is
//!   not interrupted; it is bounded by the file's size and the limits.

mod docx;
mod html;
mod pdf;
mod writer;

use std::thread;

use super::kind::Format;
use super::title::cut;
use crate::{Rejection, StopFlag};

/// Stack of the thread on which a file is read, in bytes: lopdf's parser takes a hundred levels.
const STACK: usize = 16 << 20;
/// What the parts of one file that are read may unpack to, in bytes.
const UNPACKED_LIMIT: u64 = 64 << 20;

/// What a file shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extracted {
    /// Never blank.
    pub text: String,
    pub title: Option<String>,
}

/// The text of a file of this format, up to `limit` bytes.
pub(super) fn extract(
    format: Format,
    bytes: &[u8],
    limit: u64,
    stop: &StopFlag,
) -> Result<Extracted, Rejection> {
    let read = || match format {
        Format::Html => html::read(bytes, limit),
        Format::Docx => docx::read(bytes, limit),
        Format::Pdf => pdf::read(bytes, limit, stop),
    };
    let unsound = |reason: &str| Rejection::Unsound {
        format: format.name(),
        reason: reason.to_owned(),
    };
    let extracted = thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("document".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, read)
            // Another look may find a thread.
            .map_err(|error| Rejection::unreadable(&error))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(unsound("its parser gave up")))
    })?;
    if extracted.text.trim().is_empty() {
        return Err(Rejection::NoText {
            format: format.name(),
        });
    }
    let title = extracted.title.as_deref().and_then(cut);
    Ok(Extracted { title, ..extracted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_what_its_name_says_is_refused_as_such() {
        let read = |format| extract(format, b"plain words", 99, &StopFlag::new());
        for format in [Format::Pdf, Format::Docx] {
            let refused = read(format).unwrap_err();
            assert!(matches!(refused, Rejection::Unsound { .. }), "{refused:?}");
        }
        assert_eq!(read(Format::Html).unwrap().text, "plain words\n");
    }

    #[test]
    fn what_shows_nothing_is_refused_and_no_empty_document() {
        let refused = extract(
            Format::Html,
            b"<script>app()</script>",
            99,
            &StopFlag::new(),
        );
        let format = "HTML page";
        assert_eq!(refused, Err(Rejection::NoText { format }));
    }
}
