//! What does a model read of texts, so that they are found by what is asked?
//!
//! Texts and questions are read behind the prompt's prefix, through the layers of a profile alone; no
//! answer is written. What becomes of it, [`perennial_model::latent`] says.

use std::sync::{Arc, OnceLock};

use perennial_bank::id::ModelIdentity;
use perennial_bank::recall::TextId;
use perennial_model::cancel::Cancel;
use perennial_model::decoder::{Decoder, Logits, Rows, TokenQueries};
use perennial_model::error::Error as ModelError;
use perennial_model::latent::{
    Calibrated, CalibrationPair, KeyBits, LatentProfile, TextKeys, WINDOW_TOKENS, calibrate, scores,
};
use perennial_model::layout::Layout;
use perennial_model::passes::Passes;

use super::{TensorModel, TextCodec};

/// Tokens that are read in one pass: whoever wants the model meanwhile waits for no more.
const TOKENS_TOGETHER: usize = WINDOW_TOKENS;

/// A text that heads are chosen by, with a question that it answers.
#[derive(Clone, Debug)]
pub struct LatentPair {
    /// The question.
    pub question: String,
    /// What the text calls itself; may be empty.
    pub title: String,
    /// The text.
    pub text: String,
}

/// Reads texts and questions as recall by latent keys compares them.
pub struct LatentReader {
    passes: Arc<Passes>,
    codec: Arc<dyn TextCodec>,
    profile: LatentProfile,
    digest: [u8; 32],
    prefix: OnceLock<Layout>,
}

impl TensorModel {
    /// What reads texts by the heads of this profile.
    ///
    /// # Errors
    /// [`ModelError::Profile`] for one of another model.
    pub fn latent_reader(&self, profile: LatentProfile) -> Result<LatentReader, ModelError> {
        profile.check(self.decoder().config())?;
        Ok(LatentReader {
            passes: self.passes.clone(),
            codec: self.codec.clone(),
            digest: digest(&self.identity, &profile),
            profile,
            prefix: OnceLock::new(),
        })
    }

    /// Chooses the heads that tell best which text a question is about.
    ///
    /// # Errors
    /// A text that the tokenizer refuses; as [`calibrate`].
    pub fn calibrate_latent(
        &self,
        pairs: &[LatentPair],
        n_heads: usize,
        bits: KeyBits,
    ) -> Result<Calibrated, ModelError> {
        let tokens = pairs.iter().map(|pair| {
            Ok(CalibrationPair {
                question: question_tokens(&*self.codec, &pair.question)?,
                passage: self.codec.passage(&pair.title, &pair.text)?,
            })
        });
        let tokens: Vec<CalibrationPair> = tokens.collect::<Result<_, ModelError>>()?;
        let layout = behind_prefix(self.decoder(), self.codec.prefix())?;
        let cancel = Cancel::new();
        calibrate(self.decoder(), &layout, &tokens, n_heads, bits, &cancel)
    }
}

impl LatentReader {
    /// The heads that are looked at.
    pub fn profile(&self) -> &LatentProfile {
        &self.profile
    }

    /// Width of one key.
    pub fn head_dim(&self) -> usize {
        self.passes.decoder().config().head_dim
    }

    /// Names a text with all that its keys depend on.
    pub fn id(&self, title: &str, text: &str) -> TextId {
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 text of latent keys");
        hash.update(&self.digest)
            .update(&(title.len() as u64).to_le_bytes())
            .update(title.as_bytes())
            .update(text.as_bytes());
        TextId::from_bytes(*hash.finalize().as_bytes())
    }

    /// The keys of texts, titles before them. Of one of many tokens, those of windows.
    ///
    /// # Errors
    /// A text that the tokenizer refuses; as [`Decoder::forward`].
    pub fn keys(&self, texts: &[(&str, &str)]) -> Result<Vec<TextKeys>, ModelError> {
        let decoder = self.passes.decoder();
        let layout = self.layout()?;
        let tokens = texts
            .iter()
            .map(|(title, text)| self.codec.passage(title, text));
        let tokens: Vec<Vec<u32>> = tokens.collect::<Result<_, _>>()?;
        let window = self.window(layout);
        let windows = tokens.iter().enumerate();
        let windows = windows.flat_map(|(n, tokens)| tokens.chunks(window).map(move |of| (n, of)));
        let windows: Vec<(usize, &[u32])> = windows.collect();
        let mut strips = vec![Vec::new(); texts.len()];
        let mut first = 0;
        while first < windows.len() {
            let (mut end, mut n_tokens) = (first, 0);
            while let Some((_, tokens)) = windows.get(end)
                && (end == first || n_tokens + tokens.len() <= TOKENS_TOGETHER)
            {
                n_tokens += tokens.len();
                end += 1;
            }
            let together: Vec<&[u32]> = windows[first..end].iter().map(|(_, of)| *of).collect();
            let read = decoder.key_strips(layout, &together, &self.profile, &Cancel::new())?;
            for ((n, _), read) in windows[first..end].iter().zip(read) {
                strips[*n].push(read);
            }
            first = end;
        }
        Ok(strips.into_iter().map(TextKeys::of).collect())
    }

    /// What a question asks; of a long one, its first window.
    ///
    /// # Errors
    /// A question that the tokenizer refuses; as [`Decoder::forward`].
    pub fn queries(&self, question: &str) -> Result<TokenQueries, ModelError> {
        let layout = self.layout()?;
        let mut tokens = question_tokens(&*self.codec, question)?;
        tokens.truncate(self.window(layout));
        let decoder = self.passes.decoder();
        let mut read = decoder.queries(layout, &[&tokens], self.profile.heads(), &Cancel::new())?;
        Ok(read.swap_remove(0))
    }

    /// How much a question has to do with each text, in the profile's units: about 0 for texts that have
    /// nothing to do with it. Always finite.
    ///
    /// # Panics
    /// If they were read by another reader.
    pub fn scores(&self, question: &TokenQueries, texts: &[&TextKeys]) -> Vec<f32> {
        let (n_heads, units) = (self.profile.heads().len(), self.profile.units());
        let scores = scores(&self.profile, n_heads, question, texts);
        let finite = |score: f32| units.of(score).clamp(f32::MIN, f32::MAX);
        scores.into_iter().map(finite).collect()
    }

    /// What all is read behind.
    fn layout(&self) -> Result<&Layout, ModelError> {
        if let Some(layout) = self.prefix.get() {
            return Ok(layout);
        }
        // Two may read it at once: it has the same bits.
        let layout = behind_prefix(self.passes.decoder(), self.codec.prefix())?;
        Ok(self.prefix.get_or_init(|| layout))
    }

    /// Tokens of a window, as far as the model has positions.
    fn window(&self, layout: &Layout) -> usize {
        let n_positions = self.passes.decoder().config().max_positions;
        let left = n_positions.saturating_sub(layout.end() as usize);
        left.clamp(1, WINDOW_TOKENS)
    }
}

fn digest(identity: &ModelIdentity, profile: &LatentProfile) -> [u8; 32] {
    let mut hash = blake3::Hasher::new_derive_key("perennial 1 reader of latent keys");
    hash.update(identity.as_bytes()).update(&profile.digest());
    *hash.finalize().as_bytes()
}

/// A question as it is read: as a text that begins, without what a template says around it.
fn question_tokens(codec: &dyn TextCodec, question: &str) -> Result<Vec<u32>, ModelError> {
    codec.answer(question)
}

/// The prompt's prefix, behind which texts are read.
pub(super) fn behind_prefix(decoder: &Decoder, prefix: &[u32]) -> Result<Layout, ModelError> {
    let mut layout = Layout::new();
    if prefix.is_empty() {
        return Ok(layout);
    }
    let mut tail = decoder.new_tail(0);
    let rows = Rows {
        layout: &layout,
        pending: &[],
        tail: &mut tail,
        tokens: prefix,
        logits: Logits::None,
        mass: false,
    };
    decoder.forward(&mut [rows], &Cancel::new())?;
    layout.push(Arc::new(tail.freeze()));
    Ok(layout)
}
