//! Where is a view, or a row of it, for who reads what is cited?
//!
//! `perennial://views/answers` is a view (or a stream), `perennial://views/answers/q1` its row under a key.
//! Names and keys are percent-encoded.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// How addresses begin.
pub(crate) const SCHEME: &str = "perennial://views/";
/// What stands as it is in an address.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The address of a view, source or table.
pub(crate) fn of_relation(name: &str) -> String {
    format!("{SCHEME}{}", utf8_percent_encode(name, PLAIN))
}

/// The address of its row under a key.
pub(crate) fn of_row(relation: &str, key: &str) -> String {
    let relation = of_relation(relation);
    format!("{relation}/{}", utf8_percent_encode(key, PLAIN))
}
