//! A model on this machine: located, opened, and made into what an engine computes with.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use perennial_ask::chat::ChatCodec;
use perennial_ask::pull::{DecoderName, Profile, Profiles};
use perennial_ask::{AnswerModel as _, CallError, Embed, Failure, LatentReader, TensorModel};
use perennial_bank::FragmentStore;
use perennial_model::arithmetic::Arithmetic;
use perennial_model::digest::ModelDigest;
use perennial_model::embedding::Embedder;
use perennial_model::error::Error as ModelError;
use perennial_model::kv::coding::Coding;
use perennial_model::latent::{LatentProfile, MAX_PROFILE_BYTES, ProfileError};
use perennial_model::locator::{Locator, ModelSpec, OnStderr, Progress, Settings};
use perennial_model::model::{Model, OpenOptions};

use crate::engine::{Error, Runtime};

/// The embedding model behind selection.
const EMBEDDER: &str = "all-minilm-l6-v2";
/// Bytes of KV fragments a model keeps unless told otherwise.
const STORE_BYTES: usize = 1 << 30;

/// How a local model is opened.
#[derive(Clone, Debug)]
pub struct LocalModelOptions {
    /// Threads of a forward pass, and texts embedded at a time.
    pub n_threads: usize,
    /// Byte budget of the fragment store.
    pub store_bytes: usize,
    /// How fragments are coded that this budget has no room for, so that answers which may be provisional need
    /// not read them again; not at all unless told. Codes take up to half of the budget. Codings across layers
    /// have the model read some texts when it is opened.
    pub warm: Option<Coding>,
    /// What the model multiplies in. Fragments and answers of one are none of the other.
    pub arithmetic: Arithmetic,
    /// A profile of the model's heads, as `perennial memory calibrate` wrote it, instead of the one that is
    /// known of the model.
    pub latent_profile: Option<PathBuf>,
    /// By which profile it guesses which answers an edit concerns.
    pub profile: ProfileFrom,
}

/// Where the profile of a model comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ProfileFrom {
    /// From the folder [`Settings::profiles`], if the model was calibrated on this machine; else the one that
    /// the program brings; else the default.
    #[default]
    Found,
    /// From this file.
    File(PathBuf),
    /// The one of models that have none of their own.
    Default,
}

impl Default for LocalModelOptions {
    /// A thread for each core and one GiB of fragments.
    fn default() -> Self {
        Self {
            n_threads: OpenOptions::default().n_threads,
            store_bytes: STORE_BYTES,
            warm: None,
            arithmetic: Arithmetic::default(),
            latent_profile: None,
            profile: ProfileFrom::Found,
        }
    }
}

/// An opened model with its fragment store.
pub struct LocalModel {
    name: String,
    model: Arc<TensorModel>,
    embedder: Arc<dyn Embed>,
    latent: Option<Arc<LatentReader>>,
    digest: ModelDigest,
    n_threads: usize,
}

impl LocalModel {
    /// Finds and opens the model that `spec` names: a known name, a file or a folder. Where weights
    /// come from is as the environment says, and progress is told on standard error.
    ///
    /// # Errors
    /// As [`LocalModel::open_with`].
    pub fn open(spec: &str) -> Result<Self, Error> {
        let locator = Locator::new(Settings::from_env()?);
        let on_stderr = || Box::new(OnStderr::default()) as Box<dyn Progress>;
        let (options, mut progress) = (LocalModelOptions::default(), OnStderr::default());
        Self::open_with(spec, &options, &locator, &mut progress, on_stderr)
    }

    /// Finds and opens the model that `spec` names: a known name, a file or a folder.
    /// Weights that are not on this machine are fetched, with `progress` told.
    ///
    /// The embedding model is fetched and opened when documents first exceed a view's budget; by what fragments are
    /// coded across layers is learnt when that is first wanted. `later_progress` makes what is told then.
    ///
    /// # Errors
    /// What was tried and why it failed, and what to do about it; a profile that cannot be used.
    pub fn open_with(
        spec: &str,
        options: &LocalModelOptions,
        locator: &Locator,
        progress: &mut dyn Progress,
        later_progress: impl Fn() -> Box<dyn Progress> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let n_threads = options.n_threads.max(1);
        let located = locator.locate(&ModelSpec::parse(spec)?, progress)?;
        let open = OpenOptions {
            n_threads,
            arithmetic: options.arithmetic,
            ..OpenOptions::default()
        };
        let model = Model::open(&located, &open, progress)?;
        let codec = ChatCodec::new(model.tokenizer().clone(), model.template())?;
        if let Some(notice) = codec.notice(model.name()) {
            progress.note(&notice);
        }
        if let Some(notice) = model.config().notice(model.name()) {
            progress.note(&notice);
        }
        let profile = match &options.profile {
            ProfileFrom::File(path) => Profile::read(path, &model.digest())?,
            ProfileFrom::Found => {
                Profiles::within(locator.settings().profiles()).of(&model.digest())?
            }
            ProfileFrom::Default => Profile::default(),
        };
        let store = Arc::new(FragmentStore::new(options.store_bytes));
        let (name, digest) = (model.name().to_owned(), model.digest());
        let decoder = Arc::new(model.into_decoder());
        let later_progress = Arc::new(later_progress);
        let of_embedder = later_progress.clone();
        let embedder = LazyEmbedder::new(locator.clone(), n_threads, move || of_embedder());
        let embedder: Arc<dyn Embed> = Arc::new(embedder);
        let model = TensorModel::new(decoder, digest.as_bytes(), codec, store);
        let model = model.telling(later_progress);
        if let Some(coding) = options.warm {
            model.keep_coded(coding)?;
        }
        let heads = match &options.latent_profile {
            Some(path) => Some(read_profile(path, &digest)?),
            None => LatentProfile::known(&digest),
        };
        let latent = heads.map(|profile| model.latent_reader(profile));
        Ok(Self {
            name,
            model: Arc::new(model.judging_by(embedder.clone(), Arc::new(profile))),
            embedder,
            latent: latent.transpose()?.map(Arc::new),
            digest,
            n_threads,
        })
    }

    /// What the model is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name, with the digest by which its profile is found.
    pub fn decoder_name(&self) -> DecoderName {
        DecoderName {
            name: self.name.clone(),
            digest: self.digest,
        }
    }

    /// By what it guesses which answers an edit concerns.
    pub fn profile(&self) -> Option<&Arc<Profile>> {
        self.model.judges_by()
    }

    /// The model itself.
    pub fn tensor_model(&self) -> &Arc<TensorModel> {
        &self.model
    }

    /// The embedding model, fetched and opened at its first use.
    pub fn embedder(&self) -> &Arc<dyn Embed> {
        &self.embedder
    }

    /// Who reads what memories are recalled by, where the model's heads are known.
    pub fn latent(&self) -> Option<&Arc<LatentReader>> {
        self.latent.as_ref()
    }

    /// The digest of its weights.
    pub fn digest(&self) -> ModelDigest {
        self.digest
    }

    /// What an engine computes with.
    pub fn runtime(&self) -> Runtime {
        let runtime = Runtime::new(
            self.model.clone(),
            self.model.store().clone(),
            self.embedder.clone(),
            self.n_threads,
        )
        .handing_over(self.model.clone())
        .named(self.name());
        match &self.latent {
            Some(latent) => runtime.recalling_by(latent.clone()),
            None => runtime,
        }
    }
}

/// The profile in a file, of a model of these weights.
fn read_profile(path: &Path, weights: &ModelDigest) -> Result<LatentProfile, ModelError> {
    let mut text = String::new();
    // One byte more than is read of a profile: a longer file is refused as such.
    let read = std::fs::File::open(path).and_then(|file| {
        file.take(MAX_PROFILE_BYTES as u64 + 1)
            .read_to_string(&mut text)
    });
    let unreadable = |error: std::io::Error| ProfileError::Unreadable {
        reason: format!("{}: {error}", path.display()),
    };
    read.map_err(unreadable)?;
    Ok(LatentProfile::read(&text, weights)?)
}

/// What an engine computes with that embeds texts and asks no language model: for memories, and for
/// scripts that ask nobody. The embedding model is fetched and opened at its first use;
/// `progress` makes what is told then. Who asks it nevertheless is answered with scripted words.
pub fn embedding_only(
    locator: Locator,
    progress: impl Fn() -> Box<dyn Progress> + Send + Sync + 'static,
) -> Runtime {
    let n_threads = OpenOptions::default().n_threads.max(1);
    let embedder = LazyEmbedder::new(locator, n_threads, progress);
    Runtime::embedding(Arc::new(embedder), n_threads)
}

/// Opens the embedding model when the first text comes. A failure is kept: every later
/// text hears the same reason, and none waits for another try.
pub(crate) struct LazyEmbedder {
    locator: Locator,
    n_threads: usize,
    progress: Box<dyn Fn() -> Box<dyn Progress> + Send + Sync>,
    embedder: OnceLock<Result<Embedder, String>>,
    digest: [u8; 32],
}

/// By the digests that the files must have, so that nothing is opened to learn it.
fn digest_of_embedder() -> [u8; 32] {
    let mut hash = blake3::Hasher::new_derive_key("perennial 1 embedding model");
    if let Ok(ModelSpec::Known(model)) = ModelSpec::parse(EMBEDDER) {
        for file in model.files {
            hash.update(file.name.as_bytes());
            hash.update(file.sha256.as_bytes());
        }
    }
    *hash.finalize().as_bytes()
}

impl LazyEmbedder {
    /// `progress` makes what is told when it is fetched.
    pub(crate) fn new(
        locator: Locator,
        n_threads: usize,
        progress: impl Fn() -> Box<dyn Progress> + Send + Sync + 'static,
    ) -> Self {
        Self {
            locator,
            n_threads,
            progress: Box::new(progress),
            embedder: OnceLock::new(),
            digest: digest_of_embedder(),
        }
    }

    fn open(&self) -> Result<Embedder, ModelError> {
        let mut progress = (self.progress)();
        let located = self
            .locator
            .locate(&ModelSpec::parse(EMBEDDER)?, &mut *progress)?;
        Embedder::open(&located.path, self.n_threads)
    }
}

impl Embed for LazyEmbedder {
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Failure> {
        let opened = self
            .embedder
            .get_or_init(|| self.open().map_err(|error| error.to_string()));
        let failed = |reason: &String| CallError::Model {
            reason: reason.clone(),
        };
        Embed::embed(opened.as_ref().map_err(failed)?, texts)
    }

    fn digest(&self) -> [u8; 32] {
        self.digest
    }
}
