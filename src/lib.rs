//! **LLM views that stay fresh.**
//!
//! Declare a continuous view: a question (or a stream of them) over a stream of documents.
//! Perennial answers with a local model and keeps every answer right while documents are
//! inserted, updated and deleted; a change costs what the change touches.
//!
//! ```
//! use std::sync::Arc;
//! use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
//! use perennial::{Engine, Runtime, Update, View};
//!
//! # fn main() -> Result<(), perennial::Error> {
//! // A scripted model keeps this example quick; `LocalModel::open` gives a real one.
//! let runtime = Runtime::scripted(Arc::new(Scripted::new()), Arc::new(ScriptedEmbedder::default()));
//! let mut engine = Engine::builder(runtime)
//!     .table("notes")
//!     .table("questions")
//!     .view(View::named("answers").context("questions").data_source("notes"))
//!     .start()?;
//! engine.upsert("notes", "hours", "The library opens at nine. ")?;
//! engine.upsert("questions", "q1", "When opens the library")?;
//! let updates = engine.subscribe("answers")?;
//! engine.flush()?;
//! let answer = updates.answers().next().expect("one answer");
//! assert_eq!(answer.new_text(), Some("The library opens at nine."));
//! # Ok(())
//! # }
//! ```

pub mod calibration;
pub mod engine;
#[doc(hidden)]
pub mod fault;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
pub mod json;
pub mod local_model;
#[cfg(feature = "mcp")]
pub mod mcp;
pub mod memory;
#[cfg(feature = "otel")]
pub mod otel;
pub mod recording;
#[cfg(feature = "remote")]
pub mod remote_model;
#[cfg(feature = "serve")]
pub mod serve;
pub mod sql;
pub mod state;

pub use engine::{AuditStats, Edit, Engine, EngineBuilder, Error, Runtime, Subscription, Update};
pub use local_model::{LocalModel, LocalModelOptions};
pub use perennial_ask as ask;
pub use perennial_bank as bank;
pub use perennial_bank::{Repair, Scope};
pub use perennial_connectors as connectors;
pub use perennial_model as model;
pub use perennial_operators as operators;
pub use perennial_rows as rows;
pub use perennial_views as views;
pub use perennial_views::{DEPENDENCY_FLOOR, Delivery, Order, Pace, PaceOption, Policy, View};
#[cfg(feature = "remote")]
pub use remote_model::RemoteRuntime;
