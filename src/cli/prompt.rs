//! `perennial sql`: statements, typed one by one.
//!
//! A statement goes on over lines until its `;`. What was typed is remembered in the cache
//! folder, and names and keywords are completed. Ctrl-C ends what goes on, Ctrl-D the program.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use perennial::Engine;
use perennial::sql::{self, Outcome, Script, Session};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Context, Editor, Helper};

use super::args::SqlArgs;
use super::failure::Failure;
use super::follow::{Course, Ending, Feed, Followed, Next, follow};
use super::interrupt::Interrupt;
use super::live::Live;
use super::opening;
use super::paint::Paint;
use super::refusals::Refusals;
use super::report::EpochReport;
use super::run::{declared, opener, read, width};
use super::screen::Screen;
use super::told::Teller;

const PROMPT: &str = "perennial> ";
/// Lines of history that are kept.
const MOST_REMEMBERED: usize = 1000;
/// Words that are completed, besides names.
const KEYWORDS: [&str; 57] = [
    "ALTER VIEW",
    "AND",
    "AS",
    "AS OF",
    "BY",
    "CALLS_PER_HOUR",
    "COLUMNS",
    "CONTEXT",
    "CONTINUOUS",
    "COST_PER_HOUR",
    "CREATE",
    "DATA_SOURCE",
    "DELETE FROM",
    "DISTINCT",
    "DROP",
    "EXPLAIN",
    "EXPLAIN ANALYZE",
    "EXPLAIN WHY",
    "FILE",
    "FOLDER",
    "FORGET",
    "FROM",
    "GRANT READ ON NAMESPACE",
    "GROUP BY",
    "HAVING",
    "HTTP",
    "INSERT INTO",
    "INTO",
    "JOIN",
    "KAFKA",
    "LIMIT",
    "LINEAGE OF",
    "LLM_GENERATE",
    "MATCHING",
    "MEMORY",
    "MODEL",
    "NAMESPACE",
    "ORDER BY",
    "PROMPT",
    "RECALL",
    "REVOKE READ ON NAMESPACE",
    "SELECT",
    "SET",
    "SHOW",
    "SINK",
    "SOURCE",
    "STREAM",
    "SUBSCRIBE TO",
    "TABLE",
    "TARGET_LAG",
    "TOKENS_PER_HOUR",
    "UNION",
    "UPDATE",
    "VALUES",
    "VIEW",
    "WHERE",
    "WITH",
];

const HELP: &str = "\
CREATE SOURCE name [(column TYPE, …)] FROM FOLDER 'path' | FILE 'x.jsonl' | TABLE 'x.csv'
       | KAFKA 'kafka://servers/topic' | HTTP [WITH (option = value, …)];
CREATE TABLE name (key TEXT, text TEXT, …);
CREATE CONTINUOUS VIEW name AS LLM_GENERATE(PROMPT = '…', CONTEXT = STREAM(x),
       DATA_SOURCE = STREAM(y) [MATCHING (column, …)]) [WITH (SCOPE = 'window:512', …)];
CREATE VIEW name AS SELECT …;   ALTER VIEW name SET (TARGET_LAG = '30 s', …);
CREATE MEMORY name FROM relation [WITH (NAMESPACE = column, SESSION = column, WRITER = column,
       PINNED = column, RETAIN = n | '30 d')];   RECALL 'question' FROM memory [AS 'reader'] [LIMIT k];
GRANT | REVOKE READ ON NAMESPACE 'a' OF MEMORY name TO | FROM 'reader';
       FORGET KEY | SESSION | WRITER | NAMESPACE '…' FROM MEMORY name;
CREATE SINK name FROM view INTO 'x.jsonl' | 'kafka://…' | 'https://…';
INSERT INTO t VALUES (…), …;   UPDATE t SET … WHERE …;   DELETE FROM t WHERE …;
SELECT …;   SUBSCRIBE TO view [WITH (SNAPSHOT = false)];   EXPLAIN [COST | ANALYZE] SELECT …;
EXPLAIN ANALYZE view;   EXPLAIN WHY view['key'];   LINEAGE OF relation['key'];
In a query, sem_filter('Is {text} …?'), sem_classify('…', 'a', 'b'), sem_map('…'), sem_score('…') and
       sem_extract('…', name => TYPE, …) ask the model about each row (sem_filter with recall => 0.9 or
       precision => 0.9 only where an embedding does not decide; sem_decider says who did), sem_agg('…')
       about the rows of each group, and sem_match('Is {a.x} about {b.y}?') in ON about pairs;
       sem_dedup(text, threshold => 0.9) is the text that stands for those that mean the same, and
       sem_group('Name {text}', threshold => 0.7) what the model calls them.
SHOW SOURCES | TABLES | VIEWS | SINKS | MODELS | MEMORIES | COLUMNS FROM name;
CREATE MODEL name FROM 'name | file | http://host/v1#name' [WITH (…)];
DROP SOURCE | TABLE | VIEW | SINK | MODEL | MEMORY [IF EXISTS] name;   FORGET 'key' FROM name;
\\d lists what there is, \\d NAME its columns; \\q ends. Ctrl-C ends a SUBSCRIBE.";

/// Runs the command.
pub(crate) fn run(args: &SqlArgs) -> Result<ExitCode, Failure> {
    let interrupt = Interrupt::listen()?;
    let first = args.script.as_deref().map(read).transpose()?;
    let is_typed = io::stdin().is_terminal();
    let typed_before = match is_typed {
        true => None,
        false => Some(read("-".as_ref())?),
    };
    let live = Live::new(false);
    // Of what is typed nobody knows whether it will ask; what is read is known whole.
    let is_asked = is_typed || first.iter().chain(&typed_before).any(may_ask);
    let mut open = opener(is_asked, &args.model, &live);
    let runtime = opening::with_embedder(open(None)?, &args.model.embedder, &live)?;
    // What is typed may declare at any time what goes on with what an earlier process left: nothing of it
    // is given up here, only where a script declares all.
    let engine = declared(Engine::builder(runtime), &args.engine).held();
    let engine = engine.start()?;
    let refusals = Refusals::from_now_on(engine.clone(), live.clone(), false)?;
    let mut prompt = Prompt {
        refusals,
        session: Session::new(engine, opening::opened_by(&args.model))
            .held()
            .opening(move |model| Ok(open(Some(model))?)),
        teller: Teller {
            live: live.clone(),
            is_json: false,
            is_talkative: is_typed,
            width: width(),
        },
        paint: Paint::of(&console::Term::stdout(), args.engine.color),
        interrupt,
    };
    prompt.interrupt.last();
    for script in first.iter().chain(&typed_before) {
        prompt.carry_out(script)?;
    }
    prompt.session.begin()?;
    if is_typed {
        let model = args.model.spec();
        live.say(&format!("{model} · help lists statements, \\q ends"));
        let history = opening::locator(args.model.cache.as_deref())?;
        let history = history.settings().models.with_file_name("sql_history");
        prompt.converse(&history)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a statement of a script asks a model. One that cannot be read asks nothing.
fn may_ask(script: &Script) -> bool {
    sql::parse(script).is_ok_and(|statements| statements.iter().any(|one| one.of.may_ask()))
}

/// Whoever types, and what is typed to.
struct Prompt {
    session: Session,
    /// What sources refuse.
    refusals: Refusals,
    teller: Teller,
    paint: Paint,
    interrupt: Interrupt,
}

impl Prompt {
    /// Reads statements until there are no more.
    fn converse(&mut self, history: &PathBuf) -> Result<(), Failure> {
        let cannot = |error: ReadlineError| Failure::Io {
            action: "read from the terminal".into(),
            source: io::Error::other(error),
        };
        let config = Config::builder()
            .max_history_size(MOST_REMEMBERED)
            .map_err(cannot)?
            .auto_add_history(true)
            .build();
        let mut editor: Editor<Words, DefaultHistory> =
            Editor::with_config(config).map_err(cannot)?;
        // There is none at first, and one that cannot be read is no loss.
        let _ = editor.load_history(history);
        loop {
            editor.set_helper(Some(self.words()));
            match editor.readline(PROMPT) {
                Ok(line) if ["\\q", "quit", "exit"].contains(&line.trim()) => break,
                Ok(line) => match self.answer(line.trim()) {
                    Ok(()) => {}
                    // What is wrong with one statement is not the end.
                    Err(failure @ (Failure::Script { .. } | Failure::Usage { .. })) => {
                        failure.tell();
                    }
                    Err(failure) => return Err(failure),
                },
                // Ctrl-C: what was begun is dropped.
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(cannot(error)),
            }
            self.interrupt.lower();
        }
        let _ = editor.save_history(history);
        Ok(())
    }

    fn answer(&mut self, line: &str) -> Result<(), Failure> {
        let command = line.trim_end_matches(';').trim();
        match command.split_once(char::is_whitespace) {
            _ if command.is_empty() => Ok(()),
            None if command == "help" || command == "\\?" => {
                self.teller.live.say(HELP);
                Ok(())
            }
            None if command == "\\d" => {
                self.carry_out(&Script::new("\\d", "SHOW SOURCES; SHOW TABLES; SHOW VIEWS"))
            }
            Some(("\\d", name)) => {
                let columns = format!("SHOW COLUMNS FROM {}", name.trim());
                self.carry_out(&Script::new("\\d", columns))
            }
            _ if command.starts_with('\\') => Err(Failure::usage(
                format!("there is no {command}"),
                "\\d, \\d NAME, \\q, or help",
            )),
            _ => self.carry_out(&Script::new("sql", line)),
        }
    }

    /// Carries a script out, and shows what comes of it.
    fn carry_out(&mut self, script: &Script) -> Result<(), Failure> {
        let statements = sql::parse(script).map_err(|errors| Failure::Script { errors })?;
        self.session.check(script, &statements)?;
        for statement in &statements {
            let outcome = self.session.execute(script, statement)?;
            {
                let mut stdout = io::stdout().lock();
                let told = self.teller.tell(&mut stdout, &outcome);
                told.map_err(Failure::output)?;
                self.refusals.tell(&mut stdout)?;
            }
            if let Outcome::Subscription {
                view,
                updates,
                after,
                ..
            } = outcome
            {
                self.session.begin()?;
                let columns = self.session.engine().snapshot(&view)?.schema;
                self.show(&Feed {
                    view,
                    updates,
                    after,
                    columns,
                })?;
                // Of what came meanwhile, the view has told.
                self.refusals.skip()?;
            }
        }
        Ok(())
    }

    /// Shows a view until Ctrl-C.
    fn show(&mut self, feed: &Feed) -> Result<(), Failure> {
        let followed = Followed {
            engine: self.session.engine(),
            feeds: std::slice::from_ref(feed),
            // A table may be written to at any time: there is no end but the user's.
            n_sources: usize::MAX,
        };
        let live = self.teller.live.clone();
        live.say("Ctrl-C ends");
        let mut screen = Screen::new(io::stdout().lock(), self.paint, live);
        let ending = follow(&followed, &mut screen, &mut Endless, &self.interrupt)?;
        if matches!(ending, Ending::Interrupted) {
            self.interrupt.lower();
        }
        Ok(())
    }

    /// What can be completed now.
    fn words(&self) -> Words {
        let relations = self.session.engine().relations().unwrap_or_default();
        let names = relations.iter().map(|relation| relation.name.to_string());
        Words(names.collect())
    }
}

/// Goes on until it is interrupted.
struct Endless;

impl<D> Course<D> for Endless {
    fn after(&mut self, _report: &EpochReport, _display: &mut D) -> Result<Next, Failure> {
        Ok(Next::GoOn)
    }
}

/// Names that can be completed.
struct Words(Vec<String>);

impl Words {
    /// Where the word before the cursor begins, and what it may become.
    fn completed(&self, line: &str, cursor: usize) -> (usize, Vec<String>) {
        let before = &line[..cursor];
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let begin = before.rfind(|c| !is_part(c));
        let begin = begin.map_or(0, |at| {
            at + before[at..].chars().next().map_or(1, char::len_utf8)
        });
        let word = before[begin..].to_lowercase();
        if word.is_empty() {
            return (begin, Vec::new());
        }
        let keywords = KEYWORDS.iter().map(|keyword| (*keyword).to_owned());
        let all = self.0.iter().cloned().chain(keywords);
        let fits = all.filter(|name| name.to_lowercase().starts_with(&word));
        (begin, fits.collect())
    }
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        cursor: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (begin, words) = self.completed(line, cursor);
        let pair = |word: String| Pair {
            display: word.clone(),
            replacement: word,
        };
        Ok((begin, words.into_iter().map(pair).collect()))
    }
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input().trim();
        let is_command = text.starts_with('\\') || ["help", "quit", "exit"].contains(&text);
        Ok(match is_command || sql::is_complete(text) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keywords_are_completed_where_a_word_begins() {
        let words = Words(vec!["support_docs".to_owned(), "turns".to_owned()]);
        let completed = |line: &str| words.completed(line, line.len());
        let (begin, found) = completed("SELECT * FROM sup");
        assert_eq!((begin, found), (14, vec!["support_docs".to_owned()]));
        assert_eq!(completed("(é.tu").1, ["turns"]);
        assert_eq!(completed("sho").1, ["SHOW"]);
        assert_eq!(completed("x ").1, [""; 0]);
    }
}
