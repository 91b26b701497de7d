//! What the coordinator does to forget a document; `engine/forget.rs` says what that means.

use std::collections::{HashMap, HashSet};

use crossbeam_channel::Sender;
use perennial_rows::{Key, Row};

use super::Coordinator;
use crate::engine::clock::now_ms;
use crate::engine::error::Error;
use crate::engine::forget::{Forgetting, Receipt, is_of};
use crate::engine::names::StreamId;
use crate::engine::reading::Origin;
use crate::engine::sinks::{RunningSink, keep_last};
use crate::engine::update::Update;
use crate::fault;
use crate::state::{Note, State, StateError};

impl Coordinator {
    /// Deletes a row of a table, and remembers to erase it once no answer reads it. Without a key,
    /// what is left of rows that are gone is erased.
    pub(super) fn begin_forgetting(
        &mut self,
        id: StreamId,
        key: Option<Key>,
        is_table: bool,
        reply: Sender<Result<Receipt, Error>>,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else {
            // It was dropped meanwhile.
            return;
        };
        let there = key.as_ref().filter(|key| stream.table.holds(key.as_str()));
        let was_there = there.is_some();
        if let Some(key) = there {
            if !is_table {
                let (stream, key) = (stream.name.to_string(), key.to_string());
                // A caller that no longer waits is no error.
                let _ = reply.send(Err(Error::StillThere { stream, key }));
                return;
            }
            let key = key.clone();
            stream.table.set(key, None);
        }
        if let Some(key) = &key {
            stream.table.forget_deletion(key.as_str());
        }
        let row = key.as_ref().and_then(|key| stream.table.get(key.as_str()));
        self.forgetting.push(Forgetting {
            stream: id,
            row: row.cloned(),
            fragments: self.models.fragments(),
            receipt: Receipt {
                stream: stream.name.to_string(),
                key: key.as_ref().map(Key::to_string).unwrap_or_default(),
                was_there,
                ..Receipt::default()
            },
            key,
            reply,
        });
    }

    /// Erases what remembers documents that no answer reads any more.
    pub(super) fn forget(&mut self) {
        let mut all = std::mem::take(&mut self.forgetting);
        if all.is_empty() {
            return;
        }
        for Forgetting {
            stream,
            key,
            fragments,
            receipt,
            ..
        } in &mut all
        {
            let stream = *stream;
            receipt.epoch = self.last_complete();
            if let Some(key) = key {
                let (name, key) = (receipt.stream.clone(), key.as_str());
                let is_its = |update: &Update| match update {
                    Update::Rejected(rejected) => is_of(rejected, &name, key),
                    _ => false,
                };
                receipt.n_rejected = self.quarantine.forget(&name, key);
                self.announced.retain(|update| !is_its(update));
                receipt.n_updates = self.hub.withdraw(is_its);
            }
            let readers = self.readers(Origin::Stream(stream));
            for view in readers.iter().map(|id| &self.views[id]) {
                receipt.n_updates += self.hub.forget(&view.name);
                let Some(view) = view.generating() else {
                    continue;
                };
                let failed = view.answers.iter().filter(|(_, a)| a.answer.is_err());
                for (context, _) in failed {
                    view.services.book.remove(context);
                }
            }
            receipt.n_updates += self.sinks.iter().map(RunningSink::forget).sum::<usize>();
            let kept = self.models.fragments();
            receipt.n_fragments = fragments.difference(&kept).count();
        }
        // What several leave is erased at once; where that fails, each tries again, and says so.
        let mut done: Option<Option<(u64, u64)>> = None;
        for Forgetting {
            stream,
            key,
            row,
            mut receipt,
            reply,
            ..
        } in all
        {
            let erased = match done {
                Some(erased) => Ok(erased),
                None => self.erase(),
            };
            let outcome = erased.and_then(|erased| {
                done = Some(erased);
                if let Some((n_epochs, n_bytes)) = erased {
                    receipt.n_epochs = n_epochs;
                    receipt.n_state_bytes = Some(n_bytes);
                }
                receipt.remains = self.remains(stream, key.as_ref(), row.as_ref())?;
                receipt.forgotten_at_ms = now_ms();
                if let (Some(durable), Some(_)) = (&self.durable, &key) {
                    durable.state.keep_receipt(&receipt)?;
                }
                Ok(receipt)
            });
            // A caller that no longer waits is no error.
            let _ = reply.send(outcome);
        }
    }

    /// Erases what the state directory and the stores of fragments hold of what is gone. Returns the
    /// epochs cut off the history, and the bytes of the state file, where there is one.
    fn erase(&mut self) -> Result<Option<(u64, u64)>, Error> {
        // Every row is stored: nothing is in flight or pending.
        let note = self.note();
        let erased = match &self.durable {
            Some(durable) => Some(erase(&durable.state, &note)?),
            None => None,
        };
        self.models.purge().map_err(StateError::from)?;
        Ok(erased)
    }

    /// Where something of a forgotten row is still found.
    fn remains(
        &self,
        stream: StreamId,
        key: Option<&Key>,
        row: Option<&Row>,
    ) -> Result<Vec<String>, Error> {
        let mut remains = Vec::new();
        let stream = self.streams.get(&stream);
        if let (Some(stream), Some(key)) = (stream, key)
            && stream.table.holds(key.as_str())
        {
            remains.push("the stream".to_owned());
        }
        if self.models.hold_unreferenced() {
            remains.push("the fragment store".to_owned());
        }
        if let Some(recorder) = &self.recording {
            remains.push(format!("the recording {}", recorder.path().display()));
        }
        if let (Some(durable), Some(row)) = (&self.durable, row) {
            let is_live = |part: &str| self.streams.values().any(|s| s.table.any_holds(part));
            // What another document says as well is not this one's trace.
            let own: Vec<&str> = row.text.lines().filter(|part| !is_live(part)).collect();
            if durable.state.holds_any(&own)? {
                remains.push("the state directory".to_owned());
            }
        }
        Ok(remains)
    }
}

/// Erases what a state directory remembers of what is gone. Returns the epochs cut off its
/// history, and the bytes of its file.
fn erase(state: &State, note: &Note) -> Result<(u64, u64), StateError> {
    fault::FORGET_BEGIN.reach();
    forget_owed(state)?;
    state.note(note)?;
    let n_epochs = state.cut_history()?;
    fault::FORGET_CUT.reach();
    Ok((n_epochs, state.rewrite()?))
}

/// Of what sinks are owed, drops rows that a later delivery says anew.
fn forget_owed(state: &State) -> Result<(), StateError> {
    let mut seen: HashMap<String, HashSet<String>> = HashMap::new();
    state.keep_last_deliveries(|sink, delivery| {
        keep_last(delivery, seen.entry(sink.to_owned()).or_default());
    })
}
