//! Which sub-paragraphs of an old answer stand, and which are written again?
//!
//! With a tolerance, each sub-paragraph of the draft is judged by its own regret: one stale sentence of
//! a long answer would disappear in the mean over all of it. Those before the first that falls stand as
//! they are. In the place of that one the likeliest is written, until a sub-paragraph ends; then the rest
//! of the draft is judged anew, behind what stands now.
//!
//! Where the rest begins is a guess at what was written: in the place of the sub-paragraph that it has
//! most tokens in common with, of the one that fell and those behind it; before the one that fell, where
//! it has little in common with any. A wrong guess costs rows and stability, not sense: whatever is
//! judged stands only if it is likely enough there.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::GenerationRequest;
use crate::passes::Expected;
use crate::sampling::Sampling;

/// Where the sub-paragraphs of answers end.
#[derive(Clone, Copy)]
pub struct SubParagraphs<'a> {
    /// Of the draft: the number of tokens up to each end, ascending, the last that of all of it.
    pub ends: &'a [usize],
    /// Whether a sub-paragraph ends with these tokens of an answer.
    pub end_with: &'a dyn Fn(&[u32]) -> bool,
}

impl fmt::Debug for SubParagraphs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubParagraphs")
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

/// A draft that may stand in parts though other tokens are likelier.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    draft: &'a [u32],
    /// Ends of its sub-paragraphs, at least one.
    ends: Vec<usize>,
    tolerance: f32,
    max_tokens: usize,
    /// What the row behind it is held against; nothing where it has no end.
    stop: Arc<[u32]>,
}

impl<'a> Judged<'a> {
    /// The draft of a request, if it may stand with a regret.
    pub(super) fn of(request: &GenerationRequest<'a>) -> Option<Self> {
        let draft = request.draft;
        let is_answer = !draft.is_empty() && draft.len() <= request.max_tokens;
        let is_judged = request.tolerance > 0.0 && request.sampling == Sampling::Greedy;
        let is_cut = draft.len() == request.max_tokens;
        // Without anything that ends answers, whether this one ends is not known.
        if !is_answer || !is_judged || (!is_cut && request.stop.is_empty()) {
            return None;
        }
        let given = request.sub_paragraphs.map_or(&[][..], |parts| parts.ends);
        let is_ascending = given.windows(2).all(|pair| pair[0] < pair[1]);
        let covers = given.first() > Some(&0) && given.last() == Some(&draft.len());
        Some(Self {
            draft,
            ends: match is_ascending && covers {
                true => given.to_vec(),
                false => vec![draft.len()],
            },
            tolerance: request.tolerance,
            max_tokens: request.max_tokens,
            stop: match is_cut {
                true => Arc::default(),
                false => request.stop.into(),
            },
        })
    }

    /// Number of sub-paragraphs.
    pub(super) fn n_parts(&self) -> usize {
        self.ends.len()
    }

    /// Where a sub-paragraph begins; behind the last, where the draft ends.
    pub(super) fn start(&self, part: usize) -> usize {
        match part {
            0 => 0,
            _ => self.ends[part - 1],
        }
    }

    /// The draft from a sub-paragraph on.
    pub(super) fn rest_of(&self, part: usize) -> &'a [u32] {
        &self.draft[self.start(part)..]
    }

    /// What remains of the draft from a sub-paragraph on, where it can be judged behind so many tokens
    /// of an answer: where there is room for all of it, and it has an end.
    pub(super) fn rest(&self, part: usize, n_answered: usize) -> Option<&'a [u32]> {
        let rest = self.rest_of(part);
        let fits = n_answered + rest.len() < self.max_tokens;
        let is_first = part == 0 && n_answered == 0;
        (!rest.is_empty() && (is_first || (fits && !self.stop.is_empty()))).then_some(rest)
    }

    /// What the rows that read the draft from a sub-paragraph on are held against.
    pub(super) fn expected(&self, part: usize) -> Expected {
        Expected {
            tokens: self.rest_of(part).to_vec(),
            ends: self.stop.clone(),
        }
    }

    /// The first sub-paragraph from `part` on that falls; `gaps` says by how much another token is
    /// likelier, by token of the draft from `part` on and for its end.
    pub(super) fn first_fallen(&self, part: usize, gaps: &[f32]) -> usize {
        let start = self.start(part);
        let stands = |part: usize| {
            let end = match part + 1 == self.n_parts() {
                true => gaps.len(),
                false => self.ends[part] - start,
            };
            let gaps = &gaps[self.start(part) - start..end];
            let regret = gaps.iter().sum::<f32>() / gaps.len() as f32;
            regret <= self.tolerance
        };
        (part..self.n_parts())
            .find(|part| !stands(*part))
            .unwrap_or(self.n_parts())
    }

    /// The sub-paragraph that follows these tokens, which were written where `fallen` stood.
    pub(super) fn behind(&self, fallen: usize, written: &[u32]) -> usize {
        let mut best = (0, 1);
        let mut next = fallen;
        for part in fallen..self.n_parts() {
            let tokens = &self.draft[self.start(part)..self.ends[part]];
            let common = n_common(tokens, written);
            let of = tokens.len().max(written.len());
            if 2 * common >= of && common * best.1 > best.0 * of {
                best = (common, of);
                next = part + 1;
            }
        }
        next
    }
}

/// Tokens that two texts have in common, as often as both have them.
fn n_common(a: &[u32], b: &[u32]) -> usize {
    let mut left: HashMap<u32, usize> = HashMap::new();
    for token in a {
        *left.entry(*token).or_default() += 1;
    }
    let is_left = |token: &&u32| match left.get_mut(token) {
        Some(n) if *n > 0 => {
            *n -= 1;
            true
        }
        _ => false,
    };
    b.iter().filter(is_left).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(draft: &[u32], ends: Vec<usize>) -> Judged<'_> {
        Judged {
            draft,
            ends,
            tolerance: 0.5,
            max_tokens: 20,
            stop: [0].into(),
        }
    }

    #[test]
    fn one_stale_sub_paragraph_falls_however_long_the_answer_is() {
        let draft = [1, 2, 3, 4, 5, 6];
        let gaps = [0.0, 0.2, 0.0, 0.0, 1.2, 0.0, 0.0];
        assert_eq!(judged(&draft, vec![6]).first_fallen(0, &gaps), 1);
        let parts = judged(&draft, vec![2, 4, 6]);
        // The end is the last one's.
        assert_eq!(parts.first_fallen(0, &gaps), 3);
        let parts = judged(&draft, vec![2, 5, 6]);
        assert_eq!(parts.first_fallen(0, &gaps), 3);
        let parts = judged(&draft, vec![4, 5, 6]);
        assert_eq!(parts.first_fallen(0, &gaps), 1);
        assert_eq!(parts.first_fallen(2, &gaps[5..]), 3);
        let no_number = [f32::INFINITY, 0.0];
        assert_eq!(parts.first_fallen(2, &no_number), 2);
    }

    #[test]
    fn what_was_written_stands_for_what_it_has_most_in_common_with() {
        let draft = [1, 2, 3, 9, 4, 5, 6, 9, 7, 8, 9];
        let parts = judged(&draft, vec![4, 8, 11]);
        for (written, next) in [
            // In other words, with something of its own, that behind it.
            (&[1, 2, 30, 9][..], 1),
            (&[1, 2, 3, 9, 9, 9], 1),
            (&[4, 5, 6, 9], 2),
            // Something else comes before.
            (&[40, 41, 42, 9], 0),
            (&[], 0),
        ] {
            assert_eq!(parts.behind(0, written), next, "{written:?}");
        }
        // What stands already is not come back to.
        assert_eq!(parts.behind(2, &[1, 2, 3, 9]), 2);
    }

    #[test]
    fn the_rest_is_judged_where_there_is_room_for_it() {
        let draft = [1, 2, 3, 4];
        let parts = judged(&draft, vec![2, 4]);
        assert_eq!(parts.rest(1, 17), Some(&draft[2..]));
        assert_eq!(parts.rest(1, 18), None);
        assert_eq!(parts.rest(2, 0), None);
        let cut = Judged {
            max_tokens: 4,
            stop: Arc::default(),
            ..parts
        };
        assert_eq!(cut.rest(0, 0), Some(&draft[..]));
        assert_eq!(cut.rest(1, 1), None);
    }
}
