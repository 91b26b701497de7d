//! Which events does who runs the program read on standard error?
//!
//! They are made where things happen (`engine/log.rs`, `serve/log.rs`) with the macros of `tracing`; this is who
//! listens. As text, they stand between what is said to people. As JSON, all that is said on standard error
//! is an event (`stderr.rs`), so that it has one object a line and nothing else.
//!
//! # Invariants
//! - Nobody waits for who reads standard error: lines wait in a bounded queue ([`queue`]), and what finds no room
//!   is counted.
//! - An event is a line, whatever is in it, and nothing in it is a command to a terminal.
//! - Events of other crates are left out: their words are not promised.

mod queue;

use std::io;

use clap::ValueEnum;
use serde_json::json;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::args::LogArgs;
use super::stderr::{self, SAID};
use super::wording;
use queue::Queue;

/// What the targets of this program's events begin with.
const OURS: &str = "perennial";

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Nothing.
    Off,
    /// What ends the work of a source, or of the engine.
    Error,
    /// And what a person should look at: records refused, sinks that fail.
    Warn,
    /// And complete epochs.
    Info,
    /// And each answer, commit, delivery and request.
    Debug,
}

/// In which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Off => LevelFilter::OFF,
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
        }
    }
}

/// The log of this process. Dropping it waits a moment for what is still to be written.
pub(crate) struct Log {
    _queue: Option<Queue>,
}

impl Log {
    /// Begins to write what the options ask for; `usually` where they name no level.
    pub(crate) fn start(args: &LogArgs, usually: LogLevel) -> Self {
        let is_json = args.log_format == LogFormat::Json;
        let level = match (args.log, is_json) {
            (Some(level), _) => level,
            (None, true) => LogLevel::Info,
            (None, false) => usually,
        };
        if level == LogLevel::Off && !is_json {
            return Self { _queue: None };
        }
        let lost = if is_json { lost_json } else { lost_text };
        let queue = Queue::over(io::stderr(), lost);
        let lines = Lines {
            queue: queue.entrance(),
            is_json,
        };
        let said = if is_json {
            LevelFilter::INFO
        } else {
            LevelFilter::OFF
        };
        let targets = Targets::new()
            .with_target(OURS, level.filter())
            .with_target(SAID, said);
        let format = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(lines);
        let layer = match is_json {
            true => format.json().flatten_event(true).boxed(),
            false => format.boxed(),
        };
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(targets));
        // Only who has set one already could refuse, and nobody has.
        let _ = tracing::subscriber::set_global_default(subscriber);
        if is_json {
            std::panic::set_hook(Box::new(|panic| {
                stderr::failure(&format!("a defect of this program: {panic}"), None);
            }));
        }
        Self {
            _queue: Some(queue),
        }
    }
}

/// Words for lines that found no room.
fn lost_text(n_lost: u64) -> String {
    format!("{n_lost} lines of the log are lost: standard error was not read in time\n")
}

fn lost_json(n_lost: u64) -> String {
    let message = "lines of the log are lost: standard error was not read in time";
    let object = json!({"level": "WARN", "message": message, "n_lost": n_lost, "target": SAID});
    format!("{object}\n")
}

/// Makes lines of events.
struct Lines {
    queue: queue::Entrance,
    is_json: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> &'a Lines {
        self
    }
}

impl io::Write for &Lines {
    /// Takes an event whole, as it is written.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = match self.is_json {
            true => event.to_vec(),
            false => one_line(&String::from_utf8_lossy(event)).into_bytes(),
        };
        self.queue.put(line);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event as one line, of which nothing is a command to a terminal.
fn one_line(event: &str) -> String {
    let line = event.trim_end_matches('\n').replace('\n', " ");
    wording::plain(&line).into_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_it_holds() {
        let event = "WARN a source\nERROR forged \u{1b}[2J\u{202e}\n";
        assert_eq!(
            one_line(event),
            "WARN a source ERROR forged \u{fffd}[2J\u{fffd}\n"
        );
    }

    #[test]
    fn what_is_lost_is_said_in_the_form_of_the_rest() {
        let object: serde_json::Value = serde_json::from_str(&lost_json(3)).expect("JSON");
        assert_eq!(
            (&object["n_lost"], &object["level"]),
            (&3.into(), &"WARN".into())
        );
        assert!(lost_text(3).starts_with("3 lines"));
    }
}
