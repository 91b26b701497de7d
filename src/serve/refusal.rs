//! Why is a request refused, and what is to be done about it?

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::engine::Error;
use crate::sql::{Errors, Exceeded, SessionError};
use crate::state::StateError;

/// Why a request is refused. Nothing of it is carried out, unless it says what was.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    error: Box<str>,
    hint: Box<str>,
    /// What else the reply says.
    more: Map<String, Value>,
    header: Option<(HeaderName, &'static str)>,
}

/// What a refusal looks like.
#[derive(Serialize, ToSchema)]
pub(super) struct RefusalBody {
    /// What is wrong.
    #[schema(example = "there is no view `answrs`")]
    error: String,
    /// What to do.
    #[schema(example = "there are: answers")]
    hint: String,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        error: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            status,
            error: error.into().into(),
            hint: hint.into().into(),
            more: Map::new(),
            header: None,
        }
    }

    /// The same, which says this, too.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    fn header(self, name: HeaderName, value: &'static str) -> Self {
        Self {
            header: Some((name, value)),
            ..self
        }
    }

    pub(super) fn bad(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, hint)
    }

    pub(super) fn not_found(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error, hint)
    }

    pub(crate) fn unauthorized() -> Self {
        let error = "the bearer token is missing or unknown";
        let hint = "send the header `Authorization: Bearer TOKEN`";
        Self::new(StatusCode::UNAUTHORIZED, error, hint).header(WWW_AUTHENTICATE, "Bearer")
    }

    pub(super) fn forbidden(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error, hint)
    }

    pub(super) fn no_path() -> Self {
        let error = "there is nothing at this path";
        Self::not_found(error, "GET /v1/openapi.json tells what there is")
    }

    pub(super) fn method() -> Self {
        let error = "this path does not have that method";
        let hint = "GET /v1/openapi.json tells which it has";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, error, hint)
    }

    pub(super) fn too_large(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, what, hint)
    }

    pub(super) fn slow() -> Self {
        let error = "the request did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, error, "send it again")
    }

    pub(super) fn busy() -> Self {
        let error = "too much is under way at the moment, and nothing of this was carried out";
        let hint = "send it again in a while";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error, hint).header(RETRY_AFTER, "1")
    }

    pub(crate) fn ending() -> Self {
        let error = "the server is ending";
        let hint = "send it again once it is there again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error, hint).header(RETRY_AFTER, "5")
    }

    pub(super) fn often() -> Self {
        let error = "too many requests";
        let hint = "send fewer a second, or subscribe rather than ask again and again";
        Self::new(StatusCode::TOO_MANY_REQUESTS, error, hint).header(RETRY_AFTER, "1")
    }

    pub(super) fn gone(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, error, hint)
    }

    pub(super) fn conflict(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, error, hint)
    }

    pub(super) fn broken(error: impl Into<String>) -> Self {
        let hint = "see what the server said on its standard error";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error, hint)
    }

    /// What is not there at the moment.
    pub(super) fn unavailable(error: impl Into<String>, hint: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, error, hint).header(RETRY_AFTER, "1")
    }

    /// Arguments that are not understood.
    #[cfg(feature = "mcp")]
    pub(crate) fn of_arguments(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::bad(error, hint)
    }

    /// What is asked for is not there.
    #[cfg(feature = "mcp")]
    pub(crate) fn nothing_there(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::not_found(error, hint)
    }

    /// Who asks may not, for this.
    #[cfg(feature = "mcp")]
    pub(crate) fn not_reached(error: impl Into<String>) -> Self {
        Self::forbidden(error, "use one that does")
    }

    /// There is no engine, and none will be.
    #[cfg(feature = "mcp")]
    pub(crate) fn not_opened(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error, hint)
    }

    /// What was waited for did not come in time.
    #[cfg(feature = "mcp")]
    pub(crate) fn late(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::unavailable(error, hint)
    }

    /// Whoever asked wants it no more.
    #[cfg(feature = "mcp")]
    pub(crate) fn cancelled() -> Self {
        Self::bad("the call was cancelled", "call it again")
    }

    /// A client follows as much as it may.
    #[cfg(feature = "mcp")]
    pub(crate) fn too_many_followed(limit: usize) -> Self {
        let error = format!("{limit} resources are subscribed to already");
        Self::bad(error, "unsubscribe from one first")
    }

    /// A field of the header that says more.
    pub(super) fn header_field(&self) -> Option<&(HeaderName, &'static str)> {
        self.header.as_ref()
    }

    /// What programs tell it by, where it has such a word.
    pub(super) fn code(&self) -> Option<&str> {
        self.more.get("code")?.as_str()
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// What is wrong.
    pub fn error(&self) -> &str {
        &self.error
    }

    /// What to do.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl From<Errors> for Refusal {
    /// The first of them is told; all together are in `diagnostics`.
    fn from(errors: Errors) -> Self {
        let first = errors.faults().first();
        let said = first.map_or_else(|| errors.to_string(), |first| first.what.clone());
        // Where no advice stands beside it, it may stand in it.
        let (error, hint) = match first.and_then(|first| first.help.as_deref()) {
            Some(hint) => (&*said, hint),
            None => match what_and_todo(&said) {
                (error, "") => (error, "see docs/sql.md"),
                both => both,
            },
        };
        let mut refusal = Self::bad(error, hint);
        if let Some(first) = first {
            let at = first.span.start;
            refusal = refusal.with("line", at.line).with("column", at.column);
        }
        refusal.with("diagnostics", errors.to_string())
    }
}

impl From<SessionError> for Refusal {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Script(errors) => errors.into(),
            SessionError::Engine(error) => error.into(),
            SessionError::Exceeded(exceeded) => exceeded.into(),
            SessionError::Told(error) => Self::broken(error.to_string()),
        }
    }
}

impl From<Exceeded> for Refusal {
    fn from(exceeded: Exceeded) -> Self {
        let said = exceeded.to_string();
        let (what, todo) = what_and_todo(&said);
        match exceeded {
            Exceeded::Cancelled => Self::unavailable(what, todo),
            _ => Self::too_large(what, todo),
        }
    }
}

/// What an error says, and what to do: that stands behind the first semicolon, as people read it.
fn what_and_todo(said: &str) -> (&str, &str) {
    said.split_once("; ").unwrap_or((said, ""))
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let said = error.to_string();
        let (what, todo) = what_and_todo(&said);
        match &error {
            Error::UnknownStream { .. }
            | Error::UnknownView { .. }
            | Error::UnknownRelation { .. } => Self::not_found(what, todo),
            Error::Dropped => Self::not_found(what, "GET /v1/relations tells what there is"),
            Error::NotAnswers { .. } | Error::NotATable { .. } | Error::InUse { .. } => {
                Self::conflict(what, todo)
            }
            Error::State(StateError::NotInQuarantine { .. }) => Self::not_found(what, todo),
            Error::State(
                StateError::MendAtSource { .. }
                | StateError::NoContent { .. }
                | StateError::NoRecord { .. },
            ) => Self::bad(what, todo),
            Error::State(StateError::NotInHistory { .. }) => {
                Self::gone(what, "GET /v1/history tells which epochs there are")
            }
            Error::NoState => Self::bad(
                "that is of a state folder, and there is none",
                "start the server with --state FOLDER",
            ),
            Error::Stopped { .. } | Error::State(_) | Error::Backup(_) | Error::Recording(_) => {
                Self::broken(said)
            }
            _ => Self::bad(what, todo),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut object = Map::new();
        object.insert("error".to_owned(), String::from(self.error).into());
        object.insert("hint".to_owned(), String::from(self.hint).into());
        object.extend(self.more);
        let mut response = json_response(self.status, &Value::Object(object));
        if let Some((name, value)) = self.header {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// JSON as a response.
pub(super) fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            let mut response = Response::new(Body::from(bytes));
            *response.status_mut() = status;
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        // Texts, numbers and lists of them are JSON.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Any response, so that a browser takes it for nothing else than it is.
pub(super) async fn guarded(mut response: Response) -> Response {
    let name = HeaderName::from_static("x-content-type-options");
    let value = HeaderValue::from_static("nosniff");
    response.headers_mut().entry(name).or_insert(value);
    response
}

/// A reply of JSON.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        json_response(StatusCode::OK, &self.0)
    }
}
