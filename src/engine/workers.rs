//! The dataflow workers: threads that step timely and compute nothing slow.
//!
//! Each view has a dataflow of its own, with its own inputs and its own frontier: views come and
//! go while others run, and none waits for another. What a view reads of another reaches it
//! through the coordinator, as rows of an epoch that is complete.

use std::collections::BTreeMap;
use std::rc::Rc;
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
use perennial_ask::{Answer, Dependency, Measured};
use perennial_bank::{ContextKey, Document, DocumentKey};
use perennial_rows::Tuple;
use perennial_views::memo::RequestDigest;
use perennial_views::query::Query;
use perennial_views::{Asking, Epoch, Healed, Measures, Plan, Services};

use timely::WorkerConfig;
use timely::communication::WorkerGuards;
use timely::dataflow::operators::Probe as _;
use timely::dataflow::operators::probe::Handle as Probe;
use timely::progress::frontier::AntichainRef;
use timely::worker::Worker;

use super::healing::HealedDelta;
use super::merging::{Merges, Operators, Rest};
use super::names::ViewId;
use super::sinks::SinkEvent;
use crate::recording::RecordingError;

/// How long a worker sleeps at most; it is woken for whatever is to do.
const PARK: Duration = Duration::from_millis(250);

/// A view as the workers build it.
#[derive(Clone)]
pub(crate) enum DeclaredView {
    /// Asks a model.
    Generate {
        plan: Arc<Plan>,
        services: Box<Services>,
    },
    /// Keeps the result of a query.
    Query {
        query: Arc<Query>,
        /// Whom it asks, if it asks a model.
        asking: Option<Asking>,
        /// Where it is counted what its operators do.
        measures: Arc<Measures>,
    },
}

/// What one worker feeds to one view.
#[derive(Clone, Debug)]
pub(crate) enum Share {
    /// Of one that asks a model.
    Generate(GenerateShare),
    /// Of a query: by input.
    Query(Vec<Vec<(Tuple, isize)>>),
}

/// Documents, contexts, and requests whose exact answer is wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct GenerateShare {
    /// With the values that contexts must have to see them.
    pub(crate) documents: Vec<(Grouped<Document>, isize)>,
    pub(crate) contexts: Vec<(Grouped<Question>, isize)>,
    pub(crate) healed: Vec<HealedDelta>,
}

/// A context and its text.
type Question = (ContextKey, Arc<str>);

/// A row with the values by which documents and contexts meet; none where all meet.
pub(crate) type Grouped<D> = (Tuple, D);

/// What the coordinator tells a worker.
pub(crate) enum Command {
    /// Build the dataflow of a view.
    Build {
        view: ViewId,
        declared: DeclaredView,
    },
    /// Drop it.
    Drop { view: ViewId },
    /// Feed this to a view at `epoch` and close it.
    Epoch {
        view: ViewId,
        epoch: Epoch,
        share: Share,
    },
    /// All that a view says reflects this epoch.
    Completed { view: ViewId, epoch: Epoch },
    /// Say which sub-paragraphs depend on a document, as far as this worker knows.
    Dependents {
        view: ViewId,
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
        view: ViewId,
        context: ContextKey,
        answer: Answer,
        diff: isize,
    },
    /// A change of how many passages contexts with these values may see, where these are not all read.
    Passages {
        view: ViewId,
        group: Tuple,
        n: isize,
        diff: isize,
    },
    /// A change of a query's result.
    Tuple {
        view: ViewId,
        tuple: Tuple,
        diff: isize,
    },
    /// An epoch of a view is complete on every worker.
    Complete { view: ViewId, epoch: Epoch },
    /// A call of a view that tells each answer has ended.
    Refreshed { view: ViewId, context: ContextKey },
    /// An exact answer was computed, or was given up.
    Healed {
        view: ViewId,
        context: ContextKey,
        healed: Option<Box<Healed>>,
    },
    /// What an answer depends on was measured, or that was given up.
    Measured {
        view: ViewId,
        context: ContextKey,
        measured: Option<Box<Measured>>,
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
    /// Starts `n_workers` workers without views.
    pub(crate) fn start(
        n_workers: usize,
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
        let rest = Rest::new();
        rest.configure(&mut worker);
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
            run(worker, &receiver, &rest, &report);
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
type DependencyTrace = TraceAgent<ValSpine<DocumentKey, Dependency, Epoch, isize>>;

/// The dataflow of one view on one worker.
struct RunningView {
    /// Number of the dataflow.
    dataflow: usize,
    operators: Operators,
    inputs: Inputs,
    probe: Probe<Epoch>,
    /// The newest epoch that is being worked on. One that is fed beside it takes its place: only
    /// of the newest it is of interest that all up to it is done.
    open: Option<Epoch>,
    /// The last epoch that is complete everywhere.
    complete: Option<Epoch>,
}

/// Where a view is fed.
enum Inputs {
    Generate(Box<GenerateInputs>),
    Query(Vec<InputSession<Epoch, Tuple, isize>>),
}

/// Where a view that asks a model is fed, and what is read of it.
struct GenerateInputs {
    documents: InputSession<Epoch, Grouped<Document>, isize>,
    contexts: InputSession<Epoch, Grouped<Question>, isize>,
    healed: InputSession<Epoch, (ContextKey, RequestDigest), isize>,
    /// The dependency relation, arranged by document.
    dependencies: DependencyTrace,
}

fn run(
    worker: &mut Worker,
    commands: &mpsc::Receiver<Command>,
    rest: &Rest,
    report: &(impl Fn(Report) + Clone + 'static),
) {
    let mut views: BTreeMap<ViewId, RunningView> = BTreeMap::new();
    let mut merges = Merges::new(rest.clone());
    loop {
        // All of them: one wake-up may stand for several.
        let is_stopped = loop {
            match commands.try_recv() {
                Ok(Command::Build { view, declared }) => {
                    views.insert(view, RunningView::build(worker, view, &declared, report));
                }
                Ok(Command::Drop { view }) => {
                    if let Some(view) = views.remove(&view) {
                        worker.drop_dataflow(view.dataflow);
                    }
                }
                Ok(Command::Epoch { view, epoch, share }) => {
                    if let Some(view) = views.get_mut(&view) {
                        rest.disturb();
                        view.feed(epoch, share);
                    }
                }
                Ok(Command::Completed { view, epoch }) => {
                    if let Some(view) = views.get_mut(&view) {
                        view.note_complete(epoch);
                    }
                }
                Ok(Command::Dependents {
                    view,
                    document,
                    reply,
                }) => {
                    let view = views.get_mut(&view);
                    let found = view.map(|view| view.dependents(&document));
                    // A caller that no longer waits is no error.
                    let _ = reply.send(found.unwrap_or_default());
                }
                Ok(Command::Stop) | Err(mpsc::TryRecvError::Disconnected) => break true,
                Err(mpsc::TryRecvError::Empty) => break false,
            }
        };
        if is_stopped {
            break;
        }
        for (view, running) in &mut views {
            let Some(epoch) = running.take_complete() else {
                continue;
            };
            rest.disturb();
            // The frontier is the same everywhere: one worker speaks for all.
            if worker.index() == 0 {
                report(Report::Complete { view: *view, epoch });
            }
        }
        merges.go_on(worker, views.values().map(|view| &view.operators));
        worker.step_or_park(Some(PARK));
    }
    // Calls still under way are cancelled with the operators that wait for them.
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
}

impl RunningView {
    fn build(
        worker: &mut Worker,
        id: ViewId,
        declared: &DeclaredView,
        report: &(impl Fn(Report) + Clone + 'static),
    ) -> Self {
        let dataflow = worker.next_dataflow_index();
        let (probe, report) = (Probe::new(), report.clone());
        let (inputs, operators) = match declared {
            DeclaredView::Generate { plan, services } => {
                let (inputs, operators) = generate(worker, id, plan, services, &probe, report);
                (Inputs::Generate(Box::new(inputs)), operators)
            }
            DeclaredView::Query {
                query: declared,
                asking,
                measures,
            } => {
                let asked = (asking.as_ref(), &**measures);
                let (inputs, operators) = query(worker, id, declared, asked, &probe, report);
                (Inputs::Query(inputs), operators)
            }
        };
        Self {
            dataflow,
            operators,
            inputs,
            probe,
            open: None,
            complete: None,
        }
    }

    fn feed(&mut self, epoch: Epoch, share: Share) {
        // The first epoch is not 0 where others have gone before.
        self.inputs.advance_to(epoch);
        match (&mut self.inputs, share) {
            (Inputs::Generate(inputs), Share::Generate(share)) => {
                for (document, diff) in share.documents {
                    inputs.documents.update(document, diff);
                }
                for (context, diff) in share.contexts {
                    inputs.contexts.update(context, diff);
                }
                for (row, diff) in share.healed {
                    inputs.healed.update(row, diff);
                }
            }
            (Inputs::Query(inputs), Share::Query(shares)) => {
                for (input, tuples) in inputs.iter_mut().zip(shares) {
                    for (tuple, diff) in tuples {
                        input.update(tuple, diff);
                    }
                }
            }
            _ => unreachable!("a view is fed with what it reads"),
        }
        self.inputs.advance_to(epoch + 1);
        self.open = Some(epoch);
    }

    /// The epoch that was being worked on, if it is complete by now.
    fn take_complete(&mut self) -> Option<Epoch> {
        self.open.take_if(|epoch| !self.probe.less_equal(epoch))
    }

    /// Notes that an epoch is complete on every worker, and nobody asks for those before it.
    fn note_complete(&mut self, epoch: Epoch) {
        self.complete = Some(epoch);
        if let Inputs::Generate(inputs) = &mut self.inputs {
            let trace = &mut inputs.dependencies;
            trace.set_logical_compaction(AntichainRef::new(&[epoch]));
            trace.set_physical_compaction(AntichainRef::new(&[epoch + 1]));
        }
    }

    /// The dependencies on one document as of the last complete epoch.
    fn dependents(&mut self, document: &DocumentKey) -> Vec<Dependency> {
        let mut found = Vec::new();
        let (Inputs::Generate(inputs), Some(complete)) = (&mut self.inputs, self.complete) else {
            return found;
        };
        let (mut cursor, storage) = inputs.dependencies.cursor();
        cursor.seek_key(&storage, document);
        if cursor.get_key(&storage) != Some(document) {
            return found;
        }
        while let Some(dependency) = cursor.get_val(&storage) {
            let mut count = 0;
            cursor.map_times(&storage, |time, diff| {
                count += if *time <= complete { *diff } else { 0 };
            });
            if count > 0 {
                found.push(dependency.clone());
            }
            cursor.step_val(&storage);
        }
        found
    }
}

impl Inputs {
    fn advance_to(&mut self, epoch: Epoch) {
        match self {
            Self::Generate(inputs) => {
                inputs.documents.advance_to(epoch);
                inputs.documents.flush();
                inputs.contexts.advance_to(epoch);
                inputs.contexts.flush();
                inputs.healed.advance_to(epoch);
                inputs.healed.flush();
            }
            Self::Query(inputs) => {
                for input in inputs {
                    input.advance_to(epoch);
                    input.flush();
                }
            }
        }
    }
}

/// The dataflow of a view that asks a model.
fn generate(
    worker: &mut Worker,
    view: ViewId,
    plan: &Arc<Plan>,
    services: &Services,
    probe: &Probe<Epoch>,
    report: impl Fn(Report) + 'static,
) -> (GenerateInputs, Operators) {
    worker.dataflow(|scope| {
        let (documents, document_rows) = scope.new_collection();
        let (contexts, context_rows) = scope.new_collection();
        let (healed, healed_rows) = scope.new_collection();
        let built = perennial_views::dataflow::build(
            plan,
            document_rows.probe_with(probe),
            context_rows.probe_with(probe),
            healed_rows.probe_with(probe),
            services,
        );
        let report = Rc::new(report);
        let tell_passages = {
            let report = report.clone();
            move |group: &Tuple, n, diff| {
                let group = group.clone();
                report(Report::Passages {
                    view,
                    group,
                    n,
                    diff,
                });
            }
        };
        built
            .n_passages
            .inspect(move |((group, n), _epoch, diff)| tell_passages(group, *n, *diff))
            .probe_with(probe);
        let tell = move |context: &ContextKey, answer: &Answer, diff| {
            let (context, answer) = (context.clone(), answer.clone());
            report(Report::Answer {
                view,
                context,
                answer,
                diff,
            });
        };
        built
            .answers
            .inspect(move |((context, answer), _epoch, diff)| tell(context, answer, *diff))
            .probe_with(probe);
        built.references.probe_with(probe);
        let by_document = built
            .dependencies
            .map(|dependency| (dependency.document.clone(), dependency))
            .arrange_by_key();
        by_document.stream.clone().probe_with(probe);
        let inputs = GenerateInputs {
            documents,
            contexts,
            healed,
            dependencies: by_document.trace,
        };
        (inputs, Operators::so_far(scope))
    })
}

/// The dataflow of a query.
fn query(
    worker: &mut Worker,
    view: ViewId,
    query: &Query,
    (asking, measures): (Option<&Asking>, &Measures),
    probe: &Probe<Epoch>,
    report: impl Fn(Report) + 'static,
) -> (Vec<InputSession<Epoch, Tuple, isize>>, Operators) {
    worker.dataflow(|scope| {
        let (mut inputs, mut rows) = (Vec::new(), Vec::new());
        for _ in query.inputs() {
            let (input, of_input) = scope.new_collection();
            inputs.push(input);
            rows.push(of_input.probe_with(probe));
        }
        let tell = move |tuple: &Tuple, diff| {
            let tuple = tuple.clone();
            report(Report::Tuple { view, tuple, diff });
        };
        perennial_views::render::render(scope, query, rows, asking, Some(measures))
            .inspect(move |(tuple, _epoch, diff)| tell(tuple, *diff))
            .probe_with(probe);
        (inputs, Operators::so_far(scope))
    })
}
