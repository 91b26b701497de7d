//! What does a side keep from one question to the next?

use std::sync::Arc;

use perennial::Scope;
use perennial::ask::{Priority, TensorModel};
use perennial::bank::scope::Piece;
use perennial::bank::{FragmentStore, HandedOver, References};
use perennial::model::cancel::Cancel;
use perennial::model::kv::KvFragment;
use perennial::model::kv::coding::{CodedKv, Coding, Tolerance};

use crate::rig::question::TitledText;
use crate::rig::{Error, Rig};

/// Room for the fragments of a side.
const STORE_BYTES: usize = 8 << 30;

/// A model over a store that keeps these fragments, whatever is swept.
pub struct Held {
    /// The model.
    pub model: TensorModel,
    /// Tokens of passages that are kept.
    pub n_tokens: usize,
    /// Bytes of them: as they are, or as they are coded.
    pub n_bytes: usize,
    /// Fragments that were too far off to be kept.
    pub n_left_out: usize,
    pieces: Vec<Piece>,
    references: References,
    handed_over: HandedOver,
}

impl Held {
    /// Keeps nothing: what a view that begins from nothing has.
    pub fn nothing(rig: &Rig) -> Self {
        Self::with_store(rig, FragmentStore::new(0))
    }

    /// Keeps the beginning of all prompts.
    pub fn prefix(rig: &Rig) -> Result<Self, Error> {
        let held = Self::with_store(rig, FragmentStore::new(STORE_BYTES));
        let plan = held.model.plan(Scope::Independent, &[]);
        held.model
            .lay_out(&plan, Priority::Background, &Cancel::new())?;
        held.references.add(plan.prefix.id, 1);
        Ok(held)
    }

    /// Keeps the fragments of these texts, each read alone.
    pub fn fragments(rig: &Rig, texts: &[TitledText]) -> Result<Self, Error> {
        let mut held = Self::prefix(rig)?;
        for passage in rig.layout(texts)?.passages() {
            let alone = std::slice::from_ref(passage);
            let plan = held.model.plan(Scope::Independent, alone);
            held.model
                .lay_out(&plan, Priority::Background, &Cancel::new())?;
            for piece in plan.pieces() {
                held.references.add(piece.id, 1);
                held.n_tokens += piece.tokens.len();
                held.pieces.push(piece.clone());
            }
        }
        for piece in &held.pieces {
            held.n_bytes += held.kv(piece)?.n_bytes();
        }
        Ok(held)
    }

    /// Keeps what comes back of the fragments of another.
    pub fn coded(rig: &Rig, whole: &Self, coding: Coding) -> Result<Self, Error> {
        let mut held = Self::prefix(rig)?;
        let frame = rig.model.coding_frame(coding)?;
        for piece in &whole.pieces {
            let kv = whole.kv(piece)?;
            let coded = CodedKv::encode(&kv, coding, &frame)?;
            held.n_bytes += coded.n_bytes();
            if !Tolerance::of(coding).holds(coded.deviation()) {
                held.n_left_out += 1;
                continue;
            }
            let n_tokens = piece.tokens.len();
            held.n_tokens += n_tokens;
            let back = Arc::new(coded.decode(&frame)?);
            held.handed_over.hold_stand_in(piece.id, back, n_tokens);
        }
        Ok(held)
    }

    fn with_store(rig: &Rig, store: FragmentStore) -> Self {
        let store = Arc::new(store);
        Self {
            model: rig.model.with_store(store.clone()),
            n_tokens: 0,
            n_bytes: 0,
            n_left_out: 0,
            pieces: Vec::new(),
            references: References::to(store.clone()),
            handed_over: HandedOver::to(store),
        }
    }

    fn kv(&self, piece: &Piece) -> Result<Arc<KvFragment>, Error> {
        let kv = self.model.store().get(&piece.id);
        Ok(kv.ok_or("the fragments of so many passages do not fit into the store")?)
    }
}
