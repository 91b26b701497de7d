//! What does a script do? Statements, carried out against an engine.
//!
//! [`Script`] and [`parse`] read the text; a [`Session`] carries statements out one by one and
//! tells what came of each as an [`Outcome`]. Whatever is wrong is told at its place in the
//! script, with what can be done about it.
//!
//! ```
//! use std::sync::Arc;
//! use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
//! use perennial::sql::{Outcome, Script, Session};
//! use perennial::{Engine, Runtime};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = Runtime::scripted(Arc::new(Scripted::new()), Arc::new(ScriptedEmbedder::default()));
//! let mut session = Session::new(Engine::builder(runtime).start()?, "scripted");
//! let script = Script::new("library.sql", "
//!     CREATE TABLE notes (key TEXT, text TEXT);
//!     CREATE TABLE questions (key TEXT, text TEXT);
//!     CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
//!         CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(notes));
//!     INSERT INTO notes VALUES ('hours', 'The library opens at nine.');
//!     INSERT INTO questions VALUES ('q1', 'When opens the library');
//! ");
//! session.run(&script, |_, _| Ok(()))?;
//! # Ok(())
//! # }
//! ```
//!
//! What this deliberately does not do: it opens no model by itself and prints nothing. Who runs a
//! session has an engine over a model already, says how others are
//! [opened](Session::opening), and shows outcomes as it likes.

mod analysis;
mod catalog;
mod check;
mod connect;
mod edits;
mod lineage;
mod memories;
mod outcome;
mod relations;
mod row_tree;
mod session;
mod shared;
mod values;
mod why;

pub use check::check;
pub use outcome::{Outcome, SessionError};
pub use perennial_views::sql::{
    CreateContinuousView, CreateModel, Diagnostic, Errors, Kind, ModelOption, Script, Spanned,
    Statement, Subscribe, is_complete, parse,
};
pub use perennial_views::{Bounds, Exceeded};
pub use session::{Session, first_model};
