//! By what are fragments of this model coded?
//!
//! Codings across layers need what the model's keys and values vary along ([`Basis`]). That is far larger than
//! what it saves for one parcel, so it is not sent: whoever writes a parcel and whoever reads it have the same
//! model, and both learn it from the same texts, which the program brings. `texts.txt` has them: some prose of many
//! kinds that was written for this, and paragraphs of this project's documentation; none of what codings are measured
//! on. It never changes: other texts are another basis, under which no parcel that was written before is read.
//!
//! It is learnt when it is first needed, in the time of reading some 5,700 tokens and some seconds more, and kept as
//! long as the model is open. That it is being learnt is told to whom the model tells of such work
//! ([`TensorModel::telling`]), whoever asked for it.

use std::sync::{Arc, Mutex, PoisonError};

use perennial_model::cancel::Cancel;
use perennial_model::kv::KeyFrame;
use perennial_model::kv::coding::{Basis, BasisError, Coding};
use perennial_model::locator::Progress;

use super::TensorModel;
use super::latent::behind_prefix;

/// Passages, each a line that is its title and lines of text, with an empty line between two.
const TEXTS: &str = include_str!("texts.txt");
/// Tokens of a passage that are read, at most.
const MAX_TOKENS: usize = 512;

/// Makes what hears of long work when it begins.
pub type MakeProgress = dyn Fn() -> Box<dyn Progress> + Send + Sync;

/// What was learnt, once it was, and who hears of that. Cloning shares it.
#[derive(Clone, Default)]
pub(super) struct LearntBasis {
    learnt: Arc<Mutex<Option<Arc<Basis>>>>,
    progress: Option<Arc<MakeProgress>>,
}

impl TensorModel {
    /// The same model, telling of what it does for long besides answering; without, it tells nobody.
    #[must_use]
    pub fn telling(mut self, progress: Arc<MakeProgress>) -> Self {
        self.basis.progress = Some(progress);
        self
    }

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
        let learnt = self.basis.learnt.lock();
        let mut learnt = learnt.unwrap_or_else(PoisonError::into_inner);
        let basis = match &*learnt {
            Some(basis) => basis.clone(),
            None => learnt.insert(Arc::new(self.learn_basis(coding)?)).clone(),
        };
        Ok(frame.with_basis(basis))
    }

    /// Has its store keep codes of what gives way there ([`warm_tier`](perennial_bank::warm_tier)). For a coding
    /// across layers the model reads some texts first, unless it has.
    ///
    /// # Errors
    /// As [`coding_frame`](Self::coding_frame).
    pub fn keep_coded(&self, coding: Coding) -> Result<(), BasisError> {
        self.store.keep_coded(coding, self.coding_frame(coding)?);
        Ok(())
    }

    fn learn_basis(&self, coding: Coding) -> Result<Basis, BasisError> {
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
        if let Some(progress) = &self.basis.progress {
            let n_tokens: usize = texts.iter().map(|tokens| tokens.len()).sum();
            let told =
                format!("{coding}: {n_tokens} tokens are read first, which it is learnt from");
            progress().note(&told);
        }
        Basis::learn(self.decoder(), &layout, &texts, &Cancel::new())
    }
}

#[cfg(test)]
mod tests {
    use perennial_model::arithmetic::Arithmetic;
    use perennial_model::seeded::tiny_config;

    use super::super::tests::{Characters, model_in};
    use super::*;

    #[test]
    fn texts_are_those_that_parcels_were_coded_by() {
        assert!(TEXTS.split("\n\n").all(|passage| passage.contains('\n')));
        let digest = blake3::hash(TEXTS.as_bytes()).to_hex();
        assert_eq!(&digest[..16], "f76b3f6fa36f8d5e");
    }

    /// Keeps what is told.
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Progress for Kept {
        fn begin(&mut self, _: &str, _: u64) {}
        fn at(&mut self, _: u64) {}
        fn note(&mut self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
        fn end(&mut self) {}
    }

    #[test]
    fn it_is_told_once_when_it_is_learnt_whoever_asks_for_it() {
        let codec = Characters {
            prefix: vec![1, 2],
            stop: vec![3],
            digest: 0,
        };
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = told.clone();
        let model = model_in(Arithmetic::default(), tiny_config(), codec).expect("opens");
        let model = model.telling(Arc::new(move || -> Box<dyn Progress> {
            Box::new(Kept(kept.clone()))
        }));
        model.coding_frame(Coding::K8V4).expect("needs none");
        assert_eq!(*told.lock().unwrap(), [""; 0]);
        let other = model.with_store(model.store().clone());
        for model in [&other, &model] {
            model.coding_frame(Coding::T4).expect("is learnt");
        }
        let told = told.lock().unwrap();
        assert!(
            told.len() == 1 && told[0].contains("tokens are read first"),
            "{told:?}"
        );
    }
}
