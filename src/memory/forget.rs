//! What is taken back, and what came of it?

use std::collections::BTreeSet;
use std::sync::Arc;

use perennial_rows::{Key, Row};
use perennial_views::query::memory::text_of;

use super::bank::{Bank, undeclared};
use super::declaration::Memory;
use super::entry::DEFAULT_NAMESPACE;
use super::error::MemoryError;
use super::rights;
use crate::engine::{Receipt, RelationKind};

/// Which records of a memory are erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForgetBy {
    /// That of this key, there or not.
    Key(String),
    /// All of a session.
    Session(String),
    /// All of a writer.
    Writer(String),
    /// All of a namespace, and its grants.
    Namespace(String),
}

impl ForgetBy {
    /// What it goes by, and its value.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Key(of) => ("key", of),
            Self::Session(of) => ("session", of),
            Self::Writer(of) => ("writer", of),
            Self::Namespace(of) => ("namespace", of),
        }
    }

    /// Refuses what no row can be told by.
    fn check(&self, memory: &Memory) -> Result<(), MemoryError> {
        match self {
            Self::Session(of) if memory.session.is_none() => {
                Err(undeclared("a session", of.clone()))
            }
            Self::Writer(of) if memory.writer.is_none() => Err(undeclared("a writer", of.clone())),
            _ => Ok(()),
        }
    }

    /// Whether a row of the relation that the memory is made from is one of them.
    fn is_of(&self, memory: &Memory, key: &Key, row: &Row) -> bool {
        // As the entries' view has them.
        let said = |column: &Option<String>| -> Option<Arc<str>> {
            text_of(row.column(key, column.as_ref()?))
        };
        let holds = |column, of: &str| said(column).as_deref() == Some(of);
        match self {
            Self::Key(of) => key.as_str() == of,
            Self::Session(of) => holds(&memory.session, of),
            Self::Writer(of) => holds(&memory.writer, of),
            Self::Namespace(of) => {
                let own = said(&memory.namespace).filter(|own| !own.is_empty());
                own.as_deref().unwrap_or(DEFAULT_NAMESPACE) == of
            }
        }
    }
}

/// What forgetting came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MemoryReceipt {
    /// The memory.
    pub memory: String,
    /// What it went by: `key`, `session`, `writer` or `namespace`.
    pub by: String,
    /// Its value.
    pub of: String,
    /// Records erased.
    pub n_records: usize,
    /// Grants taken back.
    pub n_grants: usize,
    /// Where something was still found: nowhere, unless the engine records, or something is wrong.
    pub remains: Vec<String>,
    /// The receipt of each record.
    pub records: Vec<Receipt>,
}

impl Bank {
    /// Erases records, with all that remembers them; see [`Engine::forget`]. Where none is there, what
    /// is left of such as were deleted before is erased all the same.
    ///
    /// # Errors
    /// [`MemoryError::OutOfRange`] for a session or a writer that the memory declares no column for;
    /// [`MemoryError::NotByHand`] where a view says the records, or a source does and it is not told by
    /// key which; as [`Engine::forget`].
    ///
    /// [`Engine::forget`]: crate::Engine::forget
    pub fn forget(&self, by: &ForgetBy) -> Result<MemoryReceipt, MemoryError> {
        let (engine, memory) = (&self.shared.engine, &self.shared.memory);
        by.check(memory)?;
        let relations = engine.relations()?;
        let from = relations
            .iter()
            .find(|relation| *relation.name == *memory.from);
        let instead = match (from.map(|relation| relation.kind), by) {
            (Some(RelationKind::Query | RelationKind::Answers), _) => {
                Some("forget what that view reads")
            }
            (Some(RelationKind::Source), ForgetBy::Key(_)) => None,
            // Rows that are gone there, as they must be, tell nobody whose they were.
            (Some(RelationKind::Source), _) => {
                Some("delete the records there, and forget each by its key")
            }
            _ => None,
        };
        if let Some(instead) = instead {
            return Err(self.not_by_hand(memory.from.clone(), instead));
        }
        engine.flush_into(&[&memory.index()])?;
        let rows = engine.rows_of(&memory.from)?;
        let of_them = rows.iter().filter(|(key, row)| by.is_of(memory, key, row));
        let mut keys: Vec<Key> = of_them.map(|(key, _): &(Key, Row)| key.clone()).collect();
        if let ForgetBy::Key(key) = by
            && keys.is_empty()
        {
            // What remembers it is forgotten in any case.
            keys.push(Key::from(key.as_str()));
        }
        let mut grants = Vec::new();
        if let ForgetBy::Namespace(namespace) = by {
            let name = memory.grants();
            let rows = engine.rows_of(&name)?.into_iter();
            let of_it = rows.filter(|(key, row)| rights::holds(key, row, "namespace", namespace));
            let keys: Vec<Key> = of_it.map(|(key, _)| key).collect();
            grants = engine.forget_all(&name, keys)?;
        }
        let mut looked: Vec<Receipt> = Vec::new();
        let records = match keys.is_empty() {
            true => {
                looked.push(engine.erase(&memory.from)?);
                Vec::new()
            }
            false => engine.forget_all(&memory.from, keys)?,
        };
        // The index holds what stood until it has heard.
        self.catch_up();
        let (what, of) = by.parts();
        let was_there = |receipts: &[Receipt]| receipts.iter().filter(|r| r.was_there).count();
        let all = records.iter().chain(&grants).chain(&looked);
        let remains: BTreeSet<&String> = all.flat_map(|receipt| &receipt.remains).collect();
        Ok(MemoryReceipt {
            memory: memory.name.clone(),
            by: what.to_owned(),
            of: of.to_owned(),
            n_records: was_there(&records),
            n_grants: was_there(&grants),
            remains: remains.into_iter().cloned().collect(),
            records,
        })
    }
}
