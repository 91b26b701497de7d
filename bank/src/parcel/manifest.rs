//! What is in a parcel, and under which model?
//!
//! ```text
//! model    weights (32)  codec (32)  identity (32)  kernel class text
//!          n_layers u32  n_kv_heads u32  head_dim u32
//! parcel   coding u8  written_at i64  expires_at i64  writer text
//!          n_entries u32  entry*
//! entry    id (32)  conditioning u32 (the number of an earlier entry plus one, or 0)
//!          base u32  tokens (n u32, u32*)  provenance text
//!          n_bytes u64 (0 where the entry is only named)  BLAKE3 of the payload (32)
//! ```
//! A text is its length in bytes, u32, and UTF-8. Times are milliseconds since 1970.

use perennial_model::kv::KvShape;
use perennial_model::kv::coding::CodedKv;

use super::cursor::{Cursor, put_text, put_u32s};
use super::{ParcelError, read::Expected};
use crate::id::{FragmentId, ModelIdentity};

/// Most entries of a parcel.
pub(super) const MAX_ENTRIES: usize = 1 << 20;
/// Most tokens of an entry.
pub(super) const MAX_TOKENS: usize = 1 << 20;
/// Most bytes of an entry's provenance.
pub(super) const MAX_PROVENANCE_BYTES: usize = 64 << 10;
/// Most bytes of other texts.
pub(super) const MAX_TEXT_BYTES: usize = 4 << 10;
/// Bytes of the shortest entry.
const LEAST_ENTRY_BYTES: usize = 32 + 4 + 4 + 4 + 4 + 8 + 32;

/// What a model's fragments depend on, part by part, so that a refusal names the part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelParts {
    /// Digest of the weights.
    pub weights: [u8; 32],
    /// Digest of what makes tokens of text: tokenizer and template.
    pub codec: [u8; 32],
    /// Names the arithmetic.
    pub kernel_class: String,
    /// All of it together: what ids are computed with.
    pub identity: ModelIdentity,
    /// Sizes of its state.
    pub shape: KvShape,
}

/// How payloads are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadCoding {
    /// As the store holds them: the bits of f16.
    F16,
    /// Coded ([`perennial_model::kv::coding`]): borrowed, however it is checked.
    Coded,
}

/// One fragment of a parcel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: FragmentId,
    /// The number of the entry that it was encoded after; none for a beginning.
    pub conditioning: Option<u32>,
    /// Local position of its first token.
    pub base: u32,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Where it is from, as its writer says it.
    pub provenance: String,
    /// Bytes of its payload; 0 where it is only named.
    pub n_bytes: u64,
    /// Digest of the payload.
    pub(super) digest: [u8; 32],
}

/// What a parcel holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The model that computed it.
    pub model: ModelParts,
    /// How payloads are written.
    pub coding: PayloadCoding,
    /// When it was written.
    pub written_at_ms: i64,
    /// From when on it is not to be used.
    pub expires_at_ms: Option<i64>,
    /// Who says to have written it; the signature says more.
    pub writer: String,
    /// The fragments, each behind what it was encoded after.
    pub entries: Vec<Entry>,
}

impl Manifest {
    /// It as bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let ModelParts {
            weights,
            codec,
            kernel_class,
            identity,
            shape,
        } = &self.model;
        bytes.extend(weights);
        bytes.extend(codec);
        bytes.extend(identity.as_bytes());
        put_text(&mut bytes, kernel_class);
        for n in [shape.n_layers, shape.n_kv_heads, shape.head_dim] {
            bytes.extend((n as u32).to_le_bytes());
        }
        bytes.push(match self.coding {
            PayloadCoding::F16 => 0,
            PayloadCoding::Coded => 1,
        });
        bytes.extend(self.written_at_ms.to_le_bytes());
        bytes.extend(self.expires_at_ms.unwrap_or(i64::MAX).to_le_bytes());
        put_text(&mut bytes, &self.writer);
        bytes.extend((self.entries.len() as u32).to_le_bytes());
        for entry in &self.entries {
            bytes.extend(entry.id.as_bytes());
            let conditioning = entry.conditioning.map_or(0, |n| n + 1);
            bytes.extend(conditioning.to_le_bytes());
            bytes.extend(entry.base.to_le_bytes());
            put_u32s(&mut bytes, &entry.tokens);
            put_text(&mut bytes, &entry.provenance);
            bytes.extend(entry.n_bytes.to_le_bytes());
            bytes.extend(entry.digest);
        }
        bytes
    }

    /// What bytes stand for, all of them.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ParcelError> {
        let damaged = |what| ParcelError::Damaged { what };
        let mut from = Cursor::over(bytes);
        let (weights, codec) = (from.array()?, from.array()?);
        let identity = ModelIdentity::from_bytes(from.array()?);
        let kernel_class = from.text("bytes of a text", MAX_TEXT_BYTES)?.to_owned();
        let shape = KvShape {
            n_layers: from.u32()? as usize,
            n_kv_heads: from.u32()? as usize,
            head_dim: from.u32()? as usize,
        };
        let model = ModelParts {
            weights,
            codec,
            kernel_class,
            identity,
            shape,
        };
        let coding = match from.u8()? {
            0 => PayloadCoding::F16,
            1 => PayloadCoding::Coded,
            _ => return Err(damaged("a coding that is not known")),
        };
        let written_at_ms = from.i64()?;
        let expires_at_ms = Some(from.i64()?).filter(|time| *time != i64::MAX);
        let writer = from.text("bytes of a text", MAX_TEXT_BYTES)?.to_owned();
        let n_entries = from.len("entries", MAX_ENTRIES)?;
        if n_entries > from.n_left() / LEAST_ENTRY_BYTES {
            return Err(damaged("its manifest has no room for its entries"));
        }
        let mut entries = Vec::with_capacity(n_entries);
        for number in 0..n_entries as u32 {
            let id = FragmentId::from_bytes(from.array()?);
            let conditioning = from.u32()?.checked_sub(1);
            if conditioning.is_some_and(|before| before >= number) {
                return Err(damaged("an entry stands before what it was encoded after"));
            }
            entries.push(Entry {
                id,
                conditioning,
                base: from.u32()?,
                tokens: from.u32s("tokens of an entry", MAX_TOKENS)?,
                provenance: from
                    .text("bytes of provenance", MAX_PROVENANCE_BYTES)?
                    .to_owned(),
                n_bytes: from.u64()?,
                digest: from.array()?,
            });
        }
        if from.n_left() > 0 {
            return Err(damaged("its manifest goes on behind its entries"));
        }
        Ok(Self {
            model,
            coding,
            written_at_ms,
            expires_at_ms,
            writer,
            entries,
        })
    }

    /// Whether it is of the model here, and not past its time or its limits; and whether every id
    /// follows from model, conditioning and tokens.
    pub(super) fn check(&self, expected: &Expected<'_>) -> Result<(), ParcelError> {
        self.check_model(expected.model)?;
        if let Some(expires) = self.expires_at_ms.filter(|at| *at <= expected.now_ms) {
            let late_ms = expected.now_ms.saturating_sub(expires);
            return Err(ParcelError::Expired { late_ms });
        }
        let mut total = 0u64;
        for (number, entry) in (0..).zip(&self.entries) {
            self.check_id(number, entry)?;
            if entry.n_bytes == 0 {
                continue;
            }
            let n_f16 = self.model.shape.n_bytes(entry.tokens.len());
            let n_f16 = n_f16.map_or(0, |n| n as u64);
            let fits = match self.coding {
                PayloadCoding::F16 => entry.n_bytes == n_f16,
                // Which coding it is, its payload says; none is longer than what it codes.
                PayloadCoding::Coded => entry.n_bytes <= n_f16 + CodedKv::HEADER_BYTES as u64,
            };
            if !fits {
                return Err(ParcelError::TooLarge {
                    what: "bytes for an entry's tokens",
                    claimed: entry.n_bytes,
                    limit: n_f16,
                });
            }
            total = total.saturating_add(entry.n_bytes);
        }
        match total <= expected.max_bytes {
            true => Ok(()),
            false => Err(ParcelError::TooLarge {
                what: "bytes",
                claimed: total,
                limit: expected.max_bytes,
            }),
        }
    }

    fn check_model(&self, here: &ModelParts) -> Result<(), ParcelError> {
        let hex = |bytes: &[u8; 32]| blake3::Hash::from_bytes(*bytes).to_hex().to_string();
        let of = |model: &ModelParts| {
            let sizes = model.shape;
            let sizes = [sizes.n_layers, sizes.n_kv_heads, sizes.head_dim];
            [
                ("weights", hex(&model.weights)),
                ("tokenizer or template", hex(&model.codec)),
                ("kernel class", model.kernel_class.clone()),
                ("shape", sizes.map(|n| n.to_string()).join("x")),
                ("model identity", hex(model.identity.as_bytes())),
            ]
        };
        let mut pairs = of(&self.model).into_iter().zip(of(here));
        match pairs.find(|(got, expected)| got != expected) {
            Some(((what, got), (_, expected))) => Err(ParcelError::OtherModel {
                what,
                got,
                expected,
            }),
            None => Ok(()),
        }
    }

    fn check_id(&self, number: u32, entry: &Entry) -> Result<(), ParcelError> {
        let before = entry.conditioning.map(|n| &self.entries[n as usize].id);
        let computed = FragmentId::of(&self.model.identity, before, &entry.tokens);
        match computed == entry.id {
            true => Ok(()),
            false => Err(ParcelError::WrongId {
                entry: number,
                claimed: entry.id,
                computed,
            }),
        }
    }

    /// The tokens of an entry and of all that it was encoded after, from the beginning on.
    pub(super) fn chain(&self, number: u32) -> Vec<&[u32]> {
        let mut chain = Vec::new();
        let mut next = Some(number);
        while let Some(number) = next {
            let entry = &self.entries[number as usize];
            chain.push(&entry.tokens[..]);
            next = entry.conditioning;
        }
        chain.reverse();
        chain
    }
}
