//! Is the maintained result what a batch database computes of the same rows?
//!
//! The oracle is SQLite. Queries are generated as SQL text within what both mean alike: integers,
//! floats and texts do not mix in one column; floats are small multiples of a quarter, so that
//! sums are exact in any order; LIKE looks at case (a pragma there); texts are ASCII; no integer
//! overflows; LIMIT stands behind an order of all columns.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use differential_dataflow::input::InputSession;
use perennial_rows::{Column, Schema, Tuple, Type, Value};
use proptest::prelude::*;
use rusqlite::types::ValueRef;

use crate::dataflow::Epoch;
use crate::query::bind::tests::parse;
use crate::query::{Query, RelationSchema, Relations, bind};
use crate::render::render;

/// Two tables without keys: a row may stand in them several times.
struct Tables;

const TABLES: [(&str, &[(&str, Type)]); 2] = [
    (
        "a",
        &[
            ("x", Type::Integer),
            ("y", Type::Integer),
            ("t", Type::Text),
            ("f", Type::Float),
        ],
    ),
    (
        "b",
        &[("x", Type::Integer), ("s", Type::Text), ("g", Type::Float)],
    ),
];

impl Relations for Tables {
    fn relation(&self, name: &str) -> Option<RelationSchema> {
        if name == "any" {
            return Some(RelationSchema {
                is_open: true,
                ..RelationSchema::default()
            });
        }
        let (_, columns) = TABLES.iter().find(|(table, _)| *table == name)?;
        Some(RelationSchema {
            columns: Schema::new(columns.iter().map(|(name, of)| Column::new(*name, *of))),
            ..RelationSchema::default()
        })
    }
}

/// A row that comes (1) or goes (-1), by table.
type Delta = (usize, Vec<Value>, isize);
/// What stands in a bag, and how often.
type Bag = BTreeMap<Vec<Value>, isize>;

/// The result after each epoch, maintained by several workers. `deltas` hold rows of all columns
/// of the tables with these names.
fn maintained(
    query: &Query,
    tables: &[(&str, Schema)],
    deltas: &[Vec<Delta>],
    n_workers: usize,
) -> Vec<Bag> {
    let updates: Arc<Mutex<Vec<(Tuple, Epoch, isize)>>> = Arc::default();
    let (query, deltas, said) = (query.clone(), deltas.to_vec(), updates.clone());
    let tables: Vec<(String, Schema)> = tables
        .iter()
        .map(|(name, schema)| (name.to_string(), schema.clone()))
        .collect();
    let n_epochs = deltas.len();
    let run = move |worker: &mut timely::worker::Worker| {
        let mut sessions = Vec::new();
        for _ in query.inputs() {
            sessions.push(InputSession::<Epoch, Tuple, isize>::new());
        }
        let said = said.clone();
        let probe = worker.dataflow(|scope| {
            let inputs = sessions
                .iter_mut()
                .map(|session| session.to_collection(scope))
                .collect();
            render(scope, &query, inputs)
                .inspect(move |update| said.lock().unwrap().push(update.clone()))
                .probe()
                .0
        });
        for (epoch, deltas) in (0..).zip(&deltas) {
            for (at, (table, row, diff)) in deltas.iter().enumerate() {
                let (name, schema) = &tables[*table];
                for (input, session) in query.inputs().iter().zip(&mut sessions) {
                    // Updates come in on any worker.
                    if *input.relation == **name && at % worker.peers() == worker.index() {
                        let column = |column: &Column| {
                            let at = schema.position(&column.name);
                            at.map_or(Value::Null, |at| row[at].clone())
                        };
                        let tuple = input.columns.columns().iter().map(column).collect();
                        session.update(tuple, *diff);
                    }
                }
            }
            for session in &mut sessions {
                session.advance_to(epoch + 1);
                session.flush();
            }
            worker.step_while(|| probe.less_than(&(epoch + 1)));
        }
    };
    let config = timely::Config::process(n_workers);
    let workers = timely::execute(config, run).expect("workers start");
    for result in workers.join() {
        result.expect("no worker fails");
    }
    let updates = updates.lock().unwrap();
    let at = |epoch: Epoch| {
        let mut bag = Bag::new();
        for (tuple, time, diff) in updates.iter() {
            if *time <= epoch {
                *bag.entry(tuple.to_vec()).or_default() += diff;
            }
        }
        bag.retain(|_, count| *count != 0);
        bag
    };
    (0..n_epochs as Epoch).map(at).collect()
}

/// The result of the same query on SQLite after each epoch.
fn oracle(sql: &str, deltas: &[Vec<Delta>]) -> Vec<Bag> {
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    connection
        .execute_batch("PRAGMA case_sensitive_like = ON")
        .unwrap();
    for (name, columns) in TABLES {
        let of = |of: Type| {
            if of == Type::Float {
                "REAL".to_owned()
            } else {
                of.to_string()
            }
        };
        let columns: Vec<String> = columns
            .iter()
            .map(|(name, t)| format!("{name} {}", of(*t)))
            .collect();
        let create = format!("CREATE TABLE {name} ({})", columns.join(", "));
        connection.execute_batch(&create).unwrap();
    }
    let bound = |value: &Value| match value {
        Value::Null => rusqlite::types::Value::Null,
        Value::Integer(n) => (*n).into(),
        Value::Float(x) => x.get().into(),
        Value::Text(text) => text.to_string().into(),
        other => panic!("{other} in a table"),
    };
    let mut results = Vec::new();
    for deltas in deltas {
        for (table, row, diff) in deltas {
            let (name, columns) = TABLES[*table];
            let values = rusqlite::params_from_iter(row.iter().map(bound));
            let change = if *diff > 0 {
                format!(
                    "INSERT INTO {name} VALUES ({})",
                    vec!["?"; row.len()].join(", ")
                )
            } else {
                let same: Vec<String> = columns
                    .iter()
                    .map(|(column, _)| format!("{column} IS ?"))
                    .collect();
                let one = format!(
                    "SELECT rowid FROM {name} WHERE {} LIMIT 1",
                    same.join(" AND ")
                );
                format!("DELETE FROM {name} WHERE rowid = ({one})")
            };
            assert_eq!(connection.execute(&change, values).unwrap(), 1);
        }
        let mut statement = connection
            .prepare(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let n_columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        let mut bag = Bag::new();
        while let Some(row) = rows.next().unwrap_or_else(|error| panic!("{sql}: {error}")) {
            let value = |at| match row.get_ref(at).unwrap() {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(n) => n.into(),
                ValueRef::Real(x) => x.into(),
                ValueRef::Text(text) => std::str::from_utf8(text).unwrap().into(),
                ValueRef::Blob(_) => panic!("{sql}: a blob"),
            };
            *bag.entry((0..n_columns).map(value).collect()).or_default() += 1;
        }
        results.push(bag);
    }
    results
}

/// SQLite knows truth as 1 and 0.
fn as_sqlite(bag: &Bag) -> Bag {
    let value = |value: &Value| match value {
        Value::Boolean(is) => Value::Integer((*is).into()),
        other => other.clone(),
    };
    let mut alike = Bag::new();
    for (row, count) in bag {
        *alike.entry(row.iter().map(value).collect()).or_default() += count;
    }
    alike
}

/// Choices that make a query; where they end, the first alternative is taken. So a shorter list
/// makes a simpler query, and a failing case shrinks.
struct Choices<'c> {
    choices: &'c [u8],
    n_aliases: usize,
}

/// A column that an expression may name.
#[derive(Clone)]
struct Named {
    name: String,
    of: Type,
}

impl Choices<'_> {
    fn pick(&mut self, n: usize) -> usize {
        match self.choices.split_first() {
            None => 0,
            Some((first, rest)) => {
                self.choices = rest;
                usize::from(*first) % n
            }
        }
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.pick(of.len())]
    }

    fn column(&mut self, of: Type, columns: &[Named]) -> Option<String> {
        let fitting: Vec<&Named> = columns.iter().filter(|column| column.of == of).collect();
        match fitting.len() {
            0 => None,
            n => Some(fitting[self.pick(n)].name.clone()),
        }
    }

    fn of_type(&mut self, of: Type, columns: &[Named], depth: usize) -> String {
        match of {
            Type::Integer => self.integer(columns, depth),
            Type::Float => self.float(columns, depth),
            _ => self.text(columns, depth),
        }
    }

    fn integer(&mut self, columns: &[Named], depth: usize) -> String {
        let kind = if depth == 0 {
            self.pick(2)
        } else {
            self.pick(10)
        };
        let literal = |choices: &mut Self| choices.one(&["1", "0", "2", "3", "NULL"]).to_owned();
        match kind {
            0 => match self.column(Type::Integer, columns) {
                Some(column) => column,
                None => literal(self),
            },
            1 => literal(self),
            2 | 3 => {
                let op = self.one(&["+", "-", "*", "/", "%"]);
                let (a, b) = (
                    self.integer(columns, depth - 1),
                    self.integer(columns, depth - 1),
                );
                format!("({a} {op} {b})")
            }
            4 => format!("(-({}))", self.integer(columns, depth - 1)),
            5 => format!("length({})", self.text(columns, depth - 1)),
            6 => format!("abs({})", self.integer(columns, depth - 1)),
            7 => self.conditional(Type::Integer, columns, depth),
            8 => format!("CAST({} AS INTEGER)", self.float(columns, depth - 1)),
            _ => self.nullable(Type::Integer, columns, depth),
        }
    }

    fn float(&mut self, columns: &[Named], depth: usize) -> String {
        let kind = if depth == 0 {
            self.pick(2)
        } else {
            self.pick(7)
        };
        let literal = |choices: &mut Self| choices.one(&["0.5", "2.0", "0.0", "1.25"]).to_owned();
        match kind {
            0 => match self.column(Type::Float, columns) {
                Some(column) => column,
                None => literal(self),
            },
            1 => literal(self),
            2 => {
                let op = self.one(&["+", "-", "*"]);
                let (a, b) = (
                    self.float(columns, depth - 1),
                    self.float(columns, depth - 1),
                );
                format!("({a} {op} {b})")
            }
            3 => {
                let op = self.one(&["+", "-", "*"]);
                let (a, b) = (
                    self.integer(columns, depth - 1),
                    self.float(columns, depth - 1),
                );
                format!("({a} {op} {b})")
            }
            4 => self.conditional(Type::Float, columns, depth),
            5 => format!("round({})", self.float(columns, depth - 1)),
            _ => self.nullable(Type::Float, columns, depth),
        }
    }

    fn text(&mut self, columns: &[Named], depth: usize) -> String {
        let kind = if depth == 0 {
            self.pick(2)
        } else {
            self.pick(9)
        };
        let literal = |choices: &mut Self| choices.one(&["'a'", "'b'", "''", "'aB'"]).to_owned();
        match kind {
            0 => match self.column(Type::Text, columns) {
                Some(column) => column,
                None => literal(self),
            },
            1 => literal(self),
            2 => {
                let (a, b) = (self.text(columns, depth - 1), self.text(columns, depth - 1));
                format!("({a} || {b})")
            }
            3 => {
                let function = self.one(&["lower", "upper", "trim"]);
                format!("{function}({})", self.text(columns, depth - 1))
            }
            4 => {
                let (from, n) = (self.pick(3) + 1, self.pick(3));
                format!("substr({}, {from}, {n})", self.text(columns, depth - 1))
            }
            5 => format!("replace({}, 'a', 'xy')", self.text(columns, depth - 1)),
            6 => self.conditional(Type::Text, columns, depth),
            7 => format!("CAST({} AS TEXT)", self.integer(columns, depth - 1)),
            _ => self.nullable(Type::Text, columns, depth),
        }
    }

    fn conditional(&mut self, of: Type, columns: &[Named], depth: usize) -> String {
        let when = self.condition(columns, depth - 1);
        let (then, or) = (
            self.of_type(of, columns, depth - 1),
            self.of_type(of, columns, depth - 1),
        );
        match self.pick(2) {
            0 => format!("CASE WHEN {when} THEN {then} ELSE {or} END"),
            _ => format!("CASE WHEN {when} THEN {then} END"),
        }
    }

    fn nullable(&mut self, of: Type, columns: &[Named], depth: usize) -> String {
        let function = self.one(&["coalesce", "nullif"]);
        let (a, b) = (
            self.of_type(of, columns, depth - 1),
            self.of_type(of, columns, depth - 1),
        );
        format!("{function}({a}, {b})")
    }

    fn condition(&mut self, columns: &[Named], depth: usize) -> String {
        let kind = if depth == 0 {
            self.pick(3)
        } else {
            self.pick(11)
        };
        let operand = depth.saturating_sub(1);
        match kind {
            0..=2 => {
                let of = [Type::Integer, Type::Text, Type::Float][kind];
                let op = self.one(&["=", "<>", "<", "<=", ">", ">="]);
                let (a, b) = (
                    self.of_type(of, columns, operand),
                    self.of_type(of, columns, operand),
                );
                format!("{a} {op} {b}")
            }
            3 => {
                let op = self.one(&["=", "<", ">="]);
                let (a, b) = (self.integer(columns, operand), self.float(columns, operand));
                format!("{a} {op} {b}")
            }
            4 => {
                let of = [Type::Integer, Type::Text, Type::Float][self.pick(3)];
                let is = self.one(&["IS NULL", "IS NOT NULL"]);
                format!("{} {is}", self.of_type(of, columns, operand))
            }
            5 => {
                let op = self.one(&["IN", "NOT IN"]);
                let list = self.one(&["1, 2", "0, NULL", "3"]);
                format!("{} {op} ({list})", self.integer(columns, operand))
            }
            6 => {
                let op = self.one(&["BETWEEN", "NOT BETWEEN"]);
                format!(
                    "{} {op} {} AND 2",
                    self.integer(columns, operand),
                    self.integer(columns, 0)
                )
            }
            7 => {
                let op = self.one(&["LIKE", "NOT LIKE"]);
                let pattern = self.one(&["'a%'", "'%b'", "'_'", "'%'", "'A_'"]);
                format!("{} {op} {pattern}", self.text(columns, operand))
            }
            8 => format!("NOT ({})", self.condition(columns, depth - 1)),
            9 => {
                let (a, b) = (
                    self.integer(columns, operand),
                    self.integer(columns, operand),
                );
                let op = self.one(&["IS DISTINCT FROM", "IS NOT DISTINCT FROM"]);
                format!("{a} {op} {b}")
            }
            _ => {
                let op = self.one(&["AND", "OR"]);
                let (a, b) = (
                    self.condition(columns, depth - 1),
                    self.condition(columns, depth - 1),
                );
                format!("({a} {op} {b})")
            }
        }
    }

    /// A query and its columns.
    fn query(&mut self, depth: usize) -> (String, Vec<Type>) {
        match self.pick(6) {
            0 | 1 => self.select(depth),
            2 | 3 => self.grouped(depth),
            4 => {
                let types = [Type::Integer, Type::Text, Type::Float];
                let types = &types[..self.pick(3) + 1];
                let (a, b) = (self.select_of(types, depth), self.select_of(types, depth));
                let op = self.one(&["UNION ALL", "UNION"]);
                (format!("{a} {op} {b}"), types.to_vec())
            }
            _ => {
                let (inner, types) = self.query(depth.saturating_sub(1));
                let descending = self.one(&["", " DESC"]);
                let columns: Vec<String> = (1..types.len()).map(|at| format!("c{at}")).collect();
                let rest = columns
                    .iter()
                    .map(|column| format!(", {column}"))
                    .collect::<String>();
                let (limit, offset) = (self.pick(4), self.pick(3));
                let sql = format!(
                    "SELECT * FROM ({inner}) AS o ORDER BY c0{descending}{rest} LIMIT {limit} \
                     OFFSET {offset}"
                );
                (sql, types)
            }
        }
    }

    fn select(&mut self, depth: usize) -> (String, Vec<Type>) {
        let types: Vec<Type> = (0..self.pick(3) + 1)
            .map(|_| [Type::Integer, Type::Text, Type::Float][self.pick(3)])
            .collect();
        (self.select_of(&types, depth), types)
    }

    fn select_of(&mut self, types: &[Type], depth: usize) -> String {
        let (from, columns) = self.from(depth);
        let items: Vec<String> = types
            .iter()
            .enumerate()
            .map(|(at, of)| format!("{} AS c{at}", self.of_type(*of, &columns, 2)))
            .collect();
        let distinct = self.one(&["", "", "DISTINCT "]);
        let filter = self.filter(&columns, depth);
        format!("SELECT {distinct}{} FROM {from}{filter}", items.join(", "))
    }

    fn grouped(&mut self, depth: usize) -> (String, Vec<Type>) {
        let (from, columns) = self.from(depth);
        let (mut items, mut types, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.pick(3) {
            let of = [Type::Integer, Type::Text][self.pick(2)];
            let Some(column) = self.column(of, &columns) else {
                continue;
            };
            // A number alone would name a column by its place.
            let key = match (of, self.pick(2)) {
                (_, 0) => column,
                (Type::Integer, _) => format!("({column} % 2)"),
                (_, _) => format!("lower({column})"),
            };
            items.push(format!("{key} AS c{}", items.len()));
            types.push(of);
            keys.push(key);
        }
        for _ in 0..self.pick(3) + 1 {
            let (text, of) = self.aggregate(&columns);
            items.push(format!("{text} AS c{}", items.len()));
            types.push(of);
        }
        let filter = self.filter(&columns, depth);
        let mut sql = format!("SELECT {} FROM {from}{filter}", items.join(", "));
        if !keys.is_empty() {
            sql += &format!(" GROUP BY {}", keys.join(", "));
            if self.pick(3) == 1 {
                let (text, _) = self.aggregate(&columns);
                sql += &format!(" HAVING {text} IS NOT NULL AND count(*) > 1");
            }
        }
        (sql, types)
    }

    fn aggregate(&mut self, columns: &[Named]) -> (String, Type) {
        let of = [Type::Integer, Type::Text, Type::Float][self.pick(3)];
        let number = if of == Type::Text { Type::Integer } else { of };
        match self.pick(8) {
            0 => ("count(*)".to_owned(), Type::Integer),
            1 => (
                format!("count({})", self.of_type(of, columns, 1)),
                Type::Integer,
            ),
            2 => (format!("sum({})", self.of_type(number, columns, 1)), number),
            3 => (
                format!("avg({})", self.of_type(number, columns, 1)),
                Type::Float,
            ),
            4 => (format!("min({})", self.of_type(of, columns, 1)), of),
            5 => (format!("max({})", self.of_type(of, columns, 1)), of),
            6 => (
                format!("count(DISTINCT {})", self.of_type(of, columns, 1)),
                Type::Integer,
            ),
            _ => (
                format!("sum(DISTINCT {})", self.of_type(number, columns, 1)),
                number,
            ),
        }
    }

    fn from(&mut self, depth: usize) -> (String, Vec<Named>) {
        let (mut from, mut columns) = self.table(depth);
        for _ in 0..[0, 0, 1, 1, 2][self.pick(5)] {
            let (right, right_columns) = self.table(0);
            let kind = self.one(&["JOIN", "LEFT JOIN", ","]);
            let left = columns.clone();
            columns.extend(right_columns.clone());
            if kind == "," {
                from = format!("{from} CROSS JOIN {right}");
                continue;
            }
            let of = [Type::Integer, Type::Text, Type::Float][self.pick(3)];
            let (a, b) = (self.column(of, &left), self.column(of, &right_columns));
            let on = match (a, b, self.pick(4)) {
                (Some(a), Some(b), 0 | 1) => format!("{a} = {b}"),
                (Some(a), Some(b), 2) => format!("{a} = {b} AND {}", self.condition(&columns, 1)),
                _ => self.condition(&columns, 2),
            };
            from = format!("{from} {kind} {right} ON {on}");
        }
        (from, columns)
    }

    fn table(&mut self, depth: usize) -> (String, Vec<Named>) {
        let alias = format!("t{}", self.n_aliases);
        self.n_aliases += 1;
        let named = |name: &str, of| Named {
            name: format!("{alias}.{name}"),
            of,
        };
        if depth > 0 && self.pick(3) == 2 {
            let (inner, types) = self.query(depth - 1);
            let columns = types.iter().enumerate();
            let columns = columns
                .map(|(at, of)| named(&format!("c{at}"), *of))
                .collect();
            return (format!("({inner}) AS {alias}"), columns);
        }
        let (name, columns) = TABLES[self.pick(2)];
        let columns = columns.iter().map(|(name, of)| named(name, *of)).collect();
        (format!("{name} AS {alias}"), columns)
    }

    fn filter(&mut self, columns: &[Named], depth: usize) -> String {
        let mut all = Vec::new();
        for _ in 0..self.pick(3) {
            all.push(match self.pick(5) {
                3 if depth > 0 => {
                    let not = self.one(&["", "NOT "]);
                    let inner = self.select_of(&[Type::Integer], depth - 1);
                    format!("{} {not}IN ({inner})", self.integer(columns, 1))
                }
                4 => {
                    let not = self.one(&["", "NOT "]);
                    let (inner, inner_columns) = self.table(0);
                    let mut on = self.condition(&inner_columns, 1);
                    let of = [Type::Integer, Type::Text][self.pick(2)];
                    let outer = self.column(of, columns);
                    if let (Some(a), Some(b)) = (self.column(of, &inner_columns), outer) {
                        let op = self.one(&["=", "<", "<>"]);
                        on = format!("{on} AND {a} {op} {b}");
                    }
                    format!("{not}EXISTS (SELECT 1 FROM {inner} WHERE {on})")
                }
                _ => self.condition(columns, 2),
            });
        }
        match all.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", all.join(" AND ")),
        }
    }
}

fn integer() -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(Value::Null), 5 => (-2i64..4).prop_map(Value::from)]
}

fn float() -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(Value::Null), 5 => (-6i64..8).prop_map(|n| Value::from(n as f64 / 4.0))]
}

fn text() -> impl Strategy<Value = Value> {
    let texts = prop::sample::select(vec!["a", "b", "ab", "aB", "", " a"]);
    prop_oneof![1 => Just(Value::Null), 5 => texts.prop_map(Value::from)]
}

/// A row for either table, whether it takes the place of one that is there, and of which.
fn operation() -> impl Strategy<Value = (usize, Vec<Value>, u8, prop::sample::Index)> {
    let rows = prop_oneof![
        (integer(), integer(), text(), float()).prop_map(|(x, y, t, f)| (0, vec![x, y, t, f])),
        (integer(), text(), float()).prop_map(|(x, s, g)| (1, vec![x, s, g])),
    ];
    (rows, 0u8..4, any::<prop::sample::Index>())
        .prop_map(|((table, row), kind, which)| (table, row, kind, which))
}

/// Inserts, updates and deletes by epoch, as rows that come and go.
fn history() -> impl Strategy<Value = Vec<Vec<Delta>>> {
    let epochs = prop::collection::vec(prop::collection::vec(operation(), 0..9), 1..6);
    epochs.prop_map(|epochs| {
        let mut standing: [Vec<Vec<Value>>; 2] = Default::default();
        let mut history = Vec::new();
        for operations in epochs {
            let mut deltas = Vec::new();
            for (table, row, kind, which) in operations {
                let rows = &mut standing[table];
                // One in four is a delete, one an update.
                if kind >= 2 && !rows.is_empty() {
                    let old = rows.swap_remove(which.index(rows.len()));
                    deltas.push((table, old, -1));
                }
                if kind != 3 {
                    rows.push(row.clone());
                    deltas.push((table, row, 1));
                }
            }
            history.push(deltas);
        }
        history
    })
}

fn schemas() -> Vec<(&'static str, Schema)> {
    let schema = |columns: &[(&str, Type)]| {
        Schema::new(columns.iter().map(|(name, of)| Column::new(*name, *of)))
    };
    TABLES
        .iter()
        .map(|(name, columns)| (*name, schema(columns)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn what_is_maintained_is_what_sqlite_computes(
        choices in prop::collection::vec(any::<u8>(), 0..120),
        history in history(),
        n_workers in 1usize..4,
    ) {
        let mut generator = Choices { choices: &choices, n_aliases: 0 };
        let (sql, _) = generator.query(2);
        let query = bind(&parse(&sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"));
        let found = maintained(&query, &schemas(), &history, n_workers);
        let expected = oracle(&sql, &history);
        for (epoch, (found, expected)) in found.iter().zip(&expected).enumerate() {
            prop_assert_eq!(
                &as_sqlite(found), expected, "epoch {} of\n{}\n{}", epoch, sql, query
            );
        }
    }
}

/// The result of a query over rows of one relation without declared columns.
fn of_any(sql: &str, rows: &[&[(&str, Value)]]) -> Vec<Vec<Value>> {
    let query = bind(&parse(sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"));
    let columns = query
        .inputs()
        .first()
        .map(|input| input.columns.clone())
        .unwrap_or_default();
    let row = |row: &&[(&str, Value)]| {
        let value = |column: &Column| {
            let found = row.iter().find(|(name, _)| *name == &*column.name);
            found.map_or(Value::Null, |(_, value)| value.clone())
        };
        (0, columns.columns().iter().map(value).collect(), 1)
    };
    let deltas = vec![rows.iter().map(row).collect()];
    let results = maintained(&query, &[("any", columns.clone())], &deltas, 2);
    let copies = results[0]
        .iter()
        .flat_map(|(row, n)| vec![row.clone(); *n as usize]);
    copies.collect()
}

#[test]
fn columns_of_any_type_are_looked_at_one_by_one() {
    let rows: [&[(&str, Value)]; 4] = [
        &[("v", 1i64.into()), ("k", "a".into())],
        &[("v", 1.0.into()), ("k", "a".into())],
        &[("v", "1".into()), ("k", "a".into())],
        &[("k", "b".into())],
    ];
    let of = |sql: &str| of_any(sql, &rows);
    let texts = |sql: &str| {
        let rows = of(sql).into_iter();
        rows.map(|row| {
            row.iter()
                .map(Value::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect::<Vec<_>>()
    };
    // Numbers compare by worth, other types not at all.
    assert_eq!(texts("SELECT v FROM any WHERE v = 1"), ["1", "1"]);
    assert_eq!(
        texts("SELECT count(*) AS n FROM any x JOIN any y ON x.v = y.v"),
        ["5"]
    );
    // Groups go by what a value is.
    assert_eq!(
        texts("SELECT v, count(*) AS n FROM any GROUP BY v").len(),
        4
    );
    assert_eq!(
        texts("SELECT k, sum(v) AS s, avg(v) AS a, count(v) AS n FROM any GROUP BY k"),
        ["a 2 1 3", "b NULL NULL 0"]
    );
    assert_eq!(texts("SELECT min(v) AS l, max(v) AS g FROM any"), ["1 1"]);
    assert_eq!(
        texts("SELECT v + 1 AS w FROM any WHERE k = 'a'"),
        ["NULL", "2", "2"]
    );
    assert_eq!(
        texts("SELECT k FROM any WHERE NOT v ORDER BY k LIMIT 1"),
        Vec::<String>::new()
    );
}

#[test]
fn sums_overflow_to_null_and_do_not_drift() {
    let rows: [&[(&str, Value)]; 3] = [
        &[("n", i64::MAX.into()), ("x", 1e300.into())],
        &[("n", 1i64.into()), ("x", 1.5.into())],
        &[("n", 0i64.into()), ("x", (-1e300).into())],
    ];
    let sql = "SELECT sum(n) AS n, sum(x) AS x, sum(CAST(x AS FLOAT)) AS y FROM any";
    assert_eq!(of_any(sql, &rows), [[Value::Null, 1.5.into(), 1.5.into()]]);
    let sql = "SELECT sum(x) AS x FROM any WHERE n > 0";
    assert_eq!(of_any(sql, &rows), [[Value::from(1e300)]]);
}

#[test]
fn the_one_group_of_no_rows_is_there() {
    let sql = "SELECT count(*) AS n, sum(v) AS s, min(v) AS m, count(DISTINCT v) AS d FROM any";
    let none = [
        Value::from(0i64),
        Value::Null,
        Value::Null,
        Value::from(0i64),
    ];
    assert_eq!(of_any(sql, &[]), [none]);
    assert_eq!(
        of_any("SELECT 1 AS x WHERE 1 = 2", &[]),
        Vec::<Vec<Value>>::new()
    );
    assert_eq!(of_any("SELECT 1 AS x", &[]), [[Value::from(1i64)]]);
}
