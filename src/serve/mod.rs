//! The engine behind HTTP: what is asked of it from other processes, languages and browsers?
//!
//! A [`Served`] is a session of SQL with all that requests need beside: what each view says, kept so
//! that many readers can be told of it ([`Feed`]), and what takes in rows that are posted. A [`Server`]
//! accepts connections for it. `docs/serve.md` is the contract: every endpoint, by example.
//!
//! - `router`, `common_replies`: which paths are there, and what do programs know of them (OpenAPI)?
//! - `routes`: what does each of them do?
//! - `address`: where is what is cited?
//! - `openai`: what do clients of another interface get?
//! - `asking`: how is a view asked something, and which conversations are kept?
//! - `served`, `statements`, `feed`, `tables`: what of the engine is theirs to use?
//! - `overview`, `metrics`: what is the engine at, in numbers?
//! - `tokens`, `admission`, `rates`, `turns`: who may ask, how often, and how much at once?
//! - `console`: which pages does a browser get?
//! - `server`: who accepts connections, and when is one cut?
//!
//! # Invariants
//! - Async stops here: the engine is asked on threads that may wait, of which there are so many.
//! - Nothing grows with what clients do: [`Limits`] has all the limits.
//! - An id that a client was told names a state that outlives the process where anything does; going on
//!   from it loses no change and repeats none.
//! - Who may do what is asked by each route itself, of the `Caller` it gets.
//!
//! Deliberately absent: HTTP/2 (browsers open few streams to a loopback), cookies (so no page can act
//! for who has looked at another), and a memory of statements: the script is the configuration.

pub(crate) mod address;
mod admission;
mod asking;
mod common_replies;
pub mod console;
mod feed;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod json;
mod limits;
mod log;
mod metrics;
#[allow(
    unused_qualifications,
    reason = "the macros that describe parameters write them"
)]
mod openai;
mod overview;
mod rates;
mod refusal;
mod router;
#[allow(
    unused_qualifications,
    reason = "the macros that describe parameters write them"
)]
mod routes;
mod served;
mod server;
mod statements;
mod tables;
mod tls;
mod tokens;
mod turns;

#[cfg(feature = "mcp")]
pub(crate) use admission::{Asker, Caller};
#[cfg(feature = "mcp")]
pub(crate) use asking::{Answered, Askable, Question};
pub use feed::{Event, EventId, Feed, Reader, SubscribeOptions};
pub use limits::Limits;
pub use refusal::Refusal;
pub use router::{Besides, openapi, router};
#[cfg(feature = "mcp")]
pub(crate) use routes::views::Which;
pub use served::Served;
pub use server::{Server, ServerError, ServerOptions};
pub use statements::Executed;
pub use tokens::{Role, Tokens, TokensError};
