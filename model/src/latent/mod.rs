//! Which of many texts is a question about? Its queries against their keys, in a few heads.
//!
//! For every token of the question the best match among a text's keys is looked for, and what
//! was found is averaged over the tokens (ColBERT's late interaction, arXiv 2004.12832, with what a
//! decoder computes anyway) and added up over the heads of a [`LatentProfile`]. Queries and keys are
//! taken without rotation, so that it does not matter where anything stands, and keys without the
//! bias of their projection (`kv/frame.rs`). Question and text are read behind the same prefix, up to the
//! last layer of the profile.
//!
//! Mean keys, clusters of keys, bounding boxes and the last token's query alone were measured, and
//! do not tell passages apart.
//!
//! # Invariants
//! - A score is a function of the question, the text and the profile, to the bit: nothing is
//!   normalised over what else is stored, and not by the processor or the number of threads. So
//!   after an insert and its delete every score is what it was.
//! - What is kept of a text ([`TextKeys`]) is a small part of its keys, in four or eight bits.

mod calibrate;
mod max_sim;
mod profile;
mod strips;
mod text_keys;

pub use calibrate::{Calibrated, CalibrationPair, HeadRank, calibrate};
pub use max_sim::scores;
pub use profile::{LatentProfile, MAX_PROFILE_BYTES, ProfileError, Units};
pub use strips::{KeyBits, KeyStrips, StripsError};
pub use text_keys::{TextKeys, WINDOW_TOKENS};
