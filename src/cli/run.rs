//! `perennial run`: a script of SQL, carried out, and its views kept right.

use std::io::{self, Read as _};
use std::process::ExitCode;

use perennial::sql::{self, CreateModel, Outcome, Script, Session, Spanned, Statement};
use perennial::{Engine, EngineBuilder, Runtime};

use super::args::{EngineArgs, ModelArgs, RunArgs};
use super::failure::Failure;
use super::follow::{Course, Display, Ending, Feed, Followed, Next, follow};
use super::interrupt::Interrupt;
use super::json::JsonLines;
use super::live::Live;
use super::opening;
use super::paint::Paint;
use super::refusals::Refusals;
use super::report::EpochReport;
use super::screen::Screen;
use super::told::Teller;
use super::traces::Traces;
use super::watch::undelivered;
use super::wording;

/// Bytes of a script.
const MAX_SCRIPT: u64 = 16 << 20;

/// Runs the command.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let interrupt = Interrupt::listen()?;
    let script = read(&args.script)?;
    let statements = parse(&script)?;
    let live = Live::new(args.json);
    let first = sql::first_model(&statements);
    opening::check_script(first, &args.model)?;
    opening::check_names(&script, &statements)?;
    opening::check_state(args.engine.state.as_deref())?;
    let is_asked = statements.iter().any(|one| one.of.may_ask());
    let mut open = opener(is_asked, &args.model, &live);
    let opened_by = match first {
        Some(model) => model.opened_by(),
        None => opening::opened_by(&args.model).into(),
    };
    // It ends after the session, so that all is sent.
    let traces = Traces::of_environment(&live);
    let runtime = opening::with_embedder(open(first)?, &args.model.embedder, &live)?;
    let builder = declared(Engine::builder(runtime), &args.engine).held();
    let builder = traces.follow(builder);
    let session = Session::new(builder.start()?, opened_by)
        .held()
        .opening(move |model| Ok(open(Some(model))?));
    let session = match args.once {
        true => session.once(),
        false => session,
    };
    let teller = Teller {
        live: live.clone(),
        is_json: args.json,
        is_talkative: false,
        width: width(),
    };
    // Who follows a view hears of them with its changes.
    let follows = |one: &Spanned<Statement>| {
        matches!(
            one.of,
            Statement::Subscribe(_) | Statement::CreateContinuousView(_)
        )
    };
    let mut refusals = match statements.iter().any(follows) {
        true => None,
        false => Some(Refusals::from_now_on(
            session.engine().clone(),
            live.clone(),
            args.json,
        )?),
    };
    let feeds = carry_out(&session, &script, &statements, (&teller, &mut refusals))?;
    let is_source = |one: &&Spanned<Statement>| matches!(one.of, Statement::CreateSource(_));
    let n_sources = statements.iter().filter(is_source).count();
    let followed = Followed {
        engine: session.engine(),
        feeds: &feeds,
        // That a source has ended is heard from a view; without one, what it had is waited for.
        n_sources: match feeds.is_empty() && args.once {
            true => 0,
            false => n_sources,
        },
    };
    if feeds.is_empty() {
        // There is no answer to wait for: an interruption is the normal end.
        interrupt.ends_with(0);
    }
    let mut course = Running {
        is_once: args.once,
        interrupt: interrupt.clone(),
        refusals,
    };
    let stdout = io::stdout();
    interrupt.watch();
    let ending = if args.json {
        let mut lines = JsonLines::new(stdout.lock(), args.progress);
        follow(&followed, &mut lines, &mut course, &interrupt)?
    } else {
        let paint = Paint::of(&console::Term::stdout(), args.engine.color);
        let mut screen = Screen::new(stdout.lock(), paint, live.clone());
        if feeds.len() > 1 {
            screen = screen.naming_views();
        }
        let ending = follow(&followed, &mut screen, &mut course, &interrupt)?;
        if let Some(totals) = wording::totals(screen.totals()) {
            live.say(&totals);
        }
        ending
    };
    if let Some(refusals) = &mut course.refusals {
        refusals.tell(&mut io::stdout())?;
    }
    let mut failed = None;
    if matches!(ending, Ending::Finished) {
        if args.once {
            failed = broken(session.engine())?;
        }
        if args.once && failed.is_none() {
            failed = unanswered(session.engine(), &feeds)?;
        }
        if failed.is_none() {
            failed = undelivered(session.engine(), args.engine.state.is_some())?;
        }
    }
    // The engine ends with the last of them.
    drop((session, course));
    match (ending, failed) {
        (Ending::Interrupted, _) => Ok(ExitCode::from(interrupt.exit_code())),
        (Ending::Finished, Some(failure)) => Err(failure),
        (Ending::Finished, None) => Ok(ExitCode::SUCCESS),
    }
}

/// A script by its path; `-` is standard input.
///
/// # Errors
/// What cannot be read, is no text, or is too long.
pub(crate) fn read(path: &std::path::Path) -> Result<Script, Failure> {
    let is_stdin = path == std::path::Path::new("-");
    let name = if is_stdin {
        "stdin".to_owned()
    } else {
        path.display().to_string()
    };
    let cannot = || Failure::io(format!("read {name}"));
    let input: Box<dyn io::Read> = match is_stdin {
        true => Box::new(io::stdin()),
        false => Box::new(std::fs::File::open(path).map_err(cannot())?),
    };
    let mut text = String::new();
    let n_bytes = input.take(MAX_SCRIPT + 1).read_to_string(&mut text);
    if n_bytes.map_err(cannot())? as u64 > MAX_SCRIPT {
        let what = format!("{name} has more than {} MiB", MAX_SCRIPT >> 20);
        return Err(Failure::usage(what, "rows in bulk come from a source"));
    }
    Ok(Script::new(name, text))
}

/// The statements of a script that is carried out from the start: what is wrong with names, columns and types
/// is said before a model is opened.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn parse(script: &Script) -> Result<Vec<Spanned<Statement>>, Failure> {
    let statements = sql::parse(script).map_err(|errors| Failure::Script { errors })?;
    sql::check(script, &statements)?;
    Ok(statements)
}

/// Opens models for statements, that of `--model` where none is given: such as say nothing, where
/// nobody will ask them.
pub(crate) fn opener(
    is_asked: bool,
    args: &ModelArgs,
    live: &Live,
) -> impl FnMut(Option<&CreateModel>) -> Result<Runtime, Failure> + use<> {
    let (args, live) = (args.clone(), live.clone());
    move |model| match (is_asked, model) {
        (true, Some(model)) => Ok(opening::open_created(model, &args, &live)?.runtime),
        (true, None) => Ok(opening::open(&args, &live)?.runtime),
        // Nobody asks it, but a name that is none is told all the same. A memory has texts embedded.
        (false, model) => {
            opening::check_name(model.map_or(args.spec(), |model| &model.spec.of))?;
            opening::embedding(args.cache.as_deref(), &live)
        }
    }
}

/// An engine as the options want it.
pub(crate) fn declared(builder: EngineBuilder, args: &EngineArgs) -> EngineBuilder {
    let mut builder = builder.workers(args.workers);
    if let Some(dir) = &args.state {
        builder = builder.state(dir).fragments_on_disk(args.disk.0 as u64);
    }
    if let Some(cost) = args.cost_per_hour {
        builder = builder.cost_per_hour(cost);
    }
    match args.history {
        Some(n_epochs) => builder.history(n_epochs),
        None => builder,
    }
}

/// Columns of the terminal that rows are shown on.
pub(crate) fn width() -> Option<u16> {
    let terminal = console::Term::stdout();
    terminal.is_term().then(|| terminal.size().1)
}

/// Carries the statements out, and returns the views to be shown.
fn carry_out(
    session: &Session,
    script: &Script,
    statements: &[Spanned<Statement>],
    (teller, refusals): (&Teller, &mut Option<Refusals>),
) -> Result<Vec<Feed>, Failure> {
    let is_subscription = |one: &Spanned<Statement>| matches!(one.of, Statement::Subscribe(_));
    let has_chosen = statements.iter().any(is_subscription);
    session.check(script, statements)?;
    let mut feeds = Vec::new();
    for statement in statements {
        let outcome = session.execute(script, statement)?;
        let mut stdout = io::stdout().lock();
        teller
            .tell(&mut stdout, &outcome)
            .map_err(Failure::output)?;
        if let (Outcome::Rows { .. }, Some(refusals)) = (&outcome, refusals.as_mut()) {
            refusals.tell(&mut stdout)?;
        }
        if let Outcome::Subscription {
            view,
            updates,
            after,
            ..
        } = outcome
        {
            let columns = session.engine().snapshot(&view)?.schema;
            feeds.push(Feed {
                view,
                updates,
                after,
                columns,
            });
            continue;
        }
        if let (false, Statement::CreateContinuousView(view)) = (has_chosen, &statement.of) {
            // At once: an update that comes before is not missed.
            let updates = session.engine().subscribe(&view.name.of)?;
            // Rows have columns; answers need none.
            let columns = match view.share() {
                Some(_) => session.engine().snapshot(&view.name.of)?.schema,
                None => Default::default(),
            };
            feeds.push(Feed {
                view: view.name.of.clone(),
                updates,
                after: None,
                columns,
            });
        }
    }
    session.release()?;
    Ok(feeds)
}

/// A source that has failed, if any has: without a view nobody heard of it.
fn broken(engine: &Engine) -> Result<Option<Failure>, Failure> {
    let mut relations = engine.relations()?.into_iter();
    Ok(relations.find_map(|relation| {
        let message = relation.failure?.to_string();
        let source_name = relation.name.to_string();
        Some(Failure::SourceFailed {
            source_name,
            message,
        })
    }))
}

/// What of these views has no answer in the end, if anything has none.
fn unanswered(engine: &Engine, feeds: &[Feed]) -> Result<Option<Failure>, Failure> {
    let (mut n_asked, mut reasons) = (0, Vec::new());
    for feed in feeds {
        let answers = match engine.answers(&feed.view) {
            // A query has rows, and no answers.
            Err(perennial::Error::NotAnswers { .. }) => continue,
            answers => answers?,
        };
        n_asked += answers.len();
        let answers = answers.into_iter();
        reasons.extend(answers.filter_map(|(_, current)| current.answer.err()));
    }
    let n_failed = reasons.len();
    Ok(reasons
        .into_iter()
        .next()
        .map(|reason| Failure::NotAnswered {
            n_failed,
            n_asked,
            reason,
        }))
}

/// Goes on until told otherwise, or until all sources have ended.
struct Running {
    is_once: bool,
    interrupt: Interrupt,
    /// What is refused, where no view tells of it.
    refusals: Option<Refusals>,
}

impl<D: Display> Course<D> for Running {
    fn after(&mut self, _report: &EpochReport, _display: &mut D) -> Result<Next, Failure> {
        if !self.is_once {
            // There is an answer: from here on, an interruption is the normal end.
            self.interrupt.ends_with(0);
        }
        Ok(Next::GoOn)
    }

    fn idle(&mut self, _is_under_way: bool) -> Result<Next, Failure> {
        if let Some(refusals) = &mut self.refusals {
            refusals.tell_in_time(&mut io::stdout())?;
        }
        Ok(Next::GoOn)
    }
}
