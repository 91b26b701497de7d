//! What may a query name? The relations and models of an engine that runs, or is being declared.
//!
//! Either can be handed to whoever binds a query: `scan("docs").bind(&engine)`.

use std::sync::Arc;

use perennial_ask::Task;
use perennial_rows::{KEY, Schema};
use perennial_views::query::{RelationSchema, Relations};

use super::builder::EngineBuilder;
use super::handle::Engine;
use super::relations::{RelationInfo, RelationKind, open_columns};

/// What a query is told of a relation.
pub(super) fn bound(kind: RelationKind, columns: Schema, is_open: bool) -> RelationSchema {
    // Which columns tell the rows of a query's result apart is not known here.
    let is_keyed = kind != RelationKind::Query && columns.position(KEY).is_some();
    RelationSchema {
        columns,
        is_open,
        unique: match is_keyed {
            true => vec![vec![Arc::from(KEY)]],
            false => Vec::new(),
        },
    }
}

impl From<&RelationInfo> for RelationSchema {
    fn from(relation: &RelationInfo) -> Self {
        bound(relation.kind, relation.schema.clone(), relation.is_open)
    }
}

impl Relations for Engine {
    fn relation(&self, name: &str) -> Option<RelationSchema> {
        let relations = self.relations().ok()?;
        let mut named = relations.iter().filter(|relation| *relation.name == *name);
        named.next().map(RelationSchema::from)
    }

    fn names(&self) -> Vec<Arc<str>> {
        let relations = self.relations().unwrap_or_default().into_iter();
        relations.map(|relation| relation.name).collect()
    }

    fn models(&self) -> Vec<Arc<str>> {
        Self::models(self)
    }

    fn check_task(&self, model: Option<&str>, task: &Task) -> Result<(), String> {
        let provider = self.provider(model);
        provider.map_err(|error| error.to_string())?.check(task)
    }
}

/// What is declared so far.
impl Relations for EngineBuilder {
    fn relation(&self, name: &str) -> Option<RelationSchema> {
        let mut known = self.relations().filter(|known| known.name == name);
        let known = known.next()?;
        let is_open = known.columns.is_none();
        let columns = known.columns.unwrap_or_else(|| Schema::new(open_columns()));
        Some(bound(known.kind, columns, is_open))
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.relations().map(|known| known.name.into()).collect()
    }

    fn models(&self) -> Vec<Arc<str>> {
        self.model_names().map(Arc::from).collect()
    }

    fn check_task(&self, model: Option<&str>, task: &Task) -> Result<(), String> {
        let runtime = self.runtime_of(model).map_err(|error| error.to_string())?;
        runtime.provider().check(task)
    }
}
