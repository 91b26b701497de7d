//! Which text does a Word document hold?
//!
//! A `.docx` file is a zip archive of XML. Its body is read by events, and of the rest what it takes
//! to understand the body: which styles are headings, and the title. Footnotes and endnotes stand
//! behind the body. What was deleted or moved away under "track changes" is left out, headers and
//! footers are, too.
//!
//! Archives are bounded twice: each part that is read, by what is left of the limit for all.

use std::collections::HashMap;
use std::io::{Cursor, Read as _};

use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use zip::ZipArchive;
use zip::result::ZipError;

use super::writer::Writer;
use super::{Extracted, UNPACKED_LIMIT};
use crate::Rejection;
use crate::folder::kind::Format;

/// What documents of Word 97, and encrypted ones, begin with.
const COMPOUND_FILE: [u8; 8] = [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];

/// The text and title of a document.
pub(super) fn read(bytes: &[u8], limit: u64) -> Result<Extracted, Rejection> {
    if bytes.starts_with(&COMPOUND_FILE) {
        return Err(unsound(
            "it has a password, or is of Word 97; save it as .docx without one",
        ));
    }
    let archive =
        ZipArchive::new(Cursor::new(bytes)).map_err(|error| unsound(&error.to_string()))?;
    let mut parts = Parts {
        archive,
        left: UNPACKED_LIMIT,
    };
    let body = main_part(&mut parts)?;
    let folder = body.rsplit_once('/').map_or("", |(folder, _)| folder);
    let beside = |name: &str| match folder {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    };
    let styles = parts.read(&beside("styles.xml"))?.map(|xml| styles(&xml));
    let mut text = Body {
        out: Writer::new(limit),
        levels: styles.transpose()?.unwrap_or_default(),
        heading: None,
        is_titled: false,
        style: Style::default(),
        is_begun: false,
        is_item: false,
        rows: Vec::new(),
    };
    let xml = parts.read(&body)?;
    text.read(&xml.ok_or_else(|| unsound("it has no body"))?)?;
    for notes in ["footnotes.xml", "endnotes.xml"] {
        if let Some(xml) = parts.read(&beside(notes))? {
            text.out.paragraph();
            text.read(&xml)?;
        }
    }
    if text.out.is_full() {
        return Err(Rejection::Unpacked {
            what: "text",
            limit,
        });
    }
    let title = match parts.read("docProps/core.xml")? {
        Some(xml) => core_title(&xml)?,
        None => None,
    };
    Ok(Extracted {
        title: title.or(text.heading),
        text: text.out.end(),
    })
}

fn unsound(reason: &str) -> Rejection {
    Rejection::Unsound {
        format: Format::Docx.name(),
        reason: reason.to_owned(),
    }
}

/// The parts of an archive.
struct Parts<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    /// How many bytes may still be unpacked.
    left: u64,
}

impl Parts<'_> {
    /// The text of a part; none if there is no such part.
    fn read(&mut self, name: &str) -> Result<Option<String>, Rejection> {
        let part = match self.archive.by_name(name) {
            Ok(part) => part,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(error) => return Err(unsound(&error.to_string())),
        };
        let mut bytes = Vec::new();
        let read = part.take(self.left + 1).read_to_end(&mut bytes);
        read.map_err(|error| unsound(&error.to_string()))?;
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or(Rejection::Unpacked {
            what: "XML",
            limit: UNPACKED_LIMIT,
        })?;
        let text = crate::folder::document::decode(bytes);
        text.map(Some)
            .map_err(|error| unsound(&format!("{name}: {error}")))
    }
}

/// The name of the part that is the document's body.
fn main_part(parts: &mut Parts<'_>) -> Result<String, Rejection> {
    let mut found = None;
    if let Some(xml) = parts.read("_rels/.rels")? {
        events(&xml, |event| {
            if let Event::Start(tag) | Event::Empty(tag) = &event
                && attribute(tag, "Type").is_some_and(|of| of.ends_with("/officeDocument"))
                && let Some(target) = attribute(tag, "Target")
            {
                found = Some(target.trim_start_matches('/').to_owned());
            }
        })?;
    }
    Ok(found.unwrap_or_else(|| "word/document.xml".to_owned()))
}

/// The levels of headings by the styles' ids: Word's names of built-in styles are English, in every
/// language, and their ids are not.
fn styles(xml: &str) -> Result<HashMap<String, usize>, Rejection> {
    let mut levels = HashMap::new();
    let mut id = None;
    events(xml, |event| {
        let (Event::Start(tag) | Event::Empty(tag)) = &event else {
            return;
        };
        let level = match tag.local_name().as_ref() {
            "style" => {
                id = attribute(tag, "styleId");
                None
            }
            "name" => attribute(tag, "val").and_then(|name| heading_level(&name)),
            "outlineLvl" => attribute(tag, "val").and_then(|level| outline_level(&level)),
            _ => None,
        };
        if let (Some(id), Some(level)) = (&id, level) {
            levels.insert(id.clone(), level);
        }
    })?;
    Ok(levels)
}

fn heading_level(style: &str) -> Option<usize> {
    let style = style.to_lowercase();
    if style == "title" {
        return Some(1);
    }
    let level = style.strip_prefix("heading ")?.parse().ok()?;
    (1..=9).contains(&level).then_some(level)
}

/// Levels are counted from 0; 9 is body text.
fn outline_level(value: &str) -> Option<usize> {
    let level: usize = value.parse().ok()?;
    (level < 9).then_some(level + 1)
}

fn core_title(xml: &str) -> Result<Option<String>, Rejection> {
    let mut title = None;
    let mut is_open = false;
    events(xml, |event| match event {
        Event::Start(tag) if tag.local_name().as_ref() == "title" => is_open = true,
        Event::End(tag) if tag.local_name().as_ref() == "title" => is_open = false,
        event if is_open => {
            if let Some(words) = words(&event) {
                title.get_or_insert_with(String::new).push_str(&words);
            }
        }
        _ => {}
    })?;
    Ok(title.filter(|title: &String| !title.trim().is_empty()))
}

/// Calls for each event of a part.
fn events(xml: &str, mut of: impl FnMut(Event<'_>)) -> Result<(), Rejection> {
    let mut reader = Reader::from_str(xml);
    let mut n_open = 0_u64;
    loop {
        let event = reader.read_event();
        match event.map_err(|error| unsound(&error.to_string()))? {
            Event::Eof if n_open > 0 => return Err(unsound("its XML is cut off")),
            Event::Eof => return Ok(()),
            event => {
                match event {
                    Event::Start(_) => n_open += 1,
                    // The reader refuses an end without a beginning.
                    Event::End(_) => n_open = n_open.saturating_sub(1),
                    _ => {}
                }
                of(event);
            }
        }
    }
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let mut attributes = tag.attributes().flatten();
    let found = attributes.find(|found| found.key.local_name().as_ref() == name)?;
    Some(
        found
            .normalized_value(XmlVersion::Implicit1_0)
            .ok()?
            .into_owned(),
    )
}

/// The characters that an event stands for.
fn words(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Text(text) => Some(text.to_string()),
        Event::CData(text) => Some(text.to_string()),
        Event::GeneralRef(name) => match name.resolve_char_ref() {
            Ok(Some(c)) => Some(c.to_string()),
            _ => resolve_xml_entity(name).map(str::to_owned),
        },
        _ => None,
    }
}

/// How a paragraph is set.
#[derive(Debug, Default)]
struct Style {
    /// Of a heading.
    level: Option<usize>,
    /// Of a list's item: the lists around it.
    depth: Option<usize>,
}

/// A body that is being read.
struct Body {
    out: Writer,
    /// The levels of headings by style.
    levels: HashMap<String, usize>,
    /// The first heading.
    heading: Option<String>,
    /// Whether the first heading is over.
    is_titled: bool,
    /// Of the paragraph.
    style: Style,
    /// Whether the paragraph has words.
    is_begun: bool,
    /// Whether the paragraph, or the one before, is an item of a list.
    is_item: bool,
    /// Of each table around: whether no cell of its row was met.
    rows: Vec<bool>,
}

impl Body {
    fn read(&mut self, xml: &str) -> Result<(), Rejection> {
        let mut is_text = false;
        // Open elements within one whose contents do not show, itself included.
        let mut n_skipped = 0;
        events(xml, |event| {
            let is_empty = matches!(event, Event::Empty(_));
            match &event {
                Event::Start(tag) | Event::Empty(tag) => {
                    let name = tag.local_name();
                    let is_hidden = matches!(name.as_ref(), "Fallback" | "moveFrom");
                    if n_skipped > 0 || is_hidden {
                        n_skipped += usize::from(!is_empty);
                        return;
                    }
                    is_text = name.as_ref() == "t" && !is_empty;
                    self.open(tag, name.as_ref());
                }
                Event::End(_) if n_skipped > 0 => n_skipped -= 1,
                Event::End(tag) => {
                    is_text = false;
                    self.close(tag.local_name().as_ref());
                }
                event if is_text && n_skipped == 0 => {
                    if let Some(words) = words(event) {
                        self.words(&words);
                    }
                }
                _ => {}
            }
        })
    }

    fn open(&mut self, tag: &BytesStart<'_>, name: &str) {
        match name {
            "p" => {
                self.style = Style::default();
                self.is_begun = false;
                if self.rows.is_empty() {
                    self.out.paragraph();
                } else {
                    self.out.line();
                }
            }
            "pStyle" => {
                let level = attribute(tag, "val").and_then(|id| self.levels.get(&id).copied());
                self.style.level = level.or(self.style.level);
            }
            "outlineLvl" => {
                let level = attribute(tag, "val").and_then(|level| outline_level(&level));
                self.style.level = level.or(self.style.level);
            }
            "ilvl" => {
                self.style.depth = attribute(tag, "val").and_then(|depth| depth.parse().ok());
            }
            "numPr" => {
                self.style.depth.get_or_insert(0);
            }
            "tab" | "ptab" => self.out.space(),
            "noBreakHyphen" => self.words("-"),
            "br" | "cr" => self.out.line(),
            "tbl" => {
                if self.rows.is_empty() {
                    self.out.paragraph();
                }
                self.rows.push(true);
            }
            "tr" => {
                self.out.row();
                if let Some(is_first) = self.rows.last_mut() {
                    *is_first = true;
                }
            }
            "tc" => {
                if let Some(is_first) = self.rows.last_mut() {
                    self.out.cell(std::mem::replace(is_first, false));
                }
            }
            "r" => self.begin(),
            _ => {}
        }
    }

    /// The first words of a paragraph come: it is known by now what it is.
    fn begin(&mut self) {
        if std::mem::replace(&mut self.is_begun, true) {
            return;
        }
        let style = std::mem::take(&mut self.style);
        if style.depth.is_none() {
            self.is_item = false;
        }
        match style {
            Style {
                level: Some(level), ..
            } => {
                self.is_item = false;
                self.out.heading(level);
                if !self.is_titled {
                    self.heading.get_or_insert_default();
                }
            }
            Style {
                depth: Some(depth), ..
            } => {
                if std::mem::replace(&mut self.is_item, true) {
                    self.out.adjoin();
                }
                self.out.item(depth, "-");
            }
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "p" => {
                self.out.end_lead();
                self.is_titled |= self.heading.as_ref().is_some_and(|words| !words.is_empty());
                if self.rows.is_empty() {
                    self.out.paragraph();
                } else {
                    self.out.line();
                }
            }
            "tc" => self.out.end_cell(),
            "tbl" => {
                self.rows.pop();
                self.out.paragraph();
            }
            _ => {}
        }
    }

    fn words(&mut self, words: &str) {
        if !self.is_titled
            && let Some(heading) = &mut self.heading
        {
            heading.push_str(words);
        }
        self.out.words(words);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn archive(parts: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, xml) in parts {
            let options = SimpleFileOptions::default();
            archive.start_file(*name, options).unwrap();
            archive.write_all(xml.as_bytes()).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    fn body(paragraphs: &str) -> String {
        format!("<w:document><w:body>{paragraphs}</w:body></w:document>")
    }

    fn paragraph(style: &str, words: &str) -> String {
        format!("<w:p><w:pPr>{style}</w:pPr><w:r><w:t>{words}</w:t></w:r></w:p>")
    }

    fn document(paragraphs: &str) -> Vec<u8> {
        archive(&[("word/document.xml", &body(paragraphs))])
    }

    const STYLES: &str = "<w:styles>\
        <w:style w:styleId=\"berschrift2\"><w:name w:val=\"heading 2\"/></w:style>\
        <w:style w:styleId=\"Text\"><w:name w:val=\"Normal\"/></w:style></w:styles>";

    #[test]
    fn headings_lists_tables_and_notes_are_told() {
        let cell = |words: &str| format!("<w:tc>{}</w:tc>", paragraph("", words));
        let item = |level, words: &str| {
            let style = format!("<w:numPr><w:ilvl w:val=\"{level}\"/></w:numPr>");
            paragraph(&style, words)
        };
        let text = [
            paragraph("<w:pStyle w:val=\"berschrift2\"/>", "Ferries &amp; boats"),
            paragraph(
                "<w:pStyle w:val=\"Text\"/>",
                "The ferry leaves at</w:t><w:tab/><w:t>six.",
            ),
            item(0, "Bikes"),
            item(1, "Dogs"),
            format!(
                "<w:tbl><w:tr>{}{}</w:tr><w:tr>{}{}</w:tr></w:tbl>",
                cell("Day"),
                cell("Price"),
                cell(""),
                cell("4 &#8364;")
            ),
            paragraph(
                "",
                "</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>\
                <w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom><w:r><w:t>Kept.",
            ),
        ];
        let bytes = archive(&[
            ("word/document.xml", &body(&text.concat())),
            ("word/styles.xml", STYLES),
            (
                "word/footnotes.xml",
                &format!("<w:footnotes>{}</w:footnotes>", paragraph("", "A note.")),
            ),
        ]);
        let found = read(&bytes, 1 << 20).unwrap();
        let expected = "## Ferries & boats\n\nThe ferry leaves at six.\n\n- Bikes\n  - Dogs\n\n\
            Day | Price\n| 4 \u{20ac}\n\nKept.\n\nA note.\n";
        assert_eq!(found.text, expected);
        assert_eq!(found.title.as_deref(), Some("Ferries & boats"));
    }

    #[test]
    fn the_title_of_its_properties_comes_first_and_the_body_is_where_it_is_said_to_be() {
        let bytes = archive(&[
            (
                "_rels/.rels",
                "<Relationships><Relationship Type=\"http://x/officeDocument\" Target=\"/w/d2.xml\"/></Relationships>",
            ),
            (
                "docProps/core.xml",
                "<cp:coreProperties><dc:title>Prices &lt; 5</dc:title></cp:coreProperties>",
            ),
            ("w/d2.xml", &body(&paragraph("", "Words."))),
        ]);
        let found = read(&bytes, 99).unwrap();
        assert_eq!(found.title.as_deref(), Some("Prices < 5"));
        assert_eq!(found.text, "Words.\n");
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_reason() {
        let said = |bytes: &[u8]| read(bytes, 1 << 20).unwrap_err().to_string();
        let old = [&COMPOUND_FILE[..], &[0; 600]].concat();
        assert!(said(&old).contains("it has a password, or is of Word 97"));
        assert!(said(&archive(&[])).contains("it has no body"));
        let cut = archive(&[("word/document.xml", "<w:document><w:body><w:p>")]);
        assert!(said(&cut).contains("its XML is cut off"));
        let mut damaged = document(&paragraph("", &"words ".repeat(99)));
        damaged[60] ^= 0xff;
        assert!(said(&damaged).starts_with("not a sound Word document: "));
    }

    #[test]
    fn an_archive_that_unpacks_to_more_than_the_limit_is_not_unpacked() {
        let bomb = document(&" ".repeat(usize::try_from(UNPACKED_LIMIT).unwrap()));
        assert!(bomb.len() < 1 << 20);
        let limit = UNPACKED_LIMIT;
        assert_eq!(
            read(&bomb, 1 << 20),
            Err(Rejection::Unpacked { what: "XML", limit })
        );
        let long = document(&paragraph("", &"word ".repeat(30)));
        let limit = 100;
        assert_eq!(
            read(&long, limit),
            Err(Rejection::Unpacked {
                what: "text",
                limit
            })
        );
    }

    #[test]
    fn no_nesting_is_too_deep() {
        let deep = format!(
            "{}{}{}",
            "<w:sdt>".repeat(50_000),
            paragraph("", "x"),
            "</w:sdt>".repeat(50_000)
        );
        assert_eq!(read(&document(&deep), 99).unwrap().text, "x\n");
    }
}
