//! Many views: what an epoch of one source costs, and whether a slow view keeps a fast one waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use perennial::ask::scripted::{SLOW_WORD, Scripted, ScriptedEmbedder};
use perennial::{Engine, Runtime, View};

use super::{Error, Options, spread};

/// Views of each source.
const VIEWS_A_SOURCE: usize = 5;
/// Contexts of each view.
const CONTEXTS_A_VIEW: usize = 4;

/// An engine of so many sources with five views each, every view with contexts of its own.
fn engine(n_sources: usize, model: Scripted) -> Result<(Engine, Arc<Scripted>), Error> {
    let (model, embedder) = (Arc::new(model), Arc::new(ScriptedEmbedder::default()));
    let mut builder = Engine::builder(Runtime::scripted(model.clone(), embedder));
    for source in 0..n_sources {
        builder = builder.table(format!("docs{source}"));
        for view in 0..VIEWS_A_SOURCE {
            let contexts = format!("contexts{source}.{view}");
            builder = builder.table(&contexts).view(
                View::named(format!("view{source}.{view}"))
                    .context(contexts)
                    .data_source(format!("docs{source}")),
            );
        }
    }
    let engine = builder.start()?;
    for source in 0..n_sources {
        engine.upsert(&format!("docs{source}"), "d", "This is version 0.")?;
        for view in 0..VIEWS_A_SOURCE {
            for context in 0..CONTEXTS_A_VIEW {
                let table = format!("contexts{source}.{view}");
                engine.upsert(&table, &context.to_string(), "version")?;
            }
        }
    }
    engine.flush()?;
    Ok((engine, model))
}

/// An epoch of one source, by the number of sources beside it.
pub(super) fn views(options: &Options) -> Result<(), Error> {
    println!("An edit of one source, until its {VIEWS_A_SOURCE} views say so:\n");
    println!("| sources | views | calls an edit | median / p99 / most |");
    println!("| ---: | ---: | ---: | ---: |");
    for n_sources in [1, 5, 20] {
        let (engine, model) = engine(n_sources, Scripted::new())?;
        let n_before = model.n_calls();
        let mut times = Vec::new();
        for edit in 1..=options.changes {
            let begin = Instant::now();
            let text = format!("This is version {edit}.");
            engine.upsert("docs0", "d", &text)?;
            engine.flush()?;
            times.push(begin.elapsed());
        }
        let n_calls = (model.n_calls() - n_before) as f64 / options.changes as f64;
        let n_views = n_sources * VIEWS_A_SOURCE;
        let times = spread(&times);
        println!("| {n_sources} | {n_views} | {n_calls:.1} | {times} |");
    }
    println!();
    Ok(())
}

/// The same edits, of a view alone and of one beside a view whose call goes on all the while.
pub(super) fn pace(options: &Options) -> Result<(), Error> {
    println!("An edit, until the view says so:\n");
    println!("| | median / p99 / most |");
    println!("| --- | ---: |");
    for is_beside in [false, true] {
        let is_held = Arc::new(AtomicBool::new(is_beside));
        let model = Scripted::new().held_while(is_held.clone());
        let embedder = Arc::new(ScriptedEmbedder::default());
        let engine = Engine::builder(Runtime::scripted(Arc::new(model), embedder))
            .table("docs")
            .table("quick")
            .table("slow")
            .view(View::named("fast").context("quick").data_source("docs"))
            .view(View::named("slow_one").context("slow").data_source("docs"))
            .start()?;
        engine.upsert("docs", "d", "This is version 0.")?;
        engine.upsert("quick", "q", "version")?;
        let updates = engine.subscribe("fast")?;
        let mut answers = updates.answers();
        answers.next();
        if is_beside {
            engine.upsert("slow", "s", &format!("version {SLOW_WORD}"))?;
        }
        let mut times = Vec::new();
        for edit in 1..=options.changes {
            let begin = Instant::now();
            engine.upsert("docs", "d", &format!("This is version {edit}."))?;
            answers.next();
            times.push(begin.elapsed());
        }
        let what = match is_beside {
            true => "beside a view whose call goes on",
            false => "alone",
        };
        println!("| {what} | {} |", spread(&times));
        is_held.store(false, Ordering::SeqCst);
    }
    println!();
    Ok(())
}
