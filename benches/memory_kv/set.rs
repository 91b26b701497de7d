//! Which passages, and which question about each?

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde::Deserialize;

use crate::Error;

#[derive(Deserialize)]
struct Row {
    title: String,
    text: String,
    questions: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    question: String,
    answers: Vec<String>,
}

/// A passage, a question that it answers, and the answer.
pub struct Case {
    /// The passage's title.
    pub title: String,
    /// Its text.
    pub text: String,
    /// The question.
    pub question: String,
    /// The first gold answer.
    pub answer: String,
    /// Whether heads and scales are chosen on it.
    pub calibrates: bool,
}

/// So many passages, evenly over a file of JSON lines. Every fourth question calibrates.
pub fn read(path: &Path, n: usize) -> Result<Vec<Case>, Error> {
    let at =
        |line: usize, error: &dyn std::fmt::Display| format!("{}:{line}: {error}", path.display());
    let file = File::open(path).map_err(|error| at(0, &error))?;
    let mut cases = Vec::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|error| at(number + 1, &error))?;
        let row: Row = serde_json::from_str(&line).map_err(|error| at(number + 1, &error))?;
        // Which of its questions: one after the other, for first ones are about first sentences.
        let n_questions = row.questions.len().max(1);
        let asked = row.questions.into_iter().nth(number % n_questions);
        let Some((asked, answer)) = asked.and_then(|a| a.answers.first().cloned().map(|b| (a, b)))
        else {
            continue;
        };
        cases.push(Case {
            title: row.title,
            text: row.text,
            question: asked.question,
            answer,
            calibrates: false,
        });
    }
    let (all, n) = (cases.len(), n.min(cases.len()));
    let mut number = 0;
    cases.retain(|_| {
        number += 1;
        number * n / all > (number - 1) * n / all
    });
    for case in cases.iter_mut().step_by(4) {
        case.calibrates = true;
    }
    Ok(cases)
}
