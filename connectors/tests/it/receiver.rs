//! A receiver of webhooks that fails as it is told to, and remembers what it was sent.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// What it does about a request.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Answers with a status, a further header and a body. It has the request if that is 2xx.
    Answer(u16, &'static str, &'static str),
    /// Closes the connection before it has read anything.
    Cut,
    /// Has the request, but closes the connection without a word.
    TakeAndCut,
    /// Has the request, but says so only after this time.
    Late(Duration),
}

/// A request that it read.
#[derive(Clone, Debug)]
pub struct Got {
    /// By name in small letters.
    pub headers: BTreeMap<String, String>,
    pub bytes: Vec<u8>,
    /// Whether it counts as received.
    pub is_taken: bool,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("a body of JSON")
    }

    pub fn key(&self) -> &str {
        &self.headers["idempotency-key"]
    }
}

#[derive(Default)]
struct Shared {
    /// What to do about the next requests; then it answers all with 200.
    acts: Mutex<VecDeque<Act>>,
    got: Mutex<Vec<Got>>,
    /// A status, and the word by which it refuses each request that has it.
    refuses: Mutex<Option<(u16, &'static str)>>,
    is_over: AtomicBool,
}

/// A server on this machine.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        lock(&shared.acts).extend(acts);
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || {
                while let Ok((stream, _)) = listener.accept() {
                    if shared.is_over.load(Ordering::Acquire) {
                        return;
                    }
                    let shared = shared.clone();
                    // One that is late must not hold up the next.
                    std::thread::spawn(move || receive(stream, &shared));
                }
            }
        });
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/answers", self.address)
    }

    /// What to do about the next requests, behind what was said before.
    pub fn then(&self, acts: impl IntoIterator<Item = Act>) {
        lock(&self.shared.acts).extend(acts);
    }

    /// From now on, each request whose body has a word is answered with this status.
    pub fn refuse(&self, status: u16, word: &'static str) {
        *lock(&self.shared.refuses) = Some((status, word));
    }

    /// From now on, nothing is refused for a word.
    pub fn relent(&self) {
        *lock(&self.shared.refuses) = None;
    }

    /// All that it read so far.
    pub fn got(&self) -> Vec<Got> {
        lock(&self.shared.got).clone()
    }

    /// What it took, each key once, in the order of their arrival.
    pub fn taken(&self) -> Vec<Got> {
        let mut taken: Vec<Got> = Vec::new();
        for got in self.got().into_iter().filter(|got| got.is_taken) {
            match taken.iter().find(|other| other.key() == got.key()) {
                Some(other) => assert_eq!(other.bytes, got.bytes, "one key, one body"),
                None => taken.push(got),
            }
        }
        taken
    }

    /// Waits until what it took is so.
    pub fn until(&self, done: impl Fn(&[Got]) -> bool) -> Vec<Got> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let taken = self.taken();
            if done(&taken) {
                return taken;
            }
            assert!(Instant::now() < end, "{taken:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn receive(mut stream: TcpStream, shared: &Shared) {
    let act = lock(&shared.acts).pop_front();
    let act = act.unwrap_or(Act::Answer(200, "", ""));
    if matches!(act, Act::Cut) {
        return;
    }
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    loop {
        line.clear();
        // A client that goes away has sent nothing.
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let len = headers.get("content-length").and_then(|l| l.parse().ok());
    let mut bytes = vec![0; len.expect("a length")];
    if reader.read_exact(&mut bytes).is_err() {
        return;
    }
    let text = String::from_utf8_lossy(&bytes);
    let refuses = lock(&shared.refuses).filter(|(_, word)| text.contains(word));
    let act = refuses.map_or(act, |(status, _)| Act::Answer(status, "", "not this one"));
    let is_taken = match act {
        Act::Answer(status, ..) => (200..300).contains(&status),
        Act::Cut => false,
        Act::TakeAndCut | Act::Late(_) => true,
    };
    lock(&shared.got).push(Got {
        headers,
        bytes,
        is_taken,
    });
    let (status, header, body) = match act {
        Act::Answer(status, header, body) => (status, header, body),
        Act::Cut | Act::TakeAndCut => return,
        Act::Late(time) => {
            std::thread::sleep(time);
            (200, "", "")
        }
    };
    let reply = format!(
        "HTTP/1.1 {status} Said\r\nconnection: close\r\n{header}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    // A client that did not wait does not read it.
    let _ = stream.write_all(reply.as_bytes());
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().expect("no test panics here")
}
