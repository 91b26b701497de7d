//! Sources as their users see them: real folders, files and pipes, events received.

// Clippy knows test functions, but not the functions they share.
#![allow(clippy::unwrap_used)]

mod contract;
mod folder;
mod jsonl;
mod listening;
