//! Takes stale passages out; what follows moves up.

use perennial_model::layout::Layout;

use super::Stale;

/// The layout without its stale segments, each later one at its new offset.
pub(super) fn evict(layout: &Layout, stale: &[Stale]) -> Layout {
    let mut evicted = Layout::new();
    let (mut closed, mut end) = (0, 0);
    for (place, segment) in layout.segments().iter().enumerate() {
        if stale.iter().any(|stale| stale.segment == place) {
            // The first tokens of a segment may stand in the one before.
            closed += segment.end() - segment.offset.max(end);
        } else {
            let offset = segment.offset - closed;
            evicted.push_at(segment.kv.clone(), offset, segment.overlays.clone());
        }
        end = end.max(segment.end());
    }
    evicted
}
