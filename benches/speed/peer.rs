//! llama.cpp's side: a subprocess that is asked for one measurement at a time.
//!
//! The protocol is one JSON object a line each way; `llamacpp.py` documents it. A
//! peer that cannot start, or that fails while loading, is an error with its reason,
//! never a row of made-up numbers.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::measurement::{Measurement, Task};
use crate::options::Options;

type Error = Box<dyn std::error::Error>;

/// A running llama.cpp with one model loaded.
pub struct Peer {
    child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
    description: String,
}

impl Peer {
    /// Starts the script and loads the model, with room for the longest task.
    pub fn load(
        options: &Options,
        model: &Path,
        n_threads: usize,
        flash_attention: bool,
    ) -> Result<Self, Error> {
        let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "benches/speed/llamacpp.py"]
            .iter()
            .collect();
        let mut child = Command::new(&options.peer_python)
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", options.peer_python.display()))?;
        let requests = child.stdin.take().expect("stdin was piped");
        let replies = BufReader::new(child.stdout.take().expect("stdout was piped"));
        let mut peer = Self {
            child,
            requests,
            replies,
            description: String::new(),
        };
        let loaded = peer.ask(&json!({
            "op": "load",
            "model": model,
            "threads": n_threads,
            "flash_attention": flash_attention,
            "capacity": options.capacity(),
        }))?;
        peer.description = format!(
            "llama-cpp-python {}, {}",
            loaded["package"].as_str().unwrap_or("of unknown version"),
            loaded["system"]
                .as_str()
                .unwrap_or_default()
                .trim_end_matches([' ', '|'])
        );
        Ok(peer)
    }

    /// Version and instruction sets, as llama.cpp tells them.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Runs the task once.
    pub fn run(&mut self, task: &Task) -> Result<Measurement, Error> {
        let reply = self.ask(&match task {
            Task::Prefill { tokens } => json!({ "op": "prefill", "tokens": tokens }),
            Task::Decode { context, tokens } => {
                json!({ "op": "decode", "context": context, "tokens": tokens })
            }
            Task::Verify { context, tokens } => {
                json!({ "op": "verify", "context": context, "tokens": tokens })
            }
        })?;
        Ok(serde_json::from_value(reply)?)
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
        Err(reply["error"]
            .as_str()
            .unwrap_or("llama.cpp gave no reason")
            .into())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The script ends at the end of its input, but may be in the middle of a task
        // that nobody waits for any more.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
