//! `GET /v1/engine/models`: which models are asked, and what is held for them.

use std::sync::Arc;

use axum::extract::State;
use perennial_bank::WarmStats;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::admission::Caller;
use super::super::refusal::{Json, Refusal, RefusalBody};
use super::super::served::Served;
use super::super::tokens::Role;
use crate::engine::Engine;

/// The models of the engine.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelsJson {
    /// That which is asked where none is named, then the others.
    models: Vec<ModelJson>,
    /// What is held of documents that were read, where a model here reads them.
    fragments: Option<FragmentsJson>,
}

/// A model.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelJson {
    /// Its name in statements; null of that which is asked where none is named.
    name: Option<String>,
    /// What opened it.
    spec: Option<String>,
    /// Whether it is asked where none is named.
    is_default: bool,
    /// How many tokens it attends to.
    positions: usize,
    /// Whether it gives the same words when it is asked the same.
    exact: bool,
}

/// Fragments of the model that is asked where none is named.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FragmentsJson {
    /// In memory.
    pub(crate) n: usize,
    /// Their bytes.
    pub(crate) bytes: usize,
    /// Most bytes at any time.
    pub(crate) bytes_peak: usize,
    /// Bytes that they may have.
    pub(crate) budget_bytes: usize,
    /// Looked for, and found, in memory or on disk.
    pub(crate) n_hits: u64,
    /// Of these, found on disk.
    pub(crate) n_disk_hits: u64,
    /// Looked for, and not found.
    pub(crate) n_misses: u64,
    /// Left the memory for others.
    pub(crate) n_evicted: u64,
    /// On disk.
    pub(crate) n_on_disk: usize,
    /// Bytes on disk.
    pub(crate) disk_bytes: u64,
    /// Of what left the memory, what is kept in fewer bytes, where that was asked for.
    pub(crate) warm: Option<WarmJson>,
}

/// Fragments that are kept in fewer bytes: provisional answers are written over them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WarmJson {
    /// How they are coded.
    coding: String,
    /// How many there are.
    pub(crate) n: usize,
    /// Bytes of their codes, which are part of the budget.
    pub(crate) bytes: usize,
    /// Bytes that they have as they are.
    bytes_uncoded: usize,
    /// Looked for, and found so.
    pub(crate) n_hits: u64,
    /// Coded.
    n_coded: u64,
    /// Not kept because they would have come back too far from what they were.
    n_refused: u64,
    /// Dropped for others.
    n_evicted: u64,
    /// How far the keys of one that is kept may be off when it comes back: the largest, as a part of what
    /// they are.
    deviation_keys: f32,
    /// The same of values.
    deviation_values: f32,
}

impl WarmJson {
    fn of(stats: &WarmStats) -> Option<Self> {
        Some(Self {
            coding: stats.coding?.to_string(),
            n: stats.n_fragments,
            bytes: stats.n_bytes,
            bytes_uncoded: stats.n_bytes_uncoded,
            n_hits: stats.n_hits,
            n_coded: stats.n_coded,
            n_refused: stats.n_refused,
            n_evicted: stats.n_evicted,
            deviation_keys: stats.deviation.keys,
            deviation_values: stats.deviation.values,
        })
    }
}

impl FragmentsJson {
    /// Those that an engine holds.
    pub(crate) fn of(engine: &Engine) -> Option<Self> {
        let store = engine.runtime().store()?;
        let (stats, on_disk) = (store.stats(), store.cold_stats());
        Some(Self {
            n: stats.n_fragments,
            bytes: stats.n_bytes,
            bytes_peak: stats.n_bytes_peak,
            budget_bytes: store.budget_bytes(),
            n_hits: stats.n_hits,
            n_disk_hits: stats.n_disk_hits,
            n_misses: stats.n_misses,
            n_evicted: stats.n_evicted,
            n_on_disk: on_disk.n_fragments,
            disk_bytes: on_disk.n_bytes,
            warm: WarmJson::of(&stats.warm),
        })
    }
}

/// Lists the models that are asked.
#[utoipa::path(
    get,
    path = "/v1/engine/models",
    tag = "engine",
    responses(
        (status = 200, description = "The models", body = ModelsJson),
        (status = 403, description = "The token is restricted", body = RefusalBody),
    ),
)]
pub(crate) async fn models(
    State(served): State<Arc<Served>>,
    caller: Caller,
) -> Result<Json<ModelsJson>, Refusal> {
    // What opened a model names files, and fragments are of what all tenants read.
    caller.may_of_all(Role::Read)?;
    let opened = served.opened_models();
    let default = served.default_model();
    let models = served
        .ask(move |engine| {
            let mut models = vec![ModelJson::of(engine, None, Some(default.to_string()))?];
            for name in engine.models() {
                let spec = opened.get(&name).map(ToString::to_string);
                models.push(ModelJson::of(engine, Some(&name), spec)?);
            }
            Ok(ModelsJson {
                models,
                fragments: FragmentsJson::of(engine),
            })
        })
        .await?;
    Ok(Json(models))
}

impl ModelJson {
    fn of(
        engine: &Engine,
        name: Option<&str>,
        spec: Option<String>,
    ) -> Result<Self, crate::engine::Error> {
        let can = engine.provider(name)?.capabilities();
        Ok(Self {
            name: name.map(str::to_owned),
            spec,
            is_default: name.is_none(),
            positions: can.n_positions,
            exact: can.is_exact,
        })
    }
}
