//! How does a source learn that what it said is there for good?
//!
//! Most sources need not know: a file or a topic can be read again. A source whose outside waits
//! for an answer ("is my edit visible yet?") cannot ask its receiver, since events go one way. So
//! it gives away a listener before it runs ([`Source::acks`](crate::Source::acks)), which whoever
//! applies the batches tells how far it has got.

use crate::Offset;

/// Is told how far the batches of a source are there for good.
///
/// # Contract
/// 1. An offset is a [`Batch::resume`](crate::Batch::resume) of this run: all up to it is applied,
///    and stored where anything is stored. Offsets come in order; not each is told, and the last
///    stands for all before it. *(the engine's part, tested)*
/// 2. `committed` returns at once: it is called by the one thread that keeps every view.
pub trait Acks: Send + 'static {
    /// All up to `offset` is there for good. `epoch` is the last complete epoch, which holds it or
    /// follows the one that does; none if no epoch was ever needed.
    fn committed(&mut self, offset: &Offset, epoch: Option<u64>);
}
