//! Recall by what a model reads: a small one with seeded weights, whose scores mean nothing but are real.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::ask::{LatentReader, TensorModel};
use perennial::bank::FragmentStore;
use perennial::memory::{
    Bank, ForgetBy, Memory, MemoryError, NewEntry, Recall, RecallBy, Recalled,
};
use perennial::model::decoder::QueryHead;
use perennial::model::latent::{KeyBits, LatentProfile, Units};
use perennial::rows::Value;
use perennial::sql::{Outcome, Script, Session};
use perennial::{Engine, Runtime};

use super::{declare, keys, memory};
use crate::tensors::{CharCodec, decoder};

/// A reader of a model with two layers.
pub(super) fn reader() -> Arc<LatentReader> {
    static READER: OnceLock<Arc<LatentReader>> = OnceLock::new();
    let make = || {
        let store = Arc::new(FragmentStore::new(1 << 20));
        let model = TensorModel::new(decoder(1), &[7; 32], CharCodec, store);
        let heads = [(1, 3), (0, 1), (1, 0)].map(|(layer, head)| QueryHead { layer, head });
        let units = Units {
            mean: 1.0,
            spread: 0.5,
        };
        let profile = LatentProfile::new(heads.to_vec(), 2, KeyBits::Four, units);
        Arc::new(model.latent_reader(profile).expect("are heads of it"))
    };
    READER.get_or_init(make).clone()
}

fn runtime() -> Runtime {
    let embedder = Arc::new(ScriptedEmbedder::default());
    Runtime::scripted(Arc::new(Scripted::new()), embedder)
}

fn engine(state: Option<&Path>) -> Engine {
    let builder = declare(Engine::builder(runtime().recalling_by(reader())));
    let builder = match state {
        Some(state) => builder.state(state),
        None => builder,
    };
    builder.start().expect("starts")
}

fn bank(engine: &Engine, memory: Memory) -> Bank {
    let bank = Bank::create(engine, memory).expect("is declared");
    bank.flush().expect("runs");
    bank
}

const TEXTS: [(&str, &str); 4] = [
    ("a", "The library opens at nine."),
    ("b", "A ferry ticket costs twelve crowns."),
    ("c", "The choir sings on Sundays."),
    ("d", "Nobody knows the price."),
];

fn store(bank: &Bank) {
    let entries = TEXTS.iter().zip(0..);
    let entries = entries.map(|((key, text), at)| NewEntry::new(*text).key(*key).at(at));
    bank.store_all(entries).expect("is stored");
    bank.flush().expect("runs");
}

fn latent(bank: &Bank, question: &str) -> Recalled {
    let asked = Recall::new(question).by(RecallBy::Latent).best(4);
    let mut recalled = bank.recall(&asked).expect("is recalled");
    recalled.epoch = None;
    recalled
}

fn n_encoded(bank: &Bank) -> u64 {
    bank.stats()
        .expect("runs")
        .latent
        .expect("is there")
        .n_encoded
}

/// The files of latent keys in a state folder.
fn files(state: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let Ok(folders) = std::fs::read_dir(state.join("latent")) else {
        return files;
    };
    for folder in folders {
        let folder = folder.expect("is read").path();
        for file in std::fs::read_dir(folder).expect("is a folder") {
            files.push(file.expect("is read").path());
        }
    }
    files
}

#[test]
fn scores_are_those_that_the_reader_gives_whatever_else_is_stored() {
    let engine = engine(None);
    let bank = bank(&engine, memory().recall_by(RecallBy::Latent));
    store(&bank);
    // As the memory was declared.
    let question = "When does the library open?";
    let recalled = bank
        .recall(&Recall::new(question).best(4))
        .expect("is recalled");
    assert_eq!(recalled.hits.len(), 4);
    let (reader, asked) = (reader(), reader().queries(question).expect("is read"));
    for hit in &recalled.hits {
        let read = reader.keys(&[("", &*hit.entry.text)]).expect("is read");
        let score = reader.scores(&asked, &[&read[0]])[0];
        assert_eq!(hit.latent.map(f32::to_bits), Some(score.to_bits()));
        assert_eq!((hit.similarity, hit.words), (0.0, 0.0));
        assert_eq!(
            hit.score,
            perennial::memory::LATENT_SCALE * f64::from(score)
        );
    }
    assert!(recalled.hits.is_sorted_by(|a, b| a.score >= b.score));
    // Added to the scores of text, which stay what they are.
    let text = bank.recall(&Recall::new(question).best(4).by(RecallBy::Text));
    let text = text.expect("is recalled");
    let both = bank.recall(&Recall::new(question).best(4).by(RecallBy::Both));
    for hit in both.expect("is recalled").hits {
        let of_text = text.hits.iter().find(|of| of.entry == hit.entry);
        let of_text = of_text.expect("is among all");
        let latent = hit.latent.expect("is scored");
        assert_eq!(of_text.latent, None);
        let sum = of_text.score + perennial::memory::LATENT_SCALE * f64::from(latent);
        assert_eq!(hit.score, sum);
    }
    assert_eq!(n_encoded(&bank), 4);
}

#[test]
fn entries_are_read_once_and_what_is_gone_is_dropped() {
    let engine = engine(None);
    let bank = bank(&engine, memory());
    store(&bank);
    assert_eq!(bank.read_latent().expect("are read"), 4);
    assert_eq!(bank.read_latent().expect("are read"), 0);
    let before = latent(&bank, "price");
    // Stored again with another time: the same text is not read again.
    bank.store(NewEntry::new(TEXTS[0].1).key("a").at(9))
        .expect("is stored");
    bank.store(NewEntry::new("Something else.").key("e"))
        .expect("is stored");
    bank.flush().expect("runs");
    assert_eq!(latent(&bank, "price").n_entries, 5);
    assert_eq!(n_encoded(&bank), 5);
    bank.delete("e").expect("runs");
    bank.store(NewEntry::new(TEXTS[0].1).key("a").at(0))
        .expect("is stored");
    bank.flush().expect("runs");
    assert_eq!(latent(&bank, "price"), before);
    let stats = bank.stats().expect("runs").latent.expect("is there");
    assert_eq!((stats.n_texts, stats.n_encoded), (4, 5));
}

#[test]
fn scores_do_not_depend_on_what_has_room() {
    let wide = engine(None);
    let wide = bank(&wide, memory());
    let narrow_engine = engine(None);
    let narrow = bank(&narrow_engine, memory().latent_bytes(1));
    for bank in [&wide, &narrow] {
        store(bank);
    }
    for question in ["price", "When does the choir sing?"] {
        assert_eq!(latent(&narrow, question), latent(&wide, question));
    }
    let stats = narrow.stats().expect("runs").latent.expect("is there");
    assert_eq!(
        (stats.n_texts, stats.n_bytes, stats.budget_bytes),
        (0, 0, 1)
    );
    assert!(stats.n_encoded > 4, "{stats:?}");
}

#[test]
fn keys_outlive_the_process_and_not_what_they_were_of() {
    let dir = tempfile::tempdir().expect("a folder");
    let before = {
        let engine = engine(Some(dir.path()));
        let bank = bank(&engine, memory());
        store(&bank);
        let before = latent(&bank, "price");
        assert_eq!(files(dir.path()).len(), 4);
        before
    };
    {
        let engine = engine(Some(dir.path()));
        let bank = bank(&engine, memory());
        assert_eq!(latent(&bank, "price"), before);
        let stats = bank.stats().expect("runs").latent.expect("is there");
        assert_eq!((stats.n_encoded, stats.n_restored), (0, 4));
        bank.delete("b").expect("runs");
        bank.flush().expect("runs");
        assert_eq!(latent(&bank, "price").hits.len(), 3);
        assert_eq!(files(dir.path()).len(), 3);
    }
    // Deleted where no memory was open: what was left of it goes when one is.
    {
        let engine = engine(Some(dir.path()));
        engine.delete("turns", "c").expect("runs");
        engine.flush().expect("runs");
    }
    let engine = engine(Some(dir.path()));
    let bank = bank(&engine, memory());
    assert_eq!(latent(&bank, "price").hits.len(), 2);
    assert_eq!(files(dir.path()).len(), 2);
    bank.drop().expect("is dropped");
    assert_eq!(files(dir.path()).len(), 0);
}

#[test]
fn forgetting_leaves_no_keys_whether_the_memory_is_open_or_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let left = {
        let engine = engine(Some(dir.path()));
        let bank = bank(&engine, memory());
        store(&bank);
        latent(&bank, "price");
        assert_eq!(files(dir.path()).len(), 4);
        let receipt = bank.forget(&ForgetBy::Key("b".to_owned()));
        assert_eq!(receipt.expect("is forgotten").remains, Vec::<String>::new());
        assert_eq!(files(dir.path()).len(), 0);
        // What stands is in memory still.
        let left = latent(&bank, "price");
        assert_eq!((left.hits.len(), n_encoded(&bank)), (3, 4));
        bank.store(NewEntry::new("Later.").key("e"))
            .expect("is stored");
        bank.flush().expect("runs");
        latent(&bank, "price");
        assert_eq!(files(dir.path()).len(), 1);
        bank.delete("e").expect("runs");
        bank.flush().expect("runs");
        left
    };
    {
        let engine = engine(Some(dir.path()));
        let bank = bank(&engine, memory());
        assert_eq!(latent(&bank, "price"), left);
        assert_eq!(files(dir.path()).len(), 3);
    }
    // No memory is open.
    let engine = engine(Some(dir.path()));
    engine.forget("turns", "a").expect("is forgotten");
    assert_eq!(files(dir.path()).len(), 0);
}

#[test]
fn a_memory_is_not_recalled_by_what_nobody_can_read() {
    let engine = declare(Engine::builder(runtime())).start().expect("starts");
    let refused = Bank::create(&engine, memory().recall_by(RecallBy::Both));
    let refused = refused.err().expect("is refused");
    assert!(matches!(refused, MemoryError::NoLatent { .. }), "{refused}");
    // Nothing was made: by text it can be.
    let bank = bank(&engine, memory());
    store(&bank);
    let refused = bank.recall(&Recall::new("price").by(RecallBy::Latent));
    assert!(
        matches!(refused, Err(MemoryError::NoLatent { .. })),
        "{refused:?}"
    );
    assert!(matches!(
        bank.read_latent(),
        Err(MemoryError::NoLatent { .. })
    ));
    assert_eq!(
        keys(&bank.recall(&Recall::new("price").best(1)).expect("runs")),
        ["d"]
    );
}

#[test]
fn long_texts_and_questions_are_read_in_windows() {
    let engine = engine(None);
    let bank = bank(&engine, memory());
    let long = "many words of no meaning, ".repeat(100);
    let with_end = format!("{long} The library opens at nine.");
    bank.store(NewEntry::new(&*with_end).key("long"))
        .expect("is stored");
    bank.store(NewEntry::new(TEXTS[1].1).key("b"))
        .expect("is stored");
    bank.flush().expect("runs");
    assert_eq!(latent(&bank, "library").hits.len(), 2);
    let of_long = latent(&bank, &"library ".repeat(500));
    assert!(of_long.hits.iter().all(|hit| hit.score.is_finite()));
}

#[test]
fn statements_say_by_what_a_memory_is_recalled() {
    let engine = engine(None);
    let session = Session::new(engine, "seeded");
    let run = |text: &str| -> Result<Vec<Outcome>, String> {
        let mut outcomes = Vec::new();
        let ran = session.run(&Script::new("test", text), |_, outcome| {
            outcomes.push(outcome);
            Ok(())
        });
        ran.map_err(|error| error.to_string())?;
        Ok(outcomes)
    };
    let outcomes = run("CREATE MEMORY notes FROM turns WITH (RECALL = 'latent', LATENT_BYTES = 65536);
         INSERT INTO turns (key, text) VALUES ('a', 'The library opens at nine.'), ('b', 'A ticket.');
         RECALL 'When does it open?' FROM notes LIMIT 2;");
    let outcomes = outcomes.expect("runs");
    let Some(Outcome::Rows { schema, rows, .. }) = outcomes.last() else {
        panic!("the last are rows");
    };
    let at = schema.position("latent").expect("is a column");
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row[at] != Value::Null));
    let refused = run("CREATE MEMORY x FROM turns WITH (RECALL = 'luck');");
    let said = refused.err().expect("is refused");
    assert!(
        said.contains("expected text, similarity, words, latent or both"),
        "{said}"
    );
}
