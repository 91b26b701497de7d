//! Which places of this program may a test let it die at?
//!
//! Each stands before, between or after the writes of something that must be there whole or not
//! at all. `tests/it/faults.rs` kills a process at every one of them, and holds what it leaves
//! against a run that nothing disturbed.

use perennial_connectors::FaultPoint;

perennial_connectors::fault_points! {
    /// A state directory is there, and nothing in it.
    CREATE_BEGIN = "create.begin";
    /// Its file is whole, under another name.
    CREATE_HALF = "create.half";
    /// The file has its name, which is not synced.
    CREATE_RENAMED = "create.renamed";
    /// The file has no tables.
    CREATE_EMPTY = "create.empty";
    /// An epoch is complete, and nothing of it stored.
    COMMIT_BEGIN = "commit.begin";
    /// All of an epoch is in its transaction, which is not committed.
    COMMIT_STAGED = "commit.staged";
    /// An epoch is committed, and nobody was told.
    COMMIT_DONE = "commit.done";
    /// Offsets and refusals are to be stored without an epoch.
    NOTE_BEGIN = "note.begin";
    /// They are in a transaction, which is not committed.
    NOTE_STAGED = "note.staged";
    /// They are stored.
    NOTE_DONE = "note.done";
    /// A sink is about to be given what it is owed.
    DELIVER_BEGIN = "deliver.begin";
    /// It has it, and is still owed it.
    DELIVER_DONE = "deliver.done";
    /// It is owed it no more.
    DELIVER_STRUCK = "deliver.struck";
    /// A document is deleted, and what remembers it is there.
    FORGET_BEGIN = "forget.begin";
    /// The history before is cut off.
    FORGET_CUT = "forget.cut";
    /// The state file is written anew, under another name.
    FORGET_COPIED = "forget.copied";
    /// The new file has its name, which is not synced.
    FORGET_RENAMED = "forget.renamed";
    /// The new file is there for good, and no receipt.
    FORGET_SYNCED = "forget.synced";
    /// The receipt is kept, and nobody has it.
    FORGET_KEPT = "forget.kept";
    /// An epoch is to be recorded.
    RECORD_BEGIN = "record.begin";
    /// Its lines are written but for the last.
    RECORD_HALF = "record.half";
    /// Its last line is written.
    RECORD_DONE = "record.done";
}

/// Every fault point that there is.
pub fn all() -> impl Iterator<Item = FaultPoint> {
    ALL.iter()
        .chain(perennial_connectors::FAULT_POINTS)
        .copied()
}

/// Arms the point that `text` names, as `NAME` or `NAME:N`: the process aborts when it is there
/// for the Nth time.
///
/// # Errors
/// What is wrong with the text, and which points there are.
pub fn arm(text: &str) -> Result<(), String> {
    let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
    let point = all().find(|point| point.name() == name);
    let Some(point) = point else {
        let names: Vec<&str> = all().map(FaultPoint::name).collect();
        let names = names.join(", ");
        return Err(format!(
            "there is no fault point {name:?}; there are {names}"
        ));
    };
    match nth.parse() {
        Ok(nth) if nth > 0 && point.arm(nth) => Ok(()),
        Ok(0) | Err(_) => Err(format!("{nth:?} is no number of at least 1")),
        Ok(_) => Err("another fault point is armed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_told_apart_and_what_names_none_is_refused() {
        let names: BTreeSet<&str> = all().map(FaultPoint::name).collect();
        assert_eq!(names.len(), all().count());
        let refused = |text| arm(text).expect_err("refused");
        assert!(refused("commit").contains("commit.staged"));
        assert!(refused("commit.staged:0").contains("at least 1"));
        assert!(refused("commit.staged:x").contains("at least 1"));
    }
}
