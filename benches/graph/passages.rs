//! Which passages does a question need, and which are near to it?

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::path::Path;

use perennial::ask::Embed;
use serde::Deserialize;

use crate::Error;

/// Texts that are embedded together.
const BATCH: usize = 32;

#[derive(Deserialize)]
struct Row {
    question: String,
    passages: Vec<Titled>,
}

#[derive(Deserialize)]
struct Titled {
    title: String,
    text: String,
    supporting: bool,
}

/// A passage, and where it is looked for.
pub struct Passage {
    pub title: String,
    pub text: String,
    /// Passages and questions meet that have the same.
    pub room: String,
}

pub struct Question {
    pub text: String,
    pub room: String,
    /// The passages that it needs, by their numbers.
    needed: BTreeSet<usize>,
}

/// Questions, and all passages.
pub struct Corpus {
    pub questions: Vec<Question>,
    pub passages: Vec<Passage>,
}

/// What a question found: passages by their numbers, the first first.
pub type Found = Vec<usize>;

/// All passages of a question's room, with their products, the nearest first.
pub struct Nearest(pub Vec<(usize, f32)>);

impl Nearest {
    pub fn first(&self, n: usize) -> Found {
        self.0.iter().take(n).map(|(passage, _)| *passage).collect()
    }
}

impl Corpus {
    /// The rows of a file, up to a number. Where all look in all passages, one that stands in several rows is one.
    pub fn read(path: &Path, n_rows: Option<usize>, is_own: bool) -> Result<Self, Error> {
        let (mut questions, mut passages): (Vec<Question>, Vec<Passage>) = (Vec::new(), Vec::new());
        for (n, line) in read_to_string(path)?
            .lines()
            .enumerate()
            .take(n_rows.unwrap_or(usize::MAX))
        {
            let row: Row = serde_json::from_str(line)
                .map_err(|error| format!("{}:{}: {error}", path.display(), n + 1))?;
            let room = if is_own { n.to_string() } else { String::new() };
            let mut needed = BTreeSet::new();
            for Titled {
                title,
                text,
                supporting,
            } in row.passages
            {
                let is_it = |known: &Passage| {
                    known.room == room && known.title == title && known.text == text
                };
                let at = passages.iter().position(is_it).unwrap_or_else(|| {
                    let room = room.clone();
                    passages.push(Passage { title, text, room });
                    passages.len() - 1
                });
                if supporting {
                    needed.insert(at);
                }
            }
            questions.push(Question {
                text: row.question,
                room,
                needed,
            });
        }
        Ok(Self {
            questions,
            passages,
        })
    }

    /// Of each question the passages of its room, by the product of their vectors.
    pub fn nearest(&self, embedder: &dyn Embed) -> Result<Vec<Nearest>, Error> {
        let vectors = |texts: &[String]| -> Result<Vec<Vec<f32>>, Error> {
            let mut all = Vec::new();
            for batch in texts.chunks(BATCH) {
                let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
                let embedded = embedder.embed(&batch);
                all.extend(
                    embedded.map_err(|failure| format!("a text has no vector: {failure:?}"))?,
                );
            }
            Ok(all)
        };
        let texts = self
            .passages
            .iter()
            .map(|passage| format!("{}\n{}", passage.title, passage.text));
        let of_passages = vectors(&texts.collect::<Vec<_>>())?;
        let texts = self.questions.iter().map(|question| question.text.clone());
        let of_questions = vectors(&texts.collect::<Vec<_>>())?;
        let near = self
            .questions
            .iter()
            .zip(&of_questions)
            .map(|(question, of_question)| {
                let all = self.passages.iter().zip(&of_passages).enumerate();
                let in_room = all.filter(|(_, (passage, _))| passage.room == question.room);
                let product =
                    |of: &[f32]| of.iter().zip(of_question).map(|(a, b)| a * b).sum::<f32>();
                let mut all: Vec<(usize, f32)> =
                    in_room.map(|(at, (_, of))| (at, product(of))).collect();
                all.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
                Nearest(all)
            });
        Ok(near.collect())
    }

    /// The cells of a table: how much of what is needed was found.
    pub fn scored(&self, found: &[Found]) -> String {
        let n = self.questions.len().max(1) as f64;
        let share = |n_first: usize| {
            let (mut recall, mut all) = (0.0, 0.0);
            for (question, found) in self.questions.iter().zip(found) {
                let first = found.iter().take(n_first);
                let n_found = first.filter(|at| question.needed.contains(at)).count();
                recall += n_found as f64 / question.needed.len().max(1) as f64;
                all += f64::from(u8::from(n_found == question.needed.len()));
            }
            (recall / n, all / n)
        };
        let ((two, all_two), (five, all_five)) = (share(2), share(5));
        format!("{two:.3} | {five:.3} | {all_two:.3} | {all_five:.3}")
    }

    /// At most `n` passages, at even distances.
    pub fn some_passages(&self, n: usize) -> Vec<usize> {
        let n = n.min(self.passages.len());
        (0..n).map(|i| i * self.passages.len() / n).collect()
    }

    /// The names of titles that stand in each passage: passage, and name.
    pub fn titles(&self) -> Vec<(usize, String)> {
        let names: Vec<String> = self
            .passages
            .iter()
            .map(|passage| name_of(&passage.title))
            .collect();
        let mut mentions = BTreeSet::new();
        for (at, passage) in self.passages.iter().enumerate() {
            let text = format!(
                " {} ",
                words(&format!("{} {}", passage.title, passage.text))
            );
            for (other, name) in self.passages.iter().zip(&names) {
                if other.room == passage.room
                    && !name.is_empty()
                    && text.contains(&format!(" {name} "))
                {
                    mentions.insert((at, name.clone()));
                }
            }
        }
        mentions.into_iter().collect()
    }
}

/// What a title is called in a text: without what stands in parentheses.
fn name_of(title: &str) -> String {
    words(title.split(" (").next().unwrap_or(title))
}

/// Words in lower case, with one blank between.
pub fn words(text: &str) -> String {
    let parts = text.split(|c: char| !c.is_alphanumeric());
    let parts: Vec<String> = parts
        .filter(|part| !part.is_empty())
        .map(str::to_lowercase)
        .collect();
    parts.join(" ")
}
