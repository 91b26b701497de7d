//! What does an embedding spare a model that is asked about every row, and at which price?
//!
//! One question about every sentence of a set of passages: asked of the model about each (*full*), and
//! asked where the embedding of a sentence does not decide (*cascade*, a row for each pair of recall and
//! precision that is promised). Each runs over an engine and a store of its own: first over all
//! sentences, then after each of some edits (a sentence comes, another goes, a third says something
//! else). What a cascade accepts is held against what the model accepts of the same sentences.
//!
//! ```console
//! $ cargo bench --bench cascade -- --data squad.jsonl --model smollm2-135m
//! $ cargo bench --bench cascade -- --data squad.jsonl --model qwen2.5-coder-0.5b --rows 4000 --sample 800
//! ```

mod corpus;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use perennial::bank::FragmentStore;
use perennial::sql::{Script, Session};
use perennial::{Edit, Engine, LocalModel, LocalModelOptions, Runtime, Subscription, Update};

use corpus::Rows;
use perennial::calibration::Random;

type Error = Box<dyn std::error::Error>;

const VIEW: &str = "accepted";
const STORE_BYTES: usize = 1 << 30;

/// A question about every row, with and without an embedding that decides.
#[derive(Debug, Parser)]
struct Options {
    /// Passages as JSON lines, each with a `text`.
    #[arg(long)]
    data: PathBuf,
    /// The model: a known name, a file or a folder.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// What is asked about `{text}`.
    #[arg(long, default_value = "Is {text} about a person?")]
    prompt: String,
    /// Sentences that the question is about.
    #[arg(long, default_value_t = 3_000)]
    rows: usize,
    /// Sentences of the sample.
    #[arg(long, default_value_t = 600)]
    sample: usize,
    /// What is promised: recalls and precisions, one pair a row.
    #[arg(long, value_delimiter = ',', default_value = "0.9:0.9,0.8:0.8,0.9:1")]
    promises: Vec<String>,
    /// Edits, of each kind in turn.
    #[arg(long, default_value_t = 30)]
    edits: usize,
    /// Threads of a forward pass; 0 for one a core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Where chance begins.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a run over some rows came to.
#[derive(Clone, Debug, Default)]
struct Cost {
    seconds: f64,
    n_calls: usize,
    n_tokens: usize,
    /// Keys of the rows that are accepted.
    accepted: BTreeSet<String>,
}

/// A view of what is accepted, over rows that change.
struct Asked {
    session: Session,
    updates: Subscription,
    rows: Rows,
    accepted: BTreeSet<String>,
}

impl Asked {
    /// The view of a condition, over these rows, and what its first run came to.
    fn start(
        model: &LocalModel,
        condition: &str,
        rows: Rows,
        options: &Options,
    ) -> Result<(Self, Cost), Error> {
        let store = Arc::new(FragmentStore::new(STORE_BYTES));
        let fresh = Arc::new(model.tensor_model().with_store(store.clone()));
        let n_threads = options.threads.max(1);
        let runtime = Runtime::new(fresh, store, model.embedder().clone(), n_threads);
        let session = Session::new(Engine::builder(runtime).start()?, model.name());
        let declared = format!(
            "CREATE TABLE docs (key TEXT, text TEXT);
             CREATE VIEW {VIEW} AS SELECT key FROM docs WHERE {condition};"
        );
        session.run(&Script::new("cascade", declared), |_, _| Ok(()))?;
        let updates = session.engine().subscribe(VIEW)?;
        let mut asked = Self {
            session,
            updates,
            rows,
            accepted: BTreeSet::new(),
        };
        let edits: Vec<Edit> = asked.rows.standing().map(upsert).collect();
        // All are one change: thresholds are fitted once.
        let cost = asked.change(edits)?;
        Ok((asked, cost))
    }

    /// Makes a change, and waits for what comes of it.
    fn change(&mut self, edits: Vec<Edit>) -> Result<Cost, Error> {
        let begin = Instant::now();
        self.session.engine().apply(edits)?;
        self.session.engine().flush()?;
        let mut cost = Cost {
            seconds: begin.elapsed().as_secs_f64(),
            ..Cost::default()
        };
        while let Some(update) = self.updates.try_recv() {
            match update {
                Update::EpochComplete(summary) => {
                    cost.n_calls += summary.rungs.regenerate;
                    cost.n_tokens += summary.work.n_forwarded();
                }
                Update::Rows(changed) => {
                    for (row, n) in changed.rows {
                        let key = row.first().map(ToString::to_string).unwrap_or_default();
                        match n > 0 {
                            true => self.accepted.insert(key),
                            false => self.accepted.remove(&key),
                        };
                    }
                }
                _ => {}
            }
        }
        cost.accepted.clone_from(&self.accepted);
        Ok(cost)
    }

    /// The edits, each with what came of it.
    fn edited(&mut self, options: &Options) -> Result<Vec<Cost>, Error> {
        let mut random = Random(options.seed);
        let mut costs = Vec::new();
        for n in 0..options.edits {
            let edits = match n % 3 {
                0 => self.rows.come().map(upsert).into_iter().collect(),
                1 => vec![Edit::delete("docs", self.rows.go(&mut random))],
                _ => self
                    .rows
                    .change(&mut random)
                    .map(upsert)
                    .into_iter()
                    .collect(),
            };
            costs.push(self.change(edits)?);
        }
        Ok(costs)
    }
}

fn upsert((key, text): (String, String)) -> Edit {
    Edit::upsert("docs", key, text)
}

fn main() -> Result<(), Error> {
    let mut options = Options::parse();
    if options.threads == 0 {
        options.threads = LocalModelOptions::default().n_threads;
    }
    let model = LocalModel::open(&options.model)?;
    let rows = Rows::read(&options.data, options.rows)?;
    let n_rows = rows.standing().count();
    println!(
        "{}: `{}` about {n_rows} sentences, a sample of {}, {} edits\n",
        model.name(),
        options.prompt,
        options.sample,
        options.edits
    );
    println!(
        "| recall, precision | first run: calls | tokens | seconds | accepted | recall | precision | an edit: calls | \
         most | tokens | ms | least recall | least precision |"
    );
    println!("| --- |{}", " ---: |".repeat(12));
    let prompt = options.prompt.replace('\'', "''");
    let (mut asked, first) = Asked::start(
        &model,
        &format!("sem_filter('{prompt}')"),
        rows.clone(),
        &options,
    )?;
    let full = (first, asked.edited(&options)?);
    drop(asked);
    print("full", &full, &full);
    for promise in &options.promises {
        let Some((recall, precision)) = promise.split_once(':') else {
            return Err(format!("`{promise}`: a promise is RECALL:PRECISION, as 0.9:0.9").into());
        };
        let condition = format!(
            "sem_filter('{prompt}', recall => {recall}, precision => {precision}, sample => {})",
            options.sample
        );
        let (mut asked, first) = Asked::start(&model, &condition, rows.clone(), &options)?;
        let edited = asked.edited(&options)?;
        print(&format!("{recall}, {precision}"), &(first, edited), &full);
    }
    Ok(())
}

/// A run, held against that of the model alone.
fn print(name: &str, (first, edited): &(Cost, Vec<Cost>), full: &(Cost, Vec<Cost>)) {
    let n = edited.len().max(1) as f64;
    let mean = |of: fn(&Cost) -> f64| edited.iter().map(of).sum::<f64>() / n;
    let (recall, precision) = shares(first, &full.0);
    let pairs = edited.iter().zip(&full.1);
    let of_edits: Vec<(f64, f64)> = pairs.map(|(found, wanted)| shares(found, wanted)).collect();
    let least = |of: fn(&(f64, f64)) -> f64| of_edits.iter().map(of).fold(1.0, f64::min);
    println!(
        "| {name} | {} | {} | {:.1} | {} | {recall:.3} | {precision:.3} | {:.1} | {} | {:.0} | {:.0} | {:.3} | {:.3} |",
        first.n_calls,
        first.n_tokens,
        first.seconds,
        first.accepted.len(),
        mean(|cost| cost.n_calls as f64),
        edited.iter().map(|cost| cost.n_calls).max().unwrap_or(0),
        mean(|cost| cost.n_tokens as f64),
        mean(|cost| cost.seconds) * 1e3,
        least(|shares| shares.0),
        least(|shares| shares.1),
    );
}

/// Recall and precision of what was found.
fn shares(found: &Cost, wanted: &Cost) -> (f64, f64) {
    let n_right = found.accepted.intersection(&wanted.accepted).count() as f64;
    let of = |n: usize| if n == 0 { 1.0 } else { n_right / n as f64 };
    (of(wanted.accepted.len()), of(found.accepted.len()))
}
