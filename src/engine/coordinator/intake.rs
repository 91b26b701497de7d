//! What becomes of what a source says: rows that wait for the next epoch, refusals, words for
//! subscribers.

use perennial_connectors::{
    Batch, CONTENT_LIMIT, Change, Event, Notice, Rejected, Rejection, SourceName,
};

use super::Coordinator;
use crate::engine::names::StreamId;
use crate::engine::update::Update;

impl Coordinator {
    pub(super) fn take_event(&mut self, id: StreamId, event: Option<Event>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let source = stream.name.to_string();
        match event {
            Some(Event::Batch(batch)) => self.take_batch(id, batch),
            Some(Event::CaughtUp) => {
                stream.has_caught_up = true;
                if std::mem::take(&mut stream.is_recreated) {
                    stream.resume = stream.resume_recreated.take();
                    stream.table.drop_unconfirmed();
                }
            }
            Some(Event::Notice(notice)) => {
                match notice {
                    Notice::StartedOver { .. } => stream.table.start_over(),
                    Notice::Recreated { .. } => {
                        stream.table.start_over();
                        stream.is_recreated = true;
                        stream.has_caught_up = false;
                    }
                    _ => {}
                }
                self.announce(Update::Notice {
                    source,
                    message: notice.to_string(),
                });
            }
            Some(Event::Ended) => {
                stream.has_caught_up = true;
                stream.source = None;
                self.announce(Update::SourceEnded { source });
            }
            Some(Event::Failed(error)) => {
                let message = error.to_string();
                stream.fail(&message);
                self.announce(Update::SourceFailed { source, message });
            }
            Some(_) => {}
            None => {
                let message =
                    "the source ended without a word; standard error tells of a panic".to_owned();
                stream.fail(&message);
                self.announce(Update::SourceFailed { source, message });
            }
        }
    }

    fn take_batch(&mut self, id: StreamId, batch: Batch) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if batch.resume.is_some() {
            // Until all of another topic is read, the offsets of the old one tell that it is
            // another.
            match stream.is_recreated {
                true => stream.resume_recreated = batch.resume,
                false => stream.resume = batch.resume,
            }
        }
        let mut rejected = batch.rejected;
        for change in batch.changes {
            let (key, row) = match change {
                Change::Upsert(record) => {
                    let newer = stream.table.newer_than(record.key.as_str(), &record.row);
                    if let Some(held_ms) = newer {
                        let got_ms = record.row.updated_at_ms;
                        let content = record.to_json().to_string().into_bytes();
                        rejected.push(Rejected {
                            source: SourceName::new(&*stream.name),
                            offset: record.offset,
                            key: Some(record.key),
                            reason: Rejection::Late { held_ms, got_ms },
                            content: Some(content).filter(|c| c.len() <= CONTENT_LIMIT),
                        });
                        continue;
                    }
                    (record.key, Some(record.row))
                }
                Change::Delete { key, .. } => (key, None),
            };
            self.quarantine.accept(&stream.name, key.as_str());
            stream.table.set(key, row);
        }
        for rejected in rejected {
            self.quarantine.add(&rejected);
            self.announce(Update::Rejected(rejected));
        }
    }
}
