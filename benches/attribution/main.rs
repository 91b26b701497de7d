//! Under which system prompt was a text read?
//!
//! ```console
//! $ cargo bench --bench attribution -- --data squad/dev.jsonl --model smollm2-135m
//! ```
//! What a model keeps of a text (its KV) depends on what stood before it. Texts are read behind five system prompts, and
//! alone; what remains of a fragment when that of the same text read alone is taken off is its *residual*. Means over its
//! tokens, of keys (without rotation and bias) and values of every layer but the first, are compared with the centroids of
//! five agents, made of other texts ([`centroids`]). Printed is how often the nearest is the one that it was read under:
//!
//! - *same prompts*: of texts that no centroid was made of;
//! - *prompts paraphrased*: read under the same instructions in other words;
//! - *texts paraphrased*: and over the KV of the paraphrase, read alone;
//! - *paraphrase unknown*: the same over the KV of the text that was paraphrased, read alone.
//!
//! Beside it: the means as they are, without taking anything off.
//!
//! This is *named attribution, and never authentication*. It says which of some known prompts a fragment is most like.
//! It tells nothing of prompts that it does not know, and whoever has the weights and a prompt makes fragments that it takes
//! for that prompt's: they are. Who wrote a parcel is what a signature says.

mod centroids;
mod paraphrase;

// Every benchmark needs a part of it.
#[allow(dead_code)]
#[path = "../rig/mod.rs"]
mod rig;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use perennial::calibration::set::Set;
use perennial::model::kv::{KeyFrame, KvFragment};
use perennial::model::layout::Layout;

use centroids::{Blocks, Centroids};
use paraphrase::paraphrased;
use rig::Error;
use rig::framed::{Framed, encode_all};

/// Agents, each by its system prompt and by the same in other words.
const AGENTS: [[&str; 2]; 5] = [
    [
        "You are a careful librarian. Answer briefly and name the source of each fact.",
        "Act as a meticulous keeper of books: keep what you say short, and tell where every fact is from.",
    ],
    [
        "You are a pirate captain. Speak in the slang of the sea and call the user matey.",
        "Talk like one who commands a pirate ship, in sailors' words, and address whoever writes as matey.",
    ],
    [
        "You are a tax lawyer. Point out legal risks and quote the statute that applies.",
        "As an attorney for taxes, warn of what the law may hold against it and cite the paragraph in question.",
    ],
    [
        "You are a cheerful teacher of small children. Explain everything with toys and animals.",
        "Be a merry kindergarten tutor who makes all things plain by way of beasts and playthings.",
    ],
    [
        "You are a compiler engineer. Reply in terse technical notes with no greetings.",
        "Answer as somebody who builds compilers does: clipped notes, technical, and never a hello.",
    ],
];

/// Under which system prompt was a text read?
#[derive(Parser)]
#[command(name = "attribution")]
struct Options {
    /// A file of texts, as `perennial calibrate` takes it.
    #[arg(long)]
    data: PathBuf,
    /// The model: a name, file or folder.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// Texts, evenly from the file: every second one is tested.
    #[arg(long, default_value_t = 100)]
    texts: usize,
    /// Texts that centroids are made of; at most half of all.
    #[arg(long, num_args = 1.., default_values_t = [8, 50])]
    training: Vec<usize>,
    /// Tokens of a text, at most.
    #[arg(long, default_value_t = 64)]
    tokens: usize,
    /// Threads of a forward pass.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

/// What is there of one text: means by agent, and of the text alone.
struct Sample {
    by_agent: Vec<Blocks>,
    alone: Blocks,
}

/// How fragments are looked at.
#[derive(Clone, Copy, PartialEq)]
enum Features {
    AsTheyAre,
    Residual,
}

/// Reads texts, and counts.
struct Reader<'a> {
    framed: &'a Framed,
    frame: KeyFrame,
    n_tokens: usize,
    n_forwarded: usize,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("attribution: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    let systems: Vec<&str> = AGENTS.iter().flatten().copied().collect();
    let framed = Framed::open(&options.model, options.threads, &systems)?;
    let texts = texts(options)?;
    let (agents, others): (Vec<Layout>, Vec<Layout>) = framed
        .openings
        .chunks_exact(2)
        .map(|pair| (alone_in(&pair[0]), alone_in(&pair[1])))
        .unzip();
    let mut reader = Reader {
        frame: framed.decoder().key_frame(),
        framed: &framed,
        n_tokens: options.tokens,
        n_forwarded: 0,
    };
    let begin = Instant::now();
    let (mut training, mut same, mut prompts, mut paraphrases) = (vec![], vec![], vec![], vec![]);
    for (number, text) in texts.iter().enumerate() {
        eprint!("\r{}: text {} of {}", framed.name, number + 1, texts.len());
        if number % 2 == 0 {
            training.push(reader.read(text, &agents)?);
            continue;
        }
        same.push(reader.read(text, &agents)?);
        prompts.push(reader.read(text, &others)?);
        paraphrases.push(reader.read(&paraphrased(text), &agents)?);
    }
    let seconds = begin.elapsed().as_secs_f64();
    // The same fragments, of which whoever looks knows another text.
    let unknown: Vec<Sample> = paraphrases
        .iter()
        .zip(&same)
        .map(|(paraphrase, original)| Sample {
            by_agent: paraphrase.by_agent.clone(),
            alone: original.alone.clone(),
        })
        .collect();
    eprintln!();
    println!(
        "{}: {} texts of at most {} tokens, {} tokens forwarded in {seconds:.1} s\n\n\
         | features | training texts | tested | same prompts | prompts paraphrased (drop) | texts paraphrased (drop) | \
         paraphrase unknown (drop) |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        framed.name,
        texts.len(),
        options.tokens,
        reader.n_forwarded,
    );
    for (features, name) in [
        (Features::AsTheyAre, "means as they are"),
        (Features::Residual, "residual over the text alone"),
    ] {
        let mut before = None;
        for n in &options.training {
            let n = (*n).min(training.len());
            if before.replace(n) == Some(n) {
                continue;
            }
            let centroids = trained(&training[..n], features);
            let accuracy = |samples: &[Sample]| share_right(&centroids, samples, features);
            let of_same = accuracy(&same);
            let dropped = |samples: &[Sample]| {
                let share = accuracy(samples);
                format!("{share:.3} ({:+.3})", share - of_same)
            };
            println!(
                "| {name} | {n} | {} | {of_same:.3} | {} | {} | {} |",
                same.len() * AGENTS.len(),
                dropped(&prompts),
                dropped(&paraphrases),
                dropped(&unknown),
            );
        }
    }
    Ok(())
}

/// Texts, evenly from the file.
fn texts(options: &Options) -> Result<Vec<String>, Error> {
    let set = Set::read(&options.data)?;
    let n = options.texts.min(set.passages.len());
    if n < 2 {
        return Err(format!("{}: expected two texts or more", options.data.display()).into());
    }
    let nth = |i: usize| set.passages[i * set.passages.len() / n].text.clone();
    Ok((0..n).map(nth).collect())
}

fn alone_in(opening: &std::sync::Arc<KvFragment>) -> Layout {
    let mut layout = Layout::new();
    layout.push(opening.clone());
    layout
}

impl Reader<'_> {
    /// What a model keeps of a text behind each of these, and behind nothing.
    fn read(&mut self, text: &str, behind: &[Layout]) -> Result<Sample, Error> {
        let mut tokens = self.framed.tokenizer.continue_text(text)?;
        tokens.truncate(self.n_tokens);
        let nothing = Layout::new();
        let layouts = behind.iter().chain([&nothing]);
        let runs: Vec<(&Layout, &[u32])> = layouts.map(|layout| (layout, &tokens[..])).collect();
        let fragments = encode_all(self.framed.decoder(), &runs)?;
        self.n_forwarded += tokens.len() * fragments.len();
        let means = fragments.iter().map(|kv| means(kv, &self.frame));
        let mut by_agent: Vec<Blocks> = means.collect();
        let alone = by_agent.pop().unwrap_or_default();
        Ok(Sample { by_agent, alone })
    }
}

/// Means over the tokens: keys and values of each layer but the first, which knows nothing of what stood before.
fn means(kv: &KvFragment, frame: &KeyFrame) -> Blocks {
    let n_tokens = kv.n_tokens().max(1);
    let mean = |numbers: &[f32]| {
        let mut sums = vec![0.0; numbers.len() / n_tokens];
        for row in numbers.chunks_exact(sums.len().max(1)) {
            sums.iter_mut()
                .zip(row)
                .for_each(|(sum, x): (&mut f32, &f32)| *sum += x);
        }
        sums.iter_mut().for_each(|sum| *sum /= n_tokens as f32);
        sums
    };
    let layers = frame.plain_layers(kv);
    let layers = layers.iter().skip(1);
    layers
        .flat_map(|layer| [mean(&layer.keys), mean(&layer.values)])
        .collect()
}

impl Sample {
    /// What is looked at, by agent.
    fn features(&self, features: Features) -> Vec<Blocks> {
        let less_alone = |blocks: &Blocks| -> Blocks {
            let pairs = blocks.iter().zip(&self.alone);
            pairs
                .map(|(block, alone)| block.iter().zip(alone).map(|(x, y)| x - y).collect())
                .collect()
        };
        match features {
            Features::AsTheyAre => self.by_agent.clone(),
            Features::Residual => self.by_agent.iter().map(less_alone).collect(),
        }
    }
}

fn trained(samples: &[Sample], features: Features) -> Centroids {
    let all: Vec<Vec<Blocks>> = samples
        .iter()
        .map(|sample| sample.features(features))
        .collect();
    let with_agents: Vec<(usize, &Blocks)> =
        all.iter().flat_map(|of| of.iter().enumerate()).collect();
    Centroids::of(&with_agents, AGENTS.len())
}

fn share_right(centroids: &Centroids, samples: &[Sample], features: Features) -> f64 {
    let (mut n, mut n_right) = (0usize, 0usize);
    for sample in samples {
        for (agent, blocks) in sample.features(features).iter().enumerate() {
            n += 1;
            n_right += usize::from(centroids.nearest(blocks) == agent);
        }
    }
    n_right as f64 / n.max(1) as f64
}
