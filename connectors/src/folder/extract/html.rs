//! Which text does a web page show?
//!
//! Read by tokens, without a tree, so that no nesting is too deep. Scripts, styles and drawings are
//! left out; navigation is not, since nothing says for sure what is one. The title is the page's
//! `<title>`, else its first `<h1>`.
//!
//! A page is UTF-8, or UTF-16 with a byte-order mark, or what it declares in its first kilobyte:
//! that is no guess.

use html5gum::emitters::default::{StartTag, Token};
use html5gum::{DefaultEmitter, Tokenizer};

use super::Extracted;
use super::writer::Writer;
use crate::Rejection;
use crate::folder::document;

/// Where a page declares its encoding, in bytes from its beginning.
const DECLARED_WITHIN: usize = 1024;
/// Elements whose contents are not text.
const SKIPPED: [&[u8]; 11] = [
    b"script",
    b"style",
    b"noscript",
    b"template",
    b"svg",
    b"math",
    b"iframe",
    b"object",
    b"canvas",
    b"select",
    b"datalist",
];

/// The text and title of a page.
pub(super) fn read(bytes: &[u8], limit: u64) -> Result<Extracted, Rejection> {
    let text = decode(bytes)?;
    let mut page = Page::new(limit);
    let mut emitter = DefaultEmitter::default();
    // What scripts and styles hold looks like tags.
    emitter.naively_switch_states(true);
    for token in Tokenizer::new_with_emitter(text.as_str(), emitter) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => page.open(&tag),
            Token::EndTag(tag) => page.close(&tag.name),
            Token::String(words) => page.words(&String::from_utf8_lossy(&words)),
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
        if page.out.is_full() {
            return Err(Rejection::Unpacked {
                what: "text",
                limit,
            });
        }
    }
    let title = [page.title, page.heading]
        .into_iter()
        .flatten()
        .find(|title| !title.trim().is_empty());
    Ok(Extracted {
        text: page.out.end(),
        title,
    })
}

/// The characters of a page.
fn decode(bytes: &[u8]) -> Result<String, Rejection> {
    let refused = match document::decode(bytes.to_vec()) {
        Ok(text) => return Ok(text),
        Err(refused) => refused,
    };
    let Some(encoding) = declared(bytes) else {
        return Err(refused);
    };
    let decoded = encoding.decode_without_bom_handling_and_without_replacement(bytes);
    decoded.map(Into::into).ok_or(refused)
}

/// The encoding that a page declares: `charset=…` in its first kilobyte.
fn declared(bytes: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    const WORD: &[u8] = b"charset=";
    let head = &bytes[..bytes.len().min(DECLARED_WITHIN)];
    let head = head.to_ascii_lowercase();
    let at = head.windows(WORD.len()).position(|found| found == WORD)?;
    let value = &head[at + WORD.len()..];
    let value = match value {
        [b'"' | b'\'', rest @ ..] => rest,
        _ => value,
    };
    let is_label = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    let len = value.iter().take_while(|byte| is_label(byte)).count();
    encoding_rs::Encoding::for_label(&value[..len])
}

/// A page that is being read.
struct Page {
    out: Writer,
    /// Lists around, and the number of the next item where they are numbered.
    lists: Vec<Option<u64>>,
    /// Whether no cell of the row was met.
    is_first_cell: bool,
    /// The element that is left out, and how many of its name stand open.
    skipped: Option<(Vec<u8>, usize)>,
    title: Option<String>,
    is_in_title: bool,
    /// The first `<h1>`.
    heading: Option<String>,
    is_in_heading: bool,
}

/// What an element does to the lines around it.
enum Flow {
    Paragraph,
    Line,
    Inline,
}

fn flow(name: &[u8]) -> Flow {
    match name {
        b"p" | b"pre" | b"table" | b"dl" | b"section" | b"article" | b"figure" | b"hr"
        | b"details" | b"fieldset" | b"aside" | b"header" | b"footer" | b"main" | b"nav" => {
            Flow::Paragraph
        }
        b"div" | b"tr" | b"dt" | b"dd" | b"li" | b"br" | b"caption" | b"figcaption"
        | b"summary" | b"address" | b"form" | b"legend" | b"option" | b"body" | b"html"
        | b"thead" | b"tbody" | b"tfoot" | b"center" | b"title" => Flow::Line,
        _ => Flow::Inline,
    }
}

impl Page {
    fn new(limit: u64) -> Self {
        Self {
            out: Writer::new(limit),
            lists: Vec::new(),
            is_first_cell: true,
            skipped: None,
            title: None,
            is_in_title: false,
            heading: None,
            is_in_heading: false,
        }
    }

    fn open(&mut self, tag: &StartTag<()>) {
        let name: &[u8] = &tag.name;
        if let Some((skipped, n_open)) = &mut self.skipped {
            if skipped == name && !tag.self_closing {
                *n_open += 1;
            }
            return;
        }
        if SKIPPED.contains(&name) {
            if !tag.self_closing {
                self.skipped = Some((name.to_vec(), 1));
            }
            return;
        }
        match name {
            [b'h', level @ b'1'..=b'6'] => {
                self.out.heading(usize::from(level - b'0'));
                if *level == b'1' && self.heading.is_none() {
                    self.heading = Some(String::new());
                    self.is_in_heading = true;
                }
            }
            b"title" => {
                self.is_in_title = self.title.is_none();
                self.title.get_or_insert_default();
            }
            b"blockquote" => self.out.open_quote(),
            b"ul" | b"menu" | b"ol" => {
                if self.lists.is_empty() {
                    self.out.paragraph();
                }
                let first = attribute(tag, b"start").and_then(|start| start.trim().parse().ok());
                let is_numbered = name == b"ol";
                self.lists.push(is_numbered.then(|| first.unwrap_or(1)));
            }
            b"li" => {
                let depth = self.lists.len().saturating_sub(1);
                match self.lists.last_mut() {
                    Some(Some(number)) => {
                        self.out.item(depth, &format!("{number}."));
                        *number = number.saturating_add(1);
                    }
                    _ => self.out.item(depth, "-"),
                }
            }
            b"tr" => {
                self.out.row();
                self.is_first_cell = true;
            }
            b"td" | b"th" => {
                self.out.cell(self.is_first_cell);
                self.is_first_cell = false;
            }
            b"pre" => {
                self.out.paragraph();
                self.out.fence();
                self.out.is_verbatim = true;
            }
            b"img" => {
                if let Some(words) = attribute(tag, b"alt") {
                    self.out.space();
                    self.words(&words);
                    self.out.space();
                }
            }
            other => self.flow(other),
        }
    }

    fn close(&mut self, name: &[u8]) {
        if let Some((skipped, n_open)) = &mut self.skipped {
            if skipped == name {
                *n_open -= 1;
                if *n_open == 0 {
                    self.skipped = None;
                }
            }
            return;
        }
        match name {
            [b'h', b'1'..=b'6'] => {
                self.is_in_heading = false;
                self.out.end_lead();
                self.out.paragraph();
            }
            b"title" => self.is_in_title = false,
            b"blockquote" => self.out.close_quote(),
            b"ul" | b"menu" | b"ol" => {
                self.lists.pop();
                match self.lists.is_empty() {
                    true => self.out.paragraph(),
                    false => self.out.line(),
                }
            }
            b"li" => {
                self.out.end_lead();
                self.out.line();
            }
            b"td" | b"th" => self.out.end_cell(),
            b"pre" if self.out.is_verbatim => {
                self.out.is_verbatim = false;
                self.out.fence();
                self.out.paragraph();
            }
            other => self.flow(other),
        }
    }

    fn flow(&mut self, name: &[u8]) {
        match flow(name) {
            Flow::Paragraph => self.out.paragraph(),
            Flow::Line => self.out.line(),
            Flow::Inline => {}
        }
    }

    fn words(&mut self, words: &str) {
        if self.skipped.is_some() {
            return;
        }
        if self.is_in_title {
            self.title.get_or_insert_default().push_str(words);
            return;
        }
        if self.is_in_heading
            && let Some(heading) = &mut self.heading
        {
            heading.push_str(words);
        }
        self.out.words(words);
    }
}

fn attribute(tag: &StartTag<()>, name: &[u8]) -> Option<String> {
    let value = tag.attributes.get(name)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(page: &str) -> String {
        read(page.as_bytes(), 1 << 20).unwrap().text
    }

    #[test]
    fn a_page_is_read_as_it_shows() {
        let page = "<!doctype html><html><head><title>Ferry &amp; Co</title>\
            <style>p { color: red }</style><script>if (a < b) { '</p>' }</script></head><body>\
            <h1>Ferries</h1><p>The  ferry\n leaves at <b>six</b>.<br>Daily.</p>\
            <ul><li>Bikes: 5<ol start=3><li>one</li><li>two</li></ol></li><li><p>Dogs</p></li></ul>\
            <blockquote><p>Book early.</p><p>Really.</p></blockquote>\
            <table><tr><th>Day</th><th>Price</th></tr><tr><td><p>Monday</p></td><td><p>4</p></td></tr></table>\
            <pre>a\n  b\n</pre><img src=x alt='A map'><p></p><h2></h2></body></html>";
        let found = read(page.as_bytes(), 1 << 20).unwrap();
        assert_eq!(found.title.as_deref(), Some("Ferry & Co"));
        let expected = "# Ferries\n\nThe ferry leaves at six.\nDaily.\n\n- Bikes: 5\n  3. one\n  4. two\n\n\
            - Dogs\n\n> Book early.\n\n> Really.\n\nDay | Price\nMonday | 4\n\n```\na\n  b\n```\n\nA map\n";
        assert_eq!(found.text, expected);
    }

    #[test]
    fn without_a_title_the_first_heading_is_one() {
        let found = read(b"<h2>b</h2><h1>The <i>Title</i></h1><h1>c</h1>", 99).unwrap();
        assert_eq!(found.title.as_deref(), Some("The Title"));
        let found = read(b"<title> </title><h1>T</h1>", 99).unwrap();
        assert_eq!(found.title.as_deref(), Some("T"));
        assert_eq!(read(b"words", 99).unwrap().title, None);
    }

    #[test]
    fn a_page_has_the_encoding_that_it_declares_and_no_other() {
        let latin = b"<meta charset=\"ISO-8859-1\"><p>caf\xe9";
        assert_eq!(read(latin, 99).unwrap().text, "caf\u{e9}\n");
        let undeclared = read(b"<p>caf\xe9", 99).unwrap_err();
        assert_eq!(undeclared, Rejection::NotUtf8 { at: 6 });
        let wrong = read(b"<meta charset=shift_jis><p>\xff\xff", 99);
        assert!(matches!(wrong, Err(Rejection::NotUtf8 { .. })));
    }

    #[test]
    fn no_nesting_is_too_deep_and_no_text_over_the_limit() {
        let deep = format!("{}x", "<div><ul><li><blockquote>".repeat(20_000));
        assert!(text(&deep).ends_with("x\n"));
        let long = read("word ".repeat(30).as_bytes(), 100);
        let what = "text";
        assert_eq!(long, Err(Rejection::Unpacked { what, limit: 100 }));
    }

    proptest! {
        #[test]
        fn any_page_is_read(page in "(<(/?(p|li|ul|pre|td|tr|h1|title|svg|script)|[a-z ='/]{0,9})>|&[a-z#0-9;]{0,6}|\\PC|\n){0,60}") {
            let found = read(page.as_bytes(), 1 << 20).unwrap();
            let again = read(page.as_bytes(), 1 << 20).unwrap();
            prop_assert_eq!(&found, &again);
            prop_assert!(!found.text.starts_with('\n') && !found.text.ends_with("\n\n"));
        }
    }
}
