//! Numbers, digests and texts in a manifest, read no further than it goes.

use super::ParcelError;

/// The rest of a manifest.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

const SHORT: ParcelError = ParcelError::Damaged {
    what: "its manifest ends too soon",
};

impl<'a> Cursor<'a> {
    /// All of it.
    pub fn over(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// So many bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ParcelError> {
        let (first, rest) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*first)
    }

    /// A byte.
    pub fn u8(&mut self) -> Result<u8, ParcelError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A number.
    pub fn u32(&mut self) -> Result<u32, ParcelError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A number.
    pub fn u64(&mut self) -> Result<u64, ParcelError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A time.
    pub fn i64(&mut self) -> Result<i64, ParcelError> {
        self.array().map(i64::from_le_bytes)
    }

    /// A length and so many bytes of UTF-8, at most `limit`.
    pub fn text(&mut self, what: &'static str, limit: usize) -> Result<&'a str, ParcelError> {
        let n = self.len(what, limit)?;
        let bytes = self.rest.split_off(..n).ok_or(SHORT)?;
        std::str::from_utf8(bytes).map_err(|_| ParcelError::Damaged {
            what: "a text in its manifest is not UTF-8",
        })
    }

    /// A length and so many numbers, at most `limit`.
    pub fn u32s(&mut self, what: &'static str, limit: usize) -> Result<Vec<u32>, ParcelError> {
        let n = self.len(what, limit)?;
        // Cut off before anything is allocated for it.
        let bytes = n.checked_mul(4).and_then(|n| self.rest.split_off(..n));
        let numbers = bytes.ok_or(SHORT)?.as_chunks().0.iter();
        Ok(numbers.map(|bytes| u32::from_le_bytes(*bytes)).collect())
    }

    /// A number of things, at most `limit`.
    pub fn len(&mut self, what: &'static str, limit: usize) -> Result<usize, ParcelError> {
        let claimed = self.u32()?;
        let limit = limit as u64;
        match u64::from(claimed) <= limit {
            true => Ok(claimed as usize),
            false => Err(ParcelError::TooLarge {
                what,
                claimed: claimed.into(),
                limit,
            }),
        }
    }

    /// Bytes that are left.
    pub fn n_left(&self) -> usize {
        self.rest.len()
    }
}

/// Appends a length and a text.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Appends a length and numbers.
pub(super) fn put_u32s(bytes: &mut Vec<u8>, numbers: &[u32]) {
    bytes.extend((numbers.len() as u32).to_le_bytes());
    bytes.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
}
