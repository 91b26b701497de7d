//! What does a script say? Statements of SQL, each with its place.
//!
//! ```text
//! CREATE SOURCE name [(column TYPE, …)] FROM FOLDER 'path' | FILE 'x.jsonl' | TABLE 'x.csv'
//!     | KAFKA 'kafka://servers/topic' | HTTP [WITH (option = value, …)]
//! CREATE TABLE name (key TEXT, column TYPE, …)
//! CREATE MEMORY name FROM relation [WITH (option = value, …)]
//! CREATE MODEL name FROM 'spec' | 'http://host/v1#name' [WITH (option = value, …)]
//! CREATE CONTINUOUS VIEW name AS LLM_GENERATE(PROMPT = '…', CONTEXT = STREAM(x),
//!     DATA_SOURCE = STREAM(y) | MEMORY(m) [AS 'reader'] [MATCHING (column, …)]) [WITH (…)]
//! CREATE VIEW name [WITH (option = value, …)] AS query
//! ALTER VIEW name SET (option = value, …)
//! CREATE SINK name FROM view INTO 'x.jsonl' | 'kafka://…' | 'https://…' [WITH (…)]
//! INSERT INTO t [(column, …)] VALUES (expression, …), …
//! UPDATE t SET column = expression, … [WHERE condition]
//! DELETE FROM t [WHERE condition]
//! query
//! SUBSCRIBE TO name [WITH (SNAPSHOT [= true|false], PROGRESS)] [AS OF epoch]
//! SHOW SOURCES | TABLES | VIEWS | SINKS | MODELS | MEMORIES | COLUMNS FROM name | CANDIDATES FROM view
//! DROP SOURCE | TABLE | VIEW | SINK | MODEL | MEMORY [IF EXISTS] name
//! EXPLAIN query | CREATE VIEW … | CREATE CONTINUOUS VIEW … | CREATE MEMORY …
//! EXPLAIN COST query | CREATE VIEW …
//! EXPLAIN ANALYZE query | view
//! EXPLAIN WHY view['key']
//! LINEAGE OF relation['key']
//! FORGET 'key' FROM name
//! FORGET KEY | SESSION | WRITER | NAMESPACE '…' FROM MEMORY name
//! GRANT READ ON NAMESPACE '…' OF MEMORY name TO 'reader'
//! REVOKE READ ON NAMESPACE '…' OF MEMORY name FROM 'reader'
//! RECALL 'question' FROM memory [AS 'reader'] [IN NAMESPACE '…'] [LIMIT k]
//! ```
//! Queries and expressions are read by sqlparser, with PostgreSQL's rules; all else is read here,
//! from the same tokens. Keywords are known in any case of letters; names are folded to lower
//! case unless they stand in double quotes.
//!
//! # Invariants
//! - No text makes this panic, and none makes it nest deeper than a bound (`embedded.rs`).
//! - Printed, a statement reads as one that is equal to it.
//! - Every error has a place, and says what was expected there.
//!
//! What this deliberately does not do: it knows no catalog. Whether a name exists, a column has
//! a type or a model is large enough is said by whoever carries a statement out, with
//! [`Script::errors`] at the places that statements keep.

mod create;
mod cursor;
mod diagnostic;
mod edit;
mod embedded;
mod forms;
mod lexer;
mod lookup;
mod options;
mod parse;
mod print;
mod shared;
mod statement;
#[cfg(test)]
mod tests;

pub use diagnostic::{Diagnostic, Errors, Script, nearest};
pub use lexer::is_complete;
pub use lookup::{literal, row};
pub use options::{Field, Format, MemoryOption, ModelOption, SinkOption, SourceOption, ViewOption};
pub use parse::parse;
pub use print::{Identifier, Quoted};
pub use sqlparser::ast::{Expr, Query};
pub use sqlparser::tokenizer::{Location, Span};
pub use statement::{
    AlterView, CreateContinuousView, CreateMemory, CreateModel, CreateSink, CreateSource,
    CreateTable, CreateView, Delete, Drop, Forget, ForgetMemory, ForgetPart, Grant, Insert, Kind,
    Name, Origin, ReadBy, Recall, RowName, Show, Spanned, Statement, Subscribe, Update,
};
