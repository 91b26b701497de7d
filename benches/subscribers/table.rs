//! What a run came to, as a Markdown table.

use std::time::Duration;

use serde_json::Value;

use super::changes::Made;
use super::crowd::Told;
use super::subscriber::Report;

/// All that was measured.
pub(super) struct Run {
    pub(super) n_everything: usize,
    pub(super) n_contexts: usize,
    /// Changes a second that were to be made.
    pub(super) asked_a_second: u32,
    pub(super) n_idle: usize,
    /// Idle connections that were closed.
    pub(super) n_turned_away: usize,
    pub(super) made: Made,
    /// From the first change to the last.
    pub(super) elapsed: Duration,
    /// `/v1/status` before the changes, and when all was told.
    pub(super) before: Value,
    pub(super) after: Value,
    /// Bytes of memory that the server had: before anybody subscribed, then with everybody told what
    /// stands, with everybody told the last word, and at most.
    pub(super) resident_at_start: usize,
    pub(super) resident_with_all: usize,
    pub(super) resident_at_end: usize,
    pub(super) resident_peak: usize,
    /// Time of processors from the first change until all was told.
    pub(super) server_cpu: Duration,
    pub(super) clients_cpu: Duration,
}

impl Run {
    /// Prints it.
    pub(super) fn print(&self, told: &Told) {
        let n_subscribers = told.reports.len() + told.cut_off.len();
        let sum = |of: fn(&Report) -> u64| -> u64 { told.reports.iter().map(of).sum() };
        let n_answers = sum(|report| report.n_answers as u64);
        let n_merged = sum(|report| report.n_merged);
        let n_epochs_told = sum(|report| report.n_epochs as u64);
        let n_bytes = sum(|report| report.n_bytes);
        let n_epochs = self.grown("/n_epochs");
        let n_epochs_merged = (n_epochs * n_subscribers as u64).saturating_sub(n_epochs_told);
        let seconds = self.elapsed.as_secs_f64();
        let mut rows = vec![
            (
                "subscribers",
                format!(
                    "{n_subscribers}: {} follow all of {} answers, the others one",
                    self.n_everything, self.n_contexts
                ),
            ),
            (
                "changes made",
                format!(
                    "{}; {:.1} a second, of {} asked for; {} sent again",
                    self.made.n_changes,
                    self.made.n_changes as f64 / seconds,
                    self.asked_a_second,
                    self.made.n_refused
                ),
            ),
            (
                "epochs of the view, answers refreshed",
                format!("{n_epochs}, {}", self.refreshed()),
            ),
            ("answers delivered", n_answers.to_string()),
            ("answers merged with later ones", n_merged.to_string()),
            ("epochs delivered", n_epochs_told.to_string()),
            ("epochs merged with later ones", n_epochs_merged.to_string()),
            ("losses", told.n_losses().to_string()),
            (
                "from post to receipt, p50 / p95 / p99 / max",
                spread(told.reports.iter().flat_map(|report| &report.latencies)),
            ),
            (
                "bytes sent to subscribers",
                format!(
                    "{:.1} MB, {:.2} MB a second",
                    n_bytes as f64 / 1e6,
                    n_bytes as f64 / 1e6 / seconds
                ),
            ),
            (
                "memory of the server: start, all there, peak, end",
                [
                    self.resident_at_start,
                    self.resident_with_all,
                    self.resident_peak,
                    self.resident_at_end,
                ]
                .map(|n_bytes| format!("{:.1}", n_bytes as f64 / f64::from(1 << 20)))
                .join(", ")
                    + " MiB",
            ),
            (
                "processor time: server, clients",
                format!(
                    "{:.1} s, {:.1} s",
                    self.server_cpu.as_secs_f64(),
                    self.clients_cpu.as_secs_f64()
                ),
            ),
            (
                "tokens forwarded, from scratch",
                format!(
                    "{}, {}",
                    self.grown("/work/forwarded"),
                    self.grown("/rerun")
                ),
            ),
            (
                "the one that never reads",
                match self.n_readers() <= told.reports.len() as u64 {
                    true => "cut".to_owned(),
                    false => "not cut yet".to_owned(),
                },
            ),
        ];
        if self.n_idle > 0 {
            let turned_away = format!("{} of {} turned away", self.n_turned_away, self.n_idle);
            rows.push(("idle connections of one address", turned_away));
        }
        println!("| | |");
        println!("| --- | --- |");
        for (what, value) in rows {
            println!("| {what} | {value} |");
        }
        if let Some(reason) = told.cut_off.first() {
            eprintln!("{} were cut off, the first: {reason}", told.cut_off.len());
        }
    }

    /// Who was read for at the end. All but who was cut off are still there, and the one that never reads,
    /// unless it was.
    fn n_readers(&self) -> u64 {
        self.after["n_subscribers"].as_u64().unwrap_or(0)
    }

    /// By how much a number of the view has grown.
    fn grown(&self, path: &str) -> u64 {
        let number = |status: &Value| status["views"][0].pointer(path).and_then(Value::as_u64);
        let (before, after) = (number(&self.before), number(&self.after));
        after.unwrap_or(0).saturating_sub(before.unwrap_or(0))
    }

    /// Answers that the model was asked for.
    fn refreshed(&self) -> u64 {
        let rungs = ["verify", "rewrite", "regenerate", "patch", "failed"];
        let refreshed = rungs.map(|rung| self.grown(&format!("/rungs/{rung}")));
        refreshed.into_iter().sum()
    }
}

/// The median and further ones of times in microseconds, in milliseconds.
fn spread<'a>(times: impl Iterator<Item = &'a u32>) -> String {
    let mut times: Vec<u32> = times.copied().collect();
    times.sort_unstable();
    if times.is_empty() {
        return "nobody follows every answer".to_owned();
    }
    let at = |share: f64| {
        let at = (share * (times.len() - 1) as f64).round() as usize;
        format!("{:.1}", f64::from(times[at]) / 1e3)
    };
    [at(0.5), at(0.95), at(0.99), at(1.0)].join(" / ") + " ms"
}
