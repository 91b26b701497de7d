//! What names a resource, for a fuzzer.

use super::resources::Address;
use crate::serve::address::{of_relation, of_row};

/// An address that is one is read again as it is written.
pub fn address(text: &str) {
    if let Some(address) = Address::parse(text) {
        let written = match &address.key {
            Some(key) => of_row(&address.view, key),
            None => of_relation(&address.view),
        };
        assert_eq!(Address::parse(&written), Some(address), "{written}");
    }
}
