//! Which vector has the text of each tuple?
//!
//! Texts are embedded as passages are, in the table of all views: a text that is known is not
//! embedded again, here or after a restart, and a retraction embeds nothing.

use std::sync::Arc;

use differential_dataflow::VecCollection;
use perennial_operators::call::call;
use perennial_rows::{Tuple, Type, Value};

use crate::dataflow::Epoch;
use crate::embeddings::{EmbedCalls, EmbedText, Embedded};
use crate::query::cast::cast;
use crate::render::{Tuples, with};

/// Texts that each worker of a view has the embedder see at a time.
const MAX_IN_FLIGHT: usize = 1024;

/// The tuples, each with its vector behind it; NULL where it has none.
pub(super) fn embed<'scope>(
    tuples: Tuples<'scope>,
    title: usize,
    text: usize,
    calls: EmbedCalls,
) -> Tuples<'scope> {
    let embedder = calls.embeddings.digest();
    let has_text = move |tuple: &Tuple| tuple[text].as_text().is_some();
    let without = tuples.clone().filter(move |tuple| !has_text(tuple));
    let by_text = tuples.filter(has_text).flat_map(move |tuple| {
        let text = tuple[text].as_text()?;
        let title = tuple[title].as_text().filter(|title| !title.is_empty());
        let text = match title {
            Some(title) => EmbedText::titled(&embedder, title, text),
            None => EmbedText::plain(&embedder, text),
        };
        Some((text, tuple))
    });
    let vectors = vectors(by_text.clone().map(|(text, _)| text), calls);
    let embedded = by_text.join_map(vectors, |_, tuple, embedded: &Embedded| {
        let vector = embedded.as_ref().ok();
        let vector = vector.map(|vector| vector.elements().collect::<Vec<f32>>());
        with(tuple, vector.map_or(Value::Null, |v| Value::vector(&v)))
    });
    embedded.concat(without.map(|tuple| with(&tuple, Value::Null)))
}

/// One text of some values, a line each.
pub(super) fn whole(values: &[Value]) -> Arc<str> {
    let lines = values.iter().map(|value| {
        let text = cast(value.clone(), Type::Text);
        text.as_text().cloned().unwrap_or_default()
    });
    lines.collect::<Vec<Arc<str>>>().join("\n").into()
}

/// The texts, each once with its vector.
pub(super) fn vectors<'scope>(
    texts: VecCollection<'scope, Epoch, EmbedText, isize>,
    calls: EmbedCalls,
) -> VecCollection<'scope, Epoch, (EmbedText, Embedded), isize> {
    call(texts.distinct(), "EmbedTexts", MAX_IN_FLIGHT, calls)
}
