//! `perennial watch`: a question over documents, answered now and kept right.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use perennial::ask::CallError;
use perennial::rows::Schema;
use perennial::{Engine, EngineBuilder, View};

use super::args::WatchArgs;
use super::failure::Failure;
use super::follow::{Course, Display, Ending, Feed, Followed, Next, follow};
use super::inputs::Inputs;
use super::interrupt::Interrupt;
use super::json::JsonLines;
use super::listen;
use super::live::Live;
use super::opening::{self, OpenedModel, VIEW};
use super::paint::Paint;
use super::report::EpochReport;
use super::screen::Screen;
use super::wording;

/// Streams of the program's view: documents and questions.
const N_STREAMS: usize = 2;
/// How long `--once` waits for sinks.
const DELIVERY: Duration = Duration::from_secs(10);

/// Runs the command.
pub(crate) fn run(args: &WatchArgs) -> Result<ExitCode, Failure> {
    let interrupt = Interrupt::listen()?;
    let inputs = Inputs::of(args)?;
    opening::check_state(args.state.as_deref())?;
    let live = Live::new(args.json);
    let view = opening::view(&args.view);
    let mut watch = Watch::start(
        &inputs,
        view,
        |mut builder| {
            builder = builder.workers(args.view.workers);
            if let Some(dir) = &args.state {
                builder = builder.state(dir).fragments_on_disk(args.disk.0 as u64);
            }
            if let Some(n_epochs) = args.history {
                builder = builder.history(n_epochs);
            }
            match &args.record {
                Some(path) => builder.record(path),
                None => builder,
            }
        },
        || opening::open_whole(&args.model.or_best(), &live),
    )?;
    let mut course = Watching {
        is_once: args.once,
        interrupt: interrupt.clone(),
        failed: None,
    };
    let stdout = io::stdout();
    let ending = if args.json {
        let mut lines = JsonLines::new(stdout.lock(), args.progress);
        for (stream, message) in &watch.invitations {
            lines.notice(stream, message).map_err(Failure::output)?;
        }
        watch.follow(&mut lines, &mut course, &interrupt)?
    } else {
        let paint = Paint::of(&console::Term::stdout(), args.color);
        let mut screen = Screen::new(stdout.lock(), paint, live.clone());
        let (model, paths) = (&watch.model_name, inputs.paths());
        let hint = if args.once { "" } else { " · Ctrl-C ends" };
        live.say(&format!("{model} over {paths}{hint}"));
        for (_, message) in &watch.invitations {
            live.say(message);
        }
        let ending = watch.follow(&mut screen, &mut course, &interrupt)?;
        if let Some(totals) = wording::totals(screen.totals()) {
            live.say(&totals);
        }
        ending
    };
    if args.once && matches!(ending, Ending::Finished) && course.failed.is_none() {
        course.failed = undelivered(&watch.engine, args.state.is_some())?;
    }
    drop(watch);
    match (ending, course.failed) {
        (Ending::Interrupted, _) => Ok(ExitCode::from(interrupt.exit_code())),
        (Ending::Finished, Some(failure)) if args.once => Err(failure),
        (Ending::Finished, _) => Ok(ExitCode::SUCCESS),
    }
}

/// A running view with its subscription. The gate of its questions is still closed.
pub(crate) struct Watch {
    /// What the model is called.
    pub(crate) model_name: String,
    /// By stream: where its records may be posted, in words.
    invitations: Vec<(&'static str, String)>,
    engine: Engine,
    feed: Feed,
    gate: Option<super::inputs::Gate>,
}

impl Watch {
    /// Opens the inputs, then the model (so that a misspelt path is told at once), and
    /// starts the engine, with what else `declare` asks for.
    ///
    /// # Errors
    /// Whatever cannot be opened or started.
    pub(crate) fn start(
        inputs: &Inputs,
        view: View,
        declare: impl FnOnce(EngineBuilder) -> EngineBuilder,
        open: impl FnOnce() -> Result<OpenedModel, Failure>,
    ) -> Result<Self, Failure> {
        let listener = inputs.listener()?;
        let documents = inputs.documents(listener.as_ref())?;
        let (questions, gate) = inputs.questions(listener.as_ref())?;
        let sinks = inputs.sinks()?;
        let model = open()?;
        let mut builder = Engine::builder(model.runtime)
            .source(documents)
            .source(questions)
            .view(view);
        for sink in sinks {
            builder = builder.sink(VIEW, sink);
        }
        let engine = declare(builder).start()?;
        Ok(Self {
            model_name: model.name,
            invitations: listener
                .iter()
                .flat_map(|l| listen::invitations(l, inputs))
                .collect(),
            feed: Feed {
                view: VIEW.into(),
                updates: engine.subscribe(VIEW)?,
                after: None,
                columns: Schema::default(),
            },
            engine,
            gate: Some(gate),
        })
    }

    /// Lets the first epoch begin, and shows updates until the end.
    ///
    /// # Errors
    /// See [`follow`].
    pub(crate) fn follow<D: Display>(
        &mut self,
        display: &mut D,
        course: &mut impl Course<D>,
        interrupt: &Interrupt,
    ) -> Result<Ending, Failure> {
        interrupt.watch();
        if let Some(gate) = self.gate.take() {
            gate.open();
        }
        let followed = Followed {
            engine: &self.engine,
            feeds: std::slice::from_ref(&self.feed),
            n_sources: N_STREAMS,
        };
        follow(&followed, display, course, interrupt)
    }
}

/// Waits a while until the sinks have what is complete. Why they do not, otherwise.
pub(crate) fn undelivered(engine: &Engine, is_kept: bool) -> Result<Option<Failure>, Failure> {
    let until = Instant::now() + DELIVERY;
    loop {
        let Some((sink, _)) = engine.undelivered()?.into_iter().next() else {
            return Ok(None);
        };
        if Instant::now() >= until {
            return Ok(Some(Failure::NotDelivered { sink, is_kept }));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Goes on until told otherwise; `--once` until the first answers.
struct Watching {
    is_once: bool,
    interrupt: Interrupt,
    /// Why `--once` fails, if it does.
    failed: Option<Failure>,
}

impl<D> Course<D> for Watching {
    fn after(&mut self, report: &EpochReport, _display: &mut D) -> Result<Next, Failure> {
        if !self.is_once {
            // There is an answer: from here on, an interruption is the normal end.
            self.interrupt.ends_with(0);
            return Ok(Next::GoOn);
        }
        self.failed = not_answered(report);
        Ok(Next::Finish)
    }
}

/// Why some questions of an epoch have no answer, if any has none.
fn not_answered(report: &EpochReport) -> Option<Failure> {
    let answers = report.answers.iter();
    let reasons = answers.filter_map(|update| update.new.as_ref()?.as_ref().err());
    let reasons: Vec<&CallError> = reasons.collect();
    Some(Failure::NotAnswered {
        n_failed: reasons.len(),
        n_asked: report.answers.len(),
        reason: (*reasons.first()?).clone(),
    })
}
