//! What does rounding do to next-token distributions?
//!
//! The decoder multiplies quantized weights with rows of sixteen-bit integers, llama.cpp with rows
//! of eight-bit ones. Both are held against the same decoder over the same weights read out as
//! f32: KL(f32 || engine) after every token of a prompt, and whether the likeliest next token is
//! the same. All three keep keys and values in f16.

use std::fs;
use std::path::Path;

use perennial::model::arithmetic::{Arithmetic, KernelOptions};
use perennial::model::cancel::Cancel;
use perennial::model::decoder::{Decoder, Logits, Rows};
use perennial::model::divergence::{kl, log_softmax};
use perennial::model::layout::Layout;
use perennial::model::weights::{Checkpoint, Dequantized};
use serde_json::json;

use crate::compare::Answerer;
use crate::options::Options;
use crate::reference::run_script;
use crate::rig::{Error, question};

/// Rows of a set, unless told.
const ROWS: usize = 4;

/// How far an engine's distributions are from those in f32.
#[derive(Clone, Default)]
struct Distance {
    n: usize,
    sum: f64,
    highest: f64,
    n_same: usize,
}

impl Distance {
    fn add(&mut self, reference: &[f32], logits: &[f32]) {
        let kl = kl(&log_softmax(reference), &log_softmax(logits)).max(0.0);
        self.n += 1;
        self.sum += kl;
        self.highest = self.highest.max(kl);
        self.n_same += usize::from(likeliest(reference) == likeliest(logits));
    }

    fn print(&self, model: &str, set: &str, engine: &str) {
        println!(
            "| {model} | {set} | {engine} | {} | {:.1e} | {:.1e} | {:.1}% |",
            self.n,
            self.sum / self.n as f64,
            self.highest,
            100.0 * self.n_same as f64 / self.n as f64
        );
    }
}

fn likeliest(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
}

/// Prints the table for all models and sets.
pub fn run(options: &Options) -> Result<(), Error> {
    println!("| model | set | engine | tokens | KL, mean | KL, highest | same likeliest token |");
    println!("| --- | --- | --- | ---: | ---: | ---: | ---: |");
    for spec in &options.models {
        let answerer = Answerer::open(spec, options)?;
        let checkpoint = Checkpoint::open(answerer.path())?;
        let config = checkpoint.config().clone();
        let weights = Dequantized::of(&checkpoint, &config);
        let load = |arithmetic: Arithmetic| {
            let kernels = KernelOptions {
                arithmetic,
                ..KernelOptions::default()
            };
            let config = config.clone();
            Decoder::load_with(
                kernels,
                config,
                &checkpoint,
                options.threads,
                &mut |_, _| {},
            )
        };
        let ours: Vec<Decoder> = Arithmetic::ALL
            .into_iter()
            .map(load)
            .collect::<Result<_, _>>()?;
        let in_f32 = Decoder::load(config.clone(), &weights, options.threads, &mut |_, _| {})?;
        drop(weights);
        for data in &options.data {
            let set = data.file_stem().unwrap_or_default().to_string_lossy();
            let questions = question::read(data, Some(options.limit.unwrap_or(ROWS)))?;
            let mut of_ours = vec![Distance::default(); ours.len()];
            let mut theirs = Distance::default();
            for (n, question) in questions.iter().enumerate() {
                eprint!("\r{spec}, {set}: {} of {}", n + 1, questions.len());
                let mut prompt = answerer.prompt(question)?;
                prompt.truncate(options.tokens.get());
                let reference = logits(&in_f32, &prompt)?;
                let n_vocab = reference.len() / prompt.len();
                for (decoder, distance) in ours.iter().zip(&mut of_ours) {
                    let got = logits(decoder, &prompt)?;
                    for (a, b) in reference.chunks(n_vocab).zip(got.chunks(n_vocab)) {
                        distance.add(a, b);
                    }
                }
                if let Some(python) = &options.peer_python {
                    let got = of_peer(options, python, answerer.path(), &prompt)?;
                    if got.len() != reference.len() {
                        return Err("llama.cpp's vocabulary has another size".into());
                    }
                    for (a, b) in reference.chunks(n_vocab).zip(got.chunks(n_vocab)) {
                        theirs.add(a, b);
                    }
                }
            }
            eprintln!();
            if of_ours.iter().all(|distance| distance.n == 0) {
                return Err(format!("{}: no rows", data.display()).into());
            }
            for (decoder, distance) in ours.iter().zip(&of_ours) {
                let engine = format!("Perennial, {}", decoder.arithmetic());
                distance.print(answerer.name(), &set, &engine);
            }
            if theirs.n > 0 {
                theirs.print(answerer.name(), &set, "llama.cpp");
            }
        }
    }
    Ok(())
}

/// Logits after every token, `[n_tokens, n_vocab]`.
fn logits(decoder: &Decoder, tokens: &[u32]) -> Result<Vec<f32>, Error> {
    let mut tail = decoder.new_tail(0);
    let rows = Rows {
        layout: &Layout::new(),
        pending: &[],
        tail: &mut tail,
        tokens,
        logits: Logits::From(0),
        mass: false,
    };
    let mut output = decoder.forward(&mut [rows], &Cancel::new())?;
    Ok(output.remove(0).logits)
}

/// The same by llama.cpp.
fn of_peer(
    options: &Options,
    python: &Path,
    model: &Path,
    tokens: &[u32],
) -> Result<Vec<f32>, Error> {
    fs::create_dir_all(&options.keep)?;
    let (ids, floats) = (
        options.keep.join("ids.json"),
        options.keep.join("logits.f32"),
    );
    fs::write(&ids, json!(tokens).to_string())?;
    run_script(python, "logits.py", |command| {
        command.arg("--model").arg(model);
        command.arg("--ids").arg(&ids);
        command.arg("--output").arg(&floats);
        command.args(["--threads", &options.threads.to_string()]);
    })?;
    let bytes = fs::read(&floats)?;
    fs::remove_file(&floats)?;
    let floats = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
    Ok(floats.collect())
}
