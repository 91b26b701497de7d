//! The program: `perennial serve` refuses what it cannot do, and `perennial status` and `top` tell how a
//! server is.

use std::process::{Command, Output};

use super::*;

const TLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/serve/tls");

fn perennial(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_perennial"))
        .args(args)
        .env("NO_COLOR", "1")
        .output()
        .expect("runs")
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn status_is_told_to_people_and_programs() {
    let serving = Serving::start(SUPPORT);
    serving.post("docs", &line("a", "alpha is one."));
    serving.post("questions", &line("q", "alpha"));
    let url = format!("http://{}", serving.address);
    let output = perennial(&["status", &url]);
    let (out, err) = said(&output);
    assert!(output.status.success(), "{err}");
    for part in ["ready", "answers", "fresh", "docs", "questions"] {
        assert!(out.contains(part), "{part} in {out}");
    }
    let output = perennial(&["status", &url, "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(status["views"][0]["name"], "answers");
    drop(serving);
    let output = perennial(&["status", &url]);
    let (_, err) = said(&output);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("perennial serve"), "{err}");
}

#[test]
fn top_prints_one_frame_where_it_is_told_to_or_there_is_no_terminal() {
    let serving = Serving::start(SUPPORT);
    serving.post("docs", &line("a", "alpha is one."));
    serving.post("questions", &line("q", "alpha"));
    let url = format!("http://{}", serving.address);
    for args in [
        &["top", "--url", &url, "--once"][..],
        &["top", "--url", &url],
    ] {
        let output = perennial(args);
        let (out, err) = said(&output);
        assert!(output.status.success(), "{err}");
        for part in [
            &*url,
            "ready",
            "connection",
            "0 in quarantine",
            "since it began",
            "regenerate",
            "from scratch",
            "answers",
            "fresh",
            "docs",
            "questions",
        ] {
            assert!(out.contains(part), "{part} in {out}");
        }
        assert!(!out.contains('\u{1b}'), "{out:?}");
    }
    let output = perennial(&["top", "--url", &url, "--every", "0s"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output).1);
    drop(serving);
    let output = perennial(&["top", "--url", &url, "--once"]);
    let (out, err) = said(&output);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(
        out.is_empty() && err.contains("perennial serve"),
        "{out}{err}"
    );
}

#[test]
fn over_tls_it_says_who_it_is_and_nobody_is_served_without() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("tokens");
    std::fs::write(&file, "read 0123456789abcdef").expect("writable");
    let token = dir.path().join("token");
    std::fs::write(&token, "0123456789abcdef\n").expect("writable");
    let setup = Setup {
        tokens: Some(Arc::new(Tokens::open(file).expect("tokens"))),
        tls: true,
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    let url = format!("https://localhost:{}", serving.address.port());
    let (token, ca) = (token.display().to_string(), format!("{TLS}/cert.pem"));
    let output = perennial(&[
        "status",
        &url,
        "--token-file",
        &token,
        "--ca-file",
        &ca,
        "--json",
    ]);
    let (_, err) = said(&output);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{err}"));
    assert_eq!(status["views"][0]["name"], "answers");
    // Whom it does not believe, it does not ask; nor without a token, nor without TLS.
    assert!(
        !perennial(&["status", &url, "--token-file", &token])
            .status
            .success()
    );
    let (_, err) = said(&perennial(&["status", &url, "--ca-file", &ca]));
    assert!(err.contains("token"), "{err}");
    let plain = format!("http://localhost:{}", serving.address.port());
    assert!(
        !perennial(&["status", &plain, "--token-file", &token])
            .status
            .success()
    );
}

#[test]
fn what_it_cannot_serve_is_said_before_a_model_is_opened() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("writable");
        path.display().to_string()
    };
    let script = path("wrong.sql", "CREATE TABEL t (key TEXT);");
    let output = perennial(&["serve", &script]);
    let (_, err) = said(&output);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("wrong.sql:1:8"), "{err}");
    let tokens = path("tokens", "root 0123456789abcdef");
    let output = perennial(&["serve", "--token-file", &tokens]);
    let (_, err) = said(&output);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(
        err.contains("read, write and admin") && !err.contains("0123456789abcdef"),
        "{err}"
    );
    assert!(
        !perennial(&["serve", "--tls-cert", "x.pem"])
            .status
            .success()
    );
}
