//! What is a model asked about one row?
//!
//! A [`Task`] is a prompt with places for columns, and what its output is. With a row's values in
//! their places it is [`Rendered`]: texts and JSON stand before the instruction, under their
//! columns' names, where their KV fragments serve every task that asks about them; numbers,
//! instants and the like stand where the prompt names them.
//!
//! ```text
//! Is {text} worth more than {price} euros?
//!
//!     ## text                                          a document
//!     An oil painting, 60 x 80 cm, …
//!
//!     Is the text above worth more than 300 euros?     the instruction
//!
//!     Answer Yes if that is so, and No if it is not.   by the output's type
//! ```
//!
//! A task may be asked of several rows at once ([`Subject`]): their values stand before the
//! instruction one row after another. What came of some such rows and of others is combined by the
//! same task, asked of these answers.
//!
//! Identities hash an explicit encoding: [`Task::encode`], [`TaskDigest`].

use std::ops::Range;
use std::sync::Arc;

use perennial_rows::encoding::Encoder;
use perennial_rows::{Type, Value};
use serde::{Deserialize, Serialize};

use crate::record::Fields;
use crate::records::Records;

/// Answers of a task whose output is a truth, true first.
const TRUTHS: [&str; 2] = ["Yes", "No"];
/// Answers of a task whose output is a score, least first.
const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
/// What two rows are called that one is to be chosen of.
const OF_PAIR: [&str; 2] = ["A", "B"];
/// Labels of one task.
const MAX_LABELS: usize = 256;
/// Tokens of one output, or of one answer, that may be asked for: more than any model writes, and few
/// enough to be added to what a prompt has.
pub const MAX_OUTPUT_TOKENS: usize = 1_000_000;
/// Most places in the answers of tasks of which is kept what a model says there of no row.
pub(crate) const MAX_INCLINATIONS: usize = 10_000;
/// What a task's digest covers, and its version: another when prompts are rendered otherwise.
const DIGEST_OF: &str = "perennial task 1";

/// A part of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Piece {
    /// It stands there as it is.
    Text(Arc<str>),
    /// The value of a column, by its place in [`Task::columns`].
    Column(usize),
}

/// What a task gives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// A text that the model writes, of at most so many tokens.
    Text {
        /// Most tokens.
        max_tokens: usize,
    },
    /// Whether something is so; decided by which of two answers is likelier.
    Truth,
    /// One of these, decided by which is likelier. They differ.
    Label(Arc<[Arc<str>]>),
    /// How much something is so, from 0 to 1: the digit that is to be expected by the likelihoods of
    /// all digits, as a share of 9.
    Score,
    /// Values that are read out of it: a JSON object of these members, null where one is not said.
    Record {
        /// What is read.
        fields: Fields,
        /// Most tokens of the object as the model writes it.
        max_tokens: usize,
    },
    /// Rows that are read out of it: a JSON list of such objects.
    Records {
        /// What is read.
        records: Records,
        /// Most tokens of the list as the model writes it; of a longer one the rows that are whole.
        max_tokens: usize,
    },
}

impl Output {
    /// The type of the column that it becomes.
    pub fn of(&self) -> Type {
        match self {
            Self::Text { .. } | Self::Label(_) => Type::Text,
            Self::Truth => Type::Boolean,
            Self::Score => Type::Float,
            Self::Record { .. } | Self::Records { .. } => Type::Json,
        }
    }

    /// Most tokens that the model writes of it; nothing where it is read from likelihoods.
    pub fn max_tokens(&self) -> Option<usize> {
        match self {
            Self::Text { max_tokens }
            | Self::Record { max_tokens, .. }
            | Self::Records { max_tokens, .. } => Some(*max_tokens),
            Self::Truth | Self::Label(_) | Self::Score => None,
        }
    }

    /// The fields that are read out of a row, where it is that.
    pub fn fields(&self) -> Option<&Fields> {
        match self {
            Self::Record { fields, .. } => Some(fields),
            Self::Records { records, .. } => Some(records.fields()),
            Self::Text { .. } | Self::Truth | Self::Label(_) | Self::Score => None,
        }
    }

    /// A regular expression of what a model on this machine writes, where it must obey one.
    pub(crate) fn expression(&self) -> Option<String> {
        match self {
            Self::Record { fields, .. } => Some(fields.expression()),
            Self::Records { records, .. } => Some(records.expression()),
            Self::Text { .. } | Self::Truth | Self::Label(_) | Self::Score => None,
        }
    }

    /// A JSON schema of what a server's model writes, where it must obey one.
    #[cfg(feature = "remote")]
    pub(crate) fn schema(&self) -> Option<serde_json::Value> {
        match self {
            Self::Record { fields, .. } => Some(fields.schema()),
            Self::Records { records, .. } => Some(records.schema()),
            Self::Text { .. } | Self::Truth | Self::Label(_) | Self::Score => None,
        }
    }

    /// What was read out of a row, by what a model wrote; `None` where that says nothing of the kind.
    pub(crate) fn read(&self, text: &str) -> Option<Value> {
        match self {
            Self::Record { fields, .. } => fields.read(text),
            Self::Records { records, .. } => records.read(text),
            Self::Text { .. } | Self::Truth | Self::Label(_) | Self::Score => None,
        }
    }
}

/// The score of digits from 0 on, by how likely each is, in nats up to one number that is the same
/// for all: what is to be expected, as a share of the highest. Four decimals, so that it does not
/// hang on how a machine rounds.
pub(crate) fn score(log_likelihoods: &[f32]) -> f64 {
    let highest = log_likelihoods
        .iter()
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    let weights = log_likelihoods.iter().map(|x| f64::from(x - highest).exp());
    let weights: Vec<f64> = weights.collect();
    let total: f64 = weights.iter().sum();
    let expected: f64 = weights
        .iter()
        .enumerate()
        .map(|(at, weight)| at as f64 * weight)
        .sum();
    let share = expected / total / (weights.len() - 1) as f64;
    (share * 1e4).round() / 1e4
}

/// A place in a prompt where a column is named, and by which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// The name as it is written, without spaces around it.
    pub name: Arc<str>,
    /// Which bytes of the prompt it is, braces included.
    pub at: Range<usize>,
}

/// What a model reads when it performs a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// One row: its values of [`Task::columns`].
    Row,
    /// Two rows, the values of the first and then those of the second: which of them is chosen.
    Pair,
    /// One row or several: the values of the first, then those of the next.
    Rows,
    /// Answers to the same task of [`Subject::Rows`], each of some of the rows.
    Answers {
        /// Most of them.
        at_most: usize,
    },
}

/// The heading of a partial answer.
const PARTIAL_ANSWER: &str = "partial answer";
/// Tokens to reserve for a partial answer's heading, and for what its text has more when it is read
/// than it had when it was written.
const ANSWER_MARGIN: usize = 16;

/// What is wrong with a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct TaskError {
    /// What is wrong, and what to do about it.
    pub what: String,
    /// Which bytes of the prompt are; none where it is not the prompt.
    pub at: Option<Range<usize>>,
}

/// A question to a model about any row, or any rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    pieces: Arc<[Piece]>,
    columns: Arc<[Arc<str>]>,
    output: Output,
    subject: Subject,
}

/// Digest of a provider, a task and the values that it is asked about: all that an output depends
/// on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskDigest(pub [u8; 32]);

/// A task with values in their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// What stands before the instruction: the names of columns and their texts. Of several rows a
    /// name stands several times.
    pub documents: Vec<(Arc<str>, Arc<str>)>,
    /// What is asked about them.
    pub instruction: String,
}

impl Task {
    /// The task of a prompt in which `{name}` is the value of a column; a brace is written twice.
    ///
    /// # Errors
    /// A prompt that names no column, an empty name, a brace without its other; labels that are
    /// empty, alike, fewer than two or too many; a limit of no tokens, or of more than
    /// [`MAX_OUTPUT_TOKENS`].
    pub fn new(prompt: &str, output: Output) -> Result<Self, TaskError> {
        check_output(&output)?;
        let (pieces, mentions) = parse(prompt)?;
        let mut columns: Vec<Arc<str>> = Vec::new();
        for mention in mentions {
            if !columns.contains(&mention.name) {
                columns.push(mention.name);
            }
        }
        if columns.is_empty() {
            return Err(TaskError {
                what: "the prompt names no column; write it in braces, as in {text}".to_owned(),
                at: None,
            });
        }
        let place = |name: &Arc<str>| columns.iter().position(|column| column == name);
        let pieces = pieces.into_iter().map(|piece| match piece {
            Parsed::Text(text) => Piece::Text(text.into()),
            Parsed::Column(name) => Piece::Column(place(&name).unwrap_or_default()),
        });
        Ok(Self {
            pieces: pieces.collect(),
            columns: columns.into(),
            output,
            subject: Subject::Row,
        })
    }

    /// The task of choosing one of two rows; its prompt as in [`Task::new`].
    ///
    /// # Errors
    /// As [`Task::new`], of the prompt.
    pub fn of_pair(prompt: &str) -> Result<Self, TaskError> {
        let output = Output::Label(OF_PAIR.map(Arc::from).into());
        Ok(Self::new(prompt, output)?.of(Subject::Pair))
    }

    /// The same, asked of this.
    #[must_use]
    pub fn of(mut self, subject: Subject) -> Self {
        self.subject = subject;
        self
    }

    /// Where a prompt names columns, in order.
    ///
    /// # Errors
    /// As [`Task::new`], of the prompt.
    pub fn mentions(prompt: &str) -> Result<Vec<Mention>, TaskError> {
        Ok(parse(prompt)?.1)
    }

    /// The columns that it names, each once.
    pub fn columns(&self) -> &[Arc<str>] {
        &self.columns
    }

    /// What it gives.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// What a model reads when it performs it.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// Most tokens that it may have to read of partial answers; 0 where it reads none.
    pub fn n_answer_tokens(&self) -> usize {
        match (self.subject, &self.output) {
            (Subject::Answers { at_most }, Output::Text { max_tokens }) => {
                at_most.saturating_mul(max_tokens.saturating_add(ANSWER_MARGIN))
            }
            _ => 0,
        }
    }

    /// The prompt as it is written.
    pub fn prompt(&self) -> String {
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.replace('{', "{{").replace('}', "}}"),
            Piece::Column(at) => format!("{{{}}}", self.columns[*at]),
        });
        pieces.collect()
    }

    /// The answers that it may have, in the order of what they stand for; none where the model
    /// writes freely.
    pub fn choices(&self) -> Vec<Arc<str>> {
        match &self.output {
            Output::Text { .. } | Output::Record { .. } | Output::Records { .. } => Vec::new(),
            Output::Truth => TRUTHS.map(Arc::from).to_vec(),
            Output::Score => DIGITS.map(Arc::from).to_vec(),
            Output::Label(labels) => labels.to_vec(),
        }
    }

    /// The value that a choice stands for, by its place in [`Task::choices`].
    pub fn chosen(&self, at: usize) -> Value {
        match &self.output {
            Output::Truth => Value::Boolean(at == 0),
            Output::Score => Value::float(at as f64 / (DIGITS.len() - 1) as f64),
            _ => self
                .choices()
                .get(at)
                .map_or(Value::Null, |label| label.clone().into()),
        }
    }

    /// What the model reads where there is no row: of what it says then, nothing is the row's.
    pub fn neutral(&self) -> Rendered {
        let n_rows = match self.subject {
            Subject::Pair => OF_PAIR.len(),
            _ => 1,
        };
        self.rendered(&vec![Value::text("N/A"); n_rows * self.columns.len()])
    }

    /// What the model reads for these values: those of a row, or what the [`Subject`] says.
    pub fn rendered(&self, values: &[Value]) -> Rendered {
        let mut instruction = String::new();
        for piece in &*self.pieces {
            match piece {
                Piece::Text(text) => instruction.push_str(text),
                Piece::Column(at) => instruction.push_str(&self.in_place(*at, values)),
            }
        }
        if let Subject::Answers { .. } = self.subject {
            instruction.push_str(
                "\n\nEach partial answer above was given after reading only some of them. Combine \
                 these into one answer.",
            );
        }
        match &self.output {
            Output::Text { .. } => {}
            Output::Truth => {
                instruction.push_str("\n\nAnswer Yes if that is so, and No if it is not.");
            }
            Output::Label(labels) => {
                instruction.push_str("\n\nAnswer with one of these and nothing else: ");
                instruction.push_str(&labels.join(", "));
                instruction.push('.');
            }
            Output::Score => {
                instruction.push_str(
                    "\n\nAnswer with one digit from 0 to 9 and nothing else: 0 is not at all, 9 is as \
                     much as can be.",
                );
            }
            Output::Record { fields, .. } => {
                instruction.push_str("\n\nAnswer with JSON in this form and nothing else: ");
                instruction.push_str(&fields.form());
                instruction.push_str("\nWrite null for what is not said.");
            }
            Output::Records { records, .. } => {
                instruction.push_str(
                    "\n\nAnswer with JSON in this form and nothing else, with one object for each that the \
                     text tells of: ",
                );
                instruction.push_str(&records.form());
                instruction.push_str("\nWrite null for what is not said.");
            }
        }
        Rendered {
            documents: self.documents(values),
            instruction,
        }
    }

    /// What stands in the instruction where this column is named.
    fn in_place(&self, column: usize, values: &[Value]) -> Arc<str> {
        let name = &self.columns[column];
        let plural = || match name.ends_with('s') {
            true => name.to_string(),
            false => format!("{name}s"),
        };
        match (self.subject, values.get(column)) {
            (Subject::Row, Some(value)) if !is_document(value) => text_of(value),
            (Subject::Row, _) => format!("the {name} above").into(),
            (Subject::Pair, _) => name.clone(),
            (Subject::Rows, _) => format!("the {} above", plural()).into(),
            (Subject::Answers { .. }, _) => format!("the {}", plural()).into(),
        }
    }

    /// What stands before the instruction. Of one row it is what is a text; of several it is all
    /// that they hold, since no place in the instruction is that of one row.
    fn documents(&self, values: &[Value]) -> Vec<(Arc<str>, Arc<str>)> {
        let columns = self.columns.iter().cycle();
        match self.subject {
            Subject::Row => {
                let pairs = self.columns.iter().zip(values);
                let documents = pairs.filter(|(_, value)| is_document(value));
                documents
                    .map(|(name, value)| (name.clone(), text_of(value)))
                    .collect()
            }
            Subject::Pair => {
                let rows = OF_PAIR.iter().flat_map(|row| vec![row; self.columns.len()]);
                let shown = columns.zip(values).zip(rows);
                shown
                    .map(|((name, value), row)| (format!("{name} {row}").into(), text_of(value)))
                    .collect()
            }
            Subject::Rows => {
                let pairs = columns.zip(values);
                pairs
                    .map(|(name, value)| (name.clone(), text_of(value)))
                    .collect()
            }
            Subject::Answers { .. } => {
                let heading: Arc<str> = PARTIAL_ANSWER.into();
                let answers = values.iter().map(text_of);
                answers.map(|text| (heading.clone(), text)).collect()
            }
        }
    }

    /// Writes all that tells this task from others.
    pub fn encode(&self, encoder: &mut Encoder) {
        // A task of one row begins with the number of its columns, which is never 0.
        match self.subject {
            Subject::Row => {}
            Subject::Rows => {
                encoder.number(0).number(1);
            }
            Subject::Pair => {
                encoder.number(0).number(3);
            }
            // How many answers there may be is told by what it is asked about.
            Subject::Answers { .. } => {
                encoder.number(0).number(2);
            }
        }
        encoder.number(self.columns.len() as u64);
        for column in &*self.columns {
            encoder.text(column);
        }
        encoder.number(self.pieces.len() as u64);
        for piece in &*self.pieces {
            match piece {
                Piece::Text(text) => encoder.number(1).text(text),
                Piece::Column(at) => encoder.number(2).number(*at as u64),
            };
        }
        match &self.output {
            Output::Text { max_tokens } => encoder.number(1).number(*max_tokens as u64),
            Output::Truth => encoder.number(2),
            Output::Label(labels) => {
                encoder.number(3).number(labels.len() as u64);
                labels
                    .iter()
                    .fold(encoder, |encoder, label| encoder.text(label))
            }
            Output::Score => encoder.number(4),
            Output::Record { fields, max_tokens } => {
                encoder.number(5).number(*max_tokens as u64);
                fields.encode(encoder);
                encoder
            }
            Output::Records {
                records,
                max_tokens,
            } => {
                encoder.number(6).number(*max_tokens as u64);
                records.encode(encoder);
                encoder
            }
        };
    }
}

impl TaskDigest {
    /// The digest of a task over values, asked of a provider with this digest.
    pub fn of(provider: &[u8; 32], task: &Task, values: &[Value]) -> Self {
        let mut encoder = Encoder::new();
        encoder.fixed(provider);
        task.encode(&mut encoder);
        encoder.values(values);
        Self(encoder.digest(DIGEST_OF))
    }
}

/// Whether a value stands before the instruction, not in it.
fn is_document(value: &Value) -> bool {
    matches!(value, Value::Text(_) | Value::Json(_))
}

/// A value as a prompt shows it.
fn text_of(value: &Value) -> Arc<str> {
    match value {
        Value::Text(text) | Value::Json(text) => text.clone(),
        other => other.to_string().into(),
    }
}

fn check_output(output: &Output) -> Result<(), TaskError> {
    let checked = match output {
        _ if output.max_tokens() == Some(0) => Err("an output of 0 tokens says nothing".to_owned()),
        _ if output.max_tokens() > Some(MAX_OUTPUT_TOKENS) => {
            Err(format!("an output has at most {MAX_OUTPUT_TOKENS} tokens"))
        }
        Output::Label(labels) => check_labels(labels),
        _ => Ok(()),
    };
    checked.map_err(|what| TaskError { what, at: None })
}

/// Whether labels tell something apart.
pub(crate) fn check_labels(labels: &[Arc<str>]) -> Result<(), String> {
    if labels.len() < 2 {
        return Err("give two labels or more".to_owned());
    }
    if labels.len() > MAX_LABELS {
        return Err(format!("{} labels; at most {MAX_LABELS}", labels.len()));
    }
    if labels.iter().any(|label| label.trim().is_empty()) {
        return Err("a label is empty".to_owned());
    }
    let is_twice = |(at, label): &(usize, &Arc<str>)| labels[..*at].contains(label);
    match labels.iter().enumerate().find(is_twice) {
        Some((_, label)) => Err(format!("the label `{label}` is given twice")),
        None => Ok(()),
    }
}

/// A piece that still names its column.
enum Parsed {
    Text(String),
    Column(Arc<str>),
}

fn parse(prompt: &str) -> Result<(Vec<Parsed>, Vec<Mention>), TaskError> {
    let (mut pieces, mut mentions) = (Vec::new(), Vec::new());
    let mut text = String::new();
    let mut rest = prompt;
    while let Some(brace) = rest.find(['{', '}']) {
        let begin = prompt.len() - rest.len() + brace;
        text.push_str(&rest[..brace]);
        let (is_open, behind) = (rest[brace..].starts_with('{'), &rest[brace + 1..]);
        let same = if is_open { '{' } else { '}' };
        if let Some(behind) = behind.strip_prefix(same) {
            text.push(same);
            rest = behind;
            continue;
        }
        let fault = |what: &str, end: usize| TaskError {
            what: what.to_owned(),
            at: Some(begin..end),
        };
        if !is_open {
            return Err(fault("`}` closes nothing; write }} for a brace", begin + 1));
        }
        let Some(close) = behind.find(['{', '}']) else {
            let what = "`{` is not closed; write {{ for a brace";
            return Err(fault(what, prompt.len()));
        };
        let end = begin + 1 + close;
        if behind[close..].starts_with('{') {
            return Err(fault("`{` is not closed; write {{ for a brace", end));
        }
        let name = behind[..close].trim();
        if name.is_empty() {
            return Err(fault("`{}` names no column", end + 1));
        }
        let name: Arc<str> = name.into();
        if !text.is_empty() {
            pieces.push(Parsed::Text(std::mem::take(&mut text)));
        }
        pieces.push(Parsed::Column(name.clone()));
        mentions.push(Mention {
            name,
            at: begin..end + 1,
        });
        rest = &behind[close + 1..];
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Parsed::Text(text));
    }
    Ok((pieces, mentions))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn truth(prompt: &str) -> Task {
        Task::new(prompt, Output::Truth).expect("sound")
    }

    #[test]
    fn texts_stand_before_the_instruction_and_numbers_in_it() {
        let task = truth("Is {text} worth more than {price} euros? {{{text}}}");
        assert_eq!(*task.columns(), ["text".into(), "price".into()]);
        let rendered = task.rendered(&["A painting.".into(), 300i64.into()]);
        assert_eq!(rendered.documents, [("text".into(), "A painting.".into())]);
        assert_eq!(
            rendered.instruction,
            "Is the text above worth more than 300 euros? {the text above}\n\n\
             Answer Yes if that is so, and No if it is not."
        );
    }

    #[test]
    fn rows_stand_one_after_another_and_answers_are_combined_by_the_same_task() {
        let output = Output::Text { max_tokens: 9 };
        let task = Task::new("What do {text} cost? Mind {price}.", output).expect("sound");
        let rows = task.clone().of(Subject::Rows);
        let rendered = rows.rendered(&["a".into(), 1i64.into(), "b".into(), 2i64.into()]);
        let documents = [("text", "a"), ("price", "1"), ("text", "b"), ("price", "2")];
        assert_eq!(
            rendered.documents,
            documents.map(|(n, t)| (n.into(), t.into()))
        );
        assert_eq!(
            rendered.instruction,
            "What do the texts above cost? Mind the prices above."
        );
        let answers = task.of(Subject::Answers { at_most: 2 });
        let rendered = answers.rendered(&["much".into(), "little".into()]);
        let documents = [("partial answer", "much"), ("partial answer", "little")];
        assert_eq!(
            rendered.documents,
            documents.map(|(n, t)| (n.into(), t.into()))
        );
        assert!(rendered.instruction.starts_with("What do the texts cost?"));
        assert!(
            rendered
                .instruction
                .ends_with("Combine these into one answer.")
        );
        assert_eq!((rows.n_answer_tokens(), answers.n_answer_tokens()), (0, 50));
    }

    #[test]
    fn what_is_wrong_with_a_prompt_is_said_with_its_place() {
        let cases = [
            ("is { } so", "`{}` names no column", Some(3..6)),
            (
                "is {a so",
                "`{` is not closed; write {{ for a brace",
                Some(3..8),
            ),
            (
                "is {a{b}",
                "`{` is not closed; write {{ for a brace",
                Some(3..5),
            ),
            (
                "is a} so",
                "`}` closes nothing; write }} for a brace",
                Some(4..5),
            ),
            (
                "is it {{so}}",
                "the prompt names no column; write it in braces, as in {text}",
                None,
            ),
        ];
        for (prompt, what, at) in cases {
            let error = Task::new(prompt, Output::Truth).expect_err(prompt);
            assert_eq!((error.what.as_str(), error.at), (what, at), "{prompt}");
        }
    }

    #[test]
    fn labels_must_tell_something_apart() {
        let labels = |all: &[&str]| {
            let labels = all.iter().map(|label| Arc::from(*label)).collect();
            Task::new("{a}", Output::Label(labels)).map_err(|error| error.what)
        };
        assert_eq!(labels(&["x"]).expect_err("one"), "give two labels or more");
        let twice = labels(&["x", "y", "x"]).expect_err("twice");
        assert_eq!(twice, "the label `x` is given twice");
        assert_eq!(labels(&["x", " "]).expect_err("empty"), "a label is empty");
        let task = labels(&["x", "y"]).expect("two");
        assert_eq!(task.chosen(1), "y".into());
        assert_eq!(truth("{a}").chosen(1), Value::Boolean(false));
    }

    #[test]
    fn an_output_has_some_tokens_and_not_too_many() {
        let of = |max_tokens| {
            let task = Task::new("{a}", Output::Text { max_tokens });
            task.map(drop).map_err(|error| error.what)
        };
        assert_eq!(of(MAX_OUTPUT_TOKENS), Ok(()));
        for wrong in [0, MAX_OUTPUT_TOKENS + 1, usize::MAX] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    /// State directories hold these: a change here makes every kept output another task's.
    #[test]
    fn a_digest_is_the_same_in_every_release() {
        let digest = TaskDigest::of(&[1; 32], &truth("is {a} so?"), &["x".into()]);
        let hex: String = digest.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "85f0bbec470aa0a70b68251b3cef28db6ac182c4e2211bba38da9c2cdf413888"
        );
        let of =
            |subject| TaskDigest::of(&[1; 32], &truth("is {a} so?").of(subject), &["x".into()]);
        let hex = |digest: TaskDigest| digest.0[..4].iter().map(|b| format!("{b:02x}")).collect();
        let found: [String; 2] =
            [Subject::Rows, Subject::Answers { at_most: 16 }].map(|subject| hex(of(subject)));
        assert_eq!(found, ["0e723d65", "3301affb"]);
    }

    proptest! {
        #[test]
        fn a_prompt_is_written_as_it_is_read(prompt in "[a{} ]{0,12}") {
            if let Ok(task) = Task::new(&prompt, Output::Truth) {
                let again = truth(&task.prompt());
                prop_assert_eq!(again, task);
            }
        }

        #[test]
        fn tasks_that_differ_have_digests_that_do(
            a in "[a{} b]{0,10}", b in "[a{} b]{0,10}", x in 0i64..3, y in 0i64..3,
        ) {
            let task = |prompt: &str| Task::new(prompt, Output::Truth).ok();
            if let (Some(a), Some(b)) = (task(&a), task(&b)) {
                let digest = |task: &Task, x: i64| {
                    let values = vec![Value::from(x); task.columns().len()];
                    TaskDigest::of(&[0; 32], task, &values)
                };
                prop_assert_eq!(digest(&a, x) == digest(&b, y), a == b && x == y);
            }
        }
    }
}
