//! Is an answer checked sooner than it is written?
//!
//! A check reads the whole prompt and the answer before; servers that tell likelihoods read all of it
//! again, whatever they still know of it. Writing reads what is not known, and goes word by word. On a
//! GPU reading is nearly free; on a processor that reads slowly, short answers are written sooner than
//! they are checked. Which it is, is measured on the calls themselves.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How much the newest measurement counts.
const NEWEST: f64 = 0.3;
/// Of so many calls for which the other way is sooner, one goes this way, to be measured again.
const ONE_OF: u32 = 16;

/// What calls took so far.
#[derive(Default)]
pub(super) struct Pace(Mutex<Measured>);

/// Seconds; nothing where there was no call yet.
#[derive(Default)]
struct Measured {
    /// Of a check, for each token of prompt and answer.
    checked: Option<f64>,
    /// Until the first word, for each token of the prompt.
    begun: Option<f64>,
    /// From then on, for each token that is written.
    written: Option<f64>,
    /// Calls for which writing was sooner, since one was checked.
    n_written: u32,
}

impl Pace {
    /// Notes a check of so many tokens.
    pub(super) fn note_check(&self, n_tokens: usize, took: Duration) {
        let mut measured = self.measured();
        note(&mut measured.checked, took, n_tokens);
    }

    /// Notes an answer of so many tokens behind a prompt; `first` is when its first word came.
    pub(super) fn note_answer(
        &self,
        n_prompt: usize,
        first: Duration,
        n_written: usize,
        took: Duration,
    ) {
        let mut measured = self.measured();
        note(&mut measured.begun, first, n_prompt);
        // The first token came with the first word.
        if n_written > 1 {
            note(
                &mut measured.written,
                took.saturating_sub(first),
                n_written - 1,
            );
        }
    }

    /// Whether to check an answer of about so many tokens behind a prompt, and not to write it: so
    /// unless writing it was measured to be sooner.
    pub(super) fn prefers_check(&self, n_prompt: usize, n_answer: usize) -> bool {
        let mut measured = self.measured();
        let (Some(checked), Some(begun), Some(written)) =
            (measured.checked, measured.begun, measured.written)
        else {
            return true;
        };
        let (prompt, answer) = (n_prompt as f64, n_answer as f64);
        let is_sooner = checked * (prompt + answer) <= begun * prompt + written * answer;
        measured.n_written = match is_sooner || measured.n_written + 1 == ONE_OF {
            true => 0,
            false => measured.n_written + 1,
        };
        measured.n_written == 0
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(mean: &mut Option<f64>, took: Duration, n_tokens: usize) {
    let newest = took.as_secs_f64() / n_tokens.max(1) as f64;
    *mean = Some(match *mean {
        None => newest,
        Some(mean) => mean + NEWEST * (newest - mean),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_answer_is_checked_until_writing_it_was_measured_to_be_sooner() {
        let pace = Pace::default();
        assert!(pace.prefers_check(1000, 50), "nothing is known");
        pace.note_answer(1000, SECOND, 51, 6 * SECOND);
        assert!(pace.prefers_check(1000, 50), "no check was measured");
        pace.note_check(1050, 2 * SECOND);
        assert!(pace.prefers_check(1000, 50));
        // A long answer still, a short one not.
        let slow = Pace::default();
        slow.note_answer(1000, SECOND, 51, 6 * SECOND);
        slow.note_check(1050, 10 * SECOND);
        assert!(!slow.prefers_check(1000, 50));
        assert!(slow.prefers_check(1000, 200));
    }

    #[test]
    fn what_is_not_preferred_is_measured_again_now_and_then() {
        let pace = Pace::default();
        pace.note_answer(1000, SECOND, 51, 6 * SECOND);
        pace.note_check(1050, 60 * SECOND);
        let n_checked = (0..64).filter(|_| pace.prefers_check(1000, 50)).count();
        assert_eq!(n_checked, 4);
        for _ in 0..20 {
            pace.note_check(1050, SECOND);
        }
        assert!(pace.prefers_check(1000, 50), "the server was busy then");
    }
}
