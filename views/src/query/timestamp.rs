//! How is an instant written?
//!
//! RFC 3339 in UTC with milliseconds, as `2024-05-01T09:30:00.000Z`; read with less said, too: a
//! blank for the `T`, no fraction, no seconds, no time of day, no offset (then UTC).

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat};

/// Milliseconds since 1970 UTC.
pub fn parse(text: &str) -> Option<i64> {
    // No form is longer; what a source sends may be.
    let text = text.trim();
    if text.len() > 64 {
        return None;
    }
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Some(instant.timestamp_millis());
    }
    let offset_forms = ["%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%d %H:%M:%S%.f%#z"];
    for form in offset_forms {
        if let Ok(instant) = DateTime::parse_from_str(text, form) {
            return Some(instant.timestamp_millis());
        }
    }
    let local_forms = [
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%d %H:%M",
    ];
    for form in local_forms {
        if let Ok(local) = NaiveDateTime::parse_from_str(text, form) {
            return Some(local.and_utc().timestamp_millis());
        }
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
}

/// The text of an instant; `None` beyond the years that a calendar has.
pub(crate) fn format(milliseconds: i64) -> Option<String> {
    let instant = DateTime::from_timestamp_millis(milliseconds)?;
    Some(instant.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_in_the_usual_forms() {
        let expected = Some(1_714_555_800_000);
        for text in [
            "2024-05-01T09:30:00.000Z",
            "2024-05-01T11:30:00+02:00",
            "2024-05-01 09:30:00",
            "2024-05-01 09:30",
            " 2024-05-01T09:30:00 ",
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(parse("1970-01-02"), Some(86_400_000));
        for text in ["", "yesterday", "2024-13-01", "2024-02-30", "12"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for ms in [0, -1, 1_714_555_800_123] {
            let text = format(ms).expect("within the calendar");
            assert_eq!(parse(&text), Some(ms), "{text}");
        }
        assert_eq!(format(i64::MAX), None);
    }
}
