//! What may any path answer, besides what its own description says?
//!
//! Who is not let in, asks too often or sends what cannot be read is refused before a handler sees the
//! request: such replies are described here, once for all.

use utoipa::Number;
use utoipa::openapi::path::{Operation, Parameter};
use utoipa::openapi::schema::{KnownFormat, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response};

use super::openai;

/// What comes event by event.
const STREAMS: [&str; 2] = ["text/event-stream", "application/x-ndjson"];

/// Adds to each operation what it may answer as others do, and says nothing of its own about.
pub(super) fn describe(api: &mut OpenApi) {
    for (path, item) in &mut api.paths.paths {
        let body = match openai::has(path) {
            true => "ApiErrorBody",
            false => "RefusalBody",
        };
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
            &mut item.patch,
        ];
        for operation in operations.into_iter().flatten() {
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    bound(parameter);
                }
            }
            for reply in operation.responses.responses.values_mut() {
                if let RefOr::T(reply) = reply {
                    open_streams(reply);
                }
            }
            for (status, description) in replies(operation) {
                let replies = &mut operation.responses.responses;
                replies
                    .entry(status.to_owned())
                    .or_insert_with(|| RefOr::T(refused(description, body)));
            }
        }
    }
}

/// The statuses of what may be refused before a handler sees it, or by any handler.
fn replies(operation: &Operation) -> Vec<(&'static str, &'static str)> {
    let mut replies = vec![
        ("403", "It may not be asked this by this token, or page"),
        ("429", "Too many requests"),
    ];
    // What says itself that no token is needed asks nothing of the engine that it does not tell of.
    if operation.security.is_none() {
        replies.extend([
            ("401", "The token is missing or unknown"),
            ("500", "The engine has ended"),
            ("503", "Too much is under way, or the server is ending"),
        ]);
    }
    let has_body = operation.request_body.is_some();
    if has_body
        || operation
            .parameters
            .as_ref()
            .is_some_and(|of| !of.is_empty())
    {
        replies.push(("400", "A parameter or the body is not understood"));
    }
    if has_body {
        replies.extend([
            ("408", "The body did not arrive in time"),
            ("413", "The body is too large"),
        ]);
    }
    replies
}

fn refused(description: &str, body: &str) -> Response {
    let mut response = Response::new(description);
    let content = Content::new(Some(Ref::from_schema_name(body)));
    let content_type = "application/json".to_owned();
    response.content.insert(content_type, RefOr::T(content));
    response
}

/// Says nothing of the form of a stream as a whole: it is taken for that of each event by who reads them.
fn open_streams(reply: &mut Response) {
    for (content_type, content) in &mut reply.content {
        if let RefOr::T(content) = content
            && STREAMS.contains(&&**content_type)
        {
            content.schema = None;
        }
    }
}

/// Says how large a number may be: 64 bits without a sign, where nothing else is said.
fn bound(parameter: &mut Parameter) {
    let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema else {
        return;
    };
    let is_integer = match &schema.schema_type {
        SchemaType::Type(of) => *of == Type::Integer,
        SchemaType::Array(all) => all.contains(&Type::Integer),
        SchemaType::AnyValue => false,
    };
    let is_unsigned = is_integer && schema.minimum.is_some();
    if !is_unsigned {
        return;
    }
    // The macros have no word for it.
    if schema.format == Some(SchemaFormat::KnownFormat(KnownFormat::Int64)) {
        schema.format = Some(SchemaFormat::Custom("uint64".to_owned()));
    }
    schema.maximum.get_or_insert(Number::from(u64::MAX));
}
