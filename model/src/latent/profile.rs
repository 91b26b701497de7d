//! Which heads of a model tell what a text is about?
//!
//! A profile belongs to one checkpoint. Its heads and its units were chosen on questions and
//! passages ([`calibrate`](super::calibrate())), once: they are constants of the model, never of
//! what is stored. It is written as JSON:
//!
//! ```json
//! {
//!   "version": 1,
//!   "model": "smollm2-135m",
//!   "weights": "b179c9…",
//!   "chosen_on": "60 questions of squad.jsonl",
//!   "group": 3,
//!   "bits": 4,
//!   "mean": 20.5,
//!   "spread": 1.5,
//!   "heads": [[9, 8], [9, 10]]
//! }
//! ```
//! `weights` is the digest of the checkpoint, `group` how many query heads share a key, `bits` those of
//! stored keys, `heads` pairs of layer and query head from 0, the best first.

use serde::{Deserialize, Serialize};

use super::StripsError;
use super::strips::KeyBits;
use crate::config::ModelConfig;
use crate::decoder::QueryHead;
use crate::digest::ModelDigest;
use crate::kv::KvShape;

/// The version of the form that is written; others are refused.
const VERSION: u32 = 1;
/// Most heads of a profile.
const MAX_HEADS: usize = 64;
/// The largest file of a profile, in bytes.
pub const MAX_PROFILE_BYTES: usize = 64 << 10;

/// Profiles of known models, as `perennial memory calibrate` wrote them over pairs of SQuAD's development
/// set: of sixty passages evenly from its 1,150, number `i` with question `i` modulo how many it has.
const KNOWN: &[&str] = &[
    include_str!("profiles/smollm2-135m.json"),
    include_str!("profiles/qwen2.5-coder-0.5b.json"),
];

/// What scores of texts that have nothing to do with each other are like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Units {
    /// Their mean.
    pub mean: f32,
    /// Their standard deviation.
    pub spread: f32,
}

impl Units {
    /// Scores as they are.
    pub const PLAIN: Self = Self {
        mean: 0.0,
        spread: 1.0,
    };

    /// A score in units that other scores can be added to: how many spreads it is above the mean.
    pub fn of(&self, score: f32) -> f32 {
        (score - self.mean) / self.spread
    }
}

/// Why a profile cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// It is no profile.
    #[error("this is no profile of heads: {reason}")]
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
    /// It was made of other weights.
    #[error("the profile is of the weights {of}, and the model's are {got}: calibrate this model")]
    OtherWeights {
        /// Those that it was made of.
        of: String,
        /// Those of the model.
        got: String,
    },
    /// The model has other heads.
    #[error(
        "the profile names layer {layer} and query head {head}, {group} of which share keys; the model \
         has {n_layers} layers of {n_heads} query heads, {n_together} of which do"
    )]
    OtherShape {
        /// A layer that it names.
        layer: usize,
        /// A query head of it.
        head: usize,
        /// Query heads that share keys, as it says.
        group: usize,
        /// Layers of the model.
        n_layers: usize,
        /// Query heads of a layer of the model.
        n_heads: usize,
        /// Query heads of the model that share keys.
        n_together: usize,
    },
}

/// Heads that tell texts apart, the best first, and the units of their scores.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentProfile {
    heads: Vec<QueryHead>,
    /// Query heads of a key/value head.
    group: usize,
    bits: KeyBits,
    units: Units,
    /// Layer and key/value head, each once, ascending.
    kv_heads: Vec<(usize, usize)>,
}

/// A profile as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    model: String,
    weights: String,
    chosen_on: String,
    group: usize,
    bits: u8,
    mean: f32,
    spread: f32,
    heads: Vec<(usize, usize)>,
}

impl LatentProfile {
    /// A profile of these heads, the best first, `group` of which share keys.
    ///
    /// # Panics
    /// If `group` is 0.
    pub fn new(heads: Vec<QueryHead>, group: usize, bits: KeyBits, units: Units) -> Self {
        assert!(group > 0, "some head uses every key");
        let of_head = |h: &QueryHead| (h.layer, h.head / group);
        let mut kv_heads: Vec<_> = heads.iter().map(of_head).collect();
        kv_heads.sort_unstable();
        kv_heads.dedup();
        Self {
            heads,
            group,
            bits,
            units,
            kv_heads,
        }
    }

    /// The one that is known of a checkpoint.
    pub fn known(weights: &ModelDigest) -> Option<Self> {
        let mut of_it = KNOWN
            .iter()
            .filter_map(|text| Self::read(text, weights).ok());
        of_it.next()
    }

    /// A profile as it is written, of these weights.
    ///
    /// # Errors
    /// [`ProfileError::Unreadable`], [`ProfileError::OtherWeights`].
    pub fn read(text: &str, weights: &ModelDigest) -> Result<Self, ProfileError> {
        let unreadable = |reason: String| ProfileError::Unreadable { reason };
        if text.len() > MAX_PROFILE_BYTES {
            let n_bytes = text.len();
            return Err(unreadable(format!(
                "it has {n_bytes} bytes; at most {MAX_PROFILE_BYTES} are read"
            )));
        }
        let written: Written =
            serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        if written.version != VERSION {
            let version = written.version;
            return Err(unreadable(format!(
                "its version is {version}; this release reads {VERSION}"
            )));
        }
        let bits = match written.bits {
            4 => KeyBits::Four,
            8 => KeyBits::Eight,
            bits => return Err(unreadable(format!("bits is {bits}; it may be 4 or 8"))),
        };
        if !(1..=MAX_HEADS).contains(&written.heads.len()) {
            let n = written.heads.len();
            return Err(unreadable(format!(
                "it names {n} heads, of 1 to {MAX_HEADS}"
            )));
        }
        let has_units = written.mean.is_finite() && written.spread.is_finite();
        if !has_units || written.spread <= 0.0 || written.group == 0 {
            return Err(unreadable(
                "spread and group must be above 0, and numbers finite".to_owned(),
            ));
        }
        if written.weights != weights.to_string() {
            return Err(ProfileError::OtherWeights {
                of: written.weights,
                got: weights.to_string(),
            });
        }
        let heads = written.heads.into_iter();
        let heads = heads.map(|(layer, head)| QueryHead { layer, head });
        let units = Units {
            mean: written.mean,
            spread: written.spread,
        };
        Ok(Self::new(heads.collect(), written.group, bits, units))
    }

    /// How it is written: of which model and weights, and what it was chosen on.
    ///
    /// # Errors
    /// [`ProfileError::Unreadable`] for numbers that JSON has no words for.
    pub fn written(
        &self,
        model: &str,
        weights: &ModelDigest,
        chosen_on: &str,
    ) -> Result<String, ProfileError> {
        let written = Written {
            version: VERSION,
            model: model.to_owned(),
            weights: weights.to_string(),
            chosen_on: chosen_on.to_owned(),
            group: self.group,
            bits: self.bits.count(),
            mean: self.units.mean,
            spread: self.units.spread,
            heads: self.heads.iter().map(|h| (h.layer, h.head)).collect(),
        };
        let text = serde_json::to_string(&written);
        text.map_err(|error| ProfileError::Unreadable {
            reason: error.to_string(),
        })
    }

    /// The heads, the best first.
    pub fn heads(&self) -> &[QueryHead] {
        &self.heads
    }

    /// Bits of stored keys.
    pub fn bits(&self) -> KeyBits {
        self.bits
    }

    /// What scores are to be read in.
    pub fn units(&self) -> Units {
        self.units
    }

    /// Layers and key/value heads of which keys are stored.
    pub fn kv_heads(&self) -> &[(usize, usize)] {
        &self.kv_heads
    }

    /// Layers that are computed to read a text: up to the last that has one of the heads.
    pub fn n_layers(&self) -> usize {
        self.kv_heads.last().map_or(0, |(layer, _)| layer + 1)
    }

    /// A digest of all that stored keys depend on besides the model.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 latent profile");
        let numbers = self.heads.iter().flat_map(|h| [h.layer, h.head]);
        let sizes = [self.group, usize::from(self.bits.count()), self.heads.len()];
        for n in sizes.into_iter().chain(numbers) {
            hash.update(&(n as u64).to_le_bytes());
        }
        *hash.finalize().as_bytes()
    }

    /// Whether a model has these heads.
    ///
    /// # Errors
    /// [`ProfileError::OtherShape`].
    pub fn check(&self, config: &ModelConfig) -> Result<(), ProfileError> {
        let n_together = config.n_heads / config.n_kv_heads;
        let is_there = |h: &&QueryHead| h.layer < config.n_layers && h.head < config.n_heads;
        let foreign = self.heads.iter().find(|head| !is_there(head));
        let wrong = match self.group == n_together {
            true => foreign,
            false => self.heads.first(),
        };
        match wrong {
            None => Ok(()),
            Some(head) => Err(ProfileError::OtherShape {
                layer: head.layer,
                head: head.head,
                group: self.group,
                n_layers: config.n_layers,
                n_heads: config.n_heads,
                n_together,
            }),
        }
    }

    /// Which of [`Self::kv_heads`] query head number `n` looks at.
    pub(super) fn strip_of(&self, n: usize) -> usize {
        let head = self.heads[n];
        let kv_head = (head.layer, head.head / self.group);
        let found = self.kv_heads.binary_search(&kv_head);
        found.expect("every head's keys are among them")
    }

    /// Whether KV state of this shape has these heads.
    pub(super) fn check_shape(&self, shape: KvShape) -> Result<(), StripsError> {
        let has = |head: &&QueryHead| {
            head.layer < shape.n_layers && head.head / self.group < shape.n_kv_heads
        };
        match self.heads.iter().find(|head| !has(head)) {
            Some(head) => Err(StripsError::NoSuchHead {
                layer: head.layer,
                head: head.head,
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::tiny_config;

    fn weights(byte: u8) -> ModelDigest {
        ModelDigest::from_bytes([byte; 32])
    }

    fn profile() -> LatentProfile {
        let heads = [(1, 3), (0, 1)].map(|(layer, head)| QueryHead { layer, head });
        let units = Units {
            mean: 3.25,
            spread: 0.5,
        };
        LatentProfile::new(heads.to_vec(), 2, KeyBits::Four, units)
    }

    #[test]
    fn what_is_written_is_read_and_of_no_other_weights() {
        let text = profile().written("tiny", &weights(1), "nothing").unwrap();
        assert_eq!(LatentProfile::read(&text, &weights(1)).unwrap(), profile());
        let other = LatentProfile::read(&text, &weights(2)).unwrap_err();
        assert!(
            matches!(other, ProfileError::OtherWeights { .. }),
            "{other}"
        );
        for (from, to, said) in [
            ("\"version\":1", "\"version\":2", "version is 2"),
            ("\"bits\":4", "\"bits\":3", "bits is 3"),
            ("\"spread\":0.5", "\"spread\":0", "above 0"),
            ("\"group\":2", "\"group\":0", "above 0"),
            ("[[1,3],[0,1]]", "[]", "names 0 heads"),
            ("\"bits\"", "\"bytes\"", "bytes"),
        ] {
            let broken = text.replace(from, to);
            assert_ne!(broken, text, "{from}");
            let refused = LatentProfile::read(&broken, &weights(1)).unwrap_err();
            assert!(refused.to_string().contains(said), "{refused}");
        }
        let long = " ".repeat(MAX_PROFILE_BYTES) + &text;
        assert!(LatentProfile::read(&long, &weights(1)).is_err());
    }

    #[test]
    fn heads_that_a_model_has_not_are_refused() {
        // Four query heads over two of keys, two layers.
        let config = tiny_config();
        assert_eq!(profile().check(&config), Ok(()));
        let units = Units::PLAIN;
        for (layer, head, group) in [(2, 0, 2), (0, 4, 2), (0, 0, 1)] {
            let heads = vec![QueryHead { layer, head }];
            let refused = LatentProfile::new(heads, group, KeyBits::Four, units).check(&config);
            assert!(refused.is_err(), "{layer} {head} {group}");
        }
    }

    #[test]
    fn known_profiles_are_read() {
        for text in KNOWN {
            let written: Written = serde_json::from_str(text).unwrap();
            let weights = written.weights.parse().unwrap();
            assert!(LatentProfile::known(&weights).is_some());
        }
    }
}
