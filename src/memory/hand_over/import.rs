//! What of a parcel is believed, and what becomes of it?

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read;
use std::sync::Arc;

use perennial_ask::TensorModel;
use perennial_bank::parcel::{
    Expected, Manifest, ModelParts, ParcelError, ParcelReader, Received, Record, Tensors, Trust,
};
use perennial_bank::scope::FragmentPlan;
use perennial_bank::{FragmentId, FragmentStore, PassageId};
use perennial_model::cancel::Cancel;
use perennial_model::kv::coding::{CodedKv, Coding, CodingError};
use perennial_model::kv::{KeyFrame, KvFragment};
use perennial_rows::Key;

use super::super::bank::Bank;
use super::super::entry::NewEntry;
use super::error::HandOverError;
use super::{hex, text_id};

/// Bytes of fragments that an audit computes, of which it needs those of one text at a time.
const AUDIT_BYTES: usize = 256 << 20;

/// Which fragments are encoded again here, and compared in every bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audit {
    /// None: all that come stand in for those of their ids.
    #[default]
    Nothing,
    /// Those of so many entries, drawn by chance. One that is not what it says refuses the parcel.
    Sample(usize),
    /// All.
    Everything,
}

/// How a parcel is taken.
#[derive(Clone, Debug)]
pub struct Import {
    now_ms: i64,
    trust: Trust,
    audit: Audit,
    namespace: Option<String>,
    replaces: bool,
    max_bytes: u64,
    n_bytes: Option<u64>,
}

/// What was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// Names the parcel, in hexadecimal digits.
    pub root: String,
    /// Who says to have written it.
    pub writer: String,
    /// The public key of who signed it.
    pub signed_by: Option<String>,
    /// Entries that were stored.
    pub n_entries: usize,
    /// Fragments that were encoded again, and are what they say: of one that came coded, what was encoded here is
    /// kept.
    pub n_audited: usize,
    /// Fragments that were not: they stand in for what they say they are.
    pub n_stand_ins: usize,
    /// Fragments that were left out, for want of a model to hold them against.
    pub n_left_out: usize,
}

/// What came of one text.
pub struct KeptFragments<'a> {
    /// The text.
    pub of: PassageId,
    /// The model, part by part.
    pub model: &'a ModelParts,
    /// All fragments of the text.
    pub plan: &'a FragmentPlan,
    /// Of each of the plan's pieces, its tensors where they came.
    pub fragments: Vec<Option<Arc<KvFragment>>>,
    /// Whether they were encoded again here, and are equal.
    pub is_audited: bool,
}

/// Where received fragments wait to be used.
///
/// # Contract
/// What is given to [`Shelf::keep`] is not used before [`Shelf::settle`]: the parcel may still be refused.
pub trait Shelf {
    /// Whether a parcel of this root was received before.
    fn knows(&self, root: &[u8; 32]) -> bool;

    /// Keeps what came of one text.
    ///
    /// # Errors
    /// What it is written to.
    fn keep(&mut self, kept: &KeptFragments<'_>) -> Result<(), HandOverError>;

    /// All of the parcel came, and is believed: what was kept may be used.
    ///
    /// # Errors
    /// What it is written to.
    fn settle(&mut self) -> Result<(), HandOverError>;

    /// The entries are stored: takes note of the parcel, and of the texts that came by it.
    ///
    /// # Errors
    /// What it is written to.
    fn note(&mut self, parcel: &Imported, texts: &BTreeSet<PassageId>)
    -> Result<(), HandOverError>;
}

impl Import {
    /// At this time, in milliseconds since 1970; from anybody, with nothing audited.
    pub fn at(now_ms: i64) -> Self {
        Self {
            now_ms,
            trust: Trust::Anybody,
            audit: Audit::Nothing,
            namespace: None,
            replaces: false,
            max_bytes: u64::MAX,
            n_bytes: None,
        }
    }

    /// From those only who hold the secret key to one of these.
    #[must_use]
    pub fn trusting(mut self, keys: impl IntoIterator<Item = [u8; 32]>) -> Self {
        self.trust = Trust::Keys(keys.into_iter().collect());
        self
    }

    /// With this much encoded again.
    #[must_use]
    pub fn auditing(mut self, audit: Audit) -> Self {
        self.audit = audit;
        self
    }

    /// All into this namespace, wherever it was.
    #[must_use]
    pub fn into_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// With what else is stored here under keys of the parcel replaced.
    #[must_use]
    pub fn replacing(mut self, replaces: bool) -> Self {
        self.replaces = replaces;
        self
    }

    /// So many bytes are all there is, of a file: one that was cut off is refused before anything of it is read.
    #[must_use]
    pub fn of_bytes(mut self, n_bytes: u64) -> Self {
        self.n_bytes = Some(n_bytes);
        self
    }

    /// At most so many bytes of tensors.
    #[must_use]
    pub fn at_most(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// The entries of a parcel as they are stored here.
    fn entry(&self, record: &Record) -> NewEntry {
        let namespace = self.namespace.as_ref().unwrap_or(&record.namespace);
        let mut entry = NewEntry::new(record.text.clone())
            .key(record.key.clone())
            .namespace(namespace.clone())
            .pinned(record.is_pinned)
            .at(record.updated_at_ms);
        if let Some(session) = &record.session {
            entry = entry.session(session.clone());
        }
        if let Some(writer) = &record.writer {
            entry = entry.writer(writer.clone());
        }
        match &record.title {
            Some(title) => entry.titled(title.clone()),
            None => entry,
        }
    }
}

impl Bank {
    /// Takes a parcel: its entries are stored, and visible when this returns; its fragments are put on the
    /// shelf, where there is a model that they can be held against.
    ///
    /// # Errors
    /// [`HandOverError`]; then nothing of it is visible.
    pub fn import(
        &self,
        from: impl Read,
        how: &Import,
        model: Option<&TensorModel>,
        shelf: &mut impl Shelf,
    ) -> Result<Imported, HandOverError> {
        let parts = model.map(TensorModel::parts);
        let known = |root: &[u8; 32]| shelf.knows(root);
        let expected = Expected {
            model: parts.as_ref(),
            trust: &how.trust,
            now_ms: how.now_ms,
            is_known: &known,
            max_bytes: how.max_bytes,
            n_bytes: how.n_bytes,
        };
        let mut parcel = ParcelReader::open(from, expected)?;
        let entries = self.new_entries(parcel.manifest(), how)?;
        let mut imported = Imported {
            root: hex(parcel.root()),
            writer: parcel.manifest().writer.clone(),
            signed_by: parcel.signed_by().map(hex),
            n_entries: entries.len(),
            ..Imported::default()
        };
        let texts = &parcel.manifest().records;
        let texts = texts
            .iter()
            .map(|of| text_id(&of.key, of.title.as_deref(), &of.text));
        let texts: Vec<PassageId> = texts.collect();
        match (model, &parts) {
            (Some(model), Some(parts)) if parcel.manifest().model.is_some() => {
                let mut receiving = Receiving::of(parcel.manifest(), model, parts, how.audit)?;
                while let Some(received) = parcel.next_fragment()? {
                    receiving.take(received, &texts, shelf, &mut imported)?;
                }
                receiving.end(&texts, shelf, &mut imported)?;
            }
            _ => {
                while parcel.next_fragment()?.is_some() {
                    imported.n_left_out += 1;
                }
            }
        }
        shelf.settle()?;
        self.store_all(entries)?;
        self.flush()?;
        shelf.note(&imported, &texts.into_iter().collect())?;
        Ok(imported)
    }

    /// The entries of a parcel, if all of them may be stored.
    fn new_entries(
        &self,
        manifest: &Manifest,
        how: &Import,
    ) -> Result<Vec<NewEntry>, HandOverError> {
        let rows = self.shared.engine.rows_of(&self.shared.memory.from)?;
        let stored: BTreeMap<&Key, _> = rows.iter().map(|(key, row)| (key, row)).collect();
        let mut keys = BTreeSet::new();
        let mut entries = Vec::new();
        for record in &manifest.records {
            let key = record.key.clone();
            let entry = how.entry(record);
            entry.checked_key()?;
            // What cannot be stored is refused before anything is.
            self.edit(&key, entry.clone())?;
            if !keys.insert(&record.key) {
                return Err(HandOverError::Twice { key });
            }
            let own = stored.get(&Key::from(&*record.key));
            let is_other = own.is_some_and(|own| {
                let is_same_title = own.title.as_deref() == record.title.as_deref();
                *own.text != *record.text || !is_same_title
            });
            if is_other && !how.replaces {
                return Err(HandOverError::Taken { key });
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// The fragments of a parcel, as they come.
struct Receiving<'a> {
    parts: &'a ModelParts,
    /// Computes what is audited, with a store of its own.
    auditor: TensorModel,
    /// What coded fragments come back by, of the coding that came last.
    frame: RefCell<Option<(Coding, KeyFrame)>>,
    /// Of each record: its key, the fragments of its text, and whether these are audited.
    records: Vec<(String, FragmentPlan, bool)>,
    /// Of each fragment of the manifest the record that it is of.
    of: Vec<Option<u32>>,
    /// Those of the record that is under way.
    current: Option<(u32, Vec<Received>)>,
}

impl<'a> Receiving<'a> {
    /// Holds ids against texts: so every fragment is one of a text, or the prefix.
    fn of(
        manifest: &Manifest,
        model: &TensorModel,
        parts: &'a ModelParts,
        audit: Audit,
    ) -> Result<Self, HandOverError> {
        let audited = drawn(manifest, audit);
        let mut records = Vec::new();
        for (number, record) in (0..).zip(&manifest.records) {
            let title = record.title.as_deref().unwrap_or(&record.key);
            let plan = model.plan_of_text(title, &record.text)?;
            records.push((record.key.clone(), plan, audited.contains(&number)));
        }
        let mut last = 0;
        for (number, fragment) in (0..).zip(&manifest.fragments) {
            let is_of_text = match fragment.record {
                // What stands before all texts is computed here.
                None => {
                    let prefix = records.first().map(|(_, plan, _)| plan.prefix.id);
                    prefix == Some(fragment.id) && fragment.n_bytes == 0
                }
                Some(of) => {
                    let is_in_order = of >= std::mem::replace(&mut last, of);
                    let plan = &records[of as usize].1;
                    is_in_order && plan.pieces().any(|piece| piece.id == fragment.id)
                }
            };
            if !is_of_text {
                return Err(HandOverError::NotOfItsText { fragment: number });
            }
        }
        Ok(Self {
            parts,
            auditor: model.with_store(Arc::new(FragmentStore::new(AUDIT_BYTES))),
            frame: RefCell::default(),
            records,
            of: manifest.fragments.iter().map(|of| of.record).collect(),
            current: None,
        })
    }

    /// Takes the next fragment.
    fn take(
        &mut self,
        received: Received,
        texts: &[PassageId],
        shelf: &mut impl Shelf,
        imported: &mut Imported,
    ) -> Result<(), HandOverError> {
        let of = self.of.get(received.number as usize).copied().flatten();
        let Some(of) = of else {
            let fragment = received.number;
            return Err(HandOverError::NotOfItsText { fragment });
        };
        match &mut self.current {
            Some((current, fragments)) if *current == of => fragments.push(received),
            _ => {
                self.end(texts, shelf, imported)?;
                self.current = Some((of, vec![received]));
            }
        }
        Ok(())
    }

    /// All fragments of a record have come.
    fn end(
        &mut self,
        texts: &[PassageId],
        shelf: &mut impl Shelf,
        imported: &mut Imported,
    ) -> Result<(), HandOverError> {
        let Some((of, received)) = self.current.take() else {
            return Ok(());
        };
        let (key, plan, is_audited) = &self.records[of as usize];
        let computed = match is_audited {
            true => Some(self.auditor.fragments_of(plan, &Cancel::new())?),
            false => None,
        };
        let mut came: BTreeMap<FragmentId, Received> =
            received.into_iter().map(|of| (of.id, of)).collect();
        let mut fragments = Vec::new();
        for (place, piece) in plan.pieces().enumerate() {
            let Some(came) = came.remove(&piece.id) else {
                fragments.push(None);
                continue;
            };
            let computed = computed.as_ref().and_then(|all| all.get(place));
            fragments.push(Some(match (computed, is_audited) {
                (Some(computed), _) if self.is_of(computed, &came)? => {
                    imported.n_audited += 1;
                    computed.clone()
                }
                (None, false) => {
                    imported.n_stand_ins += 1;
                    self.back(&came)?
                }
                _ => {
                    return Err(HandOverError::NotComputed {
                        fragment: came.number,
                        key: key.clone(),
                    });
                }
            }));
        }
        shelf.keep(&KeptFragments {
            of: texts[of as usize],
            model: self.parts,
            plan,
            fragments,
            is_audited: *is_audited,
        })
    }
}

impl Receiving<'_> {
    /// What fragments of a coding come back by.
    fn frame(&self, coding: Coding) -> Result<KeyFrame, HandOverError> {
        let last = self.frame.take().filter(|(last, _)| *last == coding);
        let frame = match last {
            Some((_, frame)) => frame,
            None => self.auditor.coding_frame(coding)?,
        };
        *self.frame.borrow_mut() = Some((coding, frame.clone()));
        Ok(frame)
    }

    /// What comes back of what came.
    fn back(&self, came: &Received) -> Result<Arc<KvFragment>, HandOverError> {
        match &came.tensors {
            Tensors::Whole(kv) => Ok(kv.clone()),
            Tensors::Coded(coded) => match coded.decode(&self.frame(coded.coding())?) {
                Ok(kv) => Ok(Arc::new(kv)),
                Err(source) => Err(refused(came, source)),
            },
        }
    }

    /// Whether what came is the fragment that was computed, in every bit, or what codes are made of it.
    fn is_of(&self, computed: &Arc<KvFragment>, came: &Received) -> Result<bool, HandOverError> {
        match &came.tensors {
            Tensors::Whole(kv) => Ok(kv == computed),
            Tensors::Coded(coded) => {
                let again = CodedKv::encode(computed, coded.coding(), &self.frame(coded.coding())?);
                Ok(again.map_err(|source| refused(came, source))? == **coded)
            }
        }
    }
}

fn refused(came: &Received, source: CodingError) -> HandOverError {
    let fragment = came.number;
    ParcelError::Coded { fragment, source }.into()
}

/// The numbers of the records whose fragments are audited.
fn drawn(manifest: &Manifest, audit: Audit) -> BTreeSet<u32> {
    let with_tensors = manifest.fragments.iter().filter(|of| of.n_bytes > 0);
    let numbers: BTreeSet<u32> = with_tensors.filter_map(|of| of.record).collect();
    match audit {
        Audit::Nothing => BTreeSet::new(),
        Audit::Everything => numbers,
        Audit::Sample(n) => {
            // Who writes the parcel must not know which.
            let chance = RandomState::new();
            let mut numbers: Vec<u32> = numbers.into_iter().collect();
            numbers.sort_by_cached_key(|number| chance.hash_one(number));
            numbers.into_iter().take(n).collect()
        }
    }
}
