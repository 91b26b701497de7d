//! A parcel, read: nothing is taken that was not checked, and nothing allocated for a claim alone.

use std::io::{ErrorKind, Read};
use std::sync::Arc;

use perennial_model::kv::KvFragment;
use perennial_model::kv::coding::CodedKv;

use super::manifest::{FragmentEntry, Manifest, ModelParts};
use super::{
    FRAME_BYTES, FRAME_MARK, HEAD_BYTES, MAGIC, MAX_MANIFEST_BYTES, ParcelError, SEAL_BYTES,
    TRAILER_BYTES, TRAILER_MARK, Trust, VERSION, checked, hex, root, seal,
};
use crate::id::FragmentId;

/// What a parcel is held against.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    /// The model here; without one, of fragments no more is known than that they arrived whole.
    pub model: Option<&'a ModelParts>,
    /// Whose parcels are taken.
    pub trust: &'a Trust,
    /// The time here, in milliseconds since 1970.
    pub now_ms: i64,
    /// Whether a parcel of this root was received before.
    pub is_known: &'a dyn Fn(&[u8; 32]) -> bool,
    /// Most bytes of all payloads together.
    pub max_bytes: u64,
    /// How many bytes there are to read, where that is known: fewer than the manifest says are refused before
    /// any payload is.
    pub n_bytes: Option<u64>,
}

/// A fragment that was received, whole and of the tokens that its id says. Whether it is what the
/// model makes of them, only encoding them again tells.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its number in the manifest.
    pub number: u32,
    /// The id of what it says it is.
    pub id: FragmentId,
    /// What came of it.
    pub tensors: Tensors,
}

/// What a parcel holds of a fragment.
#[derive(Clone, Debug, PartialEq)]
pub enum Tensors {
    /// What it says it is.
    Whole(Arc<KvFragment>),
    /// In fewer bytes: what comes back of it is near.
    Coded(Arc<CodedKv>),
}

impl Received {
    /// The tensors, where they came as they are.
    pub fn whole(&self) -> Option<&Arc<KvFragment>> {
        match &self.tensors {
            Tensors::Whole(kv) => Some(kv),
            Tensors::Coded(_) => None,
        }
    }
}

/// A parcel being read.
pub struct ParcelReader<R> {
    from: R,
    manifest: Manifest,
    root: [u8; 32],
    signed_by: Option<[u8; 32]>,
    /// Number of the next fragment.
    next: u32,
    is_done: bool,
}

impl<R: Read> ParcelReader<R> {
    /// Reads up to the first frame: everything is checked that does not need a payload.
    ///
    /// # Errors
    /// [`ParcelError`].
    pub fn open(mut from: R, expected: Expected<'_>) -> Result<Self, ParcelError> {
        let damaged = |what| ParcelError::Damaged { what };
        let head: [u8; HEAD_BYTES] = array(&mut from, "within its first bytes")?;
        let mut rest = head
            .strip_prefix(MAGIC)
            .ok_or(damaged("it does not begin as a parcel"))?;
        let (found, n_bytes) = (u32_of(&mut rest), u32_of(&mut rest));
        if found != VERSION {
            let supported = VERSION;
            return Err(ParcelError::OtherVersion { found, supported });
        }
        checked(&head, "its first bytes are not what was written")?;
        let claimed = u64::from(n_bytes);
        if claimed > MAX_MANIFEST_BYTES {
            return Err(ParcelError::TooLarge {
                what: "bytes of a manifest",
                claimed,
                limit: MAX_MANIFEST_BYTES,
            });
        }
        let bytes = exactly(&mut from, claimed, "within its manifest")?;
        if !rest.starts_with(blake3::hash(&bytes).as_bytes()) {
            return Err(damaged("its manifest is not what was written"));
        }
        let root = root(&head, &bytes);
        let sealed: [u8; SEAL_BYTES] = array(&mut from, "within its seal")?;
        let signed_by = seal::verify(&sealed, &root, expected.trust)?;
        if (expected.is_known)(&root) {
            return Err(ParcelError::Replayed { root: hex(&root) });
        }
        let manifest = Manifest::parse(&bytes)?;
        manifest.check(&expected)?;
        let whole = manifest.n_bytes_of_frames();
        let whole =
            whole.saturating_add(claimed + (HEAD_BYTES + SEAL_BYTES + TRAILER_BYTES) as u64);
        if let Some(n_bytes) = expected.n_bytes.filter(|n| *n < whole) {
            return Err(ParcelError::Short { n_bytes, of: whole });
        }
        Ok(Self {
            from,
            manifest,
            root,
            signed_by,
            next: 0,
            is_done: false,
        })
    }

    /// What it holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Names everything in it.
    pub fn root(&self) -> &[u8; 32] {
        &self.root
    }

    /// The public key of who signed it.
    pub fn signed_by(&self) -> Option<&[u8; 32]> {
        self.signed_by.as_ref()
    }

    /// The next fragment; none behind the last, once the trailer was read and nothing follows it.
    ///
    /// # Errors
    /// [`ParcelError`]; what came before is whole all the same.
    pub fn next_fragment(&mut self) -> Result<Option<Received>, ParcelError> {
        if self.is_done {
            return Ok(None);
        }
        let fragments = (self.next..).zip(&self.manifest.fragments[self.next as usize..]);
        let mut with_payload = fragments.filter(|(_, fragment)| fragment.n_bytes > 0);
        let Some((number, fragment)) = with_payload.next() else {
            self.finish()?;
            self.is_done = true;
            return Ok(None);
        };
        let head: [u8; FRAME_BYTES] = array(&mut self.from, "before a frame")?;
        let mut rest = checked(&head, "a frame's first bytes are not what was written")?
            .strip_prefix(FRAME_MARK)
            .ok_or(ParcelError::Damaged {
                what: "there is no frame where one should be",
            })?;
        let (of_frame, low, high) = (u32_of(&mut rest), u32_of(&mut rest), u32_of(&mut rest));
        let n_bytes = u64::from(high) << 32 | u64::from(low);
        if of_frame != number || n_bytes != fragment.n_bytes {
            return Err(ParcelError::Damaged {
                what: "a frame is not the one that its manifest says",
            });
        }
        let payload = exactly(&mut self.from, n_bytes, "within a frame")?;
        if *blake3::hash(&payload).as_bytes() != fragment.digest {
            return Err(ParcelError::Damaged {
                what: "a payload is not what was written",
            });
        }
        let received = self.received(number, fragment, &payload)?;
        self.next = number + 1;
        Ok(Some(received))
    }

    fn received(
        &self,
        number: u32,
        fragment: &FragmentEntry,
        payload: &[u8],
    ) -> Result<Received, ParcelError> {
        let shape = self.manifest.model.as_ref().map(|model| model.shape);
        let n_tokens = fragment.tokens.len();
        if self.manifest.is_coded {
            let kv = CodedKv::from_bytes(payload).map_err(|source| ParcelError::Coded {
                fragment: number,
                source,
            })?;
            let is_of_tokens = Some(kv.shape()) == shape && kv.n_tokens() == n_tokens;
            return match is_of_tokens && kv.base() == 0 {
                true => Ok(Received {
                    number,
                    id: fragment.id,
                    tensors: Tensors::Coded(Arc::new(kv)),
                }),
                false => Err(ParcelError::Damaged {
                    what: "a payload is not of its tokens",
                }),
            };
        }
        let kv = shape.and_then(|of| KvFragment::from_bytes(of, 0, n_tokens, payload));
        let kv = kv.ok_or(ParcelError::Damaged {
            what: "a payload is not of its tokens",
        })?;
        match kv.is_sound() {
            true => Ok(Received {
                number,
                id: fragment.id,
                tensors: Tensors::Whole(Arc::new(kv)),
            }),
            false => Err(ParcelError::NotFinite { fragment: number }),
        }
    }

    fn finish(&mut self) -> Result<(), ParcelError> {
        let trailer: [u8; TRAILER_BYTES] = array(&mut self.from, "before its end")?;
        let part = checked(&trailer, "its end is not what was written")?;
        if part.strip_prefix(TRAILER_MARK) != Some(&self.root[..]) {
            return Err(ParcelError::Damaged {
                what: "its end is that of another parcel",
            });
        }
        match exactly(&mut self.from, 1, "") {
            Err(ParcelError::Cut { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(ParcelError::Damaged {
                what: "it goes on behind its end",
            }),
        }
    }
}

/// Takes four bytes off, where there are so many.
fn u32_of(bytes: &mut &[u8]) -> u32 {
    match bytes.split_first_chunk() {
        Some((first, rest)) => {
            *bytes = rest;
            u32::from_le_bytes(*first)
        }
        None => 0,
    }
}

/// So many bytes. What is allocated grows with what arrives.
fn exactly(from: &mut impl Read, n: u64, place: &'static str) -> Result<Vec<u8>, ParcelError> {
    let mut bytes = Vec::new();
    match from.take(n).read_to_end(&mut bytes) {
        Ok(got) if got as u64 == n => Ok(bytes),
        Ok(_) => Err(ParcelError::Cut { place }),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(ParcelError::Cut { place }),
        Err(error) => Err(error.into()),
    }
}

fn array<const N: usize>(
    from: &mut impl Read,
    place: &'static str,
) -> Result<[u8; N], ParcelError> {
    let bytes = exactly(from, N as u64, place)?;
    bytes.try_into().map_err(|_| ParcelError::Cut { place })
}
