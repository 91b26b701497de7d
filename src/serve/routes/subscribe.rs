//! `GET /v1/views/{view}/subscribe`: what a view says, then every change.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use futures_util::stream;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::super::admission::Caller;
use super::super::feed::{Event, EventId, Reader, SubscribeOptions};
use super::super::refusal::{Refusal, RefusalBody};
use super::super::served::Served;
use super::super::tokens::Role;
use super::request::{Named, Params};

/// Bytes that are written at once, as soon as there are so many.
const CHUNK: usize = 16 << 10;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How it is told.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct How {
    /// Whether what stands is told first.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    snapshot: Option<bool>,
    /// Whether it is told how far answers are, and epochs that begin.
    #[serde(default)]
    progress: Option<bool>,
    /// Whether answers are told before their epoch is complete, of a view that tells each.
    #[serde(default)]
    early: Option<bool>,
    /// Go on after this id.
    #[serde(default)]
    as_of: Option<String>,
    /// Only this key.
    #[serde(default)]
    key: Option<String>,
    /// `sse` or `ndjson`; else as `Accept` says.
    #[serde(default)]
    format: Option<Format>,
}

/// In which form events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Server-sent events.
    Sse,
    /// One JSON object a line.
    Ndjson,
}

/// Tells what stands, then every change.
#[utoipa::path(
    get,
    path = "/v1/views/{view}/subscribe",
    tag = "views",
    params(
        ("view" = String, Path, description = "A view"),
        How,
        ("Last-Event-ID" = Option<String>, Header, description = "Go on after this id"),
    ),
    responses(
        (status = 200, description = "Events. The last is `end`: its `code` is `dropped` (the view is there \
          no more), `failed` (the engine cannot go on), `server_ends` or `token` (it may not read the view any \
          more)", content(
            (String = "text/event-stream"),
            (String = "application/x-ndjson"),
        )),
        (status = 400, description = "A parameter is not understood", body = RefusalBody),
        (status = 404, description = "There is no such view", body = RefusalBody),
        (status = 409, description = "It is no view", body = RefusalBody),
    ),
)]
pub(crate) async fn subscribe(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(view): Named<String>,
    Params(how): Params<How>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    caller.may_of(Role::Read, &view)?;
    let format = how.format.unwrap_or_else(|| accepted(&headers));
    let options = SubscribeOptions {
        snapshot: how.snapshot.unwrap_or(true),
        progress: how.progress.unwrap_or(false),
        early: how.early.unwrap_or(true),
        as_of: as_of(how.as_of.as_deref(), &headers)?,
        key: how.key,
        question: None,
        heartbeat: served.limits.heartbeat,
        caller: Some(caller),
    };
    let reader = match served.subscribe(&view, options) {
        Ok(reader) => reader,
        Err(refusal) => return Err(no_view(&served, &view, refusal).await),
    };
    let chunks = stream::unfold(reader, move |mut reader| async move {
        let chunk = chunk(&mut reader, format).await?;
        Some((Ok::<_, Infallible>(chunk), reader))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    let content_type = match format {
        Format::Sse => "text/event-stream",
        Format::Ndjson => "application/x-ndjson",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that gather replies would tell nothing until there is much.
    let buffering = HeaderName::from_static("x-accel-buffering");
    headers.insert(buffering, HeaderValue::from_static("no"));
    Ok(response)
}

/// What can be told now, after waiting for something to tell.
async fn chunk(reader: &mut Reader, format: Format) -> Option<Bytes> {
    let mut text = String::new();
    let write = |event: &Event, text: &mut String| match format {
        Format::Sse => event.write_sse(text),
        Format::Ndjson => event.write_line(text),
    };
    write(&reader.next().await?, &mut text);
    while text.len() < CHUNK
        && let Some(event) = reader.next_ready()
    {
        write(&event, &mut text);
    }
    Some(Bytes::from(text))
}

fn accepted(headers: &HeaderMap) -> Format {
    let accepts = headers.get_all(ACCEPT).iter();
    let mut accepts = accepts.filter_map(|accept| accept.to_str().ok());
    match accepts.any(|accept| accept.contains("application/x-ndjson")) {
        true => Format::Ndjson,
        false => Format::Sse,
    }
}

/// Where a client goes on. What it says later counts: a browser repeats the address with which it began,
/// with the header that it has come to.
fn as_of(asked: Option<&str>, headers: &HeaderMap) -> Result<Option<EventId>, Refusal> {
    let last = headers.get(LAST_EVENT_ID).map(|last| last.to_str());
    let wrong = || {
        let error = "the id to go on after is none";
        Refusal::bad(error, "give one of a subscription as it was told, or none")
    };
    let given = match last {
        Some(Ok(last)) if !last.trim().is_empty() => Some(last),
        Some(Err(_)) => return Err(wrong()),
        _ => asked,
    };
    given
        .map(|id| EventId::parse(id).ok_or_else(wrong))
        .transpose()
}

/// Says that there is no such view; or that it is something else.
async fn no_view(served: &Arc<Served>, name: &str, refusal: Refusal) -> Refusal {
    let relations = served.ask(|engine| engine.relations()).await;
    let is_stream = relations.is_ok_and(|all| all.iter().any(|of| *of.name == *name));
    if !is_stream || served.feed(name).is_ok() {
        return refusal;
    }
    let error = format!("`{name}` is no view");
    let hint = format!("subscribe to a view of it: CREATE VIEW v AS SELECT * FROM {name}");
    Refusal::conflict(error, hint)
}
