//! In which tiles do many rows pass over a panel?

use crate::lanes::Lanes;

/// A product whose rows are computed a tile at a time.
pub(crate) trait Tiled {
    /// Computes `R` rows from row `first` on.
    fn tile<L: Lanes, const R: usize>(&mut self, l: L, first: usize);
}

/// All of `n_rows`, in tiles of at most [`Lanes::N_TILE_ROWS`] of about one size: a last tile of
/// few rows would wait for its own sums.
#[inline(always)]
pub(crate) fn all_tiles<L: Lanes>(l: L, n_rows: usize, product: &mut impl Tiled) {
    let mut first = 0;
    while first < n_rows {
        let n_left = n_rows - first;
        let n = n_left.div_ceil(n_left.div_ceil(L::N_TILE_ROWS));
        macro_rules! tiles {
            ($($r:literal)*) => {
                match n {
                    $($r => if $r <= L::N_TILE_ROWS { product.tile::<L, $r>(l, first) })*
                    _ => unreachable!("a tile has at most N_TILE_ROWS rows"),
                }
            };
        }
        tiles!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        first += n;
    }
}
