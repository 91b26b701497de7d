//! What bears which name: now, or once the statements before have been carried out?
//!
//! A statement is held against a catalog ([`Catalog::check`]) before it is carried out, and a whole script
//! before any of it is: then the catalog is that of now, to which each statement adds what it will make
//! ([`Catalog::foresee`]).
//!
//! # Invariants
//! - What is foreseen never refuses what its turn would allow: where the columns of a relation depend on
//!   rows that are yet to come, it may have any.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use perennial_ask::Task;
use perennial_rows::{Column, Schema, Type};
use perennial_views::query::{Query, RelationSchema, Relations, bind};
use perennial_views::sql::{
    self, CreateContinuousView, CreateMemory, CreateView, Diagnostic, Drop, Kind, ModelOption,
    Name, ReadBy, Span, Statement, nearest,
};

use super::memories::declared;
use super::outcome::Fault;
use super::shared::SharedView;
use crate::engine::reading::answers_schema;
use crate::engine::{Engine, RelationInfo, RelationKind};
use crate::memory::Memory;

/// A column that no relation has: what names it in a result says that `*` stands for columns of an open relation.
const ANY_OTHER: &str = "\u{0}";

/// The names that a statement may use.
#[derive(Default)]
pub(super) struct Catalog {
    pub(super) relations: BTreeMap<Arc<str>, RelationInfo>,
    pub(super) memories: BTreeMap<Arc<str>, KnownMemory>,
    /// The views that are made of others.
    pub(super) shared: BTreeMap<Arc<str>, SharedView>,
    pub(super) sinks: BTreeMap<Arc<str>, KnownSink>,
    pub(super) models: BTreeMap<Arc<str>, ModelState>,
    /// Whose models are asked what they can do; without one, all may do all.
    pub(super) engine: Option<Engine>,
}

/// What a sink takes, and where it delivers that.
pub(super) struct KnownSink {
    pub(super) view: Arc<str>,
    pub(super) into: Arc<str>,
}

impl KnownSink {
    /// Whether it delivers there: two paths of one file are one place.
    pub(super) fn is_into(&self, place: &str) -> bool {
        let is_path = |place: &str| !place.contains("://");
        if !is_path(&self.into) || !is_path(place) {
            return *self.into == *place;
        }
        let [own, other] = [&*self.into, place].map(|path| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
            // What is not there yet has no other name.
            std::fs::canonicalize(&path).unwrap_or(path)
        });
        own == other
    }
}

/// A memory, with the names of all that belongs to it.
pub(super) struct KnownMemory {
    pub(super) memory: Memory,
    pub(super) relations: BTreeSet<String>,
}

/// Whether it is known what a model can do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ModelState {
    /// It is open.
    Open,
    /// A statement is to open it, with prices or without.
    Foreseen { is_priced: bool },
}

impl Catalog {
    /// All relations, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &RelationInfo> {
        self.relations.values()
    }

    /// Whether calls of a model cost money; of one that is not known, that they do not.
    pub(super) fn is_priced(&self, model: Option<&str>) -> bool {
        match model.and_then(|name| self.models.get(name)) {
            Some(ModelState::Foreseen { is_priced }) => *is_priced,
            // What its own model costs is known once that is open.
            _ => self.engine.as_ref().is_none_or(|engine| {
                let provider = engine.provider(model);
                provider.is_ok_and(|provider| provider.prices().is_some())
            }),
        }
    }

    /// Whether there is one of this name.
    pub(super) fn get(&self, name: &str) -> Option<&RelationInfo> {
        self.relations.get(name)
    }

    /// The relation of a name.
    pub(super) fn expect(&self, name: &Name) -> Result<&RelationInfo, Fault> {
        self.get(&name.of).ok_or_else(|| {
            let what = format!("there is no relation {}", name.of);
            let names: Vec<&str> = self.relations.keys().map(|name| &**name).collect();
            let fault = Diagnostic::new(what, name.span);
            let fault = match nearest(&name.of, names.iter().copied()) {
                Some(meant) => fault.help(format!("did you mean {meant}?")),
                None if names.is_empty() => fault.help("CREATE it first"),
                None => fault.help(format!("there are {}", names.join(", "))),
            };
            fault.into()
        })
    }

    /// The memory of a name.
    pub(super) fn expect_memory(&self, name: &Name) -> Result<&Memory, Fault> {
        if let Some(known) = self.memories.get(&name.of) {
            return Ok(&known.memory);
        }
        let of = &name.of;
        if let Some(relation) = self.get(of) {
            let what = format!("{of} is a {} and no memory", noun(relation.kind));
            let owner = self.owner(of);
            let help = match owner {
                Some(memory) => format!("it belongs to memory {memory}; name that"),
                None => format!("make a memory of it, and name that: CREATE MEMORY m FROM {of}"),
            };
            return Err(Diagnostic::new(what, name.span).help(help).into());
        }
        let fault = Diagnostic::new(format!("there is no memory {of}"), name.span);
        let names = self.memories.keys().map(|name| &**name);
        Err(match nearest(of, names) {
            Some(meant) => fault.help(format!("did you mean {meant}?")),
            None => fault.help(format!("CREATE MEMORY {of} FROM turns")),
        }
        .into())
    }

    /// The memory that a relation belongs to.
    pub(super) fn owner(&self, relation: &str) -> Option<&Arc<str>> {
        let mut memories = self.memories.iter();
        let owner = memories.find(|(_, known)| known.relations.contains(relation));
        owner.map(|(name, _)| name)
    }

    /// What is said of sources that have failed, among all that stands behind these relations.
    pub(super) fn failures_of<'a>(&'a self, read: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut behind: Vec<&str> = read.collect();
        let mut at = 0;
        while let Some(name) = behind.get(at) {
            let reads = self.get(name).into_iter().flat_map(|of| &of.reads);
            for read in reads.map(|name| &**name).collect::<Vec<_>>() {
                if !behind.contains(&read) {
                    behind.push(read);
                }
            }
            at += 1;
        }
        let known = behind.into_iter().filter_map(|name| self.get(name));
        let failures = known.filter_map(|of| Some((&of.name, of.failure.as_ref()?)));
        failures
            .map(|(name, failure)| format!("source {name} has failed: {failure}"))
            .collect()
    }

    /// A query over what there is.
    pub(super) fn bind(&self, query: &sql::Query, span: Span) -> Result<Query, Fault> {
        bind(query, self).map_err(|errors| Fault::bind(errors, span))
    }

    /// Notes what there is once a statement is carried out. One that is wrong makes what it names, with any
    /// columns.
    pub(super) fn foresee(&mut self, statement: &Statement) {
        match statement {
            Statement::CreateSource(source) => {
                let columns = source.columns.clone();
                self.add(&source.name, RelationKind::Source, columns, &[]);
            }
            Statement::CreateTable(table) => {
                let columns = Some(table.columns.clone());
                self.add(&table.name, RelationKind::Table, columns, &[]);
            }
            Statement::CreateModel(model) => {
                let name = model.name.of.clone();
                let mut options = model.options.iter();
                let is_priced =
                    options.any(|option| matches!(option.of, ModelOption::PriceInput(_)));
                let foreseen = ModelState::Foreseen { is_priced };
                self.models.entry(name).or_insert(foreseen);
            }
            Statement::CreateMemory(memory) => self.foresee_memory(memory),
            Statement::CreateContinuousView(view) => {
                let is_shared = self.foresee_shared(view, view.name.span);
                if !is_shared {
                    self.foresee_answers(view);
                }
            }
            Statement::CreateView(view) => self.foresee_view(view),
            Statement::CreateSink(sink) => {
                let sinks = self.sinks.entry(sink.name.of.clone());
                sinks.or_insert_with(|| KnownSink {
                    view: sink.from.of.clone(),
                    into: sink.into.of.clone(),
                });
            }
            Statement::Drop(drop) => self.foresee_drop(drop),
            _ => {}
        }
    }

    fn add(
        &mut self,
        name: &Name,
        kind: RelationKind,
        columns: Option<Schema>,
        reads: &[Arc<str>],
    ) {
        let name = name.of.clone();
        let made = RelationInfo::declared(name.clone(), kind, columns, reads.to_vec());
        self.relations.entry(name).or_insert(made);
    }

    fn foresee_memory(&mut self, memory: &CreateMemory) {
        let name = &memory.name;
        if self.get(&name.of).is_some() {
            return;
        }
        let memory = declared(memory);
        let there: Vec<RelationInfo> = self.iter().cloned().collect();
        let own = memory.relations().into_iter().collect();
        match memory.foreseen(&there) {
            Ok(made) => {
                let made = made.into_iter().map(|of| (of.name.clone(), of));
                self.relations.extend(made);
            }
            Err(_) => self.add(name, RelationKind::Query, None, &[]),
        }
        let known = KnownMemory {
            memory,
            relations: own,
        };
        self.memories.insert(name.of.clone(), known);
    }

    fn foresee_answers(&mut self, view: &CreateContinuousView) {
        let mut documents = view.data_source.of.clone();
        if let Some(ReadBy::Reader(reader)) = &view.reads
            && let Some(known) = self.memories.get_mut(&documents)
        {
            // It is made where it is first read.
            let readable = known.memory.readable_by(&reader.of);
            known.relations.insert(readable.clone());
            let entries = self.get(&documents).map(|of| of.schema.clone());
            let (name, reads) = (Name::new(readable.into(), reader.span), [documents]);
            self.add(&name, RelationKind::Query, entries, &reads);
            documents = name.of;
        }
        let reads = [view.context.of.clone(), documents];
        let columns = Some(answers_schema());
        self.add(&view.name, RelationKind::Answers, columns, &reads);
    }

    fn foresee_view(&mut self, view: &CreateView) {
        let (kind, name) = (RelationKind::Query, &view.name);
        let Ok(query) = bind(&view.query, &*self) else {
            return self.add(name, kind, None, &[]);
        };
        let inputs = query.inputs().iter();
        let reads: Vec<Arc<str>> = inputs.map(|input| input.relation.clone()).collect();
        let is_open = |read: &Arc<str>| self.get(read).is_some_and(|of| of.is_open);
        let has_any = reads.iter().any(is_open)
            && match bind(&view.query, &WithAnyOther(&*self)) {
                Ok(query) => query.schema().position(ANY_OTHER).is_some(),
                Err(_) => true,
            };
        let columns = Some(query.schema().clone());
        let mut made = RelationInfo::declared(name.of.clone(), kind, columns, reads);
        made.is_open = has_any;
        self.relations.entry(name.of.clone()).or_insert(made);
    }

    fn foresee_drop(&mut self, drop: &Drop) {
        let name = &drop.name.of;
        match drop.kind {
            Kind::Sink => {
                self.sinks.remove(name);
            }
            Kind::Model => {
                self.models.remove(name);
            }
            Kind::Memory => {
                let dropped = self.memories.remove(name);
                for relation in dropped.into_iter().flat_map(|known| known.relations) {
                    self.relations.remove(&*relation);
                }
            }
            Kind::Source | Kind::Table | Kind::View => {
                let parts = self.shared.remove(name).map(|of| of.parts);
                for part in parts.into_iter().flatten() {
                    self.relations.remove(&part);
                }
                self.relations.remove(name);
            }
        }
    }
}

impl Relations for Catalog {
    fn relation(&self, name: &str) -> Option<RelationSchema> {
        // Unquoted names are lower case here, as they are where they are made.
        let named = self.get(name).or_else(|| self.get(&name.to_lowercase()));
        named.map(RelationSchema::from)
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.relations.keys().cloned().collect()
    }

    fn models(&self) -> Vec<Arc<str>> {
        self.models.keys().cloned().collect()
    }

    fn check_task(&self, model: Option<&str>, task: &Task) -> Result<(), String> {
        let state = model.and_then(|name| self.models.get(name));
        match (state, &self.engine) {
            // What it can do is known once it is open.
            (Some(ModelState::Foreseen { .. }), _) | (_, None) => Ok(()),
            (_, Some(engine)) => engine.check_task(model, task),
        }
    }
}

/// The same relations, of which those that are open have one more column.
struct WithAnyOther<'c>(&'c Catalog);

impl Relations for WithAnyOther<'_> {
    fn relation(&self, name: &str) -> Option<RelationSchema> {
        let mut relation = self.0.relation(name)?;
        if relation.is_open {
            let columns = relation.columns.columns().iter().cloned();
            let other = Column::new(ANY_OTHER, Type::Any);
            relation.columns = Schema::new(columns.chain([other]));
        }
        Some(relation)
    }

    fn models(&self) -> Vec<Arc<str>> {
        self.0.models()
    }

    fn check_task(&self, model: Option<&str>, task: &Task) -> Result<(), String> {
        self.0.check_task(model, task)
    }
}

/// What a relation is called in a sentence, and in upper case in SQL.
pub(super) fn noun(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Source => "source",
        RelationKind::Table => "table",
        RelationKind::Answers | RelationKind::Query => "view",
    }
}
