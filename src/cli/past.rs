//! `perennial answers` and `perennial history`: what does a state folder hold, and what did it
//! hold at an earlier epoch?

use std::io::{self, Write as _};
use std::process::ExitCode;

use perennial::bank::ContextKey;
use perennial::connectors::timestamp;
use perennial::engine::CurrentAnswer;
use perennial::state::{self, AnswerChanges, HistoryEntry, RowChanges, StateAsOf};
use serde_json::{Value, json};

use super::args::{AnswersArgs, HistoryArgs};
use super::failure::Failure;
use super::inputs::QUESTIONS;
use super::{json, stderr, wording};

/// Runs `perennial answers`.
pub(crate) fn answers(args: &AnswersArgs) -> Result<ExitCode, Failure> {
    let found = state::as_of(&args.state, args.as_of.0).map_err(perennial::Error::from)?;
    if let Some(view) = &args.view
        && !found.answers.contains_key(view)
    {
        let held: Vec<&str> = found.answers.keys().map(String::as_str).collect();
        let hint = match held.is_empty() {
            true => "no view had answers then".to_owned(),
            false => format!("there are answers of {}", held.join(", ")),
        };
        return Err(Failure::usage(format!("no answers of `{view}`"), hint));
    }
    let of_views = found.answers.iter();
    let of_views = of_views.filter(|(view, _)| args.view.as_ref().is_none_or(|v| v == *view));
    let mut out = io::stdout().lock();
    if !args.json {
        stderr::line(&format!(
            "as of {}",
            moment(found.epoch, found.committed_at_ms)
        ));
    }
    for (view, answers) in of_views {
        for (context, answer) in answers {
            let written = match args.json {
                true => writeln!(out, "{}", object(&found, view, context, answer)),
                false => print(&mut out, &found, context, answer),
            };
            written.map_err(Failure::output)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn moment(epoch: u64, at_ms: Option<i64>) -> String {
    let at = at_ms.map(|ms| format!(", {}", timestamp::text(ms)));
    format!("epoch {epoch}{}", at.unwrap_or_default())
}

/// The text of a context, where it is a question of this program; else its key.
fn question<'a>(found: &'a StateAsOf, context: &'a ContextKey) -> &'a str {
    let questions = found.documents.get(QUESTIONS);
    let asked = questions
        .into_iter()
        .flatten()
        .find(|row| row.key.as_str() == context.as_str());
    asked.map_or(context.as_str(), |row| &row.text)
}

fn object(found: &StateAsOf, view: &str, context: &ContextKey, answer: &CurrentAnswer) -> Value {
    let text = answer.answer.as_ref().ok();
    json!({
        "as_of": found.epoch,
        "committed_at_ms": found.committed_at_ms,
        "view": view,
        "context": context,
        "question": question(found, context),
        "text": text.map(|answer| &*answer.text),
        "error": answer.answer.as_ref().err().map(ToString::to_string),
        "finish": text.map(|answer| answer.finish),
        "epoch": answer.epoch,
        "rung": answer.rung,
        "exact": answer.drift.is_none(),
        "drift": answer.drift.unwrap_or(0.0),
        "sub_paragraphs": answer.sub_paragraphs,
        "work": json::work(&answer.work),
    })
}

fn print(
    out: &mut impl io::Write,
    found: &StateAsOf,
    context: &ContextKey,
    answer: &CurrentAnswer,
) -> io::Result<()> {
    let question = question(found, context);
    writeln!(out, "{}", wording::plain(question.trim_end()))?;
    match &answer.answer {
        Ok(answer) => {
            for line in wording::plain(answer.text.trim_end()).lines() {
                writeln!(out, "  {line}")?;
            }
        }
        Err(error) => {
            let error = error.to_string();
            writeln!(out, "  no answer: {}", wording::plain(&error))?;
        }
    }
    let mut from: Vec<&str> = Vec::new();
    for source in answer.sub_paragraphs.iter().flat_map(|s| &s.sources) {
        if !from.contains(&source.document.as_str()) {
            from.push(source.document.as_str());
        }
    }
    let from = match from.is_empty() {
        true => String::new(),
        false => format!("[{}] ", wording::plain(&from.join(", "))),
    };
    let provisional = match answer.drift {
        Some(_) => " · provisional",
        None => "",
    };
    writeln!(out, "  {from}of epoch {}{provisional}", answer.epoch)
}

/// Runs `perennial history`.
pub(crate) fn history(args: &HistoryArgs) -> Result<ExitCode, Failure> {
    let entries = state::history(&args.state).map_err(perennial::Error::from)?;
    let mut out = io::stdout().lock();
    if entries.is_empty() && !args.json {
        stderr::line("there is no history");
    }
    for entry in &entries {
        let written = match args.json {
            true => {
                let json = serde_json::to_string(entry).expect("texts and numbers are JSON");
                writeln!(out, "{json}")
            }
            false => {
                let at = timestamp::text(entry.committed_at_ms);
                writeln!(out, "{:>6}  {at}  {}", entry.epoch, changes(entry))
            }
        };
        written.map_err(Failure::output)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `documents: 2 inserted, 1 deleted; answers: 1 changed`
fn changes(entry: &HistoryEntry) -> String {
    let listed = |name: &str, counts: &[(u64, &str)]| {
        let counts = counts.iter().filter(|(n, _)| *n > 0);
        let counts = counts.map(|(n, what)| {
            let n = usize::try_from(*n).unwrap_or(usize::MAX);
            format!("{} {what}", wording::thousands(n))
        });
        format!("{name}: {}", counts.collect::<Vec<_>>().join(", "))
    };
    let streams = entry.streams.iter().map(|changes: &RowChanges| {
        let RowChanges {
            stream,
            n_inserted,
            n_updated,
            n_deleted,
        } = changes;
        let counts = [
            (*n_inserted, "inserted"),
            (*n_updated, "updated"),
            (*n_deleted, "deleted"),
        ];
        listed(stream, &counts)
    });
    let views = entry.views.iter().map(|changes: &AnswerChanges| {
        let AnswerChanges {
            view,
            n_new,
            n_changed,
            n_gone,
        } = changes;
        let counts = [(*n_new, "new"), (*n_changed, "changed"), (*n_gone, "gone")];
        listed(view, &counts)
    });
    let all: Vec<String> = streams.chain(views).collect();
    match all.is_empty() {
        true => "nothing changed".to_owned(),
        false => all.join("; "),
    }
}
