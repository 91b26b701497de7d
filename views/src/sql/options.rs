//! Which options does a `WITH (…)` know, and what do they take?
//!
//! Each kind of statement has a table: a name, what it takes in words, and how it is read. An
//! option that is in no table is refused with the names that are, and one that is given twice
//! is refused too: which of them would count?

use std::sync::Arc;
use std::time::Duration;

use perennial_ask::{Arithmetic, Coding, Currency, MAX_OUTPUT_TOKENS, Money};
use perennial_bank::{Repair, Scope};
use perennial_rows::Float;
use sqlparser::tokenizer::{Span, Token};

use super::cursor::{self, Cursor};
use super::diagnostic::{Diagnostic, nearest};
use super::statement::{Literal, Spanned};
use crate::pace::{PaceOption, parse_duration};
use crate::query::memory::{RecallBy, Retain};
use crate::view::{Delivery, Order, Policy};

/// How a source is read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SourceOption {
    /// `FOLLOW`: whether it is watched for changes after it was read; so unless told otherwise.
    Follow(bool),
    /// `KEY`, `TEXT`, `TITLE`, `UPDATED_AT`: the column that holds a field of records.
    Field(Field, Arc<str>),
    /// `FORMAT` of a topic's messages.
    Format(Format),
    /// `LISTEN`: the address at which records are taken, `host:port`.
    Listen(Arc<str>),
    /// `TOKEN_FILE`: a file with the secret that whoever posts must bring.
    TokenFile(Arc<str>),
    /// `SETTINGS_FILE`: a file of a Kafka client's settings.
    SettingsFile(Arc<str>),
    /// A setting of a Kafka client, by librdkafka's name for it.
    Setting(Arc<str>, Arc<str>),
    /// `INCLUDE`: patterns of the files of a folder that are documents, with commas between.
    Include(Arc<str>),
    /// `EXCLUDE`: patterns of those that are none.
    Exclude(Arc<str>),
    /// `IGNORE_FILES`: whether `.gitignore` and `.ignore` files are obeyed; so unless told otherwise.
    IgnoreFiles(bool),
    /// `BELIEVE_EMPTY`: whether a folder or file that holds nothing any more has lost what it held; not so
    /// unless told.
    BelieveEmpty(bool),
    /// `DELIMITER`: what stands between the values of a table of text.
    Delimiter(Arc<str>),
    /// `ENCODING`: in which encoding such a table is, where it does not say so itself.
    Encoding(Arc<str>),
}

/// What a memory is made of.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MemoryOption {
    /// `NAMESPACE`: the column that says where a row belongs.
    Namespace(Arc<str>),
    /// `SESSION`: the column that says in which session it was said.
    Session(Arc<str>),
    /// `WRITER`: the column that says by whom.
    Writer(Arc<str>),
    /// `PINNED`: the column that is true of what is kept before all else.
    Pinned(Arc<str>),
    /// `RETAIN`: how much of each namespace is kept.
    Retain(Retain),
    /// `RECALL`: by what entries are scored for a question, unless it says so itself.
    Recall(RecallBy),
    /// `LATENT_BYTES`: most bytes of latent keys that are held in memory.
    LatentBytes(usize),
}

/// A field of records that a column of a table may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The primary key.
    Key,
    /// The text.
    Text,
    /// The title.
    Title,
    /// The time.
    UpdatedAt,
}

impl Field {
    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Text => "text",
            Self::Title => "title",
            Self::UpdatedAt => "updated_at",
        }
    }
}

/// What a topic's messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Records or operations of JSON lines.
    Json,
    /// The text itself.
    Text,
    /// Change events of a database table.
    Debezium,
}

impl Format {
    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
            Self::Debezium => "debezium",
        }
    }
}

/// How a view is kept.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ViewOption {
    /// `SCOPE`: what a passage may attend to.
    Scope(Scope),
    /// `ORDER_BY`: the order of passages.
    OrderBy(Order),
    /// `POLICY`: the promise of answers.
    Policy(Policy),
    /// `DELIVER`: when answers are told.
    Deliver(Delivery),
    /// `SUPERSEDED`: what becomes of documents that others supersede.
    Superseded(Repair),
    /// `TOKEN_BUDGET`: most tokens of passages a context.
    TokenBudget(usize),
    /// `MAX_TOKENS`: most tokens of an answer.
    MaxTokens(usize),
    /// `REENCODE`: passages behind a change that a provisional answer reads again.
    Reencode(usize),
    /// `TURNOVER`: how much of what borrowed passages attended to may have turned over.
    Turnover(Float),
    /// `SKIP_BELOW`: the expected regret below which an answer is left unread.
    SkipBelow(Float),
    /// `MODEL`: the name of a model.
    Model(Arc<str>),
    /// `SEED` of sampled answers.
    Seed(u64),
    /// `TEMPERATURE` of sampled answers.
    Temperature(Float),
    /// `ANSWER_WITHOUT_DOCUMENTS`: whether a context that sees no document is answered.
    AnswerWithoutDocuments(bool),
    /// `SHARE`: how similar questions are that may ask the same and share an answer then.
    Share(Float),
    /// `BASES`: the relation of questions out of whose answers others are answered.
    Bases(Arc<str>),
    /// `TARGET_LAG`, `CALLS_PER_HOUR`, `TOKENS_PER_HOUR`, `COST_PER_HOUR`: when the next epoch is taken.
    Pace(PaceOption),
}

/// How a sink delivers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SinkOption {
    /// `SECRET_FILE`: a file with the secret that posted answers are signed with.
    SecretFile(Arc<str>),
    /// `DEAD_LETTERS`: a file for the rows that a topic or URL refuses for good.
    DeadLetters(Arc<str>),
    /// `TRANSACTIONAL_ID`: makes each epoch a transaction of a topic.
    TransactionalId(Arc<str>),
    /// `SETTINGS_FILE`: a file of a Kafka client's settings.
    SettingsFile(Arc<str>),
    /// A setting of a Kafka client, by librdkafka's name for it.
    Setting(Arc<str>, Arc<str>),
}

/// How a model computes, or, behind HTTP, is asked.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ModelOption {
    /// `KEY_FILE`: a file with the key that the server wants.
    KeyFile(Arc<str>),
    /// `KEY_VARIABLE`: the environment variable that holds it.
    KeyVariable(Arc<str>),
    /// `CA_FILE`: a file of authorities to believe instead of the usual ones.
    CaFile(Arc<str>),
    /// `CONTEXT_WINDOW`: tokens that the model attends to.
    ContextWindow(usize),
    /// `THINKING_TOKENS`: tokens for thinking beside those of an answer.
    ThinkingTokens(usize),
    /// `CALLS_AT_ONCE`: most requests that run at the same time.
    CallsAtOnce(usize),
    /// `REQUESTS_PER_MINUTE`: most requests of any minute.
    RequestsPerMinute(u64),
    /// `TOKENS_PER_MINUTE`: most tokens of any minute.
    TokensPerMinute(u64),
    /// `PATIENCE`: how long the server may be silent.
    Patience(Duration),
    /// `PRICE_INPUT`: what a million tokens of prompts cost.
    PriceInput(Money),
    /// `PRICE_CACHED_INPUT`: the same of those that the server still knew.
    PriceCachedInput(Money),
    /// `PRICE_OUTPUT`: the same of those that it wrote.
    PriceOutput(Money),
    /// `CURRENCY` of these prices.
    Currency(Currency),
    /// `LEAVE_ONE_OUT`: passages of an answer that are left out, one at a time, to measure what it depends
    /// on.
    LeaveOneOut(usize),
    /// `ARITHMETIC`: what a model of this machine multiplies in.
    Arithmetic(Arithmetic),
    /// `PROFILE`: a file with what a model of this machine guesses by which answers an edit concerns.
    Profile(Arc<str>),
    /// `WARM`: how a model of this machine keeps what memory has no room for.
    Warm(Coding),
}

/// What a subscription tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubscribeOption {
    Snapshot(bool),
    Progress(bool),
}

/// An option as a table knows it.
pub(super) struct Known<O> {
    name: &'static str,
    read: fn(&Literal) -> Result<O, String>,
}

const fn known<O>(name: &'static str, read: fn(&Literal) -> Result<O, String>) -> Known<O> {
    Known { name, read }
}

/// Options of folders.
pub(super) const OF_FOLDERS: &[Known<SourceOption>] = &[
    known("FOLLOW", |v| boolean(v).map(SourceOption::Follow)),
    known("INCLUDE", |v| text(v).map(SourceOption::Include)),
    known("EXCLUDE", |v| text(v).map(SourceOption::Exclude)),
    known("IGNORE_FILES", |v| {
        boolean(v).map(SourceOption::IgnoreFiles)
    }),
    known("BELIEVE_EMPTY", |v| {
        boolean(v).map(SourceOption::BelieveEmpty)
    }),
];

/// Options of files of JSON lines.
pub(super) const OF_FILES: &[Known<SourceOption>] = &[
    known("FOLLOW", |v| boolean(v).map(SourceOption::Follow)),
    known("KEY", |v| field(Field::Key, v)),
    known("TEXT", |v| field(Field::Text, v)),
    known("TITLE", |v| field(Field::Title, v)),
    known("UPDATED_AT", |v| field(Field::UpdatedAt, v)),
    known("BELIEVE_EMPTY", |v| {
        boolean(v).map(SourceOption::BelieveEmpty)
    }),
];

/// Options of tables in files.
pub(super) const OF_TABLES: &[Known<SourceOption>] = &[
    known("FOLLOW", |v| boolean(v).map(SourceOption::Follow)),
    known("KEY", |v| field(Field::Key, v)),
    known("TEXT", |v| field(Field::Text, v)),
    known("TITLE", |v| field(Field::Title, v)),
    known("UPDATED_AT", |v| field(Field::UpdatedAt, v)),
    known("DELIMITER", |v| delimiter(v).map(SourceOption::Delimiter)),
    known("ENCODING", |v| text(v).map(SourceOption::Encoding)),
];

/// Options of topics.
pub(super) const OF_TOPICS: &[Known<SourceOption>] = &[
    known("FOLLOW", |v| boolean(v).map(SourceOption::Follow)),
    known("FORMAT", |v| format(v).map(SourceOption::Format)),
    known("KEY", |v| field(Field::Key, v)),
    known("TEXT", |v| field(Field::Text, v)),
    known("TITLE", |v| field(Field::Title, v)),
    known("UPDATED_AT", |v| field(Field::UpdatedAt, v)),
    known("SETTINGS_FILE", |v| text(v).map(SourceOption::SettingsFile)),
];

/// Options of what is posted.
pub(super) const OF_HTTP: &[Known<SourceOption>] = &[
    known("LISTEN", |v| text(v).map(SourceOption::Listen)),
    known("TOKEN_FILE", |v| text(v).map(SourceOption::TokenFile)),
];

/// Options of `LLM_GENERATE` views.
pub(super) const OF_VIEWS: &[Known<ViewOption>] = &[
    known("SCOPE", |v| parsed(v).map(ViewOption::Scope)),
    known("ORDER_BY", |v| parsed(v).map(ViewOption::OrderBy)),
    known("POLICY", |v| parsed(v).map(ViewOption::Policy)),
    known("DELIVER", |v| parsed(v).map(ViewOption::Deliver)),
    known("SUPERSEDED", |v| parsed(v).map(ViewOption::Superseded)),
    known("TOKEN_BUDGET", |v| n_tokens(v).map(ViewOption::TokenBudget)),
    known("MAX_TOKENS", |v| n_tokens(v).map(ViewOption::MaxTokens)),
    known("REENCODE", |v| whole(v).map(ViewOption::Reencode)),
    known("TURNOVER", |v| share(v).map(ViewOption::Turnover)),
    known("SKIP_BELOW", |v| score(v).map(ViewOption::SkipBelow)),
    known("MODEL", |v| name(v).map(ViewOption::Model)),
    known("SEED", |v| whole(v).map(ViewOption::Seed)),
    known("TEMPERATURE", |v| {
        temperature(v).map(ViewOption::Temperature)
    }),
    known("ANSWER_WITHOUT_DOCUMENTS", |v| {
        boolean(v).map(ViewOption::AnswerWithoutDocuments)
    }),
    known("SHARE", |v| similarity(v).map(ViewOption::Share)),
    known("BASES", |v| name(v).map(ViewOption::Bases)),
    known("TARGET_LAG", |v| target_lag(v).map(ViewOption::Pace)),
    known("CALLS_PER_HOUR", |v| {
        budget(v, PaceOption::CallsPerHour).map(ViewOption::Pace)
    }),
    known("TOKENS_PER_HOUR", |v| {
        budget(v, PaceOption::TokensPerHour).map(ViewOption::Pace)
    }),
    known("COST_PER_HOUR", |v| cost_per_hour(v).map(ViewOption::Pace)),
];

/// Options of views of queries.
pub(super) const OF_QUERIES: &[Known<PaceOption>] = &[
    known("TARGET_LAG", target_lag),
    known("CALLS_PER_HOUR", |v| budget(v, PaceOption::CallsPerHour)),
    known("TOKENS_PER_HOUR", |v| budget(v, PaceOption::TokensPerHour)),
    known("COST_PER_HOUR", cost_per_hour),
];

/// Options of sinks.
pub(super) const OF_SINKS: &[Known<SinkOption>] = &[
    known("SECRET_FILE", |v| text(v).map(SinkOption::SecretFile)),
    known("DEAD_LETTERS", |v| text(v).map(SinkOption::DeadLetters)),
    known("TRANSACTIONAL_ID", |v| {
        text(v).map(SinkOption::TransactionalId)
    }),
    known("SETTINGS_FILE", |v| text(v).map(SinkOption::SettingsFile)),
];

/// Options of memories.
pub(super) const OF_MEMORIES: &[Known<MemoryOption>] = &[
    known("NAMESPACE", |v| text(v).map(MemoryOption::Namespace)),
    known("SESSION", |v| text(v).map(MemoryOption::Session)),
    known("WRITER", |v| text(v).map(MemoryOption::Writer)),
    known("PINNED", |v| text(v).map(MemoryOption::Pinned)),
    known("RETAIN", |v| parsed(v).map(MemoryOption::Retain)),
    known("RECALL", |v| parsed(v).map(MemoryOption::Recall)),
    known("LATENT_BYTES", |v| {
        positive(v).map(MemoryOption::LatentBytes)
    }),
];

/// Options of models behind HTTP.
pub(super) const OF_MODELS: &[Known<ModelOption>] = &[
    known("KEY_FILE", |v| text(v).map(ModelOption::KeyFile)),
    known("KEY_VARIABLE", |v| text(v).map(ModelOption::KeyVariable)),
    known("CA_FILE", |v| text(v).map(ModelOption::CaFile)),
    known("CONTEXT_WINDOW", |v| {
        positive(v).map(ModelOption::ContextWindow)
    }),
    known("THINKING_TOKENS", |v| {
        whole(v).map(ModelOption::ThinkingTokens)
    }),
    known("CALLS_AT_ONCE", |v| {
        positive(v).map(ModelOption::CallsAtOnce)
    }),
    known("REQUESTS_PER_MINUTE", |v| {
        positive(v).map(|n| ModelOption::RequestsPerMinute(n as u64))
    }),
    known("TOKENS_PER_MINUTE", |v| {
        positive(v).map(|n| ModelOption::TokensPerMinute(n as u64))
    }),
    known("PATIENCE", |v| patience(v).map(ModelOption::Patience)),
    known("PRICE_INPUT", |v| parsed(v).map(ModelOption::PriceInput)),
    known("PRICE_CACHED_INPUT", |v| {
        parsed(v).map(ModelOption::PriceCachedInput)
    }),
    known("PRICE_OUTPUT", |v| parsed(v).map(ModelOption::PriceOutput)),
    known("CURRENCY", |v| parsed(v).map(ModelOption::Currency)),
    known("LEAVE_ONE_OUT", |v| whole(v).map(ModelOption::LeaveOneOut)),
];

/// Options of models on this machine.
pub(super) const OF_LOCAL_MODELS: &[Known<ModelOption>] = &[
    known("ARITHMETIC", |v| parsed(v).map(ModelOption::Arithmetic)),
    known("PROFILE", |v| text(v).map(ModelOption::Profile)),
    known("WARM", |v| parsed(v).map(ModelOption::Warm)),
];

/// Options of subscriptions.
pub(super) const OF_SUBSCRIPTIONS: &[Known<SubscribeOption>] = &[
    known("SNAPSHOT", |v| boolean(v).map(SubscribeOption::Snapshot)),
    known("PROGRESS", |v| boolean(v).map(SubscribeOption::Progress)),
];

/// Makes an option of a client's setting: its name and value.
pub(super) type Setting<O> = fn(Arc<str>, Arc<str>) -> O;

/// Reads `WITH (name = value, …)`, if it stands here.
pub(super) fn options<O>(
    cursor: &mut Cursor<'_>,
    of: &str,
    known: &[Known<O>],
    setting: Option<Setting<O>>,
) -> Result<Vec<Spanned<O>>, Diagnostic> {
    match cursor.eat("WITH") {
        true => list(cursor, of, known, setting),
        false => Ok(Vec::new()),
    }
}

/// Reads `(name = value, …)`. A name with a dot is a setting of a client where `setting` makes an
/// option of such; a name without a value is one that is true.
pub(super) fn list<O>(
    cursor: &mut Cursor<'_>,
    of: &str,
    known: &[Known<O>],
    setting: Option<Setting<O>>,
) -> Result<Vec<Spanned<O>>, Diagnostic> {
    let mut given: Vec<(Arc<str>, Span)> = Vec::new();
    cursor.list(|cursor| {
        let (name, span) = option_name(cursor)?;
        if let Some((_, first)) = given.iter().find(|(other, _)| *other == name) {
            let what = format!("option {name} is given twice");
            let help = format!("keep one; the first stands at line {}", first.start.line);
            return Err(Diagnostic::new(what, span).help(help));
        }
        given.push((name.clone(), span));
        let is_setting = name.contains('.');
        let row = known.iter().find(|known| *known.name == *name);
        if row.is_none() && !(is_setting && setting.is_some()) {
            return Err(unknown(of, &name, span, known, setting.is_some()));
        }
        let is_flag = matches!(cursor.peek(), Some(Token::Comma | Token::RParen));
        let value = match is_flag {
            true => Spanned::new(Literal::Boolean(true), span),
            false => {
                cursor.expect_equals()?;
                literal(cursor)?
            }
        };
        let read = match (row, setting) {
            (Some(row), _) => (row.read)(&value.of),
            (None, Some(setting)) => Ok(setting(name.clone(), as_setting(&value.of))),
            (None, None) => return Err(unknown(of, &name, span, known, false)),
        };
        match read {
            Ok(option) => Ok(Spanned::new(option, span.union(&value.span))),
            Err(takes) => {
                let what = format!("{name}: {takes}");
                Err(Diagnostic::new(what, value.span))
            }
        }
    })
}

fn unknown<O>(
    of: &str,
    name: &str,
    span: Span,
    known: &[Known<O>],
    has_settings: bool,
) -> Diagnostic {
    let names: Vec<&str> = known.iter().map(|known| known.name).collect();
    let mut help = match nearest(name, names.iter().copied()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => String::new(),
    };
    if help.is_empty() || names.len() > 1 {
        let blank = if help.is_empty() { "" } else { " " };
        help.push_str(&format!("{blank}known are {}", names.join(", ")));
    }
    if has_settings {
        help.push_str(", and librdkafka's settings in quotes, as \"security.protocol\" = 'SSL'");
    }
    Diagnostic::new(format!("{of} has no option {name}"), span).help(help)
}

/// The name of an option: a word in upper case, or what stands in quotes as it is.
fn option_name(cursor: &mut Cursor<'_>) -> Result<(Arc<str>, Span), Diagnostic> {
    let span = cursor.span();
    let name: Arc<str> = match cursor.peek() {
        Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_uppercase().into(),
        Some(Token::Word(word)) => word.value.as_str().into(),
        Some(Token::SingleQuotedString(text)) => text.as_str().into(),
        _ => {
            cursor.tried("the name of an option");
            return Err(cursor.unexpected());
        }
    };
    cursor.advance();
    Ok((name, span))
}

/// A value of an option.
fn literal(cursor: &mut Cursor<'_>) -> Result<Spanned<Literal>, Diagnostic> {
    let begin = cursor.span();
    let is_negative = cursor.eat_symbol(&Token::Minus);
    let found = cursor.peek();
    let value = match found {
        Some(Token::Number(digits, _)) => {
            let sign = if is_negative { "-" } else { "" };
            Some(Literal::Number(format!("{sign}{digits}").into()))
        }
        _ if is_negative => None,
        Some(Token::Word(word)) => Some(match &*word.value.to_ascii_lowercase() {
            "true" | "on" if word.quote_style.is_none() => Literal::Boolean(true),
            "false" | "off" if word.quote_style.is_none() => Literal::Boolean(false),
            _ if word.quote_style.is_none() => Literal::Word(word.value.as_str().into()),
            _ => Literal::Text(word.value.as_str().into()),
        }),
        Some(token) => cursor::string(token).map(Literal::Text),
        None => None,
    };
    let Some(value) = value else {
        cursor.tried("a value: a string, a number, true or false");
        return Err(cursor.unexpected());
    };
    let span = begin.union(&cursor.span());
    cursor.advance();
    Ok(Spanned::new(value, span))
}

fn as_setting(value: &Literal) -> Arc<str> {
    match value {
        Literal::Text(text) | Literal::Word(text) | Literal::Number(text) => text.clone(),
        Literal::Boolean(is) => is.to_string().into(),
    }
}

fn text(value: &Literal) -> Result<Arc<str>, String> {
    match value {
        Literal::Text(text) | Literal::Word(text) if !text.trim().is_empty() => Ok(text.clone()),
        _ => Err("expected a string in '…'".to_owned()),
    }
}

/// A name of the catalog: a bare word is folded, as everywhere.
fn name(value: &Literal) -> Result<Arc<str>, String> {
    match value {
        Literal::Word(word) => Ok(word.to_lowercase().into()),
        other => text(other),
    }
}

/// A text that may be blank: a tabulator.
fn delimiter(value: &Literal) -> Result<Arc<str>, String> {
    match value {
        Literal::Text(text) | Literal::Word(text) if !text.is_empty() => Ok(text.clone()),
        _ => Err("expected a character in '…', or tab".to_owned()),
    }
}

fn field(field: Field, value: &Literal) -> Result<SourceOption, String> {
    text(value).map(|column| SourceOption::Field(field, column))
}

fn format(value: &Literal) -> Result<Format, String> {
    let all = [Format::Json, Format::Text, Format::Debezium];
    let named = |text: &str| {
        all.into_iter()
            .find(|f| f.name().eq_ignore_ascii_case(text))
    };
    let found = text(value).ok().and_then(|text| named(&text));
    found.ok_or_else(|| "expected json, text or debezium".to_owned())
}

fn boolean(value: &Literal) -> Result<bool, String> {
    match value {
        Literal::Boolean(is) => Ok(*is),
        _ => Err("expected true or false".to_owned()),
    }
}

fn parsed<T: std::str::FromStr<Err: ToString>>(value: &Literal) -> Result<T, String> {
    as_setting(value)
        .parse()
        .map_err(|error: T::Err| error.to_string())
}

fn whole<T: std::str::FromStr>(value: &Literal) -> Result<T, String> {
    let number = match value {
        Literal::Number(text) => text.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| "expected a whole number".to_owned())
}

fn positive(value: &Literal) -> Result<usize, String> {
    match whole(value) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a whole number of at least 1".to_owned()),
    }
}

/// Tokens of an answer, or of what it is written over.
fn n_tokens(value: &Literal) -> Result<usize, String> {
    match positive(value) {
        Ok(number) if number > MAX_OUTPUT_TOKENS => {
            Err(format!("expected at most {MAX_OUTPUT_TOKENS}"))
        }
        other => other,
    }
}

/// A duration, or `none`.
fn target_lag(value: &Literal) -> Result<PaceOption, String> {
    if is_none(value) {
        return Ok(PaceOption::TargetLag(None));
    }
    let lag = parse_duration(&as_setting(value));
    let lag = lag.map_err(|expected| format!("{expected}, in '…', or none"))?;
    Ok(PaceOption::TargetLag(Some(lag)))
}

fn patience(value: &Literal) -> Result<Duration, String> {
    let patience = parse_duration(&as_setting(value));
    match patience.map_err(|expected| format!("{expected}, in '…'"))? {
        Duration::ZERO => Err("expected a duration above 0".to_owned()),
        patience => Ok(patience),
    }
}

/// What may be spent in an hour, or `none` where that is all one.
fn budget(value: &Literal, of: fn(Option<u64>) -> PaceOption) -> Result<PaceOption, String> {
    if is_none(value) {
        return Ok(of(None));
    }
    match whole(value) {
        Ok(number) if number > 0 => Ok(of(Some(number))),
        _ => Err("expected a whole number of at least 1, or none".to_owned()),
    }
}

/// Money that may be spent in an hour, or `none` where that is all one.
fn cost_per_hour(value: &Literal) -> Result<PaceOption, String> {
    if is_none(value) {
        return Ok(PaceOption::CostPerHour(None));
    }
    match parsed(value) {
        Ok(Money::ZERO) | Err(_) => {
            Err("expected an amount of money above 0, such as 2 or 0.15, or none".to_owned())
        }
        Ok(cost) => Ok(PaceOption::CostPerHour(Some(cost))),
    }
}

fn is_none(value: &Literal) -> bool {
    matches!(value, Literal::Word(word) if word.eq_ignore_ascii_case("none"))
}

fn number(value: &Literal) -> Option<f64> {
    match value {
        Literal::Number(text) => text.parse().ok().filter(|n: &f64| n.is_finite()),
        _ => None,
    }
}

fn score(value: &Literal) -> Result<Float, String> {
    let found = number(value).filter(|number| *number >= 0.0);
    let found = found.ok_or_else(|| "expected a number of 0 or more".to_owned())?;
    Ok(Float::new(found))
}

fn share(value: &Literal) -> Result<Float, String> {
    let found = number(value).filter(|number| (0.0..=1.0).contains(number));
    let found = found.ok_or_else(|| "expected a number from 0 to 1".to_owned())?;
    Ok(Float::new(found))
}

fn similarity(value: &Literal) -> Result<Float, String> {
    let found = number(value).filter(|number| *number > 0.0 && *number <= 1.0);
    let found =
        found.ok_or_else(|| "expected a number above 0 and up to 1, as in 0.9".to_owned())?;
    Ok(Float::new(found))
}

fn temperature(value: &Literal) -> Result<Float, String> {
    let found = number(value).filter(|number| *number > 0.0);
    let found = found.ok_or_else(|| "expected a number above 0".to_owned())?;
    Ok(Float::new(found))
}
