//! What does a persistent update cost, by the size of what persists?
//!
//! Passages of about 64 tokens stand before one question, which is answered in 64 tokens. Then
//! one passage at a random place is replaced by another, and the answer is waited for:
//!
//! - *from scratch*: nothing is there; measured once, for the layout before the edits;
//! - *prefix cache*: fragments before the edit are there, all behind it are encoded again, the
//!   answer is decoded (`Tolerance::EXACT`, nothing known of the answer before);
//! - *EVENTUAL*: the first, provisional answer of such a view: fragments behind the edit are
//!   borrowed and the answer before is the draft (`Tolerance::BORROWED`). It is held against the
//!   exact one, which the prefix cache gives;
//! - *BOUNDED*: where no sentence depends on the passage, the answer stays as it is (*skip*),
//!   after what is judged of the change by its texts ([`BOUNDED`]).
//!
//! Every edit is one of the same layout: each measurement has a store of its own that holds that
//! layout's fragments and nothing else. Times are of the model call. With llama.cpp the ids are
//! the same, and its cache holds all before the edit.

use std::sync::Arc;
use std::time::Instant;

use perennial::Scope;
use perennial::ask::{
    AnswerModel, AnswerRequest, Before, Outcome, Priority, Skip, TensorModel, Tolerance,
};
use perennial::bank::{FragmentStore, PassageLayout, Repair};
use perennial::model::cancel::Cancel;
use perennial::model::sampling::Sampling;

use crate::corpus::Corpus;
use crate::options::Options;
use crate::plot;
use crate::prompt_cache::PromptCache;
use crate::rig::Error;
use crate::rig::opened::Opened;
use perennial::calibration::Random;

const ANSWER_TOKENS: usize = 64;
/// Positions kept for prefix, question and answer.
const OUTSIDE_PASSAGES: usize = 700;
const STORE_BYTES: usize = 8 << 30;

/// What is asked does not depend on the documents, so the old answer stands: what is measured
/// is the update, not the writing of another answer.
const PROMPT: &str =
    "Ignore the documents. Repeat the following sentence word for word, again and again.";
const QUESTION: &str = "The quick brown fox jumps over the lazy dog near the quiet river bank.";

/// Tokens and ratio of each published measurement: a prompt without the stale record encoded
/// again, by a repair of the cache, both with decoding.
const PUBLISHED: [(f64, &str); 3] = [(6700.0, "15.35x"), (31_000.0, "37.9x"), (32_000.0, "38.5x")];

/// `BOUNDED(0.05)`.
const BOUNDED: Tolerance = Tolerance {
    regret: 0.05,
    borrows: true,
    skips: Some(Skip { below: 0.05 }),
    appends: false,
};

/// What one answer cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Seconds until it was there.
    pub wall_s: f64,
    /// Tokens forwarded for it.
    pub n_forwarded: usize,
}

/// Everything measured at one size; medians over the edits.
pub struct Point {
    /// Tokens of all passages.
    pub n_tokens: usize,
    /// From nothing.
    pub scratch: Cost,
    /// With everything before the edit at hand.
    pub prefix_cache: Cost,
    /// Provisional.
    pub eventual: Cost,
    /// Left as it was, where that was within bounds.
    pub bounded: Cost,
    /// llama.cpp from nothing, and with everything before the edit in its cache.
    pub peer: Option<(Cost, Cost)>,
    /// How the provisional answers were served.
    rungs: Vec<String>,
    /// How those of BOUNDED were.
    bounded_rungs: Vec<String>,
    /// Provisional answers that were the exact ones.
    n_same: usize,
}

/// Prints a line a size and draws the curves.
pub fn measure(opened: Opened, options: &Options) -> Result<(), Error> {
    let n_positions = opened.model.n_positions();
    let most = n_positions.saturating_sub(OUTSIDE_PASSAGES);
    let mut sizes: Vec<usize> = options.tokens.iter().map(|n| *n.min(&most)).collect();
    sizes.dedup();
    let capacity = sizes.iter().max().copied().unwrap_or_default() + OUTSIDE_PASSAGES;
    let mut peer = match &options.peer_python {
        Some(python) => Some(PromptCache::load(
            python,
            &opened.path,
            options.threads,
            capacity,
        )?),
        None => None,
    };
    println!(
        "### Persistent updates: {} (`{}`), {} threads, {} edits\n",
        opened.name,
        opened.file_name(),
        options.threads,
        options.edits,
    );
    if let Some(peer) = &peer {
        println!("{}\n", peer.description());
    }
    println!("{HEAD}");
    warm_up(&opened.model)?;
    let mut points = Vec::new();
    for n_tokens in sizes {
        let point = at(&opened, n_tokens, options, peer.as_mut())?;
        println!("{}", point.markdown());
        points.push(point);
        // Again after each size: the larger ones take long.
        plot::draw(&options.plot, &opened.name, &points)?;
    }
    eprintln!("the curves: {}", options.plot.display());
    Ok(())
}

/// The first passes pay for allocations.
fn warm_up(model: &TensorModel) -> Result<(), Error> {
    let model = model.without_stop(Arc::new(FragmentStore::new(STORE_BYTES)));
    let layout = Corpus::new(&model, 200)?.layout();
    answer(&model, &layout, &Before::default(), Tolerance::EXACT)?;
    Ok(())
}

fn at(
    opened: &Opened,
    n_tokens: usize,
    options: &Options,
    mut peer: Option<&mut PromptCache>,
) -> Result<Point, Error> {
    let base = opened
        .model
        .without_stop(Arc::new(FragmentStore::new(STORE_BYTES)));
    let corpus = Corpus::new(&base, n_tokens)?;
    let layout = corpus.layout();
    let n_tokens = layout.n_tokens();
    eprintln!("{n_tokens} tokens: from scratch");
    let nothing = Before::default();
    let (outcome, scratch) = answer(&base, &layout, &nothing, Tolerance::EXACT)?;
    if options.verbose {
        eprintln!("{}", outcome.answer.text);
    }
    let prompt = base.prompt_tokens(&request(&layout, &nothing, Tolerance::EXACT))?;
    let before = Before::of(QUESTION.into(), layout.clone(), &outcome);
    let peer_scratch = match &mut peer {
        Some(peer) => Some(peer.answer(&prompt, 0, ANSWER_TOKENS)?),
        None => None,
    };

    let mut random = Random(options.seed);
    let n_edits = usize::from(options.edits);
    let mut places: Vec<usize> = (0..n_edits).map(|_| random.below(corpus.len())).collect();
    // The last place first: what llama.cpp's cache holds before an edit, it then holds still.
    places.sort_unstable_by(|a, b| b.cmp(a));
    let (mut eventual, mut prefix_cache, mut peer_cache) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bounded, mut bounded_rungs) = (Vec::new(), Vec::new());
    let (mut rungs, mut n_same) = (Vec::new(), 0);
    for place in places {
        eprintln!("{n_tokens} tokens: passage {place} of {}", corpus.len());
        let edited = corpus.edited(&base, place)?;
        let model = with_fragments_of(&base, &layout)?;
        let (provisional, cost) = answer(&model, &edited, &before, Tolerance::BORROWED)?;
        eventual.push(cost);
        let model = with_fragments_of(&base, &layout)?;
        let (left, cost) = answer(&model, &edited, &before, BOUNDED)?;
        bounded.push(cost);
        bounded_rungs.push(left.rung.to_string());
        let model = with_fragments_of(&base, &layout)?;
        let (exact, cost) = answer(&model, &edited, &nothing, Tolerance::EXACT)?;
        prefix_cache.push(cost);
        rungs.push(provisional.rung.to_string());
        n_same += usize::from(provisional.tokens == exact.tokens);
        if options.verbose {
            eprintln!("EVENTUAL: {}", provisional.answer.text);
            eprintln!("exact: {}", exact.answer.text);
        }
        if let Some(peer) = &mut peer {
            let edited = base.prompt_tokens(&request(&edited, &nothing, Tolerance::EXACT))?;
            let n_cached = prompt.iter().zip(&edited).take_while(|(a, b)| a == b);
            peer_cache.push(peer.answer(&edited, n_cached.count(), ANSWER_TOKENS)?);
        }
    }
    Ok(Point {
        n_tokens,
        scratch,
        prefix_cache: median(prefix_cache),
        eventual: median(eventual),
        bounded: median(bounded),
        peer: peer_scratch.map(|scratch| (scratch, median(peer_cache))),
        rungs,
        bounded_rungs,
        n_same,
    })
}

/// The same model over a store that holds the fragments of one layout.
fn with_fragments_of(base: &TensorModel, layout: &PassageLayout) -> Result<TensorModel, Error> {
    let store = FragmentStore::new(STORE_BYTES);
    for (id, n_tokens) in base.fragments(Scope::Causal, layout.passages()) {
        let kv = base.store().get(&id);
        let kv = kv.ok_or("the fragments of this many tokens do not fit into the store")?;
        store.insert(id, kv, n_tokens);
    }
    Ok(base.with_store(Arc::new(store)))
}

fn request<'a>(
    layout: &'a PassageLayout,
    before: &'a Before,
    tolerance: Tolerance,
) -> AnswerRequest<'a> {
    AnswerRequest {
        scope: Scope::Causal,
        prompt: PROMPT,
        question: QUESTION,
        layout,
        repair: Repair::default(),
        before,
        tolerance,
        keeps_log: false,
        reencode: 0,
        turnover: 1.0,
        max_tokens: ANSWER_TOKENS,
        sampling: Sampling::Greedy,
        priority: Priority::Fresh,
        cancel: Cancel::new(),
    }
}

fn answer(
    model: &TensorModel,
    layout: &PassageLayout,
    before: &Before,
    tolerance: Tolerance,
) -> Result<(Outcome, Cost), Error> {
    let request = request(layout, before, tolerance);
    let begin = Instant::now();
    let outcome = model.answer(&request, &mut ())?;
    let cost = Cost {
        wall_s: begin.elapsed().as_secs_f64(),
        n_forwarded: outcome.work.n_forwarded(),
    };
    Ok((outcome, cost))
}

/// Of times and of tokens, each by itself.
fn median(mut costs: Vec<Cost>) -> Cost {
    let middle = costs.len() / 2;
    costs.sort_by(|a, b| a.wall_s.total_cmp(&b.wall_s));
    let wall_s = costs[middle].wall_s;
    costs.sort_by_key(|cost| cost.n_forwarded);
    let n_forwarded = costs[middle].n_forwarded;
    Cost {
        wall_s,
        n_forwarded,
    }
}

const HEAD: &str = "\
| tokens | from scratch | prefix cache | EVENTUAL | rungs | same as exact | scratch / EVENTUAL | \
LineageKV: re-prefill / repair | prefix cache / EVENTUAL | BOUNDED | rungs | scratch / BOUNDED | \
llama.cpp from scratch | llama.cpp prompt cache | llama.cpp prompt cache / EVENTUAL |\n\
| ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |";

impl Point {
    /// A line; times with the tokens forwarded.
    fn markdown(&self) -> String {
        let over = |cost: Cost| format!("{:.1}x", cost.wall_s / self.eventual.wall_s.max(1e-9));
        let n_tokens = self.n_tokens as f64;
        let published = PUBLISHED
            .iter()
            .map(|(n, ratio)| ((n_tokens / n - 1.0).abs(), *ratio))
            .filter(|(distance, _)| *distance < 0.05)
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let dash = || "-".to_owned();
        let (peer_scratch, peer_cache, peer_over) = match self.peer {
            Some((scratch, cache)) => (scratch.to_string(), cache.to_string(), over(cache)),
            None => (dash(), dash(), dash()),
        };
        format!(
            "| {} | {} | {} | {} | {} | {} of {} | {} | {} | {} | {} | {} | {:.1}x | {peer_scratch} \
             | {peer_cache} | {peer_over} |",
            self.n_tokens,
            self.scratch,
            self.prefix_cache,
            self.eventual,
            self.rungs.join(", "),
            self.n_same,
            self.rungs.len(),
            over(self.scratch),
            published.map_or("-", |(_, ratio)| ratio),
            over(self.prefix_cache),
            self.bounded,
            self.bounded_rungs.join(", "),
            self.scratch.wall_s / self.bounded.wall_s.max(1e-9),
        )
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} s ({})", self.wall_s, self.n_forwarded)
    }
}
