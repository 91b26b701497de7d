//! What does a coordinator begin with: what it computes with, and what an earlier process left.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crossbeam_channel::{Receiver, unbounded};
use perennial_bank::fragment_store::Attached;
use perennial_bank::{ContextKey, References};
use perennial_connectors::Resume;
use perennial_rows::{Key, Row};
use perennial_views::{Embeddings, Memo, Pace};

use super::recording::Recording;
use super::view::Generating;
use super::waiting::Patience;
use super::{Coordinator, Request};
use crate::engine::budget::Ledger;
use crate::engine::clock::now_ms;
use crate::engine::current::CurrentAnswer;
use crate::engine::error::Error;
use crate::engine::hub::Hub;
use crate::engine::models::Models;
use crate::engine::names::Names;
use crate::engine::quarantine::Quarantine;
use crate::engine::reading::Origin;
use crate::engine::runtime::Runtime;
use crate::engine::workers::{Report, Workers};
use crate::recording::{
    Beginning, EpochAnswer, Log, RecordedEpoch, RecordedModel, Recorder, Run, hex,
};
use crate::state::{Restored, State, StoredAnswer, StoredRow, new_origin};

/// What outlives the process, and what an earlier one left that is not taken up yet.
pub(crate) struct Durable {
    /// Fragments on disk. The state is let go of after them: its lock is theirs too.
    pub(crate) cold: Option<Attached>,
    pub(crate) state: Arc<State>,
    pub(crate) restored: Restored,
    /// Answers of views that were dropped: the next transaction erases them.
    pub(crate) dropped: HashMap<String, BTreeMap<ContextKey, StoredAnswer>>,
}

impl Durable {
    /// Where the source of a stream goes on.
    pub(super) fn resume(&self, stream: &str) -> Resume {
        let held = |(key, row): (&String, &StoredRow)| (Key::new(key.as_str()), row.clone().into());
        let rows = self.restored.rows.get(stream).into_iter().flatten();
        Resume {
            held: rows.map(held).collect(),
            offset: self.restored.offsets.get(stream).cloned(),
        }
    }
}

/// What a coordinator begins with.
pub(crate) struct Parts {
    pub(crate) runtime: Runtime,
    pub(crate) names: Arc<Names>,
    pub(crate) n_workers: usize,
    pub(crate) hub: Arc<Hub>,
    pub(crate) inbox: Receiver<Request>,
    pub(crate) references: Option<Arc<References>>,
    pub(crate) durable: Option<Durable>,
    /// What all views may spend together.
    pub(crate) pace: Pace,
}

impl Coordinator {
    /// A coordinator with nothing declared, which closes no epoch until [`Coordinator::release`].
    pub(crate) fn new(parts: Parts) -> Result<Self, Error> {
        let Parts {
            runtime,
            names,
            n_workers,
            hub,
            inbox,
            references,
            mut durable,
            pace,
        } = parts;
        // Before any source is read: what it refuses comes to what is there.
        let quarantine = durable.as_mut().map(|Durable { restored, .. }| {
            let entries = std::mem::take(&mut restored.quarantine);
            Quarantine::restored(entries, restored.next_quarantined)
        });
        let quarantine = quarantine.unwrap_or_default();
        // Each view has one epoch in flight at a time, which bounds the reports that wait.
        let (sender, reports) = unbounded();
        let report = {
            let sender = sender.clone();
            move |report: Report| {
                // Nobody listens only when the engine is stopping.
                let _ = sender.send(report);
            }
        };
        let workers =
            Workers::start(n_workers, report).map_err(|reason| Error::Stopped { reason })?;
        let memo: Arc<dyn Memo> = match &durable {
            Some(durable) => durable.state.clone(),
            None => Arc::new(()),
        };
        let embeddings = Arc::new(Embeddings::new(
            runtime.embedder.clone(),
            memo.clone(),
            runtime.embed_executor.clone(),
        ));
        let models = Models::new(&runtime, references, memo.clone(), embeddings.clone());
        let last = durable.as_ref().and_then(|durable| durable.restored.epoch);
        Ok(Self {
            runtime,
            names,
            next_id: 0,
            is_held: true,
            is_declaring: true,
            streams: BTreeMap::new(),
            views: BTreeMap::new(),
            workers,
            reports,
            inbox,
            hub,
            memo,
            models: Arc::new(models),
            embeddings,
            quarantine,
            ledger: Ledger::default(),
            pace,
            resubmitted: Vec::new(),
            announced: VecDeque::new(),
            flushes: Vec::new(),
            forgetting: Vec::new(),
            patience: Patience::default(),
            n_heard: 0,
            sinks: Vec::new(),
            parked: Vec::new(),
            origin: match &durable {
                Some(durable) => durable.restored.origin,
                None => new_origin(),
            },
            former: match &durable {
                Some(durable) => durable.restored.former.clone().into(),
                None => Arc::default(),
            },
            report: sender,
            unstored: VecDeque::new(),
            next_epoch: last.map_or(0, |epoch| epoch + 1),
            closed: None,
            stored: last,
            durable,
            log: None,
            recording: None,
        })
    }

    /// What is to be recorded to, once all is declared.
    pub(crate) fn hold(&mut self, log: Option<Log>) {
        self.log = log;
    }

    /// Lets epochs close: takes up what a person sent in, and starts the recording. What is declared
    /// later still finds what an earlier process left for it.
    pub(crate) fn begin(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.is_held) {
            return Ok(());
        }
        self.take_resubmitted();
        match self.log.take() {
            Some(log) => self.record(log),
            None => Ok(()),
        }
    }

    /// Everything is declared: lets epochs close, and lets go of what an earlier process left for what
    /// is not.
    pub(crate) fn release(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.is_declaring) {
            if let Some(durable) = &mut self.durable {
                // Those of views that are gone are owed nothing any more.
                durable.restored.sinks.clear();
                durable.restored.upserts.clear();
            }
            self.declare_sinks(Vec::new())?;
        }
        self.begin()
    }

    /// Takes up rows that a person sent in, in the place of refused ones.
    pub(super) fn take_resubmitted(&mut self) {
        let Some(durable) = &mut self.durable else {
            return;
        };
        for (number, row) in std::mem::take(&mut durable.restored.resubmitted) {
            let mut streams = self.streams.values_mut();
            let stream = streams.find(|stream| *stream.name == *row.stream);
            match stream {
                Some(stream) => {
                    stream.table.set(Key::from(row.key), row.row.map(Row::from));
                    self.resubmitted.push(number);
                }
                // Those of streams that are not declared now wait until they are.
                None => {
                    durable.restored.resubmitted.insert(number, row);
                }
            }
        }
    }

    /// Records from now on what epochs take in and give.
    fn record(&mut self, log: Log) -> Result<(), Error> {
        let views = self.views.values();
        let reads_a_view = |origin: &Origin| matches!(origin, Origin::View(_));
        let mut all = views.clone();
        let is_told = all.all(|view| {
            let is_of_one = |of: &Generating| of.plan.model.is_none();
            view.generating().is_some_and(is_of_one) && !view.origins().iter().any(reads_a_view)
        });
        if !is_told {
            return Err(Error::Recorded);
        }
        let model = RecordedModel {
            name: self.runtime.name.as_deref().map(str::to_owned),
            digest: hex(&self.runtime.model.digest()),
        };
        let plans = views.filter_map(|view| Some((*view.generating()?.plan).clone()));
        let streams = self.streams.values().map(|stream| stream.name.to_string());
        let run = Run::new(
            model,
            hex(&self.runtime.embedder.digest()),
            streams.collect(),
            plans.collect(),
            self.stored,
        );
        let beginning = Beginning {
            run,
            standing: self.standing(),
            log,
        };
        let sender = self.report.clone();
        let recorder = Recorder::start(beginning, move |error| {
            // Nobody listens only when the engine is stopping.
            let _ = sender.send(Report::RecordingFailed(error));
        });
        let recorder = recorder.map_err(|error| Error::Stopped {
            reason: error.to_string(),
        })?;
        self.recording = Some(Recording::new(recorder));
        Ok(())
    }

    /// What an earlier process left, as a recording says it.
    fn standing(&self) -> Option<RecordedEpoch> {
        let rows = self.streams.values().flat_map(|stream| {
            let rows = stream.restored.iter();
            rows.map(|(key, row)| {
                (
                    stream.name.clone(),
                    key.as_str().to_owned(),
                    Some(StoredRow::from(row)),
                )
            })
        });
        // Those of a view that was declared otherwise do not stand.
        let views = self.views.values().filter_map(|view| view.generating());
        let answers = views.flat_map(|view| {
            view.answers.iter().map(|(context, current)| EpochAnswer {
                view: view.plan.name.clone(),
                context: context.clone(),
                now: Some(CurrentAnswer::recorded(current)),
            })
        });
        Some(RecordedEpoch {
            epoch: self.stored?,
            at_ms: now_ms(),
            rows: rows.collect(),
            answers: answers.collect(),
        })
    }
}
