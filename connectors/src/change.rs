//! What does a source say? Keyed records that come, change and go.
//!
//! A [`Record`] is one version of one document (or of one question). Its [`Digest`] covers all
//! that a model could see of it, so equal digests mean that nothing needs to be done.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Offset;

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

/// Which record of a source: in a folder the path relative to the watched root, with `/`
/// between its parts on every system; in JSON lines the record's own key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(String);

impl Key {
    /// Makes a key of text.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The BLAKE3 hash of a record's title and text, 32 bytes. Times, keys and offsets are not
/// part of it: a file that is touched, moved or re-encoded with other line ends keeps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes what a model could see of a record.
    pub fn of(title: Option<&str>, text: &str) -> Self {
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
    /// Which record this is a version of.
    pub key: Key,
    /// The text, without byte-order mark; files have `\n` line ends. May be empty: such a
    /// document exists and has no passages.
    pub text: String,
    /// What the record calls itself: a Markdown file's first heading, a JSON record's `title`.
    pub title: Option<String>,
    /// When the content changed, by the source's own account: milliseconds since 1970, or the
    /// line's number where a JSON line carries no time. Never this machine's clock at reading,
    /// but for what was posted and names no time: it is as new as its arrival.
    pub updated_at_ms: i64,
    /// Whether that time is the record's own claim: then an older version that comes later is
    /// late, and does not take its place.
    pub is_timed: bool,
    /// Records of the same source that this one makes obsolete, though they stay.
    pub supersedes: Vec<Key>,
    /// The hash of title and text.
    pub digest: Digest,
    /// Where this version was read.
    pub offset: Offset,
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
        /// keep the time of a deletion); for JSON lines as [`Record::updated_at_ms`].
        at_ms: i64,
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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digests_are_stable_across_releases() {
        // Stored digests are compared with new ones after a restart.
        let golden = "307e532b8d2fa24ec421a186d673672635cf20acb2dd74905c6af159907f6d01";
        assert_eq!(Digest::of(None, "text").to_string(), golden);
    }

    proptest! {
        #[test]
        fn title_and_text_cannot_trade_bytes(title in ".{0,8}", text in ".{0,8}", cut in 0usize..8) {
            let joined = format!("{title}{text}");
            let cut = (0..=cut).rev().find(|&at| joined.is_char_boundary(at)).unwrap_or(0);
            if cut <= joined.len() && cut != title.len() {
                prop_assert_ne!(
                    Digest::of(Some(&title), &text),
                    Digest::of(Some(&joined[..cut]), &joined[cut..])
                );
            }
            prop_assert_ne!(Digest::of(None, &text), Digest::of(Some(""), &text));
        }
    }
}
