//! Passages with the questions that they answer, from a file of JSON lines.
//!
//! A line is a *passage* with its questions, or a *row*: a question with passages of its own. A file has
//! lines of one kind; other fields of a line are passed over.
//!
//! ```json
//! {"id": "Oslo/0", "title": "Oslo", "text": "Oslo was founded in 1040.",
//!  "questions": [{"question": "When was Oslo founded?", "answers": ["1040", "in 1040"]}]}
//! ```
//!
//! What stands before the first `/` of a passage's id is its *article*. Gold answers stand in the text word
//! for word, where they are to be corrected.
//!
//! ```json
//! {"id": "5a8b57f25542995d1e6f1371", "question": "…?", "answers": ["yes"],
//!  "passages": [{"title": "Scott Derrickson", "text": "…", "supporting": true}, …]}
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::CalibrationError;

/// Bytes of a line, at most.
const MAX_LINE: u64 = 4 << 20;
/// Lines of a file, at most.
const MAX_LINES: usize = 1 << 20;

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

/// A question over passages of its own.
#[derive(Clone, Debug, Deserialize)]
struct Row {
    id: String,
    #[serde(flatten)]
    asked: Asked,
    passages: Vec<Candidate>,
}

/// A passage of a row.
#[derive(Clone, Debug, Deserialize)]
struct Candidate {
    title: String,
    text: String,
    /// Whether the answer needs it.
    supporting: bool,
}

/// Documents, and questions about them.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is fitted together: an article, or a row.
    pub group: String,
    /// The documents.
    pub documents: Vec<Passage>,
    /// The questions, each with the ids of the documents that it is about.
    pub asked: Vec<(Vec<String>, Asked)>,
}

/// All lines of a file.
#[derive(Clone, Debug)]
pub struct Set {
    /// Where it stands.
    pub path: PathBuf,
    /// All passages, those of rows among them.
    pub passages: Vec<Passage>,
    rows: Vec<Case>,
}

impl Passage {
    /// The article's name in ids.
    pub fn article(&self) -> &str {
        self.id.split('/').next().unwrap_or(&self.id)
    }

    fn check(&self) -> Result<(), String> {
        if self.id.trim().is_empty() || self.text.trim().is_empty() {
            return Err("`id` and `text` of a passage are not empty".into());
        }
        self.questions.iter().try_for_each(Asked::check)
    }
}

impl Asked {
    fn check(&self) -> Result<(), String> {
        if self.question.trim().is_empty() {
            return Err("a question is empty".into());
        }
        match self.answers.iter().any(|answer| !answer.trim().is_empty()) {
            true => Ok(()),
            false => Err(format!("the question {:?} has no answer", self.question)),
        }
    }
}

impl Row {
    fn check(&self) -> Result<(), String> {
        let is_empty = |candidate: &Candidate| candidate.text.trim().is_empty();
        if self.id.trim().is_empty() || self.passages.iter().any(is_empty) {
            return Err("the `id` of a row and the `text` of its passages are not empty".into());
        }
        self.asked.check()
    }

    fn case(self) -> Case {
        let candidates = (0..).zip(self.passages);
        let (documents, is_supporting): (Vec<Passage>, Vec<bool>) = candidates
            .map(|(i, candidate)| {
                let passage = Passage {
                    id: format!("{}/{i}", self.id),
                    title: candidate.title,
                    text: candidate.text,
                    questions: Vec::new(),
                };
                (passage, candidate.supporting)
            })
            .unzip();
        let supporting = documents.iter().zip(is_supporting);
        let of = supporting.filter(|(_, is)| *is).map(|(d, _)| d.id.clone());
        Case {
            asked: vec![(of.collect(), self.asked)],
            group: self.id,
            documents,
        }
    }
}

impl Set {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read; the first line that is neither a passage nor a row, or not of the kind
    /// of those before, or that has the id of one before.
    pub fn read(path: &Path) -> Result<Self, CalibrationError> {
        let failed = |source| CalibrationError::Read {
            path: path.into(),
            source,
        };
        let mut reader = BufReader::new(File::open(path).map_err(failed)?);
        let mut set = Self {
            path: path.into(),
            passages: Vec::new(),
            rows: Vec::new(),
        };
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for line in 1.. {
            let mut bytes = Vec::new();
            let mut taken = (&mut reader).take(MAX_LINE + 1);
            if taken.read_until(b'\n', &mut bytes).map_err(failed)? == 0 {
                break;
            }
            let read = set.take_in(&bytes, line, &mut seen);
            read.map_err(|reason| CalibrationError::Line {
                path: path.into(),
                line,
                reason,
            })?;
        }
        Ok(set)
    }

    /// Takes a line in.
    fn take_in(
        &mut self,
        bytes: &[u8],
        line: usize,
        seen: &mut BTreeMap<String, usize>,
    ) -> Result<(), String> {
        if bytes.len() as u64 > MAX_LINE {
            return Err(format!("a line has {MAX_LINE} bytes at most"));
        }
        if line > MAX_LINES {
            return Err(format!("a file has {MAX_LINES} lines at most"));
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if !value.is_object() {
            return Err(
                "a line is an object: {\"id\": …, \"title\": …, \"text\": …, \"questions\": […]}"
                    .into(),
            );
        }
        let is_row = value.get("passages").is_some();
        let is_other = match is_row {
            true => !self.passages.is_empty() && self.rows.is_empty(),
            false => !self.rows.is_empty(),
        };
        if is_other {
            return Err(
                "a passage and a row with `passages` of its own in one file: keep them apart"
                    .into(),
            );
        }
        let id = match is_row {
            true => {
                let row: Row = fields(value)?;
                row.check()?;
                let (id, case) = (row.id.clone(), row.case());
                self.passages.extend(case.documents.iter().cloned());
                self.rows.push(case);
                id
            }
            false => {
                let passage: Passage = fields(value)?;
                passage.check()?;
                let id = passage.id.clone();
                self.passages.push(passage);
                id
            }
        };
        match seen.insert(id.clone(), line) {
            None => Ok(()),
            Some(first) => Err(format!("the id {id:?} stands at line {first} already")),
        }
    }

    /// What people call it: the file's name without its ending.
    pub fn name(&self) -> String {
        let name = self.path.file_stem().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// So many articles or rows, from all of the file alike: of an article the first `n_documents`
    /// passages, with `n_questions` questions from all of these alike. Left out is what has no question, or
    /// only one passage.
    pub fn cases(&self, n_cases: usize, (n_documents, n_questions): (usize, usize)) -> Vec<Case> {
        let cases = match self.rows.is_empty() {
            true => self.articles(n_documents, n_questions),
            false => self.rows.clone(),
        };
        let is_of_use = |case: &Case| !case.asked.is_empty() && case.documents.len() > 1;
        let cases: Vec<Case> = cases.into_iter().filter(is_of_use).collect();
        let step = (cases.len() / n_cases.max(1)).max(1);
        cases.into_iter().step_by(step).take(n_cases).collect()
    }

    fn articles(&self, n_documents: usize, n_questions: usize) -> Vec<Case> {
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut articles: Vec<Vec<Passage>> = Vec::new();
        for passage in &self.passages {
            let place = *places.entry(passage.article()).or_insert(articles.len());
            if place == articles.len() {
                articles.push(Vec::new());
            }
            let article = &mut articles[place];
            if article.len() < n_documents {
                article.push(passage.clone());
            }
        }
        let case = |documents: Vec<Passage>| {
            let asked = questions(&documents, n_questions).into_iter();
            let asked = asked.map(|(of, asked)| (vec![of.to_owned()], asked.clone()));
            Some(Case {
                group: documents.first()?.article().to_owned(),
                asked: asked.collect(),
                documents,
            })
        };
        articles.into_iter().filter_map(case).collect()
    }
}

/// The fields of a line, with the name of one that is missing or of another type.
fn fields<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Set, CalibrationError> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("sums.jsonl");
        std::fs::write(&path, text).expect("writable");
        Set::read(&path)
    }

    fn passage(id: &str, questions: &[&str]) -> String {
        let questions: Vec<Value> = questions
            .iter()
            .map(|q| serde_json::json!({"question": q, "answers": ["nine"]}))
            .collect();
        let line = serde_json::json!({
            "id": id, "title": "T", "text": format!("{id} is nine."), "questions": questions, "more": 1,
        });
        format!("{line}\n")
    }

    #[test]
    fn articles_are_what_ids_begin_with_wherever_their_passages_stand() {
        let lines = [
            passage("a/0", &["a0?", "a1?"]),
            "\n".to_owned(),
            passage("b/0", &["b0?"]),
            passage("a/1", &["a2?", "a0?"]),
            // Alone, and without questions: of no use.
            passage("c/0", &["c0?"]),
            passage("d/0", &[]),
            passage("d/1", &[]),
            passage("b/1", &[]),
            passage("a/2", &["a3?"]),
        ];
        let set = read(&lines.concat()).expect("a set");
        assert_eq!((set.name(), set.passages.len()), ("sums".to_owned(), 8));
        let cases = set.cases(9, (2, 3));
        let shape = |case: &Case| {
            let asked = case
                .asked
                .iter()
                .map(|(of, asked)| format!("{} {}", of[0], asked.question));
            (
                case.group.clone(),
                case.documents.len(),
                asked.collect::<Vec<_>>().join(", "),
            )
        };
        let shapes: Vec<_> = cases.iter().map(shape).collect();
        let expected = [
            ("a".to_owned(), 2, "a/0 a0?, a/1 a2?, a/0 a1?".to_owned()),
            ("b".to_owned(), 2, "b/0 b0?".to_owned()),
        ];
        assert_eq!(shapes, expected);
        assert_eq!(set.cases(1, (2, 3)).len(), 1);
    }

    #[test]
    fn a_row_is_a_case_of_its_own() {
        let row = r#"{"id": "r", "question": "Who?", "answers": ["She"], "passages":
            [{"title": "A", "text": "She.", "supporting": true}, {"title": "B", "text": "He.", "supporting": false}]}"#;
        let set = read(&row.replace('\n', " ")).expect("a set");
        let cases = set.cases(5, (9, 9));
        assert_eq!((cases.len(), &*cases[0].group), (1, "r"));
        assert_eq!(cases[0].asked[0].0, ["r/0"]);
        let mixed = format!("{}{}", row.replace('\n', " ") + "\n", passage("a/0", &[]));
        assert!(
            read(&mixed)
                .expect_err("mixed")
                .to_string()
                .contains("sums.jsonl:2: a passage and a row")
        );
    }

    #[test]
    fn a_wrong_line_is_named_with_its_file_and_number() {
        let good = passage("a/0", &["a0?"]);
        for (line, says) in [
            ("{\"id\": \"a/1\", ", "EOF while parsing"),
            ("[1]", "a line is an object"),
            (
                "{\"id\": \"a/1\", \"title\": \"T\", \"text\": \"x\"}",
                "missing field `questions`",
            ),
            (
                "{\"id\": 3, \"title\": \"T\", \"text\": \"x\", \"questions\": []}",
                "invalid type: integer `3`, expected a string",
            ),
            (
                "{\"id\": \"a/1\", \"title\": \"T\", \"text\": \" \", \"questions\": []}",
                "are not empty",
            ),
            (
                "{\"id\": \"a/1\", \"title\": \"T\", \"text\": \"x\", \"questions\": [{\"question\": \"Q?\", \"answers\": []}]}",
                "the question \"Q?\" has no answer",
            ),
            ("{\"id\": \"r\", \"passages\": []}", "keep them apart"),
            (good.trim(), "stands at line 1 already"),
        ] {
            let error = read(&format!("{good}\n{line}\n"))
                .expect_err(says)
                .to_string();
            assert!(
                error.contains("sums.jsonl:3: ") && error.contains(says),
                "{error}"
            );
        }
        let long = format!("{good}{}", "x".repeat(MAX_LINE as usize + 2));
        let error = read(&long).expect_err("long").to_string();
        assert!(error.contains(":2: a line has"), "{error}");
        assert!(read("{\"id\": \"\u{e9}\"}").is_err());
        let none = Set::read(Path::new("none.jsonl"))
            .expect_err("no file")
            .to_string();
        assert!(none.starts_with("none.jsonl: "), "{none}");
    }
}
