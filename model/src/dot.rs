//! How near are many vectors to many others, with the same bits everywhere?
//!
//! # Design
//! A vector stands in a row of whole lanes, filled up with zeros. An inner product is
//! sixteen sums, of every sixteenth element each, in the order of the elements: one chain
//! of fused multiply-adds a lane. The sixteen are added in the order of a binary tree.
//! Products are taken in tiles of three rows by two columns, so that a row that was loaded
//! is used more than once; columns are taken sixteen at a time, which fit the first cache.
//!
//! # Invariants
//! - A product's bits depend on the two vectors alone: not on the tile, not on what else
//!   is asked, not on the instruction set.
//! - Zeros behind a vector change nothing: matrices may be widened.
//!
//! What this does not do: it knows no threads, and it does not say which products are
//! large. Whoever asks decides on blocks and threads.

use crate::lanes::{Isa, Kernel, Lane, Lanes, WIDTH, sum};

/// Rows that are allocated together: growing never copies what is there.
const CHUNK_ROWS: usize = 64;
/// Columns that are used by all rows before the next are read: 24 KiB of 384 elements.
const N_CACHED_COLUMNS: usize = 16;
/// Rows and columns of a tile: as many sums as sixteen registers of eight lanes hold.
const TILE: (usize, usize) = (3, 2);

/// Vectors by slot: `[n_slots][n_elements]`, each row filled up to whole lanes.
#[derive(Default)]
pub struct Vectors {
    /// Lanes of a row.
    n_lanes: usize,
    /// Each of `CHUNK_ROWS` rows.
    chunks: Vec<Box<[Lane]>>,
}

impl Vectors {
    /// Writes a vector into a slot, whatever stood there. A longer vector than any before
    /// widens all rows.
    pub fn set(&mut self, slot: u32, vector: impl ExactSizeIterator<Item = f32>) {
        self.widen(vector.len());
        let (chunk, at) = self.place(slot);
        while self.chunks.len() <= chunk {
            self.chunks
                .push(vec![Lane::ZERO; CHUNK_ROWS * self.n_lanes].into());
        }
        let row = &mut self.chunks[chunk][at..at + self.n_lanes];
        row.fill(Lane::ZERO);
        for (i, x) in vector.enumerate() {
            row[i / WIDTH].0[i % WIDTH] = x;
        }
    }

    /// The elements of a slot that was set, zeros behind the vector included.
    pub fn get(&self, slot: u32) -> impl Iterator<Item = f32> + '_ {
        self.row(slot).iter().flat_map(|lane| lane.0)
    }

    /// Makes rows wide enough for `n_elements`. Two matrices that are multiplied must be
    /// equally wide.
    pub fn widen(&mut self, n_elements: usize) {
        let n_lanes = n_elements.div_ceil(WIDTH);
        let old = self.n_lanes;
        if n_lanes <= old {
            return;
        }
        self.n_lanes = n_lanes;
        for chunk in &mut self.chunks {
            let mut wider = vec![Lane::ZERO; CHUNK_ROWS * n_lanes];
            for row in 0..CHUNK_ROWS {
                wider[row * n_lanes..][..old].copy_from_slice(&chunk[row * old..][..old]);
            }
            *chunk = wider.into();
        }
    }

    /// Elements of a row, zeros behind the vector included.
    pub fn width(&self) -> usize {
        self.n_lanes * WIDTH
    }

    fn place(&self, slot: u32) -> (usize, usize) {
        let slot = slot as usize;
        (slot / CHUNK_ROWS, slot % CHUNK_ROWS * self.n_lanes)
    }

    #[inline(always)]
    fn row(&self, slot: u32) -> &[Lane] {
        let (chunk, at) = self.place(slot);
        &self.chunks[chunk][at..at + self.n_lanes]
    }
}

/// Some vectors of a matrix, by slot.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The matrix.
    pub vectors: &'a Vectors,
    /// The slots, each set before.
    pub slots: &'a [u32],
}

/// Inner products of all rows with all columns: `out[row * n_columns + column]`.
///
/// # Panics
/// If the matrices are not equally wide, a slot was never set, or `out` has another length.
pub fn products(rows: Rows<'_>, columns: Rows<'_>, out: &mut [f32]) {
    products_under(Isa::best(), rows, columns, out);
}

fn products_under(isa: Isa, rows: Rows<'_>, columns: Rows<'_>, out: &mut [f32]) {
    assert_eq!(
        rows.vectors.n_lanes, columns.vectors.n_lanes,
        "matrices are equally wide"
    );
    assert_eq!(
        out.len(),
        rows.slots.len() * columns.slots.len(),
        "one product a pair"
    );
    isa.run(Products { rows, columns, out });
}

struct Products<'a> {
    rows: Rows<'a>,
    columns: Rows<'a>,
    out: &'a mut [f32],
}

impl Kernel for Products<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { rows, columns, out } = self;
        let n_columns = columns.slots.len();
        for first in (0..n_columns).step_by(N_CACHED_COLUMNS) {
            let end = (first + N_CACHED_COLUMNS).min(n_columns);
            let mut row = 0;
            while row + TILE.0 <= rows.slots.len() {
                strip::<L, { TILE.0 }>(l, rows, columns, (row, first, end), out);
                row += TILE.0;
            }
            while row < rows.slots.len() {
                strip::<L, 1>(l, rows, columns, (row, first, end), out);
                row += 1;
            }
        }
    }
}

/// `R` rows from `row` on by the columns from `first` to `end`.
#[inline(always)]
fn strip<L: Lanes, const R: usize>(
    l: L,
    rows: Rows<'_>,
    columns: Rows<'_>,
    (row, first, end): (usize, usize, usize),
    out: &mut [f32],
) {
    let mut column = first;
    while column + TILE.1 <= end {
        tile::<L, R, { TILE.1 }>(l, rows, columns, (row, column), out);
        column += TILE.1;
    }
    if column < end {
        tile::<L, R, 1>(l, rows, columns, (row, column), out);
    }
}

#[inline(always)]
fn tile<L: Lanes, const R: usize, const C: usize>(
    l: L,
    rows: Rows<'_>,
    columns: Rows<'_>,
    (row, column): (usize, usize),
    out: &mut [f32],
) {
    let n_lanes = rows.vectors.n_lanes;
    let mut a: [&[Lane]; R] = [&[]; R];
    for (i, a) in a.iter_mut().enumerate() {
        *a = &rows.vectors.row(rows.slots[row + i])[..n_lanes];
    }
    let mut b: [&[Lane]; C] = [&[]; C];
    for (j, b) in b.iter_mut().enumerate() {
        *b = &columns.vectors.row(columns.slots[column + j])[..n_lanes];
    }
    let mut sums = [[l.splat(0.0); C]; R];
    for k in 0..n_lanes {
        let mut right = [l.splat(0.0); C];
        for j in 0..C {
            right[j] = l.load(&b[j][k]);
        }
        for i in 0..R {
            let left = l.load(&a[i][k]);
            for j in 0..C {
                sums[i][j] = l.fma(left, right[j], sums[i][j]);
            }
        }
    }
    let n_columns = columns.slots.len();
    for i in 0..R {
        for j in 0..C {
            out[(row + i) * n_columns + column + j] = sum(l, sums[i][j]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The order that the module declares, one number after the other.
    fn plain(a: &[f32], b: &[f32]) -> f32 {
        let mut sums = [0f32; WIDTH];
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            sums[i % WIDTH] = a.mul_add(*b, sums[i % WIDTH]);
        }
        let mut half = WIDTH / 2;
        while half > 0 {
            for i in 0..half {
                sums[i] += sums[i + half];
            }
            half /= 2;
        }
        sums[0]
    }

    fn matrix(vectors: &[Vec<f32>]) -> (Vectors, Vec<u32>) {
        let mut matrix = Vectors::default();
        // Slots in another order, with holes.
        let slots: Vec<u32> = (0..vectors.len() as u32).rev().map(|i| i * 3).collect();
        for (vector, slot) in vectors.iter().zip(&slots) {
            matrix.set(*slot, vector.iter().copied());
        }
        (matrix, slots)
    }

    proptest! {
        #[test]
        fn every_instruction_set_and_tile_gives_the_bits_of_a_plain_loop(
            n_elements in 1usize..70,
            n_rows in 1usize..9,
            n_columns in 1usize..40,
            seed in any::<u32>(),
        ) {
            let element = |i: usize| {
                let x = (i as u32).wrapping_mul(0x9e37_79b9).wrapping_add(seed);
                f32::from_bits(x & 0xbfff_ffff | 0x2000_0000)
            };
            let some = |n: usize, from: usize| -> Vec<Vec<f32>> {
                let vector = |i: usize| {
                    (0..n_elements).map(|k| element(from + i * n_elements + k) % 8.0).collect()
                };
                (0..n).map(vector).collect()
            };
            let (rows, columns) = (some(n_rows, 0), some(n_columns, 10_000));
            let ((a, a_slots), (b, b_slots)) = (matrix(&rows), matrix(&columns));
            let expected: Vec<u32> = rows
                .iter()
                .flat_map(|row| columns.iter().map(|column| plain(row, column).to_bits()))
                .collect();
            for isa in Isa::available() {
                let mut out = vec![0.0; n_rows * n_columns];
                let (rows, columns) = (
                    Rows { vectors: &a, slots: &a_slots },
                    Rows { vectors: &b, slots: &b_slots },
                );
                products_under(isa, rows, columns, &mut out);
                let bits: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
                prop_assert_eq!(&bits, &expected, "{:?}", isa);
            }
        }
    }

    #[test]
    fn a_matrix_is_widened_without_a_change_of_bits() {
        let (short, long) = (vec![0.3, -0.7, 0.1], vec![0.9; 40]);
        let (mut a, slots) = matrix(std::slice::from_ref(&short));
        let (b, _) = matrix(std::slice::from_ref(&long));
        a.widen(b.width());
        let mut out = [0.0];
        let (rows, columns) = (
            Rows {
                vectors: &a,
                slots: &slots,
            },
            Rows {
                vectors: &b,
                slots: &slots,
            },
        );
        products(rows, columns, &mut out);
        assert_eq!(out[0].to_bits(), plain(&short, &long).to_bits());
    }

    #[test]
    fn a_slot_is_written_anew_as_a_whole() {
        let mut a = Vectors::default();
        a.set(0, [1.0, 2.0, 3.0].into_iter());
        a.set(0, [5.0].into_iter());
        let slots = [0];
        let all = Rows {
            vectors: &a,
            slots: &slots,
        };
        let mut out = [0.0];
        products(all, all, &mut out);
        assert_eq!(out, [25.0]);
    }
}
