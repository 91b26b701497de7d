//! A Kafka cluster inside the test: librdkafka's own mock, spoken to over real sockets.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};

/// One broker and a client that writes to it.
pub struct Cluster {
    pub mock: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

/// A message as tests write it.
#[derive(Clone, Copy, Default)]
pub struct Message<'a> {
    pub partition: i32,
    pub key: Option<&'a str>,
    pub payload: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a str)],
    /// In milliseconds since 1970; now, if none is given.
    pub at_ms: Option<i64>,
}

impl Cluster {
    pub fn new() -> Self {
        let mock = MockCluster::new(1).expect("the broker of the test");
        let producer = producer(&mock.bootstrap_servers());
        Self { mock, producer }
    }

    /// A cluster with the topic `docs`.
    pub fn with_docs(n_partitions: i32) -> Self {
        let cluster = Self::new();
        cluster
            .mock
            .create_topic("docs", n_partitions, 1)
            .expect("the broker of the test");
        cluster
    }

    pub fn servers(&self) -> String {
        self.mock.bootstrap_servers()
    }

    pub fn write(&self, message: Message<'_>) {
        write(&self.producer, message);
    }

    /// Writes many at once: keys, and texts or deletions.
    pub fn write_all(&self, messages: &[(i32, String, Option<String>)]) {
        for (partition, key, text) in messages {
            let payload = text.as_ref().map(|text| json(text));
            let message = Message {
                partition: *partition,
                key: Some(key),
                payload: payload.as_deref().map(str::as_bytes),
                ..Message::default()
            };
            send(&self.producer, message);
        }
        self.producer
            .flush(Duration::from_secs(30))
            .expect("the broker of the test");
    }

    /// A document as JSON, without a key of its own.
    pub fn upsert(&self, partition: i32, key: &str, text: &str) {
        let payload = json(text);
        self.write(Message {
            partition,
            key: Some(key),
            payload: Some(payload.as_bytes()),
            ..Message::default()
        });
    }

    pub fn delete(&self, partition: i32, key: &str) {
        self.write(Message {
            partition,
            key: Some(key),
            ..Message::default()
        });
    }
}

pub fn producer(servers: &str) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    config.create().expect("the broker of the test")
}

fn json(text: &str) -> String {
    serde_json::json!({ "text": text }).to_string()
}

/// Writes a message to the topic `docs`, and waits until it is there.
pub fn write(producer: &BaseProducer, message: Message<'_>) {
    send(producer, message);
    producer
        .flush(Duration::from_secs(30))
        .expect("the broker of the test");
}

fn send(producer: &BaseProducer, message: Message<'_>) {
    let mut headers = OwnedHeaders::new();
    for (key, value) in message.headers {
        let value = Some(*value);
        headers = headers.insert(Header { key, value });
    }
    let mut record = BaseRecord::<str, [u8]>::to("docs")
        .partition(message.partition)
        .headers(headers);
    if let Some(key) = message.key {
        record = record.key(key);
    }
    if let Some(at_ms) = message.at_ms {
        record = record.timestamp(at_ms);
    }
    if let Some(payload) = message.payload {
        record = record.payload(payload);
    }
    producer
        .send(record)
        .map_err(|(error, _)| error)
        .expect("the broker of the test");
}
