//! Which heads of a model tell what a text is about?
//!
//! A profile belongs to one checkpoint. Its heads and its units were chosen on questions and
//! passages ([`calibrate`](super::calibrate())), once: they are constants of the model, never of
//! what is stored.

use super::StripsError;
use super::strips::KeyBits;
use crate::decoder::QueryHead;
use crate::digest::ModelDigest;
use crate::kv::KvShape;

/// What scores of texts that have nothing to do with each other are like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Units {
    /// Their mean.
    pub mean: f32,
    /// Their standard deviation.
    pub spread: f32,
}

impl Units {
    /// A score in units that other scores can be added to: how many spreads it is above the mean.
    pub fn of(&self, score: f32) -> f32 {
        (score - self.mean) / self.spread
    }
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

/// A profile that is known: the digest of its weights, group of heads, units, heads.
type Known = (&'static str, usize, Units, &'static [(usize, usize)]);

/// By the digest of weights, as `cargo bench --bench memory_kv` prints them. Of a checkpoint that is
/// not here, [`calibrate`](super::calibrate()) makes a profile.
const KNOWN: &[Known] = &[];

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
        let weights = weights.to_string();
        let (_, group, units, heads) = KNOWN.iter().find(|known| known.0 == weights)?;
        let head = |(layer, head): &(usize, usize)| QueryHead {
            layer: *layer,
            head: *head,
        };
        let heads = heads.iter().map(head).collect();
        Some(Self::new(heads, *group, KeyBits::default(), *units))
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

    /// Which of [`Self::kv_heads`] query head number `n` looks at.
    pub(super) fn strip_of(&self, n: usize) -> usize {
        let head = self.heads[n];
        let kv_head = (head.layer, head.head / self.group);
        let found = self.kv_heads.binary_search(&kv_head);
        found.expect("every head's keys are among them")
    }

    /// Whether a model of this shape has these heads.
    pub(super) fn check(&self, shape: KvShape) -> Result<(), StripsError> {
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
