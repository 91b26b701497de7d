//! Which results are known, which are waited for, and by whom? One table for all who ask.
//!
//! The first who asks for a result has it computed; who asks meanwhile waits for the same, and who
//! asks later is given it. A result that nobody uses any more leaves the table.

use std::collections::HashMap;
use std::hash::Hash;

/// Results by key: `X` is what is asked, `Y` what comes of it, `W` who waits.
pub(crate) struct SharedResults<K, X, Y, W> {
    entries: HashMap<K, Entry<X, Y, W>>,
}

struct Entry<X, Y, W> {
    n_uses: usize,
    state: State<X, Y, W>,
}

enum State<X, Y, W> {
    /// To be computed, or being computed.
    Asked(X, Vec<W>),
    Known(Y),
}

/// What becomes of a question.
pub(crate) enum Asked<Y, W> {
    /// Nobody asked it before: it is to be computed.
    First,
    /// It was asked; of those who waited before, this is whether any still wants it.
    Joined { was_wanted: bool },
    /// The result, for the one who asked.
    Known(Y, W),
}

impl<K, X, Y, W> Default for SharedResults<K, X, Y, W> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash + Copy, X: Clone, Y: Clone, W> SharedResults<K, X, Y, W> {
    /// Counts one use, and has `waiting` wait unless the result is known.
    pub(crate) fn ask(
        &mut self,
        key: K,
        asked: &X,
        waiting: W,
        is_wanted: impl Fn(&W) -> bool,
    ) -> Asked<Y, W> {
        let Some(entry) = self.entries.get_mut(&key) else {
            let state = State::Asked(asked.clone(), vec![waiting]);
            self.entries.insert(key, Entry { n_uses: 1, state });
            return Asked::First;
        };
        entry.n_uses += 1;
        match &mut entry.state {
            State::Known(result) => Asked::Known(result.clone(), waiting),
            State::Asked(_, others) => {
                let was_wanted = others.iter().any(is_wanted);
                others.push(waiting);
                Asked::Joined { was_wanted }
            }
        }
    }

    /// Takes one use back. Of the last, returns what was asked and who waits in vain, if the result
    /// is not known.
    pub(crate) fn release(&mut self, key: &K) -> Option<Option<(X, Vec<W>)>> {
        let entry = self.entries.get_mut(key)?;
        entry.n_uses -= 1;
        if entry.n_uses > 0 {
            return None;
        }
        let entry = self.entries.remove(key)?;
        Some(match entry.state {
            State::Asked(asked, waiting) => Some((asked, waiting)),
            State::Known(_) => None,
        })
    }

    /// The result under this key, if it is known.
    pub(crate) fn known(&self, key: &K) -> Option<&Y> {
        match &self.entries.get(key)?.state {
            State::Known(result) => Some(result),
            State::Asked(..) => None,
        }
    }

    /// What is asked under this key, if it is not known and somebody wants it.
    pub(crate) fn wanted(&self, key: &K, is_wanted: impl Fn(&W) -> bool) -> Option<&X> {
        match &self.entries.get(key)?.state {
            State::Asked(asked, waiting) if waiting.iter().any(is_wanted) => Some(asked),
            _ => None,
        }
    }

    /// Something of each who waits for a result, in the order in which they came.
    pub(crate) fn waiting<T>(&self, key: &K, of: impl Fn(&W) -> T) -> Vec<T> {
        match self.entries.get(key).map(|entry| &entry.state) {
            Some(State::Asked(_, waiting)) => waiting.iter().map(of).collect(),
            _ => Vec::new(),
        }
    }

    /// Notes a result. Returns what was asked and who is to be told; none if nobody asks any more.
    pub(crate) fn know(&mut self, key: &K, result: Y) -> Option<(X, Vec<W>)> {
        let entry = self.entries.get_mut(key)?;
        match std::mem::replace(&mut entry.state, State::Known(result)) {
            State::Asked(asked, waiting) => Some((asked, waiting)),
            State::Known(_) => None,
        }
    }
}
