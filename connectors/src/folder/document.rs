//! What does a file say? Its text, its title and its front matter, or why it is no document.
//!
//! The size is asked before reading and held to while reading: a file over the limit costs
//! nothing, and one that grows meanwhile cannot exceed it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::extract::{Extracted, extract};
use super::front_matter::front_matter;
use super::kind::Kind;
use super::title::markdown_title;
use crate::attributes::Attribute;
use crate::{Rejection, StopFlag};

/// A file's content as a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document {
    /// Without byte-order mark, lines ended by `\n`.
    pub text: String,
    pub title: Option<String>,
    pub front_matter: Vec<Attribute>,
}

/// What reading a file gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Document(Document),
    Refused(Rejection),
    /// The file went away meanwhile.
    Gone,
}

/// Reads the file at `path` as one of a kind, up to `limit` bytes; gives up what takes long once it
/// is asked to stop.
pub(super) fn read(path: &Path, kind: Kind, limit: u64, stop: &StopFlag) -> Reading {
    let read = read_bytes(path, limit)
        .map(|bytes| bytes.and_then(|bytes| document(kind, bytes, limit, stop)));
    match read {
        Ok(Ok(document)) => Reading::Document(document),
        Ok(Err(rejection)) => Reading::Refused(rejection),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Reading::Gone,
        Err(error) => Reading::Refused(Rejection::unreadable(&error)),
    }
}

/// What a file of this kind says.
fn document(
    kind: Kind,
    bytes: Vec<u8>,
    limit: u64,
    stop: &StopFlag,
) -> Result<Document, Rejection> {
    if let Kind::Formatted(format) = kind {
        let Extracted { text, title } = extract(format, &bytes, limit, stop)?;
        let front_matter = Vec::new();
        return Ok(Document {
            text,
            title,
            front_matter,
        });
    }
    let text = decode(bytes)?;
    let (title, front_matter) = match kind {
        Kind::Markdown => (markdown_title(&text), front_matter(&text)),
        _ => (None, Vec::new()),
    };
    Ok(Document {
        text,
        title,
        front_matter,
    })
}

fn read_bytes(path: &Path, limit: u64) -> io::Result<Result<Vec<u8>, Rejection>> {
    let file = open(path)?;
    let meta = file.metadata()?;
    // It was one when it was listed.
    if !meta.is_file() {
        return Ok(Err(Rejection::NotAFile));
    }
    let len = meta.len();
    if len > limit {
        return Ok(Err(Rejection::TooLarge { len, limit }));
    }
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Ok(Err(Rejection::TooLarge {
            len: bytes.len() as u64,
            limit,
        }));
    }
    Ok(Ok(bytes))
}

/// Opens what stands at a path, and not what a link leads to; a pipe is not waited for.
#[cfg(unix)]
pub(super) fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    File::options().read(true).custom_flags(flags).open(path)
}

#[cfg(not(unix))]
pub(super) fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// The text that bytes are: UTF-8, or what a byte-order mark says; without the mark, lines ended by
/// `\n`.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, Rejection> {
    let text = match bytes.get(..2) {
        Some([0xff, 0xfe]) => utf16(&bytes[2..], u16::from_le_bytes)?,
        Some([0xfe, 0xff]) => utf16(&bytes[2..], u16::from_be_bytes)?,
        _ => utf8(bytes)?,
    };
    let body = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if body.contains('\r') {
        Ok(body.replace("\r\n", "\n").replace('\r', "\n"))
    } else if body.len() == text.len() {
        Ok(text)
    } else {
        Ok(body.to_owned())
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, Rejection> {
    if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
        return Err(Rejection::Binary { at: at as u64 });
    }
    String::from_utf8(bytes).map_err(|error| Rejection::NotUtf8 {
        at: error.utf8_error().valid_up_to() as u64,
    })
}

/// The text of bytes that stand behind a byte-order mark of two.
fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, Rejection> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(bytes.len());
    let mut at = 2;
    for decoded in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        match decoded {
            Ok('\0') => return Err(Rejection::Binary { at }),
            Ok(c) => {
                text.push(c);
                at += 2 * c.len_utf16() as u64;
            }
            Err(_) => return Err(Rejection::NotUtf16 { at }),
        }
    }
    match rest {
        [] => Ok(text),
        _ => Err(Rejection::NotUtf16 { at }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn read_as(name: &str, bytes: &[u8], limit: u64) -> Reading {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        read(&path, Kind::of(&path), limit, &StopFlag::new())
    }

    fn text_of(bytes: &[u8]) -> String {
        match read_as("a.txt", bytes, 1 << 20) {
            Reading::Document(document) => document.text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn marks_and_line_ends_are_normalised() {
        assert_eq!(
            text_of(b"\xef\xbb\xbfone\r\ntwo\rthree\n"),
            "one\ntwo\nthree\n"
        );
        assert_eq!(text_of(b"\xef\xbb\xbfone"), "one");
        assert_eq!(text_of(b""), "");
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_place() {
        assert_eq!(
            read_as("a.md", b"ok\xff", 9),
            Reading::Refused(Rejection::NotUtf8 { at: 2 })
        );
        assert_eq!(
            read_as("a.md", b"ok\0x\xff", 9),
            Reading::Refused(Rejection::Binary { at: 2 })
        );
    }

    #[test]
    fn utf16_is_read_where_a_mark_announces_it() {
        assert_eq!(text_of(b"\xff\xfea\0\r\0\n\0\xac\x20"), "a\n\u{20ac}");
        assert_eq!(text_of(b"\xfe\xff\0a\xd8\x3d\xde\0"), "a\u{1f600}");
        assert_eq!(text_of(b"\xff\xfe"), "");
        let refused = |bytes| match read_as("a.txt", bytes, 99) {
            Reading::Refused(refused) => refused,
            other => panic!("{other:?}"),
        };
        // Without a mark, or in UTF-32, it is full of NULs.
        assert_eq!(refused(b"a\0b\0"), Rejection::Binary { at: 1 });
        assert_eq!(refused(b"\xff\xfe\0\0a\0\0\0"), Rejection::Binary { at: 2 });
        assert_eq!(
            refused(b"\xff\xfea\0\0\xd8b\0"),
            Rejection::NotUtf16 { at: 4 }
        );
        assert_eq!(refused(b"\xff\xfea\0b"), Rejection::NotUtf16 { at: 4 });
    }

    #[cfg(not(feature = "documents"))]
    #[test]
    fn without_the_feature_files_of_these_kinds_are_refused_by_its_name() {
        for name in ["a.pdf", "a.docx", "a.html"] {
            let Reading::Refused(refused) = read_as(name, b"x", 9) else {
                panic!("{name} was read")
            };
            let said = "this program was built without PDF, Word and HTML; build it with \
                --features documents";
            assert_eq!(refused.to_string(), said);
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_takes_the_place_of_a_file_is_neither_followed_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        let (link, pipe) = (dir.path().join("a.md"), dir.path().join("b.md"));
        std::os::unix::fs::symlink(dir.path().join("secret"), &link).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let read = |path: &Path| read(path, Kind::Text, 99, &StopFlag::new());
        assert!(matches!(
            read(&link),
            Reading::Refused(Rejection::Unreadable { .. })
        ));
        assert_eq!(read(&pipe), Reading::Refused(Rejection::NotAFile));
    }

    #[test]
    fn the_limit_is_the_last_size_that_passes() {
        assert!(matches!(
            read_as("a.md", &[b'x'; 10], 10),
            Reading::Document(_)
        ));
        let refused = Rejection::TooLarge { len: 11, limit: 10 };
        assert_eq!(read_as("a.md", &[b'x'; 11], 10), Reading::Refused(refused));
    }

    #[test]
    fn a_file_that_is_gone_is_gone() {
        let path = Path::new("/nonexistent/a.md");
        assert_eq!(read(path, Kind::Text, 10, &StopFlag::new()), Reading::Gone);
    }

    #[test]
    fn only_markdown_has_titles_and_front_matter() {
        let bytes = b"---\na: 1\n---\n# T\n";
        let found = |name| match read_as(name, bytes, 99) {
            Reading::Document(document) => {
                assert_eq!(
                    document.text.as_bytes(),
                    bytes,
                    "the text is all of the file"
                );
                (document.title, document.front_matter.len())
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(found("a.MD"), (Some("T".to_owned()), 1));
        assert_eq!(found("a.txt"), (None, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_are_a_document_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            match decode(bytes.clone()) {
                Ok(text) => prop_assert!(!text.contains('\r') && !text.contains('\0')),
                Err(Rejection::Binary { at }) => prop_assert_eq!(bytes[at as usize], 0),
                Err(Rejection::NotUtf8 { at }) => {
                    prop_assert!(std::str::from_utf8(&bytes[..at as usize]).is_ok());
                }
                Err(Rejection::NotUtf16 { at }) => {
                    prop_assert!(bytes.len() > 2 && at >= 2 && at as usize <= bytes.len());
                }
                Err(other) => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
