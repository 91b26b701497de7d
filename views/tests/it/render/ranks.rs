//! Rows that are ranked two at a time: is it what a run from nothing says, and how many calls is it?

use std::collections::BTreeSet;

use perennial_rows::encoding::Encoder;

use super::*;

const PROMPT: &str = "Which {t} is more?";

fn first(n: usize) -> Query {
    let sql = format!("SELECT t FROM a ORDER BY sem_rank('{PROMPT}') LIMIT {n}");
    bind(&parse(&sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"))
}

fn row(text: impl Into<Value>) -> Vec<Value> {
    vec![Value::Null, Value::Null, text.into(), Value::Null]
}

/// The plainest tournament: a function that calls itself, and shares no code with the dataflow.
struct Tournament {
    task: Task,
    n_places: usize,
}

impl Tournament {
    /// The best of some texts, by place.
    fn best(&self, texts: &BTreeSet<(u64, Value)>, level: u32) -> Vec<(u64, Value)> {
        if level == 4 {
            let alone = texts.iter().map(|text| vec![text.clone()]);
            return self.meet(&alone.collect::<Vec<_>>());
        }
        let mut slots: BTreeMap<u64, BTreeSet<(u64, Value)>> = BTreeMap::new();
        for (place, text) in texts {
            let of_slot = slots.entry(place >> (60 - 4 * level) & 15).or_default();
            of_slot.insert((*place, text.clone()));
        }
        let lists = slots.values().map(|texts| self.best(texts, level + 1));
        self.meet(&lists.collect::<Vec<_>>())
    }

    fn meet(&self, lists: &[Vec<(u64, Value)>]) -> Vec<(u64, Value)> {
        let (left, right) = match lists {
            [] => return Vec::new(),
            [only] => return only[..only.len().min(self.n_places)].to_vec(),
            more => more.split_at(more.len() / 2),
        };
        let (mut left, mut right) = (self.meet(left), self.meet(right));
        let mut all = Vec::new();
        while all.len() < self.n_places && !(left.is_empty() && right.is_empty()) {
            let is_left = match (left.first(), right.first()) {
                (Some(a), Some(b)) => self.is_better(a, b),
                (a, _) => a.is_some(),
            };
            all.push(if is_left {
                left.remove(0)
            } else {
                right.remove(0)
            });
        }
        all
    }

    fn is_better(&self, a: &(u64, Value), b: &(u64, Value)) -> bool {
        let (lesser, greater) = if a < b { (a, b) } else { (b, a) };
        let said = scripted::output(&self.task, &[lesser.1.clone(), greater.1.clone()]);
        let is_first = match said {
            Value::Null => lesser.1.to_string().len() <= greater.1.to_string().len(),
            said => said != Value::from("B"),
        };
        is_first == (a < b)
    }
}

/// The first rows of those that stand.
fn from_nothing(rows: &[Vec<Value>], n: usize) -> Bag {
    let tournament = Tournament {
        task: Task::of_pair(PROMPT).unwrap(),
        n_places: n,
    };
    let place = |text: &Value| {
        let digest = Encoder::new()
            .values(std::slice::from_ref(text))
            .digest("perennial 1 place in a tournament");
        u64::from_be_bytes(digest[..8].try_into().unwrap())
    };
    let known = rows
        .iter()
        .map(|row| &row[2])
        .filter(|t| **t != Value::Null);
    let texts: BTreeSet<(u64, Value)> = known.map(|t| (place(t), t.clone())).collect();
    let ranked: Vec<Value> = tournament
        .best(&texts, 0)
        .into_iter()
        .map(|(_, t)| t)
        .collect();
    let mut firsts: Vec<(usize, Value)> = rows
        .iter()
        .filter_map(|row| match &row[2] {
            Value::Null => Some((usize::MAX, Value::Null)),
            text => Some((ranked.iter().position(|t| t == text)?, text.clone())),
        })
        .collect();
    firsts.sort();
    let mut bag = Bag::new();
    for (_, text) in firsts.into_iter().take(n) {
        *bag.entry(vec![text]).or_default() += 1;
    }
    bag
}

/// A text that says a number, or none: then chance decides, which is no order.
fn text_of(n: u16) -> Value {
    match n % 23 {
        0 => scripted::ERROR_WORD.into(),
        1 => Value::text(format!("{} {n}", scripted::REFUSED_WORD)),
        2 => Value::Null,
        3..9 => Value::text(format!("text{n}")),
        _ => Value::text(format!("text {n}")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_first_are_those_of_a_run_from_nothing(
        operations in prop::collection::vec(
            prop::collection::vec((0u16..300, 0u8..5, any::<prop::sample::Index>()), 0..40), 1..6,
        ),
        n_workers in 1usize..4,
        n in 1usize..7,
    ) {
        let mut standing: Vec<Vec<Value>> = Vec::new();
        let (mut history, mut expected) = (Vec::new(), Vec::new());
        for operations in operations {
            let mut deltas = Vec::new();
            for (text, kind, which) in operations {
                // Two in five are a delete or an update.
                if kind <= 1 && !standing.is_empty() {
                    let old = standing.swap_remove(which.index(standing.len()));
                    deltas.push((0, old, -1));
                }
                if kind > 0 {
                    standing.push(row(text_of(text)));
                    deltas.push((0, row(text_of(text)), 1));
                }
            }
            history.push(deltas);
            expected.push(from_nothing(&standing, n));
        }
        let model = Arc::new(Narrow::new(4096));
        let found = maintained_by(model, &first(n), &schemas(), &history, n_workers);
        let found: Vec<Bag> = found.into_iter().map(|(bag, _)| bag).collect();
        prop_assert_eq!(found, expected);
    }
}

/// How many calls each epoch of a history takes.
fn calls_of(n_places: usize, history: &[Vec<Delta>]) -> Vec<usize> {
    let model = Arc::new(Narrow::new(4096));
    let found = maintained_by(model, &first(n_places), &schemas(), history, 2);
    let mut before = 0;
    let calls = found
        .iter()
        .map(|(_, n)| n - std::mem::replace(&mut before, *n));
    calls.collect()
}

fn texts(range: std::ops::Range<usize>, diff: isize) -> Vec<Delta> {
    // In no order of their numbers.
    let text = |n: usize| format!("review {}", n * 7919 % 10_007);
    range.map(|n| (0, row(text(n).as_str()), diff)).collect()
}

#[test]
fn an_edit_of_a_thousand_ranked_rows_asks_few_calls() {
    const N: usize = 1000;
    const N_EDITS: usize = 60;
    let mut history = vec![texts(0..N, 1)];
    for n in N..N + N_EDITS {
        history.push(texts(n..n + 1, 1));
    }
    for n in 0..N_EDITS {
        history.push(texts(n..n + 1, -1));
    }
    // The best of all comes, and goes.
    history.push(vec![(0, row("review 99999"), 1)]);
    history.push(vec![(0, row("review 99999"), -1)]);
    let calls = calls_of(5, &history);
    let summary = |calls: &[usize]| {
        let mean = calls.iter().sum::<usize>() as f64 / calls.len() as f64;
        (mean, calls.iter().copied().max().unwrap_or(0))
    };
    let insert = summary(&calls[1..=N_EDITS]);
    let delete = summary(&calls[N_EDITS + 1..][..N_EDITS]);
    let (comes, goes) = (calls[2 * N_EDITS + 1], calls[2 * N_EDITS + 2]);
    let told = format!(
        "all {}, insert {insert:?}, delete {delete:?}, best {comes}, {goes}",
        calls[0]
    );
    assert!(calls[0] <= 3 * N, "{told}");
    assert!(insert.0 <= 8.0 && insert.1 <= 40, "{told}");
    assert!(delete.0 <= 4.0 && delete.1 <= 16, "{told}");
    assert!(comes <= 20 && goes <= 20, "{told}");
    println!("{told}");
}

#[test]
fn what_is_ranked_already_asks_nobody_and_an_insert_with_its_delete_leaves_no_trace() {
    let again = vec![(0, row("review 7919"), 1)];
    let unknown = vec![(0, row(Value::Null), 1)];
    let history = [
        texts(0..50, 1),
        again,
        unknown,
        texts(50..90, 1),
        texts(50..90, -1),
    ];
    let calls = calls_of(4, &history);
    assert_eq!(calls[1..3], [0, 0]);
    let model = Arc::new(Narrow::new(4096));
    let found = maintained_by(model, &first(4), &schemas(), &history, 2);
    assert_eq!(found[2].0, found[4].0);
}

#[test]
fn an_update_after_epochs_without_one_asks_what_it_asks_without_these() {
    const N: usize = 300;
    let update = |n: usize| [texts(n..n + 1, -1), texts(N + n..N + n + 1, 1)].concat();
    let (mut at_once, mut idle) = (vec![texts(0..N, 1)], vec![texts(0..N, 1)]);
    for n in 0..12 {
        at_once.push(update(n));
        idle.extend([Vec::new(), Vec::new(), update(n)]);
    }
    let sum = |history: &[Vec<Delta>]| calls_of(5, history).iter().sum::<usize>();
    assert_eq!(sum(&idle), sum(&at_once));
}

#[test]
fn what_cannot_be_read_stands_behind_what_can() {
    let unreadable = format!("{} {}", scripted::ERROR_WORD, "x".repeat(500));
    let mut rows = texts(0..30, 1);
    rows.push((0, row(unreadable.as_str()), 1));
    let is_in = |n: usize| {
        let model = Arc::new(Narrow::new(4096));
        let found = maintained_by(model, &first(n), &schemas(), &[rows.clone()], 2);
        found[0].0.contains_key(&vec![Value::text(&*unreadable)])
    };
    assert!(!is_in(30));
    assert!(is_in(31));
}

#[test]
fn the_place_of_a_row_can_be_selected() {
    let sql = format!(
        "SELECT t, sem_rank('{PROMPT}') AS place FROM a ORDER BY sem_rank('{PROMPT}') LIMIT 3"
    );
    let query = bind(&parse(&sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"));
    let rows = [4, 9, 2, 7].map(|n| (0, row(Value::text(format!("text {n}"))), 1));
    let model = Arc::new(Narrow::new(4096));
    let found = maintained_by(model, &query, &schemas(), &[rows.to_vec()], 1);
    let expected = [("text 9", 1i64), ("text 7", 2), ("text 4", 3)];
    let expected = expected.map(|(text, place)| (vec![Value::text(text), place.into()], 1));
    assert_eq!(found[0].0, Bag::from(expected));
}
