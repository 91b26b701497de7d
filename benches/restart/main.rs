//! What are fragments on disk worth: after a restart, and where memory is short?
//!
//! A view (`CAUSAL`, by `updated_at`) over passages of about 64 tokens answers one question over
//! a state directory. Three engines then take the same edit, a passage added at the end, each
//! over a copy of that state:
//!
//! - *memory*: the engine that never stopped;
//! - *disk*: one that was started again, with the fragments on disk;
//! - *none*: one that was started again without them.
//!
//! and once more with memory for a quarter of the fragments, where *memory* cannot be. All must
//! give the same tokens. Then every fragment is read from the segments, and the rate is printed
//! beside that of encoding: the break-even is the disk at which both take as long.
//!
//! ```text
//! cargo bench --bench restart -- --model qwen2.5-coder-0.5b --tokens 2048,8192
//! ```

#[path = "../rig/towns.rs"]
mod towns;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use perennial::ask::TensorModel;
use perennial::bank::{ColdTier, FragmentStore};
use perennial::engine::CurrentAnswer;
use perennial::model::locator::{Locator, OnStderr, Progress, Settings, Silent};
use perennial::{Engine, LocalModel, LocalModelOptions, Order, Runtime, Scope, View};

use towns::passage;

type Error = Box<dyn std::error::Error>;

/// Fragments on disk against none.
#[derive(Parser)]
struct Options {
    /// Models: known names, files or folders.
    #[arg(long, value_delimiter = ',', default_values = ["smollm2-135m", "qwen2.5-coder-0.5b"])]
    model: Vec<String>,
    /// Tokens of passages in the context.
    #[arg(long, value_delimiter = ',', default_values = ["2048"])]
    tokens: Vec<usize>,
    /// Threads of a forward pass; 0 for one a core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Given by `cargo bench`.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

const ANSWER_TOKENS: usize = 32;
/// Bytes of fragments that all engines have room for on disk.
const DISK_BYTES: u64 = 16 << 30;
const QUESTION: &str = "Which towns are described?";

fn main() -> Result<(), Error> {
    let options = Options::parse();
    let locator = Locator::new(Settings::from_env()?);
    let mut local = LocalModelOptions::default();
    if options.threads > 0 {
        local.n_threads = options.threads;
    }
    println!(
        "| model | context | memory | fragments | encoded | time to the answer | none / this |"
    );
    println!("| --- | ---: | --- | --- | ---: | ---: | ---: |");
    let mut rates = Vec::new();
    for spec in &options.model {
        let silent = || -> Box<dyn Progress> { Box::new(Silent) };
        let model =
            LocalModel::open_with(spec, &local, &locator, &mut OnStderr::default(), silent)?;
        for n_tokens in &options.tokens {
            rates.push(measure(&model, *n_tokens)?);
        }
    }
    println!();
    rates.iter().for_each(|rate| println!("{rate}"));
    Ok(())
}

/// Documents of a context.
struct Corpus {
    documents: Vec<(String, String)>,
    n_tokens: usize,
}

impl Corpus {
    fn new(model: &TensorModel, n_tokens: usize) -> Result<Self, Error> {
        use perennial::ask::AnswerModel as _;
        let mut corpus = Self {
            documents: Vec::new(),
            n_tokens: 0,
        };
        for i in 0.. {
            let (key, text) = (format!("note {i:04}"), passage(i));
            let n = model.passage_tokens(&key, &text)?.len();
            if corpus.n_tokens + n > n_tokens {
                break;
            }
            corpus.n_tokens += n;
            corpus.documents.push((key, text));
        }
        Ok(corpus)
    }

    fn feed(&self, engine: &mut Engine) -> Result<(), Error> {
        for (at, (key, text)) in (0..).zip(&self.documents) {
            engine.upsert_at("docs", key, text, at)?;
        }
        engine.upsert("questions", "q", QUESTION)?;
        engine.settle()?;
        Ok(())
    }
}

/// An engine over a state directory.
fn start(
    model: &LocalModel,
    state: &Path,
    memory: usize,
    disk: u64,
) -> Result<(Engine, Arc<FragmentStore>), Error> {
    let store = Arc::new(FragmentStore::new(memory));
    let tensor_model = Arc::new(model.tensor_model().without_stop(store.clone()));
    let runtime = Runtime::new(tensor_model, store.clone(), model.embedder().clone(), 1);
    let view = View::named("bench")
        .prompt("Answer from the documents above.")
        .context("questions")
        .data_source("docs")
        .scope(Scope::Causal)
        .order_by(Order::UpdatedAt)
        .token_budget(usize::MAX)
        .max_tokens(ANSWER_TOKENS);
    let engine = Engine::builder(runtime)
        .table("docs")
        .table("questions")
        .view(view)
        .state(state)
        .fragments_on_disk(disk)
        .start()?;
    Ok((engine, store))
}

/// Adds a passage at the end. Returns the refreshed answer, and the time to it.
fn edit(engine: &mut Engine) -> Result<(CurrentAnswer, Duration), Error> {
    let begin = Instant::now();
    engine.upsert_at("docs", "the last", &passage(30_011), i64::MAX)?;
    engine.flush()?;
    let elapsed = begin.elapsed();
    let answers = engine.answers("bench")?;
    let (_, answer) = answers.into_iter().next().ok_or("there is no answer")?;
    Ok((answer, elapsed))
}

/// Prints the rows of a model and size; returns the rates of reading and encoding.
fn measure(model: &LocalModel, n_tokens: usize) -> Result<String, Error> {
    let corpus = Corpus::new(model.tensor_model(), n_tokens)?;
    let shape_bytes = {
        let config = model.tensor_model().decoder().config();
        perennial::model::kv::KvShape::of(config).bytes_per_token()
    };
    let dir = tempfile::tempdir()?;
    let state = dir.path().join("state");
    let (mut running, store) = start(model, &state, 4 << 30, DISK_BYTES)?;
    let begin = Instant::now();
    corpus.feed(&mut running)?;
    let n_encoded = running.answers("bench")?.first().map(|(_, a)| a.work);
    let (n_encoded, encoding) = (n_encoded.unwrap_or_default().n_encoded, begin.elapsed());
    let ids = store.ids();
    drop((running, store));
    // A copy each, so that each takes the edit from the same state.
    let copy = |name: &str| copy(&state, &dir.path().join(name));
    let copies = [copy("memory")?, copy("disk")?, copy("none")?];
    let short = [copy("short disk")?, copy("short none")?];

    let quarter = corpus.n_tokens * shape_bytes / 4;
    let mut rows = Vec::new();
    {
        let (mut engine, _store) = start(model, &copies[0], 4 << 30, DISK_BYTES)?;
        engine.flush()?;
        // The engine that never stopped has everything in memory: so has this one, once read.
        let warm = "one more thing";
        engine.upsert_at("docs", warm, &passage(40_009), i64::MAX)?;
        engine.flush()?;
        engine.delete("docs", warm)?;
        engine.flush()?;
        rows.push(("all", "in memory", edit(&mut engine)?));
    }
    let cases = [
        ("all", "on disk", &copies[1], 4 << 30, DISK_BYTES),
        ("all", "none", &copies[2], 4 << 30, 0),
        ("a quarter", "on disk", &short[0], quarter, DISK_BYTES),
        ("a quarter", "none", &short[1], quarter, 0),
    ];
    for (memory, what, state, store_bytes, disk) in cases {
        let (mut engine, _store) = start(model, state, store_bytes, disk)?;
        engine.flush()?;
        rows.push((memory, what, edit(&mut engine)?));
    }
    let right = rows[0].2.0.answer.clone();
    let name = model.name();
    for (memory, what, (answer, elapsed)) in &rows {
        assert_eq!(answer.answer, right, "exact is exact");
        let none = rows.iter().find(|row| row.0 == *memory && row.1 == "none");
        let none = none.map_or(Duration::ZERO, |row| row.2.1);
        println!(
            "| {name} | {} | {memory} | {what} | {} | {:.2} s | {:.1}x |",
            corpus.n_tokens,
            answer.work.n_encoded,
            elapsed.as_secs_f64(),
            none.as_secs_f64() / elapsed.as_secs_f64().max(1e-9),
        );
    }

    let tier = ColdTier::open(&state.join("fragments"), DISK_BYTES)?;
    let begin = Instant::now();
    let read: Vec<_> = ids.iter().filter_map(|id| tier.get(id)).collect();
    let reading = begin.elapsed().as_secs_f64();
    let n_read: usize = read.iter().map(|(kv, _)| kv.n_tokens()).sum();
    let n_bytes: usize = read.iter().map(|(kv, _)| kv.n_bytes()).sum();
    let encode_rate = n_encoded as f64 / encoding.as_secs_f64();
    Ok(format!(
        "{name}, {} tokens: {} fragments, {:.1} MB ({shape_bytes} bytes a token) read and verified \
         at {:.0} MB/s (from the page cache), {:.0} tokens/s; encoded at {encode_rate:.0} tokens/s \
         (answer included): {:.0}x. Reading pays on a disk of more than {:.1} MB/s.",
        corpus.n_tokens,
        read.len(),
        n_bytes as f64 / 1e6,
        n_bytes as f64 / 1e6 / reading,
        n_read as f64 / reading,
        n_read as f64 / reading / encode_rate,
        encode_rate * shape_bytes as f64 / 1e6,
    ))
}

/// Copies a state directory.
fn copy(from: &Path, to: &Path) -> Result<std::path::PathBuf, Error> {
    for folder in ["", "fragments"] {
        std::fs::create_dir_all(to.join(folder))?;
        for entry in std::fs::read_dir(from.join(folder))? {
            let path = entry?.path();
            if let (true, Some(name)) = (path.is_file(), path.file_name()) {
                std::fs::copy(&path, to.join(folder).join(name))?;
            }
        }
    }
    Ok(to.to_owned())
}
