//! How is a key, or a value, of a table written in a backup?
//!
//! | type | bytes |
//! | --- | --- |
//! | u64 | eight, little-endian |
//! | `[u8; 32]` | 32 |
//! | text, bytes | their number, as u64; then these |
//! | `Option` | 0, or 1 and the value |
//! | several | one after the other |
//!
//! Values of structures are bytes here, as they stand in the state.

/// A part of a record.
pub(super) trait Field<'a>: Sized {
    /// Writes it behind what is there.
    fn put(&self, out: &mut Vec<u8>);

    /// Takes it from the beginning of `bytes`; none if it is not there.
    fn take(bytes: &mut &'a [u8]) -> Option<Self>;
}

impl<'a> Field<'a> for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(Self::from_le_bytes(*first))
    }
}

impl<'a> Field<'a> for [u8; 32] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*first)
    }
}

impl<'a> Field<'a> for &'a [u8] {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u64).put(out);
        out.extend_from_slice(self);
    }

    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let len = usize::try_from(u64::take(bytes)?).ok()?;
        let (first, rest) = bytes.split_at_checked(len)?;
        *bytes = rest;
        Some(first)
    }
}

impl<'a> Field<'a> for &'a str {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_bytes().put(out);
    }

    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        std::str::from_utf8(<&[u8]>::take(bytes)?).ok()
    }
}

impl<'a, T: Field<'a>> Field<'a> for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let (is_some, rest) = bytes.split_first()?;
        *bytes = rest;
        match is_some {
            0 => Some(None),
            1 => T::take(bytes).map(Some),
            _ => None,
        }
    }
}

impl<'a, A: Field<'a>, B: Field<'a>> Field<'a> for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        Some((A::take(bytes)?, B::take(bytes)?))
    }
}

impl<'a, A: Field<'a>, B: Field<'a>, C: Field<'a>> Field<'a> for (A, B, C) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
        self.2.put(out);
    }

    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        Some((A::take(bytes)?, B::take(bytes)?, C::take(bytes)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written<'a>(field: &impl Field<'a>) -> Vec<u8> {
        let mut out = Vec::new();
        field.put(&mut out);
        out
    }

    #[test]
    fn bytes_are_as_described() {
        assert_eq!(written(&258u64), [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(written(&"ü"), [2, 0, 0, 0, 0, 0, 0, 0, 0xc3, 0xbc]);
        assert_eq!(written(&None::<u64>), [0]);
        let pair = (Some([7u8].as_slice()), 1u64);
        let expected = [1, 1, 0, 0, 0, 0, 0, 0, 0, 7, 1, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(written(&pair), expected);
    }

    proptest! {
        /// What is written is read, with nothing left; and cut off anywhere it is not there.
        #[test]
        fn what_is_written_is_read_and_nothing_less(
            number: u64, text: String, other: String, digest: [u8; 32],
            bytes in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        ) {
            type Record<'a> = ((u64, &'a str, &'a str), (Option<&'a [u8]>, [u8; 32]));
            let record: Record<'_> = ((number, &text, &other), (bytes.as_deref(), digest));
            let all = written(&record);
            let mut rest = &all[..];
            prop_assert_eq!(Record::take(&mut rest), Some(record));
            prop_assert!(rest.is_empty());
            for n in 0..all.len() {
                prop_assert_eq!(Record::take(&mut &all[..n]), None);
            }
        }

        /// Any bytes are a record or none.
        #[test]
        fn any_bytes_are_read_without_a_panic(all in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = <((&str, &str), Option<&[u8]>)>::take(&mut &all[..]);
            let _ = <(u64, &str, &str)>::take(&mut &all[..]);
        }
    }
}
