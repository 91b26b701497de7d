//! A client of HTTP that says exactly what it is told to.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Far beyond any reply on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// A connection.
pub struct Client {
    stream: TcpStream,
    /// What came and is not read yet.
    received: Vec<u8>,
}

/// What a server said.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// By name in small letters.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a body of JSON")
    }

    /// The token of a request that was taken in.
    pub fn token(&self) -> String {
        let json = self.json();
        json["token"].as_str().expect("a token").to_owned()
    }
}

/// A request as it is written on the wire, addressed to localhost.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        text += "host: localhost\r\n";
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("content-length: {}\r\n\r\n", body.len());
    [text.as_bytes(), body].concat()
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time");
        Self {
            stream,
            received: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        // One that is refused early may be cut off: the reply says so.
        let _ = self.stream.write_all(bytes);
    }

    /// Says that nothing more will be sent.
    pub fn end(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("connected");
    }

    /// The next reply; none if the connection is closed instead.
    pub fn reply(&mut self) -> Option<Reply> {
        let head = loop {
            let end = self.received.windows(4).position(|w| w == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<u8> = self.received.drain(..end + 4).collect();
                let head = String::from_utf8(head).expect("a head of text");
                if !head.starts_with("HTTP/1.1 100") {
                    break head;
                }
            } else if !self.receive() {
                return None;
            }
        };
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let field = |line: &str| {
            let (name, value) = line.split_once(':').expect("a field");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let headers: BTreeMap<String, String> = lines.map(field).collect();
        let len: usize = match headers.get("content-length") {
            Some(len) => len.parse().expect("a length"),
            None => 0,
        };
        while self.received.len() < len {
            if !self.receive() {
                return None;
            }
        }
        let body = self.received.drain(..len).collect();
        Some(Reply {
            status: status.and_then(|s| s.parse().ok()).expect("a status"),
            headers,
            body: String::from_utf8(body).expect("a body of text"),
        })
    }

    fn receive(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(n) => {
                self.received.extend_from_slice(&buffer[..n]);
                true
            }
            Err(error) => {
                let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                assert!(kinds.contains(&error.kind()), "no reply in time: {error}");
                false
            }
        }
    }

    pub fn ask(&mut self, request: &[u8]) -> Reply {
        self.send(request);
        self.reply().expect("a reply")
    }

    /// Posts records to a path of a stream, as `docs` or `docs?wait=9`.
    pub fn post(&mut self, stream: &str, body: impl AsRef<[u8]>) -> Reply {
        let path = format!("/v1/streams/{stream}");
        self.ask(&request("POST", &path, &[], body.as_ref()))
    }

    pub fn get(&mut self, path: &str) -> Reply {
        self.ask(&request("GET", path, &[], b""))
    }

    /// What became of a request, waiting this many seconds at most.
    pub fn look(&mut self, token: &str, wait: u64) -> Reply {
        self.get(&format!("/v1/tokens/{token}?wait={wait}"))
    }
}
