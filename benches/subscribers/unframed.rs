//! Which bytes does a reply of HTTP hold, without its head and the frames of its chunks?

use super::Error;

/// The longest head, and the longest line before a chunk.
const MAX_HEAD: usize = 16 << 10;

/// Where in a reply its reader is.
pub(super) enum Unframed {
    /// In the head.
    Head(Vec<u8>),
    /// In the line that says how long the next chunk is.
    Size(Vec<u8>),
    /// In a chunk, of which so many bytes are still to come.
    Chunk(usize),
    /// Behind a chunk, before so many bytes of its line break.
    Break(usize),
    /// At the end.
    Over,
}

impl Default for Unframed {
    fn default() -> Self {
        Self::Head(Vec::new())
    }
}

impl Unframed {
    /// Takes bytes as they came, and appends what they hold.
    pub(super) fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        while let Some((first, rest)) = bytes.split_first() {
            match self {
                Self::Head(head) => {
                    bytes = rest;
                    head.push(*first);
                    if head.len() > MAX_HEAD {
                        return Err("the head of a reply is too long".into());
                    }
                    if head.ends_with(b"\r\n\r\n") {
                        if !head.starts_with(b"HTTP/1.1 200 ") {
                            let line = head.split(|byte| *byte == b'\r').next();
                            let line = String::from_utf8_lossy(line.unwrap_or_default());
                            return Err(format!("a subscriber is refused: {line}").into());
                        }
                        *self = Self::Size(Vec::new());
                    }
                }
                Self::Size(line) => {
                    bytes = rest;
                    line.push(*first);
                    if line.len() > MAX_HEAD {
                        return Err("a chunk does not say how long it is".into());
                    }
                    if line.ends_with(b"\r\n") {
                        *self = match usize::from_str_radix(std::str::from_utf8(line)?.trim(), 16)?
                        {
                            0 => Self::Over,
                            len => Self::Chunk(len),
                        };
                    }
                }
                Self::Chunk(left) => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(*left));
                    out.extend_from_slice(taken);
                    bytes = rest;
                    *left -= taken.len();
                    if *left == 0 {
                        *self = Self::Break(2);
                    }
                }
                Self::Break(left) => {
                    bytes = rest;
                    *left -= 1;
                    if *left == 0 {
                        *self = Self::Size(Vec::new());
                    }
                }
                // Only a line break is left.
                Self::Over => return Ok(()),
            }
        }
        Ok(())
    }
}
