//! Which bytes identify a query?
//!
//! Version 1. A tree is written from the root down: a number that says which node it is, its own
//! parts, then its inputs. Columns are numbered as they are met, so that neither what a user calls
//! them nor the rest of the query counts: equal parts of queries have equal digests, too. The
//! numbers below never change their meaning; a new node gets a new one.

use std::collections::BTreeMap;

use perennial_rows::encoding::Encoder;
use perennial_rows::{Schema, Value};

use crate::query::column::ColumnId;
use crate::query::expression::{Arithmetic, Comparison, Expression};
use crate::query::memory::Retain;
use crate::query::node::{Aggregate, AggregateFunction, JoinKind, Node, PageRank, Scalar};

/// What is hashed, and its version.
const DIGEST_OF: &str = "perennial query 1";
/// Likewise for a part of a query.
const PART_DIGEST_OF: &str = "perennial query part 1";

/// The digest of a query with this result.
pub(crate) fn digest(root: &Node, schema: &Schema) -> [u8; 32] {
    let mut writer = Writer::default();
    writer.encoder.number(schema.columns().len() as u64);
    for column in schema.columns() {
        writer
            .encoder
            .text(&column.name)
            .text(&column.of.to_string());
    }
    writer.node(root);
    writer.encoder.digest(DIGEST_OF)
}

/// The digest of a part of a query. Parts of equal digests have equal rows, their columns in the
/// same order.
pub(crate) fn part_digest(node: &Node) -> [u8; 32] {
    let mut writer = Writer::default();
    writer.node(node);
    writer.encoder.digest(PART_DIGEST_OF)
}

#[derive(Default)]
struct Writer {
    encoder: Encoder,
    numbers: BTreeMap<ColumnId, u64>,
}

impl Writer {
    fn number_of(&mut self, id: ColumnId) -> u64 {
        let next = self.numbers.len() as u64;
        *self.numbers.entry(id).or_insert(next)
    }

    fn id(&mut self, id: ColumnId) {
        let number = self.number_of(id);
        self.encoder.number(number);
    }

    fn ids(&mut self, columns: &[ColumnId]) {
        self.encoder.number(columns.len() as u64);
        for id in columns {
            self.id(*id);
        }
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::Scan(scan) => {
                self.encoder.number(1).text(&scan.relation);
                self.encoder.number(scan.columns.len() as u64);
                for (name, id) in &scan.columns {
                    self.encoder.text(name);
                    self.id(*id);
                }
            }
            Node::Values { columns, rows } => {
                self.encoder.number(2);
                self.ids(columns);
                self.encoder.number(rows.len() as u64);
                for row in rows {
                    self.encoder.values(row);
                }
            }
            Node::Project { input, columns } => {
                self.encoder.number(3);
                self.named(columns);
                self.node(input);
            }
            Node::Filter { input, predicate } => {
                self.encoder.number(4);
                self.scalars(predicate);
                self.node(input);
            }
            Node::Join(join) => {
                self.encoder.number(5).number(match join.kind {
                    JoinKind::Inner => 1,
                    JoinKind::Left => 2,
                    JoinKind::Semi => 3,
                    JoinKind::Anti => 4,
                });
                self.keys(&join.keys);
                self.scalars(&join.residual);
                self.node(&join.left);
                self.node(&join.right);
            }
            Node::Union { columns, inputs } => {
                self.encoder.number(6);
                self.ids(columns);
                self.encoder.number(inputs.len() as u64);
                for (input, columns) in inputs {
                    self.ids(columns);
                    self.node(input);
                }
            }
            Node::Distinct { input } => {
                self.encoder.number(7);
                self.node(input);
            }
            Node::Reduce {
                input,
                keys,
                aggregates,
            } => {
                self.encoder.number(8);
                self.named(keys);
                self.encoder.number(aggregates.len() as u64);
                for (id, aggregate) in aggregates {
                    self.id(*id);
                    self.aggregate(aggregate);
                }
                self.node(input);
            }
            Node::Top {
                input,
                keys,
                order,
                limit,
                offset,
            } => {
                match keys.is_empty() {
                    true => self.encoder.number(9),
                    false => {
                        self.encoder.number(21);
                        self.scalars(keys);
                        &mut self.encoder
                    }
                };
                self.encoder.number(order.len() as u64);
                for key in order {
                    self.scalar(&key.by);
                    self.encoder.number(key.is_descending.into());
                    self.encoder.number(key.nulls_first.into());
                }
                self.encoder.number(limit.is_some().into());
                self.encoder.number(limit.unwrap_or(0)).number(*offset);
                self.node(input);
            }
            Node::Ask(ask) => {
                match &ask.model {
                    None => self.encoder.number(10),
                    Some(model) => self.encoder.number(11).text(model),
                };
                ask.task.encode(&mut self.encoder);
                self.scalars(&ask.arguments);
                self.id(ask.output);
                self.node(&ask.input);
            }
            Node::AskGroups(ask) => {
                self.encoder.number(12).number(ask.model.is_some().into());
                if let Some(model) = &ask.model {
                    self.encoder.text(model);
                }
                ask.task.encode(&mut self.encoder);
                self.named(&ask.keys);
                self.scalars(&ask.arguments);
                self.id(ask.output);
                self.node(&ask.groups);
                self.node(&ask.rows);
            }
            Node::Rank(rank) => {
                self.encoder.number(13).number(rank.model.is_some().into());
                if let Some(model) = &rank.model {
                    self.encoder.text(model);
                }
                rank.task.encode(&mut self.encoder);
                self.encoder.number(rank.n_places);
                self.scalars(&rank.arguments);
                self.id(rank.output);
                self.node(&rank.input);
            }
            Node::Entries(entries) => {
                let (kind, bound) = match entries.retain {
                    None => (0, 0),
                    Some(Retain::Count(n)) => (1, n),
                    Some(Retain::Age(age)) => {
                        (2, u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
                    }
                };
                // 14 was a node in which a copy stood again of what was superseded.
                self.encoder.number(17).number(kind).number(bound);
                self.id(entries.sources);
                self.node(&entries.input);
            }
            Node::Embed(embed) => {
                self.encoder.number(15);
                self.ids(&[embed.title, embed.text, embed.output]);
                self.node(&embed.input);
            }
            Node::Nearest(nearest) => {
                self.encoder.number(16).number(nearest.n);
                self.keys(&nearest.keys);
                self.scalars(&nearest.left_texts);
                self.scalars(&nearest.right_texts);
                self.node(&nearest.left);
                self.node(&nearest.right);
            }
            Node::Cascade(cascade) => {
                let promise = &cascade.promise;
                self.encoder
                    .number(22)
                    .number(cascade.model.is_some().into());
                if let Some(model) = &cascade.model {
                    self.encoder.text(model);
                }
                cascade.task.encode(&mut self.encoder);
                for share in [promise.recall, promise.precision] {
                    self.encoder.value(&Value::Float(share));
                }
                self.encoder.number(promise.n_sample);
                self.scalars(&cascade.arguments);
                self.ids(&[cascade.output, cascade.decider]);
                self.node(&cascade.input);
            }
            Node::Clusters(clusters) => {
                let threshold = Value::Float(clusters.threshold);
                self.encoder.number(18).value(&threshold);
                self.encoder.number(clusters.check.is_some().into());
                if let Some(check) = &clusters.check {
                    self.encoder.number(check.model.is_some().into());
                    if let Some(model) = &check.model {
                        self.encoder.text(model);
                    }
                    check.task.encode(&mut self.encoder);
                }
                self.scalar(&clusters.text);
                self.ids(&[clusters.of, clusters.output]);
                self.node(&clusters.input);
            }
            Node::PageRank(rank) => self.page_rank(rank),
            Node::Unnest {
                input,
                list,
                output,
            } => {
                self.encoder.number(20);
                self.scalar(list);
                self.id(*output);
                self.node(input);
            }
        }
    }

    fn page_rank(&mut self, rank: &PageRank) {
        self.encoder
            .number(19)
            .value(&Value::Float(rank.damping))
            .number(rank.n_steps.into())
            .value(&Value::Float(rank.least));
        self.encoder.number(rank.per.len() as u64);
        for (output, of_seeds) in &rank.per {
            self.ids(&[*output, *of_seeds]);
        }
        self.ids(&[rank.source, rank.target, rank.seed, rank.node, rank.score]);
        let weights: Vec<ColumnId> = [rank.edge_weight, rank.seed_weight]
            .into_iter()
            .flatten()
            .collect();
        self.encoder.number(rank.edge_weight.is_some().into());
        self.ids(&weights);
        self.node(&rank.edges);
        self.node(&rank.seeds);
    }

    /// Pairs of keys, behind their number.
    fn keys(&mut self, keys: &[(Scalar, Scalar)]) {
        self.encoder.number(keys.len() as u64);
        for (left, right) in keys {
            self.scalar(left);
            self.scalar(right);
        }
    }

    fn named(&mut self, columns: &[(ColumnId, Scalar)]) {
        self.encoder.number(columns.len() as u64);
        for (id, expression) in columns {
            self.id(*id);
            self.scalar(expression);
        }
    }

    fn aggregate(&mut self, aggregate: &Aggregate) {
        self.encoder.number(match aggregate.function {
            AggregateFunction::Count => 1,
            AggregateFunction::Sum => 2,
            AggregateFunction::Min => 3,
            AggregateFunction::Max => 4,
            AggregateFunction::Avg => 5,
        });
        self.encoder.number(aggregate.is_distinct.into());
        self.encoder.number(aggregate.argument.is_some().into());
        if let Some(argument) = &aggregate.argument {
            self.scalar(argument);
        }
    }

    fn scalars(&mut self, expressions: &[Scalar]) {
        self.encoder.number(expressions.len() as u64);
        for expression in expressions {
            self.scalar(expression);
        }
    }

    /// Each expression is its number, what is its own, and its parts behind their number.
    fn scalar(&mut self, expression: &Scalar) {
        match expression {
            Expression::Column(id) => {
                let number = self.number_of(*id);
                self.encoder.number(1).number(number)
            }
            Expression::Literal(value) => self.encoder.number(2).value(value),
            Expression::Not(_) => self.encoder.number(3),
            Expression::Negate(_) => self.encoder.number(4),
            Expression::IsNull(_) => self.encoder.number(5),
            Expression::Compare(how, ..) => self.encoder.number(6).number(match how {
                Comparison::Equal => 1,
                Comparison::Unequal => 2,
                Comparison::Less => 3,
                Comparison::AtMost => 4,
                Comparison::Greater => 5,
                Comparison::AtLeast => 6,
                Comparison::Distinct => 7,
                Comparison::NotDistinct => 8,
            }),
            Expression::Arithmetic(how, ..) => self.encoder.number(7).number(match how {
                Arithmetic::Add => 1,
                Arithmetic::Subtract => 2,
                Arithmetic::Multiply => 3,
                Arithmetic::Divide => 4,
                Arithmetic::Remainder => 5,
            }),
            Expression::And(_) => self.encoder.number(8),
            Expression::Or(_) => self.encoder.number(9),
            Expression::In(..) => self.encoder.number(10),
            Expression::Like {
                escape,
                is_case_blind,
                ..
            } => self
                .encoder
                .number(11)
                .number(escape.map_or(0, |c| u64::from(u32::from(c)) + 1))
                .number((*is_case_blind).into()),
            Expression::Case { .. } => self.encoder.number(12),
            Expression::Cast(_, to) => self.encoder.number(13).text(&to.to_string()),
            Expression::Call(function, _) => self.encoder.number(14).number(function.name().1),
        };
        let parts = expression.parts();
        self.encoder.number(parts.len() as u64);
        for part in parts {
            self.scalar(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use perennial_rows::{Column, Type};

    use super::*;
    use crate::query::builder::{col, count_all, lit, scan};
    use crate::query::{RelationSchema, Relations};

    struct Orders;

    impl Relations for Orders {
        fn relation(&self, name: &str) -> Option<RelationSchema> {
            let columns = [
                ("region", Type::Text),
                ("price", Type::Float),
                ("doc", Type::Text),
            ];
            (name == "orders").then(|| RelationSchema {
                columns: Schema::new(columns.map(|(name, of)| Column::new(name, of))),
                ..RelationSchema::default()
            })
        }
    }

    #[test]
    fn equal_parts_have_equal_digests() {
        let counted = || {
            scan("orders")
                .filter(col("price").gt(lit(1.0)).and(col("doc").ne(lit("x"))))
                .group_by([col("region")])
                .project([col("region").into(), count_all().named("n")])
        };
        let joined = counted()
            .alias("a")
            .join(counted().alias("b"), col("a.n").eq(col("b.n")))
            .project([col("a.region").into(), col("b.region").named("other")]);
        let query = joined.bind(&Orders).expect("binds");
        let root = match query.root() {
            Node::Project { input, .. } => input,
            other => other,
        };
        let Node::Join(join) = root else {
            panic!("{query}");
        };
        assert_ne!(join.left.columns(), join.right.columns());
        assert_eq!(part_digest(&join.left), part_digest(&join.right));
    }
}
