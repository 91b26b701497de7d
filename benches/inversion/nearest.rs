//! Which of many rows is nearest to another?

use perennial::model::dot::{Rows, Vectors, products};

/// Queries that are compared at once: their products with all rows are in memory together.
const N_AT_ONCE: usize = 32;

/// Rows that are looked for.
pub struct Nearest {
    rows: Vectors,
    slots: Vec<u32>,
    /// What is taken off a product for the length of a row.
    halves: Vec<f32>,
}

impl Nearest {
    /// By distance: the rows `[n_rows][width]` as they are.
    pub fn by_distance(rows: &[f32], width: usize) -> Self {
        let halves = rows.chunks_exact(width).map(|row| square(row) / 2.0);
        Self::new(rows.chunks_exact(width), halves.collect())
    }

    /// By direction: what all rows have in common is taken off, and every length is one.
    pub fn by_direction(rows: &[f32], width: usize) -> Self {
        let rows = directions(rows, width, &mean(rows, width));
        let n_rows = rows.len() / width;
        Self::new(rows.chunks_exact(width), vec![0.0; n_rows])
    }

    fn new<'a>(rows: impl Iterator<Item = &'a [f32]>, halves: Vec<f32>) -> Self {
        Self {
            rows: vectors(rows),
            slots: (0..halves.len() as u32).collect(),
            halves,
        }
    }

    /// The number of the row that is nearest to each of these, of the same width.
    pub fn of(&self, queries: &[f32], width: usize) -> Vec<u32> {
        let mut found = Vec::new();
        for part in queries.chunks(N_AT_ONCE * width) {
            let queries = vectors(part.chunks_exact(width));
            let slots: Vec<u32> = (0..(part.len() / width) as u32).collect();
            let mut all = vec![0.0; slots.len() * self.slots.len()];
            let rows = Rows {
                vectors: &queries,
                slots: &slots,
            };
            let columns = Rows {
                vectors: &self.rows,
                slots: &self.slots,
            };
            products(rows, columns, &mut all);
            for of_query in all.chunks_exact(self.slots.len()) {
                let score = |at: &u32| of_query[*at as usize] - self.halves[*at as usize];
                let best = self
                    .slots
                    .iter()
                    .max_by(|a, b| score(a).total_cmp(&score(b)));
                found.push(best.copied().unwrap_or_default());
            }
        }
        found
    }
}

/// The mean of rows.
pub fn mean(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0f64; width];
    for row in rows.chunks_exact(width) {
        sums.iter_mut()
            .zip(row)
            .for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let n = (rows.len() / width).max(1) as f64;
    sums.iter().map(|sum| (sum / n) as f32).collect()
}

/// Rows less what they have in common, of length one.
pub fn directions(rows: &[f32], width: usize, common: &[f32]) -> Vec<f32> {
    let direction = |row: &[f32]| {
        let row: Vec<f32> = row.iter().zip(common).map(|(x, y)| x - y).collect();
        let length = square(&row).sqrt().max(f32::MIN_POSITIVE);
        row.into_iter().map(move |x| x / length)
    };
    rows.chunks_exact(width).flat_map(direction).collect()
}

fn vectors<'a>(rows: impl Iterator<Item = &'a [f32]>) -> Vectors {
    let mut vectors = Vectors::default();
    for (row, slot) in rows.zip(0..) {
        vectors.set(slot, row.iter().copied());
    }
    vectors
}

fn square(row: &[f32]) -> f32 {
    row.iter().map(|x| x * x).sum()
}
