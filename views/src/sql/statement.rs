//! What can be said in a script?
//!
//! Two statements are equal if they say the same, wherever they stand: places take no part in
//! it. Printed, a statement reads as one that is equal to it.

use std::sync::Arc;

use perennial_ask::Arithmetic;
use perennial_rows::Schema;
use sqlparser::ast::{Expr, Query};
use sqlparser::tokenizer::Span;

use super::options::{MemoryOption, ModelOption, SinkOption, SourceOption, ViewOption};
use crate::pace::{Pace, PaceOption};
use crate::query::SEM_FUNCTIONS;
use crate::view::View;

/// Something with its place in the script. Equal to the same thing at another place.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    /// What stands there.
    pub of: T,
    /// Where.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// This, there.
    pub fn new(of: T, span: Span) -> Self {
        Self { of, span }
    }

    /// Something made of it, at the same place.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned::new(make(self.of), self.span)
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.of == other.of
    }
}

/// A name with its place. Unquoted names are lower case already, but for those of columns.
pub type Name = Spanned<Arc<str>>;

/// A statement.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Statement {
    /// `CREATE SOURCE name [(column TYPE, …)] FROM … [WITH (…)]`
    CreateSource(CreateSource),
    /// `CREATE TABLE name (column TYPE, …)`
    CreateTable(CreateTable),
    /// `CREATE MODEL name FROM 'spec'`
    CreateModel(CreateModel),
    /// `CREATE MEMORY name FROM relation [WITH (…)]`
    CreateMemory(CreateMemory),
    /// `CREATE CONTINUOUS VIEW name AS LLM_GENERATE(…) [WITH (…)]`
    CreateContinuousView(CreateContinuousView),
    /// `CREATE VIEW name [WITH (…)] AS query`
    CreateView(CreateView),
    /// `ALTER VIEW name SET (…)`
    AlterView(AlterView),
    /// `CREATE SINK name FROM view INTO 'target' [WITH (…)]`
    CreateSink(CreateSink),
    /// `INSERT INTO table [(column, …)] VALUES (expression, …), …`
    Insert(Insert),
    /// `UPDATE table SET column = expression, … [WHERE condition]`
    Update(Update),
    /// `DELETE FROM table [WHERE condition]`
    Delete(Delete),
    /// A query, answered once.
    Select(Box<Query>),
    /// `SUBSCRIBE TO relation [WITH (…)] [AS OF epoch]`
    Subscribe(Subscribe),
    /// `SHOW …`
    Show(Show),
    /// `DROP kind [IF EXISTS] name`
    Drop(Drop),
    /// `EXPLAIN statement`
    Explain(Box<Spanned<Statement>>),
    /// `EXPLAIN COST statement`
    ExplainCost(Box<Spanned<Statement>>),
    /// `EXPLAIN ANALYZE query`
    AnalyzeQuery(Box<Query>),
    /// `EXPLAIN ANALYZE view`
    AnalyzeView(Name),
    /// `EXPLAIN WHY view['key']`
    ExplainWhy(RowName),
    /// `LINEAGE OF relation['key']`
    Lineage(RowName),
    /// `FORGET 'key' FROM relation`
    Forget(Forget),
    /// `FORGET KEY | SESSION | WRITER | NAMESPACE '…' FROM MEMORY name`
    ForgetMemory(ForgetMemory),
    /// `GRANT | REVOKE READ ON NAMESPACE '…' OF MEMORY name TO | FROM '…'`
    Grant(Grant),
    /// `RECALL 'question' FROM memory [AS 'reader'] [IN NAMESPACE '…'] [LIMIT k]`
    Recall(Recall),
}

impl Statement {
    /// Whether carrying it out may ask a model. True too of one that only writes the name of a
    /// function that does.
    pub fn may_ask(&self) -> bool {
        match self {
            Self::CreateContinuousView(_) => true,
            // No answer is asked for, but a model reads question and entries.
            Self::CreateMemory(memory) => memory
                .options
                .iter()
                .any(|option| matches!(option.of, MemoryOption::Recall(by) if by.is_latent())),
            Self::Explain(explained) | Self::ExplainCost(explained) => explained.of.may_ask(),
            Self::CreateView(_)
            | Self::Select(_)
            | Self::AnalyzeQuery(_)
            | Self::Update(_)
            | Self::Delete(_) => {
                let text = self.to_string().to_lowercase();
                SEM_FUNCTIONS.iter().any(|name| text.contains(name))
            }
            _ => false,
        }
    }
}

/// A row of a relation, by its key.
#[derive(Clone, Debug, PartialEq)]
pub struct RowName {
    /// The relation.
    pub relation: Name,
    /// The key.
    pub key: Spanned<Arc<str>>,
}

/// A relation that something outside feeds.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateSource {
    /// Its name.
    pub name: Name,
    /// Its columns, where they are declared.
    pub columns: Option<Schema>,
    /// What feeds it.
    pub from: Origin,
    /// How.
    pub options: Vec<Spanned<SourceOption>>,
}

/// What feeds a source.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// The files of a folder.
    Folder(Spanned<Arc<str>>),
    /// A file of JSON lines; `-` is standard input.
    File(Spanned<Arc<str>>),
    /// A table in a file.
    Table(Spanned<Arc<str>>),
    /// A topic, as `kafka://servers/topic`.
    Kafka(Spanned<Arc<str>>),
    /// Whoever posts to it.
    Http,
}

/// A relation that is fed by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateTable {
    /// Its name.
    pub name: Name,
    /// Its columns, `key` among them.
    pub columns: Schema,
}

/// A model by a name of the script's own.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateModel {
    /// Its name.
    pub name: Name,
    /// A known name, a file, a folder or the address of a server.
    pub spec: Spanned<Arc<str>>,
    /// How it is asked.
    pub options: Vec<Spanned<ModelOption>>,
}

impl CreateModel {
    /// What opens it, as it is written, without what holds unless told: the same for the same model,
    /// asked in the same way.
    pub fn opened_by(&self) -> Arc<str> {
        let usual = ModelOption::Arithmetic(Arithmetic::default());
        let options = self.options.iter().filter(|option| option.of != usual);
        let options: Vec<Spanned<ModelOption>> = options.cloned().collect();
        match options.is_empty() {
            true => self.spec.of.clone(),
            false => super::print::opened_by(&self.spec.of, &options).into(),
        }
    }
}

/// A memory.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateMemory {
    /// Its name.
    pub name: Name,
    /// The relation that it is made from.
    pub from: Name,
    /// Which columns say what, and what is kept.
    pub options: Vec<Spanned<MemoryOption>>,
}

/// A view that a model writes.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateContinuousView {
    /// Its name.
    pub name: Name,
    /// The instruction, where one is given.
    pub prompt: Option<Spanned<Arc<str>>>,
    /// The relation of contexts.
    pub context: Name,
    /// The relation of documents, or the memory.
    pub data_source: Name,
    /// Where that is a memory, who reads it.
    pub reads: Option<ReadBy>,
    /// Columns in which a document must be equal to a context to be read for it.
    pub matching: Vec<Name>,
    /// How it is kept.
    pub options: Vec<Spanned<ViewOption>>,
}

/// Who reads a memory.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadBy {
    /// Who declares the view: everything.
    Owner,
    /// A reader: what is granted.
    Reader(Spanned<Arc<str>>),
}

/// A view that is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateView {
    /// Its name.
    pub name: Name,
    /// When it takes its epochs.
    pub options: Vec<Spanned<PaceOption>>,
    /// What it holds.
    pub query: Box<Query>,
}

/// What a view does otherwise from now on.
#[derive(Clone, Debug, PartialEq)]
pub struct AlterView {
    /// The view.
    pub name: Name,
    /// When it takes its epochs; what is not named stays as it is.
    pub set: Vec<Spanned<PaceOption>>,
}

/// Where a view is delivered to.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateSink {
    /// Its name.
    pub name: Name,
    /// The view.
    pub from: Name,
    /// A file, a topic or a URL.
    pub into: Spanned<Arc<str>>,
    /// How.
    pub options: Vec<Spanned<SinkOption>>,
}

/// Rows to set. A row whose key stands already takes its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Insert {
    /// The table.
    pub table: Name,
    /// The columns that are given; all of the table's in their order unless named.
    pub columns: Option<Vec<Name>>,
    /// Their values, each row as many as the first.
    pub rows: Vec<Vec<Spanned<Expr>>>,
}

/// A change of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The table.
    pub table: Name,
    /// Columns with what they become.
    pub set: Vec<(Name, Spanned<Expr>)>,
    /// Of which rows; of all without.
    pub filter: Option<Spanned<Expr>>,
}

/// A removal of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    /// The table.
    pub table: Name,
    /// Which rows; all without.
    pub filter: Option<Spanned<Expr>>,
}

/// Changes of a relation as they come.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe {
    /// The relation.
    pub to: Name,
    /// Whether what stands comes first; so unless told otherwise.
    pub snapshot: bool,
    /// Whether each complete epoch is told, changes or not.
    pub progress: bool,
    /// The epoch to begin at; the present one unless told.
    pub as_of: Option<Spanned<u64>>,
}

/// What is to be listed.
#[derive(Clone, Debug, PartialEq)]
pub enum Show {
    /// All of a kind.
    All(Kind),
    /// The columns of a relation.
    Columns(Name),
    /// The questions that a view proposes to keep.
    Candidates(Name),
}

/// What can be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// See [`CreateSource`].
    Source,
    /// See [`CreateTable`].
    Table,
    /// See [`CreateView`] and [`CreateContinuousView`].
    View,
    /// See [`CreateSink`].
    Sink,
    /// See [`CreateModel`].
    Model,
    /// See [`CreateMemory`].
    Memory,
}

impl Kind {
    /// All kinds, each with its keyword and that of many.
    pub const ALL: [(Self, &'static str, &'static str); 6] = [
        (Self::Source, "SOURCE", "SOURCES"),
        (Self::Table, "TABLE", "TABLES"),
        (Self::View, "VIEW", "VIEWS"),
        (Self::Sink, "SINK", "SINKS"),
        (Self::Model, "MODEL", "MODELS"),
        (Self::Memory, "MEMORY", "MEMORIES"),
    ];

    /// Its keyword.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Source => "SOURCE",
            Self::Table => "TABLE",
            Self::View => "VIEW",
            Self::Sink => "SINK",
            Self::Model => "MODEL",
            Self::Memory => "MEMORY",
        }
    }

    /// The keyword of many.
    pub fn keyword_of_many(self) -> &'static str {
        let all = Self::ALL.iter();
        let mut all = all.filter(|(kind, ..)| *kind == self);
        all.next().map_or("", |(_, _, many)| many)
    }
}

/// Something to be taken away.
#[derive(Clone, Debug, PartialEq)]
pub struct Drop {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// Whether it is no error that there is none.
    pub if_exists: bool,
}

/// A record to be erased, with all that remembers it.
#[derive(Clone, Debug, PartialEq)]
pub struct Forget {
    /// Its key.
    pub key: Spanned<Arc<str>>,
    /// Its relation.
    pub from: Name,
}

/// Records of a memory to be erased.
#[derive(Clone, Debug, PartialEq)]
pub struct ForgetMemory {
    /// What they go by.
    pub by: ForgetPart,
    /// Its value.
    pub of: Spanned<Arc<str>>,
    /// The memory.
    pub from: Name,
}

/// What records of a memory go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgetPart {
    /// One record.
    Key,
    /// All of a session.
    Session,
    /// All of a writer.
    Writer,
    /// All of a namespace.
    Namespace,
}

impl ForgetPart {
    /// All, each with its keyword.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Key, "KEY"),
        (Self::Session, "SESSION"),
        (Self::Writer, "WRITER"),
        (Self::Namespace, "NAMESPACE"),
    ];

    /// Its keyword.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Key => "KEY",
            Self::Session => "SESSION",
            Self::Writer => "WRITER",
            Self::Namespace => "NAMESPACE",
        }
    }
}

/// A right that is given, or taken back.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// Whether it is given.
    pub is_given: bool,
    /// What may be read.
    pub namespace: Spanned<Arc<str>>,
    /// Of which memory.
    pub memory: Name,
    /// By whom.
    pub reader: Spanned<Arc<str>>,
}

/// A question to a memory, answered once with the nearest entries.
#[derive(Clone, Debug, PartialEq)]
pub struct Recall {
    /// The question.
    pub question: Spanned<Arc<str>>,
    /// The memory.
    pub from: Name,
    /// Who asks; the owner unless told.
    pub reader: Option<Spanned<Arc<str>>>,
    /// The namespace that is looked in; all that may be read unless told.
    pub namespace: Option<Spanned<Arc<str>>>,
    /// How many entries.
    pub limit: Option<Spanned<u64>>,
}

/// A value as an option gives it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    /// A string.
    Text(Arc<str>),
    /// A bare word as it was typed.
    Word(Arc<str>),
    /// A number as it was typed, with its sign.
    Number(Arc<str>),
    /// `true` or `false`.
    Boolean(bool),
}

impl CreateContinuousView {
    /// The view that is declared, but for [`CreateContinuousView::matching`]: names to be
    /// looked up.
    pub fn view(&self) -> View {
        let mut view = View::named(&*self.name.of)
            .context(&*self.context.of)
            .data_source(&*self.data_source.of);
        if let Some(prompt) = &self.prompt {
            view = view.prompt(&*prompt.of);
        }
        let (mut seed, mut temperature, mut pace) = (0, None, Pace::default());
        for option in &self.options {
            view = match &option.of {
                ViewOption::Scope(scope) => view.scope(*scope),
                ViewOption::OrderBy(order) => view.order_by(*order),
                ViewOption::Policy(policy) => view.policy(*policy),
                ViewOption::Deliver(delivery) => view.deliver(*delivery),
                ViewOption::Superseded(repair) => view.superseded(*repair),
                ViewOption::TokenBudget(tokens) => view.token_budget(*tokens),
                ViewOption::MaxTokens(tokens) => view.max_tokens(*tokens),
                ViewOption::Reencode(passages) => view.reencode(*passages),
                ViewOption::Turnover(share) => view.turnover(share.get() as f32),
                ViewOption::SkipBelow(score) => view.skip_below(score.get() as f32),
                ViewOption::Model(name) => view.model(&**name),
                ViewOption::AnswerWithoutDocuments(answers) => {
                    view.answer_without_documents(*answers)
                }
                // Of these, views are made that have the other options.
                ViewOption::Share(_) | ViewOption::Bases(_) => view,
                ViewOption::Pace(option) => {
                    pace.set(*option);
                    view
                }
                ViewOption::Seed(of) => {
                    seed = *of;
                    view
                }
                ViewOption::Temperature(heat) => {
                    temperature = Some(heat.get() as f32);
                    view
                }
            };
        }
        let view = view.paced(pace);
        match temperature {
            Some(temperature) => view.sampled(seed, temperature),
            None => view,
        }
    }
}

impl CreateView {
    /// When the view takes its epochs.
    pub fn pace(&self) -> Pace {
        let mut pace = Pace::default();
        self.options.iter().for_each(|option| pace.set(option.of));
        pace
    }
}
