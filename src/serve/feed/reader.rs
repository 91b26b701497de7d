//! How is one subscriber told of a view, from where it begins to its end?

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use perennial_rows::{Schema, Tuple};
use serde_json::json;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until};

use super::super::admission::Caller;
use super::super::json::{self, AnswerEventJson};
use super::super::tokens::Role;
use super::drafts::Drafts;
use super::end::End;
use super::lookup::{History, Lookup, Past};
use super::news::{Changes, News, Previewed, Since};
use super::queue::{Queue, Ready};
use super::{Content, Event, EventId, Feed, Live, Moment, is_of_key};
use crate::engine::{AnswerUpdate, Progress, RelationKind};

/// What a subscriber wants to hear.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubscribeOptions {
    /// Whether what stands is told first.
    pub snapshot: bool,
    /// Whether it is told how far answers are.
    pub progress: bool,
    /// Whether answers are told before their epoch is complete.
    pub early: bool,
    /// Where it goes on.
    pub as_of: Option<EventId>,
    /// The only key that it wants to hear of.
    pub key: Option<String>,
    /// The only question whose answers in the making it wants to hear of. What stood under a key before
    /// may be written still while it is asked something else.
    pub question: Option<Arc<str>>,
    /// How long nothing may be said.
    pub heartbeat: Duration,
    /// For whom it is: as long as they may read the view, and without words of sources that they do not
    /// reach. Without, it is for who runs the program.
    pub(crate) caller: Option<Caller>,
}

impl Default for SubscribeOptions {
    /// All that stands, then what changes.
    fn default() -> Self {
        Self {
            snapshot: true,
            progress: false,
            early: true,
            as_of: None,
            key: None,
            question: None,
            heartbeat: Duration::from_secs(15),
            caller: None,
        }
    }
}

/// One subscriber of a view. Memory is bounded by the number of keys that differ from what it was told:
/// what they say is shared.
pub struct Reader {
    feed: Arc<Feed>,
    /// Tells what changed before the feed began.
    history: Arc<dyn History>,
    options: SubscribeOptions,
    at: At,
    news: watch::Receiver<u64>,
    live: Option<broadcast::Receiver<Live>>,
    closing: watch::Receiver<bool>,
    ready: Queue,
    /// What stood where it goes on, while that is looked up.
    lookup: Option<Lookup>,
    /// The last answer that was told before its epoch was complete.
    early: Option<Arc<AnswerUpdate>>,
    /// Answers that were told before their epoch was complete, which it has not been told of yet.
    previewed: Previewed,
    /// What was told of answers in the making.
    drafts: Drafts,
    /// How many times something was forgotten, when it was looked last.
    n_forgotten: u64,
}

/// Where a reader is.
enum At {
    /// It has been told nothing.
    Beginning,
    /// It has been told nothing, as nothing stood when it began, and wants to hear all that changes.
    BeforeFirst,
    /// It was told all up to there.
    Following(EventId),
    /// Why nothing follows is to be told last.
    Ending(End),
    /// Nothing follows.
    Over,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.feed.n_readers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Reader {
    pub(in super::super) fn new(
        feed: Arc<Feed>,
        history: Arc<dyn History>,
        mut options: SubscribeOptions,
        closing: watch::Receiver<bool>,
    ) -> Self {
        feed.n_readers.fetch_add(1, Ordering::Relaxed);
        let (news, live) = (feed.news.subscribe(), feed.live.subscribe());
        let n_forgotten = feed.n_forgotten();
        let mut at = At::Beginning;
        if !options.snapshot && options.as_of.is_none() {
            // Who wants changes only wants them from now on, not from when it is looked first.
            options.as_of = feed.id();
            if options.as_of.is_none() {
                at = At::BeforeFirst;
            }
        }
        Self {
            news,
            live: Some(live),
            feed,
            history,
            options,
            at,
            closing,
            ready: Queue::default(),
            lookup: None,
            early: None,
            previewed: Previewed::new(),
            drafts: Drafts::default(),
            n_forgotten,
        }
    }

    /// The view.
    pub fn view(&self) -> &Arc<str> {
        self.feed.name()
    }

    /// The last answer that was told before its epoch was complete, once.
    pub(in super::super) fn take_early(&mut self) -> Option<Arc<AnswerUpdate>> {
        self.early.take()
    }

    /// What can be told without waiting.
    pub fn next_ready(&mut self) -> Option<Event> {
        let n_forgotten = self.feed.n_forgotten();
        if n_forgotten != self.n_forgotten {
            self.n_forgotten = n_forgotten;
            self.start_over();
        }
        self.ready.pop()
    }

    /// The next event. None when nothing follows. Who gives up waiting misses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        let silent_until = Instant::now() + self.options.heartbeat;
        loop {
            self.look_at_right();
            if let Some(event) = self.next_ready() {
                return Some(event);
            }
            if let At::Ending(end) = &self.at {
                let event = end.event();
                self.at = At::Over;
                return Some(event);
            }
            if matches!(self.at, At::Over) {
                return None;
            }
            // Before it is looked, so that what comes meanwhile is seen. What was complete before the end
            // is told before it.
            self.news.borrow_and_update();
            let end = self.feed.ended().or_else(|| self.closed());
            self.look();
            if !self.ready.is_empty() {
                continue;
            }
            if let Some(end) = end {
                self.at = At::Ending(end);
                continue;
            }
            let found = async {
                match &mut self.lookup {
                    Some(lookup) => lookup.found().await,
                    None => std::future::pending().await,
                }
            };
            let live = async {
                match &mut self.live {
                    Some(live) => live.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // A sender that is gone means that the feed is, which this holds.
                _ = self.news.changed() => {}
                // One that is gone here is seen above.
                _ = self.closing.changed() => {}
                past = found => self.take_past(past),
                () = sleep_until(silent_until) => return Some(Event::heartbeat()),
                word = live => match word {
                    Ok(word) => self.take(word),
                    // What was only of the moment is lost to who is slow.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => self.live = None,
                },
            }
        }
    }

    /// Why nobody is served any more, if so.
    fn closed(&self) -> Option<End> {
        // Who would say so is gone, too, with what is served.
        let is_closed = *self.closing.borrow() || self.closing.has_changed().is_err();
        is_closed.then(End::of_server)
    }

    /// Ends it where its token may not read the view any more: nothing is told from there on.
    fn look_at_right(&mut self) {
        if matches!(self.at, At::Over) || self.reaches(self.feed.name()) {
            return;
        }
        self.ready.clear();
        self.at = At::Ending(End::of_token());
    }

    /// Whether it is for somebody who may read what has this name.
    fn reaches(&self, name: &str) -> bool {
        let caller = self.options.caller.as_ref();
        caller.is_none_or(|caller| caller.still_may(Role::Read, name))
    }

    fn tell(&mut self, event: Event) {
        self.ready.push(Ready::Event(event));
    }

    /// Something was forgotten: what was not told yet is not told any more. It goes on from what was.
    fn start_over(&mut self) {
        const REASON: &str = "something was forgotten, and what was told before may hold it";
        self.ready.clear();
        self.lookup = None;
        self.early = None;
        self.drafts.clear();
        self.live = Some(self.feed.live.subscribe());
        if matches!(self.at, At::Ending(_) | At::Over) {
            return;
        }
        let has_beginning = self.options.snapshot || self.options.as_of.is_some();
        match self.ready.told() {
            _ if self.ready.is_within() => self.begin_anew(REASON),
            Some(id) => self.at = At::Following(id),
            None if has_beginning => self.at = At::Beginning,
            None if matches!(self.at, At::BeforeFirst) => {}
            // What the first epochs changed is not known any more.
            None => self.begin_anew(REASON),
        }
    }

    /// Makes ready what is to be told of complete epochs.
    fn look(&mut self) {
        match self.at {
            At::Beginning => match self.options.as_of {
                Some(id) => self.go_on(id),
                None => self.tell_all(),
            },
            At::BeforeFirst => {
                let since = self.feed.since_none();
                self.take_since(since);
            }
            At::Following(id) => self.go_on(id),
            At::Ending(_) | At::Over => {}
        }
    }

    /// Tells what changed since a moment.
    fn go_on(&mut self, id: EventId) {
        match self.feed.since(id, &self.previewed) {
            Since::Nothing => self.follow_from(id),
            // One look is enough.
            Since::Before if self.lookup.is_some() => {}
            Since::Before => {
                let key = self.options.key.as_deref();
                self.lookup = Some(Lookup::begin(&self.feed, &self.history, key, id.epoch));
            }
            since => self.take_since(since),
        }
    }

    /// Tells what changed since what was looked up.
    fn take_past(&mut self, past: Option<Past>) {
        let Some(lookup) = self.lookup.take() else {
            return;
        };
        let since = self.feed.since_past(lookup.epoch, past, &self.previewed);
        self.take_since(since);
    }

    fn take_since(&mut self, since: Since) {
        match since {
            Since::News(news) => self.tell_news(news),
            Since::Unknown(reason) => self.begin_anew(reason),
            Since::Nothing | Since::NotYet | Since::Before => {}
        }
    }

    /// It knows all up to there.
    fn follow_from(&mut self, id: EventId) {
        if matches!(self.at, At::Beginning | At::BeforeFirst) {
            let data = json!({ "epoch": id.epoch });
            self.tell(Event::json("up_to_date", &data).at(id));
        }
        self.at = At::Following(id);
        // What was told early was told again.
        self.previewed.retain(|_, epoch| *epoch > id.epoch);
    }

    fn begin_anew(&mut self, reason: &str) {
        self.tell(Event::json("reset", &json!({ "reason": reason })));
        self.at = At::Beginning;
        self.options.as_of = None;
        self.options.snapshot = true;
        self.tell_all();
    }

    /// Tells what stands.
    fn tell_all(&mut self) {
        let Some(moment) = self.feed.moment(self.options.key.as_deref()) else {
            return;
        };
        let Moment {
            id,
            kind,
            columns,
            n_rows: _,
            stood,
        } = moment;
        let view = self.feed.name().clone();
        let kind = match kind {
            RelationKind::Answers => "answers",
            _ => "query",
        };
        let rows: Vec<Ready> = match stood {
            Content::Answers(answers) => answers.into_iter().map(Ready::Fresh).collect(),
            Content::Rows(rows) => {
                let rows = rows.into_iter();
                let row = |(tuple, n)| Ready::Row(columns.clone(), id.epoch, tuple, n);
                rows.map(row).collect()
            }
        };
        let data = json!({
            "view": view, "kind": kind, "epoch": id.epoch, "n_rows": rows.len(),
        });
        self.tell(Event::json("snapshot", &data));
        self.ready.extend(rows);
        self.follow_from(id);
    }

    fn is_wanted(&self, key: &str) -> bool {
        self.options.key.as_ref().is_none_or(|only| only == key)
    }

    fn is_wanted_row(&self, columns: &Schema, tuple: &Tuple) -> bool {
        let key = self.options.key.as_ref();
        key.is_none_or(|key| is_of_key(columns, tuple, key))
    }

    fn tell_news(&mut self, news: News) {
        let News {
            id,
            columns,
            changes,
            summary,
            overtaken,
        } = news;
        let changes: Vec<Ready> = match changes {
            Changes::Answers(said) => {
                let said = said.into_iter();
                let said = said.filter(|said| self.is_wanted(said.update.context.as_str()));
                said.map(Ready::Changed).collect()
            }
            Changes::Rows(rows) => {
                let rows = rows.into_iter();
                let rows = rows.filter(|(tuple, _)| self.is_wanted_row(&columns, tuple));
                let row = |(tuple, n)| Ready::Row(columns.clone(), id.epoch, tuple, n);
                rows.map(row).collect()
            }
        };
        self.ready.extend(changes);
        // What was in the making is made.
        self.drafts.clear();
        let is_following = matches!(self.at, At::Following(_));
        match summary {
            Some(summary) if is_following => {
                let mut data = json!(*summary);
                data["overtaken"] = overtaken.iter().map(|summary| json!(**summary)).collect();
                self.tell(Event::json("epoch", &data).at(id));
            }
            _ => self.at = At::Beginning,
        }
        self.follow_from(id);
    }

    /// Takes a word of the moment.
    fn take(&mut self, word: Live) {
        // What was complete before it was said is told before it.
        if self.news.has_changed().unwrap_or(false) {
            self.news.borrow_and_update();
            self.look();
        }
        match word {
            Live::Early(update) => {
                let is_wanted = self.options.early && self.is_wanted(update.context.as_str());
                // It may have been told with its epoch.
                let is_new = match self.at {
                    At::Following(id) => update.epoch > id.epoch,
                    _ => false,
                };
                if is_wanted && is_new {
                    let event = AnswerEventJson::of(&update, update.epoch, None);
                    self.tell(Event::json("answer", &json!(event)));
                    self.previewed.insert(update.context.clone(), update.epoch);
                    self.early = Some(update);
                }
            }
            Live::Notice { source, message } if self.reaches(&source) => {
                let data = json!({ "source": source, "message": message });
                self.tell(Event::json("notice", &data));
            }
            Live::Started(start) if self.options.progress => {
                self.tell(Event::json("started", &json::started(&start)));
            }
            Live::Progress(progress) if self.options.progress => self.take_progress(&progress),
            _ => {}
        }
    }

    fn take_progress(&mut self, progress: &Progress) {
        let (_, context) = progress.about();
        if context.is_some_and(|context| !self.is_wanted(context.as_str())) {
            return;
        }
        if let (Progress::Writing { question, .. }, Some(wanted)) =
            (progress, &self.options.question)
            && question != wanted
        {
            return;
        }
        if let Some(data) = self.drafts.told(progress) {
            self.tell(Event::json("progress", &data));
        }
    }
}
