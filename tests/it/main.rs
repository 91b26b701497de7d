//! The integration tests of the workspace, one module a purpose.

mod architecture;
mod bounded;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod broker;
mod cli;
#[path = "../../connectors/tests/it/client.rs"]
#[allow(dead_code, reason = "the tests of the connectors use all of it")]
mod client;
mod cold;
mod delivered;
mod engine;
mod exact;
mod faults;
mod forget;
mod history;
mod past;
mod posted;
mod quarantine;
mod real_model;
#[path = "../../connectors/tests/it/receiver.rs"]
#[allow(dead_code, reason = "the tests of the connectors use all of it")]
mod receiver;
mod replay;
mod rig;
mod score;
mod sinks;
mod sql;
mod stand_in;
mod state;
mod supersede;
mod tensors;
mod views;
mod webhooks;
