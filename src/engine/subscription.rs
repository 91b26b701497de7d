//! A subscriber's end: a bounded mailbox, read as a stream, an iterator, or with a timeout.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_core::Stream;
use perennial_ask::{AnswerText, Finish};

use super::change_log::BagChange;
use super::update::{AnswerUpdate, RowsUpdate, Update};

/// Above this many waiting updates, answers are merged and notices dropped.
const CAPACITY: usize = 4096;

#[derive(Default)]
struct Waiting {
    updates: VecDeque<Update>,
    n_dropped: u64,
    wakers: Vec<Waker>,
    is_closed: bool,
}

/// Where the engine leaves updates for one subscriber.
#[derive(Default)]
pub(crate) struct Mailbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl Mailbox {
    pub(crate) fn put(&self, update: Update) {
        let mut waiting = self.lock();
        if waiting.is_closed {
            return;
        }
        waiting.put(update);
        self.wake(waiting);
    }

    /// Drops what tells of answers and rows before the present ones: progress; of each context's
    /// updates all but the last, which loses its old text; and rows that came and went, all changes
    /// of rows being made one. Returns how many were touched.
    pub(crate) fn forget(&self, view: &str) -> usize {
        let mut waiting = self.lock();
        let n_before = waiting.updates.len();
        let mut seen = HashSet::new();
        let mut kept = VecDeque::new();
        let mut n_cut = 0;
        for mut update in std::mem::take(&mut waiting.updates).into_iter().rev() {
            match &mut update {
                Update::Progress(_) => continue,
                // It may quote a text.
                Update::Notice { source, .. } if source == view => continue,
                Update::Answer(answer) => {
                    if !seen.insert(answer.context.clone()) {
                        continue;
                    }
                    let Some(old) = &mut answer.old else {
                        kept.push_front(update);
                        continue;
                    };
                    n_cut += 1;
                    match answer.new {
                        Some(_) => answer.old = None,
                        // That it is gone is still to be told.
                        None => {
                            *old = Ok(AnswerText {
                                text: "".into(),
                                finish: Finish::Stop,
                            });
                        }
                    }
                }
                _ => {}
            }
            kept.push_front(update);
        }
        waiting.updates = kept;
        waiting.merge_rows();
        n_cut + n_before - waiting.updates.len()
    }

    /// Drops the waiting updates that are to be withdrawn. Returns how many.
    pub(crate) fn withdraw(&self, is_withdrawn: impl Fn(&Update) -> bool) -> usize {
        let mut waiting = self.lock();
        let n_before = waiting.updates.len();
        waiting.updates.retain(|update| !is_withdrawn(update));
        n_before - waiting.updates.len()
    }

    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        self.wake(waiting);
    }

    fn wake(&self, mut waiting: MutexGuard<'_, Waiting>) {
        let wakers = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        self.arrived.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn put(&mut self, update: Update) {
        if let (Update::Progress(new), Some(Update::Progress(last))) =
            (&update, self.updates.back())
            && new.about() == last.about()
        {
            self.updates.pop_back();
        }
        if self.updates.len() >= CAPACITY {
            match &update {
                Update::Answer(answer) => {
                    let mut answer = answer.clone();
                    self.merge_into(&mut answer);
                    self.updates.push_back(Update::Answer(answer));
                }
                Update::Rows(rows) => {
                    let mut rows = rows.clone();
                    self.merge_rows_into(&mut rows);
                    self.updates.push_back(Update::Rows(rows));
                }
                _ => self.n_dropped += 1,
            }
            return;
        }
        self.updates.push_back(update);
    }

    /// Takes the waiting update of the same context out; the newer one then tells of both.
    fn merge_into(&mut self, newer: &mut AnswerUpdate) {
        let same = |update: &Update| match update {
            Update::Answer(older) => older.view == newer.view && older.context == newer.context,
            _ => false,
        };
        if let Some(at) = self.updates.iter().position(same)
            && let Some(Update::Answer(older)) = self.updates.remove(at)
        {
            newer.old = older.old;
            newer.work += older.work;
        }
    }

    /// Makes one of all changes of rows, where the last of them stands; none where nothing is left.
    fn merge_rows(&mut self) {
        let is_rows = |update: &Update| matches!(update, Update::Rows(_));
        let Some(last) = self.updates.iter().rposition(is_rows) else {
            return;
        };
        let later = self.updates.split_off(last + 1);
        if let Some(Update::Rows(mut rows)) = self.updates.pop_back() {
            self.merge_rows_into(&mut rows);
            if !rows.rows.is_empty() {
                self.updates.push_back(Update::Rows(rows));
            }
        }
        self.updates.extend(later);
    }

    /// Takes every waiting change of the same result out; the newer one then tells of all.
    fn merge_rows_into(&mut self, newer: &mut RowsUpdate) {
        let mut net = BagChange::default();
        let is_same = |update: &Update| matches!(update, Update::Rows(r) if r.view == newer.view);
        let (same, others) = std::mem::take(&mut self.updates)
            .into_iter()
            .partition::<VecDeque<_>, _>(is_same);
        self.updates = others;
        let older = same.into_iter().filter_map(|update| match update {
            Update::Rows(older) => Some(older.rows),
            _ => None,
        });
        for (tuple, diff) in older.flatten().chain(std::mem::take(&mut newer.rows)) {
            net.add(tuple, diff);
        }
        newer.rows = net
            .iter()
            .map(|(tuple, diff)| (tuple.clone(), diff))
            .collect();
    }

    fn take(&mut self) -> Option<Update> {
        if self.n_dropped > 0 && self.updates.len() < CAPACITY {
            return Some(Update::Lagged {
                n_dropped: std::mem::take(&mut self.n_dropped),
            });
        }
        self.updates.pop_front()
    }
}

/// Updates of one view, from its present answers on.
///
/// An async [`Stream`], a blocking [`Iterator`] through [`Subscription::iter`], or read by
/// [`Subscription::recv_timeout`]. It ends when the engine stops. A slow subscriber loses
/// no answer: waiting updates of one context are merged into one from the oldest text to
/// the newest.
pub struct Subscription {
    pub(crate) mailbox: Arc<Mailbox>,
}

impl Subscription {
    /// The next update; `None` when the engine has stopped.
    pub fn recv(&self) -> Option<Update> {
        let mut waiting = self.mailbox.lock();
        loop {
            if let Some(update) = waiting.take() {
                return Some(update);
            }
            if waiting.is_closed {
                return None;
            }
            waiting = self
                .mailbox
                .arrived
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next update that comes within `timeout`. `Ok(None)` when the engine has stopped.
    ///
    /// # Errors
    /// [`TimedOut`] if none came.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Update>, TimedOut> {
        let deadline = Instant::now() + timeout;
        let mut waiting = self.mailbox.lock();
        loop {
            if let Some(update) = waiting.take() {
                return Ok(Some(update));
            }
            if waiting.is_closed {
                return Ok(None);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(TimedOut);
            }
            let woken = self.mailbox.arrived.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The update that waits, if one does.
    pub fn try_recv(&self) -> Option<Update> {
        self.mailbox.lock().take()
    }

    /// Updates as they come; blocks, and ends when the engine stops.
    pub fn iter(&self) -> impl Iterator<Item = Update> + '_ {
        std::iter::from_fn(|| self.recv())
    }

    /// Only the updates of answers; blocks, and ends when the engine stops.
    pub fn answers(&self) -> Answers<'_> {
        Answers { subscription: self }
    }
}

/// Updates of answers, from [`Subscription::answers`].
pub struct Answers<'a> {
    subscription: &'a Subscription,
}

impl Iterator for Answers<'_> {
    type Item = AnswerUpdate;

    fn next(&mut self) -> Option<AnswerUpdate> {
        loop {
            if let Update::Answer(answer) = self.subscription.recv()? {
                return Some(answer);
            }
        }
    }
}

/// No update came in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no update came in time")]
pub struct TimedOut;

impl Stream for Subscription {
    type Item = Update;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Update>> {
        let mut waiting = self.mailbox.lock();
        if let Some(update) = waiting.take() {
            return Poll::Ready(Some(update));
        }
        if waiting.is_closed {
            return Poll::Ready(None);
        }
        if !waiting
            .wakers
            .iter()
            .any(|waker| waker.will_wake(context.waker()))
        {
            waiting.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut waiting = self.mailbox.lock();
        waiting.is_closed = true;
        waiting.updates.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perennial_ask::{Rung, Work};
    use perennial_bank::ContextKey;
    use perennial_rows::{Tuple, Value};

    fn answer(context: usize, old: Option<&str>, new: &str) -> Update {
        let text = |t: &str| {
            Ok(AnswerText {
                text: t.into(),
                finish: Finish::Stop,
            })
        };
        Update::Answer(AnswerUpdate {
            view: "v".into(),
            context: ContextKey::new(context.to_string()),
            question: "?".into(),
            epoch: 0,
            old: old.map(text),
            new: Some(text(new)),
            rung: Rung::Rewrite,
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
        })
    }

    #[test]
    fn what_is_forgotten_is_in_no_rows_that_wait() {
        let mailbox = Arc::new(Mailbox::default());
        let subscription = Subscription {
            mailbox: mailbox.clone(),
        };
        let tuple = |text: &str| -> Tuple { [Value::from(text)].into() };
        let rows = |epoch, rows: Vec<(Tuple, isize)>| {
            Update::Rows(RowsUpdate {
                view: "v".into(),
                epoch,
                rows,
            })
        };
        mailbox.put(rows(1, vec![(tuple("secret"), 1), (tuple("kept"), 1)]));
        mailbox.put(Update::SourceEnded {
            source: "between".into(),
        });
        mailbox.put(rows(2, vec![(tuple("secret"), -1), (tuple("new"), 1)]));
        assert_eq!(mailbox.forget("v"), 1);
        mailbox.close();
        let all: Vec<Update> = subscription.iter().collect();
        let [Update::SourceEnded { .. }, Update::Rows(told)] = &all[..] else {
            panic!("{all:?}");
        };
        assert_eq!(told.epoch, 2);
        assert_eq!(told.rows, [(tuple("kept"), 1), (tuple("new"), 1)]);
        // Where all of it came and went, nothing is told.
        let mailbox = Mailbox::default();
        mailbox.put(rows(1, vec![(tuple("secret"), 1)]));
        mailbox.put(rows(2, vec![(tuple("secret"), -1)]));
        assert_eq!(mailbox.forget("v"), 2);
        assert!(mailbox.lock().take().is_none());
    }

    #[test]
    fn a_slow_subscriber_gets_every_context_merged_to_its_latest() {
        let mailbox = Arc::new(Mailbox::default());
        let subscription = Subscription {
            mailbox: mailbox.clone(),
        };
        for i in 0..CAPACITY {
            mailbox.put(answer(i, None, "first"));
        }
        mailbox.put(Update::SourceEnded {
            source: "dropped".into(),
        });
        mailbox.put(answer(7, Some("first"), "second"));
        mailbox.close();
        let all: Vec<Update> = subscription.iter().collect();
        let answers: Vec<&AnswerUpdate> = all
            .iter()
            .filter_map(|u| match u {
                Update::Answer(a) => Some(a),
                _ => None,
            })
            .collect();
        assert_eq!(answers.len(), CAPACITY);
        let last = answers.last().expect("not empty");
        assert_eq!((last.old_text(), last.new_text()), (None, Some("second")));
        assert!(
            all.iter()
                .any(|u| matches!(u, Update::Lagged { n_dropped: 1 }))
        );
    }
}
