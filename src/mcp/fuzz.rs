//! What names a resource, for a fuzzer.

use super::resources::Address;

/// An address that is one is read again as it is written.
pub fn address(text: &str) {
    if let Some(address) = Address::parse(text) {
        let view = Address::of(&address.view);
        let again = Address::parse(&view).expect("an address");
        assert_eq!((&again.view, again.key), (&address.view, None), "{view}");
        if let Some(key) = &address.key {
            // A key is encoded as a name is.
            let key = Address::of(key);
            let key = key.rsplit('/').next().unwrap_or_default();
            let row = format!("{view}/{key}");
            assert_eq!(Address::parse(&row), Some(address), "{row}");
        }
    }
}
