//! How do pieces of a prompt become fragments, each behind all before it?
//!
//! One fragment a piece. What the case before or another policy has encoded behind the same
//! tokens is taken from there: equal tokens in equal pieces are equal bits, so nobody can tell.

use std::collections::HashMap;
use std::sync::Arc;

use perennial::model::decoder::Decoder;
use perennial::model::error::Error;
use perennial::model::kv::KvFragment;
use perennial::model::layout::Layout;

use crate::rig::opened::encode;

/// Fragments by where they begin and all tokens up to their end.
type Fragments = HashMap<(usize, Box<[u32]>), Arc<KvFragment>>;

/// Encodes chains of pieces.
pub struct Chain<'a> {
    decoder: &'a Decoder,
    now: Fragments,
    /// Those of the case before.
    before: Fragments,
}

impl<'a> Chain<'a> {
    /// Encodes with `decoder`.
    pub fn new(decoder: &'a Decoder) -> Self {
        Self {
            decoder,
            now: Fragments::new(),
            before: Fragments::new(),
        }
    }

    /// Another case begins: what the last one did not use is dropped.
    pub fn begin(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// Number of the decoder's layers.
    pub fn n_layers(&self) -> usize {
        self.decoder.config().n_layers
    }

    /// The layout of the pieces in order.
    pub fn layout(&mut self, pieces: &[&[u32]]) -> Result<Layout, Error> {
        let mut layout = Layout::new();
        let mut tokens = Vec::new();
        for piece in pieces {
            let start = tokens.len();
            tokens.extend_from_slice(piece);
            let name = (start, tokens.clone().into_boxed_slice());
            let known = self.now.get(&name).cloned();
            let kv = match known.or_else(|| self.before.remove(&name)) {
                Some(kv) => kv,
                None => encode(self.decoder, &layout, piece)?,
            };
            layout.push(kv.clone());
            self.now.insert(name, kv);
        }
        Ok(layout)
    }
}
