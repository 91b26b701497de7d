//! Which rows would a model be asked about, where what others say is not known yet?
//!
//! An answer that is not there is NULL here, and no condition is asked of it: so the rows behind it are
//! those that stand whatever is said, and perhaps more. Where even that cannot be told, as of the groups
//! by an answer, nothing is said of what stands behind.

use std::collections::{BTreeMap, BTreeSet};

use perennial_rows::Value;

use crate::query::column::ColumnId;
use crate::query::expression::Expression;
use crate::query::node::{
    Ask, AskGroups, Cascade, Clusters, Join, JoinKind, Nearest, Node, Rank, Scalar,
};

/// How well the rows of a node are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// They are these.
    Exact,
    /// They are among these.
    AtMost,
    /// It depends on answers that are not there.
    Open,
}

/// Nodes whose questions can be counted, and how well.
pub(crate) struct Relaxed {
    /// All questions are in these, as [`Node::Ask`], [`Node::Cascade`] or [`Node::Clusters`].
    pub(crate) roots: Vec<Node>,
    /// Of the rows that each question is about, by its output.
    pub(crate) certainty: BTreeMap<ColumnId, Certainty>,
}

/// A tree in which the outputs of these questions are not all known.
pub(crate) fn relaxed(root: &Node, unknown: &BTreeSet<ColumnId>) -> Relaxed {
    let mut relaxing = Relaxing {
        open: unknown.clone(),
        relaxed: Relaxed {
            roots: Vec::new(),
            certainty: BTreeMap::new(),
        },
    };
    let (root, _) = relaxing.node(root);
    let mut relaxed = relaxing.relaxed;
    relaxed.roots.push(root);
    relaxed
}

struct Relaxing {
    /// Columns that hold what is not known.
    open: BTreeSet<ColumnId>,
    relaxed: Relaxed,
}

impl Relaxing {
    /// A node with the rows that it may have, and how well these are known.
    fn node(&mut self, node: &Node) -> (Node, Certainty) {
        let mut node = node.clone();
        // What stands for the groups of a question, and its rows, is asked by itself.
        if let Node::AskGroups(ask) = node {
            return self.groups(*ask);
        }
        let mut inputs = Vec::new();
        for input in node.inputs_mut() {
            let (relaxed, certainty) = self.node(input);
            *input = relaxed;
            inputs.push(certainty);
        }
        let below = inputs.iter().copied().max().unwrap_or(Certainty::Exact);
        match node {
            Node::Project { input, columns } => {
                for (id, made) in &columns {
                    if self.is_open(made) {
                        self.open.insert(*id);
                    }
                }
                (Node::Project { input, columns }, below)
            }
            Node::Filter { input, predicate } => {
                let (kept, certainty) = self.known(predicate, below);
                (input.filtered(kept), certainty)
            }
            Node::Join(join) => self.join(*join, &inputs, below),
            Node::Nearest(nearest) => {
                let certainty = match inputs.last() {
                    Some(Certainty::Exact) | None => below,
                    // Others may be the nearest.
                    Some(_) => Certainty::Open,
                };
                let read = read_by(&nearest);
                self.unless_open(Node::Nearest(nearest), &read, certainty)
            }
            Node::Clusters(clusters) => self.clusters(*clusters, below),
            // Where walks lead is a matter of all edges and seeds.
            Node::PageRank(rank) => {
                let read = [rank.source, rank.target, rank.seed].into_iter();
                let read = read.chain(rank.edge_weight).chain(rank.seed_weight);
                let read = read.chain(rank.per.iter().map(|(_, id)| *id));
                let read: Vec<Scalar> = read.map(Expression::Column).collect();
                let certainty = match below {
                    Certainty::Exact => below,
                    _ => Certainty::Open,
                };
                self.unless_open(Node::PageRank(rank), &read, certainty)
            }
            Node::Unnest { ref list, .. } => {
                let read = [list.clone()];
                self.unless_open(node, &read, below)
            }
            Node::Union { columns, inputs } => {
                for (at, id) in columns.iter().enumerate() {
                    if inputs.iter().any(|(_, ids)| self.open.contains(&ids[at])) {
                        self.open.insert(*id);
                    }
                }
                (Node::Union { columns, inputs }, below)
            }
            Node::Reduce {
                input,
                keys,
                aggregates,
            } => {
                for (id, aggregate) in &aggregates {
                    let argument = aggregate.argument.as_ref();
                    let is_open = argument.is_some_and(|argument| self.is_open(argument));
                    if is_open || below > Certainty::Exact {
                        self.open.insert(*id);
                    }
                }
                let read: Vec<Scalar> = keys.iter().map(|(_, key)| key.clone()).collect();
                let node = Node::Reduce {
                    input,
                    keys,
                    aggregates,
                };
                self.unless_open(node, &read, below)
            }
            Node::Top {
                ref keys,
                ref order,
                ..
            } => {
                let by = order.iter().map(|key| &key.by);
                let read: Vec<Scalar> = by.chain(keys).cloned().collect();
                let certainty = match below {
                    Certainty::Exact => below,
                    // Others may be the first.
                    _ => Certainty::Open,
                };
                self.unless_open(node, &read, certainty)
            }
            Node::Ask(ask) => self.ask(*ask, below),
            Node::Cascade(cascade) => self.cascade(*cascade, below),
            Node::Rank(rank) => self.rank(*rank, below),
            Node::Entries(_) | Node::Embed(_) if below > Certainty::Exact => {
                self.unless_open(node, &[], Certainty::Open)
            }
            node => (node, below),
        }
    }

    fn ask(&mut self, ask: Ask, below: Certainty) -> (Node, Certainty) {
        let output = ask.output;
        if ask.arguments.iter().any(|argument| self.is_open(argument)) {
            self.note(output, Certainty::Open);
            return (self.unsaid(ask.input, output), below);
        }
        self.note(output, below);
        (Node::Ask(Box::new(ask)), below)
    }

    /// Of rows that are not these for certain, the sample is not known: all may be asked about.
    fn cascade(&mut self, cascade: Cascade, below: Certainty) -> (Node, Certainty) {
        let mut arguments = cascade.arguments.iter();
        if self.open.contains(&cascade.output) {
            self.open.insert(cascade.decider);
        }
        if below == Certainty::Exact && !arguments.any(|argument| self.is_open(argument)) {
            self.note(cascade.output, below);
            return (Node::Cascade(Box::new(cascade)), below);
        }
        let decider = cascade.decider;
        let ask = Ask {
            input: cascade.input,
            model: cascade.model,
            task: cascade.task,
            arguments: cascade.arguments,
            output: cascade.output,
        };
        let (node, certainty) = self.ask(ask, below);
        (self.unsaid(node, decider), certainty)
    }

    /// How well the rows of a question are known; of one that stands in several places, the least well.
    fn note(&mut self, question: ColumnId, certainty: Certainty) {
        let known = self.relaxed.certainty.entry(question);
        let known = known.or_insert(certainty);
        *known = certainty.max(*known);
    }

    /// Who is ranked is asked about as if it were alone; all may be among the first.
    fn rank(&mut self, rank: Rank, below: Certainty) -> (Node, Certainty) {
        let ask = Ask {
            input: rank.input,
            model: rank.model,
            task: rank.task,
            arguments: rank.arguments,
            output: rank.output,
        };
        let (node, certainty) = self.ask(ask, below);
        self.open.insert(rank.output);
        (node, certainty.max(Certainty::AtMost))
    }

    /// Texts that may be connected; with others, some of them would be.
    fn clusters(&mut self, clusters: Clusters, below: Certainty) -> (Node, Certainty) {
        let text = clusters.text.clone();
        let certainty = match self.is_open(&text) {
            true => Certainty::Open,
            false => below,
        };
        if clusters.check.is_some() {
            self.note(clusters.output, certainty);
        }
        if certainty > Certainty::Exact {
            self.open.insert(clusters.output);
        }
        self.unless_open(Node::Clusters(Box::new(clusters)), &[text], below)
    }

    /// Groups, without what is said of them; their rows are asked about as if each were alone.
    fn groups(&mut self, ask: AskGroups) -> (Node, Certainty) {
        let (input, of_rows) = self.node(&ask.rows);
        let rows = Ask {
            input,
            model: ask.model,
            task: ask.task,
            arguments: ask.arguments,
            output: ask.output,
        };
        let (rows, _) = self.ask(rows, of_rows);
        self.relaxed.roots.push(rows);
        let (groups, certainty) = self.node(&ask.groups);
        (self.unsaid(groups, ask.output), certainty)
    }

    fn join(&mut self, join: Join, inputs: &[Certainty], below: Certainty) -> (Node, Certainty) {
        let is_exact = inputs.last() == Some(&Certainty::Exact);
        let keys = join.keys.iter().flat_map(|(left, right)| [left, right]);
        let mut read: Vec<Scalar> = keys.cloned().collect();
        let (residual, certainty) = match join.kind {
            JoinKind::Inner | JoinKind::Semi => self.known(join.residual, below),
            // Which left rows have no match depends on all of it.
            JoinKind::Left | JoinKind::Anti => {
                read.extend(join.residual.iter().cloned());
                let certainty = if is_exact { below } else { Certainty::Open };
                (join.residual, certainty)
            }
        };
        let node = Node::Join(Box::new(Join { residual, ..join }));
        self.unless_open(node, &read, certainty)
    }

    /// The conditions that can be asked; where there are others, more rows stay.
    fn known(&self, conditions: Vec<Scalar>, below: Certainty) -> (Vec<Scalar>, Certainty) {
        let n = conditions.len();
        let known = conditions.into_iter();
        let known: Vec<Scalar> = known.filter(|condition| !self.is_open(condition)).collect();
        match known.len() == n {
            true => (known, below),
            false => (known, below.max(Certainty::AtMost)),
        }
    }

    /// A node, unless its rows are not to be told: then none, and its inputs by themselves.
    fn unless_open(
        &mut self,
        mut node: Node,
        read: &[Scalar],
        certainty: Certainty,
    ) -> (Node, Certainty) {
        let reads_open = read.iter().any(|expression| self.is_open(expression));
        if certainty < Certainty::Open && !reads_open {
            return (node, certainty);
        }
        let columns = node.columns();
        for input in node.inputs_mut() {
            let input = std::mem::replace(input, none(Vec::new()));
            self.relaxed.roots.push(input);
        }
        (none(columns), Certainty::Open)
    }

    /// A node with a column that is not known.
    fn unsaid(&mut self, input: Node, output: ColumnId) -> Node {
        self.open.insert(output);
        let passed = input.columns().into_iter();
        let passed = passed.map(|id| (id, Expression::Column(id)));
        let columns = passed.chain([(output, Expression::Literal(Value::Null))]);
        Node::Project {
            columns: columns.collect(),
            input: Box::new(input),
        }
    }

    fn is_open(&self, expression: &Scalar) -> bool {
        !expression.columns().is_disjoint(&self.open)
    }
}

/// What a choice of the nearest depends on.
fn read_by(nearest: &Nearest) -> Vec<Scalar> {
    let keys = nearest.keys.iter().flat_map(|(left, right)| [left, right]);
    let texts = nearest.left_texts.iter().chain(&nearest.right_texts);
    keys.chain(texts).cloned().collect()
}

fn none(columns: Vec<ColumnId>) -> Node {
    Node::Values {
        columns,
        rows: Vec::new(),
    }
}
