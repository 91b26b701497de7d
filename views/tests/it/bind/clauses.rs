//! What clauses of a query mean, and which are refused.

use super::*;

#[test]
fn all_errors_are_told_with_their_places() {
    refused(
        "SELECT prise, o.nothing, lower(amount), x.y FROM orders o WHERE region = 3 AND amuont > 1",
        &[
            (
                "prise",
                "there is no column `prise` in `o`; did you mean `price`?",
            ),
            (
                "o.nothing",
                "there is no column `nothing` in `o`; it has id, doc, region, price, amount",
            ),
            ("amount", "`lower` takes TEXT here, not INTEGER"),
            (
                "x.y",
                "there is no table `x` in this query; did you mean `o`?",
            ),
            (
                "region = 3",
                "`=` compares TEXT with INTEGER, which are never equal; cast one of them",
            ),
            (
                "amuont",
                "there is no column `amuont` in `o`; did you mean `amount`?",
            ),
        ],
    );
    refused(
        "SELECT a, b FROM order WHERE c",
        &[("order", "there is no table `order`; did you mean `orders`?")],
    );
}

#[test]
fn names_must_be_clear() {
    refused(
        "SELECT id FROM orders a JOIN orders b ON a.id = b.id",
        &[(
            "id",
            "`id` may be a column of `a` or of `b`; write `a.id` or `b.id`",
        )],
    );
    refused(
        "SELECT kind FROM events a, events b",
        &[(
            "kind",
            "`kind` may be a column of `a` or of `b`, which hold columns that are not declared; \
             write `a.kind`",
        )],
    );
    refused(
        "SELECT * FROM orders a JOIN orders b USING (id)",
        &["doc", "region", "price", "amount"].map(|name| {
            let message = format!(
                "two columns of the result are called `{name}`; give one another name with AS"
            );
            ("*", &*message.leak())
        }),
    );
    refused(
        "SELECT 1 AS x, 2 AS x",
        &[(
            "x",
            "two columns of the result are called `x`; give one another name with AS",
        )],
    );
}

#[test]
fn groups_say_only_what_they_know() {
    refused(
        "SELECT region, price, count(*) FROM orders GROUP BY region HAVING doc = 'a'",
        &[
            (
                "price",
                "`price` is not the same for all rows of a group; add it to GROUP BY, or put it \
                 into an aggregate",
            ),
            (
                "doc",
                "`doc` is not the same for all rows of a group; add it to GROUP BY, or put it into \
                 an aggregate",
            ),
        ],
    );
    refused(
        "SELECT sum(region) FROM orders WHERE count(*) > 1",
        &[
            ("region", "`sum` takes INTEGER or FLOAT, not TEXT"),
            (
                "count",
                "the aggregate `count` cannot stand in WHERE; aggregates stand in SELECT, HAVING \
                 and ORDER BY",
            ),
        ],
    );
    refused(
        "SELECT sem_map('Sum {region} up') AS s, min(sem_map('Sum {region} up')) AS m FROM orders",
        &[(
            "{region}",
            "`region` is not the same for all rows of a group; add it to GROUP BY, or put it into \
             an aggregate",
        )],
    );
    refused(
        "SELECT count(*) FROM orders GROUP BY 1",
        &[("1", "GROUP BY cannot group by an aggregate")],
    );
}

#[test]
fn what_is_not_supported_is_named() {
    let cases = [
        (
            "SELECT row_number() OVER () AS n FROM docs",
            "window function",
        ),
        (
            "WITH RECURSIVE a AS (SELECT 1 AS x) SELECT * FROM a",
            "WITH RECURSIVE",
        ),
        (
            "SELECT region FROM orders GROUP BY GROUPING SETS ((region))",
            "GROUPING SETS",
        ),
        (
            "SELECT region FROM orders GROUP BY ROLLUP (region)",
            "ROLLUP",
        ),
        (
            "SELECT id FROM orders FULL JOIN docs ON doc = key",
            "FULL JOIN",
        ),
        ("SELECT id FROM orders NATURAL JOIN docs", "NATURAL JOIN"),
        ("SELECT id FROM orders EXCEPT SELECT 1", "EXCEPT"),
        ("SELECT DISTINCT ON (id) id FROM orders", "DISTINCT ON"),
        (
            "SELECT id FROM orders ORDER BY price",
            "ORDER BY without LIMIT",
        ),
        (
            "SELECT id FROM (SELECT id FROM orders ORDER BY id) AS x",
            "ORDER BY in a subquery",
        ),
        (
            "SELECT id FROM orders LIMIT price",
            "LIMIT takes a whole number",
        ),
        ("SELECT (SELECT 1) AS x", "a subquery as a value"),
        (
            "SELECT id FROM orders WHERE id IN (SELECT 1) OR id = 2",
            "must stand in WHERE, by itself",
        ),
        ("SELECT id FROM orders FOR UPDATE", "FOR UPDATE"),
        ("SELECT id & 1 AS x FROM orders", "`&`"),
        (
            "SELECT CAST(id AS VARCHAR(3)) AS x FROM orders",
            "not kept within its bounds",
        ),
        ("SELECT CAST(id AS BLOB) AS x FROM orders", "is no type"),
        ("SELECT nothing(id) FROM orders", "no function `nothing`"),
        ("SELECT * EXCEPT (id) FROM orders", "EXCEPT after `*`"),
        ("SELECT id FROM orders QUALIFY id = 1", "QUALIFY"),
        ("SELECT $1 AS x", "placeholder"),
        ("SELECT 99999999999999999999 AS x", "beyond the integers"),
        ("SELECT id FROM orders WHERE price", "takes a condition"),
        (
            "SELECT id FROM orders WHERE doc IN (SELECT key, title FROM docs)",
            "selects 2 columns",
        ),
        (
            "SELECT id FROM orders UNION SELECT key FROM docs",
            "cast one",
        ),
        (
            "SELECT id FROM orders UNION SELECT id, doc FROM orders",
            "as many columns",
        ),
        (
            "SELECT key FROM docs WHERE updated_at > 'yesterday'",
            "is no timestamp",
        ),
        (
            "SELECT id FROM orders ORDER BY 2 LIMIT 1",
            "names no column",
        ),
        (
            "SELECT DISTINCT id FROM orders ORDER BY price LIMIT 1",
            "beside DISTINCT",
        ),
        (
            "WITH a AS (SELECT nope FROM docs) SELECT 1 AS x",
            "no column `nope`",
        ),
        ("SELECT id FROM orders JOIN docs", "JOIN needs ON or USING"),
        (
            "SELECT coalesce(id, doc) AS x FROM orders",
            "cast them to one type",
        ),
        ("VALUES (1), (1, 2)", "rows of VALUES differ"),
    ];
    for (text, expected) in cases {
        let errors = errors(text);
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert!(errors[0].1.contains(expected), "{text}: {errors:?}");
    }
}

#[test]
fn size_is_bounded() {
    let chain = |n: usize| format!("SELECT {} AS x", vec!["1"; n].join(" + "));
    assert!(sql(&chain(50)).is_ok());
    assert!(errors(&chain(2000))[0].1.contains("nests more than"));
    let long = |n: usize| {
        format!(
            "SELECT id FROM orders WHERE {}",
            vec!["id = 1"; n].join(" OR ")
        )
    };
    assert!(sql(&long(1000)).is_ok());
    let mut doubling = "WITH t0 AS (SELECT id FROM orders)".to_owned();
    for n in 1..12 {
        let m = n - 1;
        doubling += &format!(", t{n} AS (SELECT * FROM t{m} UNION ALL SELECT * FROM t{m})");
    }
    assert!(
        errors(&format!("{doubling} SELECT * FROM t11"))[0]
            .1
            .contains("more than 256 tables")
    );
}

#[test]
fn conditions_go_down_and_columns_go_away() {
    explained(
        "SELECT o.region, sum(o.price * o.amount) AS total
         FROM orders o JOIN docs d ON o.doc = d.key
         WHERE d.title LIKE 'A%' AND 3 < o.price AND o.region IS NOT NULL
         GROUP BY o.region HAVING o.region <> 'x' AND sum(o.price * o.amount) > 10",
        "result (region TEXT, total FLOAT)
└ filter sum > 10
  └ group by region: sum(price * amount)
    └ join on doc = key
      ├ filter region <> 'x' AND price > 3 AND region IS NOT NULL
      │ └ scan orders (amount, doc, price, region)
      └ project key
        └ filter title LIKE 'A%'
          └ scan docs (key, title)",
    );
    let query = sql("SELECT id FROM orders WHERE id IN (SELECT id FROM orders WHERE amount > 1)");
    let query = query.unwrap();
    // A relation that is read twice is one input.
    assert_eq!(query.inputs().len(), 1);
    assert_eq!(
        query.inputs()[0].columns.to_string(),
        "amount INTEGER, id INTEGER"
    );
}

#[test]
fn trees_are_told_as_they_are_run() {
    explained(
        "SELECT d.title, count(DISTINCT o.region) AS n FROM docs d LEFT JOIN orders o
         ON d.key = o.doc AND o.amount > 2 AND d.title <> o.region
         WHERE d.title IS NOT NULL GROUP BY d.title ORDER BY n DESC LIMIT 3 OFFSET 1",
        "result (title TEXT, n INTEGER)
└ top 3 after 1 by count DESC, title
  └ group by title: count(DISTINCT region)
    └ left join on key = doc where title <> region
      ├ filter title IS NOT NULL
      │ └ scan docs (key, title)
      └ project doc, region
        └ filter amount > 2
          └ scan orders (amount, doc, region)",
    );
    explained(
        "SELECT id FROM orders o WHERE NOT EXISTS (SELECT 1 FROM docs WHERE key = o.doc)
         AND region NOT IN (SELECT title FROM docs)",
        "result (id INTEGER)
└ project id
  └ antijoin where (region IS NULL OR is_null)
    ├ antijoin on region = title
    │ ├ project id, region
    │ │ └ antijoin on doc = key
    │ │   ├ scan orders (doc, id, region)
    │ │   └ scan docs (key)
    │ └ scan docs (title)
    └ distinct
      └ project title IS NULL AS is_null
        └ scan docs (title)",
    );
    explained(
        "SELECT x.id, 'it''s' AS t FROM (SELECT id, amount + 1 AS more FROM orders) x
         WHERE x.more > 2 AND 1 = 1 UNION SELECT 1, 'b' WHERE FALSE",
        "result (id INTEGER, t TEXT)
└ distinct
  └ union all
    └ project id, 'it''s' AS t
      └ filter amount + 1 > 2
        └ scan orders (amount, id)",
    );
    explained(
        "SELECT payload->'a'->>0 AS x, CASE WHEN NOT (kind = 'b' OR n > 1) THEN -n END AS y
         FROM events",
        "result (x TEXT, y ANY)
└ project payload -> 'a' ->> 0 AS x, CASE WHEN NOT (kind = 'b' OR n > 1) THEN -n ELSE NULL END AS y
  └ scan events (kind, n, payload)",
    );
    explained(
        "SELECT count(*) FROM orders",
        "result (count INTEGER)\n└ aggregate count(*)\n  └ scan orders ()",
    );
    explained(
        "SELECT DISTINCT id, region FROM orders WHERE id > 2 ORDER BY region DESC NULLS FIRST",
        "result (id INTEGER, region TEXT)\n└ filter id > 2\n  └ scan orders (id, region)",
    );
}
