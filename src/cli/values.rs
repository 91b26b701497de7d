//! What do option values mean? Moments and sizes, as they are typed.

use std::str::FromStr;
#[cfg(feature = "serve")]
use std::time::Duration;

use perennial::connectors::timestamp;
use perennial::state::AsOf;

/// Which state is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked(pub(crate) AsOf);

/// An epoch, a time, or `present`.
pub(crate) fn as_of(text: &str) -> Result<Asked, String> {
    let epoch = || text.parse().ok().map(AsOf::Epoch);
    let time = || timestamp::milliseconds(text).map(AsOf::Time);
    let present = (text == "present").then_some(AsOf::Present);
    let asked = present.or_else(epoch).or_else(time);
    asked.map(Asked).ok_or_else(|| {
        "expected the number of an epoch, or a time such as 2026-05-01T09:00:00Z".to_owned()
    })
}

/// A number of at least 1.
pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number of at least 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// More than this of anything that is measured takes years.
const MOST_MEASURED: usize = 100_000;

/// A number of things that are measured.
pub(crate) fn measured(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=MOST_MEASURED) => Ok(number),
        _ => Err(format!("expected a number from 1 to {MOST_MEASURED}")),
    }
}

/// A bound of regret, in nats a token.
pub(crate) fn bound(text: &str) -> Result<f32, String> {
    let bound: Option<f32> = text.parse().ok();
    let is_bound = |bound: &f32| perennial_views::Policy::bounded(*bound).is_some();
    let expected = "expected nats a token, as 0.05: from 0.001 to 1000";
    bound.filter(is_bound).ok_or_else(|| expected.to_owned())
}

/// Most dataflow workers: each is a thread, and has a channel to each other.
const MOST_WORKERS: usize = 256;

/// A number of dataflow workers.
pub(crate) fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=MOST_WORKERS) => Ok(number),
        _ => Err(format!("expected a number from 1 to {MOST_WORKERS}")),
    }
}

/// The shortest time between two looks at a server, which has other things to do.
#[cfg(feature = "serve")]
const SHORTEST_PACE: Duration = Duration::from_millis(100);

/// How often something is looked at.
#[cfg(feature = "serve")]
pub(crate) fn pace(text: &str) -> Result<Duration, String> {
    match perennial_views::pace::parse_duration(text)? {
        pace if pace < SHORTEST_PACE => Err("expected 100 ms at least".to_owned()),
        pace => Ok(pace),
    }
}

/// A number of bytes as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no size: expected as 512M, 1.5GiB or a number of bytes");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number: f64 = digits.trim().parse().map_err(|_| wrong())?;
        let unit = text[digits.len()..].to_ascii_lowercase();
        let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return Err(wrong()),
        };
        let n_bytes = number * (1u64 << shift) as f64;
        // Beyond this, an f64 no longer tells single bytes apart.
        if !(0.0..9e15).contains(&n_bytes) {
            return Err(wrong());
        }
        usize::try_from(n_bytes as u64)
            .map(Self)
            .map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let asked = |text: &str| as_of(text).map(|asked| asked.0);
        assert_eq!(asked("41"), Ok(AsOf::Epoch(41)));
        assert_eq!(asked("1970-01-01T00:00:01Z"), Ok(AsOf::Time(1000)));
        assert_eq!(asked("present"), Ok(AsOf::Present));
        for wrong in ["", "-1", "yesterday", "2026-05-01"] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }

    #[cfg(feature = "serve")]
    #[test]
    fn paces() {
        assert_eq!(pace("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(pace("100 ms"), Ok(SHORTEST_PACE));
        for wrong in ["", "1", "0s", "99 ms", "-1s"] {
            assert!(pace(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        let size = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(size("100"), Ok(100));
        assert_eq!(size("2k"), Ok(2048));
        assert_eq!(size("1.5GiB"), Ok(3 << 29));
        assert_eq!(size("512MB"), Ok(512 << 20));
        for wrong in ["", "M", "x", "-1", "1x", "nan", "inf", "1e300", "12QB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
