//! What waits to be told to one subscriber?

use std::collections::VecDeque;
use std::sync::Arc;

use perennial_rows::{Schema, Tuple};
use perennial_views::Epoch;
use serde_json::json;

use super::super::json;
use super::answers::Said;
use super::{Event, EventId};

/// Something to be told, in the form in which it takes least.
pub(super) enum Ready {
    Event(Event),
    /// An answer that stands, for who knows nothing of it.
    Fresh(Arc<Said>),
    /// What an answer became.
    Changed(Arc<Said>),
    /// By how much the count of a row changes.
    Row(Schema, Epoch, Tuple, isize),
}

impl Ready {
    fn event(self) -> Event {
        match self {
            Self::Event(event) => event,
            Self::Fresh(said) => Event::new("answer", said.fresh_json()),
            Self::Changed(said) => Event::new("answer", said.json()),
            Self::Row(columns, epoch, tuple, count) => {
                let row = json::row(&columns, &tuple);
                let data = json!({"epoch": epoch, "count": count, "row": row});
                Event::json("row", &data)
            }
        }
    }
}

/// What waits to be told, and how far the subscriber was told.
#[derive(Default)]
pub(super) struct Queue {
    ready: VecDeque<Ready>,
    /// The last id that was told.
    told: Option<EventId>,
    /// Whether something was told since that counts only with the next id.
    is_within: bool,
}

impl Queue {
    pub(super) fn push(&mut self, ready: Ready) {
        self.ready.push_back(ready);
    }

    pub(super) fn extend(&mut self, ready: impl IntoIterator<Item = Ready>) {
        self.ready.extend(ready);
    }

    /// Takes what is told next.
    pub(super) fn pop(&mut self) -> Option<Event> {
        let ready = self.ready.pop_front()?;
        match &ready {
            Ready::Event(event) => match event.id {
                Some(id) => (self.told, self.is_within) = (Some(id), false),
                None => self.is_within |= matches!(event.name, "snapshot" | "reset"),
            },
            Ready::Fresh(_) | Ready::Changed(_) | Ready::Row(..) => self.is_within = true,
        }
        Some(ready.event())
    }

    /// Drops what waits.
    pub(super) fn clear(&mut self) {
        // Its memory, too.
        self.ready = VecDeque::new();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// The last id that was told.
    pub(super) fn told(&self) -> Option<EventId> {
        self.told
    }

    /// Whether the subscriber was told a part of what changes up to the next id.
    pub(super) fn is_within(&self) -> bool {
        self.is_within
    }
}
