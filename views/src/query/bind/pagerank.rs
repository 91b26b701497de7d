//! How much does each node of a graph matter to others?
//!
//! `pagerank(edges => links, seeds => starts, per => question)` in FROM: `links` has columns `source` and
//! `target`, `starts` has `node`, and both may have `weight`. Its table has the columns that `per` names, then
//! `node` and `score`.

use perennial_rows::{Float, Type};

use crate::query::bind::table_function::{Arguments, name_of};
use crate::query::bind::{Binder, Bound, Output};
use crate::query::node::{MAX_STEPS, Node, PageRank};

/// The share of a walk that goes on, unless told.
const DAMPING: f64 = 0.85;
/// Steps of a walk, unless told.
const ITERATIONS: f64 = 20.0;
/// What goes on at least, unless told: a hundred thousandth of a group.
const LEAST: f64 = 1e-5;

impl<'q> Binder<'q> {
    /// What a call makes, by its arguments.
    pub(super) fn page_rank(&mut self, mut arguments: Arguments<'q>) -> Option<Bound> {
        let edges = self.relation_argument(&mut arguments, "edges");
        let seeds = self.relation_argument(&mut arguments, "seeds");
        let between = |low: f64, high: f64| move |x: f64| x > low && x < high;
        let damping = self.number_argument(
            &mut arguments,
            "damping",
            Some(DAMPING),
            ("a number above 0 and below 1", between(0.0, 1.0)),
        );
        let steps = self.number_argument(
            &mut arguments,
            "iterations",
            Some(ITERATIONS),
            ("a whole number from 1 to 100", |x: f64| {
                x.fract() == 0.0 && (1.0..=f64::from(MAX_STEPS)).contains(&x)
            }),
        );
        let least = self.number_argument(
            &mut arguments,
            "least",
            Some(LEAST),
            ("a number from 0 up to and without 1", |x: f64| {
                (0.0..1.0).contains(&x)
            }),
        );
        let (edges, edge_table, at_edges) = edges?;
        let (seeds, seed_table, at_seeds) = seeds?;
        let per = self.columns_argument(&mut arguments, "per", &seed_table);
        self.no_more(
            &arguments,
            "`edges`, `seeds`, `per`, `damping`, `iterations` and `least`",
        )?;
        let source = self.required_column(&edge_table, "source", at_edges);
        let target = self.required_column(&edge_table, "target", at_edges);
        let edge_weight = self.optional_column(&edge_table, "weight", at_edges);
        let seed = self.required_column(&seed_table, "node", at_seeds);
        let seed_weight = self.optional_column(&seed_table, "weight", at_seeds);
        let (damping, steps, least) = (damping?, steps?, least?);
        let (source, target, seed, per) = (source?, target?, seed?, per?);
        self.check_weight(edge_weight, at_edges)?;
        self.check_weight(seed_weight, at_seeds)?;
        let mut of = self.table.of(source);
        for (name, column, span) in [("target", target, at_edges), ("node", seed, at_seeds)] {
            let other = self.table.of(column);
            match (of, other) {
                (a, b) if a == b => {}
                (Type::Any, _) | (_, Type::Any) => of = Type::Any,
                _ => {
                    let message = format!(
                        "`{name}` is {other} and `source` is {of}: they name no node in common; cast one"
                    );
                    self.error(message, span);
                    return None;
                }
            }
        }
        let mut outputs = Vec::new();
        let mut groups = Vec::new();
        for (ident, column) in per {
            let name = name_of(&ident);
            let id = self.table.add(name.clone(), self.table.of(column));
            groups.push((id, column));
            outputs.push(Output {
                name,
                id,
                span: ident.span,
            });
        }
        let node = self.table.add("node", of);
        let score = self.table.add("score", Type::Float);
        for (name, id) in [("node", node), ("score", score)] {
            outputs.push(Output {
                name: name.into(),
                id,
                span: arguments.span,
            });
        }
        if !self.check_names(&outputs) {
            return None;
        }
        Some(Bound {
            node: Node::PageRank(Box::new(PageRank {
                edges,
                source,
                target,
                edge_weight,
                seeds,
                per: groups,
                seed,
                seed_weight,
                damping: Float::new(damping),
                n_steps: steps as u32,
                least: Float::new(least),
                node,
                score,
            })),
            outputs,
            sort: Vec::new(),
        })
    }
}
