//! Who takes away what a view says, and what has it not taken yet?
//!
//! # Design
//! An epoch's rows for a sink are stored in the transaction that commits the epoch, then put in
//! the sink's outbox. Each sink has a thread that takes one delivery after the other, tries it
//! until it succeeds, and strikes it off. So a delivery is there or is owed, whatever crashes,
//! and a slow sink never holds up a view. Once [`MAX_OWED`] deliveries wait, or [`MAX_OWED_ROWS`] rows of them,
//! the last takes what comes, the newest row of a key in the place of the older: what is owed does not outgrow these and
//! what the view says.
//!
//! # Invariants
//! - Deliveries of one sink are made in the order of their epochs, one at a time.
//! - What is struck off was delivered; what was delivered may still be owed after a crash.
//! - Of a state that was restored, the first delivery to a sink replaces what was told before
//!   (`state/replacing.rs`).

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use perennial_connectors::{Delivery, Replaced, Sink, SinkLetters, StopFlag};

use super::log;
use super::names::ViewId;
use super::tracer::{Delivered, Tracer};
use crate::fault;
use crate::state::State;

/// Deliveries that may wait for one sink; what comes then is added to the last of them.
const MAX_OWED: usize = 1_000;
/// Rows that may wait for it so, in two deliveries or more.
const MAX_OWED_ROWS: usize = 100_000;
/// How long to wait before a delivery is tried again: at first, and at most; each pause is twice
/// the one before, less up to half of it by chance.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A sink that asks for a longer pause gets no more than this.
const MAX_ASKED_PAUSE: Duration = Duration::from_secs(300);
/// How long an engine that stops waits for the next delivery of what is owed.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// And for all of them.
const LAST_WAIT_OF_ALL: Duration = Duration::from_secs(30);

/// A declared sink.
pub(crate) struct SinkSpec {
    /// The view's name.
    pub(crate) view: String,
    pub(crate) sink: Box<dyn Sink>,
}

/// What a sink has refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutAside {
    /// The sink.
    pub sink: String,
    /// The file of dead letters.
    pub file: PathBuf,
    /// How many rows of the sink stand there.
    pub n_rows: u64,
}

/// A sink at work. Dropping it waits a while for what is owed, then stops it.
pub(crate) struct RunningSink {
    pub(crate) name: String,
    /// The view that it takes.
    pub(crate) view: ViewId,
    /// Whether it is new, and gets all that stands with the first epoch of its view. Before that
    /// the state directory does not know it: after a crash it is new again.
    pub(crate) is_waiting: bool,
    /// What it has put aside, where it has a file for what is refused for good.
    pub(crate) dead_letters: Option<SinkLetters>,
    /// Whether it was told that much is owed, and not half of it was taken since.
    is_known_full: bool,
    outbox: Arc<Outbox>,
    stop: StopFlag,
    thread: Option<JoinHandle<()>>,
}

/// What happens at a sink.
pub(crate) enum SinkEvent {
    /// A delivery was made.
    Delivered,
    /// A delivery failed and is tried again.
    Failing {
        /// The sink.
        sink: String,
        /// Which delivery, and why.
        message: String,
    },
    /// Rows were refused for good, and put aside.
    PutAside {
        /// The sink.
        sink: String,
        /// How many, and where they stand.
        message: String,
    },
    /// Something else that a person should know of.
    Noted {
        /// The sink.
        sink: String,
        /// What it is.
        message: String,
    },
    /// What former origins delivered is replaced.
    Replaced {
        /// The sink.
        sink: String,
        /// What that came to.
        message: String,
    },
}

/// Deliveries that are owed.
#[derive(Default)]
struct Outbox {
    owed: Mutex<Owed>,
    changed: Condvar,
}

#[derive(Default)]
struct Owed {
    deliveries: VecDeque<Arc<Delivery>>,
    /// Whether the first of them is being delivered.
    is_in_hand: bool,
    /// Whether the one in hand is to lose rows that a later one says anew, if it comes back.
    is_to_be_cut: bool,
    /// Whether the last attempt failed.
    is_failing: bool,
    /// Whether nothing more comes.
    is_closed: bool,
}

impl Owed {
    /// Drops rows that a later delivery says anew, but of the first `n_held`. Returns how many.
    fn keep_last(&mut self, n_held: usize) -> usize {
        let mut seen = HashSet::new();
        let waiting = self.deliveries.iter_mut().skip(n_held).rev();
        waiting
            .map(|delivery| keep_last(Arc::make_mut(delivery), &mut seen))
            .sum()
    }
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first delivery, once there is one; none when nothing more comes.
    fn first(&self) -> Option<Arc<Delivery>> {
        let mut owed = self.lock();
        loop {
            if let Some(first) = owed.deliveries.front().cloned() {
                owed.is_in_hand = true;
                return Some(first);
            }
            if owed.is_closed {
                return None;
            }
            let woken = self.changed.wait(owed);
            owed = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the first off: it is delivered, or put back to be tried again.
    fn settle(&self, is_delivered: bool) {
        let mut owed = self.lock();
        owed.is_in_hand = false;
        owed.is_failing = !is_delivered;
        if is_delivered {
            owed.deliveries.pop_front();
        }
        if std::mem::take(&mut owed.is_to_be_cut) {
            owed.keep_last(0);
        }
        drop(owed);
        self.changed.notify_all();
    }
}

impl RunningSink {
    /// Starts a sink that owes these deliveries. The first that it makes replaces what was delivered
    /// under the origins that are given with them.
    pub(crate) fn start(
        view: ViewId,
        mut sink: Box<dyn Sink>,
        (owed, former): (Vec<Delivery>, Arc<[u64]>),
        (state, tracer): (Option<Arc<State>>, Option<Arc<dyn Tracer>>),
        tell: impl Fn(SinkEvent) + Send + 'static,
    ) -> std::io::Result<Self> {
        let outbox = Arc::new(Outbox::default());
        outbox.lock().deliveries = owed.into_iter().map(Arc::new).collect();
        let (name, stop) = (sink.name().to_owned(), StopFlag::new());
        let dead_letters = sink.dead_letters().cloned();
        let thread = std::thread::Builder::new()
            .name(format!("sink {name}"))
            .spawn({
                let (outbox, stop) = (outbox.clone(), stop.clone());
                move || {
                    let beside = (state.as_deref(), tracer.as_deref());
                    run(&mut *sink, (&outbox, former), beside, &stop, tell);
                }
            })?;
        Ok(Self {
            name,
            view,
            is_waiting: false,
            dead_letters,
            is_known_full: false,
            outbox,
            stop,
            thread: Some(thread),
        })
    }

    /// Owes another delivery, behind those before it.
    pub(crate) fn owe(&self, delivery: Delivery) {
        self.outbox.lock().deliveries.push_back(Arc::new(delivery));
        self.outbox.changed.notify_all();
    }

    /// What it has refused for good, where it has a file for that.
    pub(crate) fn put_aside(&self) -> Option<PutAside> {
        let letters = self.dead_letters.as_ref()?;
        Some(PutAside {
            sink: self.name.clone(),
            file: letters.path().to_owned(),
            n_rows: letters.n(),
        })
    }

    /// Deliveries that it has not taken.
    pub(crate) fn n_owed(&self) -> usize {
        self.outbox.lock().deliveries.len()
    }

    /// Whether so much is owed that what comes is added to the last of it ([`merge`](Self::merge)).
    pub(crate) fn is_full(&self) -> bool {
        let owed = self.outbox.lock();
        let n_rows = || {
            owed.deliveries
                .iter()
                .map(|of| of.rows.len())
                .sum::<usize>()
        };
        let n = owed.deliveries.len();
        n >= MAX_OWED || n > 1 && n_rows() >= MAX_OWED_ROWS
    }

    /// Whether it is full, and was not when that was asked before; one that is full for a while now and then
    /// is not told of each time.
    pub(crate) fn has_become_full(&mut self) -> bool {
        if !self.is_full() && self.n_owed() < MAX_OWED / 2 {
            self.is_known_full = false;
        }
        self.is_full() && !std::mem::replace(&mut self.is_known_full, true)
    }

    /// Owes a delivery, together with the last of those that wait.
    pub(crate) fn merge(&self, delivery: Delivery) {
        let mut owed = self.outbox.lock();
        let n_held = usize::from(owed.is_in_hand);
        let last = owed.deliveries.len().checked_sub(1);
        match last.filter(|last| *last >= n_held) {
            Some(last) => {
                let before = std::mem::take(&mut Arc::make_mut(&mut owed.deliveries[last]).rows);
                owed.deliveries[last] = Arc::new(delivery.and_before(before));
            }
            // It was taken meanwhile.
            None => owed.deliveries.push_back(Arc::new(delivery)),
        }
        drop(owed);
        self.outbox.changed.notify_all();
    }

    /// Of what is owed, drops rows that a later delivery says anew. Returns how many.
    pub(crate) fn forget(&self) -> usize {
        let mut owed = self.outbox.lock();
        owed.is_to_be_cut = owed.is_in_hand;
        let n_held = usize::from(owed.is_in_hand);
        owed.keep_last(n_held)
    }

    /// Says that nothing more comes: what is owed is delivered, if it can be at once.
    pub(crate) fn close(&self) {
        self.outbox.lock().is_closed = true;
        self.outbox.changed.notify_all();
    }
}

/// Drops rows of keys that were seen, and notes the others. Returns how many were dropped.
pub(crate) fn keep_last(delivery: &mut Delivery, seen: &mut HashSet<String>) -> usize {
    let n_before = delivery.rows.len();
    delivery.rows.retain(|row| seen.insert(row.key.clone()));
    n_before - delivery.rows.len()
}

impl Drop for RunningSink {
    fn drop(&mut self) {
        self.close();
        let mut deadline = Instant::now() + LAST_WAIT;
        let mut owed = self.outbox.lock();
        let mut n_owed = owed.deliveries.len();
        let last = Instant::now() + LAST_WAIT_OF_ALL;
        // One that just failed is not waited for.
        let is_away = |owed: &Owed| owed.is_failing && !owed.is_in_hand;
        while n_owed > 0 && Instant::now() < deadline.min(last) && !is_away(&owed) {
            let left = deadline.saturating_duration_since(Instant::now());
            let woken = self.outbox.changed.wait_timeout(owed, left);
            owed = woken.unwrap_or_else(PoisonError::into_inner).0;
            if owed.deliveries.len() < n_owed {
                n_owed = owed.deliveries.len();
                deadline = Instant::now() + LAST_WAIT;
            }
        }
        drop(owed);
        self.stop.raise();
        if let Some(thread) = self.thread.take() {
            // A panic in there was told by the thread's own end.
            let _ = thread.join();
        }
    }
}

fn run(
    sink: &mut dyn Sink,
    (outbox, mut former): (&Outbox, Arc<[u64]>),
    (state, tracer): (Option<&State>, Option<&dyn Tracer>),
    stop: &StopFlag,
    tell: impl Fn(SinkEvent),
) {
    let mut pause = PAUSE.0;
    let mut told: Option<String> = None;
    let sink_letters = sink.dead_letters().cloned();
    tell_notices(sink, &tell);
    while let Some(delivery) = outbox.first() {
        if stop.raised() {
            return;
        }
        fault::DELIVER_BEGIN.reach();
        let began = Instant::now();
        let n_put_aside = || sink_letters.as_ref().map_or(0, |letters| letters.n_put());
        let n_before = n_put_aside();
        let attempt = catch_unwind(AssertUnwindSafe(|| match former.is_empty() {
            true => sink.deliver(&delivery, stop).map(|()| None),
            false => sink.replace(&delivery, &former, stop).map(Some),
        }));
        if attempt.is_ok() {
            tell_notices(sink, &tell);
        }
        let delivered = match attempt {
            Ok(delivered) => delivered.map_err(|error| {
                let asked = error.retry_after().unwrap_or_default();
                let hint = match error.is_permanent() && sink_letters.is_none() {
                    true => "; what is refused for good may go to a file of dead letters",
                    false => "",
                };
                (format!("{error}{hint}"), asked.min(MAX_ASKED_PAUSE))
            }),
            Err(_) => {
                let reason = "its code panicked, which is a defect of the program";
                Err((reason.to_owned(), Duration::ZERO))
            }
        };
        let told_of = Delivered {
            sink: sink.name(),
            view: &delivery.view,
            epoch: delivery.epoch,
            n_rows: delivery.rows.len(),
            is_ok: delivered.is_ok(),
            began,
        };
        log::delivered(&told_of);
        if let Some(tracer) = tracer {
            tracer.delivered(&told_of);
        }
        outbox.settle(delivered.is_ok());
        match delivered {
            Ok(replaced) => {
                fault::DELIVER_DONE.reach();
                former = Arc::default();
                // What cannot be struck off is delivered again after a crash; a state that cannot
                // be written ends the engine at its next epoch.
                if let Some(state) = state {
                    let _ = state.delivered(sink.name(), delivery.epoch);
                }
                fault::DELIVER_STRUCK.reach();
                pause = PAUSE.0;
                told = None;
                let n_refused = n_put_aside() - n_before;
                if let Some(letters) = sink_letters.as_ref().filter(|_| n_refused > 0) {
                    tell(SinkEvent::PutAside {
                        sink: sink.name().to_owned(),
                        message: format!(
                            "of epoch {}, {n_refused} of {} rows were refused for good, and stand in {}",
                            delivery.epoch,
                            delivery.rows.len(),
                            letters.path().display()
                        ),
                    });
                }
                if let Some(message) = replaced.and_then(in_words) {
                    let sink = sink.name().to_owned();
                    tell(SinkEvent::Replaced { sink, message });
                }
                tell(SinkEvent::Delivered);
            }
            Err((reason, asked)) => {
                if told.as_ref() != Some(&reason) {
                    tell(SinkEvent::Failing {
                        sink: sink.name().to_owned(),
                        message: format!(
                            "epoch {} is not delivered, and is tried again: {reason}",
                            delivery.epoch
                        ),
                    });
                    told = Some(reason);
                }
                // An engine that stops does not wait for a sink that is away.
                let is_closed = outbox.lock().is_closed;
                if is_closed || stop.wait(shortened(pause, chance()).max(asked)) {
                    stop.raise();
                    outbox.changed.notify_all();
                    return;
                }
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// Tells what a sink has to say besides of its deliveries.
fn tell_notices(sink: &mut dyn Sink, tell: &impl Fn(SinkEvent)) {
    for message in sink.take_notices() {
        let sink = sink.name().to_owned();
        tell(SinkEvent::Noted { sink, message });
    }
}

/// What became of what was told before a state was restored, where a person should know it.
fn in_words(replaced: Replaced) -> Option<String> {
    match replaced {
        Replaced::TakenBack(0) => None,
        Replaced::TakenBack(n) => Some(format!(
            "the state was restored from a backup: all that stands is told anew, and what was told \
             since that backup and stands no more is taken back (keys: {n})"
        )),
        Replaced::Unseen => Some(
            "the state was restored from a backup: all that stands is told anew, but what was told \
             since that backup cannot be looked at; its receiver is to drop what came under another \
             origin (docs/state.md, Backup and restore)"
                .to_owned(),
        ),
    }
}

/// A pause less up to half of it, so that many who failed at once do not come back at once.
fn shortened(pause: Duration, chance: f64) -> Duration {
    pause - pause.mul_f64(chance / 2.0)
}

/// From 0 to 1.
fn chance() -> f64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    // The standard library's hash maps are keyed by the system's random numbers.
    let number = std::hash::RandomState::new().build_hasher().finish();
    number as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use perennial_connectors::{Error, OutputRow};

    use super::*;

    /// Fails until it is told that it may go on, then says what it got.
    struct Scripted {
        n_failures: usize,
        got: mpsc::Sender<u64>,
    }

    impl Sink for Scripted {
        fn name(&self) -> &str {
            "scripted"
        }

        fn deliver(&mut self, delivery: &Delivery, _stop: &StopFlag) -> Result<(), Error> {
            if self.n_failures > 0 {
                self.n_failures -= 1;
                return Err(Error::Zero { name: "patience" });
            }
            self.got.send(delivery.epoch).expect("the test listens");
            Ok(())
        }
    }

    fn delivery(epoch: u64, keys: &[&str]) -> Delivery {
        let row = |key: &&str| OutputRow {
            key: (*key).to_owned(),
            output: None,
        };
        Delivery {
            origin: 1,
            view: "v".to_owned(),
            epoch,
            rows: keys.iter().map(row).collect(),
        }
    }

    #[test]
    fn what_is_owed_is_delivered_in_order_though_attempts_fail() {
        let (got, gets) = mpsc::channel();
        let (events, heard) = mpsc::channel();
        let sink = Box::new(Scripted { n_failures: 2, got });
        let running = RunningSink::start(
            ViewId(0),
            sink,
            (vec![delivery(1, &[])], Arc::default()),
            (None, None),
            move |event| {
                let _ = events.send(matches!(event, SinkEvent::Failing { .. }));
            },
        )
        .expect("a thread");
        running.owe(delivery(2, &[]));
        // The second failure says nothing new.
        assert_eq!(
            heard.iter().take(3).collect::<Vec<_>>(),
            [true, false, false]
        );
        running.owe(delivery(3, &[]));
        drop(running);
        assert_eq!(gets.iter().collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_sink_that_is_away_does_not_hold_up_the_end() {
        let (got, _gets) = mpsc::channel();
        let sink = Box::new(Scripted {
            n_failures: usize::MAX,
            got,
        });
        let begin = Instant::now();
        let running = RunningSink::start(
            ViewId(0),
            sink,
            (vec![delivery(1, &[])], Arc::default()),
            (None, None),
            |_| {},
        );
        drop(running.expect("a thread"));
        assert!(begin.elapsed() < LAST_WAIT);
    }

    #[test]
    fn a_pause_is_shortened_by_up_to_half() {
        let pause = Duration::from_secs(8);
        assert_eq!(shortened(pause, 0.0), pause);
        assert_eq!(shortened(pause, 1.0), pause / 2);
        let chances: Vec<f64> = (0..100).map(|_| chance()).collect();
        assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)));
        assert!(chances.iter().any(|chance| *chance != chances[0]));
    }

    #[test]
    fn what_comes_to_a_full_sink_is_added_to_the_last_that_waits() {
        let (got, gets) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        struct Held(Scripted, mpsc::Receiver<()>);
        impl Sink for Held {
            fn name(&self) -> &str {
                "held"
            }

            fn deliver(&mut self, delivery: &Delivery, stop: &StopFlag) -> Result<(), Error> {
                let _ = self.1.recv();
                self.0.deliver(delivery, stop)
            }
        }
        let sink = Held(Scripted { n_failures: 0, got }, may_go_on);
        let owed: Vec<Delivery> = (1..MAX_OWED as u64)
            .map(|epoch| delivery(epoch, &["a"]))
            .collect();
        let (mut kept, former) = (owed.clone(), Arc::default());
        let running = RunningSink::start(
            ViewId(0),
            Box::new(sink),
            (owed, former),
            (None, None),
            |_| {},
        )
        .expect("a thread");
        assert!(!running.is_full());
        running.owe(delivery(1_000, &["b", "a"]));
        assert!(running.is_full());
        running.merge(delivery(1_001, &["c", "a"]));
        running.merge(delivery(1_002, &["d"]));
        assert_eq!(running.n_owed(), MAX_OWED);
        let last = running.outbox.lock().deliveries.back().cloned();
        let last = Delivery::clone(&last.expect("there"));
        assert_eq!(last, delivery(1_002, &["a", "b", "c", "d"]));
        kept.push(last);
        drop(go_on);
        drop(running);
        let epochs = kept.iter().map(|of| of.epoch);
        assert!(gets.iter().eq(epochs));
    }

    #[test]
    fn what_comes_behind_the_delivery_in_hand_is_another() {
        let outbox = Outbox::default();
        outbox.lock().deliveries = [Arc::new(delivery(1, &["a"]))].into();
        assert!(outbox.first().is_some());
        let running = RunningSink {
            name: "none".to_owned(),
            view: ViewId(0),
            is_waiting: false,
            dead_letters: None,
            is_known_full: false,
            outbox: Arc::new(outbox),
            stop: StopFlag::new(),
            thread: None,
        };
        running.merge(delivery(2, &["b"]));
        running.merge(delivery(3, &["b"]));
        let epochs: Vec<u64> = running
            .outbox
            .lock()
            .deliveries
            .iter()
            .map(|of| of.epoch)
            .collect();
        assert_eq!(epochs, [1, 3]);
        running.outbox.settle(true);
        running.outbox.lock().deliveries.clear();
    }

    #[test]
    fn of_what_waits_only_the_last_of_a_key_stays() {
        let mut seen = HashSet::new();
        let mut deliveries = [delivery(1, &["a", "b"]), delivery(2, &["b"])];
        let dropped = deliveries.iter_mut().rev();
        let dropped: usize = dropped.map(|d| keep_last(d, &mut seen)).sum();
        assert_eq!(dropped, 1);
        assert_eq!(deliveries[0], delivery(1, &["a"]));
    }
}
