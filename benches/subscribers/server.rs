//! The process that serves: a view over documents that are posted, a scripted model, and nothing else.
//!
//! It prints its address, and ends with its standard input.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::serve::{Limits, Served, Server, ServerOptions};
use perennial::sql::{Script, Session, parse};
use perennial::{Engine, Runtime};

use super::Error;

/// A question sees the documents of its topic alone: a change of one document is one of one answer.
const SCRIPT: &str = "
    CREATE SOURCE docs FROM HTTP;
    CREATE TABLE questions (key TEXT, topic TEXT, text TEXT);
    CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
        CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(docs) MATCHING (topic)
    ) WITH (ORDER_BY = 'key');
";

/// Serves until nobody holds the other end of its standard input.
pub(super) fn run(connections: u32, rate: u32) -> Result<(), Error> {
    let (model, embedder) = (Scripted::new(), ScriptedEmbedder::default());
    let runtime = Runtime::scripted(Arc::new(model), Arc::new(embedder));
    let engine = Engine::builder(runtime).held().start();
    let engine = engine.map_err(|error| error.to_string())?;
    let mut limits = Limits::default();
    limits.connections = usize::try_from(connections)?;
    limits.rate = rate;
    limits.burst = rate.saturating_mul(2);
    let served = Served::over(Session::new(engine, "scripted").held(), limits);
    let script = Script::new("subscribers.sql", SCRIPT);
    let statements = parse(&script).map_err(|_| "the script of this benchmark is wrong")?;
    served
        .declare(&script, &statements, |_| {})
        .map_err(|error| error.to_string())?;
    let server = Server::start(served, ServerOptions::at("127.0.0.1:0"))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", server.address())?;
    out.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
