//! Selections by deltas against selections from scratch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use differential_dataflow::input::Input;
use perennial_model::dot::{Rows, Vectors, products};
use proptest::prelude::*;

use super::*;
use perennial_bank::document::DocumentKey;
use perennial_bank::id::PassageId;

/// Which version of a passage or of a context stands.
type Standing = BTreeMap<(u8, u8), u8>;
type Told = BTreeMap<(u8, u8, u8), Vec<Passage>>;
type Context = (u8, u8, u8);

/// What the passage of a document says: the last few say what the first do.
fn said_by(i: u8) -> u8 {
    if i < 15 { i } else { i - 15 }
}

/// A passage of few tokens, at times of none.
fn passage(i: u8, version: u8) -> Passage {
    let said = said_by(i);
    let text = format!("{said} {version}");
    Passage {
        document: DocumentKey::new(format!("d{i}")),
        ordinal: 0,
        // Of copies at times the one, at times the other is newer.
        updated_at_ms: i64::from(version) + i64::from(i % 4),
        id: PassageId::of("", &text),
        title: "".into(),
        text: text.into(),
        tokens: vec![0; usize::from((said + version) % 7)].into(),
        is_superseded: false,
    }
}

/// Few distinct directions, so that ties happen; at times not a number, or longer.
fn vector(i: u8, version: u8) -> Vector {
    let kind = i.wrapping_mul(3).wrapping_add(version);
    let angle = f32::from(kind % 5);
    match kind % 17 {
        11 => Vector::new(&[f32::NAN, 1.0]),
        13 => Vector::new(&[f32::INFINITY, -1.0]),
        7 => Vector::new(&[0.25; 40]),
        _ => Vector::new(&[angle.cos(), angle.sin()]),
    }
}

fn score(a: &Vector, b: &Vector) -> f32 {
    let (mut left, mut right) = (Vectors::default(), Vectors::default());
    left.set(0, a.elements());
    right.set(0, b.elements());
    left.widen(right.width());
    right.widen(left.width());
    let mut out = [0.0];
    let row = |vectors| Rows {
        vectors,
        slots: &[0],
    };
    products(row(&left), row(&right), &mut out);
    out[0]
}

fn from_scratch(passages: &Standing, contexts: &Standing, limits: Limits) -> Told {
    let mut told = Told::new();
    for (&(group, c), &version) in contexts {
        let query = vector(c, version);
        let here = passages.iter().filter(|((g, _), _)| *g == group);
        let scored =
            here.map(|((_, i), v)| (score(&query, &vector(said_by(*i), *v)), passage(*i, *v)));
        let mut scored: Vec<_> = scored.filter(|(score, _)| !score.is_nan()).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let (mut n_tokens, mut run) = (0, Vec::<(Passage, BTreeSet<Passage>)>::new());
        let (mut left, mut unfit) = (limits.budget, BTreeSet::new());
        for (_, passage) in scored {
            let copy = run.iter().position(|(before, _)| before.id == passage.id);
            if let Some(copy) = copy {
                if passage.updated_at_ms > run[copy].0.updated_at_ms {
                    let (older, mut copies) = run.remove(copy);
                    copies.insert(older);
                    run.push((passage, copies));
                } else {
                    run[copy].1.insert(passage);
                }
                continue;
            }
            n_tokens += passage.tokens.len();
            if n_tokens > limits.window {
                break;
            }
            match left.checked_sub(passage.tokens.len()) {
                Some(rest) => left = rest,
                None => {
                    unfit.insert(passage.id);
                }
            }
            run.push((passage, BTreeSet::new()));
        }
        run.retain(|(passage, _)| !unfit.contains(&passage.id));
        let with_copies = |(passage, copies)| std::iter::once(passage).chain(copies);
        let run = run.into_iter().flat_map(with_copies);
        told.insert((group, c, version), run.collect());
    }
    told
}

/// One thing that happens: to a passage or a context, in a group; a new version of what
/// stands, or its end where the version is the same.
type Event = (bool, u8, u8, u8);

fn deltas(standing: &mut Standing, (_, group, i, version): Event) -> Vec<(u8, isize)> {
    let old = standing.remove(&(group, i));
    let mut deltas: Vec<(u8, isize)> = old.map(|old| (old, -1)).into_iter().collect();
    if old != Some(version) {
        standing.insert((group, i), version);
        deltas.push((version, 1));
    }
    deltas
}

/// The updates of one epoch.
#[derive(Default)]
struct Epoch {
    passages: Vec<Update<u8, Passage>>,
    contexts: Vec<Update<u8, Context>>,
}

/// The events as updates by epoch, and what stands after each.
fn history(epochs: Vec<Vec<Event>>) -> Vec<(Epoch, Standing, Standing)> {
    let (mut passages, mut contexts) = (Standing::new(), Standing::new());
    let mut history = Vec::new();
    for events in epochs {
        let mut epoch = Epoch::default();
        for event @ (is_passage, group, i, _) in events {
            if is_passage {
                let rows = deltas(&mut passages, event).into_iter();
                let row = |(v, diff)| ((group, passage(i, v), vector(said_by(i), v)), diff);
                epoch.passages.extend(rows.map(row));
            } else {
                let rows = deltas(&mut contexts, event).into_iter();
                let row = |(v, diff)| ((group, (group, i, v), vector(i, v)), diff);
                epoch.contexts.extend(rows.map(row));
            }
        }
        history.push((epoch, passages.clone(), contexts.clone()));
    }
    history
}

fn epochs() -> impl Strategy<Value = Vec<Vec<Event>>> {
    let passage = (Just(true), 0u8..3, 0u8..20, 0u8..3);
    let context = (Just(false), 0u8..3, 0u8..5, 0u8..2);
    let event = prop_oneof![3 => passage, 1 => context];
    prop::collection::vec(prop::collection::vec(event, 1..12), 1..14)
}

/// What is selected, each in front of its copies.
fn clones(selected: &[Selected<'_, Passage>]) -> Vec<Passage> {
    let with_copies = |of: &Selected<'_, Passage>| {
        let all = std::iter::once(of.candidate).chain(of.copies.iter().copied());
        all.cloned().collect::<Vec<_>>()
    };
    selected.iter().flat_map(with_copies).collect()
}

/// What an epoch changes of the selections.
type Changes = Vec<((Context, Vec<Passage>), isize)>;

/// A layout is the list of its passages.
type LayOut = fn(&[Selected<'_, Passage>]) -> Vec<Passage>;

proptest! {
    #[test]
    fn deltas_add_up_to_a_run_from_scratch(
        epochs in epochs(),
        budget in 0usize..40,
        more in 0usize..40,
        reserve in 0usize..4,
    ) {
        let limits = Limits { budget, window: budget + more, reserve };
        let mut selection = Selection::new(limits, clones, Arc::default());
        let mut folded: BTreeMap<(Context, Vec<Passage>), isize> = BTreeMap::new();
        for (epoch, passages, contexts) in history(epochs) {
            for (row, diff) in selection.apply(epoch.passages, epoch.contexts) {
                *folded.entry(row).or_insert(0) += diff;
            }
            folded.retain(|_, count| *count != 0);
            prop_assert!(folded.values().all(|count| *count == 1));
            prop_assert_eq!(folded.len(), contexts.len());
            let told: Told = folded.keys().cloned().collect();
            prop_assert_eq!(told, from_scratch(&passages, &contexts, limits));
        }
    }
}

/// Everything that `select` says, by epoch, on so many workers.
fn through_the_dataflow(
    history: &[Epoch],
    limits: Limits,
    n_workers: usize,
) -> BTreeMap<u64, Changes> {
    let said: Arc<Mutex<BTreeMap<u64, Vec<_>>>> = Arc::default();
    let heard = said.clone();
    let shares: Vec<Vec<Epoch>> = (0..n_workers)
        .map(|worker| {
            let share = |epoch: &Epoch| Epoch {
                passages: every(&epoch.passages, worker, n_workers),
                contexts: every(&epoch.contexts, worker, n_workers),
            };
            history.iter().map(share).collect()
        })
        .collect();
    let guards = timely::execute(timely::Config::process(n_workers), move |worker| {
        let said = heard.clone();
        let (mut passages, mut contexts, probe) = worker.dataflow(|scope| {
            let (passages, passage_rows) = scope.new_collection();
            let (contexts, context_rows) = scope.new_collection();
            let told = select(passage_rows, context_rows, limits, Arc::default(), clones);
            let (probe, _) = told
                .consolidate()
                .inspect(move |(row, epoch, diff)| {
                    let mut said = said.lock().expect("no test panicked");
                    said.entry(*epoch).or_default().push((row.clone(), *diff));
                })
                .probe();
            (passages, contexts, probe)
        });
        for (epoch, share) in (0u64..).zip(&shares[worker.index()]) {
            for (row, diff) in &share.passages {
                passages.update(row.clone(), *diff);
            }
            for (row, diff) in &share.contexts {
                contexts.update(row.clone(), *diff);
            }
            passages.advance_to(epoch + 1);
            contexts.advance_to(epoch + 1);
            passages.flush();
            contexts.flush();
            while probe.less_equal(&epoch) {
                worker.step();
            }
        }
    });
    guards.expect("workers start").join();
    let mut said = std::mem::take(&mut *said.lock().expect("no test panicked"));
    said.values_mut().for_each(|rows| rows.sort());
    said
}

fn every<D: Clone>(rows: &[D], from: usize, n: usize) -> Vec<D> {
    rows.iter().skip(from).step_by(n).cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_number_of_workers_says_the_same_in_every_epoch(epochs in epochs()) {
        let limits = Limits { budget: 17, window: 25, reserve: 1 };
        let history: Vec<Epoch> = history(epochs).into_iter().map(|(epoch, ..)| epoch).collect();
        let one = through_the_dataflow(&history, limits, 1);
        prop_assert_eq!(&through_the_dataflow(&history, limits, 2), &one);
        prop_assert_eq!(&through_the_dataflow(&history, limits, 3), &one);
    }
}

/// Hundreds of contexts and passages: blocks end in the middle, and run beside one another.
#[test]
fn blocks_of_a_large_scan_give_what_single_contexts_are_given() {
    let element = |i: usize| f32::from((i.wrapping_mul(7919) % 23) as u8) - 11.0;
    let vector = |i: usize| Vector::new(&[element(i), element(i / 7), element(i * 3 + 1)]);
    let limits = Limits {
        budget: 9,
        window: 14,
        reserve: 2,
    };
    let row = |i: usize| {
        let passage = Passage {
            document: DocumentKey::new(i.to_string()),
            ..passage((i % 250) as u8, 1)
        };
        (((), passage, vector(i)), 1)
    };
    let passages: Vec<Update<(), Passage>> = (0..300).map(row).collect();
    let contexts: Vec<Update<(), usize>> =
        (0..200).map(|i| (((), i, vector(i * 5 + 2)), 1)).collect();
    let mut together = Selection::new(limits, clones, Arc::default());
    let mut all = together.apply(passages.clone(), contexts.clone());
    let mut one_by_one = Selection::new(limits, clones, Arc::default());
    let mut single = Vec::new();
    for context in contexts {
        single.extend(one_by_one.apply(Vec::new(), vec![context]));
    }
    let mut folded: BTreeMap<_, isize> = single.into_iter().collect();
    for passage in passages {
        for (row, diff) in one_by_one.apply(vec![passage], Vec::new()) {
            *folded.entry(row).or_default() += diff;
        }
    }
    folded.retain(|_, count| *count != 0);
    all.sort();
    assert_eq!(folded.into_iter().collect::<Vec<_>>(), all);
}

/// A hundred passages of two tokens in falling order; one context that selects two.
struct Rig {
    selection: Selection<(), Passage, u8, Vec<Passage>, LayOut>,
    work: Arc<SelectWork>,
}

impl Rig {
    fn row(i: u8) -> ((), Passage, Vector) {
        let passage = Passage {
            tokens: vec![0; 2].into(),
            ..passage(i, 0)
        };
        ((), passage, Vector::new(&[100.0 - f32::from(i)]))
    }

    fn new(reserve: usize) -> Self {
        let limits = Limits {
            budget: 5,
            window: 5,
            reserve,
        };
        let work = Arc::new(SelectWork::default());
        let lay_out: LayOut = clones;
        let mut selection = Selection::new(limits, lay_out, work.clone());
        let passages = (0..100).map(|i| (Self::row(i * 2), 1)).collect();
        let told = selection.apply(passages, vec![(((), 7, Vector::new(&[1.0])), 1)]);
        assert_eq!(told.len(), 1);
        Self { selection, work }
    }

    /// How many rows are said, rankings touched and scans made for one passage's change.
    fn change(&mut self, i: u8, diff: isize) -> (usize, u64, u64) {
        let count = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
        let (touched, scanned) = (count(&self.work.n_touched), count(&self.work.n_scanned));
        let told = self.selection.apply(vec![(Self::row(i), diff)], Vec::new());
        let n_touched = count(&self.work.n_touched) - touched;
        (told.len(), n_touched, count(&self.work.n_scanned) - scanned)
    }
}

#[test]
fn a_passage_below_the_cut_comes_and_goes_without_touching_anybody() {
    // The run is passages 0 and 2, 4 stops it, 6 and 8 are the reserve.
    let mut rig = Rig::new(2);
    assert_eq!(rig.change(9, 1), (0, 0, 0));
    assert_eq!(rig.change(9, -1), (0, 0, 0));
    assert_eq!(rig.change(7, 1), (0, 1, 0), "the reserve takes it in");
    assert_eq!(rig.change(1, 1), (2, 1, 0), "the run takes it in");
}

#[test]
fn removals_are_made_good_out_of_the_reserve_until_it_is_used_up() {
    let mut rig = Rig::new(2);
    assert_eq!(rig.change(0, -1), (2, 1, 0));
    assert_eq!(rig.change(2, -1), (2, 1, 0));
    // Passages 4, 6 and 8 are known: the third would stop the run. One more, and it is not
    // known whether the run goes on.
    assert_eq!(rig.change(4, -1), (2, 1, 1));
    assert_eq!(rig.change(6, -1), (2, 1, 0));
}

#[test]
fn a_passage_whose_score_is_no_number_is_passed_over() {
    let limits = Limits {
        budget: 100,
        window: 100,
        reserve: 2,
    };
    let mut selection = Selection::new(limits, clones, Arc::default());
    let nan = (((), passage(3, 0), Vector::new(&[f32::NAN])), 1);
    let good = (((), passage(4, 0), Vector::new(&[1.0])), 1);
    let contexts = vec![
        (((), "one", Vector::new(&[1.0])), 1),
        (((), "none", Vector::new(&[f32::NAN])), 1),
    ];
    let mut told = selection.apply(vec![nan, good], contexts);
    told.sort();
    assert_eq!(
        told,
        [(("none", vec![]), 1), (("one", vec![passage(4, 0)]), 1)]
    );
}

#[test]
fn one_that_does_not_fit_keeps_no_smaller_one_out() {
    let row = |text: &str, n_tokens: usize, score: f32| {
        let passage = Passage {
            document: DocumentKey::new(text),
            id: PassageId::of("", text),
            text: text.into(),
            tokens: vec![0; n_tokens].into(),
            ..passage(0, 0)
        };
        (((), passage, Vector::new(&[score])), 1)
    };
    let limits = Limits {
        budget: 10,
        window: 20,
        reserve: 1,
    };
    let mut selection = Selection::new(limits, clones, Arc::default());
    let candidates = vec![
        row("best", 6, 5.0),
        row("long", 7, 4.0),
        row("short", 3, 3.0),
        // The window ends before it.
        row("beyond", 5, 2.0),
        row("least", 1, 1.0),
    ];
    let told = selection.apply(candidates, vec![(((), 0u8, Vector::new(&[1.0])), 1)]);
    let [((_, selected), 1)] = &told[..] else {
        panic!("{told:?}")
    };
    let texts: Vec<&str> = selected.iter().map(|passage| &*passage.text).collect();
    assert_eq!(texts, ["best", "short"]);
}

#[test]
fn copies_of_a_passage_count_once_and_another_takes_its_place_when_it_goes() {
    let row = |document: &str, text: &str, score: f32| {
        let passage = Passage {
            document: DocumentKey::new(document),
            id: PassageId::of("", text),
            text: text.into(),
            tokens: vec![0; 2].into(),
            ..passage(0, 0)
        };
        ((), passage, Vector::new(&[score]))
    };
    let limits = Limits {
        budget: 4,
        window: 4,
        reserve: 1,
    };
    type Layout = Vec<(String, Vec<String>)>;
    let named = |selected: &[Selected<'_, Passage>]| -> Layout {
        let name = |passage: &Passage| passage.document.to_string();
        let with_copies = |of: &Selected<'_, Passage>| {
            let copies = of.copies.iter().copied().map(name);
            (name(of.candidate), copies.collect())
        };
        selected.iter().map(with_copies).collect()
    };
    let mut selection = Selection::new(limits, named, Arc::default());
    let name = |i: usize| format!("copy{i:03}");
    let copies = (0..120).map(|i| (row(&name(i), "The same.", 3.0), 1));
    let others = [("near", 2.0), ("far", 1.0)].map(|(text, score)| (row(text, text, score), 1));
    let context = vec![(((), 0u8, Vector::new(&[1.0])), 1)];
    let told = selection.apply(copies.chain(others).collect(), context);
    let now = |told: &[((u8, Layout), isize)]| -> Layout {
        let now = told.iter().find(|(_, diff)| *diff > 0).expect("told");
        now.0.1.clone()
    };
    // One of them with all others, which take no room.
    let one_of = |first: usize, others: &[usize]| -> Layout {
        let others = others.iter().map(|i| name(*i)).collect();
        vec![(name(first), others), ("near".to_owned(), Vec::new())]
    };
    let mut standing: Vec<usize> = (0..120).collect();
    assert_eq!(now(&told), one_of(0, &standing[1..]));
    for gone in [0, 50, 119] {
        standing.retain(|i| *i != gone);
        let told = selection.apply(vec![(row(&name(gone), "The same.", 3.0), -1)], Vec::new());
        assert_eq!(now(&told), one_of(standing[0], &standing[1..]));
    }
    // The newest stands for them.
    let (group, mut newest, vector) = row("copy110", "The same.", 3.0);
    newest.updated_at_ms = 9;
    let old = (row("copy110", "The same.", 3.0), -1);
    let told = selection.apply(vec![old, ((group, newest, vector), 1)], Vec::new());
    standing.retain(|i| *i != 110);
    assert_eq!(now(&told), one_of(110, &standing));
}
