//! How is a memory spoken to?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use perennial_views::Epoch;

use super::declaration::Memory;
use super::entry::{Entry, NewEntry};
use super::error::MemoryError;
use super::followed::Followed;
use super::latent::{Latent, LatentStats, ReadQuestion};
use super::recall::{Asked, PairScore, Recall, Recalled, embedded, readable};
use super::rights::Readers;
use crate::engine::{Edit, Engine, Error, Subscription};

/// Most entries that are stored at once.
const MAX_STORED: usize = 100_000;

/// A memory of a running engine, to be shared: clones speak to the same one.
///
/// ```
/// use std::sync::Arc;
/// use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
/// use perennial::memory::{Bank, Memory, NewEntry, Recall};
/// use perennial::{Engine, Runtime};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = Runtime::scripted(Arc::new(Scripted::new()), Arc::new(ScriptedEmbedder::default()));
/// let engine = Engine::builder(runtime).table("turns").start()?;
/// let memory = Memory::named("team").from("turns").namespace("room");
/// let bank = Bank::create(&engine, memory)?;
/// bank.store(NewEntry::new("The library opens at nine.").namespace("desk"))?;
/// bank.grant("desk", "bob")?;
/// bank.flush()?;
/// let asked = Recall::new("When does the library open?");
/// assert_eq!(bank.recall(&asked.clone().reader("bob"))?.hits.len(), 1);
/// assert!(bank.recall(&asked.reader("eve"))?.hits.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Bank {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) memory: Memory,
    followed: Mutex<Followed>,
    /// What is recalled by latent keys, where a model can read them.
    latent: Option<Latent>,
    /// The views of readers that were made.
    pub(super) readers: Mutex<Readers>,
}

/// How much of a namespace there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct NamespaceStats {
    /// Entries that stand.
    pub n_entries: usize,
    /// Of these, how many are pinned.
    pub n_pinned: usize,
    /// Rows behind them, copies counted.
    pub n_sources: usize,
    /// Bytes of their texts.
    pub n_bytes: usize,
    /// Who may read it, besides the owner.
    pub readers: Vec<Arc<str>>,
}

/// How much there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MemoryStats {
    /// The epoch that is told of; none before the first.
    pub epoch: Option<Epoch>,
    /// Rows that were stored, whatever became of them.
    pub n_stored: usize,
    /// Of these, how many are no entries: empty, or too long.
    pub n_refused: usize,
    /// What is held to recall by latent keys, where a model is open that can read them.
    pub latent: Option<LatentStats>,
    /// By namespace.
    pub namespaces: BTreeMap<Arc<str>, NamespaceStats>,
}

impl Bank {
    /// Makes the relations of a memory in an engine.
    ///
    /// # Errors
    /// [`MemoryError::NoColumn`]; [`MemoryError::NoLatent`]; of the engine [`Error::UnknownRelation`] for what it is made from,
    /// [`Error::DeclaredTwice`], [`Error::Recorded`], [`Error::Stopped`].
    pub fn create(engine: &Engine, memory: Memory) -> Result<Self, MemoryError> {
        // What is wrong with the declaration is said before anything is made.
        memory.foreseen(&engine.relations()?)?;
        let latent = Latent::of(engine, &memory);
        if memory.recall.is_latent() && latent.is_none() {
            return Err(no_latent(&memory));
        }
        let mut made = Vec::new();
        let updates = match make(engine, &memory, &mut made) {
            Ok(updates) => updates,
            Err(error) => {
                // Somebody took one of the names meanwhile. What cannot be dropped now is not of
                // this memory only: a view reads it already.
                let _ = engine.drop_relations(made);
                return Err(error);
            }
        };
        Ok(Self {
            shared: Arc::new(Shared {
                engine: engine.clone(),
                memory,
                followed: Mutex::new(Followed::over(updates)),
                latent,
                readers: Mutex::default(),
            }),
        })
    }

    /// The memory as it was declared.
    pub fn memory(&self) -> &Memory {
        &self.shared.memory
    }

    /// Whether a relation of this name is one of those that it consists of, views of readers included.
    pub fn has(&self, relation: &str) -> bool {
        self.shared.memory.has(relation) || self.readers().values().any(|of| of == relation)
    }

    /// The relations that it consists of, views of readers included.
    pub(crate) fn relations(&self) -> BTreeSet<String> {
        let readers = self.readers();
        let own = self.shared.memory.relations().into_iter();
        own.chain(readers.values().cloned()).collect()
    }

    /// Takes the memory's relations away, all or none; the rows that it was made from stay. What is
    /// gone already is no error.
    ///
    /// # Errors
    /// [`Error::InUse`] while a view reads one of them, or a sink takes it.
    pub fn drop(self) -> Result<(), MemoryError> {
        let (engine, memory) = (&self.shared.engine, &self.shared.memory);
        // Held, so that no view of a reader is made meanwhile.
        let mut readers = self.readers();
        let relations = engine.relations()?;
        let is_there = |name: &String| relations.iter().any(|of| *of.name == **name);
        let names = readers.values().cloned().chain(memory.relations());
        let names: Vec<String> = names.filter(is_there).collect();
        engine.drop_relations(names)?;
        readers.clear();
        if let Some(latent) = &self.shared.latent {
            latent.clear();
        }
        Ok(())
    }

    /// Stores something: it can be recalled once its epoch is complete ([`Bank::flush`] waits for
    /// that). Returns its key.
    ///
    /// # Errors
    /// What of it is refused, by name; [`MemoryError::NotByHand`].
    pub fn store(&self, entry: NewEntry) -> Result<String, MemoryError> {
        let mut keys = self.store_all([entry])?;
        Ok(keys.pop().unwrap_or_default())
    }

    /// Stores several, visible together, or none of them. Returns their keys.
    ///
    /// # Errors
    /// As [`Bank::store`]; [`MemoryError::OutOfRange`] for more than 100,000.
    pub fn store_all(
        &self,
        entries: impl IntoIterator<Item = NewEntry>,
    ) -> Result<Vec<String>, MemoryError> {
        let entries: Vec<NewEntry> = entries.into_iter().take(MAX_STORED + 1).collect();
        if entries.len() > MAX_STORED {
            return Err(MemoryError::OutOfRange {
                what: "the number of entries stored at once",
                allowed: "at most 100,000",
                given: "more".to_owned(),
            });
        }
        let mut keys = Vec::new();
        let mut edits = Vec::new();
        for entry in entries {
            let key = entry.checked_key()?;
            edits.push(self.edit(&key, entry)?);
            keys.push(key);
        }
        match self.shared.engine.apply(edits) {
            Err(Error::NotATable { name }) => Err(self.not_by_hand(name, "change it there")),
            done => {
                done?;
                Ok(keys)
            }
        }
    }

    pub(super) fn not_by_hand(&self, from: String, instead: &'static str) -> MemoryError {
        MemoryError::NotByHand {
            memory: self.shared.memory.name.clone(),
            from,
            instead,
        }
    }

    /// The edit that stores an entry.
    pub(super) fn edit(&self, key: &str, entry: NewEntry) -> Result<Edit, MemoryError> {
        let memory = &self.shared.memory;
        let mut edit = Edit::upsert(&*memory.from, key, entry.text);
        let named = [
            ("a namespace", &memory.namespace, entry.namespace),
            ("a session", &memory.session, entry.session),
            ("a writer", &memory.writer, entry.writer),
        ];
        for (what, column, value) in named {
            match (column, value) {
                (_, None) => {}
                (Some(column), Some(value)) => edit = edit.with(column, value.as_str()),
                (None, Some(given)) => return Err(undeclared(what, given)),
            }
        }
        match (&memory.pinned, entry.is_pinned) {
            (_, false) => {}
            (Some(column), true) => edit = edit.with(column, true),
            (None, true) => return Err(undeclared("a pin", "true".to_owned())),
        }
        if let Some(title) = entry.title {
            edit = edit.titled(title);
        }
        if let Some(ms) = entry.updated_at_ms {
            edit = edit.at(ms);
        }
        if !entry.supersedes.is_empty() {
            edit = edit.superseding(entry.supersedes.iter().map(String::as_str));
        }
        Ok(edit)
    }

    /// Deletes a record, if it is there; [`Bank::forget`] erases it.
    ///
    /// # Errors
    /// [`MemoryError::NotByHand`].
    pub fn delete(&self, key: &str) -> Result<(), MemoryError> {
        match self.shared.engine.delete(&self.shared.memory.from, key) {
            Err(Error::NotATable { name }) => Err(self.not_by_hand(name, "delete it there")),
            done => Ok(done?),
        }
    }

    /// Waits until all that was sent before can be recalled. No view of answers is waited for.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn flush(&self) -> Result<(), MemoryError> {
        let index = self.shared.memory.index();
        self.shared.engine.flush_into(&[&index])?;
        Ok(())
    }

    /// The memory's view as of the last complete epoch.
    ///
    /// # Errors
    /// [`Error::Dropped`], [`Error::Stopped`].
    fn followed(&self) -> Result<MutexGuard<'_, Followed>, MemoryError> {
        let followed = self.shared.followed.lock();
        let mut followed = followed.unwrap_or_else(PoisonError::into_inner);
        followed.catch_up();
        let gone = std::mem::take(&mut followed.gone);
        if let Some(latent) = &self.shared.latent {
            latent.forget(&gone, &followed.index, followed.epoch.is_some());
        }
        if !followed.has_ended {
            return Ok(followed);
        }
        Err(match self.shared.engine.failure() {
            Some(reason) => Error::Stopped { reason }.into(),
            None => Error::Dropped.into(),
        })
    }

    /// Takes in what is complete: so nothing that is gone from the engine waits here to be heard of.
    pub(crate) fn catch_up(&self) {
        // One that has ended holds nothing that anybody is told.
        drop(self.followed());
    }

    /// The best entries for a question, as of the last complete epoch. No view is waited for, and no
    /// call of a language model; by latent keys, the question is read, and entries that were not read yet.
    ///
    /// # Errors
    /// What of the question is refused, by name; [`MemoryError::NoNamespace`];
    /// [`MemoryError::NotEmbedded`]; [`MemoryError::NoLatent`], [`MemoryError::NotScored`];
    /// [`Error::Dropped`], [`Error::Stopped`].
    pub fn recall(&self, asked: &Recall) -> Result<Recalled, MemoryError> {
        asked.check()?;
        let shared = &self.shared;
        let by = asked.by.unwrap_or(shared.memory.recall);
        let latent = match (by.is_latent(), &shared.latent) {
            (false, _) => None,
            (true, Some(latent)) => Some(latent),
            (true, None) => return Err(no_latent(&shared.memory)),
        };
        let embedder = &shared.engine.runtime().embedder;
        let (mut vector, mut are_scored) = (None, false);
        let mut question: Option<ReadQuestion<'_>> = None;
        // Others go on while the question is embedded, and while it and entries are read.
        loop {
            let followed = self.followed()?;
            let (index, epoch) = (&followed.index, followed.epoch);
            if let (Some(latent), Some(question)) = (latent, &mut question) {
                question.stand_at(latent.now());
            }
            let found = readable(index, asked)?;
            let is_empty = found.n_entries() == 0;
            if vector.is_none() && by.is_embedded() && !is_empty {
                drop(followed);
                vector = Some(embedded(&asked.question, &**embedder)?);
                continue;
            }
            if let (Some(latent), None, false) = (latent, &question, is_empty) {
                drop(followed);
                question = Some(latent.question(&asked.question)?);
                continue;
            }
            let known = Asked {
                recall: asked,
                by,
                vector: vector.as_ref(),
                latent: question.as_ref().map(|question| question as &dyn PairScore),
            };
            if question.is_some() && !are_scored {
                let candidates = known.candidates(index, &found)?;
                drop(followed);
                // What is stored from now on is read below, while others wait.
                are_scored = true;
                if let Some(question) = &mut question {
                    question.learn(&candidates)?;
                }
                continue;
            }
            return known.best(index, &found, epoch);
        }
    }

    /// Reads the latent keys of all that stands and was not read yet, so that no question waits for it.
    /// Returns how many entries were read.
    ///
    /// # Errors
    /// [`MemoryError::NoLatent`], [`MemoryError::NotScored`]; [`Error::Dropped`], [`Error::Stopped`].
    pub fn read_latent(&self) -> Result<usize, MemoryError> {
        let latent = self.shared.latent.as_ref();
        let latent = latent.ok_or_else(|| no_latent(&self.shared.memory))?;
        let (entries, at) = {
            let followed = self.followed()?;
            (followed.index.entries().cloned().collect(), latent.now())
        };
        latent.read(entries, at)
    }

    /// What stands that a reader, or the owner, may read: by namespace, newest first.
    ///
    /// # Errors
    /// [`MemoryError::NoNamespace`], where one is asked for; [`Error::Dropped`], [`Error::Stopped`].
    pub fn list(
        &self,
        reader: Option<&str>,
        namespace: Option<&str>,
    ) -> Result<Vec<Arc<Entry>>, MemoryError> {
        let followed = self.followed()?;
        let index = &followed.index;
        index.check(reader, namespace)?;
        let mut listed = Vec::new();
        for (name, of) in index.readable(reader) {
            if namespace.is_none_or(|only| *only == **name) {
                let entries = of
                    .slots
                    .iter()
                    .map(|slot| index.standing(*slot).entry.clone());
                let mut entries: Vec<Arc<Entry>> = entries.collect();
                entries.sort_by(|a, b| {
                    let newest = b.updated_at_ms.cmp(&a.updated_at_ms);
                    newest.then_with(|| a.key.cmp(&b.key))
                });
                listed.extend(entries);
            }
        }
        Ok(listed)
    }

    /// How much there is.
    ///
    /// # Errors
    /// [`Error::Dropped`], [`Error::Stopped`].
    pub fn stats(&self) -> Result<MemoryStats, MemoryError> {
        let (engine, memory) = (&self.shared.engine, &self.shared.memory);
        let relations = engine.relations()?;
        let n_rows = |name: &str| {
            let mut relations = relations.iter();
            relations
                .find(|relation| *relation.name == *name)
                .map_or(0, |relation| relation.n_rows)
        };
        let followed = self.followed()?;
        let mut stats = MemoryStats {
            epoch: followed.epoch,
            n_stored: n_rows(&memory.from),
            n_refused: n_rows(&memory.refused()),
            latent: self.shared.latent.as_ref().map(Latent::stats),
            namespaces: BTreeMap::new(),
        };
        for (name, of) in followed.index.readable(None) {
            let mut counted = NamespaceStats::default();
            for slot in &of.slots {
                let entry = &followed.index.standing(*slot).entry;
                counted.n_entries += 1;
                counted.n_pinned += usize::from(entry.is_pinned);
                counted.n_sources += entry.sources.len();
                counted.n_bytes += entry.text.len();
            }
            stats.namespaces.insert(name.clone(), counted);
        }
        for (reader, namespace) in followed.index.grants() {
            let of = stats.namespaces.entry(namespace.clone()).or_default();
            of.readers.push(reader.clone());
        }
        Ok(stats)
    }
}

fn no_latent(memory: &Memory) -> MemoryError {
    MemoryError::NoLatent {
        memory: memory.name.clone(),
        reason: "no model of this machine is open whose heads are known; open smollm2-135m, say, or one \
                 that `perennial memory calibrate` was run for",
    }
}

/// Makes the relations of a memory, notes which are made, and follows the last.
fn make(
    engine: &Engine,
    memory: &Memory,
    made: &mut Vec<String>,
) -> Result<Subscription, MemoryError> {
    engine.create_table_of(&memory.grants(), Memory::grants_columns())?;
    made.push(memory.grants());
    for (name, query) in memory.queries() {
        engine.create_query(&name, query(memory, &engine.relations()?)?)?;
        made.push(name);
    }
    Ok(engine.subscribe(&memory.index())?)
}

/// What an entry says that the memory has no column for.
pub(super) fn undeclared(what: &'static str, given: String) -> MemoryError {
    MemoryError::OutOfRange {
        what,
        allowed: "left out: the memory declares no column for it",
        given,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use perennial_ask::scripted::ScriptedEmbedder;
    use perennial_ask::{CallError, Embed, Failure};

    use super::*;
    use crate::engine::Runtime;

    /// Embeds as another does, and has a memory listed by somebody else meanwhile.
    struct Meanwhile {
        inner: ScriptedEmbedder,
        bank: Mutex<Option<Bank>>,
    }

    impl Embed for Meanwhile {
        fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Failure> {
            let bank = self.bank.lock().expect("no panic").clone();
            if let Some(bank) = bank {
                let (sender, listed) = mpsc::channel();
                std::thread::spawn(move || sender.send(bank.list(None, None).map(|all| all.len())));
                let listed = listed.recv_timeout(Duration::from_secs(60));
                let listed = listed.map_err(|_| CallError::Model {
                    reason: "nobody else may look".to_owned(),
                })?;
                assert_eq!(listed.expect("is listed"), 1);
            }
            self.inner.embed(texts)
        }

        fn digest(&self) -> [u8; 32] {
            self.inner.digest()
        }
    }

    #[test]
    fn others_look_while_a_question_is_embedded() {
        let embedder = Arc::new(Meanwhile {
            inner: ScriptedEmbedder::default(),
            bank: Mutex::default(),
        });
        let runtime = Runtime::embedding(embedder.clone(), 1);
        let engine = Engine::builder(runtime).table("turns");
        let engine = engine.start().expect("starts");
        let bank = Bank::create(&engine, Memory::named("team").from("turns")).expect("is declared");
        bank.store(NewEntry::new("The library opens at nine.").key("a"))
            .expect("is stored");
        bank.flush().expect("runs");
        *embedder.bank.lock().expect("no panic") = Some(bank.clone());
        let recalled = bank.recall(&Recall::new("library")).expect("is recalled");
        assert_eq!(&*recalled.hits[0].entry.key, "a");
        // It holds the engine.
        *embedder.bank.lock().expect("no panic") = None;
    }
}
