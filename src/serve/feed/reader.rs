//! How is one subscriber told of a view, from where it begins to its end?

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use perennial_rows::{Schema, Tuple};
use perennial_views::Epoch;
use serde_json::json;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until};

use super::super::json::{self, AnswerEventJson};
use super::answers::Said;
use super::{Changes, Content, Event, EventId, Feed, Live, Moment, News, Since, is_of_key};
use crate::engine::{AnswerUpdate, Engine, Progress, RelationKind};

/// Answers in the making whose words are remembered for a reader, to tell what is new of them.
const MAX_DRAFTS: usize = 256;

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
    /// How long nothing may be said.
    pub heartbeat: Duration,
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
            heartbeat: Duration::from_secs(15),
        }
    }
}

/// One subscriber of a view. Memory is bounded by the number of keys that differ from what it was told:
/// what they say is shared.
pub struct Reader {
    feed: Arc<Feed>,
    /// Tells what changed before the feed began.
    engine: Engine,
    options: SubscribeOptions,
    at: At,
    news: watch::Receiver<u64>,
    live: Option<broadcast::Receiver<Live>>,
    closing: watch::Receiver<bool>,
    ready: VecDeque<Ready>,
    /// The last answer that was told before its epoch was complete.
    early: Option<Arc<AnswerUpdate>>,
    /// By context: what was told of an answer in the making.
    drafts: HashMap<String, Arc<str>>,
}

/// Where a reader is.
enum At {
    /// It has been told nothing.
    Beginning,
    /// It was told all up to there.
    Following(EventId),
    /// Nothing follows.
    Over,
}

/// Something to be told, in the form in which it takes least.
enum Ready {
    Event(Event),
    /// An answer that stands, for who knows nothing of it.
    Fresh(Arc<Said>),
    /// What an answer became.
    Changed(Arc<Said>),
    /// By how much the count of a row changes.
    Row(Schema, Epoch, Tuple, isize),
}

impl Ready {
    fn event(self) -> Event {
        match self {
            Self::Event(event) => event,
            Self::Fresh(said) => Event::new("answer", said.fresh_json()),
            Self::Changed(said) => Event::new("answer", said.json()),
            Self::Row(columns, epoch, tuple, count) => {
                let row = json::row(&columns, &tuple);
                let data = json!({"epoch": epoch, "count": count, "row": row});
                Event::json("row", &data)
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.feed.n_readers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Reader {
    pub(in super::super) fn new(
        feed: Arc<Feed>,
        engine: Engine,
        options: SubscribeOptions,
        closing: watch::Receiver<bool>,
    ) -> Self {
        feed.n_readers.fetch_add(1, Ordering::Relaxed);
        Self {
            news: feed.news.subscribe(),
            live: Some(feed.live.subscribe()),
            feed,
            engine,
            options,
            at: At::Beginning,
            closing,
            ready: VecDeque::new(),
            early: None,
            drafts: HashMap::new(),
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
        self.ready.pop_front().map(Ready::event)
    }

    /// The next event. None when nothing follows.
    pub async fn next(&mut self) -> Option<Event> {
        let silent_until = Instant::now() + self.options.heartbeat;
        loop {
            if let Some(event) = self.next_ready() {
                return Some(event);
            }
            if matches!(self.at, At::Over) {
                return None;
            }
            // Before it is looked, so that what comes meanwhile is seen.
            self.news.borrow_and_update();
            self.look().await;
            if !self.ready.is_empty() {
                continue;
            }
            let ended = self.feed.state().end.clone();
            if let Some(reason) = ended {
                self.end(&reason);
                continue;
            }
            if *self.closing.borrow() {
                self.end("the server ends");
                continue;
            }
            let live = async {
                match &mut self.live {
                    Some(live) => live.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // A sender that is gone means that the feed is, which this holds.
                _ = self.news.changed() => {}
                _ = self.closing.changed() => {}
                word = live => match word {
                    Ok(word) => self.take(word),
                    // What was only of the moment is lost to who is slow.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => self.live = None,
                },
                () = sleep_until(silent_until) => return Some(Event::heartbeat()),
            }
        }
    }

    fn end(&mut self, reason: &str) {
        self.at = At::Over;
        self.tell(Event::json("end", &json!({ "reason": reason })));
    }

    fn tell(&mut self, event: Event) {
        self.ready.push_back(Ready::Event(event));
    }

    /// Makes ready what is to be told of complete epochs.
    async fn look(&mut self) {
        match self.at {
            At::Beginning => match self.options.as_of {
                Some(id) => self.go_on(id).await,
                None => self.tell_all(),
            },
            At::Following(id) => self.go_on(id).await,
            At::Over => {}
        }
    }

    /// Tells what changed since a moment.
    async fn go_on(&mut self, id: EventId) {
        match self.feed.since(id) {
            Since::NotYet => {}
            Since::Nothing => self.follow_from(id),
            Since::News(news) => self.tell_news(news),
            Since::Unknown(reason) => self.begin_anew(reason),
            Since::Before => {
                let (engine, view) = (self.engine.clone(), self.feed.name().clone());
                let key = self.options.key.clone();
                let stood = move || engine.stood_before(&view, key.as_deref(), id.epoch);
                let stood = tokio::task::spawn_blocking(stood).await;
                let stood = stood.ok().and_then(Result::ok).flatten();
                match stood.and_then(|stood| self.feed.since_stood(id.epoch, stood)) {
                    Some(news) => self.tell_news(news),
                    None => self.begin_anew("what has changed since then is not known any more"),
                }
            }
        }
    }

    /// It knows all up to there.
    fn follow_from(&mut self, id: EventId) {
        if matches!(self.at, At::Beginning) {
            let data = json!({ "epoch": id.epoch });
            self.tell(Event::json("up_to_date", &data).at(id));
        }
        self.at = At::Following(id);
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
        if self.options.snapshot {
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
        }
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
        let is_beginning = matches!(self.at, At::Beginning);
        match summary.filter(|_| !is_beginning) {
            Some(summary) => {
                let mut data = json!(*summary);
                data["overtaken"] = overtaken.iter().map(|summary| json!(**summary)).collect();
                self.tell(Event::json("epoch", &data).at(id));
                self.at = At::Following(id);
            }
            None => {
                self.at = At::Beginning;
                self.follow_from(id);
            }
        }
    }

    /// Takes a word of the moment.
    fn take(&mut self, word: Live) {
        // It may be of an epoch that is to be told first.
        match word {
            Live::Early(update) => {
                let is_wanted = self.options.early && self.is_wanted(update.context.as_str());
                let is_new = match self.at {
                    At::Following(id) => update.epoch > id.epoch,
                    _ => false,
                };
                if is_wanted && is_new {
                    let event = AnswerEventJson::of(&update, update.epoch, None);
                    self.tell(Event::json("answer", &json!(event)));
                    self.early = Some(update);
                }
            }
            Live::Notice { source, message } => {
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
        let data = match progress {
            Progress::Writing { context, text, .. } => {
                if !self.is_wanted(context.as_str()) {
                    return;
                }
                if self.drafts.len() >= MAX_DRAFTS {
                    self.drafts.clear();
                }
                let told = self
                    .drafts
                    .insert(context.to_string(), text.as_str().into());
                let at = n_shared(told.as_deref().unwrap_or_default(), text);
                if told.is_some_and(|told| *told == **text) {
                    return;
                }
                json!({ "stage": "writing", "key": context, "at": at, "text": text[at..] })
            }
            Progress::Encoding {
                context,
                done,
                total,
                ..
            } => {
                if !self.is_wanted(context.as_str()) {
                    return;
                }
                json!({ "stage": "encoding", "key": context, "done": done, "total": total })
            }
            Progress::Embedding { done, total, .. } => {
                json!({ "stage": "embedding", "done": done, "total": total })
            }
            Progress::Asking { done, total, .. } => {
                json!({ "stage": "asking", "done": done, "total": total })
            }
        };
        self.tell(Event::json("progress", &data));
    }
}

/// The bytes with which both texts begin, in whole characters.
fn n_shared(old: &str, new: &str) -> usize {
    let same = old.bytes().zip(new.bytes()).take_while(|(a, b)| a == b);
    let mut n = same.count();
    while !new.is_char_boundary(n) {
        n -= 1;
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_texts_share_ends_between_characters() {
        assert_eq!(n_shared("", "ab"), 0);
        assert_eq!(n_shared("ab", "abc"), 2);
        assert_eq!(n_shared("aé", "aè"), 1);
        assert_eq!(n_shared("abc", "ab"), 2);
    }
}
