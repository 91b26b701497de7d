//! Which lines show what is known of a server?

use std::time::Duration;

use super::super::paint::{Span, Style};
use super::super::wording::{self, thousands};
use super::columns::{Column, table};
use super::status::{Fragments, RUNGS, Status, StreamStatus, ViewStatus};
use super::watched::{Return, Trouble, Watched};

/// A line of a frame.
pub(super) type Line = Vec<Span>;

/// What stands between things that are told in one line.
const BETWEEN: &str = " · ";
/// What stands for what there is not.
const NONE: &str = "-";

const VIEW_COLUMNS: [Column; 12] = [
    column("view", false, 0),
    column("kind", false, 11),
    column("status", false, 1),
    column("epoch", true, 5),
    column("rows", true, 4),
    column("behind", true, 3),
    column("lag", true, 6),
    column("readers", true, 8),
    column("refreshes/s", true, 7),
    column("calls/s", true, 9),
    column("tokens/s", true, 2),
    column("from scratch/s", true, 10),
];
const STREAM_COLUMNS: [Column; 5] = [
    column("stream", false, 0),
    column("kind", false, 3),
    column("epoch", true, 2),
    column("rows", true, 1),
    column("failure", false, 4),
];

const fn column(name: &'static str, is_number: bool, gives_way: u8) -> Column {
    Column {
        name,
        is_number,
        gives_way,
    }
}

/// What is known of a server at a time, in lines of at most so many columns.
pub(super) fn lines(watched: &Watched, now: Duration, width: usize) -> Vec<Line> {
    let mut lines = title(watched, width);
    if let Some(trouble) = &watched.trouble {
        let is_known = watched.status().is_some();
        lines.extend(flow("", [troubled(trouble, is_known, now)], width));
    } else if let Some(back) = watched.returned(now) {
        lines.extend(flow("", [returned(back)], width));
    }
    let Some(status) = watched.status() else {
        return lines;
    };
    lines.extend(held(status, width));
    lines.push(Line::new());
    lines.extend(rates(watched, width));
    if !status.views.is_empty() {
        lines.push(Line::new());
        let rows = status.views.iter().map(|of| view(watched, of)).collect();
        lines.extend(table(&VIEW_COLUMNS, rows, width));
    }
    if !status.sources.is_empty() {
        lines.push(Line::new());
        let rows = status.sources.iter().map(stream).collect();
        lines.extend(table(&STREAM_COLUMNS, rows, width));
    }
    lines
}

/// Cuts lines to so many, and says so.
pub(super) fn fit(lines: &mut Vec<Line>, height: usize) {
    if lines.len() > height {
        let n_left = lines.len() - height.saturating_sub(1);
        lines.truncate(height.saturating_sub(1));
        let more = format!("… {}", wording::count(n_left, "more line"));
        lines.push(vec![Span::new(Style::Faint, more)]);
        lines.truncate(height);
    }
}

/// Which server it is, and whether it is well.
fn title(watched: &Watched, width: usize) -> Vec<Line> {
    let url = Span::new(Style::Strong, wording::cell(&watched.url));
    let mut items = vec![url];
    match watched.status() {
        None if watched.trouble.is_none() => {
            items.push(Span::new(Style::Faint, "waiting for its answer"));
        }
        None => {}
        Some(status) => {
            items.push(state(status));
            let uptime = wording::duration(Duration::from_millis(status.uptime_ms));
            items.push(plain(format!("up {uptime}")));
            items.push(plain(format!(
                "Perennial {}",
                wording::cell(&status.version)
            )));
        }
    }
    flow("", items, width)
}

fn state(status: &Status) -> Span {
    match (&status.failure, status.ready) {
        (Some(reason), _) => {
            let reason = wording::cell(reason);
            Span::new(Style::Warning, format!("failed: {reason}"))
        }
        (None, true) => Span::new(Style::Added, "ready"),
        (None, false) => Span::new(Style::Warning, "not ready"),
    }
}

/// That there is no answer any more.
fn troubled(trouble: &Trouble, is_known: bool, now: Duration) -> Span {
    let reason = wording::cell(&trouble.reason);
    let time = wording::duration(now.saturating_sub(trouble.since));
    let rest = match is_known {
        true => "; what follows is what it said last",
        false => "",
    };
    let text = format!("no answer for {time}: {reason}; looking again{rest}");
    Span::new(Style::Warning, text)
}

/// That there is one again.
fn returned(back: Return) -> Span {
    let mut text = match back.away {
        Some(away) => format!("it answers again, after {}", wording::duration(away)),
        None => String::new(),
    };
    if back.is_anew {
        let between = if text.is_empty() { "" } else { "; " };
        text = format!("{text}{between}it was started anew");
    }
    Span::new(Style::Warning, text)
}

/// What it holds: connections, memory, and what waits for somebody.
fn held(status: &Status, width: usize) -> Vec<Line> {
    let warned = |text: String, n: usize| {
        let style = if n > 0 { Style::Warning } else { Style::Plain };
        Span::new(style, text)
    };
    let n_quarantined = status.n_quarantined;
    let mut items = vec![
        plain(wording::count(status.n_connections, "connection")),
        plain(wording::count(status.n_subscribers, "subscriber")),
        warned(
            format!("{} in quarantine", thousands(n_quarantined)),
            n_quarantined,
        ),
    ];
    items.extend(status.undelivered.iter().map(|owed| {
        let n_epochs = wording::count(owed.n_epochs, "epoch");
        let text = format!("{} is owed {n_epochs}", wording::cell(&owed.sink));
        warned(text, owed.n_epochs)
    }));
    let mut lines = flow("", items, width);
    if let Some(fragments) = &status.fragments {
        lines.extend(flow("memory ", tiers(fragments), width));
    }
    lines
}

/// Fragments by where they are.
fn tiers(fragments: &Fragments) -> Vec<Span> {
    let megabytes = wording::megabytes;
    let mut spans = vec![
        plain(format!(
            "{} of {} in {}",
            megabytes(fragments.bytes),
            megabytes(fragments.budget_bytes),
            wording::count(fragments.n, "fragment"),
        )),
        plain(format!("at most {}", megabytes(fragments.bytes_peak))),
        plain(format!("on disk {}", megabytes(fragments.disk_bytes))),
        plain(format!(
            "found {}, not {}",
            thousands(fragments.n_hits),
            thousands(fragments.n_misses)
        )),
        plain(format!("evicted {}", thousands(fragments.n_evicted))),
    ];
    if let Some(warm) = &fragments.warm {
        spans.push(plain(format!(
            "as {} {} in {}, found {}",
            wording::plain(&warm.coding),
            megabytes(warm.bytes),
            wording::count(warm.n, "fragment"),
            thousands(warm.n_hits),
        )));
    }
    spans
}

/// What all views do, by the second.
fn rates(watched: &Watched, width: usize) -> Vec<Line> {
    let done = watched.done();
    let since = match watched.has_two_looks() {
        true => "by the second, since the last look",
        false => "by the second, since it began",
    };
    let mut lines = flow("", [Span::new(Style::Faint, since)], width);
    let rungs = RUNGS.iter().zip(done.rungs).map(|(rung, n)| {
        let style = match *rung == "failed" && n > 0 {
            true => Style::Warning,
            false => Style::Plain,
        };
        Span::new(style, format!("{rung} {}", rate(watched.rate(n))))
    });
    lines.extend(flow("refreshes ", rungs, width));
    let calls = plain(rate(watched.rate(done.n_calls())));
    lines.extend(flow("calls     ", [calls], width));
    let mut tokens = vec![
        plain(format!("forwarded {}", rate(watched.rate(done.forwarded)))),
        plain(format!(
            "from scratch {}",
            rate(watched.rate(done.from_scratch))
        )),
    ];
    if done.forwarded > 0 {
        let ratio = done.from_scratch as f64 / done.forwarded as f64;
        tokens.push(plain(format!("{ratio:.1}x")));
    }
    if done.cached > 0 {
        let part = done.cached as f64 / (done.cached + done.read) as f64;
        let cached = format!("{:.0} % of prompts cached", 100.0 * part);
        tokens.push(plain(cached));
    }
    lines.extend(flow("tokens    ", tokens, width));
    if let Some((amount, currency)) = done.cost.told() {
        let by_hour = watched.by_hour(amount.shown());
        let cost = plain(format!("{by_hour:.4} {currency} by the hour"));
        lines.extend(flow("cost      ", [cost], width));
    }
    lines
}

fn view(watched: &Watched, of: &ViewStatus) -> Vec<Span> {
    let number = |n: Option<usize>| plain(n.map_or_else(|| NONE.to_owned(), thousands));
    let done = watched.done_by(of);
    // A query asks through no view.
    let is_counted = of.kind != "query";
    let by_second = |n: u64| match is_counted {
        true => plain(rate(watched.rate(n))),
        false => plain(NONE),
    };
    let lag = of.lag_ms.map(Duration::from_millis);
    let behind = of.n_behind.unwrap_or(0);
    vec![
        Span::new(Style::Strong, wording::cell(&of.name)),
        plain(wording::cell(&of.kind)),
        freshness(of.status.as_deref()),
        number(of.epoch),
        number(Some(of.n_rows)),
        match behind {
            0 => number(of.n_behind),
            n => Span::new(Style::Warning, thousands(n)),
        },
        plain(lag.map_or_else(|| NONE.to_owned(), wording::duration)),
        number(Some(of.n_subscribers)),
        by_second(done.n_refreshes()),
        by_second(done.n_calls()),
        by_second(done.forwarded),
        by_second(done.from_scratch),
    ]
}

fn freshness(status: Option<&str>) -> Span {
    match status {
        None => plain(NONE),
        Some("fresh") => Span::new(Style::Added, "fresh"),
        Some(status) => Span::new(Style::Warning, wording::cell(status)),
    }
}

fn stream(of: &StreamStatus) -> Vec<Span> {
    let failure = of.failure.as_deref().map(wording::cell);
    vec![
        Span::new(Style::Strong, wording::cell(&of.name)),
        plain(wording::cell(&of.kind)),
        plain(of.epoch.map_or_else(|| NONE.to_owned(), thousands)),
        plain(thousands(of.n_rows)),
        Span::new(Style::Warning, failure.unwrap_or_default()),
    ]
}

/// A number by the second: `0`, `0.25`, `3.4`, `1,200`.
fn rate(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        n if n < 1.0 => format!("{n:.2}"),
        n if n < 100.0 => format!("{n:.1}"),
        n => thousands(n.round() as usize),
    }
}

fn plain(text: impl AsRef<str>) -> Span {
    Span::new(Style::Plain, text)
}

/// Things one after the other, in as many lines as they need; those after the first begin under the first
/// thing.
fn flow(label: &str, items: impl IntoIterator<Item = Span>, width: usize) -> Vec<Line> {
    let indent = label.chars().count().min(width / 2);
    let mut line = vec![Span::new(Style::Faint, label).cut(indent)];
    let (mut lines, mut column, mut is_first) = (Vec::new(), indent, true);
    for item in items {
        let between = if is_first { 0 } else { BETWEEN.chars().count() };
        if !is_first && column + between + item.width() > width {
            lines.push(std::mem::replace(
                &mut line,
                vec![plain(" ".repeat(indent))],
            ));
            column = indent;
        } else if !is_first {
            line.push(Span::new(Style::Faint, BETWEEN));
            column += between;
        }
        let item = item.cut(width.saturating_sub(column));
        column += item.width();
        line.push(item);
        is_first = false;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::paint::{Paint, measure};
    use super::*;

    fn status(uptime_ms: u64, n: u64) -> Value {
        json!({
            "version": "0.1.0", "uptime_ms": uptime_ms, "ready": true, "failure": null,
            "n_subscribers": 2, "n_connections": 3, "n_quarantined": 1,
            "undelivered": [{"sink": "answers.jsonl", "n_epochs": 2}],
            "views": [
                {"name": "answers", "kind": "answers", "epoch": 1_007, "status": "fresh", "n_behind": 0,
                 "lag_ms": null, "n_rows": 3, "n_subscribers": 2, "n_epochs": 5,
                 "rungs": {"keep": 20 * n, "verify": 2 * n, "rewrite": 3 * n, "regenerate": 0,
                           "skip": 0, "patch": 0, "append": 0, "failed": n},
                 "work": {"forwarded": 100 * n}, "rerun": 4_800 * n, "elapsed_ms": 2_100},
                {"name": "urgent", "kind": "query", "epoch": 7, "status": "target lag", "n_behind": 4,
                 "lag_ms": 1_500, "n_rows": 12_000, "n_subscribers": 0},
            ],
            "sources": [
                {"name": "docs", "kind": "source", "n_rows": 12, "epoch": 7, "failure": "gone\nfor good"},
                {"name": "questions", "kind": "table", "n_rows": 3, "epoch": null, "failure": null},
            ],
            "fragments": {"n": 120, "bytes": 73_400_320, "bytes_peak": 83_400_320,
                          "budget_bytes": 1_073_741_824, "n_hits": 400, "n_misses": 120,
                          "n_evicted": 0, "disk_bytes": 5_000_000,
                          "warm": {"coding": "k8v4", "n": 40, "bytes": 12_000_000, "n_hits": 7}},
        })
    }

    fn watched(statuses: &[Value]) -> Watched {
        let mut watched = Watched::new("http://127.0.0.1:7070");
        for (at, status) in (0..).zip(statuses) {
            let at = Duration::from_secs(at);
            watched.take(at, Status::read(status.clone()));
        }
        watched
    }

    fn drawn(watched: &Watched, now: u64, width: usize) -> Vec<String> {
        let lines = lines(watched, Duration::from_secs(now), width);
        let draw = |line| Paint::plain().draw(line).trim_end().to_owned();
        lines.into_iter().map(draw).collect()
    }

    #[test]
    fn a_frame_has_all_that_a_server_says() {
        let watched = watched(&[status(60_000, 1), status(62_000, 2)]);
        assert_eq!(
            drawn(&watched, 1, 130),
            [
                "http://127.0.0.1:7070 · ready · up 62.0 s · Perennial 0.1.0",
                "3 connections · 2 subscribers · 1 in quarantine · answers.jsonl is owed 2 epochs",
                "memory 74 MB of 1074 MB in 120 fragments · at most 84 MB · on disk 5 MB · found 400, not 120 · evicted 0",
                "       as k8v4 12 MB in 40 fragments, found 7",
                "",
                "by the second, since the last look",
                "refreshes keep 10.0 · skip 0 · patch 0 · verify 1.0 · append 0 · rewrite 1.5 · regenerate 0 · failed 0.50",
                "calls     3.0",
                "tokens    forwarded 50.0 · from scratch 2,400 · 48.0x",
                "",
                "view     kind     status      epoch    rows  behind     lag  readers  refreshes/s  calls/s  tokens/s  from scratch/s",
                "answers  answers  fresh       1,007       3       0       -        2         13.0      3.0      50.0           2,400",
                "urgent   query    target lag      7  12,000       4  1.50 s        0            -        -         -               -",
                "",
                "stream     kind    epoch  rows  failure",
                "docs       source      7    12  gone for good",
                "questions  table       -     3",
            ]
        );
    }

    #[test]
    fn what_is_paid_is_told_by_the_hour_where_there_are_prices() {
        let paid = |uptime_ms: u64, n: u64, amount: &str| {
            let mut status = status(uptime_ms, n);
            status["views"][0]["work"]["cost"] = json!({"amount": amount, "currency": "USD"});
            status
        };
        let watched = watched(&[paid(60_000, 1, "0.5"), paid(62_000, 2, "0.501")]);
        let lines = drawn(&watched, 1, 130);
        // A thousandth in two seconds.
        assert!(
            lines
                .iter()
                .any(|line| line == "cost      1.8000 USD by the hour"),
            "{lines:?}"
        );
    }

    #[test]
    fn a_first_look_gives_means() {
        let watched = watched(&[status(60_000, 6)]);
        let lines = drawn(&watched, 0, 120);
        assert!(lines.iter().any(|line| line.ends_with("since it began")));
        assert!(
            lines.iter().any(|line| line == "calls     0.60"),
            "{lines:?}"
        );
    }

    #[test]
    fn in_a_narrow_terminal_lines_are_wrapped_and_columns_give_way() {
        let watched = watched(&[status(60_000, 1), status(62_000, 2)]);
        let lines = drawn(&watched, 1, 40);
        let all = lines.join("\n");
        for part in [
            "ready",
            "Perennial 0.1.0",
            "1 in quarantine",
            "on disk 5 MB",
            "failed 0.50",
            "from scratch 2,400",
            "answers",
            "fresh",
            "target lag",
        ] {
            assert!(all.contains(part), "{part} in {all}");
        }
        assert!(!all.contains("from scratch/s"), "{all}");
        for width in [1, 2, 9, 20, 40, 79, 80] {
            for line in drawn(&watched, 1, width) {
                assert!(measure(&line) <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn a_server_that_is_away_is_said_to_be_and_what_it_said_stays() {
        let mut watched = watched(&[status(60_000, 1)]);
        let gone = Err("connection refused".to_owned());
        watched.take(Duration::from_secs(2), gone);
        let lines = drawn(&watched, 5, 130);
        let says = "no answer for 3.00 s: connection refused; looking again; what follows is what it said last";
        assert_eq!(lines[1], says);
        assert!(lines.iter().any(|line| line.starts_with("answers")));
        watched.take(Duration::from_secs(6), Status::read(status(1_000, 0)));
        let lines = drawn(&watched, 6, 130);
        assert_eq!(
            lines[1],
            "it answers again, after 4.00 s; it was started anew"
        );
        assert!(!lines.concat().contains("no answer"));
        // That is news for a while only.
        assert!(!drawn(&watched, 60, 130).concat().contains("anew"));
    }

    #[test]
    fn before_there_is_an_answer_it_says_so() {
        let mut watched = Watched::new("http://here");
        assert_eq!(
            drawn(&watched, 0, 80),
            ["http://here · waiting for its answer"]
        );
        watched.take(Duration::ZERO, Err("refused".to_owned()));
        assert_eq!(
            drawn(&watched, 1, 80),
            [
                "http://here",
                "no answer for 1.00 s: refused; looking again"
            ]
        );
    }

    #[test]
    fn a_server_that_failed_says_why_and_names_are_no_commands() {
        let mut failed = status(60_000, 1);
        failed["failure"] = json!("the disk is full");
        failed["views"][0]["name"] = json!("a\u{1b}[2J");
        let lines = drawn(&watched(&[failed]), 0, 130);
        assert!(lines[0].contains("failed: the disk is full"), "{lines:?}");
        assert!(!lines.concat().contains('\u{1b}'));
    }

    #[test]
    fn lines_beyond_the_last_are_counted() {
        let line = |n: usize| vec![plain(n.to_string())];
        let cut = |height: usize| {
            let mut lines: Vec<Line> = (0..5).map(line).collect();
            fit(&mut lines, height);
            let draw = |line| Paint::plain().draw(line);
            lines.into_iter().map(draw).collect::<Vec<_>>()
        };
        assert_eq!(cut(5).len(), 5);
        assert_eq!(cut(3), ["0", "1", "… 3 more lines"]);
        assert_eq!(cut(1), ["… 5 more lines"]);
        assert!(cut(0).is_empty());
    }

    #[test]
    fn rates_are_as_exact_as_they_are_small() {
        let told = [0.0, 0.25, 3.44, 99.0, 1_234.5].map(rate);
        assert_eq!(told, ["0", "0.25", "3.4", "99.0", "1,235"]);
    }
}
