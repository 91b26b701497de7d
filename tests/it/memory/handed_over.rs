//! What one memory hands over to another: that it arrives, is used, is believed no further than it was
//! audited, and goes with what it is of. The tensors are real, of a small seeded model.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::ask::{AnswerModel, TensorModel};
use perennial::bank::parcel::{Label, ParcelError, ParcelWriter, Record, Signer};
use perennial::bank::{FragmentId, FragmentStore, HandedOver, PassageId};
use perennial::engine::AnswerUpdate;
use perennial::memory::hand_over::{
    Audit, Export, Exported, HandOverError, Import, Imported, KeptFolder, KeptFragments, Shelf,
    text_id,
};
use perennial::memory::{Bank, Entry, NewEntry};
use perennial::model::cancel::Cancel;
use perennial::model::kv::KvFragment;
use perennial::model::kv::coding::{CodedKv, Coding};
use perennial::{Engine, Policy, Runtime, Scope, Update, View};
use proptest::prelude::*;

use super::{declare, memory};
use crate::rig::Rig;
use crate::tensors::{CharCodec, decoder};

const NOW: i64 = 1_700_000_000_000;
/// Tokens of the prefix, which is never handed over.
const N_PREFIX: usize = 5;

/// A process: a memory, a model with a store of its own, and a folder.
struct Process {
    bank: Bank,
    model: Arc<TensorModel>,
    shelf: FolderShelf,
    _rig: Rig,
    _dir: tempfile::TempDir,
}

/// A folder, and the parcels that are known.
struct FolderShelf {
    folder: KeptFolder,
    known: BTreeSet<String>,
}

impl Shelf for FolderShelf {
    fn knows(&self, root: &[u8; 32]) -> bool {
        let hex: String = root.iter().map(|byte| format!("{byte:02x}")).collect();
        self.known.contains(&hex)
    }

    fn keep(&mut self, kept: &KeptFragments<'_>) -> Result<(), HandOverError> {
        self.folder.keep(kept)
    }

    fn settle(&mut self) -> Result<(), HandOverError> {
        self.folder.settle()
    }

    fn note(&mut self, parcel: &Imported, _: &BTreeSet<PassageId>) -> Result<(), HandOverError> {
        self.known.insert(parcel.root.clone());
        Ok(())
    }
}

fn model() -> Arc<TensorModel> {
    let store = Arc::new(FragmentStore::new(1 << 26));
    Arc::new(TensorModel::new(decoder(1), &[9; 32], CharCodec, store))
}

impl Process {
    fn start() -> Self {
        let rig = Rig::start(Scripted::new(), declare);
        let bank = Bank::create(&rig.engine, memory()).expect("is declared");
        let dir = tempfile::tempdir().expect("a folder");
        Self {
            bank,
            model: model(),
            shelf: FolderShelf {
                folder: KeptFolder::of_state(dir.path()),
                known: BTreeSet::new(),
            },
            _rig: rig,
            _dir: dir,
        }
    }

    fn storing(entries: impl IntoIterator<Item = NewEntry>) -> Self {
        let process = Self::start();
        process.bank.store_all(entries).expect("is stored");
        process.bank.flush().expect("runs");
        process
    }

    fn export(&self, what: &Export) -> Result<(Vec<u8>, Exported), HandOverError> {
        self.export_signed(what, None)
    }

    fn export_signed(
        &self,
        what: &Export,
        signer: Option<&Signer>,
    ) -> Result<(Vec<u8>, Exported), HandOverError> {
        let (mut bytes, spool) = (Vec::new(), Cursor::new(Vec::new()));
        let model = Some(&*self.model);
        let exported = self.bank.export(what, model, signer, spool, &mut bytes)?;
        Ok((bytes, exported))
    }

    fn import(&mut self, bytes: &[u8], how: &Import) -> Result<Imported, HandOverError> {
        let model = Some(&*self.model);
        self.bank.import(bytes, how, model, &mut self.shelf)
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.bank.list(None, None).expect("the owner reads all")
    }

    /// The files of the folder, those that wait included.
    fn files(&self) -> Vec<String> {
        let mut names = Vec::new();
        list(self._dir.path(), &mut names);
        names
    }

    /// The first answer over all that stands, and the one that it is healed to.
    fn answers(&self, scope: Scope, policy: Policy) -> (AnswerUpdate, AnswerUpdate) {
        let store = self.model.store().clone();
        let handed_over = HandedOver::to(store.clone());
        let entries = self.entries();
        let texts = entries.iter().map(|entry| id_of(entry));
        let parts = self.model.parts();
        let held = self.shelf.folder.hold(texts, &parts, &handed_over);
        assert_eq!(held.troubles, [""; 0]);
        let embedder = Arc::new(ScriptedEmbedder::default());
        let runtime = Runtime::new(self.model.clone(), store, embedder, 1);
        let view = View::named("answers")
            .prompt("Say.")
            .context("questions")
            .data_source("docs")
            .scope(scope)
            .policy(policy)
            .max_tokens(24);
        let builder = Engine::builder(runtime).table("docs").table("questions");
        let engine = builder.view(view).start().expect("starts");
        let updates = engine.subscribe("answers").expect("is known");
        for entry in &entries {
            engine
                .upsert_at("docs", &entry.key, &entry.text, entry.updated_at_ms)
                .expect("runs");
        }
        engine.upsert("questions", "q", "What?").expect("runs");
        engine.settle().expect("runs");
        let updates = std::iter::from_fn(|| updates.try_recv());
        let mut answers: Vec<AnswerUpdate> = updates
            .filter_map(|update| match update {
                Update::Answer(answer) => Some(answer),
                _ => None,
            })
            .collect();
        let last = answers.pop().expect("is answered");
        let first = answers.into_iter().next().unwrap_or_else(|| last.clone());
        (first, last)
    }
}

fn list(dir: &Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("is read").path();
        match path.is_dir() {
            true => list(&path, names),
            false => names.push(path.display().to_string()),
        }
    }
}

fn id_of(entry: &Entry) -> PassageId {
    text_id(&entry.key, entry.title.as_deref(), &entry.text)
}

fn text_of(answer: &AnswerUpdate) -> &str {
    answer.new_text().expect("is answered")
}

const HOURS: &str = "The library opens at nine, and at ten on Sundays.";
const FERRY: &str = "A ferry ticket costs twelve crowns.";

fn entry(key: &str, text: &str) -> NewEntry {
    NewEntry::new(text).key(key).at(NOW)
}

fn two_entries() -> Process {
    Process::storing([
        entry("a", HOURS).namespace("desk").writer("ada"),
        entry("b", FERRY).namespace("harbour").session("s1"),
    ])
}

#[test]
fn what_was_audited_is_answered_over_exactly_and_not_read_again() {
    // More than a passage, so that there is a chain.
    let long = format!("{HOURS}\n\n{}\n\n{FERRY}", "The choir sings. ".repeat(60));
    let giver = Process::storing([entry("long", &long)]);
    let (bytes, exported) = giver.export(&Export::at(NOW)).expect("is packed");
    assert!(exported.n_fragments > 1, "{exported:?}");
    let (scratch, _) = giver.answers(Scope::Causal, Policy::Exact);
    assert!(scratch.is_exact);
    let mut taker = Process::start();
    let how = Import::at(NOW).auditing(Audit::Everything);
    let imported = taker.import(&bytes, &how).expect("is taken");
    assert_eq!(imported.n_audited, exported.n_fragments);
    assert_eq!((imported.n_stand_ins, imported.n_entries), (0, 1));
    let (answer, _) = taker.answers(Scope::Causal, Policy::Exact);
    assert!(answer.is_exact);
    assert_eq!(text_of(&answer), text_of(&scratch));
    assert_eq!(answer.work.n_encoded, N_PREFIX);
    // Who has only the text reads all of it.
    let alone = Process::storing([entry("long", &long)]);
    let (read, _) = alone.answers(Scope::Causal, Policy::Exact);
    assert_eq!(text_of(&read), text_of(&answer));
    assert_eq!(read.work.n_encoded, N_PREFIX + exported.n_tokens);
}

#[test]
fn what_was_not_audited_makes_an_answer_provisional_and_is_healed() {
    let giver = two_entries();
    let (bytes, exported) = giver.export(&Export::at(NOW)).expect("is packed");
    let (scratch, _) = giver.answers(Scope::Independent, Policy::Exact);
    let mut taker = Process::start();
    let imported = taker.import(&bytes, &Import::at(NOW)).expect("is taken");
    assert_eq!(imported.n_audited, 0);
    assert_eq!(imported.n_stand_ins, exported.n_fragments);
    // Exact answers do not look at it.
    let (exact, _) = taker.answers(Scope::Independent, Policy::Exact);
    assert!(exact.is_exact);
    assert_eq!(exact.work.n_encoded, N_PREFIX + exported.n_tokens);
    assert_eq!(text_of(&exact), text_of(&scratch));
    // Others are quick, and say so.
    taker.model = model();
    let (first, last) = taker.answers(Scope::Independent, Policy::Eventual);
    assert!(!first.is_exact && first.drift > 0.0, "{first:?}");
    assert_eq!(first.work.n_encoded, N_PREFIX);
    assert_eq!(text_of(&first), text_of(&scratch));
    assert!(last.is_exact);
    assert_eq!(text_of(&last), text_of(&scratch));
    // Passages that were read apart are joined by tokens that are read here.
    taker.model = model();
    let joined = Scope::Boundary { tokens: 8 };
    let (first, last) = taker.answers(joined, Policy::Eventual);
    assert!(
        !first.is_exact && first.drift > 0.0 && last.is_exact,
        "{first:?}"
    );
    assert_eq!(first.work.n_encoded, N_PREFIX + 8);
    let (of_giver, _) = giver.answers(joined, Policy::Exact);
    assert_eq!(text_of(&first), text_of(&of_giver));
    assert_eq!(text_of(&last), text_of(&of_giver));
    // Under the plain prompt the first entry's is used, and what is read behind it is no more exact.
    taker.model = model();
    let (first, last) = taker.answers(Scope::Causal, Policy::Eventual);
    assert!(!first.is_exact && last.is_exact);
    assert!(first.work.n_encoded < N_PREFIX + exported.n_tokens);
    let (scratch, _) = giver.answers(Scope::Causal, Policy::Exact);
    assert_eq!(text_of(&first), text_of(&scratch));
    assert_eq!(text_of(&last), text_of(&scratch));
}

#[test]
fn what_came_coded_is_near_what_it_was_and_exact_once_it_was_audited() {
    let giver = two_entries();
    let (plain, whole) = giver.export(&Export::at(NOW)).expect("is packed");
    for coding in [Coding::K8V4, Coding::T4, Coding::Q8Blocks, Coding::Q4Blocks] {
        let (bytes, exported) = giver
            .export(&Export::at(NOW).coded(coding))
            .expect("is packed");
        assert_eq!(exported.coding, Some(coding.to_string()));
        // Keys of a few tokens in four bits come back too far off: they are only named.
        if coding == Coding::Q4Blocks {
            assert_eq!(
                (exported.n_fragments, exported.n_named),
                (0, whole.n_fragments)
            );
            continue;
        }
        assert_eq!(exported.n_fragments, whole.n_fragments);
        assert_eq!(exported.n_tokens, whole.n_tokens);
        // A header of codes costs as much as some tokens of this small model.
        assert!(exported.n_bytes < whole.n_bytes, "{coding}: {exported:?}");
        assert!(bytes.len() < plain.len());
        // It stands in, and that is told.
        let mut taker = Process::start();
        let imported = taker.import(&bytes, &Import::at(NOW)).expect("is taken");
        assert_eq!(
            (imported.n_audited, imported.n_stand_ins),
            (0, exported.n_fragments)
        );
        let (scratch, _) = giver.answers(Scope::Independent, Policy::Exact);
        let (first, last) = taker.answers(Scope::Independent, Policy::Eventual);
        assert!(!first.is_exact && last.is_exact, "{first:?}");
        assert_eq!(first.work.n_encoded, N_PREFIX);
        assert_eq!(text_of(&last), text_of(&scratch));
        // An audit knows codes of what the model computes, and keeps what it computed.
        let mut auditor = Process::start();
        let how = Import::at(NOW).auditing(Audit::Everything);
        let imported = auditor.import(&bytes, &how).expect("is taken");
        assert_eq!(imported.n_audited, exported.n_fragments);
        let (answer, _) = auditor.answers(Scope::Independent, Policy::Exact);
        assert!(answer.is_exact);
        assert_eq!(text_of(&answer), text_of(&scratch));
        assert_eq!(answer.work.n_encoded, N_PREFIX);
    }
}

#[test]
fn codes_of_other_numbers_do_not_pass_an_audit() {
    let (giver, liar) = (two_entries(), two_entries());
    let frame = giver.model.decoder().key_frame();
    let label = Label {
        model: Some(giver.model.parts()),
        written_at_ms: NOW,
        expires_at_ms: None,
        writer: String::new(),
        is_coded: true,
    };
    let mut parcel = ParcelWriter::new(label, Cursor::new(Vec::new())).expect("is begun");
    let mut prefix = None;
    for entry in liar.entries() {
        let record = parcel.record(Record {
            key: entry.key.to_string(),
            namespace: entry.namespace.to_string(),
            text: entry.text.to_string(),
            updated_at_ms: NOW,
            ..Record::default()
        });
        let record = record.expect("is taken");
        let plan = liar.model.plan_of_text(&entry.key, &entry.text);
        let plan = plan.expect("has tokens");
        let before = *prefix.get_or_insert_with(|| {
            let named = parcel.named(None, None, &plan.prefix.tokens);
            named.expect("is named")
        });
        let fragments = liar.model.fragments_of(&plan, &Cancel::new());
        for (piece, kv) in plan.pieces().zip(fragments.expect("are computed")) {
            // A number of it is another.
            let mut bytes = kv.to_bytes();
            bytes[0] ^= 0x80;
            let n_tokens = piece.tokens.len();
            let kv = KvFragment::from_bytes(kv.shape(), 0, n_tokens, &bytes).expect("is one");
            let coded = CodedKv::encode(&kv, Coding::K8V4, &frame).expect("is coded");
            let added = parcel.coded(Some(before), Some(record), &piece.tokens, &coded);
            added.expect("is packed");
        }
    }
    let mut bytes = Vec::new();
    parcel.finish(&mut bytes, None).expect("is written");
    let mut taker = Process::start();
    let how = Import::at(NOW).auditing(Audit::Everything);
    let refused = taker.import(&bytes, &how);
    assert!(
        matches!(refused, Err(HandOverError::NotComputed { .. })),
        "{refused:?}"
    );
    assert!(taker.entries().is_empty());
}

#[test]
fn entries_come_with_all_that_is_said_of_them() {
    let giver = two_entries();
    let (bytes, _) = giver.export(&Export::at(NOW)).expect("is packed");
    let mut taker = Process::start();
    taker.import(&bytes, &Import::at(NOW)).expect("is taken");
    let [given, taken] = [&giver, &taker].map(|of| {
        let entries = of.entries().into_iter();
        entries.map(|entry| (*entry).clone()).collect::<Vec<_>>()
    });
    assert_eq!(given, taken);
    // Or all in a namespace of their own.
    let mut taker = Process::start();
    let how = Import::at(NOW).into_namespace("guests");
    taker.import(&bytes, &how).expect("is taken");
    let namespaces = taker.entries();
    assert!(namespaces.iter().all(|entry| &*entry.namespace == "guests"));
}

#[test]
fn a_reader_hands_over_what_they_may_read_as_if_there_were_no_more() {
    let giver = two_entries();
    let all = Export::at(NOW);
    let refused = giver.export(&all.clone().reader("bob"));
    assert!(matches!(refused, Err(HandOverError::Nothing)));
    let hidden = giver.export(&all.clone().reader("bob").namespace("desk"));
    let none = giver.export(&all.clone().reader("bob").namespace("nowhere"));
    let said = [hidden, none].map(|refused| refused.expect_err("may not be read").to_string());
    assert_eq!(said[0].replace("desk", "nowhere"), said[1]);
    giver.bank.grant("desk", "bob").expect("is granted");
    giver.bank.flush().expect("runs");
    let (bytes, exported) = giver.export(&all.clone().reader("bob")).expect("is packed");
    assert_eq!(exported.n_entries, 1);
    let never = Process::storing([entry("a", HOURS).namespace("desk").writer("ada")]);
    let (expected, _) = never.export(&all).expect("is packed");
    assert!(bytes == expected, "what is hidden shows in the parcel");
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let giver = two_entries();
    let signer = Signer::of(&[3; 32]).expect("a key");
    let what = Export::at(NOW).expiring_at(NOW + 10);
    let (bytes, _) = giver
        .export_signed(&what, Some(&signer))
        .expect("is packed");
    let mut taker = Process::storing([entry("other", "Tea is at four.")]);
    let how = Import::at(NOW).auditing(Audit::Everything);
    let mut is_refused = |bytes: &[u8], how: &Import| {
        let refused = taker.import(bytes, how).expect_err("is refused");
        taker.bank.flush().expect("runs");
        assert_eq!(taker.entries().len(), 1, "{refused}");
        // What waited goes with the next look.
        taker
            .shelf
            .folder
            .sweep(&BTreeSet::new())
            .expect("is swept");
        assert_eq!(taker.files(), [""; 0], "{refused}");
        refused
    };
    let step = bytes.len() / 60;
    for at in (0..bytes.len()).step_by(step) {
        is_refused(&bytes[..at], &how);
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        is_refused(&flipped, &how);
    }
    let late = is_refused(&bytes, &Import::at(NOW + 10));
    assert!(late.to_string().contains("expired"), "{late}");
    let strange = is_refused(&bytes, &Import::at(NOW).trusting([[1; 32]]));
    assert!(strange.to_string().contains("not trusted"), "{strange}");
    is_refused(&bytes, &Import::at(NOW).at_most(10));
    // It is one, for all that.
    let how = Import::at(NOW).trusting([*signer.public()]);
    let imported = taker.import(&bytes, &how).expect("is taken");
    assert_eq!(taker.entries().len(), 3);
    let replayed = taker.import(&bytes, &how).expect_err("came before");
    assert!(replayed.to_string().contains(&imported.root), "{replayed}");
}

#[test]
fn another_model_is_named_and_its_texts_are_taken_alone() {
    let giver = two_entries();
    let (bytes, _) = giver.export(&Export::at(NOW)).expect("is packed");
    let mut taker = Process::start();
    let store = Arc::new(FragmentStore::new(1 << 26));
    taker.model = Arc::new(TensorModel::new(decoder(1), &[8; 32], CharCodec, store));
    let refused = taker.import(&bytes, &Import::at(NOW)).expect_err("another");
    let said = refused.to_string();
    for weights in ["09".repeat(32), "08".repeat(32)] {
        assert!(said.contains(&weights), "{said}");
    }
    let imported = taker
        .bank
        .import(&bytes[..], &Import::at(NOW), None, &mut taker.shelf)
        .expect("is taken");
    assert!(imported.n_left_out > 0 && imported.n_stand_ins == 0);
    assert_eq!((taker.entries().len(), taker.files().len()), (2, 0));
}

#[test]
fn a_key_that_is_taken_here_is_not_written_over_unless_that_is_asked_for() {
    let giver = two_entries();
    let (bytes, _) = giver.export(&Export::at(NOW)).expect("is packed");
    let mut taker = Process::storing([entry("a", "Something else.")]);
    let refused = taker
        .import(&bytes, &Import::at(NOW))
        .expect_err("is taken");
    assert!(matches!(&refused, HandOverError::Taken { key } if key == "a"));
    assert_eq!(&*taker.entries()[0].text, "Something else.");
    let how = Import::at(NOW).replacing(true);
    taker.import(&bytes, &how).expect("is taken");
    let entries = taker.entries();
    assert!(entries.iter().any(|entry| &*entry.text == HOURS));
    // The same under the same key is no conflict.
    let mut same = Process::storing([entry("a", HOURS).namespace("desk").writer("ada")]);
    same.import(&bytes, &Import::at(NOW)).expect("is taken");
}

#[test]
fn what_is_missing_is_all_that_travels_and_goes_to_what_came_before() {
    let long = format!("{HOURS}\n\n{}", "The choir sings. ".repeat(90));
    let giver = Process::storing([entry("long", &long)]);
    let (whole, all) = giver.export(&Export::at(NOW)).expect("is packed");
    assert!(all.n_fragments > 2, "{all:?}");
    let plan = giver.model.plan_of_text("long", &long).expect("is cut");
    let ids: Vec<FragmentId> = plan.pieces().map(|piece| piece.id).collect();
    let parts = giver.model.parts();
    let mut taker = Process::start();
    // First a parcel with the beginning alone, then one with what is missing.
    let what = Export::at(NOW).without(ids[1..].iter().copied());
    let (begin, first) = giver.export(&what).expect("is packed");
    assert_eq!((first.n_fragments, first.n_named), (1, all.n_fragments - 1));
    let how = Import::at(NOW).auditing(Audit::Everything);
    taker.import(&begin, &how).expect("is taken");
    let have = taker
        .shelf
        .folder
        .ids([text_id("long", None, &long)], &parts);
    assert_eq!(have, BTreeSet::from([ids[0]]));
    let what = Export::at(NOW).without(have);
    let (rest, second) = giver.export(&what).expect("is packed");
    assert_eq!(
        (second.n_fragments, second.n_named),
        (all.n_fragments - 1, 1)
    );
    assert!(rest.len() < whole.len());
    taker.import(&rest, &how).expect("is taken");
    let (answer, _) = taker.answers(Scope::Causal, Policy::Exact);
    assert_eq!(answer.work.n_encoded, N_PREFIX);
}

#[test]
fn what_was_handed_over_goes_with_its_text_and_only_the_user_may_read_it() {
    let giver = two_entries();
    let (bytes, _) = giver.export(&Export::at(NOW)).expect("is packed");
    let mut taker = Process::start();
    taker.import(&bytes, &Import::at(NOW)).expect("is taken");
    assert_eq!(taker.files().len(), 2);
    #[cfg(unix)]
    for file in taker.files() {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&file).expect("is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{file}");
    }
    let kept = BTreeSet::from([text_id("a", None, HOURS)]);
    assert_eq!(taker.shelf.folder.sweep(&kept).expect("is swept"), 1);
    assert_eq!(taker.files().len(), 1);
    // One that somebody changed is told, and encoded again.
    let file = taker.files().remove(0);
    let mut bytes = std::fs::read(&file).expect("is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("is written");
    let handed_over = HandedOver::to(taker.model.store().clone());
    let parts = taker.model.parts();
    let held = taker.shelf.folder.hold(kept, &parts, &handed_over);
    assert_eq!((held.n_stand_ins, held.troubles.len()), (0, 1));
}

/// A parcel of one entry, with one of its fragments changed and all digests made anew.
fn tampered(model: &TensorModel, at: prop::sample::Index, bit: u8) -> Option<Vec<u8>> {
    let plan = model.plan_of_text("a", HOURS).expect("is cut");
    let kvs = model.fragments_of(&plan, &Cancel::new()).expect("runs");
    let label = Label {
        model: Some(model.parts()),
        written_at_ms: NOW,
        expires_at_ms: None,
        writer: String::new(),
        is_coded: false,
    };
    let spool = Cursor::new(Vec::new());
    let mut parcel = ParcelWriter::new(label, spool).expect("is begun");
    let record = Record {
        key: "a".to_owned(),
        namespace: "desk".to_owned(),
        text: HOURS.to_owned(),
        updated_at_ms: NOW,
        ..Record::default()
    };
    let record = parcel.record(record).expect("is taken");
    let prefix = parcel.named(None, None, &plan.prefix.tokens);
    let mut before = prefix.expect("is named");
    for (n, (piece, kv)) in plan.pieces().zip(kvs).enumerate() {
        let mut bytes = kv.to_bytes();
        if n == 0 {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let kv = KvFragment::from_bytes(kv.shape(), 0, kv.n_tokens(), &bytes)?;
        let packed = parcel.whole(Some(before), Some(record), &piece.tokens, &kv);
        before = packed.expect("is packed");
    }
    let mut bytes = Vec::new();
    parcel.finish(&mut bytes, None).expect("is written");
    Some(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Who changes a bit and writes all digests anew is found by an audit; without one, what they
    /// wrote is never taken for exact.
    #[test]
    fn whoever_tampers_is_found_by_the_audit_and_never_believed(
        at: prop::sample::Index,
        bit in 0u8..8,
    ) {
        let mut taker = Process::start();
        let bytes = tampered(&taker.model, at, bit).expect("has the length");
        taker.model = model();
        for audit in [Audit::Everything, Audit::Sample(1)] {
            let how = Import::at(NOW).auditing(audit);
            let refused = taker.import(&bytes, &how).expect_err("is found");
            let is_named = matches!(
                &refused,
                HandOverError::NotComputed { key, .. } if key == "a"
            ) || matches!(
                // A bit of an exponent, or one behind the last token.
                &refused,
                HandOverError::Parcel(ParcelError::NotFinite { .. })
            );
            prop_assert!(is_named, "{refused}");
        }
        if taker.import(&bytes, &Import::at(NOW)).is_ok() {
            let (first, last) = taker.answers(Scope::Causal, Policy::Eventual);
            prop_assert!(!first.is_exact);
            let honest = Process::storing([entry("a", HOURS).namespace("desk")]);
            let (scratch, _) = honest.answers(Scope::Causal, Policy::Exact);
            prop_assert!(last.is_exact);
            prop_assert_eq!(text_of(&last), text_of(&scratch));
        }
    }
}

#[test]
fn a_fragment_of_another_text_is_refused() {
    let model = model();
    let [of_a, of_b] = [HOURS, FERRY].map(|text| model.plan_of_text("a", text).expect("is cut"));
    assert_ne!(of_a.prefix.tokens.len(), 0);
    let kvs = model.fragments_of(&of_b, &Cancel::new()).expect("runs");
    let label = Label {
        model: Some(model.parts()),
        written_at_ms: NOW,
        expires_at_ms: None,
        writer: String::new(),
        is_coded: false,
    };
    let spool = Cursor::new(Vec::new());
    let mut parcel = ParcelWriter::new(label, spool).expect("is begun");
    let record = Record {
        key: "a".to_owned(),
        namespace: "desk".to_owned(),
        text: HOURS.to_owned(),
        ..Record::default()
    };
    let record = parcel.record(record).expect("is taken");
    let prefix = parcel.named(None, None, &of_b.prefix.tokens);
    let prefix = prefix.expect("is named");
    let piece = of_b.pieces().next().expect("one");
    let packed = parcel.whole(Some(prefix), Some(record), &piece.tokens, &kvs[0]);
    packed.expect("is packed");
    let mut bytes = Vec::new();
    parcel.finish(&mut bytes, None).expect("is written");
    let mut taker = Process::start();
    let refused = taker.import(&bytes, &Import::at(NOW));
    assert!(matches!(
        refused,
        Err(HandOverError::NotOfItsText { fragment: 1 })
    ));
    assert_eq!(AnswerModel::n_prefix_tokens(&*model), N_PREFIX);
}
