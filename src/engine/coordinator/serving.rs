//! What do callers ask, and what are they told?

use std::sync::Arc;

use crossbeam_channel::Sender;
use perennial_ask::Dependency;
use perennial_bank::{ContextKey, DocumentKey};
use perennial_connectors::{Sink, Source};
use perennial_rows::{Key, Row, Schema};
use perennial_views::query::Query;
use perennial_views::{Epoch, Pace, PaceOption, View as Declaration};

use super::view::{Body, Generating};
use super::{Coordinator, Flush};
use crate::engine::audits::AuditStats;
use crate::engine::current::CurrentAnswer;
use crate::engine::error::Error;
use crate::engine::forget::Receipt;
use crate::engine::names::{StreamId, ViewId};
use crate::engine::quarantine::Quarantined;
use crate::engine::relations::{RelationInfo, Snapshot};
use crate::engine::sinks::SinkSpec;
use crate::engine::subscription::{Mailbox, Subscription};
use crate::engine::update::{RowsUpdate, Update};
use crate::engine::workers::Command;

/// What callers ask of the coordinator.
pub(crate) enum Request {
    /// Rows that become visible together.
    Apply {
        rows: Vec<(StreamId, Key, Option<Row>)>,
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
    Answers {
        view: ViewId,
        reply: Sender<Vec<(ContextKey, CurrentAnswer)>>,
    },
    Forget {
        stream: StreamId,
        key: Key,
        is_table: bool,
        reply: Sender<Result<Receipt, Error>>,
    },
    /// The rows of a stream as they stand.
    Rows {
        stream: StreamId,
        reply: Sender<Vec<(Key, Row)>>,
    },
    Quarantine {
        reply: Sender<Vec<Quarantined>>,
    },
    Undelivered {
        reply: Sender<Vec<(String, usize)>>,
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
    Drop {
        name: String,
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
    Release {
        reply: Sender<Result<(), Error>>,
    },
    Stop,
}

impl Coordinator {
    pub(super) fn serve(&mut self, request: Request) {
        // A caller that no longer waits for its reply is no error.
        match request {
            Request::Apply { rows } => {
                for (stream, key, row) in rows {
                    // One that was dropped meanwhile takes no rows.
                    if let Some(stream) = self.streams.get_mut(&stream) {
                        stream.table.set(key, row);
                    }
                }
            }
            Request::Flush {
                is_exact,
                views,
                reply,
            } => self.flushes.push(Flush {
                is_exact,
                views,
                is_closed: false,
                upto: None,
                reply,
            }),
            Request::Subscribe { view, reply } => {
                let _ = reply.send(self.subscribe(view));
            }
            Request::Answers { view, reply } => {
                let view = self.views.get(&view).and_then(|view| view.generating());
                let answers = view.into_iter().flat_map(|view| &view.answers);
                let _ = reply.send(answers.map(|(c, a)| (c.clone(), a.clone())).collect());
            }
            Request::Forget {
                stream,
                key,
                is_table,
                reply,
            } => self.begin_forgetting(stream, key, is_table, reply),
            Request::Rows { stream, reply } => {
                let stream = self.streams.get(&stream);
                let rows = stream.into_iter().flat_map(|stream| stream.table.rows());
                let rows = rows.map(|(key, row)| (key.clone(), row.clone()));
                let _ = reply.send(rows.collect());
            }
            Request::Quarantine { reply } => {
                let _ = reply.send(self.quarantine.all());
            }
            Request::Undelivered { reply } => {
                let owed = self.sinks.iter().map(|s| (s.name.clone(), s.n_owed()));
                let _ = reply.send(owed.filter(|(_, n_owed)| *n_owed > 0).collect());
            }
            Request::Audits { view, reply } => {
                let view = self.views.get(&view).and_then(|view| view.generating());
                let audits = view.map(|view| view.healing.audits());
                let _ = reply.send(audits.unwrap_or_default());
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
            Request::Drop { name, reply } => {
                let _ = reply.send(self.drop_relation(&name));
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
}
