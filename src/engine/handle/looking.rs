//! What does a running engine say: of answers, of what it refused, of why, and of the past?

use std::io::Write;
use std::sync::{Arc, Weak};

use crossbeam_channel::unbounded;
use perennial_ask::Dependency;
use perennial_bank::{ContextKey, DocumentKey};
use perennial_rows::Key;
#[cfg(feature = "serve")]
use perennial_views::Epoch;

use super::Engine;
use crate::engine::analysis::Analysis;
use crate::engine::audits::AuditStats;
use crate::engine::cause::Why;
use crate::engine::coordinator::Request;
use crate::engine::current::CurrentAnswer;
use crate::engine::error::Error;
use crate::engine::follower::{Follower, Lineage};
use crate::engine::places::Place;
use crate::engine::quarantine::{QuarantinePage, Quarantined};
use crate::engine::recent::RecentChanges;
#[cfg(feature = "serve")]
use crate::state::Stood;
use crate::state::{AsOf, Backup, BackupSummary, HistoryEntry, StateAsOf};

/// The models that a view asks; none is that which is asked where none is named.
type AskedModels = Vec<Option<Arc<str>>>;

impl Engine {
    /// The present answers of a view, as of the last complete epoch.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::Stopped`].
    pub fn answers(&self, view: &str) -> Result<Vec<(ContextKey, CurrentAnswer)>, Error> {
        let view = self.shared.names.answers(view)?;
        self.ask(|reply| Request::Answers { view, reply })
    }

    /// What stood at an earlier epoch, rows and answers, as far back as the state directory keeps
    /// a history; see [`EngineBuilder::history`](crate::engine::EngineBuilder::history). An epoch can be asked for once subscribers have
    /// heard of it.
    ///
    /// # Errors
    /// [`Error::NoState`], [`Error::State`] with
    /// [`StateError::NotInHistory`](crate::state::StateError::NotInHistory).
    pub fn as_of(&self, asked: AsOf) -> Result<StateAsOf, Error> {
        let state = self.shared.state.as_ref().ok_or(Error::NoState)?;
        Ok(state.as_of(asked)?)
    }

    /// The sub-paragraphs of a view's present answers that depend on a document, most
    /// dependent first: what a change of it touches. Read from the arranged dependency
    /// relation; see [`perennial_ask::dependency`] for the score.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::Stopped`].
    pub fn dependents(&self, view: &str, document: &str) -> Result<Vec<Dependency>, Error> {
        let (view, document) = (self.shared.names.answers(view)?, DocumentKey::new(document));
        let (reply, replies) = unbounded();
        self.send(Request::Dependents {
            view,
            document: document.clone(),
            reply,
        })?;
        // Each worker knows a part.
        let mut dependents: Vec<Dependency> = Vec::new();
        for _ in 0..self.shared.n_workers {
            dependents.extend(self.wait_for(&replies)?);
        }
        // What was measured stands in the place of what an answer came with.
        let (contexts, measured) = self.ask(|reply| Request::Measured {
            view,
            document,
            reply,
        })?;
        dependents.retain(|row| !contexts.contains(&row.context));
        dependents.extend(measured);
        dependents.sort_by(|a, b| b.score.cmp(&a.score).then_with(|| a.cmp(b)));
        Ok(dependents)
    }

    /// What audits found of a view's provisional answers.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::Stopped`].
    pub fn audits(&self, view: &str) -> Result<AuditStats, Error> {
        let view = self.shared.names.answers(view)?;
        self.ask(|reply| Request::Audits { view, reply })
    }

    /// The records in quarantine, oldest first; with a state directory, those of earlier
    /// processes too.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn quarantine(&self) -> Result<Vec<Quarantined>, Error> {
        let all = self.quarantine_page(None, None, usize::MAX)?;
        Ok(all.records)
    }

    /// At most `limit` of them, of a stream or of all, behind a number or from the first on; and how many
    /// there are of that stream, or of all.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn quarantine_page(
        &self,
        stream: Option<&str>,
        after: Option<u64>,
        limit: usize,
    ) -> Result<QuarantinePage, Error> {
        let stream = stream.map(str::to_owned);
        self.ask(|reply| Request::Quarantine {
            stream,
            after,
            limit,
            reply,
        })
    }

    /// Takes a refused record in, in the place of what stands under its key: as it was, or what is
    /// given instead, as a line of JSON lines. Returns its stream and key.
    ///
    /// # Errors
    /// [`Error::State`] where nothing has this number, or it is no record still;
    /// [`Error::UnknownStream`], [`Error::Stopped`].
    pub fn resubmit(
        &self,
        number: u64,
        instead: Option<Vec<u8>>,
    ) -> Result<(Arc<str>, Key), Error> {
        self.ask(|reply| Request::Resubmit {
            number,
            instead,
            reply,
        })?
    }

    /// Drops a refused record. Whether it was there.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn discard(&self, number: u64) -> Result<bool, Error> {
        self.ask(|reply| Request::Discard { number, reply })
    }

    /// Lets a follower hear all that subscribers of a view are told, from what stands on, until it is
    /// held by nobody else.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::Stopped`].
    pub fn follow(&self, view: &str, follower: Weak<dyn Follower>) -> Result<(), Error> {
        let view = self.shared.names.view(view)?;
        self.ask(|reply| Request::Follow {
            view,
            follower,
            reply,
        })?
    }

    /// Which passages a present answer leans on, with their texts; none where there is no such answer.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::NotAnswers`], [`Error::Stopped`].
    pub fn lineage(&self, view: &str, context: &str) -> Result<Option<Lineage>, Error> {
        let (view, context) = (self.shared.names.answers(view)?, ContextKey::new(context));
        self.ask(|reply| Request::Lineage {
            view,
            context,
            reply,
        })
    }

    /// Why an answer of a view is as it is: what changed, how it was refreshed, and on what it leans. None
    /// where the context has no answer.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::NotAnswers`], [`Error::Stopped`].
    pub fn why(&self, view: &str, context: &str) -> Result<Option<Why>, Error> {
        let (view, context) = (self.shared.names.answers(view)?, ContextKey::new(context));
        self.ask(|reply| Request::Why {
            view,
            context,
            reply,
        })
    }

    /// Where a row of a source was read; none of a table, or where an earlier process read it.
    ///
    /// # Errors
    /// [`Error::UnknownStream`], [`Error::Stopped`].
    pub fn place(&self, stream: &str, key: &str) -> Result<Option<Place>, Error> {
        let (stream, _) = self.shared.names.stream(stream)?;
        let key = key.to_owned();
        self.ask(|reply| Request::Place { stream, key, reply })
    }

    /// What changed of a relation lately, as far as that is kept.
    ///
    /// # Errors
    /// [`Error::UnknownRelation`], [`Error::Stopped`].
    pub fn recent(&self, name: &str) -> Result<RecentChanges, Error> {
        let name = name.to_owned();
        self.ask(|reply| Request::Recent { name, reply })?
    }

    /// What a view has done so far, by operator, and what that cost.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::Stopped`].
    pub fn analyze(&self, view: &str) -> Result<Analysis, Error> {
        let view = self.shared.names.view(view)?;
        self.ask(|reply| Request::Analyze { view, reply })?
    }

    /// How a view is computed, in words, and the names of the models that it asks (none for that
    /// which is asked where none is named).
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::Stopped`].
    pub fn explain(&self, view: &str) -> Result<(String, AskedModels), Error> {
        let view = self.shared.names.view(view)?;
        let explained = self.ask(|reply| Request::Explain { view, reply })??;
        Ok((explained.plan, explained.asked))
    }

    /// The epochs that can be told of, oldest first.
    ///
    /// # Errors
    /// [`Error::NoState`], [`Error::State`].
    pub fn history(&self) -> Result<Vec<HistoryEntry>, Error> {
        let state = self.shared.state.as_ref().ok_or(Error::NoState)?;
        Ok(state.history()?)
    }

    /// Of a view's answers that were stored after an epoch, or of the one under a key: what stood at it.
    /// None where the history does not reach back to it, or there is none.
    ///
    /// # Errors
    /// [`Error::State`].
    #[cfg(feature = "serve")]
    pub(crate) fn stood_before(
        &self,
        view: &str,
        key: Option<&str>,
        epoch: Epoch,
    ) -> Result<Option<Stood>, Error> {
        match &self.shared.state {
            Some(state) => Ok(state.stood_before(view, key, epoch)?),
            None => Ok(None),
        }
    }

    /// Writes a backup of all that the state directory holds, as of its last commit: rows and answers of
    /// a complete epoch of each view, sources' offsets, what sinks are owed, quarantine, history. The
    /// engine goes on meanwhile. [`state::restore`](crate::state::restore) makes a directory of it.
    ///
    /// # Errors
    /// [`Error::NoState`]; [`Error::Backup`], after which what was written is no backup.
    pub fn backup(&self, out: impl Write) -> Result<BackupSummary, Error> {
        Ok(self.begin_backup()?.write_to(out)?)
    }

    /// Takes hold of what [`Engine::backup`] writes. As long as it is held, what is replaced in the state
    /// directory keeps its place on disk.
    ///
    /// # Errors
    /// [`Error::NoState`], [`Error::Backup`].
    pub fn begin_backup(&self) -> Result<Backup, Error> {
        let state = self.shared.state.as_ref().ok_or(Error::NoState)?;
        Ok(state.begin_backup()?)
    }
}
