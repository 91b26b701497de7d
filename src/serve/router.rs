//! Which paths are there, and what do programs know of them?
//!
//! The router is put together here from its parts. What describes a path for programs stands at its
//! handler, and is gathered with it: a route that is not described cannot be added.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use axum::middleware::from_fn_with_state;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Info, OpenApi, SecurityRequirement};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::admission::{Gate, admit, admit_to_pages};
use super::refusal::{Json, Refusal};
use super::routes as of;
use super::served::Served;
use super::tokens::Tokens;
use super::{common_replies, log, metrics, openai, refusal};

/// All routes with their descriptions. What others add to the server (pages, other interfaces) is merged
/// beside them.
fn described() -> OpenApiRouter<Arc<Served>> {
    openai::described()
        .routes(routes!(of::sql::sql))
        .routes(routes!(of::posting::post))
        .routes(routes!(of::posting::look))
        .routes(routes!(of::relations::relations))
        .routes(routes!(of::views::view))
        .routes(routes!(of::subscribe::subscribe))
        .routes(routes!(of::plan::plan))
        .routes(routes!(of::lineage::lineage))
        .routes(routes!(of::models::models))
        .routes(routes!(of::quarantine::list))
        .routes(routes!(of::quarantine::resubmit, of::quarantine::discard))
        .routes(routes!(of::history::history))
        .routes(routes!(of::backup::backup))
        .routes(routes!(of::parcels::parcel))
        .routes(routes!(of::status::status))
        .routes(routes!(described_itself))
        .routes(routes!(metrics::metrics))
        .routes(routes!(of::health::health))
        .routes(routes!(of::health::ready))
}

/// What programs are told of the paths.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    tag = "operations",
    responses((status = 200, description = "This, as OpenAPI 3.1", body = Object)),
    security(()),
)]
async fn described_itself(State(_): State<Arc<Served>>) -> Json<&'static OpenApi> {
    Json(openapi())
}

/// The description of all paths, as OpenAPI 3.1.
pub fn openapi() -> &'static OpenApi {
    static DESCRIBED: LazyLock<OpenApi> = LazyLock::new(describe);
    &DESCRIBED
}

fn describe() -> OpenApi {
    let (_, mut api) = described().split_for_parts();
    api.info = Info::new("Perennial", env!("CARGO_PKG_VERSION"));
    api.info.description = Some("LLM views that stay fresh.".to_owned());
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = api.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    api.security = Some(vec![SecurityRequirement::new::<_, _, String>("token", [])]);
    common_replies::describe(&mut api);
    api
}

/// What is served besides the paths of the engine itself.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Besides {
    /// Paths that are let in as those of the engine are: each request has its `Caller`.
    pub guarded: Option<Router>,
    /// Pages that hold nothing of the engine: whoever reaches the server may load them, without a token.
    pub pages: Option<Router>,
}

/// What answers requests. Each comes past the gate, which lets in who has a token, where there are any.
pub fn router(served: Arc<Served>, tokens: Option<Arc<Tokens>>, besides: Besides) -> Router {
    let limits = &served.limits;
    let gate = Arc::new(Gate::new(tokens, limits.rate, limits.burst));
    let (routes, _) = described().split_for_parts();
    let mut routes = routes
        .fallback(async |uri: Uri| openai::refused(uri.path(), Refusal::no_path()))
        .method_not_allowed_fallback(async |uri: Uri| {
            openai::refused(uri.path(), Refusal::method())
        })
        .with_state(served);
    if let Some(guarded) = besides.guarded {
        routes = routes.merge(guarded);
    }
    let mut all = routes.layer(from_fn_with_state(gate.clone(), admit));
    if let Some(pages) = besides.pages {
        all = all.merge(pages.layer(from_fn_with_state(gate, admit_to_pages)));
    }
    all.layer(axum::middleware::map_response(refusal::guarded))
        .layer(axum::middleware::from_fn(log::log))
}
