//! Leaves stale passages where they are, out of sight.

use perennial_model::layout::{Layout, Overlay};

use super::{Part, Stale, overlaid};

/// The layout with its stale segments hidden and everything in its place.
pub(super) fn hide(layout: &Layout, stale: &[Stale]) -> Layout {
    overlaid(layout, stale, |stale| {
        let span = Part::Whole.span(stale.n_tokens, 0);
        vec![Overlay::Hide { span }]
    })
}
