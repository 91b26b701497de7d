//! When may a view take its next epoch? Its target lag and its budgets.
//!
//! None of it changes what an answer is, only when it is asked for. So it can be changed while the
//! view runs, and no identity depends on it.

use std::fmt;
use std::time::Duration;

use perennial_ask::Money;
use serde::{Deserialize, Serialize};

/// How long a view lets changes wait, and what it may spend.
///
/// ```
/// use std::time::Duration;
/// use perennial_views::{Pace, PaceOption};
///
/// let mut pace = Pace::default();
/// pace.set(PaceOption::TargetLag(Some(Duration::from_secs(30))));
/// pace.set(PaceOption::CallsPerHour(Some(100)));
/// assert_eq!(pace.to_string(), "TARGET_LAG = '30 s', CALLS_PER_HOUR = 100");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// How long the oldest change waits before the view takes it, with all that came since; none
    /// where it is taken at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_lag: Option<Duration>,
    /// Calls of the past hour at which the view takes no further epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_hour: Option<u64>,
    /// Tokens forwarded in the past hour at which the view takes no further epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_hour: Option<u64>,
    /// Money spent in the past hour, in the currency of its models, at which the view takes no further
    /// epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_hour: Option<Money>,
}

/// One part of a [`Pace`], as it is set; none takes it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PaceOption {
    /// `TARGET_LAG`
    TargetLag(Option<Duration>),
    /// `CALLS_PER_HOUR`
    CallsPerHour(Option<u64>),
    /// `TOKENS_PER_HOUR`
    TokensPerHour(Option<u64>),
    /// `COST_PER_HOUR`
    CostPerHour(Option<Money>),
}

impl Pace {
    /// Whether the view takes every epoch at once, whatever it costs.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// Sets one part.
    pub fn set(&mut self, option: PaceOption) {
        match option {
            PaceOption::TargetLag(lag) => self.target_lag = lag,
            PaceOption::CallsPerHour(calls) => self.calls_per_hour = calls,
            PaceOption::TokensPerHour(tokens) => self.tokens_per_hour = tokens,
            PaceOption::CostPerHour(cost) => self.cost_per_hour = cost,
        }
    }

    /// The parts that are set.
    pub fn options(&self) -> impl Iterator<Item = PaceOption> {
        let lag = self.target_lag.map(|lag| PaceOption::TargetLag(Some(lag)));
        let calls = self.calls_per_hour;
        let calls = calls.map(|n| PaceOption::CallsPerHour(Some(n)));
        let tokens = self.tokens_per_hour;
        let tokens = tokens.map(|n| PaceOption::TokensPerHour(Some(n)));
        let cost = self.cost_per_hour;
        let cost = cost.map(|most| PaceOption::CostPerHour(Some(most)));
        [lag, calls, tokens, cost].into_iter().flatten()
    }
}

impl fmt::Display for Pace {
    /// The parts that are set, as SQL says them; empty where none is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, option) in self.options().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{option}")?;
        }
        Ok(())
    }
}

impl fmt::Display for PaceOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TargetLag(Some(lag)) => write!(f, "TARGET_LAG = '{}'", duration_text(*lag)),
            Self::TargetLag(None) => f.write_str("TARGET_LAG = none"),
            Self::CallsPerHour(Some(calls)) => write!(f, "CALLS_PER_HOUR = {calls}"),
            Self::CallsPerHour(None) => f.write_str("CALLS_PER_HOUR = none"),
            Self::TokensPerHour(Some(tokens)) => write!(f, "TOKENS_PER_HOUR = {tokens}"),
            Self::TokensPerHour(None) => f.write_str("TOKENS_PER_HOUR = none"),
            Self::CostPerHour(Some(cost)) => write!(f, "COST_PER_HOUR = {cost}"),
            Self::CostPerHour(None) => f.write_str("COST_PER_HOUR = none"),
        }
    }
}

/// Units of durations, with their milliseconds; the longest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a duration as people write it: `500 ms`, `30 s`, `5 m` or `1 h`, with or without the
/// blank.
///
/// # Errors
/// What is allowed, for any other text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit());
    let (digits, unit) = text.split_at(unit_at.unwrap_or(text.len()));
    let known = UNITS.iter().find(|(name, _)| *name == unit.trim_start());
    let milliseconds = known.and_then(|(_, of)| digits.parse::<u64>().ok()?.checked_mul(*of));
    milliseconds
        .map(Duration::from_millis)
        .ok_or_else(|| "expected a duration, such as 500 ms, 30 s, 5 m or 1 h".to_owned())
}

/// A duration as [`parse_duration`] reads it, in the longest unit that loses nothing. Parts of a
/// millisecond are cut.
pub fn duration_text(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let is_whole = |of: u64| milliseconds > 0 && milliseconds.is_multiple_of(u128::from(of));
    let whole = UNITS.iter().find(|(_, of)| is_whole(*of));
    match whole {
        Some((unit, of)) => format!("{} {unit}", milliseconds / u128::from(*of)),
        None => "0 s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_they_are_written() {
        for (text, milliseconds, written) in [
            ("500 ms", 500, "500 ms"),
            ("30 s", 30_000, "30 s"),
            ("5m", 300_000, "5 m"),
            (" 1  h ", 3_600_000, "1 h"),
            ("90 s", 90_000, "90 s"),
            ("60000 ms", 60_000, "1 m"),
            ("0 h", 0, "0 s"),
        ] {
            let read = Duration::from_millis(milliseconds);
            assert_eq!(parse_duration(text), Ok(read), "{text}");
            assert_eq!(duration_text(read), written);
            assert_eq!(parse_duration(written), Ok(read));
        }
    }

    #[test]
    fn other_durations_are_refused_with_those_that_are_allowed() {
        for text in [
            "",
            "30",
            "s",
            "-1 s",
            "1.5 h",
            "1 day",
            "1 H",
            "1 h 5 m",
            "6000000000000000 h",
        ] {
            let told = parse_duration(text).expect_err(text);
            assert!(told.contains("500 ms, 30 s, 5 m or 1 h"), "{told}");
        }
    }

    #[test]
    fn what_is_set_is_written_and_can_be_taken_away() {
        let mut pace = Pace::default();
        pace.set(PaceOption::TokensPerHour(Some(7)));
        pace.set(PaceOption::TargetLag(Some(Duration::ZERO)));
        assert_eq!(pace.to_string(), "TARGET_LAG = '0 s', TOKENS_PER_HOUR = 7");
        pace.set(PaceOption::TokensPerHour(None));
        pace.set(PaceOption::CostPerHour(Some(
            "2.50".parse().expect("money"),
        )));
        assert_eq!(pace.to_string(), "TARGET_LAG = '0 s', COST_PER_HOUR = 2.5");
        pace.set(PaceOption::CostPerHour(None));
        pace.set(PaceOption::TargetLag(None));
        assert!(pace.is_unlimited());
        assert_eq!(pace.to_string(), "");
    }
}
