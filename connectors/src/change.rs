//! What does a source say? Keyed records that come, change and go.
//!
//! A [`Record`] is one version of one document (or of one question). Its [`Digest`] covers all
//! that a model could see of it, so equal digests mean that nothing needs to be done.

use std::fmt;

use perennial_rows::encoding::Encoder;
use perennial_rows::{KEY, Key, Row, SUPERSEDES, TEXT, TITLE, UPDATED_AT, Value};
use serde::{Deserialize, Serialize};

use crate::Offset;
use crate::json::record::is_operation;

/// The name of a source, unique within an engine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceName(String);

impl SourceName {
    /// Names a source.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The BLAKE3 hash of a record's title, text and columns, 32 bytes, and of a file's time. Its key and
/// offset are not part of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The same with the record's time, which is a file's own: a view orders documents by it, so one
    /// that is touched is another version.
    pub(crate) fn dated(row: &Row) -> Self {
        let mut encoder = Encoder::new();
        let at = Value::Timestamp(row.updated_at_ms);
        encoder.fixed(&Self::of(row).0).value(&at);
        Self(encoder.digest("perennial connectors record digest with time v1"))
    }

    /// Hashes what a model could see of a record.
    pub fn of(row: &Row) -> Self {
        let said = Self::of_text(row.title.as_deref(), &row.text);
        // Digests of before there were columns stay what they were.
        if row.columns.is_empty() {
            return said;
        }
        let mut encoder = Encoder::new();
        encoder.fixed(&said.0).number(row.columns.len() as u64);
        for (name, value) in row.columns.iter() {
            encoder.text(name).value(value);
        }
        Self(encoder.digest("perennial connectors record digest v2"))
    }

    fn of_text(title: Option<&str>, text: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("perennial connectors record digest v1");
        // The title's length stands before it, so that no title and text can trade bytes.
        match title {
            None => {
                hasher.update(&[0]);
            }
            Some(title) => {
                hasher.update(&[1]);
                hasher.update(&(title.len() as u64).to_le_bytes());
                hasher.update(title.as_bytes());
            }
        }
        hasher.update(text.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// Restores a digest that was stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, to be stored.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// One version of one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which record this is a version of: in a folder the path relative to the watched root,
    /// with `/` between its parts on every system; elsewhere the record's own key.
    pub key: Key,
    /// What it says. A text is without byte-order mark, and of a file with `\n` line ends; it
    /// may be empty: such a document exists and has no passages. The time is that of the content
    /// by the source's own account, or the line's number where a JSON line carries none; never
    /// this machine's clock at reading, but for what was posted and names no time: it is as new
    /// as its arrival.
    pub row: Row,
    /// The hash of what it says.
    pub digest: Digest,
    /// Where this version was read.
    pub offset: Offset,
}

impl Record {
    /// A version of a record, all of whose columns belong to what it says.
    pub fn new(key: Key, row: Row, offset: Offset) -> Self {
        Self {
            digest: Digest::of(&row),
            key,
            row,
            offset,
        }
    }

    /// The record as a line of JSON lines, by which it can be sent in again.
    pub fn to_json(&self) -> serde_json::Value {
        let columns = self.row.columns.iter();
        let mut fields: serde_json::Map<_, _> = columns
            .map(|(name, value)| (name.to_owned(), value.to_json()))
            .collect();
        let supersedes = self.row.supersedes.iter().map(Key::as_str);
        fields.insert(KEY.to_owned(), self.key.as_str().into());
        fields.insert(TEXT.to_owned(), (*self.row.text).into());
        fields.insert(TITLE.to_owned(), self.row.title.as_deref().into());
        fields.insert(UPDATED_AT.to_owned(), self.row.updated_at_ms.into());
        fields.insert(SUPERSEDES.to_owned(), supersedes.collect());
        let mut columns = self.row.columns.iter();
        match columns.any(|(name, _)| is_operation(name)) {
            true => serde_json::json!({ "upsert": fields }),
            false => fields.into(),
        }
    }
}

/// One difference between what a source held before and what it holds now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The record is new, or replaces the version held under its key.
    Upsert(Record),
    /// The source no longer holds this key.
    Delete {
        /// Which record is gone.
        key: Key,
        /// When, in milliseconds since 1970: for files, when it was noticed (a folder does not
        /// keep the time of a deletion); for JSON lines as a record's.
        at_ms: i64,
        /// Whether the source claims this time, so that a newer version of the record makes the deletion
        /// late.
        is_timed: bool,
        /// What said so.
        offset: Offset,
    },
}

impl Change {
    /// Which record the change is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Upsert(record) => &record.key,
            Self::Delete { key, .. } => key,
        }
    }
}

#[cfg(test)]
mod tests {
    use perennial_rows::Value;
    use proptest::prelude::*;

    use super::*;

    fn titled(title: Option<&str>, text: &str) -> Row {
        Row {
            title: title.map(Into::into),
            ..Row::of_text(text)
        }
    }

    #[test]
    fn digests_are_stable_across_releases() {
        // Stored records are compared with new ones after a restart.
        let golden = "307e532b8d2fa24ec421a186d673672635cf20acb2dd74905c6af159907f6d01";
        assert_eq!(Digest::of(&Row::of_text("text")).to_string(), golden);
        let columns = [("price", Value::from(12i64)), ("sold", true.into())];
        let row = Row {
            columns: columns.into_iter().collect(),
            ..Row::of_text("text")
        };
        let golden = "9e005213e7186cd3b4abb69fbf327f318cc44a536c23d7ac8ecd71407bfb29d5";
        assert_eq!(Digest::of(&row).to_string(), golden);
    }

    #[test]
    fn a_time_is_told_apart_where_it_is_part_of_what_is_said() {
        let at = |updated_at_ms| Row {
            updated_at_ms,
            ..Row::of_text("text")
        };
        assert_eq!(Digest::of(&at(1)), Digest::of(&at(2)));
        assert_eq!(Digest::dated(&at(1)), Digest::dated(&at(1)));
        assert_ne!(Digest::dated(&at(1)), Digest::dated(&at(2)));
    }

    #[test]
    fn a_record_is_a_line_that_can_be_sent_in_again() {
        let row = Row {
            title: Some("T".into()),
            updated_at_ms: 7,
            is_timed: true,
            supersedes: [Key::new("old")].into(),
            columns: [
                ("price", Value::from(12i64)),
                ("tags", Value::from_json(&serde_json::json!(["a"]))),
            ]
            .into_iter()
            .collect(),
            ..Row::of_text("text")
        };
        let record = Record::new(Key::new("k"), row, Offset::Sequence(0));
        let line = record.to_json().to_string();
        let read = crate::read_record(line.as_bytes(), None, 0);
        assert_eq!(read, Ok(Change::Upsert(record)));
    }

    #[test]
    fn a_column_that_is_called_as_an_operation_is_no_operation_when_it_is_sent_in_again() {
        for name in ["upsert", "insert", "update", "delete"] {
            let row = Row {
                is_timed: true,
                columns: [(name, Value::from(1i64))].into_iter().collect(),
                ..Row::of_text("text")
            };
            let record = Record::new(Key::new("k"), row, Offset::Sequence(0));
            let line = record.to_json().to_string();
            let read = crate::read_record(line.as_bytes(), None, 0);
            assert_eq!(read, Ok(Change::Upsert(record)), "{line}");
        }
    }

    proptest! {
        #[test]
        fn title_and_text_cannot_trade_bytes(title in ".{0,8}", text in ".{0,8}", cut in 0usize..8) {
            let joined = format!("{title}{text}");
            let cut = (0..=cut).rev().find(|&at| joined.is_char_boundary(at)).unwrap_or(0);
            let digest = |title: Option<&str>, text: &str| Digest::of(&titled(title, text));
            if cut <= joined.len() && cut != title.len() {
                prop_assert_ne!(
                    digest(Some(&title), &text),
                    digest(Some(&joined[..cut]), &joined[cut..])
                );
            }
            prop_assert_ne!(digest(None, &text), digest(Some(""), &text));
        }
    }
}
