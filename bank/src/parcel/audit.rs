//! Are received tensors those that the model makes of their tokens?
//!
//! A sample, or all, is encoded again and compared bit by bit: kernels of one class agree in every
//! bit, so one that differs was not computed by this model. What was coded is encoded, coded, and
//! its codes compared. A sample finds who tampers with many; only all of them is proof of all.

use std::sync::Arc;

use perennial_model::cancel::Cancel;
use perennial_model::decoder::{Decoder, Logits, Rows};
use perennial_model::error::Error as ModelError;
use perennial_model::kv::KvFragment;
use perennial_model::kv::coding::{CodedKv, CodingError, KeyFrame};
use perennial_model::layout::Layout;

use super::{Manifest, Received};
use crate::id::FragmentId;

/// Computes fragments.
pub trait EncodeFragments {
    /// The fragment of the last of these texts, each read behind those before it, from the beginning
    /// of a prompt on.
    ///
    /// # Errors
    /// What the model refuses.
    fn encode(&mut self, chain: &[&[u32]]) -> Result<KvFragment, ModelError>;
}

/// Encodes with a decoder, one text after the other.
pub struct DecoderEncoder<'a> {
    /// Computes.
    pub decoder: &'a Decoder,
    /// Ends it.
    pub cancel: &'a Cancel,
}

impl EncodeFragments for DecoderEncoder<'_> {
    fn encode(&mut self, chain: &[&[u32]]) -> Result<KvFragment, ModelError> {
        let mut layout = Layout::new();
        let mut last = self.decoder.new_tail(0).freeze();
        for tokens in chain {
            let mut tail = self.decoder.new_tail(layout.end());
            let rows = Rows {
                layout: &layout,
                pending: &[],
                tail: &mut tail,
                tokens,
                logits: Logits::None,
                mass: false,
            };
            self.decoder.forward(&mut [rows], self.cancel)?;
            last = tail.freeze();
            layout.push(Arc::new(last.clone()));
        }
        Ok(last)
    }
}

/// What an audit finds, or what stops it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// Tensors that the model does not make of these tokens.
    #[error("{id:?}, entry {entry} of the parcel, is not what the model makes of its tokens")]
    NotComputed {
        /// The number of its entry.
        entry: u32,
        /// What it says it is.
        id: FragmentId,
    },
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// What the model makes of the tokens cannot be coded.
    #[error(transparent)]
    Coding(#[from] CodingError),
}

/// Encodes again those whose number `is_drawn` says, and compares. Yields the ids that were audited.
///
/// # Errors
/// [`AuditError::NotComputed`] at the first that is not what it says; then nothing of the parcel is
/// to be believed.
pub fn audit(
    manifest: &Manifest,
    received: &[Received],
    is_drawn: impl Fn(u32) -> bool,
    frame: &KeyFrame,
    encoder: &mut impl EncodeFragments,
) -> Result<Vec<FragmentId>, AuditError> {
    let mut audited = Vec::new();
    for received in received.iter().filter(|received| is_drawn(received.entry)) {
        let computed = encoder.encode(&manifest.chain(received.entry))?;
        let is_computed = match &received.coded {
            None => computed == *received.kv,
            Some(coded) => CodedKv::encode(&computed, coded.coding(), frame)? == **coded,
        };
        if !is_computed {
            return Err(AuditError::NotComputed {
                entry: received.entry,
                id: received.id,
            });
        }
        audited.push(received.id);
    }
    Ok(audited)
}
