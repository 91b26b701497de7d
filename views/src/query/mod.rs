//! Which relational query did the user write, and what does it read and make?
//!
//! ```text
//! SQL text -> sqlparser's tree -> bind -> rewrite -> Query -> digest, explain, render
//!      Rust builder ----^
//! ```
//! [`bind`] resolves every name and type against the relations that there are, and reports all
//! that is wrong at once, with the place of each. What stands afterwards is a [`Query`]: a tree
//! without names to resolve, rewritten once, that [`render`](crate::render) turns into dataflow.
//! The Rust [`builder`] writes the same tree that SQL is parsed to, so both have one binder.
//!
//! # Invariants
//! - Two texts of one query have one digest; what is only called otherwise has the same.
//! - A query's result is a function of its inputs' rows at that epoch.
//! - Nothing of SQL is ignored: what is not supported is refused by name.
//!
//! It does not parse SQL text, hold rows, or know a model.

pub(crate) mod bind;
pub mod builder;
pub(crate) mod cast;
mod column;
pub(crate) mod compare;
pub(crate) mod digest;
mod explain;
pub(crate) mod expression;
mod functions;
mod like;
pub mod memory;
pub(crate) mod node;
pub(crate) mod relax;
mod rewrite;
mod timestamp;
mod unique;

use std::collections::BTreeSet;
use std::sync::Arc;

use perennial_rows::{KEY, Schema};

pub use bind::{BindError, BindErrors, RelationSchema, Relations, SEM_FUNCTIONS, Span, bind};

pub use explain::{Analyzed, Subject};
pub use relax::Certainty;
pub use timestamp::parse as instant;

pub(crate) use column::{ColumnId, ColumnTable};
pub(crate) use explain::Question;
pub(crate) use node::{Node, Promise};

/// A bound query: what it reads, and how its result follows from that.
#[derive(Clone, Debug)]
pub struct Query {
    /// The tree.
    root: Node,
    /// Names and types of the tree's columns.
    table: ColumnTable,
    /// What the result's columns are.
    schema: Schema,
    /// What is read, each relation once.
    inputs: Vec<Input>,
    /// Sets of positions of the result that no two of its rows have in common.
    unique: Vec<Vec<usize>>,
    /// How the result is shown, where the query says so.
    order: Vec<OrderBy>,
    /// See [`Query::digest`].
    digest: [u8; 32],
}

/// A relation that a query reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub relation: Arc<str>,
    /// The columns that the query reads of it, and no others, in the order in which
    /// [`render`](crate::render::render) takes them.
    pub columns: Schema,
}

/// A column by which rows are shown in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderBy {
    /// Its position in the result.
    pub column: usize,
    /// Greatest first.
    pub is_descending: bool,
    /// NULLs before all else.
    pub nulls_first: bool,
}

impl Query {
    /// The columns of the result.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// What the query reads: each relation once, with the columns that are needed of it.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Sets of positions of the result's columns that are known to be unique: no two rows of the
    /// result have the same values in all of them. An empty set says that there is at most one
    /// row.
    pub fn unique(&self) -> &[Vec<usize>] {
        &self.unique
    }

    /// The columns that tell the result's rows apart, by position: of the sets that are known to
    /// be unique the one that is the column `key` alone, else the smallest, and of several the
    /// first. None where nothing is known to be unique.
    pub fn key(&self) -> Option<&[usize]> {
        let key = self.schema.position(KEY);
        let is_key = |set: &Vec<usize>| set.len() == 1 && set.first().copied() == key;
        let rank = |set: &&Vec<usize>| (!is_key(set), set.len());
        // Of equals the first is found, and sets are in order.
        let best = self.unique.iter().min_by_key(rank);
        best.map(Vec::as_slice)
    }

    /// Whether a model is asked.
    pub fn asks(&self) -> bool {
        !self.root.asked().is_empty()
    }

    /// Whether it may have a row where nothing stands that it reads: a count of nothing is one.
    pub fn may_say_of_nothing(&self) -> bool {
        self.root.may_say_of_nothing()
    }

    /// Whether texts are embedded.
    pub fn embeds(&self) -> bool {
        self.root.embeds()
    }

    /// The models that are asked: by name, and `None` for the one that is asked where none is named.
    pub fn asked(&self) -> BTreeSet<Option<Arc<str>>> {
        let asked = self.root.asked().into_iter();
        asked.map(|model| model.cloned()).collect()
    }

    /// The order in which the query asks its rows to be shown. Rows that flow have none; this is
    /// for who prints a snapshot.
    pub fn order(&self) -> &[OrderBy] {
        &self.order
    }

    /// Names what this query maintains: equal for queries that read the same columns of the same
    /// relations and make the same result of them. Neither aliases within the query nor the order
    /// in which rows are shown are part of it; names of the result's columns are.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    pub(crate) fn root(&self) -> &Node {
        &self.root
    }
}
