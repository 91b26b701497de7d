//! What is a model asked, and what does it give?
//!
//! A [`task`] is asked about a row, and a [`provider`] performs it; typed values are read out of one as
//! a [`record`], or as several ([`records`]). What a view that reads many
//! documents asks, a request, and its outcome are in [`answer`]; whoever answers is an
//! [`answer::AnswerModel`]. The model of this machine climbs a ladder of rungs ([`local`]),
//! from what is known of the answer [`before`], or goes on from that ([`append`]), over prompts that [`chat`] makes; a `remote` one is
//! asked over HTTP; a [`scripted`] one has no tensors. Calls run on the threads of an [`executor`]. An answer says
//! which passages it leans on ([`provenance`]) and how much ([`dependency`]): by attention, by its words
//! ([`lexical`]), or by what it would be without them ([`leave_one_out`]). What a change has to
//! do with it is guessed by [`pull`]. What a call costs in money is a [`cost`].
//!
//! # Invariants
//! - What was known before changes what an exact answer costs, never the answer.
//! - Text from documents and questions is never parsed as special tokens.
//!
//! Where fragments are kept is below, in the bank; the dataflow is above.

pub mod answer;
pub mod append;
pub mod before;
pub mod chat;
pub mod cost;
pub mod dependency;
pub mod embed;
pub mod executor;
pub mod leave_one_out;
pub mod lexical;
pub mod local;
pub mod passages_read;
pub mod patch;
pub mod provenance;
pub mod provider;
pub mod pull;
pub mod record;
pub mod records;
#[cfg(feature = "remote")]
pub mod remote;
pub mod scripted;
pub mod task;

pub use answer::{
    Answer, AnswerModel, AnswerRequest, AnswerText, CallError, CallProgress, Finish, Measured,
    Outcome, RemoteCall, Rung, Skip, Source, SubParagraph, Tolerance, Work,
};
pub use append::AppendLog;
pub use before::{Before, LayoutDelta, Written};
pub use cost::{Cost, Currency, Money, Prices};
pub use dependency::{Dependencies, Dependency, Evidence};
pub use embed::{Embed, embed_within};
pub use executor::{Attempt, Executor, Priority};
pub use local::{LatentPair, LatentReader, TensorModel, TextCodec};
pub use passages_read::PassagesRead;
pub use perennial_model::arithmetic::Arithmetic;
pub use perennial_model::cancel::Cancel;
pub use perennial_model::generation::DraftCheck;
pub use perennial_model::kv::coding::Coding;
pub use perennial_model::sampling::Sampling;
pub use provider::{Capabilities, Failure, Performed, Provider, TaskCall, is_address};
pub use pull::{Profile, Pull, Pulled};
pub use record::{Field, FieldType, Fields};
pub use records::{MAX_RECORDS, Records};
pub use task::{MAX_OUTPUT_TOKENS, Output, Task, TaskDigest};
