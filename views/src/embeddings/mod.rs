//! Which texts have vectors, and which wait for one? One table for all views.
//!
//! # Design
//! A text is named by its digest. The first view that asks for it puts it into a queue;
//! whoever asks meanwhile waits for the same vector, and whoever asks later is given it.
//! Each text that is queued submits one job, and a job takes as many waiting texts as a
//! batch may have: the more wait, the larger the batches, and nobody waits for a batch to
//! fill. A batch that fails, or panics, is tried in halves, so that one text's failure is
//! its own. Where the embedder is away, what its texts still lack is tried again later, and
//! the views that wait are told.
//!
//! # Invariants
//! - A text that nobody uses any more leaves the table, and its batch if that has not begun.
//! - The memo hears of a text's first use and of its last, whatever number of views use it.
//! - A text's vector does not depend on its batch ([`Embed`]'s contract).
//! - A vector in the table has finite elements, and not too many.
//! - What may succeed later is no text's failure.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use perennial_ask::{Attempt, CallError, Cancel, Embed, Executor, Failure, Priority};
use perennial_operators::call::{Calls, Reply};
use perennial_operators::select::Vector;
use serde::{Deserialize, Serialize};

use crate::calls::{Observer, is_told, with_pause};
use crate::dataflow::Epoch;
use crate::memo::{Memo, VectorDigest};
use crate::shared::{Asked, SharedResults};

/// Texts of one batch.
const MAX_BATCH_TEXTS: usize = 64;
/// Bytes of the texts of one batch, unless it is one text.
const MAX_BATCH_BYTES: usize = 256 << 10;
/// A vector with more elements is refused.
const MAX_ELEMENTS: usize = 1 << 16;

/// What embedding a text gives; an error is data.
pub(crate) type Embedded = Result<Vector, String>;

/// A text to embed, compared by its digest: no text is read to arrange it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EmbedText {
    digest: VectorDigest,
    title: Option<Arc<str>>,
    text: Arc<str>,
}

impl EmbedText {
    /// A text by itself, for the embedder with this digest.
    pub(crate) fn plain(embedder: &[u8; 32], text: &Arc<str>) -> Self {
        Self {
            digest: VectorDigest::of(embedder, &[text]),
            title: None,
            text: text.clone(),
        }
    }

    /// A text below the line of its title.
    pub(crate) fn titled(embedder: &[u8; 32], title: &Arc<str>, text: &Arc<str>) -> Self {
        Self {
            digest: VectorDigest::of(embedder, &[title, "\n", text]),
            title: Some(title.clone()),
            text: text.clone(),
        }
    }

    /// What the embedder is given.
    fn whole(&self) -> String {
        match &self.title {
            Some(title) => format!("{title}\n{}", self.text),
            None => self.text.to_string(),
        }
    }

    fn n_bytes(&self) -> usize {
        let title = self.title.as_ref();
        title.map_or(0, |title| title.len() + 1) + self.text.len()
    }
}

impl PartialEq for EmbedText {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}
impl Eq for EmbedText {}
impl PartialOrd for EmbedText {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for EmbedText {
    fn cmp(&self, other: &Self) -> Ordering {
        self.digest.cmp(&other.digest)
    }
}
impl Hash for EmbedText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

/// How many texts one worker of a view has had to embed, and has embedded.
#[derive(Default)]
pub(crate) struct EmbedCount {
    pub(crate) n_done: AtomicUsize,
    pub(crate) n_asked: AtomicUsize,
}

/// Who waits for a vector.
struct Waiting {
    reply: Reply<Embedded>,
    cancel: Cancel,
    count: Arc<EmbedCount>,
    view: Arc<str>,
    observer: Arc<dyn Observer>,
}

#[derive(Default)]
struct Table {
    results: SharedResults<VectorDigest, EmbedText, Embedded, Waiting>,
    /// Texts that no batch has taken; those that nobody asks for are no longer wanted.
    queue: VecDeque<VectorDigest>,
}

/// The vectors of all texts in use.
pub struct Embeddings {
    embedder: Arc<dyn Embed>,
    memo: Arc<dyn Memo>,
    executor: Arc<Executor>,
    /// Where its jobs queue: they are of all views.
    lane: Arc<str>,
    table: Mutex<Table>,
}

impl Embeddings {
    /// An empty table over an embedder, which is called by `executor` if the memo does not
    /// know.
    pub fn new(embedder: Arc<dyn Embed>, memo: Arc<dyn Memo>, executor: Arc<Executor>) -> Self {
        Self {
            embedder,
            memo,
            executor,
            lane: "embeddings".into(),
            table: Mutex::default(),
        }
    }

    /// The embedder's digest.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.embedder.digest()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `waiting` told the vector of `text`, now or later, and counts one use.
    fn ask(self: &Arc<Self>, text: &EmbedText, waiting: Waiting) {
        let asked = {
            let results = &mut self.table().results;
            results.ask(text.digest, text, waiting, Waiting::is_wanted)
        };
        match asked {
            Asked::Known(embedded, waiting) => return waiting.tell(text, embedded, false),
            // A batch passes over a text that only a view that is gone waited for.
            Asked::Joined { was_wanted: false } => return self.queue(text.digest),
            Asked::Joined { was_wanted: true } => return,
            Asked::First => {}
        }
        let kept = self.memo.vector(&text.digest);
        match kept.map(|kept| checked(&kept)) {
            Some(Ok(vector)) => self.know(text.digest, Ok(vector), false),
            _ => self.queue(text.digest),
        }
    }

    /// Has a text embedded with those that wait.
    fn queue(self: &Arc<Self>, digest: VectorDigest) {
        self.table().queue.push_back(digest);
        // Not held: who stops the engine does not wait for a batch to close the memo.
        let embeddings = Arc::downgrade(self);
        let mut batch = Vec::new();
        let run = move |n_tries| embed_some(&embeddings, &mut batch, n_tries);
        self.executor
            .submit_until_done(Priority::Fresh, &self.lane, run);
    }

    /// Takes one use back.
    fn release(&self, digest: &VectorDigest) {
        let unused = self.table().results.release(digest);
        if let Some(waiting) = unused {
            // Those who wait hear of their loss, outside the lock.
            drop(waiting);
            self.memo.vector_released(digest);
        }
    }

    /// The next texts that are still wanted.
    fn take_batch(&self) -> Vec<EmbedText> {
        let mut table = self.table();
        let (mut batch, mut n_bytes) = (Vec::new(), 0);
        while let Some(digest) = table.queue.front() {
            let wanted = table.results.wanted(digest, Waiting::is_wanted);
            if let Some(text) = wanted {
                let is_full =
                    batch.len() == MAX_BATCH_TEXTS || n_bytes + text.n_bytes() > MAX_BATCH_BYTES;
                if is_full && !batch.is_empty() {
                    break;
                }
                n_bytes += text.n_bytes();
                batch.push(text.clone());
            }
            table.queue.pop_front();
        }
        batch
    }

    /// Whether a text of a batch is still wanted.
    fn is_wanted(&self, text: &EmbedText) -> bool {
        let results = &self.table().results;
        results.wanted(&text.digest, Waiting::is_wanted).is_some()
    }

    /// Tells the views that wait for some texts, each once, that these are tried again.
    fn tell_late(&self, texts: &[EmbedText], n_tries: u32, reason: &str) {
        let mut late: Vec<(Arc<str>, Arc<dyn Observer>)> = Vec::new();
        {
            let results = &self.table().results;
            for text in texts {
                let of = |waiting: &Waiting| (waiting.view.clone(), waiting.observer.clone());
                for (view, observer) in results.waiting(&text.digest, of) {
                    if late.iter().all(|(known, _)| *known != view) {
                        late.push((view, observer));
                    }
                }
            }
        }
        for (view, observer) in late {
            observer.late(&view, n_tries, reason);
        }
    }

    /// Notes what a text's embedding is, and tells all who wait.
    fn know(&self, digest: VectorDigest, embedded: Embedded, is_computed: bool) {
        let mut table = self.table();
        let Some((text, waiting)) = table.results.know(&digest, embedded.clone()) else {
            return;
        };
        if let (true, Ok(vector)) = (is_computed, &embedded) {
            // Under the lock, so that the last use cannot end before this is noted.
            let elements: Vec<f32> = vector.elements().collect();
            self.memo.embedded(&digest, &elements);
        }
        drop(table);
        for waiting in waiting {
            waiting.tell(&text, embedded.clone(), is_computed);
        }
    }
}

impl Waiting {
    fn is_wanted(&self) -> bool {
        !self.cancel.is_cancelled()
    }

    fn tell(self, text: &EmbedText, embedded: Embedded, is_computed: bool) {
        use std::sync::atomic::Ordering::Relaxed;
        if let Err(reason) = &embedded {
            self.observer.passed_over(&self.view, &text.whole(), reason);
        }
        let n_done = self.count.n_done.fetch_add(1, Relaxed) + 1;
        if is_computed {
            let n_asked = self.count.n_asked.load(Relaxed).max(n_done);
            self.observer.embedding(&self.view, n_done, n_asked);
        }
        self.reply.send(embedded);
    }
}

/// Embeds one batch of what waits; `batch` is what an earlier try left of one.
fn embed_some(embeddings: &Weak<Embeddings>, batch: &mut Vec<EmbedText>, n_tries: u32) -> Attempt {
    let Some(held) = embeddings.upgrade() else {
        return Attempt::Done;
    };
    match batch.is_empty() {
        true => *batch = held.take_batch(),
        false => batch.retain(|text| held.is_wanted(text)),
    }
    let embedder = held.embedder.clone();
    drop(held);
    let texts = std::mem::take(batch);
    let embedded = embed_all(&*embedder, &texts, &mut |text, embedded| {
        if let Some(held) = embeddings.upgrade() {
            held.know(text.digest, embedded, true);
        }
    });
    let Err(Left { n_texts, why }) = embedded else {
        return Attempt::Done;
    };
    *batch = texts[texts.len() - n_texts..].to_vec();
    match why {
        Later::Wait(pause) => Attempt::Wait(pause),
        Later::Retry { reason, after } => {
            if is_told(n_tries, after)
                && let Some(held) = embeddings.upgrade()
            {
                held.tell_late(batch, n_tries + 1, &with_pause(reason, after));
            }
            Attempt::Later(after)
        }
    }
}

/// What of a batch is to be tried later: its last texts.
struct Left {
    n_texts: usize,
    why: Later,
}

/// Why texts are tried later.
enum Later {
    Wait(Duration),
    Retry {
        reason: String,
        after: Option<Duration>,
    },
}

/// Embeds a batch; in halves where it fails as a whole.
fn embed_all(
    embedder: &dyn Embed,
    batch: &[EmbedText],
    know: &mut impl FnMut(&EmbedText, Embedded),
) -> Result<(), Left> {
    // What is left, the part that comes next on top.
    let mut parts = vec![batch];
    while let Some(part) = parts.pop() {
        let why = match embedded(embedder, part) {
            Ok(vectors) => {
                for (text, vector) in part.iter().zip(vectors) {
                    know(text, checked(&vector));
                }
                continue;
            }
            Err(Failure::Final(error)) => {
                match part {
                    [text] => know(text, Err(error.to_string())),
                    several => {
                        let (first, rest) = several.split_at(several.len() / 2);
                        parts.extend([rest, first]);
                    }
                }
                continue;
            }
            Err(Failure::Wait(pause)) => Later::Wait(pause),
            Err(Failure::Retry { reason, after }) => Later::Retry { reason, after },
        };
        let n_behind: usize = parts.iter().map(|part| part.len()).sum();
        let n_texts = part.len() + n_behind;
        return Err(Left { n_texts, why });
    }
    Ok(())
}

/// The vectors of some texts, one for each; a panic is a failure like any other.
fn embedded(embedder: &dyn Embed, texts: &[EmbedText]) -> Result<Vec<Vec<f32>>, Failure> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let wholes: Vec<String> = texts.iter().map(EmbedText::whole).collect();
    let wholes: Vec<&str> = wholes.iter().map(String::as_str).collect();
    let embedded = catch_unwind(AssertUnwindSafe(|| embedder.embed(&wholes)));
    let reason = match embedded {
        Ok(Ok(vectors)) if vectors.len() == texts.len() => return Ok(vectors),
        Ok(Ok(vectors)) => format!("{} vectors of {} texts", vectors.len(), texts.len()),
        Ok(Err(failure)) => return Err(failure),
        Err(_panic) => "the embedding ended without a reply".to_owned(),
    };
    Err(CallError::Model { reason }.into())
}

/// A vector as a row, if it can be ranked by.
fn checked(vector: &[f32]) -> Embedded {
    if vector.len() > MAX_ELEMENTS {
        let n = vector.len();
        return Err(format!("a vector of {n} elements; at most {MAX_ELEMENTS}"));
    }
    match vector.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(format!("element {at} of the vector is {}", vector[at])),
        None => Ok(Vector::new(vector)),
    }
}

/// Embedding as calls of one view.
pub(crate) struct EmbedCalls {
    pub(crate) embeddings: Arc<Embeddings>,
    pub(crate) count: Arc<EmbedCount>,
    pub(crate) view: Arc<str>,
    pub(crate) observer: Arc<dyn Observer>,
    /// How often this worker uses each text.
    pub(crate) uses: HashMap<VectorDigest, usize>,
    /// Whether epochs overlap, and what is told reflects each of them.
    pub(crate) overlaps: bool,
}

/// A view that is dropped uses nothing any more.
impl Drop for EmbedCalls {
    fn drop(&mut self) {
        for (digest, n_uses) in self.uses.drain() {
            (0..n_uses).for_each(|_| self.embeddings.release(&digest));
        }
    }
}

impl Calls<Epoch, EmbedText, Embedded> for EmbedCalls {
    fn start(&mut self, text: &EmbedText, _: &Epoch, reply: Reply<Embedded>, cancel: Cancel) {
        let waiting = Waiting {
            reply,
            cancel,
            count: self.count.clone(),
            view: self.view.clone(),
            observer: self.observer.clone(),
        };
        *self.uses.entry(text.digest).or_default() += 1;
        self.embeddings.ask(text, waiting);
    }

    fn lost(&mut self, text: &EmbedText) -> Embedded {
        let reason = "the embedding ended without a reply".to_owned();
        self.observer
            .passed_over(&self.view, &text.whole(), &reason);
        Err(reason)
    }

    fn released(&mut self, text: &EmbedText) {
        if let Some(n_uses) = self.uses.get_mut(&text.digest) {
            *n_uses -= 1;
            if *n_uses == 0 {
                self.uses.remove(&text.digest);
            }
        }
        self.embeddings.release(&text.digest);
    }

    /// An answer reflects an epoch, also where a later one is under way: so its selection must.
    fn fills_holes(&self) -> bool {
        self.overlaps
    }
}

#[cfg(test)]
mod tests;
