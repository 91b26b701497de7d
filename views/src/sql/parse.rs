//! From tokens to statements: which statement is it, and where does it go wrong?
//!
//! Every statement of a script is read, whatever is wrong with those before it, so that all its
//! errors are told at once: the first of each statement.

use sqlparser::tokenizer::{Span, Token};

use super::create;
use super::cursor::Cursor;
use super::diagnostic::{Diagnostic, Errors, Script};
use super::edit;
use super::embedded;
use super::forms::with_form;
use super::lexer::{self, Piece};
use super::options::{self, SubscribeOption, ViewOption};
use super::print::Identifier;
use super::statement::{
    AlterView, Drop, Forget, ForgetMemory, ForgetPart, Grant, Kind, Recall, RowName, Show, Spanned,
    Statement, Subscribe,
};

/// Statements within one another: `EXPLAIN EXPLAIN` is none.
const BEGINNINGS: [&str; 18] = [
    "CREATE",
    "ALTER",
    "INSERT",
    "UPDATE",
    "DELETE",
    "SELECT",
    "WITH",
    "VALUES",
    "SUBSCRIBE",
    "SHOW",
    "DROP",
    "EXPLAIN",
    "LINEAGE",
    "FORGET",
    "GRANT",
    "REVOKE",
    "RECALL",
    "(",
];

/// Reads a script.
///
/// # Errors
/// Everything that is wrong with it; nothing of a script is to be carried out then.
pub fn parse(script: &Script) -> Result<Vec<Spanned<Statement>>, Errors> {
    let pieces = lexer::split(script);
    let mut statements = Vec::new();
    let mut faults = Vec::new();
    for piece in &pieces.all {
        match statement(piece) {
            Ok(statement) => statements.push(statement),
            Err(fault) => faults.push(fault),
        }
    }
    faults.extend(pieces.fault);
    match faults.is_empty() {
        true => Ok(statements),
        false => Err(script.errors(faults)),
    }
}

fn statement(piece: &Piece) -> Result<Spanned<Statement>, Diagnostic> {
    let mut cursor = Cursor::new(piece);
    let statement = one(&mut cursor).map_err(|fault| with_form(fault, piece))?;
    if !cursor.is_at_end() {
        let fault = cursor.finish().expect_err("something is left");
        let starts_anew = BEGINNINGS.iter().any(|word| cursor.is_at(word));
        return Err(match starts_anew && fault.help.is_none() {
            true => fault.help("end the statement before it with `;`"),
            false => with_form(fault, piece),
        });
    }
    Ok(statement)
}

fn one(cursor: &mut Cursor<'_>) -> Result<Spanned<Statement>, Diagnostic> {
    let begin = cursor.span();
    let of = if cursor.eat("CREATE") {
        create::create(cursor)?
    } else if cursor.eat("ALTER") {
        alter(cursor)?
    } else if cursor.eat("INSERT") {
        edit::insert(cursor)?
    } else if cursor.eat("UPDATE") {
        edit::update(cursor)?
    } else if cursor.eat("DELETE") {
        edit::delete(cursor)?
    } else if is_query(cursor) {
        Statement::Select(query(cursor)?)
    } else if cursor.eat("SUBSCRIBE") {
        subscribe(cursor)?
    } else if cursor.eat("SHOW") {
        show(cursor)?
    } else if cursor.eat("DROP") {
        drop(cursor)?
    } else if cursor.eat("EXPLAIN") {
        explain(cursor)?
    } else if cursor.eat("LINEAGE") {
        cursor.expect("OF")?;
        Statement::Lineage(row_name(cursor)?)
    } else if cursor.eat("FORGET") {
        forget(cursor)?
    } else if cursor.eat("GRANT") {
        grant(cursor, true)?
    } else if cursor.eat("REVOKE") {
        grant(cursor, false)?
    } else if cursor.eat("RECALL") {
        recall(cursor)?
    } else {
        return Err(cursor.unexpected());
    };
    Ok(Spanned::new(of, begin.union(&cursor.last_span())))
}

fn is_query(cursor: &mut Cursor<'_>) -> bool {
    let is_one = ["SELECT", "WITH", "VALUES"]
        .iter()
        .any(|word| cursor.is_at(word))
        || cursor.peek() == Some(&Token::LParen);
    if !is_one {
        cursor.tried("SELECT");
    }
    is_one
}

/// A query that goes on to the end of the statement.
pub(super) fn query(cursor: &mut Cursor<'_>) -> Result<Box<sqlparser::ast::Query>, Diagnostic> {
    let tokens = cursor.until(|_| false);
    embedded::query(tokens, cursor.span())
}

fn subscribe(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    cursor.expect("TO")?;
    let to = cursor.name("the name of a view, table or source")?;
    let given = options::options(cursor, "a subscription", options::OF_SUBSCRIPTIONS, None)?;
    let (mut snapshot, mut progress) = (true, false);
    for option in given {
        match option.of {
            SubscribeOption::Snapshot(is) => snapshot = is,
            SubscribeOption::Progress(is) => progress = is,
        }
    }
    let as_of = if cursor.eat("AS") {
        cursor.expect("OF")?;
        Some(whole(cursor, "the number of an epoch")?)
    } else {
        None
    };
    Ok(Statement::Subscribe(Subscribe {
        to,
        snapshot,
        progress,
        as_of,
    }))
}

fn whole(cursor: &mut Cursor<'_>, what: &str) -> Result<Spanned<u64>, Diagnostic> {
    let span = cursor.span();
    let found = match cursor.peek() {
        Some(Token::Number(digits, false)) => digits.parse().ok(),
        _ => None,
    };
    match found {
        Some(number) => {
            cursor.advance();
            Ok(Spanned::new(number, span))
        }
        None => {
            cursor.tried(what);
            Err(cursor.unexpected())
        }
    }
}

fn show(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    for (kind, _, many) in Kind::ALL {
        if cursor.eat(many) {
            return Ok(Statement::Show(Show::All(kind)));
        }
    }
    if cursor.eat("CANDIDATES") {
        cursor.expect("FROM")?;
        let view = cursor.name("the name of a view")?;
        return Ok(Statement::Show(Show::Candidates(view)));
    }
    cursor.expect("COLUMNS")?;
    if !cursor.eat("FROM") {
        cursor.expect("IN")?;
    }
    let name = cursor.name("the name of a relation")?;
    Ok(Statement::Show(Show::Columns(name)))
}

fn drop(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    // What it is called when it is made.
    let is_continuous = cursor.eat("CONTINUOUS");
    let kind = if is_continuous {
        cursor.expect("VIEW")?;
        Kind::View
    } else {
        kind(cursor)?
    };
    let if_exists = cursor.eat("IF");
    if if_exists {
        cursor.expect("EXISTS")?;
    }
    let name = cursor.name("a name")?;
    for (word, help) in [
        (
            "CASCADE",
            "drop what reads it first; it is named if there is anything",
        ),
        ("RESTRICT", "leave it out: what is read is never dropped"),
    ] {
        if cursor.is_at(word) {
            return Err(cursor.unexpected().help(help));
        }
    }
    Ok(Statement::Drop(Drop {
        kind,
        name,
        if_exists,
    }))
}

/// What follows `ALTER`. All options of views are known here: which of them can be changed is not a
/// question of spelling.
fn alter(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    // What it is called when it is made.
    cursor.eat("CONTINUOUS");
    cursor.expect("VIEW")?;
    let name = cursor.name("the name of the view")?;
    cursor.expect("SET")?;
    let given = options::list(cursor, "a view", options::OF_VIEWS, None)?;
    let set = given.into_iter().map(|option| match option.of {
        ViewOption::Pace(of) => Ok(Spanned::new(of, option.span)),
        fixed => {
            let printed = fixed.to_string();
            let (fixed, _) = printed.split_once(' ').unwrap_or((&printed, ""));
            let what = format!("{fixed} of a view that is kept cannot be changed");
            let view = Identifier(&name.of);
            let help = format!(
                "DROP VIEW {view} and create it again; TARGET_LAG, CALLS_PER_HOUR, \
                 TOKENS_PER_HOUR and COST_PER_HOUR can be changed"
            );
            Err(Diagnostic::new(what, option.span).help(help))
        }
    });
    let set = set.collect::<Result<_, _>>()?;
    Ok(Statement::AlterView(AlterView { name, set }))
}

fn kind(cursor: &mut Cursor<'_>) -> Result<Kind, Diagnostic> {
    for (kind, one, _) in Kind::ALL {
        if cursor.eat(one) {
            return Ok(kind);
        }
    }
    Err(cursor.unexpected())
}

/// `relation['key']`.
fn row_name(cursor: &mut Cursor<'_>) -> Result<RowName, Diagnostic> {
    let relation = cursor.name("the name of a relation")?;
    cursor.expect_symbol(&Token::LBracket)?;
    let key = cursor.string("a key in '…'")?;
    cursor.expect_symbol(&Token::RBracket)?;
    Ok(RowName { relation, key })
}

/// What follows `EXPLAIN ANALYZE`.
fn analyze(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    for word in ["SELECT", "WITH", "VALUES"] {
        if cursor.is_at(word) {
            let begin = cursor.span();
            return match one(cursor)?.of {
                Statement::Select(query) => Ok(Statement::AnalyzeQuery(query)),
                _ => Err(Diagnostic::new(
                    "only queries can be carried out here",
                    begin,
                )),
            };
        }
        cursor.tried(word);
    }
    Ok(Statement::AnalyzeView(cursor.name("the name of a view")?))
}

fn explain(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    if cursor.eat("ANALYZE") {
        return analyze(cursor);
    }
    if cursor.eat("WHY") {
        return Ok(Statement::ExplainWhy(row_name(cursor)?));
    }
    let is_cost = cursor.eat("COST");
    let begin: Span = cursor.span();
    for word in ["SELECT", "WITH", "VALUES", "CREATE"] {
        if cursor.is_at(word) {
            let explained = one(cursor)?;
            return match &explained.of {
                Statement::Select(_) | Statement::CreateView(_) if is_cost => {
                    Ok(Statement::ExplainCost(Box::new(explained)))
                }
                _ if is_cost => {
                    let what = "only queries, and views of them, have questions to count";
                    Err(Diagnostic::new(what, begin))
                }
                Statement::Select(_)
                | Statement::CreateMemory(_)
                | Statement::CreateView(_)
                | Statement::CreateContinuousView(_) => Ok(Statement::Explain(Box::new(explained))),
                _ => {
                    let what = "only queries, views and memories have a plan to explain";
                    Err(Diagnostic::new(what, begin))
                }
            };
        }
        cursor.tried(word);
    }
    Err(cursor.unexpected())
}

fn forget(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    for (by, keyword) in ForgetPart::ALL {
        if cursor.eat(keyword) {
            let of = cursor.string("its value in '…'")?;
            cursor.expect("FROM")?;
            cursor.expect("MEMORY")?;
            let from = cursor.name("the name of a memory")?;
            return Ok(Statement::ForgetMemory(ForgetMemory { by, of, from }));
        }
    }
    let key = cursor.string("a key in '…'")?;
    cursor.expect("FROM")?;
    let from = cursor.name("the name of a table or source")?;
    Ok(Statement::Forget(Forget { key, from }))
}

/// What follows `GRANT` or `REVOKE`.
fn grant(cursor: &mut Cursor<'_>, is_given: bool) -> Result<Statement, Diagnostic> {
    cursor.expect("READ")?;
    cursor.expect("ON")?;
    cursor.expect("NAMESPACE")?;
    let namespace = cursor.string("a namespace in '…'")?;
    cursor.expect("OF")?;
    cursor.expect("MEMORY")?;
    let memory = cursor.name("the name of a memory")?;
    cursor.expect(if is_given { "TO" } else { "FROM" })?;
    let reader = cursor.string("a reader in '…'")?;
    Ok(Statement::Grant(Grant {
        is_given,
        namespace,
        memory,
        reader,
    }))
}

fn recall(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    let question = cursor.string("a question in '…'")?;
    cursor.expect("FROM")?;
    let from = cursor.name("the name of a memory")?;
    let reader = match cursor.eat("AS") {
        true => Some(cursor.string("a reader in '…'")?),
        false => None,
    };
    let namespace = if cursor.eat("IN") {
        cursor.expect("NAMESPACE")?;
        Some(cursor.string("a namespace in '…'")?)
    } else {
        None
    };
    let limit = match cursor.eat("LIMIT") {
        true => Some(whole(cursor, "a number of entries")?),
        false => None,
    };
    Ok(Statement::Recall(Recall {
        question,
        from,
        reader,
        namespace,
        limit,
    }))
}
