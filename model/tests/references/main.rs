//! Held against other implementations, on real checkpoints: llama.cpp's tokenizer, a plain
//! float64 forward pass, candle's own decoders and encoder; each family of decoders on small checkpoints
//! drawn from a seed (`families`), which the tests write themselves.
//!
//! Real checkpoints come from the locator: where none can be had, the tests fail with its
//! message, which says what to do. How the golden files are made stands in their scripts,
//! in `tests/golden`.

// A step that fails fails its test.
#![allow(clippy::unwrap_used)]

mod candle_decoders;
mod candle_encoder;
mod checkpoints;
mod divergence;
mod families;
mod golden_logits;
mod golden_tokens;
mod templates;
