//! What do clients of OpenAI's interface get?
//!
//! An unchanged client has an address and the name of a model. Here a model is a view: the conversation is
//! asked of it ([`asking`](super::asking)), and what the view says is the reply, with the documents that
//! it leans on as annotations.
//!
//! - `chat`: a conversation, and the reply to it, whole or as it is written
//! - `messages`: what does the view read of a conversation?
//! - `parameters`: what is obeyed, left unheeded, or refused by name?
//! - `embeddings`, `models`, `error`
//!
//! # Invariants
//! - What cannot be obeyed, and would change the reply, is refused by its name.
//! - Refusals have the form that these clients read.

mod chat;
mod embeddings;
mod error;
#[cfg(feature = "fuzz")]
pub(super) mod fuzz;
mod messages;
mod models;
mod parameters;

use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::refusal::Refusal;
use super::served::Served;
use error::ApiError;

/// The paths of this interface.
const PATHS: [&str; 3] = ["/v1/chat/completions", "/v1/embeddings", "/v1/models"];

/// The routes, with their descriptions.
pub(super) fn described() -> OpenApiRouter<Arc<Served>> {
    OpenApiRouter::new()
        .routes(routes!(models::list_models))
        .routes(routes!(models::one_model))
        .routes(routes!(chat::complete_chat))
        .routes(routes!(embeddings::embed_texts))
}

/// Whether a path is one of this interface.
pub(super) fn has(path: &str) -> bool {
    let is_of = |of: &&str| {
        let rest = path.strip_prefix(*of);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    PATHS.iter().any(is_of)
}

/// A refusal, in the form that is read by clients of this path.
pub(super) fn refused(path: &str, refusal: Refusal) -> Response {
    match has(path) {
        true => ApiError::from(refusal).into_response(),
        false => refusal.into_response(),
    }
}
