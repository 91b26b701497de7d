//! What does JSON say of a record? The format that lines of a file and messages of a topic
//! share.
//!
//! - [`value`]: JSON whose objects keep every field.
//! - [`record`]: an operation and its record.
//! - [`timestamp`]: a time as milliseconds, and back.

pub(crate) mod record;
pub mod timestamp;
pub(crate) mod value;

use perennial_rows::Key;

use crate::{Change, Offset, Rejection};

/// Reads a record, or an operation on one, as it stands in a line of JSON; `key` is that of what
/// carries it, and `at_ms` its time, in milliseconds since 1970, if it names none.
///
/// # Errors
/// Why it is none; [`Rejection::EmptyMessage`] where nothing is.
pub fn read_record(json: &[u8], key: Option<&Key>, at_ms: i64) -> Result<Change, Rejection> {
    let carrier = record::Carrier {
        at_ms,
        offset: &Offset::Sequence(0),
        key,
        columns: &[],
        is_textless: false,
        names: None,
    };
    match record::read(json, carrier) {
        Ok(Some(change)) => Ok(change),
        Ok(None) => Err(Rejection::EmptyMessage),
        Err((_, reason)) => Err(reason),
    }
}
