//! Which form do all trees of one query have?
//!
//! Columns are numbered as a walk from the leaves meets their makers, so that what is sorted by
//! them is sorted alike. Conditions and join keys, which have no order, are sorted by cost, then
//! by what they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_rows::{Column, Schema, Type};

use crate::query::Input;
use crate::query::column::{ColumnId, ColumnTable};
use crate::query::expression::Expression;
use crate::query::node::{Node, Scalar};
use crate::query::rewrite::Plan;

pub(super) fn canonical(mut root: Node, outputs: &[ColumnId], table: &ColumnTable) -> Plan {
    let mut numbering = Numbering {
        old: table,
        new: ColumnTable::default(),
        ids: BTreeMap::new(),
        n_scans: 0,
        inputs: Vec::new(),
    };
    numbering.number(&mut root);
    let outputs = outputs.iter().map(|id| numbering.id(*id)).collect();
    let schema = |columns: NamedTypes| {
        let columns = columns.into_iter();
        Schema::new(columns.map(|(name, of)| Column::new(name, of)))
    };
    let inputs = numbering.inputs.into_iter();
    let inputs = inputs.map(|(relation, columns)| Input {
        relation,
        columns: schema(columns),
    });
    Plan {
        root,
        outputs,
        table: numbering.new,
        inputs: inputs.collect(),
    }
}

/// Columns that are read of a relation.
type NamedTypes = BTreeMap<Arc<str>, Type>;

struct Numbering<'t> {
    old: &'t ColumnTable,
    new: ColumnTable,
    ids: BTreeMap<ColumnId, ColumnId>,
    n_scans: usize,
    inputs: Vec<(Arc<str>, NamedTypes)>,
}

impl Numbering<'_> {
    /// The new id of a column that a node below makes.
    fn id(&self, old: ColumnId) -> ColumnId {
        *self
            .ids
            .get(&old)
            .expect("every column of a plan has a maker below its readers")
    }

    /// The new id of a column that a node makes, or passes on.
    fn made(&mut self, old: ColumnId) -> ColumnId {
        let (table, new) = (self.old, &mut self.new);
        let id = self.ids.entry(old);
        *id.or_insert_with(|| {
            let info = table.get(old);
            new.add(info.name.clone(), info.of)
        })
    }

    fn scalar(&self, expression: &mut Scalar) {
        *expression = expression.substitute(|id| Expression::Column(self.id(*id)));
    }

    fn number(&mut self, node: &mut Node) {
        for input in node.inputs_mut() {
            self.number(input);
        }
        match node {
            Node::Scan(scan) => {
                scan.number = self.n_scans;
                self.n_scans += 1;
                let read = scan.columns.iter();
                let read = read.map(|(name, id)| (name.clone(), self.old.of(*id)));
                let read: Vec<_> = read.collect();
                let known = self
                    .inputs
                    .iter_mut()
                    .find(|(name, _)| *name == scan.relation);
                match known {
                    Some((_, columns)) => columns.extend(read),
                    None => {
                        let columns = read.into_iter().collect();
                        self.inputs.push((scan.relation.clone(), columns));
                    }
                }
                for (_, id) in &mut scan.columns {
                    *id = self.made(*id);
                }
            }
            Node::Values { columns, .. } => {
                columns.iter_mut().for_each(|id| *id = self.made(*id));
            }
            Node::Project { columns, .. } => self.named(columns),
            Node::Filter { predicate, .. } => self.conditions(predicate),
            Node::Join(join) => {
                for (left, right) in &mut join.keys {
                    self.scalar(left);
                    self.scalar(right);
                }
                join.keys.sort();
                join.keys.dedup();
                self.conditions(&mut join.residual);
            }
            Node::Nearest(nearest) => {
                for (left, right) in &mut nearest.keys {
                    self.scalar(left);
                    self.scalar(right);
                }
                nearest.keys.sort();
                nearest.keys.dedup();
                let texts = nearest.left_texts.iter_mut();
                texts
                    .chain(&mut nearest.right_texts)
                    .for_each(|e| self.scalar(e));
            }
            Node::Clusters(clusters) => {
                self.scalar(&mut clusters.text);
                clusters.of = self.made(clusters.of);
                clusters.output = self.made(clusters.output);
            }
            Node::Union { columns, inputs } => {
                for (_, ids) in inputs {
                    ids.iter_mut().for_each(|id| *id = self.id(*id));
                }
                columns.iter_mut().for_each(|id| *id = self.made(*id));
            }
            Node::Distinct { .. } => {}
            Node::Reduce {
                keys, aggregates, ..
            } => {
                self.named(keys);
                for (id, aggregate) in aggregates {
                    if let Some(argument) = &mut aggregate.argument {
                        self.scalar(argument);
                    }
                    *id = self.made(*id);
                }
            }
            Node::PageRank(rank) => {
                for (_, of_seeds) in &mut rank.per {
                    *of_seeds = self.id(*of_seeds);
                }
                let read = [&mut rank.source, &mut rank.target, &mut rank.seed].into_iter();
                let read = read.chain(&mut rank.edge_weight);
                let read = read.chain(&mut rank.seed_weight);
                read.for_each(|id| *id = self.id(*id));
                for (output, _) in &mut rank.per {
                    *output = self.made(*output);
                }
                (rank.node, rank.score) = (self.made(rank.node), self.made(rank.score));
            }
            Node::Unnest { list, output, .. } => {
                self.scalar(list);
                *output = self.made(*output);
            }
            Node::Top { keys, order, .. } => {
                keys.iter_mut().for_each(|key| self.scalar(key));
                order.iter_mut().for_each(|key| self.scalar(&mut key.by));
            }
            Node::Entries(entries) => entries.sources = self.made(entries.sources),
            Node::Embed(embed) => {
                (embed.title, embed.text) = (self.id(embed.title), self.id(embed.text));
                embed.output = self.made(embed.output);
            }
            Node::Ask(ask) => {
                ask.arguments.iter_mut().for_each(|e| self.scalar(e));
                ask.output = self.made(ask.output);
            }
            Node::Cascade(cascade) => {
                cascade.arguments.iter_mut().for_each(|e| self.scalar(e));
                cascade.output = self.made(cascade.output);
                cascade.decider = self.made(cascade.decider);
            }
            Node::Rank(rank) => {
                rank.arguments.iter_mut().for_each(|e| self.scalar(e));
                rank.output = self.made(rank.output);
            }
            Node::AskGroups(ask) => {
                for (id, key) in &mut ask.keys {
                    *id = self.id(*id);
                    self.scalar(key);
                }
                ask.arguments.iter_mut().for_each(|e| self.scalar(e));
                ask.output = self.made(ask.output);
            }
        }
    }

    fn named(&mut self, columns: &mut [(ColumnId, Scalar)]) {
        // All are read before any is made.
        columns
            .iter_mut()
            .for_each(|(_, expression)| self.scalar(expression));
        columns.iter_mut().for_each(|(id, _)| *id = self.made(*id));
    }

    fn conditions(&self, conditions: &mut Vec<Scalar>) {
        conditions
            .iter_mut()
            .for_each(|condition| self.scalar(condition));
        conditions.sort_by_cached_key(|condition| (cost(condition), condition.clone()));
        conditions.dedup();
    }
}

/// What a condition costs, roughly: to look at a value, to look into a text, to parse JSON.
fn cost(expression: &Scalar) -> usize {
    let own = match expression {
        Expression::Column(_) | Expression::Literal(_) => 0,
        Expression::Like { .. } => 20,
        Expression::Call(..) => 10,
        Expression::Cast(..) => 5,
        _ => 1,
    };
    own + expression.parts().into_iter().map(cost).sum::<usize>()
}
