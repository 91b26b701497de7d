//! What would a query ask, and what would it cost?

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};

use perennial_ask::scripted::{Scripted, ScriptedEmbedder};
use perennial_ask::{Executor, Money, Output, Prices, Task};
use perennial_rows::{Tuple, Value};
use perennial_views::measure::Asker;
use perennial_views::query::Certainty;
use perennial_views::{Asking, Bounds, Embeddings, Forecast, Outputs, forecast};

use crate::bind::sql;

/// Bytes that stand for a token where no tokenizer is at hand.
const BYTES_A_TOKEN: usize = 4;

/// A scripted model, which is to be asked nothing.
struct Rig {
    model: Arc<Scripted>,
    outputs: Arc<Outputs>,
    asking: Asking,
}

impl Rig {
    fn new() -> Self {
        let (model, executor) = (Arc::new(Scripted::new()), Arc::new(Executor::new(1)));
        let outputs = Arc::new(Outputs::new(model.clone(), Arc::new(()), executor.clone()));
        let embedder = Arc::new(ScriptedEmbedder::default());
        let embeddings = Embeddings::new(embedder, Arc::new(()), executor);
        let asking = Asking::new("v".into(), outputs.clone(), Arc::new(()));
        let asking = asking.naming(BTreeMap::from([("small".into(), outputs.clone())]));
        Self {
            model,
            outputs,
            asking: asking.embedding_with(Arc::new(embeddings)),
        }
    }

    /// Has a question asked and kept, as a view does.
    fn ask(&self, prompt: &str, values: &[&str]) {
        let task = Arc::new(Task::new(prompt, Output::Truth).expect("a task"));
        let values = values.iter().map(|text| Value::text(*text)).collect();
        let (sender, told) = mpsc::channel();
        let tell = move |value| sender.send(value).expect("somebody waits");
        let of = (&self.asking, Asker::default());
        self.outputs.ask_then(&task, values, of, tell);
        told.recv().expect("it is told");
    }

    /// Over six orders, of which two are alike in `doc`, and three docs.
    fn forecast(&self, text: &str) -> Forecast {
        let query = sql(text).unwrap_or_else(|errors| panic!("{text}: {errors}"));
        let orders = [
            (1, "refunds a", "north"),
            (2, "refunds a", "south"),
            (3, "refunds b", "north"),
            (4, "praise c", "north"),
            (5, "praise d", "south"),
            (6, "praise e", "south"),
        ];
        let orders = orders.map(|(id, doc, region)| {
            let id: i64 = id;
            BTreeMap::from([
                ("id", Value::from(id)),
                ("doc", doc.into()),
                ("region", region.into()),
                ("amount", id.into()),
            ])
        });
        let docs = [("north", "x"), ("south", "y"), ("west", "z")];
        let docs =
            docs.map(|(key, title)| BTreeMap::from([("key", key.into()), ("title", title.into())]));
        let inputs = query.inputs().iter().map(|input| {
            let rows = match &*input.relation {
                "orders" => orders.to_vec(),
                _ => docs.to_vec(),
            };
            let tuple = |row: &BTreeMap<&str, Value>| {
                let columns = input.columns.columns().iter();
                let value = columns.map(|column| row.get(&*column.name).cloned());
                (value.map(Option::unwrap_or_default).collect(), 1)
            };
            rows.iter().map(tuple).collect()
        });
        let inputs: Vec<Vec<(Tuple, isize)>> = inputs.collect();
        let n_calls = self.model.n_calls();
        let forecast = forecast(&query, &inputs, &self.asking, &Bounds::default());
        assert_eq!(self.model.n_calls(), n_calls, "a dry run asks nobody");
        forecast.expect("there are no bounds")
    }

    /// The questions as they are told, without their tokens.
    fn told(&self, text: &str) -> Vec<String> {
        let questions = self.forecast(text).questions;
        let told = questions.iter().map(|question| {
            let told = question.to_string();
            let end = told.find(", which read").unwrap_or(told.len());
            told[..end].to_owned()
        });
        told.collect()
    }
}

const FILTER: &str = "Is {doc} about refunds ?";
const MATCHED: &str = "SELECT o.id FROM orders o JOIN docs d
    ON o.region = d.key AND sem_match('Is {o.doc} about {d.title}?')";

#[test]
fn what_is_known_is_counted_apart_and_rows_that_are_alike_once() {
    let rig = Rig::new();
    let text = format!("SELECT id FROM orders WHERE sem_filter('{FILTER}') AND amount < 6");
    assert_eq!(
        rig.told(&text),
        ["sem_filter('Is {doc} about refunds ?'): 5 rows, 4 calls: 0 known, 4 to be made"]
    );
    rig.ask(FILTER, &["refunds a"]);
    assert_eq!(
        rig.told(&text),
        ["sem_filter('Is {doc} about refunds ?'): 5 rows, 4 calls: 1 known, 3 to be made"]
    );
    assert_eq!(rig.told("SELECT id FROM orders"), [""; 0]);
    // What is about no row is told, too.
    assert_eq!(
        rig.told("SELECT id FROM orders WHERE sem_filter('{doc}') AND amount > 9"),
        ["sem_filter('{doc}'): 0 rows, 0 calls: 0 known, 0 to be made"]
    );
}

#[test]
fn pairs_are_those_that_keys_or_the_nearest_leave() {
    let rig = Rig::new();
    assert_eq!(
        rig.told(MATCHED),
        ["sem_match('Is {o.doc} about {d.title}?'): 6 pairs, 6 calls: 0 known, 6 to be made"]
    );
    let all = MATCHED.replace("o.region = d.key AND ", "");
    let all_pairs = all.replace("?')", "?', all_pairs => TRUE)");
    assert_eq!(
        rig.told(&all_pairs),
        ["sem_match('Is {o.doc} about {d.title}?'): 18 pairs, 15 calls: 0 known, 15 to be made"]
    );
    let nearest = all.replace("?')", "?', nearest => 2)");
    assert_eq!(
        rig.told(&nearest),
        ["sem_match('Is {o.doc} about {d.title}?'): 12 pairs, 10 calls: 0 known, 10 to be made"]
    );
}

#[test]
fn two_texts_are_asked_about_where_they_are_similar() {
    let rig = Rig::new();
    // Texts of two words, one of which they share: two of refunds and three of praise.
    let dedup = "sem_dedup(doc, 'Does each {doc} say it?', threshold => 0.4)";
    let text = format!("SELECT id, {dedup} AS d FROM orders");
    let pairs = "4 pairs, 4 calls: 0 known, 4 to be made";
    assert_eq!(rig.told(&text), [format!("{dedup}: {pairs}")]);
    let by = format!(
        "SELECT sem_filter('Is {{d}} bad?') AS is_bad FROM ({text} WHERE sem_filter('{FILTER}')) AS o"
    );
    assert_eq!(
        rig.told(&by),
        [
            "sem_filter('Is {d} bad?'): not to be told before answers that it depends on are there"
                .to_owned(),
            format!("sem_filter('{FILTER}'): 6 rows, 5 calls: 0 known, 5 to be made"),
            format!("{dedup}: at most {pairs}"),
        ]
    );
    assert_eq!(
        rig.told("SELECT id, sem_group('Name {doc}', threshold => 0.4) AS topic FROM orders"),
        [
            "sem_agg('Name {doc}', max_tokens => 16): 5 rows; how they are read together depends on \
             their groups"
        ]
    );
}

#[test]
fn where_an_embedding_may_decide_the_sample_is_asked_first() {
    let asked = "sem_filter('Is {doc} about refunds ?', recall => 0.5, sample => 50)";
    let text = format!("SELECT id FROM orders WHERE {asked}");
    let all = |known: usize| {
        let new = 5 - known;
        format!("{asked}: 6 rows, 5 calls: {known} known, {new} to be made")
    };
    let rig = Rig::new();
    let in_sample = "; the model is asked about all, for the sample has room for them";
    let told = |rig: &Rig| rig.forecast(&text).questions[0].to_string();
    assert!(told(&rig).starts_with(&all(0)) && told(&rig).ends_with(in_sample));
    rig.ask(FILTER, &["refunds a"]);
    assert!(told(&rig).starts_with(&all(1)) && told(&rig).ends_with(in_sample));
    // Behind another question, all may be asked about.
    let behind = text.replace("WHERE", "WHERE sem_filter('{doc}!') AND");
    assert!(rig.told(&behind)[0].starts_with(&format!("{asked}: at most 6 rows, 5 calls")));
}

#[test]
fn what_stands_behind_a_missing_answer_is_counted_as_if_it_ruled_nothing_out() {
    let rig = Rig::new();
    let text = format!(
        "{MATCHED} WHERE sem_filter('{}')",
        FILTER.replace("doc", "o.doc")
    );
    let filter = "sem_filter('Is {o.doc} about refunds ?'): 6 rows, 5 calls";
    let matched = "sem_match('Is {o.doc} about {d.title}?')";
    assert_eq!(
        rig.told(&text),
        [
            format!("{matched}: at most 6 pairs, 6 calls: 0 known, 6 to be made"),
            format!("{filter}: 0 known, 5 to be made"),
        ]
    );
    let known = ["refunds a", "refunds b", "praise c", "praise d"];
    for doc in known {
        rig.ask("Is {o.doc} about refunds ?", &[doc]);
    }
    // One is missing still.
    assert_eq!(
        rig.told(&text),
        [
            format!("{matched}: at most 6 pairs, 6 calls: 0 known, 6 to be made"),
            format!("{filter}: 4 known, 1 to be made"),
        ]
    );
    rig.ask("Is {o.doc} about refunds ?", &["praise e"]);
    assert_eq!(
        rig.told(&text),
        [
            format!("{matched}: 3 pairs, 3 calls: 0 known, 3 to be made"),
            format!("{filter}: 5 known, 0 to be made"),
        ]
    );
}

#[test]
fn what_cannot_be_counted_is_said() {
    let rig = Rig::new();
    // Of which groups there are, and who is first, answers say.
    let open = "not to be told before answers that it depends on are there";
    assert_eq!(
        rig.told(
            "SELECT kind, sem_filter('Is {kind} bad?') AS is_bad FROM
             (SELECT sem_classify('{doc}', 'a', 'b') AS kind FROM orders) AS o
             GROUP BY kind"
        ),
        [
            format!("sem_filter('Is {{kind}} bad?'): {open}"),
            "sem_classify('{doc}', 'a', 'b'): 6 rows, 5 calls: 0 known, 5 to be made".to_owned(),
        ]
    );
    assert_eq!(
        rig.told("SELECT region, sem_agg('Sum {doc} up') AS d FROM orders GROUP BY region"),
        [
            "sem_agg('Sum {doc} up', max_tokens => 128): 6 rows; how they are read together \
          depends on their groups"
        ]
    );
    assert_eq!(
        rig.told("SELECT id FROM orders ORDER BY sem_rank('Which {doc}?') LIMIT 2"),
        ["sem_rank('Which {doc}?'): 6 rows; who meets whom depends on what is said"]
    );
}

#[test]
fn tokens_are_those_of_what_is_read_and_time_that_of_what_was_measured() {
    let rig = Rig::new();
    let text = "SELECT id, sem_map('Say {doc}', max_tokens => 7, model => small) AS m FROM orders";
    let forecast = rig.forecast(text);
    let task = Task::new("Say {doc}", Output::Text { max_tokens: 7 }).expect("a task");
    let docs = ["refunds a", "refunds b", "praise c", "praise d", "praise e"];
    let n_bytes = docs.map(|doc| {
        let rendered = task.rendered(&[doc.into()]);
        let documents = rendered.documents.iter();
        let documents = documents.map(|(name, text)| name.len() + text.len());
        documents.sum::<usize>() + rendered.instruction.len()
    });
    let n_read = n_bytes.iter().sum::<usize>().div_ceil(BYTES_A_TOKEN);
    let [of] = &forecast.models[..] else {
        panic!("{forecast:?}");
    };
    assert_eq!((of.model.as_deref(), of.n_calls), (Some("small"), 5));
    assert_eq!(of.n_tokens, n_read + 35);
    assert_eq!(of.tokens_a_second, None);
    let mut of = of.clone();
    of.n_tokens = 90;
    assert_eq!(
        of.to_string(),
        "5 calls to be made over 90 tokens; how long that takes is not known, for it has not been \
         measured yet"
    );
    of.tokens_a_second = Some(40.0);
    of.certainty = Certainty::AtMost;
    assert_eq!(
        of.to_string(),
        "at most 5 calls to be made over 90 tokens, about 3 s at the 40 tokens a second measured"
    );
    assert_eq!(of.cost, None, "nobody said what it costs");
    let money = |text: &str| text.parse::<Money>().expect("money");
    let prices = (money("0.5"), None, money("2"));
    let prices = Prices::of_a_million(prices, "USD".parse().expect("a currency"));
    of.cost = Some(prices.expect("prices").cost(55, 0, 35));
    assert!(
        of.to_string()
            .ends_with(" measured; they cost about 0.0000975 USD at most"),
        "{of}"
    );
    // Who was asked is measured.
    rig.ask(FILTER, &["refunds a"]);
    assert!(rig.forecast(text).models[0].tokens_a_second.is_some());
}
