//! A real model behind [`AnswerModel`]: fragments from the store, missing ones encoded,
//! the answer written or verified over their layout.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use perennial_model::cancel::Cancel;
use perennial_model::decoder::{Decoder, Logits, Rows};
use perennial_model::error::Error as ModelError;
use perennial_model::generation::{self, Generation, GenerationRequest};
use perennial_model::kv::{KvFragment, Tail};
use perennial_model::layout::Layout;

use crate::answer::{
    AnswerModel, AnswerRequest, AnswerText, CallError, CallProgress, Finish, Outcome, Rung, Work,
};
use crate::document::LayoutPassage;
use crate::fragment_store::FragmentStore;
use crate::id::{FragmentId, ModelIdentity};
use crate::live_layout::{Lender, LiveLayout};
use crate::provenance;
use crate::scope::{self, EncodeRun, FragmentPlan, Piece, Scope};

/// All kernels of this class agree in every bit, whatever the instruction set.
const KERNEL_CLASS: &str = "f32 fma, k in order";
const KV_DTYPE: &str = "f16";
/// Missing fragments are encoded together up to this many rows a forward.
const ROWS_A_FORWARD: usize = 512;

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
    /// The text of answer tokens.
    ///
    /// # Errors
    /// Tokens that the tokenizer does not know.
    fn decode(&self, tokens: &[u32]) -> Result<String, ModelError>;
    /// Tokens that end an answer.
    fn stop(&self) -> &[u32];
}

/// A decoder, its text codec, and the store of its fragments.
pub struct TensorModel {
    decoder: Arc<Decoder>,
    codec: Arc<dyn TextCodec>,
    stop: Vec<u32>,
    store: Arc<FragmentStore>,
    identity: ModelIdentity,
    digest: [u8; 32],
    prefix: Arc<[u32]>,
}

impl TensorModel {
    /// A model whose weights have the digest `weights`.
    pub fn new(
        decoder: Arc<Decoder>,
        weights: &[u8; 32],
        codec: impl TextCodec,
        store: Arc<FragmentStore>,
    ) -> Self {
        let identity = ModelIdentity::new(weights, KERNEL_CLASS, KV_DTYPE);
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 tensor model");
        hash.update(identity.as_bytes()).update(&codec.digest());
        Self {
            decoder,
            prefix: codec.prefix().into(),
            stop: codec.stop().to_vec(),
            codec: Arc::new(codec),
            store,
            identity,
            digest: *hash.finalize().as_bytes(),
        }
    }

    /// The same model over another store, writing answers to their full length: what a
    /// benchmark needs to do the same work every time.
    #[must_use]
    pub fn without_stop(&self, store: Arc<FragmentStore>) -> Self {
        Self {
            decoder: self.decoder.clone(),
            codec: self.codec.clone(),
            stop: Vec::new(),
            store,
            identity: self.identity,
            digest: blake3::derive_key("perennial 1 tensor model without stop", &self.digest),
            prefix: self.prefix.clone(),
        }
    }

    /// The store of this model's fragments.
    pub fn store(&self) -> &Arc<FragmentStore> {
        &self.store
    }

    /// The decoder.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The whole prompt of a request, as one run of tokens: what a plain prompt would be.
    ///
    /// # Errors
    /// A question that the tokenizer refuses.
    pub fn prompt_tokens(&self, request: &AnswerRequest<'_>) -> Result<Vec<u32>, ModelError> {
        let passages = request
            .passages
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

    fn plan(&self, scope: Scope, passages: &[LayoutPassage]) -> FragmentPlan {
        let tokens: Vec<Arc<[u32]>> = passages.iter().map(|p| p.tokens.clone()).collect();
        scope::plan(scope, &self.identity, &self.prefix, &tokens)
    }

    /// The layout of a plan, every missing fragment encoded and kept.
    ///
    /// # Errors
    /// What the decoder reports, cancellation included.
    pub fn lay_out(
        &self,
        plan: &FragmentPlan,
        cancel: &Cancel,
        progress: &mut dyn CallProgress,
        work: &mut Work,
    ) -> Result<Layout, ModelError> {
        let mut encoder = Encoder::new(self, cancel, progress, work);
        let prefix = encoder.prefix(&plan.prefix)?;
        let runs = encoder.runs(&prefix, &plan.runs)?;
        let mut layout = Layout::new();
        layout.push(prefix);
        for kv in runs.into_iter().flatten() {
            layout.push(kv);
        }
        Ok(layout)
    }

    /// A layout of the plan's passages at the cost of those that are new: what the store
    /// does not hold is borrowed from the layout before, and only what that lacks is
    /// encoded, after what now stands before it. So the old is evicted before the new is
    /// read.
    fn splice(
        &self,
        plan: &FragmentPlan,
        before: &LiveLayout,
        cancel: &Cancel,
        progress: &mut dyn CallProgress,
        work: &mut Work,
    ) -> Result<Spliced, ModelError> {
        let mut encoder = Encoder::new(self, cancel, progress, work);
        let mut lender = before.lender();
        let mut layout = Layout::new();
        layout.push(encoder.prefix(&plan.prefix)?);
        let mut is_stale = Vec::new();
        for piece in plan.runs.iter().flat_map(|run| &run.pieces) {
            let borrow = |lender: &mut Lender<'_>| lender.borrow(&piece.tokens);
            let (kv, stale) = if let Some(kv) = self.store.get(&piece.id) {
                (kv, false)
            } else if let Some(kv) = borrow(&mut lender) {
                (kv, true)
            } else if is_stale.contains(&true) {
                // It attends to borrowed fragments: no other layout may ask for it.
                (encoder.encode_unshared(piece, &layout)?, true)
            } else {
                (
                    encoder.encode(&[(piece, &layout, 0)])?.swap_remove(0),
                    false,
                )
            };
            layout.push(kv);
            is_stale.push(stale);
        }
        Ok(Spliced { layout, is_stale })
    }

    fn generate(
        &self,
        request: &AnswerRequest<'_>,
        layout: &Layout,
        suffix: &[u32],
        progress: &mut dyn CallProgress,
    ) -> Result<Generation, ModelError> {
        // A draft is a guess: what is no token of this model ends it.
        let n_vocab = self.decoder.config().n_vocab;
        let is_known = |token: &u32| (*token as usize) < n_vocab;
        let n_known = request.draft.iter().take_while(|t| is_known(t)).count();
        let request = GenerationRequest {
            layout,
            prompt: suffix,
            draft: &request.draft[..n_known],
            max_tokens: request.max_tokens,
            sampling: request.sampling,
            stop: &self.stop,
            mass: true,
            cancel: &request.cancel,
        };
        let mut tokens = Vec::new();
        generation::generate(&self.decoder, &request, &mut |token| {
            tokens.push(token);
            // Only an observation: what cannot be decoded shows when the answer is whole.
            if let Ok(text) = self.codec.decode(&tokens) {
                progress.writing(&text);
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
        self.decoder.config().max_positions
    }

    fn n_prefix_tokens(&self) -> usize {
        self.prefix.len()
    }

    fn passage_tokens(&self, title: &str, text: &str) -> Result<Vec<u32>, String> {
        self.codec
            .passage(title, text)
            .map_err(|error| error.to_string())
    }

    fn fragment_ids(&self, scope: Scope, passages: &[LayoutPassage]) -> Vec<FragmentId> {
        self.plan(scope, passages).layout_ids().collect()
    }

    fn answer(
        &self,
        request: &AnswerRequest<'_>,
        progress: &mut dyn CallProgress,
    ) -> Result<Outcome, CallError> {
        let plan = self.plan(request.scope, request.passages);
        let failed = |error: ModelError| CallError::Model {
            reason: error.to_string(),
        };
        let suffix = self
            .codec
            .suffix(request.prompt, request.question)
            .map_err(failed)?;
        let n_passages: usize = request.passages.iter().map(|p| p.tokens.len()).sum();
        let n_prompt = self.prefix.len() + n_passages + suffix.len();
        let required = n_prompt + request.max_tokens;
        if required > self.n_positions() {
            return Err(CallError::DoesNotFit {
                required,
                limit: self.n_positions(),
            });
        }
        let mut work = Work::default();
        let laid_out = match request.splice {
            Some(live) if request.scope == Scope::Causal => {
                self.splice(&plan, live, &request.cancel, progress, &mut work)
            }
            _ => self
                .lay_out(&plan, &request.cancel, progress, &mut work)
                .map(Spliced::exact),
        };
        let Spliced { layout, is_stale } = laid_out.map_err(failed)?;
        let generation = self
            .generate(request, &layout, &suffix, progress)
            .map_err(failed)?;
        let finish = match generation.finish {
            generation::Finish::Stop => Finish::Stop,
            generation::Finish::Length => Finish::Length,
            generation::Finish::Cancelled => {
                return Err(CallError::Model {
                    reason: "cancelled".to_owned(),
                });
            }
        };
        work.n_prompt = generation.work.n_prompt_rows;
        work.n_draft = generation.work.n_draft_rows;
        work.n_decoded = generation.work.n_decode_rows;
        work.n_passes += generation.work.n_passes;
        work.n_from_scratch = n_prompt + generation.tokens.len();
        let text = self.codec.decode(&generation.tokens).map_err(failed)?;
        let ends = self.ends(&generation.tokens, text.len()).map_err(failed)?;
        Ok(Outcome {
            rung: rung(request.draft, &generation),
            work,
            sub_paragraphs: attribute(&text, &ends, &generation, request.passages),
            min_margin: generation.min_margin,
            is_exact: !is_stale.contains(&true),
            drift: drift(&generation, &is_stale),
            live: live(&plan, &layout, &is_stale),
            answer: AnswerText {
                text: text.into(),
                finish,
            },
            tokens: generation.tokens.into(),
        })
    }
}

impl TensorModel {
    /// The byte of the answer's text at which each token ends.
    fn ends(&self, tokens: &[u32], n_bytes: usize) -> Result<Vec<usize>, ModelError> {
        let end = |n: usize| Ok(self.codec.decode(&tokens[..n])?.len().min(n_bytes));
        (1..=tokens.len()).map(end).collect()
    }
}

/// A layout, and which of its passages stand on borrowed fragments.
struct Spliced {
    layout: Layout,
    is_stale: Vec<bool>,
}

impl Spliced {
    fn exact(layout: Layout) -> Self {
        let is_stale = vec![false; layout.segments().len() - 1];
        Self { layout, is_stale }
    }
}

/// Share of the answer's attention to passages that went to stale fragments.
fn drift(generation: &Generation, is_stale: &[bool]) -> f32 {
    let (mut stale, mut all) = (0.0, 0.0);
    for row in &generation.mass {
        // Segment 0 is the prefix.
        for (mass, is_stale) in row.iter().skip(1).zip(is_stale) {
            all += mass;
            stale += if *is_stale { *mass } else { 0.0 };
        }
    }
    if all > 0.0 { stale / all } else { 0.0 }
}

fn live(plan: &FragmentPlan, layout: &Layout, is_stale: &[bool]) -> LiveLayout {
    let mut live = LiveLayout::default();
    let pieces = plan.runs.iter().flat_map(|run| &run.pieces);
    for ((piece, segment), is_stale) in pieces.zip(&layout.segments()[1..]).zip(is_stale) {
        live.push(piece.tokens.clone(), &segment.kv, *is_stale);
    }
    live
}

fn attribute(
    text: &str,
    ends: &[usize],
    generation: &Generation,
    passages: &[LayoutPassage],
) -> Vec<crate::answer::SubParagraph> {
    // Segment 0 is the prefix, the last column the question and the answer itself.
    let to_passages = |row: &Vec<f32>| row.iter().skip(1).take(passages.len()).copied().collect();
    let mass: Vec<Vec<f32>> = generation.mass.iter().map(to_passages).collect();
    provenance::attribute(text, ends, &mass, passages)
}

fn rung(draft: &[u32], generation: &Generation) -> Rung {
    if draft.is_empty() || generation.n_draft_accepted == 0 {
        Rung::Regenerate
    } else if *draft == generation.tokens[..] {
        Rung::Verify
    } else {
        Rung::Rewrite
    }
}

/// Encodes what the store does not hold.
struct Encoder<'a> {
    model: &'a TensorModel,
    cancel: &'a Cancel,
    progress: &'a mut dyn CallProgress,
    work: &'a mut Work,
    /// Tokens of fragments known to be missing, for the progress report.
    n_missing: usize,
}

/// One run under way: what it attends to so far and which pieces are still to come.
struct OpenRun<'a> {
    run: usize,
    layout: Layout,
    todo: std::collections::VecDeque<(&'a Piece, bool)>,
    cost_tokens: usize,
}

impl<'a> Encoder<'a> {
    fn new(
        model: &'a TensorModel,
        cancel: &'a Cancel,
        progress: &'a mut dyn CallProgress,
        work: &'a mut Work,
    ) -> Self {
        Self {
            model,
            cancel,
            progress,
            work,
            n_missing: 0,
        }
    }

    fn prefix(&mut self, piece: &Piece) -> Result<Arc<KvFragment>, ModelError> {
        if let Some(kv) = self.model.store.get(&piece.id) {
            return Ok(kv);
        }
        let layout = Layout::new();
        let mut encoded = self.encode(&[(piece, &layout, 0)])?;
        Ok(encoded.swap_remove(0))
    }

    /// The fragments of every run's pieces, in order.
    fn runs(
        &mut self,
        prefix: &Arc<KvFragment>,
        runs: &'a [EncodeRun],
    ) -> Result<Vec<Vec<Arc<KvFragment>>>, ModelError> {
        let mut found: Vec<Vec<Arc<KvFragment>>> = Vec::with_capacity(runs.len());
        let mut open = Vec::new();
        for (index, run) in runs.iter().enumerate() {
            let present: Option<Vec<_>> = run
                .pieces
                .iter()
                .map(|piece| self.model.store.get(&piece.id))
                .collect();
            if present.is_none() {
                let mut layout = Layout::new();
                layout.push(prefix.clone());
                let conditioning = run.conditioning.iter().map(|piece| (piece, false));
                let todo = conditioning.chain(run.pieces.iter().map(|piece| (piece, true)));
                let cost_tokens = run.conditioning.iter().map(|p| p.tokens.len()).sum();
                open.push(OpenRun {
                    run: index,
                    layout,
                    todo: todo.collect(),
                    cost_tokens,
                });
                let pieces = run.conditioning.iter().chain(&run.pieces);
                self.n_missing += pieces
                    .filter(|piece| !self.model.store.contains(&piece.id))
                    .map(|piece| piece.tokens.len())
                    .sum::<usize>();
            }
            found.push(present.unwrap_or_default());
        }
        while !open.is_empty() {
            self.advance(&mut open, &mut found)?;
            open.retain(|run| !run.todo.is_empty());
        }
        Ok(found)
    }

    /// Takes each open run over what is present, and encodes the next missing piece of as
    /// many runs as one forward takes.
    fn advance(
        &mut self,
        open: &mut [OpenRun<'a>],
        found: &mut [Vec<Arc<KvFragment>>],
    ) -> Result<(), ModelError> {
        let mut batch: Vec<usize> = Vec::new();
        let mut in_batch: HashSet<FragmentId> = HashSet::new();
        let mut n_rows = 0;
        for (index, run) in open.iter_mut().enumerate() {
            while let Some((piece, is_member)) = run.todo.front().copied() {
                let Some(kv) = self.model.store.get(&piece.id) else {
                    break;
                };
                run.accept(kv, is_member, found);
            }
            let Some((piece, _)) = run.todo.front() else {
                continue;
            };
            let fits = batch.is_empty() || n_rows + piece.tokens.len() <= ROWS_A_FORWARD;
            if fits && in_batch.insert(piece.id) {
                n_rows += piece.tokens.len();
                batch.push(index);
            }
        }
        let requests: Vec<(&Piece, &Layout, usize)> = batch
            .iter()
            .map(|index| {
                let run = &open[*index];
                (run.todo[0].0, &run.layout, run.cost_tokens)
            })
            .collect();
        if requests.is_empty() {
            return Ok(());
        }
        let encoded = self.encode(&requests)?;
        for (index, kv) in batch.into_iter().zip(encoded) {
            let is_member = open[index].todo[0].1;
            open[index].accept(kv, is_member, found);
        }
        Ok(())
    }

    /// One forward over a piece after a layout that is not its exact conditioning.
    fn encode_unshared(
        &mut self,
        piece: &Piece,
        layout: &Layout,
    ) -> Result<Arc<KvFragment>, ModelError> {
        let mut encoded = self.forward(&[(piece, layout, 0)])?;
        Ok(Arc::new(encoded.swap_remove(0).freeze()))
    }

    /// One forward over pieces, each after its layout; the results are kept in the store.
    fn encode(
        &mut self,
        requests: &[(&Piece, &Layout, usize)],
    ) -> Result<Vec<Arc<KvFragment>>, ModelError> {
        let tails = self.forward(requests)?;
        let mut encoded = Vec::with_capacity(requests.len());
        for ((piece, _, conditioning_tokens), tail) in requests.iter().zip(tails) {
            let kv = Arc::new(tail.freeze());
            let cost_tokens = piece.tokens.len() + conditioning_tokens;
            self.model.store.insert(piece.id, kv.clone(), cost_tokens);
            encoded.push(kv);
        }
        Ok(encoded)
    }

    fn forward(&mut self, requests: &[(&Piece, &Layout, usize)]) -> Result<Vec<Tail>, ModelError> {
        let decoder = &self.model.decoder;
        let mut tails: Vec<Tail> = requests
            .iter()
            .map(|(_, layout, _)| decoder.new_tail(layout.end()))
            .collect();
        let mut batch: Vec<Rows<'_>> = requests
            .iter()
            .zip(&mut tails)
            .map(|((piece, layout, _), tail)| Rows {
                layout,
                tail,
                tokens: &piece.tokens,
                logits: Logits::None,
                mass: false,
            })
            .collect();
        decoder.forward(&mut batch, self.cancel)?;
        drop(batch);
        self.work.n_passes += 1;
        self.work.n_encoded += requests
            .iter()
            .map(|(piece, ..)| piece.tokens.len())
            .sum::<usize>();
        let total = self.n_missing.max(self.work.n_encoded);
        self.progress.encoding(self.work.n_encoded, total);
        Ok(tails)
    }
}

impl OpenRun<'_> {
    fn accept(&mut self, kv: Arc<KvFragment>, is_member: bool, found: &mut [Vec<Arc<KvFragment>>]) {
        self.layout.push(kv.clone());
        if is_member {
            found[self.run].push(kv);
        }
        self.todo.pop_front();
    }
}
