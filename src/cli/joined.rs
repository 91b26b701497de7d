//! Several sources as one: what a view reads is a single stream.
//!
//! # Invariants
//! - Caught up when all parts are, ended when all have ended, failed when one fails.
//! - Keys of parts that share the stream cannot collide: a part may have a prefix, which
//!   stands before each of its keys.
//! - A part that begins anew does not touch the others: what it held is deleted, and comes
//!   again.

use std::collections::BTreeMap;

use crossbeam_channel::Select;
use perennial::connectors::{
    Batch, Change, Event, Halt, Key, Notice, Offset, Outlet, Running, Source, SourceName, start,
};

/// Events of one part that wait to be passed on.
const CAPACITY: usize = 2;

/// Sources under one name.
pub(crate) struct Joined {
    name: SourceName,
    parts: Vec<Part>,
}

struct Part {
    source: Box<dyn Source>,
    key_prefix: Option<String>,
}

struct RunningPart {
    running: Running,
    key_prefix: Option<String>,
    has_caught_up: bool,
    /// What it holds, and where that was read.
    held: BTreeMap<Key, Offset>,
}

impl RunningPart {
    fn note(&mut self, batch: &Batch) {
        for change in &batch.changes {
            match change {
                Change::Upsert(record) => {
                    self.held.insert(record.key.clone(), record.offset.clone())
                }
                Change::Delete { key, .. } => self.held.remove(key),
            };
        }
    }

    /// The end of all that it holds.
    fn clear(&mut self) -> Batch {
        let held = std::mem::take(&mut self.held).into_iter();
        let changes = held.map(|(key, offset)| Change::Delete {
            key,
            at_ms: 0,
            offset,
        });
        Batch {
            changes: changes.collect(),
            ..Batch::default()
        }
    }
}

impl Joined {
    /// No sources yet.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: SourceName::new(name),
            parts: Vec::new(),
        }
    }

    /// Adds a source, its keys behind `key_prefix`.
    #[must_use]
    pub(crate) fn with(mut self, source: impl Source, key_prefix: Option<String>) -> Self {
        let source = Box::new(source);
        self.parts.push(Part { source, key_prefix });
        self
    }

    /// The source; a single part stands for itself.
    pub(crate) fn boxed(mut self) -> Box<dyn Source> {
        match self.parts.pop() {
            Some(Part {
                source,
                key_prefix: None,
            }) if self.parts.is_empty() => source,
            last => {
                self.parts.extend(last);
                Box::new(self)
            }
        }
    }
}

impl Source for Joined {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
        let mut parts = Vec::new();
        for Part { source, key_prefix } in self.parts {
            parts.push(RunningPart {
                running: start(source, CAPACITY)?,
                key_prefix,
                has_caught_up: false,
                held: BTreeMap::new(),
            });
        }
        let mut has_told = false;
        loop {
            if !has_told && parts.iter().all(|part| part.has_caught_up) {
                has_told = true;
                out.send(Event::CaughtUp)?;
            }
            if parts.is_empty() {
                return Ok(());
            }
            let Some((index, event)) = next(&parts, out) else {
                return Err(Halt::Stopped);
            };
            match event {
                Event::Batch(batch) => {
                    let batch = prefixed(batch, &parts[index]);
                    parts[index].note(&batch);
                    out.batch(batch)?;
                }
                Event::Notice(notice @ Notice::Recreated { .. }) => {
                    out.batch(parts[index].clear())?;
                    let message = notice.to_string();
                    out.notice(Notice::OfPart { message })?;
                }
                Event::CaughtUp => parts[index].has_caught_up = true,
                Event::Ended => {
                    parts.swap_remove(index);
                }
                Event::Failed(error) => return Err(Halt::Failed(error)),
                other => out.send(other)?,
            }
        }
    }
}

/// The next event of any part; none when all is to stop. A part that goes silent without
/// an end was stopped with everything else.
fn next(parts: &[RunningPart], out: &Outlet) -> Option<(usize, Event)> {
    let mut select = Select::new();
    for part in parts {
        select.recv(part.running.events());
    }
    let stop = select.recv(out.stop().signal());
    let ready = select.select();
    match ready.index() {
        index if index == stop => {
            // The signal never carries a word: it disconnects.
            let _ = ready.recv(out.stop().signal());
            None
        }
        index => Some((index, ready.recv(parts[index].running.events()).ok()?)),
    }
}

fn prefixed(mut batch: Batch, part: &RunningPart) -> Batch {
    // An offset says where one part goes on; it means nothing for the whole.
    batch.resume = None;
    let Some(prefix) = &part.key_prefix else {
        return batch;
    };
    let behind = |key: &Key| Key::new(format!("{prefix}{key}"));
    for change in &mut batch.changes {
        match change {
            Change::Upsert(record) => {
                // The model is told what the record calls itself, not where it stands.
                let own = record.key.as_str().to_owned();
                record.title.get_or_insert(own);
                record.key = behind(&record.key);
            }
            Change::Delete { key, .. } => *key = behind(key),
        }
    }
    for rejected in &mut batch.rejected {
        rejected.key = rejected.key.as_ref().map(behind);
    }
    batch
}

#[cfg(test)]
mod tests {
    use std::fs;

    use perennial::connectors::{Folder, JsonLines, Watching};

    use super::*;

    #[test]
    fn parts_keep_their_keys_apart_and_end_together() {
        let dir = tempfile::tempdir().expect("a folder");
        let lines = dir.path().join("d.jsonl");
        fs::write(&lines, "{\"key\": \"a.md\", \"text\": \"One.\"}\n").expect("writable");
        fs::write(dir.path().join("a.md"), "Two.").expect("writable");
        let folder = Folder::open("docs", [dir.path()]).expect("there");
        let joined = Joined::new("docs")
            .with(folder.watching(Watching::Once), None)
            .with(
                JsonLines::open("docs", &lines).expect("there"),
                Some("d#".into()),
            )
            .boxed();
        let running = start(joined, 8).expect("starts");
        let (mut keys, mut ends) = (Vec::new(), Vec::new());
        for event in running.events() {
            match event {
                Event::Batch(batch) => {
                    keys.extend(batch.changes.iter().map(|c| c.key().to_string()))
                }
                Event::CaughtUp => ends.push("caught up"),
                Event::Ended => ends.push("ended"),
                _ => {}
            }
        }
        keys.sort();
        assert_eq!(keys, ["a.md", "d#a.md"]);
        assert_eq!(ends, ["caught up", "ended"]);
    }

    #[test]
    fn the_failure_of_one_is_the_failure_of_all() {
        let gone = tempfile::tempdir().expect("a folder");
        let stays = tempfile::tempdir().expect("a folder");
        let open = |dir: &tempfile::TempDir| Folder::open("docs", [dir.path()]).expect("there");
        let joined = Joined::new("docs")
            .with(open(&gone), None)
            .with(open(&stays), Some("s".into()));
        let running = start(joined, 8).expect("starts");
        let mut events = running.events().iter();
        assert!(events.any(|event| matches!(event, Event::CaughtUp)));
        drop(gone);
        assert!(events.any(|event| matches!(event, Event::Failed(_))));
    }
}
