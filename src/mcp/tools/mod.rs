//! What does each tool take, do and give?

mod ask;
mod look;
mod memory;

use std::sync::{Arc, OnceLock};

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::MAX_BYTES;
use crate::serve::{Caller, Refusal, Served};

/// The most texts of one row that are cut.
const MAX_CUTS: usize = 16;

/// What a tool may change.
#[derive(Clone, Copy)]
enum Effect {
    Looks,
    Adds,
    Erases,
}

fn tool<T: JsonSchema + 'static>(
    name: &'static str,
    title: &str,
    effect: Effect,
    description: &'static str,
) -> Tool {
    let hints = ToolAnnotations::with_title(title)
        .read_only(matches!(effect, Effect::Looks))
        .destructive(matches!(effect, Effect::Erases))
        .idempotent(true)
        .open_world(false);
    Tool::new(name, description, JsonObject::new())
        .with_title(title)
        .with_input_schema::<T>()
        .with_annotations(hints)
}

/// All tools.
pub(super) fn all() -> Vec<Tool> {
    static ALL: OnceLock<Vec<Tool>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        vec![
            tool::<ask::Arguments>("ask", "Ask a view", Effect::Adds, ask::DESCRIPTION),
            tool::<look::Views>("views", "List views", Effect::Looks, look::VIEWS),
            tool::<look::Snapshot>("snapshot", "Look at a view", Effect::Looks, look::SNAPSHOT),
            tool::<look::Changes>(
                "changes_since",
                "What changed",
                Effect::Looks,
                look::CHANGES,
            ),
            tool::<look::Sql>("sql_query", "Query by SQL", Effect::Looks, look::SQL),
            tool::<memory::Remember>("remember", "Remember", Effect::Adds, memory::REMEMBER),
            tool::<memory::Recall>("recall", "Recall", Effect::Looks, memory::RECALL),
            tool::<memory::Forget>("forget", "Forget", Effect::Erases, memory::FORGET),
        ]
    });
    all.clone()
}

/// Whether there is a tool of this name.
pub(super) fn is_known(name: &str) -> bool {
    all().iter().any(|tool| tool.name == name)
}

/// Calls a tool.
///
/// # Errors
/// What cannot be done, and what to do about it.
pub(super) async fn call(
    served: &Arc<Served>,
    caller: &Caller,
    name: &str,
    arguments: Value,
) -> Result<Value, Refusal> {
    match name {
        "ask" => ask::ask(served, caller, read(arguments)?).await,
        "views" => look::views(served, caller, read(arguments)?).await,
        "snapshot" => look::snapshot(served, caller, read(arguments)?).await,
        "changes_since" => look::changes(served, caller, read(arguments)?).await,
        "sql_query" => look::sql(served, caller, read(arguments)?).await,
        "remember" => memory::remember(served, caller, read(arguments)?).await,
        "recall" => memory::recall(served, caller, read(arguments)?).await,
        _ => memory::forget(served, caller, read(arguments)?).await,
    }
}

fn read<T: DeserializeOwned>(arguments: Value) -> Result<T, Refusal> {
    serde_json::from_value(arguments).map_err(|error| {
        let error = format!("the arguments are not understood: {error}");
        Refusal::of_arguments(error, "the tool's schema tells which there are")
    })
}

/// Whether a list is more than a result may have.
fn is_too_large(rows: &[Value]) -> bool {
    let mut n_bytes = 0;
    rows.iter().any(|row| {
        n_bytes += row.to_string().len();
        n_bytes > MAX_BYTES
    })
}

/// Cuts a list of a result so that all of it is within the limit, and says so. Of a first row that is
/// larger by itself the texts are cut.
pub(super) fn bounded(value: &mut Value, list: &str) {
    let Some(rows) = value.get_mut(list).and_then(Value::as_array_mut) else {
        return;
    };
    let n_rows = rows.len();
    let is_cut = rows.first_mut().is_some_and(shorten);
    let (mut n_bytes, mut n_kept) = (0, 0);
    for row in rows.iter() {
        n_bytes += row.to_string().len();
        if n_bytes > MAX_BYTES {
            break;
        }
        n_kept += 1;
    }
    if n_kept < n_rows || is_cut {
        rows.truncate(n_kept);
        value["truncated"] = json!({
            "given": n_kept, "of": n_rows, "texts_are_cut": is_cut,
            "hint": "ask for fewer: with `limit` and `offset`, one `key`, or a condition",
        });
    }
}

/// Cuts the longest texts of a row until it is within the limit. Whether any was cut.
fn shorten(row: &mut Value) -> bool {
    let mut n_cuts = 0;
    loop {
        let n_bytes = row.to_string().len();
        if n_bytes <= MAX_BYTES {
            return n_cuts > 0;
        }
        let text = longest(row).filter(|text| !text.is_empty() && n_cuts < MAX_CUTS);
        // Many small values are no texts to be cut: the row is left out.
        let Some(text) = text else {
            return false;
        };
        // In JSON a text takes more bytes, as the row shows; a few are for what stands beside it.
        let n_kept = text.len().saturating_mul(MAX_BYTES) / n_bytes;
        let mut n_kept = n_kept.saturating_sub(64);
        while !text.is_char_boundary(n_kept) {
            n_kept -= 1;
        }
        text.truncate(n_kept);
        n_cuts += 1;
    }
}

/// The longest text within a value.
fn longest(value: &mut Value) -> Option<&mut String> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(list) => list.iter_mut().filter_map(longest).max_by_key(|t| t.len()),
        Value::Object(fields) => {
            let texts = fields.values_mut().filter_map(longest);
            texts.max_by_key(|text| text.len())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_says_what_it_takes() {
        let all = all();
        assert_eq!(all.len(), 8);
        for tool in all {
            let schema = tool.schema_as_json_value();
            assert_eq!(schema["type"], "object", "{}", tool.name);
            assert_eq!(schema["additionalProperties"], false, "{}", tool.name);
            let properties = schema["properties"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            for (name, of) in properties {
                assert!(of["description"].is_string(), "{}: {name}", tool.name);
            }
            assert!(tool.description.is_some_and(|text| text.len() > 40));
        }
    }

    #[test]
    fn what_is_too_large_is_cut_and_says_so() {
        let row = "x".repeat(MAX_BYTES / 3);
        let mut value = json!({ "rows": [row, row, row, row] });
        bounded(&mut value, "rows");
        assert_eq!(value["rows"].as_array().map(Vec::len), Some(2));
        assert_eq!(value["truncated"]["of"], 4);
        let mut one = json!({ "rows": [{"key": "a", "text": "ä\"".repeat(MAX_BYTES)}, {}] });
        bounded(&mut one, "rows");
        assert!(one["rows"].to_string().len() <= MAX_BYTES + 2);
        assert_eq!(one["rows"][0]["key"], "a");
        let text = one["rows"][0]["text"].as_str().map_or(0, str::len);
        assert!(text > MAX_BYTES / 3, "{text}");
        assert_eq!(one["truncated"]["texts_are_cut"], true);
        let mut small = json!({ "rows": [1, 2] });
        bounded(&mut small, "rows");
        assert_eq!(small, json!({ "rows": [1, 2] }));
    }
}
