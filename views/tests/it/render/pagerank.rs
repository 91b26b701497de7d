//! Personalised PageRank, and the first rows of each group: is what is maintained what a run from nothing
//! computes, step by step, over all that stands?

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// The mass of a group, and of a share of 1, as the operator has them.
const UNIT: u128 = 1 << 40;
const WHOLE: u128 = 1 << 32;

/// What a query says about walks.
#[derive(Clone, Copy, Debug)]
struct Case {
    is_weighed: bool,
    has_groups: bool,
    damping: f64,
    n_steps: u32,
    least: f64,
}

impl Case {
    fn query(self) -> Query {
        let (of_edges, of_seeds) = match self.is_weighed {
            true => (
                ", CAST(f AS INTEGER) AS weight",
                ", CAST(g AS INTEGER) AS weight",
            ),
            false => ("", ""),
        };
        let (group, per) = match self.has_groups {
            true => ("s AS q, ", ", per => q"),
            false => ("", ""),
        };
        let Self {
            damping,
            n_steps,
            least,
            ..
        } = self;
        bound(&format!(
            "SELECT * FROM pagerank(edges => (SELECT x AS source, y AS target{of_edges} FROM a),
                seeds => (SELECT {group}x AS node{of_seeds} FROM b){per},
                damping => {damping}, iterations => {n_steps}, least => {least})"
        ))
    }

    /// The graph and the seeds of each group, of rows that stand.
    fn read(self, [a, b]: &[Vec<Vec<Value>>; 2]) -> (Graph, BTreeMap<Vec<Value>, Seeds>) {
        let weight = |value: &Value| match (self.is_weighed, value) {
            (false, _) | (true, Value::Null) => 1u128,
            (true, Value::Float(x)) => x.get().trunc().clamp(0.0, 1e6) as u128,
            (true, _) => 0,
        };
        let mut graph = Graph::new();
        for row in a {
            let weight = weight(&row[3]);
            if row[0] != Value::Null && row[1] != Value::Null && weight > 0 {
                let list = graph.entry(row[0].clone()).or_default();
                *list.entry(row[1].clone()).or_default() += weight;
            }
        }
        let mut groups: BTreeMap<Vec<Value>, Seeds> = BTreeMap::new();
        for row in b {
            let weight = weight(&row[2]);
            if row[0] != Value::Null && weight > 0 {
                let group = self.has_groups.then(|| row[1].clone());
                let seeds = groups.entry(group.into_iter().collect()).or_default();
                *seeds.entry(row[0].clone()).or_default() += weight;
            }
        }
        (graph, groups)
    }

    /// The result, computed by going through all nodes in each step.
    fn of_nothing(self, standing: &[Vec<Vec<Value>>; 2]) -> Bag {
        let (graph, groups) = self.read(standing);
        let damping = (self.damping * WHOLE as f64).round() as u128;
        let least = (self.least * UNIT as f64).round() as u128;
        let mut bag = Bag::new();
        for (group, seeds) in groups {
            let total: u128 = seeds.values().sum();
            let begun = seeds
                .iter()
                .map(|(node, n)| (node.clone(), UNIT * n / total));
            let mut mass: BTreeMap<Value, u128> = begun.collect();
            let mut ended: BTreeMap<Value, u128> = BTreeMap::new();
            for step in 0..=self.n_steps {
                let mut next: BTreeMap<Value, u128> = BTreeMap::new();
                for (node, mass) in mass {
                    let goes_on = step < self.n_steps && mass >= least;
                    let sent = if goes_on { mass * damping / WHOLE } else { 0 };
                    *ended.entry(node.clone()).or_default() += mass - sent;
                    let Some(list) = graph.get(&node) else {
                        continue;
                    };
                    let total: u128 = list.values().sum();
                    for (target, weight) in list {
                        *next.entry(target.clone()).or_default() += sent * weight / total;
                    }
                }
                mass = next;
            }
            for (node, mass) in ended.into_iter().filter(|(_, mass)| *mass > 0) {
                let mut row = group.clone();
                row.extend([node, Value::float(mass as f64 / UNIT as f64)]);
                bag.insert(row, 1);
            }
        }
        bag
    }
}

type Graph = BTreeMap<Value, BTreeMap<Value, u128>>;
type Seeds = BTreeMap<Value, u128>;

fn bound(sql: &str) -> Query {
    bind(&parse(sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"))
}

/// Rows of both tables; few nodes, so that there are circles, edges to oneself and edges twice.
fn a_row() -> impl Strategy<Value = (usize, Vec<Value>)> {
    let node = || prop_oneof![1 => Just(Value::Null), 9 => (0i64..9).prop_map(Value::from)];
    let weight = || {
        prop_oneof![
            1 => Just(Value::Null),
            6 => (-1i64..4).prop_map(|n| Value::float(n as f64)),
        ]
    };
    let edge = (node(), node(), weight())
        .prop_map(|(from, to, weight)| (0, vec![from, to, Value::text("t"), weight]));
    let group = prop_oneof![
        Just(Value::Null),
        Just(Value::text("p")),
        Just(Value::text("q")),
    ];
    let seed =
        (node(), group, weight()).prop_map(|(node, group, weight)| (1, vec![node, group, weight]));
    prop_oneof![3 => edge, 1 => seed]
}

type Operation = ((usize, Vec<Value>), u8, prop::sample::Index);

/// Rows that come, go and change, and what stands in both tables after each epoch.
/// The deltas of an epoch, and what stands behind it: edges and seeds.
type Step = (Vec<Delta>, [Vec<Vec<Value>>; 2]);

fn history_of(operations: Vec<Vec<Operation>>) -> Vec<Step> {
    let mut standing: [Vec<Vec<Value>>; 2] = Default::default();
    let epochs = operations.into_iter().map(|operations| {
        let mut deltas = Vec::new();
        for ((table, row), kind, which) in operations {
            let rows = &mut standing[table];
            // Half are a delete or an update.
            if kind < 2 && !rows.is_empty() {
                let old = rows.swap_remove(which.index(rows.len()));
                deltas.push((table, old, -1));
            }
            if kind > 0 {
                rows.push(row.clone());
                deltas.push((table, row, 1));
            }
        }
        (deltas, standing.clone())
    });
    epochs.collect()
}

fn operations() -> impl Strategy<Value = Vec<Vec<Operation>>> {
    let operation = (a_row(), 0u8..4, any::<prop::sample::Index>());
    prop::collection::vec(prop::collection::vec(operation, 0..24), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn scores_are_those_of_a_run_from_nothing(
        operations in operations(),
        n_workers in 1usize..4,
        (is_weighed, has_groups) in any::<(bool, bool)>(),
        damping in prop_oneof![Just(0.85), 0.01f64..0.99],
        n_steps in 1u32..12,
        least in prop_oneof![Just(0.0), Just(0.01), Just(0.2)],
    ) {
        let case = Case { is_weighed, has_groups, damping, n_steps, least };
        let (history, standing): (Vec<_>, Vec<_>) = history_of(operations).into_iter().unzip();
        let expected: Vec<Bag> = standing.iter().map(|rows| case.of_nothing(rows)).collect();
        let found = maintained(&case.query(), &schemas(), &history, n_workers);
        prop_assert_eq!(found, expected);
    }

    /// Whole numbers are near what floats would be: power iteration over a matrix.
    #[test]
    fn scores_are_near_those_of_floats(
        edges in prop::collection::vec((0usize..8, 0usize..8), 0..30),
        seeds in prop::collection::vec(0usize..8, 1..4),
    ) {
        let case = Case {
            is_weighed: false, has_groups: false, damping: 0.85, n_steps: 20, least: 0.0,
        };
        let mut matrix = [[0f64; 8]; 8];
        edges.iter().for_each(|(from, to)| matrix[*from][*to] += 1.0);
        let mut begun = [0f64; 8];
        seeds.iter().for_each(|node| begun[*node] += 1.0 / seeds.len() as f64);
        let mut scores = begun;
        for _ in 0..20 {
            let mut next = begun.map(|x| 0.15 * x);
            for (from, row) in matrix.iter().enumerate() {
                let total: f64 = row.iter().sum();
                for (to, n) in row.iter().enumerate().filter(|(_, n)| **n > 0.0) {
                    next[to] += 0.85 * scores[from] * n / total;
                }
            }
            scores = next;
        }
        let number = |n: usize| Value::from(n as i64);
        let edges = edges.into_iter().map(|(from, to)| {
            (0, vec![number(from), number(to), Value::Null, Value::Null], 1)
        });
        let seeds = seeds.into_iter().map(|node| (1, vec![number(node), Value::Null, Value::Null], 1));
        let found = maintained(&case.query(), &schemas(), &[edges.chain(seeds).collect()], 1);
        for (node, expected) in scores.into_iter().enumerate() {
            let row = found[0].keys().find(|row| row[0] == number(node));
            let score = row.map_or(0.0, |row| match row[1] { Value::Float(x) => x.get(), _ => -1.0 });
            prop_assert!((score - expected).abs() < 1e-9, "{node}: {score}, not {expected}");
        }
    }

    /// The first of each group, by SQL's own order of all of them.
    #[test]
    fn the_first_of_each_group_are_those_of_a_run_from_nothing(
        operations in operations(),
        n_workers in 1usize..4,
        n in 1usize..4,
    ) {
        let query = bound(&format!(
            "SELECT y, x, f FROM top(rows => a, n => {n}, per => y, by => f) WHERE y IS NULL OR y <> 3"
        ));
        let (history, standing): (Vec<_>, Vec<_>) = history_of(operations).into_iter().unzip();
        let expected = standing.iter().map(|[a, _]| {
            let groups: BTreeSet<&Value> = a.iter().map(|row| &row[1]).collect();
            let mut bag = Bag::new();
            for group in groups.into_iter().filter(|group| **group != Value::from(3i64)) {
                let of_group = a.iter().filter(|row| row[1] == *group);
                let mut rows: Vec<Vec<Value>> =
                    of_group.map(|row| vec![row[1].clone(), row[0].clone(), row[3].clone()]).collect();
                // NULL is the least value, and the greatest come first; then the other columns decide.
                rows.sort_by(|left, right| right[2].cmp(&left[2]).then(left.cmp(right)));
                rows.truncate(n);
                rows.into_iter().for_each(|row| *bag.entry(row).or_default() += 1);
            }
            bag
        });
        let expected: Vec<Bag> = expected.collect();
        let found = maintained(&query, &schemas(), &history, n_workers);
        prop_assert_eq!(found, expected);
    }
}

/// Edges of a line from each of these nodes to the next.
fn line(nodes: std::ops::Range<i64>) -> impl Iterator<Item = Delta> {
    nodes.map(|n| {
        let ends = vec![n.into(), (n + 1).into(), Value::Null, Value::Null];
        (0, ends, 1)
    })
}

#[test]
fn without_seeds_there_are_no_scores_and_a_seed_needs_no_edge() {
    let query = bound(
        "SELECT * FROM pagerank(edges => (SELECT x AS source, y AS target FROM a),
            seeds => (SELECT x AS node FROM b), iterations => 1)",
    );
    let seed = |node: i64, n: isize| (1, vec![node.into(), Value::Null, Value::Null], n);
    let epochs = [
        line(0..3).collect(),
        vec![seed(7, 1)],
        vec![seed(7, -1), seed(0, 1)],
        // An edge to itself is one as any other.
        vec![(
            0,
            vec![0i64.into(), 0i64.into(), Value::Null, Value::Null],
            1,
        )],
    ];
    let found = maintained(&query, &schemas(), &epochs, 1);
    let scores = |bag: &Bag| -> Vec<(Value, f64)> {
        let rows = bag.keys().map(|row| match row[1] {
            Value::Float(x) => (row[0].clone(), (x.get() * 1e6).round() / 1e6),
            _ => (row[0].clone(), -1.0),
        });
        rows.collect()
    };
    let node = |n: i64| Value::from(n);
    assert_eq!(scores(&found[0]), []);
    assert_eq!(scores(&found[1]), [(node(7), 0.15)]);
    assert_eq!(scores(&found[2]), [(node(0), 0.15), (node(1), 0.85)]);
    assert_eq!(scores(&found[3]), [(node(0), 0.575), (node(1), 0.425)]);
}

#[test]
fn a_list_is_as_many_rows_as_it_has_elements() {
    let query = bound("SELECT x, unnest(CAST(t AS JSON)) AS part FROM a WHERE x > 0");
    let row = |x: i64, text: &str, n| (0, vec![x.into(), Value::Null, text.into(), Value::Null], n);
    let epochs = [
        vec![
            row(1, r#"["b","a","b"]"#, 1),
            row(0, r#"["c"]"#, 1),
            row(2, "[]", 1),
        ],
        vec![
            row(1, r#"["b","a","b"]"#, -1),
            row(2, r#"{"no":"list"}"#, 1),
        ],
    ];
    let found = maintained(&query, &schemas(), &epochs, 2);
    let expected = [
        (vec![1i64.into(), "a".into()], 1),
        (vec![1i64.into(), "b".into()], 2),
    ];
    assert_eq!(found, [Bag::from(expected), Bag::new()]);
}
