//! Sources as their users see them: real folders, files and pipes, events received.

// Clippy knows test functions, but not the functions they share.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "http")]
mod client;
#[cfg(feature = "kafka")]
mod cluster;
#[cfg(feature = "http")]
mod columns;
#[cfg(all(feature = "http", feature = "kafka", feature = "parquet"))]
mod contract;
#[cfg(feature = "http")]
mod dead_letters;
mod folder;
#[cfg(feature = "http")]
mod http;
mod jsonl;
mod jsonl_scripts;
#[cfg(feature = "kafka")]
mod kafka;
mod listening;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(feature = "http")]
mod receiver;
#[cfg(feature = "kafka")]
mod sinks;
#[cfg(feature = "parquet")]
mod tables;
#[cfg(feature = "http")]
mod webhook;
