//! How does a hub's `config.json` rotate?
//!
//! What it says has moved over the years: `rope_theta` beside `rope_scaling`, in which the kind is
//! called `type` or `rope_type`; in newer files all in `rope_parameters`. Where two of them say
//! different things, libraries differ in whom they follow, so the file is refused.

use serde_json::Value as Json;

use super::hub_config::File;
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
/// What may stand beside them whatever the kind: the names of the kind, and what is read elsewhere
/// here.
const ANYWHERE: [&str; 4] = ["partial_rotary_factor", "rope_theta", "rope_type", "type"];

/// Base and scaling of the rotary frequencies.
pub(super) fn read(file: &File<'_>) -> Result<(f32, RopeScaling), Error> {
    let (older, newer) = (&file.json["rope_scaling"], &file.json["rope_parameters"]);
    let mut thetas = Vec::new();
    for (json, what) in [
        (&file.json, "the file"),
        (newer, "rope_parameters"),
        (older, "rope_scaling"),
    ] {
        thetas.extend(positive(file, json, "rope_theta", what)?);
        let part = positive(file, json, "partial_rotary_factor", what)?;
        if let Some(part) = part.filter(|part| *part != 1.0) {
            let got = part.to_string();
            return Err(file.unsupported("share of heads that is rotated", &got, "1"));
        }
    }
    let theta = thetas.first().copied().unwrap_or(DEFAULT_THETA);
    if thetas.iter().any(|other| *other != theta) {
        return Err(file.corrupt(format!("`rope_theta` is said to be each of {thetas:?}")));
    }
    let (by_older, by_newer) = (scaling(file, older)?, scaling(file, newer)?);
    let scaling = match (by_older, by_newer) {
        (older, None) => older,
        (None, newer) => newer,
        (older, newer) if older == newer => newer,
        _ => {
            return Err(file.corrupt("`rope_scaling` and `rope_parameters` say different things"));
        }
    };
    Ok((theta as f32, scaling.unwrap_or(RopeScaling::None)))
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
fn scaling(file: &File<'_>, json: &Json) -> Result<Option<RopeScaling>, Error> {
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
