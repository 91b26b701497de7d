//! Where does an old answer go on after the new one has left it?
//!
//! First guess: one token was replaced, what follows is the same. After that: where the
//! last few emitted tokens stand in the rest of the draft, nearest first. The guess is a
//! hint; a wrong one costs rows, so each failure doubles the number of tokens decoded
//! before the next guess.

/// Tokens that must reappear for the draft to be taken up again.
const MATCH: usize = 2;
/// Length of the first guess after a disagreement.
const SHORT: usize = 8;
/// Longest guess.
const LONG: usize = 64;

/// A draft and the place in it where the answer is thought to be.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    tokens: &'a [u32],
    /// Number of the draft token that was last proposed first, or would be.
    place: usize,
    /// Whether the answer is still along the draft at `place`.
    attached: bool,
    /// Length of the next guess.
    reach: usize,
    /// Tokens to decode before the next guess.
    wait: usize,
    /// What `wait` becomes at the next failure.
    penalty: usize,
}

impl<'a> Draft<'a> {
    pub fn new(tokens: &'a [u32]) -> Self {
        Self {
            tokens,
            place: 0,
            attached: true,
            reach: SHORT,
            wait: 0,
            penalty: 1,
        }
    }

    /// The first proposal: all of it.
    pub fn whole(&self) -> Vec<u32> {
        self.tokens.to_vec()
    }

    /// Goes on at this token of the draft, which is proposed next.
    pub fn move_to(&mut self, place: usize) {
        self.place = place;
        self.attached = true;
        self.wait = 0;
    }

    /// Learns how many of the proposed tokens stood, and the token chosen after them.
    pub fn judge(&mut self, last: u32, n_proposed: usize, n_stood: usize) {
        if n_proposed == 0 {
            return;
        }
        self.place = (self.place + n_stood).min(self.tokens.len());
        if n_stood == n_proposed {
            // The token after the proposal was chosen freely: is it the draft's too?
            self.attached = self.tokens.get(self.place) == Some(&last);
            self.place += 1;
            self.reach = (2 * self.reach).min(LONG);
            self.penalty = 1;
            return;
        }
        // A replaced token: guess that what follows is the same, unless guessing failed.
        self.place += 1;
        self.reach = SHORT;
        if n_stood == 0 && !self.attached {
            self.wait = self.penalty;
            self.penalty = (2 * self.penalty).min(LONG);
        } else {
            self.penalty = 1;
        }
        self.attached = self.wait == 0 && n_stood > 0;
    }

    /// What may follow the answer so far.
    pub fn propose(&mut self, answer: &[u32]) -> Vec<u32> {
        if self.tokens.is_empty() || self.place > self.tokens.len() {
            return Vec::new();
        }
        if self.wait > 0 {
            self.wait -= 1;
            return Vec::new();
        }
        if !self.attached {
            let Some(place) = self.find(answer) else {
                return Vec::new();
            };
            self.place = place;
        }
        let end = (self.place + self.reach).min(self.tokens.len());
        self.tokens
            .get(self.place..end)
            .unwrap_or_default()
            .to_vec()
    }

    /// The place in the draft after the last [`MATCH`] tokens of the answer, near where
    /// the answer was last.
    fn find(&self, answer: &[u32]) -> Option<usize> {
        let last = answer.get(answer.len().checked_sub(MATCH)?..)?;
        let distance = |end: &usize| end.abs_diff(self.place);
        (MATCH..self.tokens.len())
            .filter(|end| self.tokens[end - MATCH..*end] == *last)
            .min_by_key(distance)
    }
}
