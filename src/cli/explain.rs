//! `perennial explain`: how a watch would be carried out, without loading weights or
//! answering.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;

use perennial::ask::chat::ChatCodec;
use perennial::ask::local::TextCodec;
use perennial::bank::passage;
use perennial::connectors::{Change, Event, Key, Record, Source, start};
use perennial::model::locator::ModelSpec;
use perennial::model::weights::Checkpoint;
use perennial_views::Plan;
use serde_json::{Value, json};

use super::args::WatchArgs;
use super::failure::Failure;
use super::inputs::Inputs;
use super::live::Live;
use super::opening;
use super::wording;

/// Batches of a source that wait to be read.
const CAPACITY: usize = 2;

/// Runs the command.
pub(crate) fn run(args: &WatchArgs) -> Result<ExitCode, Failure> {
    let inputs = Inputs::of(args)?.once();
    let documents = inputs.documents(None)?;
    let live = Live::new(args.json);
    let locator = opening::locator(args.model.cache.as_deref())?;
    let spec = ModelSpec::parse(args.model.or_best().spec())?;
    let located = locator.locate(&spec, &mut *live.bytes())?;
    let checkpoint = Checkpoint::open(&located.path)?;
    let tokenizer = checkpoint.tokenizer()?;
    let template = checkpoint.template(&tokenizer)?;
    let codec = ChatCodec::new(tokenizer, &template)?;
    let n_positions = checkpoint.config().max_positions;
    let declared = opening::view(&args.view);
    let plan = declared.plan(n_positions, codec.prefix().len())?;
    let found = Found::read(documents, &codec, &plan)?;
    let asked = declared.declared_token_budget();
    let written = match args.json {
        true => writeln!(
            io::stdout().lock(),
            "{}",
            object(&located.name, n_positions, (&plan, asked), &found)
        ),
        false => print(&located.name, n_positions, (&plan, asked), &found),
    };
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

/// What the sources hold now.
struct Found {
    n_documents: usize,
    n_rejected: usize,
    n_passages: usize,
    n_tokens: usize,
}

impl Found {
    fn read(documents: Box<dyn Source>, codec: &ChatCodec, plan: &Plan) -> Result<Self, Failure> {
        let running = start(documents, CAPACITY)?;
        let mut records: BTreeMap<Key, Record> = BTreeMap::new();
        let mut n_rejected = 0;
        for event in running.events() {
            match event {
                Event::Batch(batch) => {
                    n_rejected += batch.rejected.len();
                    for change in batch.changes {
                        match change {
                            Change::Upsert(record) => records.insert(record.key.clone(), record),
                            Change::Delete { key, .. } => records.remove(&key),
                        };
                    }
                }
                Event::Failed(error) => return Err(error.into()),
                _ => {}
            }
        }
        let mut found = Self {
            n_documents: records.len(),
            n_rejected,
            n_passages: 0,
            n_tokens: 0,
        };
        for (key, record) in &records {
            let title = record.row.title.as_deref().unwrap_or(key.as_str());
            for text in passage::split(&record.row.text, plan.passage_sizes) {
                found.n_passages += 1;
                found.n_tokens += codec.passage(title, text)?.len();
            }
        }
        Ok(found)
    }
}

impl Found {
    /// Whether not all passages are read for each question.
    fn exceeds(&self, plan: &Plan) -> bool {
        self.n_tokens > plan.token_budget
    }
}

/// `asked` is the budget that was asked for, which the model's window may lower.
fn object(model: &str, n_positions: usize, (plan, asked): (&Plan, usize), found: &Found) -> Value {
    json!({
        "event": "plan",
        "plan": plan.to_string(),
        "model": model,
        "context_window": n_positions,
        "documents": found.n_documents,
        "rejected": found.n_rejected,
        "passages": found.n_passages,
        "tokens": found.n_tokens,
        "budget": plan.token_budget,
        "budget_asked": asked,
        "selects": found.exceeds(plan),
    })
}

fn print(
    model: &str,
    n_positions: usize,
    (plan, asked): (&Plan, usize),
    found: &Found,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let thousands = wording::thousands;
    writeln!(out, "{}", wording::plain(&plan.to_string()))?;
    writeln!(out)?;
    writeln!(
        out,
        "model:     {model}, attends to {} tokens",
        thousands(n_positions)
    )?;
    writeln!(
        out,
        "documents: {}, {}, {} tokens{}",
        thousands(found.n_documents),
        wording::count(found.n_passages, "passage"),
        thousands(found.n_tokens),
        match found.n_rejected {
            0 => String::new(),
            n => format!("; {} left out", wording::count(n, "record")),
        }
    )?;
    let budget = thousands(plan.token_budget);
    match found.exceeds(plan) {
        true => writeln!(
            out,
            "selection: by meaning, of {} the nearest to each question, up to {budget} tokens",
            wording::count(found.n_passages, "passage")
        )?,
        false => writeln!(
            out,
            "selection: none, all passages fit the budget of {budget} tokens"
        )?,
    }
    if plan.token_budget < asked {
        writeln!(
            out,
            "budget:    {budget} tokens, not {}: the model attends to no more",
            thousands(asked)
        )?;
    }
    Ok(())
}
