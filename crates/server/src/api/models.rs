//! `GET /v1/models`, and what the model cannot do.

use axum::Json;
use axum::extract::{Path, State as FromState};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Shared, Url, check_model};
use crate::error::{ApiError, ErrorBody};
use crate::state::State;

/// The models that are served.
#[derive(Serialize, ToSchema)]
pub(super) struct ModelList {
    /// `list`
    object: &'static str,
    data: Vec<Model>,
}

/// A model.
#[derive(Serialize, ToSchema)]
pub(super) struct Model {
    /// What requests call it.
    id: String,
    /// `model`
    object: &'static str,
    /// When the server was started, in seconds since 1970.
    created: u64,
    /// `lookahead`
    owned_by: &'static str,
    /// Tokens of prompt and answer together.
    max_model_len: usize,
    meta: Meta,
}

/// Sizes, as llama.cpp's server gives them.
#[derive(Serialize, ToSchema)]
struct Meta {
    n_vocab: usize,
    n_ctx_train: usize,
}

fn describe(state: &State, name: &str) -> Model {
    Model {
        id: name.to_owned(),
        object: "model",
        created: state.created,
        owned_by: "lookahead",
        max_model_len: state.context_length,
        meta: Meta {
            n_vocab: state.model.prompts.tokenizer().vocabulary_size(),
            n_ctx_train: state.context_length,
        },
    }
}

/// List the models
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "Models",
    responses(
        (status = 200, description = "The model, by each of its names", body = ModelList),
        (status = 401, description = "The key is missing or wrong", body = ErrorBody),
    )
)]
pub(super) async fn list(FromState(state): Shared) -> Json<ModelList> {
    let data = state.model.names.iter().map(|name| describe(&state, name)).collect();
    Json(ModelList { object: "list", data })
}

/// Describe a model
#[utoipa::path(
    get,
    path = "/v1/models/{model}",
    tag = "Models",
    params(("model" = String, Path, description = "A name that the list has")),
    responses(
        (status = 200, description = "The model", body = Model),
        (status = 400, description = "The name is no text", body = ErrorBody),
        (status = 401, description = "The key is missing or wrong", body = ErrorBody),
        (status = 404, description = "The model is not served here", body = ErrorBody),
    )
)]
pub(super) async fn get(
    FromState(state): Shared,
    Url(Path(model)): Url<Path<String>>,
) -> Result<Json<Model>, ApiError> {
    check_model(&state, Some(&model))?;
    Ok(Json(describe(&state, &model)))
}

/// Embed texts (not supported)
///
/// The families that are served generate text and have no pooling layer, so there is nothing that their vectors would mean.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    tag = "Models",
    request_body = Object,
    responses(
        (status = 401, description = "The key is missing or wrong", body = ErrorBody),
        (status = 501, description = "The model makes no embeddings", body = ErrorBody),
    )
)]
pub(super) async fn embed(FromState(state): Shared) -> ApiError {
    let message = format!(
        "{} generates text and makes no embeddings: it has no pooling layer. Use a model that was trained for them",
        state.model_name()
    );
    ApiError::not_implemented("embeddings_not_supported", message)
}
