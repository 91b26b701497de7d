//! Who may read what?
//!
//! A grant is a row of a table, and what a reader may read a view that joins it: so a right that is
//! given or taken back is a change like any other.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use perennial_rows::{Key, Row, Type, json};

use super::bank::Bank;
use super::entry::MAX_NAME;
use super::error::{MemoryError, check};
use crate::engine::Edit;

/// The view of each reader, by the reader. A name alone tells nothing: the view of `b_as_c` in the
/// memory `a` is called as that of `c` in the memory `a_as_b`.
pub(super) type Readers = BTreeMap<String, String>;

impl Bank {
    /// Lets a reader read a namespace, which need not hold anything yet.
    ///
    /// # Errors
    /// A name that is empty, too long or holds control characters.
    pub fn grant(&self, namespace: &str, reader: &str) -> Result<(), MemoryError> {
        let key = grant_key(namespace, reader)?;
        let edit = Edit::upsert(self.shared.memory.grants(), key, "");
        let edit = edit
            .at(0)
            .with("reader", reader)
            .with("namespace", namespace);
        Ok(self.shared.engine.apply(vec![edit])?)
    }

    /// Takes a reader's right back, however it was given; that there is none is no error.
    ///
    /// # Errors
    /// As [`Bank::grant`].
    pub fn revoke(&self, namespace: &str, reader: &str) -> Result<(), MemoryError> {
        check("namespace", namespace, MAX_NAME)?;
        check("reader", reader, MAX_NAME)?;
        let engine = &self.shared.engine;
        let grants = self.shared.memory.grants();
        // The table takes rows under any key.
        let rows = engine.rows_of(&grants)?.into_iter();
        let of_pair = rows.filter(|(key, row)| {
            holds(key, row, "reader", reader) && holds(key, row, "namespace", namespace)
        });
        let edits = of_pair.map(|(key, _)| Edit::delete(&*grants, key));
        Ok(engine.apply(edits.collect())?)
    }

    /// The name of a view of what a reader may read, for standing questions: made at first use, and
    /// kept from then on. A revocation is a change of it.
    ///
    /// # Errors
    /// As [`Bank::grant`] for the name; [`Error::DeclaredTwice`] where something else bears the name
    /// of that view; [`Error::Recorded`], [`Error::Stopped`].
    ///
    /// [`Error::DeclaredTwice`]: crate::Error::DeclaredTwice
    /// [`Error::Recorded`]: crate::Error::Recorded
    /// [`Error::Stopped`]: crate::Error::Stopped
    pub fn readable_by(&self, reader: &str) -> Result<String, MemoryError> {
        check("reader", reader, MAX_NAME)?;
        let (engine, memory) = (&self.shared.engine, &self.shared.memory);
        // Held until it is made: of two who ask at once one makes it.
        let mut readers = self.readers();
        if let Some(name) = readers.get(reader) {
            let relations = engine.relations()?;
            if relations.iter().any(|of| *of.name == **name) {
                return Ok(name.clone());
            }
            // It was dropped by itself.
            readers.remove(reader);
        }
        let name = memory.readable_by(reader);
        engine.create_query(&name, memory.readable_query(&engine.relations()?, reader)?)?;
        readers.insert(reader.to_owned(), name.clone());
        Ok(name)
    }

    pub(super) fn readers(&self) -> MutexGuard<'_, Readers> {
        let readers = self.shared.readers.lock();
        readers.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a row has this text in a column.
pub(super) fn holds(key: &Key, row: &Row, column: &str, text: &str) -> bool {
    let value = row.column(key, column);
    value.as_text().is_some_and(|value| **value == *text)
}

/// The key of a grant: one a pair.
fn grant_key(namespace: &str, reader: &str) -> Result<String, MemoryError> {
    check("namespace", namespace, MAX_NAME)?;
    check("reader", reader, MAX_NAME)?;
    let pair = [reader.into(), namespace.into()];
    let pair = pair.iter().map(|value| (value, Type::Text));
    Ok(json::key(pair))
}
