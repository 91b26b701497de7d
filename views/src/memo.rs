//! What was computed before, in this run or an earlier one: asked before a model is.
//!
//! A memo is a cache with a complete key. It holds one answer a context (that of its last
//! refresh), one output a task and row, and one vector a text, so it is as large as what is live,
//! never as large as history.

use std::hash::{Hash, Hasher};

use perennial_ask::{Outcome, TaskDigest};
use perennial_bank::ContextKey;
use perennial_rows::Value;

use crate::calls::Request;
use crate::plan::{Plan, sampling_text};

/// Digest of everything that an answer and its provenance depend on.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct RequestDigest(pub [u8; 32]);

/// Digest of an embedding model and a text.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct VectorDigest(pub [u8; 32]);

/// Its first bytes are as good as all of them, and a text's digest is looked up often.
impl Hash for VectorDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// Remembers results of model calls.
///
/// # Contract
/// What is returned for a digest was noted under that digest. Returning nothing is always
/// right: it costs a call.
pub trait Memo: Send + Sync + 'static {
    /// The noted answer of a context, if it was given to this request.
    fn answer(&self, view: &str, context: &ContextKey, request: &RequestDigest) -> Option<Outcome>;
    /// Notes an answer in place of the one before.
    fn answered(
        &self,
        view: &str,
        context: &ContextKey,
        request: &RequestDigest,
        outcome: &Outcome,
    );
    /// A task's output is in use from now on; [`Memo::output_released`] ends that.
    fn output(&self, task: &TaskDigest) -> Option<Value>;
    /// Notes an output.
    fn performed(&self, task: &TaskDigest, output: &Value);
    /// A task's output is no longer in use.
    fn output_released(&self, task: &TaskDigest);
    /// A text's vector is in use from now on; [`Memo::vector_released`] ends that.
    fn vector(&self, text: &VectorDigest) -> Option<Vec<f32>>;
    /// Notes a vector.
    fn embedded(&self, text: &VectorDigest, vector: &[f32]);
    /// A text's vector is no longer in use.
    fn vector_released(&self, text: &VectorDigest);
}

/// Remembers nothing.
impl Memo for () {
    fn answer(&self, _: &str, _: &ContextKey, _: &RequestDigest) -> Option<Outcome> {
        None
    }
    fn answered(&self, _: &str, _: &ContextKey, _: &RequestDigest, _: &Outcome) {}
    fn output(&self, _: &TaskDigest) -> Option<Value> {
        None
    }
    fn performed(&self, _: &TaskDigest, _: &Value) {}
    fn output_released(&self, _: &TaskDigest) {}
    fn vector(&self, _: &VectorDigest) -> Option<Vec<f32>> {
        None
    }
    fn embedded(&self, _: &VectorDigest, _: &[f32]) {}
    fn vector_released(&self, _: &VectorDigest) {}
}

impl RequestDigest {
    /// The digest of a request of `plan` to the model with digest `model`.
    pub fn of(model: &[u8; 32], plan: &Plan, request: &Request) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 answer request");
        hash.update(model)
            .update(&(plan.max_tokens as u64).to_le_bytes())
            .update(request.layout.digest());
        // Lengths stand before texts, so that no two can trade bytes.
        let sampling = sampling_text(&plan.sampling);
        let superseded = plan.superseded.to_string();
        for text in [
            &*plan.prompt,
            &*request.question,
            &plan.scope.to_string(),
            &sampling,
            &superseded,
        ] {
            hash.update(&(text.len() as u64).to_le_bytes())
                .update(text.as_bytes());
        }
        Self(*hash.finalize().as_bytes())
    }
}

impl VectorDigest {
    /// The digest of a text under the embedding model with digest `embedder`; the text in
    /// pieces, wherever they are cut.
    pub fn of(embedder: &[u8; 32], text: &[&str]) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 text vector");
        hash.update(embedder);
        for piece in text {
            hash.update(piece.as_bytes());
        }
        Self(*hash.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use perennial_ask::AnswerModel as _;
    use perennial_ask::scripted::Scripted;
    use perennial_bank::{DocumentKey, LayoutPassage, PassageId, PassageLayout, Scope};

    use super::*;
    use crate::view::View;

    fn plan(change: impl FnOnce(View) -> View) -> Plan {
        let view = View::named("v").context("questions").data_source("docs");
        change(view).plan(4096, 30).expect("fits")
    }

    fn request(question: &str, passages: &[(&str, &str)]) -> Request {
        let passage = |(document, text): &(&str, &str)| LayoutPassage {
            document: DocumentKey::new(*document),
            ordinal: 0,
            id: PassageId::of("title", text),
            title: "title".into(),
            text: (*text).into(),
            tokens: Arc::default(),
            is_superseded: false,
            copies: Arc::default(),
        };
        Request {
            context: ContextKey::new("q"),
            question: question.into(),
            layout: PassageLayout::new(passages.iter().map(passage).collect()),
        }
    }

    /// Whatever an answer and its sources follow from; and nothing that only its cost or its time
    /// follows from.
    #[test]
    fn a_request_is_told_from_all_that_are_answered_otherwise() {
        let model = Scripted::new().digest();
        let asked = || request("Why?", &[("a", "one"), ("b", "two")]);
        let plain = RequestDigest::of(&model, &plan(|view| view), &asked());
        let by_plan = |change: fn(View) -> View| RequestDigest::of(&model, &plan(change), &asked());
        let of = |request: Request| RequestDigest::of(&model, &plan(|view| view), &request);
        let others = [
            RequestDigest::of(&[0; 32], &plan(|view| view), &asked()),
            by_plan(|view| view.prompt("Say.")),
            by_plan(|view| view.max_tokens(7)),
            by_plan(|view| view.scope(Scope::Independent)),
            by_plan(|view| view.sampled(1, 0.8)),
            by_plan(|view| view.sampled(2, 0.8)),
            by_plan(|view| view.superseded("zero-keys:header".parse().expect("a repair"))),
            of(request("Why not?", &[("a", "one"), ("b", "two")])),
            of(request("Why?", &[("b", "two"), ("a", "one")])),
            of(request("Why?", &[("a", "one")])),
            of(request("Why?", &[("a", "one"), ("c", "two")])),
            of(request("Why?", &[("a", "one"), ("b", "three")])),
        ];
        let told: HashSet<RequestDigest> = others.iter().copied().chain([plain]).collect();
        assert_eq!(told.len(), others.len() + 1);
        for same in [
            by_plan(|view| view),
            by_plan(|view| view.calls_per_hour(7)),
            by_plan(|view| view.token_budget(900)),
        ] {
            assert_eq!(same, plain);
        }
        // Nor does it matter whose it is: a context's answer is looked up by its own key.
        let other = Request {
            context: ContextKey::new("r"),
            ..asked()
        };
        assert_eq!(of(other), plain);
    }

    #[test]
    fn no_two_texts_of_a_request_can_trade_bytes() {
        let model = [1; 32];
        let of = |prompt: &str, question: &str| {
            let plan = plan(|view| view.prompt(prompt));
            RequestDigest::of(&model, &plan, &request(question, &[]))
        };
        assert_ne!(of("ab", "c"), of("a", "bc"));
        assert_ne!(of("ab", ""), of("", "ab"));
    }

    #[test]
    fn a_vector_is_of_a_text_and_its_embedder() {
        let of = VectorDigest::of;
        assert_eq!(of(&[1; 32], &["ab", "c"]), of(&[1; 32], &["a", "bc"]));
        assert_ne!(of(&[1; 32], &["abc"]), of(&[2; 32], &["abc"]));
        assert_ne!(of(&[1; 32], &["abc"]), of(&[1; 32], &["abd"]));
    }
}
