//! Which token is the likeliest, and by how much?

use crate::error::Error;
use crate::lanes::{Isa, Kernel, Lane, Lanes, WIDTH};

/// The greedy choice of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Token with the highest logit; of equals, the lowest id.
    pub token: u32,
    /// Its logit.
    pub logit: f32,
    /// Its logit minus the second highest: how near a tie it was.
    pub margin: f32,
}

impl Choice {
    /// The choice among these logits, one for each token; there are at least one.
    pub fn of(logits: &[f32]) -> Self {
        let (highest, second) = Isa::best().run(TopTwo(logits));
        let token = logits.iter().position(|x| *x == highest).unwrap_or(0) as u32;
        Self {
            token,
            logit: highest,
            margin: highest - second,
        }
    }

    /// The choice among these tokens only, each once, by their logits less what stands beside them:
    /// of equals, the lowest id. The margin is to the next of them, infinite where there is one.
    ///
    /// # Panics
    /// If there is none, or one that has no logit.
    pub fn among(tokens: &[(u32, f32)], logits: &[f32]) -> Self {
        let scores = tokens
            .iter()
            .map(|(token, less)| (*token, logits[*token as usize] - less));
        let mut ranked: Vec<(u32, f32)> = scores.collect();
        ranked.sort_unstable_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
        let (token, highest) = ranked[0];
        let next = ranked.get(1).map(|(_, score)| *score);
        Self {
            token,
            logit: logits[token as usize],
            margin: highest - next.unwrap_or(f32::NEG_INFINITY),
        }
    }

    /// The choice among the tokens of a set, 32 a word, the lowest in the lowest bit: of equals, the
    /// lowest id. The margin is to the next of them, infinite where there is one.
    ///
    /// # Panics
    /// If there is none that has a logit.
    pub fn within(set: &[u32], logits: &[f32]) -> Self {
        let (mut best, mut second): (Option<(u32, f32)>, f32) = (None, f32::NEG_INFINITY);
        for (word, bits) in set.iter().enumerate() {
            let mut left = *bits;
            while left != 0 {
                let token = word as u32 * 32 + left.trailing_zeros();
                left &= left - 1;
                let Some(logit) = logits.get(token as usize).copied() else {
                    break;
                };
                match best {
                    Some((_, highest)) if logit.total_cmp(&highest).is_le() => {
                        second = second.max(logit);
                    }
                    _ => {
                        second = best.map_or(second, |(_, highest)| highest);
                        best = Some((token, logit));
                    }
                }
            }
        }
        let (token, logit) = best.expect("a set of tokens has one with a logit");
        Self {
            token,
            logit,
            margin: logit - second,
        }
    }

    /// The token, where there was anything to choose by: numbers that overflow give none.
    ///
    /// # Errors
    /// [`Error::NotFinite`].
    pub fn finite(&self) -> Result<u32, Error> {
        match self.logit.is_finite() {
            true => Ok(self.token),
            false => Err(Error::NotFinite),
        }
    }
}

/// How far the likeliest of these tokens is below the likeliest of all, whose logit is `highest`, in
/// nats: a difference of logits is one of log-probabilities. Infinite where that is no number, or one
/// of them has no logit.
pub(crate) fn gap(tokens: &[u32], highest: f32, logits: &[f32]) -> f32 {
    let of_tokens = tokens.iter().map(|token| logits.get(*token as usize));
    let likeliest = of_tokens
        .flatten()
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    let gap = highest - likeliest;
    if gap.is_finite() { gap } else { f32::INFINITY }
}

/// The highest and the second highest of some numbers.
struct TopTwo<'a>(&'a [f32]);

impl Kernel for TopTwo<'_> {
    type Output = (f32, f32);
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> (f32, f32) {
        let (whole, rest) = self.0.as_chunks::<WIDTH>();
        let mut first = l.splat(f32::NEG_INFINITY);
        let mut second = first;
        for x in whole {
            let x = l.load(&Lane(*x));
            second = l.max(second, l.min(first, x));
            first = l.max(first, x);
        }
        let (mut a, mut b) = (Lane::ZERO, Lane::ZERO);
        l.store(first, &mut a);
        l.store(second, &mut b);
        let (mut highest, mut next) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        for &x in a.0.iter().chain(&b.0).chain(rest) {
            if x > highest {
                (highest, next) = (x, highest);
            } else if x > next {
                next = x;
            }
        }
        (highest, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_choice_among_few_ignores_the_others() {
        let logits = [9.0, 1.0, 4.0, 4.0, -2.0];
        let choice = Choice::among(&[(4, 0.0), (3, 0.0), (1, 0.0), (2, 0.0)], &logits);
        assert_eq!((choice.token, choice.margin), (2, 0.0));
        let choice = Choice::among(&[(1, 5.0), (4, -1.0)], &logits);
        assert_eq!((choice.token, choice.margin), (4, 3.0));
        assert_eq!(Choice::among(&[(4, 0.0)], &logits).margin, f32::INFINITY);
    }

    #[test]
    fn a_choice_within_a_set_is_the_one_among_its_tokens() {
        let logits: Vec<f32> = (0..70u16).map(|i| f32::from(i * 37 % 19)).collect();
        let set = [0x8000_0420u32, 0xffff_0000, 0xffff_ffff];
        let tokens = (0..70u32).filter(|i| set[*i as usize / 32] >> (i % 32) & 1 == 1);
        let tokens: Vec<(u32, f32)> = tokens.map(|token| (token, 0.0)).collect();
        assert_eq!(
            Choice::within(&set, &logits),
            Choice::among(&tokens, &logits)
        );
        assert_eq!(Choice::within(&[4], &logits).margin, f32::INFINITY);
        assert!(Choice::within(&[6], &[f32::NAN; 4]).finite().is_err());
    }

    #[test]
    fn a_gap_is_to_the_likeliest_and_what_is_no_number_is_infinitely_far() {
        let logits = [9.0, 1.0, 4.0];
        assert_eq!(gap(&[0], 9.0, &logits), 0.0);
        assert_eq!(gap(&[1, 2], 9.0, &logits), 5.0);
        assert_eq!(gap(&[7], 9.0, &logits), f32::INFINITY);
        assert_eq!(gap(&[1], f32::NAN, &[f32::NAN, f32::NAN]), f32::INFINITY);
    }

    #[test]
    fn among_what_is_no_number_there_is_no_choice() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let few = Choice::among(&[(1, 0.0), (2, 0.5)], &[bad; 4]);
            for choice in [Choice::of(&[bad; 40]), few] {
                assert!(choice.finite().is_err(), "{bad}");
            }
        }
        let one = Choice::of(&[1.0, f32::INFINITY, 2.0]);
        assert!(one.finite().is_err());
        let none = Choice::of(&[1.0, f32::NEG_INFINITY, 2.0]);
        assert_eq!(none.finite().ok(), Some(2));
    }

    proptest! {
        #[test]
        fn finds_what_sorting_finds(logits in prop::collection::vec(0i8..40, 2..90)) {
            let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            let mut sorted: Vec<usize> = (0..logits.len()).collect();
            sorted.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
            let choice = Choice::of(&logits);
            prop_assert_eq!(choice.token as usize, sorted[0]);
            prop_assert_eq!(choice.margin, logits[sorted[0]] - logits[sorted[1]]);
        }
    }
}
