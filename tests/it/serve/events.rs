//! A client of subscriptions: what it is told, and what it holds by it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::Value;

use super::DEADLINE;
use crate::client::request;

/// An event.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) id: Option<String>,
    pub(super) data: Value,
}

/// A subscription.
pub(super) struct Events {
    stream: BufReader<TcpStream>,
    pub(super) status: u16,
    pub(super) content_type: String,
    /// What came and is no whole event yet.
    text: String,
}

impl Events {
    /// Asks for a path, and reads the head of the reply.
    pub(super) fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time");
        stream
            .write_all(&request("GET", path, headers, b""))
            .expect("written");
        let mut stream = BufReader::new(stream);
        let (mut status, mut content_type) = (0, String::new());
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).expect("a head");
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().expect("a status");
            }
            if let Some(value) = line.strip_prefix("content-type: ") {
                content_type = value.to_owned();
            }
        }
        Self {
            stream,
            status,
            content_type,
            text: String::new(),
        }
    }

    /// The next event of SSE; none once the reply has ended, or where nothing but signs of life came.
    pub(super) fn next(&mut self) -> Option<Event> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let mut event = Event {
                    name: String::new(),
                    id: None,
                    data: Value::Null,
                };
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("event", name)) => event.name = name.to_owned(),
                        Some(("id", id)) => event.id = Some(id.to_owned()),
                        Some(("data", data)) => {
                            event.data = serde_json::from_str(data).expect("JSON");
                        }
                        _ => assert!(line.is_empty() || line.starts_with(':'), "{line}"),
                    }
                }
                if !event.name.is_empty() {
                    return Some(event);
                }
            }
            if !self.chunk() {
                return None;
            }
        }
        None
    }

    /// The next line of NDJSON.
    pub(super) fn line(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.text.find('\n') {
                let line: String = self.text.drain(..=end).collect();
                if !line.trim().is_empty() {
                    return Some(serde_json::from_str(&line).expect("JSON"));
                }
            }
            if !self.chunk() {
                return None;
            }
        }
    }

    /// Reads a chunk; false where it is the last.
    fn chunk(&mut self) -> bool {
        let mut size = String::new();
        match self.stream.read_line(&mut size) {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
        let size = usize::from_str_radix(size.trim(), 16).expect("a size");
        let mut bytes = vec![0; size + 2];
        if self.stream.read_exact(&mut bytes).is_err() {
            return false;
        }
        bytes.truncate(size);
        self.text += std::str::from_utf8(&bytes).expect("whole characters");
        size > 0
    }

    /// Reads on to an event of a name, and returns all up to it.
    pub(super) fn upto(&mut self, name: &str) -> Vec<Event> {
        self.until(|event| event.name == name)
    }

    /// Reads on to an event, and returns all up to it.
    pub(super) fn until(&mut self, is_last: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next();
            let event = event.unwrap_or_else(|| panic!("the end, after {events:?}"));
            events.push(event.clone());
            if is_last(&event) {
                return events;
            }
        }
    }
}

/// What a client holds that applies what it is told from one id to the next together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Held {
    /// By key: the texts.
    pub(super) answers: BTreeMap<String, String>,
    /// By row as it is written: how often it stands.
    pub(super) rows: BTreeMap<String, i64>,
    pub(super) id: Option<String>,
    pub(super) n_resets: usize,
    /// What was told since the last id.
    told: Vec<(String, Value)>,
}

impl Held {
    /// Takes an event; true where it has an id, so that the state is one of an epoch.
    pub(super) fn take(&mut self, event: &Event) -> bool {
        self.n_resets += usize::from(event.name == "reset");
        if event.data["early"] != true {
            self.told.push((event.name.clone(), event.data.clone()));
        }
        let Some(id) = &event.id else {
            return false;
        };
        for (name, data) in std::mem::take(&mut self.told) {
            match &*name {
                "snapshot" => {
                    self.answers.clear();
                    self.rows.clear();
                }
                "answer" => {
                    let key = data["key"].as_str().expect("a key").to_owned();
                    // What has an error in place of a text stands, too.
                    let text = data["text"].as_str().unwrap_or_default();
                    match data["change"] == "gone" {
                        false => self.answers.insert(key, text.to_owned()),
                        true => self.answers.remove(&key),
                    };
                }
                "row" => {
                    let row = data["row"].to_string();
                    let count = self.rows.entry(row.clone()).or_default();
                    *count += data["count"].as_i64().expect("a count");
                    if *count == 0 {
                        self.rows.remove(&row);
                    }
                }
                _ => {}
            }
        }
        self.id = Some(id.clone());
        true
    }

    /// Takes all events of a list.
    pub(super) fn take_all(&mut self, events: &[Event]) {
        for event in events {
            self.take(event);
        }
    }

    /// A connection is lost: what was told since the last id is of no epoch.
    pub(super) fn lose(&mut self) {
        self.told.clear();
    }
}
