//! Recordings: what was taken in is taken in again, and says the same.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use perennial::ask::scripted::{ERROR_WORD, Scripted, ScriptedEmbedder};
use perennial::recording::{RecordingError, Replay, ReplayedEpoch, recorded_with};
use perennial::{Edit, EngineBuilder, Error, Policy, Runtime};
use proptest::prelude::*;

use crate::history::{Collections, steps};
use crate::rig::{Rig, view};
use crate::stand_in::StandIn;

fn start(
    model: Scripted,
    file: &Path,
    declare: impl FnOnce(EngineBuilder) -> EngineBuilder,
) -> Rig {
    Rig::start(model, |builder| {
        declare(builder.table("docs").table("questions").record(file))
    })
}

fn scripted(model: Scripted) -> Runtime {
    let embedder = Arc::new(ScriptedEmbedder::default());
    Runtime::scripted(Arc::new(model), embedder)
}

/// All epochs of a recording, replayed; whether it ended inside one.
fn replayed(file: &Path, model: Scripted, n_workers: usize) -> (Vec<ReplayedEpoch>, bool) {
    let replay = Replay::open(file, scripted(model)).expect("there");
    let mut replay = replay.workers(n_workers);
    let epochs = replay.by_ref().collect::<Result<Vec<_>, _>>();
    (epochs.expect("sound"), replay.is_cut())
}

fn all_same(epochs: &[ReplayedEpoch]) {
    for epoch in epochs {
        assert!(epoch.differences.is_empty(), "{epoch:?}");
    }
}

fn refused(file: &Path) -> RecordingError {
    let all: Result<Vec<_>, _> = match Replay::open(file, scripted(Scripted::new())) {
        Ok(replay) => replay.collect(),
        Err(error) => Err(error),
    };
    match all {
        Err(Error::Recording(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Four epochs: two answers, one changed, one gone, one that cannot be given.
fn session(rig: &mut Rig) {
    let edits = vec![
        Edit::upsert("docs", "hours", "The library opens at nine."),
        Edit::upsert("docs", "pets", "Dogs wait outside.")
            .titled("Pets")
            .with("price", 0.1),
        Edit::upsert("questions", "q", "library"),
        Edit::upsert("questions", "r", "Dogs"),
    ];
    rig.engine.apply(edits).expect("runs");
    rig.engine.flush().expect("runs");
    rig.upsert("docs", "hours", "The library opens at ten.");
    rig.engine.flush().expect("runs");
    rig.engine.delete("questions", "r").expect("runs");
    rig.engine.flush().expect("runs");
    rig.upsert("questions", "s", ERROR_WORD);
    rig.engine.flush().expect("runs");
}

#[test]
fn what_was_recorded_is_the_same_again_with_any_number_of_workers() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("session.rec");
    session(&mut start(Scripted::new(), &file, |b| b.view(view(2000))));
    for n_workers in [1, 3] {
        let (epochs, is_cut) = replayed(&file, Scripted::new(), n_workers);
        all_same(&epochs);
        let counts = epochs.iter().map(|e| (e.n_rows, e.n_compared));
        assert_eq!(counts.collect::<Vec<_>>(), [(4, 2), (1, 2), (1, 1), (1, 2)]);
        assert!(!is_cut && epochs.iter().all(|e| !e.is_standing));
    }
    let model = recorded_with(&file).expect("sound");
    assert_eq!((model.name, model.digest.len()), (None, 64));
}

#[test]
fn another_model_is_refused_or_told_apart() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("session.rec");
    session(&mut start(Scripted::new(), &file, |b| b.view(view(2000))));
    let other = || StandIn::ending(" Ahoy!").runtime().named("sailor");
    let mut replay = Replay::open(&file, other()).expect("there");
    let error = replay.next().expect("a word").expect_err("another model");
    assert!(error.to_string().contains("sailor"), "{error}");
    assert!(matches!(
        error,
        Error::Recording(RecordingError::OtherModel { .. })
    ));
    assert!(replay.next().is_none());
    let replay = Replay::open(&file, other())
        .expect("there")
        .with_any_model();
    let epochs: Vec<_> = replay.collect::<Result<_, _>>().expect("sound");
    let first = &epochs[0].differences[0];
    let text = |answer: &Option<perennial::recording::RecordedAnswer>| {
        answer.clone().and_then(|answer| answer.text)
    };
    assert_eq!(
        text(&first.recorded).as_deref(),
        Some("The library opens at nine.")
    );
    assert_eq!(
        text(&first.replayed).as_deref(),
        Some("The library opens at nine. Ahoy!")
    );
    // An error is the same error.
    assert_eq!(
        epochs
            .iter()
            .map(|e| e.differences.len())
            .collect::<Vec<_>>(),
        [2, 2, 1, 1]
    );
}

#[test]
fn provisional_answers_are_not_compared_and_what_they_became_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("session.rec");
    let mut rig = start(Scripted::borrowing(), &file, |builder| {
        builder.view(view(2000).policy(Policy::Eventual))
    });
    rig.upsert("questions", "q", "version");
    for i in 0..3 {
        rig.upsert("docs", "d", &format!("This is version {i}."));
        rig.engine.settle().expect("runs");
    }
    drop(rig);
    let (epochs, _) = replayed(&file, Scripted::borrowing(), 1);
    all_same(&epochs);
    let n_provisional: usize = epochs.iter().map(|e| e.n_provisional).sum();
    let n_compared: usize = epochs.iter().map(|e| e.n_compared).sum();
    assert!(n_provisional >= 2 && n_compared >= 3, "{epochs:?}");
}

#[test]
fn an_engine_that_goes_on_says_what_stands_and_whatever_it_changed_is_the_same_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (file, state) = (dir.path().join("session.rec"), dir.path().join("state"));
    let go_on = |prompt: &str| {
        start(Scripted::new(), &file, |builder| {
            builder.view(view(2000).prompt(prompt)).state(&state)
        })
    };
    session(&mut go_on("Answer."));
    let n_first = replayed(&file, Scripted::new(), 1).0.len();
    // Cut off in the middle of an epoch, as by a crash: it goes on behind the last whole one.
    let whole = fs::read(&file).expect("there");
    let last = whole.iter().rposition(|byte| *byte == b'{').expect("lines");
    fs::write(&file, &whole[..last - 1]).expect("writable");
    let (epochs, is_cut) = replayed(&file, Scripted::new(), 1);
    assert!(is_cut && epochs.len() == n_first - 1, "{epochs:?}");

    let mut second = go_on("Answer.");
    second.upsert("docs", "pets", "Dogs are welcome.");
    second.upsert("questions", "t", "Dogs");
    second.engine.flush().expect("runs");
    drop(second);
    let third = go_on("Answer again.");
    third.engine.flush().expect("runs");
    drop(third);
    let (epochs, is_cut) = replayed(&file, Scripted::new(), 1);
    all_same(&epochs);
    assert!(!is_cut);
    let standing: Vec<_> = epochs.iter().filter(|e| e.is_standing).collect();
    // Answers to another prompt do not stand.
    let counts = standing.iter().map(|e| (e.epoch, e.n_rows, e.n_compared));
    let first = standing[0].epoch;
    assert_eq!(first, 3, "the epoch that was cut off is committed");
    assert_eq!(
        counts.collect::<Vec<_>>()[..],
        [(first, 4, 2), (standing[1].epoch, 5, 0)]
    );
    assert!(epochs.last().expect("one").n_compared == 3, "{epochs:?}");
}

#[test]
fn a_line_that_cannot_be_is_named_unless_nothing_follows_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("session.rec");
    session(&mut start(Scripted::new(), &file, |b| b.view(view(2000))));
    let whole = fs::read_to_string(&file).expect("there");
    let lines: Vec<&str> = whole.lines().collect();
    let with = |at: usize, line: &str| {
        let mut lines = lines.clone();
        lines[at] = line;
        fs::write(&file, lines.join("\n") + "\n").expect("writable");
        refused(&file)
    };
    let malformed = |error: RecordingError| match error {
        RecordingError::Malformed { line, reason, .. } => (line, reason),
        error => panic!("{error}"),
    };
    let (line, reason) = malformed(with(2, "{\"row\":{\"stream\":\"docs\"}}"));
    assert!(line == 3 && reason.contains("key"), "{line}: {reason}");
    let stray = lines[1].replace("\"docs\"", "\"dogs\"");
    let (line, reason) = malformed(with(1, &stray));
    assert!(line == 2 && reason.contains("dogs"), "{line}: {reason}");
    let end = lines.iter().position(|line| line.contains("end_of"));
    let end = end.expect("an epoch");
    let (line, reason) = malformed(with(end - 1, lines[end]));
    assert!(
        line as usize == end && reason.contains("answers"),
        "{line}: {reason}"
    );
    let newer = lines[0].replace("\"recording\":2", "\"recording\":9");
    let error = with(0, &newer);
    assert!(
        matches!(error, RecordingError::Newer { found: 9, .. }),
        "{error}"
    );
    for foreign in ["Dear diary,\n", "{\"run\":{}}\n"] {
        fs::write(&file, foreign).expect("writable");
        let error = refused(&file);
        assert!(matches!(error, RecordingError::Foreign { .. }), "{error}");
        let started = Rig::builder(Scripted::new()).record(&file).start();
        assert!(matches!(started, Err(Error::Recording(_))));
        assert_eq!(fs::read_to_string(&file).expect("there"), foreign);
    }
    fs::write(&file, whole.clone() + "{\"row\":{\"str").expect("writable");
    let (epochs, is_cut) = replayed(&file, Scripted::new(), 1);
    assert!(is_cut && epochs.len() == 4);
    fs::write(&file, whole + "\0\0\n\n").expect("writable");
    assert!(replayed(&file, Scripted::new(), 1).1);
}

#[test]
fn two_engines_cannot_record_to_one_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("session.rec");
    let first = start(Scripted::new(), &file, |b| b.view(view(2000)));
    let second = Rig::builder(Scripted::new()).record(&file).start();
    assert!(matches!(
        second,
        Err(Error::Recording(RecordingError::InUse { .. }))
    ));
    drop(first);
    drop(start(Scripted::new(), &file, |b| b.view(view(2000))));
    assert!(replayed(&file, Scripted::new(), 1).0.is_empty());
}

fn text(value: u8) -> String {
    format!("word{value} stands here. And word{} too.", value / 2)
}

fn wording(value: u8) -> String {
    format!("word{value}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Whatever happens while it is recorded, with restarts over a state directory: it is the
    /// same again.
    #[test]
    fn any_session_is_the_same_again(
        parts in prop::collection::vec(steps(6, 0..=8, 3, 0..9, 1..12), 1..4),
        budget in prop::sample::select(vec![150usize, 2000]),
        n_workers in 1usize..4,
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("session.rec");
        let mut collections = Collections::empty(text, wording);
        let mut last = None;
        for (at, part) in (1i64..).zip(parts) {
            let rig = start(Scripted::new(), &file, |builder| {
                builder.view(view(budget)).state(dir.path().join("state"))
            });
            let rig = collections.go_on(rig, part, at * 100);
            last = rig.engine.flush().expect("runs").or(last);
        }
        let (epochs, is_cut) = replayed(&file, Scripted::new(), n_workers);
        all_same(&epochs);
        prop_assert!(!is_cut);
        prop_assert_eq!(epochs.last().map(|epoch| epoch.epoch), last);
    }
}
