//! Which entries are nearest to a question?
//!
//! ```text
//! score = cosine(question, entry) + WORDS_SCALE * BM25 / (the most BM25 that the question could get)
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

use perennial_ask::Embed;
use perennial_model::dot::{Rows, Vectors, products};
use perennial_views::Epoch;
use perennial_views::query::memory::MAX_TEXT;

use super::entry::{Entry, MAX_NAME};
use super::error::{MemoryError, check};
use super::index::{Index, Namespace, Slot};

/// What a full match of words counts beside a cosine of 1. A round number; what others would find shows
/// `cargo bench --bench memory -- --sweep`.
pub const WORDS_SCALE: f64 = 0.8;
/// How fast further copies of a word in a text count less.
const K1: f64 = 1.2;
/// How much a long text is held against it.
const B: f64 = 0.75;
/// Entries that are asked for unless told.
const DEFAULT_BEST: usize = 5;
/// Most entries that can be asked for.
const MAX_BEST: usize = 1000;
/// Candidates of text that a further score looks at, for each entry that is asked for.
const CANDIDATES_EACH: usize = 8;
/// And at least so many.
const MIN_CANDIDATES: usize = 64;

/// What an entry is scored by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScoreBy {
    /// Vectors and words.
    #[default]
    Both,
    /// Vectors alone.
    Similarity,
    /// Words alone: no text is embedded.
    Words,
}

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
    pub(super) by: ScoreBy,
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
            by: ScoreBy::Both,
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

    /// Scored by this.
    #[must_use]
    pub fn by(mut self, by: ScoreBy) -> Self {
        self.by = by;
        self
    }

    /// Entries of a namespace whose vectors have this cosine or more are one: the newest stands for
    /// all. So two facts that differ in a number may be folded, too.
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

    /// What cannot be asked.
    fn check(&self) -> Result<(), MemoryError> {
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

/// Which entries are best, of those that the reader may read.
pub(super) fn recall(
    index: &Index,
    asked: &Recall,
    embedder: &dyn Embed,
    epoch: Option<Epoch>,
) -> Result<Recalled, MemoryError> {
    asked.check()?;
    let reader = asked.reader.as_deref();
    if let Some(namespace) = &asked.namespace
        && !index.may_read(reader, namespace)
    {
        return Err(MemoryError::NoNamespace {
            namespace: namespace.clone(),
            reader: asked.reader.clone(),
        });
    }
    let namespaces = index.readable(reader).into_iter();
    let namespaces = namespaces.filter(|(name, _)| {
        let only = asked.namespace.as_deref();
        only.is_none_or(|only| only == &***name)
    });
    let namespaces: Vec<&Namespace> = namespaces.map(|(_, of)| of).collect();
    let slots: Vec<Slot> = namespaces
        .iter()
        .flat_map(|of| of.slots.iter().copied())
        .collect();
    let n_entries = slots.len();
    let similarities = match (asked.by, n_entries) {
        (ScoreBy::Words, _) | (_, 0) => HashMap::new(),
        _ => similarities(index, &slots, &asked.question, embedder)?,
    };
    let words = match asked.by {
        ScoreBy::Similarity => HashMap::new(),
        _ => words(index, &namespaces, &asked.question),
    };
    let mut found: Vec<Found> = slots
        .into_iter()
        .map(|slot| {
            let similarity = similarities.get(&slot).copied().unwrap_or(0.0);
            let words = words.get(&slot).copied().unwrap_or(0.0);
            Found {
                slot,
                score: f64::from(similarity) + WORDS_SCALE * words,
                similarity,
                words,
                further: None,
            }
        })
        .collect();
    let by_score = |a: &Found, b: &Found| ordered(index, a, b);
    if let Some(further) = &asked.further {
        let n_candidates = (asked.best * CANDIDATES_EACH).max(MIN_CANDIDATES);
        keep_best(&mut found, n_candidates, by_score);
        add_further(index, &mut found, &**further, &asked.question)?;
    }
    let hits = match asked.fold {
        None => {
            keep_best(&mut found, asked.best, by_score);
            let hit = |found: &Found| found.hit(index.standing(found.slot).entry.clone());
            found.iter().map(hit).collect()
        }
        Some(cosine) => {
            found.sort_by(by_score);
            folded(index, &found, asked.best, cosine)
        }
    };
    Ok(Recalled {
        hits,
        epoch,
        n_entries,
    })
}

/// An entry with its scores.
struct Found {
    slot: Slot,
    score: f64,
    similarity: f32,
    words: f64,
    further: Option<f32>,
}

impl Found {
    fn hit(&self, entry: Arc<Entry>) -> Hit {
        Hit {
            entry,
            score: self.score,
            similarity: self.similarity,
            words: self.words,
            further: self.further,
        }
    }
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

/// Adds a further score to all.
fn add_further(
    index: &Index,
    found: &mut [Found],
    further: &dyn PairScore,
    question: &str,
) -> Result<(), MemoryError> {
    let entries = found
        .iter()
        .map(|found| index.standing(found.slot).entry.clone());
    let entries: Vec<Arc<Entry>> = entries.collect();
    let not_scored = |reason| MemoryError::NotScored { reason };
    let scores = further.scores(question, &entries).map_err(not_scored)?;
    if scores.len() != entries.len() {
        let reason = format!("{} scores of {} entries", scores.len(), entries.len());
        return Err(not_scored(reason));
    }
    for (found, score) in found.iter_mut().zip(scores) {
        found.further = Some(score);
        found.score += further.scale() * f64::from(score);
    }
    Ok(())
}

/// The cosine of the question and each entry that has a vector.
fn similarities(
    index: &Index,
    slots: &[Slot],
    question: &str,
    embedder: &dyn Embed,
) -> Result<HashMap<Slot, f32>, MemoryError> {
    let not_embedded = |reason| MemoryError::NotEmbedded { reason };
    let embedded = embedder.embed(&[question]).map_err(not_embedded)?;
    let Some(embedded) = embedded.into_iter().next() else {
        return Err(not_embedded("no vector came back".to_owned()));
    };
    let slots: Vec<Slot> = slots
        .iter()
        .copied()
        .filter(|slot| index.standing(*slot).has_vector)
        .collect();
    if slots.is_empty() {
        return Ok(HashMap::new());
    }
    let mut asked = Vectors::default();
    asked.set(0, embedded.into_iter());
    if asked.width() != index.vectors.width() {
        return Err(not_embedded(format!(
            "its vector has {} elements, and those of the entries {}",
            asked.width(),
            index.vectors.width()
        )));
    }
    let cosines = cosines(&index.vectors, (&asked, 0), &slots);
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
    let mut folding = Folding {
        index,
        cosine,
        heads: HashMap::new(),
    };
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

/// Which entry stands for which.
struct Folding<'i> {
    index: &'i Index,
    cosine: f32,
    heads: HashMap<Slot, Slot>,
}

impl Folding<'_> {
    /// The entries of the same namespace that are near to one.
    fn near(&self, slot: Slot) -> Vec<Slot> {
        let standing = self.index.standing(slot);
        if !standing.has_vector {
            return Vec::new();
        }
        let of = self.index.namespaces.get(&standing.entry.namespace);
        let others = of.into_iter().flat_map(|of| of.slots.iter().copied());
        let others: Vec<Slot> = others
            .filter(|other| *other != slot && self.index.standing(*other).has_vector)
            .collect();
        let cosines = cosines(&self.index.vectors, (&self.index.vectors, slot), &others);
        let near = others.into_iter().zip(cosines);
        near.filter(|(_, cosine)| *cosine >= self.cosine)
            .map(|(other, _)| other)
            .collect()
    }

    fn age(&self, slot: Slot) -> (i64, &Arc<str>, &Arc<str>) {
        let entry = &self.index.standing(slot).entry;
        (entry.updated_at_ms, &entry.key, &entry.text)
    }

    /// Who stands for an entry.
    fn head(&mut self, slot: Slot) -> Slot {
        let mut way = Vec::new();
        let mut at = slot;
        let head = loop {
            if let Some(head) = self.heads.get(&at) {
                break *head;
            }
            way.push(at);
            let newer = self.near(at).into_iter();
            let newest = newer
                .filter(|other| self.age(*other) > self.age(at))
                .max_by_key(|other| self.age(*other));
            match newest {
                // Ever newer: so this ends.
                Some(newer) => at = newer,
                None => break at,
            }
        };
        for at in way {
            self.heads.insert(at, head);
        }
        head
    }

    /// An entry with the sources of all that lead to it, newest first.
    fn with_sources(&mut self, head: Slot) -> Arc<Entry> {
        let mut members = BTreeSet::from([head]);
        let mut open = vec![head];
        while let Some(at) = open.pop() {
            for other in self.near(at) {
                if !members.contains(&other) && self.head(other) == head {
                    members.insert(other);
                    open.push(other);
                }
            }
        }
        if members.len() == 1 {
            return self.index.standing(head).entry.clone();
        }
        let mut members: Vec<Slot> = members.into_iter().collect();
        members.sort_by(|a, b| self.age(*b).cmp(&self.age(*a)));
        let sources = members
            .iter()
            .flat_map(|slot| self.index.standing(*slot).entry.sources.iter().cloned());
        Arc::new(Entry {
            sources: sources.collect(),
            ..Entry::clone(&self.index.standing(head).entry)
        })
    }
}
