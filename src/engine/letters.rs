//! Which dead letters tell of what is forgotten?
//!
//! A letter is a row that a receiver refused for good. It goes with a record whose text stands in it, line by line as
//! everywhere (`needles.rs`), or which it names: as the key that it is of, in a column, or as a document that an
//! answer leans on. An answer that says an earlier version in other words, and does not name it, is not found.

use std::collections::{BTreeMap, BTreeSet};

use perennial_connectors::DeadLetters;
use perennial_rows::{Row, Value as Cell};
use serde_json::Value;

use super::needles::Needles;

/// How a view that a letter is of reads the stream of what is forgotten.
#[derive(Clone, Copy)]
pub(crate) struct Reads {
    /// As what its answers lean on.
    pub(crate) as_documents: bool,
    /// As what its rows or answers are of.
    pub(crate) as_rows: bool,
}

impl Reads {
    /// As it may be where nobody knows.
    pub(crate) const UNKNOWN: Self = Self {
        as_documents: true,
        as_rows: true,
    };
}

/// Adds what a row says in letters: its text, and the texts of its columns, but for what is its key.
pub(crate) fn add_row(needles: &mut Needles, key: &str, row: &Row, owner: usize) {
    for text in texts(row).into_iter().filter(|text| *text != key) {
        needles.add(text, owner);
    }
}

/// The texts of a row.
pub(crate) fn texts(row: &Row) -> Vec<&str> {
    let columns = row.columns.shared().map(|(_, value)| value);
    let columns = columns.filter_map(|value| match value {
        Cell::Text(text) | Cell::Json(text) => Some(&**text),
        _ => None,
    });
    std::iter::once(&*row.text).chain(columns).collect()
}

/// Whether a letter names a record.
pub(crate) fn names(letter: &Value, key: &str, reads: Reads) -> bool {
    let is_key = |value: &Value| value.as_str() == Some(key);
    let is_in = |list: &Value| list.as_array().is_some_and(|all| all.iter().any(is_key));
    let is_of_it = || {
        // A key of several columns is a list.
        let is_among = |of: &str| serde_json::from_str(of).is_ok_and(|list| is_in(&list));
        let is_key_of = |of: &str| of == key || of.starts_with('[') && is_among(of);
        let row = letter["row"].as_object();
        letter["key"].as_str().is_some_and(is_key_of)
            || row.is_some_and(|row| row.values().any(is_key))
    };
    reads.as_documents && is_in(&letter["sources"]) || reads.as_rows && is_of_it()
}

/// Takes out of a file the letters that hold the text of a record, or that name it by what `named` says of each.
/// Returns how many went, by record.
///
/// # Errors
/// Why the file is as it was, for people.
pub(crate) fn erase(
    letters: &DeadLetters,
    needles: &Needles,
    named: impl Fn(&Value) -> BTreeSet<usize>,
) -> Result<BTreeMap<usize, usize>, String> {
    let said = |error: std::io::Error| error.to_string();
    let mut held = letters.hold().map_err(|error| error.to_string())?;
    let mut gone = needles
        .found_in_lines(|hear| {
            held.read(|number, line, _| {
                hear(number, line);
                Ok(())
            })
        })
        .map_err(said)?;
    held.read(|number, _, letter| {
        let owners = named(letter);
        if !owners.is_empty() {
            gone.entry(number).or_default().extend(owners);
        }
        Ok(())
    })
    .map_err(said)?;
    let numbers = gone.keys().copied().collect();
    held.take_out(&numbers).map_err(|error| error.to_string())?;
    let mut n_gone = BTreeMap::new();
    for owner in gone.into_values().flatten() {
        *n_gone.entry(owner).or_default() += 1;
    }
    Ok(n_gone)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_letter_names_what_it_is_of_and_what_it_leans_on() {
        let as_rows = Reads {
            as_documents: false,
            as_rows: true,
        };
        let as_documents = Reads {
            as_documents: true,
            as_rows: false,
        };
        let answer = json!({"view": "v", "key": "q", "text": "x", "sources": ["a", "b"]});
        assert!(names(&answer, "b", as_documents) && !names(&answer, "b", as_rows));
        assert!(names(&answer, "q", as_rows) && !names(&answer, "q", as_documents));
        let row = json!({"view": "v", "key": "[\"q\",7]", "row": {"of": "d", "n": 7}});
        for key in ["q", "d", "[\"q\",7]"] {
            assert!(names(&row, key, as_rows), "{key}");
            assert!(!names(&row, key, as_documents), "{key}");
        }
        for key in ["v", "7", "", "[", "x"] {
            assert!(!names(&row, key, Reads::UNKNOWN), "{key}");
        }
        // That nothing stands was refused.
        assert!(!names(
            &json!({"view": "v", "epoch": 1}),
            "",
            Reads::UNKNOWN
        ));
    }
}
