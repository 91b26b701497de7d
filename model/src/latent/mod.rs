//! Which of many fragments is a question about? Its queries against their keys, in a few heads.
//!
//! For every token of the question the best match among a fragment's keys is looked for, and what
//! was found is averaged over the tokens (ColBERT's late interaction, arXiv 2004.12832, with what a
//! decoder computes anyway) and added up over the heads of a [`LatentProfile`]. Queries and keys are
//! taken without rotation, so that it does not matter where anything stands, and keys without the
//! bias of their projection ([`KeyFrame`](crate::kv::coding::KeyFrame)). The question is read behind the shared prefix alone, up to
//! the last layer of the profile.
//!
//! Mean keys, clusters of keys, bounding boxes and the last token's query alone were measured, and
//! do not tell passages apart.
//!
//! # Invariants
//! - A score is a function of the question, the fragment and the profile, to the bit: nothing is
//!   normalised over what else is stored, and not by the processor or the number of threads. So
//!   after an insert and its delete every score is what it was.
//! - Fragments are read by [`KeyStrips`], a small part of their keys in four or eight bits: the
//!   fragment itself may be on disk.

mod calibrate;
mod max_sim;
mod profile;
mod strips;

pub use calibrate::{Calibrated, CalibrationPair, HeadRank, calibrate};
pub use max_sim::{score, scores};
pub use profile::{LatentProfile, Units};
pub use strips::{KeyBits, KeyStrips, StripsError};
