//! Where answers go, as readers find them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial_connectors::{
    Delivery, KafkaSink, Output, OutputAnswer, OutputRow, OutputTuple, Sink as _, StopFlag,
};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};

use crate::cluster::Cluster;
use crate::listening::DEADLINE;

fn delivery(epoch: u64, texts: &[Option<&str>]) -> Delivery {
    let rows = texts.iter().enumerate().map(|(i, text)| OutputRow {
        key: format!("q{i}"),
        output: text
            .map(|text| OutputAnswer {
                question: "Why?".to_owned(),
                text: Ok(text.to_owned()),
                rung: "verify".to_owned(),
                is_exact: i == 0,
                drift: 0.25,
                sources: vec!["a.md".to_owned()],
                passages: None,
            })
            .map(Output::Answer),
    });
    Delivery {
        origin: 0xf1,
        view: "answers".to_owned(),
        epoch,
        rows: rows.collect(),
    }
}

/// Key, payload and headers of a message.
type Row = (String, Option<String>, Vec<(String, String)>);

/// The first messages of the topic `answers`.
fn read(cluster: &Cluster, n: usize) -> Vec<Row> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster.servers())
        .set("group.id", "reader")
        .set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset("answers", 0, rdkafka::Offset::Beginning)
        .unwrap();
    consumer.assign(&list).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut messages = Vec::new();
    let deadline = Instant::now() + DEADLINE;
    while messages.len() < n {
        assert!(Instant::now() < deadline, "{messages:?}");
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let headers = message.headers().unwrap().iter();
        let headers = headers.map(|h| (h.key.to_owned(), text(h.value.unwrap())));
        messages.push((
            text(message.key().unwrap()),
            message.payload().map(text),
            headers.collect(),
        ));
    }
    messages
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.as_str())
}

#[test]
fn a_topic_gets_rows_tombstones_and_headers_and_the_same_again() {
    let cluster = Cluster::new();
    cluster.mock.create_topic("answers", 1, 1).unwrap();
    let open = || KafkaSink::open(cluster.servers(), "answers").unwrap();
    let mut sink = open();
    let (first, second) = (
        delivery(3, &[Some("One."), Some("Two.")]),
        delivery(4, &[None]),
    );
    for delivery in [&first, &second] {
        sink.deliver(delivery, &StopFlag::new()).unwrap();
    }
    // As after a crash before the second was struck off.
    open().deliver(&second, &StopFlag::new()).unwrap();
    let messages = read(&cluster, 4);
    let (key, payload, headers) = &messages[0];
    assert_eq!(key, "q0");
    let payload: serde_json::Value = serde_json::from_str(payload.as_ref().unwrap()).unwrap();
    assert_eq!(payload["text"], "One.");
    assert_eq!(payload["sources"][0], "a.md");
    for (name, value) in [
        ("view", "answers"),
        ("origin", "00000000000000f1"),
        ("epoch", "3"),
        ("row", "1"),
        ("rows", "2"),
        ("rung", "verify"),
        ("exact", "true"),
    ] {
        assert_eq!(header(headers, name), Some(value), "{name}");
    }
    assert_eq!(header(&messages[1].2, "exact"), Some("false"));
    assert_eq!(
        (messages[2].1.as_ref(), header(&messages[2].2, "epoch")),
        (None, Some("4"))
    );
    assert_eq!(messages[2], messages[3]);
}

#[test]
fn a_transaction_is_written_whole() {
    let cluster = Cluster::new();
    cluster.mock.create_topic("answers", 1, 1).unwrap();
    let sink = KafkaSink::open(cluster.servers(), "answers").unwrap();
    let mut sink = sink.transactional("perennial-answers").unwrap();
    for epoch in 0..3 {
        let delivery = delivery(epoch, &[Some("One."), Some("Two.")]);
        sink.deliver(&delivery, &StopFlag::new()).unwrap();
    }
    assert_eq!(read(&cluster, 6).len(), 6);
}

#[test]
fn a_cluster_that_is_away_is_an_error_or_a_wait_that_ends_when_told() {
    let cluster = Cluster::new();
    cluster.mock.create_topic("answers", 1, 1).unwrap();
    cluster.mock.broker_down(1).unwrap();
    let mut sink = KafkaSink::open(cluster.servers(), "answers").unwrap();
    let stop = StopFlag::new();
    let raiser = std::thread::spawn({
        let stop = stop.clone();
        move || {
            std::thread::sleep(Duration::from_millis(300));
            stop.raise();
        }
    });
    let error = sink
        .deliver(&delivery(1, &[Some("One.")]), &stop)
        .unwrap_err();
    assert!(error.to_string().contains("answers"), "{error}");
    raiser.join().unwrap();
    cluster.mock.broker_up(1).unwrap();
    let again = delivery(1, &[Some("One.")]);
    sink.deliver(&again, &StopFlag::new()).unwrap();
    assert_eq!(read(&cluster, 1)[0].0, "q0");
}

#[test]
fn rows_of_a_query_have_their_key_and_no_headers_of_answers() {
    let cluster = Cluster::new();
    cluster.mock.create_topic("answers", 1, 1).unwrap();
    let tuple = OutputTuple {
        columns: ["country", "people"].map(Arc::from).into(),
        values: ["no".into(), 1000i64.into()].into(),
        count: 2,
    };
    let row = |key: &str, output| OutputRow {
        key: key.to_owned(),
        output,
    };
    let delivery = Delivery {
        origin: 0xf1,
        view: "totals".to_owned(),
        epoch: 3,
        rows: vec![
            row("[\"no\",1000]", Some(Output::Tuple(tuple))),
            row("fi", None),
        ],
    };
    let mut sink = KafkaSink::open(cluster.servers(), "answers").unwrap();
    sink.deliver(&delivery, &StopFlag::new()).unwrap();
    let messages = read(&cluster, 2);
    let (key, payload, headers) = &messages[0];
    assert_eq!(key, "[\"no\",1000]");
    let payload: serde_json::Value = serde_json::from_str(payload.as_ref().unwrap()).unwrap();
    let expected = serde_json::json!({
        "view": "totals", "key": "[\"no\",1000]", "epoch": 3, "count": 2,
        "row": {"country": "no", "people": 1000},
    });
    assert_eq!(payload, expected);
    assert_eq!(header(headers, "rows"), Some("2"));
    assert_eq!(header(headers, "rung"), None);
    assert_eq!(header(headers, "exact"), None);
    let (key, payload, headers) = &messages[1];
    assert_eq!((&**key, payload), ("fi", &None));
    assert_eq!(header(headers, "epoch"), Some("3"));
}
