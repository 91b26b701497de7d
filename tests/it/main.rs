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
mod faults;
mod forget;
mod history;
mod past;
mod quarantine;
mod real_model;
mod replay;
mod rig;
mod score;
mod sinks;
mod stand_in;
mod state;
mod supersede;
mod tensors;
