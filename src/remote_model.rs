//! A model behind HTTP, made into what an engine computes with.

use std::sync::Arc;

use perennial_ask::remote::RemoteModel;
use perennial_model::locator::{Locator, Progress};

use crate::engine::Runtime;
use crate::local_model::LazyEmbedder;

/// What an engine computes with, of a model behind HTTP.
pub trait RemoteRuntime {
    /// A runtime that asks the model, and selects passages by the embedding model of this machine,
    /// which is fetched and opened when documents first exceed a view's budget; `progress` makes what
    /// is told then.
    fn runtime(
        self,
        locator: &Locator,
        n_embed_threads: usize,
        progress: impl Fn() -> Box<dyn Progress> + Send + Sync + 'static,
    ) -> Runtime;
}

impl RemoteRuntime for RemoteModel {
    fn runtime(
        self,
        locator: &Locator,
        n_embed_threads: usize,
        progress: impl Fn() -> Box<dyn Progress> + Send + Sync + 'static,
    ) -> Runtime {
        let embedder = LazyEmbedder::new(locator.clone(), n_embed_threads, progress);
        Runtime::remote(Arc::new(self), Arc::new(embedder), n_embed_threads)
    }
}
