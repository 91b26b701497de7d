//! What is the KV of one model worth to another?
//!
//! A ridge map takes keys and values of one model to those of another that has the same tokens: each layer of the other
//! from the three layers that stand at its height. How much of the variance of other texts it predicts, and what
//! the other model then makes of a question over a passage that it never read.

use std::sync::Arc;

use perennial::ask::TextCodec as _;
use perennial::calibration::PROMPT;
use perennial::calibration::set::Passage;
use perennial::model::divergence::kl;
use perennial::model::kv::{KvFragment, PlainLayer};

use crate::Options;
use crate::ridge::Ridge;
use crate::rig::Error;
use crate::rig::framed::Framed;
use crate::rig::opened::encode;

/// Two models over the same texts.
struct Pair<'a> {
    from: &'a Framed,
    to: &'a Framed,
    n_tokens: usize,
}

/// One text as both have it.
struct Read {
    from: Arc<KvFragment>,
    to: Arc<KvFragment>,
}

/// Sums of squares: what is left, and what there was.
#[derive(Clone, Copy, Default)]
struct Explained {
    left: f64,
    all: f64,
}

/// What became of one kind of KV.
#[derive(Default)]
struct Line {
    divergences: Vec<f64>,
    n_same: usize,
    log_likelihood: f64,
    n: usize,
}

impl Pair<'_> {
    fn read(&self, passage: &Passage) -> Result<Read, Error> {
        let of = |framed: &Framed| framed.codec.passage(&passage.title, &passage.text);
        let (mut tokens, others) = (of(self.from)?, of(self.to)?);
        if tokens != others {
            let (from, to) = (&self.from.name, &self.to.name);
            return Err(format!(
                "{from} and {to} have other tokens: nothing can be mapped token by token"
            )
            .into());
        }
        tokens.truncate(self.n_tokens);
        Ok(Read {
            from: encode(self.from.decoder(), &self.from.layout(&[]), &tokens)?,
            to: encode(self.to.decoder(), &self.to.layout(&[]), &tokens)?,
        })
    }
}

/// The rows of three layers at the height of layer `at` of `n_to`, side by side.
fn around(layers: &[PlainLayer], n_tokens: usize, at: usize, n_to: usize) -> Vec<f32> {
    let last = layers.len() - 1;
    let middle = (at * last + (n_to - 1) / 2) / (n_to - 1).max(1);
    let heights = [middle.saturating_sub(1), middle, (middle + 1).min(last)];
    let mut rows = Vec::new();
    for token in 0..n_tokens {
        for height in heights {
            for numbers in [&layers[height].keys, &layers[height].values] {
                let width = numbers.len() / n_tokens;
                rows.extend(&numbers[token * width..][..width]);
            }
        }
    }
    rows
}

/// Prints the table of a pair of models.
pub fn measure(
    from: &Framed,
    to: &Framed,
    options: &Options,
    passages: &[Passage],
) -> Result<(), Error> {
    let pair = Pair {
        from,
        to,
        n_tokens: options.tokens,
    };
    let (of_training, of_tests) = passages.split_at(options.training.min(passages.len()));
    let (from_frame, to_frame) = (from.decoder().key_frame(), to.decoder().key_frame());
    let shape = to_frame.shape();
    let width = shape.n_kv_heads * shape.head_dim;
    let (mut x, mut y) = (
        vec![Vec::<f32>::new(); shape.n_layers],
        vec![Vec::<f32>::new(); shape.n_layers],
    );
    let mut n_fitted = 0;
    for (number, passage) in of_training.iter().enumerate() {
        eprint!(
            "\r{} and {}: text {} of {}",
            from.name,
            to.name,
            number + 1,
            of_training.len()
        );
        let read = pair.read(passage)?;
        let n_tokens = read.to.n_tokens();
        n_fitted += n_tokens;
        let (source, target) = (
            from_frame.plain_layers(&read.from),
            to_frame.plain_layers(&read.to),
        );
        for (at, target) in target.iter().enumerate() {
            x[at].extend(around(&source, n_tokens, at, shape.n_layers));
            for token in 0..n_tokens {
                y[at].extend(&target.keys[token * width..][..width]);
                y[at].extend(&target.values[token * width..][..width]);
            }
        }
    }
    let n_in = x[0].len() / n_fitted.max(1);
    if n_in == 0 {
        return Err("no text to fit a map on: more --training".into());
    }
    let maps: Vec<Ridge> = x
        .iter()
        .zip(&y)
        .map(|(x, y)| Ridge::fit((x, n_in), (y, 2 * width)))
        .collect();
    let (mut keys, mut values) = (Explained::default(), Explained::default());
    let (mut mapped, mut nothing, mut small) = (Line::default(), Line::default(), Line::default());
    let mut own = Line::default();
    for passage in of_tests {
        let Some(asked) = passage.questions.first() else {
            continue;
        };
        let read = pair.read(passage)?;
        let n_tokens = read.to.n_tokens();
        let source = from_frame.plain_layers(&read.from);
        let target = to_frame.plain_layers(&read.to);
        let mut layers = Vec::new();
        for (at, map) in maps.iter().enumerate() {
            let rows = map.map(&around(&source, n_tokens, at, shape.n_layers));
            let part = |first: usize| -> Vec<f32> {
                let rows = rows.chunks_exact(2 * width);
                rows.flat_map(|row| row[first..first + width].iter().copied())
                    .collect()
            };
            let layer = PlainLayer {
                keys: part(0),
                values: part(width),
            };
            keys.add(&layer.keys, &target[at].keys, width);
            values.add(&layer.values, &target[at].values, width);
            layers.push(layer);
        }
        let made = to_frame.fragment(&layers, read.to.base(), n_tokens);
        let made = Arc::new(made.ok_or("a number of the map is not finite")?);
        let answer = to.codec.answer(&asked.answers[0])?;
        let tokens = |framed: &Framed| -> Result<Vec<u32>, Error> {
            let mut tokens = framed
                .codec
                .suffix(PROMPT, &format!("Question: {}", asked.question))?;
            tokens.extend(&answer[..answer.len() - 1]);
            Ok(tokens)
        };
        let expected = |framed: &Framed, kv: &[Arc<KvFragment>]| -> Result<Vec<Vec<f64>>, Error> {
            Ok(framed.expected(&framed.layout(kv), &tokens(framed)?, answer.len())?)
        };
        let truth = expected(to, &[read.to])?;
        own.add(&truth, &truth, &answer);
        mapped.add(&truth, &expected(to, &[made])?, &answer);
        nothing.add(&truth, &expected(to, &[])?, &answer);
        small.add(&truth, &expected(from, &[read.from])?, &answer);
        eprint!("\r{} answer tokens            ", own.n);
    }
    eprintln!();
    println!(
        "\n{} to {}: fitted on {n_fitted} tokens, {n_in} numbers to {}; of other texts' variance it predicts {:.2} of keys \
         and {:.2} of values\n\n\
         | KV of the passage | answer tokens | KL | same likeliest | gold answer, nats a token |\n\
         | --- | ---: | ---: | ---: | ---: |",
        from.name,
        to.name,
        2 * width,
        keys.share(),
        values.share(),
    );
    own.print(&format!("{}, its own", to.name));
    mapped.print(&format!("{}, mapped from {}", to.name, from.name));
    small.print(&format!("{}, its own", from.name));
    nothing.print(&format!("{}, none", to.name));
    Ok(())
}

impl Explained {
    /// One layer of one text.
    fn add(&mut self, predicted: &[f32], actual: &[f32], width: usize) {
        let mean = crate::nearest::mean(actual, width);
        for (predicted, actual) in predicted
            .chunks_exact(width)
            .zip(actual.chunks_exact(width))
        {
            for ((predicted, actual), mean) in predicted.iter().zip(actual).zip(&mean) {
                self.left += f64::from(predicted - actual).powi(2);
                self.all += f64::from(actual - mean).powi(2);
            }
        }
    }

    /// The share that was predicted; below 0 where the mean would have been nearer.
    fn share(self) -> f64 {
        1.0 - self.left / self.all.max(f64::MIN_POSITIVE)
    }
}

impl Line {
    fn add(&mut self, truth: &[Vec<f64>], expected: &[Vec<f64>], answer: &[u32]) {
        for ((p, q), token) in truth.iter().zip(expected).zip(answer) {
            self.n += 1;
            self.divergences.push(kl(p, q));
            self.n_same += usize::from(likeliest(p) == likeliest(q));
            self.log_likelihood += q[*token as usize];
        }
    }

    fn print(&self, name: &str) {
        let share = |x: f64| x / self.n.max(1) as f64;
        println!(
            "| {name} | {} | {:.3} | {:.3} | {:.3} |",
            self.n,
            share(self.divergences.iter().sum()),
            share(self.n_same as f64),
            share(-self.log_likelihood),
        );
    }
}

fn likeliest(p: &[f64]) -> Option<usize> {
    (0..p.len()).max_by(|a, b| p[*a].total_cmp(&p[*b]))
}
