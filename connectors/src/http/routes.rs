//! What may be asked, and what is the answer?

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::{Body, Bytes};
use hyper::header::EXPECT;
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::body::Posted;
use super::reply::{Refusal, Reply};
use super::stream::{Fate, Stream, now_ms};
use super::token::Token;
use super::{body, guard, reply};
use crate::http_limits::HttpLimits;
use crate::unpacked::Packing;
use crate::{Batch, BearerToken, Offset, TraceParent};

/// Of what is refused in one request, no more is named in the reply.
const NAMED_REJECTIONS: usize = 100;
/// The unit in which bytes held are counted.
const HELD_UNIT: usize = 1 << 10;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) limits: HttpLimits,
    token: Option<BearerToken>,
    /// Whether who asks is told which streams there are. Another's server may let them reach some only.
    names_streams: bool,
    /// By name.
    streams: Mutex<BTreeMap<String, Arc<Stream>>>,
    /// What bodies may still be held, in units.
    held: Arc<Semaphore>,
}

impl Service {
    /// One of its own: whoever is let in may post to all streams.
    pub(super) fn guarded(limits: HttpLimits, token: Option<BearerToken>) -> Self {
        Self::new(limits, token, true)
    }

    /// One behind another's server, which says who may post where.
    pub(super) fn behind_a_server(limits: HttpLimits) -> Self {
        Self::new(limits, None, false)
    }

    fn new(limits: HttpLimits, token: Option<BearerToken>, names_streams: bool) -> Self {
        // The largest charge is a packed body and what it unpacks to.
        let least = 2 * units(limits.body);
        let held = (limits.held / HELD_UNIT).clamp(least, Semaphore::MAX_PERMITS);
        Self {
            limits,
            token,
            names_streams,
            streams: Mutex::default(),
            held: Arc::new(Semaphore::new(held)),
        }
    }

    /// Makes a stream known.
    pub(super) fn add(&self, stream: Arc<Stream>) {
        let name = stream.name.as_str().to_owned();
        self.with_streams(|streams| streams.insert(name, stream));
    }

    /// The stream is read no more: unless another has its name by now, nobody knows it.
    pub(super) fn remove(&self, stream: &Arc<Stream>) {
        self.with_streams(|streams| {
            let name = stream.name.as_str();
            if streams
                .get(name)
                .is_some_and(|known| Arc::ptr_eq(known, stream))
            {
                streams.remove(name);
            }
        });
    }

    /// Whether there is a stream of this name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.with_streams(|streams| streams.contains_key(name))
    }

    fn stream(&self, name: &str) -> Result<Arc<Stream>, Refusal> {
        self.with_streams(|streams| {
            streams.get(name).cloned().ok_or_else(|| {
                let names: Vec<&str> = streams.keys().map(String::as_str).collect();
                let hint = match self.names_streams {
                    true => format!("there are: {}", names.join(", ")),
                    false => "see that its name is right, and that it is there still".to_owned(),
                };
                let error = "there is no stream of this name to post to";
                Refusal::new(StatusCode::NOT_FOUND, error, hint)
            })
        })
    }

    fn with_streams<T>(&self, f: impl FnOnce(&mut BTreeMap<String, Arc<Stream>>) -> T) -> T {
        f(&mut self.streams.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for room for this many bytes.
    async fn hold(&self, n_bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let n_units = u32::try_from(units(n_bytes)).unwrap_or(u32::MAX);
        patiently(&self.limits, self.held.clone().acquire_many_owned(n_units)).await
    }
}

fn units(n_bytes: usize) -> usize {
    n_bytes / HELD_UNIT + 1
}

async fn patiently<T, E>(
    limits: &HttpLimits,
    room: impl Future<Output = Result<T, E>>,
) -> Result<T, Refusal> {
    match timeout(limits.patience, room).await {
        Ok(Ok(room)) => Ok(room),
        _ => Err(Refusal::busy()),
    }
}

/// Answers a request.
pub(super) async fn answer<B>(service: &Service, request: Request<B>) -> Reply
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Send,
{
    let (head, mut body) = request.into_parts();
    match route(service, &head, &mut body).await {
        Ok(reply) => reply,
        Err(refusal) => refuse(refusal, &head, body),
    }
}

/// Says why a request is refused.
fn refuse<B>(refusal: Refusal, head: &Parts, body: B) -> Reply
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Send,
{
    // Who asks first whether to send the body is told by the refusal.
    if !body.is_end_stream() && !head.headers.contains_key(EXPECT) {
        body::discard(body);
    }
    refusal.reply()
}

/// Takes records of a stream in, for who has admitted them.
pub(super) async fn take_in<B>(service: &Service, stream: &str, head: &Parts, mut body: B) -> Reply
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Send,
{
    let posted = async {
        let stream = service.stream(stream)?;
        post(service, &stream, head, &mut body).await
    };
    match posted.await {
        Ok(reply) => reply,
        Err(refusal) => refuse(refusal, head, body),
    }
}

/// Says whether a request is visible, to who was admitted.
pub(super) async fn told(service: &Service, token: &str, head: &Parts) -> Reply {
    match look(service, token, head).await {
        Ok(reply) => reply,
        Err(refusal) => refusal.reply(),
    }
}

async fn route<B: Body<Data = Bytes> + Unpin>(
    service: &Service,
    head: &Parts,
    body: &mut B,
) -> Result<Reply, Refusal> {
    let path = head.uri.path();
    if path == "/healthz" {
        only(&Method::GET, "GET", head)?;
        return Ok(reply::json(StatusCode::OK, &json!({ "status": "ok" })));
    }
    guard::admit(service.token.as_ref(), head)?;
    if let Some(name) = path.strip_prefix("/v1/streams/") {
        only(&Method::POST, "POST", head)?;
        let stream = service.stream(name)?;
        return post(service, &stream, head, body).await;
    }
    if let Some(token) = path.strip_prefix("/v1/tokens/") {
        only(&Method::GET, "GET", head)?;
        return look(service, token, head).await;
    }
    Err(Refusal::not_found())
}

fn only(method: &Method, name: &'static str, head: &Parts) -> Result<(), Refusal> {
    match head.method == *method {
        true => Ok(()),
        false => Err(Refusal::method(name)),
    }
}

/// Takes records in.
async fn post<B: Body<Data = Bytes> + Unpin>(
    service: &Service,
    stream: &Stream,
    head: &Parts,
    body: &mut B,
) -> Result<Reply, Refusal> {
    let limits = &service.limits;
    let wait = wait(head, limits)?;
    let packing = body::packing(&head.headers)?;
    let said = body.size_hint().exact();
    let len = said.and_then(|len| usize::try_from(len).ok());
    if said.is_some() && len.is_none_or(|len| len > limits.body) {
        return Err(Refusal::too_large("bytes", limits.body));
    }
    let sent = len.unwrap_or(limits.body);
    let held = service.hold(match packing {
        Packing::None => sent,
        Packing::Gzip | Packing::Zstd => sent + limits.body,
    });
    let held = held.await?;
    let Posted {
        mut batch,
        left_out,
    } = body::read(stream, now_ms(), packing, body, limits).await?;
    batch.trace = trace(head);
    let slot = patiently(limits, stream.slots.clone().acquire_owned()).await?;
    let (n_accepted, rejected) = (batch.changes.len(), rejected(&batch));
    let n_rejected = batch.rejected.len();
    let token = stream.post(batch, slot, held).ok_or_else(Refusal::away)?;
    if let Some(wait) = wait {
        // Whether it is there by then, its fate says.
        let _ = timeout(wait, stream.committed(token.request)).await;
    }
    let (is_visible, epoch) = match stream.fate(&token) {
        Fate::Visible(epoch) => (true, epoch),
        _ => (false, None),
    };
    let mut said = json!({
        "accepted": n_accepted,
        "rejected": rejected,
        "n_rejected": n_rejected,
        "left_out": named(&left_out),
        "token": token.to_string(),
        "visible": is_visible,
        "epoch": epoch,
    });
    let status = match (n_accepted, is_visible) {
        (0, _) => {
            said["error"] = none_accepted(n_rejected, &said["rejected"][0]).into();
            said["hint"] = "mend the lines that `rejected` names, and send them again".into();
            StatusCode::BAD_REQUEST
        }
        (_, true) => StatusCode::OK,
        (_, false) => StatusCode::ACCEPTED,
    };
    Ok(reply::json(status, &said))
}

/// Why nothing of a request was accepted, by the first of what was refused.
fn none_accepted(n_rejected: usize, first: &Value) -> String {
    let reason = first["reason"].as_str().unwrap_or_default();
    let place = match first["line"].as_u64() {
        Some(line) => format!("line {line}: "),
        None => String::new(),
    };
    match n_rejected {
        1 => format!("nothing was accepted: {place}{reason}"),
        n => format!("nothing of {n} records was accepted; {place}{reason}"),
    }
}

/// The columns that were left out, with the number of records that have them.
fn named(left_out: &BTreeMap<String, usize>) -> Vec<Value> {
    let named = left_out.iter();
    let named = named.map(|(column, n)| json!({ "column": column, "n_records": n }));
    named.collect()
}

/// Of which trace a request is a part. One that names several is of none.
fn trace(head: &Parts) -> Option<TraceParent> {
    let mut said = head.headers.get_all("traceparent").iter();
    let (Some(said), None) = (said.next(), said.next()) else {
        return None;
    };
    TraceParent::parse(said.to_str().ok()?)
}

/// What was refused, line by line.
fn rejected(batch: &Batch) -> Vec<Value> {
    let rejected = batch.rejected.iter().take(NAMED_REJECTIONS);
    let said = rejected.map(|rejected| {
        let line = match rejected.offset {
            Offset::PostedLine { line, .. } => Some(line),
            _ => None,
        };
        let reason = rejected.reason.to_string();
        json!({ "line": line, "key": rejected.key, "reason": reason })
    });
    said.collect()
}

/// Says whether a request is visible.
async fn look(service: &Service, text: &str, head: &Parts) -> Result<Reply, Refusal> {
    let wait = wait(head, &service.limits)?;
    let unknown = || {
        let hint = "tokens come with the reply to a POST, as `token`";
        let error = "no request has this token";
        Refusal::new(StatusCode::NOT_FOUND, error, hint)
    };
    let token = Token::parse(text).ok_or_else(unknown)?;
    let stream = service.stream(&token.stream)?;
    // Whether it came to that in time, its fate says.
    if let Some(wait) = wait {
        let _ = match stream.fate(&token) {
            Fate::Pending => timeout(wait, stream.committed(token.request)).await,
            Fate::Unsettled => timeout(wait, stream.begun()).await,
            _ => Ok(()),
        };
    }
    let gone = |error| {
        let hint = "send the records again: one that is there already changes nothing";
        Err(Refusal::new(StatusCode::GONE, error, hint))
    };
    let (is_visible, epoch) = match stream.fate(&token) {
        Fate::Visible(epoch) => (true, epoch),
        Fate::Pending => (false, None),
        Fate::Lost => return gone("the request was lost: the process ended before it was stored"),
        Fate::Forgotten => {
            return gone("the request is of an earlier process, and not known any more");
        }
        Fate::Unknown => return Err(unknown()),
        Fate::Unsettled => return Err(Refusal::starting()),
    };
    let said = json!({ "visible": is_visible, "epoch": epoch });
    Ok(reply::json(StatusCode::OK, &said))
}

/// How long a request asks to wait: `?wait=SECONDS`.
fn wait(head: &Parts, limits: &HttpLimits) -> Result<Option<Duration>, Refusal> {
    const HINT: &str = "there is wait=SECONDS, a whole number";
    let mut wait = None;
    let query = head.uri.query().unwrap_or_default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name != "wait" {
            return Err(Refusal::bad("a parameter is not known", HINT));
        }
        let seconds: u64 = value
            .parse()
            .map_err(|_| Refusal::bad("`wait` is not a number of seconds", HINT))?;
        wait = Some(Duration::from_secs(seconds).min(limits.wait));
    }
    Ok(wait)
}
