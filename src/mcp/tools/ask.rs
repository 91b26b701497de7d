//! `ask`: a question to a view, and the answer with what it leans on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use perennial_views::sql::Identifier;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::serve::address;
use crate::serve::{Answered, Askable, Caller, Question, Refusal, Role, Served};

pub(super) const DESCRIPTION: &str = "\
Asks a question and waits for the answer, which is written from documents only. Each sentence comes with the \
documents that it leans on. The answer is kept right from then on: asked again, it is there at once, as of the \
present documents. Say which `view` is asked, or which `source` of documents the answer is to come from; \
neither is needed where there is one view.";

/// Seconds, unless said.
const PATIENCE: u64 = 300;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    /// What is asked, in full: nothing is known of what was asked before.
    question: String,
    /// The view that is asked.
    #[serde(default)]
    view: Option<String>,
    /// The documents that the answer is to come from: a source, table or view.
    #[serde(default)]
    source: Option<String>,
    /// A name under which this question may change: asked again otherwise, it takes the place of the last.
    #[serde(default)]
    conversation: Option<String>,
    /// Columns of the question, by which documents are matched, as {"tenant": "acme"}.
    #[serde(default)]
    columns: BTreeMap<String, String>,
    /// How long to wait, in seconds: 300 unless said, at most 600.
    #[serde(default)]
    #[schemars(range(min = 1, max = 600))]
    timeout_s: Option<u64>,
}

pub(super) async fn ask(
    served: &Arc<Served>,
    caller: &Caller,
    arguments: Arguments,
) -> Result<Value, Refusal> {
    let source = arguments.source.as_deref();
    let view = match arguments.view {
        Some(view) => view,
        None => chosen(served, caller, source).await?,
    };
    let all = served.askable(caller).await?;
    let of_view = all.iter().find(|of| *of.view == *view);
    let documents = of_view.map(|of| of.plan.data_source.clone());
    if let (Some(source), Some(documents)) = (source, &documents)
        && *source != **documents
    {
        let error = format!("`{view}` does not answer from `{source}`");
        return Err(Refusal::of_arguments(error, "name the view, or the source"));
    }
    let question = Question {
        text: arguments.question,
        conversation: arguments.conversation,
        columns: arguments.columns,
    };
    let patience = arguments.timeout_s.unwrap_or(PATIENCE).clamp(1, 600);
    let asking = async {
        let asking = served.ask_view(caller, &view, question).await?;
        let key = asking.key().to_owned();
        Ok((asking.answer().await?, key))
    };
    match timeout(Duration::from_secs(patience), asking).await {
        Ok(Ok((answered, key))) => {
            // Who may not read them is not told where they are.
            let documents = documents.as_deref();
            let readable = documents.filter(|of| caller.may_of(Role::Read, of).is_ok());
            Ok(told(&view, readable, &key, &answered))
        }
        Ok(Err(refusal)) => Err(refusal),
        Err(_) => {
            let error = format!("`{view}` has not answered within {patience} s");
            Err(Refusal::late(error, "ask again with a larger `timeout_s`"))
        }
    }
}

fn told(view: &str, documents: Option<&str>, key: &str, answered: &Answered) -> Value {
    let characters: Vec<char> = answered.text.chars().collect();
    let sentences = answered.sentences.iter().map(|sentence| {
        let text: String = characters[sentence.start..sentence.end].iter().collect();
        let citations = sentence.citations.iter().map(|citation| {
            json!({
                "document": citation.document,
                "address": documents.map(|of| address::of_row(of, &citation.document)),
                "title": citation.title,
                "passage": citation.ordinal,
                "share": citation.share,
            })
        });
        json!({ "text": text, "citations": citations.collect::<Vec<_>>() })
    });
    json!({
        "view": view,
        "key": key,
        "answer": answered.text,
        "sentences": sentences.collect::<Vec<_>>(),
        "epoch": answered.epoch,
        "exact": answered.is_exact,
        "passages_read": answered.passages.map(|passages| passages.read),
        "passages_of": answered.passages.map(|passages| passages.of),
        "kept": answered.was_kept,
        "tokens": {
            "prompt": answered.usage.prompt,
            "cached": answered.usage.cached,
            "completion": answered.usage.completion,
        },
    })
}

/// The view that is meant where none is named.
async fn chosen(
    served: &Arc<Served>,
    caller: &Caller,
    source: Option<&str>,
) -> Result<String, Refusal> {
    let all = served.askable(caller).await?;
    let is_meant = |of: &&Askable| source.is_none_or(|source| *of.plan.data_source == *source);
    let meant: Vec<&Askable> = all.iter().filter(is_meant).collect();
    match (&meant[..], source) {
        ([one], _) => Ok(one.view.to_string()),
        // Several over the same documents: the first answers as well as any.
        ([one, ..], Some(_)) => Ok(one.view.to_string()),
        ([], Some(source)) => declared(served, caller, source).await,
        ([], None) => Err(Refusal::nothing_there(
            "there is no view that can be asked",
            "name the documents to ask, as `source`; or CREATE CONTINUOUS VIEW over a table of questions",
        )),
        (several, None) => {
            let names: Vec<&str> = several.iter().map(|of| &*of.view).collect();
            let error = "there are several views, and none is named";
            let hint = format!("say `view`: one of {}", names.join(", "));
            Err(Refusal::of_arguments(error, hint))
        }
    }
}

/// A view over documents that none can be asked of yet.
async fn declared(served: &Arc<Served>, caller: &Caller, source: &str) -> Result<String, Refusal> {
    if !caller.has(Role::Admin) {
        let error = format!("no view over `{source}` can be asked");
        return Err(Refusal::nothing_there(
            error,
            "`views` tells which there are",
        ));
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if source.is_empty() || !source.chars().all(is_plain) {
        let error = format!("`{source}` is no name of a source that can be asked so");
        return Err(Refusal::of_arguments(error, "name a `view`"));
    }
    let relations = served.ask(|engine| engine.relations()).await?;
    if !relations.iter().any(|of| *of.name == *source) {
        let error = format!("there is no source, table or view `{source}`");
        return Err(Refusal::nothing_there(error, "`views` tells what there is"));
    }
    let (table, view) = (
        format!("questions_of_{source}"),
        format!("answers_of_{source}"),
    );
    // In quotes, as the engine has it.
    let [of_table, of_view, of_source] = [&*table, &*view, source].map(Identifier);
    let create_table = format!("CREATE TABLE {of_table} (key TEXT, text TEXT)");
    let create_view = format!(
        "CREATE CONTINUOUS VIEW {of_view} AS LLM_GENERATE(
             CONTEXT = STREAM({of_table}), DATA_SOURCE = STREAM({of_source}))"
    );
    let declaring = async {
        served.sql(caller, create_table, None).await?;
        let declared = served.sql(caller, create_view, None).await;
        if declared.is_err() {
            // What is left where this fails, too, stands in nobody's way but of its name.
            let drop_table = format!("DROP TABLE {of_table}");
            let _ = served.sql(caller, drop_table, None).await;
        }
        declared
    };
    match declaring.await {
        Ok(_) => Ok(view),
        // Another call may have declared it meanwhile.
        Err(refusal) => {
            let all = served.askable(caller).await?;
            let is_there = all.iter().any(|of| *of.view == *view);
            is_there.then_some(view).ok_or(refusal)
        }
    }
}
