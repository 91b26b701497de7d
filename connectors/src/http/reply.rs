//! What is a client told? JSON, and where something is refused, what to do next.

use std::borrow::Cow;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// A whole response.
pub(super) type Reply = Response<Full<Bytes>>;

/// A JSON object as a response.
pub(super) fn json(status: StatusCode, body: &Value) -> Reply {
    let mut text = body.to_string();
    text.push('\n');
    let mut reply = Response::new(Full::new(Bytes::from(text)));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    reply
}

/// Why a request is refused, and what to do about it. Nothing of it is applied.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: Cow<'static, str>,
    hint: Cow<'static, str>,
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        error: impl Into<Cow<'static, str>>,
        hint: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            error: error.into(),
            hint: hint.into(),
            header: None,
        }
    }

    fn with(self, name: HeaderName, value: &'static str) -> Self {
        Self {
            header: Some((name, value)),
            ..self
        }
    }

    pub(super) fn bad(error: impl Into<Cow<'static, str>>, hint: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, hint)
    }

    pub(super) fn unauthorized() -> Self {
        let hint = "send the header `Authorization: Bearer TOKEN`";
        let error = "the bearer token is missing or wrong";
        Self::new(StatusCode::UNAUTHORIZED, error, hint).with(WWW_AUTHENTICATE, "Bearer")
    }

    pub(super) fn foreign() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "without a bearer token, only programs on this machine are listened to: no web pages, \
             and no names of it but localhost",
            "address it as 127.0.0.1 and send no Origin; or have it started with a bearer token",
        )
    }

    pub(super) fn method(allowed: &'static str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "this path does not have that method",
            format!("use {allowed}"),
        )
        .with(ALLOW, allowed)
    }

    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "there is nothing at this path",
            "there are POST /v1/streams/STREAM, GET /v1/tokens/TOKEN and GET /healthz",
        )
    }

    pub(super) fn too_large(what: &str, limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the request has more than {limit} {what}, and nothing of it was applied"),
            "send it in several requests, one after the other",
        )
    }

    pub(super) fn packing() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body is packed in a way that is not known here",
            "send it as it is, or with Content-Encoding: gzip or zstd",
        )
        .with(ACCEPT_ENCODING, "gzip, zstd")
    }

    pub(super) fn slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time, and nothing of it was applied",
            "send it again, in smaller requests",
        )
    }

    pub(super) fn busy() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the engine is behind with what was posted before, and nothing of this was applied",
            "send it again in a while",
        )
        .with(RETRY_AFTER, "1")
    }

    pub(super) fn away() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the stream is not read now, and nothing of this was applied",
            "send it again in a while",
        )
        .with(RETRY_AFTER, "1")
    }

    pub(super) fn starting() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the engine is starting, and does not know yet what was stored before",
            "ask again in a while, or with ?wait=60",
        )
        .with(RETRY_AFTER, "1")
    }

    /// As a response.
    pub(super) fn reply(self) -> Reply {
        let mut reply = json(
            self.status,
            &json!({ "error": self.error, "hint": self.hint }),
        );
        if let Some((name, value)) = self.header {
            let value = HeaderValue::from_static(value);
            reply.headers_mut().insert(name, value);
        }
        reply
    }
}
