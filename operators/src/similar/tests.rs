//! Pairs by deltas against pairs from scratch.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use differential_dataflow::input::InputSession;
use proptest::prelude::*;

use super::*;

type Pairs = BTreeMap<(u16, u16), isize>;
type Told = Vec<((u16, u16), u64, isize)>;

/// Rows that stand next to each other have something in common; at times they are longer, or no number.
fn vector(n: u16) -> Vec<f32> {
    match n % 29 {
        11 => vec![f32::NAN; 3],
        13 => vec![0.25; 40],
        _ => {
            let at = usize::from(n / 2);
            let mut vector = vec![0.0; at + 2];
            vector[at..].fill(1.0);
            vector
        }
    }
}

fn product(a: u16, b: u16) -> f32 {
    let (a, b) = (vector(a), vector(b));
    a.iter().zip(&b).map(|(a, b)| a * b).sum()
}

fn from_scratch(standing: &[u16], threshold: f64) -> Pairs {
    let mut pairs = Pairs::new();
    for a in standing {
        for b in standing.iter().filter(|b| a < b) {
            if f64::from(product(*a, *b)) >= threshold {
                pairs.insert((*a, *b), 1);
            }
        }
    }
    pairs
}

/// The pairs after each epoch, and the products until then, by several workers.
fn maintained(
    history: &[Vec<(u16, isize)>],
    threshold: f64,
    n_workers: usize,
) -> Vec<(Pairs, u64)> {
    let told: Arc<Mutex<Told>> = Arc::default();
    let work = Arc::new(SimilarWork::default());
    let products: Arc<Mutex<Vec<u64>>> = Arc::default();
    let (history, said, counted) = (history.to_vec(), told.clone(), products.clone());
    let n_epochs = history.len() as u64;
    let run = move |worker: &mut timely::worker::Worker| {
        let mut input = InputSession::<u64, (u16, Vector), isize>::new();
        let (said, work) = (said.clone(), work.clone());
        let operator_work = work.clone();
        let probe = worker.dataflow(|scope| {
            similar(input.to_collection(scope), threshold, operator_work)
                .inspect(move |update| said.lock().unwrap().push(*update))
                .probe()
                .0
        });
        for (epoch, deltas) in (0..).zip(&history) {
            for (at, (row, diff)) in deltas.iter().enumerate() {
                // Updates come in on any worker.
                if at % worker.peers() == worker.index() {
                    input.update((*row, Vector::new(&vector(*row))), *diff);
                }
            }
            input.advance_to(epoch + 1);
            input.flush();
            worker.step_while(|| probe.less_than(&(epoch + 1)));
            if worker.index() == 0 {
                let n = work.n_products.load(Ordering::Relaxed);
                counted.lock().unwrap().push(n);
            }
        }
    };
    let workers = timely::execute(timely::Config::process(n_workers), run).expect("workers start");
    for result in workers.join() {
        result.expect("no worker fails");
    }
    let told = told.lock().unwrap();
    let at = |epoch: u64| {
        let mut pairs = Pairs::new();
        for (pair, time, diff) in told.iter() {
            if *time <= epoch {
                *pairs.entry(*pair).or_default() += diff;
            }
        }
        pairs.retain(|_, count| *count != 0);
        pairs
    };
    let products = products.lock().unwrap();
    let epochs = (0..n_epochs).zip(products.iter());
    epochs.map(|(epoch, n)| (at(epoch), *n)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn pairs_are_those_of_a_run_from_scratch(
        flips in prop::collection::vec(prop::collection::vec(0u16..200, 0..150), 1..6),
        threshold in prop::sample::select(vec![0.25, 0.5, 1.0, 2.0]),
        n_workers in 1usize..4,
    ) {
        let mut standing: Vec<u16> = Vec::new();
        let (mut history, mut expected) = (Vec::new(), Vec::new());
        for flips in flips {
            // A row that is named again within an epoch comes and goes in it.
            let mut deltas = Vec::new();
            for row in flips {
                match standing.iter().position(|known| *known == row) {
                    Some(at) => {
                        standing.swap_remove(at);
                        deltas.push((row, -1));
                    }
                    None => {
                        standing.push(row);
                        deltas.push((row, 1));
                    }
                }
            }
            history.push(deltas);
            expected.push(from_scratch(&standing, threshold));
        }
        let found = maintained(&history, threshold, n_workers);
        let found: Vec<Pairs> = found.into_iter().map(|(pairs, _)| pairs).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_row_that_comes_is_compared_with_each_that_stands_and_one_that_goes_with_none() {
    let first = (0..1000).map(|row| (row, 1)).collect();
    let history = [
        first,
        vec![(1000, 1)],
        vec![(7, -1)],
        vec![(8, -1), (8, 1)],
        vec![(7, 1)],
    ];
    for n_workers in [1, 3] {
        let mut before = 0;
        let n: Vec<u64> = maintained(&history, 1.0, n_workers)
            .into_iter()
            .map(|(_, n)| n - std::mem::replace(&mut before, n))
            .collect();
        assert_eq!(n[1..], [1000, 0, 0, 1000], "{n_workers}");
        // All pairs once, and within a block of 64 both ways.
        assert!((499_500..=500_000 + 64 * 1000).contains(&n[0]), "{}", n[0]);
    }
}
