//! What views say as requests to somebody's server.
//!
//! ```json
//! {"origin":"00f1…","view":"answers","epoch":7,"part":1,"parts":1,"rows":[{"key":"q1",…}]}
//! ```
//! Each delivery is posted in parts of bounded size, one after the other; `rows` are those of
//! [`Delivery::row_json`]. Any status from 200 to 299 says that the receiver has the part for
//! good; with any other, or none in time, the delivery is tried again, and then parts that were
//! taken may come once more after a restart. So each request carries
//!
//! | header | value |
//! | --- | --- |
//! | `idempotency-key` | names the part: `ORIGIN-VIEW-EPOCH-PART-DIGEST` |
//! | `webhook-id` | the same |
//! | `webhook-timestamp` | of this attempt, seconds since 1970 |
//! | `webhook-signature` | where there is a secret: `v1,` and HMAC-SHA256 of `ID.TIMESTAMP.BODY` |
//!
//! as [Standard Webhooks](https://www.standardwebhooks.com) has it: a receiver that skips keys it
//! has seen applies each part once. The digest is of the body, for parts of one epoch may be cut
//! anew where rows were taken out in between: another body has another key.
//!
//! Where an engine goes back in time, its first delivery says all that stands, under an origin of its own,
//! and has `"replaces":["00f0…"]` beside: what the receiver holds of the view under these origins, and is
//! not told now, is gone.
//!
//! Redirects are not followed, and no proxy of the environment is used: rows go where they were
//! told to, or nowhere.

use std::collections::HashSet;
use std::fmt;
use std::io::Read as _;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crossbeam_channel::select;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::percent_decode_str;
use serde_json::json;
use sha2::Sha256;
use ureq::Agent;
use ureq::http::{Response, Uri};

use super::{Delivery, Refusal, Replaced, Sink, origin_text};
use crate::excerpt::prefix;
use crate::{Error, StopFlag};

/// Rows of one request come to no more than this many bytes, unless it is one row.
const PART_BYTES: usize = 1 << 20;
/// How long a receiver may take for one request, in all.
const PATIENCE: Duration = Duration::from_secs(30);
/// The shortest secret, in bytes.
const SECRET_MIN: usize = 16;
/// How much of an answer that is no success is shown, in bytes.
const SHOWN_LIMIT: usize = 200;
/// How much of an answer is read, in bytes, so that the connection can be used again.
const READ_LIMIT: u64 = 16 << 10;

/// A URL that answers or rows are posted to.
///
/// ```
/// use perennial_connectors::{Sink as _, Webhook};
///
/// # fn main() -> Result<(), perennial_connectors::Error> {
/// let sink = Webhook::open("https://robot:hunter2@example.com/answers")?
///     .secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
/// assert_eq!(sink.name(), "https://example.com/answers");
/// assert!(Webhook::open("ftp://example.com").is_err());
/// # Ok(())
/// # }
/// ```
pub struct Webhook {
    /// Without what may be a password.
    name: String,
    /// Without user and password.
    url: String,
    /// Of the user and password, if the URL has them.
    authorization: Option<String>,
    secret: Option<Vec<u8>>,
    /// In bytes.
    part_bytes: usize,
    patience: Duration,
    agent: Agent,
    /// Keys of parts of the delivery in hand that the receiver has.
    taken: HashSet<String>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Webhook {
    /// Posts to this URL, `http` or `https`. A user and password in it are sent as basic
    /// authorization. Its name as a sink is the URL without them, and with a digest in the place
    /// of its query, which may hold a key.
    ///
    /// # Errors
    /// [`Error::WebhookUrl`] for what is no such URL.
    pub fn open(url: &str) -> Result<Self, Error> {
        let wrong = |reason| Error::WebhookUrl { reason };
        let uri: Uri = url
            .parse()
            .map_err(|_| wrong("it cannot be read as a URL"))?;
        let scheme = match uri.scheme_str() {
            Some("https") => "https",
            Some("http") => "http",
            _ => return Err(wrong("it begins with neither https:// nor http://")),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        if uri.host().is_none_or(str::is_empty) {
            return Err(wrong("it names no host"));
        }
        let decoded = user.map(|user| percent_decode_str(user).collect::<Vec<u8>>());
        let authorization = decoded.map(|user| {
            let colon = if user.contains(&b':') { "" } else { ":" };
            format!(
                "Basic {}",
                BASE64.encode([&user, colon.as_bytes()].concat())
            )
        });
        let path = uri.path();
        let (query, shown_query) = match uri.query() {
            Some(query) => {
                let digest = blake3::hash(query.as_bytes()).to_hex();
                (format!("?{query}"), format!("?…{}", &digest[..8]))
            }
            None => (String::new(), String::new()),
        };
        Ok(Self {
            name: format!("{scheme}://{place}{path}{shown_query}"),
            url: format!("{scheme}://{place}{path}{query}"),
            authorization,
            secret: None,
            part_bytes: PART_BYTES,
            patience: PATIENCE,
            agent: agent(PATIENCE),
            taken: HashSet::new(),
        })
    }

    /// Signs each request with this secret: `whsec_` and base64, as Standard Webhooks has it, or
    /// any other text as it stands, without blanks around it.
    ///
    /// # Errors
    /// [`Error::Secret`] for one that is under 16 bytes, or no base64.
    pub fn secret(mut self, text: &str) -> Result<Self, Error> {
        let what = "the secret of the webhook";
        let text = text.trim();
        let secret = match text.strip_prefix("whsec_") {
            Some(encoded) => BASE64.decode(encoded).map_err(|_| Error::Secret {
                what,
                reason: "what stands behind whsec_ is not base64".to_owned(),
            })?,
            None => text.as_bytes().to_vec(),
        };
        if secret.len() < SECRET_MIN {
            let reason = format!("{} bytes long, under {SECRET_MIN}", secret.len());
            return Err(Error::Secret { what, reason });
        }
        self.secret = Some(secret);
        Ok(self)
    }

    /// The most bytes of rows in one request, unless it is one row. By default 1 MiB.
    #[must_use]
    pub fn part_bytes(mut self, bytes: usize) -> Self {
        self.part_bytes = bytes;
        self
    }

    /// How long a receiver may take for one request, in all. By default 30 seconds.
    #[must_use]
    pub fn patience(mut self, time: Duration) -> Self {
        self.patience = time;
        self.agent = agent(time);
        self
    }

    fn failed(&self, said: impl fmt::Display, retry_after: Option<Duration>) -> Error {
        Error::Webhook {
            reason: format!("{}: {said}", self.name),
            retry_after,
        }
    }

    /// What came of an answer that is no success.
    fn refused(&self, said: &Said) -> Error {
        // Who says when to come again will take it then.
        let refusal = match said.retry_after {
            None => Refusal::by_status(said.status),
            Some(_) => None,
        };
        match refusal {
            None => self.failed(&said.words, said.retry_after),
            Some(refusal) => Error::Refused {
                reason: format!("{}: {}", self.name, said.words),
                refusal,
                rows: None,
            },
        }
    }

    /// The request of one part, to be sent from another thread.
    fn attempt(
        &self,
        key: &str,
        body: Vec<u8>,
    ) -> impl FnOnce() -> Result<Said, ureq::Error> + Send + use<> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        let at = at.map_or(0, |since| since.as_secs()).to_string();
        let mut request = self.agent.post(&self.url);
        let mut fields = vec![
            ("content-type", "application/json".to_owned()),
            ("idempotency-key", key.to_owned()),
            ("webhook-id", key.to_owned()),
        ];
        if let Some(secret) = &self.secret {
            let signature = format!("v1,{}", signature(secret, key, &at, &body));
            fields.push(("webhook-signature", signature));
        }
        fields.push(("webhook-timestamp", at));
        fields.extend(self.authorization.clone().map(|of| ("authorization", of)));
        for (name, value) in fields {
            request = request.header(name, value);
        }
        move || request.send(&body[..]).map(Said::of)
    }

    fn post(&self, key: &str, body: Vec<u8>, stop: &StopFlag) -> Result<(), Error> {
        let attempt = self.attempt(key, body);
        let (sender, receiver) = crossbeam_channel::bounded(1);
        // Beside this thread, so that the stop flag is heard. One that is not waited for any more
        // ends by itself when the patience does.
        let spawned = std::thread::Builder::new()
            .name("perennial-webhook".to_owned())
            .spawn(move || {
                // Nobody listens any more if the sink was stopped.
                let _ = sender.send(attempt());
            });
        spawned.map_err(|error| self.failed(error, None))?;
        let said = select! {
            recv(receiver) -> said => said,
            recv(stop.signal()) -> _ => return Err(self.failed("stopped", None)),
        };
        match said {
            Ok(Ok(said)) if said.is_success => Ok(()),
            Ok(Ok(said)) => Err(self.refused(&said)),
            Ok(Err(error)) => Err(self.failed(error, None)),
            Err(_) => Err(self.failed("the request ended without a word", None)),
        }
    }
}

impl Sink for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn deliver(&mut self, delivery: &Delivery, stop: &StopFlag) -> Result<(), Error> {
        self.post_parts(delivery, &[], stop)
    }

    fn replace(
        &mut self,
        delivery: &Delivery,
        former: &[u64],
        stop: &StopFlag,
    ) -> Result<Replaced, Error> {
        self.post_parts(delivery, former, stop)?;
        Ok(Replaced::Unseen)
    }
}

impl Webhook {
    /// Posts a delivery, which replaces what these origins told.
    fn post_parts(
        &mut self,
        delivery: &Delivery,
        former: &[u64],
        stop: &StopFlag,
    ) -> Result<(), Error> {
        let parts = parts(delivery, self.part_bytes);
        let n_parts = parts.len();
        for (number, rows) in (1..).zip(parts) {
            let body = body(delivery, (number, n_parts), rows.clone(), former);
            let key = key(delivery, number, &body);
            if !self.taken.contains(&key) {
                let posted = self.post(&key, body, stop);
                posted.map_err(|error| error.of_rows(rows))?;
                self.taken.insert(key);
            }
        }
        self.taken.clear();
        Ok(())
    }
}

/// What a receiver answered.
struct Said {
    status: u16,
    is_success: bool,
    words: String,
    retry_after: Option<Duration>,
}

impl Said {
    fn of(mut response: Response<ureq::Body>) -> Self {
        let status = response.status();
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after.and_then(|value| retry_time(value.to_str().ok()?));
        let mut text = Vec::new();
        // A body that is cut off says what it says.
        let reader = response.body_mut().as_reader();
        let _ = reader.take(READ_LIMIT).read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text);
        let is_shown = |c: char| if c.is_control() { ' ' } else { c };
        let shown: String = prefix(text.trim(), SHOWN_LIMIT)
            .chars()
            .map(is_shown)
            .collect();
        let colon = if shown.is_empty() { "" } else { ": " };
        Self {
            status: status.as_u16(),
            is_success: status.is_success(),
            words: format!("the receiver answered {status}{colon}{shown}"),
            retry_after,
        }
    }
}

/// What `Retry-After` says: a number of seconds, or a time.
fn retry_time(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

fn agent(patience: Duration) -> Agent {
    let config = Agent::config_builder()
        .timeout_global(Some(patience))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("perennial/", env!("CARGO_PKG_VERSION")));
    config.build().new_agent()
}

/// Cuts rows into runs of at most so many bytes; a row that is longer is one by itself.
fn parts(delivery: &Delivery, part_bytes: usize) -> Vec<Range<usize>> {
    let (mut parts, mut begin, mut n_bytes) = (Vec::new(), 0, 0);
    for (i, row) in delivery.rows.iter().enumerate() {
        // And the comma between two.
        let len = delivery.row_json(row).to_string().len() + 1;
        if i > begin && n_bytes + len > part_bytes {
            parts.push(begin..i);
            (begin, n_bytes) = (i, 0);
        }
        n_bytes += len;
    }
    // A delivery without rows is one request, too: its epoch is told.
    parts.push(begin..delivery.rows.len());
    parts
}

fn body(
    delivery: &Delivery,
    (part, n_parts): (usize, usize),
    rows: Range<usize>,
    former: &[u64],
) -> Vec<u8> {
    let rows = delivery.rows[rows].iter();
    let rows: Vec<_> = rows.map(|row| delivery.row_json(row)).collect();
    let mut body = json!({
        "origin": delivery.origin_text(),
        "view": delivery.view,
        "epoch": delivery.epoch,
        "part": part,
        "parts": n_parts,
        "rows": rows,
    });
    if !former.is_empty() {
        let former: Vec<String> = former.iter().copied().map(origin_text).collect();
        body["replaces"] = former.into();
    }
    body.to_string().into_bytes()
}

/// What names a part: the same whenever the same is sent, and another where another is.
fn key(delivery: &Delivery, part: usize, body: &[u8]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let view = delivery.view.chars().take(64);
    let view: String = view.map(|c| if is_plain(c) { c } else { '_' }).collect();
    let digest = blake3::hash(body).to_hex();
    let (origin, epoch) = (delivery.origin_text(), delivery.epoch);
    format!("{origin}-{view}-{epoch}-{part}-{}", &digest[..16])
}

/// The signature of Standard Webhooks, version 1: symmetric.
fn signature(secret: &[u8], id: &str, at: &str, body: &[u8]) -> String {
    // The hash takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        unreachable!("HMAC takes keys of any length");
    };
    for part in [id.as_bytes(), b".", at.as_bytes(), b".", body] {
        mac.update(part);
    }
    BASE64.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OutputRow;

    fn delivery(keys: &[&str]) -> Delivery {
        let row = |key: &&str| OutputRow {
            key: (*key).to_owned(),
            output: None,
        };
        Delivery {
            origin: 0xf1,
            view: "my view/ü".to_owned(),
            epoch: 7,
            rows: keys.iter().map(row).collect(),
        }
    }

    #[test]
    fn passwords_are_sent_and_never_shown() {
        let hook = Webhook::open("https://me:hunter%322@example.com:8443/in?key=s3cret").unwrap();
        let basic = format!("Basic {}", BASE64.encode("me:hunter22"));
        assert_eq!(hook.authorization.as_ref(), Some(&basic));
        assert_eq!(hook.url, "https://example.com:8443/in?key=s3cret");
        let shown = format!("{hook:?} {} {}", hook.name(), hook.failed("x", None));
        assert!(
            !shown.contains("hunter") && !shown.contains("s3cret"),
            "{shown}"
        );
        // Other keys are other sinks.
        let other = Webhook::open("https://me:hunter%322@example.com:8443/in?key=other").unwrap();
        assert_ne!(hook.name(), other.name());
        for wrong in [
            "",
            "example.com/in",
            "ftp://a/b",
            "http://",
            "https://u:hunter2@",
            "http://a b",
        ] {
            let error = Webhook::open(wrong).unwrap_err().to_string();
            assert!(!error.contains("hunter"), "{error}");
        }
    }

    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        // The example of its libraries.
        let hook = Webhook::open("http://localhost/").unwrap();
        let hook = hook
            .secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
            .unwrap();
        let secret = hook.secret.unwrap();
        let (id, at) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330");
        assert_eq!(
            signature(&secret, id, at, b"{\"test\": 2432232314}"),
            "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        let open = || Webhook::open("http://localhost/").unwrap();
        for wrong in ["", "short", "whsec_!!!", "whsec_aGk="] {
            let error = open().secret(wrong).unwrap_err().to_string();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn parts_are_within_their_bytes_and_hold_each_row_once() {
        let all = delivery(&["a", "b", "c", "d", "e"]);
        let row = all.row_json(&all.rows[0]).to_string().len() + 1;
        let ends = |delivery: &Delivery, bytes| -> Vec<(usize, usize)> {
            let parts = parts(delivery, bytes).into_iter();
            parts.map(|rows| (rows.start, rows.end)).collect()
        };
        assert_eq!(ends(&all, usize::MAX), [(0, 5)]);
        assert_eq!(ends(&all, 2 * row), [(0, 2), (2, 4), (4, 5)]);
        assert_eq!(ends(&all, 1), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]);
        assert_eq!(ends(&delivery(&[]), 1), [(0, 0)]);
    }

    #[test]
    fn the_same_part_has_the_same_key_and_another_body_another() {
        let (first, second) = (delivery(&["a", "b"]), delivery(&["a"]));
        let of = |delivery: &Delivery| {
            let rows = 0..delivery.rows.len();
            key(delivery, 1, &body(delivery, (1, 1), rows, &[]))
        };
        assert_eq!(of(&first), of(&first.clone()));
        assert_ne!(of(&first), of(&second));
        assert!(of(&first).starts_with("00000000000000f1-my_view__-7-1-"));
    }

    #[test]
    fn retry_after_is_seconds_or_a_time() {
        assert_eq!(retry_time(" 7 "), Some(Duration::from_secs(7)));
        let soon = SystemTime::now() + Duration::from_secs(3600);
        let time = retry_time(&httpdate::fmt_http_date(soon)).unwrap();
        assert!(time > Duration::from_secs(3000) && time < Duration::from_secs(4000));
        assert_eq!(
            retry_time("Thu, 01 Jan 1970 00:00:00 GMT"),
            Some(Duration::ZERO)
        );
        assert_eq!(retry_time("soon"), None);
    }
}
