//! Where embeddings decide: is it what a run from nothing decides, who decides, and how many calls is it?

use std::collections::{BTreeMap, BTreeSet};

use perennial_rows::encoding::Encoder;

use super::*;

/// The scripted model says yes of a text with a word of it.
const PROMPT: &str = "Is {t} about it?";
const WITHIN: &str = "recall => 0.5, precision => 0.5, sample => 50";
const N_SAMPLE: usize = 50;

/// Texts of eight directions: of the first four most are accepted, of the others most are not.
fn text_of(n: u16) -> Value {
    let (direction, at) = (n % 8, n / 8);
    let word = match (n / 3).is_multiple_of(11) == (direction < 4) {
        true => "text",
        false => "about",
    };
    match n % 29 {
        0 => Value::text(format!("near {} {at} {direction}", scripted::ERROR_WORD)),
        1 => Value::text(format!("near {word} {} {at} {direction}", nearest::DARK)),
        2 => Value::Null,
        _ => Value::text(format!("near {word} {at} {direction}")),
    }
}

fn is_so(text: &Value) -> Value {
    let task = Task::new(PROMPT, Output::Truth).unwrap();
    scripted::output(&task, std::slice::from_ref(text))
}

fn bound(sql: &str) -> Query {
    bind(&parse(sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"))
}

/// What is said of each row, and who says it.
fn told() -> String {
    format!(
        "SELECT x, t, sem_filter('{PROMPT}', {WITHIN}) AS f, sem_decider('{PROMPT}', {WITHIN}) AS who
         FROM a WHERE x > -1"
    )
}

fn kept() -> String {
    format!(
        "SELECT x, t, sem_decider('{PROMPT}', {WITHIN}) AS who FROM a
         WHERE x > -1 AND sem_filter('{PROMPT}', {WITHIN})"
    )
}

fn row(x: i64, n: u16) -> Vec<Value> {
    vec![x.into(), Value::Null, text_of(n), Value::Null]
}

fn deltas(diff: isize, rows: impl IntoIterator<Item = (i64, u16)>) -> Vec<Delta> {
    let rows = rows.into_iter().map(|(x, n)| (0, row(x, n), diff));
    rows.collect()
}

/// The rows that stand after each epoch, as they would come all at once.
fn standing(history: &[Vec<Delta>]) -> Vec<Vec<Delta>> {
    let mut counts: BTreeMap<Vec<Value>, isize> = BTreeMap::new();
    let all = history.iter().map(|deltas| {
        for (_, row, diff) in deltas {
            *counts.entry(row.clone()).or_default() += diff;
        }
        let rows = counts.iter().filter(|(_, n)| **n != 0);
        rows.map(|(row, n)| (0, row.clone(), *n)).collect()
    });
    all.collect()
}

/// The different texts that a model may be asked about.
fn texts(rows: &[Delta]) -> BTreeSet<Value> {
    let rows = rows
        .iter()
        .filter(|(_, row, _)| row[0] >= Value::from(0i64) && row[2] != Value::Null);
    rows.map(|(_, row, _)| row[2].clone()).collect()
}

/// Those of them that are the sample.
fn sample(texts: &BTreeSet<Value>) -> BTreeSet<Value> {
    let digest = |text: &&Value| {
        let values = std::slice::from_ref(*text);
        let digest = Encoder::new()
            .values(values)
            .digest("perennial cascade sample 1");
        digest[..8].to_vec()
    };
    let mut texts: Vec<&Value> = texts.iter().collect();
    texts.sort_by_key(digest);
    texts.into_iter().take(N_SAMPLE).cloned().collect()
}

type Operation = (i64, u16, u8, prop::sample::Index);

/// Many rows that come, and then some that come and go.
fn history_of(first: Vec<(i64, u16)>, operations: Vec<Vec<Operation>>) -> Vec<Vec<Delta>> {
    let mut standing = first.clone();
    let mut history = vec![deltas(1, first)];
    for operations in operations {
        let mut epoch = Vec::new();
        for (x, n, kind, which) in operations {
            if kind <= 2 && !standing.is_empty() {
                let old = standing.swap_remove(which.index(standing.len()));
                epoch.extend(deltas(-1, [old]));
            }
            if kind > 0 {
                standing.push((x, n));
                epoch.extend(deltas(1, [(x, n)]));
            }
        }
        history.push(epoch);
    }
    history
}

fn histories() -> impl Strategy<Value = Vec<Vec<Delta>>> {
    let row = (-1i64..4, 0u16..240);
    let operation = (-1i64..4, 0u16..240, 0u8..5, any::<prop::sample::Index>());
    let first = prop::collection::vec(row, 30..200);
    let operations = prop::collection::vec(prop::collection::vec(operation, 0..12), 1..5);
    (first, operations).prop_map(|(first, operations)| history_of(first, operations))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn who_decides_and_what_is_as_in_a_run_from_nothing(
        history in histories(),
        n_workers in 1usize..4,
        (is_kept, around) in any::<(bool, bool)>(),
    ) {
        let sql = if is_kept { kept() } else { told() };
        let sql = match around {
            true => format!("SELECT * FROM ({sql}) AS s WHERE x <> 1"),
            false => sql,
        };
        let query = bound(&sql);
        let found = maintained(&query, &schemas(), &history, n_workers);
        for (rows, found) in standing(&history).iter().zip(found) {
            let fresh = maintained(&query, &schemas(), std::slice::from_ref(rows), 1);
            prop_assert_eq!(&found, &fresh[0]);
            let sample = sample(&texts(rows));
            for row in found.keys() {
                let (text, who) = (&row[1], row.last().unwrap());
                // A condition around leaves out rows, and changes nothing that others are decided by.
                prop_assert_eq!(*who == Value::text("sample"), sample.contains(text));
                if !is_kept && *who != Value::text("embedding") {
                    prop_assert_eq!(&row[2], &is_so(text));
                }
            }
        }
    }

    #[test]
    fn no_text_is_asked_about_twice_while_it_stands(history in histories(), n_workers in 1usize..4) {
        let found = maintained_by(
            Arc::new(Narrow::new(4096)), &bound(&told()), &schemas(), &history, n_workers,
        );
        let (mut before, mut n_came) = (BTreeSet::new(), 0);
        for (rows, (_, n_calls)) in standing(&history).iter().zip(found) {
            let now = texts(rows);
            n_came += now.difference(&before).count();
            prop_assert!(n_calls <= n_came, "{n_calls} calls, {n_came} texts");
            before = now;
        }
    }
}

/// Two hundred rows that can be read and embedded.
fn all() -> Vec<(i64, u16)> {
    let all = (0..240).filter(|n| n % 29 > 2);
    all.map(|n| (1, n)).collect()
}

/// What an epoch of a history costs in calls, and how it ends.
fn run(sql: &str, history: &[Vec<Delta>]) -> Vec<(Bag, usize)> {
    let mut before = 0;
    let costs = (1..=history.len()).map(|n| {
        let model = Arc::new(Narrow::new(4096));
        let mut found = maintained_by(model, &bound(sql), &schemas(), &history[..n], 2);
        let (bag, now) = found.pop().unwrap();
        (bag, now - std::mem::replace(&mut before, now))
    });
    costs.collect()
}

fn decided_by(bag: &Bag, decider: &str) -> Vec<Value> {
    let rows = bag.keys().filter(|row| row[3] == Value::text(decider));
    rows.map(|row| row[1].clone()).collect()
}

#[test]
fn most_are_decided_without_the_model_and_as_it_would() {
    let (bag, n_calls) = run(&told(), &[deltas(1, all())]).remove(0);
    let decided = decided_by(&bag, "embedding");
    let n_asked = decided_by(&bag, "sample").len() + decided_by(&bag, "model").len();
    assert_eq!((n_calls, n_asked + decided.len()), (n_asked, all().len()));
    assert!(decided.len() > 80, "{} of {}", decided.len(), all().len());
    let n = |said: bool, is: bool| {
        let rows = bag.keys();
        let of = rows
            .filter(|row| row[2] == Value::Boolean(said) && is_so(&row[1]) == Value::Boolean(is));
        of.count()
    };
    let (right, wrong, lost) = (n(true, true), n(true, false), n(false, true));
    assert!(lost <= right && wrong <= right, "{right} {wrong} {lost}");
}

#[test]
fn what_is_not_of_the_sample_costs_a_call_at_most_and_nothing_when_it_goes() {
    let all = all();
    let rows = deltas(1, all.clone());
    let (bag, _) = run(&told(), std::slice::from_ref(&rows)).remove(0);
    let sample = decided_by(&bag, "sample");
    let spared = decided_by(&bag, "embedding");
    let n_of = |texts: &[Value], at: usize| {
        let found = all.iter().filter(|(_, n)| texts.contains(&text_of(*n)));
        *found.clone().nth(at).unwrap()
    };
    let (first, second) = (n_of(&spared, 0), n_of(&spared, 1));
    let asked = decided_by(&bag, "model");
    let mut history = vec![
        // One is missing.
        rows.iter()
            .filter(|(_, row, _)| row[2] != text_of(first.1))
            .cloned()
            .collect(),
        deltas(1, [first]),
        // Twice is no other text.
        deltas(1, [first]),
        deltas(-1, [first, first]),
        deltas(-1, [second]),
    ];
    let n_fixed = history.len();
    // Of the sample: the next in order takes its place.
    let of_sample = n_of(&sample, 0);
    history.push(deltas(-1, [of_sample]));
    history.push(deltas(1, [of_sample]));
    let costs: Vec<usize> = run(&told(), &history).into_iter().map(|(_, n)| n).collect();
    assert_eq!(costs[1..n_fixed], [0, 0, 0, 0], "{}", asked.len());
    // What was asked about before is not asked about again, but for what had gone.
    let total: usize = costs.iter().sum();
    assert!(total <= all.len() + 1, "{costs:?}");
}

#[test]
fn few_rows_and_promises_that_cannot_be_kept_leave_all_to_the_model() {
    let few: Vec<(i64, u16)> = all().into_iter().take(N_SAMPLE).collect();
    let (bag, n_calls) = run(&told(), &[deltas(1, few)]).remove(0);
    assert_eq!(
        (n_calls, decided_by(&bag, "sample").len()),
        (N_SAMPLE, N_SAMPLE)
    );
    let strict = told().replace("0.5", "0.99");
    let (bag, n_calls) = run(&strict, &[deltas(1, all())]).remove(0);
    assert_eq!(n_calls, all().len());
    assert!(bag.keys().all(|row| row[2] == is_so(&row[1])));
    assert_eq!(decided_by(&bag, "embedding"), []);
    let none = run(
        &told(),
        &[Vec::new(), deltas(1, [(1, 5)]), deltas(-1, [(1, 5)])],
    );
    let costs: Vec<(usize, usize)> = none.iter().map(|(bag, n)| (bag.len(), *n)).collect();
    assert_eq!(costs, [(0, 0), (1, 1), (0, 0)]);
}

#[test]
fn what_cannot_be_read_or_embedded_is_not_decided_by_its_embedding() {
    let mut rows = all();
    rows.extend([(1, 29), (1, 30), (1, 31)]);
    let texts = [29, 30, 31].map(text_of);
    assert_eq!(texts[2], Value::Null);
    let (bag, _) = run(&told(), &[deltas(1, rows)]).remove(0);
    let of = |text: &Value| bag.keys().find(|row| row[1] == *text).unwrap().clone();
    assert_eq!(of(&Value::Null)[2..], [Value::Null, Value::Null]);
    let dark = of(&texts[1]);
    assert_ne!(dark[3], Value::text("embedding"));
    assert_eq!(dark[2], is_so(&texts[1]));
}
