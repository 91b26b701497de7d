//! Which rows a model is asked about, and when.

use super::*;

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
    assert_eq!(shown.order(), [by_place]);
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
