//! Which bytes stand for a value, so that a digest of them means the same in every release?
//!
//! Version 1. A value is a tag byte and its content; whole numbers have eight bytes, little-endian;
//! texts, vectors and lists stand behind their length, so that no two neighbours can trade bytes:
//!
//! | tag | value | content |
//! | --- | --- | --- |
//! | 0 | null | |
//! | 1 | boolean | one byte, 0 or 1 |
//! | 2 | integer | 8 bytes |
//! | 3 | float | 8 bytes, its bits |
//! | 4 | text | length, UTF-8 |
//! | 5 | timestamp | 8 bytes |
//! | 6 | vector | length, four bytes an element |
//! | 7 | JSON | length, UTF-8 of its canonical form |
//!
//! Digests over these bytes are BLAKE3 with a derived key that names what is hashed and its
//! version. Nothing here is `Debug` text: a renamed field changes no identity.

use crate::{Row, Value};

/// Bytes to be hashed.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// No bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A number that tells cases apart, or counts.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.bytes.extend(number.to_le_bytes());
        self
    }

    /// A text behind its length.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u64);
        self.bytes.extend(text.as_bytes());
        self
    }

    /// Bytes of a length that both sides know.
    pub fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    /// A value, by the table above.
    pub fn value(&mut self, value: &Value) -> &mut Self {
        match value {
            Value::Null => self.fixed(&[0]),
            Value::Boolean(is) => self.fixed(&[1, u8::from(*is)]),
            Value::Integer(n) => self.fixed(&[2]).fixed(&n.to_le_bytes()),
            Value::Float(x) => self.fixed(&[3]).fixed(&x.get().to_bits().to_le_bytes()),
            Value::Text(text) => self.fixed(&[4]).text(text),
            Value::Timestamp(ms) => self.fixed(&[5]).fixed(&ms.to_le_bytes()),
            Value::Vector(elements) => {
                self.fixed(&[6]).number(elements.len() as u64);
                for bits in elements.iter() {
                    self.fixed(&bits.to_le_bytes());
                }
                self
            }
            Value::Json(text) => self.fixed(&[7]).text(text),
        }
    }

    /// Values behind their number.
    pub fn values(&mut self, values: &[Value]) -> &mut Self {
        self.number(values.len() as u64);
        values.iter().fold(self, |all, value| all.value(value))
    }

    /// Everything that a row holds.
    pub fn row(&mut self, row: &Row) -> &mut Self {
        self.text(&row.text);
        match &row.title {
            None => self.fixed(&[0]),
            Some(title) => self.fixed(&[1]).text(title),
        };
        self.fixed(&row.updated_at_ms.to_le_bytes())
            .fixed(&[u8::from(row.is_timed)])
            .number(row.supersedes.len() as u64);
        for key in row.supersedes.iter() {
            self.text(key.as_str());
        }
        self.number(row.columns.len() as u64);
        for (name, value) in row.columns.iter() {
            self.text(name).value(value);
        }
        self
    }

    /// The digest of the bytes, under a name that says what they are, with its version.
    pub fn digest(&self, what: &str) -> [u8; 32] {
        *blake3::Hasher::new_derive_key(what)
            .update(&self.bytes)
            .finalize()
            .as_bytes()
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,4}".prop_map(|text| Value::text(text.as_str())),
            any::<i64>().prop_map(Value::Timestamp),
            prop::collection::vec(any::<f32>(), 0..3).prop_map(|v| Value::vector(&v)),
            prop::collection::vec(any::<i8>(), 0..3)
                .prop_map(|list| Value::from_json(&serde_json::json!(list))),
        ]
    }

    proptest! {
        #[test]
        fn equal_values_have_equal_bytes_and_others_not(
            a in prop::collection::vec(value(), 0..4),
            b in prop::collection::vec(value(), 0..4),
        ) {
            let bytes = |values: &[Value]| Encoder::new().values(values).bytes().to_vec();
            prop_assert_eq!(a == b, bytes(&a) == bytes(&b));
            prop_assert_eq!(bytes(&a), bytes(&a.clone()));
        }
    }

    #[test]
    fn digests_are_stable_across_releases() {
        // What is stored is compared with what is computed after a restart.
        let values = [
            Value::Null,
            true.into(),
            7i64.into(),
            0.5.into(),
            "x".into(),
        ];
        let digest = Encoder::new()
            .values(&values)
            .digest("perennial rows test 1");
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "e069be7294214f6ee771ac71a0486929e1a0dbd143c5b47af1b5fa20671c4f45"
        );
    }
}
