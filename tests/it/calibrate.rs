//! Profiles of decoders: what `BOUNDED` leaves unread by them, and how `perennial calibrate` makes one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use perennial::ask::Profile;
use perennial::ask::pull::{Coefficients, Curve, DecoderName, FittedOn};
use perennial::engine::{RungCounts, Update};
use perennial::model::digest::ModelDigest;
use perennial::{Error, Policy};
use serde_json::{Value, json};

use crate::tensors::{self, PLAIN};

const MODEL: &str = "smollm2-135m";

/// A profile by which every change is as likely to matter as this logit says.
fn certain(logit: f32) -> Profile {
    let decoder = DecoderName {
        name: "tiny".into(),
        digest: ModelDigest::from_bytes([9; 32]),
    };
    let fitted_on = FittedOn {
        set: "sums".into(),
        articles: 3,
        edits: 15,
    };
    let coefficients = Coefficients {
        bias: logit,
        closeness: 0.0,
        lead: 0.0,
        passage_lead: 0.0,
        lost: 0.0,
        mass: 0.0,
    };
    let curve = Curve::of([(0.3, true), (0.1, false)], 0.05);
    Profile::new(decoder, fitted_on, (coefficients, 1.5), curve).expect("sound")
}

fn rig(profile: Profile, policy: Policy) -> tensors::Rig {
    let case = tensors::Case { policy, ..PLAIN };
    let rig = tensors::Rig::judging(&tensors::decoder(1), profile, case.store_bytes, |builder| {
        builder.view(case.view())
    });
    for document in 0..4u8 {
        let key = format!("d{document}");
        rig.engine
            .upsert("docs", &key, &tensors::text(document))
            .expect("a table");
    }
    for question in 0..3u8 {
        let key = format!("q{question}");
        rig.engine
            .upsert("questions", &key, &tensors::wording(question))
            .expect("a table");
    }
    rig.engine.flush().expect("runs");
    rig
}

/// What stands after an edit, and by which rungs.
fn after_an_edit(profile: Profile, policy: Policy) -> (BTreeMap<String, String>, RungCounts) {
    let mut rig = rig(profile, policy);
    let updates = rig.engine.subscribe("answers").expect("known");
    rig.engine
        .upsert("docs", "d1", &tensors::text(7))
        .expect("a table");
    let texts = rig.texts();
    let mut rungs = None;
    while let Some(update) = updates.try_recv() {
        if let Update::EpochComplete(summary) = update {
            rungs = rungs.or(Some(summary.rungs));
        }
    }
    (texts, rungs.expect("an epoch"))
}

#[test]
fn a_profile_decides_what_bounded_leaves_unread_and_nothing_of_exact() {
    let bounded = Policy::bounded(0.05).expect("a bound");
    let n_read = |rungs: RungCounts| rungs.verify + rungs.patch + rungs.rewrite + rungs.regenerate;
    let (_, rungs) = after_an_edit(certain(-12.0), bounded);
    assert_eq!((rungs.skip, n_read(rungs)), (3, 0), "{rungs:?}");
    let (_, rungs) = after_an_edit(certain(12.0), bounded);
    assert_eq!((rungs.skip, n_read(rungs)), (0, 3), "{rungs:?}");
    let [never, always] = [-12.0, 12.0].map(|logit| after_an_edit(certain(logit), Policy::Exact));
    assert_eq!(never.0, always.0);
    assert_eq!((never.1.skip, always.1.skip), (0, 0));
}

#[test]
fn by_which_profile_answers_are_left_unread_is_told() {
    let bounded = Policy::bounded(0.05).expect("a bound");
    let told = |profile: Profile, policy: Policy| {
        let rig = rig(profile, policy);
        let updates = rig.engine.subscribe("answers").expect("known");
        let mut notices = Vec::new();
        while let Some(update) = updates.try_recv() {
            if let Update::Notice { message, .. } = update {
                notices.push(message);
            }
        }
        (rig.engine.explain("answers").expect("known").0, notices)
    };
    let (plan, notices) = told(certain(0.0), bounded);
    let says = "answers are left unread by the profile of tiny (3 articles of sums)";
    assert!(plan.ends_with(says), "{plan}");
    assert_eq!(notices, [""; 0]);
    // One without a profile of its own takes the default, and says so.
    let (plan, notices) = told(Profile::default(), bounded);
    assert!(
        plan.contains("left unread by the default profile"),
        "{plan}"
    );
    assert!(
        matches!(&notices[..], [only] if only.contains("no profile of its own")),
        "{notices:?}"
    );
    // Others do not go by any.
    let (plan, notices) = told(Profile::default(), Policy::Exact);
    assert!(
        !plan.contains("unread") && notices.is_empty(),
        "{plan} {notices:?}"
    );
}

#[test]
fn one_model_has_one_profile_in_an_engine() {
    let bounded = Policy::bounded(0.05).expect("a bound");
    let other = rig(certain(1.0), bounded);
    let rig = rig(certain(0.0), bounded);
    let refused = rig.engine.create_model("again", other.engine.runtime());
    assert!(
        matches!(&refused, Err(Error::OtherProfile { name }) if name == "again"),
        "{refused:?}"
    );
    rig.engine
        .create_model("same", rig.engine.runtime())
        .expect("one profile");
}

/// So many towns of three documents, with two questions about each.
fn towns(n: usize) -> String {
    const COLOURS: [&str; 6] = ["green", "yellow", "purple", "white", "orange", "black"];
    const THINGS: [&str; 6] = ["ferry", "library", "museum", "market", "tower", "bridge"];
    let line = |town: usize, document: usize| {
        let facts = [0, 1].map(|i| {
            let at = document * 2 + i;
            (THINGS[at], COLOURS[(at + town) % 6])
        });
        let text =
            facts.map(|(thing, colour)| format!("The {thing} of this town is painted {colour}."));
        let asked = facts.map(|(thing, colour)| {
            json!({"question": format!("Which colour has the {thing}?"), "answers": [colour]})
        });
        let id = format!("town{town}/{document}");
        json!({"id": id, "title": format!("Town {town}"), "text": text.join(" "), "questions": asked})
    };
    let lines = (0..n).flat_map(|town| (0..3).map(move |document| line(town, document)));
    lines.map(|line| format!("{line}\n")).collect()
}

/// A folder to keep profiles in, with the models of this machine.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    #[cfg(unix)]
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let output = Command::new(env!("CARGO_BIN_EXE_perennial"))
            .arg("models")
            .output();
        let output = output.expect("runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let kept = said
            .lines()
            .find_map(|line| line.strip_prefix("models are kept in "));
        let models = PathBuf::from(kept.expect("told"));
        fs::create_dir_all(&models).expect("writable");
        std::os::unix::fs::symlink(models, dir.path().join("models")).expect("writable");
        Self { dir }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("writable");
        path.to_str().expect("UTF-8").to_owned()
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_perennial"))
            .args(args)
            .env("NO_COLOR", "1")
            .env("PERENNIAL_CACHE", self.dir.path())
            .output()
            .expect("the program starts")
    }

    fn calibrate(&self, data: &str, args: &[&str]) -> Output {
        let small = [
            "--edits",
            "10",
            "--max-tokens",
            "6",
            "--questions",
            "6",
            "--json",
        ];
        self.run(
            &[
                &["calibrate", "--model", MODEL, "--data", data],
                &small[..],
                args,
            ]
            .concat(),
        )
    }

    /// Which profile a view of a folder of one document goes by, as its log says, or why it does not start.
    fn watched(&self, args: &[&str]) -> String {
        let notes = self.dir.path().join("notes");
        fs::create_dir_all(&notes).expect("writable");
        fs::write(notes.join("a.md"), "The ferry is green.").expect("writable");
        let notes = notes.to_str().expect("UTF-8");
        let once = [
            "watch",
            "--once",
            "--model",
            MODEL,
            "--policy",
            "bounded:0.05",
            "--log",
            "info",
        ];
        let of = ["--max-tokens", "4", notes, "Which colour has the ferry?"];
        said(&self.run(&[&once[..], args, &of].concat()))
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[cfg(unix)]
#[test]
fn what_is_calibrated_is_what_views_go_by_from_then_on() {
    let place = Place::new();
    let data = place.file("towns.jsonl", &towns(3));
    let brought = place.watched(&[]);
    assert!(
        brought.contains("the profile of smollm2-135m (22 articles"),
        "{brought}"
    );

    let output = place.calibrate(&data, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let told: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(told["event"], "calibrated");
    assert_eq!(told["profile"]["decoder"]["name"], MODEL);
    assert_eq!(
        told["profile"]["fitted_on"],
        json!({"set": "towns", "articles": 3, "edits": 30})
    );
    assert!(
        told["profile"]["curve"]["concerned"].as_u64() >= Some(10),
        "{told}"
    );
    let path = told["path"].as_str().expect("a path");
    assert!(
        Path::new(path).starts_with(place.dir.path().join("profiles")),
        "{path}"
    );
    let own = place.watched(&[]);
    assert!(
        own.contains("the profile of smollm2-135m (3 articles of towns)"),
        "{own}"
    );

    // One in a file of its own goes before it.
    let text = fs::read_to_string(path).expect("written");
    let named = place.file("named.json", &text.replace("\"towns\"", "\"cities\""));
    let by_name = place.watched(&["--profile", &named]);
    assert!(by_name.contains("(3 articles of cities)"), "{by_name}");
    let script = format!(
        "CREATE MODEL m FROM '{MODEL}' WITH (PROFILE = '{named}');
         CREATE TABLE docs (key TEXT, text TEXT); CREATE TABLE asked (key TEXT, text TEXT);
         CREATE CONTINUOUS VIEW v AS LLM_GENERATE(CONTEXT = STREAM(asked), DATA_SOURCE = STREAM(docs))
         WITH (POLICY = 'bounded:0.05');
         EXPLAIN CREATE CONTINUOUS VIEW w AS
         LLM_GENERATE(CONTEXT = STREAM(asked), DATA_SOURCE = STREAM(docs));"
    );
    let script = place.file("script.sql", &script);
    let by_statement = said(&place.run(&["run", "--once", "--log", "info", &script]));
    assert!(
        by_statement.contains("(3 articles of cities)"),
        "{by_statement}"
    );

    // What stands there and is none, or that of another, is refused by name; calibration mends it.
    let digest = told["profile"]["decoder"]["digest"]
        .as_str()
        .expect("a digest");
    let other = place.file("other.json", &text.replace(digest, &"0".repeat(64)));
    let refused = place.watched(&["--profile", &other]);
    assert!(
        refused.contains("other.json: the profile is of smollm2-135m (000"),
        "{refused}"
    );
    fs::write(path, "{\"version\": 1}").expect("writable");
    let refused = place.watched(&[]);
    assert!(
        refused.contains(path) && refused.contains("missing field"),
        "{refused}"
    );
    assert!(place.calibrate(&data, &[]).status.success());
    assert_eq!(fs::read_to_string(path).expect("written"), text);
}

#[cfg(unix)]
#[test]
fn what_cannot_be_calibrated_is_said_with_what_to_do() {
    let place = Place::new();
    let good = towns(2);
    let wrong = place.file(
        "wrong.jsonl",
        &format!("{good}{{\"id\": \"x/0\", \"title\": \"X\"}}\n"),
    );
    let few = place.file("few.jsonl", &good);
    let refused = |data: &str, args: &[&str], code: i32, says: &[&str]| {
        let output = place.calibrate(data, args);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        for says in says {
            assert!(said.contains(says), "{says}: {said}");
        }
    };
    refused(
        &wrong,
        &[],
        1,
        &["wrong.jsonl:7: missing field `text`", "calibrate --help"],
    );
    refused(
        &few,
        &[],
        1,
        &[
            "few.jsonl: 2 of its articles",
            "3 are needed",
            "two passages",
        ],
    );
    refused("none.jsonl", &[], 1, &["none.jsonl: ", "--data FILE"]);
    refused(
        &few,
        &["--out", "no/such/folder/p.json"],
        2,
        &["--out no/such/folder/p.json"],
    );
    refused(&few, &["--articles", "0"], 2, &["from 1 to 100000"]);
    refused(&few, &["--bound", "0"], 2, &["as 0.05"]);
    let server = place.run(&[
        "calibrate",
        "--model",
        "http://localhost:1/v1",
        "--data",
        &few,
    ]);
    assert_eq!(server.status.code(), Some(2));
    assert!(
        said(&server).contains("no model of this machine"),
        "{}",
        said(&server)
    );
    let args = [
        "watch",
        "--model",
        "http://localhost:1/v1",
        "--profile",
        &few,
        &few,
        "Q?",
    ];
    let server = place.run(&args);
    assert!(
        said(&server).contains("--profile is of a model of this machine"),
        "{}",
        said(&server)
    );
}
