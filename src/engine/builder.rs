//! How an engine is declared, started and spoken to.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use perennial_connectors::{Digest, Key, Resume, Sink, Source};
use perennial_operators::{ColdTier, ContextKey, Dependency, DocumentKey, References};
use perennial_views::{ContextBook, Epoch, Memo, Plan, View};

use super::audits::AuditStats;
use super::clock::now_ms;
use super::coordinator::{Coordinator, Durable, Fed, Parts, Request};
use super::current::CurrentAnswer;
use super::edit::Edit;
use super::error::Error;
use super::forget::Receipt;
use super::hub::Hub;
use super::quarantine::Quarantined;
use super::runtime::Runtime;
use super::sinks::SinkSpec;
use super::subscription::Subscription;
use super::tables::Row;
use super::workers::BuiltView;
use crate::recording::{
    Beginning, EpochAnswer, Log, RecordedAnswer, RecordedEpoch, RecordedModel, Run, hex,
};
use crate::state::{
    AsOf, FRAGMENTS, Restored, Retention, State, StateAsOf, StateError, StoredAnswer, StoredRow,
};

/// Requests that wait for the coordinator.
const REQUEST_CAPACITY: usize = 256;
/// Events of one source that wait for the coordinator.
const EVENT_CAPACITY: usize = 8;
/// Bytes of fragments that a state directory holds unless told otherwise.
const DISK_BYTES: u64 = 4 << 30;

/// Declares streams and views; [`EngineBuilder::start`] makes the engine.
pub struct EngineBuilder {
    runtime: Runtime,
    streams: Vec<Stream>,
    views: Vec<View>,
    sinks: Vec<SinkSpec>,
    n_workers: usize,
    state: Option<PathBuf>,
    disk_bytes: u64,
    retention: Retention,
    recording: Option<PathBuf>,
}

struct Stream {
    name: String,
    source: Option<Box<dyn Source>>,
}

impl EngineBuilder {
    /// A stream fed by a source; its name is the source's.
    #[must_use]
    pub fn source(mut self, source: impl Source) -> Self {
        let name = source.name().as_str().to_owned();
        self.streams.push(Stream {
            name,
            source: Some(Box::new(source)),
        });
        self
    }

    /// A stream fed by hand, with [`Engine::upsert`] and [`Engine::delete`].
    #[must_use]
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.streams.push(Stream {
            name: name.into(),
            source: None,
        });
        self
    }

    /// A view to keep.
    #[must_use]
    pub fn view(mut self, view: View) -> Self {
        self.views.push(view);
        self
    }

    /// Delivers the answers of a view, an epoch at a time. With a state directory, what is not
    /// delivered yet outlives the process; a sink that is new to it gets all that stands.
    #[must_use]
    pub fn sink(mut self, view: impl Into<String>, sink: impl Sink) -> Self {
        self.sinks.push(SinkSpec {
            view: view.into(),
            sink: Box::new(sink),
        });
        self
    }

    /// Number of dataflow workers; one unless told. Answers do not depend on it.
    #[must_use]
    pub fn workers(mut self, n_workers: usize) -> Self {
        self.n_workers = n_workers.max(1);
        self
    }

    /// Keeps rows, source offsets, answers and vectors in a directory, one transaction an
    /// epoch. An engine that is started over it again goes on where the last one ended:
    /// sources resume, answers are there at once, and no model is called for what was
    /// answered. Without one, nothing outlives the engine.
    #[must_use]
    pub fn state(mut self, dir: impl Into<PathBuf>) -> Self {
        self.state = Some(dir.into());
        self
    }

    /// Most bytes of fragments that the state directory holds besides; 4 GiB unless told, and
    /// with 0 none. What the memory has no room for, and what a process before has encoded, is
    /// read from there where that is sooner done than encoding it again. Of several engines over
    /// one runtime at a time, the first that has a state directory keeps fragments.
    #[must_use]
    pub fn fragments_on_disk(mut self, n_bytes: u64) -> Self {
        self.disk_bytes = n_bytes;
        self
    }

    /// How many epochs the state directory can tell of, the present one included: a thousand
    /// unless told; none switches the history off. See [`Engine::as_of`].
    #[must_use]
    pub fn history(mut self, n_epochs: u64) -> Self {
        self.retention.n_epochs = n_epochs;
        self
    }

    /// Most bytes that the history may take in the state directory, besides what stands: 256 MiB
    /// unless told. The oldest epochs leave first.
    #[must_use]
    pub fn history_bytes(mut self, n_bytes: u64) -> Self {
        self.retention.n_bytes = n_bytes;
        self
    }

    /// Appends what every epoch takes in and the answers that it gives to a file, from which
    /// they can be replayed; see [`recording`](crate::recording). A file that another engine
    /// recorded to is gone on with.
    #[must_use]
    pub fn record(mut self, path: impl Into<PathBuf>) -> Self {
        self.recording = Some(path.into());
        self
    }

    /// The logical plans of the declared views.
    ///
    /// # Errors
    /// [`Error::View`] and the naming errors for a declaration that cannot be carried out.
    pub fn plans(&self) -> Result<Vec<Plan>, Error> {
        let names: Vec<&str> = self.streams.iter().map(|s| s.name.as_str()).collect();
        let view_names: Vec<&str> = self.views.iter().map(View::name).collect();
        let sink_names: Vec<&str> = self.sinks.iter().map(|s| s.sink.name()).collect();
        for names in [&names, &view_names, &sink_names] {
            if let Some((i, name)) = names
                .iter()
                .enumerate()
                .find(|(i, n)| names[..*i].contains(n))
            {
                debug_assert!(i > 0);
                return Err(Error::DeclaredTwice {
                    name: (*name).to_owned(),
                });
            }
        }
        for SinkSpec { view, .. } in &self.sinks {
            if !view_names.contains(&&**view) {
                return Err(Error::UnknownView {
                    name: view.clone(),
                    declared: view_names.join(", "),
                });
            }
        }
        let model = &self.runtime.model;
        let mut plans = Vec::new();
        for view in &self.views {
            let plan = view.plan(model.n_positions(), model.n_prefix_tokens())?;
            for stream in [&plan.context, &plan.data_source] {
                if !names.contains(&&**stream) {
                    return Err(Error::UnknownStream {
                        name: stream.to_string(),
                        declared: names.join(", "),
                    });
                }
            }
            plans.push(plan);
        }
        Ok(plans)
    }

    /// Starts sources, workers and the coordinator.
    ///
    /// # Errors
    /// [`Error`] for a declaration that cannot be carried out, or a source that cannot be
    /// started.
    pub fn start(self) -> Result<Engine, Error> {
        let plans: Vec<Arc<Plan>> = self.plans()?.into_iter().map(Arc::new).collect();
        let stream_names: Vec<String> = self.streams.iter().map(|s| s.name.clone()).collect();
        let index = |name: &str| stream_names.iter().position(|s| s == name);
        let hub = Arc::new(Hub::default());
        let log = self.recording.as_deref().map(Log::open).transpose()?;
        let references = self.runtime.store.clone();
        let references = references.map(|store| Arc::new(References::to(store)));
        let mut durable = match &self.state {
            Some(dir) => Some(self.restore(dir, &plans, references.as_ref())?),
            None => None,
        };
        let recording = log.map(|log| Beginning {
            run: Run::new(
                RecordedModel {
                    name: self.runtime.name.as_deref().map(str::to_owned),
                    digest: hex(&self.runtime.model.digest()),
                },
                hex(&self.runtime.embedder.digest()),
                stream_names.clone(),
                plans.iter().map(|plan| (**plan).clone()).collect(),
                durable.as_ref().and_then(|durable| durable.restored.epoch),
            ),
            standing: durable
                .as_ref()
                .and_then(|durable| standing(durable, &stream_names, &plans)),
            log,
        });
        let state = durable.as_ref().map(|durable| durable.state.clone());
        let memo: Arc<dyn Memo> = match &durable {
            Some(durable) => durable.state.clone(),
            None => Arc::new(()),
        };
        let embeddings = Arc::new(perennial_views::Embeddings::new(
            self.runtime.embedder.clone(),
            memo.clone(),
            self.runtime.embed_executor.clone(),
        ));
        let shelf = Arc::new(perennial_views::PassageShelf::default());
        let mut views = Vec::new();
        for plan in &plans {
            let (Some(context), Some(data_source)) =
                (index(&plan.context), index(&plan.data_source))
            else {
                unreachable!("the plans' streams were looked up");
            };
            let services = perennial_views::Services {
                model: self.runtime.model.clone(),
                references: references.clone(),
                shelf: shelf.clone(),
                embeddings: embeddings.clone(),
                model_executor: self.runtime.model_executor.clone(),
                book: Arc::new(ContextBook::default()),
                memo: memo.clone(),
                observer: hub.clone(),
            };
            views.push(BuiltView {
                plan: plan.clone(),
                services,
                data_source,
                context,
            });
        }
        let mut sources = Vec::new();
        let mut is_table = Vec::new();
        for stream in self.streams {
            is_table.push(stream.source.is_none());
            sources.push(match stream.source {
                Some(mut source) => {
                    if let Some(durable) = &mut durable {
                        let how = source.resume_from(resume(&durable.restored, &stream.name));
                        durable.resumptions.insert(stream.name.clone(), how);
                    }
                    let acks = source.acks();
                    let running = perennial_connectors::start(source, EVENT_CAPACITY)?;
                    Some(Fed { running, acks })
                }
                None => None,
            });
        }
        let sources: Vec<Option<Fed>> = sources;
        let view_index = |name: &str| plans.iter().position(|plan| &*plan.name == name);
        let sinks = self.sinks.into_iter();
        let sinks = sinks.filter_map(|spec| Some((view_index(&spec.view)?, spec)));
        let (requests, inbox) = bounded(REQUEST_CAPACITY);
        let coordinator = Coordinator::new(Parts {
            streams: stream_names.iter().cloned().zip(sources).collect(),
            views,
            n_workers: self.n_workers,
            hub: hub.clone(),
            store: self.runtime.store.clone(),
            inbox,
            sinks: sinks.collect(),
            durable,
            recording,
        })?;
        // Told by hanging up: what waits in the coordinator's inbox then is never answered.
        let (alive, ended) = bounded::<Infallible>(0);
        let thread = std::thread::Builder::new()
            .name("perennial-coordinator".into())
            .spawn(move || {
                let _alive = alive;
                coordinator.run();
            })
            .map_err(|error| Error::Stopped {
                reason: error.to_string(),
            })?;
        Ok(Engine {
            requests,
            thread: Some(thread),
            stream_names,
            is_table,
            view_names: plans.iter().map(|plan| plan.name.to_string()).collect(),
            runtime: self.runtime,
            hub,
            ended,
            n_workers: self.n_workers,
            state,
        })
    }

    fn restore(
        &self,
        dir: &Path,
        plans: &[Arc<Plan>],
        references: Option<&Arc<References>>,
    ) -> Result<Durable, Error> {
        let state = State::open(dir)?.keeping(self.retention);
        let restored = state.restore()?;
        let fragments = dir.join(FRAGMENTS);
        let open = |n_bytes| ColdTier::open(&fragments, n_bytes).map_err(StateError::from);
        let cold = match (&self.runtime.store, references) {
            (Some(store), Some(references)) => {
                store.attach(open(self.disk_bytes)?, references.clone())
            }
            _ => None,
        };
        // What nobody looks after must not stay: it may be of what is forgotten later.
        if cold.is_none() && fragments.is_dir() {
            drop(open(0)?);
        }
        let definition = |plan: &Arc<Plan>| {
            let mut hash = blake3::Hasher::new_derive_key("perennial 1 view definition");
            hash.update(&self.runtime.model.digest())
                .update(&self.runtime.embedder.digest())
                .update(format!("{plan:?}").as_bytes());
            *hash.finalize().as_bytes()
        };
        Ok(Durable {
            cold,
            state: Arc::new(state),
            restored,
            resumptions: HashMap::new(),
            definitions: plans.iter().map(definition).collect(),
        })
    }
}

/// What an earlier process left, as a recording says it.
fn standing(durable: &Durable, streams: &[String], plans: &[Arc<Plan>]) -> Option<RecordedEpoch> {
    let restored = &durable.restored;
    let rows = streams.iter().flat_map(|stream| {
        let name: Arc<str> = stream.as_str().into();
        let rows = restored.rows.get(stream).into_iter().flatten();
        rows.map(move |(key, row)| (name.clone(), key.clone(), Some(row.clone())))
    });
    // Those of a view that was declared otherwise do not stand.
    let views = plans.iter().zip(&durable.definitions);
    let views = views.filter(|(plan, digest)| restored.views.get(&*plan.name) == Some(digest));
    let answers = views.flat_map(|(plan, _)| {
        let answers = restored.answers.get(&*plan.name).into_iter().flatten();
        answers.map(|(context, answer)| EpochAnswer {
            view: plan.name.clone(),
            context: context.clone(),
            now: Some(recorded(answer)),
        })
    });
    Some(RecordedEpoch {
        epoch: restored.epoch?,
        at_ms: now_ms(),
        rows: rows.collect(),
        answers: answers.collect(),
    })
}

fn recorded(answer: &StoredAnswer) -> RecordedAnswer {
    let is_exact = answer.drift.is_none();
    RecordedAnswer::of(&answer.answer, &answer.tokens, answer.rung, is_exact)
}

/// Where the source of a stream goes on.
fn resume(restored: &Restored, stream: &str) -> Resume {
    let held = |(key, row): (&String, &StoredRow)| {
        let digest = Digest::of(row.title.as_deref(), &row.text);
        (Key::new(key.as_str()), digest)
    };
    let rows = restored.rows.get(stream).into_iter().flatten();
    Resume {
        held: rows.map(held).collect(),
        offset: restored.offsets.get(stream).cloned(),
    }
}

/// A running engine. Dropping it stops sources, calls and workers, and waits for them.
pub struct Engine {
    requests: Sender<Request>,
    thread: Option<JoinHandle<()>>,
    stream_names: Vec<String>,
    is_table: Vec<bool>,
    view_names: Vec<String>,
    runtime: Runtime,
    /// Knows why the coordinator ended, if it failed.
    hub: Arc<Hub>,
    /// Hung up when the coordinator has ended.
    ended: Receiver<Infallible>,
    n_workers: usize,
    /// The state directory, where there is one.
    state: Option<Arc<State>>,
}

impl Engine {
    /// Declares an engine over a runtime.
    pub fn builder(runtime: Runtime) -> EngineBuilder {
        EngineBuilder {
            runtime,
            streams: Vec::new(),
            views: Vec::new(),
            sinks: Vec::new(),
            n_workers: 1,
            state: None,
            disk_bytes: DISK_BYTES,
            retention: Retention::default(),
            recording: None,
        }
    }

    /// What the engine computes with.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Inserts or replaces a row of a table: a document, or a context's text. Its time is
    /// the present; see [`Engine::upsert_at`].
    ///
    /// # Errors
    /// [`Error::UnknownStream`], [`Error::NotATable`], [`Error::Stopped`].
    pub fn upsert(&mut self, table: &str, key: &str, text: &str) -> Result<(), Error> {
        self.upsert_at(table, key, text, now_ms())
    }

    /// Inserts or replaces a row that came to be at `updated_at_ms` (milliseconds since
    /// 1970). Views ordered by `updated_at` depend on it.
    ///
    /// # Errors
    /// As [`Engine::upsert`].
    pub fn upsert_at(
        &mut self,
        table: &str,
        key: &str,
        text: &str,
        updated_at_ms: i64,
    ) -> Result<(), Error> {
        self.upsert_superseding(table, key, text, updated_at_ms, &[])
    }

    /// Inserts or replaces a document that makes others of its table obsolete, though they
    /// stay. A document is superseded only by one that is newer (by time, then by key), so of
    /// any two one stands; what a view makes of superseded documents is its
    /// [`superseded`](perennial_views::View::superseded).
    ///
    /// # Errors
    /// As [`Engine::upsert`].
    pub fn upsert_superseding(
        &mut self,
        table: &str,
        key: &str,
        text: &str,
        updated_at_ms: i64,
        supersedes: &[&str],
    ) -> Result<(), Error> {
        let row = Row {
            title: None,
            text: text.into(),
            updated_at_ms,
            is_timed: false,
            supersedes: supersedes.iter().map(|key| Arc::from(*key)).collect(),
        };
        self.set(Edit {
            table: table.to_owned(),
            key: key.to_owned(),
            row: Some(row),
        })
    }

    /// Deletes a row of a table, if it is there.
    ///
    /// # Errors
    /// As [`Engine::upsert`].
    pub fn delete(&mut self, table: &str, key: &str) -> Result<(), Error> {
        self.set(Edit::delete(table, key))
    }

    /// Makes several changes visible together: no answer ever reads some of them without the
    /// others. Of several for one key the last counts. Rows that wait for an epoch are held in
    /// memory; how many are given at once is the caller's to bound.
    ///
    /// # Errors
    /// As [`Engine::upsert`]; none of the changes is made then.
    pub fn apply(&mut self, edits: Vec<Edit>) -> Result<(), Error> {
        let rows = edits.into_iter().map(|edit| self.row_of(edit));
        let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        self.send(Request::Apply { rows })
    }

    fn set(&mut self, edit: Edit) -> Result<(), Error> {
        let (stream, key, row) = self.row_of(edit)?;
        self.send(Request::Set { stream, key, row })
    }

    /// An edit with the index of its table.
    fn row_of(&self, edit: Edit) -> Result<(usize, String, Option<Row>), Error> {
        let stream = self.stream_index(&edit.table)?;
        match self.is_table[stream] {
            true => Ok((stream, edit.key, edit.row)),
            false => Err(Error::NotATable { name: edit.table }),
        }
    }

    /// Waits until everything sent before is visible in every view, and every source has
    /// given what it had at the start. Returns the last complete epoch.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn flush(&mut self) -> Result<Option<Epoch>, Error> {
        self.ask(|reply| Request::Flush {
            is_exact: false,
            reply,
        })
    }

    /// Waits as [`Engine::flush`] does, and until every provisional answer is replaced by
    /// an exact one.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn settle(&mut self) -> Result<Option<Epoch>, Error> {
        self.ask(|reply| Request::Flush {
            is_exact: true,
            reply,
        })
    }

    /// Updates of a view: first what sources had to say so far (rejected records, failures)
    /// and the present answers, then whatever comes.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::Stopped`].
    pub fn subscribe(&self, view: &str) -> Result<Subscription, Error> {
        let view = self.view_index(view)?;
        self.ask(|reply| Request::Subscribe { view, reply })
    }

    /// The present answers of a view, as of the last complete epoch.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::Stopped`].
    pub fn answers(&self, view: &str) -> Result<Vec<(ContextKey, CurrentAnswer)>, Error> {
        let view = self.view_index(view)?;
        self.ask(|reply| Request::Answers { view, reply })
    }

    /// What stood at an earlier epoch, rows and answers, as far back as the state directory keeps
    /// a history; see [`EngineBuilder::history`]. An epoch can be asked for once subscribers have
    /// heard of it.
    ///
    /// # Errors
    /// [`Error::NoState`], [`Error::State`] with
    /// [`StateError::NotInHistory`](crate::state::StateError::NotInHistory).
    pub fn as_of(&self, asked: AsOf) -> Result<StateAsOf, Error> {
        let state = self.state.as_ref().ok_or(Error::NoState)?;
        Ok(state.as_of(asked)?)
    }

    /// The sub-paragraphs of a view's present answers that depend on a document, most
    /// dependent first: what a change of it touches. Read from the arranged dependency
    /// relation; see [`perennial_operators::dependency`] for the score.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::Stopped`].
    pub fn dependents(&self, view: &str, document: &str) -> Result<Vec<Dependency>, Error> {
        let (view, document) = (self.view_index(view)?, DocumentKey::new(document));
        let (reply, replies) = unbounded();
        self.send(Request::Dependents {
            view,
            document,
            reply,
        })?;
        // Each worker knows a part.
        let mut dependents: Vec<Dependency> = Vec::new();
        for _ in 0..self.n_workers {
            dependents.extend(self.wait_for(&replies)?);
        }
        dependents.sort_by(|a, b| b.score.cmp(&a.score).then_with(|| a.cmp(b)));
        Ok(dependents)
    }

    /// What audits found of a view's provisional answers.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::Stopped`].
    pub fn audits(&self, view: &str) -> Result<AuditStats, Error> {
        let view = self.view_index(view)?;
        self.ask(|reply| Request::Audits { view, reply })
    }

    /// The records in quarantine, oldest first; with a state directory, those of earlier
    /// processes too.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn quarantine(&self) -> Result<Vec<Quarantined>, Error> {
        self.ask(|reply| Request::Quarantine { reply })
    }

    /// The sinks that have not taken everything that is complete, with the epochs that each is
    /// owed.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn undelivered(&self) -> Result<Vec<(String, usize)>, Error> {
        self.ask(|reply| Request::Undelivered { reply })
    }

    /// Erases a document, or a context: deletes it, waits until every answer is exact
    /// without it, then removes what still remembers it: refused records, updates not yet
    /// read (which lose their old texts), drafts, and free pages of the state file, which
    /// is written anew. The receipt says what was removed and where anything was left.
    ///
    /// A document of a source must be gone there first, or it would come again.
    ///
    /// # Errors
    /// [`Error::UnknownStream`], [`Error::StillThere`], [`Error::State`],
    /// [`Error::Stopped`].
    pub fn forget(&mut self, stream: &str, key: &str) -> Result<Receipt, Error> {
        let stream = self.stream_index(stream)?;
        let (key, is_table) = (key.to_owned(), self.is_table[stream]);
        self.ask(|reply| Request::Forget {
            stream,
            key,
            is_table,
            reply,
        })?
    }

    fn stream_index(&self, stream: &str) -> Result<usize, Error> {
        self.stream_names
            .iter()
            .position(|name| name == stream)
            .ok_or_else(|| Error::UnknownStream {
                name: stream.to_owned(),
                declared: self.stream_names.join(", "),
            })
    }

    fn view_index(&self, view: &str) -> Result<usize, Error> {
        self.view_names
            .iter()
            .position(|name| name == view)
            .ok_or_else(|| Error::UnknownView {
                name: view.to_owned(),
                declared: self.view_names.join(", "),
            })
    }

    fn send(&self, request: Request) -> Result<(), Error> {
        self.requests.send(request).map_err(|_| self.stopped())
    }

    fn ask<R>(&self, request: impl FnOnce(Sender<R>) -> Request) -> Result<R, Error> {
        let (sender, receiver) = bounded(1);
        self.send(request(sender))?;
        self.wait_for(&receiver)
    }

    /// A reply, unless the coordinator ends without one.
    fn wait_for<R>(&self, replies: &Receiver<R>) -> Result<R, Error> {
        select! {
            recv(replies) -> reply => reply.map_err(|_| self.stopped()),
            // It may have replied and ended at once.
            recv(self.ended) -> _ => replies.try_recv().map_err(|_| self.stopped()),
        }
    }

    fn stopped(&self) -> Error {
        let reason = self.hub.failure().cloned();
        Error::Stopped {
            reason: reason.unwrap_or_else(|| "it was told to".to_owned()),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Fails only when the coordinator is gone already.
        let _ = self.requests.send(Request::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
