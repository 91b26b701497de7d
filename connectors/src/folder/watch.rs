//! Where may something have changed? The system's notifications, gathered into bursts.
//!
//! Notifications are hints: each adds its path to a set, and `snapshot` finds out what is
//! behind it. So all that matters is that none is lost:
//! - the set is bounded by giving up detail (past [`MAX_PATHS`] it is "everything"), never by
//!   dropping;
//! - if the system says that it dropped some, everything is looked at;
//! - where each folder needs a watch of its own (Linux), a folder that appears is watched once
//!   more *before* it is read: what comes later is notified, what came before is read;
//! - every [`AUDIT_EVERY`] everything is looked at in any case.
//!
//! Where the system tells that a file was closed, one that somebody writes to is not looked at before:
//! half of it is no document. That ends after [`MAX_UNCLOSED`], so that a file which stays open is
//! read, too. (What is looked at with everything else is read as it is.)
//!
//! A debouncing library is not used: such libraries put notifications together into renames
//! and saves, which costs a map of all files and is what comparing states makes needless.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{ErrorKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::filter::Filter;
use super::place::Roots;
use super::snapshot::Touched;
use crate::{Error, Halt, Notice, Outlet};

/// More touched paths than this in one burst are taken as "everything".
const MAX_PATHS: usize = 4096;
/// How often everything is looked at, notified or not.
const AUDIT_EVERY: Duration = Duration::from_secs(60);
/// A file that is written to for longer than this is looked at though it was not closed.
const MAX_UNCLOSED: Duration = Duration::from_secs(5);
/// Whether the system tells that a file which was written to is closed.
const TELLS_CLOSING: bool = cfg!(any(target_os = "linux", target_os = "android"));
/// How often a folder's subfolders are walked before giving up: each time, one went away.
const MAX_WALKS: u32 = 8;
/// Whether the system watches folders one by one, rather than all below one.
const WATCHES_EACH_FOLDER: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// When a run of notifications counts as over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burst {
    quiet: Duration,
    max_delay: Duration,
}

impl Burst {
    pub(super) fn new(quiet: Duration, max_delay: Duration) -> Result<Self, Error> {
        if max_delay < quiet {
            return Err(Error::BurstOrder { quiet, max_delay });
        }
        Ok(Self { quiet, max_delay })
    }
}

impl Default for Burst {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(150),
            max_delay: Duration::from_secs(1),
        }
    }
}

/// Tells where to look next.
#[derive(Debug)]
pub(super) struct Watcher {
    means: Means,
    /// What to do without notifications.
    poll_every: Duration,
    /// Something to tell the user, once.
    notice: Option<Notice>,
}

#[derive(Debug)]
enum Means {
    Notified(Notified),
    Polled,
}

#[derive(Debug)]
struct Notified {
    /// Ends its thread when dropped.
    watcher: RecommendedWatcher,
    /// Filled by the watcher's thread.
    pending: Arc<Mutex<Pending>>,
    /// Holds a message while `pending` may hold something.
    wake: Receiver<()>,
    burst: Burst,
    /// When everything was last looked at.
    audited: Instant,
}

/// What was notified and not yet looked at.
#[derive(Debug, Default)]
struct Pending {
    everything: bool,
    paths: BTreeSet<PathBuf>,
    /// Files that somebody has written to and not closed since, and since when.
    unclosed: HashMap<PathBuf, Instant>,
    /// The system ran out of watches: notifications are incomplete from now on.
    exhausted: bool,
}

impl Watcher {
    /// Notifications, or polling with a notice that says why.
    pub(super) fn open(roots: &Roots, filter: &Filter, burst: Burst, poll_every: Duration) -> Self {
        match Notified::open(roots, filter, burst) {
            Ok(notified) => Self {
                means: Means::Notified(notified),
                poll_every,
                notice: None,
            },
            Err(error) => {
                let mut watcher = Self::polling(poll_every);
                watcher.give_up(&error);
                watcher
            }
        }
    }

    /// Looking at everything every so often.
    pub(super) fn polling(every: Duration) -> Self {
        Self {
            means: Means::Polled,
            poll_every: every,
            notice: None,
        }
    }

    /// What the user should be told, if it was not yet.
    pub(super) fn take_notice(&mut self) -> Option<Notice> {
        self.notice.take()
    }

    /// Waits until there is somewhere to look, and a burst is over.
    ///
    /// # Errors
    /// When asked to stop.
    pub(super) fn next(
        &mut self,
        roots: &Roots,
        within: Option<Duration>,
        out: &Outlet,
    ) -> Result<Touched, Halt> {
        let notified = match &mut self.means {
            Means::Polled => {
                out.wait(self.poll_every)?;
                return Ok(Touched::everything());
            }
            Means::Notified(notified) => notified,
        };
        let pending = notified.gather(within, out)?;
        let rewatched = if pending.exhausted {
            Err(notify::Error::new(ErrorKind::MaxFilesWatch))
        } else {
            notified.rewatch(&pending, roots)
        };
        if let Err(error) = rewatched {
            self.give_up(&error);
            return Ok(Touched::everything());
        }
        Ok(Touched {
            everything: pending.everything,
            paths: pending.paths,
        })
    }

    /// Watches again what has come back.
    pub(super) fn again(&mut self, roots: &Roots) {
        let Means::Notified(notified) = &mut self.means else {
            return;
        };
        let watched = roots.paths().try_for_each(|root| notified.watch(root));
        if let Err(error) = watched {
            self.give_up(&error);
        }
    }

    fn give_up(&mut self, error: &notify::Error) {
        let reason = match error.kind {
            ErrorKind::MaxFilesWatch => "the system has no more file watches to give; on Linux \
                the limit is the setting fs.inotify.max_user_watches"
                .to_owned(),
            _ => format!("the system does not report changes: {error}"),
        };
        self.notice = Some(Notice::Polling {
            every: self.poll_every,
            reason,
        });
        self.means = Means::Polled;
    }
}

impl Notified {
    fn open(roots: &Roots, filter: &Filter, burst: Burst) -> notify::Result<Self> {
        let pending = Arc::new(Mutex::new(Pending::default()));
        let (waker, wake) = crossbeam_channel::bounded(1);
        let handler = handler(roots.clone(), filter.clone(), Arc::clone(&pending), waker);
        let config = notify::Config::default().with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(handler, config)?;
        let mut notified = Self {
            watcher,
            pending,
            wake,
            burst,
            audited: Instant::now(),
        };
        for root in roots.paths() {
            notified.watch(root)?;
        }
        Ok(notified)
    }

    /// Waits for a first notification or the next audit, and no longer than told; then until the burst
    /// is over.
    fn gather(&mut self, within: Option<Duration>, out: &Outlet) -> Result<Pending, Halt> {
        let stop = out.stop().signal();
        let rest = AUDIT_EVERY.saturating_sub(self.audited.elapsed());
        let held = lock(&self.pending).held_for();
        let rest = [within, held]
            .into_iter()
            .flatten()
            .fold(rest, Duration::min);
        select! {
            recv(self.wake) -> _ => {}
            recv(stop) -> _ => return Err(Halt::Stopped),
            default(rest) => {}
        }
        let audit = self.audited.elapsed() >= AUDIT_EVERY;
        let end = Instant::now() + self.burst.max_delay;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            select! {
                recv(self.wake) -> _ => {
                    if left.is_zero() {
                        break;
                    }
                }
                recv(stop) -> _ => return Err(Halt::Stopped),
                default(self.burst.quiet.min(left)) => break,
            }
        }
        let mut pending = lock(&self.pending).take();
        pending.everything |= audit;
        if pending.everything {
            self.audited = Instant::now();
        }
        Ok(pending)
    }

    /// Watches again what may be new under its path. Watching twice is harmless.
    fn rewatch(&mut self, pending: &Pending, roots: &Roots) -> notify::Result<()> {
        if pending.everything {
            for root in roots.paths() {
                self.watch(root)?;
            }
        } else if WATCHES_EACH_FOLDER {
            for path in &pending.paths {
                if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
                    self.watch(path)?;
                }
            }
        }
        Ok(())
    }

    /// Watches all folders at and below a path. Something that goes away in the middle ends
    /// the system's walk early, so it is walked again; if the path itself went away, a
    /// notification says so (or looking does, for a root).
    fn watch(&mut self, path: &Path) -> notify::Result<()> {
        let mut walks_left = MAX_WALKS;
        loop {
            walks_left -= 1;
            match self.watcher.watch(path, RecursiveMode::Recursive) {
                Ok(()) => return Ok(()),
                Err(_) if !path.is_dir() => return Ok(()),
                Err(error) if walks_left == 0 || !is_not_found(&error) => return Err(error),
                Err(_) => {}
            }
        }
    }
}

fn is_not_found(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

/// What the watcher's thread does with each notification.
fn handler(
    roots: Roots,
    filter: Filter,
    pending: Arc<Mutex<Pending>>,
    waker: Sender<()>,
) -> impl FnMut(notify::Result<notify::Event>) {
    move |notification| {
        let news = match notification {
            Ok(event) => lock(&pending).take_in(&event, &roots, &filter),
            Err(error) => {
                let mut pending = lock(&pending);
                pending.everything = true;
                pending.exhausted |= matches!(error.kind, ErrorKind::MaxFilesWatch);
                true
            }
        };
        if news {
            // A full channel means that the wake is already on its way.
            let _ = waker.try_send(());
        }
    }
}

impl Pending {
    /// Adds what a notification names. Returns whether anything of it matters.
    fn take_in(&mut self, event: &notify::Event, roots: &Roots, filter: &Filter) -> bool {
        if event.need_rescan() {
            self.everything = true;
            return true;
        }
        // Reading is notified too, and looking at files reads them.
        if let EventKind::Access(access) = event.kind
            && access != AccessKind::Close(AccessMode::Write)
        {
            return false;
        }
        let mut news = false;
        for path in &event.paths {
            let Some(place) = roots.place(path) else {
                continue;
            };
            if place.path.as_os_str().is_empty() {
                self.everything = true;
            } else if filter.covers(&place.path) {
                self.note_writing(path, event.kind);
                if self.paths.len() >= MAX_PATHS {
                    self.everything = true;
                    self.paths.clear();
                } else if !self.everything {
                    self.paths.insert(path.clone());
                }
            } else {
                continue;
            }
            news = true;
        }
        news
    }

    /// Notes whether somebody is writing to a file.
    fn note_writing(&mut self, path: &Path, kind: EventKind) {
        match kind {
            EventKind::Modify(ModifyKind::Data(_))
                if TELLS_CLOSING && self.unclosed.len() < MAX_PATHS =>
            {
                let since = self.unclosed.entry(path.to_owned());
                since.or_insert_with(Instant::now);
            }
            // Closed, gone or renamed: what stands under that path now is whole.
            EventKind::Access(_)
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_)) => {
                self.unclosed.remove(path);
            }
            _ => {}
        }
    }

    /// How long files that are being written are still held back; nothing if there are none.
    fn held_for(&self) -> Option<Duration> {
        let held = self.paths.iter().filter_map(|path| self.unclosed.get(path));
        let left = held.map(|since| MAX_UNCLOSED.saturating_sub(since.elapsed()));
        left.min()
    }

    /// All but files that are being written, if that has not lasted too long.
    fn take(&mut self) -> Self {
        self.unclosed
            .retain(|_, since| since.elapsed() < MAX_UNCLOSED);
        let held = mem::take(&mut self.unclosed);
        let mut taken = mem::take(self);
        if !taken.everything {
            let all = mem::take(&mut taken.paths);
            (self.paths, taken.paths) = all.into_iter().partition(|path| held.contains_key(path));
        }
        self.unclosed = held;
        taken
    }
}

fn lock(pending: &Mutex<Pending>) -> std::sync::MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use notify::Event;
    use notify::event::{CreateKind, DataChange, Flag, RemoveKind, RenameMode};

    use super::*;

    fn setting() -> (tempfile::TempDir, Roots, Filter) {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::open([dir.path()]).unwrap();
        (dir, roots, Filter::default())
    }

    fn created(path: PathBuf) -> Event {
        Event::new(EventKind::Create(CreateKind::File)).add_path(path)
    }

    #[test]
    fn reading_and_junk_are_no_news() {
        let (_dir, roots, filter) = setting();
        let root = roots.paths().next().unwrap();
        let mut pending = Pending::default();
        let open = Event::new(EventKind::Access(AccessKind::Open(AccessMode::Any)));
        assert!(!pending.take_in(&open.add_path(root.join("a.md")), &roots, &filter));
        assert!(!pending.take_in(&created(root.join(".git/a.md")), &roots, &filter));
        assert!(!pending.take_in(&created("/elsewhere/a.md".into()), &roots, &filter));
        assert!(pending.paths.is_empty() && !pending.everything);
        assert!(pending.take_in(&created(root.join("a.md")), &roots, &filter));
        assert_eq!(pending.paths.len(), 1);
    }

    #[test]
    fn a_file_is_looked_at_when_it_is_closed_or_has_been_open_for_long() {
        if !TELLS_CLOSING {
            return;
        }
        let (_dir, roots, filter) = setting();
        let root = roots.paths().next().unwrap();
        let file = root.join("a.md");
        let event = |kind| Event::new(kind).add_path(file.clone());
        let written = event(EventKind::Modify(ModifyKind::Data(DataChange::Any)));
        let closed = event(EventKind::Access(AccessKind::Close(AccessMode::Write)));
        let renamed = event(EventKind::Modify(ModifyKind::Name(RenameMode::To)));
        let mut pending = Pending::default();
        for end in [closed, renamed, event(EventKind::Remove(RemoveKind::File))] {
            assert!(pending.take_in(&created(file.clone()), &roots, &filter));
            assert!(pending.take_in(&written, &roots, &filter));
            assert!(pending.take_in(&created(root.join("b.md")), &roots, &filter));
            // Another file does not wait for it.
            assert_eq!(pending.take().paths, BTreeSet::from([root.join("b.md")]));
            assert!(pending.take().paths.is_empty());
            assert!(pending.held_for().is_some_and(|left| !left.is_zero()));
            assert!(pending.take_in(&end, &roots, &filter));
            assert_eq!(pending.held_for(), None);
            assert_eq!(pending.take().paths, BTreeSet::from([file.clone()]));
        }
        pending.take_in(&created(file.clone()), &roots, &filter);
        pending.take_in(&written, &roots, &filter);
        let long_ago = Instant::now().checked_sub(MAX_UNCLOSED).unwrap();
        pending.unclosed.insert(file.clone(), long_ago);
        assert_eq!(pending.held_for(), Some(Duration::ZERO));
        assert_eq!(pending.take().paths, BTreeSet::from([file.clone()]));
        assert!(pending.unclosed.is_empty());
        // Everything is everything.
        pending.take_in(&written, &roots, &filter);
        pending.everything = true;
        assert!(pending.take().everything);
    }

    #[test]
    fn too_many_paths_and_lost_notifications_mean_everything() {
        let (_dir, roots, filter) = setting();
        let root = roots.paths().next().unwrap();
        let mut pending = Pending::default();
        for i in 0..=MAX_PATHS {
            assert!(pending.take_in(&created(root.join(format!("{i}.md"))), &roots, &filter));
        }
        assert!(pending.everything && pending.paths.is_empty());
        let mut pending = Pending::default();
        let lost = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert!(pending.take_in(&lost, &roots, &filter) && pending.everything);
        let mut pending = Pending::default();
        assert!(pending.take_in(&created(root.to_path_buf()), &roots, &filter));
        assert!(pending.everything);
    }

    #[test]
    fn running_out_of_watches_turns_to_polling_and_says_so() {
        let (_dir, roots, filter) = setting();
        let burst = Burst::new(Duration::ZERO, Duration::ZERO).unwrap();
        let mut watcher = Watcher::open(&roots, &filter, burst, Duration::from_millis(1));
        let Means::Notified(notified) = &watcher.means else {
            panic!("no notifications here")
        };
        let (waker, wake) = crossbeam_channel::bounded(1);
        let mut handle = handler(roots.clone(), filter, Arc::clone(&notified.pending), waker);
        handle(Err(notify::Error::new(ErrorKind::MaxFilesWatch)));
        assert!(wake.try_recv().is_ok());
        if let Means::Notified(notified) = &mut watcher.means {
            notified.wake = wake;
            notified.audited = Instant::now() - AUDIT_EVERY;
        }
        let out = Outlet::new(crossbeam_channel::bounded(1).0, crate::StopFlag::new());
        assert!(watcher.next(&roots, None, &out).unwrap().everything);
        match watcher.take_notice() {
            Some(Notice::Polling { reason, .. }) => assert!(reason.contains("max_user_watches")),
            other => panic!("{other:?}"),
        }
        assert!(matches!(watcher.means, Means::Polled));
        assert!(watcher.next(&roots, None, &out).unwrap().everything);
    }

    #[test]
    fn a_burst_cannot_be_shorter_than_its_pause() {
        let order = Burst::new(Duration::from_secs(2), Duration::from_secs(1));
        assert!(matches!(order, Err(Error::BurstOrder { .. })));
    }
}
