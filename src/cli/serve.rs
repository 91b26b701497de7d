//! `perennial serve`: a script of SQL, carried out and served over HTTP until it is told to end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use perennial::serve::{Limits, Served, Server, ServerOptions, Tokens, console};
use perennial::sql::{self, Outcome, Script, Session, Spanned, Statement};
use perennial::{Engine, engine};

use super::args::{EngineArgs, ModelArgs, ServeArgs};
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::live::Live;
use super::opening;
use super::run::{declared, parse, read};
use super::traces::Traces;
use super::watch::undelivered;

/// How often it is looked whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Runs the command.
pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode, Failure> {
    let interrupt = Interrupt::listen()?;
    let script = match &args.script {
        Some(path) => read(path)?,
        None => Script::new("nothing", ""),
    };
    let statements = parse(&script)?;
    // Before a model is opened, which takes its time.
    let tokens = args.token_file.as_ref().map(Tokens::open).transpose()?;
    let live = Live::new(false);
    let said = live.clone();
    let mut options = ServerOptions::at(&args.listen).saying(move |what| said.say(what));
    options.tokens = tokens.map(Arc::new);
    options.besides.pages = Some(console::pages());
    options.tls = args.tls_cert.clone().zip(args.tls_key.clone());
    options.bind()?;
    let mut limits = Limits::default();
    limits.connections = args.connections;
    limits.peer_connections = args.peer_connections;
    limits.rate = args.rate;
    limits.burst = args.rate.saturating_mul(2);
    args.asking.set(&mut limits);
    // It ends after what is served, so that all is sent.
    let traces = Traces::of_environment(&live);
    let (served, name) = carried_out(
        &script,
        &statements,
        (&args.engine, &traces),
        &args.model,
        limits,
        &live,
    )?;
    #[cfg(feature = "mcp")]
    {
        options.besides.guarded = Some(perennial::mcp::router(&served));
    }
    let server = Server::start(served.clone(), options)?;
    live.say(&format!("{name} · serving at {}", server.url()));
    // From here on there is something to end in order.
    interrupt.ends_with(0);
    interrupt.watch();
    while !interrupt.is_raised() {
        if let Some(reason) = served.engine().failure() {
            return Err(engine::Error::Stopped { reason }.into());
        }
        std::thread::sleep(LOOK);
    }
    drop(server);
    match undelivered(served.engine(), args.engine.state.is_some())? {
        Some(failure) => Err(failure),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Opens the model of a script, and carries the script out. Returns what is served, and what the model is
/// called.
///
/// # Errors
/// What the model, the engine or a statement says.
pub(crate) fn carried_out(
    script: &Script,
    statements: &[Spanned<Statement>],
    (engine_args, traces): (&EngineArgs, &Traces),
    model_args: &ModelArgs,
    limits: Limits,
    live: &Live,
) -> Result<(Arc<Served>, String), Failure> {
    let (first, model_args) = (sql::first_model(statements), model_args.clone());
    opening::check_script(first, &model_args)?;
    opening::check_names(script, statements)?;
    opening::check_state(engine_args.state.as_deref())?;
    let (opened, opened_by) = match first {
        Some(model) => {
            let opened = opening::open_created(model, &model_args, live)?;
            (opened, model.opened_by())
        }
        None => (
            opening::open(&model_args, live)?,
            opening::opened_by(&model_args).into(),
        ),
    };
    let runtime = opening::with_embedder(opened.runtime, &model_args.embedder, live)?;
    let engine = declared(Engine::builder(runtime), engine_args).held();
    let engine = traces.follow(engine);
    let opening_live = live.clone();
    let session = Session::new(engine.start()?, opened_by)
        .held()
        .opening(move |model| {
            let opened = opening::open_created(model, &model_args, &opening_live)?;
            Ok(opened.runtime)
        });
    let served = Served::over(session, limits);
    served.declare(script, statements, |outcome| {
        if let Outcome::Created {
            notice: Some(notice),
            ..
        } = outcome
        {
            live.say(notice);
        }
    })?;
    Ok((served, opened.name))
}
