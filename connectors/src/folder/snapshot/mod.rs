//! What has changed? Compares the touched places, as they now are, with what was emitted.
//!
//! Invariant: after `reconcile` of a set that covers all that changed, what is known equals
//! what a fresh scan finds, and folding the batches gives its documents. Nothing else is
//! assumed about the hints: a hint too many emits nothing.
//!
//! File times only save reading (`stamp` says when). Texts are not kept, only digests.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::mem::discriminant;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use perennial_rows::{Key, Row, Value};

use super::document::{self, Document, Reading};
use super::filter::Filter;
use super::kind::Kind;
use super::left_out::{LeftOut, Tally};
use super::listing::{self, Found, Listing};
use super::place::{Place, Roots};
use super::stamp::{self, Stamp};
use super::{MODIFIED, PATH, SIZE};
use crate::attributes::{self, Attribute};
use crate::identity::Identity;
use crate::{
    Batch, Change, Digest, Halt, Notice, Offset, Outlet, Record, Rejected, Rejection, SourceName,
    StopFlag,
};

/// How long a look at everything waits for files that are being written.
const MAX_UNREST: Duration = Duration::from_secs(2);

/// Where something may have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// Everything below all roots.
    pub everything: bool,
    /// These absolute paths and all below them.
    pub paths: BTreeSet<PathBuf>,
    /// Of these files it is known that somebody is writing to them: they are not looked at yet.
    pub unfinished: BTreeSet<PathBuf>,
}

impl Touched {
    pub(super) fn everything() -> Self {
        Self {
            everything: true,
            ..Self::default()
        }
    }
}

/// What was emitted, and how the files looked then.
#[derive(Debug)]
pub(super) struct Snapshot {
    source: SourceName,
    roots: Roots,
    filter: Filter,
    /// In bytes.
    size_limit: u64,
    read: fn(&Path, Kind, u64, &StopFlag) -> Reading,
    /// A file that was written less than this ago may be in the middle of it.
    rest: Duration,
    known: BTreeMap<Place, Known>,
    /// Keys of an earlier run that no root of this run can hold; deleted at the first chance.
    orphans: Vec<Key>,
    /// What the last look met that is no document.
    left_out: Tally,
    /// The rules of which it was told that they leave something out.
    told: BTreeSet<LeftOut>,
    /// Places that could not be read, and may be.
    unread: BTreeSet<Place>,
    /// Places whose documents came, changed or were refused, which nobody was told: a root went away
    /// meanwhile.
    unsaid: BTreeSet<Place>,
    /// The same of documents that have gone.
    gone: BTreeSet<Place>,
    /// Which folder each root was when it was last looked at and believed.
    roots_were: Vec<Option<Identity>>,
    /// Roots of which it was told that documents are kept though none is there, and which folder each
    /// was then.
    are_emptied: BTreeMap<usize, Option<Identity>>,
    /// Whether a root that holds nothing any more has lost its documents.
    believes_empty: bool,
}

/// What a place was found to hold.
enum Stands {
    Nothing,
    Document(Record),
    Refused(Rejection),
}

/// What is known of a place.
#[derive(Debug)]
enum Known {
    /// Its document was emitted. No stamp: by an earlier run.
    Held {
        digest: Digest,
        stamp: Option<Stamp>,
    },
    /// It was refused, for this reason.
    Refused {
        reason: Rejection,
        stamp: Option<Stamp>,
    },
}

impl Snapshot {
    /// Begins with what an earlier run emitted, or with nothing.
    pub(super) fn new(
        source: SourceName,
        roots: Roots,
        filter: Filter,
        size_limit: u64,
        held: Vec<(Key, Digest)>,
    ) -> Self {
        let mut known = BTreeMap::new();
        let mut orphans = Vec::new();
        let roots_were = vec![None; roots.len()];
        for (key, digest) in held {
            match roots.place_of_key(&key) {
                Some(place) => {
                    known.insert(
                        place,
                        Known::Held {
                            digest,
                            stamp: None,
                        },
                    );
                }
                None => orphans.push(key),
            }
        }
        Self {
            source,
            roots,
            filter,
            size_limit,
            read: document::read,
            rest: Duration::ZERO,
            known,
            orphans,
            left_out: Tally::default(),
            told: BTreeSet::new(),
            unread: BTreeSet::new(),
            unsaid: BTreeSet::new(),
            gone: BTreeSet::new(),
            roots_were,
            are_emptied: BTreeMap::new(),
            believes_empty: false,
        }
    }

    pub(super) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Where to look again soon: what could not be read, and may be.
    pub(super) fn unread(&self) -> impl Iterator<Item = PathBuf> {
        self.unread.iter().map(|place| self.roots.absolute(place))
    }

    /// Files that were written less than this ago are waited for where everything is looked at.
    #[must_use]
    pub(super) fn resting(mut self, time: Duration) -> Self {
        self.rest = time;
        self
    }

    /// Whether a root that holds nothing any more has lost its documents. By default not.
    #[must_use]
    pub(super) fn believing_empty(mut self, is_believed: bool) -> Self {
        self.believes_empty = is_believed;
        self
    }

    /// Whether documents are kept of a root in which none is.
    pub(super) fn is_any_emptied(&self) -> bool {
        !self.are_emptied.is_empty()
    }

    /// Whether yet another folder stands where none of a root's documents was, as where something is
    /// mounted again: what comes within it is not notified before it is watched.
    pub(super) fn has_moved(&self) -> bool {
        let mut emptied = self.are_emptied.iter();
        emptied.any(|(root, was)| self.roots.identity(*root) != *was)
    }

    /// What the last look left out by rules of which nobody was told.
    pub(super) fn take_left_out(&mut self) -> Vec<Notice> {
        let left_out = std::mem::take(&mut self.left_out);
        let untold = left_out.iter().filter(|(rule, ..)| self.told.insert(*rule));
        let notices = untold.map(|(rule, count, example)| Notice::LeftOut {
            rule,
            count,
            example: example.to_owned(),
        });
        notices.collect()
    }

    /// Reads the touched places again. Deletions stand first in the batch, then upserts, each
    /// in order of path.
    ///
    /// # Errors
    /// If a root is gone or cannot be listed, or when asked to stop.
    pub(super) fn reconcile(&mut self, touched: &Touched, out: &Outlet) -> Result<Batch, Halt> {
        self.roots.check()?;
        let mut deletes = Vec::new();
        let mut upserts = Vec::new();
        let mut rejected = Vec::new();
        for scope in self.scopes(touched) {
            let listing = listing::list(&self.roots, &self.filter, &scope, out)?;
            let Listing {
                mut found,
                left_out,
            } = listing;
            self.left_out.absorb(left_out, touched.everything);
            if touched.everything {
                self.await_rest(&mut found, out)?;
            }
            let now_ns = stamp::nanoseconds(SystemTime::now());
            if found.is_empty() && self.is_emptied(&scope, out)? {
                continue;
            }
            // What stands in a folder that cannot be listed just now is not gone.
            let unlisted = found.iter().filter_map(|(place, found)| match found {
                Found::Refused(reason, None) if reason.may_pass() => Some(place.clone()),
                _ => None,
            });
            let unlisted: Vec<Place> = unlisted.collect();
            for place in self.known_below(&scope) {
                if !found.contains_key(&place)
                    && !unlisted.iter().any(|folder| folder.holds(&place))
                    && let Some(Known::Held { .. }) = self.known.remove(&place)
                {
                    self.gone.insert(place);
                }
            }
            if scope.path.as_os_str().is_empty() {
                self.roots_were[scope.root] = self.roots.identity(scope.root);
                self.are_emptied.remove(&scope.root);
            }
            for (place, found) in found {
                out.check()?;
                let was_unread = self.unread.remove(&place);
                let (reading, stamp) = match found {
                    Found::Refused(reason, meta) => (
                        Reading::Refused(reason),
                        meta.map(|meta| Stamp::of(&meta, now_ns)),
                    ),
                    Found::File(_, path) if touched.unfinished.contains(&path) => continue,
                    Found::File(meta, path) => {
                        let stamp = Stamp::of(&meta, now_ns);
                        let known = self.known.get(&place);
                        if known.is_some_and(|known| known.is_fresh(&stamp))
                            && !self.unsaid.contains(&place)
                        {
                            continue;
                        }
                        let kind = Kind::of(&place.path);
                        let reading = (self.read)(&path, kind, self.size_limit, out.stop());
                        // One that was given up says nothing.
                        out.check()?;
                        (reading, Some(stamp))
                    }
                };
                let reading = match reading {
                    Reading::Document(document) => match self.record(&place, document, stamp) {
                        Ok(record) => Stands::Document(record),
                        Err(reason) => Stands::Refused(reason),
                    },
                    Reading::Refused(reason) => Stands::Refused(reason),
                    Reading::Gone => Stands::Nothing,
                };
                match reading {
                    Stands::Nothing => {
                        if let Some(Known::Held { .. }) = self.known.remove(&place) {
                            self.gone.insert(place);
                        }
                    }
                    Stands::Document(record) => {
                        let digest = record.digest;
                        let known = Known::Held { digest, stamp };
                        let before = self.known.insert(place.clone(), known);
                        let is_news = before.and_then(|known| known.digest()) != Some(digest);
                        // One that could not be read for a while is said again, for the refusal to go.
                        if is_news || was_unread || self.unsaid.contains(&place) {
                            upserts.push(Change::Upsert(record));
                            self.gone.remove(&place);
                            self.unsaid.insert(place);
                        }
                    }
                    Stands::Refused(reason) if reason.may_pass() => {
                        if !was_unread {
                            rejected.push(self.rejected(&place, reason.clone(), stamp));
                        }
                        // What is held stands until it can be told what stands there.
                        match self.known.get_mut(&place) {
                            Some(Known::Held { stamp, .. }) => *stamp = None,
                            _ => {
                                let stamp = None;
                                let known = Known::Refused { reason, stamp };
                                self.known.insert(place.clone(), known);
                            }
                        }
                        self.unread.insert(place);
                    }
                    Stands::Refused(reason) => {
                        let known = Known::Refused {
                            reason: reason.clone(),
                            stamp,
                        };
                        let before = self.known.insert(place.clone(), known);
                        let is_told = before.as_ref().is_some_and(|k| k.refused_alike(&reason));
                        if !is_told || self.unsaid.contains(&place) {
                            rejected.push(self.rejected(&place, reason, stamp));
                            self.unsaid.insert(place.clone());
                        }
                        if let Some(Known::Held { .. }) = before {
                            self.gone.insert(place);
                        }
                    }
                }
            }
        }
        self.unread.retain(|place| self.known.contains_key(place));
        // A root that goes away while it is listed looks empty: that is an error, not deletions.
        self.roots.check()?;
        let at_ms = stamp::nanoseconds(SystemTime::now()) / 1_000_000;
        for key in self.orphans.drain(..) {
            let offset = Offset::file(key.as_str(), None);
            deletes.push(gone(key, at_ms, offset));
        }
        self.unsaid.clear();
        for place in std::mem::take(&mut self.gone) {
            let key = self
                .roots
                .key(&place)
                .expect("only places with a key hold documents");
            let offset = Offset::file(self.roots.shown(&place), None);
            deletes.push(gone(key, at_ms, offset));
        }
        deletes.append(&mut upserts);
        Ok(Batch {
            changes: deletes,
            rejected,
            resume: None,
            trace: None,
        })
    }

    /// Whether nothing is in a root whose documents are held, and it is another folder than it was or,
    /// at a start, of an earlier run: something was unmounted, or is about to be filled again. Its
    /// documents are not taken for deleted, unless that is to be believed.
    fn is_emptied(&mut self, scope: &Place, out: &Outlet) -> Result<bool, Halt> {
        if !scope.path.as_os_str().is_empty() || self.believes_empty {
            return Ok(false);
        }
        let root = scope.root;
        let below = self.known_below(scope).into_iter();
        let is_held = |place: &Place| matches!(self.known.get(place), Some(Known::Held { .. }));
        let held: Vec<Place> = below.filter(is_held).collect();
        let was = self.roots_were[root];
        let is = self.roots.identity(root);
        if held.is_empty() || was.is_some() && was == is {
            return Ok(false);
        }
        // Files that are there and left out are so by a rule, which is no accident.
        let is_there = |place: &Place| fs::symlink_metadata(self.roots.absolute(place)).is_ok();
        if held.iter().any(is_there) {
            return Ok(false);
        }
        if self.are_emptied.insert(root, is).is_none() {
            let path = self.roots.given(root).to_path_buf();
            out.notice(Notice::Emptied {
                path,
                documents: held.len() as u64,
            })?;
        }
        Ok(true)
    }

    /// Whether a file at a place is a document.
    fn is_document(&self, place: &Place) -> bool {
        match self.roots.only(place.root) {
            Some(only) => only.contains(place.path.as_os_str()),
            None => self.filter.is_document(&place.path),
        }
    }

    /// Waits until files that were written just now are at rest, and no longer than
    /// [`MAX_UNREST`]: half of a file is no document.
    fn await_rest(&self, found: &mut BTreeMap<Place, Found>, out: &Outlet) -> Result<(), Halt> {
        let is_restless = |meta: &Metadata| {
            let age = meta.modified().ok().and_then(|time| time.elapsed().ok());
            // A time that is still to come says nothing.
            age.is_some_and(|age| age < self.rest)
        };
        let restless = found.iter().filter_map(|(place, found)| match found {
            Found::File(meta, path) if is_restless(meta) => Some((place.clone(), path.clone())),
            _ => None,
        });
        let mut restless: Vec<(Place, PathBuf)> = restless.collect();
        let end = Instant::now() + MAX_UNREST;
        while !restless.is_empty() && Instant::now() < end {
            out.wait(self.rest / 4)?;
            restless.retain(|(place, path)| match fs::symlink_metadata(path) {
                Ok(meta) if meta.is_file() => {
                    let is_restless = is_restless(&meta);
                    found.insert(place.clone(), Found::File(meta, path.clone()));
                    is_restless
                }
                // Reading tells what it is now.
                _ => false,
            });
        }
        Ok(())
    }

    /// The places to look at, in order, none within another.
    fn scopes(&self, touched: &Touched) -> Vec<Place> {
        let root = |root| Place {
            root,
            path: PathBuf::new(),
        };
        if touched.everything {
            return (0..self.roots.len()).map(root).collect();
        }
        let mut places: Vec<Place> = touched
            .paths
            .iter()
            .filter_map(|path| self.roots.place(path))
            .map(|place| self.nearest_real(place))
            // Once something is there again, all of before is compared with it.
            .map(|place| match self.are_emptied.contains_key(&place.root) {
                true => root(place.root),
                false => place,
            })
            .filter(|place| self.roots.cover(&self.filter, place))
            .collect();
        places.sort();
        places.dedup_by(|next, before| before.holds(next));
        places
    }

    /// The place itself, or the first folder above it that is no longer a plain folder: what
    /// stood below it is to be compared with what stands there now.
    fn nearest_real(&self, place: Place) -> Place {
        let mut above = Place {
            root: place.root,
            path: PathBuf::new(),
        };
        let parents = place.path.parent().unwrap_or(Path::new(""));
        for name in parents {
            above.path.push(name);
            let is_other = match fs::symlink_metadata(self.roots.absolute(&above)) {
                Ok(found) => !found.is_dir(),
                // What cannot be looked at just now is listed as what it is.
                Err(error) => listing::vanished(&error),
            };
            if is_other {
                return above;
            }
        }
        place
    }

    fn known_below(&self, scope: &Place) -> Vec<Place> {
        let below = self.known.range(scope.clone()..);
        below
            .map(|(place, _)| place)
            .take_while(|place| scope.holds(place))
            .cloned()
            .collect()
    }

    /// The record that a file is.
    fn record(
        &self,
        place: &Place,
        document: Document,
        stamp: Option<Stamp>,
    ) -> Result<Record, Rejection> {
        let key = self
            .roots
            .key(place)
            .expect("only places with a key are read");
        let revision = stamp.map(Stamp::revision);
        let updated_at_ms = revision.map_or(0, |revision| revision.mtime_ns.div_euclid(1_000_000));
        let mut of_file: Vec<Attribute> = vec![(PATH.into(), Value::Text(key.text()))];
        if let Some(revision) = revision {
            let size = i64::try_from(revision.len).unwrap_or(i64::MAX);
            of_file.push((MODIFIED.into(), Value::Timestamp(updated_at_ms)));
            of_file.push((SIZE.into(), Value::Integer(size)));
        }
        let row = Row {
            text: document.text.into(),
            title: document.title.map(Into::into),
            updated_at_ms,
            is_timed: false,
            supersedes: Arc::default(),
            columns: attributes::columns(&of_file, document.front_matter)?,
        };
        Ok(Record {
            digest: Digest::dated(&row),
            key,
            row,
            offset: Offset::file(self.roots.shown(place), revision),
        })
    }

    fn rejected(&self, place: &Place, reason: Rejection, stamp: Option<Stamp>) -> Rejected {
        let revision = stamp.map(Stamp::revision);
        Rejected {
            source: self.source.clone(),
            offset: Offset::file(self.roots.shown(place), revision),
            // A folder that cannot be listed, or a link to one, would have been no record.
            key: match self.is_document(place) {
                true => self.roots.key(place),
                false => None,
            },
            reason,
            content: None,
        }
    }
}

/// A deletion that was noticed at a time. A folder keeps none of its own.
fn gone(key: Key, at_ms: i64, offset: Offset) -> Change {
    Change::Delete {
        key,
        at_ms,
        is_timed: false,
        offset,
    }
}

impl Known {
    /// Whether a file with this stamp must still be what it was.
    fn is_fresh(&self, now: &Stamp) -> bool {
        let (Self::Held { stamp, .. } | Self::Refused { stamp, .. }) = self;
        stamp.is_some_and(|stamp| stamp.vouches_for(now))
    }

    fn digest(&self) -> Option<Digest> {
        match self {
            Self::Held { digest, .. } => Some(*digest),
            Self::Refused { .. } => None,
        }
    }

    /// Whether this was refused for the same kind of reason: one report is enough for a log
    /// that is too large and grows.
    fn refused_alike(&self, reason: &Rejection) -> bool {
        match self {
            Self::Held { .. } => false,
            Self::Refused { reason: before, .. } => discriminant(before) == discriminant(reason),
        }
    }
}
