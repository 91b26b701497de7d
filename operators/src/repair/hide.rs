//! Leaves stale passages where they are, out of sight.

use perennial_model::layout::{Layout, Overlay};

use super::{Part, Stale};

/// The layout with its stale segments hidden and everything in its place.
pub(super) fn hide(layout: &Layout, stale: &[Stale]) -> Layout {
    let mut hidden = Layout::new();
    for (place, segment) in layout.segments().iter().enumerate() {
        let mut overlays = segment.overlays.clone();
        if stale.iter().any(|stale| stale.segment == place) {
            let span = Part::Whole.span(segment.kv.n_tokens(), 0);
            overlays.push(Overlay::Hide { span });
        }
        hidden.push_at(segment.kv.clone(), segment.offset, overlays);
    }
    hidden
}
