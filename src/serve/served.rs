//! What of the engine do requests use?
//!
//! [`Served`] is what every route has, and whatever else speaks for the engine: it carries statements out,
//! tells what a view says and what becomes of it, and takes rows in.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use axum::body::Body;
use axum::http::request::Parts;
use axum::response::Response;
use perennial_connectors::HttpIntake;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::asking::Conversations;
use super::feed::{Feed, Reader, SubscribeOptions};
use super::json::{self, ColumnJson};
use super::limits::Limits;
use super::refusal::Refusal;
use super::tables::TableFeed;
use crate::engine::{Engine, Error, Follower, RelationInfo, RelationKind};
use crate::sql::{Kind, Outcome, Script, Session, SessionError, Spanned, Statement, parse};
use crate::state::Backup;

/// Calls of the engine that wait at once, beside statements.
const MAX_CALLS: usize = 64;

/// An engine with all that requests need of it.
pub struct Served {
    session: Session,
    pub(super) limits: Limits,
    pub(super) began: Instant,
    intake: HttpIntake,
    feeds: RwLock<BTreeMap<Arc<str>, Arc<Feed>>>,
    /// How often a view of each name was made.
    n_made: Mutex<BTreeMap<Arc<str>, u64>>,
    tables: Mutex<BTreeMap<Arc<str>, TableFeed>>,
    statements: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    backups: Arc<Semaphore>,
    closing: watch::Sender<bool>,
    pub(super) conversations: Conversations,
    pub(super) n_connections: AtomicUsize,
}

/// What came of one statement.
#[derive(Serialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Executed {
    /// Something is there now.
    Created {
        /// `source`, `table`, `view`, `sink`, `model` or `memory`.
        kind: String,
        /// Its name.
        name: String,
        /// What whoever created it should know.
        notice: Option<String>,
    },
    /// A view takes its epochs otherwise from now on.
    Altered {
        /// Its name.
        name: String,
    },
    /// Something is there no more.
    Dropped {
        /// What it was.
        kind: String,
        /// Its name.
        name: String,
        /// Whether it was there.
        was_there: bool,
    },
    /// Rows of a table were changed.
    Done {
        /// How many.
        n_rows: usize,
    },
    /// Rows, in the order that was asked for.
    Rows {
        /// Their columns.
        #[schema(inline)]
        columns: Vec<ColumnJson>,
        /// Their values by column.
        #[schema(value_type = Vec<Object>)]
        rows: Vec<Value>,
        /// What whoever reads them should know.
        notices: Vec<String>,
    },
    /// How something would be carried out.
    Plan {
        /// In words.
        plan: String,
    },
    /// A record is forgotten.
    Forgotten {
        /// What that came to.
        #[schema(value_type = Object)]
        receipt: Value,
    },
    /// A reader may read a namespace of a memory, or may not any more.
    Granted {
        /// Which of the two.
        is_given: bool,
    },
}

impl Served {
    /// Serves what a session declares, from here on. Sources of HTTP that name no address are posted to
    /// this.
    pub fn over(session: Session, limits: Limits) -> Arc<Self> {
        let intake = HttpIntake::new(limits.posted.clone());
        let session = session
            .posted_to(intake.clone())
            .waiting_at_most(limits.visible_time);
        Arc::new(Self {
            session,
            began: Instant::now(),
            intake,
            feeds: RwLock::default(),
            n_made: Mutex::default(),
            tables: Mutex::default(),
            statements: Arc::new(Semaphore::new(limits.statements)),
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            backups: Arc::new(Semaphore::new(1)),
            closing: watch::Sender::default(),
            conversations: Conversations::new(&limits),
            n_connections: AtomicUsize::new(0),
            limits,
        })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        self.session.engine()
    }

    /// Carries the script out that declares what is served, then lets epochs close. `told` hears what
    /// came of each statement.
    ///
    /// # Errors
    /// The first statement that cannot be carried out.
    pub fn declare(
        &self,
        script: &Script,
        statements: &[Spanned<Statement>],
        mut told: impl FnMut(&Outcome),
    ) -> Result<(), SessionError> {
        for statement in statements {
            let outcome = self.session.execute(script, statement)?;
            self.follow_up(&outcome)?;
            told(&outcome);
        }
        // Of an engine that was declared otherwise, too.
        self.take_up()?;
        self.session.release()
    }

    /// Carries one statement or several out, in order. Where `only_looks`, they may do nothing else.
    /// It waits; see [`Served::sql`].
    ///
    /// # Errors
    /// What is wrong with them, with what came of those before.
    pub fn execute(&self, sql: &str, only_looks: bool) -> Result<Vec<Executed>, Refusal> {
        let script = Script::new("sql", sql);
        let statements = parse(&script)?;
        if statements.is_empty() {
            let hint = "such as SELECT * FROM answers";
            return Err(Refusal::bad("there is no statement", hint));
        }
        for statement in &statements {
            refuse_subscription(&statement.of)?;
            if only_looks && !looks(&statement.of) {
                let error = "this token may only look: SELECT that asks no model, SHOW and EXPLAIN";
                return Err(Refusal::forbidden(error, "use one with the role `admin`"));
            }
        }
        let mut outcomes = Vec::new();
        for statement in &statements {
            match self.execute_one(&script, statement) {
                Ok(outcome) => outcomes.push(outcome),
                Err(refusal) => {
                    let before = serde_json::to_value(&outcomes).unwrap_or_default();
                    return Err(refusal.with("outcomes", before));
                }
            }
        }
        Ok(outcomes)
    }

    fn execute_one(
        &self,
        script: &Script,
        statement: &Spanned<Statement>,
    ) -> Result<Executed, Refusal> {
        let outcome = self.session.execute(script, statement)?;
        self.follow_up(&outcome)?;
        self.executed(outcome)
    }

    /// The same, without waiting on the thread of who asks.
    ///
    /// # Errors
    /// As [`Served::execute`], and where too many statements are under way.
    pub async fn sql(
        self: &Arc<Self>,
        sql: String,
        only_looks: bool,
    ) -> Result<Vec<Executed>, Refusal> {
        let permit = self.patiently(&self.statements).await?;
        let this = self.clone();
        blocking(move || {
            let _permit = permit;
            this.execute(&sql, only_looks)
        })
        .await?
    }

    /// Asks the engine something, without waiting on the thread of who asks.
    ///
    /// # Errors
    /// What the engine reports.
    pub async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        let permit = self.patiently(&self.calls).await?;
        let this = self.clone();
        let asked = blocking(move || {
            let _permit = permit;
            ask(this.engine())
        });
        Ok(asked.await??)
    }

    /// Takes hold of what a backup is to hold, and of the right to take one: there is one at a time.
    ///
    /// # Errors
    /// Where there is no state folder, it cannot be read, or another backup is being taken.
    pub(super) async fn begin_backup(
        self: &Arc<Self>,
    ) -> Result<(Backup, OwnedSemaphorePermit), Refusal> {
        let permit = self.patiently(&self.backups).await?;
        let backup = self.ask(|engine| engine.begin_backup()).await?;
        Ok((backup, permit))
    }

    /// What opened the model that is asked where none is named.
    pub(super) fn default_model(&self) -> Arc<str> {
        self.session.model().clone()
    }

    /// What opened the others, by name.
    pub(super) fn opened_models(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        self.session.models()
    }

    async fn patiently(&self, of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
        match timeout(self.limits.patience, of.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Refusal::busy()),
        }
    }

    /// What a view says, from what stands on.
    ///
    /// # Errors
    /// Where there is no such view, or the server ends.
    pub fn subscribe(&self, view: &str, options: SubscribeOptions) -> Result<Reader, Refusal> {
        if self.is_closing() {
            return Err(Refusal::ending());
        }
        let feed = self.feed(view)?;
        let closing = self.closing.subscribe();
        let history = Arc::new(self.engine().clone());
        Ok(Reader::new(feed, history, options, closing))
    }

    /// The feed of a view.
    ///
    /// # Errors
    /// Where there is no such view.
    pub fn feed(&self, view: &str) -> Result<Arc<Feed>, Refusal> {
        let feeds = self.feeds.read().unwrap_or_else(PoisonError::into_inner);
        let feed = feeds.get(view).filter(|feed| !feed.has_ended()).cloned();
        feed.ok_or_else(|| {
            let names: Vec<&str> = feeds.keys().map(|name| &**name).collect();
            let error = format!("there is no view `{view}`");
            Refusal::not_found(error, there_are(&names))
        })
    }

    /// All feeds, by the names of their views.
    pub(super) fn feeds(&self) -> Vec<Arc<Feed>> {
        let feeds = self.feeds.read().unwrap_or_else(PoisonError::into_inner);
        feeds
            .values()
            .filter(|feed| !feed.has_ended())
            .cloned()
            .collect()
    }

    /// Takes posted records in, and replies.
    pub async fn post(&self, stream: &str, parts: &Parts, body: Body) -> Response {
        self.intake.post(stream, parts, body).await.map(Body::new)
    }

    /// Whether records may be posted to a stream.
    pub fn is_posted_to(&self, stream: &str) -> bool {
        self.intake.is_open(stream)
    }

    /// Says what became of a request that was posted.
    pub async fn look(&self, token: &str, parts: &Parts) -> Response {
        self.intake.look(token, parts).await.map(Body::new)
    }

    /// Ends what is told to subscribers, and takes none any more.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    pub(super) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// After a statement, what there is may be something else.
    fn follow_up(&self, outcome: &Outcome) -> Result<(), Error> {
        match outcome {
            Outcome::Created {
                kind: Kind::View | Kind::Table | Kind::Memory,
                ..
            }
            | Outcome::Dropped { .. } => self.take_up(),
            _ => Ok(()),
        }
    }

    /// Follows the views that there are, and feeds the tables; leaves those that are gone.
    fn take_up(&self) -> Result<(), Error> {
        // One at a time: it is held until all are taken up.
        let mut tables = self.tables();
        let relations = self.engine().relations()?;
        self.take_up_views(&relations)?;
        let is_table = |of: &&RelationInfo| of.kind == RelationKind::Table;
        let there: BTreeMap<&Arc<str>, &RelationInfo> = relations
            .iter()
            .filter(is_table)
            .map(|of| (&of.name, of))
            .collect();
        tables.retain(|name, _| there.contains_key(name));
        for (name, table) in there {
            if tables.contains_key(name) {
                continue;
            }
            let columns = (!table.is_open).then(|| table.schema.clone());
            // A name that cannot stand in a path is fed by statements only.
            if let Ok(inlet) = self.intake.inlet(&**name, columns)
                && let Ok(feed) = TableFeed::start(self.engine().clone(), name, inlet)
            {
                tables.insert(name.clone(), feed);
            }
        }
        Ok(())
    }

    fn take_up_views(&self, relations: &[RelationInfo]) -> Result<(), Error> {
        let is_view =
            |of: &&RelationInfo| matches!(of.kind, RelationKind::Answers | RelationKind::Query);
        let there: Vec<&Arc<str>> = relations
            .iter()
            .filter(is_view)
            .map(|of| &of.name)
            .collect();
        let mut feeds = self.feeds.write().unwrap_or_else(PoisonError::into_inner);
        feeds.retain(|name, feed| there.contains(&name) && !feed.has_ended());
        for name in there {
            if feeds.contains_key(name) {
                continue;
            }
            let generation = self.made(name);
            let feed = Arc::new(Feed::new(name.clone(), generation));
            let follower: Arc<dyn Follower> = feed.clone();
            match self.engine().follow(name, Arc::downgrade(&follower)) {
                Ok(()) => {
                    feeds.insert(name.clone(), feed);
                }
                // It was dropped meanwhile.
                Err(Error::UnknownView { .. } | Error::Dropped) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Counts a view that is made, and tells how many of its name were before.
    fn made(&self, view: &Arc<str>) -> u64 {
        let mut n_made = self.n_made.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = n_made.entry(view.clone()).or_default();
        *of_name += 1;
        *of_name - 1
    }

    fn tables(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, TableFeed>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn executed(&self, outcome: Outcome) -> Result<Executed, Refusal> {
        let word = |kind: Kind| kind.keyword().to_lowercase();
        Ok(match outcome {
            Outcome::Created { kind, name, notice } => Executed::Created {
                kind: word(kind),
                name: name.to_string(),
                notice,
            },
            Outcome::Altered { name } => Executed::Altered {
                name: name.to_string(),
            },
            Outcome::Dropped {
                kind,
                name,
                was_there,
            } => Executed::Dropped {
                kind: word(kind),
                name: name.to_string(),
                was_there,
            },
            Outcome::Done { n_rows } => Executed::Done { n_rows },
            Outcome::Rows {
                schema,
                rows,
                notices,
            } => {
                let limit = self.limits.rows;
                if rows.len() > limit {
                    let error = format!("the result has {} rows, over {limit}", rows.len());
                    return Err(Refusal::too_large(error, "add LIMIT, or a condition"));
                }
                Executed::Rows {
                    columns: json::columns(&schema),
                    rows: rows.iter().map(|row| json::row(&schema, row)).collect(),
                    notices,
                }
            }
            Outcome::Plan(plan) => Executed::Plan { plan },
            Outcome::Forgotten(receipt) => Executed::Forgotten {
                receipt: serde_json::to_value(&receipt).unwrap_or_default(),
            },
            Outcome::MemoryForgotten(receipt) => Executed::Forgotten {
                receipt: serde_json::to_value(&receipt).unwrap_or_default(),
            },
            Outcome::Granted { is_given } => Executed::Granted { is_given },
            // It is refused before.
            Outcome::Subscription { view, .. } => return Err(to_be_subscribed(&view)),
        })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Their threads hold the engine.
        self.tables().clear();
    }
}

/// What there is, as a hint.
pub(super) fn there_are(names: &[&str]) -> String {
    match names.is_empty() {
        true => "there are none yet".to_owned(),
        false => format!("there are: {}", names.join(", ")),
    }
}

fn to_be_subscribed(view: &str) -> Refusal {
    let error = "SUBSCRIBE has an endpoint of its own";
    Refusal::bad(error, format!("GET /v1/views/{view}/subscribe"))
}

fn refuse_subscription(statement: &Statement) -> Result<(), Refusal> {
    match statement {
        Statement::Subscribe(subscribe) => Err(to_be_subscribed(&subscribe.to.of)),
        _ => Ok(()),
    }
}

/// Whether a statement changes nothing, and asks no model.
fn looks(statement: &Statement) -> bool {
    match statement {
        Statement::Show(_) | Statement::Explain(_) | Statement::Recall(_) => true,
        Statement::Select(_) => !statement.may_ask(),
        _ => false,
    }
}

/// Runs what waits where that is allowed.
async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let run = tokio::task::spawn_blocking(run).await;
    run.map_err(|_| Refusal::broken("a call of the engine panicked"))
}
