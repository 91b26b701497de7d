//! What do UNION and VALUES make?

use std::sync::Arc;

use perennial_rows::{Type, Value};
use sqlparser::ast::{self, SetExpr, SetOperator, SetQuantifier, Spanned};

use crate::query::bind::expression::{AsksAbout, Place};
use crate::query::bind::scope::Scope;
use crate::query::bind::{Binder, Bound, Output};
use crate::query::column::ColumnId;
use crate::query::expression::{Expression, common};
use crate::query::node::{Node, Scalar};

/// Most rows of a VALUES.
const MAX_VALUES: usize = 100_000;

impl<'q> Binder<'q> {
    /// The body of a query that is no single SELECT.
    pub(super) fn set_expression(&mut self, body: &'q SetExpr) -> Option<Bound> {
        self.nested(|binder| match body {
            SetExpr::Query(query) => binder.query(query),
            SetExpr::SetOperation {
                op: SetOperator::Union,
                set_quantifier,
                left,
                right,
            } => {
                let is_distinct = match set_quantifier {
                    SetQuantifier::All => false,
                    SetQuantifier::None | SetQuantifier::Distinct => true,
                    other => {
                        binder.refuse(&format!("UNION {other}"), body.span());
                        return None;
                    }
                };
                let sides = [left, right].map(|side| binder.side(side));
                let [Some(left), Some(right)] = sides else {
                    return None;
                };
                binder.union(left, right, is_distinct, body)
            }
            SetExpr::SetOperation { op, .. } => {
                let message = format!("{op} is not supported; use [NOT] EXISTS or [NOT] IN");
                binder.error(message, body.span());
                None
            }
            SetExpr::Values(values) => binder.values(values),
            other => {
                binder.refuse(&format!("`{other}` as a query"), other.span());
                None
            }
        })
    }

    /// A side of a set operation.
    fn side(&mut self, side: &'q SetExpr) -> Option<Bound> {
        match side {
            SetExpr::Select(select) => self.select(select, &[], None),
            other => self.set_expression(other),
        }
    }

    fn union(
        &mut self,
        left: Bound,
        right: Bound,
        is_distinct: bool,
        whole: &SetExpr,
    ) -> Option<Bound> {
        let (n_left, n_right) = (left.outputs.len(), right.outputs.len());
        if n_left != n_right {
            let message = format!(
                "UNION needs as many columns on both sides; here are {n_left} and {n_right}"
            );
            self.error(message, whole.span());
            return None;
        }
        let mut outputs = Vec::new();
        let mut types = Vec::new();
        for (a, b) in left.outputs.iter().zip(&right.outputs) {
            let (of_a, of_b) = (self.table.of(a.id), self.table.of(b.id));
            let Some(of) = common([of_a, of_b]) else {
                let message = format!(
                    "column `{}` of UNION is {of_a} on one side and {of_b} on the other; cast one",
                    a.name
                );
                self.error(message, b.span);
                return None;
            };
            types.push(of);
            outputs.push(Output {
                id: self.table.add(a.name.clone(), of),
                ..a.clone()
            });
        }
        let columns: Vec<ColumnId> = outputs.iter().map(|output| output.id).collect();
        let inputs = vec![self.as_types(left, &types), self.as_types(right, &types)];
        let mut node = Node::Union { columns, inputs };
        if is_distinct {
            node = Node::Distinct {
                input: Box::new(node),
            };
        }
        Some(Bound {
            node,
            outputs,
            sort: Vec::new(),
        })
    }

    /// A side of a UNION, its integers cast where the result has floats.
    fn as_types(&mut self, side: Bound, types: &[Type]) -> (Node, Vec<ColumnId>) {
        let ids: Vec<ColumnId> = side.outputs.iter().map(|output| output.id).collect();
        let is_cast = |id: &ColumnId, of: Type| of == Type::Float && self.table.of(*id) != of;
        if !ids.iter().zip(types).any(|(id, of)| is_cast(id, *of)) {
            return (side.node, ids);
        }
        let mut columns: Vec<(ColumnId, Scalar)> = Vec::new();
        for (id, of) in ids.iter().zip(types) {
            let column = Expression::Column(*id);
            if *of == Type::Float && self.table.of(*id) != *of {
                let name = self.table.name(*id).clone();
                let cast = Expression::Cast(Box::new(column), *of);
                columns.push((self.table.add(name, *of), cast));
            } else {
                columns.push((*id, column));
            }
        }
        let ids = columns.iter().map(|(id, _)| *id).collect();
        let node = Node::Project {
            input: Box::new(side.node),
            columns,
        };
        (node, ids)
    }

    fn values(&mut self, values: &'q ast::Values) -> Option<Bound> {
        if values.rows.len() > MAX_VALUES {
            let message = format!("VALUES of more than {MAX_VALUES} rows; put them in a source");
            self.error(message, values.span());
            return None;
        }
        let scope = Scope::default();
        let place = Place {
            scope: &scope,
            outer: None,
            clause: "VALUES",
            allows_aggregates: false,
            asks: AsksAbout::Nothing,
        };
        let n_columns = values.rows.first().map_or(0, |row| row.content.len());
        let mut columns: Vec<Vec<Scalar>> = vec![Vec::new(); n_columns];
        let mut is_refused = false;
        for row in &values.rows {
            if row.content.len() != n_columns {
                let message = format!(
                    "rows of VALUES differ: one has {n_columns} columns, this one has {}",
                    row.content.len()
                );
                self.error(message, row.opening_token.0.span);
                return None;
            }
            match self.scalars(place, &row.content) {
                None => is_refused = true,
                Some(row) => {
                    for (column, value) in columns.iter_mut().zip(row) {
                        column.push(value);
                    }
                }
            }
        }
        if is_refused {
            return None;
        }
        let mut rows: Vec<Vec<Value>> = vec![Vec::new(); values.rows.len()];
        let mut outputs = Vec::new();
        for (at, column) in columns.into_iter().enumerate() {
            let column = self.alike("the values of one column", column, values.span())?;
            let known = column.iter().filter(|value| !value.is_null());
            let of = common(known.map(|value| self.of(value))).unwrap_or(Type::Any);
            let name: Arc<str> = format!("column{}", at + 1).into();
            for (row, value) in rows.iter_mut().zip(column) {
                // Values name no column: there is none that they could.
                let constant = value.substitute(|_| Expression::<usize>::Literal(Value::Null));
                row.push(constant.value(&[]));
            }
            outputs.push(Output {
                id: self.table.add(name.clone(), of),
                name,
                span: values.span(),
            });
        }
        Some(Bound {
            node: Node::Values {
                columns: outputs.iter().map(|output| output.id).collect(),
                rows,
            },
            outputs,
            sort: Vec::new(),
        })
    }
}
