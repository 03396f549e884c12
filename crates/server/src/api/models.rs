//! `GET /v1/models`, and what the model cannot do.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as FromState};
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{Shared, Url};
use crate::error::{ApiError, ErrorBody};
use crate::served::Served;

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

fn describe(model: &Served, name: &str, created: u64) -> Model {
    Model {
        id: name.to_owned(),
        object: "model",
        created,
        owned_by: "lookahead",
        max_model_len: model.context_length,
        meta: Meta { n_vocab: model.tokenizer().vocabulary_size(), n_ctx_train: model.context_length },
    }
}

/// List the models
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "Models",
    responses(
        (status = 200, description = "The models, each by all of its names", body = ModelList),
        (status = 401, description = "The key is missing or wrong", body = ErrorBody),
    )
)]
pub(super) async fn list(FromState(state): Shared) -> Json<ModelList> {
    let of_model = |model: &Arc<Served>| -> Vec<Model> {
        model.names.iter().map(|name| describe(model, name, state.created)).collect()
    };
    let data = state.models.iter().flat_map(of_model).collect();
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
    let served = state.models.find(Some(&model))?;
    Ok(Json(describe(served, &model, state.created)))
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
pub(super) async fn embed() -> ApiError {
    let message = "the models that are served generate text and make no embeddings: they have no pooling layer. Use a \
                   model that was trained for them";
    ApiError::not_implemented("embeddings_not_supported", message.to_owned())
}
