//! The dataflow workers: threads that step timely and compute nothing slow.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_channel::Sender;
use differential_dataflow::input::{Input, InputSession};
use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::trace::TraceReader;
use differential_dataflow::trace::cursor::Cursor;
use differential_dataflow::trace::implementations::ValSpine;
use perennial_ask::{Answer, Dependency};
use perennial_bank::{ContextKey, Document, DocumentKey};
use perennial_views::memo::RequestDigest;
use perennial_views::{Epoch, Healed, Plan, Services};

use timely::WorkerConfig;
use timely::communication::WorkerGuards;
use timely::dataflow::operators::Probe as _;
use timely::dataflow::operators::probe::Handle as Probe;
use timely::progress::frontier::AntichainRef;
use timely::worker::Worker;

use super::healing::HealedDelta;
use super::sinks::SinkEvent;
use crate::recording::RecordingError;

/// How long a worker sleeps at most; it is woken for whatever is to do.
const PARK: Duration = Duration::from_millis(250);

/// Updates that an idle arrangement merges at a time, so that rows which are gone leave
/// memory without waiting for others to come.
const IDLE_MERGE_EFFORT: isize = 1000;

/// A view as the workers build it.
#[derive(Clone)]
pub(crate) struct BuiltView {
    pub(crate) plan: Arc<Plan>,
    pub(crate) services: Services,
    /// Indices of the streams.
    pub(crate) data_source: usize,
    pub(crate) context: usize,
}

impl BuiltView {
    /// Whether its answers depend on this stream.
    pub(crate) fn reads(&self, stream: usize) -> bool {
        [self.data_source, self.context].contains(&stream)
    }
}

/// The deltas of one stream that one worker feeds.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamDeltas {
    pub(crate) documents: Vec<(Document, isize)>,
    pub(crate) contexts: Vec<((ContextKey, Arc<str>), isize)>,
}

/// What one worker feeds in one epoch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Share {
    /// By stream.
    pub(crate) streams: Vec<StreamDeltas>,
    /// By view.
    pub(crate) healed: Vec<Vec<HealedDelta>>,
}

/// What the coordinator tells a worker.
pub(crate) enum Command {
    /// Feed these deltas at `epoch` and close it.
    Epoch { epoch: Epoch, share: Share },
    /// Say which sub-paragraphs depend on a document, as far as this worker knows.
    Dependents {
        view: usize,
        document: DocumentKey,
        reply: Sender<Vec<Dependency>>,
    },
    /// End.
    Stop,
}

/// What workers tell the coordinator.
pub(crate) enum Report {
    /// A change of a view's answers.
    Answer {
        view: usize,
        context: ContextKey,
        answer: Answer,
        diff: isize,
    },
    /// An epoch is complete on every worker.
    Complete(Epoch),
    /// An exact answer was computed, or was given up.
    Healed {
        view: usize,
        context: ContextKey,
        healed: Option<Box<Healed>>,
    },
    /// A sink took a delivery, or did not.
    Sink(SinkEvent),
    /// The recording cannot go on.
    RecordingFailed(RecordingError),
    /// A worker ended without being told to.
    Failed,
}

/// The running workers.
pub(crate) struct Workers {
    commands: Vec<mpsc::Sender<Command>>,
    threads: Vec<Thread>,
    guards: Option<WorkerGuards<()>>,
}

impl Workers {
    /// Starts `n_workers` workers, each with every view.
    pub(crate) fn start(
        n_workers: usize,
        n_streams: usize,
        views: Vec<BuiltView>,
        report: impl Fn(Report) + Send + Sync + Clone + 'static,
    ) -> Result<Self, String> {
        let (mut commands, mut receivers) = (Vec::new(), Vec::new());
        for _ in 0..n_workers {
            let (sender, receiver) = mpsc::channel();
            commands.push(sender);
            receivers.push(Mutex::new(Some(receiver)));
        }
        let (thread_sender, thread_receiver) = mpsc::channel();
        let thread_sender = Mutex::new(thread_sender);
        let mut worker = WorkerConfig::default();
        let merging = differential_dataflow::Config::default();
        let merging = merging.idle_merge_effort(Some(IDLE_MERGE_EFFORT));
        differential_dataflow::configure(&mut worker, &merging);
        let config = timely::Config {
            communication: timely::CommunicationConfig::Process(n_workers),
            worker,
        };
        let guards = timely::execute(config, move |worker| {
            let index = worker.index();
            let sender = thread_sender
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            // The receiver lives until every worker has reported.
            let _ = sender.send((index, std::thread::current()));
            let receiver = receivers[index]
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let receiver = receiver.expect("each worker starts once");
            let alarm = Alarm {
                report: report.clone(),
                is_armed: true,
            };
            run(worker, n_streams, &views, &receiver, &report);
            alarm.disarm();
        })?;
        let mut threads: Vec<(usize, Thread)> = thread_receiver.iter().take(n_workers).collect();
        threads.sort_by_key(|(index, _)| *index);
        let threads = threads.into_iter().map(|(_, thread)| thread).collect();
        Ok(Self {
            commands,
            threads,
            guards: Some(guards),
        })
    }

    /// Number of workers.
    pub(crate) fn n_workers(&self) -> usize {
        self.commands.len()
    }

    /// Sends one command to each worker, in order of index.
    pub(crate) fn send(&self, commands: impl IntoIterator<Item = Command>) {
        for ((sender, thread), command) in self.commands.iter().zip(&self.threads).zip(commands) {
            // A worker that is gone has raised its alarm.
            let _ = sender.send(command);
            thread.unpark();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.send((0..self.n_workers()).map(|_| Command::Stop));
        if let Some(guards) = self.guards.take() {
            for result in guards.join() {
                // A panicked worker has raised its alarm already.
                let _ = result;
            }
        }
    }
}

/// Reports a worker that unwinds.
struct Alarm<F: Fn(Report)> {
    report: F,
    is_armed: bool,
}

impl<F: Fn(Report)> Alarm<F> {
    fn disarm(mut self) {
        self.is_armed = false;
    }
}

impl<F: Fn(Report)> Drop for Alarm<F> {
    fn drop(&mut self) {
        if self.is_armed {
            (self.report)(Report::Failed);
        }
    }
}

/// A view's dependencies by document.
type Dependencies = TraceAgent<ValSpine<DocumentKey, Dependency, Epoch, isize>>;

struct Inputs {
    documents: Vec<InputSession<Epoch, Document, isize>>,
    contexts: Vec<InputSession<Epoch, (ContextKey, Arc<str>), isize>>,
    /// By view.
    healed: Vec<InputSession<Epoch, (ContextKey, RequestDigest), isize>>,
    /// By view: the dependency relation, arranged by document.
    dependencies: Vec<Dependencies>,
    probe: Probe<Epoch>,
}

fn build(
    worker: &mut Worker,
    n_streams: usize,
    views: &[BuiltView],
    report: &(impl Fn(Report) + Clone + 'static),
) -> Inputs {
    worker.dataflow(|scope| {
        let probe = Probe::new();
        let (mut documents, mut document_rows) = (Vec::new(), Vec::new());
        let (mut contexts, mut context_rows) = (Vec::new(), Vec::new());
        for _ in 0..n_streams {
            let (input, rows) = scope.new_collection();
            documents.push(input);
            document_rows.push(rows.probe_with(&probe));
            let (input, rows) = scope.new_collection();
            contexts.push(input);
            context_rows.push(rows.probe_with(&probe));
        }
        let (mut healed, mut dependencies) = (Vec::new(), Vec::new());
        for (index, view) in views.iter().enumerate() {
            let report = report.clone();
            let (input, healed_rows) = scope.new_collection();
            healed.push(input);
            let built = perennial_views::dataflow::build(
                scope,
                &view.plan,
                document_rows[view.data_source].clone(),
                context_rows[view.context].clone(),
                healed_rows.probe_with(&probe),
                &view.services,
            );
            let tell = move |context: &ContextKey, answer: &Answer, diff| {
                let (context, answer) = (context.clone(), answer.clone());
                report(Report::Answer {
                    view: index,
                    context,
                    answer,
                    diff,
                });
            };
            built
                .answers
                .inspect(move |((context, answer), _epoch, diff)| tell(context, answer, *diff))
                .probe_with(&probe);
            built.references.probe_with(&probe);
            let by_document = built
                .dependencies
                .map(|dependency| (dependency.document.clone(), dependency))
                .arrange_by_key();
            by_document.stream.clone().probe_with(&probe);
            dependencies.push(by_document.trace);
        }
        Inputs {
            documents,
            contexts,
            healed,
            dependencies,
            probe,
        }
    })
}

fn run(
    worker: &mut Worker,
    n_streams: usize,
    views: &[BuiltView],
    commands: &mpsc::Receiver<Command>,
    report: &(impl Fn(Report) + Clone + 'static),
) {
    let mut inputs = build(worker, n_streams, views, report);
    let mut open: Option<Epoch> = None;
    loop {
        // All of them: one wake-up may stand for several.
        let is_stopped = loop {
            match commands.try_recv() {
                Ok(Command::Epoch { epoch, share }) => {
                    inputs.feed(epoch, share);
                    open = Some(epoch);
                }
                Ok(Command::Dependents {
                    view,
                    document,
                    reply,
                }) => {
                    let until = open.unwrap_or(Epoch::MAX);
                    let found = dependents(&mut inputs.dependencies[view], &document, until);
                    // A caller that no longer waits is no error.
                    let _ = reply.send(found);
                }
                Ok(Command::Stop) | Err(mpsc::TryRecvError::Disconnected) => break true,
                Err(mpsc::TryRecvError::Empty) => break false,
            }
        };
        if is_stopped {
            break;
        }
        if let Some(epoch) = open
            && !inputs.probe.less_equal(&epoch)
        {
            open = None;
            inputs.compact(epoch);
            // The frontier is the same everywhere: one worker speaks for all.
            if worker.index() == 0 {
                report(Report::Complete(epoch));
            }
        }
        worker.step_or_park(Some(PARK));
    }
    // Calls still under way are cancelled with the operators that wait for them.
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
}

/// The rows of one document as of the epochs before `until`.
fn dependents(trace: &mut Dependencies, document: &DocumentKey, until: Epoch) -> Vec<Dependency> {
    let (mut cursor, storage) = trace.cursor();
    let mut found = Vec::new();
    cursor.seek_key(&storage, document);
    if cursor.get_key(&storage) != Some(document) {
        return found;
    }
    while let Some(dependency) = cursor.get_val(&storage) {
        let mut count = 0;
        cursor.map_times(&storage, |time, diff| {
            count += if *time < until { *diff } else { 0 };
        });
        if count > 0 {
            found.push(dependency.clone());
        }
        cursor.step_val(&storage);
    }
    found
}

impl Inputs {
    /// Lets what is known of the dependencies as of a complete epoch merge: it counts as of
    /// that epoch then, which is before the next.
    fn compact(&mut self, epoch: Epoch) {
        for trace in &mut self.dependencies {
            trace.set_logical_compaction(AntichainRef::new(&[epoch]));
            trace.set_physical_compaction(AntichainRef::new(&[epoch + 1]));
        }
    }

    fn feed(&mut self, epoch: Epoch, share: Share) {
        // The first epoch is not 0 where an earlier process has gone before.
        self.advance_to(epoch);
        for (index, deltas) in share.streams.into_iter().enumerate() {
            for (document, diff) in deltas.documents {
                self.documents[index].update(document, diff);
            }
            for (context, diff) in deltas.contexts {
                self.contexts[index].update(context, diff);
            }
        }
        for (input, deltas) in self.healed.iter_mut().zip(share.healed) {
            for (row, diff) in deltas {
                input.update(row, diff);
            }
        }
        self.advance_to(epoch + 1);
    }

    fn advance_to(&mut self, epoch: Epoch) {
        for input in &mut self.documents {
            input.advance_to(epoch);
            input.flush();
        }
        for input in &mut self.contexts {
            input.advance_to(epoch);
            input.flush();
        }
        for input in &mut self.healed {
            input.advance_to(epoch);
            input.flush();
        }
    }
}
