//! What does a memory find, how soon, and is what it says the present?
//!
//! ```console
//! $ cargo bench --bench memory -- --data squad.jsonl
//! $ cargo bench --bench memory -- --data squad.jsonl --entries 100 500 1150 --questions 1000 --sweep
//! ```
//! Passages of a file of JSON lines (`id, title, text, questions[{question, answers[]}]`) are stored;
//! no language model is opened. Each question is asked by vectors, by words and by both, and its own
//! passage is looked for among the first. With `--model`, passages are read by it, and each question is
//! asked by its latent keys, and by text and these:
//!
//! ```console
//! $ cargo bench --bench memory -- --data squad.jsonl --model smollm2-135m
//! ```
//!
//! - *recall*: how often it is first, among five, and the mean reciprocal rank among ten; the time of
//!   one recall, the embedding of its question in it;
//! - *edits*: an answer in a passage is replaced by another word, and the question asked again as soon
//!   as the change is visible: how often the first five show the old text of any passage that was
//!   edited (never, or it is stale), and how long it took to be visible;
//! - *sweep* (with `--sweep`): both, under other scales of words. The one in the code is chosen here.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use perennial::LocalModel;
use perennial::local_model::{LocalModelOptions, embedding_only};
use perennial::memory::{Bank, LATENT_SCALE, Memory, NewEntry, Recall, RecallBy};
use perennial::model::locator::{Locator, OnStderr, Progress, Settings};
use perennial::{Engine, Runtime};
use serde::Deserialize;

type Error = Box<dyn std::error::Error>;

/// What a memory finds.
#[derive(Parser)]
#[command(name = "memory")]
struct Options {
    /// A file of passages with questions.
    #[arg(long)]
    data: PathBuf,
    /// Entries that are stored: runs of these sizes, evenly from the file.
    #[arg(long, num_args = 1.., default_values_t = [100, 500, 1150])]
    entries: Vec<usize>,
    /// Questions of each run, evenly from those of its entries.
    #[arg(long, default_value_t = 500)]
    questions: usize,
    /// Edits of the last run.
    #[arg(long, default_value_t = 50)]
    edits: usize,
    /// Other scales of words beside vectors, and of latent scores beside both, over the last run.
    #[arg(long)]
    sweep: bool,
    /// A model of this machine, whose latent keys entries are recalled by, too.
    #[arg(long)]
    model: Option<String>,
    /// Its profile, as `perennial memory calibrate` wrote it, instead of the one that is known.
    #[arg(long)]
    profile: Option<PathBuf>,
    /// Leaves out every passage of which pairs in this file (as `perennial memory calibrate` takes them) hold
    /// the text: what heads were chosen on tells nothing of them.
    #[arg(long)]
    but: Option<PathBuf>,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

/// A passage with its questions.
#[derive(Clone, Deserialize)]
struct Passage {
    id: String,
    title: String,
    text: String,
    questions: Vec<Question>,
}

/// A pair that heads were chosen on.
#[derive(Deserialize)]
struct Pair {
    text: String,
}

#[derive(Clone, Deserialize)]
struct Question {
    question: String,
    answers: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("memory: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    let text = std::fs::read_to_string(&options.data)?;
    let passages = text.lines().map(serde_json::from_str);
    let mut passages: Vec<Passage> = passages.collect::<Result<_, _>>()?;
    if let Some(but) = &options.but {
        let text = std::fs::read_to_string(but)?;
        let left_out = text.lines().map(serde_json::from_str);
        let left_out: Vec<Pair> = left_out.collect::<Result<_, _>>()?;
        passages.retain(|passage| left_out.iter().all(|pair| pair.text != passage.text));
    }
    let runtime = runtime(options)?;
    println!(
        "| entries | by | questions | recall@1 | recall@5 | MRR@10 | ms a recall, median / p95 |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut last = None;
    for n_entries in &options.entries {
        let stored = evenly(&passages, *n_entries);
        let bank = filled(&stored, &runtime)?;
        let asked: Vec<(&str, &str)> = stored
            .iter()
            .flat_map(|passage| {
                let questions = passage.questions.iter();
                questions.map(|asked| (&*passage.id, &*asked.question))
            })
            .collect();
        let asked = evenly(&asked, options.questions);
        let mut all = vec![
            ("vectors", RecallBy::Similarity),
            ("words", RecallBy::Words),
            ("vectors and words", RecallBy::Text),
        ];
        if runtime.latent().is_some() {
            let begin = Instant::now();
            let n_read = bank.read_latent()?;
            let latent = bank.stats()?.latent.unwrap_or_default();
            eprintln!(
                "{n_read} entries read in {:.1} s; {} bytes of keys each",
                begin.elapsed().as_secs_f64(),
                latent.n_bytes / latent.n_texts.max(1)
            );
            all.push(("latent keys", RecallBy::Latent));
            all.push(("all three", RecallBy::Both));
        }
        for (name, by) in all {
            let (mut ranks, mut times) = (Vec::new(), Vec::new());
            for (id, question) in &asked {
                let begin = Instant::now();
                let recalled = bank.recall(&Recall::new(*question).best(10).by(by))?;
                times.push(begin.elapsed());
                ranks.push(recalled.hits.iter().position(|hit| *hit.entry.key == **id));
            }
            let n = stored.len();
            println!(
                "| {n} | {name} | {} | {} | {} |",
                asked.len(),
                score(&ranks),
                spread(&mut times)
            );
        }
        if options.sweep && Some(n_entries) == options.entries.last() {
            sweep(&bank, &asked)?;
            if runtime.latent().is_some() {
                sweep_latent(&bank, &asked)?;
            }
        }
        last = Some((bank, stored));
    }
    match last {
        Some((bank, stored)) => edits(&bank, &stored, options.edits),
        None => Ok(()),
    }
}

/// At most `n` of these, at even distances.
fn evenly<T: Clone>(all: &[T], n: usize) -> Vec<T> {
    let n = n.min(all.len());
    (0..n).map(|i| all[i * all.len() / n].clone()).collect()
}

/// What embeds, and reads where a model is named.
fn runtime(options: &Options) -> Result<Runtime, Error> {
    let on_stderr = || Box::new(OnStderr::default()) as Box<dyn Progress>;
    let locator = Locator::new(Settings::from_env()?);
    let runtime = embedding_only(locator.clone(), on_stderr);
    let Some(model) = &options.model else {
        return Ok(runtime);
    };
    let open = LocalModelOptions {
        latent_profile: options.profile.clone(),
        ..LocalModelOptions::default()
    };
    let mut progress = OnStderr::default();
    let model = LocalModel::open_with(model, &open, &locator, &mut progress, on_stderr)?;
    let latent = model.latent().cloned();
    let latent = latent.ok_or("the heads of this model are not known: name a --profile")?;
    Ok(runtime.recalling_by(latent))
}

/// A memory of these passages.
fn filled(passages: &[Passage], runtime: &Runtime) -> Result<Bank, Error> {
    let engine = Engine::builder(runtime.clone()).table("passages").start()?;
    let bank = Bank::create(&engine, Memory::named("memory").from("passages"))?;
    let begin = Instant::now();
    bank.store_all(
        passages
            .iter()
            .zip(0..)
            .map(|(passage, at)| entry(passage, &passage.text, at)),
    )?;
    bank.flush()?;
    let stats = bank.stats()?;
    let n_entries: usize = stats.namespaces.values().map(|of| of.n_entries).sum();
    eprintln!(
        "{} stored, {n_entries} entries, in {:.1} s; no language model is open",
        stats.n_stored,
        begin.elapsed().as_secs_f64()
    );
    Ok(bank)
}

fn entry(passage: &Passage, text: &str, at: i64) -> NewEntry {
    NewEntry::new(text)
        .key(&passage.id)
        .titled(&passage.title)
        .at(at)
}

/// `recall@1 | recall@5 | MRR@10`
fn score(ranks: &[Option<usize>]) -> String {
    let n = ranks.len().max(1) as f64;
    let within = |most: usize| {
        let found = ranks.iter().flatten().filter(|rank| **rank < most);
        found.count() as f64 / n
    };
    let reciprocal: f64 = ranks
        .iter()
        .flatten()
        .map(|rank| 1.0 / (rank + 1) as f64)
        .sum();
    format!(
        "{:.3} | {:.3} | {:.3}",
        within(1),
        within(5),
        reciprocal / n
    )
}

/// `median / p95`, in milliseconds.
fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let at = |share: f64| {
        let at = (share * times.len().saturating_sub(1) as f64).round() as usize;
        times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    format!("{:.1} / {:.1}", at(0.5), at(0.95))
}

/// What other scales would find, from the scores of all that is found.
fn sweep(bank: &Bank, asked: &[(&str, &str)]) -> Result<(), Error> {
    let mut scored = Vec::new();
    for (id, question) in asked {
        let recalled = bank.recall(&Recall::new(*question).best(1000))?;
        let hits = recalled.hits.iter();
        let hits: Vec<(bool, f64, f64)> = hits
            .map(|hit| (*hit.entry.key == **id, f64::from(hit.similarity), hit.words))
            .collect();
        scored.push(hits);
    }
    println!("\n| scale of words | recall@1 | recall@5 | MRR@10 |\n| --- | --- | --- | --- |");
    let scales = [
        0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0,
    ];
    print_scales(&scales, &scored);
    Ok(())
}

/// By question and hit: whether it is the passage, its score, and what is added to that with a scale.
type Scored = Vec<Vec<(bool, f64, f64)>>;

fn print_scales(scales: &[f64], scored: &Scored) {
    for scale in scales {
        let ranks = scored.iter().map(|hits| {
            let own = hits.iter().find(|(is_own, ..)| *is_own)?;
            let of = |(_, similarity, words): &(bool, f64, f64)| similarity + scale * words;
            let better = hits.iter().filter(|hit| of(hit) > of(own)).count();
            (better < 10).then_some(better)
        });
        let ranks: Vec<Option<usize>> = ranks.collect();
        println!("| {scale} | {} |", score(&ranks));
    }
}

/// What other scales of latent scores would find beside text, among the candidates of text.
fn sweep_latent(bank: &Bank, asked: &[(&str, &str)]) -> Result<(), Error> {
    let mut scored = Vec::new();
    for (id, question) in asked {
        let recalled = bank.recall(&Recall::new(*question).best(64).by(RecallBy::Both))?;
        let hits = recalled.hits.iter().map(|hit| {
            let latent = f64::from(hit.latent.unwrap_or_default());
            (
                *hit.entry.key == **id,
                hit.score - LATENT_SCALE * latent,
                latent,
            )
        });
        scored.push(hits.collect());
    }
    println!(
        "\n| scale of latent scores | recall@1 | recall@5 | MRR@10 |\n| --- | --- | --- | --- |"
    );
    let scales = [0.0, 0.02, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.3, 0.5, 1.0];
    print_scales(&scales, &scored);
    Ok(())
}

/// What is recalled after an answer was replaced.
fn edits(bank: &Bank, passages: &[Passage], n_edits: usize) -> Result<(), Error> {
    let mut times = Vec::new();
    let (mut n_stale, mut n_found, mut n_edited) = (0, 0, 0);
    let mut replaced: Vec<(String, String)> = Vec::new();
    for (passage, number) in evenly(passages, n_edits).iter().zip(0..) {
        let mut answered = passage.questions.iter().filter_map(|asked| {
            let answer = asked.answers.first()?;
            passage
                .text
                .contains(answer.as_str())
                .then_some((asked, answer))
        });
        let Some((asked, answer)) = answered.next() else {
            continue;
        };
        n_edited += 1;
        let text = passage
            .text
            .replace(answer.as_str(), &format!("Quellion{number}"));
        let begin = Instant::now();
        bank.store(entry(passage, &text, 1_000_000 + number))?;
        bank.flush()?;
        times.push(begin.elapsed());
        replaced.push((passage.id.clone(), passage.text.clone()));
        let recalled = bank.recall(&Recall::new(&*asked.question))?;
        let is_stale = recalled.hits.iter().any(|hit| {
            let old =
                |(id, old): &(String, String)| *id == *hit.entry.key && *old == *hit.entry.text;
            replaced.iter().any(old)
        });
        n_stale += usize::from(is_stale);
        n_found += usize::from(recalled.hits.iter().any(|hit| *hit.entry.text == *text));
    }
    println!(
        "\n{n_edited} edits: the old text is shown {n_stale} times, the new one is among five {n_found} \
         times; visible after {} ms (median / p95)",
        spread(&mut times)
    );
    Ok(())
}
