//! The questions given as arguments, as a source that waits to be let go.

use crossbeam_channel::{Receiver, select};
use perennial::connectors::{
    Batch, Change, Event, Halt, Offset, Outlet, Record, Source, SourceName,
};
use perennial::rows::{Key, Row};

/// Questions `q1`, `q2`, … in the order in which they were asked.
pub(crate) struct Asked {
    name: SourceName,
    questions: Vec<String>,
    gate: Receiver<()>,
}

impl Asked {
    /// These questions, once `gate` gives a word.
    pub(crate) fn new(name: &str, questions: Vec<String>, gate: Receiver<()>) -> Self {
        let name = SourceName::new(name);
        Self {
            name,
            questions,
            gate,
        }
    }
}

fn record(number: u64, question: String) -> Record {
    let key = Key::new(format!("q{number}"));
    Record::new(key, Row::of_text(question), Offset::Sequence(number))
}

impl Source for Asked {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
        select! {
            // A gate that is dropped unopened means that nobody will ever look.
            recv(self.gate) -> word => word.map_err(|_| Halt::Stopped)?,
            recv(out.stop().signal()) -> _ => return Err(Halt::Stopped),
        }
        let records = (1..).zip(self.questions);
        let changes = records.map(|(number, question)| Change::Upsert(record(number, question)));
        out.batch(Batch {
            changes: changes.collect(),
            ..Batch::default()
        })?;
        out.send(Event::CaughtUp)
    }
}
