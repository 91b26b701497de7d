//! Which rung serves which edit, at what cost, and how often is the answer that of a run from
//! scratch?
//!
//! Every row of the sets is one view over its passages, kept by four engines with a fragment
//! store each: `EXACT`, `EVENTUAL`, `APPEND` and `BOUNDED`. Random edits go to all of them; another
//! engine with nothing answers from scratch. Compared with that: the answer of `EXACT`, the
//! first and the healed answers of `EVENTUAL` and `APPEND`, and the answer that `BOUNDED` stays with.

use std::collections::BTreeMap;

use perennial::ask::scripted::ScriptedEmbedder;
use perennial::engine::CurrentAnswer;
use perennial::{AuditStats, Engine, Order, Policy, Runtime, View};

use crate::Options;
use crate::rig::question::{Question, TitledText};
use crate::rig::{Error, PROMPT, Rig};
use perennial::calibration::Random;

/// Edits of one row before the next row's turn.
const EDITS_A_ROW: usize = 10;

/// Refreshes of one policy that one rung served.
#[derive(Clone, Copy, Default)]
struct Cell {
    n: usize,
    n_same: usize,
    n_forwarded: usize,
    n_from_scratch: usize,
}

#[derive(Default)]
struct Table {
    /// By policy (and stage) and rung.
    cells: BTreeMap<(&'static str, String), Cell>,
    kinds: BTreeMap<&'static str, usize>,
}

impl Table {
    fn add(&mut self, policy: &'static str, answer: &CurrentAnswer, scratch: &CurrentAnswer) {
        let key = (policy, answer.rung.to_string());
        let cell = self.cells.entry(key).or_default();
        cell.n += 1;
        cell.n_same += usize::from(answer.tokens == scratch.tokens);
        cell.n_forwarded += answer.work.n_forwarded();
        cell.n_from_scratch += scratch.work.n_forwarded();
    }

    fn print(&self, model: &str) {
        println!(
            "| model | policy | rung | refreshes | same as from scratch | forwarded | from scratch \
             | ratio |\n| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |"
        );
        let mut totals: BTreeMap<&str, Cell> = BTreeMap::new();
        for ((policy, rung), cell) in &self.cells {
            print_cell(model, policy, rung, cell);
            let total = totals.entry(policy).or_default();
            total.n += cell.n;
            total.n_same += cell.n_same;
            total.n_forwarded += cell.n_forwarded;
            total.n_from_scratch += cell.n_from_scratch;
        }
        for (policy, total) in totals {
            print_cell(model, policy, "**all**", &total);
        }
        println!();
        let kinds: Vec<String> = self.kinds.iter().map(|(k, n)| format!("{n} {k}")).collect();
        println!("Edits: {}.", kinds.join(", "));
    }
}

fn print_cell(model: &str, policy: &str, rung: &str, cell: &Cell) {
    println!(
        "| {model} | {policy} | {rung} | {} | {:.1}% | {} | {} | {:.1}x |",
        cell.n,
        100.0 * cell.n_same as f64 / cell.n.max(1) as f64,
        cell.n_forwarded,
        cell.n_from_scratch,
        cell.n_from_scratch as f64 / cell.n_forwarded.max(1) as f64,
    );
}

/// The engines of a row and its documents by key.
struct Row {
    exact: Engine,
    eventual: Engine,
    append: Engine,
    bounded: Engine,
    documents: BTreeMap<String, TitledText>,
    question: String,
    next_key: usize,
}

/// Runs the edits and prints the table.
pub fn measure(
    rig: &Rig,
    sets: &[(String, Vec<Question>)],
    options: &Options,
) -> Result<(), Error> {
    let bounded = Policy::bounded(options.drift).ok_or("--drift must be 0.001 nats or more")?;
    let rows: Vec<&Question> = sets.iter().flat_map(|(_, rows)| rows).collect();
    let mut random = Random(options.seed);
    let mut table = Table::default();
    let mut audits: [Vec<AuditStats>; 3] = Default::default();
    let mut n_done = 0;
    while n_done < options.edits {
        let question = rows[(n_done / EDITS_A_ROW) % rows.len()];
        let mut row = Row::start(rig, question, options, bounded)?;
        for _ in 0..EDITS_A_ROW.min(options.edits - n_done) {
            n_done += 1;
            eprint!("\r{}: edit {n_done} of {}", rig.name, options.edits);
            let kind = row.edit(&rows, &mut random)?;
            *table.kinds.entry(kind).or_default() += 1;
            row.compare(rig, options, &mut table)?;
        }
        row.bounded.settle()?;
        audits[0].push(row.eventual.audits(VIEW)?);
        audits[1].push(row.append.audits(VIEW)?);
        audits[2].push(row.bounded.audits(VIEW)?);
    }
    eprintln!();
    table.print(&rig.name);
    for (policy, stats) in ["EVENTUAL", "APPEND", "BOUNDED"].iter().zip(&audits) {
        print_audits(policy, stats);
    }
    Ok(())
}

fn print_audits(policy: &str, stats: &[AuditStats]) {
    let sum = |of: fn(&AuditStats) -> usize| stats.iter().map(of).sum::<usize>();
    let audited: Vec<&AuditStats> = stats.iter().filter(|s| s.n_audited > 0).collect();
    let n = audited.len().max(1) as f32;
    let kl = audited.iter().map(|s| s.mean_regret).sum::<f32>() / n;
    let agreement = audited.iter().map(|s| s.mean_agreement).sum::<f32>() / n;
    println!(
        "{policy}: {} provisional answers, {} healed, {} of them were another, {} of those \
         skipped; {} audited: KL {kl:.4} nats a token, {:.1}% of tokens agree; {} of {} views \
         fell back.",
        sum(|s| s.n_provisional),
        sum(|s| s.n_healed),
        sum(|s| s.n_changed),
        sum(|s| s.n_missed),
        sum(|s| s.n_audited),
        agreement * 100.0,
        sum(|s| usize::from(s.has_fallen_back)),
        stats.len(),
    );
}

const VIEW: &str = "answers";

fn engine(rig: &Rig, options: &Options, policy: Policy) -> Result<Engine, Error> {
    let model = std::sync::Arc::new(rig.with_empty_store());
    let store = model.store().clone();
    let embedder = std::sync::Arc::new(ScriptedEmbedder::default());
    let view = View::named(VIEW)
        .prompt(PROMPT)
        .context("questions")
        .data_source("docs")
        .order_by(Order::Key)
        .policy(policy)
        .token_budget(usize::MAX)
        .max_tokens(options.max_tokens);
    Ok(Engine::builder(Runtime::new(model, store, embedder, 1))
        .table("docs")
        .table("questions")
        .view(view)
        .start()?)
}

fn answer(engine: &Engine) -> Result<CurrentAnswer, Error> {
    let answers = engine.answers(VIEW)?;
    let (_, answer) = answers.into_iter().next().ok_or("there is no answer")?;
    Ok(answer)
}

fn text(document: &TitledText) -> String {
    format!("# {}\n\n{}", document.title, document.text)
}

impl Row {
    fn start(
        rig: &Rig,
        question: &Question,
        options: &Options,
        bounded: Policy,
    ) -> Result<Self, Error> {
        let documents: BTreeMap<String, TitledText> = question
            .passages
            .iter()
            .enumerate()
            .map(|(n, passage)| (format!("{n:03}"), passage.clone()))
            .collect();
        let mut row = Self {
            exact: engine(rig, options, Policy::Exact)?,
            eventual: engine(rig, options, Policy::Eventual)?,
            append: engine(rig, options, Policy::Append)?,
            bounded: engine(rig, options, bounded)?,
            next_key: documents.len(),
            documents,
            question: format!("Question: {}", question.question),
        };
        let (documents, question) = (row.documents.clone(), row.question.clone());
        for engine in row.engines() {
            feed(engine, &documents, &question)?;
        }
        Ok(row)
    }

    fn engines(&mut self) -> [&mut Engine; 4] {
        [
            &mut self.exact,
            &mut self.eventual,
            &mut self.append,
            &mut self.bounded,
        ]
    }

    /// One random edit of the documents, in every engine.
    fn edit(&mut self, rows: &[&Question], random: &mut Random) -> Result<&'static str, Error> {
        let keys: Vec<String> = self.documents.keys().cloned().collect();
        let key = keys[random.below(keys.len())].clone();
        let stranger = rows[random.below(rows.len())];
        let stranger = stranger.passages[random.below(stranger.passages.len())].clone();
        let (kind, key, document) = match random.below(4) {
            0 if keys.len() > 3 => ("deletions", key, None),
            1 => {
                self.next_key += 1;
                // Behind the chosen one, wherever that stands.
                let key = format!("{key}.{:03}", self.next_key);
                ("insertions", key, Some(stranger))
            }
            2 => ("replacements", key, Some(stranger)),
            _ => {
                let mut document = self.documents[&key].clone();
                document.text = corrected(&document.text, &stranger.text, random);
                ("corrections of a word", key, Some(document))
            }
        };
        match &document {
            Some(document) => self.documents.insert(key.clone(), document.clone()),
            None => self.documents.remove(&key),
        };
        for engine in self.engines() {
            match &document {
                Some(document) => engine.upsert_at("docs", &key, &text(document), 0)?,
                None => engine.delete("docs", &key)?,
            }
        }
        Ok(kind)
    }

    fn compare(&mut self, rig: &Rig, options: &Options, table: &mut Table) -> Result<(), Error> {
        let mut scratch = engine(rig, options, Policy::Exact)?;
        feed(&mut scratch, &self.documents, &self.question)?;
        let scratch = answer(&scratch)?;
        self.exact.flush()?;
        table.add("EXACT", &answer(&self.exact)?, &scratch);
        self.bounded.flush()?;
        table.add("BOUNDED", &answer(&self.bounded)?, &scratch);
        self.eventual.flush()?;
        table.add("EVENTUAL, first", &answer(&self.eventual)?, &scratch);
        self.eventual.settle()?;
        table.add("EVENTUAL, healed", &answer(&self.eventual)?, &scratch);
        self.append.flush()?;
        table.add("APPEND, first", &answer(&self.append)?, &scratch);
        self.append.settle()?;
        table.add("APPEND, healed", &answer(&self.append)?, &scratch);
        Ok(())
    }
}

fn feed(
    engine: &mut Engine,
    documents: &BTreeMap<String, TitledText>,
    question: &str,
) -> Result<(), Error> {
    for (key, document) in documents {
        engine.upsert_at("docs", key, &text(document), 0)?;
    }
    engine.upsert_at("questions", "q", question, 0)?;
    engine.flush()?;
    Ok(())
}

/// The text with one of its names or numbers exchanged for one of `other`.
fn corrected(text: &str, other: &str, random: &mut Random) -> String {
    let is_fact = |word: &&str| {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        word.len() > 2 && word.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit())
    };
    let facts = |text: &str| -> Vec<String> {
        let words = text.split_whitespace().filter(is_fact);
        let bare = |w: &str| w.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
        words.map(bare).collect()
    };
    let (old, new) = (facts(text), facts(other));
    if old.is_empty() || new.is_empty() {
        return format!("{text} {other}");
    }
    let (old, new) = (&old[random.below(old.len())], &new[random.below(new.len())]);
    text.replace(old.as_str(), new)
}
