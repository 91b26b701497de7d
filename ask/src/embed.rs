//! Texts as vectors, for selection.

use std::time::{Duration, Instant};

use perennial_model::embedding::Embedder;

use crate::answer::CallError;
use crate::provider::Failure;

/// Before somebody who waits has texts embedded for the second time; each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A model that embeds texts.
///
/// # Contract
/// The vector of a text depends on the text alone and has unit length; all vectors have
/// the same number of elements.
pub trait Embed: Send + Sync + 'static {
    /// The vectors of some texts, in order.
    ///
    /// # Errors
    /// [`Failure`]: what may succeed later is none of the texts.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Failure>;
    /// A digest of everything that vectors depend on besides their texts.
    fn digest(&self) -> [u8; 32];
}

/// The vectors of some texts, for somebody who waits for them: what may succeed later is tried again,
/// for as long as their `patience` lasts.
///
/// # Errors
/// The last failure.
pub fn embed_within(
    embedder: &dyn Embed,
    texts: &[&str],
    patience: Duration,
) -> Result<Vec<Vec<f32>>, Failure> {
    let end = Instant::now() + patience;
    let mut usual = FIRST_PAUSE;
    loop {
        let failure = match embedder.embed(texts) {
            Err(failure) => failure,
            embedded => return embedded,
        };
        let pause = match &failure {
            Failure::Final(_) => return Err(failure),
            Failure::Wait(pause) => *pause,
            Failure::Retry { after, .. } => {
                usual = usual.saturating_mul(2);
                after.unwrap_or(usual / 2)
            }
        };
        if pause > end.saturating_duration_since(Instant::now()) {
            return Err(failure);
        }
        std::thread::sleep(pause);
    }
}

impl Embed for Embedder {
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Failure> {
        let failed = |error: perennial_model::error::Error| {
            let reason = error.to_string();
            CallError::Model { reason }.into()
        };
        Embedder::embed(self, texts).map_err(failed)
    }

    fn digest(&self) -> [u8; 32] {
        *Embedder::digest(self).as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Fails so often, then embeds.
    struct Away {
        n_left: AtomicUsize,
        failure: Failure,
    }

    impl Embed for Away {
        fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Failure> {
            let one_less = |n: usize| n.checked_sub(1);
            let left = self
                .n_left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
            match left {
                Ok(_) => Err(self.failure.clone()),
                Err(_) => Ok(texts.iter().map(|_| vec![1.0]).collect()),
            }
        }

        fn digest(&self) -> [u8; 32] {
            [0; 32]
        }
    }

    fn embedded(failure: Failure, patience: Duration) -> Result<usize, Failure> {
        let n_left = AtomicUsize::new(2);
        let vectors = embed_within(&Away { n_left, failure }, &["a", "b"], patience)?;
        Ok(vectors.len())
    }

    #[test]
    fn who_waits_hears_of_what_passes_only_where_their_patience_ends() {
        let hour = Duration::from_secs(3600);
        let soon = Duration::from_millis(1);
        let retry = |after| Failure::Retry {
            reason: "away".to_owned(),
            after: Some(after),
        };
        assert_eq!(embedded(retry(soon), hour), Ok(2));
        assert_eq!(embedded(Failure::Wait(soon), hour), Ok(2));
        assert_eq!(embedded(retry(2 * hour), hour), Err(retry(2 * hour)));
        let never = Failure::Final(CallError::Lost);
        assert_eq!(embedded(never.clone(), hour), Err(never));
    }
}
