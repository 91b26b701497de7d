//! About which tuples is a model asked, where the embedding of their texts decides the rest?
//!
//! # Design
//! ```text
//!            +-> sample -> model -+
//!            |      |             +-> fit -+
//! values ----+      +-> vectors --+        |      +-> accepted, refused
//!            |            |                +-> decide
//!            +-> others --+----------------+      +-> in between -> model
//! ```
//! Values are what the prompt names; those that are alike are one. A sample of them, by content
//! ([`sample`]), is what the model is always asked about. Its verdicts and vectors say where the
//! embedding decides ([`fit`]), which is asked of all others; what it leaves open the model is asked, and
//! so it is about values that cannot be embedded. Where there are no more values than the sample has,
//! the model decides all.
//!
//! What an epoch costs, besides an embedding of each new value:
//! - a value that comes, or goes, and is not of the sample: a model call where it comes between the
//!   thresholds;
//! - one of the sample: the fit, a product with each vector if the fit is another, and a call for each
//!   value that has come between the thresholds and was not asked about since it stands ([`kept`]).
//!
//! # Invariants
//! - Who decides, and what, is a function of the values that stand and of the model's verdicts on them.
//! - No value is asked about twice while it stands.

mod bounds;
mod dry;
mod fit;
mod kept;
mod sample;

use std::cell::RefCell;
use std::rc::Rc;

use differential_dataflow::VecCollection;
use perennial_operators::call::call;
use perennial_operators::select::Vector;
use perennial_rows::{Tuple, Value};

use crate::dataflow::Epoch;
use crate::embeddings::{EmbedCalls, EmbedText, Embedded};
use crate::outputs::TaskCalls;
use crate::query::Promise;
use crate::query::expression::Expression;
use crate::render::Tuples;
use crate::render::ask::MAX_IN_FLIGHT;
use crate::render::embed::{vectors, whole};

use fit::{Decision, Fit, Judged};
use kept::{Kept, KeptCalls};

pub(super) use dry::Dry;
pub(crate) use fit::Evidence;

type Of<'scope, D> = VecCollection<'scope, Epoch, D, isize>;
/// A value, with its verdict where that is known.
pub(super) type Verdicts<'scope> = Of<'scope, (Tuple, Option<Value>)>;

/// Parts of all values that meet the fit on workers of their own.
const N_PARTS: u64 = 64;

/// Who decided where the model was not asked, as the column of the decider has it.
pub(crate) const EMBEDDING: &str = "embedding";

/// Who decided, as the column of the decider has it.
mod decider {
    pub(super) const SAMPLE: &str = "sample";
    pub(super) const MODEL: &str = "model";
}

/// Tuples, and what of them a model is asked about.
pub(super) struct Subjects<'scope> {
    pub(super) tuples: Tuples<'scope>,
    pub(super) arguments: Vec<Expression<usize>>,
}

/// Who is asked about values.
pub(super) trait Judge {
    /// What is said of values, each of which stands there once.
    fn judged<'scope>(&self, values: Of<'scope, Tuple>) -> Verdicts<'scope>;

    /// Hears which values stand, each once.
    fn hear(&self, _values: Of<'_, Tuple>) {}

    /// Hears of tuples, behind their values.
    fn count(&self, _tuples: Of<'_, (Tuple, Tuple)>) {}

    /// Hears what a fit stands on: the sample by digest, with what is known of it.
    fn fitted(&self, _sample: Of<'_, (u64, Option<bool>)>, _promise: Promise) {}

    /// Hears which values are decided without the model.
    fn spared(&self, _values: Of<'_, Tuple>) {}
}

/// A model that is asked.
pub(super) struct Model(Rc<RefCell<Kept>>);

impl Model {
    pub(super) fn new(calls: TaskCalls) -> Self {
        Self(Kept::new(calls))
    }
}

impl Judge for Model {
    fn judged<'scope>(&self, values: Of<'scope, Tuple>) -> Verdicts<'scope> {
        let said = call(values, "Ask", MAX_IN_FLIGHT, KeptCalls(self.0.clone()));
        said.map(|(values, verdict)| (values, Some(verdict)))
    }

    fn hear(&self, values: Of<'_, Tuple>) {
        let kept = self.0.clone();
        // Exchanged as for a call: each worker hears of the values that it asks about.
        let values = values.consolidate();
        values.inspect(move |(values, _, diff)| kept.borrow_mut().hear(values, *diff));
    }
}

/// The tuples, each with whether it is so and who says that behind it.
pub(super) fn cascade<'scope>(
    subjects: Subjects<'scope>,
    promise: Promise,
    calls: EmbedCalls,
    judge: &impl Judge,
) -> Tuples<'scope> {
    let Subjects { tuples, arguments } = subjects;
    let by_values = tuples.map(move |tuple| {
        let values = arguments.iter().map(|argument| argument.value(&tuple));
        (values.collect::<Tuple>(), tuple)
    });
    let is_unknown = |(values, _): &(Tuple, Tuple)| values.contains(&Value::Null);
    let unknown = by_values.clone().filter(is_unknown);
    let known = by_values.filter(move |row| !is_unknown(row));
    judge.count(known.clone());
    let values = known.clone().map(|(values, _)| values).distinct();
    judge.hear(values.clone());

    let n_sample = usize::try_from(promise.n_sample).unwrap_or(usize::MAX);
    let sample = sample::sample(values.clone(), n_sample).map(|(_, values)| values);
    let of_sample = judge.judged(sample.clone());
    let others = values.clone().concat(sample.negate());
    let vectors = embedded(values, calls);
    let fits = fitted(vectors.clone(), of_sample.clone(), promise, judge);
    let decided = decided(others.clone(), vectors, fits);
    let spared = decided
        .clone()
        .filter(|(_, decision)| *decision != Decision::Ask);
    judge.spared(spared.clone().map(|(values, _)| values));
    let between = others.concat(spared.clone().map(|(values, _)| values).negate());
    let of_between = judge.judged(between);

    let by = |verdicts: Verdicts<'scope>, decider: &'static str| {
        verdicts.map(move |(values, verdict)| {
            let who = verdict.is_some().then(|| Value::text(decider));
            (
                values,
                (verdict.unwrap_or_default(), who.unwrap_or_default()),
            )
        })
    };
    let spared = spared.map(|(values, decision)| {
        let is_so = Value::Boolean(decision == Decision::Accept);
        (values, (is_so, Value::text(EMBEDDING)))
    });
    let said = by(of_sample, decider::SAMPLE)
        .concat(by(of_between, decider::MODEL))
        .concat(spared);
    let answered = known.join_map(said, |_, tuple, (is_so, who)| {
        with(tuple, [is_so.clone(), who.clone()])
    });
    answered.concat(unknown.map(|(_, tuple)| with(&tuple, [Value::Null, Value::Null])))
}

fn with(tuple: &Tuple, values: [Value; 2]) -> Tuple {
    tuple.iter().cloned().chain(values).collect()
}

/// The values that have a vector.
fn embedded(values: Of<'_, Tuple>, calls: EmbedCalls) -> Of<'_, (Tuple, Vector)> {
    let embedder = calls.embeddings.digest();
    let by_text = values.map(move |values| {
        let text = EmbedText::plain(&embedder, &whole(&values));
        (text, values)
    });
    let vectors = vectors(by_text.clone().map(|(text, _)| text), calls);
    by_text
        .join_map(vectors, |_, values, embedded: &Embedded| {
            Some((values.clone(), embedded.clone().ok()?))
        })
        .flat_map(|embedded| embedded)
}

/// The fit to a sample with these verdicts; none where there is no sample.
fn fitted<'scope>(
    vectors: Of<'scope, (Tuple, Vector)>,
    of_sample: Verdicts<'scope>,
    promise: Promise,
    judge: &impl Judge,
) -> Of<'scope, Fit> {
    let judged = vectors.join_map(of_sample, |values, vector, verdict| {
        // What never can be said is not accepted.
        let is_so = verdict.as_ref().map(|said| *said == Value::Boolean(true));
        ((), (sample::digest(values), vector.clone(), is_so))
    });
    let verdicts = judged.clone();
    let verdicts = verdicts.map(|((), (digest, _, is_so))| (digest, is_so));
    judge.fitted(verdicts, promise);
    let fits = judged.reduce_named("Fit", move |(), rows, output| {
        let rows = rows.iter().map(|((_, vector, is_so), _)| {
            Some(Judged {
                vector,
                is_so: (*is_so)?,
            })
        });
        let sample: Option<Vec<Judged<'_>>> = rows.collect();
        let fit = sample.map(|sample| Fit::to(&sample, promise));
        output.push((fit.unwrap_or_default(), 1isize));
    });
    fits.map(|((), fit)| fit)
}

/// What becomes of the values that have a vector.
fn decided<'scope>(
    values: Of<'scope, Tuple>,
    vectors: Of<'scope, (Tuple, Vector)>,
    fits: Of<'scope, Fit>,
) -> Of<'scope, (Tuple, Decision)> {
    let values = values.map(|values| (values, ()));
    let seen = values.join_map(vectors, |values, (), vector| {
        let part = sample::digest(values) % N_PARTS;
        (part, (values.clone(), vector.clone()))
    });
    let fits = fits.flat_map(|fit| (0..N_PARTS).map(move |part| (part, fit.clone())));
    let decided = seen.join_map(fits, |_, (values, vector), fit| {
        (values.clone(), fit.decide(vector))
    });
    // Most are decided by a new fit as by the one before.
    decided.consolidate()
}
