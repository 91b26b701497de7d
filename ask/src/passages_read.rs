//! How many of the passages that a context may see was its answer written over?
//!
//! Where passages exceed the budget of a view, an answer is written over the nearest of them. Both numbers
//! are told, so that a reader knows what was left out. They are about the answer, not part of it: when the
//! corpus grows and the selection stays, no model is asked.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Passages that an answer was written over, and those it was chosen from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassagesRead {
    /// Passages of its layout.
    pub read: usize,
    /// Passages of all documents that the context may see. Where some are left out, those with one title
    /// and text count once, as they are read once.
    pub of: usize,
}

impl PassagesRead {
    /// All of so many.
    pub fn all(n: usize) -> Self {
        Self { read: n, of: n }
    }

    /// The same passages, chosen from so many; from no others, where that is not known.
    #[must_use]
    pub fn chosen_from(self, of: Option<usize>) -> Self {
        Self {
            of: of.unwrap_or(self.read).max(self.read),
            ..self
        }
    }

    /// Whether any was left out.
    pub fn leaves_out(&self) -> bool {
        self.read < self.of
    }
}

impl fmt::Display for PassagesRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.of == 1 { "passage" } else { "passages" };
        write!(f, "{} of {} {noun} read", self.read, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fewer_are_there_than_were_read() {
        let read = PassagesRead::all(3);
        assert!(!read.leaves_out());
        let some = read.chosen_from(Some(10));
        assert!(some.leaves_out());
        assert_eq!(some.to_string(), "3 of 10 passages read");
        assert_eq!(some.chosen_from(None), read);
        assert_eq!(read.chosen_from(Some(2)), read);
        let none = PassagesRead::all(0).chosen_from(Some(1));
        assert_eq!(none.to_string(), "0 of 1 passage read");
    }
}
