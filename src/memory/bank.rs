//! How is a memory spoken to?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use perennial_rows::{Key, Row, json};
use perennial_views::Epoch;

use super::declaration::Memory;
use super::entry::{Entry, MAX_NAME, NewEntry};
use super::error::{MemoryError, check};
use super::forget::{ForgetBy, MemoryReceipt};
use super::index::Index;
use super::recall::{Recall, Recalled, recall};
use crate::engine::{Edit, Engine, Error, RelationKind, Subscription, Update};

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
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    memory: Memory,
    followed: Mutex<Followed>,
}

/// The memory's view, as far as it was read.
struct Followed {
    updates: Subscription,
    index: Index,
    epoch: Option<Epoch>,
}

impl Followed {
    /// Takes in what was told since: all of it is of complete epochs.
    fn catch_up(&mut self) {
        while let Some(update) = self.updates.try_recv() {
            match update {
                Update::Rows(rows) => {
                    self.epoch = Some(rows.epoch);
                    self.index.apply(rows.rows);
                }
                Update::EpochComplete(summary) => self.epoch = Some(summary.epoch),
                _ => {}
            }
        }
    }
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
    /// By namespace.
    pub namespaces: BTreeMap<Arc<str>, NamespaceStats>,
}

impl Bank {
    /// Makes the relations of a memory in an engine.
    ///
    /// # Errors
    /// [`MemoryError::NoColumn`]; of the engine [`Error::UnknownRelation`] for what it is made from,
    /// [`Error::DeclaredTwice`], [`Error::Recorded`], [`Error::Stopped`].
    pub fn create(engine: &Engine, memory: Memory) -> Result<Self, MemoryError> {
        let entries = memory.entries_query(engine)?;
        let refused = memory.refused_query(engine)?;
        let made = [
            memory.name.clone(),
            memory.grants(),
            memory.refused(),
            memory.index(),
        ];
        let names: BTreeSet<String> = engine
            .relations()?
            .into_iter()
            .map(|relation| relation.name.to_string())
            .collect();
        if let Some(name) = made.into_iter().find(|name| names.contains(name)) {
            return Err(Error::DeclaredTwice { name }.into());
        }
        engine.create_table_of(&memory.grants(), Memory::grants_columns())?;
        engine.create_query(&memory.name, entries)?;
        engine.create_query(&memory.refused(), refused)?;
        engine.create_query(&memory.index(), memory.index_query(engine)?)?;
        let updates = engine.subscribe(&memory.index())?;
        let followed = Followed {
            updates,
            index: Index::default(),
            epoch: None,
        };
        Ok(Self {
            shared: Arc::new(Shared {
                engine: engine.clone(),
                memory,
                followed: Mutex::new(followed),
            }),
        })
    }

    /// The memory as it was declared.
    pub fn memory(&self) -> &Memory {
        &self.shared.memory
    }

    /// Takes the memory's relations away; the rows that it was made from stay.
    ///
    /// # Errors
    /// [`Error::InUse`] while a view reads one of them, or a sink takes it.
    pub fn drop(self) -> Result<(), MemoryError> {
        let (engine, memory) = (&self.shared.engine, &self.shared.memory);
        let prefix = memory.readable_prefix();
        let relations = engine.relations()?;
        let is_readers = |name: &str| name.starts_with(&prefix);
        let own = [
            memory.index(),
            memory.refused(),
            memory.name.clone(),
            memory.grants(),
        ];
        let is_own = |name: &str| is_readers(name) || own.iter().any(|own| own == name);
        for relation in relations.iter().filter(|of| !is_own(&of.name)) {
            if let Some(name) = relation.reads.iter().find(|read| is_own(read)) {
                return Err(Error::InUse {
                    name: name.to_string(),
                    users: relation.name.to_string(),
                }
                .into());
            }
        }
        let readers = relations.iter().map(|relation| relation.name.to_string());
        let readers = readers.filter(|name| is_readers(name));
        for name in readers.chain(own) {
            engine.drop_relation(&name)?;
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

    fn not_by_hand(&self, from: String, instead: &'static str) -> MemoryError {
        MemoryError::NotByHand {
            memory: self.shared.memory.name.clone(),
            from,
            instead,
        }
    }

    /// The edit that stores an entry.
    fn edit(&self, key: &str, entry: NewEntry) -> Result<Edit, MemoryError> {
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

    /// Lets a reader read a namespace, which need not hold anything yet.
    ///
    /// # Errors
    /// A name that is empty, too long or holds control characters.
    pub fn grant(&self, namespace: &str, reader: &str) -> Result<(), MemoryError> {
        let key = grant_key(namespace, reader)?;
        let edit = Edit::upsert(self.shared.memory.grants(), key, "");
        let edit = edit
            .at(0)
            .with("reader", reader)
            .with("namespace", namespace);
        Ok(self.shared.engine.apply(vec![edit])?)
    }

    /// Takes a reader's right back; that there is none is no error.
    ///
    /// # Errors
    /// As [`Bank::grant`].
    pub fn revoke(&self, namespace: &str, reader: &str) -> Result<(), MemoryError> {
        let key = grant_key(namespace, reader)?;
        let grants = self.shared.memory.grants();
        Ok(self.shared.engine.delete(&grants, &key)?)
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

    fn followed(&self) -> MutexGuard<'_, Followed> {
        let followed = self.shared.followed.lock();
        let mut followed = followed.unwrap_or_else(PoisonError::into_inner);
        followed.catch_up();
        followed
    }

    /// The best entries for a question, as of the last complete epoch. No view is waited for, and no
    /// call of a language model.
    ///
    /// # Errors
    /// What of the question is refused, by name; [`MemoryError::NoNamespace`];
    /// [`MemoryError::NotEmbedded`]; [`MemoryError::NotScored`].
    pub fn recall(&self, asked: &Recall) -> Result<Recalled, MemoryError> {
        let followed = self.followed();
        let embedder = &self.shared.engine.runtime().embedder;
        recall(&followed.index, asked, &**embedder, followed.epoch)
    }

    /// What stands that a reader, or the owner, may read: by namespace, newest first.
    ///
    /// # Errors
    /// [`MemoryError::NoNamespace`], where one is asked for.
    pub fn list(
        &self,
        reader: Option<&str>,
        namespace: Option<&str>,
    ) -> Result<Vec<Arc<Entry>>, MemoryError> {
        let followed = self.followed();
        let index = &followed.index;
        if let Some(namespace) = namespace
            && !index.may_read(reader, namespace)
        {
            return Err(MemoryError::NoNamespace {
                namespace: namespace.to_owned(),
                reader: reader.map(str::to_owned),
            });
        }
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

    /// The name of a view of what a reader may read, for standing questions: made at first use, and
    /// kept from then on. A revocation is a change of it.
    ///
    /// # Errors
    /// As [`Bank::grant`] for the name; [`Error::Recorded`], [`Error::Stopped`].
    pub fn readable_by(&self, reader: &str) -> Result<String, MemoryError> {
        check("reader", reader, MAX_NAME)?;
        let (engine, memory) = (&self.shared.engine, &self.shared.memory);
        let name = memory.readable_by(reader);
        let relations = engine.relations()?;
        if relations.iter().all(|relation| *relation.name != *name) {
            engine.create_query(&name, memory.readable_query(engine, reader)?)?;
        }
        Ok(name)
    }

    /// Erases records, with all that remembers them; see [`Engine::forget`].
    ///
    /// # Errors
    /// [`MemoryError::NotByHand`] while a source or a view still says them; as [`Engine::forget`].
    pub fn forget(&self, by: &ForgetBy) -> Result<MemoryReceipt, MemoryError> {
        let (engine, memory) = (&self.shared.engine, &self.shared.memory);
        let (what, of) = by.parts();
        let relations = engine.relations()?;
        let from = relations
            .iter()
            .find(|relation| *relation.name == *memory.from);
        let kind = from.map(|relation| relation.kind);
        if matches!(kind, Some(RelationKind::Query | RelationKind::Answers)) {
            let instead = "forget what that view reads";
            return Err(self.not_by_hand(memory.from.clone(), instead));
        }
        engine.flush_into(&[&memory.index()])?;
        let rows = engine.rows_of(&memory.from)?;
        let of_them = rows.iter().filter(|(key, row)| by.is_of(memory, key, row));
        let mut keys: Vec<Key> = of_them.map(|(key, _): &(Key, Row)| key.clone()).collect();
        if let ForgetBy::Key(key) = by
            && keys.is_empty()
        {
            // What remembers it is forgotten in any case.
            keys.push(Key::from(key.as_str()));
        }
        let records = engine.forget_all(&memory.from, keys)?;
        let mut receipt = MemoryReceipt {
            memory: memory.name.clone(),
            by: what.to_owned(),
            of: of.to_owned(),
            n_records: records.iter().filter(|record| record.was_there).count(),
            ..MemoryReceipt::default()
        };
        if let ForgetBy::Namespace(namespace) = by {
            let grants = engine.rows_of(&memory.grants())?;
            let grants = grants.into_iter().filter(|(key, row)| {
                row.column(key, "namespace").as_text().map(|of| &**of) == Some(namespace.as_str())
            });
            let keys: Vec<Key> = grants.map(|(key, _)| key).collect();
            receipt.n_grants = engine.forget_all(&memory.grants(), keys)?.len();
        }
        let remains: BTreeSet<String> = records
            .iter()
            .flat_map(|record| record.remains.iter().cloned())
            .collect();
        receipt.remains = remains.into_iter().collect();
        receipt.records = records;
        // The index holds what stood until it has heard.
        drop(self.followed());
        Ok(receipt)
    }

    /// How much there is.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn stats(&self) -> Result<MemoryStats, MemoryError> {
        let (engine, memory) = (&self.shared.engine, &self.shared.memory);
        let relations = engine.relations()?;
        let n_rows = |name: &str| {
            let mut relations = relations.iter();
            relations
                .find(|relation| *relation.name == *name)
                .map_or(0, |relation| relation.n_rows)
        };
        let followed = self.followed();
        let mut stats = MemoryStats {
            epoch: followed.epoch,
            n_stored: n_rows(&memory.from),
            n_refused: n_rows(&memory.refused()),
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

/// What an entry says that the memory has no column for.
fn undeclared(what: &'static str, given: String) -> MemoryError {
    MemoryError::OutOfRange {
        what,
        allowed: "left out: the memory declares no column for it",
        given,
    }
}

/// The key of a grant: one a pair.
fn grant_key(namespace: &str, reader: &str) -> Result<String, MemoryError> {
    check("namespace", namespace, MAX_NAME)?;
    check("reader", reader, MAX_NAME)?;
    let pair = [reader.into(), namespace.into()];
    let pair = pair.iter().map(|value| (value, perennial_rows::Type::Text));
    Ok(json::key(pair))
}
