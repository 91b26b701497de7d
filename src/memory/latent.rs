//! How much has a question to do with an entry, as a model reads both?
//!
//! For each word of the question the best match among the keys of the entry, in the few heads that tell
//! texts apart (`perennial_model::latent`): the score is in standard deviations of pairs that do not
//! belong together, a constant of the model. Entries are read once, by one pass without an answer; their
//! keys are kept in memory within a budget and, with a state directory, in a folder of it.
//!
//! # Invariants
//! - A score is of question and entry alone. What is kept changes what recall costs, never what it finds.
//! - Keys of an entry that is gone are dropped, from the folder too, as soon as the memory hears of it; who
//!   reads it meanwhile leaves none.
//!   Forgetting empties the folders of all memories, open or not.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use perennial_ask::LatentReader;
use perennial_bank::recall::{KeyStats, KeyStore, TextId};
use perennial_model::decoder::TokenQueries;
use perennial_model::latent::TextKeys;

use super::declaration::Memory;
use super::entry::Entry;
use super::error::MemoryError;
use super::index::Index;
use super::recall::{LATENT_SCALE, PairScore};
use crate::engine::Engine;

/// Entries that are scored, or read, before their keys may leave memory again.
const TOGETHER: usize = 32;

/// What is held to recall by latent keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct LatentStats {
    /// Texts whose keys are in memory.
    pub n_texts: usize,
    /// Bytes of these.
    pub n_bytes: usize,
    /// Most bytes that may be in memory.
    pub budget_bytes: usize,
    /// Texts that the model read, since the start.
    pub n_encoded: u64,
    /// Keys that were found in the state directory.
    pub n_restored: u64,
    /// Keys that left memory for others.
    pub n_evicted: u64,
    /// Keys that the state directory did not take: their texts are read again after a restart.
    pub n_unwritten: u64,
}

impl From<KeyStats> for LatentStats {
    fn from(stats: KeyStats) -> Self {
        Self {
            n_texts: stats.n_texts,
            n_bytes: stats.n_bytes,
            budget_bytes: stats.budget_bytes,
            n_encoded: stats.n_taken,
            n_restored: stats.n_read,
            n_evicted: stats.n_evicted,
            n_unwritten: stats.n_unwritten,
        }
    }
}

/// The latent keys of a memory's entries.
pub(super) struct Latent {
    reader: Arc<LatentReader>,
    keys: Mutex<Keys>,
}

struct Keys {
    store: KeyStore,
    /// Whether what an earlier process left of entries that are gone was removed.
    is_swept: bool,
    /// How many times entries went.
    at: Moment,
}

/// When it was known which entries stand: what is read of one that has gone since is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment(u64);

impl Latent {
    /// Of a memory, where the engine has who can read them.
    pub(super) fn of(engine: &Engine, memory: &Memory) -> Option<Self> {
        let reader = engine.runtime().latent()?.clone();
        let profile = reader.profile().clone();
        let mut store = KeyStore::new(profile, reader.head_dim(), memory.latent_bytes);
        if let Some(folder) = engine.latent_folder() {
            store = store.in_folder(of_memory(folder, &memory.name));
        }
        let keys = Keys {
            store,
            is_swept: false,
            at: Moment::default(),
        };
        Some(Self {
            reader,
            keys: Mutex::new(keys),
        })
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self, entry: &Entry) -> TextId {
        self.reader.id(title(entry), &entry.text)
    }

    /// Drops the keys of entries that are gone, where no other says the same. `is_known` says whether the
    /// index knows what stands, so that what an earlier process left of others can be dropped, too.
    pub(super) fn forget(&self, gone: &[Arc<Entry>], index: &Index, is_known: bool) {
        let mut keys = self.keys();
        if is_known && !keys.is_swept {
            keys.is_swept = true;
            let standing = index.entries().map(|entry| self.id(entry));
            keys.store.keep_only(&standing.collect());
        }
        if gone.is_empty() {
            return;
        }
        keys.at.0 += 1;
        // What was only stored again, or moved to another namespace, still stands.
        let lengths: HashSet<usize> = gone.iter().map(|entry| entry.text.len()).collect();
        let alike = index.entries();
        let alike = alike.filter(|entry| lengths.contains(&entry.text.len()));
        let standing: HashSet<TextId> = alike.map(|entry| self.id(entry)).collect();
        let gone: HashSet<TextId> = gone.iter().map(|entry| self.id(entry)).collect();
        gone.difference(&standing)
            .for_each(|id| keys.store.remove(id));
    }

    /// The present, for who knows what stands now.
    pub(super) fn now(&self) -> Moment {
        self.keys().at
    }

    /// Drops all keys.
    pub(super) fn clear(&self) {
        self.keys().store.clear();
    }

    pub(super) fn stats(&self) -> LatentStats {
        self.keys().store.stats().into()
    }

    /// A question, read.
    ///
    /// # Errors
    /// [`MemoryError::NotScored`].
    pub(super) fn question(&self, question: &str) -> Result<ReadQuestion<'_>, MemoryError> {
        let queries = self.reader.queries(question);
        let queries = queries.map_err(|error| MemoryError::NotScored {
            reason: format!("the model cannot read the question: {error}"),
        })?;
        Ok(ReadQuestion {
            latent: self,
            queries,
            at: self.now(),
            known: HashMap::new(),
        })
    }

    /// Reads those of some entries, which stood at this moment, that were not read yet, and keeps their keys
    /// as far as there is room. Returns how many these were.
    ///
    /// # Errors
    /// [`MemoryError::NotScored`].
    pub(super) fn read(
        &self,
        mut entries: Vec<Arc<Entry>>,
        at: Moment,
    ) -> Result<usize, MemoryError> {
        {
            let keys = self.keys();
            entries.retain(|entry| !keys.store.has(&self.id(entry)));
        }
        for entries in entries.chunks(TOGETHER) {
            self.keys_of(entries, at)
                .map_err(|reason| MemoryError::NotScored { reason })?;
        }
        Ok(entries.len())
    }

    /// The keys of entries which stood at this moment, in order; those that are not here are read.
    fn keys_of(&self, entries: &[Arc<Entry>], at: Moment) -> Result<Vec<Arc<TextKeys>>, String> {
        let ids: Vec<TextId> = entries.iter().map(|entry| self.id(entry)).collect();
        let found: Vec<Option<Arc<TextKeys>>> = {
            let mut keys = self.keys();
            ids.iter().map(|id| keys.store.get(id)).collect()
        };
        let is_missing = |n: &usize| found[*n].is_none();
        let missing: Vec<usize> = (0..entries.len()).filter(is_missing).collect();
        let texts: Vec<(&str, &str)> = missing
            .iter()
            .map(|n| (title(&entries[*n]), &*entries[*n].text))
            .collect();
        // Two may read the same at once: its keys are the same.
        let read = self.reader.keys(&texts);
        let read = read.map_err(|error| format!("the model cannot read an entry: {error}"))?;
        let mut read = read.into_iter().map(Arc::new);
        let mut keys = self.keys();
        let is_kept = keys.at == at;
        let taken = ids.iter().zip(found).map(|(id, found)| {
            found.or_else(|| {
                let read = read.next()?;
                if is_kept {
                    keys.store.insert(*id, read.clone());
                }
                Some(read)
            })
        });
        let taken: Option<Vec<Arc<TextKeys>>> = taken.collect();
        taken.ok_or_else(|| "fewer texts were read than were given".to_owned())
    }
}

/// A question that was read.
pub(super) struct ReadQuestion<'a> {
    latent: &'a Latent,
    queries: TokenQueries,
    /// When the entries stood that are scored.
    at: Moment,
    /// Scores that are known.
    known: HashMap<TextId, f32>,
}

impl ReadQuestion<'_> {
    /// From now on entries are scored that stand at this moment.
    pub(super) fn stand_at(&mut self, at: Moment) {
        self.at = at;
    }

    /// Scores entries, for which keys may have to be read: so that nobody waits for it later.
    ///
    /// # Errors
    /// [`MemoryError::NotScored`].
    pub(super) fn learn(&mut self, entries: &[Arc<Entry>]) -> Result<(), MemoryError> {
        let scores = self.scores("", entries);
        let scores = scores.map_err(|reason| MemoryError::NotScored { reason })?;
        let ids = entries.iter().map(|entry| self.latent.id(entry));
        self.known.extend(ids.zip(scores));
        Ok(())
    }

    fn known(&self, entries: &[Arc<Entry>]) -> Option<Vec<f32>> {
        let known = |entry: &Arc<Entry>| self.known.get(&self.latent.id(entry)).copied();
        entries.iter().map(known).collect()
    }
}

impl PairScore for ReadQuestion<'_> {
    /// Of the question that was read, whatever is given.
    fn scores(&self, _: &str, entries: &[Arc<Entry>]) -> Result<Vec<f32>, String> {
        let mut scores = Vec::with_capacity(entries.len());
        for entries in entries.chunks(TOGETHER) {
            if let Some(known) = self.known(entries) {
                scores.extend(known);
                continue;
            }
            let keys = self.latent.keys_of(entries, self.at)?;
            let keys: Vec<&TextKeys> = keys.iter().map(|keys| &**keys).collect();
            scores.extend(self.latent.reader.scores(&self.queries, &keys));
        }
        Ok(scores)
    }

    fn scale(&self) -> f64 {
        LATENT_SCALE
    }
}

fn title(entry: &Entry) -> &str {
    entry.title.as_deref().unwrap_or_default()
}

/// The folder of a memory's keys: any name of a memory makes one.
fn of_memory(folder: PathBuf, name: &str) -> PathBuf {
    let digest = blake3::derive_key(
        "perennial 1 folder of a memory's latent keys",
        name.as_bytes(),
    );
    let hex = digest[..16].iter().map(|byte| format!("{byte:02x}"));
    folder.join(hex.collect::<String>())
}
