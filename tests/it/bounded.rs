//! `BOUNDED`: answers that stay provisional, and the audits that watch over them.

use std::time::{Duration, Instant};

use perennial::ask::Rung;
use perennial::ask::scripted::Scripted;
use perennial::engine::{AuditStats, Update};
use perennial::{Engine, Policy};

use crate::rig::{Rig, view};

fn start(model: Scripted, budget: f32, workers: usize) -> Rig {
    let policy = Policy::bounded(budget).expect("a budget");
    Rig::start(model, |builder| {
        let tables = builder.table("docs").table("questions");
        tables.view(view(2000).policy(policy)).workers(workers)
    })
}

/// The audits, once all that were to be are done. They run in the background, in their own
/// time.
fn audited(engine: &Engine) -> AuditStats {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let stats = engine.audits("answers").expect("known");
        if stats.n_audited >= stats.n_sampled || Instant::now() > until {
            return stats;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn opens(rig: &mut Rig, hour: usize) {
    let text = format!("The library opens at {hour}.");
    rig.upsert("docs", "hours", &text);
    rig.engine.flush().expect("runs");
}

#[test]
fn a_model_that_misses_dependencies_is_found_out_and_falls_back() {
    let mut rig = start(Scripted::new().skipping(), 0.1, 1);
    rig.upsert("questions", "q", "library");
    opens(&mut rig, 0);
    let updates = rig.engine.subscribe("answers").expect("known");
    // The first provisional answer is audited, and some of those that follow.
    for hour in 1..100 {
        opens(&mut rig, hour);
        let stats = audited(&rig.engine);
        assert_eq!(stats.n_audited, stats.n_sampled, "{stats:?}");
        assert_eq!(stats.n_missed, stats.n_audited, "{stats:?}");
        assert_eq!(stats.has_fallen_back, stats.n_audited >= 3, "{stats:?}");
        if stats.has_fallen_back {
            break;
        }
    }
    let stats = rig.engine.audits("answers").expect("known");
    assert!(
        stats.has_fallen_back && stats.mean_regret > 0.9,
        "{stats:?}"
    );
    rig.engine.settle().expect("runs");
    opens(&mut rig, 99);
    assert_eq!(rig.texts()["q"], "The library opens at 99.");
    let mut told = Vec::new();
    while let Some(update) = updates.try_recv() {
        if let Update::Notice { source, message } = update {
            told.push((source, message));
        }
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].0 == "answers" && told[0].1.contains("falls back"),
        "{told:?}"
    );
}

#[test]
fn what_is_within_its_budget_stays_and_is_exact_on_demand() {
    // The borrowing model's provisional answers end in a remark, which audits find.
    let mut rig = start(Scripted::new().skipping(), 1e3, 2);
    rig.upsert("questions", "q", "library");
    opens(&mut rig, 1);
    let first = rig.texts();
    rig.upsert("docs", "other", "Nobody asks for this.");
    rig.engine.flush().expect("runs");
    assert_eq!(rig.texts(), first);
    let stats = audited(&rig.engine);
    assert_eq!(
        (stats.n_audited, stats.n_missed, stats.n_changed),
        (1, 0, 0)
    );
    // What is not sampled stays as it is.
    let mut hour = 1;
    loop {
        hour += 1;
        let n_sampled = rig.engine.audits("answers").expect("known").n_sampled;
        let before = rig.texts();
        opens(&mut rig, hour);
        if audited(&rig.engine).n_sampled == n_sampled {
            assert_eq!(rig.texts(), before);
            break;
        }
    }
    let answers = rig.engine.answers("answers").expect("runs");
    assert_eq!(
        (answers[0].1.rung, answers[0].1.drift.is_some()),
        (Rung::Skip, true)
    );
    rig.engine.settle().expect("runs");
    assert_eq!(rig.texts()["q"], format!("The library opens at {hour}."));
    // Forgetting insists on exact answers, too.
    rig.upsert("docs", "hours", "The library opens at 3.");
    rig.engine.flush().expect("runs");
    rig.engine.forget("docs", "hours").expect("forgets");
    assert_eq!(rig.texts()["q"], "Nothing is known of library.");
}

#[test]
fn dependents_are_the_sentences_that_a_document_would_touch() {
    for workers in [1, 3] {
        let mut rig = start(Scripted::new(), 0.1, workers);
        rig.upsert("docs", "hours", "The library opens at nine.");
        rig.upsert("docs", "pets", "No pets in the library please.");
        rig.upsert("docs", "boats", "Boats leave at noon.");
        rig.upsert("questions", "q", "library");
        rig.upsert("questions", "r", "noon.");
        rig.engine.flush().expect("runs");
        let of = |rig: &Rig, document: &str| -> Vec<(String, u32)> {
            let rows = rig.engine.dependents("answers", document).expect("known");
            let row =
                |d: &perennial::ask::Dependency| (d.context.as_str().to_owned(), d.sub_paragraph);
            rows.iter().map(row).collect()
        };
        assert_eq!(of(&rig, "boats"), [("r".to_owned(), 0)]);
        assert!(of(&rig, "hours").contains(&("q".to_owned(), 0)));
        assert!(of(&rig, "nothing").is_empty());
        rig.engine.delete("docs", "boats").expect("runs");
        rig.engine.settle().expect("runs");
        assert!(of(&rig, "boats").is_empty());
        rig.engine.delete("questions", "q").expect("runs");
        rig.engine.flush().expect("runs");
        assert!(of(&rig, "hours").is_empty());
    }
}

#[test]
fn dependents_are_there_while_an_epoch_is_in_flight() {
    let slow = Scripted::new().taking(Duration::from_millis(150));
    let mut rig = start(slow, 0.1, 2);
    rig.upsert("docs", "hours", "The library opens at nine.");
    rig.upsert("questions", "q", "library");
    rig.engine.settle().expect("runs");
    // Some epochs more, so that what is arranged was merged.
    for i in 0..4 {
        rig.upsert("docs", "other", &format!("Something else, the {i}th time."));
        rig.engine.settle().expect("runs");
    }
    rig.upsert("docs", "other", "Something else altogether.");
    for _ in 0..5 {
        let rows = rig.engine.dependents("answers", "hours").expect("known");
        assert_eq!(rows.len(), 1, "{rows:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
