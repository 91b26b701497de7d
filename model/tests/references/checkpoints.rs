//! Real checkpoints, each opened once for all tests.

use std::{path::PathBuf, sync::OnceLock};

use perennial_model::{
    locator::{Locator, ModelSpec, OnStderr, Settings},
    model::{Model, OpenOptions},
};

/// The checkpoint that answers fastest.
pub const SMALL: &str = "smollm2-135m";
/// The checkpoint that answers best.
pub const LARGE: &str = "qwen2.5-coder-0.5b";

/// File or folder of a known model.
pub fn path(name: &str) -> PathBuf {
    let settings = Settings::from_env().unwrap_or_else(|error| panic!("{error}"));
    let spec = ModelSpec::parse(name).unwrap_or_else(|error| panic!("{error}"));
    let located = Locator::new(settings).locate(&spec, &mut OnStderr::default());
    located.unwrap_or_else(|error| panic!("{error}")).path
}

/// [`SMALL`] or [`LARGE`], opened.
pub fn model(name: &str) -> &'static Model {
    static SMALL_MODEL: OnceLock<Model> = OnceLock::new();
    static LARGE_MODEL: OnceLock<Model> = OnceLock::new();
    let cell = match name {
        SMALL => &SMALL_MODEL,
        LARGE => &LARGE_MODEL,
        other => panic!("no test opens {other}"),
    };
    cell.get_or_init(|| {
        let settings = Settings::from_env().unwrap_or_else(|error| panic!("{error}"));
        let spec = ModelSpec::parse(name).unwrap_or_else(|error| panic!("{error}"));
        let mut progress = OnStderr::default();
        Locator::new(settings)
            .locate(&spec, &mut progress)
            .and_then(|located| Model::open(&located, &OpenOptions::default(), &mut progress))
            .unwrap_or_else(|error| panic!("{error}"))
    })
}

/// A golden file by its name.
pub fn golden(name: &str) -> serde_json::Value {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A list of token ids in a golden file.
pub fn ids(value: &serde_json::Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("token ids")
}
