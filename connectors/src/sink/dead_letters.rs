//! What a sink refuses for good: written to a file, so that the rest of its epoch goes on.
//!
//! ```json
//! {"perennial":"dead letters","format":1}
//! {"view":"answers","key":"q1","epoch":7,"text":"…",…,"refused":{"sink":"https://…","at":"2026-…Z","reason":"…"}}
//! {"end_of":{"origin":"00f1…","view":"answers","epoch":7,"rows":1,"sink":"https://…"}}
//! ```
//! A line is the row as it would have been delivered, with what became of it. A delivery that is refused for
//! good is delivered again in halves, and these in halves, until the rows that are refused stand alone. Where
//! there is nobody to take anything ([`Refusal::All`]) all that is left of it is written.
//!
//! # Invariants
//! - What is written is there for good before the delivery counts as made; the file is whole epochs
//!   (`epoch_file.rs`). A delivery of which letters are there is not made again, so each stands there once.
//! - What may pass ends the attempt: nothing is written, and all of it is tried again.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::epoch_file::{EpochFile, Last, line};
use super::refusal::Refusal;
use super::{Delivery, Replaced, Sink};
use crate::json::timestamp;
use crate::{Error, StopFlag};

/// The first line.
const HEAD: &[u8] = b"{\"perennial\":\"dead letters\",\"format\":1}\n";

/// A file for what sinks refuse for good. Cloning shares it: several sinks may write to one.
///
/// ```
/// use perennial_connectors::{DeadLetters, Sink as _, Webhook};
///
/// # fn main() -> Result<(), perennial_connectors::Error> {
/// # let folder = tempfile::tempdir().expect("a folder");
/// # let path = folder.path().join("refused.jsonl");
/// let letters = DeadLetters::open(&path)?;
/// let sink = letters.of(Webhook::open("https://example.com/answers")?);
/// assert_eq!(sink.dead_letters().expect("it has a file").n(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DeadLetters {
    letters: Arc<Mutex<Letters>>,
}

#[derive(Debug)]
struct Letters {
    file: EpochFile,
    /// By sink: the last of its epochs of which letters are there.
    last: HashMap<String, Last>,
    counts: HashMap<String, Arc<DeadLetterCount>>,
}

/// How many rows of one sink stand in its file of dead letters.
#[derive(Debug)]
pub struct DeadLetterCount {
    path: PathBuf,
    n: AtomicU64,
    n_put: AtomicU64,
}

impl DeadLetterCount {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Rows that stand there.
    pub fn n(&self) -> u64 {
        self.n.load(Ordering::Relaxed)
    }

    /// Rows that were put there since it was opened, whatever others did to the file.
    pub fn n_put(&self) -> u64 {
        self.n_put.load(Ordering::Relaxed)
    }
}

impl DeadLetters {
    /// Appends to a file, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::ForeignOutput`] for a file that holds anything but dead letters;
    /// [`Error::OutputInUse`] if it is written already; [`Error::UnknownScheme`] for an address.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let mut letters = Letters {
            file: EpochFile::open(path.as_ref(), HEAD)?,
            last: HashMap::new(),
            counts: HashMap::new(),
        };
        letters.look_through()?;
        let letters = Arc::new(Mutex::new(letters));
        Ok(Self { letters })
    }

    /// A sink whose refused rows stand there.
    pub fn of<S: Sink>(&self, sink: S) -> DeadLettered<S> {
        let count = self.lock().count(sink.name());
        DeadLettered {
            sink,
            letters: self.clone(),
            count,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Letters {
    /// Counts what stands in the file.
    fn look_through(&mut self) -> Result<(), Error> {
        for count in self.counts.values() {
            count.n.store(0, Ordering::Relaxed);
        }
        let mut ends = Vec::new();
        self.file.read(|value| {
            let sink = value["end_of"]["sink"].as_str();
            if let Some((sink, last)) = sink.zip(Last::read(value)) {
                let n = value["end_of"]["rows"].as_u64().unwrap_or_default();
                ends.push((sink.to_owned(), last, n));
            }
        })?;
        for (sink, last, n) in ends {
            self.count(&sink).n.fetch_add(n, Ordering::Relaxed);
            self.last.insert(sink, last);
        }
        Ok(())
    }

    fn count(&mut self, sink: &str) -> Arc<DeadLetterCount> {
        let path = self.file.path();
        let new = || {
            Arc::new(DeadLetterCount {
                path: path.to_owned(),
                n: AtomicU64::new(0),
                n_put: AtomicU64::new(0),
            })
        };
        let count = self.counts.entry(sink.to_owned());
        count.or_insert_with(new).clone()
    }

    /// Whether letters of a delivery are there.
    fn has(&self, sink: &str, delivery: &Delivery) -> bool {
        let last = self.last.get(sink);
        last.is_some_and(|last| last.covers(&Last::of(delivery)))
    }

    /// Writes what a sink refused of a delivery.
    fn put(&mut self, sink: &str, delivery: &Delivery, refused: &[Refused]) -> Result<(), Error> {
        if self.file.settle()? {
            self.look_through()?;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let ms = since.map_or(0, |since| since.as_millis());
        let at = timestamp::text(i64::try_from(ms).unwrap_or(i64::MAX));
        let mut lines = Vec::new();
        let mut n_rows = 0_u64;
        for Refused { row, reason } in refused {
            let mut letter = match row.and_then(|row| delivery.rows.get(row)) {
                Some(row) => delivery.row_json(row),
                // There is no row in it: that its epoch is told was refused.
                None => json!({ "view": delivery.view, "epoch": delivery.epoch }),
            };
            letter["refused"] = json!({ "sink": sink, "at": at, "reason": reason });
            line(&mut lines, &letter);
            n_rows += 1;
        }
        let end: Value = json!({ "end_of": {
            "origin": delivery.origin_text(),
            "view": delivery.view,
            "epoch": delivery.epoch,
            "rows": n_rows,
            "sink": sink,
        }});
        line(&mut lines, &end);
        self.file.append(&lines, Last::of(delivery))?;
        self.last.insert(sink.to_owned(), Last::of(delivery));
        let count = self.count(sink);
        count.n.fetch_add(n_rows, Ordering::Relaxed);
        count.n_put.fetch_add(n_rows, Ordering::Relaxed);
        Ok(())
    }
}

/// A row of a delivery that is refused, by its place; none where that has no rows.
struct Refused {
    row: Option<usize>,
    reason: String,
}

/// A sink with a file for what it refuses for good.
#[derive(Debug)]
pub struct DeadLettered<S> {
    sink: S,
    letters: DeadLetters,
    count: Arc<DeadLetterCount>,
}

impl<S: Sink> DeadLettered<S> {
    /// The sink itself.
    pub fn inner(&self) -> &S {
        &self.sink
    }

    /// Delivers what can be of these rows, and notes those that are refused for good; `said` is what came of
    /// all of them together, if that is known.
    fn sort(
        &mut self,
        delivery: &Delivery,
        (rows, mut said): (Range<usize>, Option<Error>),
        refused: &mut Vec<Refused>,
        stop: &StopFlag,
    ) -> Result<(), Error> {
        let mut left = rows;
        loop {
            let part = Delivery {
                rows: delivery.rows[left.clone()].to_vec(),
                ..delivery.without_rows()
            };
            let done = match said.take() {
                Some(error) => Err(error),
                None => self.sink.deliver(&part, stop),
            };
            let (reason, refusal, of) = match done {
                Err(Error::Refused {
                    reason,
                    refusal,
                    rows,
                }) => (reason, refusal, rows),
                done => return done,
            };
            // What stands before was taken.
            let of = of.map_or(left.clone(), |of| {
                let (start, end) = (left.start + of.start, left.start + of.end);
                start.min(left.end)..end.min(left.end)
            });
            let of = if of.is_empty() { left.clone() } else { of };
            match (refusal, of.len()) {
                (_, 0) => {
                    refused.push(Refused { row: None, reason });
                    return Ok(());
                }
                (Refusal::All, _) => {
                    refused.extend((of.start..left.end).map(|row| Refused {
                        row: Some(row),
                        reason: reason.clone(),
                    }));
                    return Ok(());
                }
                (Refusal::Rows, 1) => refused.push(Refused {
                    row: Some(of.start),
                    reason,
                }),
                (Refusal::Rows, n) => {
                    let middle = of.start + n / 2;
                    self.sort(delivery, (of.start..middle, None), refused, stop)?;
                    self.sort(delivery, (middle..of.end, None), refused, stop)?;
                }
            }
            left = of.end..left.end;
            if left.is_empty() {
                return Ok(());
            }
        }
    }

    /// What is refused of a delivery, once all else is delivered; `said` came of all of it together.
    fn sorted(
        &mut self,
        delivery: &Delivery,
        said: Error,
        stop: &StopFlag,
    ) -> Result<Vec<Refused>, Error> {
        let mut refused = Vec::new();
        let all = (0..delivery.rows.len(), Some(said));
        self.sort(delivery, all, &mut refused, stop)?;
        Ok(refused)
    }

    fn put(&self, delivery: &Delivery, refused: &[Refused]) -> Result<(), Error> {
        // What was refused as a whole may be taken in parts.
        match refused.is_empty() {
            true => Ok(()),
            false => self.letters.lock().put(self.sink.name(), delivery, refused),
        }
    }

    fn is_sorted(&self, delivery: &Delivery) -> bool {
        self.letters.lock().has(self.sink.name(), delivery)
    }
}

impl<S: Sink> Sink for DeadLettered<S> {
    fn name(&self) -> &str {
        self.sink.name()
    }

    fn is_empty(&self) -> bool {
        self.sink.is_empty()
    }

    fn dead_letters(&self) -> Option<&Arc<DeadLetterCount>> {
        Some(&self.count)
    }

    fn take_notices(&mut self) -> Vec<String> {
        let mut notices = self.sink.take_notices();
        notices.extend(self.letters.lock().file.take_notices());
        notices
    }

    fn deliver(&mut self, delivery: &Delivery, stop: &StopFlag) -> Result<(), Error> {
        if self.is_sorted(delivery) {
            return Ok(());
        }
        match self.sink.deliver(delivery, stop) {
            Err(said @ Error::Refused { .. }) => {
                let refused = self.sorted(delivery, said, stop)?;
                self.put(delivery, &refused)
            }
            done => done,
        }
    }

    fn replace(
        &mut self,
        delivery: &Delivery,
        former: &[u64],
        stop: &StopFlag,
    ) -> Result<Replaced, Error> {
        if self.is_sorted(delivery) {
            return Ok(Replaced::Unseen);
        }
        let said = match self.sink.replace(delivery, former, stop) {
            Err(said @ Error::Refused { .. }) => said,
            done => return done,
        };
        let mut refused = self.sorted(delivery, said, stop)?;
        let are_refused: HashSet<usize> = refused.iter().filter_map(|of| of.row).collect();
        let rows = (0..delivery.rows.len()).filter(|row| !are_refused.contains(row));
        let taken = Delivery {
            rows: rows.map(|row| delivery.rows[row].clone()).collect(),
            ..delivery.without_rows()
        };
        // Only all of it together says what it replaces.
        let replaced = match self.sink.replace(&taken, former, stop) {
            Err(Error::Refused { reason, .. }) => {
                refused.push(Refused { row: None, reason });
                Replaced::Unseen
            }
            done => done?,
        };
        self.put(delivery, &refused)?;
        Ok(replaced)
    }
}
