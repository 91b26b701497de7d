//! How is an engine declared and started?

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::bounded;
use perennial_ask::Money;
use perennial_bank::{ColdTier, References};
use perennial_connectors::{Sink, Source};
use perennial_rows::Schema;
use perennial_views::query::Query;
use perennial_views::{Pace, Plan, View};

use super::coordinator::{Coordinator, Durable, Parts};
use super::error::Error;
use super::handle::{Engine, Handle};
use super::hub::Hub;
use super::names::Names;
use super::reading::answers_schema;
use super::relations::RelationKind;
use super::runtime::Runtime;
use super::sinks::SinkSpec;
use super::tracer::Tracer;
use crate::recording::Log;
use crate::state::{FRAGMENTS, Retention, State, StateError};

/// Requests that wait for the coordinator.
const REQUEST_CAPACITY: usize = 256;
/// Bytes of fragments that a state directory holds unless told otherwise.
const DISK_BYTES: u64 = 4 << 30;

/// Declares streams and views; [`EngineBuilder::start`] makes the engine.
pub struct EngineBuilder {
    runtime: Runtime,
    models: Vec<(String, Runtime)>,
    streams: Vec<Stream>,
    views: Vec<Declared>,
    sinks: Vec<SinkSpec>,
    n_workers: usize,
    state: Option<PathBuf>,
    disk_bytes: u64,
    retention: Retention,
    recording: Option<PathBuf>,
    is_held: bool,
    tracer: Option<Arc<dyn Tracer>>,
    pace: Pace,
}

enum Stream {
    Table(String, Option<Schema>),
    Source(Box<dyn Source>),
}

impl Stream {
    fn name(&self) -> &str {
        match self {
            Self::Table(name, _) => name,
            Self::Source(source) => source.name().as_str(),
        }
    }
}

/// A relation that is declared.
pub(super) struct DeclaredRelation<'a> {
    pub(super) name: &'a str,
    pub(super) kind: RelationKind,
    /// None where its rows may have any.
    pub(super) columns: Option<Schema>,
}

/// A view that is declared.
enum Declared {
    Answers(Box<View>),
    Query(String, Box<Query>),
}

impl Declared {
    fn name(&self) -> &str {
        match self {
            Self::Answers(view) => view.name(),
            Self::Query(name, _) => name,
        }
    }
}

impl EngineBuilder {
    /// Declares an engine over a runtime.
    pub(super) fn over(runtime: Runtime) -> Self {
        Self {
            runtime,
            models: Vec::new(),
            streams: Vec::new(),
            views: Vec::new(),
            sinks: Vec::new(),
            n_workers: 1,
            state: None,
            disk_bytes: DISK_BYTES,
            retention: Retention::default(),
            recording: None,
            is_held: false,
            tracer: None,
            pace: Pace::default(),
        }
    }

    /// A stream fed by a source; its name is the source's.
    #[must_use]
    pub fn source(mut self, source: impl Source) -> Self {
        self.streams.push(Stream::Source(Box::new(source)));
        self
    }

    /// A stream fed by hand, with [`Engine::upsert`] and [`Engine::delete`].
    #[must_use]
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.streams.push(Stream::Table(name.into(), None));
        self
    }

    /// The same with these columns and no others; see [`Engine::create_table_of`].
    #[must_use]
    pub fn table_of(mut self, name: impl Into<String>, columns: Schema) -> Self {
        self.streams.push(Stream::Table(name.into(), Some(columns)));
        self
    }

    /// Another model, which views ask for by this name; see [`Engine::create_model`].
    #[must_use]
    pub fn model(mut self, name: impl Into<String>, runtime: Runtime) -> Self {
        self.models.push((name.into(), runtime));
        self
    }

    /// A view to keep, over streams and the views that are declared before it.
    #[must_use]
    pub fn view(mut self, view: View) -> Self {
        self.views.push(Declared::Answers(Box::new(view)));
        self
    }

    /// The same of a query, whose result is kept.
    #[must_use]
    pub fn query(mut self, name: impl Into<String>, query: Query) -> Self {
        let declared = Declared::Query(name.into(), Box::new(query));
        self.views.push(declared);
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

    /// Has somebody told what becomes of every change; see [`Tracer`].
    #[must_use]
    pub fn traced(mut self, tracer: Arc<dyn Tracer>) -> Self {
        self.tracer = Some(tracer);
        self
    }

    /// How much money all views may spend together in an hour, in the currency of their models; see
    /// [`View::cost_per_hour`]. Views whose models have no prices go on whatever the others spend.
    #[must_use]
    pub fn cost_per_hour(mut self, cost: Money) -> Self {
        self.pace.cost_per_hour = Some(cost);
        self
    }

    /// Closes no epoch before [`Engine::release`]: for who declares more with the engine's own
    /// methods, and wants the first answers to be over all of it. [`Engine::begin`] lets epochs close
    /// while more is still to be declared.
    #[must_use]
    pub fn held(mut self) -> Self {
        self.is_held = true;
        self
    }

    /// The logical plans of the declared views that ask a model for answers.
    ///
    /// # Errors
    /// [`Error::View`] and the naming errors for a declaration that cannot be carried out.
    pub fn plans(&self) -> Result<Vec<Plan>, Error> {
        let streams = self.streams.iter().map(Stream::name);
        let views = self.views.iter().map(Declared::name);
        let relations: Vec<&str> = streams.chain(views.clone()).collect();
        let views: Vec<&str> = views.collect();
        let models: Vec<&str> = self.model_names().collect();
        for names in [&relations, &models] {
            let mut numbered = names.iter().enumerate();
            if let Some((_, name)) = numbered.find(|(i, name)| names[..*i].contains(name)) {
                let name = (*name).to_owned();
                return Err(Error::DeclaredTwice { name });
            }
        }
        for (at, SinkSpec { view, sink }) in self.sinks.iter().enumerate() {
            let mut others = self.sinks[..at].iter();
            if let Some(other) = others.find(|other| other.sink.name() == sink.name()) {
                return Err(Error::SinkTaken {
                    sink: sink.name().to_owned(),
                    view: view.clone(),
                    other: other.view.clone(),
                });
            }
            if !views.contains(&&**view) {
                return Err(Error::UnknownView {
                    name: view.clone(),
                    declared: views.join(", "),
                });
            }
        }
        let mut plans = Vec::new();
        for (at, view) in self.views.iter().enumerate() {
            // A view reads what was declared before it.
            let known = &relations[..self.streams.len() + at];
            let check = |read: &str| match known.contains(&read) {
                true => Ok(()),
                false => Err(Error::UnknownStream {
                    name: read.to_owned(),
                    declared: known.join(", "),
                }),
            };
            match view {
                Declared::Answers(view) => {
                    let model = &self.runtime_of(view.asked_model())?.model;
                    let plan = view.plan(model.n_positions(), model.n_prefix_tokens())?;
                    check(&plan.context)?;
                    check(&plan.data_source)?;
                    plans.push(plan);
                }
                Declared::Query(_, query) => {
                    let mut inputs = query.inputs().iter();
                    inputs.try_for_each(|input| check(&input.relation))?;
                }
            }
        }
        Ok(plans)
    }

    /// What is declared so far: streams, then views.
    pub(super) fn relations(&self) -> impl Iterator<Item = DeclaredRelation<'_>> {
        let streams = self.streams.iter().map(|stream| {
            let (kind, columns) = match stream {
                Stream::Table(_, columns) => (RelationKind::Table, columns.as_ref()),
                Stream::Source(source) => (RelationKind::Source, source.schema()),
            };
            DeclaredRelation {
                name: stream.name(),
                kind,
                columns: columns.cloned(),
            }
        });
        let views = self.views.iter().map(|view| {
            let (kind, columns) = match view {
                Declared::Answers(_) => (RelationKind::Answers, answers_schema()),
                Declared::Query(_, query) => (RelationKind::Query, query.schema().clone()),
            };
            DeclaredRelation {
                name: view.name(),
                kind,
                columns: Some(columns),
            }
        });
        streams.chain(views)
    }

    pub(super) fn model_names(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(|(name, _)| &**name)
    }

    /// The model of a name, or that which is asked where none is named.
    pub(super) fn runtime_of(&self, model: Option<&str>) -> Result<&Runtime, Error> {
        let Some(name) = model else {
            return Ok(&self.runtime);
        };
        let mut models = self.models.iter();
        let named = models.find(|(of, _)| of == name);
        let (_, runtime) = named.ok_or_else(|| Error::UnknownModel {
            name: name.to_owned(),
            declared: self.model_names().collect::<Vec<_>>().join(", "),
        })?;
        Ok(runtime)
    }

    /// Starts sources, workers and the coordinator.
    ///
    /// # Errors
    /// [`Error`] for a declaration that cannot be carried out, or a source that cannot be
    /// started.
    pub fn start(self) -> Result<Engine, Error> {
        self.plans()?;
        self.pace.check("all views together")?;
        let hub = Arc::new(Hub::traced(self.tracer.clone()));
        let names = Arc::new(Names::default());
        let log = self.recording.as_deref().map(Log::open).transpose()?;
        let references = self.runtime.store.clone();
        let references = references.map(|store| Arc::new(References::to(store)));
        let durable = match &self.state {
            Some(dir) => Some(self.restore(dir, references.as_ref())?),
            None => None,
        };
        let state = durable.as_ref().map(|durable| durable.state.clone());
        let (requests, inbox) = bounded(REQUEST_CAPACITY);
        let mut coordinator = Coordinator::new(Parts {
            runtime: self.runtime.clone(),
            names: names.clone(),
            n_workers: self.n_workers,
            hub: hub.clone(),
            inbox,
            references,
            durable,
            pace: self.pace,
        })?;
        for (name, runtime) in &self.models {
            coordinator.models().add(name, runtime)?;
        }
        for stream in self.streams {
            match stream {
                Stream::Table(name, columns) => coordinator.create_table(name.into(), columns)?,
                Stream::Source(source) => coordinator.create_source(source)?,
            }
        }
        for view in self.views {
            match view {
                Declared::Answers(view) => coordinator.create_view(&view)?,
                Declared::Query(name, query) => {
                    coordinator.create_query(name.into(), Arc::new(*query), Pace::default())?;
                }
            }
        }
        coordinator.create_sinks(self.sinks)?;
        coordinator.hold(log);
        if !self.is_held {
            coordinator.release()?;
        }
        let handle = Handle {
            requests,
            names,
            models: coordinator.models().clone(),
            runtime: self.runtime,
            hub,
            n_workers: self.n_workers,
            state,
        };
        Engine::over(coordinator, handle)
    }

    fn restore(&self, dir: &Path, references: Option<&Arc<References>>) -> Result<Durable, Error> {
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
            // With a budget of nothing, opening removes all.
            let _removed = open(0)?;
        }
        Ok(Durable {
            cold,
            state: Arc::new(state),
            restored,
            dropped: HashMap::new(),
        })
    }
}
