//! How far is it? Bars and the answer in the making, drawn on standard error while it is a
//! terminal and gone when there is something to read; elsewhere, lines or nothing.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use perennial::engine::Progress;
use perennial::model::locator::{OnStderr, Progress as Bytes, Silent};
use tracing::level_filters::LevelFilter;

use super::wording::{self, thousands};
use super::{paint, stderr};

/// How often a bar without news moves.
const TICK: Duration = Duration::from_millis(120);
/// Lines kept free of an answer in the making.
const MARGIN_LINES: u16 = 4;

/// What is drawn on standard error. Cloned, it draws on the same region.
#[derive(Clone)]
pub(crate) struct Live {
    /// None where standard error is no terminal.
    region: Option<MultiProgress>,
    /// Whether loading is told in lines where no bar can be drawn.
    has_lines: bool,
}

impl Live {
    /// On standard error. Programs that read JSON (`is_quiet`) hear of failures only. Where a log tells of
    /// what goes on, nothing is drawn between its lines.
    pub(crate) fn new(is_quiet: bool) -> Self {
        let is_quiet = is_quiet || stderr::is_log();
        let tells_all = LevelFilter::current() >= LevelFilter::INFO;
        let is_drawn = std::io::stderr().is_terminal() && !is_quiet && !tells_all;
        Self {
            region: is_drawn.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            has_lines: !is_quiet,
        }
    }

    /// Progress in bytes: of fetching and loading a model.
    pub(crate) fn bytes(&self) -> Box<dyn Bytes> {
        match &self.region {
            Some(region) => Box::new(OnStderr::within(region.clone())),
            None if self.has_lines => Box::new(OnStderr::default()),
            None => Box::new(Silent),
        }
    }

    /// Progress of answers.
    pub(crate) fn answers(&self) -> Answers {
        Answers {
            region: self.region.clone(),
            bar: None,
            owes_line: self.has_lines,
        }
    }

    /// How many of something are done.
    pub(crate) fn counting(&self, label: &'static str) -> Counting {
        Counting {
            answers: self.answers(),
            label,
            told: 0,
        }
    }

    /// A line on standard error, above what is drawn.
    pub(crate) fn say(&self, line: &str) {
        match &self.region {
            Some(region) => region.suspend(|| stderr::line(line)),
            None => stderr::line(line),
        }
    }

    /// Whether a log tells of refused records and notices, which then are not told here.
    pub(crate) fn has_warnings(&self) -> bool {
        LevelFilter::current() >= LevelFilter::WARN
    }

    /// A line in colours; not for where standard error is a log.
    pub(crate) fn show(&self, line: &str) {
        match &self.region {
            Some(region) => region.suspend(|| stderr::drawn(line)),
            None => stderr::drawn(line),
        }
    }
}

/// Draws how far answers are.
pub(crate) struct Answers {
    region: Option<MultiProgress>,
    bar: Option<(Kind, ProgressBar)>,
    /// Whether a long wait without a bar is still to be announced.
    owes_line: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Count,
    Text,
}

impl Answers {
    /// Draws this.
    pub(crate) fn show(&mut self, progress: &Progress) {
        match progress {
            Progress::Embedding { done, total, .. } => {
                if self.region.is_none() && std::mem::take(&mut self.owes_line) {
                    stderr::line(&format!("indexing {}", wording::count(*total, "passage")));
                }
                self.count("indexing passages", *done, *total, "");
            }
            Progress::Asking { done, total, .. } => {
                if self.region.is_none() && std::mem::take(&mut self.owes_line) {
                    stderr::line(&format!("asking about {}", wording::count(*total, "row")));
                }
                self.count("asking about rows", *done, *total, "");
            }
            Progress::Encoding { done, total, .. } => {
                self.count("reading", *done, *total, " tokens");
            }
            Progress::Writing { text, .. } => self.text(text),
            _ => {}
        }
    }

    fn count(&mut self, label: &str, done: usize, total: usize, unit: &str) {
        let Some(bar) = self.bar(Kind::Count, "{msg} [{bar:24}] {prefix}") else {
            return;
        };
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        bar.set_message(label.to_owned());
        bar.set_prefix(format!("{}/{}{unit}", thousands(done), thousands(total)));
    }

    fn text(&mut self, text: &str) {
        let terminal = console::Term::stderr();
        let width = paint::columns(&terminal).saturating_sub(2);
        let n_lines = terminal.size().0.saturating_sub(MARGIN_LINES).max(1);
        let lines = wrapped(&wording::plain(text), width);
        let first = lines.len().saturating_sub(usize::from(n_lines));
        if let Some(bar) = self.bar(Kind::Text, "{msg}") {
            bar.set_message(format!("  {}", lines[first..].join("\n  ")));
        }
    }

    fn bar(&mut self, kind: Kind, template: &str) -> Option<&ProgressBar> {
        let region = self.region.as_ref()?;
        if self.bar.as_ref().is_some_and(|(of, _)| *of != kind) {
            clear(&mut self.bar, region);
        }
        let (_, bar) = self.bar.get_or_insert_with(|| {
            let bar = region.add(ProgressBar::new(0));
            bar.set_style(style(template));
            bar.enable_steady_tick(TICK);
            (kind, bar)
        });
        Some(bar)
    }

    /// Takes what is drawn away.
    pub(crate) fn clear(&mut self) {
        if let Some(region) = &self.region {
            clear(&mut self.bar, region);
        }
    }
}

/// Draws how many are done; where nothing can be drawn, a line at each tenth of them.
pub(crate) struct Counting {
    answers: Answers,
    label: &'static str,
    /// Tenths that were told.
    told: usize,
}

impl Counting {
    /// So many of so many.
    pub(crate) fn at(&mut self, done: usize, total: usize) {
        let tenth = done * 10 / total.max(1);
        if self.answers.region.is_none() && self.answers.owes_line && tenth > self.told {
            self.told = tenth;
            let (done, total) = (thousands(done), thousands(total));
            stderr::line(&format!("{}: {done} of {total}", self.label));
        }
        self.answers.count(self.label, done, total, "");
    }

    /// Takes what is drawn away.
    pub(crate) fn clear(&mut self) {
        self.answers.clear();
    }
}

fn clear(bar: &mut Option<(Kind, ProgressBar)>, region: &MultiProgress) {
    if let Some((_, bar)) = bar.take() {
        bar.finish_and_clear();
        region.remove(&bar);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("a constant template")
        .progress_chars("=> ")
}

/// Words in lines of at most `width` columns.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("never empty");
        let is_room = paint::measure(line) + 1 + paint::measure(word) <= width;
        if line.is_empty() {
            line.push_str(word);
        } else if is_room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
