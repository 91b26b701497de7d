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
//! - Storing asks no language model. Recall waits for none, but for one pass over the question, and over
//!   entries that were not read yet, where it is by latent keys.
//!
//! # What it deliberately does not do
//! It holds no fragments: what comes in a parcel is kept beside it. What a model reads of entries is a cache of
//! their keys (`latent.rs`), which joins as a [`PairScore`], as scores of other kinds may. It authenticates
//! nobody: who calls says who reads.

mod bank;
mod declaration;
mod entry;
mod error;
mod followed;
mod forget;
pub mod hand_over;
mod index;
mod latent;
mod recall;
mod rights;
mod words;

pub use bank::{Bank, MemoryStats, NamespaceStats};
pub use declaration::Memory;
pub use entry::{Entry, NewEntry};
pub use error::MemoryError;
pub use forget::{ForgetBy, MemoryReceipt};
pub use latent::LatentStats;
pub use perennial_views::query::memory::{RecallBy, Retain};
pub use recall::{Hit, LATENT_SCALE, PairScore, Recall, Recalled, WORDS_SCALE};
