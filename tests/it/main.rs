//! The integration tests of the workspace, one module a purpose.

mod architecture;
mod bounded;
mod cli;
mod engine;
mod exact;
mod forget;
mod history;
mod real_model;
mod rig;
mod score;
mod state;
mod supersede;
