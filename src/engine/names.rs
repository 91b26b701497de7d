//! What is there, by name? Known to every handle and to the coordinator.
//!
//! The coordinator alone writes; handles look names up, so that a misspelt one is an error at
//! once. A number is given once: whoever holds that of something dropped finds nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use perennial_rows::Schema;

use super::error::Error;

/// Number of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub(crate) u64);

/// Number of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ViewId(pub(crate) u64);

/// What bears a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// A stream that a source feeds.
    Source(StreamId),
    /// A stream that is fed by hand.
    Table(StreamId),
    /// A view that asks a model.
    Answers(ViewId),
    /// A view of a query.
    Query(ViewId),
}

/// Names and what bears them.
#[derive(Debug, Default)]
pub(crate) struct Names(RwLock<BTreeMap<Arc<str>, Bearer>>);

/// What bears a name, and, where it is a stream, the columns that are declared.
#[derive(Debug)]
struct Bearer {
    named: Named,
    columns: Option<Schema>,
}

impl Names {
    /// What bears a name.
    pub(crate) fn get(&self, name: &str) -> Option<Named> {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.get(name).map(|bearer| bearer.named)
    }

    /// The columns that are declared of a stream.
    pub(crate) fn columns(&self, stream: &str) -> Option<Schema> {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.get(stream)?.columns.clone()
    }

    /// Gives a view a name.
    pub(crate) fn insert(&self, name: Arc<str>, named: Named) {
        self.insert_stream(name, named, None);
    }

    /// Gives a stream a name.
    pub(crate) fn insert_stream(&self, name: Arc<str>, named: Named, columns: Option<Schema>) {
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        names.insert(name, Bearer { named, columns });
    }

    /// The name is free again.
    pub(crate) fn remove(&self, name: &str) {
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        names.remove(name);
    }

    /// A stream, and whether it is fed by hand.
    ///
    /// # Errors
    /// [`Error::UnknownStream`].
    pub(crate) fn stream(&self, name: &str) -> Result<(StreamId, bool), Error> {
        match self.get(name) {
            Some(Named::Source(id)) => Ok((id, false)),
            Some(Named::Table(id)) => Ok((id, true)),
            _ => Err(Error::UnknownStream {
                name: name.to_owned(),
                declared: self.list(|n| matches!(n, Named::Source(_) | Named::Table(_))),
            }),
        }
    }

    /// A view that asks a model.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::NotAnswers`].
    pub(crate) fn answers(&self, name: &str) -> Result<ViewId, Error> {
        match self.get(name) {
            Some(Named::Answers(id)) => Ok(id),
            Some(Named::Query(_)) => Err(Error::NotAnswers {
                name: name.to_owned(),
            }),
            _ => Err(Error::UnknownView {
                name: name.to_owned(),
                declared: self.list(|n| matches!(n, Named::Answers(_))),
            }),
        }
    }

    /// A view of either kind.
    ///
    /// # Errors
    /// [`Error::UnknownView`].
    pub(crate) fn view(&self, name: &str) -> Result<ViewId, Error> {
        match self.get(name) {
            Some(Named::Answers(id) | Named::Query(id)) => Ok(id),
            _ => Err(Error::UnknownView {
                name: name.to_owned(),
                declared: self.list(|n| matches!(n, Named::Answers(_) | Named::Query(_))),
            }),
        }
    }

    /// The names of what is of a kind, with commas between.
    pub(crate) fn list(&self, is_of: impl Fn(Named) -> bool) -> String {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let of_kind = names.iter().filter(|(_, bearer)| is_of(bearer.named));
        let of_kind: Vec<&str> = of_kind.map(|(name, _)| &**name).collect();
        of_kind.join(", ")
    }
}
