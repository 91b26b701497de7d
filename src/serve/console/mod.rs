//! The console: which pages does a browser get, to look at views and change what they read?
//!
//! Files of `assets/`, as they stand there, within the program: no build step, and nothing beside the
//! program to be lost. They speak the interface of `docs/serve.md` like any client, so the server has
//! nothing that only they know.
//!
//! # Invariants
//! - What a browser runs comes from here: `POLICY` forbids scripts within pages, other hosts, being
//!   framed, and making markup of text.
//! - The files hold nothing of the engine, so they are given to whoever reaches the server. What they ask
//!   for takes a token where there are tokens.
//!
//! Deliberately absent: files of a folder on disk, so that no path of a request reaches a file system.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::refusal::Refusal;

/// Where the files are, beside the page itself at `/`.
const FILES: &str = "/console/";

/// What a page may do: run the scripts of this server, and ask this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// The page at `/`.
const PAGE: &str = "index.html";

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("assets/", $path)) as &[u8])),*]
    };
}

/// Paths below `assets/` and what stands there.
const ASSETS: &[(&str, &[u8])] = files![
    "app.js",
    "base.css",
    "frame.css",
    "frame/banner.js",
    "frame/dialog.js",
    "frame/help_dialog.js",
    "frame/router.js",
    "frame/shell.js",
    "frame/shortcuts.js",
    "frame/theme.js",
    "frame/token_dialog.js",
    "icon.svg",
    "index.html",
    "pages.css",
    "pages/operations.js",
    "pages/quarantine.js",
    "pages/sql.js",
    "pages/try.js",
    "pages/view.js",
    "pages/view_answers.js",
    "pages/view_attention.js",
    "pages/view_plan.js",
    "pages/view_rows.js",
    "pages/view_timeline.js",
    "pages/views.js",
    "parts/answer_card.js",
    "parts/charts.js",
    "parts/empty.js",
    "parts/epoch_line.js",
    "parts/failures.js",
    "parts/heat_map.js",
    "parts/lineage.js",
    "parts/live_view.js",
    "parts/page_title.js",
    "parts/pager.js",
    "parts/plan_graph.js",
    "parts/row_table.js",
    "parts/rung_badge.js",
    "parts/told.js",
    "server/connection.js",
    "server/observed.js",
    "server/polling.js",
    "server/requests.js",
    "server/subscription.js",
    "server/view_state.js",
    "vendor/LICENSES.txt",
    "vendor/dagre.js",
    "vendor/preact.js",
    "vendor/uplot.css",
    "vendor/uplot.js",
    "words/sentences.js",
    "words/word_diff.js",
    "words/wording.js",
];

/// A file, ready to be sent.
struct Prepared {
    path: &'static str,
    media_type: &'static str,
    plain: &'static [u8],
    /// Packed by gzip; none where that is no shorter.
    packed: Option<Vec<u8>>,
    /// Weak, since it names both forms.
    tag: String,
}

/// All files, packed and named once.
static PREPARED: LazyLock<Vec<Prepared>> = LazyLock::new(|| {
    ASSETS
        .iter()
        .map(|(path, plain)| prepare(path, plain))
        .collect()
});

fn prepare(path: &'static str, plain: &'static [u8]) -> Prepared {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let packed = encoder.write_all(plain).and_then(|()| encoder.finish());
    Prepared {
        path,
        media_type: media_type(path),
        plain,
        packed: packed.ok().filter(|packed| packed.len() < plain.len()),
        tag: format!("W/\"{}\"", &blake3::hash(plain).to_hex()[..32]),
    }
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

/// The pages, to be served without a token (see [`Besides::pages`](super::Besides)).
pub fn pages() -> Router {
    Router::new()
        .route("/", get(async |headers: HeaderMap| reply(PAGE, &headers)))
        .route(
            &format!("{FILES}{{*path}}"),
            get(async |Path(path): Path<String>, headers: HeaderMap| reply(&path, &headers)),
        )
}

/// The file called `path`, or that it has not changed, or that there is none.
fn reply(path: &str, headers: &HeaderMap) -> Response {
    let found = PREPARED.binary_search_by(|file| file.path.cmp(path));
    let Ok(file) = found.map(|at| &PREPARED[at]) else {
        return Refusal::no_path().into_response();
    };
    let packed = file.packed.as_deref().filter(|_| takes_gzip(headers));
    let mut response = match is_known(headers, &file.tag) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Body::from(packed.unwrap_or(file.plain)).into_response(),
    };
    let is_sent = response.status() == StatusCode::OK;
    let told = response.headers_mut();
    told.insert(CONTENT_TYPE, HeaderValue::from_static(file.media_type));
    told.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    told.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    told.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Asked again each time, so that a new program's pages are never mixed with an old one's.
    told.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    told.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Ok(tag) = HeaderValue::from_str(&file.tag) {
        told.insert(ETAG, tag);
    }
    if is_sent && packed.is_some() {
        told.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Whether whoever asks can unpack gzip, and does not refuse it by `q=0`.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let told = headers.get_all(ACCEPT_ENCODING).iter();
    let mut codings = told
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=");
        let is_refused = weight.is_some_and(|q| q.parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

/// Whether whoever asks has the file already.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let told = headers.get_all(IF_NONE_MATCH).iter();
    let mut tags = told
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tags.any(|one| one.trim() == "*" || one.trim() == tag)
}

#[cfg(test)]
mod tests;
