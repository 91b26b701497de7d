//! Which KV state one context attends to: fragments, each at an offset, with overlays.
//!
//! Inserting, deleting, reordering and shifting are changes of a [`Layout`]; the tensors
//! of its fragments are shared and never touched. An overlay edits what one layout sees
//! of a fragment. Hiding is repair, not erasure: later fragments may carry traces.

use std::ops::Range;
use std::sync::Arc;

use crate::kv::KvFragment;

/// An edit laid on a fragment inside one layout. Spans count the fragment's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overlay {
    /// These tokens are not attended to. Positions of others stay as they are.
    Hide {
        /// Tokens of the fragment.
        span: Range<u32>,
    },
    /// These tokens are attended to, but contribute nothing in these layers.
    ZeroValues {
        /// Tokens of the fragment.
        span: Range<u32>,
        /// Layers of the decoder.
        layers: Range<u32>,
    },
    /// The keys of these tokens count as zero in these layers: whatever is asked, they score
    /// alike.
    ZeroKeys {
        /// Tokens of the fragment.
        span: Range<u32>,
        /// Layers of the decoder.
        layers: Range<u32>,
    },
}

/// A fragment at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The shared state.
    pub kv: Arc<KvFragment>,
    /// Absolute position of the fragment's first token.
    pub offset: u32,
    /// Edits, in no particular order.
    pub overlays: Vec<Overlay>,
}

impl Segment {
    /// Position after the last token.
    pub fn end(&self) -> u32 {
        self.offset + self.kv.n_tokens() as u32
    }
}

/// The ordered fragments that a context attends to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    segments: Vec<Segment>,
}

impl Layout {
    /// A layout of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Places a fragment at [`Self::end`].
    pub fn push(&mut self, kv: Arc<KvFragment>) {
        self.push_at(kv, self.end(), Vec::new());
    }

    /// Places a fragment at an absolute position, with overlays.
    pub fn push_at(&mut self, kv: Arc<KvFragment>, offset: u32, overlays: Vec<Overlay>) {
        self.segments.push(Segment {
            kv,
            offset,
            overlays,
        });
    }

    /// Places what of a fragment comes behind its first `n` tokens, so that token `n` stands at `at`.
    /// The first ones are hidden: another fragment has them in this layout.
    ///
    /// # Panics
    /// If there is no room for `n` tokens before `at`.
    pub fn push_rest(&mut self, kv: Arc<KvFragment>, n: u32, at: u32) {
        assert!(n <= at, "{n} tokens before position {at}");
        self.push_at(kv, at - n, vec![Overlay::Hide { span: 0..n }]);
    }

    /// The segments in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The position after the furthest token: where what follows may start.
    pub fn end(&self) -> u32 {
        self.segments.iter().map(Segment::end).max().unwrap_or(0)
    }

    /// Number of tokens, hidden ones included.
    pub fn n_tokens(&self) -> usize {
        self.segments.iter().map(|s| s.kv.n_tokens()).sum()
    }
}
