//! Lets keys or values of stale passages count as zero.

use perennial_model::layout::{Layout, Overlay};

use super::{Extent, Stale};

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
    let mut zeroed = Layout::new();
    for (place, segment) in layout.segments().iter().enumerate() {
        let mut overlays = segment.overlays.clone();
        if let Some(stale) = stale.iter().find(|stale| stale.segment == place) {
            let span = extent.part.span(segment.kv.n_tokens(), stale.n_header);
            let layers = extent.band.layers(n_layers);
            overlays.extend(of.iter().map(|of| match of {
                Of::Keys => Overlay::ZeroKeys {
                    span: span.clone(),
                    layers: layers.clone(),
                },
                Of::Values => Overlay::ZeroValues {
                    span: span.clone(),
                    layers: layers.clone(),
                },
            }));
        }
        zeroed.push_at(segment.kv.clone(), segment.offset, overlays);
    }
    zeroed
}
