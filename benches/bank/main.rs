//! What does an answer from KV that stands in a memory cost, and is it the answer of who reads the text?
//!
//! ```console
//! $ cargo bench --bench bank -- --data squad.jsonl
//! $ cargo bench --bench bank -- --data squad.jsonl --entries 40 --questions 60 --best 1 5 --model qwen2.5-coder-0.5b
//! ```
//! Passages of a file of JSON lines (`id, title, text, questions[{question, answers[]}]`) are stored, and each
//! is read once, alone ([`held`]). A question recalls the best k of them, by text, the same for all sides, and they are
//! laid out oldest first, as `perennial memory answer` does it. Then it is answered, by each side in turn:
//!
//! - *re-encode*: the plain prompt, all of it read for this question (`CAUSAL`, nothing is kept);
//! - *text-RAG*: the same, but that the beginning of all prompts is kept, as any prefix cache keeps it;
//! - *KV-RAG*: over the fragments that stand, in each of `--scopes` (of one passage they are all the same);
//! - *KV-RAG, coded*: over what comes back of the fragments in each of `--codings`, which stands in for them as it
//!   does when it came in a parcel. A fragment that is further off than its coding may be is left out and read again.
//!
//! Invariants: one prompt for all; greedy decoding. Before each answer a store holds what its side keeps,
//! and nothing of the question before.

mod held;
mod line;

// Every benchmark needs a part of it.
#[allow(dead_code)]
#[path = "../rig/mod.rs"]
mod rig;
#[allow(dead_code)]
#[path = "../quality/score.rs"]
mod score;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use perennial::Scope;
use perennial::ask::{Before, Tolerance};
use perennial::calibration::set::{Asked, Set};
use perennial::model::kv::coding::Coding;

use held::Held;
use line::Line;
use rig::first_token::{self, quantile};
use rig::question::TitledText;
use rig::remembered::{Remembered, evenly};
use rig::{Error, Rig};

/// Answers from KV that stands.
#[derive(Parser)]
#[command(name = "bank")]
struct Options {
    /// A file of passages with questions.
    #[arg(long)]
    data: PathBuf,
    /// Passages that are stored, evenly from the file.
    #[arg(long, default_value_t = 100)]
    entries: usize,
    /// Questions, evenly from those of the passages.
    #[arg(long, default_value_t = 300)]
    questions: usize,
    /// How many passages are recalled; a table for each.
    #[arg(long, num_args = 1.., default_values_t = [1, 5])]
    best: Vec<usize>,
    /// The model: a name, file or folder.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// Scopes of several passages: boundary:N, independent, causal.
    #[arg(long, value_delimiter = ',', default_values = ["boundary:16", "independent"])]
    scopes: Vec<Scope>,
    /// Codings of the fragments: k8v4, t4, t8, q8, q4.
    #[arg(long, value_delimiter = ',', default_values = ["k8v4", "t4", "t8"])]
    codings: Vec<Coding>,
    /// Limit of answer tokens.
    #[arg(long, default_value_t = 24)]
    max_tokens: usize,
    /// Threads of a forward pass.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

/// Who answers.
struct Side<'a> {
    name: String,
    scope: Scope,
    held: &'a Held,
    /// Among the sides, that of the same fragments as they are, where these were coded.
    uncoded: Option<usize>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bank: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    let set = Set::read(&options.data)?;
    let passages = evenly(&set.passages, options.entries);
    let texts: Vec<TitledText> = passages
        .iter()
        .map(|passage| TitledText {
            title: passage.title.clone(),
            text: passage.text.clone(),
        })
        .collect();
    let asked = passages.iter().zip(0..).flat_map(|(passage, at)| {
        let questions = passage.questions.iter();
        questions.map(move |question| (at, question))
    });
    let asked: Vec<(usize, &Asked)> = asked.collect();
    let asked = evenly(&asked, options.questions);

    let memory = Remembered::new()?;
    memory.store((0..).zip(&texts))?;
    let rig = Rig::open(&options.model, options.threads, options.max_tokens)?;
    let nothing = Held::nothing(&rig);
    let prefix = Held::prefix(&rig)?;
    let begin = Instant::now();
    let whole = Held::fragments(&rig, &texts)?;
    println!(
        "{}: {} passages of {} tokens, each read once, alone: {:.1} s, {:.1} MB\n",
        rig.name,
        texts.len(),
        whole.n_tokens,
        begin.elapsed().as_secs_f64(),
        whole.n_bytes as f64 / 1e6
    );
    let mut coded = Vec::new();
    for coding in &options.codings {
        let held = Held::coded(&rig, &whole, *coding)?;
        eprintln!(
            "{coding}: 1 of {:.2} bytes; {} of {} fragments are further off than they may be",
            whole.n_bytes as f64 / held.n_bytes.max(1) as f64,
            held.n_left_out,
            texts.len()
        );
        coded.push((coding.to_string(), held));
    }
    for best in &options.best {
        let mut sides = vec![
            Side::new("re-encode", Scope::Causal, &nothing, None),
            Side::new("text-RAG", Scope::Causal, &prefix, None),
        ];
        let one_passage = [Scope::Causal];
        let scopes = match best {
            1 => &one_passage[..],
            _ => &options.scopes,
        };
        for scope in scopes {
            let uncoded = sides.len();
            let name = match best {
                1 => "KV-RAG".to_owned(),
                _ => format!("KV-RAG, {scope}"),
            };
            sides.push(Side::new(&name, *scope, &whole, None));
            for (coding, held) in &coded {
                let name = format!("{name}, {coding}");
                sides.push(Side::new(&name, *scope, held, Some(uncoded)));
            }
        }
        measure(&rig, &memory, &texts, &asked, *best, &sides)?;
    }
    Ok(())
}

impl<'a> Side<'a> {
    fn new(name: &str, scope: Scope, held: &'a Held, uncoded: Option<usize>) -> Self {
        Self {
            name: name.to_owned(),
            scope,
            held,
            uncoded,
        }
    }
}

/// Asks every question of every side over the best `best` passages, and prints a table.
fn measure(
    rig: &Rig,
    memory: &Remembered,
    texts: &[TitledText],
    asked: &[(usize, &Asked)],
    best: usize,
    sides: &[Side<'_>],
) -> Result<(), Error> {
    let before = Before::default();
    let mut lines: Vec<Line> = sides.iter().map(|side| Line::new(&side.name)).collect();
    let (mut recalls, mut n_found): (Vec<Duration>, usize) = (Vec::new(), 0);
    for (n, (own, question)) in asked.iter().enumerate() {
        eprint!("\rk = {best}: {} of {}   ", n + 1, asked.len());
        let begin = Instant::now();
        let mut found = memory.best(&question.question, best)?;
        recalls.push(begin.elapsed());
        n_found += usize::from(found.contains(own));
        // Numbers are those of the order in which they were stored.
        found.sort_unstable();
        let recalled: Vec<TitledText> = found.iter().map(|number| texts[*number].clone()).collect();
        let keys: Vec<String> = found.iter().map(usize::to_string).collect();
        let layout = rig.layout_of(&recalled, keys.iter().map(|key| &**key))?;
        let text = format!("Question: {}", question.question);
        let mut answers = Vec::new();
        for side in sides {
            let tolerance = match side.uncoded {
                None => Tolerance::EXACT,
                Some(_) => Tolerance::BORROWED,
            };
            let request = rig.request(&text, &layout, &before, tolerance, side.scope);
            side.held.model.store().sweep();
            answers.push(first_token::answer(&side.held.model, &request)?);
        }
        for ((side, line), answer) in sides.iter().zip(&mut lines).zip(&answers) {
            let uncoded = side.uncoded.map(|at| &answers[at]);
            line.add(&question.answers, answer, &answers[0], uncoded);
        }
    }
    eprintln!();
    println!(
        "k = {best}, {} questions; the passage of the question is among those recalled in {:.1} %, \
         {:.1} ms a recall\n",
        asked.len(),
        100.0 * n_found as f64 / asked.len().max(1) as f64,
        quantile(&recalls, 0.5).as_secs_f64() * 1e3
    );
    // Text-RAG is the second side.
    println!("{}", line::markdown(&lines, &lines[1]));
    Ok(())
}
