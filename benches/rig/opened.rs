//! What is needed of a model here?

use std::path::PathBuf;
use std::sync::Arc;

use perennial::ask::chat::ChatCodec;
use perennial::ask::pull::Profiles;
use perennial::ask::{Embed, TensorModel};
use perennial::bank::FragmentStore;
use perennial::model::cancel::Cancel;
use perennial::model::decoder::{Decoder, Logits, Rows};
use perennial::model::embedding::Embedder;
use perennial::model::error::Error as ModelError;
use perennial::model::kv::KvFragment;
use perennial::model::layout::Layout;
use perennial::model::locator::{Locator, ModelSpec, OnStderr, Settings};
use perennial::model::model::{Model, OpenOptions};
use perennial::model::tokenizer::Tokenizer;

use super::Error;

/// A model's parts.
pub struct Opened {
    /// What the model is called.
    pub name: String,
    /// Its file or folder.
    pub path: PathBuf,
    /// Runs tokens.
    pub decoder: Arc<Decoder>,
    /// Makes tokens.
    pub tokenizer: Tokenizer,
    /// Answers as views do, over an empty store.
    pub model: TensorModel,
}

impl Opened {
    /// Finds and opens a model.
    pub fn find(spec: &str, n_threads: usize) -> Result<Self, Error> {
        let mut progress = OnStderr::default();
        let settings = Settings::from_env()?;
        let profiles = Profiles::within(settings.profiles());
        let located = Locator::new(settings).locate(&ModelSpec::parse(spec)?, &mut progress)?;
        let open = OpenOptions {
            n_threads,
            ..OpenOptions::default()
        };
        let model = Model::open(&located, &open, &mut progress)?;
        let tokenizer = model.tokenizer().clone();
        let codec = ChatCodec::new(tokenizer.clone(), model.template())?;
        let digest = model.digest();
        let decoder = Arc::new(model.into_decoder());
        let store = Arc::new(FragmentStore::new(0));
        let model = TensorModel::new(decoder.clone(), digest.as_bytes(), codec, store);
        Ok(Self {
            name: located.name,
            path: located.path,
            decoder,
            tokenizer,
            model: model.judging_by(embedder(n_threads)?, Arc::new(profiles.of(&digest)?)),
        })
    }

    /// The file's or folder's own name.
    pub fn file_name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// The fragment of these tokens, encoded behind a layout.
pub fn encode(
    decoder: &Decoder,
    layout: &Layout,
    tokens: &[u32],
) -> Result<Arc<KvFragment>, ModelError> {
    let mut tail = decoder.new_tail(layout.end());
    let rows = Rows {
        layout,
        pending: &[],
        tail: &mut tail,
        tokens,
        logits: Logits::None,
        mass: false,
    };
    decoder.forward(&mut [rows], &Cancel::new())?;
    Ok(Arc::new(tail.freeze()))
}

/// The embedding model.
pub fn embedder(n_threads: usize) -> Result<Arc<dyn Embed>, Error> {
    let mut progress = OnStderr::default();
    let spec = ModelSpec::parse("all-minilm-l6-v2")?;
    let located = Locator::new(Settings::from_env()?).locate(&spec, &mut progress)?;
    Ok(Arc::new(Embedder::open(&located.path, n_threads)?))
}
