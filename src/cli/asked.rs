//! The questions given as arguments, as a source that waits to be let go.

use crossbeam_channel::{Receiver, select};
use perennial::connectors::{
    Batch, Change, Digest, Event, Halt, Key, Offset, Outlet, Record, Source, SourceName,
};

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
    Record {
        key: Key::new(format!("q{number}")),
        title: None,
        updated_at_ms: 0,
        is_timed: false,
        supersedes: Vec::new(),
        digest: Digest::of(None, &question),
        offset: Offset::Sequence(number),
        text: question,
    }
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
