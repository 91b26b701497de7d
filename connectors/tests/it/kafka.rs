//! Topics of a Kafka cluster: partitions, tombstones, poison, and topics that come back as
//! others.

use std::collections::BTreeMap;
use std::time::Duration;

use perennial_connectors::{
    Error, Format, Kafka, Notice, Offset, Rejection, Resume, Resumption, Source as _,
};
use proptest::prelude::*;

use crate::cluster::{Cluster, Message};
use crate::listening::{DEADLINE, Listener, Mark};

fn docs(cluster: &Cluster) -> Kafka {
    Kafka::open("docs", cluster.servers(), "docs").unwrap()
}

/// A listener that has read all that stands.
fn caught_up(source: Kafka) -> Listener {
    let mut listener = Listener::start(source);
    listener.until(&Mark::CaughtUp);
    listener
}

/// Goes on where `listener` ended.
fn resumed(mut source: Kafka, listener: &Listener) -> Kafka {
    let offset = listener.batches.last().and_then(|b| b.resume.clone());
    let from = Resume {
        held: Vec::new(),
        offset,
    };
    assert_eq!(source.resume_from(from), Resumption::FromOffset);
    source
}

fn held<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    let pairs = pairs.into_iter();
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[test]
fn partitions_fold_to_what_their_last_messages_say() {
    let cluster = Cluster::with_docs(3);
    cluster.upsert(0, "a", "one");
    cluster.upsert(1, "b", "two");
    cluster.upsert(2, "c", "three");
    cluster.upsert(0, "a", "four");
    cluster.delete(1, "b");
    let mut listener = caught_up(docs(&cluster));
    assert_eq!(listener.held, held([("a", "four"), ("c", "three")]));
    cluster.upsert(1, "b", "back");
    listener.until_held(|held| held.get("b").is_some_and(|text| text == "back"));
    cluster.delete(2, "c");
    listener.until_held(|held| !held.contains_key("c"));
    assert!(listener.rejected.is_empty());
}

#[test]
fn poison_goes_to_quarantine_with_its_place_and_stops_nothing() {
    let cluster = Cluster::with_docs(1);
    let poison: [&[u8]; 3] = [b"\xff", b"{\"te", b""];
    for payload in poison {
        cluster.write(Message {
            key: Some("p"),
            payload: Some(payload),
            ..Message::default()
        });
    }
    cluster.write(Message {
        payload: Some(b"{\"text\":\"no key\"}"),
        ..Message::default()
    });
    cluster.upsert(0, "large", &"x".repeat(3000));
    cluster.upsert(0, "a", "sound");
    let listener = caught_up(docs(&cluster).message_limit(2000));
    assert_eq!(listener.held, held([("a", "sound")]));
    let found = listener.rejected.iter();
    let found: Vec<_> = found.map(|r| (r.offset.to_string(), &r.reason)).collect();
    let at = |offset: usize| format!("docs/0:{offset}");
    assert_eq!(found[0], (at(0), &Rejection::NotUtf8 { at: 0 }));
    assert_eq!(found[1], (at(1), &Rejection::Truncated { len: 4 }));
    assert_eq!(found[2], (at(2), &Rejection::EmptyMessage));
    assert_eq!(found[3], (at(3), &Rejection::MissingField { field: "key" }));
    assert!(matches!(found[4].1, Rejection::MessageTooLarge { .. }));
    assert_eq!(found.len(), 5);
    let keys: Vec<_> = listener.rejected.iter().map(|r| r.key.as_ref()).collect();
    assert_eq!(keys[0].map(|k| k.as_str()), Some("p"));
}

#[test]
fn text_is_read_with_its_headers_and_the_time_of_its_message() {
    let cluster = Cluster::with_docs(1);
    cluster.write(Message {
        key: Some("a"),
        payload: Some(b"The text."),
        headers: &[("title", "T"), ("supersedes", "b")],
        ..Message::default()
    });
    let listener = caught_up(docs(&cluster).format(Format::Text));
    let perennial_connectors::Change::Upsert(record) = &listener.batches[0].changes[0] else {
        panic!("an upsert");
    };
    assert_eq!(
        (record.row.title.as_deref(), &*record.row.text),
        (Some("T"), "The text.")
    );
    assert_eq!(record.row.supersedes.len(), 1);
    // A producer gives its message the time of writing, which is no claim about the document.
    assert!(record.row.updated_at_ms > 1_700_000_000_000 && !record.row.is_timed);
}

#[test]
fn a_run_that_resumes_reads_what_is_new_and_nothing_else() {
    let cluster = Cluster::with_docs(2);
    cluster.upsert(0, "a", "one");
    cluster.upsert(1, "b", "two");
    let first = caught_up(docs(&cluster));
    let source = resumed(docs(&cluster), &first);
    drop(first.running);
    cluster.delete(0, "a");
    cluster.upsert(1, "c", "three");
    let mut second = caught_up(source);
    let n_changes: usize = second.batches.iter().map(|b| b.changes.len()).sum();
    assert_eq!(n_changes, 2, "{:?}", second.batches);
    assert!(second.notices.is_empty(), "{:?}", second.notices);
    // With nothing new, nothing comes.
    let mut third = caught_up(resumed(docs(&cluster), &second));
    assert!(third.batches.is_empty());
    cluster.upsert(0, "d", "four");
    third.until_held(|held| held.contains_key("d"));
    second.until_held(|held| held.contains_key("d"));
}

#[test]
fn another_topic_of_the_same_name_is_read_from_its_beginning() {
    let old = Cluster::with_docs(1);
    for text in ["one", "two", "three"] {
        old.upsert(0, text, text);
    }
    let read = caught_up(docs(&old));
    // Longer than the old one, with another message where the last one was; shorter; as long;
    // empty.
    for n_messages in [5, 2, 3, 0] {
        let new = Cluster::with_docs(1);
        for i in 0..n_messages {
            new.upsert(0, &format!("n{i}"), "new");
        }
        let mut listener = Listener::start(resumed(docs(&new), &read));
        while !matches!(listener.notices.last(), Some(Notice::Recreated { .. })) {
            listener.next();
        }
        assert!(listener.batches.is_empty(), "{n_messages} messages");
        listener.until(&Mark::SaidAgain);
        listener.until(&Mark::CaughtUp);
        assert_eq!(listener.held.len(), n_messages);
        assert!(!listener.held.contains_key("one"));
    }
    // A topic of another name, or other lines, begin anew.
    let mut other = Kafka::open("docs", old.servers(), "other").unwrap();
    let from = Resume {
        held: Vec::new(),
        offset: read.batches.last().and_then(|batch| batch.resume.clone()),
    };
    assert_eq!(other.resume_from(from), Resumption::Anew);
}

#[test]
fn partitions_that_were_added_meanwhile_are_read_from_their_beginning() {
    // A cluster whose topic has more partitions, and the same messages in the first.
    let [before, after] = [1, 3].map(|n_partitions| {
        let cluster = Cluster::with_docs(n_partitions);
        for (key, at_ms) in [("a", 1_000), ("b", 2_000)] {
            cluster.write(Message {
                key: Some(key),
                payload: Some(b"{\"text\":\"old\"}"),
                at_ms: Some(at_ms),
                ..Message::default()
            });
        }
        cluster
    });
    let read = caught_up(docs(&before));
    assert_eq!(read.held.len(), 2);
    after.upsert(1, "c", "new");
    after.upsert(2, "d", "new");
    after.upsert(0, "e", "new");
    let mut resumed = caught_up(resumed(docs(&after), &read));
    assert!(resumed.notices.is_empty(), "{:?}", resumed.notices);
    assert_eq!(resumed.keys(), ["c", "d", "e"]);
    match resumed
        .batches
        .last()
        .and_then(|batch| batch.resume.clone())
    {
        Some(Offset::Partitions { next, .. }) => {
            let next: Vec<_> = next
                .iter()
                .map(|(number, next)| (*number, next.offset))
                .collect();
            assert_eq!(next, [(0, 3), (1, 1), (2, 1)]);
        }
        other => panic!("{other:?}"),
    }
    after.upsert(2, "f", "new");
    resumed.until_held(|held| held.contains_key("f"));
}

#[test]
fn looking_whether_it_is_the_same_topic_repeats_and_loses_nothing() {
    let cluster = Cluster::with_docs(2);
    cluster.upsert(0, "a", "one");
    let mut listener = caught_up(docs(&cluster).look_every(Duration::from_millis(30)));
    for i in 0..15 {
        cluster.upsert(i % 2, &format!("k{i}"), "text");
        std::thread::sleep(Duration::from_millis(40));
    }
    listener.until_held(|held| held.len() == 16);
    listener.silence(Duration::from_millis(500));
    let n_changes: usize = listener.batches.iter().map(|b| b.changes.len()).sum();
    assert_eq!((n_changes, listener.notices.len()), (16, 0));
}

#[test]
fn a_cluster_that_is_away_is_waited_for_and_said_to_be() {
    let cluster = Cluster::with_docs(1);
    cluster.upsert(0, "a", "one");
    let mut listener = caught_up(docs(&cluster));
    cluster.mock.broker_down(1).unwrap();
    listener.until(&Mark::Notice);
    let notice = listener.notices[0].to_string();
    assert!(notice.starts_with("waiting for topic \"docs\""), "{notice}");
    cluster.mock.broker_up(1).unwrap();
    cluster.upsert(0, "b", "two");
    listener.until_held(|held| held.contains_key("b"));
    assert_eq!(listener.held.len(), 2);
}

#[test]
fn a_topic_that_is_not_there_yet_is_waited_for() {
    let cluster = Cluster::new();
    let topic_error = rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    cluster.mock.topic_error("docs", topic_error).unwrap();
    let mut listener = Listener::start(docs(&cluster));
    assert_eq!(listener.next(), Mark::Notice);
    assert!(listener.notices[0].to_string().contains("no such topic"));
    let sound = rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    cluster.mock.topic_error("docs", sound).unwrap();
    listener.until(&Mark::CaughtUp);
}

#[test]
fn a_slow_receiver_gets_all_of_a_long_topic() {
    const N: usize = 20_000;
    let cluster = Cluster::with_docs(4);
    let producer = crate::cluster::producer(&cluster.servers());
    for i in 0..N {
        let (key, payload) = (i.to_string(), format!("{{\"text\":\"text {i}\"}}"));
        let record = rdkafka::producer::BaseRecord::to("docs")
            .key(&key)
            .payload(&payload);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        if i % 1000 == 0 {
            rdkafka::producer::Producer::flush(&producer, DEADLINE).unwrap();
        }
    }
    rdkafka::producer::Producer::flush(&producer, DEADLINE).unwrap();
    let mut listener = Listener::start(docs(&cluster).once(true));
    std::thread::sleep(Duration::from_millis(500));
    listener.until(&Mark::Ended);
    assert_eq!(listener.held.len(), N);
    match listener
        .batches
        .last()
        .and_then(|batch| batch.resume.clone())
    {
        Some(Offset::Partitions { next, .. }) => {
            let read: i64 = next.values().map(|next| next.offset).sum();
            assert_eq!(read, i64::try_from(N).unwrap());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn settings_that_cannot_be_are_errors_at_once() {
    let open = || Kafka::open("docs", "127.0.0.1:9", "docs").unwrap();
    for (name, value) in [("no.such", "1"), ("enable.auto.commit", "true")] {
        let error = open().settings([(name, value)]).unwrap_err();
        assert!(matches!(error, Error::KafkaSetting { .. }), "{error}");
    }
    assert!(open().settings([("client.id", "me")]).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    // Stopped and resumed anywhere, a source says each message once: the fold is that of one
    // run, and the number of changes that of the messages.
    #[test]
    fn any_interruptions_read_each_message_once(
        messages in prop::collection::vec((0i32..3, 0u8..5, prop::option::of(0u8..9)), 1..30),
        cuts in prop::collection::vec(0usize..30, 0..4),
    ) {
        let cluster = Cluster::with_docs(3);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(messages.len())).collect();
        cuts.sort_unstable();
        cuts.push(messages.len());
        let mut written = 0;
        let mut changes = Vec::new();
        let mut offset = None;
        for cut in cuts {
            // A key stays in its partition, as Kafka's producers see to.
            let some = messages[written..cut].iter().map(|(partition, key, text)| {
                (*partition, format!("{partition}.{key}"), text.map(|text| text.to_string()))
            });
            cluster.write_all(&some.collect::<Vec<_>>());
            written = cut;
            let mut source = docs(&cluster);
            source.resume_from(Resume { held: Vec::new(), offset: offset.clone() });
            let listener = caught_up(source);
            prop_assert!(listener.notices.is_empty(), "{:?}", listener.notices);
            for batch in &listener.batches {
                changes.extend(batch.changes.iter().cloned());
                offset = batch.resume.clone();
            }
        }
        prop_assert_eq!(changes.len(), messages.len());
        let mut folded = BTreeMap::new();
        for change in changes {
            match change {
                perennial_connectors::Change::Upsert(r) => folded.insert(r.key.to_string(), r.row.text.to_string()),
                perennial_connectors::Change::Delete { key, .. } => folded.remove(key.as_str()),
            };
        }
        let whole = caught_up(docs(&cluster));
        prop_assert_eq!(folded, whole.held);
    }
}

#[test]
fn what_is_read_once_does_not_wait_for_ever() {
    // Nobody listens at a port that was given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = port.local_addr().unwrap().to_string();
    drop(port);
    let away = Kafka::open("docs", &*servers, "docs").unwrap();
    let cluster = Cluster::new();
    let no_topic = Kafka::open("docs", cluster.servers(), "none").unwrap();
    for (source, servers, topic) in [
        (away, &*servers, "docs"),
        (no_topic, &*cluster.servers(), "none"),
    ] {
        let source = source.once(true).give_up_after(Duration::from_millis(300));
        let mut listener = Listener::start(source);
        let failed = loop {
            if let Mark::Failed(failed) = listener.next() {
                break failed;
            }
        };
        let what = format!("topic {topic:?} of {servers} could not be read within 0.3 s: ");
        assert!(failed.starts_with(&what), "{failed}");
        assert!(failed.contains("start the broker"), "{failed}");
    }
}
