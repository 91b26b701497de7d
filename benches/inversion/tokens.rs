//! Which tokens do keys and values give back?
//!
//! Whoever has the weights encodes every token of the vocabulary by itself, and looks for the nearest. In the first
//! layer keys and values are a function of the token alone, so that is all there is to it. In deeper layers they have
//! seen what stands before; there the nearest is looked for by direction, each side less its own mean. A second way goes back: a
//! ridge map from a layer's keys and values to the values of the first layer, fitted on other texts.

use perennial::model::kv::coding::{CodedKv, Coding};
use perennial::model::kv::{KeyFrame, KvFragment, PlainLayer};
use perennial::model::layout::Layout;

use crate::Options;
use crate::nearest::{Nearest, directions, mean};
use crate::ridge::Ridge;
use crate::rig::Error;
use crate::rig::framed::{Framed, encode_all};

/// Tokens of the vocabulary that are encoded in one pass.
const N_AT_ONCE: usize = 256;
/// Levels of two bits.
const LEVELS: f32 = 3.0;

/// Keys or values of one layer, `[n_tokens][width]`.
#[derive(Default)]
struct Layer {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// What texts are encoded as.
struct Texts {
    tokens: Vec<u32>,
    fragments: Vec<KvFragment>,
}

impl Texts {
    fn read(framed: &Framed, texts: &[String], n_tokens: usize) -> Result<Self, Error> {
        let mut read = Self {
            tokens: Vec::new(),
            fragments: Vec::new(),
        };
        let layout = framed.layout(&[]);
        for text in texts {
            let mut tokens = framed.tokenizer.continue_text(text)?;
            tokens.truncate(n_tokens);
            read.fragments
                .extend(encode_all(framed.decoder(), &[(&layout, &tokens)])?);
            read.tokens.extend(tokens);
        }
        Ok(read)
    }

    /// One layer of all of them, as `code` leaves it.
    fn layer(
        &self,
        number: usize,
        code: impl Fn(&KvFragment) -> Result<Vec<PlainLayer>, Error>,
    ) -> Result<Layer, Error> {
        let mut layer = Layer::default();
        for kv in &self.fragments {
            let layers = code(kv)?;
            layer.keys.extend(&layers[number].keys);
            layer.values.extend(&layers[number].values);
        }
        Ok(layer)
    }
}

/// The layers that are looked at: the first, those behind it, and then some up to the last.
fn layers(n_layers: usize) -> Vec<usize> {
    let mut layers = vec![0, 1, 2, 4, n_layers / 4, n_layers / 2, n_layers - 1];
    layers.retain(|layer| *layer < n_layers);
    layers.sort_unstable();
    layers.dedup();
    layers
}

/// Prints the table of one model.
pub fn measure(framed: &Framed, options: &Options, texts: &[String]) -> Result<(), Error> {
    let (training, tested) = texts.split_at(options.training);
    let training = Texts::read(framed, training, options.tokens)?;
    let tested = Texts::read(framed, tested, options.tokens)?;
    let frame = framed.decoder().key_frame();
    let numbers = layers(frame.shape().n_layers);
    let vocabulary = vocabulary(framed, &frame, &numbers)?;
    let head_dim = frame.shape().head_dim;
    let width = frame.shape().n_kv_heads * head_dim;
    let n = tested.tokens.len();
    let share = |found: &[u32]| {
        let right = found.iter().zip(&tested.tokens).filter(|(a, b)| a == b);
        right.count() as f64 / n.max(1) as f64
    };
    println!(
        "\n| model | layer | KV | tokens | given back by keys | by values | by a ridge map to the first layer |\n\
         | --- | ---: | --- | ---: | ---: | ---: | ---: |"
    );
    let row = |layer: usize, kv: &str, keys: f64, values: f64, ridge: Option<f64>| {
        let ridge = ridge.map_or("-".to_owned(), |share| format!("{share:.3}"));
        println!(
            "| {} | {layer} | {kv} | {n} | {keys:.3} | {values:.3} | {ridge} |",
            framed.name
        );
    };
    let first = &vocabulary[0];
    let by_keys = Nearest::by_distance(&first.keys, width);
    let by_values = Nearest::by_distance(&first.values, width);
    for (name, coding) in [
        ("f16", None),
        ("k8v4", Some(Coding::K8V4)),
        ("q4", Some(Coding::Q4Blocks)),
    ] {
        let layer = tested.layer(0, |kv| plain(kv, coding, &frame))?;
        let keys = share(&by_keys.of(&layer.keys, width));
        row(
            0,
            name,
            keys,
            share(&by_values.of(&layer.values, width)),
            None,
        );
    }
    if options.across {
        let across = framed.model.coding_frame(Coding::T8)?;
        let layer = tested.layer(0, |kv| plain(kv, Some(Coding::T8), &across))?;
        let keys = share(&by_keys.of(&layer.keys, width));
        row(
            0,
            "t8",
            keys,
            share(&by_values.of(&layer.values, width)),
            None,
        );
    }
    let layer = tested.layer(0, |kv| plain(kv, None, &frame))?;
    for (name, span) in [
        ("2 bits, a range a token", width),
        ("2 bits, a range a token and head", head_dim),
    ] {
        let keys = share(&by_keys.of(&two_bits(&layer.keys, span), width));
        let values = share(&by_values.of(&two_bits(&layer.values, span), width));
        row(0, name, keys, values, None);
    }
    let to = training.layer(0, |kv| plain(kv, None, &frame))?.values;
    let back = Nearest::by_direction(&first.values, width);
    let common = mean(&first.values, width);
    for (number, own) in numbers.iter().zip(&vocabulary).skip(1) {
        let fitted = training.layer(*number, |kv| plain(kv, None, &frame))?;
        let layer = tested.layer(*number, |kv| plain(kv, None, &frame))?;
        let direct = |own: &[f32], fitted: &[f32], tested: &[f32]| {
            let tested = directions(tested, width, &mean(fitted, width));
            share(&Nearest::by_direction(own, width).of(&tested, width))
        };
        let keys = direct(&own.keys, &fitted.keys, &layer.keys);
        let values = direct(&own.values, &fitted.values, &layer.values);
        let map = Ridge::fit((&side_by_side(&fitted, width), 2 * width), (&to, width));
        let mapped = map.map(&side_by_side(&layer, width));
        let ridge = share(&back.of(&directions(&mapped, width, &common), width));
        row(*number, "f16", keys, values, Some(ridge));
    }
    Ok(())
}

/// A fragment as it comes back of a coding, without rotation and bias.
fn plain(
    kv: &KvFragment,
    coding: Option<Coding>,
    frame: &KeyFrame,
) -> Result<Vec<PlainLayer>, Error> {
    Ok(match coding {
        None => frame.plain_layers(kv),
        Some(coding) => frame.plain_layers(&CodedKv::encode(kv, coding, frame)?.decode(frame)?),
    })
}

/// Some layers of every token of the vocabulary, encoded by itself.
fn vocabulary(framed: &Framed, frame: &KeyFrame, numbers: &[usize]) -> Result<Vec<Layer>, Error> {
    let nothing = Layout::new();
    let n_vocab = framed.decoder().config().n_vocab as u32;
    let mut layers: Vec<Layer> = numbers.iter().map(|_| Layer::default()).collect();
    let all: Vec<u32> = (0..n_vocab).collect();
    for (tokens, number) in all.chunks(N_AT_ONCE).zip(0..) {
        if number % 16 == 0 {
            eprint!(
                "\r{}: token {} of {n_vocab}   ",
                framed.name,
                number * N_AT_ONCE
            );
        }
        let runs = tokens
            .iter()
            .map(|token| (&nothing, std::slice::from_ref(token)));
        let runs: Vec<(&Layout, &[u32])> = runs.collect();
        for kv in encode_all(framed.decoder(), &runs)? {
            let plain = frame.plain_layers(&kv);
            for (layer, number) in layers.iter_mut().zip(numbers) {
                layer.keys.extend(&plain[*number].keys);
                layer.values.extend(&plain[*number].values);
            }
        }
    }
    eprintln!();
    Ok(layers)
}

/// Numbers in four levels, from the least to the largest of so many.
fn two_bits(rows: &[f32], span: usize) -> Vec<f32> {
    let coded = |row: &[f32]| -> Vec<f32> {
        let least = row.iter().copied().fold(f32::INFINITY, f32::min);
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let step = ((largest - least) / LEVELS).max(f32::MIN_POSITIVE);
        row.iter()
            .map(|x| least + ((x - least) / step).round() * step)
            .collect()
    };
    rows.chunks_exact(span).flat_map(coded).collect()
}

/// Keys and values of each token, one row.
fn side_by_side(layer: &Layer, width: usize) -> Vec<f32> {
    let rows = layer
        .keys
        .chunks_exact(width)
        .zip(layer.values.chunks_exact(width));
    rows.flat_map(|(keys, values)| keys.iter().chain(values).copied())
        .collect()
}
