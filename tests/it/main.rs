//! The integration tests of the workspace, one module a purpose.

mod append;
mod architecture;
mod backup;
mod bounded;
#[cfg(all(feature = "kafka", target_os = "linux", target_arch = "x86_64"))]
mod broker;
mod calibrate;
#[cfg(feature = "http")]
mod cli;
#[cfg(feature = "http")]
#[path = "../../connectors/tests/it/client.rs"]
#[allow(dead_code, reason = "the tests of the connectors use all of it")]
mod client;
#[cfg(feature = "kafka")]
#[path = "../../connectors/tests/it/cluster.rs"]
#[allow(dead_code, reason = "the tests of the connectors use all of it")]
mod cluster;
mod cold;
#[cfg(all(feature = "otel", feature = "http"))]
mod collector;
mod columns;
mod copies;
mod coverage;
mod dead_letters;
mod delivered;
mod documented;
mod each;
mod engine;
mod exact;
mod examples;
mod explained;
mod faults;
mod forget;
mod graph;
mod history;
mod hold;
mod killed;
mod logs;
#[cfg(feature = "mcp")]
mod mcp;
mod memory;
mod models;
#[cfg(not(any(feature = "http", feature = "kafka", feature = "parquet")))]
mod not_built;
mod pace;
mod parts;
mod past;
mod paths;
#[cfg(feature = "http")]
mod posted;
mod quarantine;
mod query_sinks;
mod questions;
mod real_model;
#[cfg(feature = "http")]
#[path = "../../connectors/tests/it/receiver.rs"]
#[allow(dead_code, reason = "the tests of the connectors use all of it")]
mod receiver;
mod regret;
#[cfg(feature = "remote")]
mod remote;
mod replay;
mod rig;
mod score;
#[cfg(feature = "kafka")]
mod scripts;
#[cfg(feature = "serve")]
mod serve;
mod sinks;
mod sql;
mod stand_in;
mod state;
mod steady;
mod supersede;
mod tasks;
mod tensors;
mod typed;
mod views;
mod warm;
#[cfg(feature = "http")]
mod webhooks;
