//! What does a value of a column say, as text, as a time, or as the value of a record's column?
//!
//! | type | as text | as `updated_at` | as a column |
//! | --- | --- | --- | --- |
//! | strings, enumerations, JSON | as they are, if they are UTF-8 | milliseconds or RFC 3339 | text |
//! | bytes | the same | the same | none: they may be anything |
//! | integers | decimal | milliseconds | integer; beyond 64 bits with a sign a float |
//! | booleans | as they are written | | boolean |
//! | decimals, floats | as they are written | | the float that this names |
//! | UUIDs, times of a day | as they are written | | text |
//! | sixteen bytes each | as they are, if they can be shown; else as a UUID | | none: they may be anything |
//! | dates | `2024-05-01` | midnight, UTC | that, a timestamp |
//! | timestamps | RFC 3339; without zone where they have none | that instant, or as if in UTC | that |
//!
//! Floats are no keys: they are not equal to themselves often enough. What is not in the table
//! (BSON, intervals, geometries, variants) is nothing of a record.

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::schema::types::ColumnDescriptor;
use perennial_rows::Value;

use crate::json::timestamp;

const NS_A_DAY: i128 = 86_400_000_000_000;
/// The widest decimal, in bytes and in digits.
const DECIMAL_BYTES: usize = 32;
const DECIMAL_DIGITS: usize = 76;

/// What the values of a column mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Boolean,
    Integer,
    /// An integer of this many bits without a sign.
    Unsigned(u32),
    /// Bytes are two's complement, big-endian.
    Decimal {
        scale: usize,
    },
    Half,
    Float,
    Text,
    Uuid,
    /// Sixteen bytes of which the file says nothing: most programs that write UUIDs before the format
    /// had a name for them wrote them so, and some write short texts so.
    Sixteen,
    /// Days since 1970.
    Date,
    /// Since midnight, in units of so many nanoseconds.
    Time {
        ns: i64,
    },
    /// Since 1970, in units of so many nanoseconds.
    Instant {
        ns: i64,
        is_utc: bool,
    },
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Text(String),
    /// Milliseconds since 1970, and as text.
    Instant(i64, String),
    /// Bytes that are not UTF-8.
    Bytes(Vec<u8>),
}

impl Meaning {
    /// What a column means, or what it holds that is nothing of a record.
    pub(super) fn of(column: &ColumnDescriptor) -> Result<Self, String> {
        if column.max_rep_level() > 0 {
            return Err("lists".to_owned());
        }
        let scale = |scale: i32| {
            let scale = usize::try_from(scale).ok();
            scale.filter(|scale| *scale <= DECIMAL_DIGITS)
        };
        let physical = column.physical_type();
        let is_integer = matches!(physical, Type::INT32 | Type::INT64);
        let meaning = match (physical, column.logical_type_ref(), column.converted_type()) {
            (Type::BOOLEAN, ..) => Some(Self::Boolean),
            (Type::INT96, ..) => Some(Self::Instant {
                ns: 1,
                is_utc: true,
            }),
            (Type::FLOAT | Type::DOUBLE, ..) => Some(Self::Float),
            (_, Some(LogicalType::Decimal(decimal)), _) => {
                scale(decimal.scale).map(|scale| Self::Decimal { scale })
            }
            (_, None, ConvertedType::DECIMAL) => {
                scale(column.type_scale()).map(|scale| Self::Decimal { scale })
            }
            (_, Some(LogicalType::Integer(integer)), _) if is_integer && !integer.is_signed => {
                u32::try_from(integer.bit_width).ok().map(Self::Unsigned)
            }
            (_, Some(LogicalType::Integer(_)), _) if is_integer => Some(Self::Integer),
            (_, Some(LogicalType::Date), _) if is_integer => Some(Self::Date),
            (_, Some(LogicalType::Time(time)), _) if is_integer => Some(Self::Time {
                ns: nanoseconds(&time.unit),
            }),
            (_, Some(LogicalType::Timestamp(instant)), _) if is_integer => Some(Self::Instant {
                ns: nanoseconds(&instant.unit),
                is_utc: instant.is_adjusted_to_u_t_c,
            }),
            (_, None, converted) if is_integer => Some(match converted {
                ConvertedType::UINT_8 => Self::Unsigned(8),
                ConvertedType::UINT_16 => Self::Unsigned(16),
                ConvertedType::UINT_32 => Self::Unsigned(32),
                ConvertedType::UINT_64 => Self::Unsigned(64),
                ConvertedType::DATE => Self::Date,
                ConvertedType::TIME_MILLIS => Self::Time { ns: 1_000_000 },
                ConvertedType::TIME_MICROS => Self::Time { ns: 1_000 },
                ConvertedType::TIMESTAMP_MILLIS => Self::Instant {
                    ns: 1_000_000,
                    is_utc: true,
                },
                ConvertedType::TIMESTAMP_MICROS => Self::Instant {
                    ns: 1_000,
                    is_utc: true,
                },
                _ => Self::Integer,
            }),
            (_, Some(LogicalType::Uuid), _) => Some(Self::Uuid),
            (_, Some(LogicalType::Float16), _) => Some(Self::Half),
            (Type::FIXED_LEN_BYTE_ARRAY, None, ConvertedType::NONE)
                if column.type_length() == 16 =>
            {
                Some(Self::Sixteen)
            }
            (
                Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY,
                Some(LogicalType::String | LogicalType::Enum | LogicalType::Json),
                _,
            )
            | (
                Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY,
                None,
                ConvertedType::NONE
                | ConvertedType::UTF8
                | ConvertedType::ENUM
                | ConvertedType::JSON,
            ) => Some(Self::Text),
            _ => None,
        };
        meaning.ok_or_else(|| match column.logical_type_ref() {
            Some(logical) => format!("{physical} as {logical:?}"),
            None => format!("{physical} as {}", column.converted_type()),
        })
    }

    /// What a column means that is not named for a field, if the file says it: bytes may be
    /// pictures as well.
    pub(super) fn said(column: &ColumnDescriptor) -> Option<Self> {
        let is_bytes = matches!(
            column.physical_type(),
            Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY
        );
        let is_said =
            column.logical_type_ref().is_some() || column.converted_type() != ConvertedType::NONE;
        Self::of(column).ok().filter(|_| is_said || !is_bytes)
    }

    /// A value of such a column; none of bytes that are not UTF-8.
    pub(super) fn value(self, cell: &Cell) -> Option<Value> {
        let number = |text: &str| {
            text.parse()
                .map_or_else(|_| Value::text(text), Value::float)
        };
        Some(match (self, cell) {
            (_, Cell::Null) => Value::Null,
            (_, Cell::Bytes(_)) => return None,
            (Self::Date | Self::Instant { .. }, Cell::Integer(ms)) | (_, Cell::Instant(ms, _)) => {
                Value::Timestamp(*ms)
            }
            (_, Cell::Integer(integer)) => Value::Integer(*integer),
            (Self::Boolean, Cell::Text(text)) => Value::Boolean(text == "true"),
            (
                Self::Unsigned(_) | Self::Decimal { .. } | Self::Half | Self::Float,
                Cell::Text(text),
            ) => number(text),
            (_, Cell::Text(text)) => Value::text(text.as_str()),
        })
    }

    /// Whether it can be this field of a record.
    pub(super) fn suits(self, field: &str) -> bool {
        match field {
            "key" => !matches!(self, Self::Float | Self::Half),
            "updated_at" => matches!(
                self,
                Self::Integer | Self::Unsigned(_) | Self::Text | Self::Date | Self::Instant { .. }
            ),
            _ => true,
        }
    }

    /// What such values are called.
    pub(super) fn values(self) -> &'static str {
        match self {
            Self::Boolean => "booleans",
            Self::Integer | Self::Unsigned(_) => "integers",
            Self::Decimal { .. } => "decimals",
            Self::Half | Self::Float => "floats",
            Self::Text => "texts",
            Self::Uuid => "UUIDs",
            Self::Sixteen => "bytes",
            Self::Date => "dates",
            Self::Time { .. } => "times of a day",
            Self::Instant { .. } => "timestamps",
        }
    }

    /// A value that is an integer.
    pub(super) fn integer(self, value: i64) -> Cell {
        match self {
            Self::Unsigned(64) => {
                let value = value.cast_unsigned();
                i64::try_from(value).map_or_else(|_| Cell::Text(value.to_string()), Cell::Integer)
            }
            // Kept in 32 bits with a sign, or in as many as it has.
            Self::Unsigned(n_bits) => Cell::Integer(value & ((1 << n_bits.min(32)) - 1)),
            Self::Decimal { scale } => Cell::Text(decimal(&value.to_be_bytes(), scale)),
            Self::Date => {
                let ns = i128::from(value) * NS_A_DAY;
                Cell::Instant(milliseconds(ns), timestamp::date(value))
            }
            Self::Time { ns } => Cell::Text(time_of_day(i128::from(value) * i128::from(ns), ns)),
            Self::Instant { ns, is_utc } => instant(i128::from(value) * i128::from(ns), ns, is_utc),
            _ => Cell::Integer(value),
        }
    }

    /// A value that is a row of bytes.
    pub(super) fn bytes(self, value: &[u8]) -> Cell {
        let said = match (self, value.len()) {
            (Self::Text, _) => std::str::from_utf8(value).ok().map(str::to_owned),
            (Self::Decimal { scale }, 1..=DECIMAL_BYTES) => Some(decimal(value, scale)),
            (Self::Uuid, 16) => Some(uuid(value)),
            (Self::Sixteen, 16) => Some(shown(value).unwrap_or_else(|| uuid(value))),
            (Self::Half, 2) => Some(half(u16::from_le_bytes([value[0], value[1]])).to_string()),
            _ => None,
        };
        said.map_or_else(|| Cell::Bytes(value.to_vec()), Cell::Text)
    }
}

impl Cell {
    /// An instant of an old form: nanoseconds of a day, and the Julian day.
    pub(super) fn of_int96(value: &[u32]) -> Self {
        /// The Julian day that began at noon of the 1st of January 1970.
        const EPOCH: i128 = 2_440_588;
        let [low, high, day] = [0, 1, 2].map(|at| i128::from(value.get(at).copied().unwrap_or(0)));
        instant((day - EPOCH) * NS_A_DAY + (high << 32 | low), 1, true)
    }

    /// Bytes that it counts.
    pub(super) fn n_bytes(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Integer(_) => 8,
            Self::Text(text) | Self::Instant(_, text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

fn nanoseconds(unit: &TimeUnit) -> i64 {
    match unit {
        TimeUnit::MILLIS => 1_000_000,
        TimeUnit::MICROS => 1_000,
        TimeUnit::NANOS => 1,
    }
}

fn milliseconds(ns: i128) -> i64 {
    let ms = ns.div_euclid(1_000_000);
    i64::try_from(ms).unwrap_or(if ms < 0 { i64::MIN } else { i64::MAX })
}

/// An instant so many nanoseconds after 1970, which is kept in units of `unit` nanoseconds.
fn instant(ns: i128, unit: i64, is_utc: bool) -> Cell {
    let days = ns.div_euclid(NS_A_DAY);
    let Ok(days) = i64::try_from(days) else {
        return Cell::Integer(milliseconds(ns));
    };
    let date = timestamp::date(days);
    let time = time_of_day(ns.rem_euclid(NS_A_DAY), unit);
    let zone = if is_utc { "Z" } else { "" };
    Cell::Instant(milliseconds(ns), format!("{date}T{time}{zone}"))
}

/// `12:34:56`, and a fraction with the digits of its unit if there is one.
fn time_of_day(ns: i128, unit: i64) -> String {
    let (seconds, rest) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    let (minutes, second) = (seconds.div_euclid(60), seconds.rem_euclid(60));
    let (hour, minute) = (minutes.div_euclid(60), minutes.rem_euclid(60));
    let fraction = match (rest, unit) {
        (0, _) => String::new(),
        (_, 1_000_000) => format!(".{:03}", rest / 1_000_000),
        (_, 1_000) => format!(".{:06}", rest / 1_000),
        _ => format!(".{rest:09}"),
    };
    format!("{hour:02}:{minute:02}:{second:02}{fraction}")
}

/// A decimal whose digits are an integer in two's complement, big-endian.
fn decimal(unscaled: &[u8], scale: usize) -> String {
    let is_negative = unscaled.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut magnitude = unscaled.to_vec();
    if is_negative {
        negate(&mut magnitude);
    }
    let sign = if is_negative { "-" } else { "" };
    let digits = format!("{:0>1$}", digits(magnitude), scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    format!("{sign}{whole}{point}{fraction}")
}

/// Turns the sign of an integer in two's complement, big-endian; the least one becomes its magnitude.
fn negate(integer: &mut [u8]) {
    let mut has_carry = true;
    for byte in integer.iter_mut().rev() {
        (*byte, has_carry) = (!*byte).overflowing_add(u8::from(has_carry));
    }
}

/// The decimal digits of an integer without a sign, big-endian: by long division.
fn digits(mut integer: Vec<u8>) -> String {
    let mut digits = Vec::new();
    while integer.iter().any(|byte| *byte != 0) {
        let mut rest = 0u32;
        for byte in &mut integer {
            let part = rest << 8 | u32::from(*byte);
            // Below ten times 256, so the quotient is a byte.
            *byte = (part / 10) as u8;
            rest = part % 10;
        }
        digits.extend(char::from_digit(rest, 10));
    }
    match digits.is_empty() {
        true => "0".to_owned(),
        false => digits.into_iter().rev().collect(),
    }
}

/// Bytes as a text, if they are one that can be shown. What fills a short one up counts as its own.
fn shown(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let said = text.trim_end_matches('\0');
    let is_shown = !said.is_empty() && !said.contains(char::is_control);
    is_shown.then(|| text.to_owned())
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for nibble in [byte >> 4, byte & 0xf] {
            text.extend(char::from_digit(u32::from(nibble), 16));
        }
    }
    text
}

/// A float of 16 bits (IEEE 754 binary16).
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let fraction = f32::from(bits & 0x3ff);
    match bits >> 10 & 0x1f {
        0 => sign * fraction * 2f32.powi(-24),
        0x1f if fraction == 0.0 => sign * f32::INFINITY,
        0x1f => f32::NAN,
        exponent => sign * (1024.0 + fraction) * 2f32.powi(i32::from(exponent) - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        let decimals = Meaning::Decimal { scale: 2 };
        assert_eq!(decimals.integer(-5), text("-0.05"));
        assert_eq!(decimals.integer(12_345), text("123.45"));
        assert_eq!(decimals.bytes(&[0xff, 0x85]), text("-1.23"));
        assert_eq!(decimals.integer(i64::MIN), text("-92233720368547758.08"));
        assert_eq!(decimals.bytes(&[0; 33]), Cell::Bytes(vec![0; 33]));
        assert_eq!(Meaning::Decimal { scale: 0 }.integer(7), text("7"));
        assert_eq!(
            Meaning::Unsigned(64).integer(-1),
            text("18446744073709551615")
        );
        assert_eq!(
            Meaning::Unsigned(32).integer(-1),
            Cell::Integer(4_294_967_295)
        );
        assert_eq!(Meaning::Unsigned(8).integer(200), Cell::Integer(200));
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (1, 5.960_464_5e-8),
        ] {
            assert_eq!(half(bits), value);
        }
    }

    #[test]
    fn decimals_may_have_76_digits() {
        let wide = |scale, bytes: &[u8]| Meaning::Decimal { scale }.bytes(bytes);
        let mut greatest = [0xff; 32];
        greatest[0] = 0x7f;
        let digits =
            "57896044618658097711785492504343953926634992332820282019728792003956564819967";
        assert_eq!(wide(0, &greatest), text(digits));
        let mut least = [0; 32];
        least[0] = 0x80;
        let digits =
            "-57896044618658097711785492504343953926634992332820282019728792003956564819968";
        assert_eq!(wide(0, &least), text(digits));
        assert_eq!(wide(0, &[0; 32]), text("0"));
        assert_eq!(wide(3, &[0xff; 32]), text("-0.001"));
        // 2^128 - 1, where a narrower integer would be -1.
        let mut wider = [0; 17];
        wider[1..].fill(0xff);
        assert_eq!(
            wide(2, &wider),
            text("3402823669209384634633746074317682114.55")
        );
    }

    #[test]
    fn the_schema_says_what_wide_and_nameless_columns_mean() {
        let schema = "message rows {
            required fixed_len_byte_array(32) price (DECIMAL(76, 40));
            required fixed_len_byte_array(16) id;
            required fixed_len_byte_array(15) other;
        }";
        let schema = parquet::schema::parser::parse_message_type(schema).unwrap();
        let schema = parquet::schema::types::SchemaDescriptor::new(schema.into());
        let meaning = |at: usize| Meaning::of(&schema.column(at));
        assert_eq!(meaning(0), Ok(Meaning::Decimal { scale: 40 }));
        assert_eq!(meaning(1), Ok(Meaning::Sixteen));
        assert_eq!(meaning(2), Ok(Meaning::Text));
        // Where nobody names such a column, its bytes may be anything.
        assert_eq!(Meaning::said(&schema.column(1)), None);
    }

    #[test]
    fn times_are_instants_and_rfc_3339() {
        let ms = Meaning::Instant {
            ns: 1_000_000,
            is_utc: true,
        };
        let at = |ms, text: &str| Cell::Instant(ms, text.to_owned());
        assert_eq!(
            ms.integer(1_714_566_896_789),
            at(1_714_566_896_789, "2024-05-01T12:34:56.789Z")
        );
        let ns = Meaning::Instant {
            ns: 1,
            is_utc: false,
        };
        assert_eq!(ns.integer(-1), at(-1, "1969-12-31T23:59:59.999999999"));
        assert_eq!(
            Meaning::Date.integer(19_844),
            at(1_714_521_600_000, "2024-05-01")
        );
        assert_eq!(
            Meaning::Time { ns: 1_000 }.integer(1_500_000),
            text("00:00:01.500000")
        );
        assert_eq!(
            Cell::of_int96(&[0, 0, 2_440_588]),
            at(0, "1970-01-01T00:00:00Z")
        );
    }

    #[test]
    fn columns_have_values_of_their_types() {
        let cases = [
            (Meaning::Boolean, text("true"), Value::Boolean(true)),
            (Meaning::Integer, Cell::Integer(7), Value::Integer(7)),
            (
                Meaning::Decimal { scale: 2 },
                text("-1.25"),
                Value::float(-1.25),
            ),
            (Meaning::Float, text("NaN"), Value::float(f64::NAN)),
            (
                Meaning::Unsigned(64),
                text("18446744073709551615"),
                Value::float(1.8446744073709552e19),
            ),
            (
                Meaning::Date,
                Meaning::Date.integer(1),
                Value::Timestamp(86_400_000),
            ),
            (Meaning::Text, text("7"), Value::text("7")),
            (Meaning::Uuid, text("x"), Value::text("x")),
            (Meaning::Text, Cell::Null, Value::Null),
        ];
        for (meaning, cell, value) in cases {
            assert_eq!(meaning.value(&cell), Some(value), "{meaning:?} {cell:?}");
        }
        assert_eq!(Meaning::Text.value(&Cell::Bytes(vec![0xff])), None);
    }

    #[test]
    fn ids_and_bytes() {
        let bytes: Vec<u8> = (0..16).collect();
        let id = "00010203-0405-0607-0809-0a0b0c0d0e0f";
        assert_eq!(Meaning::Uuid.bytes(&bytes), text(id));
        let sixteen = |bytes: &[u8]| Meaning::Sixteen.bytes(bytes);
        assert_eq!(sixteen(&bytes), text(id));
        assert_eq!(sixteen(b"EUR-2024-0000017"), text("EUR-2024-0000017"));
        assert_eq!(
            sixteen("Straße 7, 8. OG".as_bytes()),
            text("Straße 7, 8. OG")
        );
        assert_eq!(
            sixteen(b"short\0\0\0\0\0\0\0\0\0\0\0"),
            text("short\0\0\0\0\0\0\0\0\0\0\0")
        );
        let nil = "00000000-0000-0000-0000-000000000000";
        assert_eq!(sixteen(&[0; 16]), text(nil));
        assert!(Meaning::Sixteen.suits("key") && !Meaning::Sixteen.suits("updated_at"));
        assert_eq!(Meaning::Text.bytes(b"\xff"), Cell::Bytes(vec![0xff]));
    }
}
