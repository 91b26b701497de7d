//! `POST /v1/memories/{memory}/parcel`: what a memory hands over, as one stream of bytes.
//!
//! Who asks says which fragments they have: these are only named, and what is missing is all that travels.
//! So a transfer that broke off is resumed by asking again. The parcel is packed on a thread of its own;
//! tensors wait in a file that nobody else can open until all of them are listed.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::Response;
use futures_util::stream;
use perennial_bank::FragmentId;
use perennial_bank::parcel::ParcelError;
use perennial_model::kv::coding::Coding;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::super::admission::Caller;
use super::super::refusal::{Refusal, RefusalBody};
use super::super::served::Served;
use super::super::tokens::Role;
use super::backup::Chunks;
use super::request::{self, Named};
use crate::memory::hand_over::{Export, HandOverError};
use crate::memory::{Memory, MemoryError};

/// Chunks that wait for the client.
const MAX_WAITING: usize = 4;

/// What is to be handed over.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Wanted {
    /// For whom: only what is granted to them. By default all that the memory has.
    #[serde(rename = "as")]
    reader: Option<String>,
    /// Of this namespace only.
    namespace: Option<String>,
    /// Ids of fragments that are there already, in hexadecimal digits: they are only named.
    have: Vec<String>,
    /// The entries alone.
    texts_only: bool,
    /// In fewer bytes, from which fragments come back nearly as they were.
    coding: Option<WantedCoding>,
}

/// How fragments are coded.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum WantedCoding {
    /// Keys in eight bits a channel, values in four bits a token.
    K8v4,
    /// Keys and values of neighbouring layers together, in a fourth of the bytes.
    T4,
    /// The same in an eighth.
    T8,
    /// Blocks of 32 in eight bits.
    Q8,
    /// Blocks of 32 in four bits.
    Q4,
}

impl From<WantedCoding> for Coding {
    fn from(wanted: WantedCoding) -> Self {
        match wanted {
            WantedCoding::K8v4 => Self::K8V4,
            WantedCoding::T4 => Self::T4,
            WantedCoding::T8 => Self::T8,
            WantedCoding::Q8 => Self::Q8Blocks,
            WantedCoding::Q4 => Self::Q4Blocks,
        }
    }
}

/// Packs what stands of a memory: entries, and the fragments of their texts that are missing.
#[utoipa::path(
    post,
    path = "/v1/memories/{memory}/parcel",
    tag = "engine",
    params(("memory" = String, Path, description = "A memory that statements declared")),
    request_body = Wanted,
    responses(
        (status = 200, description = "The parcel, for `perennial memory import`. One that does not end as \
          one was cut off", content((String = "application/octet-stream"))),
        (status = 400, description = "What is wanted is not understood", body = RefusalBody),
        (status = 404, description = "There is no such memory or namespace, or nothing in it that may be \
          read", body = RefusalBody),
        (status = 409, description = "The model of this server keeps no fragments here",
          body = RefusalBody),
        (status = 413, description = "The body is too large", body = RefusalBody),
        (status = 503, description = "Another parcel is being packed", body = RefusalBody),
    ),
)]
pub(crate) async fn parcel(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(memory): Named<String>,
    body: Body,
) -> Result<Response, Refusal> {
    // Before anything else is told to who has no right.
    caller.may(Role::Read)?;
    let limits = &served.limits;
    let bytes = request::body(body, limits.sql_body, limits.body_time).await?;
    let wanted: Wanted = match bytes.is_empty() {
        true => Wanted::default(),
        false => serde_json::from_slice(&bytes).map_err(|error| {
            let error = format!("the body is not understood: {error}");
            Refusal::bad(error, "send {\"as\": \"…\", \"have\": [\"…\"]}")
        })?,
    };
    // Whoever reaches the view of what a reader may read may have that handed over.
    let view = match &wanted.reader {
        None => memory.clone(),
        Some(reader) => Memory::named(&*memory).readable_by(reader),
    };
    caller.may_of(Role::Read, &view)?;
    let what = wanted.export();
    let Some(bank) = served.memory(&memory) else {
        let error = format!("there is no memory `{memory}`");
        return Err(Refusal::not_found(
            error,
            "SHOW MEMORIES lists those that there are",
        ));
    };
    let model = match wanted.texts_only {
        true => None,
        false => Some(
            served
                .engine()
                .runtime()
                .tensor_model()
                .cloned()
                .ok_or_else(|| {
                    let error = "the model of this server keeps no fragments here";
                    Refusal::conflict(error, "send {\"texts_only\": true}")
                })?,
        ),
    };
    let permit = served.begin_parcel().await?;
    let until = Instant::now() + served.limits.backup_time;
    let (chunks, mut waiting) = mpsc::channel(MAX_WAITING);
    let packed = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut out = Chunks::to(chunks.clone(), until);
        let packed = match tempfile::tempfile() {
            Ok(spool) => bank.export(&what, model.as_deref(), None, spool, &mut out),
            Err(error) => Err(ParcelError::from(error).into()),
        };
        if let Err(error) = &packed {
            // The connection is cut rather than ended, where anything was sent.
            let _ = chunks.blocking_send(Err(io::Error::other(error.to_string())));
        }
        packed
    });
    // What is refused is so before the first byte.
    let first: Bytes = match waiting.recv().await {
        Some(Ok(chunk)) => chunk,
        _ => {
            return Err(match packed.await {
                Ok(Err(error)) => refusal(&error),
                _ => Refusal::broken("the parcel could not be packed"),
            });
        }
    };
    let rest = stream::unfold((Some(first), waiting), |(first, mut waiting)| async move {
        let chunk: io::Result<Bytes> = match first {
            Some(first) => Ok(first),
            None => waiting.recv().await?,
        };
        Some((chunk, (None, waiting)))
    });
    let mut response = Response::new(Body::from_stream(rest));
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

impl Wanted {
    fn export(&self) -> Export {
        // What is no id names no fragment, and leaves none out.
        let have = self.have.iter().filter_map(|id| {
            let hash = blake3::Hash::from_hex(id).ok()?;
            Some(FragmentId::from_bytes(*hash.as_bytes()))
        });
        let have: Vec<FragmentId> = have.collect();
        let mut what = Export::now().without(have);
        if let Some(reader) = &self.reader {
            what = what.reader(reader);
        }
        if let Some(namespace) = &self.namespace {
            what = what.namespace(namespace);
        }
        match self.coding {
            Some(coding) => what.coded(coding.into()),
            None => what,
        }
    }
}

/// What is told of a parcel that is not packed.
fn refusal(error: &HandOverError) -> Refusal {
    let said = error.to_string();
    match error {
        HandOverError::Nothing | HandOverError::Memory(MemoryError::NoNamespace { .. }) => {
            Refusal::not_found(said, "RECALL … AS … tells what may be read")
        }
        HandOverError::Memory(MemoryError::Engine(_)) => Refusal::broken(said),
        HandOverError::Memory(_) => Refusal::bad(said, "name what is to be handed over"),
        _ => Refusal::broken(said),
    }
}
