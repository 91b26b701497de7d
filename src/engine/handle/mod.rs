//! How is a running engine spoken to? What it says is in `looking.rs`.

mod looking;

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, select};
use perennial_ask::Provider;
use perennial_connectors::{Sink, Source, TraceParent, fit};
use perennial_rows::{Key, Row, Schema};
use perennial_views::query::Query;
use perennial_views::{Asking, Epoch, Observer, Pace, PaceOption, Plan, View};

use super::builder::EngineBuilder;
use super::clock::now_ms;
use super::coordinator::{Coordinator, Request};
use super::edit::Edit;
use super::error::Error;
use super::forget::{Receipt, RowToForget};
use super::hub::Hub;
use super::models::Models;
use super::names::{Named, Names, StreamId};
use super::relations::{RelationInfo, Snapshot};
use super::runtime::Runtime;
use super::sinks::PutAside;
use super::subscription::Subscription;
use super::tracer::SpanCounts;
use crate::state::State;

/// A running engine, to be shared: clones speak to the same one. Dropping the last stops sources,
/// calls and workers, and waits for them.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What every clone needs.
struct Shared {
    handle: Handle,
    /// Hung up when the coordinator has ended.
    ended: Receiver<Infallible>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What speaks to a coordinator.
pub(super) struct Handle {
    pub(super) requests: Sender<Request>,
    pub(super) names: Arc<Names>,
    pub(super) runtime: Runtime,
    pub(super) models: Arc<Models>,
    /// Knows why the coordinator ended, if it failed.
    pub(super) hub: Arc<Hub>,
    pub(super) n_workers: usize,
    /// The state directory, where there is one.
    pub(super) state: Option<Arc<State>>,
}

impl std::ops::Deref for Shared {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Engine {
    /// Declares an engine over a runtime.
    pub fn builder(runtime: Runtime) -> EngineBuilder {
        EngineBuilder::over(runtime)
    }

    /// Lets a coordinator run.
    pub(super) fn over(mut coordinator: Coordinator, handle: Handle) -> Result<Self, Error> {
        // Told by hanging up: what waits in the coordinator's inbox then is never answered.
        let (alive, ended) = bounded::<Infallible>(0);
        let hub = handle.hub.clone();
        let thread = std::thread::Builder::new()
            .name("perennial-coordinator".into())
            .spawn(move || {
                let _alive = alive;
                let ran = catch_unwind(AssertUnwindSafe(|| coordinator.run()));
                if ran.is_err() {
                    // Nobody waits for what never comes.
                    hub.fail_all("its coordinator panicked; standard error says where".to_owned());
                    hub.close();
                }
                drop(coordinator);
            })
            .map_err(|error| Error::Stopped {
                reason: error.to_string(),
            })?;
        Ok(Self {
            shared: Arc::new(Shared {
                handle,
                ended,
                thread: Mutex::new(Some(thread)),
            }),
        })
    }

    /// Another stream that is fed by hand, whose rows may have any columns.
    ///
    /// # Errors
    /// [`Error::DeclaredTwice`], [`Error::Recorded`], [`Error::Stopped`].
    pub fn create_table(&self, name: &str) -> Result<(), Error> {
        self.create_any_table(name, None)
    }

    /// The same with these columns and no others: a row has the type of each where nothing is lost
    /// ([`fit`] has the table), or is refused. Rows that an earlier process left under other columns
    /// are made to fit.
    ///
    /// # Errors
    /// As [`Engine::create_table`], and [`Error::UnfitRows`].
    pub fn create_table_of(&self, name: &str, columns: Schema) -> Result<(), Error> {
        self.create_any_table(name, Some(columns))
    }

    fn create_any_table(&self, name: &str, columns: Option<Schema>) -> Result<(), Error> {
        let name = name.into();
        self.ask(|reply| Request::CreateTable {
            name,
            columns,
            reply,
        })?
    }

    /// Another stream, which a source feeds; its name is the source's. With a state directory it
    /// goes on where an earlier process left a source of this name; if that declared other columns,
    /// it is read anew, and what was posted is made to fit.
    ///
    /// # Errors
    /// As [`Engine::create_table`], [`Error::Source`] and [`Error::UnfitRows`].
    pub fn create_source(&self, source: impl Source) -> Result<(), Error> {
        let source: Box<dyn Source> = Box::new(source);
        self.ask(|reply| Request::CreateSource { source, reply })?
    }

    /// Another view that asks a model. It begins with what stands in all that it reads, streams
    /// and other views, and is kept from then on, at its own pace.
    ///
    /// # Errors
    /// As [`Engine::create_table`]; [`Error::View`] for a declaration that cannot be carried out,
    /// [`Error::UnknownStream`] for what it reads.
    pub fn create_view(&self, view: View) -> Result<(), Error> {
        let view = Box::new(view);
        self.ask(|reply| Request::CreateView { view, reply })?
    }

    /// Another view, which keeps the result of a query over streams and views.
    ///
    /// # Errors
    /// As [`Engine::create_table`]; [`Error::UnknownStream`] for what it reads.
    pub fn create_query(&self, name: &str, query: Query) -> Result<(), Error> {
        self.create_paced_query(name, query, Pace::default())
    }

    /// The same with a target lag and budgets, which count what the query asks a model.
    ///
    /// # Errors
    /// As [`Engine::create_query`]; [`Error::View`] for a budget of nothing.
    pub fn create_paced_query(&self, name: &str, query: Query, pace: Pace) -> Result<(), Error> {
        let (name, query) = (name.into(), Arc::new(query));
        self.ask(|reply| Request::CreateQuery {
            name,
            query,
            pace,
            reply,
        })?
    }

    /// Sets when a view takes its epochs, from now on; what is not named stays as it was. No answer
    /// is dropped or asked for again. It holds while the engine runs: a view that is declared again
    /// is as it is declared.
    ///
    /// # Errors
    /// [`Error::UnknownView`]; [`Error::View`] for a budget of nothing; [`Error::Stopped`].
    pub fn alter_view(
        &self,
        view: &str,
        set: impl IntoIterator<Item = PaceOption>,
    ) -> Result<(), Error> {
        let (name, set) = (view.to_owned(), set.into_iter().collect());
        self.ask(|reply| Request::AlterView { name, set, reply })?
    }

    /// What a stream or a view holds, as of the newest epoch that it reflects.
    ///
    /// # Errors
    /// [`Error::UnknownStream`], [`Error::Stopped`].
    pub fn snapshot(&self, name: &str) -> Result<Snapshot, Error> {
        let name = name.to_owned();
        self.ask(|reply| Request::Snapshot { name, reply })?
    }

    /// Another sink. It gets all that stands, then every change.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::SinkTaken`], [`Error::State`], [`Error::Stopped`].
    pub fn create_sink(&self, view: &str, sink: impl Sink) -> Result<(), Error> {
        let (view, sink): (_, Box<dyn Sink>) = (view.to_owned(), Box::new(sink));
        self.ask(|reply| Request::CreateSink { view, sink, reply })?
    }

    /// Drops a stream or a view: what it held, in memory and in the state directory. Calls that a
    /// dropped view waits for are given up, its subscriptions end.
    ///
    /// # Errors
    /// [`Error::UnknownRelation`], [`Error::InUse`] while a view reads it or a sink takes it,
    /// [`Error::Recorded`], [`Error::State`], [`Error::Stopped`].
    pub fn drop_relation(&self, name: &str) -> Result<(), Error> {
        self.drop_relations([name])
    }

    /// Drops several streams and views, which may read one another: all of them, or none.
    ///
    /// # Errors
    /// As [`Engine::drop_relation`].
    pub fn drop_relations<N: Into<String>>(
        &self,
        names: impl IntoIterator<Item = N>,
    ) -> Result<(), Error> {
        let names = names.into_iter().map(Into::into).collect();
        self.ask(|reply| Request::Drop { names, reply })?
    }

    /// Stops a sink, after a while in which it may take what it is owed.
    ///
    /// # Errors
    /// [`Error::UnknownSink`], [`Error::State`], [`Error::Stopped`].
    pub fn drop_sink(&self, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        self.ask(|reply| Request::DropSink { name, reply })?
    }

    /// The streams and views that there are, in the order in which they were made, streams first.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn relations(&self) -> Result<Vec<RelationInfo>, Error> {
        self.ask(|reply| Request::Relations { reply })
    }

    /// Lets epochs close, of an engine that is [held](EngineBuilder::held), while more is declared: what
    /// an earlier process left in the state directory for views and sinks that are not there yet is kept.
    ///
    /// # Errors
    /// [`Error::Recording`], [`Error::Stopped`].
    pub fn begin(&self) -> Result<(), Error> {
        self.ask(|reply| Request::Begin { reply })?
    }

    /// Lets epochs close, of an engine that is [held](EngineBuilder::held). All is declared: what an
    /// earlier process left in the state directory for views and sinks that are not there goes with the
    /// next epoch.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::Recording`], [`Error::Stopped`].
    pub fn release(&self) -> Result<(), Error> {
        self.ask(|reply| Request::Release { reply })?
    }

    /// Whom a query asks that is evaluated once; `observer` hears of its calls.
    ///
    /// # Errors
    /// [`Error::UnknownModel`].
    pub(crate) fn asking(
        &self,
        query: &Query,
        observer: Arc<dyn Observer>,
    ) -> Result<Asking, Error> {
        self.shared.models.asking("a query".into(), query, observer)
    }

    /// Adds a model, that of a runtime, which views ask for by this name: a
    /// [`View`](perennial_views::View) by [`model`](perennial_views::View::model), a query by
    /// `model => name`. The runtime's embedder is not used: there is one an engine. A model that the
    /// engine has already gets another name. Its fragments are kept in memory only.
    ///
    /// # Errors
    /// [`Error::DeclaredTwice`].
    pub fn create_model(&self, name: &str, runtime: &Runtime) -> Result<(), Error> {
        self.shared.models.add(name, runtime)
    }

    /// Takes the name of a model away.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::InUse`] while a view asks it by this name,
    /// [`Error::Stopped`].
    pub fn drop_model(&self, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        self.ask(|reply| Request::DropModel { name, reply })?
    }

    /// The names of models.
    pub fn models(&self) -> Vec<Arc<str>> {
        self.shared.models.names()
    }

    /// The plan that a view would have.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::View`].
    pub fn plan(&self, view: &View) -> Result<Plan, Error> {
        let asked = self.shared.models.get(view.asked_model())?;
        let model = &asked.model;
        Ok(view.plan(model.n_positions(), model.n_prefix_tokens())?)
    }

    /// Who performs tasks: the model of a name, or that which is asked where none is named.
    pub(crate) fn provider(&self, model: Option<&str>) -> Result<Arc<dyn Provider>, Error> {
        Ok(self.shared.models.get(model)?.provider.clone())
    }

    /// What the engine computes with where no model is named.
    pub fn runtime(&self) -> &Runtime {
        &self.shared.runtime
    }

    /// Where latent keys of memories outlive the process; none without a state directory.
    pub(crate) fn latent_folder(&self) -> Option<PathBuf> {
        self.shared.state.as_ref().map(|state| state.latent())
    }

    /// Inserts or replaces a row of a table: a document, or a context's text. Its time is
    /// the present; see [`Engine::upsert_at`].
    ///
    /// # Errors
    /// [`Error::UnknownStream`], [`Error::NotATable`], [`Error::Stopped`].
    pub fn upsert(&self, table: &str, key: &str, text: &str) -> Result<(), Error> {
        self.upsert_at(table, key, text, now_ms())
    }

    /// Inserts or replaces a row that came to be at `updated_at_ms` (milliseconds since
    /// 1970). Views ordered by `updated_at` depend on it.
    ///
    /// # Errors
    /// As [`Engine::upsert`].
    pub fn upsert_at(
        &self,
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
        &self,
        table: &str,
        key: &str,
        text: &str,
        updated_at_ms: i64,
        supersedes: &[&str],
    ) -> Result<(), Error> {
        let edit = Edit::upsert(table, key, text).at(updated_at_ms);
        self.apply(vec![edit.superseding(supersedes.iter().copied())])
    }

    /// Deletes a row of a table, if it is there.
    ///
    /// # Errors
    /// As [`Engine::upsert`].
    pub fn delete(&self, table: &str, key: &str) -> Result<(), Error> {
        self.apply(vec![Edit::delete(table, key)])
    }

    /// Makes several changes visible together: no answer ever reads some of them without the
    /// others. Of several for one key the last counts. Rows that wait for an epoch are held in
    /// memory; how many are given at once is the caller's to bound.
    ///
    /// # Errors
    /// As [`Engine::upsert`]; none of the changes is made then.
    pub fn apply(&self, edits: Vec<Edit>) -> Result<(), Error> {
        self.apply_of(edits, None)
    }

    /// The same, as a part of a trace; see [`Tracer`](super::Tracer).
    ///
    /// # Errors
    /// As [`Engine::apply`].
    pub fn apply_of(&self, edits: Vec<Edit>, trace: Option<TraceParent>) -> Result<(), Error> {
        let rows = edits.into_iter().map(|edit| self.row_of(edit));
        let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        self.send(Request::Apply { rows, trace })
    }

    /// What became of the spans of its tracer; none where it has none.
    pub fn spans(&self) -> Option<SpanCounts> {
        self.shared.hub.spans()
    }

    /// An edit with the number of its table.
    fn row_of(&self, edit: Edit) -> Result<(StreamId, Key, Option<Row>), Error> {
        let names = &self.shared.names;
        let (stream, true) = names.stream(&edit.table)? else {
            return Err(Error::NotATable { name: edit.table });
        };
        let row = match (edit.row, names.columns(&edit.table)) {
            (Some(row), Some(columns)) => {
                let fitted = fit(&columns, row).map_err(|reason| Error::UnfitRow {
                    name: edit.table,
                    key: edit.key.as_str().to_owned(),
                    reason,
                });
                Some(fitted?)
            }
            (row, _) => row,
        };
        Ok((stream, edit.key, row))
    }

    /// Waits until everything sent before is visible in every view, and every source has
    /// given what it had at the start. Returns the last complete epoch. No target lag is waited
    /// for.
    ///
    /// # Errors
    /// [`Error::OverBudget`] where a view would take it, and has spent what it may, once all others
    /// that can are done; [`Error::Stopped`].
    pub fn flush(&self) -> Result<Option<Epoch>, Error> {
        self.ask(|reply| Request::Flush {
            is_exact: false,
            views: None,
            reply,
        })?
    }

    /// Begins what [`Engine::flush`] waits for. It does not hold the engine.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn begin_flush(&self) -> Result<Flushing, Error> {
        let (reply, outcome) = bounded(1);
        self.send(Request::Flush {
            is_exact: false,
            views: None,
            reply,
        })?;
        Ok(Flushing { outcome })
    }

    /// Waits until everything sent before is visible in these relations, whatever others are at,
    /// and every source has given what it had at the start. Returns the last epoch that is complete
    /// in every view.
    ///
    /// # Errors
    /// [`Error::UnknownRelation`]; [`Error::OverBudget`] as of [`Engine::flush`];
    /// [`Error::Stopped`].
    pub fn flush_into(&self, relations: &[&str]) -> Result<Option<Epoch>, Error> {
        let flushing = self.begin_flush_into(relations)?;
        self.wait_for(&flushing.outcome)?
    }

    /// Begins what [`Engine::flush_into`] waits for. It does not hold the engine.
    ///
    /// # Errors
    /// [`Error::UnknownRelation`], [`Error::Stopped`].
    pub fn begin_flush_into(&self, relations: &[&str]) -> Result<Flushing, Error> {
        let names = &self.shared.names;
        let view = |name: &&str| match names.get(name) {
            Some(Named::Answers(view) | Named::Query(view)) => Some(Ok(view)),
            Some(_) => None,
            None => Some(Err(Error::UnknownRelation {
                name: (*name).to_owned(),
                declared: names.list(|_| true),
            })),
        };
        let views: Result<Vec<_>, _> = relations.iter().filter_map(view).collect();
        let views = Some(views?);
        let (reply, outcome) = bounded(1);
        self.send(Request::Flush {
            is_exact: false,
            views,
            reply,
        })?;
        Ok(Flushing { outcome })
    }

    /// Waits as [`Engine::flush`] does, and until every provisional answer is replaced by
    /// an exact one.
    ///
    /// # Errors
    /// As [`Engine::flush`]: exact answers are asked for within the budget, too.
    pub fn settle(&self) -> Result<Option<Epoch>, Error> {
        self.ask(|reply| Request::Flush {
            is_exact: true,
            views: None,
            reply,
        })?
    }

    /// Updates of a view: first what sources had to say so far (rejected records, failures)
    /// and the present answers, then whatever comes.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::Stopped`].
    pub fn subscribe(&self, view: &str) -> Result<Subscription, Error> {
        let view = self.shared.names.view(view)?;
        self.ask(|reply| Request::Subscribe { view, reply })?
    }

    /// Why the engine has ended, if it has.
    pub fn failure(&self) -> Option<String> {
        let has_ended = matches!(
            self.shared.ended.try_recv(),
            Err(TryRecvError::Disconnected)
        );
        let reason = self.shared.hub.failure().cloned();
        reason.or_else(|| has_ended.then(|| "it was told to".to_owned()))
    }

    /// The sinks that have not taken everything that is complete, with the epochs that each is
    /// owed.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn undelivered(&self) -> Result<Vec<(String, usize)>, Error> {
        self.ask(|reply| Request::Undelivered { reply })
    }

    /// What sinks have refused for good: one for each that has a file of dead letters.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn dead_letters(&self) -> Result<Vec<PutAside>, Error> {
        self.ask(|reply| Request::DeadLetters { reply })
    }

    /// Erases a document, or a context: deletes it, waits until every answer is exact
    /// without it, then removes what still remembers it: refused records, updates not yet
    /// read (which lose their old texts), drafts, and free pages of the state file, which
    /// is written anew. The receipt says what was removed and where anything was left.
    ///
    /// A document of a source must be gone there first, or it would come again. No view lets it
    /// wait: it is taken past target lags and budgets.
    ///
    /// # Errors
    /// [`Error::UnknownStream`], [`Error::StillThere`], [`Error::State`],
    /// [`Error::Stopped`].
    pub fn forget(&self, stream: &str, key: &str) -> Result<Receipt, Error> {
        self.forget_one(stream, Some(Key::from(key)))
    }

    /// Erases what still remembers rows of a stream that are gone already, whatever their keys were.
    /// Refused records are kept: they are forgotten by their keys. The receipt names no key, and is
    /// not kept.
    ///
    /// # Errors
    /// [`Error::UnknownStream`], [`Error::State`], [`Error::Stopped`].
    pub(crate) fn erase(&self, stream: &str) -> Result<Receipt, Error> {
        self.forget_one(stream, None)
    }

    fn forget_one(&self, stream: &str, key: Option<Key>) -> Result<Receipt, Error> {
        let (stream, is_table) = self.shared.names.stream(stream)?;
        self.ask(|reply| Request::Forget {
            stream,
            is_table,
            rows: vec![RowToForget { key, reply }],
        })?
    }

    /// The same for several documents of one stream: they are deleted in one epoch, and erased at once.
    /// The receipts are in the order of the keys.
    ///
    /// # Errors
    /// As [`Engine::forget`]: of the first that cannot be forgotten, when all others are.
    pub fn forget_all(
        &self,
        stream: &str,
        keys: impl IntoIterator<Item = Key>,
    ) -> Result<Vec<Receipt>, Error> {
        let (stream, is_table) = self.shared.names.stream(stream)?;
        let (mut rows, mut receipts) = (Vec::new(), Vec::new());
        for key in keys {
            let (reply, receipt) = bounded(1);
            let key = Some(key);
            rows.push(RowToForget { key, reply });
            receipts.push(receipt);
        }
        self.send(Request::Forget {
            stream,
            is_table,
            rows,
        })?;
        let receipts: Vec<_> = receipts.iter().map(|reply| self.wait_for(reply)).collect();
        receipts.into_iter().map(|receipt| receipt?).collect()
    }

    /// The rows of a stream, with all that was sent before, whatever columns are declared.
    ///
    /// # Errors
    /// [`Error::UnknownStream`], [`Error::Stopped`].
    pub(crate) fn rows_of(&self, stream: &str) -> Result<Vec<(Key, Row)>, Error> {
        let (stream, _) = self.shared.names.stream(stream)?;
        self.ask(|reply| Request::Rows { stream, reply })
    }

    fn send(&self, request: Request) -> Result<(), Error> {
        self.shared
            .requests
            .send(request)
            .map_err(|_| self.stopped())
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
            recv(self.shared.ended) -> _ => replies.try_recv().map_err(|_| self.stopped()),
        }
    }

    fn stopped(&self) -> Error {
        let reason = self.shared.hub.failure().cloned();
        Error::Stopped {
            reason: reason.unwrap_or_else(|| "it was told to".to_owned()),
        }
    }
}

/// A flush that is under way.
pub struct Flushing {
    outcome: Receiver<Result<Option<Epoch>, Error>>,
}

impl Flushing {
    /// How it ended, if that is told in time. None while it is under way.
    pub fn wait(&self, at_most: Duration) -> Option<Result<Option<Epoch>, Error>> {
        match self.outcome.recv_timeout(at_most) {
            Ok(outcome) => Some(outcome),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(Error::Stopped {
                reason: "it was told to".to_owned(),
            })),
        }
    }

    /// Where its outcome comes, once.
    #[cfg(feature = "serve")]
    pub(crate) fn told(&self) -> &Receiver<Result<Option<Epoch>, Error>> {
        &self.outcome
    }

    /// How it ended, told once; `None` while it is under way.
    pub fn outcome(&self) -> Option<Result<Option<Epoch>, Error>> {
        match self.outcome.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Error::Stopped {
                reason: "it was told to".to_owned(),
            })),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Fails only when the coordinator is gone already.
        let _ = self.handle.requests.send(Request::Stop);
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            let _ = thread.join();
        }
    }
}
