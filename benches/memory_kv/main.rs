//! Can a memory be found by what a model computes anyway, and how small may it be?
//!
//! `cargo bench --bench memory_kv -- --data squad.jsonl [--model NAME]` takes passages of a question
//! set, each with a question that it answers. A quarter of the questions chooses the heads of a
//! latent profile and all scales; the others are what is told:
//!
//! - **recall**: is the passage found among all, by latent keys, by an embedding model, by both?
//! - **codings**: which tokens of the gold answer does the model expect over passages that were coded,
//!   against the same passages as they were encoded? KL is that of f16 to coded, a token, teacher-forced.
//!
//! Every row is `{"title", "text", "questions": [{"question", "answers"}]}`.

mod codings;
mod recall;
mod set;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use perennial_ask::TextCodec as _;
use perennial_ask::chat::ChatCodec;
use perennial_model::cancel::Cancel;
use perennial_model::decoder::{Decoder, Logits, Rows};
use perennial_model::digest::ModelDigest;
use perennial_model::kv::KvFragment;
use perennial_model::layout::Layout;
use perennial_model::locator::{Locator, ModelSpec, OnStderr, Settings};
use perennial_model::model::{Model, OpenOptions};

type Error = Box<dyn std::error::Error>;

/// Recall by latent keys, and codings of KV state.
#[derive(Parser)]
#[command(name = "memory_kv")]
struct Options {
    /// The question set: JSON lines.
    #[arg(long, required = true)]
    data: PathBuf,
    /// The model: a name, file or folder.
    #[arg(long, default_value = "qwen2.5-coder-0.5b")]
    model: String,
    /// Passages, taken evenly over the set.
    #[arg(long, default_value_t = 240)]
    passages: usize,
    /// Questions of the codings' table.
    #[arg(long, default_value_t = 24)]
    cases: usize,
    /// Threads of a forward pass.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

/// A model, and its prompt.
struct Bench {
    name: String,
    digest: ModelDigest,
    decoder: Decoder,
    codec: ChatCodec,
    /// The shared prefix.
    prefix: Arc<KvFragment>,
}

impl Bench {
    fn open(spec: &str, n_threads: usize) -> Result<Self, Error> {
        let mut progress = OnStderr::default();
        let locator = Locator::new(Settings::from_env()?);
        let located = locator.locate(&ModelSpec::parse(spec)?, &mut progress)?;
        let open = OpenOptions {
            n_threads,
            ..OpenOptions::default()
        };
        let model = Model::open(&located, &open, &mut progress)?;
        let codec = ChatCodec::new(model.tokenizer().clone(), model.template())?;
        let digest = model.digest();
        let decoder = model.into_decoder();
        let prefix = encode(&decoder, &Layout::new(), codec.prefix())?;
        Ok(Self {
            name: located.name,
            digest,
            decoder,
            codec,
            prefix: Arc::new(prefix),
        })
    }

    /// What every fragment and question stands behind.
    fn behind_prefix(&self) -> Layout {
        let mut layout = Layout::new();
        layout.push(self.prefix.clone());
        layout
    }

    fn encode(&self, layout: &Layout, tokens: &[u32]) -> Result<KvFragment, Error> {
        encode(&self.decoder, layout, tokens)
    }
}

fn encode(decoder: &Decoder, layout: &Layout, tokens: &[u32]) -> Result<KvFragment, Error> {
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
    Ok(tail.freeze())
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("memory_kv: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    let set = set::read(&options.data, options.passages)?;
    let bench = Bench::open(&options.model, options.threads)?;
    println!("{}, weights {}\n", bench.name, bench.digest);
    println!("{}", recall::table(&bench, &set, options.threads)?);
    println!("{}", codings::table(&bench, &set, options.cases)?);
    Ok(())
}
