//! `perennial answers` and `perennial history`: what does a state hold, and what did it hold at an
//! earlier epoch?

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use perennial::ask::PassagesRead;
use perennial::bank::ContextKey;
use perennial::connectors::timestamp;
use perennial::engine::CurrentAnswer;
use perennial::json::WorkJson;
use perennial::state::{self, AnswerChanges, AsOf, HistoryEntry, RowChanges, StateAsOf};
use serde_json::{Value, json};

use super::args::{AnswersArgs, HistoryArgs};
use super::failure::Failure;
use super::inputs::QUESTIONS;
use super::place::{Held, cannot_open};
use super::{stderr, wording};

/// Runs `perennial answers`.
pub(crate) fn answers(args: &AnswersArgs) -> Result<ExitCode, Failure> {
    let found = match args.of.held()? {
        Held::Folder(folder) => of_folder(folder, args.as_of.0)?,
        #[cfg(feature = "serve")]
        Held::Server(server) => of_server::answers(&server, args)?,
    };
    if let Some(view) = &args.view
        && !found.answers.iter().any(|(held, _)| held == view)
    {
        let held: Vec<&str> = found.answers.iter().map(|(view, _)| &**view).collect();
        let hint = match held.is_empty() {
            true => "no view had answers then".to_owned(),
            false => format!("there are answers of {}", held.join(", ")),
        };
        return Err(Failure::usage(format!("no answers of `{view}`"), hint));
    }
    if !args.json {
        stderr::line(&format!("as of {}", found.moment));
    }
    let asked = found.answers.iter();
    let asked = asked.filter(|(view, _)| args.view.as_ref().is_none_or(|asked| asked == view));
    let mut out = io::stdout().lock();
    for answer in asked.flat_map(|(_, answers)| answers) {
        let written = match args.json {
            true => writeln!(out, "{answer}"),
            false => print(&mut out, answer),
        };
        written.map_err(Failure::output)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The answers of an epoch.
struct Found {
    /// Which epoch, in words.
    moment: String,
    /// By view: each as a JSON object.
    answers: Vec<(String, Vec<Value>)>,
}

fn of_folder(folder: &Path, as_of: AsOf) -> Result<Found, Failure> {
    let found = state::as_of(folder, as_of).map_err(cannot_open)?;
    let answers = found.answers.iter().map(|(view, answers)| {
        let objects = answers.iter();
        let objects = objects.map(|(context, answer)| object(&found, view, context, answer));
        (view.clone(), objects.collect())
    });
    Ok(Found {
        answers: answers.collect(),
        moment: moment(found.epoch, found.committed_at_ms),
    })
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
        "exact": answer.drift.is_none() && !answer.is_memoised,
        "memoised": answer.is_memoised,
        "drift": answer.drift.unwrap_or(0.0),
        "passages_read": answer.passages.map(|passages| passages.read),
        "passages_of": answer.passages.map(|passages| passages.of),
        "sub_paragraphs": answer.sub_paragraphs,
        // What is stored does not say which kind of model it was.
        "evidence": null,
        "work": WorkJson::from(&answer.work),
    })
}

fn print(out: &mut impl io::Write, answer: &Value) -> io::Result<()> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let question = text(&answer["question"]).unwrap_or_default();
    writeln!(out, "{}", wording::plain(question.trim_end()))?;
    match (text(&answer["text"]), text(&answer["error"])) {
        (Some(answer), _) => {
            for line in wording::plain(answer.trim_end()).lines() {
                writeln!(out, "  {line}")?;
            }
        }
        (None, error) => {
            let error = error.unwrap_or_default();
            writeln!(out, "  no answer: {}", wording::plain(&error))?;
        }
    }
    let of_list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let parts = of_list(&answer["sub_paragraphs"]);
    let sources = parts.iter().flat_map(|part| of_list(&part["sources"]));
    let mut from: Vec<String> = Vec::new();
    for document in sources.filter_map(|source| text(&source["document"])) {
        if !from.contains(&document) {
            from.push(document);
        }
    }
    let from = match from.is_empty() {
        true => String::new(),
        false => format!("[{}] ", wording::plain(&wording::list(&from))),
    };
    let is_provisional = answer["exact"] == false && answer["memoised"] == false;
    let provisional = if is_provisional {
        " · provisional"
    } else {
        ""
    };
    let counted = answer["passages_read"]
        .as_u64()
        .zip(answer["passages_of"].as_u64());
    let passages = counted.and_then(|(read, of)| {
        let read = PassagesRead::all(usize::try_from(read).ok()?);
        wording::left_out(Some(read.chosen_from(usize::try_from(of).ok())))
    });
    let passages = passages.map_or_else(String::new, |passages| format!(" · {passages}"));
    writeln!(
        out,
        "  {from}of epoch {}{passages}{provisional}",
        answer["epoch"]
    )
}

/// Runs `perennial history`.
pub(crate) fn history(args: &HistoryArgs) -> Result<ExitCode, Failure> {
    let entries = match args.of.held()? {
        Held::Folder(folder) => state::history(folder).map_err(cannot_open)?,
        #[cfg(feature = "serve")]
        Held::Server(server) => of_server::history(&server)?,
    };
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

/// The same of a server, which has the folder open.
#[cfg(feature = "serve")]
mod of_server {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

    use super::*;
    use crate::cli::endpoint::Endpoint;

    /// Answers of one request.
    const PAGE: usize = 1_000;

    pub(super) fn history(server: &Endpoint) -> Result<Vec<HistoryEntry>, Failure> {
        let path = "/v1/history";
        let epochs = server.get(path)?["epochs"].take();
        let unknown = |_| server.cannot(path, "it says what this version does not understand");
        serde_json::from_value(epochs).map_err(unknown)
    }

    pub(super) fn answers(server: &Endpoint, args: &AnswersArgs) -> Result<Found, Failure> {
        let epoch = match args.as_of.0 {
            AsOf::Epoch(epoch) => Some(epoch),
            AsOf::Time(ms) => Some(epoch_at(server, ms)?),
            _ => None,
        };
        let relations = server.get("/v1/relations")?["relations"].take();
        let relations = relations.as_array().cloned().unwrap_or_default();
        let views = relations.iter().filter(|of| of["kind"] == "answers");
        let mut found = Found {
            moment: epoch.map_or_else(|| "now".to_owned(), |epoch| moment(epoch, None)),
            answers: Vec::new(),
        };
        for view in views.filter_map(|of| of["name"].as_str()) {
            let is_asked = args.view.as_ref().is_none_or(|asked| asked == view);
            let rows = match is_asked {
                true => rows(server, view, epoch)?,
                // It is named where another is asked for.
                false => Vec::new(),
            };
            found.answers.push((view.to_owned(), rows));
        }
        Ok(found)
    }

    /// The last epoch that was committed by a time.
    fn epoch_at(server: &Endpoint, at_ms: i64) -> Result<u64, Failure> {
        let epochs = history(server)?;
        let by_then = epochs.iter().filter(|of| of.committed_at_ms <= at_ms);
        by_then.map(|of| of.epoch).next_back().ok_or_else(|| {
            let what = format!("{} is not in the history", timestamp::text(at_ms));
            Failure::usage(what, "`perennial history` lists the epochs there are")
        })
    }

    fn rows(server: &Endpoint, view: &str, epoch: Option<u64>) -> Result<Vec<Value>, Failure> {
        let name = utf8_percent_encode(view, NON_ALPHANUMERIC);
        let as_of = epoch.map(|epoch| format!("&as_of={epoch}"));
        let as_of = as_of.unwrap_or_default();
        let mut rows: Vec<Value> = Vec::new();
        loop {
            let n_before = rows.len();
            let path = format!("/v1/views/{name}?limit={PAGE}&offset={n_before}{as_of}");
            let mut held = server.get(&path)?;
            let (at, page) = (held["epoch"].take(), held["rows"].take());
            let page = page.as_array().cloned().unwrap_or_default();
            rows.extend(page.iter().map(|row| object(view, &at, row)));
            if rows.len() - n_before < PAGE {
                return Ok(rows);
            }
        }
    }

    fn object(view: &str, at: &Value, row: &Value) -> Value {
        json!({
            "as_of": at,
            "committed_at_ms": null,
            "view": view,
            "context": row["key"],
            "question": row["question"],
            "text": row["text"],
            "error": row["error"],
            "finish": row["finish"],
            "epoch": row["epoch"],
            "rung": row["rung"],
            "exact": row["exact"],
            "memoised": row["memoised"],
            "drift": row["drift"],
            "passages_read": row["passages_read"],
            "passages_of": row["passages_of"],
            "sub_paragraphs": row["sub_paragraphs"],
            "evidence": row["evidence"],
            "work": row["work"],
        })
    }
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
