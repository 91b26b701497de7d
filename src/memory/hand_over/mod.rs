//! What one memory hands over to another, and what of that is believed?
//!
//! # Design
//! What is handed over is a parcel (`perennial_bank::parcel`): entries with their texts, and the fragments
//! of these texts. Packing (`export.rs`) takes what a reader may read and nothing else, encoding what the
//! model's store lacks. Receiving (`import.rs`) checks all of it before anything is visible; then the
//! entries are stored as any others are, by their keys, and the fragments go to a [`Shelf`], which is where
//! they wait to be used: files of a state folder (`kept.rs`), say.
//!
//! # Invariants
//! - A fragment counts as that of its id only if it was encoded again here and is equal in every bit.
//!   Otherwise it stands in for it, and an answer over it is provisional.
//! - Nothing of a parcel is kept or visible before all of it has been checked.
//! - A fragment is kept for a text, and goes with the last row that says it.
//!
//! # What it deliberately does not do
//! It hides nothing: a parcel, and what is kept of it, is as good as the texts. Who may write one, and to
//! whom it is sent, is for others to say.

mod error;
mod export;
mod import;
mod kept;

pub use error::HandOverError;
pub use export::{Export, Exported};
pub use import::{Audit, Import, Imported, KeptFragments, Shelf};
pub use kept::{Held, KeptFolder};

use perennial_bank::PassageId;

/// Names what a model reads of an entry: by this, what is kept for it is found.
pub fn text_id(key: &str, title: Option<&str>, text: &str) -> PassageId {
    // A document without a title is called by its key.
    PassageId::of(title.unwrap_or(key), text)
}

/// Bytes of a digest as they are shown.
fn hex(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}
