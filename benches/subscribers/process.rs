//! The server as its parent sees it: where it is, how it is, and what it takes of the machine.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::Error;

/// The processor's time is counted in hundredths of a second, on every machine that Linux runs on here.
const TICKS_A_SECOND: f64 = 100.0;
/// How long a request may take.
const REQUEST_TIME: Duration = Duration::from_secs(120);

/// A server that ends when this does.
pub(super) struct Child {
    process: std::process::Child,
    /// Where it is.
    pub(super) address: SocketAddr,
    agent: ureq::Agent,
}

impl Child {
    /// Starts it.
    pub(super) fn start(connections: u32, rate: u32) -> Result<Self, Error> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--serve")
            .args([connections.to_string(), rate.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = process.stdout.take().ok_or("the server has no output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let address = line.trim().parse();
        Ok(Self {
            process,
            address: address.map_err(|_| "the server did not start")?,
            agent: agent(),
        })
    }

    /// What `/v1/status` says of it.
    pub(super) fn status(&self) -> Result<Value, Error> {
        self.json("/v1/status")
    }

    /// What it replies to `GET`.
    pub(super) fn json(&self, path: &str) -> Result<Value, Error> {
        let url = format!("http://{}{path}", self.address);
        let mut response = self.agent.get(url).call()?;
        Ok(serde_json::from_str(
            &response.body_mut().read_to_string()?,
        )?)
    }

    /// Memory that it has now, in bytes.
    pub(super) fn resident(&self) -> Result<usize, Error> {
        self.memory("VmRSS:")
    }

    /// The most that it has had.
    pub(super) fn resident_peak(&self) -> Result<usize, Error> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> Result<usize, Error> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
        let kib: usize = kib
            .ok_or("the system does not tell memory")?
            .trim()
            .parse()?;
        Ok(kib << 10)
    }

    /// The time of processors that it has taken.
    pub(super) fn cpu(&self) -> Result<Duration, Error> {
        let stat = self.proc("stat")?;
        // The name of the program may hold anything, and ends with the last parenthesis.
        let (_, fields) = stat.rsplit_once(')').ok_or("the system tells no times")?;
        // Of its own code, then of the system's.
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks: Result<Vec<u64>, _> = times.map(str::parse).collect();
        let ticks: u64 = ticks?.iter().sum();
        Ok(Duration::from_secs_f64(ticks as f64 / TICKS_A_SECOND))
    }

    fn proc(&self, file: &str) -> Result<String, Error> {
        let path = format!("/proc/{}/{file}", self.process.id());
        Ok(std::fs::read_to_string(path)?)
    }

    /// Has it end, and waits for that.
    pub(super) fn end(mut self) -> Result<(), Error> {
        drop(self.process.stdin.take());
        match self.process.wait()?.success() {
            true => Ok(()),
            false => Err("the server failed".into()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It has ended, or nobody wants what it would still do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes requests, over connections that are kept.
pub(super) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        // It is on this machine.
        .proxy(None)
        .timeout_global(Some(REQUEST_TIME))
        .build();
    ureq::Agent::new_with_config(config)
}
