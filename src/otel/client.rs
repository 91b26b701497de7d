//! How are traces sent? By the HTTP client that is in the tree anyway.
//!
//! Requests go where they were told to: redirects are not followed, and no proxy of the environment is
//! used.

use std::time::Duration;

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use ureq::Agent;

/// Most bytes of a reply, which says next to nothing.
const MAX_REPLY: u64 = 1 << 20;
/// Most bytes of a reply's head.
const MAX_HEAD: usize = 64 << 10;

/// Sends on the thread that exports.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
}

impl Client {
    /// A client of requests that may take so long, reply included.
    pub(super) fn new(timeout: Duration) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .max_response_header_size(MAX_HEAD)
            .timeout_global(Some(timeout));
        Self {
            agent: config.build().new_agent(),
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let replied = self.agent.run(Request::from_parts(head, &body[..]))?;
        let (head, mut body) = replied.into_parts();
        let body = body.with_config().limit(MAX_REPLY).read_to_vec()?;
        Ok(Response::from_parts(head, body.into()))
    }
}
