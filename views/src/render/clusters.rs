//! Which texts mean the same, and which of them stands for them?
//!
//! # Design
//! ```text
//! tuples -> texts -> vector -> similar pairs -> those that a model confirms -+
//!             |                                                              +-> least text reached
//!             +--------------------------------------------------------------+
//! ```
//! Texts are a graph, each once: an edge is a pair whose vectors have an inner product of the threshold
//! or more ([`similar`]), and where a model is asked, one that it confirms; it is asked about a pair
//! once, the lesser text first. Each text is given the least text that it reaches, which differential
//! dataflow keeps by passing labels along edges until none becomes less. So the result is a function of
//! the texts that stand: what a deletion disconnects falls apart, and history leaves no trace.
//!
//! What an epoch costs:
//! - a text that comes: an embedding, a product with each other text, a model call for each pair;
//! - one that goes: no embedding, no product, no call;
//! - both: the labels of the texts that they connect, and that as often as the way between two of these is
//!   long.
//!
//! Assignment to the nearest of some leaders was rejected: who leads depends on who came first, or on an
//! order in which one text that comes makes others lead. The price is that a chain of texts, each similar
//! to the next, is one cluster: a threshold says how near is near enough, not how wide a cluster may be.

use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::VecCollection;
use differential_dataflow::algorithms::graphs::propagate::propagate;
use perennial_operators::select::Vector;
use perennial_operators::similar::{SimilarWork, similar};
use perennial_rows::{Tuple, Value};

use crate::bounds::Meter;
use crate::dataflow::Epoch;
use crate::embeddings::{EmbedCalls, EmbedText, Embedded};
use crate::query::expression::Expression;
use crate::render::Tuples;
use crate::render::ask::{Questions, Said};
use crate::render::embed::vectors;

type Of<'scope, D> = VecCollection<'scope, Epoch, D, isize>;

/// The texts of tuples.
pub(super) struct Texts<'scope> {
    pub(super) tuples: Tuples<'scope>,
    pub(super) text: Expression<usize>,
}

/// Each text once, with the one that stands for it behind it. `checked` says of two texts whether they
/// belong together; where nobody is asked, all that are similar do.
pub(super) fn clusters<'scope>(
    texts: Texts<'scope>,
    threshold: f64,
    calls: EmbedCalls,
    checked: Option<impl FnOnce(Questions<'scope, Tuple>) -> Said<'scope, Tuple>>,
    meter: Option<&Rc<Meter>>,
) -> Tuples<'scope> {
    let Texts { tuples, text } = texts;
    let values = tuples.flat_map(move |tuple| text.value(&tuple).as_text().cloned());
    let texts = values.distinct();
    if let Some(meter) = meter {
        count_products(texts.clone(), meter);
    }
    let work = Arc::new(SimilarWork::default());
    let pairs = similar(embedded(texts.clone(), calls), threshold, work);
    let pairs = match checked {
        None => pairs,
        Some(checked) => confirmed(pairs, checked),
    };
    let mirrored = pairs.clone().map(|(a, b)| (b, a));
    let own = texts.map(|text| (text.clone(), text));
    propagate(pairs.concat(mirrored), own).map(|(text, least): (Arc<str>, Arc<str>)| {
        let row = [text, least].map(Value::Text);
        Tuple::from(row)
    })
}

/// The texts that have a vector.
fn embedded(texts: Of<'_, Arc<str>>, calls: EmbedCalls) -> Of<'_, (Arc<str>, Vector)> {
    let embedder = calls.embeddings.digest();
    let by_text = texts.map(move |text| (EmbedText::plain(&embedder, &text), text));
    let vectors = vectors(by_text.clone().map(|(text, _)| text), calls);
    by_text
        .join_map(vectors, |_, text, embedded: &Embedded| {
            Some((text.clone(), embedded.clone().ok()?))
        })
        .flat_map(|embedded| embedded)
}

/// The pairs that belong together.
fn confirmed<'scope>(
    pairs: Of<'scope, (Arc<str>, Arc<str>)>,
    checked: impl FnOnce(Questions<'scope, Tuple>) -> Said<'scope, Tuple>,
) -> Of<'scope, (Arc<str>, Arc<str>)> {
    let questions = pairs.map(|(a, b)| {
        let pair = Tuple::from([a, b].map(Value::Text));
        (pair.clone(), pair)
    });
    checked(questions).flat_map(|(pair, said)| {
        let is_so = said == Value::Boolean(true);
        let texts = (pair.first()?.as_text()?, pair.get(1)?.as_text()?);
        is_so.then(|| (texts.0.clone(), texts.1.clone()))
    })
}

/// Counts the products as pairs that a join looks at, before texts are embedded for them.
fn count_products(texts: Of<'_, Arc<str>>, meter: &Rc<Meter>) {
    let meter = meter.clone();
    let all = texts.map(|_| ((), ()));
    let counted = all.reduce_named("Count", |(), texts, output| {
        output.extend(texts.iter().map(|(_, n)| (*n, 1isize)));
    });
    counted.inspect(move |((_, n), _, _)| {
        let n = usize::try_from(*n).unwrap_or(0);
        meter.count_pairs(n.saturating_mul(n.saturating_sub(1)) / 2);
    });
}
