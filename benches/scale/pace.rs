//! Many views: what an epoch of one source costs, whether a slow view keeps a fast one waiting, and
//! whether a large edit keeps a small one waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use perennial::ask::scripted::{SLOW_WORD, Scripted, ScriptedEmbedder};
use perennial::engine::Edit;
use perennial::{Delivery, Engine, Runtime, View};

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

/// What a call takes where edits overtake.
const CALL: Duration = Duration::from_millis(20);
/// Calls at a time.
const CALLS_AT_A_TIME: usize = 4;
/// Small edits behind a large one, where not all of that is waited for.
const SMALL_EDITS: usize = 100;

/// An edit of one context behind one that touches all of them, until it is answered.
pub(super) fn overtaking(options: &Options) -> Result<(), Error> {
    let n_contexts = options.contexts;
    println!(
        "An edit that touches {n_contexts} contexts, {CALLS_AT_A_TIME} calls of {} ms at a time; then \
         one context is edited at a time, each until it is answered:\n",
        CALL.as_millis()
    );
    println!("| delivery | small edits | median / p99 / most | most, in calls' time |");
    println!("| --- | ---: | ---: | ---: |");
    for (delivery, n_edits) in [(Delivery::Each, SMALL_EDITS), (Delivery::Epoch, 1)] {
        let (model, embedder) = (Scripted::new().taking(CALL), ScriptedEmbedder::default());
        let runtime = Runtime::scripted(Arc::new(model), Arc::new(embedder));
        let view = View::named("answers").context("questions");
        let view = view.data_source("docs").deliver(delivery);
        let engine = Engine::builder(runtime.calling_at_a_time(CALLS_AT_A_TIME))
            .workers(options.workers)
            .table("docs")
            .table("questions")
            .view(view)
            .start()?;
        let updates = engine.subscribe("answers")?;
        let mut answers = updates.answers();
        let mut edits = vec![Edit::upsert("docs", "d", "This is version 0.")];
        let contexts = 0..n_contexts;
        edits.extend(contexts.map(|i| Edit::upsert("questions", i.to_string(), "version")));
        engine.apply(edits)?;
        if delivery == Delivery::Each {
            // The large edit is under way.
            answers.next();
        } else {
            std::thread::sleep(10 * CALL);
        }
        let mut times = Vec::new();
        for edit in 0..n_edits {
            let (key, question) = (n_contexts / 2 + edit, format!("is {edit}"));
            let begin = Instant::now();
            engine.upsert("questions", &key.to_string(), &question)?;
            if !answers.any(|answer| *answer.question == *question) {
                return Err("the engine has stopped".into());
            }
            times.push(begin.elapsed());
        }
        let most = times.iter().max().copied().unwrap_or_default();
        let in_calls = most.as_secs_f64() / CALL.as_secs_f64();
        let times = spread(&times);
        println!("| {delivery} | {n_edits} | {times} | {in_calls:.1} |");
    }
    println!();
    Ok(())
}
