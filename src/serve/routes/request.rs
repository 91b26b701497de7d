//! What does a request say besides its path? Read with refusals in the form of all others.

use std::error::Error as _;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::super::refusal::Refusal;

/// The parameters of a request.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => {
                let reason = error
                    .source()
                    .map_or_else(|| error.to_string(), ToString::to_string);
                let error = format!("a parameter is not understood: {reason}");
                Err(Refusal::bad(
                    error,
                    "GET /v1/openapi.json tells which there are",
                ))
            }
        }
    }
}

/// The name in a path.
pub(crate) struct Named<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(_) => {
                let error = "what stands in the path is not understood";
                let hint = "write names as they are, and numbers in digits";
                Err(Refusal::bad(error, hint))
            }
        }
    }
}

/// How many are told: `usually` so many, where none is `asked` for, and `most` at the most.
pub(crate) fn limit(
    asked: Option<usize>,
    usually: usize,
    most: usize,
    hint: &str,
) -> Result<usize, Refusal> {
    match asked.unwrap_or(usually.min(most)) {
        limit if (1..=most).contains(&limit) => Ok(limit),
        _ => Err(Refusal::bad(format!("`limit` is from 1 to {most}"), hint)),
    }
}

/// A whole body, of at most so many bytes, that comes in time.
pub(crate) async fn body(body: Body, limit: usize, time: Duration) -> Result<Bytes, Refusal> {
    match timeout(time, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let mut cause = error.source();
            while let Some(of) = cause {
                if of.is::<LengthLimitError>() {
                    let error = format!("the body has more than {limit} bytes");
                    return Err(Refusal::too_large(error, "send less at a time"));
                }
                cause = of.source();
            }
            Err(Refusal::bad("the body was cut off", "send it again"))
        }
        Err(_) => Err(Refusal::slow()),
    }
}
