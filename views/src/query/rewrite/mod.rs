//! Which cheaper query makes the same rows?
//!
//! A model call costs more than all else together: what can be asked of fewer rows is.
//!
//! Passes, each once:
//! 1. [`fold`]: what is constant is computed, conditions get their plain form;
//! 2. [`pushdown`]: conditions go to where their columns are made, equalities become join keys,
//!    projections of projections one, DISTINCT of what is distinct goes; what a model rejects is not
//!    put into pairs that another is asked about ([`pairs`]);
//! 3. [`lift`]: models are asked behind LIMITs that do not order by what they say;
//! 4. [`prune`]: columns that nobody reads go, down to the scans;
//! 5. [`canonical`]: columns are numbered, and what has no order is sorted, so that one query has
//!    one digest.
//!
//! Expressions are total, so they may be moved anywhere. Conditions never pass a LIMIT, nor the
//! side of an outer join that may be NULL; one on right rows never passes a choice of the nearest.

mod canonical;
mod fold;
mod lift;
mod pairs;
mod prune;
mod pushdown;

use std::collections::BTreeSet;

use crate::query::Input;
use crate::query::column::{ColumnId, ColumnTable};
use crate::query::expression::Expression;
use crate::query::node::{Node, Scalar};

pub(super) use pushdown::key;

/// A rewritten query.
pub(super) struct Plan {
    pub(super) root: Node,
    /// The columns of the result.
    pub(super) outputs: Vec<ColumnId>,
    pub(super) table: ColumnTable,
    pub(super) inputs: Vec<Input>,
}

/// The query whose result has the columns `outputs` of `root`.
pub(super) fn rewrite(root: Node, outputs: &[ColumnId], table: ColumnTable) -> Plan {
    let root = pushed(root, &table);
    let root = lift::lift(root, &table);
    let needed: BTreeSet<ColumnId> = outputs.iter().copied().collect();
    let root = prune::prune(root, &needed);
    let root = project(root, outputs);
    canonical::canonical(root, outputs, &table)
}

/// The query with every condition where it is asked in the end.
pub(super) fn pushed(root: Node, table: &ColumnTable) -> Node {
    pushdown::push(fold::fold(root), Vec::new(), table)
}

/// A node that makes these columns of another in this order.
fn project(node: Node, columns: &[ColumnId]) -> Node {
    if node.columns() == columns {
        return node;
    }
    let input = match node {
        Node::Project { input, columns } if is_passed_on(&columns) => input,
        node => Box::new(node),
    };
    let pass_on = |id: &ColumnId| (*id, Expression::Column(*id));
    Node::Project {
        input,
        columns: columns.iter().map(pass_on).collect(),
    }
}

/// Whether a projection computes nothing.
fn is_passed_on(columns: &[(ColumnId, Scalar)]) -> bool {
    let mut columns = columns.iter();
    columns.all(|(id, expression)| *expression == Expression::Column(*id))
}
