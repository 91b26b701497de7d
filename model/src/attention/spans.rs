//! Where is attention over a long context cut, so that threads can share one row's work?
//!
//! Sources and tail, in order, fall into spans of some five hundred keys, and what a row makes of
//! each span is merged in order. Where the cuts are depends on the sources' lengths only, so that
//! a row's bits depend neither on the rows beside it nor on which thread computed a span.

use std::ops::Range;

/// Keys in a span, at least, unless it is the last.
const SPAN: usize = 512;

/// Keys of one source, or of the tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Number of the source; the tail comes after the last.
    pub source: usize,
    /// Its keys; the first is a multiple of the block that cuts are made at.
    pub keys: Range<usize>,
}

/// Consecutive parts.
pub(crate) type Span = Vec<Part>;

/// The spans of sources of these lengths, cut at multiples of `block` keys of a source.
pub(super) fn spans(lengths: impl Iterator<Item = usize>, block: usize) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut room = 0;
    for (source, n_keys) in lengths.enumerate() {
        let mut first = 0;
        while first < n_keys {
            if room == 0 {
                spans.push(Vec::new());
                room = SPAN;
            }
            let n = (n_keys - first).min(room.next_multiple_of(block));
            room = room.saturating_sub(n);
            let keys = first..first + n;
            spans
                .last_mut()
                .expect("one was begun")
                .push(Part { source, keys });
            first += n;
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_depend_on_what_comes_before_only() {
        let all = spans([300, 1, 700, 40].into_iter(), 64);
        let part = |source, keys| Part { source, keys };
        let want = [
            vec![part(0, 0..300), part(1, 0..1), part(2, 0..256)],
            vec![part(2, 256..700), part(3, 0..40)],
        ];
        assert_eq!(all, want);
        let fewer = spans([300, 1, 600].into_iter(), 64);
        assert_eq!(fewer, [want[0].clone(), vec![part(2, 256..600)]]);
        assert!(spans([0, 0].into_iter(), 64).is_empty());
    }
}
