//! Which entries are nearest to a question?
//!
//! ```text
//! score = cosine(question, entry) + WORDS_SCALE * BM25 / (the most BM25 that the question could get)
//!       + LATENT_SCALE * latent score
//! ```
//! BM25 (Robertson and Zaragoza, "The probabilistic relevance framework", 2009) counts over exactly
//! the entries that are asked for: it is computed from whole numbers, word by word in order, so that
//! equal entries give equal bits, however they came to be there.
//!
//! tantivy was weighed and left: until its segments are merged it counts words of deleted documents
//! as present, so that an entry that came and went would change scores; and one index serves one set
//! of documents, where here each reader has their own.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use perennial_ask::{Embed, embed_within};
use perennial_model::dot::{Rows, Vectors, products};
use perennial_views::Epoch;
use perennial_views::query::memory::{MAX_TEXT, RecallBy};

use super::entry::{Entry, MAX_NAME};
use super::error::{MemoryError, check};
use super::index::{Index, Namespace, Slot};

/// What a full match of words counts beside a cosine of 1. A round number; what others would find shows
/// `cargo bench --bench memory -- --sweep`.
pub const WORDS_SCALE: f64 = 0.8;
/// What a latent score of 1 counts beside a cosine of 1: it is in standard deviations of pairs that do not
/// belong together (`latent.rs`). A round number; `cargo bench --bench memory -- --sweep` shows others.
pub const LATENT_SCALE: f64 = 0.1;
/// How fast further copies of a word in a text count less.
const K1: f64 = 1.2;
/// How much a long text is held against it.
const B: f64 = 0.75;
/// Entries that are asked for unless told.
const DEFAULT_BEST: usize = 5;
/// Most entries that can be asked for.
const MAX_BEST: usize = 1000;
/// Candidates of text that a further score, or a fold, looks at for each entry that is asked for.
const CANDIDATES_EACH: usize = 8;
/// And at least so many.
const MIN_CANDIDATES: usize = 64;
/// How long the vector of a question is waited for, where an embedder behind HTTP is away.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most entries that can be asked for where they are folded: every candidate is compared with all others.
const MAX_FOLDED: usize = 128;

/// A further score of a question and an entry.
///
/// # Contract
/// A score depends on the question and the entry alone, not on which others are scored with it, nor on
/// what was scored before: else what a reader recalls would depend on what is hidden from them. It is
/// finite. Neither is checked.
pub trait PairScore: Send + Sync {
    /// The scores of some entries, in order.
    ///
    /// # Errors
    /// What went wrong, for people.
    fn scores(&self, question: &str, entries: &[Arc<Entry>]) -> Result<Vec<f32>, String>;

    /// What a score of 1 counts beside a cosine of 1.
    fn scale(&self) -> f64;
}

/// What is asked.
#[derive(Clone)]
pub struct Recall {
    pub(super) question: String,
    pub(super) best: usize,
    pub(super) reader: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) by: Option<RecallBy>,
    pub(super) fold: Option<f32>,
    pub(super) further: Option<Arc<dyn PairScore>>,
}

impl Recall {
    /// The five best entries, as the owner, who reads everything.
    pub fn new(question: impl Into<String>) -> Self {
        Self {
            question: question.into(),
            best: DEFAULT_BEST,
            reader: None,
            namespace: None,
            by: None,
            fold: None,
            further: None,
        }
    }

    /// So many entries.
    #[must_use]
    pub fn best(mut self, n: usize) -> Self {
        self.best = n;
        self
    }

    /// As a reader, who reads what is granted.
    #[must_use]
    pub fn reader(mut self, reader: impl Into<String>) -> Self {
        self.reader = Some(reader.into());
        self
    }

    /// Of this namespace alone.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Scored by this; unless told, by what the memory was declared with.
    #[must_use]
    pub fn by(mut self, by: RecallBy) -> Self {
        self.by = Some(by);
        self
    }

    /// Entries of a namespace whose vectors have this cosine or more are one: the newest stands for
    /// all. So two facts that differ in a number may be folded, too. Folded are the best candidates,
    /// eight for each entry that is asked for and at least 64; at most 128 entries can be asked for so.
    #[must_use]
    pub fn folding(mut self, cosine: f32) -> Self {
        self.fold = Some(cosine);
        self
    }

    /// Scored by this, too: the candidates that text finds.
    #[must_use]
    pub fn scored_by(mut self, further: Arc<dyn PairScore>) -> Self {
        self.further = Some(further);
        self
    }

    fn n_candidates(&self) -> usize {
        (self.best * CANDIDATES_EACH).max(MIN_CANDIDATES)
    }

    /// What cannot be asked.
    pub(super) fn check(&self) -> Result<(), MemoryError> {
        check("question", &self.question, MAX_TEXT)?;
        if let Some(reader) = &self.reader {
            check("reader", reader, MAX_NAME)?;
        }
        if let Some(namespace) = &self.namespace {
            check("namespace", namespace, MAX_NAME)?;
        }
        if !(1..=MAX_BEST).contains(&self.best) {
            return Err(MemoryError::OutOfRange {
                what: "the number of entries",
                allowed: "from 1 to 1000",
                given: self.best.to_string(),
            });
        }
        match self.fold {
            Some(_) if self.best > MAX_FOLDED => Err(MemoryError::OutOfRange {
                what: "the number of entries that are folded",
                allowed: "at most 128",
                given: self.best.to_string(),
            }),
            Some(cosine) if !(cosine > 0.0 && cosine <= 1.0) => Err(MemoryError::OutOfRange {
                what: "the cosine from which entries are folded",
                allowed: "above 0, and at most 1",
                given: cosine.to_string(),
            }),
            _ => Ok(()),
        }
    }
}

/// An entry that was found.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Hit {
    /// The entry; where entries are folded, the newest of them, and its sources are those of all.
    pub entry: Arc<Entry>,
    /// By which it stands where it does; of folded ones the best's.
    pub score: f64,
    /// The cosine of the question's vector and its own; 0 where it was not asked for or is not known.
    pub similarity: f32,
    /// BM25, of the most that the question could get.
    pub words: f64,
    /// The latent score, where the entry was scored by it.
    pub latent: Option<f32>,
    /// The further score, where one was asked for.
    pub further: Option<f32>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Recalled {
    /// The best entries, best first.
    pub hits: Vec<Hit>,
    /// The epoch that they are of; none before the first.
    pub epoch: Option<Epoch>,
    /// How many entries were looked at.
    pub n_entries: usize,
}

/// What a reader may read of a memory.
pub(super) struct Readable<'i> {
    namespaces: Vec<&'i Namespace>,
}

impl Readable<'_> {
    pub(super) fn n_entries(&self) -> usize {
        self.namespaces.iter().map(|of| of.slots.len()).sum()
    }
}

/// What is looked through for a question.
///
/// # Errors
/// [`MemoryError::NoNamespace`].
pub(super) fn readable<'i>(index: &'i Index, asked: &Recall) -> Result<Readable<'i>, MemoryError> {
    let (reader, only) = (asked.reader.as_deref(), asked.namespace.as_deref());
    index.check(reader, only)?;
    let namespaces = index.readable(reader).into_iter();
    let namespaces = namespaces.filter(|(name, _)| only.is_none_or(|only| only == &***name));
    Ok(Readable {
        namespaces: namespaces.map(|(_, of)| of).collect(),
    })
}

/// The vector of a question.
///
/// # Errors
/// [`MemoryError::NotEmbedded`].
pub(super) fn embedded(question: &str, embedder: &dyn Embed) -> Result<Vectors, MemoryError> {
    let not_embedded = |reason| MemoryError::NotEmbedded { reason };
    let embedded = embed_within(embedder, &[question], PATIENCE);
    let embedded = embedded.map_err(|failure| not_embedded(failure.to_string()))?;
    let Some(embedded) = embedded.into_iter().next() else {
        return Err(not_embedded("no vector came back".to_owned()));
    };
    let mut vector = Vectors::default();
    vector.set(0, embedded.into_iter());
    Ok(vector)
}

/// A question, with all that is known of it.
pub(super) struct Asked<'a> {
    pub(super) recall: &'a Recall,
    pub(super) by: RecallBy,
    /// Its vector; without, words alone count.
    pub(super) vector: Option<&'a Vectors>,
    /// What scores entries by latent keys, where that is asked for.
    pub(super) latent: Option<&'a dyn PairScore>,
}

impl Asked<'_> {
    /// What is scored further: by latent keys alone all that there is, else the best that text finds.
    ///
    /// # Errors
    /// [`MemoryError::NotEmbedded`].
    pub(super) fn candidates(
        &self,
        index: &Index,
        readable: &Readable<'_>,
    ) -> Result<Vec<Arc<Entry>>, MemoryError> {
        let found = self.found(index, readable)?;
        Ok(entries(index, &found))
    }

    /// Entries with their scores of text; the best of them alone, where others are to follow.
    fn found(&self, index: &Index, readable: &Readable<'_>) -> Result<Vec<Found>, MemoryError> {
        let namespaces = &readable.namespaces;
        let slots = namespaces.iter().flat_map(|of| of.slots.iter().copied());
        let slots: Vec<Slot> = slots.collect();
        let similarities = match self.vector {
            Some(vector) => similarities(index, &slots, vector)?,
            None => HashMap::new(),
        };
        let words = match self.by.has_words() {
            true => words(index, namespaces, &self.recall.question),
            false => HashMap::new(),
        };
        let found = slots.into_iter().map(|slot| {
            let similarity = similarities.get(&slot).copied().unwrap_or(0.0);
            let words = words.get(&slot).copied().unwrap_or(0.0);
            Found {
                slot,
                score: f64::from(similarity) + WORDS_SCALE * words,
                similarity,
                words,
                latent: None,
                further: None,
            }
        });
        let mut found: Vec<Found> = found.collect();
        if self.by == RecallBy::Both {
            self.cut(index, &mut found);
        }
        Ok(found)
    }

    /// Keeps as many candidates as further scores look at.
    fn cut(&self, index: &Index, found: &mut Vec<Found>) {
        let by_score = |a: &Found, b: &Found| ordered(index, a, b);
        keep_best(found, self.recall.n_candidates(), by_score);
    }

    /// Which entries are best, of those that the reader may read.
    ///
    /// # Errors
    /// [`MemoryError::NotEmbedded`], [`MemoryError::NotScored`].
    pub(super) fn best(
        &self,
        index: &Index,
        readable: &Readable<'_>,
        epoch: Option<Epoch>,
    ) -> Result<Recalled, MemoryError> {
        let recall = self.recall;
        let mut found = self.found(index, readable)?;
        if let Some(latent) = self.latent {
            let scores = scored(index, &found, latent, &recall.question)?;
            for (found, score) in found.iter_mut().zip(scores) {
                found.latent = Some(score);
                found.score += latent.scale() * f64::from(score);
            }
        }
        if recall.further.is_some() || recall.fold.is_some() {
            self.cut(index, &mut found);
        }
        if let Some(further) = &recall.further {
            let scores = scored(index, &found, &**further, &recall.question)?;
            for (found, score) in found.iter_mut().zip(scores) {
                found.further = Some(score);
                found.score += further.scale() * f64::from(score);
            }
        }
        let by_score = |a: &Found, b: &Found| ordered(index, a, b);
        let hits = match recall.fold {
            None => {
                keep_best(&mut found, recall.best, by_score);
                let hit = |found: &Found| found.hit(index.standing(found.slot).entry.clone());
                found.iter().map(hit).collect()
            }
            Some(cosine) => {
                found.sort_by(by_score);
                folded(index, &found, recall.best, cosine)
            }
        };
        Ok(Recalled {
            hits,
            epoch,
            n_entries: readable.n_entries(),
        })
    }
}

/// An entry with its scores.
struct Found {
    slot: Slot,
    score: f64,
    similarity: f32,
    words: f64,
    latent: Option<f32>,
    further: Option<f32>,
}

impl Found {
    fn hit(&self, entry: Arc<Entry>) -> Hit {
        Hit {
            entry,
            score: self.score,
            similarity: self.similarity,
            words: self.words,
            latent: self.latent,
            further: self.further,
        }
    }
}

fn entries(index: &Index, found: &[Found]) -> Vec<Arc<Entry>> {
    let entry = |found: &Found| index.standing(found.slot).entry.clone();
    found.iter().map(entry).collect()
}

/// The best first; of equals the newest, then by key.
fn ordered(index: &Index, a: &Found, b: &Found) -> Ordering {
    let (of_a, of_b) = (&index.standing(a.slot).entry, &index.standing(b.slot).entry);
    let by_score = b.score.total_cmp(&a.score);
    by_score
        .then_with(|| of_b.updated_at_ms.cmp(&of_a.updated_at_ms))
        .then_with(|| of_a.key.cmp(&of_b.key))
        .then_with(|| of_a.namespace.cmp(&of_b.namespace))
        .then_with(|| of_a.text.cmp(&of_b.text))
}

/// The first `n` in order, in order.
fn keep_best(found: &mut Vec<Found>, n: usize, order: impl Fn(&Found, &Found) -> Ordering) {
    if n < found.len() {
        found.select_nth_unstable_by(n, &order);
        found.truncate(n);
    }
    found.sort_by(order);
}

/// A score of each that was found, in order.
fn scored(
    index: &Index,
    found: &[Found],
    by: &dyn PairScore,
    question: &str,
) -> Result<Vec<f32>, MemoryError> {
    let entries = entries(index, found);
    let not_scored = |reason| MemoryError::NotScored { reason };
    let scores = by.scores(question, &entries).map_err(not_scored)?;
    match scores.len() == entries.len() {
        true => Ok(scores),
        false => {
            let reason = format!("{} scores of {} entries", scores.len(), entries.len());
            Err(not_scored(reason))
        }
    }
}

/// The cosine of the question and each entry that has a vector.
fn similarities(
    index: &Index,
    slots: &[Slot],
    vector: &Vectors,
) -> Result<HashMap<Slot, f32>, MemoryError> {
    let slots: Vec<Slot> = slots
        .iter()
        .copied()
        .filter(|slot| index.standing(*slot).has_vector)
        .collect();
    if slots.is_empty() {
        return Ok(HashMap::new());
    }
    if vector.width() != index.vectors.width() {
        return Err(MemoryError::NotEmbedded {
            reason: format!(
                "its vector has {} elements, and those of the entries {}",
                vector.width(),
                index.vectors.width()
            ),
        });
    }
    let cosines = cosines(&index.vectors, (vector, 0), &slots);
    Ok(slots.into_iter().zip(cosines).collect())
}

/// The products of one vector with those in some slots.
fn cosines(vectors: &Vectors, (of, at): (&Vectors, Slot), slots: &[Slot]) -> Vec<f32> {
    let mut cosines = vec![0.0; slots.len()];
    let row = Rows {
        vectors: of,
        slots: &[at],
    };
    products(row, Rows { vectors, slots }, &mut cosines);
    cosines
}

/// BM25 of each entry that has a word of the question, of the most that the question could get.
fn words(index: &Index, namespaces: &[&Namespace], question: &str) -> HashMap<Slot, f64> {
    let n_entries: usize = namespaces.iter().map(|of| of.slots.len()).sum();
    let n_words: u64 = namespaces.iter().map(|of| of.n_words).sum();
    let mean_length = n_words as f64 / (n_entries.max(1)) as f64;
    // In order, so that equal entries are added up alike.
    let asked: BTreeSet<String> = super::words::words(question).collect();
    let (mut scores, mut most): (HashMap<Slot, f64>, f64) = (HashMap::new(), 0.0);
    for word in &asked {
        let postings = namespaces.iter();
        let postings = postings.filter_map(|of| of.postings.get(word.as_str()));
        let postings: Vec<&BTreeMap<Slot, u32>> = postings.collect();
        let n_with: usize = postings.iter().map(|posting| posting.len()).sum();
        let rarity = (1.0 + (n_entries as f64 - n_with as f64 + 0.5) / (n_with as f64 + 0.5)).ln();
        most += rarity * (K1 + 1.0);
        for (slot, count) in postings.into_iter().flatten() {
            let length = f64::from(index.standing(*slot).n_words) / mean_length;
            let count = f64::from(*count);
            let weight = count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length));
            *scores.entry(*slot).or_default() += rarity * weight;
        }
    }
    scores.values_mut().for_each(|score| *score /= most);
    scores
}

/// The first `best` of what was found, in order, entries that are near to one another being one: each
/// points to the newest of its namespace that is newer and near, and who points to nobody stands for
/// all that lead to it.
fn folded(index: &Index, found: &[Found], best: usize, cosine: f32) -> Vec<Hit> {
    let folding = Folding::of(index, found, cosine);
    let mut hits: Vec<Hit> = Vec::new();
    let mut seen = BTreeSet::new();
    for found in found {
        if hits.len() == best {
            break;
        }
        let head = folding.head(found.slot);
        if seen.insert(head) {
            hits.push(found.hit(folding.with_sources(head)));
        }
    }
    hits
}

/// Which candidate stands for which.
struct Folding<'i> {
    index: &'i Index,
    /// By candidate: those of its namespace that are near to it.
    near: BTreeMap<Slot, Vec<Slot>>,
    /// By candidate: who stands for it.
    heads: BTreeMap<Slot, Slot>,
}

impl<'i> Folding<'i> {
    /// All candidates are compared with each other, namespace by namespace.
    fn of(index: &'i Index, found: &[Found], cosine: f32) -> Self {
        let mut by_namespace: BTreeMap<&Arc<str>, Vec<Slot>> = BTreeMap::new();
        for found in found {
            let standing = index.standing(found.slot);
            let of_it = by_namespace.entry(&standing.entry.namespace).or_default();
            if standing.has_vector {
                of_it.push(found.slot);
            }
        }
        let mut near: BTreeMap<Slot, Vec<Slot>> = BTreeMap::new();
        for slots in by_namespace.values() {
            for slot in slots {
                let cosines = cosines(&index.vectors, (&index.vectors, *slot), slots);
                let of_slot = slots.iter().zip(cosines);
                let of_slot = of_slot.filter(|(other, near)| *other != slot && *near >= cosine);
                near.insert(*slot, of_slot.map(|(other, _)| *other).collect());
            }
        }
        let mut folding = Self {
            index,
            near,
            heads: BTreeMap::new(),
        };
        // The newest first: who stands for an entry is newer.
        let mut slots: Vec<Slot> = found.iter().map(|found| found.slot).collect();
        slots.sort_by(|a, b| folding.age(*b).cmp(&folding.age(*a)));
        for slot in slots {
            let newer = folding.near(slot).iter().copied();
            let newer = newer.filter(|other| folding.age(*other) > folding.age(slot));
            let newest = newer.max_by_key(|other| folding.age(*other));
            let head = newest.map_or(slot, |newest| folding.head(newest));
            folding.heads.insert(slot, head);
        }
        folding
    }

    fn near(&self, slot: Slot) -> &[Slot] {
        self.near.get(&slot).map_or(&[], Vec::as_slice)
    }

    fn age(&self, slot: Slot) -> (i64, &'i Arc<str>, &'i Arc<str>) {
        let entry = &self.index.standing(slot).entry;
        (entry.updated_at_ms, &entry.key, &entry.text)
    }

    /// Who stands for a candidate.
    fn head(&self, slot: Slot) -> Slot {
        self.heads.get(&slot).copied().unwrap_or(slot)
    }

    /// An entry with the sources of all that lead to it, newest first.
    fn with_sources(&self, head: Slot) -> Arc<Entry> {
        let entry = &self.index.standing(head).entry;
        let members = self.heads.iter().filter(|(_, of)| **of == head);
        let mut members: Vec<Slot> = members.map(|(slot, _)| *slot).collect();
        if members.len() <= 1 {
            return entry.clone();
        }
        members.sort_by(|a, b| self.age(*b).cmp(&self.age(*a)));
        let sources = members
            .iter()
            .flat_map(|slot| self.index.standing(*slot).entry.sources.iter().cloned());
        Arc::new(Entry {
            sources: sources.collect(),
            ..Entry::clone(entry)
        })
    }
}
