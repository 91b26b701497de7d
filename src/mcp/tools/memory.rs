//! `remember`, `recall` and `forget`: what is stored, found by a question, and erased?
//!
//! What is remembered is a row of a table, so every view over it takes it up. A memory is a relation over
//! such a table by which rows are found; it is declared by SQL, and asked by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bounded;
use crate::engine::{Edit, RelationInfo, RelationKind};
use crate::serve::{Askable, Caller, Refusal, Role, Served};

pub(super) const REMEMBER: &str = "\
Stores a text: views over it, and memories, take it up. Stored again under the same key it takes the place of \
what was there; without a key, what says the same is stored once. Returns the key, by which it can be forgotten.";

pub(super) const RECALL: &str = "\
Finds what was stored in a memory, best first, by a question. It asks no language model: to have a question \
answered, use `ask`.";

pub(super) const FORGET: &str = "\
Erases what is stored under a key, and all that was derived from it: answers are written anew without it, caches \
and history drop it. It cannot be undone. Returns a receipt of what was removed.";

/// How long is waited for a row to be there.
const PATIENCE: Duration = Duration::from_secs(10);
/// What belongs to each memory.
const INDEX: &str = "_index";

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
    let text = arguments.text.trim().to_owned();
    if text.is_empty() {
        return Err(Refusal::of_arguments(
            "the text is empty",
            "say what is to be remembered",
        ));
    }
    let (memory, table) = (arguments.memory, arguments.table);
    let table = table_of(served, table.as_deref(), memory.as_deref()).await?;
    caller.may_of(Role::Write, &table)?;
    let key = arguments.key.unwrap_or_else(|| key_of(&text));
    let mut edit = Edit::upsert(&*table, &*key, text);
    if let Some(title) = arguments.title {
        edit = edit.titled(title);
    }
    for (name, value) in arguments.columns {
        edit = edit.with(&name, &*value);
    }
    let name = table.clone();
    let visible = served
        .ask(move |engine| {
            engine.apply(vec![edit])?;
            let flushing = engine.begin_flush_into(&[&name])?;
            flushing.wait(PATIENCE).transpose()
        })
        .await?;
    Ok(json!({
        "table": table, "key": key, "visible": visible.is_some(),
        "epoch": visible.flatten(),
    }))
}

fn key_of(text: &str) -> String {
    let digest = blake3::hash(text.as_bytes()).to_hex();
    format!("note-{}", &digest[..16])
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
    let memory = memory_of(served, arguments.memory.as_deref()).await?;
    let limit = arguments.limit.unwrap_or(5).clamp(1, 100);
    let mut sql = format!(
        "RECALL {} FROM {}",
        quoted(&arguments.question),
        named(&memory)
    );
    if let Some(reader) = &arguments.reader {
        sql.push_str(&format!(" AS {}", quoted(reader)));
    }
    if let Some(namespace) = &arguments.namespace {
        sql.push_str(&format!(" IN NAMESPACE {}", quoted(namespace)));
    }
    sql.push_str(&format!(" LIMIT {limit}"));
    let outcomes = served.sql(caller, sql, !caller.has(Role::Admin)).await?;
    let mut outcomes = serde_json::to_value(&outcomes).unwrap_or_default();
    let mut given = json!({ "memory": memory, "entries": outcomes[0]["rows"].take() });
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
    let (memory, table) = (arguments.memory, arguments.table);
    let table = table_of(served, table.as_deref(), memory.as_deref()).await?;
    let key = arguments.key;
    let receipt = served.ask(move |engine| {
        // What was said before is erased, too.
        engine.flush_into(&[&table])?;
        engine.forget(&table, &key)
    });
    let receipt = receipt.await?;
    Ok(json!({ "receipt": serde_json::to_value(&receipt).unwrap_or_default() }))
}

/// The table in which something is stored: as it is named, of a memory, or the only one of documents.
async fn table_of(
    served: &Arc<Served>,
    table: Option<&str>,
    memory: Option<&str>,
) -> Result<Arc<str>, Refusal> {
    let relations = served.ask(|engine| engine.relations()).await?;
    let find = |name: &str| relations.iter().find(|of| *of.name == *name);
    let (name, what) = match (table, memory) {
        (Some(table), _) => (table.to_owned(), "table"),
        (None, Some(_)) => (memory_of(served, memory).await?, "memory"),
        (None, None) => return only_table(&relations),
    };
    let Some(mut of) = find(&name) else {
        let error = format!("there is no {what} `{name}`");
        return Err(Refusal::nothing_there(error, "`views` tells what there is"));
    };
    // A memory rests on views, and these on the table in which its entries are stored.
    while what == "memory" && of.kind != RelationKind::Table {
        match of.reads.first().and_then(|name| find(name)) {
            Some(below) => of = below,
            None => break,
        }
    }
    if of.kind != RelationKind::Table {
        let error = format!("`{name}` is no table: nothing can be stored there by hand");
        return Err(Refusal::of_arguments(error, "name a table"));
    }
    Ok(of.name.clone())
}

fn only_table(relations: &[RelationInfo]) -> Result<Arc<str>, Refusal> {
    let asked = Askable::all(relations);
    let is_of_documents = |of: &&RelationInfo| {
        let is_of_questions = asked.iter().any(|view| view.table == of.name);
        of.kind == RelationKind::Table && !is_of_questions && !of.name.ends_with("_grants")
    };
    let tables: Vec<&RelationInfo> = relations.iter().filter(is_of_documents).collect();
    match &tables[..] {
        [one] => Ok(one.name.clone()),
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

/// The memory that is meant.
async fn memory_of(served: &Arc<Served>, memory: Option<&str>) -> Result<String, Refusal> {
    let relations = served.ask(|engine| engine.relations()).await?;
    let is_there = |name: &str| relations.iter().any(|of| *of.name == *name);
    let of_index = |of: &RelationInfo| {
        let memory = of.name.strip_suffix(INDEX)?;
        is_there(memory).then(|| memory.to_owned())
    };
    let memories: Vec<String> = relations.iter().filter_map(of_index).collect();
    let known = match memories.is_empty() {
        true => "CREATE MEMORY team FROM notes; or use `ask`, or `snapshot`".to_owned(),
        false => format!("there are: {}", memories.join(", ")),
    };
    match (memory, &memories[..]) {
        (Some(name), _) if memories.iter().any(|of| of == name) => Ok(name.to_owned()),
        (Some(name), _) => {
            let error = format!("there is no memory `{name}`");
            Err(Refusal::nothing_there(error, known))
        }
        (None, [one]) => Ok(one.clone()),
        (None, []) => Err(Refusal::nothing_there("there is no memory", known)),
        (None, _) => {
            let error = "there are several memories, and none is named";
            Err(Refusal::of_arguments(error, known))
        }
    }
}

/// A text in SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name in SQL.
fn named(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
