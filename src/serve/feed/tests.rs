//! Is each reader told every change, and nothing that it may not hear?

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use perennial_ask::{AnswerText, Finish, Rung};
use perennial_bank::ContextKey;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::admission::Caller;
use super::super::tokens::Tokens;
use super::lookup::{History, Past};
use super::news::{Previewed, Since};
use super::*;
use crate::engine::{EpochSummary, RowsUpdate};
use crate::state::Stood;

/// Longer than anything takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let test = async { timeout(DEADLINE, test).await.expect("in time") };
    runtime.block_on(test);
}

/// What is said of a context: a text, or its end.
fn answer(context: &str, text: Option<&str>, epoch: Epoch) -> AnswerUpdate {
    let text = text.map(|text| {
        Ok(AnswerText {
            text: text.into(),
            finish: Finish::Stop,
        })
    });
    AnswerUpdate {
        view: "answers".into(),
        context: ContextKey::new(context),
        question: "?".into(),
        epoch,
        old: None,
        new: text,
        rung: Rung::Regenerate,
        sub_paragraphs: Vec::new(),
        evidence: perennial_ask::Evidence::default(),
        work: Work::default(),
        elapsed: Duration::ZERO,
        is_exact: true,
        is_memoised: false,
        drift: 0.0,
        regret: 0.0,
        passages: None,
        is_early: false,
    }
}

/// A feed of a view that stands at an epoch, or at none.
fn feed(kind: RelationKind, epoch: Option<Epoch>, answers: Vec<AnswerUpdate>) -> Arc<Feed> {
    let feed = Feed::new("answers".into(), 0);
    feed.begin(Standing {
        origin: 1,
        definition: [0; 32],
        kind,
        columns: Schema::default(),
        epoch,
        answers,
        early: Vec::new(),
        rows: Vec::new(),
    });
    Arc::new(feed)
}

/// A feed that stands at an epoch, with the texts of contexts.
fn standing(epoch: Epoch, texts: &[(&str, &str)]) -> Arc<Feed> {
    let answers = texts.iter();
    let answers = answers.map(|(context, text)| answer(context, Some(text), epoch));
    feed(RelationKind::Answers, Some(epoch), answers.collect())
}

impl Feed {
    fn say(&self, update: AnswerUpdate) {
        self.hear(&Update::Answer(update));
    }

    fn say_early(&self, context: &str, text: &str, epoch: Epoch) {
        self.say(AnswerUpdate {
            is_early: true,
            ..answer(context, Some(text), epoch)
        });
    }

    fn complete(&self, epoch: Epoch) {
        self.hear(&Update::EpochComplete(EpochSummary {
            view: self.name.clone(),
            epoch,
            rungs: RungCounts::default(),
            work: Work::default(),
            n_rerun: 0,
            elapsed: Duration::ZERO,
            audits: AuditStats::default(),
        }));
    }

    /// An epoch that changes one answer.
    fn change(&self, context: &str, text: Option<&str>, epoch: Epoch) {
        self.say(answer(context, text, epoch));
        self.complete(epoch);
    }

    fn notice(&self, source: &str) {
        self.hear(&Update::Notice {
            source: source.to_owned(),
            message: "something happened".to_owned(),
        });
    }

    /// An epoch of this feed as a client knows it.
    fn at(&self, epoch: Epoch) -> EventId {
        let id = self.id().expect("an epoch");
        EventId { epoch, ..id }
    }
}

/// A history of which nothing is known.
struct NoHistory;

impl History for NoHistory {
    fn stood_before(&self, _view: &str, _key: Option<&str>, _epoch: Epoch) -> Option<Stood> {
        None
    }
}

/// A reader, and the server that it ends with.
struct Reading {
    reader: Reader,
    closing: watch::Sender<bool>,
}

impl Reading {
    fn of(feed: &Arc<Feed>, options: SubscribeOptions) -> Self {
        Self::over(feed, Arc::new(NoHistory), options)
    }

    fn over(feed: &Arc<Feed>, history: Arc<dyn History>, options: SubscribeOptions) -> Self {
        let closing = watch::Sender::new(false);
        let reader = Reader::new(feed.clone(), history, options, closing.subscribe());
        Self { reader, closing }
    }

    /// Whether there is nothing to tell now.
    async fn is_silent(&mut self) -> bool {
        timeout(Duration::ZERO, self.reader.next()).await.is_err()
    }

    async fn next(&mut self) -> Told {
        Told::of(&self.reader.next().await.expect("an event"))
    }

    /// All events up to one of a name.
    async fn upto(&mut self, name: &str) -> Vec<Told> {
        let mut all = Vec::new();
        loop {
            all.push(self.next().await);
            if all[all.len() - 1].name == name {
                return all;
            }
        }
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    name: &'static str,
    epoch: Option<Epoch>,
    data: serde_json::Value,
}

impl Told {
    fn of(event: &Event) -> Self {
        Self {
            name: event.name,
            epoch: event.id.map(|id| id.epoch),
            data: serde_json::from_str(&event.data).expect("JSON"),
        }
    }

    /// What it says of an answer: key, change, text.
    fn answer(&self) -> (&str, &str, Option<&str>) {
        let text = |name| self.data[name].as_str();
        assert_eq!(self.name, "answer", "{self:?}");
        (
            text("key").expect("a key"),
            text("change").expect("a change"),
            text("text"),
        )
    }
}

fn names(told: &[Told]) -> Vec<&str> {
    told.iter().map(|told| told.name).collect()
}

/// A history that is asked, and says what it is told to, once it may.
struct Gated {
    asked: mpsc::UnboundedSender<Option<String>>,
    is_open: Arc<AtomicBool>,
    stood: Stood,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Gated {
    fn new(stood: Stood) -> (Arc<Self>, mpsc::UnboundedReceiver<Option<String>>) {
        let (asked, hears) = mpsc::unbounded_channel();
        let gated = Self {
            asked,
            is_open: Arc::default(),
            stood,
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
        };
        (Arc::new(gated), hears)
    }

    fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }
}

impl History for Gated {
    fn stood_before(&self, _view: &str, key: Option<&str>, _epoch: Epoch) -> Option<Stood> {
        let n = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(n, Ordering::SeqCst);
        let _ = self.asked.send(key.map(str::to_owned));
        while !self.is_open.load(Ordering::SeqCst) && !self.asked.is_closed() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        Some(self.stood.clone())
    }
}

fn as_of(id: EventId) -> SubscribeOptions {
    SubscribeOptions {
        as_of: Some(id),
        ..SubscribeOptions::default()
    }
}

fn changes_only() -> SubscribeOptions {
    SubscribeOptions {
        snapshot: false,
        ..SubscribeOptions::default()
    }
}

#[test]
fn what_changes_while_the_history_is_looked_at_is_told() {
    run(async {
        let feed = standing(11, &[("q1", "one"), ("q7", "old")]);
        // There was no answer of q1 at epoch 10.
        let (history, mut asked) = Gated::new([(ContextKey::new("q1"), Some(None))].into());
        let mut of = Reading::over(&feed, history.clone(), as_of(feed.at(10)));
        assert!(of.is_silent().await);
        asked.recv().await.expect("it is looked");
        feed.change("q7", Some("new"), 12);
        history.open();
        let told = of.upto("up_to_date").await;
        assert_eq!(told[0].answer(), ("q1", "new", Some("one")));
        assert_eq!(told[1].answer(), ("q7", "changed", Some("new")));
        assert_eq!((told.len(), told[2].epoch), (3, Some(12)));
    });
}

#[test]
fn what_was_forgotten_since_the_history_was_looked_at_begins_anew() {
    let feed = standing(11, &[("q1", "one")]);
    feed.change("q1", Some("two"), 12);
    let since = |read_at| {
        let past = Past {
            stood: Stood::new(),
            read_at,
        };
        feed.since_past(10, Some(past), &Previewed::new())
    };
    assert!(matches!(since(11), Since::News(_)));
    feed.forget();
    assert!(matches!(since(11), Since::Unknown(_)));
    assert!(matches!(since(12), Since::News(_)));
}

#[test]
fn few_look_at_the_history_at_once_each_of_them_once() {
    run(async {
        let feed = standing(11, &[("q1", "one"), ("q2", "two")]);
        let (history, mut asked) = Gated::new(BTreeMap::new());
        let of_one = SubscribeOptions {
            key: Some("q1".to_owned()),
            ..as_of(feed.at(10))
        };
        let over = |_| Reading::over(&feed, history.clone(), of_one.clone());
        let mut all: Vec<Reading> = (0..3 * MAX_LOOKUPS).map(over).collect();
        for of in &mut all {
            assert!(of.is_silent().await);
        }
        for _ in 0..MAX_LOOKUPS {
            let key = asked.recv().await.expect("it is looked");
            assert_eq!(key.as_deref(), Some("q1"));
        }
        // Those who wait are asked again and again whether there is something.
        for of in &mut all {
            assert!(of.is_silent().await);
            assert!(of.is_silent().await);
        }
        assert!(asked.try_recv().is_err(), "more than that are at it");
        history.open();
        for of in &mut all {
            assert_eq!(names(&of.upto("up_to_date").await), ["up_to_date"]);
        }
        let mut n_asked = MAX_LOOKUPS;
        while asked.try_recv().is_ok() {
            n_asked += 1;
        }
        assert_eq!(n_asked, all.len());
        assert!(history.most_at_once.load(Ordering::SeqCst) <= MAX_LOOKUPS);
    });
}

#[test]
fn who_waits_for_the_history_is_told_that_the_connection_lives() {
    run(async {
        let feed = standing(11, &[]);
        let (history, _asked) = Gated::new(BTreeMap::new());
        let options = SubscribeOptions {
            heartbeat: Duration::from_millis(5),
            ..as_of(feed.at(10))
        };
        let mut of = Reading::over(&feed, history.clone(), options);
        let event = of.reader.next().await.expect("an event");
        assert_eq!(event.name, "");
        history.open();
        while of.reader.next().await.expect("an event").name != "up_to_date" {}
    });
}

#[test]
fn rows_of_a_query_are_looked_for_in_no_history() {
    run(async {
        let feed = feed(RelationKind::Query, Some(11), Vec::new());
        let (history, mut asked) = Gated::new(BTreeMap::new());
        let mut of = Reading::over(&feed, history, as_of(feed.at(10)));
        let told = of.upto("up_to_date").await;
        assert_eq!(names(&told), ["reset", "snapshot", "up_to_date"]);
        assert!(asked.try_recv().is_err());
    });
}

#[test]
fn an_answer_that_was_told_early_is_told_again_whatever_became_of_it() {
    run(async {
        let feed = standing(1, &[("q1", "one")]);
        let mut of = Reading::of(&feed, SubscribeOptions::default());
        of.upto("up_to_date").await;
        feed.say_early("q1", "other", 2);
        feed.say_early("q2", "new", 2);
        for (key, text) in [("q1", "other"), ("q2", "new")] {
            let told = of.next().await;
            assert_eq!((told.answer().0, told.answer().2), (key, Some(text)));
            assert_eq!(told.data["early"], true);
        }
        // What was edited is as it was, and the new question is gone.
        feed.say(answer("q1", Some("one"), 2));
        feed.say(answer("q2", None, 2));
        feed.complete(2);
        let told = of.upto("epoch").await;
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(told[0].answer(), ("q1", "stands", Some("one")));
        assert_eq!(told[1].answer(), ("q2", "gone", None));
        assert!(told[..2].iter().all(|told| told.data["early"] == false));
        assert_eq!(told[2].epoch, Some(2));
        // Once is enough.
        feed.complete(3);
        assert_eq!(names(&of.upto("epoch").await), ["epoch"]);
    });
}

#[test]
fn an_answer_that_was_told_early_and_is_a_change_is_told_once() {
    run(async {
        let feed = standing(1, &[("q1", "one")]);
        let mut of = Reading::of(&feed, SubscribeOptions::default());
        of.upto("up_to_date").await;
        feed.say_early("q1", "two", 2);
        of.next().await;
        feed.complete(2);
        // It is of the next epoch, and told after the one before it.
        feed.say_early("q2", "new", 3);
        let told = of.upto("epoch").await;
        assert_eq!(names(&told), ["answer", "epoch"], "{told:?}");
        assert_eq!(told[0].answer(), ("q1", "changed", Some("two")));
        assert_eq!(of.next().await.data["early"], true);
        feed.complete(3);
        let told = of.upto("epoch").await;
        assert_eq!(names(&told), ["answer", "epoch"], "{told:?}");
        assert_eq!(told[0].answer(), ("q2", "new", Some("new")));
    });
}

#[test]
fn who_wants_changes_only_hears_of_the_first_epoch() {
    run(async {
        let feed = feed(RelationKind::Answers, None, Vec::new());
        let mut of = Reading::of(&feed, changes_only());
        assert!(of.is_silent().await);
        feed.change("q1", Some("one"), 1);
        feed.change("q2", Some("two"), 2);
        let told = of.upto("up_to_date").await;
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(told[0].answer(), ("q1", "new", Some("one")));
        assert_eq!(told[1].answer(), ("q2", "new", Some("two")));
        assert_eq!(told[2].epoch, Some(2));
        feed.change("q1", None, 3);
        assert_eq!(names(&of.upto("epoch").await), ["answer", "epoch"]);
        // Who comes now hears of what changes from now on, however late it is looked.
        let mut later = Reading::of(&feed, changes_only());
        feed.change("q3", Some("three"), 4);
        let told = later.upto("up_to_date").await;
        assert_eq!(told[0].answer(), ("q3", "new", Some("three")));
        assert_eq!(told.len(), 2, "{told:?}");
    });
}

#[test]
fn who_wants_changes_only_hears_of_the_first_rows() {
    run(async {
        let feed = feed(RelationKind::Query, None, Vec::new());
        let mut of = Reading::of(&feed, changes_only());
        assert!(of.is_silent().await);
        let tuple: Tuple = Arc::from([]);
        feed.hear(&Update::Rows(RowsUpdate {
            view: feed.name.clone(),
            epoch: 1,
            rows: vec![(tuple, 2)],
        }));
        feed.complete(1);
        let told = of.upto("up_to_date").await;
        assert_eq!(names(&told), ["row", "up_to_date"]);
        assert_eq!(told[0].data["count"], 2);
    });
}

/// Somebody with a token that reads `answers` alone, and what takes it back.
fn caller() -> (Caller, impl FnOnce()) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("tokens");
    let admin = "admin aaaaaaaaaaaaaaaa\n";
    let reader = "read bbbbbbbbbbbbbbbb answers\n";
    std::fs::write(&path, format!("{admin}{reader}")).expect("writable");
    let tokens = Arc::new(Tokens::open(&path).expect("tokens"));
    let grant = tokens.grant(b"bbbbbbbbbbbbbbbb").expect("known");
    let caller = Caller::of(grant, Some(tokens.clone()));
    let take_back = move || {
        std::fs::write(dir.path().join("tokens"), admin).expect("writable");
        assert!(tokens.reread().expect("reads"));
    };
    (caller, take_back)
}

#[test]
fn words_of_sources_reach_who_reaches_the_sources() {
    run(async {
        let feed = standing(1, &[]);
        let options = SubscribeOptions {
            caller: Some(caller().0),
            ..SubscribeOptions::default()
        };
        let mut restricted = Reading::of(&feed, options);
        let mut owner = Reading::of(&feed, SubscribeOptions::default());
        restricted.upto("up_to_date").await;
        owner.upto("up_to_date").await;
        for source in ["docs", "answers.jsonl", "answers"] {
            feed.notice(source);
        }
        for source in ["docs", "answers.jsonl", "answers"] {
            assert_eq!(owner.next().await.data["source"], source);
        }
        assert_eq!(restricted.next().await.data["source"], "answers");
        assert!(restricted.is_silent().await);
    });
}

#[test]
fn a_token_that_is_taken_back_is_told_nothing_more() {
    run(async {
        let feed = standing(1, &[("q1", "one"), ("q2", "two")]);
        let (caller, take_back) = caller();
        let options = SubscribeOptions {
            caller: Some(caller),
            ..SubscribeOptions::default()
        };
        let mut of = Reading::of(&feed, options);
        assert_eq!(of.next().await.name, "snapshot");
        assert_eq!(of.next().await.name, "answer");
        take_back();
        let told = of.next().await;
        assert_eq!(
            (told.name, &told.data["code"], &told.data["reason"]),
            ("end", &"token".into(), &"the token was taken back".into())
        );
        assert!(of.reader.next().await.is_none());
    });
}

#[test]
fn the_end_is_told_last_with_a_code() {
    run(async {
        for (ending, code) in [
            (Ending::Dropped, "dropped"),
            (Ending::Stopped, "server_ends"),
            (Ending::Failed("no more room"), "failed"),
        ] {
            let feed = standing(1, &[("q1", "one")]);
            let mut of = Reading::of(&feed, SubscribeOptions::default());
            of.upto("up_to_date").await;
            feed.change("q1", Some("two"), 2);
            feed.end(ending);
            // Only the first counts.
            feed.end(Ending::Stopped);
            let told = of.upto("end").await;
            assert_eq!(names(&told), ["answer", "epoch", "end"]);
            assert_eq!(told[2].data["code"], code);
            assert!(of.reader.next().await.is_none());
        }
    });
}

#[test]
fn a_reader_ends_with_the_server_and_with_what_is_served() {
    run(async {
        let feed = standing(1, &[]);
        let mut of = Reading::of(&feed, SubscribeOptions::default());
        of.upto("up_to_date").await;
        of.closing.send_replace(true);
        assert_eq!(of.next().await.data["code"], "server_ends");
        assert!(of.reader.next().await.is_none());

        let mut of = Reading::of(&feed, SubscribeOptions::default());
        of.upto("up_to_date").await;
        assert!(of.is_silent().await);
        let Reading {
            mut reader,
            closing,
        } = of;
        let waiting = tokio::spawn(async move {
            let end = reader.next().await.map(|event| event.name);
            (end, reader.next().await.is_none())
        });
        tokio::task::yield_now().await;
        drop(closing);
        assert_eq!(waiting.await.expect("no panic"), (Some("end"), true));
    });
}

#[test]
fn what_waits_for_a_reader_is_forgotten_too() {
    run(async {
        let feed = standing(1, &[("q1", "a secret"), ("q2", "two")]);
        let mut of = Reading::of(&feed, SubscribeOptions::default());
        of.upto("up_to_date").await;
        feed.say(answer("q1", Some("one"), 2));
        feed.say(answer("q2", Some("a secret, too"), 2));
        feed.complete(2);
        // Half of the epoch is told, and the rest waits.
        assert_eq!(of.next().await.answer().0, "q1");
        feed.change("q2", Some("three"), 3);
        feed.forget();
        let told = of.upto("up_to_date").await;
        assert_eq!(
            names(&told),
            ["reset", "snapshot", "answer", "answer", "up_to_date"]
        );
        assert!(!format!("{told:?}").contains("secret"), "{told:?}");
        // What was of the moment is told to nobody, either; who knows all goes on.
        feed.say_early("q1", "a secret", 4);
        feed.forget();
        feed.change("q2", Some("four"), 4);
        let told = of.upto("epoch").await;
        assert_eq!(names(&told), ["answer", "epoch"], "{told:?}");
        assert_eq!(told[0].answer(), ("q2", "changed", Some("four")));
    });
}

#[test]
fn who_was_told_nothing_yet_begins_after_what_was_forgotten() {
    run(async {
        let feed = feed(RelationKind::Answers, None, Vec::new());
        let mut of = Reading::of(&feed, changes_only());
        assert!(of.is_silent().await);
        feed.forget();
        feed.change("q1", Some("one"), 1);
        assert_eq!(
            names(&of.upto("up_to_date").await),
            ["answer", "up_to_date"]
        );
        let mut of = Reading::of(&feed, as_of(feed.at(1)));
        feed.change("q1", Some("two"), 2);
        feed.forget();
        let told = of.upto("up_to_date").await;
        assert_eq!(names(&told), ["reset", "snapshot", "answer", "up_to_date"]);
    });
}
