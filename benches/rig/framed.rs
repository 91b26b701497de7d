//! What is a text read behind, and what does a model make of it?

use std::sync::Arc;

use perennial::ask::chat::ChatCodec;
use perennial::ask::{TensorModel, TextCodec as _};
use perennial::bank::FragmentStore;
use perennial::model::cancel::Cancel;
use perennial::model::decoder::{Decoder, Logits, Rows};
use perennial::model::divergence::log_softmax;
use perennial::model::error::Error as ModelError;
use perennial::model::kv::{KvFragment, Tail};
use perennial::model::layout::Layout;
use perennial::model::locator::{Locator, ModelSpec, OnStderr, Settings};
use perennial::model::model::{Model, OpenOptions};
use perennial::model::tokenizer::Tokenizer;

use super::Error;
use super::opened::encode;

/// A model with what its prompts begin with.
pub struct Framed {
    /// What the model is called.
    pub name: String,
    /// The model, over an empty store.
    pub model: TensorModel,
    /// Its prompts.
    pub codec: ChatCodec,
    /// Makes tokens.
    pub tokenizer: Tokenizer,
    /// What the prompts of this program begin with.
    pub prefix: Arc<KvFragment>,
    /// What a prompt begins with under each of the system prompts that were asked for.
    pub openings: Vec<Arc<KvFragment>>,
}

impl Framed {
    /// Finds and opens a model.
    pub fn open(spec: &str, n_threads: usize, systems: &[&str]) -> Result<Self, Error> {
        let mut progress = OnStderr::default();
        let locator = Locator::new(Settings::from_env()?);
        let located = locator.locate(&ModelSpec::parse(spec)?, &mut progress)?;
        let open = OpenOptions {
            n_threads,
            ..OpenOptions::default()
        };
        let model = Model::open(&located, &open, &mut progress)?;
        let codec = || ChatCodec::new(model.tokenizer().clone(), model.template());
        let (codec, of_model, digest) = (codec()?, codec()?, model.digest());
        let tokenizer = model.tokenizer().clone();
        let mut openings = Vec::new();
        for system in systems {
            let [opening, _] = model.template().frame(system)?;
            openings.push(tokenizer.encode_template(&opening)?);
        }
        let decoder = Arc::new(model.into_decoder());
        let nothing = Layout::new();
        let prefix = encode(&decoder, &nothing, codec.prefix())?;
        let openings = openings
            .iter()
            .map(|tokens| encode(&decoder, &nothing, tokens))
            .collect::<Result<_, _>>()?;
        let store = Arc::new(FragmentStore::new(0));
        Ok(Self {
            name: located.name,
            model: TensorModel::new(decoder, digest.as_bytes(), of_model, store),
            codec,
            tokenizer,
            prefix,
            openings,
        })
    }

    /// Runs tokens.
    pub fn decoder(&self) -> &Decoder {
        self.model.decoder()
    }

    /// What a question stands behind: the prefix, and these fragments.
    pub fn layout(&self, fragments: &[Arc<KvFragment>]) -> Layout {
        let mut layout = Layout::new();
        layout.push(self.prefix.clone());
        fragments.iter().for_each(|kv| layout.push(kv.clone()));
        layout
    }

    /// What is expected of the last `n_last` of these tokens' successors, in logarithms of likelihoods: one row each.
    pub fn expected(
        &self,
        layout: &Layout,
        tokens: &[u32],
        n_last: usize,
    ) -> Result<Vec<Vec<f64>>, ModelError> {
        let decoder = self.decoder();
        let mut tail = decoder.new_tail(layout.end());
        let rows = Rows {
            layout,
            pending: &[],
            tail: &mut tail,
            tokens,
            logits: Logits::From(tokens.len() - n_last),
            mass: false,
        };
        let output = decoder.forward(&mut [rows], &Cancel::new())?;
        let n_vocab = decoder.config().n_vocab;
        Ok(output[0].logits.chunks(n_vocab).map(log_softmax).collect())
    }
}

/// Runs of tokens, each behind a layout of its own, in one pass.
pub fn encode_all(
    decoder: &Decoder,
    runs: &[(&Layout, &[u32])],
) -> Result<Vec<KvFragment>, ModelError> {
    let tails = runs
        .iter()
        .map(|(layout, _)| decoder.new_tail(layout.end()));
    let mut tails: Vec<Tail> = tails.collect();
    let rows = runs.iter().zip(&mut tails);
    let rows = rows.map(|((layout, tokens), tail)| Rows {
        layout,
        pending: &[],
        tail,
        tokens,
        logits: Logits::None,
        mass: false,
    });
    let mut batch: Vec<Rows<'_>> = rows.collect();
    decoder.forward(&mut batch, &Cancel::new())?;
    Ok(tails.into_iter().map(Tail::freeze).collect())
}
