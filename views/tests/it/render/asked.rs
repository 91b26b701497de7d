//! Models that are asked about rows and pairs of rows: how many calls is it?

use super::*;

/// What was asked in each epoch, and what stood last, on two workers.
fn calls_of(sql: &str, history: &[Vec<Delta>]) -> (Vec<usize>, Bag) {
    let query = bind(&parse(sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"));
    let model = Arc::new(Narrow::new(4096));
    let found = maintained_by(model, &query, &schemas(), history, 2);
    let mut before = 0;
    let calls = found
        .iter()
        .map(|(_, n)| n - std::mem::replace(&mut before, *n));
    let calls = calls.collect();
    (
        calls,
        found.last().map(|(bag, _)| bag.clone()).unwrap_or_default(),
    )
}

/// A row of `a`, and one of `b`.
fn a(x: i64, text: impl Into<Value>) -> Vec<Value> {
    vec![x.into(), Value::Null, text.into(), Value::Null]
}

fn b(x: i64, text: impl Into<Value>) -> Vec<Value> {
    vec![x.into(), text.into(), Value::Null]
}

fn all(table: usize, rows: impl IntoIterator<Item = Vec<Value>>, diff: isize) -> Vec<Delta> {
    rows.into_iter().map(|row| (table, row, diff)).collect()
}

#[test]
fn what_is_read_out_of_a_row_is_one_call_however_many_columns_it_is() {
    let sql = "SELECT x, price * 2 AS twice, product FROM
        (SELECT x, sem_extract('{t}', product => TEXT, price => FLOAT, at => TIMESTAMP,
                               mood => ('good', 'bad'), is_new => BOOLEAN) FROM a) AS e
        WHERE product IS NOT NULL OR price > 3 OR is_new";
    let rows = |n: std::ops::Range<i64>| n.map(|i| a(i, Value::text(format!("lamp {i}"))));
    let again = vec![(0, a(77, "lamp 3"), 1), (0, a(78, Value::Null), 1)];
    let moved = vec![(0, a(77, "lamp 3"), -1), (0, a(79, "lamp 3"), 1)];
    let (calls, _) = calls_of(
        sql,
        &[
            all(0, rows(0..20), 1),
            all(0, rows(20..21), 1),
            again,
            moved,
            all(0, rows(0..21), -1),
        ],
    );
    assert_eq!(calls, [20, 1, 0, 0, 0]);
    // What nobody reads is not asked.
    let unread = sql.replace(
        "SELECT x, price * 2 AS twice, product FROM",
        "SELECT x FROM",
    );
    let unread = unread.split("WHERE").next().unwrap_or_default();
    assert_eq!(calls_of(unread, &[all(0, rows(0..20), 1)]).0, [0]);
}

#[test]
fn the_best_by_a_score_cost_a_call_a_row_that_comes() {
    let sql = "SELECT x, t FROM a ORDER BY sem_score('How urgent is {t}?') DESC, x LIMIT 3";
    // The scripted model reads a score from a number in the text: 4 is the most.
    let rows = (0..40).map(|i| a(i, Value::text(format!("task {i} {}", i % 4))));
    let rows: Vec<Vec<Value>> = rows.collect();
    let urgent = a(100, "now 4");
    let (calls, last) = calls_of(
        sql,
        &[
            all(0, rows.clone(), 1),
            all(0, [urgent.clone()], 1),
            all(0, [a(101, "never 0")], 1),
            all(0, [urgent], -1),
        ],
    );
    assert_eq!(calls, [40, 1, 1, 0]);
    assert_eq!(last.len(), 3);
}

#[test]
fn a_pair_is_asked_about_once_and_only_if_all_else_holds() {
    let sql = "SELECT a.t, b.s FROM a JOIN b
               ON a.x = b.x AND sem_match('Is {a.t} about {b.s}?') WHERE a.t <> b.s AND a.x < 5";
    let left = (0..12).map(|i| a(i % 6, Value::text(format!("text {i}"))));
    let right = (0..6).map(|i| b(i, Value::text(format!("topic {i}"))));
    let mut first = all(0, left, 1);
    first.extend(all(1, right, 1));
    let (calls, _) = calls_of(
        sql,
        &[
            first,
            // It meets the two texts of its key.
            all(1, [b(2, "another")], 1),
            // One that other conditions leave out, and one that is there already.
            all(0, [a(5, "late"), a(2, "text 2")], 1),
            all(0, [a(2, "text 2"), a(2, "text 8")], -1),
            all(1, [b(2, "another"), b(2, "topic 2")], -1),
        ],
    );
    assert_eq!(calls, [10, 2, 0, 0, 0]);
    // Where all pairs are meant, these.
    let sql = "SELECT a.t, b.s FROM a JOIN b
               ON sem_match('Is {a.t} about {b.s}?', all_pairs => TRUE)";
    let mut first = all(0, (0..7).map(|i| a(i, Value::text(format!("text {i}")))), 1);
    first.extend(all(
        1,
        (0..5).map(|i| b(i, Value::text(format!("topic {i}")))),
        1,
    ));
    let (calls, _) = calls_of(sql, &[first, all(0, [a(9, "one more")], 1)]);
    assert_eq!(calls, [35, 5]);
}

#[test]
fn nobody_is_asked_about_pairs_of_a_row_that_a_model_rejects() {
    // The scripted model says yes of a text with a word of the prompt.
    let sql = "SELECT a.t, b.s FROM a JOIN b ON a.x = b.x AND sem_match('Is {a.t} about {b.s}?')
               WHERE sem_filter('{a.t} is a complaint')";
    let mut first = all(0, [a(1, "complaint 1"), a(1, "praise 2")], 1);
    first.extend(all(
        1,
        (0..6).map(|i| b(1, Value::text(format!("topic {i}")))),
        1,
    ));
    let (calls, _) = calls_of(
        sql,
        &[
            first,
            all(0, [a(1, "praise 3")], 1),
            // It meets nothing.
            all(0, [a(2, "complaint 4")], 1),
        ],
    );
    assert_eq!(calls, [2 + 6, 1, 0]);
}
