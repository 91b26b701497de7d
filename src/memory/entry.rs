//! What is stored, and what stands?

use std::sync::Arc;

use perennial_rows::encoding::Encoder;
use perennial_rows::{Tuple, Value};
use perennial_views::query::memory::{MAX_TEXT, at};

use super::error::{MemoryError, check};

/// The namespace of what names none.
pub(super) const DEFAULT_NAMESPACE: &str = "default";
/// The longest key, name or title, in bytes.
pub(super) const MAX_NAME: usize = 1024;
/// What a key of an entry without one is the digest of, and its version.
const KEY_OF: &str = "perennial memory key 1";
/// Bytes of that digest which are the key.
const KEY_BYTES: usize = 12;

/// Something to be stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewEntry {
    pub(super) text: String,
    pub(super) key: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) session: Option<String>,
    pub(super) writer: Option<String>,
    pub(super) title: Option<String>,
    pub(super) is_pinned: bool,
    pub(super) supersedes: Vec<String>,
    pub(super) updated_at_ms: Option<i64>,
}

impl NewEntry {
    /// A text, in the namespace `default`. Its key follows from what is said of it: stored twice, it
    /// is there once.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// The same of another text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    /// Under this key: what stands there is replaced.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// In this namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Said in this session.
    #[must_use]
    pub fn session(mut self, session: impl Into<String>) -> Self {
        self.session = Some(session.into());
        self
    }

    /// Said by this writer.
    #[must_use]
    pub fn writer(mut self, writer: impl Into<String>) -> Self {
        self.writer = Some(writer.into());
        self
    }

    /// Called so.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Kept before all that is not pinned.
    #[must_use]
    pub fn pinned(mut self, is_pinned: bool) -> Self {
        self.is_pinned = is_pinned;
        self
    }

    /// Makes others of its namespace obsolete, by their keys.
    #[must_use]
    pub fn superseding<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.supersedes = keys.into_iter().map(Into::into).collect();
        self
    }

    /// Said at this time, in milliseconds since 1970; now unless told.
    #[must_use]
    pub fn at(mut self, updated_at_ms: i64) -> Self {
        self.updated_at_ms = Some(updated_at_ms);
        self
    }

    /// The key, given or made.
    ///
    /// # Errors
    /// What of it cannot be stored, and why.
    pub(super) fn checked_key(&self) -> Result<String, MemoryError> {
        check("text", &self.text, MAX_TEXT)?;
        let names = [
            ("key", &self.key),
            ("namespace", &self.namespace),
            ("session", &self.session),
            ("writer", &self.writer),
            ("title", &self.title),
        ];
        for (what, name) in names {
            if let Some(name) = name {
                check(what, name, MAX_NAME)?;
            }
        }
        for key in &self.supersedes {
            check("superseded key", key, MAX_NAME)?;
        }
        if let Some(key) = &self.key {
            return Ok(key.clone());
        }
        let mut encoder = Encoder::new();
        let namespace = self.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        encoder.text(namespace).text(&self.text);
        for name in [&self.session, &self.writer, &self.title] {
            encoder.number(name.is_some().into());
            encoder.text(name.as_deref().unwrap_or_default());
        }
        let digest = encoder.digest(KEY_OF);
        let hex = digest[..KEY_BYTES].iter().map(|byte| format!("{byte:02x}"));
        Ok(hex.collect())
    }
}

/// An entry that stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// Its key.
    pub key: Arc<str>,
    /// Where it belongs.
    pub namespace: Arc<str>,
    /// In which session it was said.
    pub session: Option<Arc<str>>,
    /// By whom.
    pub writer: Option<Arc<str>>,
    /// What it calls itself.
    pub title: Option<Arc<str>>,
    /// What it says.
    pub text: Arc<str>,
    /// When, in milliseconds since 1970.
    pub updated_at_ms: i64,
    /// Whether it is kept before all that is not pinned.
    pub is_pinned: bool,
    /// The keys of all rows that say the same, its own first.
    pub sources: Vec<Arc<str>>,
}

impl Entry {
    /// The entry of a row of a memory's view; none of a row that is no entry.
    pub(super) fn of(tuple: &Tuple) -> Option<Self> {
        let text = |at: usize| tuple.get(at)?.as_text().cloned();
        let sources = match tuple.get(at::SOURCES)? {
            json @ Value::Json(_) => json.to_json(),
            _ => return None,
        };
        let sources = sources.as_array().into_iter().flatten();
        Some(Self {
            key: text(at::KEY)?,
            namespace: text(at::NAMESPACE)?,
            session: text(at::SESSION),
            writer: text(at::WRITER),
            title: text(at::TITLE),
            text: text(at::TEXT)?,
            updated_at_ms: match tuple.get(at::UPDATED_AT)? {
                Value::Timestamp(ms) => *ms,
                _ => 0,
            },
            is_pinned: tuple.get(at::PINNED) == Some(&Value::Boolean(true)),
            sources: sources
                .filter_map(|key| key.as_str().map(Arc::from))
                .collect(),
        })
    }
}
