//! Where did a source read a row?
//!
//! Of each row that a source said in this process, the place is kept, in a few bytes: names of files and topics
//! once. An earlier process's places are not known: what a source does not say again has none.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use perennial_connectors::Offset;
use perennial_rows::Key;

/// Places of the rows of one stream.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Names of files and topics, each once: there are as many as the source reads.
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
    rows: BTreeMap<Key, Spot>,
}

/// Where a row stands, with numbers for names.
#[derive(Clone, Copy, Debug)]
enum Spot {
    /// A whole file, whose path is the key.
    File,
    Line {
        name: u32,
        line: u64,
        byte: u64,
    },
    Row {
        name: u32,
        line: u64,
    },
    Message {
        name: u32,
        partition: i32,
        offset: i64,
    },
    Posted {
        request: u64,
        line: u64,
    },
    Sequence(u64),
}

/// Where a row was read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// It is a whole file of a folder.
    File,
    /// It is a line of a file of lines.
    Line {
        /// The file, as it was named to the source.
        path: Arc<str>,
        /// The line's number, from 1.
        line: u64,
        /// Where its first byte stands, from 0.
        byte: u64,
    },
    /// It is a row of a table.
    Row {
        /// The file, as it was named to the source.
        path: Arc<str>,
        /// The line on which it begins, or its number; from 1.
        line: u64,
    },
    /// It is a message of a topic.
    Message {
        /// The topic.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// The offset there.
        offset: i64,
    },
    /// It was posted.
    Posted {
        /// The request's number since the source was started, from 1.
        request: u64,
        /// The line of its body, from 1.
        line: u64,
    },
    /// It is the n-th record of a source that counts.
    Sequence(u64),
}

impl Places {
    /// Notes where a row was read.
    pub(super) fn note(&mut self, key: &Key, offset: &Offset) {
        let spot = match offset {
            Offset::File { .. } => Spot::File,
            Offset::Line { path, line, byte } => Spot::Line {
                name: self.number(&shown(path)),
                line: *line,
                byte: *byte,
            },
            Offset::Row { path, line } => Spot::Row {
                name: self.number(&shown(path)),
                line: *line,
            },
            Offset::Message {
                topic,
                partition,
                offset,
            } => Spot::Message {
                name: self.number(topic),
                partition: *partition,
                offset: *offset,
            },
            Offset::PostedLine { request, line, .. } => Spot::Posted {
                request: *request,
                line: *line,
            },
            Offset::Sequence(n) => Spot::Sequence(*n),
            // Where a source goes on is no place of a row.
            _ => return self.forget(key),
        };
        self.rows.insert(key.clone(), spot);
    }

    /// The row is gone, or is another's word.
    pub(super) fn forget(&mut self, key: &Key) {
        self.rows.remove(key);
    }

    /// Where a row was read, if that is known.
    pub(super) fn of(&self, key: &str) -> Option<Place> {
        let named = |number: u32| self.names.get(number as usize).cloned().unwrap_or_default();
        Some(match *self.rows.get(key)? {
            Spot::File => Place::File,
            Spot::Line { name, line, byte } => Place::Line {
                path: named(name),
                line,
                byte,
            },
            Spot::Row { name, line } => Place::Row {
                path: named(name),
                line,
            },
            Spot::Message {
                name,
                partition,
                offset,
            } => Place::Message {
                topic: named(name),
                partition,
                offset,
            },
            Spot::Posted { request, line } => Place::Posted { request, line },
            Spot::Sequence(n) => Place::Sequence(n),
        })
    }

    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        number
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_place_where_it_was_read_last() {
        let mut places = Places::default();
        let line = |line, byte| Offset::Line {
            path: "a.jsonl".into(),
            line,
            byte,
        };
        let key = Key::from("k");
        places.note(&key, &line(1, 0));
        places.note(&key, &line(3, 90));
        let path: Arc<str> = "a.jsonl".into();
        let (line, byte) = (3, 90);
        assert_eq!(places.of("k"), Some(Place::Line { path, line, byte }));
        assert_eq!(places.names.len(), 1);
        places.forget(&key);
        assert_eq!(places.of("k"), None);
    }
}
