//! The examples in `examples/` that change what they read: what each change costs, as they print it.

use std::path::Path;
use std::sync::Arc;

use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::sql::{Outcome, Script, Session};
use perennial::{Engine, Runtime};

/// What a script printed, and how many calls its model has had at each `EXPLAIN ANALYZE`.
struct Printed {
    /// Of each `EXPLAIN ANALYZE` the calls that it tells of its last change, and in all.
    calls: Vec<(usize, usize)>,
    /// Calls that the model had by then.
    n_calls: Vec<usize>,
    /// Plans and the like.
    plans: Vec<String>,
    /// Results of queries, a row a line.
    rows: Vec<Vec<String>>,
}

/// Carries an example out over the scripted model.
fn printed(name: &str) -> Printed {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name);
    let text = std::fs::read_to_string(path).expect("an example");
    let (model, embedder) = (
        Arc::new(Scripted::new()),
        Arc::new(ScriptedEmbedder::default()),
    );
    let runtime = Runtime::scripted(model.clone(), embedder);
    let engine = Engine::builder(runtime.clone())
        .held()
        .start()
        .expect("starts");
    let session = Session::new(engine, "qwen2.5-coder-0.5b").held().once();
    let session = session.opening(move |_| Ok(runtime.clone()));
    let mut printed = Printed {
        calls: Vec::new(),
        n_calls: Vec::new(),
        plans: Vec::new(),
        rows: Vec::new(),
    };
    let ran = session.run(&Script::new(name, text), |_, outcome| {
        match outcome {
            Outcome::Plan(plan) => {
                if let Some(calls) = told_calls(&plan) {
                    printed.calls.push(calls);
                    printed.n_calls.push(model.n_calls());
                }
                printed.plans.push(plan);
            }
            Outcome::Rows { rows, .. } => {
                let line = |row: &Arc<[perennial::rows::Value]>| {
                    let values: Vec<String> = row.iter().map(ToString::to_string).collect();
                    values.join("|")
                };
                printed.rows.push(rows.iter().map(line).collect());
            }
            _ => {}
        }
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
    printed
}

/// The calls of the last change, and in all, as `EXPLAIN ANALYZE` of a view tells them.
fn told_calls(plan: &str) -> Option<(usize, usize)> {
    let calls = |line: &str| {
        let told = line.split_once(": ")?.1;
        told.split_once(" call")?.0.parse().ok()
    };
    let mut last = plan.lines().filter(|line| line.starts_with("for epoch "));
    let mut all = plan.lines().filter(|line| line.starts_with("in all: "));
    Some((calls(last.next()?)?, calls(all.next()?)?))
}

#[test]
fn a_reading_list_asks_about_what_changed_of_it_and_prints_what_that_was() {
    let printed = printed("papers.sql");
    let changes: Vec<usize> = printed.calls.iter().map(|(last, _)| *last).collect();
    // The model has had as many calls as were told, no other view asks it.
    let all: Vec<usize> = printed.calls.iter().map(|(_, all)| *all).collect();
    assert_eq!(all, printed.n_calls);
    // Of 34 papers whether they are relevant, and an insight of each of those; the digest of 34 insights is a
    // tree of three calls.
    assert_eq!((changes[0], printed.rows[0].len()), (34 + 34 + 3, 34));
    // One comes: two questions about it, its part of the digest, and what combines the parts.
    assert_eq!(changes[1], 2 + 2);
    // One goes: no paper is read.
    assert_eq!(changes[2], 2);
    // One is corrected: two questions about it. What the scripted model says of it stays the same, so nobody
    // writes the digest again.
    assert_eq!(changes[3], 2);
    // A title is no part of any question.
    assert_eq!(changes[4], 0);
    let analyses = printed
        .plans
        .iter()
        .filter(|plan| plan.contains("in all: "));
    let analyses: Vec<&String> = analyses.collect();
    // What is said of the filter's calls in an analysis.
    let of_filter = |at: usize| {
        let mut lines = analyses[at].lines();
        let line = lines.find(|line| line.contains("ask sem_filter("));
        line.expect("the filter is an operator").to_owned()
    };
    assert!(
        of_filter(2).contains("; 0 calls, 0 known]"),
        "{}",
        of_filter(2)
    );
    assert!(
        of_filter(3).contains("; 1 call, 0 known; "),
        "{}",
        of_filter(3)
    );
    let (before, after) = (&printed.rows[0], &printed.rows[2]);
    assert!(
        before.iter().all(|row| !row.starts_with("2212.11803")),
        "{before:?}"
    );
    assert_eq!(after.len(), 1);
}

#[test]
fn second_steps_share_the_first_and_a_birth_is_read_by_who_used_it() {
    let printed = printed("directors.sql");
    let changes: Vec<usize> = printed.calls.iter().map(|(last, _)| *last).collect();
    // Six films, and three directors of which the births are read.
    assert_eq!(changes[0], 6 + 3);
    // A birth is corrected: of ages one call, of citizens none.
    assert_eq!(&changes[1..3], [1, 0]);
    // A film comes: who made it, once for both; its director is known.
    assert_eq!(&changes[3..5], [1, 1]);
    // Besides, three for the citizens.
    assert_eq!(printed.n_calls.last(), Some(&14));
    let why = printed
        .plans
        .iter()
        .find(|plan| plan.starts_with("ages['Vagabond']"));
    let why = why.expect("EXPLAIN WHY");
    assert!(why.contains("births['Agnes Varda'] changed"), "{why}");
    assert!(!why.contains("Akira"), "{why}");
    let lineage = printed.plans.last().expect("LINEAGE OF");
    for row in [
        "films['Vagabond']",
        "births['Agnes Varda']",
        "directors['Vagabond']",
    ] {
        assert!(lineage.contains(row), "{row}: {lineage}");
    }
    assert!(!lineage.contains("nationalities"), "{lineage}");
}

#[test]
fn questions_share_answers_and_a_candidate_is_kept_by_a_word() {
    let printed = printed("questions.sql");
    let changes: Vec<usize> = printed.calls.iter().map(|(last, _)| *last).collect();
    // Two of five ask the same, which is asked once, as is whether a part and a kept question do. Four are taken
    // apart, three kept ones answered; one is made of these, three are answered from the notes.
    assert_eq!(changes[0], 2 + 4 + 3 + 1 + 3);
    // Other words: whether they are the same as two that are similar.
    assert_eq!(changes[1], 2);
    // A candidate is kept: its answer, and that of two questions which are made of it.
    assert_eq!(changes[2], 1 + 2);
    // Besides, whoever says the same, or takes that back, has cost nothing.
    let all: Vec<usize> = printed.calls.iter().map(|(_, all)| *all).collect();
    assert_eq!(all[2], 13 + 2 + 3);
    // A note is corrected that all kept questions see, and the one which is answered from notes; two are made of the
    // answer that it changes.
    assert_eq!(changes[3], 4 + 1 + 2);
    // The model has had as many calls as were told, no other view asks it.
    assert_eq!(all, printed.n_calls);

    let out_of: Vec<&str> = printed.rows[0]
        .iter()
        .filter_map(|row| row.split('|').nth(2))
        .collect();
    assert_eq!(
        out_of,
        [
            "documents",
            "documents",
            "known answers",
            "documents",
            "documents"
        ]
    );
    assert_eq!(printed.rows[1], ["Where was Akira Kurosawa born?|2"]);
    let asked_as = |at: usize| printed.rows[at][0].split('|').nth(1).map(str::to_owned);
    let first = Some("Who directed Alphaville in 1965?".to_owned());
    assert_eq!(
        [asked_as(2), asked_as(3), asked_as(4)],
        [first.clone(), first.clone(), first]
    );
    let kept = &printed.rows[5];
    assert!(
        kept.iter().all(|row| row.contains("|known answers|")),
        "{kept:?}"
    );
    assert_eq!(printed.rows[6], [""; 0]);
    assert!(
        printed.rows[7][0].contains("Brussels"),
        "{:?}",
        printed.rows[7]
    );
    let lineage = printed.plans.last().expect("LINEAGE OF");
    for row in [
        "answers_known['varda']",
        "bases['varda']",
        "notes['Agnes Varda']",
        "questions['carl']",
    ] {
        assert!(lineage.contains(row), "{row}: {lineage}");
    }
}
