//! How do the sides read side by side?

use std::fmt::Write as _;
use std::time::Duration;

use crate::rig::first_token::quantile;

/// Above [`Point::markdown`].
pub const HEAD: &str = "\
| model | history, tokens | what happens | by | tokens: read as it came + before the first | s: reading + \
first token, p50 | full / this: tokens (question alone) | full / this: time (question alone) | text-RAG / this: \
tokens (question alone) | same tokens as exact |\n\
| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |";

/// What happens before a question.
#[derive(Clone, Copy)]
pub enum Event {
    /// A turn comes.
    Turn,
    /// A turn in the middle is corrected.
    Correction,
    /// A turn in the middle is deleted.
    Deletion,
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Turn => "a turn comes",
            Self::Correction => "a turn in the middle is corrected",
            Self::Deletion => "a turn in the middle is deleted",
        })
    }
}

/// What one side did at one event.
pub struct Line {
    by: &'static str,
    /// Tokens read when a turn came, and before the first token of the answer, one pair a question.
    tokens: Vec<(usize, usize)>,
    /// The times of both.
    times: Vec<(Duration, Duration)>,
    is_same: Option<bool>,
}

impl Line {
    /// Nothing yet.
    pub fn new(by: &'static str) -> Self {
        Self {
            by,
            tokens: Vec::new(),
            times: Vec::new(),
            is_same: None,
        }
    }

    /// Counts a question.
    pub fn count(&mut self, tokens: (usize, usize), times: Option<(Duration, Duration)>) {
        self.tokens.push(tokens);
        self.times.extend(times);
    }

    /// Notes the times of a question that was counted.
    pub fn time(&mut self, times: (Duration, Duration)) {
        self.times.push(times);
    }

    /// Notes whether an answer was, token for token, that of all the prompt read.
    pub fn compare(&mut self, is_same: bool) {
        self.is_same = Some(is_same);
    }

    /// Mean tokens: as they came, and for the question.
    fn mean(&self) -> (f64, f64) {
        let n = self.tokens.len().max(1) as f64;
        let of = |part: fn(&(usize, usize)) -> usize| {
            self.tokens.iter().map(part).sum::<usize>() as f64 / n
        };
        (of(|tokens| tokens.0), of(|tokens| tokens.1))
    }

    /// Median seconds of the same.
    fn median(&self) -> Option<(f64, f64)> {
        let of = |part: fn(&(Duration, Duration)) -> Duration| {
            let times: Vec<Duration> = self.times.iter().map(part).collect();
            quantile(&times, 0.5).as_secs_f64()
        };
        (!self.times.is_empty()).then(|| (of(|times| times.0), of(|times| times.1)))
    }
}

/// Figures at one length of history.
pub struct Point {
    n_history: usize,
    events: Vec<(Event, Vec<Line>)>,
}

impl Point {
    /// At so many tokens.
    pub fn new(n_history: usize) -> Self {
        Self {
            n_history,
            events: Vec::new(),
        }
    }

    /// Adds the lines of an event: the first is full re-encode, the third text-RAG.
    pub fn add(&mut self, event: Event, lines: impl Into<Vec<Line>>) {
        self.events.push((event, lines.into()));
    }

    /// A line a side and event. Ratios are of all that was forwarded for a turn and its question; those in
    /// parentheses of what was forwarded when the question was asked.
    pub fn markdown(&self, model: &str, name: &str) -> String {
        let mut rows = String::new();
        for (event, lines) in &self.events {
            let (full, text_rag) = (&lines[0], &lines[2]);
            for line in lines {
                let (came, asked) = line.mean();
                let over = |other: &Line| {
                    let (_, of_other) = other.mean();
                    format!(
                        "{:.1}x ({:.1}x)",
                        of_other / (came + asked).max(1.0),
                        of_other / asked.max(1.0)
                    )
                };
                let seconds = line
                    .median()
                    .map(|(reading, first)| format!("{reading:.2} + {first:.2}"));
                let sooner = line.median().zip(full.median());
                let sooner = sooner.map(|((reading, first), (_, full))| {
                    let over = |time: f64| full / time.max(1e-9);
                    format!("{:.1}x ({:.1}x)", over(reading + first), over(first))
                });
                writeln!(
                    rows,
                    "| {model} | {name}, {} | {event} | {} | {came:.0} + {asked:.0} | {} | {} | {} | {} | {} |",
                    self.n_history,
                    line.by,
                    seconds.as_deref().unwrap_or("-"),
                    over(full),
                    sooner.as_deref().unwrap_or("-"),
                    over(text_rag),
                    line.is_same.map_or("", |same| if same { "yes" } else { "no" }),
                )
                .expect("writing to a string");
            }
        }
        rows
    }
}
