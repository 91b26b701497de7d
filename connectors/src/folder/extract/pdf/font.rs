//! Which letters does a string of a PDF stand for, and how wide are they?
//!
//! In order: what the font says of itself for just this use (`ToUnicode`), the names of its glyphs
//! (`Encoding`), the encoding that fonts of its kind have. A letter of which nothing is said is
//! U+FFFD. Fonts whose characters take two bytes have `ToUnicode` or say nothing: character
//! collections of their own, as old files in Chinese, Japanese and Korean have them, are not known.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use lopdf::{DecompressError, Dictionary, Document, Encoding, Error, Object};

use super::char_map::CharMap;
use super::{STREAM_LIMIT, refused};
use crate::Rejection;

/// Fonts within a file that are kept; more are read again.
const FONTS_LIMIT: usize = 1024;
/// How wide a letter is of which it is not said, in thousandths of the size.
const USUAL_WIDTH: f32 = 500.0;

/// The fonts of a file that were read.
pub(super) struct Fonts<'a> {
    file: &'a Document,
    /// By where a font stands in the file's memory, which does not move.
    read: HashMap<*const Dictionary, Rc<Font>>,
    /// What names of glyphs mean.
    glyphs: HashMap<Vec<u8>, Option<String>>,
}

/// How strings in one font are read.
pub(super) struct Font {
    letters: Letters,
    widths: Widths,
}

/// A letter of a string.
pub(super) struct Letter {
    pub words: String,
    /// In units of the size.
    pub width: f32,
    /// Whether it is what the spacing of words applies to.
    pub is_blank: bool,
}

enum Letters {
    /// One byte each.
    Bytes(Box<[String; 256]>),
    /// Two bytes each, of which a map says what they are.
    Mapped(CharMap),
    /// Two bytes each, which are UTF-16.
    Utf16,
    /// Two bytes each, of which nothing is said.
    Unknown,
}

struct Widths {
    /// By the first code: the last, and how wide each of them is, in thousandths of the size.
    ranges: BTreeMap<u32, (u32, f32)>,
    other: f32,
    /// From the font's units to the size.
    scale: f32,
}

impl<'a> Fonts<'a> {
    pub(super) fn new(file: &'a Document) -> Self {
        Self {
            file,
            read: HashMap::new(),
            glyphs: HashMap::new(),
        }
    }

    /// A font, read if it was not yet.
    pub(super) fn get(&mut self, font: &'a Dictionary) -> Result<Rc<Font>, Rejection> {
        let at = std::ptr::from_ref(font);
        if let Some(read) = self.read.get(&at) {
            return Ok(Rc::clone(read));
        }
        let read = Rc::new(self.read(font)?);
        if self.read.len() < FONTS_LIMIT {
            self.read.insert(at, Rc::clone(&read));
        }
        Ok(read)
    }

    fn read(&mut self, font: &Dictionary) -> Result<Font, Rejection> {
        let kind = font.get(b"Subtype").and_then(Object::as_name);
        let kind = kind.unwrap_or_default();
        let told = self.told(font)?;
        if kind == b"Type0" {
            let encoding = font.get_deref(b"Encoding", self.file);
            let encoding = encoding.and_then(Object::as_name).unwrap_or_default();
            let is_utf16 = |name: &[u8]| {
                let name = String::from_utf8_lossy(name);
                name.starts_with("Uni") && (name.contains("-UCS2-") || name.contains("-UTF16-"))
            };
            return Ok(Font {
                letters: match told {
                    Some(map) => Letters::Mapped(map),
                    None if is_utf16(encoding) => Letters::Utf16,
                    None => Letters::Unknown,
                },
                widths: self.widths_of_pairs(font),
            });
        }
        let named = self.named(font, kind == b"TrueType")?;
        let letters = std::array::from_fn(|code| {
            let byte = u8::try_from(code).unwrap_or_default();
            let told = told.as_ref().and_then(|map| map.letters(&[byte]));
            told.unwrap_or_else(|| named[code].clone())
        });
        Ok(Font {
            letters: Letters::Bytes(Box::new(letters)),
            widths: self.widths_of_bytes(font, kind == b"Type3"),
        })
    }

    /// What a font says of its letters for just this use.
    fn told(&self, font: &Dictionary) -> Result<Option<CharMap>, Rejection> {
        let map = font.get_deref(b"ToUnicode", self.file);
        let Ok(map) = map.and_then(Object::as_stream) else {
            return Ok(None);
        };
        match map.get_plain_content_with_limit(STREAM_LIMIT) {
            Ok(program) => Ok(Some(CharMap::of(&program))),
            Err(error @ Error::Decompress(DecompressError::MemoryLimitExceeded { .. })) => {
                Err(refused(error))
            }
            // It is damaged, and says nothing.
            Err(_) => Ok(None),
        }
    }

    /// The letters of a font of single bytes by the names of its glyphs.
    fn named(&mut self, font: &Dictionary, is_true_type: bool) -> Result<Vec<String>, Rejection> {
        let encoding = font.get_deref(b"Encoding", self.file).ok();
        let described = encoding.and_then(|encoding| encoding.as_dict().ok());
        let base = match described {
            Some(described) => described.get(b"BaseEncoding").ok(),
            None => encoding,
        };
        let base = base
            .and_then(|base| base.as_name().ok())
            .map(<[u8]>::to_vec);
        let usual = match is_true_type {
            true => &b"WinAnsiEncoding"[..],
            false => b"StandardEncoding",
        };
        let base = encoding_of(Object::Name(base.unwrap_or_else(|| usual.to_vec())));
        let base = base.get_font_encoding_with_limit(self.file, STREAM_LIMIT);
        let base = base.map_err(refused)?;
        let unknown = || char::REPLACEMENT_CHARACTER.to_string();
        let mut letters: Vec<String> = (0..=u8::MAX)
            .map(|byte| decoded(&base, &[byte]).unwrap_or_else(unknown))
            .collect();
        let differences = described
            .and_then(|described| described.get_deref(b"Differences", self.file).ok())
            .and_then(|differences| differences.as_array().ok());
        let mut code = 0_usize;
        for difference in differences.into_iter().flatten() {
            match difference {
                Object::Integer(first) => code = usize::try_from(*first).unwrap_or(usize::MAX),
                Object::Name(name) => {
                    if let Some(letter) = letters.get_mut(code) {
                        *letter = self.glyph(name).unwrap_or_else(unknown);
                    }
                    code = code.saturating_add(1);
                }
                _ => {}
            }
        }
        Ok(letters)
    }

    /// What a glyph of this name shows.
    fn glyph(&mut self, name: &[u8]) -> Option<String> {
        if let Some(known) = self.glyphs.get(name) {
            return known.clone();
        }
        let found = glyph(self.file, name);
        self.glyphs.insert(name.to_vec(), found.clone());
        found
    }

    fn widths_of_bytes(&self, font: &Dictionary, is_drawn: bool) -> Widths {
        let first = self.number(font, b"FirstChar").unwrap_or_default();
        let list = font.get_deref(b"Widths", self.file);
        let list = list.and_then(Object::as_array).ok();
        let codes = first.max(0.0) as u32..=255;
        let widths = codes.zip(list.into_iter().flatten());
        let ranges = widths.filter_map(|(code, width)| {
            let width = self.value(width)?;
            Some((code, (code, width)))
        });
        let ranges: BTreeMap<_, _> = ranges.collect();
        let about = font.get_deref(b"FontDescriptor", self.file);
        let about = about.and_then(Object::as_dict).ok();
        let missing = about.and_then(|about| self.number(about, b"MissingWidth"));
        let other = match ranges.is_empty() {
            true => USUAL_WIDTH,
            false => missing.unwrap_or_default(),
        };
        let matrix = font.get_deref(b"FontMatrix", self.file);
        let matrix = matrix.and_then(Object::as_array).ok();
        let drawn = matrix.and_then(|matrix| self.value(matrix.first()?));
        let scale = match is_drawn {
            true => drawn.unwrap_or(0.001),
            false => 0.001,
        };
        Widths {
            ranges,
            other,
            scale,
        }
    }

    fn widths_of_pairs(&self, font: &Dictionary) -> Widths {
        let descendants = font.get_deref(b"DescendantFonts", self.file);
        let first = descendants.and_then(Object::as_array).ok();
        let first = first.and_then(|all| self.resolved(all.first()?)?.as_dict().ok());
        let mut widths = Widths {
            ranges: BTreeMap::new(),
            other: first
                .and_then(|font| self.number(font, b"DW"))
                .unwrap_or(1000.0),
            scale: 0.001,
        };
        let list = first.and_then(|font| font.get_deref(b"W", self.file).ok());
        let list = list.and_then(|list| list.as_array().ok());
        let mut list = list.into_iter().flatten();
        // `first [width …]` or `first last width`.
        while let Some(begin) = list.next() {
            let Some(begin) = self.value(begin) else {
                continue;
            };
            let begin = begin.max(0.0) as u32;
            match list.next().and_then(|next| self.resolved(next)) {
                Some(Object::Array(each)) => {
                    for (code, width) in (begin..).zip(each) {
                        if let Some(width) = self.value(width) {
                            widths.ranges.insert(code, (code, width));
                        }
                    }
                }
                Some(last) => {
                    let width = list.next().and_then(|width| self.value(width));
                    if let (Some(last), Some(width)) = (self.value(last), width) {
                        widths.ranges.insert(begin, (last.max(0.0) as u32, width));
                    }
                }
                None => break,
            }
        }
        widths
    }

    fn resolved(&self, object: &'a Object) -> Option<&'a Object> {
        self.file.dereference(object).ok().map(|(_, object)| object)
    }

    fn value(&self, object: &Object) -> Option<f32> {
        let (_, object) = self.file.dereference(object).ok()?;
        object.as_float().ok()
    }

    fn number(&self, dictionary: &Dictionary, name: &[u8]) -> Option<f32> {
        self.value(dictionary.get(name).ok()?)
    }
}

/// A font of nothing but an encoding, to ask what that means.
fn encoding_of(encoding: Object) -> Dictionary {
    Dictionary::from_iter([
        (b"Type".to_vec(), Object::Name(b"Font".to_vec())),
        (b"Encoding".to_vec(), encoding),
    ])
}

/// What an encoding says of a code, if it says anything.
fn decoded(encoding: &Encoding<'_>, code: &[u8]) -> Option<String> {
    let words = encoding.bytes_to_string(code).ok()?;
    let is_known = !words.is_empty() && !words.contains(char::REPLACEMENT_CHARACTER);
    is_known.then_some(words)
}

/// What a glyph's name means: a name of the Adobe Glyph List, `uni0041`, `u1F600`; of one as
/// `f_i.alt` its parts, before the full stop.
fn glyph(file: &Document, name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let name = name.split('.').next().filter(|name| !name.is_empty())?;
    name.split('_')
        .map(|part| part_of_glyph(file, part))
        .collect()
}

fn part_of_glyph(file: &Document, name: &str) -> Option<String> {
    let code = |digits: &str| {
        let code = u32::from_str_radix(digits, 16).ok()?;
        char::from_u32(code)
    };
    if let Some(digits) = name.strip_prefix("uni")
        && digits.len() >= 4
        && digits.len() % 4 == 0
        && digits.is_ascii()
    {
        let digits = digits.as_bytes().chunks(4);
        let letters = digits.map(|four| code(std::str::from_utf8(four).ok()?));
        if let Some(letters) = letters.collect::<Option<String>>() {
            return Some(letters);
        }
    }
    if let Some(digits) = name.strip_prefix('u')
        && (4..=6).contains(&digits.len())
        && let Some(letter) = code(digits)
    {
        return Some(letter.to_string());
    }
    let list = vec![Object::Integer(0), Object::Name(name.as_bytes().to_vec())];
    let differences = Dictionary::from_iter([(b"Differences".to_vec(), Object::Array(list))]);
    let asked = encoding_of(Object::Dictionary(differences));
    let encoding = asked
        .get_font_encoding_with_limit(file, STREAM_LIMIT)
        .ok()?;
    match &encoding {
        Encoding::Differences(_) => decoded(&encoding, &[0]),
        // The name is not known.
        _ => None,
    }
}

impl Font {
    /// The letters of a string.
    pub(super) fn letters<'b>(&'b self, bytes: &'b [u8]) -> impl Iterator<Item = Letter> + 'b {
        let n_bytes = match self.letters {
            Letters::Bytes(_) => 1,
            _ => 2,
        };
        bytes.chunks(n_bytes).map(|code| {
            let digits = code.iter();
            let number = digits.fold(0, |number, byte| number << 8 | u32::from(*byte));
            let words = match &self.letters {
                Letters::Bytes(letters) => letters.get(number as usize).cloned(),
                Letters::Mapped(map) => map.letters(code),
                Letters::Utf16 => char::from_u32(number).map(String::from),
                Letters::Unknown => None,
            };
            Letter {
                words: words.unwrap_or_else(|| char::REPLACEMENT_CHARACTER.to_string()),
                width: self.widths.of(number),
                is_blank: code == b" ",
            }
        })
    }
}

impl Widths {
    fn of(&self, code: u32) -> f32 {
        let before = self.ranges.range(..=code).next_back();
        let width = match before {
            Some((_, (last, width))) if code <= *last => *width,
            _ => self.other,
        };
        width * self.scale
    }
}
