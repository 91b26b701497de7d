//! The integration tests of the workspace, one module a purpose.

mod architecture;
mod engine;
mod exact;
