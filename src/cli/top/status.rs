//! What a server says of itself at one moment, and what it did between two.
//!
//! Fields that a server does not tell, being older or newer than this program, are as if they were empty.

use perennial::ask::Cost;
use serde::Deserialize;
use serde_json::Value;

/// The reply to `GET /v1/status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) uptime_ms: u64,
    pub(super) ready: bool,
    pub(super) failure: Option<String>,
    pub(super) n_subscribers: usize,
    pub(super) n_connections: usize,
    pub(super) n_quarantined: usize,
    pub(super) undelivered: Vec<Owed>,
    pub(super) views: Vec<ViewStatus>,
    pub(super) sources: Vec<StreamStatus>,
    pub(super) fragments: Option<Fragments>,
}

/// What a sink has not taken.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Owed {
    pub(super) sink: String,
    pub(super) n_epochs: usize,
}

/// A view.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ViewStatus {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) epoch: Option<usize>,
    pub(super) status: Option<String>,
    pub(super) n_behind: Option<usize>,
    pub(super) lag_ms: Option<u64>,
    pub(super) n_rows: usize,
    pub(super) n_subscribers: usize,
    rungs: Rungs,
    work: Work,
    /// Tokens that runs from nothing would have forwarded.
    rerun: u64,
}

/// A source or a table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamStatus {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) n_rows: usize,
    pub(super) epoch: Option<usize>,
    pub(super) failure: Option<String>,
}

/// What is held of documents that were read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fragments {
    pub(super) n: usize,
    pub(super) bytes: u64,
    pub(super) bytes_peak: u64,
    pub(super) budget_bytes: u64,
    pub(super) n_hits: usize,
    pub(super) n_misses: usize,
    pub(super) n_evicted: usize,
    pub(super) disk_bytes: u64,
    pub(super) warm: Option<Warm>,
}

/// Of these, what is kept in fewer bytes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Warm {
    pub(super) coding: String,
    pub(super) n: usize,
    pub(super) bytes: u64,
    pub(super) n_hits: usize,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Rungs {
    keep: u64,
    skip: u64,
    patch: u64,
    verify: u64,
    append: u64,
    rewrite: u64,
    regenerate: u64,
    failed: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Work {
    forwarded: u64,
    prompt: u64,
    draft: u64,
    cached: u64,
    cost: Option<Cost>,
}

/// What a view did, or several: counts that only grow while a server runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Refreshes, in the order of [`RUNGS`].
    pub(super) rungs: [u64; RUNGS.len()],
    /// Tokens that went through a model.
    pub(super) forwarded: u64,
    /// Tokens that runs from nothing would have forwarded.
    pub(super) from_scratch: u64,
    /// Tokens of prompts and drafts that were read.
    pub(super) read: u64,
    /// Those that a server still knew.
    pub(super) cached: u64,
    /// What was paid.
    pub(super) cost: Cost,
}

/// How a refresh is served. The first two ask no model.
pub(super) const RUNGS: [&str; 8] = [
    "keep",
    "skip",
    "patch",
    "verify",
    "append",
    "rewrite",
    "regenerate",
    "failed",
];
/// The first of them that does.
const FIRST_CALL: usize = 2;

impl Status {
    /// What a reply says.
    ///
    /// # Errors
    /// That it is the reply of something else.
    pub(super) fn read(reply: Value) -> Result<Self, String> {
        let read: Result<Self, _> = serde_json::from_value(reply);
        let read = read.map_err(|error| format!("its reply is not understood: {error}"))?;
        let mut currencies = read
            .views
            .iter()
            .filter_map(|view| view.work.cost?.currency());
        let first = currencies.next();
        match currencies.all(|currency| Some(currency) == first) {
            true => Ok(read),
            false => Err("its reply is not understood: costs are in two currencies".to_owned()),
        }
    }

    /// The view of a name.
    pub(super) fn view(&self, name: &str) -> Option<&ViewStatus> {
        self.views.iter().find(|view| view.name == name)
    }

    /// What all views did since an earlier moment, or since they began.
    pub(super) fn done_since(&self, before: Option<&Self>) -> Done {
        let mut all = Done::default();
        for view in &self.views {
            all.add(view.done_since(before));
        }
        all
    }
}

impl ViewStatus {
    fn done(&self) -> Done {
        let Rungs {
            keep,
            skip,
            patch,
            verify,
            append,
            rewrite,
            regenerate,
            failed,
        } = self.rungs;
        Done {
            rungs: [
                keep, skip, patch, verify, append, rewrite, regenerate, failed,
            ],
            forwarded: self.work.forwarded,
            from_scratch: self.rerun,
            read: self.work.prompt + self.work.draft,
            cached: self.work.cached,
            cost: self.work.cost.unwrap_or_default(),
        }
    }

    /// What it did since an earlier moment, or since it began.
    pub(super) fn done_since(&self, before: Option<&Status>) -> Done {
        let before = before.and_then(|before| before.view(&self.name));
        let (now, before) = (self.done(), before.map(Self::done).unwrap_or_default());
        // One that was dropped and made again counts anew.
        match now.has_reached(&before) {
            true => now.without(&before),
            false => now,
        }
    }
}

impl Done {
    /// Refreshes of all kinds.
    pub(super) fn n_refreshes(&self) -> u64 {
        self.rungs.iter().sum()
    }

    /// Those of them that asked a model.
    pub(super) fn n_calls(&self) -> u64 {
        self.rungs[FIRST_CALL..].iter().sum()
    }

    fn has_reached(&self, before: &Self) -> bool {
        let mut rungs = self.rungs.iter().zip(&before.rungs);
        rungs.all(|(now, before)| now >= before)
            && self.forwarded >= before.forwarded
            && self.from_scratch >= before.from_scratch
            && self.read >= before.read
            && self.cached >= before.cached
            && self.cost.amount() >= before.cost.amount()
            && before
                .cost
                .currency()
                .is_none_or(|of| self.cost.currency() == Some(of))
    }

    fn without(mut self, before: &Self) -> Self {
        for (now, before) in self.rungs.iter_mut().zip(&before.rungs) {
            *now -= before;
        }
        self.forwarded -= before.forwarded;
        self.from_scratch -= before.from_scratch;
        self.read -= before.read;
        self.cached -= before.cached;
        self.cost = self.cost.beyond(before.cost);
        self
    }

    fn add(&mut self, other: Self) {
        for (sum, other) in self.rungs.iter_mut().zip(&other.rungs) {
            *sum += other;
        }
        self.forwarded += other.forwarded;
        self.from_scratch += other.from_scratch;
        self.read += other.read;
        self.cached += other.cached;
        self.cost += other.cost;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(views: Value) -> Status {
        Status::read(json!({ "views": views })).expect("a status")
    }

    #[test]
    fn what_was_done_is_what_counts_have_grown_by() {
        let before = status(json!([
            {"name": "a", "rungs": {"keep": 5, "rewrite": 1}, "work": {"forwarded": 100}, "rerun": 900},
            {"name": "b", "rungs": {"regenerate": 4}, "work": {"forwarded": 50}, "rerun": 50},
        ]));
        let now = status(json!([
            {"name": "a", "rungs": {"keep": 8, "rewrite": 2}, "work": {"forwarded": 130}, "rerun": 1300},
            // Made again: its counts begin anew.
            {"name": "b", "rungs": {"regenerate": 1}, "work": {"forwarded": 60}, "rerun": 60},
            {"name": "c", "rungs": {"failed": 1}, "work": {"forwarded": 7}, "rerun": 9},
        ]));
        let done = |name: &str| now.view(name).expect("a view").done_since(Some(&before));
        assert_eq!((done("a").n_refreshes(), done("a").n_calls()), (4, 1));
        assert_eq!((done("a").forwarded, done("a").from_scratch), (30, 400));
        assert_eq!((done("b").n_calls(), done("b").forwarded), (1, 60));
        let all = now.done_since(Some(&before));
        assert_eq!((all.n_refreshes(), all.n_calls()), (6, 3));
        assert_eq!((all.forwarded, all.from_scratch), (97, 469));
        assert_eq!(now.done_since(None).n_refreshes(), 12);
    }

    #[test]
    fn what_was_paid_is_what_costs_have_grown_by() {
        let at = |amount: &str, currency: &str| {
            let cost = json!({"amount": amount, "currency": currency});
            json!([{"name": "a", "work": {"forwarded": 1, "cost": cost}}, {"name": "b"}])
        };
        let (before, now) = (
            status(at("0.25", "USD")),
            status(at("0.750000000001", "USD")),
        );
        let paid = now.done_since(Some(&before)).cost;
        assert_eq!(paid.to_string(), "0.500000000001 USD");
        let anew = status(at("0.5", "EUR")).done_since(Some(&before)).cost;
        assert_eq!(
            anew.to_string(),
            "0.5 EUR",
            "it was started with other prices"
        );
        let two = json!([
            {"name": "a", "work": {"cost": {"amount": "1", "currency": "USD"}}},
            {"name": "b", "work": {"cost": {"amount": "1", "currency": "EUR"}}},
        ]);
        assert!(Status::read(json!({ "views": two })).is_err());
    }

    #[test]
    fn fields_that_are_not_told_are_empty_and_what_is_no_status_is_refused() {
        let status = Status::read(json!({"uptime_ms": 5, "new": true})).expect("a status");
        assert_eq!((status.uptime_ms, status.views.len()), (5, 0));
        assert!(status.fragments.is_none());
        assert!(Status::read(json!([1])).is_err());
        assert!(Status::read(json!({"views": 7})).is_err());
    }
}
