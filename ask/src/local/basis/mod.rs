//! By what are fragments of this model coded?
//!
//! Codings across layers need what the model's keys and values vary along ([`Basis`]). That is far larger than
//! what it saves for one parcel, so it is not sent: whoever writes a parcel and whoever reads it have the same
//! model, and both learn it from the same texts, which the program brings. `texts.txt` has them: some prose of many
//! kinds that was written for this, and paragraphs of this project's documentation; none of what codings are measured
//! on. It never changes: other texts are another basis, under which no parcel that was written before is read.
//!
//! It is learnt when it is first needed, in the time of reading some 5,000 tokens and some seconds more, and kept as
//! long as the model is open.

use std::sync::{Arc, Mutex, PoisonError};

use perennial_model::cancel::Cancel;
use perennial_model::kv::KeyFrame;
use perennial_model::kv::coding::{Basis, BasisError, Coding};

use super::TensorModel;
use super::latent::behind_prefix;

/// Passages, each a line that is its title and lines of text, with an empty line between two.
const TEXTS: &str = include_str!("texts.txt");
/// Tokens of a passage that are read, at most.
const MAX_TOKENS: usize = 512;

/// What was learnt, once it was.
pub(super) type LearntBasis = Arc<Mutex<Option<Arc<Basis>>>>;

impl TensorModel {
    /// The frame in which fragments of this model are coded so. For a coding across layers the model reads some
    /// texts first, unless it has.
    ///
    /// # Errors
    /// What the model reports, and one whose keys or values are not finite.
    pub fn coding_frame(&self, coding: Coding) -> Result<KeyFrame, BasisError> {
        let frame = self.decoder().key_frame();
        if !coding.needs_basis() {
            return Ok(frame);
        }
        // Whoever comes meanwhile waits for it.
        let mut learnt = self.basis.lock().unwrap_or_else(PoisonError::into_inner);
        let basis = match &*learnt {
            Some(basis) => basis.clone(),
            None => learnt.insert(Arc::new(self.learn_basis()?)).clone(),
        };
        Ok(frame.with_basis(basis))
    }

    fn learn_basis(&self) -> Result<Basis, BasisError> {
        let layout = behind_prefix(self.decoder(), &self.prefix)?;
        let n_positions = self.decoder().config().max_positions;
        let room = n_positions.saturating_sub(self.prefix.len());
        let passages = TEXTS.split("\n\n").map(|passage| {
            let (title, text) = passage.split_once('\n').unwrap_or((passage, ""));
            let mut tokens = self.codec.passage(title, text.trim_end())?;
            tokens.truncate(MAX_TOKENS.min(room));
            Ok(tokens)
        });
        let passages: Vec<Vec<u32>> = passages.collect::<Result<_, BasisError>>()?;
        let texts: Vec<&[u32]> = passages.iter().map(Vec::as_slice).collect();
        Basis::learn(self.decoder(), &layout, &texts, &Cancel::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_that_parcels_were_coded_by() {
        assert!(TEXTS.split("\n\n").all(|passage| passage.contains('\n')));
        let digest = blake3::hash(TEXTS.as_bytes()).to_hex();
        assert_eq!(&digest[..16], "f76b3f6fa36f8d5e");
    }
}
