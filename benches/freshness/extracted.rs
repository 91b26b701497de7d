//! A memory that asks the model what to keep: the way of mem0 and its like, in small.
//!
//! Of each addition the model writes down the facts, a line each. For each fact those that are stored and alike are shown
//! to it, and it says which of them the new one replaces, or that it replaces none; so it is updated or added. A fact
//! that is stored word for word is passed over. Questions are answered over what is recalled of the facts.
//!
//! What is in its favour: only facts that the embedding finds alike can be replaced, since small models replace
//! others, too; a choice is read from the likelihoods of the numbers, so that it is always one of them, with the model's
//! leaning taken off; facts are recalled by vectors and words; the instruction is encoded once. What is not: the model is
//! the small one that the other sides answer with, where those systems take a large one. Compare it with the others under
//! one model, and not with what is published of those systems.
//!
//! Source: Chhikara et al., "Mem0: Building Production-Ready AI Agents with Scalable Long-Term Memory", 2025.

use perennial::ask::{
    Before, Cancel, Output, Priority, Provider as _, Task, TaskCall, TensorModel,
};
use perennial::memory::{Bank, NewEntry, Recall, RecallBy};
use perennial::rows::Value;

use crate::rig::Error;
use crate::scenario::{Record, Scenario};
use crate::side::{Answering, Cost, Side};

/// Facts that a new one is compared with, at most.
const N_SIMILAR: usize = 5;
/// The least cosine of facts that are about the same thing.
const SIMILAR: f32 = 0.7;
/// Facts of one addition, at most.
const MAX_FACTS: usize = 3;
/// Most tokens of the facts of one addition.
const MAX_TOKENS: usize = 72;
/// What it says where a fact replaces none.
const NONE: &str = "none";

/// Facts as texts.
pub struct Extracted<'a> {
    answering: &'a Answering<'a>,
    bank: Bank,
    model: TensorModel,
    extract: Task,
    /// Which of `n + 1` facts is replaced, by `n`.
    choose: Vec<Task>,
    /// Facts that were added so far.
    n_added: usize,
    clock: i64,
    /// Whether facts are told on standard error.
    shows: bool,
}

impl<'a> Extracted<'a> {
    /// A memory of nothing yet.
    pub fn new(answering: &'a Answering<'a>, shows: bool) -> Result<Self, Error> {
        let extract = Task::new(
            "Write down what {text} says in at most three short sentences, one a line. Keep its names and values, and \
             add nothing.",
            Output::Text {
                max_tokens: MAX_TOKENS,
            },
        )?;
        let choose = |n: usize| {
            let numbers = (1..=n).map(|number| number.to_string());
            let labels = numbers.chain([NONE.to_owned()]).map(Into::into);
            Task::new(
                "Which of {old facts} is about the same thing as {new fact}, and no longer true because of it?",
                Output::Label(labels.collect()),
            )
        };
        Ok(Self {
            answering,
            bank: answering.new_bank()?,
            model: answering.rig.with_empty_store(),
            extract,
            choose: (1..=N_SIMILAR).map(choose).collect::<Result<_, _>>()?,
            n_added: 0,
            clock: 0,
            shows,
        })
    }

    /// What the model says of these values.
    fn perform(&self, task: &Task, values: &[Value], cost: &mut Cost) -> Result<String, Error> {
        let performed = self.model.perform(&TaskCall {
            task,
            values,
            priority: Priority::Fresh,
            cancel: Cancel::new(),
        })?;
        *cost += Cost {
            n_calls: 1,
            n_tokens: performed.work.n_forwarded(),
        };
        let text = performed.value.as_text();
        Ok(text.map(|text| text.to_string()).unwrap_or_default())
    }

    fn add(&mut self, record: &Record, cost: &mut Cost) -> Result<(), Error> {
        let said = Value::text(format!("{}: {}", record.title, record.text));
        let written = self.perform(&self.extract, &[said], cost)?;
        for fact in written
            .lines()
            .map(without_bullet)
            .filter(|fact| !fact.is_empty())
            .take(MAX_FACTS)
        {
            self.keep(fact, &record.title, cost)?;
        }
        Ok(())
    }

    fn keep(&mut self, fact: &str, title: &str, cost: &mut Cost) -> Result<(), Error> {
        let nearest = Recall::new(fact).best(N_SIMILAR).by(RecallBy::Similarity);
        let mut nearest = self.bank.recall(&nearest)?.hits;
        nearest.retain(|hit| hit.similarity >= SIMILAR);
        if nearest.iter().any(|hit| *hit.entry.text == *fact) {
            return Ok(());
        }
        let mut key = None;
        if let Some(task) = nearest
            .len()
            .checked_sub(1)
            .and_then(|n| self.choose.get(n))
        {
            let numbered = nearest.iter().zip(1..);
            let old: Vec<String> = numbered
                .map(|(hit, number)| format!("{number}. {}", hit.entry.text))
                .collect();
            let values = [Value::text(old.join("\n")), Value::text(fact)];
            let number = self.perform(task, &values, cost)?.parse::<usize>().ok();
            let replaced = number.and_then(|number| nearest.get(number.checked_sub(1)?));
            key = replaced.map(|hit| hit.entry.key.to_string());
            if let (true, Some(hit)) = (self.shows, replaced) {
                eprintln!("\n{fact:?} replaces {:?}", hit.entry.text);
            }
        }
        if let (true, None) = (self.shows, &key) {
            eprintln!("\n{fact:?} is added");
        }
        let key = key.unwrap_or_else(|| {
            self.n_added += 1;
            format!("fact {}", self.n_added)
        });
        self.clock += 1;
        let entry = NewEntry::new(fact).key(key).titled(title).at(self.clock);
        self.bank.store(entry)?;
        // The next is compared with it.
        Ok(self.bank.flush()?)
    }
}

impl Side for Extracted<'_> {
    fn name(&self) -> &'static str {
        "facts, extracted by the model"
    }

    fn store(&mut self, scenario: &Scenario, batch: usize) -> Result<Cost, Error> {
        let mut cost = Cost::default();
        for record in &scenario.batches[batch].records {
            self.add(record, &mut cost)?;
        }
        Ok(cost)
    }

    fn ask(&mut self, question: &str) -> Result<(String, Cost), Error> {
        let nothing = Before::default();
        let (text, _, cost) = self
            .answering
            .answer(&self.model, &self.bank, question, &nothing)?;
        Ok((text, cost))
    }
}

/// A line without the mark that lists have.
fn without_bullet(line: &str) -> &str {
    let line = line.trim().trim_start_matches(['-', '*', '•']).trim();
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    match number.strip_prefix(['.', ')']) {
        Some(rest) if number.len() < line.len() => rest.trim(),
        _ => line,
    }
}
