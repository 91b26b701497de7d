//! How does every policy of a case answer at the same time?
//!
//! One thread an answer; their passes are joined, which changes no bit of any.

use std::ops::ControlFlow;
use std::sync::Arc;

use perennial::model::cancel::Cancel;
use perennial::model::error::Error;
use perennial::model::generation::{GenerationRequest, generate};
use perennial::model::layout::Layout;
use perennial::model::passes::{Passes, Priority};
use perennial::model::sampling::Sampling;
use perennial::model::tokenizer::Tokenizer;

/// Longest answer.
const MAX_TOKENS: usize = 80;

/// The greedy answer over each layout, up to the end of its first object. Equal layouts are
/// answered once.
pub fn answers(
    passes: &Passes,
    tokenizer: &Tokenizer,
    layouts: &[Arc<Layout>],
    prompt: &[u32],
) -> Result<Vec<String>, Error> {
    let mut distinct: Vec<&Arc<Layout>> = Vec::new();
    let which: Vec<usize> = layouts
        .iter()
        .map(|layout| {
            let known = distinct.iter().position(|known| is_same(known, layout));
            known.unwrap_or_else(|| {
                distinct.push(layout);
                distinct.len() - 1
            })
        })
        .collect();
    // All enter before any asks, so that the first passes are joined, too.
    let callers: Vec<_> = distinct
        .iter()
        .map(|_| passes.enter(Priority::Fresh))
        .collect();
    let texts = std::thread::scope(|scope| {
        let threads: Vec<_> = distinct
            .iter()
            .map(|layout| scope.spawn(|| answer(passes, tokenizer, layout, prompt)))
            .collect();
        drop(callers);
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().expect("decoding does not panic"));
        joined.collect::<Result<Vec<String>, Error>>()
    })?;
    Ok(which.into_iter().map(|i| texts[i].clone()).collect())
}

/// Whether two layouts hold the same fragments at the same places under the same overlays.
fn is_same(one: &Layout, other: &Layout) -> bool {
    let (one, other) = (one.segments(), other.segments());
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| {
            Arc::ptr_eq(&one.kv, &other.kv)
                && one.offset == other.offset
                && one.overlays == other.overlays
        })
}

fn answer(
    passes: &Passes,
    tokenizer: &Tokenizer,
    layout: &Arc<Layout>,
    prompt: &[u32],
) -> Result<String, Error> {
    let request = GenerationRequest {
        layout,
        prompt,
        draft: &[],
        tolerance: 0.0,
        sub_paragraphs: None,
        max_tokens: MAX_TOKENS,
        sampling: Sampling::Greedy,
        stop: tokenizer.stop_tokens(),
        mass: false,
        priority: Priority::Fresh,
        cancel: &Cancel::new(),
    };
    let mut tokens = Vec::new();
    let generation = generate(passes, &request, &mut |token| {
        tokens.push(token);
        match tokenizer.decode(&tokens) {
            Ok(text) if holds_object(&text) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    })?;
    tokenizer.decode(&generation.tokens)
}

/// Whether an opening brace is followed by a closing one.
fn holds_object(text: &str) -> bool {
    matches!((text.find('{'), text.rfind('}')), (Some(open), Some(close)) if open < close)
}
