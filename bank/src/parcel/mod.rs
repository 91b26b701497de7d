//! How do entries of a memory, with their fragments, get from one process to another, and may what
//! arrives be believed?
//!
//! ```text
//! parcel    head  manifest  seal  frame*  trailer
//! head      magic "perennial pk" (12)  version u32  n_bytes of the manifest u32
//!           BLAKE3 of the manifest (32)  check (8)
//! manifest  what is in it, under which model: see [`Manifest`]
//! seal      mark "SEAL" (4)  root (32)  kind u8  key (32)  signature (64)  check (8)
//! frame     mark "KVFR" (4)  fragment u32  n_bytes u64  check (8)  payload (n_bytes)
//! trailer   mark "DONE" (4)  root (32)  check (8)
//! ```
//! Numbers are little endian. A check is the first eight bytes of the BLAKE3 of what stands before it
//! in its part. The root is a digest of head and manifest, and the manifest holds the digests of all
//! payloads: so a signature of the root is one of everything. It stands before the frames, so that
//! nothing is read of a parcel whose writer is not trusted.
//!
//! # What is checked
//! | what | finds |
//! | --- | --- |
//! | every part against its digest | what was cut, flipped or mixed up on the way |
//! | the signature of the root, and whose key it is | who wrote it |
//! | every id, computed again from model, conditioning and tokens | other tokens under a known name |
//!
//! All of it is done while reading, always. Whether tensors are what the model makes of their tokens,
//! only encoding them again tells. Until then they are not the fragment of their id, but stand in for it:
//! [`HandedOver`](crate::HandedOver).
//!
//! Fragments may be [coded](perennial_model::kv::coding), in fewer bytes: all of a parcel, or none. What comes back of
//! codes is near the fragment and not it; but codes are a function of the fragment to the bit, so that encoding it
//! again and coding that tells of them, too, whether they are what they say.
//!
//! A transfer that was cut is resumed by asking for what is missing: a parcel may name fragments
//! without holding them ([`ParcelWriter::named`]), so chains of conditioning are always whole.
//!
//! What this does not do: it hides nothing. Texts stand in it as they are, and keys and values are as
//! good as the text: the values of the first layer alone give back every token.

mod cursor;
mod error;
mod manifest;
mod read;
mod seal;
#[cfg(test)]
mod tests;
mod write;

pub use error::ParcelError;
pub use manifest::{FragmentEntry, Manifest, ModelParts, Record};
pub use read::{Expected, ParcelReader, Received, Tensors};
pub use seal::{Signer, SignerError, Trust};
pub use write::{Label, ParcelWriter};

const MAGIC: &[u8; 12] = b"perennial pk";
/// Version of the format; another one is refused.
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

/// Bytes as they are shown: in hexadecimal digits.
fn hex(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}
