//! Which columns does nobody read?

use std::collections::BTreeSet;

use crate::query::column::ColumnId;
use crate::query::expression::Expression;
use crate::query::node::{
    Ask, AskGroups, Cascade, Clusters, Embed, Entries, Join, JoinKind, Nearest, Node, PageRank,
    Rank, Scalar,
};
use crate::query::rewrite::{is_passed_on, project};

/// A node that makes the needed columns, and few others: none that a scan need not read.
pub(super) fn prune(node: Node, needed: &BTreeSet<ColumnId>) -> Node {
    match node {
        Node::Scan(mut scan) => {
            scan.columns.retain(|(_, id)| needed.contains(id));
            // By name, so that it does not matter in which order the query names them.
            scan.columns.sort();
            Node::Scan(scan)
        }
        Node::Values { columns, rows } => {
            let kept: Vec<usize> = (0..columns.len())
                .filter(|at| needed.contains(&columns[*at]))
                .collect();
            Node::Values {
                columns: kept.iter().map(|at| columns[*at]).collect(),
                rows: rows
                    .into_iter()
                    .map(|row| kept.iter().map(|at| row[*at].clone()).collect())
                    .collect(),
            }
        }
        Node::Project { input, mut columns } => {
            columns.retain(|(id, _)| needed.contains(id));
            let input = prune(*input, &read(columns.iter().map(|(_, e)| e)));
            if is_passed_on(&columns) {
                return trimmed(input, &columns.iter().map(|(id, _)| *id).collect());
            }
            Node::Project {
                input: Box::new(input),
                columns,
            }
        }
        Node::Filter { input, predicate } => {
            let mut below = needed.clone();
            below.extend(read(&predicate));
            prune(*input, &below).filtered(predicate)
        }
        Node::Join(join) if is_needless(&join, needed) => prune(join.left, needed),
        Node::Join(join) => prune_join(*join, needed),
        Node::Nearest(nearest) => prune_nearest(*nearest, needed),
        Node::Clusters(clusters) => {
            let below = read([&clusters.text]);
            let input = trimmed(prune(clusters.input, &below), &below);
            Node::Clusters(Box::new(Clusters { input, ..*clusters }))
        }
        Node::Union { columns, inputs } => {
            let kept: Vec<usize> = (0..columns.len())
                .filter(|at| needed.contains(&columns[*at]))
                .collect();
            let inputs = inputs.into_iter().map(|(input, ids)| {
                let ids: Vec<ColumnId> = kept.iter().map(|at| ids[*at]).collect();
                (prune(input, &ids.iter().copied().collect()), ids)
            });
            Node::Union {
                inputs: inputs.collect(),
                columns: kept.iter().map(|at| columns[*at]).collect(),
            }
        }
        Node::Distinct { input } => {
            // Which rows are alike is a matter of all columns.
            let all = input.columns().into_iter().collect();
            Node::Distinct {
                input: Box::new(prune(*input, &all)),
            }
        }
        Node::Reduce {
            input,
            keys,
            mut aggregates,
        } => {
            aggregates.retain(|(id, _)| needed.contains(id));
            let arguments = aggregates.iter().filter_map(|(_, a)| a.argument.as_ref());
            let below = read(keys.iter().map(|(_, e)| e).chain(arguments));
            Node::Reduce {
                input: Box::new(prune(*input, &below)),
                keys,
                aggregates,
            }
        }
        Node::PageRank(rank) => {
            let of_edges = [rank.source, rank.target].into_iter();
            let of_edges = of_edges.chain(rank.edge_weight).collect();
            let of_seeds = rank.per.iter().map(|(_, id)| *id).chain([rank.seed]);
            let of_seeds = of_seeds.chain(rank.seed_weight).collect();
            Node::PageRank(Box::new(PageRank {
                edges: trimmed(prune(rank.edges, &of_edges), &of_edges),
                seeds: trimmed(prune(rank.seeds, &of_seeds), &of_seeds),
                ..*rank
            }))
        }
        // It says how often a row stands, whoever reads the element.
        Node::Unnest {
            input,
            list,
            output,
        } => {
            let mut below = needed.clone();
            below.remove(&output);
            below.extend(read([&list]));
            Node::Unnest {
                input: Box::new(prune(*input, &below)),
                list,
                output,
            }
        }
        Node::Top {
            input,
            keys,
            order,
            limit,
            offset,
        } => {
            let mut below = needed.clone();
            below.extend(read(order.iter().map(|key| &key.by).chain(&keys)));
            let input = trimmed(prune(*input, &below), &below);
            Node::Top {
                input: Box::new(input),
                keys,
                order,
                limit,
                offset,
            }
        }
        Node::Entries(entries) => {
            // Which rows stand is a matter of all columns.
            let all = entries.input.columns().into_iter().collect();
            let input = prune(entries.input, &all);
            Node::Entries(Box::new(Entries { input, ..*entries }))
        }
        Node::Embed(embed) if !needed.contains(&embed.output) => prune(embed.input, needed),
        Node::Embed(embed) => {
            let mut below = needed.clone();
            below.remove(&embed.output);
            below.extend([embed.title, embed.text]);
            let input = trimmed(prune(embed.input, &below), &below);
            Node::Embed(Box::new(Embed { input, ..*embed }))
        }
        // What nobody reads is not asked.
        Node::Ask(ask) if !needed.contains(&ask.output) => prune(ask.input, needed),
        Node::Ask(ask) => {
            let mut below = needed.clone();
            below.remove(&ask.output);
            below.extend(read(&ask.arguments));
            // Rows are arranged until they are answered: no column more than is read.
            let input = trimmed(prune(ask.input, &below), &below);
            Node::Ask(Box::new(Ask { input, ..*ask }))
        }
        Node::Cascade(cascade)
            if !needed.contains(&cascade.output) && !needed.contains(&cascade.decider) =>
        {
            prune(cascade.input, needed)
        }
        Node::Cascade(cascade) => {
            let mut below = needed.clone();
            below.remove(&cascade.output);
            below.remove(&cascade.decider);
            below.extend(read(&cascade.arguments));
            let input = trimmed(prune(cascade.input, &below), &below);
            Node::Cascade(Box::new(Cascade { input, ..*cascade }))
        }
        // It says which rows there are, whoever reads their places.
        Node::Rank(rank) => {
            let mut below = needed.clone();
            below.remove(&rank.output);
            below.extend(read(&rank.arguments));
            let input = trimmed(prune(rank.input, &below), &below);
            Node::Rank(Box::new(Rank { input, ..*rank }))
        }
        Node::AskGroups(ask) if !needed.contains(&ask.output) => prune(ask.groups, needed),
        Node::AskGroups(ask) => {
            let mut above = needed.clone();
            above.remove(&ask.output);
            above.extend(ask.keys.iter().map(|(id, _)| *id));
            let below = read(ask.keys.iter().map(|(_, key)| key).chain(&ask.arguments));
            let groups = trimmed(prune(ask.groups, &above), &above);
            let rows = trimmed(prune(ask.rows, &below), &below);
            Node::AskGroups(Box::new(AskGroups {
                groups,
                rows,
                ..*ask
            }))
        }
    }
}

fn prune_join(join: Join, needed: &BTreeSet<ColumnId>) -> Node {
    let mut below = needed.clone();
    below.extend(read(
        join.keys.iter().flat_map(|(left, right)| [left, right]),
    ));
    below.extend(read(&join.residual));
    // What a join holds is arranged: no column more than is read.
    let side = |node: Node| trimmed(prune(node, &below), &below);
    Node::Join(Box::new(Join {
        left: side(join.left),
        right: side(join.right),
        ..join
    }))
}

/// Whether a join only looks up what is said of each left row's cluster, and nobody reads that.
fn is_needless(join: &Join, needed: &BTreeSet<ColumnId>) -> bool {
    let found_by = match &join.right {
        Node::Clusters(clusters) => clusters.of,
        Node::AskGroups(ask) => match (&ask.groups, &ask.keys[..]) {
            (Node::Reduce { input, keys, .. }, [(key, _)])
                if keys.len() == 1 && matches!(**input, Node::Clusters(_)) =>
            {
                *key
            }
            _ => return false,
        },
        _ => return false,
    };
    let is_found = matches!(&join.keys[..], [(_, key)] if *key == Expression::Column(found_by));
    let columns = join.right.columns();
    join.kind == JoinKind::Left
        && is_found
        && join.residual.is_empty()
        && !columns.iter().any(|id| needed.contains(id))
}

fn prune_nearest(nearest: Nearest, needed: &BTreeSet<ColumnId>) -> Node {
    let mut below = needed.clone();
    let keys = nearest.keys.iter().flat_map(|(left, right)| [left, right]);
    below.extend(read(keys));
    below.extend(read(nearest.left_texts.iter().chain(&nearest.right_texts)));
    let side = |node: Node| trimmed(prune(node, &below), &below);
    Node::Nearest(Box::new(Nearest {
        left: side(nearest.left),
        right: side(nearest.right),
        ..nearest
    }))
}

/// A node without columns that nobody needs.
fn trimmed(node: Node, needed: &BTreeSet<ColumnId>) -> Node {
    let mut columns = node.columns();
    columns.retain(|id| needed.contains(id));
    project(node, &columns)
}

fn read<'e>(expressions: impl IntoIterator<Item = &'e Scalar>) -> BTreeSet<ColumnId> {
    let columns = expressions.into_iter().map(Scalar::columns);
    columns.flatten().collect()
}
