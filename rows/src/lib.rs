//! What does a relation hold? Keyed rows with typed columns, and tuples of their values.
//!
//! A [`Row`] is one version of a keyed record: a text, what the record calls itself, when it
//! changed, and any further columns by name. A [`Tuple`] holds the values of chosen columns in a
//! chosen order, as a [`Schema`] names them: that is what flows through a plan. Values compare,
//! hash and encode in one way everywhere, so that what is retracted is what was emitted.
//!
//! # Invariants
//! - Equal values have equal bytes ([`encoding`]), and unequal ones unequal bytes.
//! - A float is never `-0.0`, and there is one NaN: equality is reflexive.
//! - A text is shared by reference, not copied.

mod columns;
pub mod encoding;
pub mod json;
mod key;
mod row;
mod schema;
mod value;

pub use columns::{Columns, KEY, SUPERSEDES, TEXT, TITLE, UPDATED_AT, has_meaning};
pub use key::Key;
pub use row::Row;
pub use schema::{Column, Schema, Tuple};
pub use value::{Float, ParseTypeError, Type, Value};
