//! How do the sides read side by side?

use std::fmt::Write as _;
use std::time::Duration;

use crate::rig::first_token::{FirstToken, quantile};
use crate::score::{Score, agree};

/// The answers of one side.
pub struct Line {
    name: String,
    n_forwarded: usize,
    times: Vec<Duration>,
    n_same_tokens: usize,
    n_same: usize,
    /// Answers that are those of the uncoded fragments; none where nothing was coded.
    n_same_uncoded: Option<usize>,
    scores: Vec<Score>,
}

impl Line {
    /// Without answers.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            n_forwarded: 0,
            times: Vec::new(),
            n_same_tokens: 0,
            n_same: 0,
            n_same_uncoded: None,
            scores: Vec::new(),
        }
    }

    /// Counts an answer beside that of the plain prompt, and beside that of the fragments as they are.
    pub fn add(
        &mut self,
        golds: &[String],
        answer: &FirstToken,
        plain: &FirstToken,
        uncoded: Option<&FirstToken>,
    ) {
        self.n_forwarded += answer.n_forwarded;
        self.times.push(answer.time);
        self.n_same_tokens += usize::from(answer.tokens == plain.tokens);
        self.n_same += usize::from(agree(&answer.text, &plain.text));
        if let Some(uncoded) = uncoded {
            *self.n_same_uncoded.get_or_insert(0) +=
                usize::from(agree(&answer.text, &uncoded.text));
        }
        self.scores.push(Score::of(&answer.text, golds));
    }
}

/// A Markdown table. Answers are the same where they are once normalised as F1 does it.
pub fn markdown(lines: &[Line], text_rag: &Line) -> String {
    let mut table = String::from(
        "| answered by | tokens before the first | first token, ms p50 / p95 | sooner than text-RAG | \
         same tokens as re-encode | same answer | same answer as without coding | F1 | exact match | \
         gold in answer |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let median = |line: &Line| quantile(&line.times, 0.5).as_secs_f64() * 1e3;
    for line in lines {
        let n = line.times.len().max(1);
        let percent = |part: usize| format!("{:.1} %", 100.0 * part as f64 / n as f64);
        let score = Score::mean(&line.scores);
        writeln!(
            table,
            "| {} | {} | {:.0} / {:.0} | {:.1}x | {} | {} | {} | {:.3} | {:.3} | {:.3} |",
            line.name,
            line.n_forwarded / n,
            median(line),
            quantile(&line.times, 0.95).as_secs_f64() * 1e3,
            median(text_rag) / median(line).max(1e-6),
            percent(line.n_same_tokens),
            percent(line.n_same),
            line.n_same_uncoded.map_or_else(String::new, percent),
            score.f1,
            score.exact_match,
            score.contains,
        )
        .expect("writing to a string");
    }
    table
}
