//! Two tenants behind one address: what is one's reaches the other by no path.

use std::path::Path;
use std::sync::Arc;

use perennial::serve::Tokens;
use serde_json::json;

use super::events::{Event, Events};
use super::{Serving, Setup};
use crate::client::request;

const SCRIPT: &str = include_str!("../../../examples/tenants.sql");
const ADMIN: &str = "00000000000000000000000000000000";
const ACME: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const BIRCH: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// Words that acme alone says: in a document, a key, a question.
const SECRETS: [&str; 4] = ["zanzibar", "quetzal", "ninety-nine", "xylophone"];

struct Tenants(Serving);

impl Tenants {
    fn start() -> Self {
        let tokens = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tenants.tokens");
        let tokens = Tokens::open(tokens).expect("tokens");
        Self(Serving::with(
            SCRIPT,
            Setup {
                tokens: Some(Arc::new(tokens)),
                ..Setup::default()
            },
        ))
    }

    fn ask(&self, token: &str, method: &str, path: &str, body: &str) -> (u16, String) {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", &*bearer)];
        let asked = request(method, path, &headers, body.as_bytes());
        let reply = self.0.client().ask(&asked);
        (reply.status, reply.body)
    }

    fn post(&self, token: &str, stream: &str, key: &str, text: &str) {
        let path = format!("/v1/streams/{stream}?wait=60");
        let line = json!({ "key": key, "text": text }).to_string();
        let (status, body) = self.ask(token, "POST", &path, &line);
        assert_eq!(status, 200, "{body}");
    }

    /// All that a token is told: by every path, of everything there is.
    fn told(&self, token: &str) -> String {
        let mut paths: Vec<String> = [
            "/v1/relations",
            "/v1/status",
            "/v1/quarantine",
            "/v1/history",
            "/v1/engine/models",
            "/v1/openapi.json",
            "/metrics",
            "/healthz",
            "/readyz",
        ]
        .map(str::to_owned)
        .into();
        let of_all = ["notes", "questions", "replies"].map(str::to_owned);
        let of_each = ["acme", "birch"].into_iter().flat_map(|tenant| {
            ["notes", "questions", "replies"].map(|name| format!("{tenant}_{name}"))
        });
        for name in of_all.into_iter().chain(of_each) {
            paths.push(format!("/v1/views/{name}"));
            paths.push(format!("/v1/views/{name}?key=acme/q"));
            paths.push(format!("/v1/views/{name}/plan"));
            paths.push(format!("/v1/views/{name}/lineage?key=acme/q"));
        }
        let get = |path: &String| self.ask(token, "GET", path, "").1;
        let mut told: String = paths.iter().map(get).collect();
        for sql in [
            "SELECT * FROM replies",
            "SHOW VIEWS",
            "SELECT * FROM acme_notes",
        ] {
            let body = json!({ "sql": sql }).to_string();
            told += &self.ask(token, "POST", "/v1/sql", &body).1;
        }
        told.to_lowercase()
    }

    fn replies(&self, token: &str, view: &str) -> String {
        let (status, body) = self.ask(token, "GET", &format!("/v1/views/{view}"), "");
        assert_eq!(status, 200, "{body}");
        body
    }
}

/// What birch posts and, where `with_acme`, what acme does besides: words that both ask for, equal
/// keys, corrections whose old answers are drafts of the next.
fn history(tenants: &Tenants, with_acme: bool) {
    let acme = |stream: &str, key: &str, text: &str| {
        if with_acme {
            tenants.post(ACME, stream, key, text);
        }
    };
    acme(
        "acme_notes",
        "quetzal",
        "The fare to Zanzibar is ninety-nine.",
    );
    acme("acme_questions", "q", "Tell the fare and xylophone");
    tenants.post(BIRCH, "birch_notes", "n", "The fare to Oslo is seven.");
    tenants.post(BIRCH, "birch_questions", "q", "Tell the fare");
    for n in 0..3 {
        let text = format!("The fare to Zanzibar is ninety-nine and {n}.");
        acme("acme_notes", "quetzal", &text);
    }
    tenants.post(BIRCH, "birch_notes", "n", "The fare to Oslo is eight.");
}

#[test]
fn no_word_of_one_tenant_reaches_the_other() {
    let tenants = Tenants::start();
    // Birch hears of every change of its own, from the beginning.
    let bearer = format!("Bearer {BIRCH}");
    let headers = [("authorization", &*bearer)];
    let path = "/v1/views/birch_replies/subscribe?progress=true";
    let mut events = Events::open(tenants.0.address, path, &headers);
    history(&tenants, true);

    let told = tenants.told(BIRCH);
    let birch = tenants.replies(BIRCH, "birch_replies").to_lowercase();
    assert!(birch.contains("oslo is eight"), "birch reads its own");
    let said = |event: &Event| event.data.to_string().to_lowercase();
    let heard = events.until(|event| said(event).contains("oslo is eight"));
    let heard: String = heard.iter().map(said).collect();
    for secret in SECRETS {
        assert!(!told.contains(secret), "{secret} is told");
        assert!(!heard.contains(secret), "{secret}: {heard}");
    }
    // What its view rests on beside its own is not told, not even by name.
    for path in ["/v1/relations", "/v1/views/birch_replies/plan", "/readyz"] {
        let (_, told) = tenants.ask(BIRCH, "GET", path, "");
        for name in ["acme", "notes", "questions"] {
            let own = told.replace(&format!("birch_{name}"), "");
            assert!(!own.contains(name), "{path}: {told}");
        }
    }
    let acme = tenants.replies(ACME, "acme_replies").to_lowercase();
    assert!(acme.contains("ninety-nine and 2"), "{acme}");
    assert!(!acme.contains("oslo"), "{acme}");
    // Whoever runs it reads all, so the paths do tell what there is.
    let all = tenants.told(ADMIN);
    for secret in SECRETS {
        assert!(all.contains(secret), "{secret}");
    }
}

#[test]
fn what_a_tenant_is_told_does_not_depend_on_the_other() {
    let (together, alone) = (Tenants::start(), Tenants::start());
    history(&together, true);
    history(&alone, false);
    let rows = |tenants: &Tenants| {
        let told = tenants.replies(BIRCH, "birch_replies");
        let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        told["rows"].clone()
    };
    let rows = (rows(&together), rows(&alone));
    assert!(rows.0.to_string().contains("Oslo is eight"), "{}", rows.0);
    assert_eq!(rows.0, rows.1);
}

#[test]
fn nobody_posts_in_the_name_of_another() {
    let tenants = Tenants::start();
    let line = r#"{"key": "n", "text": "The fare is a lie.", "tenant": "acme"}"#;
    let (status, body) = tenants.ask(BIRCH, "POST", "/v1/streams/acme_notes", line);
    assert_eq!(status, 403, "{body}");
    // A column that the table does not have is no way around.
    tenants.ask(BIRCH, "POST", "/v1/streams/birch_notes?wait=60", line);
    tenants.post(ACME, "acme_notes", "n", "The fare to Bergen is six.");
    tenants.post(ACME, "acme_questions", "q", "Tell the fare");
    let acme = tenants.replies(ACME, "acme_replies");
    assert!(acme.contains("Bergen") && !acme.contains("a lie"), "{acme}");
}
