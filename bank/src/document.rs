//! The rows that flow: documents, their passages, contexts, and the passages of one layout.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::PassageId;

macro_rules! key_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The key with this text.
            pub fn new(key: impl Into<Arc<str>>) -> Self {
                Self(key.into())
            }

            /// The key's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

key_newtype! {
    /// Names a document within its source: a relative path, a record's key.
    DocumentKey
}
key_newtype! {
    /// Names one request of a view's context stream: a question, a session.
    ContextKey
}

/// One version of a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Document {
    /// Which document this is a version of.
    pub key: DocumentKey,
    /// What the model is told the document is called; the key where there is no better.
    pub title: Arc<str>,
    /// The whole text.
    pub text: Arc<str>,
    /// When this version came to be, in milliseconds since 1970 as its source reports it.
    pub updated_at_ms: i64,
    /// Documents that it makes obsolete.
    pub supersedes: Arc<[DocumentKey]>,
}

/// A piece of one document version, with its tokens under the view's model.
///
/// Compared and hashed by place, time, id and mark: the id names title and text, and tokens
/// are a function of these and the view's model. So arranging a passage reads no text, and
/// the order is the one that comparing every field would give.
///
/// # Contract
/// Passages of one collection have their tokens from one model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Passage {
    /// The document it was cut from.
    pub document: DocumentKey,
    /// Its place among the document's passages, from 0.
    pub ordinal: u32,
    /// The document version's time.
    pub updated_at_ms: i64,
    /// Id of title and text.
    pub id: PassageId,
    /// The document's title.
    pub title: Arc<str>,
    /// The passage's own text.
    pub text: Arc<str>,
    /// The passage as the model reads it: title line, text, separator.
    pub tokens: Arc<[u32]>,
    /// Whether a newer document makes its document obsolete.
    pub is_superseded: bool,
}

impl Passage {
    /// Whether another has the same title and text, and is as much in force.
    pub fn is_copy_of(&self, other: &Self) -> bool {
        self.id == other.id && self.is_superseded == other.is_superseded
    }

    /// What tells one passage from another.
    fn identity(&self) -> (&DocumentKey, u32, i64, PassageId, bool) {
        let Self {
            document,
            ordinal,
            updated_at_ms,
            id,
            is_superseded,
            ..
        } = self;
        (document, *ordinal, *updated_at_ms, *id, *is_superseded)
    }
}

impl PartialEq for Passage {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}
impl Eq for Passage {}
impl PartialOrd for Passage {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Passage {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.identity().cmp(&other.identity())
    }
}
impl Hash for Passage {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// Another document that holds a passage of a layout, with the same title and text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PassageCopy {
    /// The document.
    pub document: DocumentKey,
    /// The place among its passages, from 0.
    pub ordinal: u32,
}

impl From<&Passage> for PassageCopy {
    fn from(passage: &Passage) -> Self {
        Self {
            document: passage.document.clone(),
            ordinal: passage.ordinal,
        }
    }
}

/// A passage as a member of a layout: what it says, where it is from, not when it changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LayoutPassage {
    /// The document it was cut from.
    pub document: DocumentKey,
    /// Its place among the document's passages, from 0.
    pub ordinal: u32,
    /// Id of title and text.
    pub id: PassageId,
    /// The document's title.
    pub title: Arc<str>,
    /// The passage's own text.
    pub text: Arc<str>,
    /// The passage as the model reads it.
    pub tokens: Arc<[u32]>,
    /// Whether it is obsolete: the view's repair is laid on it.
    pub is_superseded: bool,
    /// Where else it stands: the model reads it once, and an answer that leans on it names all of them.
    pub copies: Arc<[PassageCopy]>,
}

impl LayoutPassage {
    /// Whether a model reads the same where another stands in its place.
    pub fn reads_as(&self, other: &Self) -> bool {
        self.id == other.id && self.is_superseded == other.is_superseded
    }
}

impl From<&Passage> for LayoutPassage {
    fn from(passage: &Passage) -> Self {
        Self {
            document: passage.document.clone(),
            ordinal: passage.ordinal,
            id: passage.id,
            title: passage.title.clone(),
            text: passage.text.clone(),
            tokens: passage.tokens.clone(),
            is_superseded: passage.is_superseded,
            copies: Arc::default(),
        }
    }
}

/// The ordered passages of one context. Shared, compared and hashed by digest, so that a
/// hundred contexts over the same documents cost one list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PassageLayout {
    digest: [u8; 32],
    passages: Arc<[LayoutPassage]>,
}

impl PassageLayout {
    /// The layout of these passages in this order.
    pub fn new(passages: Vec<LayoutPassage>) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 layout");
        let place = |hash: &mut blake3::Hasher, document: &DocumentKey, ordinal: u32| {
            hash.update(&(document.as_str().len() as u64).to_le_bytes());
            hash.update(document.as_str().as_bytes());
            hash.update(&ordinal.to_le_bytes());
        };
        for passage in &passages {
            hash.update(passage.id.as_bytes());
            place(&mut hash, &passage.document, passage.ordinal);
            // Of a passage that stands once there is the mark alone, as ever.
            let has_copies = u8::from(!passage.copies.is_empty());
            hash.update(&[u8::from(passage.is_superseded) | (has_copies << 1)]);
            if has_copies == 1 {
                hash.update(&(passage.copies.len() as u64).to_le_bytes());
                for copy in &*passage.copies {
                    place(&mut hash, &copy.document, copy.ordinal);
                }
            }
        }
        Self {
            digest: *hash.finalize().as_bytes(),
            passages: passages.into(),
        }
    }

    /// A digest of documents, places, titles and texts of the passages, and of their copies, in order.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The passages in order.
    pub fn passages(&self) -> &[LayoutPassage] {
        &self.passages
    }

    /// Whether a model reads the same in another layout, whatever documents that is from.
    pub fn reads_as(&self, other: &Self) -> bool {
        let (passages, others) = (self.passages(), other.passages());
        let pairs = || passages.iter().zip(others);
        passages.len() == others.len() && pairs().all(|(a, b)| a.reads_as(b))
    }

    /// Tokens of all passages together.
    pub fn n_tokens(&self) -> usize {
        self.passages.iter().map(|p| p.tokens.len()).sum()
    }
}

impl PartialEq for PassageLayout {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}
impl Eq for PassageLayout {}
impl PartialOrd for PassageLayout {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for PassageLayout {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.digest.cmp(&other.digest)
    }
}
impl Hash for PassageLayout {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    /// Every pair of values of each field: all that tells passages apart is in the order,
    /// and it is the order of the fields.
    #[test]
    fn passages_are_ordered_as_all_their_fields_would_order_them() {
        let mut passages = Vec::new();
        for (document, ordinal, time, text, is_superseded) in (0..32).map(|i: u32| {
            let bit = |n: u32| i >> n & 1;
            let text = ["one", "two"][bit(1) as usize];
            (
                bit(4).to_string(),
                bit(3),
                i64::from(bit(2)),
                text,
                bit(0) == 1,
            )
        }) {
            passages.push(Passage {
                document: DocumentKey::new(document),
                ordinal,
                updated_at_ms: time,
                id: PassageId::of("title", text),
                title: "title".into(),
                text: text.into(),
                tokens: text.bytes().map(u32::from).collect(),
                is_superseded,
            });
        }
        let fields = |p: &Passage| {
            let place = (p.document.clone(), p.ordinal, p.updated_at_ms, p.id);
            (
                place,
                p.title.clone(),
                p.text.clone(),
                p.tokens.clone(),
                p.is_superseded,
            )
        };
        let hasher = std::hash::RandomState::new();
        for a in &passages {
            for b in &passages {
                assert_eq!(a.cmp(b), fields(a).cmp(&fields(b)));
                assert_eq!(a == b, fields(a) == fields(b));
                if a == b {
                    assert_eq!(hasher.hash_one(a), hasher.hash_one(b));
                }
            }
        }
    }

    /// Where a passage stands besides is part of a layout, but not of what is read.
    #[test]
    fn copies_are_told_apart_and_read_alike() {
        let passage = |document: &str, copies: &[(&str, u32)]| LayoutPassage {
            document: DocumentKey::new(document),
            ordinal: 0,
            id: PassageId::of("title", "text"),
            title: "title".into(),
            text: "text".into(),
            tokens: Arc::default(),
            is_superseded: false,
            copies: copies
                .iter()
                .map(|(document, ordinal)| PassageCopy {
                    document: DocumentKey::new(*document),
                    ordinal: *ordinal,
                })
                .collect(),
        };
        let layouts = [
            passage("a", &[]),
            passage("b", &[]),
            passage("a", &[("b", 0)]),
            passage("a", &[("b", 1)]),
            passage("a", &[("b", 0), ("c", 0)]),
        ]
        .map(|passage| PassageLayout::new(vec![passage]));
        for (i, one) in layouts.iter().enumerate() {
            for (j, other) in layouts.iter().enumerate() {
                assert_eq!(one == other, i == j);
                assert!(one.reads_as(other));
            }
        }
        let twice = PassageLayout::new(vec![passage("a", &[]), passage("b", &[])]);
        assert!(!twice.reads_as(&layouts[0]) && !layouts[0].reads_as(&twice));
        let superseded = LayoutPassage {
            is_superseded: true,
            ..passage("a", &[])
        };
        assert!(!PassageLayout::new(vec![superseded]).reads_as(&layouts[0]));
    }
}
