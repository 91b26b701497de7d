//! What is written in `golden/`: every statement as it is printed, and errors as people see
//! them. Beside that, properties of all scripts.

use proptest::prelude::*;

use super::*;

/// Cases of a golden file: what is given, then what comes of it, until a line of dashes.
fn cases(golden: &str) -> Vec<(&str, &str)> {
    let cases = golden
        .split("\n----\n")
        .filter(|case| !case.trim().is_empty());
    cases
        .map(|case| case.split_once("\n=>\n").expect("a case has `=>` between"))
        .collect()
}

/// All that differs at once, in the form of the file.
fn hold(golden: &str, says: impl Fn(&str) -> String) {
    let mut differing = String::new();
    for (given, expected) in cases(golden) {
        let said = says(given);
        if said != expected.trim_end() {
            differing.push_str(&format!("{given}\n=>\n{said}\n----\n"));
        }
    }
    assert!(differing.is_empty(), "now:\n{differing}");
}

fn parsed(text: &str) -> Result<Vec<Statement>, Errors> {
    let statements = parse(&Script::new("x.sql", text))?;
    Ok(statements
        .into_iter()
        .map(|statement| statement.of)
        .collect())
}

#[test]
fn statements_are_read_as_they_are_meant() {
    hold(
        include_str!("golden/statements.txt"),
        |given| match parsed(given) {
            Ok(statements) => {
                let printed = statements.iter().map(ToString::to_string);
                printed.collect::<Vec<_>>().join(";\n")
            }
            Err(errors) => errors.to_string(),
        },
    );
}

#[test]
fn errors_show_the_place_and_what_to_do() {
    hold(include_str!("golden/errors.txt"), |given| {
        match parsed(given) {
            Ok(statements) => format!("no error in {statements:?}"),
            Err(errors) => errors.to_string(),
        }
    });
}

#[test]
fn all_that_is_wrong_with_a_script_is_told_at_once() {
    let errors = parsed("SELEC 1;\nDROP TABLE t;\nSHOW TABELS;\nSELECT 'open").expect_err("wrong");
    let lines: Vec<u64> = errors.faults().iter().map(|f| f.span.start.line).collect();
    assert_eq!(lines, [1, 3, 4]);
}

#[test]
fn the_arithmetic_that_holds_unless_told_opens_the_same_model() {
    let opened_by = |options: &str| {
        let text = format!("CREATE MODEL m FROM './m.gguf'{options}");
        match &parsed(&text).expect("sound")[..] {
            [Statement::CreateModel(model)] => model.opened_by().to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(opened_by(""), "./m.gguf");
    assert_eq!(opened_by(" WITH (ARITHMETIC = 'int16')"), "./m.gguf");
    let other = "./m.gguf WITH (ARITHMETIC = 'int8')";
    assert_eq!(opened_by(" WITH (ARITHMETIC = 'int8')"), other);
}

#[test]
fn prices_are_said_whole_and_can_be_counted() {
    let with = |options: &str| {
        parsed(&format!(
            "CREATE MODEL m FROM 'http://h/v1'\nWITH ({options})"
        ))
    };
    let whole = "PRICE_INPUT = 0.15, PRICE_OUTPUT = 0.6, CURRENCY = 'USD', LEAVE_ONE_OUT = 4";
    let [Statement::CreateModel(model)] = &with(whole).expect("sound")[..] else {
        panic!("one model");
    };
    let opened_by = format!("http://h/v1 WITH ({whole})");
    assert_eq!(&*model.opened_by(), opened_by);
    for (options, column, says) in [
        ("PRICE_INPUT = 1", 7, "PRICE_OUTPUT and CURRENCY"),
        ("PATIENCE = '9 s', CURRENCY = 'USD'", 25, "PRICE_INPUT"),
        ("PRICE_CACHED_INPUT = 1", 7, "PRICE_INPUT"),
        (
            "PRICE_INPUT = 1, PRICE_OUTPUT = 0.0000001, CURRENCY = 'USD'",
            24,
            "six decimals",
        ),
        (
            "PRICE_INPUT = 1, PRICE_OUTPUT = 1, CURRENCY = 'USD', PRICE_CACHED_INPUT = 0.0000001",
            60,
            "six decimals",
        ),
        ("PRICE_INPUT = -1", 21, "amount"),
        ("CURRENCY = 'dollars'", 18, "three letters"),
        ("LEAVE_ONE_OUT = many", 23, "whole number"),
    ] {
        let errors = with(options).expect_err(options);
        let [fault] = errors.faults() else {
            panic!("{options}: {errors}");
        };
        let said = format!("{} {:?}", fault.what, fault.help);
        assert!(said.contains(says), "{options}: {said}");
        assert_eq!(
            (fault.span.start.line, fault.span.start.column),
            (2, column)
        );
    }
}

/// Queries of many forms; the binder's tests know more of them.
const QUERIES: [&str; 12] = [
    "SELECT * FROM docs",
    "SELECT DISTINCT key, price * 2 AS double FROM docs WHERE price > 1 AND title LIKE 'a%'",
    "SELECT a.key, b.\"Text\" FROM a JOIN b ON a.key = b.key LEFT JOIN c USING (key)",
    "SELECT count(*), max(n) FROM t GROUP BY x, y HAVING count(*) > 1 ORDER BY 1 DESC LIMIT 5",
    "WITH a AS (SELECT 1 AS x) SELECT x FROM a UNION ALL SELECT 2",
    "SELECT CASE WHEN n IS NULL THEN 'none' ELSE upper(text) || '!' END FROM t",
    "SELECT * FROM t WHERE key IN (SELECT key FROM u) AND NOT (n BETWEEN 1 AND 3)",
    "SELECT CAST(n AS TEXT), n::FLOAT, -n, (n + 1) * 2 FROM t AS u (key, n)",
    "VALUES (1, 'a'), (2, NULL)",
    "SELECT * FROM (SELECT key FROM t) AS s ORDER BY key NULLS FIRST OFFSET 2",
    "SELECT key FROM a EXCEPT SELECT key FROM b",
    "SELECT TRIM(text), EXTRACT(YEAR FROM at), j -> 'x' ->> 'y' FROM t",
];

/// Options of when a view takes its epochs.
const PACE: [&str; 4] = [
    "TARGET_LAG = '1500 ms'",
    "CALLS_PER_HOUR = none",
    "TOKENS_PER_HOUR = 18446744073709551615",
    "COST_PER_HOUR = 0.000000000001",
];

/// Expressions likewise.
const EXPRESSIONS: [&str; 8] = [
    "'it''s'",
    "-3",
    "NULL",
    "n + 1",
    "key = 'a' AND (n > 1 OR text IS NOT NULL)",
    "upper(text) || ', x'",
    "CASE WHEN true THEN 1 ELSE 2 END",
    "key IN ('a', 'b')",
];

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_][a-z0-9_]{0,6}",
        "[^\\x00]{1,6}",
        Just("select".to_owned())
    ]
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn string() -> impl Strategy<Value = String> {
    "(?s).{1,12}"
        .prop_filter("blank texts are refused", |text| !text.trim().is_empty())
        .prop_map(|text| format!("'{}'", text.replace('\'', "''")))
}

fn one_of(all: &'static [&'static str]) -> impl Strategy<Value = &'static str> + Clone {
    prop::sample::select(all)
}

/// Options of a list, in its order, each with a chance.
fn some_of(all: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::subsequence(all, 0..=all.len()).prop_map(|some| match some.is_empty() {
        true => String::new(),
        false => format!(" WITH ({})", some.join(", ")),
    })
}

/// Texts of sound statements of every kind.
fn statement() -> impl Strategy<Value = String> {
    const TYPES: [&str; 8] = [
        "TEXT",
        "INT",
        "float",
        "VECTOR",
        "jsonb",
        "TIMESTAMP",
        "ANY",
        "BOOL",
    ];
    let columns = prop::collection::btree_map("[b-j]{1,4}", prop::sample::select(&TYPES), 0..4);
    let columns = columns.prop_map(|columns| {
        let columns = columns
            .iter()
            .map(|(name, of)| format!(", \"{name}\" {of}"));
        format!("(key TEXT{})", columns.collect::<String>())
    });
    let columns = columns.boxed();
    let origin = prop_oneof![
        (
            string(),
            some_of(&[
                "FOLLOW = false",
                "INCLUDE = '*.md'",
                "IGNORE_FILES",
                "BELIEVE_EMPTY"
            ])
        )
            .prop_map(|(p, o)| format!("FOLDER {p}{o}")),
        some_of(&[
            "FOLLOW",
            "KEY = id",
            "TEXT = 'b'",
            "TITLE = t",
            "BELIEVE_EMPTY"
        ])
        .prop_map(|o| format!("FILE '-'{o}")),
        some_of(&[
            "FOLLOW",
            "KEY = Id",
            "TEXT = 'body'",
            "TITLE = t",
            "UPDATED_AT = 'a b'",
            "DELIMITER = ';'",
            "ENCODING = 'utf-16le'"
        ])
        .prop_map(|o| format!("TABLE 'x.csv'{o}")),
        some_of(&[
            "FOLLOW = off",
            "FORMAT = debezium",
            "\"a.b\" = 1",
            "SETTINGS_FILE = 'x'"
        ])
        .prop_map(|o| format!("KAFKA 'kafka://a:1/b'{o}")),
        Just("HTTP WITH (LISTEN = 'localhost:1', TOKEN_FILE = 't')".to_owned()),
    ];
    let view = some_of(&[
        "SCOPE = 'window:512'",
        "ORDER_BY = key",
        "POLICY = 'STABLE(.05)'",
        "SUPERSEDED = 'ZERO_KEYS(body, all layers)'",
        "TOKEN_BUDGET = 1",
        "MAX_TOKENS = 77",
        "REENCODE = 0",
        "TURNOVER = 0.25",
        "SKIP_BELOW = 0.045",
        "MODEL = Small",
        "TEMPERATURE = 1e-3",
        "TARGET_LAG = '5m'",
        "CALLS_PER_HOUR = 3",
        "COST_PER_HOUR = '2.50'",
    ]);
    let scopes = one_of(&["window:512", "Boundary:16", "WINDOW(64)", "BOUNDARY(16)"]);
    let view = (view, scopes).prop_map(|(view, scope)| view.replace("window:512", scope));
    let pace = some_of(&PACE);
    let matching = prop_oneof![
        Just(""),
        Just(" MATCHING (a)"),
        Just(" MATCHING (a, \"B c\")")
    ];
    let kind = one_of(&["SOURCE", "TABLE", "VIEW", "SINK", "MODEL"]);
    prop_oneof![
        (name(), prop::option::of(columns.clone()), origin).prop_map(|(name, columns, origin)| {
            let columns = columns.unwrap_or_default();
            format!("CREATE SOURCE {} {columns} FROM {origin}", quoted(&name))
        }),
        (name(), columns).prop_map(|(n, c)| format!("CREATE TABLE {} {c}", quoted(&n))),
        (name(), string()).prop_map(|(n, s)| format!("CREATE MODEL {} FROM {s}", quoted(&n))),
        (name(), name(), prop::option::of(string()), matching, view).prop_map(
            |(name, of, prompt, matching, view)| {
                let (name, of) = (quoted(&name), quoted(&of));
                let prompt = prompt.map_or(String::new(), |prompt| format!("PROMPT = {prompt}, "));
                format!(
                    "CREATE CONTINUOUS VIEW {name} AS LLM_GENERATE({prompt}CONTEXT = STREAM({of}), \
                     DATA_SOURCE => STREAM(x){matching}){view}"
                )
            }
        ),
        (name(), pace, one_of(&QUERIES))
            .prop_map(|(n, o, q)| format!("CREATE VIEW {}{o} AS {q}", quoted(&n))),
        (name(), one_of(&PACE)).prop_map(|(n, o)| format!("ALTER VIEW {} SET ({o})", quoted(&n))),
        (name(), string())
            .prop_map(|(n, to)| format!("CREATE SINK {} FROM v INTO {to}", quoted(&n))),
        prop::collection::vec(one_of(&EXPRESSIONS), 1..4)
            .prop_map(|row| format!("INSERT INTO t VALUES ({0}), ({0})", row.join(", "))),
        (name(), one_of(&EXPRESSIONS), one_of(&EXPRESSIONS))
            .prop_map(|(n, e, w)| format!("UPDATE t SET {} = {e}, zz = {w} WHERE {w}", quoted(&n))),
        one_of(&EXPRESSIONS).prop_map(|e| format!("DELETE FROM t WHERE {e}")),
        one_of(&QUERIES).prop_map(str::to_owned),
        one_of(&QUERIES).prop_map(|query| format!("EXPLAIN {query}")),
        one_of(&QUERIES).prop_map(|query| format!("EXPLAIN COST {query}")),
        one_of(&QUERIES).prop_map(|query| format!("EXPLAIN ANALYZE {query}")),
        name().prop_map(|n| format!("EXPLAIN ANALYZE {}", quoted(&n))),
        (name(), string()).prop_map(|(n, key)| format!("EXPLAIN WHY {}[{key}]", quoted(&n))),
        (name(), string()).prop_map(|(n, key)| format!("LINEAGE OF {}[{key}]", quoted(&n))),
        (
            name(),
            some_of(&["SNAPSHOT = false", "PROGRESS"]),
            any::<u64>()
        )
            .prop_map(|(n, options, epoch)| format!(
                "SUBSCRIBE TO {}{options} AS OF {epoch}",
                quoted(&n)
            )),
        kind.clone().prop_map(|kind| format!("SHOW {kind}S")),
        (kind, name()).prop_map(|(k, n)| format!("DROP {k} IF EXISTS {}", quoted(&n))),
        (string(), name()).prop_map(|(key, n)| format!("FORGET {key} FROM {}", quoted(&n))),
        (string(), name(), string(), any::<bool>()).prop_map(|(a, n, b, is)| {
            let (grant, to) = if is {
                ("GRANT", "TO")
            } else {
                ("REVOKE", "FROM")
            };
            let n = quoted(&n);
            format!("{grant} READ ON NAMESPACE {a} OF MEMORY {n} {to} {b}")
        }),
        (string(), name(), string(), any::<u64>()).prop_map(|(a, n, b, k)| {
            let n = quoted(&n);
            format!("RECALL {a} FROM {n} AS {b} IN NAMESPACE {a} LIMIT {k}")
        }),
        (name(), name(), string(), 1..9u64, any::<bool>()).prop_map(|(n, from, column, k, is)| {
            let (n, from) = (quoted(&n), quoted(&from));
            let retain = if is {
                k.to_string()
            } else {
                format!("'{k} d'")
            };
            format!("CREATE MEMORY {n} FROM {from} WITH (NAMESPACE = {column}, RETAIN = {retain})")
        }),
        (string(), name())
            .prop_map(|(of, n)| { format!("FORGET SESSION {of} FROM MEMORY {}", quoted(&n)) }),
    ]
}

proptest! {
    #[test]
    fn what_is_printed_reads_as_the_same(text in statement()) {
        let read = parsed(&text);
        prop_assert!(read.is_ok(), "{}", read.expect_err("an error"));
        let statements = read.expect("sound");
        prop_assert_eq!(statements.len(), 1);
        let printed = statements[0].to_string();
        let again = parsed(&printed);
        prop_assert!(again.is_ok(), "{}", again.expect_err("an error"));
        prop_assert_eq!(&statements, &again.expect("sound"), "{}", printed);
    }

    #[test]
    fn no_text_is_a_panic(text in "(?s).{0,60}") {
        is_complete(&text);
        if let Err(errors) = parsed(&text) {
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn no_broken_statement_is_a_panic(
        texts in prop::collection::vec(statement(), 1..3),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), "[\\x00-~é\"'()]{0,3}", 0usize..6), 1..4),
    ) {
        let mut text: Vec<char> = texts.join(";\n").chars().collect();
        for (at, put, n_cut) in cuts {
            let at = at.index(text.len() + 1);
            let end = (at + n_cut).min(text.len());
            text.splice(at..end, put.chars());
        }
        let text: String = text.into_iter().collect();
        is_complete(&text);
        if let Err(errors) = parsed(&text) {
            // Every place is one of the script.
            let n_lines = text.split('\n').count() as u64;
            for fault in errors.faults() {
                prop_assert!((1..=n_lines).contains(&fault.span.start.line), "{errors}");
            }
            prop_assert!(!errors.to_string().is_empty());
        }
    }
}

#[test]
fn what_nests_deep_or_chains_long_is_refused() {
    let chain = format!("SELECT 1{}", " + 1".repeat(100_000));
    let union = format!("SELECT 1{}", " UNION SELECT 1".repeat(5_000));
    let nested = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    let prefixed = format!("SELECT {}1", "- ".repeat(900));
    let explained = format!("{}SELECT 1", "EXPLAIN ".repeat(5_000));
    for text in [chain, union, nested, prefixed, explained] {
        let errors = parsed(&text).expect_err("too deep").to_string();
        assert!(errors.len() < 1_000, "{errors}");
    }
    // Up to there, what was read can be printed, compared and dropped.
    let long = format!("SELECT 1{}", " + 1".repeat(999));
    let read = parsed(&long).expect("sound");
    assert_eq!(read[0].to_string(), long);
    let wide = format!("SELECT * FROM t WHERE k IN (1{})", ", 1".repeat(20_000));
    assert_eq!(
        parsed(&wide)
            .map(|all| all.len())
            .map_err(|e| e.to_string()),
        Ok(1)
    );
}
