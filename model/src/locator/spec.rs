//! What did the user mean by `--model`? A name, a file or a folder.

use std::path::{Path, PathBuf};

use super::registry::{KNOWN, KnownModel, known};
use crate::error::Error;

/// A model as a user names it.
#[derive(Clone, Debug)]
pub enum ModelSpec {
    /// A model known by name.
    Known(&'static KnownModel),
    /// A GGUF file, or a folder with one or with safetensors.
    Path(PathBuf),
}

impl ModelSpec {
    /// Known names come first; a file of the same name is reached by `./name`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if let Some(model) = known(text) {
            return Ok(Self::Known(model));
        }
        let path = Path::new(text);
        let looks_like_a_path = text.contains(std::path::is_separator)
            || path
                .extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
        if looks_like_a_path || path.exists() {
            return Ok(Self::Path(path.into()));
        }
        let names: Vec<&str> = KNOWN.iter().map(|model| model.name).collect();
        Err(Error::UnknownModel {
            name: text.into(),
            known: names.join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_paths_and_neither() {
        assert!(matches!(
            ModelSpec::parse("SmolLM2-135M"),
            Ok(ModelSpec::Known(_))
        ));
        assert!(matches!(
            ModelSpec::parse("./smollm2-135m"),
            Ok(ModelSpec::Path(_))
        ));
        assert!(matches!(
            ModelSpec::parse("missing.gguf"),
            Ok(ModelSpec::Path(_))
        ));
        let says = ModelSpec::parse("smolm").unwrap_err().to_string();
        assert!(
            says.contains("`smolm`") && says.contains("smollm2-135m"),
            "{says}"
        );
    }
}
