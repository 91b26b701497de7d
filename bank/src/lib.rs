//! What is a fragment of a passage, what is it called, and where is it kept?
//!
//! Documents are cut into [`passage`]s; a [`scope`] says what each may attend to, which gives
//! every fragment its [`id`]. The tensors are in the [`fragment_store`], in fewer bytes in the [`warm_tier`], and on
//! disk in the [`cold_tier`]; the keys that texts are found by are in [`recall`]. What one layout lends the next is a
//! [`live_layout`], and how much of that has turned over meanwhile its [`turnover`]; what is laid on a superseded passage is a [`repair`]. From one process to another they go in
//! a [`parcel`], and what came so is [`handed_over`]. How scopes and repairs are written is said in [`choice`].
//!
//! # Invariants
//! - Equal ids, equal bits: an id covers everything that its fragment attended to.
//! - A stored fragment never changes; an edit is laid on it in one layout.
//! - A fragment that is lost is encoded again, never an error.
//!
//! What a model is asked, and the dataflow, are above: this crate knows neither.

pub mod choice;
pub mod cold_tier;
pub mod document;
pub mod fragment_store;
pub mod handed_over;
pub mod id;
pub mod live_layout;
pub mod parcel;
pub mod passage;
mod ranked;
pub mod recall;
pub mod repair;
pub mod scope;
pub mod turnover;
pub mod warm_tier;

pub use cold_tier::{ColdStats, ColdTier, ColdTierError};
pub use document::{
    ContextKey, Document, DocumentKey, LayoutPassage, Passage, PassageCopy, PassageLayout,
};
pub use fragment_store::{FragmentStore, KeptFragments, References, StoreStats};
pub use handed_over::HandedOver;
pub use id::{FragmentId, ModelIdentity, PassageId};
pub use live_layout::LiveLayout;
pub use passage::PassageSizes;
pub use recall::{KeyStats, KeyStore, TextId};
pub use repair::Repair;
pub use scope::{Scope, ScopeError};
pub use warm_tier::WarmStats;
