//! A parcel, written.

use std::io::Write;
use std::sync::Arc;

use perennial_model::kv::KvFragment;
use perennial_model::kv::coding::CodedKv;

use super::manifest::{MAX_ENTRIES, MAX_PROVENANCE_BYTES, MAX_TEXT_BYTES, MAX_TOKENS};
use super::{
    Entry, FRAME_MARK, HEAD_BYTES, MAGIC, MAX_MANIFEST_BYTES, Manifest, ModelParts, ParcelError,
    PayloadCoding, Signer, TRAILER_MARK, VERSION, root, seal, seal_part,
};
use crate::id::FragmentId;

/// A fragment to be put into a parcel.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The number of the entry that it was encoded after, an earlier one; none for a beginning.
    pub conditioning: Option<u32>,
    /// Local position of its first token.
    pub base: u32,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Where it is from.
    pub provenance: String,
    /// What it holds.
    pub payload: Payload,
}

/// What is sent of a fragment.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Its name alone: who reads has it, or does not want it.
    Named,
    /// Its tensors.
    Kv(Arc<KvFragment>),
    /// Its tensors, coded.
    Coded(Arc<CodedKv>),
}

impl Packed {
    /// An entry that is only named.
    pub fn named(conditioning: Option<u32>, tokens: Vec<u32>) -> Self {
        Self {
            conditioning,
            base: 0,
            tokens,
            provenance: String::new(),
            payload: Payload::Named,
        }
    }

    /// An entry with its tensors.
    pub fn whole(conditioning: Option<u32>, tokens: Vec<u32>, kv: Arc<KvFragment>) -> Self {
        Self {
            conditioning,
            base: kv.base(),
            tokens,
            provenance: String::new(),
            payload: Payload::Kv(kv),
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match &self.payload {
            Payload::Named => Vec::new(),
            Payload::Kv(kv) => kv.to_bytes(),
            Payload::Coded(coded) => coded.to_bytes(),
        }
    }

    /// Why it cannot be packed.
    fn unfit(&self, number: usize, model: &ModelParts, coding: PayloadCoding) -> Option<String> {
        let why = match (&self.payload, coding) {
            (Payload::Kv(kv), PayloadCoding::F16)
                if kv.shape() != model.shape || kv.n_tokens() != self.tokens.len() =>
            {
                "its tensors are of another model, or of other tokens"
            }
            (Payload::Coded(kv), PayloadCoding::Coded)
                if kv.shape() != model.shape || kv.n_tokens() != self.tokens.len() =>
            {
                "its codes are of another model, or of other tokens"
            }
            (Payload::Kv(_), PayloadCoding::Coded) | (Payload::Coded(_), PayloadCoding::F16) => {
                "one parcel has one coding"
            }
            _ if self.tokens.is_empty() => "it has no tokens",
            _ if self.tokens.len() > MAX_TOKENS => "it has too many tokens",
            _ if self.provenance.len() > MAX_PROVENANCE_BYTES => "its provenance is too long",
            _ if self.conditioning.is_some_and(|n| n as usize >= number) => {
                "it stands before what it was encoded after"
            }
            _ => return None,
        };
        Some(why.to_owned())
    }
}

/// What is said of a parcel as a whole.
#[derive(Clone, Debug)]
pub struct Label {
    /// The model that computed it.
    pub model: ModelParts,
    /// How payloads are written.
    pub coding: PayloadCoding,
    /// When it is written, in milliseconds since 1970.
    pub written_at_ms: i64,
    /// From when on it is not to be used.
    pub expires_at_ms: Option<i64>,
    /// Who writes it.
    pub writer: String,
}

/// Writes a parcel; yields its manifest and root. Payloads are made twice, for their digests and
/// to be written, so that no more than one is held.
///
/// # Errors
/// [`ParcelError::Unfit`], [`ParcelError::TooLarge`] and what writing reports.
pub fn write_parcel(
    to: &mut impl Write,
    label: Label,
    entries: &[Packed],
    signer: Option<&Signer>,
) -> Result<(Manifest, [u8; 32]), ParcelError> {
    let too_large = |what, claimed: usize, limit: usize| ParcelError::TooLarge {
        what,
        claimed: claimed as u64,
        limit: limit as u64,
    };
    if entries.len() > MAX_ENTRIES {
        return Err(too_large("entries", entries.len(), MAX_ENTRIES));
    }
    for text in [&label.writer, &label.model.kernel_class] {
        if text.len() > MAX_TEXT_BYTES {
            return Err(too_large("bytes of a text", text.len(), MAX_TEXT_BYTES));
        }
    }
    let mut listed: Vec<Entry> = Vec::with_capacity(entries.len());
    for (number, packed) in entries.iter().enumerate() {
        if let Some(why) = packed.unfit(number, &label.model, label.coding) {
            let entry = number as u32;
            return Err(ParcelError::Unfit { entry, why });
        }
        let before = packed.conditioning.map(|n| &listed[n as usize].id);
        let payload = packed.to_bytes();
        listed.push(Entry {
            id: FragmentId::of(&label.model.identity, before, &packed.tokens),
            conditioning: packed.conditioning,
            base: packed.base,
            tokens: packed.tokens.clone(),
            provenance: packed.provenance.clone(),
            n_bytes: payload.len() as u64,
            digest: *blake3::hash(&payload).as_bytes(),
        });
    }
    let manifest = Manifest {
        model: label.model,
        coding: label.coding,
        written_at_ms: label.written_at_ms,
        expires_at_ms: label.expires_at_ms,
        writer: label.writer,
        entries: listed,
    };
    let bytes = manifest.to_bytes();
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        let limit = MAX_MANIFEST_BYTES as usize;
        return Err(too_large("bytes of a manifest", bytes.len(), limit));
    }
    let head = head(&bytes);
    let root = root(&head, &bytes);
    to.write_all(&head)?;
    to.write_all(&bytes)?;
    to.write_all(&seal::seal(&root, signer))?;
    for (number, packed) in (0u32..).zip(entries) {
        let payload = packed.to_bytes();
        if payload.is_empty() {
            continue;
        }
        let mut frame = FRAME_MARK.to_vec();
        frame.extend(number.to_le_bytes());
        frame.extend((payload.len() as u64).to_le_bytes());
        seal_part(&mut frame);
        to.write_all(&frame)?;
        to.write_all(&payload)?;
    }
    let mut trailer = TRAILER_MARK.to_vec();
    trailer.extend(root);
    seal_part(&mut trailer);
    to.write_all(&trailer)?;
    to.flush()?;
    Ok((manifest, root))
}

fn head(manifest: &[u8]) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend((manifest.len() as u32).to_le_bytes());
    head.extend(blake3::hash(manifest).as_bytes());
    seal_part(&mut head);
    head
}
