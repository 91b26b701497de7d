//! Queries as a whole: how they are bound, and what they are, maintained and at once.
//!
//! These run the dataflow. They are a program of their own, so that the tests beside the code, which need
//! none of it, are compiled without it.

// Clippy knows test functions, but not the functions they share.
#![allow(clippy::unwrap_used)]

mod bind;
mod evaluate;
mod forecast;
mod render;
mod trace;
