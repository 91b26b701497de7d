//! What is asked about pairs of rows, which are nearest, and what an embedding decides.

use super::*;

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
