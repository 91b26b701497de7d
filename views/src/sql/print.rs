//! How is a statement written? In one line, in one way: what is printed reads as an equal one.

use std::fmt::{self, Display, Formatter};

use perennial_bank::repair::{Band, Part};
use perennial_bank::{Repair, Scope};
use perennial_rows::Schema;

use super::cursor::needs_quotes;
use super::options::{MemoryOption, ModelOption, SinkOption, SourceOption, ViewOption};
use super::statement::{
    AlterView, CreateContinuousView, CreateSink, CreateSource, Delete, Drop, ForgetMemory, Grant,
    Insert, Origin, ReadBy, Recall, RowName, Show, Spanned, Statement, Subscribe, Update,
};
use crate::pace::duration_text;
use crate::query::memory::Retain;
use crate::view::{Delivery, Order, Policy};

/// A name, in quotes where it needs them.
pub struct Identifier<'a>(pub &'a str);

impl Display for Identifier<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match needs_quotes(self.0) {
            true => write!(f, "\"{}\"", self.0.replace('"', "\"\"")),
            false => f.write_str(self.0),
        }
    }
}

/// A string in quotes.
pub struct Quoted<'a>(pub &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', "''"))
    }
}

/// Items with commas between.
struct Listed<T>(T);

impl<T: Clone + IntoIterator<Item: Display>> Display for Listed<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, item) in self.0.clone().into_iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{item}")?;
        }
        Ok(())
    }
}

/// `(column TYPE, …)`
struct Declared<'a>(&'a Schema);

impl Display for Declared<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (at, column) in self.0.columns().iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", Identifier(&column.name), column.of)?;
        }
        f.write_str(")")
    }
}

/// ` WITH (…)`, or nothing.
struct With<'a, O>(&'a [Spanned<O>]);

impl<O: Display> Display for With<'_, O> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let options = self.0.iter().map(|option| &option.of);
        write!(f, " WITH ({})", Listed(options))
    }
}

impl Display for SourceOption {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Follow(is) => write!(f, "FOLLOW = {is}"),
            Self::Field(field, column) => {
                write!(f, "{} = {}", field.name().to_uppercase(), Quoted(column))
            }
            Self::Format(format) => write!(f, "FORMAT = {}", format.name()),
            Self::Listen(address) => write!(f, "LISTEN = {}", Quoted(address)),
            Self::TokenFile(path) => write!(f, "TOKEN_FILE = {}", Quoted(path)),
            Self::SettingsFile(path) => write!(f, "SETTINGS_FILE = {}", Quoted(path)),
            Self::Setting(name, value) => setting(f, name, value),
            Self::Include(globs) => write!(f, "INCLUDE = {}", Quoted(globs)),
            Self::Exclude(globs) => write!(f, "EXCLUDE = {}", Quoted(globs)),
            Self::IgnoreFiles(are) => write!(f, "IGNORE_FILES = {are}"),
            Self::BelieveEmpty(is) => write!(f, "BELIEVE_EMPTY = {is}"),
            Self::Delimiter(text) => write!(f, "DELIMITER = {}", Quoted(text)),
            Self::Encoding(label) => write!(f, "ENCODING = {}", Quoted(label)),
        }
    }
}

impl Display for SinkOption {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecretFile(path) => write!(f, "SECRET_FILE = {}", Quoted(path)),
            Self::DeadLetters(path) => write!(f, "DEAD_LETTERS = {}", Quoted(path)),
            Self::TransactionalId(id) => write!(f, "TRANSACTIONAL_ID = {}", Quoted(id)),
            Self::SettingsFile(path) => write!(f, "SETTINGS_FILE = {}", Quoted(path)),
            Self::Setting(name, value) => setting(f, name, value),
        }
    }
}

impl Display for ModelOption {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyFile(path) => write!(f, "KEY_FILE = {}", Quoted(path)),
            Self::KeyVariable(name) => write!(f, "KEY_VARIABLE = {}", Quoted(name)),
            Self::CaFile(path) => write!(f, "CA_FILE = {}", Quoted(path)),
            Self::ContextWindow(tokens) => write!(f, "CONTEXT_WINDOW = {tokens}"),
            Self::ThinkingTokens(tokens) => write!(f, "THINKING_TOKENS = {tokens}"),
            Self::CallsAtOnce(calls) => write!(f, "CALLS_AT_ONCE = {calls}"),
            Self::RequestsPerMinute(requests) => write!(f, "REQUESTS_PER_MINUTE = {requests}"),
            Self::TokensPerMinute(tokens) => write!(f, "TOKENS_PER_MINUTE = {tokens}"),
            Self::Arithmetic(arithmetic) => write!(f, "ARITHMETIC = '{arithmetic}'"),
            Self::Profile(path) => write!(f, "PROFILE = {}", Quoted(path)),
            Self::Warm(coding) => write!(f, "WARM = '{coding}'"),
            Self::PriceInput(price) => write!(f, "PRICE_INPUT = {price}"),
            Self::PriceCachedInput(price) => write!(f, "PRICE_CACHED_INPUT = {price}"),
            Self::PriceOutput(price) => write!(f, "PRICE_OUTPUT = {price}"),
            Self::Currency(currency) => write!(f, "CURRENCY = '{currency}'"),
            Self::LeaveOneOut(passages) => write!(f, "LEAVE_ONE_OUT = {passages}"),
            Self::Patience(patience) => write!(f, "PATIENCE = '{}'", duration_text(*patience)),
        }
    }
}

/// What opens a model, with how it is asked.
pub(super) fn opened_by(spec: &str, options: &[Spanned<ModelOption>]) -> String {
    format!("{spec}{}", With(options))
}

/// Always in quotes: librdkafka's names are lower case.
fn setting(f: &mut Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    write!(f, "\"{}\" = {}", name.replace('"', "\"\""), Quoted(value))
}

impl Display for ViewOption {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scope(Scope::Causal) => f.write_str("SCOPE = 'causal'"),
            Self::Scope(Scope::Independent) => f.write_str("SCOPE = 'independent'"),
            Self::Scope(Scope::Window { tokens }) => write!(f, "SCOPE = 'window:{tokens}'"),
            Self::Scope(Scope::Boundary { tokens }) => write!(f, "SCOPE = 'boundary:{tokens}'"),
            Self::OrderBy(order) => match order {
                Order::UpdatedAt => f.write_str("ORDER_BY = 'updated_at'"),
                Order::Key => f.write_str("ORDER_BY = 'key'"),
            },
            Self::Policy(policy) => match policy {
                Policy::Exact => f.write_str("POLICY = 'exact'"),
                Policy::Eventual => f.write_str("POLICY = 'eventual'"),
                Policy::Append => f.write_str("POLICY = 'append'"),
                Policy::Stable { millinats } => {
                    write!(f, "POLICY = 'stable:{}'", f64::from(*millinats) / 1000.0)
                }
                Policy::Bounded { millinats } => {
                    write!(f, "POLICY = 'bounded:{}'", f64::from(*millinats) / 1000.0)
                }
            },
            Self::Deliver(delivery) => f.write_str(match delivery {
                Delivery::Epoch => "DELIVER = 'epoch'",
                Delivery::Each => "DELIVER = 'each'",
            }),
            Self::Superseded(repair) => write!(f, "SUPERSEDED = '{}'", spelt(*repair)),
            Self::TokenBudget(tokens) => write!(f, "TOKEN_BUDGET = {tokens}"),
            Self::MaxTokens(tokens) => write!(f, "MAX_TOKENS = {tokens}"),
            Self::Reencode(passages) => write!(f, "REENCODE = {passages}"),
            Self::Turnover(share) => write!(f, "TURNOVER = {}", share.get()),
            Self::SkipBelow(score) => write!(f, "SKIP_BELOW = {}", score.get()),
            Self::Model(name) => write!(f, "MODEL = {}", Quoted(name)),
            Self::Seed(seed) => write!(f, "SEED = {seed}"),
            Self::Temperature(heat) => write!(f, "TEMPERATURE = {}", heat.get()),
            Self::AnswerWithoutDocuments(answers) => {
                write!(f, "ANSWER_WITHOUT_DOCUMENTS = {answers}")
            }
            Self::Share(threshold) => write!(f, "SHARE = {}", threshold.get()),
            Self::Bases(name) => write!(f, "BASES = {}", Quoted(name)),
            Self::Pace(option) => option.fmt(f),
        }
    }
}

/// A repair as its `FromStr` reads it.
fn spelt(repair: Repair) -> String {
    let (name, extent) = match repair {
        Repair::Hide => return "hide".to_owned(),
        Repair::ZeroValues(extent) => ("zero-values", extent),
        Repair::ZeroKeys(extent) => ("zero-keys", extent),
        Repair::ZeroBoth(extent) => ("zero-both", extent),
        _ => return "evict".to_owned(),
    };
    // A band has no short word.
    if extent.band != Band::default() {
        return repair.to_string();
    }
    let part = match extent.part {
        Part::Whole => "whole",
        Part::Header => "header",
        Part::Body => "body",
        Part::FirstTenth => "first-tenth",
    };
    format!("{name}:{part}")
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateSource(source) => source.fmt(f),
            Self::CreateTable(table) => {
                let columns = Declared(&table.columns);
                write!(f, "CREATE TABLE {} {columns}", Identifier(&table.name.of))
            }
            Self::CreateModel(model) => {
                let name = Identifier(&model.name.of);
                let (spec, with) = (Quoted(&model.spec.of), With(&model.options));
                write!(f, "CREATE MODEL {name} FROM {spec}{with}")
            }
            Self::CreateMemory(memory) => {
                let (name, from) = (Identifier(&memory.name.of), Identifier(&memory.from.of));
                let with = With(&memory.options);
                write!(f, "CREATE MEMORY {name} FROM {from}{with}")
            }
            Self::CreateContinuousView(view) => view.fmt(f),
            Self::CreateView(view) => {
                let (name, with) = (Identifier(&view.name.of), With(&view.options));
                write!(f, "CREATE VIEW {name}{with} AS {}", view.query)
            }
            Self::AlterView(AlterView { name, set }) => {
                let set = set.iter().map(|option| &option.of);
                let name = Identifier(&name.of);
                write!(f, "ALTER VIEW {name} SET ({})", Listed(set))
            }
            Self::CreateSink(sink) => sink.fmt(f),
            Self::Insert(insert) => insert.fmt(f),
            Self::Update(update) => update.fmt(f),
            Self::Delete(delete) => delete.fmt(f),
            Self::Select(query) => write!(f, "{query}"),
            Self::Subscribe(subscribe) => subscribe.fmt(f),
            Self::Show(Show::Columns(name)) => {
                write!(f, "SHOW COLUMNS FROM {}", Identifier(&name.of))
            }
            Self::Show(Show::Candidates(view)) => {
                write!(f, "SHOW CANDIDATES FROM {}", Identifier(&view.of))
            }
            Self::Show(Show::All(kind)) => write!(f, "SHOW {}", kind.keyword_of_many()),
            Self::Drop(drop) => drop.fmt(f),
            Self::Explain(explained) => write!(f, "EXPLAIN {}", explained.of),
            Self::ExplainCost(explained) => write!(f, "EXPLAIN COST {}", explained.of),
            Self::AnalyzeQuery(query) => write!(f, "EXPLAIN ANALYZE {query}"),
            Self::AnalyzeView(name) => write!(f, "EXPLAIN ANALYZE {}", Identifier(&name.of)),
            Self::ExplainWhy(row) => write!(f, "EXPLAIN WHY {row}"),
            Self::Lineage(row) => write!(f, "LINEAGE OF {row}"),
            Self::Forget(forget) => {
                let from = Identifier(&forget.from.of);
                write!(f, "FORGET {} FROM {from}", Quoted(&forget.key.of))
            }
            Self::ForgetMemory(ForgetMemory { by, of, from }) => {
                let (by, of) = (by.keyword(), Quoted(&of.of));
                write!(f, "FORGET {by} {of} FROM MEMORY {}", Identifier(&from.of))
            }
            Self::Grant(grant) => grant.fmt(f),
            Self::Recall(recall) => recall.fmt(f),
        }
    }
}

impl Display for RowName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (relation, key) = (Identifier(&self.relation.of), Quoted(&self.key.of));
        write!(f, "{relation}[{key}]")
    }
}

impl Display for MemoryOption {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(column) => write!(f, "NAMESPACE = {}", Quoted(column)),
            Self::Session(column) => write!(f, "SESSION = {}", Quoted(column)),
            Self::Writer(column) => write!(f, "WRITER = {}", Quoted(column)),
            Self::Pinned(column) => write!(f, "PINNED = {}", Quoted(column)),
            Self::Retain(Retain::Count(n)) => write!(f, "RETAIN = {n}"),
            Self::Retain(age) => write!(f, "RETAIN = '{age}'"),
            Self::Recall(by) => write!(f, "RECALL = '{by}'"),
            Self::LatentBytes(n) => write!(f, "LATENT_BYTES = {n}"),
        }
    }
}

impl Display for Grant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (grant, to) = match self.is_given {
            true => ("GRANT", "TO"),
            false => ("REVOKE", "FROM"),
        };
        let (namespace, memory) = (Quoted(&self.namespace.of), Identifier(&self.memory.of));
        let reader = Quoted(&self.reader.of);
        write!(
            f,
            "{grant} READ ON NAMESPACE {namespace} OF MEMORY {memory} {to} {reader}"
        )
    }
}

impl Display for Recall {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (question, from) = (Quoted(&self.question.of), Identifier(&self.from.of));
        write!(f, "RECALL {question} FROM {from}")?;
        if let Some(reader) = &self.reader {
            write!(f, " AS {}", Quoted(&reader.of))?;
        }
        if let Some(namespace) = &self.namespace {
            write!(f, " IN NAMESPACE {}", Quoted(&namespace.of))?;
        }
        match &self.limit {
            Some(limit) => write!(f, " LIMIT {}", limit.of),
            None => Ok(()),
        }
    }
}

impl Display for CreateSource {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "CREATE SOURCE {}", Identifier(&self.name.of))?;
        if let Some(columns) = &self.columns {
            write!(f, " {}", Declared(columns))?;
        }
        f.write_str(" FROM ")?;
        match &self.from {
            Origin::Folder(path) => write!(f, "FOLDER {}", Quoted(&path.of)),
            Origin::File(path) => write!(f, "FILE {}", Quoted(&path.of)),
            Origin::Table(path) => write!(f, "TABLE {}", Quoted(&path.of)),
            Origin::Kafka(topic) => write!(f, "KAFKA {}", Quoted(&topic.of)),
            Origin::Http => f.write_str("HTTP"),
        }?;
        With(&self.options).fmt(f)
    }
}

impl Display for CreateContinuousView {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = Identifier(&self.name.of);
        write!(f, "CREATE CONTINUOUS VIEW {name} AS LLM_GENERATE(")?;
        if let Some(prompt) = &self.prompt {
            write!(f, "PROMPT = {}, ", Quoted(&prompt.of))?;
        }
        let (context, data_source) = (&self.context.of, &self.data_source.of);
        write!(f, "CONTEXT = STREAM({}), ", Identifier(context))?;
        let data_source = Identifier(data_source);
        match &self.reads {
            None => write!(f, "DATA_SOURCE = STREAM({data_source})"),
            Some(ReadBy::Owner) => write!(f, "DATA_SOURCE = MEMORY({data_source})"),
            Some(ReadBy::Reader(reader)) => {
                let reader = Quoted(&reader.of);
                write!(f, "DATA_SOURCE = MEMORY({data_source}) AS {reader}")
            }
        }?;
        if !self.matching.is_empty() {
            let columns = self.matching.iter().map(|column| Identifier(&column.of));
            write!(f, " MATCHING ({})", Listed(columns))?;
        }
        f.write_str(")")?;
        With(&self.options).fmt(f)
    }
}

impl Display for CreateSink {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (name, from) = (Identifier(&self.name.of), Identifier(&self.from.of));
        let into = Quoted(&self.into.of);
        write!(f, "CREATE SINK {name} FROM {from} INTO {into}")?;
        With(&self.options).fmt(f)
    }
}

impl Display for Insert {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "INSERT INTO {}", Identifier(&self.table.of))?;
        if let Some(columns) = &self.columns {
            let columns = columns.iter().map(|column| Identifier(&column.of));
            write!(f, " ({})", Listed(columns))?;
        }
        f.write_str(" VALUES ")?;
        for (at, row) in self.rows.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            let values = row.iter().map(|value| &value.of);
            write!(f, "{comma}({})", Listed(values))?;
        }
        Ok(())
    }
}

impl Display for Update {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "UPDATE {} SET ", Identifier(&self.table.of))?;
        for (at, (column, value)) in self.set.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{} = {}", Identifier(&column.of), value.of)?;
        }
        match &self.filter {
            Some(filter) => write!(f, " WHERE {}", filter.of),
            None => Ok(()),
        }
    }
}

impl Display for Delete {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "DELETE FROM {}", Identifier(&self.table.of))?;
        match &self.filter {
            Some(filter) => write!(f, " WHERE {}", filter.of),
            None => Ok(()),
        }
    }
}

impl Display for Subscribe {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (snapshot, progress) = (self.snapshot, self.progress);
        write!(f, "SUBSCRIBE TO {}", Identifier(&self.to.of))?;
        write!(f, " WITH (SNAPSHOT = {snapshot}, PROGRESS = {progress})")?;
        match &self.as_of {
            Some(epoch) => write!(f, " AS OF {}", epoch.of),
            None => Ok(()),
        }
    }
}

impl Display for Drop {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let if_exists = if self.if_exists { "IF EXISTS " } else { "" };
        let name = Identifier(&self.name.of);
        write!(f, "DROP {} {if_exists}{name}", self.kind.keyword())
    }
}
