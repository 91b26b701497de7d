//! Columns, orders, what tells rows apart, and digests.

use super::*;

#[test]
fn columns_stand_as_they_are_selected() {
    explained(
        "SELECT region, amount FROM orders",
        "result (region TEXT, amount INTEGER)\n└ project region, amount\n  └ scan orders (amount, region)",
    );
    explained(
        "SELECT amount, region FROM orders",
        "result (amount INTEGER, region TEXT)\n└ scan orders (amount, region)",
    );
}

#[test]
fn using_makes_one_column_of_two() {
    let schema = |text: &str| {
        sql(text)
            .unwrap_or_else(|e| panic!("{e}"))
            .schema()
            .to_string()
    };
    assert_eq!(
        schema("SELECT * FROM docs JOIN events USING (key)"),
        "key TEXT, title TEXT, updated_at TIMESTAMP"
    );
    // Where the left side may be missing, the right side's column is the one that is there.
    explained(
        "SELECT key, title FROM docs RIGHT JOIN events USING (key)",
        "result (key TEXT, title TEXT)
└ project key, title
  └ left join on key = key
    ├ scan events (key)
    └ scan docs (key, title)",
    );
}

#[test]
fn an_order_to_be_shown_is_kept() {
    let query = sql("SELECT id, region AS r FROM orders ORDER BY r DESC, 1").unwrap();
    let keys: Vec<_> = query
        .order()
        .iter()
        .map(|k| (k.column, k.is_descending))
        .collect();
    assert_eq!(keys, [(1, true), (0, false)]);
}

#[test]
fn rows_are_told_apart_by_the_column_key_else_by_the_fewest() {
    let key = |text: &str| {
        let query = sql(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        query.key().map(<[usize]>::to_vec)
    };
    assert_eq!(key("SELECT title, key FROM docs"), Some(vec![1]));
    assert_eq!(key("SELECT amount, id FROM orders"), Some(vec![1]));
    // Of a column that is selected twice, the first is known to be unique.
    assert_eq!(
        key("SELECT id AS other, id AS key FROM orders"),
        Some(vec![0])
    );
    assert_eq!(
        key("SELECT id, key FROM orders JOIN docs ON region = title"),
        Some(vec![0, 1])
    );
    assert_eq!(key("SELECT count(*) FROM orders"), Some(Vec::new()));
    assert_eq!(key("SELECT region FROM orders"), None);
}

#[test]
fn unique_columns_are_proven() {
    let unique = |text: &str| {
        sql(text)
            .unwrap_or_else(|e| panic!("{text}: {e}"))
            .unique()
            .to_vec()
    };
    assert_eq!(
        unique("SELECT region, id FROM orders WHERE amount > 1"),
        [[1]]
    );
    assert_eq!(unique("SELECT region FROM orders"), [[0usize; 0]; 0]);
    assert_eq!(unique("SELECT DISTINCT region, doc FROM orders"), [[0, 1]]);
    assert_eq!(
        unique("SELECT count(*), region FROM orders GROUP BY region"),
        [[1]]
    );
    assert_eq!(
        unique("SELECT id, region, count(*) FROM orders GROUP BY region, id"),
        [[0]]
    );
    assert_eq!(unique("SELECT count(*) FROM orders"), [[0usize; 0]]);
    assert_eq!(
        unique("SELECT id, title FROM orders JOIN docs ON doc = key"),
        [[0]]
    );
    assert_eq!(
        unique("SELECT id, key FROM orders JOIN docs ON region = title"),
        [[0, 1]]
    );
    assert_eq!(
        unique("SELECT id, title FROM docs LEFT JOIN orders ON doc = key"),
        [[0usize; 0]; 0]
    );
    assert_eq!(
        unique("SELECT id FROM orders UNION ALL SELECT id FROM orders"),
        [[0usize; 0]; 0]
    );
    assert_eq!(
        unique("SELECT id FROM orders ORDER BY price LIMIT 1"),
        [[0usize; 0]]
    );
}

#[test]
fn one_query_has_one_digest() {
    let digest = |text: &str| sql(text).unwrap_or_else(|e| panic!("{text}: {e}")).digest();
    let alike = [
        (
            "SELECT o.id AS n FROM orders o WHERE o.price > 1 AND o.region = 'a'",
            "SELECT x.id AS n FROM (SELECT * FROM orders) AS x WHERE x.region = 'a' AND 1 < x.price",
        ),
        (
            "WITH w AS (SELECT id, doc FROM orders) SELECT id FROM w JOIN docs ON doc = key",
            "SELECT id FROM orders, docs WHERE key = doc AND TRUE",
        ),
    ];
    for (a, b) in alike {
        assert_eq!(digest(a), digest(b), "{a} and {b}");
    }
    let unlike = [
        "SELECT id FROM orders",
        "SELECT id AS n FROM orders",
        "SELECT DISTINCT amount AS id FROM orders",
        "SELECT amount AS id FROM orders",
        "SELECT id FROM orders WHERE id > 1",
        "SELECT id FROM orders WHERE id > 1.0",
        "SELECT id FROM orders WHERE id >= 1",
        "SELECT id FROM orders ORDER BY id LIMIT 1",
        "SELECT id FROM orders ORDER BY id DESC LIMIT 1",
        "SELECT id FROM orders ORDER BY id LIMIT 2",
        "SELECT sum(id) AS id FROM orders",
        "SELECT min(id) AS id FROM orders",
        "SELECT sum(DISTINCT id) AS id FROM orders",
    ];
    let digests: BTreeSet<_> = unlike.iter().map(|text| digest(text)).collect();
    assert_eq!(digests.len(), unlike.len());
}

#[test]
fn digests_are_stable_across_releases() {
    // What is stored is compared with what is computed after an upgrade: where this changes, the
    // version in `digest.rs` does.
    let text = "WITH d AS (SELECT key, title FROM docs WHERE title ILIKE 'a%' ESCAPE '!')
        SELECT coalesce(o.region, 'none') AS region, count(*) AS n, count(DISTINCT d.title) AS t,
               avg(CASE WHEN o.amount IN (1, 2) THEN o.price ELSE -o.amount END) AS mean
        FROM orders o LEFT JOIN d ON o.doc = d.key AND o.region <> d.title
        WHERE o.id NOT IN (SELECT id FROM orders WHERE price IS NULL) AND o.amount % 3 = 1
        GROUP BY o.region HAVING count(*) > 1
        UNION ALL SELECT 'x', CAST(1.5 AS INTEGER), 0, NULL
        ORDER BY n DESC, 1 LIMIT 10 OFFSET 2";
    let digest = sql(text).unwrap_or_else(|e| panic!("{e}")).digest();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "0de1602ce3249acf0a43d40ccaab39410f5e231d3f505e0c2ae0aeab9f43355e"
    );
}
