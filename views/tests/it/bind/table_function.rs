//! What functions that stand where a table does are bound to.

use super::*;

/// Orders as edges from their document to their region.
const EDGES: &str = "(SELECT doc AS source, region AS target FROM orders)";

#[test]
fn a_table_function_is_a_table() {
    explained(
        "SELECT p.doc, p.node FROM pagerank(edges => (SELECT doc AS source, region AS target,
            amount AS weight FROM orders), seeds => (SELECT doc, region AS node FROM orders),
            per => doc, damping => .5, iterations => 3, least => 0) AS p
         WHERE p.doc = 'a' AND p.score > 0.1",
        "result (doc TEXT, node TEXT)\n\
         └ project doc, node\n\
        \u{20} └ filter score > 0.1\n\
        \u{20}   └ page rank per doc from region along doc, region by amount (damping 0.5, 3 steps, \
         least 0)\n\
        \u{20}     ├ scan orders (amount, doc, region)\n\
        \u{20}     └ filter doc = 'a'\n\
        \u{20}       └ scan orders (doc, region)",
    );
    explained(
        "SELECT id FROM top(rows => orders, n => 2, per => (region, doc), by => -price) AS o
         WHERE region = 'x' AND amount > 1",
        "result (id INTEGER)\n\
         └ project id\n\
        \u{20} └ filter amount > 1\n\
        \u{20}   └ top 2 of each region, doc by -price DESC, id, doc, region, price, amount\n\
        \u{20}     └ filter region = 'x'\n\
        \u{20}       └ scan orders (amount, doc, id, price, region)",
    );
    // A name is enough, where it has the columns.
    let named = format!(
        "WITH links AS {EDGES} SELECT * FROM pagerank(edges => links, seeds =>
            (SELECT doc AS node FROM orders)) AS p(n, s)"
    );
    let query = sql(&named).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(query.schema().to_string(), "n TEXT, s FLOAT");
    assert_eq!(query.key(), Some(&[0][..]));
}

#[test]
fn what_is_said_otherwise_is_another_query() {
    let digest = |more: &str| {
        let text = format!(
            "SELECT * FROM pagerank(edges => {EDGES}, seeds => (SELECT doc AS node, region AS r
                FROM orders){more})"
        );
        let query = sql(&text).unwrap_or_else(|errors| panic!("{text}: {errors}"));
        query.digest()
    };
    let unless_told = ", damping => 0.85, iterations => 20, least => 0.00001";
    assert_eq!(digest(""), digest(unless_told));
    let all = [
        "",
        ", per => r",
        ", damping => 0.8",
        ", iterations => 2",
        ", least => 0",
    ];
    let digests: BTreeSet<_> = all.into_iter().map(digest).collect();
    assert_eq!(digests.len(), all.len());
    let top = |per: &str| {
        let text = format!("SELECT id FROM top(rows => orders, n => 1, per => {per}, by => id)");
        sql(&text)
            .unwrap_or_else(|errors| panic!("{errors}"))
            .digest()
    };
    assert_ne!(top("doc"), top("region"));
}

#[test]
fn what_is_wrong_with_an_argument_is_told() {
    let seeds = "(SELECT doc AS node FROM orders)";
    let rank = |more: &str| {
        format!("SELECT * FROM pagerank(edges => {EDGES}, seeds => {seeds}{more})")
            .replace('\n', " ")
    };
    for (argument, takes) in [
        (
            "damping => 0",
            "`damping => x`, a number above 0 and below 1",
        ),
        (
            "damping => 1",
            "`damping => x`, a number above 0 and below 1",
        ),
        (
            "damping => 'x'",
            "`damping => x`, a number above 0 and below 1",
        ),
        (
            "iterations => 0",
            "`iterations => x`, a whole number from 1 to 100",
        ),
        (
            "iterations => 101",
            "`iterations => x`, a whole number from 1 to 100",
        ),
        (
            "iterations => 2.5",
            "`iterations => x`, a whole number from 1 to 100",
        ),
        (
            "least => 1",
            "`least => x`, a number from 0 up to and without 1",
        ),
    ] {
        let message = format!("`pagerank` takes {takes}, not `{argument}`");
        refused(&rank(&format!(", {argument}")), &[(argument, &message)]);
    }
    refused(
        &rank(", dampening => 0.5"),
        &[(
            "dampening => 0.5",
            "`pagerank` takes `edges`, `seeds`, `per`, `damping`, `iterations` and `least`, not \
             `dampening => 0.5`",
        )],
    );
    refused(
        "SELECT * FROM pagerank(edges => orders, seeds => (SELECT id AS nod FROM orders))",
        &[
            (
                "edges => orders",
                "there is no column `source` in `orders`; it has id, doc, region, price, amount",
            ),
            (
                "edges => orders",
                "there is no column `target` in `orders`; it has id, doc, region, price, amount",
            ),
            (
                "seeds => (SELECT id AS nod FROM orders",
                "there is no column `node` in `seeds`; did you mean `nod`?",
            ),
        ],
    );
    refused(
        "SELECT * FROM pagerank(seeds => (SELECT id AS node FROM orders))",
        &[(
            "pagerank",
            "`pagerank` takes `edges => a table or a query in parentheses`",
        )],
    );
    refused(
        "SELECT * FROM pagerank(edges => (SELECT doc AS source, doc AS target, price AS weight FROM \
         orders), seeds => (SELECT id AS node FROM orders))",
        &[(
            "edges => (SELECT doc AS source, doc AS target, price AS weight FROM orders",
            "`weight` is INTEGER, not FLOAT; CAST(round(1000 * x) AS INTEGER) makes one of a share",
        )],
    );
    refused(
        &format!(
            "SELECT * FROM pagerank(edges => {EDGES}, seeds => (SELECT id AS node FROM orders))"
        ),
        &[(
            "seeds => (SELECT id AS node FROM orders",
            "`node` is INTEGER and `source` is TEXT: they name no node in common; cast one",
        )],
    );
    refused(
        "SELECT * FROM top(rows => orders, n => 0, per => doc, by => id)",
        &[(
            "n => 0",
            "`top` takes `n => x`, a whole number of rows, 1 or more, not `n => 0`",
        )],
    );
    refused(
        "SELECT * FROM top(rows => orders, n => 1, by => id)",
        &[(
            "top",
            "`top` takes `per => column`: of which rows the first are wanted; of all, write ORDER BY … \
             LIMIT",
        )],
    );
    refused(
        "SELECT * FROM pagerang(orders)",
        &[(
            "pagerang",
            "there is no function `pagerang` that makes a table; did you mean `pagerank`?",
        )],
    );
}

#[test]
fn a_list_becomes_rows_in_select_only() {
    explained(
        "SELECT key, sem_extract_all('{title}', who => TEXT, n => INTEGER, max_rows => 3) FROM docs
         WHERE key <> 'x'",
        "result (key TEXT, who TEXT, n INTEGER)\n\
         └ project key, sem_extract_all ->> 'who' AS who, CAST(sem_extract_all -> 'n' AS INTEGER) AS \
         n\n\
        \u{20} └ unnest sem_extract_all AS sem_extract_all (a row an element)\n\
        \u{20}   └ ask sem_extract_all('{title}', who => TEXT, n => INTEGER, max_rows => 3, \
         max_tokens => 512) AS sem_extract_all (a call a row)\n\
        \u{20}     └ filter key <> 'x'\n\
        \u{20}       └ scan docs (key, title)",
    );
    refused(
        "SELECT key FROM docs WHERE sem_extract_all('{title}', a => TEXT) = 'x'",
        &[(
            "sem_extract_all",
            "`sem_extract_all` makes rows, and stands in SELECT, not in WHERE; read it in a query \
             around",
        )],
    );
    refused(
        "SELECT unnest(tags), count(*) FROM events",
        &[(
            "unnest",
            "`unnest` makes rows beside groups; make them in a query below",
        )],
    );
    refused(
        "SELECT unnest(tags), unnest(words) FROM events",
        &[(
            "unnest",
            "a second list in one SELECT; write `unnest` in a query around this one",
        )],
    );
    refused(
        "SELECT unnest(title) FROM docs",
        &[("title", "`unnest` takes JSON, not TEXT")],
    );
    refused(
        "SELECT sem_extract_all('{title}', a => TEXT, max_rows => 65) FROM docs",
        &[(
            "max_rows => 65",
            "`sem_extract_all` takes `max_rows => n`, a whole number from 1 to 64, not `max_rows => \
             65`",
        )],
    );
}
