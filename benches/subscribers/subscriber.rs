//! One subscriber: what it is told, and what it holds by that.
//!
//! It reads whatever has come, applies what stands between two ids together, as `docs/serve.md` says, and
//! keeps numbers. It takes no thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Error;
use super::changes::{self, Standing};
use super::unframed::Unframed;

/// Bytes that are read at once.
const BUFFER: usize = 16 << 10;

/// What the crowd is told.
#[derive(Clone)]
pub(super) enum Word {
    /// Changes go on.
    Going,
    /// This is what the view says, at last.
    Last(Arc<Standing>),
    /// Who does not hold it by now will not.
    Over,
}

/// What a subscriber came to.
#[derive(Default)]
pub(super) struct Report {
    /// Whether it holds what the view says.
    pub(super) is_whole: bool,
    /// Answers that it was told, without the snapshot.
    pub(super) n_answers: usize,
    /// Changes of answers that it follows, and was told together with later ones.
    pub(super) n_merged: u64,
    /// Epochs that it was told of each.
    pub(super) n_epochs: usize,
    /// Bytes that came to it, heads and frames included.
    pub(super) n_bytes: u64,
    /// Of one that follows every answer: microseconds from the posting of what it was told to its coming.
    pub(super) latencies: Vec<u32>,
}

/// One that follows a view.
pub(super) struct Subscriber {
    stream: TcpStream,
    /// The only answer that it follows.
    key: Option<String>,
    /// When times begin.
    began: Instant,
    unframed: Unframed,
    /// What came and is no whole line yet.
    text: Vec<u8>,
    held: BTreeMap<String, String>,
    /// The epoch at which the view said that.
    epoch: u64,
    /// What it was told since the last id; none of an answer that is gone.
    told: Vec<(String, Option<String>)>,
    /// Whether the snapshot is behind it.
    has_begun: bool,
    /// By key: which change of an answer it was told of last.
    last: BTreeMap<String, u64>,
    report: Report,
}

/// An event, as far as it matters here.
#[derive(Deserialize)]
struct Event<'a> {
    event: &'a str,
    #[serde(default)]
    id: Option<&'a str>,
    #[serde(default)]
    key: Option<&'a str>,
    #[serde(default)]
    text: Option<&'a str>,
}

impl Subscriber {
    /// One that has asked for its events over a connection.
    pub(super) fn new(stream: TcpStream, key: Option<String>, began: Instant) -> Self {
        Self {
            stream,
            key,
            began,
            unframed: Unframed::default(),
            text: Vec::new(),
            held: BTreeMap::new(),
            epoch: 0,
            told: Vec::new(),
            has_begun: false,
            last: BTreeMap::new(),
            report: Report::default(),
        }
    }

    /// Reads until it was told what stands.
    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        let mut buffer = vec![0; BUFFER];
        while !self.has_begun {
            self.stream.readable().await?;
            self.read(&mut buffer)?;
        }
        Ok(())
    }

    /// Reads until it holds what the view says at last, or is told that it is over. Its connection is
    /// open for as long as the one is kept that it returns.
    pub(super) async fn follow(
        mut self,
        mut word: watch::Receiver<Word>,
    ) -> Result<(Report, TcpStream), Error> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let now = word.borrow_and_update().clone();
            match now {
                Word::Last(standing) if self.holds(&standing) => {
                    self.report.is_whole = true;
                    return Ok((self.report, self.stream));
                }
                Word::Over => return Ok((self.report, self.stream)),
                _ => {}
            }
            tokio::select! {
                ready = self.stream.readable() => {
                    ready?;
                    self.read(&mut buffer)?;
                }
                changed = word.changed() => changed.map_err(|_| "nobody waits any more")?,
            }
        }
    }

    /// Whether it was told all up to an epoch, and holds what is for it to hold.
    fn holds(&self, standing: &Standing) -> bool {
        let answers = &standing.answers;
        self.epoch >= standing.epoch
            && match &self.key {
                Some(key) => self.held.len() == 1 && self.held.get(key) == answers.get(key),
                None => self.held == *answers,
            }
    }

    /// Takes what has come.
    fn read(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let n_bytes = match self.stream.try_read(buffer) {
            Ok(0) => return Err("a subscriber was cut off".into()),
            Ok(n_bytes) => n_bytes,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.report.n_bytes += n_bytes as u64;
        let mut text = std::mem::take(&mut self.text);
        self.unframed.push(&buffer[..n_bytes], &mut text)?;
        let mut n_taken = 0;
        while let Some(len) = text[n_taken..].iter().position(|byte| *byte == b'\n') {
            let line = &text[n_taken..n_taken + len];
            n_taken += len + 1;
            // An empty one says that the connection lives.
            if !line.is_empty() {
                self.take(&serde_json::from_slice(line)?)?;
            }
        }
        text.drain(..n_taken);
        self.text = text;
        Ok(())
    }

    fn take(&mut self, event: &Event<'_>) -> Result<(), Error> {
        match event.event {
            "snapshot" => {
                self.held.clear();
                self.told.clear();
            }
            "answer" => {
                let key = event.key.ok_or("an answer has no key")?;
                self.answer(key, event.text)?;
            }
            "epoch" => self.report.n_epochs += 1,
            "end" => return Err("a subscription has ended".into()),
            _ => {}
        }
        if let Some(id) = event.id {
            let epoch = id.rsplit('.').next().unwrap_or_default();
            self.epoch = epoch.parse()?;
            for (key, text) in self.told.drain(..) {
                match text {
                    Some(text) => self.held.insert(key, text),
                    None => self.held.remove(&key),
                };
            }
            self.has_begun = true;
        }
        Ok(())
    }

    fn answer(&mut self, key: &str, text: Option<&str>) -> Result<(), Error> {
        self.told.push((key.to_owned(), text.map(str::to_owned)));
        let said = text.and_then(changes::read);
        let (n, at) = said.ok_or_else(|| format!("an answer says something else: {text:?}"))?;
        let before = self.last.insert(key.to_owned(), n);
        if !self.has_begun {
            return Ok(());
        }
        self.report.n_answers += 1;
        let n_new = n.saturating_sub(before.unwrap_or(0));
        self.report.n_merged += n_new.saturating_sub(1);
        if self.key.is_none() {
            let now = self.began.elapsed().as_micros();
            let late = now.saturating_sub(u128::from(at));
            self.report
                .latencies
                .push(u32::try_from(late).unwrap_or(u32::MAX));
        }
        Ok(())
    }
}
