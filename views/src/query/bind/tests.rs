//! What is bound, and what is refused with which words.

use std::collections::BTreeSet;

use perennial_ask::{Output, Task};
use perennial_rows::{Column, Schema, Type};
use sqlparser::ast::Statement;
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;

use super::*;

/// Orders of a shop, its documents, and events of which little is declared.
pub(crate) struct Shop;

impl Relations for Shop {
    fn relation(&self, name: &str) -> Option<RelationSchema> {
        let schema = |columns: &[(&str, Type)], unique: &[&str]| RelationSchema {
            columns: Schema::new(columns.iter().map(|(name, of)| Column::new(*name, *of))),
            is_open: false,
            unique: unique.iter().map(|name| vec![Arc::from(*name)]).collect(),
        };
        match name {
            "orders" => Some(schema(
                &[
                    ("id", Type::Integer),
                    ("doc", Type::Text),
                    ("region", Type::Text),
                    ("price", Type::Float),
                    ("amount", Type::Integer),
                ],
                &["id"],
            )),
            "docs" => Some(schema(
                &[
                    ("key", Type::Text),
                    ("title", Type::Text),
                    ("updated_at", Type::Timestamp),
                ],
                &["key"],
            )),
            "events" => Some(RelationSchema {
                is_open: true,
                ..schema(&[("key", Type::Text)], &["key"])
            }),
            _ => None,
        }
    }

    fn names(&self) -> Vec<Arc<str>> {
        ["docs", "events", "orders"].map(Arc::from).to_vec()
    }

    fn models(&self) -> Vec<Arc<str>> {
        vec!["small".into()]
    }

    fn check_task(&self, model: Option<&str>, task: &Task) -> Result<(), String> {
        match (model, task.output()) {
            (Some("small"), Output::Text { max_tokens: 100.. }) => Err("too long".to_owned()),
            _ => Ok(()),
        }
    }
}

pub(crate) fn parse(sql: &str) -> ast::Query {
    let mut statements = Parser::parse_sql(&GenericDialect {}, sql).expect(sql);
    match statements.remove(0) {
        Statement::Query(query) => *query,
        other => panic!("{other} is no query"),
    }
}

pub(crate) fn sql(text: &str) -> Result<Query, BindErrors> {
    bind(&parse(text), &Shop)
}

/// The errors of a query, and what their places cover.
fn errors(text: &str) -> Vec<(String, String)> {
    let errors = sql(text).expect_err(text).0;
    let errors = errors.into_iter().map(|error| {
        let place = error.span.map_or(String::new(), |span| {
            assert_eq!(span.start.line, 1, "{text}");
            let (from, to) = (span.start.column as usize - 1, span.end.column as usize - 1);
            text.chars().skip(from).take(to - from).collect()
        });
        (place, error.message)
    });
    errors.collect()
}

#[track_caller]
pub(super) fn refused(text: &str, expected: &[(&str, &str)]) {
    let expected: Vec<(String, String)> = expected
        .iter()
        .map(|(place, message)| (place.to_string(), message.to_string()))
        .collect();
    assert_eq!(errors(text), expected, "{text}");
}

#[track_caller]
pub(super) fn explained(text: &str, expected: &str) {
    let query = sql(text).unwrap_or_else(|errors| panic!("{text}: {errors}"));
    assert_eq!(query.to_string(), expected, "{text}");
}

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

#[test]
fn models_are_asked_behind_what_is_cheaper() {
    // Conditions of all kinds go first; the second question is about what the first kept.
    explained(
        "SELECT key, sem_map('Sum {title} up', max_tokens => 9) AS s FROM docs
         WHERE sem_filter('Is {title} new?') AND sem_filter('Is {docs.title} good?')
           AND updated_at > '2024-01-01' AND key IN (SELECT doc FROM orders)",
        concat!(
            "result (key TEXT, s TEXT)\n",
            "└ project key, sem_map\n",
            "  └ ask sem_map('Sum {title} up', max_tokens => 9) AS sem_map (a call a row)\n",
            "    └ project key, title\n",
            "      └ filter sem_filter\n",
            "        └ ask sem_filter('Is {docs.title} good?') AS sem_filter where {docs.title} = title (a pass a row)\n",
            "          └ project key, title\n",
            "            └ filter sem_filter\n",
            "              └ ask sem_filter('Is {title} new?') AS sem_filter (a pass a row)\n",
            "                └ semijoin on key = doc\n",
            "                  ├ project key, title\n",
            "                  │ └ filter updated_at > '2024-01-01T00:00:00.000Z'\n",
            "                  │   └ scan docs (key, title, updated_at)\n",
            "                  └ scan orders (doc)",
        ),
    );
    // A group is asked about behind HAVING; a key that a model makes, before.
    explained(
        "SELECT sem_classify('What is {doc}?', 'a', 'b') AS kind, count(*) AS n,
                sem_map('Describe {region}') AS d
         FROM orders GROUP BY kind, region HAVING count(*) > 1",
        concat!(
            "result (kind TEXT, n INTEGER, d TEXT)\n",
            "└ project sem_classify, count, sem_map\n",
            "  └ ask sem_map('Describe {region}', max_tokens => 128) AS sem_map (a call a row)\n",
            "    └ filter count > 1\n",
            "      └ group by sem_classify, region: count(*)\n",
            "        └ ask sem_classify('What is {doc}?', 'a', 'b') AS sem_classify (a pass a row)\n",
            "          └ scan orders (doc, region)",
        ),
    );
    // A question that an aggregate, or a condition on rows, asks of rows is asked of groups as well.
    explained(
        "SELECT region, sem_map('Describe {region}') AS d, min(sem_map('Describe {region}')) AS m
         FROM orders WHERE sem_filter('Is {region} far?')
         GROUP BY region HAVING NOT sem_filter('Is {region} far?')",
        concat!(
            "result (region TEXT, d TEXT, m TEXT)\n",
            "└ project region, sem_map, min\n",
            "  └ ask sem_map('Describe {region}', max_tokens => 128) AS sem_map (a call a row)\n",
            "    └ project region, min\n",
            "      └ filter NOT sem_filter\n",
            "        └ ask sem_filter('Is {region} far?') AS sem_filter (a pass a row)\n",
            "          └ group by region: min(sem_map)\n",
            "            └ ask sem_map('Describe {region}', max_tokens => 128) AS sem_map (a call a row)\n",
            "              └ project region\n",
            "                └ filter sem_filter\n",
            "                  └ ask sem_filter('Is {region} far?') AS sem_filter (a pass a row)\n",
            "                    └ scan orders (region)",
        ),
    );
    // What another model is asked is another question.
    explained(
        "SELECT sem_filter('Is {region} far?') AS a,
                sem_filter('Is {region} far?', model => Small) AS b,
                sem_map('{region}', max_tokens => 9, model => 'small') AS c FROM orders",
        concat!(
            "result (a BOOLEAN, b BOOLEAN, c TEXT)\n",
            "└ project sem_filter, sem_filter, sem_map\n",
            "  └ ask sem_map('{region}', max_tokens => 9, model => small) AS sem_map (a call a row)\n",
            "    └ ask sem_filter('Is {region} far?', model => small) AS sem_filter (a pass a row)\n",
            "      └ ask sem_filter('Is {region} far?') AS sem_filter (a pass a row)\n",
            "        └ scan orders (region)",
        ),
    );
    let asked = sql("SELECT sem_map('{region}', model => small, max_tokens => 9) AS a FROM orders");
    assert_eq!(asked.expect("binds").asked(), [Some("small".into())].into());
    refused(
        "SELECT sem_filter('{region}', model => smal) AS a, sem_map('{region}', model => small) AS b, sem_classify('{region}', 'a', 'b', model => 3) AS c FROM orders",
        &[
            ("smal", "there is no model `smal`; did you mean `small`?"),
            ("'{region}'", "too long"),
            (
                "model => 3",
                "`sem_classify` takes `model => name`, not `model => 3`",
            ),
        ],
    );
    // What is not read is not asked; behind a LIMIT only what stays is.
    explained(
        "SELECT n FROM (SELECT id AS n, sem_map('Describe {doc}') AS d FROM orders) AS s",
        concat!("result (n INTEGER)\n", "└ scan orders (id)",),
    );
    explained(
        "SELECT id, sem_map('Describe {doc}') AS d FROM orders ORDER BY price, id LIMIT 3",
        concat!(
            "result (id INTEGER, d TEXT)\n",
            "└ project id, sem_map\n",
            "  └ ask sem_map('Describe {doc}', max_tokens => 128) AS sem_map (a call a row)\n",
            "    └ project doc, id\n",
            "      └ top 3 by price, id\n",
            "        └ scan orders (doc, id, price)",
        ),
    );
    explained(
        "SELECT id, sem_map('Describe {doc}') AS d FROM orders
         WHERE sem_filter('Is {doc} good?') ORDER BY d LIMIT 3",
        concat!(
            "result (id INTEGER, d TEXT)\n",
            "└ top 3 by sem_map, id\n",
            "  └ project id, sem_map\n",
            "    └ ask sem_map('Describe {doc}', max_tokens => 128) AS sem_map (a call a row)\n",
            "      └ project doc, id\n",
            "        └ filter sem_filter\n",
            "          └ ask sem_filter('Is {doc} good?') AS sem_filter (a pass a row)\n",
            "            └ scan orders (doc, id)",
        ),
    );
}

#[test]
fn columns_are_read_out_of_a_text_by_one_question() {
    explained(
        "SELECT id, sem_extract('{doc}', product => TEXT, price => REAL, mood => ('good', 'bad'))
         FROM orders",
        concat!(
            "result (id INTEGER, product TEXT, price FLOAT, mood TEXT)\n",
            "└ project id, sem_extract ->> 'product' AS product, \
             CAST(sem_extract -> 'price' AS FLOAT) AS price, sem_extract ->> 'mood' AS mood\n",
            "  └ ask sem_extract('{doc}', product => TEXT, price => FLOAT, mood => ('good', 'bad'), \
             max_tokens => 256) AS sem_extract (a call a row)\n",
            "    └ scan orders (doc, id)",
        ),
    );
    // One column is an expression; conditions on what is read go to where it is.
    explained(
        "SELECT id, sem_extract('{doc}', n => INTEGER, max_tokens => 9) + 1 AS m FROM orders
         WHERE sem_extract('{doc}', n => INTEGER, max_tokens => 9) > 2 AND amount > 1",
        concat!(
            "result (id INTEGER, m INTEGER)\n",
            "└ project id, CAST(sem_extract -> 'n' AS INTEGER) + 1 AS m\n",
            "  └ filter CAST(sem_extract -> 'n' AS INTEGER) > 2\n",
            "    └ ask sem_extract('{doc}', n => INTEGER, max_tokens => 9) AS sem_extract \
             (a call a row)\n",
            "      └ project doc, id\n",
            "        └ filter amount > 1\n",
            "          └ scan orders (amount, doc, id)",
        ),
    );
    explained(
        "SELECT price, count(*) AS n FROM
         (SELECT sem_extract('{doc}', price => FLOAT, is_new => BOOLEAN) FROM orders) AS x
         WHERE is_new GROUP BY price",
        concat!(
            "result (price FLOAT, n INTEGER)\n",
            "└ group by price: count(*)\n",
            "  └ project CAST(sem_extract -> 'price' AS FLOAT) AS price\n",
            "    └ filter CAST(sem_extract -> 'is_new' AS BOOLEAN)\n",
            "      └ ask sem_extract('{doc}', price => FLOAT, is_new => BOOLEAN, max_tokens => 256) \
             AS sem_extract (a call a row)\n",
            "        └ scan orders (doc)",
        ),
    );
    refused(
        "SELECT sem_extract('{dok}', a => TEXT) AS a, sem_extract('{doc}') AS b, sem_extract('{doc}', c => VECTOR), sem_extract('{doc}', 'x') AS d, sem_extract('{doc}', e => ('x')), sem_extract('{doc}', f => TEXT, g => TEXT) AS f, sem_extract('{doc}', h => TEXT, max_tokens => 0), sem_extract('{doc}', i => TEXT, i => TEXT) FROM orders",
        &[
            (
                "{dok}",
                "there is no column `dok` in `orders`; did you mean `doc`?",
            ),
            (
                "sem_extract",
                "`sem_extract` takes a prompt and the columns to read out: \
                 sem_extract('… {column} …', product => TEXT, price => FLOAT)",
            ),
            (
                "c => VECTOR",
                "`sem_extract` takes columns as `name => TYPE`, of type TEXT, INTEGER, FLOAT, \
                 BOOLEAN or TIMESTAMP, or as `name => ('label', …)`, not `c => VECTOR`",
            ),
            (
                "'x'",
                "`sem_extract` takes columns as `name => TYPE`, of type TEXT, INTEGER, FLOAT, \
                 BOOLEAN or TIMESTAMP, or as `name => ('label', …)`, not `'x'`",
            ),
            (
                "sem_extract",
                "`sem_extract`: of `e`: give two labels or more",
            ),
            (
                "sem_extract",
                "`sem_extract` makes 2 columns; select it by itself, in a query below where these \
                 are read: SELECT … FROM (SELECT *, sem_extract(…) FROM …)",
            ),
            (
                "max_tokens => 0",
                "`sem_extract` takes `max_tokens => n`, a whole number from 1 to 1000000, not \
                 `max_tokens => 0`",
            ),
            ("sem_extract", "`sem_extract`: the field `i` is given twice"),
        ],
    );
}

#[test]
fn what_is_wrong_with_an_argument_is_said_at_the_argument() {
    refused(
        "SELECT sem_agg('{doc}', max_tokens => 'x') AS a, sem_agg('{doc}', 7) AS b, sem_agg('{doc}', model => small, model => small) AS c, sem_map('{doc}', 'x') AS d, sem_score('{doc}', 'x') AS e, sem_classify('{doc}', a => 'b') AS f FROM orders",
        &[
            (
                "max_tokens => 'x'",
                "`sem_agg` takes `max_tokens => n`, a whole number from 1 to 1000000, not \
                 `max_tokens => 'x'`",
            ),
            (
                "7",
                "`sem_agg` takes a prompt and `max_tokens => n`, not `7`",
            ),
            ("model => small", "`sem_agg` asks one model"),
            (
                "'x'",
                "`sem_map` takes a prompt and `max_tokens => n`, not `'x'`",
            ),
            (
                "'x'",
                "`sem_score` takes a prompt, and `model => name` behind it, not `'x'`",
            ),
            (
                "a => 'b'",
                "the argument `a => 'b'` of `sem_classify` is not supported",
            ),
        ],
    );
}

#[test]
fn the_best_by_a_score_are_asked_about_behind_other_conditions() {
    explained(
        "SELECT id FROM orders WHERE amount > 1 ORDER BY sem_score('How urgent is {doc}?') DESC LIMIT 3",
        concat!(
            "result (id INTEGER)\n",
            "└ project id\n",
            "  └ top 3 by order DESC, id\n",
            "    └ project id, sem_score AS order\n",
            "      └ ask sem_score('How urgent is {doc}?') AS sem_score (a pass a row)\n",
            "        └ project doc, id\n",
            "          └ filter amount > 1\n",
            "            └ scan orders (amount, doc, id)",
        ),
    );
}

#[test]
fn rows_are_ranked_before_what_only_the_first_are_asked() {
    explained(
        "SELECT id, sem_map('Describe {doc}') AS d FROM orders WHERE amount > 1
         ORDER BY sem_rank('Which {doc} is more urgent?', model => small), id LIMIT 3 OFFSET 1",
        concat!(
            "result (id INTEGER, d TEXT)\n",
            "└ project id, sem_map\n",
            "  └ ask sem_map('Describe {doc}', max_tokens => 128) AS sem_map (a call a row)\n",
            "    └ project doc, id\n",
            "      └ top 3 after 1 by sem_rank NULLS LAST, id\n",
            "        └ first 4 by sem_rank('Which {doc} is more urgent?', model => small) AS sem_rank \
             (a pass for two that meet)\n",
            "          └ project doc, id\n",
            "            └ filter amount > 1\n",
            "              └ scan orders (amount, doc, id)",
        ),
    );
    // A condition on what is ranked leaves places empty.
    explained(
        "SELECT id FROM (SELECT id, amount FROM orders ORDER BY sem_rank('{doc}') LIMIT 2) AS x
         WHERE amount > 1",
        concat!(
            "result (id INTEGER)\n",
            "└ project id\n",
            "  └ filter amount > 1\n",
            "    └ top 2 by order NULLS LAST, id\n",
            "      └ project id, amount, sem_rank AS order\n",
            "        └ first 2 by sem_rank('{doc}') AS sem_rank (a pass for two that meet)\n",
            "          └ scan orders (amount, doc, id)",
        ),
    );
    let shown =
        "SELECT id, sem_rank('{doc}') AS place FROM orders ORDER BY sem_rank('{doc}') LIMIT 2";
    let shown = sql(shown).unwrap_or_else(|errors| panic!("{errors}"));
    let by_place = OrderBy {
        column: 1,
        is_descending: false,
        nulls_first: false,
    };
    assert_eq!(shown.order, [by_place]);
    refused(
        "SELECT sem_rank('{region}') AS a FROM orders ORDER BY sem_rank('{doc}') LIMIT 1",
        &[(
            "sem_rank",
            "`sem_rank` in SELECT is the place in the order of ORDER BY; ask the same there",
        )],
    );
    refused(
        "SELECT DISTINCT id FROM orders ORDER BY sem_rank('{doc}') LIMIT 1",
        &[(
            "sem_rank",
            "`sem_rank` ranks rows; DISTINCT goes in a query below",
        )],
    );
    let in_order =
        "`sem_rank` is an order of rows: it stands by itself in ORDER BY, before all other keys";
    refused(
        "SELECT sem_rank('{doc}') AS a FROM orders ORDER BY id, sem_rank('{doc}') LIMIT 1",
        &[("sem_rank", in_order)],
    );
    let limit = "`sem_rank` ranks the first rows: it needs a LIMIT, with OFFSET of at most 100";
    for query in [
        "SELECT id FROM orders ORDER BY sem_rank('{doc}')",
        "SELECT id FROM orders ORDER BY sem_rank('{doc}') LIMIT 99 OFFSET 2",
    ] {
        refused(query, &[("sem_rank", limit)]);
    }
    refused(
        "SELECT id FROM orders ORDER BY sem_rank('{doc}') DESC LIMIT 1",
        &[(
            "sem_rank",
            "`sem_rank` is an order: the first stands first, without ASC or DESC",
        )],
    );
    refused(
        "SELECT region FROM orders GROUP BY region ORDER BY sem_rank('{region}') LIMIT 1",
        &[(
            "sem_rank",
            "`sem_rank` ranks rows; rank groups in a query around",
        )],
    );
    refused(
        "SELECT id FROM orders ORDER BY sem_rank('{dok}') LIMIT 1",
        &[(
            "{dok}",
            "there is no column `dok` in `orders`; did you mean `doc`?",
        )],
    );
}

#[test]
fn pairs_are_asked_about_behind_all_that_rules_them_out() {
    explained(
        "SELECT o.id, d.key FROM orders o JOIN docs d
         ON sem_match('Is {o.doc} about {d.title}?') AND o.region = d.key
         WHERE o.amount > 1 AND d.title <> o.doc",
        concat!(
            "result (id INTEGER, key TEXT)\n",
            "└ project id, key\n",
            "  └ filter sem_match\n",
            "    └ ask sem_match('Is {o.doc} about {d.title}?') AS sem_match \
             where {o.doc} = doc, {d.title} = title (a pass a pair)\n",
            "      └ project doc, id, key, title\n",
            "        └ join on region = key where title <> doc\n",
            "          ├ project doc, id, region\n",
            "          │ └ filter amount > 1\n",
            "          │   └ scan orders (amount, doc, id, region)\n",
            "          └ scan docs (key, title)",
        ),
    );
    // An equality in WHERE is one of the pairs, too.
    let keyed = "SELECT o.id FROM orders o JOIN docs d ON sem_match('{o.doc} {d.title}')
                 WHERE o.region = d.key";
    assert!(sql(keyed).is_ok(), "{:?}", sql(keyed));
    let all = "SELECT o.id FROM orders o JOIN docs d ON sem_match('{o.doc} {d.title}', all_pairs => true)";
    assert!(sql(all).is_ok(), "{:?}", sql(all));
    let every = "`sem_match` would be asked about every pair of rows of both sides; add an equality of \
                 both sides to ON or WHERE, or write `nearest => 10` or `all_pairs => TRUE`";
    refused(
        "SELECT o.id FROM orders o JOIN docs d ON sem_match('{o.doc} {d.title}') WHERE o.amount > 1",
        &[("sem_match", every)],
    );
    // The equality is of another pair.
    refused(
        "SELECT o.id FROM orders o JOIN docs d ON o.doc = d.key JOIN events e ON sem_match('{o.doc} {e.key}')",
        &[("sem_match", every)],
    );
    // The equality brings others together: of these two it would be all pairs.
    refused(
        "SELECT o.id FROM orders o CROSS JOIN docs d JOIN events e ON o.doc = e.key AND sem_match('{d.title} {e.key}')",
        &[("sem_match", every)],
    );
    // Equalities lead from one to the other through a third.
    let through = "SELECT o.id FROM orders o JOIN docs d ON o.doc = d.key
                   JOIN events e ON d.key = e.key AND sem_match('{o.region} {e.key}')";
    assert!(sql(through).is_ok(), "{:?}", sql(through));
    let in_on = "`sem_match` decides which rows an inner JOIN pairs; it stands in its ON";
    refused(
        "SELECT o.id FROM orders o LEFT JOIN docs d ON sem_match('{o.doc} {d.title}') WHERE sem_match('{doc} {title}')",
        &[("sem_match", in_on), ("sem_match", in_on)],
    );
    refused(
        "SELECT o.id FROM orders o JOIN docs d ON o.doc = d.key AND sem_match('{o.doc}')",
        &[(
            "sem_match",
            "the prompt of `sem_match` must name columns of both sides; what is about one of them is \
             `sem_filter` in WHERE",
        )],
    );
    refused(
        "SELECT o.id FROM orders o JOIN docs d ON o.doc = d.key AND sem_match('{o.doc} {d.titel}', all_pairs => 1)",
        &[(
            "all_pairs => 1",
            "`sem_match` takes `all_pairs => TRUE`, not `all_pairs => 1`",
        )],
    );
    refused(
        "SELECT o.id FROM orders o JOIN docs d ON sem_match('{o.doc} {d.titel}')",
        &[(
            "{d.titel}",
            "there is no column `titel` in `d`; did you mean `title`?",
        )],
    );
}

#[test]
fn the_nearest_are_chosen_by_what_on_says_and_what_where_says_is_asked_of_them() {
    explained(
        "SELECT o.id, d.key FROM orders o JOIN docs d
         ON o.region = d.key AND d.title <> '' AND o.amount > 1
            AND sem_match('Is {o.doc} about {d.title}?', nearest => 5)
         WHERE o.amount < 9 AND d.title <> 'x' AND d.title <> o.doc AND o.doc = d.key",
        concat!(
            "result (id INTEGER, key TEXT)\n",
            "└ project id, key\n",
            "  └ filter sem_match\n",
            "    └ ask sem_match('Is {o.doc} about {d.title}?') AS sem_match \
             where {o.doc} = doc, {d.title} = title (a pass a pair)\n",
            "      └ project doc, id, key, title\n",
            "        └ filter doc = key AND title <> doc AND title <> 'x'\n",
            "          └ join on region = key with the 5 nearest of (title) to (doc)\n",
            "            ├ project doc, id, region\n",
            "            │ └ filter amount < 9 AND amount > 1\n",
            "            │   └ scan orders (amount, doc, id, region)\n",
            "            └ filter title <> ''\n",
            "              └ scan docs (key, title)",
        ),
    );
    // A model that rejects right rows is asked about the nearest, one that rejects left ones too.
    for rejects in ["sem_filter('{d.title}')", "sem_filter('{o.doc}')"] {
        let text = format!(
            "SELECT o.id FROM orders o JOIN docs d ON sem_match('{{o.doc}} {{d.title}}', nearest => 1)
             WHERE {rejects}"
        );
        let plan = sql(&text).map(|query| query.to_string());
        let plan = plan.unwrap_or_else(|errors| panic!("{text}: {errors}"));
        let place = |part: &str| {
            plan.find(part)
                .unwrap_or_else(|| panic!("{part} in\n{plan}"))
        };
        assert!(place("ask sem_match") < place("ask sem_filter"), "{plan}");
        assert!(
            place("ask sem_filter") < place("join with the nearest of (title) to (doc)"),
            "{plan}"
        );
    }
}

#[test]
fn the_nearest_are_refused_where_it_is_not_clear_which_they_are() {
    let joined = |on: &str| format!("SELECT o.id FROM orders o JOIN docs d ON {on}");
    let pair = "sem_match('{o.doc} {d.title}', nearest => 3)";
    let alone = "`sem_match` with `nearest` says which pairs there are: it stands in ON by itself, or joined \
                 to other conditions by AND";
    for on in [format!("({pair} OR o.doc = d.key)"), format!("NOT {pair}")] {
        refused(&joined(&on), &[("sem_match", alone)]);
    }
    let compared = "beside `nearest`, ON holds equalities of both sides and conditions on one of them; what \
                    else compares both stands in WHERE, and is asked of the nearest";
    refused(
        &joined(&format!("o.doc < d.key AND {pair}")),
        &[("sem_match", compared)],
    );
    for given in ["0", "1001", "2.5", "'3'"] {
        let argument = format!("nearest => {given}");
        let message = format!(
            "`sem_match` takes `nearest => n`, a whole number from 1 to 1000, not `{argument}`"
        );
        let on = format!("sem_match('{{o.doc}} {{d.title}}', {argument})");
        refused(&joined(&on), &[(&*argument, &*message)]);
    }
    refused(
        &joined("sem_match('{o.doc} {d.title}', nearest => 3, all_pairs => TRUE)"),
        &[(
            "sem_match",
            "`sem_match` is asked about all pairs or about the nearest, not about both",
        )],
    );
    refused(
        &joined(&format!(
            "{pair} AND sem_match('Or {{o.doc}} {{d.title}}', nearest => 3)"
        )),
        &[(
            "sem_match",
            "one `sem_match` of a JOIN says which rows are the nearest",
        )],
    );
    let one_sided = "the prompt of `sem_match` must name columns of both sides; what is about one of them is \
                     `sem_filter` in WHERE";
    refused(
        &joined("sem_match('{o.doc}', nearest => 3)"),
        &[("sem_match", one_sided)],
    );
    // What an earlier join asks says nothing of a later one.
    refused(
        &format!(
            "{} JOIN events e ON e.key = d.key AND {pair}",
            joined("o.doc = d.key AND sem_match('{o.doc} {d.title}')")
        ),
        &[("sem_match", one_sided)],
    );
    // Another may be asked of the same pairs.
    let both = joined(&format!("{pair} AND sem_match('Or {{o.doc}} {{d.title}}')"));
    assert!(sql(&both).is_ok(), "{:?}", sql(&both));
}

#[test]
fn an_embedding_decides_above_what_no_model_decides_and_below_all_from_around() {
    let within = "recall => 0.9, precision => 0.95";
    explained(
        &format!(
            "SELECT id, sem_decider('{{doc}}?', {within}) AS who FROM orders
             WHERE sem_filter('{{doc}}?', {within}) AND amount > 1"
        ),
        concat!(
            "result (id INTEGER, who TEXT)\n",
            "└ project id, sem_decider\n",
            "  └ filter sem_filter\n",
            "    └ ask sem_filter('{doc}?', recall => 0.9, precision => 0.95, sample => 600) AS sem_filter \
             (an embedding a row, a pass for each of a sample of 600, and for each other that its embedding \
             does not decide)\n",
            "      └ project doc, id\n",
            "        └ filter amount > 1\n",
            "          └ scan orders (amount, doc, id)",
        ),
    );
    // Questions stand in their order, and what is around is asked of what they keep.
    explained(
        "SELECT id FROM (SELECT id, region, doc FROM orders
                         WHERE sem_filter('{doc}?', recall => 0.5, sample => 50, model => small)
                           AND sem_filter('Or {doc}?')) AS o
         WHERE region <> 'x'",
        concat!(
            "result (id INTEGER)\n",
            "└ project id\n",
            "  └ filter sem_filter\n",
            "    └ ask sem_filter('Or {doc}?') AS sem_filter (a pass a row)\n",
            "      └ project doc, id\n",
            "        └ filter sem_filter AND region <> 'x'\n",
            "          └ ask sem_filter('{doc}?', recall => 0.5, sample => 50, model => small) AS sem_filter \
             (an embedding a row, a pass for each of a sample of 50, and for each other that its embedding \
             does not decide)\n",
            "            └ scan orders (doc, id, region)",
        ),
    );
    let query = sql("SELECT id FROM orders WHERE sem_filter('{doc}?', precision => 0.5)").unwrap();
    assert!(query.embeds() && query.asks());
    // What is given up is part of the question; all of it is none.
    let digest = |given: &str| {
        let text = format!("SELECT id FROM orders WHERE sem_filter('{{doc}}?'{given})");
        sql(&text)
            .unwrap_or_else(|errors| panic!("{text}: {errors}"))
            .digest()
    };
    assert_eq!(digest(", recall => 1, precision => 1.0"), digest(""));
    let all = [
        "",
        ", recall => 0.5",
        ", precision => 0.5",
        ", recall => 0.5, sample => 50",
    ];
    let digests: BTreeSet<[u8; 32]> = all.iter().map(|given| digest(given)).collect();
    assert_eq!(digests.len(), all.len());
    // What nobody reads is neither asked nor embedded.
    explained(
        &format!(
            "SELECT id FROM (SELECT id, sem_filter('{{doc}}?', {within}) AS f FROM orders) AS o"
        ),
        "result (id INTEGER)\n└ scan orders (id)",
    );
    // Groups have other values than rows: it is asked of them.
    let grouped = format!(
        "SELECT doc, sem_decider('{{doc}}?', {within}) AS who FROM orders
         WHERE sem_filter('{{doc}}?', {within}) GROUP BY doc"
    );
    assert!(sql(&grouped).is_ok(), "{:?}", sql(&grouped));
}

#[test]
fn what_an_embedding_may_decide_is_refused_by_name_where_it_is_wrong() {
    let share = |key: &str, given: &str| {
        format!(
            "`sem_filter` takes `{key} => x`, a number above 0 and up to 1, not `{key} => {given}`"
        )
    };
    let filtered =
        |given: &str| format!("SELECT id FROM orders WHERE sem_filter('{{doc}}?', {given})");
    for key in ["recall", "precision"] {
        for given in ["0", "1.5", "'0.9'", "amount"] {
            let argument = format!("{key} => {given}");
            refused(&filtered(&argument), &[(&*argument, &*share(key, given))]);
        }
    }
    for given in ["49", "10001", "0.5"] {
        let argument = format!("sample => {given}");
        let message = format!(
            "`sem_filter` takes `sample => n`, a whole number from 50 to 10000, not `{argument}`"
        );
        let given = format!("recall => 0.5, {argument}");
        refused(&filtered(&given), &[(&*argument, &*message)]);
    }
    refused(
        &filtered("sample => 100"),
        &[(
            "sample => 100",
            "`sample => n` of `sem_filter` stands beside `recall => x` or `precision => x` below 1",
        )],
    );
    refused(
        "SELECT sem_decider('{doc}?') AS who FROM orders",
        &[(
            "sem_decider",
            "`sem_decider` says who decides where `recall => x` or `precision => x` is below 1; without, a \
             model decides about every row",
        )],
    );
    refused(
        "SELECT sem_score('{doc}?', recall => 0.5) AS s FROM orders",
        &[(
            "recall => 0.5",
            "`sem_score` takes a prompt, and `model => name` behind it, not `recall => 0.5`",
        )],
    );
    refused(
        "SELECT o.id FROM orders o JOIN docs d ON o.doc = d.key AND sem_filter('{o.doc}?', recall => 0.5)",
        &[(
            "sem_filter",
            "`sem_filter` cannot stand in ON; `sem_match` decides which rows are paired",
        )],
    );
}

#[test]
fn what_means_the_same_is_looked_up_beside_the_rows_that_where_keeps() {
    explained(
        "SELECT sem_dedup(doc, threshold => 0.9) AS d, count(*) AS n FROM orders WHERE amount > 1
         GROUP BY d",
        concat!(
            "result (d TEXT, n INTEGER)\n",
            "└ group by sem_dedup: count(*)\n",
            "  └ left join on doc = doc\n",
            "    ├ project doc\n",
            "    │ └ filter amount > 1\n",
            "    │   └ scan orders (amount, doc)\n",
            "    └ cluster by sem_dedup(doc, threshold => 0.9) AS sem_dedup (an embedding a text)\n",
            "      └ project doc\n",
            "        └ filter amount > 1\n",
            "          └ scan orders (amount, doc)",
        ),
    );
    // A condition around it leaves out rows, and none of the texts that connect others.
    explained(
        "SELECT id, d FROM (SELECT id, region, sem_dedup(doc, 'Does each {doc} say it?',
                                   threshold => 0.75, model => small) AS d FROM orders) AS o
         WHERE region <> 'x' AND d <> ''",
        concat!(
            "result (id INTEGER, d TEXT)\n",
            "└ project id, sem_dedup\n",
            "  └ filter sem_dedup <> ''\n",
            "    └ left join on doc = doc\n",
            "      ├ project doc, id\n",
            "      │ └ filter region <> 'x'\n",
            "      │   └ scan orders (doc, id, region)\n",
            "      └ cluster by sem_dedup(doc, 'Does each {doc} say it?', threshold => 0.75, \
             model => small) AS sem_dedup (an embedding a text, a pass a similar pair)\n",
            "        └ scan orders (doc)",
        ),
    );
    let checked =
        sql("SELECT sem_dedup(doc, '{doc}', threshold => 1, model => small) AS d FROM orders");
    let checked = checked.expect("binds");
    assert_eq!(checked.asked(), [Some("small".into())].into());
    assert!(checked.embeds());
    // Asked for twice it is one; what is of no certain type is compared as text.
    explained(
        "SELECT sem_dedup(note, threshold => 1) AS d, sem_dedup(note, threshold => 1) = note AS is_first
         FROM events",
        concat!(
            "result (d TEXT, is_first BOOLEAN)\n",
            "└ project sem_dedup, sem_dedup = note AS is_first\n",
            "  └ left join on CAST(note AS TEXT) = text\n",
            "    ├ scan events (note)\n",
            "    └ cluster by sem_dedup(CAST(note AS TEXT), threshold => 1) AS sem_dedup \
             (an embedding a text)\n",
            "      └ scan events (note)",
        ),
    );
    // What nobody reads is not looked up.
    explained(
        "SELECT id FROM (SELECT id, sem_dedup(doc, threshold => 0.9) AS d FROM orders) AS o",
        "result (id INTEGER)\n└ scan orders (id)",
    );
}

#[test]
fn what_means_the_same_is_refused_where_it_is_not_clear_among_which_rows() {
    let name = "sem_dedup";
    let dedup = "sem_dedup(doc, threshold => 0.9)";
    let all_rows = |clause: &str| {
        format!(
            "`sem_dedup` is about all rows that WHERE keeps: it cannot stand in {clause}; select it in a \
             query below, and read it there"
        )
    };
    for (text, clause) in [
        (
            format!("SELECT id FROM orders WHERE {dedup} = doc"),
            "WHERE",
        ),
        (
            format!("SELECT o.id FROM orders o JOIN docs d ON {dedup} = d.key"),
            "ON",
        ),
    ] {
        refused(&text, &[(name, &*all_rows(clause))]);
    }
    refused(
        &format!("SELECT {dedup} AS d FROM orders GROUP BY region"),
        &[(
            name,
            "`sem_dedup` is not the same for all rows of a group; add it to GROUP BY, or put it into an \
             aggregate",
        )],
    );
    let selected = |call: &str| format!("SELECT {call} AS d FROM orders");
    for given in ["0", "1.5", "'0.9'", "amount"] {
        let argument = format!("threshold => {given}");
        let message = format!(
            "`sem_dedup` takes `threshold => x`, a number above 0 and up to 1, not `{argument}`"
        );
        let call = format!("sem_dedup(doc, {argument})");
        refused(&selected(&call), &[(&*argument, &*message)]);
    }
    for (call, place, message) in [
        (
            "sem_dedup(doc)",
            name,
            "`sem_dedup` takes `threshold => 0.9`: how similar texts are that mean the same",
        ),
        (
            "sem_dedup(threshold => 0.9)",
            name,
            "`sem_dedup` takes a text first: sem_dedup(text, threshold => 0.9)",
        ),
        (
            "sem_dedup(amount, threshold => 0.9)",
            "amount",
            "`sem_dedup` compares TEXT, not INTEGER",
        ),
        (
            "sem_dedup(doc, threshold => 0.9, model => small)",
            "model => small",
            "`sem_dedup` takes a text, a prompt about two of them, `threshold => x`, and behind a prompt \
             `model => name`, not `model => small`",
        ),
        (
            "sem_dedup(doc, 'Is {doc} as {region} says?', threshold => 0.9)",
            name,
            "the prompt of `sem_dedup` names the text that is compared, and nothing else",
        ),
        (
            "sem_dedup(max(doc), threshold => 0.9)",
            "max",
            "the aggregate `max` cannot stand in sem_dedup; aggregates stand in SELECT, HAVING and ORDER BY",
        ),
    ] {
        refused(&selected(call), &[(place, message)]);
    }
}

#[test]
fn what_means_the_same_has_a_name_that_is_looked_up_by_what_stands_for_it() {
    explained(
        "SELECT id, sem_group('Name {doc}', threshold => 0.7) AS topic FROM orders",
        concat!(
            "result (id INTEGER, topic TEXT)\n",
            "└ project id, sem_group\n",
            "  └ left join on sem_dedup = sem_dedup\n",
            "    ├ project id, sem_dedup\n",
            "    │ └ left join on doc = doc\n",
            "    │   ├ scan orders (doc, id)\n",
            "    │   └ cluster by sem_dedup(doc, threshold => 0.7) AS sem_dedup (an embedding a text)\n",
            "    │     └ scan orders (doc)\n",
            "    └ ask groups sem_agg('Name {doc}', max_tokens => 16) AS sem_group \
             (a call for 32 rows or fewer, and for 16 answers or fewer)\n",
            "      ├ group by sem_dedup\n",
            "      │ └ cluster by sem_dedup(doc, threshold => 0.7) AS sem_dedup (an embedding a text)\n",
            "      │   └ scan orders (doc)\n",
            "      └ cluster by sem_dedup(doc, threshold => 0.7) AS sem_dedup (an embedding a text)\n",
            "        └ scan orders (doc)",
        ),
    );
    // Without the name, what stands for a text is left, or nothing.
    explained(
        "SELECT d FROM (SELECT sem_dedup(doc, threshold => 0.7) AS d,
                               sem_group('Name {doc}', threshold => 0.7) AS topic FROM orders) AS o",
        concat!(
            "result (d TEXT)\n",
            "└ project sem_dedup\n",
            "  └ left join on doc = doc\n",
            "    ├ scan orders (doc)\n",
            "    └ cluster by sem_dedup(doc, threshold => 0.7) AS sem_dedup (an embedding a text)\n",
            "      └ scan orders (doc)",
        ),
    );
    explained(
        "SELECT id FROM (SELECT id, sem_group('Name {doc}', threshold => 0.7) AS topic FROM orders) AS o",
        "result (id INTEGER)\n└ scan orders (id)",
    );
    refused(
        "SELECT sem_group('Name {doc} of {region}', threshold => 0.7) AS t FROM orders",
        &[(
            "sem_group",
            "the prompt of `sem_group` names one column, whose texts are compared; put several together \
             in a query below, as of title || ' ' || text",
        )],
    );
    refused(
        "SELECT sem_group('Name {doc}', threshold => 0.7, many => 9) AS t FROM orders",
        &[(
            "many => 9",
            "`sem_group` takes a prompt, `threshold => x`, `max_tokens => n` and `model => name`, not \
             `many => 9`",
        )],
    );
    refused(
        "SELECT id FROM orders WHERE sem_group('Name {doc}', threshold => 0.7) = 'x'",
        &[(
            "sem_group",
            "`sem_group` is about all rows that WHERE keeps: it cannot stand in WHERE; select it in a \
             query below, and read it there",
        )],
    );
}

#[test]
fn groups_are_asked_about_behind_what_leaves_them_out() {
    // Behind HAVING, unless it reads the answer; a condition on a key keeps rows out, too.
    explained(
        "SELECT region, count(*) AS n, sem_agg('Sum {doc} up', max_tokens => 9, model => small) AS d
         FROM orders GROUP BY region HAVING count(*) > 1 AND region <> 'x'",
        concat!(
            "result (region TEXT, n INTEGER, d TEXT)\n",
            "└ ask groups sem_agg('Sum {doc} up', max_tokens => 9, model => small) AS sem_agg \
             (a call for 32 rows or fewer, and for 16 answers or fewer)\n",
            "  ├ filter count > 1\n",
            "  │ └ group by region: count(*)\n",
            "  │   └ filter region <> 'x'\n",
            "  │     └ scan orders (region)\n",
            "  └ filter region <> 'x'\n",
            "    └ scan orders (doc, region)",
        ),
    );
    let asked = sql("SELECT sem_agg('{doc}', max_tokens => 9, model => small) AS d FROM orders");
    assert_eq!(asked.expect("binds").asked(), [Some("small".into())].into());
    explained(
        "SELECT region, sem_agg('Sum {doc} up') AS d, sem_agg('Sum {o.doc} up') AS e,
                sem_agg('Sum {doc} up') AS f
         FROM orders o GROUP BY region HAVING sem_agg('Sum {doc} up') <> ''",
        concat!(
            "result (region TEXT, d TEXT, e TEXT, f TEXT)\n",
            "└ project region, sem_agg, sem_agg, sem_agg AS f\n",
            "  └ ask groups sem_agg('Sum {o.doc} up', max_tokens => 128) AS sem_agg where {o.doc} = doc \
             (a call for 32 rows or fewer, and for 16 answers or fewer)\n",
            "    ├ filter sem_agg <> ''\n",
            "    │ └ ask groups sem_agg('Sum {doc} up', max_tokens => 128) AS sem_agg \
             (a call for 32 rows or fewer, and for 16 answers or fewer)\n",
            "    │   ├ group by region\n",
            "    │   │ └ scan orders (region)\n",
            "    │   └ scan orders (doc, region)\n",
            "    └ scan orders (doc, region)",
        ),
    );
    // What nobody reads is not asked; a LIMIT that is not by it leaves groups out.
    explained(
        "SELECT n FROM (SELECT count(*) AS n, sem_agg('Sum {doc} up') AS d FROM orders) AS s",
        "result (n INTEGER)\n└ aggregate count(*)\n  └ scan orders ()",
    );
    explained(
        "SELECT region, sem_agg('Sum {doc} up') FILTER (WHERE amount > 1) AS d FROM orders
         GROUP BY region ORDER BY count(*), region LIMIT 3",
        concat!(
            "result (region TEXT, d TEXT)\n",
            "└ ask groups sem_agg('Sum {doc} up', max_tokens => 128) AS sem_agg \
             where {doc} = CASE WHEN amount > 1 THEN doc ELSE NULL END \
             (a call for 32 rows or fewer, and for 16 answers or fewer)\n",
            "  ├ project region\n",
            "  │ └ top 3 by count, region\n",
            "  │   └ group by region: count(*)\n",
            "  │     └ scan orders (region)\n",
            "  └ scan orders (amount, doc, region)",
        ),
    );
}

#[test]
fn what_cannot_be_asked_of_groups_is_said_where_it_stands() {
    refused(
        "SELECT max(sem_agg('{doc}')) AS a, sem_agg(DISTINCT '{doc}') AS b, sem_agg('{doc}' ORDER BY id) AS c, sem_agg(doc) AS d, sem_agg('{dok}') AS e FROM orders WHERE sem_agg('{doc}') <> ''",
        &[
            (
                "sem_agg",
                "the aggregate `sem_agg` cannot stand in an aggregate; aggregates stand in SELECT, \
                 HAVING and ORDER BY",
            ),
            (
                "sem_agg",
                "DISTINCT in `sem_agg` is not supported, and not needed: rows that are alike in \
                 what its prompt names count once",
            ),
            ("sem_agg", "`ORDER BY id` in `sem_agg` is not supported"),
            (
                "doc",
                "the prompt of `sem_agg` must be a text in quotes; columns stand in it in braces",
            ),
            (
                "{dok}",
                "there is no column `dok` in `orders`; did you mean `doc`?",
            ),
            (
                "sem_agg",
                "the aggregate `sem_agg` cannot stand in WHERE; aggregates stand in SELECT, HAVING \
                 and ORDER BY",
            ),
        ],
    );
    refused(
        "SELECT sem_agg('{doc}') AS d, sem_agg('{doc}') OVER () AS w FROM orders",
        &[(
            "sem_agg",
            "the window function `sem_agg(…) OVER` is not supported",
        )],
    );
    refused(
        "SELECT sem_agg('{doc}') AS d FROM orders GROUP BY d",
        &[("d", "GROUP BY cannot group by an aggregate")],
    );
    refused(
        "SELECT sem_agg('{doc}', model => small) AS d FROM orders",
        &[("'{doc}'", "too long")],
    );
    // Each level reads its rows twice.
    let nested = (0..9).fold("SELECT 'x' AS d".to_owned(), |inner, n| {
        format!("SELECT sem_agg('{{d}}') AS d FROM ({inner}) AS t{n}")
    });
    refused(
        &nested,
        &[("", "the query reads more than 256 tables; split it")],
    );
}

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
fn equal_parts_have_equal_digests() {
    let text = "WITH w AS (SELECT region, count(*) AS n FROM orders WHERE price > 1 AND doc <> 'x'
                           GROUP BY region)
                SELECT a.region, b.region AS other FROM w a JOIN w b ON a.n = b.n";
    let query = sql(text).unwrap();
    let root = match query.root() {
        Node::Project { input, .. } => input,
        other => other,
    };
    let Node::Join(join) = root else {
        panic!("{query}");
    };
    assert_ne!(join.left.columns(), join.right.columns());
    assert_eq!(
        digest::part_digest(&join.left),
        digest::part_digest(&join.right)
    );
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
