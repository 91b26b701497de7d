//! Models that are asked about rows: what is asked, how often, and what becomes of failures.

mod plain;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use perennial::ask::scripted::{PANIC_WORD, REFUSED_WORD, SLOW_WORD, Scripted, ScriptedEmbedder};
use perennial::sql::{Outcome, Script, Session};
use perennial::{Engine, Runtime, Update};

/// A session over a scripted model.
pub(crate) struct Rig {
    pub(crate) session: Session,
    pub(crate) model: Arc<Scripted>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::over(Scripted::new(), |builder| builder)
    }

    pub(crate) fn over(
        model: Scripted,
        build: impl FnOnce(perennial::EngineBuilder) -> perennial::EngineBuilder,
    ) -> Self {
        let model = Arc::new(model);
        let embedder = Arc::new(ScriptedEmbedder::default());
        let builder = Engine::builder(Runtime::scripted(model.clone(), embedder)).workers(2);
        let engine = build(builder).start().expect("starts");
        Self {
            session: Session::new(engine, "scripted"),
            model,
        }
    }

    /// Rows of the last statement, as text.
    pub(crate) fn run(&mut self, text: &str) -> Vec<String> {
        self.try_run(text).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn try_run(&mut self, text: &str) -> Result<Vec<String>, String> {
        let mut rows = Vec::new();
        let ran = self.session.run(&Script::new("t.sql", text), |_, outcome| {
            if let Outcome::Rows { rows: all, .. } = outcome {
                let shown = all.iter().map(|row| {
                    let values: Vec<String> = row.iter().map(ToString::to_string).collect();
                    values.join("|")
                });
                rows = shown.collect();
            }
            Ok(())
        });
        ran.map_err(|error| error.to_string())?;
        Ok(rows)
    }

    pub(crate) fn n_calls(&self) -> usize {
        self.model.n_calls()
    }
}

const DOCS: &str = "
    CREATE TABLE docs (key TEXT, text TEXT, price INTEGER);
    INSERT INTO docs (key, text, price) VALUES
      ('a', 'refunds take days', 10), ('b', 'shipping is free', 20), ('c', 'refunds are rare', 30),
      ('d', 'refunds take days', 40);";

/// What a query would cost, with its plan.
fn cost(rig: &mut Rig, explained: &str) -> String {
    let mut plan = String::new();
    let script = Script::new("t.sql", format!("EXPLAIN COST {explained}"));
    let ran = rig.session.run(&script, |_, outcome| {
        if let Outcome::Plan(told) = outcome {
            plan = told;
        }
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    plan
}

#[test]
fn a_view_asks_about_each_text_once_and_about_changed_ones_again() {
    let mut rig = Rig::new();
    rig.run(DOCS);
    rig.run(
        "CREATE VIEW about AS SELECT key, text FROM docs
         WHERE sem_filter('Is {text} about refunds ?') AND price < 100;
         CREATE VIEW topics AS
         SELECT sem_classify('What is {text} about?', 'refunds', 'shipping') AS topic,
                count(*) AS n
         FROM docs GROUP BY topic;",
    );
    let about = "SELECT key FROM about ORDER BY key";
    let topics = "SELECT topic, n FROM topics ORDER BY topic";
    assert_eq!(rig.run(about), ["a", "c", "d"]);
    assert_eq!(rig.run(topics), ["refunds|3", "shipping|1"]);
    // Three texts, asked about by two views.
    assert_eq!(rig.n_calls(), 6);
    rig.run("INSERT INTO docs (key, text, price) VALUES ('e', 'shipping is free', 5)");
    assert_eq!(rig.run(topics), ["refunds|3", "shipping|2"]);
    assert_eq!(rig.n_calls(), 6, "the text is known");
    rig.run("UPDATE docs SET text = 'refunds are free' WHERE key = 'b'");
    assert_eq!(rig.run(about), ["a", "b", "c", "d"]);
    assert_eq!(rig.run(topics), ["refunds|4", "shipping|1"]);
    assert_eq!(rig.n_calls(), 8);
    rig.run("DELETE FROM docs WHERE key = 'a'");
    assert_eq!(rig.run(about), ["b", "c", "d"]);
    assert_eq!(rig.n_calls(), 8, "a deletion asks nobody");
}

#[test]
fn views_and_queries_share_what_was_said() {
    let mut rig = Rig::new();
    rig.run(DOCS);
    let question = "sem_map('Say {text} again', max_tokens => 60)";
    rig.run(&format!(
        "CREATE VIEW one AS SELECT key, {question} AS said FROM docs"
    ));
    rig.run("SELECT count(*) FROM one");
    assert_eq!(rig.n_calls(), 3);
    rig.run(&format!(
        "CREATE VIEW two AS SELECT key, {question} AS said FROM docs WHERE price > 10"
    ));
    rig.run("SELECT count(*) FROM two");
    let once = format!("SELECT {question} FROM docs WHERE key = 'b'");
    assert_eq!(
        rig.run(&once),
        ["Say the text above again | shipping is free"]
    );
    assert_eq!(rig.n_calls(), 3);
    // What one view drops, the other still uses; what nobody uses is asked again.
    rig.run("DROP VIEW one");
    rig.run(&once);
    assert_eq!(rig.n_calls(), 3);
    rig.run("DROP VIEW two");
    // Workers drop a view when they come to it.
    for _ in 0..500 {
        rig.run(&once);
        if rig.n_calls() > 3 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(rig.n_calls(), 4);
}

#[test]
fn a_group_is_asked_about_as_a_whole_and_again_where_it_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    let table = "CREATE TABLE docs (key TEXT, text TEXT, price INTEGER);";
    let view = "CREATE VIEW digests AS
         SELECT price, count(*) AS n, sem_agg('Sum {text} up', max_tokens => 60) AS digest
         FROM docs GROUP BY price HAVING count(*) > 1;";
    let rows = |price: i64, from: usize, to: usize| {
        let rows = (from..to).map(|n| format!("('{price} {n}', 'note {n}', {price})"));
        let rows: Vec<String> = rows.collect();
        format!(
            "INSERT INTO docs (key, text, price) VALUES {};",
            rows.join(", ")
        )
    };
    let open = || {
        let Rig { session, model } =
            Rig::over(Scripted::new(), |builder| builder.state(dir.path()).held());
        Rig {
            session: session.held(),
            model,
        }
    };
    let all = "SELECT price, n, digest FROM digests ORDER BY price";
    // The scripted model says how many rows it was told of, and a hash.
    let counts = |rows: &[String]| -> Vec<String> {
        let said = rows
            .iter()
            .map(|row| row.split(' ').next().unwrap_or_default());
        said.map(str::to_owned).collect()
    };
    let mut rig = open();
    rig.run(&format!("{table}{view}"));
    rig.run(&(rows(1, 0, 200) + &rows(2, 0, 2) + &rows(3, 0, 1)));
    let said = rig.run(all);
    assert_eq!(counts(&said), ["1|200|200", "2|2|2"]);
    let n_calls = rig.n_calls();
    // What is there already is no other question; a row elsewhere is one.
    rig.run("INSERT INTO docs (key, text, price) VALUES ('copy', 'note 7', 1)");
    assert_eq!(counts(&rig.run(all)), ["1|201|200", "2|2|2"]);
    assert_eq!(rig.n_calls(), n_calls);
    rig.run("UPDATE docs SET text = 'another' WHERE key = '2 0'");
    assert_eq!(counts(&rig.run(all)), ["1|201|200", "2|2|2"]);
    assert_eq!(rig.n_calls(), n_calls + 1);
    rig.run("DELETE FROM docs WHERE price = 2");
    let said = rig.run(all);
    assert_eq!(counts(&said), ["1|201|200"]);
    assert_eq!(rig.n_calls(), n_calls + 1);
    drop(rig);
    let mut rig = open();
    rig.run(&format!("{table}{view}"));
    assert_eq!(rig.run(all), said);
    assert_eq!(rig.n_calls(), 0, "a restart asks nobody");
}

#[test]
fn what_is_cheap_goes_before_what_is_asked() {
    let mut rig = Rig::new();
    rig.run(DOCS);
    // What nobody reads is not asked, a NULL asks nobody, and one answer may spare another.
    assert_eq!(
        rig.run("SELECT key FROM (SELECT key, sem_map('Say {text}') AS said FROM docs) AS s WHERE key = 'a'"),
        ["a"]
    );
    assert_eq!(rig.n_calls(), 0);
    rig.run("INSERT INTO docs (key, text, price) VALUES ('n', 'refunds are null', NULL)");
    let sql = "SELECT key FROM docs
               WHERE sem_filter('Is {text} about shipping ?') AND sem_filter('Is {price} much?')
                 AND price >= 20 ORDER BY key";
    rig.run(sql);
    // Of three texts one is about shipping; only of its row the price is asked about.
    assert_eq!(rig.n_calls(), 4);
}

#[test]
fn what_was_said_outlives_the_process_and_what_is_unused_does_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let view = "CREATE VIEW v AS SELECT key, sem_map('Say {text}') AS said FROM docs;";
    let table = "CREATE TABLE docs (key TEXT, text TEXT, price INTEGER);";
    // What an earlier process left is taken up by what is declared before rows are needed.
    let open = || {
        let Rig { session, model } =
            Rig::over(Scripted::new(), |builder| builder.state(dir.path()).held());
        Rig {
            session: session.held(),
            model,
        }
    };
    let mut rig = open();
    rig.run(&format!("{DOCS}{view}"));
    let all = "SELECT key, said FROM v ORDER BY key";
    let said = rig.run(all);
    assert_eq!((said.len(), rig.n_calls()), (4, 3));
    drop(rig);
    let mut rig = open();
    rig.run(&format!("{table}{view}"));
    assert_eq!(rig.run(all), said);
    assert_eq!(rig.n_calls(), 0, "a restart asks nobody");
    rig.run("DELETE FROM docs WHERE key = 'b'");
    assert_eq!(rig.run(all).len(), 3);
    drop(rig);
    let mut rig = open();
    rig.run(&format!("{table}{view}"));
    rig.run("INSERT INTO docs (key, text, price) VALUES ('b', 'shipping is free', 20)");
    assert_eq!(rig.run(all), said);
    assert_eq!(rig.n_calls(), 1, "what nobody used is forgotten");
}

#[test]
fn values_and_pairs_outlive_the_process_and_cost_what_is_new() {
    let dir = tempfile::tempdir().expect("a directory");
    let tables = "CREATE TABLE docs (key TEXT, text TEXT, price INTEGER);
        CREATE TABLE topics (key TEXT, topic TEXT, price INTEGER);";
    let views = "
        CREATE VIEW facts AS SELECT key, sem_extract('{text}', n => INTEGER, word => TEXT) FROM docs;
        CREATE VIEW best AS SELECT key FROM docs ORDER BY sem_score('How good is {text}?') DESC, key
            LIMIT 2;
        CREATE VIEW pairs AS SELECT d.key, t.key AS topic FROM docs d JOIN topics t
            ON d.price = t.price AND sem_match('Is {d.text} about {t.topic} ?');";
    let open = || {
        let Rig { session, model } =
            Rig::over(Scripted::new(), |builder| builder.state(dir.path()).held());
        Rig {
            session: session.held(),
            model,
        }
    };
    let all = |rig: &mut Rig| {
        [
            "SELECT key, n, word FROM facts ORDER BY key",
            "SELECT key FROM best ORDER BY key",
            "SELECT key, topic FROM pairs ORDER BY key, topic",
        ]
        .map(|query| rig.run(query))
    };
    let mut rig = open();
    rig.run(&format!(
        "{tables}{views}
         INSERT INTO docs (key, text, price) VALUES ('a', 'refunds 4', 1), ('b', 'shipping 0', 1),
             ('c', 'refunds 3', 2), ('d', 'refunds 4', 2);
         INSERT INTO topics (key, topic, price) VALUES ('r', 'refunds', 1), ('s', 'shipping', 1),
             ('t', 'refunds', 3);"
    ));
    let first = all(&mut rig);
    assert_eq!(first[1], ["a", "d"]);
    // Three texts are read and scored; two of them meet two topics each.
    assert_eq!(rig.n_calls(), 3 + 3 + 4);
    drop(rig);
    let mut rig = open();
    rig.run(&format!("{tables}{views}"));
    assert_eq!(all(&mut rig), first);
    assert_eq!(rig.n_calls(), 0, "a restart asks nobody");
    // A topic meets the two texts of its price.
    rig.run("INSERT INTO topics (key, topic, price) VALUES ('u', 'rare', 2)");
    all(&mut rig);
    assert_eq!(rig.n_calls(), 2);
    rig.run("DELETE FROM topics WHERE key = 'u'; DELETE FROM docs WHERE key = 'b'");
    let last = all(&mut rig);
    assert_eq!(
        (last[0].len(), rig.n_calls()),
        (3, 2),
        "deletions ask nobody"
    );
}

#[test]
fn a_model_is_asked_about_the_nearest_of_the_other_side_by_views_and_queries() {
    let mut rig = Rig::new();
    let query = "SELECT d.key, t.key AS topic FROM docs d JOIN topics t
        ON sem_match('Do {d.text} and {t.topic} speak of refunds or shipping ?', nearest => 1)";
    rig.run(&format!(
        "CREATE TABLE docs (key TEXT, text TEXT);
         CREATE TABLE topics (key TEXT, topic TEXT);
         INSERT INTO docs (key, text) VALUES ('a', 'refunds take days'), ('b', 'shipping is free');
         INSERT INTO topics (key, topic) VALUES ('r', 'refunds take weeks'),
             ('s', 'shipping is slow'), ('t', 'cats');
         CREATE VIEW pairs AS {query};"
    ));
    let kept = "SELECT key, topic FROM pairs ORDER BY key";
    assert_eq!(rig.run(kept), ["a|r", "b|s"]);
    assert_eq!(rig.n_calls(), 2, "of six pairs");
    let once = format!("{query} ORDER BY key");
    assert_eq!(rig.run(&once), ["a|r", "b|s"]);
    assert_eq!(rig.n_calls(), 2, "a query knows what the view was told");
    rig.run("INSERT INTO topics (key, topic) VALUES ('u', 'refunds take days')");
    assert_eq!(rig.run(kept), ["a|u", "b|s"]);
    assert_eq!(rig.n_calls(), 3);
    rig.run("DELETE FROM topics WHERE key = 'u'");
    assert_eq!(rig.run(kept), ["a|r", "b|s"]);
    assert_eq!(rig.n_calls(), 4, "it was forgotten meanwhile");
    rig.run("UPDATE docs SET text = 'cats' WHERE key = 'b'");
    assert_eq!(rig.run(kept), ["a|r"]);
    assert_eq!(rig.n_calls(), 5);
}

#[test]
fn what_means_the_same_is_one_in_views_and_queries_and_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || {
        let Rig { session, model } =
            Rig::over(Scripted::new(), |builder| builder.state(dir.path()).held());
        Rig {
            session: session.held(),
            model,
        }
    };
    let table = "CREATE TABLE docs (key TEXT, text TEXT, price INTEGER);";
    // Texts of which two in three words are the same are similar.
    let group =
        "SELECT sem_dedup(text, threshold => 0.6) AS said, count(*) AS n FROM docs GROUP BY said";
    let views = format!(
        "CREATE VIEW same AS {group};
         CREATE VIEW checked AS SELECT key, sem_dedup(text, 'Does each {{text}} speak of refunds ?',
             threshold => 0.6) AS said FROM docs;"
    );
    let (same, checked) = (
        "SELECT said, n FROM same ORDER BY said",
        "SELECT key, said FROM checked ORDER BY key",
    );
    let mut rig = open();
    rig.run(&format!("{DOCS}{views}"));
    rig.run("INSERT INTO docs (key, text, price) VALUES ('e', 'refunds take weeks', 1)");
    let first = rig.run(checked);
    assert_eq!(
        first,
        [
            "a|refunds take days",
            "b|shipping is free",
            "c|refunds are rare",
            "d|refunds take days",
            "e|refunds take days"
        ]
    );
    let groups = [
        "refunds are rare|1",
        "refunds take days|3",
        "shipping is free|1",
    ];
    assert_eq!(rig.run(same), groups);
    assert_eq!(rig.run(&format!("{group} ORDER BY said")), groups);
    assert_eq!(rig.n_calls(), 1, "of ten pairs of rows");
    drop(rig);
    let mut rig = open();
    rig.run(&format!("{table}{views}"));
    assert_eq!((rig.run(checked), rig.run(same).len()), (first, 3));
    assert_eq!(rig.n_calls(), 0, "a restart asks nobody");
    // Similar, and not confirmed.
    rig.run("INSERT INTO docs (key, text, price) VALUES ('f', 'shipping is slow', 1)");
    assert_eq!(rig.run(checked)[5], "f|shipping is slow");
    assert_eq!(rig.run(same)[2], "shipping is free|2");
    assert_eq!(rig.n_calls(), 1);
    rig.run("DELETE FROM docs WHERE text = 'refunds take days'");
    assert_eq!(rig.run(checked)[2], "e|refunds take weeks");
    assert_eq!(rig.n_calls(), 1, "a deletion asks nobody");
}

#[test]
fn an_embedding_decides_where_that_is_enough_and_a_restart_asks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    // As programs do: what was said is kept until the script has declared who uses it.
    let open = || {
        let rig = Rig::over(Scripted::new(), |builder| builder.state(dir.path()).held());
        Rig {
            session: rig.session.held(),
            ..rig
        }
    };
    let table = "CREATE TABLE docs (key TEXT, text TEXT);";
    let of = |n: usize| match n % 3 {
        0 => format!("('{n}', 'refunds take {n} days')"),
        _ => format!("('{n}', 'shipping is free from {n}')"),
    };
    let within = "recall => 0.8, precision => 0.8, sample => 120";
    let asked = format!("sem_filter('Is {{text}} about refunds ?', {within})");
    let view = format!(
        "CREATE VIEW about AS SELECT key, sem_decider('Is {{text}} about refunds ?', {within}) AS who
         FROM docs WHERE {asked}"
    );
    let who = "SELECT who, count(*) FROM about GROUP BY who ORDER BY who";
    let mut rig = open();
    rig.run(&format!(
        "{table} INSERT INTO docs (key, text) VALUES {};",
        (0..400).map(of).collect::<Vec<_>>().join(", ")
    ));
    let query = format!("SELECT key FROM docs WHERE {asked}");
    let plan = cost(&mut rig, &query);
    let told =
        format!("{asked}: at most 400 rows, 400 calls: 0 known, 400 to be made, which read about ");
    let first = "; a sample of 120 is asked about first, and says how many of the others are\n";
    assert!(plan.contains(&told) && plan.contains(first), "{plan}");
    rig.run(&view);
    let first = rig.run(who);
    let n_calls = rig.n_calls();
    assert_eq!(first.len(), 2, "{first:?}");
    assert!(first[0].starts_with("embedding|"), "{first:?}");
    assert!((120..160).contains(&n_calls), "{n_calls}");
    // Of the two kinds each is told from the other by its words.
    let keys = rig.run("SELECT key FROM about");
    let wrong = keys
        .iter()
        .filter(|key| key.parse::<usize>().unwrap() % 3 > 0);
    assert!(
        wrong.count() * 5 <= keys.len() && keys.len() > 100,
        "{}",
        keys.len()
    );
    let plan = cost(&mut rig, &query);
    let told = format!(
        ": 400 rows, {n_calls} calls: {n_calls} known, 0 to be made; the embedding decides {} others",
        400 - n_calls
    );
    assert!(plan.contains(&told), "{plan}");
    assert_eq!(rig.n_calls(), n_calls, "nobody is asked for that");
    drop(rig);
    let mut rig = open();
    rig.run(&format!("{table}{view}"));
    assert_eq!(rig.run(who), first);
    assert_eq!(rig.n_calls(), 0, "a restart asks nobody");
    // A statement that asks the same decides the same.
    rig.run(&format!("DELETE FROM docs WHERE {asked}"));
    let left = rig.run("SELECT key FROM docs");
    assert_eq!(left.len(), 400 - keys.len());
    assert!(keys.iter().all(|key| !left.contains(key)));
    // Others are of the sample now, and were not asked about yet.
    rig.run(who);
    let n_calls = rig.n_calls();
    rig.run("DELETE FROM docs");
    assert_eq!(rig.run(who), Vec::<String>::new());
    assert_eq!(rig.n_calls(), n_calls, "a deletion of all asks nobody");
}

#[test]
fn the_cost_of_a_query_is_told_and_nobody_is_asked() {
    let mut rig = Rig::new();
    rig.run(DOCS);
    let query = "SELECT key, text FROM docs WHERE sem_filter('Is {text} about refunds ?')";
    let view = format!("CREATE VIEW about AS {query}");
    for explained in [query, &*view] {
        let plan = cost(&mut rig, explained);
        assert!(plan.starts_with("result (key TEXT, text TEXT)\n"), "{plan}");
        let asked =
            "\nsem_filter('Is {text} about refunds ?'): 4 rows, 3 calls: 0 known, 3 to be made";
        assert!(plan.contains(asked), "{plan}");
        assert!(
            plan.contains("\nscripted: 3 calls to be made over "),
            "{plan}"
        );
        assert!(plan.ends_with("has not been measured yet"), "{plan}");
    }
    assert_eq!(rig.n_calls(), 0);
    rig.run(&format!("{view}; SELECT * FROM about"));
    assert_eq!(rig.n_calls(), 3);
    let plan = cost(&mut rig, query);
    assert!(
        plan.contains(": 4 rows, 3 calls: 3 known, 0 to be made"),
        "{plan}"
    );
    assert!(plan.ends_with("\nscripted: 0 calls to be made"), "{plan}");
    assert_eq!(rig.n_calls(), 3);
    let plan = cost(&mut rig, "SELECT key FROM docs");
    assert!(plan.ends_with("\nno model is asked"), "{plan}");
    let refused = rig.try_run("EXPLAIN COST CREATE MEMORY m FROM docs");
    let refused = refused.expect_err("a memory asks nobody");
    assert!(refused.contains("have questions to count"), "{refused}");
}

#[test]
fn a_refusal_is_tried_again_and_told_and_a_failure_is_null() {
    let mut rig = Rig::new();
    rig.run("CREATE TABLE t (key TEXT, text TEXT)");
    rig.run("CREATE VIEW v AS SELECT key, sem_filter('Is {text} so ?') AS is_so FROM t");
    let updates = rig.session.engine().subscribe("v").expect("there");
    rig.run(&format!(
        "INSERT INTO t (key, text) VALUES ('a', 'so'), ('b', 'so {REFUSED_WORD}'),
         ('c', 'so {PANIC_WORD}')"
    ));
    assert_eq!(
        rig.run("SELECT key, is_so FROM v ORDER BY key"),
        ["a|true", "b|true", "c|NULL"]
    );
    // One call each, and two refusals.
    assert_eq!(rig.n_calls(), 5);
    let mut notices = Vec::new();
    while let Ok(Some(update)) = updates.recv_timeout(Duration::from_millis(200)) {
        if let Update::Notice { message, .. } = update {
            notices.push(message);
        }
    }
    notices.sort();
    let [late, lost] = &notices[..] else {
        panic!("{notices:?}");
    };
    assert!(
        late.starts_with("late: a call failed 2 times and is tried again"),
        "{late}"
    );
    assert!(lost.contains("without the text `so !panic"), "{lost}");
}

#[test]
fn a_provider_that_is_slow_for_one_view_holds_up_no_other() {
    let is_held = Arc::new(AtomicBool::new(true));
    let mut rig = Rig::over(Scripted::new().held_while(is_held.clone()), |builder| {
        builder
    });
    rig.run("CREATE TABLE t (key TEXT, text TEXT)");
    rig.run(
        "CREATE VIEW slow AS SELECT key, sem_map('Say {text}') AS said FROM t;
         CREATE VIEW fast AS SELECT key, sem_map('Say {key}') AS said FROM t;",
    );
    rig.run(&format!(
        "INSERT INTO t (key, text) VALUES ('a', '{SLOW_WORD}')"
    ));
    assert_eq!(rig.run("SELECT key FROM fast"), ["a"]);
    rig.run("INSERT INTO t (key, text) VALUES ('b', 'quick')");
    assert_eq!(rig.run("SELECT key FROM fast ORDER BY key"), ["a", "b"]);
    is_held.store(false, Ordering::SeqCst);
    assert_eq!(rig.run("SELECT key FROM slow ORDER BY key"), ["a", "b"]);
}

#[test]
fn what_cannot_be_asked_is_said_where_it_stands() {
    let mut rig = Rig::new();
    rig.run(DOCS);
    let cases = [
        (
            "SELECT sem_map('Say {txt}') FROM docs",
            "there is no column `txt` in `docs`; did you mean `text`?",
        ),
        (
            "SELECT sem_map('Say {text') FROM docs",
            "`{` is not closed; write {{ for a brace",
        ),
        (
            "SELECT sem_map('Say it') FROM docs",
            "the prompt names no column; write it in braces, as in {text}",
        ),
        (
            "SELECT sem_map(text) FROM docs",
            "the prompt of `sem_map` must be a text in quotes; columns stand in it in braces",
        ),
        (
            "SELECT sem_map('{text}', 3) FROM docs",
            "`sem_map` takes a prompt and `max_tokens => n`, not `3`",
        ),
        (
            "SELECT sem_filter('{text}', 'a') FROM docs",
            "`sem_filter` takes a prompt, and behind it `recall => x`, `precision => x`, `sample => n` and \
             `model => name`",
        ),
        (
            "SELECT sem_classify('{text}', 'a') FROM docs",
            "give two labels or more",
        ),
        (
            "SELECT a.key FROM docs a JOIN docs b ON sem_filter('{a.text} {b.text}')",
            "`sem_filter` cannot stand in ON; `sem_match` decides which rows are paired",
        ),
        (
            "SELECT sem_map('{text}') AS s, count(*) AS n FROM docs GROUP BY price",
            "`text` is not the same for all rows of a group; add it to GROUP BY, or put it into an aggregate",
        ),
        (
            "SELECT sem_mop('{text}') FROM docs",
            "there is no function `sem_mop`; did you mean `sem_map`?",
        ),
        (
            "INSERT INTO docs (key, text, price) VALUES (sem_map('{a}'), '', 1)",
            "`sem_map` cannot stand in VALUES",
        ),
    ];
    for (sql, expected) in cases {
        let error = rig.try_run(sql).expect_err(sql);
        assert!(error.contains(expected), "{sql}\n{error}");
    }
    let error = rig
        .try_run("SELECT key, sem_map('It''s {txt}') FROM docs")
        .expect_err("unknown");
    let caret = error
        .lines()
        .find(|line| line.contains("^"))
        .unwrap_or_default();
    let line = error
        .lines()
        .find(|line| line.contains("SELECT"))
        .unwrap_or_default();
    let at = caret.find('^').expect("a caret");
    assert_eq!(
        &line[at..at + caret.matches('^').count()],
        "{txt}",
        "{error}"
    );
    let long = format!("SELECT sem_map('{} {{text}}') FROM docs", "x ".repeat(3000));
    let error = rig.try_run(&long).expect_err("too long");
    assert!(error.contains("the prompt does not fit"), "{error}");
    // Sixteen partial answers must fit, too.
    let long = "SELECT sem_agg('{text}', max_tokens => 400) FROM docs";
    let error = rig.try_run(long).expect_err("too long");
    assert!(error.contains("the prompt does not fit"), "{error}");
}
