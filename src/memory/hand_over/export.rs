//! What of a memory goes into a parcel?

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, Write};

use perennial_ask::TensorModel;
use perennial_bank::parcel::{Label, ParcelWriter, Record, Signer};
use perennial_bank::{FragmentId, PassageId};
use perennial_model::cancel::Cancel;
use perennial_model::kv::KeyFrame;
use perennial_model::kv::coding::{CodedKv, Coding, Tolerance};

use super::super::bank::Bank;
use super::super::entry::Entry;
use super::error::HandOverError;
use super::{hex, text_id};

/// What is packed, for whom.
#[derive(Clone, Debug, Default)]
pub struct Export {
    reader: Option<String>,
    namespace: Option<String>,
    writer: String,
    now_ms: i64,
    expires_at_ms: Option<i64>,
    have: BTreeSet<FragmentId>,
    coding: Option<Coding>,
    provenance: BTreeMap<PassageId, String>,
}

/// What was packed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Exported {
    /// Names the parcel, in hexadecimal digits.
    pub root: String,
    /// The public key of who signed it.
    pub signed_by: Option<String>,
    /// Entries in it.
    pub n_entries: usize,
    /// Fragments with their tensors.
    pub n_fragments: usize,
    /// Fragments of the texts that are only named: who receives it has them.
    pub n_named: usize,
    /// Tokens of the fragments with tensors.
    pub n_tokens: usize,
    /// Bytes of these tensors.
    pub n_bytes: u64,
    /// How these are coded; none where they are as they are.
    pub coding: Option<String>,
}

impl Export {
    /// All that stands, as of this time in milliseconds since 1970.
    pub fn at(now_ms: i64) -> Self {
        Self {
            now_ms,
            ..Self::default()
        }
    }

    /// All that stands, as of now by this machine's clock.
    #[cfg(feature = "serve")]
    pub(crate) fn now() -> Self {
        Self::at(crate::engine::now_ms())
    }

    /// What this reader may read, as if there were no more.
    #[must_use]
    pub fn reader(mut self, reader: impl Into<String>) -> Self {
        self.reader = Some(reader.into());
        self
    }

    /// Of this namespace only.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Written by who calls themselves so.
    #[must_use]
    pub fn writer(mut self, writer: impl Into<String>) -> Self {
        self.writer = writer.into();
        self
    }

    /// Not to be used from this time on, in milliseconds since 1970.
    #[must_use]
    pub fn expiring_at(mut self, ms: i64) -> Self {
        self.expires_at_ms = Some(ms);
        self
    }

    /// Who receives it has these fragments: they are only named.
    #[must_use]
    pub fn without(mut self, have: impl IntoIterator<Item = FragmentId>) -> Self {
        self.have.extend(have);
        self
    }

    /// In fewer bytes: fragments coded so. One that would come back further off than
    /// [`Tolerance::of`] says is only named: who receives it computes it.
    #[must_use]
    pub fn coded(mut self, coding: Coding) -> Self {
        self.coding = Some(coding);
        self
    }

    /// How texts came here, for those that were handed over themselves.
    #[must_use]
    pub fn told(mut self, provenance: BTreeMap<PassageId, String>) -> Self {
        self.provenance = provenance;
        self
    }
}

impl Bank {
    /// Packs what stands. With a model the fragments of the texts go with them, encoded where its store
    /// lacks them; without one the texts go alone. `spool` is an empty file in which tensors wait.
    ///
    /// # Errors
    /// [`HandOverError::Nothing`], [`MemoryError::NoNamespace`](super::super::MemoryError), what the model
    /// refuses, and what writing reports.
    pub fn export(
        &self,
        what: &Export,
        model: Option<&TensorModel>,
        signer: Option<&Signer>,
        spool: impl Read + Write + Seek,
        to: &mut impl Write,
    ) -> Result<Exported, HandOverError> {
        let entries = self.list(what.reader.as_deref(), what.namespace.as_deref())?;
        if entries.is_empty() {
            return Err(HandOverError::Nothing);
        }
        let label = Label {
            model: model.map(TensorModel::parts),
            written_at_ms: what.now_ms,
            expires_at_ms: what.expires_at_ms,
            writer: what.writer.clone(),
            is_coded: what.coding.is_some(),
        };
        let mut parcel = ParcelWriter::new(label, spool)?;
        let coder = match (model, what.coding) {
            (Some(model), Some(coding)) => Some((coding, model.coding_frame(coding)?)),
            _ => None,
        };
        let mut packing = model.map(|model| Packing {
            model,
            have: &what.have,
            prefix: None,
            coder,
        });
        for entry in &entries {
            let provenance = what.provenance.get(&text_id_of(entry)).cloned();
            let record = parcel.record(record(entry, provenance))?;
            if let Some(packing) = &mut packing {
                packing.pack(&mut parcel, entry, record)?;
            }
        }
        let (manifest, root) = parcel.finish(to, signer)?;
        let of_texts = manifest.fragments.iter().filter(|of| of.record.is_some());
        let (whole, named): (Vec<_>, Vec<_>) = of_texts.partition(|of| of.n_bytes > 0);
        Ok(Exported {
            root: hex(&root),
            signed_by: signer.map(|signer| hex(signer.public())),
            n_entries: manifest.records.len(),
            n_fragments: whole.len(),
            n_named: named.len(),
            n_tokens: whole.iter().map(|of| of.tokens.len()).sum(),
            n_bytes: whole.iter().map(|of| of.n_bytes).sum(),
            coding: what
                .coding
                .filter(|_| model.is_some())
                .map(|of| of.to_string()),
        })
    }
}

fn text_id_of(entry: &Entry) -> PassageId {
    text_id(&entry.key, entry.title.as_deref(), &entry.text)
}

/// An entry as a parcel has it.
fn record(entry: &Entry, provenance: Option<String>) -> Record {
    let owned = |name: &Option<std::sync::Arc<str>>| name.as_deref().map(str::to_owned);
    Record {
        key: entry.key.to_string(),
        namespace: entry.namespace.to_string(),
        session: owned(&entry.session),
        writer: owned(&entry.writer),
        title: owned(&entry.title),
        text: entry.text.to_string(),
        updated_at_ms: entry.updated_at_ms,
        is_pinned: entry.is_pinned,
        provenance,
    }
}

/// Fragments, as they are packed.
struct Packing<'a> {
    model: &'a TensorModel,
    /// Who receives it has these.
    have: &'a BTreeSet<FragmentId>,
    /// The number of the prefix, once it is there.
    prefix: Option<u32>,
    coder: Option<(Coding, KeyFrame)>,
}

impl Packing<'_> {
    /// Packs the fragments of an entry's text, behind the prefix.
    fn pack(
        &mut self,
        parcel: &mut ParcelWriter<impl Read + Write + Seek>,
        entry: &Entry,
        record: u32,
    ) -> Result<(), HandOverError> {
        let title = entry.title.as_deref().unwrap_or(&entry.key);
        let plan = self.model.plan_of_text(title, &entry.text)?;
        // No answer can be given over what does not fit.
        if plan.n_encode_tokens() > self.model.decoder().config().max_positions {
            return Ok(());
        }
        let mut before = match self.prefix {
            Some(number) => number,
            // Whoever has the model computes it.
            None => parcel.named(None, None, &plan.prefix.tokens)?,
        };
        self.prefix = Some(before);
        let is_wanted = plan.pieces().any(|piece| !self.have.contains(&piece.id));
        let fragments = match is_wanted {
            true => self.model.fragments_of(&plan, &Cancel::new())?,
            false => Vec::new(),
        };
        let mut fragments = fragments.into_iter();
        for piece in plan.pieces() {
            let (conditioning, record) = (Some(before), Some(record));
            let tokens = &piece.tokens;
            let wanted = fragments.next().filter(|_| !self.have.contains(&piece.id));
            before = match (wanted, &self.coder) {
                (None, _) => parcel.named(conditioning, record, tokens)?,
                (Some(kv), None) => parcel.whole(conditioning, record, tokens, &kv)?,
                (Some(kv), Some((coding, frame))) => {
                    let coded = CodedKv::encode(&kv, *coding, frame)?;
                    match Tolerance::of(*coding).holds(coded.deviation()) {
                        true => parcel.coded(conditioning, record, tokens, &coded)?,
                        false => parcel.named(conditioning, record, tokens)?,
                    }
                }
            };
        }
        Ok(())
    }
}
