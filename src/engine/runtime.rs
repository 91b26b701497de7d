//! What an engine computes with: the model, its store, the embedder, the threads.

use std::sync::Arc;

use perennial_ask::scripted::{Scripted, ScriptedEmbedder};
use perennial_ask::{AnswerModel, Embed, Executor, LatentReader, Provider, TensorModel};
use perennial_bank::FragmentStore;

/// Answers written at a time: rows of one forward pass while decoding. Past this, reading
/// the weights is no longer what a pass costs.
const CALLS_AT_A_TIME: usize = 16;

/// The model side of an engine.
#[derive(Clone)]
pub struct Runtime {
    /// What the model is called, where it has a name.
    pub(crate) name: Option<Arc<str>>,
    pub(crate) model: Arc<dyn AnswerModel>,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) store: Option<Arc<FragmentStore>>,
    /// The model itself, where it computes here and fragments of it may be handed over.
    pub(crate) tensors: Option<Arc<TensorModel>>,
    pub(crate) embedder: Arc<dyn Embed>,
    /// Who reads what latent recall compares, where a model is there that can.
    pub(crate) latent: Option<Arc<LatentReader>>,
    pub(crate) model_executor: Arc<Executor>,
    pub(crate) embed_executor: Arc<Executor>,
}

impl Runtime {
    /// A runtime over a model with tensors in `store`. Sixteen model calls run at a
    /// time and share their forward passes, each on all threads of the decoder; texts are
    /// embedded `n_embed_threads` at a time.
    pub fn new(
        model: Arc<impl AnswerModel + Provider>,
        store: Arc<FragmentStore>,
        embedder: Arc<dyn Embed>,
        n_embed_threads: usize,
    ) -> Self {
        Self {
            name: None,
            model: model.clone(),
            provider: model,
            store: Some(store),
            tensors: None,
            embedder,
            latent: None,
            model_executor: Arc::new(Executor::new(CALLS_AT_A_TIME)),
            embed_executor: Arc::new(Executor::new(n_embed_threads)),
        }
    }

    /// A runtime over a model behind HTTP.
    #[cfg(feature = "remote")]
    pub fn remote(
        model: Arc<perennial_ask::remote::RemoteModel>,
        embedder: Arc<dyn Embed>,
        n_embed_threads: usize,
    ) -> Self {
        let n_calls = model.at_once();
        Self::without_tensors(model, embedder, n_calls, n_embed_threads)
    }

    /// A runtime without tensors, for tests and examples.
    pub fn scripted(model: Arc<Scripted>, embedder: Arc<ScriptedEmbedder>) -> Self {
        Self::without_tensors(model, embedder, 4, 1)
    }

    /// A runtime that embeds texts, for who asks no language model.
    pub(crate) fn embedding(embedder: Arc<dyn Embed>, n_embed_threads: usize) -> Self {
        Self::without_tensors(Arc::new(Scripted::new()), embedder, 1, n_embed_threads)
    }

    /// A runtime over a model that keeps no fragments here.
    fn without_tensors(
        model: Arc<impl AnswerModel + Provider>,
        embedder: Arc<dyn Embed>,
        n_calls: usize,
        n_embed_threads: usize,
    ) -> Self {
        Self {
            name: None,
            model: model.clone(),
            provider: model,
            store: None,
            tensors: None,
            embedder,
            latent: None,
            model_executor: Arc::new(Executor::new(n_calls)),
            embed_executor: Arc::new(Executor::new(n_embed_threads)),
        }
    }

    /// The same with so many model calls at a time.
    #[must_use]
    pub fn calling_at_a_time(mut self, n_calls: usize) -> Self {
        self.model_executor = Arc::new(Executor::new(n_calls));
        self
    }

    /// The same with texts embedded by another model, so many batches at a time.
    #[must_use]
    pub fn embedding_by(mut self, embedder: Arc<dyn Embed>, n_at_a_time: usize) -> Self {
        self.embedder = embedder;
        self.embed_executor = Arc::new(Executor::new(n_at_a_time));
        self
    }

    /// The same with memories recalled by the latent keys that this reads.
    #[must_use]
    pub fn recalling_by(mut self, latent: Arc<LatentReader>) -> Self {
        self.latent = Some(latent);
        self
    }

    /// Who reads what latent recall compares: a model of this machine whose heads are known.
    pub fn latent(&self) -> Option<&Arc<LatentReader>> {
        self.latent.as_ref()
    }

    /// Names the model, for recordings to say how it was called.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The same, with fragments handed over and taken in by this model, which is the one that answers.
    #[must_use]
    pub fn handing_over(mut self, model: Arc<TensorModel>) -> Self {
        self.tensors = Some(model);
        self
    }

    /// The model whose fragments may be handed over, where there is one.
    pub fn tensor_model(&self) -> Option<&Arc<TensorModel>> {
        self.tensors.as_ref()
    }

    /// Who performs tasks.
    pub fn provider(&self) -> &Arc<dyn Provider> {
        &self.provider
    }

    /// What embeds texts.
    pub fn embedder(&self) -> &Arc<dyn Embed> {
        &self.embedder
    }

    /// The store of fragments, where the model has one.
    pub fn store(&self) -> Option<&Arc<FragmentStore>> {
        self.store.as_ref()
    }
}
