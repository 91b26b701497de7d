//! What is the logical tree of a query?
//!
//! Relations are bags: a tuple may stand in one several times. Each node makes the columns that
//! [`Node::columns`] lists, in that order; every column has one maker in the tree. There is no
//! order of rows but in [`Node::Top`], and there ties are broken by further columns, so that the
//! result depends on the rows alone.

use std::sync::Arc;

use perennial_ask::Task;
use perennial_rows::{Float, Value};

use crate::query::column::ColumnId;
use crate::query::expression::Expression;
use crate::query::memory::{Retain, STORED};

/// An expression over the columns of a query.
pub(crate) type Scalar = Expression<ColumnId>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Scan(Scan),
    /// Rows that the query itself holds.
    Values {
        columns: Vec<ColumnId>,
        rows: Vec<Vec<Value>>,
    },
    Project {
        input: Box<Node>,
        columns: Vec<(ColumnId, Scalar)>,
    },
    /// The tuples for which every expression is true.
    Filter {
        input: Box<Node>,
        predicate: Vec<Scalar>,
    },
    Join(Box<Join>),
    /// Pairs of tuples that are near each other.
    Nearest(Box<Nearest>),
    /// Texts that mean the same, each with the one that stands for them.
    Clusters(Box<Clusters>),
    /// Nodes of a graph, each with how much it matters to some of them.
    PageRank(Box<PageRank>),
    /// The input's tuples, each as often as a list has elements, with one of these as its last column.
    Unnest {
        input: Box<Node>,
        /// What is no list has no elements.
        list: Scalar,
        output: ColumnId,
    },
    /// All tuples of all inputs, whose columns are named in the order of the result's.
    Union {
        columns: Vec<ColumnId>,
        inputs: Vec<(Node, Vec<ColumnId>)>,
    },
    Distinct {
        input: Box<Node>,
    },
    /// One tuple a group; without keys one tuple in all, over no rows too.
    Reduce {
        input: Box<Node>,
        keys: Vec<(ColumnId, Scalar)>,
        aggregates: Vec<(ColumnId, Aggregate)>,
    },
    /// The tuples at `offset..offset + limit` in an order: of all, or of those of each key.
    Top {
        input: Box<Node>,
        keys: Vec<Scalar>,
        order: Vec<SortKey>,
        limit: Option<u64>,
        offset: u64,
    },
    /// The input's tuples, each with what a model says of it as its last column.
    Ask(Box<Ask>),
    /// The same, but that a model is asked only where the embedding of a tuple's values does not decide;
    /// its last two columns are what is said, and who says it.
    Cascade(Box<Cascade>),
    /// Groups, each with what a model says of its rows as its last column.
    AskGroups(Box<AskGroups>),
    /// The tuples that a model, shown two at a time, puts first, each with its place as its last column.
    Rank(Box<Rank>),
    /// What stands of what a memory was given.
    Entries(Box<Entries>),
    /// The input's tuples, each with the vector of its text as its last column.
    Embed(Box<Embed>),
}

/// Most places of a rank.
pub(crate) const MAX_PLACES: u64 = 100;

/// Tuples in an order by verdicts on two of them. Tuples that are alike in the arguments have one place,
/// and those with a NULL in one have none, NULL, and stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rank {
    pub(crate) input: Node,
    /// Which model is asked: the engine's own unless one is named.
    pub(crate) model: Option<Arc<str>>,
    /// What is asked about two tuples.
    pub(crate) task: Arc<Task>,
    /// One for each of the task's columns.
    pub(crate) arguments: Vec<Scalar>,
    /// Tuples behind these places go.
    pub(crate) n_places: u64,
    pub(crate) output: ColumnId,
}

/// A model that is asked about each tuple. Tuples that are alike in the arguments are asked about
/// once; where an argument is NULL so is the output, and nobody is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) input: Node,
    /// Which model is asked: the engine's own unless one is named.
    pub(crate) model: Option<Arc<str>>,
    pub(crate) task: Arc<Task>,
    /// One for each of the task's columns.
    pub(crate) arguments: Vec<Scalar>,
    pub(crate) output: ColumnId,
}

/// A model that is asked about each tuple which the embedding of its values does not decide. Tuples that
/// are alike in the arguments are one; where an argument is NULL so are the outputs, and nobody is asked.
///
/// Which rows there are beside a tuple says who decides about it: no condition from around goes below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cascade {
    pub(crate) input: Node,
    /// Which model is asked: the engine's own unless one is named.
    pub(crate) model: Option<Arc<str>>,
    /// A truth about a row.
    pub(crate) task: Arc<Task>,
    /// One for each of the task's columns.
    pub(crate) arguments: Vec<Scalar>,
    pub(crate) promise: Promise,
    /// Whether it is so.
    pub(crate) output: ColumnId,
    /// Who says that, as text.
    pub(crate) decider: ColumnId,
}

/// What holds of the tuples that a cascade accepts beside those that the model would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Promise {
    /// The share of what the model would accept that is accepted, above 0; 1 is all of it.
    pub(crate) recall: Float,
    /// The share of what is accepted that the model would accept, above 0; 1 is all of it.
    pub(crate) precision: Float,
    /// How many values the model is always asked about.
    pub(crate) n_sample: u64,
}

/// Rows of a group that one call reads at most.
pub(crate) const MAX_MEMBERS: usize = 32;
/// Answers that one call combines at most, but for rows whose digests begin alike.
pub(crate) const MAX_PARTS: usize = 16;

/// A model that is asked about the rows of each group. Rows of a group that are alike in the
/// arguments count once, and where an argument is NULL a row counts not at all; of no rows the
/// output is NULL, and nobody is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AskGroups {
    /// One tuple a group.
    pub(crate) groups: Node,
    pub(crate) rows: Node,
    /// By which columns of the groups, and which expressions of the rows, these meet.
    pub(crate) keys: Vec<(ColumnId, Scalar)>,
    /// Which model is asked: the engine's own unless one is named.
    pub(crate) model: Option<Arc<str>>,
    /// What is asked about rows.
    pub(crate) task: Arc<Task>,
    /// One for each of the task's columns, of the rows.
    pub(crate) arguments: Vec<Scalar>,
    pub(crate) output: ColumnId,
}

/// Of what was stored in a memory, that which is neither superseded, nor said again later, nor past
/// what is retained; each with the keys of all rows that say the same.
///
/// Each namespace is by itself: what stands of one does not depend on what is stored in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entries {
    /// Its columns are those of [`memory::STORED`](crate::query::memory::STORED), in that order.
    pub(crate) input: Node,
    pub(crate) retain: Option<Retain>,
    /// The keys of all rows that say what the entry says, newest first.
    pub(crate) sources: ColumnId,
}

/// The texts of tuples are given to the embedder; where the text is NULL, or cannot be embedded, so
/// is the vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Embed {
    pub(crate) input: Node,
    /// Stands in a line before the text.
    pub(crate) title: ColumnId,
    pub(crate) text: ColumnId,
    pub(crate) output: ColumnId,
}

/// A relation that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Which scan of the query this is.
    pub(crate) number: usize,
    pub(crate) relation: Arc<str>,
    /// The columns read, by the relation's name for them.
    pub(crate) columns: Vec<(Arc<str>, ColumnId)>,
    /// Sets of columns of which no two rows have the same values.
    pub(crate) unique: Vec<Vec<Arc<str>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Join {
    pub(crate) kind: JoinKind,
    pub(crate) left: Node,
    pub(crate) right: Node,
    /// Pairs of expressions, of the left and of the right side, that are equal where rows match.
    pub(crate) keys: Vec<(Scalar, Scalar)>,
    /// What else is true where rows match.
    pub(crate) residual: Vec<Scalar>,
}

/// Most right tuples that are the nearest of a left one.
pub(crate) const MAX_NEAREST: u64 = 1000;

/// Each left tuple with those right ones of its key whose texts have the vectors nearest to that of its
/// own. Right tuples that are alike in key and texts are one among the nearest, and all are in the
/// result; a tuple with a NULL in a key or a text, or whose texts cannot be embedded, is in no pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nearest {
    pub(crate) left: Node,
    pub(crate) right: Node,
    /// Pairs of expressions, of the left and of the right side, that are equal where rows match.
    pub(crate) keys: Vec<(Scalar, Scalar)>,
    /// What is embedded of a left tuple, and of a right one; neither is empty.
    pub(crate) left_texts: Vec<Scalar>,
    pub(crate) right_texts: Vec<Scalar>,
    /// How many are the nearest.
    pub(crate) n: u64,
}

/// The different texts of an input, each with the least of those that it is connected with: two are, whose
/// vectors have an inner product of the threshold or more and of which the model, where one is asked, says
/// that they belong together, and so are two that a third is connected with. A text that cannot be
/// embedded is by itself; NULLs are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clusters {
    pub(crate) input: Node,
    /// Of type TEXT.
    pub(crate) text: Scalar,
    pub(crate) threshold: Float,
    /// What is asked about two texts that are similar enough.
    pub(crate) check: Option<Check>,
    /// Its columns: the text, and the one that stands for it.
    pub(crate) of: ColumnId,
    pub(crate) output: ColumnId,
}

/// Walks over a graph that begin at some of its nodes, the seeds of a group; each node that they reach,
/// with the share of the group's walks that end there.
///
/// Of what is at a node in a step, a share of `damping` goes on along its edges, in proportion to their
/// weights; the rest ends there, and so does all that is left after `n_steps`. Shares are whole numbers of a
/// unit, and what a division leaves over is dropped: so they do not depend on an order. An edge or a seed
/// with a NULL for a node is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageRank {
    /// Edges that stand several times add up.
    pub(crate) edges: Node,
    pub(crate) source: ColumnId,
    pub(crate) target: ColumnId,
    /// Of what is no positive integer, none; of NULL, and without it, 1.
    pub(crate) edge_weight: Option<ColumnId>,
    pub(crate) seeds: Node,
    /// What a group is called, and by which columns of the seeds; NULLs are alike.
    pub(crate) per: Vec<(ColumnId, ColumnId)>,
    pub(crate) seed: ColumnId,
    pub(crate) seed_weight: Option<ColumnId>,
    /// Above 0 and below 1.
    pub(crate) damping: Float,
    /// From 1 to [`MAX_STEPS`].
    pub(crate) n_steps: u32,
    /// What is less than this at a node in a step ends there.
    pub(crate) least: Float,
    /// Its columns, behind those of the group.
    pub(crate) node: ColumnId,
    pub(crate) score: ColumnId,
}

/// Most steps of a walk.
pub(crate) const MAX_STEPS: u32 = 100;

/// Who is asked about two texts, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// Which model is asked: the engine's own unless one is named.
    pub(crate) model: Option<Arc<str>>,
    /// A truth about two rows of one column.
    pub(crate) task: Arc<Task>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinKind {
    /// Pairs that match.
    Inner,
    /// These, and left rows without match with NULLs beside them.
    Left,
    /// Left rows that match.
    Semi,
    /// Left rows that do not.
    Anti,
}

impl JoinKind {
    /// Whether the result has the right side's columns.
    pub(crate) fn has_right(self) -> bool {
        matches!(self, Self::Inner | Self::Left)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Aggregate {
    pub(crate) function: AggregateFunction,
    /// `None` for `count(*)`.
    pub(crate) argument: Option<Scalar>,
    pub(crate) is_distinct: bool,
}

/// Aggregates ignore NULLs, and the sum, least, greatest or mean of nothing is NULL. Sums are
/// exact and rounded once, whatever the order and history of rows; an integer sum beyond 64 bits
/// is NULL. Over columns of type ANY, `sum` and `avg` ignore what is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AggregateFunction {
    Count,
    Sum,
    Min,
    Max,
    Avg,
}

impl AggregateFunction {
    pub(crate) const NAMES: [(&'static str, Self); 5] = [
        ("count", Self::Count),
        ("sum", Self::Sum),
        ("min", Self::Min),
        ("max", Self::Max),
        ("avg", Self::Avg),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        let known = Self::NAMES.iter();
        known
            .copied()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, function)| function)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::Avg => "avg",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SortKey {
    pub(crate) by: Scalar,
    pub(crate) is_descending: bool,
    pub(crate) nulls_first: bool,
}

impl Node {
    /// The columns that it makes, in order.
    pub(crate) fn columns(&self) -> Vec<ColumnId> {
        match self {
            Self::Scan(scan) => scan.columns.iter().map(|(_, id)| *id).collect(),
            Self::Values { columns, .. } | Self::Union { columns, .. } => columns.clone(),
            Self::Project { columns, .. } => columns.iter().map(|(id, _)| *id).collect(),
            Self::Filter { input, .. } | Self::Distinct { input } | Self::Top { input, .. } => {
                input.columns()
            }
            Self::Join(join) => {
                let mut columns = join.left.columns();
                if join.kind.has_right() {
                    columns.extend(join.right.columns());
                }
                columns
            }
            Self::Nearest(nearest) => {
                let mut columns = nearest.left.columns();
                columns.extend(nearest.right.columns());
                columns
            }
            Self::Clusters(clusters) => vec![clusters.of, clusters.output],
            Self::PageRank(rank) => {
                let per = rank.per.iter().map(|(id, _)| *id);
                per.chain([rank.node, rank.score]).collect()
            }
            Self::Unnest { input, output, .. } => {
                let mut columns = input.columns();
                columns.push(*output);
                columns
            }
            Self::Reduce {
                keys, aggregates, ..
            } => {
                let keys = keys.iter().map(|(id, _)| *id);
                keys.chain(aggregates.iter().map(|(id, _)| *id)).collect()
            }
            Self::Ask(ask) => {
                let mut columns = ask.input.columns();
                columns.push(ask.output);
                columns
            }
            Self::Cascade(cascade) => {
                let mut columns = cascade.input.columns();
                columns.extend([cascade.output, cascade.decider]);
                columns
            }
            Self::AskGroups(ask) => {
                let mut columns = ask.groups.columns();
                columns.push(ask.output);
                columns
            }
            Self::Rank(rank) => {
                let mut columns = rank.input.columns();
                columns.push(rank.output);
                columns
            }
            Self::Entries(entries) => {
                let mut columns = entries.input.columns();
                // What it supersedes is dealt with.
                columns.truncate(STORED.len() - 1);
                columns.push(entries.sources);
                columns
            }
            Self::Embed(embed) => {
                let mut columns = embed.input.columns();
                columns.push(embed.output);
                columns
            }
        }
    }

    /// Its inputs, in order.
    pub(crate) fn inputs_mut(&mut self) -> Vec<&mut Node> {
        match self {
            Self::Scan(_) | Self::Values { .. } => Vec::new(),
            Self::Project { input, .. }
            | Self::Filter { input, .. }
            | Self::Distinct { input }
            | Self::Unnest { input, .. }
            | Self::Reduce { input, .. }
            | Self::Top { input, .. } => vec![input],
            Self::PageRank(rank) => vec![&mut rank.edges, &mut rank.seeds],
            Self::Join(join) => vec![&mut join.left, &mut join.right],
            Self::Nearest(nearest) => vec![&mut nearest.left, &mut nearest.right],
            Self::Clusters(clusters) => vec![&mut clusters.input],
            Self::Union { inputs, .. } => inputs.iter_mut().map(|(node, _)| node).collect(),
            Self::Ask(ask) => vec![&mut ask.input],
            Self::Cascade(cascade) => vec![&mut cascade.input],
            Self::AskGroups(ask) => vec![&mut ask.groups, &mut ask.rows],
            Self::Rank(rank) => vec![&mut rank.input],
            Self::Entries(entries) => vec![&mut entries.input],
            Self::Embed(embed) => vec![&mut embed.input],
        }
    }

    /// Its inputs, in order.
    pub(crate) fn inputs(&self) -> Vec<&Node> {
        match self {
            Self::Scan(_) | Self::Values { .. } => Vec::new(),
            Self::Project { input, .. }
            | Self::Filter { input, .. }
            | Self::Distinct { input }
            | Self::Unnest { input, .. }
            | Self::Reduce { input, .. }
            | Self::Top { input, .. } => vec![input],
            Self::PageRank(rank) => vec![&rank.edges, &rank.seeds],
            Self::Join(join) => vec![&join.left, &join.right],
            Self::Nearest(nearest) => vec![&nearest.left, &nearest.right],
            Self::Clusters(clusters) => vec![&clusters.input],
            Self::Union { inputs, .. } => inputs.iter().map(|(node, _)| node).collect(),
            Self::Ask(ask) => vec![&ask.input],
            Self::Cascade(cascade) => vec![&cascade.input],
            Self::AskGroups(ask) => vec![&ask.groups, &ask.rows],
            Self::Rank(rank) => vec![&rank.input],
            Self::Entries(entries) => vec![&entries.input],
            Self::Embed(embed) => vec![&embed.input],
        }
    }

    /// Whether there may be a tuple where no relation that is read has one.
    pub(crate) fn may_say_of_nothing(&self) -> bool {
        match self {
            Self::Values { rows, .. } => !rows.is_empty(),
            Self::Reduce { keys, .. } if keys.is_empty() => true,
            _ => self.inputs().into_iter().any(Self::may_say_of_nothing),
        }
    }

    /// How many tables it reads, rows of its own among them, each as often as it does.
    pub(crate) fn n_tables(&self) -> usize {
        let inputs = self.inputs();
        match inputs.is_empty() {
            true => 1,
            false => inputs.into_iter().map(Node::n_tables).sum(),
        }
    }

    /// The models that are asked, from the root down; `None` is the engine's own.
    pub(crate) fn asked(&self) -> Vec<Option<&Arc<str>>> {
        let own = match self {
            Self::Ask(ask) => Some(ask.model.as_ref()),
            Self::Cascade(cascade) => Some(cascade.model.as_ref()),
            Self::AskGroups(ask) => Some(ask.model.as_ref()),
            Self::Rank(rank) => Some(rank.model.as_ref()),
            Self::Clusters(clusters) => clusters.check.as_ref().map(|check| check.model.as_ref()),
            _ => None,
        };
        let below = self.inputs().into_iter().flat_map(Node::asked);
        own.into_iter().chain(below).collect()
    }

    /// Whether texts are embedded.
    pub(crate) fn embeds(&self) -> bool {
        let embeds = matches!(
            self,
            Self::Embed(_) | Self::Nearest(_) | Self::Clusters(_) | Self::Cascade(_)
        );
        embeds || self.inputs().into_iter().any(Node::embeds)
    }

    /// Itself where every expression is true.
    pub(crate) fn filtered(self, predicate: Vec<Scalar>) -> Self {
        match predicate.is_empty() {
            true => self,
            false => Self::Filter {
                input: Box::new(self),
                predicate,
            },
        }
    }
}

/// Parts of a conjunction, those of its parts included.
pub(crate) fn conjuncts(expression: Scalar, all: &mut Vec<Scalar>) {
    match expression {
        Expression::And(parts) => parts.into_iter().for_each(|part| conjuncts(part, all)),
        other => all.push(other),
    }
}
