//! Where do answers and rows go? What a sink promises, and what it is given.
//!
//! # Design
//! The engine keeps each epoch's [`Delivery`] until the sink has it, in the state directory
//! where there is one, and gives them in order. After a crash the last one may be given again,
//! the same bytes under the same numbers. So a sink that can see what it holds
//! ([`JsonLinesSink`]) takes each delivery exactly once; for one that cannot ([`KafkaSink`],
//! [`Webhook`]), each row or request says which delivery it is of, and a reader who skips what it
//! has (same `origin`, an `epoch` that is not higher; the same idempotency key) applies each
//! exactly once.
//!
//! An engine whose state was restored from a backup goes back in time, and what is outside does not. It
//! has another origin then, and its first delivery says all that stands and *replaces* what was delivered
//! before ([`Sink::replace`]). A sink that can see what it holds takes back what stands no more; one that
//! cannot says which origins are replaced.
//!
//! What it is given is one stream of upserts, whatever the view: a row under a key takes the place
//! of the one before, or is gone. So what waits can be merged by key, and a compacted topic holds
//! what the view says.

mod dead_letters;
mod epoch_file;
#[cfg_attr(not(feature = "kafka"), path = "../absent/kafka_sink.rs")]
mod kafka;
mod lines;
mod refusal;
mod rest;
#[cfg_attr(not(feature = "http"), path = "../absent/webhook.rs")]
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use perennial_rows::{Tuple, json as rows_json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use dead_letters::{DeadLettered, DeadLetters, HeldLetters, SinkLetters};
pub use epoch_file::FAULT_POINTS;
pub use kafka::KafkaSink;
pub use lines::JsonLinesSink;
pub use refusal::Refusal;
pub use webhook::Webhook;

use crate::{Error, StopFlag};

/// Something outside that answers or rows are delivered to.
///
/// # Contract
/// 1. When `deliver` returns without an error, the delivery is there for good, whole, behind all
///    before it. *(tested)*
/// 2. After an error, the same delivery is given again, here or in another process. *(the
///    engine's part)*
/// 3. `deliver` returns soon after the flag is raised.
pub trait Sink: Send + 'static {
    /// The name under which it is known, unique within an engine. What was delivered is
    /// remembered by it.
    fn name(&self) -> &str;

    /// Whether it knows that nothing was ever delivered to it, though somebody may remember
    /// that: then it gets all that stands.
    fn is_empty(&self) -> bool {
        false
    }

    /// What it has put aside, where it has a file for what is refused for good.
    fn dead_letters(&self) -> Option<&SinkLetters> {
        None
    }

    /// What a person should know of what it did since this was last asked, deliveries aside.
    fn take_notices(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Takes one epoch of a view.
    ///
    /// # Errors
    /// Why it is not there: it is tried again after a while, also where it is [refused for
    /// good](Error::Refused), unless [`DeadLetters`] take it.
    fn deliver(&mut self, delivery: &Delivery, stop: &StopFlag) -> Result<(), Error>;

    /// Takes the first epoch of an engine that goes back in time: it says all that stands. What was
    /// delivered of the view under the `former` origins, or the delivery's own, and is not among it is to
    /// be gone. The contract is that of `deliver`, but that what is taken back may be less when it is
    /// given again.
    ///
    /// A sink that does not say otherwise takes it as any other delivery, and cannot see what it holds.
    ///
    /// # Errors
    /// As [`Sink::deliver`].
    fn replace(
        &mut self,
        delivery: &Delivery,
        former: &[u64],
        stop: &StopFlag,
    ) -> Result<Replaced, Error> {
        let _ = former;
        self.deliver(delivery, stop)?;
        Ok(Replaced::Unseen)
    }
}

/// What became of what was delivered before an engine went back in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// So many rows that stand no more were taken back.
    TakenBack(usize),
    /// What is outside cannot be looked at: its readers are to drop what the former origins told.
    Unseen,
}

impl Sink for Box<dyn Sink> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn is_empty(&self) -> bool {
        (**self).is_empty()
    }

    fn dead_letters(&self) -> Option<&SinkLetters> {
        (**self).dead_letters()
    }

    fn take_notices(&mut self) -> Vec<String> {
        (**self).take_notices()
    }

    fn deliver(&mut self, delivery: &Delivery, stop: &StopFlag) -> Result<(), Error> {
        (**self).deliver(delivery, stop)
    }

    fn replace(
        &mut self,
        delivery: &Delivery,
        former: &[u64],
        stop: &StopFlag,
    ) -> Result<Replaced, Error> {
        (**self).replace(delivery, former, stop)
    }
}

/// What one epoch changed in what one view says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Which history of epochs this is: drawn once for a state directory, else for a process.
    /// Epochs of two origins cannot be compared.
    pub origin: u64,
    /// The view.
    pub view: String,
    /// The epoch; each delivery's is higher than that of the one before.
    pub epoch: u64,
    /// At most one row a key, in their order.
    pub rows: Vec<OutputRow>,
}

impl Delivery {
    /// The same epoch of the same view, with nothing of it.
    fn without_rows(&self) -> Self {
        Self {
            view: self.view.clone(),
            rows: Vec::new(),
            ..*self
        }
    }

    /// The delivery, with rows of one before it of which it says nothing anew.
    #[must_use]
    pub fn and_before(self, before: Vec<OutputRow>) -> Self {
        let both = before.into_iter().chain(self.rows);
        let rows: BTreeMap<String, OutputRow> = both.map(|row| (row.key.clone(), row)).collect();
        Self {
            rows: rows.into_values().collect(),
            ..self
        }
    }
}

/// What stands under a key from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputRow {
    /// Of an answer, the context's; of a row of a query, what tells it from the others
    /// ([`perennial_rows::json::key`]).
    pub key: String,
    /// What stands there; none if it is gone.
    pub output: Option<Output>,
}

/// What a view says under a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Output {
    /// Of a view that asks a model: an answer that came, changed, or became exact.
    Answer(OutputAnswer),
    /// Of a view of a query: a row that came or changed.
    Tuple(OutputTuple),
}

/// A row of a query as it is delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputTuple {
    /// The names of its columns, in order.
    pub columns: Arc<[Arc<str>]>,
    /// What stands in them.
    pub values: Tuple,
    /// How often the row stands in the result: once, unless nothing tells such rows apart.
    pub count: u64,
}

/// An answer as it is delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputAnswer {
    /// The context's text; of a long one, its beginning.
    pub question: String,
    /// The answer's text, or why there is none.
    pub text: Result<String, String>,
    /// How it was reached: `regenerate`, `verify` and so on.
    pub rung: String,
    /// Whether it is what a run from scratch says; an exact one follows a provisional one.
    pub is_exact: bool,
    /// Of a provisional answer, an estimate of how far it may be from exact, 0 to 1.
    pub drift: f32,
    /// Documents that it leans on, most first; at most 64.
    pub sources: Vec<String>,
    /// How many passages it was written over, and how many there were to choose from; none where that is not
    /// known. What is stored of a delivery has it behind all else.
    #[serde(skip)]
    pub passages: Option<(u64, u64)>,
}

impl Delivery {
    /// The origin as it is written.
    pub fn origin_text(&self) -> String {
        origin_text(self.origin)
    }

    /// The same, where what stands outside under other keys is gone. Returns how many keys these are, too.
    fn taking_back(&self, outside: &BTreeSet<String>) -> (Self, usize) {
        let mut whole = self.clone();
        let told: BTreeSet<&str> = self.rows.iter().map(|row| &*row.key).collect();
        let gone = outside.iter().filter(|key| !told.contains(&***key));
        whole.rows.extend(gone.map(|key| OutputRow {
            key: key.clone(),
            output: None,
        }));
        whole.rows.sort_by(|a, b| a.key.cmp(&b.key));
        let n_gone = whole.rows.len() - self.rows.len();
        (whole, n_gone)
    }

    /// A row as a JSON object.
    pub fn row_json(&self, row: &OutputRow) -> Value {
        let mut object = json!({ "view": self.view, "key": row.key, "epoch": self.epoch });
        let fields = match &row.output {
            None => json!({ "gone": true }),
            Some(Output::Answer(answer)) => answer.fields(),
            Some(Output::Tuple(tuple)) => tuple.fields(),
        };
        if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
            object.extend(fields);
        }
        object
    }
}

/// An origin as it is written.
fn origin_text(origin: u64) -> String {
    format!("{origin:016x}")
}

/// Whose rows a replacement takes back: those of these origins, as they are written, of this view.
struct Told<'a> {
    view: &'a str,
    origins: BTreeSet<String>,
    /// Keys that stand, and were said last by one of them.
    keys: BTreeSet<String>,
}

impl<'a> Told<'a> {
    fn of(delivery: &'a Delivery, former: &[u64]) -> Self {
        let origins = former.iter().copied().chain([delivery.origin]);
        Self {
            view: &delivery.view,
            origins: origins.map(origin_text).collect(),
            keys: BTreeSet::new(),
        }
    }

    /// Takes in what was said under a key, and by whom.
    fn hear(&mut self, view: Option<&str>, origin: Option<&str>, key: &str, is_gone: bool) {
        let is_its = origin.is_some_and(|origin| self.origins.contains(origin));
        if is_its && view == Some(self.view) && !is_gone {
            self.keys.insert(key.to_owned());
        } else {
            // It is gone, or another's by now.
            self.keys.remove(key);
        }
    }
}

impl OutputAnswer {
    fn fields(&self) -> Value {
        let (name, text) = match &self.text {
            Ok(text) => ("text", text),
            Err(reason) => ("error", reason),
        };
        let mut fields = json!({
            "question": self.question,
            name: text,
            "rung": self.rung,
            "exact": self.is_exact,
            "drift": self.drift,
            "sources": self.sources,
        });
        if let Some((read, of)) = self.passages {
            fields["passages_read"] = read.into();
            fields["passages_of"] = of.into();
        }
        fields
    }
}

impl OutputTuple {
    fn fields(&self) -> Value {
        let names = self.columns.iter().map(|name| &**name);
        let row = rows_json::object(names.zip(&*self.values));
        match self.count {
            1 => json!({ "row": row }),
            count => json!({ "row": row, "count": count }),
        }
    }
}

#[cfg(test)]
mod tests {
    use perennial_rows::Value as Cell;

    use super::*;

    #[test]
    fn of_two_deliveries_the_later_row_of_a_key_stands() {
        let delivery = |epoch, rows: &[(&str, Option<i64>)]| Delivery {
            origin: 1,
            view: "v".to_owned(),
            epoch,
            rows: rows
                .iter()
                .map(|(key, value)| OutputRow {
                    key: (*key).to_owned(),
                    output: value.map(|value| {
                        Output::Tuple(OutputTuple {
                            columns: ["n"].map(Arc::from).into(),
                            values: [Cell::Integer(value)].into(),
                            count: 1,
                        })
                    }),
                })
                .collect(),
        };
        let first = delivery(1, &[("a", Some(1)), ("b", Some(1)), ("c", Some(1))]);
        let second = delivery(2, &[("b", None), ("bb", Some(2)), ("c", Some(2))]);
        assert_eq!(
            second.and_before(first.rows),
            delivery(
                2,
                &[("a", Some(1)), ("b", None), ("bb", Some(2)), ("c", Some(2))]
            )
        );
    }

    #[test]
    fn a_row_of_a_query_stands_by_its_columns_names() {
        let tuple = |count| OutputTuple {
            columns: ["country", "at", "share"].map(Arc::from).into(),
            values: ["no".into(), Cell::Timestamp(7), f64::NAN.into()].into(),
            count,
        };
        let row = |output| OutputRow {
            key: "no".to_owned(),
            output,
        };
        let delivery = Delivery {
            origin: 1,
            view: "totals".to_owned(),
            epoch: 7,
            rows: vec![
                row(Some(Output::Tuple(tuple(1)))),
                row(Some(Output::Tuple(tuple(3)))),
                row(None),
            ],
        };
        let of_row = json!({"country": "no", "at": 7, "share": null});
        let said: Vec<Value> = delivery.rows.iter().map(|r| delivery.row_json(r)).collect();
        let expected = [
            json!({"view": "totals", "key": "no", "epoch": 7, "row": of_row}),
            json!({"view": "totals", "key": "no", "epoch": 7, "row": of_row, "count": 3}),
            json!({"view": "totals", "key": "no", "epoch": 7, "gone": true}),
        ];
        assert_eq!(said, expected);
    }
}
