//! What means the same, and what is asked of groups.

use super::*;

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
