//! Whatever happened to a memory, it is as one in which the rest never was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::engine::Edit;
use perennial::memory::{Bank, ForgetBy, NewEntry, Recall, RecallBy, Recalled, Retain};
use perennial::{Engine, Runtime};
use proptest::prelude::*;

use super::{answers, declare, latent, memory, standing, standing_question};

/// Something that happens to a memory.
#[derive(Clone, Debug)]
enum Step {
    Store {
        key: u8,
        namespace: u8,
        text: u8,
        at: i64,
        pin: bool,
        supersedes: Option<u8>,
    },
    Delete(u8),
    Grant(u8, u8),
    Revoke(u8, u8),
    Forget(u8, u8),
    Flush,
    Restart,
}

const NAMESPACES: [&str; 3] = ["desk", "attic", "choir"];
const READERS: [&str; 2] = ["bob", "eve"];
const WRITERS: [&str; 2] = ["ada", "max"];
const TEXTS: [&str; 7] = [
    "The library opens at nine.",
    "the library opens at NINE.",
    "The library has a secret door.",
    "A ticket costs twelve crowns.",
    "The choir sings in the library.",
    "Nobody knows the price of a ticket.",
    "Doors open late.",
];
const QUESTIONS: [&str; 3] = [
    "When does the library open?",
    "ticket price",
    "the secret door",
];

fn step() -> impl Strategy<Value = Step> {
    let store = (
        0..8u8,
        0..3u8,
        0..7u8,
        0..6i64,
        any::<bool>(),
        prop::option::of(0..8u8),
    );
    prop_oneof![
        6 => store.prop_map(|(key, namespace, text, at, pin, supersedes)| Step::Store {
            key, namespace, text, at, pin: pin && at == 0, supersedes
        }),
        2 => (0..8u8).prop_map(Step::Delete),
        2 => (0..3u8, 0..2u8).prop_map(|(n, r)| Step::Grant(n, r)),
        1 => (0..3u8, 0..2u8).prop_map(|(n, r)| Step::Revoke(n, r)),
        1 => (0..4u8, 0..3u8).prop_map(|(by, of)| Step::Forget(by, of)),
        2 => Just(Step::Flush),
        1 => Just(Step::Restart),
    ]
}

/// What stands in the table in the end, and who may read what.
#[derive(Default)]
struct Model {
    rows: BTreeMap<String, NewEntryOf>,
    grants: BTreeSet<(&'static str, &'static str)>,
}

/// An entry with what it is forgotten by.
#[derive(Clone)]
struct NewEntryOf {
    entry: NewEntry,
    namespace: &'static str,
    writer: &'static str,
    session: String,
    text: &'static str,
    at: i64,
    is_pinned: bool,
    supersedes: Option<String>,
}

impl Model {
    /// What stands, by the words of the documentation: namespaces, keys, sources.
    fn standing(&self, retain: Option<Retain>) -> Vec<(String, String, Vec<String>)> {
        let mut standing = Vec::new();
        for namespace in NAMESPACES {
            let of = self
                .rows
                .iter()
                .filter(|(_, row)| row.namespace == namespace);
            let of: Vec<(&String, &NewEntryOf)> = of.collect();
            let words = |row: &NewEntryOf| -> Vec<String> {
                let text = row.text.to_lowercase();
                text.split_whitespace().map(str::to_owned).collect()
            };
            // It, or one that says the same, is named by a row that is newer than both.
            let is_superseded = |key: &String, row: &NewEntryOf| {
                of.iter().any(|(newer, by)| {
                    let mut named = of
                        .iter()
                        .filter(|(key, _)| by.supersedes.as_ref() == Some(*key));
                    let is_newer = |key: &String, row: &NewEntryOf| (by.at, *newer) > (row.at, key);
                    is_newer(key, row)
                        && named.any(|&(of, old)| is_newer(of, old) && words(old) == words(row))
                })
            };
            let mut said: BTreeMap<Vec<String>, Vec<(i64, &String, bool)>> = BTreeMap::new();
            for (key, row) in &of {
                if !is_superseded(key, row) {
                    said.entry(words(row))
                        .or_default()
                        .push((row.at, key, row.is_pinned));
                }
            }
            let mut entries = Vec::new();
            for mut same in said.into_values() {
                same.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)));
                let sources = same.iter().map(|(_, key, _)| (*key).clone()).collect();
                let is_pinned = same.iter().any(|(.., is_pinned)| *is_pinned);
                entries.push((is_pinned, same[0].0, same[0].1.clone(), sources));
            }
            entries.sort_by(|a, b| (b.0, b.1, &b.2).cmp(&(a.0, a.1, &a.2)));
            let newest = entries.iter().map(|(_, at, ..)| *at).max().unwrap_or(0);
            match retain {
                None => {}
                Some(Retain::Count(n)) => entries.truncate(usize::try_from(n).expect("few")),
                Some(Retain::Age(age)) => {
                    let age = i64::try_from(age.as_millis()).expect("short");
                    entries.retain(|(is_pinned, at, ..)| *is_pinned || *at >= newest - age);
                }
            }
            let entries = entries.into_iter();
            standing.extend(entries.map(|(_, _, key, of)| (namespace.to_owned(), key, of)));
        }
        standing.sort();
        standing
    }
}

/// A run: an engine over a state directory, with a memory and standing questions of two readers.
struct Run {
    engine: Engine,
    bank: Bank,
    model: Arc<Scripted>,
}

impl Run {
    fn start(dir: Option<&std::path::Path>, retain: Option<Retain>) -> Self {
        let model = Arc::new(Scripted::new());
        let embedder = Arc::new(ScriptedEmbedder::default());
        let runtime = Runtime::scripted(model.clone(), embedder).recalling_by(latent::reader());
        let builder = Engine::builder(runtime);
        // Held, so that the first epoch has all that is declared.
        let mut builder = declare(builder).held();
        if let Some(dir) = dir {
            builder = builder.state(dir);
        }
        let engine = builder.start().expect("starts");
        let memory = match retain {
            Some(retain) => memory().retain(retain),
            None => memory(),
        };
        // Room for the keys of a text or two: most are read from the folder, or by the model again.
        let memory = memory.latent_bytes(3 << 10);
        let bank = Bank::create(&engine, memory).expect("is declared");
        for (at, question) in QUESTIONS.iter().enumerate() {
            let key = format!("q{at}");
            engine
                .apply(vec![Edit::upsert("questions", key, *question).at(0)])
                .expect("runs");
        }
        for reader in READERS {
            standing_question(&engine, &bank, reader);
        }
        engine.release().expect("runs");
        Self {
            engine,
            bank,
            model,
        }
    }

    /// All that a reader can see.
    fn seen_by(&self, reader: Option<&str>) -> (Vec<Recalled>, BTreeMap<String, String>) {
        self.engine.flush().expect("runs");
        let recalled = QUESTIONS.iter().flat_map(|question| {
            let ways = [
                (None, RecallBy::Text),
                (Some(0.7), RecallBy::Text),
                (None, RecallBy::Latent),
                (None, RecallBy::Both),
            ];
            ways.map(|(fold, by)| {
                let mut asked = Recall::new(*question).best(4).by(by);
                if let Some(reader) = reader {
                    asked = asked.reader(reader);
                }
                if let Some(fold) = fold {
                    asked = asked.folding(fold);
                }
                let mut recalled = self.bank.recall(&asked).expect("is recalled");
                // Which epoch it is depends on how it came to be.
                recalled.epoch = None;
                recalled
            })
        });
        let recalled = recalled.collect();
        let answers = match reader {
            Some(reader) => answers(&self.engine, &format!("answers of {reader}")),
            None => BTreeMap::new(),
        };
        (recalled, answers)
    }
}

/// What a run from nothing shows to a reader that is given what they may read, and no more.
fn from_scratch(
    of: &Model,
    reader: Option<&str>,
    retain: Option<Retain>,
) -> (Vec<Recalled>, BTreeMap<String, String>) {
    let run = Run::start(None, retain);
    let may_read = |namespace: &str| {
        reader.is_none_or(|reader| {
            of.grants
                .iter()
                .any(|(n, r)| *n == namespace && *r == reader)
        })
    };
    let rows = of.rows.values().filter(|row| may_read(row.namespace));
    run.bank
        .store_all(rows.map(|row| row.entry.clone()))
        .expect("is stored");
    for (namespace, to) in &of.grants {
        if reader == Some(*to) {
            run.bank.grant(namespace, to).expect("runs");
        }
    }
    run.seen_by(reader)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_a_reader_sees_what_a_run_without_the_rest_shows(
        steps in prop::collection::vec(step(), 1..24),
        retain in prop::option::of(prop_oneof![
            (1..4u64).prop_map(Retain::Count),
            Just(Retain::Age(std::time::Duration::from_millis(2))),
        ]),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut run = Run::start(Some(dir.path()), retain);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Store { key, namespace, text, at, pin, supersedes } => {
                    let (writer, session) = (WRITERS[usize::from(key % 2)], format!("s{}", key % 3));
                    let namespace = NAMESPACES[usize::from(namespace)];
                    let key = format!("k{key}");
                    let entry = NewEntry::new(TEXTS[usize::from(text)])
                        .key(&key)
                        .namespace(namespace)
                        .writer(writer)
                        .session(&session)
                        .pinned(pin)
                        .at(at)
                        .superseding(supersedes.map(|of| format!("k{of}")));
                    run.bank.store(entry.clone()).expect("is stored");
                    model.rows.insert(key, NewEntryOf {
                        entry,
                        namespace,
                        writer,
                        session,
                        text: TEXTS[usize::from(text)],
                        at,
                        is_pinned: pin,
                        supersedes: supersedes.map(|of| format!("k{of}")),
                    });
                }
                Step::Delete(key) => {
                    let key = format!("k{key}");
                    run.bank.delete(&key).expect("runs");
                    model.rows.remove(&key);
                }
                Step::Grant(namespace, reader) => {
                    let pair = (NAMESPACES[usize::from(namespace)], READERS[usize::from(reader)]);
                    run.bank.grant(pair.0, pair.1).expect("runs");
                    model.grants.insert(pair);
                }
                Step::Revoke(namespace, reader) => {
                    let pair = (NAMESPACES[usize::from(namespace)], READERS[usize::from(reader)]);
                    run.bank.revoke(pair.0, pair.1).expect("runs");
                    model.grants.remove(&pair);
                }
                Step::Forget(by, of) => {
                    let (by, of) = (usize::from(by), usize::from(of));
                    let by = match by {
                        0 => ForgetBy::Key(format!("k{of}")),
                        1 => ForgetBy::Session(format!("s{of}")),
                        2 => ForgetBy::Writer(WRITERS[of % 2].to_owned()),
                        _ => ForgetBy::Namespace(NAMESPACES[of].to_owned()),
                    };
                    let n_before = model.rows.len();
                    model.rows.retain(|key, row| match &by {
                        ForgetBy::Key(of) => key != of,
                        ForgetBy::Session(of) => row.session != *of,
                        ForgetBy::Writer(of) => row.writer != of,
                        ForgetBy::Namespace(of) => row.namespace != of,
                    });
                    if let ForgetBy::Namespace(of) = &by {
                        model.grants.retain(|(namespace, _)| namespace != of);
                    }
                    let receipt = run.bank.forget(&by).expect("is forgotten");
                    prop_assert_eq!(receipt.n_records, n_before - model.rows.len());
                    prop_assert_eq!(&receipt.remains, &Vec::<String>::new());
                }
                Step::Flush => drop(run.engine.flush().expect("runs")),
                Step::Restart => {
                    run.engine.flush().expect("runs");
                    drop(run);
                    run = Run::start(Some(dir.path()), retain);
                    run.engine.flush().expect("runs");
                    // What was answered is not asked again.
                    prop_assert_eq!(run.model.n_calls(), 0);
                }
            }
        }
        run.engine.flush().expect("runs");
        prop_assert_eq!(standing(&run.bank), model.standing(retain));
        for reader in [None, Some(READERS[0]), Some(READERS[1])] {
            let seen = run.seen_by(reader);
            prop_assert_eq!(&seen, &from_scratch(&model, reader, retain), "{:?}", reader);
        }
    }
}
