//! Which statement does what to an engine?
//!
//! A session knows what an engine does not: the names of sinks, what opens a model, who listens
//! where. An engine may be [held](crate::EngineBuilder::held) while a
//! script declares: epochs begin before the first statement that needs rows, and it is released at the end.
//! Until then, what an earlier process left is there for what is still to be declared.
//!
//! It may be shared: statements of several callers are carried out at once. What one of them waits for
//! (rows, weights of a model) keeps no other waiting, but for models that are opened one after the other.

use std::collections::BTreeMap;
use std::error::Error as Cause;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use perennial_connectors::Declared;
use perennial_rows::{Column, Schema, Tuple, Type, Value};
use perennial_views::Bounds;
use perennial_views::sql::{
    self, AlterView, CreateContinuousView, CreateModel, CreateSink, CreateSource, CreateTable,
    CreateView, Diagnostic, Drop, Forget, Kind, Name, Origin, Script, Show, Span, Spanned,
    Statement, Subscribe,
};

use super::catalog::{Catalog, KnownMemory, KnownSink, ModelState};
use super::check::budget_of_money;
use super::connect::{self, Listeners};
use super::edits;
use super::outcome::{At, Fault, Outcome, SessionError};
use super::relations;
use super::shared::SharedView;
use crate::engine::{Engine, Error, RelationKind, Runtime};
use crate::memory::Bank;

/// By name, with what opened each.
type OpenedModels = BTreeMap<Arc<str>, (Arc<str>, Runtime)>;

/// Opens a model: a known name, a file, a folder, or the address of a server.
type Open = dyn FnMut(&CreateModel) -> Result<Runtime, Box<dyn Cause + Send + Sync>> + Send;

/// Carries statements out, one after the other.
pub struct Session {
    pub(super) engine: Engine,
    /// What the engine's model was opened by.
    model: Arc<str>,
    is_held: AtomicBool,
    reads_once: bool,
    /// How long a statement waits for what was said before; none is for as long as it takes.
    patience: Option<Duration>,
    /// The models that statements created, with what opened them.
    models: Mutex<OpenedModels>,
    open: Mutex<Option<Box<Open>>>,
    sinks: Mutex<BTreeMap<Arc<str>, Delivered>>,
    /// The folders of sources, by the source's name.
    folders: Mutex<BTreeMap<Arc<str>, Arc<str>>>,
    pub(super) memories: Mutex<BTreeMap<Arc<str>, Bank>>,
    /// The views that are made of others.
    pub(super) shared: Mutex<BTreeMap<Arc<str>, SharedView>>,
    listeners: Mutex<Listeners>,
}

pub(super) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sink by the name that a script gave it.
struct Delivered {
    view: Arc<str>,
    into: Arc<str>,
    /// What the engine calls it.
    name: String,
}

impl Session {
    /// A session over an engine, whose model was opened by `model`: a known name, a file or a
    /// folder.
    pub fn new(engine: Engine, model: impl Into<Arc<str>>) -> Self {
        Self {
            engine,
            model: model.into(),
            is_held: AtomicBool::new(false),
            reads_once: false,
            patience: None,
            models: Mutex::default(),
            open: Mutex::default(),
            sinks: Mutex::default(),
            folders: Mutex::default(),
            memories: Mutex::default(),
            shared: Mutex::default(),
            listeners: Mutex::default(),
        }
    }

    /// The same over an engine that is held: its epochs begin when rows are first needed, and
    /// [`Session::release`] says that all is declared.
    #[must_use]
    pub fn held(self) -> Self {
        self.is_held.store(true, Ordering::SeqCst);
        self
    }

    /// The same, which opens the models that statements create.
    #[must_use]
    pub fn opening(
        mut self,
        open: impl FnMut(&CreateModel) -> Result<Runtime, Box<dyn Cause + Send + Sync>> + Send + 'static,
    ) -> Self {
        self.open = Mutex::new(Some(Box::new(open)));
        self
    }

    /// The same, where sources of HTTP without an address of their own are posted to `inlet`.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn posted_to(mut self, inlet: perennial_connectors::HttpIntake) -> Self {
        self.listeners = Mutex::new(Listeners::with(inlet));
        self
    }

    /// The same, where no statement waits longer than this for what was said before to be visible: one
    /// that reads gets what stands, with a notice.
    #[must_use]
    pub fn waiting_at_most(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Sources are read once, and not followed.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.reads_once = true;
        self
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What the engine's model was opened by.
    pub fn model(&self) -> &Arc<str> {
        &self.model
    }

    /// The models that statements created, by name, with what opened each.
    pub fn models(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let models = lock(&self.models);
        let models = models
            .iter()
            .map(|(name, (spec, _))| (name.clone(), spec.clone()));
        models.collect()
    }

    /// Carries a script out, and tells what comes of each statement.
    ///
    /// # Errors
    /// All that is wrong with the script, before any of it is carried out; else the first
    /// statement that cannot be, with what `told` says of it.
    pub fn run(
        &self,
        script: &Script,
        mut told: impl FnMut(&Spanned<Statement>, Outcome) -> Result<(), Box<dyn Cause + Send + Sync>>,
    ) -> Result<(), SessionError> {
        let statements = sql::parse(script)?;
        self.check(script, &statements)?;
        for statement in statements {
            let outcome = self.execute(script, &statement)?;
            told(&statement, outcome).map_err(SessionError::Told)?;
        }
        self.release()?;
        Ok(())
    }

    /// Whether statements of a script may be carried out one after the other: names, columns and types, of
    /// what there is and what those before will have made. Nothing is carried out. What only shows when a
    /// statement's turn comes (rows, files, servers) is told then.
    ///
    /// # Errors
    /// All that is wrong with them, each at its place.
    pub fn check(
        &self,
        script: &Script,
        statements: &[Spanned<Statement>],
    ) -> Result<(), SessionError> {
        let Some(first) = statements.first() else {
            return Ok(());
        };
        let catalog = self.catalog(first.span);
        let wrong = catalog.and_then(|mut catalog| catalog.check_all(statements));
        wrong.map_err(|fault| fault.of(script))
    }

    /// Lets epochs close, where the engine is held; more may be declared.
    ///
    /// # Errors
    /// What [`Engine::begin`] reports.
    pub fn begin(&self) -> Result<(), Error> {
        match self.is_held.load(Ordering::SeqCst) {
            true => self.engine.begin(),
            false => Ok(()),
        }
    }

    /// All is declared: lets epochs close, where the engine is held.
    ///
    /// # Errors
    /// What [`Engine::release`] reports.
    pub fn release(&self) -> Result<(), SessionError> {
        if self.is_held.swap(false, Ordering::SeqCst) {
            self.engine.release()?;
        }
        Ok(())
    }

    /// Carries one statement of a script out.
    ///
    /// # Errors
    /// What is wrong with it, at its place; or with the engine.
    pub fn execute(
        &self,
        script: &Script,
        statement: &Spanned<Statement>,
    ) -> Result<Outcome, SessionError> {
        self.execute_within(script, statement, &Bounds::default())
    }

    /// The same, where rows that it selects, updates or deletes are found within these bounds. What
    /// exceeds them changes nothing.
    ///
    /// # Errors
    /// As [`Session::execute`], and [`SessionError::Exceeded`].
    pub fn execute_within(
        &self,
        script: &Script,
        statement: &Spanned<Statement>,
        bounds: &Bounds,
    ) -> Result<Outcome, SessionError> {
        let Spanned { of, span } = statement;
        self.carry_out(of, *span, bounds)
            .map_err(|fault| fault.of(script))
    }

    pub(super) fn carry_out(
        &self,
        statement: &Statement,
        span: Span,
        bounds: &Bounds,
    ) -> Result<Outcome, Fault> {
        // What is wrong is said before anything is waited for. Rows of an `INSERT` are held against their
        // table as they become edits.
        if !matches!(statement, Statement::Insert(_)) {
            self.catalog(span)?.check(statement, span)?;
        }
        match statement {
            Statement::CreateSource(source) => self.create_source(source),
            Statement::CreateTable(table) => self.create_table(table),
            Statement::CreateModel(model) => self.create_model(model),
            Statement::CreateMemory(memory) => self.create_memory(memory),
            Statement::CreateContinuousView(view) if view.share().is_some() => {
                self.create_shared_view(view, span)
            }
            Statement::CreateContinuousView(view) => self.create_continuous_view(view, span),
            Statement::CreateView(view) => self.create_view(view, span),
            Statement::AlterView(alter) => self.alter_view(alter),
            Statement::CreateSink(sink) => self.create_sink(sink),
            Statement::Insert(insert) => {
                let edits = edits::insert(insert, &self.catalog(span)?)?;
                let n_rows = edits.len();
                self.engine.apply(edits).at(span)?;
                Ok(Outcome::Done { n_rows })
            }
            Statement::Update(update) => {
                self.settle(&[&update.table.of], span)?;
                let catalog = self.catalog(span)?;
                let (edits, n_rows) = edits::update(update, &catalog, &self.engine, span, bounds)?;
                self.engine.apply(edits).at(span)?;
                Ok(Outcome::Done { n_rows })
            }
            Statement::Delete(delete) => {
                self.settle(&[&delete.table.of], span)?;
                let catalog = self.catalog(span)?;
                let edits = edits::delete(delete, &catalog, &self.engine, span, bounds)?;
                let n_rows = edits.len();
                self.engine.apply(edits).at(span)?;
                Ok(Outcome::Done { n_rows })
            }
            Statement::Select(query) => {
                let read = self.catalog(span)?.bind(query, span)?;
                let read: Vec<&str> = read.inputs().iter().map(|i| &*i.relation).collect();
                let stale = self.settle_or_say(&read, span)?;
                let query = self.catalog(span)?.bind(query, span)?;
                let (rows, failed) = relations::rows(&self.engine, &query, span, bounds)?;
                let read = query.inputs().iter().map(|input| &*input.relation);
                let broken = self.catalog(span)?.failures_of(read);
                let notices = stale.into_iter().chain(broken).chain(failed).collect();
                let schema = query.schema().clone();
                Ok(Outcome::Rows {
                    schema,
                    rows,
                    notices,
                })
            }
            Statement::Subscribe(subscribe) => self.subscribe(subscribe, span),
            Statement::Show(Show::Columns(name)) => self.show_columns(name),
            Statement::Show(Show::Candidates(name)) => self.show_candidates(name),
            Statement::Show(Show::All(kind)) => self.show(*kind, span),
            Statement::Drop(drop) => self.drop(drop),
            Statement::Explain(explained) => self.explain(&explained.of, explained.span),
            Statement::ExplainCost(explained) => {
                self.explain_cost(&explained.of, explained.span, bounds)
            }
            Statement::AnalyzeQuery(query) => self.analyze_query(query, span, bounds),
            Statement::AnalyzeView(name) => self.analyze_view(name),
            Statement::ExplainWhy(row) => self.explain_why(row, bounds),
            Statement::Lineage(row) => self.lineage(row, bounds),
            Statement::Forget(forget) => self.forget(forget),
            Statement::ForgetMemory(forget) => self.forget_memory(forget),
            Statement::Grant(grant) => self.grant(grant),
            Statement::Recall(recall) => self.recall(recall),
            _ => Err(Fault::said("this statement is not known here", span)),
        }
    }

    /// Waits until everything that was said before is visible in these relations.
    pub(super) fn settle(&self, relations: &[&str], span: Span) -> Result<(), Fault> {
        match self.settle_or_say(relations, span)? {
            Some(stale) => Err(Fault::said(stale, span)),
            None => Ok(()),
        }
    }

    /// The same, or says of which it is not: its budget is used up. Who reads it gets what stands.
    pub(super) fn settle_or_say(
        &self,
        relations: &[&str],
        span: Span,
    ) -> Result<Option<String>, Fault> {
        self.begin().at(span)?;
        let settled = match self.patience {
            None => Some(self.engine.flush_into(relations)),
            Some(patience) => self
                .engine
                .begin_flush_into(relations)
                .at(span)?
                .wait(patience),
        };
        match settled {
            Some(Ok(_)) => Ok(None),
            Some(Err(stale @ Error::OverBudget { .. })) => Ok(Some(stale.to_string())),
            Some(Err(error)) => Err(Fault::engine(error, span)),
            None => Ok(Some(format!(
                "what was said before is not all visible yet, after {:?}",
                self.patience.unwrap_or_default()
            ))),
        }
    }

    /// What there is now.
    pub(super) fn catalog(&self, span: Span) -> Result<Catalog, Fault> {
        let relations = self.engine.relations().at(span)?.into_iter();
        let memories = self.memories().into_iter().map(|(name, bank)| {
            let (memory, relations) = (bank.memory().clone(), bank.relations());
            (name, KnownMemory { memory, relations })
        });
        let sinks = lock(&self.sinks);
        let sinks = sinks.iter().map(|(name, of)| {
            let (view, into) = (of.view.clone(), of.into.clone());
            (name.clone(), KnownSink { view, into })
        });
        let models = self.engine.models().into_iter();
        Ok(Catalog {
            relations: relations.map(|of| (of.name.clone(), of)).collect(),
            memories: memories.collect(),
            shared: lock(&self.shared).clone(),
            sinks: sinks.collect(),
            models: models.map(|name| (name, ModelState::Open)).collect(),
            engine: Some(self.engine.clone()),
        })
    }

    /// The folder of a source that a statement has created.
    pub(super) fn folder(&self, source: &str) -> Option<Arc<str>> {
        lock(&self.folders).get(source).cloned()
    }

    fn create_source(&self, source: &CreateSource) -> Result<Outcome, Fault> {
        let name = &source.name;
        let (opened, notice) =
            connect::source(source, &mut lock(&self.listeners), self.reads_once)?;
        match &source.columns {
            Some(columns) => {
                let declared = Declared::over(opened, columns.clone()).at(name.span)?;
                self.engine.create_source(declared).at(name.span)?;
            }
            None => self.engine.create_source(opened).at(name.span)?,
        }
        if let Origin::Folder(path) = &source.from {
            lock(&self.folders).insert(name.of.clone(), path.of.clone());
        }
        Ok(created(Kind::Source, name, notice))
    }

    fn create_table(&self, table: &CreateTable) -> Result<Outcome, Fault> {
        let name = &table.name;
        let columns = table.columns.clone();
        self.engine
            .create_table_of(&name.of, columns)
            .at(name.span)?;
        Ok(created(Kind::Table, name, None))
    }

    fn create_model(&self, model: &CreateModel) -> Result<Outcome, Fault> {
        let (name, spec) = (&model.name, &model.spec);
        let opened_by = model.opened_by();
        // One model is opened at a time, so that none is opened twice.
        let mut open = lock(&self.open);
        // The lock is given back at once: it is taken again below.
        let opened = lock(&self.models)
            .values()
            .find(|(of, _)| *of == opened_by)
            .map(|(_, runtime)| runtime.clone());
        let runtime = match (opened, &mut *open) {
            _ if opened_by == self.model => self.engine.runtime().clone(),
            (Some(runtime), _) => runtime,
            (None, Some(open)) => {
                open(model).map_err(|error| Fault::said(error.to_string(), spec.span))?
            }
            (None, None) => {
                let what = format!("'{}' is not open, and nothing opens models here", spec.of);
                let help = format!("the model that is open is '{}'", self.model);
                return Err(Diagnostic::new(what, spec.span).help(help).into());
            }
        };
        self.engine.create_model(&name.of, &runtime).at(name.span)?;
        lock(&self.models).insert(name.of.clone(), (opened_by, runtime));
        Ok(created(Kind::Model, name, None))
    }

    fn create_continuous_view(
        &self,
        view: &CreateContinuousView,
        span: Span,
    ) -> Result<Outcome, Fault> {
        let declared = self.catalog(span)?.declared_view(view)?;
        let declared = match &view.reads {
            None => declared,
            Some(reads) => declared.data_source(self.read_memory(&view.data_source, reads)?),
        };
        self.engine.create_view(declared).at(span)?;
        Ok(created(Kind::View, &view.name, None))
    }

    fn create_view(&self, view: &CreateView, span: Span) -> Result<Outcome, Fault> {
        let query = self.catalog(span)?.bind(&view.query, span)?;
        let name = &view.name.of;
        self.engine
            .create_paced_query(name, query, view.pace())
            .at(span)?;
        Ok(created(Kind::View, &view.name, None))
    }

    fn alter_view(&self, alter: &AlterView) -> Result<Outcome, Fault> {
        let AlterView { name, set } = alter;
        let options = set.iter().map(|option| option.of);
        let altered = self.engine.alter_view(&name.of, options);
        let span = match &altered {
            Err(Error::Unpriced { .. }) => {
                budget_of_money(set.iter().map(|option| (&option.of, option.span)))
            }
            _ => None,
        };
        altered.at(span.unwrap_or(name.span))?;
        let name = name.of.clone();
        Ok(Outcome::Altered { name })
    }

    fn create_sink(&self, sink: &CreateSink) -> Result<Outcome, Fault> {
        let name = &sink.name;
        let opened = connect::sink(sink)?;
        let delivered = Delivered {
            view: sink.from.of.clone(),
            into: sink.into.of.clone(),
            name: opened.name().to_owned(),
        };
        self.engine
            .create_sink(&sink.from.of, opened)
            .at(sink.from.span)?;
        lock(&self.sinks).insert(name.of.clone(), delivered);
        Ok(created(Kind::Sink, name, None))
    }

    fn subscribe(&self, subscribe: &Subscribe, span: Span) -> Result<Outcome, Fault> {
        let to = &subscribe.to;
        let relation = self.catalog(span)?.expect(to)?.clone();
        if let Some(as_of) = &subscribe.as_of
            && relation.epoch != Some(as_of.of)
        {
            let present = match relation.epoch {
                Some(epoch) => format!("{} stands at epoch {epoch}", to.of),
                None => format!("{} has not reached its first epoch", to.of),
            };
            let what = format!("a subscription begins at the present epoch; {present}");
            return Err(Diagnostic::new(what, as_of.span)
                .help("leave AS OF out")
                .into());
        }
        let updates = self.engine.subscribe(&to.of).at(to.span)?;
        Ok(Outcome::Subscription {
            view: to.of.clone(),
            updates,
            // What is told first is up to there.
            after: relation.epoch.filter(|_| !subscribe.snapshot),
            progress: subscribe.progress,
        })
    }

    fn show_columns(&self, name: &Name) -> Result<Outcome, Fault> {
        let catalog = self.catalog(name.span)?;
        let relation = catalog.expect(name)?;
        let columns = relation.schema.columns().iter().map(|column| {
            let of = column.of.to_string();
            vec![Value::Text(column.name.clone()), Value::text(of)]
        });
        Ok(table(["column", "type"], columns))
    }

    fn show(&self, kind: Kind, span: Span) -> Result<Outcome, Fault> {
        let text = |text: &Arc<str>| Value::Text(text.clone());
        let catalog = self.catalog(span)?;
        let of_kind = |kinds: &'static [RelationKind]| {
            catalog
                .iter()
                .filter(|relation| kinds.contains(&relation.kind))
        };
        let milliseconds =
            |lag: Duration| Value::Integer(i64::try_from(lag.as_millis()).unwrap_or(i64::MAX));
        let epoch = |epoch: Option<u64>| {
            let epoch = epoch.and_then(|epoch| i64::try_from(epoch).ok());
            epoch.map(Value::Integer).unwrap_or_default()
        };
        Ok(match kind {
            Kind::Source | Kind::Table => {
                let kinds: &'static [RelationKind] = match kind {
                    Kind::Source => &[RelationKind::Source],
                    _ => &[RelationKind::Table],
                };
                let rows = of_kind(kinds).map(|relation| {
                    let (name, rows) = (text(&relation.name), number(relation.n_rows));
                    vec![name, rows, epoch(relation.epoch)]
                });
                table(["name", "rows", "epoch"], rows)
            }
            Kind::View => {
                let views = of_kind(&[RelationKind::Answers, RelationKind::Query]);
                let rows = views.map(|relation| {
                    let of = match relation.kind {
                        RelationKind::Answers => "LLM_GENERATE",
                        _ => "SELECT",
                    };
                    let reads: Vec<&str> = relation.reads.iter().map(|name| &**name).collect();
                    let staleness = relation.staleness;
                    let lag = staleness.and_then(|of| of.lag);
                    vec![
                        text(&relation.name),
                        of.into(),
                        Value::text(reads.join(", ")),
                        number(relation.n_rows),
                        epoch(relation.epoch),
                        staleness.map(|of| number(of.n_behind)).unwrap_or_default(),
                        lag.map(milliseconds).unwrap_or_default(),
                        staleness
                            .map(|of| Value::text(of.status.to_string()))
                            .unwrap_or_default(),
                        match relation.pace.is_unlimited() {
                            true => Value::Null,
                            false => Value::text(relation.pace.to_string()),
                        },
                    ]
                });
                let names = [
                    "name", "as", "reads", "rows", "epoch", "behind", "lag_ms", "status", "options",
                ];
                table(names, rows)
            }
            Kind::Sink => {
                let put_aside = self.engine.dead_letters().at(span)?;
                let sinks = lock(&self.sinks);
                let sinks = sinks.iter();
                let rows = sinks.map(|(name, of)| {
                    let mut letters = put_aside.iter().filter(|letters| letters.sink == of.name);
                    let n = letters.next().and_then(|of| i64::try_from(of.n_rows).ok());
                    let n = n.map_or(Value::Null, Value::Integer);
                    vec![text(name), text(&of.view), text(&of.into), n]
                });
                table(["name", "from", "into", "dead_letters"], rows)
            }
            Kind::Memory => self.show_memories(span)?,
            Kind::Model => {
                let models = self.engine.models().into_iter();
                let opened = lock(&self.models);
                let rows = models.map(|name| {
                    let spec = opened.get(&name).map(|(spec, _)| spec);
                    let is_default = spec == Some(&self.model);
                    let spec = spec.map(text).unwrap_or_default();
                    vec![text(&name), spec, is_default.into()]
                });
                table(["name", "spec", "is_default"], rows)
            }
        })
    }

    fn drop(&self, drop: &Drop) -> Result<Outcome, Fault> {
        let Drop { kind, name, .. } = drop;
        let is_there = self.catalog(name.span)?.has(drop);
        if is_there {
            self.drop_there(*kind, name)?;
        }
        Ok(Outcome::Dropped {
            kind: *kind,
            name: name.of.clone(),
            was_there: is_there,
        })
    }

    fn drop_there(&self, kind: Kind, name: &Name) -> Result<(), Fault> {
        match kind {
            Kind::Sink => {
                let sink = lock(&self.sinks)
                    .get(&name.of)
                    .map(|sink| sink.name.clone());
                if let Some(sink) = sink {
                    self.engine.drop_sink(&sink).at(name.span)?;
                }
                lock(&self.sinks).remove(&name.of);
            }
            Kind::Memory => self.drop_memory(name)?,
            Kind::Model => {
                self.engine.drop_model(&name.of).at(name.span)?;
                lock(&self.models).remove(&name.of);
            }
            Kind::Source | Kind::Table | Kind::View => {
                self.drop_whole(name)?;
                lock(&self.folders).remove(&name.of);
            }
        }
        Ok(())
    }

    fn explain(&self, explained: &Statement, span: Span) -> Result<Outcome, Fault> {
        let plan = match explained {
            Statement::Select(query) => self.explain_query(query, span)?,
            Statement::CreateView(view) => self.explain_query(&view.query, span)?,
            Statement::CreateContinuousView(view) if view.share().is_some() => {
                view.made_of().unwrap_or_default()
            }
            Statement::CreateContinuousView(view) => {
                let view = self.catalog(span)?.declared_view(view)?;
                self.engine.plan(&view).at(span)?.to_string()
            }
            Statement::CreateMemory(memory) => self.explain_memory(memory)?,
            _ => {
                let what = "only queries, views and memories have a plan";
                return Err(Fault::said(what, span));
            }
        };
        Ok(Outcome::Plan(plan))
    }

    /// The plan of a query, and who is asked where it asks.
    fn explain_query(&self, query: &sql::Query, span: Span) -> Result<String, Fault> {
        let query = self.catalog(span)?.bind(query, span)?;
        let mut plan = query.to_string();
        for name in query.asked() {
            let can = self
                .engine
                .provider(name.as_deref())
                .at(span)?
                .capabilities();
            let promise = match can.is_exact {
                true => "the same row always gets the same answer",
                false => "an answer stands until its row changes",
            };
            let (model, n) = (self.called(name.as_ref()), can.n_positions);
            plan.push_str(&format!(
                "\nasked is {model}, which attends to {n} tokens: {promise}"
            ));
        }
        Ok(plan)
    }

    /// The plan of a query, what each of its questions would be over the rows that stand, and what that
    /// would cost.
    fn explain_cost(
        &self,
        explained: &Statement,
        span: Span,
        bounds: &Bounds,
    ) -> Result<Outcome, Fault> {
        let query = match explained {
            Statement::Select(query) => query,
            Statement::CreateView(view) => &view.query,
            _ => return Err(Fault::said("only queries have questions to count", span)),
        };
        let read = self.catalog(span)?.bind(query, span)?;
        let read: Vec<&str> = read.inputs().iter().map(|i| &*i.relation).collect();
        let stale = self.settle_or_say(&read, span)?;
        let mut plan = self.explain_query(query, span)?;
        let query = self.catalog(span)?.bind(query, span)?;
        let forecast = relations::forecast(&self.engine, &query, span, bounds)?;
        for question in &forecast.questions {
            plan.push_str(&format!("\n{question}"));
        }
        for of in &forecast.models {
            let model = self.called(of.model.as_ref());
            plan.push_str(&format!("\n{model}: {of}"));
        }
        if forecast.questions.is_empty() {
            plan.push_str("\nno model is asked");
        }
        if let Some(notice) = stale {
            plan.push_str(&format!("\n{notice}"));
        }
        Ok(Outcome::Plan(plan))
    }

    /// What a model is called where a plan is told.
    fn called(&self, name: Option<&Arc<str>>) -> String {
        match name {
            None => self.model.to_string(),
            Some(name) => match lock(&self.models).get(name) {
                Some((spec, _)) => format!("{name} ({spec})"),
                None => name.to_string(),
            },
        }
    }

    fn forget(&self, forget: &Forget) -> Result<Outcome, Fault> {
        self.settle(&[&forget.from.of], forget.key.span)?;
        let receipt = self.engine.forget(&forget.from.of, &forget.key.of);
        let receipt = receipt.at(forget.key.span)?;
        self.catch_memories_up();
        Ok(Outcome::Forgotten(Box::new(receipt)))
    }
}

pub(super) fn number(n: usize) -> Value {
    Value::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

pub(super) fn created(kind: Kind, name: &Name, notice: Option<String>) -> Outcome {
    Outcome::Created {
        kind,
        name: name.of.clone(),
        notice,
    }
}

/// Rows of a listing.
pub(super) fn table<const N: usize>(
    names: [&str; N],
    rows: impl Iterator<Item = Vec<Value>>,
) -> Outcome {
    Outcome::Rows {
        schema: Schema::new(names.map(|name| Column::new(name, Type::Any))),
        rows: rows.map(Tuple::from).collect(),
        notices: Vec::new(),
    }
}

/// The first model that a script creates: that which is asked where none is named.
pub fn first_model(statements: &[Spanned<Statement>]) -> Option<&CreateModel> {
    statements.iter().find_map(|statement| match &statement.of {
        Statement::CreateModel(model) => Some(model),
        _ => None,
    })
}
