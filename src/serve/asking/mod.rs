//! How does somebody ask a view something, and wait for what it says?
//!
//! # Design
//! A conversation becomes a row of the table whose rows are the view's contexts. Its key follows from who
//! asks and from what is said (or from the name that the asker gives the conversation). So a conversation
//! that is asked again is the same context: its answer is there, was kept right meanwhile, and costs no
//! model call.
//!
//! - `askable`: which views can be asked?
//! - `kept`: which conversations are kept, and which are to go?
//! - `answered`: what is said to who asked?
//!
//! # Invariants
//! - An answer that is told reflects all that was visible, or sent by the asker, before they asked.
//! - Rows of conversations are bounded in number and age, and those that were never answered go with who
//!   waited for them. No other row of a table is touched.
//! - What was taken back is not written afterwards, nor are words that others have taken the place of.
//! - The key of a conversation says nothing of who asks; another token never comes to the same context.
//!
//! Deliberately absent: a memory of what was said. Who goes on with a conversation sends all of it, and
//! what a question leans on is documents.

mod answered;
mod askable;
mod kept;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use perennial_rows::{TEXT, Value};
use tokio::time::{Instant, sleep, sleep_until};

use super::admission::Caller;
use super::feed::{Content, Reader, SubscribeOptions};
use super::json::milliseconds;
use super::limits::Limits;
use super::refusal::Refusal;
use super::served::{Served, there_are};
use super::tokens::Role;
use super::turns::{Turn, Turns};
use crate::engine::{AnswerUpdate, Edit, Engine, Error, Flushing};

pub(crate) use answered::{Answered, Usage};
pub(crate) use askable::Askable;

use kept::{Kept, RowId, Unentered};

/// How often it is looked whether all is visible that was said before.
const LOOK: Duration = Duration::from_millis(20);

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    /// All of the conversation, as the model reads it.
    pub(crate) text: String,
    /// What the asker calls it; without, it is what it says.
    pub(crate) conversation: Option<String>,
    /// Columns of the row, by which documents may be matched.
    pub(crate) columns: BTreeMap<String, String>,
}

/// The conversations that a server keeps.
pub(super) struct Conversations {
    kept: Mutex<Kept>,
    /// Held while rows of conversations are written: so none is taken away that was asked for again, and none
    /// is written that was taken back.
    writing: Mutex<()>,
    askers: Turns,
}

impl Conversations {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            kept: Mutex::default(),
            writing: Mutex::default(),
            askers: Turns::new(limits.askers),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits. Whoever drops it before the answer is there takes the question back.
pub(crate) struct Asking {
    served: Arc<Served>,
    view: Arc<str>,
    question: Arc<str>,
    row: RowId,
    reader: Reader,
    /// Present until all is visible that was said before.
    flushing: Option<Flushing>,
    /// Whether the row was written for this asker.
    is_new: bool,
    /// Whether they may know what was read before for others: who reads the view may.
    sees_shared: bool,
    was_answered: bool,
    /// The answer in the making, as far as it is known.
    draft: String,
    deadline: Instant,
    _turn: Turn,
}

/// What who waits is told.
pub(crate) enum Word {
    /// The answer in the making, all of it so far.
    Writing(String),
    /// The answer. Nothing follows.
    Answer(Box<Answered>),
}

impl Served {
    /// The views that somebody may ask.
    pub(crate) async fn askable(
        self: &Arc<Self>,
        caller: &Caller,
    ) -> Result<Vec<Askable>, Refusal> {
        caller.may(Role::Ask)?;
        let relations = self.ask(|engine| engine.relations()).await?;
        let all = Askable::all(&relations).into_iter();
        Ok(all.filter(|of| caller.reaches(&of.view)).collect())
    }

    /// Asks a view something.
    ///
    /// # Errors
    /// Where the view cannot be asked, by this asker, or now.
    pub(crate) async fn ask_view(
        self: &Arc<Self>,
        caller: &Caller,
        view: &str,
        question: Question,
    ) -> Result<Asking, Refusal> {
        caller.may_of(Role::Ask, view)?;
        let all = self.askable(caller).await?;
        let Some(view) = all.iter().find(|of| *of.view == *view) else {
            let names: Vec<&str> = all.iter().map(|of| &*of.view).collect();
            let error = format!("there is no view `{view}` that can be asked");
            return Err(Refusal::not_found(error, there_are(&names)));
        };
        let columns = columns_of(caller, view, question.columns)?;
        let text: Arc<str> = question.text.trim().into();
        if text.is_empty() {
            let error = "nothing is asked: the text is empty";
            return Err(Refusal::bad(error, "say what is asked"));
        }
        let digest = digest_of(
            caller.asker(),
            &view.table,
            &columns,
            question.conversation.as_deref(),
            &text,
        );
        let row = RowId {
            table: view.table.clone(),
            key: kept::key_of(&digest),
        };
        let askers = &self.conversations.askers;
        let turn = askers.take(caller.asker(), self.limits.patience).await?;
        self.adopt(&view.table).await?;
        // Before the row is written, so that nothing of it is missed.
        let options = SubscribeOptions {
            snapshot: false,
            progress: true,
            key: Some(row.key.to_string()),
            question: Some(text.clone()),
            ..SubscribeOptions::default()
        };
        let reader = self.subscribe(&view.view, options)?;
        let entered = {
            let now = std::time::Instant::now();
            let (asker, limit) = (caller.asker(), self.limits.conversations);
            let mut kept = self.conversations.kept();
            kept.enter(&row, asker, &text, now, limit)
        };
        let entered = entered.map_err(|why| match why {
            Unentered::Full => Refusal::busy(),
            Unentered::Busy => Refusal::conflict(
                "this conversation is being answered, of an earlier word",
                "send it again once that is answered, or under another name",
            ),
        })?;
        let mut asking = Asking {
            served: self.clone(),
            view: view.view.clone(),
            question: text.clone(),
            row: row.clone(),
            reader,
            flushing: None,
            is_new: entered.is_new,
            sees_shared: caller.may_of(Role::Read, &view.view).is_ok(),
            was_answered: false,
            draft: String::new(),
            deadline: Instant::now() + self.limits.answer_time,
            _turn: turn,
        };
        self.take_away(entered.gone);
        // It may be that somebody else deleted the row.
        asking.is_new |= asking.is_missing();
        let (this, view, is_new) = (self.clone(), view.view.clone(), asking.is_new);
        let written = self.ask(move |engine| {
            if is_new && !this.conversations.write(engine, &row, &text, columns)? {
                return Ok(None);
            }
            engine.begin_flush_into(&[&*view]).map(Some)
        });
        // Where it was taken back, hardly anybody is left to be told.
        asking.flushing = Some(written.await?.ok_or_else(Refusal::busy)?);
        Ok(asking)
    }

    /// Takes rows of conversations away, unless they were asked for again.
    fn take_away(self: &Arc<Self>, rows: Vec<RowId>) {
        if rows.is_empty() {
            return;
        }
        let this = self.clone();
        let take = move || {
            let _writing = this.conversations.writing();
            for row in rows {
                if !this.conversations.kept().holds(&row.key) {
                    // A table that is gone, or an engine that has ended, holds it no more.
                    let _ = this.engine().delete(&row.table, &row.key);
                }
            }
        };
        match tokio::runtime::Handle::try_current() {
            // It waits where the engine is busy.
            Ok(runtime) => drop(runtime.spawn_blocking(take)),
            Err(_) => take(),
        }
    }

    /// Takes over what an earlier process left in a table.
    async fn adopt(self: &Arc<Self>, table: &Arc<str>) -> Result<(), Refusal> {
        if self.conversations.kept().has_adopted(table) {
            return Ok(());
        }
        let name = table.clone();
        let snapshot = self.ask(move |engine| engine.snapshot(&name)).await?;
        let position = |name| snapshot.schema.position(name);
        let (Some(key), Some(text)) = (position(perennial_rows::KEY), position(TEXT)) else {
            return Ok(());
        };
        let rows = snapshot.rows.iter().filter_map(|(tuple, _)| {
            match (tuple.get(key)?, tuple.get(text)?) {
                (Value::Text(key), Value::Text(text)) => Some((key.clone(), &**text)),
                _ => None,
            }
        });
        let (now, limit) = (std::time::Instant::now(), self.limits.conversations);
        let gone = self.conversations.kept().adopt(table, rows, now, limit);
        self.take_away(gone);
        Ok(())
    }

    /// Lets conversations go that nobody has asked for a while, as long as this is served.
    pub(crate) async fn sweep(this: Weak<Self>) {
        loop {
            let every = match this.upgrade() {
                Some(this) if !this.is_closing() => {
                    // What cannot be looked at now is looked at the next time.
                    let _ = this.sweep_once().await;
                    this.limits.sweep_every
                }
                _ => return,
            };
            sleep(every).await;
        }
    }

    /// Looks once which conversations are to go.
    ///
    /// # Errors
    /// What the engine reports.
    pub(crate) async fn sweep_once(self: &Arc<Self>) -> Result<(), Refusal> {
        let relations = self.ask(|engine| engine.relations()).await?;
        let is_there = |name: &str| relations.iter().any(|of| *of.name == *name);
        self.conversations.kept().retain_tables(is_there);
        for of in Askable::all(&relations) {
            self.adopt(&of.table).await?;
        }
        let (now, age) = (std::time::Instant::now(), self.limits.conversation_time);
        let gone = self.conversations.kept().expire(now, age);
        self.take_away(gone);
        Ok(())
    }
}

impl Conversations {
    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the row of a conversation, unless it was taken back meanwhile, or somebody goes on with it in
    /// other words: who hangs up does not stop what is about to be written. Whether it says so now.
    fn write(
        &self,
        engine: &Engine,
        row: &RowId,
        text: &Arc<str>,
        columns: BTreeMap<String, String>,
    ) -> Result<bool, Error> {
        let _writing = self.writing();
        if !self.kept().says(&row.key, text) {
            return Ok(false);
        }
        engine.apply(vec![edit(row, text, columns)])?;
        self.kept().note_written(&row.key);
        Ok(true)
    }
}

/// The columns of a question's row: what the token says counts.
fn columns_of(
    caller: &Caller,
    view: &Askable,
    mut columns: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Refusal> {
    columns.retain(|name, _| view.carries(name));
    for (name, bound) in caller.bound() {
        let is_matched = view.plan.matching.iter().any(|column| **column == **name);
        if !is_matched {
            let of = &view.view;
            let error = format!("this token asks as `{name}`, and `{of}` matches nothing by that");
            let hint = format!("ask a view that was declared with MATCHING ({name})");
            return Err(Refusal::forbidden(error, hint));
        }
        match columns.insert(name.clone(), bound.clone()) {
            Some(asked) if asked != *bound => {
                let error = format!("this token may not ask as another `{name}`");
                return Err(Refusal::forbidden(error, "leave it out"));
            }
            _ => {}
        }
    }
    let mut matched = view.plan.matching.iter();
    if let Some(missing) = matched.find(|name| !columns.contains_key(&***name)) {
        let of = &view.view;
        let error = format!("`{of}` matches documents by `{missing}`, and the question has none");
        let hint = format!("say it, as metadata of the request: {{\"{missing}\": \"…\"}}");
        return Err(Refusal::bad(error, hint));
    }
    Ok(columns)
}

/// What a conversation is known by. Every part is told with its length, so that no two have one digest.
fn digest_of(
    asker: Option<&str>,
    table: &str,
    columns: &BTreeMap<String, String>,
    conversation: Option<&str>,
    text: &str,
) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_derive_key("perennial 2026 conversations of a view");
    let mut part = |part: &str| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    };
    part(table);
    part(asker.unwrap_or_default());
    part(&columns.len().to_string());
    for (name, value) in columns {
        part(name);
        part(value);
    }
    match conversation {
        Some(name) => {
            part("named");
            part(name);
        }
        None => {
            part("said");
            part(text);
        }
    }
    hasher.finalize()
}

fn edit(row: &RowId, text: &Arc<str>, columns: BTreeMap<String, String>) -> Edit {
    let columns = columns.into_iter();
    let edit = Edit::upsert(&*row.table, &*row.key, text.clone());
    columns.fold(edit, |edit, (name, value)| edit.with(&name, &*value))
}

impl Asking {
    /// The key of the context.
    pub(crate) fn key(&self) -> &str {
        &self.row.key
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// As [`Asking::next`].
    pub(crate) async fn answer(mut self) -> Result<Answered, Refusal> {
        loop {
            if let Word::Answer(answered) = self.next().await? {
                return Ok(*answered);
            }
        }
    }

    /// What is told next. After the answer nothing is.
    ///
    /// # Errors
    /// Where there is no answer: the model fails, the view is dropped, it takes too long.
    pub(crate) async fn next(&mut self) -> Result<Word, Refusal> {
        loop {
            if let Some(flushing) = &self.flushing
                && let Some(outcome) = flushing.outcome()
            {
                self.flushing = None;
                if let Err(error) = outcome
                    && !(matches!(error, Error::OverBudget { .. }) && self.standing().is_some())
                {
                    return Err(unaffordable(error));
                }
            }
            if self.flushing.is_none()
                && let Some(update) = self.standing()
            {
                return self.told(&update).await;
            }
            let has_told = tokio::select! {
                event = self.reader.next() => event,
                () = sleep(LOOK), if self.flushing.is_some() => continue,
                () = sleep_until(self.deadline) => return Err(self.late()),
            };
            // An early answer is of the row that was written for this.
            let early = self.reader.take_early().filter(|_| self.is_new);
            if let Some(update) = early.filter(|update| self.is_mine(update)) {
                return self.told(&update).await;
            }
            let Some(event) = has_told else {
                return Err(Refusal::ending());
            };
            match event.name {
                "progress" if self.write(&event.data) => {
                    return Ok(Word::Writing(self.draft.clone()));
                }
                "end" => return Err(self.ended()),
                _ => {}
            }
        }
    }

    fn is_mine(&self, update: &AnswerUpdate) -> bool {
        update.question == self.question && update.new.is_some()
    }

    /// The answer to the question as the view says it now.
    fn standing(&self) -> Option<AnswerUpdate> {
        let feed = self.served.feed(&self.view).ok()?;
        match feed.moment(Some(&self.row.key))?.stood {
            Content::Answers(answers) => {
                let mut answers = answers.iter().map(|said| &said.update);
                answers.find(|update| self.is_mine(update)).cloned()
            }
            Content::Rows(_) => None,
        }
    }

    /// Whether the view says nothing of it. One that has said nothing at all yet, as after a start, is no
    /// witness.
    fn is_missing(&self) -> bool {
        let feed = self.served.feed(&self.view).ok();
        let has_spoken = feed.is_some_and(|feed| feed.moment(Some(&self.row.key)).is_some());
        has_spoken && self.standing().is_none()
    }

    async fn told(&mut self, update: &AnswerUpdate) -> Result<Word, Refusal> {
        let (view, key) = (self.view.clone(), self.row.key.clone());
        let lineage = self.served.ask(move |engine| engine.lineage(&view, &key));
        // Titles are not worth an answer.
        let lineage = lineage.await.ok().flatten();
        let answered = Answered::of(update, lineage.as_ref(), self.is_new, self.sees_shared)?;
        self.was_answered = true;
        Ok(Word::Answer(Box::new(answered)))
    }

    /// Takes what is told of an answer in the making. Whether there is news.
    fn write(&mut self, data: &str) -> bool {
        #[derive(serde::Deserialize)]
        struct Writing {
            stage: String,
            #[serde(default)]
            at: usize,
            #[serde(default)]
            text: String,
        }
        match serde_json::from_str::<Writing>(data) {
            Ok(Writing { stage, at, text }) if stage == "writing" => {
                match self.draft.is_char_boundary(at) {
                    true => self.draft.truncate(at),
                    false => self.draft.clear(),
                }
                self.draft.push_str(&text);
                true
            }
            _ => false,
        }
    }

    fn late(&self) -> Refusal {
        let time = self.served.limits.answer_time;
        let seconds = milliseconds(time) / 1_000;
        let error = format!("the view has not answered within {seconds} s");
        Refusal::unavailable(error, "ask again later, or see GET /v1/status")
    }

    fn ended(&self) -> Refusal {
        match self.served.is_closing() {
            true => Refusal::ending(),
            false if self.served.feed(&self.view).is_err() => {
                let error = format!("the view `{}` was dropped", self.view);
                Refusal::not_found(error, "GET /v1/models tells which there are")
            }
            false => {
                let error = format!("the view `{}` has failed", self.view);
                Refusal::unavailable(error, "see GET /v1/status")
            }
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let left = self
            .served
            .conversations
            .kept()
            .leave(&self.row.key, self.was_answered);
        self.served.take_away(left.into_iter().collect());
    }
}

fn unaffordable(error: Error) -> Refusal {
    match error {
        Error::OverBudget { .. } => {
            let hint = "ask again later, or give the view a larger budget";
            Refusal::unavailable(error.to_string(), hint)
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use perennial_ask::scripted::{Scripted, ScriptedEmbedder};

    use super::*;
    use crate::engine::Runtime;

    #[test]
    fn what_was_taken_back_or_replaced_is_not_written() {
        let embedder = Arc::new(ScriptedEmbedder::default());
        let runtime = Runtime::scripted(Arc::new(Scripted::new()), embedder);
        let engine = Engine::builder(runtime).table("questions");
        let engine = engine.start().expect("starts");
        let conversations = Conversations::new(&Limits::default());
        let row = RowId {
            table: "questions".into(),
            key: kept::key_of(&blake3::hash(b"monday")),
        };
        let enter = |text| {
            let now = std::time::Instant::now();
            let entered = conversations.kept().enter(&row, None, text, now, 8);
            entered.expect("room");
        };
        let write = |text: &str| {
            let written = conversations.write(&engine, &row, &text.into(), BTreeMap::new());
            written.expect("runs")
        };
        let n_rows = || {
            engine.flush().expect("runs");
            engine.snapshot("questions").expect("known").rows.len()
        };
        enter("When?");
        conversations.kept().leave(&row.key, false);
        assert!(!write("When?"));
        assert_eq!(n_rows(), 0);
        enter("Where?");
        assert!(!write("When?"), "others go on in other words");
        assert_eq!(n_rows(), 0);
        assert!(write("Where?"));
        assert_eq!(n_rows(), 1);
    }
}
