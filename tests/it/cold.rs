//! Fragments on disk change what an answer costs, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use perennial::ask::TensorModel;
use perennial::ask::scripted::ScriptedEmbedder;
use perennial::bank::{FragmentId, FragmentStore};
use perennial::model::decoder::Decoder;
use perennial::{Engine, Order, Policy, Runtime, Scope, state};
use proptest::prelude::*;

use crate::history::{Step, steps};
use crate::tensors::{Case, CharCodec, PLAIN, Rig, collections, decoder, policies, text};

/// Room for all of a case here.
const DISK: u64 = 1 << 26;
/// Room for all of it in memory.
const MEMORY: usize = 1 << 26;

fn rig(case: &Case, decoder: &Arc<Decoder>, state: &Path, disk: u64) -> Rig {
    case.rig_with(decoder, case.workers, case.store_bytes, |builder| {
        builder.state(state).fragments_on_disk(disk)
    })
}

fn segments(state: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(state.join("fragments")).expect("a folder");
    files.map(|file| file.expect("a file").path()).collect()
}

/// Tokens encoded for the answer to an edit of the last document, right after a restart.
fn n_encoded_after_restart(case: &Case, state: &Path, damage: impl FnOnce()) -> usize {
    let decoder = decoder(2);
    let mut collections = collections();
    collections.documents = (0..8).map(|i| (i, (i * 9, 0))).collect();
    collections.questions.insert(0, 1);
    let mut before = rig(case, &decoder, state, DISK);
    collections.fill(&mut before.engine);
    before.engine.settle().expect("runs");
    drop(before);
    damage();
    let mut after = rig(case, &decoder, state, DISK);
    collections.fill(&mut after.engine);
    after.engine.settle().expect("runs");
    let updates = after.engine.subscribe("answers").expect("known");
    updates.answers().next().expect("present");
    collections.documents.insert(7, (200, 0));
    let edited = text(200);
    after
        .engine
        .upsert_at("docs", "7", &edited, 0)
        .expect("runs");
    after.engine.settle().expect("runs");
    let told = updates.answers().next().expect("told");
    let mut fresh = case.rig(&decoder, 1, MEMORY);
    collections.fill(&mut fresh.engine);
    assert_eq!(after.texts(), fresh.texts());
    assert_eq!(after.contents(), fresh.contents());
    told.work.n_encoded
}

#[test]
fn an_edit_after_a_restart_encodes_what_it_touches() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    let [whole, gone, damaged] = [&dirs[0], &dirs[1], &dirs[2]].map(|dir| dir.path());
    let kept = n_encoded_after_restart(&PLAIN, whole, || {});
    assert!(kept <= text(200).len() + "7: \u{20}".len(), "{kept}");
    let lost = n_encoded_after_restart(&PLAIN, gone, || {
        fs::remove_dir_all(gone.join("fragments")).expect("removed");
    });
    assert!(lost > 3 * kept, "{lost} {kept}");
    // What of a segment is damaged is encoded again, and the answer is the same.
    let some = n_encoded_after_restart(&PLAIN, damaged, || {
        let path = &segments(damaged)[0];
        let mut bytes = fs::read(path).expect("read");
        let half = bytes.len() / 2;
        for byte in bytes[..half].iter_mut().skip(2_000).step_by(1_000) {
            *byte ^= 4;
        }
        fs::write(path, bytes).expect("written");
        let found = state::check(damaged).expect("whole");
        assert!(found.n_damaged_fragments > 0, "{found:?}");
    });
    assert!(kept < some && some <= lost, "{kept} {some} {lost}");
}

#[test]
fn without_disk_none_is_used() {
    let dir = tempfile::tempdir().expect("a folder");
    n_encoded_after_restart(&PLAIN, dir.path(), || {});
    assert!(state::check(dir.path()).expect("whole").n_fragments > 0);
    drop(rig(&PLAIN, &decoder(1), dir.path(), 0));
    assert_eq!(segments(dir.path()), [] as [PathBuf; 0]);
}

#[test]
fn what_is_forgotten_leaves_no_fragment_on_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let decoder = decoder(2);
    let case = Case {
        order: Order::UpdatedAt,
        ..PLAIN
    };
    let mut rig = rig(&case, &decoder, dir.path(), DISK);
    let mut collections = collections();
    collections.documents = (0..6).map(|i| (i, (i * 9, i64::from(i)))).collect();
    collections.questions.insert(0, 1);
    collections.fill(&mut rig.engine);
    rig.engine.settle().expect("runs");
    let before = rig.store.ids();
    let canary = "The canary nests behind the old pump house.";
    rig.engine.upsert_at("docs", "3b", canary, 3).expect("runs");
    rig.engine.settle().expect("runs");
    let after = rig.store.ids();
    let own: Vec<FragmentId> = after.difference(&before).copied().collect();
    assert!(own.len() > 1, "its own, and those that attended to it");
    // What is written behind the epoch is on disk at the latest when something else is asked.
    let is_on_disk = |id: &FragmentId| {
        segments(dir.path()).iter().any(|path| {
            let bytes = fs::read(path).expect("read");
            bytes.windows(32).any(|window| window == id.as_bytes())
        })
    };
    let written = |ids: &[FragmentId]| ids.iter().all(&is_on_disk);
    for _ in 0..500 {
        if written(&own) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(written(&own), "not written");
    let receipt = rig.engine.forget("docs", "3b").expect("forgets");
    assert!(receipt.remains.is_empty(), "{receipt:?}");
    assert!(receipt.n_fragments >= own.len(), "{receipt:?}");
    assert!(!own.iter().any(is_on_disk), "found");
    let mut fresh = case.rig(&decoder, 1, MEMORY);
    collections.fill(&mut fresh.engine);
    assert_eq!(rig.texts(), fresh.texts());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_the_history_and_the_room_answers_and_fragments_are_those_of_a_fresh_run(
        policy in policies(),
        scope in prop::sample::select(vec![Scope::Causal, Scope::Boundary { tokens: 16 }]),
        store_bytes in prop::sample::select(vec![20_000usize, MEMORY]),
        disk in prop::sample::select(vec![0u64, 60_000, DISK]),
        workers in 1usize..3,
        steps in steps(5, 0..=u8::MAX, 2, 0..4, 4..16),
    ) {
        let case = Case { policy, scope, workers, store_bytes, ..PLAIN };
        let decoder = decoder(2);
        let state = tempfile::tempdir().expect("a folder");
        let mut collections = collections();
        collections.questions.insert(0, 0);
        let mut last = None;
        for (at, part) in (0..).zip(steps.split(|step| matches!(step, Step::Restart))) {
            // One engine at a time has the directory.
            drop(last.take());
            let mut started = rig(&case, &decoder, state.path(), disk);
            collections.fill(&mut started.engine);
            let ended = collections.go_on(started, part.to_vec(), at * 100);
            ended.engine.flush().expect("runs");
            last = Some(ended);
        }
        let mut rig = last.expect("a part");
        rig.engine.settle().expect("runs");
        let exact = Case { policy: Policy::Exact, ..case };
        let mut fresh = exact.rig(&decoder, 1, MEMORY);
        collections.fill(&mut fresh.engine);
        prop_assert_eq!(rig.texts(), fresh.texts());
        // What a restart found answered was not read.
        let right = fresh.contents();
        prop_assert!(rig.contents().iter().all(|fragment| right.contains(fragment)));
        let n_bytes = |path: &PathBuf| fs::metadata(path).expect("there").len();
        prop_assert!(segments(state.path()).iter().map(n_bytes).sum::<u64>() <= disk);
        drop(rig);
        prop_assert_eq!(state::check(state.path()).expect("whole").n_damaged_fragments, 0);
    }
}

#[test]
fn an_engine_that_ended_holds_nothing_for_the_next_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Arc::new(FragmentStore::new(MEMORY));
    let model = TensorModel::new(decoder(2), &[9; 32], CharCodec, store.clone());
    let embedder = Arc::new(ScriptedEmbedder::default());
    let runtime = Runtime::new(Arc::new(model), store.clone(), embedder, 1);
    let start = |state: &str| {
        Engine::builder(runtime.clone())
            .table("docs")
            .table("questions")
            .view(PLAIN.view())
            .state(dir.path().join(state))
            .start()
            .expect("starts")
    };
    let mut collections = collections();
    collections.documents = (0..4).map(|i| (i, (i * 9, 0))).collect();
    collections.questions.insert(0, 1);
    let mut first = start("one");
    collections.fill(&mut first);
    first.flush().expect("runs");
    // Another beside it keeps nothing: not in its own directory, nor in that of the first.
    let beside = start("other");
    beside
        .upsert("docs", "guest", "The guest is a canary.")
        .expect("runs");
    beside.upsert("questions", "q", "Who?").expect("runs");
    beside.flush().expect("runs");
    drop(beside);
    let ended = store.ids();
    drop(first);
    let again = start("one");
    for key in 0..4 {
        again.forget("docs", &key.to_string()).expect("forgets");
    }
    let receipt = again.forget("docs", "0").expect("forgets");
    assert!(receipt.remains.is_empty(), "{receipt:?}");
    let left = store.ids();
    assert!(
        left.len() < 2 && ended.len() > 4,
        "{left:?} of {}",
        ended.len()
    );
    for path in segments(&dir.path().join("one")) {
        let bytes = fs::read(path).expect("read");
        let is_there = |id: &&FragmentId| bytes.windows(32).any(|w| w == id.as_bytes());
        assert_eq!(ended.iter().filter(is_there).count(), left.len());
    }
    assert_eq!(segments(&dir.path().join("other")), [] as [PathBuf; 0]);
}
