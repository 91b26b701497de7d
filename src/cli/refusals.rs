//! What was refused while no view was shown, of which one would hear?
//!
//! Who follows a view is told of refused records with its changes. A script that only selects, or only delivers,
//! follows none: what its sources refuse would be missing without a word.

use std::time::{Duration, Instant};

use perennial::Engine;
use perennial::engine::Quarantined;
use serde_json::json;

use super::failure::Failure;
use super::live::Live;
use super::wording;

/// How many are told one by one, at a time; of others their number is.
const MOST_TOLD: usize = 5;
/// How often it is looked for them while nothing else happens.
const PAUSE: Duration = Duration::from_secs(1);

/// Refused records, of which some are told.
pub(crate) struct Refusals {
    engine: Engine,
    live: Live,
    is_json: bool,
    /// The number of the last that is told, or was there before.
    last: Option<u64>,
    looked_at: Instant,
}

impl Refusals {
    /// Those that come from now on.
    ///
    /// # Errors
    /// The engine's failure.
    pub(crate) fn from_now_on(engine: Engine, live: Live, is_json: bool) -> Result<Self, Failure> {
        let mut this = Self {
            engine,
            live,
            is_json,
            last: None,
            looked_at: Instant::now(),
        };
        this.skip()?;
        Ok(this)
    }

    /// What came is told elsewhere.
    ///
    /// # Errors
    /// The engine's failure.
    pub(crate) fn skip(&mut self) -> Result<(), Failure> {
        let new = self.since_last()?;
        self.note(&new);
        Ok(())
    }

    /// Tells what came since, where no log has it; as JSON on `out`.
    ///
    /// # Errors
    /// The engine's failure, or that of writing.
    pub(crate) fn tell(&mut self, out: &mut impl std::io::Write) -> Result<(), Failure> {
        self.looked_at = Instant::now();
        let new = self.since_last()?;
        self.note(&new);
        if self.is_json {
            for of in &new {
                let line = json!({"event": "rejected", "source": of.stream, "place": of.place,
                    "key": of.key, "reason": of.reason});
                writeln!(out, "{line}").map_err(Failure::output)?;
            }
            return out.flush().map_err(Failure::output);
        }
        if self.live.has_warnings() {
            return Ok(());
        }
        for of in new.iter().take(MOST_TOLD) {
            let (place, reason) = (&of.place, &of.reason);
            self.live
                .say(&format!("warning: left out: {place}: {reason}"));
        }
        if let Some(n_others) = new.len().checked_sub(MOST_TOLD).filter(|n| *n > 0) {
            let others = wording::count(n_others, "more record");
            self.live.say(&format!("warning: left out: {others}"));
        }
        Ok(())
    }

    /// The same, where it is time to look again.
    ///
    /// # Errors
    /// As [`Refusals::tell`].
    pub(crate) fn tell_in_time(&mut self, out: &mut impl std::io::Write) -> Result<(), Failure> {
        match self.looked_at.elapsed() >= PAUSE {
            true => self.tell(out),
            false => Ok(()),
        }
    }

    fn since_last(&self) -> Result<Vec<Quarantined>, Failure> {
        // Mostly there is none: all are asked for only where there is one.
        let first = self.engine.quarantine_page(None, self.last, 1)?;
        match first.records.is_empty() {
            true => Ok(Vec::new()),
            false => {
                let all = self.engine.quarantine_page(None, self.last, usize::MAX)?;
                Ok(all.records)
            }
        }
    }

    fn note(&mut self, new: &[Quarantined]) {
        self.last = new.last().map(|of| of.number).or(self.last);
    }
}
