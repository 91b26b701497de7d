//! Which keys of a stream are those of a part of it?
//!
//! Parts that share a stream have prefixes, which stand before each of their keys; so a part's keys are
//! those that begin with its prefix, and with no longer one of another part.

/// The keys of a stream, or of a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyScope {
    prefix: String,
    /// Longer prefixes, of other parts.
    others: Vec<String>,
}

impl KeyScope {
    /// All keys.
    pub fn all() -> Self {
        Self::default()
    }

    /// Keys behind this prefix, but for those behind longer ones of other parts.
    pub fn behind(prefix: &str, others: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let others = others.into_iter().map(Into::into);
        let others =
            others.filter(|other: &String| other.len() > prefix.len() && other.starts_with(prefix));
        Self {
            prefix: prefix.to_owned(),
            others: others.collect(),
        }
    }

    /// What its keys begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether a key is one of them.
    pub fn holds(&self, key: &str) -> bool {
        key.starts_with(&self.prefix) && !self.others.iter().any(|other| key.starts_with(other))
    }

    /// Whether all keys are.
    pub fn is_all(&self) -> bool {
        self.prefix.is_empty() && self.others.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_the_keys_behind_its_prefix_and_behind_no_longer_one() {
        assert!(KeyScope::all().is_all() && KeyScope::all().holds("a"));
        let bare = KeyScope::behind("", ["", "d#", "d#e#"]);
        let d = KeyScope::behind("d#", ["", "d#", "d#e#"]);
        let held = |key: &str| (bare.holds(key), d.holds(key));
        assert_eq!(held("a.md"), (true, false));
        assert_eq!(held("d#a"), (false, true));
        assert_eq!(held("d#e#a"), (false, false));
        assert!(!bare.is_all() && !d.is_all());
    }
}
