//! Lets keys or values of stale passages count as zero.

use perennial_model::layout::{Layout, Overlay};

use super::{Extent, Stale, overlaid};

/// What counts as zero.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    Keys,
    Values,
}

/// The layout with overlays of zeroes on its stale segments.
pub(super) fn zero(
    layout: &Layout,
    stale: &[Stale],
    extent: Extent,
    n_layers: usize,
    of: &[Of],
) -> Layout {
    let layers = extent.band.layers(n_layers);
    overlaid(layout, stale, |stale| {
        let span = extent.part.span(stale.n_tokens, stale.n_header);
        let overlay = |of: &Of| match of {
            Of::Keys => Overlay::ZeroKeys {
                span: span.clone(),
                layers: layers.clone(),
            },
            Of::Values => Overlay::ZeroValues {
                span: span.clone(),
                layers: layers.clone(),
            },
        };
        of.iter().map(overlay).collect()
    })
}
