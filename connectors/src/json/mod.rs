//! What does JSON say of a record? The format that lines of a file and messages of a topic
//! share.
//!
//! - [`value`]: JSON whose objects keep every field.
//! - [`record`]: an operation and its record.
//! - [`timestamp`]: a time as milliseconds.

pub(crate) mod record;
pub(crate) mod timestamp;
pub(crate) mod value;
