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
//! - Letters that are taken out ([`HeldLetters`]) are gone from the file, which is written anew, and come back by no
//!   delivery that was being made: such a one is tried again. The ends of their epochs stay, so that these are not
//!   delivered twice.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::epoch_file::{EpochFile, Last, Line, line};
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
    counts: HashMap<String, Arc<Count>>,
    /// How many times it was held.
    n_held: u64,
}

/// How many rows of one sink stand there.
#[derive(Debug, Default)]
struct Count {
    n: AtomicU64,
    n_put: AtomicU64,
}

/// What one sink has in a file of dead letters. Cloning shares it.
#[derive(Clone, Debug)]
pub struct SinkLetters {
    letters: DeadLetters,
    path: PathBuf,
    count: Arc<Count>,
}

impl SinkLetters {
    /// The file, which others may write to as well.
    pub fn file(&self) -> &DeadLetters {
        &self.letters
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Rows of the sink that stand there.
    pub fn n(&self) -> u64 {
        self.count.n.load(Ordering::Relaxed)
    }

    /// Rows that were put there since it was opened, whatever others did to the file.
    pub fn n_put(&self) -> u64 {
        self.count.n_put.load(Ordering::Relaxed)
    }
}

/// A file of dead letters that is held: nothing is put there meanwhile. A delivery that was being made when it was held
/// puts nothing there either: it is tried again.
#[derive(Debug)]
pub struct HeldLetters<'a>(MutexGuard<'a, Letters>);

impl HeldLetters<'_> {
    /// Reads the letters in order: each with its number, as it stands there, and what it says.
    ///
    /// # Errors
    /// Of reading, and what `hear` says.
    pub fn read(
        &self,
        mut hear: impl FnMut(usize, &[u8], &Value) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        self.0
            .file
            .each_line(|number, line, value| match is_letter(value) {
                true => hear(number, line, value),
                false => Ok(()),
            })
    }

    /// Takes letters out by their numbers, which are others then. They are all gone for good, or none is.
    ///
    /// # Errors
    /// [`Error::Io`]: the file is as it was.
    pub fn take_out(&mut self, numbers: &BTreeSet<usize>) -> Result<(), Error> {
        if numbers.is_empty() {
            return Ok(());
        }
        let mut n_gone = 0;
        self.0.file.rewrite(|number, value| {
            if numbers.contains(&number) && is_letter(value) {
                n_gone += 1;
                return Line::Goes;
            }
            let n_rows = value["end_of"]["rows"].as_u64();
            match n_rows.filter(|_| n_gone > 0) {
                Some(n_rows) => {
                    let mut end = value.clone();
                    end["end_of"]["rows"] = n_rows.saturating_sub(n_gone).into();
                    n_gone = 0;
                    Line::Becomes(end)
                }
                None => Line::Stays,
            }
        })?;
        self.0.look_through()
    }
}

fn is_letter(value: &Value) -> bool {
    value.get("refused").is_some()
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
            n_held: 0,
        };
        letters.look_through()?;
        let letters = Arc::new(Mutex::new(letters));
        Ok(Self { letters })
    }

    /// A sink whose refused rows stand there.
    pub fn of<S: Sink>(&self, sink: S) -> DeadLettered<S> {
        let mut held = self.lock();
        let letters = SinkLetters {
            letters: self.clone(),
            path: held.file.path().to_owned(),
            count: held.count(sink.name()),
        };
        drop(held);
        DeadLettered { sink, letters }
    }

    /// Holds the file, to look at what stands there and take some of it out.
    ///
    /// # Errors
    /// As [`DeadLetters::open`], where others have moved it away.
    pub fn hold(&self) -> Result<HeldLetters<'_>, Error> {
        let mut held = self.lock();
        held.n_held += 1;
        held.settle()?;
        Ok(HeldLetters(held))
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

    /// Goes on with what stands under its name now.
    fn settle(&mut self) -> Result<(), Error> {
        match self.file.settle()? {
            true => self.look_through(),
            false => Ok(()),
        }
    }

    fn count(&mut self, sink: &str) -> Arc<Count> {
        self.counts.entry(sink.to_owned()).or_default().clone()
    }

    /// Whether letters of a delivery are there.
    fn has(&self, sink: &str, delivery: &Delivery) -> bool {
        let last = self.last.get(sink);
        last.is_some_and(|last| last.covers(&Last::of(delivery)))
    }

    /// Writes what a sink refused of a delivery.
    fn put(&mut self, sink: &str, delivery: &Delivery, refused: &[Refused]) -> Result<(), Error> {
        self.settle()?;
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
    letters: SinkLetters,
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

    /// Writes what was refused of a delivery that was begun when the file had been held so many times.
    fn put(&self, delivery: &Delivery, refused: &[Refused], n_held: u64) -> Result<(), Error> {
        // What was refused as a whole may be taken in parts.
        if refused.is_empty() {
            return Ok(());
        }
        let mut letters = self.lock();
        match letters.n_held == n_held {
            true => letters.put(self.sink.name(), delivery, refused),
            false => Err(Error::LettersHeld),
        }
    }

    /// How many times the file was held, unless letters of a delivery are there.
    fn begin(&self, delivery: &Delivery) -> Option<u64> {
        let letters = self.lock();
        (!letters.has(self.sink.name(), delivery)).then_some(letters.n_held)
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.letters.lock()
    }
}

impl<S: Sink> Sink for DeadLettered<S> {
    fn name(&self) -> &str {
        self.sink.name()
    }

    fn is_empty(&self) -> bool {
        self.sink.is_empty()
    }

    fn dead_letters(&self) -> Option<&SinkLetters> {
        Some(&self.letters)
    }

    fn take_notices(&mut self) -> Vec<String> {
        let mut notices = self.sink.take_notices();
        notices.extend(self.lock().file.take_notices());
        notices
    }

    fn deliver(&mut self, delivery: &Delivery, stop: &StopFlag) -> Result<(), Error> {
        let Some(n_held) = self.begin(delivery) else {
            return Ok(());
        };
        match self.sink.deliver(delivery, stop) {
            Err(said @ Error::Refused { .. }) => {
                let refused = self.sorted(delivery, said, stop)?;
                self.put(delivery, &refused, n_held)
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
        let Some(n_held) = self.begin(delivery) else {
            return Ok(Replaced::Unseen);
        };
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
        self.put(delivery, &refused, n_held)?;
        Ok(replaced)
    }
}
