//! Passages with the questions that they answer, and edits of them whose effect is known.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use crate::rig::Error;
use crate::rig::random::Random;

/// A passage of an article.
#[derive(Clone, Debug, Deserialize)]
pub struct Passage {
    /// Unique within the set: the article, and the passage's number in it.
    pub id: String,
    /// The article.
    pub title: String,
    /// What it says.
    pub text: String,
    /// What it answers.
    pub questions: Vec<Asked>,
}

/// A question with its gold answers, which stand in the passage word for word.
#[derive(Clone, Debug, Deserialize)]
pub struct Asked {
    /// The question.
    pub question: String,
    /// Any of them is right.
    pub answers: Vec<String>,
}

impl Passage {
    /// The article's name in ids.
    pub fn article(&self) -> &str {
        self.id.split('/').next().unwrap_or(&self.id)
    }
}

/// A question over passages of its own.
#[derive(Deserialize)]
struct Row {
    id: String,
    #[serde(flatten)]
    asked: Asked,
    passages: Vec<Candidate>,
}

/// A passage of a row.
#[derive(Deserialize)]
struct Candidate {
    title: String,
    text: String,
    /// Whether the answer needs it.
    supporting: bool,
}

/// What a line may be.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Passage(Passage),
    Row(Row),
}

/// Documents, and questions about them.
pub struct Case {
    /// What may be fitted together: an article, or a row.
    pub group: String,
    pub documents: Vec<Passage>,
    /// With the ids of the documents that each is about.
    pub asked: Vec<(Vec<String>, Asked)>,
}

/// All lines of a file of JSON lines.
fn lines<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let at =
        |line: usize, error: &dyn std::fmt::Display| format!("{}:{line}: {error}", path.display());
    let file = File::open(path).map_err(|error| at(0, &error))?;
    let lines = (1..).zip(BufReader::new(file).lines());
    let line = |(n, line): (usize, std::io::Result<String>)| {
        let line = line.map_err(|error| at(n, &error))?;
        let line: T = serde_json::from_str(&line).map_err(|error| at(n, &error))?;
        Ok(line)
    };
    lines.map(line).collect()
}

/// All passages of a file of JSON lines.
pub fn read(path: &Path) -> Result<Vec<Passage>, Error> {
    lines(path)
}

/// So many cases of a file of passages or of rows, from all of it alike, and all passages.
pub fn cases(
    path: &Path,
    n_cases: usize,
    (n_documents, n_questions): (usize, usize),
) -> Result<(Vec<Case>, Vec<Passage>), Error> {
    let (mut passages, mut cases) = (Vec::new(), Vec::new());
    for line in lines(path)? {
        match line {
            Line::Passage(passage) => passages.push(passage),
            Line::Row(row) => {
                let case = Case::of_row(row);
                passages.extend(case.documents.iter().cloned());
                cases.push(case);
            }
        }
    }
    if cases.is_empty() {
        let articles = passages.chunk_by(|a, b| a.article() == b.article());
        let case = |article: &[Passage]| {
            let documents = article[..n_documents.min(article.len())].to_vec();
            let asked = questions(&documents, n_questions).into_iter();
            let asked = asked.map(|(of, asked)| (vec![of.to_owned()], asked.clone()));
            Case {
                group: article[0].article().to_owned(),
                asked: asked.collect(),
                documents,
            }
        };
        cases = articles.map(case).collect();
    }
    let step = (cases.len() / n_cases.max(1)).max(1);
    let cases = cases.into_iter().step_by(step).take(n_cases).collect();
    Ok((cases, passages))
}

impl Case {
    fn of_row(row: Row) -> Self {
        let id = |i: usize| format!("{}/{i}", row.id);
        let candidates = (0..).zip(row.passages);
        let (documents, is_supporting): (Vec<Passage>, Vec<bool>) = candidates
            .map(|(i, candidate)| {
                let passage = Passage {
                    id: id(i),
                    title: candidate.title,
                    text: candidate.text,
                    questions: Vec::new(),
                };
                (passage, candidate.supporting)
            })
            .unzip();
        let supporting = documents.iter().zip(is_supporting);
        let of = supporting.filter(|(_, is)| *is).map(|(d, _)| d.id.clone());
        Self {
            asked: vec![(of.collect(), row.asked)],
            group: row.id,
            documents,
        }
    }
}

/// So many questions, from all documents alike, each with the id of its document.
pub fn questions(documents: &[Passage], n: usize) -> Vec<(&str, &Asked)> {
    let most = documents.iter().map(|d| d.questions.len()).max();
    let nth = |i: usize| {
        let nth = move |d: &'_ Passage| d.questions.get(i).is_some();
        documents
            .iter()
            .filter(move |d| nth(d))
            .map(move |d| (&*d.id, &d.questions[i]))
    };
    let mut seen = BTreeSet::new();
    (0..most.unwrap_or(0))
        .flat_map(nth)
        .filter(|(_, asked)| seen.insert(asked.question.as_str()))
        .take(n)
        .collect()
}

/// So many reports, each about what a document begins with, with the id of that document. Nobody has
/// written what they should say.
pub fn reports(documents: &[Passage], n: usize) -> Vec<(String, Asked)> {
    let report = |document: &Passage| {
        let words = document.text.split_whitespace().take(12);
        let about = words.collect::<Vec<_>>().join(" ");
        let asked = Asked {
            question: format!(
                "A sentence about each document, for who wants to know of this: {about} …"
            ),
            answers: Vec::new(),
        };
        (document.id.clone(), asked)
    };
    documents.iter().take(n).map(report).collect()
}

/// What is done to documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A fact that a question asks for is replaced by another of its kind.
    Correct,
    /// A sentence about something else is appended to a passage.
    Append,
    /// A passage of the same article comes.
    Insert,
    /// A passage of another article comes.
    Unrelated,
    /// A passage goes.
    Delete,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Correct,
        Self::Append,
        Self::Insert,
        Self::Unrelated,
        Self::Delete,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Correct => "correct",
            Self::Append => "append",
            Self::Insert => "insert",
            Self::Unrelated => "unrelated",
            Self::Delete => "delete",
        }
    }
}

/// An edit of some documents.
#[derive(Clone, Debug)]
pub struct Edit {
    /// What it does.
    pub kind: Kind,
    /// Which document it is about, by its number; one that comes stands behind all.
    pub place: usize,
    /// The document afterwards; none if it goes.
    pub after: Option<Passage>,
    /// The words that are not there any more, where that is a fact.
    pub replaced: Option<String>,
}

impl Edit {
    /// A random edit of `documents`, with what comes taken from `others`; none if there is nothing to
    /// do it to.
    pub fn draw(
        kind: Kind,
        documents: &[Passage],
        others: &[Passage],
        random: &mut Random,
    ) -> Option<Self> {
        let article = documents.first()?.article();
        let place = random.below(documents.len());
        let old = &documents[place];
        let taken = |is_same: bool, random: &mut Random| {
            let stands = |passage: &Passage| documents.iter().any(|d| d.id == passage.id);
            let fits = |p: &&Passage| (p.article() == article) == is_same && !stands(p);
            let fitting: Vec<&Passage> = others.iter().filter(fits).collect();
            (!fitting.is_empty()).then(|| fitting[random.below(fitting.len())].clone())
        };
        let whole = |place, after| Self {
            kind,
            place,
            after,
            replaced: None,
        };
        Some(match kind {
            Kind::Delete => whole(place, None),
            Kind::Insert => whole(documents.len(), Some(taken(true, random)?)),
            Kind::Unrelated => whole(documents.len(), Some(taken(false, random)?)),
            Kind::Append => {
                let other = taken(false, random)?;
                let sentence = other.text.split_inclusive(". ").next()?.trim().to_owned();
                let text = format!("{} {sentence}", old.text);
                whole(
                    place,
                    Some(Passage {
                        text,
                        ..old.clone()
                    }),
                )
            }
            Kind::Correct => {
                let asked = &old
                    .questions
                    .get(random.below(old.questions.len().max(1)))?;
                let fact = asked.answers.first()?;
                let is_kind = |text: &str| text.chars().any(|c| c.is_ascii_digit());
                let others = documents.iter().flat_map(|d| &d.questions);
                let others = others.filter_map(|q| q.answers.first());
                let alike: Vec<&String> = others
                    .filter(|other| {
                        is_kind(other) == is_kind(fact)
                            && !fact.contains(&***other)
                            && !other.contains(&**fact)
                            && other.len().abs_diff(fact.len()) <= fact.len()
                    })
                    .collect();
                if alike.is_empty() || !old.text.contains(&**fact) {
                    return None;
                }
                let new = alike[random.below(alike.len())];
                let text = old.text.replace(&**fact, new);
                Self {
                    replaced: Some(fact.clone()),
                    ..whole(
                        place,
                        Some(Passage {
                            text,
                            ..old.clone()
                        }),
                    )
                }
            }
        })
    }

    /// The documents after it.
    pub fn apply(&self, documents: &[Passage]) -> Vec<Passage> {
        let mut after = documents.to_vec();
        match (&self.after, self.place < documents.len()) {
            (Some(passage), true) => after[self.place] = passage.clone(),
            (Some(passage), false) => after.push(passage.clone()),
            (None, _) => drop(after.remove(self.place)),
        }
        after
    }

    /// Whether the gold answer of a question about the documents with these ids is another afterwards.
    pub fn concerns(&self, documents: &[Passage], of: &[impl AsRef<str>], asked: &Asked) -> bool {
        let place = documents.get(self.place);
        let is_it = place.is_some_and(|d| of.iter().any(|of| of.as_ref() == d.id));
        is_it
            && match (self.kind, &self.replaced) {
                (Kind::Delete, _) => true,
                (_, Some(fact)) => asked.answers.iter().any(|gold| gold.contains(&**fact)),
                _ => false,
            }
    }
}
