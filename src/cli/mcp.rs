//! `perennial mcp`: an engine for an assistant, over standard input and output.
//!
//! Standard output has the protocol and nothing else. It is spoken from the beginning on, while the model
//! is still opened: assistants do not wait long for a first word. What they ask waits.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use perennial::mcp::{NotOpened, Opening};
use perennial::serve::Limits;
use perennial::sql::{Script, Spanned, Statement};
use perennial::{engine, mcp};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::args::McpArgs;
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::live::Live;
use super::run::{parse, read};
use super::serve::carried_out;
use super::traces::Traces;
use super::watch::undelivered;

/// How often it is looked whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
/// Calls that wait at once.
const MAX_BLOCKING: usize = 128;
/// What there is without a script: notes to be remembered, and a view that is asked over them.
const NOTES: &str = "
    CREATE TABLE notes (key TEXT, text TEXT, title TEXT);
    CREATE TABLE questions (key TEXT, text TEXT);
    CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
        CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(notes));
";

/// Runs the command.
pub(crate) fn run(args: &McpArgs) -> Result<ExitCode, Failure> {
    let interrupt = Interrupt::listen()?;
    let script = match &args.script {
        Some(path) if path == std::path::Path::new("-") => {
            let what = "standard input has the protocol, and no script";
            return Err(Failure::usage(what, "give a file"));
        }
        Some(path) => read(path)?,
        None => Script::new("notes", NOTES),
    };
    let statements = parse(&script)?;
    let live = Live::new(false);
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(MAX_BLOCKING)
        .thread_name("perennial-mcp")
        .enable_all()
        .build()
        .map_err(Failure::io("start threads"))?;
    let ended = speak(args, &script, &statements, &runtime, &interrupt, &live);
    // A read of standard input that waits cannot be given up.
    runtime.shutdown_background();
    ended
}

/// Speaks with the client, and opens the engine meanwhile.
fn speak(
    args: &McpArgs,
    script: &Script,
    statements: &[Spanned<Statement>],
    runtime: &Runtime,
    interrupt: &Interrupt,
    live: &Live,
) -> Result<ExitCode, Failure> {
    let traces = Traces::of_environment(live);
    let (ready, opening) = watch::channel::<Opening>(None);
    let speaking = runtime.spawn(mcp::stdio(opening));
    let mut limits = Limits::default();
    args.asking.set(&mut limits);
    let opened = carried_out(
        script,
        statements,
        (&args.engine, &traces),
        &args.model,
        limits,
        live,
    );
    let (served, name) = match opened {
        Ok(opened) => opened,
        Err(failure) => return Ok(refuse(&failure, &ready, &speaking)),
    };
    ready.send_replace(Some(Ok(served.clone())));
    live.say(&format!("{name} · speaking MCP"));
    // From here on there is something to end in order.
    interrupt.ends_with(0);
    interrupt.watch();
    while !interrupt.is_raised() && !speaking.is_finished() {
        if let Some(reason) = served.engine().failure() {
            return Err(engine::Error::Stopped { reason }.into());
        }
        std::thread::sleep(LOOK);
    }
    served.close();
    if speaking.is_finished() {
        let ended = runtime.block_on(speaking).map_err(std::io::Error::other);
        ended.flatten().map_err(Failure::io("speak MCP"))?;
    }
    match undelivered(served.engine(), args.engine.state.is_some())? {
        Some(failure) => Err(failure),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Says why there is no engine: at once to whoever reads standard error, and to the client with each call
/// until it hangs up. Who speaks by hand has read it.
fn refuse(
    failure: &Failure,
    ready: &watch::Sender<Opening>,
    speaking: &JoinHandle<std::io::Result<()>>,
) -> ExitCode {
    failure.tell();
    let hint = failure.hint().unwrap_or("do so");
    ready.send_replace(Some(Err(NotOpened {
        error: failure.to_string(),
        hint: format!("{hint}; then start `perennial mcp` again"),
    })));
    while !std::io::stdin().is_terminal() && !speaking.is_finished() {
        std::thread::sleep(LOOK);
    }
    failure.exit_code()
}
