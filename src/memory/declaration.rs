//! What is a memory made from, and of which relations does it consist?

use std::sync::Arc;

use perennial_rows::{Column, SUPERSEDES, Schema, TEXT, TITLE, Type, UPDATED_AT};
use perennial_views::query::memory::{MAX_TEXT, RecallBy, Retain};
use perennial_views::query::{Query, RelationSchema, Relations, bind};
use perennial_views::sql::{Identifier, Quoted, Script, Statement, parse};

use super::entry::DEFAULT_NAMESPACE;
use super::error::MemoryError;
use crate::engine::{Engine, Error, RelationInfo, RelationKind};

/// The query of a view of a memory, over the relations that there are.
pub(super) type MakeQuery = fn(&Memory, &[RelationInfo]) -> Result<Query, MemoryError>;

/// Bytes of latent keys that are held unless told.
const LATENT_BYTES: usize = 256 << 20;
/// Characters of which a text that says nothing may consist.
const BLANKS: &str = " \t\r\n";

/// A memory as it is declared.
///
/// ```
/// use perennial::memory::{Memory, Retain};
///
/// let memory = Memory::named("team")
///     .from("turns")
///     .namespace("room")
///     .writer("who")
///     .retain(Retain::Count(1000));
/// assert_eq!(memory.name(), "team");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    pub(super) name: String,
    pub(super) from: String,
    pub(super) namespace: Option<String>,
    pub(super) session: Option<String>,
    pub(super) writer: Option<String>,
    pub(super) pinned: Option<String>,
    pub(super) retain: Option<Retain>,
    pub(super) recall: RecallBy,
    pub(super) latent_bytes: usize,
}

impl Memory {
    /// A memory of this name, made from a relation of this name until another is named.
    pub fn named(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            from: name.clone(),
            name,
            namespace: None,
            session: None,
            writer: None,
            pinned: None,
            retain: None,
            recall: RecallBy::default(),
            latent_bytes: LATENT_BYTES,
        }
    }

    /// Made from this relation: a source, a table or a view with the columns `key` and `text`.
    #[must_use]
    pub fn from(mut self, relation: impl Into<String>) -> Self {
        self.from = relation.into();
        self
    }

    /// The column that holds where a row belongs. Without, all are in the namespace `default`.
    #[must_use]
    pub fn namespace(mut self, column: impl Into<String>) -> Self {
        self.namespace = Some(column.into());
        self
    }

    /// The column that holds the session in which a row was said.
    #[must_use]
    pub fn session(mut self, column: impl Into<String>) -> Self {
        self.session = Some(column.into());
        self
    }

    /// The column that holds who said it.
    #[must_use]
    pub fn writer(mut self, column: impl Into<String>) -> Self {
        self.writer = Some(column.into());
        self
    }

    /// The column that is true of what is kept before all else.
    #[must_use]
    pub fn pinned(mut self, column: impl Into<String>) -> Self {
        self.pinned = Some(column.into());
        self
    }

    /// How much of each namespace is kept; all unless told.
    #[must_use]
    pub fn retain(mut self, retain: Retain) -> Self {
        self.retain = Some(retain);
        self
    }

    /// By what its entries are scored for a question that does not say so itself; by text unless told.
    #[must_use]
    pub fn recall_by(mut self, by: RecallBy) -> Self {
        self.recall = by;
        self
    }

    /// Most bytes of latent keys that are held in memory; 256 MiB unless told.
    #[must_use]
    pub fn latent_bytes(mut self, n_bytes: usize) -> Self {
        self.latent_bytes = n_bytes;
        self
    }

    /// Its name, which is that of the view of its entries.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The relation that it is made from.
    pub fn source(&self) -> &str {
        &self.from
    }

    /// How much of each namespace is kept.
    pub fn retained(&self) -> Option<Retain> {
        self.retain
    }

    /// By what its entries are scored.
    pub fn recalled_by(&self) -> RecallBy {
        self.recall
    }

    /// The relations that it consists of, but for views of readers: each before what it reads.
    pub fn relations(&self) -> [String; 4] {
        [
            self.index(),
            self.refused(),
            self.name.clone(),
            self.grants(),
        ]
    }

    /// Whether a relation of this name is one of those that it consists of, but for views of readers.
    pub fn has(&self, relation: &str) -> bool {
        self.relations().iter().any(|own| own == relation)
    }

    /// The plan of its entries, in words.
    ///
    /// # Errors
    /// What is wrong with its declaration.
    pub fn explain(&self, engine: &Engine) -> Result<String, MemoryError> {
        Ok(self.entries_query(&engine.relations()?)?.to_string())
    }

    /// Whether it may be made from what there is.
    ///
    /// # Errors
    /// What is wrong with its declaration.
    pub(crate) fn check(&self, there: &[RelationInfo]) -> Result<(), MemoryError> {
        self.entries_query(there).map(drop)
    }

    /// The relations that it consists of, as they will be over those that there are: each behind what it
    /// reads.
    ///
    /// # Errors
    /// What is wrong with its declaration; [`Error::DeclaredTwice`] where one of their names is taken.
    pub(crate) fn foreseen(
        &self,
        there: &[RelationInfo],
    ) -> Result<Vec<RelationInfo>, MemoryError> {
        self.check(there)?;
        let is_taken = |name: &String| there.iter().any(|of| *of.name == **name);
        if let Some(name) = self.relations().into_iter().find(is_taken) {
            return Err(Error::DeclaredTwice { name }.into());
        }
        let mut all = there.to_vec();
        let (table, columns) = (RelationKind::Table, Some(Self::grants_columns()));
        let grants = RelationInfo::declared(self.grants().into(), table, columns, Vec::new());
        all.push(grants);
        for (name, query) in self.queries() {
            let query = query(self, &all)?;
            let (kind, columns) = (RelationKind::Query, Some(query.schema().clone()));
            let reads = query.inputs().iter().map(|input| input.relation.clone());
            let view = RelationInfo::declared(name.into(), kind, columns, reads.collect());
            all.push(view);
        }
        Ok(all.split_off(there.len()))
    }

    /// Its views, but for those of readers: each behind what it reads.
    pub(super) fn queries(&self) -> [(String, MakeQuery); 3] {
        [
            (self.name.clone(), Self::entries_query),
            (self.refused(), Self::refused_query),
            (self.index(), Self::index_query),
        ]
    }

    /// The table of who may read what.
    pub fn grants(&self) -> String {
        format!("{}_grants", self.name)
    }

    /// The view of rows that are no entries, with the reason.
    pub fn refused(&self) -> String {
        format!("{}_refused", self.name)
    }

    /// The view from which is recalled.
    pub fn index(&self) -> String {
        format!("{}_index", self.name)
    }

    /// The view of what a reader may read.
    pub fn readable_by(&self, reader: &str) -> String {
        format!("{}_as_{reader}", self.name)
    }

    /// The columns of the table of grants.
    pub(super) fn grants_columns() -> Schema {
        Schema::new(["key", "reader", "namespace"].map(|name| Column::new(name, Type::Text)))
    }

    /// The query of the entries.
    pub(super) fn entries_query(&self, there: &[RelationInfo]) -> Result<Query, MemoryError> {
        let from = self.relation(there)?;
        let column = |name: &str, of: &str| match has(from, name) {
            true => format!("CAST({} AS {of})", Identifier(name)),
            false => format!("CAST(NULL AS {of})"),
        };
        let optional = |name: &Option<String>| match name {
            Some(name) => column(name, "TEXT"),
            None => "CAST(NULL AS TEXT)".to_owned(),
        };
        let namespace = match &self.namespace {
            // Nothing is in no namespace.
            Some(name) => {
                let own = column(name, "TEXT");
                format!("coalesce(nullif({own}, ''), '{DEFAULT_NAMESPACE}')")
            }
            None => format!("'{DEFAULT_NAMESPACE}'"),
        };
        let pinned = match &self.pinned {
            Some(name) => format!("coalesce({}, FALSE)", column(name, "BOOLEAN")),
            None => "FALSE".to_owned(),
        };
        let text = format!(
            "SELECT CAST(key AS TEXT) AS key, CAST({namespace} AS TEXT) AS namespace, \
             {} AS session, {} AS writer, {} AS title, {} AS text, {} AS updated_at, \
             {pinned} AS pinned, {} AS supersedes \
             FROM {} WHERE key IS NOT NULL AND ltrim(text, '{BLANKS}') <> '' \
             AND octet_length(text) <= {MAX_TEXT}",
            optional(&self.session),
            optional(&self.writer),
            column(TITLE, "TEXT"),
            column(TEXT, "TEXT"),
            column(UPDATED_AT, "TIMESTAMP"),
            column(SUPERSEDES, "JSON"),
            Identifier(&self.from),
        );
        Ok(self.bound(there, &text)?.entries(self.retain))
    }

    /// The query of what is refused.
    pub(super) fn refused_query(&self, there: &[RelationInfo]) -> Result<Query, MemoryError> {
        let text = format!(
            "SELECT key, octet_length(text) AS n_bytes, \
             CASE WHEN key IS NULL THEN 'there is no key' \
             WHEN text IS NULL OR ltrim(text, '{BLANKS}') = '' THEN 'the text is empty' \
             ELSE 'the text has more than {MAX_TEXT} bytes' END AS reason \
             FROM {} WHERE key IS NULL OR text IS NULL OR ltrim(text, '{BLANKS}') = '' \
             OR octet_length(text) > {MAX_TEXT}",
            Identifier(&self.from),
        );
        self.bound(there, &text)
    }

    /// The query of what is recalled from: entries, then grants.
    pub(super) fn index_query(&self, there: &[RelationInfo]) -> Result<Query, MemoryError> {
        let text = format!(
            "SELECT key, namespace, session, writer, title, text, updated_at, pinned, sources, \
             CAST(NULL AS TEXT) AS reader FROM {} \
             UNION ALL SELECT key, namespace, CAST(NULL AS TEXT), CAST(NULL AS TEXT), \
             CAST(NULL AS TEXT), CAST(NULL AS TEXT), CAST(NULL AS TIMESTAMP), \
             CAST(NULL AS BOOLEAN), CAST(NULL AS JSON), reader FROM {}",
            Identifier(&self.name),
            Identifier(&self.grants()),
        );
        Ok(self.bound(there, &text)?.embedded())
    }

    /// The query of what a reader may read.
    pub(super) fn readable_query(
        &self,
        there: &[RelationInfo],
        reader: &str,
    ) -> Result<Query, MemoryError> {
        let text = format!(
            "SELECT * FROM {} WHERE namespace IN (SELECT namespace FROM {} WHERE reader = {})",
            Identifier(&self.name),
            Identifier(&self.grants()),
            Quoted(reader),
        );
        self.bound(there, &text)
    }

    /// The relation that it is made from, if it has the columns that are named.
    fn relation<'t>(&self, there: &'t [RelationInfo]) -> Result<&'t RelationInfo, MemoryError> {
        let mut relations = there.iter();
        let from = relations.find(|relation| *relation.name == *self.from);
        let from = from.ok_or_else(|| {
            let names: Vec<&str> = there.iter().map(|relation| &*relation.name).collect();
            Error::UnknownRelation {
                name: self.from.clone(),
                declared: names.join(", "),
            }
        })?;
        let named = [&self.namespace, &self.session, &self.writer, &self.pinned];
        let text = Some(TEXT.to_owned());
        let mut named = named.into_iter().chain([&text]).flatten();
        match named.find(|name| !from.is_open && !has(from, name)) {
            None => Ok(from),
            Some(column) => Err(MemoryError::NoColumn {
                from: self.from.clone(),
                column: column.clone(),
                columns: from.schema.to_string(),
            }),
        }
    }

    fn bound(&self, there: &[RelationInfo], text: &str) -> Result<Query, MemoryError> {
        let not_declared = |reason: String| MemoryError::NotDeclared {
            memory: self.name.clone(),
            reason,
        };
        let statements = parse(&Script::new("memory", text));
        let statements = statements.map_err(|errors| not_declared(errors.to_string()))?;
        let statement = statements.into_iter().next().map(|statement| statement.of);
        let Some(Statement::Select(query)) = statement else {
            return Err(not_declared("its query is none".to_owned()));
        };
        bind(&query, &WithMeaning(there)).map_err(|errors| not_declared(errors.to_string()))
    }
}

/// Whether a relation has a column: of a stream, those with a meaning are there, declared or not.
fn has(relation: &RelationInfo, name: &str) -> bool {
    let is_stream = matches!(relation.kind, RelationKind::Source | RelationKind::Table);
    let has_meaning = is_stream && perennial_rows::has_meaning(name);
    has_meaning || relation.is_open || relation.schema.position(name).is_some()
}

/// The relations that there are, streams with the columns that have a meaning.
struct WithMeaning<'t>(&'t [RelationInfo]);

impl Relations for WithMeaning<'_> {
    fn relation(&self, name: &str) -> Option<RelationSchema> {
        let relation = self.0.iter().find(|relation| *relation.name == *name)?;
        let mut schema = RelationSchema::from(relation);
        if matches!(relation.kind, RelationKind::Source | RelationKind::Table) {
            let known = schema.columns.columns().to_vec();
            let meant = [
                (TEXT, Type::Text),
                (TITLE, Type::Text),
                (UPDATED_AT, Type::Timestamp),
                (SUPERSEDES, Type::Json),
            ];
            let meant = meant.map(|(name, of)| Column::new(name, of));
            let is_new = |column: &Column| known.iter().all(|known| known.name != column.name);
            let missing: Vec<Column> = meant.into_iter().filter(is_new).collect();
            schema.columns = Schema::new(known.into_iter().chain(missing));
        }
        Some(schema)
    }

    fn names(&self) -> Vec<Arc<str>> {
        let names = self.0.iter().map(|relation| relation.name.clone());
        names.collect()
    }
}
