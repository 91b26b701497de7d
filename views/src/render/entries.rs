//! What stands of what a memory was given?
//!
//! ```text
//! stored -> not superseded -> one of those that say the same -> retained
//! ```
//! Each step is within a namespace. Newer is by time, then by key: so there are no circles, and of
//! any rows there is one newest.
//!
//! What an epoch costs: a row, those of its namespace that say the same as it or as what it supersedes, and its
//! bucket of the retained. Where an age is retained, the namespace once whenever the newest entry has moved on by
//! a sixty-fourth of it.

use std::cmp::Ordering;
use std::sync::Arc;

use differential_dataflow::VecCollection;
use perennial_rows::encoding::Encoder;
use perennial_rows::{Tuple, Value};

use crate::dataflow::Epoch;
use crate::query::memory::{Retain, STORED, at};
use crate::render::Tuples;
use crate::render::leaders::{Order, leaders};

/// Into how many steps an age is divided.
const AGE_STEPS: i64 = 64;
/// What is hashed where texts are compared, and its version.
const SAID: &str = "perennial memory text 1";

type Rows<'scope, D> = VecCollection<'scope, Epoch, D, isize>;

/// The entries of a memory.
pub(super) fn entries(stored: Tuples<'_>, retain: Option<Retain>) -> Tuples<'_> {
    let said = newest_of_same(current(stored));
    match retain {
        None => said,
        Some(Retain::Count(n)) => {
            let order: Order<Tuple> = Arc::new(pinned_then_newest);
            let by_namespace = said.map(|tuple| (tuple[at::NAMESPACE].clone(), tuple));
            leaders(by_namespace, 0, Some(n), &order).map(|(_, tuple)| tuple)
        }
        Some(Retain::Age(age)) => {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            recent(said, age)
        }
    }
}

/// What is said, and in which namespace.
type Saying = (Value, [u8; 32]);

/// Rows by what they say, but for what is superseded: a newer row of their namespace names them, or an older
/// row that says the same, so that what was taken back does not stand again in a copy. Said once more after
/// that, it stands.
fn current(stored: Tuples<'_>) -> Rows<'_, (Saying, Tuple)> {
    let by_saying = stored.clone().map(|tuple| (saying(&tuple), tuple));
    let named = stored.clone().map(|tuple| {
        (
            place(&tuple, &tuple[at::KEY]),
            (saying(&tuple), age(&tuple)),
        )
    });
    let edges = stored.flat_map(|tuple| {
        let edge = |old: Value| (place(&tuple, &old), age(&tuple));
        superseded(&tuple).into_iter().map(edge).collect::<Vec<_>>()
    });
    let until = edges
        .join_map(named, |_, newer, (saying, older)| {
            (newer > older).then(|| (saying.clone(), newer.clone()))
        })
        .flat_map(|until| until)
        .reduce_named("SupersededUntil", |_, newer, output| {
            // They are in order: the last is the newest.
            if let Some((newest, _)) = newer.last() {
                output.push(((*newest).clone(), 1));
            }
        });
    let gone = by_saying
        .clone()
        .join_map(until, |saying, tuple, until| {
            (age(tuple) < *until).then(|| (saying.clone(), tuple.clone()))
        })
        .flat_map(|gone| gone);
    by_saying.concat(gone.negate())
}

/// A key within the namespace of a row.
fn place(tuple: &Tuple, key: &Value) -> (Value, Value) {
    (tuple[at::NAMESPACE].clone(), key.clone())
}

/// How new a row is.
fn age(tuple: &Tuple) -> (Value, Value) {
    (tuple[at::UPDATED_AT].clone(), tuple[at::KEY].clone())
}

/// The keys that a row makes obsolete.
fn superseded(tuple: &Tuple) -> Vec<Value> {
    let json @ Value::Json(_) = &tuple[at::SUPERSEDES] else {
        return Vec::new();
    };
    let json = json.to_json();
    let keys = json.as_array().into_iter().flatten();
    keys.filter_map(|key| key.as_str().map(Value::text))
        .collect()
}

/// Of rows that say the same the newest, with the keys of all in place of what it supersedes. It is
/// pinned if any of them is.
fn newest_of_same(current: Rows<'_, (Saying, Tuple)>) -> Tuples<'_> {
    current
        .reduce_named("Same", |_, rows, output| {
            let mut rows: Vec<&Tuple> = rows.iter().map(|(tuple, _)| *tuple).collect();
            rows.sort_by(|a, b| newest(a, b));
            let Some(first) = rows.first() else { return };
            let keys = rows.iter().filter_map(|tuple| tuple[at::KEY].as_text());
            let keys: Vec<&str> = keys.map(|key| &**key).collect();
            let is_pinned = |tuple: &&Tuple| tuple[at::PINNED] == Value::Boolean(true);
            let mut entry = first[..STORED.len() - 1].to_vec();
            entry[at::PINNED] = Value::Boolean(rows.iter().any(is_pinned));
            entry.push(Value::from_json(&keys.into()));
            output.push((Tuple::from(entry), 1));
        })
        .map(|(_, entry)| entry)
}

/// What a row says: its words, whatever stands between them and however they are capitalised.
fn saying(tuple: &Tuple) -> Saying {
    let text = tuple[at::TEXT].as_text().map(|text| text.to_lowercase());
    let text = text.unwrap_or_default();
    let mut encoder = Encoder::new();
    for word in text.split_whitespace() {
        encoder.text(word);
    }
    (tuple[at::NAMESPACE].clone(), encoder.digest(SAID))
}

fn newest(left: &Tuple, right: &Tuple) -> Ordering {
    age(right).cmp(&age(left))
}

fn pinned_then_newest(left: &Tuple, right: &Tuple) -> Ordering {
    let by_pin = right[at::PINNED].cmp(&left[at::PINNED]);
    // No two entries are equal: whole tuples decide what is left.
    by_pin
        .then_with(|| newest(left, right))
        .then_with(|| left.cmp(right))
}

/// The entries that came within `age` of the newest of their namespace, and those that are pinned.
fn recent(said: Tuples<'_>, age: i64) -> Tuples<'_> {
    let by_namespace = said.map(|tuple| (tuple[at::NAMESPACE].clone(), tuple));
    let order: Order<Tuple> =
        Arc::new(|left: &Tuple, right: &Tuple| newest(left, right).then_with(|| left.cmp(right)));
    let step = (age / AGE_STEPS).max(1);
    let since: Rows<'_, (Value, i64)> =
        leaders(by_namespace.clone(), 0, Some(1), &order).map(move |(namespace, newest)| {
            let since = time(&newest).saturating_sub(age);
            (namespace, since.div_euclid(step).saturating_mul(step))
        });
    by_namespace
        .join_map(since, |_, tuple, since| {
            let is_pinned = tuple[at::PINNED] == Value::Boolean(true);
            (is_pinned || time(tuple) >= *since).then(|| tuple.clone())
        })
        .flat_map(|kept| kept)
}

/// When a row came to be; one that does not say is as old as can be.
fn time(tuple: &Tuple) -> i64 {
    match tuple[at::UPDATED_AT] {
        Value::Timestamp(ms) => ms,
        _ => i64::MIN,
    }
}
