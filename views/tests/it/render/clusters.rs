//! Texts that mean the same: is it what a run from nothing finds, and how many calls is it?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use perennial_ask::task::Subject;

use super::*;

/// The scripted model says yes of two texts one of which has a word of it.
const CHECK: &str = "Is each {t} about it?";

/// Texts with numbers next to each other are similar: what is in a row is one.
fn text_of(n: u16) -> Value {
    let at = n / 23;
    match n % 23 {
        0 => Value::text(format!("near {} {at}", scripted::ERROR_WORD)),
        1 => Value::text(format!("near about {} {at}", scripted::REFUSED_WORD)),
        2 => Value::Null,
        3 => Value::text(format!("near {} {at}", nearest::DARK)),
        4..9 => Value::text(format!("near text {at}")),
        _ => Value::text(format!("near about {at}")),
    }
}

/// Where the function stands, and what stands around it.
#[derive(Clone, Copy, Debug)]
struct Case {
    is_checked: bool,
    /// Rows are grouped by it.
    is_grouped: bool,
    /// Some rows are left out before, and by a model.
    in_where: bool,
    /// Some rows are left out behind it.
    around: bool,
}

impl Case {
    fn query(self) -> Query {
        let check = match self.is_checked {
            true => format!("'{CHECK}', "),
            false => String::new(),
        };
        let dedup = format!("sem_dedup(t, {check}threshold => 1)");
        let with = match self.in_where {
            true => " WHERE x > 0 AND sem_filter('{t} of text')",
            false => "",
        };
        let sql = match (self.is_grouped, self.around) {
            (true, true) => format!(
                "SELECT {dedup} AS d, count(*) AS n FROM a{with} GROUP BY d HAVING count(*) > 1"
            ),
            (true, false) => format!("SELECT {dedup} AS d, count(*) AS n FROM a{with} GROUP BY d"),
            (false, true) => {
                format!("SELECT * FROM (SELECT x, t, {dedup} AS d FROM a{with}) AS s WHERE x <> 1")
            }
            (false, false) => format!("SELECT x, t, {dedup} AS d FROM a{with}"),
        };
        bind(&parse(&sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"))
    }

    fn of_nothing(self, rows: &[Vec<Value>]) -> Bag {
        let is_kept = |row: &&Vec<Value>| {
            !self.in_where || (row[0] > Value::from(0i64) && is_of_text(&row[2]))
        };
        let rows: Vec<&Vec<Value>> = rows.iter().filter(is_kept).collect();
        let stands_for = stands_for(rows.iter().map(|row| &row[2]), self.is_checked);
        let mut bag = Bag::new();
        for row in rows {
            let dedup = stands_for.get(&row[2]).cloned().unwrap_or_default();
            let made = match self.is_grouped {
                true => vec![dedup],
                false => vec![row[0].clone(), row[2].clone(), dedup],
            };
            *bag.entry(made).or_default() += 1;
        }
        if self.is_grouped {
            let counted = bag.into_iter().map(|(mut group, n)| {
                group.push((n as i64).into());
                (group, 1)
            });
            bag = counted.collect();
        }
        bag.retain(|row, _| match (self.around, self.is_grouped) {
            (false, _) => true,
            (true, true) => row[1] > Value::from(1i64),
            (true, false) => row[0] != Value::Null && row[0] != Value::from(1i64),
        });
        bag
    }
}

fn is_of_text(text: &Value) -> bool {
    let task = Task::new("{t} of text", Output::Truth).unwrap();
    scripted::output(&task, std::slice::from_ref(text)) == Value::Boolean(true)
}

/// The least of the texts that each is connected with: sets that are united, pair by pair.
fn stands_for<'a>(
    texts: impl Iterator<Item = &'a Value>,
    is_checked: bool,
) -> BTreeMap<Value, Value> {
    let texts: BTreeSet<&Value> = texts.filter(|text| **text != Value::Null).collect();
    let texts: Vec<&Value> = texts.into_iter().collect();
    let mut parents: Vec<usize> = (0..texts.len()).collect();
    for (b, second) in texts.iter().enumerate() {
        for (a, first) in texts[..b].iter().enumerate() {
            if is_similar(first, second) && (!is_checked || is_confirmed(first, second)) {
                let (a, b) = (root(&parents, a), root(&parents, b));
                parents[a.max(b)] = a.min(b);
            }
        }
    }
    let all = texts.iter().enumerate();
    all.map(|(at, text)| ((*text).clone(), texts[root(&parents, at)].clone()))
        .collect()
}

fn root(parents: &[usize], at: usize) -> usize {
    match parents[at] {
        parent if parent == at => at,
        parent => root(parents, parent),
    }
}

fn is_similar(a: &Value, b: &Value) -> bool {
    let text = |value: &Value| value.as_text().unwrap().to_string();
    let (a, b) = (text(a), text(b));
    let is_dark = a.contains(nearest::DARK) || b.contains(nearest::DARK);
    !is_dark && (nearest::number(&a) - nearest::number(&b)).abs() <= 1
}

fn is_confirmed(a: &Value, b: &Value) -> bool {
    let task = Task::new(CHECK, Output::Truth).unwrap().of(Subject::Pair);
    scripted::output(&task, &[a.clone(), b.clone()]) == Value::Boolean(true)
}

fn row(x: i64, text: impl Into<Value>) -> Vec<Value> {
    vec![x.into(), Value::Null, text.into(), Value::Null]
}

type Operation = (i64, u16, u8, prop::sample::Index);

/// Rows that come and go, and what stands after each epoch.
fn history_of(operations: Vec<Vec<Operation>>) -> Vec<(Vec<Delta>, Vec<Vec<Value>>)> {
    let mut standing: Vec<Vec<Value>> = Vec::new();
    let epochs = operations.into_iter().map(|operations| {
        let mut deltas = Vec::new();
        for (x, n, kind, which) in operations {
            // Three in five are a delete or an update.
            if kind <= 2 && !standing.is_empty() {
                let old = standing.swap_remove(which.index(standing.len()));
                deltas.push((0, old, -1));
            }
            if kind > 0 {
                standing.push(row(x, text_of(n)));
                deltas.push((0, row(x, text_of(n)), 1));
            }
        }
        (deltas, standing.clone())
    });
    epochs.collect()
}

fn operations() -> impl Strategy<Value = Vec<Vec<Operation>>> {
    let operation = (
        -1i64..3,
        0u16..23 * 24,
        0u8..5,
        any::<prop::sample::Index>(),
    );
    prop::collection::vec(prop::collection::vec(operation, 0..30), 1..7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn texts_are_connected_as_in_a_run_from_nothing(
        operations in operations(),
        n_workers in 1usize..4,
        (is_checked, is_grouped, in_where, around) in any::<(bool, bool, bool, bool)>(),
    ) {
        let case = Case { is_checked, is_grouped, in_where, around };
        let (history, standing): (Vec<_>, Vec<_>) = history_of(operations).into_iter().unzip();
        let expected: Vec<Bag> = standing.iter().map(|rows| case.of_nothing(rows)).collect();
        let found = maintained(&case.query(), &schemas(), &history, n_workers);
        prop_assert_eq!(found, expected);
    }
}

const NAME: &str = "Name {t}.";
const NAME_TOKENS: usize = 30;

fn names() -> Query {
    let sql = format!(
        "SELECT x, t, sem_group('{NAME}', threshold => 1, max_tokens => {NAME_TOKENS}) AS name FROM a"
    );
    bind(&parse(&sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"))
}

/// What a run from nothing calls the texts that stand.
fn named_from_nothing(rows: &[Vec<Value>]) -> Bag {
    let stands_for = stands_for(rows.iter().map(|row| &row[2]), false);
    let mut members: BTreeMap<&Value, Vec<Vec<Value>>> = BTreeMap::new();
    for (text, first) in &stands_for {
        members.entry(first).or_default().push(vec![text.clone()]);
    }
    let named = members.into_iter().map(|(first, members)| {
        let name = batch::aggregate(NAME, NAME_TOKENS, N_POSITIONS, members);
        (first, name)
    });
    let named: BTreeMap<&Value, Value> = named.collect();
    let mut bag = Bag::new();
    for row in rows {
        let name = stands_for.get(&row[2]).and_then(|first| named.get(first));
        let name = name.cloned().unwrap_or_default();
        let made = vec![row[0].clone(), row[2].clone(), name];
        *bag.entry(made).or_default() += 1;
    }
    bag
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_means_the_same_is_called_as_a_run_from_nothing_calls_it(
        operations in operations(),
        n_workers in 1usize..4,
    ) {
        let (history, standing): (Vec<_>, Vec<_>) = history_of(operations).into_iter().unzip();
        let expected: Vec<Bag> = standing.iter().map(|rows| named_from_nothing(rows)).collect();
        let found = maintained(&names(), &schemas(), &history, n_workers);
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_name_is_asked_for_again_where_its_members_are_others() {
    let first = [
        (1, "near about 0"),
        (2, "near about 1"),
        (3, "near about 2"),
        (4, "near text 10"),
    ];
    let history = [
        deltas(1, &first),
        deltas(1, &[(5, "near about 3")]),
        deltas(1, &[(6, "near text 20")]),
        // A member that was alone; a row that says what another says, and its end.
        deltas(-1, &[(6, "near text 20")]),
        deltas(1, &[(7, "near about 3")]),
        deltas(-1, &[(7, "near about 3")]),
        // What stays has other members, and then there are two names.
        deltas(-1, &[(5, "near about 3")]),
        deltas(-1, &[(2, "near about 1")]),
    ];
    assert_eq!(
        costs(&names(), &history),
        [
            (2, 4),
            (1, 1),
            (1, 1),
            (0, 0),
            (0, 0),
            (0, 0),
            (1, 0),
            (2, 0)
        ]
    );
}

#[test]
fn rows_of_one_name_are_counted_and_a_name_and_what_stands_for_it_go_together() {
    let rows = [
        (1, "near about 0"),
        (2, "near about 1"),
        (3, "near about 5"),
    ];
    let sql = format!(
        "SELECT sem_dedup(t, threshold => 1) AS d, sem_group('{NAME}', threshold => 1) AS name,
                count(*) AS n
         FROM a GROUP BY d, name"
    );
    let query = bind(&parse(&sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"));
    let model = Arc::new(Narrow::new(4096));
    let found = maintained_by(model.clone(), &query, &schemas(), &[deltas(1, &rows)], 2);
    let (bag, n_calls) = &found[0];
    let shown = bag.keys().map(|row| (row[0].to_string(), row[2].clone()));
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            ("near about 0".to_owned(), 2i64.into()),
            ("near about 5".to_owned(), 1i64.into())
        ]
    );
    assert_eq!((*n_calls, model.n_embedded.load(Ordering::SeqCst)), (2, 3));
}

/// What was asked, and embedded, in each epoch of a history, on two workers.
fn costs(query: &Query, history: &[Vec<Delta>]) -> Vec<(usize, usize)> {
    let mut before = (0, 0);
    let costs = (1..=history.len()).map(|n_epochs| {
        let model = Arc::new(Narrow::new(4096));
        let found = maintained_by(model.clone(), query, &schemas(), &history[..n_epochs], 2);
        let n_calls = found.last().map_or(0, |(_, n)| *n);
        let now = (n_calls, model.n_embedded.load(Ordering::SeqCst));
        let (n_calls, n_embedded) = std::mem::replace(&mut before, now);
        (now.0 - n_calls, now.1 - n_embedded)
    });
    costs.collect()
}

/// Rows that come (1) or go (-1).
fn deltas(diff: isize, rows: &[(i64, &str)]) -> Vec<Delta> {
    let rows = rows.iter().map(|(x, text)| (0, row(*x, *text), diff));
    rows.collect()
}

#[test]
fn a_text_that_comes_is_embedded_and_asked_about_with_those_that_are_similar_and_one_that_goes_costs_nothing()
 {
    let case = Case {
        is_checked: true,
        is_grouped: false,
        in_where: false,
        around: false,
    };
    let first = [
        (1, "near about 0"),
        (2, "near about 2"),
        (3, "near text 10"),
        (4, "near text 11"),
        (5, "near about 30"),
    ];
    let mut moved = deltas(-1, &[(1, "near about 0")]);
    moved.extend(deltas(1, &[(8, "near about 0")]));
    let history = [
        deltas(1, &first),
        // It is between two; then a second row says the same.
        deltas(1, &[(6, "near about 1")]),
        deltas(1, &[(7, "near about 1")]),
        // Near nothing.
        deltas(1, &[(6, "near about 20")]),
        // A change elsewhere, and what goes.
        moved,
        deltas(-1, &[(6, "near about 1")]),
        deltas(-1, &[(7, "near about 1"), (3, "near text 10")]),
    ];
    assert_eq!(
        costs(&case.query(), &history),
        [(1, 5), (2, 1), (0, 0), (0, 1), (0, 0), (0, 0), (0, 0)]
    );
    let found = maintained(&case.query(), &schemas(), &history, 2);
    let stands_for = |at: usize| -> BTreeMap<String, String> {
        let rows = found[at].keys();
        rows.map(|row| (row[1].to_string(), row[2].to_string()))
            .collect()
    };
    assert_eq!(stands_for(0)["near about 2"], "near about 2");
    assert_eq!(stands_for(1)["near about 2"], "near about 0");
    // The model does not confirm these.
    assert_eq!(stands_for(1)["near text 11"], "near text 11");
    assert_eq!(stands_for(5)["near about 2"], "near about 0");
    assert_eq!(stands_for(6)["near about 2"], "near about 2");
}

#[test]
fn what_nobody_reads_is_neither_embedded_nor_asked() {
    let sql = format!(
        "SELECT x FROM (SELECT x, sem_dedup(t, '{CHECK}', threshold => 1) AS d FROM a) AS s"
    );
    let query = bind(&parse(&sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"));
    assert!(!query.asks() && !query.embeds(), "{query}");
    let rows = deltas(1, &[(1, "near about 0"), (2, "near about 1")]);
    assert_eq!(costs(&query, &[rows]), [(0, 0)]);
}

#[test]
fn a_long_chain_falls_apart_where_it_is_cut_and_an_insert_and_its_delete_leave_no_trace() {
    let case = Case {
        is_checked: false,
        is_grouped: true,
        in_where: false,
        around: false,
    };
    let chain: Vec<String> = (0..60).map(|n| format!("near about {n:02}")).collect();
    let rows: Vec<(i64, &str)> = chain.iter().map(|text| (1, &**text)).collect();
    let cut = deltas(-1, &rows[29..30]);
    let mended = deltas(1, &rows[29..30]);
    let found = maintained(
        &case.query(),
        &schemas(),
        &[deltas(1, &rows), cut, mended],
        2,
    );
    let groups = |at: usize| -> Vec<Vec<String>> {
        let rows = found[at].keys();
        rows.map(|row| row.iter().map(ToString::to_string).collect())
            .collect()
    };
    assert_eq!(groups(0), [["near about 00", "60"]]);
    assert_eq!(
        groups(1),
        [["near about 00", "29"], ["near about 30", "30"]]
    );
    assert_eq!(groups(2), groups(0));
}

#[test]
fn a_key_of_groups_may_be_counted_and_nested_and_be_what_a_model_writes() {
    let rows = [
        (1, "near about 0"),
        (2, "near about 1"),
        (3, "near about 5"),
    ];
    let of = |sql: &str| {
        let query = bind(&parse(sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"));
        let mut found = maintained(&query, &schemas(), &[deltas(1, &rows)], 2);
        let rows = found.remove(0).into_keys();
        let shown = rows.map(|row| row.iter().map(ToString::to_string).collect::<Vec<_>>());
        shown.collect::<Vec<_>>()
    };
    let dedup = "sem_dedup(t, threshold => 1)";
    assert_eq!(
        of(&format!("SELECT count(DISTINCT {dedup}) AS n FROM a")),
        [["2"]]
    );
    assert_eq!(
        of(&format!("SELECT DISTINCT {dedup} AS t FROM a")),
        [["near about 0"], ["near about 5"]]
    );
    // What stands for texts stands for itself.
    assert_eq!(
        of(&format!(
            "SELECT sem_dedup({dedup}, threshold => 1) AS d, max(x) AS x FROM a GROUP BY d"
        )),
        [["near about 0", "2"], ["near about 5", "3"]]
    );
    // What the scripted model writes begins otherwise, and all of it points into one direction.
    assert_eq!(
        of("SELECT count(DISTINCT sem_dedup(sem_map('Say {t}'), threshold => 1)) AS n FROM a"),
        [["1"]]
    );
}
