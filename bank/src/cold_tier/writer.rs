//! The thread that writes segments: appends, compacts, deletes.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use perennial_model::kv::KvFragment;

use super::segment::{Appender, HEAD_BYTES, HEADER_BYTES, Header};
use super::{Extent, LAST_WAIT, Place, Shared, WantedFragment, segment_bytes};
use crate::id::FragmentId;

/// What the thread is asked.
pub(super) enum Job {
    /// Write this.
    Keep {
        id: FragmentId,
        kv: Arc<KvFragment>,
        cost_tokens: usize,
    },
    /// Look what is wanted, and what is dead.
    Tidy,
    /// Leave nothing on the disk but this.
    Purge {
        live: HashSet<FragmentId>,
        reply: Sender<io::Result<()>>,
    },
    /// Write what is wanted, and end.
    Stop,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    /// The segment that is appended to, and its number.
    open: Option<(u64, Appender)>,
    /// Whether the disk took nothing last time: told once until it does.
    is_failing: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            open: None,
            is_failing: false,
        }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Job>) {
        let mut has_wanted = false;
        loop {
            // What leaves the memory goes first: it cannot wait.
            let job = match has_wanted {
                true => inbox.try_recv().ok(),
                false => match inbox.recv() {
                    Ok(job) => Some(job),
                    Err(_) => return,
                },
            };
            match job {
                Some(Job::Keep {
                    id,
                    kv,
                    cost_tokens,
                }) => {
                    self.write(id, &kv, cost_tokens);
                    let n_bytes = kv.n_bytes() as u64;
                    self.shared.n_leaving.fetch_sub(n_bytes, Ordering::Relaxed);
                    // A sweep may have asked for more while the channel was full.
                    has_wanted = true;
                }
                Some(Job::Tidy) => {
                    self.tidy(2);
                    has_wanted = true;
                }
                Some(Job::Purge { live, reply }) => {
                    // Whoever no longer waits for it is no error.
                    let _ = reply.send(self.purge(&live));
                }
                Some(Job::Stop) => {
                    let end = Instant::now() + LAST_WAIT;
                    while Instant::now() < end && self.write_wanted() {}
                    return;
                }
                None => has_wanted = self.write_wanted(),
            }
        }
    }

    /// Writes the next of what is wanted. Returns whether there was one.
    fn write_wanted(&mut self) -> bool {
        let next = self.shared.lock().wanted.pop_front();
        let Some(WantedFragment {
            id,
            kv,
            cost_tokens,
        }) = next
        else {
            return false;
        };
        if let Some(kv) = kv.upgrade() {
            self.write(id, &kv, cost_tokens);
        }
        true
    }

    fn write(&mut self, id: FragmentId, kv: &KvFragment, cost_tokens: usize) {
        if self.shared.lock().places.contains_key(&id) {
            return;
        }
        let n_bytes = (HEAD_BYTES + HEADER_BYTES + kv.n_bytes()) as u64;
        let written = self.append(n_bytes, |appender| {
            appender.append(id, kv, cost_tokens).map(Some)
        });
        match written {
            Ok(true) => {
                self.shared.lock().stats.n_written += 1;
                self.is_failing = false;
            }
            Ok(false) => self.shared.lock().stats.n_refused += 1,
            Err(error) => {
                // What the disk did not take stays in memory, and is offered again after the
                // next epoch.
                self.shared.lock().wanted.clear();
                self.tell(&error);
            }
        }
    }

    fn tell(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_failing, true) {
            let trouble = format!("fragments cannot be kept on disk: {error}");
            self.shared.lock().trouble = Some(trouble);
        }
    }

    /// Appends an entry of at most `n_bytes` bytes to the open segment, if the budget has room.
    fn append(
        &mut self,
        n_bytes: u64,
        append: impl FnOnce(&mut Appender) -> io::Result<Option<(u64, Header)>>,
    ) -> io::Result<bool> {
        let budget = self.shared.budget_bytes;
        if self.shared.lock().n_bytes() + n_bytes > budget {
            self.tidy(8);
            if self.shared.lock().n_bytes() + n_bytes > budget {
                return Ok(false);
            }
        }
        self.append_anyway(append)
    }

    /// Appends an entry. Returns whether there was one to append.
    fn append_anyway(
        &mut self,
        append: impl FnOnce(&mut Appender) -> io::Result<Option<(u64, Header)>>,
    ) -> io::Result<bool> {
        if self.open.is_none() {
            self.open = Some(self.open_segment()?);
        }
        let Some((number, appender)) = &mut self.open else {
            return Ok(false);
        };
        let number = *number;
        let appended = append(appender);
        let n_bytes = appender.n_bytes;
        let is_ended = n_bytes >= segment_bytes(self.shared.budget_bytes);
        let mut index = self.shared.lock();
        if let Some(extent) = index.segments.get_mut(&number) {
            extent.n_bytes = n_bytes;
            extent.n_whole = n_bytes;
            extent.is_open = !is_ended;
        }
        drop(index);
        if is_ended {
            self.open = None;
        }
        let Some((at, header)) = appended? else {
            return Ok(false);
        };
        self.shared.lock().put(Place {
            segment: number,
            at,
            header,
        });
        Ok(true)
    }

    /// The last segment, where it may be appended to, or a new one.
    fn open_segment(&self) -> io::Result<(u64, Appender)> {
        let last = self
            .shared
            .lock()
            .segments
            .last_key_value()
            .map(|(n, e)| (*n, *e));
        if let Some((number, extent)) = last.filter(|(_, extent)| extent.is_open) {
            let appender = Appender::go_on(&self.shared.segment(number), extent.n_whole)?;
            return Ok((number, appender));
        }
        let mut number = last.map_or(0, |(number, _)| number.saturating_add(1));
        let appender = loop {
            match Appender::create(&self.shared.segment(number)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    number = number.checked_add(1).ok_or(error)?;
                }
                created => break created?,
            }
        };
        let extent = Extent {
            n_bytes: appender.n_bytes,
            n_whole: appender.n_bytes,
            n_live_bytes: 0,
            is_open: true,
        };
        self.shared.lock().segments.insert(number, extent);
        Ok((number, appender))
    }

    /// Compacts ended segments of which at least one part in `parts` is dead.
    fn tidy(&mut self, parts: u64) {
        let is_due = |extent: &Extent| {
            let n_dead = extent.n_bytes - extent.n_live_bytes;
            !extent.is_open && n_dead * parts >= extent.n_bytes && has_dead(extent)
        };
        if let Err(error) = self.compact_all(is_due) {
            self.tell(&error);
        }
    }

    /// Compacts the segments that are due.
    fn compact_all(&mut self, is_due: impl Fn(&Extent) -> bool) -> io::Result<()> {
        let mut due = Vec::new();
        for (number, extent) in &mut self.shared.lock().segments {
            if is_due(extent) {
                // None of them is copied into itself, or into another that is deleted next.
                extent.is_open = false;
                due.push(*number);
            }
        }
        let compacted: Vec<io::Result<()>> = due.into_iter().map(|n| self.compact(n)).collect();
        compacted.into_iter().collect()
    }

    /// Moves what is live in a segment to the open one, and deletes the file.
    fn compact(&mut self, number: u64) -> io::Result<()> {
        let path = self.shared.segment(number);
        if self.open.as_ref().is_some_and(|(open, _)| *open == number) {
            self.open = None;
        }
        let places: Vec<Place> = {
            let index = self.shared.lock();
            let places = index.places.values();
            places
                .filter(|place| place.segment == number)
                .cloned()
                .collect()
        };
        for place in places {
            let id = place.header.id;
            // It may have died meanwhile.
            if self.shared.lock().is_elsewhere(&id, &place) {
                continue;
            }
            let copied = self.append_anyway(|appender| {
                let at = appender.copy(&path, place.at, &place.header)?;
                Ok(at.map(|at| (at, place.header)))
            })?;
            if !copied {
                let why = "it is not what was written".to_owned();
                self.shared.lock().lose(&id, why);
            }
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.shared.lock().drop_segment(number);
        Ok(())
    }

    /// Writes what is wanted, and leaves nothing on the disk but what is live.
    fn purge(&mut self, live: &HashSet<FragmentId>) -> io::Result<()> {
        while self.write_wanted() {}
        self.shared.lock().keep_live(|id| live.contains(id));
        self.compact_all(has_dead)?;
        // A file that was deleted must not come back with the power.
        match cfg!(unix) {
            true => std::fs::File::open(&self.shared.dir)?.sync_all(),
            false => Ok(()),
        }
    }
}

/// Whether it holds more than live fragments; or nothing.
fn has_dead(extent: &Extent) -> bool {
    extent.n_live_bytes == 0 || extent.n_live_bytes + HEAD_BYTES as u64 != extent.n_bytes
}
