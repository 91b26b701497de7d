//! Fragments on disk: what the memory has no room for, and what outlives the process.
//!
//! # Goals
//! A fragment that was encoded once is not encoded again because memory was short or the
//! process ended, where reading it is sooner done. It is a cache: whatever is lost or damaged
//! is encoded again, and nothing waits for a disk to sync.
//!
//! # Design
//! Fragments have names that say all they depend on, so they need no transaction with anything
//! else: an entry is right or it is not there. They are appended to segments
//! ([`segment`](self) gives the bytes) by one thread, and read by whoever needs one. Opening reads
//! the headers and so makes the index. What the store's sweep finds referenced and not yet here
//! is written behind the epoch; what leaves the memory sooner is written then, if the thread
//! is not busy. What is no longer referenced leaves the index at once and the disk when half of
//! its segment is dead, or everything dead is purged.
//!
//! All that is here is referenced, so when the budget is full nothing has to give way: what
//! comes is not taken. A cache that made room would write its own contents anew every epoch.
//!
//! Rejected: mapping segments. A mapped file that somebody cuts ends the process, and the
//! tensors are laid out anew anyway; a read of a cached page copies at the same speed. And an
//! index of its own: two files can disagree.
//!
//! # Invariants
//! - What is read is what was written, by its digest; else it is a miss, and is counted.
//! - The bytes of all segments stay within the budget, but for one segment while it is
//!   compacted.
//! - Only the thread writes, and it never holds the index while it does.

mod gauge;
mod segment;
mod writer;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use perennial_model::kv::KvFragment;

use crate::id::FragmentId;
use gauge::Gauge;
use segment::{Found, Header, Unreadable};
use writer::{Job, Writer};

/// Bytes at which a segment is ended, where the budget has room for eight.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Fragments that left the memory and wait to be written, and their bytes; others are lost.
const MAX_LEAVING: (usize, u64) = (64, 64 << 20);
/// How long an end waits for what is still to be written; the rest is encoded again.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Why fragments on disk cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ColdTierError {
    /// A folder or file that cannot be read or written.
    #[error("{path}: {source}; it is a cache, and may be removed", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A segment of a newer version of the program.
    #[error(
        "{path}: format version {found}, this program knows {supported}; use the newer program, or \
         delete the folder: what it holds can be computed again",
        path = path.display()
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that is written here.
        supported: u32,
    },
}

/// What is on disk, and what became of it since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColdStats {
    /// Fragments.
    pub n_fragments: usize,
    /// Bytes of all segments, of which some may be dead.
    pub n_bytes: u64,
    /// Bytes of what is no longer referenced.
    pub n_dead_bytes: u64,
    /// Fragments read.
    pub n_hits: u64,
    /// Fragments not read because encoding them was sooner done.
    pub n_declined: u64,
    /// Fragments written.
    pub n_written: u64,
    /// Fragments not written because the budget was full.
    pub n_refused: u64,
    /// Fragments and ends of segments that were not what had been written.
    pub n_damaged: u64,
}

/// Where a fragment is.
#[derive(Clone, Debug)]
struct Place {
    segment: u64,
    at: u64,
    header: Header,
}

/// A segment as it is counted.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    /// Bytes of the file.
    n_bytes: u64,
    /// Of these, up to the end of the last whole fragment.
    n_whole: u64,
    /// Of these, of fragments that are in the index.
    n_live_bytes: u64,
    /// Whether it may be appended to.
    is_open: bool,
}

/// A fragment that is to be written, if it is still in memory then.
struct WantedFragment {
    id: FragmentId,
    kv: Weak<KvFragment>,
    cost_tokens: usize,
}

#[derive(Default)]
struct Index {
    places: HashMap<FragmentId, Place>,
    /// By number.
    segments: BTreeMap<u64, Extent>,
    wanted: VecDeque<WantedFragment>,
    gauge: Gauge,
    stats: ColdStats,
    /// What went wrong last, until it is told.
    trouble: Option<String>,
}

/// What the thread and its callers share.
struct Shared {
    dir: PathBuf,
    budget_bytes: u64,
    index: Mutex<Index>,
    /// Bytes of fragments that wait to be written though they left the memory.
    n_leaving: AtomicU64,
}

/// Fragments on disk.
pub struct ColdTier {
    shared: Arc<Shared>,
    jobs: Sender<Job>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl ColdTier {
    /// Opens the segments in a folder, which is made if it is not there. They take at most
    /// `budget_bytes` bytes. One process at a time may: whoever calls sees to that.
    ///
    /// # Errors
    /// [`ColdTierError`]. A damaged segment is none: what is whole of it is used.
    pub fn open(dir: &Path, budget_bytes: u64) -> Result<Self, ColdTierError> {
        let io = |source| ColdTierError::Io {
            path: dir.to_owned(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(io)?;
        let mut index = Index::default();
        let paths = segments(dir).map_err(io)?;
        for (number, path) in &paths {
            index.add(*number, path)?;
        }
        // Only the last is appended to, if it has room.
        let last = paths.keys().next_back().copied();
        let n_full = segment_bytes(budget_bytes);
        for (number, extent) in &mut index.segments {
            extent.is_open &= Some(*number) == last && extent.n_whole < n_full;
        }
        // The budget may be less than it was.
        for (number, path) in paths.iter().rev() {
            if index.n_bytes() > budget_bytes {
                std::fs::remove_file(path).map_err(io)?;
                index.drop_segment(*number);
            }
        }
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            budget_bytes,
            index: Mutex::new(index),
            n_leaving: AtomicU64::new(0),
        });
        let (jobs, inbox) = bounded(MAX_LEAVING.0);
        let writer = Writer::new(shared.clone());
        let thread = std::thread::Builder::new()
            .name("perennial-fragments".into())
            .spawn(move || writer.run(&inbox))
            .map_err(io)?;
        Ok(Self {
            shared,
            jobs,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Reads a fragment, with the tokens that encoding it takes: if it is here, whole, and sooner
    /// read than encoded.
    pub fn get(&self, id: &FragmentId) -> Option<(KvFragment, usize)> {
        let place = {
            let mut index = self.shared.lock();
            let Index {
                places,
                gauge,
                stats,
                ..
            } = &mut *index;
            let place = places.get(id)?;
            let Header {
                n_bytes,
                cost_tokens,
                ..
            } = place.header;
            if !gauge.decide(n_bytes, cost_tokens) {
                stats.n_declined += 1;
                return None;
            }
            place.clone()
        };
        let begin = Instant::now();
        let found = segment::read(&self.shared.segment(place.segment), place.at, &place.header);
        let mut index = self.shared.lock();
        match found {
            Ok(Found::Whole(kv)) => {
                index.gauge.note_read(place.header.n_bytes, begin.elapsed());
                index.stats.n_hits += 1;
                let cost_tokens = usize::try_from(place.header.cost_tokens);
                Some((kv, cost_tokens.unwrap_or(usize::MAX)))
            }
            // It was moved meanwhile; what is not found is encoded.
            _ if index.is_elsewhere(id, &place) => None,
            Ok(Found::Damaged) => {
                index.lose(id, "it is not what was written".to_owned());
                None
            }
            Err(error) => {
                index.lose(id, error.to_string());
                None
            }
        }
    }

    /// Whether a fragment is here, and sooner read than encoded.
    pub fn contains(&self, id: &FragmentId) -> bool {
        let index = self.shared.lock();
        index.places.get(id).is_some_and(|place| {
            let header = &place.header;
            index
                .gauge
                .is_sooner_read(header.n_bytes, header.cost_tokens)
        })
    }

    /// The ids of what is here.
    pub fn ids(&self) -> Vec<FragmentId> {
        self.shared.lock().places.keys().copied().collect()
    }

    /// Tells what encoding took.
    pub fn note_encoded(&self, n_tokens: usize, time: Duration) {
        self.shared.lock().gauge.note_encoded(n_tokens, time);
    }

    /// A fragment leaves the memory: it is written if the thread keeps up.
    pub(crate) fn keep(&self, id: FragmentId, kv: Arc<KvFragment>, cost_tokens: usize) {
        if self.shared.lock().places.contains_key(&id) {
            return;
        }
        let (n_bytes, leaving) = (kv.n_bytes() as u64, &self.shared.n_leaving);
        let keep = Job::Keep {
            id,
            kv,
            cost_tokens,
        };
        // A thread that is behind or gone makes it a miss later.
        let n_leaving = leaving.fetch_add(n_bytes, Ordering::Relaxed) + n_bytes;
        if n_leaving > MAX_LEAVING.1 || self.jobs.try_send(keep).is_err() {
            leaving.fetch_sub(n_bytes, Ordering::Relaxed);
        }
    }

    /// Drops what is not live, and has written, soon, what is in memory and not here.
    pub(crate) fn sweep<'a>(
        &self,
        is_live: impl Fn(&FragmentId) -> bool,
        in_memory: impl Iterator<Item = (&'a FragmentId, &'a Arc<KvFragment>, usize)>,
    ) {
        let mut index = self.shared.lock();
        index.keep_live(is_live);
        let Index { places, wanted, .. } = &mut *index;
        wanted.clear();
        let missing = in_memory.filter(|(id, ..)| !places.contains_key(*id));
        wanted.extend(missing.map(|(id, kv, cost_tokens)| WantedFragment {
            id: *id,
            kv: Arc::downgrade(kv),
            cost_tokens,
        }));
        drop(index);
        // A full channel wakes the thread as well.
        let _ = self.jobs.try_send(Job::Tidy);
    }

    /// Takes everything that is not live off the disk, and returns when it is gone.
    ///
    /// # Errors
    /// [`ColdTierError::Io`].
    pub(crate) fn purge(&self, live: HashSet<FragmentId>) -> Result<(), ColdTierError> {
        let (reply, purged) = bounded(1);
        let is_gone = || io::Error::other("the thread that writes fragments has ended");
        let asked = self.jobs.send(Job::Purge { live, reply });
        let purged = asked
            .map_err(|_| is_gone())
            .and_then(|()| purged.recv().map_err(|_| is_gone())?);
        purged.map_err(|source| ColdTierError::Io {
            path: self.shared.dir.clone(),
            source,
        })
    }

    /// Writes what is to be written, and ends the thread.
    pub(crate) fn close(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // Where nobody listens it has ended; a panic in it was told by its hook.
            let _ = self.jobs.send(Job::Stop);
            let _ = thread.join();
        }
    }

    /// What went wrong since this was last asked, in words.
    pub fn take_trouble(&self) -> Option<String> {
        self.shared.lock().trouble.take()
    }

    /// Counters and sizes.
    pub fn stats(&self) -> ColdStats {
        self.shared.lock().stats()
    }
}

impl Drop for ColdTier {
    fn drop(&mut self) {
        self.close();
    }
}

/// Reads every fragment in a folder, and changes nothing: what is whole, and what is not.
///
/// # Errors
/// [`ColdTierError`]; a folder that is not there holds nothing.
pub fn verify(dir: &Path) -> Result<ColdStats, ColdTierError> {
    let io = |source| ColdTierError::Io {
        path: dir.to_owned(),
        source,
    };
    let mut index = Index::default();
    if !dir.try_exists().map_err(io)? {
        return Ok(index.stats());
    }
    let paths = segments(dir).map_err(io)?;
    for (number, path) in &paths {
        index.add(*number, path)?;
    }
    let places: Vec<(FragmentId, Place)> = index.places.clone().into_iter().collect();
    for (id, place) in places {
        let Some(path) = paths.get(&place.segment) else {
            continue;
        };
        match segment::read(path, place.at, &place.header) {
            Ok(Found::Whole(_)) => {}
            Ok(Found::Damaged) | Err(_) => index.lose(&id, String::new()),
        }
    }
    Ok(index.stats())
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path of a segment.
    fn segment(&self, number: u64) -> PathBuf {
        self.dir.join(file_name(number))
    }
}

/// Bytes at which a segment is ended.
fn segment_bytes(budget_bytes: u64) -> u64 {
    (budget_bytes / 8).min(SEGMENT_BYTES)
}

/// The name of a segment.
fn file_name(number: u64) -> String {
    format!("{number:08}.kv")
}

impl Index {
    /// Adds what a segment holds.
    fn add(&mut self, number: u64, path: &Path) -> Result<(), ColdTierError> {
        let scan = match segment::scan(path) {
            Ok(scan) => scan,
            Err(Unreadable::Version(found)) if found > segment::VERSION => {
                return Err(ColdTierError::Newer {
                    path: path.to_owned(),
                    found,
                    supported: segment::VERSION,
                });
            }
            Err(why) => {
                let shown = path.display();
                self.trouble = Some(format!("{shown}: {why}; what was in it is encoded again"));
                let n_bytes = std::fs::metadata(path).map_or(0, |file| file.len());
                segment::Scan {
                    n_bytes,
                    is_damaged: true,
                    ..segment::Scan::default()
                }
            }
        };
        self.stats.n_damaged += u64::from(scan.is_damaged);
        let extent = Extent {
            n_bytes: scan.n_bytes,
            n_whole: scan.n_whole,
            n_live_bytes: 0,
            // What a crash left half written behind it is cut off then.
            is_open: scan.n_whole > 0 && !scan.is_damaged,
        };
        self.segments.insert(number, extent);
        for (at, header) in scan.entries {
            let place = Place {
                segment: number,
                at,
                header,
            };
            self.put(place);
        }
        Ok(())
    }

    /// Adds a fragment to the index; the same in another place gives way.
    fn put(&mut self, place: Place) {
        self.drop_place(&place.header.id);
        if let Some(extent) = self.segments.get_mut(&place.segment) {
            extent.n_live_bytes += place.header.n_entry_bytes();
        }
        self.places.insert(place.header.id, place);
    }

    fn drop_place(&mut self, id: &FragmentId) {
        if let Some(place) = self.places.remove(id)
            && let Some(extent) = self.segments.get_mut(&place.segment)
        {
            extent.n_live_bytes -= place.header.n_entry_bytes();
        }
    }

    /// Drops what is not live.
    fn keep_live(&mut self, is_live: impl Fn(&FragmentId) -> bool) {
        let gone = self.places.keys().filter(|id| !is_live(id));
        let gone: Vec<FragmentId> = gone.copied().collect();
        for id in gone {
            self.drop_place(&id);
        }
    }

    fn drop_segment(&mut self, number: u64) {
        self.segments.remove(&number);
        self.places.retain(|_, place| place.segment != number);
    }

    /// A fragment could not be read.
    fn lose(&mut self, id: &FragmentId, why: String) {
        self.stats.n_damaged += 1;
        self.trouble = Some(format!(
            "a fragment on disk cannot be read, and is encoded again: {why}"
        ));
        self.drop_place(id);
    }

    /// Whether a fragment is not at this place any more.
    fn is_elsewhere(&self, id: &FragmentId, place: &Place) -> bool {
        let now = self.places.get(id);
        now.is_none_or(|now| (now.segment, now.at) != (place.segment, place.at))
    }

    fn n_bytes(&self) -> u64 {
        self.segments.values().map(|extent| extent.n_bytes).sum()
    }

    fn stats(&self) -> ColdStats {
        let live = self.segments.values().map(|extent| extent.n_live_bytes);
        ColdStats {
            n_fragments: self.places.len(),
            n_bytes: self.n_bytes(),
            n_dead_bytes: self.n_bytes() - live.sum::<u64>(),
            ..self.stats
        }
    }
}

/// The segments in a folder, by number; other files are not looked at.
fn segments(dir: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut segments = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let stem = name.and_then(|name| name.strip_suffix(".kv"));
        let number = stem.and_then(|stem| stem.parse().ok());
        let is_ours = |number: &u64| name == Some(&file_name(*number)) && path.is_file();
        if let Some(number) = number.filter(is_ours) {
            segments.insert(number, path);
        }
    }
    Ok(segments)
}

#[cfg(test)]
mod tests;
