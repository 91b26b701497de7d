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
//! read, too.
//!
//! A document that goes away may be about to come back, as where an editor makes it a backup first:
//! a burst is not over before it is gone for [`GRACE`].
//!
//! A folder that is left out is not watched. One that cannot be watched, as it may not be read, is
//! noticed through the folder around it, and by looking.
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
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RemoveKind, RenameMode};
use notify::{ErrorKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::filter::Filter;
use super::ignore_files::holds_rules;
use super::listing;
use super::place::{Place, Roots};
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
/// How long a document is gone before it counts as deleted.
const GRACE: Duration = Duration::from_millis(400);
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
    Notified(Box<Notified>),
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
    filter: Filter,
}

/// What was notified and not yet looked at.
#[derive(Debug, Default)]
struct Pending {
    everything: bool,
    paths: BTreeSet<PathBuf>,
    /// Files that somebody has written to and not closed since, and since when.
    unclosed: HashMap<PathBuf, Instant>,
    /// Documents that went away, and when.
    gone: HashMap<PathBuf, Instant>,
    /// The system ran out of watches: notifications are incomplete from now on.
    exhausted: bool,
}

impl Watcher {
    /// Notifications, or polling with a notice that says why.
    pub(super) fn open(roots: &Roots, filter: &Filter, burst: Burst, poll_every: Duration) -> Self {
        match Notified::open(roots, filter, burst) {
            Ok(notified) => Self {
                means: Means::Notified(Box::new(notified)),
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
            unfinished: pending.unclosed.into_keys().collect(),
        })
    }

    /// Watches again what has come back.
    pub(super) fn again(&mut self, roots: &Roots) {
        let Means::Notified(notified) = &mut self.means else {
            return;
        };
        let watched = notified.watch_all(roots);
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
            filter: filter.clone(),
        };
        notified.watch_all(roots)?;
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
        // Whatever goes on meanwhile, no longer than that.
        let end = Instant::now() + GRACE;
        loop {
            let gone_for = lock(&self.pending).missed_for();
            let Some(rest) = gone_for.map(|gone| GRACE.saturating_sub(gone)) else {
                break;
            };
            let rest = rest.min(end.saturating_duration_since(Instant::now()));
            if rest.is_zero() {
                break;
            }
            select! {
                recv(self.wake) -> _ => {}
                recv(stop) -> _ => return Err(Halt::Stopped),
                default(rest) => {}
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
            self.watch_all(roots)?;
        } else if WATCHES_EACH_FOLDER {
            let places = pending.paths.iter().filter_map(|path| roots.place(path));
            places
                .filter(|place| is_folder(&roots.absolute(place)))
                .try_for_each(|place| self.watch(place, roots))?;
        }
        Ok(())
    }

    fn watch_all(&mut self, roots: &Roots) -> notify::Result<()> {
        (0..roots.len()).try_for_each(|root| {
            let path = PathBuf::new();
            self.watch(Place { root, path }, roots)
        })
    }

    /// Watches the folders at and below a place that are looked into. Each is watched before it is
    /// listed, so that none is missed; one that goes away meanwhile is notified, or noticed by
    /// looking if it is a root.
    fn watch(&mut self, place: Place, roots: &Roots) -> notify::Result<()> {
        let is_whole = roots.only(place.root).is_none();
        if !WATCHES_EACH_FOLDER {
            let mode = match is_whole {
                true => RecursiveMode::Recursive,
                false => RecursiveMode::NonRecursive,
            };
            return self.watch_one(&roots.absolute(&place), mode);
        }
        let Some(rules) = listing::rules_at(roots, &self.filter, &place) else {
            return Ok(());
        };
        let mut folders = vec![(place, rules)];
        while let Some((folder, rules)) = folders.pop() {
            let at = roots.absolute(&folder);
            let is_left_out = !folder.path.as_os_str().is_empty()
                && (self.filter.leaves_folder_out(&folder.path).is_some()
                    || rules.leave_out(&folder.path, true));
            if is_left_out {
                continue;
            }
            self.watch_one(&at, RecursiveMode::NonRecursive)?;
            let Ok(entries) = fs::read_dir(&at) else {
                continue;
            };
            if !is_whole {
                continue;
            }
            let rules = match self.filter.obeys_ignore_files {
                true => rules.within(&at, &folder.path),
                false => rules,
            };
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    let path = folder.path.join(entry.file_name());
                    let root = folder.root;
                    folders.push((Place { root, path }, rules.clone()));
                }
            }
        }
        Ok(())
    }

    /// Watches a folder, if it can be.
    fn watch_one(&mut self, path: &Path, mode: RecursiveMode) -> notify::Result<()> {
        match self.watcher.watch(path, mode) {
            Err(error) if !is_of_one_folder(&error) && path.is_dir() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether what stands at a path is a folder, and no link to one.
fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Whether an error says that this folder cannot be watched, rather than that none can.
fn is_of_one_folder(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
        ),
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
            let place = relevant(place, filter);
            let path = &roots.absolute(&place);
            if place.path.as_os_str().is_empty() {
                self.everything = true;
            } else if roots.cover(filter, &place) {
                self.note_writing(path, event.kind);
                self.note_going(path, event.kind);
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

    /// Notes whether a document went away.
    fn note_going(&mut self, path: &Path, kind: EventKind) {
        let is_gone = matches!(
            kind,
            EventKind::Remove(RemoveKind::File | RemoveKind::Any)
                | EventKind::Modify(ModifyKind::Name(RenameMode::From | RenameMode::Any))
        );
        if is_gone && self.gone.len() < MAX_PATHS {
            self.gone.insert(path.to_owned(), Instant::now());
        }
    }

    /// For how long the last document of those that are gone is; nothing if none is.
    fn missed_for(&mut self) -> Option<Duration> {
        self.gone
            .retain(|path, _| fs::symlink_metadata(path).is_err());
        self.gone.values().map(Instant::elapsed).min()
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
        if taken.everything {
            // They are looked at when they are closed, or have been open for long.
            self.paths = held.keys().cloned().collect();
        } else {
            let all = mem::take(&mut taken.paths);
            (self.paths, taken.paths) = all.into_iter().partition(|path| held.contains_key(path));
        }
        taken.unclosed.clone_from(&held);
        self.unclosed = held;
        taken
    }
}

/// Where to look for what happened at a place: rules of an ignore file are those of its folder, and
/// what Kubernetes exchanges (`..data`) is linked to from beside it.
fn relevant(mut place: Place, filter: &Filter) -> Place {
    let name = place.path.file_name().unwrap_or_default();
    let is_exchanged = name.as_encoded_bytes().starts_with(b"..");
    if is_exchanged || filter.obeys_ignore_files && holds_rules(name) {
        place.path.pop();
    }
    place
}

fn lock(pending: &Mutex<Pending>) -> std::sync::MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use notify::Event;
    use notify::event::{CreateKind, DataChange, Flag};

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
        // Everything is everything, but for what is being written; that comes later.
        pending.take_in(&written, &roots, &filter);
        pending.everything = true;
        let taken = pending.take();
        assert!(taken.everything && taken.unclosed.contains_key(&file));
        assert!(pending.take().paths.is_empty());
        pending.unclosed.insert(file.clone(), long_ago);
        assert_eq!(pending.take().paths, BTreeSet::from([file.clone()]));
    }

    #[test]
    fn rules_and_exchanged_folders_touch_the_folder_around_them() {
        let (_dir, roots, mut filter) = setting();
        let root = roots.paths().next().unwrap();
        let touched = |filter: &Filter, path: &str| {
            let mut pending = Pending::default();
            pending.take_in(&created(root.join(path)), &roots, filter);
            (pending.everything, pending.paths.into_iter().next())
        };
        assert_eq!(
            touched(&filter, "sub/.gitignore"),
            (false, Some(root.join("sub")))
        );
        assert_eq!(
            touched(&filter, "sub/..data"),
            (false, Some(root.join("sub")))
        );
        assert_eq!(touched(&filter, "..data"), (true, None));
        assert_eq!(touched(&filter, ".git/.ignore"), (false, None));
        filter.obeys_ignore_files = false;
        assert_eq!(touched(&filter, "sub/.gitignore"), (false, None));
    }

    #[test]
    fn only_an_error_of_all_folders_turns_to_polling() {
        let of = |kind| notify::Error::io(io::Error::from(kind));
        assert!(is_of_one_folder(&of(io::ErrorKind::PermissionDenied)));
        assert!(is_of_one_folder(&of(io::ErrorKind::NotFound)));
        assert!(!is_of_one_folder(&notify::Error::new(
            ErrorKind::MaxFilesWatch
        )));
    }

    /// Which of these folders the watches of this process are on.
    #[cfg(target_os = "linux")]
    #[test]
    fn folders_that_are_left_out_take_no_watches() {
        use std::os::unix::fs::MetadataExt as _;
        let (dir, roots, filter) = setting();
        let folders = ["docs/deep", "node_modules/m", ".git/objects", "gen/x"];
        for folder in folders {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join(".gitignore"), "/gen\n").unwrap();
        let _watcher = Watcher::open(&roots, &filter, Burst::default(), AUDIT_EVERY);
        let infos = fs::read_dir("/proc/self/fdinfo").unwrap();
        let infos = infos.filter_map(|info| fs::read_to_string(info.ok()?.path()).ok());
        // inotify wd:2 ino:1a2b sdev:fd00000 …
        let watched: Vec<u64> = infos
            .flat_map(|info| info.lines().map(str::to_owned).collect::<Vec<_>>())
            .filter(|line| line.starts_with("inotify "))
            .filter_map(|line| {
                let inode = line
                    .split_whitespace()
                    .find_map(|word| word.strip_prefix("ino:"));
                u64::from_str_radix(inode?, 16).ok()
            })
            .collect();
        let is_watched = |path: &str| {
            let inode = fs::metadata(dir.path().join(path)).unwrap().ino();
            watched.contains(&inode)
        };
        for path in ["", "docs", "docs/deep"] {
            assert!(is_watched(path), "{path}");
        }
        for path in [
            "node_modules",
            "node_modules/m",
            ".git",
            ".git/objects",
            "gen",
            "gen/x",
        ] {
            assert!(!is_watched(path), "{path}");
        }
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
