//! What was paid for calls that came to nothing?
//!
//! A server has its tokens paid whether or not its reply is of use: one that is empty, that thought and
//! said nothing, or that was checked before the call failed. Such a call reports no work. What it cost is
//! kept here, and reported with the next call of the same model that gives something, so that sums are
//! right. What a server counts of a reply that never came is not known here.

use std::sync::{Mutex, PoisonError};

use crate::cost::Cost;

/// What no call has reported yet.
#[derive(Default)]
pub(super) struct Unclaimed(Mutex<Cost>);

impl Unclaimed {
    /// Keeps what a call cost that gave nothing.
    pub(super) fn add(&self, cost: Cost) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += cost;
    }

    /// All of it, for a call that reports it.
    pub(super) fn take(&self) -> Cost {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::{Money, Prices};

    #[test]
    fn what_calls_cost_that_gave_nothing_is_reported_once() {
        let million: Money = "1".parse().expect("an amount");
        let usd = "USD".parse().expect("a currency");
        let prices = Prices::of_a_million((million, None, million), usd).expect("prices");
        let unclaimed = Unclaimed::default();
        assert_eq!(unclaimed.take(), Cost::default());
        unclaimed.add(prices.cost(3, 0, 0));
        unclaimed.add(prices.cost(0, 0, 4));
        assert_eq!(unclaimed.take(), prices.cost(7, 0, 0));
        assert_eq!(unclaimed.take(), Cost::default());
    }
}
