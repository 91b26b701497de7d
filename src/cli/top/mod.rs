//! `perennial top`: what does a server of `perennial serve` do, from second to second?
//!
//! - `status`: what does it say of itself, and what did it do between two looks?
//! - `watched`: what is known of it, over looks and failures to look?
//! - `frame`, `columns`: which lines show that?
//! - `fullscreen`: where are they shown?
//!
//! It is looked on a thread of its own, so that a server that takes its time holds no key up. All lines
//! follow from what is known, the time, and the size of the terminal: what draws decides nothing.
//!
//! A library for screens (ratatui) was not taken: a frame is a few lines and a table, and it brings twenty
//! crates with it. The terminal itself is crossterm's.

mod columns;
mod frame;
mod fullscreen;
mod status;
mod watched;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::ColorChoice;
use crossbeam_channel::{Receiver, bounded};
use perennial_views::pace::duration_text;

use super::args::TopArgs;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::paint::{Paint, Span, Style};
use super::run::width;
use fullscreen::{Fullscreen, Input};
use status::Status;
use watched::Watched;

/// Columns of a frame that is shown on no terminal.
const WIDTH: usize = 120;
/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a key may wait, and how often is drawn.
const TICK: Duration = Duration::from_millis(100);

/// Runs the command.
pub(crate) fn run(args: &TopArgs) -> Result<ExitCode, Failure> {
    let endpoint = Endpoint::at(&args.url, &args.access, PATIENCE)?;
    let terminal = console::Term::stdout();
    let paint = Paint::of(&terminal, ColorChoice::Auto);
    match args.once || !terminal.is_term() {
        true => once(&endpoint, paint),
        false => live(endpoint, args.every, paint),
    }
}

/// Prints one frame.
fn once(endpoint: &Endpoint, paint: Paint) -> Result<ExitCode, Failure> {
    let reply = endpoint.status()?;
    let code = super::status::code(&reply);
    let mut watched = Watched::new(endpoint.url());
    watched.take(Duration::ZERO, Status::read(reply));
    let width = width().map_or(WIDTH, usize::from);
    let mut out = io::stdout().lock();
    for line in frame::lines(&watched, Duration::ZERO, width) {
        writeln!(out, "{}", paint.draw(line).trim_end()).map_err(Failure::output)?;
    }
    Ok(code)
}

/// Shows what is found until it is told to end.
fn live(endpoint: Endpoint, every: Duration, paint: Paint) -> Result<ExitCode, Failure> {
    let interrupt = Interrupt::listen()?;
    interrupt.ends_with(0);
    interrupt.watch();
    let mut watched = Watched::new(endpoint.url());
    let footer = format!("q quits · looks every {}", duration_text(every));
    let looks = looks(endpoint, every)?;
    let began = Instant::now();
    let mut screen = Fullscreen::enter().map_err(Failure::output)?;
    while !interrupt.is_raised() {
        while let Ok(found) = looks.try_recv() {
            watched.take(began.elapsed(), found);
        }
        let (width, height) = screen.size().map_err(Failure::output)?;
        let mut lines = frame::lines(&watched, began.elapsed(), width);
        frame::fit(&mut lines, height.saturating_sub(1));
        lines.push(vec![Span::new(Style::Faint, &footer).cut(width)]);
        let drawn = lines.into_iter().map(|line| paint.draw(line));
        screen.show(drawn).map_err(Failure::output)?;
        if screen.input(TICK).map_err(Failure::output)? == Input::Quit {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Looks again and again, on a thread that ends with who listens, or with the program.
fn looks(endpoint: Endpoint, every: Duration) -> Result<Receiver<Result<Status, String>>, Failure> {
    let (found, looks) = bounded(1);
    let look = move || {
        loop {
            let begin = Instant::now();
            let status = match endpoint.status() {
                Ok(reply) => Status::read(reply),
                Err(failure) => Err(failure.to_string()),
            };
            if found.send(status).is_err() {
                return;
            }
            std::thread::sleep(every.saturating_sub(begin.elapsed()));
        }
    };
    let looking = std::thread::Builder::new()
        .name("look".to_owned())
        .spawn(look);
    looking.map_err(Failure::io("start a thread"))?;
    Ok(looks)
}
