//! What a change costs, beside a run from scratch of the same engine, in one run.
//!
//! A view over passages of about 64 tokens answers one question in 64 tokens. Then one
//! passage at a random place (`--places`) is inserted, corrected or deleted, and the
//! refreshed answer is waited for; after each, a new engine answers the same documents from nothing. Both
//! must give the same tokens. Two questions: `repeat` asks for a sentence that does not
//! depend on the documents, `describe` asks about them; the rung says what became of the
//! old answer, and on `verify` it stood. Under policy `eventual` the time is that to the
//! provisional answer, which is compared with the exact one that heals it.
//!
//! *Of the limit* is how much of the time the machine's measured peaks would need for what was
//! forwarded ([`limit`]); *at the limit* is the ratio of times that they would give.
//!
//! With `--contexts 1,100` one edit touches that many contexts ([`contexts`]).
//!
//! ```text
//! cargo bench --bench refresh -- --model qwen2.5-coder-0.5b --tokens 2048,8192
//! ```

mod contexts;
#[path = "../rig/limit.rs"]
mod limit;
#[path = "../rig/towns.rs"]
mod towns;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use perennial::ask::TensorModel;
use perennial::bank::FragmentStore;
use perennial::engine::CurrentAnswer;
use perennial::model::decoder::Decoder;
use perennial::model::locator::{Locator, OnStderr, Settings};
use perennial::{Engine, LocalModel, LocalModelOptions, Order, Policy, Runtime, Scope, View};

use limit::{Least, Peaks};
use perennial::calibration::Random;
use towns::passage;

/// Measures refreshes against runs from scratch.
#[derive(Parser)]
struct Arguments {
    /// Models: known names, files or folders.
    #[arg(long, value_delimiter = ',', default_values = ["smollm2-135m", "qwen2.5-coder-0.5b"])]
    model: Vec<String>,
    /// Tokens of passages in the context.
    #[arg(long, value_delimiter = ',', default_values = ["2048", "8192"])]
    tokens: Vec<usize>,
    /// Scopes; `causal` is measured in both orders of documents.
    #[arg(long, value_delimiter = ',', default_values = ["independent", "window:128", "causal"])]
    scope: Vec<Scope>,
    /// Policies: `exact`, `eventual`, `bounded:DRIFT`.
    #[arg(long, value_delimiter = ',', default_values = ["exact"])]
    policy: Vec<Policy>,
    /// Instead of all this: one edit over so many contexts, each number a row.
    #[arg(long, value_delimiter = ',')]
    contexts: Vec<usize>,
    /// Orders of documents in which `causal` is measured.
    #[arg(long, value_delimiter = ',', default_values = ["updated_at", "key"])]
    order: Vec<Order>,
    /// Questions that are asked.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["repeat", "describe"])]
    question: Vec<Question>,
    /// Kinds of edits, one after the other.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["insert", "correct", "delete"])]
    edit: Vec<Edit>,
    /// Edits of each kind, at different places.
    #[arg(long, default_value_t = 1)]
    edits: usize,
    /// Which documents are edited.
    #[arg(long, value_enum, default_value_t = Places::Uniform)]
    places: Places,
    /// Threads of a forward pass; 0 for one a core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Seed of the places of the edits.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

const ANSWER_TOKENS: usize = 64;
/// Positions kept for prefix, question and answer.
const OUTSIDE_PASSAGES: usize = 700;
const STORE_BYTES: usize = 1 << 30;

const REPEAT: (&str, &str) = (
    "Ignore the documents. Repeat the following sentence word for word, again and again.",
    "The quick brown fox jumps over the lazy dog near the quiet river bank.",
);
const DESCRIBE: (&str, &str) = (
    "Answer from the documents above.",
    "Which towns are described, and what is special about each of them?",
);

/// What is asked.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Question {
    /// For a sentence, again and again.
    Repeat,
    /// About the documents.
    Describe,
}

impl Question {
    /// The view's prompt, and the question.
    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Repeat => REPEAT,
            Self::Describe => DESCRIBE,
        }
    }
}

/// Which documents are edited.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Places {
    /// Any.
    Uniform,
    /// One of the eighth that was written last, as is usual.
    Recent,
}

impl Places {
    fn draw(self, random: &mut Random, n: usize) -> usize {
        match self {
            Self::Uniform => random.below(n),
            Self::Recent => n - 1 - random.below(n.div_ceil(8)),
        }
    }
}

/// What is done to one document.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Edit {
    /// A new one.
    Insert,
    /// Another text.
    Correct,
    /// It goes.
    Delete,
}

struct Measured {
    answer: CurrentAnswer,
    wall: Duration,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let _ = arguments.bench;
    let locator = Locator::new(Settings::from_env()?);
    let options = LocalModelOptions {
        n_threads: match arguments.threads {
            0 => LocalModelOptions::default().n_threads,
            n => n,
        },
        store_bytes: STORE_BYTES,
        ..LocalModelOptions::default()
    };
    if arguments.contexts.is_empty() {
        println!(
            "| model | context | scope, order | edit | question | rung | answer | forwarded | from scratch | ratio | time | of the limit | from scratch | of the limit | ratio | at the limit |"
        );
        println!(
            "| --- | ---: | --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
        );
    }
    let peaks = match arguments.contexts.is_empty() {
        true => Some(Peaks::measure(options.n_threads)),
        false => None,
    };
    if let Some(peaks) = &peaks {
        eprintln!("peaks of {} threads: {peaks}", options.n_threads);
    }
    for spec in &arguments.model {
        let silent = || -> Box<dyn perennial::model::locator::Progress> {
            Box::new(perennial::model::locator::Silent)
        };
        let mut progress = OnStderr::default();
        let model = LocalModel::open_with(spec, &options, &locator, &mut progress, silent)?;
        for n_tokens in &arguments.tokens {
            match &peaks {
                Some(peaks) => measure_model(&model, *n_tokens, peaks, &arguments)?,
                None => contexts::measure(&model, *n_tokens, &arguments)?,
            }
        }
    }
    Ok(())
}

fn measure_model(
    model: &LocalModel,
    n_tokens: usize,
    peaks: &Peaks,
    arguments: &Arguments,
) -> Result<(), Box<dyn std::error::Error>> {
    let n_positions = model.tensor_model().decoder().config().max_positions;
    let n_tokens = n_tokens.min(n_positions.saturating_sub(OUTSIDE_PASSAGES));
    for scope in &arguments.scope {
        let orders: &[Order] = match scope {
            Scope::Causal => &arguments.order,
            _ => &[Order::Key],
        };
        for order in orders {
            for policy in &arguments.policy {
                let declared = Declared {
                    scope: *scope,
                    order: *order,
                    policy: *policy,
                };
                for question in &arguments.question {
                    let corpus = Corpus::new(model.tensor_model(), n_tokens);
                    measure((model, peaks), declared, *question, corpus, arguments)?;
                }
            }
        }
    }
    Ok(())
}

/// What the view is.
#[derive(Clone, Copy)]
struct Declared {
    scope: Scope,
    order: Order,
    policy: Policy,
}

/// Feeds the edits one after the other to one engine.
fn measure(
    (model, peaks): (&LocalModel, &Peaks),
    declared: Declared,
    question: Question,
    mut corpus: Corpus,
    arguments: &Arguments,
) -> Result<(), Box<dyn std::error::Error>> {
    let label = format!("{question:?}").to_lowercase();
    let question = question.texts();
    let mut engine = start(model, declared, question)?;
    corpus.feed(&mut engine)?;
    ask(&mut engine, question)?;
    let mut random = Random(arguments.seed);
    for edit in arguments.edit.repeat(arguments.edits) {
        let begin = Instant::now();
        let place = arguments.places.draw(&mut random, corpus.documents.len());
        corpus.edit(&mut engine, edit, place)?;
        engine.flush()?;
        let refreshed = Measured {
            answer: only_answer(&engine)?,
            wall: begin.elapsed(),
        };
        engine.settle()?;
        let healed = only_answer(&engine)?.answer;

        let exact = Declared {
            policy: Policy::Exact,
            ..declared
        };
        let mut fresh = start(model, exact, question)?;
        let begin = Instant::now();
        corpus.feed(&mut fresh)?;
        ask(&mut fresh, question)?;
        let scratch = Measured {
            answer: only_answer(&fresh)?,
            wall: begin.elapsed(),
        };
        assert_eq!(healed, scratch.answer.answer, "exact is exact");
        let answer = match (refreshed.answer.drift, refreshed.answer.answer == healed) {
            (None, _) => "exact",
            (Some(_), true) => "provisional, the same",
            (Some(_), false) => "provisional, other",
        };
        print_row(
            &format!(
                "| {} | {} | {} by {} | {} | {label} | {} | {answer} |",
                model.name(),
                corpus.n_tokens(),
                declared.scope,
                declared.order,
                format!("{edit:?}").to_lowercase(),
                refreshed.answer.rung,
            ),
            [&refreshed, &scratch],
            |of| {
                // What a skip reads is not in its work by parts.
                if matches!(declared.policy, Policy::Bounded { .. }) {
                    return None;
                }
                let decoder = model.tensor_model().decoder();
                let least = least(decoder, declared, corpus.n_tokens(), &of.answer);
                Some(least.seconds(peaks))
            },
        );
    }
    Ok(())
}

/// The least that an answer took over a context of `n_tokens`, given what was forwarded for it.
fn least(decoder: &Decoder, declared: Declared, n_tokens: usize, answer: &CurrentAnswer) -> Least {
    let work = &answer.work;
    // What is encoded stands last, unless an edit in the middle left what is behind it.
    let is_last = declared.policy == Policy::Exact || declared.order == Order::UpdatedAt;
    let n_before = match is_last {
        true => n_tokens.saturating_sub(work.n_encoded),
        false => 0,
    };
    let encoded = match declared.scope {
        _ if work.n_encoded == 0 => Least::default(),
        Scope::Causal => Least::of_pass(decoder, n_before, work.n_encoded, 0),
        _ => Least::of_passages(decoder, work.n_encoded),
    };
    let n_checked = work.n_prompt + work.n_draft;
    let checked = Least::of_pass(decoder, n_tokens, n_checked, work.n_draft + 1);
    let decoded = (0..work.n_decoded)
        .map(|i| Least::of_pass(decoder, n_tokens + n_checked + i, 1, 1))
        .fold(Least::default(), Least::and);
    encoded.and(checked).and(decoded)
}

/// `at_best` says how many seconds the machine's peaks would need.
fn print_row(
    what: &str,
    [refreshed, scratch]: [&Measured; 2],
    at_best: impl Fn(&Measured) -> Option<f64>,
) {
    let (few, many) = (
        refreshed.answer.work.n_forwarded(),
        scratch.answer.work.n_forwarded(),
    );
    let (short, long) = (refreshed.wall.as_secs_f64(), scratch.wall.as_secs_f64());
    let [short_at_best, long_at_best] = [refreshed, scratch].map(at_best);
    let or_dash = |shown: Option<String>| shown.unwrap_or_else(|| "-".to_owned());
    let share = |least: f64, wall: f64| format!("{:.0}%", 100.0 * least / wall);
    let at_best = short_at_best.zip(long_at_best);
    println!(
        "{what} {few} | {many} | {:.1}x | {short:.2} s | {} | {long:.2} s | {} | {:.1}x | {} |",
        many as f64 / few.max(1) as f64,
        or_dash(short_at_best.map(|least| share(least, short))),
        or_dash(long_at_best.map(|least| share(least, long))),
        long / short.max(1e-9),
        or_dash(at_best.map(|(short, long)| format!("{:.1}x", long / short))),
    );
}

/// An engine over the model with an empty fragment store.
fn start(
    model: &LocalModel,
    declared: Declared,
    question: (&str, &str),
) -> Result<Engine, Box<dyn std::error::Error>> {
    let store = Arc::new(FragmentStore::new(STORE_BYTES));
    let fresh: Arc<TensorModel> = Arc::new(model.tensor_model().without_stop(store.clone()));
    let runtime = Runtime::new(fresh, store, model.embedder().clone(), 1);
    let view = View::named("bench")
        .prompt(question.0)
        .context("questions")
        .data_source("docs")
        .scope(declared.scope)
        .order_by(declared.order)
        .policy(declared.policy)
        .token_budget(usize::MAX)
        .max_tokens(ANSWER_TOKENS);
    Ok(Engine::builder(runtime)
        .table("docs")
        .table("questions")
        .view(view)
        .start()?)
}

fn ask(engine: &mut Engine, question: (&str, &str)) -> Result<(), perennial::Error> {
    engine.upsert("questions", "q", question.1)?;
    engine.flush()?;
    Ok(())
}

fn only_answer(engine: &Engine) -> Result<CurrentAnswer, Box<dyn std::error::Error>> {
    let answers = engine.answers("bench")?;
    let (_, answer) = answers.into_iter().next().ok_or("there is no answer")?;
    Ok(answer)
}

/// Tokens of a passage by title and text.
type CountTokens = Box<dyn Fn(&str, &str) -> usize>;

/// Passages of about 64 tokens, one a document.
struct Corpus {
    documents: Vec<(String, String, i64)>,
    passage_tokens: CountTokens,
    next_time: i64,
}

impl Corpus {
    fn new(model: &Arc<TensorModel>, n_tokens: usize) -> Self {
        use perennial::ask::AnswerModel;
        let model = model.clone();
        let passage_tokens = Box::new(move |key: &str, text: &str| {
            model
                .passage_tokens(key, text)
                .map_or(0, |tokens| tokens.len())
        });
        let mut corpus = Self {
            documents: Vec::new(),
            passage_tokens,
            next_time: 0,
        };
        let mut total = 0;
        for i in 0.. {
            let (key, text) = (format!("note {i:04}"), passage(i));
            let n = (corpus.passage_tokens)(&key, &text);
            // Room for the passage that will be inserted.
            if total + 2 * n > n_tokens {
                break;
            }
            total += n;
            corpus.documents.push((key, text, corpus.next_time));
            corpus.next_time += 1;
        }
        corpus
    }

    fn n_tokens(&self) -> usize {
        self.documents
            .iter()
            .map(|(key, text, _)| (self.passage_tokens)(key, text))
            .sum()
    }

    fn feed(&self, engine: &mut Engine) -> Result<(), perennial::Error> {
        for (key, text, at) in &self.documents {
            engine.upsert_at("docs", key, text, *at)?;
        }
        Ok(())
    }

    fn edit(
        &mut self,
        engine: &mut Engine,
        edit: Edit,
        place: usize,
    ) -> Result<(), perennial::Error> {
        let at = self.next_time;
        self.next_time += 1;
        match edit {
            Edit::Insert => {
                let (key, text) = (format!("{} b", self.documents[place].0), passage(10_007));
                engine.upsert_at("docs", &key, &text, at)?;
                self.documents.insert(place + 1, (key, text, at));
            }
            Edit::Correct => {
                let (key, text) = (self.documents[place].0.clone(), passage(20_011));
                engine.upsert_at("docs", &key, &text, at)?;
                self.documents[place] = (key, text, at);
            }
            Edit::Delete => {
                let (key, _, _) = self.documents.remove(place);
                engine.delete("docs", &key)?;
            }
        }
        Ok(())
    }
}
