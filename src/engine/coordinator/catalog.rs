//! What comes and goes while the engine runs: streams and views; sinks do in `sinks.rs`.
//!
//! # Invariants
//! - A name belongs to one relation. What another reads, or a sink takes, is not dropped.
//! - What an earlier process left under a name in the state directory is taken up when the name is
//!   declared; what is dropped leaves the state directory, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_ask::{Before, Profile, Work};
use perennial_bank::fragment_store::ViewReferences;
use perennial_connectors::{Resume, Resumption, Source, fit, fit_all};
use perennial_rows::{Key, Row, Schema};
use perennial_views::query::Query;
use perennial_views::{
    Agenda, ContextBook, Delivery, Measures, Observer, Pace, Rerun, Services, View as Declaration,
};

use super::Coordinator;
use super::acknowledging::Listener;
use super::backlog::Backlog;
use super::closing::ClosedEpoch;
use super::pacing::check_priced;
use super::stream::Stream;
use super::view::{Body, Done, Generating, Querying, View};
use crate::engine::budget::Ledger;
use crate::engine::change_log::{BagChange, ChangeLog};
use crate::engine::clock::now_ms;
use crate::engine::coverage::Coverage;
use crate::engine::current::CurrentAnswer;
use crate::engine::deletions::Deletions;
use crate::engine::error::Error;
use crate::engine::healing::Healing;
use crate::engine::hub::PromptHub;
use crate::engine::log;
use crate::engine::measuring::Measuring;
use crate::engine::models::Models;
use crate::engine::names::{Named, StreamId, ViewId};
use crate::engine::places::Places;
use crate::engine::reading::{self, Origin};
use crate::engine::recent::Recent;
use crate::engine::relations::{RelationInfo, RelationKind, Snapshot};
use crate::engine::tables::Table;
use crate::engine::update::Update;
use crate::engine::upserts::Upserts;
use crate::engine::workers::{Command, DeclaredView, Report};
use crate::state::StateError;

/// Events of one source that wait for the coordinator.
const EVENT_CAPACITY: usize = 8;

impl Coordinator {
    /// A stream that is fed by hand, with these columns or, where none are given, any.
    pub(crate) fn create_table(
        &mut self,
        name: Arc<str>,
        columns: Option<Schema>,
    ) -> Result<(), Error> {
        self.check_new(&name)?;
        let refitted = self.refitted(&name, columns.as_ref(), fit_all)?;
        let stream = self.stream(name.clone(), columns.clone(), refitted, None);
        let id = StreamId(self.take_id());
        self.streams.insert(id, stream);
        self.names.insert_stream(name, Named::Table(id), columns);
        if !self.is_held {
            self.take_resubmitted();
        }
        Ok(())
    }

    /// A stream that a source feeds; its name is the source's.
    pub(crate) fn create_source(&mut self, mut source: Box<dyn Source>) -> Result<(), Error> {
        let name: Arc<str> = source.name().as_str().into();
        self.check_new(&name)?;
        let columns = source.schema().cloned();
        let replays = self.is_to_replay(&*source);
        let refitted = match source.replays() {
            true => BTreeMap::new(),
            false => self.refitted(&name, columns.as_ref(), fit)?,
        };
        let resumption = self.durable.as_ref().map(|durable| match replays {
            true => {
                source.resume_from(Resume::default());
                Resumption::Anew
            }
            false => source.resume_from(durable.resume(&name)),
        });
        let acks = source.acks();
        let running = perennial_connectors::start(source, EVENT_CAPACITY)?;
        let goes_on = resumption == Some(Resumption::FromOffset);
        self.quarantine.begin(&name, !goes_on);
        let mut stream = self.stream(name.clone(), columns.clone(), refitted, resumption);
        stream.source = Some(running);
        stream.has_caught_up = false;
        stream.listener = acks.map(|acks| Listener::new(acks, stream.resume.clone()));
        let id = StreamId(self.take_id());
        self.streams.insert(id, stream);
        self.names.insert_stream(name, Named::Source(id), columns);
        if !self.is_held {
            self.take_resubmitted();
        }
        Ok(())
    }

    /// A stream with the rows that an earlier process left under its name, some of which are others
    /// under these columns.
    fn stream(
        &mut self,
        name: Arc<str>,
        columns: Option<Schema>,
        refitted: BTreeMap<Key, Row>,
        resumption: Option<Resumption>,
    ) -> Stream {
        let is_schema_saved = self.is_stored(&name, columns.as_ref());
        let (mut rows, mut offset, mut deletions) = (BTreeMap::new(), None, BTreeMap::new());
        if let Some(durable) = &mut self.durable {
            rows = durable.restored.rows.remove(&*name).unwrap_or_default();
            offset = durable.restored.offsets.remove(&*name);
            deletions = durable
                .restored
                .deletions
                .remove(&*name)
                .unwrap_or_default();
            durable.restored.schemas.remove(&*name);
        }
        let rows = rows.into_iter();
        let rows: BTreeMap<Key, Row> = rows.map(|(key, row)| (key.into(), row.into())).collect();
        let resume = offset.filter(|_| resumption == Some(Resumption::FromOffset));
        let stands = resumption != Some(Resumption::Anew);
        let mut table = Table::restored(rows.clone(), stands)
            .with_deletions(Deletions::restored(deletions, stands));
        for (key, row) in refitted {
            table.set(key, Some(row));
        }
        Stream {
            name,
            columns,
            is_schema_saved,
            source: None,
            failure: None,
            has_caught_up: true,
            starting_over: Vec::new(),
            resume_over: None,
            table,
            restored: rows,
            places: Places::default(),
            recent: Recent::default(),
            log: ChangeLog::default(),
            saved: resume.clone(),
            resume,
            listener: None,
        }
    }

    /// A view that asks a model.
    pub(crate) fn create_view(&mut self, declared: &Declaration) -> Result<(), Error> {
        self.check_new(declared.name())?;
        let id = ViewId(self.take_id());
        let asked = self.models.get(declared.asked_model())?;
        let model = &asked.model;
        let n_positions = model.n_positions();
        let plan = declared.plan(n_positions, model.n_prefix_tokens())?;
        let can = asked.provider.capabilities();
        if !can.edits_kv {
            plan.check_plain()?;
        }
        let is_priced = asked.provider.prices().is_some();
        check_priced(&plan.name, &plan.pace, is_priced)?;
        let plan = Arc::new(plan);
        let (documents, contexts) = (self.origin(&plan.data_source)?, self.origin(&plan.context)?);
        let definition = plan.definition(&model.digest(), &self.runtime.embedder.digest());
        let references = asked.references.clone();
        let services = Services {
            model: model.clone(),
            references: references.map(|all| Arc::new(ViewReferences::within(all))),
            shelf: asked.shelf.clone(),
            embeddings: self.embeddings.clone(),
            model_executor: asked.executor.clone(),
            book: Arc::new(ContextBook::default()),
            agenda: Arc::new(Agenda::default()),
            rerun: Arc::new(Rerun::of(model.n_instruction_tokens(&plan.prompt))),
            memo: self.memo.clone(),
            observer: self.observer(id, plan.delivery),
        };
        let mut generating = Generating {
            plan: plan.clone(),
            services: services.clone(),
            documents,
            contexts,
            definition,
            answers: BTreeMap::new(),
            said: BTreeMap::new(),
            questions: BTreeMap::new(),
            n_documents: 0,
            coverage: Coverage::default(),
            deltas: BTreeMap::new(),
            healing: Healing::default(),
            measuring: Measuring::default(),
            requests: BTreeMap::new(),
            early: BTreeMap::new(),
            untold_work: Work::default(),
            restored: None,
            is_memoised: !can.is_exact,
        };
        self.restore_answers(&mut generating);
        if generating.healing.audits().has_fallen_back {
            self.announce(Update::Notice {
                source: plan.name.to_string(),
                message:
                    "its audits went past its bound in an earlier run, so it gives exact answers; \
                          declared with another bound, it begins anew"
                        .to_owned(),
            });
        }
        if plan.policy.leaves_unread()
            && let Some(profile) = model.judges_by()
        {
            self.tell_profile(&plan.name, profile);
        }
        if plan.token_budget < declared.declared_token_budget() {
            self.announce(Update::Notice {
                source: plan.name.to_string(),
                message: format!(
                    "the model attends to {n_positions} tokens, so a question reads {} tokens of \
                     documents at most, not {}",
                    plan.token_budget,
                    declared.declared_token_budget()
                ),
            });
        }
        let (name, pace) = (plan.name.clone(), plan.pace);
        let services = Box::new(services);
        let build = DeclaredView::Generate { plan, services };
        let body = Body::Generate(Box::new(generating));
        let schema = reading::answers_schema();
        self.install(id, name.clone(), (schema, pace, is_priced), body, &build);
        self.names.insert(name, Named::Answers(id));
        Ok(())
    }

    /// Says by what a view guesses which answers it may leave unread.
    fn tell_profile(&mut self, view: &str, profile: &Profile) {
        log::judged(view, profile);
        if profile.is_default() {
            self.announce(Update::Notice {
                source: view.to_owned(),
                message: "its model has no profile of its own: which answers an edit concerns is guessed by \
                          the default, which was fitted to other models; `perennial calibrate` fits one"
                    .to_owned(),
            });
        }
    }

    /// Who hears of a view's calls.
    fn observer(&self, view: ViewId, delivery: Delivery) -> Arc<dyn Observer> {
        let (hub, report) = (self.hub.clone(), self.report.clone());
        match delivery {
            Delivery::Epoch => hub,
            Delivery::Each => {
                let tell = move |context| {
                    // Nobody listens only when the engine is stopping.
                    let _ = report.send(Report::Refreshed { view, context });
                };
                Arc::new(PromptHub { hub, tell })
            }
        }
    }

    /// A view that keeps the result of a query.
    pub(crate) fn create_query(
        &mut self,
        name: Arc<str>,
        query: Arc<Query>,
        pace: Pace,
    ) -> Result<(), Error> {
        self.check_new(&name)?;
        pace.check(&name)?;
        let asking = self.models.asking(name.clone(), &query, self.hub.clone())?;
        let is_priced = self.models.any_is_priced(&query)?;
        check_priced(&name, &pace, is_priced)?;
        let origins = query.inputs().iter();
        let origins = origins.map(|input| self.origin(&input.relation));
        let origins: Vec<Origin> = origins.collect::<Result<_, _>>()?;
        let schema = query.schema().clone();
        let measures: Arc<Measures> = Arc::default();
        let build = DeclaredView::Query {
            query: query.clone(),
            asking: (query.asks() || query.embeds()).then_some(asking),
            measures: measures.clone(),
        };
        let body = Body::Query(Querying {
            upserts: Upserts::of(&query),
            query,
            measures,
            origins,
            tuples: BTreeMap::new(),
            deltas: BagChange::default(),
            recent: Recent::default(),
        });
        let id = ViewId(self.take_id());
        self.install(id, name.clone(), (schema, pace, is_priced), body, &build);
        self.names.insert(name, Named::Query(id));
        Ok(())
    }

    /// The models that may be asked.
    pub(crate) fn models(&self) -> &Arc<Models> {
        &self.models
    }

    /// Drops the name of a model that no view asks by it.
    pub(super) fn drop_model(&self, name: &str) -> Result<(), Error> {
        self.models.get(Some(name))?;
        let users = self.views.values().filter(|view| view.asks_by(name));
        let users: Vec<&str> = users.map(|view| &*view.name).collect();
        if !users.is_empty() {
            return Err(Error::InUse {
                name: name.to_owned(),
                users: users.join(", "),
            });
        }
        self.models.remove(name);
        Ok(())
    }

    /// Has every worker build a view, which begins with the next epoch that it may take.
    fn install(
        &mut self,
        id: ViewId,
        name: Arc<str>,
        (schema, pace, is_priced): (Schema, Pace, bool),
        body: Body,
        build: &DeclaredView,
    ) {
        let n_workers = self.workers.n_workers();
        self.workers.send((0..n_workers).map(|_| Command::Build {
            view: id,
            declared: build.clone(),
        }));
        let restored = self.durable.as_mut().map(|durable| &mut durable.restored);
        let given = restored.map(|restored| restored.given(&name));
        let view = View {
            name,
            stands_at: None,
            in_flight: None,
            log: ChangeLog::default(),
            schema,
            pace,
            is_priced,
            backlog: Backlog::default(),
            ledger: Ledger::default(),
            is_told_stale: false,
            done: Done::default(),
            body,
            given: given.unwrap_or_default(),
        };
        self.park_sinks(id, &view.name);
        self.views.insert(id, view);
    }

    /// Takes up what an earlier process answered, and what it found out about that.
    fn restore_answers(&mut self, view: &mut Generating) {
        let Some(durable) = &mut self.durable else {
            return;
        };
        let name = &*view.plan.name;
        let is_same = durable.restored.views.get(name) == Some(&view.definition);
        if durable.restored.fallen.remove(name) && is_same {
            view.services.book.fall_back();
            view.healing.restore_fall_back();
        }
        let Some(left) = durable.restored.answers.remove(name) else {
            return;
        };
        // Tokens of another model are no draft.
        if is_same {
            let texts = match view.contexts {
                Origin::Stream(read) => Some(&self.streams[&read].restored),
                Origin::View(_) => None,
            };
            for (context, stored) in &left {
                let book = &view.services.book;
                book.put(context.clone(), Before::draft(stored.tokens.clone()));
                let current = view.of_its_model(CurrentAnswer::from(stored.clone()));
                view.answers.insert(context.clone(), current);
                let row = texts.and_then(|rows| rows.get(context.as_str()));
                if let Some(row) = row {
                    view.questions.insert(context.clone(), row.text.clone());
                }
            }
        }
        view.restored = Some(left).filter(|left| !left.is_empty());
    }

    /// Drops streams and views that nothing reads but one of them: all, or none.
    pub(crate) fn drop_relations(&mut self, names: &[String]) -> Result<(), Error> {
        let mut dropped: Vec<(&str, Origin)> = Vec::new();
        for name in names {
            let origin = match self.names.get(name) {
                Some(Named::Source(id) | Named::Table(id)) => Origin::Stream(id),
                Some(Named::Answers(id) | Named::Query(id)) => Origin::View(id),
                None => {
                    return Err(Error::UnknownRelation {
                        name: name.clone(),
                        declared: self.names.list(|_| true),
                    });
                }
            };
            if dropped.iter().all(|(_, of)| *of != origin) {
                dropped.push((name, origin));
            }
        }
        for (name, origin) in &dropped {
            let users = self.users(*origin, &dropped);
            if !users.is_empty() {
                return Err(Error::InUse {
                    name: (*name).to_owned(),
                    users: users.join(", "),
                });
            }
        }
        if self.recording.is_some() {
            return Err(Error::Recorded);
        }
        // A view goes before the streams that it reads.
        dropped.sort_by_key(|(_, origin)| matches!(origin, Origin::Stream(_)));
        for (name, origin) in dropped {
            self.names.remove(name);
            match origin {
                Origin::Stream(id) => self.drop_stream(id)?,
                Origin::View(id) => self.drop_view(id)?,
            }
        }
        Ok(())
    }

    /// The views that read a relation, but for those that go with it, and the sinks that take it.
    fn users(&self, origin: Origin, dropped: &[(&str, Origin)]) -> Vec<String> {
        let goes = |id: &ViewId| dropped.iter().any(|(_, of)| *of == Origin::View(*id));
        let readers = self.views.iter();
        let readers = readers.filter(|(id, view)| view.reads(origin) && !goes(id));
        let readers = readers.map(|(_, view)| view.name.to_string());
        let sinks = self.sinks.iter().filter(|s| origin == Origin::View(s.view));
        readers.chain(sinks.map(|s| s.name.clone())).collect()
    }

    fn drop_stream(&mut self, id: StreamId) -> Result<(), StateError> {
        let stream = &self.streams[&id];
        let rows = stream.table.rows().map(|(key, _)| key);
        let rows = rows.chain(stream.restored.keys());
        let rows = rows.map(|key| (id, key.clone(), None)).collect();
        let deletions = stream.table.deleted().map(|key| (id, key.clone(), None));
        let deletions = deletions.collect();
        let epoch = self.stored;
        if let Some(epoch) = epoch {
            let gone = ClosedEpoch {
                rows,
                offsets: vec![(id, None)],
                deletions,
                schemas: vec![(id, None)],
                ..ClosedEpoch::nothing(epoch)
            };
            self.store_rows(gone, now_ms())?;
        }
        // Its source ends with it.
        self.streams.remove(&id);
        Ok(())
    }

    fn drop_view(&mut self, id: ViewId) -> Result<(), StateError> {
        let n_workers = self.workers.n_workers();
        let commands = (0..n_workers).map(|_| Command::Drop { view: id });
        self.workers.send(commands);
        let Some(view) = self.views.remove(&id) else {
            return Ok(());
        };
        self.hub.close_view(&view.name);
        self.parked.retain(|(_, of_view)| *of_view != id);
        self.declare_sinks(Vec::new())?;
        let Body::Generate(generating) = view.body else {
            return Ok(());
        };
        generating.healing.stop();
        generating.measuring.give_way();
        if let (Some(epoch), Some(durable)) = (self.stored, &mut self.durable) {
            let state = &durable.state;
            let answers = generating.answers.iter();
            let answers = answers.map(|(context, current)| (context.clone(), current.stored(None)));
            let mut answers: BTreeMap<_, _> = answers.collect();
            answers.extend(generating.restored.into_iter().flatten());
            state.forget_requests(&view.name);
            durable.dropped.insert(view.name.to_string(), answers);
            let nothing = ClosedEpoch::nothing(epoch);
            self.store_rows(nothing, now_ms())?;
        }
        Ok(())
    }

    /// What there is.
    pub(super) fn relations(&self) -> Vec<RelationInfo> {
        let streams = self.streams.iter().map(|(id, stream)| {
            let is_table = self.names.get(&stream.name) == Some(Named::Table(*id));
            RelationInfo {
                name: stream.name.clone(),
                kind: match is_table {
                    true => RelationKind::Table,
                    false => RelationKind::Source,
                },
                schema: stream.schema(),
                is_open: stream.columns.is_none(),
                reads: Vec::new(),
                n_rows: stream.table.n_rows(),
                epoch: self.closed,
                staleness: None,
                pace: Pace::default(),
                n_pending: stream.table.n_pending(),
                is_caught_up: stream.is_settled(),
                failure: stream.failure.clone(),
                plan: None,
            }
        });
        let name = |origin| match origin {
            Origin::Stream(id) => self.streams[&id].name.clone(),
            Origin::View(id) => self.views[&id].name.clone(),
        };
        let views = self.views.iter().map(|(id, view)| RelationInfo {
            name: view.name.clone(),
            kind: match &view.body {
                Body::Generate(_) => RelationKind::Answers,
                Body::Query(_) => RelationKind::Query,
            },
            schema: view.schema.clone(),
            is_open: false,
            reads: view.origins().into_iter().map(name).collect(),
            n_rows: view.n_rows(),
            epoch: view.stands_at,
            staleness: Some(self.staleness(*id)),
            pace: view.pace,
            n_pending: 0,
            is_caught_up: true,
            failure: None,
            plan: view.generating().map(|view| view.plan.clone()),
        });
        streams.chain(views).collect()
    }

    /// What a relation holds.
    pub(super) fn snapshot(&self, name: &str) -> Result<Snapshot, Error> {
        match self.origin(name)? {
            Origin::View(id) => {
                let view = &self.views[&id];
                Ok(Snapshot {
                    epoch: view.stands_at,
                    schema: view.schema.clone(),
                    rows: view.tuples(),
                })
            }
            Origin::Stream(id) => {
                let stream = &self.streams[&id];
                let schema = stream.schema();
                let rows = stream.table.rows();
                Ok(Snapshot {
                    epoch: self.closed,
                    rows: rows
                        .map(|(key, row)| (row.tuple(key, &schema), 1))
                        .collect(),
                    schema,
                })
            }
        }
    }

    /// What bears a name that a view reads.
    pub(super) fn origin(&self, name: &str) -> Result<Origin, Error> {
        match self.names.get(name) {
            Some(Named::Source(id) | Named::Table(id)) => Ok(Origin::Stream(id)),
            Some(Named::Answers(id) | Named::Query(id)) => Ok(Origin::View(id)),
            None => Err(Error::UnknownStream {
                name: name.to_owned(),
                declared: self.names.list(|_| true),
            }),
        }
    }

    fn check_new(&self, name: &str) -> Result<(), Error> {
        if self.names.get(name).is_some() {
            let name = name.to_owned();
            return Err(Error::DeclaredTwice { name });
        }
        if self.recording.is_some() {
            return Err(Error::Recorded);
        }
        Ok(())
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}
