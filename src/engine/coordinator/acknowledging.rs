//! Which sources are told that what they said is there for good?
//!
//! # Invariants
//! - An offset is told after the commit that holds it, and when every view that reads the stream
//!   reflects it; never before. Without a state directory, when these views reflect it. Views that
//!   let changes wait on purpose (`pacing.rs`), and those that read one, are not waited for.
//! - Each offset is told once.

use std::collections::{BTreeSet, VecDeque};

use perennial_connectors::{Acks, Offset};
use perennial_views::Epoch;

use super::Coordinator;
use super::stream::Stream;
use crate::engine::names::ViewId;
use crate::engine::reading::Origin;

/// Who is told how far a source's batches are committed.
pub(super) struct Listener {
    acks: Box<dyn Acks>,
    /// What it was told last, or will be.
    noted: Option<Offset>,
    /// Offsets that are stored, with the epochs that hold all up to them.
    untold: VecDeque<(Option<Epoch>, Offset)>,
}

impl Listener {
    /// Nothing of this run is there yet: what an earlier one left, `stored`, is not told.
    pub(super) fn new(acks: Box<dyn Acks>, stored: Option<Offset>) -> Self {
        Self {
            acks,
            noted: stored,
            untold: VecDeque::new(),
        }
    }
}

impl Stream {
    /// Notes that an offset is stored, and the columns beside it, and which epoch holds all up to it.
    pub(super) fn save(&mut self, offset: Option<Offset>, epoch: Option<Epoch>) {
        if let (Some(listener), Some(offset)) = (&mut self.listener, &offset)
            && listener.noted.as_ref() != Some(offset)
        {
            listener.noted = Some(offset.clone());
            listener.untold.push_back((epoch, offset.clone()));
        }
        self.saved = offset;
        self.is_schema_saved = true;
    }
}

impl Coordinator {
    /// Tells the offsets that are stored, where every reader reflects what is before them.
    pub(super) fn acknowledge(&mut self) {
        let is_heard = |stream: &Stream| {
            stream
                .listener
                .as_ref()
                .is_some_and(|l| !l.untold.is_empty())
        };
        let heard = self.streams.iter().filter(|(_, stream)| is_heard(stream));
        let heard: Vec<_> = heard.map(|(id, _)| *id).collect();
        for id in heard {
            let readers = self.readers(Origin::Stream(id));
            let prompt = readers.iter().filter(|view| self.is_prompt(**view));
            let stands = prompt.map(|view| self.views[view].stands_at);
            let visible = stands.min().unwrap_or(self.closed);
            let stream = self.streams.get_mut(&id);
            let Some(listener) = stream.and_then(|stream| stream.listener.as_mut()) else {
                continue;
            };
            let n = listener
                .untold
                .partition_point(|(epoch, _)| *epoch <= visible);
            if let Some((_, offset)) = listener.untold.drain(..n).next_back() {
                listener.acks.committed(&offset, visible);
            }
        }
    }

    /// The views that read something, or a view that does.
    pub(super) fn readers(&self, origin: Origin) -> BTreeSet<ViewId> {
        let mut readers = BTreeSet::new();
        // A view reads only what was made before it.
        for (id, view) in &self.views {
            let is_reader = |read: &ViewId| view.reads(Origin::View(*read));
            if view.reads(origin) || readers.iter().any(is_reader) {
                readers.insert(*id);
            }
        }
        readers
    }
}
