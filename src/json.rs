//! Which JSON stands for what the engine says, wherever programs read it: over HTTP, and on standard output?
//!
//! Fields are promised (`docs/serve.md`, the help of `perennial watch`); new ones may come, none goes.

use std::time::Duration;

use perennial_ask::{Finish, Work};
use perennial_rows::{Schema, Value};
use serde::{Deserialize, Serialize};
#[cfg(feature = "serve")]
use utoipa::ToSchema;

use crate::engine::Quarantined;

/// Whole milliseconds.
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A tuple by the names of its columns.
pub fn row(columns: &Schema, tuple: &[Value]) -> serde_json::Value {
    let names = columns.columns().iter().map(|column| &*column.name);
    perennial_rows::json::object(names.zip(tuple))
}

/// Why an answer ends.
pub fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

/// Money.
#[derive(Clone, Serialize)]
#[cfg_attr(feature = "serve", derive(ToSchema))]
pub struct CostJson {
    /// The exact amount, in decimals.
    amount: String,
    /// Its currency, by three letters.
    currency: String,
}

/// Tokens that went through a model, what they were of, and what they cost.
#[derive(Clone, Serialize)]
#[cfg_attr(feature = "serve", derive(ToSchema))]
pub struct WorkJson {
    /// All of them.
    forwarded: usize,
    /// Those that the plain prompt would have taken.
    from_scratch: usize,
    /// Of passages that were not in the store.
    encoded: usize,
    /// Of the instruction and the question.
    prompt: usize,
    /// Of an old answer that was checked.
    draft: usize,
    /// Written one by one.
    decoded: usize,
    /// Forward passes.
    passes: usize,
    /// Of prompts that a server still knew: they were not read again, and are not among the others.
    cached: usize,
    /// What was paid for them; null of a model without prices.
    cost: Option<CostJson>,
}

impl From<&Work> for WorkJson {
    fn from(work: &Work) -> Self {
        Self {
            forwarded: work.n_forwarded(),
            from_scratch: work.n_from_scratch,
            encoded: work.n_encoded,
            prompt: work.n_prompt,
            draft: work.n_draft,
            decoded: work.n_decoded,
            passes: work.n_passes,
            cached: work.n_cached,
            cost: work.cost.told().map(|(amount, currency)| CostJson {
                amount: amount.to_string(),
                currency: currency.to_string(),
            }),
        }
    }
}

/// A record that was refused.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(ToSchema))]
pub struct QuarantinedJson {
    /// Its number.
    pub number: u64,
    /// The stream that held it.
    pub stream: String,
    /// Where it stood.
    pub place: String,
    /// Which record it would have been, where that can be told.
    pub key: Option<String>,
    /// Why it is no record.
    pub reason: String,
    /// Milliseconds since 1970.
    pub refused_at_ms: i64,
    /// What was refused, where it is kept: as the text that it is, or nearly.
    #[serde(with = "as_text")]
    #[cfg_attr(feature = "serve", schema(value_type = Option<String>))]
    pub content: Option<Vec<u8>>,
}

impl From<Quarantined> for QuarantinedJson {
    fn from(of: Quarantined) -> Self {
        Self {
            number: of.number,
            stream: of.stream,
            place: of.place,
            key: of.key,
            reason: of.reason,
            refused_at_ms: of.refused_at_ms,
            content: of.content,
        }
    }
}

/// Bytes as the text that they are, or nearly.
mod as_text {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = bytes.as_deref().map(String::from_utf8_lossy);
        text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(text.map(String::into_bytes))
    }
}
