//! Is the maintained result what a batch database computes of the same rows?
//!
//! The oracle is SQLite. Queries are generated as SQL text within what both mean alike: integers,
//! floats and texts do not mix in one column; floats are small multiples of a quarter, so that
//! sums are exact in any order; LIKE looks at case (a pragma there); texts are ASCII; no integer
//! overflows; LIMIT stands behind an order of all columns.

mod asked;
mod batch;
mod cascade;
mod clusters;
mod generator;
mod groups;
mod nearest;
mod pagerank;
mod ranks;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use differential_dataflow::input::InputSession;
use perennial_ask::scripted::{self, Scripted};
use perennial_ask::{
    Capabilities, Executor, Failure, Field, FieldType, Fields, Output, Performed, Provider, Task,
    TaskCall,
};
use perennial_rows::{Column, Schema, Tuple, Type, Value};
use proptest::prelude::*;
use rusqlite::types::ValueRef;
use serde_json::Value as Json;

use perennial_views::query::{Query, RelationSchema, Relations, bind};
use perennial_views::render::render;
use perennial_views::{Asking, Embeddings, Epoch, Measures, Outputs};

use crate::bind::parse;
use generator::Choices;

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

/// The scripted model, attending to fewer positions than it does, as far as it is told what fits.
struct Narrow {
    model: Scripted,
    n_positions: usize,
    /// Texts that were embedded beside it.
    n_embedded: Arc<AtomicUsize>,
}

impl Narrow {
    fn new(n_positions: usize) -> Self {
        Self {
            model: Scripted::new(),
            n_positions,
            n_embedded: Arc::default(),
        }
    }
}

impl Provider for Narrow {
    fn digest(&self) -> [u8; 32] {
        Provider::digest(&self.model)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            n_positions: self.n_positions,
            ..self.model.capabilities()
        }
    }

    fn check(&self, task: &Task) -> Result<(), String> {
        self.model.check(task)
    }

    fn perform(&self, call: &TaskCall<'_>) -> Result<Performed, Failure> {
        self.model.perform(call)
    }
}

/// Positions of the model that is asked in random queries: its groups have several parts.
const N_POSITIONS: usize = 230;

/// Whom a view asks: this model, and an embedder.
fn asking_of(model: Arc<Narrow>) -> Asking {
    let executor = Arc::new(Executor::new(2));
    let embedder = Arc::new(nearest::Directions::counting(model.n_embedded.clone()));
    let outputs = Arc::new(Outputs::new(model, Arc::new(()), executor.clone()));
    let embeddings = Embeddings::new(embedder, Arc::new(()), executor);
    Asking::new("v".into(), outputs, Arc::new(())).embedding_with(Arc::new(embeddings))
}

/// The result after each epoch, maintained by several workers. `deltas` hold rows of all columns
/// of the tables with these names.
fn maintained(
    query: &Query,
    tables: &[(&str, Schema)],
    deltas: &[Vec<Delta>],
    n_workers: usize,
) -> Vec<Bag> {
    let model = Arc::new(Narrow::new(N_POSITIONS));
    let results = maintained_by(model, query, tables, deltas, n_workers);
    results.into_iter().map(|(bag, _)| bag).collect()
}

/// The same, asking this model, with the calls that were made until then.
fn maintained_by(
    model: Arc<Narrow>,
    query: &Query,
    tables: &[(&str, Schema)],
    deltas: &[Vec<Delta>],
    n_workers: usize,
) -> Vec<(Bag, usize)> {
    let updates: Arc<Mutex<Vec<(Tuple, Epoch, isize)>>> = Arc::default();
    let (query, deltas, said) = (query.clone(), deltas.to_vec(), updates.clone());
    let tables: Vec<(String, Schema)> = tables
        .iter()
        .map(|(name, schema)| (name.to_string(), schema.clone()))
        .collect();
    let n_epochs = deltas.len();
    let asked: Arc<Mutex<Vec<usize>>> = Arc::default();
    let n_asked = asked.clone();
    let (asking, measures) = (asking_of(model.clone()), Measures::default());
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
            render(scope, &query, inputs, Some(&asking), Some(&measures))
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
            if worker.index() == 0 {
                n_asked.lock().unwrap().push(model.model.n_calls());
            }
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
    let asked = asked.lock().unwrap();
    let epochs = (0..n_epochs as Epoch).zip(asked.iter());
    epochs.map(|(epoch, n)| (at(epoch), *n)).collect()
}

/// The result of the same query on SQLite after each epoch.
fn oracle(sql: &str, deltas: &[Vec<Delta>]) -> Vec<Bag> {
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    connection
        .execute_batch("PRAGMA case_sensitive_like = ON")
        .unwrap();
    asking(&connection);
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
            let value = |at| value_of(row.get_ref(at).unwrap());
            *bag.entry((0..n_columns).map(value).collect()).or_default() += 1;
        }
        results.push(bag);
    }
    results
}

/// Lets SQLite ask the scripted model: its functions take the prompt, and the values of the columns
/// that are named in it.
fn asking(connection: &rusqlite::Connection) {
    let labels = ["a", "b", "x"].map(Arc::from);
    let record = |fields: &[(&str, FieldType)]| {
        let fields = fields.iter().map(|(name, of)| Field {
            name: (*name).into(),
            of: of.clone(),
        });
        Output::Record {
            fields: Fields::new(fields).unwrap(),
            max_tokens: 256,
        }
    };
    let several = || {
        record(&[
            ("n", FieldType::Integer),
            ("w", FieldType::OneOf(Arc::from(["a", "b"].map(Arc::from)))),
            ("r", FieldType::Float),
        ])
    };
    let outputs = [
        ("sem_map", Output::Text { max_tokens: 9 }),
        ("sem_filter", Output::Truth),
        ("sem_classify", Output::Label(Arc::from(labels))),
        ("sem_score", Output::Score),
        ("sem_extract_v", record(&[("v", FieldType::Integer)])),
        ("sem_extract_s", record(&[("s", FieldType::Text)])),
        ("sem_extract_b", record(&[("b", FieldType::Boolean)])),
        ("sem_record_n", several()),
        ("sem_record_w", several()),
        ("sem_record_r", several()),
    ];
    for (name, of) in outputs {
        let flags = rusqlite::functions::FunctionFlags::SQLITE_DETERMINISTIC;
        let function =
            move |context: &mut rusqlite::functions::Context<'_>| -> rusqlite::Result<_> {
                let prompt: String = context.get(0)?;
                let task = Task::new(&prompt, of.clone()).unwrap();
                let values = (1..context.len()).map(|at| value_of(context.get_raw(at)));
                let values: Vec<Value> = values.collect();
                let json = match scripted::output(&task, &values) {
                    // The field that the function's name ends with.
                    json @ Value::Json(_) => json.to_json()[&name[name.len() - 1..]].clone(),
                    other => other.to_json(),
                };
                Ok(match json {
                    Json::Bool(is) => rusqlite::types::Value::Integer(is.into()),
                    Json::Number(n) if n.is_i64() => n.as_i64().unwrap().into(),
                    Json::Number(n) => n.as_f64().unwrap().into(),
                    Json::String(text) => rusqlite::types::Value::Text(text),
                    _ => rusqlite::types::Value::Null,
                })
            };
        connection
            .create_scalar_function(name, -1, flags, function)
            .unwrap();
    }
    let flags = rusqlite::functions::FunctionFlags::SQLITE_DETERMINISTIC;
    connection
        .create_aggregate_function("sem_agg", -1, flags, SemAgg)
        .unwrap();
}

/// `sem_agg` for SQLite: the prompt, and the values of the columns that are named in it.
struct SemAgg;

impl rusqlite::functions::Aggregate<(String, Vec<Vec<Value>>), Option<String>> for SemAgg {
    fn init(
        &self,
        _: &mut rusqlite::functions::Context<'_>,
    ) -> rusqlite::Result<(String, Vec<Vec<Value>>)> {
        Ok(Default::default())
    }

    fn step(
        &self,
        context: &mut rusqlite::functions::Context<'_>,
        (prompt, rows): &mut (String, Vec<Vec<Value>>),
    ) -> rusqlite::Result<()> {
        *prompt = context.get(0)?;
        let values = (1..context.len()).map(|at| value_of(context.get_raw(at)));
        rows.push(values.collect());
        Ok(())
    }

    fn finalize(
        &self,
        _: &mut rusqlite::functions::Context<'_>,
        group: Option<(String, Vec<Vec<Value>>)>,
    ) -> rusqlite::Result<Option<String>> {
        let Some((prompt, rows)) = group else {
            return Ok(None);
        };
        let said = batch::aggregate(&prompt, 9, N_POSITIONS, rows);
        Ok(said.as_text().map(|text| text.to_string()))
    }
}

fn value_of(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => n.into(),
        ValueRef::Real(x) => x.into(),
        ValueRef::Text(text) => std::str::from_utf8(text).unwrap().into(),
        ValueRef::Blob(_) => panic!("a blob"),
    }
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

fn integer() -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(Value::Null), 5 => (-2i64..4).prop_map(Value::from)]
}

fn float() -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(Value::Null), 5 => (-6i64..8).prop_map(|n| Value::from(n as f64 / 4.0))]
}

fn text() -> impl Strategy<Value = Value> {
    let texts = prop::sample::select(vec!["a", "b", "ab", "aB", "", " a"]);
    // A model that is asked about these refuses at first, or fails.
    let troubles = prop::sample::select(vec![scripted::REFUSED_WORD, scripted::ERROR_WORD]);
    prop_oneof![
        2 => Just(Value::Null),
        10 => texts.prop_map(Value::from),
        1 => troubles.prop_map(Value::from),
    ]
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
        let mut generator = Choices::new(&choices);
        let (sql, _) = generator.query(2);
        let query = bind(&parse(&sql), &Tables).unwrap_or_else(|errors| panic!("{sql}\n{errors}"));
        let found = maintained(&query, &schemas(), &history, n_workers);
        let theirs = generator.asked.iter().fold(sql.clone(), |sql, (ours, theirs)| {
            sql.replace(ours, theirs)
        });
        let expected = oracle(&theirs, &history);
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
