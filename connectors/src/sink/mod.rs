//! Where do answers go? What a sink promises, and what it is given.
//!
//! # Design
//! The engine keeps each epoch's [`Delivery`] until the sink has it, in the state directory
//! where there is one, and gives them in order. After a crash the last one may be given again,
//! the same bytes under the same numbers. So a sink that can see what it holds
//! ([`JsonLinesSink`]) takes each delivery exactly once; for one that cannot ([`KafkaSink`],
//! [`Webhook`]), each row or request says which delivery it is of, and a reader who skips what it
//! has (same `origin`, an `epoch` that is not higher; the same idempotency key) applies each
//! exactly once.

#[cfg_attr(not(feature = "kafka"), path = "../absent/kafka_sink.rs")]
mod kafka;
mod lines;
#[cfg_attr(not(feature = "http"), path = "../absent/webhook.rs")]
mod webhook;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use kafka::KafkaSink;
pub use lines::{FAULT_POINTS, JsonLinesSink};
pub use webhook::Webhook;

use crate::{Error, StopFlag};

/// Something outside that answers are delivered to.
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

    /// Takes one epoch of a view.
    ///
    /// # Errors
    /// Why it is not there: it is tried again after a while.
    fn deliver(&mut self, delivery: &Delivery, stop: &StopFlag) -> Result<(), Error>;
}

impl Sink for Box<dyn Sink> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn is_empty(&self) -> bool {
        (**self).is_empty()
    }

    fn deliver(&mut self, delivery: &Delivery, stop: &StopFlag) -> Result<(), Error> {
        (**self).deliver(delivery, stop)
    }
}

/// What one epoch changed in the answers of one view.
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

/// An answer that came, changed, became exact, or went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputRow {
    /// The context that it answers.
    pub key: String,
    /// The answer; none if it is gone with its context.
    pub answer: Option<Output>,
}

/// An answer as it is delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
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
}

impl Delivery {
    /// The origin as it is written.
    pub fn origin_text(&self) -> String {
        format!("{:016x}", self.origin)
    }

    /// A row as a JSON object.
    pub fn row_json(&self, row: &OutputRow) -> Value {
        let mut object = json!({ "view": self.view, "key": row.key, "epoch": self.epoch });
        let fields = match &row.answer {
            None => json!({ "gone": true }),
            Some(output) => {
                let (name, text) = match &output.text {
                    Ok(text) => ("text", text),
                    Err(reason) => ("error", reason),
                };
                json!({
                    "question": output.question,
                    name: text,
                    "rung": output.rung,
                    "exact": output.is_exact,
                    "drift": output.drift,
                    "sources": output.sources,
                })
            }
        };
        if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
            object.extend(fields);
        }
        object
    }
}
