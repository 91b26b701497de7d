//! Which changes does the body of a request ask for?
//!
//! The same lines as in a file of JSON lines (`json::record` has the format), read as they come.
//! Invariants: nothing is given before all of the body has come and is within its limits; what is
//! held is bounded by them.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes};
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use perennial_rows::Row;

use super::reply::Refusal;
use super::stream::{DeclaredColumns, Others, Stream};
use crate::declared::{fit, refused, undeclared, unknown};
use crate::http_limits::HttpLimits;
use crate::json::record::{Carrier, shown};
use crate::jsonl::lines::{Content, Line, Lines};
use crate::jsonl::{Place, read_line};
use crate::unpacked::Packing;
use crate::{Batch, Change, Offset, Record, Rejection, SourceName};

/// How much is unpacked at once, in bytes.
const CHUNK: usize = 64 << 10;
/// The largest window that a zstd frame may ask memory for, as a power of two: 16 MiB.
const ZSTD_WINDOW_LOG: u32 = 24;
/// For how long the rest of a refused body is read, so that its sender reads the refusal.
const LINGER: Duration = Duration::from_secs(2);

/// Columns that are left out, by name, of which no more are counted.
const NAMED_COLUMNS: usize = 100;

/// What a body holds.
#[derive(Debug)]
pub(super) struct Posted {
    /// Its changes, and what of it is refused.
    pub(super) batch: Batch,
    /// In how many records a column stands that is left out.
    pub(super) left_out: BTreeMap<String, usize>,
}

/// How a body is packed, by its `Content-Encoding`.
pub(super) fn packing(headers: &HeaderMap) -> Result<Packing, Refusal> {
    let mut packing = Packing::None;
    for value in headers.get_all(CONTENT_ENCODING) {
        for name in value.to_str().map_err(|_| Refusal::packing())?.split(',') {
            let name = name.trim().to_ascii_lowercase();
            packing = match (packing, &*name) {
                (packing, "" | "identity") => packing,
                (Packing::None, "gzip" | "x-gzip") => Packing::Gzip,
                (Packing::None, "zstd") => Packing::Zstd,
                _ => return Err(Refusal::packing()),
            };
        }
    }
    Ok(packing)
}

/// Reads a body to its end. The offsets of its records say their line; the request's number is
/// still to be said.
pub(super) async fn read<B: Body<Data = Bytes> + Unpin>(
    stream: &Stream,
    at_ms: i64,
    packing: Packing,
    body: &mut B,
    limits: &HttpLimits,
) -> Result<Posted, Refusal> {
    let mut reading = Reading {
        name: &stream.name,
        run: stream.run,
        declared: stream.declared(),
        at_ms,
        limits,
        lines: Lines::new(limits.line, 1, 0),
        n_bytes: 0,
        n_records: 0,
        batch: Batch::default(),
        left_out: BTreeMap::new(),
    };
    let arrival = tokio::time::timeout(limits.body_time, arrive(body, packing, &mut reading));
    let packed = arrival.await.map_err(|_| Refusal::slow())??;
    match packing {
        Packing::None => {}
        Packing::Gzip => unpack(MultiGzDecoder::new(&packed[..]), &mut reading).await?,
        Packing::Zstd => {
            let damaged = |error| damaged(&error);
            let mut decoder = zstd::Decoder::with_buffer(&packed[..]).map_err(damaged)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(damaged)?;
            unpack(decoder, &mut reading).await?;
        }
    }
    reading.end()
}

/// Takes the bytes of a body as they come. Returns those that are still packed.
async fn arrive<B: Body<Data = Bytes> + Unpin>(
    body: &mut B,
    packing: Packing,
    reading: &mut Reading<'_>,
) -> Result<Vec<u8>, Refusal> {
    let limit = reading.limits.body;
    let mut packed = Vec::new();
    while let Some(frame) = body.frame().await {
        // Its sender is gone, or breaks the rules of chunks: nobody may be there to read this.
        let frame = frame.map_err(|_| {
            let error = "the body was cut off, and nothing of it was applied";
            Refusal::bad(error, "send it again")
        })?;
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        match packing {
            Packing::None => reading.push(&bytes)?,
            _ if packed.len() + bytes.len() > limit => {
                return Err(Refusal::too_large("bytes", limit));
            }
            _ => packed.extend_from_slice(&bytes),
        }
    }
    Ok(packed)
}

async fn unpack(mut from: impl Read, reading: &mut Reading<'_>) -> Result<(), Refusal> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let n_bytes = from.read(&mut buffer).map_err(|error| damaged(&error))?;
        if n_bytes == 0 {
            return Ok(());
        }
        reading.push(&buffer[..n_bytes])?;
        // Other requests go on meanwhile.
        tokio::task::yield_now().await;
    }
}

fn damaged(error: &std::io::Error) -> Refusal {
    let error = format!("the body cannot be unpacked, and nothing of it was applied: {error}");
    Refusal::bad(error, "send all of what was packed, or send it as it is")
}

/// Reads what is left of a refused body for a while: a connection that is closed over unread bytes
/// takes the refusal along.
pub(super) fn discard<B>(mut body: B)
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Send,
{
    tokio::spawn(tokio::time::timeout(LINGER, async move {
        while let Some(Ok(_)) = body.frame().await {}
    }));
}

/// A body as far as it has come.
struct Reading<'a> {
    name: &'a SourceName,
    run: u64,
    /// Which columns the records are to have, where that is declared.
    declared: Option<&'a DeclaredColumns>,
    at_ms: i64,
    limits: &'a HttpLimits,
    lines: Lines,
    n_bytes: usize,
    /// Lines with something on them.
    n_records: usize,
    batch: Batch,
    left_out: BTreeMap<String, usize>,
}

impl Reading<'_> {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.n_bytes += bytes.len();
        if self.n_bytes > self.limits.body {
            return Err(Refusal::too_large("bytes", self.limits.body));
        }
        let Self {
            name,
            run,
            declared,
            at_ms,
            limits,
            lines,
            n_records,
            batch,
            left_out,
            ..
        } = self;
        let mut take = Take {
            name,
            run: *run,
            declared: *declared,
            at_ms: *at_ms,
            limits,
            n_records,
            batch,
            left_out,
        };
        lines.push(bytes, |line| take.line(line));
        self.check()
    }

    fn check(&self) -> Result<(), Refusal> {
        match self.n_records > self.limits.records {
            true => Err(Refusal::too_large("records", self.limits.records)),
            false => Ok(()),
        }
    }

    /// The last line may lack its line feed: the end of the body ends it, too.
    fn end(mut self) -> Result<Posted, Refusal> {
        let mut take = Take {
            name: self.name,
            run: self.run,
            declared: self.declared,
            at_ms: self.at_ms,
            limits: self.limits,
            n_records: &mut self.n_records,
            batch: &mut self.batch,
            left_out: &mut self.left_out,
        };
        if let Some(line) = self.lines.unfinished() {
            take.line(line);
        }
        self.check()?;
        if self.batch.is_empty() {
            let hint = "send one JSON object a line, such as {\"key\": \"k1\", \"text\": \"…\"}";
            return Err(Refusal::bad("the body has no records", hint));
        }
        Ok(Posted {
            batch: self.batch,
            left_out: self.left_out,
        })
    }
}

/// Where lines go.
struct Take<'a> {
    name: &'a SourceName,
    run: u64,
    /// Which columns the records are to have, where that is declared.
    declared: Option<&'a DeclaredColumns>,
    at_ms: i64,
    limits: &'a HttpLimits,
    n_records: &'a mut usize,
    batch: &'a mut Batch,
    left_out: &'a mut BTreeMap<String, usize>,
}

impl Take<'_> {
    fn line(&mut self, line: Line<'_>) {
        let is_blank = match line.content {
            Content::Bytes(bytes) => bytes.iter().all(u8::is_ascii_whitespace),
            Content::TooLong(_) => false,
        };
        *self.n_records += usize::from(!is_blank);
        // Past the limit the request is refused whole: what it holds need not be kept.
        if is_blank || *self.n_records > self.limits.records {
            return;
        }
        let offset = Offset::PostedLine {
            run: self.run,
            request: 0,
            line: line.number,
        };
        let place = Place {
            source: self.name,
            carrier: Carrier {
                at_ms: self.at_ms,
                offset: &offset,
                key: None,
                columns: &[],
                is_textless: self.declared.is_some_and(DeclaredColumns::are_textless),
                names: None,
            },
            limit: self.limits.line,
        };
        let n_before = self.batch.changes.len();
        read_line(place, line, self.batch);
        // Here, and not on its way to the engine, so that the reply names what is refused.
        if let (Some(declared), Some(Change::Upsert(record))) =
            (self.declared, self.batch.changes.get(n_before).cloned())
        {
            self.batch.changes.truncate(n_before);
            self.fit(declared, record);
        }
    }

    /// Takes a record with the columns that are declared.
    fn fit(&mut self, declared: &DeclaredColumns, record: Record) {
        match self.fitted(declared, &record.row) {
            Ok(row) => {
                let fitted = Record::new(record.key, row, record.offset);
                self.batch.changes.push(Change::Upsert(fitted));
            }
            Err(reason) => self.batch.rejected.push(refused(self.name, record, reason)),
        }
    }

    fn fitted(&mut self, declared: &DeclaredColumns, row: &Row) -> Result<Row, Rejection> {
        let schema = &declared.schema;
        for column in undeclared(schema, row) {
            match declared.others {
                Others::LeftOut => note(self.left_out, column),
                Others::Refused => return Err(unknown(schema, column)),
            }
        }
        fit(schema, row.clone())
    }
}

/// Counts a column that is left out of a record.
fn note(left_out: &mut BTreeMap<String, usize>, column: &str) {
    let name = shown(column);
    if let Some(n_records) = left_out.get_mut(&name) {
        *n_records += 1;
    } else if left_out.len() < NAMED_COLUMNS {
        left_out.insert(name, 1);
    }
}
