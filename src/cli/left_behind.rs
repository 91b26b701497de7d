//! Which documents of before are of a source that is not named any more?
//!
//! What is watched is what is named: documents of a file or topic that was read beside others, and is not
//! named now, are gone. That may be meant or not, so it is told.

use perennial::connectors::{
    Acks, Halt, Notice, Offset, Outlet, Resume, Resumption, Source, SourceName,
};
use perennial::rows::Schema;

use super::listen::PREFIX;

/// A source that tells what an earlier run read besides.
pub(crate) struct LeftBehind {
    source: Box<dyn Source>,
    /// What stands before the keys of its parts.
    prefixes: Vec<String>,
    told: Vec<Notice>,
}

impl LeftBehind {
    /// Over a source of parts whose keys have these prefixes.
    pub(crate) fn over(source: Box<dyn Source>, prefixes: Vec<String>) -> Box<dyn Source> {
        let told = Vec::new();
        Box::new(Self {
            source,
            prefixes,
            told,
        })
    }
}

impl Source for LeftBehind {
    fn name(&self) -> &SourceName {
        self.source.name()
    }

    fn resume_from(&mut self, from: Resume) -> Resumption {
        if let Some(Offset::Parts(parts)) = &from.offset {
            // What was posted is told of where it is (`unposted.rs`).
            let is_left = |name: &&String| *name != PREFIX && !self.prefixes.contains(name);
            for name in parts.keys().filter(|name| !name.is_empty()).filter(is_left) {
                let held = from.held.iter();
                let n = held
                    .filter(|(key, _)| key.as_str().starts_with(&**name))
                    .count();
                if n > 0 {
                    self.told.push(Notice::NotRead {
                        what: name.trim_end_matches('#').to_owned(),
                        records: n as u64,
                    });
                }
            }
        }
        self.source.resume_from(from)
    }

    fn acks(&mut self) -> Option<Box<dyn Acks>> {
        self.source.acks()
    }

    fn replays(&self) -> bool {
        self.source.replays()
    }

    fn declare(&mut self, schema: &Schema) {
        self.source.declare(schema);
    }

    fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
        for notice in self.told {
            out.notice(notice)?;
        }
        self.source.run(out)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use perennial::connectors::{Event, JsonLines, Key, start};
    use perennial::rows::Row;

    use super::*;

    #[test]
    fn documents_of_a_file_that_is_not_named_any_more_are_told_of() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("docs.jsonl");
        std::fs::write(&path, "{\"key\":\"a\",\"text\":\"t\"}\n").expect("writable");
        let told = |prefixes: &[&str]| {
            let lines = JsonLines::open("docs", &path).expect("there");
            let prefixes = prefixes.iter().map(|name| String::from(*name)).collect();
            let mut source = LeftBehind::over(Box::new(lines), prefixes);
            let held = ["faq.csv#1", "faq.csv#2", "log.jsonl#a", "a.md", "http#x"];
            let offset = || Offset::Sequence(0);
            let parts = ["", "faq.csv#", "log.jsonl#", "empty.csv#", PREFIX];
            let parts = parts.map(|name| (name.to_owned(), offset()));
            source.resume_from(Resume {
                held: held
                    .map(|key| (Key::new(key), Row::of_text("t")))
                    .into_iter()
                    .collect(),
                offset: Some(Offset::Parts(BTreeMap::from(parts))),
            });
            let running = start(source, 16).expect("starts");
            let notices = running.events().iter().filter_map(|event| match event {
                Event::Notice(notice) => Some(notice.to_string()),
                _ => None,
            });
            notices.collect::<Vec<_>>()
        };
        let all = told(&[""]);
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all[0].starts_with("faq.csv: not named any more"), "{all:?}");
        assert!(
            all[0].contains("2 records") && all[1].contains("1 record,"),
            "{all:?}"
        );
        assert_eq!(told(&["", "faq.csv#"]).len(), 1);
        assert!(told(&["", "faq.csv#", "log.jsonl#"]).is_empty());
    }
}
