//! What is wrong with a statement, before it is carried out?
//!
//! Names, columns and types are. What a statement finds when it is carried out is not known here: rows, files,
//! servers, what a model can do that is yet to be opened.

use std::sync::Arc;

use perennial_views::sql::{
    AlterView, CreateContinuousView, CreateSink, Diagnostic, Drop, Kind, Name, Script, Show, Span,
    Spanned, Statement, Subscribe, ViewOption, nearest,
};
use perennial_views::{PaceOption, View};

use super::catalog::{Catalog, ModelState, noun};
use super::edits;
use super::memories::declared;
use super::outcome::{At as _, Fault, SessionError};
use crate::engine::{Error, RelationInfo, RelationKind};

/// What is wrong with a script before anything is opened for it: as [`Session::check`](crate::sql::Session::check)
/// over an engine that has nothing yet, but for what its models can do.
///
/// # Errors
/// All that is wrong, each at its place.
pub fn check(script: &Script, statements: &[Spanned<Statement>]) -> Result<(), SessionError> {
    let wrong = Catalog::default().check_all(statements);
    wrong.map_err(|fault| fault.of(script))
}

/// Where a budget of money is set among options.
pub(super) fn budget_of_money<'o>(
    mut options: impl Iterator<Item = (&'o PaceOption, Span)>,
) -> Option<Span> {
    options.find_map(|(option, span)| match option {
        PaceOption::CostPerHour(Some(_)) => Some(span),
        _ => None,
    })
}

fn unpriced(view: &Name) -> Error {
    Error::Unpriced {
        view: view.of.to_string(),
    }
}

impl Catalog {
    /// Whether statements may be carried out one after the other.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub(super) fn check_all(&mut self, statements: &[Spanned<Statement>]) -> Result<(), Fault> {
        let mut said = Vec::new();
        for Spanned { of, span } in statements {
            match self.check(of, *span) {
                Ok(()) => self.foresee(of),
                Err(Fault::Said(more)) => {
                    said.extend(more);
                    // What follows is not wrong because of that.
                    if !matches!(of, Statement::Drop(_)) {
                        self.foresee(of);
                    }
                }
                Err(fault) => return Err(fault),
            }
        }
        match said.is_empty() {
            true => Ok(()),
            false => Err(Fault::Said(said)),
        }
    }

    /// Whether a statement may be carried out over what there is; `span` is where it stands.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(super) fn check(&self, statement: &Statement, span: Span) -> Result<(), Fault> {
        match statement {
            Statement::CreateSource(source) => self.check_new(&source.name),
            Statement::CreateTable(table) => self.check_new(&table.name),
            Statement::CreateModel(model) => self.check_new_model(&model.name),
            Statement::CreateMemory(memory) => {
                self.check_new(&memory.name)?;
                self.expect(&memory.from)?;
                let there: Vec<RelationInfo> = self.iter().cloned().collect();
                declared(memory).foreseen(&there).at(memory.name.span)?;
                Ok(())
            }
            Statement::CreateContinuousView(view) => {
                self.check_new(&view.name)?;
                self.check_shared(view, span)?;
                self.check_answers(view, span)
            }
            Statement::CreateView(view) => {
                self.check_new(&view.name)?;
                let query = self.bind(&view.query, span)?;
                let is_priced = || {
                    let asked = query.asked();
                    asked.iter().any(|model| self.is_priced(model.as_deref()))
                };
                match budget_of_money(view.options.iter().map(|o| (&o.of, o.span))) {
                    Some(budget) if !is_priced() => Err(unpriced(&view.name)).at(budget),
                    _ => Ok(()),
                }
            }
            Statement::AlterView(alter) => self.check_altered(alter),
            Statement::CreateSink(sink) => self.check_sink(sink),
            Statement::Insert(insert) => edits::insert(insert, self).map(drop),
            Statement::Update(update) => edits::check_update(update, self, span),
            Statement::Delete(delete) => edits::check_delete(delete, self, span),
            Statement::Select(query) => self.bind(query, span).map(drop),
            Statement::Subscribe(subscribe) => self.check_subscribed(subscribe),
            Statement::Show(Show::Columns(name)) => self.expect(name).map(drop),
            Statement::Show(Show::Candidates(name)) => self.expect_candidates(name).map(drop),
            Statement::Show(Show::All(_)) => Ok(()),
            Statement::Drop(drop) => self.check_drop(drop),
            Statement::Explain(explained) => self.check_explained(&explained.of, explained.span),
            Statement::ExplainCost(explained) => {
                let query = match &explained.of {
                    Statement::Select(query) => query,
                    Statement::CreateView(view) => &view.query,
                    _ => {
                        let what = "only queries have questions to count";
                        return Err(Fault::said(what, explained.span));
                    }
                };
                self.bind(query, explained.span).map(drop)
            }
            Statement::AnalyzeQuery(query) => self.bind(query, span).map(drop),
            Statement::AnalyzeView(name) => self.expect_view(name),
            Statement::ExplainWhy(row) => self.expect_view(&row.relation),
            Statement::Lineage(row) => self.expect(&row.relation).map(drop),
            Statement::Forget(forget) => self.expect(&forget.from).map(drop),
            Statement::ForgetMemory(forget) => self.expect_memory(&forget.from).map(drop),
            Statement::Grant(grant) => self.expect_memory(&grant.memory).map(drop),
            Statement::Recall(recall) => self.expect_memory(&recall.from).map(drop),
            _ => Err(Fault::said("this statement is not known here", span)),
        }
    }

    /// A name that a view bears.
    fn expect_view(&self, name: &Name) -> Result<(), Fault> {
        let relation = self.expect(name)?;
        if relation.kind.is_view() {
            return Ok(());
        }
        let what = format!("{} is a {}, and no view", name.of, noun(relation.kind));
        Err(Fault::said(what, name.span))
    }

    /// A name that nothing bears yet.
    pub(super) fn check_new(&self, name: &Name) -> Result<(), Fault> {
        let Some(relation) = self.get(&name.of) else {
            return Ok(());
        };
        let (kind, of) = (noun(relation.kind), &name.of);
        let what = format!("there is a {kind} {of} already");
        let keyword = kind.to_uppercase();
        Err(Diagnostic::new(what, name.span)
            .help(format!("another name, or DROP {keyword} {of} first"))
            .into())
    }

    fn check_new_model(&self, name: &Name) -> Result<(), Fault> {
        if !self.models.contains_key(&name.of) {
            return Ok(());
        }
        let what = format!("there is a model {} already", name.of);
        Err(Fault::said(what, name.span))
    }

    fn check_answers(&self, view: &CreateContinuousView, span: Span) -> Result<(), Fault> {
        let named = view.options.iter().find_map(|option| match &option.of {
            ViewOption::Model(name) => Some(name),
            _ => None,
        });
        let state = named.and_then(|name| self.models.get(name));
        let declared = self.declared_view(view)?;
        if let Some(engine) = &self.engine
            && !matches!(state, Some(ModelState::Foreseen { .. }))
        {
            engine.plan(&declared).at(span)?;
        }
        let paces = view.options.iter().filter_map(|option| match &option.of {
            ViewOption::Pace(pace) => Some((pace, option.span)),
            _ => None,
        });
        match budget_of_money(paces) {
            Some(budget) if !self.is_priced(named.map(|name| &**name)) => {
                Err(unpriced(&view.name)).at(budget)
            }
            _ => Ok(()),
        }
    }

    /// The view that a statement declares, its names looked up.
    pub(super) fn declared_view(&self, view: &CreateContinuousView) -> Result<View, Fault> {
        self.expect(&view.context)?;
        if view.reads.is_some() {
            self.expect_memory(&view.data_source)?;
        } else {
            self.expect(&view.data_source)?;
        }
        let matching = view.matching.iter().map(|column| {
            for read in [&view.context, &view.data_source] {
                self.check_column(&read.of, column)?;
            }
            Ok(column.of.to_string())
        });
        let matching: Vec<String> = matching.collect::<Result<_, Fault>>()?;
        for option in &view.options {
            if let ViewOption::Model(name) = &option.of {
                self.check_model(name, option.span)?;
            }
        }
        Ok(view.view().matching(matching))
    }

    /// Whether a relation with declared columns has this one. Others may have any.
    pub(super) fn check_column(&self, relation: &str, column: &Name) -> Result<(), Fault> {
        let known = self.get(relation).filter(|known| !known.is_open);
        let Some(schema) = known.map(|known| &known.schema) else {
            return Ok(());
        };
        if schema.position(&column.of).is_some() {
            return Ok(());
        }
        let what = format!("{relation} has no column {}", column.of);
        Err(Diagnostic::new(what, column.span)
            .help(format!("it has {schema}"))
            .into())
    }

    fn check_model(&self, name: &Arc<str>, span: Span) -> Result<(), Fault> {
        if self.models.contains_key(name) {
            return Ok(());
        }
        let what = format!("there is no model {name}");
        let fault = Diagnostic::new(what, span);
        let names = self.models.keys().map(|name| &**name);
        Err(match nearest(name, names) {
            Some(meant) => fault.help(format!("did you mean {meant}?")),
            None => fault.help("a name of CREATE MODEL: CREATE MODEL small FROM 'smollm2-135m'"),
        }
        .into())
    }

    fn check_altered(&self, alter: &AlterView) -> Result<(), Fault> {
        let name = &alter.name;
        let is = noun(self.expect(name)?.kind);
        if is == "view" {
            return Ok(());
        }
        let what = format!("{} is a {is}", name.of);
        Err(Fault::said(what, name.span))
    }

    fn check_sink(&self, sink: &CreateSink) -> Result<(), Fault> {
        let name = &sink.name;
        if self.sinks.contains_key(&name.of) {
            let what = format!("there is a sink {} already", name.of);
            return Err(Fault::said(what, name.span));
        }
        let into = &sink.into;
        let mut known = self.sinks.iter();
        if let Some((other, of)) = known.find(|(_, of)| of.is_into(&into.of)) {
            let what = format!(
                "sink {other} delivers {} there: {} would stand among it",
                of.view, sink.from.of
            );
            let help = format!(
                "give {} a place of its own; or DROP SINK {other}; or deliver one view that says both",
                name.of
            );
            return Err(Diagnostic::new(what, into.span).help(help).into());
        }
        let from = &sink.from;
        let is = noun(self.expect(from)?.kind);
        match is {
            "view" => Ok(()),
            _ => Err(no_view(from, is, "a sink takes")),
        }
    }

    fn check_subscribed(&self, subscribe: &Subscribe) -> Result<(), Fault> {
        let to = &subscribe.to;
        match noun(self.expect(to)?.kind) {
            "view" => Ok(()),
            is => Err(no_view(to, is, "subscribe to")),
        }
    }

    fn check_explained(&self, explained: &Statement, span: Span) -> Result<(), Fault> {
        match explained {
            Statement::Select(query) => self.bind(query, span).map(drop),
            Statement::CreateView(view) => self.bind(&view.query, span).map(drop),
            Statement::CreateContinuousView(view) => {
                self.check_shared(view, span)?;
                self.check_answers(view, span)
            }
            Statement::CreateMemory(memory) => {
                self.expect(&memory.from)?;
                let there: Vec<RelationInfo> = self.iter().cloned().collect();
                let explained = declared(memory).check(&there);
                explained.at(memory.name.span)
            }
            _ => {
                let what = "only queries, views and memories have a plan";
                Err(Fault::said(what, span))
            }
        }
    }

    /// Whether there is what is to be dropped.
    pub(super) fn has(&self, drop: &Drop) -> bool {
        let name = &drop.name.of;
        match drop.kind {
            Kind::Sink => self.sinks.contains_key(name),
            Kind::Model => self.models.contains_key(name),
            Kind::Memory => self.memories.contains_key(name),
            Kind::Source | Kind::Table | Kind::View => self.get(name).is_some(),
        }
    }

    /// What there is of a kind.
    fn names_of(&self, kind: Kind) -> Vec<&str> {
        let of_kind = |relation: &&RelationInfo| match kind {
            Kind::Source => relation.kind == RelationKind::Source,
            Kind::Table => relation.kind == RelationKind::Table,
            _ => relation.kind.is_view(),
        };
        match kind {
            Kind::Sink => self.sinks.keys().map(|name| &**name).collect(),
            Kind::Model => self.models.keys().map(|name| &**name).collect(),
            Kind::Memory => self.memories.keys().map(|name| &**name).collect(),
            Kind::Source | Kind::Table | Kind::View => {
                let relations = self.iter().filter(of_kind);
                relations.map(|relation| &*relation.name).collect()
            }
        }
    }

    fn check_drop(&self, drop: &Drop) -> Result<(), Fault> {
        let (name, keyword) = (&drop.name, drop.kind.keyword().to_lowercase());
        if !self.has(drop) {
            if drop.if_exists {
                return Ok(());
            }
            let what = format!("there is no {keyword} {}", name.of);
            let fault = Diagnostic::new(what, name.span);
            let names = self.names_of(drop.kind);
            let help = match nearest(&name.of, names.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None if names.is_empty() => "DROP … IF EXISTS is no error".to_owned(),
                None => format!(
                    "there are {}; DROP … IF EXISTS is no error",
                    names.join(", ")
                ),
            };
            return Err(fault.help(help).into());
        }
        match drop.kind {
            Kind::Sink | Kind::Model | Kind::Memory => Ok(()),
            Kind::Source | Kind::Table | Kind::View => self.check_dropped(name, &keyword),
        }
    }

    /// A relation of another kind, one that belongs to a memory or is a part of a view, or one that is used is
    /// not dropped.
    fn check_dropped(&self, name: &Name, keyword: &str) -> Result<(), Fault> {
        if let Some(memory) = self.owner(&name.of) {
            let what = format!("{} belongs to memory {memory}", name.of);
            let help = format!("DROP MEMORY {memory}");
            return Err(Diagnostic::new(what, name.span).help(help).into());
        }
        if let Some(whole) = self.whole(&name.of) {
            let what = format!("{} is a part of view {whole}", name.of);
            let help = format!("DROP VIEW {whole}");
            return Err(Diagnostic::new(what, name.span).help(help).into());
        }
        let is = noun(self.expect(name)?.kind);
        if is != keyword {
            let what = format!("{} is a {is}", name.of);
            let help = format!("DROP {} {}", is.to_uppercase(), name.of);
            return Err(Diagnostic::new(what, name.span).help(help).into());
        }
        let dropped = self.dropped_with(&name.of);
        let is_dropped = |name: &Arc<str>| dropped.contains(&&**name);
        let readers = self
            .iter()
            .filter(|of| !is_dropped(&of.name) && of.reads.iter().any(is_dropped));
        let readers = readers.map(|of| &*of.name);
        let sinks = self.sinks.iter().filter(|(_, of)| is_dropped(&of.view));
        let users: Vec<&str> = readers.chain(sinks.map(|(sink, _)| &**sink)).collect();
        if users.is_empty() {
            return Ok(());
        }
        let in_use = Error::InUse {
            name: name.of.to_string(),
            users: users.join(", "),
        };
        Err(Fault::engine(in_use, name.span))
    }
}

/// A source or table where a view is meant.
fn no_view(name: &Name, is: &str, does: &str) -> Fault {
    let of = &name.of;
    let help = format!("{does} a view of it: CREATE VIEW v AS SELECT * FROM {of}");
    let what = format!("{of} is a {is}");
    Diagnostic::new(what, name.span).help(help).into()
}
