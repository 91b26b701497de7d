//! What was posted stands in the state directory and nowhere else: a watch that does not listen
//! must not take it for gone.

use perennial::connectors::{
    Acks, Error, Halt, Offset, Outlet, Resume, Resumption, Source, SourceName,
};

use super::listen::PREFIX;

/// A source that nothing is posted to. Where an earlier run left what was posted, it fails before
/// it has said anything, which leaves all as it is.
pub(crate) struct Unposted {
    source: Box<dyn Source>,
    has_posted: bool,
}

impl Unposted {
    pub(crate) fn over(source: Box<dyn Source>) -> Box<dyn Source> {
        Box::new(Self {
            source,
            has_posted: false,
        })
    }
}

impl Source for Unposted {
    fn name(&self) -> &SourceName {
        self.source.name()
    }

    fn resume_from(&mut self, from: Resume) -> Resumption {
        let has_part =
            matches!(&from.offset, Some(Offset::Parts(parts)) if parts.contains_key(PREFIX));
        let mut held = from.held.iter();
        self.has_posted = has_part && held.any(|(key, _)| key.as_str().starts_with(PREFIX));
        match self.has_posted {
            true => Resumption::FromOffset,
            false => self.source.resume_from(from),
        }
    }

    fn acks(&mut self) -> Option<Box<dyn Acks>> {
        self.source.acks()
    }

    fn replays(&self) -> bool {
        self.source.replays()
    }

    fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
        if self.has_posted {
            let name = self.source.name().as_str().to_owned();
            return Err(Halt::Failed(Error::WouldBeLost { name }));
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

    fn events(held: &str, part: &str) -> (Resumption, Vec<Event>) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("docs.jsonl");
        std::fs::write(&path, "{\"key\": \"a\", \"text\": \"one\"}\n").expect("written");
        let lines = JsonLines::open("docs", &path).expect("there");
        let mut source = Unposted::over(Box::new(lines));
        let parts = BTreeMap::from([(part.to_owned(), Offset::Sequence(1))]);
        let how = source.resume_from(Resume {
            held: vec![(Key::new(held), Row::of_text("text"))],
            offset: Some(Offset::Parts(parts)),
        });
        let running = start(source, 4).expect("a thread");
        (how, running.events().iter().collect())
    }

    #[test]
    fn what_was_posted_is_not_taken_for_gone() {
        let (how, events) = events("http#card", PREFIX);
        assert_eq!(how, Resumption::FromOffset);
        let [Event::Failed(error)] = &events[..] else {
            panic!("{events:?}");
        };
        assert!(error.to_string().contains("--listen"), "{error}");
    }

    #[test]
    fn other_sources_go_on() {
        for (held, part) in [("a", ""), ("http#a", ""), ("a", PREFIX)] {
            let (_, events) = events(held, part);
            let is_batch = |event: &&Event| matches!(event, Event::Batch(_));
            assert_eq!(events.iter().filter(is_batch).count(), 1, "{held}");
        }
    }
}
