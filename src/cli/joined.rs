//! Several sources as one: what a view reads is a single stream.
//!
//! # Invariants
//! - Caught up when all parts are, ended when all have ended, failed when one fails.
//! - Keys of parts that share the stream cannot collide: a part may have a prefix, which
//!   stands before each of its keys.
//! - A part that begins anew does not touch the others: what it held is deleted, and comes
//!   again.
//! - After a restart each part goes on as it can. Which rows were whose, prefixes tell; so where
//!   several are without (beside those that hold nothing), these begin anew.
//! - A part is told how far its own batches are committed.

use std::collections::{BTreeMap, BTreeSet};

use crossbeam_channel::Select;
use perennial::connectors::{
    Acks, Batch, Change, Event, Halt, Key, KeyScope, Offset, Outlet, Resume, Resumption, Running,
    Source, SourceName, start,
};
use perennial::rows::Schema;

/// Events of one part that wait to be passed on.
const CAPACITY: usize = 2;

/// Sources under one name.
pub(crate) struct Joined {
    name: SourceName,
    parts: Vec<Part>,
    /// Rows of parts that are no more.
    orphans: BTreeSet<Key>,
}

struct Part {
    source: Box<dyn Source>,
    key_prefix: Option<String>,
    /// Whether it has no rows, ever.
    is_empty: bool,
    /// Where it goes on.
    offset: Option<Offset>,
    /// Rows of an earlier run that stand.
    held: BTreeSet<Key>,
    /// Rows of an earlier run that are gone unless they come again.
    stale: BTreeSet<Key>,
    /// Whether it goes on from what it said before.
    resumes: bool,
}

impl Part {
    /// By which its offset is kept.
    fn name(&self) -> String {
        self.key_prefix.clone().unwrap_or_default()
    }

    fn owns(&self, key: &Key) -> bool {
        let prefix = self.key_prefix.as_deref().unwrap_or_default();
        !self.is_empty && key.as_str().starts_with(prefix)
    }
}

struct RunningPart {
    running: Running,
    name: String,
    key_prefix: Option<String>,
    has_caught_up: bool,
    /// Which keys of the stream are its own; none where several have no prefix.
    scope: Option<KeyScope>,
    /// What it has named since it last began, and not deleted.
    held: BTreeSet<Key>,
    /// Whether it reads from a beginning: until it has caught up, nothing may be resumed from
    /// where it is, since what it does not name again is not known to be gone.
    is_beginning: bool,
    /// Where it would go on, once it has.
    offset_after: Option<Offset>,
}

impl RunningPart {
    fn note(&mut self, batch: &Batch) {
        for change in &batch.changes {
            match change {
                Change::Upsert(record) => self.held.insert(record.key.clone()),
                Change::Delete { key, .. } => self.held.remove(key),
            };
        }
    }
}

impl RunningPart {
    /// It has read all from a beginning: from now on it can go on where it is.
    fn tell_begun(
        &mut self,
        offsets: &mut BTreeMap<String, Offset>,
        out: &Outlet,
    ) -> Result<(), Halt> {
        self.is_beginning = false;
        if let Some(offset) = self.offset_after.take() {
            offsets.insert(self.name.clone(), offset);
            out.send(Event::Batch(deletions([], offsets)))?;
        }
        Ok(())
    }
}

/// The end of these rows, with where each part goes on.
fn deletions(keys: impl IntoIterator<Item = Key>, offsets: &BTreeMap<String, Offset>) -> Batch {
    let changes = keys.into_iter().map(|key| Change::Delete {
        key,
        at_ms: 0,
        is_timed: false,
        offset: Offset::Sequence(0),
    });
    Batch {
        changes: changes.collect(),
        resume: Some(Offset::Parts(offsets.clone())),
        ..Batch::default()
    }
}

impl Joined {
    /// No sources yet.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: SourceName::new(name),
            parts: Vec::new(),
            orphans: BTreeSet::new(),
        }
    }

    /// Adds a source, its keys behind `key_prefix`.
    #[must_use]
    pub(crate) fn with(self, source: impl Source, key_prefix: Option<String>) -> Self {
        self.with_part(Box::new(source), key_prefix, false)
    }

    /// Adds a source that has no rows, but holds the others up.
    #[must_use]
    pub(crate) fn with_empty(self, source: impl Source) -> Self {
        self.with_part(Box::new(source), None, true)
    }

    fn with_part(
        mut self,
        source: Box<dyn Source>,
        key_prefix: Option<String>,
        is_empty: bool,
    ) -> Self {
        self.parts.push(Part {
            source,
            key_prefix,
            is_empty,
            offset: None,
            held: BTreeSet::new(),
            stale: BTreeSet::new(),
            resumes: false,
        });
        self
    }

    /// What stands before the keys of each part.
    pub(crate) fn prefixes(&self) -> Vec<String> {
        self.parts.iter().map(Part::name).collect()
    }

    /// Parts whose keys have no prefix.
    fn n_bare(&self) -> usize {
        self.parts.iter().filter(|p| p.owns(&Key::new(""))).count()
    }

    /// The source; a single part stands for itself.
    pub(crate) fn boxed(mut self) -> Box<dyn Source> {
        match self.parts.pop() {
            Some(Part {
                source,
                key_prefix: None,
                ..
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

    fn replays(&self) -> bool {
        self.parts.iter().all(|part| part.source.replays())
    }

    fn resume_from(&mut self, from: Resume) -> Resumption {
        let n_bare = self.n_bare();
        if n_bare > 1 && !self.parts.iter().any(|part| part.key_prefix.is_some()) {
            return Resumption::Anew;
        }
        let mut offsets = match from.offset {
            Some(Offset::Parts(offsets)) => offsets,
            _ => BTreeMap::new(),
        };
        let mut held = vec![Vec::new(); self.parts.len()];
        for (key, row) in from.held {
            let owners = self.parts.iter().enumerate().filter(|(_, p)| p.owns(&key));
            match owners.max_by_key(|(_, part)| part.name().len()) {
                Some((owner, part)) if part.key_prefix.is_some() || n_bare == 1 => {
                    held[owner].push((key, row));
                }
                _ => {
                    self.orphans.insert(key);
                }
            }
        }
        let mut all_anew = true;
        for (part, held) in self.parts.iter_mut().zip(held) {
            if part.key_prefix.is_none() && n_bare > 1 {
                continue;
            }
            let name = part.name();
            let offset = match part.is_empty {
                true => None,
                false => offsets.remove(&name),
            };
            let own = |key: &Key| Key::new(key.as_str().strip_prefix(&*name).unwrap_or_default());
            let keys = held.iter().map(|(key, _)| key.clone()).collect();
            let how = part.source.resume_from(Resume {
                held: held
                    .into_iter()
                    .map(|(key, row)| (own(&key), row))
                    .collect(),
                offset: offset.clone(),
            });
            part.resumes = how != Resumption::Anew;
            match how {
                Resumption::Anew => part.stale = keys,
                Resumption::FromHeld => part.held = keys,
                Resumption::FromOffset => {
                    part.held = keys;
                    part.offset = offset;
                }
            }
            all_anew &= !part.resumes;
        }
        match all_anew {
            true => Resumption::Anew,
            false => Resumption::FromOffset,
        }
    }

    fn acks(&mut self) -> Option<Box<dyn Acks>> {
        let of_part = |part: &mut Part| Some((part.name(), part.source.acks()?));
        let listeners: Vec<_> = self.parts.iter_mut().filter_map(of_part).collect();
        (!listeners.is_empty()).then(|| Box::new(OfParts(listeners)) as Box<dyn Acks>)
    }

    fn declare(&mut self, schema: &Schema) {
        for part in &mut self.parts {
            part.source.declare(schema);
        }
    }

    fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
        let (mut parts, mut offsets) = (Vec::new(), BTreeMap::new());
        let n_bare = self.n_bare();
        // What is gone goes first: no epoch closes before all have caught up, so what comes again
        // is no change.
        let mut gone = self.orphans;
        let prefixes: Vec<String> = self.parts.iter().map(Part::name).collect();
        for mut part in self.parts {
            let name = part.name();
            gone.append(&mut part.stale);
            if let Some(offset) = part.offset {
                offsets.insert(name.clone(), offset);
            }
            let is_told = part.key_prefix.is_some() || n_bare == 1;
            parts.push(RunningPart {
                running: start(part.source, CAPACITY)?,
                scope: is_told.then(|| KeyScope::behind(&name, prefixes.iter().cloned())),
                name,
                key_prefix: part.key_prefix,
                has_caught_up: false,
                held: part.held,
                is_beginning: !part.resumes,
                offset_after: None,
            });
        }
        out.send(Event::Batch(deletions(gone, &offsets)))?;
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
                    let part = &mut parts[index];
                    let mut batch = prefixed(batch, part);
                    part.note(&batch);
                    // Where several share the keys without prefix, none can tell its own again.
                    match batch.resume.take().filter(|_| part.scope.is_some()) {
                        Some(offset) if part.is_beginning => part.offset_after = Some(offset),
                        Some(offset) => {
                            offsets.insert(part.name.clone(), offset);
                        }
                        None => {}
                    }
                    batch.resume = Some(Offset::Parts(offsets.clone()));
                    out.batch(batch)?;
                }
                Event::StartedOver(_) => {
                    let part = &mut parts[index];
                    part.is_beginning = true;
                    part.offset_after = None;
                    let held = std::mem::take(&mut part.held);
                    out.send(match &part.scope {
                        Some(scope) => Event::StartedOver(scope.clone()),
                        None => Event::Batch(deletions(held, &offsets)),
                    })?;
                }
                Event::SaidAgain(_) => {
                    let part = &mut parts[index];
                    if let Some(scope) = &part.scope {
                        out.send(Event::SaidAgain(scope.clone()))?;
                    }
                    part.tell_begun(&mut offsets, out)?;
                }
                Event::CaughtUp => {
                    let part = &mut parts[index];
                    part.has_caught_up = true;
                    part.tell_begun(&mut offsets, out)?;
                }
                Event::Ended => {
                    parts.swap_remove(index);
                }
                Event::Failed(error) => return Err(Halt::Failed(error)),
                other => out.send(other)?,
            }
        }
    }
}

/// Tells each part its share, by its name.
struct OfParts(Vec<(String, Box<dyn Acks>)>);

impl Acks for OfParts {
    fn committed(&mut self, offset: &Offset, epoch: Option<u64>) {
        let Offset::Parts(offsets) = offset else {
            return;
        };
        for (name, acks) in &mut self.0 {
            if let Some(offset) = offsets.get(name) {
                acks.committed(offset, epoch);
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
    let Some(prefix) = &part.key_prefix else {
        return batch;
    };
    let behind = |key: &Key| Key::new(format!("{prefix}{key}"));
    for change in &mut batch.changes {
        match change {
            Change::Upsert(record) => {
                // The model is told what the record calls itself, not where it stands.
                let own = record.key.text();
                record.row.title.get_or_insert(own);
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

    use crossbeam_channel::Sender;
    use perennial::connectors::{Folder, JsonLines, Watching};
    use perennial::rows::{Row, Value};

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

    /// The changes that a source says and the parts that it says again, in words, and where it ended.
    fn said(source: Box<dyn Source>) -> (Vec<String>, Option<Offset>) {
        let (mut said, mut last) = (Vec::new(), None);
        for event in start(source, 8).expect("starts").events() {
            let batch = match event {
                Event::Batch(batch) => batch,
                Event::SaidAgain(scope) => {
                    said.push(format!("~{}", scope.prefix()));
                    continue;
                }
                _ => continue,
            };
            said.extend(batch.changes.iter().map(|change| match change {
                Change::Upsert(record) => format!("+{}", record.key),
                Change::Delete { key, .. } => format!("-{key}"),
            }));
            last = batch.resume.or(last);
        }
        said.sort();
        (said, last)
    }

    /// What a run says that begins with these rows and this offset: its changes, in words, and
    /// where it ended.
    fn run(
        dir: &std::path::Path,
        held: &BTreeMap<Key, Row>,
        offset: Option<Offset>,
    ) -> (Resumption, Vec<String>, Option<Offset>) {
        let folder = Folder::open("docs", [dir.join("notes")]).expect("there");
        let lines = JsonLines::open("docs", dir.join("d.jsonl")).expect("there");
        let mut joined = Joined::new("docs")
            .with(folder.watching(Watching::Once), None)
            .with(lines, Some("d#".into()))
            .boxed();
        let how = joined.resume_from(Resume {
            held: held
                .iter()
                .map(|(key, row)| (key.clone(), row.clone()))
                .collect(),
            offset,
        });
        let (said, last) = said(joined);
        (how, said, last)
    }

    #[test]
    fn each_part_goes_on_where_it_was_and_rows_of_parts_that_are_gone_go() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).expect("writable");
            let file = fs::File::options().write(true).open(path).expect("there");
            file.set_modified(std::time::SystemTime::UNIX_EPOCH)
                .expect("may be set");
        };
        fs::create_dir(dir.path().join("notes")).expect("writable");
        write("notes/a.md", "One.");
        write("notes/b.md", "Two.");
        let line = |key: &str| format!("{{\"key\": \"{key}\", \"text\": \"Text.\"}}\n");
        write("d.jsonl", &line("x"));
        let (_, said, offset) = run(dir.path(), &BTreeMap::new(), None);
        assert_eq!(said, ["+a.md", "+b.md", "+d#x"]);

        let file = |path: &str, text: &str| {
            let columns = [
                ("path", Value::from(path)),
                ("modified", Value::Timestamp(0)),
                ("size", 4i64.into()),
            ];
            let row = Row {
                columns: columns.into_iter().collect(),
                ..Row::of_text(text)
            };
            (Key::new(path), row)
        };
        let held = BTreeMap::from([
            file("a.md", "One."),
            file("b.md", "Two."),
            (Key::new("d#x"), Row::of_text("Text.")),
        ]);
        let (how, said, _) = run(dir.path(), &held, offset.clone());
        assert_eq!((how, said), (Resumption::FromOffset, vec![]));

        fs::remove_file(dir.path().join("notes/b.md")).expect("there");
        write("d.jsonl", &(line("x") + &line("y")));
        let (_, said, _) = run(dir.path(), &held, offset.clone());
        assert_eq!(said, ["+d#y", "-b.md"]);

        // Another beginning is another file: what only the old one said goes, of that part.
        write("d.jsonl", &line("z"));
        let (_, said, _) = run(dir.path(), &held, offset);
        assert_eq!(said, ["+d#z", "-b.md", "~d#"]);
    }

    /// A source of nothing.
    struct Nothing(SourceName);

    impl Source for Nothing {
        fn name(&self) -> &SourceName {
            &self.0
        }

        fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
            out.send(Event::CaughtUp)
        }
    }

    #[test]
    fn beside_one_that_holds_nothing_a_part_goes_on_and_beside_another_none_does() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("q.jsonl");
        fs::write(&path, "{\"key\": \"x\", \"text\": \"Text.\"}\n").expect("writable");
        let resumed = |joined: Joined, offset: Option<Offset>| {
            let mut joined = joined.boxed();
            let held = vec![(Key::new("x"), Row::of_text("Text."))];
            let how = joined.resume_from(Resume { held, offset });
            let (mut n_changes, mut last) = (0, None);
            for event in start(joined, 8).expect("starts").events() {
                let Event::Batch(batch) = event else { continue };
                n_changes += batch.changes.len();
                last = batch.resume.or(last);
            }
            (how, n_changes, last)
        };
        let lines = || JsonLines::open("q", &path).expect("there");
        let nothing = || Nothing(SourceName::new("q"));
        let alone = || Joined::new("q").with_empty(nothing()).with(lines(), None);
        let (_, n_changes, offset) = resumed(alone(), None);
        // Nothing told where `x` was read: it is said again.
        assert_eq!(n_changes, 1);
        let (how, n_changes, _) = resumed(alone(), offset.clone());
        assert_eq!((how, n_changes), (Resumption::FromOffset, 0));
        let two = Joined::new("q").with(nothing(), None).with(lines(), None);
        let (how, n_changes, last) = resumed(two, offset);
        assert_eq!((how, n_changes), (Resumption::Anew, 1));
        assert_eq!(last, Some(Offset::Parts(BTreeMap::new())));
    }

    /// A source of nothing that goes on, and wants to know.
    struct Told(SourceName, Sender<(Offset, Option<u64>)>);

    struct Heard(Sender<(Offset, Option<u64>)>);

    impl Acks for Heard {
        fn committed(&mut self, offset: &Offset, epoch: Option<u64>) {
            let heard = (offset.clone(), epoch);
            self.0.send(heard).expect("the test listens");
        }
    }

    impl Source for Told {
        fn name(&self) -> &SourceName {
            &self.0
        }

        fn resume_from(&mut self, from: Resume) -> Resumption {
            // Nobody says it again.
            match from.offset {
                Some(_) => Resumption::FromOffset,
                None => Resumption::Anew,
            }
        }

        fn acks(&mut self) -> Option<Box<dyn Acks>> {
            Some(Box::new(Heard(self.1.clone())))
        }

        fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
            out.send(Event::CaughtUp)
        }
    }

    #[test]
    fn a_part_is_told_of_its_own_and_goes_on_beside_several_that_begin_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("q.jsonl");
        fs::write(&path, "{\"key\": \"x\", \"text\": \"Text.\"}\n").expect("writable");
        let (sender, told) = crossbeam_channel::unbounded();
        let mut joined = Joined::new("q")
            .with(Nothing(SourceName::new("q")), None)
            .with(JsonLines::open("q", &path).expect("there"), None)
            .with(Told(SourceName::new("q"), sender), Some("http#".into()))
            .boxed();
        let text = Row::of_text("Text.");
        let parts = BTreeMap::from([("http#".to_owned(), Offset::Sequence(7))]);
        let held = ["x", "gone", "http#y"].map(|key| (Key::new(key), text.clone()));
        let how = joined.resume_from(Resume {
            held: held.to_vec(),
            offset: Some(Offset::Parts(parts.clone())),
        });
        assert_eq!(how, Resumption::FromOffset);
        let mut acks = joined.acks().expect("one part wants to know");
        acks.committed(&Offset::Parts(BTreeMap::new()), Some(1));
        acks.committed(&Offset::Parts(parts.clone()), Some(2));
        let heard: Vec<_> = told.try_iter().collect();
        assert_eq!(heard, [(Offset::Sequence(7), Some(2))]);
        let (said, last) = said(joined);
        // What begins anew is deleted and comes again; what was posted stands.
        assert_eq!(said, ["+x", "-gone", "-x"]);
        assert_eq!(last, Some(Offset::Parts(parts)));
    }

    #[test]
    fn a_part_that_is_no_more_takes_its_offset_along() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = |name: &str| {
            let path = dir.path().join(name);
            let line = format!("{{\"key\": \"{name}\", \"text\": \"Text.\"}}\n");
            fs::write(&path, line).expect("writable");
            JsonLines::open("docs", &path).expect("there")
        };
        let joined = |names: &[&str]| {
            let joined = names.iter().fold(Joined::new("docs"), |joined, name| {
                joined.with(open(name), Some(format!("{name}#")))
            });
            joined.boxed()
        };
        let text = Row::of_text("Text.");
        let mut held = Vec::new();
        let mut offset = None;
        for (names, changes) in [
            (&["t", "u", "v"][..], &["+t#t", "+u#u", "+v#v"][..]),
            (&["u", "v"], &["-t#t"]),
            (&["t", "u", "v"], &["+t#t"]),
        ] {
            let mut joined = joined(names);
            joined.resume_from(Resume {
                held: std::mem::take(&mut held),
                offset: offset.take(),
            });
            let (said, last) = said(joined);
            offset = last;
            assert_eq!(said, changes);
            let keys = names.iter().map(|name| Key::new(format!("{name}#{name}")));
            held = keys.map(|key| (key, text.clone())).collect();
        }
    }

    #[test]
    fn the_failure_of_one_is_the_failure_of_all() {
        struct Fails(SourceName);
        impl Source for Fails {
            fn name(&self) -> &SourceName {
                &self.0
            }
            fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
                out.send(Event::CaughtUp)?;
                let path = "docs".into();
                Err(Halt::Failed(perennial::connectors::Error::RootGone {
                    path,
                }))
            }
        }
        let stays = tempfile::tempdir().expect("a folder");
        let stays = Folder::open("docs", [stays.path()]).expect("there");
        let joined = Joined::new("docs")
            .with(Fails(SourceName::new("docs")), None)
            .with(stays, Some("s".into()));
        let running = start(joined, 8).expect("starts");
        let mut events = running.events().iter();
        assert!(events.any(|event| matches!(event, Event::Failed(_))));
    }
}
