//! Which rows does a row of a query come from, and what was a model asked on the way?
//!
//! # Design
//! Lineage is found when somebody asks for it, as Cui and Widom trace tuples of a warehouse's views back
//! ("Tracing the Lineage of View Data in a Warehousing Environment", 2000): the query is evaluated once more over
//! the rows that stand, with the rows behind each operator kept; then a row is followed from the result down,
//! each operator by a rule of its own. So what flows in a view carries nothing for it, and a view whose lineage
//! nobody asks for pays nothing.
//!
//! | operator | a row comes from |
//! | --- | --- |
//! | scan | a row of the relation |
//! | project | the rows that become it |
//! | filter, distinct, top | itself |
//! | join | its left part, and the right rows that matched |
//! | nearest | its two parts |
//! | clusters | the rows whose texts have its representative; a model said of the pairs on the way to it that they are the same |
//! | union | itself, of each input that has it |
//! | group by | the rows of its group |
//! | page rank | the seeds of its group, and the edges on ways from these to its node |
//! | unnest | the row whose list has it |
//! | ask, rank, embed | itself without what was said |
//! | cascade | the same; that an embedding decided is nothing that was said |
//! | ask groups | its group, and the rows of that |
//! | entries | the stored rows that say the same |
//!
//! # Invariants
//! - Nobody is asked: what a view was told is known, all else is NULL.
//! - Rows that were ruled out are no lineage: of `NOT EXISTS` only the left side is.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::AsCollection;
use perennial_rows::{Tuple, Value};
use timely::dataflow::operators::ToStream;

use crate::bounds::{Bounds, Exceeded, Meter};
use crate::dataflow::Epoch;
use crate::evaluate::step_to_end;
use crate::outputs::Asking;
use crate::query::digest::part_digest;
use crate::query::node::{Clusters, Join, JoinKind, PageRank, Scalar};
use crate::query::{ColumnId, Node, Query};
use crate::render::{Captured, EMBEDDING, all_placed, capture, key_of, placed};

/// Most rows that one is said to come from.
const MAX_ROWS: usize = 1_000;
/// Most texts of which it is looked which of them were said to be the same.
const MAX_SAME: usize = 256;

/// Where a row comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// Rows of the relations that the query reads, each once.
    pub rows: Vec<TracedRow>,
    /// What a model said on the way, each once.
    pub said: Vec<Said>,
    /// Whether it comes from more rows than are named.
    pub is_cut: bool,
}

/// A row of a relation, by the columns that the query reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TracedRow {
    /// The relation.
    pub relation: Arc<str>,
    /// Names of columns with the row's values.
    pub values: Vec<(Arc<str>, Value)>,
}

/// What a model said of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Said {
    /// The question, as SQL asks it.
    pub question: String,
    /// The values that it is about.
    pub of: Tuple,
    /// What was said.
    pub answer: Value,
}

/// Where a row of a query comes from, over inputs that are those of [`Query::inputs`]; `asking` is whom the
/// query asks. Of a row that the query does not have, nothing.
///
/// # Errors
/// [`Exceeded`] where it takes more than the bounds allow.
///
/// # Panics
/// If there are not as many inputs as the query reads.
pub fn trace(
    query: &Query,
    inputs: Vec<Vec<(Tuple, isize)>>,
    asking: &Asking,
    row: &Tuple,
    bounds: &Bounds,
) -> Result<Trace, Exceeded> {
    let behind = rows_behind(query, inputs, asking, bounds)?;
    let questions = query.questions().into_iter();
    let mut tracer = Tracer {
        behind,
        asking,
        questions: questions.map(|of| (of.output, of.text)).collect(),
        seen: BTreeSet::new(),
        trace: Trace::default(),
    };
    tracer.back(query.root(), row);
    Ok(tracer.trace)
}

/// The rows behind each operator, by the digest of its part of the tree.
type Behind = HashMap<[u8; 32], Vec<Tuple>>;

fn rows_behind(
    query: &Query,
    inputs: Vec<Vec<(Tuple, isize)>>,
    asking: &Asking,
    bounds: &Bounds,
) -> Result<Behind, Exceeded> {
    let (query, asking, bounds) = (query.clone(), asking.knowing_only(), bounds.clone());
    let captured = timely::execute_directly(move |worker| {
        let (meter, captured) = (Rc::new(Meter::new(bounds)), Rc::<Captured>::default());
        let dataflow = worker.next_dataflow_index();
        worker.dataflow::<Epoch, _, _>(|scope| {
            let inputs = inputs.into_iter().map(|rows| {
                let rows = rows.into_iter().map(|(tuple, count)| (tuple, 0, count));
                rows.to_stream(scope).container::<Vec<_>>().as_collection()
            });
            let inputs = inputs.collect();
            capture(scope, &query, inputs, &asking, (&meter, &captured));
        });
        let done = step_to_end(worker, &meter);
        if done.is_err() {
            worker.drop_dataflow(dataflow);
        }
        done.map(|()| RefCell::take(&captured))
    })?;
    let standing = captured.into_iter().map(|(part, rows)| {
        let rows = rows.into_iter().filter(|(_, count)| *count > 0);
        (part, rows.map(|(tuple, _)| tuple).collect())
    });
    Ok(standing.collect())
}

struct Tracer<'a> {
    behind: Behind,
    asking: &'a Asking,
    questions: BTreeMap<ColumnId, String>,
    /// Rows that were followed, by operator.
    seen: BTreeSet<([u8; 32], Tuple)>,
    trace: Trace,
}

impl Tracer<'_> {
    /// The rows behind an operator that are so.
    fn rows(&self, node: &Node, is_so: impl Fn(&Tuple) -> bool) -> Vec<Tuple> {
        let rows = self.behind.get(&part_digest(node)).into_iter().flatten();
        rows.filter(|row| is_so(row)).cloned().collect()
    }

    /// Follows the rows of an operator that are so.
    fn all(&mut self, node: &Node, is_so: impl Fn(&Tuple) -> bool) {
        for row in self.rows(node, is_so) {
            self.back(node, &row);
        }
    }

    /// Follows a row of an operator.
    fn back(&mut self, node: &Node, row: &Tuple) {
        let part = part_digest(node);
        let stands = |rows: &Vec<Tuple>| rows.contains(row);
        if !self.behind.get(&part).is_some_and(stands) || !self.seen.insert((part, row.clone())) {
            return;
        }
        match node {
            Node::Scan(scan) => {
                if self.trace.rows.len() >= MAX_ROWS {
                    self.trace.is_cut = true;
                    return;
                }
                let names = scan.columns.iter().map(|(name, _)| name.clone());
                let found = TracedRow {
                    relation: scan.relation.clone(),
                    values: names.zip(row.iter().cloned()).collect(),
                };
                if !self.trace.rows.contains(&found) {
                    self.trace.rows.push(found);
                }
            }
            Node::Values { .. } => {}
            Node::Project { input, columns } => {
                let layout = input.columns();
                let made: Vec<_> = columns.iter().map(|(_, c)| placed(c, &layout)).collect();
                let becomes =
                    |from: &Tuple| made.iter().map(|c| c.value(from)).eq(row.iter().cloned());
                self.all(input, becomes);
            }
            Node::Filter { input, .. } | Node::Distinct { input } | Node::Top { input, .. } => {
                self.back(input, row);
            }
            Node::Join(join) => self.join(join, row),
            Node::Nearest(nearest) => {
                let (left, right) = row.split_at(nearest.left.columns().len());
                self.back(&nearest.left, &left.into());
                self.back(&nearest.right, &right.into());
            }
            Node::Clusters(clusters) => {
                let of_text = |rows: &[Tuple], text: &Value| {
                    let found = rows.iter().find(|found| found[0] == *text);
                    found.map(|found| found[1].clone())
                };
                let clustered = self.rows(node, |_| true);
                self.say_same(clusters, &clustered, row);
                let text = placed(&clusters.text, &clusters.input.columns());
                let is_alike =
                    |from: &Tuple| of_text(&clustered, &text.value(from)).as_ref() == Some(&row[1]);
                self.all(&clusters.input, is_alike);
            }
            Node::Union { inputs, .. } => {
                for (input, wanted) in inputs {
                    let places = places(&input.columns(), wanted);
                    let becomes = |from: &Tuple| places.iter().map(|at| &from[*at]).eq(row.iter());
                    self.all(input, becomes);
                }
            }
            Node::Reduce { input, keys, .. } => {
                let layout = input.columns();
                let made: Vec<_> = keys.iter().map(|(_, key)| placed(key, &layout)).collect();
                let is_of_group = |from: &Tuple| {
                    made.iter()
                        .map(|key| key.value(from))
                        .eq(row.iter().take(made.len()).cloned())
                };
                self.all(input, is_of_group);
            }
            Node::Ask(ask) => {
                let (input, answer) = without_last(row);
                self.say(
                    ask.output,
                    &ask.arguments,
                    &ask.input.columns(),
                    &input,
                    answer,
                );
                self.back(&ask.input, &input);
            }
            Node::AskGroups(ask) => {
                let (group, answer) = without_last(row);
                let (of_groups, of_rows) = (ask.groups.columns(), ask.rows.columns());
                let keys = ask.keys.iter().map(|(column, key)| {
                    (places(&of_groups, &[*column])[0], placed(key, &of_rows))
                });
                let keys: Vec<_> = keys.collect();
                if let Some(question) = self.questions.get(&ask.output).cloned() {
                    let of = Tuple::from([]);
                    self.trace.said.push(Said {
                        question,
                        of,
                        answer,
                    });
                }
                self.all(&ask.rows, |from| {
                    keys.iter().all(|(at, key)| key.value(from) == group[*at])
                });
                self.back(&ask.groups, &group);
            }
            Node::Rank(rank) => {
                let (input, place) = without_last(row);
                self.say(
                    rank.output,
                    &rank.arguments,
                    &rank.input.columns(),
                    &input,
                    place,
                );
                self.back(&rank.input, &input);
            }
            Node::Entries(entries) => {
                // The keys of all rows that say the same stand in its last column.
                let sources = row.last().map(ToString::to_string).unwrap_or_default();
                let is_named = |from: &Tuple| {
                    let key = from.first().map(ToString::to_string).unwrap_or_default();
                    sources.contains(&format!("\"{key}\"")) || from.first() == row.first()
                };
                self.all(&entries.input, is_named);
            }
            Node::Embed(embed) => self.back(&embed.input, &without_last(row).0),
            Node::Unnest { input, .. } => self.back(input, &without_last(row).0),
            Node::PageRank(rank) => self.page_rank(rank, row),
            Node::Cascade(cascade) => {
                let (behind, decider) = without_last(row);
                let (input, answer) = without_last(&behind);
                if decider != Value::from(EMBEDDING) {
                    let layout = cascade.input.columns();
                    self.say(cascade.output, &cascade.arguments, &layout, &input, answer);
                }
                self.back(&cascade.input, &input);
            }
        }
    }

    fn page_rank(&mut self, rank: &PageRank, row: &Tuple) {
        let per: Vec<ColumnId> = rank.per.iter().map(|(_, column)| *column).collect();
        let (of_edges, of_seeds) = (rank.edges.columns(), rank.seeds.columns());
        let (groups, seed) = (places(&of_seeds, &per), places(&of_seeds, &[rank.seed])[0]);
        let (source, target) = (
            places(&of_edges, &[rank.source])[0],
            places(&of_edges, &[rank.target])[0],
        );
        let is_of_group = |from: &Tuple| groups.iter().map(|at| &from[*at]).eq(&row[..per.len()]);
        let seeds = self.rows(&rank.seeds, is_of_group);
        let edges = self.rows(&rank.edges, |_| true);
        let ways = |from: usize, to: usize| {
            let mut ways: HashMap<Value, Vec<Value>> = HashMap::new();
            for edge in &edges {
                let reached = ways.entry(edge[from].clone()).or_default();
                reached.push(edge[to].clone());
            }
            ways
        };
        let nodes = seeds.iter().map(|from| from[seed].clone());
        let ahead = reached(nodes.collect(), &ways(source, target));
        let behind = reached(vec![row[per.len()].clone()], &ways(target, source));
        for from in seeds.iter().filter(|from| behind.contains(&from[seed])) {
            self.back(&rank.seeds, from);
        }
        let is_passed =
            |edge: &&Tuple| ahead.contains(&edge[source]) && behind.contains(&edge[target]);
        for edge in edges.iter().filter(is_passed) {
            self.back(&rank.edges, edge);
        }
    }

    fn join(&mut self, join: &Join, row: &Tuple) {
        let (of_left, of_right) = (join.left.columns(), join.right.columns());
        let left: Tuple = row[..of_left.len()].into();
        self.back(&join.left, &left);
        match join.kind {
            JoinKind::Anti => {}
            JoinKind::Inner | JoinKind::Left => {
                // Of a left row without match the right part is no row, so nothing stands there.
                self.back(&join.right, &row[of_left.len()..].into());
            }
            JoinKind::Semi => {
                let side = |at: fn(&(Scalar, Scalar)) -> &Scalar, layout: &[ColumnId]| -> Vec<_> {
                    join.keys
                        .iter()
                        .map(|key| placed(at(key), layout))
                        .collect()
                };
                let left_keys = side(|(left, _)| left, &of_left);
                let right_keys = side(|(_, right)| right, &of_right);
                let both: Vec<ColumnId> = of_left.iter().chain(&of_right).copied().collect();
                let residual = all_placed(&join.residual, &both);
                let key = key_of(&left, &left_keys);
                self.all(&join.right, |right| {
                    let pair: Vec<Value> = left.iter().chain(right.iter()).cloned().collect();
                    key.is_some()
                        && key_of(right, &right_keys) == key
                        && residual.iter().all(|condition| condition.is_true(&pair))
                });
            }
        }
    }

    /// Notes what a model said of two texts each, by which one leads to the text that stands for it: on the
    /// shortest such way.
    fn say_same(&mut self, clusters: &Clusters, clustered: &[Tuple], row: &Tuple) {
        let Some(check) = &clusters.check else {
            return;
        };
        let Some(question) = self.questions.get(&clusters.output).cloned() else {
            return;
        };
        let (text, stands) = (&row[0], &row[1]);
        let outputs = self.asking.outputs(check.model.as_ref());
        // As it was asked: the lesser text first.
        let pair = |a: &Value, b: &Value| -> Tuple {
            let (a, b) = if a < b { (a, b) } else { (b, a) };
            [a.clone(), b.clone()].into()
        };
        let is_same = |a: &Value, b: &Value| {
            outputs.known(&check.task, &pair(a, b)) == Some(Value::Boolean(true))
        };
        let others = clustered.iter().filter(|other| other[1] == *stands);
        let mut left: Vec<&Value> = others.map(|other| &other[0]).take(MAX_SAME).collect();
        // From the text that stands for it outwards: each with the one that led to it.
        let mut ways: Vec<(&Value, &Value)> = vec![(stands, stands)];
        let mut at = 0;
        while let Some((from, _)) = ways.get(at).copied() {
            let (met, rest): (Vec<&Value>, Vec<&Value>) =
                left.into_iter().partition(|other| is_same(from, other));
            ways.extend(met.into_iter().map(|other| (other, from)));
            left = rest;
            at += 1;
        }
        let mut one = text;
        while let Some((_, to)) = ways.iter().find(|(from, _)| *from == one && one != stands) {
            let said = Said {
                question: question.clone(),
                of: pair(one, to),
                answer: true.into(),
            };
            if !self.trace.said.contains(&said) {
                self.trace.said.push(said);
            }
            one = to;
        }
    }

    /// Notes what a model said of a row.
    fn say(
        &mut self,
        output: ColumnId,
        arguments: &[Scalar],
        layout: &[ColumnId],
        row: &Tuple,
        answer: Value,
    ) {
        let Some(question) = self.questions.get(&output).cloned() else {
            return;
        };
        let arguments = all_placed(arguments, layout);
        let said = Said {
            question,
            of: arguments
                .iter()
                .map(|argument| argument.value(row))
                .collect(),
            answer,
        };
        if !self.trace.said.contains(&said) {
            self.trace.said.push(said);
        }
    }
}

/// The nodes that are reached from some, and these.
fn reached(mut from: Vec<Value>, ways: &HashMap<Value, Vec<Value>>) -> HashSet<Value> {
    let mut reached = HashSet::new();
    while let Some(node) = from.pop() {
        if node != Value::Null && reached.insert(node.clone()) {
            from.extend(ways.get(&node).into_iter().flatten().cloned());
        }
    }
    reached
}

/// A tuple without its last value, and that.
fn without_last(row: &Tuple) -> (Tuple, Value) {
    match row.split_last() {
        Some((last, rest)) => (rest.into(), last.clone()),
        None => (row.clone(), Value::Null),
    }
}

/// Where columns stand in a layout.
fn places(layout: &[ColumnId], wanted: &[ColumnId]) -> Vec<usize> {
    let place = |id: &ColumnId| {
        let at = layout.iter().position(|column| column == id);
        at.expect("an operator's input makes what the operator reads")
    };
    wanted.iter().map(place).collect()
}
