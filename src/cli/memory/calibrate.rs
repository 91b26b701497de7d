//! `perennial memory calibrate`: the heads of a model that tell which text a question is about.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use perennial::ask::LatentPair;
use perennial::model::latent::{Calibrated, KeyBits};
use serde::Deserialize;
use serde_json::json;

use super::super::failure::Failure;
use super::super::live::Live;
use super::super::{opening, stderr};
use super::args::CalibrateArgs;

/// Most pairs that are read.
const MAX_PAIRS: usize = 1000;
/// Bytes of a line.
const MAX_LINE: u64 = 1 << 20;

/// A pair as a line says it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    question: String,
    text: String,
    #[serde(default)]
    title: String,
}

pub(super) fn run(args: &CalibrateArgs) -> Result<ExitCode, Failure> {
    let pairs = read(&args.pairs)?;
    let live = Live::new(args.json);
    let model = opening::open_to_read(&args.model, None, args.cache.as_deref(), &live)?;
    let calibrated =
        model
            .tensor_model()
            .calibrate_latent(&pairs, args.heads, KeyBits::default())?;
    let chosen_on = format!(
        "{} questions of {}",
        pairs.len(),
        args.pairs.file_name().unwrap_or_default().display()
    );
    let digest = model.digest();
    let written = calibrated
        .profile
        .written(model.name(), &digest, &chosen_on);
    let written = written.map_err(perennial::model::error::Error::from)?;
    match &args.output {
        Some(path) => {
            std::fs::write(path, written + "\n").map_err(Failure::io("write the profile"))?
        }
        None => writeln!(io::stdout().lock(), "{written}").map_err(Failure::output)?,
    }
    tell(
        args,
        model.name(),
        &digest.to_string(),
        pairs.len(),
        &calibrated,
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Says how well the heads do.
fn tell(
    args: &CalibrateArgs,
    model: &str,
    weights: &str,
    n_pairs: usize,
    calibrated: &Calibrated,
) -> Result<(), Failure> {
    let chosen = calibrated.heads.iter().take(args.heads);
    if args.json {
        let heads = chosen.map(|rank| {
            let head = rank.head;
            json!({"layer": head.layer, "head": head.head, "mrr": rank.mrr})
        });
        let heads: Vec<_> = heads.collect();
        let told = json!({
            "event": "calibrated",
            "model": model,
            "weights": weights,
            "pairs": n_pairs,
            "mrr": calibrated.mrr,
            "heads": heads,
        });
        return writeln!(io::stdout().lock(), "{told}").map_err(Failure::output);
    }
    let heads = chosen.map(|rank| {
        let head = rank.head;
        format!("({}, {}) {:.3}", head.layer, head.head, rank.mrr)
    });
    let heads: Vec<String> = heads.collect();
    stderr::line(&format!(
        "{n_pairs} pairs: mean reciprocal rank {:.3} by {} heads together; alone, as (layer, head): {}",
        calibrated.mrr,
        heads.len(),
        heads.join(", ")
    ));
    Ok(())
}

/// The pairs of a file of JSON lines.
fn read(path: &Path) -> Result<Vec<LatentPair>, Failure> {
    let refused = |what: String| {
        let hint = "each line is {\"question\": \"…\", \"text\": \"…\"}; sixty are enough";
        Failure::usage(format!("{}: {what}", path.display()), hint)
    };
    let file = File::open(path).map_err(Failure::io("open the pairs"))?;
    let mut input = BufReader::new(file);
    let (mut pairs, mut line) = (Vec::new(), Vec::new());
    for number in 1.. {
        line.clear();
        let mut limited = input.by_ref().take(MAX_LINE + 1);
        let n_bytes = limited.read_until(b'\n', &mut line);
        match n_bytes.map_err(Failure::io("read the pairs"))? as u64 {
            0 => break,
            n if n > MAX_LINE => {
                return Err(refused(format!(
                    "line {number} has more than {MAX_LINE} bytes"
                )));
            }
            _ => {}
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let pair: Line = serde_json::from_slice(&line)
            .map_err(|error| refused(format!("line {number}: {error}")))?;
        if pair.question.trim().is_empty() || pair.text.trim().is_empty() {
            return Err(refused(format!("line {number}: question or text is empty")));
        }
        if pairs.len() == MAX_PAIRS {
            return Err(refused(format!("there are more than {MAX_PAIRS} pairs")));
        }
        pairs.push(LatentPair {
            question: pair.question,
            title: pair.title,
            text: pair.text,
        });
    }
    Ok(pairs)
}
