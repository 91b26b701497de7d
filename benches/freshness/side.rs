//! What is asked of every side, and how does each of them answer?
//!
//! All sides answer alike: the best entries for the question are laid out oldest first, and the model is asked over
//! them, exactly. So they differ in what is stored, and in what is kept from one question to the next.

use std::collections::BTreeMap;

use perennial::ask::{AnswerModel as _, Before, TensorModel, Tolerance};
use perennial::bank::PassageLayout;
use perennial::memory::{Bank, Memory, NewEntry, Recall};
use perennial::{Engine, Runtime, Scope};

use crate::rig::question::TitledText;
use crate::rig::{Error, Rig};
use crate::scenario::{Record, Scenario};

/// A memory that is told of batches, and asked.
pub trait Side {
    /// What the table calls it.
    fn name(&self) -> &'static str;

    /// Takes in a batch.
    fn store(&mut self, scenario: &Scenario, batch: usize) -> Result<Cost, Error>;

    /// Answers a question.
    fn ask(&mut self, question: &str) -> Result<(String, Cost), Error>;
}

/// What the model was asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// How often.
    pub n_calls: usize,
    /// Tokens that it forwarded.
    pub n_tokens: usize,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.n_calls += other.n_calls;
        self.n_tokens += other.n_tokens;
    }
}

/// How a question is answered over what is recalled.
pub struct Answering<'a> {
    /// The model.
    pub rig: &'a Rig,
    /// What embeds.
    pub runtime: Runtime,
    /// Entries that an answer reads.
    pub n_recalled: usize,
    /// What an entry attends to.
    pub scope: Scope,
}

impl Answering<'_> {
    /// A memory of nothing yet.
    pub fn new_bank(&self) -> Result<Bank, Error> {
        let engine = Engine::builder(self.runtime.clone());
        let engine = engine.table("records").start()?;
        Ok(Bank::create(
            &engine,
            Memory::named("memory").from("records"),
        )?)
    }

    /// The answer by `model` to a question over what is in `bank`, and what the next answer to it may be drafted by.
    /// An empty answer where nothing is remembered.
    pub fn answer(
        &self,
        model: &TensorModel,
        bank: &Bank,
        question: &str,
        before: &Before,
    ) -> Result<(String, Before, Cost), Error> {
        let recalled = bank.recall(&Recall::new(question).best(self.n_recalled))?;
        let mut entries: Vec<_> = recalled.hits.iter().map(|hit| hit.entry.clone()).collect();
        if entries.is_empty() {
            return Ok((String::new(), before.clone(), Cost::default()));
        }
        entries.sort_by(|a, b| (a.updated_at_ms, &a.key).cmp(&(b.updated_at_ms, &b.key)));
        let texts: Vec<TitledText> = entries
            .iter()
            .map(|entry| TitledText {
                title: entry.title.as_deref().unwrap_or_default().to_owned(),
                text: entry.text.to_string(),
            })
            .collect();
        let keys = entries.iter().map(|entry| &*entry.key);
        let layout: PassageLayout = self.rig.layout_of(&texts, keys)?;
        let asked = format!("Question: {question}");
        if let Some(standing) = before.standing(&asked, &layout) {
            let text = standing.answer.text.to_string();
            return Ok((
                text,
                Before::of(asked.into(), layout, &standing),
                Cost::default(),
            ));
        }
        let request = self
            .rig
            .request(&asked, &layout, before, Tolerance::EXACT, self.scope);
        let outcome = model.answer(&request, &mut ())?;
        let cost = Cost {
            n_calls: 1,
            n_tokens: outcome.work.n_forwarded(),
        };
        let text = outcome.answer.text.to_string();
        Ok((text, Before::of(asked.into(), layout, &outcome), cost))
    }
}

/// Stores records in a memory, and waits until they can be recalled.
fn store(bank: &Bank, records: &[Record], tells_lineage: bool) -> Result<(), Error> {
    let entries = records.iter().map(|record| {
        let entry = NewEntry::new(&*record.text);
        let entry = entry.key(&*record.key).titled(&*record.title).at(record.at);
        match &record.supersedes {
            Some(key) if tells_lineage => entry.superseding([key.as_str()]),
            _ => entry,
        }
    });
    bank.store_all(entries)?;
    Ok(bank.flush()?)
}

/// Our memory: corrections take hold in what stands, fragments and answers are kept.
pub struct Maintained<'a> {
    answering: &'a Answering<'a>,
    bank: Bank,
    model: TensorModel,
    /// The last answers, by their questions.
    standing: BTreeMap<String, Before>,
}

impl<'a> Maintained<'a> {
    /// A memory of nothing yet.
    pub fn new(answering: &'a Answering<'a>) -> Result<Self, Error> {
        Ok(Self {
            answering,
            bank: answering.new_bank()?,
            model: answering.rig.with_empty_store(),
            standing: BTreeMap::new(),
        })
    }
}

impl Side for Maintained<'_> {
    fn name(&self) -> &'static str {
        "memory, maintained"
    }

    fn store(&mut self, scenario: &Scenario, batch: usize) -> Result<Cost, Error> {
        store(&self.bank, &scenario.batches[batch].records, true)?;
        Ok(Cost::default())
    }

    fn ask(&mut self, question: &str) -> Result<(String, Cost), Error> {
        let before = self.standing.entry(question.to_owned()).or_default();
        let (text, next, cost) =
            self.answering
                .answer(&self.model, &self.bank, question, before)?;
        *before = next;
        Ok((text, cost))
    }
}

/// What is built anew for every batch.
pub struct Rebuilt<'a> {
    answering: &'a Answering<'a>,
    /// Whether it is the floor: told only what holds, and by an oracle where nobody said so.
    is_floor: bool,
    bank: Bank,
    model: TensorModel,
    /// Of an index over documents: those that there are.
    documents: BTreeMap<String, Record>,
}

impl<'a> Rebuilt<'a> {
    /// A memory that is built of what holds alone.
    pub fn floor(answering: &'a Answering<'a>) -> Result<Self, Error> {
        Self::new(answering, true)
    }

    /// An index over texts, which knows documents by their keys and nothing of what supersedes what.
    pub fn text_rag(answering: &'a Answering<'a>) -> Result<Self, Error> {
        Self::new(answering, false)
    }

    fn new(answering: &'a Answering<'a>, is_floor: bool) -> Result<Self, Error> {
        Ok(Self {
            answering,
            is_floor,
            bank: answering.new_bank()?,
            model: answering.rig.with_empty_store(),
            documents: BTreeMap::new(),
        })
    }
}

impl Side for Rebuilt<'_> {
    fn name(&self) -> &'static str {
        match self.is_floor {
            true => "from scratch, of what holds (floor)",
            false => "text-RAG, indexed again",
        }
    }

    fn store(&mut self, scenario: &Scenario, batch: usize) -> Result<Cost, Error> {
        let records = match self.is_floor {
            true => scenario.holding(batch),
            false => {
                let new = scenario.batches[batch].records.iter().cloned();
                self.documents
                    .extend(new.map(|record| (record.key.clone(), record)));
                self.documents.values().cloned().collect()
            }
        };
        self.bank = self.answering.new_bank()?;
        self.model = self.answering.rig.with_empty_store();
        store(&self.bank, &records, false)?;
        Ok(Cost::default())
    }

    fn ask(&mut self, question: &str) -> Result<(String, Cost), Error> {
        if !self.is_floor {
            // The whole prompt is read for every question.
            self.model = self.answering.rig.with_empty_store();
        }
        let nothing = Before::default();
        let (text, _, cost) = self
            .answering
            .answer(&self.model, &self.bank, question, &nothing)?;
        Ok((text, cost))
    }
}
