//! `perennial memory`: what is stored, recalled, shared and taken back from a terminal.
//!
//! A state folder holds one memory: a table of what was stored, one of what was set, and the relations
//! of a [`Bank`]; beside them stands what came by parcels. Each command opens it, does one thing, waits until that is there for good, and ends.

mod answer;
mod args;
mod calibrate;
mod hand_over;
mod lines;
mod received;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use perennial::ask::LatentReader;
use perennial::connectors::timestamp;
use perennial::memory::{
    Bank, Entry, ForgetBy, Hit, LATENT_SCALE, Memory, MemoryError, NewEntry, Recall, Retain,
    WORDS_SCALE,
};
use perennial::rows::{Column, Schema, Type};
use perennial::{Edit, Engine};
use serde_json::json;

pub(crate) use args::MemoryArgs;
use args::{
    AskedArgs, ForgetArgs, GrantArgs, ListArgs, MemoryCommand, Place, RecallArgs, RetainArgs,
    StatsArgs, StoreArgs,
};
use received::ReceivedParcels;

use super::args::EmbedderArgs;
use super::failure::Failure;
use super::live::Live;
use super::{opening, stderr, wording};

/// Name of the memory.
const MEMORY: &str = "memory";
/// The table of what was stored.
const TURNS: &str = "memory_turns";
/// The table of what was set.
const SETTINGS: &str = "memory_settings";
/// The setting of what is retained.
const RETAIN: &str = "retain";
/// Lines that are stored together.
const BATCH: usize = 1000;

/// Runs the command.
pub(crate) fn run(args: &MemoryArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        MemoryCommand::Store(args) => store(args),
        MemoryCommand::Recall(args) => recall(args),
        MemoryCommand::Answer(args) => answer::answer(args),
        MemoryCommand::List(args) => list(args),
        MemoryCommand::Forget(args) => forget(args),
        MemoryCommand::Export(args) => hand_over::export(args),
        MemoryCommand::Import(args) => hand_over::import(args),
        MemoryCommand::Grant(args) => grant(args, true),
        MemoryCommand::Revoke(args) => grant(args, false),
        MemoryCommand::Retain(args) => retain(args),
        MemoryCommand::Stats(args) => stats(args),
        MemoryCommand::Calibrate(args) => calibrate::run(args),
    }
}

/// The memory of a state folder, opened.
struct Opened {
    bank: Bank,
    retain: Option<Retain>,
    /// What came by parcels.
    received: ReceivedParcels,
}

/// Opens a state folder with what was stored and set. No language model is opened; the one that embeds is
/// when it is needed.
fn open_tables(
    state: &Path,
    cache: Option<&Path>,
    embedder: &EmbedderArgs,
    latent: Option<Arc<LatentReader>>,
    is_quiet: bool,
) -> Result<Engine, Failure> {
    let text = |name: &str| Column::new(name, Type::Text);
    let turns = [
        text("key"),
        text("text"),
        text("title"),
        Column::new("updated_at", Type::Timestamp),
        Column::new("supersedes", Type::Json),
        text("namespace"),
        text("session"),
        text("writer"),
        Column::new("pinned", Type::Boolean),
    ];
    let live = Live::new(is_quiet);
    let mut runtime = opening::with_embedder(opening::embedding(cache, &live)?, embedder, &live)?;
    if let Some(latent) = latent {
        runtime = runtime.recalling_by(latent);
    }
    let builder = Engine::builder(runtime)
        .state(state)
        .history(0)
        .table_of(TURNS, Schema::new(turns))
        .table_of(SETTINGS, Schema::new([text("key"), text("text")]));
    let engine = received::declare(builder).start()?;
    engine.flush()?;
    Ok(engine)
}

/// Opens the memory of a state folder.
fn open(
    state: &Path,
    cache: Option<&Path>,
    embedder: &EmbedderArgs,
    latent: Option<Arc<LatentReader>>,
    is_quiet: bool,
) -> Result<Opened, Failure> {
    let engine = open_tables(state, cache, embedder, latent, is_quiet)?;
    let retain = retained(&engine)?;
    let mut memory = Memory::named(MEMORY)
        .from(TURNS)
        .namespace("namespace")
        .session("session")
        .writer("writer")
        .pinned("pinned");
    if let Some(retain) = retain {
        memory = memory.retain(retain);
    }
    let bank = Bank::create(&engine, memory)?;
    bank.flush()?;
    let received = ReceivedParcels::of(&engine, state, hand_over::now_ms())?;
    // A text that was replaced since, or a parcel that was given up.
    tell(&received.sweep()?);
    Ok(Opened {
        bank,
        retain,
        received,
    })
}

/// Says what should be gone and is not.
fn tell(remains: &[String]) {
    for place in remains {
        stderr::line(&format!("something is left: {}", wording::plain(place)));
    }
}

fn open_place(place: &Place) -> Result<Opened, Failure> {
    open_with(place, None)
}

fn open_with(place: &Place, latent: Option<Arc<LatentReader>>) -> Result<Opened, Failure> {
    open(
        &place.state,
        place.cache.as_deref(),
        &place.embedder,
        latent,
        place.json,
    )
}

/// Opens a state folder that is there: to look for what was stored makes none.
fn open_known(place: &Place) -> Result<Opened, Failure> {
    let cache = place.cache.as_deref();
    open_known_at(&place.state, cache, &place.embedder, place.json)
}

fn open_known_at(
    state: &Path,
    cache: Option<&Path>,
    embedder: &EmbedderArgs,
    is_quiet: bool,
) -> Result<Opened, Failure> {
    expect_known(state)?;
    open(state, cache, embedder, None, is_quiet)
}

fn expect_known(state: &Path) -> Result<(), Failure> {
    match state.is_dir() {
        true => Ok(()),
        false => Err(Failure::usage(
            format!("{}: there is no such folder", state.display()),
            "name the one in which it was stored; perennial memory store makes one",
        )),
    }
}

/// What a state folder says is retained.
fn retained(engine: &Engine) -> Result<Option<Retain>, Failure> {
    let settings = engine.snapshot(SETTINGS)?;
    let rows = settings.rows.iter();
    let mut rows = rows.filter(|(row, _)| row.first().and_then(|key| key.as_text()).is_some());
    let set = rows.find(|(row, _)| row[0].as_text().is_some_and(|key| &**key == RETAIN));
    let text = set.and_then(|(row, _)| row.get(1)?.as_text().cloned());
    text.map(|text| {
        let damaged = |expected| {
            let what = format!("the folder says to retain `{text}`: {expected}");
            Failure::usage(
                what,
                "set it anew: perennial memory retain --state FOLDER all",
            )
        };
        text.parse().map_err(damaged)
    })
    .transpose()
}

fn store(args: &StoreArgs) -> Result<ExitCode, Failure> {
    let is_input = args.texts.iter().any(|text| text == "-");
    if is_input && args.texts.len() > 1 {
        let hint = "give texts, or `-` alone";
        return Err(Failure::usage("`-` reads all there is", hint));
    }
    if args.key.is_some() && (is_input || args.texts.len() > 1) {
        let hint = "store one text, or leave --key out";
        return Err(Failure::usage("--key is of one text", hint));
    }
    let mut of_all = NewEntry::new("").pinned(args.pin);
    if let Some(key) = &args.key {
        of_all = of_all.key(key);
    }
    if let Some(namespace) = &args.namespace {
        of_all = of_all.namespace(namespace);
    }
    if let Some(session) = &args.session {
        of_all = of_all.session(session);
    }
    if let Some(writer) = &args.writer {
        of_all = of_all.writer(writer);
    }
    of_all = of_all.superseding(args.supersedes.iter().cloned());
    let opened = open_place(&args.place)?;
    let mut out = io::stdout().lock();
    let mut n_refused = 0;
    let mut waiting: Vec<(usize, NewEntry)> = Vec::new();
    if is_input {
        let input = io::stdin().lock();
        let mut read = |number, entry: Result<NewEntry, String>| -> Result<(), Failure> {
            match entry {
                Ok(entry) => waiting.push((number, entry)),
                Err(reason) => {
                    n_refused += 1;
                    refused(&mut out, args.place.json, number, &reason)?;
                }
            }
            if waiting.len() >= BATCH {
                let batch = std::mem::take(&mut waiting);
                n_refused += store_each(&opened.bank, batch, &mut out, args.place.json)?;
            }
            Ok(())
        };
        let mut failed = None;
        lines::each(input, &of_all, |number, entry| {
            read(number, entry).map_err(|failure| {
                failed = Some(failure);
                io::Error::other("a line could not be stored")
            })
        })
        .map_err(|error| match failed.take() {
            Some(failure) => failure,
            None => Failure::io("read standard input")(error),
        })?;
        n_refused += store_each(&opened.bank, waiting, &mut out, args.place.json)?;
    } else {
        // All or none: whoever types them sees at once what is wrong.
        let entries = args.texts.iter().map(|text| of_all.clone().text(text));
        let keys = opened.bank.store_all(entries)?;
        opened.bank.flush()?;
        for key in keys {
            stored(&mut out, args.place.json, &key)?;
        }
    }
    Ok(match n_refused {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Stores entries, each by itself. Returns how many were refused.
fn store_each(
    bank: &Bank,
    entries: Vec<(usize, NewEntry)>,
    out: &mut impl Write,
    is_json: bool,
) -> Result<usize, Failure> {
    let mut n_refused = 0;
    let mut keys = Vec::new();
    for (number, entry) in entries {
        match bank.store(entry) {
            Ok(key) => keys.push(key),
            Err(MemoryError::Engine(error)) => return Err(error.into()),
            Err(reason) => {
                n_refused += 1;
                refused(out, is_json, number, &reason.to_string())?;
            }
        }
    }
    // What is told as stored is there for good.
    bank.flush()?;
    for key in keys {
        stored(out, is_json, &key)?;
    }
    Ok(n_refused)
}

fn stored(out: &mut impl Write, is_json: bool, key: &str) -> Result<(), Failure> {
    match is_json {
        true => writeln!(out, "{}", json!({"event": "stored", "key": key})),
        false => writeln!(out, "{}", wording::plain(key)),
    }
    .map_err(Failure::output)
}

fn refused(out: &mut impl Write, is_json: bool, line: usize, reason: &str) -> Result<(), Failure> {
    if is_json {
        let told = json!({"event": "refused", "line": line, "reason": reason});
        return writeln!(out, "{told}").map_err(Failure::output);
    }
    let reason = wording::plain(reason);
    stderr::line(&format!("line {line} is refused: {reason}"));
    Ok(())
}

/// What is asked, as a memory takes it.
fn asked(args: &AskedArgs) -> Recall {
    let mut asked = Recall::new(&args.question).best(args.best).by(args.by);
    if let Some(reader) = &args.seen.reader {
        asked = asked.reader(reader);
    }
    if let Some(namespace) = &args.seen.namespace {
        asked = asked.namespace(namespace);
    }
    match args.fold {
        Some(cosine) => asked.folding(cosine),
        None => asked,
    }
}

fn recall(args: &RecallArgs) -> Result<ExitCode, Failure> {
    let (asked_for, place) = (&args.asked, &args.place);
    expect_known(&place.state)?;
    let latent = match asked_for.by.is_latent() {
        true => {
            let (cache, live) = (place.cache.as_deref(), Live::new(place.json));
            let profile = asked_for.profile.as_deref();
            Some(opening::latent(&args.model, profile, cache, &live)?)
        }
        false => None,
    };
    let opened = open_with(place, latent)?;
    let recalled = opened.bank.recall(&asked(asked_for))?;
    let mut out = io::stdout().lock();
    if recalled.hits.is_empty() && !args.place.json {
        stderr::line("nothing is remembered that could be told");
    }
    for (rank, hit) in (1..).zip(&recalled.hits) {
        let written = match args.place.json {
            true => {
                let hit = json!({
                    "event": "recalled",
                    "rank": rank,
                    "score": hit.score,
                    "similarity": hit.similarity,
                    "words": hit.words,
                    "latent": hit.latent,
                    "entry": hit.entry,
                });
                writeln!(out, "{hit}")
            }
            false => print_hit(&mut out, rank, hit, args.explain),
        };
        written.map_err(Failure::output)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print_hit(out: &mut impl Write, rank: usize, hit: &Hit, explain: bool) -> io::Result<()> {
    writeln!(out, "{rank}. {:.3}  {}", hit.score, about(&hit.entry))?;
    if explain {
        writeln!(
            out,
            "   similarity {:.3} + {WORDS_SCALE} x words {:.3}{}",
            hit.similarity,
            hit.words,
            hit.latent.map_or_else(String::new, |latent| format!(
                " + {LATENT_SCALE} x latent {latent:.3}"
            ))
        )?;
    }
    print_text(out, &hit.entry)
}

/// Where an entry comes from, in a line.
fn about(entry: &Entry) -> String {
    let parts = [
        Some(&entry.namespace),
        entry.session.as_ref(),
        entry.writer.as_ref(),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .flatten()
        .map(|part| wording::plain(part).into_owned())
        .collect();
    let pinned = if entry.is_pinned { " (pinned)" } else { "" };
    let also = match entry.sources.len() {
        0 | 1 => String::new(),
        n => format!(", said {n} times"),
    };
    format!(
        "[{}] {}, {}{also}{pinned}",
        parts.join(" · "),
        wording::plain(&entry.key),
        timestamp::text(entry.updated_at_ms)
    )
}

fn print_entry(out: &mut impl Write, entry: &Entry, provenance: Option<&str>) -> io::Result<()> {
    writeln!(out, "{}", about(entry))?;
    if let Some(provenance) = provenance {
        writeln!(out, "   ({})", wording::plain(provenance))?;
    }
    print_text(out, entry)
}

fn print_text(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    for line in wording::plain(entry.text.trim_end()).lines() {
        writeln!(out, "   {line}")?;
    }
    Ok(())
}

fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let opened = open_known(&args.place)?;
    let (reader, namespace) = (args.seen.reader.as_deref(), args.seen.namespace.as_deref());
    let listed = opened.bank.list(reader, namespace)?;
    let told = opened.received.told()?;
    let mut out = io::stdout().lock();
    let is = |wanted: &Option<String>, has: &Option<Arc<str>>| match wanted {
        None => true,
        Some(wanted) => has.as_deref() == Some(wanted.as_str()),
    };
    for entry in listed {
        if !is(&args.session, &entry.session) || !is(&args.writer, &entry.writer) {
            continue;
        }
        let provenance = told.get(&received::id_of(&entry));
        let written = match args.place.json {
            true => {
                let told = json!({"event": "entry", "entry": &*entry, "provenance": provenance});
                writeln!(out, "{told}")
            }
            false => print_entry(&mut out, &entry, provenance.map(String::as_str)),
        };
        written.map_err(Failure::output)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn forget(args: &ForgetArgs) -> Result<ExitCode, Failure> {
    let by = &args.by;
    let by = match (&by.key, &by.session, &by.writer, &by.namespace) {
        (Some(key), ..) => ForgetBy::Key(key.clone()),
        (_, Some(session), ..) => ForgetBy::Session(session.clone()),
        (_, _, Some(writer), _) => ForgetBy::Writer(writer.clone()),
        (.., Some(namespace)) => ForgetBy::Namespace(namespace.clone()),
        (None, None, None, None) => {
            let hint = "--key, --session, --writer or --namespace";
            return Err(Failure::usage("nothing is said to be forgotten", hint));
        }
    };
    let opened = open_known(&args.place)?;
    let mut receipt = opened.bank.forget(&by)?;
    // What came of it by parcels goes with it.
    receipt.remains.extend(opened.received.sweep()?);
    let mut out = io::stdout().lock();
    let written = match args.place.json {
        true => writeln!(out, "{}", json!({"event": "forgotten", "receipt": receipt})),
        false => {
            let (what, of) = by.parts();
            let n = wording::count(receipt.n_records, "record");
            let grants = match receipt.n_grants {
                0 => String::new(),
                n => format!(" and {}", wording::count(n, "grant")),
            };
            writeln!(
                out,
                "{n}{grants} of {what} {} forgotten",
                wording::plain(of)
            )
        }
    };
    written.map_err(Failure::output)?;
    tell(&receipt.remains);
    Ok(match receipt.remains.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn grant(args: &GrantArgs, is_granted: bool) -> Result<ExitCode, Failure> {
    let opened = open_place(&args.place)?;
    let (namespace, reader) = (&args.namespace, &args.reader);
    match is_granted {
        true => opened.bank.grant(namespace, reader)?,
        false => opened.bank.revoke(namespace, reader)?,
    }
    opened.bank.flush()?;
    let mut out = io::stdout().lock();
    let written = match args.place.json {
        true => {
            let event = if is_granted { "granted" } else { "revoked" };
            let told = json!({"event": event, "namespace": namespace, "reader": reader});
            writeln!(out, "{told}")
        }
        false => {
            let may = if is_granted { "may" } else { "may not" };
            let (reader, namespace) = (wording::plain(reader), wording::plain(namespace));
            writeln!(out, "{reader} {may} read {namespace}")
        }
    };
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

fn retain(args: &RetainArgs) -> Result<ExitCode, Failure> {
    let place = &args.place;
    let retain = match args.retain {
        None => open_place(place)?.retain,
        // What was set before need not be read.
        Some(set) => {
            let engine = open_tables(
                &place.state,
                place.cache.as_deref(),
                &place.embedder,
                None,
                place.json,
            )?;
            let edit = match set.0 {
                None => Edit::delete(SETTINGS, RETAIN),
                Some(retain) => Edit::upsert(SETTINGS, RETAIN, retain.to_string()),
            };
            engine.apply(vec![edit])?;
            engine.flush()?;
            set.0
        }
    };
    let text = retain.map_or_else(|| "all".to_owned(), |retain| retain.to_string());
    let mut out = io::stdout().lock();
    let written = match args.place.json {
        true => writeln!(out, "{}", json!({"event": "retained", "retain": text})),
        false => writeln!(out, "{text}"),
    };
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

fn stats(args: &StatsArgs) -> Result<ExitCode, Failure> {
    let opened = open_known(&args.place)?;
    let stats = opened.bank.stats()?;
    let mut out = io::stdout().lock();
    if args.place.json {
        let told = json!({"event": "stats", "stats": stats});
        writeln!(out, "{told}").map_err(Failure::output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = vec![format!(
        "{} stored, {} refused",
        wording::count(stats.n_stored, "record"),
        wording::thousands(stats.n_refused)
    )];
    for (name, of) in &stats.namespaces {
        let readers = match of.readers.is_empty() {
            true => String::new(),
            false => format!("; read by {}", wording::plain(&of.readers.join(", "))),
        };
        lines.push(format!(
            "{}: {} ({} pinned) of {}, {} bytes{readers}",
            wording::plain(name),
            match of.n_entries {
                1 => "1 entry".to_owned(),
                n => format!("{} entries", wording::thousands(n)),
            },
            wording::thousands(of.n_pinned),
            wording::count(of.n_sources, "record"),
            wording::thousands(of.n_bytes)
        ));
    }
    for line in lines {
        writeln!(out, "{line}").map_err(Failure::output)?;
    }
    Ok(ExitCode::SUCCESS)
}
