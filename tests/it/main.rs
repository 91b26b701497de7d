//! The integration tests of the workspace, one module a purpose.

mod architecture;
mod cli;
mod engine;
mod exact;
mod history;
mod real_model;
mod score;
mod state;
