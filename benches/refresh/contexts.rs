//! What does one edit cost that touches many contexts?
//!
//! Every context asks its own question over the same documents. One passage is inserted; all
//! answers are refreshed. They share the encoding of the new passage, and the forward passes
//! of their checks and of what is written anew are joined.

use std::time::Instant;

use perennial::engine::CurrentAnswer;
use perennial::{LocalModel, Order, Policy, Scope};

use super::{Arguments, Corpus, Declared, Edit, REPEAT, Random, start};

/// A row for each number of contexts.
pub(super) fn measure(
    model: &LocalModel,
    n_tokens: usize,
    arguments: &Arguments,
) -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "| model | context | contexts | forwarded | passes asked for | forward passes | time | of one context |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut of_one = None;
    for n_contexts in &arguments.contexts {
        let declared = Declared {
            scope: Scope::Causal,
            order: Order::UpdatedAt,
            policy: Policy::Exact,
        };
        let mut corpus = Corpus::new(model.tensor_model(), n_tokens);
        let mut engine = start(model, declared, REPEAT)?;
        corpus.feed(&mut engine)?;
        for i in 0..*n_contexts {
            let question = format!("Reader {i}: {}", REPEAT.1);
            engine.upsert("questions", &format!("q{i:03}"), &question)?;
        }
        engine.flush()?;
        let mut random = Random(arguments.seed);
        let place = arguments.places.draw(&mut random, corpus.documents.len());
        // All stores' models share the decoder, and so its passes.
        let n_before = model.tensor_model().passes().n_forwards();
        let begin = Instant::now();
        corpus.edit(&mut engine, Edit::Insert, place)?;
        engine.flush()?;
        let seconds = begin.elapsed().as_secs_f64();
        let n_forwards = model.tensor_model().passes().n_forwards() - n_before;
        let answers = engine.answers("bench")?;
        let sum = |of: fn(&CurrentAnswer) -> usize| -> usize {
            answers.iter().map(|(_, answer)| of(answer)).sum()
        };
        let of_one = *of_one.get_or_insert(seconds / *n_contexts as f64);
        println!(
            "| {} | {} | {n_contexts} | {} | {} | {n_forwards} | {seconds:.2} s | {:.1}x |",
            model.name(),
            corpus.n_tokens(),
            sum(|a| a.work.n_forwarded()),
            sum(|a| a.work.n_passes),
            seconds / of_one,
        );
    }
    println!();
    Ok(())
}
