use std::fs;

use perennial_model::kv::KvShape;

use super::*;

const SHAPE: KvShape = KvShape {
    n_layers: 1,
    n_kv_heads: 2,
    head_dim: 16,
};
/// Bytes of an entry of the fragment that [`fragment`] makes.
const ENTRY_BYTES: u64 = 112 + 2 * 32 * (16 + 3);

/// Three tokens, told apart by a number.
pub(super) fn fragment(number: u8) -> KvFragment {
    let n_bytes = SHAPE.n_bytes(3).expect("a shape");
    KvFragment::from_bytes(SHAPE, 4, 3, &vec![number; n_bytes]).expect("as many bytes")
}

pub(super) fn id(number: u8) -> FragmentId {
    FragmentId::from_bytes([number; 32])
}

fn open(dir: &Path, budget_bytes: u64) -> ColdTier {
    ColdTier::open(dir, budget_bytes).expect("opens")
}

/// Keeps fragments in a tier of which these are live.
fn sweep(tier: &ColdTier, live: &[u8], in_memory: &[u8]) {
    let live: HashSet<FragmentId> = live.iter().copied().map(id).collect();
    let held: Vec<_> = in_memory
        .iter()
        .map(|i| (id(*i), Arc::new(fragment(*i))))
        .collect();
    let entries = held.iter().map(|(id, kv)| (id, kv, 3));
    tier.sweep(|id| live.contains(id), entries);
    // What is wanted is written before that ends; the fragments are in memory until then.
    tier.purge(live).expect("purged");
    drop(held);
}

/// Everything that is read, and that it is what was written.
fn numbers(tier: &ColdTier) -> Vec<u8> {
    let held = (0..=u8::MAX).filter(|i| tier.contains(&id(*i)));
    let read = held.filter(|i| {
        let read = tier.get(&id(*i));
        read.is_some_and(|(kv, cost)| kv == fragment(*i) && cost == 3)
    });
    read.collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let paths = segments(dir).expect("a folder").into_values();
    paths.collect()
}

#[test]
fn what_was_kept_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let tier = open(dir.path(), 1 << 20);
    sweep(&tier, &[1, 2, 3], &[1, 2, 3]);
    tier.close();
    let again = open(dir.path(), 1 << 20);
    assert_eq!(numbers(&again), [1, 2, 3]);
    // The segment of the process before is the one that is appended to, and compacted.
    sweep(&again, &[2, 3, 4], &[4]);
    assert_eq!(
        (numbers(&again), again.take_trouble()),
        (vec![2, 3, 4], None)
    );
    again.close();
    let third = open(dir.path(), 1 << 20);
    assert_eq!(numbers(&third), [2, 3, 4]);
    assert_eq!(third.stats().n_damaged, 0);
}

#[test]
fn what_left_the_memory_is_written_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let tier = open(dir.path(), 1 << 20);
    tier.keep(id(7), Arc::new(fragment(7)), 3);
    tier.purge([id(7)].into()).expect("purged");
    assert_eq!(numbers(&tier), [7]);
}

#[test]
fn what_is_purged_is_on_no_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let tier = open(dir.path(), 1 << 20);
    sweep(&tier, &[1, 2, 3], &[1, 2, 3]);
    let found = |number: u8| {
        let paths = files(dir.path()).into_iter();
        let bytes = paths.flat_map(|path| fs::read(path).expect("read"));
        let bytes: Vec<u8> = bytes.collect();
        bytes.windows(32).any(|window| window == [number; 32])
    };
    assert!(found(1) && found(2));
    sweep(&tier, &[1, 3], &[]);
    assert!(found(1) && !found(2) && found(3));
    sweep(&tier, &[], &[]);
    assert_eq!(files(dir.path()), [] as [PathBuf; 0]);
    sweep(&tier, &[4], &[4]);
    assert_eq!(numbers(&tier), [4]);
}

#[test]
fn several_segments_are_purged_at_once_here_and_after_a_restart() {
    // Segments of three fragments: one dead of the ended, and one of the open.
    let budget = 8 * (16 + 3 * ENTRY_BYTES);
    for is_restarted in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        let mut tier = open(dir.path(), budget);
        for i in 0..5 {
            sweep(&tier, &[0, 1, 2, 3, 4], &[i]);
        }
        assert_eq!(files(dir.path()).len(), 2);
        if is_restarted {
            tier.close();
            tier = open(dir.path(), budget);
        }
        for live in [&[0, 2, 3][..], &[2, 3], &[2, 3, 7], &[3, 7, 8, 9]] {
            sweep(&tier, live, live);
            assert_eq!(numbers(&tier), live);
            assert_eq!(tier.take_trouble(), None);
            let on_disk = files(dir.path()).into_iter();
            let on_disk = on_disk.map(|path| fs::metadata(path).expect("there").len());
            assert_eq!(on_disk.sum::<u64>(), tier.stats().n_bytes);
        }
        assert_eq!(tier.stats().n_damaged, 0);
    }
}

#[test]
fn what_died_before_a_restart_makes_room_after_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let budget = 10 * ENTRY_BYTES;
    let tier = open(dir.path(), budget);
    let before: Vec<u8> = (0..30).collect();
    sweep(&tier, &before, &before);
    tier.close();
    let tier = open(dir.path(), budget);
    let after: Vec<u8> = (30..36).collect();
    let live: HashSet<FragmentId> = after.iter().copied().map(id).collect();
    let held = after.iter().map(|i| (id(*i), Arc::new(fragment(*i))));
    let held: Vec<_> = held.collect();
    let entries = held.iter().map(|(id, kv)| (id, kv, 3));
    tier.sweep(|id| live.contains(id), entries);
    // Without a purge: closing writes what is wanted.
    tier.close();
    let found = numbers(&open(dir.path(), budget));
    assert!(after.iter().all(|i| found.contains(i)), "{found:?}");
}

#[test]
fn an_unreadable_segment_costs_what_is_in_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let tier = open(dir.path(), 8 * (16 + 2 * ENTRY_BYTES));
    for i in 0..4 {
        sweep(&tier, &[0, 1, 2, 3], &[i]);
    }
    let paths = files(dir.path());
    assert_eq!(paths.len(), 2);
    fs::remove_file(&paths[0]).expect("removed");
    // Of each segment one is dead: both are compacted, one of them in vain.
    sweep(&tier, &[1, 3], &[]);
    assert_eq!(numbers(&tier), [3]);
    sweep(&tier, &[1, 3], &[1]);
    assert_eq!(numbers(&tier), [1, 3]);
}

#[test]
fn a_file_that_is_in_the_way_is_gone_round() {
    let dir = tempfile::tempdir().expect("a folder");
    let tier = open(dir.path(), 1 << 20);
    fs::write(dir.path().join("00000000.kv"), "").expect("written");
    // One that no name of ours has, and a folder.
    fs::write(dir.path().join("+1.kv"), "mine").expect("written");
    fs::create_dir(dir.path().join("00000001.kv")).expect("made");
    sweep(&tier, &[1], &[1]);
    assert_eq!((numbers(&tier), tier.take_trouble()), (vec![1], None));
    tier.close();
    assert_eq!(numbers(&open(dir.path(), 1 << 20)), [1]);
    assert!(dir.path().join("+1.kv").exists());
}

#[test]
fn the_budget_holds_and_what_is_dead_makes_room() {
    let dir = tempfile::tempdir().expect("a folder");
    let budget = 10 * ENTRY_BYTES;
    let tier = open(dir.path(), budget);
    let all: Vec<u8> = (0..30).collect();
    sweep(&tier, &all, &all);
    let stats = tier.stats();
    assert!(stats.n_bytes <= budget, "{stats:?}");
    let held = numbers(&tier);
    assert!((5..10).contains(&held.len()), "{held:?}");
    assert_eq!(stats.n_refused, 30 - held.len() as u64);
    // Nothing that is held gives way; what died does.
    sweep(&tier, &all, &all);
    assert_eq!(numbers(&tier), held);
    let live = [&held[..2], &[40, 41, 42, 43]].concat();
    sweep(&tier, &live, &[40, 41, 42, 43]);
    assert_eq!(numbers(&tier), live);
    let on_disk = files(dir.path()).into_iter();
    let on_disk = on_disk.map(|path| fs::metadata(path).expect("there").len());
    assert_eq!(on_disk.sum::<u64>(), tier.stats().n_bytes);
}

#[test]
fn a_damaged_fragment_is_a_miss_and_is_written_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let tier = open(dir.path(), 1 << 20);
    sweep(&tier, &[1, 2], &[1, 2]);
    tier.close();
    let [path] = &files(dir.path())[..] else {
        panic!("one segment");
    };
    let mut bytes = fs::read(path).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(path, bytes).expect("written");
    assert_eq!(verify(dir.path()).expect("readable").n_damaged, 1);
    let tier = open(dir.path(), 1 << 20);
    assert_eq!(numbers(&tier).len(), 1);
    assert_eq!(tier.stats().n_damaged, 1);
    assert!(
        tier.take_trouble()
            .is_some_and(|why| why.contains("encoded again"))
    );
    assert_eq!(tier.take_trouble(), None);
    sweep(&tier, &[1, 2], &[1, 2]);
    assert_eq!(numbers(&tier), [1, 2]);
    tier.close();
    assert_eq!(verify(dir.path()).expect("readable").n_damaged, 0);
}

#[test]
fn what_a_crash_cut_off_is_cut_off() {
    let dir = tempfile::tempdir().expect("a folder");
    let tier = open(dir.path(), 1 << 20);
    sweep(&tier, &[1, 2], &[1]);
    sweep(&tier, &[1, 2], &[2]);
    tier.close();
    let [path] = &files(dir.path())[..] else {
        panic!("one segment");
    };
    let bytes = fs::read(path).expect("read");
    for n in [
        bytes.len() - 1,
        bytes.len() - ENTRY_BYTES as usize + 5,
        16,
        7,
        0,
    ] {
        fs::write(path, &bytes[..n]).expect("written");
        let tier = open(dir.path(), 1 << 20);
        assert_eq!(numbers(&tier).len(), usize::from(n > 16), "{n} bytes");
        sweep(&tier, &[1, 2, 3], &[1, 2, 3]);
        assert_eq!(numbers(&tier), [1, 2, 3]);
        tier.close();
        let found = verify(dir.path()).expect("readable");
        assert_eq!((found.n_fragments, found.n_damaged), (3, 0), "{n} bytes");
        for path in files(dir.path()) {
            fs::remove_file(path).expect("removed");
        }
    }
}

#[test]
fn a_newer_format_is_refused_by_name_and_another_file_is_no_segment() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("notes.txt"), "mine").expect("written");
    fs::write(dir.path().join("00000003.kv"), "what is this, a segment?").expect("written");
    let tier = open(dir.path(), 1 << 20);
    assert_eq!(tier.stats().n_damaged, 1);
    sweep(&tier, &[1], &[1]);
    assert_eq!(numbers(&tier), [1]);
    assert!(!dir.path().join("00000003.kv").exists());
    assert!(dir.path().join("notes.txt").exists());
    tier.close();
    let [path] = &files(dir.path())[..] else {
        panic!("one segment");
    };
    let mut bytes = fs::read(path).expect("read");
    bytes[12] = 9;
    fs::write(path, bytes).expect("written");
    let error = ColdTier::open(dir.path(), 1 << 20).err().expect("newer");
    assert!(error.to_string().contains("format version 9"), "{error}");
}

#[test]
fn a_disk_that_takes_nothing_is_told_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("fragments");
    let tier = open(&path, 1 << 20);
    fs::remove_dir(&path).expect("empty");
    fs::write(&path, "in the way").expect("written");
    for _ in 0..3 {
        tier.keep(id(1), Arc::new(fragment(1)), 3);
    }
    assert!(tier.purge(HashSet::new()).is_ok() || !path.is_dir());
    assert_eq!(numbers(&tier), [] as [u8; 0]);
    assert!(
        tier.take_trouble()
            .is_some_and(|why| why.contains("cannot be kept"))
    );
    assert_eq!(tier.take_trouble(), None);
}
