//! What does llama.cpp answer to the same ids?
//!
//! `reference.py` does the work and says what its lines hold. Prompts and answers stay in
//! the `--keep` folder; an answer counts only for the prompt whose digest it names, so a
//! changed template or tokenizer asks again.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::options::Options;
use crate::rig::question::Question;

#[derive(Deserialize)]
struct Answer {
    id: String,
    prompt_sha256: String,
    answer: String,
}

/// llama.cpp's answer to each prompt, in order.
pub fn answers(
    options: &Options,
    python: &Path,
    model: &Path,
    name: &str,
    questions: &[Question],
    prompts: &[Vec<u32>],
) -> Result<Vec<String>, Error> {
    fs::create_dir_all(&options.keep)?;
    let prompts_path = options.keep.join(format!("{name}.prompts.jsonl"));
    let answers_path = options.keep.join(format!("{name}.answers.jsonl"));
    let mut text = String::new();
    for (question, prompt) in questions.iter().zip(prompts) {
        let row = json!({
            "id": question.id,
            "prompt_token_ids": prompt,
            "max_tokens": options.max_tokens,
            "question": question.question,
            "answers": question.answers,
        });
        writeln!(text, "{row}")?;
    }
    fs::write(&prompts_path, text)?;
    run_script(python, "reference.py", |command| {
        command.arg("--model").arg(model);
        command.arg("--prompts").arg(&prompts_path);
        command.arg("--output").arg(&answers_path);
        command.args([
            "--flash-attention",
            "--threads",
            &options.threads.to_string(),
        ]);
    })?;
    let mut found = HashMap::new();
    for line in fs::read_to_string(&answers_path)?.lines() {
        let answer: Answer = serde_json::from_str(line)?;
        found.insert((answer.id, answer.prompt_sha256), answer.answer);
    }
    questions
        .iter()
        .zip(prompts)
        .map(|(question, prompt)| {
            found
                .remove(&(question.id.clone(), digest(prompt)))
                .ok_or_else(|| format!("llama.cpp gave no answer to row {}", question.id).into())
        })
        .collect()
}

/// Runs a script that stands beside this file, with the arguments that `add` adds.
pub fn run_script(python: &Path, name: &str, add: impl FnOnce(&mut Command)) -> Result<(), Error> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("benches/quality")
        .join(name);
    let mut command = Command::new(python);
    command.arg(&script);
    add(&mut command);
    let status = command
        .status()
        .map_err(|error| format!("{}: {error}", python.display()))?;
    if !status.success() {
        return Err(format!("{} failed: {status}", script.display()).into());
    }
    Ok(())
}

/// SHA-256 of the ids as little-endian words, in hexadecimal.
fn digest(tokens: &[u32]) -> String {
    let mut hash = Sha256::new();
    for token in tokens {
        hash.update(token.to_le_bytes());
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
