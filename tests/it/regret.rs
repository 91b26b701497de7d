//! `STABLE` and `BOUNDED` over real tensors: which answers stand though another is likelier, which are
//! left unread, what they say of themselves, and who finds out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use perennial::ask::Rung;
use perennial::engine::{AuditStats, CurrentAnswer};
use perennial::{Engine, EngineBuilder, Policy, View};
use proptest::prelude::*;

use crate::tensors::{Case, PLAIN, Rig, collections, decoder, text};

/// More than any expected regret.
const WHATEVER_CHANGED: f32 = 1e9;

fn answers(rig: &Rig) -> BTreeMap<String, CurrentAnswer> {
    rig.engine.flush().expect("runs");
    let answers = rig.engine.answers("answers").expect("known").into_iter();
    answers
        .map(|(key, answer)| (key.as_str().to_owned(), answer))
        .collect()
}

/// An engine over one view of this policy, declared further by `declare`, that has answered some
/// questions about some documents.
fn answered(policy: Policy, n_questions: u8, declare: impl Fn(View) -> View) -> Rig {
    let case = Case { policy, ..PLAIN };
    let mut rig = case.rig_of(&decoder(2), declare(case.view()));
    let mut collections = collections();
    collections.documents = (0..8).map(|i| (i, (i * 9, 0))).collect();
    collections.questions = (0..n_questions).map(|i| (i, i % 8)).collect();
    collections.fill(&mut rig.engine);
    rig.engine.settle().expect("runs");
    rig
}

fn write(engine: &Engine, key: u8, seed: u8) {
    let written = engine.upsert_at("docs", &key.to_string(), &text(seed), 0);
    written.expect("runs");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    // An answer of a stable view is what a run from scratch says, and says so, or something of the one
    // before stands in it, with a regret that is within the bound; where that was one sub-paragraph, all
    // of it.
    #[test]
    fn a_stable_answer_is_the_exact_one_or_keeps_of_the_one_before_within_its_regret(
        millinats in prop::sample::select(vec![1u32, 50, 300, 5000]),
        edits in prop::collection::vec((0u8..10, prop::option::weighted(0.8, any::<u8>())), 1..8),
    ) {
        let policy = Policy::Stable { millinats };
        let rig = answered(policy, 3, |view| view);
        let exact = answered(Policy::Exact, 3, |view| view);
        let mut before = answers(&rig);
        for (key, seed) in edits {
            for engine in [&rig.engine, &exact.engine] {
                match seed {
                    Some(seed) => write(engine, key, seed),
                    None => engine.delete("docs", &key.to_string()).expect("runs"),
                }
            }
            let (now, from_scratch) = (answers(&rig), answers(&exact));
            for (key, answer) in &now {
                if answer.drift.is_none() {
                    prop_assert_eq!(&answer.answer, &from_scratch[key].answer);
                    prop_assert_eq!(answer.regret, 0.0);
                } else {
                    let old = &before[key];
                    if old.sub_paragraphs.len() == 1 {
                        prop_assert_eq!(&answer.answer, &old.answer);
                    }
                    prop_assert!(answer.answer != from_scratch[key].answer);
                    prop_assert!((0.0..=policy.tolerated_regret()).contains(&answer.regret));
                }
            }
            before = now;
        }
        rig.engine.settle().expect("runs");
        for (key, answer) in answers(&rig) {
            prop_assert_eq!(answer.answer, answers(&exact)[&key].answer.clone());
        }
    }
}

#[test]
fn without_bound_nothing_changes_and_every_answer_tells_its_regret() {
    let rig = answered(
        Policy::Stable {
            millinats: 1_000_000,
        },
        3,
        |view| view,
    );
    let before = answers(&rig);
    for key in 0..8 {
        write(&rig.engine, key, 100 + key);
    }
    let after = answers(&rig);
    let texts = |answers: &BTreeMap<String, CurrentAnswer>| -> Vec<_> {
        answers.values().map(|a| a.answer.clone()).collect()
    };
    assert_eq!(texts(&before), texts(&after));
    let regrets: Vec<f32> = after.values().map(|a| a.regret).collect();
    assert!(regrets.iter().any(|regret| *regret > 0.0), "{regrets:?}");
    // They were read: it is measured, not expected.
    assert!(after.values().all(|a| a.rung == Rung::Verify));
    let audits = rig.engine.audits("answers").expect("known");
    assert_eq!(audits.n_sampled, 0, "what is measured needs no audit");
}

/// Nothing is read, and nothing encoded; and it is exact as soon as somebody insists.
#[test]
fn an_answer_that_is_left_unread_costs_no_token() {
    let policy = Policy::Bounded {
        millinats: 1_000_000,
    };
    let rig = answered(policy, 1, |view| view.skip_below(WHATEVER_CHANGED));
    let updates = rig.engine.subscribe("answers").expect("known");
    let first = updates.answers().next().expect("present");
    rig.engine.delete("docs", "5").expect("runs");
    write(&rig.engine, 3, 77);
    rig.engine.flush().expect("runs");
    let left = updates.answers().next().expect("told");
    assert_eq!((left.rung, left.work.n_forwarded()), (Rung::Skip, 0));
    assert_eq!((left.is_exact, &left.new), (false, &first.new));
    assert!(left.regret > 0.0, "what is expected of it is told");
    rig.engine.settle().expect("runs");
    let exact = answered(Policy::Exact, 1, |view| view);
    exact.engine.delete("docs", "5").expect("runs");
    write(&exact.engine, 3, 77);
    let (settled, exact) = (answers(&rig), answers(&exact));
    assert!(settled["0"].drift.is_none(), "settled is exact");
    assert_eq!(settled["0"].answer, exact["0"].answer);
}

/// Edits documents until the audits of the view have it fall back.
fn edited_until_fallen(engine: &Engine) -> AuditStats {
    let until = Instant::now() + Duration::from_secs(120);
    // Most edits are read, and one in some dozens of the others is audited: that takes many.
    for edit in 0..2048u32 {
        let seed = edit.wrapping_mul(29).wrapping_add(edit / 256 * 13);
        write(engine, (edit % 8) as u8, seed as u8);
        engine.flush().expect("runs");
        // Audits run in the background, in their own time.
        let stats = loop {
            let stats = engine.audits("answers").expect("known");
            let is_done = stats.n_audited + stats.n_unmeasured >= stats.n_sampled;
            if is_done || stats.has_fallen_back || Instant::now() > until {
                break stats;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        if stats.has_fallen_back {
            return stats;
        }
    }
    let stats = engine.audits("answers").expect("known");
    panic!("what is left out is never found out: {stats:?}");
}

#[test]
fn a_view_that_leaves_wrong_answers_unread_is_found_out_and_falls_back() {
    let policy = Policy::Bounded { millinats: 1 };
    let rig = answered(policy, 8, |view| view.skip_below(WHATEVER_CHANGED));
    let stats = edited_until_fallen(&rig.engine);
    assert!(stats.n_skipped > 0 && stats.n_missed > 0, "{stats:?}");
    assert!(
        stats.n_audited >= 3 && stats.mean_regret > 0.001,
        "{stats:?}"
    );
}

#[test]
fn a_fall_back_outlives_a_restart_until_the_view_is_declared_otherwise() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = |below: f32| {
        let policy = Policy::Bounded { millinats: 1 };
        let case = Case { policy, ..PLAIN };
        let view = case.view().skip_below(below);
        let declare = |builder: EngineBuilder| builder.view(view).state(dir.path());
        Rig::start(&decoder(2), case.store_bytes, declare)
    };
    let mut rig = open(WHATEVER_CHANGED);
    let mut collections = collections();
    collections.documents = (0..8).map(|i| (i, (i * 9, 0))).collect();
    collections.questions = (0..8).map(|i| (i, i)).collect();
    collections.fill(&mut rig.engine);
    edited_until_fallen(&rig.engine);
    drop(rig);
    // Of edits after the answers are known again: a restart knows tokens only, and reads.
    let edited = |below: f32, seed: u8| {
        let rig = open(below);
        rig.engine.flush().expect("runs");
        for seed in [seed, seed + 1] {
            write(&rig.engine, 3, seed);
            rig.engine.flush().expect("runs");
        }
        rig.engine.audits("answers").expect("known")
    };
    for seed in [77, 87] {
        let stats = edited(WHATEVER_CHANGED, seed);
        assert!(stats.has_fallen_back && stats.n_skipped == 0, "{stats:?}");
    }
    for (below, seed) in [(WHATEVER_CHANGED / 2.0, 97), (WHATEVER_CHANGED, 107)] {
        let stats = edited(below, seed);
        assert!(stats.n_skipped > 0, "{stats:?}");
    }
}

/// A view of one question whose first unread answer, which is always audited, is behind it.
fn past_its_first_audit(skip_below: f32) -> Rig {
    let policy = Policy::Bounded {
        millinats: 1_000_000,
    };
    let rig = answered(policy, 1, |view| view.skip_below(skip_below));
    write(&rig.engine, 9, 1);
    rig.engine.settle().expect("runs");
    rig
}

#[test]
fn regret_of_unread_changes_adds_up_until_the_answer_is_read() {
    // What became of the answer after each of three changes.
    let after_changes = |rig: &Rig| {
        let updates = rig.engine.subscribe("answers").expect("known");
        updates.answers().next().expect("present");
        [0, 1, 2].map(|key| {
            write(&rig.engine, key, 201 + key);
            rig.engine.flush().expect("runs");
            let update = updates.answers().next().expect("told");
            (update.rung, update.regret)
        })
    };
    let [first, second, third] = after_changes(&past_its_first_audit(WHATEVER_CHANGED));
    assert_eq!([first.0, second.0, third.0], [Rung::Skip; 3]);
    assert!(0.0 < first.1 && first.1 < second.1 && second.1 < third.1);
    // Each change alone is within this bound.
    let bound = (first.1 + second.1) / 2.0;
    let [again, read, _] = after_changes(&past_its_first_audit(bound.max(first.1 * 1.01)));
    assert_eq!(again, first);
    assert!(read.0 != Rung::Skip, "{read:?}");
}

/// What a refresh is compared with is what a fresh engine does, which shares what contexts have in
/// common.
#[test]
fn a_rerun_is_counted_as_a_fresh_engine_makes_it() {
    let work = |rig: &Rig| {
        let updates = rig.engine.subscribe("answers").expect("known");
        write(&rig.engine, 3, 77);
        rig.engine.delete("docs", "1").expect("runs");
        rig.engine.delete("questions", "2").expect("runs");
        rig.engine.flush().expect("runs");
        let mut last = None;
        while let Some(update) = updates.try_recv() {
            if let perennial::Update::EpochComplete(summary) = update {
                last = Some(summary);
            }
        }
        last.expect("complete")
    };
    let rig = answered(Policy::Exact, 4, |view| view);
    let refreshed = work(&rig);
    // The same collections by an engine that has nothing.
    let case = PLAIN;
    let mut fresh = case.rig_of(&decoder(2), case.view());
    let updates = fresh.engine.subscribe("answers").expect("known");
    let mut collections = collections();
    collections.documents = (0..8).map(|i| (i, (i * 9, 0))).collect();
    collections.documents.remove(&1);
    collections.documents.insert(3, (77, 0));
    collections.questions = [0, 1, 3].map(|i| (i, i)).into();
    collections.fill(&mut fresh.engine);
    fresh.engine.flush().expect("runs");
    let summaries = std::iter::from_fn(|| updates.try_recv()).filter_map(|update| match update {
        perennial::Update::EpochComplete(summary) => Some(summary),
        _ => None,
    });
    let (mut n_forwarded, mut n_rerun) = (0, 0);
    for summary in summaries {
        n_forwarded += summary.work.n_forwarded();
        n_rerun = summary.n_rerun;
    }
    assert_eq!(refreshed.n_rerun, n_rerun);
    // The last token of an answer that was cut is never fed.
    assert!(
        (0..=3).contains(&(n_rerun - n_forwarded)),
        "{n_rerun} {n_forwarded}"
    );
}
