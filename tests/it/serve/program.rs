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
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("perennial serve"), "{err}");
}

#[test]
fn a_state_that_a_server_has_open_is_looked_at_by_its_url() {
    let dir = tempfile::tempdir().expect("a folder");
    let setup = Setup {
        state: Some(dir.path()),
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    serving.post("docs", &line("a", "alpha is one."));
    serving.post("questions", &line("q", "alpha"));
    let before = serving.json("/v1/views/answers")["epoch"].to_string();
    serving.post("docs", &line("a", "alpha is two."));
    let body = "no JSON\n{\"key\": \"b\"}\n";
    let reply = serving.client().post("docs?wait=60", body);
    assert_eq!(reply.json()["n_rejected"], 2, "{}", reply.body);
    let url = format!("http://{}", serving.address);
    let ran = |args: &[&str]| {
        let output = perennial(args);
        let (out, err) = said(&output);
        assert!(output.status.success(), "{args:?}: {err}");
        (out, err)
    };

    // The folder is not to be had, and it is said who can be asked.
    let folder = dir.path().to_str().expect("UTF-8");
    for args in [
        &["answers", folder][..],
        &["history", folder],
        &["check", folder],
        &["quarantine", "list", folder],
        &["quarantine", "drop", folder, "0"],
        &["forget", folder, "a", "--from", "docs"],
    ] {
        let output = perennial(args);
        let (_, err) = said(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {err}");
        assert!(err.contains("in use") && err.contains("URL"), "{err}");
    }

    let (out, _) = ran(&["answers", &url]);
    assert_eq!(out.lines().next(), Some("alpha"));
    assert!(
        out.contains("  alpha is two.") && out.contains("[a]"),
        "{out}"
    );
    let (out, _) = ran(&["answers", &url, "--as-of", &before]);
    assert!(out.contains("  alpha is one."), "{out}");
    let (out, _) = ran(&["answers", &url, "--as-of", "2999-01-01T00:00:00Z", "--json"]);
    let answer: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&answer["view"], &answer["context"], &answer["text"]),
        (&json!("answers"), &json!("q"), &json!("alpha is two."))
    );
    let none = perennial(&["answers", &url, "--view", "others"]);
    assert!(said(&none).1.contains("answers"), "{}", said(&none).1);

    let (out, _) = ran(&["history", &url, "--json"]);
    let told: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(json!(told), serving.json("/v1/history")["epochs"]);

    let (out, _) = ran(&["quarantine", "list", &url]);
    assert!(out.contains("not JSON") && out.contains("no JSON"), "{out}");
    let numbers: Vec<String> = out
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| word.parse::<u64>().is_ok())
        .map(str::to_owned)
        .collect();
    assert_eq!(numbers.len(), 2, "{out}");
    let (out, _) = ran(&["quarantine", "show", &url, &numbers[0]]);
    assert_eq!(out, "no JSON");
    let meant = dir.path().join("meant.json");
    std::fs::write(&meant, line("c", "alpha is mended.")).expect("writable");
    let meant = meant.to_str().expect("UTF-8");
    let (_, err) = ran(&["quarantine", "resubmit", &url, &numbers[0], "--with", meant]);
    assert!(err.contains("c is taken in"), "{err}");
    let (_, err) = ran(&["quarantine", "drop", &url, &numbers[1], "99999"]);
    assert!(err.contains("1 record dropped"), "{err}");
    assert_eq!(serving.json("/v1/quarantine")["n_records"], 0);
    let gone = perennial(&["quarantine", "show", &url, &numbers[1]]);
    assert_eq!(gone.status.code(), Some(1), "{}", said(&gone).1);

    // A source must have let go of what is forgotten.
    let forget = ["forget", &*url, "a", "it's not there", "--from", "docs"];
    let output = perennial(&forget);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output).1);
    serving.post("docs", "{\"delete\": {\"key\": \"a\"}}\n");
    let (out, _) = ran(&forget);
    assert_eq!(out.matches("was not there").count(), 2, "{out}");
    let (out, _) = ran(&["forget", &url, "q", "--from", "questions", "--json"]);
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&told["event"], &told["receipt"]["was_there"]),
        (&json!("forgotten"), &json!(true))
    );
    let (out, _) = ran(&["answers", &url]);
    assert_eq!(out, "");

    // How a server is asked says nothing of a folder.
    let output = perennial(&["history", folder, "--token-file", "t"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output).1);
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
    assert_eq!(output.status.code(), Some(1), "{err}");
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

#[test]
fn a_failure_is_told_to_programs_and_a_list_of_tokens_is_no_token() {
    let dir = tempfile::tempdir().expect("a folder");
    let tokens = dir.path().join("tokens");
    let url = "http://127.0.0.1:9";
    for (text, says) in [
        ("read 0123456789abcdef\n", "more than a token"),
        ("\n", "no token"),
    ] {
        std::fs::write(&tokens, text).expect("writable");
        let file = tokens.display().to_string();
        let output = perennial(&["status", url, "--token-file", &file, "--json"]);
        assert_eq!(output.status.code(), Some(2));
        let told: Value = serde_json::from_slice(&output.stdout).expect("one object");
        let message = told["message"].as_str().expect("a text");
        assert_eq!(
            (&told["event"], &told["source"]),
            (&"failed".into(), &Value::Null)
        );
        assert!(
            message.contains(says) && !told.to_string().contains("0123456789abcdef"),
            "{told}"
        );
        assert!(told["hint"].is_string(), "{told}");
        let (_, err) = said(&output);
        assert!(err.contains(message), "{err}");
    }
    // What listens for records alone is no server of views.
    let limits = perennial::connectors::HttpLimits::default();
    let listener = perennial::connectors::HttpListener::bind("127.0.0.1:0", None, limits);
    let listener = listener.expect("a port");
    let output = perennial(&["status", &format!("http://{}", listener.address())]);
    let (_, err) = said(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("no `perennial serve`"), "{err}");
    // Without `--json` standard output has answers alone.
    let output = perennial(&["status", url]);
    assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()));
}
