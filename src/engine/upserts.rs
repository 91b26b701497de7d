//! What do sinks get of a query's result: which row under which key?
//!
//! # Design
//! A result is a bag of tuples that changes by differences; a sink takes upserts. Where the query
//! is known to tell its rows apart by some columns, their values are the key, so a row that changed
//! is one upsert. Otherwise all of a row is its key, and how often it stands is what changes.
//!
//! Of what sinks were given a digest a key is kept in the state directory, in the transaction that
//! owes it to them. A dataflow that begins anew says all that stands: what has its digest is known
//! to them, and what has a digest and does not stand is gone.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use perennial_connectors::{Output, OutputRow, OutputTuple};
use perennial_rows::encoding::Encoder;
use perennial_rows::{Tuple, Type, json};
use perennial_views::query::Query;

use super::change_log::BagChange;

/// Digest of what sinks were given under a key.
pub(crate) type UpsertDigest = [u8; 32];

/// Digests by key.
pub(crate) type UpsertDigests = BTreeMap<String, UpsertDigest>;

/// How a query's rows are told apart.
#[derive(Debug)]
pub(crate) struct Upserts {
    /// The names of the result's columns.
    columns: Arc<[Arc<str>]>,
    /// The columns whose values are the key, with their types.
    key: Vec<(usize, Type)>,
}

impl Upserts {
    /// Of the rows of a query.
    pub(crate) fn of(query: &Query) -> Self {
        let columns = query.schema().columns();
        let all: Vec<usize> = (0..columns.len()).collect();
        let key = query.key().unwrap_or(&all);
        Self {
            columns: columns.iter().map(|column| column.name.clone()).collect(),
            key: key.iter().map(|at| (*at, columns[*at].of)).collect(),
        }
    }

    /// All that stands, by key.
    pub(crate) fn all(&self, tuples: &BTreeMap<Tuple, isize>) -> Vec<OutputRow> {
        let standing = tuples.iter().filter(|(_, count)| **count > 0);
        let row = |(tuple, count): (&Tuple, &isize)| {
            let given = self.tuple(tuple, *count);
            (self.key(tuple), Some(given))
        };
        rows(standing.map(row).collect())
    }

    /// What a change comes to, by key, given what stands after it and, in the first epoch of a
    /// process, what an earlier one gave.
    pub(crate) fn changed(
        &self,
        change: &BagChange,
        tuples: &BTreeMap<Tuple, isize>,
        given: UpsertDigests,
    ) -> Vec<OutputRow> {
        let mut upserts: BTreeMap<String, Option<OutputTuple>> = BTreeMap::new();
        for (tuple, _) in change.iter() {
            let count = tuples.get(tuple).copied().unwrap_or_default();
            let upsert = upserts.entry(self.key(tuple)).or_default();
            // What goes does not hide what comes in its place.
            if count > 0 {
                *upsert = Some(self.tuple(tuple, count));
            }
        }
        for (key, digest) in given {
            match upserts.entry(key) {
                Entry::Vacant(gone) => {
                    gone.insert(None);
                }
                Entry::Occupied(now) => {
                    if now.get().as_ref().map(digest_of) == Some(digest) {
                        now.remove();
                    }
                }
            }
        }
        rows(upserts)
    }

    fn key(&self, tuple: &Tuple) -> String {
        json::key(self.key.iter().map(|(at, of)| (&tuple[*at], *of)))
    }

    fn tuple(&self, tuple: &Tuple, count: isize) -> OutputTuple {
        OutputTuple {
            columns: self.columns.clone(),
            values: tuple.clone(),
            count: count.unsigned_abs() as u64,
        }
    }
}

fn rows(upserts: BTreeMap<String, Option<OutputTuple>>) -> Vec<OutputRow> {
    let upserts = upserts.into_iter();
    let row = |(key, tuple): (String, Option<OutputTuple>)| OutputRow {
        key,
        output: tuple.map(Output::Tuple),
    };
    upserts.map(row).collect()
}

/// The digest of a row as it is given; none of what is gone, and of an answer.
pub(crate) fn digest_of_row(row: &OutputRow) -> Option<UpsertDigest> {
    match &row.output {
        Some(Output::Tuple(tuple)) => Some(digest_of(tuple)),
        _ => None,
    }
}

fn digest_of(tuple: &OutputTuple) -> UpsertDigest {
    let mut encoder = Encoder::new();
    encoder.number(tuple.columns.len() as u64);
    for name in tuple.columns.iter() {
        encoder.text(name);
    }
    encoder.values(&tuple.values).number(tuple.count);
    encoder.digest("perennial upsert 1")
}

#[cfg(test)]
mod tests {
    use perennial_rows::Value;

    use super::*;
    use crate::engine::change_log::Change as _;

    fn upserts(key: &[usize]) -> Upserts {
        Upserts {
            columns: ["town", "people"].map(Arc::from).into(),
            key: key.iter().map(|at| (*at, Type::Any)).collect(),
        }
    }

    fn tuple(town: &str, people: i64) -> Tuple {
        [town.into(), people.into()].into()
    }

    /// Keys with what stands under them, how often.
    fn said(rows: &[OutputRow]) -> Vec<(&str, Option<(Value, u64)>)> {
        let one = |row: &OutputRow| match &row.output {
            Some(Output::Tuple(tuple)) => Some((tuple.values[1].clone(), tuple.count)),
            _ => None,
        };
        rows.iter().map(|row| (&*row.key, one(row))).collect()
    }

    /// Applies a change, and says what sinks get of it.
    fn apply(
        upserts: &Upserts,
        tuples: &mut BTreeMap<Tuple, isize>,
        change: &[(Tuple, isize)],
        given: UpsertDigests,
    ) -> Vec<OutputRow> {
        let mut net = BagChange::default();
        for (tuple, diff) in change {
            net.add(tuple.clone(), *diff);
            *tuples.entry(tuple.clone()).or_default() += diff;
        }
        assert!(!net.is_empty());
        tuples.retain(|_, count| *count != 0);
        upserts.changed(&net, tuples, given)
    }

    #[test]
    fn a_row_that_changes_under_its_key_is_one_upsert() {
        let (upserts, mut tuples) = (upserts(&[0]), BTreeMap::new());
        let mut apply = |change: &[_]| apply(&upserts, &mut tuples, change, BTreeMap::new());
        let came = apply(&[(tuple("oslo", 7), 1), (tuple("bergen", 2), 1)]);
        let expected = [
            ("bergen", Some((Value::from(2i64), 1))),
            ("oslo", Some((Value::from(7i64), 1))),
        ];
        assert_eq!(said(&came), expected);
        // Whether what comes sorts before or behind what goes.
        for (before, after) in [(7, 9), (9, 1)] {
            let changed = apply(&[(tuple("oslo", before), -1), (tuple("oslo", after), 1)]);
            assert_eq!(said(&changed), [("oslo", Some((Value::from(after), 1)))]);
        }
        let gone = apply(&[(tuple("bergen", 2), -1)]);
        assert_eq!(said(&gone), [("bergen", None)]);
    }

    #[test]
    fn where_nothing_is_unique_a_row_is_its_own_key_and_counted() {
        let (upserts, mut tuples) = (upserts(&[0, 1]), BTreeMap::new());
        let mut apply = |diff| {
            let change = [(tuple("oslo", 7), diff)];
            apply(&upserts, &mut tuples, &change, BTreeMap::new())
        };
        let key = r#"["oslo",7]"#;
        let seven = |count| Some((Value::from(7i64), count));
        assert_eq!(said(&apply(2)), [(key, seven(2))]);
        assert_eq!(said(&apply(-1)), [(key, seven(1))]);
        assert_eq!(said(&apply(-1)), [(key, None)]);
    }

    #[test]
    fn of_what_an_earlier_process_gave_only_the_difference_is_said() {
        let (upserts, mut before) = (upserts(&[0]), BTreeMap::new());
        let stood = [
            (tuple("bergen", 2), 1),
            (tuple("oslo", 7), 1),
            (tuple("turku", 2), 1),
        ];
        let came = apply(&upserts, &mut before, &stood, BTreeMap::new());
        assert_eq!(said(&upserts.all(&before)), said(&came));
        let given = came.iter().map(|row| (row.key.clone(), digest_of_row(row)));
        let given = given.map(|(key, digest)| (key, digest.expect("a row")));
        let given: UpsertDigests = given.collect();
        let again = apply(&upserts, &mut BTreeMap::new(), &stood, given.clone());
        assert_eq!(said(&again), []);
        let stands = [(tuple("bergen", 2), 1), (tuple("oslo", 8), 1)];
        let changed = apply(&upserts, &mut BTreeMap::new(), &stands, given);
        let expected = [("oslo", Some((Value::from(8i64), 1))), ("turku", None)];
        assert_eq!(said(&changed), expected);
    }

    #[test]
    fn digests_are_stable_across_releases() {
        // What is stored is compared with what is computed after a restart.
        let digest = digest_of(&upserts(&[0]).tuple(&tuple("oslo", 7), 1));
        let hex: String = digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "ffc1396bd286405c");
    }
}
