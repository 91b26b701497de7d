//! What a passage may attend to when it is encoded, and the fragment ids that follow.
//!
//! # One identity scheme
//! A fragment's id hashes the id of what it was encoded after (its conditioning) and its
//! own tokens, so ids form Merkle chains that begin at the shared prefix:
//! - [`Scope::Causal`]: one chain through the whole layout.
//! - [`Scope::Independent`]: every passage is a chain of its own, behind the prefix.
//! - [`Scope::Window`]: passages are grouped into content-defined blocks of `tokens` tokens
//!   on average; the chain of a block's passages begins with the passages of the block
//!   before it, encoded anew right after the prefix. So a passage sees between one and two
//!   blocks of what precedes it, the whole costs at most twice a plain prefill whatever the
//!   window, and an edit costs the blocks it changes and the one behind them, each with its
//!   predecessor.
//! - [`Scope::Boundary`]: every passage is a chain of its own, as under `Independent`. Its first `tokens`
//!   tokens are, besides, encoded where they stand: a *boundary*, whose id hashes all that stands before it.
//!   The layout has the boundary, and behind it the rest of the passage as it is alone ([`Member`]). So an
//!   edit costs its passage, and the boundary of each passage behind it.
//!
//! # Invariants
//! - Ids and runs are a function of (scope, model, prefix, passages in order).
//! - Where a block ends depends on the passages within half a window: an insert does not
//!   shift the blocks behind it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::choice;
use crate::id::{FragmentId, ModelIdentity};

/// What a passage may attend to when it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Everything before it: the plain prompt.
    Causal,
    /// The shared prefix, the block of passages before its own, and its own block up to
    /// itself, computed afresh.
    Window {
        /// Mean length of a block: a passage sees one to two of them.
        tokens: u32,
    },
    /// The shared prefix only.
    Independent,
    /// The shared prefix only; but the first tokens of each passage are encoded again where they
    /// stand, and attend to everything before them.
    Boundary {
        /// How many of a passage's tokens are encoded again, at most.
        tokens: u32,
    },
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Causal => f.write_str("CAUSAL"),
            Self::Window { tokens } => write!(f, "WINDOW({tokens})"),
            Self::Independent => f.write_str("INDEPENDENT"),
            Self::Boundary { tokens } => write!(f, "BOUNDARY({tokens})"),
        }
    }
}

/// A scope that is none of `causal`, `window:N`, `boundary:N` and `independent`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected causal, independent, or window:N or boundary:N with N tokens of at least 1, as in \
     window:128"
)]
#[non_exhaustive]
pub struct ScopeError;

/// `causal`, `window:N`, `boundary:N` or `independent`, in any case of letters; also as it is printed, `WINDOW(N)`.
impl std::str::FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let lower = text.to_ascii_lowercase();
        let (name, tokens) = choice::parts(&lower);
        let tokens: Option<u32> = tokens
            .map(|tokens| tokens.parse().map_err(|_| ScopeError))
            .transpose()?;
        match (name, tokens) {
            ("causal", None) => Ok(Self::Causal),
            ("independent", None) => Ok(Self::Independent),
            ("window", Some(tokens @ 1..)) => Ok(Self::Window { tokens }),
            ("boundary", Some(tokens @ 1..)) => Ok(Self::Boundary { tokens }),
            _ => Err(ScopeError),
        }
    }
}

/// A fragment to be: its id and the tokens to encode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Id of the KV state.
    pub id: FragmentId,
    /// The tokens it is computed from.
    pub tokens: Arc<[u32]>,
}

/// Pieces encoded one after the other behind the shared prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeRun {
    /// Attended to by `pieces`, but not part of the layout under these ids.
    pub conditioning: Vec<Piece>,
    /// Members of the layout, in order.
    pub pieces: Vec<Piece>,
}

/// How every fragment of one layout comes to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentPlan {
    /// The prompt's beginning, which every fragment attends to.
    pub prefix: Piece,
    /// The runs in layout order; their `pieces` joined are the passages behind the prefix.
    pub runs: Vec<EncodeRun>,
    /// By passage: what of it is encoded again where it stands. Empty in scopes that do not do so.
    pub boundaries: Vec<Option<Piece>>,
}

/// The fragments by which one passage stands in a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member<'a> {
    /// The one that its run has.
    Own(&'a Piece),
    /// One that is encoded behind all that stands before it: a boundary has all of its tokens.
    InPlace(&'a Piece),
    /// Two: `boundary` has the first tokens, and of its own the others are used.
    Joined {
        /// The first tokens, encoded behind all that stands before them in the layout.
        boundary: &'a Piece,
        /// The one that its run has, of all tokens.
        own: &'a Piece,
    },
}

impl<'a> Member<'a> {
    /// Its fragments in order.
    pub fn pieces(self) -> impl Iterator<Item = &'a Piece> {
        let (first, second) = match self {
            Self::Own(piece) | Self::InPlace(piece) => (piece, None),
            Self::Joined { boundary, own } => (boundary, Some(own)),
        };
        std::iter::once(first).chain(second)
    }
}

impl FragmentPlan {
    /// The layout's fragments in order, the prefix first.
    pub fn fragments(&self) -> impl Iterator<Item = &Piece> {
        std::iter::once(&self.prefix).chain(self.members().flat_map(Member::pieces))
    }

    /// The passages in order, each as its run has it.
    pub fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.runs.iter().flat_map(|run| &run.pieces)
    }

    /// The passages in order, each as it stands in the layout.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        let boundaries = self.boundaries.iter().map(Option::as_ref);
        let boundaries = boundaries.chain(std::iter::repeat(None));
        self.pieces().zip(boundaries).map(|of| match of {
            (own, None) => Member::Own(own),
            (own, Some(boundary)) if boundary.tokens.len() == own.tokens.len() => {
                Member::InPlace(boundary)
            }
            (own, Some(boundary)) => Member::Joined { boundary, own },
        })
    }

    /// Tokens that encoding everything takes, conditioning included.
    pub fn n_encode_tokens(&self) -> usize {
        if !self.boundaries.is_empty() {
            return self.fragments().map(|piece| piece.tokens.len()).sum();
        }
        let run_tokens = |run: &EncodeRun| -> usize {
            run.conditioning
                .iter()
                .chain(&run.pieces)
                .map(|piece| piece.tokens.len())
                .sum()
        };
        self.prefix.tokens.len() + self.runs.iter().map(run_tokens).sum::<usize>()
    }
}

/// The fragments of a layout of `passages` behind `prefix`.
pub fn plan(
    scope: Scope,
    model: &ModelIdentity,
    prefix: &Arc<[u32]>,
    passages: &[Arc<[u32]>],
) -> FragmentPlan {
    let prefix = Piece {
        id: FragmentId::of(model, None, prefix),
        tokens: prefix.clone(),
    };
    let chain = |passages: &[Arc<[u32]>]| chain_after(model, &prefix, passages);
    let runs = match scope {
        Scope::Causal => vec![EncodeRun {
            conditioning: Vec::new(),
            pieces: chain(passages),
        }],
        Scope::Independent | Scope::Boundary { .. } => passages
            .chunks(1)
            .map(|one| EncodeRun {
                conditioning: Vec::new(),
                pieces: chain(one),
            })
            .collect(),
        Scope::Window { tokens } => {
            let blocks = blocks(passages, tokens as usize);
            let mut runs = Vec::with_capacity(blocks.len());
            for (i, block) in blocks.iter().enumerate() {
                let start = if i == 0 {
                    block.start
                } else {
                    blocks[i - 1].start
                };
                let mut conditioning = chain(&passages[start..block.end]);
                let pieces = conditioning.split_off(block.start - start);
                runs.push(EncodeRun {
                    conditioning,
                    pieces,
                });
            }
            runs
        }
    };
    let boundaries = match scope {
        Scope::Boundary { tokens } => boundaries(model, &runs, tokens as usize),
        _ => Vec::new(),
    };
    FragmentPlan {
        prefix,
        runs,
        boundaries,
    }
}

/// Of each passage its first `n` tokens, behind all that stands before them; of the first passage
/// nothing, since it stands as it does alone.
fn boundaries(model: &ModelIdentity, runs: &[EncodeRun], n: usize) -> Vec<Option<Piece>> {
    // Names all that stands before the next passage.
    let mut before: Option<FragmentId> = None;
    let passages = runs.iter().flat_map(|run| &run.pieces);
    let boundary = |own: &Piece| {
        let n_tokens = n.min(own.tokens.len());
        let boundary = before.map(|before| Piece {
            id: FragmentId::of(model, Some(&before), &own.tokens[..n_tokens]),
            tokens: own.tokens[..n_tokens].into(),
        });
        before = Some(match &boundary {
            None => own.id,
            Some(boundary) if n_tokens == own.tokens.len() => boundary.id,
            Some(boundary) => FragmentId::joined(&boundary.id, &own.id),
        });
        boundary
    };
    passages.map(boundary).collect()
}

fn chain_after(model: &ModelIdentity, prefix: &Piece, passages: &[Arc<[u32]>]) -> Vec<Piece> {
    let mut conditioning = prefix.id;
    passages
        .iter()
        .map(|tokens| {
            conditioning = FragmentId::of(model, Some(&conditioning), tokens);
            Piece {
                id: conditioning,
                tokens: tokens.clone(),
            }
        })
        .collect()
}

/// Blocks of `window` tokens on average. A block ends after a passage whose hash is the
/// least of all that end within half a window of it: that depends on the neighbourhood
/// alone, and leaves at least half a window between two ends. A block of four windows
/// without such an end (repetitive text) is ended where it stands.
fn blocks(passages: &[Arc<[u32]>], window: usize) -> Vec<std::ops::Range<usize>> {
    let reach = (window / 2).max(1);
    let mut ends = Vec::with_capacity(passages.len());
    let mut n_tokens = 0;
    for passage in passages {
        n_tokens += passage.len();
        ends.push(n_tokens);
    }
    let ranks: Vec<u64> = passages.iter().map(|passage| rank(passage)).collect();
    let is_least = |i: usize| {
        let before = (0..i).rev().take_while(|j| ends[i] - ends[*j] < reach);
        let after = (i + 1..ranks.len()).take_while(|j| ends[*j] - ends[i] < reach);
        before.map(|j| ranks[j]).all(|rank| rank > ranks[i])
            && after.map(|j| ranks[j]).all(|rank| rank >= ranks[i])
    };
    let mut blocks = Vec::new();
    let (mut start, mut start_token) = (0, 0);
    for (i, end) in ends.iter().copied().enumerate() {
        if is_least(i) || end - start_token >= 4 * window {
            blocks.push(start..i + 1);
            (start, start_token) = (i + 1, end);
        }
    }
    if start < passages.len() {
        blocks.push(start..passages.len());
    }
    blocks
}

fn rank(passage: &[u32]) -> u64 {
    let mut hash = blake3::Hasher::new();
    for token in passage {
        hash.update(&token.to_le_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scopes_are_typed() {
        assert_eq!("Causal".parse(), Ok(Scope::Causal));
        assert_eq!("window:64".parse(), Ok(Scope::Window { tokens: 64 }));
        assert_eq!("independent".parse(), Ok(Scope::Independent));
        assert_eq!("BOUNDARY:16".parse(), Ok(Scope::Boundary { tokens: 16 }));
        assert_eq!("BOUNDARY(16)".parse(), Ok(Scope::Boundary { tokens: 16 }));
        for wrong in [
            "window",
            "window:",
            "window:0",
            "window:-3",
            "all",
            "boundary",
            "boundary:0",
            "boundary:16:2",
            "boundary:4294967296",
            "causal:1",
            "independent:",
            "independent()",
            "boundary()",
            "boundary(16",
            "boundary(16)(2)",
            "boundary:(16)",
            "(16)",
        ] {
            assert_eq!(wrong.parse::<Scope>(), Err(ScopeError), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_of_a_scope_is_that_scope(tokens in 1u32..) {
            for scope in [
                Scope::Causal,
                Scope::Independent,
                Scope::Window { tokens },
                Scope::Boundary { tokens },
            ] {
                prop_assert_eq!(scope.to_string().parse(), Ok(scope));
            }
        }
    }

    fn model() -> ModelIdentity {
        ModelIdentity::new(&[7; 32], "test", "f16")
    }

    fn passages(seeds: &[u32]) -> Vec<Arc<[u32]>> {
        seeds
            .iter()
            .map(|s| (0..20 + s % 30).map(|i| s * 100 + i).collect())
            .collect()
    }

    fn ids(scope: Scope, seeds: &[u32]) -> Vec<FragmentId> {
        let prefix: Arc<[u32]> = vec![1, 2, 3].into();
        plan(scope, &model(), &prefix, &passages(seeds))
            .fragments()
            .map(|piece| piece.id)
            .collect()
    }

    #[test]
    fn causal_ids_change_from_the_edit_on_and_independent_ids_only_there() {
        let (before, after) = ([1, 2, 3, 4, 5], [1, 2, 9, 4, 5]);
        let differing = |scope| {
            let (a, b) = (ids(scope, &before), ids(scope, &after));
            (0..a.len()).filter(|i| a[*i] != b[*i]).collect::<Vec<_>>()
        };
        assert_eq!(differing(Scope::Causal), [3, 4, 5]);
        assert_eq!(differing(Scope::Independent), [3]);
    }

    #[test]
    fn an_edit_under_a_boundary_changes_its_passage_and_the_boundaries_behind_it() {
        let (before, after) = ([1, 2, 3, 4, 5], [1, 2, 9, 4, 5]);
        let of = |seeds: &[u32]| ids(Scope::Boundary { tokens: 8 }, seeds);
        let (a, b) = (of(&before), of(&after));
        // The prefix, the first passage, and two of each of the others.
        assert_eq!((a.len(), b.len()), (10, 10));
        let differing: Vec<usize> = (0..10).filter(|i| a[*i] != b[*i]).collect();
        assert_eq!(differing, [4, 5, 6, 8]);
        // One that is gone leaves no trace.
        assert_eq!(of(&[1, 2])[..], a[..4]);
    }

    #[test]
    fn the_first_block_of_a_window_is_the_causal_chain() {
        let window = ids(Scope::Window { tokens: 10_000 }, &[1, 2, 3]);
        assert_eq!(window, ids(Scope::Causal, &[1, 2, 3]));
    }

    fn n_tokens<'a>(pieces: impl IntoIterator<Item = &'a Piece>) -> usize {
        pieces.into_iter().map(|piece| piece.tokens.len()).sum()
    }

    proptest! {
        #[test]
        fn a_boundary_begins_a_passage_that_stands_alone(
            seeds in prop::collection::vec(0u32..40, 0..12),
            n in 1u32..60,
        ) {
            let prefix: Arc<[u32]> = vec![1, 2, 3].into();
            let passages = passages(&seeds);
            let of = |scope| plan(scope, &model(), &prefix, &passages);
            let (joined, apart) = (of(Scope::Boundary { tokens: n }), of(Scope::Independent));
            prop_assert_eq!(&joined.runs, &apart.runs);
            prop_assert_eq!(joined.members().count(), passages.len());
            let mut n_tokens = prefix.len();
            for (place, (member, alone)) in joined.members().zip(apart.pieces()).enumerate() {
                match member {
                    Member::Own(piece) => {
                        prop_assert_eq!(piece, alone);
                        prop_assert_eq!(place, 0);
                    }
                    Member::InPlace(piece) => {
                        prop_assert_eq!(&piece.tokens, &alone.tokens);
                        prop_assert!(piece.tokens.len() <= n as usize && piece.id != alone.id);
                    }
                    Member::Joined { boundary, own } => {
                        prop_assert_eq!(own, alone);
                        prop_assert_eq!(&boundary.tokens[..], &alone.tokens[..n as usize]);
                        prop_assert!(place > 0 && alone.tokens.len() > n as usize);
                    }
                }
                n_tokens += member.pieces().map(|piece| piece.tokens.len()).sum::<usize>();
            }
            prop_assert_eq!(joined.n_encode_tokens(), n_tokens);
            // A boundary is named by what stands before it, and by nothing behind it.
            let fewer = plan(Scope::Boundary { tokens: n }, &model(), &prefix, &passages[..seeds.len() / 2]);
            let its: Vec<_> = fewer.fragments().collect();
            prop_assert!(joined.fragments().zip(&its).all(|(a, b)| a == *b));
            let mut ids = BTreeSet::new();
            let boundaries = joined.boundaries.iter().flatten();
            prop_assert!(boundaries.clone().all(|boundary| ids.insert(boundary.id)));
            // Right behind the first passage it is what the plain prompt has there.
            let causal = of(Scope::Causal);
            let second = (joined.members().nth(1), causal.pieces().nth(1));
            if let (Some(Member::InPlace(piece)), Some(plain)) = second {
                prop_assert_eq!(piece, plain);
            }
        }

        #[test]
        fn a_window_sees_the_block_before_and_costs_twice_a_prefill(
            seeds in prop::collection::vec(0u32..1000, 1..80),
            window in 1u32..256,
        ) {
            let prefix: Arc<[u32]> = vec![1, 2, 3].into();
            let passages = passages(&seeds);
            let full = plan(Scope::Window { tokens: window }, &model(), &prefix, &passages);
            let members: Vec<_> = full.runs.iter().flat_map(|run| &run.pieces).collect();
            let in_order: Vec<_> = members.iter().map(|piece| piece.tokens.clone()).collect();
            prop_assert_eq!(&in_order, &passages);
            for pair in full.runs.windows(2) {
                prop_assert_eq!(
                    n_tokens(&pair[1].conditioning),
                    n_tokens(&pair[0].pieces)
                );
            }
            // Neither the first block nor the last need be long.
            for run in full.runs.iter().skip(1).rev().skip(1) {
                prop_assert!(n_tokens(&run.pieces) >= window as usize / 2);
            }
            prop_assert!(full.n_encode_tokens() <= 3 + 2 * n_tokens(members));
        }

        #[test]
        fn an_edit_under_a_window_stays_local(
            seeds in prop::collection::hash_set(0u32..100_000, 150..200),
            at in 0usize..150,
            replacement in 100_000u32..200_000,
            window in 16u32..96,
        ) {
            let scope = Scope::Window { tokens: window };
            let mut seeds: Vec<u32> = seeds.into_iter().collect();
            let before: BTreeSet<_> = ids(scope, &seeds).into_iter().collect();
            seeds[at] = replacement;
            let fresh = ids(scope, &seeds).into_iter().filter(|id| !before.contains(id)).count();
            // Of 150 passages or more, of 35 tokens on average.
            prop_assert!(fresh <= 4 + window as usize / 2, "{} fragments are new", fresh);
        }
    }
}
