//! Selections through the engine's own operator: built, and changed by one passage at a time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use differential_dataflow::input::{Input as _, InputSession};
use perennial::bank::{DocumentKey, LayoutPassage, Passage, PassageId, PassageLayout};
use perennial::operators::select::{Limits, RESERVE, SelectWork, Vector, select};
use timely::dataflow::ProbeHandle;
use timely::worker::Worker;

use perennial::calibration::Random;

use super::ranking::Rankings;
use super::{Error, Options, peak_mib, spread};

/// Vectors stand around as many directions: what is near one topic is near some contexts.
const N_TOPICS: usize = 200;
/// A vector's distance from its topic, in units of the topic's length.
const SPREAD: f32 = 0.8;
/// About twenty passages of 75 tokens.
const BUDGET_TOKENS: usize = 1500;
/// Tokens of a passage: from the first, so many.
const TOKENS: (usize, usize) = (60, 31);
/// Bytes of a passage's text.
const TEXT_BYTES: usize = 300;

/// Passages and contexts, as the dataflow has them.
struct Data {
    topics: Vec<Vec<f32>>,
    random: Random,
    passages: Vec<(Passage, Vector)>,
    contexts: Vec<Vector>,
}

impl Data {
    fn new(n_passages: usize, n_contexts: usize, n_elements: usize) -> Self {
        let mut random = Random(1);
        let topics = (0..N_TOPICS).map(|_| direction(&mut random, n_elements));
        let mut data = Self {
            topics: topics.collect(),
            random,
            passages: Vec::new(),
            contexts: Vec::new(),
        };
        data.passages = (0..n_passages).map(|i| data.passage(i)).collect();
        data.contexts = (0..n_contexts).map(|_| data.vector()).collect();
        data
    }

    /// A vector of unit length near a topic.
    fn vector(&mut self) -> Vector {
        let topic = self.random.below(N_TOPICS);
        let noise = direction(&mut self.random, self.topics[topic].len());
        let sum = self.topics[topic].iter().zip(noise);
        let sum: Vec<f32> = sum.map(|(a, b)| a + SPREAD * b).collect();
        Vector::new(&unit(sum))
    }

    fn passage(&mut self, i: usize) -> (Passage, Vector) {
        let text = format!("{i:0TEXT_BYTES$}");
        let n_tokens = TOKENS.0 + self.random.below(TOKENS.1);
        let passage = Passage {
            document: DocumentKey::new(i.to_string()),
            ordinal: 0,
            updated_at_ms: 0,
            id: PassageId::of("", &text),
            title: "".into(),
            text: text.into(),
            tokens: vec![0; n_tokens].into(),
            is_superseded: false,
        };
        (passage, self.vector())
    }
}

/// Elements evenly between -1 and 1, then of unit length.
fn direction(random: &mut Random, n_elements: usize) -> Vec<f32> {
    let element = |_| random.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0;
    unit((0..n_elements).map(element).collect())
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|x| *x /= norm);
    vector
}

/// Products, touched rankings, scans and changed selections.
fn counts(work: &SelectWork) -> [u64; 4] {
    let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
    [
        count(&work.n_products),
        count(&work.n_touched),
        count(&work.n_scanned),
        count(&work.n_changed),
    ]
}

/// What one kind of change took, and did on average.
struct Changes {
    times: Vec<Duration>,
    work: [f64; 4],
}

/// What one size took.
struct Measured {
    building: Duration,
    built: [u64; 4],
    inserts: Changes,
    deletes: Changes,
    /// The passages of each context, best first, as built.
    selected: Vec<Vec<Passage>>,
}

type Selected = Rc<RefCell<HashMap<usize, PassageLayout>>>;

/// The operator with its inputs.
struct Running<'a> {
    worker: &'a mut Worker,
    passages: InputSession<u64, ((), Passage, Vector), isize>,
    contexts: InputSession<u64, ((), usize, Vector), isize>,
    probe: ProbeHandle<u64>,
    epoch: u64,
}

impl Running<'_> {
    /// Closes the epoch and waits until every selection has what it changes.
    fn close(&mut self) {
        self.epoch += 1;
        self.passages.advance_to(self.epoch);
        self.contexts.advance_to(self.epoch);
        self.passages.flush();
        self.contexts.flush();
        while self.probe.less_than(&self.epoch) {
            self.worker.step();
        }
    }

    fn change(&mut self, (passage, vector): &(Passage, Vector), diff: isize) -> Duration {
        let begun = Instant::now();
        let row = ((), passage.clone(), vector.clone());
        self.passages.update(row, diff);
        self.close();
        begun.elapsed()
    }
}

/// Builds and changes selections on so many workers; the first feeds all rows.
fn measure(mut data: Data, n_changes: usize, n_workers: usize) -> Result<Measured, Error> {
    let new: Vec<_> = (0..n_changes)
        .map(|i| data.passage(data.passages.len() + i))
        .collect();
    let work = Arc::new(SelectWork::default());
    let feed = Mutex::new(Some((data, new)));
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let guards = timely::execute(timely::Config::process(n_workers), move |worker| {
        let limits = Limits {
            budget: BUDGET_TOKENS,
            window: BUDGET_TOKENS,
            reserve: RESERVE,
        };
        let probe = ProbeHandle::new();
        let selected = Selected::default();
        let heard = selected.clone();
        let (passages, contexts) = worker.dataflow(|scope| {
            let (passages, passage_rows) = scope.new_collection();
            let (contexts, context_rows) = scope.new_collection();
            select(passage_rows, context_rows, limits, work.clone(), lay_out)
                .inspect(move |((context, layout), _, diff)| {
                    if *diff > 0 {
                        heard.borrow_mut().insert(*context, layout.clone());
                    }
                })
                .probe_with(&probe);
            (passages, contexts)
        });
        // The other workers hold their share until the first has ended.
        let fed = feed.lock().expect("no worker panicked").take();
        let Some((data, new)) = fed.filter(|_| worker.index() == 0) else {
            return;
        };
        let mut running = Running {
            worker,
            passages,
            contexts,
            probe,
            epoch: 0,
        };
        let measured = running.measure(&data, &new, &work, &selected);
        let sender = sender.lock().expect("no worker panicked");
        sender.send(measured).expect("the benchmark waits");
    })?;
    let measured = receiver.recv()?;
    drop(guards);
    Ok(measured)
}

fn lay_out(selected: &[perennial::operators::select::Selected<'_, Passage>]) -> PassageLayout {
    let passages = selected.iter().map(|of| LayoutPassage::from(of.candidate));
    PassageLayout::new(passages.collect())
}

impl Running<'_> {
    fn measure(
        &mut self,
        data: &Data,
        new: &[(Passage, Vector)],
        work: &SelectWork,
        selected: &Selected,
    ) -> Measured {
        let begun = Instant::now();
        for (passage, vector) in &data.passages {
            let row = ((), passage.clone(), vector.clone());
            self.passages.update(row, 1);
        }
        for (i, vector) in data.contexts.iter().enumerate() {
            self.contexts.update(((), i, vector.clone()), 1);
        }
        self.close();
        let building = begun.elapsed();
        let built = counts(work);
        let as_built = (0..data.contexts.len()).map(|i| {
            let selected = selected.borrow();
            let layout = selected.get(&i).map(PassageLayout::passages);
            let key = |p: &LayoutPassage| p.document.as_str().parse::<usize>().ok();
            let index = layout.unwrap_or_default().iter().filter_map(key);
            index.map(|index| data.passages[index].0.clone()).collect()
        });
        let as_built = as_built.collect();
        let mut changes = |diff: isize| {
            let before = counts(work);
            let times = new.iter().map(|row| self.change(row, diff)).collect();
            let after = counts(work);
            let n = new.len() as f64;
            Changes {
                times,
                work: std::array::from_fn(|i| (after[i] - before[i]) as f64 / n),
            }
        };
        let (inserts, deletes) = (changes(1), changes(-1));
        Measured {
            building,
            built,
            inserts,
            deletes,
            selected: as_built,
        }
    }
}

/// The table of sizes.
pub(crate) fn growth(options: &Options) -> Result<(), Error> {
    println!(
        "| passages | contexts | building | products | ns a product | peak memory | insert \
         p50 / p99 / max | touched, scanned, changed | delete p50 / p99 / max | touched, scanned, \
         changed |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for part in [16, 4, 1] {
        let n_passages = (options.passages / part).max(1);
        let n_contexts = (options.contexts / part).max(1);
        let data = Data::new(n_passages, n_contexts, options.elements);
        let measured = measure(data, options.changes, options.workers)?;
        let (products, time) = (measured.built[0], measured.building);
        let means = |[_, touched, scanned, changed]: [f64; 4]| {
            format!("{touched:.1}, {scanned:.2}, {changed:.1}")
        };
        println!(
            "| {n_passages} | {n_contexts} | {:.2} s | {products} | {:.1} | {:.0} MiB | {} | {} | {} | {} |",
            time.as_secs_f64(),
            time.as_secs_f64() * 1e9 / products as f64,
            peak_mib()?,
            spread(&measured.inserts.times),
            means(measured.inserts.work),
            spread(&measured.deletes.times),
            means(measured.deletes.work),
        );
    }
    println!();
    Ok(())
}

/// The same rows through the algorithm before.
pub(crate) fn before(options: &Options) -> Result<(), Error> {
    let (n_passages, n_contexts) = (options.before_passages, options.before_contexts);
    let now = measure(
        Data::new(n_passages, n_contexts, options.elements),
        options.changes,
        options.workers,
    )?;
    let mut data = Data::new(n_passages, n_contexts, options.elements);
    let new: Vec<_> = (0..options.changes)
        .map(|i| data.passage(data.passages.len() + i))
        .collect();
    let begun = Instant::now();
    let mut rankings = Rankings::build(
        data.passages.iter().cloned(),
        data.contexts.iter().cloned(),
        BUDGET_TOKENS,
    );
    let building = begun.elapsed();
    // Scores were summed in another order: near ties may fall otherwise.
    let pairs = rankings.selected().zip(&now.selected);
    let is_same = |(old, new): &(&[Arc<Passage>], &Vec<Passage>)| {
        old.iter().map(|passage| &**passage).eq(new.iter())
    };
    let n_same = pairs.filter(is_same).count();
    let mut changes = |is_new: bool| -> Vec<Duration> {
        let change = |(passage, vector): &(Passage, Vector)| {
            let begun = Instant::now();
            rankings.change(passage.clone(), vector.clone(), is_new);
            begun.elapsed()
        };
        new.iter().map(change).collect()
    };
    let (inserts, deletes) = (changes(true), changes(false));
    println!("| {n_passages} passages, {n_contexts} contexts | before | now | before / now |");
    println!("| --- | ---: | ---: | ---: |");
    println!(
        "| building | {:.2} s | {:.3} s | {:.0}x |",
        building.as_secs_f64(),
        now.building.as_secs_f64(),
        building.as_secs_f64() / now.building.as_secs_f64()
    );
    for (what, old, new) in [
        ("insert", &inserts, &now.inserts.times),
        ("delete", &deletes, &now.deletes.times),
    ] {
        let total = |times: &[Duration]| times.iter().sum::<Duration>().as_secs_f64();
        println!(
            "| {what} p50 / p99 / max | {} | {} | {:.0}x |",
            spread(old),
            spread(new),
            total(old) / total(new)
        );
    }
    println!("\n{n_same} of {n_contexts} selections are the same, in the same order.\n");
    Ok(())
}
