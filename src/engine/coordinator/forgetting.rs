//! What the coordinator does to forget a document; `engine/forget.rs` says what that means.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use perennial_connectors::DeadLetters;
use perennial_rows::Key;
use perennial_views::Epoch;
use serde_json::Value;

use super::view::View;
use super::waiting::Bound;
use super::{Coordinator, Durable};
use crate::engine::clock::now_ms;
use crate::engine::error::Error;
use crate::engine::forget::{Forgetting, Receipt, RowToForget, is_of};
use crate::engine::letters::{self, Reads};
use crate::engine::names::{StreamId, ViewId};
use crate::engine::needles::Needles;
use crate::engine::quarantine::QuarantineDeltas;
use crate::engine::reading::Origin;
use crate::engine::recent::Recent;
use crate::engine::sinks::{RunningSink, keep_last};
use crate::engine::update::Update;
use crate::fault;
use crate::state::{Note, State, StateError};

impl Coordinator {
    /// Deletes rows of a table, and remembers to erase them once no answer reads them. Without a key,
    /// what is left of rows that are gone is erased.
    pub(super) fn begin_forgetting(
        &mut self,
        id: StreamId,
        is_table: bool,
        rows: Vec<RowToForget>,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else {
            // It was dropped meanwhile.
            return;
        };
        let fragments = Arc::new(self.models.fragments());
        let mut begun = Vec::new();
        for asked in rows {
            let there = asked.key.as_ref();
            let there = there.filter(|key| stream.table.holds(key.as_str()));
            let was_there = there.is_some();
            if let Some(key) = there {
                if !is_table {
                    let (stream, key) = (stream.name.to_string(), key.to_string());
                    // A caller that no longer waits is no error.
                    let _ = asked.reply.send(Err(Error::StillThere { stream, key }));
                    continue;
                }
                stream.table.set(key.clone(), None);
            }
            let key = asked.key.as_ref();
            if let Some(key) = key {
                stream.table.forget_deletion(key.as_str());
            }
            let row = key.and_then(|key| stream.table.get(key.as_str()));
            begun.push(Forgetting {
                stream: id,
                row: row.cloned(),
                bound: Bound::Open,
                fragments: fragments.clone(),
                receipt: Receipt {
                    stream: stream.name.to_string(),
                    key: key.map(Key::to_string).unwrap_or_default(),
                    was_there,
                    ..Receipt::default()
                },
                asked,
            });
        }
        // While it is known what is forgotten: after a crash, it may not be. What goes wrong here does so again at
        // the end, and is told then.
        let _ = self.erase_letters(&mut begun);
        self.forgetting.extend(begun);
        self.note_forgetting();
    }

    /// Tells the views whether something is being forgotten.
    fn note_forgetting(&self) {
        for view in self.views.values().filter_map(View::generating) {
            let is_forgetting = !self.forgetting.is_empty();
            view.services.book.set_forgetting(is_forgetting);
        }
    }

    /// Stores epochs that carry deletions which every view reflects, where no view has: what is to be
    /// erased must be gone from the rows that are stored.
    pub(super) fn store_forgotten(&mut self) -> Result<(), StateError> {
        let stands_at = self.stands_at();
        let upto = self.forgetting.iter();
        let upto = upto.filter(|of| of.bound.is_reached(stands_at));
        let Some(upto) = upto.filter_map(|of| of.bound.epoch()).max() else {
            return Ok(());
        };
        for closed in self.take_closed(upto) {
            self.store_rows(closed, now_ms())?;
        }
        Ok(())
    }

    /// Erases what remembers documents that no answer reads any more.
    pub(super) fn forget(&mut self) {
        let (stands_at, first) = (self.stands_at(), self.unstored.front());
        let first = first.map(|closed| closed.epoch);
        let is_stored = |upto: Option<Epoch>| first.is_none_or(|first| upto < Some(first));
        let is_ready =
            |of: &mut Forgetting| of.bound.is_reached(stands_at) && is_stored(of.bound.epoch());
        let mut all: Vec<Forgetting> = self.forgetting.extract_if(.., is_ready).collect();
        self.note_forgetting();
        for forgetting in &mut all {
            self.withdraw(forgetting);
        }
        while !all.is_empty() {
            match self.erase(&mut all) {
                Ok(()) => {
                    for Forgetting { asked, receipt, .. } in all.drain(..) {
                        // A caller that no longer waits is no error.
                        let _ = asked.reply.send(Ok(receipt));
                    }
                }
                // For the others it is tried again, and each hears how it ended.
                Err(error) => {
                    let _ = all.remove(0).asked.reply.send(Err(error));
                }
            }
        }
    }

    /// Takes back what is held in memory of a document.
    fn withdraw(&mut self, forgetting: &mut Forgetting) {
        let receipt = &mut forgetting.receipt;
        receipt.epoch = self.last_complete().max(forgetting.bound.epoch());
        if let Some(key) = &forgetting.asked.key {
            let (name, key) = (receipt.stream.clone(), key.as_str());
            let is_its = |update: &Update| match update {
                Update::Rejected(rejected) => is_of(rejected, &name, key),
                _ => false,
            };
            receipt.n_rejected = self.quarantine.forget(&name, key);
            self.announced.retain(|update| !is_its(update));
            receipt.n_updates = self.hub.withdraw(is_its);
        }
        // Of who asks why, nobody is told of it any more.
        self.streams
            .values_mut()
            .for_each(|of| of.recent = Recent::default());
        self.views.values_mut().for_each(View::forget_causes);
        let readers = self.readers(Origin::Stream(forgetting.stream));
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
    }

    /// Erases what the state directory and the stores of fragments hold of what is gone, looks for
    /// what is left, and keeps the receipts.
    fn erase(&mut self, all: &mut [Forgetting]) -> Result<(), Error> {
        let forgotten = self.quarantine.unsaved_forgotten();
        let erased = match &self.durable {
            Some(durable) => {
                let keys = all
                    .iter()
                    .filter_map(|of| Some((&of.receipt, of.asked.key.as_ref()?)));
                // When they were deleted names them, too.
                let times = keys.map(|(of, key)| (of.stream.clone(), key.to_string(), None));
                // Whose keys these are nobody knows but the memories that are open.
                durable.state.remove_latent()?;
                Some(erase(&durable.state, times.collect(), forgotten)?)
            }
            None => None,
        };
        self.quarantine.note_forgotten_saved();
        self.models.purge().map_err(StateError::from)?;
        let kept = self.models.fragments();
        for Forgetting {
            receipt, fragments, ..
        } in &mut *all
        {
            receipt.n_fragments = fragments.difference(&kept).count();
            if let Some((n_epochs, n_bytes)) = erased {
                (receipt.n_epochs, receipt.n_state_bytes) = (n_epochs, Some(n_bytes));
            }
        }
        let is_left = self.erase_letters(all)?;
        self.note_remains(all)?;
        for forgetting in &mut *all {
            let remains = &mut forgetting.receipt.remains;
            remains.extend(is_left.iter().cloned());
        }
        let forgotten_at_ms = now_ms();
        for forgetting in &mut *all {
            forgetting.receipt.forgotten_at_ms = forgotten_at_ms;
        }
        let of_keys = all.iter().filter(|of| of.asked.key.is_some());
        let mut receipts = of_keys.map(|of| &of.receipt).peekable();
        if let (Some(durable), Some(_)) = (&self.durable, receipts.peek()) {
            durable.state.keep_receipts(receipts)?;
        }
        Ok(())
    }

    /// Takes out of the files of dead letters what tells of these. Returns where that may still stand.
    fn erase_letters(&self, all: &mut [Forgetting]) -> Result<Vec<String>, StateError> {
        let state = self.durable.as_ref().map(|durable| &*durable.state);
        let files = files_of_letters(&self.sinks, state)?;
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let mut needles = Needles::default();
        let mut own = HashSet::new();
        for (number, forgetting) in all.iter().enumerate() {
            let Some(key) = &forgetting.asked.key else {
                continue;
            };
            own.insert((forgetting.stream, key.as_str()));
            if let Some(row) = &forgetting.row {
                letters::add_row(&mut needles, key.as_str(), row, number);
            }
        }
        let rows = self.streams.iter().flat_map(|(id, of)| {
            let rows = of.table.rows();
            rows.map(move |(key, row)| ((*id, key.as_str()), row))
        });
        let others = rows.filter(|(of, _)| !own.contains(of));
        let texts = others.flat_map(|(_, row)| letters::texts(row));
        if let Err(error) = needles.drop_said_in(texts) {
            return Ok(vec![format!("dead letters: {error}")]);
        }
        let readers = all.iter().map(|of| self.readers(of.origin()));
        let readers: Vec<BTreeSet<ViewId>> = readers.collect();
        let named = |letter: &Value| -> BTreeSet<usize> {
            let view = letter["view"].as_str().unwrap_or_default();
            let named = all.iter().zip(&readers).enumerate();
            let named = named.filter(|(_, (of, readers))| {
                let reads = self.reads_of(view, of.origin(), readers);
                let key = of.asked.key.as_ref();
                key.is_some_and(|key| letters::names(letter, key.as_str(), reads))
            });
            named.map(|(number, _)| number).collect()
        };
        let (mut n_gone, mut is_left) = (BTreeMap::<usize, usize>::new(), Vec::new());
        for (path, letters) in files {
            match letters.and_then(|letters| letters::erase(&letters, &needles, named)) {
                Ok(of_file) => {
                    for (number, n) in of_file {
                        *n_gone.entry(number).or_default() += n;
                    }
                }
                Err(reason) => is_left.push(format!("dead letters, {}: {reason}", path.display())),
            }
        }
        for (number, n) in n_gone {
            all[number].receipt.n_letters += n;
        }
        Ok(is_left)
    }

    /// How a view that letters are of reads what is forgotten.
    fn reads_of(&self, view: &str, origin: Origin, readers: &BTreeSet<ViewId>) -> Reads {
        let Some((id, view)) = self.views.iter().find(|(_, of)| &*of.name == view) else {
            // It was dropped, or is of another engine.
            return Reads::UNKNOWN;
        };
        let is_read = |of: Origin| match of {
            Origin::View(read) => readers.contains(&read),
            stream => stream == origin,
        };
        match view.generating() {
            Some(view) => Reads {
                as_documents: is_read(view.documents),
                as_rows: is_read(view.contexts),
            },
            None => Reads {
                as_documents: false,
                as_rows: readers.contains(id),
            },
        }
    }

    /// Notes in each receipt where something of its document is still found.
    fn note_remains(&self, all: &mut [Forgetting]) -> Result<(), Error> {
        let unreferenced = self.models.unreferenced();
        // Where views are at work, what no layout refers to yet is theirs.
        let is_busy = self.is_busy();
        let mut needles = Needles::default();
        for (number, forgetting) in all.iter_mut().enumerate() {
            let remains = &mut forgetting.receipt.remains;
            remains.clear();
            let stream = self.streams.get(&forgetting.stream);
            if let (Some(stream), Some(key)) = (stream, &forgetting.asked.key)
                && stream.table.holds(key.as_str())
            {
                remains.push("the stream".to_owned());
            }
            let is_left = match is_busy {
                true => !unreferenced.is_disjoint(&forgetting.fragments),
                false => !unreferenced.is_empty(),
            };
            if is_left {
                remains.push("the fragment store".to_owned());
            }
            if let Some(recorder) = &self.recording {
                remains.push(format!("the recording {}", recorder.path().display()));
            }
            if let Some(row) = &forgetting.row {
                needles.add(&row.text, number);
            }
        }
        let Some(Durable { state, .. }) = &self.durable else {
            return Ok(());
        };
        // What another document says as well is not this one's trace.
        let rows = self.streams.values().flat_map(|of| of.table.rows());
        let unreadable = |error| state.unreadable(error);
        let others = rows.map(|(_, row)| &*row.text);
        needles.drop_said_in(others).map_err(unreadable)?;
        let files = state.files()?;
        let found = needles.found_in(files.iter().map(|file| &**file as &Path));
        for number in found.map_err(unreadable)? {
            let remains = &mut all[number].receipt.remains;
            remains.push("the state directory".to_owned());
        }
        Ok(())
    }
}

/// The files of dead letters that are known: those of sinks that are there, and those that a state directory knows of
/// sinks that were. Each opened, or why it is not.
fn files_of_letters(
    sinks: &[RunningSink],
    state: Option<&State>,
) -> Result<BTreeMap<PathBuf, Result<DeadLetters, String>>, StateError> {
    let running = sinks.iter().filter_map(|sink| sink.dead_letters.as_ref());
    let mut files: BTreeMap<PathBuf, Result<DeadLetters, String>> = running
        .map(|of| (of.path().to_owned(), Ok(of.file().clone())))
        .collect();
    if let Some(state) = state {
        for (path, opened) in state.open_letters(|path| files.contains_key(path))? {
            files.insert(path, opened);
        }
    }
    Ok(files)
}

/// Erases what a state directory remembers of what is gone. Returns the epochs cut off its
/// history, and the bytes of its file.
fn erase(
    state: &State,
    deletions: Vec<(String, String, Option<i64>)>,
    quarantine: QuarantineDeltas,
) -> Result<(u64, u64), StateError> {
    fault::FORGET_BEGIN.reach();
    forget_owed(state)?;
    // Rows may be pending: their offsets are not noted before they are stored.
    state.note(&Note {
        offsets: Vec::new(),
        schemas: Vec::new(),
        deletions,
        quarantine,
        resubmitted: Vec::new(),
    })?;
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
