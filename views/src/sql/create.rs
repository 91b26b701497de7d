//! `CREATE …`: sources, tables, models, views and sinks.

use std::sync::Arc;

use perennial_ask::Prices;
use perennial_rows::{Column, KEY, Schema, Type};
use sqlparser::tokenizer::{Span, Token};

use super::cursor::Cursor;
use super::diagnostic::{Diagnostic, nearest};
use super::options::{self, Format, ModelOption, SinkOption, SourceOption, ViewOption};
use super::parse;
use super::statement::{
    CreateContinuousView, CreateMemory, CreateModel, CreateSink, CreateSource, CreateTable,
    CreateView, Name, Origin, ReadBy, Spanned, Statement,
};

/// Columns of one relation.
const MAX_COLUMNS: usize = 1000;
/// Arguments of `LLM_GENERATE`.
const ARGUMENTS: [&str; 3] = ["PROMPT", "CONTEXT", "DATA_SOURCE"];

/// What follows `CREATE`.
pub(super) fn create(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    if cursor.eat("SOURCE") {
        source(cursor)
    } else if cursor.eat("TABLE") {
        table(cursor)
    } else if cursor.eat("MODEL") {
        model(cursor)
    } else if cursor.eat("MEMORY") {
        memory(cursor)
    } else if cursor.eat("CONTINUOUS") {
        cursor.expect("VIEW")?;
        continuous_view(cursor)
    } else if cursor.eat("VIEW") {
        view(cursor)
    } else if cursor.eat("SINK") {
        sink(cursor)
    } else {
        let fault = cursor.unexpected();
        Err(match cursor.is_at("MATERIALIZED") {
            true => fault.help("every view is kept up to date: CREATE VIEW"),
            false => fault,
        })
    }
}

fn source(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    let name = cursor.name("the name of the source")?;
    let columns = match cursor.peek() {
        Some(Token::LParen) => Some(columns(cursor)?),
        _ => {
            cursor.tried("`(`");
            None
        }
    };
    cursor.expect("FROM")?;
    let (from, known) = if cursor.eat("FOLDER") {
        let path = cursor.string("the path of a folder in '…'")?;
        (Origin::Folder(path), options::OF_FOLDERS)
    } else if cursor.eat("FILE") {
        (Origin::File(file(cursor)?), options::OF_FILES)
    } else if cursor.eat("TABLE") {
        (Origin::Table(table_file(cursor)?), options::OF_TABLES)
    } else if cursor.eat("KAFKA") {
        (Origin::Kafka(topic(cursor)?), options::OF_TOPICS)
    } else if cursor.eat("HTTP") {
        (Origin::Http, options::OF_HTTP)
    } else {
        return Err(cursor.unexpected());
    };
    let setting: Option<options::Setting<SourceOption>> = match from {
        Origin::Kafka(_) => Some(SourceOption::Setting),
        _ => None,
    };
    let of = match from {
        Origin::Folder(_) => "a folder",
        Origin::File(_) => "a file of JSON lines",
        Origin::Table(_) => "a table",
        Origin::Kafka(_) => "a topic",
        Origin::Http => "an HTTP source",
    };
    let options = options::options(cursor, of, known, setting)?;
    check_source(&from, &options)?;
    Ok(Statement::CreateSource(CreateSource {
        name,
        columns,
        from,
        options,
    }))
}

/// What options say only together.
fn check_source(from: &Origin, options: &[Spanned<SourceOption>]) -> Result<(), Diagnostic> {
    let format = options.iter().find_map(|option| match option.of {
        SourceOption::Format(format) => Some(format),
        _ => None,
    });
    let field = options.iter().find_map(|option| match option.of {
        SourceOption::Field(field, _) => Some((field, option.span)),
        _ => None,
    });
    match (from, field) {
        (Origin::Kafka(_), Some((field, span))) if format != Some(Format::Debezium) => {
            let name = field.name().to_uppercase();
            let what = format!("{name}: only change events of a table have columns");
            return Err(Diagnostic::new(what, span).help("add FORMAT = debezium, or leave it out"));
        }
        _ => {}
    }
    let has_listen = options
        .iter()
        .any(|option| matches!(option.of, SourceOption::Listen(_)));
    let token = options.iter().find_map(|option| match option.of {
        SourceOption::TokenFile(_) => Some(option.span),
        _ => None,
    });
    match token {
        Some(span) if !has_listen => {
            let what = "TOKEN_FILE guards an address, and where the source listens is missing";
            let help = "WITH (LISTEN = '127.0.0.1:7070', TOKEN_FILE = …); what is served has the \
                        tokens of the server";
            Err(Diagnostic::new(what, span).help(help))
        }
        _ => Ok(()),
    }
}

/// The path of a file of JSON lines.
fn file(cursor: &mut Cursor<'_>) -> Result<Spanned<Arc<str>>, Diagnostic> {
    let path = cursor.string("the path of a .jsonl file in '…'")?;
    let name = unpacked(&path.of);
    let ends = |ending: &&str| name.ends_with(*ending);
    if let Some(ending) = [".csv", ".tsv", ".parquet"].iter().find(|e| ends(e)) {
        let what = format!("a {ending} file is a table, not JSON lines");
        let help = format!("FROM TABLE '{}'", path.of);
        return Err(Diagnostic::new(what, path.span).help(help));
    }
    Ok(path)
}

/// The path of a table.
fn table_file(cursor: &mut Cursor<'_>) -> Result<Spanned<Arc<str>>, Diagnostic> {
    let path = cursor.string("the path of a .csv, .tsv or .parquet file in '…'")?;
    let name = unpacked(&path.of);
    let ends = |ending: &str| name.ends_with(ending);
    if ends(".jsonl") || ends(".ndjson") {
        let help = format!("FROM FILE '{}'", path.of);
        let what = "JSON lines are no table";
        return Err(Diagnostic::new(what, path.span).help(help));
    }
    Ok(path)
}

/// The name of a file without `.gz` and `.zst`, in lower case.
fn unpacked(path: &str) -> String {
    let name = path.to_lowercase();
    let packed = [".gz", ".zst"].into_iter();
    let bare = packed.filter_map(|ending| name.strip_suffix(ending)).next();
    bare.unwrap_or(&name).to_owned()
}

fn topic(cursor: &mut Cursor<'_>) -> Result<Spanned<Arc<str>>, Diagnostic> {
    let form = "a topic as 'kafka://host:port/topic'";
    let topic = cursor.string(form)?;
    let place = topic.of.strip_prefix("kafka://");
    let is_topic = place.is_some_and(|place| {
        let name = place.split_once('/');
        name.is_some_and(|(servers, name)| !servers.is_empty() && !name.is_empty())
    });
    match is_topic {
        true => Ok(topic),
        false => Err(Diagnostic::new(format!("expected {form}"), topic.span)),
    }
}

fn table(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    let name = cursor.name("the name of the table")?;
    let begin = cursor.span();
    let columns = columns(cursor)?;
    if columns.position(KEY).is_none() {
        let what = format!("table {} has no column `key`", name.of);
        let help = "rows are told apart by it: (key TEXT, …)";
        return Err(Diagnostic::new(what, begin.union(&cursor.last_span())).help(help));
    }
    Ok(Statement::CreateTable(CreateTable { name, columns }))
}

/// `(column TYPE, …)`
fn columns(cursor: &mut Cursor<'_>) -> Result<Schema, Diagnostic> {
    let mut columns: Vec<Column> = Vec::new();
    cursor.list(|cursor| {
        let name = cursor.column("the name of a column")?;
        let is_same = |column: &Column| column.name.to_lowercase() == name.of.to_lowercase();
        if columns.iter().any(is_same) {
            let what = format!("column {} is declared twice", name.of);
            return Err(Diagnostic::new(what, name.span));
        }
        if columns.len() == MAX_COLUMNS {
            let what = format!("more than {MAX_COLUMNS} columns");
            return Err(Diagnostic::new(what, name.span));
        }
        let of = column_type(cursor)?;
        // What is declared is what every relation holds there.
        let held = held(&name.of);
        if let Some(held) = held.filter(|held| *held != of.of) {
            let what = format!("column {} holds {held}, not {}", name.of, of.of);
            return Err(Diagnostic::new(what, of.span));
        }
        for word in ["PRIMARY", "NOT", "UNIQUE", "DEFAULT", "REFERENCES", "CHECK"] {
            if cursor.is_at(word) {
                let help = "leave it out: `key` is the key, any other column may be NULL";
                return Err(cursor.unexpected().help(help));
            }
        }
        columns.push(Column::new(name.of, of.of));
        Ok(())
    })?;
    Ok(Schema::new(columns))
}

/// The type of a column that has a meaning.
fn held(name: &str) -> Option<Type> {
    use perennial_rows::{SUPERSEDES, TEXT, TITLE, UPDATED_AT};
    match name {
        KEY | TEXT | TITLE => Some(Type::Text),
        UPDATED_AT => Some(Type::Timestamp),
        SUPERSEDES => Some(Type::Json),
        _ => None,
    }
}

fn column_type(cursor: &mut Cursor<'_>) -> Result<Spanned<Type>, Diagnostic> {
    let span = cursor.span();
    let Some(Token::Word(word)) = cursor.peek() else {
        cursor.tried("a type");
        return Err(cursor.unexpected());
    };
    let mut name = word.value.clone();
    cursor.advance();
    if name.eq_ignore_ascii_case("DOUBLE") && cursor.eat("PRECISION") {
        name.push_str(" PRECISION");
    }
    let of: Type = name
        .parse()
        .map_err(|error: perennial_rows::ParseTypeError| {
            let known = Type::NAMES.map(|(_, name)| name);
            let fault = Diagnostic::new(error.to_string(), span);
            match nearest(&name, known) {
                Some(meant) => fault.help(format!("did you mean {meant}?")),
                None => fault,
            }
        })?;
    if cursor.peek() == Some(&Token::LParen) {
        let help = format!("{of} has no length or precision: leave it out");
        return Err(cursor.unexpected().help(help));
    }
    Ok(Spanned::new(of, span))
}

fn model(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    let name = cursor.name("the name of the model")?;
    cursor.expect("FROM")?;
    let spec = cursor.string("a known model, a GGUF file, a folder or an address in '…'")?;
    let is_remote = perennial_ask::is_address(&spec.of);
    let options = match is_remote {
        true => options::options(cursor, "a model behind HTTP", options::OF_MODELS, None)?,
        false => {
            let of = "a model of this machine";
            options::options(cursor, of, options::OF_LOCAL_MODELS, None)?
        }
    };
    check_prices(&options)?;
    Ok(Statement::CreateModel(CreateModel {
        name,
        spec,
        options,
    }))
}

/// Refuses prices of which one is missing, or that cannot be counted exactly.
fn check_prices(options: &[Spanned<ModelOption>]) -> Result<(), Diagnostic> {
    let (mut input, mut cached, mut output, mut currency) = (None, None, None, None);
    let mut first = None;
    for option in options {
        match option.of {
            ModelOption::PriceInput(price) => input = Some((price, option.span)),
            ModelOption::PriceCachedInput(price) => cached = Some((price, option.span)),
            ModelOption::PriceOutput(price) => output = Some((price, option.span)),
            ModelOption::Currency(of) => currency = Some(of),
            _ => continue,
        }
        first = first.or(Some(option.span));
    }
    let Some(first) = first else {
        return Ok(());
    };
    let given = [
        ("PRICE_INPUT", input.is_some()),
        ("PRICE_OUTPUT", output.is_some()),
        ("CURRENCY", currency.is_some()),
    ];
    let missing: Vec<&str> = given
        .into_iter()
        .filter(|(_, is_given)| !is_given)
        .map(|(name, _)| name)
        .collect();
    if !missing.is_empty() {
        let what = "prices are PRICE_INPUT, PRICE_OUTPUT and CURRENCY together";
        let help = format!("say {}, too", missing.join(" and "));
        return Err(Diagnostic::new(what, first).help(help));
    }
    for (price, span) in [input, cached, output].into_iter().flatten() {
        let of_all = (price, None, price);
        let counted = currency.map(|currency| Prices::of_a_million(of_all, currency));
        if let Some(Err(what)) = counted {
            return Err(Diagnostic::new(what, span));
        }
    }
    Ok(())
}

fn memory(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    let name = cursor.name("the name of the memory")?;
    cursor.expect("FROM")?;
    let from = cursor.name("the name of a source, table or view")?;
    let options = options::options(cursor, "a memory", options::OF_MEMORIES, None)?;
    Ok(Statement::CreateMemory(CreateMemory {
        name,
        from,
        options,
    }))
}

fn view(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    let name = cursor.name("the name of the view")?;
    let options = options::options(cursor, "a view of a query", options::OF_QUERIES, None)?;
    cursor.expect("AS")?;
    if cursor.is_at("LLM_GENERATE") {
        let what = "LLM_GENERATE makes a continuous view";
        let help = format!("CREATE CONTINUOUS VIEW {} AS LLM_GENERATE(…)", name.of);
        return Err(Diagnostic::new(what, cursor.span()).help(help));
    }
    let query = parse::query(cursor)?;
    Ok(Statement::CreateView(CreateView {
        name,
        options,
        query,
    }))
}

/// The arguments of `LLM_GENERATE`, as far as they were given.
#[derive(Default)]
struct Arguments {
    prompt: Option<Spanned<Arc<str>>>,
    context: Option<Name>,
    data_source: Option<Name>,
    reads: Option<ReadBy>,
    matching: Vec<Name>,
}

fn continuous_view(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    let name = cursor.name("the name of the view")?;
    cursor.expect("AS")?;
    if cursor.is_at("SELECT") {
        let help = format!(
            "every view is kept up to date: CREATE VIEW {} AS SELECT …",
            name.of
        );
        cursor.tried("LLM_GENERATE");
        return Err(cursor.unexpected().help(help));
    }
    let call = cursor.span();
    cursor.expect("LLM_GENERATE")?;
    let mut given = Arguments::default();
    cursor.list(|cursor| argument(cursor, &mut given))?;
    let call = call.union(&cursor.last_span());
    let missing = |argument: &str, form: &str| {
        let what = format!("LLM_GENERATE has no {argument}");
        Err(Diagnostic::new(what, call).help(format!("{argument} = {form}")))
    };
    let Some(context) = given.context else {
        return missing("CONTEXT", "STREAM(questions)");
    };
    let Some(data_source) = given.data_source else {
        return missing("DATA_SOURCE", "STREAM(documents)");
    };
    let options = options::options(cursor, "a continuous view", options::OF_VIEWS, None)?;
    check_view(&options)?;
    check_shared(&options, &given.matching)?;
    Ok(Statement::CreateContinuousView(CreateContinuousView {
        name,
        prompt: given.prompt,
        context,
        data_source,
        reads: given.reads,
        matching: given.matching,
        options,
    }))
}

/// A seed has a meaning with a temperature only.
fn check_view(options: &[Spanned<ViewOption>]) -> Result<(), Diagnostic> {
    let is_seed = |option: &&Spanned<ViewOption>| matches!(option.of, ViewOption::Seed(_));
    let is_heat = |option: &Spanned<ViewOption>| matches!(option.of, ViewOption::Temperature(_));
    match options.iter().find(is_seed) {
        Some(seed) if !options.iter().any(is_heat) => {
            let what = "SEED without TEMPERATURE: greedy answers have no chance in them";
            Err(Diagnostic::new(what, seed.span).help("TEMPERATURE = 0.7, or leave it out"))
        }
        _ => Ok(()),
    }
}

/// A question stands for all that ask the same, whatever documents each of them would see.
fn check_shared(options: &[Spanned<ViewOption>], matching: &[Name]) -> Result<(), Diagnostic> {
    let share = options
        .iter()
        .find(|option| matches!(option.of, ViewOption::Share(_)));
    let bases = options
        .iter()
        .find(|option| matches!(option.of, ViewOption::Bases(_)));
    match (share, bases, matching.first()) {
        (Some(share), _, Some(_)) => {
            let what = "SHARE with MATCHING: who asks the same may not see the same documents";
            let help = "a view for each, of questions and documents that a query keeps apart";
            Err(Diagnostic::new(what, share.span).help(help))
        }
        (None, Some(bases), _) => {
            let what =
                "BASES without SHARE, which says how similar questions are that ask the same";
            Err(Diagnostic::new(what, bases.span).help("SHARE = 0.9, BASES = …"))
        }
        _ => Ok(()),
    }
}

fn argument(cursor: &mut Cursor<'_>, given: &mut Arguments) -> Result<(), Diagnostic> {
    let span = cursor.span();
    let twice = |name: &str, is_given: bool| match is_given {
        true => Err(Diagnostic::new(format!("{name} is given twice"), span)),
        false => Ok(()),
    };
    if cursor.eat("PROMPT") {
        twice("PROMPT", given.prompt.is_some())?;
        cursor.expect_equals()?;
        let prompt = cursor.string("the instruction in '…'")?;
        if prompt.of.trim().is_empty() {
            return Err(Diagnostic::new("the prompt is empty", prompt.span)
                .help("leave PROMPT out for the default one"));
        }
        given.prompt = Some(prompt);
    } else if cursor.eat("CONTEXT") {
        twice("CONTEXT", given.context.is_some())?;
        cursor.expect_equals()?;
        given.context = Some(stream(cursor)?);
    } else if cursor.eat("DATA_SOURCE") {
        twice("DATA_SOURCE", given.data_source.is_some())?;
        cursor.expect_equals()?;
        (given.data_source, given.reads) = source_or_memory(cursor)?;
        if cursor.eat("MATCHING") {
            given.matching = matching(cursor)?;
        }
    } else {
        let fault = cursor.unexpected();
        let is_option = |known: &str| cursor.is_at(known);
        let options = [
            "SCOPE",
            "POLICY",
            "DELIVER",
            "MAX_TOKENS",
            "TOKEN_BUDGET",
            "ORDER_BY",
            "MODEL",
            "TARGET_LAG",
            "CALLS_PER_HOUR",
            "TOKENS_PER_HOUR",
            "COST_PER_HOUR",
        ];
        return Err(match options.into_iter().any(is_option) {
            true => fault.help("options stand behind: LLM_GENERATE(…) WITH (…)"),
            false if fault.help.is_none() => {
                fault.help(format!("its arguments are {}", ARGUMENTS.join(", ")))
            }
            false => fault,
        });
    }
    Ok(())
}

/// `STREAM(name)` or `MEMORY(name) [AS 'reader']`
fn source_or_memory(cursor: &mut Cursor<'_>) -> Result<(Option<Name>, Option<ReadBy>), Diagnostic> {
    if !cursor.eat("MEMORY") {
        return Ok((Some(stream(cursor)?), None));
    }
    cursor.expect_symbol(&Token::LParen)?;
    let name = cursor.name("the name of a memory")?;
    cursor.expect_symbol(&Token::RParen)?;
    let reads = match cursor.eat("AS") {
        true => ReadBy::Reader(cursor.string("a reader in '…'")?),
        false => ReadBy::Owner,
    };
    Ok((Some(name), Some(reads)))
}

/// `STREAM(name)`
fn stream(cursor: &mut Cursor<'_>) -> Result<Name, Diagnostic> {
    let bare: Option<Span> = match cursor.peek() {
        Some(Token::Word(_)) if !cursor.is_at("STREAM") => Some(cursor.span()),
        _ => None,
    };
    if !cursor.eat("STREAM") {
        let fault = cursor.unexpected();
        return Err(match (bare, &fault.help) {
            (Some(_), None) => fault.help("write STREAM(name)"),
            _ => fault,
        });
    }
    cursor.expect_symbol(&Token::LParen)?;
    let name = cursor.name("the name of a source, table or view")?;
    cursor.expect_symbol(&Token::RParen)?;
    Ok(name)
}

fn matching(cursor: &mut Cursor<'_>) -> Result<Vec<Name>, Diagnostic> {
    let mut columns: Vec<Name> = Vec::new();
    cursor.list(|cursor| {
        let column = cursor.column("a column that both streams have")?;
        if columns.contains(&column) {
            let what = format!("column {} is named twice", column.of);
            return Err(Diagnostic::new(what, column.span));
        }
        columns.push(column);
        Ok(())
    })?;
    Ok(columns)
}

fn sink(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    let name = cursor.name("the name of the sink")?;
    cursor.expect("FROM")?;
    let from = cursor.name("the name of a view")?;
    cursor.expect("INTO")?;
    let into = cursor.string("a file, a topic (kafka://…) or a URL in '…'")?;
    if into.of.trim().is_empty() {
        return Err(Diagnostic::new("the place of delivery is empty", into.span));
    }
    let is_topic = into.of.starts_with("kafka://");
    let setting: Option<options::Setting<SinkOption>> = match is_topic {
        true => Some(SinkOption::Setting),
        false => None,
    };
    let options = options::options(cursor, "a sink", options::OF_SINKS, setting)?;
    let is_url = into.of.starts_with("http://") || into.of.starts_with("https://");
    for option in &options {
        let (fits, what) = match option.of {
            SinkOption::SecretFile(_) => (is_url, "SECRET_FILE: only what is posted is signed"),
            SinkOption::DeadLetters(_) => {
                (is_url || is_topic, "DEAD_LETTERS: a file refuses nothing")
            }
            _ => (is_topic, "this is an option of topics, kafka://…"),
        };
        if !fits {
            return Err(Diagnostic::new(what, option.span).help("leave it out"));
        }
    }
    Ok(Statement::CreateSink(CreateSink {
        name,
        from,
        into,
        options,
    }))
}
