//! What stands in a topic, for a fuzzer.

use rdkafka::Timestamp;
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

use super::format::{self, Words};
use crate::fuzz::hold;
use crate::message_format::Format;
use crate::{Change, ColumnNames, Offset};

/// The largest message, in bytes.
const LIMIT: usize = 4 << 10;

/// A message in each format. Its parts stand between bars: a key, a payload, and the names and values of
/// headers.
pub fn message(bytes: &[u8]) {
    let [how, parts @ ..] = bytes else { return };
    let mut parts = parts.split(|byte| *byte == b'|');
    let key = parts.next().filter(|_| how & 1 == 0).map(<[u8]>::to_vec);
    let payload = parts.next().filter(|_| how & 2 == 0).map(<[u8]>::to_vec);
    let mut headers = OwnedHeaders::new();
    while let (Some(name), value) = (parts.next(), parts.next()) {
        let (Ok(key), false) = (std::str::from_utf8(name), name.contains(&0)) else {
            continue;
        };
        headers = headers.insert(Header { key, value });
    }
    let time = match how & 4 {
        0 => Timestamp::NotAvailable,
        _ => Timestamp::CreateTime(77),
    };
    let message = OwnedMessage::new(
        payload.clone(),
        key.clone(),
        "docs".to_owned(),
        time,
        0,
        5,
        Some(headers),
    );
    let mut named = ColumnNames::default();
    named.set("key", "id");
    named.set("title", "name");
    let formats = [
        Format::Json,
        Format::Text,
        Format::Debezium(ColumnNames::default()),
        Format::Debezium(named),
    ];
    let (words, offset) = (Words::of("docs"), Offset::Sequence(5));
    for format in formats {
        let is_textless = how & 8 != 0;
        match format::read(&format, &message, &words, &offset, LIMIT, is_textless) {
            Ok(change) => {
                let len = key.as_ref().map_or(0, Vec::len) + payload.as_ref().map_or(0, Vec::len);
                assert!(len <= LIMIT);
                let is_own = matches!(format, Format::Json | Format::Text);
                // What comes behind the mark of a schema registry is unpacked.
                let is_packed = key.as_ref().is_some_and(|key| key.first() == Some(&0));
                if let (Some(key), true) = (&key, is_own && !is_packed) {
                    assert_eq!(change.key().as_str().as_bytes(), key);
                }
                if let (None, Change::Upsert(_)) = (&payload, &change) {
                    panic!("nothing makes a record: {change:?}");
                }
                // One without a text cannot be sent in where one is needed.
                if !is_textless {
                    hold(&change);
                }
            }
            Err((_, reason)) => assert!(!reason.to_string().is_empty()),
        }
    }
}
