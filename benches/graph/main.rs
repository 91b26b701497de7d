//! Does a graph of what passages say find what vectors do not, and what does a change of it cost?
//!
//! ```console
//! $ cargo bench --bench graph -- --data hotpotqa.jsonl
//! $ cargo bench --bench graph -- --data hotpotqa.jsonl --corpus all
//! $ cargo bench --bench graph -- --data hotpotqa.jsonl --entities model --model smollm2-135m --rows 5
//! ```
//! Questions of two hops with ten passages each, two of them needed. Each question finds passages by the
//! product of its vector with theirs, and along a graph: edges lead from each passage to the names that it has, and
//! back, and walks begin at the passages nearest to the question and at the names that stand in it. The graph, the
//! walks and the first passages are views of an engine, of the SQL in `views.rs`.
//!
//! - *entities*: names are the titles of the passages of the row (`titles`, without a model), or what a model
//!   reads out of each (`model`);
//! - *corpus*: a question looks in the passages of its own row (`own`), or of all rows (`all`);
//! - *recall@k*: the share of needed passages among the first k, and of questions that have all of theirs there;
//! - *edits*: passages are deleted one after the other; then all is held against an engine that never had them.

mod passages;
mod views;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use perennial::ask::Embed;
use perennial::local_model::embedding_only;
use perennial::model::embedding::Embedder;
use perennial::model::locator::{Locator, ModelSpec, OnStderr, Progress, Settings};
use perennial::sql::Session;
use perennial::{Engine, LocalModel, Runtime};

use passages::{Corpus, Found};
use views::Graph;

type Error = Box<dyn std::error::Error>;

/// What a graph finds.
#[derive(Parser)]
#[command(name = "graph")]
struct Options {
    /// Questions with their passages, as JSON lines.
    #[arg(long)]
    data: PathBuf,
    /// Which names passages have.
    #[arg(long, value_enum, default_value_t = Entities::Titles)]
    entities: Entities,
    /// The model that reads names, with `--entities model`.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// Where a question looks.
    #[arg(long, value_enum, default_value_t = Within::Own)]
    corpus: Within,
    /// Questions, the first of the file.
    #[arg(long)]
    rows: Option<usize>,
    /// Passages at which walks begin, the nearest to the question.
    #[arg(long, default_value_t = 5)]
    seeds: usize,
    /// The share of a walk that goes on.
    #[arg(long, default_value_t = 0.5)]
    damping: f64,
    /// Passages that are deleted.
    #[arg(long, default_value_t = 10)]
    edits: usize,
    /// Threads that embed.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

/// Which names passages have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Entities {
    /// Titles of passages that stand in them.
    Titles,
    /// What a model reads out of them.
    Model,
}

/// Where a question looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Within {
    /// In the passages of its row.
    Own,
    /// In those of all rows.
    All,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("graph: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    let corpus = Corpus::read(&options.data, options.rows, options.corpus == Within::Own)?;
    let locator = Locator::new(Settings::from_env()?);
    let mut progress = OnStderr::default();
    let spec = ModelSpec::parse("all-minilm-l6-v2")?;
    let located = locator.locate(&spec, &mut progress)?;
    let embedder = Embedder::open(&located.path, options.threads)?;
    let nearest = corpus.nearest(&embedder as &dyn Embed)?;

    println!(
        "{} questions, {} passages, in {}; names: {}",
        corpus.questions.len(),
        corpus.passages.len(),
        match options.corpus {
            Within::Own => "the passages of its row each",
            Within::All => "all passages",
        },
        match options.entities {
            Entities::Titles => "titles".to_owned(),
            Entities::Model => format!("read by {}", options.model),
        }
    );
    println!("\n| by | recall@2 | recall@5 | all needed in 2 | in 5 |");
    println!("| --- | --- | --- | --- | --- |");
    let by_vector: Vec<Found> = nearest.iter().map(|near| near.first(5)).collect();
    println!("| vectors | {} |", corpus.scored(&by_vector));

    let graph = Graph {
        corpus: &corpus,
        nearest: &nearest,
        n_seeds: options.seeds,
        damping: options.damping,
        reads_names: options.entities == Entities::Model,
    };
    let runtime = || runtime(options);
    let begin = Instant::now();
    let mut session = started(runtime()?)?;
    graph.declare(&mut session, &[])?;
    let mut found = graph.found(&mut session)?;
    let building = begin.elapsed();
    println!("| graph | {} |", corpus.scored(&found));

    let gone = corpus.some_passages(options.edits);
    let (mut times, mut n_others) = (Vec::new(), 0);
    for passage in &gone {
        let begin = Instant::now();
        graph.delete(&mut session, *passage)?;
        let now = graph.found(&mut session)?;
        times.push(begin.elapsed());
        n_others += found.iter().zip(&now).filter(|(a, b)| a != b).count();
        found = now;
    }
    let begin = Instant::now();
    let mut anew = started(runtime()?)?;
    graph.declare(&mut anew, &gone)?;
    let expected = graph.found(&mut anew)?;
    let rebuilding = begin.elapsed();
    if found != expected {
        return Err(
            "after the deletions other passages are found than by an engine that never had them"
                .into(),
        );
    }
    println!("\n{}", told(building, &mut times, rebuilding, n_others));
    Ok(())
}

/// What building and edits took.
fn told(
    building: Duration,
    times: &mut [Duration],
    rebuilding: Duration,
    n_others: usize,
) -> String {
    let mut text = format!("Building all: {:.1} s.", building.as_secs_f64());
    times.sort();
    if let (Some(median), Some(longest)) = (times.get(times.len() / 2), times.last()) {
        text += &format!(
            " {} passages deleted: {:.0} ms until the result is told, median, {:.0} at most; {:.1} questions \
             each found others; what stands then is what an engine without them has, which took {:.1} s.",
            times.len(),
            median.as_secs_f64() * 1e3,
            longest.as_secs_f64() * 1e3,
            n_others as f64 / times.len() as f64,
            rebuilding.as_secs_f64(),
        );
    }
    text
}

/// What an engine computes with.
fn runtime(options: &Options) -> Result<Runtime, Error> {
    match options.entities {
        Entities::Model => Ok(LocalModel::open(&options.model)?.runtime()),
        Entities::Titles => {
            let on_stderr = || Box::new(OnStderr::default()) as Box<dyn Progress>;
            Ok(embedding_only(
                Locator::new(Settings::from_env()?),
                on_stderr,
            ))
        }
    }
}

fn started(runtime: Runtime) -> Result<Session, Error> {
    Ok(Session::new(Engine::builder(runtime).start()?, "graph"))
}
