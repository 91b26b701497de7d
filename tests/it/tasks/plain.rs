//! A model with tensors says of rows what plain prompts say: each is read here as one run of tokens.

use std::sync::Arc;

use perennial::ask::scripted::ScriptedEmbedder;
use perennial::ask::task::Subject;
use perennial::ask::{Cancel, Output as TaskOutput, Task, TensorModel, TextCodec as _};
use perennial::bank::FragmentStore;
use perennial::rows::Value;
use perennial::rows::encoding::Encoder;
use perennial::sql::{Outcome, Script, Session};
use perennial::{Engine, Runtime};

use crate::tensors::{CharCodec, decoder};

/// The highest of some tokens behind a prompt that is one plain run, by their logits less those that
/// they have behind another.
fn plainly_chosen(
    decoder: &Arc<perennial::model::decoder::Decoder>,
    (prompt, neutral): (&[u32], &[u32]),
    among: &[u32],
) -> u32 {
    let (of_row, of_none) = (
        plain_logits(decoder, prompt),
        plain_logits(decoder, neutral),
    );
    let score = |token: &u32| of_row[*token as usize] - of_none[*token as usize];
    let best = among.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
    *best.expect("some")
}

/// Greedy descent along the labels, each step over the whole prompt anew.
fn plainly_labelled(task: &Task, labels: &[&str], text: &str) -> Value {
    let decoder = decoder(1);
    let stop = CharCodec.stop().to_vec();
    let mut prompt = plain_prompt(&task.rendered(&[text.into()]));
    let mut neutral = plain_prompt(&task.neutral());
    let of_labels: Vec<Vec<u32>> = labels
        .iter()
        .map(|label| CharCodec.answer(label).expect("text"))
        .collect();
    let mut left: Vec<usize> = (0..labels.len()).collect();
    let mut at = 0;
    while left.len() > 1 {
        let mut among: Vec<u32> = left
            .iter()
            .filter_map(|i| of_labels[*i].get(at).copied())
            .collect();
        let ended = left.iter().copied().find(|i| of_labels[*i].len() == at);
        if ended.is_some() {
            among.extend(&stop);
        }
        among.sort_unstable();
        among.dedup();
        let token = plainly_chosen(&decoder, (&prompt, &neutral), &among);
        if let Some(ended) = ended.filter(|_| stop.contains(&token)) {
            return labels[ended].into();
        }
        left.retain(|i| of_labels[*i].get(at) == Some(&token));
        prompt.push(token);
        neutral.push(token);
        at += 1;
    }
    labels[left[0]].into()
}

/// The tokens of a plain prompt.
fn plain_prompt(rendered: &perennial::ask::task::Rendered) -> Vec<u32> {
    let mut tokens = CharCodec.prefix().to_vec();
    for (name, text) in &rendered.documents {
        tokens.extend(CharCodec.passage(name, text).expect("text"));
    }
    tokens.extend(CharCodec.suffix("", &rendered.instruction).expect("text"));
    tokens
}

/// The logits behind a plain prompt.
fn plain_logits(decoder: &perennial::model::decoder::Decoder, tokens: &[u32]) -> Vec<f32> {
    use perennial::model::decoder::{Logits, Rows};
    let layout = perennial::model::layout::Layout::new();
    let mut tail = decoder.new_tail(0);
    let rows = Rows {
        layout: &layout,
        pending: &[],
        tail: &mut tail,
        tokens,
        logits: Logits::Last,
        mass: false,
    };
    let outputs = decoder.forward(&mut [rows], &Cancel::new());
    outputs.expect("fits").swap_remove(0).logits
}

/// The digit that is to be expected behind a plain prompt, as a share of 9.
fn plainly_scored(task: &Task, text: &str) -> f64 {
    let decoder = decoder(1);
    let of_row = plain_logits(&decoder, &plain_prompt(&task.rendered(&[text.into()])));
    let of_none = plain_logits(&decoder, &plain_prompt(&task.neutral()));
    let weights = ('0'..='9').map(|digit| {
        let token = CharCodec.answer(&digit.to_string()).expect("text")[0] as usize;
        f64::from(of_row[token] - of_none[token]).exp()
    });
    let weights: Vec<f64> = weights.collect();
    let total: f64 = weights.iter().sum();
    let expected: f64 = (0..10)
        .map(|digit| f64::from(digit) * weights[digit as usize])
        .sum();
    (expected / total / 9.0 * 1e4).round() / 1e4
}

/// What a plain prompt is continued with, of all records that there are, written out.
fn plainly_extracted(text: &str) -> String {
    let fields = [
        ("b", perennial::ask::FieldType::Boolean),
        (
            "m",
            perennial::ask::FieldType::OneOf(Arc::from(["ab", "ac"].map(Arc::from))),
        ),
    ];
    let fields = fields.map(|(name, of)| perennial::ask::Field {
        name: name.into(),
        of,
    });
    let output = TaskOutput::Record {
        fields: perennial::ask::Fields::new(fields).expect("fields"),
        max_tokens: 256,
    };
    let task = Task::new("Of {text}", output).expect("sound");
    let mut records = Vec::new();
    for b in ["null", "true", "false"] {
        for m in ["null", "\"ab\"", "\"ac\""] {
            for (x, y) in [("", ""), ("", " "), (" ", ""), (" ", " ")] {
                records.push((format!("{{\"b\":{x}{b}, \"m\":{y}{m}}}"), b, m));
            }
        }
    }
    let decoder = decoder(1);
    let mut tokens = plain_prompt(&task.rendered(&[text.into()]));
    let mut said = String::new();
    loop {
        let begun = records
            .iter()
            .filter(|(record, ..)| record.starts_with(&said));
        let next: std::collections::BTreeSet<char> = begun
            .filter_map(|(record, ..)| record[said.len()..].chars().next())
            .collect();
        let token = |c: char| CharCodec.answer(&c.to_string()).expect("text")[0];
        let next: Vec<u32> = next.into_iter().map(token).collect();
        let token = match next[..] {
            [] => break,
            [only] => only,
            _ => {
                let logits = plain_logits(&decoder, &tokens);
                let best = next.iter().max_by(|a, b| {
                    logits[**a as usize]
                        .total_cmp(&logits[**b as usize])
                        .then(b.cmp(a))
                });
                *best.expect("some")
            }
        };
        said.push_str(&CharCodec.decode(&[token]).expect("text"));
        tokens.push(token);
    }
    let found = records.iter().find(|(record, ..)| *record == said);
    let (_, b, m) = found.expect("a record");
    let shown = |value: &str| match value {
        "null" => "-".to_owned(),
        other => other.trim_matches('"').to_owned(),
    };
    format!("{} {}", shown(b), shown(m))
}

/// What a plain prompt about these texts, each a row, is continued with, in the order in which rows
/// are read together.
fn plainly_written(task: Task, texts: &[&str]) -> Value {
    let decoder = decoder(1);
    let mut rows: Vec<([u8; 32], &str)> = texts
        .iter()
        .map(|text| {
            let place = Encoder::new()
                .values(&[Value::from(*text)])
                .digest("perennial 1 place in a group");
            (place, *text)
        })
        .collect();
    rows.sort();
    let values: Vec<Value> = rows.iter().map(|(_, text)| (*text).into()).collect();
    let rendered = task.rendered(&values);
    let mut tokens = plain_prompt(&rendered);
    let mut said = Vec::new();
    while said.len() < 4 {
        let logits = plain_logits(&decoder, &tokens);
        let best = (0u32..)
            .zip(&logits)
            .max_by(|(i, a), (j, b)| a.total_cmp(b).then(j.cmp(i)));
        let (token, _) = best.expect("some");
        if CharCodec.stop().contains(&token) {
            break;
        }
        said.push(token);
        tokens.push(token);
    }
    Value::text(CharCodec.decode(&said).expect("text").trim())
}

/// Over fragments, in joined passes and from a shared inclination, a choice is that of plain prompts;
/// and what is written is what a plain prompt is continued with.
#[test]
fn a_model_with_tensors_chooses_as_over_plain_prompts() {
    let store = Arc::new(FragmentStore::new(1 << 26));
    let model = TensorModel::new(decoder(1), &[11; 32], CharCodec, store.clone());
    let embedder = Arc::new(ScriptedEmbedder::default());
    let runtime = Runtime::new(Arc::new(model), store, embedder, 1);
    let engine = Engine::builder(runtime).workers(2).start().expect("starts");
    let session = Session::new(engine, "tiny");
    let texts = ["loud", "quiet", "a b c", "no", "open, or opening", "zzz"];
    let labels = ["open", "opening", "shut", "op"];
    let run = |text: &str| {
        let mut found: Vec<(String, Value)> = Vec::new();
        let ran = session.run(&Script::new("t.sql", text), |_, outcome| {
            if let Outcome::Rows { rows, .. } = outcome {
                found = rows
                    .iter()
                    .map(|row| (row[0].to_string(), row[1].clone()))
                    .collect();
            }
            Ok(())
        });
        ran.unwrap_or_else(|error| panic!("{error}"));
        found
    };
    run("CREATE TABLE t (key TEXT, text TEXT)");
    let rows: Vec<String> = texts
        .iter()
        .map(|text| format!("('{text}', '{text}')"))
        .collect();
    run(&format!(
        "INSERT INTO t (key, text) VALUES {}",
        rows.join(", ")
    ));
    let quoted: Vec<String> = labels.iter().map(|label| format!("'{label}'")).collect();
    let chosen = run(&format!(
        "SELECT key, sem_classify('Is {{text}} so?', {}) FROM t ORDER BY key",
        quoted.join(", ")
    ));
    let of: Arc<[Arc<str>]> = labels.iter().map(|label| Arc::from(*label)).collect();
    let task = Task::new("Is {text} so?", TaskOutput::Label(of)).expect("sound");
    assert_eq!(chosen.len(), texts.len());
    for (text, label) in &chosen {
        assert_eq!(*label, plainly_labelled(&task, &labels, text), "{text}");
    }
    let distinct: std::collections::BTreeSet<String> =
        chosen.iter().map(|(_, label)| label.to_string()).collect();
    assert!(distinct.len() > 1, "{chosen:?}");
    // Of several rows, a column is several texts.
    let digests = run("SELECT count(*) AS n, sem_agg('Sum {text} up', max_tokens => 4) FROM t");
    let plain: Vec<Value> = digests.into_iter().map(|(_, said)| said).collect();
    let task = Task::new("Sum {text} up", TaskOutput::Text { max_tokens: 4 }).expect("sound");
    assert_eq!(plain, [plainly_written(task.of(Subject::Rows), &texts)]);
    let scores = run("SELECT key, sem_score('How much is {text} so?') FROM t ORDER BY key");
    let task = Task::new("How much is {text} so?", TaskOutput::Score).expect("sound");
    for (text, score) in &scores {
        // Scores have four decimals; the plain prompt may round to the next.
        let plain = plainly_scored(&task, text);
        let near = [-1e-4, 0.0, 1e-4].map(|by| Value::float(((plain + by) * 1e4).round() / 1e4));
        assert!(near.contains(score), "{text}: {score:?}, {plain}");
    }
    assert!(scores.iter().any(|(_, score)| *score != scores[0].1));
    let records = run(
        "SELECT key, coalesce(CAST(b AS TEXT), '-') || ' ' || coalesce(m, '-') FROM
         (SELECT key, sem_extract('Of {text}', b => BOOLEAN, m => ('ab', 'ac')) FROM t) AS x
         ORDER BY key",
    );
    assert_eq!(records.len(), texts.len());
    for (text, record) in &records {
        assert_eq!(record.to_string(), plainly_extracted(text), "{text}");
    }
    let truths = run("SELECT key, sem_filter('Is {text} so?') FROM t ORDER BY key");
    let task = Task::new("Is {text} so?", TaskOutput::Truth).expect("sound");
    for (text, truth) in truths {
        let said = plainly_labelled(&task, &["Yes", "No"], &text);
        assert_eq!(truth, Value::Boolean(said == "Yes".into()), "{text}");
    }
}
