//! How fast do documents come in, commits end, and restarts speak?
//!
//! `cargo bench --bench ingest -- [--documents 100000] [--only NAME…]` runs an engine with a
//! scripted model (so that nothing but streams, dataflow and state is timed) over a state
//! directory on this disk:
//!
//! - *lines*, *topic*: that many small documents in a file of JSON lines, or in a topic of an
//!   in-process mock cluster with four partitions, until the first epoch over all of them is
//!   committed and told;
//! - *commits*: one document of 10,000 changed and waited for, again and again;
//! - *restart*: a state of 10,000 documents and 1,000 answers is opened again, until a new
//!   subscriber has every answer; and how often the model was asked.
//!
//! The bytes of the state file and the calls of the model are printed beside the times. One
//! `fsync` of the disk is measured beside the commits, which cannot be faster.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::connectors::{JsonLines, Kafka, Source};
use perennial::{Engine, EngineBuilder, Runtime, Update, View, state};
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

type Error = Box<dyn std::error::Error>;

/// Documents and answers of the state that is opened again.
const RESTART: (usize, usize) = (10_000, 1_000);
/// Changes that are committed one by one.
const N_COMMITS: usize = 300;

/// Ingest, commits and restarts with a scripted model.
#[derive(Parser)]
#[command(name = "ingest")]
struct Options {
    /// Documents that come in.
    #[arg(long, default_value_t = 100_000)]
    documents: usize,
    /// Only these: lines, topic, commits, restart.
    #[arg(long, num_args = 1..)]
    only: Vec<String>,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ingest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    let is_wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|o| o == name);
    let dir = tempfile::tempdir()?;
    println!("| what | documents | time | documents/s | state file | model calls |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    if is_wanted("lines") {
        let path = dir.path().join("docs.jsonl");
        write_lines(&path, options.documents)?;
        let source = JsonLines::open("docs", &path)?;
        let state = dir.path().join("lines");
        ingest("JSON lines", source, options.documents, &state)?;
    }
    if is_wanted("topic") {
        let cluster = MockCluster::new(1)?;
        cluster.create_topic("docs", 4, 1)?;
        write_messages(&cluster.bootstrap_servers(), options.documents)?;
        let source = Kafka::open("docs", cluster.bootstrap_servers(), "docs")?;
        let state = dir.path().join("topic");
        ingest("topic", source, options.documents, &state)?;
    }
    if is_wanted("commits") {
        commits(&dir.path().join("commits"))?;
    }
    if is_wanted("restart") {
        restart(&dir.path().join("restart"))?;
    }
    Ok(())
}

fn document(i: usize) -> String {
    format!("Entry {i} is filed under shelf {} of the store.", i % 97)
}

fn write_lines(path: &Path, n: usize) -> Result<(), Error> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for i in 0..n {
        writeln!(file, "{{\"key\":\"{i}\",\"text\":\"{}\"}}", document(i))?;
    }
    Ok(file.flush()?)
}

fn write_messages(servers: &str, n: usize) -> Result<(), Error> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", servers)
        .set("linger.ms", "20");
    let producer: BaseProducer = config.create()?;
    for i in 0..n {
        let (key, payload) = (i.to_string(), format!("{{\"text\":\"{}\"}}", document(i)));
        let record = BaseRecord::to("docs").key(&key).payload(&payload);
        producer.send(record).map_err(|(error, _)| error)?;
        if i % 10_000 == 0 {
            producer.flush(Duration::from_secs(60))?;
        }
    }
    Ok(producer.flush(Duration::from_secs(60))?)
}

fn view() -> View {
    View::named("answers")
        .prompt("Answer.")
        .context("questions")
        .data_source("docs")
        .token_budget(2000)
}

fn engine(
    state: &Path,
    declare: impl FnOnce(EngineBuilder) -> EngineBuilder,
) -> Result<(Engine, Arc<Scripted>), Error> {
    let model = Arc::new(Scripted::new());
    let runtime = Runtime::scripted(model.clone(), Arc::new(ScriptedEmbedder::default()));
    let builder = Engine::builder(runtime).view(view()).state(state);
    Ok((declare(builder).start()?, model))
}

fn row(what: &str, n: usize, time: Duration, state: &Path, n_calls: usize) -> Result<(), Error> {
    println!(
        "| {what} | {n} | {:.2} s | {:.0} | {:.1} MiB | {n_calls} |",
        time.as_secs_f64(),
        n as f64 / time.as_secs_f64(),
        std::fs::metadata(state.join("state.redb"))?.len() as f64 / f64::from(1 << 20),
    );
    Ok(())
}

/// From nothing until all is committed and told.
fn ingest(what: &str, source: impl Source, n: usize, state: &Path) -> Result<(), Error> {
    let begun = Instant::now();
    let (engine, model) = engine(state, |b| b.source(source).table("questions"))?;
    engine.upsert("questions", "q", "shelf 5")?;
    engine.flush()?;
    let time = begun.elapsed();
    row(what, n, time, state, model.n_calls())
}

/// One change after the other, each waited for.
fn commits(state: &Path) -> Result<(), Error> {
    let (engine, _) = engine(state, |b| b.table("docs").table("questions"))?;
    for i in 0..RESTART.0 {
        engine.upsert_at("docs", &i.to_string(), &document(i), 0)?;
    }
    engine.upsert("questions", "q", "shelf 5")?;
    engine.flush()?;
    let mut times = Vec::new();
    for i in 0..N_COMMITS {
        let begun = Instant::now();
        engine.upsert("docs", &i.to_string(), &format!("Entry {i} is lost."))?;
        engine.flush()?;
        times.push(begun.elapsed());
    }
    let mut synced = std::fs::File::create(state.join("probe"))?;
    let mut syncs = Vec::new();
    for _ in 0..N_COMMITS {
        let begun = Instant::now();
        synced.write_all(&[1; 4096])?;
        synced.sync_data()?;
        syncs.push(begun.elapsed());
    }
    std::fs::remove_file(state.join("probe"))?;
    let at = |times: &mut Vec<Duration>, share: f64| {
        times.sort_unstable();
        let index = (share * (times.len() - 1) as f64).round() as usize;
        times[index].as_secs_f64() * 1e3
    };
    println!(
        "\nOne of {} documents changed, until its epoch is committed and told ({N_COMMITS} times): \
         p50 {:.1} ms, p99 {:.1} ms; one fsync of this disk: p50 {:.1} ms, p99 {:.1} ms.\n",
        RESTART.0,
        at(&mut times, 0.5),
        at(&mut times, 0.99),
        at(&mut syncs, 0.5),
        at(&mut syncs, 0.99),
    );
    Ok(())
}

/// A state that was filled is opened again.
fn restart(state: &Path) -> Result<(), Error> {
    let (n_documents, n_answers) = RESTART;
    let tables = |b: EngineBuilder| b.table("docs").table("questions");
    let (first, _) = engine(state, tables)?;
    for i in 0..n_documents {
        first.upsert_at("docs", &i.to_string(), &document(i), 0)?;
    }
    for i in 0..n_answers {
        let question = format!("shelf {}", i % 97);
        first.upsert("questions", &i.to_string(), &question)?;
    }
    first.flush()?;
    drop(first);
    let begun = Instant::now();
    let (second, model) = engine(state, tables)?;
    let updates = second.subscribe("answers")?;
    let told = std::iter::from_fn(|| updates.try_recv());
    let n_told = told.filter(|u| matches!(u, Update::Answer(_))).count();
    let first_answers = begun.elapsed();
    second.flush()?;
    let whole = begun.elapsed();
    println!(
        "\nA state of {n_documents} documents and {n_answers} answers opened again: {n_told} answers \
         told after {:.2} s, its first epoch complete after {:.2} s, {} model calls; checked: {:?}.",
        first_answers.as_secs_f64(),
        whole.as_secs_f64(),
        model.n_calls(),
        {
            drop(second);
            state::check(state)?
        },
    );
    Ok(())
}
