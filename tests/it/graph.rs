//! A graph of what texts say: triples, entities, scores, passages, answers. A deletion leaves all of them as if
//! the text had never been there, and asks nobody about the rest.

use perennial::ask::scripted::Scripted;

use crate::tasks::Rig;

const TABLES: &str = "
    CREATE TABLE passages (key TEXT, text TEXT);
    CREATE TABLE questions (key TEXT, text TEXT);";

/// From texts to answers. The scripted model reads of each sentence its first word, its second and its last.
const CHAIN: &str = "
    CREATE VIEW triples AS
    SELECT key AS passage, sem_extract_all('Who does what to whom in {text}?',
               subject => TEXT, predicate => TEXT, object => TEXT)
    FROM passages;

    CREATE VIEW mentions AS
    SELECT passage, subject AS name FROM triples WHERE subject IS NOT NULL
    UNION SELECT passage, object FROM triples WHERE object IS NOT NULL;

    CREATE VIEW names AS
    SELECT name, sem_dedup(name, threshold => 0.99) AS entity
    FROM (SELECT DISTINCT name FROM mentions) AS m;

    CREATE VIEW links AS
    SELECT 'passage ' || m.passage AS source, n.entity AS target FROM mentions m JOIN names n USING (name)
    UNION ALL
    SELECT n.entity, 'passage ' || m.passage FROM mentions m JOIN names n USING (name);

    CREATE VIEW starts AS
    SELECT q.key AS question, n.entity AS node
    FROM questions q JOIN names n ON strpos(q.text, n.name) > 0;

    CREATE VIEW found AS
    SELECT r.question, p.key AS passage, r.score
    FROM pagerank(edges => links, seeds => starts, per => question) AS r
    JOIN passages p ON r.node = 'passage ' || p.key;

    CREATE VIEW chosen AS
    SELECT f.question || ' ' || f.passage AS key, min(f.question) AS question, min(p.text) AS text
    FROM top(rows => found, n => 2, per => question, by => score) AS f
    JOIN passages p ON p.key = f.passage
    GROUP BY 1;

    CREATE VIEW asked AS SELECT key, text, key AS question FROM questions;

    CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
        PROMPT      = 'Answer.',
        CONTEXT     = STREAM(asked),
        DATA_SOURCE = STREAM(chosen) MATCHING (question)
    );";

const ROWS: &str = "
    INSERT INTO passages (key, text) VALUES
        ('1', 'Anna knows Ben.'), ('2', 'Ben sails Cormorant.'), ('3', 'Cormorant needs paint.'),
        ('4', 'Dora keeps bees. Dora sells honey.'), ('5', 'Emil buys honey.');
    INSERT INTO questions (key, text) VALUES
        ('a', 'Whom does Anna know and what sails Ben'), ('d', 'What sells Dora');";

/// All that the chain holds, from the triples to the answers.
fn all(rig: &mut Rig) -> Vec<Vec<String>> {
    let reads = [
        "SELECT passage, subject, predicate, object FROM triples ORDER BY passage, subject, object",
        "SELECT name, entity FROM names ORDER BY name",
        "SELECT source, target FROM links ORDER BY source, target",
        "SELECT question, passage, score FROM found ORDER BY question, passage",
        "SELECT question, key FROM chosen ORDER BY key",
        "SELECT key, text FROM answers ORDER BY key",
    ];
    reads.iter().map(|read| rig.run(read)).collect()
}

/// What a run from nothing over these rows holds.
fn from_nothing(rows: &str) -> Vec<Vec<String>> {
    let mut rig = Rig::new();
    rig.run(&format!("{TABLES}{CHAIN}{rows}"));
    all(&mut rig)
}

#[test]
fn a_text_that_goes_leaves_the_graph_as_if_it_had_never_been_there() {
    let mut rig = Rig::new();
    rig.run(&format!("{TABLES}{CHAIN}{ROWS}"));
    let first = all(&mut rig);
    assert_eq!(first, from_nothing(ROWS));
    assert_eq!(
        first[0][3..],
        [
            "4|Dora|keeps|bees",
            "4|Dora|sells|honey",
            "5|Emil|buys|honey"
        ]
    );
    assert_eq!(first[4], ["a|a 1", "a|a 2", "d|d 4", "d|d 5"]);
    assert_eq!(first[5][1], "d|Dora keeps bees. Dora sells honey.");

    // What goes is in nobody's graph: nothing is read again, and one answer is given again.
    let before = rig.n_calls();
    rig.run("DELETE FROM passages WHERE key = '5'");
    let rest = ROWS.replace(", ('5', 'Emil buys honey.')", "");
    assert_eq!(all(&mut rig), from_nothing(&rest));
    assert_eq!(rig.n_calls(), before + 1, "the answer of `d`");

    // What changes far from a question, and leaves the passages that it sees, asks about itself only.
    let before = rig.n_calls();
    rig.run("INSERT INTO passages (key, text) VALUES ('6', 'Frida paints paint.')");
    let rows =
        format!("{rest}INSERT INTO passages (key, text) VALUES ('6', 'Frida paints paint.');");
    let now = all(&mut rig);
    assert_eq!(now, from_nothing(&rows));
    assert_ne!(now[3], first[3], "scores are others");
    assert_eq!(rig.n_calls(), before + 1, "the triples of `6`");

    // Gone and back.
    rig.run("DELETE FROM passages WHERE key IN ('1', '6')");
    rig.run("INSERT INTO passages (key, text) VALUES ('5', 'Emil buys honey.'), ('1', 'Anna knows Ben.')");
    assert_eq!(all(&mut rig), first);

    // Without seeds nothing is found, and there is no answer.
    rig.run("UPDATE questions SET text = 'Who is it' WHERE key = 'a'");
    let now = all(&mut rig);
    assert!(now[3].iter().all(|row| row.starts_with("d|")), "{now:?}");
    assert_eq!(now[5].len(), 1, "{now:?}");
    rig.run("DELETE FROM passages");
    assert!(all(&mut rig).iter().all(Vec::is_empty));
}

#[test]
fn a_graph_stands_after_a_restart_and_asks_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || {
        let Rig { session, model } =
            Rig::over(Scripted::new(), |builder| builder.state(dir.path()).held());
        Rig {
            session: session.held(),
            model,
        }
    };
    let mut rig = open();
    rig.run(&format!("{TABLES}{CHAIN}{ROWS}"));
    rig.run("DELETE FROM passages WHERE key = '3'");
    let before = all(&mut rig);
    drop(rig);
    let mut rig = open();
    rig.run(&format!("{TABLES}{CHAIN}"));
    assert_eq!(all(&mut rig), before);
    assert_eq!(rig.n_calls(), 0, "a restart asks nobody");
    rig.run("INSERT INTO passages (key, text) VALUES ('3', 'Cormorant needs paint.')");
    assert_eq!(all(&mut rig), from_nothing(ROWS));
}

/// Most steps, most groups: what a query may take ends a walk, too.
#[test]
fn walks_of_a_query_count_toward_its_limits_and_bad_ones_are_refused() {
    let mut rig = Rig::new();
    rig.run(TABLES);
    let refused = |rig: &mut Rig, text: &str| match rig.try_run(text) {
        Err(error) => error,
        Ok(rows) => panic!("{text}: {rows:?}"),
    };
    let error = refused(
        &mut rig,
        "SELECT * FROM pagerank(edges => passages, seeds => questions)",
    );
    assert!(
        error.contains("there is no column `source` in `passages`"),
        "{error}"
    );
    let error = refused(
        &mut rig,
        "SELECT * FROM pagerank(edges => (SELECT key AS source, text AS target FROM passages),
             seeds => (SELECT key AS node FROM questions), damping => 1)",
    );
    assert!(error.contains("a number above 0 and below 1"), "{error}");
    // A whole table as a ring of one: an edge to itself, a node without any, a seed that is no node.
    rig.run(ROWS);
    let scores = rig.run(
        "SELECT node, score FROM pagerank(edges => (SELECT key AS source, key AS target FROM passages),
             seeds => (SELECT key AS node FROM passages WHERE key = '1' UNION SELECT 'nowhere'),
             damping => 0.5, iterations => 100) ORDER BY node",
    );
    assert_eq!(scores.len(), 2, "{scores:?}");
    assert_eq!(scores[1], "nowhere|0.25");
}
