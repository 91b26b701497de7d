//! What is there to be recalled, for whom?
//!
//! The rows of a memory's view, kept so that a question is scored quickly: texts by word, vectors in
//! one matrix, grants by reader. Everything is kept by namespace, so that the counts of any set of
//! namespaces are sums of whole numbers.
//!
//! # Invariants
//! - After any changes the index holds what one has that was given the present rows at once, but for
//!   which slot an entry has; and no score depends on slots.
//! - A slot that is free holds nothing of what stood there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use perennial_model::dot::Vectors;
use perennial_rows::{Tuple, Value};
use perennial_views::query::memory::at;

use super::entry::Entry;
use super::error::MemoryError;
use super::words::words;

/// Names an entry while it stands.
pub(super) type Slot = u32;

/// Where the view has the reader of a grant, behind an entry's columns.
const READER: usize = at::SOURCES + 1;
/// Where it has the vector of an entry.
const VECTOR: usize = READER + 1;

/// An entry, with what it is scored by.
pub(super) struct Standing {
    pub(super) entry: Arc<Entry>,
    /// Words in its title and text, copies counted.
    pub(super) n_words: u32,
    /// Whether it has a vector.
    pub(super) has_vector: bool,
    /// How many rows are this one.
    n_copies: isize,
}

/// The entries of one namespace.
#[derive(Default)]
pub(super) struct Namespace {
    pub(super) slots: BTreeSet<Slot>,
    /// Words of all entries, copies counted.
    pub(super) n_words: u64,
    /// Of each word, how often which entry has it.
    pub(super) postings: HashMap<Arc<str>, BTreeMap<Slot, u32>>,
}

/// What stands in a memory.
#[derive(Default)]
pub(super) struct Index {
    by_row: HashMap<Tuple, Slot>,
    standing: Vec<Option<Standing>>,
    free: Vec<Slot>,
    pub(super) vectors: Vectors,
    pub(super) namespaces: BTreeMap<Arc<str>, Namespace>,
    /// Which namespaces each reader may read.
    grants: BTreeMap<Arc<str>, BTreeMap<Arc<str>, isize>>,
}

impl Index {
    /// Takes a change of the view in. Returns the entries that are gone by it.
    pub(super) fn apply(&mut self, rows: Vec<(Tuple, isize)>) -> Vec<Arc<Entry>> {
        let mut gone_entries = Vec::new();
        // First what goes: its slots are free for what comes.
        let (gone, come): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, diff)| *diff < 0);
        for (tuple, diff) in gone.into_iter().chain(come) {
            match tuple.get(READER).and_then(Value::as_text) {
                Some(reader) => self.grant(reader, &tuple, diff),
                None => gone_entries.extend(self.change(tuple, diff)),
            }
        }
        gone_entries
    }

    fn grant(&mut self, reader: &Arc<str>, tuple: &Tuple, diff: isize) {
        let Some(namespace) = tuple.get(at::NAMESPACE).and_then(Value::as_text) else {
            return;
        };
        let of_reader = self.grants.entry(reader.clone()).or_default();
        let count = of_reader.entry(namespace.clone()).or_default();
        *count += diff;
        if *count == 0 {
            of_reader.remove(namespace);
        }
        if of_reader.is_empty() {
            self.grants.remove(reader);
        }
    }

    /// Returns the entry that is gone by it.
    fn change(&mut self, tuple: Tuple, diff: isize) -> Option<Arc<Entry>> {
        if let Some(slot) = self.by_row.get(&tuple).copied() {
            let standing = self.standing[slot as usize].as_mut();
            let standing = standing.expect("rows name live slots only");
            standing.n_copies += diff;
            if standing.n_copies == 0 {
                self.by_row.remove(&tuple);
                return self.remove(slot);
            }
            return None;
        }
        if let Some(entry) = Entry::of(&tuple) {
            let slot = self.insert(entry, &tuple, diff);
            self.by_row.insert(tuple, slot);
        }
        None
    }

    fn insert(&mut self, entry: Entry, tuple: &Tuple, n_copies: isize) -> Slot {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.standing.push(None);
                let last = self.standing.len() - 1;
                Slot::try_from(last).expect("fewer than 2^32 entries stand")
            }
        };
        let vector = match tuple.get(VECTOR) {
            Some(Value::Vector(bits)) => Some(bits),
            _ => None,
        };
        if let Some(bits) = vector {
            let elements = bits.iter().map(|bits| f32::from_bits(*bits));
            self.vectors.set(slot, elements);
        }
        let namespace = self.namespaces.entry(entry.namespace.clone()).or_default();
        namespace.slots.insert(slot);
        let mut n_words = 0u32;
        for word in words_of(&entry) {
            n_words += 1;
            let posting = match namespace.postings.get_mut(&*word) {
                Some(posting) => posting,
                None => namespace.postings.entry(word.into()).or_default(),
            };
            *posting.entry(slot).or_default() += 1;
        }
        namespace.n_words += u64::from(n_words);
        self.standing[slot as usize] = Some(Standing {
            entry: Arc::new(entry),
            n_words,
            has_vector: vector.is_some(),
            n_copies,
        });
        slot
    }

    fn remove(&mut self, slot: Slot) -> Option<Arc<Entry>> {
        let standing = self.standing[slot as usize].take()?;
        let entry = &standing.entry;
        if let Some(namespace) = self.namespaces.get_mut(&entry.namespace) {
            namespace.slots.remove(&slot);
            namespace.n_words -= u64::from(standing.n_words);
            for word in words_of(entry) {
                if let Some(posting) = namespace.postings.get_mut(&*word) {
                    posting.remove(&slot);
                    if posting.is_empty() {
                        namespace.postings.remove(&*word);
                    }
                }
            }
            if namespace.slots.is_empty() {
                self.namespaces.remove(&entry.namespace);
            }
        }
        if standing.has_vector {
            self.vectors.set(slot, std::iter::empty());
        }
        self.free.push(slot);
        Some(standing.entry)
    }

    /// An entry that stands.
    pub(super) fn standing(&self, slot: Slot) -> &Standing {
        let standing = self.standing[slot as usize].as_ref();
        standing.expect("namespaces name live slots only")
    }

    /// All entries that stand.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.standing.iter().flatten().map(|of| &of.entry)
    }

    /// Whether a reader may read a namespace; the owner may read all that there are.
    pub(super) fn may_read(&self, reader: Option<&str>, namespace: &str) -> bool {
        match reader {
            None => self.namespaces.contains_key(namespace),
            Some(reader) => {
                let granted = self.grants.get(reader);
                granted.is_some_and(|granted| granted.contains_key(namespace))
            }
        }
    }

    /// Refuses a namespace that a reader may not read: whether it is there is not told.
    pub(super) fn check(
        &self,
        reader: Option<&str>,
        namespace: Option<&str>,
    ) -> Result<(), MemoryError> {
        match namespace {
            Some(namespace) if !self.may_read(reader, namespace) => Err(MemoryError::NoNamespace {
                namespace: namespace.to_owned(),
                reader: reader.map(str::to_owned),
            }),
            _ => Ok(()),
        }
    }

    /// The namespaces that a reader may read and that hold something, by name.
    pub(super) fn readable(&self, reader: Option<&str>) -> Vec<(&Arc<str>, &Namespace)> {
        let all = self.namespaces.iter();
        all.filter(|(name, _)| self.may_read(reader, name))
            .collect()
    }

    /// Who may read what.
    pub(super) fn grants(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        let all = self.grants.iter();
        all.flat_map(|(reader, granted)| granted.keys().map(move |namespace| (reader, namespace)))
    }
}

/// The words by which an entry is found.
fn words_of(entry: &Entry) -> impl Iterator<Item = String> {
    let title = entry.title.iter().flat_map(|title| words(title));
    title.chain(words(&entry.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, namespace: &str, text: &str) -> Tuple {
        let sources = Value::from_json(&vec![key].into());
        let vector = [text.len() as f32, 1.0];
        [
            key.into(),
            namespace.into(),
            Value::Null,
            Value::Null,
            Value::Null,
            text.into(),
            Value::Timestamp(1),
            false.into(),
            sources,
            Value::Null,
            Value::vector(&vector),
        ]
        .into()
    }

    /// Of each word, which entries have it how often.
    type Postings = BTreeMap<String, Vec<(String, u32)>>;

    /// What the index counts, whatever slots it uses: by namespace entries, words and postings.
    fn counted(index: &Index) -> BTreeMap<String, (usize, u64, Postings)> {
        let namespaces = index.namespaces.iter().map(|(name, of)| {
            let postings = of.postings.iter().map(|(word, posting)| {
                let entries = posting
                    .iter()
                    .map(|(slot, n)| (index.standing(*slot).entry.key.to_string(), *n));
                let mut entries: Vec<_> = entries.collect();
                entries.sort();
                (word.to_string(), entries)
            });
            let counts = (of.slots.len(), of.n_words, postings.collect());
            (name.to_string(), counts)
        });
        namespaces.collect()
    }

    #[test]
    fn what_came_and_went_leaves_nothing() {
        let (kept, gone) = (row("a", "x", "one two two"), row("b", "y", "two three"));
        let mut index = Index::default();
        index.apply(vec![(kept.clone(), 1)]);
        let before = counted(&index);
        assert_eq!(before["x"].2["two"], [("a".to_owned(), 2)]);
        index.apply(vec![(gone.clone(), 1)]);
        assert_ne!(counted(&index), before);
        index.apply(vec![(gone.clone(), -1)]);
        assert_eq!(counted(&index), before);
        // A text that changes takes the slot that it leaves.
        let changed = row("a", "x", "four");
        index.apply(vec![(changed, 1), (kept, -1)]);
        let counts = counted(&index);
        let words: Vec<&String> = counts["x"].2.keys().collect();
        assert_eq!(words, ["four"]);
        assert_eq!(index.standing.len(), 2);
    }

    #[test]
    fn copies_of_a_row_are_one_entry() {
        let mut index = Index::default();
        index.apply(vec![(row("a", "x", "one"), 2)]);
        index.apply(vec![(row("a", "x", "one"), -1)]);
        assert_eq!(index.namespaces["x"].slots.len(), 1);
        index.apply(vec![(row("a", "x", "one"), -1)]);
        assert!(index.namespaces.is_empty());
    }
}
