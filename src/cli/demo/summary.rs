//! The table at the demo's end: what each edit cost, beside a rerun.

use std::io::{self, Write};
use std::time::Duration;

use perennial::engine::ChangeKind;

use super::script::Edit;
use crate::cli::paint::Style;
use crate::cli::report::EpochReport;
use crate::cli::screen::Screen;
use crate::cli::wording;

/// One line of the table.
struct Row {
    what: &'static str,
    answer: &'static str,
    n_forwarded: usize,
    n_rerun: usize,
    elapsed: Duration,
}

/// What was done, edit by edit.
#[derive(Default)]
pub(super) struct Summary {
    rows: Vec<Row>,
}

impl Summary {
    /// Notes an epoch; the first has no edit.
    pub(super) fn add(&mut self, edit: Option<&'static Edit>, report: &EpochReport) {
        let answer = report.answers.first().map(|update| match update.kind() {
            ChangeKind::New => "new",
            ChangeKind::Changed => "changed",
            ChangeKind::Stands => "stands",
            ChangeKind::Gone => "gone",
        });
        self.rows.push(Row {
            what: edit.map_or("first answer", |edit| edit.short),
            answer: answer.unwrap_or("untouched"),
            n_forwarded: report.summary.work.n_forwarded(),
            n_rerun: report.summary.n_rerun,
            elapsed: report.summary.elapsed,
        });
    }

    /// Prints the table.
    pub(super) fn print(&self, screen: &mut Screen<impl Write>) -> io::Result<()> {
        let heading = line(["", "answer", "tokens", "a rerun's", "less", "time"].map(String::from));
        screen.line(Style::Strong, &heading)?;
        for row in &self.rows {
            let ratio = row.n_rerun as f64 / row.n_forwarded.max(1) as f64;
            screen.line(
                Style::Plain,
                &line([
                    row.what.to_owned(),
                    row.answer.to_owned(),
                    wording::thousands(row.n_forwarded),
                    wording::thousands(row.n_rerun),
                    format!("{ratio:.1}x"),
                    wording::duration(row.elapsed),
                ]),
            )?;
        }
        let refreshes = &self.rows[1.min(self.rows.len())..];
        let n_forwarded = refreshes.iter().map(|row| row.n_forwarded).sum();
        let n_rerun = refreshes.iter().map(|row| row.n_rerun).sum();
        screen.blank()?;
        let edits = wording::count(refreshes.len(), "edit");
        let total = format!("{edits}: {}", wording::work(n_forwarded, n_rerun));
        screen.line(Style::Strong, &total)
    }
}

fn line([what, answer, tokens, rerun, ratio, time]: [String; 6]) -> String {
    format!("{what:<20} {answer:<10} {tokens:>8} {rerun:>10} {ratio:>7} {time:>9}")
}
