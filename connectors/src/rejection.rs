//! Why can something that a source holds not be a record? Quarantine entries and their reasons.
//!
//! A rejection is data about data: it is cloned, compared, stored and shown, and it never stops
//! the source. Its text names the limit or the place, so that it can be acted on.

use std::fmt;
use std::io;

use perennial_rows::{Key, Type};
use thiserror::Error;

use crate::{Feature, Offset, SourceName};

/// One thing that was refused, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The source that holds it.
    pub source: SourceName,
    /// Where in the source.
    pub offset: Offset,
    /// Which record it would have been, where that can be told.
    pub key: Option<Key>,
    /// Why it is not a record.
    pub reason: Rejection,
    /// What was refused, unless it is over 64 KiB or stands where it was read for good, as a
    /// file does: a line, the payload of a message.
    pub content: Option<Vec<u8>>,
}

/// Of what is refused, no more than this is kept: 64 KiB.
pub const CONTENT_LIMIT: usize = 64 << 10;

/// What is kept of something that is refused.
pub(crate) fn content(bytes: &[u8]) -> Option<Vec<u8>> {
    (bytes.len() <= CONTENT_LIMIT).then(|| bytes.to_vec())
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.offset, self.reason)
    }
}

/// The kinds of JSON values, as named in rejections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JsonKind {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// A number without a fraction that fits 64 bits.
    Integer,
    /// Any other number.
    Number,
    /// A string.
    String,
    /// A list.
    Array,
    /// A map.
    Object,
}

impl fmt::Display for JsonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        })
    }
}

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The bytes are not UTF-8.
    #[error("not UTF-8 text: byte {at} begins no valid character")]
    NotUtf8 {
        /// The first wrong byte, counted from the record's first byte.
        at: u64,
    },
    /// The file holds a NUL byte, so it is no text.
    #[error("a binary file: NUL at byte {at}")]
    Binary {
        /// The first NUL.
        at: u64,
    },
    /// The file begins as UTF-16 and is none.
    #[error("not UTF-16 text, which its first bytes announce: byte {at} begins no character")]
    NotUtf16 {
        /// The first wrong byte, counted from the file's first byte.
        at: u64,
    },
    /// No text can be taken from a file of this format.
    #[error("not a sound {format}: {reason}")]
    Unsound {
        /// Which format its name promises.
        format: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is encrypted.
    #[error("an encrypted {format}: save it without a password")]
    Encrypted {
        /// Which format it is.
        format: &'static str,
    },
    /// The file shows pictures, or nothing at all: it holds no text.
    #[error("a {format} without text: scanned pages take text recognition (OCR) first")]
    NoText {
        /// Which format it is.
        format: &'static str,
    },
    /// What the file unpacks to is over a limit.
    #[error("unpacks to more than {limit} bytes of {what}")]
    Unpacked {
        /// Text, or what it is taken from.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file has too many pages.
    #[error("more than {limit} pages")]
    TooManyPages {
        /// The limit.
        limit: u64,
    },
    /// The program has no such part.
    #[error("this program was built without {feature}; build it with --features {}", feature.name())]
    NotBuilt {
        /// Which.
        feature: Feature,
    },
    /// The file is over the size limit; it was not read.
    #[error("too large: {len} bytes, the limit is {limit}")]
    TooLarge {
        /// The file's length in bytes (at least; it may be growing).
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The system refused to give the content.
    #[error("cannot be read: {message}")]
    Unreadable {
        /// What kind of failure.
        kind: io::ErrorKind,
        /// The system's words.
        message: String,
    },
    /// A symbolic link: links are not followed.
    #[error("a symbolic link, which is not followed: name what it points to as a source instead")]
    Link,
    /// Named like a document, but no file: a pipe, socket or device.
    #[error("neither a file nor a folder")]
    NotAFile,
    /// The file's name is not UTF-8, so it can have no key.
    #[error("the file's name is not UTF-8")]
    NameNotUtf8,
    /// The line is over the limit; it was skipped, not read into memory.
    #[error("line too long: {len} bytes, the limit is {limit}")]
    LineTooLong {
        /// The line's length in bytes, without its line end.
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The line is not JSON.
    #[error("not JSON: {message} at column {column}")]
    Malformed {
        /// The column in bytes, from 1.
        column: u64,
        /// The parser's words.
        message: String,
    },
    /// An escape in the JSON is half a character. It is JSON all the same, but no text can hold it.
    #[error(
        "{escape} at byte {at} is half a character (a surrogate without its other half), which no \
         text can hold: write the character whole"
    )]
    LoneSurrogate {
        /// Where the escape begins, in bytes from 1.
        at: u64,
        /// The escape.
        escape: String,
    },
    /// The line ends in the middle of a JSON value.
    #[error("cut off: the JSON ends after {len} bytes in the middle of a value")]
    Truncated {
        /// How many bytes are there.
        len: u64,
    },
    /// The line is JSON, but no object.
    #[error("expected an object, got {got}")]
    NotAnObject {
        /// What stands there.
        got: JsonKind,
    },
    /// The object names a field twice.
    #[error("the field {name:?} stands twice in one object")]
    DuplicateField {
        /// Which field.
        name: String,
    },
    /// The object is neither an envelope nor a record.
    #[error(
        "unknown operation {name:?}: expected upsert, insert, update, delete, or a record with \"key\" and \
         \"text\""
    )]
    UnknownOperation {
        /// The object's first field.
        name: String,
    },
    /// The object is empty.
    #[error("an empty object: expected upsert, insert, update, delete, or a record")]
    NoOperation,
    /// The object asks for two things at once.
    #[error("both {first:?} and {second:?} in one line: which comes first cannot be told")]
    SeveralOperations {
        /// The one operation.
        first: String,
        /// The other operation, or the record's field.
        second: String,
    },
    /// A field that the operation needs is absent.
    #[error("the field {field:?} is missing")]
    MissingField {
        /// Which field.
        field: &'static str,
    },
    /// A field that the operation needs is absent, where the record has others: is one of them misspelled?
    #[error("the field {field:?} is missing; the record has {}", listed(.found))]
    MissingAmong {
        /// Which field.
        field: &'static str,
        /// The first fields that are there (the beginnings of their names).
        found: Vec<String>,
    },
    /// A field is absent that is to be read for one that the operation needs.
    #[error("the field {name:?} is missing, which is to be its {field}")]
    MissingNamed {
        /// What it is to be.
        field: &'static str,
        /// Which field (its beginning).
        name: String,
    },
    /// A field holds a value of another type.
    #[error("{field:?} must be {expected}, got {got}")]
    WrongType {
        /// Which field.
        field: &'static str,
        /// What it must hold.
        expected: &'static str,
        /// What it holds.
        got: JsonKind,
    },
    /// A field is over its limit.
    #[error("{field:?} is too long: {len} bytes, the limit is {limit}")]
    FieldTooLong {
        /// Which field.
        field: &'static str,
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A newer version of the record was there before it.
    #[error(
        "late: its \"updated_at\" is {got_ms}, but the version held, or its deletion, is of {held_ms} \
         (milliseconds since 1970)"
    )]
    Late {
        /// Time of the version held, or of its deletion.
        held_ms: i64,
        /// Time of this one.
        got_ms: i64,
    },
    /// The record names another key than the message that carries it.
    #[error("two keys: the message has {outer:?}, its record {inner:?}")]
    KeysDiffer {
        /// The message's key (its beginning).
        outer: String,
        /// The record's key (its beginning).
        inner: String,
    },
    /// A message with an empty payload where JSON is expected.
    #[error("an empty message: a deletion (tombstone) has no payload at all")]
    EmptyMessage,
    /// A message that a serializer of a schema registry wrote, and that is not JSON.
    #[error(
        "written with schema {schema} of a schema registry, and not as JSON: Avro and Protobuf are not \
         read; have it written with a JSON converter"
    )]
    SchemaRegistry {
        /// The schema's number in its registry.
        schema: u32,
    },
    /// A message is over the limit.
    #[error("message too large: {len} bytes, the limit is {limit}")]
    MessageTooLarge {
        /// Bytes of key and payload.
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The row has another number of fields than the first.
    #[error("{got} fields, where the first row has {expected}: is one not in quotes?")]
    WrongColumns {
        /// How many.
        got: usize,
        /// How many there should be.
        expected: usize,
    },
    /// An earlier row of the table has this key.
    #[error("an earlier row has the same key")]
    DuplicateKey,
    /// The row has no such column.
    #[error("the row has no column {name:?}")]
    MissingColumn {
        /// Which column (its beginning).
        name: String,
    },
    /// A column holds what its declared type cannot.
    #[error("the column {column:?} must be {expected}, got {got}")]
    Column {
        /// Which column.
        column: String,
        /// What it was declared to hold.
        expected: Type,
        /// What stands there (its beginning).
        got: String,
    },
    /// The record has a column that is not declared, where no others are taken.
    #[error("there is no column {column:?}; there are {}", .declared.join(", "))]
    UnknownColumn {
        /// Which column (its beginning).
        column: String,
        /// Those that are declared.
        declared: Vec<String>,
    },
    /// The record has too many columns.
    #[error("{got} columns, the limit is {limit}")]
    TooManyColumns {
        /// How many.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// The name of a column is over its limit.
    #[error("the column {name:?} has a name of {len} bytes, the limit is {limit}")]
    ColumnNameTooLong {
        /// The name (its beginning).
        name: String,
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The columns of the record are over their limit.
    #[error("its columns have {len} bytes, the limit is {limit}")]
    ColumnsTooLong {
        /// Bytes of all names and values.
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A change event of a kind that cannot be a change of one record.
    #[error("a change event with op {op:?}: expected c, r, u or d")]
    UnknownChangeEvent {
        /// What it says (its beginning).
        op: String,
    },
    /// A change event that leaves out what a large column holds, which did not change.
    #[error(
        "the event leaves the unchanged column {name:?} out; have the database log whole rows (in \
         PostgreSQL: ALTER TABLE … REPLICA IDENTITY FULL), or take a new snapshot of the table"
    )]
    UnavailableColumn {
        /// The column (its beginning).
        name: String,
    },
    /// The key is the empty string.
    #[error("the key is empty")]
    EmptyKey,
    /// `updated_at` is a string, but no time.
    #[error("\"updated_at\" is neither milliseconds nor an RFC 3339 time: {value:?}")]
    BadTime {
        /// What it says (its beginning).
        value: String,
    },
}

/// Names, in words.
fn listed(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    names.join(", ")
}

impl Rejection {
    /// Whether another look may find what this one could not read: too many open files, a disk or a
    /// server that did not answer.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            // A path that is too long for the system stays so.
            Self::Unreadable { kind, .. } => !matches!(
                kind,
                io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidFilename
            ),
            _ => false,
        }
    }

    pub(crate) fn unreadable(error: &io::Error) -> Self {
        Self::Unreadable {
            kind: error.kind(),
            message: error.to_string(),
        }
    }
}
