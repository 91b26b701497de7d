//! Who is told what is going on: the observer of calls and the list of subscribers.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use perennial_ask::{Performed, RemoteCall, Work};
use perennial_bank::{ContextKey, DocumentKey};
use perennial_views::{Epoch, Observer, Refresh, Request};

use super::follower::{Ending, Follower, Following};
use super::log;
use super::subscription::Mailbox;
use super::tracer::{Refreshed, SpanCounts, Tracer};
use super::update::{Progress, Update};

/// Refreshes of one epoch of a view whose details are kept until it is complete.
const MAX_REFRESHES: usize = 1_000_000;

/// Hears of calls on executor threads; passes progress on at once and keeps refreshes for
/// the coordinator.
#[derive(Default)]
pub(crate) struct Hub {
    /// By view.
    refreshes: Mutex<HashMap<Arc<str>, HashMap<ContextKey, Refresh>>>,
    /// What tasks came to, by view.
    tasks: Mutex<HashMap<Arc<str>, TaskCounts>>,
    mailboxes: Mutex<Vec<(Arc<str>, Arc<Mailbox>)>>,
    followers: Mutex<Vec<Following>>,
    failure: OnceLock<String>,
    /// Views of which it was told that changes cannot be judged.
    are_blind: Mutex<HashSet<String>>,
    /// By view: documents that could not be read, since its last epoch.
    unread: Mutex<HashMap<Arc<str>, Vec<Unread>>>,
    /// Who hears what becomes of changes.
    tracer: Option<Arc<dyn Tracer>>,
}

/// A document of a relation that could not be cut or tokenized.
#[derive(Clone, Debug)]
pub(crate) struct Unread {
    pub(super) relation: Arc<str>,
    pub(super) key: DocumentKey,
    /// Why, where it comes; none where it goes.
    pub(super) reason: Option<String>,
}

/// Documents of one epoch that are remembered as unread.
const MAX_UNREAD: usize = 10_000;

/// What the tasks of an epoch came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TaskCounts {
    pub(super) n_performed: usize,
    pub(super) n_failed: usize,
    pub(super) work: Work,
}

impl Hub {
    /// A hub whose changes are followed, where somebody does.
    pub(super) fn traced(tracer: Option<Arc<dyn Tracer>>) -> Self {
        Self {
            tracer,
            ..Self::default()
        }
    }

    /// Who hears what becomes of changes, if anybody does.
    pub(super) fn tracer(&self) -> Option<&Arc<dyn Tracer>> {
        self.tracer.as_ref()
    }

    /// What became of the spans of a tracer, if there is one.
    pub(super) fn spans(&self) -> Option<SpanCounts> {
        self.tracer.as_ref().map(|tracer| tracer.spans())
    }

    /// Why the engine cannot go on. The first reason is the one that ended it.
    pub(super) fn fail(&self, reason: String) {
        let _ = self.failure.set(reason);
    }

    /// The same, and every subscriber is told.
    pub(super) fn fail_all(&self, reason: String) {
        let told = Update::Failed {
            reason: reason.clone(),
        };
        self.fail(reason);
        self.tell(None, &told);
    }

    /// Why the engine ended, if it failed.
    pub(super) fn failure(&self) -> Option<&String> {
        self.failure.get()
    }

    /// From here on, updates of a view go to this mailbox as well.
    pub(super) fn add(&self, view: Arc<str>, mailbox: Arc<Mailbox>) {
        self.mailboxes().push((view, mailbox));
    }

    /// From here on, this one follows a view.
    pub(super) fn follow(&self, view: Arc<str>, follower: Weak<dyn Follower>) {
        self.followers().push(Following { view, follower });
    }

    /// Those who follow a view, or any.
    fn following(&self, view: Option<&str>) -> Vec<Arc<dyn Follower>> {
        let mut followers = self.followers();
        followers.retain(|following| following.follower.strong_count() > 0);
        let of_view = followers
            .iter()
            .filter(|following| view.is_none_or(|view| view == &*following.view));
        of_view.filter_map(|f| f.follower.upgrade()).collect()
    }

    fn followers(&self) -> MutexGuard<'_, Vec<Following>> {
        self.followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of those who read a view.
    pub(super) fn n_subscribers(&self, view: &str) -> usize {
        let followers = self.following(Some(view));
        let n_followers: usize = followers.iter().map(|f| f.n_readers()).sum();
        n_followers + self.n_mailboxes(view)
    }

    fn n_mailboxes(&self, view: &str) -> usize {
        let mailboxes = self.mailboxes();
        let is_read = |(of_view, mailbox): &&(Arc<str>, Arc<Mailbox>)| {
            view == &**of_view && Arc::strong_count(mailbox) > 1
        };
        mailboxes.iter().filter(is_read).count()
    }

    /// Ends every subscription.
    pub(super) fn close(&self) {
        for (_, mailbox) in std::mem::take(&mut *self.mailboxes()) {
            mailbox.close();
        }
        let ending = self
            .failure()
            .map_or(Ending::Stopped, |reason| Ending::Failed(reason));
        self.following(None).iter().for_each(|f| f.end(ending));
        self.followers().clear();
    }

    /// Ends the subscriptions to a view that is dropped, and forgets what was heard of it.
    pub(super) fn close_view(&self, view: &str) {
        let mut mailboxes = self.mailboxes();
        for (_, mailbox) in mailboxes.extract_if(.., |(of_view, _)| &**of_view == view) {
            mailbox.close();
        }
        drop(mailboxes);
        let followers = self.following(Some(view));
        followers.iter().for_each(|f| f.end(Ending::Dropped));
        self.followers()
            .retain(|following| &*following.view != view);
        self.take_refreshes(view);
        self.take_tasks(view);
        if let Some(tracer) = &self.tracer {
            tracer.dropped(view);
        }
    }

    fn mailboxes(&self) -> MutexGuard<'_, Vec<(Arc<str>, Arc<Mailbox>)>> {
        self.mailboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the subscribers of a view, or of all.
    pub(super) fn tell(&self, view: Option<&str>, update: &Update) {
        log::told(update);
        self.following(view).iter().for_each(|f| f.hear(update));
        let mut mailboxes = self.mailboxes();
        // A mailbox that only the hub still holds has no reader.
        mailboxes.retain(|(_, mailbox)| Arc::strong_count(mailbox) > 1);
        for (of_view, mailbox) in mailboxes.iter() {
            if view.is_none_or(|view| view == &**of_view) {
                mailbox.put(update.clone());
            }
        }
    }

    /// Takes out of the mailboxes of a view what tells of answers before the present ones.
    /// Returns how many updates were withdrawn or cut.
    pub(super) fn forget(&self, view: &str) -> usize {
        let mailboxes = self.mailboxes();
        let of_view = mailboxes.iter().filter(|(of_view, _)| &**of_view == view);
        let n_cut: usize = of_view.map(|(_, mailbox)| mailbox.forget(view)).sum();
        let followers = self.following(Some(view));
        n_cut + followers.iter().map(|f| f.forget()).sum::<usize>()
    }

    /// Withdraws what was announced of a refused record.
    pub(super) fn withdraw(&self, is_withdrawn: impl Fn(&Update) -> bool) -> usize {
        let mailboxes = self.mailboxes();
        let of_each = mailboxes.iter();
        of_each
            .map(|(_, mailbox)| mailbox.withdraw(&is_withdrawn))
            .sum()
    }

    /// What the tasks of a view came to since the last time.
    pub(super) fn take_tasks(&self, view: &str) -> TaskCounts {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.remove(view).unwrap_or_default()
    }

    /// The refreshes of a view heard of since the last time.
    pub(super) fn take_refreshes(&self, view: &str) -> HashMap<ContextKey, Refresh> {
        let mut refreshes = self
            .refreshes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        refreshes.remove(view).unwrap_or_default()
    }
}

impl Hub {
    /// Documents that a view could not read since the last time.
    pub(super) fn take_unread(&self, view: &str) -> Vec<Unread> {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        unread.remove(view).unwrap_or_default()
    }

    /// The newest refresh of a context that was heard of since the last time.
    pub(super) fn refresh(&self, view: &str, context: &ContextKey) -> Option<Refresh> {
        let refreshes = self
            .refreshes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        refreshes.get(view)?.get(context).cloned()
    }
}

/// A hub that also says at once when an answer is there: that of a view which tells each.
pub(crate) struct PromptHub<F> {
    pub(super) hub: Arc<Hub>,
    /// Is told of which context.
    pub(super) tell: F,
}

impl<F: Fn(ContextKey) + Send + Sync + 'static> Observer for PromptHub<F> {
    fn encoding(&self, view: &str, context: &ContextKey, done: usize, total: usize) {
        self.hub.encoding(view, context, done, total);
    }

    fn writing(&self, view: &str, request: &Request, text: &str) {
        self.hub.writing(view, request, text);
    }

    fn refreshed(&self, refresh: Refresh) {
        let context = refresh.request.context.clone();
        self.hub.refreshed(refresh);
        (self.tell)(context);
    }

    fn embedding(&self, view: &str, done: usize, total: usize) {
        self.hub.embedding(view, done, total);
    }

    fn cannot_judge(&self, view: &str, reason: &str) {
        self.hub.cannot_judge(view, reason);
    }

    fn passed_over(&self, view: &str, text: &str, reason: &str) {
        self.hub.passed_over(view, text, reason);
    }

    fn unread(&self, view: &str, relation: &str, document: &DocumentKey, reason: Option<&str>) {
        self.hub.unread(view, relation, document, reason);
    }

    fn called(&self, view: &str, context: &ContextKey, epoch: Epoch, call: &RemoteCall<'_>) {
        self.hub.called(view, context, epoch, call);
    }
}

impl Observer for Hub {
    fn encoding(&self, view: &str, context: &ContextKey, done: usize, total: usize) {
        let progress = Progress::Encoding {
            view: view.into(),
            context: context.clone(),
            done,
            total,
        };
        self.tell(Some(view), &Update::Progress(progress));
    }

    fn writing(&self, view: &str, request: &Request, text: &str) {
        let progress = Progress::Writing {
            view: view.into(),
            context: request.context.clone(),
            question: request.question.clone(),
            text: text.to_owned(),
        };
        self.tell(Some(view), &Update::Progress(progress));
    }

    fn refreshed(&self, refresh: Refresh) {
        log::refreshed(&refresh);
        if let Some(tracer) = &self.tracer {
            tracer.refreshed(&Refreshed::of(&refresh));
        }
        let mut refreshes = self
            .refreshes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let of_view = refreshes.entry(refresh.view.clone()).or_default();
        if of_view.len() < MAX_REFRESHES || of_view.contains_key(&refresh.request.context) {
            of_view.insert(refresh.request.context.clone(), refresh);
        }
    }

    fn embedding(&self, view: &str, done: usize, total: usize) {
        let progress = Progress::Embedding {
            view: view.into(),
            done,
            total,
        };
        self.tell(Some(view), &Update::Progress(progress));
    }

    fn asking(&self, view: &str, done: usize, total: usize) {
        let progress = Progress::Asking {
            view: view.into(),
            done,
            total,
        };
        self.tell(Some(view), &Update::Progress(progress));
    }

    fn called(&self, view: &str, context: &ContextKey, epoch: Epoch, call: &RemoteCall<'_>) {
        if let Some(tracer) = &self.tracer {
            tracer.called(view, context, epoch, call);
        }
    }

    fn performed(&self, view: &str, performed: Option<&Performed>, elapsed: Duration) {
        if let Some(tracer) = &self.tracer {
            tracer.performed(view, performed.map(|performed| performed.work), elapsed);
        }
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = tasks.entry(view.into()).or_default();
        match performed {
            Some(performed) => {
                counts.n_performed += 1;
                counts.work += performed.work;
            }
            None => counts.n_failed += 1,
        }
    }

    fn late(&self, view: &str, n_tries: u32, reason: &str) {
        let times = match n_tries {
            1 => "once".to_owned(),
            n => format!("{n} times"),
        };
        let message = format!("late: a call failed {times} and is tried again: {reason}");
        let source = view.to_owned();
        self.tell(Some(view), &Update::Notice { source, message });
    }

    fn cannot_judge(&self, view: &str, reason: &str) {
        let are_blind = self.are_blind.lock();
        let mut are_blind = are_blind.unwrap_or_else(PoisonError::into_inner);
        if !are_blind.insert(view.to_owned()) {
            return;
        }
        drop(are_blind);
        let message = format!("no answer is left unread, for changes cannot be judged: {reason}");
        let source = view.to_owned();
        self.tell(Some(view), &Update::Notice { source, message });
    }

    fn unread(&self, view: &str, relation: &str, document: &DocumentKey, reason: Option<&str>) {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        let of_view = unread.entry(view.into()).or_default();
        if of_view.len() < MAX_UNREAD {
            of_view.push(Unread {
                relation: relation.into(),
                key: document.clone(),
                reason: reason.map(str::to_owned),
            });
        }
    }

    fn passed_over(&self, view: &str, text: &str, reason: &str) {
        let beginning: String = text.chars().take(60).collect();
        let message = format!("the view goes on without the text `{beginning}…`: {reason}");
        self.tell(
            Some(view),
            &Update::Notice {
                source: view.to_owned(),
                message,
            },
        );
    }
}
