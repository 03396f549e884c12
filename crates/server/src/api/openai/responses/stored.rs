//! `GET` and `DELETE /v1/responses/{id}`

use axum::Json;
use axum::extract::{Extension, Path, State as FromState};
use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::extract::{Shared, Tenant, Url};
use crate::error::{ApiError, ErrorBody};

/// A response that is kept no longer.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct DeletedResponse {
    id: String,
    /// `response`
    object: &'static str,
    deleted: bool,
}

fn not_kept(id: &str) -> ApiError {
    let message = format!(
        "there is no response {id:?} here: responses of a key are kept until newer ones take their room, or the server ends, and \
         those with `store` false are not"
    );
    ApiError::not_found("response_not_found", message)
}

/// Get a response that is kept
#[utoipa::path(
    get,
    path = "/v1/responses/{id}",
    tag = "Generation",
    params(("id" = String, Path, description = "The id of a response of the same key")),
    responses(
        (status = 200, description = "The response", body = Object),
        (status = 401, description = "The key is missing or wrong", body = ErrorBody),
        (status = 404, description = "No such response is kept", body = ErrorBody),
    )
)]
pub(in crate::api) async fn get(
    FromState(state): Shared,
    Extension(Tenant(tenant)): Extension<Tenant>,
    Url(Path(id)): Url<Path<String>>,
) -> Result<impl IntoResponse, ApiError> {
    let response = state.responses.find(&tenant, &id).ok_or_else(|| not_kept(&id))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], response.body.clone()))
}

/// Keep a response no longer
#[utoipa::path(
    delete,
    path = "/v1/responses/{id}",
    tag = "Generation",
    params(("id" = String, Path, description = "The id of a response of the same key")),
    responses(
        (status = 200, description = "It is not kept any more", body = DeletedResponse),
        (status = 401, description = "The key is missing or wrong", body = ErrorBody),
        (status = 404, description = "No such response is kept", body = ErrorBody),
    )
)]
pub(in crate::api) async fn remove(
    FromState(state): Shared,
    Extension(Tenant(tenant)): Extension<Tenant>,
    Url(Path(id)): Url<Path<String>>,
) -> Result<Json<DeletedResponse>, ApiError> {
    if !state.responses.remove(&tenant, &id) {
        return Err(not_kept(&id));
    }
    Ok(Json(DeletedResponse { id, object: "response", deleted: true }))
}
