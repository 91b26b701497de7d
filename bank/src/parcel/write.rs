//! A parcel, written.

use std::io::{self, Read, Seek, SeekFrom, Write};

use perennial_model::kv::KvFragment;
use perennial_model::kv::coding::CodedKv;

use super::manifest::{MAX_FRAGMENTS, MAX_NAME_BYTES, MAX_RECORDS, MAX_TOKENS};
use super::{
    FRAME_MARK, FragmentEntry, HEAD_BYTES, MAGIC, MAX_MANIFEST_BYTES, Manifest, ModelParts,
    ParcelError, Record, Signer, TRAILER_MARK, VERSION, root, seal, seal_part,
};
use crate::id::FragmentId;

/// Why a fragment cannot be packed that is coded, or is not.
const ONE_CODING: &str = "all fragments of a parcel are coded, or none is";

/// What is said of a parcel as a whole.
#[derive(Clone, Debug)]
pub struct Label {
    /// The model that computes its fragments; none where there are texts only.
    pub model: Option<ModelParts>,
    /// When it is written, in milliseconds since 1970.
    pub written_at_ms: i64,
    /// From when on it is not to be used.
    pub expires_at_ms: Option<i64>,
    /// Who writes it.
    pub writer: String,
    /// Whether fragments are added [coded](ParcelWriter::coded), or as they are.
    pub is_coded: bool,
}

/// A parcel being written. What lists all stands before the tensors, and is known behind them: so these
/// wait in `spool`, and one of them is held at a time.
pub struct ParcelWriter<S> {
    manifest: Manifest,
    spool: S,
}

impl<S: Read + Write + Seek> ParcelWriter<S> {
    /// One that holds nothing yet. `spool` is empty.
    ///
    /// # Errors
    /// [`ParcelError::TooLarge`] for a name that is too long.
    pub fn new(label: Label, spool: S) -> Result<Self, ParcelError> {
        let kernel_class = label.model.as_ref().map(|model| &model.kernel_class);
        for name in kernel_class.into_iter().chain([&label.writer]) {
            if name.len() > MAX_NAME_BYTES {
                return Err(too_large("bytes of a name", name.len(), MAX_NAME_BYTES));
            }
        }
        let manifest = Manifest {
            model: label.model,
            written_at_ms: label.written_at_ms,
            expires_at_ms: label.expires_at_ms,
            writer: label.writer,
            is_coded: label.is_coded,
            records: Vec::new(),
            fragments: Vec::new(),
        };
        Ok(Self { manifest, spool })
    }

    /// Adds an entry; yields its number.
    ///
    /// # Errors
    /// [`ParcelError::TooLarge`].
    pub fn record(&mut self, record: Record) -> Result<u32, ParcelError> {
        if let Some(refused) = record.too_long() {
            return Err(refused);
        }
        let number = self.manifest.records.len();
        if number >= MAX_RECORDS {
            return Err(too_large("records", number + 1, MAX_RECORDS));
        }
        self.manifest.records.push(record);
        Ok(number as u32)
    }

    /// Adds a fragment's name alone: who reads has it, or computes it. Yields its number.
    ///
    /// # Errors
    /// [`ParcelError::Unfit`], [`ParcelError::TooLarge`].
    pub fn named(
        &mut self,
        conditioning: Option<u32>,
        record: Option<u32>,
        tokens: &[u32],
    ) -> Result<u32, ParcelError> {
        let entry = self.entry(conditioning, record, tokens)?;
        Ok(self.list(entry))
    }

    /// Adds a fragment with its tensors, encoded behind the fragment of that number. Yields its number.
    ///
    /// # Errors
    /// [`ParcelError::Unfit`], [`ParcelError::TooLarge`], and what writing reports.
    pub fn whole(
        &mut self,
        conditioning: Option<u32>,
        record: Option<u32>,
        tokens: &[u32],
        kv: &KvFragment,
    ) -> Result<u32, ParcelError> {
        let shape = self.manifest.model.as_ref().map(|model| model.shape);
        if Some(kv.shape()) != shape || kv.n_tokens() != tokens.len() {
            return Err(self.unfit("its tensors are of another model, or of other tokens"));
        }
        if kv.base() != 0 {
            return Err(self.unfit("it is a part of a fragment"));
        }
        if self.manifest.is_coded {
            return Err(self.unfit(ONE_CODING));
        }
        let entry = self.entry(conditioning, record, tokens)?;
        self.payload(entry, &kv.to_bytes())
    }

    /// The same, coded: who reads gets what comes back of it.
    ///
    /// # Errors
    /// [`ParcelError::Unfit`], [`ParcelError::TooLarge`], and what writing reports.
    pub fn coded(
        &mut self,
        conditioning: Option<u32>,
        record: Option<u32>,
        tokens: &[u32],
        kv: &CodedKv,
    ) -> Result<u32, ParcelError> {
        let shape = self.manifest.model.as_ref().map(|model| model.shape);
        if Some(kv.shape()) != shape || kv.n_tokens() != tokens.len() {
            return Err(self.unfit("its codes are of another model, or of other tokens"));
        }
        if !self.manifest.is_coded {
            return Err(self.unfit(ONE_CODING));
        }
        let entry = self.entry(conditioning, record, tokens)?;
        self.payload(entry, &kv.to_bytes())
    }

    fn payload(&mut self, mut entry: FragmentEntry, payload: &[u8]) -> Result<u32, ParcelError> {
        entry.n_bytes = payload.len() as u64;
        entry.digest = *blake3::hash(payload).as_bytes();
        let number = self.list(entry);
        let mut frame = FRAME_MARK.to_vec();
        frame.extend(number.to_le_bytes());
        frame.extend((payload.len() as u64).to_le_bytes());
        seal_part(&mut frame);
        self.spool.write_all(&frame)?;
        self.spool.write_all(payload)?;
        Ok(number)
    }

    /// Writes all of it. Yields what it lists, and its root.
    ///
    /// # Errors
    /// [`ParcelError::TooLarge`], and what writing reports.
    pub fn finish(
        mut self,
        to: &mut impl Write,
        signer: Option<&Signer>,
    ) -> Result<(Manifest, [u8; 32]), ParcelError> {
        let bytes = self.manifest.to_bytes();
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            let limit = MAX_MANIFEST_BYTES as usize;
            return Err(too_large("bytes of a manifest", bytes.len(), limit));
        }
        let head = head(&bytes);
        let root = root(&head, &bytes);
        to.write_all(&head)?;
        to.write_all(&bytes)?;
        to.write_all(&seal::seal(&root, signer))?;
        self.spool.seek(SeekFrom::Start(0))?;
        io::copy(&mut self.spool, to)?;
        let mut trailer = TRAILER_MARK.to_vec();
        trailer.extend(root);
        seal_part(&mut trailer);
        to.write_all(&trailer)?;
        to.flush()?;
        Ok((self.manifest, root))
    }

    fn entry(
        &self,
        conditioning: Option<u32>,
        record: Option<u32>,
        tokens: &[u32],
    ) -> Result<FragmentEntry, ParcelError> {
        let Manifest {
            model,
            records,
            fragments,
            ..
        } = &self.manifest;
        let Some(model) = model else {
            return Err(self.unfit("it is of no model"));
        };
        let number = fragments.len();
        if number >= MAX_FRAGMENTS {
            return Err(too_large("fragments", number + 1, MAX_FRAGMENTS));
        }
        let why = match tokens.len() {
            0 => Some("it has no tokens"),
            n if n > MAX_TOKENS => Some("it has too many tokens"),
            _ if conditioning.is_some_and(|n| n as usize >= number) => {
                Some("it stands before what it was encoded after")
            }
            _ if record.is_some_and(|n| n as usize >= records.len()) => {
                Some("it is of a record that is not there")
            }
            _ => None,
        };
        if let Some(why) = why {
            return Err(self.unfit(why));
        }
        let before = conditioning.map(|n| &fragments[n as usize].id);
        Ok(FragmentEntry {
            id: FragmentId::of(&model.identity, before, tokens),
            conditioning,
            record,
            tokens: tokens.to_vec(),
            n_bytes: 0,
            digest: [0; 32],
        })
    }

    fn list(&mut self, entry: FragmentEntry) -> u32 {
        self.manifest.fragments.push(entry);
        self.manifest.fragments.len() as u32 - 1
    }

    fn unfit(&self, why: &'static str) -> ParcelError {
        let fragment = self.manifest.fragments.len();
        ParcelError::Unfit { fragment, why }
    }
}

fn too_large(what: &'static str, claimed: usize, limit: usize) -> ParcelError {
    ParcelError::TooLarge {
        what,
        claimed: claimed as u64,
        limit: limit as u64,
    }
}

/// What stands before a manifest.
pub(super) fn head(manifest: &[u8]) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend((manifest.len() as u32).to_le_bytes());
    head.extend(blake3::hash(manifest).as_bytes());
    seal_part(&mut head);
    head
}
