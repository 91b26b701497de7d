//! llama.cpp's side: a subprocess that keeps a prompt in its cache.
//!
//! The protocol is one JSON object a line each way; `prompt_cache.py` documents it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::curve::Cost;
use crate::rig::Error;

/// A running llama.cpp with one model loaded.
pub struct PromptCache {
    child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
    description: String,
}

impl PromptCache {
    /// Starts the script and loads the model, with room for `capacity` tokens.
    pub fn load(
        python: &Path,
        model: &Path,
        n_threads: usize,
        capacity: usize,
    ) -> Result<Self, Error> {
        let script: PathBuf = [
            env!("CARGO_MANIFEST_DIR"),
            "benches/lineage/prompt_cache.py",
        ]
        .iter()
        .collect();
        let mut child = Command::new(python)
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", python.display()))?;
        let requests = child.stdin.take().ok_or("llama.cpp has no stdin")?;
        let replies = child.stdout.take().ok_or("llama.cpp has no stdout")?;
        let mut cache = Self {
            child,
            requests,
            replies: BufReader::new(replies),
            description: String::new(),
        };
        let loaded = cache.ask(&json!({
            "op": "load",
            "model": model,
            "threads": n_threads,
            "capacity": capacity,
        }))?;
        let says = |field: &str| loaded[field].as_str().unwrap_or_default().to_owned();
        let system = says("system");
        cache.description = format!(
            "llama-cpp-python {}, {}",
            says("package"),
            system.trim_end_matches([' ', '|'])
        );
        Ok(cache)
    }

    /// Version and instruction sets, as llama.cpp tells them.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Answers a prompt in `n_decoded` tokens while its first `n_cached` ids stand in the cache.
    pub fn answer(
        &mut self,
        prompt: &[u32],
        n_cached: usize,
        n_decoded: usize,
    ) -> Result<Cost, Error> {
        let reply = self.ask(&json!({
            "op": "answer",
            "prompt": prompt,
            "cached": n_cached,
            "decode": n_decoded,
        }))?;
        Ok(Cost {
            wall_s: reply["wall_s"].as_f64().ok_or("llama.cpp told no time")?,
            n_forwarded: prompt.len() - n_cached + n_decoded,
        })
    }

    fn ask(&mut self, request: &Value) -> Result<Value, Error> {
        // A script that has ended closes both pipes; the reading end knows why.
        let sent = writeln!(self.requests, "{request}").and_then(|()| self.requests.flush());
        let mut line = String::new();
        if self.replies.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return Err(format!("the llama.cpp process ended: {status}").into());
        }
        sent?;
        let reply: Value = serde_json::from_str(&line)?;
        if reply["ok"] == Value::Bool(true) {
            return Ok(reply);
        }
        let reason = reply["error"].as_str();
        Err(reason.unwrap_or("llama.cpp gave no reason").into())
    }
}

impl Drop for PromptCache {
    fn drop(&mut self) {
        // The script ends at the end of its input, but may be in the middle of an answer that
        // nobody waits for any more.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
