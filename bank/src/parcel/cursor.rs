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
    pub(super) fn over(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// So many bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ParcelError> {
        let (first, rest) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*first)
    }

    /// A byte.
    pub(super) fn u8(&mut self) -> Result<u8, ParcelError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Yes or no.
    pub(super) fn bool(&mut self) -> Result<bool, ParcelError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ParcelError::Damaged {
                what: "a mark in its manifest is neither yes nor no",
            }),
        }
    }

    /// A number.
    pub(super) fn u32(&mut self) -> Result<u32, ParcelError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A number.
    pub(super) fn u64(&mut self) -> Result<u64, ParcelError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A time.
    pub(super) fn i64(&mut self) -> Result<i64, ParcelError> {
        self.array().map(i64::from_le_bytes)
    }

    /// A length and so many bytes of UTF-8, at most `limit`.
    pub(super) fn text(&mut self, what: &'static str, limit: usize) -> Result<String, ParcelError> {
        let n = self.len(what, limit)?;
        let bytes = self.rest.split_off(..n).ok_or(SHORT)?;
        let text = std::str::from_utf8(bytes).map_err(|_| ParcelError::Damaged {
            what: "a text in its manifest is not UTF-8",
        })?;
        Ok(text.to_owned())
    }

    /// A text that may be left out.
    pub(super) fn optional(
        &mut self,
        what: &'static str,
        limit: usize,
    ) -> Result<Option<String>, ParcelError> {
        match self.bool()? {
            true => self.text(what, limit).map(Some),
            false => Ok(None),
        }
    }

    /// A length and so many numbers, at most `limit`.
    pub(super) fn u32s(
        &mut self,
        what: &'static str,
        limit: usize,
    ) -> Result<Vec<u32>, ParcelError> {
        let n = self.len(what, limit)?;
        // Cut off before anything is allocated for it.
        let bytes = n.checked_mul(4).and_then(|n| self.rest.split_off(..n));
        let numbers = bytes.ok_or(SHORT)?.as_chunks().0.iter();
        Ok(numbers.map(|bytes| u32::from_le_bytes(*bytes)).collect())
    }

    /// A number of things, at most `limit`, each of which takes `least_bytes` or more of what is left.
    pub(super) fn n_of(
        &mut self,
        what: &'static str,
        limit: usize,
        least_bytes: usize,
    ) -> Result<usize, ParcelError> {
        let n = self.len(what, limit)?;
        match n <= self.rest.len() / least_bytes {
            true => Ok(n),
            false => Err(ParcelError::Damaged {
                what: "its manifest has no room for what it says it lists",
            }),
        }
    }

    /// A length, at most `limit`.
    fn len(&mut self, what: &'static str, limit: usize) -> Result<usize, ParcelError> {
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

    /// Whether nothing is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Appends a length and a text.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Appends a text that may be left out.
pub(super) fn put_optional(bytes: &mut Vec<u8>, text: Option<&str>) {
    bytes.push(text.is_some().into());
    if let Some(text) = text {
        put_text(bytes, text);
    }
}

/// Appends a length and numbers.
pub(super) fn put_u32s(bytes: &mut Vec<u8>, numbers: &[u32]) {
    bytes.extend((numbers.len() as u32).to_le_bytes());
    bytes.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
}
