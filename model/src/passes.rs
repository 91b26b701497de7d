//! Which forward passes run together?
//!
//! Several answers are written at a time, each by a thread of its own that needs one small
//! pass after the other. A pass over few rows costs what reading the weights costs, however
//! few they are; so passes that wait at the same time are joined into one. Who finds nobody
//! computing becomes the leader: it waits a moment for callers that are about to ask,
//! computes for all, and hands out the results. This is continuous batching: a call joins
//! and leaves between any two passes.
//!
//! # Contract
//! A row's bits do not depend on the rows it was joined with (see
//! [`decoder`](crate::decoder)), so nobody can tell from a result who else was computed
//! for. Fresh passes go before background passes and are never joined with them.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::decoder::{Choice, Decoder, Logits, Pending, Rows, gap};
use crate::error::Error;
use crate::grammar::TokenSet;
use crate::kv::Tail;
use crate::layout::Layout;
use crate::sampling::Sampling;

/// Rows of joined passes; what one caller asks for may be more. Who is fresh waits for the
/// background pass that runs, so that is a short one.
pub const fn max_rows(priority: Priority) -> usize {
    match priority {
        Priority::Fresh => 512,
        Priority::Background => 128,
    }
}
/// How long a leader waits for callers between two passes of theirs.
const GATHER: Duration = Duration::from_millis(2);

/// Which work goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Nobody waits for it.
    Background,
    /// Feeds a fresh answer.
    #[default]
    Fresh,
}

/// The only tokens that may be chosen.
#[derive(Clone, Debug)]
pub enum Candidates {
    /// These, each with what is taken off its logit before they are compared. Not empty.
    Weighed(Arc<[(u32, f32)]>),
    /// Those of a set that is not empty, by their logits.
    Within(TokenSet),
}

/// One run of a forward pass.
#[derive(Clone, Debug)]
pub struct Pass {
    /// What the rows attend to before the tail.
    pub layout: Arc<Layout>,
    /// Passes of the same call that the rows attend to, too.
    pub pending: Vec<Pending>,
    /// Comes back grown by the rows.
    pub tail: Tail,
    /// One a row.
    pub tokens: Vec<u32>,
    /// Which rows are to choose a token.
    pub logits: Logits,
    /// How they choose.
    pub sampling: Sampling,
    /// The only tokens that may be chosen; all of the vocabulary without. The highest is chosen,
    /// however others are.
    pub among: Option<Candidates>,
    /// What the wanted rows are held against, if anything.
    pub expected: Option<Expected>,
    /// Index in the answer of the first choice.
    pub n_emitted: usize,
    /// Whether each row's attention mass is wanted.
    pub mass: bool,
}

/// Tokens that the wanted rows of a pass are held against.
#[derive(Clone, Debug)]
pub struct Expected {
    /// By wanted row.
    pub tokens: Vec<u32>,
    /// Of the row behind these, any of these; it is not held against anything where there are none.
    pub ends: Arc<[u32]>,
}

impl Expected {
    /// Number of rows of which something is expected.
    pub fn n_rows(&self) -> usize {
        self.tokens.len() + usize::from(!self.ends.is_empty())
    }

    /// How far what is expected of a wanted row is below the likeliest, whose logit is `highest`, in
    /// nats; none where nothing is.
    fn gap(&self, row: usize, highest: f32, logits: &[f32]) -> Option<f32> {
        match self.tokens.get(row) {
            Some(token) => Some(gap(&[*token], highest, logits)),
            None if row == self.tokens.len() && !self.ends.is_empty() => {
                Some(gap(&self.ends, highest, logits))
            }
            None => None,
        }
    }
}

/// What a run gave.
#[derive(Clone, Debug)]
pub struct Passed {
    /// The tail, grown.
    pub tail: Tail,
    /// One a wanted row.
    pub choices: Vec<Choice>,
    /// One a row of which something was expected: how far that is below the likeliest token, in nats
    /// (a difference of logits is one of log-probabilities); infinite where that is no number.
    pub gaps: Vec<f32>,
    /// One a wanted row that chose among weighed candidates: their logits less what is taken off, in
    /// the candidates' order.
    pub scores: Vec<Vec<f32>>,
    /// `[n_rows][n_segments + n_pending + 1]`, as in [`RowsOutput::mass`](crate::decoder::RowsOutput).
    pub mass: Vec<Vec<f32>>,
}

/// What becomes of what was asked for.
type Given = Result<Vec<Passed>, Error>;

/// Joins the forward passes of one decoder's callers.
pub struct Passes {
    decoder: Arc<Decoder>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: Vec<Queued>,
    /// By number: what waits to be fetched.
    done: HashMap<u64, Given>,
    n_asked: u64,
    /// Callers between [`Passes::enter`] and its end, background and fresh.
    n_callers: [usize; 2],
    is_running: bool,
    n_forwards: u64,
}

struct Queued {
    number: u64,
    priority: Priority,
    batch: Vec<Pass>,
    cancel: Cancel,
}

/// Says, while it lives, that a caller asks for one pass after the other.
pub struct Caller<'a> {
    passes: &'a Passes,
    priority: Priority,
}

impl Passes {
    /// The passes of a decoder.
    pub fn new(decoder: Arc<Decoder>) -> Self {
        Self {
            decoder,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The decoder that computes.
    pub fn decoder(&self) -> &Arc<Decoder> {
        &self.decoder
    }

    /// Forward passes computed so far, a joined one counted once.
    pub fn n_forwards(&self) -> u64 {
        self.lock().n_forwards
    }

    /// Announces a caller that will ask for passes in a row: a leader waits for it.
    pub fn enter(&self, priority: Priority) -> Caller<'_> {
        self.lock().n_callers[priority as usize] += 1;
        Caller {
            passes: self,
            priority,
        }
    }

    /// Computes runs, joined with whatever else is waiting.
    ///
    /// # Errors
    /// As [`Decoder::forward`]; [`Error::PassLost`] if the thread that computed panicked.
    pub fn run(
        &self,
        priority: Priority,
        mut batch: Vec<Pass>,
        cancel: &Cancel,
    ) -> Result<Vec<Passed>, Error> {
        let rows: Vec<Rows<'_>> = batch.iter_mut().map(Pass::rows).collect();
        self.decoder.check(&rows)?;
        drop(rows);
        let mut state = self.lock();
        let number = state.n_asked;
        state.n_asked += 1;
        state.queue.push(Queued {
            number,
            priority,
            batch,
            cancel: cancel.clone(),
        });
        self.changed.notify_all();
        loop {
            if let Some(result) = state.done.remove(&number) {
                return result;
            }
            if state.is_running {
                state = self.wait(state);
                continue;
            }
            state.is_running = true;
            state = self.gather(state);
            let taken = state.take();
            drop(state);
            if !taken.is_empty() {
                self.lead(taken);
            }
            state = self.lock();
            state.is_running = false;
            self.changed.notify_all();
        }
    }

    /// Waits until every caller of the highest priority has asked, for a moment at most; a
    /// background pass lets fresh callers that are between two passes go first.
    fn gather<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let until = Instant::now() + GATHER;
        loop {
            let priority = state.highest();
            let n_queued = state.queue.iter().filter(|q| q.priority == priority);
            let left = until.saturating_duration_since(Instant::now());
            let are_all_here = n_queued.count() >= state.n_callers[priority as usize];
            let n_fresh = state.n_callers[Priority::Fresh as usize];
            let gives_way = priority == Priority::Background && n_fresh > 0;
            if (are_all_here && !gives_way) || left.is_zero() {
                return state;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Computes for all of `taken`.
    fn lead(&self, mut taken: Vec<Queued>) {
        let mut lead = Lead {
            passes: self,
            results: taken.iter().map(|q| (q.number, None)).collect(),
        };
        // One caller's wish to stop must not stop the others.
        let cancel = match &taken[..] {
            [one] => one.cancel.clone(),
            _ => Cancel::new(),
        };
        let choosers: Vec<Chooser> = taken
            .iter()
            .flat_map(|queued| &queued.batch)
            .map(Chooser::of)
            .collect();
        let mut rows: Vec<Rows<'_>> = taken
            .iter_mut()
            .flat_map(|queued| &mut queued.batch)
            .map(Pass::rows)
            .collect();
        let forwarded = self
            .decoder
            .forward_with(&mut rows, &cancel, |run, number, logits| {
                choosers[run].choose(number, logits)
            });
        drop(rows);
        match forwarded {
            Ok(forwarded) => {
                let mut outputs = forwarded.into_iter();
                for (queued, (_, result)) in taken.into_iter().zip(&mut lead.results) {
                    let passes = queued.batch.into_iter();
                    let passed = passes.zip(outputs.by_ref());
                    let passed = passed.map(|(pass, output)| {
                        let mut passed = Passed {
                            tail: pass.tail,
                            choices: Vec::with_capacity(output.chosen.len()),
                            gaps: Vec::new(),
                            scores: Vec::new(),
                            mass: output.mass,
                        };
                        for chosen in output.chosen {
                            passed.choices.push(chosen.choice);
                            passed.gaps.extend(chosen.gap);
                            passed.scores.extend(chosen.scores);
                        }
                        passed
                    });
                    *result = Some(Ok(passed.collect()));
                }
            }
            // Everything else was checked when it was asked for.
            Err(error) => {
                let mut error = Some(error);
                for (_, result) in &mut lead.results {
                    *result = Some(Err(error.take().unwrap_or(Error::PassLost)));
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of the logits of a run's wanted rows.
struct Chooser {
    sampling: Sampling,
    among: Option<Candidates>,
    expected: Option<Expected>,
    n_emitted: usize,
}

impl Chooser {
    fn of(pass: &Pass) -> Self {
        Self {
            sampling: pass.sampling,
            among: pass.among.clone(),
            expected: pass.expected.clone(),
            n_emitted: pass.n_emitted,
        }
    }

    fn choose(&self, row: usize, logits: &[f32]) -> Chosen {
        let choice = match &self.among {
            Some(Candidates::Weighed(tokens)) => Choice::among(tokens, logits),
            Some(Candidates::Within(set)) => Choice::within(set, logits),
            None => self.sampling.choose(self.n_emitted + row, logits),
        };
        let scores = match &self.among {
            Some(Candidates::Weighed(tokens)) => {
                let scores = tokens.iter();
                Some(scores.map(|(token, less)| logits[*token as usize] - less))
            }
            _ => None,
        };
        let scores = scores.map(Iterator::collect);
        let expected = self.expected.as_ref();
        let gap = expected.and_then(|expected| {
            let highest = match (&self.among, self.sampling) {
                (None, Sampling::Greedy) => choice.logit,
                // What was chosen need not be the likeliest.
                _ => Choice::of(logits).logit,
            };
            expected.gap(row, highest, logits)
        });
        Chosen {
            choice,
            gap,
            scores,
        }
    }
}

/// What a wanted row gives.
struct Chosen {
    choice: Choice,
    /// How far below the likeliest is what was expected of it.
    gap: Option<f32>,
    /// Of weighed candidates, their logits less what is taken off.
    scores: Option<Vec<f32>>,
}

impl Pass {
    fn rows(&mut self) -> Rows<'_> {
        Rows {
            layout: &self.layout,
            pending: &self.pending,
            tail: &mut self.tail,
            tokens: &self.tokens,
            logits: self.logits,
            mass: self.mass,
        }
    }

    fn n_rows(batch: &[Self]) -> usize {
        batch.iter().map(|pass| pass.tokens.len()).sum()
    }
}

impl State {
    fn highest(&self) -> Priority {
        let priorities = self.queue.iter().map(|queued| queued.priority);
        priorities.max().unwrap_or_default()
    }

    /// What is computed next: the oldest of the highest priority, and what fits beside it.
    fn take(&mut self) -> Vec<Queued> {
        let cancelled = self.queue.extract_if(.., |q| q.cancel.is_cancelled());
        for queued in cancelled.collect::<Vec<_>>() {
            self.done.insert(queued.number, Err(Error::Cancelled));
        }
        let priority = self.highest();
        let mut n_rows = 0;
        let taken = self.queue.extract_if(.., |queued| {
            let n = Pass::n_rows(&queued.batch);
            let fits =
                queued.priority == priority && (n_rows == 0 || n_rows + n <= max_rows(priority));
            n_rows += if fits { n } else { 0 };
            fits
        });
        taken.collect()
    }
}

/// Hands out what a leader computed, or, if it panicked, that nothing will come.
struct Lead<'a> {
    passes: &'a Passes,
    /// By number; nothing until it is computed.
    results: Vec<(u64, Option<Given>)>,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut state = self.passes.lock();
        for (number, result) in self.results.drain(..) {
            let result = result.unwrap_or(Err(Error::PassLost));
            state.done.insert(number, result);
        }
        state.n_forwards += 1;
        if std::thread::panicking() {
            state.is_running = false;
            self.passes.changed.notify_all();
        }
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.passes.lock().n_callers[self.priority as usize] -= 1;
        self.passes.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::generation::{Generation, GenerationRequest, generate};
    use crate::seeded::{tiny, tiny_config};

    fn passes() -> Passes {
        let config = tiny_config();
        let decoder = Decoder::load(config.clone(), &tiny(&config, 3), 1, &mut |_, _| {});
        Passes::new(Arc::new(decoder.expect("loads")))
    }

    fn answer(passes: &Passes, layout: &Arc<Layout>, i: u32, priority: Priority) -> Generation {
        let prompt: Vec<u32> = (0..5 + i).map(|t| (t * 7 + i) % 96).collect();
        let request = GenerationRequest {
            layout,
            prompt: &prompt,
            draft: &[],
            tolerance: 0.0,
            sub_paragraphs: None,
            max_tokens: 20,
            sampling: Sampling::Greedy,
            stop: &[],
            mass: true,
            priority,
            cancel: &Cancel::new(),
        };
        generate(passes, &request, &mut |_| ControlFlow::Continue(())).expect("valid")
    }

    fn same(a: &Generation, b: &Generation) -> bool {
        let bits = |g: &Generation| -> Vec<u32> {
            let mass = g.mass.iter().flatten();
            mass.chain(&g.margins).map(|x| x.to_bits()).collect()
        };
        a.tokens == b.tokens && bits(a) == bits(b)
    }

    #[test]
    fn joined_passes_give_the_bits_of_lone_ones_in_fewer_forwards() {
        let passes = passes();
        let layout = Arc::new(Layout::new());
        let n = 6;
        let alone: Vec<_> = (0..n)
            .map(|i| answer(&passes, &layout, i, Priority::Fresh))
            .collect();
        let n_alone = passes.n_forwards();
        // As if one computed until all have asked: their first passes at least are one.
        passes.lock().is_running = true;
        let joined: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..n)
                .map(|i| {
                    let (passes, layout) = (&passes, &layout);
                    scope.spawn(move || answer(passes, layout, i, Priority::Fresh))
                })
                .collect();
            let until = Instant::now() + Duration::from_secs(120);
            while passes.lock().queue.len() < n as usize {
                assert!(Instant::now() < until, "all ask");
                std::thread::sleep(Duration::from_millis(1));
            }
            passes.lock().is_running = false;
            passes.changed.notify_all();
            let joined = threads.into_iter().map(|t| t.join().expect("no panic"));
            joined.collect()
        });
        for (alone, joined) in alone.iter().zip(&joined) {
            assert!(same(alone, joined));
        }
        let n_joined = passes.n_forwards() - n_alone;
        let n_saved = u64::from(n) - 1;
        assert!(
            n_joined <= n_alone - n_saved,
            "{n_joined} forwards, {n_alone} alone"
        );
    }

    #[test]
    fn what_waits_together_is_one_forward_and_background_waits() {
        let passes = passes();
        let pass = || Pass {
            layout: Arc::new(Layout::new()),
            pending: Vec::new(),
            tail: passes.decoder().new_tail(0),
            tokens: vec![1, 2, 3],
            logits: Logits::Last,
            sampling: Sampling::Greedy,
            among: None,
            expected: None,
            n_emitted: 0,
            mass: false,
        };
        let mut state = State::default();
        let priorities = [Priority::Background, Priority::Fresh, Priority::Fresh];
        for (number, priority) in priorities.into_iter().enumerate() {
            state.queue.push(Queued {
                number: number as u64,
                priority,
                batch: vec![pass()],
                cancel: Cancel::new(),
            });
        }
        let taken: Vec<u64> = state.take().iter().map(|q| q.number).collect();
        assert_eq!(taken, [1, 2]);
        state.queue[0].cancel.cancel();
        assert!(state.take().is_empty());
        assert!(matches!(state.done[&0], Err(Error::Cancelled)));
        assert!(
            passes
                .run(Priority::Fresh, vec![pass()], &Cancel::new())
                .is_ok()
        );
    }

    #[test]
    fn joined_chains_stand_behind_their_own() {
        let passes = passes();
        let layout = Arc::new(Layout::new());
        let chain = |tokens: [u32; 3]| -> Vec<Pass> {
            let pass = |number: usize| Pass {
                layout: layout.clone(),
                pending: (1..=number)
                    .rev()
                    .map(|n_back| Pending { n_back, segment: 0 })
                    .collect(),
                tail: passes.decoder().new_tail(number as u32),
                tokens: vec![tokens[number]],
                logits: Logits::Last,
                sampling: Sampling::Greedy,
                among: None,
                expected: None,
                n_emitted: 0,
                mass: false,
            };
            (0..3).map(pass).collect()
        };
        let chains = [[1, 2, 3], [40, 50, 60], [7, 8, 9]];
        let alone = chains.map(|tokens| {
            let passed = passes.run(Priority::Fresh, chain(tokens), &Cancel::new());
            passed.expect("valid")
        });
        let taken: Vec<_> = (0..)
            .zip(chains)
            .map(|(number, tokens)| Queued {
                number,
                priority: Priority::Fresh,
                batch: chain(tokens),
                cancel: Cancel::new(),
            })
            .collect();
        passes.lead(taken);
        let mut done = std::mem::take(&mut passes.lock().done);
        for (number, alone) in (0..).zip(alone) {
            let joined = done.remove(&number).expect("led").expect("valid");
            for (joined, alone) in joined.into_iter().zip(alone) {
                assert_eq!(joined.choices, alone.choices);
                assert_eq!(joined.tail.freeze(), alone.tail.freeze());
            }
        }
    }

    #[test]
    fn one_bad_run_spoils_no_other() {
        let passes = passes();
        let bad = Pass {
            layout: Arc::new(Layout::new()),
            pending: Vec::new(),
            tail: passes.decoder().new_tail(0),
            tokens: vec![u32::MAX],
            logits: Logits::None,
            sampling: Sampling::Greedy,
            among: None,
            expected: None,
            n_emitted: 0,
            mass: false,
        };
        let error = passes.run(Priority::Fresh, vec![bad], &Cancel::new());
        assert!(matches!(error, Err(Error::TokenOutOfRange { .. })));
        let layout = Arc::new(Layout::new());
        assert_eq!(
            answer(&passes, &layout, 1, Priority::Background)
                .tokens
                .len(),
            20
        );
    }
}
