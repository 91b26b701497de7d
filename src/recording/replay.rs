//! The same again: is an engine fed with a recording of the same mind?

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use perennial_views::{Pace, View};

use super::error::RecordingError;
use super::format::{RecordedAnswer, RecordedEpoch, RecordedModel, Run, hex};
use super::reader::{Group, Reader};
use crate::engine::{Edit, Engine, Error, Runtime};

/// Replays a recording, an epoch at a time.
///
/// Each run of the recording gets a fresh engine in memory, with the views that were declared. Each
/// epoch's changes are made visible together; when every answer over them is exact, all answers are
/// held against those that were recorded. An exact answer must be the same, token for token,
/// whatever the number of workers and threads. A provisional one depends on what happened to be
/// borrowed: it is not compared, but the exact one that followed it is.
///
/// ```
/// use std::sync::Arc;
/// use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
/// use perennial::recording::Replay;
/// use perennial::{Engine, Runtime, View};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let file = dir.path().join("session.rec");
/// # let runtime = || {
/// #     let embedder = Arc::new(ScriptedEmbedder::default());
/// #     Runtime::scripted(Arc::new(Scripted::new()), embedder)
/// # };
/// let mut engine = Engine::builder(runtime())
///     .table("docs")
///     .table("questions")
///     .view(View::named("answers").context("questions").data_source("docs"))
///     .record(&file)
///     .start()?;
/// engine.upsert("docs", "hours", "The library opens at nine.")?;
/// engine.upsert("questions", "q", "library")?;
/// engine.flush()?;
/// drop(engine);
///
/// for epoch in Replay::open(&file, runtime())? {
///     assert!(epoch?.differences.is_empty());
/// }
/// # Ok(())
/// # }
/// ```
pub struct Replay {
    reader: Reader<File>,
    runtime: Runtime,
    n_workers: usize,
    /// Whether models that were not recorded will do.
    is_any_model: bool,
    run: Option<Running>,
    has_failed: bool,
}

/// A run that is being replayed.
struct Running {
    engine: Engine,
    views: Vec<String>,
    /// By view and context: what the run has said last.
    recorded: BTreeMap<(String, String), RecordedAnswer>,
    /// Whether what comes next is what stood when it began.
    is_standing: bool,
}

/// An epoch, replayed.
#[derive(Clone, Debug)]
pub struct ReplayedEpoch {
    /// Its number in the recording.
    pub epoch: u64,
    /// When it was complete, in milliseconds since 1970.
    pub at_ms: i64,
    /// Whether this is no epoch, but what stood at one when another engine went on.
    pub is_standing: bool,
    /// Rows that it changed.
    pub n_rows: usize,
    /// Answers that were compared.
    pub n_compared: usize,
    /// Answers that were recorded as provisional, and not compared.
    pub n_provisional: usize,
    /// Answers that are not as they were recorded.
    pub differences: Vec<Difference>,
}

/// An answer that is not as it was recorded.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The view.
    pub view: String,
    /// The context.
    pub context: String,
    /// What was recorded; none where there was no answer.
    pub recorded: Option<RecordedAnswer>,
    /// What it is now; none where there is no answer.
    pub replayed: Option<RecordedAnswer>,
}

impl Replay {
    /// Opens a recording, to be replayed with this runtime.
    ///
    /// # Errors
    /// [`Error::Recording`].
    pub fn open(path: impl AsRef<Path>, runtime: Runtime) -> Result<Self, Error> {
        Ok(Self {
            reader: Reader::open(path.as_ref())?,
            runtime,
            n_workers: 1,
            is_any_model: false,
            run: None,
            has_failed: false,
        })
    }

    /// Number of dataflow workers; one unless told.
    #[must_use]
    pub fn workers(mut self, n_workers: usize) -> Self {
        self.n_workers = n_workers;
        self
    }

    /// Replays with whatever model there is, though it is not the one that was recorded.
    #[must_use]
    pub fn with_any_model(mut self) -> Self {
        self.is_any_model = true;
        self
    }

    /// Whether the recording ends with the beginning of an epoch that a crash cut off, which is
    /// left out. Known when all is replayed.
    pub fn is_cut(&self) -> bool {
        self.reader.is_cut()
    }

    fn begin(&mut self, run: &Run) -> Result<(), Error> {
        let given = RecordedModel {
            name: self.runtime.name.as_deref().map(str::to_owned),
            digest: hex(&self.runtime.model.digest()),
        };
        let embedder = hex(&self.runtime.embedder.digest());
        if !self.is_any_model && (&given.digest, &embedder) != (&run.model.digest, &run.embedder) {
            let of = |model: &RecordedModel, embedder: &str| {
                let embedder: String = embedder.chars().take(12).collect();
                format!("{model} and embeddings of {embedder}…")
            };
            return Err(Error::Recording(RecordingError::OtherModel {
                recorded: of(&run.model, &run.embedder),
                given: of(&given, &embedder),
            }));
        }
        // The engine before lets go of its memory first.
        self.run = None;
        let mut builder = Engine::builder(self.runtime.clone()).workers(self.n_workers);
        for stream in &run.streams {
            builder = builder.table(stream);
        }
        for plan in &run.views {
            // What was recorded is replayed epoch by epoch, whatever it cost then.
            builder = builder.view(View::from(plan).paced(Pace::default()));
        }
        self.run = Some(Running {
            engine: builder.start()?,
            views: run.views.iter().map(|plan| plan.name.to_string()).collect(),
            recorded: BTreeMap::new(),
            is_standing: run.resumed_at.is_some(),
        });
        Ok(())
    }

    fn step(&mut self) -> Result<Option<ReplayedEpoch>, Error> {
        loop {
            match self.reader.next().transpose()? {
                None => return Ok(None),
                Some(Group::Run(run)) => self.begin(&run)?,
                Some(Group::Epoch(epoch)) => {
                    // A recording's first line is a run.
                    let Some(run) = &mut self.run else {
                        continue;
                    };
                    return run.replay(epoch).map(Some);
                }
            }
        }
    }
}

impl Running {
    fn replay(&mut self, epoch: RecordedEpoch) -> Result<ReplayedEpoch, Error> {
        let is_standing = std::mem::take(&mut self.is_standing);
        let n_rows = epoch.rows.len();
        let rows = epoch.rows.into_iter();
        let edits = rows.map(|(stream, key, row)| Edit::recorded(&stream, key, row));
        self.engine.apply(edits.collect())?;
        self.engine.settle()?;
        for answer in epoch.answers {
            let key = (answer.view.to_string(), answer.context.to_string());
            match answer.now {
                Some(now) => self.recorded.insert(key, now),
                None => self.recorded.remove(&key),
            };
        }
        let mut replayed = self.answers()?;
        if is_standing {
            // Answers of views that were declared otherwise did not stand.
            replayed.retain(|key, _| self.recorded.contains_key(key));
        }
        let keys: BTreeSet<_> = self.recorded.keys().chain(replayed.keys()).collect();
        let mut compared = ReplayedEpoch {
            epoch: epoch.epoch,
            at_ms: epoch.at_ms,
            is_standing,
            n_rows,
            n_compared: 0,
            n_provisional: 0,
            differences: Vec::new(),
        };
        for key in keys {
            let (recorded, replayed) = (self.recorded.get(key), replayed.get(key));
            let is_same = match (recorded, replayed) {
                (Some(recorded), Some(_)) if !recorded.exact => {
                    compared.n_provisional += 1;
                    continue;
                }
                (Some(recorded), Some(replayed)) => recorded.is_same(replayed),
                _ => false,
            };
            compared.n_compared += 1;
            if !is_same {
                compared.differences.push(Difference {
                    view: key.0.clone(),
                    context: key.1.clone(),
                    recorded: recorded.cloned(),
                    replayed: replayed.cloned(),
                });
            }
        }
        Ok(compared)
    }

    fn answers(&self) -> Result<BTreeMap<(String, String), RecordedAnswer>, Error> {
        let mut answers = BTreeMap::new();
        for view in &self.views {
            for (context, current) in self.engine.answers(view)? {
                let key = (view.clone(), context.to_string());
                answers.insert(key, current.recorded());
            }
        }
        Ok(answers)
    }
}

impl Iterator for Replay {
    type Item = Result<ReplayedEpoch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let step = self.step().transpose();
        self.has_failed = matches!(step, Some(Err(_)));
        step
    }
}
