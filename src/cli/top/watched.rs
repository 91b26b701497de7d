//! What is known of a server, over looks, and failures to look?
//!
//! Times are counted from when it was first looked.

use std::time::Duration;

use super::status::{Done, Status, ViewStatus};

/// For how long it is told that a server is back.
const NEWS_TIME: Duration = Duration::from_secs(10);

/// A server, as far as it was seen.
pub(super) struct Watched {
    pub(super) url: String,
    /// The last thing that it said, and when.
    last: Option<(Duration, Status)>,
    /// What the same process said before that.
    before: Option<Status>,
    /// Why nothing is known since.
    pub(super) trouble: Option<Trouble>,
    returned: Option<Return>,
}

/// Looks that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// When the first of them did.
    pub(super) since: Duration,
    /// Why the last one did.
    pub(super) reason: String,
}

/// A server that is there again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Return {
    at: Duration,
    /// For how long looks failed; none where none did.
    pub(super) away: Option<Duration>,
    /// Whether it is another process.
    pub(super) is_anew: bool,
}

impl Watched {
    /// A server that was not looked at yet.
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            last: None,
            before: None,
            trouble: None,
            returned: None,
        }
    }

    /// Takes what a look found.
    pub(super) fn take(&mut self, at: Duration, found: Result<Status, String>) {
        let status = match found {
            Ok(status) => status,
            Err(reason) => {
                let since = self.trouble.take().map_or(at, |trouble| trouble.since);
                self.trouble = Some(Trouble { since, reason });
                return;
            }
        };
        let trouble = self.trouble.take();
        if let Some((then, last)) = self.last.take() {
            let gap = u64::try_from(at.saturating_sub(then).as_millis()).unwrap_or(u64::MAX);
            // A process that is younger than what was seen of it is another; so is one that began while
            // there was no answer.
            let is_anew =
                status.uptime_ms < last.uptime_ms || trouble.is_some() && status.uptime_ms < gap;
            if is_anew || trouble.is_some() {
                let away = trouble.map(|trouble| at.saturating_sub(trouble.since));
                self.returned = Some(Return { at, away, is_anew });
            }
            self.before = (!is_anew).then_some(last);
        }
        self.last = Some((at, status));
    }

    /// The last thing that it said.
    pub(super) fn status(&self) -> Option<&Status> {
        self.last.as_ref().map(|(_, status)| status)
    }

    /// That it is back, for a while.
    pub(super) fn returned(&self, now: Duration) -> Option<Return> {
        self.returned
            .filter(|returned| now.saturating_sub(returned.at) < NEWS_TIME)
    }

    /// Whether rates are those between two looks, and no means since the server began.
    pub(super) fn has_two_looks(&self) -> bool {
        self.before.is_some()
    }

    /// What all views did, in the time of rates.
    pub(super) fn done(&self) -> Done {
        let status = self.status();
        status.map_or_else(Done::default, |status| {
            status.done_since(self.before.as_ref())
        })
    }

    /// What a view did in that time.
    pub(super) fn done_by(&self, view: &ViewStatus) -> Done {
        view.done_since(self.before.as_ref())
    }

    /// So many in that time, by the second.
    pub(super) fn rate(&self, number: u64) -> f64 {
        number as f64 * 1e3 / self.elapsed_ms()
    }

    /// So much in that time, by the hour.
    pub(super) fn by_hour(&self, amount: f64) -> f64 {
        amount * 3.6e6 / self.elapsed_ms()
    }

    /// The time of rates.
    fn elapsed_ms(&self) -> f64 {
        let uptime = |status: &Status| status.uptime_ms;
        let now = self.status().map_or(0, uptime);
        let elapsed_ms = now.saturating_sub(self.before.as_ref().map_or(0, uptime));
        elapsed_ms.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(uptime_s: u64, n_rewritten: u64) -> Result<Status, String> {
        let rungs = json!({"rewrite": n_rewritten});
        let views = json!([{"name": "answers", "rungs": rungs}]);
        Status::read(json!({"uptime_ms": uptime_s * 1_000, "views": views}))
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn rates_are_means_at_first_and_then_since_the_last_look() {
        let mut watched = Watched::new("http://here");
        let rate = |watched: &Watched| watched.rate(watched.done().n_calls());
        watched.take(seconds(0), status(100, 50));
        assert!(!watched.has_two_looks());
        assert_eq!(rate(&watched), 0.5);
        watched.take(seconds(2), status(102, 56));
        assert!(watched.has_two_looks());
        assert_eq!(rate(&watched), 3.0);
        // The server's own time counts, not how late a reply was.
        watched.take(seconds(9), status(104, 58));
        assert_eq!(rate(&watched), 1.0);
        assert_eq!(watched.returned(seconds(9)), None);
    }

    #[test]
    fn one_that_went_away_and_is_back_is_told_of_for_a_while() {
        let mut watched = Watched::new("http://here");
        watched.take(seconds(0), status(100, 50));
        watched.take(seconds(1), Err("refused".to_owned()));
        watched.take(seconds(2), Err("refused again".to_owned()));
        let trouble = watched.trouble.clone().expect("trouble");
        assert_eq!(
            (trouble.since, &*trouble.reason),
            (seconds(1), "refused again")
        );
        // What was known stays.
        assert_eq!(
            watched.status().map(|status| status.uptime_ms),
            Some(100_000)
        );
        watched.take(seconds(5), status(105, 60));
        assert_eq!(watched.trouble, None);
        let returned = watched.returned(seconds(6)).expect("it is back");
        assert_eq!((returned.away, returned.is_anew), (Some(seconds(4)), false));
        // It is the same process, whose counts go on.
        assert_eq!(watched.rate(watched.done().n_calls()), 2.0);
        assert_eq!(watched.returned(seconds(60)), None);
    }

    #[test]
    fn counts_of_another_process_begin_anew() {
        // It was restarted between two looks.
        let mut watched = Watched::new("http://here");
        watched.take(seconds(0), status(100, 50));
        watched.take(seconds(1), status(1, 4));
        let returned = watched.returned(seconds(1)).expect("it is back");
        assert_eq!((returned.away, returned.is_anew), (None, true));
        assert!(!watched.has_two_looks());
        assert_eq!(watched.rate(watched.done().n_calls()), 4.0);
        // It had been seen for less time than the new one runs.
        let mut watched = Watched::new("http://here");
        watched.take(seconds(0), status(2, 50));
        watched.take(seconds(1), Err("refused".to_owned()));
        watched.take(seconds(20), status(10, 60));
        assert!(
            watched
                .returned(seconds(20))
                .is_some_and(|back| back.is_anew)
        );
        assert_eq!(watched.rate(watched.done().n_calls()), 6.0);
    }

    #[test]
    fn one_that_was_never_there_is_no_return_when_it_comes() {
        let mut watched = Watched::new("http://here");
        watched.take(seconds(0), Err("refused".to_owned()));
        assert!(watched.status().is_none() && watched.trouble.is_some());
        watched.take(seconds(1), status(1, 0));
        assert!(watched.trouble.is_none());
        assert_eq!(watched.returned(seconds(1)), None);
    }
}
