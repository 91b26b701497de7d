//! What views say as messages of a topic of a Kafka-compatible cluster.
//!
//! The message's key is the row's, its payload the row as JSON; what is gone is a tombstone, so a
//! compacted topic holds what stands. Headers say which delivery a row is of:
//!
//! | header | value |
//! | --- | --- |
//! | `view` | the view |
//! | `origin` | which history of epochs, 16 hexadecimal digits |
//! | `epoch` | the epoch, decimal |
//! | `row`, `rows` | which row of its epoch, from 1, of how many |
//! | `rung` | of an answer, how it was reached |
//! | `exact` | of an answer, `true`, or `false` for a provisional one |
//!
//! Rows are written by an idempotent producer and acknowledged by all replicas before the epoch
//! counts as delivered. After a crash the last epoch may be written once more, with the same
//! headers: a reader that skips rows of an `origin` and key whose `epoch` it has, applies each
//! once. With a transactional id each epoch is one transaction.
//!
//! Where an engine goes back in time, the topic is read once, from its beginning to its end: keys that stand
//! in it and no more in what the engine says get tombstones.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{
    BorrowedMessage, DeliveryResult, Header, Headers as _, Message as _, OwnedHeaders,
};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use super::{Delivery, Output, Refusal, Replaced, Sink, Told};
use crate::kafka::client::{self, Complaints};
use crate::{Error, StopFlag};

/// How long the cluster may take for one step.
const STEP: Duration = Duration::from_millis(100);
/// How long it may take to begin or end a transaction, in steps.
const TRANSACTION_STEPS: u32 = 300;

/// What the producer starts with; the user's settings take their place.
const DEFAULTS: [(&str, &str); 2] = [
    // A row that waits longer, in ms, is said to fail, and its delivery is tried again.
    ("message.timeout.ms", "15000"),
    // So few may wait, in KiB, that a long delivery is not one long wait.
    ("queue.buffering.max.kbytes", "8192"),
];
const SETTINGS: [(&str, &str); 1] = [("enable.idempotence", "true")];

/// What the consumer starts with that looks at what is there; the user's settings take their place.
const LOOK_DEFAULTS: [(&str, &str); 2] = [
    // A consumer needs one, though it never joins a group or commits an offset.
    ("group.id", "perennial"),
    // Memory for messages that wait, in KiB.
    ("queued.max.messages.kbytes", "16384"),
];
const LOOK_SETTINGS: [(&str, &str); 4] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("auto.offset.reset", "earliest"),
];
/// How long the cluster may take to say which partitions there are.
const LOOK_TIME: Duration = Duration::from_secs(5);
/// For how long it may say nothing of a topic that is read.
const SILENCE: Duration = Duration::from_secs(30);

/// A topic as a sink.
pub struct KafkaSink {
    name: String,
    topic: String,
    servers: String,
    settings: Vec<(String, String)>,
    transactional_id: Option<String>,
    config: ClientConfig,
    /// Made at the first delivery, and anew after a fatal error.
    producer: Option<Connected>,
}

struct Connected {
    producer: BaseProducer<Reports>,
    reports: Reports,
}

impl fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSink")
            .field("topic", &self.topic)
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

impl KafkaSink {
    /// Writes to a topic of the cluster that these servers (`host:port`, with commas between)
    /// know. Its name as a sink is `kafka://servers/topic`.
    ///
    /// # Errors
    /// [`Error::KafkaSetting`] for servers that cannot be.
    pub fn open(servers: impl Into<String>, topic: impl Into<String>) -> Result<Self, Error> {
        let (servers, topic) = (servers.into(), topic.into());
        Ok(Self {
            name: format!("kafka://{servers}/{topic}"),
            config: client::configure(&servers, &DEFAULTS, &[], &SETTINGS)?,
            topic,
            servers,
            settings: Vec::new(),
            transactional_id: None,
            producer: None,
        })
    }

    /// Settings of librdkafka, by its names.
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
        self.configured()
    }

    /// Makes each epoch one transaction under this id, which no other producer may use.
    ///
    /// # Errors
    /// [`Error::KafkaSetting`] for an id that cannot be.
    pub fn transactional(mut self, id: impl Into<String>) -> Result<Self, Error> {
        self.transactional_id = Some(id.into());
        self.configured()
    }

    fn configured(mut self) -> Result<Self, Error> {
        let mut ours = SETTINGS.to_vec();
        if let Some(id) = &self.transactional_id {
            ours.push(("transactional.id", id));
        }
        self.config = client::configure(&self.servers, &DEFAULTS, &self.settings, &ours)?;
        Ok(self)
    }

    fn connect(&self, stop: &StopFlag) -> Result<Connected, KafkaError> {
        let reports = Reports::default();
        let producer: BaseProducer<Reports> = self.config.create_with_context(reports.clone())?;
        if self.transactional_id.is_some() {
            patiently(stop, || producer.init_transactions(STEP))?;
        }
        Ok(Connected { producer, reports })
    }

    fn write(
        &self,
        connected: &Connected,
        delivery: &Delivery,
        stop: &StopFlag,
    ) -> Result<(), KafkaError> {
        let Connected { producer, reports } = connected;
        reports.begin();
        if self.transactional_id.is_some() {
            producer.begin_transaction()?;
        }
        let n_rows = delivery.rows.len();
        for (i, row) in delivery.rows.iter().enumerate() {
            let payload = row
                .output
                .is_some()
                .then(|| delivery.row_json(row).to_string());
            let mut record = BaseRecord::to(&self.topic)
                .key(&row.key)
                .headers(headers(delivery, i));
            if let Some(payload) = &payload {
                record = record.payload(payload);
            }
            loop {
                match producer.send(record) {
                    Ok(()) => break,
                    // Its queue is full: what waits must be written first.
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                        record = again;
                        producer.poll(STEP);
                        if stop.raised() {
                            return Err(KafkaError::Canceled);
                        }
                    }
                    Err((error, _)) => return Err(error),
                }
            }
        }
        while reports.n_done() < n_rows {
            producer.poll(STEP);
            if stop.raised() {
                return Err(KafkaError::Canceled);
            }
        }
        if let Some(error) = reports.failure() {
            return Err(error);
        }
        if self.transactional_id.is_some() {
            patiently(stop, || producer.commit_transaction(STEP))?;
        }
        Ok(())
    }
}

impl Sink for KafkaSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn deliver(&mut self, delivery: &Delivery, stop: &StopFlag) -> Result<(), Error> {
        let connected = match self.producer.take() {
            Some(connected) => connected,
            None => self
                .connect(stop)
                .map_err(|error| self.failed(&error, None))?,
        };
        match self.write(&connected, delivery, stop) {
            Ok(()) => {
                self.producer = Some(connected);
                Ok(())
            }
            Err(error) => {
                let said = connected.reports.said();
                // What waits must not be written behind the next attempt.
                connected
                    .producer
                    .purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
                let deadline = Instant::now() + STEP;
                while connected.producer.in_flight_count() > 0 && Instant::now() < deadline {
                    connected.producer.poll(STEP / 10);
                }
                Err(self.failed(&error, said))
            }
        }
    }

    fn replace(
        &mut self,
        delivery: &Delivery,
        former: &[u64],
        stop: &StopFlag,
    ) -> Result<Replaced, Error> {
        let mut told = Told::of(delivery, former);
        self.look(&mut told, stop)?;
        let (whole, n_gone) = delivery.taking_back(&told.keys);
        self.deliver(&whole, stop)?;
        Ok(Replaced::TakenBack(n_gone))
    }
}

/// Takes in what a message says stands under its key.
fn hear(told: &mut Told<'_>, message: &BorrowedMessage<'_>) {
    let Some(Ok(key)) = message.key().map(std::str::from_utf8) else {
        return;
    };
    let header = |name: &str| {
        let headers = message.headers()?;
        let header = headers.iter().find(|header| header.key == name)?;
        std::str::from_utf8(header.value?).ok()
    };
    let is_gone = message.payload().is_none();
    told.hear(header("view"), header("origin"), key, is_gone);
}

impl KafkaSink {
    /// Reads all that the topic holds.
    fn look(&self, told: &mut Told<'_>, stop: &StopFlag) -> Result<(), Error> {
        let config = client::configure(
            &self.servers,
            &LOOK_DEFAULTS,
            &self.settings,
            &LOOK_SETTINGS,
        )?;
        let consumer = config.create_with_context(Complaints::default());
        let consumer: BaseConsumer<Complaints> = consumer.map_err(client::refused)?;
        let failed = |error: &KafkaError| self.failed(error, consumer.context().take());
        let metadata = consumer.fetch_metadata(Some(&self.topic), LOOK_TIME);
        let metadata = metadata.map_err(|error| failed(&error))?;
        let mut list = TopicPartitionList::new();
        // Of those whose end is not read yet.
        let mut open = BTreeSet::new();
        let topics = metadata.topics().iter();
        for partition in topics.flat_map(|topic| topic.partitions()) {
            open.insert(partition.id());
            let begin = list.add_partition_offset(&self.topic, partition.id(), Offset::Beginning);
            begin.map_err(|error| failed(&error))?;
        }
        consumer.assign(&list).map_err(|error| failed(&error))?;
        let mut heard = Instant::now();
        while !open.is_empty() {
            if stop.raised() {
                return Err(failed(&KafkaError::Canceled));
            }
            match consumer.poll(STEP) {
                Some(Ok(message)) => hear(told, &message),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) => return Err(failed(&error)),
                None if heard.elapsed() > SILENCE => {
                    let error = RDKafkaErrorCode::OperationTimedOut;
                    return Err(failed(&KafkaError::MessageConsumption(error)));
                }
                None => continue,
            }
            heard = Instant::now();
        }
        Ok(())
    }

    fn failed(&self, error: &KafkaError, said: Option<String>) -> Error {
        let said = said.map(|said| format!(" ({said})")).unwrap_or_default();
        let reason = format!("topic {:?} of {}: {error}{said}", self.topic, self.servers);
        match Refusal::by_kafka(error) {
            None => Error::Kafka { reason },
            Some(refusal) => Error::Refused {
                reason,
                refusal,
                rows: None,
            },
        }
    }
}

/// Goes on with a step that may be called again when it took too long.
fn patiently(
    stop: &StopFlag,
    mut step: impl FnMut() -> Result<(), KafkaError>,
) -> Result<(), KafkaError> {
    for _ in 1..TRANSACTION_STEPS {
        match step() {
            Err(KafkaError::Transaction(error))
                if error.code() == RDKafkaErrorCode::OperationTimedOut && !stop.raised() => {}
            done => return done,
        }
    }
    step()
}

fn headers(delivery: &Delivery, i: usize) -> OwnedHeaders {
    let header = |headers: OwnedHeaders, key, value: &str| {
        let value = Some(value);
        headers.insert(Header { key, value })
    };
    let row = &delivery.rows[i];
    let mut headers = OwnedHeaders::new_with_capacity(7);
    headers = header(headers, "view", &delivery.view);
    headers = header(headers, "origin", &delivery.origin_text());
    headers = header(headers, "epoch", &delivery.epoch.to_string());
    headers = header(headers, "row", &(i + 1).to_string());
    headers = header(headers, "rows", &delivery.rows.len().to_string());
    if let Some(Output::Answer(answer)) = &row.output {
        headers = header(headers, "rung", &answer.rung);
        headers = header(headers, "exact", &answer.is_exact.to_string());
    }
    headers
}

/// Counts what the cluster has acknowledged.
#[derive(Clone, Default)]
struct Reports {
    inner: Arc<Mutex<Reported>>,
}

#[derive(Default)]
struct Reported {
    n_done: usize,
    failure: Option<KafkaError>,
    said: Option<String>,
}

impl Reports {
    fn with<T>(&self, f: impl FnOnce(&mut Reported) -> T) -> T {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self) {
        self.with(|reported| *reported = Reported::default());
    }

    fn n_done(&self) -> usize {
        self.with(|reported| reported.n_done)
    }

    fn failure(&self) -> Option<KafkaError> {
        self.with(|reported| reported.failure.take())
    }

    fn said(&self) -> Option<String> {
        self.with(|reported| reported.said.take())
    }
}

impl ClientContext for Reports {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _error: KafkaError, reason: &str) {
        self.with(|reported| reported.said = Some(reason.to_owned()));
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.with(|reported| {
            reported.n_done += 1;
            if let Err((error, _)) = result {
                reported.failure.get_or_insert_with(|| error.clone());
            }
        });
    }
}
