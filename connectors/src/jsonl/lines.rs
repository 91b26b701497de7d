//! Where does each line of a growing stream of bytes begin and end?
//!
//! Invariant: at most `limit` bytes are held, whatever comes; a longer line is counted to its
//! end and never kept. Lines and bytes are numbered as in the file, so the numbers of what
//! follows a bad line are right.

/// A line, without its line feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// From 1.
    pub number: u64,
    /// Where its first byte stands, from 0.
    pub byte: u64,
    pub content: Content<'a>,
}

/// What a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    Bytes(&'a [u8]),
    /// It is over the limit; this long, in bytes.
    TooLong(u64),
}

impl Line<'_> {
    /// In bytes.
    pub(crate) fn len(&self) -> u64 {
        match self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::TooLong(len) => len,
        }
    }
}

/// Cuts bytes into lines.
#[derive(Debug)]
pub(crate) struct Lines {
    /// The longest line, in bytes.
    limit: usize,
    /// The number of the line being read.
    number: u64,
    /// Where that line begins.
    byte: u64,
    /// What is there of it, if it is not over the limit.
    begun: Vec<u8>,
    /// How long it is so far.
    len: u64,
}

impl Lines {
    /// The next byte is the first of line `number`, and the `byte`-th of the file.
    pub(crate) fn new(limit: usize, number: u64, byte: u64) -> Self {
        Self {
            limit,
            number,
            byte,
            begun: Vec::new(),
            len: 0,
        }
    }

    /// Takes what comes next, and gives each line that it ends.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (rest, after) = (&bytes[..end], &bytes[end + 1..]);
            if self.len == 0 && rest.len() <= self.limit {
                // The usual case: the line is whole in these bytes and need not be copied.
                each(Line {
                    number: self.number,
                    byte: self.byte,
                    content: Content::Bytes(rest),
                });
                self.len = rest.len() as u64;
            } else {
                self.extend(rest);
                each(self.line());
            }
            self.next_line();
            bytes = after;
        }
        self.extend(bytes);
    }

    /// The line that has begun and not ended, if there is one.
    pub(crate) fn unfinished(&self) -> Option<Line<'_>> {
        (self.len > 0).then(|| self.line())
    }

    /// The longest line, in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The number and first byte of the line that is being read or comes next.
    pub(crate) fn position(&self) -> (u64, u64) {
        (self.number, self.byte)
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        if self.len <= self.limit as u64 {
            self.begun.extend_from_slice(bytes);
        } else {
            self.begun.clear();
        }
    }

    fn line(&self) -> Line<'_> {
        let content = if self.len <= self.limit as u64 {
            Content::Bytes(&self.begun)
        } else {
            Content::TooLong(self.len)
        };
        Line {
            number: self.number,
            byte: self.byte,
            content,
        }
    }

    fn next_line(&mut self) {
        self.number += 1;
        self.byte += self.len + 1;
        self.begun.clear();
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    enum Owned {
        Bytes(u64, u64, Vec<u8>),
        TooLong(u64, u64, u64),
    }

    fn own(line: Line<'_>) -> Owned {
        match line.content {
            Content::Bytes(bytes) => Owned::Bytes(line.number, line.byte, bytes.to_vec()),
            Content::TooLong(len) => Owned::TooLong(line.number, line.byte, len),
        }
    }

    #[test]
    fn a_long_line_is_counted_and_the_next_is_whole() {
        let mut lines = Lines::new(3, 1, 0);
        let mut got = Vec::new();
        lines.push(b"abc\nabcd\n\nx", |line| got.push(own(line)));
        assert_eq!(
            got,
            [
                Owned::Bytes(1, 0, b"abc".to_vec()),
                Owned::TooLong(2, 4, 4),
                Owned::Bytes(3, 9, Vec::new()),
            ]
        );
        assert_eq!(
            lines.unfinished().map(own),
            Some(Owned::Bytes(4, 10, b"x".to_vec()))
        );
        assert_eq!(lines.position(), (4, 10));
    }

    proptest! {
        #[test]
        fn cuts_equal_a_split_however_the_bytes_arrive(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), any::<u8>()], 0..80),
            chunk in 1usize..20,
            limit in 0usize..12,
        ) {
            let mut lines = Lines::new(limit, 7, 100);
            let mut got = Vec::new();
            for part in bytes.chunks(chunk) {
                lines.push(part, |line| got.push(own(line)));
                prop_assert!(lines.begun.len() <= limit);
            }
            got.extend(lines.unfinished().map(own));
            let mut expected = Vec::new();
            let mut at = 100;
            for (i, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
                let (number, len) = (7 + i as u64, line.len() as u64);
                expected.push(if line.len() <= limit {
                    Owned::Bytes(number, at, line.to_vec())
                } else {
                    Owned::TooLong(number, at, len)
                });
                at += len + 1;
            }
            if bytes.is_empty() || bytes.ends_with(b"\n") {
                expected.pop();
            }
            prop_assert_eq!(got, expected);
        }
    }
}
