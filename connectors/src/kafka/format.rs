//! Which change does a message ask for?
//!
//! A message has a key, headers, a time and a payload, or no payload: then it is a *tombstone*,
//! the deletion of its key (an empty payload is none). What the payload is, [`Format`] says.

use rdkafka::message::{Headers as _, Message};

use super::debezium;
use crate::columns::Columns;
use crate::json::record::{self, Carrier, Fields, Operation, Refusal, SUPERSEDES_LIMIT};
use crate::json::value::Json;
use crate::{Change, Offset, Rejection};

/// What the messages of a topic are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// JSON as in files of lines: a record, or an operation on one. The record's `key` may be
    /// left out, since the message has one; if both are there they must be equal.
    #[default]
    Json,
    /// The payload is the text of the document, under the message's key. Headers `title` and
    /// `supersedes` (it may be repeated) are read.
    Text,
    /// Debezium's change events of the rows of a table (JSON, with or without schema, whole or
    /// flattened to the new row).
    Debezium(Columns),
}

/// Reads a message of at most `limit` bytes.
pub(super) fn read(
    format: &Format,
    message: &impl Message,
    offset: &Offset,
    limit: usize,
) -> Result<Change, Refusal> {
    let key = match (message.key(), format) {
        (None, _) => None,
        (Some(bytes), Format::Debezium(columns)) => debezium::key(bytes, columns)?,
        (Some(bytes), _) => {
            let key = record::utf8(bytes).and_then(record::named);
            Some(key.map_err(|reason| (None, reason))?)
        }
    };
    let carrier = Carrier {
        // Without a time, its place: the same at every reading, and before any real time.
        at_ms: message.timestamp().to_millis().unwrap_or(message.offset()),
        offset,
        key: key.as_ref(),
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
    match format {
        Format::Json => match record::read(payload, carrier)? {
            Some(change) => Ok(change),
            None => Err(refuse(Rejection::EmptyMessage)),
        },
        Format::Text => {
            let fields = text(message, payload).map_err(refuse)?;
            record::change(Operation::Upsert, fields, carrier)
        }
        Format::Debezium(columns) => debezium::read(payload, columns, carrier),
    }
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
    use crate::{Key, Record};

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
        read(format, message, &Offset::Sequence(5), 1 << 10)
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
            assert_eq!((record.key.as_str(), &*record.text), ("k", "t"));
            assert_eq!((record.updated_at_ms, record.is_timed), (77, false));
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
            Format::Debezium(Columns::default()),
        ] {
            let tombstone = read_one(&format, &message(Some(b"k"), None));
            let is_deletion =
                matches!(&tombstone, Ok(Change::Delete { key, .. }) if key.as_str() == "k");
            assert!(is_deletion, "{format:?}: {tombstone:?}");
        }
        let empty = message(Some(b"k"), Some(b""));
        assert_eq!(reason(&Format::Json, &empty), Rejection::EmptyMessage);
        assert_eq!(record(&Format::Text, &empty).text, "");
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
        assert_eq!(full.title.as_deref(), Some("T"));
        assert_eq!(full.supersedes, [Key::new("a"), Key::new("b")]);
        let twice = with(&[("title", "T"), ("title", "U")]);
        assert!(matches!(
            reason(&Format::Text, &twice),
            Rejection::DuplicateField { .. }
        ));
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
            for format in [Format::Json, Format::Text, Format::Debezium(Columns::default())] {
                let _ = read_one(&format, &message);
            }
        }
    }
}
