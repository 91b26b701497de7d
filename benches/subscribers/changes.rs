//! Documents, posted at a steady pace; each says when, and which change of its answer it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Error;
use super::process::{Child, agent};

/// Threads that post, each for answers of its own, so that the changes of one keep their order.
const N_POSTERS: usize = 2;
/// How long the view may take to take up what was posted last.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long to wait before it is looked, or posted, again.
const LOOK: Duration = Duration::from_millis(50);

/// What was made.
#[derive(Clone, Copy, Default)]
pub(super) struct Made {
    /// Changes.
    pub(super) n_changes: usize,
    /// Requests that were refused, and sent again.
    pub(super) n_refused: usize,
}

/// What the answers are about.
pub(super) struct Changes<'a> {
    child: &'a Child,
    n_topics: usize,
    /// The moment from which times are counted.
    pub(super) began: Instant,
}

/// What the view says at an epoch.
pub(super) struct Standing {
    pub(super) epoch: u64,
    /// By key.
    pub(super) answers: BTreeMap<String, String>,
}

impl<'a> Changes<'a> {
    /// Of so many answers.
    pub(super) fn new(child: &'a Child, n_topics: usize) -> Self {
        Self {
            child,
            n_topics,
            began: Instant::now(),
        }
    }

    /// Posts a question of each topic, and its first document, and waits for the answers.
    pub(super) fn begin(&self) -> Result<(), Error> {
        let topics = || 0..self.n_topics;
        let documents: String = topics().map(|topic| self.document(topic, 0)).collect();
        let question = |topic| {
            let topic = name(topic);
            json!({"key": topic, "topic": topic, "text": topic}).to_string() + "\n"
        };
        let questions: String = topics().map(question).collect();
        let mut poster = Poster::new(self.child.address);
        poster.post("docs?wait=60", &documents)?;
        poster.post("questions?wait=60", &questions)?;
        self.settle(0)?;
        Ok(())
    }

    /// Makes so many changes a second, for so long, of one topic after the other.
    pub(super) fn make(&self, a_second: u32, seconds: u32) -> Result<Made, Error> {
        let n_changes = usize::try_from(u64::from(a_second) * u64::from(seconds))?;
        let begin = Instant::now();
        let post = |which: usize| -> Result<Made, Error> {
            let mut poster = Poster::new(self.child.address);
            let mut made = Made::default();
            let is_own = |change: &usize| (change % self.n_topics) % N_POSTERS == which;
            for change in (0..n_changes).filter(is_own) {
                let due =
                    begin + Duration::from_secs(1).mul_f64(change as f64 / f64::from(a_second));
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let document = self.document(change % self.n_topics, 1 + change / self.n_topics);
                made.n_refused += poster.post("docs", &document)?;
                made.n_changes += 1;
            }
            Ok(made)
        };
        thread::scope(|scope| {
            let post = &post;
            let posters = (0..N_POSTERS).map(|which| scope.spawn(move || post(which)));
            let posters: Vec<_> = posters.collect();
            let mut all = Made::default();
            for poster in posters {
                let made = poster.join().map_err(|_| "a poster panicked")??;
                all.n_changes += made.n_changes;
                all.n_refused += made.n_refused;
            }
            Ok(all)
        })
    }

    /// Waits until the view says what so many changes came to, and returns what it says.
    pub(super) fn settle(&self, n_changes: usize) -> Result<Standing, Error> {
        // Which change of a topic was its last.
        let last = |topic: usize| (n_changes + self.n_topics - 1 - topic) / self.n_topics;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let standing = self.standing()?;
            let is_last = |topic: usize| {
                let said = standing.answers.get(&name(topic));
                let said = said.and_then(|text| read(text));
                said.is_some_and(|(n, _)| n == last(topic) as u64)
            };
            if (0..self.n_topics).all(is_last) {
                return Ok(standing);
            }
            if Instant::now() > deadline {
                return Err("the view does not come to say what was posted".into());
            }
            thread::sleep(LOOK);
        }
    }

    fn standing(&self) -> Result<Standing, Error> {
        let held = self.child.json("/v1/views/answers?limit=10000")?;
        let rows = held["rows"].as_array().into_iter().flatten();
        Ok(Standing {
            // There may be no epoch yet.
            epoch: held["epoch"].as_u64().unwrap_or(0),
            answers: rows
                .map(|row| (text(&row["key"]), text(&row["text"])))
                .collect(),
        })
    }

    /// A document: the nth change of its topic, now.
    fn document(&self, topic: usize, n: usize) -> String {
        let topic = name(topic);
        let text = format!("{topic} is {n} at {}.", self.now());
        json!({"key": topic, "topic": topic, "text": text}).to_string() + "\n"
    }

    /// Microseconds since it began.
    fn now(&self) -> u128 {
        self.began.elapsed().as_micros()
    }
}

/// The name of a topic, which is the key of its document, of its question, and of the answer.
pub(super) fn name(topic: usize) -> String {
    format!("topic{topic}")
}

/// Which change of its topic an answer tells of, and when that was posted, in microseconds.
pub(super) fn read(text: &str) -> Option<(u64, u64)> {
    let mut words = text.trim_end_matches('.').split(' ').skip(2);
    let n = words.next()?.parse().ok()?;
    let at = words.nth(1)?.parse().ok()?;
    Some((n, at))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Posts records, one request after the other.
struct Poster {
    agent: ureq::Agent,
    address: SocketAddr,
}

impl Poster {
    fn new(address: SocketAddr) -> Self {
        Self {
            agent: agent(),
            address,
        }
    }

    /// Posts to a stream until it is taken in. Returns how often it was refused.
    fn post(&mut self, stream: &str, body: &str) -> Result<usize, Error> {
        let url = format!("http://{}/v1/streams/{stream}", self.address);
        let mut n_refused = 0;
        loop {
            let mut response = self.agent.post(&url).send(body)?;
            // Read to its end, the connection is used again.
            let reply = response.body_mut().read_to_string()?;
            match response.status().as_u16() {
                200 | 202 => return Ok(n_refused),
                // The engine is behind: what was posted is sent again.
                429 | 503 => n_refused += 1,
                status => return Err(format!("{url}: {status}: {reply}").into()),
            }
            thread::sleep(LOOK);
        }
    }
}
