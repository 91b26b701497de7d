//! The thread that writes a recording while an engine runs.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::error::RecordingError;
use super::format::{RecordedEpoch, Run};
use super::writer::Log;

/// Epochs that may wait to be written; then the next one waits, too.
const CAPACITY: usize = 16;

/// What a recording goes on with.
pub(crate) struct Beginning {
    pub(crate) log: Log,
    pub(crate) run: Run,
    /// What stands, where the engine goes on from a state directory.
    pub(crate) standing: Option<RecordedEpoch>,
}

/// A recording at work. Dropping it writes what waits.
pub(crate) struct Recorder {
    path: PathBuf,
    /// None when it is being dropped.
    epochs: Option<Sender<RecordedEpoch>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts recording. If it cannot go on, it says why, and ends.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub(crate) fn start(
        beginning: Beginning,
        tell: impl FnOnce(RecordingError) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, epochs) = bounded(CAPACITY);
        let path = beginning.log.path().to_owned();
        let thread = std::thread::Builder::new()
            .name("perennial-recorder".into())
            .spawn(move || {
                if let Err(error) = run(beginning, &epochs) {
                    tell(error);
                }
            })?;
        Ok(Self {
            path,
            epochs: Some(sender),
            thread: Some(thread),
        })
    }

    /// Where it goes.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes an epoch, behind those before it.
    pub(crate) fn take(&self, epoch: RecordedEpoch) {
        if let Some(epochs) = &self.epochs {
            // Nobody listens only when recording has ended, which it said.
            let _ = epochs.send(epoch);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.epochs = None;
        if let Some(thread) = self.thread.take() {
            // A panic in there was told by the thread's own end.
            let _ = thread.join();
        }
    }
}

fn run(beginning: Beginning, epochs: &Receiver<RecordedEpoch>) -> Result<(), RecordingError> {
    let Beginning {
        mut log,
        run,
        standing,
    } = beginning;
    log.begin(run)?;
    if let Some(standing) = standing {
        log.append(&standing)?;
    }
    for epoch in epochs {
        log.append(&epoch)?;
    }
    log.sync()
}
