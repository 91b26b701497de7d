//! Which text does a PDF show?
//!
//! A page is a program that draws; `page` runs the part of it that places text, `font` says which
//! letters a string stands for and how wide they are, `layout` puts them into lines. Text comes in
//! the order in which it is drawn, which is the order of reading in what word processors, browsers
//! and TeX write.
//!
//! The title is the one among the file's properties, unless it is a file's name; else the first
//! line of the first page that is set larger than the rest.
//!
//! # Invariants
//! - What a file unpacks to is bounded: each stream by [`STREAM_LIMIT`], the object streams, which
//!   are unpacked when the file is opened, together by [`OBJECTS_LIMIT`] before that, and what is
//!   drawn by [`DRAWN_LIMIT`].
//! - A file that needs a password is refused, and so is one whose fonts do not say what most of
//!   its letters are: what they show is a picture to whoever reads by machine.

mod char_map;
mod font;
mod layout;
mod page;

use std::error::Error as _;
use std::io::{self, Read as _};

use flate2::read::ZlibDecoder;
use lopdf::{DecompressError, Document, Error, LoadOptions};

use self::font::Fonts;
use self::layout::Layout;
use self::page::Painter;
use super::Extracted;
use crate::folder::kind::Format;
use crate::{Rejection, StopFlag};

/// What one stream of a file may unpack to, in bytes.
const STREAM_LIMIT: usize = 16 << 20;
/// What all streams of objects of a file may unpack to, in bytes. An object takes some fifty times
/// its text.
const OBJECTS_LIMIT: u64 = 32 << 20;
/// What all that draws may unpack to, in bytes, as often as it draws.
const DRAWN_LIMIT: usize = 256 << 20;
const PAGES_LIMIT: usize = 10_000;

/// The text and title of a file.
pub(super) fn read(bytes: &[u8], limit: u64, stop: &StopFlag) -> Result<Extracted, Rejection> {
    if objects_size(bytes)? > OBJECTS_LIMIT {
        return Err(Rejection::Unpacked {
            what: "objects",
            limit: OBJECTS_LIMIT,
        });
    }
    let options = LoadOptions::with_max_decompressed_size(STREAM_LIMIT);
    let file = Document::load_mem_with_options(bytes, options).map_err(refused)?;
    // Where the empty password opens it, the file is decrypted by now.
    if file.is_encrypted() {
        return Err(Rejection::Encrypted {
            format: Format::Pdf.name(),
        });
    }
    let pages: Vec<_> = file.page_iter().take(PAGES_LIMIT + 1).collect();
    if pages.is_empty() {
        return Err(unsound("it has no pages"));
    }
    if pages.len() > PAGES_LIMIT {
        return Err(Rejection::TooManyPages {
            limit: PAGES_LIMIT as u64,
        });
    }
    let mut fonts = Fonts::new(&file);
    let mut layout = Layout::new(limit);
    let mut left = DRAWN_LIMIT;
    let mut title = None;
    for (number, page) in pages.into_iter().enumerate() {
        Painter::paint(&file, page, &mut fonts, &mut layout, &mut left, stop)?;
        layout.end_page();
        if number == 0 {
            title = layout.largest_line();
        }
        if layout.is_full() {
            return Err(Rejection::Unpacked {
                what: "text",
                limit,
            });
        }
        if stop.raised() {
            break;
        }
    }
    let (n_known, n_unknown) = layout.letters();
    if n_unknown > n_known {
        return Err(unsound(
            "its fonts do not say which letters they show; take text recognition (OCR)",
        ));
    }
    Ok(Extracted {
        title: property_title(&file).or(title),
        text: layout.end(),
    })
}

fn unsound(reason: &str) -> Rejection {
    Rejection::Unsound {
        format: Format::Pdf.name(),
        reason: reason.to_owned(),
    }
}

/// Why a file, or a stream of it, cannot be read.
fn refused(error: Error) -> Rejection {
    match error {
        Error::Decompress(DecompressError::MemoryLimitExceeded { limit }) => Rejection::Unpacked {
            what: "one stream",
            limit: limit as u64,
        },
        Error::Decryption(_) | Error::InvalidPassword => Rejection::Encrypted {
            format: Format::Pdf.name(),
        },
        other => match other.source() {
            Some(cause) => unsound(&cause.to_string()),
            None => unsound(&other.to_string()),
        },
    }
}

/// What the streams of objects of a file unpack to, in bytes: at least that much of them as is over
/// the limit.
///
/// They are found by their name, as it must stand in the dictionary before each. One that is packed in
/// another way than by one deflate is counted as large as a stream may be; a name that is written
/// in disguise, which nobody does who does not deceive, is refused.
fn objects_size(bytes: &[u8]) -> Result<u64, Rejection> {
    const NAME: &[u8] = b"ObjStm";
    /// How far a dictionary goes before and behind its type, in bytes.
    const DICTIONARY: usize = 2048;
    let n_named = found(bytes, NAME).count();
    if bytes.contains(&b'#') && found(&unescaped(bytes), NAME).count() > n_named {
        return Err(unsound("it disguises names"));
    }
    let mut size = 0;
    for at in found(bytes, NAME) {
        let end = bytes.len().min(at + DICTIONARY);
        let Some(stream) = found(&bytes[at..end], b"stream").next() else {
            continue;
        };
        let dictionary = &bytes[at.saturating_sub(DICTIONARY)..at + stream];
        // Of several in the window the last is this one's.
        let begin = found(dictionary, b"obj").last().unwrap_or_default();
        let dictionary = &dictionary[begin..];
        let packings = [&b"LZWDecode"[..], b"RunLengthDecode", b"BrotliDecode"];
        let n_odd: usize = packings
            .iter()
            .map(|name| found(dictionary, name).count())
            .sum();
        let n_deflated = found(dictionary, b"FlateDecode").count();
        let is_filtered = found(dictionary, b"/Filter").next().is_some();
        if is_filtered && (n_odd > 0 || n_deflated != 1) {
            size += STREAM_LIMIT as u64;
        } else if is_filtered {
            let data = bytes[at + stream + b"stream".len()..].trim_ascii_start();
            let mut unpacked = ZlibDecoder::new(data).take(OBJECTS_LIMIT + 1);
            let mut count = Count(0);
            // Damage shows when it is read.
            let _is_damaged = io::copy(&mut unpacked, &mut count);
            size += count.0;
        }
        if size > OBJECTS_LIMIT {
            break;
        }
    }
    Ok(size)
}

/// Counts what is written.
struct Count(u64);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where a word stands.
fn found<'a>(bytes: &'a [u8], word: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let windows = bytes.windows(word.len()).enumerate();
    windows.filter_map(move |(at, window)| (window == word).then_some(at))
}

/// Bytes in which `#4f` is `O`, as in names.
fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escaped = match tail {
            [high, low, ..] if *first == b'#' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match escaped.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &tail[2..];
            }
            None => plain.push(*first),
        }
    }
    plain
}

/// The title among the file's properties, unless it is one that programs make up.
fn property_title(file: &Document) -> Option<String> {
    let properties = file.trailer.get_deref(b"Info", file).ok()?.as_dict().ok()?;
    let title = properties.get_deref(b"Title", file).ok()?;
    let title = lopdf::decode_text_string(title).ok()?;
    let title = title.trim();
    let lower = title.to_lowercase();
    let file_ends = [
        ".doc", ".docx", ".dvi", ".tex", ".pdf", ".indd", ".odt", ".rtf",
    ];
    let is_made_up = title.is_empty()
        || lower.starts_with("untitled")
        || lower.starts_with("microsoft word - ")
        || file_ends.iter().any(|end| lower.ends_with(end));
    (!is_made_up).then(|| title.to_owned())
}

#[cfg(test)]
mod tests;
