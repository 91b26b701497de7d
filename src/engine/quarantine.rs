//! What was refused, and is kept until somebody deals with it.
//!
//! # Invariants
//! - A source that goes on from an offset says each refusal once: it is stored with the offset
//!   behind it. Other sources say theirs again in every process, so theirs leave when they begin.
//! - What stands where it was read, a file or a row of a table, is refused once for its place; a
//!   file that is accepted, or gone, is refused no more.
//! - Numbers rise, and none is given twice, whatever leaves.
//! - At most [`CAPACITY`] are kept, of [`MAX_BYTES`] in all; the oldest leave first.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use perennial_connectors::{Offset, Rejected};
use serde::{Deserialize, Serialize};

use super::clock::now_ms;
use super::hub::Unread;

/// Refusals that are kept.
const CAPACITY: usize = 10_000;
/// Bytes of all that is kept of them.
const MAX_BYTES: usize = 64 << 20;

/// Something that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Its number, by which it is named; rising.
    pub number: u64,
    /// The stream that held it.
    pub stream: String,
    /// Where in its source.
    pub place: String,
    /// Which record it would have been, where that can be told.
    pub key: Option<String>,
    /// Why it is not a record.
    pub reason: String,
    /// When it was refused, by this machine's clock: milliseconds since 1970.
    pub refused_at_ms: i64,
    /// What was refused: a line, the payload of a message. None if it is large, or still stands
    /// where it was read, as a file does.
    pub content: Option<Vec<u8>>,
    /// Whether it stands where it was read, and is refused until it is mended there: a file, a
    /// row of a table.
    pub(crate) is_standing: bool,
}

/// A part of what is in quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuarantinePage {
    /// The records, oldest first.
    pub records: Vec<Quarantined>,
    /// How many there are, on this page and others.
    pub n_records: usize,
}

impl Quarantined {
    /// Bytes that it counts.
    fn n_bytes(&self) -> usize {
        let texts = [&self.stream, &self.place, &self.reason];
        let n_text_bytes: usize = texts.into_iter().map(String::len).sum();
        let key = self.key.as_ref().map_or(0, String::len);
        n_text_bytes + key + self.content.as_ref().map_or(0, Vec::len)
    }

    /// Whether it is of this record.
    pub(crate) fn is_of(&self, stream: &str, key: &str) -> bool {
        let is_its_file = self.is_standing && self.place == key;
        self.stream == stream && (is_its_file || self.key.as_deref() == Some(key))
    }
}

/// Entries to be stored, by number; none for those that are gone.
pub(crate) type QuarantineDeltas = Vec<(u64, Option<Quarantined>)>;

/// All that is in quarantine.
#[derive(Default)]
pub(crate) struct Quarantine {
    entries: BTreeMap<u64, Quarantined>,
    /// Bytes of all entries.
    n_bytes: usize,
    /// Numbers of those that are standing, by stream and place.
    standing: BTreeMap<(String, String), u64>,
    next: u64,
    /// Numbers of entries that are not stored as they are.
    unsaved: BTreeSet<u64>,
    /// Those of them that were forgotten.
    forgotten: BTreeSet<u64>,
}

impl Quarantine {
    /// What an earlier process left.
    pub(crate) fn restored(entries: Vec<Quarantined>, next: u64) -> Self {
        let standing = entries.iter().filter(|entry| entry.is_standing);
        let standing = standing.map(|e| ((e.stream.clone(), e.place.clone()), e.number));
        let mut restored = Self {
            standing: standing.collect(),
            n_bytes: entries.iter().map(Quarantined::n_bytes).sum(),
            entries: entries.into_iter().map(|e| (e.number, e)).collect(),
            next,
            unsaved: BTreeSet::new(),
            forgotten: BTreeSet::new(),
        };
        // An earlier version may have kept more.
        restored.drop_oldest();
        restored
    }

    /// A source begins: drops of its stream what it will say again. That is all where it says
    /// everything again, else what stands where it was read.
    pub(crate) fn begin(&mut self, stream: &str, says_all_again: bool) {
        let entries = self.entries.values().filter(|e| e.stream == stream);
        let again = entries.filter(|entry| says_all_again || entry.is_standing);
        let again: Vec<u64> = again.map(|entry| entry.number).collect();
        again.iter().for_each(|number| self.remove(*number));
    }

    /// Takes a refusal in.
    pub(crate) fn add(&mut self, rejected: &Rejected) {
        let is_standing = matches!(rejected.offset, Offset::File { .. } | Offset::Row { .. });
        let entry = Quarantined {
            number: self.next,
            stream: rejected.source.as_str().to_owned(),
            place: rejected.offset.to_string(),
            key: rejected.key.as_ref().map(|key| key.as_str().to_owned()),
            reason: rejected.reason.to_string(),
            refused_at_ms: now_ms(),
            content: rejected.content.clone(),
            is_standing,
        };
        self.put(entry);
    }

    fn put(&mut self, entry: Quarantined) {
        self.next += 1;
        if entry.is_standing {
            let place = (entry.stream.clone(), entry.place.clone());
            if let Some(older) = self.standing.get(&place).copied() {
                self.remove(older);
            }
            self.standing.insert(place, entry.number);
        }
        self.unsaved.insert(entry.number);
        self.n_bytes += entry.n_bytes();
        self.entries.insert(entry.number, entry);
        self.drop_oldest();
    }

    /// Takes in what a view could not read of the documents of an epoch. One that stands is refused until it is
    /// another, or gone.
    pub(crate) fn add_unread(&mut self, view: &str, unread: &[Unread]) {
        for gone in unread.iter().filter(|of| of.reason.is_none()) {
            self.accept(&gone.relation, gone.key.as_str());
        }
        for of in unread {
            let Some(reason) = &of.reason else { continue };
            self.put(Quarantined {
                number: self.next,
                stream: of.relation.to_string(),
                place: of.key.to_string(),
                key: Some(of.key.to_string()),
                reason: format!("{view} goes on without: {reason}"),
                refused_at_ms: now_ms(),
                content: None,
                is_standing: true,
            });
        }
    }

    /// Drops the oldest where there are too many, or where they are too large. One alone is kept.
    fn drop_oldest(&mut self) {
        while self.entries.len() > CAPACITY || self.n_bytes > MAX_BYTES && self.entries.len() > 1 {
            let Some(oldest) = self.entries.keys().next().copied() else {
                return;
            };
            self.remove(oldest);
        }
    }

    /// A file is a document by now, or gone.
    pub(crate) fn accept(&mut self, stream: &str, key: &str) {
        if self.standing.is_empty() {
            return;
        }
        let place = (stream.to_owned(), key.to_owned());
        if let Some(number) = self.standing.get(&place).copied() {
            self.remove(number);
        }
    }

    /// Drops all of a record. Returns how many.
    pub(crate) fn forget(&mut self, stream: &str, key: &str) -> usize {
        let its = self.entries.values().filter(|e| e.is_of(stream, key));
        let its: Vec<u64> = its.map(|entry| entry.number).collect();
        its.iter().for_each(|number| self.remove(*number));
        self.forgotten.extend(&its);
        its.len()
    }

    /// What of it is to be stored of what was forgotten, whatever else is not stored yet.
    pub(crate) fn unsaved_forgotten(&self) -> QuarantineDeltas {
        self.forgotten
            .iter()
            .map(|number| (*number, None))
            .collect()
    }

    /// That is stored.
    pub(crate) fn note_forgotten_saved(&mut self) {
        for number in std::mem::take(&mut self.forgotten) {
            self.unsaved.remove(&number);
        }
    }

    /// The entry of a number.
    pub(crate) fn get(&self, number: u64) -> Option<&Quarantined> {
        self.entries.get(&number)
    }

    /// Drops an entry. Whether it was there.
    pub(crate) fn discard(&mut self, number: u64) -> bool {
        let is_there = self.entries.contains_key(&number);
        if is_there {
            self.remove(number);
        }
        is_there
    }

    fn remove(&mut self, number: u64) {
        self.unsaved.insert(number);
        let Some(entry) = self.entries.remove(&number) else {
            return;
        };
        self.n_bytes -= entry.n_bytes();
        if entry.is_standing {
            self.standing.remove(&(entry.stream, entry.place));
        }
    }

    /// At most `limit` of a stream, or of all, behind a number, or from the first on.
    pub(crate) fn page(
        &self,
        stream: Option<&str>,
        after: Option<u64>,
        limit: usize,
    ) -> QuarantinePage {
        let is_asked = |of: &&Quarantined| stream.is_none_or(|stream| stream == of.stream);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.entries.range((from, Bound::Unbounded));
        let records = behind.map(|(_, of)| of).filter(is_asked).take(limit);
        QuarantinePage {
            records: records.cloned().collect(),
            n_records: match stream {
                None => self.entries.len(),
                Some(_) => self.entries.values().filter(is_asked).count(),
            },
        }
    }

    /// What is to be stored since the last time.
    pub(crate) fn take_unsaved(&mut self) -> QuarantineDeltas {
        self.forgotten.clear();
        let numbers = std::mem::take(&mut self.unsaved).into_iter();
        let delta = |number| (number, self.entries.get(&number).cloned());
        numbers.map(delta).collect()
    }

    /// Whether something is to be stored.
    pub(crate) fn is_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use perennial_connectors::{Key, Rejection, SourceName};

    use super::*;

    fn rejected(offset: Offset, key: Option<&str>) -> Rejected {
        Rejected {
            source: SourceName::new("docs"),
            offset,
            key: key.map(Key::new),
            reason: Rejection::EmptyKey,
            content: Some(b"{}".to_vec()),
        }
    }

    fn file(path: &str) -> Rejected {
        let offset = Offset::File {
            path: path.into(),
            revision: None,
        };
        rejected(offset, None)
    }

    fn all(quarantine: &Quarantine) -> Vec<Quarantined> {
        quarantine.page(None, None, usize::MAX).records
    }

    fn places(quarantine: &Quarantine) -> Vec<String> {
        all(quarantine).into_iter().map(|e| e.place).collect()
    }

    #[test]
    fn a_file_is_refused_once_and_until_it_is_accepted() {
        let mut quarantine = Quarantine::default();
        quarantine.add(&file("a.md"));
        quarantine.add(&rejected(Offset::Sequence(1), Some("a.md")));
        quarantine.add(&file("a.md"));
        assert_eq!(places(&quarantine), ["#1", "a.md"]);
        quarantine.accept("docs", "a.md");
        assert_eq!(places(&quarantine), ["#1"]);
        assert_eq!(quarantine.forget("docs", "a.md"), 1);
        let unsaved = quarantine.take_unsaved();
        let gone: Vec<u64> = unsaved
            .iter()
            .filter(|d| d.1.is_none())
            .map(|d| d.0)
            .collect();
        assert_eq!(gone, [0, 1, 2]);
        assert!(!quarantine.is_unsaved());
    }

    #[test]
    fn what_will_be_said_again_leaves_when_its_source_begins_and_numbers_rise() {
        let mut first = Quarantine::default();
        first.add(&file("a.md"));
        first.add(&rejected(Offset::Sequence(1), None));
        let mut second = Quarantine::restored(all(&first), first.next);
        second.begin("other", true);
        assert_eq!(places(&second), ["a.md", "#1"]);
        second.begin("docs", false);
        assert_eq!(second.take_unsaved(), [(0, None)]);
        second.add(&rejected(Offset::Sequence(2), None));
        let numbers: Vec<u64> = all(&second).iter().map(|e| e.number).collect();
        assert_eq!(numbers, [1, 2]);
        second.begin("docs", true);
        assert!(all(&second).is_empty());
    }

    #[test]
    fn one_that_leaves_does_not_take_a_file_of_its_name_along() {
        let mut quarantine = Quarantine::default();
        quarantine.add(&rejected(Offset::Sequence(0), None));
        quarantine.add(&file("#0"));
        for i in 1..CAPACITY as u64 {
            quarantine.add(&rejected(Offset::Sequence(i), None));
        }
        quarantine.accept("docs", "#0");
        assert!(!places(&quarantine).contains(&"#0".to_owned()));
    }

    #[test]
    fn the_oldest_leave_first() {
        let mut quarantine = Quarantine::default();
        for i in 0..=CAPACITY as u64 {
            quarantine.add(&rejected(Offset::Sequence(i), None));
        }
        assert_eq!(all(&quarantine).len(), CAPACITY);
        assert_eq!(all(&quarantine)[0].number, 1);
    }

    #[test]
    fn large_ones_leave_before_there_are_many() {
        let size = 64 << 10;
        let large = |at: u64| Rejected {
            content: Some(vec![b'x'; size]),
            ..rejected(Offset::Sequence(at), None)
        };
        let mut quarantine = Quarantine::default();
        let n_too_many = (MAX_BYTES / size) as u64 + 5;
        for at in 0..n_too_many {
            quarantine.add(&large(at));
            let kept: usize = quarantine.entries.values().map(Quarantined::n_bytes).sum();
            assert_eq!(quarantine.n_bytes, kept);
            assert!(kept <= MAX_BYTES, "{kept}");
        }
        let kept = all(&quarantine);
        assert!(kept.len() < n_too_many as usize && kept.len() > 1_000);
        assert_eq!(kept.last().map(|entry| entry.number), Some(n_too_many - 1));
        // What leaves is struck off what is stored.
        let unsaved = quarantine.take_unsaved();
        let gone = unsaved.iter().filter(|(_, entry)| entry.is_none()).count();
        assert_eq!(gone + kept.len(), n_too_many as usize);
        // So it is of what an earlier version left.
        let mut more = kept.clone();
        more.extend(kept.iter().take(10).cloned().map(|mut entry| {
            entry.number += n_too_many;
            entry
        }));
        let restored = Quarantine::restored(more, 2 * n_too_many);
        assert!(restored.n_bytes <= MAX_BYTES && restored.is_unsaved());
        quarantine.forget("docs", "nobody");
        let numbers: Vec<u64> = kept.iter().map(|entry| entry.number).collect();
        numbers.iter().for_each(|number| {
            quarantine.discard(*number);
        });
        assert_eq!(quarantine.n_bytes, 0);
    }

    #[test]
    fn a_page_has_as_many_as_it_may_of_the_stream_that_is_asked_for() {
        let mut quarantine = Quarantine::default();
        for n in 0..6 {
            let of = Rejected {
                source: SourceName::new(if n % 2 == 0 { "docs" } else { "mail" }),
                ..rejected(Offset::Sequence(n), None)
            };
            quarantine.add(&of);
        }
        let page = |stream, after, limit| {
            let page = quarantine.page(stream, after, limit);
            let numbers: Vec<u64> = page.records.iter().map(|of| of.number).collect();
            (numbers, page.n_records)
        };
        assert_eq!(page(None, None, 2), (vec![0, 1], 6));
        assert_eq!(page(None, Some(1), 2), (vec![2, 3], 6));
        assert_eq!(page(Some("mail"), None, 9), (vec![1, 3, 5], 3));
        assert_eq!(page(Some("mail"), Some(1), 1), (vec![3], 3));
        assert_eq!(page(Some("nobody"), None, 9), (vec![], 0));
        // How many there are is told without any of them.
        assert_eq!(page(None, None, 0), (vec![], 6));
        assert_eq!(page(None, Some(u64::MAX), 9), (vec![], 6));
    }

    #[test]
    fn what_was_forgotten_is_kept_to_be_stored_until_it_is() {
        let mut quarantine = Quarantine::default();
        for key in ["a", "b"] {
            quarantine.add(&rejected(Offset::Sequence(0), Some(key)));
        }
        quarantine.take_unsaved();
        quarantine.add(&rejected(Offset::Sequence(1), Some("c")));
        assert_eq!(quarantine.forget("docs", "a"), 1);
        // Whoever fails to store it asks again.
        for _ in 0..2 {
            assert_eq!(quarantine.unsaved_forgotten(), [(0, None)]);
        }
        quarantine.note_forgotten_saved();
        assert!(quarantine.unsaved_forgotten().is_empty());
        let left = quarantine.take_unsaved();
        assert_eq!(
            left.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            [2]
        );
    }
}
