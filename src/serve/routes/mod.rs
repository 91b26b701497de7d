//! What does each path do? One file a resource.

pub(super) mod backup;
pub(super) mod health;
pub(super) mod history;
pub(super) mod lineage;
pub(super) mod models;
pub(super) mod parcels;
pub(super) mod plan;
pub(super) mod posting;
pub(super) mod quarantine;
pub(super) mod relations;
pub(super) mod request;
pub(super) mod sql;
pub(super) mod status;
pub(super) mod subscribe;
pub(super) mod views;
