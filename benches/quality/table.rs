//! How do the scopes read side by side?

use std::fmt::Write;

use perennial::model::divergence::kl;

use crate::compare::Answered;
use crate::rig::question::Question;
use crate::score::{self, Score};

/// Everything known of one model on one set in one scope.
pub struct Line {
    model: String,
    set: String,
    scope: String,
    scores: Vec<Score>,
    agreements: Vec<f64>,
    divergences: Vec<f64>,
    n_encoded: usize,
    n_tokens: usize,
}

impl Line {
    /// A line without rows.
    pub fn new(model: &str, set: &str, scope: &str) -> Self {
        Self {
            model: model.to_owned(),
            set: set.to_owned(),
            scope: scope.to_owned(),
            scores: Vec::new(),
            agreements: Vec::new(),
            divergences: Vec::new(),
            n_encoded: 0,
            n_tokens: 0,
        }
    }

    /// Counts what a row's answer had encoded, of so many tokens of passages.
    pub fn add_encoded(&mut self, n_encoded: usize, n_tokens: usize) {
        self.n_encoded += n_encoded;
        self.n_tokens += n_tokens;
    }

    /// Counts one row's answer; `compared` is what `CAUSAL` and this scope gave.
    pub fn add(
        &mut self,
        question: &Question,
        answer: &str,
        compared: Option<(&Answered, &Answered)>,
    ) {
        self.scores.push(Score::of(answer, &question.answers));
        if let Some((causal, this)) = compared {
            self.agreements
                .push(f64::from(u8::from(score::agree(&causal.text, answer))));
            self.divergences
                .push(kl(&causal.first_token, &this.first_token));
        }
    }
}

/// A Markdown table. F1 has its standard error, KL in nats its mean and median; tokens encoded are those
/// of a question, and their share of its passages' tokens.
pub fn markdown(lines: &[Line]) -> String {
    let mut table = String::from(
        "| model | set | rows | scope | F1 | exact match | gold in answer | same as CAUSAL \
         | KL mean / median | encoded |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for line in lines {
        let f1: Vec<f64> = line.scores.iter().map(|score| score.f1).collect();
        let score = Score::mean(&line.scores);
        write!(
            table,
            "| {} | {} | {} | {} | {:.3} ± {:.3} | {:.3} | {:.3} |",
            line.model,
            line.set,
            line.scores.len(),
            line.scope,
            score.f1,
            standard_error(&f1),
            score.exact_match,
            score.contains,
        )
        .expect("writing to a string");
        if line.divergences.is_empty() {
            writeln!(table, " - | - | - |")
        } else {
            writeln!(
                table,
                " {:.2} | {:.3} / {:.3} | {} ({:.1}%) |",
                mean(&line.agreements),
                mean(&line.divergences),
                median(&line.divergences),
                line.n_encoded / line.scores.len().max(1),
                100.0 * line.n_encoded as f64 / line.n_tokens.max(1) as f64
            )
        }
        .expect("writing to a string");
    }
    table
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Standard error of the mean.
fn standard_error(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    if n < 2.0 {
        return 0.0;
    }
    let mean = mean(values);
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (variance / n).sqrt()
}
