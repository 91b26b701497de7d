//! Texts as vectors, for selection.

use perennial_model::embedding::Embedder;

/// A model that embeds texts.
///
/// # Contract
/// The vector of a text depends on the text alone and has unit length; all vectors have
/// the same number of elements.
pub trait Embed: Send + Sync + 'static {
    /// The vectors of some texts, in order.
    ///
    /// # Errors
    /// What the model reports, for people.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String>;
    /// A digest of everything that vectors depend on besides their texts.
    fn digest(&self) -> [u8; 32];
}

impl Embed for Embedder {
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
        Embedder::embed(self, texts).map_err(|error| error.to_string())
    }

    fn digest(&self) -> [u8; 32] {
        *Embedder::digest(self).as_bytes()
    }
}
