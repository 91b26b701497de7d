//! What becomes known, in which order, and what is asked when?
//!
//! A scenario is batches of records: first what is known at first, then what corrects it. Three kinds of files
//! give one:
//!
//! | file | a fact | a correction | who says what it replaces |
//! | --- | --- | --- | --- |
//! | question sets with planted facts, JSON lines (`passages`) | a passage that ends in it | the passage with another value of its kind | its key, as of an edited document |
//! | LineageKV's cases, JSON lines (`context_blocks`) | a superseded block | the block that supersedes it | the record, by the key of the other |
//! | conversations, a JSON list (`conversation`) | what the user said up to the outdated fact | what the user said later | nobody |
//!
//! Of conversations only those are taken whose question is about an update, and of these what the user said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use perennial::calibration::Random;
use serde::Deserialize;
use serde_json::Value;

use crate::Options;
use crate::rig::Error;
use crate::rig::question::Question;
use crate::score::Score;

/// Batches, in their order; the first is what is known before any edit.
pub struct Scenario {
    /// What the table calls it.
    pub name: String,
    /// What becomes known, and is asked then.
    pub batches: Vec<Batch>,
}

/// What becomes known together.
#[derive(Default)]
pub struct Batch {
    /// Facts that it corrects.
    pub n_edits: usize,
    /// Records that are said; one replaces what was said under its key.
    pub records: Vec<Record>,
    /// Keys of records that hold no longer, whether a record says so or nobody does.
    pub obsolete: Vec<String>,
    /// What is asked afterwards.
    pub asked: Vec<Asked>,
}

/// Something that is said.
#[derive(Clone)]
pub struct Record {
    /// Under which it is stored.
    pub key: String,
    /// What it is about, or when it was said.
    pub title: String,
    /// What it says.
    pub text: String,
    /// The key of the record that it says to replace, if it says so.
    pub supersedes: Option<String>,
    /// Its place in time.
    pub at: i64,
}

/// A question.
#[derive(Clone)]
pub struct Asked {
    /// The question.
    pub question: String,
    /// Answers that hold now.
    pub right: Vec<String>,
    /// Answers that held, and hold no longer.
    pub outdated: Vec<String>,
}

impl Asked {
    /// Whether an answer says what holds.
    pub fn is_right(&self, answer: &str) -> bool {
        Score::of(answer, &self.right).contains > 0.0
    }

    /// Whether an answer says what held, and not what holds.
    pub fn is_stale(&self, answer: &str) -> bool {
        Score::of(answer, &self.outdated).contains > 0.0 && !self.is_right(answer)
    }
}

impl Scenario {
    /// The scenario of a file.
    ///
    /// # Errors
    /// A file that cannot be read or is of no such kind; one that gives no question.
    pub fn read(path: &Path, options: &Options) -> Result<Self, Error> {
        let at = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| at(&error))?;
        let batches = if text.trim_start().starts_with('[') {
            let all: Vec<Conversation> = serde_json::from_str(&text).map_err(|error| at(&error))?;
            of_conversations(all, options)
        } else if text
            .lines()
            .next()
            .is_some_and(|line| line.contains("context_blocks"))
        {
            of_lineage(lines(&text).map_err(|error| at(&error))?, options)
        } else {
            of_records(lines(&text).map_err(|error| at(&error))?, options)
        };
        if batches.iter().all(|batch| batch.n_edits == 0) {
            return Err(at(&"no fact of it can be edited; see the help of --outdated").into());
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
        Ok(Self {
            name: format!("{}/{stem}", folder.to_string_lossy()),
            batches,
        })
    }

    /// The records that hold after a batch: what a memory would have that was never told anything else.
    pub fn holding(&self, batch: usize) -> Vec<Record> {
        let mut holding: BTreeMap<&str, &Record> = BTreeMap::new();
        for batch in &self.batches[..=batch] {
            for record in &batch.records {
                holding.insert(&record.key, record);
            }
            for key in &batch.obsolete {
                holding.remove(&**key);
            }
        }
        let mut records: Vec<Record> = holding.into_values().cloned().collect();
        records.sort_by_key(|record| record.at);
        records
    }
}

/// At most `n` of these, at even distances.
fn evenly<T: Clone>(all: &[T], n: usize) -> Vec<T> {
    let n = n.min(all.len());
    (0..n).map(|i| all[i * all.len() / n].clone()).collect()
}

fn lines<T: serde::de::DeserializeOwned>(text: &str) -> Result<Vec<T>, serde_json::Error> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(serde_json::from_str).collect()
}

/// A passage that ends in a value.
struct Fact {
    title: String,
    /// The passage up to the value.
    stem: String,
    /// The sentence that the value ends: facts of one kind share it.
    kind: String,
    question: String,
    /// The values that it had, the present one last.
    values: Vec<String>,
}

impl Fact {
    fn record(&self, at: i64) -> Record {
        Record {
            key: self.title.clone(),
            title: self.title.clone(),
            text: format!("{}{}.", self.stem, self.value()),
            supersedes: None,
            at,
        }
    }

    fn value(&self) -> &str {
        self.values.last().map_or("", |value| value)
    }

    fn asked(&self) -> Asked {
        let (now, before) = self
            .values
            .split_last()
            .map_or((None, &[][..]), |(now, b)| (Some(now), b));
        Asked {
            question: self.question.clone(),
            right: now.cloned().into_iter().collect(),
            outdated: before
                .iter()
                .filter(|old| Some(*old) != now)
                .cloned()
                .collect(),
        }
    }
}

/// All passages of rows whose question names the one passage that answers it, and of which each ends in a fact of
/// the same kind: the question is asked of each.
fn facts(rows: &[Question]) -> Vec<Fact> {
    let (mut facts, mut titles) = (Vec::new(), BTreeSet::new());
    for row in rows {
        let Some(answer) = row.answers.first() else {
            continue;
        };
        let end = format!("{answer}.");
        let is_it = |title: &str, text: &str| row.question.contains(title) && text.ends_with(&end);
        let mut own = row.passages.iter().filter(|p| is_it(&p.title, &p.text));
        let Some(own) = own.next() else {
            continue;
        };
        let stem = &own.text[..own.text.len() - end.len()];
        let kind = &stem[stem.rfind(". ").map_or(0, |at| at + 2)..];
        for passage in &row.passages {
            let Some(at) = passage.text.rfind(kind).filter(|_| !kind.is_empty()) else {
                continue;
            };
            let (stem, value) = passage.text.split_at(at + kind.len());
            let value = value.trim_end_matches('.');
            if !value.is_empty() && titles.insert(passage.title.clone()) {
                facts.push(Fact {
                    title: passage.title.clone(),
                    stem: stem.to_owned(),
                    kind: kind.to_owned(),
                    question: row.question.replace(&own.title, &passage.title),
                    values: vec![value.to_owned()],
                });
            }
        }
    }
    facts
}

/// `0..n` in an order of chance.
fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let mut random = Random(seed);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, random.below(i + 1));
    }
    order
}

fn of_records(rows: Vec<Question>, options: &Options) -> Vec<Batch> {
    let all = facts(&rows);
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for fact in &all {
        let of_kind = values.entry(fact.kind.clone()).or_default();
        of_kind.push(fact.value().to_owned());
    }
    values.values_mut().for_each(|of_kind| {
        of_kind.sort();
        of_kind.dedup();
    });
    let n = all.len().min(options.facts);
    let places: Vec<usize> = (0..n).map(|i| i * all.len() / n.max(1)).collect();
    let mut facts: Vec<Fact> = all
        .into_iter()
        .enumerate()
        .filter(|(place, _)| places.binary_search(place).is_ok())
        .map(|(_, fact)| fact)
        .collect();
    let mut clock = 0;
    let mut tick = || {
        clock += 1;
        clock
    };
    let asked: Vec<Asked> = facts.iter().map(Fact::asked).collect();
    let mut batches = vec![Batch {
        records: facts.iter().map(|fact| fact.record(tick())).collect(),
        asked: evenly(&asked, options.questions),
        ..Batch::default()
    }];
    let mut next = shuffled(n, options.seed).into_iter().cycle();
    for (n_before, size) in options.edits.iter().enumerate() {
        let mut batch = Batch::default();
        for place in next.by_ref().take((*size).min(n)) {
            let fact = &mut facts[place];
            let of_kind = &values[&fact.kind];
            let now = of_kind.iter().position(|value| *value == fact.value());
            // A fact that is edited again goes on to a value that it has not had.
            let step = 1 + 2 * n_before;
            let new = of_kind[(now.unwrap_or_default() + step) % of_kind.len()].clone();
            fact.values.push(new);
            batch.n_edits += 1;
            batch.records.push(fact.record(tick()));
            batch.asked.push(fact.asked());
        }
        batch.asked = evenly(&batch.asked, options.questions);
        batches.push(batch);
    }
    batches
}

/// One of LineageKV's cases.
#[derive(Deserialize)]
struct Case {
    context_blocks: Vec<Block>,
    query: String,
    stale_ids: Vec<String>,
    gold_evidence_ids: Vec<String>,
    metadata: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Block {
    id: String,
    timestamp: String,
    text: String,
}

impl Case {
    /// A text of the metadata: of the first of these names that is there.
    fn said(&self, names: [&str; 2]) -> Option<String> {
        let mut found = names
            .iter()
            .filter_map(|name| self.metadata.get(*name)?.as_str());
        found.next().map(str::to_owned)
    }

    fn block(&self, ids: &[String]) -> Option<&Block> {
        self.context_blocks
            .iter()
            .find(|block| ids.contains(&block.id))
    }
}

fn of_lineage(cases: Vec<Case>, options: &Options) -> Vec<Batch> {
    struct Pair {
        stale: Record,
        current: Record,
        asked: Asked,
    }
    let (mut pairs, mut others, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for case in &cases {
        let (stale, current) = (
            case.block(&case.stale_ids),
            case.block(&case.gold_evidence_ids),
        );
        let right = case.said(["target_raw_value", "target_value"]);
        let outdated = case.said(["stale_raw_value", "stale_value"]);
        let (Some(stale), Some(current), Some(right), Some(outdated)) =
            (stale, current, right, outdated)
        else {
            continue;
        };
        if !seen.insert(stale.text.clone()) {
            continue;
        }
        // Codes of options are beside the point here: a fact is asked for, as it is.
        let question = match case.metadata.get("slot").and_then(Value::as_str) {
            Some(slot) => format!("What is the current {slot}?"),
            None => case.query.clone(),
        };
        let n = pairs.len() as i64;
        let record = |block: &Block, at| Record {
            key: format!("{}/{}", pairs.len(), block.id),
            title: block.timestamp.chars().take(10).collect(),
            text: block.text.clone(),
            supersedes: None,
            at,
        };
        for block in &case.context_blocks {
            let is_other =
                !case.stale_ids.contains(&block.id) && !case.gold_evidence_ids.contains(&block.id);
            if is_other && seen.insert(block.text.clone()) {
                others.push(record(block, n));
            }
        }
        let stale = record(stale, n);
        let mut current = record(current, 1_000_000 + n);
        current.supersedes = Some(stale.key.clone());
        let asked = Asked {
            question,
            right: vec![right],
            outdated: vec![outdated],
        };
        pairs.push(Pair {
            stale,
            current,
            asked,
        });
    }
    let before = |pair: &Pair| Asked {
        right: pair.asked.outdated.clone(),
        outdated: Vec::new(),
        ..pair.asked.clone()
    };
    let asked: Vec<Asked> = pairs.iter().map(before).collect();
    others.extend(pairs.iter().map(|pair| pair.stale.clone()));
    let mut batches = vec![Batch {
        records: others,
        asked: evenly(&asked, options.questions),
        ..Batch::default()
    }];
    let mut left = shuffled(pairs.len(), options.seed).into_iter();
    for size in &options.edits {
        let mut batch = Batch::default();
        for place in left.by_ref().take(*size) {
            let pair = &pairs[place];
            batch.n_edits += 1;
            batch.obsolete.push(pair.stale.key.clone());
            batch.records.push(pair.current.clone());
            batch.asked.push(pair.asked.clone());
        }
        batch.asked = evenly(&batch.asked, options.questions);
        if batch.n_edits > 0 {
            batches.push(batch);
        }
    }
    batches
}

/// One of LongMemEval's conversations.
#[derive(Deserialize)]
struct Conversation {
    question_type: String,
    conversation: Vec<Turn>,
    questions: Vec<Update>,
}

#[derive(Deserialize)]
struct Turn {
    role: String,
    content: String,
}

#[derive(Deserialize)]
struct Update {
    question: String,
    answer: Value,
}

fn of_conversations(all: Vec<Conversation>, options: &Options) -> Vec<Batch> {
    let updates = all
        .iter()
        .filter(|of| of.question_type == "knowledge-update");
    let mut batches = vec![Batch::default()];
    let mut left = Vec::new();
    let mut clock = 0;
    for (number, (of, outdated)) in updates.zip(&options.outdated).enumerate() {
        let Some(update) = of.questions.first() else {
            continue;
        };
        let says_it = |text: &str| Score::of(text, std::slice::from_ref(outdated)).contains > 0.0;
        let turns = of.conversation.iter().filter(|turn| turn.role == "user");
        let turns: Vec<Record> = turns
            .enumerate()
            .map(|(place, turn)| {
                clock += 1;
                Record {
                    key: format!("{number}/{place}"),
                    title: "The user".to_owned(),
                    text: turn.content.clone(),
                    supersedes: None,
                    at: clock,
                }
            })
            .collect();
        let Some(last) = turns.iter().rposition(|turn| says_it(&turn.text)) else {
            continue;
        };
        let right = match &update.answer {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let of_outdated = turns.iter().filter(|turn| says_it(&turn.text));
        let mut asked = Asked {
            question: update.question.clone(),
            right: vec![outdated.clone()],
            outdated: Vec::new(),
        };
        batches[0].asked.push(asked.clone());
        asked.outdated = std::mem::replace(&mut asked.right, vec![right]);
        let obsolete: Vec<String> = of_outdated.map(|turn| turn.key.clone()).collect();
        batches[0].records.extend_from_slice(&turns[..=last]);
        left.push((turns[last + 1..].to_vec(), obsolete, asked));
    }
    let mut left = left.into_iter();
    for size in &options.edits {
        let mut batch = Batch::default();
        for (records, obsolete, asked) in left.by_ref().take(*size) {
            batch.n_edits += 1;
            batch.records.extend(records);
            batch.obsolete.extend(obsolete);
            batch.asked.push(asked);
        }
        if batch.n_edits > 0 {
            batches.push(batch);
        }
    }
    batches
}
