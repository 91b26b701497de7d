//! What is posted, for a fuzzer.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame};
use hyper::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use perennial_rows::{Column, Schema, Type};
use tokio::runtime::{Builder, Runtime};

use super::body::Posted;
use super::reply::Refusal;
use super::stream::{Others, Stream};
use super::token::Token;
use super::{body, guard};
use crate::SourceName;
use crate::fuzz::hold;
use crate::http_limits::HttpLimits;
use crate::unpacked::Packing;

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
}

/// A body that comes in these pieces.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// A body of lines: packed or not, for columns that are declared or not, whole or in two pieces.
pub fn posted(bytes: &[u8]) {
    let [how, at, sent @ ..] = bytes else { return };
    let packing = [Packing::None, Packing::Gzip, Packing::Zstd][usize::from(how & 3) % 3];
    let limits = HttpLimits {
        body: 64 << 10,
        line: 2 << 10,
        records: 64,
        ..HttpLimits::default()
    };
    let (stream, _queue) = Stream::new(SourceName::new("posts"), 1);
    let is_declared = how & 4 != 0;
    if is_declared {
        let columns = [
            ("key", Type::Text),
            ("text", Type::Text),
            ("n", Type::Integer),
            ("x", Type::Float),
            ("at", Type::Timestamp),
            ("v", Type::Vector),
            ("is", Type::Boolean),
            ("json", Type::Json),
        ];
        let others = match how & 8 {
            0 => Others::LeftOut,
            _ => Others::Refused,
        };
        let columns = columns.map(|(name, of)| Column::new(name, of));
        stream.declare(Schema::new(columns), others);
    }
    let read = |pieces: &[&[u8]]| -> Result<Posted, Refusal> {
        let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece));
        let mut body = Pieces(pieces.collect());
        RUNTIME
            .with(|runtime| runtime.block_on(body::read(&stream, 7, packing, &mut body, &limits)))
    };
    let whole = read(&[sent]);
    let (first, second) = sent.split_at(usize::from(*at).min(sent.len()));
    let in_pieces = read(&[first, second]);
    assert_eq!(format!("{whole:?}"), format!("{in_pieces:?}"));
    let Ok(Posted { batch, .. }) = whole else {
        return;
    };
    let n_lines = batch.changes.len() + batch.rejected.len();
    assert!((1..=limits.records).contains(&n_lines), "{n_lines} lines");
    for rejected in &batch.rejected {
        assert!(!rejected.to_string().is_empty());
    }
    if !is_declared {
        batch.changes.iter().for_each(hold);
    }
}

/// What names a request is read as it is written. How a body is packed is told by any value.
pub fn token(text: &str) {
    if let Some(token) = Token::parse(text) {
        assert_eq!(token.to_string(), text);
    }
    if let Ok(value) = HeaderValue::from_str(text) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, value);
        let _ = body::packing(&headers);
    }
}

/// What is taken for this machine is a number, or localhost: no name that somebody else may give to it.
pub fn host(text: &str) {
    if guard::is_loopback_host(text) {
        let text = text.to_ascii_lowercase();
        let name = text.rsplit_once(':').map_or(&*text, |(name, _)| name);
        let is_number = text
            .chars()
            .all(|c| c.is_ascii_hexdigit() || ":.[]".contains(c));
        assert!(
            is_number || name == "localhost" || text == "localhost",
            "{text}"
        );
    }
}
