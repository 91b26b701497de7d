//! What does the scripted model say of a row?
//!
//! A text is the instruction and the row's texts, cut to the limit. A truth, or a label, is the one
//! that a text of the row holds as a word of the prompt, or that a hash picks where there is none:
//! so outputs look like outputs, and random rows give each.
//!
//! Of several rows it says how many there were, and a hash of all that it read; of answers the sum
//! of what these say, and a hash: so nothing can be lost, come twice or trade places unseen.

use crate::answer::{AnswerModel, CallError, Work, n_tokens_of};
use crate::provider::{Capabilities, Failure, Performed, Provider, TaskCall};
use crate::record::{FieldType, Fields};
use crate::scripted::{ERROR_WORD, N_POSITIONS, PANIC_WORD, PREFIX, Scripted};
use crate::task::{Output, Rendered, Subject, Task, TaskDigest};
use perennial_rows::Value;
use serde_json::{Map, Value as Json};

/// What comes of a row, NULL where the model fails: the function that maintained outputs are held
/// against.
pub fn output(task: &Task, values: &[Value]) -> Value {
    let rendered = task.rendered(values);
    let asked = whole(&rendered);
    let fails = asked.contains(ERROR_WORD) || asked.contains(PANIC_WORD);
    match fails || values.contains(&Value::Null) {
        true => Value::Null,
        false => said(task, values, &rendered),
    }
}

fn said(task: &Task, values: &[Value], rendered: &Rendered) -> Value {
    let words =
        |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    let said: Vec<String> = rendered
        .documents
        .iter()
        .flat_map(|(_, t)| words(t))
        .collect();
    let hash = TaskDigest::of(&[0; 32], task, values).0;
    match task.output() {
        Output::Text { max_tokens } => {
            let mut text = match n_rows(task, values) {
                None => {
                    let documents = rendered.documents.iter().map(|(_, text)| &**text);
                    let parts: Vec<&str> = std::iter::once(&*rendered.instruction)
                        .chain(documents)
                        .collect();
                    parts.join(" | ")
                }
                Some(n) => {
                    let hex: String = hash[..4].iter().map(|b| format!("{b:02x}")).collect();
                    format!("{n} {hex}")
                }
            };
            let end = (0..=text.len().min(*max_tokens)).rev();
            text.truncate(
                end.into_iter()
                    .find(|i| text.is_char_boundary(*i))
                    .unwrap_or(0),
            );
            Value::text(text.trim())
        }
        Output::Truth if said.is_empty() => task.chosen(usize::from(hash[0] % 2)),
        Output::Truth => {
            let asked = words(&task.prompt());
            let is_so = said.iter().any(|word| asked.contains(word));
            task.chosen(usize::from(!is_so))
        }
        // By the last number of the row, up to 4; else by chance.
        Output::Score => {
            let numbers = said
                .iter()
                .rev()
                .filter_map(|word| word.parse::<u32>().ok());
            let number = numbers.map(|n| n.min(4)).next();
            Value::float(f64::from(number.unwrap_or(u32::from(hash[0] % 5))) / 4.0)
        }
        Output::Record { fields, .. } => fields.value(&record(fields, &said, &hash)),
        // A row of each sentence.
        Output::Records { records, .. } => {
            let texts = rendered.documents.iter().map(|(_, text)| &**text);
            let sentences = texts.flat_map(|text| text.split_inclusive(['.', '?', '\n']));
            let said = sentences.map(|sentence| words(sentence.trim_end_matches('.')));
            let said = said.filter(|words| !words.is_empty());
            let rows: Vec<Json> = said
                .map(|said| in_order(records.fields(), &said, &hash))
                .collect();
            records.value(&rows)
        }
        // The greater last number, else by chance: chance is no order.
        Output::Label(_) if task.subject() == Subject::Pair => {
            let (first, second) = values.split_at(values.len() / 2);
            let number = |row: &[Value]| {
                let texts = row.iter().rev().map(ToString::to_string);
                let all: Vec<String> = texts.flat_map(|text| words(&text)).collect();
                all.iter().rev().find_map(|word| word.parse::<i64>().ok())
            };
            let is_second = match number(first).zip(number(second)) {
                Some((a, b)) if a != b => a < b,
                _ => hash[0] % 2 == 1,
            };
            task.chosen(usize::from(is_second))
        }
        Output::Label(labels) => {
            let held = labels
                .iter()
                .position(|label| said.iter().any(|w| **w == **label));
            task.chosen(held.unwrap_or(usize::from(hash[0]) % labels.len()))
        }
    }
}

/// A record of the words of a row: one in four values is not said, others are by chance.
fn record(fields: &Fields, said: &[String], hash: &[u8; 32]) -> Json {
    let mut members = Map::new();
    for (at, field) in fields.all().iter().enumerate() {
        let chance = usize::from(hash[at % hash.len()]);
        let value = match &field.of {
            _ if chance % 4 == 3 => Json::Null,
            FieldType::Text => match said.len() {
                0 => Json::Null,
                n => said[chance % n].clone().into(),
            },
            FieldType::Integer => (chance as i64 - 128).into(),
            FieldType::Float => (chance as f64 / 4.0).into(),
            FieldType::Boolean => (chance >= 128).into(),
            FieldType::Timestamp => format!("2024-05-{:02} 09:30", chance % 28 + 1).into(),
            FieldType::OneOf(labels) => (&*labels[chance % labels.len()]).into(),
        };
        members.insert(field.name.to_string(), value);
    }
    Json::Object(members)
}

/// A record of the words of a sentence: texts are the first of them in their order, the last field's the last,
/// that of an only field all of them; other values are by chance.
fn in_order(fields: &Fields, said: &[String], hash: &[u8; 32]) -> Json {
    let mut members = record(fields, said, hash);
    if let [field] = fields.all()
        && field.of == FieldType::Text
    {
        members[&*field.name] = said.join(" ").into();
        return members;
    }
    for (at, field) in fields.all().iter().enumerate() {
        if field.of == FieldType::Text {
            let is_last = at + 1 == fields.all().len();
            let word = if is_last { said.last() } else { said.get(at) };
            members[&*field.name] = word.cloned().into();
        }
    }
    members
}

/// Of how many rows an answer is; `None` where it is of one by what is asked.
fn n_rows(task: &Task, values: &[Value]) -> Option<usize> {
    let said = |value: &Value| {
        let text = value.as_text().map_or("", |text| text);
        let n = text.split_whitespace().next().map(str::parse);
        n.and_then(Result::ok).unwrap_or(0usize)
    };
    match task.subject() {
        Subject::Row | Subject::Pair => None,
        Subject::Rows => Some(values.len() / task.columns().len()),
        Subject::Answers { .. } => Some(values.iter().map(said).sum()),
    }
}

impl Provider for Scripted {
    fn digest(&self) -> [u8; 32] {
        AnswerModel::digest(self)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            n_positions: N_POSITIONS,
            is_exact: true,
            edits_kv: true,
        }
    }

    fn check(&self, task: &Task) -> Result<(), String> {
        let n_prompt = n_tokens_of([task.prompt().len(), task.n_answer_tokens()]);
        match n_prompt < N_POSITIONS {
            true => Ok(()),
            false => Err(format!(
                "the prompt does not fit: {n_prompt} of {N_POSITIONS} tokens"
            )),
        }
    }

    fn perform(&self, call: &TaskCall<'_>) -> Result<Performed, Failure> {
        let rendered = call.task.rendered(call.values);
        let n_prompt = n_bytes(&rendered);
        let _running = self.begin(&whole(&rendered), &call.cancel)?;
        let required = PREFIX.len() + n_prompt;
        if required > N_POSITIONS {
            let limit = N_POSITIONS;
            return Err(CallError::DoesNotFit { required, limit }.into());
        }
        Ok(Performed {
            value: said(call.task, call.values, &rendered),
            work: Work {
                n_prompt,
                n_passes: 1,
                n_from_scratch: required,
                ..Work::default()
            },
        })
    }
}

fn whole(rendered: &Rendered) -> String {
    let documents = rendered.documents.iter().map(|(_, text)| &**text);
    let parts: Vec<&str> = documents.chain([&*rendered.instruction]).collect();
    parts.join("\n")
}

fn n_bytes(rendered: &Rendered) -> usize {
    whole(rendered).len()
}
