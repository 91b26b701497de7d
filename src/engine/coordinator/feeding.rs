//! Which epoch does a view take next, and what does it get?
//!
//! # Invariants
//! - A view takes all that changed since the epoch it stands at, up to the newest that everything
//!   it reads stands at: each of its answers reflects one epoch of all its inputs. One that tells
//!   each answer takes what changed since the epoch that it took last, which may be in flight.
//! - An epoch in which nothing changed that a view reads costs it nothing: it stands there at once.
//! - A view reads only what was made before it, so one pass in their order is enough.
//! - What a view reads may be at work on the next epoch already: one that never rests does not keep its
//!   readers from what it has completed.
//! - A view that lets changes wait (`pacing.rs`) is given none before it is time.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use perennial_bank::DocumentKey;
use perennial_rows::{Row, Schema};
use perennial_views::{Epoch, Policy};

use super::Coordinator;
use super::stream::Stream;
use super::view::{Body, Generating, View};
use crate::engine::change_log::{BagChange, Change as _, KeyedChange};
use crate::engine::names::ViewId;
use crate::engine::reading::{self, Origin};
use crate::engine::tracer::{Begun, Tracer};
use crate::engine::update::{
    DocumentChange, DocumentChangeKind, EpochStart, MAX_NAMED_CHANGES, Update,
};
use crate::engine::workers::{Command, GenerateShare, Share};

impl Coordinator {
    /// Gives every view that is ready what changed since its last epoch.
    pub(super) fn feed_views(&mut self) {
        let ids: Vec<ViewId> = self.views.keys().copied().collect();
        for id in ids {
            let Some(upto) = self.may_take(id).filter(|_| self.may_begin(id)) else {
                continue;
            };
            // What was edited and edited back is no change any more.
            if self.held_back(id).is_none() || !self.has_work(id, upto) {
                self.take_epoch(id, upto);
            }
        }
    }

    /// The newest epoch that all that a view reads stands at, if that is ahead of it.
    pub(super) fn may_take(&self, id: ViewId) -> Option<Epoch> {
        let view = &self.views[&id];
        let origins = view.origins().into_iter();
        let stands = origins.map(|origin| match origin {
            Origin::Stream(_) => self.closed,
            Origin::View(read) => self.views[&read].stands_at,
        });
        let upto = stands.min().unwrap_or(self.closed)?;
        (Some(upto) > view.taken()).then_some(upto)
    }

    /// Lets a view work on an epoch; one that changes nothing for it is complete at once.
    fn take_epoch(&mut self, id: ViewId, upto: Epoch) {
        if !self.has_work(id, upto) {
            // What is in flight is complete first.
            let view = self.views.get_mut(&id);
            if let Some(view) = view.filter(|view| view.in_flight.is_none()) {
                view.stands_at = Some(upto);
                view.backlog.take(upto);
            }
            return;
        }
        if let Some(tracer) = self.hub.tracer() {
            self.tell_begun(&**tracer, id, upto);
        }
        if let Some(view) = self.views.get_mut(&id) {
            view.backlog.take(upto);
            view.is_told_stale = false;
        }
        let view = &self.views[&id];
        let after = view.taken();
        match &view.body {
            Body::Generate(generating) => {
                let documents = self.changed(generating.documents, after, upto);
                let contexts = self.changed(generating.contexts, after, upto);
                self.feed_generating(id, upto, &documents, &contexts);
            }
            Body::Query(querying) => {
                let inputs = querying.query.inputs().iter().zip(&querying.origins);
                let inputs = inputs.map(|(input, origin)| {
                    self.changed_tuples(*origin, &input.columns, after, upto)
                });
                let inputs = inputs.collect();
                self.feed_query(id, upto, inputs);
            }
        }
    }

    /// Tells that a view takes an epoch, and what it has waiting up to it.
    fn tell_begun(&self, tracer: &dyn Tracer, id: ViewId, epoch: Epoch) {
        let view = &self.views[&id];
        let causes: Vec<Epoch> = view.backlog.upto(epoch).collect();
        let origins = view.origins();
        let reads = origins.iter().filter_map(|origin| match origin {
            Origin::Stream(_) => None,
            Origin::View(read) => Some(&*self.views[read].name),
        });
        tracer.begun(&Begun {
            view: &view.name,
            epoch,
            causes: &causes,
            reads: &reads.collect::<Vec<&str>>(),
        });
    }

    /// Whether an epoch is more to a view than its number.
    pub(super) fn has_work(&self, id: ViewId, upto: Epoch) -> bool {
        let view = &self.views[&id];
        let Some(after) = view.taken() else {
            // Whatever stands is new to it, and of nothing a query may say something, too.
            return true;
        };
        let is_changed = |origin| match origin {
            Origin::Stream(read) => self.streams[&read].log.has_between(after, upto),
            Origin::View(read) => self.views[&read].log.has_between(after, upto),
        };
        let is_due = view.generating().is_some_and(|view| view.healing.is_due());
        is_due || view.origins().into_iter().any(is_changed)
    }

    /// What changed in a relation, by key; all that stands for who has not begun.
    fn changed(&self, origin: Origin, after: Option<Epoch>, upto: Epoch) -> KeyedChange {
        let Some(after) = after else {
            return self.stood(origin, upto);
        };
        match origin {
            Origin::Stream(read) => self.streams[&read].log.between(after, upto),
            Origin::View(read) => {
                let view = &self.views[&read];
                keyed(view, &view.log.between(after, upto))
            }
        }
    }

    /// The same, as tuples of these columns.
    fn changed_tuples(
        &self,
        origin: Origin,
        columns: &Schema,
        after: Option<Epoch>,
        upto: Epoch,
    ) -> BagChange {
        match origin {
            Origin::Stream(_) => reading::tuples(columns, &self.changed(origin, after, upto)),
            Origin::View(read) => {
                let view = &self.views[&read];
                let change = match after {
                    Some(after) => view.log.between(after, upto),
                    None => view.stood(upto),
                };
                reading::columns(&view.schema, columns, &change)
            }
        }
    }

    /// What stood in a relation at an epoch, as a change from nothing.
    fn stood(&self, origin: Origin, at: Epoch) -> KeyedChange {
        match origin {
            Origin::Stream(read) => {
                let stream: &Stream = &self.streams[&read];
                let rows = stream.table.rows();
                let rows = rows.map(|(key, row)| (key.clone(), None, Some(row.clone())));
                let mut stood: KeyedChange = rows.collect();
                for (key, _, old) in stream.log.since(at).backwards() {
                    stood.note(key.clone(), None, old.cloned());
                }
                stood
            }
            Origin::View(read) => {
                let view = &self.views[&read];
                keyed(view, &view.stood(at))
            }
        }
    }

    /// Lets a view of a query work on these changes of its inputs.
    pub(super) fn feed_query(&mut self, id: ViewId, epoch: Epoch, inputs: Vec<BagChange>) {
        let n_workers = self.workers.n_workers();
        let Some(view) = self.views.get_mut(&id) else {
            return;
        };
        view.begin(epoch);
        let mut shares = vec![vec![Vec::new(); inputs.len()]; n_workers];
        for (input, change) in inputs.iter().enumerate() {
            for (tuple, diff) in change.iter() {
                let worker = worker_of(tuple, n_workers);
                shares[worker][input].push((tuple.clone(), diff));
            }
        }
        let commands = shares.into_iter();
        self.workers.send(commands.map(|share| Command::Epoch {
            view: id,
            epoch,
            share: Share::Query(share),
        }));
    }

    /// What subscribers are told of the documents' changes: in the first epoch after a restart,
    /// how they differ from what an earlier process left.
    fn told<'a>(&self, id: ViewId, documents: &'a KeyedChange) -> Cow<'a, KeyedChange> {
        let view = &self.views[&id];
        let before = match view.generating().map(|view| view.documents) {
            Some(Origin::Stream(read)) if view.taken().is_none() => &self.streams[&read].restored,
            _ => return Cow::Borrowed(documents),
        };
        if before.is_empty() {
            return Cow::Borrowed(documents);
        }
        let mut told = KeyedChange::default();
        for (key, row) in before {
            told.note(key.clone(), Some(row.clone()), None);
        }
        told.then(documents);
        Cow::Owned(told)
    }

    /// Lets a view that asks a model work on these changes.
    pub(super) fn feed_generating(
        &mut self,
        id: ViewId,
        epoch: Epoch,
        documents: &KeyedChange,
        contexts: &KeyedChange,
    ) {
        let is_fresh = !(documents.is_empty() && contexts.is_empty());
        if is_fresh {
            // What runs in the background gives way to what is fresh, in every view.
            for view in self.views.values_mut().filter_map(View::generating_mut) {
                view.healing.give_way();
                view.measuring.give_way();
            }
        }
        let n_workers = self.workers.n_workers();
        let told = self.told(id, documents);
        let Some(view) = self.views.get_mut(&id) else {
            return;
        };
        let name = view.name.clone();
        view.begin(epoch);
        let Body::Generate(generating) = &mut view.body else {
            return;
        };
        let mut shares = vec![GenerateShare::default(); n_workers];
        for (key, old, new) in documents.iter() {
            let share = &mut shares[worker_of(key, n_workers)].documents;
            for (row, diff) in [(old, -1), (new, 1)] {
                let group = row.and_then(|row| {
                    let group = reading::group(key, row, &generating.plan.matching)?;
                    Some((group, reading::document(key, row)))
                });
                share.extend(group.map(|row| (row, diff)));
            }
        }
        for (key, old, new) in contexts.iter() {
            let share = &mut shares[worker_of(key, n_workers)].contexts;
            for (row, diff) in [(old, -1), (new, 1)] {
                let Some(row) = row else { continue };
                let group = reading::group(key, row, &generating.plan.matching);
                // One that holds nothing to match by meets no document, but is a context.
                let group = group.unwrap_or_else(|| reading::alone(key));
                share.push(((group, reading::context(key, row)), diff));
            }
        }
        let mut n_healed = 0;
        for (row, diff) in generating.healing.commit() {
            n_healed += usize::from(diff > 0);
            let worker = worker_of(row.0.as_str(), n_workers);
            shares[worker].healed.push((row, diff));
        }
        let is_appending = generating.plan.policy == Policy::Append;
        let n_compacted = if is_appending { n_healed } else { 0 };
        generating.note_contexts(contexts);
        let gone = generating.note_gone(epoch, contexts);
        let started = EpochStart {
            view: name.clone(),
            epoch,
            n_healed,
            n_compacted,
            n_documents: generating.note_documents(documents),
            changes: named_changes(&told),
            n_changes: told.iter().count(),
        };
        self.hub.tell(Some(&name), &Update::EpochStarted(started));
        for update in gone {
            self.hub.tell(Some(&name), &Update::Answer(update));
        }
        let commands = shares.into_iter();
        self.workers.send(commands.map(|share| Command::Epoch {
            view: id,
            epoch,
            share: Share::Generate(share),
        }));
    }
}

impl Generating {
    /// Keeps the texts of contexts as of the epoch that begins.
    fn note_contexts(&mut self, contexts: &KeyedChange) {
        for (key, _, new) in contexts.iter() {
            let (context, _) = reading::context(key, &Row::default());
            let priority = new.map_or(0, reading::priority);
            self.services.agenda.prioritise(&context, priority);
            let group = new.map(|row| {
                let group = reading::group(key, row, &self.plan.matching);
                group.unwrap_or_else(|| reading::alone(key))
            });
            self.coverage.note_context(&context, group);
            match new {
                Some(row) => self.questions.insert(context, row.text.clone()),
                None => self.questions.remove(&context),
            };
        }
    }

    /// Counts documents as of the epoch that begins.
    fn note_documents(&mut self, documents: &KeyedChange) -> usize {
        for (_, old, new) in documents.iter() {
            self.n_documents += usize::from(new.is_some());
            self.n_documents -= usize::from(old.is_some());
        }
        self.n_documents
    }
}

/// The documents that an epoch changes, as subscribers are told: the first by key.
fn named_changes(documents: &KeyedChange) -> Vec<DocumentChange> {
    let named = documents.iter().take(MAX_NAMED_CHANGES);
    named
        .map(|(key, old, new)| DocumentChange {
            key: DocumentKey::new(key.text()),
            change: match (old, new) {
                (None, _) => DocumentChangeKind::Inserted,
                (Some(_), Some(_)) => DocumentChangeKind::Updated,
                (Some(_), None) => DocumentChangeKind::Deleted,
            },
        })
        .collect()
}

impl View {
    /// What it said at an epoch, as a change from nothing.
    fn stood(&self, at: Epoch) -> BagChange {
        let mut stood = BagChange::default();
        for (tuple, count) in self.tuples() {
            stood.add(tuple, count);
        }
        for (tuple, diff) in self.log.since(at).iter() {
            // Backwards.
            stood.add(tuple.clone(), -diff);
        }
        stood
    }
}

/// The change of a view by key, for those who read it as rows. A tuple without key or text is no
/// row.
fn keyed(view: &View, change: &BagChange) -> KeyedChange {
    let mut keyed = KeyedChange::default();
    let row = |tuple| reading::row(&view.schema, tuple);
    // What goes first, so that what replaces it comes behind it.
    for (tuple, diff) in change.iter() {
        if diff < 0
            && let Some((key, row)) = row(tuple)
        {
            keyed.note(key, Some(row), None);
        }
    }
    for (tuple, diff) in change.iter() {
        if diff > 0
            && let Some((key, row)) = row(tuple)
        {
            keyed.note(key, None, Some(row));
        }
    }
    keyed
}

/// Which worker feeds a row.
fn worker_of(key: &(impl Hash + ?Sized), n_workers: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    usize::try_from(hasher.finish() % n_workers as u64).unwrap_or(0)
}
