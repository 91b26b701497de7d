//! What do questions spare that share answers, and which answers are others then?
//!
//! Rows of a set of questions are taken a few at a time: their passages are documents together, and each question
//! is asked besides in other words, so that some pairs ask the same and some do not, over the same passages. The
//! same rows are answered by a view of every question on its own (*apart*) and by one with `SHARE`, for each
//! threshold that is given; then a passage is changed. With `--compose` there is one side more: whatever question
//! the model says that others are made of is kept (`BASES`), so that questions are answered out of the answers to
//! these. Each side runs over an engine and a store of its own.
//!
//! ```console
//! $ cargo bench --bench questions -- --data hotpotqa.jsonl
//! $ cargo bench --bench questions -- --data hotpotqa.jsonl --model qwen2.5-coder-0.5b --words model --rows 12
//! ```

#[allow(dead_code, reason = "some benchmarks print more of a score")]
#[path = "../quality/score.rs"]
mod score;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use perennial::bank::FragmentStore;
use perennial::sql::{Outcome, Script, Session};
use perennial::{Edit, Engine, LocalModel, LocalModelOptions, Runtime};

use score::{Score, agree};
use words::{Asked, Group, Words};

type Error = Box<dyn std::error::Error>;

const STORE_BYTES: usize = 1 << 30;

/// Questions that share answers, and the same ones apart.
#[derive(Debug, Parser)]
struct Options {
    /// Questions with their passages, as JSON lines.
    #[arg(long)]
    data: PathBuf,
    /// The model: a known name, a file or a folder.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// Rows, the first of the file.
    #[arg(long, default_value_t = 24)]
    rows: usize,
    /// Rows whose passages are documents together.
    #[arg(long, default_value_t = 3)]
    together: usize,
    /// How a question is asked in other words: by phrases around it, or as the model puts it.
    #[arg(long, value_enum, default_value_t = Words::Phrases)]
    words: Words,
    /// How often each question is asked in other words.
    #[arg(long, default_value_t = 2)]
    again: usize,
    /// How similar questions are that may be the same.
    #[arg(long, value_delimiter = ',', default_value = "0.95,0.9,0.8")]
    share: Vec<f64>,
    /// Answers besides, at the first threshold, out of the answers to the parts of questions.
    #[arg(long)]
    compose: bool,
    /// Most tokens of an answer.
    #[arg(long, default_value_t = 24)]
    max_tokens: usize,
    /// Threads of a forward pass; 0 for one a core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one side came to over all groups.
#[derive(Default)]
struct Side {
    first: Cost,
    edit: Cost,
    /// By group and key: what each question was answered.
    answers: BTreeMap<(usize, String), String>,
    /// Questions that were answered as another which asks the same, or as one which does not.
    n_shared: usize,
    n_mistaken: usize,
    /// Questions that were answered out of known answers.
    n_composed: usize,
}

/// How questions share answers.
#[derive(Clone, Copy)]
struct Sharing {
    threshold: f64,
    /// Whether the parts of questions are kept.
    composes: bool,
}

impl Sharing {
    fn options(self) -> String {
        let bases = if self.composes { ", BASES = bases" } else { "" };
        format!(", SHARE = {}{bases}", self.threshold)
    }
}

/// What views have come to.
#[derive(Clone, Copy, Default)]
struct Cost {
    n_calls: usize,
    /// Calls that write an answer; the others compare two questions.
    n_answers: usize,
    n_tokens: usize,
    seconds: f64,
}

impl Cost {
    /// What all views of an engine have come to since they were made, after so many seconds.
    fn of(session: &Session, begin: Instant) -> Result<Self, Error> {
        let engine = session.engine();
        engine.flush()?;
        let mut sum = Self {
            seconds: begin.elapsed().as_secs_f64(),
            ..Self::default()
        };
        for relation in engine.relations()? {
            if relation.kind.is_view() {
                let effort = engine.analyze(&relation.name)?.effort(None);
                sum.n_calls += effort.n_calls;
                sum.n_tokens += effort.work.n_forwarded();
                if relation.plan.is_some() {
                    sum.n_answers += effort.n_calls;
                }
            }
        }
        Ok(sum)
    }

    fn add(&mut self, other: Self) {
        self.n_calls += other.n_calls;
        self.n_answers += other.n_answers;
        self.n_tokens += other.n_tokens;
        self.seconds += other.seconds;
    }

    /// Without what came before.
    fn since(self, before: Self) -> Self {
        Self {
            n_calls: self.n_calls - before.n_calls,
            n_answers: self.n_answers - before.n_answers,
            n_tokens: self.n_tokens - before.n_tokens,
            seconds: self.seconds - before.seconds,
        }
    }
}

/// A session over an engine of its own.
fn session(model: &LocalModel, options: &Options) -> Result<Session, Error> {
    let store = Arc::new(FragmentStore::new(STORE_BYTES));
    let fresh = Arc::new(model.tensor_model().with_store(store.clone()));
    let runtime = Runtime::new(
        fresh,
        store,
        model.embedder().clone(),
        options.threads.max(1),
    );
    Ok(Session::new(
        Engine::builder(runtime).start()?,
        model.name(),
    ))
}

/// The rows of a query, as text.
fn rows(session: &Session, text: &str) -> Result<Vec<Vec<String>>, Error> {
    let mut rows = Vec::new();
    session.run(&Script::new("questions", text), |_, outcome| {
        if let Outcome::Rows { rows: all, .. } = outcome {
            let shown = all
                .iter()
                .map(|row| row.iter().map(ToString::to_string).collect());
            rows = shown.collect();
        }
        Ok(())
    })?;
    Ok(rows)
}

/// Answers a group of rows, once with its documents and once more when one of them has changed.
fn answer(
    side: &mut Side,
    (at, group): (usize, &Group),
    sharing: Option<Sharing>,
    model: &LocalModel,
    options: &Options,
) -> Result<(), Error> {
    let session = session(model, options)?;
    let engine = session.engine();
    let sharing_options = sharing.map_or(String::new(), Sharing::options);
    let declared = format!(
        "CREATE TABLE notes (key TEXT, title TEXT, text TEXT);
         CREATE TABLE questions (key TEXT, text TEXT);
         CREATE TABLE bases (key TEXT, text TEXT);
         CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(PROMPT = '{}', CONTEXT = STREAM(questions),
             DATA_SOURCE = STREAM(notes)) WITH (ORDER_BY = 'key', MAX_TOKENS = {}{sharing_options});",
        perennial::calibration::PROMPT.replace('\'', "''"),
        options.max_tokens,
    );
    rows(&session, &declared)?;
    let begin = Instant::now();
    let notes = group.passages.iter().enumerate().map(|(n, passage)| {
        let key = format!("{n:04}");
        Edit::upsert("notes", key, &*passage.text).titled(&*passage.title)
    });
    let questions = group.asked.iter();
    let questions = questions.map(|asked| Edit::upsert("questions", &*asked.key, &*asked.text));
    engine.apply(notes.chain(questions).collect::<Vec<_>>())?;
    if sharing.is_some_and(|sharing| sharing.composes) {
        engine.flush()?;
        let parts = rows(
            &session,
            "SELECT DISTINCT part FROM answers_parts WHERE part IS NOT NULL",
        )?;
        let parts = parts.into_iter().flatten();
        let bases = parts.map(|part| Edit::upsert("bases", &*part, &*part));
        engine.apply(bases.collect::<Vec<_>>())?;
    }
    let first = Cost::of(&session, begin)?;
    side.first.add(first);

    for row in rows(&session, "SELECT key, text FROM answers")? {
        if let [key, text] = &*row {
            side.answers.insert((at, key.clone()), text.clone());
        }
    }
    if sharing.is_some() {
        let composed = "SELECT count(*) FROM answers WHERE out_of = 'known answers'";
        let counted = rows(&session, composed)?.into_iter().flatten().next();
        side.n_composed += counted.map_or(Ok(0), |n| n.parse::<usize>())?;
        let by_text: BTreeMap<&str, &Asked> = group
            .asked
            .iter()
            .map(|asked| (&*asked.text, asked))
            .collect();
        for row in rows(&session, "SELECT text, asked_as FROM answers_asked")? {
            if let [text, asked_as] = &*row
                && text != asked_as
                && let (Some(own), Some(other)) = (by_text.get(&**text), by_text.get(&**asked_as))
            {
                match own.row == other.row {
                    true => side.n_shared += 1,
                    false => side.n_mistaken += 1,
                }
            }
        }
    }

    // What all of them may read changes.
    let begin = Instant::now()
        .checked_sub(Duration::from_secs_f64(first.seconds))
        .unwrap_or(begin);
    if let Some(passage) = group.passages.first() {
        let text = format!("{} This was written down again.", passage.text);
        engine.apply(vec![
            Edit::upsert("notes", "0000", text).titled(&*passage.title),
        ])?;
    }
    side.edit.add(Cost::of(&session, begin)?.since(first));
    Ok(())
}

fn main() -> Result<(), Error> {
    let mut options = Options::parse();
    if options.threads == 0 {
        options.threads = LocalModelOptions::default().n_threads;
    }
    let model = LocalModel::open(&options.model)?;
    let groups = words::groups(&options, &session(&model, &options)?)?;
    let n_asked: usize = groups.iter().map(|group| group.asked.len()).sum();
    println!(
        "{}: {} questions of {} rows, each in {} other words ({:?}), over the passages of {} rows at a time\n",
        model.name(),
        n_asked,
        options.rows,
        options.again,
        options.words,
        options.together,
    );
    println!(
        "| questions | calls | of them answers | tokens | seconds | one passage changes: calls | tokens | seconds | \
         shared | with another that asks otherwise | out of known answers | other answers | F1 | contains |"
    );
    println!("| --- |{}", " ---: |".repeat(13));
    let run = |sharing: Option<Sharing>| -> Result<Side, Error> {
        let mut side = Side::default();
        for (at, group) in groups.iter().enumerate() {
            answer(&mut side, (at, group), sharing, &model, &options)?;
        }
        Ok(side)
    };
    let apart = run(None)?;
    print("apart", &apart, &apart, &groups);
    let of = |composes| {
        let sharing = move |threshold: &f64| Sharing {
            threshold: *threshold,
            composes,
        };
        options.share.iter().map(sharing)
    };
    let n_composing = usize::from(options.compose);
    for sharing in of(false).chain(of(true).take(n_composing)) {
        let shared = run(Some(sharing))?;
        let name = sharing.options();
        print(name.trim_start_matches(", "), &shared, &apart, &groups);
    }
    Ok(())
}

/// A side, held against that of every question on its own.
fn print(name: &str, side: &Side, apart: &Side, groups: &[Group]) {
    let (mut scores, mut n_others) = (Vec::new(), 0);
    for (at, group) in groups.iter().enumerate() {
        for asked in &group.asked {
            let key = (at, asked.key.clone());
            let text = side.answers.get(&key).map_or("", |text| text);
            let other = apart.answers.get(&key).map_or("", |text| text);
            n_others += usize::from(!agree(text, other));
            scores.push(Score::of(text, &asked.gold));
        }
    }
    let mean = Score::mean(&scores);
    println!(
        "| {name} | {} | {} | {} | {:.1} | {} | {} | {:.1} | {} | {} | {} | {n_others} of {} | {:.3} | {:.3} |",
        side.first.n_calls,
        side.first.n_answers,
        side.first.n_tokens,
        side.first.seconds,
        side.edit.n_calls,
        side.edit.n_tokens,
        side.edit.seconds,
        side.n_shared,
        side.n_mistaken,
        side.n_composed,
        scores.len(),
        mean.f1,
        mean.contains,
    );
}
