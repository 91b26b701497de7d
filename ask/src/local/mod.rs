//! A real model behind [`AnswerModel`]: fragments from the store, missing ones encoded,
//! the answer written or verified over their layout.

mod appended;
mod basis;
mod encoder;
mod encodings;
mod handed_over;
mod instruction;
mod joined;
mod laid_out;
mod latent;
mod perform;
mod skip;
mod written;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, OnceLock};

use perennial_model::decoder::Decoder;
use perennial_model::error::Error as ModelError;
use perennial_model::generation::{self, Generation, GenerationRequest, SubParagraphs};
use perennial_model::grammar::Vocabulary;
use perennial_model::layout::Layout;
use perennial_model::passes::Passes;

use crate::answer::{
    AnswerModel, AnswerRequest, CallError, CallProgress, Outcome, Source, Work, n_tokens_of,
};
use crate::before::{LayoutDelta, Written};
use crate::embed::Embed;
use crate::patch;
use crate::provenance;
use crate::provider::Failure;
use crate::pull::{Profile, Pull};
use perennial_bank::document::{LayoutPassage, PassageLayout};
use perennial_bank::fragment_store::FragmentStore;
use perennial_bank::id::{FragmentId, ModelIdentity};
use perennial_bank::scope::{self, FragmentPlan, Scope};

use encodings::Encodings;
use written::Reading;

pub use basis::MakeProgress;
pub use latent::{LatentPair, LatentReader};

const KV_DTYPE: &str = "f16";

/// How text becomes the tokens of a prompt, and tokens an answer.
pub trait TextCodec: Send + Sync + 'static {
    /// A digest of everything here that tokens depend on, besides the weights file.
    fn digest(&self) -> [u8; 32];
    /// Tokens before the first passage.
    fn prefix(&self) -> &[u32];
    /// A passage, separator included.
    ///
    /// # Errors
    /// A text that the tokenizer refuses.
    fn passage(&self, title: &str, text: &str) -> Result<Vec<u32>, ModelError>;
    /// Instruction and question, up to where the answer begins. Never empty.
    ///
    /// # Errors
    /// A text that the tokenizer refuses.
    fn suffix(&self, prompt: &str, question: &str) -> Result<Vec<u32>, ModelError>;
    /// What suffixes of this instruction begin with, whatever the question; a guess that is checked
    /// against each suffix. Empty where nothing is known to be the same.
    ///
    /// # Errors
    /// A text that the tokenizer refuses.
    fn instruction(&self, prompt: &str) -> Result<Vec<u32>, ModelError>;
    /// A text that stands behind others.
    ///
    /// # Errors
    /// A text that the tokenizer refuses.
    fn continued(&self, text: &str) -> Result<Vec<u32>, ModelError>;
    /// What stands between an answer and what the user says next, behind which [`suffix`](Self::suffix) asks
    /// again; nothing where conversations do not go on.
    fn turn(&self) -> Option<&[u32]> {
        None
    }
    /// The text of answer tokens.
    ///
    /// # Errors
    /// Tokens that the tokenizer does not know.
    fn decode(&self, tokens: &[u32]) -> Result<String, ModelError>;
    /// Tokens that an answer of this text may have: a guess.
    ///
    /// # Errors
    /// A text that the tokenizer refuses.
    fn answer(&self, text: &str) -> Result<Vec<u32>, ModelError>;
    /// Tokens that end an answer.
    fn stop(&self) -> &[u32];
    /// The bytes that each token up to `n_vocab` adds to an answer; none for one that no answer has.
    /// `None` where that is not known: then nothing is written under a grammar.
    fn token_bytes(&self, n_vocab: usize) -> Option<Vec<Vec<u8>>>;
}

/// A decoder, its text codec, and the store of its fragments.
pub struct TensorModel {
    passes: Arc<Passes>,
    codec: Arc<dyn TextCodec>,
    stop: Vec<u32>,
    store: Arc<FragmentStore>,
    /// Digest of the weights.
    weights: [u8; 32],
    identity: ModelIdentity,
    digest: [u8; 32],
    prefix: Arc<[u32]>,
    /// Of two calls that miss the same fragment, one encodes it and the other finds it.
    encodings: Encodings,
    /// What it says of no row.
    inclinations: perform::Inclinations,
    /// What its tokens add to a text, or why that is not known; found out when it is first needed.
    vocabulary: Arc<OnceLock<Result<Vocabulary, String>>>,
    /// What codings across layers need; learnt when it is first needed.
    basis: basis::LearntBasis,
    /// Who judges what a change has to do with an answer.
    pull: Option<Arc<Pull>>,
}

impl TensorModel {
    /// A model whose weights have the digest `weights`. What else its results depend on is named by
    /// what was resolved: the configuration that the decoder runs, and what the codec makes of text.
    pub fn new(
        decoder: Arc<Decoder>,
        weights: &[u8; 32],
        codec: impl TextCodec,
        store: Arc<FragmentStore>,
    ) -> Self {
        let resolved = resolved(weights, &decoder, &codec);
        let identity = ModelIdentity::new(&resolved, decoder.arithmetic().kernel_class(), KV_DTYPE);
        let mut hash = blake3::Hasher::new_derive_key("perennial 2 tensor model");
        hash.update(identity.as_bytes());
        Self {
            passes: Arc::new(Passes::new(decoder)),
            prefix: codec.prefix().into(),
            stop: codec.stop().to_vec(),
            codec: Arc::new(codec),
            store,
            weights: *weights,
            identity,
            digest: *hash.finalize().as_bytes(),
            encodings: Encodings::default(),
            inclinations: Mutex::default(),
            vocabulary: Arc::default(),
            basis: basis::LearntBasis::default(),
            pull: None,
        }
    }

    /// The same model, leaving answers unread where that is allowed and texts that `embedder` finds
    /// alike tell, by its profile, that nothing changed for them. Without, it reads all.
    #[must_use]
    pub fn judging_by(mut self, embedder: Arc<dyn Embed>, profile: Arc<Profile>) -> Self {
        self.pull = Some(Arc::new(Pull::new(embedder, profile)));
        self
    }

    /// The same model over another store.
    #[must_use]
    pub fn with_store(&self, store: Arc<FragmentStore>) -> Self {
        Self {
            passes: self.passes.clone(),
            codec: self.codec.clone(),
            stop: self.stop.clone(),
            store,
            weights: self.weights,
            identity: self.identity,
            digest: self.digest,
            prefix: self.prefix.clone(),
            encodings: Encodings::default(),
            inclinations: Mutex::default(),
            vocabulary: self.vocabulary.clone(),
            basis: self.basis.clone(),
            pull: self.pull.clone(),
        }
    }

    /// The same model over another store, writing answers to their full length: what a
    /// benchmark needs to do the same work every time.
    #[must_use]
    pub fn without_stop(&self, store: Arc<FragmentStore>) -> Self {
        Self {
            stop: Vec::new(),
            // A token that ends answers no more may be a part of them.
            vocabulary: Arc::default(),
            digest: blake3::derive_key("perennial 1 tensor model without stop", &self.digest),
            ..self.with_store(store)
        }
    }

    /// The store of this model's fragments.
    pub fn store(&self) -> &Arc<FragmentStore> {
        &self.store
    }

    /// The decoder.
    pub fn decoder(&self) -> &Decoder {
        self.passes.decoder()
    }

    /// The forward passes of all calls.
    pub fn passes(&self) -> &Passes {
        &self.passes
    }

    /// The whole prompt of a request, as one run of tokens: what a plain prompt would be.
    ///
    /// # Errors
    /// A question that the tokenizer refuses.
    pub fn prompt_tokens(&self, request: &AnswerRequest<'_>) -> Result<Vec<u32>, ModelError> {
        let passages = request
            .layout
            .passages()
            .iter()
            .flat_map(|p| p.tokens.iter().copied());
        let suffix = self.codec.suffix(request.prompt, request.question)?;
        Ok(self
            .prefix
            .iter()
            .copied()
            .chain(passages)
            .chain(suffix)
            .collect())
    }

    /// The fragments of a layout of passages in `scope`.
    pub fn plan(&self, scope: Scope, passages: &[LayoutPassage]) -> FragmentPlan {
        let tokens: Vec<Arc<[u32]>> = passages.iter().map(|p| p.tokens.clone()).collect();
        scope::plan(scope, &self.identity, &self.prefix, &tokens)
    }

    /// The draft of an answer, and whether words of it were exchanged.
    fn draft(&self, request: &AnswerRequest<'_>) -> (Vec<u32>, bool) {
        let before = request.before;
        let patched = before.written.as_deref().and_then(|written| {
            let text = patched(written, request)?;
            // What cannot be tokenized is no draft; the old answer is.
            self.codec.answer(&text).ok()
        });
        let is_patched = patched.is_some();
        let mut draft = patched.unwrap_or_else(|| before.tokens.to_vec());
        // A draft is a guess: what is no token of this model ends it.
        let n_vocab = self.decoder().config().n_vocab;
        let is_known = |token: &u32| (*token as usize) < n_vocab;
        draft.truncate(draft.iter().take_while(|t| is_known(t)).count());
        (draft, is_patched)
    }

    fn generate(
        &self,
        request: &AnswerRequest<'_>,
        layout: &Arc<Layout>,
        suffix: &[u32],
        draft: &[u32],
        progress: &mut dyn CallProgress,
    ) -> Result<Generation, ModelError> {
        let ends = match request.tolerance.regret > 0.0 {
            true => self.sub_paragraph_ends(draft)?,
            false => Vec::new(),
        };
        // What cannot be decoded ends nothing.
        let end_with = |tokens: &[u32]| {
            let text = self.codec.decode(tokens);
            text.is_ok_and(|text| provenance::ends_sub_paragraph(&text))
        };
        let request = GenerationRequest {
            layout,
            prompt: suffix,
            draft,
            tolerance: request.tolerance.regret,
            sub_paragraphs: Some(SubParagraphs {
                ends: &ends,
                end_with: &end_with,
            }),
            max_tokens: request.max_tokens,
            sampling: request.sampling,
            stop: &self.stop,
            mass: true,
            priority: request.priority,
            cancel: &request.cancel,
        };
        let mut tokens = Vec::new();
        generation::generate(&self.passes, &request, &mut |token| {
            tokens.push(token);
            // Only an observation: what cannot be decoded shows when the answer is whole.
            if let Ok(text) = self.codec.decode(&tokens) {
                progress.writing(&written::whole(text));
            }
            ControlFlow::Continue(())
        })
    }
}

impl AnswerModel for TensorModel {
    fn digest(&self) -> [u8; 32] {
        self.digest
    }

    fn n_positions(&self) -> usize {
        self.decoder().config().max_positions
    }

    fn n_prefix_tokens(&self) -> usize {
        self.prefix.len()
    }

    fn passage_tokens(&self, title: &str, text: &str) -> Result<Vec<u32>, String> {
        self.codec
            .passage(title, text)
            .map_err(|error| error.to_string())
    }

    fn fragments(&self, scope: Scope, passages: &[LayoutPassage]) -> Vec<(FragmentId, usize)> {
        let plan = self.plan(scope, passages);
        let named = plan.fragments().map(|piece| (piece.id, piece.tokens.len()));
        named.collect()
    }

    fn answer(
        &self,
        request: &AnswerRequest<'_>,
        progress: &mut dyn CallProgress,
    ) -> Result<Outcome, Failure> {
        let plan = self.plan(request.scope, request.layout.passages());
        let suffix = self
            .codec
            .suffix(request.prompt, request.question)
            .map_err(failed)?;
        let n_passages: usize = request
            .layout
            .passages()
            .iter()
            .map(|p| p.tokens.len())
            .sum();
        let n_prompt = self.prefix.len() + n_passages + suffix.len();
        let required = n_tokens_of([n_prompt, request.max_tokens]);
        if required > self.n_positions() {
            let limit = self.n_positions();
            return Err(CallError::DoesNotFit { required, limit }.into());
        }
        let mut work = Work::default();
        if let Some(outcome) = self.skip(request, &plan, n_prompt, progress) {
            return Ok(outcome);
        }
        let instruction = self.instruction(request, &suffix).map_err(failed)?;
        let asked = (&suffix[..], instruction);
        if let Some(outcome) = self.append(request, &plan, asked, n_prompt, progress)? {
            return Ok(outcome);
        }
        let laid_out = self
            .lay_out_for(request, &plan, instruction, progress, &mut work)
            .map_err(failed)?;
        let layout = self.repaired(request, &laid_out).map_err(failed)?;
        let layout = laid_out.instructed(layout);
        let (draft, is_patched) = self.draft(request);
        let asked = &suffix[instruction.len()..];
        let generation = self.generate(request, &layout, asked, &draft, progress);
        let mut generation = generation.map_err(failed)?;
        work.n_from_scratch = n_prompt + generation.tokens.len();
        let rung = written::rung(&draft, is_patched, &generation);
        let tail = generation.tail.take();
        let reading = Reading::of(&laid_out, &generation);
        let mut outcome = self.written(request, reading, generation, rung, work)?;
        if outcome.is_exact {
            let asked = (instruction, asked);
            outcome.log = self.log_begun(request, &plan, asked, &outcome.tokens, tail);
        }
        Ok(outcome)
    }

    fn n_instruction_tokens(&self, prompt: &str) -> usize {
        self.codec
            .instruction(prompt)
            .map_or(0, |tokens| tokens.len())
    }

    fn prepare(&self, question: &str, layout: &PassageLayout) {
        if let Some(pull) = &self.pull {
            pull.prepare(question, layout.passages());
        }
    }

    fn judges_by(&self) -> Option<&Arc<Profile>> {
        self.pull.as_ref().map(|pull| pull.profile())
    }
}

/// Names weights with all that decides what becomes of a text under them: the same file with other
/// rotary positions, another tokenizer, other ends of answers or another template is another model.
fn resolved(weights: &[u8; 32], decoder: &Decoder, codec: &impl TextCodec) -> [u8; 32] {
    let mut hash = blake3::Hasher::new_derive_key("perennial 1 resolved model");
    let config = decoder.config().encode();
    hash.update(weights)
        .update(&(config.len() as u64).to_le_bytes())
        .update(&config)
        .update(&codec.digest());
    for tokens in [codec.prefix(), codec.stop()] {
        hash.update(&(tokens.len() as u64).to_le_bytes());
        tokens.iter().for_each(|token| {
            hash.update(&token.to_le_bytes());
        });
    }
    *hash.finalize().as_bytes()
}

/// What the model reports will not be otherwise the next time.
fn failed(error: ModelError) -> Failure {
    CallError::Model {
        reason: error.to_string(),
    }
    .into()
}

/// The old answer with the words exchanged that were exchanged in its documents: in each
/// sub-paragraph those of the passages it leans on.
pub(crate) fn patched(written: &Written, request: &AnswerRequest<'_>) -> Option<String> {
    let (before, after) = (written.layout.passages(), request.layout.passages());
    let delta = LayoutDelta::between(before, after);
    let text = &*written.answer.text;
    let mut patched = String::with_capacity(text.len());
    let mut is_patched = false;
    let parts = provenance::sub_paragraphs(text).into_iter();
    for (bytes, part) in parts.zip(&written.sub_paragraphs) {
        let leans_on = |passage: &LayoutPassage| {
            let is_it =
                |s: &Source| (&s.document, s.ordinal) == (&passage.document, passage.ordinal);
            part.sources.iter().any(is_it)
        };
        let pairs = delta
            .replaced
            .iter()
            .filter(|(old, _)| leans_on(&before[*old]));
        let found: Vec<_> = pairs
            .flat_map(|(old, new)| patch::substitutions(&before[*old].text, &after[*new].text))
            .collect();
        let with_new_words = patch::patched(&text[bytes.clone()], &found);
        is_patched |= with_new_words.is_some();
        patched.push_str(with_new_words.as_deref().unwrap_or(&text[bytes]));
    }
    is_patched.then_some(patched)
}

#[cfg(test)]
pub(crate) mod tests {
    use perennial_model::arithmetic::{Arithmetic, KernelOptions};
    use perennial_model::config::{ModelConfig, RopeScaling};
    use perennial_model::seeded::{tiny, tiny_config};

    use super::*;

    /// Characters as tokens, behind a prefix and ended by a token.
    pub(crate) struct Characters {
        pub(crate) prefix: Vec<u32>,
        pub(crate) stop: Vec<u32>,
        pub(crate) digest: u8,
    }

    impl TextCodec for Characters {
        fn digest(&self) -> [u8; 32] {
            [self.digest; 32]
        }

        fn prefix(&self) -> &[u32] {
            &self.prefix
        }

        fn passage(&self, title: &str, text: &str) -> Result<Vec<u32>, ModelError> {
            self.answer(&format!("{title}{text}"))
        }

        fn suffix(&self, prompt: &str, question: &str) -> Result<Vec<u32>, ModelError> {
            self.answer(&format!("{prompt}{question}"))
        }

        fn instruction(&self, prompt: &str) -> Result<Vec<u32>, ModelError> {
            self.answer(prompt)
        }

        fn continued(&self, text: &str) -> Result<Vec<u32>, ModelError> {
            self.answer(text)
        }

        fn decode(&self, tokens: &[u32]) -> Result<String, ModelError> {
            Ok(format!("{tokens:?}"))
        }

        fn answer(&self, text: &str) -> Result<Vec<u32>, ModelError> {
            Ok(text.bytes().map(|byte| u32::from(byte % 96)).collect())
        }

        fn stop(&self) -> &[u32] {
            &self.stop
        }

        fn token_bytes(&self, _: usize) -> Option<Vec<Vec<u8>>> {
            None
        }
    }

    /// The digest of a model, by which answers are kept, and the id of a fragment.
    fn names(config: ModelConfig, codec: Characters) -> Result<([u8; 32], FragmentId), ModelError> {
        names_in(Arithmetic::default(), config, codec)
    }

    fn names_in(
        arithmetic: Arithmetic,
        config: ModelConfig,
        codec: Characters,
    ) -> Result<([u8; 32], FragmentId), ModelError> {
        let model = model_in(arithmetic, config, codec)?;
        let fragments = model.fragments(Scope::Causal, &[]);
        Ok((AnswerModel::digest(&model), fragments[0].0))
    }

    pub(crate) fn model_in(
        arithmetic: Arithmetic,
        config: ModelConfig,
        codec: Characters,
    ) -> Result<TensorModel, ModelError> {
        let kernels = KernelOptions {
            arithmetic,
            ..KernelOptions::default()
        };
        let weights = tiny(&config, 1);
        let decoder = Decoder::load_with(kernels, config, &weights, 1, &mut |_, _| {})?;
        let store = Arc::new(FragmentStore::new(0));
        Ok(TensorModel::new(Arc::new(decoder), &[7; 32], codec, store))
    }

    #[test]
    fn what_is_said_of_no_row_is_waited_for_by_those_who_need_it_only() -> Result<(), ModelError> {
        let codec = Characters {
            prefix: vec![1],
            stop: vec![3],
            digest: 0,
        };
        let model = model_in(Arithmetic::default(), tiny_config(), codec)?;
        let of = |task: u8| model.inclination_of(([task; 32], vec![5]));
        let held = of(1);
        let _computing = held.lock();
        assert!(of(1).try_lock().is_err());
        assert!(of(2).try_lock().is_ok());
        Ok(())
    }

    #[test]
    fn the_same_weights_resolved_otherwise_share_no_answer_and_no_fragment()
    -> Result<(), ModelError> {
        let codec = || Characters {
            prefix: vec![1, 2],
            stop: vec![3],
            digest: 0,
        };
        let plain = names(tiny_config(), codec())?;
        assert_eq!(names(tiny_config(), codec())?, plain);
        let with = |rope_scaling| ModelConfig {
            rope_scaling,
            ..tiny_config()
        };
        let others = [
            names_in(Arithmetic::Int8, tiny_config(), codec())?,
            names(with(RopeScaling::Linear { factor: 2.0 }), codec())?,
            names(with(RopeScaling::Linear { factor: 4.0 }), codec())?,
            names(
                ModelConfig {
                    rope_theta: 1e6,
                    ..tiny_config()
                },
                codec(),
            )?,
            names(
                tiny_config(),
                Characters {
                    prefix: vec![2, 1],
                    ..codec()
                },
            )?,
            names(
                tiny_config(),
                Characters {
                    stop: vec![4],
                    ..codec()
                },
            )?,
            names(
                tiny_config(),
                Characters {
                    digest: 1,
                    ..codec()
                },
            )?,
        ];
        for (i, (digest, fragment)) in others.iter().enumerate() {
            for (other_digest, other_fragment) in others[..i].iter().chain([&plain]) {
                assert_ne!(digest, other_digest);
                assert_ne!(fragment, other_fragment);
            }
        }
        Ok(())
    }
}
