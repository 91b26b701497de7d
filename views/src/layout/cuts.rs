//! Where was a document cut that stands?
//!
//! What a deletion takes away is what its insertion made, so where a document was cut is kept while it stands: its
//! deletion cuts nothing, and asks for the passages by their names ([`PassageShelf`](super::PassageShelf)), which
//! tokenizes nothing while they stand. No text is kept here.
//!
//! # Invariants
//! - A document's insertions and deletions come to one worker, and its deletion behind its insertion.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use perennial_bank::{Document, DocumentKey, PassageId, PassageSizes, passage};

/// A passage of a document: its name, and where it stands in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) id: PassageId,
    pub(super) range: Range<usize>,
}

/// The passages of a document; none where cutting it panicked.
pub(super) type Pieces = Option<Arc<[Piece]>>;

/// A document under its key, by its title and text.
type Version = (DocumentKey, [u8; 32]);

/// Where the documents of a view that stand on a worker were cut.
pub(super) struct Cuts {
    sizes: PassageSizes,
    /// With how often each stands.
    standing: HashMap<Version, (usize, Pieces)>,
    /// Documents that were cut.
    n_cut: usize,
}

impl Cuts {
    pub(super) fn new(sizes: PassageSizes) -> Self {
        Self {
            sizes,
            standing: HashMap::new(),
            n_cut: 0,
        }
    }

    /// Of a document that comes, or of one that goes.
    pub(super) fn of(&mut self, document: &Document, comes: bool) -> Pieces {
        let (sizes, n_cut) = (self.sizes, &mut self.n_cut);
        let mut cut = || {
            *n_cut += 1;
            pieces(document, sizes)
        };
        match (self.standing.entry(version(document)), comes) {
            (Entry::Occupied(mut standing), true) => {
                standing.get_mut().0 += 1;
                standing.get().1.clone()
            }
            (Entry::Vacant(new), true) => new.insert((1, cut())).1.clone(),
            (Entry::Occupied(mut standing), false) => {
                standing.get_mut().0 -= 1;
                match standing.get().0 {
                    0 => standing.remove().1,
                    _ => standing.get().1.clone(),
                }
            }
            // It never came: what it would have been is taken away.
            (Entry::Vacant(_), false) => cut(),
        }
    }
}

fn version(document: &Document) -> Version {
    let mut hash = blake3::Hasher::new();
    hash.update(&(document.title.len() as u64).to_le_bytes());
    hash.update(document.title.as_bytes());
    hash.update(document.text.as_bytes());
    (document.key.clone(), *hash.finalize().as_bytes())
}

fn pieces(document: &Document, sizes: PassageSizes) -> Pieces {
    let text = &*document.text;
    let split = || passage::split(text, sizes);
    let split = catch_unwind(AssertUnwindSafe(split)).ok()?;
    let piece = |piece: &str| {
        let start = piece.as_ptr().addr() - text.as_ptr().addr();
        Piece {
            id: PassageId::of(&document.title, piece),
            range: start..start + piece.len(),
        }
    };
    Some(split.into_iter().map(piece).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(key: &str, text: &str) -> Document {
        Document {
            key: DocumentKey::new(key),
            title: "Notes".into(),
            text: text.into(),
            updated_at_ms: 0,
            supersedes: Arc::default(),
        }
    }

    #[test]
    fn a_deletion_cuts_nothing_and_leaves_nothing() {
        let text = "It rains in Bergen.\n\nThe ferry leaves at nine.\n\n".repeat(200);
        let mut cuts = Cuts::new(PassageSizes::default());
        let (long, edited) = (document("a", &text), document("a", &format!("{text}And?")));
        let came = cuts.of(&long, true).expect("is cut");
        assert!(came.len() > 3, "{}", came.len());
        for (piece, whole) in came
            .iter()
            .zip(passage::split(&text, PassageSizes::default()))
        {
            assert_eq!(&text[piece.range.clone()], whole);
            assert_eq!(piece.id, PassageId::of("Notes", whole));
        }
        // An edit: in any order, and of another document with the same text.
        let other = document("b", &text);
        cuts.of(&edited, true);
        cuts.of(&other, true);
        assert_eq!(cuts.n_cut, 3);
        assert_eq!(cuts.of(&long, false), Some(came.clone()));
        // The same again, under other values to match by, is not cut again either.
        cuts.of(&edited, true);
        cuts.of(&edited, false);
        assert_eq!(cuts.standing.len(), 2);
        cuts.of(&edited, false);
        assert_eq!(cuts.of(&other, false), Some(came));
        assert_eq!((cuts.n_cut, cuts.standing.len()), (3, 0));
    }
}
