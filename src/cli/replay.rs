//! `perennial replay`: are the answers to what was recorded the same again?

use std::io::{self, Write as _};
use std::process::ExitCode;

use perennial::recording::{self, Difference, RecordedAnswer, Replay, ReplayedEpoch};
use serde_json::json;

use super::args::{ModelArgs, PriceArgs, ReplayArgs};
use super::failure::Failure;
use super::live::Live;
use super::{opening, stderr, wording};

/// Runs the command.
pub(crate) fn run(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let live = Live::new(args.json);
    let recorded = recording::recorded_with(&args.recording).map_err(perennial::Error::from)?;
    let model = ModelArgs {
        model: args.model.clone().or(recorded.name),
        key_file: None,
        ca_file: None,
        context_window: None,
        leave_one_out: None,
        prices: PriceArgs::default(),
        arithmetic: args.arithmetic,
        // What is replayed are exact answers.
        profile: None,
        threads: args.threads,
        memory: args.memory,
        // The same.
        warm: None,
        cache: args.cache.clone(),
        embedder: args.embedder.clone(),
    };
    let model = opening::open_whole(&model, &live)?;
    let mut replay = Replay::open(&args.recording, model.runtime)?.workers(args.workers);
    if args.anyway {
        replay = replay.with_any_model();
    }
    let mut out = io::stdout().lock();
    let (mut n_epochs, mut n_different) = (0, 0);
    for epoch in replay.by_ref() {
        let epoch = epoch?;
        n_epochs += 1;
        n_different += usize::from(!epoch.differences.is_empty());
        let written = match args.json {
            true => writeln!(out, "{}", object(&epoch)),
            false => print(&mut out, &epoch),
        };
        written
            .and_then(|()| out.flush())
            .map_err(Failure::output)?;
        if args.until.is_some_and(|until| epoch.epoch >= until) {
            break;
        }
    }
    if replay.is_cut() {
        let path = args.recording.display();
        stderr::line(&format!(
            "warning: {path} ends inside an epoch, which was cut off and is left out"
        ));
    }
    if n_epochs == 0 {
        // Nothing was compared, which must not pass for sameness.
        let path = args.recording.display();
        stderr::line(&format!(
            "error: {path} holds no whole epoch: nothing was replayed"
        ));
    }
    Ok(match n_epochs > 0 && n_different == 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn object(epoch: &ReplayedEpoch) -> serde_json::Value {
    let difference = |difference: &Difference| {
        json!({
            "view": difference.view,
            "context": difference.context,
            "recorded": difference.recorded,
            "replayed": difference.replayed,
        })
    };
    json!({
        "epoch": epoch.epoch,
        "at_ms": epoch.at_ms,
        "standing": epoch.is_standing,
        "rows": epoch.n_rows,
        "compared": epoch.n_compared,
        "provisional": epoch.n_provisional,
        "same": epoch.differences.is_empty(),
        "differences": epoch.differences.iter().map(difference).collect::<Vec<_>>(),
    })
}

fn print(out: &mut impl io::Write, epoch: &ReplayedEpoch) -> io::Result<()> {
    let name = match epoch.is_standing {
        true => format!("what stood at epoch {}", epoch.epoch),
        false => format!("epoch {}", epoch.epoch),
    };
    let rows = wording::count(epoch.n_rows, "row");
    let compared = wording::count(epoch.n_compared, "answer");
    let provisional = match epoch.n_provisional {
        0 => String::new(),
        n => format!(", {} recorded as provisional", wording::thousands(n)),
    };
    let n_different = epoch.differences.len();
    let verdict = match n_different {
        0 => "same".to_owned(),
        n => format!("{} different", wording::thousands(n)),
    };
    writeln!(
        out,
        "{name}: {verdict} ({rows} changed, {compared} compared{provisional})"
    )?;
    for difference in &epoch.differences {
        let context = difference.context.to_string();
        writeln!(out, "  {}: {}", difference.view, wording::plain(&context))?;
        let text = |answer: &Option<RecordedAnswer>| match answer {
            None => "no answer".to_owned(),
            Some(answer) => {
                let said = answer.text.as_ref().or(answer.error.as_ref());
                format!(
                    "{:?}, tokens {}",
                    said.map_or("", |s| s.trim_end()),
                    answer.digest
                )
            }
        };
        writeln!(out, "    - {}", text(&difference.recorded))?;
        writeln!(out, "    + {}", text(&difference.replayed))?;
    }
    Ok(())
}
