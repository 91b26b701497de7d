//! Which program is this?
//!
//! What it was built with tells more of a fault than its number. The commit is not told: who builds would
//! build the program anew with each.

use std::sync::LazyLock;

/// What may be built in or left out.
const FEATURES: [(&str, bool); 9] = [
    ("documents", cfg!(feature = "documents")),
    ("http", cfg!(feature = "http")),
    ("kafka", cfg!(feature = "kafka")),
    ("mcp", cfg!(feature = "mcp")),
    ("otel", cfg!(feature = "otel")),
    ("parquet", cfg!(feature = "parquet")),
    ("remote", cfg!(feature = "remote")),
    ("serve", cfg!(feature = "serve")),
    ("tls", cfg!(feature = "tls")),
];

/// The version, for which machine it was built, and with what.
pub(crate) fn long() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(|| {
        let of = |is_built: bool| -> String {
            let named = FEATURES.iter().filter(|(_, built)| *built == is_built);
            let names: Vec<&str> = named.map(|(name, _)| *name).collect();
            match names.is_empty() {
                true => "nothing".to_owned(),
                false => names.join(" "),
            }
        };
        let profile = match cfg!(debug_assertions) {
            true => "debug",
            false => "release",
        };
        format!(
            "{}\n{} {}, {profile}\nbuilt with {}\nwithout {}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::ARCH,
            std::env::consts::OS,
            of(true),
            of(false),
        )
    });
    &LONG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_may_be_built_in_is_named_once() {
        let lines: Vec<&str> = long().lines().collect();
        assert_eq!((lines.len(), lines[0]), (4, env!("CARGO_PKG_VERSION")));
        let (with, without) = (lines[2], lines[3]);
        for (name, is_built) in FEATURES {
            let is_named = |line: &str| line.split(' ').any(|word| word == name);
            assert_eq!((is_named(with), is_named(without)), (is_built, !is_built));
        }
    }
}
