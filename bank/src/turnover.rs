//! How much of what a fragment attended to when it was encoded no longer stands before it?
//!
//! A borrowed fragment carries traces of its context. After one edit nearly all of that still stands; after many
//! that nothing healed, hardly any may, and an answer over such fragments leans on what is gone. The
//! *turnover* of a fragment is the share of tokens, of those that it attended to and those before it now
//! together, that are in one of both only: 0 where nothing changed, 1 where nothing remained. That of a layout is the mean over
//! its tokens.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The turnover of a layout from which on what it borrows is read again, the worst first, unless a view says otherwise.
pub const MAX_TURNOVER: f32 = 0.5;

/// A passage by the digest of its tokens, and how many these are.
type Digest = (u64, u32);

fn digest(tokens: &[u32]) -> Digest {
    let mut hasher = DefaultHasher::new();
    tokens.hash(&mut hasher);
    (hasher.finish(), tokens.len() as u32)
}

/// The passages of a layout in order, to tell what its fragments attended to.
#[derive(Clone, Debug)]
pub struct Row(Arc<[Digest]>);

impl Row {
    /// Of passages of these tokens.
    pub fn of<'a>(passages: impl Iterator<Item = &'a [u32]>) -> Self {
        Self(passages.map(digest).collect())
    }

    /// What a fragment attended to that was encoded behind the first `n` passages of it.
    pub fn first(&self, n: usize) -> Attended {
        Attended {
            row: self.clone(),
            n: n.min(self.0.len()),
        }
    }
}

/// The passages that a fragment attended to when it was encoded.
#[derive(Clone, Debug)]
pub struct Attended {
    row: Row,
    n: usize,
}

/// What stands before the next passage of a layout.
#[derive(Debug, Default)]
pub struct Standing {
    counts: HashMap<Digest, usize>,
    n_tokens: usize,
}

impl Standing {
    /// Adds the next passage.
    pub fn push(&mut self, tokens: &[u32]) {
        *self.counts.entry(digest(tokens)).or_default() += 1;
        self.n_tokens += tokens.len();
    }

    /// The turnover of a fragment that is to stand here, from 0 to 1.
    pub fn turnover(&self, attended: &Attended) -> f64 {
        let mut used: HashMap<Digest, usize> = HashMap::new();
        let (mut n_common, mut n_attended) = (0, 0);
        for passage in &attended.row.0[..attended.n] {
            let n_tokens = passage.1 as usize;
            n_attended += n_tokens;
            let n_used = used.entry(*passage).or_default();
            if *n_used < self.counts.get(passage).copied().unwrap_or(0) {
                *n_used += 1;
                n_common += n_tokens;
            }
        }
        let n_any = self.n_tokens + n_attended - n_common;
        match n_any {
            0 => 0.0,
            n => 1.0 - n_common as f64 / n as f64,
        }
    }
}

/// A fragment that could be borrowed: where it is to stand, how many tokens it has, its turnover.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worn {
    /// The passage's place.
    pub place: usize,
    /// Its tokens.
    pub n_tokens: usize,
    /// From 0 to 1.
    pub turnover: f64,
}

/// Which of these fragments, the worst first, are encoded again rather than borrowed in a layout of
/// `n_tokens`: none while the layout's turnover is at most `bound`, else as many as bring it to half of that, so that
/// the next edits pay nothing again.
pub fn too_worn(mut worn: Vec<Worn>, n_tokens: usize, bound: f64) -> Vec<usize> {
    let of_all = |worn: &[Worn]| {
        let sum: f64 = worn.iter().map(|of| of.turnover * of.n_tokens as f64).sum();
        sum / n_tokens.max(1) as f64
    };
    let mut turnover = of_all(&worn);
    if turnover <= bound {
        return Vec::new();
    }
    worn.sort_by(|a, b| {
        b.turnover
            .total_cmp(&a.turnover)
            .then(a.place.cmp(&b.place))
    });
    let mut again = Vec::new();
    for of in worn {
        if turnover <= bound / 2.0 || of.turnover == 0.0 {
            break;
        }
        turnover -= of.turnover * of.n_tokens as f64 / n_tokens.max(1) as f64;
        again.push(of.place);
    }
    again.sort_unstable();
    again
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(passages: &[&[u32]]) -> Row {
        Row::of(passages.iter().copied())
    }

    fn standing(passages: &[&[u32]]) -> Standing {
        let mut standing = Standing::default();
        passages.iter().for_each(|tokens| standing.push(tokens));
        standing
    }

    #[test]
    fn it_is_the_share_of_tokens_on_one_side_only() {
        let before = row(&[&[1, 2], &[3], &[3], &[4, 5, 6]]);
        // The order does not count, and of equal passages each counts once.
        let same = standing(&[&[3], &[1, 2], &[3]]);
        assert_eq!(same.turnover(&before.first(3)), 0.0);
        // Five tokens in all, four of them on both sides.
        assert_eq!(standing(&[&[3], &[1, 2]]).turnover(&before.first(3)), 0.25);
        // Three that are gone, one that is new, four on both sides.
        let half = standing(&[&[1, 2], &[3], &[3], &[9]]);
        assert_eq!(half.turnover(&before.first(4)), 0.5);
        assert_eq!(standing(&[&[9]]).turnover(&before.first(4)), 1.0);
        assert_eq!(standing(&[]).turnover(&before.first(0)), 0.0);
        assert_eq!(standing(&[]).turnover(&before.first(1)), 1.0);
    }

    #[test]
    fn the_worst_are_read_again_until_half_of_the_bound_remains() {
        let worn = |turnovers: &[f64]| -> Vec<Worn> {
            let of = |(place, turnover): (usize, &f64)| Worn {
                place,
                n_tokens: 10,
                turnover: *turnover,
            };
            turnovers.iter().enumerate().map(of).collect()
        };
        assert!(too_worn(worn(&[0.5, 0.5]), 20, 0.5).is_empty());
        assert_eq!(too_worn(worn(&[0.9, 0.2, 1.0, 0.4]), 40, 0.6), [0, 2]);
        assert_eq!(
            too_worn(worn(&[0.9, 0.2, 1.0, 0.4]), 40, 0.7),
            Vec::<usize>::new()
        );
        // Where nothing may be worn all are read again that are.
        assert_eq!(too_worn(worn(&[0.9, 0.0, 0.1]), 30, 0.0), [0, 2]);
        assert!(too_worn(Vec::new(), 0, 0.0).is_empty());
    }
}
