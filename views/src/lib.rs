//! Continuous views: what a user declares, the logical plan behind it, and the dataflow
//! that keeps it true.
//!
//! A [`View`] says what to ask over which documents; [`plan::Plan`] is its logical form,
//! printed by `explain`; [`dataflow::build`] turns the plan into operators. Sources,
//! epochs and subscribers are the engine's business, tensors the model's.
//! A [`query::Query`] is a relational view, written in SQL or by a builder;
//! [`render::render`] turns it into operators.

mod agenda;
mod bounds;
pub mod calls;
pub mod dataflow;
pub mod embeddings;
pub mod evaluate;
pub mod forecast;
mod layout;
pub mod measure;
pub mod memo;
pub mod outputs;
pub mod pace;
pub mod plan;
pub mod query;
pub mod render;
pub mod rerun;
mod shared;
mod speed;
pub mod sql;
pub mod trace;
pub mod view;

pub use agenda::Agenda;
pub use bounds::{Bounds, Exceeded};
pub use calls::{ContextBook, Healed, Observer, Refresh, Request, heal};
pub use dataflow::{Epoch, Services};
pub use embeddings::Embeddings;
pub use evaluate::{analyze, evaluate};
pub use forecast::{Forecast, forecast};
pub use layout::PassageShelf;
pub use measure::{Effort, Measure, Measures};
pub use memo::Memo;
pub use outputs::{Asking, Outputs};
pub use pace::{Pace, PaceOption};
pub use plan::Plan;
pub use rerun::Rerun;
pub use trace::{Said, Trace, TracedRow, trace};
pub use view::{DEPENDENCY_FLOOR, Delivery, Error, Order, Policy, View};
