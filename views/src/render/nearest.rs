//! Which right tuples are the nearest to each left one?
//!
//! ```text
//! left  -> key, texts -> vector -+
//!                                +-> select -> pairs of texts -> pairs of tuples
//! right -> key, texts -> vector -+
//! ```
//! What is compared are texts: tuples of a side that are alike in key and texts are one here, so a tuple
//! that changes elsewhere compares nothing. Which texts are the nearest is the business of
//! [`select`]: exact, ties broken by the texts' values, and no trace of what stood before.
//!
//! What an epoch costs, in products of two vectors:
//! - a left text that comes: one with each right text of its key;
//! - a right text that comes: one with each left text of its key, in one block;
//! - one that goes: none, unless a left text has lost its last spare ([`RESERVE`] are kept); then one with
//!   each right text of the key, for that left text.

use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::VecCollection;
use perennial_operators::select::{Candidate, Limits, RESERVE, SelectWork, Vector, select};
use perennial_rows::{Tuple, Value};
use serde::{Deserialize, Serialize};

use crate::bounds::Meter;
use crate::dataflow::Epoch;
use crate::embeddings::{EmbedCalls, EmbedText, Embedded};
use crate::query::expression::Expression;
use crate::render::Tuples;
use crate::render::embed::{vectors, whole};
use crate::render::join::key_of;

type Rows<'scope, D> = VecCollection<'scope, Epoch, D, isize>;

/// A key, and the values that are embedded.
type Place = (Tuple, Tuple);

/// Tuples that are compared with those of another side.
pub(super) struct Side<'scope> {
    pub(super) tuples: Tuples<'scope>,
    pub(super) keys: Vec<Expression<usize>>,
    pub(super) texts: Vec<Expression<usize>>,
}

/// The values of a right tuple that are embedded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Texts(Tuple);

/// The budget is a number of them.
impl Candidate for Texts {
    fn weight(&self) -> usize {
        1
    }

    fn is_copy_of(&self, _: &Self) -> bool {
        false
    }

    fn is_newer_than(&self, _: &Self) -> bool {
        false
    }
}

/// The pairs of each left tuple with the `n` right ones that are the nearest, left columns first.
pub(super) fn nearest<'scope>(
    left: Side<'scope>,
    right: Side<'scope>,
    n: usize,
    calls: impl Fn() -> EmbedCalls,
    meter: Option<&Rc<Meter>>,
) -> Tuples<'scope> {
    let (left, right) = (left.by_place(), right.by_place());
    let lefts = left.clone().map(|(place, _)| place).distinct();
    let rights = right.clone().map(|(place, _)| place).distinct();
    if let Some(meter) = meter {
        count_products(lefts.clone(), rights.clone(), meter);
    }
    let subjects =
        embedded(lefts, calls()).map(|((key, texts), vector)| (key.clone(), (key, texts), vector));
    let candidates =
        embedded(rights, calls()).map(|((key, texts), vector)| (key, Texts(texts), vector));
    let limits = Limits {
        budget: n,
        // Each weighs the same: of the first that does not fit, none behind it does.
        window: n,
        reserve: RESERVE,
    };
    let work = Arc::new(SelectWork::default());
    let chosen = select(candidates, subjects, limits, work, |nearest| {
        let nearest = nearest.iter().map(|of| of.candidate.clone());
        nearest.collect::<Vec<Texts>>()
    });
    let pairs = chosen.flat_map(|(place, nearest): (Place, Vec<Texts>)| {
        let pair = move |Texts(right)| (place.clone(), right);
        nearest.into_iter().map(pair)
    });
    let meter = meter.cloned();
    left.join_map(pairs, |(key, _), left, right| {
        ((key.clone(), right.clone()), left.clone())
    })
    .join_map(right, move |_, left, right| {
        if let Some(meter) = &meter {
            meter.count_pairs(1);
        }
        left.iter().chain(right.iter()).cloned().collect()
    })
}

impl<'scope> Side<'scope> {
    /// The tuples that have a place: none of what it consists of is NULL.
    fn by_place(self) -> Rows<'scope, (Place, Tuple)> {
        let (keys, texts) = (self.keys, self.texts);
        self.tuples.flat_map(move |tuple| {
            let values: Tuple = texts.iter().map(|text| text.value(&tuple)).collect();
            let key = key_of(&tuple, &keys)?;
            (!values.contains(&Value::Null)).then_some(((key, values), tuple))
        })
    }
}

/// The places whose texts have a vector.
fn embedded(places: Rows<'_, Place>, calls: EmbedCalls) -> Rows<'_, (Place, Vector)> {
    let embedder = calls.embeddings.digest();
    let by_text = places.map(move |place| (EmbedText::plain(&embedder, &whole(&place.1)), place));
    let vectors = vectors(by_text.clone().map(|(text, _)| text), calls);
    by_text
        .join_map(vectors, |_, place, embedded: &Embedded| {
            Some((place.clone(), embedded.clone().ok()?))
        })
        .flat_map(|embedded| embedded)
}

/// Counts the products as pairs that a join looks at. They are made within one activation, when the
/// vectors are there, so they are counted before that.
fn count_products<'scope>(
    lefts: Rows<'scope, Place>,
    rights: Rows<'scope, Place>,
    meter: &Rc<Meter>,
) {
    let meter = meter.clone();
    let counted = |places: Rows<'scope, Place>| {
        let by_key = places.map(|(key, _)| (key, ()));
        by_key.reduce_named("Count", |_, places, output| {
            output.extend(places.iter().map(|(_, n)| (*n, 1isize)));
        })
    };
    counted(lefts)
        .join_map(counted(rights), |_, lefts, rights| {
            lefts.saturating_mul(*rights)
        })
        .inspect(move |(n, _, _)| meter.count_pairs(usize::try_from(*n).unwrap_or(0)));
}
