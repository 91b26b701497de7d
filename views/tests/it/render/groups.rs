//! Models that are asked about groups: is it what a run from nothing says, and how many calls is it?

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const PROMPT: &str = "Sum {t} up.";
const MAX_TOKENS: usize = 30;

fn digests() -> Query {
    let sql = format!(
        "SELECT x, count(*) AS n, sem_agg('{PROMPT}', max_tokens => {MAX_TOKENS}) AS digest
         FROM a GROUP BY x"
    );
    bind(&parse(&sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"))
}

fn row(group: i64, text: impl Into<Value>) -> Vec<Value> {
    vec![group.into(), Value::Null, text.into(), Value::Null]
}

/// A text that stands for a number; some are long.
fn text_of(n: u16) -> String {
    match n % 17 {
        0 => format!("review {n} {}", "at length ".repeat(usize::from(n % 40))),
        _ => format!("review {n}"),
    }
}

/// What a run from nothing says of the rows that stand.
fn from_nothing(rows: &[Vec<Value>], n_positions: usize) -> Bag {
    let mut groups: BTreeMap<Value, Vec<Vec<Value>>> = BTreeMap::new();
    for row in rows {
        let texts = groups.entry(row[0].clone()).or_default();
        texts.push(vec![row[2].clone()]);
    }
    let said = groups.into_iter().map(|(group, texts)| {
        let n = Value::from(texts.len() as i64);
        let said = batch::aggregate(PROMPT, MAX_TOKENS, n_positions, texts);
        (vec![group, n, said], 1)
    });
    said.collect()
}

/// Groups of up to some hundred rows, by epoch: which rows come, and which of those that stand go.
type Operation = (i64, u16, u8, prop::sample::Index);

fn operations() -> impl Strategy<Value = Vec<Vec<Operation>>> {
    let operation = (0i64..3, 0u16..400, 0u8..5, any::<prop::sample::Index>());
    let (many, few) = (
        prop::collection::vec(operation.clone(), 0..300),
        prop::collection::vec(operation, 0..6),
    );
    prop::collection::vec(prop_oneof![many, few], 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_group_is_what_a_run_from_nothing_makes_of_it(
        operations in operations(),
        n_workers in 1usize..4,
        n_positions in prop::sample::select(vec![4096usize, 500]),
    ) {
        let mut standing: Vec<Vec<Value>> = Vec::new();
        let (mut history, mut expected) = (Vec::new(), Vec::new());
        for operations in operations {
            let mut deltas = Vec::new();
            for (group, n, kind, which) in operations {
                // One in five is a delete, one an update, one has no text.
                if kind <= 1 && !standing.is_empty() {
                    let old = standing.swap_remove(which.index(standing.len()));
                    deltas.push((0, old, -1));
                }
                let new = match kind {
                    0 => continue,
                    2 => row(group, Value::Null),
                    _ => row(group, Value::text(text_of(n))),
                };
                standing.push(new.clone());
                deltas.push((0, new, 1));
            }
            history.push(deltas);
            expected.push(from_nothing(&standing, n_positions));
        }
        let model = Arc::new(Narrow::new(n_positions));
        let found = maintained_by(model, &digests(), &schemas(), &history, n_workers);
        prop_assert_eq!(found.iter().map(|(bag, _)| bag).collect::<Vec<_>>(),
                        expected.iter().collect::<Vec<_>>());
        // The model counts the rows that it was told of: none is lost, and none counts twice.
        if let Some((last, _)) = found.last() {
            for group in last.keys() {
                let of_group = standing.iter().filter(|row| row[0] == group[0]);
                let texts: BTreeSet<_> = of_group.filter_map(|row| row[2].as_text()).collect();
                let said = group[2].as_text().and_then(|text| text.split(' ').next());
                let n = said.map_or(0, |n| n.parse().unwrap());
                prop_assert_eq!(texts.len(), n);
            }
        }
    }
}

/// How many calls each epoch of a history takes, on one worker.
fn calls_of(history: &[Vec<Delta>]) -> Vec<usize> {
    let model = Arc::new(Narrow::new(4096));
    let found = maintained_by(model, &digests(), &schemas(), history, 1);
    let mut before = 0;
    let calls = found
        .iter()
        .map(|(_, n)| n - std::mem::replace(&mut before, *n));
    calls.collect()
}

fn inserted(range: std::ops::Range<usize>) -> Vec<Delta> {
    range
        .map(|n| (0, row(1, Value::text(format!("review {n}"))), 1))
        .collect()
}

fn deleted(range: std::ops::Range<usize>) -> Vec<Delta> {
    range
        .map(|n| (0, row(1, Value::text(format!("review {n}"))), -1))
        .collect()
}

#[test]
fn an_edit_of_a_thousand_rows_asks_few_calls() {
    const N: usize = 1000;
    const N_EDITS: usize = 60;
    let mut history = vec![inserted(0..N)];
    // Rows come, rows change, rows go: one an epoch.
    for n in N..N + N_EDITS {
        history.push(inserted(n..n + 1));
    }
    for n in 0..N_EDITS {
        let mut update = deleted(n..n + 1);
        update.extend(inserted(2 * N + n..2 * N + n + 1));
        history.push(update);
    }
    for n in N_EDITS..2 * N_EDITS {
        history.push(deleted(n..n + 1));
    }
    let calls = calls_of(&history);
    let of = |kind: usize| &calls[1 + kind * N_EDITS..][..N_EDITS];
    let summary = |calls: &[usize]| {
        let mean = calls.iter().sum::<usize>() as f64 / calls.len() as f64;
        (mean, calls.iter().copied().max().unwrap_or(0))
    };
    let (insert, update, delete) = (summary(of(0)), summary(of(1)), summary(of(2)));
    assert!(calls[0] <= N / 10, "{} calls for all", calls[0]);
    for (name, (mean, most), bound) in [
        ("insert", insert, (3.3, 4)),
        ("update", update, (5.1, 6)),
        ("delete", delete, (3.3, 4)),
    ] {
        assert!(mean <= bound.0 && most <= bound.1, "{name}: {mean}, {most}");
    }
}

#[test]
fn many_deletions_at_once_ask_each_part_once_and_a_group_that_goes_asks_nobody() {
    // Ten rows of another group stay as they are.
    let mut first = inserted(0..1000);
    first.extend((0..10).map(|n| (0, row(2, Value::text(format!("other {n}"))), 1)));
    let calls = calls_of(&[first, deleted(0..85), deleted(85..1000)]);
    assert!((1..=60).contains(&calls[1]), "{} calls", calls[1]);
    assert_eq!(calls[2], 0);
}

#[test]
fn rows_that_fit_one_call_are_one_and_what_is_there_already_asks_nobody() {
    let again = inserted(0..1);
    let nothing = vec![(0, row(1, Value::Null), 1)];
    let calls = calls_of(&[inserted(0..32), again, nothing, inserted(32..33)]);
    assert_eq!(calls[..3], [1, 0, 0]);
    // Two leaves, and what combines them.
    assert_eq!(calls[3], 3);
}

#[test]
fn an_insert_and_its_delete_leave_no_trace() {
    let history = [inserted(0..300), inserted(300..400), deleted(300..400)];
    let model = Arc::new(Narrow::new(4096));
    let found = maintained_by(model, &digests(), &schemas(), &history, 2);
    assert_ne!(found[0].0, found[1].0);
    assert_eq!(found[0].0, found[2].0);
}

#[test]
fn a_part_that_fails_leaves_its_group_without_an_answer_until_it_goes() {
    let failing = |diff| vec![(0, row(1, scripted::ERROR_WORD), diff)];
    let mut first = inserted(0..100);
    first.push((0, row(2, "other"), 1));
    let history = [first, failing(1), failing(-1)];
    let model = Arc::new(Narrow::new(4096));
    let found = maintained_by(model, &digests(), &schemas(), &history, 2);
    let is_said = |at: usize| -> Vec<bool> {
        let rows = found[at].0.keys();
        rows.map(|row| row[2] != Value::Null).collect()
    };
    assert_eq!(is_said(0), [true, true]);
    assert_eq!(is_said(1), [false, true]);
    assert_eq!(found[2].0, found[0].0);
}

#[test]
fn a_row_that_does_not_fit_alone_fails_alone() {
    // By its bytes it is no other row's company: these are asked about all the same.
    let long = "long ".repeat(1000);
    let history = [inserted(0..10), vec![(0, row(1, long.as_str()), 1)]];
    let calls = calls_of(&history);
    assert_eq!(calls[0], 1);
    let model = Arc::new(Narrow::new(4096));
    let found = maintained_by(model, &digests(), &schemas(), &history, 1);
    let row = found[1].0.keys().next().unwrap();
    assert_eq!(row[1..], [11i64.into(), Value::Null]);
}

/// Groups that HAVING or LIMIT leave out are asked about by nobody.
#[test]
fn what_does_not_stay_is_not_asked_about() {
    let mut rows = inserted(0..3);
    rows.extend((0..9).map(|group| (0, row(10 + group, "one"), 1)));
    for (clause, n_calls) in [
        ("HAVING count(*) > 1", 1),
        ("HAVING x < 12", 3),
        ("HAVING sem_agg('Sum {t} up.') IS NOT NULL AND x < 12", 3),
        ("ORDER BY count(*) DESC LIMIT 1", 1),
        ("", 10),
    ] {
        let sql = format!("SELECT x, sem_agg('Sum {{t}} up.') AS d FROM a GROUP BY x {clause}");
        let query = bind(&parse(&sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"));
        let model = Arc::new(Narrow::new(4096));
        let history = [rows.clone()];
        let found = maintained_by(model, &query, &schemas(), &history, 1);
        // Nine groups have the same row: that is one question.
        let expected = n_calls.min(2);
        assert_eq!(found[0].1, expected, "{sql}\n{query}");
        assert_eq!(found[0].0.len(), n_calls, "{sql}");
    }
}
