//! How does a hub's `config.json` rotate?
//!
//! What it says has moved over the years: `rope_theta` beside `rope_scaling`, in which the kind is
//! called `type` or `rope_type`; in newer files all in `rope_parameters`. Where two of them say
//! different things, libraries differ in whom they follow, so the file is refused.

use serde_json::Value as Json;

use super::{family::Family, hub_config::File};
use crate::{config::RopeScaling, error::Error};

const DEFAULT_THETA: f64 = 10_000.0;
const SUPPORTED: &str = "default, linear, llama3";

/// Parameters of each kind besides its name.
const LINEAR: &[&str] = &["factor"];
const LLAMA3: &[&str] = &[
    "factor",
    "high_freq_factor",
    "low_freq_factor",
    "original_max_position_embeddings",
];
/// Those of long contexts are not read: where they would be used, contexts are capped.
const LONGROPE: &[&str] = &[
    "attention_factor",
    "long_factor",
    "original_max_position_embeddings",
    "short_factor",
];
/// What may stand beside them whatever the kind: the names of the kind, and what is read elsewhere
/// here.
const ANYWHERE: [&str; 4] = ["partial_rotary_factor", "rope_theta", "rope_type", "type"];

/// What a file says of rotation.
pub(super) struct HubRotation {
    pub theta: f32,
    pub scaling: RopeScaling,
    pub rotated_dims: usize,
    /// Positions up to which it holds.
    pub max_positions: usize,
}

/// Reads the rotation of heads of this width, in a file that names so many positions.
pub(super) fn read(
    file: &File<'_>,
    family: &Family,
    head_dim: usize,
    trained_positions: usize,
) -> Result<HubRotation, Error> {
    let (older, newer) = (&file.json["rope_scaling"], &file.json["rope_parameters"]);
    let (mut thetas, mut parts) = (Vec::new(), Vec::new());
    for (json, what) in [
        (&file.json, "the file"),
        (newer, "rope_parameters"),
        (older, "rope_scaling"),
    ] {
        thetas.extend(positive(file, json, "rope_theta", what)?);
        parts.extend(positive(file, json, "partial_rotary_factor", what)?);
    }
    let theta = thetas.first().copied().unwrap_or(DEFAULT_THETA);
    if thetas.iter().any(|other| *other != theta) {
        return Err(file.corrupt(format!("`rope_theta` is said to be each of {thetas:?}")));
    }
    let part = parts.first().copied().unwrap_or(1.0);
    if parts.iter().any(|other| *other != part) {
        let reason = format!("`partial_rotary_factor` is said to be each of {parts:?}");
        return Err(file.corrupt(reason));
    }
    if part > 1.0 || (part < 1.0 && !family.rotates_parts) {
        let got = part.to_string();
        return Err(file.unsupported("share of heads that is rotated", &got, "1"));
    }
    let positions = Positions::read(file, family, older, newer, trained_positions)?;
    let (by_older, by_newer) = (
        scaling(file, older, &positions)?,
        scaling(file, newer, &positions)?,
    );
    let scaling = match (by_older, by_newer) {
        (older, None) => older,
        (None, newer) => newer,
        (older, newer) if older == newer => newer,
        _ => {
            return Err(file.corrupt("`rope_scaling` and `rope_parameters` say different things"));
        }
    };
    let max_positions = match (&scaling, positions.original) {
        (Some(RopeScaling::Divisors { .. }), Some(original)) => trained_positions.min(original),
        _ => trained_positions,
    };
    Ok(HubRotation {
        theta: theta as f32,
        scaling: scaling.unwrap_or(RopeScaling::None),
        rotated_dims: (part * head_dim as f64) as usize,
        max_positions,
    })
}

/// How long contexts are, for LongRoPE.
struct Positions {
    /// Whether the family has it.
    may_be_long: bool,
    trained: usize,
    /// Those of the first training.
    original: Option<usize>,
}

impl Positions {
    fn read(
        file: &File<'_>,
        family: &Family,
        older: &Json,
        newer: &Json,
        trained: usize,
    ) -> Result<Self, Error> {
        const ORIGINAL: &str = "original_max_position_embeddings";
        let mut original = None;
        for (json, what) in [
            (&file.json, "the file"),
            (newer, "rope_parameters"),
            (older, "rope_scaling"),
        ] {
            original = original.or(positive(file, json, ORIGINAL, what)?);
        }
        Ok(Self {
            may_be_long: family.rotates_parts,
            trained,
            original: original.map(|n| n as usize),
        })
    }

    /// What LongRoPE multiplies rotated heads with, by the paper's rule (arXiv 2402.13753).
    fn attention_factor(&self, original: usize) -> f64 {
        let factor = self.trained as f64 / original as f64;
        match factor > 1.0 {
            true => (1.0 + factor.ln() / (original as f64).ln()).sqrt(),
            false => 1.0,
        }
    }
}

/// A number above zero, if it is there.
fn positive(file: &File<'_>, json: &Json, key: &str, what: &str) -> Result<Option<f64>, Error> {
    match &json[key] {
        Json::Null => Ok(None),
        value => match value.as_f64().filter(|x| x.is_finite() && *x > 0.0) {
            Some(x) => Ok(Some(x)),
            None => Err(file.corrupt(format!("`{key}` of {what} is {value}"))),
        },
    }
}

/// The scaling in `rope_scaling` or `rope_parameters`; none where there is no such object.
fn scaling(
    file: &File<'_>,
    json: &Json,
    positions: &Positions,
) -> Result<Option<RopeScaling>, Error> {
    let fields = match json {
        Json::Null => return Ok(None),
        Json::Object(fields) => fields,
        other => return Err(file.corrupt(format!("rope scaling is {other}"))),
    };
    let mut kinds = Vec::new();
    for name in ["rope_type", "type"] {
        match &json[name] {
            Json::Null => {}
            Json::String(kind) => kinds.push(kind.as_str()),
            other => return Err(file.corrupt(format!("rope scaling of {name} {other}"))),
        }
    }
    let kind = kinds.first().copied().unwrap_or("default");
    if kinds.iter().any(|other| *other != kind) {
        return Err(file.corrupt(format!("rope scaling of both types {kinds:?}")));
    }
    let real = |key: &str| {
        let value = positive(file, json, key, "rope scaling")?;
        value.ok_or_else(|| file.corrupt(format!("rope scaling `{kind}` without `{key}`")))
    };
    let (scaling, parameters) = match kind {
        "default" => (RopeScaling::None, &[][..]),
        "linear" => {
            let factor = real("factor")? as f32;
            (RopeScaling::Linear { factor }, LINEAR)
        }
        "llama3" => {
            let (low, high) = (real("low_freq_factor")?, real("high_freq_factor")?);
            if low >= high {
                return Err(file.corrupt(format!(
                    "rope scaling from `low_freq_factor` {low} to `high_freq_factor` {high}"
                )));
            }
            let scaling = RopeScaling::Llama3 {
                factor: real("factor")? as f32,
                low_freq_factor: low as f32,
                high_freq_factor: high as f32,
                original_context: real("original_max_position_embeddings")? as u32,
            };
            (scaling, LLAMA3)
        }
        "longrope" | "su" if positions.may_be_long => {
            let Some(original) = positions.original else {
                let reason = "rope scaling `longrope` without `original_max_position_embeddings`";
                return Err(file.corrupt(reason));
            };
            let said = positive(file, json, "attention_factor", "rope scaling")?;
            let factor = said.unwrap_or_else(|| positions.attention_factor(original));
            let scaling = RopeScaling::Divisors {
                divisors: divisors(file, &json["short_factor"])?,
                attention_factor: factor as f32,
            };
            (scaling, LONGROPE)
        }
        other => return Err(file.unsupported("rope scaling", other, SUPPORTED)),
    };
    // A factor without a kind, or a kind with what another one needs.
    let is_known = |name: &str| ANYWHERE.contains(&name) || parameters.contains(&name);
    let unread = fields
        .iter()
        .find(|(name, value)| !value.is_null() && !is_known(name));
    match unread {
        None => Ok(Some(scaling)),
        Some((name, _)) => {
            let what = format!("parameter of rope scaling `{kind}`");
            let supported = match parameters {
                [] => "none".to_owned(),
                names => names.join(", "),
            };
            Err(file.unsupported(&what, name, &supported))
        }
    }
}

/// A list of numbers above zero.
fn divisors(file: &File<'_>, json: &Json) -> Result<Vec<f32>, Error> {
    let numbers = json.as_array().into_iter().flatten();
    let numbers: Option<Vec<f32>> = numbers.map(|x| Some(x.as_f64()? as f32)).collect();
    match numbers {
        Some(numbers) if !numbers.is_empty() => Ok(numbers),
        _ => Err(file.corrupt("rope scaling `longrope` without numbers in `short_factor`")),
    }
}
