//! What of the engine do requests use?
//!
//! [`Served`] is what every route has, and whatever else speaks for the engine: it tells what a view says and
//! what becomes of it, takes rows in, and carries [statements](super::statements) out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::request::Parts;
use axum::response::Response;
use perennial_ask::{Failure, embed_within};
use perennial_connectors::HttpIntake;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::admission::Caller;
use super::asking::Conversations;
use super::feed::{Feed, Reader, SubscribeOptions};
use super::limits::Limits;
use super::refusal::Refusal;
use super::tables::TableFeed;
use super::turns::Turns;
use crate::engine::{Engine, Error, Follower, RelationInfo, RelationKind};
use crate::memory::Bank;
use crate::sql::{Kind, Outcome, Script, Session, SessionError, Spanned, Statement};
use crate::state::Backup;

/// Calls of the engine that wait at once, beside statements.
const MAX_CALLS: usize = 64;
/// Of those who ask whether it is ready, which needs no token.
const MAX_PROBES: usize = 4;
/// Requests whose texts are embedded at once, where there are as many cores.
const MAX_EMBEDDING: usize = 16;

/// An engine with all that requests need of it.
pub struct Served {
    pub(super) session: Session,
    pub(super) limits: Limits,
    pub(super) began: Instant,
    intake: HttpIntake,
    feeds: RwLock<BTreeMap<Arc<str>, Arc<Feed>>>,
    /// How often a view of each name was made.
    n_made: Mutex<BTreeMap<Arc<str>, u64>>,
    tables: Mutex<BTreeMap<Arc<str>, TableFeed>>,
    pub(super) statements: Turns,
    calls: Arc<Semaphore>,
    probes: Arc<Semaphore>,
    embedding: Turns,
    backups: Arc<Semaphore>,
    parcels: Arc<Semaphore>,
    closing: watch::Sender<bool>,
    pub(super) conversations: Conversations,
    pub(super) n_connections: AtomicUsize,
}

impl Served {
    /// Serves what a session declares, from here on. Sources of HTTP that name no address are posted to
    /// this.
    pub fn over(session: Session, limits: Limits) -> Arc<Self> {
        let intake = HttpIntake::new(limits.posted.clone());
        let session = session
            .posted_to(intake.clone())
            .waiting_at_most(limits.visible_time);
        let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self {
            session,
            began: Instant::now(),
            intake,
            feeds: RwLock::default(),
            n_made: Mutex::default(),
            tables: Mutex::default(),
            statements: Turns::new(limits.statements),
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            probes: Arc::new(Semaphore::new(MAX_PROBES)),
            embedding: Turns::new(n_cores.min(MAX_EMBEDDING)),
            backups: Arc::new(Semaphore::new(1)),
            parcels: Arc::new(Semaphore::new(1)),
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
    /// All that is wrong with the script, before any of it is carried out; else the first statement that
    /// cannot be.
    pub fn declare(
        &self,
        script: &Script,
        statements: &[Spanned<Statement>],
        mut told: impl FnMut(&Outcome),
    ) -> Result<(), SessionError> {
        self.session.check(script, statements)?;
        for statement in statements {
            let outcome = self.session.execute(script, statement)?;
            self.follow_up(&outcome)?;
            told(&outcome);
        }
        // Of an engine that was declared otherwise, too.
        self.take_up()?;
        self.session.release()
    }

    /// Asks the engine something, without waiting on the thread of who asks.
    ///
    /// # Errors
    /// What the engine reports.
    pub async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.ask_among(&self.calls, ask).await
    }

    /// The same for who asks whether it is ready: whatever else is under way, that is told.
    pub(super) async fn probe<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.ask_among(&self.probes, ask).await
    }

    async fn ask_among<T: Send + 'static>(
        self: &Arc<Self>,
        calls: &Arc<Semaphore>,
        ask: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        let permit = permit(calls, self.limits.patience).await?;
        let this = self.clone();
        let asked = blocking(move || {
            let _permit = permit;
            ask(this.engine())
        });
        Ok(asked.await??)
    }

    /// Texts as vectors, as the engine embeds them. It computes, and so has turns of its own.
    ///
    /// # Errors
    /// Where they cannot be embedded, or others are for too long.
    pub(super) async fn embed(
        self: &Arc<Self>,
        caller: &Caller,
        texts: Vec<String>,
    ) -> Result<Vec<Vec<f32>>, Refusal> {
        let patience = self.limits.patience;
        let turn = self.embedding.take(caller.asker(), patience).await?;
        let this = self.clone();
        let embedded = blocking(move || {
            let _turn = turn;
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let embedder = this.engine().runtime().embedder();
            embed_within(&**embedder, &texts, this.limits.patience)
        });
        embedded.await?.map_err(|failure| match failure {
            Failure::Final(error) => Refusal::broken(error.to_string()),
            later => Refusal::unavailable(later.to_string(), "send it again in a while"),
        })
    }

    /// Takes hold of what a backup is to hold, and of the right to take one: there is one at a time.
    ///
    /// # Errors
    /// Where there is no state folder, it cannot be read, or another backup is being taken.
    pub(super) async fn begin_backup(
        self: &Arc<Self>,
    ) -> Result<(Backup, OwnedSemaphorePermit), Refusal> {
        let permit = permit(&self.backups, self.limits.patience).await?;
        let backup = self.ask(|engine| engine.begin_backup()).await?;
        Ok((backup, permit))
    }

    /// Leave to pack a parcel: one is packed at a time.
    ///
    /// # Errors
    /// That another is being packed.
    pub(super) async fn begin_parcel(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        permit(&self.parcels, self.limits.patience).await
    }

    /// The memory of a name that statements declared.
    pub(super) fn memory(&self, name: &str) -> Option<Bank> {
        self.session.memories().get(name).cloned()
    }

    /// What opened the model that is asked where none is named.
    pub(super) fn default_model(&self) -> Arc<str> {
        self.session.model().clone()
    }

    /// What opened the others, by name.
    pub(super) fn opened_models(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        self.session.models()
    }

    /// The memories that statements declared, by name.
    #[cfg(feature = "mcp")]
    pub(crate) fn memories(&self) -> BTreeMap<Arc<str>, Bank> {
        self.session.memories()
    }

    /// Refuses a table that takes no rows by hand: who may read a memory is said by statements.
    ///
    /// # Errors
    /// Which memory's it is.
    pub(crate) fn check_fed(&self, table: &str) -> Result<(), Refusal> {
        let memories = self.session.memories();
        let mut memories = memories.keys().zip(memories.values());
        match memories.find(|(_, bank)| bank.memory().grants() == table) {
            None => Ok(()),
            Some((memory, _)) => {
                let error = format!("`{table}` says who may read the memory `{memory}`");
                let hint = format!("GRANT READ ON NAMESPACE '…' OF MEMORY {memory} TO '…'");
                Err(Refusal::conflict(error, hint))
            }
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
    /// Where there is no such view. Which there are is not told.
    pub fn feed(&self, view: &str) -> Result<Arc<Feed>, Refusal> {
        let feed = self.feed_of(view);
        feed.ok_or_else(|| no_view(view, "GET /v1/relations tells what there is"))
    }

    /// The same, for somebody: they are told which there are that they reach.
    ///
    /// # Errors
    /// Where there is no such view.
    pub(super) fn feed_for(&self, caller: &Caller, view: &str) -> Result<Arc<Feed>, Refusal> {
        self.feed_of(view).ok_or_else(|| {
            let feeds = self.feeds();
            let names = feeds.iter().map(|feed| &**feed.name());
            let reached: Vec<&str> = names.filter(|name| caller.reaches(name)).collect();
            no_view(view, there_are(&reached))
        })
    }

    /// The feed of a view that has not ended; none of anything else.
    pub(super) fn feed_of(&self, view: &str) -> Option<Arc<Feed>> {
        let feeds = self.feeds.read().unwrap_or_else(PoisonError::into_inner);
        feeds.get(view).filter(|feed| !feed.has_ended()).cloned()
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
    pub(super) fn follow_up(&self, outcome: &Outcome) -> Result<(), Error> {
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
        let is_table =
            |of: &&RelationInfo| of.kind == RelationKind::Table && self.check_fed(&of.name).is_ok();
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

    /// Who asks for a feed does not wait for the engine: nothing is locked while it is asked to be followed.
    fn take_up_views(&self, relations: &[RelationInfo]) -> Result<(), Error> {
        let views = relations.iter().filter(|of| of.kind.is_view());
        let there: BTreeSet<&Arc<str>> = views.map(|of| &of.name).collect();
        let unknown = there.iter().filter(|name| self.feed_of(name).is_none());
        let (mut begun, mut failed) = (Vec::new(), Ok(()));
        for name in unknown {
            match self.follow(name) {
                Ok(feed) => begun.push(feed),
                // It was dropped meanwhile.
                Err(Error::UnknownView { .. } | Error::Dropped) => {}
                Err(error) => {
                    failed = Err(error);
                    break;
                }
            }
        }
        let mut feeds = self.feeds.write().unwrap_or_else(PoisonError::into_inner);
        feeds.retain(|name, feed| there.contains(name) && !feed.has_ended());
        feeds.extend(begun.into_iter().map(|feed| (feed.name().clone(), feed)));
        failed
    }

    /// A feed that hears of a view from now on.
    fn follow(&self, view: &Arc<str>) -> Result<Arc<Feed>, Error> {
        let feed = Arc::new(Feed::new(view.clone(), self.made(view)));
        let follower: Arc<dyn Follower> = feed.clone();
        self.engine().follow(view, Arc::downgrade(&follower))?;
        Ok(feed)
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
}

impl Drop for Served {
    fn drop(&mut self) {
        // Their threads hold the engine.
        self.tables().clear();
    }
}

fn no_view(view: &str, hint: impl Into<String>) -> Refusal {
    Refusal::not_found(format!("there is no view `{view}`"), hint)
}

/// What there is, as a hint.
pub(super) fn there_are(names: &[&str]) -> String {
    match names.is_empty() {
        true => "there are none yet".to_owned(),
        false => format!("there are: {}", names.join(", ")),
    }
}

/// One of so many, once it is given back in time.
async fn permit(of: &Arc<Semaphore>, patience: Duration) -> Result<OwnedSemaphorePermit, Refusal> {
    match timeout(patience, of.clone().acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(Refusal::busy()),
    }
}

/// Runs what waits where that is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let run = tokio::task::spawn_blocking(run).await;
    run.map_err(|_| Refusal::broken("a call of the engine panicked"))
}
