//! A question over a folder, answered and kept fresh: the builder, a source, a
//! subscription.
//!
//! ```text
//! cargo run --release --example subscribe -- ./notes "When does the library open?"
//! ```

use perennial::connectors::Folder;
use perennial::{Engine, LocalModel, View};

/// One answer for each question, over all documents:
/// `CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(CONTEXT = STREAM(questions), DATA_SOURCE =
/// STREAM(docs))`.
pub fn view() -> View {
    View::named("answers")
        .context("questions")
        .data_source("docs")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(question)) = (arguments.next(), arguments.next()) else {
        return Err("usage: subscribe FOLDER QUESTION".into());
    };
    let model = LocalModel::open("qwen2.5-coder-0.5b")?;
    let engine = Engine::builder(model.runtime())
        .source(Folder::open("docs", [folder])?)
        .table("questions")
        .view(view())
        .start()?;
    let answers = engine.subscribe("answers")?;
    engine.upsert("questions", "q", &question)?;
    for answer in answers.answers() {
        println!(
            "epoch {}, {:?}, {}: {}",
            answer.epoch,
            answer.kind(),
            answer.rung,
            answer.new_text().unwrap_or("(no answer)"),
        );
        for sentence in &answer.sub_paragraphs {
            let files: Vec<&str> = sentence
                .sources
                .iter()
                .map(|s| s.document.as_str())
                .collect();
            println!("  {} {files:?}", sentence.text);
        }
        println!(
            "  {} tokens forwarded, {} by a rerun",
            answer.work.n_forwarded(),
            answer.work.n_from_scratch,
        );
    }
    Ok(())
}
