//! `remember`, `recall` and `forget`: what is stored, found by a question, and erased?
//!
//! What is remembered is a row of a table, so every view over it takes it up. A memory is a relation over
//! such a table by which rows are found; it is declared by SQL, and asked by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use perennial_rows::encoding::Encoder;
use perennial_rows::{KEY, SUPERSEDES, TEXT, TITLE, Tuple, UPDATED_AT, has_meaning};
use perennial_views::Epoch;
use perennial_views::query::memory::{MAX_TEXT, text_of};
use perennial_views::sql::{Identifier, Quoted};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bounded;
use crate::engine::{Edit, Engine, Error, RelationInfo, RelationKind, Snapshot};
use crate::memory::Bank;
use crate::serve::{Askable, Caller, Refusal, Role, Served};

pub(super) const REMEMBER: &str = "\
Stores a text: views over it, and memories, take it up. Stored again under the same key it takes the place of \
what was there. What says the same is stored once: without a key it keeps the one that it has, and with a key it \
is renamed where it had none. Returns the key, by which it can be forgotten.";

pub(super) const RECALL: &str = "\
Finds what was stored in a memory, best first, by a question. It asks no language model: to have a question \
answered, use `ask`.";

pub(super) const FORGET: &str = "\
Erases what is stored under a key, and all that was derived from it: answers are written anew without it, caches \
and history drop it. It cannot be undone. Returns a receipt of what was removed.";

/// How long is waited for a row to be there.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a key of a note without one is the digest of, and its version.
const KEY_OF: &str = "perennial note key 1";
/// Bytes of that digest which are in the key.
const KEY_BYTES: usize = 8;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Remember {
    /// What is to be remembered, so that it can be understood alone.
    text: String,
    /// What it is called; without, that follows from the text.
    #[serde(default)]
    key: Option<String>,
    /// A title, by which it is cited.
    #[serde(default)]
    title: Option<String>,
    /// The table in which it is stored; not needed where there is one table of documents.
    #[serde(default)]
    table: Option<String>,
    /// Or the memory that is to hold it.
    #[serde(default)]
    memory: Option<String>,
    /// Further columns of the row, as {"tenant": "acme"}.
    #[serde(default)]
    columns: BTreeMap<String, String>,
}

pub(super) async fn remember(
    served: &Arc<Served>,
    caller: &Caller,
    arguments: Remember,
) -> Result<Value, Refusal> {
    caller.may(Role::Write)?;
    let text = arguments.text.trim().to_owned();
    if text.is_empty() {
        return Err(Refusal::of_arguments(
            "the text is empty",
            "say what is to be remembered",
        ));
    }
    if arguments.key.as_ref().is_some_and(String::is_empty) {
        let hint = "leave `key` out: it follows from the text";
        return Err(Refusal::of_arguments("the key is empty", hint));
    }
    let place = Place::of(arguments.table, arguments.memory)?;
    if matches!(place, Place::Memory(_)) && text.len() > MAX_TEXT {
        let error = format!(
            "the text has {} bytes; a memory takes at most {MAX_TEXT}",
            text.len()
        );
        return Err(Refusal::of_arguments(error, "remember it in parts"));
    }
    let table = table_of(served, caller, Role::Write, place).await?;
    check_columns(&table, &arguments.columns)?;
    let refused_by = refused_by(served, caller, &table.name, &text);
    // Whoever may not read it is not told what is there.
    let may_look = caller.may_of(Role::Read, &table.name).is_ok();
    let note = Note {
        text,
        title: arguments.title,
        columns: arguments.columns,
    };
    let (name, asked_for) = (table.name.clone(), arguments.key);
    let stored = served
        .ask(move |engine| note.store(engine, &name, asked_for, may_look))
        .await?;
    let mut told = json!({
        "table": table.name, "key": stored.key, "visible": stored.visible.is_some(),
        "epoch": stored.visible.flatten(),
    });
    if let Some(renamed) = stored.renamed {
        told["renamed"] = json!(renamed);
    }
    if !refused_by.is_empty() {
        told["refused_by"] = json!(refused_by);
    }
    Ok(told)
}

/// The memories made from a table that take no text as long as this.
fn refused_by(served: &Served, caller: &Caller, table: &str, text: &str) -> Vec<Arc<str>> {
    if text.len() <= MAX_TEXT {
        return Vec::new();
    }
    let memories = served.memories().into_iter();
    let of_table = memories.filter(|(_, bank)| bank.memory().source() == table);
    let names = of_table.map(|(name, _)| name);
    names.filter(|name| caller.reaches(name)).collect()
}

/// Refuses columns that would not be stored as they are meant.
fn check_columns(table: &RelationInfo, columns: &BTreeMap<String, String>) -> Result<(), Refusal> {
    for name in columns.keys() {
        if has_meaning(name) {
            let error = format!("`{name}` is no further column: it has a meaning of its own");
            let hint = "`text`, `key` and `title` are arguments; the time is the present";
            return Err(Refusal::of_arguments(error, hint));
        }
        if !table.is_open && table.schema.position(name).is_none() {
            let error = format!("`{}` has no column `{name}`", table.name);
            return Err(Refusal::of_arguments(
                error,
                format!("it has {}", table.schema),
            ));
        }
    }
    Ok(())
}

/// What is to be remembered.
struct Note {
    text: String,
    title: Option<String>,
    columns: BTreeMap<String, String>,
}

/// What came of it.
struct Stored {
    key: String,
    /// The key that it had before, which nobody had chosen.
    renamed: Option<String>,
    /// The epoch in which it is there; none where that took too long.
    visible: Option<Option<Epoch>>,
}

impl Note {
    /// Stores it, and waits a while until it is there. What says the same in all is stored once: under the
    /// key that is asked for, else under the one that it has.
    fn store(
        self,
        engine: &Engine,
        table: &str,
        asked_for: Option<String>,
        may_look: bool,
    ) -> Result<Stored, Error> {
        let own = key_of(&self.text, self.title.as_deref(), &self.columns);
        let known = match may_look {
            true => {
                // What was stored a moment ago, too.
                engine
                    .begin_flush_into(&[table])?
                    .wait(PATIENCE)
                    .transpose()?;
                self.keys_in(&engine.snapshot(table)?)
            }
            false => Vec::new(),
        };
        let has_own = known.contains(&own);
        let (key, renamed) = match asked_for {
            Some(key) => {
                let renamed = (has_own && key != own).then_some(own);
                (key, renamed)
            }
            None if has_own => (own, None),
            None => (known.into_iter().next().unwrap_or(own), None),
        };
        let mut edit = Edit::upsert(table, &*key, self.text);
        if let Some(title) = self.title {
            edit = edit.titled(title);
        }
        for (name, value) in self.columns {
            edit = edit.with(&name, &*value);
        }
        let former = renamed.iter().map(|key| Edit::delete(table, &**key));
        engine.apply(former.chain([edit]).collect())?;
        let visible = engine.begin_flush_into(&[table])?.wait(PATIENCE);
        Ok(Stored {
            key,
            renamed,
            visible: visible.transpose()?,
        })
    }

    /// The keys of rows that say the same in all columns but their time.
    fn keys_in(&self, held: &Snapshot) -> Vec<String> {
        let (schema, rows) = (&held.schema, held.rows.iter());
        let key = schema.position(KEY);
        // What no row has cannot be the same in any.
        let title = self.title.as_ref().map(|_| TITLE);
        let mut named = self.columns.keys().map(String::as_str).chain(title);
        if named.any(|name| schema.position(name).is_none()) {
            return Vec::new();
        }
        let says = |tuple: &Tuple| {
            let mut columns = schema.columns().iter().zip(tuple.iter());
            columns.all(|(column, value)| {
                let value = text_of(value.clone());
                let meant = match &*column.name {
                    KEY | UPDATED_AT | SUPERSEDES => return true,
                    TEXT => Some(&self.text),
                    TITLE => self.title.as_ref(),
                    other => self.columns.get(other),
                };
                value.as_deref() == meant.map(String::as_str)
            })
        };
        let same = rows.filter(|(tuple, _)| says(tuple));
        let keys = same.filter_map(|(tuple, _)| tuple.get(key?)?.as_text());
        keys.map(|key| key.to_string()).collect()
    }
}

/// The key of what says this, and is called so: of others it is another.
fn key_of(text: &str, title: Option<&str>, columns: &BTreeMap<String, String>) -> String {
    let mut encoder = Encoder::new();
    encoder.text(text).number(title.is_some().into());
    encoder.text(title.unwrap_or_default());
    for (name, value) in columns {
        encoder.text(name).text(value);
    }
    let digest = encoder.digest(KEY_OF);
    let hex = digest[..KEY_BYTES].iter().map(|byte| format!("{byte:02x}"));
    format!("note-{}", hex.collect::<String>())
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Recall {
    /// What is looked for.
    question: String,
    /// The memory; not needed where there is one.
    #[serde(default)]
    memory: Option<String>,
    /// At most so many entries: 5 unless said, up to 100.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    limit: Option<usize>,
    /// Whoever is to be answered: only what they may read is found.
    #[serde(default)]
    reader: Option<String>,
    /// Only entries of this namespace.
    #[serde(default)]
    namespace: Option<String>,
}

pub(super) async fn recall(
    served: &Arc<Served>,
    caller: &Caller,
    arguments: Recall,
) -> Result<Value, Refusal> {
    caller.may_of_all(Role::Read)?;
    let (memory, _) = memory_of(served, caller, arguments.memory.as_deref())?;
    let limit = arguments.limit.unwrap_or(5).clamp(1, 100);
    let mut sql = format!(
        "RECALL {} FROM {}",
        Quoted(&arguments.question),
        Identifier(&memory)
    );
    if let Some(reader) = &arguments.reader {
        sql.push_str(&format!(" AS {}", Quoted(reader)));
    }
    if let Some(namespace) = &arguments.namespace {
        sql.push_str(&format!(" IN NAMESPACE {}", Quoted(namespace)));
    }
    sql.push_str(&format!(" LIMIT {limit}"));
    let instead = (!caller.has(Role::Admin)).then_some("use a token with the role `admin`");
    let outcomes = served.sql(caller, sql, instead).await?;
    let mut outcomes = serde_json::to_value(&outcomes).unwrap_or_default();
    let recalled = &mut outcomes[0];
    let mut given = json!({
        "memory": memory, "entries": recalled["rows"].take(), "notices": recalled["notices"].take(),
    });
    bounded(&mut given, "entries");
    Ok(given)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Forget {
    /// The key under which it is stored.
    key: String,
    /// The table in which it is stored; not needed where there is one table of documents.
    #[serde(default)]
    table: Option<String>,
    /// Or the memory that holds it.
    #[serde(default)]
    memory: Option<String>,
}

pub(super) async fn forget(
    served: &Arc<Served>,
    caller: &Caller,
    arguments: Forget,
) -> Result<Value, Refusal> {
    caller.may(Role::Admin)?;
    let place = Place::of(arguments.table, arguments.memory)?;
    let table = table_of(served, caller, Role::Admin, place).await?.name;
    let (key, memories) = (arguments.key, served.memories());
    let receipt = served.ask(move |engine| {
        // What was said before is erased, too.
        engine.flush_into(&[&table])?;
        let receipt = engine.forget(&table, &key)?;
        memories.values().for_each(Bank::catch_up);
        Ok(receipt)
    });
    let receipt = receipt.await?;
    Ok(json!({ "receipt": serde_json::to_value(&receipt).unwrap_or_default() }))
}

/// Where something is stored, as it is said.
enum Place {
    Table(String),
    /// In what a memory is made from.
    Memory(String),
    /// In the only table of documents.
    Only,
}

impl Place {
    fn of(table: Option<String>, memory: Option<String>) -> Result<Self, Refusal> {
        match (table, memory) {
            (Some(_), Some(_)) => {
                let error = "a table and a memory are named";
                Err(Refusal::of_arguments(error, "name one of them"))
            }
            (Some(table), None) => Ok(Self::Table(table)),
            (None, Some(memory)) => Ok(Self::Memory(memory)),
            (None, None) => Ok(Self::Only),
        }
    }
}

/// The table in which something is stored, for who has a role there. Of what they do not reach, nothing
/// is told.
async fn table_of(
    served: &Arc<Served>,
    caller: &Caller,
    role: Role,
    place: Place,
) -> Result<RelationInfo, Refusal> {
    let relations = served.ask(|engine| engine.relations()).await?;
    let find = |name: &str| relations.iter().find(|of| *of.name == *name);
    let is_table = |of: &&RelationInfo| of.kind == RelationKind::Table;
    match place {
        Place::Table(name) => {
            caller.may_of(role, &name)?;
            served.check_fed(&name)?;
            let Some(of) = find(&name) else {
                let error = format!("there is no table `{name}`");
                return Err(Refusal::nothing_there(error, "`views` tells what there is"));
            };
            let of = Some(of).filter(is_table);
            of.cloned().ok_or_else(|| {
                let error = format!("`{name}` is no table: nothing can be stored there by hand");
                Refusal::of_arguments(error, "name a table")
            })
        }
        Place::Memory(name) => {
            let (name, bank) = memory_of(served, caller, Some(&name))?;
            let from = bank.memory().source();
            if !caller.reaches(from) {
                let error = format!("this token does not reach what memory `{name}` is made from");
                return Err(Refusal::not_reached(error));
            }
            caller.may_of(role, from)?;
            find(from).filter(is_table).cloned().ok_or_else(|| {
                let error =
                    format!("memory `{name}` follows from `{from}`, which is not fed by hand");
                Refusal::of_arguments(error, "change what that reads, by naming its `table`")
            })
        }
        Place::Only => only_table(served, caller, &relations),
    }
}

fn only_table(
    served: &Served,
    caller: &Caller,
    relations: &[RelationInfo],
) -> Result<RelationInfo, Refusal> {
    let asked = Askable::all(relations);
    let is_of_documents = |of: &&RelationInfo| {
        let is_of_questions = asked.iter().any(|view| view.table == of.name);
        of.kind == RelationKind::Table
            && !is_of_questions
            && served.check_fed(&of.name).is_ok()
            && caller.reaches(&of.name)
    };
    let tables: Vec<&RelationInfo> = relations.iter().filter(is_of_documents).collect();
    match &tables[..] {
        [one] => Ok((*one).clone()),
        [] => Err(Refusal::nothing_there(
            "there is no table in which something could be stored",
            "CREATE TABLE notes (key TEXT, text TEXT, title TEXT)",
        )),
        several => {
            let names: Vec<&str> = several.iter().map(|of| &*of.name).collect();
            let error = "there are several tables, and none is named";
            let hint = format!("say `table`: one of {}", names.join(", "));
            Err(Refusal::of_arguments(error, hint))
        }
    }
}

/// The memory that is meant, of those that somebody reaches, or whose rows they do.
fn memory_of(
    served: &Served,
    caller: &Caller,
    memory: Option<&str>,
) -> Result<(Arc<str>, Bank), Refusal> {
    let memories = served.memories().into_iter();
    let mut memories: Vec<(Arc<str>, Bank)> = memories
        .filter(|(name, bank)| caller.reaches(name) || caller.reaches(bank.memory().source()))
        .collect();
    let names: Vec<&str> = memories.iter().map(|(name, _)| &**name).collect();
    let known = match names.is_empty() {
        true => "CREATE MEMORY team FROM notes; or use `ask`, or `snapshot`".to_owned(),
        false => format!("there are: {}", names.join(", ")),
    };
    let at = match (memory, names.len()) {
        (Some(name), _) => names.iter().position(|of| *of == name).ok_or_else(|| {
            let error = format!("there is no memory `{name}`");
            Refusal::nothing_there(error, known)
        }),
        (None, 1) => Ok(0),
        (None, 0) => Err(Refusal::nothing_there("there is no memory", known)),
        (None, _) => {
            let error = "there are several memories, and none is named";
            Err(Refusal::of_arguments(error, known))
        }
    };
    Ok(memories.swap_remove(at?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_all_that_is_said() {
        let columns = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let pairs = pairs.iter();
            pairs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        let acme = columns(&[("tenant", "acme")]);
        let key = key_of("one", None, &acme);
        assert_eq!(key_of("one", None, &acme), key);
        for other in [
            key_of("two", None, &acme),
            key_of("one", Some(""), &acme),
            key_of("one", Some("title"), &acme),
            key_of("one", None, &columns(&[])),
            key_of("one", None, &columns(&[("tenant", "umbrella")])),
            key_of("one", None, &columns(&[("tenantacme", "")])),
        ] {
            assert_ne!(other, key);
        }
    }
}
