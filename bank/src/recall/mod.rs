//! Which fragments is a question about? The keys that recall reads, by fragment, and their ranking.
//!
//! A [`LatentIndex`] holds the [`KeyStrips`] of fragments, whatever tier these are in: about a hundred
//! bytes a token. What a score is, [`perennial_model::latent`] says.
//!
//! # Two stages
//! A large index is first ranked by the profile's best heads alone; what comes out on top is ranked by
//! all of them. Scores that are told are always those of all heads.
//!
//! # Invariants
//! - What is recalled is a function of the question and of what the index holds: not of the order in
//!   which it came, nor of what came and went. Equal scores stand in the order of ids.
//! - A score is that of question and fragment alone.
//!
//! What this does not do: it knows no rights. Whoever asks says which fragments may be seen, before
//! anything is ranked, so that what may not be seen pushes nothing out.

use std::collections::BTreeMap;

use perennial_model::decoder::TokenQueries;
use perennial_model::latent::{KeyStrips, LatentProfile, scores};

use crate::id::FragmentId;

/// How an index is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stages {
    /// Fragments from which on there is a first stage.
    pub from: usize,
    /// Heads of the first stage, the best of the profile.
    pub n_heads: usize,
    /// Fragments that go on to the second stage, for each that is wanted.
    pub keep_each: usize,
    /// Fragments that go on in any case.
    pub keep_least: usize,
}

impl Default for Stages {
    fn default() -> Self {
        Self {
            from: 2000,
            n_heads: 2,
            keep_each: 16,
            keep_least: 128,
        }
    }
}

/// A fragment that was recalled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recalled {
    /// Which.
    pub id: FragmentId,
    /// How much the question has to do with it.
    pub score: f32,
}

/// Keys by fragment.
#[derive(Debug)]
pub struct LatentIndex {
    profile: LatentProfile,
    stages: Stages,
    strips: BTreeMap<FragmentId, KeyStrips>,
    n_bytes: usize,
}

impl LatentIndex {
    /// An index of nothing.
    pub fn new(profile: LatentProfile, stages: Stages) -> Self {
        Self {
            profile,
            stages,
            strips: BTreeMap::new(),
            n_bytes: 0,
        }
    }

    /// The heads that are looked at.
    pub fn profile(&self) -> &LatentProfile {
        &self.profile
    }

    /// Takes a fragment's keys; those that it has already stay, for equal ids are equal bits.
    pub fn insert(&mut self, id: FragmentId, strips: KeyStrips) {
        let n_bytes = strips.n_bytes();
        if let std::collections::btree_map::Entry::Vacant(place) = self.strips.entry(id) {
            place.insert(strips);
            self.n_bytes += n_bytes;
        }
    }

    /// Forgets a fragment. Whether it was there.
    pub fn remove(&mut self, id: &FragmentId) -> bool {
        let removed = self.strips.remove(id);
        self.n_bytes -= removed.as_ref().map_or(0, KeyStrips::n_bytes);
        removed.is_some()
    }

    /// Whether a fragment's keys are here.
    pub fn contains(&self, id: &FragmentId) -> bool {
        self.strips.contains_key(id)
    }

    /// Number of fragments.
    pub fn len(&self) -> usize {
        self.strips.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.strips.is_empty()
    }

    /// Bytes of all keys.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// The `k` fragments that a question has most to do with, of those that may be seen, the best
    /// first. None for a question without tokens.
    ///
    /// # Panics
    /// If the queries are not of the profile's heads.
    pub fn recall(
        &self,
        question: &TokenQueries,
        k: usize,
        may_see: impl Fn(&FragmentId) -> bool,
    ) -> Vec<Recalled> {
        let seen = self.strips.iter().filter(|(id, _)| may_see(id));
        let mut candidates: Vec<(&FragmentId, &KeyStrips)> = seen.collect();
        let Stages {
            from,
            n_heads,
            keep_each,
            keep_least,
        } = self.stages;
        let n_kept = k.saturating_mul(keep_each).max(keep_least);
        if candidates.len() >= from && candidates.len() > n_kept {
            let mut first = self.ranked(question, n_heads, &candidates);
            first.truncate(n_kept);
            candidates = first.into_iter().map(|(n, _)| candidates[n]).collect();
        }
        let ranked = self.ranked(question, self.profile.heads().len(), &candidates);
        let recalled = ranked.into_iter().take(k).map(|(n, score)| Recalled {
            id: *candidates[n].0,
            score,
        });
        recalled.collect()
    }

    /// The score of a fragment; none if it is not here.
    ///
    /// # Panics
    /// If the queries are not of the profile's heads.
    pub fn score(&self, question: &TokenQueries, id: &FragmentId) -> Option<f32> {
        let strips = self.strips.get(id)?;
        let n_heads = self.profile.heads().len();
        Some(scores(&self.profile, n_heads, question, &[strips])[0])
    }

    /// Numbers of candidates and their scores, the best first; without those that have none.
    fn ranked(
        &self,
        question: &TokenQueries,
        n_heads: usize,
        candidates: &[(&FragmentId, &KeyStrips)],
    ) -> Vec<(usize, f32)> {
        let strips: Vec<&KeyStrips> = candidates.iter().map(|(_, strips)| *strips).collect();
        let scores = scores(&self.profile, n_heads, question, &strips);
        let mut ranked: Vec<(usize, f32)> = scores.into_iter().enumerate().collect();
        ranked.retain(|(_, score)| *score > f32::NEG_INFINITY);
        ranked.sort_unstable_by(|a, b| {
            let by_score = b.1.total_cmp(&a.1);
            by_score.then_with(|| candidates[a.0].0.cmp(candidates[b.0].0))
        });
        ranked
    }
}

#[cfg(test)]
mod tests;
