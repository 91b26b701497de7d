//! `perennial memory answer`: a model's answer from what is nearest to a question.

use std::io::{self, Write as _};
use std::process::ExitCode;

use perennial::engine::AnswerUpdate;
use perennial::{Edit, Engine, Policy, Update, View};
use serde_json::json;

use super::super::failure::Failure;
use super::super::live::Live;
use super::super::{opening, stderr, wording};
use super::args::AnswerArgs;
use super::{asked, hand_over, open};

/// Tokens of what an answer reads, where its model has room for them.
const MAX_TOKENS: usize = 32 << 10;

/// Runs `perennial memory answer`.
pub(super) fn answer(args: &AnswerArgs) -> Result<ExitCode, Failure> {
    let (cache, embedder) = (args.model.cache.as_deref(), &args.model.embedder);
    let latent = match args.asked.by.is_latent() {
        true => {
            let profile = args.asked.profile.as_deref();
            let live = Live::new(args.json);
            Some(opening::latent(args.model.spec(), profile, cache, &live)?)
        }
        false => None,
    };
    let opened = open(&args.state, cache, embedder, latent, args.json)?;
    let recalled = opened.bank.recall(&asked(&args.asked))?;
    if recalled.hits.is_empty() {
        let hint = "store something, or ask for the right to read it";
        return Err(Failure::usage(
            "nothing is remembered that could be told",
            hint,
        ));
    }
    // An engine of its own, of which nothing is kept: what was recalled is all that it reads.
    let live = Live::new(args.json);
    let model = opening::open_whole(&args.model, &live)?;
    let entries: Vec<_> = recalled.hits.iter().map(|hit| hit.entry.clone()).collect();
    let handed_over = model.runtime.tensor_model();
    let handed_over = handed_over.map(|model| hand_over::hold(&opened, model, &entries));
    drop(opened);
    // What nobody here has compared makes an answer provisional; without it, all are exact.
    let borrows = !args.exact && handed_over.as_ref().is_some_and(|(_, n)| *n > 0);
    let view = View::named("answer")
        .context("asked")
        .data_source("recalled")
        .scope(args.scope)
        .policy(if borrows {
            Policy::Eventual
        } else {
            Policy::Exact
        })
        .token_budget(MAX_TOKENS)
        .max_tokens(args.max_tokens);
    let engine = Engine::builder(model.runtime)
        .table("asked")
        .table("recalled")
        .view(view)
        .start()?;
    let updates = engine.subscribe("answer")?;
    let entries = recalled.hits.iter().map(|hit| {
        let entry = &hit.entry;
        let edit = Edit::upsert("recalled", &*entry.key, entry.text.clone());
        let edit = edit.at(entry.updated_at_ms);
        match &entry.title {
            Some(title) => edit.titled(title.clone()),
            None => edit,
        }
    });
    let asked = Edit::upsert("asked", "question", args.asked.question.as_str());
    engine.apply(entries.chain([asked]).collect())?;
    engine.flush()?;
    // The first: a provisional one is healed behind it, which nobody waits for here.
    let mut told = std::iter::from_fn(|| updates.try_recv());
    let answer = told.find_map(|update| match update {
        Update::Answer(answer) if answer.new.is_some() => Some(Ok(answer)),
        Update::Failed { reason } => Some(Err(perennial::Error::Stopped { reason })),
        _ => None,
    });
    let Some(answer) = answer.transpose()? else {
        return Err(Failure::usage("there is no answer", "ask again"));
    };
    let text = match &answer.new {
        Some(Ok(new)) => new.text.clone(),
        Some(Err(reason)) => {
            return Err(Failure::NotAnswered {
                n_failed: 1,
                n_asked: 1,
                reason: reason.clone(),
            });
        }
        None => return Err(Failure::usage("there is no answer", "ask again")),
    };
    let sources = sources(&answer);
    let mut out = io::stdout().lock();
    let written = match args.json {
        true => {
            let entries: Vec<&str> = recalled.hits.iter().map(|hit| &*hit.entry.key).collect();
            let told = json!({
                "event": "answer",
                "question": args.asked.question,
                "text": &*text,
                "sources": sources,
                "entries": entries,
                "exact": answer.is_exact && !answer.is_memoised,
                "n_encoded": answer.work.n_encoded,
                "n_forwarded": answer.work.n_forwarded(),
                "n_from_scratch": answer.work.n_from_scratch,
                "seconds": answer.elapsed.as_secs_f64(),
            });
            writeln!(out, "{told}")
        }
        false => {
            let text = wording::plain(text.trim());
            match sources.is_empty() {
                true => writeln!(out, "{text}"),
                false => writeln!(out, "{text} [{}]", wording::plain(&sources.join(", "))),
            }
        }
    };
    written.map_err(Failure::output)?;
    if borrows && !answer.is_exact && !args.json {
        stderr::line(
            "provisional: it was read in what came by a parcel and was not audited; --exact reads the \
             texts themselves",
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The documents that an answer leans on, each once.
fn sources(answer: &AnswerUpdate) -> Vec<&str> {
    let mut sources: Vec<&str> = Vec::new();
    for source in answer.sub_paragraphs.iter().flat_map(|s| &s.sources) {
        if !sources.contains(&source.document.as_str()) {
            sources.push(source.document.as_str());
        }
    }
    sources
}
