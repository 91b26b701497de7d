//! The integration tests of the workspace, one module a purpose.

mod architecture;
mod bounded;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod broker;
mod cli;
mod cold;
mod delivered;
mod engine;
mod exact;
mod forget;
mod history;
mod quarantine;
mod real_model;
mod rig;
mod score;
mod sinks;
mod state;
mod supersede;
mod tensors;
