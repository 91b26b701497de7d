//! Sources as their users see them: real folders, files and pipes, events received.

// Clippy knows test functions, but not the functions they share.
#![allow(clippy::unwrap_used)]

mod client;
mod cluster;
mod columns;
mod contract;
mod folder;
mod http;
mod jsonl;
mod kafka;
mod listening;
mod parquet;
mod receiver;
mod sinks;
mod tables;
mod webhook;
