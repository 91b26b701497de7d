//! How do tests follow a source? Events received with a deadline, folded into what is held.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use perennial_connectors::{
    Batch, Change, Event, Notice, Offset, Rejected, Running, Source, start,
};
use perennial_rows::{Key, Row, Value};

/// Far beyond any delay on a busy machine: reached only when something is wrong.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A running source, with the fold of all that it emitted so far.
pub struct Listener {
    pub running: Running,
    /// Key to text.
    pub held: BTreeMap<String, String>,
    /// Key to row.
    pub rows: BTreeMap<Key, Row>,
    pub rejected: Vec<Rejected>,
    pub notices: Vec<Notice>,
    pub batches: Vec<Batch>,
    /// Where another run would go on.
    pub resume: Option<Offset>,
    /// Of what is said again: the keys that were not, and where a run would go on once all is.
    again: Option<(BTreeSet<Key>, Option<Offset>)>,
}

/// What ended a wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Mark {
    Batch,
    CaughtUp,
    StartedOver,
    SaidAgain,
    Notice,
    Ended,
    Failed(String),
}

impl Listener {
    pub fn start(source: impl Source) -> Self {
        Self {
            running: start(source, 4).unwrap(),
            held: BTreeMap::new(),
            rows: BTreeMap::new(),
            rejected: Vec::new(),
            notices: Vec::new(),
            batches: Vec::new(),
            resume: None,
            again: None,
        }
    }

    /// Takes the next event in.
    pub fn next(&mut self) -> Mark {
        let event = self.running.events().recv_timeout(DEADLINE);
        self.take(event.expect("an event in time"))
    }

    /// Takes an event in.
    pub fn take(&mut self, event: Event) -> Mark {
        match event {
            Event::Batch(batch) => {
                assert!(!batch.is_empty(), "an empty batch");
                match &mut self.again {
                    Some((unsaid, resume)) => {
                        *resume = batch.resume.clone();
                        for change in &batch.changes {
                            unsaid.remove(change.key());
                        }
                    }
                    None => self.resume.clone_from(&batch.resume),
                }
                for change in &batch.changes {
                    match change {
                        Change::Upsert(record) => {
                            self.held
                                .insert(record.key.to_string(), record.row.text.to_string());
                            self.rows.insert(record.key.clone(), record.row.clone());
                        }
                        Change::Delete { key, .. } => {
                            self.held.remove(key.as_str());
                            self.rows.remove(key);
                        }
                    }
                }
                self.rejected.extend(batch.rejected.iter().cloned());
                self.batches.push(batch);
                Mark::Batch
            }
            Event::CaughtUp => Mark::CaughtUp,
            Event::StartedOver(scope) => {
                assert!(scope.is_all(), "a source is no part");
                self.again = Some((self.rows.keys().cloned().collect(), None));
                Mark::StartedOver
            }
            Event::SaidAgain(_) => {
                let (unsaid, resume) = self.again.take().expect("it started over");
                for key in &unsaid {
                    self.held.remove(key.as_str());
                    self.rows.remove(key);
                }
                self.resume = resume;
                Mark::SaidAgain
            }
            Event::Notice(notice) => {
                self.notices.push(notice);
                Mark::Notice
            }
            Event::Ended => Mark::Ended,
            Event::Failed(error) => Mark::Failed(error.to_string()),
            other => panic!("{other:?}"),
        }
    }

    /// Takes events in up to this one.
    pub fn until(&mut self, mark: &Mark) {
        while self.next() != *mark {}
    }

    /// Takes events in until what is held is so.
    pub fn until_held(&mut self, done: impl Fn(&BTreeMap<String, String>) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !done(&self.held) {
            assert!(Instant::now() < end, "held: {:?}", self.held);
            self.next();
        }
    }

    /// Nothing comes for a time.
    pub fn silence(&self, time: Duration) {
        if let Ok(event) = self.running.events().recv_timeout(time) {
            panic!("unexpected {event:?}");
        }
    }

    /// The column of a row; null where there is none.
    pub fn column(&self, key: &str, name: &str) -> Value {
        self.rows[key]
            .columns
            .get(name)
            .cloned()
            .unwrap_or_default()
    }

    pub fn keys(&self) -> Vec<&str> {
        self.held.keys().map(String::as_str).collect()
    }
}
