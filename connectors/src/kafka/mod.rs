//! Which changes does a topic of a Kafka-compatible cluster ask for, now and as it grows?
//!
//! One message, one change ([`Format`] has the payloads). All partitions are read, from their
//! beginning or from where an earlier run ended; order counts within a partition, where Kafka
//! keeps the messages of one key. Offsets are not committed to the cluster: they are kept with
//! the epoch that they brought, so a message counts once whatever crashes.
//!
//! - `client`: how is a client set up?
//! - `compaction`: may a message that was removed have been a deletion?
//! - `partitions`: how far was each partition read, and is it still the same topic?
//! - `format`, `frame`, `debezium`: what does a message say?
//!
//! A cluster that is away, or a topic that is not there yet, is waited for, with a notice; by a source that
//! reads once for a while only. A
//! topic that was deleted and made anew is read from its beginning, and what the old one held
//! and the new one does not is gone ([`Notice::Recreated`]). So is one that is compacted, and of which
//! messages were removed before they were read ([`Notice::Compacted`]): deletions are kept there for a while
//! only. Messages of others that retention removed before they were read are told ([`Notice::Lost`]); what
//! is held stands.

pub(crate) mod client;
mod compaction;
mod debezium;
mod format;
mod frame;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod partitions;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};

use perennial_rows::Schema;

use crate::declared::is_textless;
use crate::message_format::Format;
use crate::rejection;
use crate::{
    Batch, Error, Event, Halt, KeyScope, NextMessage, Notice, Offset, Outlet, Rejected, Resume,
    Resumption, Source, SourceName,
};

use client::Complaints;
use format::Words;
use partitions::{Arrival, Extent, Partitions, Standing};

/// Messages over this many bytes are refused, unless said otherwise: 1 MiB.
const MESSAGE_LIMIT: usize = 1 << 20;
/// A batch is closed when its messages come to this many bytes.
const BATCH_BYTES: usize = 16 << 20;
/// What a message counts at least, so that many short ones close a batch too.
const MESSAGE_COST: usize = 256;
/// A batch of messages that keep coming is closed after this time.
const MAX_DELAY: Duration = Duration::from_secs(1);
/// A batch is closed when no message came for this time.
const QUIET: Duration = Duration::from_millis(20);
/// How long to wait for a message before looking at the stop flag.
const PATIENCE: Duration = Duration::from_millis(50);
/// See [`Kafka::look_every`].
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How often to ask for them while the topic is not there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long the cluster may take to answer that.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// See [`Kafka::give_up_after`].
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// What the consumer starts with; the user's settings take their place.
const DEFAULTS: [(&str, &str); 3] = [
    // A consumer needs one, though it never joins a group or commits an offset.
    ("group.id", "perennial"),
    // Memory for messages that wait, in KiB.
    ("queued.max.messages.kbytes", "16384"),
    // How long the end of a partition may go unnoticed, in ms.
    ("fetch.wait.max.ms", "100"),
];
/// What the consumer is set up with, whatever else is.
const SETTINGS: [(&str, &str); 4] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    // What an offset out of range means is decided here.
    ("auto.offset.reset", "error"),
];

/// A topic of a Kafka-compatible cluster as a source.
///
/// ```no_run
/// use perennial_connectors::{Format, Kafka, start};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let docs = Kafka::open("docs", "127.0.0.1:9092", "support_docs")?
///     .format(Format::Text)
///     .settings([("security.protocol", "SASL_SSL")])?;
/// let running = start(docs, 16)?;
/// # Ok(())
/// # }
/// ```
pub struct Kafka {
    name: SourceName,
    servers: String,
    topic: String,
    format: Format,
    settings: Vec<(String, String)>,
    config: ClientConfig,
    /// In bytes.
    message_limit: usize,
    is_once: bool,
    give_up_after: Duration,
    look_every: Duration,
    resume: BTreeMap<i32, NextMessage>,
    /// Whether a record may have no text.
    is_textless: bool,
}

impl fmt::Debug for Kafka {
    // Settings may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("name", &self.name)
            .field("servers", &self.servers)
            .field("topic", &self.topic)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl Kafka {
    /// Reads a topic of the cluster that these servers (`host:port`, with commas between) know.
    /// Nothing is asked of them before the source runs.
    ///
    /// # Errors
    /// [`Error::KafkaSetting`] for servers that cannot be.
    pub fn open(
        name: impl Into<String>,
        servers: impl Into<String>,
        topic: impl Into<String>,
    ) -> Result<Self, Error> {
        let servers = servers.into();
        Ok(Self {
            name: SourceName::new(name),
            topic: topic.into(),
            format: Format::default(),
            settings: Vec::new(),
            config: client::configure(&servers, &DEFAULTS, &[], &SETTINGS)?,
            servers,
            message_limit: MESSAGE_LIMIT,
            is_once: false,
            give_up_after: GIVE_UP_AFTER,
            look_every: LOOK_EVERY,
            resume: BTreeMap::new(),
            is_textless: false,
        })
    }

    /// What the messages are. By default [`Format::Json`].
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Settings of librdkafka, by its names: `security.protocol`, `sasl.username`, and so on.
    ///
    /// # Errors
    /// [`Error::KafkaSetting`] for one that does not exist, has no such value, or is
    /// Perennial's own.
    pub fn settings<N: Into<String>, V: Into<String>>(
        mut self,
        settings: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, Error> {
        let settings = settings.into_iter();
        self.settings
            .extend(settings.map(|(name, value)| (name.into(), value.into())));
        self.config = client::configure(&self.servers, &DEFAULTS, &self.settings, &SETTINGS)?;
        Ok(self)
    }

    /// The longest message, key and payload, in bytes. By default 1 MiB.
    #[must_use]
    pub fn message_limit(mut self, bytes: usize) -> Self {
        self.message_limit = bytes;
        self
    }

    /// How often to ask for the topic's partitions, since some may be added, and to read their
    /// last messages again, since it may be another topic by now. By default 30 seconds.
    #[must_use]
    pub fn look_every(mut self, time: Duration) -> Self {
        self.look_every = time.max(PATIENCE);
        self
    }

    /// Whether to end where the topic ended when it was read. By default it is followed.
    #[must_use]
    pub fn once(mut self, is_once: bool) -> Self {
        self.is_once = is_once;
        self
    }

    /// How long a source that reads [once](Kafka::once) waits for a cluster that is away, or a topic that
    /// is not there, before it fails. By default 30 seconds. One that follows waits as long as it takes.
    #[must_use]
    pub fn give_up_after(mut self, time: Duration) -> Self {
        self.give_up_after = time;
        self
    }
}

impl Source for Kafka {
    fn name(&self) -> &SourceName {
        &self.name
    }

    /// From the offsets of the same topic; whether it is the same, its messages say.
    fn resume_from(&mut self, from: Resume) -> Resumption {
        match from.offset {
            Some(Offset::Partitions { topic, next }) if topic == self.topic => {
                self.resume = next;
                Resumption::FromOffset
            }
            _ => Resumption::Anew,
        }
    }

    fn declare(&mut self, schema: &Schema) {
        self.is_textless = is_textless(schema);
    }

    fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
        let consumer = self.config.create_with_context(Complaints::default());
        let consumer: BaseConsumer<Complaints> = consumer.map_err(client::refused)?;
        let mut reader = Reader {
            partitions: Partitions::resume(&self.resume),
            consumer: Arc::new(consumer),
            source: &self,
            words: Words::of(&self.topic),
            batch: Batch::default(),
            batch_bytes: 0,
            begun: None,
            has_caught_up: false,
            is_starting_over: false,
            is_found: false,
            told: None,
        };
        reader.run(out)
    }
}

/// Turns messages into batches.
struct Reader<'a> {
    source: &'a Kafka,
    words: Words,
    consumer: Arc<BaseConsumer<Complaints>>,
    partitions: Partitions,
    batch: Batch,
    /// What the batch's messages come to.
    batch_bytes: usize,
    /// When the batch's first message came.
    begun: Option<Instant>,
    has_caught_up: bool,
    /// Whether it reads from the beginnings again, and is not through.
    is_starting_over: bool,
    /// Whether the topic was there when it was last looked for.
    is_found: bool,
    /// The complaint that was told last, as long as nothing came since.
    told: Option<Complaint>,
}

/// What is waited for, and since when.
struct Complaint {
    reason: String,
    since: Instant,
}

impl Reader<'_> {
    fn run(&mut self, out: &Outlet) -> Result<(), Halt> {
        let mut look = Some(Look::at(&self.consumer, &self.source.topic)?);
        let mut next_look = Instant::now();
        loop {
            out.check()?;
            if let Some(found) = look.as_ref().and_then(Look::result) {
                look = None;
                self.found(found, out)?;
                let pause = match self.is_found {
                    true => self.source.look_every,
                    false => LOOK_AGAIN,
                };
                next_look = Instant::now() + pause;
            }
            if look.is_none() && Instant::now() >= next_look {
                look = Some(Look::at(&self.consumer, &self.source.topic)?);
            }
            let consumer = self.consumer.clone();
            let patience = if self.batch.is_empty() {
                PATIENCE
            } else {
                QUIET
            };
            match consumer.poll(patience) {
                Some(Ok(message)) => self.take(&message, out)?,
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.told = None;
                    if !self.partitions.end(partition) {
                        self.stand(out)?;
                    }
                }
                Some(Err(error)) => self.complain(&error, out)?,
                None => self.flush(out)?,
            }
            let is_behind = !self.has_caught_up || self.is_starting_over;
            if is_behind && self.partitions.are_at_end() {
                self.flush(out)?;
                if std::mem::take(&mut self.is_starting_over) {
                    out.send(Event::SaidAgain(KeyScope::all()))?;
                }
                if !std::mem::replace(&mut self.has_caught_up, true) {
                    out.send(Event::CaughtUp)?;
                }
            }
            if self.has_caught_up && !self.is_starting_over && self.source.is_once {
                return Ok(());
            }
            self.give_up()?;
        }
    }

    /// Takes in which partitions the topic has.
    fn found(&mut self, found: Result<Vec<i32>, Missing>, out: &Outlet) -> Result<(), Halt> {
        match found {
            Ok(numbers) => {
                let returned = !std::mem::replace(&mut self.is_found, true);
                if self.partitions.exceed(&numbers) {
                    self.partitions = Partitions::default();
                    self.partitions.add(&numbers);
                    self.begin_again(self.recreated(), out)
                } else {
                    // Clients do not tell when a topic was deleted and made anew.
                    let is_doubted = returned || self.partitions.are_at_end();
                    let is_known = self.partitions.are(&numbers);
                    self.partitions.add(&numbers);
                    if is_doubted {
                        self.partitions.doubt();
                    }
                    match is_doubted || !is_known {
                        true => self.assign(),
                        false => Ok(()),
                    }
                }
            }
            Err(Missing::Topic) => {
                self.is_found = false;
                let reason = "there is no such topic".to_owned();
                self.tell(reason, out)
            }
            Err(Missing::Cluster(error)) => self.complain(&error, out),
        }
    }

    fn take(&mut self, message: &BorrowedMessage<'_>, out: &Outlet) -> Result<(), Halt> {
        self.told = None;
        match self.partitions.arrive(message) {
            Arrival::New => {}
            Arrival::Known => return Ok(()),
            Arrival::Foreign => return self.begin_again(self.recreated(), out),
            Arrival::Skipped => {
                // Where the cluster does not say, it may be.
                if self.is_compacted(out)?.unwrap_or(true) {
                    return self.begin_again(self.compacted(), out);
                }
                self.partitions.skip();
                return self.take(message, out);
            }
        }
        self.begun.get_or_insert_with(Instant::now);
        self.batch_bytes += MESSAGE_COST + message.payload_len() + message.key_len();
        let offset = Offset::Message {
            topic: self.source.topic.clone(),
            partition: message.partition(),
            offset: message.offset(),
        };
        let limit = self.source.message_limit;
        let is_textless = self.source.is_textless;
        let (format, words) = (&self.source.format, &self.words);
        match format::read(format, message, words, &offset, limit, is_textless) {
            Ok(change) => self.batch.changes.push(change),
            Err((key, reason)) => self.batch.rejected.push(Rejected {
                source: self.source.name.clone(),
                offset,
                key,
                reason,
                content: message.payload().and_then(rejection::content),
            }),
        }
        let is_late = self.begun.is_some_and(|begun| begun.elapsed() >= MAX_DELAY);
        match self.batch_bytes >= BATCH_BYTES || is_late {
            true => self.flush(out),
            false => Ok(()),
        }
    }

    fn flush(&mut self, out: &Outlet) -> Result<(), Halt> {
        let mut batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        self.begun = None;
        if batch.is_empty() {
            return out.check();
        }
        batch.resume = Some(self.partitions.position(&self.source.topic));
        out.batch(batch)
    }

    fn recreated(&self) -> Notice {
        let topic = self.source.topic.clone();
        Notice::Recreated { topic }
    }

    fn compacted(&self) -> Notice {
        let topic = self.source.topic.clone();
        Notice::Compacted { topic }
    }

    /// Whether the topic is compacted, if the cluster says so.
    fn is_compacted(&self, out: &Outlet) -> Result<Option<bool>, Halt> {
        let (config, topic) = (self.source.config.clone(), self.source.topic.clone());
        let asked = beside(move || compaction::is_compacted(&config, &topic, LOOK_TIMEOUT))?;
        loop {
            match asked.recv_timeout(PATIENCE) {
                Ok(said) => return Ok(said),
                Err(RecvTimeoutError::Timeout) => out.check()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// Something else stands under the name than what was read, or more is gone than is known: it is read
    /// from its beginning.
    fn begin_again(&mut self, why: Notice, out: &Outlet) -> Result<(), Halt> {
        self.batch = Batch::default();
        self.batch_bytes = 0;
        self.begun = None;
        self.partitions.forget();
        self.is_starting_over = true;
        out.notice(why)?;
        out.send(Event::StartedOver(KeyScope::all()))?;
        self.assign()
    }

    fn assign(&self) -> Result<(), Halt> {
        let list = self.partitions.assignment(&self.source.topic);
        let assigned = self.consumer.assign(&list);
        Ok(assigned.map_err(client::refused)?)
    }

    fn complain(&mut self, error: &KafkaError, out: &Outlet) -> Result<(), Halt> {
        use RDKafkaErrorCode::{AutoOffsetReset, OffsetOutOfRange, UnknownPartition};
        match error {
            KafkaError::MessageConsumption(AutoOffsetReset | OffsetOutOfRange) => {
                return self.stand(out);
            }
            // The next look says what became of it.
            KafkaError::MessageConsumption(UnknownPartition) => return Ok(()),
            KafkaError::MessageConsumptionFatal(code) => {
                return Err(Halt::Failed(Error::Kafka {
                    reason: code.to_string(),
                }));
            }
            _ => self.partitions.fall_behind(),
        }
        let said = self.consumer.client().context().take();
        let reason = match (error.rdkafka_error_code(), said) {
            (Some(code), Some(said)) => format!("{code}: {said}"),
            (Some(code), None) => code.to_string(),
            (None, _) => error.to_string(),
        };
        self.tell(reason, out)
    }

    /// Tells what is waited for; the same thing once.
    fn tell(&mut self, reason: String, out: &Outlet) -> Result<(), Halt> {
        if let Some(told) = &mut self.told {
            told.reason = reason;
            return Ok(());
        }
        self.told = Some(Complaint {
            reason: reason.clone(),
            since: Instant::now(),
        });
        let what = self.what();
        out.notice(Notice::Unreachable { what, reason })
    }

    /// What is read, in words.
    fn what(&self) -> String {
        format!("topic {:?} of {}", self.source.topic, self.source.servers)
    }

    /// Fails where all is to be read once and has been waited for long enough.
    fn give_up(&self) -> Result<(), Halt> {
        match &self.told {
            Some(Complaint { reason, since })
                if self.source.is_once && since.elapsed() >= self.source.give_up_after =>
            {
                Err(Halt::Failed(Error::Unreachable {
                    what: self.what(),
                    waited: self.source.give_up_after,
                    reason: reason.clone(),
                }))
            }
            _ => Ok(()),
        }
    }

    /// Offsets are not there: were messages removed, or is it another topic?
    fn stand(&mut self, out: &Outlet) -> Result<(), Halt> {
        let (consumer, topic) = (self.consumer.clone(), self.source.topic.clone());
        let numbers = self.partitions.numbers();
        let extents = beside(move || {
            let extent = |number| {
                let (low, high) = consumer.fetch_watermarks(&topic, number, LOOK_TIMEOUT)?;
                Ok((number, Extent { low, high }))
            };
            let extents = numbers.into_iter().map(extent);
            extents.collect::<Result<Vec<_>, KafkaError>>()
        })?;
        let extents = loop {
            match extents.recv_timeout(PATIENCE) {
                Ok(extents) => break extents,
                Err(RecvTimeoutError::Timeout) => out.check()?,
                Err(RecvTimeoutError::Disconnected) => break Err(KafkaError::Canceled),
            }
        };
        let extents = match extents {
            Ok(extents) => extents,
            Err(error) => {
                self.complain(&error, out)?;
                out.wait(LOOK_AGAIN)?;
                return self.assign();
            }
        };
        for (number, extent) in extents {
            match self.partitions.stand(number, extent) {
                Standing::Sound => {}
                Standing::Lost(from, to) => {
                    out.notice(Notice::Lost {
                        topic: self.source.topic.clone(),
                        partition: number,
                        from,
                        to,
                    })?;
                    if self.is_compacted(out)? == Some(true) {
                        return self.begin_again(self.compacted(), out);
                    }
                }
                Standing::Foreign => return self.begin_again(self.recreated(), out),
            }
        }
        self.assign()
    }
}

/// Why a topic's partitions are not known.
enum Missing {
    /// There is no such topic.
    Topic,
    /// The cluster does not say.
    Cluster(KafkaError),
}

/// A question to the cluster that may take long, asked beside the source's thread, so that
/// the stop flag is heard. A thread that still waits when the source is stopped ends by itself
/// within [`LOOK_TIMEOUT`].
struct Look {
    result: Receiver<Result<Vec<i32>, Missing>>,
}

impl Look {
    /// Which partitions has the topic?
    fn at(consumer: &Arc<BaseConsumer<Complaints>>, topic: &str) -> Result<Self, Halt> {
        let (consumer, topic) = (consumer.clone(), topic.to_owned());
        let result = beside(move || {
            let metadata = consumer.fetch_metadata(Some(&topic), LOOK_TIMEOUT);
            let metadata = metadata.map_err(Missing::Cluster)?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            let found = found.ok_or(Missing::Topic)?;
            match found.error().map(RDKafkaErrorCode::from) {
                None => {}
                Some(
                    RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic,
                ) => {
                    return Err(Missing::Topic);
                }
                Some(code) => return Err(Missing::Cluster(KafkaError::MetadataFetch(code))),
            }
            let mut numbers: Vec<i32> = found.partitions().iter().map(|p| p.id()).collect();
            numbers.sort_unstable();
            match numbers.is_empty() {
                true => Err(Missing::Topic),
                false => Ok(numbers),
            }
        })?;
        Ok(Self { result })
    }

    /// The answer, if it is there.
    fn result(&self) -> Option<Result<Vec<i32>, Missing>> {
        match self.result.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Missing::Cluster(KafkaError::Canceled))),
        }
    }
}

/// Runs `ask` on a thread of its own.
fn beside<T: Send + 'static>(
    ask: impl FnOnce() -> T + Send + 'static,
) -> Result<Receiver<T>, Halt> {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    let spawned = thread::Builder::new()
        .name("perennial-kafka-look".to_owned())
        .spawn(move || {
            // Nobody listens any more if the source was stopped.
            let _ = sender.send(ask());
        });
    spawned.map_err(|source| Error::Thread {
        name: "kafka".to_owned(),
        source,
    })?;
    Ok(receiver)
}
