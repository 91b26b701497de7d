//! Decoders with editable KV state. Tensors only: this crate knows no dataflow.
//!
//! A checkpoint is found ([`locator`]), opened ([`weights`]), and run by one decoder for
//! every supported architecture ([`decoder`]). Its KV state is cut into immutable,
//! shareable [`kv::KvFragment`]s; a [`layout::Layout`] says at which offsets, and with which
//! overlays, one context attends to them.

mod activations;
pub mod arithmetic;
mod attention;
mod awake;
mod bounded;
pub mod cancel;
pub mod config;
pub mod decoder;
pub mod digest;
pub mod divergence;
pub mod dot;
pub mod embedding;
pub mod error;
pub mod generation;
pub mod grammar;
pub mod kv;
mod lanes;
pub mod latent;
pub mod layout;
pub mod locator;
mod matmul;
mod memory;
pub mod model;
mod norm;
pub mod passes;
mod quant;
mod rope;
pub mod sampling;
pub mod seeded;
pub mod template;
mod tiles;
pub mod tokenizer;
pub mod weights;

pub use memory::total as total_memory;
