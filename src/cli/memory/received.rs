//! What came to a state folder by parcels, and what of that is still of a text that is stored?
//!
//! Two tables tell: which parcels were received, and by which each text came. The fragments are files
//! beside them ([`KeptFolder`]). Both go with the last row that says a text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use perennial::bank::PassageId;
use perennial::connectors::timestamp;
use perennial::engine::Snapshot;
use perennial::memory::Entry;
use perennial::memory::hand_over::{
    HandOverError, Imported, KeptFolder, KeptFragments, Shelf, text_id,
};
use perennial::rows::{Column, Key, Schema, Type, Value};
use perennial::{Edit, Engine, EngineBuilder, Error};

use super::TURNS;

/// The table of texts that came by parcels.
const RECEIVED: &str = "memory_received";
/// The table of parcels that were received.
const PARCELS: &str = "memory_parcels";

/// What came to a state folder.
pub(super) struct ReceivedParcels {
    engine: Engine,
    folder: KeptFolder,
    /// When a parcel is received, in milliseconds since 1970.
    now_ms: i64,
    known: BTreeSet<String>,
}

/// Declares the tables.
pub(super) fn declare(builder: EngineBuilder) -> EngineBuilder {
    let columns = |names: &[&str]| {
        let names = names.iter().map(|name| Column::new(*name, Type::Text));
        let received_at = Column::new("received_at", Type::Timestamp);
        Schema::new(names.chain([received_at]))
    };
    let of_text = ["key", "parcel", "written_by", "signed_by"];
    builder
        .table_of(RECEIVED, columns(&of_text))
        .table_of(PARCELS, columns(&["key", "written_by", "signed_by"]))
}

impl ReceivedParcels {
    /// What came to a state folder that an engine has open.
    pub(super) fn of(engine: &Engine, state: &Path, now_ms: i64) -> Result<Self, Error> {
        let parcels = engine.snapshot(PARCELS)?;
        let roots = parcels.rows.iter();
        let roots = roots.filter_map(|(row, _)| text(&parcels, row, "key"));
        Ok(Self {
            engine: engine.clone(),
            folder: KeptFolder::of_state(state),
            now_ms,
            known: roots.collect(),
        })
    }

    /// Where the fragments are.
    pub(super) fn folder(&self) -> &KeptFolder {
        &self.folder
    }

    /// The ids of fragments that are here already, those included that a transfer which broke off has
    /// brought; in hexadecimal digits.
    #[cfg(feature = "serve")]
    pub(super) fn have(
        &self,
        model: &perennial::bank::parcel::ModelParts,
    ) -> Result<Vec<String>, Error> {
        let have = self.folder.ids(self.texts()?, model);
        Ok(have.iter().map(|id| hex(id.as_bytes())).collect())
    }

    /// The texts that are stored.
    fn texts(&self) -> Result<BTreeSet<PassageId>, Error> {
        let stored = self.engine.snapshot(TURNS)?;
        let texts = stored.rows.iter().filter_map(|(row, _)| {
            let of = |column| text(&stored, row, column);
            Some(text_id(&of("key")?, of("title").as_deref(), &of("text")?))
        });
        Ok(texts.collect())
    }

    /// How each text came that came by a parcel, for people.
    pub(super) fn told(&self) -> Result<BTreeMap<PassageId, String>, Error> {
        let received = self.engine.snapshot(RECEIVED)?;
        let told = received.rows.iter().filter_map(|(row, _)| {
            let of = |column| text(&received, row, column);
            let id = id_named(&of("key")?)?;
            let parcel = of("parcel")?;
            let written_by = of("written_by").filter(|name| !name.is_empty());
            let signed_by = of("signed_by");
            let mut said = format!("came by parcel {parcel}");
            if let Some(name) = written_by {
                said += &format!(" of {name}");
            }
            said += &match signed_by {
                Some(key) => format!(", signed by {key}"),
                None => ", not signed".to_owned(),
            };
            let received_at = received.schema.position("received_at");
            if let Some(Value::Timestamp(ms)) = received_at.and_then(|at| row.get(at)) {
                said += &format!(", on {}", timestamp::text(*ms));
            }
            Some((id, said))
        });
        Ok(told.collect())
    }

    /// Takes away what is of no text that is stored. Returns what could not be.
    pub(super) fn sweep(&self) -> Result<Vec<String>, Error> {
        let received = self.engine.snapshot(RECEIVED)?;
        if received.rows.is_empty() && !self.folder.is_there() {
            return Ok(Vec::new());
        }
        let texts = self.texts()?;
        let live: BTreeSet<String> = texts.iter().map(name).collect();
        let names = received.rows.iter();
        let names = names.filter_map(|(row, _)| text(&received, row, "key"));
        let gone = names.filter(|name| !live.contains(name));
        let gone: Vec<Key> = gone.map(|name| Key::from(name.as_str())).collect();
        let mut remains = Vec::new();
        if !gone.is_empty() {
            let receipts = self.engine.forget_all(RECEIVED, gone)?;
            remains.extend(receipts.into_iter().flat_map(|receipt| receipt.remains));
        }
        if let Err(error) = self.folder.sweep(&texts) {
            remains.push(error.to_string());
        }
        Ok(remains)
    }
}

impl Shelf for ReceivedParcels {
    fn knows(&self, root: &[u8; 32]) -> bool {
        self.known.contains(&hex(root))
    }

    fn keep(&mut self, kept: &KeptFragments<'_>) -> Result<(), HandOverError> {
        self.folder.keep(kept)
    }

    fn settle(&mut self) -> Result<(), HandOverError> {
        self.folder.settle()
    }

    fn note(
        &mut self,
        parcel: &Imported,
        texts: &BTreeSet<PassageId>,
    ) -> Result<(), HandOverError> {
        let with = |edit: Edit| {
            let edit = edit.with("written_by", parcel.writer.as_str());
            let edit = edit.with("received_at", Value::Timestamp(self.now_ms));
            match &parcel.signed_by {
                Some(key) => edit.with("signed_by", key.as_str()),
                None => edit,
            }
        };
        let received = texts.iter().map(|id| {
            let edit = Edit::upsert(RECEIVED, name(id), "");
            with(edit).with("parcel", parcel.root.as_str())
        });
        let root = with(Edit::upsert(PARCELS, parcel.root.as_str(), ""));
        self.engine.apply(received.chain([root]).collect())?;
        self.engine.flush()?;
        self.known.insert(parcel.root.clone());
        Ok(())
    }
}

/// What names the text of an entry.
pub(super) fn id_of(entry: &Entry) -> PassageId {
    text_id(&entry.key, entry.title.as_deref(), &entry.text)
}

/// The text in a column of a row.
fn text(of: &Snapshot, row: &[Value], column: &str) -> Option<String> {
    let at = of.schema.position(column)?;
    Some(row.get(at)?.as_text()?.to_string())
}

fn name(id: &PassageId) -> String {
    hex(id.as_bytes())
}

pub(super) fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn id_named(name: &str) -> Option<PassageId> {
    super::hand_over::key_of(name)
        .ok()
        .map(PassageId::from_bytes)
}
