//! Dataflow operators over language models: what turns deltas of documents into deltas
//! of answers.
//!
//! Documents are cut into passages ([`passage`]), the passages that one context needs are
//! selected ([`select`]) and laid out; a [`scope`] says what each may attend to, which
//! gives every fragment its [`id`]. Model calls happen only inside [`call`], the one
//! asynchronous operator; what is called is an [`answer::AnswerModel`]. Only ids and text
//! flow through the dataflow: tensors stay in the [`fragment_store`].

pub mod answer;
pub mod before;
pub mod call;
pub mod chat;
pub mod cold_tier;
pub mod dependency;
pub mod document;
pub mod embed;
pub mod executor;
pub mod fragment_store;
pub mod id;
pub mod live_layout;
pub mod passage;
pub mod patch;
pub mod provenance;
pub mod repair;
pub mod scope;
pub mod scripted;
pub mod select;
pub mod tensor_model;

pub use answer::{
    Answer, AnswerModel, AnswerRequest, AnswerText, CallError, CallProgress, Divergence, Finish,
    Latitude, Outcome, Rung, Source, SubParagraph, Work,
};
pub use before::{Before, LayoutDelta, Written};
pub use cold_tier::{ColdStats, ColdTier, ColdTierError};
pub use dependency::{Dependencies, Dependency};
pub use document::{ContextKey, Document, DocumentKey, LayoutPassage, Passage, PassageLayout};
pub use embed::Embed;
pub use executor::{Executor, Priority};
pub use fragment_store::{FragmentStore, References};
pub use id::{FragmentId, ModelIdentity, PassageId};
pub use live_layout::LiveLayout;
pub use passage::PassageSizes;
pub use perennial_model::cancel::Cancel;
pub use perennial_model::sampling::Sampling;
pub use repair::Repair;
pub use scope::{Scope, ScopeError};
pub use tensor_model::{TensorModel, TextCodec};
