//! What follows its inputs: edits, posted records, files and interruptions, whatever kills it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{MODEL, notes, path, perennial, refused, run, stderr, stdout, tells};
use crate::client::{Client, request};
use crate::delivered::folded;
use crate::receiver::{self, Got};

/// How long an event may take on a busy machine, weights fetched included.
const PATIENCE: Duration = Duration::from_secs(300);

/// A watch whose JSON lines are read as they come.
struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    fn start(args: &[&str]) -> Self {
        Self::of(perennial(&["watch", "--json", "--model", MODEL]).args(args))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let out = child.stdout.take().expect("piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next event of this kind.
    fn next(&self, event: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|error| panic!("no `{event}` came: {error}"));
            let value: Value = serde_json::from_str(&line).expect("each line is JSON");
            if value["event"] == event {
                return value;
            }
        }
    }

    fn end(&mut self, within: Duration) -> Option<i32> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the program does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Ended already, unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(unix)]
fn interrupt(watch: &Watch) {
    signal(watch, "-INT");
}

#[cfg(unix)]
fn signal(watch: &Watch, signal: &str) {
    let pid = watch.child.id().to_string();
    let status = Command::new("kill").args([signal, &pid]).status();
    assert!(status.expect("kill is there").success());
}

/// Where records may be posted, and to which streams.
fn invited(watch: &Watch, streams: &[&str]) -> std::net::SocketAddr {
    let mut address = None;
    for stream in streams {
        let notice = watch.next("notice");
        let message = notice["message"].as_str().expect("a text");
        let (_, url) = message.split_once("http://").expect("a URL");
        let (host, path) = url.split_once('/').expect("a path");
        assert_eq!(path, format!("v1/streams/{stream}"));
        address = Some(host.parse().expect("an address"));
    }
    address.expect("a stream")
}

#[cfg(unix)]
#[test]
fn documents_and_questions_are_posted_and_answers_posted_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::write(&file, text).expect("writable");
        path(&file).to_owned()
    };
    let token = write("token", "0123456789abcdef0123\n");
    let secret = write("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    let receiver = receiver::Receiver::start([]);
    let (url, state) = (receiver.url(), dir.path().join("state"));
    let args = [
        &["--listen", "127.0.0.1:0", "--listen-token-file", &token][..],
        &["--contexts", "http", "--state", path(&state)],
        &["--sink", &url, "--webhook-secret-file", &secret],
    ];
    let post = |client: &mut Client, stream: &str, body: &str| {
        let bearer = [("authorization", "Bearer 0123456789abcdef0123")];
        let to = format!("/v1/streams/{stream}?wait=60");
        // A busy machine may take longer than one wait; the same again changes nothing.
        loop {
            let reply = client.ask(&request("POST", &to, &bearer, body.as_bytes()));
            match reply.status {
                200 => return reply,
                _ => assert_eq!(reply.status, 202, "{}", reply.body),
            }
        }
    };
    let hours = |at: &str| {
        let text = format!("The library opens at {at} o'clock in the morning.");
        serde_json::json!({ "key": "hours", "text": text }).to_string()
    };
    let question = "{\"key\": \"s1\", \"text\": \"When does the library open?\"}";
    for at in ["nine", "eleven"] {
        let mut watch = Watch::start(&args.concat());
        let address = invited(&watch, &["documents", "questions"]);
        let mut client = Client::connect(address);
        assert_eq!(client.post("documents", hours(at)).status, 401);
        post(&mut client, "documents", &hours(at));
        if at == "nine" {
            post(&mut client, "questions", question);
        }
        // After the restart it is known, and answered anew.
        let answer = loop {
            let answer = watch.next("answer");
            if tells(&answer, at) {
                break answer;
            }
        };
        assert_eq!(answer["context"], "http#s1");
        let source = &answer["sub_paragraphs"][0]["sources"][0];
        assert_eq!(source["document"], "http#hours");
        let said = |got: &Got| got.json()["rows"].to_string().contains(at);
        let taken = receiver.until(|taken| taken.iter().any(said));
        assert!(taken[0].headers["webhook-signature"].starts_with("v1,"));
        interrupt(&watch);
        assert_eq!(watch.end(PATIENCE), Some(0));
    }
}

#[cfg(unix)]
#[test]
fn json_follows_edits_and_ends_on_an_interruption() {
    let dir = notes();
    let mut watch = Watch::start(&[path(dir.path()), "When does the library open?"]);
    let first = watch.next("answer");
    assert_eq!(
        (&first["change"], &first["context"]),
        (&"new".into(), &"q1".into())
    );
    assert!(tells(&first, "nine"), "{first}");
    assert_eq!(first["exact"], true);
    assert_eq!(
        first["sub_paragraphs"][0]["sources"][0]["document"],
        "hours.md"
    );
    let epoch = watch.next("epoch");
    assert_eq!(
        (&epoch["n_documents"], &epoch["n_changes"]),
        (&2.into(), &2.into())
    );

    let corrected = "# Opening hours\n\nThe library opens at eleven o'clock in the morning.\n";
    fs::write(dir.path().join("hours.md"), corrected).expect("writable");
    let second = watch.next("answer");
    assert_eq!(second["change"], "changed", "{second}");
    assert!(tells(&second, "eleven"), "{second}");
    let work = &second["work"];
    assert!(
        work["forwarded"].as_u64() < work["from_scratch"].as_u64(),
        "{work}"
    );
    let epoch = watch.next("epoch");
    assert_eq!(epoch["documents"][0]["key"], "hours.md");
    assert_eq!(epoch["documents"][0]["change"], "updated");

    fs::write(dir.path().join("picture.md"), b"\x89PNG\0\0\0").expect("writable");
    let rejected = watch.next("rejected");
    assert!(
        rejected["place"]
            .as_str()
            .is_some_and(|place| place.contains("picture.md"))
    );

    interrupt(&watch);
    assert_eq!(watch.end(Duration::from_secs(5)), Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_to_outlive_its_terminal_does_and_nobody_need_read_its_errors() {
    let dir = notes();
    let hostile = "\u{1b}]0;title\u{7}.md";
    fs::write(dir.path().join(hostile), b"\xff").expect("writable");
    let mut nohup = Command::new("nohup");
    nohup
        .arg(env!("CARGO_BIN_EXE_perennial"))
        .args([
            "watch",
            "--json",
            "--model",
            MODEL,
            path(dir.path()),
            "When does the library open?",
        ])
        .stdin(Stdio::null());
    let mut watch = Watch::of(&mut nohup);
    watch.next("epoch");
    signal(&watch, "-HUP");
    fs::write(dir.path().join("hours.md"), "The library opens at eleven.").expect("writable");
    let answer = watch.next("answer");
    assert!(tells(&answer, "eleven"), "{answer}");
    interrupt(&watch);
    assert_eq!(watch.end(PATIENCE), Some(0));

    // The file's name is told, and commands nothing.
    let args = [
        "watch",
        "--once",
        "--model",
        MODEL,
        path(dir.path()),
        "When does the library open?",
    ];
    let told = run(&args);
    let said = stderr(&told) + &stdout(&told);
    assert!(said.contains("\u{fffd}]0;title\u{fffd}.md"), "{said}");
    assert!(!said.contains(['\u{1b}', '\u{7}']), "{said:?}");
    let mut unheard = perennial(&args);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let unheard = unheard.stderr(writer).stdout(Stdio::piped()).output();
    let unheard = unheard.expect("the program starts");
    assert_eq!(unheard.status.code(), told.status.code());
    assert!(stdout(&unheard).contains("eleven"), "{}", stdout(&unheard));
}

#[test]
fn a_killed_watch_goes_on_where_it_ended() {
    let dir = notes();
    let state = tempfile::tempdir().expect("a folder");
    let args = [
        "--state",
        path(state.path()),
        path(dir.path()),
        "When does the library open?",
    ];
    let mut killed = Watch::start(&args);
    let before = killed.next("answer");
    assert!(before["work"]["forwarded"].as_u64().is_some_and(|n| n > 0));
    killed.child.kill().expect("kills");
    killed.child.wait().expect("ends");

    let mut kept = Watch::start(&args);
    let answer = kept.next("answer");
    assert_eq!(
        (
            &answer["text"],
            &answer["rung"],
            &answer["work"]["forwarded"]
        ),
        (&before["text"], &"keep".into(), &0.into())
    );
    assert_eq!(
        (&before["change"], &answer["change"]),
        (&"new".into(), &"stands".into())
    );
    refused(&["check", path(state.path())], 1, "in use by ");
    kept.child.kill().expect("kills");
    kept.child.wait().expect("ends");

    let found = run(&["check", path(state.path()), "--json"]);
    let found: Value = serde_json::from_slice(&found.stdout).expect("JSON");
    assert_eq!(
        (&found["n_rows"], &found["n_answers"]),
        (&3.into(), &1.into())
    );

    let later = "# Opening hours\n\nThe library opens at ten o'clock in the morning.\n";
    fs::write(dir.path().join("hours.md"), later).expect("writable");
    let changed = Watch::start(&args).next("answer");
    assert_eq!(
        (&changed["change"], &changed["old_text"]),
        (&"changed".into(), &before["text"])
    );
    assert!(tells(&changed, "ten"));
    refused(&["check", path(dir.path())], 1, "there is no state here");
}

#[test]
fn killed_ten_times_it_says_and_delivers_what_an_undisturbed_run_says() {
    let (dir, work) = (notes(), tempfile::tempdir().expect("a folder"));
    let (state, sink) = (work.path().join("state"), work.path().join("answers.jsonl"));
    let question = "When does the library open?";
    let args = [
        "--state",
        path(&state),
        "--sink",
        path(&sink),
        path(dir.path()),
        question,
    ];
    let hours = ["nine", "ten", "noon"];
    for i in 0..10u64 {
        let mut watch = Watch::start(&args);
        // While it starts, while it reads, while it answers, after it has.
        std::thread::sleep(Duration::from_millis(i * 150));
        let hour = hours[usize::try_from(i).expect("small") % hours.len()];
        let text = format!("# Opening hours\n\nThe library opens at {hour} o'clock.\n");
        fs::write(dir.path().join("hours.md"), text).expect("writable");
        std::thread::sleep(Duration::from_millis(700 - i * 60));
        watch.child.kill().expect("kills");
        watch.child.wait().expect("ends");
    }
    let answers = |args: &[&str]| -> Vec<(Value, Value)> {
        let output = run(&[&["watch", "--once", "--json", "--model", MODEL], args].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let events = stdout(&output);
        let events = events
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        let answers = events.filter(|event: &Value| event["event"] == "answer");
        answers
            .map(|a| (a["text"].clone(), a["work"]["forwarded"].clone()))
            .collect()
    };
    let survived = answers(&args);
    let fresh = answers(&[path(dir.path()), question]);
    let text = |answers: &[(Value, Value)]| answers.last().expect("an answer").0.clone();
    assert_eq!(text(&survived), text(&fresh));
    let delivered = folded(&sink);
    assert_eq!(Some(&*delivered["q1"]), text(&fresh).as_str());
    // And once more: what was answered is not asked again.
    assert_eq!(answers(&args), [(text(&fresh), 0.into())]);
}

#[test]
fn the_past_is_told_and_a_recorded_watch_is_replayed_whatever_killed_it() {
    let (dir, kept) = (notes(), tempfile::tempdir().expect("a folder"));
    let (state, recording) = (kept.path().join("state"), kept.path().join("session.rec"));
    let (state, recording) = (path(&state), path(&recording));
    let question = "When does the library open?";
    let watch = |options: &[&str]| {
        let mut args = vec!["watch", "--once", "--model", MODEL, "--max-tokens", "24"];
        args.extend(["--state", state, "--record", recording]);
        args.extend(options);
        args.extend([path(dir.path()), question]);
        run(&args)
    };
    let unknown = watch(&["--fault", "nowhere"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("commit.staged"));
    for point in ["create.half", "commit.staged", "record.half"] {
        let died = watch(&["--fault", point]);
        assert!(died.status.code().is_none(), "{point}: {}", stderr(&died));
    }
    assert!(watch(&[]).status.success());
    let hours = dir.path().join("hours.md");
    fs::write(hours, "The library opens at ten o'clock in the evening.\n").expect("writable");
    assert!(watch(&[]).status.success());

    let listed = run(&["history", state, "--json"]);
    let epochs: Vec<Value> = stdout(&listed)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let last = &epochs[epochs.len() - 1];
    assert_eq!(last["streams"][0]["n_updated"], 1, "{epochs:?}");
    let answer = |options: &[&str]| -> Value {
        let output = run(&[&["answers", state, "--json"], options].concat());
        serde_json::from_str(&stdout(&output)).expect("one answer")
    };
    let (now, before) = (answer(&[]), answer(&["--as-of", "0"]));
    assert_eq!(
        (&now["question"], &now["as_of"]),
        (&question.into(), &last["epoch"])
    );
    assert_eq!(before["as_of"], 0);
    assert_ne!(now["text"], before["text"]);
    refused(&["answers", state, "--as-of", "99"], 1, "ends with epoch");
    refused(
        &["answers", state, "--as-of", "1970-01-01T00:00:00Z"],
        1,
        "begins with epoch 0",
    );
    refused(
        &["answers", state, "--view", "replies"],
        2,
        "there are answers of answers",
    );

    // The model is the one that was recorded, though none is named.
    let replayed = run(&["replay", recording]);
    assert!(replayed.status.success(), "{}", stderr(&replayed));
    let lines = stdout(&replayed);
    assert!(
        lines.lines().all(|line| line.contains(": same (")),
        "{lines}"
    );
    assert!(lines.contains("what stood at epoch 0: same"), "{lines}");
    let text = fs::read_to_string(recording).expect("there");
    let other = text.replacen("\"digest\":\"", "\"digest\":\"0", 1);
    fs::write(recording, other).expect("writable");
    refused(&["replay", recording], 1, "anyway");
    let head = fs::read_to_string(recording).expect("there");
    let head: String = head.split_inclusive('\n').take(2).collect();
    let cut = format!("{recording}.cut");
    fs::write(&cut, head).expect("written");
    refused(&["replay", &cut, "--anyway"], 1, "nothing was replayed");
    let until = run(&["replay", recording, "--anyway", "--until", "0", "--json"]);
    assert_eq!(stdout(&until).lines().count(), 1, "{}", stdout(&until));
}

#[cfg(unix)]
#[test]
fn a_folder_that_goes_away_is_awaited() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("notes");
    fs::create_dir(&folder).expect("writable");
    fs::write(folder.join("a.md"), "The library opens at nine.").expect("writable");
    let mut watch = Watch::start(&[path(&folder), "When does the library open?"]);
    watch.next("epoch");
    let aside = dir.path().join("aside");
    fs::rename(&folder, &aside).expect("movable");
    let notice = watch.next("notice");
    let message = notice["message"].as_str().unwrap_or_default();
    assert!(message.contains("waiting for it"), "{notice}");
    fs::write(aside.join("a.md"), "The library opens at eleven.").expect("writable");
    fs::rename(&aside, &folder).expect("movable");
    let answer = watch.next("answer");
    assert!(tells(&answer, "eleven"), "{answer}");
    interrupt(&watch);
    assert_eq!(watch.end(PATIENCE), Some(0));
}

#[test]
fn questions_come_and_go_with_their_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let (docs, questions) = (dir.path().join("d.jsonl"), dir.path().join("q.jsonl"));
    let hours = r#"{"upsert": {"key": "hours", "text": "The library opens at nine."}}"#;
    fs::write(&docs, format!("{hours}\n{{\"upsert\": {{\"key\": \"cut\n")).expect("writable");
    let asked = r#"{"upsert": {"key": "a", "text": "When does the library open?"}}"#;
    fs::write(&questions, format!("{asked}\n")).expect("writable");
    let watch = Watch::start(&[path(&docs), "--contexts", path(&questions)]);
    assert!(watch.next("rejected")["reason"].is_string());
    let answer = watch.next("answer");
    assert_eq!(answer["context"], "a");
    assert_eq!(answer["question"], "When does the library open?");
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(&questions)
        .expect("there");
    writeln!(file, "{{\"delete\": {{\"key\": \"a\"}}}}").expect("writable");
    let gone = watch.next("answer");
    assert_eq!(
        (&gone["context"], &gone["change"]),
        (&"a".into(), &"gone".into())
    );
}

#[test]
fn the_demo_ends_by_itself() {
    let output = run(&["demo", "--model", MODEL]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for price in ["12 crowns", "14", "9 crowns"] {
        assert!(text.contains(price), "{text}");
    }
    for row in [
        "first answer",
        "correct a fact",
        "insert a document",
        "delete a document",
    ] {
        assert!(text.contains(row), "{text}");
    }
}
