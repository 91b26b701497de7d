//! In which tiles are many outputs of a product computed?

use crate::lanes::Lanes;

/// A product whose outputs, a vector each, are computed a tile at a time.
pub(crate) trait Tiled {
    /// Computes `R` outputs from number `first` on.
    fn tile<L: Lanes, const R: usize>(&mut self, l: L, first: usize);
}

/// All of `n_outputs`, in tiles of at most [`Lanes::N_TILE_ROWS`] of about one size: a last tile of
/// few would wait for its own sums.
#[inline(always)]
pub(crate) fn all_tiles<L: Lanes>(l: L, n_outputs: usize, product: &mut impl Tiled) {
    let mut first = 0;
    while first < n_outputs {
        let n_left = n_outputs - first;
        let n = n_left.div_ceil(n_left.div_ceil(L::N_TILE_ROWS));
        macro_rules! tiles {
            ($($r:literal)*) => {
                match n {
                    $($r => if $r <= L::N_TILE_ROWS { product.tile::<L, $r>(l, first) })*
                    _ => unreachable!("a tile has at most N_TILE_ROWS outputs"),
                }
            };
        }
        tiles!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        first += n;
    }
}
