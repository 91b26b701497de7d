//! When do arrangements merge what nothing asks them to?
//!
//! # Design
//! An arrangement merges its batches as others come, with an effort in proportion to them. What
//! that leaves apart is merged while the views rest, so that rows which are gone leave memory
//! without waiting for others to come.
//!
//! Merging all that is left costs what an arrangement holds, not what changed; and where one key
//! has most of the rows, most of it is one piece that nothing interrupts. Done at once, as the
//! dataflow library would have it, every change of a row pays that in each arrangement behind it,
//! and its own epoch waits for the merges of the one before. So the views must have rested for
//! [`REST`]: a burst of changes is followed by one merge, not interleaved with many.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use differential_dataflow::trace::ExertionLogic;
use timely::WorkerConfig;
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::worker::Worker;

use perennial_views::Epoch;

/// How long no epoch must have begun or ended.
const REST: Duration = Duration::from_millis(250);

/// Updates that an arrangement merges at a time.
const EFFORT: usize = 1000;

/// Where the library looks for what an arrangement does of itself.
const EXERTION: &str = "differential/default_exert_logic";

/// Since when the views rest, for all workers.
#[derive(Clone)]
pub(super) struct Rest {
    started: Instant,
    /// Milliseconds from there to the last epoch that began or ended.
    disturbed_ms: Arc<AtomicU64>,
}

impl Rest {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            disturbed_ms: Arc::default(),
        }
    }

    /// An epoch begins or ends.
    pub(super) fn disturb(&self) {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.disturbed_ms.fetch_max(ms, Ordering::Relaxed);
    }

    /// Has arrangements of these workers merge of themselves while the views rest.
    pub(super) fn configure(&self, worker: &mut WorkerConfig) {
        let rest = self.clone();
        let effort: ExertionLogic = Arc::new(move |levels| {
            let is_merging = levels.iter().any(|(_, n_batches, _)| *n_batches > 1);
            let n_filled = levels.iter().filter(|(_, _, len)| *len > 0).count();
            let is_to_merge = is_merging || n_filled > 1;
            // The clock is asked last: most arrangements have nothing to merge.
            (is_to_merge && rest.begun().is_some()).then_some(EFFORT)
        });
        worker.set(EXERTION.to_owned(), effort);
    }

    /// Which rest this is, if it is one.
    fn begun(&self) -> Option<u64> {
        let disturbed_ms = self.disturbed_ms.load(Ordering::Relaxed);
        let since = self.started + Duration::from_millis(disturbed_ms);
        (since.elapsed() >= REST).then_some(disturbed_ms)
    }
}

/// The operators of one dataflow on one worker.
pub(super) struct Operators {
    /// Where the one that was made last stands: in the dataflow, behind all others.
    last: Rc<[usize]>,
}

impl Operators {
    /// Those that were made so far.
    pub(super) fn so_far(scope: Scope<'_, Epoch>) -> Self {
        // An operator that does nothing, for its number.
        let builder = OperatorBuilder::new("Last".to_owned(), scope);
        let last = builder.operator_info().address;
        builder.build(|_capabilities| |_frontiers| {});
        Self { last }
    }

    fn wake(&self, worker: &Worker) {
        let activations = worker.activations();
        let mut activations = activations.borrow_mut();
        let Some((last, dataflow)) = self.last.split_last() else {
            return;
        };
        for operator in 1..=*last {
            activations.activate(&[dataflow, &[operator]].concat());
        }
    }
}

/// The merges of one worker.
pub(super) struct Merges {
    rest: Rest,
    /// The rest in which arrangements were told last.
    told: Option<u64>,
}

impl Merges {
    pub(super) fn new(rest: Rest) -> Self {
        Self { rest, told: None }
    }

    /// Lets arrangements look for what is to be merged, once in each rest; each goes on by itself
    /// until nothing is left, or the rest ends.
    pub(super) fn go_on<'a>(
        &mut self,
        worker: &Worker,
        dataflows: impl Iterator<Item = &'a Operators>,
    ) {
        let Some(rest) = self.rest.begun() else {
            return;
        };
        if self.told.replace(rest) != Some(rest) {
            dataflows.for_each(|operators| operators.wake(worker));
        }
    }
}

#[cfg(test)]
mod tests {
    use differential_dataflow::input::Input as _;
    use differential_dataflow::trace::{BatchReader as _, TraceReader as _};
    use timely::progress::frontier::AntichainRef;

    use super::*;

    #[test]
    fn what_stands_apart_is_merged_in_a_rest_and_not_before() {
        let rest = Rest::new();
        let mut worker = WorkerConfig::default();
        rest.configure(&mut worker);
        let config = timely::Config {
            communication: timely::CommunicationConfig::Thread,
            worker,
        };
        let guards = timely::execute(config, move |worker| {
            let mut merges = Merges::new(rest.clone());
            let (mut rows, mut trace, operators) = worker.dataflow(|scope| {
                let (rows, collection) = scope.new_collection::<(u64, u64), isize>();
                let trace = collection.arrange_by_key().trace;
                (rows, trace, Operators::so_far(scope))
            });
            let work = |worker: &mut Worker| {
                for _ in 0..200 {
                    worker.step();
                }
            };
            for (epoch, n_rows) in [(0, 1000), (1, 1), (2, 1)] {
                rest.disturb();
                (0..n_rows).for_each(|i| rows.insert((i, epoch)));
                rows.advance_to(epoch + 1);
                rows.flush();
                work(worker);
                trace.set_logical_compaction(AntichainRef::new(&[epoch]));
                trace.set_physical_compaction(AntichainRef::new(&[epoch + 1]));
            }
            let mut n_batches = |worker: &mut Worker| {
                merges.go_on(worker, [&operators].into_iter());
                work(worker);
                let mut n_batches = 0;
                trace.map_batches(|batch| n_batches += usize::from(!batch.is_empty()));
                n_batches
            };
            let before = n_batches(worker);
            std::thread::sleep(REST);
            (before, n_batches(worker))
        });
        let outcomes = guards.expect("a worker starts").join();
        let outcomes: Vec<(usize, usize)> = outcomes.into_iter().flatten().collect();
        assert!(
            matches!(outcomes[..], [(2.., 1)]),
            "of a thousand rows and two: {outcomes:?}"
        );
    }
}
