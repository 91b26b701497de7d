//! Which instant does an RFC 3339 string name, in milliseconds since 1970, and the other way
//! round? Which date is a day?

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Reads `2024-05-01T12:34:56.789Z`, `2024-05-01 12:34:56+02:00` and the like. Fractions of a
/// millisecond are cut; a leap second is the first instant of the next minute.
pub fn milliseconds(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let year = number(&mut rest, 4)?;
    literal(&mut rest, b"-")?;
    let month = number(&mut rest, 2)?;
    literal(&mut rest, b"-")?;
    let day = number(&mut rest, 2)?;
    literal(&mut rest, b"Tt ")?;
    let hour = number(&mut rest, 2)?;
    literal(&mut rest, b":")?;
    let minute = number(&mut rest, 2)?;
    literal(&mut rest, b":")?;
    let second = number(&mut rest, 2)?;
    let valid = (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 60;
    if !valid {
        return None;
    }
    let millisecond = fraction(&mut rest)?;
    let offset_minutes = offset(&mut rest)?;
    if !rest.is_empty() {
        return None;
    }
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    Some((minutes * 60 + second) * 1000 + millisecond)
}

/// Writes an instant as `2024-05-01T12:34:56.789Z`. The inverse of [`milliseconds`], as far as
/// four digits tell the year.
pub fn text(milliseconds: i64) -> String {
    let date = date(milliseconds.div_euclid(DAY_MS));
    let of_day = milliseconds.rem_euclid(DAY_MS);
    let (seconds, millisecond) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{date}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

/// The date of a day since 1970, as `2024-05-01`.
pub(crate) fn date(days: i64) -> String {
    let (year, month, day) = date_of(days);
    format!("{year:04}-{month:02}-{day:02}")
}

fn literal(rest: &mut &[u8], any_of: &[u8]) -> Option<u8> {
    let (&first, after) = rest.split_first()?;
    any_of.contains(&first).then(|| {
        *rest = after;
        first
    })
}

fn number(rest: &mut &[u8], n_digits: usize) -> Option<i64> {
    let digits = rest.get(..n_digits)?;
    let mut value = 0;
    for digit in digits {
        value = value * 10 + i64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    *rest = &rest[n_digits..];
    Some(value)
}

fn fraction(rest: &mut &[u8]) -> Option<i64> {
    if literal(rest, b".").is_none() {
        return Some(0);
    }
    let n_digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, after) = rest.split_at(n_digits);
    *rest = after;
    let thousandths = digits.iter().chain(b"00").take(3);
    (n_digits > 0).then(|| thousandths.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

fn offset(rest: &mut &[u8]) -> Option<i64> {
    let sign = match literal(rest, b"Zz+-")? {
        b'+' => 1,
        b'-' => -1,
        _ => return Some(0),
    };
    let hours = number(rest, 2)?;
    literal(rest, b":")?;
    let minutes = number(rest, 2)?;
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Counts days in years that begin in March, so that the leap day is the last (H. Hinnant,
/// "chrono-compatible low-level date algorithms", `days_from_civil`).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day; the inverse of [`days_since_1970`] (`civil_from_days`).
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_instants() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2024-02-29T12:00:00+02:00", 1_709_200_800_000),
            ("2024-05-01 12:34:56.7891z", 1_714_566_896_789),
            ("2000-03-01t00:00:00.5-00:30", 951_870_600_500),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000),
        ];
        for (text, expected) in cases {
            assert_eq!(milliseconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_instant_is_none() {
        for text in [
            "",
            "2024",
            "2024-05-01",
            "2024-05-01T12:34:56",
            "2024-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-05-01T24:00:00Z",
            "2024-05-01T12:34:56.Z",
            "2024-05-01T12:34:56Zx",
            "2024-05-01T12:34:56+2:00",
            "+024-05-01T12:34:56Z",
            "1714566896789",
            "２024-05-01T00:00:00Z",
        ] {
            assert_eq!(milliseconds(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn days_follow_one_another(day in -700_000i64..2_900_000) {
            // Count the date forward by the calendar's own rules from a known day.
            let (mut year, mut month, mut date) = (1970, 1, 1);
            let mut left = day.rem_euclid(146_097);
            let era = day.div_euclid(146_097);
            while left > 0 {
                let step = left.min(days_of(year, month) - date + 1);
                left -= step;
                date += step;
                if date > days_of(year, month) {
                    date = 1;
                    month += 1;
                    if month > 12 {
                        (year, month) = (year + 1, 1);
                    }
                }
            }
            prop_assert_eq!(days_since_1970(year + 400 * era, month, date), day);
        }

        #[test]
        fn an_instant_is_read_as_it_was_written(ms in -62_167_219_200_000i64..253_402_300_800_000) {
            prop_assert_eq!(milliseconds(&text(ms)), Some(ms));
        }

        #[test]
        fn a_date_names_its_day(day in -3_000_000i64..3_000_000) {
            let (year, month, date) = date_of(day);
            prop_assert!((1..=12).contains(&month) && (1..=days_of(year, month)).contains(&date));
            prop_assert_eq!(days_since_1970(year, month, date), day);
        }

        #[test]
        fn any_text_is_an_instant_or_none(text in "\\PC{0,30}") {
            let _ = milliseconds(&text);
        }
    }
}
