//! What do callers ask, and what are they told?

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use crossbeam_channel::Sender;
use perennial_ask::{Dependency, Profile};
use perennial_bank::{ContextKey, DocumentKey};
use perennial_connectors::{Sink, Source, TraceParent, fit};
use perennial_rows::{Key, Row, Schema};
use perennial_views::query::Query;
use perennial_views::{Epoch, Pace, PaceOption, Plan, View as Declaration};

use super::Coordinator;
use super::view::{Body, Generating};
use super::waiting::{Bound, Flush};
use crate::engine::analysis::{Analysis, AnalysisOf};
use crate::engine::audits::AuditStats;
use crate::engine::cause::Why;
use crate::engine::current::CurrentAnswer;
use crate::engine::error::Error;
use crate::engine::follower::{Follower, Lineage, LineagePassage, Standing};
use crate::engine::forget::RowToForget;
use crate::engine::names::{StreamId, ViewId};
use crate::engine::places::Place;
use crate::engine::quarantine::QuarantinePage;
use crate::engine::reading::Origin;
use crate::engine::recent::RecentChanges;
use crate::engine::relations::{RelationInfo, RelationKind, Snapshot};
use crate::engine::sinks::{PutAside, RunningSink, SinkSpec};
use crate::engine::subscription::{Mailbox, Subscription};
use crate::engine::update::{AnswerUpdate, RowsUpdate, Update};
use crate::engine::workers::Command;
use crate::state::{StateError, mended};

/// What callers ask of the coordinator.
pub(crate) enum Request {
    /// Rows that become visible together.
    Apply {
        rows: Vec<(StreamId, Key, Option<Row>)>,
        /// Of which trace they are.
        trace: Option<TraceParent>,
    },
    Flush {
        /// Whether to wait for exact answers.
        is_exact: bool,
        /// In which views it is to be visible; in all of them where none are named.
        views: Option<Vec<ViewId>>,
        reply: Sender<Result<Option<Epoch>, Error>>,
    },
    Subscribe {
        view: ViewId,
        reply: Sender<Result<Subscription, Error>>,
    },
    Follow {
        view: ViewId,
        follower: Weak<dyn Follower>,
        reply: Sender<Result<(), Error>>,
    },
    /// Which passages an answer leans on.
    Lineage {
        view: ViewId,
        context: ContextKey,
        reply: Sender<Option<Lineage>>,
    },
    /// How a view is computed, in words, and which models it asks.
    Explain {
        view: ViewId,
        reply: Sender<Result<Explained, Error>>,
    },
    /// Why an answer is as it is.
    Why {
        view: ViewId,
        context: ContextKey,
        reply: Sender<Option<Why>>,
    },
    /// Where a row of a stream was read.
    Place {
        stream: StreamId,
        key: String,
        reply: Sender<Option<Place>>,
    },
    /// What changed of a relation lately.
    Recent {
        name: String,
        reply: Sender<Result<RecentChanges, Error>>,
    },
    /// What a view has done.
    Analyze {
        view: ViewId,
        reply: Sender<Result<Analysis, Error>>,
    },
    Answers {
        view: ViewId,
        reply: Sender<Vec<(ContextKey, CurrentAnswer)>>,
    },
    /// Rows to be forgotten at once.
    Forget {
        stream: StreamId,
        is_table: bool,
        rows: Vec<RowToForget>,
    },
    /// The rows of a stream, with what is about to become of them.
    Rows {
        stream: StreamId,
        reply: Sender<Vec<(Key, Row)>>,
    },
    /// A part of what was refused.
    Quarantine {
        /// Of this stream; of all where none is named.
        stream: Option<String>,
        /// Behind this number.
        after: Option<u64>,
        limit: usize,
        reply: Sender<QuarantinePage>,
    },
    /// Takes a refused record in, as it was or as it was meant.
    Resubmit {
        number: u64,
        instead: Option<Vec<u8>>,
        reply: Sender<Result<(Arc<str>, Key), Error>>,
    },
    /// Drops a refused record.
    Discard {
        number: u64,
        reply: Sender<bool>,
    },
    Undelivered {
        reply: Sender<Vec<(String, usize)>>,
    },
    DeadLetters {
        reply: Sender<Vec<PutAside>>,
    },
    Audits {
        view: ViewId,
        reply: Sender<AuditStats>,
    },
    Dependents {
        view: ViewId,
        document: DocumentKey,
        reply: Sender<Vec<Dependency>>,
    },
    /// Which contexts' answers were measured, and what of them depends on a document.
    Measured {
        view: ViewId,
        document: DocumentKey,
        reply: Sender<(HashSet<ContextKey>, Vec<Dependency>)>,
    },
    CreateTable {
        name: Arc<str>,
        columns: Option<Schema>,
        reply: Sender<Result<(), Error>>,
    },
    CreateSource {
        source: Box<dyn Source>,
        reply: Sender<Result<(), Error>>,
    },
    CreateView {
        view: Box<Declaration>,
        reply: Sender<Result<(), Error>>,
    },
    CreateQuery {
        name: Arc<str>,
        query: Arc<Query>,
        pace: Pace,
        reply: Sender<Result<(), Error>>,
    },
    AlterView {
        name: String,
        set: Vec<PaceOption>,
        reply: Sender<Result<(), Error>>,
    },
    Snapshot {
        name: String,
        reply: Sender<Result<Snapshot, Error>>,
    },
    CreateSink {
        view: String,
        sink: Box<dyn Sink>,
        reply: Sender<Result<(), Error>>,
    },
    /// Drops streams and views: all of them, or none.
    Drop {
        names: Vec<String>,
        reply: Sender<Result<(), Error>>,
    },
    DropSink {
        name: String,
        reply: Sender<Result<(), Error>>,
    },
    DropModel {
        name: String,
        reply: Sender<Result<(), Error>>,
    },
    Relations {
        reply: Sender<Vec<RelationInfo>>,
    },
    Begin {
        reply: Sender<Result<(), Error>>,
    },
    Release {
        reply: Sender<Result<(), Error>>,
    },
    Stop,
}

/// How a view is computed.
#[derive(Clone, Debug)]
pub(crate) struct Explained {
    /// Its plan, in words.
    pub(crate) plan: String,
    /// The models that it asks; none is that which is asked where none is named.
    pub(crate) asked: Vec<Option<Arc<str>>>,
}

impl Coordinator {
    pub(super) fn serve(&mut self, request: Request) {
        // A caller that no longer waits for its reply is no error.
        match request {
            Request::Apply { rows, trace } => self.apply(rows, trace),
            Request::Flush {
                is_exact,
                views,
                reply,
            } => {
                self.hear_sources();
                self.flushes.push(Flush {
                    is_exact,
                    views,
                    bound: Bound::Open,
                    reply,
                });
            }
            Request::Subscribe { view, reply } => {
                let _ = reply.send(self.subscribe(view));
            }
            Request::Follow {
                view,
                follower,
                reply,
            } => {
                let _ = reply.send(self.follow(view, follower));
            }
            Request::Lineage {
                view,
                context,
                reply,
            } => {
                let _ = reply.send(self.lineage(view, &context));
            }
            Request::Explain { view, reply } => {
                let _ = reply.send(self.explain(view));
            }
            Request::Why {
                view,
                context,
                reply,
            } => {
                let _ = reply.send(self.why(view, &context));
            }
            Request::Place { stream, key, reply } => {
                let stream = self.streams.get(&stream);
                let _ = reply.send(stream.and_then(|stream| stream.places.of(&key)));
            }
            Request::Recent { name, reply } => {
                let _ = reply.send(self.recent(&name));
            }
            Request::Analyze { view, reply } => {
                let _ = reply.send(self.analyze(view));
            }
            Request::Answers { view, reply } => {
                let view = self.views.get(&view).and_then(|view| view.generating());
                let answers = view.into_iter().flat_map(|view| &view.answers);
                let _ = reply.send(answers.map(|(c, a)| (c.clone(), a.clone())).collect());
            }
            Request::Forget {
                stream,
                is_table,
                rows,
            } => self.begin_forgetting(stream, is_table, rows),
            Request::Rows { stream, reply } => {
                let stream = self.streams.get(&stream);
                let rows = stream
                    .into_iter()
                    .flat_map(|stream| stream.table.expected());
                let rows = rows.map(|(key, row)| (key.clone(), row.clone()));
                let _ = reply.send(rows.collect());
            }
            Request::Quarantine {
                stream,
                after,
                limit,
                reply,
            } => {
                let _ = reply.send(self.quarantine.page(stream.as_deref(), after, limit));
            }
            Request::Resubmit {
                number,
                instead,
                reply,
            } => {
                let _ = reply.send(self.resubmit(number, instead.as_deref()));
            }
            Request::Discard { number, reply } => {
                let _ = reply.send(self.quarantine.discard(number));
            }
            Request::Undelivered { reply } => {
                let owed = self.sinks.iter().map(|s| (s.name.clone(), s.n_owed()));
                let _ = reply.send(owed.filter(|(_, n_owed)| *n_owed > 0).collect());
            }
            Request::DeadLetters { reply } => {
                let put_aside = self.sinks.iter().filter_map(RunningSink::put_aside);
                let _ = reply.send(put_aside.collect());
            }
            Request::Audits { view, reply } => {
                let view = self.views.get(&view).and_then(|view| view.generating());
                let audits = view.map(|view| view.healing.audits());
                let _ = reply.send(audits.unwrap_or_default());
            }
            Request::Measured {
                view,
                document,
                reply,
            } => {
                let _ = reply.send(self.measured(view, &document));
            }
            Request::Dependents {
                view,
                document,
                reply,
            } => self
                .workers
                .send((0..self.workers.n_workers()).map(|_| Command::Dependents {
                    view,
                    document: document.clone(),
                    reply: reply.clone(),
                })),
            Request::CreateTable {
                name,
                columns,
                reply,
            } => {
                let _ = reply.send(self.create_table(name, columns));
            }
            Request::CreateSource { source, reply } => {
                let _ = reply.send(self.create_source(source));
            }
            Request::CreateView { view, reply } => {
                let _ = reply.send(self.create_view(&view));
            }
            Request::CreateQuery {
                name,
                query,
                pace,
                reply,
            } => {
                let _ = reply.send(self.create_query(name, query, pace));
            }
            Request::AlterView { name, set, reply } => {
                let _ = reply.send(self.alter_view(&name, &set));
            }
            Request::Snapshot { name, reply } => {
                let _ = reply.send(self.snapshot(&name));
            }
            Request::CreateSink { view, sink, reply } => {
                let _ = reply.send(self.create_sinks(vec![SinkSpec { view, sink }]));
            }
            Request::Drop { names, reply } => {
                let _ = reply.send(self.drop_relations(&names));
            }
            Request::DropSink { name, reply } => {
                let _ = reply.send(self.drop_sink(&name));
            }
            Request::DropModel { name, reply } => {
                let _ = reply.send(self.drop_model(&name));
            }
            Request::Relations { reply } => {
                let _ = reply.send(self.relations());
            }
            Request::Begin { reply } => {
                let _ = reply.send(self.begin());
            }
            Request::Release { reply } => {
                let _ = reply.send(self.release());
            }
            Request::Stop => unreachable!("handled by the loop"),
        }
    }

    fn subscribe(&self, id: ViewId) -> Result<Subscription, Error> {
        let mailbox = Arc::new(Mailbox::default());
        for update in &self.announced {
            mailbox.put(update.clone());
        }
        let Some(view) = self.views.get(&id) else {
            return Err(Error::Dropped);
        };
        for update in view.generating().into_iter().flat_map(Generating::told) {
            mailbox.put(Update::Answer(update));
        }
        if let Body::Query(querying) = &view.body
            && !querying.tuples.is_empty()
        {
            mailbox.put(Update::Rows(RowsUpdate {
                view: view.name.clone(),
                epoch: view.stands_at.unwrap_or_default(),
                rows: view.tuples(),
            }));
        }
        self.hub.add(view.name.clone(), mailbox.clone());
        Ok(Subscription { mailbox })
    }

    fn follow(&self, id: ViewId, follower: Weak<dyn Follower>) -> Result<(), Error> {
        let Some(view) = self.views.get(&id) else {
            return Err(Error::Dropped);
        };
        let Some(follows) = follower.upgrade() else {
            return Ok(());
        };
        let generating = view.generating();
        let as_new = |view: &Generating| -> Vec<AnswerUpdate> {
            let answers = view.answers.iter();
            let update =
                answers.map(|(context, now)| view.update(context, now.epoch, (None, Some(now))));
            update.collect()
        };
        let early = |view: &Generating| {
            let told = view.told().into_iter();
            told.filter(|update| update.is_early).collect()
        };
        follows.begin(Standing {
            origin: self.origin,
            definition: match &view.body {
                Body::Generate(view) => view.definition,
                Body::Query(view) => view.query.digest(),
            },
            kind: match &view.body {
                Body::Generate(_) => RelationKind::Answers,
                Body::Query(_) => RelationKind::Query,
            },
            columns: view.schema.clone(),
            // A view may stand at an epoch that changed nothing for it and is not stored: after a
            // crash its number would be given again.
            epoch: view
                .stands_at
                .map(|at| self.stored.map_or(at, |stored| at.min(stored))),
            answers: generating.map(as_new).unwrap_or_default(),
            early: generating.map(early).unwrap_or_default(),
            rows: match &view.body {
                Body::Generate(_) => Vec::new(),
                Body::Query(_) => view.tuples(),
            },
        });
        for update in &self.announced {
            follows.hear(update);
        }
        self.hub.follow(view.name.clone(), follower);
        Ok(())
    }

    fn resubmit(&mut self, number: u64, instead: Option<&[u8]>) -> Result<(Arc<str>, Key), Error> {
        let entry = self.quarantine.get(number).cloned();
        let entry = entry.ok_or(StateError::NotInQuarantine { number })?;
        let (id, _) = self.names.stream(&entry.stream)?;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Err(Error::Dropped);
        };
        let (key, row) = mended(entry, instead, stream.resume.as_ref())?;
        let row = match (row, &stream.columns) {
            (Some(row), Some(columns)) => Some(fit(columns, row).map_err(|reason| {
                let reason = reason.to_string();
                StateError::NoRecord { number, reason }
            })?),
            (row, _) => row,
        };
        stream.table.set(key.clone(), row);
        // Both are stored together.
        self.quarantine.discard(number);
        Ok((stream.name.clone(), key))
    }

    fn lineage(&self, id: ViewId, context: &ContextKey) -> Option<Lineage> {
        let view = self.views.get(&id)?.generating()?;
        let now = view.answers.get(context)?;
        let answer = view.update(context, now.epoch, (None, Some(now)));
        let written = view.services.book.before(context).written;
        // A call that is under way may have left a later answer there.
        let is_its = |text: &str| answer.new_text() == Some(text);
        let written = written.filter(|written| is_its(&written.answer.text));
        let scores = match (&written, now.measured()) {
            // An answer with the same words over other passages may have been left there.
            (Some(written), Some(measured)) if measured.layout != written.layout => &[],
            (Some(_), Some(_)) => now.dependencies.scores(),
            (Some(written), None) => written.dependencies.scores(),
            (None, _) => &[],
        };
        let passages = written.iter().flat_map(|written| written.layout.passages());
        let passages = passages.map(|passage| LineagePassage {
            document: passage.document.as_str().into(),
            ordinal: passage.ordinal,
            title: passage.title.clone(),
            text: passage.text.clone(),
            is_superseded: passage.is_superseded,
            copies: passage.copies.clone(),
        });
        Some(Lineage {
            passages: passages.collect(),
            scores: scores.to_vec(),
            n_tokens: now.tokens.len(),
            answer,
        })
    }

    fn measured(
        &self,
        id: ViewId,
        document: &DocumentKey,
    ) -> (HashSet<ContextKey>, Vec<Dependency>) {
        let view = self.views.get(&id).and_then(|view| view.generating());
        let answers = view.into_iter().flat_map(|view| &view.answers);
        let measured = answers.filter_map(|(context, now)| Some((context, now.measured()?)));
        let (mut contexts, mut rows) = (HashSet::new(), Vec::new());
        for (context, measured) in measured {
            contexts.insert(context.clone());
            let of_document = measured.rows.iter().filter(|row| row.document == *document);
            rows.extend(of_document.cloned());
        }
        (contexts, rows)
    }

    fn why(&self, id: ViewId, context: &ContextKey) -> Option<Why> {
        let view = self.views.get(&id)?.generating()?;
        let now = view.answers.get(context)?;
        let last = view.requests.get(context);
        Some(Why {
            question: view.question(context),
            epoch: now.epoch,
            cause: last.map(|last| last.cause.clone()),
            answer: now.clone(),
        })
    }

    fn recent(&self, name: &str) -> Result<RecentChanges, Error> {
        Ok(match self.origin(name)? {
            Origin::Stream(id) => RecentChanges::Keys(self.streams[&id].recent.all()),
            Origin::View(id) => match &self.views[&id].body {
                Body::Generate(_) => RecentChanges::Answers,
                Body::Query(view) => RecentChanges::Tuples(view.recent.all()),
            },
        })
    }

    fn analyze(&self, id: ViewId) -> Result<Analysis, Error> {
        let view = self.views.get(&id).ok_or(Error::Dropped)?;
        let newest = view.done.newest;
        Ok(Analysis {
            view: view.name.clone(),
            epoch: newest.map(|(epoch, _)| epoch),
            n_rows: view.n_rows(),
            of: match &view.body {
                Body::Generate(_) => AnalysisOf::Answers {
                    newest: newest.map(|(_, done)| done).unwrap_or_default().into(),
                    all: view.done.all.into(),
                },
                Body::Query(querying) => AnalysisOf::Query {
                    query: querying.query.clone(),
                    measures: querying.measures.clone(),
                },
            },
        })
    }

    fn explain(&self, id: ViewId) -> Result<Explained, Error> {
        let view = self.views.get(&id).ok_or(Error::Dropped)?;
        Ok(match &view.body {
            Body::Generate(view) => Explained {
                plan: with_profile(&view.plan, view.services.model.judges_by()),
                asked: vec![view.plan.model.clone()],
            },
            Body::Query(view) => Explained {
                plan: view.query.to_string(),
                asked: view.query.asked().into_iter().collect(),
            },
        })
    }
}

/// A plan in words, with the profile by which it leaves answers unread, where it may.
fn with_profile(plan: &Plan, profile: Option<&Arc<Profile>>) -> String {
    match profile.filter(|_| plan.policy.leaves_unread()) {
        Some(profile) => format!("{plan}\nanswers are left unread by {profile}"),
        None => plan.to_string(),
    }
}
