//! In which form are refusals read by these clients?

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::super::refusal::{Refusal, json_response};

/// A refusal, in their form.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: Box<str>,
    /// The parameter that is to blame.
    parameter: Option<Box<str>>,
    code: Option<Box<str>>,
    header: Option<(HeaderName, &'static str)>,
}

/// What a refusal looks like.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "it describes what another writes")]
pub(super) struct ApiErrorBody {
    error: ApiErrorJson,
}

/// What is wrong.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiError)]
struct ApiErrorJson {
    /// What is wrong, and what to do.
    #[schema(example = "there is no model `answrs`; there are: answers")]
    message: String,
    /// `invalid_request_error`, `authentication_error`, `permission_error`, `rate_limit_error` or
    /// `server_error`.
    #[schema(example = "invalid_request_error")]
    r#type: String,
    /// The parameter that is to blame.
    #[schema(example = "model")]
    param: Option<String>,
    /// What programs tell it by.
    #[schema(example = "model_not_found")]
    code: Option<String>,
}

impl ApiError {
    /// A parameter that is not understood, or not obeyed.
    pub(super) fn of_parameter(
        parameter: impl Into<String>,
        code: &str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into().into(),
            parameter: Some(parameter.into().into()),
            code: Some(code.into()),
            header: None,
        }
    }

    /// A parameter whose value is none.
    pub(super) fn invalid(parameter: impl Into<String>, message: impl Into<String>) -> Self {
        Self::of_parameter(parameter, "invalid_value", message)
    }

    /// A model that is not there, or not for who asks.
    pub(super) fn no_model(name: &str, hint: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            ..Self::of_parameter(
                "model",
                "model_not_found",
                format!("there is no model `{name}`; {hint}"),
            )
        }
    }

    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// As it is written, in a reply or in the middle of one.
    pub(super) fn json(&self) -> serde_json::Value {
        let error = ApiErrorJson {
            message: self.message.to_string(),
            r#type: self.kind().to_owned(),
            param: self.parameter.as_deref().map(str::to_owned),
            code: self.code.as_deref().map(str::to_owned),
        };
        json!({ "error": error })
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let message = match refusal.hint() {
            "" => refusal.error().to_owned(),
            hint => format!("{}; {hint}", refusal.error()),
        };
        let code = refusal.code().map(Box::from);
        let code =
            code.or_else(|| (status == StatusCode::UNAUTHORIZED).then(|| "invalid_api_key".into()));
        Self {
            status,
            message: message.into(),
            parameter: None,
            code,
            header: refusal.header_field().cloned(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, &self.json());
        if let Some((name, value)) = self.header {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_what_its_header_says() {
        for (refusal, name, value) in [
            (Refusal::busy(), "retry-after", Some("1")),
            (Refusal::ending(), "retry-after", Some("5")),
            (Refusal::unauthorized(), "www-authenticate", Some("Bearer")),
            (Refusal::bad("it is wrong", "mend it"), "retry-after", None),
        ] {
            let response = ApiError::from(refusal).into_response();
            let field = response.headers().get(name);
            assert_eq!(field.and_then(|value| value.to_str().ok()), value);
        }
    }
}
