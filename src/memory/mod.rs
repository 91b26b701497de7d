//! What was stored, found by what is asked, for whom, and how is it taken back?
//!
//! # Design
//! A memory is a few relations of an engine (`declaration.rs`): a view of the entries that stand, a
//! table of grants, and a view of both with the entries' vectors, from which is recalled. So an edit,
//! a deletion and a revocation are deltas, as everywhere. A [`Bank`] speaks to them: it stores rows,
//! gives rights and takes them back (`rights.rs`), erases (`forget.rs`), follows that last view
//! (`followed.rs`) into an index of its own (`index.rs`), and scores it when somebody asks
//! (`recall.rs`). What one hands over to another goes in a parcel ([`hand_over`]).
//!
//! # Invariants
//! - What is recalled is a function of the entries that the reader may read, as of one epoch: not of
//!   what else is stored, nor of how it came to be. Counts are whole numbers, kept by namespace and
//!   added up for each question; scales are fixed.
//! - Entries and grants are of the same epoch: they come through one view.
//! - Storing asks no language model, and recall waits for none.
//!
//! # What it deliberately does not do
//! It holds no tensors: what comes in a parcel is kept beside it. A score of other kinds (of latent keys, say) joins as a [`PairScore`]. It
//! authenticates nobody: who calls says who reads.

mod bank;
mod declaration;
mod entry;
mod error;
mod followed;
mod forget;
pub mod hand_over;
mod index;
mod recall;
mod rights;
mod words;

pub use bank::{Bank, MemoryStats, NamespaceStats};
pub use declaration::Memory;
pub use entry::{Entry, NewEntry};
pub use error::MemoryError;
pub use forget::{ForgetBy, MemoryReceipt};
pub use perennial_views::query::memory::Retain;
pub use recall::{Hit, PairScore, Recall, Recalled, ScoreBy, WORDS_SCALE};
