//! How do fragments get from one process to another, and may what arrives be believed?
//!
//! ```text
//! parcel    head  manifest  seal  frame*  trailer
//! head      magic "perennial pk" (12)  version u32  n_bytes of the manifest u32
//!           BLAKE3 of the manifest (32)  check (8)
//! manifest  what is in it, under which model: see [`Manifest`]
//! seal      mark "SEAL" (4)  root (32)  kind u8  key (32)  signature (64)  check (8)
//! frame     mark "KVFR" (4)  entry u32  n_bytes u64  check (8)  payload (n_bytes)
//! trailer   mark "DONE" (4)  root (32)  check (8)
//! ```
//! Numbers are little endian. A check is the first eight bytes of the BLAKE3 of what stands before it
//! in its part. The root is a digest of head and manifest, and the manifest holds the digests of all
//! payloads: so a signature of the root is one of everything. It stands before the frames, so that
//! nothing is read of a parcel whose writer is not trusted.
//!
//! # What is checked, by level
//! | level | what | finds |
//! | --- | --- | --- |
//! | digests | every part against its digest | what was cut, flipped or mixed up on the way |
//! | signature | the root under a trusted key | who wrote it |
//! | ids | every id computed again from model, conditioning and tokens | another text under a known name |
//! | [`audit`](audit()) | a sample, or all, encoded again and compared bit by bit | tensors that the tokens do not have |
//!
//! The first three are done while reading, always. What was not audited is *borrowed*: it goes by
//! [`Received::borrowed_id`], never by the id of what it says it is.
//!
//! A transfer that was cut is resumed by asking for what is missing: a parcel may name fragments
//! without holding them ([`Packed::named`]), so chains of conditioning are always whole.
//!
//! What this does not do: it hides nothing. Keys and values are as good as the text: the values of the
//! first layer alone give back every token.

mod audit;
mod cursor;
mod manifest;
mod read;
mod seal;
#[cfg(test)]
mod tests;
mod write;

pub use audit::{AuditError, DecoderEncoder, EncodeFragments, audit};
pub use manifest::{Entry, Manifest, ModelParts, PayloadCoding};
pub use read::{Expected, ParcelReader, Received};
pub use seal::{Signed, Signer, Trust};
pub use write::{Label, Packed, Payload, write_parcel};

use std::io;

use crate::id::FragmentId;

/// Why a parcel is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParcelError {
    /// What it is read from, or written to, failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It ends before it is whole. What was received before may be kept.
    #[error("the parcel is cut off {place}")]
    Cut {
        /// In which part.
        place: &'static str,
    },
    /// A part is not what was written.
    #[error("the parcel is damaged: {what}")]
    Damaged {
        /// Which, and how.
        what: &'static str,
    },
    /// A parcel of a newer version of the program.
    #[error("the parcel has format version {found}; this program knows {supported}")]
    Newer {
        /// Its version.
        found: u32,
        /// The version that is written here.
        supported: u32,
    },
    /// It was computed by another model than the one here.
    #[error("the parcel has another {what}: {got}, here it is {expected}")]
    OtherModel {
        /// Which part of the model's identity.
        what: &'static str,
        /// The parcel's.
        got: String,
        /// The one here.
        expected: String,
    },
    /// It claims sizes that are past a limit, or that its tokens do not have.
    #[error("the parcel claims {claimed} {what}; the limit is {limit}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        claimed: u64,
        /// How many there may be.
        limit: u64,
    },
    /// It is no longer to be used.
    #[error("the parcel expired {late_ms} ms ago")]
    Expired {
        /// Since when, in milliseconds.
        late_ms: i64,
    },
    /// It was received before.
    #[error("the parcel was received before")]
    Replayed,
    /// Nobody signed it, and somebody must.
    #[error("the parcel is not signed, and only signed ones are taken")]
    Unsigned,
    /// A key that is not trusted.
    #[error("the parcel is signed with key {key}, which is not trusted")]
    Untrusted {
        /// In hexadecimal digits.
        key: String,
    },
    /// A signature that its key did not make.
    #[error("the parcel's signature is not one of its key {key}")]
    Forged {
        /// In hexadecimal digits.
        key: String,
    },
    /// An id that does not follow from model, conditioning and tokens.
    #[error("entry {entry} of the parcel says it is {claimed:?}; its tokens make it {computed:?}")]
    WrongId {
        /// Its number.
        entry: u32,
        /// What it says.
        claimed: FragmentId,
        /// What it is.
        computed: FragmentId,
    },
    /// A number that is infinite or none, or one where no token is.
    #[error(
        "entry {entry} of the parcel holds a number that is not finite, or one behind its tokens"
    )]
    NotFinite {
        /// Its number.
        entry: u32,
    },
    /// What is to be written cannot be.
    #[error("entry {entry} cannot be packed: {why}")]
    Unfit {
        /// Its number.
        entry: u32,
        /// Why.
        why: String,
    },
}

const MAGIC: &[u8; 12] = b"perennial pk";
/// Version of the format; a newer one is refused.
const VERSION: u32 = 1;
/// Bytes of a check.
const CHECK_BYTES: usize = 8;
/// Bytes before the manifest.
const HEAD_BYTES: usize = 12 + 4 + 4 + 32 + CHECK_BYTES;
const SEAL_MARK: &[u8; 4] = b"SEAL";
/// Bytes of a seal.
const SEAL_BYTES: usize = 4 + 32 + 1 + 32 + 64 + CHECK_BYTES;
const FRAME_MARK: &[u8; 4] = b"KVFR";
/// Bytes of a frame before its payload.
const FRAME_BYTES: usize = 4 + 4 + 8 + CHECK_BYTES;
const TRAILER_MARK: &[u8; 4] = b"DONE";
/// Bytes of a trailer.
const TRAILER_BYTES: usize = 4 + 32 + CHECK_BYTES;
/// Most bytes of a manifest.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// Appends the check of all that is there.
fn seal_part(bytes: &mut Vec<u8>) {
    let check = blake3::hash(bytes);
    bytes.extend(&check.as_bytes()[..CHECK_BYTES]);
}

/// The part without its check, if that is right.
fn checked<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a [u8], ParcelError> {
    let (part, check) = bytes.split_at(bytes.len() - CHECK_BYTES);
    match blake3::hash(part).as_bytes().starts_with(check) {
        true => Ok(part),
        false => Err(ParcelError::Damaged { what }),
    }
}

/// What names everything in a parcel.
fn root(head: &[u8], manifest: &[u8]) -> [u8; 32] {
    let mut hash = blake3::Hasher::new_derive_key("perennial 1 parcel root");
    hash.update(head).update(manifest);
    *hash.finalize().as_bytes()
}
