//! What does a memory hold of what it was given, as a query?
//!
//! A memory is three queries. What was stored is read by one that any SQL could be
//! (`stored`); [`Query::entries`] keeps of it what stands; and
//! [`Query::embedded`] adds the vectors that it is recalled by.
//!
//! What this does not do: it knows no rights and no scores. Rights are a relation that others join
//! with; scores are made when somebody asks.

use std::sync::Arc;
use std::time::Duration;

use perennial_rows::{Column, Schema, Type, Value};

use crate::query::cast::cast;
use crate::query::node::{Embed, Entries, Node};
use crate::query::{ColumnTable, Query, digest, unique};

/// The longest text of an entry, in bytes.
pub const MAX_TEXT: usize = 64 << 10;

/// The columns of what was stored, in this order. The last is not passed on.
pub const STORED: [(&str, Type); 9] = [
    // As `at` has them.
    ("key", Type::Text),
    ("namespace", Type::Text),
    ("session", Type::Text),
    ("writer", Type::Text),
    ("title", Type::Text),
    ("text", Type::Text),
    ("updated_at", Type::Timestamp),
    ("pinned", Type::Boolean),
    // A cast to JSON has no static type: a scalar in JSON is that scalar.
    ("supersedes", Type::Any),
];

/// Places of columns in what was stored, and in what follows from it.
pub mod at {
    /// The key.
    pub const KEY: usize = 0;
    /// The namespace.
    pub const NAMESPACE: usize = 1;
    /// The session; NULL of what has none.
    pub const SESSION: usize = 2;
    /// The writer; NULL of what has none.
    pub const WRITER: usize = 3;
    /// The title; NULL of what has none.
    pub const TITLE: usize = 4;
    /// The text.
    pub const TEXT: usize = 5;
    /// When it came to be.
    pub const UPDATED_AT: usize = 6;
    /// Whether it is pinned.
    pub const PINNED: usize = 7;
    /// What it makes obsolete: of what was stored.
    pub const SUPERSEDES: usize = 8;
    /// The keys of all rows that say the same: of an entry.
    pub const SOURCES: usize = 8;
}

/// Name of the column that lists the keys of all rows which say what an entry says.
pub const SOURCES: &str = "sources";
/// Name of the column that holds the vector of an entry.
pub const VECTOR: &str = "vector";

/// How much of each namespace is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    /// So many entries: those that are pinned, then the newest.
    Count(u64),
    /// Entries that came within this time of the newest of their namespace, and those that are pinned.
    /// To a sixty-fourth of it: so a new entry does not have all others looked at.
    Age(Duration),
}

/// By what the entries of a memory are scored for a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecallBy {
    /// Vectors and words.
    #[default]
    Text,
    /// Vectors alone.
    Similarity,
    /// Words alone: no text is embedded.
    Words,
    /// What a model of this machine reads in question and entry, alone.
    Latent,
    /// The same for the best that text finds, added to the score of text.
    Both,
}

/// Each with its word.
const RECALLED_BY: [(&str, RecallBy); 5] = [
    ("text", RecallBy::Text),
    ("similarity", RecallBy::Similarity),
    ("words", RecallBy::Words),
    ("latent", RecallBy::Latent),
    ("both", RecallBy::Both),
];

impl RecallBy {
    /// Whether a model reads question and entries.
    pub fn is_latent(self) -> bool {
        matches!(self, Self::Latent | Self::Both)
    }

    /// Whether the question's vector is needed.
    pub fn is_embedded(self) -> bool {
        matches!(self, Self::Text | Self::Similarity | Self::Both)
    }

    /// Whether words count.
    pub fn has_words(self) -> bool {
        matches!(self, Self::Text | Self::Words | Self::Both)
    }
}

impl std::str::FromStr for RecallBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = RECALLED_BY.iter();
        let found = all.find(|(word, _)| word.eq_ignore_ascii_case(text));
        let unknown = || "expected text, similarity, words, latent or both".to_owned();
        found.map(|(_, by)| *by).ok_or_else(unknown)
    }
}

impl std::fmt::Display for RecallBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut all = RECALLED_BY.iter();
        let found = all.find(|(_, by)| by == self);
        f.write_str(found.map_or("text", |(word, _)| word))
    }
}

/// A value as the text that a query casts it to.
pub fn text_of(value: Value) -> Option<Arc<str>> {
    cast(value, Type::Text).as_text().cloned()
}

/// Milliseconds of a unit of durations.
const UNITS: [(&str, u64); 5] = [
    ("d", 24 * 3600 * 1000),
    ("h", 3600 * 1000),
    ("m", 60 * 1000),
    ("s", 1000),
    ("ms", 1),
];

/// A duration as [`Retain`] reads it.
pub(crate) fn duration_text(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let is_whole = |of: u64| milliseconds > 0 && milliseconds.is_multiple_of(u128::from(of));
    match UNITS.iter().find(|(_, of)| is_whole(*of)) {
        Some((unit, of)) => format!("{} {unit}", milliseconds / u128::from(*of)),
        None => "0 s".to_owned(),
    }
}

impl std::str::FromStr for Retain {
    type Err = String;

    /// A number of entries, or a duration such as `30 d`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let unit_at = text.find(|c: char| !c.is_ascii_digit());
        let (digits, unit) = text.split_at(unit_at.unwrap_or(text.len()));
        let number = digits.parse::<u64>().ok().filter(|n| *n > 0);
        let unit = unit.trim_start();
        let of = UNITS.iter().find(|(name, _)| *name == unit);
        match (number, of) {
            (Some(n), None) if unit.is_empty() => Some(Self::Count(n)),
            (Some(n), Some((_, of))) => {
                let milliseconds = n.checked_mul(*of).filter(|ms| i64::try_from(*ms).is_ok());
                milliseconds.map(|ms| Self::Age(Duration::from_millis(ms)))
            }
            _ => None,
        }
        .ok_or_else(|| {
            "expected a number of entries of at least 1, or a duration such as 30 d or 12 h"
                .to_owned()
        })
    }
}

impl std::fmt::Display for Retain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(n) => write!(f, "{n}"),
            Self::Age(age) => f.write_str(&duration_text(*age)),
        }
    }
}

impl Query {
    /// Of these rows, which have the columns of [`STORED`], those that stand: neither superseded by
    /// a newer row of their namespace, nor said again by one, nor past what is retained. The result
    /// has the same columns without the last, and [`SOURCES`].
    ///
    /// # Panics
    /// If the columns are others.
    #[must_use]
    pub fn entries(self, retain: Option<Retain>) -> Self {
        let columns = self.schema.columns().iter();
        let columns: Vec<(&str, Type)> = columns.map(|c| (&*c.name, c.of)).collect();
        assert_eq!(columns, STORED, "the columns of what was stored");
        let mut table = self.table.clone();
        let sources = table.add(SOURCES, Type::Json);
        let root = Node::Entries(Box::new(Entries {
            input: self.root.clone(),
            retain,
            sources,
        }));
        let kept = self.schema.columns()[..STORED.len() - 1].to_vec();
        self.with_root(root, table, kept, Column::new(SOURCES, Type::Json))
    }

    /// These rows, each with the vector of its `text`, below its `title`, as the column [`VECTOR`].
    ///
    /// # Panics
    /// If there are no such columns.
    #[must_use]
    pub fn embedded(self) -> Self {
        let columns = self.root.columns();
        let position = |name: &str| {
            let at = self.schema.position(name);
            columns[at.expect("what is embedded has a title and a text")]
        };
        let (title, text) = (position("title"), position("text"));
        let mut table = self.table.clone();
        let output = table.add(VECTOR, Type::Vector);
        let root = Node::Embed(Box::new(Embed {
            input: self.root.clone(),
            title,
            text,
            output,
        }));
        let kept = self.schema.columns().to_vec();
        self.with_root(root, table, kept, Column::new(VECTOR, Type::Vector))
    }

    /// The query of another tree over the same inputs, whose result has one column more.
    fn with_root(self, root: Node, table: ColumnTable, kept: Vec<Column>, last: Column) -> Self {
        let outputs = root.columns();
        let schema = Schema::new(kept.into_iter().chain([last]));
        Self {
            digest: digest::digest(&root, &schema),
            unique: unique::positions(&root, &table, &outputs),
            root,
            table,
            schema,
            order: Vec::new(),
            ..self
        }
    }
}
