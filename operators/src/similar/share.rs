//! Which rows does one worker hold, and which pairs has it found?

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use perennial_model::dot::{Rows, Vectors, products};
use rayon::prelude::*;

use super::SimilarWork;
use crate::select::Vector;

/// Rows that come together: their vectors fit the second cache, 96 KiB of 384 elements.
const BLOCK_ROWS: usize = 64;
/// Standing rows that a block is compared with at a time.
const BLOCK_STANDING: usize = 512;

/// A pair that comes (1) or goes (-1), the lesser row first.
pub(super) type PairUpdate<D> = ((D, D), isize);

/// A place in a matrix of vectors.
type Slot = u32;

/// The rows of one worker, and the pairs that it found.
pub(super) struct Share<D> {
    threshold: f64,
    work: Arc<SimilarWork>,
    /// Where each row stands.
    slots: HashMap<D, Slot>,
    /// The row in each slot; none where it is gone.
    rows: Vec<Option<D>>,
    free: Vec<Slot>,
    vectors: Vectors,
    /// Of each row of a pair that was found here, own or not, the other rows.
    found: HashMap<D, BTreeSet<D>>,
}

impl<D: Clone + Hash + Ord + Send + Sync> Share<D> {
    pub(super) fn new(threshold: f64, work: Arc<SimilarWork>) -> Self {
        Self {
            threshold,
            work,
            slots: HashMap::new(),
            rows: Vec::new(),
            free: Vec::new(),
            vectors: Vectors::default(),
            found: HashMap::new(),
        }
    }

    /// Takes back the pairs of rows that are gone, and these as far as they are its own.
    pub(super) fn remove(
        &mut self,
        gone: impl IntoIterator<Item = D>,
        pairs: &mut Vec<PairUpdate<D>>,
    ) {
        for row in gone {
            for other in self.found.remove(&row).unwrap_or_default() {
                if let Some(others) = self.found.get_mut(&other) {
                    others.remove(&row);
                    if others.is_empty() {
                        self.found.remove(&other);
                    }
                }
                pairs.push((ordered(row.clone(), other), -1));
            }
            if let Some(slot) = self.slots.remove(&row) {
                self.rows[slot as usize] = None;
                self.vectors.set(slot, std::iter::empty());
                self.free.push(slot);
            }
        }
    }

    /// Finds the pairs of rows that come, which are in order, with its own; keeps those of them that are.
    pub(super) fn insert(
        &mut self,
        come: &[(D, Vector)],
        is_own: &impl Fn(&D) -> bool,
        pairs: &mut Vec<PairUpdate<D>>,
    ) {
        let mut block = Vectors::default();
        for come in come.chunks(BLOCK_ROWS) {
            for (at, (_, vector)) in (0..).zip(come) {
                block.set(at, vector.elements());
            }
            let own: Vec<&(D, Vector)> = come.iter().filter(|(row, _)| is_own(row)).collect();
            let widest = own.iter().map(|(_, vector)| vector.elements().len());
            let widest = widest.max().unwrap_or(0).max(block.width());
            self.vectors.widen(widest);
            block.widen(self.vectors.width());
            let standing = self.standing();
            let mut near = self.near((&block, come.len()), &standing);
            let new: Vec<Slot> = own
                .into_iter()
                .map(|(row, vector)| self.keep(row, vector))
                .collect();
            // A row alone meets no other of its block.
            if come.len() > 1 {
                let among = self.near((&block, come.len()), &new);
                near.extend(among.into_iter().filter(|(at, slot)| {
                    let standing = self.rows[*slot as usize].as_ref();
                    standing.is_some_and(|standing| *standing < come[*at].0)
                }));
            }
            for (at, slot) in near {
                if let Some(standing) = self.rows[slot as usize].clone() {
                    pairs.push((self.pair(come[at].0.clone(), standing), 1));
                }
            }
        }
    }

    /// The slots of its rows.
    fn standing(&self) -> Vec<Slot> {
        let all = (0..).zip(&self.rows);
        all.filter_map(|(slot, row)| row.as_ref().map(|_| slot))
            .collect()
    }

    /// Gives a row a slot.
    fn keep(&mut self, row: &D, vector: &Vector) -> Slot {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.rows[slot as usize] = Some(row.clone());
                slot
            }
            None => {
                self.rows.push(Some(row.clone()));
                Slot::try_from(self.rows.len() - 1).expect("fewer than 2^32 rows stand on a worker")
            }
        };
        self.vectors.set(slot, vector.elements());
        self.slots.insert(row.clone(), slot);
        slot
    }

    /// Notes a pair.
    fn pair(&mut self, a: D, b: D) -> (D, D) {
        let others = self.found.entry(a.clone()).or_default();
        others.insert(b.clone());
        let others = self.found.entry(b.clone()).or_default();
        others.insert(a.clone());
        ordered(a, b)
    }

    /// Which of the first so many rows of a block are similar to which of these slots.
    fn near(&self, (block, n_rows): (&Vectors, usize), slots: &[Slot]) -> Vec<(usize, Slot)> {
        let n_products = n_rows as u64 * slots.len() as u64;
        self.work
            .n_products
            .fetch_add(n_products, Ordering::Relaxed);
        let places: Vec<Slot> = (0..).take(n_rows).collect();
        let threshold = self.threshold;
        let compared = |slots: &[Slot]| {
            let rows = Rows {
                vectors: block,
                slots: &places,
            };
            let columns = Rows {
                vectors: &self.vectors,
                slots,
            };
            let mut scores = vec![0f32; n_rows * slots.len()];
            products(rows, columns, &mut scores);
            let by_row = scores.chunks_exact(slots.len()).enumerate();
            let near = by_row.flat_map(|(at, scores)| {
                let scored = slots.iter().zip(scores);
                // A score that is no number reaches no threshold.
                let near = scored.filter(move |(_, score)| f64::from(**score) >= threshold);
                near.map(move |(slot, _)| (at, *slot))
            });
            near.collect::<Vec<_>>()
        };
        match slots.len() {
            0 => Vec::new(),
            1..=BLOCK_STANDING => compared(slots),
            _ => slots
                .par_chunks(BLOCK_STANDING)
                .flat_map_iter(compared)
                .collect(),
        }
    }
}

/// Both, the lesser first.
fn ordered<D: Ord>(a: D, b: D) -> (D, D) {
    match a < b {
        true => (a, b),
        false => (b, a),
    }
}
