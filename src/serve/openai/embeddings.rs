//! `POST /v1/embeddings`: texts as vectors, as the engine itself embeds them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::admission::Caller;
use super::super::refusal::Json;
use super::super::routes::request;
use super::super::served::Served;
use super::super::tokens::Role;
use super::chat::object;
use super::error::{ApiError, ApiErrorBody};
use super::models::EMBEDDER;
use super::parameters;

/// Texts to embed.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "model": "perennial-embedder",
    "input": ["When does the library open?", "How much is a card?"],
}))]
#[allow(dead_code, reason = "it describes what is read as it is")]
pub(super) struct EmbeddingsBody {
    /// `perennial-embedder`.
    #[schema(example = "perennial-embedder")]
    model: String,
    /// A text, or up to 2,048.
    input: Input,
    /// `float` or `base64`: the bytes of 32-bit numbers, the lowest first.
    #[schema(example = "float")]
    encoding_format: Option<String>,
    /// How long vectors are, if it is said: as long as they are.
    dimensions: Option<u64>,
}

/// What is embedded.
#[derive(Serialize, ToSchema)]
#[schema(as = EmbeddingInput)]
#[serde(untagged)]
#[allow(dead_code, reason = "it describes what is read as it is")]
enum Input {
    One(String),
    Many(Vec<String>),
}

/// Vectors.
#[derive(Serialize, ToSchema)]
pub(super) struct Embeddings {
    /// `list`.
    object: &'static str,
    /// In the order of the texts.
    data: Vec<Embedding>,
    model: &'static str,
    usage: EmbeddingUsage,
}

/// The vector of a text.
#[derive(Serialize, ToSchema)]
pub(super) struct Embedding {
    /// `embedding`.
    object: &'static str,
    /// Which text, from 0.
    index: usize,
    /// Of length 1.
    embedding: Vector,
}

/// A vector, as it is written.
#[derive(Serialize, ToSchema)]
#[schema(as = EmbeddingVector)]
#[serde(untagged)]
enum Vector {
    /// Numbers.
    Numbers(Vec<f32>),
    /// Their bytes in base64.
    Base64(String),
}

/// How much was embedded.
#[derive(Serialize, ToSchema)]
pub(super) struct EmbeddingUsage {
    /// Words: what embeds does not tell tokens.
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Embeds texts, as the engine does to find passages.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    tag = "openai",
    request_body = EmbeddingsBody,
    responses(
        (status = 200, description = "Their vectors", body = Embeddings),
        (status = 400, description = "A parameter is not understood, or cannot be obeyed", body = ApiErrorBody),
        (status = 404, description = "There is no such model", body = ApiErrorBody),
        (status = 503, description = "Too much is embedded at the moment", body = ApiErrorBody),
    ),
)]
pub(super) async fn embed_texts(
    State(served): State<Arc<Served>>,
    caller: Caller,
    body: Body,
) -> Result<Json<Embeddings>, ApiError> {
    caller.may(Role::Ask)?;
    let limits = &served.limits;
    let bytes = request::body(body, limits.sql_body, limits.body_time).await?;
    let body = object(&bytes)?;
    parameters::check_embeddings(&body)?;
    let model = body.get("model").and_then(Value::as_str);
    match model {
        Some(EMBEDDER) => {}
        Some(other) => {
            return Err(ApiError::no_model(
                other,
                &format!("texts are embedded by `{EMBEDDER}`"),
            ));
        }
        None => return Err(ApiError::invalid("model", "`model` is missing")),
    }
    let is_base64 = match body.get("encoding_format") {
        None | Some(Value::Null) => false,
        Some(format) if format == "float" => false,
        Some(format) if format == "base64" => true,
        Some(_) => {
            let message = "`encoding_format` is float or base64";
            return Err(ApiError::invalid("encoding_format", message));
        }
    };
    let texts = texts_of(&body, limits.embedded)?;
    let n_words = texts
        .iter()
        .map(|text| text.split_whitespace().count())
        .sum();
    let vectors = served.embed(&caller, texts).await?;
    check_dimensions(&body, vectors.first().map_or(0, Vec::len))?;
    let data = vectors.into_iter().enumerate();
    let data = data.map(|(index, vector)| Embedding {
        object: "embedding",
        index,
        embedding: match is_base64 {
            true => Vector::Base64(base64_of(&vector)),
            false => Vector::Numbers(vector),
        },
    });
    Ok(Json(Embeddings {
        object: "list",
        data: data.collect(),
        model: EMBEDDER,
        usage: EmbeddingUsage {
            prompt_tokens: n_words,
            total_tokens: n_words,
        },
    }))
}

pub(super) fn texts_of(body: &Map<String, Value>, limit: usize) -> Result<Vec<String>, ApiError> {
    let invalid = |message: String| ApiError::invalid("input", message);
    let texts = match body.get("input") {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(texts)) => {
            let text = |text: &Value| text.as_str().map(str::to_owned);
            let texts: Option<Vec<String>> = texts.iter().map(text).collect();
            texts.ok_or_else(|| {
                let message = "`input` is a text, or a list of texts: tokens of another model mean \
                               nothing here (in LangChain: check_embedding_ctx_length=False)";
                invalid(message.to_owned())
            })?
        }
        _ => return Err(invalid("`input` is a text, or a list of texts".to_owned())),
    };
    if texts.is_empty() || texts.len() > limit {
        return Err(invalid(format!("`input` has 1 to {limit} texts")));
    }
    if texts.iter().any(String::is_empty) {
        return Err(invalid("a text of `input` is empty".to_owned()));
    }
    Ok(texts)
}

pub(super) fn check_dimensions(
    body: &Map<String, Value>,
    n_dimensions: usize,
) -> Result<(), ApiError> {
    match body.get("dimensions").filter(|asked| !asked.is_null()) {
        Some(asked) if asked.as_u64() != Some(n_dimensions as u64) => {
            let message = format!("vectors have {n_dimensions} dimensions, and no others");
            Err(ApiError::of_parameter(
                "dimensions",
                "unsupported_parameter",
                message,
            ))
        }
        _ => Ok(()),
    }
}

fn base64_of(vector: &[f32]) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
