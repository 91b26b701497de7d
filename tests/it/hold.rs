//! What lets held calls go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Calls are held as long as this is there: whatever fails, an engine that ends does not wait for them.
pub(crate) struct Hold(pub(crate) Arc<AtomicBool>);

impl Hold {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    pub(crate) fn release(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}
