//! What does a file say? Its text, its title and its front matter, or why it is no document.
//!
//! The size is asked before reading and held to while reading: a file over the limit costs
//! nothing, and one that grows meanwhile cannot exceed it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::front_matter::front_matter;
use super::title::markdown_title;
use crate::Rejection;
use crate::attributes::Attribute;

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

/// Reads the file at `path`, up to `limit` bytes.
pub(super) fn read(path: &Path, limit: u64) -> Reading {
    match read_bytes(path, limit) {
        Ok(Ok(bytes)) => match decode(bytes) {
            Ok(text) => {
                let (title, front_matter) = match is_markdown(path) {
                    true => (markdown_title(&text), front_matter(&text)),
                    false => (None, Vec::new()),
                };
                Reading::Document(Document {
                    text,
                    title,
                    front_matter,
                })
            }
            Err(rejection) => Reading::Refused(rejection),
        },
        Ok(Err(rejection)) => Reading::Refused(rejection),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Reading::Gone,
        Err(error) => Reading::Refused(Rejection::unreadable(&error)),
    }
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
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    File::options().read(true).custom_flags(flags).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

fn decode(bytes: Vec<u8>) -> Result<String, Rejection> {
    if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
        return Err(Rejection::Binary { at: at as u64 });
    }
    let text = String::from_utf8(bytes).map_err(|error| Rejection::NotUtf8 {
        at: error.utf8_error().valid_up_to() as u64,
    })?;
    let body = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if body.contains('\r') {
        Ok(body.replace("\r\n", "\n").replace('\r', "\n"))
    } else if body.len() == text.len() {
        Ok(text)
    } else {
        Ok(body.to_owned())
    }
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|found| {
        ["md", "markdown"]
            .iter()
            .any(|extension| found.eq_ignore_ascii_case(extension))
    })
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
        read(&path, limit)
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
        // UTF-16 announces itself with bytes that UTF-8 never has.
        let utf16 = b"\xff\xfea\0b\0";
        assert!(matches!(
            read_as("a.txt", utf16, 9),
            Reading::Refused(Rejection::Binary { at: 3 })
        ));
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
        assert_eq!(read(Path::new("/nonexistent/a.md"), 10), Reading::Gone);
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
                Err(other) => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
