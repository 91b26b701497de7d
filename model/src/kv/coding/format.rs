//! A coded fragment as bytes, and back.
//!
//! ```text
//! magic "perennial qc" (12)  version u32
//! coding u32  layers of eight bits (32, one bit a layer)
//! n_layers u32  n_kv_heads u32  head_dim u32  base u32  n_tokens u32
//! deviation of keys f32  of values f32
//! n_bytes u64
//! digest of the key frame, of codings across layers with their basis (32)
//! BLAKE3 of the payload (32)
//! first 8 bytes of the BLAKE3 of the 152 bytes before
//! payload (n_bytes): for every layer and head keys, then values, as the coding lays them; of codings across
//! layers one run of codes, filled up
//! ```
//! Numbers are little endian. The length of a payload follows from coding, shape and tokens; what
//! claims another is refused before anything is allocated for it.

use super::{CodedKv, Coding, CodingError, Deviation, KvShape, LayerSet};

const MAGIC: &[u8; 12] = b"perennial qc";
/// Version of the format; a newer one is refused.
const VERSION: u32 = 1;
/// Bytes that the check is of.
const CHECKED_BYTES: usize = 152;
/// Most tokens of a coded fragment.
pub const MAX_CODED_TOKENS: usize = 1 << 20;

impl Coding {
    fn number(self) -> (u32, LayerSet) {
        match self {
            Self::K8V4 => (1, LayerSet::default()),
            Self::K8Mixed(eight) => (2, eight),
            Self::Q8Blocks => (3, LayerSet::default()),
            Self::Q4Blocks => (4, LayerSet::default()),
            Self::T4 => (5, LayerSet::default()),
            Self::T8 => (6, LayerSet::default()),
        }
    }

    fn of_number(number: u32, eight: LayerSet) -> Option<Self> {
        let coding = match number {
            1 => Self::K8V4,
            2 => Self::K8Mixed(eight),
            3 => Self::Q8Blocks,
            4 => Self::Q4Blocks,
            5 => Self::T4,
            6 => Self::T8,
            _ => return None,
        };
        (coding.number().1 == eight).then_some(coding)
    }
}

impl CodedKv {
    /// Bytes that stand before the codes.
    pub const HEADER_BYTES: usize = CHECKED_BYTES + 8;

    /// It as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::HEADER_BYTES + self.payload.len());
        let (number, eight) = self.coding.number();
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(number.to_le_bytes());
        bytes.extend(eight.0);
        let KvShape {
            n_layers,
            n_kv_heads,
            head_dim,
        } = self.shape;
        for n in [n_layers, n_kv_heads, head_dim] {
            bytes.extend((n as u32).to_le_bytes());
        }
        bytes.extend(self.base.to_le_bytes());
        bytes.extend((self.n_tokens as u32).to_le_bytes());
        bytes.extend(self.deviation.keys.to_le_bytes());
        bytes.extend(self.deviation.values.to_le_bytes());
        bytes.extend((self.payload.len() as u64).to_le_bytes());
        bytes.extend(self.frame);
        bytes.extend(blake3::hash(&self.payload).as_bytes());
        let check = blake3::hash(&bytes);
        bytes.extend(&check.as_bytes()[..Self::HEADER_BYTES - CHECKED_BYTES]);
        bytes.extend(&self.payload);
        bytes
    }

    /// What these bytes, all of them, stand for.
    ///
    /// # Errors
    /// [`CodingError::Newer`] and [`CodingError::Damaged`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodingError> {
        let damaged = CodingError::Damaged;
        let (header, payload) = bytes
            .split_first_chunk::<{ Self::HEADER_BYTES }>()
            .ok_or(damaged("cut off within its first bytes"))?;
        let (checked, check) = header.split_at(CHECKED_BYTES);
        let mut rest = checked
            .strip_prefix(MAGIC)
            .ok_or(damaged("it does not begin as a coded fragment"))?;
        let read = |rest: &mut &[u8]| take(rest).map(u32::from_le_bytes);
        match read(&mut rest)? {
            VERSION => {}
            found => {
                let supported = VERSION;
                return Err(CodingError::Newer { found, supported });
            }
        }
        if !blake3::hash(checked).as_bytes().starts_with(check) {
            return Err(damaged("its first bytes are not what was written"));
        }
        let number = read(&mut rest)?;
        let coding = Coding::of_number(number, LayerSet(take(&mut rest)?));
        let coding = coding.ok_or(damaged("a coding that is not known"))?;
        let shape = KvShape {
            n_layers: read(&mut rest)? as usize,
            n_kv_heads: read(&mut rest)? as usize,
            head_dim: read(&mut rest)? as usize,
        };
        let (base, n_tokens) = (read(&mut rest)?, read(&mut rest)? as usize);
        let deviation = Deviation {
            keys: f32::from_le_bytes(take(&mut rest)?),
            values: f32::from_le_bytes(take(&mut rest)?),
        };
        let n_bytes = u64::from_le_bytes(take(&mut rest)?);
        let (frame, digest): ([u8; 32], [u8; 32]) = (take(&mut rest)?, take(&mut rest)?);
        let expected = Some(n_tokens)
            .filter(|n| *n <= MAX_CODED_TOKENS)
            .and_then(|n| coding.n_bytes(shape, n));
        if expected.is_none_or(|n| n as u64 != n_bytes) {
            return Err(damaged("it claims another length than its tokens have"));
        }
        if payload.len() as u64 != n_bytes {
            return Err(damaged("it is longer or shorter than it says"));
        }
        if blake3::hash(payload) != digest {
            return Err(damaged("its codes are not what was written"));
        }
        Ok(Self {
            coding,
            shape,
            base,
            n_tokens,
            frame,
            deviation,
            payload: payload.to_vec(),
        })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], CodingError> {
    let (first, rest) = bytes
        .split_first_chunk()
        .ok_or(CodingError::Damaged("cut off within its first bytes"))?;
    *bytes = rest;
    Ok(*first)
}
