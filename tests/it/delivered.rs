//! What a reader makes of a sink's file: epochs in order, each once, folded to answers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

/// The answers that the file's epochs leave behind.
///
/// Panics unless its epochs rise and each is whole.
pub(crate) fn folded(path: &Path) -> BTreeMap<String, String> {
    let (answers, n_origins) = folded_over_lives(path);
    assert!(n_origins <= 1, "one history");
    answers
}

/// The same of a file that several histories of epochs were delivered to, one after the other; and how
/// many they were.
pub(crate) fn folded_over_lives(path: &Path) -> (BTreeMap<String, String>, usize) {
    let text = std::fs::read_to_string(path).expect("readable");
    let (mut answers, mut of_epoch) = (BTreeMap::new(), Vec::new());
    let mut last: Option<(String, u64)> = None;
    let mut origins = BTreeSet::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        if line.get("perennial").is_some() {
            continue;
        }
        let Some(end) = line.get("end_of") else {
            of_epoch.push(line);
            continue;
        };
        let epoch = end["epoch"].as_u64().expect("a number");
        let origin = end["origin"].as_str().expect("a text").to_owned();
        match &last {
            Some((last_origin, last_epoch)) if *last_origin == origin => {
                assert!(*last_epoch < epoch, "epoch {epoch} after {last_epoch}");
            }
            _ => assert!(origins.insert(origin.clone()), "{origin} ended before"),
        }
        last = Some((origin, epoch));
        assert_eq!(end["rows"], of_epoch.len(), "epoch {epoch}");
        for row in of_epoch.drain(..) {
            assert_eq!(row["epoch"], epoch);
            let key = row["key"].as_str().expect("a text").to_owned();
            match row.get("gone") {
                Some(_) => answers.remove(&key),
                None => {
                    let text = row["text"].as_str().or(row["error"].as_str());
                    answers.insert(key, text.expect("a text").to_owned())
                }
            };
        }
    }
    assert!(of_epoch.is_empty(), "the last epoch is whole");
    (answers, origins.len())
}
