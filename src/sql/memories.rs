//! Which statement does what to a memory?

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_rows::{Column, Schema, Tuple, Type, Value};
use perennial_views::sql::{
    CreateMemory, ForgetMemory, ForgetPart, Grant, Kind, MemoryOption, Name, ReadBy, Recall, Span,
};

use super::outcome::{At as _, Fault, Outcome};
use super::session::{Session, created, lock, number, table};
use crate::memory::{self, Bank, ForgetBy, Hit, Memory};

/// The columns of what is recalled.
const RECALLED: [(&str, Type); 11] = [
    ("key", Type::Text),
    ("text", Type::Text),
    ("score", Type::Float),
    ("similarity", Type::Float),
    ("words", Type::Float),
    ("namespace", Type::Text),
    ("session", Type::Text),
    ("writer", Type::Text),
    ("updated_at", Type::Timestamp),
    ("sources", Type::Json),
    ("latent", Type::Float),
];

impl Session {
    pub(super) fn create_memory(&self, memory: &CreateMemory) -> Result<Outcome, Fault> {
        let name = &memory.name;
        let bank = Bank::create(&self.engine, declared(memory)).at(name.span)?;
        lock(&self.memories).insert(name.of.clone(), bank);
        Ok(created(Kind::Memory, name, None))
    }

    /// The plan of a memory's entries.
    pub(super) fn explain_memory(&self, memory: &CreateMemory) -> Result<String, Fault> {
        declared(memory).explain(&self.engine).at(memory.name.span)
    }

    /// The memory of a name.
    pub(super) fn memory(&self, name: &Name) -> Result<Bank, Fault> {
        // The lock is given back at once: the catalog is made of memories, too.
        let bank = lock(&self.memories).get(&name.of).cloned();
        match bank {
            Some(bank) => Ok(bank),
            None => {
                self.catalog(name.span)?.expect_memory(name)?;
                let what = format!("memory {} was dropped meanwhile", name.of);
                Err(Fault::said(what, name.span))
            }
        }
    }

    /// The relation that a view reads which reads a memory.
    pub(super) fn read_memory(&self, name: &Name, reads: &ReadBy) -> Result<String, Fault> {
        let bank = self.memory(name)?;
        match reads {
            ReadBy::Owner => Ok(bank.memory().name().to_owned()),
            ReadBy::Reader(reader) => bank.readable_by(&reader.of).at(reader.span),
        }
    }

    pub(super) fn show_memories(&self, span: Span) -> Result<Outcome, Fault> {
        let mut rows = Vec::new();
        for (name, bank) in &self.memories() {
            let (memory, stats) = (bank.memory(), bank.stats().at(span)?);
            let n_entries: usize = stats.namespaces.values().map(|of| of.n_entries).sum();
            let retain = memory.retained();
            rows.push(vec![
                Value::Text(name.clone()),
                Value::text(memory.source()),
                number(n_entries),
                number(stats.namespaces.len()),
                retain.map_or(Value::Null, |retain| Value::text(retain.to_string())),
                Value::text(memory.recalled_by().to_string()),
                stats
                    .latent
                    .map_or(Value::Null, |latent| number(latent.n_bytes)),
            ]);
        }
        let names = [
            "name",
            "from",
            "entries",
            "namespaces",
            "retain",
            "recall",
            "latent_bytes",
        ];
        Ok(table(names, rows.into_iter()))
    }

    pub(super) fn drop_memory(&self, name: &Name) -> Result<(), Fault> {
        let bank = self.memory(name)?;
        // First it leaves the map: one of its name that is made meanwhile is not taken out.
        lock(&self.memories).remove(&name.of);
        let dropped = bank.clone().drop().at(name.span);
        if dropped.is_err() {
            lock(&self.memories).insert(name.of.clone(), bank);
        }
        dropped
    }

    /// The memories that statements declared, by name.
    pub(crate) fn memories(&self) -> BTreeMap<Arc<str>, Bank> {
        lock(&self.memories).clone()
    }

    /// Has every memory take in what is complete: then none holds what was erased.
    pub(crate) fn catch_memories_up(&self) {
        self.memories().values().for_each(Bank::catch_up);
    }

    pub(super) fn grant(&self, grant: &Grant) -> Result<Outcome, Fault> {
        let bank = self.memory(&grant.memory)?;
        let (namespace, reader) = (&grant.namespace, &grant.reader);
        let span = namespace.span.union(&reader.span);
        match grant.is_given {
            true => bank.grant(&namespace.of, &reader.of).at(span)?,
            false => bank.revoke(&namespace.of, &reader.of).at(span)?,
        }
        Ok(Outcome::Granted {
            is_given: grant.is_given,
        })
    }

    pub(super) fn recall(&self, recall: &Recall) -> Result<Outcome, Fault> {
        let span = recall.question.span;
        let index = self.memory(&recall.from)?.memory().index();
        let stale = self.settle_or_say(&[&index], span)?;
        let mut asked = memory::Recall::new(&*recall.question.of);
        if let Some(reader) = &recall.reader {
            asked = asked.reader(&*reader.of);
        }
        if let Some(namespace) = &recall.namespace {
            asked = asked.namespace(&*namespace.of);
        }
        if let Some(limit) = &recall.limit {
            asked = asked.best(usize::try_from(limit.of).unwrap_or(usize::MAX));
        }
        let recalled = self.memory(&recall.from)?.recall(&asked).at(span)?;
        let columns = RECALLED.map(|(name, of)| Column::new(name, of));
        Ok(Outcome::Rows {
            schema: Schema::new(columns),
            rows: recalled.hits.iter().map(row).collect(),
            notices: stale.into_iter().collect(),
        })
    }

    pub(super) fn forget_memory(&self, forget: &ForgetMemory) -> Result<Outcome, Fault> {
        let index = self.memory(&forget.from)?.memory().index();
        self.settle(&[&index], forget.of.span)?;
        let of = forget.of.of.to_string();
        let by = match forget.by {
            ForgetPart::Key => ForgetBy::Key(of),
            ForgetPart::Session => ForgetBy::Session(of),
            ForgetPart::Writer => ForgetBy::Writer(of),
            ForgetPart::Namespace => ForgetBy::Namespace(of),
        };
        let receipt = self.memory(&forget.from)?.forget(&by).at(forget.of.span)?;
        // Others may be made from the same rows.
        self.catch_memories_up();
        Ok(Outcome::MemoryForgotten(Box::new(receipt)))
    }
}

/// The memory that a statement declares.
pub(super) fn declared(memory: &CreateMemory) -> Memory {
    let declared = Memory::named(&*memory.name.of).from(&*memory.from.of);
    let options = memory.options.iter().map(|option| &option.of);
    options.fold(declared, |declared, option| match option {
        MemoryOption::Namespace(column) => declared.namespace(&**column),
        MemoryOption::Session(column) => declared.session(&**column),
        MemoryOption::Writer(column) => declared.writer(&**column),
        MemoryOption::Pinned(column) => declared.pinned(&**column),
        MemoryOption::Retain(retain) => declared.retain(*retain),
        MemoryOption::Recall(by) => declared.recall_by(*by),
        MemoryOption::LatentBytes(n) => declared.latent_bytes(*n),
        // An option that a later release knows is refused where it is read.
        _ => declared,
    })
}

fn row(hit: &Hit) -> Tuple {
    let entry = &hit.entry;
    let text = |text: &Option<Arc<str>>| text.clone().map_or(Value::Null, Value::Text);
    let sources: Vec<&str> = entry.sources.iter().map(|key| &**key).collect();
    [
        Value::Text(entry.key.clone()),
        Value::Text(entry.text.clone()),
        Value::float(hit.score),
        Value::float(hit.similarity.into()),
        Value::float(hit.words),
        Value::Text(entry.namespace.clone()),
        text(&entry.session),
        text(&entry.writer),
        Value::Timestamp(entry.updated_at_ms),
        Value::from_json(&sources.into()),
        hit.latent
            .map_or(Value::Null, |latent| Value::float(latent.into())),
    ]
    .into()
}
