//! The text of PDF, Word and HTML files, in a program that was built without them.

use super::kind::Format;
use crate::{Feature, Rejection, StopFlag};

/// What a file shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extracted {
    pub text: String,
    pub title: Option<String>,
}

/// Takes no text: [`Rejection::NotBuilt`], always.
pub(super) fn extract(
    _format: Format,
    _bytes: &[u8],
    _limit: u64,
    _stop: &StopFlag,
) -> Result<Extracted, Rejection> {
    Err(Rejection::NotBuilt {
        feature: Feature::Documents,
    })
}
