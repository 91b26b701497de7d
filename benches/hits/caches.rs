//! What would other caches hold of the same requests?
//!
//! Simulations: they know names and lengths, and run nothing. A cache of prompts and a tree of prefixes
//! know a passage by all that stands before it (its `CAUSAL` id), others by itself alone.

use std::collections::{HashMap, HashSet};

use perennial::bank::FragmentId;

/// A passage of a request.
#[derive(Clone, Copy)]
pub struct Part {
    /// By what a cache knows it.
    pub id: FragmentId,
    /// Its length.
    pub n_tokens: usize,
}

/// What was found of what was asked for.
#[derive(Default)]
pub struct Found {
    n_asked: usize,
    n_found: usize,
    /// Asked for the first time: nobody could have it.
    n_new: usize,
    n_tokens: usize,
    n_tokens_found: usize,
    seen: HashSet<FragmentId>,
}

impl Found {
    /// Counts a passage.
    pub fn count(&mut self, part: Part, is_found: bool) {
        self.n_asked += 1;
        self.n_tokens += part.n_tokens;
        self.n_new += usize::from(self.seen.insert(part.id));
        if is_found {
            self.n_found += 1;
            self.n_tokens_found += part.n_tokens;
        }
    }

    /// Prints a line.
    pub fn print(&self, name: &str) {
        let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
        println!(
            "| {name} | {:.1} % | {:.1} % | {:.1} % | {} |",
            percent(self.n_found, self.n_asked),
            percent(self.n_found, self.n_asked - self.n_new),
            percent(self.n_tokens_found, self.n_tokens),
            self.n_tokens - self.n_tokens_found
        );
    }
}

/// What is held, and what goes first.
enum Kind {
    /// Passages behind all that stands before them; one goes only when none stands behind it.
    Tree,
    /// Prompts as a whole; of each the longest beginning that another has is found.
    Prompts(Vec<Vec<Part>>),
    /// Passages by themselves, the least recently used goes first.
    Fragments,
    /// The same, but that goes first which is asked for the latest.
    Clairvoyant,
}

/// A cache with room for some tokens.
pub struct Cache {
    n_room: usize,
    kind: Kind,
    held: HashMap<FragmentId, Entry>,
    n_held: usize,
}

struct Entry {
    n_tokens: usize,
    /// The request that used it last.
    used: usize,
    /// What it stands behind, in a tree.
    behind: Option<FragmentId>,
    /// How many stand behind it there.
    n_behind: usize,
}

impl Cache {
    /// A tree of prefixes.
    pub fn tree(n_room: usize) -> Self {
        Self::new(n_room, Kind::Tree)
    }

    /// Whole prompts.
    pub fn prompts(n_room: usize) -> Self {
        Self::new(n_room, Kind::Prompts(Vec::new()))
    }

    /// Fragments by id.
    pub fn fragments(n_room: usize) -> Self {
        Self::new(n_room, Kind::Fragments)
    }

    /// Fragments by id, by who knows what comes.
    pub fn clairvoyant(n_room: usize) -> Self {
        Self::new(n_room, Kind::Clairvoyant)
    }

    fn new(n_room: usize, kind: Kind) -> Self {
        Self {
            n_room,
            kind,
            held: HashMap::new(),
            n_held: 0,
        }
    }

    /// What it finds of these requests, one after the other.
    pub fn run(mut self, requests: &[Vec<Part>]) -> Found {
        let mut found = Found::default();
        let coming = Coming::of(requests);
        for (number, request) in requests.iter().enumerate() {
            match &mut self.kind {
                Kind::Prompts(prompts) => {
                    ask_prompts(prompts, self.n_room, request, &mut found);
                }
                kind => {
                    let is_tree = matches!(kind, Kind::Tree);
                    self.ask(request, number, is_tree, &coming, &mut found);
                }
            }
        }
        found
    }

    /// Counts what is held of a request, and takes in what is not.
    fn ask(
        &mut self,
        request: &[Part],
        number: usize,
        is_tree: bool,
        coming: &Coming,
        found: &mut Found,
    ) {
        for part in request {
            found.count(*part, self.held.contains_key(&part.id));
            if let Some(entry) = self.held.get_mut(&part.id) {
                entry.used = number;
            }
        }
        let mut behind: Option<FragmentId> = None;
        for part in request {
            if !self.held.contains_key(&part.id) {
                // In a tree, what stands behind nothing that is held cannot be found again.
                let has_place = behind.is_none_or(|behind| self.held.contains_key(&behind));
                let is_kept = (has_place || !is_tree)
                    && self.make_room(*part, number, behind.filter(|_| is_tree), coming);
                if !is_kept {
                    behind = Some(part.id);
                    continue;
                }
                self.n_held += part.n_tokens;
                let entry = Entry {
                    n_tokens: part.n_tokens,
                    used: number,
                    behind: behind.filter(|_| is_tree),
                    n_behind: 0,
                };
                if let Some(before) = entry.behind.and_then(|id| self.held.get_mut(&id)) {
                    before.n_behind += 1;
                }
                self.held.insert(part.id, entry);
            }
            behind = Some(part.id);
        }
    }

    /// Lets go of others until a passage has room; not of what it stands behind. Whether it has.
    fn make_room(
        &mut self,
        part: Part,
        number: usize,
        behind: Option<FragmentId>,
        coming: &Coming,
    ) -> bool {
        let next = |id: &FragmentId| coming.next(id, number);
        while self.n_held + part.n_tokens > self.n_room {
            let held = self.held.iter();
            // Outside a tree nothing stands behind anything.
            let may_go = held.filter(|(id, of)| of.n_behind == 0 && Some(**id) != behind);
            let victim = match self.kind {
                Kind::Clairvoyant => may_go
                    .max_by_key(|(id, _)| (next(id), **id))
                    .filter(|(id, _)| next(id) > next(&part.id)),
                _ => may_go.min_by_key(|(id, of)| (of.used, **id)),
            };
            let Some(victim) = victim.map(|(id, _)| *id) else {
                return false;
            };
            if let Some(gone) = self.held.remove(&victim) {
                self.n_held -= gone.n_tokens;
                if let Some(before) = gone.behind.and_then(|id| self.held.get_mut(&id)) {
                    before.n_behind -= 1;
                }
            }
        }
        true
    }
}

/// The prompt with the longest common beginning is found, and both stand, the newest last.
fn ask_prompts(prompts: &mut Vec<Vec<Part>>, n_room: usize, request: &[Part], found: &mut Found) {
    let common = |prompt: &Vec<Part>| {
        let pairs = prompt.iter().zip(request);
        pairs.take_while(|(a, b)| a.id == b.id).count()
    };
    let best = (0..prompts.len()).max_by_key(|at| common(&prompts[*at]));
    let n_common = best.map_or(0, |at| common(&prompts[at]));
    for (place, part) in request.iter().enumerate() {
        found.count(*part, place < n_common);
    }
    if let Some(best) = best.filter(|_| n_common > 0) {
        let used = prompts.remove(best);
        // What goes no further than the request is a part of it.
        if used.len() > n_common {
            prompts.push(used);
        }
    }
    prompts.push(request.to_vec());
    let n_tokens = |prompt: &Vec<Part>| prompt.iter().map(|part| part.n_tokens).sum::<usize>();
    while prompts.len() > 1 && prompts.iter().map(n_tokens).sum::<usize>() > n_room {
        prompts.remove(0);
    }
}

/// When each passage is asked for.
struct Coming(HashMap<FragmentId, Vec<usize>>);

impl Coming {
    fn of(requests: &[Vec<Part>]) -> Self {
        let mut times: HashMap<FragmentId, Vec<usize>> = HashMap::new();
        for (number, request) in requests.iter().enumerate() {
            for part in request {
                times.entry(part.id).or_default().push(number);
            }
        }
        Self(times)
    }

    /// The first request behind this one that asks for it; the last of all numbers if none does.
    fn next(&self, id: &FragmentId, number: usize) -> usize {
        let times = self.0.get(id).map_or(&[][..], Vec::as_slice);
        let after = times.partition_point(|time| *time <= number);
        times.get(after).copied().unwrap_or(usize::MAX)
    }
}
