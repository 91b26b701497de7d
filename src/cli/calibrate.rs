//! `perennial calibrate`: which answers does an edit concern, as far as one decoder can tell?

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use perennial::ask::is_address;
use perennial::ask::pull::{Curve, Profiles};
use perennial::calibration::edit::Kind;
use perennial::calibration::set::Set;
use perennial::calibration::{Calibration, CalibrationOptions, calibrate, cases};
use perennial::local_model::ProfileFrom;
use perennial::{LocalModel, LocalModelOptions};
use serde_json::{Value, json};

use super::args::CalibrateArgs;
use super::failure::Failure;
use super::live::Live;
use super::{opening, wording};

/// Columns of the table.
const HEAD: [&str; 8] = [
    "edit",
    "answers",
    "had to change",
    "AUC",
    "others read at recall .95",
    "at .99",
    "at the bound",
    "missed there",
];

/// Runs the command.
pub(crate) fn run(args: &CalibrateArgs) -> Result<ExitCode, Failure> {
    if is_address(&args.model) {
        return Err(Failure::usage(
            format!("{} is no model of this machine", args.model),
            "calibrate a GGUF file, a folder of safetensors or a name that `perennial models` lists: a model \
             behind HTTP shows no attention, and leaves nothing unread",
        ));
    }
    let live = Live::new(args.json);
    // What is wrong with the files is said before weights are loaded.
    check_out(args.out.as_deref())?;
    let set = Set::read(&args.data)?;
    let options = CalibrationOptions {
        articles: args.articles,
        documents: args.documents,
        questions: args.questions,
        edits: args.edits,
        max_tokens: args.max_tokens,
        bound: args.bound,
        seed: args.seed,
    };
    cases(&set, &options)?;
    let model = open(args, &live)?;
    let mut bar = live.counting("calibrating");
    let calibration = calibrate(
        (model.decoder_name(), &**model.tensor_model()),
        model.embedder().clone(),
        &set,
        &options,
        &mut |done, total| bar.at(done, total),
    );
    bar.clear();
    let calibration = calibration?;
    let profile = &calibration.profile;
    let place = match &args.out {
        Some(path) => {
            profile.write(path).map_err(perennial::Error::from)?;
            path.clone()
        }
        None => {
            let settings = opening::locator(args.cache.as_deref())?;
            let profiles = Profiles::within(settings.settings().profiles());
            profiles.keep(profile).map_err(perennial::Error::from)?
        }
    };
    let written = match args.json {
        true => writeln!(io::stdout().lock(), "{}", object(&calibration, &place)),
        false => print(&calibration, &place, args),
    };
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

/// That what is written last can be written is found out first.
fn check_out(out: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = out else { return Ok(()) };
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let is_folder = folder.is_none_or(Path::is_dir);
    if !is_folder || path.is_dir() || path.file_name().is_none() {
        return Err(Failure::usage(
            format!("--out {} is no file that can be written", path.display()),
            "name a file in a folder that is there",
        ));
    }
    Ok(())
}

fn open(args: &CalibrateArgs, live: &Live) -> Result<LocalModel, Failure> {
    let mut options = LocalModelOptions {
        store_bytes: args.memory.0,
        arithmetic: args.arithmetic,
        // The one that it has may be what is to be replaced.
        profile: ProfileFrom::Default,
        ..LocalModelOptions::default()
    };
    if let Some(n_threads) = args.threads {
        options.n_threads = n_threads;
    }
    opening::local(&args.model, &options, args.cache.as_deref(), live)
}

fn object(of: &Calibration, place: &Path) -> Value {
    let by_kind = of.by_kind.iter().map(|(kind, curve)| (kind.name(), curve));
    let by_kind: serde_json::Map<String, Value> = by_kind
        .map(|(name, curve)| (name.to_owned(), json!(curve)))
        .collect();
    json!({
        "event": "calibrated",
        "profile": of.profile,
        "by_edit": by_kind,
        "by_default": of.by_default,
        "read": of.n_read,
        "path": place.display().to_string(),
    })
}

fn print(of: &Calibration, place: &Path, args: &CalibrateArgs) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let profile = &of.profile;
    let (curve, fitted_on) = (profile.curve(), profile.fitted_on());
    let thousands = wording::thousands;
    writeln!(
        out,
        "{} over {} of {}: {}, {} of which {} had to change",
        profile.decoder().map_or("", |decoder| &decoder.name),
        wording::count(fitted_on.articles, "article"),
        wording::plain(&fitted_on.set),
        wording::count(fitted_on.edits, "edit"),
        wording::count(curve.answers, "answer"),
        thousands(curve.concerned),
    )?;
    writeln!(
        out,
        "each article by a fit to the others; the bound is {} nats a token\n",
        curve.bound
    )?;
    let mut rows = vec![HEAD.map(str::to_owned)];
    let kinds = of.by_kind.iter().filter(|(_, curve)| curve.answers > 0);
    rows.extend(kinds.map(|(kind, curve)| row(Kind::name(*kind), curve)));
    rows.push(row("all", curve));
    rows.push(row("all, by the default", &of.by_default));
    for row in &rows {
        let mut line = format!("{:20}", row[0]);
        for (cell, head) in row.iter().zip(HEAD).skip(1) {
            line.push_str(&format!("  {cell:>width$}", width = head.len()));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(
        out,
        "\nregret of an answer that had to change: {:.3} nats a token on average, of {} that were read",
        profile.regret(),
        thousands(of.n_read)
    )?;
    let place = place.display().to_string();
    writeln!(out, "written to {}", wording::plain(&place))?;
    match &args.out {
        None => writeln!(
            out,
            "bounded views of this model go by it from now on, once they are started again"
        ),
        Some(_) => writeln!(
            out,
            "bounded views go by it with --profile {}",
            wording::plain(&place)
        ),
    }
}

fn row(name: &str, curve: &Curve) -> [String; 8] {
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |x| format!("{x:.3}"));
    [
        name.to_owned(),
        wording::thousands(curve.answers),
        wording::thousands(curve.concerned),
        curve
            .auc
            .map_or_else(|| "-".to_owned(), |auc| format!("{auc:.4}")),
        share(curve.others_read_at_recall_95),
        share(curve.others_read_at_recall_99),
        share(Some(curve.others_read_at_bound)),
        wording::thousands(curve.missed_at_bound),
    ]
}
