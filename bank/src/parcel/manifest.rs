//! What is in a parcel, and under which model?
//!
//! ```text
//! model     0 u8 where there are texts only, or 1 u8 and
//!           weights (32)  codec (32)  identity (32)  kernel class text
//!           n_layers u32  n_kv_heads u32  head_dim u32
//! parcel    coding u8 (0: the bits of f16)  written_at i64  expires_at i64 (i64::MAX: never)
//!           writer text  n_records u32  record*  n_fragments u32  fragment*
//! record    key text  namespace text  session optional  writer optional  title optional  text text
//!           updated_at i64  is_pinned u8  provenance optional
//! fragment  id (32)  conditioning u32 (the number of an earlier fragment plus one, or 0)
//!           record u32 (the number of the record whose text it is of plus one, or 0)
//!           tokens (n u32, u32*)
//!           n_bytes u64 (0 where the fragment is only named)  BLAKE3 of the payload (32)
//! ```
//! A text is its length in bytes, u32, and UTF-8; an optional one is 0 u8, or 1 u8 and a text. Times are
//! milliseconds since 1970. What stands in no order that this gives is refused: one manifest has one
//! form.

use perennial_model::kv::KvShape;
use perennial_model::kv::coding::CodedKv;

use super::cursor::{Cursor, put_optional, put_text, put_u32s};
use super::{FRAME_BYTES, ParcelError, hex, read::Expected};
use crate::id::{FragmentId, ModelIdentity};

/// Most records of a parcel.
pub(super) const MAX_RECORDS: usize = 100_000;
/// Most fragments of a parcel.
pub(super) const MAX_FRAGMENTS: usize = 1 << 20;
/// Most tokens of a fragment.
pub(super) const MAX_TOKENS: usize = 1 << 20;
/// Most bytes of a record's text.
pub(super) const MAX_TEXT_BYTES: usize = 64 << 10;
/// Most bytes of other texts.
pub(super) const MAX_NAME_BYTES: usize = 4 << 10;
/// Bytes of the shortest record.
const LEAST_RECORD_BYTES: usize = 4 + 4 + 1 + 1 + 1 + 4 + 8 + 1 + 1;
/// Bytes of the shortest fragment.
const LEAST_FRAGMENT_BYTES: usize = 32 + 4 + 4 + 4 + 8 + 32;
/// What a text is called that is too long.
const NAME: &str = "bytes of a name";

/// What a model's fragments depend on, part by part, so that a refusal names the part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelParts {
    /// Digest of the weights.
    pub weights: [u8; 32],
    /// Digest of what makes tokens of text: tokenizer and template.
    pub codec: [u8; 32],
    /// Names the arithmetic.
    pub kernel_class: String,
    /// All of it together, with the dtype of KV: what ids are computed with.
    pub identity: ModelIdentity,
    /// Sizes of its state.
    pub shape: KvShape,
}

/// An entry of a memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: String,
    /// Where it belongs.
    pub namespace: String,
    /// In which session it was said.
    pub session: Option<String>,
    /// By whom.
    pub writer: Option<String>,
    /// What it calls itself.
    pub title: Option<String>,
    /// What it says.
    pub text: String,
    /// When, in milliseconds since 1970.
    pub updated_at_ms: i64,
    /// Whether it is kept before all that is not pinned.
    pub is_pinned: bool,
    /// How it came to who packed it, in their words.
    pub provenance: Option<String>,
}

/// One fragment of a parcel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentEntry {
    /// Its id.
    pub id: FragmentId,
    /// The number of the fragment that it was encoded after; none for a beginning.
    pub conditioning: Option<u32>,
    /// The number of the record whose text it is of; none of what stands before all texts.
    pub record: Option<u32>,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Bytes of its payload; 0 where it is only named.
    pub n_bytes: u64,
    /// Digest of the payload.
    pub(super) digest: [u8; 32],
}

/// What a parcel holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The model that computed its fragments; none where there are texts only.
    pub model: Option<ModelParts>,
    /// When it was written, in milliseconds since 1970.
    pub written_at_ms: i64,
    /// From when on it is not to be used.
    pub expires_at_ms: Option<i64>,
    /// Who says to have written it; the signature says more.
    pub writer: String,
    /// Whether all payloads are coded fragments, each of which says how; else they are fragments as they are.
    pub is_coded: bool,
    /// The entries.
    pub records: Vec<Record>,
    /// The fragments, each behind what it was encoded after.
    pub fragments: Vec<FragmentEntry>,
}

impl Manifest {
    /// It as bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.push(self.model.is_some().into());
        if let Some(model) = &self.model {
            model.put(&mut bytes);
        }
        bytes.push(self.is_coded.into());
        bytes.extend(self.written_at_ms.to_le_bytes());
        bytes.extend(self.expires_at_ms.unwrap_or(i64::MAX).to_le_bytes());
        put_text(&mut bytes, &self.writer);
        bytes.extend((self.records.len() as u32).to_le_bytes());
        self.records
            .iter()
            .for_each(|record| record.put(&mut bytes));
        bytes.extend((self.fragments.len() as u32).to_le_bytes());
        for fragment in &self.fragments {
            fragment.put(&mut bytes);
        }
        bytes
    }

    /// What bytes stand for, all of them.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ParcelError> {
        let damaged = |what| ParcelError::Damaged { what };
        let mut from = Cursor::over(bytes);
        let model = match from.bool()? {
            true => Some(ModelParts::take(&mut from)?),
            false => None,
        };
        let is_coded = match from.u8()? {
            0 => false,
            1 => true,
            _ => return Err(damaged("a coding that is not known")),
        };
        let written_at_ms = from.i64()?;
        let expires_at_ms = Some(from.i64()?).filter(|time| *time != i64::MAX);
        let writer = from.text(NAME, MAX_NAME_BYTES)?;
        let n_records = from.n_of("records", MAX_RECORDS, LEAST_RECORD_BYTES)?;
        let records = (0..n_records).map(|_| Record::take(&mut from));
        let records: Vec<Record> = records.collect::<Result<_, _>>()?;
        let n_fragments = from.n_of("fragments", MAX_FRAGMENTS, LEAST_FRAGMENT_BYTES)?;
        if n_fragments > 0 && model.is_none() {
            return Err(damaged("it has fragments of no model"));
        }
        let mut fragments = Vec::with_capacity(n_fragments);
        for number in 0..n_fragments as u32 {
            let fragment = FragmentEntry::take(&mut from)?;
            if fragment.conditioning.is_some_and(|before| before >= number) {
                return Err(damaged(
                    "a fragment stands before what it was encoded after",
                ));
            }
            if fragment.record.is_some_and(|of| of as usize >= n_records) {
                return Err(damaged("a fragment is of a record that is not there"));
            }
            fragments.push(fragment);
        }
        match from.is_at_end() {
            true => Ok(Self {
                model,
                written_at_ms,
                expires_at_ms,
                writer,
                is_coded,
                records,
                fragments,
            }),
            false => Err(damaged("its manifest goes on behind its fragments")),
        }
    }

    /// Whether it is of the model here, and not past its time or its limits; and whether every id
    /// follows from model, conditioning and tokens.
    pub(super) fn check(&self, expected: &Expected<'_>) -> Result<(), ParcelError> {
        if let Some(expires) = self.expires_at_ms.filter(|at| *at <= expected.now_ms) {
            let late_ms = expected.now_ms.saturating_sub(expires);
            return Err(ParcelError::Expired { late_ms });
        }
        if let (Some(model), Some(here)) = (&self.model, expected.model) {
            model.check(here)?;
        }
        let mut total = 0u64;
        for (number, fragment) in (0..).zip(&self.fragments) {
            self.check_id(number, fragment)?;
            let n_of_tokens = self.n_bytes_of(fragment);
            // Which coding it is, is behind it.
            let has_its_length = match self.is_coded {
                true => fragment.n_bytes <= n_of_tokens + CodedKv::HEADER_BYTES as u64,
                false => fragment.n_bytes == n_of_tokens,
            };
            if fragment.n_bytes > 0 && !has_its_length {
                return Err(ParcelError::TooLarge {
                    what: "bytes for a fragment's tokens",
                    claimed: fragment.n_bytes,
                    limit: n_of_tokens,
                });
            }
            total = total.saturating_add(fragment.n_bytes);
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

    /// Bytes of all frames.
    pub(super) fn n_bytes_of_frames(&self) -> u64 {
        let held = self
            .fragments
            .iter()
            .filter(|fragment| fragment.n_bytes > 0);
        held.fold(0, |sum: u64, fragment| {
            sum.saturating_add(FRAME_BYTES as u64)
                .saturating_add(fragment.n_bytes)
        })
    }

    /// Bytes that a fragment's tokens have.
    fn n_bytes_of(&self, fragment: &FragmentEntry) -> u64 {
        let shape = self.model.as_ref().map(|model| model.shape);
        let n_bytes = shape.and_then(|shape| shape.n_bytes(fragment.tokens.len()));
        n_bytes.map_or(0, |n| n as u64)
    }

    fn check_id(&self, number: u32, fragment: &FragmentEntry) -> Result<(), ParcelError> {
        let Some(model) = &self.model else {
            return Ok(());
        };
        let before = fragment.conditioning;
        let before = before.map(|n| &self.fragments[n as usize].id);
        let computed = FragmentId::of(&model.identity, before, &fragment.tokens);
        match computed == fragment.id {
            true => Ok(()),
            false => Err(ParcelError::WrongId {
                fragment: number,
                claimed: fragment.id,
                computed,
            }),
        }
    }
}

impl ModelParts {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.weights);
        bytes.extend(self.codec);
        bytes.extend(self.identity.as_bytes());
        put_text(bytes, &self.kernel_class);
        let shape = self.shape;
        for n in [shape.n_layers, shape.n_kv_heads, shape.head_dim] {
            bytes.extend((n as u32).to_le_bytes());
        }
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, ParcelError> {
        Ok(Self {
            weights: from.array()?,
            codec: from.array()?,
            identity: ModelIdentity::from_bytes(from.array()?),
            kernel_class: from.text(NAME, MAX_NAME_BYTES)?,
            shape: KvShape {
                n_layers: from.u32()? as usize,
                n_kv_heads: from.u32()? as usize,
                head_dim: from.u32()? as usize,
            },
        })
    }

    /// Whether it is the model here.
    fn check(&self, here: &Self) -> Result<(), ParcelError> {
        let of = |model: &Self| {
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
        let mut pairs = of(self).into_iter().zip(of(here));
        match pairs.find(|(got, expected)| got != expected) {
            Some(((what, got), (_, expected))) => Err(ParcelError::OtherModel {
                what,
                got,
                expected,
            }),
            None => Ok(()),
        }
    }
}

impl Record {
    fn put(&self, bytes: &mut Vec<u8>) {
        put_text(bytes, &self.key);
        put_text(bytes, &self.namespace);
        for name in [&self.session, &self.writer, &self.title] {
            put_optional(bytes, name.as_deref());
        }
        put_text(bytes, &self.text);
        bytes.extend(self.updated_at_ms.to_le_bytes());
        bytes.push(self.is_pinned.into());
        put_optional(bytes, self.provenance.as_deref());
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, ParcelError> {
        Ok(Self {
            key: from.text(NAME, MAX_NAME_BYTES)?,
            namespace: from.text(NAME, MAX_NAME_BYTES)?,
            session: from.optional(NAME, MAX_NAME_BYTES)?,
            writer: from.optional(NAME, MAX_NAME_BYTES)?,
            title: from.optional(NAME, MAX_NAME_BYTES)?,
            text: from.text("bytes of a text", MAX_TEXT_BYTES)?,
            updated_at_ms: from.i64()?,
            is_pinned: from.bool()?,
            provenance: from.optional(NAME, MAX_NAME_BYTES)?,
        })
    }

    /// What of it is longer than a parcel takes.
    pub(super) fn too_long(&self) -> Option<ParcelError> {
        let names = [&self.session, &self.writer, &self.title, &self.provenance];
        let names = names.into_iter().flatten();
        let mut names = names.chain([&self.key, &self.namespace]);
        let limits = |text: &String, what, limit: usize| ParcelError::TooLarge {
            what,
            claimed: text.len() as u64,
            limit: limit as u64,
        };
        if self.text.len() > MAX_TEXT_BYTES {
            return Some(limits(&self.text, "bytes of a text", MAX_TEXT_BYTES));
        }
        let long = names.find(|name| name.len() > MAX_NAME_BYTES)?;
        Some(limits(long, NAME, MAX_NAME_BYTES))
    }
}

impl FragmentEntry {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.id.as_bytes());
        for number in [self.conditioning, self.record] {
            bytes.extend(number.map_or(0, |n| n + 1).to_le_bytes());
        }
        put_u32s(bytes, &self.tokens);
        bytes.extend(self.n_bytes.to_le_bytes());
        bytes.extend(self.digest);
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, ParcelError> {
        Ok(Self {
            id: FragmentId::from_bytes(from.array()?),
            conditioning: from.u32()?.checked_sub(1),
            record: from.u32()?.checked_sub(1),
            tokens: from.u32s("tokens of a fragment", MAX_TOKENS)?,
            n_bytes: from.u64()?,
            digest: from.array()?,
        })
    }
}
