//! In which encoding is a table of text written?
//!
//! In UTF-8, unless its byte-order mark or whoever opens it says otherwise; a mark has the last word.
//! Bytes that are none of the encoding end the reading, which then deletes nothing that is held. (Of
//! UTF-8 they make a row be refused: `csv`.)

use std::io::{self, Read};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};

/// How much is read at once, in bytes.
const CHUNK: usize = 16 << 10;
/// The longest byte-order mark, in bytes.
const MARK: usize = 3;

/// The encoding of this name, as the web knows it: `utf-8`, `utf-16le`, `windows-1252`, `latin1`, `shift_jis`, ….
pub(super) fn named(label: &str) -> Option<&'static Encoding> {
    Encoding::for_label(label.as_bytes())
}

/// The same in UTF-8.
pub(super) fn decoded(
    mut inner: Box<dyn Read + Send>,
    named: Option<&'static Encoding>,
) -> io::Result<Box<dyn Read + Send>> {
    let mut head = Vec::new();
    inner.by_ref().take(MARK as u64).read_to_end(&mut head)?;
    let marked = Encoding::for_bom(&head);
    let encoding = marked.map(|(encoding, _)| encoding);
    let encoding = encoding.or(named).unwrap_or(UTF_8);
    // Who reads values would take a mark that comes alone for all there is.
    if let Some((_, n_bytes)) = marked.filter(|(encoding, _)| *encoding == UTF_8) {
        head.drain(..n_bytes);
    }
    let whole: Box<dyn Read + Send> = Box::new(io::Cursor::new(head).chain(inner));
    Ok(match encoding == UTF_8 {
        // What is none is refused by row.
        true => whole,
        false => Box::new(Decoded {
            inner: whole,
            decoder: encoding.new_decoder_with_bom_removal(),
            bytes: Vec::new(),
            text: vec![0; CHUNK],
            ready: 0..0,
            is_at_end: false,
            is_done: false,
        }),
    })
}

/// Bytes of another encoding as UTF-8.
struct Decoded<R> {
    inner: R,
    decoder: Decoder,
    /// Read, and not decoded.
    bytes: Vec<u8>,
    text: Vec<u8>,
    /// What of the text was not taken.
    ready: std::ops::Range<usize>,
    /// Whether all is read.
    is_at_end: bool,
    /// Whether all is decoded.
    is_done: bool,
}

impl<R: Read> Decoded<R> {
    /// Reads and decodes on.
    fn fill(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() && !self.is_at_end {
            let n_read = self
                .inner
                .by_ref()
                .take(CHUNK as u64)
                .read_to_end(&mut self.bytes)?;
            self.is_at_end = n_read < CHUNK;
        }
        let (result, n_read, n_written) = self.decoder.decode_to_utf8_without_replacement(
            &self.bytes,
            &mut self.text,
            self.is_at_end,
        );
        self.bytes.drain(..n_read);
        self.ready = 0..n_written;
        match result {
            DecoderResult::InputEmpty => self.is_done = self.is_at_end,
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => {
                let said = format!("bytes that are no {}", self.decoder.encoding().name());
                return Err(io::Error::other(said));
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && !self.is_done {
            self.fill()?;
        }
        let n_bytes = self.ready.len().min(buffer.len());
        let begin = self.ready.start;
        buffer[..n_bytes].copy_from_slice(&self.text[begin..begin + n_bytes]);
        self.ready.start += n_bytes;
        Ok(n_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], label: Option<&str>) -> io::Result<String> {
        let bytes: Box<dyn Read + Send> = Box::new(io::Cursor::new(bytes.to_vec()));
        let mut text = String::new();
        decoded(bytes, label.and_then(named))?.read_to_string(&mut text)?;
        Ok(text)
    }

    fn utf16(text: &str) -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn a_mark_tells_and_else_a_name_and_else_it_is_utf_8() {
        assert_eq!(read("é".as_bytes(), None).unwrap(), "é");
        assert_eq!(read(b"caf\xe9", Some("latin1")).unwrap(), "café");
        assert_eq!(read(&utf16("é"), None).unwrap(), "é");
        assert_eq!(read(&utf16("é"), Some("latin1")).unwrap(), "é");
        assert_eq!(read("\u{feff}é".as_bytes(), Some("latin1")).unwrap(), "é");
        assert_eq!(read(b"", Some("latin1")).unwrap(), "");
        assert_eq!(named("no such"), None);
        // Longer than what is read at once, and of characters that its end cuts in two.
        let long = "aé😀".repeat(CHUNK);
        assert_eq!(read(&utf16(&long), None).unwrap(), long);
    }

    #[test]
    fn what_is_none_of_the_encoding_ends_the_reading() {
        let mut cut = utf16("ab");
        cut.pop();
        let error = read(&cut, None).unwrap_err();
        assert_eq!(error.to_string(), "bytes that are no UTF-16LE");
    }
}
