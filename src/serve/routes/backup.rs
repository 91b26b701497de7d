//! `POST /v1/backup`: all that the state folder holds, as one stream of bytes.
//!
//! Nothing of the request is a path, and nothing is written here: the backup is the reply. It is read on a
//! thread of its own as fast as the client takes it, from a snapshot, while the engine goes on.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::Response;
use futures_util::stream;
use tokio::sync::mpsc;

use super::super::admission::Caller;
use super::super::refusal::{Refusal, RefusalBody};
use super::super::served::Served;
use super::super::tokens::Role;

/// Bytes that are sent at once.
const CHUNK: usize = 64 << 10;
/// Chunks that wait for the client.
const MAX_WAITING: usize = 4;

/// Tells all that the state folder holds, of one moment.
#[utoipa::path(
    post,
    path = "/v1/backup",
    tag = "engine",
    responses(
        (status = 200, description = "The backup, for `perennial restore`. One that does not end with its \
          digest was cut off, and is refused there", content((String = "application/octet-stream"))),
        (status = 400, description = "There is no state folder", body = RefusalBody),
        (status = 503, description = "Another backup is being taken", body = RefusalBody),
    ),
)]
pub(crate) async fn backup(
    State(served): State<Arc<Served>>,
    caller: Caller,
) -> Result<Response, Refusal> {
    caller.may_of_all(Role::Admin)?;
    let (backup, permit) = served.begin_backup().await?;
    let until = Instant::now() + served.limits.backup_time;
    let name = match backup.epoch() {
        Some(epoch) => format!("attachment; filename=\"perennial-{epoch}.backup\""),
        None => "attachment; filename=\"perennial.backup\"".to_owned(),
    };
    let (chunks, waiting) = mpsc::channel(MAX_WAITING);
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let out = Chunks::to(chunks.clone(), until);
        if let Err(error) = backup.write_to(out) {
            // The connection is cut rather than ended. Nobody listens if it is cut already.
            let _ = chunks.blocking_send(Err(io::Error::other(error)));
        }
    });
    let body = stream::unfold(waiting, |mut waiting| async move {
        let chunk: io::Result<Bytes> = waiting.recv().await?;
        Some((chunk, waiting))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert(CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// What is written becomes chunks of a reply.
pub(super) struct Chunks {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
    /// When it is given up.
    until: Instant,
}

impl Chunks {
    /// To who takes the reply, given up at `until`.
    pub(super) fn to(chunks: mpsc::Sender<io::Result<Bytes>>, until: Instant) -> Self {
        Self {
            chunks,
            buffer: Vec::with_capacity(CHUNK),
            until,
        }
    }

    fn send(&mut self) -> io::Result<()> {
        if Instant::now() > self.until {
            let error = "the client did not take it in time";
            return Err(io::Error::new(io::ErrorKind::TimedOut, error));
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        let sent = self.chunks.blocking_send(Ok(Bytes::from(chunk)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..n]);
        if self.buffer.len() == CHUNK {
            self.send()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.buffer.is_empty() {
            true => Ok(()),
            false => self.send(),
        }
    }
}
