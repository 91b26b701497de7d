//! Which views are the graph, its walks and what they find?

use std::fmt::Write as _;

use perennial::rows::Value;
use perennial::sql::{Outcome, Script, Session};

use crate::Error;
use crate::passages::{Corpus, Found, Nearest, words};

/// Rows of one statement.
const ROWS: usize = 1000;
/// The weight of a name that stands in a question, and of a passage whose product is 1.
const WHOLE: f32 = 1000.0;

const TABLES: &str = "
    CREATE TABLE passages (key TEXT, text TEXT, room TEXT);
    CREATE TABLE questions (key TEXT, text TEXT, room TEXT);
    CREATE TABLE near (key TEXT, question TEXT, passage TEXT, weight INTEGER);";

const GIVEN: &str = "
    CREATE TABLE given (key TEXT, passage TEXT, name TEXT);
    CREATE VIEW mentions AS
    SELECT p.key AS passage, p.room, g.name FROM given g JOIN passages p ON p.key = g.passage;";

const READ: &str = "
    CREATE VIEW mentions AS
    SELECT DISTINCT key AS passage, room, lower(name) AS name
    FROM (SELECT key, room, sem_extract_all('List the names of people, places, works and organizations in {text}',
                                            name => TEXT, max_rows => 8, max_tokens => 128)
          FROM passages) AS s
    WHERE name IS NOT NULL;";

/// Rooms are parts of the graph that do not meet: their names stand in the nodes'.
const CHAIN: &str = "
    CREATE VIEW links AS
    SELECT 'passage ' || passage AS source, room || ' ' || name AS target FROM mentions
    UNION ALL
    SELECT room || ' ' || name, 'passage ' || passage FROM mentions;

    CREATE VIEW starts AS
    SELECT n.question, 'passage ' || n.passage AS node, n.weight FROM near n JOIN passages p ON p.key = n.passage
    UNION ALL
    SELECT q.key, q.room || ' ' || m.name, 1000
    FROM questions q JOIN (SELECT DISTINCT room, name FROM mentions) AS m
      ON m.room = q.room AND strpos(q.text, ' ' || m.name || ' ') > 0;";

/// What is built, of which names and from where.
pub struct Graph<'c> {
    pub corpus: &'c Corpus,
    pub nearest: &'c [Nearest],
    pub n_seeds: usize,
    pub damping: f64,
    /// Whether a model reads names; else they are titles.
    pub reads_names: bool,
}

impl Graph<'_> {
    /// Declares all views, and fills their tables but for these passages.
    pub fn declare(&self, session: &mut Session, without: &[usize]) -> Result<(), Error> {
        let mentions = if self.reads_names { READ } else { GIVEN };
        let damping = self.damping;
        let found = format!(
            "CREATE VIEW found AS
             SELECT r.question, p.key AS passage, r.score
             FROM pagerank(edges => links, seeds => starts, per => question, damping => {damping}) AS r
             JOIN passages p ON r.node = 'passage ' || p.key;
             CREATE VIEW chosen AS
             SELECT * FROM top(rows => found, n => 5, per => question, by => score);"
        );
        carried_out(session, &[TABLES, mentions, CHAIN, &found].concat())?;
        let all = self.corpus.passages.iter().enumerate();
        let passages = all
            .filter(|(at, _)| !without.contains(at))
            .map(|(at, passage)| {
                format!("('{at}', {}, '{}')", quoted(&passage.text), passage.room)
            });
        insert(session, "passages (key, text, room)", passages)?;
        let all = self.corpus.questions.iter().enumerate();
        let questions = all.map(|(at, question)| {
            format!(
                "('{at}', ' {} ', '{}')",
                words(&question.text),
                question.room
            )
        });
        insert(session, "questions (key, text, room)", questions)?;
        let near = self
            .nearest
            .iter()
            .enumerate()
            .flat_map(|(question, near)| {
                let first = near.0.iter().take(self.n_seeds);
                first.map(move |(passage, product)| {
                    let weight = (product.max(0.0) * WHOLE).round();
                    format!("('{question} {passage}', '{question}', '{passage}', {weight})")
                })
            });
        insert(session, "near (key, question, passage, weight)", near)?;
        if self.reads_names {
            return Ok(());
        }
        let titles = self.corpus.titles().into_iter().enumerate();
        let given =
            titles.map(|(at, (passage, name))| format!("('{at}', '{passage}', {})", quoted(&name)));
        insert(session, "given (key, passage, name)", given)
    }

    /// Deletes a passage, and with it all that follows from it.
    pub fn delete(&self, session: &mut Session, passage: usize) -> Result<(), Error> {
        carried_out(
            session,
            &format!("DELETE FROM passages WHERE key = '{passage}'"),
        )
        .map(drop)
    }

    /// The first passages of each question.
    pub fn found(&self, session: &mut Session) -> Result<Vec<Found>, Error> {
        let rows = carried_out(
            session,
            "SELECT CAST(question AS INTEGER) AS q, CAST(passage AS INTEGER) AS p, score FROM chosen
             ORDER BY q, score DESC, p",
        )?;
        let mut found = vec![Found::new(); self.corpus.questions.len()];
        for row in rows {
            let [Value::Integer(question), Value::Integer(passage), _] = row[..] else {
                return Err(format!("a row that is none of numbers: {row:?}").into());
            };
            let question = usize::try_from(question)?;
            let of_question = found
                .get_mut(question)
                .ok_or("a question that nobody asked")?;
            of_question.push(usize::try_from(passage)?);
        }
        Ok(found)
    }
}

fn insert(
    session: &mut Session,
    into: &str,
    rows: impl Iterator<Item = String>,
) -> Result<(), Error> {
    let rows: Vec<String> = rows.collect();
    for part in rows.chunks(ROWS) {
        let mut statement = String::new();
        write!(statement, "INSERT INTO {into} VALUES {};", part.join(", "))?;
        carried_out(session, &statement)?;
    }
    Ok(())
}

/// The rows of the last query of a script.
fn carried_out(session: &mut Session, text: &str) -> Result<Vec<Vec<Value>>, Error> {
    let mut all = Vec::new();
    session.run(&Script::new("graph.sql", text), |_, outcome| {
        if let Outcome::Rows { rows, .. } = outcome {
            all = rows.iter().map(|row| row.to_vec()).collect();
        }
        Ok(())
    })?;
    Ok(all)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
