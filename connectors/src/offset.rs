//! Where in a source was a record read? Offsets end every chain of lineage, and tell a source
//! where to resume.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Which state of a file was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision {
    /// The file's modification time, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// The file's length in bytes.
    pub len: u64,
}

/// A place in a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Offset {
    /// A whole file of a folder.
    File {
        /// The path below the watched root (after the root's name where several are watched).
        path: PathBuf,
        /// The state that was read; none where the file is gone or was not read.
        revision: Option<Revision>,
    },
    /// A line of a file of lines.
    Line {
        /// The file as it was named to the source; `-` is standard input.
        path: PathBuf,
        /// The line's number, from 1.
        line: u64,
        /// Where the line's first byte stands in the file, from 0.
        byte: u64,
    },
    /// The lines of a file that were read: all before this one.
    Lines {
        /// The file as it was named to the source.
        path: PathBuf,
        /// The number of the next line, from 1.
        line: u64,
        /// Where its first byte stands in the file, from 0.
        byte: u64,
        /// BLAKE3 of all bytes before it: another beginning is another file.
        digest: [u8; 32],
    },
    /// The n-th record of a source that only counts.
    Sequence(u64),
    /// A message of a topic.
    Message {
        /// Which topic.
        topic: String,
        /// Which of its partitions.
        partition: i32,
        /// The message's offset there.
        offset: i64,
    },
    /// A row of a table, which stands in its file until that is written anew.
    Row {
        /// The file as it was named to the source.
        path: PathBuf,
        /// The line on which the row begins; its number, where a file has no lines; from 1.
        line: u64,
    },
    /// Of several sources that are one: where each goes on, by its name.
    Parts(BTreeMap<String, Offset>),
    /// The messages of a topic that were read: of each partition all before an offset.
    Partitions {
        /// Which topic.
        topic: String,
        /// By partition.
        next: BTreeMap<i32, NextMessage>,
    },
    /// A line of a request that was posted.
    PostedLine {
        /// Which run of the source took it in: a number drawn at its start.
        run: u64,
        /// The request's number within the run, from 1.
        request: u64,
        /// The line's number within the request's body, from 1.
        line: u64,
    },
    /// The requests that were taken in: all of one run up to this one.
    Posted {
        /// Which run of the source.
        run: u64,
        /// The number of the last of them, from 1.
        last: u64,
    },
}

/// Where reading a partition of a topic goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NextMessage {
    /// Offset of the next message.
    pub offset: i64,
    /// BLAKE3 of the message before it (of its time, key and payload): with another one
    /// there, it is another topic of the same name.
    pub last: [u8; 32],
}

impl Offset {
    /// Of several sources that are one: the name of the only one that reads what stands at a place, as a
    /// refusal tells it. None where that is not known.
    pub fn part_at(&self, place: &str) -> Option<&str> {
        let Self::Parts(parts) = self else {
            return None;
        };
        let mut there = parts.iter().filter(|(_, offset)| offset.reads(place));
        let (name, _) = there.next()?;
        there.next().is_none().then_some(name)
    }

    /// Whether what goes on here reads what stands at a place.
    fn reads(&self, place: &str) -> bool {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match self {
            Self::Lines { path, .. } => {
                let line = place.strip_prefix(&*path.display().to_string());
                let line = line.and_then(|rest| rest.strip_prefix(':')?.split_once(" (byte "));
                line.is_some_and(|(line, _)| is_number(line))
            }
            Self::Partitions { topic, .. } => {
                let message = place.strip_prefix(topic.as_str());
                let message = message.and_then(|rest| rest.strip_prefix('/')?.split_once(':'));
                message.is_some_and(|(partition, _)| is_number(partition))
            }
            Self::Posted { .. } => place.starts_with("request "),
            _ => false,
        }
    }

    pub(crate) fn file(path: impl AsRef<Path>, revision: Option<Revision>) -> Self {
        Self::File {
            path: path.as_ref().to_path_buf(),
            revision,
        }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => write!(f, "{}", path.display()),
            Self::Line { path, line, byte } if path.as_os_str() == "-" => {
                write!(f, "standard input:{line} (byte {byte})")
            }
            Self::Line { path, line, byte }
            | Self::Lines {
                path, line, byte, ..
            } => {
                write!(f, "{}:{line} (byte {byte})", path.display())
            }
            Self::Sequence(n) => write!(f, "#{n}"),
            Self::Row { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Parts(parts) => {
                for (i, offset) in parts.values().enumerate() {
                    f.write_str(if i == 0 { "" } else { ", " })?;
                    write!(f, "{offset}")?;
                }
                Ok(())
            }
            Self::Message {
                topic,
                partition,
                offset,
            } => write!(f, "{topic}/{partition}:{offset}"),
            Self::Partitions { topic, next } => {
                f.write_str(topic)?;
                for (partition, next) in next {
                    write!(f, " {partition}:{}", next.offset)?;
                }
                Ok(())
            }
            Self::PostedLine { run, request, line } => {
                write!(f, "request {request} of run {run:016x}, line {line}")
            }
            Self::Posted { run, last } => write!(f, "requests to {last} of run {run:016x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_read_as_places() {
        assert_eq!(Offset::file("notes/a.md", None).to_string(), "notes/a.md");
        let line = Offset::Line {
            path: "events.jsonl".into(),
            line: 17,
            byte: 2031,
        };
        assert_eq!(line.to_string(), "events.jsonl:17 (byte 2031)");
        let line = Offset::Line {
            path: "-".into(),
            line: 1,
            byte: 0,
        };
        assert_eq!(line.to_string(), "standard input:1 (byte 0)");
        let message = Offset::Message {
            topic: "docs".into(),
            partition: 2,
            offset: 17,
        };
        assert_eq!(message.to_string(), "docs/2:17");
        let posted = Offset::PostedLine {
            run: 0xf1,
            request: 3,
            line: 2,
        };
        assert_eq!(
            posted.to_string(),
            "request 3 of run 00000000000000f1, line 2"
        );
    }

    #[test]
    fn the_part_that_reads_a_place_is_known_where_only_one_does() {
        let lines = |path: &str| Offset::Lines {
            path: path.into(),
            line: 3,
            byte: 64,
            digest: [0; 32],
        };
        let topic = |topic: &str| Offset::Partitions {
            topic: topic.to_owned(),
            next: BTreeMap::new(),
        };
        let parts = [
            ("", Offset::Sequence(3)),
            ("a.jsonl#", lines("a.jsonl")),
            ("a.jsonl:1#", lines("a.jsonl:1")),
            ("one:9092/docs#", topic("docs")),
            ("two:9092/docs#", topic("docs")),
            ("news#", topic("news")),
            ("http#", Offset::Posted { run: 7, last: 3 }),
        ];
        let parts = parts.map(|(name, offset)| (name.to_owned(), offset));
        let parts = Offset::Parts(BTreeMap::from(parts));
        let posted = Offset::PostedLine {
            run: 7,
            request: 3,
            line: 1,
        };
        for (place, part) in [
            ("a.jsonl:2 (byte 30)", Some("a.jsonl#")),
            ("a.jsonl:1:2 (byte 30)", Some("a.jsonl:1#")),
            ("b.jsonl:2 (byte 30)", None),
            ("a.jsonl", None),
            ("news/0:17", Some("news#")),
            // Of two topics of one name nobody knows which.
            ("docs/0:17", None),
            ("", None),
        ] {
            assert_eq!(parts.part_at(place), part, "{place}");
        }
        assert_eq!(parts.part_at(&posted.to_string()), Some("http#"));
        assert_eq!(lines("a.jsonl").part_at("a.jsonl:2 (byte 30)"), None);
    }
}
