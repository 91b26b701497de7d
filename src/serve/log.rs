//! Which requests are events of the log?
//!
//! All of them, at the level debug: method, path, status, and how long it took to begin the reply. What stands
//! behind the question mark is left out, and so are heads and bodies: they hold keys, texts and tokens.

use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Level, debug, enabled};

use super::json::milliseconds;

/// What the events of a server are of.
const TARGET: &str = "perennial::serve";

/// Tells a request once its reply begins.
pub(super) async fn log(request: Request, next: Next) -> Response {
    if !enabled!(target: TARGET, Level::DEBUG) {
        return next.run(request).await;
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let began = Instant::now();
    let response = next.run(request).await;
    debug!(
        target: TARGET,
        method = method.as_str(),
        path,
        status = response.status().as_u16(),
        elapsed_ms = milliseconds(began.elapsed()),
        "a request"
    );
    response
}
