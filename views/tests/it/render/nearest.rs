//! Pairs of the nearest: is it what a run from nothing finds, and how many calls is it?

use std::cmp::Reverse;
use std::collections::BTreeSet;

use perennial_ask::{CallError, Embed, Failure};

use super::*;

const PROMPT: &str = "Is {a.t} about {b.s}?";
/// A text with this word has no vector.
pub(super) const DARK: &str = "dark";

/// Embeds a text by the last number in it: in few directions, so that ties are many; behind the word
/// `up`, the greater the further; behind `near`, numbers have something in common with those next to them.
pub(super) struct Directions {
    n_texts: Arc<AtomicUsize>,
}

impl Directions {
    /// Adds up the texts that it embeds.
    pub(super) fn counting(n_texts: Arc<AtomicUsize>) -> Self {
        Self { n_texts }
    }
}

impl Embed for Directions {
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Failure> {
        if texts.iter().any(|text| text.contains(DARK)) {
            let reason = "too dark to see".to_owned();
            return Err(CallError::Model { reason }.into());
        }
        self.n_texts
            .fetch_add(texts.len(), std::sync::atomic::Ordering::SeqCst);
        let vector = |text: &&str| match text.starts_with("near") {
            true => next_to_others(number(text)),
            false => direction(text).map(|x| x as f32).to_vec(),
        };
        Ok(texts.iter().map(vector).collect())
    }

    fn digest(&self) -> [u8; 32] {
        [9; 32]
    }
}

/// The last number of a text.
pub(super) fn number(text: &str) -> i64 {
    let last = text.split_whitespace().last();
    last.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// A vector whose product with that of the next number is 1, with its own 2, and with all others 0.
fn next_to_others(n: i64) -> Vec<f32> {
    let n = usize::try_from(n).unwrap_or(0);
    (0..n + 2).map(|at| f32::from(u8::from(at >= n))).collect()
}

fn direction(text: &str) -> [i64; 2] {
    let n = number(text);
    match text.starts_with("up") {
        true => [n, 0],
        false => [n % 5 - 2, n / 5 % 5 - 2],
    }
}

/// The scripted model says yes of a text with a word of the prompt.
fn text_of(n: u16) -> Value {
    match n % 23 {
        0 => scripted::ERROR_WORD.into(),
        1 => Value::text(format!("about {} {n}", scripted::REFUSED_WORD)),
        2 => Value::Null,
        3 => Value::text(format!("about {DARK} {n}")),
        4..9 => Value::text(format!("text {n}")),
        _ => Value::text(format!("about {n}")),
    }
}

/// Which conditions stand beside the model's.
#[derive(Clone, Copy, Debug)]
struct Case {
    has_key: bool,
    /// In ON, of the right rows.
    in_on: bool,
    /// In WHERE, of the right rows, and of both.
    in_where: bool,
    n: usize,
}

impl Case {
    fn query(self) -> Query {
        let key = if self.has_key { "a.x = b.x AND " } else { "" };
        let on = if self.in_on { " AND b.g > 0" } else { "" };
        let with = match self.in_where {
            true => " WHERE b.g < 1 AND a.t <> b.s",
            false => "",
        };
        let n = self.n;
        let sql = format!(
            "SELECT a.x, a.t, b.x AS z, b.s, b.g FROM a JOIN b
             ON {key}sem_match('{PROMPT}', nearest => {n}){on}{with}"
        );
        bind(&parse(&sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"))
    }

    /// The result over these rows of `a` and `b`.
    fn of_nothing(self, [left, right]: &[Vec<Vec<Value>>; 2]) -> Bag {
        let mut bag = Bag::new();
        for a in left.iter().filter(|row| can_be_near(&row[2])) {
            let candidates: Vec<&Vec<Value>> =
                right.iter().filter(|b| self.is_candidate(a, b)).collect();
            let texts: BTreeSet<&Value> = candidates.iter().map(|b| &b[1]).collect();
            let mut texts: Vec<&Value> = texts.into_iter().collect();
            // A stable sort: of equals the least text is first.
            texts.sort_by_key(|text| Reverse(product(&a[2], text)));
            texts.truncate(self.n);
            for b in candidates.iter().filter(|b| texts.contains(&&b[1])) {
                if self.is_kept(a, b) && is_so(&a[2], &b[1]) {
                    let row = [&a[0], &a[2], &b[0], &b[1], &b[2]].map(Clone::clone);
                    *bag.entry(row.to_vec()).or_default() += 1;
                }
            }
        }
        bag
    }

    fn is_candidate(self, a: &[Value], b: &[Value]) -> bool {
        let is_equal = a[0] != Value::Null && a[0] == b[0];
        can_be_near(&b[1])
            && (!self.has_key || is_equal)
            && (!self.in_on || quarters(&b[2]).is_some_and(|n| n > 0))
    }

    fn is_kept(self, a: &[Value], b: &[Value]) -> bool {
        !self.in_where || (quarters(&b[2]).is_some_and(|n| n < 4) && a[2] != b[1])
    }
}

fn can_be_near(text: &Value) -> bool {
    text.as_text().is_some_and(|text| !text.contains(DARK))
}

fn product(left: &Value, right: &Value) -> i64 {
    let direction = |value: &Value| direction(value.as_text().unwrap());
    let ([a, b], [c, d]) = (direction(left), direction(right));
    a * c + b * d
}

fn quarters(value: &Value) -> Option<i64> {
    match value {
        Value::Float(x) => Some((x.get() * 4.0) as i64),
        _ => None,
    }
}

fn is_so(left: &Value, right: &Value) -> bool {
    let task = Task::new(PROMPT, Output::Truth).unwrap();
    scripted::output(&task, &[left.clone(), right.clone()]) == Value::Boolean(true)
}

/// A row for either table.
fn new_row() -> impl Strategy<Value = (usize, Vec<Value>)> {
    let x = || prop_oneof![1 => Just(Value::Null), 8 => (0i64..3).prop_map(Value::from)];
    let text = || (0u16..160).prop_map(text_of);
    prop_oneof![
        1 => (x(), text()).prop_map(|(x, t)| (0, vec![x, Value::Null, t, Value::Null])),
        2 => (x(), text(), float()).prop_map(|(x, s, g)| (1, vec![x, s, g])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_nearest_are_those_of_a_run_from_nothing(
        operations in prop::collection::vec(
            prop::collection::vec((new_row(), 0u8..5, any::<prop::sample::Index>()), 0..40), 1..7,
        ),
        n_workers in 1usize..4,
        (has_key, in_on, in_where) in any::<(bool, bool, bool)>(),
        n in 1usize..5,
    ) {
        let case = Case { has_key, in_on, in_where, n };
        let mut standing: [Vec<Vec<Value>>; 2] = Default::default();
        let (mut history, mut expected) = (Vec::new(), Vec::new());
        for operations in operations {
            let mut deltas = Vec::new();
            for ((table, row), kind, which) in operations {
                let rows = &mut standing[table];
                // Three in five are a delete or an update.
                if kind <= 2 && !rows.is_empty() {
                    let old = rows.swap_remove(which.index(rows.len()));
                    deltas.push((table, old, -1));
                }
                if kind > 0 {
                    rows.push(row.clone());
                    deltas.push((table, row, 1));
                }
            }
            history.push(deltas);
            expected.push(case.of_nothing(&standing));
        }
        let found = maintained(&case.query(), &schemas(), &history, n_workers);
        prop_assert_eq!(found, expected);
    }
}

/// A row of `a` or of `b`, that comes or goes.
fn a(text: &str) -> Delta {
    (
        0,
        vec![Value::Null, Value::Null, text.into(), Value::Null],
        1,
    )
}

fn b(x: i64, text: &str) -> Delta {
    (1, vec![x.into(), text.into(), Value::Null], 1)
}

fn gone((table, row, _): Delta) -> Delta {
    (table, row, -1)
}

#[test]
fn a_model_is_asked_about_the_nearest_only_and_again_about_what_becomes_one_of_them() {
    let case = Case {
        has_key: false,
        in_on: false,
        in_where: false,
        n: 3,
    };
    let mut first = vec![a("up 1"), a("up 2")];
    first.extend((1..=60).map(|n| b(n, &format!("up {n}"))));
    let mut history = vec![
        first,
        // None of the nearest; one of them; a second row that says what one says.
        vec![b(0, "up 0")],
        vec![b(0, "up 61")],
        vec![b(9, "up 61")],
        // It is there still, then no more: another takes its place.
        vec![gone(b(0, "up 61"))],
        vec![gone(b(9, "up 61"))],
        // A change elsewhere.
        vec![gone(b(60, "up 60")), b(8, "up 60")],
        vec![a("up 3")],
    ];
    // More than are kept in reserve go at once.
    history.push((10..60).map(|n| gone(b(n, &format!("up {n}")))).collect());
    let model = Arc::new(Narrow::new(4096));
    let found = maintained_by(model, &case.query(), &schemas(), &history, 2);
    let mut before = 0;
    let calls = found
        .iter()
        .map(|(_, n)| n - std::mem::replace(&mut before, *n));
    // Of three left rows, two of their three are others in the end.
    assert_eq!(
        calls.collect::<Vec<_>>(),
        [2 * 3, 0, 2, 0, 0, 2, 0, 3, 3 * 2]
    );
}

#[test]
fn a_condition_elsewhere_makes_no_other_row_one_of_the_nearest() {
    let rows: Vec<Delta> = (1..=9).map(|n| b(n, &format!("about up {n}"))).collect();
    let history = [[vec![a("2")], rows].concat()];
    let found = |sql: &str| {
        let query = bind(&parse(sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"));
        let mut found = maintained(&query, &schemas(), &history, 2);
        found.remove(0).into_keys().collect::<Vec<_>>()
    };
    let all = "SELECT b.x FROM a JOIN b ON sem_match('Is {a.t} about {b.s}?', nearest => 2)";
    let nearest = found(all);
    assert_eq!(nearest.len(), 2);
    let first = nearest[0][0].to_string();
    // In WHERE, around the query, and by a model: of the two, one is left.
    let queries = [
        format!("{all} WHERE b.x <> {first}"),
        format!("SELECT x FROM ({all}) AS pairs WHERE x <> {first}"),
        format!("{all} WHERE sem_filter('{{b.s}} about') AND b.x <> {first}"),
    ];
    for sql in queries {
        assert_eq!(found(&sql), nearest[1..], "{sql}");
    }
    // In ON it leaves another to be the second.
    let on = all.replace("ON ", &format!("ON b.x <> {first} AND "));
    assert_eq!(found(&on).len(), 2);
}
