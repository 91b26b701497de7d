//! Which weights are these? The SHA-256 of their bytes, as model hubs publish it.
//!
//! The digest is taken from the bytes each time a model is opened, never from a file's
//! name, size or time: what is stored under a digest must have been computed with those
//! weights.

use std::{
    fmt,
    io::Read as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::Error;

/// Digest of a checkpoint; shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModelDigest([u8; 32]);

impl ModelDigest {
    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ModelDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ModelDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelDigest({self})")
    }
}

impl FromStr for ModelDigest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(NotADigest);
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NotADigest)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotADigest)?;
        }
        Ok(Self(bytes))
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest has 64 hexadecimal digits")]
pub struct NotADigest;

/// Digest of bytes in memory.
pub(crate) fn of_bytes(bytes: &[u8]) -> ModelDigest {
    ModelDigest(Sha256::digest(bytes).into())
}

/// Digest of a file, read through a small buffer.
pub(crate) fn of_file(path: &Path) -> Result<ModelDigest, Error> {
    let mut file = std::fs::File::open(path).map_err(Error::io(path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(Error::io(path))? {
            0 => return Ok(ModelDigest(hasher.finalize().into())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Digest of several files by their names and digests, whatever their order.
pub(crate) fn of_parts(parts: &[(PathBuf, ModelDigest)]) -> ModelDigest {
    let mut lines: Vec<String> = parts
        .iter()
        .map(|(path, digest)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            format!("{digest}  {name}\n")
        })
        .collect();
    lines.sort_unstable();
    of_bytes(lines.concat().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_sha_256_and_read_back() {
        let digest = of_bytes(b"abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), hex);
        assert_eq!(hex.parse(), Ok(digest));
        assert_eq!("ba78".parse::<ModelDigest>(), Err(NotADigest));
        assert_eq!("é".repeat(32).parse::<ModelDigest>(), Err(NotADigest));

        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"abc").unwrap();
        assert_eq!(of_file(file.path()).unwrap(), digest);
    }

    #[test]
    fn parts_have_no_order() {
        let parts = [("a".into(), of_bytes(b"1")), ("b".into(), of_bytes(b"2"))];
        let mut reversed = parts.clone();
        reversed.reverse();
        assert_eq!(of_parts(&parts), of_parts(&reversed));
    }
}
