//! `/v1/models`: what can be asked. A model is a view, and there is one that embeds.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::admission::Caller;
use super::super::asking::Askable;
use super::super::refusal::{Json, Refusal};
use super::super::routes::request::Named;
use super::super::served::Served;
use super::error::{ApiError, ApiErrorBody};

/// The name of the model that embeds.
pub(super) const EMBEDDER: &str = "perennial-embedder";

/// What can be asked.
#[derive(Serialize, ToSchema)]
pub(super) struct ModelList {
    /// `list`.
    object: &'static str,
    data: Vec<Model>,
}

/// A view that can be asked, or what embeds.
#[derive(Serialize, ToSchema)]
#[schema(as = AskedModel)]
pub(super) struct Model {
    /// The name of the view.
    #[schema(example = "answers")]
    id: String,
    /// `model`.
    object: &'static str,
    /// When the server began, in seconds since 1970.
    created: u64,
    /// `perennial`.
    owned_by: &'static str,
}

impl Model {
    fn named(id: &str, served: &Served) -> Self {
        let began = SystemTime::now().checked_sub(served.began.elapsed());
        let began = began.and_then(|began| began.duration_since(UNIX_EPOCH).ok());
        Self {
            id: id.to_owned(),
            object: "model",
            created: began.as_ref().map_or(0, Duration::as_secs),
            owned_by: "perennial",
        }
    }
}

/// Lists what can be asked: the views, and what embeds.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "openai",
    responses(
        (status = 200, description = "The views that can be asked", body = ModelList),
        (status = 403, description = "The token may not ask", body = ApiErrorBody),
    ),
)]
pub(super) async fn list_models(
    State(served): State<Arc<Served>>,
    caller: Caller,
) -> Result<Json<ModelList>, ApiError> {
    let askable = served.askable(&caller).await?;
    let names = askable.iter().map(|of| &*of.view).chain([EMBEDDER]);
    Ok(Json(ModelList {
        object: "list",
        data: names.map(|name| Model::named(name, &served)).collect(),
    }))
}

/// Tells of one that can be asked.
#[utoipa::path(
    get,
    path = "/v1/models/{model}",
    tag = "openai",
    params(("model" = String, Path, description = "A view that can be asked")),
    responses(
        (status = 200, description = "It can be asked", body = Model),
        (status = 404, description = "There is no such view", body = ApiErrorBody),
    ),
)]
pub(super) async fn one_model(
    State(served): State<Arc<Served>>,
    caller: Caller,
    named: Result<Named<String>, Refusal>,
) -> Result<Json<Model>, ApiError> {
    let Named(name) = named?;
    if name != EMBEDDER {
        view_of(&served, &caller, &name).await?;
    }
    Ok(Json(Model::named(&name, &served)))
}

/// A view by the name of a model. That of another is not told of.
pub(super) async fn view_of(
    served: &Arc<Served>,
    caller: &Caller,
    name: &str,
) -> Result<Askable, ApiError> {
    let all = served.askable(caller).await?;
    let known: Vec<&str> = all.iter().map(|of| &*of.view).collect();
    let hint = match known.is_empty() {
        true => "no view can be asked: one can whose CONTEXT is a table".to_owned(),
        false => format!("there are: {}", known.join(", ")),
    };
    let found = all.iter().find(|of| *of.view == *name).cloned();
    found.ok_or_else(|| ApiError::no_model(name, &hint))
}
