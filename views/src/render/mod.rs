//! Which operators keep a query's result true?
//!
//! One operator of the plan a file. A collection holds tuples in the order of its node's columns;
//! relations are bags, so a tuple's count is how often it stands there. What an epoch costs
//! depends on what it changes:
//!
//! | operator | a changed tuple costs |
//! | --- | --- |
//! | scan, project, filter, union, unnest | itself |
//! | join | the tuples of the other side that have its key |
//! | nearest | products of its vector with those of the other side that have its key (`nearest.rs`) |
//! | cascade | an embedding, and a model call where that does not decide (`cascade/`) |
//! | clusters | a product of its vector with each other, and the texts that it is connected with (`clusters.rs`) |
//! | page rank | of each group that passes through its source, in each step: the edges of that, and those of where they lead to (`pagerank.rs`) |
//! | distinct, count, sum, avg | itself: counts and sums are kept as differences |
//! | min, max, top | its bucket, and the leaders of few others (`leaders.rs`) |
//! | entries | those of its namespace that say the same, and its bucket (`entries.rs`) |
//! | embed | the embedding of a text, if it was not embedded before |
//! | ask | a model call, if its values were not asked about before |
//! | rank | a model call for each value that it meets in a tournament, until it is out (`rank/`) |
//! | ask groups | a model call, and one for each level of its group's tree (`ask_groups/`) |
//!
//! # Invariants
//! - The result at an epoch is a function of the inputs at that epoch: not of their history, the
//!   order of tuples, or the number of workers.
//! - No operator calls anything slow, or fails; models are asked elsewhere, and the frontier waits.

mod ask;
mod ask_groups;
mod cascade;
mod clusters;
mod distinct;
mod embed;
mod entries;
mod exact_sum;
mod filter;
mod join;
mod leaders;
mod nearest;
mod pagerank;
mod place;
mod project;
mod rank;
mod reduce;
mod scan;
mod tally;
mod top;
mod totals;
mod union;
mod unnest;
mod values;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::VecCollection;
use perennial_ask::Task;
use perennial_rows::{Tuple, Value};
use timely::dataflow::Scope;

use crate::bounds::Meter;
use crate::dataflow::Epoch;
use crate::measure::{Measure, Measures};
use crate::outputs::{Asking, TaskCalls};
use crate::query::digest::part_digest;
use crate::query::expression::Expression;
use crate::query::node::{AskGroups, Cascade, Clusters, Nearest, Node, PageRank, Scalar};
use crate::query::{ColumnId, Query};
use crate::render::ask::Questions;
use crate::render::ask_groups::{Groups, Limits, Rows};

pub(crate) use cascade::{EMBEDDING, Evidence};
pub(crate) use join::key_of;
pub(crate) use tally::{Tallied, Tally};

/// A bag of tuples that changes from epoch to epoch.
pub type Tuples<'scope> = VecCollection<'scope, Epoch, Tuple, isize>;

/// A tuple with a value behind its others.
fn with(tuple: &Tuple, value: Value) -> Tuple {
    tuple.iter().cloned().chain([value]).collect()
}

/// The result of a query over its inputs, consolidated: one collection for each of
/// [`Query::inputs`], in that order, with the columns that it names.
///
/// A query with an aggregate over all rows has a row from epoch 0 on, whenever the dataflow was
/// built. Models are asked, and texts embedded, through `asking`, which a query that does neither does not
/// need. What the operators do is counted in `measures`, where these are given.
///
/// # Panics
/// If there are not as many inputs as the query reads, or nobody to ask where it [asks](Query::asks) or
/// [embeds](Query::embeds).
pub fn render<'scope>(
    scope: Scope<'scope, Epoch>,
    query: &Query,
    inputs: Vec<Tuples<'scope>>,
    asking: Option<&Asking>,
    measures: Option<&Measures>,
) -> Tuples<'scope> {
    render_within(scope, query, inputs, asking, (None, measures))
}

/// The same, where joins count their pairs, too.
pub(crate) fn render_within<'scope>(
    scope: Scope<'scope, Epoch>,
    query: &Query,
    inputs: Vec<Tuples<'scope>>,
    asking: Option<&Asking>,
    (meter, measures): (Option<&Rc<Meter>>, Option<&Measures>),
) -> Tuples<'scope> {
    assert_eq!(
        inputs.len(),
        query.inputs().len(),
        "a collection for each input"
    );
    let mut renderer = Renderer {
        scope,
        query,
        inputs,
        asking,
        meter,
        measures,
        tally: None,
        captured: None,
        rendered: BTreeMap::new(),
    };
    renderer.node(query.root()).consolidate()
}

/// Counts what the questions in some nodes of a query would be, over inputs of one epoch. Nobody is asked.
pub(crate) fn tally<'scope>(
    scope: Scope<'scope, Epoch>,
    (query, roots): (&Query, &[Node]),
    inputs: Vec<Tuples<'scope>>,
    asking: &Asking,
    (meter, tally): (&Rc<Meter>, &Rc<Tally>),
) {
    let mut renderer = Renderer {
        scope,
        query,
        inputs,
        asking: Some(asking),
        meter: Some(meter),
        measures: None,
        tally: Some(tally),
        captured: None,
        rendered: BTreeMap::new(),
    };
    for root in roots {
        renderer.node(root);
    }
}

/// How often each row stands behind an operator, by the digest of its part of the tree.
pub(crate) type Captured = RefCell<HashMap<[u8; 32], BTreeMap<Tuple, isize>>>;

/// Keeps the rows behind each operator of a query, over inputs of one epoch.
pub(crate) fn capture<'scope>(
    scope: Scope<'scope, Epoch>,
    query: &Query,
    inputs: Vec<Tuples<'scope>>,
    asking: &Asking,
    (meter, captured): (&Rc<Meter>, &Rc<Captured>),
) {
    let mut renderer = Renderer {
        scope,
        query,
        inputs,
        asking: Some(asking),
        meter: Some(meter),
        measures: None,
        tally: None,
        captured: Some(captured),
        rendered: BTreeMap::new(),
    };
    renderer.node(query.root());
}

struct Renderer<'q, 'scope> {
    scope: Scope<'scope, Epoch>,
    query: &'q Query,
    inputs: Vec<Tuples<'scope>>,
    asking: Option<&'q Asking>,
    meter: Option<&'q Rc<Meter>>,
    /// Where it is counted what the operators do.
    measures: Option<&'q Measures>,
    /// Counts questions in place of asking them.
    tally: Option<&'q Rc<Tally>>,
    /// Where the rows behind each operator are kept.
    captured: Option<&'q Rc<Captured>>,
    /// What is rendered already, by the digest of its part of the tree.
    rendered: BTreeMap<[u8; 32], Tuples<'scope>>,
}

impl<'scope> Renderer<'_, 'scope> {
    /// The rows of a node. Equal parts of a query are one part of the dataflow: a common table
    /// expression that is named twice is kept once.
    fn node(&mut self, node: &Node) -> Tuples<'scope> {
        let digest = part_digest(node);
        if let Some(known) = self.rendered.get(&digest) {
            return known.clone();
        }
        let mut tuples = self.new_node(node);
        if let Some(measures) = self.measures {
            let measure = measures.of(digest);
            tuples = tuples.inspect(move |(_, _, n)| measure.count_rows(*n));
        }
        if let Some(captured) = self.captured.cloned() {
            tuples = tuples.inspect(move |(tuple, _, n)| {
                let mut captured = captured.borrow_mut();
                let rows = captured.entry(digest).or_default();
                *rows.entry(tuple.clone()).or_default() += n;
            });
        }
        self.rendered.insert(digest, tuples.clone());
        tuples
    }

    /// Where the calls of a node are counted.
    fn measure(&self, node: &Node) -> Arc<Measure> {
        let measures = self.measures;
        measures.map_or_else(Arc::default, |measures| measures.of(part_digest(node)))
    }

    fn new_node(&mut self, node: &Node) -> Tuples<'scope> {
        match node {
            Node::Scan(scan) => {
                let inputs = self.query.inputs().iter().zip(&self.inputs);
                let mut named = inputs.filter(|(input, _)| input.relation == scan.relation);
                let (input, collection) = named.next().expect("every scan's relation is an input");
                scan::scan(scan, &input.columns, collection.clone())
            }
            Node::Values { rows, .. } => values::values(self.scope, rows),
            Node::Project { input, columns } => {
                let layout = input.columns();
                let columns = columns
                    .iter()
                    .map(|(_, made)| placed(made, &layout))
                    .collect();
                project::project(self.node(input), columns)
            }
            Node::Filter { input, predicate } => {
                filter::filter(self.node(input), all_placed(predicate, &input.columns()))
            }
            Node::Join(join) => {
                let (left, right) = (self.node(&join.left), self.node(&join.right));
                join::join(join, left, right, self.meter)
            }
            Node::Nearest(nearest) => self.nearest(nearest),
            Node::Clusters(clusters) => self.clusters(clusters, self.measure(node)),
            Node::PageRank(rank) => self.page_rank(rank),
            Node::Unnest { input, list, .. } => {
                let list = placed(list, &input.columns());
                unnest::unnest(self.node(input), list)
            }
            Node::Union { inputs, .. } => {
                let inputs = inputs.iter().map(|(input, wanted)| {
                    union::arranged(self.node(input), &input.columns(), wanted)
                });
                let inputs = inputs.collect();
                union::union(self.scope, inputs)
            }
            Node::Distinct { input } => distinct::distinct(self.node(input)),
            Node::Reduce {
                input,
                keys,
                aggregates,
            } => {
                let layout = input.columns();
                let keys = keys.iter().map(|(_, key)| placed(key, &layout)).collect();
                let aggregates = aggregates
                    .iter()
                    .map(|(_, aggregate)| reduce::Aggregate {
                        function: aggregate.function,
                        is_distinct: aggregate.is_distinct,
                        argument: aggregate.argument.as_ref().map(|a| placed(a, &layout)),
                    })
                    .collect();
                reduce::reduce(self.scope, self.node(input), keys, aggregates)
            }
            Node::Top {
                input,
                keys,
                order,
                limit,
                offset,
            } => {
                let layout = input.columns();
                let keys = all_placed(keys, &layout);
                let order = order
                    .iter()
                    .map(|key| top::SortKey {
                        by: placed(&key.by, &layout),
                        is_descending: key.is_descending,
                        nulls_first: key.nulls_first,
                    })
                    .collect();
                top::top(self.node(input), keys, order, (*limit, *offset))
            }
            Node::Ask(ask) => {
                let asking = self.asking.expect("a query that asks a model is given one");
                let arguments = all_placed(&ask.arguments, &ask.input.columns());
                let outputs = asking.outputs(ask.model.as_ref());
                let input = self.node(&ask.input);
                if let Some(tally) = self.tally {
                    let of = (ask.task.clone(), outputs.clone());
                    return ask::ask(input, arguments, |questions| {
                        tally::tallied(questions, of, ask.output, tally)
                    });
                }
                let calls = TaskCalls::new(ask.task.clone(), outputs, asking, self.measure(node));
                ask::ask(input, arguments, |questions| {
                    ask::answered(questions, calls)
                })
            }
            Node::Cascade(cascade) => self.cascade(cascade, self.measure(node)),
            Node::AskGroups(ask) => self.ask_groups(ask, self.measure(node)),
            Node::Rank(rank) => {
                let asking = self.asking.expect("a query that asks a model is given one");
                let outputs = asking.outputs(rank.model.as_ref());
                let arguments = all_placed(&rank.arguments, &rank.input.columns());
                let n_places = usize::try_from(rank.n_places).unwrap_or(usize::MAX);
                let (task, measure) = (&rank.task, self.measure(node));
                let calls = || {
                    let measure = measure.clone();
                    rank::ContestCalls::new(task.clone(), outputs, asking, n_places, measure)
                };
                rank::rank(self.node(&rank.input), arguments, n_places, calls)
            }
            Node::Entries(entries) => entries::entries(self.node(&entries.input), entries.retain),
            Node::Embed(embed) => {
                let asking = self
                    .asking
                    .expect("a query that embeds is given an embedder");
                let layout = embed.input.columns();
                let title = position(embed.title, &layout);
                let text = position(embed.text, &layout);
                embed::embed(self.node(&embed.input), title, text, asking.embedding())
            }
        }
    }
}

impl<'scope> Renderer<'_, 'scope> {
    fn nearest(&mut self, nearest: &Nearest) -> Tuples<'scope> {
        let asking = self
            .asking
            .expect("a query that embeds is given an embedder");
        let (of_left, of_right) = (nearest.left.columns(), nearest.right.columns());
        let keys = nearest.keys.iter();
        let (left_keys, right_keys): (Vec<_>, Vec<_>) = keys
            .map(|(left, right)| (placed(left, &of_left), placed(right, &of_right)))
            .unzip();
        let left = nearest::Side {
            tuples: self.node(&nearest.left),
            keys: left_keys,
            texts: all_placed(&nearest.left_texts, &of_left),
        };
        let right = nearest::Side {
            tuples: self.node(&nearest.right),
            keys: right_keys,
            texts: all_placed(&nearest.right_texts, &of_right),
        };
        let n = usize::try_from(nearest.n).unwrap_or(usize::MAX);
        nearest::nearest(left, right, n, || asking.embedding(), self.meter)
    }

    fn cascade(&mut self, cascade: &Cascade, measure: Arc<Measure>) -> Tuples<'scope> {
        let asking = self
            .asking
            .expect("a query that asks a model and embeds is given both");
        let outputs = asking.outputs(cascade.model.as_ref()).clone();
        let subjects = cascade::Subjects {
            arguments: all_placed(&cascade.arguments, &cascade.input.columns()),
            tuples: self.node(&cascade.input),
        };
        let (task, promise) = (cascade.task.clone(), cascade.promise);
        let embedding = asking.embedding();
        let Some(tally) = self.tally else {
            let model = cascade::Model::new(TaskCalls::new(task, &outputs, asking, measure));
            return cascade::cascade(subjects, promise, embedding, &model);
        };
        let dry = cascade::Dry {
            tally: tally.clone(),
            question: cascade.output,
            task,
            outputs,
            is_counted: !tally.counts_rows(cascade.output),
        };
        cascade::cascade(subjects, promise, embedding, &dry)
    }

    fn clusters(&mut self, clusters: &Clusters, measure: Arc<Measure>) -> Tuples<'scope> {
        let asking = self
            .asking
            .expect("a query that embeds is given an embedder");
        let text = placed(&clusters.text, &clusters.input.columns());
        let tuples = self.node(&clusters.input);
        let (tally, output) = (self.tally, clusters.output);
        let checked = clusters.check.as_ref().map(|check| {
            let outputs = asking.outputs(check.model.as_ref()).clone();
            let task = check.task.clone();
            move |pairs: Questions<'scope, Tuple>| match tally {
                Some(tally) => tally::tallied(pairs, (task, outputs), output, tally),
                None => ask::answered(pairs, TaskCalls::new(task, &outputs, asking, measure)),
            }
        });
        let threshold = clusters.threshold.get();
        clusters::clusters(
            clusters::Texts { tuples, text },
            threshold,
            asking.embedding(),
            checked,
            self.meter,
        )
    }

    fn page_rank(&mut self, rank: &PageRank) -> Tuples<'scope> {
        let (of_edges, of_seeds) = (rank.edges.columns(), rank.seeds.columns());
        let edges = pagerank::Edges {
            tuples: self.node(&rank.edges),
            source: position(rank.source, &of_edges),
            target: position(rank.target, &of_edges),
            weight: rank.edge_weight.map(|id| position(id, &of_edges)),
        };
        let per = rank.per.iter().map(|(_, id)| position(*id, &of_seeds));
        let seeds = pagerank::Seeds {
            per: per.collect(),
            tuples: self.node(&rank.seeds),
            node: position(rank.seed, &of_seeds),
            weight: rank.seed_weight.map(|id| position(id, &of_seeds)),
        };
        let walk = pagerank::Walk::new(rank.damping.get(), rank.n_steps, rank.least.get());
        pagerank::pagerank(self.scope, edges, seeds, walk, self.meter)
    }

    fn ask_groups(&mut self, ask: &AskGroups, measure: Arc<Measure>) -> Tuples<'scope> {
        let asking = self.asking.expect("a query that asks a model is given one");
        let outputs = asking.outputs(ask.model.as_ref()).clone();
        let (of_groups, of_rows) = (ask.groups.columns(), ask.rows.columns());
        let keys = ask.keys.iter().map(|(id, _)| position(*id, &of_groups));
        let groups = Groups {
            keys: keys.collect(),
            tuples: self.node(&ask.groups),
        };
        let keys = ask.keys.iter().map(|(_, key)| placed(key, &of_rows));
        let rows = Rows {
            tuples: self.node(&ask.rows),
            keys: keys.collect(),
            arguments: all_placed(&ask.arguments, &of_rows),
        };
        let limits = Limits::of(&ask.task, outputs.capabilities().n_positions);
        let calls = |subject| {
            let task = Task::clone(&ask.task).of(subject);
            TaskCalls::new(Arc::new(task), &outputs, asking, measure.clone())
        };
        ask_groups::ask_groups(groups, rows, limits, calls)
    }
}

/// Where a column stands in a layout.
fn position(id: ColumnId, layout: &[ColumnId]) -> usize {
    let at = layout.iter().position(|column| *column == id);
    at.expect("an operator's input makes what the operator reads")
}

/// An expression over the positions of a layout.
pub(crate) fn placed(expression: &Scalar, layout: &[ColumnId]) -> Expression<usize> {
    expression.substitute(|id| Expression::Column(position(*id, layout)))
}

pub(crate) fn all_placed(expressions: &[Scalar], layout: &[ColumnId]) -> Vec<Expression<usize>> {
    expressions
        .iter()
        .map(|expression| placed(expression, layout))
        .collect()
}
