//! What does a row of a question set hold?

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use super::Error;

/// One question over its own passages.
#[derive(Clone, Deserialize)]
pub struct Question {
    /// Names the row within its set.
    pub id: String,
    /// The question.
    pub question: String,
    /// Gold answers; any of them is right.
    pub answers: Vec<String>,
    /// Another value of the kind of the answer, for edits.
    #[allow(dead_code, reason = "some benchmarks edit, others only ask")]
    #[serde(default)]
    pub replacement: Option<String>,
    /// The documents, in order.
    pub passages: Vec<TitledText>,
}

/// A short document.
#[derive(Clone, Deserialize)]
pub struct TitledText {
    /// Its title.
    pub title: String,
    /// Its text.
    pub text: String,
}

/// The first `limit` rows of a JSON-lines file, or all.
pub fn read(path: &Path, limit: Option<usize>) -> Result<Vec<Question>, Error> {
    let at =
        |line: usize, error: &dyn std::fmt::Display| format!("{}:{line}: {error}", path.display());
    let file = File::open(path).map_err(|error| at(0, &error))?;
    let mut questions = Vec::new();
    for (n, line) in BufReader::new(file).lines().enumerate() {
        if limit.is_some_and(|limit| questions.len() == limit) {
            break;
        }
        let line = line.map_err(|error| at(n + 1, &error))?;
        questions.push(serde_json::from_str(&line).map_err(|error| at(n + 1, &error))?);
    }
    Ok(questions)
}
