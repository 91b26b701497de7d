//! Which results of calls outlive the process? Those that something uses.
//!
//! A result is *staged* until the next commit writes it. Uses are counted in memory: what loses its last
//! use leaves the file, and so does, once all that is live has been asked for ([`Kept::commit`]), what an
//! earlier process left that nobody uses.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

use redb::Table;

/// Results by the digest of what was asked.
pub(super) struct Kept<D, V> {
    /// What no commit has written.
    staged: BTreeMap<D, V>,
    uses: HashMap<D, usize>,
    /// What nobody uses any more, since the last commit.
    unused: HashSet<D>,
    /// Whether `uses` knew all that is live at a commit of this process.
    knows_uses: bool,
    /// Whether anything may be written down; where not, nothing is looked for.
    may_be_stored: bool,
}

impl<D, V> Default for Kept<D, V> {
    fn default() -> Self {
        Self {
            staged: BTreeMap::new(),
            uses: HashMap::new(),
            unused: HashSet::new(),
            knows_uses: false,
            may_be_stored: true,
        }
    }
}

impl<D: Copy + Eq + Ord + Hash, V: Clone> Kept<D, V> {
    /// Notes whether anything is written down.
    pub(super) fn note_stored(&mut self, is_any_stored: bool) {
        self.may_be_stored = is_any_stored;
    }

    /// Whether a result that is not staged may be written down.
    pub(super) fn may_be_stored(&self) -> bool {
        self.may_be_stored
    }

    /// Counts a use. Returns the result, if it is staged.
    pub(super) fn used(&mut self, digest: &D) -> Option<V> {
        *self.uses.entry(*digest).or_default() += 1;
        self.unused.remove(digest);
        self.staged.get(digest).cloned()
    }

    /// Stages a result.
    pub(super) fn stage(&mut self, digest: &D, result: V) {
        self.staged.insert(*digest, result);
    }

    /// Takes a use back.
    pub(super) fn released(&mut self, digest: &D) {
        if let Some(uses) = self.uses.get_mut(digest) {
            *uses -= 1;
            if *uses == 0 {
                self.uses.remove(digest);
                self.staged.remove(digest);
                self.unused.insert(*digest);
            }
        }
    }

    /// Writes what is staged, and removes what is not used. `knows_uses` says whether all that is
    /// live has been asked for by now.
    pub(super) fn commit(
        &self,
        table: &mut Table<'_, [u8; 32], &[u8]>,
        knows_uses: bool,
        bytes: impl Fn(&D) -> [u8; 32],
        digest: impl Fn([u8; 32]) -> D,
        encode: impl Fn(&V) -> Vec<u8>,
    ) -> Result<(), redb::Error> {
        for (of, result) in &self.staged {
            table.insert(bytes(of), encode(result).as_slice())?;
        }
        if knows_uses && !self.knows_uses {
            table.retain(|of, _| self.uses.contains_key(&digest(of)))?;
            return Ok(());
        }
        for of in &self.unused {
            table.remove(bytes(of))?;
        }
        Ok(())
    }

    /// Notes that the commit is durable.
    pub(super) fn committed(&mut self, knows_uses: bool) {
        self.may_be_stored |= !self.staged.is_empty();
        self.staged.clear();
        self.unused.clear();
        self.knows_uses |= knows_uses;
    }
}
