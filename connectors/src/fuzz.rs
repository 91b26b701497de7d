//! What reads the network, from bytes that a fuzzer makes up.
//!
//! A function takes any bytes, and panics where what they are read as breaks a rule.

pub use crate::http::fuzz::{host, posted, token};
pub use crate::kafka::fuzz::message;

use crate::json::{read_record, timestamp};
use crate::{COLUMN_NAME_LIMIT, COLUMNS_LIMIT, Change};

/// The times that four digits of a year tell, in milliseconds since 1970.
const FOUR_DIGITS: std::ops::Range<i64> = -62_167_219_200_000..253_402_300_800_000;

/// A time is read as it is written.
pub fn time(text: &str) {
    if let Some(ms) = timestamp::milliseconds(text).filter(|ms| FOUR_DIGITS.contains(ms)) {
        let written = timestamp::text(ms);
        assert_eq!(timestamp::milliseconds(&written), Some(ms), "{written}");
    }
}

/// A record that was taken obeys the limits, and can be sent in again.
pub(crate) fn hold(change: &Change) {
    let Change::Upsert(record) = change else {
        return;
    };
    assert!(!record.key.as_str().is_empty(), "a key that is empty");
    let columns = &record.row.columns;
    assert!(columns.len() <= COLUMNS_LIMIT);
    for (name, _) in columns.iter() {
        assert!(name.len() <= COLUMN_NAME_LIMIT, "{name}");
    }
    let sent = record.to_json().to_string();
    match read_record(sent.as_bytes(), None, 0) {
        Ok(Change::Upsert(again)) => {
            assert_eq!(again.key, record.key, "{sent}");
            assert_eq!(again.row.text, record.row.text, "{sent}");
            assert_eq!(again.row.title, record.row.title, "{sent}");
            assert_eq!(again.row.supersedes, record.row.supersedes, "{sent}");
            assert_eq!(again.row.updated_at_ms, record.row.updated_at_ms, "{sent}");
        }
        other => panic!("{sent}: {other:?}"),
    }
}
