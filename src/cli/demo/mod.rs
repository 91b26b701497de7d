//! `perennial demo`: what `perennial watch` does, on a small folder that edits itself.
//!
//! The documents are copied to a temporary folder, which is then watched like any other;
//! each scripted edit is made when the one before has been answered.

mod folder;
mod script;
mod summary;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use perennial::View;

use super::args::DemoArgs;
use super::failure::Failure;
use super::follow::{Course, Ending, Next};
use super::inputs::{DOCUMENTS, Inputs, QUESTIONS};
use super::interrupt::Interrupt;
use super::live::Live;
use super::opening::{self, VIEW};
use super::paint::{Paint, Style};
use super::report::EpochReport;
use super::screen::Screen;
use super::watch::Watch;
use folder::DemoFolder;
use script::{EDITS, Edit};
use summary::Summary;

/// How long an edit may go unnoticed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most tokens of an answer.
const MAX_TOKENS: usize = 64;

/// Runs the command.
pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode, Failure> {
    let interrupt = Interrupt::listen()?;
    let live = Live::new(false);
    // Opened first: an interruption while it loads then leaves no folder behind.
    let model = opening::open_whole(&args.model, &live)?;
    let folder = DemoFolder::new()?;
    let view = View::named(VIEW)
        .context(QUESTIONS)
        .data_source(DOCUMENTS)
        .prompt(script::PROMPT)
        .scope(args.scope)
        .max_tokens(MAX_TOKENS);
    let inputs = Inputs::folder(folder.path().to_owned(), script::QUESTION);
    let mut watch = Watch::start(&inputs, view, |builder| builder, || Ok(model))?;
    let paint = Paint::of(&console::Term::stdout(), args.color);
    let mut screen = Screen::new(io::stdout().lock(), paint, live.clone());
    live.say(&format!("{} over {}", watch.model_name, script::ABOUT));
    let mut demo = Demo {
        folder,
        edits: EDITS.iter(),
        made: None,
        summary: Summary::default(),
    };
    let ending = watch.follow(&mut screen, &mut demo, &interrupt)?;
    if ending == Ending::Interrupted {
        return Ok(ExitCode::from(interrupt.exit_code()));
    }
    demo.summary.print(&mut screen).map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

/// How far the script is.
struct Demo {
    folder: DemoFolder,
    edits: std::slice::Iter<'static, Edit>,
    /// The edit that was made last, and when.
    made: Option<(&'static Edit, Instant)>,
    summary: Summary,
}

impl<W: Write> Course<Screen<W>> for Demo {
    fn after(&mut self, report: &EpochReport, screen: &mut Screen<W>) -> Result<Next, Failure> {
        self.summary.add(self.made.map(|(edit, _)| edit), report);
        let Some(edit) = self.edits.next() else {
            return Ok(Next::Finish);
        };
        screen
            .say(Style::Strong, &format!("▸ {}", edit.what), 0)
            .map_err(Failure::output)?;
        self.folder.make(edit)?;
        self.made = Some((edit, Instant::now()));
        Ok(Next::GoOn)
    }

    fn idle(&mut self, is_under_way: bool) -> Result<Next, Failure> {
        match self.made {
            Some((edit, since)) if !is_under_way && since.elapsed() > PATIENCE => {
                Err(Failure::NotNoticed {
                    file: edit.file.to_owned(),
                    seconds: PATIENCE.as_secs(),
                })
            }
            _ => Ok(Next::GoOn),
        }
    }
}
