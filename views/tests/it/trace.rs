//! Which rows does a row of a query come from?

use std::sync::{Arc, mpsc};

use perennial_ask::scripted::{Scripted, ScriptedEmbedder};
use perennial_ask::{Executor, Output, Task};
use perennial_rows::{Tuple, Value};
use perennial_views::measure::Asker;
use perennial_views::query::Query;
use perennial_views::{Asking, Bounds, Embeddings, Outputs, Said, Trace, evaluate, trace};

use crate::bind::sql;

fn asking() -> (Asking, Arc<Outputs>, Arc<Scripted>) {
    let (model, executor) = (Arc::new(Scripted::new()), Arc::new(Executor::new(1)));
    let outputs = Arc::new(Outputs::new(model.clone(), Arc::new(()), executor.clone()));
    let embedder = Arc::new(ScriptedEmbedder::default());
    let embeddings = Embeddings::new(embedder, Arc::new(()), executor);
    let asking = Asking::new("v".into(), outputs.clone(), Arc::new(()));
    let asking = asking.embedding_with(Arc::new(embeddings));
    (asking, outputs, model)
}

/// Rows of the relations of tests, chosen by a number.
fn inputs(query: &Query, seed: u64) -> Vec<Vec<(Tuple, isize)>> {
    let mut state = seed;
    let mut chosen = |n: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % n
    };
    let inputs = query.inputs().iter().map(|input| {
        let rows = (0..8).map(|at| {
            let columns = input.columns.columns().iter();
            let values = columns.map(|column| match &*column.name {
                "id" => Value::from(at),
                "key" => Value::text(["north", "south", "west"][at as usize % 3]),
                "region" => Value::text(["north", "south", "west"][chosen(3) as usize]),
                "doc" => Value::text(["refunds a", "praise b", "refunds c"][chosen(3) as usize]),
                "title" => Value::text(["x", "y"][chosen(2) as usize]),
                "amount" => Value::from(chosen(4) as i64),
                _ => Value::Null,
            });
            (values.collect::<Tuple>(), 1)
        });
        // A key stands once.
        let n = if &*input.relation == "docs" { 3 } else { 8 };
        rows.take(n).collect()
    });
    inputs.collect()
}

/// Of these inputs, what a trace names.
fn traced(
    query: &Query,
    inputs: &[Vec<(Tuple, isize)>],
    trace: &Trace,
) -> Vec<Vec<(Tuple, isize)>> {
    let of_input = query.inputs().iter().zip(inputs).map(|(input, rows)| {
        let is_named = |tuple: &Tuple| {
            let named = trace
                .rows
                .iter()
                .filter(|row| row.relation == input.relation);
            let mut named = named.map(|row| {
                row.values.iter().all(|(name, value)| {
                    let at = input.columns.position(name);
                    at.is_some_and(|at| tuple[at] == *value)
                })
            });
            named.any(|is_it| is_it)
        };
        let rows = rows.iter().filter(|(tuple, _)| is_named(tuple));
        rows.cloned().collect()
    });
    of_input.collect()
}

/// What a row comes from is enough to have it: the query over nothing else gives it, too.
#[test]
fn a_query_over_what_a_row_comes_from_gives_the_row() {
    let queries = [
        "SELECT id, doc FROM orders WHERE amount > 1",
        "SELECT o.id, d.title FROM orders o JOIN docs d ON o.region = d.key",
        "SELECT o.id, d.title FROM orders o LEFT JOIN docs d ON o.region = d.key AND d.title = 'x'",
        "SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM docs d WHERE d.key = o.region)",
        "SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM docs d WHERE d.title < o.doc)",
        "SELECT region, count(*) AS n, sum(amount) AS s, max(doc) AS m FROM orders GROUP BY region",
        "SELECT DISTINCT region FROM orders",
        "SELECT region AS k FROM orders UNION SELECT key AS k FROM docs",
        "SELECT d.title, count(*) AS n FROM orders o JOIN docs d ON o.region = d.key GROUP BY d.title \
         HAVING count(*) > 1",
        "SELECT count(*) AS n FROM orders WHERE amount = 9",
    ];
    let (asking, _, model) = asking();
    for text in queries {
        let query = sql(text).unwrap_or_else(|errors| panic!("{text}: {errors}"));
        for seed in 0..12 {
            let inputs = inputs(&query, seed);
            let bounds = Bounds::default();
            let rows = evaluate(&query, inputs.clone(), Some(&asking), &bounds).expect("no bounds");
            for row in rows {
                let found =
                    trace(&query, inputs.clone(), &asking, &row, &bounds).expect("no bounds");
                let less = traced(&query, &inputs, &found);
                let again = evaluate(&query, less, Some(&asking), &bounds).expect("no bounds");
                assert!(again.contains(&row), "{text}, {seed}: {row:?} of {found:?}");
            }
        }
    }
    assert_eq!(model.n_calls(), 0);
}

#[test]
fn a_row_that_is_not_there_comes_from_nothing_and_others_are_no_part_of_it() {
    let (asking, _, _) = asking();
    let query = sql("SELECT id, doc FROM orders WHERE amount > 1").expect("sound");
    let inputs = inputs(&query, 1);
    let bounds = Bounds::default();
    let none: Tuple = [Value::from(99), Value::text("no")].into();
    let found = trace(&query, inputs.clone(), &asking, &none, &bounds).expect("no bounds");
    assert_eq!(found, Trace::default());
    let rows = evaluate(&query, inputs.clone(), Some(&asking), &bounds).expect("no bounds");
    let found = trace(&query, inputs, &asking, &rows[0], &bounds).expect("no bounds");
    assert_eq!(found.rows.len(), 1);
}

#[test]
fn what_a_model_said_is_told_and_nobody_is_asked() {
    let (asking, outputs, model) = asking();
    let prompt = "Is {doc} about refunds ?";
    let text = format!("SELECT id, doc FROM orders WHERE sem_filter('{prompt}')");
    let query = sql(&text).expect("sound");
    let task = Arc::new(Task::new(prompt, Output::Truth).expect("a task"));
    // As a view does that stands.
    for doc in ["refunds a", "praise b", "refunds c"] {
        let (sender, told) = mpsc::channel();
        let tell = move |value| sender.send(value).expect("somebody waits");
        let values: Tuple = [Value::text(doc)].into();
        outputs.ask_then(&task, values, (&asking, Asker::default()), tell);
        told.recv().expect("it is told");
    }
    let n_calls = model.n_calls();
    let inputs = inputs(&query, 3);
    let bounds = Bounds::default();
    let rows = evaluate(&query, inputs.clone(), Some(&asking), &bounds).expect("no bounds");
    let found = trace(&query, inputs, &asking, &rows[0], &bounds).expect("no bounds");
    let said = Said {
        question: format!("sem_filter('{prompt}')"),
        of: [rows[0][1].clone()].into(),
        answer: true.into(),
    };
    assert_eq!((found.said, found.rows.len()), (vec![said], 1));
    assert_eq!(model.n_calls(), n_calls);
}
