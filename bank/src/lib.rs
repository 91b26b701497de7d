//! What is a fragment of a passage, what is it called, and where is it kept?
//!
//! Documents are cut into [`passage`]s; a [`scope`] says what each may attend to, which gives
//! every fragment its [`id`]. The tensors are in the [`fragment_store`], coded in its
//! [`warm_tier`], and on disk in the [`cold_tier`]. What one layout lends the next is a [`live_layout`]; what is laid on a
//! superseded passage is a [`repair`]. What a question is about is found by [`recall`]; fragments
//! get from one process to another in a [`parcel`].
//!
//! # Invariants
//! - Equal ids, equal bits: an id covers everything that its fragment attended to.
//! - A stored fragment never changes; an edit is laid on it in one layout.
//! - A fragment that is lost is encoded again, never an error.
//!
//! What a model is asked, and the dataflow, are above: this crate knows neither.

pub mod cold_tier;
pub mod document;
pub mod fragment_store;
pub mod id;
pub mod live_layout;
pub mod parcel;
pub mod passage;
pub mod recall;
pub mod repair;
pub mod scope;
pub mod warm_tier;

pub use cold_tier::{ColdStats, ColdTier, ColdTierError};
pub use document::{ContextKey, Document, DocumentKey, LayoutPassage, Passage, PassageLayout};
pub use fragment_store::{FragmentStore, References};
pub use id::{FragmentId, ModelIdentity, PassageId};
pub use live_layout::LiveLayout;
pub use passage::PassageSizes;
pub use repair::Repair;
pub use scope::{Scope, ScopeError};
pub use warm_tier::{WarmStats, WarmTier};
