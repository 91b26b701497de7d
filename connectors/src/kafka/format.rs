//! Which change does a message ask for?
//!
//! A message has a key, headers, a time and a payload, or no payload: then it is a *tombstone*,
//! the deletion of its key (an empty payload is none). What the payload is, [`Format`] says.
//!
//! A record's columns are what its payload says besides, and what the message says of itself:
//! `topic`, `partition`, `offset`, `timestamp` (if it has one) and `headers` (if it has any: a JSON
//! object of texts by name, of a list where a name stands more than once; bytes that are not UTF-8
//! are `{"base64": "…"}`). The payload has the last word.
//!
//! What a serializer of a schema registry puts before JSON is left out (`frame`).

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use perennial_rows::Value;
use rdkafka::message::{Headers as _, Message};

use super::{debezium, frame};
use crate::attributes::Attribute;
use crate::json::record::{self, Carrier, Fields, Operation, Refusal, SUPERSEDES_LIMIT};
use crate::json::value::Json;
use crate::message_format::Format;
use crate::{Change, Offset, Rejection};

/// The words in which the messages of a topic say something of themselves: all share them.
#[derive(Debug)]
pub(super) struct Words {
    topic: Arc<str>,
    partition: Arc<str>,
    offset: Arc<str>,
    timestamp: Arc<str>,
    headers: Arc<str>,
    /// What the topic is called.
    of_topic: Arc<str>,
}

impl Words {
    pub(super) fn of(topic: &str) -> Self {
        Self {
            topic: "topic".into(),
            partition: "partition".into(),
            offset: "offset".into(),
            timestamp: "timestamp".into(),
            headers: "headers".into(),
            of_topic: topic.into(),
        }
    }
}

/// Reads a message of at most `limit` bytes.
pub(super) fn read(
    format: &Format,
    message: &impl Message,
    words: &Words,
    offset: &Offset,
    limit: usize,
    is_textless: bool,
) -> Result<Change, Refusal> {
    let key = match (message.key(), format) {
        (None, _) => None,
        (Some(bytes), Format::Debezium(columns)) => {
            let framed = frame::framed_key(bytes);
            debezium::key(framed.map_or(bytes, |(key, _)| key), columns)?
        }
        (Some(bytes), _) => {
            let key = match frame::framed_key(bytes) {
                Some((_, value)) => debezium::key_of(&value),
                None => record::utf8(bytes).and_then(record::named),
            };
            Some(key.map_err(|reason| (None, reason))?)
        }
    };
    let columns = match message.payload() {
        Some(_) => columns(message, words),
        None => Vec::new(),
    };
    let carrier = Carrier {
        columns: &columns,
        is_textless,
        // Without a time, its place: the same at every reading, and before any real time.
        at_ms: message.timestamp().to_millis().unwrap_or(message.offset()),
        offset,
        key: key.as_ref(),
        names: None,
    };
    let refuse = |reason| (key.clone(), reason);
    let len = message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len);
    if len > limit {
        let (len, limit) = (len as u64, limit as u64);
        return Err(refuse(Rejection::MessageTooLarge { len, limit }));
    }
    let Some(payload) = message.payload() else {
        return record::change(Operation::Delete, Fields::new(), carrier);
    };
    let unframed = |payload| frame::unframed(payload).map_err(refuse);
    match format {
        Format::Json => match record::read(unframed(payload)?, carrier)? {
            Some(change) => Ok(change),
            None => Err(refuse(Rejection::EmptyMessage)),
        },
        Format::Text => {
            let payload = frame::unframed_text(payload).map_err(refuse)?;
            let fields = text(message, payload).map_err(refuse)?;
            record::change(Operation::Upsert, fields, carrier)
        }
        Format::Debezium(columns) => debezium::read(unframed(payload)?, columns, carrier),
    }
}

/// What a message says of itself.
fn columns(message: &impl Message, words: &Words) -> Vec<Attribute> {
    let partition = i64::from(message.partition());
    let mut columns: Vec<Attribute> = vec![
        (words.topic.clone(), words.of_topic.clone().into()),
        (words.partition.clone(), partition.into()),
        (words.offset.clone(), message.offset().into()),
    ];
    if let Some(ms) = message.timestamp().to_millis() {
        columns.push((words.timestamp.clone(), Value::Timestamp(ms)));
    }
    let mut headers: BTreeMap<&str, Vec<serde_json::Value>> = BTreeMap::new();
    for header in message.headers().iter().flat_map(|headers| headers.iter()) {
        let value = header.value.map(|bytes| match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => serde_json::json!({"base64": STANDARD.encode(bytes)}),
        });
        let values = headers.entry(header.key).or_default();
        values.push(value.unwrap_or_default());
    }
    if !headers.is_empty() {
        let headers = headers.into_iter().map(|(name, mut values)| {
            let value = match values.len() {
                1 => values.remove(0),
                _ => values.into(),
            };
            (name.to_owned(), value)
        });
        let headers = serde_json::Value::Object(headers.collect());
        columns.push((words.headers.clone(), Value::from_json(&headers)));
    }
    columns
}

/// The fields of a record that is its text.
fn text(message: &impl Message, payload: &[u8]) -> Result<Fields, Rejection> {
    let mut fields = vec![(
        "text".to_owned(),
        Json::String(record::utf8(payload)?.to_owned()),
    )];
    let mut supersedes = Vec::new();
    for header in message.headers().iter().flat_map(|headers| headers.iter()) {
        let value = || record::utf8(header.value.unwrap_or_default()).map(str::to_owned);
        match header.key {
            "title" => fields.push(("title".to_owned(), Json::String(value()?))),
            "supersedes" => supersedes.push(Json::String(value()?)),
            _ => {}
        }
        record::within("supersedes", supersedes.len(), SUPERSEDES_LIMIT)?;
    }
    let titles = fields.iter().filter(|(name, _)| name == "title").count();
    if titles > 1 {
        let name = "title".to_owned();
        return Err(Rejection::DuplicateField { name });
    }
    fields.push(("supersedes".to_owned(), Json::Array(supersedes)));
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rdkafka::Timestamp;
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

    use super::*;
    use crate::{ColumnNames, Key, Record};

    fn message(key: Option<&[u8]>, payload: Option<&[u8]>) -> OwnedMessage {
        OwnedMessage::new(
            payload.map(<[u8]>::to_vec),
            key.map(<[u8]>::to_vec),
            "docs".to_owned(),
            Timestamp::CreateTime(77),
            0,
            5,
            None,
        )
    }

    fn read_one(format: &Format, message: &OwnedMessage) -> Result<Change, Refusal> {
        let (words, offset) = (Words::of(message.topic()), Offset::Sequence(5));
        read(format, message, &words, &offset, 1 << 10, false)
    }

    fn record(format: &Format, message: &OwnedMessage) -> Record {
        match read_one(format, message) {
            Ok(Change::Upsert(record)) => record,
            other => panic!("{other:?}"),
        }
    }

    fn reason(format: &Format, message: &OwnedMessage) -> Rejection {
        read_one(format, message).unwrap_err().1
    }

    #[test]
    fn what_a_schema_registry_puts_before_json_is_left_out() {
        let framed = |of: &str| [&[0, 0, 0, 0, 7][..], of.as_bytes()].concat();
        let key = framed(r#""k""#);
        let payload = framed(r#"{"text":"t"}"#);
        let sound = record(&Format::Json, &message(Some(&key), Some(&payload)));
        assert_eq!((sound.key.as_str(), &*sound.row.text), ("k", "t"));
        let columns = ColumnNames {
            key: "id".to_owned(),
            text: "body".to_owned(),
            ..ColumnNames::default()
        };
        let event = framed(r#"{"op":"c","after":{"id":7,"body":"b"}}"#);
        let of_table = message(Some(&framed(r#"{"id":7}"#)), Some(&event));
        let sound = record(&Format::Debezium(columns), &of_table);
        assert_eq!((sound.key.as_str(), &*sound.row.text), ("7", "b"));
        // What is not JSON is refused under its key, so what is held stands.
        let avro = framed("\u{e}Nine to");
        let refusal = Rejection::SchemaRegistry { schema: 7 };
        for format in [Format::Json, Format::Text] {
            let refused = read_one(&format, &message(Some(b"k"), Some(&avro))).unwrap_err();
            assert_eq!(refused, (Some(Key::new("k")), refusal.clone()));
        }
    }

    #[test]
    fn json_has_its_key_in_the_message_or_in_itself_or_in_both() {
        let of = |key: Option<&str>, payload: &str| {
            message(key.map(str::as_bytes), Some(payload.as_bytes()))
        };
        for sound in [
            of(Some("k"), r#"{"text":"t"}"#),
            of(None, r#"{"key":"k","text":"t"}"#),
            of(Some("k"), r#"{"upsert":{"key":"k","text":"t"}}"#),
        ] {
            let record = record(&Format::Json, &sound);
            assert_eq!((record.key.as_str(), &*record.row.text), ("k", "t"));
            assert_eq!((record.row.updated_at_ms, record.row.is_timed), (77, false));
        }
        let differ = reason(&Format::Json, &of(Some("a"), r#"{"key":"b","text":"t"}"#));
        assert!(matches!(differ, Rejection::KeysDiffer { .. }));
        let none = reason(&Format::Json, &of(None, r#"{"text":"t"}"#));
        assert_eq!(none, Rejection::MissingField { field: "key" });
    }

    #[test]
    fn no_payload_is_a_deletion_and_an_empty_one_is_not() {
        for format in [
            Format::Json,
            Format::Text,
            Format::Debezium(ColumnNames::default()),
        ] {
            let tombstone = read_one(&format, &message(Some(b"k"), None));
            let is_deletion =
                matches!(&tombstone, Ok(Change::Delete { key, .. }) if key.as_str() == "k");
            assert!(is_deletion, "{format:?}: {tombstone:?}");
        }
        let empty = message(Some(b"k"), Some(b""));
        assert_eq!(reason(&Format::Json, &empty), Rejection::EmptyMessage);
        assert_eq!(&*record(&Format::Text, &empty).row.text, "");
    }

    #[test]
    fn text_takes_its_title_and_what_it_supersedes_from_headers() {
        let with = |headers: &[(&str, &str)]| {
            let mut owned = OwnedHeaders::new();
            for (key, value) in headers {
                let value = Some(*value);
                owned = owned.insert(Header { key, value });
            }
            message(Some(b"k"), Some(b"t")).replace_headers(Some(owned))
        };
        let full = with(&[
            ("title", "T"),
            ("supersedes", "a"),
            ("x", "y"),
            ("supersedes", "b"),
        ]);
        let full = record(&Format::Text, &full);
        assert_eq!(full.row.title.as_deref(), Some("T"));
        assert_eq!(*full.row.supersedes, [Key::new("a"), Key::new("b")]);
        let headers = r#"{"supersedes":["a","b"],"title":"T","x":"y"}"#;
        let expected = [
            ("topic", Value::from("docs")),
            ("partition", 0i64.into()),
            ("offset", 5i64.into()),
            ("timestamp", Value::Timestamp(77)),
            ("headers", Value::Json(headers.into())),
        ];
        assert_eq!(full.row.columns, expected.into_iter().collect());
        let twice = with(&[("title", "T"), ("title", "U")]);
        assert!(matches!(
            reason(&Format::Text, &twice),
            Rejection::DuplicateField { .. }
        ));
    }

    #[test]
    fn headers_that_are_no_text_are_kept_and_the_payload_has_the_last_word() {
        let header = Header {
            key: "trace",
            value: Some(&[0xff, 0]),
        };
        let headers = OwnedHeaders::new().insert(header).insert(Header {
            key: "none",
            value: None::<&[u8]>,
        });
        let payload = br#"{"text":"t","topic":"mine","price":12}"#;
        let message = message(Some(b"k"), Some(payload)).replace_headers(Some(headers));
        let columns = record(&Format::Json, &message).row.columns;
        let headers = r#"{"none":null,"trace":{"base64":"/wA="}}"#;
        assert_eq!(columns.get("headers"), Some(&Value::Json(headers.into())));
        assert_eq!(columns.get("topic"), Some(&"mine".into()));
        assert_eq!(columns.get("price"), Some(&12i64.into()));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key() {
        let wrong = message(Some(b"k"), Some(b"\xff"));
        for format in [Format::Json, Format::Text] {
            let (key, reason) = read_one(&format, &wrong).unwrap_err();
            assert_eq!(key, Some(Key::new("k")));
            assert_eq!(reason, Rejection::NotUtf8 { at: 0 });
        }
        let large = message(Some(b"k"), Some(&[b'x'; 1 << 10]));
        let reason_large = reason(&Format::Text, &large);
        assert_eq!(
            reason_large,
            Rejection::MessageTooLarge {
                len: 1025,
                limit: 1024
            }
        );
        let empty_key = message(Some(b""), Some(b"t"));
        assert_eq!(reason(&Format::Text, &empty_key), Rejection::EmptyKey);
    }

    proptest! {
        #[test]
        fn any_message_is_read_or_refused(
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..12)),
            payload in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        ) {
            let message = message(key.as_deref(), payload.as_deref());
            for format in [Format::Json, Format::Text, Format::Debezium(ColumnNames::default())] {
                let _ = read_one(&format, &message);
            }
        }
    }
}
