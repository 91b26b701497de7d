//! Fragments that another process computed, in the store of this one.
//!
//! One that was *audited*, encoded again here and found equal in every bit, is the fragment of its id, and
//! every layout may use it. One that was not only *stands in* for it, under a name of its own: a layout
//! that borrows may use it, is provisional for it, and is healed.
//!
//! # Invariants
//! - Nothing gets into the store under the id of a fragment here that was not computed here.
//! - Both are held as long as this is: the store's sweep lets them be.

use std::sync::{Arc, Mutex, PoisonError};

use perennial_model::kv::KvFragment;

use crate::fragment_store::{FragmentStore, References};
use crate::id::FragmentId;

/// What was handed over to a store. Dropping it lets go of all.
pub struct HandedOver {
    store: Arc<FragmentStore>,
    references: References,
    /// Of what something stands in for, a mention for each time it was said.
    stood_in_for: Mutex<Vec<FragmentId>>,
}

impl HandedOver {
    /// Nothing yet.
    pub fn to(store: Arc<FragmentStore>) -> Self {
        Self {
            references: References::to(store.clone()),
            store,
            stood_in_for: Mutex::default(),
        }
    }

    /// Holds a fragment that was encoded again here, and found to be this one.
    pub fn hold_audited(&self, id: FragmentId, kv: Arc<KvFragment>, cost_tokens: usize) {
        self.references.add(id, 1);
        self.store.insert(id, kv, cost_tokens);
    }

    /// Holds tensors that are said to be those of a fragment.
    pub fn hold_stand_in(&self, id: FragmentId, kv: Arc<KvFragment>, cost_tokens: usize) {
        let name = self.store.stand_in(id, kv, cost_tokens);
        self.references.add(name, 1);
        self.stood_in_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(id);
    }
}

impl Drop for HandedOver {
    fn drop(&mut self) {
        let stood_in_for = self.stood_in_for.get_mut();
        for id in stood_in_for.unwrap_or_else(PoisonError::into_inner) {
            self.store.no_stand_in(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use perennial_model::kv::KvShape;

    use super::*;
    use crate::id::ModelIdentity;

    fn fragment(fill: u8) -> Arc<KvFragment> {
        let shape = KvShape {
            n_layers: 1,
            n_kv_heads: 1,
            head_dim: 16,
        };
        let n_bytes = shape.n_bytes(16).expect("is counted");
        let kv = KvFragment::from_bytes(shape, 0, 16, &vec![fill; n_bytes]);
        Arc::new(kv.expect("has the length"))
    }

    #[test]
    fn what_was_not_audited_is_never_got_as_the_fragment_itself() {
        let model = ModelIdentity::new(&[1; 32], "test", "f16");
        let [one, two] = [1, 2].map(|token| FragmentId::of(&model, None, &[token]));
        let store = Arc::new(FragmentStore::new(1 << 20));
        let handed_over = HandedOver::to(store.clone());
        handed_over.hold_stand_in(one, fragment(1), 16);
        handed_over.hold_audited(two, fragment(2), 16);
        store.sweep();
        assert!(store.get(&one).is_none() && !store.contains(&one));
        let lent = store.stand_in_for(&one).expect("is lent");
        assert_ne!(lent.id, one);
        assert_eq!(lent.kv, fragment(1));
        assert_eq!(store.get(&two), Some(fragment(2)));
        assert!(store.stand_in_for(&two).is_none());
        // Said twice, it stands in until both have let go.
        let again = HandedOver::to(store.clone());
        again.hold_stand_in(one, fragment(1), 16);
        drop(handed_over);
        store.sweep();
        assert!(store.stand_in_for(&one).is_some());
        drop(again);
        store.sweep();
        assert!(store.stand_in_for(&one).is_none());
        assert_eq!(store.ids().len(), 0);
    }
}
